"""Gemini's provider: what payloads say badly. Families of models, refusals, the shape of conversations, streams."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from generated import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.chat import ChatCompletionResult, ChatRequest, Chunk, collect
from flexllm.errors import ApiStatusError, InputError, MalformedResponse, RateLimited
from flexllm.messages import normalise_messages
from flexllm.providers.gemini import DEFAULT_BASE_URL, GeminiProvider
from flexllm.providers.gemini.contents import NO_SIGNATURE, read_conversation
from flexllm.providers.gemini.models import find_family
from flexllm.sse import ServerSentEvent
from flexllm.wire import HttpResponse, Target

HI = [{"role": "user", "content": "Hi"}]
NEWEST = "gemini-3.8-flash"
VERTEX = "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google"


def built(messages: Any = HI, model: str = NEWEST, base_url: str = DEFAULT_BASE_URL, **params: Any) -> dict[str, Any]:
    request = ChatRequest(messages, model, params)
    body: dict[str, Any] = json.loads(GeminiProvider().build(request, Target(base_url=base_url), stream=False).body)
    return body


def parsed(body: Any) -> ChatCompletionResult:
    return GeminiProvider().parse(HttpResponse(200, {}, json.dumps(body).encode()))


def streamed(*bodies: Any) -> ChatCompletionResult:
    events = (ServerSentEvent("", json.dumps(body)) for body in bodies)
    return collect(GeminiProvider().chunks(events))


# --- thinking ---------------------------------------------------------------------------------------------------------


def level(name: str) -> dict[str, Any]:
    return {"thinkingLevel": name, "includeThoughts": True}


def budget(tokens: int) -> dict[str, Any]:
    return {"thinkingBudget": tokens, "includeThoughts": True}


OFF = {"thinkingBudget": 0}
ON = {"includeThoughts": True}
FLASH_25 = {False: OFF, True: budget(-1), "minimal": budget(1024), "low": budget(2048), "high": budget(16_384),
            "max": budget(24_576), 2: budget(2), 24_576: budget(24_576), 24_577: InputError}  # fmt: skip
PRO_25 = {False: InputError, True: budget(-1), "minimal": budget(1024), "max": budget(32_768), 127: InputError,
          128: budget(128), 32_768: budget(32_768), 32_769: InputError}  # fmt: skip
FLASH_3 = {False: OFF, True: ON, "minimal": level("MINIMAL"), "low": level("LOW"), "medium": level("MEDIUM"),
           "high": level("HIGH"), "xhigh": level("HIGH"), "max": level("HIGH"), 512: InputError}  # fmt: skip
LATER_FLASH_3 = {**FLASH_3, False: {"thinkingLevel": "MINIMAL"}}
WITHOUT_MINIMAL = {**FLASH_3, False: {"thinkingLevel": "LOW"}, "minimal": level("LOW")}
PRO_3 = {**WITHOUT_MINIMAL, "medium": level("HIGH")}
NONE = {False: None, True: InputError, "low": InputError, 512: InputError}
UNKNOWN = {False: OFF, True: ON, "minimal": level("MINIMAL"), "max": level("XHIGH"), 7: budget(7)}

FAMILIES = [
    (FLASH_25, "gemini-2.5-flash gemini-2.5-flash-lite gemini-2.5-flash-preview-09-2025 models/gemini-2.5-flash"),
    (PRO_25, "gemini-2.5-pro gemini-2.5-pro-preview-06-05 publishers/google/models/gemini-2.5-pro GEMINI-2.5-PRO"),
    (FLASH_3, "gemini-3-flash gemini-3-flash-preview"),
    (LATER_FLASH_3, "gemini-3.1-flash-lite gemini-3.5-flash"),
    (WITHOUT_MINIMAL, "gemini-3.7-flash gemini-3.8-flash gemini-3.1-pro-preview gemini-4-argon gemini-4-carbon"),
    (PRO_3, "gemini-3-pro-preview google/gemini-3-pro-preview"),
    (NONE, "gemini-2.0-flash gemini-2.0-flash-001 gemini-1.5-pro-002 gemini-1.5-pro@001 gemini-pro gemma-3-27b-it"),
    (NONE, "gemini-2.5-flash-image gemini-2.5-flash-image-preview gemini-exp-1206"),
    (WITHOUT_MINIMAL, "gemini-5-neon gemini-3.9-flash gemini-12.1-x gemini-flash-latest"),
    (UNKNOWN, "house-model-7 llama-4"),
]


@pytest.mark.parametrize(
    ("model", "thinking", "expected"),
    [
        pytest.param(model, thinking, expected, id=f"{model}-{thinking}")
        for table, models in FAMILIES
        for model in models.split()
        for thinking, expected in table.items()
    ],
)
def test_thinking_is_said_in_the_words_of_the_models_family(model: str, thinking: Any, expected: Any) -> None:
    if expected is InputError:
        with pytest.raises(InputError, match=r"think|token|strength"):
            built(model=model, thinking=thinking)
        return
    assert built(model=model, thinking=thinking).get("generationConfig", {}).get("thinkingConfig") == expected


def test_thinking_is_switched_off_on_vertex_where_only_vertex_can() -> None:
    for model, said in (("gemini-3.1-pro-preview", OFF), (NEWEST, {"thinkingLevel": "LOW"})):
        assert built(model=model, base_url=VERTEX, thinking=False)["generationConfig"]["thinkingConfig"] == said


@pytest.mark.parametrize("word", ["thinkingConfig", "thinking_config"])
def test_an_own_thinking_config_goes_unchecked_to_any_model(word: str) -> None:
    own = {"thinkingLevel": "XHIGH", "brandNew": 1}
    for model in ("gemini-2.0-flash", NEWEST, "llama-4"):
        assert built(model=model, **{word: own})["generationConfig"] == {"thinkingConfig": own}
        assert built(model=model, thinking=own)["generationConfig"] == {"thinkingConfig": own}
        with pytest.raises(InputError, match="thinking and thinkingConfig"):
            built(model=model, thinking=False, **{word: own})


@given(st.text(max_size=40))
def test_any_name_has_a_family(name: str) -> None:
    find_family(name)
    find_family(f"gemini-{name}")


# --- what is refused --------------------------------------------------------------------------------------------------

PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def call(call_id: str, name: str = "a", arguments: Any = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*made: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(made), **more}


def answer(call_id: str, content: Any = "1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


@pytest.mark.parametrize(
    ("said", "params"),
    [
        ("prediction cannot be said", {"prediction": {"type": "content", "content": "x"}}),
        ("labels", {"safety_identifier": "u"}),
        ("labels", {"metadata": {"a": "b"}}),
        ("cachedContent", {"prompt_cache_key": "k"}),
        ("speechConfig", {"audio": {"voice": "alloy"}}),
        ("verbosity", {"verbosity": "low"}),
        ("googleSearch", {"web_search_options": {}}),
        ("give 'tools'", {"functions": [{"name": "f"}]}),
        ("tool_choice", {"function_call": "auto"}),
        ("messages", {"contents": []}),
        ("cachedContent", {"prompt_cache_options": {"mode": "explicit"}}),
        ("stop must be", {"stop": [1]}),
        ("stop must be", {"stop": {"a": 1}}),
        ("generationConfig must be an object", {"generationConfig": [1]}),
        ("toolConfig must be an object", {"toolConfig": "AUTO", "tools": [TOOL], "tool_choice": "auto"}),
        ("response_format", {"response_format": "json"}),
        ("json_schema.schema", {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}),
        ("json_schema.schema", {"response_format": {"type": "json_schema"}}),
        ("logprobs must be True", {"top_logprobs": 2}),
        ("logprobs must be True", {"logprobs": 2}),
        ("logprobs must be True", {"logprobs": False, "generationConfig": {"logprobs": 2}}),
        ("not both", {"model": "gemini-2.5-pro", "tools": [TOOL], "response_format": {"type": "json_object"}}),
        ("no tool such as", {"tools": ["f"]}),
        ("no tool such as", {"tools": [{}]}),
        ("tools must be a list", {"tools": TOOL}),
        ("needs a function", {"tools": [{"type": "function"}]}),
        ("cannot be called '1st'", {"tools": [{"type": "function", "function": {"name": "1st"}}]}),
        ("cannot be called", {"tools": [{"type": "function", "function": {"name": "a" * 129}}]}),
        ("JSON schema", {"tools": [{"type": "function", "function": {"name": "f", "parameters": "x"}}]}),
        ("not understood", {"tools": [TOOL], "tool_choice": "maybe"}),
        ("not understood", {"tools": [TOOL], "tool_choice": {"type": "custom", "custom": {"name": "c"}}}),
        ("not understood", {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "x"}}}),
        (
            "not understood",
            {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}},
        ),
        ("not understood", {"tools": [TOOL], "tool_choice": {"allowed_tools": {"mode": "auto", "tools": [TOOL]}}}),
        ("names no function", {"tools": [TOOL], "tool_choice": {"type": "function"}}),
        ("no function in tools", {"tool_choice": "required"}),
        ("does not hold", {"tools": [{"googleSearch": {}}], "tool_choice": "none"}),
        ("does not hold", {"tools": [TOOL, {"googleSearch": {}}], "tool_choice": "none"}),
        ("not among the tools", {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        ("reasoning_effort=3", {"reasoning_effort": 3}),
        ("reasoning_effort='much'", {"reasoning_effort": "much"}),
        ("reasoning_effort=[]", {"reasoning_effort": []}),
        ("not understood", {"thinking": "a lot"}),
        ("not understood", {"thinking": -1}),
    ],
)
def test_a_parameter_that_gemini_cannot_take_is_refused(said: str, params: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        built(**params)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("said", "messages"),
    [
        ("text alone", [{"role": "system", "content": [PNG]}, *HI]),
        ("is empty", [{"role": "user", "content": [{"type": "text", "text": ""}]}]),
        ("has a name", [{"role": "user", "name": "bob", "content": "a"}]),
        ("role 'function'", [*HI, {"role": "function", "content": "a"}]),
        ("tool_calls", [*HI, {"role": "assistant", "content": None, "function_call": {"name": "f"}}]),
        ("has no answer", [*HI, calls(call("c1"))]),
        ("'c1'", [*HI, calls(call("c1")), answer("c1"), answer("c1")]),
        ("must be a JSON object", [*HI, calls(call("c1", arguments="[1]")), answer("c1")]),
        ("needs a function", [*HI, calls({"id": "c1", "type": "custom", "custom": {"name": "a"}}), answer("c1")]),
        ("not a list", [*HI, {"role": "assistant", "tool_calls": {"id": "c1"}}]),
        ("take its 'native' out", [*HI, calls(call("a"), native={"gemini": [{"text": "x"}]}), answer("a")]),
        ("not an object", [*HI, calls(native={"gemini": [{"functionCall": "x"}]})]),
    ],
)
def test_a_conversation_that_gemini_cannot_take_is_refused(said: str, messages: Any) -> None:
    with pytest.raises(InputError) as caught:
        built(messages)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ("needs a data URI or a URL, not NoneType", {"type": "image_url", "image_url": {}}),
        ("needs a data URI or a URL, not ''", {"type": "image_url", "image_url": ""}),
        ("needs a data URI or a URL", {"type": "video_url", "video_url": {"url": "ftp://host/a.mp4"}}),
        ("needs a data URI or a URL", {"type": "file", "file": {"file_data": "JVBERg=="}}),
        ("not base64", {"type": "file", "file": {"file_data": "data:text/plain,hello"}}),
        ("names no medium", {"type": "image_url", "image_url": {"url": "data:;base64,AAAA"}}),
        ("without data", {"type": "input_audio", "input_audio": {"format": "wav"}}),
        ("without data", {"type": "input_audio"}),
        ("without a format", {"type": "input_audio", "input_audio": {"data": "AAAA"}}),
        ("without a format", {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "a/b"}}),
        ("without a file", {"type": "file"}),
        ("cannot find", {"type": "file", "file": {}}),
        ("'image'", {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}),
        ("holds no text", {"type": "text", "text": {"a": 1}}),
        ("without a type", {"txt": "a"}),
        ("type '[]'", {"type": [], "text": "a"}),
    ],
)
def test_a_part_that_gemini_cannot_take_is_refused(said: str, part: Any) -> None:
    with pytest.raises(InputError) as caught:
        built([{"role": "user", "content": ["a", part]}])
    assert said in str(caught.value)
    assert "message 0" in str(caught.value)


def test_what_older_models_cannot_do_at_once_the_newest_and_unknown_ones_may() -> None:
    asked = {"tools": [TOOL, {"googleSearch": {}}], "response_format": {"type": "json_object"}}
    for model in ("gemini-3-pro-preview", NEWEST, "house-model-7"):
        assert built(model=model, **asked)["generationConfig"] == {"responseMimeType": "application/json"}


def test_a_number_of_logprobs_that_is_none_says_nothing() -> None:
    assert "generationConfig" not in built(logprobs=False, top_logprobs=0)


def test_cached_content_brings_its_own_system_text() -> None:
    assert built(cachedContent="cachedContents/a")["cachedContent"] == "cachedContents/a"
    with pytest.raises(InputError, match="cachedContent and systemInstruction"):
        built([{"role": "system", "content": "a"}, *HI], cachedContent="cachedContents/a")


def test_a_hidden_half_character_in_the_models_name_is_refused() -> None:
    with pytest.raises(InputError, match="surrogate"):
        built(model="a\ud83d")


# --- conversations ----------------------------------------------------------------------------------------------------

TEXTS = st.sampled_from(["", " ", "a", "é🌍", "{}"])
USER_CONTENT = TEXTS | st.lists(
    st.sampled_from(["", "b", {"type": "text", "text": "c"}, {"type": "text", "text": ""}, PNG]), min_size=1, max_size=3
)
SYSTEM = st.builds(lambda text: {"role": "system", "content": text}, TEXTS)
USER = st.builds(lambda content: {"role": "user", "content": content}, USER_CONTENT)
SIGNED = [{"text": "t", "thought": True}, {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "c2ln"}]


@st.composite
def steps(draw: st.DrawFn) -> list[dict[str, Any]]:
    """An assistant's turn, with the answers of its tools in any order."""
    if draw(st.booleans()):
        return [{"role": "assistant", "content": draw(TEXTS)}]
    if draw(st.integers(0, 4)) == 0:
        return [calls(call("made_x_0", "f"), native={"gemini": copy.deepcopy(SIGNED)}), answer("made_x_0")]
    ids = draw(
        st.lists(st.sampled_from(["c1", "c2", "made_1", ""]), min_size=1, max_size=3, unique=draw(st.booleans()))
    )
    made = [call(one, f"f{number}", draw(st.sampled_from(['{"a": 1}', "", None]))) for number, one in enumerate(ids)]
    answers = [answer(one, draw(TEXTS | st.just([PNG]))) for one in draw(st.permutations(ids))]
    return [calls(*made, content=draw(TEXTS)), *answers]


TURNS = st.lists(st.one_of(SYSTEM.map(lambda one: [one]), USER.map(lambda one: [one]), steps()), max_size=6)
CONVERSATIONS = TURNS.map(lambda turns: [message for turn in turns for message in turn])


def check_rules(contents: list[dict[str, Any]], model: str) -> None:
    """Assert what Gemini demands of contents."""
    assert contents[0]["role"] == "user"
    said = [one["role"] == "user" and any("text" in part for part in one["parts"]) for one in contents]
    last_user = max((at for at, is_said in enumerate(said) if is_said), default=0)
    for at, content in enumerate(contents):
        assert content["role"] == ("user", "model")[at % 2], "roles alternate"
        assert content["parts"]
        assert {"text": ""} not in content["parts"]
        made = [part["functionCall"] for part in content["parts"] if "functionCall" in part]
        assert not made or content["role"] == "model"
        given = responses(contents[at + 1]) if at + 1 < len(contents) and content["role"] == "model" else []
        assert [(one.get("id"), one["name"]) for one in made] == [(one.get("id"), one["name"]) for one in given]
        assert all(isinstance(one["args"], dict) for one in made)
        assert all(isinstance(one["response"], dict) for one in given)
        if made and at > last_user and model == NEWEST:
            assert next(part for part in content["parts"] if "functionCall" in part)["thoughtSignature"]
    assert not responses(contents[0])


def responses(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [part["functionResponse"] for part in content["parts"] if "functionResponse" in part]


@pytest.mark.slow
@settings(max_examples=examples(300))
@given(CONVERSATIONS, st.sampled_from([NEWEST, "gemini-2.5-pro", "llama-4"]), st.data())
def test_any_conversation_is_one_that_gemini_takes_or_is_refused(
    messages: list[dict[str, Any]], model: str, data: st.DataObject
) -> None:
    if messages and data.draw(st.booleans()):
        messages.pop(data.draw(st.integers(0, len(messages) - 1)))
    before = copy.deepcopy(messages)
    try:
        checked = normalise_messages(messages)
        system, contents = read_conversation(checked, model)
    except InputError:
        return
    finally:
        assert messages == before
    check_rules(contents, model)
    assert "" not in system
    ids = [one.get("id", "") for content in contents for one in responses(content)]
    assert not any(one.startswith("made_") for one in ids)


@pytest.mark.slow
@settings(max_examples=examples(100))
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), steps()), min_size=1, max_size=4))
def test_a_conversation_without_empty_turns_is_taken(turns: list[tuple[str, list[dict[str, Any]]]]) -> None:
    messages: list[dict[str, Any]] = []
    for text, step in turns:
        first = {**step[0], "content": step[0]["content"] or "text"}
        messages += [{"role": "user", "content": text}, first, *step[1:]]
    check_rules(read_conversation(messages, NEWEST)[1], NEWEST)


def test_signed_parts_stay_apart_and_what_the_caller_keeps_is_not_changed() -> None:
    native = [{"text": "a"}, {"text": "", "thoughtSignature": "c2ln"}]
    message = {"role": "assistant", "content": "a", "native": {"gemini": native}}
    body = built([*HI, message, {"role": "assistant", "content": "b"}])
    assert body["contents"][1]["parts"] == [*native, {"text": "b"}]
    assert len(native) == 2


def test_only_the_first_call_of_a_step_gets_the_stand_in_signature() -> None:
    body = built([*HI, calls(call("a"), call("b")), answer("a"), answer("b")])
    assert [part.get("thoughtSignature") for part in body["contents"][1]["parts"]] == [NO_SIGNATURE, None]


def test_answers_to_calls_of_one_id_go_by_their_order() -> None:
    given = [part["functionResponse"] for part in built(
        [*HI, calls(call("", "a"), call("", "b")), answer("", "1"), answer("", "2")]
    )["contents"][2]["parts"]]  # fmt: skip
    assert given == [{"name": "a", "response": {"result": "1"}}, {"name": "b", "response": {"result": "2"}}]


@pytest.mark.parametrize("format_", ["aac", "flac", "ogg", "aiff", "OPUS", "m4a", "pcm"])
def test_the_format_of_a_sound_is_its_type(format_: str) -> None:
    part = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": format_}}
    sent = built([{"role": "user", "content": [part]}])["contents"][0]["parts"][0]
    assert sent == {"inlineData": {"mimeType": f"audio/{format_.lower()}", "data": "AAAA"}}


TYPES_OF_SUFFIXES = """
    png image/png, jpg image/jpeg, JPEG image/jpeg, webp image/webp, heic image/heic, heif image/heif, gif image/gif,
    mp4 video/mp4, mpeg video/mpeg, mov video/quicktime, webm video/webm, 3gp video/3gpp, wav audio/wav, mp3 audio/mp3,
    aac audio/aac, flac audio/flac, ogg audio/ogg, aiff audio/aiff, pdf application/pdf, txt text/plain, html text/html,
    csv text/csv, json application/json
"""


@pytest.mark.parametrize(("suffix", "mime"), [pair.split() for pair in TYPES_OF_SUFFIXES.split(",")])
def test_the_end_of_a_url_tells_the_type_of_a_file(suffix: str, mime: str) -> None:
    url = f"gs://bucket/name.of.{suffix}"
    for sent in (url, f"{url}?a=b.c", f"{url}#d.e"):
        part = {"type": "file", "file": {"file_data": sent}}
        assert built([{"role": "user", "content": [part]}])["contents"][0]["parts"] == [
            {"fileData": {"mimeType": mime, "fileUri": sent}}
        ]


@pytest.mark.parametrize(
    "part",
    [
        {"text": "a"},
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"inline_data": {"mime_type": "image/png", "data": "AAAA"}},
        {"fileData": {"fileUri": "gs://b/a"}, "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}},
        {"file_data": {"file_uri": "gs://b/a"}},
        {"functionCall": {"name": "f"}},
        {"function_call": {"name": "f"}},
        {"functionResponse": {"name": "f", "response": {"a": 1}}},
        {"function_response": {"name": "f", "response": {"a": 1}}},
        {"executableCode": {"code": "1", "language": "PYTHON"}},
        {"executable_code": {"code": "1", "language": "PYTHON"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK"}},
        {"code_execution_result": {"outcome": "OUTCOME_OK"}},
    ],
)
def test_a_part_in_geminis_own_words_passes_in_either_spelling(part: dict[str, Any]) -> None:
    assert built([{"role": "user", "content": [part]}])["contents"] == [{"role": "user", "parts": [part]}]


@pytest.mark.parametrize(
    ("seed", "is_taken"), [(2**31 - 1, True), (-(2**31), True), (2**31, False), (-(2**31) - 1, False)]
)
def test_a_seed_has_32_bits(seed: int, is_taken: bool) -> None:
    if is_taken:
        assert built(seed=seed)["generationConfig"] == {"seed": seed}
        return
    with pytest.raises(InputError, match="32 bits"):
        built(seed=seed)


@pytest.mark.parametrize("mime", ["image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"])
def test_what_a_tool_gives_back_stands_inside_its_answer_where_the_model_takes_it(mime: str) -> None:
    medium = {"type": "file", "file": {"file_data": f"data:{mime};base64,AAAA"}}
    inline = {"inlineData": {"mimeType": mime, "data": "AAAA"}}
    asked = [*HI, calls(call("a")), answer("a", [medium])]
    (inside,) = built(asked)["contents"][2]["parts"]
    assert inside["functionResponse"]["parts"] == [inline]
    assert built(asked, "gemini-2.5-flash")["contents"][2]["parts"][1:] == [inline]


def test_a_sound_whose_data_uri_names_no_type_is_of_its_format() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "data:;base64,UklGRg==", "format": "wav"}}
    sent = built([{"role": "user", "content": [sound]}])["contents"][0]["parts"]
    assert sent == [{"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}}]


def test_what_gemini_reads_itself_is_not_downloaded_and_passes() -> None:
    wants = GeminiProvider().media(Target(base_url=DEFAULT_BASE_URL))
    assert wants.inline_remote == {"image", "audio", "video", "file"}
    starts = [
        "gs://",
        "https://www.youtube.com/",
        "https://youtube.com/",
        "https://m.youtube.com/",
        "https://youtu.be/",
    ]
    starts += [f"{DEFAULT_BASE_URL}/{version}/files/" for version in ("v1", "v1beta")]
    assert sorted(wants.takes_urls) == sorted(starts)
    for start in starts:
        part = {"type": "file", "file": {"file_id": f"{start}x"}}
        assert built([{"role": "user", "content": [part]}])["contents"][0]["parts"] == [
            {"fileData": {"fileUri": f"{start}x"}}
        ]


def test_files_of_the_gemini_api_are_refused_on_vertex() -> None:
    for part in (
        {"type": "file", "file": {"file_id": "files/a"}},
        {"fileData": {"fileUri": f"{DEFAULT_BASE_URL}/v1beta/files/a"}},
    ):
        built([{"role": "user", "content": [part]}])
        with pytest.raises(InputError, match="gs://"):
            built([{"role": "user", "content": [part]}], base_url=VERTEX)


def test_own_declarations_may_be_named_and_are_never_replaced_by_an_empty_list() -> None:
    own = {"functionDeclarations": [{"name": "f"}]}
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}
    body = built(tools=[TOOL, own], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert body["tools"] == [own]
    body = built(tools=[TOOL, own], tool_choice={"type": "function", "function": {"name": "f"}})
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["f"]}


# --- where to ask -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "root"),
    [
        (DEFAULT_BASE_URL, f"{DEFAULT_BASE_URL}/v1beta"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1beta"),
        ("http://h/v1alpha", "http://h/v1alpha"),
        ("http://h/v1beta2/", "http://h/v1beta2"),
        ("http://h/v1/proxy", "http://h/v1/proxy/v1beta"),
        (VERTEX, VERTEX),
        ("http://h/v1/projects/p/locations/l/publishers/google", "http://h/v1/projects/p/locations/l/publishers/google"),
        ("https://us-central1-aiplatform.googleapis.com/v1", "https://us-central1-aiplatform.googleapis.com/v1/publishers/google"),
        ("https://notaiplatform.googleapis.com.example/v1", "https://notaiplatform.googleapis.com.example/v1"),
    ],
)  # fmt: skip
def test_a_base_url_is_completed_where_it_says_too_little(base_url: str, root: str) -> None:
    asked = GeminiProvider().build(ChatRequest(HI, "m"), Target(base_url=base_url), stream=False)
    assert asked.url == f"{root}/models/m:generateContent"


@pytest.mark.parametrize(
    ("base_url", "page", "url"),
    [
        (DEFAULT_BASE_URL, None, f"{DEFAULT_BASE_URL}/v1beta/models?pageSize=1000"),
        (f"{DEFAULT_BASE_URL}/v1", "a b&c", f"{DEFAULT_BASE_URL}/v1/models?pageSize=1000&pageToken=a%20b%26c"),
        (VERTEX, None, "https://aiplatform.googleapis.com/v1/publishers/google/models"),
        (VERTEX, "t=", "https://aiplatform.googleapis.com/v1/publishers/google/models?pageToken=t%3D"),
        ("https://aiplatform.googleapis.com/v1/publishers/google", None, "https://aiplatform.googleapis.com/v1/publishers/google/models"),
        ("http://h/x/v1beta1/projects/p/locations/l/publishers/google", None, "http://h/x/v1beta1/publishers/google/models"),
    ],
)  # fmt: skip
def test_models_are_listed_page_by_page_and_on_vertex_for_no_project(base_url: str, page: str | None, url: str) -> None:
    assert GeminiProvider().models_request(Target(base_url=base_url), page).url == url


@pytest.mark.parametrize("key", ["", "EMPTY"])
def test_no_key_is_sent_where_there_is_none(key: str) -> None:
    asked = GeminiProvider().build(ChatRequest(HI, "m"), Target(base_url=VERTEX, api_key=key), stream=False)
    assert "x-goog-api-key" not in dict(asked.headers)


def test_an_access_token_stands_alone() -> None:
    target = Target(base_url=VERTEX, api_key="AIza-1", headers=(("authorization", "Bearer t"),))
    for asked in (
        GeminiProvider().build(ChatRequest(HI, "m"), target, stream=True),
        GeminiProvider().models_request(target, None),
    ):
        assert ("authorization", "Bearer t") in asked.headers
        assert not any("AIza-1" in value for _, value in asked.headers)


# --- replies and streams ----------------------------------------------------------------------------------------------

PARTS = st.lists(
    st.one_of(
        st.builds(lambda text: {"text": text}, st.text(max_size=6)),
        st.builds(lambda text: {"text": text, "thought": True}, st.text(max_size=6)),
        st.builds(lambda text: {"text": text, "thoughtSignature": "c2ln"}, st.text(max_size=3)),
        st.builds(lambda n: {"functionCall": {"name": "f", "args": {"n": n}}}, st.integers(0, 3)),
        st.just({"functionCall": {"id": "c", "name": "g"}, "thoughtSignature": "c2ln"}),
        st.just({"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
        st.just({"executableCode": {"language": "PYTHON", "code": "1"}}),
    ),
    max_size=6,
)


def is_plain(part: dict[str, Any]) -> bool:
    return part.keys() <= {"text", "thought"}


def joined(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parts as a server gives them at once: neighbouring texts of which nothing else is said are one."""
    whole: list[dict[str, Any]] = []
    for part in parts:
        if whole and is_plain(part) and is_plain(whole[-1]) and part.get("thought") == whole[-1].get("thought"):
            whole[-1] = {**whole[-1], "text": whole[-1]["text"] + part["text"]}
        else:
            whole.append(part)
    return whole


@pytest.mark.slow
@settings(max_examples=examples(200))
@given(PARTS, st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY", "NEW"]), st.sampled_from(["r-1", None]), st.data())
def test_a_stream_adds_up_to_the_whole_answer(
    parts: list[dict[str, Any]], finish: str, response_id: str | None, data: st.DataObject
) -> None:
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "thoughtsTokenCount": 1, "totalTokenCount": 6}
    envelope = {"modelVersion": NEWEST, "responseId": response_id}
    cuts = sorted(data.draw(st.lists(st.integers(0, len(parts)), max_size=3)))
    slices = [parts[start:end] for start, end in zip([0, *cuts], [*cuts, len(parts)], strict=True)]
    events = [
        {"candidates": [{"content": {"parts": one}}], "usageMetadata": {"promptTokenCount": 3}, **envelope}
        for one in slices
    ]
    last = {"candidates": [{"finishReason": finish}], "usageMetadata": usage, **envelope}
    whole = {
        "candidates": [{"content": {"parts": joined(parts)}, "finishReason": finish}],
        "usageMetadata": usage,
        **envelope,
    }
    one, other = parsed(whole), streamed(*events, last)
    for field in ("content", "reasoning_content", "tool_calls", "finish_reason", "native_finish_reason", "usage", "model",
                  "native", "assistant_message", "request_id"):  # fmt: skip
        assert getattr(one, field) == getattr(other, field), field


@pytest.mark.slow
@settings(max_examples=examples(100))
@given(PARTS.filter(len))
def test_the_turn_that_was_given_is_sent_back_as_it_was(parts: list[dict[str, Any]]) -> None:
    result = parsed({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]})
    answers = [answer(one.id) for one in result.tool_calls or ()]
    contents = read_conversation([*HI, result.assistant_message, *answers, *HI], NEWEST)[1]
    if result.native:
        blanks: list[dict[str, Any]] = [{"text": ""}, {"text": "", "thought": True}]
        assert contents[1]["parts"] == [part for part in parts if part not in blanks]
    elif result.content or result.tool_calls:
        check_rules(contents, NEWEST)
    else:
        assert [content["role"] for content in contents] == ["user"]


def test_a_piece_is_handed_on_before_the_next_event_is_read() -> None:
    read: list[int] = []

    def events() -> Iterator[ServerSentEvent]:
        for number, finish in enumerate((None, None, "STOP")):
            read.append(number)
            body = {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": finish}]}
            yield ServerSentEvent("", json.dumps(body))

    chunks = GeminiProvider().chunks(events())
    for number in range(3):
        assert next(chunks).content == "a"
        assert read == list(range(number + 1))


@pytest.mark.parametrize(
    ("word", "status"),
    [(word, status) for status, words in {
        400: "INVALID_ARGUMENT FAILED_PRECONDITION OUT_OF_RANGE", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED",
        404: "NOT_FOUND", 409: "ABORTED ALREADY_EXISTS", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED",
        500: "INTERNAL UNKNOWN DATA_LOSS", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
    }.items() for word in words.split()],
)  # fmt: skip
def test_an_error_in_a_stream_that_only_says_its_word_has_the_status_of_it(word: str, status: int) -> None:
    with pytest.raises(ApiStatusError) as caught:
        streamed({"error": {"message": "no", "status": word}})
    assert (caught.value.status, caught.value.code) == (status, word)


@pytest.mark.parametrize(
    ("native", "common"),
    [
        ("IMAGE_PROHIBITED_CONTENT", "content_filter"),
        ("IMAGE_RECITATION", "content_filter"),
        ("NO_IMAGE", "error"),
        ("IMAGE_OTHER", "error"),
        ("ESCALATION", "ESCALATION"),
    ],
)
def test_a_rarer_finish_reason_is_said_in_the_common_word(native: str, common: str) -> None:
    body = {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": native}]}
    for result in (parsed(body), streamed(body)):
        assert (result.finish_reason, result.native_finish_reason) == (common, native)


def test_the_last_piece_says_that_tools_were_called_earlier() -> None:
    made = {"functionCall": {"id": "c", "name": "f", "args": {}}}
    bodies = [
        {"candidates": [{"content": {"parts": [made]}}]},
        {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}]},
    ]
    chunks = list(GeminiProvider().chunks(ServerSentEvent("", json.dumps(body)) for body in bodies))
    assert [(chunk.finish_reason, chunk.native_finish_reason) for chunk in chunks] == [
        (None, None),
        ("tool_calls", "STOP"),
    ]


def test_what_is_sent_back_comes_once_the_stream_is_whole() -> None:
    signed = {"text": "", "thoughtSignature": "c2ln"}
    bodies = [
        {"candidates": [{"content": {"parts": [{"text": "a"}, signed]}}]},
        {"candidates": [{"content": {"parts": [{"text": "b"}]}, "finishReason": "STOP"}]},
    ]
    chunks = list(GeminiProvider().chunks(ServerSentEvent("", json.dumps(body)) for body in bodies))
    assert [chunk.native for chunk in chunks] == [None, None, {"gemini": [{"text": "a"}, signed, {"text": "b"}]}]
    assert chunks[-1] == Chunk(native=chunks[-1].native)
    with pytest.raises(MalformedResponse):
        streamed(bodies[0])


PATHS = st.text("$.[]'\"ab01 ", max_size=12) | st.sampled_from(["$.a[0].b", "$.a.b", "$.a[999999]", "$['x']['y']", "$"])
PIECES = st.lists(
    st.fixed_dictionaries({"jsonPath": PATHS}, optional={"stringValue": st.text(max_size=2), "numberValue": st.integers()})
    | st.sampled_from([None, 5, {}]),
    max_size=4,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=examples(200))
@given(st.lists(PIECES, min_size=1, max_size=3))
def test_arguments_in_pieces_are_an_object_whatever_their_paths_say(pieces: list[Any]) -> None:
    bodies = [
        {"candidates": [{"content": {"parts": [{"functionCall": {"partialArgs": piece, "willContinue": True}}]}}]}
        for piece in pieces
    ]
    bodies[0]["candidates"][0]["content"]["parts"][0]["functionCall"]["name"] = "f"
    done = {"candidates": [{"content": {"parts": [{"functionCall": {}}]}, "finishReason": "STOP"}]}
    made = streamed(*bodies, done).tool_calls
    assert made is not None
    assert [one.function["name"] for one in made] == ["f"]
    assert isinstance(json.loads(made[0].function["arguments"]), dict)


@given(st.text(max_size=30) | st.none() | st.integers() | st.floats())
def test_whatever_the_delay_is_it_is_a_finite_number_or_none(delay: Any) -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    body = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "no", "details": [detail]}}
    error = GeminiProvider().error(HttpResponse(429, {}, json.dumps(body).encode()))
    assert isinstance(error, RateLimited)
    assert error.retry_after is None or 0 <= error.retry_after < 1e10
