"""What a batch passes from room to room, and what its user gets: items, results, the engine's face.

The user's values are `BatchResult` and `BatchResultItem`; `BatchItem` is a row on its way through an engine.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import compress
from typing import Any, Generic, Protocol, TypeVar

from ..chat import ChatCompletionResult, ChatRequest, Usage
from ..errors import BatchFailed, FlexLLMError
from ..language import plural
from ..pages import batch_page

Outcome = ChatCompletionResult | FlexLLMError


@dataclass(slots=True)
class BatchItem:
    """One row on its way. The only value that changes: whoever answers it sets `outcome`, once.

    Attributes:
        index: The row's number in the input, from 0.
        request: None for a row that could not be read; such a row has its outcome from the start.
        metadata: What the row brought besides its request.
        key: What the output file knows the row by; "" without one.
        source: Digest of the input line, None where there is none.
        place: Where an earlier run's line for this row is, -1 for none; set for rows that need no asking.
        answered: Whether the line at `place` holds an answer; else it holds an error that is to stand.
        outcome: The answer, or why there is none. None while it is open.
        failed_before: An earlier run asked it in vain.
        digest: Names the request among all requests; 0 where nobody asks.
        cache_key: What the response cache knows its answer by; "" for none.
        occurrence: Its number among the equal rows of the input.
        shared: Its outcome is a copy of an equal row's.
    """

    index: int
    request: ChatRequest | None = None
    metadata: Any = None
    key: str = ""
    source: int | None = None
    place: int = -1
    answered: bool = False
    outcome: Outcome | None = None
    failed_before: bool = False
    digest: int = 0
    cache_key: str = ""
    occurrence: int = 0
    shared: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to ask."""
        return self.outcome is not None or self.place >= 0


class Owners(Protocol):
    """Tells whose the rows of an input are, where equal rows may not take each other's answers: what comes after a row
    depends on its answer, and was bought for that one. Called in the thread that reads the input.
    """

    def owner(self, row: Any) -> int:
        """Return the number, of 64 bits, of a row's owner: the same in each run."""

    def is_expected(self, owner: int) -> bool:
        """Return whether rows of this owner may come in this run. Where none will, its answers are free for others."""

    def order(self) -> Iterable[int]:
        """Return the indices of all rows in the order in which a finished output file has them."""

    def has_given_all(self) -> bool:
        """Return whether the rows that were given are all. Else more would have come, had the run not been stopped."""


class RowSource(Protocol):
    """The input of a batch: rows that are read lazily, once.

    Attributes:
        total: How many rows there are, None if nobody knows.
        settings: Digest of model and parameters, for rows that have a source.
        is_uniform: All rows are asked with the same model and parameters.
        never_waits: A row is there as soon as it is asked for, as from a list or a file; a pipe or a generator may wait,
            and be it for the answers of rows that it gave.
        owners: Whose each row is; None where an answer is as good for any equal row.
    """

    total: int | None
    settings: int
    is_uniform: bool
    never_waits: bool
    owners: Owners | None

    def __iter__(self) -> Iterator[Any]:
        """Yield rows, not yet read."""

    def source(self, row: Any) -> int | None:
        """Return the digest of a row as it stands, None if it has no such form."""

    def read(self, row: Any) -> tuple[ChatRequest, Any]:
        """Return a row's request and metadata. Raises InputError or ConfigError if it has none."""

    def metadata_of(self, row: Any) -> Any:
        """Return the metadata of a row that `read` refuses, None where it has none or cannot be read at all."""


class Engine(Protocol):
    """Runs many requests."""

    def run(self, items: Iterable[BatchItem]) -> Generator[list[BatchItem], None, None]:
        """Yield items with their outcomes, in completion order, in groups of what has finished since the last.

        Items that are settled already pass through. Rows that were stopped before they were answered do not come
        back. The iterable is read on a thread of its own, a small multiple of the workers ahead; what it raises is
        raised here, after everything under way has come back.
        """


@dataclass(slots=True)
class BatchResultItem:
    """What became of one row.

    Attributes:
        index: The row's number in the input, from 0.
        content: The text; None where the row failed.
        usage: Token counts, None if unknown.
        status: "success", "error" or "cached".
        error: Why the row failed, None if it did not.
        latency: Seconds that the answering attempt took; None if unknown.
        metadata: What `metadata_list` or the input row gave.
        result: The whole `ChatCompletionResult`; None where the row failed.
        resumed: An earlier run had answered it; it was read from the output file.
    """

    index: int
    content: str | None = None
    usage: Usage | None = None
    status: str = "success"
    error: FlexLLMError | None = None
    latency: float | None = None
    metadata: Any = None
    result: ChatCompletionResult | None = None
    resumed: bool = False


def result_item(index: int, outcome: Outcome, metadata: Any, resumed: bool = False) -> BatchResultItem:
    """Return what the user sees of an outcome."""
    if isinstance(outcome, FlexLLMError):
        return BatchResultItem(index, status="error", error=outcome, metadata=metadata, resumed=resumed)
    status = "cached" if outcome.cached else "success"
    return BatchResultItem(
        index, outcome.content, outcome.usage, status, None, outcome.latency, metadata, outcome, resumed
    )


def missing_items(given: Iterable[BatchResultItem], total: int, error: FlexLLMError) -> Iterator[BatchResultItem]:
    """Yield, in input order, an item with `error` for each of `total` rows that is not among the given ones."""
    is_missing = bytearray(b"\1") * total
    for item in given:
        is_missing[item.index] = 0
    for index in compress(range(total), is_missing):
        yield BatchResultItem(index, status="error", error=error)


T = TypeVar("T")


class BatchResult(list[T], Generic[T]):
    """The answers of a batch in input order, None where a row failed; and, beside them, everything else.

    A plain list of texts (with `return_usage=True` of `ChatCompletionResult` objects) for code that wants no more.

    Attributes:
        items: One `BatchResultItem` for each row.
        summary: `total`, `success`, `failed`, `cached`, `resumed`, `elapsed` (seconds), token counts, `errors` by class
            with examples, `endpoints` (how each did) and `stopped` (why the run ended before its input did, or None).
    """

    def __init__(self, answers: Iterable[T], items: list[BatchResultItem], summary: dict[str, Any]) -> None:
        super().__init__(answers)
        self.items = items
        self.summary = summary

    @property
    def errors(self) -> dict[int, FlexLLMError]:
        """The error of each failed row, by index."""
        return {item.index: item.error for item in self.items if item.error is not None}

    def raise_for_errors(self) -> None:
        """Raise BatchFailed if any row failed; its `errors` are those of this result."""
        errors = self.errors
        if errors:
            index, error = next(iter(errors.items()))
            told = plural(
                "{failed} of {count} row failed; the first is row {index}: {error}",
                "{failed} of {count} rows failed; the first is row {index}: {error}",
                len(self.items), failed=len(errors), index=index, error=error,
            )  # fmt: skip
            raise BatchFailed(told, errors=errors) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self), self.items, self.summary)

    def __repr__(self) -> str:
        shown = ("total", "success", "failed", "cached", "resumed", "elapsed")
        counts = ", ".join(f"{name}={self.summary[name]}" for name in shown if self.summary.get(name))
        return f"BatchResult({counts})"

    def _repr_html_(self) -> str:
        """Return counts and a table of the first rows, for notebooks; it takes the page's own colours."""
        return batch_page(self.items, self.summary)
