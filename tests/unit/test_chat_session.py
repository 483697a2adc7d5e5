"""A chat without terminal and network: what is kept of what was said, the commands, and the reading of lines."""

from __future__ import annotations

import json
import stat
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from foreign import speak
from hypothesis import given
from hypothesis import strategies as st

from flexllm.chat import ChatCompletionResult, Chunk, ToolCall
from flexllm.cli.answers import AnswerPrinter
from flexllm.cli.chat.commands import Commands
from flexllm.cli.chat.conversation import CUT, Conversation
from flexllm.cli.chat.editor import MOST_KEPT, Editor, Entry, History, read_entry
from flexllm.cli.chat.loop import answer_lines, converse
from flexllm.cli.chat.session import ChatSession, Partner
from flexllm.cost import CostReport
from flexllm.errors import ConfigError, InputError, RequestError, StreamBroken

Said = list[tuple[str, Any]]


class FakeClient:
    """Answers with what is put down: texts, results, errors; a list is streamed piece by piece, errors in it are raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Said] = []
        self.params: list[dict[str, Any]] = []
        self.is_closed = False
        self.ended = 0

    def stream(
        self, messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any]
    ) -> Generator[Chunk | ChatCompletionResult, None, None]:
        pieces = self._next(messages, params)
        text = ""
        try:
            for piece in pieces if isinstance(pieces, list) else [pieces]:
                if isinstance(piece, BaseException):
                    raise piece
                if isinstance(piece, ChatCompletionResult):
                    yield Chunk(content=piece.content)
                    yield piece
                    return
                text += piece
                yield Chunk(content=piece)
            yield ChatCompletionResult(text, finish_reason="stop")
        finally:
            self.ended += 1

    def complete(self, messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any]) -> ChatCompletionResult:
        answer = self._next(messages, params)
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, ChatCompletionResult) else ChatCompletionResult(answer)

    def close(self) -> None:
        self.is_closed = True

    def _next(self, messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any]) -> Any:
        self.asked.append(said(messages))
        self.params.append(dict(params))
        return self.answers.pop(0) if self.answers else f"answer {len(self.asked)}"


def said(messages: Iterable[Mapping[str, Any]]) -> Said:
    return [(message["role"], message["content"]) for message in messages]


def session_with(*answers: Any, system: str | None = None, streams: bool = True, **partner: Any) -> Any:
    """Return a chat and its first partner's client."""
    client = FakeClient(*answers)
    first = Partner(**{"client": client, "name": "first", "place": "http://one", "params": {}, **partner})

    def meet(name: str | None) -> Partner:
        if name == "nobody":
            raise ConfigError("nobody is not there")
        return first if name is None else Partner(FakeClient(), name, "http://two", {"seed": 2}, f"You are {name}.")

    return ChatSession(meet, AnswerPrinter(), system=system, streams=streams), client


def talk_with(session: ChatSession, *lines: str | type[BaseException], opening: str | None = None) -> None:
    """Let a person type lines; an exception is a key such as Ctrl-C."""
    rest = iter(lines)

    def read_line(prompt: str) -> str:
        line = next(rest, EOFError)
        if isinstance(line, str):
            return line
        raise line

    commands = Commands(session, ["first", "second"], lambda: CostReport(0.5, 10, 5, 1))
    converse(session, commands, lambda: read_entry(read_line), opening)


# --- what is said and kept


def test_ctrl_c_that_is_pressed_again_at_once_does_not_end_the_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    presses = iter([KeyboardInterrupt])

    def pressed_again(*_: Any) -> None:
        for press in presses:
            raise press

    monkeypatch.setattr("flexllm.cli.chat.loop.talk", pressed_again)
    session, client = session_with("one")
    talk_with(session, KeyboardInterrupt, "a")
    assert client.asked == [[("user", "a")]]


def test_each_question_is_asked_with_all_that_was_said_before() -> None:
    session, client = session_with("one", "two")
    session.ask("a")
    session.ask("b")

    assert client.asked == [[("user", "a")], [("user", "a"), ("assistant", "one"), ("user", "b")]]
    assert said(session.conversation.messages)[-1] == ("assistant", "two")


def test_what_a_provider_demands_back_goes_along() -> None:
    result = ChatCompletionResult("yes", reasoning_content="hm", native={"claude": [{"signature": "s"}]})
    session, _ = session_with(result)
    session.ask("a")

    answer = session.conversation.messages[-1]
    assert answer["native"] == {"claude": [{"signature": "s"}]}
    assert answer["reasoning_content"] == "hm"


def test_a_call_of_a_tool_is_not_sent_back_where_nobody_answers_it() -> None:
    call = ToolCall("1", "function", {"name": "f", "arguments": "{}"})
    answer = ChatCompletionResult("I look.", tool_calls=[call], native={"claude": [{"type": "tool_use"}]})
    session, _ = session_with(answer)
    session.ask("a")
    assert session.conversation.messages[-1] == {"role": "assistant", "content": "I look."}


@pytest.mark.parametrize(
    "answer",
    [
        ["\ud83d", "\ude00!"],
        ["\ud83d", "\ude00!", KeyboardInterrupt()],
        ChatCompletionResult("\U0001f600!", reasoning_content="hm \ude00"),
        ChatCompletionResult("\ud83d\ude00!", native={"claude": [{"text": "\ud83d\ude00!"}]}),
    ],
    ids=["pieces", "cut", "thought", "native"],
)
def test_half_characters_of_an_answer_do_not_spoil_the_questions_behind_it(answer: Any) -> None:
    session, client = session_with(answer)
    talk_with(session, "a", "b")

    assert client.asked[1][1][1].startswith("\U0001f600!")
    json.dumps(session.conversation.messages, ensure_ascii=False).encode()


@pytest.mark.parametrize("streams", [True, False])
def test_an_answer_is_printed_and_nothing_else(streams: bool, capsys: pytest.CaptureFixture[str]) -> None:
    session, _ = session_with("the answer", streams=streams)
    session.ask("a")
    assert capsys.readouterr() == ("the answer\n", "")


def test_an_answer_with_a_form_is_not_streamed() -> None:
    session, client = session_with("{}", params={"response_format": {"type": "json_object"}})
    session.ask("a")
    assert client.ended == 0
    assert client.params == [{"response_format": {"type": "json_object"}}]


def test_a_question_that_failed_is_taken_back_and_can_be_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    session, client = session_with("one", RequestError("the server is down"), "two")
    talk_with(session, "a", "b", "/retry")

    out, err = capsys.readouterr()
    assert client.asked[1] == client.asked[2] == [("user", "a"), ("assistant", "one"), ("user", "b")]
    assert said(session.conversation.messages)[2:] == [("user", "b"), ("assistant", "two")]
    assert "flexllm: the server is down\n[The question is taken back; /retry asks it again.]\n" in err
    assert out == "one\ntwo\n"


def test_of_a_stream_that_broke_nothing_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    session, _ = session_with(["half ", StreamBroken("the stream ended early")])
    talk_with(session, "a")

    assert session.conversation.messages == []
    assert capsys.readouterr().out == "half \n"


def test_ctrl_c_ends_the_answer_and_keeps_what_came_marked_as_cut(capsys: pytest.CaptureFixture[str]) -> None:
    session, client = session_with(["half ", "of it", KeyboardInterrupt()], "two")
    talk_with(session, "a", "b")

    assert client.asked[1] == [("user", "a"), ("assistant", f"half of it\n{CUT}"), ("user", "b")]
    assert "[Cut off; what came is kept. /undo forgets it, /retry asks again.]" in capsys.readouterr().err


def test_ctrl_c_before_anything_came_takes_the_question_back() -> None:
    session, client = session_with([KeyboardInterrupt()], "two")
    talk_with(session, "a", "/retry")
    assert client.asked == [[("user", "a")], [("user", "a")]]


def test_ctrl_c_ends_a_command_and_not_the_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    session, client = session_with()

    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "switch", interrupted)
    talk_with(session, "/model second", "a")
    assert client.asked == [[("user", "a")]]


def test_an_interrupt_while_printing_ends_the_stream_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    session, client = session_with(["one", "two"])

    def interrupted(text: str, end: str = "") -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flexllm.cli.answers.print_text", interrupted)
    stream = client.stream([], {})  # held, or it would be closed as garbage
    monkeypatch.setattr(client, "stream", lambda messages, params: stream)
    with pytest.raises(KeyboardInterrupt):
        session.ask("a")
    assert client.ended == 1


@pytest.mark.parametrize(
    "result", [ChatCompletionResult(""), ChatCompletionResult(" \n", finish_reason="length")], ids=["empty", "cut"]
)
def test_an_answer_without_text_is_not_kept(result: ChatCompletionResult, capsys: pytest.CaptureFixture[str]) -> None:
    session, client = session_with(result, "two")
    talk_with(session, "a", "b")

    assert client.asked[1] == [("user", "b")]
    assert "[The question is taken back" in capsys.readouterr().err


def test_a_full_standard_output_ends_the_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = session_with("one")

    def full(text: str, end: str = "") -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flexllm.cli.answers.print_text", full)
    with pytest.raises(OSError, match="No space left"):
        talk_with(session, "a", "b")


# --- the system message, and whom one talks with


def test_the_system_message_stands_in_front() -> None:
    session, client = session_with(system="Be brief.")
    session.ask("a")
    session.ask("b")
    assert [asked[0] for asked in client.asked] == [("system", "Be brief.")] * 2
    assert [role for role, _ in client.asked[1]] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    ("own", "configured", "sent"), [(None, "conf", "conf"), ("own", "conf", "own"), ("", "conf", None)]
)
def test_the_users_own_system_message_goes_before_the_configurations(
    own: str | None, configured: str, sent: str | None
) -> None:
    client = FakeClient()
    session = ChatSession(lambda _: Partner(client, "n", "p", {}, configured), AnswerPrinter(), system=own)
    session.ask("a")
    assert [text for role, text in client.asked[0] if role == "system"] == ([sent] if sent else [])


def test_slash_system_sets_shows_and_removes_it(capsys: pytest.CaptureFixture[str]) -> None:
    session, client = session_with()
    talk_with(session, "/system Be brief.", "a", "/system", "/system -", "b")

    assert client.asked[0][0] == ("system", "Be brief.")
    assert client.asked[1][0] == ("user", "a")
    shown = [line for line in capsys.readouterr().err.splitlines() if "system" in line]
    assert shown == [*["The system message is: Be brief."] * 2, "There is no system message."]


def test_slash_model_goes_on_with_another_and_keeps_what_was_said() -> None:
    session, client = session_with("one", system=None)
    talk_with(session, "a", "/model second", "b")

    new = session.partner.client
    assert client.is_closed
    assert new.asked == [[("system", "You are second."), ("user", "a"), ("assistant", "one"), ("user", "b")]]
    assert new.params == [{"seed": 2}]


def test_the_users_own_system_message_stays_with_another_model() -> None:
    session, _ = session_with(system="mine")
    talk_with(session, "/model second", "b")
    assert session.partner.client.asked[0][0] == ("system", "mine")


def test_a_model_that_is_not_there_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    session, client = session_with()
    talk_with(session, "/model nobody", "a")
    assert client.asked == [[("user", "a")]]
    assert not client.is_closed
    assert "flexllm: nobody is not there" in capsys.readouterr().err


def test_slash_model_tells_what_there_is_and_what_may_be_meant(capsys: pytest.CaptureFixture[str]) -> None:
    session, _ = session_with()
    talk_with(session, "/model", "/model secnd", "/model gpt-9")
    assert capsys.readouterr().err.splitlines()[:-1] == [
        "The model is first at http://one.",
        "The configuration has: first, second. Any other name is asked at the same server.",
        "The model is secnd at http://two.",
        "It is none of the configuration; did you mean second?",
        "The model is gpt-9 at http://two.",
        "It is none of the configuration.",
    ]


# --- other commands


def test_slash_undo_forgets_turn_by_turn(capsys: pytest.CaptureFixture[str]) -> None:
    session, client = session_with()
    talk_with(session, "a", "b", "/undo", "c", "/undo", "/undo", "/undo")

    assert client.asked[2] == [("user", "a"), ("assistant", "answer 1"), ("user", "c")]
    assert session.conversation.messages == []
    told = [line for line in capsys.readouterr().err.splitlines() if line]
    assert told == ["Forgotten: b", "Forgotten: c", "Forgotten: a", "There is nothing to forget."]


def test_slash_retry_asks_the_last_question_again_without_its_answer(capsys: pytest.CaptureFixture[str]) -> None:
    session, client = session_with()
    talk_with(session, "/retry", "a", "b", "/retry")

    assert client.asked[1] == client.asked[2]
    assert len(session.conversation.messages) == 4
    assert "There is no question to ask again." in capsys.readouterr().err


def test_slash_clear_forgets_all_but_the_system_message() -> None:
    session, client = session_with(system="s")
    talk_with(session, "a", "/clear", "b")
    assert client.asked[1] == [("system", "s"), ("user", "b")]


def test_slash_cost_and_help_tell(capsys: pytest.CaptureFixture[str]) -> None:
    session, client = session_with()
    talk_with(session, "/cost", "/HELP")
    out, err = capsys.readouterr()
    assert "$0.5" in err
    for name in ("/help", "/system", "/model", "/save", "/load", "/undo", "/retry", "/clear", "/cost", "/exit"):
        assert f"  {name} " in err
    assert max(map(len, err.splitlines())) < 80
    assert (out, client.asked) == ("", [])


def test_what_help_tells_stands_below_each_other_in_a_language_with_wide_letters_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = session_with()
    speak(
        monkeypatch,
        {
            "tell what there is": "显示帮助",
            "\\ at the end": "行末的 \\",
            "the next line belongs to the same message": "下一行仍属于同一条消息",
        },
    )
    talk_with(session, "/help")
    lines = capsys.readouterr().err.splitlines()
    assert "  /help           显示帮助" in lines
    assert "  行末的 \\        下一行仍属于同一条消息" in lines


@pytest.mark.parametrize("word", ["/exit", "/quit", "/EXIT", "/exit now"])
def test_slash_exit_ends_the_chat(word: str) -> None:
    session, client = session_with()
    talk_with(session, word, "a")
    assert client.asked == []


@pytest.mark.parametrize(
    ("typed", "words"),
    [("/sav", "did you mean /save?"), ("/udno", "did you mean /undo?"), ("/usr/bin/env", "is written with two")],
)
def test_an_unknown_command_is_not_asked(typed: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    session, client = session_with()
    talk_with(session, typed)
    assert client.asked == []
    assert words in capsys.readouterr().err


def test_two_slashes_begin_a_text() -> None:
    session, client = session_with()
    talk_with(session, "//usr/bin/env", "//", "a /help b")
    assert [asked[-1][1] for asked in client.asked] == ["/usr/bin/env", "/", "a /help b"]


def test_what_stands_in_a_block_is_no_command() -> None:
    session, client = session_with()
    talk_with(session, '"""', "/exit", '"""', "pasted\n/exit", "/exit\n")
    assert [asked[-1][1] for asked in client.asked] == ["/exit", "pasted\n/exit", "/exit"]


def test_blank_lines_ask_nothing_and_the_opening_is_asked_first() -> None:
    session, client = session_with()
    talk_with(session, "", "  ", "b", opening="/help me")
    assert [asked[-1][1] for asked in client.asked] == ["/help me", "b"]


def test_ctrl_c_at_the_prompt_clears_and_twice_says_how_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    session, client = session_with()
    talk_with(session, "half \\", KeyboardInterrupt, "a", KeyboardInterrupt)
    assert "[Ctrl-D or /exit" not in capsys.readouterr().err

    talk_with(session, KeyboardInterrupt, KeyboardInterrupt, "b")
    assert "[Ctrl-D or /exit ends the chat.]" in capsys.readouterr().err
    assert [asked[-1][1] for asked in client.asked] == ["a", "b"]


# --- files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_saved_conversation_goes_on_in_another_chat(folder: Path) -> None:
    session, _ = session_with("größer", system="s")
    talk_with(session, "a", "/save my chat.json")
    saved = folder / "my chat.json"
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert [one.name for one in folder.iterdir()] == ["my chat.json"]
    assert json.loads(saved.read_text("utf-8"))["model"] == "first"

    other, client = session_with()
    talk_with(other, "/load my chat.json", "b")
    assert client.asked == [[("system", "s"), ("user", "a"), ("assistant", "größer"), ("user", "b")]]


def test_a_file_of_somebody_else_is_not_overwritten_unless_told_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "notes.json").write_text("mine")
    session, _ = session_with()
    talk_with(session, "/save notes.json")
    assert "notes.json exists and is not of this chat; /save! notes.json overwrites it" in capsys.readouterr().err
    assert (folder / "notes.json").read_text() == "mine"

    talk_with(session, "/save! notes.json", "a", "/save notes.json", "b", "/save")
    assert len(json.loads((folder / "notes.json").read_text())["messages"]) == 4


def test_a_loaded_file_may_be_saved_to_again(folder: Path) -> None:
    (folder / "a.json").write_text('{"messages": [{"role": "user", "content": "x"}]}')
    session, _ = session_with()
    talk_with(session, "/load a.json", "/retry", "/save")
    assert len(json.loads((folder / "a.json").read_text())["messages"]) == 2


def test_a_link_stays_a_link(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link.json").symlink_to("real/chat.json")
    session, _ = session_with()
    talk_with(session, "/save! link.json", "/save link.json")
    assert (folder / "link.json").is_symlink()
    assert (folder / "real" / "chat.json").exists()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("/save", "Name the file: /save FILE"),
        ("/save!", "Name the file: /save FILE"),
        ("/save .", "is a folder"),
        ("/save none/a.json", "flexllm: none/a.json cannot be written: No such file or directory"),
        ("/save a\0b", "character that no path can"),
        ("/load", "Name the file: /load FILE"),
        ("/load none.json", "flexllm: none.json cannot be read: No such file or directory"),
        ("/load .", "cannot be read: Is a directory"),
        ("/load text.json", "flexllm: text.json is not JSON"),
        ("/load number.json", "flexllm: number.json: it holds no conversation"),
        ("/load object.json", "flexllm: object.json: it holds no conversation"),
        ("/load role.json", "flexllm: role.json: message 0 has the role 'boss'"),
    ],
)
def test_what_cannot_be_saved_or_loaded_is_told_and_nothing_is_lost(
    folder: Path, typed: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (
        ("text", "x"), ("number", "1"), ("object", "{}"), ("role", '[{"role": "boss", "content": "x"}]'),
    ):  # fmt: skip
        (folder / f"{name}.json").write_text(text)
    before = sorted(folder.iterdir())
    session, client = session_with()
    talk_with(session, "a", typed, "b")

    err = capsys.readouterr().err
    assert sum(words in line for line in err.splitlines()) == 1
    assert len(client.asked[1]) == 3
    assert sorted(folder.iterdir()) == before


MESSAGES = st.lists(
    st.builds(
        lambda role, text: {"role": role, "content": text}, st.sampled_from(["user", "assistant", "system"]), st.text()
    )
)


@given(MESSAGES)
def test_what_is_saved_is_what_is_loaded(messages: list[dict[str, Any]]) -> None:
    conversation = Conversation()
    conversation.load(messages)
    again = Conversation("other")
    again.load(json.loads(json.dumps(conversation.as_json("m"))))

    assert (again.system or None, again.messages) == (conversation.system or None, conversation.messages)


@given(MESSAGES)
def test_undoing_often_enough_leaves_no_question(messages: list[dict[str, Any]]) -> None:
    conversation = Conversation()
    conversation.load(messages)
    count = sum(message["role"] == "user" for message in conversation.messages)
    assert sum(conversation.undo() is not None for _ in range(count + 2)) == count
    assert all(message["role"] != "user" for message in conversation.messages)


# --- Tab


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("", []),
        ("hello", []),
        ("//", []),
        ("/s", ["/save ", "/system "]),
        ("/und", ["/undo"]),
        ("/x", []),
        ("/model ", ["/model first", "/model second"]),
        ("/model s", ["/model second"]),
        ("/system s", []),
        ("/load ", ["/load b.json", "/load sub/"]),
        ("/save b", ["/save b.json"]),
        ("/load sub/", ["/load sub/a file"]),
        ("/load sub/a fi", ["/load sub/a file"]),
        ("/load .h", ["/load .hidden"]),
        ("/load none/", []),
    ],
)
def test_tab_completes_commands_models_and_files(folder: Path, line: str, made: list[str]) -> None:
    (folder / "b.json").touch()
    (folder / ".hidden").touch()
    (folder / "sub").mkdir()
    (folder / "sub" / "a file").touch()
    session, _ = session_with()
    commands = Commands(session, ["second", "first"], CostReport)
    assert commands.completions(line) == made


# --- several lines as one message


def entered(*lines: str) -> tuple[Entry, list[str]]:
    """Return what is read of lines, and the prompts."""
    rest, prompts = iter(lines), []

    def read_line(prompt: str) -> str:
        prompts.append(prompt)
        for line in rest:
            return line
        raise EOFError

    return read_entry(read_line), prompts


@pytest.mark.parametrize(
    ("lines", "text", "may_be_command"),
    [
        (["one"], "one", True),
        ([" one  "], "one", True),
        (["one\\", "two\\", "three"], "one\ntwo\nthree", True),
        (["one \\"], "one", True),  # Ctrl-D
        (["C:\\\\"], "C:\\\\", True),  # two of them are two of them
        (["a\\\\\\", "b"], "a\\\\\nb", True),
        (['"""', "one", "", "  two", '"""'], "one\n\n  two", False),
        (['"""one', 'two"""'], "one\ntwo", False),
        (['"""one"""'], "one", False),
        (['  """', "/exit\\", '"""  '], "/exit\\", False),
        (['"""', "open"], "open", False),  # Ctrl-D
        (['say """'], 'say """', True),
        (["pasted\n/two\\"], "pasted\n/two\\", False),
        (['"""pasted"""\nmore'], '"""pasted"""\nmore', False),
        (["/system a\\", "b"], "/system a\nb", True),
    ],
)
def test_lines_are_put_together(lines: list[str], text: str, may_be_command: bool) -> None:
    assert entered(*lines)[0] == Entry(text, may_be_command)


def test_a_line_that_goes_on_has_another_prompt() -> None:
    assert entered("a\\", "b")[1] == ["> ", "... "]
    assert entered('"""', "b", '"""')[1] == ["> ", "... ", "... "]


def test_the_end_of_the_input_is_the_end() -> None:
    with pytest.raises(EOFError):
        entered()


@given(st.lists(st.text(alphabet='ab\\ "/'), min_size=1, max_size=6))
def test_a_block_holds_any_lines_that_do_not_end_it(lines: list[str]) -> None:
    lines = [line.replace('"""', "'''") + "." for line in lines]
    assert entered('"""', *lines, '"""')[0] == Entry("\n".join(lines), False)


# --- the history


def test_the_history_is_kept_for_the_next_chat_and_for_its_owner_alone(folder: Path) -> None:
    path = folder / "new" / "history"
    history = History(str(path))
    for text in ("one", "two\nlines", "größer", "größer"):
        history.add(text)

    assert History(str(path)).entries == ["one", "two\nlines", "größer"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_history_that_others_can_read_is_closed_to_them(folder: Path) -> None:
    path = folder / "history"
    path.touch(0o644)
    History(str(path)).add("one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_long_history_is_shortened_when_a_chat_begins(folder: Path) -> None:
    path = folder / "history"
    path.write_text("".join(f'"{number}"\n' for number in range(2 * MOST_KEPT + 5)))
    assert len(History(str(path)).entries) == MOST_KEPT
    assert path.read_text().splitlines()[-1] == f'"{2 * MOST_KEPT + 4}"'
    assert len(path.read_text().splitlines()) == MOST_KEPT


def test_a_history_that_cannot_be_used_stops_nobody(folder: Path) -> None:
    (folder / "history").write_bytes(b'"one"\n\xff\n{}\n[[[\n"half')
    assert History(str(folder / "history")).entries == ["one"]
    for path in (folder, "/proc/none/history", "~nobody-of-that-name/history"):
        History(str(path)).add("one")


def test_a_text_that_looks_like_a_command_comes_back_as_a_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(['"""', "/exit", '"""', "/undo", "/undo"])
    history = History(str(folder / "history"))
    editor = Editor(lambda line: [], history)
    monkeypatch.setattr(editor, "_line", lambda prompt: next(lines))
    assert [editor.entry().text for _ in range(3)] == ["/exit", "/undo", "/undo"]
    assert history.entries == ["//exit", "/undo"]


# --- through a pipe


def test_lines_of_a_pipe_are_questions_and_none_is_a_command() -> None:
    session, client = session_with()
    answer_lines(session, ["a", "/exit"])
    assert [asked[-1][1] for asked in client.asked] == ["a", "/exit"]


def test_the_first_failure_ends_a_chat_through_a_pipe() -> None:
    session, client = session_with("one", RequestError("down"))
    with pytest.raises(RequestError):
        answer_lines(session, ["a", "b", "c"])
    assert len(client.asked) == 2


def test_an_input_error_changes_nothing() -> None:
    conversation = Conversation("s")
    conversation.add("a", {"role": "assistant", "content": "b"})
    with pytest.raises(InputError):
        conversation.load([{"role": "user"}])
    assert (conversation.system, len(conversation.messages)) == ("s", 2)
