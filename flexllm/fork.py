"""What a forked child must forget: locks that a thread of the parent may hold, and sockets that belong to the parent.

Live objects (transport, gate, client, output lock) register here; each says in `_after_fork_in_child` what it renews.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forgetful(Protocol):
    """An object that can start afresh in a forked child."""

    def _after_fork_in_child(self) -> None: ...


_registered: weakref.WeakSet[Forgetful] = weakref.WeakSet()


def forget_in_child(thing: Forgetful) -> None:
    """Have `thing` start afresh in every child that is forked while it lives."""
    _registered.add(thing)


def _in_child() -> None:
    for thing in list(_registered):
        thing._after_fork_in_child()


if hasattr(os, "register_at_fork"):  # not where processes are only spawned
    os.register_at_fork(after_in_child=_in_child)
