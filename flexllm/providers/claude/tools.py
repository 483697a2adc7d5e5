"""Tools and the choice among them, from OpenAI's form to Anthropic's. What already is Anthropic's passes unchanged.

Source: Anthropic's API reference, tool use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import InputError
from ...language import _
from .models import ClaudeModel
from .schemas import closed_schema

Tool = Mapping[str, Any]

_MODES = {"auto": "auto", "none": "none", "required": "any"}
_OWN_CHOICES = ("auto", "any", "tool", "none")
_KNOWN = ("name", "description", "parameters", "strict")
_NAME = re.compile("[a-zA-Z0-9_-]{1,128}")
_ALTERNATIVES = ("anyOf", "oneOf", "allOf")


def tool_fields(
    given: dict[str, Any], name: str, model: ClaudeModel, thinking: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Take the fields about tools out of what is given; return them as Anthropic has them.

    Of `allowed_tools` the others are left out of the request, which comes to the same: the model knows no others.

    Args:
        name: The model's, for errors.
        thinking: The `thinking` object that will be sent.

    Raises:
        InputError: A tool or the choice cannot be said, or the model refuses it.
    """
    tools = given.pop("tools", None)
    choice = given.pop("tool_choice", None)
    parallel = given.pop("parallel_tool_calls", None)
    if not tools and choice is None:
        return {}
    if tools is not None and not isinstance(tools, (list, tuple)):
        raise InputError(_("tools must be a list, not {kind}", kind=type(tools).__name__))
    wire_tools = [_tool(tool, position) for position, tool in enumerate(tools or ())]
    if model.is_claude:
        _check_tools(wire_tools)
    wire_choice = None
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        wire_tools, choice = _allowed(choice, wire_tools)
    if choice is not None:
        wire_choice = _choice(choice)
    if not wire_tools:
        if wire_choice is not None and wire_choice.get("type") not in ("auto", "none"):
            raise InputError(_("tool_choice demands a tool, but there are no tools"))
        return {}
    if parallel is False and (wire_choice or {}).get("type") != "none":
        wire_choice = {"type": "auto", "disable_parallel_tool_use": True, **(wire_choice or {})}
    if wire_choice is not None and wire_choice.get("type") in ("any", "tool"):
        if wire_choice["type"] == "tool" and wire_choice.get("name") not in [tool.get("name") for tool in wire_tools]:
            unknown = str(wire_choice.get("name"))[:60]
            raise InputError(_("tool_choice names a tool that is not there: {name!r}", name=unknown))
        _check_forced(name, model, thinking)
    return {"tools": wire_tools, "tool_choice": wire_choice}


def _tool(tool: Any, position: int) -> Tool:
    where = _("tool {position}", position=position)
    if not isinstance(tool, Mapping):
        raise InputError(_("{where} must be an object, not {kind}", where=where, kind=type(tool).__name__))
    if tool.get("type") != "function":
        if "custom" in tool:
            raise InputError(
                _("{where} takes free text, which Claude has no tools for: give it parameters", where=where)
            )
        if not tool.get("name") and not tool.get("type"):
            raise InputError(_("{where} has neither a type nor a name", where=where))
        return tool if type(tool) is dict else dict(tool)
    function = tool.get("function")
    if not isinstance(function, Mapping) or not function.get("name"):
        raise InputError(_("{where} needs a function with a name", where=where))
    wire: dict[str, Any] = {"name": function["name"]}
    if function.get("description"):
        wire["description"] = function["description"]
    wire["input_schema"] = _input_schema(function.get("parameters"), where)
    if function.get("strict") is not None:
        wire["strict"] = function["strict"]
        if function["strict"]:
            wire["input_schema"] = closed_schema(wire["input_schema"], f"{where} {function['name']}")
    wire.update({field: value for field, value in function.items() if field not in _KNOWN})
    wire.update({field: value for field, value in tool.items() if field not in ("type", "function")})
    return wire


def _check_tools(tools: Sequence[Tool]) -> None:
    """Refuse names and schemas of the caller's own tools that Anthropic does."""
    for position, tool in enumerate(tools):
        if tool.get("type") not in (None, "custom"):
            continue
        name, schema = tool.get("name"), tool.get("input_schema")
        if isinstance(name, str) and not _NAME.fullmatch(name):
            reason = _(
                "tool {position} cannot be called {name!r}: up to 128 letters, digits, '_' and '-'",
                position=position, name=name[:60],
            )  # fmt: skip
            raise InputError(reason)
        found = [word for word in _ALTERNATIVES if isinstance(schema, Mapping) and word in schema]
        if found:
            raise InputError(
                _(
                    "tool {position} has parameters that begin with {word}, which Anthropic takes further inside alone: "
                    "give one object with properties",
                    position=position,
                    word=found[0],
                )
            )


def _input_schema(parameters: Any, where: str) -> Mapping[str, Any]:
    if not parameters:
        return {"type": "object", "properties": {}}
    if not isinstance(parameters, Mapping):
        kind = type(parameters).__name__
        raise InputError(_("{where} has parameters that are no JSON schema but of type {kind}", where=where, kind=kind))
    return parameters if "type" in parameters else {"type": "object", **parameters}


def _choice(choice: Any) -> dict[str, Any]:
    if isinstance(choice, str) and choice in _MODES:
        return {"type": _MODES[choice]}
    if isinstance(choice, Mapping):
        if choice.get("type") in _OWN_CHOICES:
            return dict(choice)
        function = choice.get("function")
        if choice.get("type") == "function" and isinstance(function, Mapping) and function.get("name"):
            return {"type": "tool", "name": function["name"]}
    raise InputError(
        _("tool_choice is not understood: give 'auto', 'none', 'required', a function by its name, or allowed_tools")
    )


def _allowed(choice: Mapping[str, Any], tools: Sequence[Tool]) -> tuple[list[Tool], str]:
    """Return the tools that are allowed, and whether one of them must be used."""
    allowed = choice.get("allowed_tools")
    listed = allowed.get("tools") if isinstance(allowed, Mapping) else None
    mode = allowed.get("mode", "auto") if isinstance(allowed, Mapping) else None
    if not isinstance(listed, (list, tuple)) or not listed or mode not in ("auto", "required"):
        raise InputError(
            _("tool_choice of type 'allowed_tools' needs a mode ('auto' or 'required') and a list of tools")
        )
    names = [_named(one) for one in listed]
    known = [tool.get("name") for tool in tools]
    unknown = [name for name in names if name not in known]
    if unknown:
        name = str(unknown[0])[:60]
        raise InputError(_("tool_choice allows a tool that is not among the tools: {name!r}", name=name))
    return [tool for tool in tools if tool.get("name") in names], mode


def _named(tool: Any) -> Any:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return function.get("name") if isinstance(function, Mapping) else None


def _check_forced(name: str, model: ClaudeModel, thinking: Mapping[str, Any] | None) -> None:
    if not model.takes_forced_tools:
        raise InputError(
            _("{name} cannot be forced to use a tool: give tool_choice='auto' and ask for it in the text", name=name)
        )
    if model.is_claude and thinking is not None and thinking.get("type") == "enabled":
        raise InputError(
            _("a forced tool_choice does not go with a budget for thinking: give 'auto', or switch thinking off")
        )
