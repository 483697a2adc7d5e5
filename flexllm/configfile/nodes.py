"""The bytes of the configuration file as YAML nodes, which know their lines: the only door to PyYAML."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError
from ..language import _, mark
from ..system_errors import reason_of
from .paths import config_path, shown_path, variable

NULL = "tag:yaml.org,2002:null"
"""The tag of an empty value."""


_MISSING = mark("{path} does not exist; correct the name, or write that file")
_NAMED_AND_MISSING = mark("{path} (named by FLEXLLM_CONFIG) does not exist; correct the name, or write that file")


class FileBytes(NamedTuple):
    """What was read.

    Attributes:
        data: None if the file is the default one and there is none.
        is_open: Whether its owner, who reads it, lets other users of the machine have it too.
    """

    path: Path
    data: bytes | None
    is_open: bool = False


def read_file(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> FileBytes:
    """Read the file that the argument, FLEXLLM_CONFIG or nobody names.

    Raises:
        ConfigError: The file that the argument or FLEXLLM_CONFIG names is missing, or the file is unreadable.
    """
    if path is not None and not os.fspath(path).strip():  # as from an empty variable of a script
        raise ConfigError(_("a configuration file is named, but its name is empty; give one, or leave it out"))
    file = config_path(path, environ)
    try:
        with open(file, "rb") as stream:
            found = os.fstat(stream.fileno())
            others = stat.S_ISREG(found.st_mode) and found.st_mode & 0o077 and found.st_uid == os.geteuid()
            return FileBytes(file, stream.read(), bool(others))
    except FileNotFoundError:
        if not path and not variable(environ, "FLEXLLM_CONFIG"):
            return FileBytes(file, None)
        raise ConfigError(_(_MISSING if path else _NAMED_AND_MISSING, path=shown_path(file))) from None
    except (OSError, ValueError) as error:  # the latter for a null byte in the name
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise ConfigError(_("{path} cannot be read: {reason}", path=shown_path(file), reason=reason)) from error


def compose(data: bytes | str) -> tuple[Any, Any]:
    """Return a loader and the document's root node, None if the document says nothing. Call it inside `yaml_errors`."""
    return _compose(_loader_class(), data)


def compose_quickly(data: bytes) -> tuple[Any, Any]:
    """Return what `compose` does, ten times as fast where PyYAML has its parser in C; keys may stand twice."""
    import yaml

    may_be_deep = sum(map(data.count, (b"[", b"{", b"- ", b"? "))) > _SAFE_DEPTH
    return _compose(yaml.SafeLoader if may_be_deep else getattr(yaml, "CSafeLoader", yaml.SafeLoader), data)


_SAFE_DEPTH = 2000
"""Nodes inside nodes that the parser in C composes without harm; tens of thousands overflow its stack."""


def _compose(loader_class: type[Any], data: bytes | str) -> tuple[Any, Any]:
    loader = loader_class(data)
    root = loader.get_single_node()
    return loader, None if root is None or root.tag == NULL else root


@contextmanager
def yaml_errors(data: bytes, path: Path) -> Iterator[None]:
    """Turn PyYAML's errors into ConfigError. Its own texts quote the file, and so its keys: they stay here."""
    import yaml

    file = shown_path(path)
    try:
        yield
    except yaml.reader.ReaderError as error:
        line = data.count(b"\n", 0, error.position) + 1
        if error.encoding == "unicode":  # it could be decoded
            wrong = _("{file}, line {line} has a character that YAML does not allow", file=file, line=line)
        else:
            wrong = _("{file}, line {line} is not UTF-8 text", file=file, line=line)
        raise ConfigError(wrong) from None
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        line = place.line + 1 if place else 1
        problem = re.sub("'[^']{17,}'", "'...'", str(error.problem or error.context))  # *key and !key are YAML signs
        raise ConfigError(
            _("{file}, line {line} is not YAML: {problem}", file=file, line=line, problem=problem)
        ) from None
    except RecursionError:
        raise ConfigError(_("{file} is nested too deeply", file=file)) from None


def _loader_class() -> type[Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that stands twice in a mapping, where PyYAML would silently drop the first one."""

        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            node = super().compose_mapping_node(anchor)
            seen: set[str] = set()
            for key in (pair[0] for pair in node.value if pair[0].id == "scalar"):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=_("{value!r} stands here again", value=key.value), problem_mark=key.start_mark
                    )
                seen.add(key.value)
            return node

    return Loader
