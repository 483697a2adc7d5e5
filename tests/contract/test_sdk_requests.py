"""Every request body in `tests/data` against the request types of the official SDKs: what we send, they might have sent.

Dialects' own fields are marked here with the reason and the place. Each body has twins with one fault each, and the judge
must refuse them all: that is how a judge shows that it looks.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

# Older ones do not know the services' newest fields and words.
pytest.importorskip("openai", minversion="3")
pytest.importorskip("anthropic", minversion="2")
pytest.importorskip("google.genai", minversion="3")

import pydantic
from anthropic.types import message_create_params as anthropic_params
from contract.sdk_types import (
    NOBODYS_KEY,
    UNKNOWN,
    Complaint,
    Json,
    Kind,
    Marks,
    complaints,
    load,
    needless,
    twins,
    unmarked,
)
from google import genai
from google.genai import types as google
from openai.types.chat import completion_create_params as openai_params
from typing_extensions import Required, TypedDict

# --- whose types ------------------------------------------------------------------------------------------------------


class GeminiGenerationConfig(google.GenerationConfig):
    """As it is sent: the SDK's model of it is older than some of the fields that the SDK puts there."""

    image_config: google.ImageConfig | None = None


class GeminiBody(TypedDict, total=False):
    """The SDK has types for the parts of a body, but none for the whole. Source: the body that the SDK itself makes."""

    contents: Required[list[google.Content]]
    systemInstruction: google.Content
    tools: list[google.Tool]
    toolConfig: google.ToolConfig
    safetySettings: list[google.SafetySetting]
    generationConfig: GeminiGenerationConfig
    cachedContent: str
    labels: dict[str, str]
    serviceTier: google.ServiceTier
    store: bool


class Sdk(NamedTuple):
    """The type of a body, where in it anything may stand, and keys that the service demands."""

    body: Kind
    open_places: frozenset[str]
    required: frozenset[str]


SDKS = {
    "openai": Sdk(
        openai_params.CompletionCreateParamsNonStreaming | openai_params.CompletionCreateParamsStreaming,
        frozenset({"tools[].function.parameters", "response_format.json_schema.schema", "metadata", "logit_bias"}),
        frozenset(
            {
                "model",
                "messages",
                "messages[].role",
                "messages[].tool_call_id",
                "messages[].tool_calls[].id",
                "messages[].tool_calls[].type",
                "messages[].tool_calls[].function",
                "messages[].tool_calls[].function.name",
                "messages[].tool_calls[].function.arguments",
                "messages[].content[].type",
                "messages[].content[].text",
                "messages[].content[].image_url",
                "messages[].content[].image_url.url",
                "messages[].content[].input_audio",
                "messages[].content[].input_audio.data",
                "messages[].content[].input_audio.format",
                "messages[].content[].file",
                "tools[].type",
                "tools[].function",
                "tools[].function.name",
                "tool_choice.type",
                "tool_choice.function",
                "tool_choice.function.name",
                "response_format.type",
                "response_format.json_schema",
                "response_format.json_schema.name",
            }
        ),
    ),
    "claude": Sdk(
        anthropic_params.MessageCreateParamsNonStreaming | anthropic_params.MessageCreateParamsStreaming,
        frozenset({"tools[].input_schema", "messages[].content[].input", "output_config.format.schema"}),
        frozenset(
            {
                "model",
                "messages",
                "max_tokens",
                "messages[].role",
                "messages[].content",
                "messages[].content[].type",
                "messages[].content[].text",
                "messages[].content[].id",
                "messages[].content[].name",
                "messages[].content[].input",
                "messages[].content[].tool_use_id",
                "messages[].content[].thinking",
                "messages[].content[].signature",
                "messages[].content[].source",
                "messages[].content[].source.type",
                "messages[].content[].source.data",
                "messages[].content[].source.media_type",
                "messages[].content[].source.url",
                "system[].type",
                "system[].text",
                "tools[].name",
                "tools[].input_schema",
                "tool_choice.type",
                "tool_choice.name",
                "thinking.type",
                "thinking.budget_tokens",
                "output_config.format.type",
                "output_config.format.schema",
            }
        ),
    ),
    "gemini": Sdk(
        GeminiBody,
        frozenset(
            {
                "contents[].parts[].functionCall.args",
                "contents[].parts[].functionResponse.response",
                "tools[].functionDeclarations[].parametersJsonSchema",
                "tools[].functionDeclarations[].responseJsonSchema",
                "generationConfig.responseJsonSchema",
                "labels",
            }
        ),
        frozenset({"contents"}),  # in protocol buffers nothing else is demanded
    ),
}
FOLDERS = [folder for folder in SDKS if load(folder)]

# --- what is strange --------------------------------------------------------------------------------------------------

SAMPLING = "anthropic-version 2023-06-01 takes it for the models of its time; the SDK speaks 2026-10-21, which does not"
PREFIX = "how the assistant's words are continued"
HISTORY = "reasoning that is given back, where a server wants it"
PART = "a part that OpenAI has no type for"

STRANGE: Marks = {
    ("claude", "temperature"): (SAMPLING, "*"),
    ("claude", "top_k"): (SAMPLING, "*"),
    ("claude", "top_p"): (SAMPLING, "*"),
    ("gemini", "brandNew"): ("a field that the next Gemini may know", "request_params_unknown_pass"),
    ("gemini", "generationConfig.thinkingConfig.thinking_budget"): (
        "given so by the caller; the service takes both forms of its keys",
        "request_params_native_config_snake_case",
    ),
    ("openai", "add_generation_prompt"): (PREFIX, "request_prefix_vllm"),
    ("openai", "continue_final_message"): (PREFIX, "request_prefix_vllm"),
    ("openai", "chat_template_kwargs"): ("vLLM", "request_fields_of_dialects", "request_thinking_vllm_*"),
    ("openai", "disable_reasoning"): ("Cerebras", "request_thinking_cerebras_off"),
    ("openai", "enable_thinking"): (
        "DashScope and SiliconFlow",
        "request_fields_of_dialects",
        "request_thinking_dashscope_*",
        "request_thinking_siliconflow_*",
    ),
    ("openai", "guided"): ("given by the caller", "request_fields_of_dialects"),
    ("openai", "messages[].content[]"): (
        PART,
        "request_parts_audio_url_vllm",
        "request_parts_video_*",
        "request_picture_and_unknown_part",
    ),
    ("openai", "messages[].partial"): (PREFIX, "request_prefix_dashscope", "request_prefix_kimi"),
    ("openai", "messages[].prefix"): (PREFIX, "request_prefix_deepseek*", "request_prefix_mistral"),
    ("openai", "messages[].reasoning"): (HISTORY, "request_history_reasoning_ollama", "request_history_reasoning_vllm"),
    ("openai", "messages[].reasoning_content"): (HISTORY, "request_history_reasoning_*"),
    ("openai", "messages[].reasoning_details"): (HISTORY, "request_history_native_*"),
    ("openai", "prompt_mode"): ("Mistral", "request_thinking_mistral_magistral"),
    ("openai", "provider"): ("OpenRouter", "request_fields_of_dialects"),
    ("openai", "random_seed"): ("Mistral", "request_mistral_words"),
    ("openai", "reasoning"): (
        "Ollama, OpenRouter and Together",
        "request_thinking_ollama_*",
        "request_thinking_openrouter_*",
        "request_thinking_together_*",
    ),
    ("openai", "reasoning_split"): ("MiniMax", "request_thinking_minimax_on"),
    ("openai", "thinking"): (
        "Anthropic's compatible layer, DeepSeek, Doubao, Kimi, Z.ai, and vLLM where the caller gives it",
        "request_deepseek_*",
        "request_thinking_anthropic_layer_*",
        "request_thinking_deepseek_*",
        "request_thinking_doubao_*",
        "request_thinking_kimi_*",
        "request_thinking_vllm_object",
        "request_thinking_zai_*",
    ),
    ("openai", "thinking_budget"): (
        "DashScope and SiliconFlow",
        "request_thinking_dashscope_*",
        "request_thinking_siliconflow_*",
    ),
    ("openai", "thinking_token_budget"): ("vLLM", "request_thinking_vllm_budget"),
    ("openai", "tool_choice"): ("Mistral: any", "request_mistral_words"),
    ("openai", "top_k"): ("DashScope, vLLM and others", "request_fields_of_dialects"),
}
# --- requests ---------------------------------------------------------------------------------------------------------


def bodies(*folders: str) -> list[Any]:
    return [
        pytest.param(folder, stem, payload["expected_body"], id=f"{folder}-{stem}")
        for folder in folders
        for stem, payload in load(folder).items()
        if isinstance(payload.get("expected_body"), dict)
    ]


@pytest.mark.parametrize(("folder", "stem", "body"), bodies(*FOLDERS))
def test_a_request_is_what_the_sdks_types_say(folder: str, stem: str, body: Json) -> None:
    assert unmarked(folder, stem, complaints(body, SDKS[folder].body), STRANGE) == []


@pytest.mark.parametrize(("folder", "stem", "body"), bodies(*FOLDERS))
def test_each_twin_of_a_request_with_one_fault_is_refused(folder: str, stem: str, body: Json) -> None:
    sdk, name = SDKS[folder], f"{folder}/{stem}"
    before = set(complaints(body, sdk.body))
    anything = sdk.open_places | {one.place for one in before}
    made = list(twins(body, sdk.required, anything.__contains__))
    for twin in made:
        assert set(complaints(twin.body, sdk.body)) - before, f"{name}: {twin.fault}, and nobody complains"
    faults = {twin.fault for twin in made}
    assert ". with an unknown key" in faults
    assert any(fault.endswith(" of a wrong type") for fault in faults)
    assert any(fault.endswith(" left out") for fault in faults)


@pytest.mark.parametrize(("folder", "stem", "body"), bodies("gemini"))
def test_googles_sdk_makes_the_same_body_of_the_same_parts(folder: str, stem: str, body: Json) -> None:
    if complaints(body, SDKS[folder].body):
        return  # the SDK does not take it either
    assert comparable(sent_by_google(body)) == comparable(body)


# --- the judge --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS)
def test_pydantic_accepts_what_the_walk_accepts(folder: str) -> None:
    adapter = pydantic.TypeAdapter(SDKS[folder].body)
    accepted = 0
    for one in bodies(folder):
        body = one.values[2]
        if all(found.fault == UNKNOWN for found in complaints(body, SDKS[folder].body)):
            adapter.validate_json(json.dumps(body), strict=True)
            accepted += 1
    assert accepted > 0


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_place_that_is_called_open_is_open(folder: str) -> None:
    """Where a body has it: there, nobody complains of a key that nobody knows."""
    sdk = SDKS[folder]
    for place in sdk.open_places:
        for one in bodies(folder):
            body = json.loads(json.dumps(one.values[2]))
            for value in at(body, place.split(".")):
                if isinstance(value, dict):
                    before = complaints(body, sdk.body)
                    value[NOBODYS_KEY] = 1 if place == "logit_bias" else "x"
                    assert complaints(body, sdk.body) == before


@pytest.mark.parametrize(("folder", "place"), STRANGE)
def test_a_mark_gives_a_reason_and_each_payload_that_it_names_needs_it(folder: str, place: str) -> None:
    assert STRANGE[folder, place][0].strip()
    assert needless(folder, place, STRANGE, found_in(folder)) == []


@functools.cache
def found_in(folder: str) -> dict[str, list[Complaint]]:
    return {one.values[1]: complaints(one.values[2], SDKS[folder].body) for one in bodies(folder)}


def at(value: Json, steps: list[str]) -> Iterator[Json]:
    """Yield everything that stands at a place."""
    if not steps:
        yield value
    elif isinstance(value, dict) and steps[0].removesuffix("[]") in value:
        inner = value[steps[0].removesuffix("[]")]
        for item in inner if steps[0].endswith("[]") else [inner]:
            yield from at(item, steps[1:])


# --- Google's SDK at work ---------------------------------------------------------------------------------------------


def sent_by_google(body: Json) -> Json:
    """Return the body that Google's SDK sends when it is given the parts of `body` as its own types."""
    client, sent = google_client()
    sent.clear()
    rest = {name: value for name, value in body.items() if name not in ("contents", "generationConfig")}
    config = google.GenerateContentConfig.model_validate({**body.get("generationConfig", {}), **rest})
    contents = [google.Content.model_validate(one) for one in body["contents"]]
    client.models.generate_content(model="gemini-3.5-flash", contents=contents, config=config)
    (only,) = sent
    if not only["generationConfig"]:  # it is sent whether it says something or not
        del only["generationConfig"]
    return only


@functools.cache
def google_client() -> tuple[genai.Client, list[Json]]:
    """Return a client that asks nobody, and the bodies that it has sent."""
    # The SDK needs one of the two; older ones know the first alone.
    name = next(name for name in ("httpx", "httpx2") if importlib.util.find_spec(name))
    httpx = importlib.import_module(name)
    sent: list[Json] = []

    def answer(request: Any) -> Any:
        sent.append(json.loads(request.content))
        return httpx.Response(200, json={})

    options = google.HttpOptions(httpx_client=httpx.Client(transport=httpx.MockTransport(answer)))
    return genai.Client(api_key="key", http_options=options), sent


def comparable(body: Json) -> Json:
    """Return a body without what makes no difference: the form of its keys, and the order of its tools."""
    body = camel_case(body, "")
    return {**body, "tools": sorted(body.get("tools", []), key=lambda tool: sorted(tool))}


def camel_case(value: Json, place: str) -> Json:
    """Return a body with its keys in camel case: the SDK mixes both forms, and the service takes both."""
    if place in SDKS["gemini"].open_places:
        return value
    if isinstance(value, list):
        return [camel_case(item, f"{place}[]") for item in value]
    if isinstance(value, dict):
        names = {key: re.sub(r"_([a-z])", lambda found: found[1].upper(), key) for key in value}
        return {
            names[key]: camel_case(item, f"{place}.{names[key]}" if place else names[key])
            for key, item in value.items()
        }
    return value
