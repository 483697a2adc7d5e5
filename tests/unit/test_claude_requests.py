"""What Claude cannot be asked, and what is sent for what it can: beyond what the payloads say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from generated import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.chat import ChatRequest
from flexllm.errors import InputError
from flexllm.messages import normalise_messages
from flexllm.providers.claude import VERSION, ClaudeProvider
from flexllm.providers.claude.schemas import closed_schema
from flexllm.wire import Headers, Target

HI = [{"role": "user", "content": "Hi"}]
NEW_VERSION = (("anthropic-version", "2026-10-21"),)
TOOL = {"type": "function", "function": {"name": "now"}}
MARK = {"type": "ephemeral"}


def build(
    messages: Any = HI, model: str = "claude-haiku-4-5", headers: Headers = (), stream: bool = False, **params: Any
) -> dict[str, Any]:
    target = Target(base_url="https://api.anthropic.com", api_key="k", headers=headers)
    request = ChatRequest(messages, model, params)
    body: dict[str, Any] = json.loads(ClaudeProvider().build(request, target, stream=stream).body)
    return body


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(InputError) as caught:
        build(*args, **kwargs)
    said = str(caught.value)
    assert len(said) < 400
    assert "\n" not in said
    assert not said.endswith(".")
    return said


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"n": 2}, "n is nothing that Claude can be asked for"),
        ({"seed": 7}, "seed is nothing"),
        ({"logprobs": True}, "logprobs is nothing"),
        ({"top_logprobs": 3}, "top_logprobs is nothing"),
        ({"logit_bias": {"50256": -100}}, "logit_bias is nothing"),
        ({"presence_penalty": 0.5}, "presence_penalty is nothing"),
        ({"frequency_penalty": -0.5}, "frequency_penalty is nothing"),
        ({"functions": [{"name": "f"}]}, "give them as tools"),
        ({"function_call": "auto"}, "give tool_choice"),
        ({"modalities": ["text", "audio"]}, "Claude writes text alone"),
        ({"audio": {"voice": "x"}}, "Claude writes text alone"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction is nothing"),
        ({"store": True}, "store is nothing"),
        ({"verbosity": "low"}, "ask for it in the system message"),
        ({"prompt_cache_key": "k"}, "cache_control"),
        ({"web_search_options": {}}, "web_search_20250305"),
        ({"metadata": {"run": "7"}}, "metadata can hold a user_id alone"),
        ({"metadata": "7"}, "metadata can hold a user_id alone"),
        ({"service_tier": "flex"}, "service_tier='flex' is none of Anthropic's"),
        ({"service_tier": "priority"}, "service_tier='priority' is none of Anthropic's"),
        ({"max_tokens": "many"}, "max_tokens='many' must be a whole number"),
        ({"max_tokens": True}, "max_tokens=True must be a whole number"),
        ({"max_tokens": 7.5}, "must be a whole number"),
        ({"max_completion_tokens": -1}, "must be a whole number"),
        ({"stop": 7}, "stop must be a text or a list of texts"),
        ({"stop": ["a", 7]}, "stop must be a text or a list of texts"),
        ({"temperature": 1.5}, "Claude takes 0 to 1"),
        ({"temperature": -0.1}, "Claude takes 0 to 1"),
        ({"temperature": "hot"}, "temperature='hot' must be a number"),
        ({"temperature": True}, "temperature=True must be a number"),
        ({"system": 7}, "system must be a text or a list of text blocks"),
        ({"system": {"text": "a"}}, "system must be a text or a list of text blocks"),
    ],
)
def test_a_parameter_that_claude_cannot_take_is_refused(params: dict[str, Any], said: str) -> None:
    assert said in refusal(**params)


@pytest.mark.parametrize(("field", "value"), [("messages", []), ("stream", True)])
def test_what_the_call_itself_says_is_no_parameter(field: str, value: Any) -> None:
    target = Target(base_url="https://api.anthropic.com", api_key="k")
    with pytest.raises(InputError, match=field):
        ClaudeProvider().build(ChatRequest(HI, "m", {field: value}), target, stream=False)


NEUTRAL = {
    "n": 1,
    "logprobs": False,
    "top_logprobs": 0,
    "logit_bias": {},
    "presence_penalty": 0.0,
    "frequency_penalty": 0,
    "functions": [],
    "modalities": ["text"],
    "store": False,
    "verbosity": "medium",
    "parallel_tool_calls": True,
    "tools": [],
    "tool_choice": "auto",
    "stop": [],
    "metadata": {},
    "response_format": {"type": "text"},
    "user": "",
    "system": "",
    "stream_options": {"include_usage": True},
    "thinking": None,
    "seed": None,
}


@pytest.mark.parametrize("field", NEUTRAL)
def test_a_value_that_asks_for_nothing_falls_away(field: str) -> None:
    assert build(**{field: NEUTRAL[field]}) == build()


@pytest.mark.parametrize("model", ["claude-opus-4-7", "claude-sonnet-5", "claude-haiku-5-5", "claude-fable-5-2"])
@pytest.mark.parametrize(("field", "value"), [("temperature", 0), ("top_p", 0.9), ("top_k", 1)])
def test_new_models_and_the_new_version_take_no_sampling(model: str, field: str, value: float) -> None:
    assert f"{field} is not taken by {model}" in refusal(model=model, **{field: value})
    said = refusal(model="claude-haiku-4-5", headers=NEW_VERSION, **{field: value})
    assert f"{field} is not taken by anthropic-version 2026-10-21" in said
    assert build(model="claude-haiku-4-5", **{field: value})[field] == value


@pytest.mark.parametrize("version", [VERSION, "bedrock-2023-05-31", ""])
def test_versions_that_are_not_newer_keep_the_old_rules(version: str) -> None:
    assert build(headers=(("Anthropic-Version", version),), temperature=0.3)["temperature"] == 0.3


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"temperature": 0.5}, "temperature=0.5 does not go with thinking"),
        ({"top_k": 5}, "top_k=5 does not go with thinking"),
        ({"top_p": 0.5}, "top_p=0.5 does not go with thinking"),
    ],
)
@pytest.mark.parametrize("thinking", [True, "low", 2000, {"type": "enabled", "budget_tokens": 2000}])
def test_sampling_does_not_go_with_thinking(params: dict[str, Any], said: str, thinking: Any) -> None:
    assert said in refusal(thinking=thinking, **params)
    assert said in refusal(model="claude-sonnet-4-6", thinking=thinking, **params)
    assert build(model="claude-sonnet-4-6", thinking=False, **params)["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"thinking": 500}, "Anthropic takes 1024 tokens or more"),
        ({"thinking": 4000, "max_tokens": 4000}, "max_tokens=4000 leaves no room"),
        ({"thinking": "high", "max_tokens": 8000}, "thinking alone may take 16384"),
        ({"thinking": {"type": "enabled", "budget_tokens": 900}, "max_tokens": 800}, "leaves no room"),
        ({"thinking": True, "reasoning_effort": "low"}, "thinking and reasoning_effort both say"),
        ({"thinking": {"type": "adaptive"}, "reasoning_effort": "low"}, "thinking and reasoning_effort both say"),
        ({"thinking": "low", "output_config": {"effort": "high"}}, "thinking and output_config.effort both say"),
        ({"thinking": "hard"}, "thinking='hard' is not understood"),
        ({"thinking": 1.5}, "is not understood"),
        ({"reasoning_effort": "hard"}, "reasoning_effort='hard' is not understood"),
        ({"reasoning_effort": 3}, "reasoning_effort=3 is not understood"),
        ({"output_config": "high"}, "output_config must be an object"),
    ],
)
def test_an_impossible_thinking_is_refused(params: dict[str, Any], said: str) -> None:
    assert said in refusal(**params)


def test_another_makers_model_is_refused_nothing_of_its_own() -> None:
    body = build(
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "The "}],
        model="kimi-k3",
        thinking="high",
        max_tokens=100,
        temperature=1.7,
        top_k=3,
        tools=[TOOL],
        tool_choice="required",
    )
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 16_384}
    assert (body["temperature"], body["max_tokens"], body["tool_choice"]) == (1.7, 100, {"type": "any"})


def test_unknown_fields_pass_and_none_is_not_sent() -> None:
    nested = {"a": [1, {"b": None}]}
    assert build(context_management=nested, speed=None) == {**build(), "context_management": nested}


# --- structured output ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "grammar"},
        {},
        "json",
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "x"}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": "{}"}},
    ],
)
def test_a_response_format_of_no_known_form_is_refused(wrong: Any) -> None:
    assert "response_format is not understood" in refusal(response_format=wrong)


def test_objects_of_a_schema_are_closed_wherever_they_are() -> None:
    thing = {"type": "object", "properties": {}}
    schema = {
        "$defs": {"a": thing},
        "definitions": {"b": thing},
        "type": ["object", "null"],
        "properties": {"c": thing, "enum": {"type": "string"}},
        "items": thing,
        "prefixItems": [thing],
        "anyOf": [thing],
        "allOf": [thing, True],
        "not": thing,
        "enum": [{"type": "object"}],
        "const": {"type": "object"},
        "default": {"properties": {}},
        "examples": [{"type": "object"}],
    }
    before = json.dumps(schema)
    closed = closed_schema(schema, "x")
    shut = {**thing, "additionalProperties": False}
    assert json.dumps(schema) == before
    assert closed["additionalProperties"] is False
    assert closed["$defs"]["a"] == closed["definitions"]["b"] == closed["items"] == closed["not"] == shut
    assert closed["properties"] == {"c": shut, "enum": {"type": "string"}}
    assert (closed["prefixItems"], closed["anyOf"], closed["allOf"]) == ([shut], [shut], [shut, True])
    for word in ("enum", "const", "default", "examples"):
        assert closed[word] == schema[word]


@pytest.mark.parametrize("more", [True, {}, {"type": "string"}])
def test_an_open_object_is_refused_with_its_place(more: Any) -> None:
    schema = {"type": "array", "items": {"anyOf": [{"type": "object", "additionalProperties": more}]}}
    with pytest.raises(InputError, match="of x/items/anyOf/0 is open: "):
        closed_schema(schema, "x")
    with pytest.raises(InputError, match="of x is open: "):
        closed_schema(schema["items"]["anyOf"][0], "x")


@pytest.mark.parametrize("known", ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6",
                                   "uuid"])  # fmt: skip
def test_a_format_that_is_enforced_stays_and_another_moves_into_the_description(known: str) -> None:
    schema = {"type": "string", "format": known}
    assert closed_schema(schema, "x") == schema
    assert closed_schema({"type": "string", "format": "binary"}, "x") == {
        "type": "string",
        "description": '(format: "binary")',
    }


@pytest.mark.parametrize(
    "bound",
    ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
     "uniqueItems", "minContains", "maxContains", "minProperties", "maxProperties"],
)  # fmt: skip
def test_no_bound_is_sent_as_such(bound: str) -> None:
    assert closed_schema({"type": "string", bound: 3}, "x") == {"type": "string", "description": f"({bound}: 3)"}


@pytest.mark.parametrize("open_one", [{"type": "object"}, {"type": ["object", "null"]}, {"properties": {}}])
def test_whatever_may_be_an_object_is_closed(open_one: dict[str, Any]) -> None:
    assert closed_schema(open_one, "x") == {**open_one, "additionalProperties": False}


def test_bounds_move_into_the_description() -> None:
    assert closed_schema({"type": "integer", "minimum": 1, "exclusiveMaximum": 9}, "x") == {
        "type": "integer",
        "description": "(minimum: 1, exclusiveMaximum: 9)",
    }
    assert closed_schema({"description": "Names", "type": "array", "minItems": 1, "maxItems": 3}, "x") == {
        "description": "Names (maxItems: 3)",
        "type": "array",
        "minItems": 1,
    }
    assert closed_schema({"type": "array", "minItems": 2}, "x") == {"type": "array", "description": "(minItems: 2)"}
    properties = {"minimum": {"type": "string"}, "oneOf": {"type": "string"}, "format": {"type": "string"}}
    assert closed_schema({"properties": properties}, "x")["properties"] == properties


@pytest.mark.parametrize("model", ["claude-sonnet-4-0", "claude-opus-4-20250514", "claude-3-opus-20240229", "qwen4"])
def test_where_no_schema_is_enforced_it_is_asked_for_in_words(model: str) -> None:
    schema = {"type": "object", "properties": {"größe": {"type": "integer", "minimum": 1}}}
    body = build(model=model, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    assert "output_config" not in body
    assert json.loads(body["system"].partition("\n")[2]) == schema


def test_a_schema_that_is_no_json_is_refused() -> None:
    for model in ("claude-haiku-4-5", "claude-sonnet-4-0"):
        for schema in ({"enum": [object()]}, {"enum": ["\ud83d"]}):
            with pytest.raises(InputError):
                build(
                    model=model,
                    response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
                )


def test_a_schema_nested_beyond_reason_is_refused() -> None:
    nested: dict[str, Any] = {}
    for _ in range(100_000):
        nested = {"items": nested}
    for model in ("claude-haiku-4-5", "claude-sonnet-4-0"):
        with pytest.raises(InputError):
            build(model=model, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": nested}})


def test_an_instruction_stands_behind_the_system_messages() -> None:
    messages = [{"role": "system", "content": [{"type": "text", "text": "Long", "cache_control": MARK}]}, *HI]
    body = build(messages, response_format={"type": "json_object"})
    assert body["system"][0] == {"type": "text", "text": "Long", "cache_control": MARK}
    assert body["system"][1]["text"].startswith("Answer with one JSON object")


# --- tools ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"tool_choice": "required"}, "tool_choice demands a tool, but there are no tools"),
        ({"tools": [], "tool_choice": {"type": "tool", "name": "f"}}, "there are no tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "then"}}, "a tool that is not there: 'then'"),
        ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice is not understood"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice is not understood"),
        ({"tools": [TOOL], "tool_choice": {"type": "custom", "custom": {"name": "c"}}}, "is not understood"),
        ({"tools": [TOOL], "tool_choice": 7}, "tool_choice is not understood"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "needs a mode"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "takes free text"),
        ({"tools": [{"type": "function", "function": {}}]}, "tool 0 needs a function with a name"),
        ({"tools": [TOOL, {"type": "function", "name": "flat"}]}, "tool 1 needs a function with a name"),
        ({"tools": ["f"]}, "tool 0 must be an object"),
        ({"tools": [{}]}, "tool 0 has neither a type nor a name"),
        ({"tools": {"f": {}}}, "tools must be a list"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": "{}"}}]}, "are no JSON schema"),
        ({"tools": [TOOL], "tool_choice": "required", "thinking": True}, "does not go with a budget"),
        ({"tools": [TOOL], "tool_choice": "required", "model": "claude-sonnet-5-5"}, "cannot be forced to use a tool"),
        ({"tools": [TOOL], "tool_choice": {"type": "any"}, "model": "claude-opus-5-5"}, "cannot be forced"),
    ],
)
def test_tools_that_cannot_be_said_are_refused(params: dict[str, Any], said: str) -> None:
    assert said in refusal(**params)


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def test_tools_that_are_not_allowed_are_not_sent() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "abc"]
    body = build(tools=tools, tool_choice=allowed("auto", "c", "a"))
    assert [tool["name"] for tool in body["tools"]] == ["a", "c"]
    assert body["tool_choice"] == {"type": "auto"}
    assert "not among the tools: 'd'" in refusal(tools=tools, tool_choice=allowed("auto", "d"))
    assert "needs a mode" in refusal(tools=tools, tool_choice=allowed("auto"))
    assert "needs a mode" in refusal(tools=tools, tool_choice=allowed("sometimes", "a"))
    assert "cannot be forced" in refusal(model="claude-fable-5-2", tools=tools, tool_choice=allowed("required", "a"))


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "now"}}, {"type": "any"}])
@pytest.mark.parametrize(
    ("model", "thinking", "is_taken"),
    [
        ("claude-haiku-4-5", None, True),
        ("claude-haiku-4-5", False, True),
        ("claude-haiku-4-5", 2000, False),
        ("claude-opus-4-6", True, True),
        ("claude-opus-4-6", 2000, False),
        ("claude-opus-5", "high", True),
        ("claude-fable-5", "high", True),
        ("claude-fable-5-1", None, False),
        ("claude-sonnet-5-5", False, False),
        ("claude-haiku-5-5", "low", True),
    ],
)
def test_a_forced_tool_goes_with_some_models_and_thoughts(
    choice: Any, model: str, thinking: Any, is_taken: bool
) -> None:
    params = {"model": model, "thinking": thinking, "tools": [TOOL], "tool_choice": choice}
    if is_taken:
        assert build(**params)["tool_choice"]["type"] in ("any", "tool")
    else:
        assert "forced" in refusal(**params)
    assert build(**{**params, "tool_choice": "auto"})["tool_choice"] == {"type": "auto"}


def test_the_schema_of_a_strict_tool_is_closed() -> None:
    parameters = {"properties": {"a": {"type": "object", "properties": {}}, "n": {"type": "integer", "minimum": 1}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters, "strict": True}}
    assert build(tools=[tool])["tools"][0]["input_schema"] == {
        "type": "object",
        "properties": {
            "a": {"type": "object", "properties": {}, "additionalProperties": False},
            "n": {"type": "integer", "description": "(minimum: 1)"},
        },
        "additionalProperties": False,
    }
    parameters["additionalProperties"] = {"type": "string"}
    assert "the JSON schema of tool 0 f is open" in refusal(tools=[tool])
    tool["function"]["strict"] = False
    assert build(tools=[tool])["tools"][0]["input_schema"] == {"type": "object", **parameters}


def test_fields_of_anthropics_stay_on_a_tool_of_openais_form() -> None:
    tool = {**TOOL, "cache_control": MARK, "defer_loading": True}
    tool["function"] = {**TOOL["function"], "input_examples": [{}], "strict": False, "description": None}
    wire = {"name": "now", "input_schema": {"type": "object", "properties": {}}, "strict": False}
    assert build(tools=[tool])["tools"] == [
        {**wire, "input_examples": [{}], "cache_control": MARK, "defer_loading": True}
    ]


# --- URLs and headers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com/v1/"),
        ("https://api.anthropic.com/v1/", "https://api.anthropic.com/v1/"),
        ("https://api.moonshot.ai/anthropic", "https://api.moonshot.ai/anthropic/v1/"),
    ],
)
def test_the_version_stands_once_in_the_url(base_url: str, expected: str) -> None:
    provider, target = ClaudeProvider(), Target(base_url=base_url, api_key="k")
    assert provider.build(ChatRequest(HI, "m"), target, stream=True).url == f"{expected}messages"
    assert provider.models_request(target, None).url == f"{expected}models?limit=1000"
    assert provider.models_request(target, "a/b&c").url == f"{expected}models?limit=1000&after_id=a%2Fb%26c"


@pytest.mark.parametrize("key", ["sk-ant-api03-x", "sk-ant-oat01-x", ""])
@pytest.mark.parametrize("own", [(), (("X-Api-Key", "mine"),), (("authorization", "Bearer mine"),)])
def test_the_key_is_sent_in_one_form_alone(key: str, own: Headers) -> None:
    target = Target(base_url="https://api.anthropic.com", api_key=key, headers=own)
    for headers in (
        ClaudeProvider().build(ChatRequest(HI, "m"), target, stream=False).headers,
        ClaudeProvider().models_request(target, None).headers,
    ):
        names = [name.lower() for name, _ in headers]
        assert ("x-api-key" in names) + ("authorization" in names) == 1
        assert names.count("anthropic-version") == 1
        assert ("anthropic-beta" in names) == (key.startswith("sk-ant-oat") and not own)
        if own:
            assert own[0] in headers


def test_an_oauth_beta_that_is_there_is_not_put_twice() -> None:
    own = (("anthropic-beta", "oauth-2025-04-20,files-api-2025-04-14"),)
    target = Target(base_url="https://api.anthropic.com", api_key="sk-ant-oat01-x", headers=own)
    headers = ClaudeProvider().build(ChatRequest(HI, "m"), target, stream=False).headers
    assert [pair for pair in headers if pair[0] == "anthropic-beta"] == list(own)


def test_pictures_are_wanted_in_types_that_claude_takes() -> None:
    wants = ClaudeProvider().media(Target(base_url="https://api.anthropic.com"))
    assert wants.image_types == {"image/jpeg", "image/png", "image/gif", "image/webp"}
    assert not wants.inline_remote
    assert not wants.audio_as_uri


# --- whatever is asked ------------------------------------------------------------------------------------------------

PAYLOADS = Path(__file__).parents[1] / "data" / "claude"
ASKED = [json.loads(path.read_text())["request"] for path in sorted(PAYLOADS.glob("request_*.json"))]
JUNK = [
    None,
    True,
    0,
    -1,
    1.5,
    1e400,
    "",
    "text",
    "\ud83d",
    [],
    [None],
    ["a"],
    {},
    {"a": 1},
    [{}],
    [[]],
    10**30,
    object(),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


def spoilt(value: Any, place: tuple[Any, ...], junk: Any) -> Any:
    if not place:
        return junk
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[place[0]] = spoilt(value[place[0]], place[1:], junk)
    return copied


@pytest.mark.slow
@settings(max_examples=examples(1000))
@given(
    st.sampled_from(ASKED).flatmap(lambda one: st.tuples(st.just(one), st.sampled_from(places(one)[1:]))),
    st.sampled_from(JUNK),
)
def test_whatever_is_asked_it_is_built_or_refused(asked: tuple[Any, Any], junk: Any) -> None:
    request = spoilt(*asked, junk)
    if not isinstance(request, dict) or not isinstance(request.get("params", {}), dict):
        return
    try:
        messages = normalise_messages(request["messages"])
        chat_request = ChatRequest(messages, str(request["model"]) or "m", request.get("params", {}))
        target = Target(base_url="https://api.anthropic.com", api_key="k")
        built = ClaudeProvider().build(chat_request, target, stream=bool(request.get("stream")))
    except InputError:
        return
    assert json.loads(built.body)["messages"]
