"""A strict judge of JSON by the types of the official SDKs, and payloads for it to judge.

The SDKs are lenient on purpose: their models keep unknown fields, pydantic ignores unknown keys of a TypedDict and does
not look into an Iterable. `complaints` walks the same annotations and lets nothing pass: unknown keys, missing keys, wrong
types, at every depth. Twins are copies of a good body with one fault each, made without asking the types, so that a walk
that overlooks a part of the body is found out.
"""

from __future__ import annotations

import base64
import binascii
import collections.abc
import datetime
import enum
import fnmatch
import functools
import json
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

import pydantic
import typing_extensions
from typing_extensions import is_typeddict

DATA = Path(__file__).parent.parent / "data"

Payload = dict[str, Any]
Json = Any
Kind = Any
"""An annotation: a TypedDict, a pydantic model, a union, a literal, a list of any of them, ..."""

UNKNOWN, MISSING, WRONG = "unknown", "missing", "wrong"


class Complaint(NamedTuple):
    """What is wrong, and where: "choices[].message.reasoning: unknown"."""

    place: str
    fault: str
    more: str = ""

    def __str__(self) -> str:
        return f"{self.place or '.'}: {self.fault}{self.more and f' ({self.more})'}"


# --- the payloads -----------------------------------------------------------------------------------------------------


@functools.cache
def load(folder: str) -> dict[str, Payload]:
    """Return the payloads of one provider, by their files' stems."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((DATA / folder).glob("*.json"))}


Marks = dict[tuple[str, str], tuple[str, ...]]
"""By folder and place ("*": any): why the types do not have what stands there, and patterns of the payloads in which it
may stand. A payload may say so itself: its field "strange" is the reason, and then it may stand anywhere in it."""


def unmarked(folder: str, stem: str, found: list[Complaint], marks: Marks) -> list[str]:
    """Return the complaints that no mark allows, or that there are none although the payload calls itself strange."""
    if why := load(folder)[stem].get("strange"):
        return [] if found else [f"it is called strange ({why}), but the types have no complaint: take the word away"]
    return [
        str(one)
        for one in found
        if not any(
            fnmatchcase(stem, pattern)
            for place in (one.place, "*")
            for pattern in marks.get((folder, place), ("",))[1:]
        )
    ]


def needless(folder: str, place: str, marks: Marks, found: dict[str, list[Complaint]]) -> list[str]:
    """Return the patterns of a mark that no payload needs, so that no mark outlives its reason.

    Args:
        found: The complaints about each payload of the folder, by its stem.
    """
    needing = [stem for stem, some in found.items() if any(place in (one.place, "*") for one in some)]
    return [pattern for pattern in marks[folder, place][1:] if not fnmatch.filter(needing, pattern)]


# --- the walk ---------------------------------------------------------------------------------------------------------


def complaints(value: Json, kind: Kind, place: str = "") -> list[Complaint]:
    """Return everything in a JSON value that a kind does not allow, in the order of the value.

    Raises:
        TypeError: The SDKs have begun to use a form of annotation that this walk does not know.
    """
    kind = bare(kind)
    origin = get_origin(kind)
    if kind in (Any, object):
        return []
    if isinstance(kind, TypeVar):
        raise TypeError(f"{place}: {kind!r}")
    if origin in (typing.Union, types.UnionType):
        return _in_union(value, kind, place)
    if origin is typing.Literal:
        fits = any(type(value) is type(one) and value == one for one in get_args(kind))
        return [] if fits else [_wrong(place, value)]
    if _is_object(kind):
        return _in_object(value, kind, place)
    if _is_list(kind):
        return _in_list(value, kind, place)
    if _is_dict(kind):
        return _in_dict(value, kind, place)
    if isinstance(kind, type) or isinstance(origin, type):
        return [] if _is_scalar(value, kind) else [_wrong(place, value)]
    raise TypeError(f"{place}: the walk does not know {kind!r}")


def bare(kind: Kind) -> Kind:
    """Return an annotation without what does not concern JSON."""
    while get_origin(kind) in _WRAPPERS:
        kind = get_args(kind)[0]
    return type(None) if kind is None else kind


_WRAPPERS = (
    typing.Annotated,
    typing_extensions.Required,
    typing_extensions.NotRequired,
    typing_extensions.ReadOnly,
)


def _wrong(place: str, value: Json) -> Complaint:
    return Complaint(place, WRONG, json.dumps(value, ensure_ascii=False)[:60])


def _is_model(kind: Kind) -> bool:
    return isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def _is_list(kind: Kind) -> bool:
    return kind is list or get_origin(kind) in (list, collections.abc.Iterable, collections.abc.Sequence)


def _is_dict(kind: Kind) -> bool:
    return kind is dict or get_origin(kind) in (dict, collections.abc.Mapping)


def _is_scalar(value: Json, kind: type) -> bool:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return any(type(value) is type(one.value) and value == one.value for one in kind)
    if kind is bytes:
        return isinstance(value, str) and _is_base64(value)
    if kind is datetime.datetime:
        return isinstance(value, str) and _is_time(value)
    if kind is float:
        return type(value) in (int, float)
    return kind in (str, int, bool, type(None)) and type(value) is kind  # other classes cannot be said in JSON


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        return False
    return True


def _is_time(text: str) -> bool:
    try:
        pydantic.TypeAdapter(datetime.datetime).validate_json(json.dumps(text))
    except pydantic.ValidationError:
        return False
    return True


def _in_list(value: Json, kind: Kind, place: str) -> list[Complaint]:
    if not isinstance(value, list):
        return [_wrong(place, value)]
    (inner,) = get_args(kind) or (Any,)
    return [one for item in value for one in complaints(item, inner, f"{place}[]")]


def _in_dict(value: Json, kind: Kind, place: str) -> list[Complaint]:
    if not isinstance(value, dict):
        return [_wrong(place, value)]
    _, inner = get_args(kind) or (Any, Any)
    return [one for key, item in value.items() for one in complaints(item, inner, _below(place, key))]


def _in_object(value: Json, kind: Kind, place: str) -> list[Complaint]:
    if not isinstance(value, dict):
        return [_wrong(place, value)]
    fields = _fields(kind)
    found = [Complaint(_below(place, name), MISSING) for name in sorted(fields.required - value.keys())]
    for key, item in value.items():
        if key in fields.kinds:
            found += complaints(item, fields.kinds[key], _below(place, key))
        elif not fields.is_open:
            found.append(Complaint(_below(place, key), UNKNOWN))
    return found


def _below(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


class _Fields(NamedTuple):
    """The fields of a TypedDict or a model by their names in JSON."""

    kinds: dict[str, Kind]
    required: frozenset[str]
    is_open: bool


@functools.cache
def _fields(kind: Kind) -> _Fields:
    if _is_model(kind):
        kind.model_rebuild()
        of = {field.alias or name: field for name, field in kind.model_fields.items()}
        required = frozenset(name for name, field in of.items() if field.is_required())
        # The models keep what they do not know, so that an SDK outlives the service's next field: not so here.
        return _Fields({name: field.annotation for name, field in of.items()}, required, False)
    kinds = typing_extensions.get_type_hints(kind, include_extras=True)
    config = getattr(kind, "__pydantic_config__", {})
    return _Fields(kinds, _required(kind, kinds), config.get("extra") == "allow")


def _required(kind: Kind, kinds: dict[str, Kind]) -> frozenset[str]:
    # Annotations are strings where a TypedDict is made, so what it knows of its own is true for `total` alone.
    marked = {name for name, one in kinds.items() if get_origin(one) is typing_extensions.Required}
    spared = {name for name, one in kinds.items() if get_origin(one) is typing_extensions.NotRequired}
    return frozenset(marked | (set(kind.__required_keys__) - spared))


def _in_union(value: Json, kind: Kind, place: str) -> list[Complaint]:
    """Return the complaints of the member that the value means to be: by its `type` or `role`, or by its shape."""
    members = list(_members(kind))
    if any(is_typeddict(one) for one in members):
        members = [one for one in members if not _is_model(one)]  # an SDK takes its own replies, but sends JSON
    judged = []
    for member in members:
        if _is_tagged_otherwise(value, member):
            continue
        found = complaints(value, member, place)
        if not found:
            return []
        if _resembles(value, member):
            judged.append(found)
    return min(judged, key=len, default=[_wrong(place, value)])


def _members(kind: Kind) -> Iterator[Kind]:
    for one in map(bare, get_args(kind)):
        if get_origin(one) in (typing.Union, types.UnionType):
            yield from _members(one)
        else:
            yield one


def _resembles(value: Json, kind: Kind) -> bool:
    if isinstance(value, dict) and _is_object(kind):
        return all(name in value for name in _tags(kind))
    return (isinstance(value, list) and _is_list(kind)) or (isinstance(value, dict) and _is_dict(kind))


def _is_tagged_otherwise(value: Json, kind: Kind) -> bool:
    if not (isinstance(value, dict) and _is_object(kind)):
        return False
    return any(name in value and complaints(value[name], one) for name, one in _tags(kind).items())


def _is_object(kind: Kind) -> bool:
    return is_typeddict(kind) or _is_model(kind)


@functools.cache
def _tags(kind: Kind) -> dict[str, Kind]:
    return {name: one for name, one in _fields(kind).kinds.items() if name in ("type", "role")}


# --- twins that must be refused ---------------------------------------------------------------------------------------

NOBODYS_KEY = "zzz_nobodys_key"


class Twin(NamedTuple):
    """A copy of a body with one fault, and what the fault is."""

    fault: str
    body: Json


def twins(body: Json, required: Iterable[str], is_open: Callable[[str], bool]) -> Iterator[Twin]:
    """Yield copies of a body: one for each object in it with an unknown key, each scalar of a wrong type, each required
    key left out.

    Args:
        required: Places of keys that the service demands wherever the object that holds them is there.
        is_open: Whether what stands at a place, and all below it, may be anything.
    """
    demanded = set(required)
    for path, place, value in _walk(body, (), ""):
        if any(is_open(above) for above in _and_above(place)):
            continue
        if isinstance(value, dict):
            yield Twin(f"{place or '.'} with an unknown key", _changed(body, path, {**value, NOBODYS_KEY: 1}))
            for key in value:
                if _below(place, key) in demanded:
                    rest = {name: item for name, item in value.items() if name != key}
                    yield Twin(f"{_below(place, key)} left out", _changed(body, path, rest))
        elif not isinstance(value, list):
            wrong = [[12345]] if value is None else 12345 if isinstance(value, str) else "zzz"
            yield Twin(f"{place} of a wrong type", _changed(body, path, wrong))


Path_ = tuple[str | int, ...]


def _walk(value: Json, path: Path_, place: str) -> Iterator[tuple[Path_, str, Json]]:
    yield path, place, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, (*path, key), _below(place, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _walk(item, (*path, number), f"{place}[]")


def _and_above(place: str) -> Iterator[str]:
    """Yield a place and those that it lies in: "a[].b" lies in "a[]", which lies in "a"."""
    while place:
        yield place
        place = place.removesuffix("[]") if place.endswith("[]") else place.rpartition(".")[0]


def _changed(body: Json, path: Path_, value: Json) -> Json:
    """Return a body with another value at a path. What lies beside the path is shared, not copied."""
    if not path:
        return value
    copy = body.copy()
    copy[path[0]] = _changed(body[path[0]], path[1:], value)
    return copy
