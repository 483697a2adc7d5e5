"""How many tokens a request will probably take."""

from __future__ import annotations

import base64
import json
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.chat import ChatRequest
from flexllm.tokens import (
    AUDIO_TOKENS,
    FILE_TOKENS,
    FIRST_COMPLETION,
    FRAME_TOKENS,
    IMAGE_TOKENS,
    LOW_IMAGE_TOKENS,
    MESSAGE_TOKENS,
    REPLY_TOKENS,
    TOOL_TOKENS,
    VIDEO_TOKENS,
    OutputEstimate,
    PromptEstimate,
    estimate_prompt_tokens,
    max_tokens_of,
)

EMPTY = MESSAGE_TOKENS + REPLY_TOKENS
BIG = base64.b64encode(bytes(range(256)) * 4096).decode()
"""More than a million letters, which as text would be 350,000 tokens."""


def request_of(*messages: dict[str, Any], **params: Any) -> ChatRequest:
    return ChatRequest(list(messages), "some-model", params)


def tokens_of(content: Any, **params: Any) -> int:
    return estimate_prompt_tokens(request_of({"role": "user", "content": content}, **params))


# --- texts ------------------------------------------------------------------------------------------------------------


def test_plain_text_is_four_letters_a_token() -> None:
    assert tokens_of("x" * 4000) == EMPTY + 1000
    assert tokens_of("") == EMPTY
    assert tokens_of("hello") == EMPTY + 2


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("The quick brown fox jumps over the lazy dog. ", 0.8 * 10, 1.25 * 10),  # 10 tokens in o200k
        ("今天天气很好，我们去公园散步吧。", 16 * 0.6, 16 * 1.0),
        ("今日は天気がいいので公園へ行きましょう", 19 * 0.6, 19 * 1.0),
        ("오늘은 날씨가 좋아서 공원에 갑니다", 15 * 0.6, 19 * 1.0),
        ("Сегодня хорошая погода и мы гуляем", 34 / 2.5 * 0.8, 34 / 2.0 * 1.2),
    ],
)
def test_texts_in_many_scripts_are_within_what_tokenizers_count(text: str, least: float, most: float) -> None:
    for_one = (tokens_of(text * 100) - EMPTY) / 100
    assert least <= for_one <= most


def test_every_message_adds_its_text_and_a_few_tokens() -> None:
    messages = [
        {"role": "system", "content": "s" * 40},
        {"role": "user", "content": "u" * 40},
        {"role": "assistant", "content": "a" * 40},
        {"role": "tool", "tool_call_id": "c", "content": "t" * 40},
    ]
    assert estimate_prompt_tokens(request_of(*messages)) == REPLY_TOKENS + 4 * (MESSAGE_TOKENS + 10)
    assert estimate_prompt_tokens(request_of({**messages[1], "name": "Ann"})) == EMPTY + 11


def test_text_counts_the_same_as_a_part() -> None:
    as_text = tokens_of("x" * 400)
    assert tokens_of([{"type": "text", "text": "x" * 400}]) == as_text
    assert tokens_of([{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}]) == as_text
    assert tokens_of(["x" * 400]) == as_text
    assert tokens_of([{"text": "x" * 400}]) == as_text
    assert tokens_of([{"type": "refusal", "refusal": "x" * 400}]) == as_text
    assert tokens_of(({"type": "text", "text": "x" * 200}, {"type": "text", "text": "x" * 200})) == as_text


def test_a_refusal_of_an_earlier_turn_counts() -> None:
    message = {"role": "assistant", "content": None, "refusal": "x" * 400}
    assert estimate_prompt_tokens(request_of(message)) == EMPTY + 100


def test_calls_of_tools_count_however_their_arguments_are_written() -> None:
    arguments = {"city": "Paris " * 100, "days": [1, 2, 3], "metric": True}

    def asked(given: Any) -> int:
        call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": given}}
        return estimate_prompt_tokens(request_of({"role": "assistant", "content": None, "tool_calls": [call]}))

    assert asked(json.dumps(arguments)) == pytest.approx(asked(arguments), rel=0.1)
    assert asked(arguments) == pytest.approx(EMPTY + 600 / 3.3 + 30, rel=0.15)
    older = {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "x " * 330}}
    assert estimate_prompt_tokens(request_of(older)) == pytest.approx(EMPTY + 200, abs=20)


def test_what_was_thought_before_does_not_count() -> None:
    plain = {"role": "assistant", "content": "yes"}
    rich = {
        **plain,
        "reasoning_content": "hm " * 999,
        "native": {"claude": [{"type": "thinking", "thinking": "hm" * 999}]},
    }
    assert estimate_prompt_tokens(request_of(rich)) == estimate_prompt_tokens(request_of(plain))


# --- parameters -------------------------------------------------------------------------------------------------------

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city, today or on one of the next ten days.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "day": {"type": "integer", "minimum": 0, "maximum": 10}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def json_tokens(value: Any) -> float:
    return len(json.dumps(value, separators=(",", ":"))) / 3.3


def test_tools_count_as_their_json_and_a_few_more_each() -> None:
    assert tokens_of("", tools=[TOOL] * 5) - EMPTY == pytest.approx(5 * (json_tokens(TOOL) + TOOL_TOKENS), rel=0.15)
    assert tokens_of("", functions=[TOOL["function"]]) - EMPTY == pytest.approx(json_tokens(TOOL["function"]), rel=0.15)
    nameless: list[dict[str, Any]] = [{}] * 10  # what is left of a tool without a definition
    assert tokens_of("", tools=nameless) - tokens_of("", functions=nameless) == 10 * TOOL_TOKENS
    assert tokens_of("", tools=[]) == tokens_of("", tools=None) == EMPTY


def test_the_schema_of_the_answer_counts() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": TOOL["function"]["parameters"]}}
    assert tokens_of("", response_format=schema) - EMPTY == pytest.approx(json_tokens(schema), rel=0.15)
    assert tokens_of("", response_format=types.MappingProxyType(schema)) == tokens_of("", response_format=schema)


def test_system_texts_given_as_a_parameter_count() -> None:
    assert tokens_of("", system="x" * 400) == EMPTY + 100
    assert tokens_of("", system=[{"type": "text", "text": "x" * 400}]) == EMPTY + 100
    assert tokens_of("", systemInstruction={"parts": [{"text": "so " * 110}]}) == pytest.approx(EMPTY + 100, abs=15)


def test_other_parameters_do_not_count() -> None:
    assert tokens_of("", temperature=0.5, stop=["x" * 999], metadata={"a": "x" * 999}, max_tokens=9) == EMPTY


# --- media ------------------------------------------------------------------------------------------------------------

DATA = f"data:image/png;base64,{BIG}"


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "image_url", "image_url": {"url": DATA}}, IMAGE_TOKENS),
        ({"type": "image_url", "image_url": DATA}, IMAGE_TOKENS),
        ({"type": "image_url", "image_url": {"url": "https://a.example/1.png", "detail": "high"}}, IMAGE_TOKENS),
        ({"type": "image_url", "image_url": {"url": DATA, "detail": "low"}}, LOW_IMAGE_TOKENS),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BIG}}, IMAGE_TOKENS),
        ({"type": "input_audio", "input_audio": {"data": BIG, "format": "wav"}}, AUDIO_TOKENS),
        ({"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{BIG}"}}, AUDIO_TOKENS),
        ({"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{BIG}"}}, VIDEO_TOKENS),
        ({"type": "video", "video": [DATA, DATA, DATA]}, 3 * FRAME_TOKENS),
        ({"type": "file", "file": {"filename": "a.pdf", "file_data": BIG}}, FILE_TOKENS),
        ({"type": "file", "file": {"file_id": "file-1"}}, FILE_TOKENS),
        ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": BIG}}, FILE_TOKENS),
        ({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x" * 400}}, 100),
        ({"inlineData": {"mimeType": "image/png", "data": BIG}}, IMAGE_TOKENS),
        ({"inline_data": {"mime_type": "audio/wav", "data": BIG}}, AUDIO_TOKENS),
        ({"fileData": {"mimeType": "video/mp4", "fileUri": "gs://a/b"}}, VIDEO_TOKENS),
        ({"fileData": {"fileUri": "gs://a/b"}}, FILE_TOKENS),
    ],
)
def test_a_medium_counts_a_flat_number_however_large_its_data_is(part: dict[str, Any], tokens: int) -> None:
    assert tokens_of([part]) == pytest.approx(EMPTY + tokens, abs=1)
    assert tokens_of([{"type": "text", "text": "x" * 400}, part]) == pytest.approx(EMPTY + 100 + tokens, abs=1)


def test_a_picture_in_the_result_of_a_tool_counts_flat_too() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BIG}}
    result = {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "see " * 10}, picture]}
    assert tokens_of([result]) == pytest.approx(EMPTY + IMAGE_TOKENS + 40, abs=20)


@pytest.mark.parametrize("data", [BIG, DATA, f"data:text/plain,{'a b ' * 9999}"])
def test_data_in_a_part_that_nobody_knows_does_not_count_by_its_length(data: str) -> None:
    assert tokens_of([{"type": "hologram", "hologram": {"data": data}}]) < EMPTY + 30


def test_long_text_in_a_part_that_nobody_knows_counts() -> None:
    assert tokens_of([{"type": "search_result", "content": "some words " * 300}]) == pytest.approx(
        EMPTY + 1000, rel=0.1
    )


# --- anything at all --------------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["type", "text", "image_url", "file", "source", "inlineData", "video", "data", "detail", "name"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(content=_JSON, calls=_JSON, tools=_JSON, system=_JSON)
def test_no_content_is_too_strange_for_an_estimate(content: Any, calls: Any, tools: Any, system: Any) -> None:
    message = {"role": "assistant", "content": content, "tool_calls": calls, "refusal": calls}
    request = request_of(message, tools=tools, system=system, response_format=tools, functions=system)
    assert estimate_prompt_tokens(request) >= EMPTY


@given(st.text(max_size=200), st.text(max_size=200))
def test_more_text_is_never_fewer_tokens(text: str, more: str) -> None:
    assert tokens_of(text + more) >= tokens_of(text)


def test_half_a_surrogate_pair_is_a_letter_like_others() -> None:
    assert tokens_of("\ud83d" * 400) == EMPTY + 300


def test_a_value_that_holds_itself_comes_to_an_end() -> None:
    ring: dict[str, Any] = {}
    ring["again"] = [ring, ring]
    assert tokens_of("", tools=[ring]) > EMPTY


def test_the_request_is_left_as_it_was() -> None:
    request = request_of({"role": "user", "content": [{"type": "text", "text": "a"}, {"x": ["y"]}]}, tools=[TOOL])
    before = json.dumps([request.messages, dict(request.params)])
    estimate_prompt_tokens(request)
    assert json.dumps([request.messages, dict(request.params)]) == before


# --- the limit of a reply ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "limit"),
    [
        ({}, None),
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 100}, 100),
        ({"max_output_tokens": 100}, 100),
        ({"maxOutputTokens": 100}, 100),
        ({"generationConfig": {"maxOutputTokens": 100}}, 100),
        ({"generation_config": {"max_output_tokens": 100}}, 100),
        ({"max_tokens": 100, "max_completion_tokens": 200}, 100),
        ({"max_tokens": None, "max_completion_tokens": 200}, 200),
        ({"max_tokens": 100, "maxOutputTokens": 200, "generationConfig": {"maxOutputTokens": 300}}, 300),
        ({"max_tokens": 100, "generationConfig": {"temperature": 0}}, 100),
        ({"max_tokens": 100, "generationConfig": "no object"}, 100),
        ({"max_tokens": 0}, 0),
        ({"max_tokens": 100.0}, 100),
        ({"max_tokens": -1}, None),
        ({"max_tokens": True}, None),
        ({"max_tokens": "100"}, None),
        ({"max_tokens": 1.5}, None),
        ({"max_tokens": float("inf")}, None),
        ({"max_tokens": float("nan")}, None),
    ],
)
def test_the_limit_of_a_reply_is_found_by_whichever_word_says_it(params: dict[str, Any], limit: int | None) -> None:
    assert max_tokens_of(params) == limit


# --- what replies teach -----------------------------------------------------------------------------------------------


def test_before_any_reply_a_middling_one_is_expected() -> None:
    estimate = OutputEstimate()
    assert estimate.expect(None) == estimate.expect(100_000) == FIRST_COMPLETION
    assert (estimate.expect(100), estimate.expect(0), estimate.expect(-1)) == (100, 0, 0)


def test_later_the_mean_of_the_replies_is_expected() -> None:
    estimate = OutputEstimate()
    for tokens in (100, 200, 300):
        estimate.seen(tokens)
    assert estimate.expect(None) == pytest.approx(200, abs=3)
    assert estimate.expect(150) == 150


def test_replies_that_become_longer_are_noticed() -> None:
    estimate = OutputEstimate()
    for tokens in [10] * 1000 + [1000] * 150:
        estimate.seen(tokens)
    assert estimate.expect(None) > 900


def test_one_long_reply_among_many_changes_little() -> None:
    estimate = OutputEstimate()
    for tokens in [100] * 1000 + [2000]:
        estimate.seen(tokens)
    assert 100 < estimate.expect(None) < 150


def test_prompts_are_corrected_by_what_servers_count() -> None:
    estimate = PromptEstimate()
    assert (estimate.ratio, estimate.expect(1000)) == (1.0, 1000)
    estimate.seen(1000, 1300)
    assert (estimate.ratio, estimate.expect(500)) == (1.3, 650)


def test_long_prompts_weigh_more_than_short_ones() -> None:
    estimate = PromptEstimate()
    for _ in range(20):
        estimate.seen(10, 30)
        estimate.seen(10_000, 10_000)
    assert estimate.ratio == pytest.approx(1.0, abs=0.01)


def test_a_change_of_the_ratio_is_noticed() -> None:
    estimate = PromptEstimate()
    for _ in range(500):
        estimate.seen(1000, 500)
    for _ in range(200):
        estimate.seen(1000, 2000)
    assert estimate.ratio == pytest.approx(2.0, rel=0.05)


def test_a_ratio_beyond_any_tokenizers_is_not_believed() -> None:
    wild = PromptEstimate()
    wild.seen(10, 10_000)
    assert (wild.ratio, wild.expect(100)) == (4.0, 400)
    tame = PromptEstimate()
    tame.seen(10_000, 10)
    assert (tame.ratio, tame.expect(100)) == (0.25, 25)


@pytest.mark.parametrize(("estimated", "actual"), [(0, 100), (-1, 100), (100, 0), (100, -1), (0, 0)])
def test_counts_that_cannot_be_teach_nothing(estimated: int, actual: int) -> None:
    estimate = PromptEstimate()
    estimate.seen(estimated, actual)
    assert estimate.ratio == 1.0
    replies = OutputEstimate()
    replies.seen(-1)
    assert replies.expect(None) == FIRST_COMPLETION


def test_a_reply_without_a_token_teaches_that_there_may_be_none() -> None:
    estimate = OutputEstimate()
    estimate.seen(0)
    assert estimate.expect(None) == 0


@given(
    st.lists(st.tuples(st.integers(-10, 10**400), st.integers(-10, 10**400)), max_size=20), st.integers(-10, 10**400)
)
def test_any_counts_give_expectations_within_bounds(seen: list[tuple[int, int]], wanted: int) -> None:
    prompts, replies = PromptEstimate(), OutputEstimate()
    for estimated, actual in seen:
        prompts.seen(estimated, actual)
        replies.seen(actual)
    assert 0.25 <= prompts.ratio <= 4.0
    assert prompts.expect(wanted) >= 1
    assert 0 <= replies.expect(wanted) <= max(wanted, 0)
    assert replies.expect(None) >= 0
