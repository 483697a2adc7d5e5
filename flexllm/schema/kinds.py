"""What a caller may give in place of a schema: dataclasses, pydantic's models, lists and unions of them."""

from __future__ import annotations

import types
from functools import lru_cache
from typing import Annotated, Any, Literal, Protocol, Union, get_origin

from ..errors import ConfigError
from .annotations import definition_name, is_class, is_record, shape_of
from .models import ModelKind, is_installed, is_model
from .shapes import Defs
from .tree import inline_root

DEFAULT_NAME = "answer"
"""The name that a schema gets which brings none."""

KINDS_KEPT = 256
"""Classes whose schema is remembered: programs have few, but may make them at run time."""

_EXPRESSIONS = (list, tuple, dict, Union, types.UnionType, Literal, Annotated)


class Kind(Protocol):
    """A class, or another annotation, with the schema that describes its values."""

    schema: dict[str, Any]

    def read(self, value: Any, text: str) -> Any:
        """Return the Python value of a reply, given decoded and as its JSON text. Raises Mismatch."""


class ShapeKind:
    """An annotation of the standard library's alone; needs nothing installed.

    Attributes:
        schema: As OpenAI's strict mode has it: every field is required, and there are no others.
    """

    def __init__(self, annotation: Any) -> None:
        self._shape = shape_of(annotation)
        defs: Defs = {}
        schema = self._shape.schema(defs)
        self.schema = inline_root({**schema, "$defs": defs} if defs else schema)

    def read(self, value: Any, text: str) -> Any:
        """Return the object that a reply describes."""
        return self._shape.read(value, (), False)


def _is_typeddict(thing: Any) -> bool:
    """Return whether this is a TypedDict, of typing's or of typing_extensions'; each knows only its own."""
    return is_class(thing) and isinstance(getattr(thing, "__required_keys__", None), frozenset)


def is_kind(thing: object) -> bool:
    """Return whether this may describe a reply: it is a class or an annotation made for that."""
    if is_class(thing):
        return is_record(thing) or is_model(thing) or _is_typeddict(thing)
    return get_origin(thing) in _EXPRESSIONS


def kind_of(annotation: Any) -> Kind:
    """Return how a class or annotation is described and read; made once for each.

    Raises:
        ConfigError: It cannot be described; the message names the class and field.
    """
    # `int | str` equals `str | int`, but they do not read the same.
    return _kind_of(annotation, "" if is_class(annotation) else repr(annotation))


@lru_cache(maxsize=KINDS_KEPT)
def _kind_of(annotation: Any, spelling: str) -> Kind:
    if is_model(annotation) or _is_typeddict(annotation):
        return ModelKind(annotation)
    try:
        return ShapeKind(annotation)
    except ConfigError:
        # A plain dataclass is read alike everywhere, whether pydantic is installed or not.
        if is_record(annotation) or not is_installed():
            raise
        return ModelKind(annotation)


def kind_name(annotation: Any) -> str:
    """Return the name for a kind's schema."""
    return (definition_name(annotation.__name__) if is_class(annotation) else "") or DEFAULT_NAME
