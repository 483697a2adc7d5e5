"""The shape of OpenAI's messages, and what holds between them.

Source: the API references of OpenAI, vLLM, DeepSeek, Qwen, Ollama and OpenRouter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..checks import Fault, Shape, anything, array, boolean, either, number, ruled, table, tagged, text

NAME = text(pattern="[a-zA-Z0-9_-]{1,64}")
TEXT = text()
WITHOUT_CONTENT = ("tool_calls", "function_call", "refusal", "audio")  # an assistant message with one may have none

_BREAKPOINT = table({"mode": text(allowed=("explicit",)), "ttl": TEXT}, required=("mode",))
_OWN_ANYWHERE: dict[str, Shape] = {"type": TEXT, "prompt_cache_breakpoint": _BREAKPOINT}
_FOREIGN_ANYWHERE: dict[str, Shape] = {"cache_control": anything, "uuid": TEXT}
_IMAGE_URL: dict[str, Shape] = {"url": text(least=1), "detail": text(allowed=("auto", "low", "high", "original"))}
_FILE = table({"filename": TEXT, "file_data": TEXT, "file_id": TEXT})
_URL = either(string=TEXT, object=table({"url": text(least=1)}, required=("url",), is_open=True))


def _part(fields: Mapping[str, Shape], required: str, *, is_own: bool) -> Shape:
    foreign = {} if is_own else _FOREIGN_ANYWHERE
    return table({**_OWN_ANYWHERE, **foreign, **fields}, required=(required,))


def _user_parts(text_part: Shape, is_own: bool) -> dict[str, Shape]:
    image_url = table(_IMAGE_URL, required=("url",))
    audio = {"data": text(least=1), "format": text(allowed=("wav", "mp3"))}
    if is_own:
        return {
            "text": text_part,
            "image_url": _part({"image_url": image_url}, "image_url", is_own=True),
            "input_audio": _part({"input_audio": table(audio, required=audio)}, "input_audio", is_own=True),
            "file": _part({"file": _FILE}, "file", is_own=True),
        }
    open_image = either(string=TEXT, object=table({**_IMAGE_URL, "uuid": TEXT}, required=("url",), is_open=True))
    pixels: dict[str, Shape] = {"min_pixels": number(0), "max_pixels": number(0), "total_pixels": number(0)}
    video: dict[str, Shape] = {**pixels, "fps": number(0)}
    own_audio = table({"data": text(least=1), "format": TEXT}, required=("data",))
    shapes = {
        "image_url": {"image_url": open_image, **pixels},
        "input_audio": {"input_audio": own_audio},
        "audio_url": {"audio_url": _URL},
        "video_url": {"video_url": _URL, **video},
        "video": {"video": either(string=TEXT, array=array(TEXT, least=1)), **video},
        "file": {"file": table({"filename": TEXT, "file_data": TEXT, "file_id": TEXT}, is_open=True)},
    }
    return {"text": text_part, **{name: _part(fields, name, is_own=False) for name, fields in shapes.items()}}


def _call_shape(is_own: bool) -> Shape:
    foreign: dict[str, Shape] = {} if is_own else {"index": anything, "extra_content": anything}
    function = table({"name": text(least=1), "arguments": TEXT}, required=("name", "arguments"))
    custom = table({"name": text(least=1), "input": TEXT}, required=("name", "input"))
    shared: dict[str, Shape] = {"id": text(least=1), "type": TEXT, **foreign}
    return tagged(
        "type",
        {
            "function": table({**shared, "function": function}, required=("id", "function")),
            "custom": table({**shared, "custom": custom}, required=("id", "custom")),
        },
    )


def _assistant(text_part: Shape, is_own: bool) -> Shape:
    # An answer of the service itself may be sent back whole: annotations are in it.
    fields: dict[str, Shape] = {
        "role": TEXT,
        "name": TEXT,
        "refusal": TEXT,
        "annotations": array(anything),
        "audio": table({"id": TEXT}, required=("id",), is_open=True),
        "tool_calls": array(_call_shape(is_own), least=1 if is_own else 0),
        "function_call": table({"name": TEXT, "arguments": TEXT}, required=("name", "arguments")),
    }
    refusal = _part({"refusal": TEXT}, "refusal", is_own=is_own)
    parts: dict[str, Shape] = {"text": text_part, "refusal": refusal}
    if not is_own:
        parts["thinking"] = anything  # Mistral's
        fields |= {name: either(string=TEXT) for name in ("reasoning_content", "reasoning", "reasoning_text")}
        fields |= {"reasoning_details": array(anything), "prefix": boolean, "partial": boolean, "images": anything}
    fields["content"] = either(string=TEXT, array=array(tagged("type", parts), least=1))
    return ruled(table(fields), _says_something)


def _says_something(message: Any) -> Fault | None:
    if message.get("content") is None and not any(message.get(name) for name in WITHOUT_CONTENT):
        return Fault("type", "string or array", None, ("content",))
    return None


def messages_shape(*, is_own: bool) -> Shape:
    """Return the shape of `messages`, without what holds between them.

    Args:
        is_own: Only what OpenAI itself takes; otherwise also what other servers of the dialect are known to take.
    """
    text_part = _part({"text": TEXT}, "text", is_own=is_own)
    texts = either(string=TEXT, array=array(tagged("type", {"text": text_part}), least=1))
    anything_said = either(string=TEXT, array=array(tagged("type", _user_parts(text_part, is_own)), least=1))
    system = table({"role": TEXT, "content": texts, "name": TEXT}, required=("content",))
    user = table({"role": TEXT, "content": anything_said, "name": TEXT}, required=("content",))
    result = texts if is_own else anything_said
    tool: dict[str, Shape] = {"role": TEXT, "content": result, "tool_call_id": text(least=1), "name": TEXT}
    roles = {
        "system": system,
        "developer": system,
        "user": user,
        "assistant": _assistant(text_part, is_own),
        "tool": table(tool, required=("content", "tool_call_id")),
        "function": table({"role": TEXT, "name": NAME, "content": TEXT}, required=("name",)),
    }
    return array(tagged("role", roles), least=1)


def order_fault(messages: Sequence[Mapping[str, Any]]) -> Fault | None:
    """Return the first tool call that is not answered, or answer that was not called for, in messages of right shape."""
    open_calls: dict[str, int] = {}  # id -> position of the message that called
    for at, message in enumerate(messages):
        if message["role"] == "tool":
            if open_calls.pop(message["tool_call_id"], None) is None:
                sentence = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
                return Fault("rule", f"Invalid parameter: {sentence}", place=(at, "role"))
            continue
        if open_calls:
            break
        for call in message.get("tool_calls") or ():
            open_calls[call["id"]] = at
    if not open_calls:
        return None
    at = next(iter(open_calls.values()))
    sentence = (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {', '.join(open_calls)}"
    )
    return Fault("rule", sentence, place=(at, "tool_calls"))
