"""Changes `default` in the text of the configuration file and nothing else: comments, order and quotes stay as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import replace_file
from ..language import _
from ..system_errors import reason_of
from .nodes import compose, yaml_errors
from .paths import shown_path
from .places import literal
from .quotes import double_quoted
from .reader import parse_config
from .values import Config

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_ALIAS = re.compile(r"\s*:\s*(\*[^\s,\]}]+)")


class _NotSafe(Exception):
    """The text cannot be changed without changing more than `default`."""


def set_default(config: Config, model_id: str) -> None:
    """Make an entry of a configuration file its default.

    The file is replaced at once by a new one with the same mode; a symbolic link stays one.

    Args:
        config: The file as it was read; its `path` is changed.
        model_id: The id of one of its models.

    Raises:
        ConfigError: The text cannot be changed without changing more than `default`, or has changed since it was read;
            nothing was written.
        OSError: The file cannot be written; nothing was changed.
    """
    if config.path is None:
        raise ConfigError(_("there is no {file}; 'flexllm init' writes one", file=config.file))
    path = config.path
    data = path.read_bytes()
    try:
        new = _with_default(data, path, model_id).encode()
        _check(path, data, new, model_id)
    except (UnicodeError, ConfigError, _NotSafe) as error:
        raise ConfigError(
            _(
                "{path} is written in a way that is not safe to edit, and is as it was; write this line yourself: {line}",
                path=shown_path(path),
                line=f"default: {_quoted(model_id, '')}",
            )
        ) from error
    try:
        replace_file(path, (new,))
    except OSError as error:
        reason = _("{path} cannot be changed: {reason}", path=shown_path(path), reason=reason_of(error))
        raise OSError(error.errno, reason) from error


def _with_default(data: bytes, path: Path, model_id: str) -> str:
    """Return the text with another `default`; or, where the way it is written is not known here, any text."""
    text = data.decode("utf-8")
    with yaml_errors(data, path):
        root = compose(text)[1]
    if root is None or root.id != "mapping":
        raise _NotSafe
    for key, value in root.value:
        if key.value == "default":
            return _with_value(text, key, value, model_id)
    if root.flow_style:
        start = text.index("{", root.start_mark.index) + 1
        key = '"default"' if text[start:].lstrip().startswith('"') else "default"  # so that JSON stays JSON
        return f"{text[:start]}{key}: {_quoted(model_id, chr(34))}, {text[start:]}"
    first = root.value[0][0].start_mark
    start = _before_comments(text, first.index - first.column)
    line_end = "\r\n" if "\r\n" in text else "\n"
    return f"{text[:start]}{' ' * first.column}default: {_quoted(model_id, '')}{line_end}{text[start:]}"


def _with_value(text: str, key: Any, value: Any, model_id: str) -> str:
    end = key.end_mark.index
    alias = _ALIAS.match(text, end)
    if alias and value.start_mark.index < end:  # the value stands elsewhere, and others may mean it too
        return f"{text[: alias.start(1)]}{_quoted(model_id, '')}{text[alias.end(1) :]}"
    start, stop = value.start_mark.index, value.end_mark.index
    if value.style in ("|", ">"):  # a block holds the blank lines below it too
        stop = start + len(text[start:stop].rstrip())
        return f"{text[:start]}{_quoted(model_id, '')}{text[stop:]}"
    gap = "" if text[start - 1].isspace() else " "
    return f"{text[:start]}{gap}{_quoted(model_id, value.style or '')}{text[stop:]}"


def _before_comments(text: str, start: int) -> int:
    """Return where a line begins, or the comment that stands right above it; not that at the head of the file."""
    above = start
    while above:
        line = text.rfind("\n", 0, above - 1) + 1
        if not text[line:above].lstrip().startswith("#"):
            return above
        above = line
    return start


def _quoted(model_id: str, style: str) -> str:
    """Return an id as YAML has it: in the quotes that stood there, or in none where it needs none."""
    text = literal(model_id)
    if style == "'" and text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    is_word = text.lower() in ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
    if not style and _PLAIN.fullmatch(text) and not is_word:
        return text
    return double_quoted(text)


def _check(path: Path, data: bytes, new: bytes, model_id: str) -> None:
    """Refuse a text that says anything else than the old one, but for `default`.

    Raises:
        _NotSafe: It does.
    """
    if _rest(data, path) != _rest(new, path) or parse_config(new, path).default_name({}) != model_id:
        raise _NotSafe


def _rest(data: bytes, path: Path) -> list[Any]:
    """Return all that a document says but for `default`, to be compared."""

    def content(node: Any) -> Any:
        if node.id == "scalar":
            return node.tag, node.value
        if node.id == "sequence":
            return node.tag, [content(one) for one in node.value]
        return node.tag, [(content(key), content(value)) for key, value in node.value]

    with yaml_errors(data, path):
        _loader, root = compose(data)
        return [(content(key), content(value)) for key, value in root.value if key.value != "default"]
