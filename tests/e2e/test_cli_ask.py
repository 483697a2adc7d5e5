"""`flexllm ask` with files, schemas, code blocks and thinking, as a user drives it."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Done, Terminal, at, in_process, in_shell, run, write_rows

from flexllm.mock import MockServer, Reply

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
KEY = "sk-a-very-secret-key-of-forty-characters"

Ask = Callable[..., Done]


@pytest.fixture(scope="module")
def _server() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


@pytest.fixture
def server(_server: MockServer, monkeypatch: pytest.MonkeyPatch) -> MockServer:
    """The server that the environment names, without any memory of other tests."""
    _server.reset()
    _server.set_script(None)
    for name, value in at(_server).items():
        monkeypatch.setenv(name, value)
    return _server


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """`flexllm ask` in this process."""

    def ask(*arguments: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return in_process(capsys, "ask", *arguments)

    return ask


def body(server: MockServer, number: int = -1) -> dict[str, Any]:
    answer: dict[str, Any] = server.requests[number].json()
    return answer


def content(server: MockServer) -> Any:
    return body(server)["messages"][-1]["content"]


def answering(*texts: str, finish_reason: str = "stop") -> list[Reply]:
    return [
        Reply(
            body=json.dumps(
                {"choices": [{"message": {"content": text}, "finish_reason": finish_reason}],
                 "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
            ).encode()
        )
        for text in texts
    ]  # fmt: skip


def chunk(text: str = "", thought: str = "") -> bytes:
    delta = {"content": text} if text else {"reasoning_content": thought}
    return b"data: %s\n\n" % json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()


DONE = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


def data_uri(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


# --- files


def test_the_question_comes_first_then_what_is_piped_in_then_the_files(
    server: MockServer, ask: Ask, folder: Path
) -> None:
    (folder / "a.txt").write_text("größer")
    (folder / "b.txt").write_text("b\n")
    assert ask("What?", "-f", "a.txt", "--file", "b.txt", stdin=b"piped\n").code == 0

    assert content(server) == (
        'What?\n\npiped\n\n<file name="a.txt">\ngrößer\n</file>\n\n<file name="b.txt">\nb\n</file>'
    )


def test_media_are_sent_as_media(server: MockServer, ask: Ask, folder: Path) -> None:
    (folder / "a.png").write_bytes(PNG)
    (folder / "b.pdf").write_bytes(PDF)
    where = ("-m", "claude-sonnet-4-5", "--base-url", server.url, "--api-key", KEY)
    assert ask("What?", "-f", "a.png", "-f", "b.pdf", *where).code == 0

    picture, document, text = content(server)
    assert picture["source"] == {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
    assert document["source"]["media_type"] == "application/pdf"
    assert text == {"type": "text", "text": "What?"}


@pytest.mark.parametrize("arguments", [("What?",), ("What?", "-f", "-")], ids=" ".join)
def test_a_picture_may_come_through_a_pipe(server: MockServer, ask: Ask, arguments: tuple[str, ...]) -> None:
    assert ask(*arguments, stdin=PNG).code == 0
    assert content(server)[0] == {"type": "image_url", "image_url": {"url": data_uri(PNG, "image/png")}}


def test_a_text_by_f_and_a_dash_is_a_file(server: MockServer, ask: Ask) -> None:
    assert ask("What?", "-f", "-", stdin=b"x").code == 0
    assert content(server) == 'What?\n\n<file name="standard input">\nx\n</file>'


def test_a_dash_stands_for_what_is_piped_in(server: MockServer, ask: Ask) -> None:
    assert ask("-", stdin=b"piped").code == 0
    assert content(server) == "piped"
    assert "nothing is asked" in ask("-").sentence


def test_files_alone_are_a_question(server: MockServer, ask: Ask, folder: Path) -> None:
    (folder / "a.txt").write_text("Who are you?")
    assert ask("-f", "a.txt").code == 0
    assert content(server) == '<file name="a.txt">\nWho are you?\n</file>'


def test_a_picture_by_url_is_left_to_the_server(server: MockServer, ask: Ask) -> None:
    assert ask("What?", "-f", "https://example.com/a.jpg").code == 0
    assert content(server)[0] == {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}}


def test_what_a_provider_cannot_take_is_refused_before_anything_is_sent(
    server: MockServer, ask: Ask, folder: Path
) -> None:
    (folder / "a.wav").write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(20))
    done = ask("What?", "-f", "a.wav", "--provider", "claude", "--base-url", server.url, "--api-key", KEY)
    assert done.code == 9
    assert done.sentence
    assert server.requests == []


# --- schemas


@pytest.mark.parametrize("is_file", [True, False])
def test_a_schema_is_sent_and_the_json_alone_is_printed(
    server: MockServer, ask: Ask, folder: Path, is_file: bool
) -> None:
    server.set_script(answering('```json\n{"city": "Köln", "n": 1.50}\n```'))
    (folder / "city.json").write_text(f"\ufeff{json.dumps(SCHEMA)}")
    done = ask("A city", "--schema", "city.json" if is_file else json.dumps(SCHEMA))

    assert done == Done(0, '{\n  "city": "Köln",\n  "n": 1.5\n}\n', "")
    assert body(server)["response_format"]["json_schema"]["schema"] == SCHEMA


def test_a_reply_that_does_not_fit_is_a_sentence(server: MockServer, ask: Ask) -> None:
    server.set_script(answering('{"city": 5}'))
    done = ask("A city", "--schema", json.dumps(SCHEMA))
    assert done.code == 1
    assert "$.city" in done.sentence


def test_repair_sends_it_back_once(server: MockServer, ask: Ask) -> None:
    server.set_script(answering("{}", '{"city": "Rome"}'))
    done = ask("A city", "--schema", json.dumps(SCHEMA), "--repair", "--json")
    assert json.loads(done.out)["attempts"] == 2
    assert json.loads(json.loads(done.out)["content"]) == {"city": "Rome"}
    assert len(server.requests) == 2


@pytest.mark.slow
def test_batch_takes_a_schema_thinking_and_repair_too(server: MockServer, folder: Path) -> None:
    (folder / "city.json").write_text(json.dumps(SCHEMA))
    write_rows(folder / "in.jsonl", {"q": "A city"})
    server.set_script(answering("{}", '{"city": "Rome"}'))
    options = ("--schema", "city.json", "--repair", "--thinking", "low")
    assert run("batch", "in.jsonl", "-o", "out.jsonl", "-q", *options).code == 0

    assert json.loads((folder / "out.jsonl").read_text())["output"] == '{"city": "Rome"}'
    assert body(server, 0)["response_format"]["json_schema"]["schema"] == SCHEMA
    assert body(server, 0)["reasoning_effort"] == "low"


# --- thinking


@pytest.mark.parametrize(
    ("word", "value"),
    [("true", True), ("ON", True), ("false", False), ("none", "none"), ("high", "high"), ("HIGH", "high"),
     ("2048", 2048), ("0", 0), ('{"type": "enabled", "budget_tokens": 2000}', {"type": "enabled", "budget_tokens": 2000})],
)  # fmt: skip
def test_thinking_is_what_the_library_calls_so(server: MockServer, ask: Ask, word: str, value: Any) -> None:
    where = ("-m", "claude-sonnet-4-5", "--base-url", server.url, "--api-key", KEY)
    assert ask("Hi", *where, "--thinking", word).code == 0
    assert ask("Hi", *where, "--param", f"thinking={json.dumps(value)}").code == 0
    assert body(server, 0) == body(server, 1)


# --- code


def test_extract_prints_the_first_code_block_alone(server: MockServer, ask: Ask) -> None:
    server.set_script(answering("Here:\n```sh\nls\n```\nand\n```\nmore\n```"))
    assert ask("A command", "-x") == Done(0, "ls\n", "")


def test_extract_with_json_has_both(server: MockServer, ask: Ask) -> None:
    server.set_script(answering("```\nls"))
    answer = ask("A command", "-x", "--json").data
    assert (answer["code"], answer["content"]) == ("ls", "```\nls")


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_extract_without_a_code_block_fails(server: MockServer, ask: Ask, more: tuple[str, ...]) -> None:
    server.set_script(answering("No code today."))
    done = ask("A command", "-x", *more)
    assert done.code == 1
    assert "the answer holds no code block" in done.sentence


@pytest.mark.parametrize(("more", "is_told"), [((), False), (("-q",), False), (("-v",), True)])
@pytest.mark.parametrize("options", [("-x",), ("--schema", json.dumps(SCHEMA))])
def test_an_answer_that_is_refused_is_told_and_logged_only_where_it_is_asked_for(
    server: MockServer, ask: Ask, folder: Path, options: tuple[str, ...], more: tuple[str, ...], is_told: bool
) -> None:
    server.set_script(answering(f"{'Well, ' * 500}A private matter."))
    done = ask("A question", *options, *more, "--log-file", "ask.log")
    assert done.code == 1
    assert ["A private matter." in text for text in (done.err, (folder / "ask.log").read_text())] == [is_told, is_told]


# --- what an entry of the configuration says


@pytest.mark.parametrize(
    ("arguments", "system"), [((), "Be one."), (("-s", "Be two."), "Be two."), (("-s", ""), None)], ids=str
)
def test_an_entrys_own_words_go_along(
    server: MockServer, ask: Ask, folder: Path, arguments: tuple[str, ...], system: str | None
) -> None:
    entry = {"id": "one", "base_url": server.base_url, "system": "Be one.", "user_template": "Say: {content}"}
    (folder / "c.yaml").write_text(json.dumps({"models": [{**entry, "params": {"seed": 3}}]}))
    assert ask("Hi", "-m", "one", "--config", "c.yaml", *arguments).code == 0

    expected = [{"role": "system", "content": system}] if system else []
    assert body(server)["messages"] == [*expected, {"role": "user", "content": "Say: Hi"}]
    assert body(server)["seed"] == 3


def test_a_template_for_rows_is_refused(server: MockServer, ask: Ask, folder: Path) -> None:
    entry = {"id": "one", "base_url": server.base_url, "user_template": "Say: {word}"}
    (folder / "c.yaml").write_text(json.dumps({"models": [entry]}))
    done = ask("Hi", "-m", "one", "--config", "c.yaml")
    assert done.code == 3
    assert "{word}" in done.sentence
    assert server.requests == []


# --- wrong uses


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--schema", "none.json"), 9, "--schema none.json cannot be read: No such file"),
        (("--schema", "."), 9, "--schema . cannot be read: Is a directory"),
        (("--schema", "bad.json"), 3, "--schema bad.json is not JSON at line 1, column 2"),
        (("--schema", "latin.json"), 3, "--schema latin.json is not JSON"),
        (("--schema", "{"), 3, "--schema is not JSON at line 1, column 2"),
        (("--schema", "[1]"), 3, "--schema is no JSON schema: it must be an object, not an array"),
        (("--schema", "{}"), 3, "--schema cannot be used as a JSON schema: it has no 'type'"),
        (("--schema", '{"type": "objekt"}'), 3, "--schema is no JSON schema: there is no type 'objekt'"),
        (("--schema", '{"type": "object", "required": 5}'), 3, "--schema cannot be used as a JSON schema"),
        (("--schema",), 2, "argument --schema: expected one argument"),
        (("--repair",), 3, "--repair mends replies that do not fit a schema"),
        (("-x", "--schema", '{"type": "object"}'), 3, "give one of them"),
        (("--thinking", "much"), 2, "argument --thinking: 'much' is no way to think"),
        (("--thinking", "{"), 2, "argument --thinking: '{' is no way to think"),
        (("--thinking=-5",), 2, "argument --thinking: '-5' is no way to think"),
        (("--param", "model=x"), 3, "--param model=... is no request parameter; give the model with -m"),
        (("--param", "messages=[]"), 3, "--param messages=... is no request parameter"),
        (("--param", "self=1"), 3, "--param self=... is no request parameter"),
        (("--param", "stream=true"), 3, "--param stream=... is no request parameter"),
        (("--param", "timeout=5"), 3, "timeout is no parameter of a request"),
        (("-f", "none.txt"), 9, "the file 'none.txt' does not exist"),
        (("-f", "."), 9, "it is a folder"),
        (("-f", "empty.txt"), 9, "'empty.txt' is empty"),
        (("-f", "latin.json"), 9, "'latin.json' is text, but not UTF-8 (byte 2)"),
        (("-f", "nul.bin"), 9, "'nul.bin' is neither text nor a picture"),
        (("-f", "broken.png"), 9, "broken.png"),
        (("-f", "-"), 9, "standard input is empty"),
        (("-f", "https://example.com/"), 9, "does not end like a picture"),
        (("-f",), 2, "argument -f/--file: expected one argument"),
    ],
    ids=str,
)
def test_a_wrong_use_is_one_sentence_and_costs_nothing(
    server: MockServer, ask: Ask, folder: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    for name, data in (
        ("bad.json", b"{x"), ("latin.json", b'"\xfc"'), ("empty.txt", b""), ("nul.bin", b"\0\1"),
        ("broken.png", b"\1\2\3\xff"),
    ):  # fmt: skip
        (folder / name).write_bytes(data)
    done = ask("Hello", *arguments)

    assert words in done.sentence
    assert done.code == code
    assert server.requests == []


def test_a_pipe_of_bytes_that_nobody_knows_is_no_question(server: MockServer, ask: Ask) -> None:
    assert ask("What?", stdin=b"\0\1\2").code == 9
    assert server.requests == []


# --- as processes, and on a terminal


@pytest.mark.slow
def test_an_answer_that_is_cut_is_printed_and_told(server: MockServer) -> None:
    server.set_script(answering("half of", finish_reason="length") * 2)
    told = "flexllm: the answer was cut at the token limit; --max-tokens N allows more\n"
    assert run("ask", "Hi") == Done(0, "half of\n", told)
    assert run("ask", "Hi", "-q") == Done(0, "half of\n", "")


@pytest.mark.slow
def test_ctrl_c_keeps_what_came_and_exits_with_130() -> None:
    endless = Reply(pieces=((0.0, chunk("The beginning")), (600.0, chunk(" and the end"))))
    with MockServer(script=[endless]) as server, Terminal("ask", "Hi", env=at(server)) as terminal:
        terminal.expect("The beginning")
        terminal.press("\x03", "\r\nflexllm: interrupted\r\n")
        assert terminal.end() == 130


@pytest.mark.slow
def test_thinking_is_shown_dim_in_front_of_the_answer_where_it_is_asked_for() -> None:
    reply = Reply(
        pieces=((0.0, chunk(thought="Hm, \x1b[31m")), (0.0, chunk(thought="yes.")), (0.0, chunk("Yes!") + DONE))
    )
    with MockServer(script=[reply, reply, reply]) as server:
        with Terminal("ask", "Hi", "--show-thinking", env=at(server)) as terminal:
            assert terminal.end() == 0
        assert terminal.raw == "\x1b[2mHm, \\x1b[31myes.\x1b[22m\r\n\r\nYes!\r\n"
        with Terminal("ask", "Hi", env=at(server)) as terminal:
            assert terminal.end() == 0
        assert terminal.raw == "Yes!\r\n"


def test_thinking_goes_to_standard_error(server: MockServer, ask: Ask) -> None:
    message = {"content": "Yes!", "reasoning_content": "Hm."}
    server.set_script([Reply(body=json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode())])
    assert ask("Hi", "--show-thinking") == Done(0, "Yes!\n", "Hm.\n\n")


@pytest.mark.slow
def test_on_a_terminal_a_form_is_printed_whole_and_nothing_steers_it(server: MockServer) -> None:
    server.set_script(answering('```json\n{"city": "Bonn"}\n```', "a\x1b[2Jb", "```\nls \x9b2J\n```", "\x9b2J"))
    with Terminal("ask", "A city", "--schema", json.dumps(SCHEMA)) as terminal:
        assert terminal.end() == 0
    assert terminal.text == '{\r\n  "city": "Bonn"\r\n}\r\n'
    for option, raw in (
        ("--no-stream", "a\\x1b[2Jb\r\n"),
        ("-x", "ls \\x9b2J\r\n"),
        ("--json", '{\r\n  "content": "\\u009b2J"'),
    ):
        with Terminal("ask", "Hi", option) as terminal:
            assert terminal.end() == 0
        assert terminal.raw.startswith(raw)
    assert {"stream" in request.json() for request in server.requests} == {False}


@pytest.mark.slow
def test_a_file_may_be_another_commands_output(server: MockServer) -> None:
    assert in_shell('echo piped | "$@" -f /dev/fd/3 3<<EOF\ndocument\nEOF', "ask", "What?", env=at(server)).code == 0
    assert content(server) == 'What?\n\npiped\n\n<file name="/dev/fd/3">\ndocument\n</file>'
