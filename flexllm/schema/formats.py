"""`response_format`: OpenAI's form of it, from whatever the caller gives."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from ..errors import ConfigError
from ..language import _, mark
from ..words import cut
from .annotations import definition_name
from .kinds import DEFAULT_NAME, is_kind, kind_name, kind_of
from .mismatch import KINDS, show
from .tree import is_strict
from .validation import check_schema, require_jsonschema

ACCEPTED = mark(
    "a dict in OpenAI's form, a JSON schema, a dataclass, a list or union of dataclasses "
    "or, with pydantic installed, a model class or TypedDict"
)

_KEYWORDS = frozenset({"properties", "$ref", "$defs", "anyOf", "oneOf", "allOf", "enum", "const", "items", "$schema"})
"""Any of these makes a dictionary a JSON schema, even if it names no type."""


class ResponseFormat(dict[str, Any]):
    """OpenAI's `response_format` as the plain dictionary that is sent, and beside it what is not.

    It equals, and is written and digested as, that dictionary. It pickles and copies with its attributes; `dict(...)`
    and `|` give a plain dictionary without them.

    Attributes:
        kind: The class (or other annotation) whose object the reply becomes; None for one of JSON's own values.
        repair: Whether a reply that does not fit is sent back once to be corrected.
    """

    __slots__ = ("kind", "repair")

    def __init__(self, fields: Mapping[str, Any], *, kind: Any = None, repair: bool = False) -> None:
        super().__init__(fields)
        self.kind = kind
        self.repair = repair

    def copy(self) -> ResponseFormat:
        """Return a shallow copy, attributes included."""
        return ResponseFormat(self, kind=self.kind, repair=self.repair)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (dict(self), self.kind, self.repair)


def _restore(fields: dict[str, Any], kind: Any, repair: bool) -> ResponseFormat:
    return ResponseFormat(fields, kind=kind, repair=repair)


def as_response_format(value: Any, repair: bool = False) -> ResponseFormat:
    """Return what a caller gives as `response_format` in the form that is sent.

    Args:
        value: A dictionary in OpenAI's form (sent unchanged, a server's own fields and types included); a JSON schema;
            a dataclass; a model class or TypedDict of pydantic's; a list, dictionary or union of such. OpenAI itself
            takes objects alone: other servers also take a schema whose root is a list or a union.
        repair: Have a reply that does not fit corrected by the model, once.

    Returns:
        With a class, `strict` says whether the schema keeps OpenAI's strict rules; with a JSON schema it is set where it
        keeps them and otherwise left out.

    Raises:
        ConfigError: It is none of these, or the schema is no JSON schema, or cannot be checked where a repair is asked for.
    """
    if isinstance(value, ResponseFormat):
        return ResponseFormat(value, kind=value.kind, repair=repair or value.repair)
    if isinstance(value, Mapping):
        fields = dict(value)
        if _is_schema(fields):
            check_schema(fields)  # before anything else looks into it
            fields = _wrap(fields)
        else:
            check_format(fields)
        if repair and wanted_schema(fields) is not None:
            require_jsonschema()
        return ResponseFormat(fields, repair=repair)
    if is_kind(value):
        schema = deepcopy(kind_of(value).schema)  # the caller may change it
        inner = {"name": kind_name(value), "schema": schema, "strict": is_strict(schema)}
        return ResponseFormat({"type": "json_schema", "json_schema": inner}, kind=value, repair=repair)
    shown = value.__qualname__ if isinstance(value, type) else cut(repr(value), 60)
    raise ConfigError(_("response_format={shown} cannot be used; give {accepted}", shown=shown, accepted=_(ACCEPTED)))


def check_format(response_format: Mapping[str, Any]) -> None:
    """Refuse a dictionary that is not of OpenAI's form, or whose schema cannot be used.

    Types that OpenAI does not have are the server's own and are not looked into.

    Raises:
        ConfigError: Saying what is missing.
    """
    kind = response_format.get("type")
    if not isinstance(kind, str):
        shown = show(dict(response_format))
        raise ConfigError(
            _("response_format={shown} has no 'type'; give {accepted}", shown=shown, accepted=_(ACCEPTED))
        )
    if kind != "json_schema" or "json_schema" not in response_format:
        return
    inner = response_format["json_schema"]
    if not isinstance(inner, Mapping):
        given = show(inner)
        raise ConfigError(
            _("json_schema in response_format must be an object with 'name' and 'schema', not {given}", given=given)
        )
    schema = inner.get("schema")
    if isinstance(schema, Mapping):
        check_schema(schema)
    elif schema is not None or _is_schema(inner):
        raise ConfigError(
            _("json_schema in response_format needs the schema as an object under 'schema', beside 'name'")
        )


def wanted_schema(response_format: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the schema that a reply is to satisfy, None if there is none."""
    inner = response_format.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    return schema if isinstance(schema, Mapping) and response_format.get("type") == "json_schema" else None


def _is_schema(fields: Mapping[str, Any]) -> bool:
    kind = fields.get("type")
    if isinstance(kind, str):
        return kind in KINDS
    return isinstance(kind, list) or not _KEYWORDS.isdisjoint(fields)


def _wrap(schema: dict[str, Any]) -> dict[str, Any]:
    title = schema.get("title")
    name = definition_name(title) if isinstance(title, str) else ""
    inner: dict[str, Any] = {"name": name or DEFAULT_NAME, "schema": schema}
    if is_strict(schema):
        inner["strict"] = True
    return {"type": "json_schema", "json_schema": inner}
