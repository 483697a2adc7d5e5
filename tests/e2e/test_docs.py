"""What the READMEs and the pages of docs/ print runs as printed, in both languages, and nothing leaves the machine.

Each example is a test that bears its page and line. The examples of a page are run in order, so that one may use what those
above it made; one that is run alone runs those above it first.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificates import make_certificate
from example_pages import Page, Wrong
from examples import CHINESE, ENGLISH, RUN, Block, Example, blocks_of, commands_of, examples_of, fits, language_of
from examples import pages as all_pages
from internet import NAMES

EXAMPLES: dict[str, list[Example]] = {}
UNREADABLE: dict[str, str] = {}
for _page in all_pages():
    try:
        EXAMPLES[_page] = examples_of(_page)
    except ValueError as error:  # one test fails for it, and the other pages are tested
        UNREADABLE[_page] = str(error)

NOT_RUN = {
    "docs/en/index.md": 1,  # pip install
    "docs/index.md": 1,
    "docs/en/moving.md": 1,  # asks another client
    "docs/moving.md": 1,
}
"""How many examples of a page may say that they are not run; each gives its reason in the page."""

CASES = [
    pytest.param(page, number, id=str(example.block))
    for page, examples in EXAMPLES.items()
    for number, example in enumerate(examples)
    if example.not_run is None
]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Page]]:
    """The pages that have been begun."""
    opened: dict[str, Page] = {}
    yield opened
    for page in opened.values():
        page.close()


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of all hosts that examples may name, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("the openssl command is needed to make a certificate")
    return make_certificate(tmp_path_factory.mktemp("hosts"), NAMES)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "number"), CASES)
def test_an_example_runs_as_printed(
    name: str,
    number: int,
    opened: dict[str, Page],
    hosts: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
    record_property: Callable[[str, object], None],
) -> None:
    if name not in opened:
        opened[name] = Page(EXAMPLES[name], tmp_path_factory.mktemp("page"), hosts)
    opened[name].run(number)
    record_property("example", language_of(name))


# --- what is found and what is left out


@pytest.mark.parametrize("page", all_pages())
def test_the_examples_of_a_page_can_be_read(page: str) -> None:
    assert page not in UNREADABLE, UNREADABLE[page]


@pytest.mark.parametrize("page", list(EXAMPLES))
def test_no_more_examples_are_left_out_than_is_said_here(page: str) -> None:
    left_out = [str(one.block) for one in EXAMPLES[page] if one.not_run is not None]

    assert len(left_out) <= NOT_RUN.get(page, 0), left_out


@pytest.mark.parametrize("language", [ENGLISH, CHINESE])
def test_there_are_examples_in_both_languages_and_for_python_and_shell(language: str) -> None:
    of_language = [one for page, examples in EXAMPLES.items() if language_of(page) == language for one in examples]

    assert {"python", "bash"} <= {one.block.language for one in of_language}


@pytest.mark.parametrize("page", [page for page in EXAMPLES if page.startswith("docs/en/")])
def test_a_page_has_the_same_examples_in_both_languages(page: str) -> None:
    other = page.replace("docs/en/", "docs/")
    if other not in EXAMPLES or (EXAMPLES[page] and not EXAMPLES[other]):
        pytest.skip(f"{other} is not written yet")

    assert [one.block.language for one in EXAMPLES[page]] == [one.block.language for one in EXAMPLES[other]]


# --- how a page is read

MARKDOWN = """\
Text with `code`.

```python
print(1)
```

<!-- example: output -->
```text
1
```

<!-- example: setup
echo 1 > one
-->
<!-- example: exit 3 -->
```bash
cat one
```

1. A list

   ```console
   $ echo a \\
   > b
   a b
   $ true
   ```

<!-- example: file rows.jsonl -->
```json
{"q": 1}
```

<!-- example: not run, because it installs packages -->
```bash
pip install flexllm
```
"""


def read(text: str, name: str = "page.md") -> list[Block]:
    return list(blocks_of(name, text))


def test_blocks_have_their_line_language_code_and_notes() -> None:
    python, output, bash, console, rows, left_out = read(MARKDOWN)

    assert (python.language, python.line, python.code, python.notes) == ("python", 4, "print(1)\n", ())
    assert output.notes == (("output", ""),)
    assert (bash.note("setup"), bash.note("exit"), bash.note("reply")) == ("echo 1 > one", "3", None)
    assert commands_of(console.code) == [("echo a \\\nb", "a b"), ("true", "")]
    assert rows.note("file") == "rows.jsonl"
    assert left_out.note("not run") == "it installs packages"


def test_restructured_text_is_read_in_the_same_way() -> None:
    text = (
        "Title\n=====\n\n.. example: setup\n   echo 1 > one\n\n.. code-block:: bash\n\n    cat one\n\n    ls\n\nText\n"
    )

    (block,) = read(text, "page.rst")

    assert (block.line, block.code, block.notes) == (9, "cat one\n\nls\n", (("setup", "echo 1 > one"),))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```python\n1\n", "line 1 has no end"),
        ("<!-- example: skip -->\n```python\n1\n```\n", "page.md:1: the comment begins with none of"),
        ("<!-- example: not run -->\n```python\n1\n```\n", "page.md:1: write `not run, because`"),
        ("<!-- example: exit 1 -->\nText\n```bash\n1\n```\n", "page.md:2: between the comment"),
        ("<!-- example: exit 1 -->\n", "page.md:1: between the comment"),
    ],
)
def test_a_page_that_cannot_be_read_is_an_error_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(text)


@pytest.mark.parametrize(
    ("printed", "wanted", "is_fit"),
    [
        ("one\n", "one", True),
        ("one  \ntwo\n\n", "one\ntwo\n", True),
        ("one\n", "two", False),
        ("one\ntwo\n", "one", False),
        ("a 1 b\n", "a ... b", True),
        ("a\nb\nc\n", "a\n...\nc", True),
        ("a [1] b\n", "a [1] b", True),
    ],
)
def test_output_is_compared_with_dots_for_anything(printed: str, wanted: str, is_fit: bool) -> None:
    assert fits(printed, wanted) is is_fit


# --- how a page is run


@pytest.fixture
def page(hosts: tuple[Path, Path], tmp_path: Path) -> Iterator[Callable[[str], Page]]:
    """Make a page of a text."""
    made: list[Page] = []

    def make(text: str) -> Page:
        blocks = [block for block in read(text) if block.language in RUN]
        made.append(Page([Example(block) for block in blocks], tmp_path / str(len(made)), hosts))
        return made[-1]

    yield make
    for one in made:
        one.close()


ASKS = """\
```python
import requests
print(requests.post("{url}", json={{"model": "m", "messages": [{{"role": "user", "content": "hello"}}]}}).json())
```
"""


@pytest.mark.slow
def test_real_hosts_are_served_by_the_mock(page: Callable[[str], Page]) -> None:
    for url in ("https://api.openai.com/v1/chat/completions", "http://localhost:8000/v1/chat/completions"):
        page(ASKS.format(url=url)).run(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import requests\ntry:\n    requests.get('https://elsewhere.test')\nexcept OSError:\n    pass",
        "import socket\ntry:\n    socket.create_connection(('192.0.2.1', 443), timeout=1)\nexcept OSError:\n    pass",
    ],
)
def test_an_example_that_asks_another_host_fails_even_if_it_says_nothing(
    code: str, page: Callable[[str], Page]
) -> None:
    with pytest.raises(Wrong, match="asks hosts that are not served"):
        page(f"```python\n{code}\n```\n").run(0)


@pytest.mark.slow
def test_a_page_shares_its_names_its_folder_and_its_shell(page: Callable[[str], Page]) -> None:
    text = (
        "```python\nimport asyncio\nname = 'file'\nawait asyncio.sleep(0)\n```\n"
        "```python\nopen(name, 'w').close()\n```\n"
        "```bash\nls file\nexport A=1\nmkdir deep\ncd deep\n```\n"
        '```console\n$ echo "$A $(basename "$PWD")"\n1 deep\n```\n'
    )

    page(text).run(3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "block",
    [
        "```python\n1 / 0\n```",
        "```python\nraise SystemExit\n```",
        "```python\nimport warnings\nwarnings.warn('old')\n```",
        "```bash\nfalse\ntrue\n```",
        "```bash\nfalse | true\n```",
        "```console\n$ echo 1\n2\n```",
        "```console\n$ false\n```",
        "<!-- example: exit 3 -->\n```bash\ntrue\n```",
        "<!-- example: setup\nfalse\n-->\n```bash\ntrue\n```",
    ],
)
def test_what_does_not_do_as_the_page_says_fails(block: str, page: Callable[[str], Page]) -> None:
    with pytest.raises(Wrong, match=r"page\.md:\d"):
        page(f"{block}\n").run(0)


@pytest.mark.slow
def test_replies_can_be_told_whatever_the_provider(page: Callable[[str], Page]) -> None:
    text = """\
<!-- example: reply Paris. -->
```python
from flexllm import LLMClient, ClaudeClient, GeminiClient
for client in (LLMClient("gpt-4"), ClaudeClient(model="claude-sonnet-5-5", api_key="k"), GeminiClient(api_key="k")):
    assert client.chat_completions_sync("The capital of France?") == "Paris."
    assert "".join(client.chat_completions_stream_sync("And?")) == "Paris."
    client.close()
```
<!-- example: reply -->
```console
$ flexllm ask "The capital of France?"
Mock answer ...
```
"""

    page(text).run(1)
