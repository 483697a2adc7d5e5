"""Chains as the rows of a batch: the first steps of some chains, then of each the next one when the one before is answered.

Three kinds of threads meet here. The reader of the job draws rows and starts chains, the job's caller hands settled rows
back, and threads of this room call the functions of steps: a slow one holds neither a request nor a line of the file back.
"""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, Sized
from functools import cached_property
from itertools import repeat
from typing import Any

from ..batch.items import BatchResultItem, Owners
from ..batch.lists import ListRows
from ..cancel import CancelToken
from ..chat import ChatRequest
from ..errors import ChainError, ConfigError, FlexLLMError, InputError
from ..language import _
from .context import Context, as_context
from .identity import Identities, numbers_of
from .monitor import Monitor
from .run import ChainLimits, ChainRun, Turn, words_of
from .steps import StepGraph

log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds that a caller's function may take to end when the run is stopped; then it is left behind."""


def walkable(chains: Any) -> Any:
    """Return chains that can be walked over again, if their number is known: some progress bars give theirs once alone."""
    if isinstance(chains, (Sequence, Set, Mapping)) or not (isinstance(chains, Sized) and isinstance(chains, Iterable)):
        return chains
    return list(chains)


def check_chains(chains: Any, metadata_list: Any) -> None:
    """Refuse what is no input, before anything is sent. An input of unknown length is looked at as it is read."""
    if isinstance(chains, (str, bytes, Context, Mapping)) or not isinstance(chains, Iterable):
        raise ConfigError(
            _("contexts must be a list with one entry for each chain, not of type {kind}", kind=type(chains).__name__)
        )
    if isinstance(chains, Sized):
        for index, given in enumerate(chains):
            as_context(given, index)
    if metadata_list is None:
        return
    is_list = isinstance(metadata_list, Sized) and not isinstance(metadata_list, (str, bytes, Mapping))
    if not is_list or not isinstance(chains, Sized) or len(metadata_list) != len(chains):
        raise ConfigError(_("metadata_list must be a list with one entry for each chain of a list of contexts"))


class ChainRows:
    """The steps of many chains as `RowSource`, and as the `Owners` of these.

    Args:
        graph: All steps; nobody changes it meanwhile.
        first: The name of the step at which each chain begins.
        chains: What the caller gave for each, as `as_context` takes it; checked. What has no length is read once, lazily.
        conversations: Reads a row of messages, metadata and parameters.
        metadata_list: One value for each chain.
        most_open: Chains under way at the same time. All of them are in memory, with what was answered so far.
        cancel: Of the run; stopping it ends the rows.

    Attributes:
        total: How many rows there will be if no chain fails; None if that is unknown.
        started: Chains that were begun.
    """

    settings = 0
    is_uniform = False
    never_waits = False

    def __init__(
        self,
        graph: StepGraph,
        first: str,
        chains: Iterable[Any],
        conversations: ListRows,
        *,
        limits: ChainLimits,
        tell: Monitor,
        cancel: CancelToken,
        most_open: int,
        metadata_list: Sequence[Any] | None = None,
    ) -> None:
        count = len(chains) if isinstance(chains, Sized) else None
        length = graph.length_from(first)
        self.total = None if count is None or length is None else count * length
        self.owners: Owners | None = self
        self.started = 0
        self._count = count
        self._graph, self._first, self._limits, self._tell = graph, first, limits, tell
        self._chains = chains
        self._waiting = zip(chains, repeat(None) if metadata_list is None else metadata_list)  # noqa: B905
        self._conversations = conversations
        self._cancel = cancel
        self._most_open = most_open
        self._identities = Identities()
        self._context = contextvars.copy_context()  # the caller's, for his functions
        # Of the reader's thread:
        self._has_started_all = False
        self._rows = 0
        self._owners = array("Q")  # by the chain's index
        self._order = array("Q")  # of each row, chain and ordinal
        # Handed from thread to thread:
        self._under_way: dict[int, Turn] = {}
        self._ready: queue.SimpleQueue[Turn | None] = queue.SimpleQueue()
        self._tasks: queue.SimpleQueue[tuple[ChainRun, Turn | None, BatchResultItem | None] | None] = (
            queue.SimpleQueue()
        )
        self._ended: queue.SimpleQueue[ChainRun] = queue.SimpleQueue()
        self._open: dict[int, ChainRun] = {}
        self._threads: list[threading.Thread] = []

    # --- the reader's thread

    def __iter__(self) -> Iterator[Turn]:
        self._cancel.on_stop(self._wake)
        try:
            self._start_threads()
            while not self._cancel.stopped:
                self._start_chains()
                if self._has_started_all and not self._open:
                    return
                turn = self._ready.get()
                if turn is not None and not self._cancel.stopped:
                    self._under_way[self._rows] = turn
                    self._order.append(turn.run.index << 32 | turn.ordinal)
                    self._rows += 1
                    yield turn
        finally:
            self._cancel.off_stop(self._wake)

    def source(self, row: Turn) -> None:
        """Return None: a row is known by its owner."""

    def read(self, row: Turn) -> tuple[ChatRequest, dict[str, Any]]:
        """Return the request and the metadata of a step."""
        index = row.run.index
        if row.error is not None:
            raise InputError(_("chain {index}, {error}", index=index, error=row.error))
        metadata = self.metadata_of(row)
        try:
            request, _same = self._conversations.read((row.messages, metadata, row.params))
        except (InputError, ConfigError) as error:
            row.refused = error
            raise InputError(
                _("chain {index}, step {name!r}: {error}", index=index, name=row.step_name, error=error)
            ) from error
        row.messages = list(request.messages)
        return request, metadata

    def metadata_of(self, row: Turn) -> dict[str, Any]:
        """Return what stands in a step's line: chain, ordinal and step, and the chain's own metadata."""
        context = row.run.context
        metadata: dict[str, Any] = {"chain": row.run.index, "ordinal": row.ordinal, "step": row.step_name}
        return metadata if context.metadata is None else {**metadata, "metadata": context.metadata}

    # ... as owners

    def owner(self, row: Turn) -> int:
        """Return the number of a row's chain."""
        return self._owners[row.run.index]

    def is_expected(self, owner: int) -> bool:
        """Return whether a chain of this number is in the input, or may be in what is left of it."""
        return True if self._count is None else owner in self._expected

    def order(self) -> list[int]:
        """Return the indices of all rows, chain after chain."""
        return sorted(range(len(self._order)), key=self._order.__getitem__)

    def has_given_all(self) -> bool:
        """Return whether each chain was begun, and is at its end."""
        return self._has_started_all and not self._open

    @cached_property
    def _expected(self) -> frozenset[int]:
        return numbers_of(as_context(given, index) for index, given in enumerate(self._chains))

    def _start_chains(self) -> None:
        """Begin as many chains as may be under way."""
        while len(self._open) < self._most_open and not self._has_started_all:
            given = next(self._waiting, None)
            if given is None:
                self._has_started_all = True
                return
            context = as_context(given[0], self.started, given[1])
            self._owners.append(self._identities.number(context))
            self.started += 1
            run = ChainRun(self._graph, self._first, context, self._limits, self._tell)
            self._open[run.index] = run
            self._tasks.put((run, None, None))

    def _start_threads(self) -> None:
        for _number in range(min(self._limits.function_threads, self._most_open)):
            run = self._context.copy().run
            thread = threading.Thread(target=run, args=(self._call,), name="flexllm-steps", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _wake(self) -> None:
        self._ready.put(None)

    # --- the threads of the functions

    def _call(self) -> None:
        while (task := self._tasks.get()) is not None:
            run = task[0]
            try:
                turn = self._next(*task)
            except BaseException as error:  # a defect of ours must end one chain, not hang the run
                log.warning("chain %d cannot go on: %s", run.index, words_of(error), exc_info=True)
                run.context.error = ChainError(
                    _("unexpected {kind}: {error}; please report it", kind=type(error).__name__, error=words_of(error))
                )
                turn = None
            if turn is not None:
                self._ready.put(turn)
            elif not self._cancel.stopped or run.context.final_response is not None or run.context.error is not None:
                self._open.pop(run.index, None)
                self._ended.put(run)
                self._ready.put(None)  # there is room for another, or nothing more to come
        self._tasks.put(None)

    def _next(self, run: ChainRun, turn: Turn | None, item: BatchResultItem | None) -> Turn | None:
        if turn is None or item is None:
            return None if self._cancel.stopped else run.begin()
        if run.record(turn, item) is None:
            return None
        return run.follow(turn, goes_on=not self._cancel.stopped)

    # --- the caller's thread

    def take(self, item: BatchResultItem) -> None:
        """Take back a settled row: its chain goes on, or is at its end."""
        turn = self._under_way.pop(item.index)
        self._tasks.put((turn.run, turn, item))

    def ended(self) -> Iterator[Context]:
        """Yield the chains that have come to an end since the last call."""
        while True:
            try:
                yield self._ended.get_nowait().context
            except queue.Empty:
                return

    def close(self) -> None:
        """Let go of the threads, which end once what they have to do is done."""
        self._tasks.put(None)
        until = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def left(self, error: FlexLLMError) -> Iterator[Context]:
        """Yield, after `close`, the chains that were left where they were because the run stopped, begun or not.

        Of an input of unknown length only those that were begun.
        """
        for run in list(self._open.values()):
            if run.context.error is None:  # else it had failed, and that was not written
                run.stop(error)
            yield run.context
        if self._count is not None and not self._has_started_all:
            for given in self._waiting:
                context = as_context(given[0], self.started, given[1])
                self.started += 1
                context.error = ChainError(str(error), reason="stopped", error=error)
                yield context
