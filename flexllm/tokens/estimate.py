"""How many tokens a request will probably take, without a tokenizer: enough to stay below a limit of tokens a minute.

A first guess from what the request holds, and running means of what the replies' usage says, which correct it. Sources:
the providers' documentation of their tokenizers, and of what they count for pictures, sounds and films.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..chat import ChatRequest
from ..messages import Message

BYTES_PER_TOKEN = 4.0
"""Of a text in UTF-8. English prose has 4 letters a token; Chinese, Japanese and Korean letters are 3 bytes and 0.6 to 0.8
tokens each, Cyrillic ones 2 bytes and 0.4 to 0.5. So one number does for all, within about a fifth on prose."""

BYTES_PER_JSON_TOKEN = 3.3
"""Of JSON and code, which take 3 to 3.5 letters a token."""

MESSAGE_TOKENS = 4
"""Around each message: its role, and the marks at its beginning and end. A name takes one more."""

REPLY_TOKENS = 3
"""At the end, where the reply begins."""

TOOL_TOKENS = 10
"""Around the definition of each tool, which is otherwise counted as JSON."""

IMAGE_TOKENS = 765
"""A picture of unknown size: what GPT-4o counts for 1024 by 1024 pixels. Claude counts up to 1,600, Gemini 258 to 1,120."""

LOW_IMAGE_TOKENS = 85
"""A picture with `detail: "low"`: GPT-4o's number, whatever the size."""

AUDIO_TOKENS = 1_920
"""A sound of unknown length: one minute, at Gemini's 32 tokens a second."""

VIDEO_TOKENS = 7_890
"""A film of unknown length: half a minute, at the 263 tokens a second that Gemini counts up to version 2."""

FRAME_TOKENS = 263
"""Each picture of a film that is given as single pictures."""

FILE_TOKENS = 2_580
"""A document of unknown length: ten pages, at Gemini's 258 tokens a page."""

FIRST_COMPLETION = 512
"""Tokens of a reply that are expected before any reply came."""


def estimate_prompt_tokens(request: ChatRequest) -> int:
    """Return about how many tokens a request's prompt has, at least 1.

    Counted are texts, calls and results of tools, definitions of tools, and the schema of the answer; pictures, sounds,
    films and files at a flat number each, never by the length of their data. Not counted is what was thought in earlier
    turns: most servers drop it. Never raises, whatever a message holds: what is wrong with it others say.

    Costs a few microseconds, and for long texts the look at each letter that UTF-8 takes, unless they are all ASCII.
    """
    tokens = float(REPLY_TOKENS)
    for message in request.messages:
        tokens += _message_tokens(message)
    if request.params:
        tokens += _param_tokens(request.params)
    return math.ceil(tokens)


def max_tokens_of(params: Mapping[str, Any]) -> int | None:
    """Return the most tokens that a reply may have, by whichever word says it; None if none does.

    Gemini's own words win over OpenAI's, and `max_tokens` wins over `max_completion_tokens`, as the providers have it.
    What is not a whole number of at least 0 says nothing: -1 is no limit for some servers.
    """
    for around in ("generationConfig", "generation_config"):
        config = params.get(around)
        if isinstance(config, Mapping):
            limit = _first_limit(config, ("maxOutputTokens", "max_output_tokens"))
            if limit is not None:
                return limit
    return _first_limit(params, _LIMITS)


def replies_of(params: Mapping[str, Any]) -> int:
    """Return how many answers a request asks for, in OpenAI's word or in Gemini's; 1 if it does not say."""
    wanted = params.get("n")
    for around in ("generationConfig", "generation_config"):
        config = params.get(around)
        if isinstance(config, Mapping):
            wanted = config.get("candidateCount", config.get("candidate_count", wanted))
    return wanted if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted > 1 else 1


class PromptEstimate:
    """Corrects estimates of prompts by what servers count: other tokenizers, long tool templates, small pictures.

    Not locked: whoever shares it has a lock.
    """

    LEAST_RATIO, MOST_RATIO = 0.25, 4.0
    """Beyond these it is not the tokenizer that differs: some servers leave out, or add, what was not in the prompt."""

    def __init__(self) -> None:
        self._estimated = 0.0
        self._actual = 0.0
        self.ratio = 1.0  # tokens that a server counts for each one estimated

    def expect(self, estimated: int) -> int:
        """Return a corrected estimate, at least 1."""
        return int(min(estimated, _MOST_TOKENS) * self.ratio + 0.5) or 1

    def seen(self, estimated: int, actual: int) -> None:
        """Take in what a server counted for a prompt that was estimated, before correction, at `estimated`.

        Long prompts weigh more than short ones: their sum is what a limit is about. Older ones weigh less and less. A
        count of 0 is that of a server that does not count.
        """
        if estimated > 0 and actual > 0:
            self._estimated = self._estimated * _FADING + min(estimated, _MOST_TOKENS)
            self._actual = self._actual * _FADING + min(actual, _MOST_TOKENS)
            self.ratio = min(max(self._actual / self._estimated, self.LEAST_RATIO), self.MOST_RATIO)


class OutputEstimate:
    """How long replies are: a running mean of their tokens.

    Not locked: whoever shares it has a lock.
    """

    def __init__(self) -> None:
        self._replies = 0.0
        self._tokens = 0.0

    def expect(self, max_tokens: int | None) -> int:
        """Return the tokens that the next reply will probably have.

        Args:
            max_tokens: The most that it may have, as `max_tokens_of` returns it; None is not limited.
        """
        expected = math.ceil(self._tokens / self._replies) if self._replies else FIRST_COMPLETION
        return expected if max_tokens is None else min(expected, max(max_tokens, 0))

    def seen(self, completion_tokens: int) -> None:
        """Take in the tokens of a reply; older ones weigh less and less."""
        if completion_tokens >= 0:
            self._replies = self._replies * _FADING + 1.0
            self._tokens = self._tokens * _FADING + min(completion_tokens, _MOST_TOKENS)


_FADING = 0.98
"""What one reply makes of the weight of those before it: about the last fifty count."""

_MOST_TOKENS = 1_000_000_000
"""Larger counts are a server's error, and would not fit into a float."""

_LIMITS = ("maxOutputTokens", "max_output_tokens", "max_tokens", "max_completion_tokens")


def _first_limit(params: Mapping[str, Any], names: Iterable[str]) -> int | None:
    for name in names:
        value = params.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


# --- messages ---------------------------------------------------------------------------------------------------------


def _message_tokens(message: Message) -> float:
    content = message.get("content")
    tokens = MESSAGE_TOKENS + (_text_tokens(content) if isinstance(content, str) else _parts_tokens(content))
    if len(message) == 2:  # the common case
        return tokens
    if message.get("name"):
        tokens += 1
    for field in ("tool_calls", "function_call"):
        if message.get(field):
            tokens += _json_tokens(message[field])
    refusal = message.get("refusal")
    return tokens + _text_tokens(refusal) if isinstance(refusal, str) else tokens


def _text_tokens(text: str) -> float:
    return _bytes(text) / BYTES_PER_TOKEN


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _parts_tokens(content: Any) -> float:
    """Return the tokens of content that stands as parts, or as nothing."""
    if not isinstance(content, (list, tuple)):
        return 0.0
    tokens = 0.0
    for part in content:
        text = part if isinstance(part, str) else _text_of(part)
        tokens += _json_tokens(part) if text is None else _text_tokens(text)
    return tokens


def _text_of(part: Any) -> str | None:
    """Return the text of a part that is one, None for others. Gemini's have no type."""
    if not isinstance(part, Mapping):
        return None
    kind = part.get("type")
    if kind in ("text", None, "refusal"):
        text = part.get("refusal" if kind == "refusal" else "text")
    elif kind == "document":  # Claude's, which may hold plain text
        source = part.get("source")
        text = source.get("data") if isinstance(source, Mapping) and source.get("type") == "text" else None
    else:
        return None
    return text if isinstance(text, str) else None


# --- media ------------------------------------------------------------------------------------------------------------

_MEDIA = {
    **dict.fromkeys(("image_url", "image"), IMAGE_TOKENS),
    **dict.fromkeys(("input_audio", "audio_url", "audio"), AUDIO_TOKENS),
    **dict.fromkeys(("video_url", "video"), VIDEO_TOKENS),
    **dict.fromkeys(("file", "document"), FILE_TOKENS),
}
"""By the type of a part: OpenAI's, Anthropic's, Qwen's."""

_GEMINI_MEDIA = frozenset({"inlineData", "inline_data", "fileData", "file_data"})
_GEMINI_TYPES = {"image": IMAGE_TOKENS, "audio": AUDIO_TOKENS, "video": VIDEO_TOKENS}
"""By the first half of the MIME type; others are documents."""


def _media_tokens(part: Mapping[Any, Any]) -> int | None:
    """Return the flat number of a part that is a picture, sound, film or file; None for everything else."""
    kind = part.get("type")
    if isinstance(kind, str) and kind in _MEDIA and (kind in part or "source" in part):
        held = part.get(kind)
        if isinstance(held, (list, tuple)):
            return len(held) * FRAME_TOKENS
        is_low = isinstance(held, Mapping) and held.get("detail") == "low"
        return LOW_IMAGE_TOKENS if is_low else _MEDIA[kind]
    if _GEMINI_MEDIA.isdisjoint(part):
        return None
    for field in _GEMINI_MEDIA:
        data = part.get(field)
        if isinstance(data, Mapping):
            mime = str(data.get("mimeType", data.get("mime_type", "")))
            return _GEMINI_TYPES.get(mime.partition("/")[0].lower(), FILE_TOKENS)
    return None


# --- everything that is JSON ------------------------------------------------------------------------------------------

_TOLD = ("tools", "functions", "response_format", "systemInstruction", "system_instruction")
"""Parameters that the model is told of."""

_MOST_VALUES = 100_000
"""Values in one parameter or part that are looked at: far beyond any real one, and an end for one that holds itself."""

_DATA_FROM = 512
"""Letters; shorter texts may be a name or an id."""
_BASE64 = re.compile(r"[A-Za-z0-9+/=_-]+")


def _param_tokens(params: Mapping[str, Any]) -> float:
    tokens = 0.0
    for name in _TOLD:
        value = params.get(name)
        if value:
            tokens += _json_tokens(value)
            if name == "tools" and isinstance(value, (list, tuple)):
                tokens += len(value) * TOOL_TOKENS
    system = params.get("system")  # Anthropic's: a text or parts
    if system:
        tokens += _text_tokens(system) if isinstance(system, str) else _parts_tokens(system)
    return tokens


def _json_tokens(value: Any) -> float:
    """Return the tokens of a value written as compact JSON, media in it at their flat numbers."""
    size, media = 0, 0
    waiting = [value]
    for _ in range(_MOST_VALUES):
        if not waiting:
            break
        one = waiting.pop()
        if isinstance(one, str):
            size += 3 if _is_data(one) else _bytes(one) + 3  # with its quotes and a comma
        elif isinstance(one, Mapping):
            flat = _media_tokens(one)
            if flat is None:
                size += 2
                waiting += one
                waiting += one.values()
            else:
                media += flat
        elif isinstance(one, (list, tuple)):
            size += 2
            waiting += one
        else:
            size += 5  # a number, true, null
    return media + size / BYTES_PER_JSON_TOKEN


def _is_data(text: str) -> bool:
    """Whether a text is a medium's data, or the signature of something: nothing that is counted by its length."""
    return len(text) >= _DATA_FROM and (text.startswith("data:") or bool(_BASE64.fullmatch(text, 0, 256)))
