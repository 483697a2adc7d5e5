"""Pydantic's models, and annotations that only pydantic can read: their schema, and their values from a reply.

The only module that imports pydantic, and that only for a caller who has it.
"""

from __future__ import annotations

import sys
from typing import Any

from ..errors import ConfigError
from ..language import _, mark
from ..words import Words, cut
from .annotations import is_class
from .mismatch import MOST_SHOWN, Mismatch, listed, placed, show
from .tree import inline_root, subschemas

MOST_PROBLEMS = 3
"""Problems that a message tells of."""


def is_model(thing: object) -> bool:
    """Return whether this is a model class or a dataclass of pydantic's own. Does not import pydantic."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not is_class(thing):
        return False
    return issubclass(thing, pydantic.BaseModel) or hasattr(thing, "__pydantic_validator__")


def is_installed() -> bool:
    """Return whether pydantic is there, in a version that can be used."""
    try:
        import pydantic
    except ImportError:
        return False
    return hasattr(pydantic, "TypeAdapter")


class ModelKind:
    """A model class, or another annotation, that pydantic reads.

    Attributes:
        schema: Its JSON schema in the form of OpenAI's strict mode, as far as that can express it.

    Raises:
        ConfigError: Pydantic is too old, or cannot read it.
    """

    def __init__(self, annotation: Any) -> None:
        if not is_installed():
            raise ConfigError(
                _("response_format={annotation!r} needs pydantic 2: pip install 'pydantic>=2'", annotation=annotation)
            )
        import pydantic

        try:
            self._adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(annotation)
            self.schema = inline_root(self._adapter.json_schema())
        except (pydantic.errors.PydanticUserError, NameError, TypeError) as error:
            reason = cut(str(error).partition("\n")[0], MOST_SHOWN)  # the rest is a link
            raise ConfigError(
                _("response_format={given!r} has no JSON schema: {reason}", given=annotation, reason=reason)
            ) from error
        _tighten(self.schema)

    def read(self, value: Any, text: str) -> Any:
        """Return the object that a reply describes.

        Args:
            text: The JSON, unread: from a text pydantic takes dates and the like even where a model is strict.

        Raises:
            Mismatch: With the first problems that pydantic finds.
        """
        import pydantic

        try:
            return self._adapter.validate_json(text)
        except pydantic.ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
            raise _mismatch(found) from error


def _mismatch(problems: list[Any]) -> Mismatch:
    """Return the first problem, with its place, and the next ones in words."""
    first, *others = problems[:MOST_PROBLEMS]
    told = [_told(first), *(placed(one["loc"], _told(one)) for one in others)]
    if len(problems) > MOST_PROBLEMS:
        told.append(Words(mark("and {count} more"), count=len(problems) - MOST_PROBLEMS))
    return Mismatch(first["loc"], listed(told))


def _told(problem: Any) -> Words | str:
    """Return a problem in pydantic's words, with the refused value; a missing field's is the whole object around it."""
    said = cut(problem["msg"], MOST_SHOWN)
    if problem["type"] == "missing":
        return said
    return Words(
        mark("{problem}, not {value}"), problem=said, value=show(problem["input"], MOST_SHOWN // MOST_PROBLEMS)
    )


def _tighten(node: dict[str, Any]) -> None:
    """Bring a schema of pydantic's into the form of OpenAI's strict mode, in place.

    Every field is asked for, as defaults are the caller's and not the model's; `oneOf` (from unions with a discriminator)
    becomes `anyOf`, since pydantic itself finds out which one it is; nothing stands beside a `$ref`.
    """
    node.pop("default", None)
    if "oneOf" in node and "anyOf" not in node:
        node["anyOf"] = node.pop("oneOf")
        node.pop("discriminator", None)
    if "properties" in node:
        node["required"] = list(node["properties"])
        node.setdefault("additionalProperties", False)
    if "$ref" in node and len(node) > 1:
        node["anyOf"] = [{"$ref": node.pop("$ref")}]
    for child in subschemas(node):
        _tighten(child)
