"""Puts completion into a shell and takes it out again: whole files of our own, and one marked block in somebody else's."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError
from ...files import check_replaceable, replace_file
from ...language import _
from ...system_errors import reason_of
from .shells import Shell

OURS = "flexllm --install-completion"
"""Stands at the top of each file that is ours; one without it is somebody else's."""
BEGIN = b"# >>> flexllm completion >>>"
END = b"# <<< flexllm completion <<<"
_NOTE = b"# Written by flexllm --install-completion; flexllm --uninstall-completion takes it away."
_BLOCK = re.compile(rb"^" + BEGIN + rb"\r?\n.*?^" + END + rb"(?:\r?\n|\Z)", re.MULTILINE | re.DOTALL)
_MARKER = re.compile(rb"^(?:" + BEGIN + rb"|" + END + rb")\r?$", re.MULTILINE)


def install(shell: Shell) -> list[str]:
    """Install what completes in a shell; return what was done, a sentence each, nothing if all was there.

    Raises:
        InputError: A file is somebody else's, or the block in one is damaged. Nothing was changed.
        OSError: A file could not be written.
    """
    startup = _startup(shell)
    changed = with_block(startup, shell.block.encode(), shell.startup) if shell.startup else startup
    for path in shell.files:
        _refuse_foreign(path)
    if shell.startup and changed != startup:
        with _told(shell.startup, _elsewhere()):
            _make_folder(shell.startup)
            check_replaceable(shell.startup)
    done = []
    for path, text in shell.files.items():
        if _read(path) != text.encode():
            _write(path, text.encode(), _elsewhere())
            done.append(_("Written: {path}", path=path))
    if shell.startup and changed != startup:
        _write(shell.startup, changed, _elsewhere())
        done.append(_("Changed: {path}, where one block between marks is flexllm's", path=shell.startup))
    return done


def uninstall(shell: Shell) -> list[str]:
    """Take away what `install` has written; return what was done, a sentence each, nothing if there was nothing.

    Raises:
        InputError: The block in a file is damaged. Nothing was changed.
        OSError: A file could not be written or removed.
    """
    startup = _startup(shell)
    changed = without_block(startup, shell.startup) if shell.startup else startup
    done = []
    if shell.startup and changed != startup:
        _write(shell.startup, changed, _by_hand())
        done.append(_("Changed: {path}, the block is gone", path=shell.startup))
    for path in shell.files:
        if _is_ours(_read(path)):
            path.unlink()
            done.append(_("Removed: {path}", path=path))
    return done


def with_block(text: bytes, block: bytes, path: Path) -> bytes:
    """Return a file's text with our block where it was, or at the end. All else stays, byte for byte.

    Raises:
        InputError: The markers in the file at `path` are not one pair.
    """
    _check_markers(text, path)
    ours = b"\n".join([BEGIN, _NOTE, block.rstrip(b"\n"), END, b""])
    found = _BLOCK.search(text)
    if found:
        return text[: found.start()] + ours + text[found.end() :]
    return text + (b"\n" if text and not text.endswith(b"\n") else b"") + ours


def without_block(text: bytes, path: Path) -> bytes:
    """Return a file's text without our block. All else stays, byte for byte.

    Raises:
        InputError: The markers in the file at `path` are not one pair.
    """
    _check_markers(text, path)
    return _BLOCK.sub(b"", text)


def _check_markers(text: bytes, path: Path) -> None:
    if len(_MARKER.findall(text)) != 2 * len(_BLOCK.findall(text)) or len(_BLOCK.findall(text)) > 1:
        raise InputError(_("{path} has marks of flexllm that are no pair; {advice}", path=path, advice=_by_hand()))


def _by_hand() -> str:
    return _("take the lines from '{begin}' to '{end}' out by hand", begin=BEGIN.decode(), end=END.decode())


def _elsewhere() -> str:
    return _("'flexllm --show-completion' prints what can be put elsewhere")


def _startup(shell: Shell) -> bytes:
    return (_read(shell.startup) or b"") if shell.startup else b""


def _refuse_foreign(path: Path) -> None:
    found = _read(path)
    if found is not None and not _is_ours(found):
        raise InputError(_("{path} was not written by this program; move it away, and run the same again", path=path))


def _is_ours(text: bytes | None) -> bool:
    return text is not None and OURS.encode() in text[:500]


def _read(path: Path) -> bytes | None:
    """Return a file's bytes, None if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, text: bytes, advice: str) -> None:
    """Write a file whole or not at all; links, mode and owner stay."""
    with _told(path, advice):
        _make_folder(path)
        replace_file(path, (text,))


def _make_folder(path: Path) -> None:
    Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _told(path: Path, advice: str) -> Iterator[None]:
    """Name the file where it cannot be written, not the temporary one or the folder, and say what to do."""
    try:
        yield
    except OSError as error:
        told = _("{path} cannot be written: {reason}; {advice}", path=path, reason=reason_of(error), advice=advice)
        raise OSError(error.errno, told) from error
