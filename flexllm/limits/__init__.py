"""How fast a server may be asked: limits as values, and the gate that every attempt passes."""

from .gate import DEFAULT_CONCURRENCY, Gate, RateLimit, TokenBucket

__all__ = ["DEFAULT_CONCURRENCY", "Gate", "RateLimit", "TokenBucket"]
