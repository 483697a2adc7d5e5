"""A conversation in OpenAI's form, turned into Anthropic's: turns that alternate, tool results right behind their calls.

What Anthropic's rules ask for: the first turn is the user's; turns of one side are joined; system messages stand apart,
wherever they were; each call is answered in the very next turn, before anything else; ids of calls are letters, digits,
"_" and "-", and none comes twice; no text is empty. An assistant message without any content is left out; a user's is an
error, unless another message of the same turn says something. Source: Anthropic's API reference, messages and tool use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from ...errors import InputError
from ...language import _
from ...messages import Message
from ..conversation import SYSTEM_ROLES, call_parts, native_of, parts_of, refuse_unknown_fields
from .parts import CACHE_CONTROL, Block, assistant_blocks_of, blocks_of, is_blank, text_block

NAME = "claude"

_NOT_IN_AN_ID = re.compile("[^a-zA-Z0-9_-]")
_PART_OF_AN_ANSWER = ("text", "thinking", "redacted_thinking")


class Conversation:
    """The turns of one request, as messages are added.

    Attributes:
        turns: Wire messages.
        system: Text blocks of the system messages.
    """

    def __init__(self) -> None:
        self.turns: list[Message] = []
        self.system: list[Block] = []
        self._calls = _Calls()
        self._results = 0
        self._empty: str | None = None

    def add(self, message: Message, position: int) -> None:
        """Take in the next message.

        Raises:
            InputError: It cannot stand where it stands, or as it is.
        """
        role, content = message["role"], message.get("content")
        if len(message) == 2 and type(content) is str and not is_blank(content):  # the common case
            if role == "user":
                self._put(role, content)
                return
            if role == "system":
                self.system.append({"type": "text", "text": content})
                return
        where = _("message {position}", position=position)
        refuse_unknown_fields(message, where, "Anthropic")
        if message.get("name") and role != "tool":
            raise InputError(
                _("{where} has a name, for which Anthropic has no place: write it into the text", where=where)
            )
        if role in SYSTEM_ROLES:
            self.system += _system_blocks(content, message.get(CACHE_CONTROL), where)
        elif role == "assistant":
            self._add_assistant(message, where)
        elif role == "tool":
            result = self._result(message, where)
            self._put("user", [result], results=1)
        elif role == "user":
            self._add_user(message, where)
        else:
            raise InputError(
                _(
                    "{where} has the role {role!r}: give results of tools as messages with role 'tool'",
                    where=where,
                    role=role,
                )
            )

    def end(self) -> None:
        """Say that there are no more messages.

        Raises:
            InputError: Something is missing.
        """
        self._calls.close()
        self._no_empty_turn()
        if not self.turns:
            raise InputError(_("no message is left to be sent: one with role 'user' and a text is needed"))

    def prefill(self) -> list[Block]:
        """Return the blocks that begin the answer, if the last turn is the assistant's; none if it is not.

        A turn that ends in the middle of the server's own tools is not such a beginning: it is sent to be gone on with.
        """
        last = self.turns[-1]
        if last["role"] != "assistant":
            return []
        blocks = _as_blocks(last["content"])
        return blocks if all(block.get("type") in _PART_OF_AN_ANSWER for block in blocks) else []

    def has_thoughtless_calls(self) -> bool:
        """Whether the last turn answers tools that were called in a turn which does not begin with thinking."""
        if not self._is_in("user") or not self._results:
            return False
        return _as_blocks(self.turns[-2]["content"])[0].get("type") not in ("thinking", "redacted_thinking")

    def _add_user(self, message: Message, where: str) -> None:
        blocks = _marked(blocks_of(message.get("content"), where), message.get(CACHE_CONTROL))
        results = [
            {**block, "tool_use_id": self._calls.answer(str(block.get("tool_use_id") or ""), where)}
            for block in blocks
            if block["type"] == "tool_result"
        ]
        if results:
            blocks = [*results, *(block for block in blocks if block["type"] != "tool_result")]
        if blocks:
            self._put("user", blocks, results=len(results))
        elif not self._is_in("user"):
            self._empty = self._empty or where

    def _add_assistant(self, message: Message, where: str) -> None:
        native = native_of(message, NAME)
        calls = [] if native else message.get("tool_calls") or []
        content = message.get("content")
        if len(message) > 2:
            _refuse_leftovers(message, where)
            if not isinstance(calls, (list, tuple)):
                kind = type(calls).__name__
                raise InputError(
                    _("{where} has tool_calls that are no list but of type {kind}", where=where, kind=kind)
                )
        if native:
            blocks = [block for block in (_replayed(item, where) for item in native) if block is not None]
        elif not calls and isinstance(content, str) and not is_blank(content) and not message.get(CACHE_CONTROL):
            self._begin_assistant(where)
            self._put("assistant", content)
            return
        else:
            refusal = message.get("refusal")
            blocks = assistant_blocks_of(content or (refusal if isinstance(refusal, str) else None), where)
        if not blocks and not calls:
            return
        self._begin_assistant(where)
        for block in blocks:
            if block.get("type") == "tool_use":
                self._calls.open(str(block.get("id") or ""), where, as_it_is=True)
        blocks += [self._call(call, where) for call in calls]
        self._put("assistant", _marked(blocks, message.get(CACHE_CONTROL)))

    def _begin_assistant(self, where: str) -> None:
        self._calls.close()
        self._no_empty_turn()
        if not self.turns:
            raise InputError(
                _(
                    "{where} is the first and the assistant's: Anthropic wants one with role 'user' before it",
                    where=where,
                )
            )

    def _call(self, call: Any, where: str) -> Block:
        call_id, name, arguments = call_parts(call)
        return {"type": "tool_use", "id": self._calls.open(call_id, where), "name": name, "input": arguments}

    def _result(self, message: Message, where: str) -> Block:
        call_id = self._calls.answer(str(message.get("tool_call_id") or ""), where)
        result: Block = {"type": "tool_result", "tool_use_id": call_id}
        content = message.get("content")
        content = content if isinstance(content, str) else blocks_of(content, where)
        if content and not (isinstance(content, str) and content.isspace()):
            result["content"] = content
        for field in ("is_error", CACHE_CONTROL):
            if message.get(field):
                result[field] = message[field]
        return result

    def _is_in(self, role: str) -> bool:
        return bool(self.turns) and self.turns[-1]["role"] == role

    def _put(self, role: str, content: str | list[Block], results: int = 0) -> None:
        """Add content to the last turn if it is of that role, else begin a new one.

        Args:
            results: How many blocks at the beginning are results of tools, which stand before everything else.
        """
        self._empty = None
        if not self._is_in(role):
            self.turns.append({"role": role, "content": content})
            self._results = results
            return
        turn, blocks = self.turns[-1], _as_blocks(content)
        known = _as_blocks(turn["content"])
        at = self._results if role == "user" else len(known)
        turn["content"] = known[:at] + blocks[:results] + known[at:] + blocks[results:]
        self._results += results

    def _no_empty_turn(self) -> None:
        if self._empty:
            raise InputError(
                _("{where} (role 'user') is empty: Anthropic takes no turn without content", where=self._empty)
            )


class _Calls:
    """The calls that wait for their answers, and what their ids are on the wire."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._open: dict[str, str] = {}
        self._answered: set[str] = set()

    def open(self, call_id: str, where: str, *, as_it_is: bool = False) -> str:
        """Return the id on the wire of a call that is made."""
        if not call_id:
            raise InputError(_("{where} has a tool call without an id", where=where))
        if call_id in self._open:
            raise InputError(_("{where} has two tool calls with the id {call_id!r}", where=where, call_id=call_id[:60]))
        wire_id = call_id if as_it_is else self._fresh(call_id)
        self._used.add(wire_id)
        self._open[call_id] = wire_id
        return wire_id

    def answer(self, call_id: str, where: str) -> str:
        """Return the id on the wire of a call that is answered."""
        if call_id in self._answered:
            raise InputError(
                _("{where} answers the tool call {call_id!r} a second time", where=where, call_id=call_id[:60])
            )
        if call_id not in self._open:
            raise InputError(
                _(
                    "{where} answers the tool call {call_id!r}, which is not in the assistant message before it",
                    where=where,
                    call_id=call_id[:60],
                )
            )
        self._answered.add(call_id)
        return self._open.pop(call_id)

    def close(self) -> None:
        """Forget the calls that were answered; all must be."""
        if self._open:
            call_id = next(iter(self._open))
            raise InputError(
                _(
                    "the tool call {call_id!r} has no answer: add a message with role 'tool' and that tool_call_id right "
                    "behind the assistant's",
                    call_id=call_id[:60],
                )
            )
        self._answered.clear()

    def _fresh(self, call_id: str) -> str:
        """Return an id of the letters that Anthropic allows, that no call before has; the same every time."""
        wire_id = _NOT_IN_AN_ID.sub("_", call_id)
        if wire_id != call_id:
            wire_id += "_" + blake2b(call_id.encode("utf-8", "replace"), digest_size=4).hexdigest()
        number, fresh = 2, wire_id
        while fresh in self._used:  # some servers count the calls of each reply from 0
            fresh, number = f"{wire_id}_{number}", number + 1
        return fresh


def system_field(native: Any, blocks: Sequence[Block], instruction: str | None) -> str | list[Block] | None:
    """Return the `system` field: what the caller gave natively, the system messages, an instruction; None for nothing.

    It is one text, with an empty line between its pieces, or blocks where one of them says more than its text.
    """
    pieces: list[Block] = []
    if native:
        parts = [] if isinstance(native, str) else native
        if not isinstance(parts, (list, tuple)) or not all(isinstance(part, (str, Mapping)) for part in parts):
            raise InputError(_("system must be a text or a list of text blocks"))
        pieces += _system_blocks(native, None, "system")
    pieces += blocks
    if instruction:
        pieces.append({"type": "text", "text": instruction})
    if all(len(piece) == 2 for piece in pieces):
        return "\n\n".join(piece["text"] for piece in pieces) or None
    return pieces


def _system_blocks(content: Any, cache_control: Any, where: str) -> list[Block]:
    """Return a system message as text blocks: one, or one for each part where a part says more than its text."""
    blocks = []
    for part in parts_of(content):
        if part.get("type") != "text":
            kind = part.get("type")
            raise InputError(
                _(
                    "{where} is the system's and can hold text alone, not a part of type {kind!r}",
                    where=where,
                    kind=kind,
                )
            )
        block = text_block(part, where)
        if block is not None:
            blocks.append(block)
    if len(blocks) > 1 and all(len(block) == 2 for block in blocks):
        blocks = [{"type": "text", "text": "".join(block["text"] for block in blocks)}]
    return _marked(blocks, cache_control)


def _marked(blocks: list[Block], cache_control: Any) -> list[Block]:
    """Put a message's own cache_control on the last of its blocks."""
    if cache_control and blocks:
        blocks[-1] = {**blocks[-1], CACHE_CONTROL: cache_control}
    return blocks


def _replayed(item: Any, where: str) -> Block | None:
    """Return a block that came from the server unchanged; empty texts, which it sends but does not take, are left out."""
    if not isinstance(item, dict):
        raise InputError(
            _("{where} has something under native.{name} that is no content block", where=where, name=NAME)
        )
    return text_block(item, where) if item.get("type") == "text" else item


def _refuse_leftovers(message: Mapping[str, Any], where: str) -> None:
    if message.get("function_call"):
        raise InputError(
            _("{where} has 'function_call', for which Anthropic has no place: give tool_calls", where=where)
        )
    if message.get("audio"):
        raise InputError(
            _("{where} has 'audio', for which Anthropic has no place: give its text as content", where=where)
        )


def _as_blocks(content: str | list[Block]) -> list[Block]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
