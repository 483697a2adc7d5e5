"""The values in a reply: what is found, what is read, what is refused, and that nothing takes long or is executed."""

from __future__ import annotations

import ast
import json
import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
from generated import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm import ConfigError, FlexLLMError, UnreadableReply, extract_code_snippets, parse_to_code, parse_to_obj
from flexllm.parsing.values import LONGEST_NUMBER, MOST_NESTED


def fenced(code: str, language: str = "") -> str:
    return f"Here you are:\n\n```{language}\n{code}\n```\n\nIs there anything else?"


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, class by class: 1 is not True, and nan is nan."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, dict) and type(one) is type(other):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one.items(), other.items(), strict=True))
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and one == other


# --- where a value is looked for


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("[1, 2]", [1, 2]),
        ("  3.5\n", 3.5),
        ('\ufeff{"a": 1}', {"a": 1}),
        (fenced('{"a": 1}', "json"), {"a": 1}),
        ('```json\n{"a": 1}```', {"a": 1}),  # its end stands behind the last line
        (fenced("[1]") + fenced("[2]"), [2]),  # the last counts
        ('{"a": 1}\n' + fenced("[2]") + '{"b": 3}', [2]),  # what is fenced goes before what is not
        ('Sure! {"a": {"b": "}"}} - done.', {"a": {"b": "}"}}),
        ("It isn't much: {'a': \"it's\"}. That's all.", {"a": "it's"}),
        ('Both: {"a": 1} and {"a": 2}.', {"a": 2}),
        ('The {name} is in {"a": 1}, put it for {name}.', {"a": 1}),  # what is no value is passed over
        ('All: [{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),  # not the last of them alone
        ('See [1] and [here](http://x): {"a": [1, 2]} [2]', {"a": [1, 2]}),
        ('An open { and then {"a": 1}.', {"a": 1}),
        ('```json {"a": 1}```', {"a": 1}),  # no fence, for it stands in one line
        ("<think>Maybe {\"a\": 0}?</think>\n{\"a\": 1}", {"a": 1}),
        (fenced("{'a': (1, 2.5, None, True), 'b': {1, 2}}"), {"a": (1, 2.5, None, True), "b": {1, 2}}),
    ],
)  # fmt: skip
def test_the_value_of_a_reply_is_found(reply: str, value: Any) -> None:
    assert same(parse_to_obj(reply), value)


@pytest.mark.parametrize(
    ("prose", "found"),
    [
        ("a {b} c", ["{b}"]),
        ("{a {b} c}", ["{a {b} c}"]),
        ("{a {b} c", ["{b}"]),
        ("a} {b}", ["{b}"]),
        ('{"a": "}{", \'b\': \'}\'} {c}', ['{"a": "}{", \'b\': \'}\'}', "{c}"]),
        ('{"a": "\\"}"}', ['{"a": "\\"}"}']),
        ("{don't} {can't}", ["{don't}", "{can't}"]),
        ('{a: 5" wide}', ['{a: 5" wide}']),
        ('{"cut: 1} {b}', ['{"cut: 1}', "{b}"]),
        ("[1] [x](y) [ ]", []),
        ("[[{a}], [{b}]]", ["[[{a}], [{b}]]"]),
        ("[see {a}]", ["{a}"]),
        ("{a [b} c]", ["{a [b}"]),
        ("{}", ["{}"]),
        ("no braces", []),
        ("中文{\"键\": \"值🎉\"}中文", ["{\"键\": \"值🎉\"}"]),
    ],
)  # fmt: skip
def test_objects_in_prose_are_found_where_that_is_asked(prose: str, found: list[str]) -> None:
    assert [one["code"] for one in extract_code_snippets(prose, strict=False)] == found
    assert {one["language"] for one in extract_code_snippets(prose, strict=False)} <= {"unknown"}
    assert extract_code_snippets(prose) == []


def test_objects_in_prose_and_blocks_come_in_the_order_of_the_reply() -> None:
    reply = "{a {b}\n```python\n{c}\n```\n{d}\n~~~\n}\n~~~\n{e"
    assert [one["code"] for one in extract_code_snippets(reply, strict=False)] == ["{b}", "{c}", "{d}", "}"]


# --- what is read


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ('{"a": 1,}', {"a": 1}),
        ('[1, 2, /* three */ 3, // four\n 4, # five\n]', [1, 2, 3, 4]),
        ('{"url": "http://x/#y", /* {"no": 1} */ "b": null,}', {"url": "http://x/#y", "b": None}),
        ('{"a": true, \'b\': None}', {"a": True, "b": None}),
        ('{"a": "http:\\/\\/x",}', {"a": "http://x"}),
        ('{"a": "\\ud83c\\udf89",}', {"a": "🎉"}),
        ("{'a': 'http:\\/\\/x'}", {"a": "http://x"}),
        ("{'a': '\\ud83c\\udf89'}", {"a": "🎉"}),
        ("{'a': '\\x41\\ud83c\\udf89 \\ud83c'}", {"a": "A🎉 \ud83c"}),
        ('{"a": "two\nlines\ttab"}', {"a": "two\nlines\ttab"}),
        ('"\\u4f60\\u597d"', "你好"),
        ("'\\x41\\u0042\\U00000043\\N{DIGIT FOUR}\\105\\n\\\n'", "ABC4E\n"),
        ("r'\\d' ", "\\d"),
        ("b'\\x00\\xff'", b"\x00\xff"),
        ("'''a\n'b' \"c\"'''", "a\n'b' \"c\""),
        ('["""a"b""", "", \'\']', ['a"b', "", ""]),
        ("('a' 'b'\n \"c\")", "abc"),
        ("(b'a' b'b')", b"ab"),
        ("(1)", 1),
        ("(1,)", (1,)),
        ("()", ()),
        ("{}", {}),
        ("{1: 'a', (2, 3): 'b', None: 'c',}", {1: "a", (2, 3): "b", None: "c"}),
        ("[0x1F, 0b11, 0o17, 1_000, -5, +6, .5, 1., -1e3]", [31, 3, 15, 1000, -5, 6, 0.5, 1.0, -1000.0]),
        ("[NaN, -Infinity]", [math.nan, -math.inf]),  # as Python's json writes them
        ("[NaN, Infinity, +Infinity,]", [math.nan, math.inf, math.inf]),
        ("1" * LONGEST_NUMBER, 10**LONGEST_NUMBER // 9),
        ("[" * MOST_NESTED + "1," + "]" * MOST_NESTED, ...),
        ("[" * 400 + "]" * 400, ...),  # JSON
    ],
)  # fmt: skip
def test_a_value_is_read(code: str, value: Any) -> None:
    read = parse_to_obj(fenced(code))
    assert value is ... or same(read, value)


@pytest.mark.parametrize(
    "code",
    [
        "nothing", "{", "]", "{]", "[1 2]", "[,]", "[1,,2]", "{'a': }", "{'a': 1, 2}", "{'a'}: 1", "{: 1}", "{'a':: 1}", "1 2",
        "a: 1", "1,", "b'\\né'", "{[]: 1}", "{{}}", "{[1]}", "'open", "'two\nlines", "b'é'", "ub'x'", "f'{1}'", "[b'a' 'b']",
        "012", "1__0",
        "0x", "'\\xzz'", "'\\N{NO SUCH LETTER}'", "'\\U00110000'", "1+2j", "2j", "-'a'", "--1", "not 1", "nan", "...", "/* open",
        "__import__('os').system('false')", "print(1)", "[x for x in (1,)]", "lambda: 0", "{**{}}", "dict(a=1)", "1 if 1 else 2",
        "set()", "10 ** 10", "'a' * 9", "1" * (LONGEST_NUMBER + 1), "[1, " + "1" * (LONGEST_NUMBER + 1) + ",]",
        "[" * (MOST_NESTED + 1) + "1," + "]" * (MOST_NESTED + 1),
    ],
)  # fmt: skip
def test_what_is_no_value_is_refused(code: str) -> None:
    with pytest.raises(UnreadableReply):
        parse_to_obj(fenced(code))
    assert parse_to_code(fenced(code)) == code


def test_nothing_is_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("eval", "exec", "compile"):
        monkeypatch.setattr(f"builtins.{name}", lambda *_unused: pytest.fail("compiled"))
    monkeypatch.setattr(ast, "literal_eval", lambda _unused: pytest.fail("compiled"))
    for code in ("{'a': 1}", "{'a': 1, // c\n}", "__import__('os')", "[].__class__"):
        try:
            parse_to_obj(code)
        except UnreadableReply:
            pass


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ("", "the reply is empty"),
        (" \n", "the reply is empty"),
        ("<think>Hm.</think>", "the reply is empty"),
        ("I cannot help with that.", "the reply holds neither JSON nor a Python literal: no code block"),
        (fenced('{"a": 1,\n "b" 2}'), "the last code block of the reply is neither JSON nor .* line 2, column 6$"),
        (fenced('\n\n  [1,,]'), "the last code block .* line 3, column 6$"),
        (fenced("[1]") + fenced("pip install x", "sh"), "the last code block .* line 1, column 1$"),
        ('```json\n{"a": [1, 2', "the last code block of the reply is not closed"),
    ],
)  # fmt: skip
def test_an_error_says_what_there_is(reply: str, words: str) -> None:
    with pytest.raises(UnreadableReply, match=f"^{words}") as caught:
        parse_to_obj(reply)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FlexLLMError)
    assert not str(caught.value).endswith(".")


@pytest.mark.parametrize("function", [extract_code_snippets, parse_to_code, parse_to_obj])
@pytest.mark.parametrize("wrong", [None, b"{}", 1, {"a": 1}], ids=repr)
def test_what_is_no_text_is_refused_by_its_type(function: Callable[[Any], Any], wrong: Any) -> None:
    with pytest.raises(ConfigError, match=f"text={type(wrong).__name__} is no text") as caught:
        function(wrong)
    assert isinstance(caught.value, ValueError)


# --- whatever a reply holds

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5)
LITERALS = st.recursive(
    KEYS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.sets(KEYS, min_size=1, max_size=3)
    ),
    max_leaves=10,
)
PROSE = st.text(alphabet="ab .,:'\"#/*\n你🎉<>-", max_size=40)


@settings(max_examples=examples(400))
@given(JSON, PROSE, PROSE, st.sampled_from([None, 0, 2]), st.booleans())
def test_json_in_prose_and_a_fence_comes_back_equal(
    value: Any, before: str, after: str, indent: int | None, ascii_alone: bool
) -> None:
    code = json.dumps(value, indent=indent, ensure_ascii=ascii_alone)
    assert same(parse_to_obj(f"{before}\n```json\n{code}\n```\n{after}"), value)
    assert same(parse_to_obj(code), value)


@settings(max_examples=examples(200))
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4), st.text(alphabet="ab .,'\"()`#\n你🎉", max_size=40))
def test_an_object_in_prose_comes_back_equal(value: Any, prose: str) -> None:
    assert same(parse_to_obj(f"So{prose} {json.dumps(value)} {prose}"), value)


@settings(max_examples=examples(400))
@given(LITERALS)
def test_what_python_writes_comes_back_equal(value: Any) -> None:
    assert same(parse_to_obj(fenced(repr(value))), value)


@settings(max_examples=examples(200))
@given(JSON)
def test_commas_and_comments_change_no_value(value: Any) -> None:
    code = json.dumps(value, indent=1, separators=(" , // ,]}\n", ' : /* " */ '))
    for bracket in "]}":
        code = code.replace(f"\n{bracket}", f"\n# '\n{bracket}")
    if isinstance(value, list | dict) and value:
        code = f"{code[:-1]},{code[-1]}"
    assert same(parse_to_obj(fenced(f"// {{\n{code}")), value)


WRITTEN = st.text() | st.text(
    alphabet="{}[]():,'\"`~\\>#/*-+0123456789.eExXbnrufN_ \n\r\tTrueNoneNaN\ud800", max_size=200
)


@settings(max_examples=examples(600))
@given(WRITTEN)
def test_no_text_raises_anything_else(text: str) -> None:
    for reply in (text, f"```\n{text}", fenced(text)):
        extract_code_snippets(reply)
        extract_code_snippets(reply, strict=False)
        parse_to_code(reply)
        try:
            parse_to_obj(reply)
        except UnreadableReply:
            pass


@settings(max_examples=examples(600))
@given(st.text(alphabet="{}[](),:'\"\\ \n#1.-xbru0aeTNone", max_size=30))
def test_whatever_python_reads_as_a_literal_is_read_as_that(code: str) -> None:
    code = code.strip()
    try:
        expected = ast.literal_eval(code)
    except (ValueError, SyntaxError, TypeError, Warning):
        return
    if code.startswith(("{", "[")) and not any(letter in code for letter in "\\#"):
        assert same(parse_to_obj(fenced(code)), expected)


LONG = examples(1_000_000)
CRAFTED = ", ".join(f"{(2**61 - 1) * number}: 0" for number in range(LONG // 22))  # all of one hash
HOSTILE = [
    "{", "[", "[{", "(", "```", "```\n", "~~~\n", "`", ">", "> ```\n", "- ", "\t```\n", '{"', "{'", ',"', '\\"', "\\", "/*", "//",
    "#", "9", "-", "1+", "not ", "'", '"""', "{x} ", "{}", "{[", '{"a":', "}", "\r", "\n", " ", "<think></think>", "</think>",
    "1_", "\\N{", "[ ", ":'\"", "NaN,",
]  # fmt: skip


def read_all(text: str) -> None:
    extract_code_snippets(text, strict=False)
    try:
        parse_to_obj(text)
    except UnreadableReply:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("piece", HOSTILE)
def test_a_long_run_of_anything_is_read_or_refused(piece: str) -> None:
    text = piece * (LONG // 5 // len(piece))
    for reply in (text, f"{{{text}", f"```\n{{'{text}\n```"):
        read_all(reply)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["{" * LONG, "```" * (LONG // 3), "9" * LONG, "[" + '"' * LONG, "> " * (LONG // 2) + "```\n" * 9]
)
def test_a_megabyte_is_read_or_refused(text: str) -> None:
    read_all(text)


@pytest.mark.slow
def test_numbers_that_share_a_hash_are_no_keys() -> None:
    with pytest.raises(UnreadableReply):
        parse_to_obj(fenced(f"{{{CRAFTED}}}"))
    with pytest.raises(UnreadableReply):
        parse_to_obj(fenced(f"{{{CRAFTED.replace(': 0', '')}}}"))
    assert len(parse_to_obj(fenced(repr(dict.fromkeys(range(50_000)))))) == 50_000


def test_a_number_has_a_limit_also_where_python_has_none() -> None:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        for code in ("9" * LONG, "9" * LONG + ".5", f"[{'9' * LONG},]", f"[0x{'9' * LONG},]"):
            with pytest.raises(UnreadableReply):
                parse_to_obj(code)
    finally:
        sys.set_int_max_str_digits(limit)


def test_a_deep_caller_reads_the_same() -> None:
    code = "[" * MOST_NESTED + "'a'" + "]" * MOST_NESTED

    def below(depth: int) -> Any:
        return below(depth - 1) if depth else parse_to_obj(code)

    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1  # type: ignore[assignment]
    assert below(sys.getrecursionlimit() - depth - 60) == parse_to_obj(code)
