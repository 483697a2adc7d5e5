"""How many tokens a text or a conversation has: counted where a tokenizer is at hand, otherwise estimated.

The tokenizer is tiktoken's, which is optional (`pip install "flexllm[tiktoken]"`), and this is the only door to it. It
knows OpenAI's models, and is used only if the file of the model's vocabulary lies where tiktoken keeps such files: it is
read here, so that nothing is ever downloaded. All other counts are estimates, corrected by what servers counted before.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ..chat import ChatRequest
from ..errors import ConfigError, InputError
from ..fork import forget_in_child
from ..language import _
from ..media.parts import as_messages
from ..messages import Message, Messages, normalise_messages
from .estimate import MESSAGE_TOKENS, REPLY_TOKENS, estimate_prompt_tokens
from .learned import TokenCount, corrections, total

log = logging.getLogger(__name__)

DEFAULT_MODEL = "gpt-4o"
"""Whose tokens are counted where no model is named."""

CHAT_MARKS = 3
"""Around each message of OpenAI's models since 2023, besides its role and its name, which takes one more; and as many at
the end, where the reply begins. Source: OpenAI's cookbook on counting tokens."""


def count_tokens(text: str, model: str = DEFAULT_MODEL) -> TokenCount:
    """Return how many tokens a text has; `.is_estimate` of the number says whether it was counted or estimated.

    The first count for a model may read a vocabulary of some megabytes, which is remembered, as is its absence.

    Raises:
        InputError: It is no text.
        ConfigError: `model` is no name.
    """
    if not isinstance(text, str):
        kind = type(text).__name__
        raise InputError(
            _("count_tokens counts a text, not {kind}; count_messages_tokens counts conversations", kind=kind)
        )
    tokenizer = _tokenizer_for(model)
    return _estimated_text(text, model) if tokenizer is None else tokenizer.count(text)


def count_messages_tokens(messages_list: Messages | Iterable[Messages], model: str = DEFAULT_MODEL) -> TokenCount:
    """Return how many tokens the prompts of these conversations have together.

    Pictures, sounds, films, files and tool calls are always estimated; no file is read and nothing is fetched.

    Args:
        messages_list: Conversations, each of them a text, a message or a list of messages; or a single one. A list of
            messages is one conversation.

    Raises:
        InputError: A conversation cannot be used; the message says which.
        ConfigError: `model` is no name.
    """
    return total(count_each(messages_list, model))


def count_each(messages_list: Messages | Iterable[Messages], model: str = DEFAULT_MODEL) -> list[TokenCount]:
    """Return for each conversation how many tokens its prompt has. As `count_messages_tokens` in all else."""
    tokenizer = _tokenizer_for(model)
    conversations, is_list = _conversations(messages_list)
    counts = []
    for number, messages in enumerate(conversations):
        try:
            checked = normalise_messages(as_messages(messages))
        except InputError as error:
            if not is_list:
                raise
            raise InputError(_("conversation {number}: {error}", number=number, error=error)) from None
        counts.append(_count_conversation(checked, model, tokenizer))
    return counts


# --- estimates --------------------------------------------------------------------------------------------------------


def _estimated_text(text: str, model: str) -> TokenCount:
    around = MESSAGE_TOKENS + REPLY_TOKENS
    estimated = estimate_prompt_tokens(ChatRequest([{"role": "user", "content": text}], model)) - around
    return TokenCount(corrections.expect(model, estimated), True)


def _conversations(given: Messages | Iterable[Messages]) -> tuple[list[Any], bool]:
    """Return the conversations, and whether they came as a list of several."""
    if isinstance(given, (str, Mapping)):
        return [given], False
    if not isinstance(given, Iterable) or isinstance(given, (bytes, bytearray)):
        raise InputError(_("conversations must be a list of them, or one, not {kind}", kind=type(given).__name__))
    found = list(given)
    if found and all(isinstance(one, Mapping) for one in found):
        return [found], False
    return found, True


def _count_conversation(messages: list[Message], model: str, tokenizer: Tokenizer | None) -> TokenCount:
    if tokenizer is None:
        estimated = estimate_prompt_tokens(ChatRequest(messages, model))
        return TokenCount(corrections.expect(model, estimated), True)
    tokens, is_estimate = CHAT_MARKS, tokenizer.other_frames
    for message in messages:
        counted = _count_message(message, model, tokenizer)
        tokens += counted
        is_estimate = is_estimate or counted.is_estimate
    return TokenCount(tokens, is_estimate)


def _count_message(message: Message, model: str, tokenizer: Tokenizer) -> TokenCount:
    """Return the tokens of one message: its texts counted, all else estimated."""
    texts = [message["role"]]
    rest = {key: value for key, value in message.items() if key != "name"}
    content = message.get("content")
    if isinstance(content, str):
        texts.append(content)
        rest["content"] = None
    elif content:
        plain = [_text_of(part) for part in content]
        texts += [text for text in plain if text is not None]
        rest["content"] = [part for part, text in zip(content, plain, strict=True) if text is None]
    tokens = CHAT_MARKS
    if isinstance(message.get("name"), str) and message["name"]:
        texts.append(message["name"])
        tokens += 1
    counted = total(map(tokenizer.count, texts))
    estimated = estimate_prompt_tokens(ChatRequest([rest], model)) - MESSAGE_TOKENS - REPLY_TOKENS
    return TokenCount(tokens + counted + estimated, counted.is_estimate or estimated > 0)


def _text_of(part: Any) -> str | None:
    """Return the text of a part of the canonical form, None for other parts."""
    text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
    return text if isinstance(text, str) else None


# --- tiktoken ---------------------------------------------------------------------------------------------------------

STRETCH = 50_000
"""Letters that are given to tiktoken at once: time and stack grow faster than the text, and at a million blanks it gives
up."""

_SEAM = re.compile(r"[^\W_](?=[ \t\r\n，。、！？；：])")
"""A letter or digit, and something that its token cannot reach into: what is cut behind it has as many tokens as before."""


class Vocabulary(NamedTuple):
    """What makes an encoding.

    Attributes:
        file: The name of its file where tiktoken keeps it: the SHA-1 of the URL that it came from.
        sha256: Of the whole file.
        pattern: Cuts a text into the pieces that tokens are made of.
    """

    file: str
    sha256: str
    pattern: str


VOCABULARIES = {
    "cl100k_base": Vocabulary(
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
        r"|\s+(?!\S)|\s",
    ),
    "o200k_base": Vocabulary(
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}
"""Of the models that still answer. Source: tiktoken, which defines these encodings."""

HARMONY = "o200k_harmony"
"""The encoding of gpt-oss: o200k_base with marks for another frame around messages, which no chat's text holds."""


class Tokenizer:
    """Counts the tokens of texts by one vocabulary. May be shared by threads.

    Attributes:
        other_frames: Messages stand in another frame than `CHAT_MARKS` tells.
    """

    def __init__(self, encode: Callable[[str], list[int]], model: str, *, other_frames: bool = False) -> None:
        self._encode = encode
        self._model = model
        self.other_frames = other_frames

    def count(self, text: str) -> TokenCount:
        """Return how many tokens a text has. Where one of fifty thousand letters has no seam it is off by a token."""
        tokens, is_estimate = 0, False
        try:
            for stretch, has_seam in _stretches(text):
                tokens += len(self._encode(stretch))
                is_estimate = is_estimate or not has_seam
        except Exception as error:  # a tokenizer that gives up on a text must not stop who only wants a number
            log.debug("tiktoken could not count a text of %d letters: %r", len(text), error)
            return _estimated_text(text, self._model)
        return TokenCount(tokens, is_estimate)


def _stretches(text: str) -> Iterator[tuple[str, bool]]:
    """Yield a text in stretches that can be counted alone, and whether each ends at a seam."""
    start = 0
    while len(text) - start > STRETCH:
        seams = [seam.end() for seam in _SEAM.finditer(text, start + STRETCH // 2, start + STRETCH)]
        end = seams[-1] if seams else start + STRETCH
        yield text[start:end], bool(seams)
        start = end
    yield text[start:], True


class Encodings:
    """The encodings that could be read, and that could not: each is tried once. May be shared by threads."""

    def __init__(self) -> None:
        self._encoders: dict[str, Callable[[str], list[int]] | None] = {}
        self._name_of: Callable[[str], str | None] | None = None
        self._after_fork_in_child()
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()

    def tokenizer(self, model: str) -> Tokenizer | None:
        """Return what counts this model's tokens, None if it is not known, or not at hand."""
        with self._lock:
            if self._name_of is None:
                self._name_of = _naming()
            name = self._name_of(model.removeprefix("openai/"))  # as gateways call OpenAI's models
            if name is None:
                return None
            shared = "o200k_base" if name == HARMONY else name
            if shared not in self._encoders:
                self._encoders[shared] = _read_encoder(shared)
            encode = self._encoders[shared]
        return None if encode is None else Tokenizer(encode, model, other_frames=name == HARMONY)


_encodings = Encodings()


def _tokenizer_for(model: str) -> Tokenizer | None:
    if not isinstance(model, str) or not model:
        raise ConfigError(_("model={model!r} is no name of a model", model=model))
    return _encodings.tokenizer(model)


def _naming() -> Callable[[str], str | None]:
    """Return what tells a model's encoding; of no model where tiktoken is not there."""
    try:
        import tiktoken
    except Exception as error:  # not installed; or broken, which is no reason to fail where an estimate will do
        log.debug("tokens are estimated: %r", error)
        return lambda model: None

    def name_of(model: str) -> str | None:
        try:
            return tiktoken.encoding_name_for_model(model)
        except KeyError:
            return None

    return name_of


def _read_encoder(name: str) -> Callable[[str], list[int]] | None:
    """Return the encoding of that name, None if its vocabulary is not on this machine.

    `tiktoken.get_encoding` is no way to it: where the file is missing or damaged, it downloads another.
    """
    vocabulary = VOCABULARIES.get(name)
    folder = _cache_folder()
    if vocabulary is None or not folder:
        return None
    try:
        with open(os.path.join(folder, vocabulary.file), "rb") as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != vocabulary.sha256:
            log.warning("the vocabulary of %s in %s is damaged; tokens are estimated", name, folder)
            return None
        return _encoder(name, data, vocabulary.pattern)
    except Exception as error:  # whatever tiktoken or the disk has against it, an estimate will do
        log.debug("the vocabulary of %s cannot be used: %r", name, error)
        return None


def _cache_folder() -> str:
    """Return where tiktoken keeps its files, "" for nowhere. Source: tiktoken's README and `tiktoken.load`."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in os.environ:
            return os.environ[variable]
    return os.path.join(tempfile.gettempdir(), "data-gym-cache")


def _encoder(name: str, data: bytes, pattern: str) -> Callable[[str], list[int]]:
    import tiktoken

    ranks = {}
    for line in data.splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    # Without its special tokens: in what users write, their names are text.
    encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda text: encoding.encode(text, disallowed_special=())
