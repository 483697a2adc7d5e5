"""A walk over the rows of a batch, in the way of a job, that asks nothing: what is there already, and what is not."""

from __future__ import annotations

import contextlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ..chat import ChatCompletionResult, ChatRequest
from ..digest import digest_messages
from ..errors import CheckpointError, FlexLLMError, InputError, RequestCancelled
from ..tokens import estimate_prompt_tokens, max_tokens_of, replies_of
from .checkpoint import Checkpoint
from .items import BatchItem, Outcome, RowSource
from .lines import read_key
from .reading import Reader, spread
from .reuse import Reuse
from .seen import Seen

MOST_LINES = 2_000
"""Lines of an output file that are read for what they tell, evenly spread over it: more would not tell it any better."""


class Survey:
    """What a job would come upon.

    Attributes:
        rows: Rows that were read.
        done, failed, cached, shared: As in `Forecast`.
        estimates: For each model that is to be asked, the tokens of each prompt.
        limits: How many replies have which limit of their tokens; None is no limit.
        from_cache: Answers of the cache that tell something.
    """

    def __init__(self, checkpoint: Checkpoint | None, reuse: Reuse | None) -> None:
        self.rows = self.done = self.failed = self.cached = self.shared = 0
        self.estimates: dict[str, array[int]] = {}
        self.limits: Counter[int | None] = Counter()  # of their replies
        self.from_cache = 0
        self._seen = Seen()
        self._places = array("q")
        self._checkpoint = checkpoint
        self._reuse = reuse
        self._one: ChatRequest | None = None

    @property
    def to_buy(self) -> int:
        """Requests that are to be sent."""
        return sum(map(len, self.estimates.values()))

    @property
    def answers(self) -> int:
        """Answers in the output file."""
        return len(self._places)

    @property
    def changed(self) -> int:
        """Rows that were answered before with another model or other parameters."""
        return self._checkpoint.changed if self._checkpoint is not None else 0

    def read(self, rows: RowSource, limit: int | None) -> None:
        """Walk over the input, or over its first `limit` rows."""
        reader = Reader(self._checkpoint, limit=limit, give_resumed=True)
        items: Iterator[BatchItem] = reader.items(rows)
        if self._reuse is not None:
            recall = None if self._checkpoint is None else self._recall
            items = self._reuse.items(items, never_waits=True, recall=recall)  # our answers are nothing to wait for
        for item in items:
            self._take_in(item)
            for follower in self._reuse.settle(item) if self._reuse is not None else ():
                self._take_in(follower)
        self.rows = reader.rows_read
        if not rows.is_uniform:
            self._one = None

    def _recall(self, item: BatchItem, index: int) -> Outcome | None:
        """Return something if the output file has, or would have by then, the answer to an equal row."""
        assert self._checkpoint is not None
        if index >= 0:
            return _NOT_ASKED
        try:
            return _NOT_ASKED if item.key and self._checkpoint.equal(item.key, index) else None
        except CheckpointError:  # a run that goes on meanwhile has changed the file
            return None

    def _take_in(self, item: BatchItem) -> None:
        outcome = item.outcome
        if item.place >= 0:
            self._take_in_known(item)
        elif item.shared:
            self.shared += 1
        elif isinstance(outcome, FlexLLMError):
            self.failed += 1
        elif outcome is not None:
            self._take_in_cached(item, outcome)
        elif item.request is not None:
            self._take_in_open(item, item.request)

    def _take_in_known(self, item: BatchItem) -> None:
        if item.answered:
            self.done += 1
            self._places.append(item.place)
        else:
            self.failed += 1

    def _take_in_cached(self, item: BatchItem, result: ChatCompletionResult) -> None:
        self.cached += 1
        estimated = None if item.request is None else estimate_prompt_tokens(item.request)
        if len(self._seen) < MOST_LINES and self._seen.add(result.usage, estimated=estimated, latency=result.latency):
            self.from_cache += 1

    def _take_in_open(self, item: BatchItem, request: ChatRequest) -> None:
        self.estimates.setdefault(request.model, array("L")).append(estimate_prompt_tokens(request))
        self.limits[_most_tokens(request.params)] += 1
        self._one = request
        item.outcome = _NOT_ASKED

    def seen_before(self) -> Seen:
        """Return what answers tell: those of the output file, besides those of the cache."""
        if self._checkpoint is not None:
            for number in sorted(spread(MOST_LINES, len(self._places))) if self._places else ():
                with contextlib.suppress(CheckpointError):  # a run that goes on meanwhile has mended it
                    row = self._checkpoint.read(self._places[number])
                    self._seen.add(row.get("usage"), estimated=self._estimate_of(row), latency=row.get("latency"))
        return self._seen

    def _estimate_of(self, row: Mapping[str, Any]) -> int | None:
        """Return what the prompt of a line is estimated at; None where the line does not hold it, or not all of it."""
        messages, key, one = row.get("input"), row.get("key"), self._one
        if one is None or not isinstance(messages, list) or not isinstance(key, str):
            return None
        try:
            if digest_messages(messages) != read_key(key)[0]:
                return None
        except (InputError, ValueError):
            return None
        return estimate_prompt_tokens(ChatRequest(messages, one.model, one.params))


_NOT_ASKED = RequestCancelled("not asked: this is a forecast")


def _most_tokens(params: Mapping[str, Any]) -> int | None:
    """Return the most tokens that all answers to a request may have together; None if nothing says it."""
    most = max_tokens_of(params)
    return None if most is None else most * replies_of(params)
