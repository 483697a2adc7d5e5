"""Which gate a request passes: one for everything in the process that asks the same account with the same limits."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable

from ..fork import forget_in_child
from .gate import Gate
from .options import RateLimit
from .traffic import Traffic


class _Registry:
    """Gates by account and limits. They live as long as somebody holds them: clients do."""

    def __init__(self) -> None:
        self._traffics: weakref.WeakValueDictionary[Hashable, Traffic] = weakref.WeakValueDictionary()
        self._gates: weakref.WeakValueDictionary[Hashable, Gate] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()

    def gate(self, account: Hashable, limit: RateLimit) -> Gate:
        with self._lock:
            gate = self._gates.get((account, limit))
            if gate is None:
                traffic = self._traffics.get(account)
                if traffic is None:
                    traffic = self._traffics[account] = Traffic()
                gate = self._gates[account, limit] = Gate(limit, traffic=traffic)
            return gate


_registry = _Registry()


def shared_gate(account: Hashable, limit: RateLimit) -> Gate:
    """Return the gate of an account with these limits.

    Gates of one account with different limits each keep to their own. What they share is what the server says: a refusal
    closes all of them, and the rate that is learned holds for all.

    Args:
        account: Whatever stands for an endpoint and the key to it.
    """
    return _registry.gate(account, limit)
