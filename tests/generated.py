"""How many examples a generated test tries."""

from __future__ import annotations

import os

IS_BRIEF = os.environ.get("BRIEF_TESTS") == "1"
"""Set by bin/test for the Pythons beside the one on which everything runs: what differs there shows in a few examples."""


def examples(number: int) -> int:
    """Return the number, or a fifth of it where the tests are to be brief."""
    return number // 5 if IS_BRIEF else number
