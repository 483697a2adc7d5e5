"""Input rows in the three shapes that `flexllm batch` knows, turned into messages and metadata.

| shape       | known by                        | the request                                   |
|-------------|---------------------------------|-----------------------------------------------|
| openai_chat | `messages`                      | the messages                                  |
| alpaca      | `instruction`                   | instruction and `input`; `system` if there    |
| simple      | `q`, `question` or `prompt`     | the question; `system` if there               |

All other fields are metadata, also such as `temperature` and alpaca's `output`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import chain
from typing import Any

from ..chat import ChatRequest
from ..digest import digest_settings, digest_source
from ..errors import ConfigError, InputError
from ..media.parts import as_messages
from ..messages import Message, normalise_messages
from ..request import make_params

FORMATS = ("auto", "openai_chat", "alpaca", "simple")
QUESTION_FIELDS = ("q", "question", "prompt")
LINES_TRIED = 1_000
"""Lines looked at to find out the shape; a file whose first thousand rows are all bad is a wrong file."""

Row = dict[str, Any]
_decode = json.JSONDecoder().raw_decode


class RowReader:
    """Reads lines of one file, all in the same shape.

    Args:
        lines: Raw lines as a binary file gives them. BOM, CRLF and blank lines are fine.
        name: What messages call the input.
        shape: One of FORMATS; "auto" detects it from the first row that tells.
        system: A system message for rows that have none.

    Raises:
        InputError: Nothing can be detected; no request was sent.
    """

    def __init__(self, lines: Iterable[bytes], name: str, *, shape: str = "auto", system: str | None = None) -> None:
        if shape not in FORMATS:
            raise ConfigError(f"format={shape!r} is not known; there are: {', '.join(FORMATS)}")
        self._name = name
        self._system = system
        self._lines = _without_blanks(lines, name)
        self.shape = self._detect() if shape == "auto" else shape
        self._messages = _SHAPES[self.shape]
        self.reading = blake2b(f"{self.shape}\0{system or ''}".encode(), digest_size=16).digest()

    def __iter__(self) -> Iterator[bytes]:
        return self._lines

    def read(self, line: bytes) -> tuple[list[Message], Row]:
        """Return a line's messages and metadata.

        Raises:
            InputError: It is not JSON, not an object, or not of this file's shape.
        """
        row = _parse(line)
        messages, used = self._messages(row)
        return normalise_messages(as_messages(messages), self._system), {
            name: row[name] for name in row if name not in used
        }

    def _detect(self) -> str:
        looked_at: list[bytes] = []
        first_problem = ""
        for line in self._lines:
            looked_at.append(line)
            try:
                row = _parse(line)
            except InputError as error:
                first_problem = first_problem or str(error)
            else:
                shape = _shape_of(row)
                if shape:
                    self._lines = chain(looked_at, self._lines)
                    return shape
                first_problem = first_problem or f"its fields are {', '.join(map(repr, list(row)[:8])) or 'none'}"
            if len(looked_at) >= LINES_TRIED:
                break
        if not looked_at:
            raise InputError(f"{self._name} holds no rows; nothing was sent")
        raise InputError(
            f"{self._name}: no row can be understood (the first: {first_problem}). A row is a JSON object with "
            "'messages', 'instruction', 'q', 'question' or 'prompt'; nothing was sent"
        )


class FileRows:
    """The rows of a file as `RowSource`: each asks the same model with the same parameters.

    Args:
        total: How many rows there are, None if nobody knows: then it is a pipe.
    """

    is_uniform = True

    def __init__(self, reader: RowReader, model: str, params: Mapping[str, Any], total: int | None = None) -> None:
        self.total = total
        self.never_waits = total is not None
        self.settings = digest_settings(model, params)
        self._reader = reader
        self._model = model
        self._params = make_params(params)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._reader)

    def source(self, row: bytes) -> int:
        """Return the digest of the line and of how it is read."""
        return digest_source(row, self._reader.reading)

    def read(self, row: bytes) -> tuple[ChatRequest, Row]:
        """Return the request and the metadata of a line."""
        messages, metadata = self._reader.read(row)
        return ChatRequest(messages, self._model, self._params), metadata


def _without_blanks(lines: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Yield lines without their ends, a byte order mark, and without blank lines."""
    lines = iter(lines)
    first = next(lines, b"")
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{name} is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8); nothing was sent")
    stripped = map(bytes.strip, chain([first.removeprefix(b"\xef\xbb\xbf")], lines))
    yield from filter(None, stripped)


def _parse(line: bytes) -> Row:
    try:
        text = line.decode()
        row, end = _decode(text)
        if end != len(text):
            raise InputError(f"not one JSON object a line: something follows at column {end + 1}")
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise InputError("not readable as JSON: nested too deeply") from None
    if type(row) is not dict:
        raise InputError(f"not a JSON object but {type(row).__name__}")
    return row


def _shape_of(row: Row) -> str | None:
    if "messages" in row:
        return "openai_chat"
    if "instruction" in row:
        return "alpaca"
    return "simple" if any(name in row for name in QUESTION_FIELDS) else None


def _openai_chat(row: Row) -> tuple[Any, tuple[str, ...]]:
    if "messages" not in row:
        raise InputError("no 'messages' in this row; the file was read as openai_chat")
    messages = row["messages"]
    if not isinstance(messages, list):
        raise InputError(f"'messages' must be a list, not {type(messages).__name__}")
    return messages, ("messages",)


def _alpaca(row: Row) -> tuple[list[Message], tuple[str, ...]]:
    instruction = _text(row, "instruction", "alpaca")
    extra = row.get("input")
    if extra is not None and not isinstance(extra, str):
        raise InputError(f"'input' must be a text, not {type(extra).__name__}")
    question = f"{instruction}\n\n{extra}" if extra else instruction
    return _conversation(row, question), ("instruction", "input", "system")


def _simple(row: Row) -> tuple[list[Message], tuple[str, ...]]:
    field = next((name for name in QUESTION_FIELDS if name in row), "question")
    return _conversation(row, _text(row, field, "simple")), (field, "system")


def _conversation(row: Row, question: str) -> list[Message]:
    message: Message = {"role": "user", "content": question}
    system = row.get("system")
    if not system:
        return [message]
    if not isinstance(system, str):
        raise InputError(f"'system' must be a text, not {type(system).__name__}")
    return [{"role": "system", "content": system}, message]


def _text(row: Row, field: str, shape: str) -> str:
    if field not in row:
        raise InputError(f"no {field!r} in this row; the file was read as {shape}")
    value = row[field]
    if not isinstance(value, str):
        raise InputError(f"{field!r} must be a text, not {type(value).__name__}")
    return value


_SHAPES: dict[str, Callable[[Row], tuple[Any, tuple[str, ...]]]] = {
    "openai_chat": _openai_chat,
    "alpaca": _alpaca,
    "simple": _simple,
}
