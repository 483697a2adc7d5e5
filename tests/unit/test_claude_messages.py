"""Conversations in OpenAI's form become turns that Anthropic takes, or are refused; generated ones too."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest
from generated import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.chat import ChatRequest
from flexllm.errors import InputError
from flexllm.providers.claude import ClaudeProvider
from flexllm.wire import Headers, Target

MARK = {"type": "ephemeral"}


def build(
    messages: list[dict[str, Any]], model: str = "claude-haiku-4-5", headers: Headers = (), **params: Any
) -> dict[str, Any]:
    target = Target(base_url="https://api.anthropic.com", api_key="k", headers=headers)
    body: dict[str, Any] = json.loads(
        ClaudeProvider().build(ChatRequest(messages, model, params), target, stream=False).body
    )
    return body


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any, *calls: str, **more: Any) -> dict[str, Any]:
    made = [{"id": one, "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}} for one in calls]
    return {"role": "assistant", "content": content, **({"tool_calls": made} if calls else {}), **more}


def tool(call_id: str, content: Any = "1", **more: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content, **more}


def text(value: Any, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **more}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def file(**fields: str) -> dict[str, Any]:
    return {"type": "file", "file": fields}


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"role": "system", "content": "Be brief."}], "no message is left to be sent"),
        ([user("")], "message 0 (role 'user') is empty"),
        ([user([text(" ")])], "message 0 (role 'user') is empty"),
        ([assistant(None)], "no message is left"),
        (
            [user("Hi"), assistant("Hello"), user(" "), assistant("Well?"), user("b")],
            "message 2 (role 'user') is empty",
        ),
        ([assistant("Hello"), user("Hi")], "message 0 is the first and the assistant's"),
        ([user("Go"), assistant(None, "a", "b"), tool("a"), user("And?")], "the tool call 'b' has no answer"),
        ([user("Go"), assistant(None, "a")], "the tool call 'a' has no answer"),
        ([user("Go"), assistant(None, "a"), assistant("Hm"), tool("a")], "the tool call 'a' has no answer"),
        ([user("Go"), tool("a")], "message 1 answers the tool call 'a', which is not in"),
        ([user("Go"), assistant(None, "a"), tool("a"), assistant("Hm"), tool("a")], "message 4 answers"),
        ([user("Go"), assistant(None, "a"), tool("a"), tool("a")], "message 3 answers the tool call 'a' a second time"),
        ([user("Go"), assistant(None, "a"), {"role": "tool", "content": "1"}], "answers the tool call ''"),
        ([user("Go"), assistant(None, "a", "a")], "two tool calls with the id 'a'"),
        ([user("Go"), assistant(None, "")], "a tool call without an id"),
        ([user("Go"), assistant("Hm", function_call={"name": "f"})], "give tool_calls"),
        ([user("Go"), {"role": "function", "name": "f", "content": "1"}], "message 1"),
        ([user("Hi", name="Ann")], "message 0 has a name"),
        ([{"role": "system", "content": [image("https://a/b.png")]}, user("Hi")], "message 0 is the system's"),
        ([user("Hi"), assistant([image("https://a/b.png")]), user("b")], "message 1 is the assistant's"),
        ([user("Hi"), assistant(None, audio={"id": "a"}), user("b")], "message 1 has 'audio'"),
        ([user([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}])], "no sound or video"),
        ([user([{"type": "video_url", "video_url": {"url": "https://a/b.mp4"}}])], "no sound or video"),
        ([user([{"type": "video", "video": ["https://a/b.jpg"]}])], "no sound or video"),
        ([user([{"type": "audio_url", "audio_url": {"url": "https://a/b.wav"}}])], "no sound or video"),
        ([user([{"type": "audio", "audio": {"id": "a"}}])], "no sound or video"),
        ([user([{"type": "input_video", "input_video": {"data": ""}}])], "no sound or video"),
        ([user([image("data:image/tiff;base64,SUkqAA==")])], "JPEG, PNG, GIF and WebP"),
        ([user([image("data:image/png,abc")])], "neither a data URI in base64"),
        ([user([image("/home/me/a.png")])], "http(s) URL: '/home/me/a.png'"),
        ([user([image("ftp://a/b.png")])], "http(s) URL: 'ftp://a/b.png'"),
        ([user([{"type": "image_url", "image_url": {}}])], "an image_url without a URL"),
        ([user([{"type": "image_url"}])], "an image_url without a URL"),
        ([user([{"type": "image", "image": "x"}])], "'image' without a source"),
        ([user([{"type": "document"}])], "'document' without a source"),
        ([user([file(file_data="data:application/zip;base64,UEsDBA==")])], "a file of type 'application/zip'"),
        ([user([file(filename="a.pdf")])], "a file without file_data and file_id"),
        ([user([{"type": "file"}])], "a file part that is no object"),
        ([user([file(file_data="a.pdf")])], "a file that is neither"),
        ([user([file(file_data="data:text/plain;base64,/w==")])], "not base64 of UTF-8"),
        ([user([file(file_data="data:text/plain;base64,%%%")])], "not base64 of UTF-8"),
        ([user([file(file_data="data:text/plain;base64,")])], "a text file that is empty"),
        ([user([{"text": "Hi"}])], "a part without a type"),
        ([user([{"type": ["text"]}])], "a part without a type"),
        ([user([text(7)])], "whose text is of type int"),
        ([user([text("", cache_control=MARK), text("a")])], "an empty text with cache_control"),
        ([user("Hi"), assistant("x", native={"claude": ["x"]}), user("b")], "no content block"),
        ([user("Go"), assistant("x"), {"role": "critic", "content": "b"}], "the role 'critic'"),
    ],
)
def test_a_conversation_that_anthropic_would_refuse_is_refused(messages: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(InputError) as caught:
        build(messages)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400
    assert not str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [("{", "are not JSON"), ("[1]", "must be a JSON object"), ("7", "must be a JSON object")],
)
def test_arguments_of_a_call_must_be_an_object(arguments: str, said: str) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    with pytest.raises(InputError, match=said):
        build([user("Go"), {"role": "assistant", "content": None, "tool_calls": [call]}, tool("a")])


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (
            [user("Hi"), assistant([{"type": "document", "source": {"type": "file", "file_id": "f"}}]), user("b")],
            "document",
        ),
        ([user([text("a", citations=[{"type": "char_location"}])])], "citations"),
    ],
)
def test_the_new_version_of_the_api_refuses_more(messages: list[dict[str, Any]], said: str) -> None:
    assert build(messages)["messages"]
    with pytest.raises(InputError, match=said):
        build(messages, headers=(("anthropic-version", "2026-10-21"),))


def test_empty_citations_are_taken_by_the_new_version_too() -> None:
    messages = [user([text("a", citations=[]), text("b", citations=None)])]
    assert build(messages, headers=(("anthropic-version", "2026-10-21"),))["messages"] == messages


# --- the beginning of an answer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["claude-3-opus-20240229", "claude-haiku-4-5", "claude-opus-4-5", "deepseek-chat"])
@pytest.mark.parametrize("more", [{}, {"prefix": True}])
def test_the_beginning_of_an_answer_is_sent_where_it_is_taken(model: str, more: dict[str, Any]) -> None:
    messages = [user("Hi"), assistant("The answer", **more)]
    assert build(messages, model=model)["messages"] == [user("Hi"), assistant("The answer")]


@pytest.mark.parametrize("model", ["claude-opus-4-6", "claude-sonnet-5-5", "claude-fable-5-2", "claude-opus-9"])
def test_new_models_go_on_with_no_beginning(model: str) -> None:
    with pytest.raises(InputError, match=f"{model} does not go on with a text that is begun"):
        build([user("Hi"), assistant("The answer")], model=model)


@pytest.mark.parametrize("end", [" ", "\n", "\t", "\u3000"])
def test_a_beginning_that_ends_with_blanks_is_refused(end: str) -> None:
    for content in (f"The{end}", [text("The"), text(f"answer{end}")]):
        with pytest.raises(InputError, match="ends with a blank"):
            build([user("Hi"), assistant(content)])


def test_a_beginning_does_not_go_with_a_budget_unless_it_begins_with_thoughts() -> None:
    for thinking in (True, 2000, {"type": "enabled", "budget_tokens": 2000}):
        with pytest.raises(InputError, match="does not go with thinking"):
            build([user("Hi"), assistant("The")], thinking=thinking)
    thoughts = {"type": "thinking", "thinking": "Hm", "signature": "c2ln"}
    assert (
        build([user("Hi"), assistant([thoughts, text("The")])], thinking=True)["messages"][1]["content"][0] == thoughts
    )


def test_a_budget_wants_the_thoughts_of_the_turn_whose_tools_are_answered() -> None:
    thoughts = {"type": "thinking", "thinking": "Hm", "signature": "c2ln"}
    use = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    foreign = [user("Go"), assistant("Hm", "a"), tool("a"), user("And?")]
    own = [user("Go"), assistant("Hm", "a", native={"claude": [thoughts, use]}), tool("a")]
    with pytest.raises(InputError, match="wants the thoughts of the turn"):
        build(foreign, thinking=True)
    for messages, params in (
        (own, {"thinking": True}),
        (foreign, {}),
        (foreign, {"thinking": True, "model": "claude-sonnet-4-6"}),
        (foreign, {"thinking": True, "model": "glm-5"}),
        ([*foreign, assistant("Done"), user("Thanks")], {"thinking": True}),
    ):
        assert build(messages, **params)["messages"]


def test_a_paused_turn_is_sent_back_whatever_the_model() -> None:
    paused = [text("Let me look."), {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}]
    for message in (assistant("Let me look.", native={"claude": paused}), assistant(paused)):
        body = build([user("Search"), message], model="claude-sonnet-5-5", thinking="low")
        assert body["messages"][-1] == {"role": "assistant", "content": paused}


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_marks_for_the_cache_stay_where_they_are() -> None:
    messages = [
        {"role": "system", "content": [text("s", cache_control=MARK)]},
        user([text("a", cache_control=MARK), {**image("https://a/b.png"), "cache_control": MARK}]),
        assistant([text("b", cache_control=MARK)], "c"),
        tool("c", [text("d", cache_control=MARK)], cache_control=MARK),
        user([{**file(file_id="f"), "cache_control": MARK}]),
    ]
    body = build(messages)
    assert json.dumps(body).count('"cache_control"') == json.dumps(messages).count('"cache_control"') == 7
    assert body["messages"][2]["content"][0]["cache_control"] == MARK


def test_what_another_provider_wants_back_is_not_sent() -> None:
    turn = assistant("Hm", reasoning_content="secret thoughts", native={"gemini": [{"text": "secret"}]})
    assert "secret" not in json.dumps(build([user("Go"), turn, user("On")]))


def test_a_turn_of_its_own_is_sent_back_in_place_of_everything_else() -> None:
    blocks = [
        {"type": "redacted_thinking", "data": "x"},
        {"type": "tool_use", "id": "odd id!", "name": "f", "input": {}},
    ]
    turn = assistant("other", "other call", native={"claude": blocks, "gemini": [{}]})
    body = build([user("Go"), turn, tool("odd id!")])
    assert body["messages"][1]["content"] == blocks
    assert body["messages"][2]["content"][0]["tool_use_id"] == "odd id!"


def test_a_result_in_anthropics_form_finds_a_call_in_openais() -> None:
    result = {"type": "tool_result", "tool_use_id": "functions.f:0", "content": "1"}
    body = build([user("Go"), assistant(None, "functions.f:0"), user([text("Well?"), result])])
    check_rules(body)
    assert body["messages"][2]["content"][0]["content"] == "1"


def test_an_empty_answer_in_between_is_left_out() -> None:
    for nothing in (assistant(None), assistant(""), assistant([]), assistant([text("\n")]), assistant("", native={})):
        body = build([user("a"), nothing, user("b")])
        assert body["messages"] == [user([text("a"), text("b")])]


def test_an_empty_message_is_no_hindrance_where_its_turn_says_something() -> None:
    body = build([user(""), user("a"), assistant("b"), user("c"), user([])])
    assert body["messages"] == [user("a"), assistant("b"), user("c")]


def test_building_changes_no_message() -> None:
    messages = [
        {"role": "system", "content": [text("a"), text("b")], "cache_control": MARK},
        user([text("a")], cache_control=MARK),
        user("b"),
        assistant([text("c")], "x:1", cache_control=MARK),
        tool("x:1", [text("1")]),
        user([text("d")]),
    ]
    before = json.dumps(messages)
    build(messages)
    assert json.dumps(messages) == before


# --- generated conversations ------------------------------------------------------------------------------------------

TEXTS = st.sampled_from(["", " ", "\n\t", "a", "b c", "Grüße 世界", " d ", "x" * 50])
IDS = st.sampled_from(["call_0", "call_1", "functions.f:0", "functions.f/0", "ü", "toolu_01AbC-x", "a b", "a_b"])
PARTS = st.one_of(
    TEXTS.map(text),
    TEXTS,
    st.sampled_from([image("https://a/b.png"), image("data:image/png;base64,AAAA"), file(file_id="f")]),
)
CONTENTS = st.one_of(TEXTS, st.lists(PARTS, max_size=3))
TEXT_CONTENTS = st.one_of(TEXTS, st.lists(st.one_of(TEXTS.map(text), TEXTS), max_size=3))


@st.composite
def rounds(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A user's message, what the assistant says to it and, if it calls tools, their answers in any order."""
    messages = [user(draw(CONTENTS)) for _ in range(draw(st.integers(0, 2)))]
    if draw(st.booleans()):
        messages.append({"role": draw(st.sampled_from(["system", "developer"])), "content": draw(TEXT_CONTENTS)})
    calls = draw(st.lists(IDS, max_size=3, unique=True))
    messages.append(assistant(draw(st.one_of(st.none(), TEXT_CONTENTS)), *calls))
    answers = [tool(one, draw(CONTENTS)) for one in draw(st.permutations(calls))]
    if answers and draw(st.booleans()):
        answers.insert(draw(st.integers(0, len(answers))), user(draw(CONTENTS)))
    return messages + answers


CONVERSATIONS = st.lists(rounds(), max_size=4).flatmap(
    lambda made: CONTENTS.map(lambda last: [user("Hi"), *(message for one in made for message in one), user(last)])
)
DISORDER = st.lists(
    st.one_of(
        CONTENTS.map(user),
        st.builds(lambda content, calls: assistant(content, *calls), TEXT_CONTENTS, st.lists(IDS, max_size=2)),
        st.builds(tool, IDS, CONTENTS),
        TEXT_CONTENTS.map(lambda content: {"role": "system", "content": content}),
    ),
    max_size=6,
)


def blocks_of(content: Any) -> list[dict[str, Any]]:
    return [text(content)] if isinstance(content, str) else content


def check_rules(body: dict[str, Any]) -> None:
    """What Anthropic asks of every request."""
    turns = body["messages"]
    assert [turn["role"] for turn in turns] == [("user", "assistant")[at % 2] for at in range(len(turns))]
    assert turns
    made: list[str] = []
    pending: list[str] = []
    for turn in turns:
        blocks = blocks_of(turn["content"])
        assert blocks
        inner = [one for block in blocks for one in blocks_of(block.get("content", []))]
        assert all(one["text"].strip() for one in [*blocks, *inner] if one["type"] == "text")
        kinds = [block["type"] for block in blocks]
        if turn["role"] == "assistant":
            assert "tool_result" not in kinds
            pending = [block["id"] for block in blocks if block["type"] == "tool_use"]
            made += pending
        else:
            assert "tool_use" not in kinds
            results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
            assert kinds[: len(results)] == ["tool_result"] * len(results)
            assert sorted(results) == sorted(pending)
            pending = []
    assert pending == []
    assert len(set(made)) == len(made)
    assert all(re.fullmatch("[a-zA-Z0-9_-]+", one) for one in made)
    assert body.get("system", "x")


def texts_in(value: Any) -> Counter[str]:
    """Every text that says something, wherever it stands."""
    if isinstance(value, str):
        return Counter([value] if value.strip() else [])
    found: Counter[str] = Counter()
    for part in value or []:
        found += texts_in(part if isinstance(part, str) else part.get("text", part.get("content", "")))
    return found


@pytest.mark.slow
@settings(max_examples=examples(300))
@given(CONVERSATIONS)
def test_a_conversation_in_order_is_sent_by_the_rules_and_whole(messages: list[dict[str, Any]]) -> None:
    try:
        body = build(messages)
    except InputError as error:
        if "is empty" not in str(error):
            raise
        return
    check_rules(body)
    said = [message["content"] for message in messages if message["role"] in ("user", "assistant", "tool")]
    assert sum(map(texts_in, said), Counter()) == sum(
        (texts_in(turn["content"]) for turn in body["messages"]), Counter()
    )
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    assert json.dumps(body).count('"tool_use"') == json.dumps(body).count('"tool_result"') == len(calls)


@pytest.mark.slow
@settings(max_examples=examples(300))
@given(DISORDER)
def test_a_conversation_in_disorder_is_sent_by_the_rules_or_refused(messages: list[dict[str, Any]]) -> None:
    try:
        body = build(messages)
    except InputError:
        return
    check_rules(body)


@given(st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=6, unique=True))
def test_ids_that_differ_still_differ_on_the_wire_and_answers_find_their_calls(ids: list[str]) -> None:
    body = build([user("Go"), assistant(None, *ids), *(tool(one, f"for {one!r}") for one in reversed(ids))])
    check_rules(body)
    made = [block["id"] for block in body["messages"][1]["content"]]
    results = {block["tool_use_id"]: block["content"] for block in body["messages"][2]["content"]}
    assert [results[one] for one in made] == [f"for {one!r}" for one in ids]
