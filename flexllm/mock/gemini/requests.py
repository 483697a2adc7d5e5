"""Strict checks of what Gemini is asked: a body is read with both spellings of its names, then held to the rules.

What the service refuses with 400 is a fault that names the field in Google's way. Where the service is lenient, say
about a list of one without its brackets, so is this.

Source: Google's API reference and its guides on function calling, thinking, signatures and structured output.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .messages import COUNT_TOKENS, DATA_FIELDS, GENERATE
from .models import Family, family
from .protojson import Fault, Message, Reader, broken_rule, shown
from .settings import functions, generation_faults, name_faults, snake, tools_faults
from .signatures import is_call_signature, is_text_signature

_MIME_TYPE = re.compile(r"(audio|image|video|text|application)/[A-Za-z0-9.+-]+(;.*)?")
_FILE_URI = re.compile(r"(https?|gs)://[^\s]+")
_RESULT_TYPE = re.compile(r"image/(png|jpeg|webp)|application/pdf|text/.+")  # of media in a function's response
_FILES_API = "https://generativelanguage.googleapis.com/"


def read_request(body: Mapping[str, Any], surface: str, model: str) -> tuple[dict[str, Any], list[Fault]]:
    """Return a request for content with camelCase names, and what is wrong with it.

    Args:
        body: The parsed body.
        surface: Which fields exist: "developer", "developer_v1" or "vertex".
        model: Its bare name.

    Returns:
        The faults of shape, all of them; without any, the first broken rule.
    """
    request, faults = _read(GENERATE, body, surface)
    return request, faults or _first(_request_faults(request, surface, family(model, surface == "vertex")))


def read_count(body: Mapping[str, Any], surface: str, model: str) -> tuple[dict[str, Any], list[Fault]]:
    """Return what is to be counted as a request for content, and what is wrong with it; see `read_request`.

    Contents by themselves need not be a conversation that could go on.
    """
    count, faults = _read(COUNT_TOKENS, body, surface)
    if faults:
        return count, faults
    request = count.get("generateContentRequest")
    if request is None:
        model_family = family(model, surface == "vertex")
        return count, _first(_shared_faults(count, "CountTokensRequest", surface, model_family))
    if "contents" in count:
        reason = "contents and generate_content_request are mutually exclusive."
        return count, [broken_rule("generate_content_request", reason, "CountTokensRequest")]
    if "model" not in request:
        field = "generate_content_request.model"
        return count, [broken_rule(field, "model is not specified", "CountTokensRequest")]
    return request, _first(_request_faults(request, surface, family(model, surface == "vertex")))


def _read(message: Message, body: Mapping[str, Any], surface: str) -> tuple[dict[str, Any], list[Fault]]:
    reader = Reader(surface)
    return message.read(body, "", reader), reader.faults


def _first(faults: Iterator[Fault]) -> list[Fault]:
    """Only the first rule that is broken: those behind it may follow from it."""
    fault = next(faults, None)
    return [] if fault is None else [fault]


def _shared_faults(request: Mapping[str, Any], name: str, surface: str, model_family: Family) -> Iterator[Fault]:
    """What holds for a request for content, and for the counting of one. `name`: which of the two."""
    yield from _contents_faults(request, name, surface)
    if "systemInstruction" in request:
        yield from _system_faults(request["systemInstruction"])
    if "generationConfig" in request:
        yield from generation_faults(request["generationConfig"], model_family, bool(functions(request)))
    if "tools" in request or "toolConfig" in request:
        yield from tools_faults(request, model_family)


def _request_faults(request: Mapping[str, Any], surface: str, model_family: Family) -> Iterator[Fault]:
    yield from _shared_faults(request, "GenerateContentRequest", surface, model_family)
    contents = request["contents"]
    if contents[0].get("role") == "model":
        yield broken_rule("contents[0].role", "Please ensure that the conversation starts with a user turn.")
    turns = _turns(contents)
    yield from _turn_faults(turns)
    if model_family.is_early:
        yield from _media_result_faults(turns)
    if model_family.signs:
        yield from _signature_faults(turns)
    for at, setting in enumerate(request.get("safetySettings", ())):
        for required in ("category", "threshold"):
            if required not in setting:
                yield broken_rule(f"safety_settings[{at}].{required}", f"{required} is not specified")
    for setting in ("systemInstruction", "tools", "toolConfig"):
        if setting in request and "cachedContent" in request:
            reason = f"CachedContent can not be used with a request that sets {snake(setting)}."
            yield broken_rule("cached_content", reason)


# ---------------------------------------------------------------------------------------------------- contents


def _contents_faults(request: Mapping[str, Any], name: str, surface: str) -> Iterator[Fault]:
    contents = request.get("contents")
    if not contents:
        yield broken_rule("contents", "contents is not specified", name)
        return
    for at, content in enumerate(contents):
        place = f"contents[{at}]"
        role = content.get("role", "user" if surface != "vertex" else None)
        if role not in ("user", "model", "function"):
            yield broken_rule(f"{place}.role", "Please use a valid role: user, model.", name)
        if not content.get("parts"):
            yield broken_rule(f"{place}.parts", "contents.parts must not be empty.", name)
        for number, part in enumerate(content["parts"]):
            yield from _part_faults(part, f"{place}.parts[{number}]", role, surface)


def _part_faults(part: Mapping[str, Any], place: str, role: str, surface: str) -> Iterator[Fault]:
    data = next((name for name in DATA_FIELDS if name in part), None)
    # An empty text carries a signature at the end of a stream; else it is as good as nothing.
    if data is None or (part.get("text") == "" and "thoughtSignature" not in part):
        yield broken_rule(f"{place}.data", "required oneof field 'data' must have one initialized field")
    if data == "inlineData":
        yield from _media_faults(part[data], f"{place}.inline_data")
    elif data == "fileData":
        yield from _file_faults(part[data], f"{place}.file_data", surface)
    elif data == "functionCall":
        yield from name_faults(part[data].get("name"), f"{place}.function_call.name")
        if role != "model":
            yield broken_rule(f"{place}.function_call", "A function call belongs to a model turn.")
    elif data == "functionResponse":
        response = part[data]
        yield from name_faults(response.get("name"), f"{place}.function_response.name")
        if "response" not in response:
            yield broken_rule(f"{place}.function_response.response", "response is not specified")
        if role == "model":
            yield broken_rule(f"{place}.function_response", "A function response belongs to a user turn.")
        for at, media in enumerate(response.get("parts", ())):
            if "fileData" not in media:
                yield from _result_media_faults(
                    media.get("inlineData", {}), f"{place}.function_response.parts[{at}].inline_data"
                )
    if "videoMetadata" in part and data not in ("inlineData", "fileData"):
        yield broken_rule(f"{place}.video_metadata", "video_metadata needs inline_data or file_data")


def _media_faults(media: Mapping[str, Any], place: str) -> Iterator[Fault]:
    mime_type = media.get("mimeType")
    if not mime_type:
        yield broken_rule(f"{place}.mime_type", "mime_type is not specified")
    elif not _MIME_TYPE.fullmatch(mime_type) or mime_type == "application/octet-stream":
        yield broken_rule(f"{place}.mime_type", f"Unsupported MIME type: {mime_type[:60]}")
    if not media.get("data"):
        yield broken_rule(f"{place}.data", "data is not specified")


def _result_media_faults(media: Mapping[str, Any], place: str) -> Iterator[Fault]:
    yield from _media_faults(media, place)
    if not _RESULT_TYPE.fullmatch(media["mimeType"]):
        yield broken_rule(
            f"{place}.mime_type", f"Unsupported MIME type in a function response: {media['mimeType'][:60]}"
        )


def _file_faults(file: Mapping[str, Any], place: str, surface: str) -> Iterator[Fault]:
    uri = file.get("fileUri")
    if not uri:
        yield broken_rule(f"{place}.file_uri", "file_uri is not specified")
    elif not _FILE_URI.fullmatch(uri) or (surface == "vertex" and uri.startswith(_FILES_API)):
        yield broken_rule(f"{place}.file_uri", f"Invalid or unsupported file uri: {shown(uri)}")


def _system_faults(system: Mapping[str, Any]) -> Iterator[Fault]:
    if not system.get("parts"):
        yield broken_rule("system_instruction.parts", "parts must not be empty.")
    for at, part in enumerate(system["parts"]):
        if not part.get("text"):
            yield broken_rule(f"system_instruction.parts[{at}].data", "System instructions are text, and not empty.")


class _Turn(NamedTuple):
    """What one side says in a row: `parts` with their places. `place` is that of its first content."""

    is_model: bool
    place: str
    parts: list[tuple[str, Mapping[str, Any]]]

    def of(self, name: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the function calls, or responses, with their places."""
        return [(place, part[name]) for place, part in self.parts if name in part]

    def is_question(self) -> bool:
        """Whether a user says something here, be it behind the results of functions: a new turn of both sides begins."""
        return not self.is_model and any("functionResponse" not in part for _, part in self.parts)


def _turns(contents: Sequence[Mapping[str, Any]]) -> list[_Turn]:
    """Neighbouring contents of the model are one turn, as clients keep a stream; each content of the user is its own."""
    turns: list[_Turn] = []
    for at, content in enumerate(contents):
        is_model = content.get("role") == "model"
        parts = [(f"contents[{at}].parts[{number}]", part) for number, part in enumerate(content["parts"])]
        if is_model and turns and turns[-1].is_model:
            turns[-1].parts.extend(parts)
        else:
            turns.append(_Turn(is_model, f"contents[{at}]", parts))
    return turns


def _turn_faults(turns: Sequence[_Turn]) -> Iterator[Fault]:
    """Function calls and their responses: one turn directly after the other, as many, by the same names."""
    calls: list[Mapping[str, Any]] = []
    for turn in turns:
        responses = turn.of("functionResponse")
        if len(responses) != len(calls):
            reason = "Please ensure that function response turn comes immediately after a function call turn."
            if calls:
                reason = (
                    "Please ensure that the number of function response parts is equal to the number of function call "
                    "parts of the function call turn."
                )
            yield broken_rule(f"{turn.place}.parts", reason)
        yield from _pairing_faults(calls, responses)
        calls = [call for _, call in turn.of("functionCall")]
    if calls:
        reason = "Please ensure that a function call turn is followed by a function response turn."
        yield broken_rule(f"{turns[-1].place}.parts", reason)


def _pairing_faults(
    calls: Sequence[Mapping[str, Any]], responses: Sequence[tuple[str, Mapping[str, Any]]]
) -> Iterator[Fault]:
    names = [call["name"] for call in calls]
    ids = {call["id"] for call in calls if "id" in call}
    for place, response in responses:
        if response["name"] not in names:
            reason = f"No function call of the turn before has the name {shown(response['name'])}."
            yield broken_rule(f"{place}.function_response.name", reason)
        names.remove(response["name"])
        if ids and "id" in response and response["id"] not in ids:
            reason = f"No function call of the turn before has the id {shown(response['id'])}."
            yield broken_rule(f"{place}.function_response.id", reason)


def _media_result_faults(turns: Sequence[_Turn]) -> Iterator[Fault]:
    for turn in turns:
        for place, response in turn.of("functionResponse"):
            if response.get("parts"):
                reason = "Multimodal function responses are not supported by this model."
                yield broken_rule(f"{place}.function_response.parts", reason)


def _signature_faults(turns: Sequence[_Turn]) -> Iterator[Fault]:
    """The current turn: in what follows the last real user message, the first call of each step is signed."""
    start = max((at for at, turn in enumerate(turns) if turn.is_question()), default=-1)
    for turn in turns[start + 1 :]:
        is_first = True
        for number, (place, part) in enumerate(turn.parts, 1):
            call, signature = part.get("functionCall"), part.get("thoughtSignature")
            if signature is not None and not _is_genuine(signature, call):
                yield broken_rule(f"{place}.thought_signature", "Thought signature is not valid.")
            if call is None:
                continue
            if signature is None and is_first:
                reason = (
                    f"Function call `{call['name']}` in position {number} is missing a thought_signature. "
                    "This is required for tools to work correctly."
                )
                yield broken_rule(f"{place}.thought_signature", reason)
            is_first = False


def _is_genuine(signature: str, call: Mapping[str, Any] | None) -> bool:
    if call is None:
        return is_text_signature(signature)
    return is_call_signature(signature, call["name"], call.get("args", {}))
