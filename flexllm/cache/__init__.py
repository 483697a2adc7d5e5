"""Answers that were paid for once: what names a request, how its answer is written, and the store on disk."""

from .options import ResponseCacheConfig

__all__ = ["ResponseCacheConfig"]
