"""What Gemini answers: candidates made of parts, usage, and the fragments that a stream consists of.

Works on requests that have been read and found right. Source: Google's API reference and its guides on thinking,
function calling and structured output.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..answers import Answer, Question, answer
from ..replies import Ending
from ..texts import digest, pieces, token_estimate
from .models import Family, family, is_thinking
from .settings import functions
from .signatures import call_signature, text_signature

CREATED = "2026-01-01T00:00:00Z"  # always the same, so that answers do not depend on the clock
MEDIA_TOKENS = 258  # what Google counts for a small picture; other media are not measured either
CACHED_TOKENS = 64  # of a `cachedContent`, which the mock has never seen
BLOCKED = "BLOCKED PROMPT"  # a question with these words is refused as unsafe
# How the answer is sent, shown or cut: it is the same answer, so these do not count for what it says.
_OF_DELIVERY = ("maxOutputTokens", "candidateCount", "stopSequences", "thinkingConfig")
FINISH_REASONS = {"stop": "STOP", "calls": "STOP", "length": "MAX_TOKENS"}
_MODALITIES = {"image": "IMAGE", "audio": "AUDIO", "video": "VIDEO"}


def question_text(contents: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the text of the last user turn that has any; several parts are joined with a newline."""
    for content in reversed(contents):
        if content.get("role", "user") == "user":
            parts = content.get("parts", ())
            texts = [part["text"] for part in ([parts] if isinstance(parts, dict) else parts) if part.get("text")]
            if texts:
                return "\n".join(texts)
    return None


def response(request: Mapping[str, Any], model: str, is_vertex: bool, ending: Ending | None = None) -> dict[str, Any]:
    """Return the whole answer to a request. `ending`: how it ends all the same."""
    config = request.get("generationConfig", {})
    asked = question_text(request["contents"]) or ""
    base = digest({**request, "generationConfig": _without_delivery(config), "model": model}, ())
    frame: dict[str, Any] = {"modelVersion": model, "responseId": _response_id(base)}
    if is_vertex:
        frame["createTime"] = CREATED
    prompt = prompt_usage(request)
    if BLOCKED in asked:
        feedback = {"blockReason": "SAFETY", "safetyRatings": [_rating("HIGH", blocked=True)]}
        return {"promptFeedback": feedback, "usageMetadata": _usage(prompt, 0, 0, is_vertex), **frame}
    model_family = family(model, is_vertex)
    bases = [base if at == 0 else digest({"of": base, "at": at}, ()) for at in range(config.get("candidateCount", 1))]
    answers = [answer(_question(request, asked, one, model_family)._replace(ending=ending)) for one in bases]
    candidates = [
        _candidate(at, answers[at], bases[at], request, model_family, has_ids=model_family.signs and not is_vertex)
        for at in range(len(bases))
    ]
    thoughts = sum(token_estimate(one.thought) for one in answers)
    made = sum(_part_tokens(part) for candidate in candidates for part in candidate.get("content", {}).get("parts", ()))
    return {"candidates": candidates, "usageMetadata": _usage(prompt, made, thoughts, is_vertex), **frame}


def _without_delivery(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _OF_DELIVERY}


def _response_id(base: str) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(base)).decode().rstrip("=")


def _rating(probability: str, **more: object) -> dict[str, object]:
    return {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": probability, **more}


def _question(request: Mapping[str, Any], asked: str, base: str, model_family: Family) -> Question:
    config = request.get("generationConfig", {})
    calling = request.get("toolConfig", {}).get("functionCallingConfig", {})
    mode, allowed = calling.get("mode", "AUTO"), calling.get("allowedFunctionNames")
    tools = {
        function["name"]: function.get("parameters") or function.get("parametersJsonSchema") or {"type": "object"}
        for function in functions(request)
        if not allowed or function["name"] in allowed
    }
    schema = config.get("responseSchema", config.get("responseJsonSchema"))
    if schema is None and config.get("responseMimeType") == "application/json":
        schema = True
    return Question(
        digest=base,
        asked=asked,
        tools=tools,
        forced=tuple(allowed or tools) if mode == "ANY" else (),
        may_call=mode != "NONE",
        has_results=any("functionResponse" in part for part in request["contents"][-1]["parts"]),
        thinks=is_thinking(model_family, config.get("thinkingConfig", {})),
        schema=schema,
        limit=config.get("maxOutputTokens"),
        stops=config.get("stopSequences", ()),
    )


# ---------------------------------------------------------------------------------------------------- candidates


def _candidate(
    index: int, said: Answer, base: str, request: Mapping[str, Any], model_family: Family, *, has_ids: bool
) -> dict[str, Any]:
    if said.ending == "refusal":  # the text is taken away, and the content with it
        return {"finishReason": "SAFETY", "index": index, "safetyRatings": [_rating("HIGH", blocked=True)]}
    config = request.get("generationConfig", {})
    parts: list[dict[str, Any]] = []
    if said.thought and config.get("thinkingConfig", {}).get("includeThoughts"):
        parts.append({"text": said.thought, "thought": True})
    if said.text:
        is_enum = config.get("responseMimeType") == "text/x.enum"
        parts.append({"text": said.text.strip('"') if is_enum else said.text})
        if model_family.signs:
            parts[-1]["thoughtSignature"] = text_signature(base)
    calls = list(_call_parts(said, base, has_ids))
    if calls and (model_family.signs or said.thought):
        # Only the first of parallel calls is signed.
        call = calls[0]["functionCall"]
        calls[0]["thoughtSignature"] = call_signature(base, call["name"], call["args"])
    parts += calls
    content = {"parts": parts, "role": "model"} if parts else {"role": "model"}
    return {"content": content, "finishReason": FINISH_REASONS[said.ending], "index": index}


def _call_parts(said: Answer, base: str, has_ids: bool) -> Iterator[dict[str, Any]]:
    for at, call in enumerate(said.calls):
        try:
            arguments = json.loads(call.arguments)
        except ValueError:  # cut by the limit: calls come whole or not at all
            return
        named = {"name": call.name, "args": arguments}
        yield {"functionCall": {"id": digest({"of": base, "call": at}, ())[:8], **named} if has_ids else named}


def _part_tokens(part: Mapping[str, Any]) -> int:
    """Tokens of a part of an answer; thoughts are counted elsewhere."""
    if part.get("thought"):
        return 0
    call = part.get("functionCall")
    return token_estimate(part.get("text", "")) if call is None else token_estimate(call["name"] + _json(call["args"]))


# ---------------------------------------------------------------------------------------------------- usage


def prompt_usage(request: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens of a prompt by modality, the cached ones under "CACHED" once more."""
    tokens: Counter[str] = Counter()
    system = request.get("systemInstruction")
    for content in (*request.get("contents", ()), *((system,) if system else ())):
        for part in content["parts"]:
            media = part.get("inlineData", part.get("fileData"))
            if media is not None:
                kind = media.get("mimeType", "image/").partition("/")[0]
                tokens[_MODALITIES.get(kind, "DOCUMENT")] += MEDIA_TOKENS
            elif "text" in part:
                tokens["TEXT"] += token_estimate(part["text"])
            else:
                described = {name: value for name, value in part.items() if name != "thoughtSignature"}
                tokens["TEXT"] += token_estimate(_json(described))
    if "tools" in request:
        tokens["TEXT"] += token_estimate(_json(request["tools"]))
    if "cachedContent" in request:
        tokens["TEXT"] += CACHED_TOKENS
        tokens["CACHED"] = CACHED_TOKENS
    return dict(tokens)


def token_details(tokens: Mapping[str, int]) -> list[dict[str, object]]:
    """Return tokens by modality as responses list them."""
    return [{"modality": name, "tokenCount": count} for name, count in tokens.items() if name != "CACHED"]


def _usage(prompt: Mapping[str, int], made: int, thoughts: int, is_vertex: bool) -> dict[str, Any]:
    """Return the usage of a response. What is nought is left out, as in all of Google's JSON."""
    details = token_details(prompt)
    count = sum(number for name, number in prompt.items() if name != "CACHED")
    usage: dict[str, Any] = {"promptTokenCount": count}
    if made:
        usage["candidatesTokenCount"] = made
    usage["totalTokenCount"] = count + made + thoughts
    if "CACHED" in prompt:
        usage["cachedContentTokenCount"] = prompt["CACHED"]
        usage["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": prompt["CACHED"]}]
    usage["promptTokensDetails"] = details
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    if is_vertex:
        usage["trafficType"] = "ON_DEMAND"
        if made:
            usage["candidatesTokensDetails"] = [{"modality": "TEXT", "tokenCount": made}]
    return usage


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# ---------------------------------------------------------------------------------------------------- streams


def fragments(whole: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a response in pieces, each a response with parts to append and the usage so far.

    Thoughts and texts come in pieces, function calls whole. The signature of a text comes last, on an empty text.
    """
    candidates = whole.get("candidates")
    if candidates is None:
        yield dict(whole)
        return
    frame = {name: value for name, value in whole.items() if name not in ("candidates", "usageMetadata")}
    total = whole["usageMetadata"]
    made = 0
    for candidate in candidates:
        if "content" not in candidate:
            yield {"candidates": [candidate], "usageMetadata": _usage_so_far(total, made), **frame}
            continue
        parts = list(_part_pieces(candidate["content"].get("parts", ()))) or [{}]
        before, text = made, ""
        for at, part in enumerate(parts, 1):
            content = {"parts": [part], "role": "model"} if part else {"role": "model"}
            piece: dict[str, Any] = {"content": content, "index": candidate["index"]}
            if at == len(parts):
                piece["finishReason"] = candidate["finishReason"]
            if "functionCall" in part:
                before += _part_tokens(part)
            elif not part.get("thought"):
                text += part.get("text", "")
            made = before + token_estimate(text)
            yield {"candidates": [piece], "usageMetadata": _usage_so_far(total, made), **frame}


def _part_pieces(parts: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for part in parts:
        if "text" not in part:
            yield dict(part)
            continue
        signature = part.get("thoughtSignature")
        rest = {name: value for name, value in part.items() if name not in ("text", "thoughtSignature")}
        for piece in pieces(part["text"]):
            yield {"text": piece, **rest}
        if signature is not None:
            yield {"text": "", "thoughtSignature": signature}


def _usage_so_far(total: Mapping[str, Any], made: int) -> dict[str, Any]:
    """Return the usage with that many tokens made; thoughts are over when the first piece is sent."""
    usage = dict(total)
    usage["totalTokenCount"] += made - usage.pop("candidatesTokenCount", 0)
    if made:
        usage["candidatesTokenCount"] = made
        if "candidatesTokensDetails" in usage:
            usage["candidatesTokensDetails"] = [{"modality": "TEXT", "tokenCount": made}]
    else:
        usage.pop("candidatesTokensDetails", None)
    return usage
