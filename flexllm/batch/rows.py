"""The lines of an input file as the rows of a batch: found out, read one by one, named.

Which shapes there are, and what they ask, is the business of `shapes`; from what files and pipes the lines come, that of
`inputs`. All fields that are not asked are metadata, also such as `temperature` and alpaca's `output`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from hashlib import blake2b
from itertools import chain
from typing import Any, TypeVar

from ..chat import ChatRequest
from ..digest import digest_settings, digest_source
from ..errors import ConfigError, InputError
from ..json_errors import why_no_json
from ..language import _
from ..media.parts import as_messages
from ..messages import Message, normalise_messages
from ..request import make_params
from ..templates import CONTENT, UserTemplate
from .items import Owners
from .shapes import (
    FORMATS,
    SYSTEM_FIELD,
    Fields,
    Row,
    RowTemplate,
    Shape,
    check_places,
    field_shape,
    last_question,
    named_shape,
    names_of,
    reads_system,
    shape_of,
    template_shape,
)

LINES_TRIED = 1_000
"""Lines looked at to find out the shape; a file whose first thousand rows are all bad is a wrong file."""

_NO_FIELDS = Fields()
T = TypeVar("T")
_decode = json.JSONDecoder().raw_decode


def parse_json(line: bytes) -> Row:
    """Return the object that a line is. Raises InputError if it is none."""
    try:
        text = line.decode()
        row, end = _decode(text)
    except UnicodeDecodeError as error:
        raise InputError(_("not UTF-8 at byte {position}", position=error.start + 1)) from None
    except json.JSONDecodeError as error:
        raise InputError(
            _("not JSON: {reason} at column {column}", reason=why_no_json(error), column=error.colno)
        ) from None
    except RecursionError:
        raise InputError(_("not readable as JSON: nested too deeply")) from None
    except ValueError:
        raise InputError(_("not readable as JSON: it holds a number of thousands of digits")) from None
    if end != len(text):
        raise InputError(_("not one JSON object a line: something follows at column {column}", column=end + 1))
    if type(row) is not dict:
        raise InputError(_("not a JSON object but {kind}", kind=type(row).__name__))
    return row


class UnfitRows(InputError):
    """No row of an input can be read in the way that is asked for."""


class RowReader:
    """Reads lines of one input, all in the same way.

    Args:
        lines: Raw lines as a binary file gives them. BOM, CRLF and blank lines are fine.
        name: What messages call the input.
        shape: One of FORMATS; "auto" detects it from the first row that tells.
        system: A system message for rows that have none.
        fields: Fields that the caller names. One for the question takes the place of the shape.
        template: Put around the text of each user message. If it has no place for {content}, the question is made of the
            row's other fields alone, and this takes the place of the shape.
        keeps_fields: The metadata have all fields of a row, those that are asked too, as far as they are texts; a
            conversation is there as `input`, the text of its last question.
        parse: From a line to its row; raises InputError.

    Attributes:
        shape: One of FORMATS but "auto"; "" where fields or a template take its place.
        reading: 16 bytes that differ where the same line would give another request, or other metadata.

    Raises:
        ConfigError: These options do not go together.
        UnfitRows: Nothing can be detected, or no row has the fields that are named; no request was sent.
        InputError: There are no rows.
    """

    def __init__(
        self,
        lines: Iterable[bytes],
        name: str,
        *,
        shape: str = "auto",
        system: str | None = None,
        fields: Fields = _NO_FIELDS,
        template: UserTemplate | None = None,
        keeps_fields: bool = False,
        parse: Callable[[bytes], Row] = parse_json,
    ) -> None:
        check_reading(shape, fields, template)
        self.parse = parse
        self._name = name
        self._system = system
        self._fields = fields
        self._template = template if _has_place(template, CONTENT) else None
        self._lines = _without_blanks(lines, name)
        self._keeps_fields = keeps_fields
        own = _own_shape(fields, template)
        self.shape = "" if own is not None else shape
        if own is not None or fields.system is not None or _needs_fields(self._template):
            self._look_for(template)
        if self.shape == "auto":
            self.shape = self._detect()
        self._shape = named_shape(self.shape) if own is None else own
        self._system_field = fields.system
        if fields.system is None and reads_system(self.shape) and not _has_place(template, SYSTEM_FIELD):
            self._system_field = SYSTEM_FIELD
        self.reading = self._digest(template)

    def __iter__(self) -> Iterator[bytes]:
        return self._lines

    def read(self, line: bytes) -> tuple[list[Message], Row]:
        """Return a line's messages and metadata.

        Raises:
            InputError: It is no row, or not one that is read as this input is.
        """
        return self.read_row(self.parse(line))

    def read_row(self, row: Row) -> tuple[list[Message], Row]:
        """Return a row's messages and metadata; see `read`."""
        asked, used = self._shape(row)
        field = self._system_field
        system = self._system if field is None else self._system_of(row, field)
        messages = normalise_messages(as_messages(asked), system)
        metadata = self._metadata(row, messages, used)
        template = self._template
        if template is not None:
            if template.needs_fields:
                check_places(template, row)
                template = RowTemplate(template.text, row)
            messages = template.around(messages)
        return messages, metadata

    def metadata_of(self, line: bytes) -> Row | None:
        """Return the metadata of a line that `read` refuses: where no question is found in it, all that it has.

        None if it is no row.
        """
        try:
            row = self.parse(line)
        except InputError:
            return None
        try:
            used = self._shape(row)[1]
        except InputError:
            used = ()
        return self._metadata(row, [], used)

    def _metadata(self, row: Row, messages: list[Message], used: tuple[str, ...]) -> Row:
        if self._keeps_fields:
            return self._all_fields(row, messages, used)
        return {name: row[name] for name in row if name not in used and name != self._system_field}

    def _system_of(self, row: Row, field: str) -> str | None:
        """Return the row's own system message, else that for all."""
        system = row.get(field)
        if not system:
            if field not in row and self._fields.system is not None:
                raise InputError(_("no {field!r} in this row, only {fields}", field=field, fields=names_of(row)))
            return self._system
        if not isinstance(system, str):
            kind = type(system).__name__
            raise InputError(_("{field!r} must be a text, not {kind}", field=field, kind=kind))
        return system

    def _all_fields(self, row: Row, messages: list[Message], used: tuple[str, ...]) -> Row:
        if self.shape not in ("openai_chat", "openai_batch"):
            return row
        kept = {name: row[name] for name in row if name not in used}
        question = last_question(messages)
        free = next((name for name in ("input", "question", "messages") if name not in kept), None)
        return kept if question is None or free is None else {**kept, free: question}

    def _digest(self, template: UserTemplate | None) -> bytes:
        words = [self.shape, self._system or ""]
        more = [*self._fields, template and template.text, self._keeps_fields or None]
        if any(word is not None for word in more):  # without them it is what it was before they were there
            words.append(json.dumps(more))
        return blake2b("\0".join(words).encode("utf-8", "surrogatepass"), digest_size=16).digest()

    # --- the first rows

    def _detect(self) -> str:
        shape, first = self._first(shape_of)
        if shape is None:
            reason = _(
                "{name}: no row can be understood (the first: {first}). A row has 'messages', 'instruction', 'q', 'question' "
                "or 'prompt'; nothing was sent",
                name=self._name, first=first,
            )  # fmt: skip
            raise UnfitRows(reason)
        return shape

    def _look_for(self, template: UserTemplate | None) -> None:
        """Make sure that there is a row with all the fields that are named."""
        named = [
            name for name in (*self._fields, *(template.names if template is not None else ())) if name is not None
        ]
        wanted = [name for name in dict.fromkeys(named) if name != CONTENT or name in self._fields]

        def tell(row: Row) -> str | None:
            return None if any(name not in row for name in wanted) else "found"

        found, first = self._first(tell)
        if found is None:
            names = reduce(lambda names, one: _("{names} and {one}", names=names, one=one), map(repr, wanted))
            reason = _(
                "{name}: no row has {names} (the first: {first}); nothing was sent",
                name=self._name, names=names, first=first,
            )  # fmt: skip
            raise UnfitRows(reason)

    def first(self, tell: Callable[[Row], T | None]) -> T | None:
        """Return what the first row that tells something tells, None if none of the first thousand does.

        Nothing is lost by it: these lines are still to be walked over.
        """
        return self._first(tell)[0]

    def _first(self, tell: Callable[[Row], T | None]) -> tuple[T | None, str]:
        """Return what the first row that tells something tells, and what is wrong with the first row."""
        looked_at: list[bytes] = []
        told, first_problem = None, ""
        while told is None and len(looked_at) < LINES_TRIED and (line := next(self._lines, None)) is not None:
            looked_at.append(line)
            try:
                row = self.parse(line)
            except InputError as error:
                first_problem = first_problem or str(error)
            else:
                told = tell(row)
                first_problem = first_problem or _("its fields are {fields}", fields=names_of(row))
        if not looked_at:
            raise InputError(_("{name} holds no rows; nothing was sent", name=self._name))
        self._lines = chain(looked_at, self._lines)
        return told, first_problem


def check_reading(shape: str, fields: Fields, template: UserTemplate | None) -> None:
    """Raise ConfigError if these cannot be heeded together."""
    if shape not in FORMATS:
        known = ", ".join(FORMATS)
        raise ConfigError(_("format={shape!r} is not known; there are: {known}", shape=shape, known=known))
    if shape not in ("auto", "simple") and fields.user is not None:
        raise ConfigError(
            _("rows of the format {shape} have their own field for the question: name none, or no format", shape=shape)
        )
    if template is not None and CONTENT not in template.names:
        _check_nothing_is_left_out(shape, fields)


def _check_nothing_is_left_out(shape: str, fields: Fields) -> None:
    """Raise ConfigError if a template without {content} would leave out a question that is named."""
    if fields.user is not None:
        reason = _(
            "the template has no {{content}}, so that the question in the field {field!r} would not be asked; put "
            "{{content}} into it, or name no field",
            field=fields.user,
        )
        raise ConfigError(reason)
    if shape != "auto":
        reason = _(
            "the template has no {{content}}, so that the question of rows of the format {shape} would not be asked; put "
            "{{content}} into it, or name no format",
            shape=shape,
        )
        raise ConfigError(reason)


def _own_shape(fields: Fields, template: UserTemplate | None) -> Shape | None:
    """Return how rows are read where the caller's own words take the place of a shape, else None."""
    if template is not None and CONTENT not in template.names:
        return template_shape(template)
    return None if fields.user is None else field_shape(fields.user)


def _has_place(template: UserTemplate | None, name: str) -> bool:
    return template is not None and name in template.names


def _needs_fields(template: UserTemplate | None) -> bool:
    return template is not None and template.needs_fields


class FileRows:
    """The rows of an input as `RowSource`: each asks the same model with the same parameters.

    Args:
        total: How many rows there are, None if nobody knows: then it is a pipe.
    """

    is_uniform = True
    owners: Owners | None = None

    def __init__(self, reader: RowReader, model: str, params: Mapping[str, Any], total: int | None = None) -> None:
        self.total = total
        self.never_waits = total is not None
        self.settings = digest_settings(model, params)
        self._reader = reader
        self._model = model
        self._params = make_params(params)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._reader)

    def source(self, row: bytes) -> int | None:
        """Return the digest of the line and of how it is read."""
        return digest_source(row, self._reader.reading)

    def read(self, row: bytes) -> tuple[ChatRequest, Row]:
        """Return the request and the metadata of a line."""
        messages, metadata = self._reader.read(row)
        return ChatRequest(messages, self._model, self._params), metadata

    def metadata_of(self, row: bytes) -> Row | None:
        """Return the metadata of a line that `read` refuses, None if it is no row."""
        return self._reader.metadata_of(row)


def _without_blanks(lines: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Yield lines without their ends, a byte order mark, and without blank lines."""
    lines = iter(lines)
    first = next(lines, b"")
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(
            _("{name} is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8); nothing was sent", name=name)
        )
    stripped = map(bytes.strip, chain([first.removeprefix(b"\xef\xbb\xbf")], lines))
    yield from filter(None, stripped)
