"""Which rows need no request of their own: an equal one of this run is asked already, or the cache knows the answer.

Equal rows are shared where the caller says so, or where each asks for the most likely answer (an explicit temperature of
0); any others are wishes for as many answers, and the cache keeps one for each.
"""

from __future__ import annotations

import copy
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..cache.key import RequestKeys, cache_key, is_deterministic
from ..cache.values import KeptAnswers, with_value
from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChatRequest, Usage
from ..errors import FlexLLMError, InputError, RejectedReply
from .items import BatchItem, Outcome
from .known import DigestTable
from .lines import read_key
from .windows import read_ahead, windows

if TYPE_CHECKING:
    from ..cache.store import ResponseCache

WINDOW = 990
"""Rows that are looked up in the cache in one go: what one statement takes. Each look wakes another thread, which must get
at the interpreter among all that ask, so there should be few."""

MOST_WAITING = 4096
"""Rows that wait, in memory, for an equal one that is under way."""

FEW = 65_536
"""Digests up to which a dictionary counts them: 9 megabytes."""

KEPT = 65_536
"""Answers that are kept for later equals, where what falls out can be found elsewhere."""

Recall = Callable[[BatchItem, int], Outcome | None]
"""Gives what the output file has for an equal row, None if nothing: by the item's key, in a line of an earlier run; or by
the index of the first equal row of this run, -1 if there was none. Called in the thread that reads the input."""

_LOW = (1 << 64) - 1


class Reuse:
    """Spares one run's requests. The reader's thread draws rows through `items`, the caller's thread calls `settle`.

    The answers of shared rows are kept for equals that are still to come, about half a kilobyte each beside the texts,
    which the results hold anyway: the last 65,536 of them where a cache or an output file has the others, else all.

    Args:
        keys: Name requests.
        cache: Looked up before a row is asked, and filled with what was bought; None for none.
        share: Whether equal rows are asked once, and all get the answer. None: those with an explicit temperature of 0.
        with_body: Answers are wanted with the untouched body.
        window: Rows that are looked up in one go.
        cancel: Ends the waiting.
    """

    def __init__(
        self,
        keys: RequestKeys,
        cache: ResponseCache | None = None,
        *,
        share: bool | None = None,
        with_body: bool = False,
        window: int = WINDOW,
        cancel: CancelToken | None = None,
    ) -> None:
        self._keys = keys
        self._kept = None if cache is None else KeptAnswers(cache, with_body=with_body)
        self._share = share
        self._with_body = with_body
        self._window = window
        self._cancel = cancel or CancelToken()
        self._recall: Recall | None = None
        # Of the thread that reads the input alone:
        self._params: tuple[Any, bool] = (None, False)
        self._asked = _Counts()
        # That thread's and the caller's, under the lock of `_room`:
        self._room = threading.Condition()
        self._open: dict[int, list[BatchItem]] = {}  # the first row that asks, and those that wait with it
        self._waiting = self._low = 0
        self._most_waiting: int | None = None
        self._is_left = False
        self._answers: OrderedDict[int, Outcome] = OrderedDict()
        self._indices = _Counts()  # of the first equal row, and one more; kept only where it can be recalled

    # --- the reader's thread

    def items(
        self,
        items: Iterable[BatchItem],
        *,
        never_waits: bool,
        most_waiting: int | None = MOST_WAITING,
        recall: Recall | None = None,
    ) -> Generator[BatchItem, None, None]:
        """Yield the rows that must be asked, and those that are settled. Not those that wait for an equal one: they come
        back from `settle`, or not at all if the run is stopped before that one is answered.

        Args:
            items: Rows on their way; those that are settled pass untouched, and so do those that no key can be made for.
            never_waits: The iterable gives its items without waiting for anything, least of all for what becomes of
                rows that were yielded here. Otherwise, with a cache, it is read on a thread of its own, so that no row
                is held back by one that has not come.
            most_waiting: So many rows may wait for an equal one; then no more are read until half of them are settled.
                None is not limited: it is for an order behind this that reads everything before it hands the first row
                on (`PrefixOrder`), for which nobody would ever be settled.
            recall: Finds what the output file has.
        """
        if self._kept is None and self._share is False:
            yield from items
            return
        self._recall, self._most_waiting = recall, most_waiting
        self._low = 0 if most_waiting is None else most_waiting // 2
        self._cancel.on_stop(self._wake)
        try:
            for group in self._groups(items, never_waits):
                self._look_up(group)
                yield from group
                if self._cancel.stopped:
                    return
        finally:
            self._cancel.off_stop(self._wake)
            self._is_left = True
            self._wake()

    def _groups(self, items: Iterable[BatchItem], never_waits: bool) -> Iterator[list[BatchItem]]:
        """Yield, named, what goes on. All naming is done in the thread that reads the items."""
        if self._kept is None:
            return self._named_groups([item] for item in items)
        if never_waits:
            return self._named_groups(windows(items, self._window))
        return read_ahead(self._named(items), self._window, self._cancel)

    def _named_groups(self, groups: Iterable[list[BatchItem]]) -> Iterator[list[BatchItem]]:
        for group in groups:
            yield [item for item in group if item.is_settled or self._is_ready(item)]
            self._wait_for_room()  # here all that others wait for is on its way

    def _named(self, items: Iterable[BatchItem]) -> Iterator[BatchItem]:
        for item in items:
            if item.is_settled or self._is_ready(item):
                yield item
            if not self._wait_for_room():
                return

    def _is_ready(self, item: BatchItem) -> bool:
        """Name an open item. Return whether it goes on; else it waits for an equal one."""
        assert item.request is not None
        is_shared = self._is_shared(item.request)
        if not is_shared and self._kept is None:
            return True
        try:
            messages_digest, _, occurrence = read_key(item.key) if item.key else (None, 0, 0)
            digest = self._keys.digest(item.request, messages_digest)
        except InputError:  # whoever is asked says what is wrong with it
            return True
        item.digest = digest
        if self._kept is not None:
            # The output file counts equal rows too, and also those of which it has the answers.
            item.occurrence = 0 if is_shared else self._asked.claim(digest, occurrence)
            item.cache_key = cache_key(digest, item.occurrence)
        return not is_shared or self._is_first(item)

    def _is_shared(self, request: ChatRequest) -> bool:
        if self._share is not None:
            return self._share
        params, is_shared = self._params
        if params is not request.params:
            is_shared = is_deterministic(request)
            self._params = (request.params, is_shared)
        return is_shared

    def _is_first(self, item: BatchItem) -> bool:
        """Return False if an equal item is under way, with which this one waits now. Settle it if one was answered."""
        digest = item.digest
        with self._room:
            outcome = self._answers.get(digest)
            if outcome is None:
                group = self._open.get(digest)
                if group is not None:
                    group.append(item)
                    self._waiting += 1
                    return False
                self._open[digest] = [item]
                index = self._indices.get(digest) - 1
            else:
                self._answers.move_to_end(digest)
        if outcome is None and self._recall is not None:
            outcome = self._recall(item, index)
        if outcome is not None:
            self._give(item, outcome)
        return True

    def _look_up(self, items: list[BatchItem]) -> None:
        """Settle those whose answers the cache has."""
        if self._kept is None:
            return
        open_items = [item for item in items if item.cache_key and item.outcome is None]
        if open_items:
            wanted = [(item.cache_key, item.request) for item in open_items if item.request is not None]
            for item, result in zip(open_items, self._kept.find_many(wanted), strict=True):
                item.outcome = result

    def _wait_for_room(self) -> bool:
        """Return once few enough rows wait; False if the run is over before that."""
        if self._most_waiting is not None and self._waiting >= self._most_waiting:
            with self._room:
                while self._waiting > self._low and not self._cancel.stopped and not self._is_left:
                    self._room.wait()
        return not (self._cancel.stopped or self._is_left)

    def _wake(self) -> None:
        with self._room:
            self._room.notify_all()

    # --- the caller's thread

    def settle(self, item: BatchItem) -> list[BatchItem]:
        """Take in an item that has come back settled, once; keep its answer, and return the items that waited for it.

        These have their outcomes: a copy of its answer, which cost nothing, or of its error.
        """
        outcome = item.outcome
        if outcome is None:
            return []
        if (
            self._kept is not None
            and item.request is not None
            and item.cache_key
            and isinstance(outcome, ChatCompletionResult)
        ):
            self._kept.keep(item.cache_key, item.request, outcome)
        with self._room:
            group = self._open.get(item.digest)
            if group is None or group[0] is not item:
                return []
            del self._open[item.digest]
            self._keep(item, outcome)
            self._waiting -= len(group) - 1
            if self._waiting <= self._low:
                self._room.notify_all()
        del group[0]
        for follower in group:
            self._give(follower, outcome)
        return group

    def _keep(self, item: BatchItem, outcome: Outcome) -> None:
        """Keep an outcome for later equals; without its body where nobody wants that."""
        if isinstance(outcome, ChatCompletionResult) and outcome.body is not None and not self._with_body:
            outcome = replace(outcome, body=None)
        self._answers[item.digest] = outcome
        if self._recall is not None:
            self._indices.set(item.digest, item.index + 1)
        if len(self._answers) > KEPT and (self._recall is not None or self._kept is not None):
            self._answers.popitem(last=False)

    # --- both

    def _give(self, item: BatchItem, outcome: Outcome) -> None:
        """Settle an item with a copy of an equal one's outcome, which was paid for there."""
        assert item.request is not None
        item.shared = True
        if isinstance(outcome, FlexLLMError):
            item.outcome = _unpaid(outcome)
            return
        result = replace(
            outcome,
            cached=True,
            cost=0.0,
            cost_estimated=0.0,
            attempts=0,
            hedged=0,
            usage=None if outcome.usage is None else Usage(outcome.usage),
            tool_calls=copy.deepcopy(outcome.tool_calls),
            native=copy.deepcopy(outcome.native),
            body=outcome.body if self._with_body else None,
            parsed=None,
        )
        if outcome.parsed is not None:
            result = with_value(result, item.request) or result
        item.outcome = result


def _unpaid(error: FlexLLMError) -> FlexLLMError:
    """Return a copy of an error, of which nothing counts a second time."""
    error = copy.copy(error)
    for name, nothing in (("cost", 0.0), ("attempts", 0)):
        if hasattr(error, name):
            setattr(error, name, nothing)
    if isinstance(error, RejectedReply):
        error.usage = None
    return error


class _Counts:
    """A number for each digest: in a dictionary, which is quick, as long as they are few, else in about 50 bytes each."""

    def __init__(self) -> None:
        self._few: dict[int, int] | None = {}
        self._digests = DigestTable()
        self._numbers = array("Q")

    def get(self, digest: int) -> int:
        """Return a digest's number, 0 if it has none."""
        if self._few is not None:
            return self._few.get(digest, 0)
        place = self._digests.find(digest >> 64, digest & _LOW)
        return self._numbers[place] if place >= 0 else 0

    def set(self, digest: int, number: int) -> None:
        """Set a digest's number."""
        if self._few is None:
            self._set_among_many(digest, number)
            return
        self._few[digest] = number
        if len(self._few) > FEW:
            few, self._few = self._few, None
            for one, its_number in few.items():
                self._set_among_many(one, its_number)

    def claim(self, digest: int, at_least: int) -> int:
        """Return the digest's next number: 0, 1, 2, ..., but at least this one."""
        number = self.get(digest)
        if number < at_least:
            number = at_least
        self.set(digest, number + 1)
        return number

    def _set_among_many(self, digest: int, number: int) -> None:
        place = self._digests.add(digest >> 64, digest & _LOW)
        if place == len(self._numbers):
            self._numbers.append(number)
        else:
            self._numbers[place] = number
