"""JSON schemas given as dictionaries, checked with jsonschema where it is installed (`pip install "flexllm[schema]"`).

The only module that imports jsonschema. Without it a reply is decoded and not checked, which is said once in the log.
"""

from __future__ import annotations

import itertools
import json
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..language import _, mark
from ..words import Words, cut
from .mismatch import KINDS, MOST_SHOWN, Mismatch, WrongKind, any_of, json_path, missing, one_of, show, unknown
from .tree import Schema, every_schema, references, resolve

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

log = logging.getLogger(__name__)

VALIDATORS_KEPT = 64
"""Schemas whose validator is remembered: making one takes longer than checking a reply."""

_warnings = itertools.count()


def check_schema(schema: Schema) -> None:
    """Refuse a schema that cannot be used, before anything is sent. The same schema is checked once.

    Raises:
        ConfigError: It is not JSON-able, refers to what it does not hold, or (if jsonschema is there) is no JSON schema.
    """
    try:
        _check(_written(schema))
    except RecursionError:
        raise ConfigError(_("the schema of response_format is nested too deeply")) from None


def validate(value: Any, schema: Schema) -> None:
    """Check a decoded reply. `format` is not enforced, and nothing is fetched.

    Raises:
        Mismatch: The most telling of the places where the two differ.
        ConfigError: As from `check_schema`; or a reference is found to lead nowhere.
    """
    validator = _validator(_written(schema))
    if validator is None:
        return _warn_once()
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        error = best_match(validator.iter_errors(value))
    except Unresolvable as unresolved:
        raise _unresolved(unresolved.ref) from None
    if error is not None:
        raise _mismatch(error)


def require_jsonschema() -> None:
    """Raise ConfigError if jsonschema, which repair of replies to a plain schema needs, is not installed."""
    try:
        import jsonschema  # noqa: F401
    except ImportError:
        reason = _(
            "repair=True with a JSON schema as a dictionary, against which replies are to be checked, needs jsonschema: "
            'pip install "flexllm[schema]"'
        )
        raise ConfigError(reason) from None


def _written(schema: Schema) -> str:
    try:
        return json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(_("the schema of response_format cannot be written as JSON: {error}", error=error)) from None


@lru_cache(maxsize=VALIDATORS_KEPT)
def _check(written: str) -> None:
    _check_references(json.loads(written))
    _validator(written)


def _check_references(schema: dict[str, Any]) -> None:
    if any("$id" in node or "id" in node for node in every_schema(schema)):
        return  # references are relative to what these say; jsonschema follows them
    for reference in references(schema):
        if reference.startswith("#") and not reference.startswith("#/") and reference != "#":
            continue  # an $anchor
        try:
            resolve(schema, reference)
        except LookupError:
            raise _unresolved(reference) from None


def _unresolved(reference: str) -> ConfigError:
    shown = show(reference)
    return ConfigError(
        _("the schema of response_format refers to {shown}, which it does not hold; nothing is fetched", shown=shown)
    )


def _validator(written: str) -> Validator | None:
    try:
        import jsonschema  # noqa: F401
    except ImportError:
        return None
    return _make_validator(written)


@lru_cache(maxsize=VALIDATORS_KEPT)
def _make_validator(written: str) -> Validator:
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    schema = json.loads(written)
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        path, reason = json_path(tuple(error.absolute_path)), cut(error.message, MOST_SHOWN)
        raise ConfigError(
            _("response_format is no valid JSON schema at {path}: {reason}", path=path, reason=reason)
        ) from None
    return kind(schema, registry=Registry())  # an empty one: the default fetches what it does not hold


def _warn_once() -> None:
    if next(_warnings) == 0:  # atomic, unlike a flag
        log.warning('replies are not checked against their JSON schema: that needs pip install "flexllm[schema]"')


def _mismatch(error: ValidationError) -> Mismatch:
    """Return a jsonschema error in our words; its own begin with the whole value."""
    path = tuple(error.absolute_path)
    value: Any = error.instance
    wanted: Any = error.validator_value
    if error.validator == "type":
        names = [wanted] if isinstance(wanted, str) else wanted
        return WrongKind(path, any_of(KINDS.get(name, name) for name in names), value)
    if error.validator in ("enum", "const"):
        return WrongKind(path, one_of(wanted if error.validator == "enum" else [wanted]), value)
    if error.validator == "required":
        return Mismatch(path, missing(name for name in wanted if name not in value))
    schema = error.schema if isinstance(error.schema, dict) else {}
    if error.validator == "additionalProperties" and wanted is False and "patternProperties" not in schema:
        return Mismatch(path, unknown(name for name in value if name not in schema.get("properties", {})))
    if error.validator in ("anyOf", "oneOf"):
        return Mismatch(path, Words(_FITS_NONE if error.context else _FITS_SEVERAL, value=show(value)))
    if error.validator in (None, "not"):  # None: the schema is just `false`
        return Mismatch(path, Words(mark("{value} is not allowed"), value=show(value)))
    problem = Words(
        mark("{value} does not satisfy {keyword}: {wanted}"),
        value=show(value), keyword=error.validator, wanted=show(wanted),
    )  # fmt: skip
    return Mismatch(path, problem)


_FITS_NONE = mark("{value} does not fit any of the forms that the schema has")
_FITS_SEVERAL = mark("{value} fits more than one of the forms that the schema has")
