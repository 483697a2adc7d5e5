"""Conversations as files: JSON, for their owner alone, and never written over a file that is none of this chat's."""

from __future__ import annotations

import json
import os
from typing import Any

from ...errors import InputError
from ...files import replace_file
from ...language import _
from ...system_errors import reason_of

MOST_BYTES = 100_000_000
"""Of a file that is read: more than any model's context, pictures included."""


class SavedFiles:
    """The files that one chat has saved to or loaded from.

    Attributes:
        last: The last of them, as the user wrote it; None as long as there is none.
    """

    def __init__(self) -> None:
        self.last: str | None = None
        self._own: set[str] = set()

    def save(self, name: str, value: Any, *, overwrite: bool = False) -> None:
        """Write a file; whoever reads it meanwhile finds the old one or the new one, whole.

        Raises:
            InputError: It exists and is not this chat's own, unless `overwrite`; or it cannot be written.
        """
        path = _path(name)
        if os.path.isdir(path):
            raise InputError(_("{name} is a folder; name a file", name=name))
        if os.path.lexists(path) and path not in self._own and not overwrite:
            raise InputError(_("{name} exists and is not of this chat; /save! {name} overwrites it", name=name))
        try:
            text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
            replace_file(path, (text.encode("utf-8", "backslashreplace"),), mode=0o600)
        except OSError as error:
            raise InputError(_("{name} cannot be written: {reason}", name=name, reason=reason_of(error))) from None
        self._note(name, path)

    def load(self, name: str) -> Any:
        """Return what a file holds.

        Raises:
            InputError: It cannot be read, or is not JSON.
        """
        path = _path(name)
        try:
            with open(path, "rb") as file:
                data = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise InputError(_("{name} cannot be read: {reason}", name=name, reason=reason_of(error))) from None
        if len(data) > MOST_BYTES:
            raise InputError(
                _("{name} has more than {limit} bytes; that is no conversation", name=name, limit=MOST_BYTES)
            )
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise InputError(_("{name} is not JSON; /load reads what /save wrote", name=name)) from None

    def own(self, name: str) -> None:
        """Take a file for this chat's own, once its conversation has been taken on."""
        self._note(name, _path(name))

    def _note(self, name: str, path: str) -> None:
        self.last = name
        self._own.add(path)


def _path(name: str) -> str:
    try:
        return os.path.realpath(os.path.expanduser(name))
    except ValueError:  # before Python 3.13, for a NUL
        raise InputError(_("the name holds a character that no path can")) from None
