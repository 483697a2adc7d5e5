"""What names a request among all requests: one number over all that changes its answer, the same on every run and machine.

Pictures and other media that are files or stand in the request itself count by their content, so that a changed picture is
another request and a moved one is not; what is behind a URL counts by its URL.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from operator import is_
from typing import Any

from ..chat import ChatRequest
from ..digest import MESSAGES_BYTES, canonical_json, digest_messages
from ..errors import InputError
from ..language import _
from ..media.files import LocalFile, find_file, read_file
from ..media.options import MediaOptions
from ..media.parts import SLOTS, as_messages
from ..media.sniff import mime_of
from ..media.sources import Form, checked_uri, form_of, uri_mime, uri_payload
from ..messages import Message, Messages, normalise_messages
from ..schema import as_response_format

KEY_VERSION = 1
"""Of what a key is made of. Another version finds nothing that was stored under this one."""

FILES_REMEMBERED = 65_536
"""Local files whose digests are kept, about 400 bytes each, so that a picture that many rows show is read once."""

_MEDIA = b"media"  # digests of messages in which media were replaced are a world of their own


@dataclass(frozen=True, slots=True)
class KeyScope:
    """What decides an answer besides the request itself.

    Attributes:
        provider: By whose wire format it is asked.
        endpoints: Base URLs that may be asked, where the same model at another one counts as another model; in any
            order.
        headers: Names and values of those more headers that change answers (`anthropic-beta`); no keys.
        media: Anything else that is done to media before they are sent.
    """

    provider: str
    endpoints: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    media: str = ""


class RequestKeys:
    """Names the requests of one client. May be shared by threads.

    Args:
        scope: What they have in common.
        media: What may be read: a file that may not is named by its path. The size to which images are scaled counts
            for requests that have one.
    """

    def __init__(self, scope: KeyScope, media: MediaOptions | None = None) -> None:
        self._media = media or MediaOptions()
        self._contents = lru_cache(maxsize=FILES_REMEMBERED)(self._read)
        named = {
            "version": KEY_VERSION,
            "provider": scope.provider,
            "endpoints": sorted(scope.endpoints),
            "headers": sorted([name.lower(), value] for name, value in scope.headers),
            "media": scope.media,
        }
        self._scope = canonical_json(named)
        self._settings: tuple[str, Any, Any] = ("", None, None)  # model, params, and the hash that begins with them

    def digest(self, request: ChatRequest, messages_digest: int | None = None) -> int:
        """Return a number of 128 bits that names a request. Every field of it counts, down to the last parameter.

        Args:
            messages_digest: What `digest_messages` gave for its messages, where that is known already.

        Raises:
            InputError: The request cannot be written as JSON.
        """
        model, params, settings = self._settings
        if params is not request.params or model != request.model:
            model, params = request.model, request.params
            settings = _hash_of_settings(self._scope, model, params)
            self._settings = (model, params, settings)  # in one go: other threads read it
        messages, hashed = request.messages, settings.copy()
        if _has_parts(messages):
            named = self._with_contents(messages)
            if named is not messages:
                hashed.update(_MEDIA)
                messages, messages_digest = named, None
        if messages_digest is None:
            messages_digest = digest_messages(messages)
        hashed.update(messages_digest.to_bytes(MESSAGES_BYTES, "big"))
        return int.from_bytes(hashed.digest(), "big")

    # --- media

    def _with_contents(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return messages with a digest in the place of each medium whose bytes are at hand."""
        named: list[Message] = []
        for message in messages:
            content = message.get("content")
            if isinstance(content, (list, tuple)):
                parts = [self._part(part) for part in content]
                if not all(map(is_, parts, content)):
                    message = {**message, "content": parts}
            named.append(message)
        return messages if all(map(is_, named, messages)) else named

    def _part(self, part: Any) -> Any:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if not isinstance(kind, str):
            return part
        inner = part.get(kind)
        if kind == "video" and isinstance(inner, list):
            return {**part, kind: [self._named(frame, "image") for frame in inner]}
        slot = SLOTS.get(kind)
        if slot is None or not isinstance(inner, Mapping):
            return part
        source = inner.get(slot.key)
        named = self._named(source, slot.kind)
        return part if named is source else {**part, kind: {**inner, slot.key: named}}

    def _named(self, source: Any, kind: str) -> Any:
        """Return what names a source by its content; itself where the content is not at hand, and nothing is done to it."""
        if not isinstance(source, str) or not source:
            return source
        named, side = self._content(source, kind), self._media.max_image_side
        return named if side is None or kind != "image" else {"of": named, "side": side}

    def _content(self, source: str, kind: str) -> Any:
        form = form_of(source)
        try:
            if form is Form.LOCAL:
                return self._named_file(source, kind)
            if form is Form.DATA_URI:
                return _named_uri(source, kind, self._media.max_bytes)
            if form is Form.BASE64:
                return _named_uri(f"data:;base64,{source}", kind, self._media.max_bytes)
        except InputError:  # no such file, or a broken one: the request says so better, if it is sent at all
            pass
        return source

    def _named_file(self, source: str, kind: str) -> Any:
        if not self._media.local_files:
            return source
        mime, digest = self._contents(find_file(source, self._media.max_bytes))
        named = {"type": mime, "digest": digest}
        return named if kind != "file" else {**named, "name": os.path.basename(source)}  # which is sent, too

    def _read(self, file: LocalFile) -> tuple[str, str]:
        data = read_file(file.path, self._media.max_bytes)
        return mime_of(data, file.path), _content_digest(data)


def cache_key(digest: int, occurrence: int = 0) -> str:
    """Return what a response cache knows an answer by: letters, digits and a dash.

    Args:
        occurrence: The number of the request among equal ones, each of which is a wish for another answer.
    """
    return f"{digest:032x}-{occurrence}" if occurrence else f"{digest:032x}"


def is_deterministic(request: ChatRequest) -> bool:
    """Return whether a request asks for the most likely answer: with an explicit temperature of 0, and no other."""
    given = [request.params.get("temperature")]
    for name in ("generationConfig", "generation_config"):  # Gemini's own
        config = request.params.get(name)
        if isinstance(config, Mapping):
            given.append(config.get("temperature"))
    numbers = [value for value in given if isinstance(value, (int, float)) and not isinstance(value, bool)]
    return bool(numbers) and not any(numbers)


def messages_hash(messages: Messages, model: str | None = None, **params: Any) -> str:
    """Return a name for a conversation, 32 hexadecimal digits that are the same on every run and machine.

    Args:
        messages: A text, one message, or a list of messages. Local files count by their content.
        model: Makes it the name of what is asked of this model.
        params: Request parameters, which count too.

    Raises:
        InputError: The messages cannot be used, or something is not JSON-able.
        ConfigError: `response_format` cannot be used.
    """
    wanted = params.get("response_format")
    if wanted is not None:
        params["response_format"] = as_response_format(wanted)
    request = ChatRequest(normalise_messages(as_messages(messages)), model or "any", params)
    return f"{RequestKeys(KeyScope('' if model else 'any model')).digest(request):032x}"


def _has_parts(messages: Sequence[Message]) -> bool:
    for message in messages:  # noqa: SIM110  # a loop, not any(): for two messages it is twice as fast
        if type(message.get("content")) is not str:
            return True
    return False


def _hash_of_settings(scope: bytes, model: str, params: Mapping[str, Any]) -> Any:
    """Return a hash of everything but the messages, ready for these. The same number counts alike however it is written."""
    plain = {
        name: int(value) if type(value) is float and value.is_integer() else value for name, value in params.items()
    }
    settings = canonical_json([model, plain])
    # Keyed rather than joined: whatever a scope holds, it cannot look like another scope with other settings.
    key = blake2b(scope, digest_size=blake2b.MAX_KEY_SIZE).digest()
    hashed = blake2b(key=key, digest_size=MESSAGES_BYTES)
    hashed.update(blake2b(settings).digest())
    return hashed


def _named_uri(uri: str, kind: str, max_bytes: int) -> Any:
    uri = checked_uri(uri, kind, max_bytes)
    try:
        data = base64.b64decode(uri_payload(uri), validate=True)
    except (binascii.Error, ValueError):
        raise InputError(_("the data URI is not base64")) from None
    return {"type": uri_mime(uri), "digest": _content_digest(data)}


def _content_digest(data: bytes) -> str:
    return blake2b(data, digest_size=MESSAGES_BYTES).hexdigest()
