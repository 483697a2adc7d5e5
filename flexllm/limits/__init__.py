"""How fast a server may be asked: limits as values, and the gate that every attempt passes."""

from .bucket import TokenBucket
from .gate import Gate
from .options import DEFAULT_CONCURRENCY, RateLimit
from .passages import Cost, GateClosed, Passages, is_refusal
from .permit import Permit
from .shared import shared_gate

__all__ = [
    "DEFAULT_CONCURRENCY",
    "Cost",
    "Gate",
    "GateClosed",
    "Passages",
    "Permit",
    "RateLimit",
    "TokenBucket",
    "is_refusal",
    "shared_gate",
]
