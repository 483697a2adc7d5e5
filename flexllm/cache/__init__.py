"""Answers that were paid for once: what names a request, how its answer is written, and the store on disk."""

from .admin import CacheEntry, CacheStats
from .options import ResponseCacheConfig
from .store import ResponseCache

__all__ = ["CacheEntry", "CacheStats", "ResponseCache", "ResponseCacheConfig"]
