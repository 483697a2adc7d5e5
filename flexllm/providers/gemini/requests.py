"""A chat request, turned into the body of Gemini's `generateContent`: parameters, tools and the form of the answer.

Source: Gemini API reference and the models of Google's SDK.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...chat import ChatRequest
from ...errors import InputError
from ...language import _, mark
from ..thinking import LEVELS, checked_thinking
from .contents import read_conversation
from .models import find_family, thinking_config
from .parts import FILES_API

Body = dict[str, Any]


def _spellings(names: Iterable[str]) -> dict[str, str]:
    """Return names by themselves and by how Python writes them, as the server takes both."""
    return {
        spelt: name
        for name in names
        for spelt in (name, re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name))
    }


_CONFIG_FIELDS = _spellings(
    ("candidateCount", "frequencyPenalty", "maxOutputTokens", "mediaResolution", "presencePenalty", "responseJsonSchema",
     "responseLogprobs", "responseMimeType", "responseModalities", "responseSchema", "routingConfig",
     "modelSelectionConfig", "speechConfig", "stopSequences", "thinkingConfig", "topK", "topP", "audioTimestamp",
     "imageConfig", "enableAffectiveDialog", "enableEnhancedCivicAnswers", "translationConfig",
     "audioTranscriptionConfig")
)  # fmt: skip
"""Fields of `generationConfig` that may be given without it around them."""

_TOP_FIELDS = _spellings(
    ("generationConfig", "systemInstruction", "safetySettings", "cachedContent", "toolConfig", "modelArmorConfig")
)

_RENAMED = {
    "temperature": "temperature",
    "top_p": "topP",
    "n": "candidateCount",
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "top_logprobs": "logprobs",
}
"""OpenAI's words that only have another name here."""

_NEUTRAL = {"n": 1, "presence_penalty": 0, "frequency_penalty": 0}
"""What says nothing; models that do not know a word would refuse even this."""

_READ_ELSEWHERE = frozenset(
    {"model", "stream", "stream_options", "thinking", "reasoning_effort", "tools", "tool_choice", "parallel_tool_calls"}
)

_REFUSED: dict[str, tuple[Any, str]] = {
    "logit_bias": ({}, mark("leave it out")),
    "prediction": (None, mark("leave it out")),
    "user": (None, mark("on Vertex AI 'labels' may hold it")),
    "safety_identifier": (None, mark("on Vertex AI 'labels' may hold it")),
    "metadata": ({}, mark("on Vertex AI 'labels' may hold it")),
    "prompt_cache_key": (None, mark("give 'cachedContent'")),
    "prompt_cache_options": (None, mark("give 'cachedContent'")),
    "prompt_cache_retention": (None, mark("give 'cachedContent'")),
    "modalities": (["text"], mark("give 'responseModalities'")),
    "audio": (None, mark("give 'speechConfig'")),
    "verbosity": (None, mark("ask for it in the messages")),
    "web_search_options": (None, mark("give tools=[{'googleSearch': {}}]")),
    "functions": ([], mark("give 'tools'")),
    "function_call": (None, mark("give 'tool_choice'")),
    "contents": (None, mark("give 'messages'")),
    "messages": (None, mark("they are given as the conversation already")),
}
"""OpenAI's words that cannot be said to Gemini: a value that says nothing anyway, and what to do instead."""

MAX_STOPS = 5
_SEEDS = range(-(2**31), 2**31)
_FUNCTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")


def build_body(request: ChatRequest, model: str, *, on_vertex: bool) -> Body:
    """Return the body that asks `model` to continue a conversation.

    What a caller gives in Gemini's own words passes unchanged and wins over OpenAI's words: fields of
    `generationConfig`, whether inside it or without it around them, in either spelling, and every other field.

    Raises:
        InputError: Something cannot be said to Gemini, or not to this model.
    """
    params = request.params
    system, contents = read_conversation(request.messages, model)
    if on_vertex:
        _refuse_files(contents)
    body: Body = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": [{"text": "\n\n".join(system)}]}
    if not params:
        return body
    config: Body = {}
    native: Body = {}
    for name, value in params.items():
        if value is None or name in _READ_ELSEWHERE:
            continue
        if name == "max_completion_tokens" and params.get("max_tokens") is not None:  # the other wins, as everywhere
            continue
        if name in _RENAMED:
            if value != _NEUTRAL.get(name):
                config[_RENAMED[name]] = value
        elif name in _CONFIG_FIELDS:
            native[_CONFIG_FIELDS[name]] = value
        elif name in _WORDS:
            _WORDS[name](value, config, body)
        elif name in _REFUSED:
            neutral, hint = _REFUSED[name]
            if value != neutral or neutral is None:
                raise InputError(_("{name} cannot be said to Gemini: {hint}", name=name, hint=_(hint)))
        else:
            name = _TOP_FIELDS.get(name, name)
            if name == "systemInstruction" and system:
                raise InputError(_("systemInstruction and a system message are both given: give one of them"))
            if name in body and name in _TOP_FIELDS:
                raise InputError(_("{name} is given twice, in both spellings: give one of them", name=name))
            body[name] = value
    _merge_config(body, config, native)
    _add_thinking(params, config, model, on_vertex)
    if config:
        body["generationConfig"] = config
    if "tools" in params or "tool_choice" in params or "parallel_tool_calls" in params:
        _add_tools(params, body, model)
    if "cachedContent" in body:
        _check_cached(body)
    return body


def _check_cached(body: Body) -> None:
    beside = [name for name in ("systemInstruction", "tools", "toolConfig") if name in body]
    if beside:
        text = _(
            "cachedContent and {field} are both given: Gemini takes the latter from the cache alone", field=beside[0]
        )
        raise InputError(text)


def _refuse_files(contents: Iterable[Mapping[str, Any]]) -> None:
    for content in contents:
        for part in content["parts"]:
            data = part.get("fileData", part.get("file_data")) if isinstance(part, Mapping) else None
            if isinstance(data, Mapping) and str(data.get("fileUri", data.get("file_uri"))).startswith(FILES_API):
                raise InputError(_("Vertex AI cannot read files of the Gemini API: give file_data, or a gs:// URL"))


def _merge_config(body: Body, config: Body, native: Body) -> None:
    """Bring together what stands for `generationConfig`, and check what OpenAI's words made of it."""
    seed = config.get("seed")
    if isinstance(seed, int) and seed not in _SEEDS:
        raise InputError(_("seed={seed} is too large for Gemini: it takes numbers of 32 bits", seed=seed))
    given = body.pop("generationConfig", None)
    if given is not None:
        if not isinstance(given, Mapping):
            raise InputError(_("generationConfig must be an object, not {kind}", kind=type(given).__name__))
        native.update({_CONFIG_FIELDS.get(str(name), str(name)): value for name, value in given.items()})
    if "responseSchema" in native:  # the server takes one of the pair
        config.pop("responseJsonSchema", None)
    config.update(native)
    if not config.get("responseLogprobs") and config.pop("logprobs", None):  # a number of 0 says nothing
        raise InputError(_("logprobs must be True where their number (top_logprobs) is given"))


def _add_thinking(params: Mapping[str, Any], config: Body, model: str, on_vertex: bool) -> None:
    """Add what `thinking`, or OpenAI's word for a strength of it, is for this model."""
    thinking = checked_thinking(params.get("thinking"))
    effort = params.get("reasoning_effort")
    if thinking is not None:
        other = "thinkingConfig" if "thinkingConfig" in config else "reasoning_effort" if effort is not None else None
        if other:
            raise InputError(_("thinking and {other} are both given: give one of them", other=other))
    elif effort is None or "thinkingConfig" in config:
        return
    elif effort in ("none", *LEVELS):
        thinking = checked_thinking(effort)
    else:
        raise InputError(
            _(
                "reasoning_effort={effort!r} is not understood; give 'none' or one of {levels}",
                effort=effort,
                levels=", ".join(LEVELS),
            )
        )
    if thinking is not None:
        said = thinking_config(thinking, model, on_vertex=on_vertex)
        if said is not None:
            config["thinkingConfig"] = said


# --- words that need more than another name -----------------------------------------------------------------------------


def _stop(value: Any, config: Body, body: Body) -> None:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, (list, tuple)) or not all(isinstance(stop, str) for stop in stops):
        raise InputError(_("stop must be a text or a list of texts"))
    if len(stops) > MAX_STOPS:
        raise InputError(_("stop has {count} texts, Gemini takes at most {most}", count=len(stops), most=MAX_STOPS))
    stops = [stop for stop in stops if stop]
    if stops:
        config["stopSequences"] = stops


def _logprobs(value: Any, config: Body, body: Body) -> None:
    """Tell OpenAI's switch from Gemini's number of the same name."""
    if value is True:
        config["responseLogprobs"] = True
    elif value is not False:
        config["logprobs"] = value


def _response_format(value: Any, config: Body, body: Body) -> None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "text":
        return
    if kind not in ("json_object", "json_schema"):
        raise InputError(_("response_format must be an object of type 'text', 'json_object' or 'json_schema'"))
    config["responseMimeType"] = "application/json"
    if kind == "json_schema":
        inner = value.get("json_schema")
        schema = inner.get("schema") if isinstance(inner, Mapping) else None
        if not isinstance(schema, Mapping):
            raise InputError(_("response_format of type 'json_schema' needs json_schema.schema, an object"))
        if inner.get("description"):
            schema = {"description": inner["description"], **schema}
        config["responseJsonSchema"] = schema


def _service_tier(value: Any, config: Body, body: Body) -> None:
    """Say OpenAI's "default" as "standard"; its "auto" is what happens anyway. Gemini's own field wins."""
    if value != "auto":
        body.setdefault("serviceTier", "standard" if value == "default" else value)


_WORDS: dict[str, Callable[[Any, Body, Body], None]] = {
    "stop": _stop,
    "logprobs": _logprobs,
    "response_format": _response_format,
    "service_tier": _service_tier,
}


# --- tools -------------------------------------------------------------------------------------------------------------


def _add_tools(params: Mapping[str, Any], body: Body, model: str) -> None:
    """Add tools and how they are to be chosen; a caller's own `functionCallingConfig` wins.

    Functions become one entry of declarations; Gemini's own tools, which are objects without a type, stand behind it
    unchanged. Where every function is strict and the model may choose, it is held to the schemas (mode VALIDATED, since
    2.5): Gemini has no such switch for a single function.
    """
    if params.get("parallel_tool_calls") is False:
        raise InputError(_("parallel_tool_calls=False cannot be said to Gemini: leave it out"))
    declared, native, is_strict = _read_tools(params.get("tools"))
    mode, names = _read_choice(params.get("tool_choice"))
    are_declarations = ["functionDeclarations" in tool or "function_declarations" in tool for tool in native]
    has_functions = bool(declared) or any(are_declarations)
    family = find_family(model)
    if has_functions and family.version is not None and not family.is_since(3):
        if not all(are_declarations):
            raise InputError(
                _("{model} takes functions or Gemini's own tools, not both: leave one of them out", model=model)
            )
        if "json" in str(body.get("generationConfig", {}).get("responseMimeType")):
            raise InputError(
                _("{model} takes tools or a response_format, not both: leave one of them out", model=model)
            )
    if names and not any(are_declarations):
        unknown = set(names) - {one["name"] for one in declared}
        if unknown:
            raise InputError(_("tool_choice names {name!r}, which is not among the tools", name=min(unknown)[:80]))
    if mode == "ANY" and not has_functions:
        raise InputError(_("tool_choice demands a call, but there is no function in tools"))
    if mode == "NONE" and not all(are_declarations):
        raise InputError(_("tool_choice='none' does not hold Gemini's own tools back: leave them out of tools"))
    if mode == "AUTO" and names:  # a choice among some can be told in mode ANY alone
        declared = [one for one in declared if one["name"] in names]
    if declared or native:
        body["tools"] = [{"functionDeclarations": declared}, *native] if declared else native
    if mode in (None, "AUTO") and declared and is_strict and family.is_since(2, 5):
        mode = "VALIDATED"
    if mode is not None and has_functions:
        _add_choice(body, {"mode": mode, "allowedFunctionNames": names} if names and mode == "ANY" else {"mode": mode})


def _add_choice(body: Body, choice: Mapping[str, Any]) -> None:
    given = body.get("toolConfig", {})
    if not isinstance(given, Mapping):
        raise InputError(_("toolConfig must be an object, not {kind}", kind=type(given).__name__))
    if "functionCallingConfig" not in given and "function_calling_config" not in given:
        body["toolConfig"] = {**given, "functionCallingConfig": choice}


def _read_tools(tools: Any) -> tuple[list[Body], list[Mapping[str, Any]], bool]:
    """Return the declarations of functions, Gemini's own tools, and whether every function is strict."""
    declared: list[Body] = []
    native: list[Mapping[str, Any]] = []
    is_strict = True
    if tools is not None and not isinstance(tools, (list, tuple)):
        raise InputError(_("tools must be a list, not {kind}", kind=type(tools).__name__))
    for tool in tools or ():
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if kind == "function" or (kind is None and function is not None):
            if not isinstance(function, Mapping):
                raise InputError(_("a tool of type 'function' needs a function, an object"))
            declared.append(_declaration(function))
            is_strict = is_strict and function.get("strict") is True
        elif isinstance(tool, Mapping) and kind is None and tool:
            native.append(tool)
        else:
            raise InputError(
                _(
                    "Gemini has no tool such as {tool}: give functions, or its own tools in its own form, such as "
                    "{{'googleSearch': {{}}}}",
                    tool=str(tool)[:60],
                )
            )
    return declared, native, is_strict


_OPENAI_FIELDS = frozenset({"name", "description", "parameters", "strict"})


def _declaration(function: Mapping[str, Any]) -> Body:
    """Return a function's declaration; fields that are not OpenAI's are Gemini's own, and pass unchanged."""
    name = function.get("name")
    if not isinstance(name, str) or not _FUNCTION_NAME.fullmatch(name):
        raise InputError(
            _(
                "a function cannot be called {name!r} at Gemini: up to 128 letters, digits, '_', '.', ':' and "
                "'-', of which the first is a letter or '_'",
                name=str(name)[:140],
            )
        )
    declaration: Body = {"name": name}
    description, parameters = function.get("description"), function.get("parameters")
    if description:
        declaration["description"] = description
    if parameters:
        if not isinstance(parameters, Mapping):
            raise InputError(_("the parameters of the function {name!r} must be a JSON schema, an object", name=name))
        declaration["parametersJsonSchema"] = parameters
    native = {field: value for field, value in function.items() if field not in _OPENAI_FIELDS and value is not None}
    return {**declaration, **native}


_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


def _read_choice(choice: Any) -> tuple[str | None, list[str]]:
    """Return the mode of `tool_choice`, None if none is given, and the functions that it names."""
    if choice is None:
        return None, []
    if isinstance(choice, str) and choice in _MODES:
        return _MODES[choice], []
    if isinstance(choice, Mapping):
        if choice.get("type") == "function":
            return "ANY", [_function_name(choice)]
        allowed = choice.get("allowed_tools")
        if choice.get("type") == "allowed_tools" and isinstance(allowed, Mapping):
            mode, tools = allowed.get("mode"), allowed.get("tools")
            if mode in ("auto", "required") and isinstance(tools, (list, tuple)) and tools:
                return _MODES[mode], [_function_name(tool) for tool in tools]
    raise InputError(
        _(
            "tool_choice={choice} is not understood; give 'auto', 'none', 'required', a function or allowed_tools",
            choice=str(choice)[:80],
        )
    )


def _function_name(choice: Any) -> str:
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        raise InputError(_("tool_choice names no function: {choice}", choice=str(choice)[:80]))
    return name
