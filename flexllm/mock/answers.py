"""An invented answer before it has a dialect: a thought, a text, calls of tools, and why it ends there.

Which of them there are, the request decides: tools that are forced or named in the question are called, a JSON schema is
obeyed, a limit cuts.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from .replies import Ending
from .samples import sample
from .texts import CHARACTERS_PER_TOKEN, cut_at, named_in, reply_text, thought_text, token_estimate

JSON_MODE = {"answer": "mock"}  # what a model says that is asked for JSON, but not for which
REFUSED = "I'm sorry, but I can't help with that."


class Call(NamedTuple):
    """A tool that is called. `arguments` is JSON, or half of it if a limit cut it."""

    name: str
    arguments: str


class Answer(NamedTuple):
    """What is answered, in this order.

    Attributes:
        ending: "stop": nothing more to say. "length": a limit was reached. "calls": tools are to be called. "refusal":
            the model does not answer, and the text says so.
        stop: The stop sequence that ended the text, if one did; it is not in the text.
    """

    thought: str
    text: str
    calls: tuple[Call, ...]
    ending: Literal["stop", "length", "calls", "refusal"]
    stop: str | None = None

    def tokens(self) -> tuple[int, int]:
        """Return how many tokens were thought, and how many made in all."""
        thought = token_estimate(self.thought)
        made = thought + token_estimate(self.text)
        for call in self.calls:
            made += token_estimate(call.name + call.arguments)
        return thought, made


class Question(NamedTuple):
    """What a request asks for.

    Attributes:
        digest: From which the answer's words are made.
        asked: The text of the last user message.
        tools: Name -> JSON schema of the arguments. None as a schema: the tool takes any text.
        forced: Which tools must be called; the first of them is. Empty: the model is free.
        may_call: Whether tools may be called at all.
        is_parallel: Whether several tools may be called at once.
        has_results: The last thing said is what tools gave back. The answer is then a text, whatever is forced, so that
            a loop over tools comes to its end.
        thinks: Whether the model thinks first.
        schema: The JSON schema that the text has to obey; True means any JSON object; None any text.
        limit: Tokens, thought included; None means no limit.
        stops: Texts before which the answer ends.
        ending: How the answer ends whatever else is asked: refused, or cut in the middle of what follows the thought.
    """

    digest: str
    asked: str
    tools: Mapping[str, Any] = MappingProxyType({})
    forced: Collection[str] = ()
    may_call: bool = True
    is_parallel: bool = True
    has_results: bool = False
    thinks: bool = False
    schema: object = None
    limit: int | None = None
    stops: Collection[str] = ()
    ending: Ending | None = None


def answer(question: Question) -> Answer:
    """Return the answer to a question: the same one every time."""
    if question.ending == "refusal":
        return Answer("", REFUSED, (), "refusal")
    if question.ending == "length":
        whole = _whole(question)
        thought, made = whole.tokens()
        return _limited(whole, thought + (made - thought) // 2)
    return _whole(question)


def _whole(question: Question) -> Answer:
    thought = thought_text(question.digest, question.asked) if question.thinks else ""
    calls = tuple(_call(name, question.tools[name]) for name in _called(question)) if question.tools else ()
    if calls:
        return _limited(Answer(thought, "", calls, "calls"), question.limit)
    text, stop = cut_at(_text(question), question.stops)
    return _limited(Answer(thought, text, (), "stop", stop), question.limit)


def _called(question: Question) -> list[str]:
    if not question.may_call or question.has_results:
        return []
    wanted = named_in(question.asked, question.tools)
    if question.forced:
        wanted = [name for name in wanted if name in question.forced] or [next(iter(question.forced))]
    return wanted if question.is_parallel else wanted[:1]


def _call(name: str, schema: object) -> Call:
    return Call(name, name if schema is None else json_text(sample(schema)))


def _text(question: Question) -> str:
    if question.schema is None:
        return reply_text(question.digest, question.asked)
    return json_text(JSON_MODE if question.schema is True else sample(question.schema))


def json_text(value: object) -> str:
    """Return a value as a model writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _limited(whole: Answer, limit: int | None) -> Answer:
    """Cut an answer where the limit is reached."""
    if limit is None or whole.tokens()[1] <= limit:
        return whole
    thought_tokens = token_estimate(whole.thought)
    if thought_tokens > limit:
        return Answer(whole.thought[: limit * CHARACTERS_PER_TOKEN], "", (), "length")
    left = limit - thought_tokens
    calls = []
    for call in whole.calls:
        room = left * CHARACTERS_PER_TOKEN - len(call.name)
        if room <= 0:
            break
        calls.append(call._replace(arguments=call.arguments[:room]))
        left -= token_estimate(call.name + call.arguments[:room])
    text = whole.text[: left * CHARACTERS_PER_TOKEN]
    return Answer(whole.thought, text, tuple(calls), "length")
