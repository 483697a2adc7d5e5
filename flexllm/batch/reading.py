"""From the rows of an input to items on their way: what the output file answers, what must be asked, what cannot be read.

All of it runs in the thread that reads the input; what it counts, the job's thread reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..chat import ChatRequest
from ..digest import digest_messages, digest_settings
from ..errors import ConfigError, InputError
from ..language import _
from .checkpoint import Checkpoint
from .items import BatchItem, RowSource
from .known import Claim, Owner
from .lines import make_key

SHOWN_EVERY = 4096
"""Of the rows that nobody asks to see because an earlier run answered them, each so many-th travels to the progress bar."""


class Reader:
    """Reads one input, once.

    Args:
        checkpoint: Knows what earlier runs answered; None where there is no output file.
        limit: Take only so many rows; None takes all.
        give_resumed: Hand on rows of earlier runs too, not only now and then.
        sample: Ask only so many rows, spread evenly over the input, whose length is known; None asks all.

    Attributes:
        rows_read: How many rows were read so far.
        passed_over: Of these, answered ones that were not handed on.
        is_limited: There were more rows than `limit`.
        has_read_all: The input, or its first `limit` rows, came to its end.
        has_left_out: Rows were left out: for the sake of the sample, or because they never failed.
        retried: Rows that failed in an earlier run, and are asked again.
    """

    def __init__(
        self, checkpoint: Checkpoint | None, *, limit: int | None, give_resumed: bool, sample: int | None = None
    ) -> None:
        self.rows_read = self.passed_over = self.retried = 0
        self.is_limited = self.has_read_all = self.has_left_out = False
        self._checkpoint = checkpoint
        self._limit = limit
        self._give_resumed = give_resumed
        self._sample = sample
        self._failed_alone = checkpoint is not None and checkpoint.asks_failed_alone
        self._settings: tuple[str, Any, int] = ("", None, 0)

    def items(self, rows: RowSource) -> Iterator[BatchItem]:
        """Yield each row that is to be asked, or to be shown, in the order of the input."""
        sampled = None if self._sample is None else spread(self._sample, self._length(rows))
        for index, row in enumerate(rows):
            if index == self._limit:
                self.is_limited = True
                break
            self.rows_read = index + 1
            source = claim = None
            if self._checkpoint is not None:
                source = rows.source(row)
                if source is not None:
                    claim = self._checkpoint.claim_source(source, rows.settings)
            if claim is None or claim.place < 0 or not claim.is_own_line:
                item = self._item(index, row, rows, source, claim)
                if item.failed_before:
                    self.retried += 1
                elif self._failed_alone and not item.is_settled:
                    self.has_left_out = True
                    continue
                if sampled is None or index in sampled or item.is_settled:
                    yield item
                else:
                    self.has_left_out = True
            elif self._give_resumed or claim.place & 1 or not claim.success or not index % SHOWN_EVERY:
                yield BatchItem(index, source=source, place=claim.place, answered=claim.success)
            else:
                self.passed_over += 1
        self.has_read_all = rows.owners is None or rows.owners.has_given_all()

    def _length(self, rows: RowSource) -> int:
        if rows.total is None:
            raise InputError(_("a sample needs an input whose length is known: a list, or a file; a pipe has none"))
        return rows.total if self._limit is None else min(rows.total, self._limit)

    def _item(self, index: int, row: Any, rows: RowSource, source: int | None, claim: Claim | None) -> BatchItem:
        checkpoint = self._checkpoint
        try:
            request, metadata = rows.read(row)
            if checkpoint is None:
                return BatchItem(index, request, metadata)
            digest, settings = digest_messages(request.messages), self._settings_of(request)
        except (InputError, ConfigError) as error:
            if checkpoint is not None and claim is None:
                checkpoint.claim_nothing()
            refused = InputError(_("row {index} cannot be asked: {error}", index=index, error=error))
            return BatchItem(index, metadata=rows.metadata_of(row), outcome=refused)
        if claim is None:
            owner = None if rows.owners is None else Owner(rows.owners.owner(row), rows.owners.is_expected)
            claim = checkpoint.claim(digest, settings, owner)
            source = claim.source if source is None else source
        key = make_key(digest, settings, claim.occurrence)
        place, success = claim.place, claim.success
        return BatchItem(index, request, metadata, key, source, place, success, None, claim.failed_before)

    def _settings_of(self, request: ChatRequest) -> int:
        """Return the digest of a request's settings; that of the row before, if they are the same objects."""
        model, params, settings = self._settings
        if params is not request.params or model != request.model:
            settings = digest_settings(request.model, request.params)
            self._settings = (request.model, request.params, settings)
        return settings


def spread(count: int, length: int) -> frozenset[int]:
    """Return the indices of `count` rows, or of all if there are fewer, that lie evenly spread over `length` rows."""
    count = min(count, length)
    return frozenset(int((number + 0.5) * length / count) for number in range(count))
