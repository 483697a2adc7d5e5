"""What the caller allows to be read for content parts, and in what form a provider wants it, as values."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from ..errors import ConfigError
from ..language import _
from .images import require_pillow

KINDS = frozenset({"image", "audio", "video", "file"})
"""The kinds of content parts that carry a medium."""

MAX_BYTES = 20_000_000
"""Gemini long took 20 MB for a whole request; the others take less for one item. More needs the caller's word."""

DOWNLOAD_TIMEOUT = 30.0
"""Seconds: 20 MB at 6 Mbit/s."""

CACHE_BYTES = 256_000_000
"""Nine items of the largest size allowed, as base64, or some thousands of usual photographs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaOptions:
    """What may be read for content parts, and how much of it.

    Attributes:
        max_bytes: The most bytes of one item, before base64; also of data URIs.
        download_timeout: Seconds for one download, name look-up and redirects included.
        allow_private: Whether URLs may lead to loopback, private, link-local and other addresses that are not public.
        local_files: Whether paths and file:// URLs are read; False is for messages from people who are not trusted.
        max_image_side: Pixels; images with a longer side are scaled down, and turned as their EXIF orientation says.
            None leaves images alone. Needs Pillow. Images whose URL the provider fetches itself are not scaled.
        cache_bytes: The most bytes that are kept, as data URIs; 0 keeps nothing.
    """

    max_bytes: int = MAX_BYTES
    download_timeout: float = DOWNLOAD_TIMEOUT
    allow_private: bool = False
    local_files: bool = True
    max_image_side: int | None = None
    cache_bytes: int = CACHE_BYTES

    def __post_init__(self) -> None:
        _check_count("max_bytes", self.max_bytes, 1)
        _check_count("cache_bytes", self.cache_bytes, 0)
        seconds = self.download_timeout
        is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not is_number or not 0 < seconds < threading.TIMEOUT_MAX:
            raise ConfigError(_("download_timeout={seconds!r} must be a number of seconds above 0", seconds=seconds))
        for name in ("allow_private", "local_files"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise ConfigError(_("{name}={value!r} must be True or False", name=name, value=value))
        if self.max_image_side is not None:
            _check_count("max_image_side", self.max_image_side, 1)
            require_pillow(f"max_image_side={self.max_image_side}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaWants:
    """What must be done to media before a request is built.

    Attributes:
        inline_remote: Kinds ("image", "audio", "video", "file") whose remote URLs the server does not fetch itself: they
            are downloaded, and stand in the request as data URIs.
        takes_urls: Starts of URLs that it takes nevertheless, such as those of its own file store; schemes other than
            http and https (`gs://`) are always left to it.
        image_types: MIME types of images that are taken; others are converted. None takes all.
        audio_as_uri: The data of a sound stays a data URI; otherwise it is bare base64.
    """

    inline_remote: frozenset[str] = frozenset()
    takes_urls: tuple[str, ...] = ()
    image_types: frozenset[str] | None = None
    audio_as_uri: bool = False

    def __post_init__(self) -> None:
        unknown = set(self.inline_remote) - KINDS
        if unknown:
            given, known = sorted(unknown), ", ".join(sorted(KINDS))
            raise ConfigError(_("inline_remote={given!r} is unknown; known are {known}", given=given, known=known))


def _check_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(
            _("{name}={value!r} must be a whole number of at least {least}", name=name, value=value, least=least)
        )
