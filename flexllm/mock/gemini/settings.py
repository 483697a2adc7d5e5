"""The rules for how Gemini is to answer: generation settings, tools, and the schemas in both.

Works on requests as `protojson` has read them. Every rule may rely on those before it, for only the first fault counts.

Source: Google's API reference and its guides on function calling and structured output.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .messages import BUILT_IN_TOOLS
from .models import Family, thinking_faults
from .protojson import Fault, broken_rule, shown

MOST_STOP_SEQUENCES = 5
MOST_CANDIDATES = 8
MIME_TYPES = ("text/plain", "application/json", "application/xml", "application/yaml", "text/x.enum")
# Lowest and highest; both allowed.
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "topP": (0.0, 1.0),
    "topK": (1, float("inf")),
    "candidateCount": (1, MOST_CANDIDATES),
    "maxOutputTokens": (1, float("inf")),
    "logprobs": (0, 20),
}
PENALTIES = ("presencePenalty", "frequencyPenalty")  # from -2 to less than 2
_FUNCTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")


def snake(name: str) -> str:
    """Return a camelCase name in the spelling of Google's errors."""
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def name_faults(name: str | None, place: str) -> Iterator[Fault]:
    """Yield what is wrong with a function's name."""
    if not name:
        yield broken_rule(place, "Name cannot be empty.")
    elif not _FUNCTION_NAME.fullmatch(name):
        reason = (
            "Invalid function name. Must start with a letter or an underscore. Must be alphanumeric (a-z, A-Z, 0-9), "
            "underscores (_), dots (.), colons (:) or dashes (-), with a maximum length of 128."
        )
        yield broken_rule(place, reason)


# ---------------------------------------------------------------------------------------------------- generation


def generation_faults(config: Mapping[str, Any], model_family: Family, has_functions: bool) -> Iterator[Fault]:
    """Yield what is wrong with a `generationConfig`. `has_functions`: whether the request declares any."""
    yield from _range_faults(config)
    stops = config.get("stopSequences", ())
    if len(stops) > MOST_STOP_SEQUENCES:
        reason = f"the number of stop_sequences must not exceed {MOST_STOP_SEQUENCES}."
        yield broken_rule("generation_config.stop_sequences", reason)
    if "" in stops:
        yield broken_rule("generation_config.stop_sequences", "stop_sequence must not be empty.")
    if config.get("logprobs") and not config.get("responseLogprobs"):
        yield broken_rule("generation_config.logprobs", "logprobs needs response_logprobs to be true.")
    yield from _format_faults(config, model_family, has_functions)
    if "thinkingConfig" in config:
        for field, reason in thinking_faults(model_family, config["thinkingConfig"]):
            yield broken_rule(f"generation_config.thinking_config{field and '.'}{field}", reason)


def _range_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    for name, (low, high) in RANGES.items():
        if name in config and not low <= config[name] <= high:
            words = f"must be in the range [{low}, {high}]." if high < float("inf") else "must be positive."
            yield broken_rule(f"generation_config.{snake(name)}", f"{snake(name)} {words}")
    for name in PENALTIES:
        if name in config and not -2 <= config[name] < 2:
            reason = f"{snake(name)} must be in the range [-2.0, 2.0): the upper end is not allowed."
            yield broken_rule(f"generation_config.{snake(name)}", reason)


def _format_faults(config: Mapping[str, Any], model_family: Family, has_functions: bool) -> Iterator[Fault]:
    mime_type = config.get("responseMimeType", "text/plain") or "text/plain"
    if mime_type not in MIME_TYPES:
        allowed = ", ".join(f"`{name}`" for name in MIME_TYPES)
        yield broken_rule("generation_config.response_mime_type", f"allowed mimetypes are {allowed}.")
    if mime_type == "application/json" and has_functions and model_family.is_early:
        reason = "Function calling with a response mime type: 'application/json' is unsupported"
        yield broken_rule("generation_config.response_mime_type", reason)
    schemas = [name for name in ("responseSchema", "responseJsonSchema") if name in config]
    if len(schemas) == 2:
        reason = "only one of response_schema and response_json_schema may be set."
        yield broken_rule("generation_config.response_json_schema", reason)
    for name in schemas:
        place = f"generation_config.{snake(name)}"
        if mime_type not in ("application/json", "text/x.enum"):
            yield broken_rule(place, "a schema needs response_mime_type `application/json` or `text/x.enum`.")
        yield from schema_faults(config[name], place, is_openapi=name == "responseSchema")
        if mime_type == "text/x.enum" and not config[name].get("enum"):
            yield broken_rule(f"{place}.enum", "`text/x.enum` needs a schema with an enum.")
    if mime_type == "text/x.enum" and not schemas:
        yield broken_rule("generation_config.response_schema", "`text/x.enum` needs a schema with an enum.")


# ---------------------------------------------------------------------------------------------------- schemas


def schema_faults(schema: Any, place: str, *, is_openapi: bool) -> Iterator[Fault]:
    """Yield what is wrong with a schema: one in Google's subset of OpenAPI, or a JSON schema."""
    if is_openapi:
        yield from _openapi_faults(schema, place)
    elif not isinstance(schema, dict):
        yield broken_rule(place, "a JSON schema must be an object.")
    else:
        yield from _json_schema_faults(schema, place, schema)


def _openapi_faults(schema: Mapping[str, Any], place: str) -> Iterator[Fault]:
    kind = schema.get("type")
    if kind is None and not schema.get("anyOf"):
        yield broken_rule(f"{place}.type", "type is not specified")
    if kind == "ARRAY" and "items" not in schema:
        yield broken_rule(f"{place}.items", "missing field.")
    if schema.get("enum") and kind != "STRING":
        yield broken_rule(f"{place}.enum", "only allowed for STRING type")
    properties = schema.get("properties", {})
    for name in ("required", "propertyOrdering"):
        for at, property_name in enumerate(schema.get(name, ())):
            if property_name not in properties:
                yield broken_rule(f"{place}.{snake(name)}[{at}]", "property is not defined")
    for name, inner in properties.items():
        yield from _openapi_faults(inner, f"{place}.properties[{name[:60]}]")
    if "items" in schema:
        yield from _openapi_faults(schema["items"], f"{place}.items")
    for at, inner in enumerate(schema.get("anyOf", ())):
        yield from _openapi_faults(inner, f"{place}.any_of[{at}]")


_JSON_TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")


def _json_schema_faults(schema: Any, place: str, root: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what makes it no JSON schema. A keyword that Gemini does not know is ignored, by the service too."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield broken_rule(place, "a JSON schema must be an object or a boolean.")
        return
    kinds = schema.get("type", ())
    for kind in [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, (list, tuple)) else [kinds]:
        if not isinstance(kind, str) or kind.lower() not in _JSON_TYPES:
            yield broken_rule(f"{place}.type", f"unknown type {shown(kind)}")
    reference = schema.get("$ref")
    if reference is not None and not _is_found(reference, root):
        yield broken_rule(f"{place}.$ref", f"reference to an undefined schema: {shown(reference)}")
    for name in ("properties", "$defs"):
        inners = schema.get(name, {})
        if not isinstance(inners, dict):
            yield broken_rule(f"{place}.{name}", "must be an object.")
        for inner_name, inner in inners.items():
            yield from _json_schema_faults(inner, f"{place}.{name}[{inner_name[:60]}]", root)
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        yield broken_rule(f"{place}.required", "must be a list of strings.")
    for name in ("anyOf", "oneOf", "prefixItems"):
        inners = schema.get(name, [])
        if not isinstance(inners, list) or (name in schema and not inners):
            yield broken_rule(f"{place}.{name}", "must be a list of schemas, and not empty.")
        for at, inner in enumerate(inners):
            yield from _json_schema_faults(inner, f"{place}.{name}[{at}]", root)
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from _json_schema_faults(schema[name], f"{place}.{name}", root)


def _is_found(reference: object, root: Mapping[str, Any]) -> bool:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return False
    found: Any = root
    for step in reference[1:].split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        found = found.get(step) if isinstance(found, dict) else None
    return found is not None


# ---------------------------------------------------------------------------------------------------- tools


def functions(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the function declarations of a request, whichever tools they are in."""
    return [function for tool in request.get("tools", ()) for function in tool.get("functionDeclarations", ())]


def tools_faults(request: Mapping[str, Any], model_family: Family) -> Iterator[Fault]:
    """Yield what is wrong with `tools` and `toolConfig`."""
    names: list[str] = []
    for at, tool in enumerate(request.get("tools", ())):
        if not tool:
            yield broken_rule(f"tools[{at}].tool_type", "required one_of 'tool_type' must have one initialized field")
        for number, function in enumerate(tool.get("functionDeclarations", ())):
            place = f"tools[{at}].function_declarations[{number}]"
            yield from _function_faults(function, place)
            if function["name"] in names:
                yield broken_rule(f"{place}.name", f"Duplicate function declaration found: {function['name']}")
            names.append(function["name"])
        built_in = [name for name in BUILT_IN_TOOLS if name in tool]
        if built_in and names and model_family.is_early:
            reason = "Built-in tools and Function Calling cannot be combined in the same request."
            yield broken_rule(f"tools[{at}].{snake(built_in[0])}", reason)
    calling = request.get("toolConfig", {}).get("functionCallingConfig")
    if calling:
        yield from _calling_faults(calling, names)


def _function_faults(function: Mapping[str, Any], place: str) -> Iterator[Fault]:
    yield from name_faults(function.get("name"), f"{place}.name")
    for name, json_name in (("parameters", "parametersJsonSchema"), ("response", "responseJsonSchema")):
        if name in function and json_name in function:
            reason = f"only one of {name} and {snake(json_name)} may be set."
            yield broken_rule(f"{place}.{snake(json_name)}", reason)
        if name in function:
            yield from schema_faults(function[name], f"{place}.{name}", is_openapi=True)
        if json_name in function:
            yield from schema_faults(function[json_name], f"{place}.{snake(json_name)}", is_openapi=False)
    parameters = function.get("parameters") or function.get("parametersJsonSchema") or {}
    kind = parameters.get("type", "object")
    if not isinstance(kind, str) or kind.lower() != "object":
        field = "parameters" if "parameters" in function else "parameters_json_schema"
        yield broken_rule(f"{place}.{field}.type", "parameters schema should be of type OBJECT.")


def _calling_faults(calling: Mapping[str, Any], names: Sequence[str]) -> Iterator[Fault]:
    place = "tool_config.function_calling_config"
    allowed = calling.get("allowedFunctionNames", ())
    mode = calling.get("mode", "AUTO")
    if not names and mode != "NONE":
        yield broken_rule(place, "Function calling config is set without function_declarations.")
    if allowed and mode not in ("ANY", "VALIDATED"):
        reason = "allowed_function_names should only be set when function calling mode is ANY or VALIDATED."
        yield broken_rule(f"{place}.allowed_function_names", reason)
    for at, name in enumerate(allowed):
        if name not in names:
            reason = f"{shown(name)} is not the name of a declared function."
            yield broken_rule(f"{place}.allowed_function_names[{at}]", reason)
