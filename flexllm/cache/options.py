"""How answers are kept, as a value."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from ..language import _

DEFAULT_DIR = "~/.cache/flexllm/llm_response"
DEFAULT_TTL = 86_400.0
"""Seconds: a day, as the user's document has it."""


@dataclass(frozen=True, slots=True)
class ResponseCacheConfig:
    """How answers are kept and found again.

    Attributes:
        enabled: Whether they are.
        ttl: Seconds after which an answer is not used any more; 0 keeps it for ever. It is the reader's: entries hold
            the time at which they were written.
        cache_dir: The folder, made with mode 0700.
        use_ipc: Without effect: the cache may always be shared by processes and threads.
        by_endpoint: The same model at another base URL is another model. Else it is the same: answers outlive a move.
        store_incomplete: Keep cut, empty and refused answers too. Errors are never kept.
        store_raw: Keep each reply's untouched body too, so that `result.raw` is there when it comes from the cache.
        memory: Answers that are kept in memory, in front of the disk; 0 for none.
    """

    enabled: bool = False
    ttl: float = DEFAULT_TTL
    cache_dir: str | os.PathLike[str] = DEFAULT_DIR
    use_ipc: bool = True
    by_endpoint: bool = False
    store_incomplete: bool = False
    store_raw: bool = False
    memory: int = 4096

    def __post_init__(self) -> None:
        if isinstance(self.ttl, bool) or not isinstance(self.ttl, (int, float)) or not 0 <= self.ttl < math.inf:
            raise ConfigError(_("ttl={ttl!r} must be a number of seconds, or 0 to keep answers for ever", ttl=self.ttl))
        if not isinstance(self.cache_dir, (str, os.PathLike)) or not os.fspath(self.cache_dir):
            raise ConfigError(_("cache_dir={cache_dir!r} must be the path of a folder", cache_dir=self.cache_dir))
        for name in ("enabled", "by_endpoint", "store_incomplete", "store_raw"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise ConfigError(_("{name}={value!r} must be True or False", name=name, value=value))
        if isinstance(self.memory, bool) or not isinstance(self.memory, int) or self.memory < 0:
            raise ConfigError(_("memory={memory!r} must be a whole number of answers, 0 or more", memory=self.memory))

    @classmethod
    def with_ttl(cls, ttl: float) -> ResponseCacheConfig:
        """Return one that uses answers for `ttl` seconds."""
        return cls(enabled=True, ttl=ttl)

    @classmethod
    def persistent(cls) -> ResponseCacheConfig:
        """Return one that uses answers for ever."""
        return cls(enabled=True, ttl=0)

    @classmethod
    def disabled(cls) -> ResponseCacheConfig:
        """Return one that keeps nothing."""
        return cls(enabled=False)

    @property
    def path(self) -> Path:
        """The folder, with `~` expanded."""
        return Path(os.fspath(self.cache_dir)).expanduser()
