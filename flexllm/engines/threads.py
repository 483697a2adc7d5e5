"""Many requests on local threads: long-lived workers of one ThreadPoolExecutor, fed by one queue, emptied through another.

The hand-overs are few, since with hundreds of threads they decide: a worker takes an item, asks, and puts it down; rows
are read ahead on a thread of their own; results are taken in groups.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor

from ..backends import Backend
from ..batch.items import BatchItem
from ..cancel import CancelToken
from ..errors import ConfigError, FlexLLMError, RequestCancelled, RequestError, release_frames
from ..language import _
from ..transport import allow_connections

log = logging.getLogger(__name__)

GROUP = 512
"""Rows at most in a group: what one write takes, and what waits while it is written."""

ABORT_SECONDS = 2.0
"""How long broken-off exchanges may take to come back before they are left behind."""

WAKE_SECONDS = 1.0
"""How long the caller's thread sleeps at most. A signal that comes just as it falls asleep, or to another thread, does not
wake it: the interpreter looks at signals only when this thread runs."""


class ThreadEngine:
    """Answers rows with `workers` threads.

    Args:
        backend: Asked by every worker.
        workers: Threads at most; fewer are started for fewer rows.
        cancel: Stopping it ends the run: nothing new is asked, what is under way may finish. So does its time, if one
            was set, also where no result comes and where nobody takes those that came.
        grace: Seconds for that; then it is broken off.

    Raises:
        ConfigError: So many connections are more than this process may open.
    """

    def __init__(self, backend: Backend, *, workers: int, cancel: CancelToken, grace: float = 10.0) -> None:
        allow_connections(workers)
        self._backend = backend
        self._workers = workers
        self._cancel = cancel
        self._grace = grace

    def run(self, items: Iterable[BatchItem]) -> Generator[list[BatchItem], None, None]:
        """Yield items with their outcomes in groups, in completion order; see `Engine.run`."""
        run = _Run(self._backend, self._workers, self._cancel)
        interrupt: BaseException | None = None
        try:
            run.start(items)
            is_over = False
            while not is_over:
                try:  # around the loop, not in it: Ctrl-C comes where a loop begins again
                    while run.groups or run.is_under_way():
                        if not run.groups and not self._gather(run):
                            if self._cancel.aborted:
                                break
                            self._lose_patience()
                        while run.groups:
                            yield run.groups.pop()
                    is_over = True
                except (KeyboardInterrupt, SystemExit) as error:  # the latter from a caller's own signal handler
                    if self._cancel.stopped:
                        raise
                    interrupt = error
                    self._cancel.stop()
        finally:
            if run.is_under_way():
                self._cancel.abort()
            run.close()
        if interrupt is not None:
            raise interrupt
        if run.input_error is not None:
            raise run.input_error

    def _gather(self, run: _Run) -> bool:
        """Gather, waiting no longer than there is patience. Return False when that is over."""
        patience = self._patience()
        if not self._cancel.aborted and (patience is None or patience > WAKE_SECONDS):
            run.gather(WAKE_SECONDS)
            return True
        return run.gather(patience)

    def _patience(self) -> float | None:
        """Return how long to wait for the next result: until the run's time or the grace is over; None waits for ever."""
        if self._cancel.aborted:
            return ABORT_SECONDS
        left = self._grace - self._cancel.stopped_for() if self._cancel.stopped else self._cancel.time_left()
        return None if left is None else min(max(0.0, left), threading.TIMEOUT_MAX)

    def _lose_patience(self) -> None:
        """Stop when the run's time is over; break off when the grace is."""
        if self._cancel.stopped:
            self._cancel.abort()
        else:
            self._cancel.heed()


class _Run:
    """The threads and queues of one run.

    Attributes:
        groups: What has come back and was not handed on yet: one group, or none.
    """

    def __init__(self, backend: Backend, workers: int, cancel: CancelToken) -> None:
        self.input_error: BaseException | None = None
        self._backend = backend
        self._workers = workers
        self._cancel = cancel
        self._work: queue.SimpleQueue[BatchItem | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[BatchItem | None] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="flexllm-worker")
        self._started = 0
        # Rows read ahead of the results: the reader sleeps at the high mark and is woken at the low one, so that it
        # is woken once for many rows.
        self._high = 2 * workers + 2
        self._low = workers + workers // 2 + 1
        self._fed = self._taken = 0
        self._came: list[BatchItem | None] = []
        self.groups: list[list[BatchItem]] = []
        self._fed_all = False
        self._room = threading.Event()

    def start(self, items: Iterable[BatchItem]) -> None:
        """Begin to read the input."""
        self._cancel.on_stop(self._wake)
        self._cancel.on_request(self._wake_from_signal)
        threading.Thread(target=self._feed, args=(items,), name="flexllm-reader", daemon=True).start()

    def is_under_way(self) -> bool:
        """Return whether anything is still to come back."""
        return self._taken < self._fed or not (self._fed_all or self._cancel.stopped)

    def gather(self, timeout: float | None) -> bool:
        """Put what has come back into `groups`, after waiting for at least one. Return False after the time-out.

        Ctrl-C may come at any line: what was taken from the queue is in `_came` or in `groups`, and never in both.
        """
        came = self._came
        try:
            came.append(self._done.get(timeout=timeout))
        except queue.Empty:
            return False
        for _more in range(min(self._done.qsize(), GROUP - 1)):
            came.append(self._done.get())
        self._cancel.heed()
        items = [item for item in came if item is not None]
        settled = [item for item in items if item.is_settled]
        self.groups, self._taken, self._came = [settled] if settled else [], self._taken + len(items), []
        if self._fed - self._taken <= self._low:
            self._room.set()
        return True

    def close(self) -> None:
        """End the workers. Those that do not come back in time end when their exchange does."""
        self._cancel.off_stop(self._wake)
        self._cancel.off_request(self._wake_from_signal)
        self._work.put(None)
        self._pool.shutdown(wait=not self._cancel.aborted)

    def _feed(self, items: Iterable[BatchItem]) -> None:
        """Read the input, ahead of the workers but not far."""
        try:
            for item in items:
                if self._cancel.stopped:
                    break
                self._fed += 1
                if item.is_settled:
                    self._done.put(item)
                else:
                    self._work.put(item)
                    if self._started < self._workers:
                        self._start_worker()
                if self._fed - self._taken >= self._high:
                    self._room.clear()
                    if self._fed - self._taken > self._low and not self._cancel.stopped:
                        self._room.wait()
        except BaseException as error:  # the caller's iterable may raise anything; raised again in the caller's thread
            self.input_error = error
        finally:
            self._fed_all = True
            self._done.put(None)

    def _start_worker(self) -> None:
        try:
            self._pool.submit(self._answer_all)
            self._started += 1
        except RuntimeError as error:  # the system's limit; or the run ended meanwhile
            if self._started or self._cancel.stopped:
                log.warning("%d threads instead of %d: %s", self._started, self._workers, error)
                self._workers = self._started
                return
            self._fed -= 1
            raise ConfigError(
                _("no thread can be started ({error}); raise the limit of processes (ulimit -u)", error=error)
            ) from error

    def _answer_all(self) -> None:
        """Answer one row after the other: the life of a worker."""
        backend, work, done, cancel = self._backend, self._work, self._done, self._cancel
        is_timed = cancel.time_left() is not None
        while (item := work.get()) is not None:
            if not (cancel.heed() if is_timed else cancel.stopped):
                _answer(backend, item, cancel)
            done.put(item)
        work.put(None)  # for the next worker

    def _wake(self) -> None:
        self._room.set()
        self._done.put(None)

    def _wake_from_signal(self) -> None:
        self._done.put(None)  # SimpleQueue.put may be called from a signal handler; Event.set may not


def _answer(backend: Backend, item: BatchItem, cancel: CancelToken) -> None:
    """Set the item's outcome; leave it open if it was stopped before it was answered."""
    assert item.request is not None
    try:
        item.outcome = backend.complete(item.request, cancel)
    except RequestCancelled:
        pass
    except FlexLLMError as error:
        release_frames(error)
        item.outcome = error
    except BaseException as error:  # a defect below, or a caller's `sys.exit`, must cost one row, not the run; nor hide
        item.outcome = RequestError(
            _("unexpected {kind}: {error}; please report it", kind=type(error).__name__, error=error)
        )
