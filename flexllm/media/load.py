"""The store of one client: reads each path and URL once, checks and scales what it read, and keeps it as a data URI."""

from __future__ import annotations

import hashlib
import os
from typing import Protocol

from ..cancel import CancelToken
from ..errors import InputError, RequestCancelled
from ..language import _
from ..transport import TransportOptions
from ..transport.download import download
from ..words import Words
from . import images
from .cache import OnceCache
from .files import find_file, read_file
from .options import MediaOptions
from .sources import (
    THE_DATA_URI,
    Form,
    check_size,
    checked_uri,
    decoded,
    encoded,
    fitting_type,
    form_of,
    named,
    shown,
    uri_mime,
)

_VECTOR = "image/svg+xml"
"""Has no pixels to be scaled."""


class Download(Protocol):
    """The face of `transport.download.download`."""

    def __call__(
        self,
        url: str,
        *,
        max_bytes: int,
        timeout: float,
        allow_private: bool,
        options: TransportOptions | None,
        cancel: CancelToken | None,
    ) -> tuple[bytes, str]:
        """Return the bytes at a URL, and what the server calls them."""


class MediaStore:
    """Turns sources of media into data URIs; one for each client. May be shared by threads, and survives a fork.

    A URL is downloaded once as long as it is kept; a local file is read anew when it has changed. Failures are not kept.

    Args:
        options: What may be read.
        transport: Proxies and certificates for downloads; keys and client certificates are not used.
        download: Fetches a URL.
    """

    def __init__(
        self, options: MediaOptions, transport: TransportOptions | None = None, *, download: Download = download
    ) -> None:
        self.options = options
        self._transport = transport
        self._download = download
        self._cache = OnceCache(options.cache_bytes)

    def data_uri(
        self,
        source: str,
        kind: str,
        *,
        image_types: frozenset[str] | None = None,
        cancel: CancelToken | None = None,
    ) -> str:
        """Return a source as a data URI with the MIME type that its bytes show.

        Args:
            source: A path, file:// URL, http(s) URL, data URI or base64; `sources` has the rule that tells them apart.
            kind: "image", "audio", "video" or "file".
            image_types: MIME types that an image may have; others become PNG. None: all.
            cancel: Ends a download, or waiting for another thread's.

        Raises:
            InputError: It cannot be used; the message says why.
            RequestTimeout, ConnectionFailed: A download failed in a way that may pass.
            RequestCancelled: `cancel` was stopped.
        """
        uri = self._read(source, kind, cancel)
        if kind != "image" or image_types is None or uri_mime(uri) in image_types:
            return uri
        return self._cache.get(("png", _digest(uri)), lambda: _as_png(uri, named(source)), cancel)

    def _read(self, source: str, kind: str, cancel: CancelToken | None) -> str:
        form, options = form_of(source), self.options
        if form is Form.OTHER_SCHEME:
            raise InputError(
                _("{shown} cannot be read: only paths and file, http, https and data URLs can", shown=shown(source))
            )
        if form is Form.REMOTE:
            url = source.partition("#")[0]
            return self._cache.get((kind, url), lambda: self._downloaded(url, kind, cancel), cancel)
        if form is Form.LOCAL:
            self._check_local(source)
            file = find_file(source, options.max_bytes)

            def read() -> str:
                return self._finished(read_file(file.path, options.max_bytes), kind, named(source), name=file.path)

            return self._cache.get((kind, file), read, cancel)
        uri = checked_uri(source if form is Form.DATA_URI else f"data:;base64,{source}", kind, options.max_bytes)
        if kind != "image" or options.max_image_side is None:
            return uri
        return self._cache.get(("small", _digest(uri)), lambda: self._small(uri), cancel)

    def _check_local(self, source: str) -> None:
        if not self.options.local_files:
            raise InputError(
                _("{shown} is a local file, and local_files=False forbids to read them", shown=shown(source))
            )

    def is_local_file(self, source: str) -> bool:
        """Return whether local files may be read and there is one of this name."""
        try:
            return self.options.local_files and os.path.exists(os.path.expanduser(source))
        except ValueError:  # before Python 3.12, for a NUL
            return False

    def _downloaded(self, url: str, kind: str, cancel: CancelToken | None) -> str:
        if cancel is not None and cancel.stopped:
            raise RequestCancelled(_("stopped before a medium was downloaded"), attempts=0)
        options = self.options
        data, declared = self._download(
            url,
            max_bytes=options.max_bytes,
            timeout=options.download_timeout,
            allow_private=options.allow_private,
            options=self._transport,
            cancel=cancel,
        )
        return self._finished(data, kind, named(url), name=url.partition("?")[0], declared=declared)

    def _finished(self, data: bytes, kind: str, said: Words | str, *, name: str = "", declared: str = "") -> str:
        check_size(len(data), self.options.max_bytes, said)
        mime = fitting_type(data, kind, said, suffix_of=name, declared=declared)
        side = self.options.max_image_side
        if kind == "image" and side is not None and mime != _VECTOR:
            data, mime = images.shrink(data, side, said) or (data, mime)
        return encoded(data, mime)

    def _small(self, uri: str) -> str:
        side = self.options.max_image_side
        data, mime = decoded(uri)
        small = images.shrink(data, side, THE_DATA_URI) if side is not None and mime != _VECTOR else None
        return encoded(*small) if small else uri


def _as_png(uri: str, name: Words | str) -> str:
    data, mime = decoded(uri)
    return encoded(images.as_png(data, name, mime), "image/png")


def _digest(uri: str) -> bytes:
    return hashlib.sha256(uri.encode("utf-8", "surrogatepass")).digest()
