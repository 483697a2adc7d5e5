"""The shapes that an annotation of a dataclass can take: each writes its JSON schema and reads its value from a reply.

`annotations` makes them. A shape is shared by threads and holds no state of a reply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..words import Words, cut
from .mismatch import KINDS, Mismatch, Path, WrongKind, any_of, missing, one_of, unknown

Defs = dict[str, dict[str, Any]]
"""The `$defs` of the schema that is being written."""


class Shape(Protocol):
    """One annotation."""

    @property
    def expected(self) -> Words | str:
        """What stands here: "a list"."""

    def schema(self, defs: Defs) -> dict[str, Any]:
        """Return the JSON schema; definitions that it refers to are added to `defs`."""

    def read(self, value: Any, path: Path, exact: bool) -> Any:
        """Return the Python value of a decoded JSON value.

        Args:
            exact: Fields that have a default must be there all the same.

        Raises:
            Mismatch: The value does not fit.
        """


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value without parts.

    Attributes:
        keywords: Its schema.
        expected: What stands here.
        convert: Returns the Python value; raises ValueError or OverflowError for one that does not fit.
    """

    keywords: dict[str, Any]
    expected: Words | str
    convert: Callable[[Any], Any]

    def schema(self, defs: Defs) -> dict[str, Any]:
        """Return the keywords."""
        return dict(self.keywords)

    def read(self, value: Any, path: Path, exact: bool) -> Any:
        """Return the converted value."""
        try:
            return self.convert(value)
        except (ValueError, OverflowError):
            raise WrongKind(path, self.expected, value) from None


@dataclass(frozen=True, slots=True)
class Choices:
    """One of some values, of a `Literal` or an `Enum`.

    Attributes:
        options: Pairs of the JSON value and the Python value.
    """

    options: tuple[tuple[Any, Any], ...]

    @property
    def expected(self) -> Words | str:
        """All options."""
        return one_of(value for value, _ in self.options)

    def schema(self, defs: Defs) -> dict[str, Any]:
        """Return an `enum`; one for each type where there are several, since strict mode wants the type named."""
        by_type: dict[str, list[Any]] = {}
        for value, _ in self.options:
            by_type.setdefault(_TYPE_NAMES[type(value)], []).append(value)
        schemas = [{"type": name, "enum": values} for name, values in by_type.items()]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}

    def read(self, value: Any, path: Path, exact: bool) -> Any:
        """Return the option's Python value. In JSON true is not 1, but 1.0 is."""
        for option, meant in self.options:
            if option == value and isinstance(option, bool) == isinstance(value, bool):
                return meant
        raise WrongKind(path, self.expected, value)


_TYPE_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


@dataclass(frozen=True, slots=True)
class Many:
    """A list, or a tuple of any length."""

    item: Shape
    make: Callable[[list[Any]], Any]
    expected: Words | str = KINDS["array"]

    def schema(self, defs: Defs) -> dict[str, Any]:
        """Return an array."""
        return {"type": "array", "items": self.item.schema(defs)}

    def read(self, value: Any, path: Path, exact: bool) -> Any:
        """Return all items."""
        if not isinstance(value, list):
            raise WrongKind(path, self.expected, value)
        return self.make([self.item.read(one, (*path, number), exact) for number, one in enumerate(value)])


@dataclass(frozen=True, slots=True)
class Table:
    """A dictionary with names of the model's own."""

    value: Shape
    expected: Words | str = KINDS["object"]

    def schema(self, defs: Defs) -> dict[str, Any]:
        """Return an open object, which strict mode does not know."""
        return {"type": "object", "additionalProperties": self.value.schema(defs) or True}

    def read(self, value: Any, path: Path, exact: bool) -> Any:
        """Return all values."""
        if not isinstance(value, dict):
            raise WrongKind(path, self.expected, value)
        return {name: self.value.read(one, (*path, name), exact) for name, one in value.items()}


@dataclass(frozen=True, slots=True)
class Either:
    """A union: the first option that fits."""

    options: tuple[Shape, ...]

    @property
    def expected(self) -> Words | str:
        """What any of the options expects."""
        return any_of(option.expected for option in self.options)

    def schema(self, defs: Defs) -> dict[str, Any]:
        """Return an `anyOf`."""
        return {"anyOf": [option.schema(defs) for option in self.options]}

    def read(self, value: Any, path: Path, exact: bool) -> Any:
        """Return what the first option makes of it. One that needs no default goes before one that does."""
        failures: list[Mismatch] = []
        for strictly in (True,) if exact else (True, False):
            failures = []
            for option in self.options:
                try:
                    return option.read(value, path, strictly)
                except Mismatch as failure:
                    failures.append(failure)
        inside = [failure for failure in failures if not isinstance(failure, WrongKind) or failure.path != path]
        if inside:  # an option that came further knows better what is wrong
            raise max(inside, key=_depth)
        raise WrongKind(path, self.expected, value)


def _depth(failure: Mismatch) -> int:
    return len(failure.path)


@dataclass(frozen=True, slots=True)
class Described:
    """A shape with words for the model, from `Annotated[..., "words"]`."""

    shape: Shape
    description: str

    @property
    def expected(self) -> Words | str:
        """The same as without the words."""
        return self.shape.expected

    def schema(self, defs: Defs) -> dict[str, Any]:
        """Return the schema with a `description`. OpenAI and Gemini take nothing beside a `$ref`, so that moves inside."""
        schema = self.shape.schema(defs)
        return {**({"anyOf": [schema]} if "$ref" in schema else schema), "description": self.description}

    def read(self, value: Any, path: Path, exact: bool) -> Any:
        """Return the same as without the words."""
        return self.shape.read(value, path, exact)


@dataclass(frozen=True, slots=True)
class Record:
    """A dataclass. It may contain itself, so its fields are added after it is made.

    Attributes:
        name: Its name in `$defs`.
        build: Makes the object from keyword arguments.
        description: Words for the model, "" for none.
        fields: The shape of each field, by name.
        optional: The names of the fields that have a default.
    """

    name: str
    build: Callable[..., Any]
    description: str = ""
    fields: dict[str, Shape] = field(default_factory=dict)
    optional: set[str] = field(default_factory=set)
    expected: Words | str = KINDS["object"]

    def schema(self, defs: Defs) -> dict[str, Any]:
        """Return a reference to the definition. Defaults are for the caller: the model is to give every field."""
        if self.name not in defs:
            definition = defs[self.name] = {"type": "object"}
            if self.description:
                definition["description"] = self.description
            definition["properties"] = {name: shape.schema(defs) for name, shape in self.fields.items()}
            definition["required"] = list(self.fields)
            definition["additionalProperties"] = False
        return {"$ref": f"#/$defs/{self.name}"}

    def read(self, value: Any, path: Path, exact: bool) -> Any:
        """Return the object."""
        if not isinstance(value, dict):
            raise WrongKind(path, self.expected, value)
        if not value.keys() <= self.fields.keys():
            raise Mismatch(path, unknown(name for name in value if name not in self.fields))
        absent = [name for name in self.fields if name not in value and (exact or name not in self.optional)]
        if absent:
            raise Mismatch(path, missing(absent))
        given = {name: self.fields[name].read(one, (*path, name), exact) for name, one in value.items()}
        try:
            return self.build(**given)
        except ValueError as error:  # the class's own check
            raise Mismatch(path, cut(str(error), MOST_SAID) or type(error).__name__) from error


MOST_SAID = 200
"""Characters of what a class's own check says."""
