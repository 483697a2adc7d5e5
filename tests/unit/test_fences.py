"""The code blocks of a reply, as CommonMark reads them and as models write them."""

from __future__ import annotations

import pytest
from generated import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm import extract_code_snippets, parse_to_code
from flexllm.parsing.fences import code_blocks


def codes(text: str) -> list[str]:
    return [block.code for block in code_blocks(text)]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("Here:\n```python\nprint(1)\n```\nDone.", "print(1)"),
        ("~~~sh\nls\n~~~", "ls"),
        ("````md\n```\ninner\n```\n````", "```\ninner\n```"),  # a longer fence holds shorter ones
        ("```\na\n`````", "a"),  # and is closed by longer ones
        ("~~~\n```\n~~~", "```"),
        ("```\n~~~\n```", "~~~"),
        ("```md\n```python\nx\n```", "```python\nx"),  # what names a language closes nothing
        ("```\ncut off\nhere\n", "cut off\nhere"),  # not closed: it ends with the reply
        ("```js\nlet a\nlet b```", "let a\nlet b"),  # models put the fence behind the last line
        ("> ~~~~\n> a ~~~~\n\n", "a "),
        ("````\na```", "a```"),
        ("```md\nsome `` ```inline```", "some `` ```inline```"),  # code in a line of a reply that was cut
        ("```\na```\ncut off", "a```\ncut off"),
        ("```\n\n```\n```\nsecond\n```", "second"),  # an empty one is none
        ("   ```\n   a\n  b\n    c\n   ```", "a\nb\n c"),
        ("```\na\n   ```", "a"),  # a closing fence stands in up to three columns,
        ("```\na\n    ```\nb\n```", "a\n    ```\nb"),  # and what stands in farther is code
        ("1. Do:\n\n   ```sh\n   ls\n     -l\n   ```", "ls\n  -l"),  # as far in as its fence
        ("- a\n      ```\n      deep\n      ```", "deep"),
        ("- ```sh\n  ls\n  ```", "ls"),  # on the line of its item
        ("10) ```sh\n    ls\n      -l\n    ```", "ls\n  -l"),
        ("- - ```\n    x\n    ```", "x"),
        ("1. x\n   ```\n   a\nb\n   ```", "a\nb"),  # models forget how far in they are
        ("\t```\n\ta\n\t  b\n\t```", "a\n  b"),
        ("  ```\n\ta\n  ```", "  a"),  # a tab is as wide as four blanks, two of which are taken
        ("> ```py\n> a\n>  b\n>\n> c\n> ```\nno code", "a\n b\n\nc"),
        (">```\n>a\n>```", "a"),
        ("> > ```\n> > > a\n> > ```", "> a"),
        ("> - ```\n>   a\n>   ```", "a"),
        ("- > ```\n  > a\n  > ```", "a"),
        ("> ```\n> a\nthe quote has ended", "a"),
        ("```\n> a\n```", "> a"),  # a quote within the code is code
        ("```\n  kept\n\n  blanks\n```   ", "  kept\n\n  blanks"),
        ("``` with `ticks` ```\n```\nreal\n```", "real"),  # code in a line is no fence
        ("~~~ with `ticks` ~~~\nreal\n~~~", "real"),
        ("```js\r\nlet a\r\nlet b\r\n```", "let a\r\nlet b"),
        ("```\ra\rb\r```", "a\rb"),
        ("<think>```\nno\n```</think>Yes:\n```\nyes\n```", "yes"),
        ("```````\nseven\n```````", "seven"),
        ("```\n\x0b\x0c\x85\u2028 kept\n```", "\x0b\x0c\x85\u2028 kept"),  # no line ends of Markdown's
        ("```py\nprint('你好 🎉 \ud83d')\n```", "print('你好 🎉 \ud83d')"),
    ],
)  # fmt: skip
def test_a_block_is_what_stands_between_its_fences(reply: str, code: str) -> None:
    assert [one["code"] for one in extract_code_snippets(reply)] == [code]


@pytest.mark.parametrize(
    "reply",
    ["", "no code", "`inline` only", "```", "```\n```", "``\nnot\n``", "<think>```\na\n```", "a ```\nb", "~~\nno\n~~",
     "```\n \t\n\n```", "``` one `line` ```", ">", "> ```\n>"],
)  # fmt: skip
def test_a_reply_without_code_has_none(reply: str) -> None:
    assert extract_code_snippets(reply) == []
    assert parse_to_code(reply) is None


def test_a_new_block_may_begin_on_the_line_that_ends_a_quote() -> None:
    assert codes("> ```\n> a\n```\nb\n```") == ["a", "b"]


@pytest.mark.parametrize(
    ("info", "language"),
    [
        ("python", "python"),
        (" Python ", "python"),
        ("python title=\"a.py\"", "python"),
        ("JSON", "json"),
        ("c++", "c++"),
        ("c#", "c#"),
        ("rust,ignore", "rust"),
        ("python:src/a.py", "python"),
        ("{.python .numberLines}", "python"),
        ("{r, echo=FALSE}", "r"),
        ("python {linenos=true}", "python"),
        ("shell-session", "shell-session"),
        ("代码", "代码"),
        ("", "unknown"),
        ("{}", "unknown"),
        (":a", "unknown"),
    ],
)  # fmt: skip
def test_the_language_is_the_first_word_behind_the_fence(info: str, language: str) -> None:
    assert extract_code_snippets(f"```{info}\nx\n```") == [{"language": language, "code": "x"}]


def test_snippets_come_in_order_and_the_last_is_the_code() -> None:
    reply = "First:\n```python\na\n```\nthen\n~~~\nb\n~~~\nand\n```sh\nc\n```\n"
    assert extract_code_snippets(reply) == [
        {"language": "python", "code": "a"},
        {"language": "unknown", "code": "b"},
        {"language": "sh", "code": "c"},
    ]
    assert parse_to_code(reply) == "c"


def test_a_block_knows_where_it_stands() -> None:
    reply = "Before.\n```\na\n```\nBetween.\n> ~~~\n> b\nAfter."
    places = [reply[block.start : block.end] for block in code_blocks(reply)]
    assert places == ["```\na\n```\n", "> ~~~\n> b\n"]
    assert [block.is_closed for block in code_blocks(reply)] == [True, False]


CODE = st.text(alphabet="ab \t`~>-1.\n\x0c\u2028é🎉\\{", max_size=60) | st.text(max_size=60)
NO_FENCE = st.text(alphabet="ab \t.>-*\n\r🎉", max_size=30)


@settings(max_examples=examples(300))
@given(CODE.filter(lambda code: code.strip() and not code.endswith("\r")), NO_FENCE, NO_FENCE, st.sampled_from("`~"))
def test_code_comes_back_byte_for_byte(code: str, before: str, after: str, mark: str) -> None:
    fence = mark * 61
    reply = f"{before}\n{fence}py\n{code}\n{fence}\n{after}"

    assert extract_code_snippets(reply) == [{"language": "py", "code": code}]


@settings(max_examples=examples(200))
@given(st.text(alphabet="ab `\n", max_size=40), st.sampled_from(["> ", ">", "> > ", "  ", "\t"]))
def test_code_in_a_quote_or_a_list_comes_back_without_what_stands_in_front_of_it(code: str, mark: str) -> None:
    lines = ["~" * 41, *code.split("\n"), "~" * 41]
    if mark == ">":  # one blank behind it is the mark's
        lines = [f" {line}" if line.startswith(" ") else line for line in lines]
    assert codes("\n".join(mark + line for line in lines)) == ([code] if code.strip() else [])
