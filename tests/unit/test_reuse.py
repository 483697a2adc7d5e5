"""Rows that need no request of their own: shared, found in the cache, or found in the output file."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import LONGEST_WAIT, FakeBackend, eventually
from hypothesis import given
from hypothesis import strategies as st

from flexllm.batch import reuse as reuse_module
from flexllm.batch.items import BatchItem, Outcome
from flexllm.batch.lines import make_key
from flexllm.batch.reuse import Reuse
from flexllm.batch.windows import read_ahead, windows
from flexllm.cache.key import KeyScope, RequestKeys, cache_key
from flexllm.cancel import CancelToken
from flexllm.chat import ChatCompletionResult, ChatRequest, ToolCall, Usage
from flexllm.digest import digest_messages, digest_settings
from flexllm.engines.threads import ThreadEngine
from flexllm.errors import AllEndpointsFailed, InputError, SchemaMismatch, ServerError
from flexllm.request import make_request

KEYS = RequestKeys(KeyScope("openai"))
AT_ZERO: dict[str, Any] = {"temperature": 0}


class FakeCache:
    """A cache that knows what it is told, and tells what it was asked for."""

    def __init__(self, **config: Any) -> None:
        self.config = SimpleNamespace(**{"store_incomplete": False, "store_raw": False, **config})
        self.known: dict[str, ChatCompletionResult] = {}
        self.asked: list[list[str]] = []
        self.bodies: list[bool] = []

    def get_many(self, keys: Iterable[str], *, with_body: bool = False) -> dict[str, ChatCompletionResult]:
        self.asked.append(list(keys))
        return {
            key: replace(self.known[key], cached=True, cost=0.0, attempts=0, parsed=None)
            for key in self.asked[-1]
            if key in self.known
        }

    def put(self, key: str, result: ChatCompletionResult, *, with_body: bool = False) -> None:
        self.known[key] = result
        self.bodies.append(with_body)


def row(index: int, text: str, params: dict[str, Any] | None = None, **fields: Any) -> BatchItem:
    return BatchItem(index, make_request(text, "m", {} if params is None else params), **fields)


def rows(texts: Iterable[str], params: dict[str, Any] | None = None) -> list[BatchItem]:
    return [row(index, text, params) for index, text in enumerate(texts)]


def make(cache: FakeCache | None = None, **options: Any) -> Reuse:
    return Reuse(KEYS, cache, **options)  # type: ignore[arg-type]  # a fake


def drawn(reuse: Reuse, items: Iterable[BatchItem], **options: Any) -> list[BatchItem]:
    return list(reuse.items(items, **{"never_waits": True, **options}))


def answer(item: BatchItem, **fields: Any) -> BatchItem:
    """Settle an item as an engine does."""
    assert item.request is not None
    item.outcome = ChatCompletionResult(f"to {item.request.messages[-1]['content']}", **{"cost": 0.5, **fields})
    return item


def result_of(item: BatchItem) -> ChatCompletionResult:
    assert isinstance(item.outcome, ChatCompletionResult)
    return item.outcome


def indices(items: Iterable[BatchItem]) -> list[int]:
    return [item.index for item in items]


# --- equal rows


def test_equal_rows_at_temperature_0_are_asked_once_and_all_get_the_answer() -> None:
    reuse = make()
    first, other = drawn(reuse, rows("abaab", AT_ZERO))
    assert indices([first, other]) == [0, 1]
    assert indices(reuse.settle(answer(other))) == [4]
    followers = reuse.settle(answer(first, usage=Usage(total_tokens=3), attempts=3, hedged=1, cost_estimated=0.1))
    assert indices(followers) == [2, 3]
    assert all(item.shared for item in followers)
    for item in followers:
        assert result_of(item) == replace(
            result_of(first), cached=True, cost=0.0, cost_estimated=0.0, attempts=0, hedged=0
        )
    assert not first.shared
    assert result_of(first).cost == 0.5


def test_equal_rows_are_as_many_wishes_where_the_temperature_is_not_0() -> None:
    assert indices(drawn(make(), rows("aaa"))) == [0, 1, 2]
    assert indices(drawn(make(), rows("aaa", {"temperature": 0.7}))) == [0, 1, 2]


@pytest.mark.parametrize(("share", "params", "asked"), [(True, None, [0, 2]), (False, AT_ZERO, [0, 1, 2, 3])])
def test_the_caller_may_say_what_is_shared(share: bool, params: dict[str, Any] | None, asked: list[int]) -> None:
    assert indices(drawn(make(share=share), rows("aaba", params))) == asked


def test_rows_that_differ_in_a_parameter_are_not_equal() -> None:
    items = [row(0, "a", {"temperature": 0, "seed": 1}), row(1, "a", {"temperature": 0, "seed": 2}), row(2, "a")]
    assert indices(drawn(make(), items)) == [0, 1, 2]


def test_an_equal_row_that_comes_later_is_settled_already() -> None:
    reuse = make()
    drawing = reuse.items(rows("aa", AT_ZERO), never_waits=True)
    first = answer(next(drawing))
    assert reuse.settle(first) == []
    later = next(drawing)
    assert (later.index, later.shared, result_of(later).content) == (1, True, "to a")
    assert (result_of(later).cached, result_of(later).cost, result_of(later).attempts) == (True, 0.0, 0)
    assert reuse.settle(later) == []


@pytest.mark.parametrize(
    "error",
    [
        ServerError("broken", status=500, attempts=4),
        SchemaMismatch("no", content="x", usage={"total_tokens": 9}, attempts=2),
        AllEndpointsFailed("none", attempts=3),
        InputError("no such file"),
    ],
)
def test_equal_rows_of_a_failed_one_fail_as_it_did_and_nothing_is_counted_twice(error: Any) -> None:
    reuse = make()
    drawing = reuse.items(rows("aaa", AT_ZERO), never_waits=True)
    first = next(drawing)
    if not isinstance(error, InputError):
        error.cost = 0.25
    fields = dict(vars(error))
    first.outcome = error
    assert reuse.settle(first) == []
    later = [*drawing]
    assert indices(later) == [1, 2]
    for item in later:
        copied: Any = item.outcome
        assert (type(copied), str(copied), item.shared) == (type(error), str(error), True)
        assert copied is not error
        assert getattr(copied, "cost", 0.0) == 0.0
        assert getattr(copied, "attempts", 0) == 0
        assert getattr(copied, "usage", None) is None
    assert vars(error) == fields


def test_a_row_that_waits_gets_the_error_of_the_one_that_it_waits_for() -> None:
    reuse = make()
    (first,) = drawn(reuse, rows("aa", AT_ZERO))
    first.outcome = ServerError("broken", status=500)
    (follower,) = reuse.settle(first)
    assert str(follower.outcome) == "broken"
    assert follower.shared


def test_copies_are_independent_of_one_another() -> None:
    reuse = make()
    (first,) = drawn(reuse, rows("aa", {**AT_ZERO, "response_format": {"type": "json_object"}}))
    call = ToolCall("1", "function", {"name": "f", "arguments": "{}"})
    answer(first, usage=Usage(total_tokens=1), tool_calls=[call], native={"claude": [{"x": 1}]})
    (follower,) = reuse.settle(first)
    copied = result_of(follower)
    assert copied.usage is not None
    assert copied.tool_calls is not None
    assert copied.native is not None
    copied.usage["total_tokens"] = 7
    copied.tool_calls[0].function["name"] = "g"
    copied.native["claude"][0]["x"] = 2
    assert result_of(first).usage == {"total_tokens": 1}
    assert call.function["name"] == "f"
    assert result_of(first).native == {"claude": [{"x": 1}]}


def test_a_copy_has_a_value_of_its_own() -> None:
    reuse = make()
    (first,) = drawn(reuse, rows("aa", {**AT_ZERO, "response_format": {"type": "json_object"}}))
    first.outcome = ChatCompletionResult('{"n": [1]}', parsed={"n": [1]})
    (follower,) = reuse.settle(first)
    assert result_of(follower).parsed == {"n": [1]}
    assert result_of(follower).parsed is not result_of(first).parsed


@pytest.mark.parametrize("with_body", [True, False])
def test_equals_have_the_untouched_body_only_where_it_is_wanted(with_body: bool) -> None:
    reuse = make(with_body=with_body)
    drawing = reuse.items([*rows("ab", AT_ZERO), row(2, "a", AT_ZERO), *rows("bb", AT_ZERO)], never_waits=True)
    first, other = next(drawing), next(drawing)
    reuse.settle(answer(other, body=b"{}"))
    later = [*drawing]
    waited = reuse.settle(answer(first, body=b"{}"))
    assert [result_of(item).body for item in (*waited, *later)] == [b"{}" if with_body else None] * 3
    assert result_of(first).body == b"{}"


def test_bodies_that_nobody_wants_are_not_held_for_the_length_of_the_run() -> None:
    reuse = make()
    (first,) = drawn(reuse, rows("a", AT_ZERO))
    reuse.settle(answer(first, body=b"{}"))
    assert [outcome.body for outcome in reuse._answers.values()] == [None]  # type: ignore[union-attr]


def test_settled_rows_pass_untouched() -> None:
    items = [
        BatchItem(0, outcome=InputError("row 0 cannot be asked")),
        BatchItem(1, place=12),
        row(2, "a", AT_ZERO, place=14),
        row(3, "a", AT_ZERO),
    ]
    cache = FakeCache()
    reuse = make(cache)
    assert drawn(reuse, items) == items
    assert [item.digest for item in items[:3]] == [0, 0, 0]
    assert cache.asked == [[items[3].cache_key]]
    assert [reuse.settle(item) for item in items[:3]] == [[], [], []]


def test_a_row_that_cannot_be_named_passes_untouched() -> None:
    broken = BatchItem(0, ChatRequest([{"role": "user", "content": "a"}], "m", {"temperature": 0, "x": {1}}))
    cache = FakeCache()
    reuse = make(cache)
    assert drawn(reuse, [broken, replace(broken, index=1)]) == [broken, replace(broken, index=1)]
    assert (broken.digest, broken.cache_key, broken.outcome) == (0, "", None)
    broken.outcome = InputError("cannot be written")
    assert reuse.settle(broken) == []


def test_a_row_that_came_back_twice_settles_nothing_twice() -> None:
    reuse = make()
    (first,) = drawn(reuse, rows("aa", AT_ZERO))
    assert len(reuse.settle(answer(first))) == 1
    assert reuse.settle(first) == []


def test_without_a_cache_and_sharing_nothing_is_named() -> None:
    items = rows("aa", AT_ZERO)
    assert drawn(make(share=False), items) == items
    assert [item.digest for item in items] == [0, 0]
    assert [item.digest for item in drawn(make(), rows("aa"))] == [0, 0]


# --- the cache


def test_rows_are_looked_up_in_windows_and_known_ones_are_settled() -> None:
    cache = FakeCache()
    items = rows("abcde")
    known = cache_key(KEYS.digest(items[1].request))  # type: ignore[arg-type]
    cache.known[known] = ChatCompletionResult("known")
    reuse = make(cache, window=2)
    assert drawn(reuse, items) == items
    assert [len(keys) for keys in cache.asked] == [2, 2, 1]
    assert [item.outcome is not None for item in items] == [False, True, False, False, False]
    assert result_of(items[1]).cached
    assert not items[1].shared


def test_a_fresh_answer_is_stored_and_found_by_the_next_run() -> None:
    cache = FakeCache()
    reuse = make(cache)
    for item in drawn(reuse, rows("ab")):
        reuse.settle(answer(item))
    assert [result_of(item).content for item in drawn(make(cache), rows("ba"))] == ["to b", "to a"]


@pytest.mark.parametrize(
    ("fields", "config", "stored"),
    [
        ({}, {}, True),
        ({"finish_reason": "length"}, {}, False),
        ({"finish_reason": "length"}, {"store_incomplete": True}, True),
        ({"cached": True}, {}, False),
    ],
)
def test_what_is_not_worth_it_is_not_stored(fields: dict[str, Any], config: dict[str, Any], stored: bool) -> None:
    cache = FakeCache(**config)
    reuse = make(cache)
    (item,) = drawn(reuse, rows("a"))
    reuse.settle(answer(item, **fields))
    assert bool(cache.known) is stored


def test_errors_and_copies_are_not_stored() -> None:
    cache = FakeCache()
    reuse = make(cache)
    drawing = reuse.items(rows("aab", AT_ZERO), never_waits=True)
    first, other = drawing
    other.outcome = ServerError("broken", status=500)
    reuse.settle(other)
    for item in reuse.settle(answer(first)):
        reuse.settle(item)
    assert [result.cost for result in cache.known.values()] == [0.5]


def test_a_reply_in_json_that_has_no_value_is_not_stored() -> None:
    cache = FakeCache()
    reuse = make(cache)
    (item,) = drawn(reuse, rows("a", {"response_format": {"type": "json_object"}}))
    reuse.settle(answer(item))
    assert cache.known == {}


@pytest.mark.parametrize(
    ("config", "with_body", "kept"), [({}, False, False), ({"store_raw": True}, False, True), ({}, True, True)]
)
def test_the_body_is_stored_where_it_is_wanted(config: dict[str, Any], with_body: bool, kept: bool) -> None:
    cache = FakeCache(**config)
    reuse = make(cache, with_body=with_body)
    (item,) = drawn(reuse, rows("a"))
    reuse.settle(answer(item))
    assert cache.bodies == [kept]


def test_each_of_several_equal_rows_has_an_answer_of_its_own_in_the_cache() -> None:
    cache = FakeCache()
    reuse = make(cache)
    numbers = itertools.count()
    for item in drawn(reuse, rows("aaba")):
        item.outcome = ChatCompletionResult(f"sample {next(numbers)}")
        reuse.settle(item)
    again = drawn(make(cache), rows("abaaa"))
    assert [item.outcome and result_of(item).content for item in again] == [
        "sample 0", "sample 2", "sample 1", "sample 3", None,
    ]  # fmt: skip
    assert [item.occurrence for item in again] == [0, 0, 1, 2, 3]


@pytest.mark.parametrize("few", [0, 1, 4, 5, 100])
def test_equal_rows_keep_their_numbers_when_there_are_too_many_for_a_dictionary(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reuse_module, "FEW", few)

    items = drawn(make(FakeCache()), rows([*"abcabc", *"defdef", *"adadad"]))

    assert [item.occurrence for item in items] == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4]


def test_shared_rows_have_one_answer_in_the_cache() -> None:
    cache = FakeCache()
    reuse = make(cache)
    (first,) = drawn(reuse, rows("aaa", AT_ZERO))
    reuse.settle(answer(first))
    assert len(cache.known) == 1
    again = make(cache)
    (hit,) = drawn(again, rows("aaa", AT_ZERO))
    assert result_of(hit).cached
    assert indices(again.settle(hit)) == [1, 2]


def test_not_sharing_gives_each_row_at_temperature_0_an_answer_of_its_own() -> None:
    items = drawn(make(FakeCache(), share=False), rows("aa", AT_ZERO))
    assert [item.occurrence for item in items] == [0, 1]


def test_rows_that_an_earlier_run_answered_keep_their_numbers() -> None:
    """Row 0 stands in the output file, and its answer in the cache: row 1 is another wish."""
    cache = FakeCache()
    items = rows("aa")
    reuse = make(cache)
    for item in drawn(reuse, items):
        reuse.settle(answer(item))
    del cache.known[items[1].cache_key]
    request = items[1].request
    assert request is not None
    key = make_key(digest_messages(request.messages), digest_settings(request.model, request.params), 1)
    (left,) = drawn(make(cache), [row(1, "a", key=key)])
    assert (left.occurrence, left.outcome) == (1, None)
    assert left.cache_key == items[1].cache_key


def test_a_hit_has_its_value_and_one_that_does_not_fit_is_asked_again() -> None:
    cache = FakeCache()
    items = rows("ab", {"response_format": {"type": "json_object"}})
    for item, text in zip(items, ('{"n": 1}', "no JSON"), strict=True):
        assert item.request is not None
        cache.known[cache_key(KEYS.digest(item.request))] = ChatCompletionResult(text)
    good, bad = drawn(make(cache), items)
    assert result_of(good).parsed == {"n": 1}
    assert bad.outcome is None


@pytest.mark.parametrize(("body", "is_hit"), [(None, False), (b"{}", True)])
def test_a_hit_without_its_body_is_asked_again_where_the_body_is_wanted(body: bytes | None, is_hit: bool) -> None:
    cache = FakeCache()
    (item,) = rows("a")
    assert item.request is not None
    cache.known[cache_key(KEYS.digest(item.request))] = ChatCompletionResult("x", body=body)
    assert (drawn(make(cache, with_body=True), [item])[0].outcome is not None) is is_hit


def test_a_class_that_cannot_take_the_hit_has_the_row_asked_again() -> None:
    @dataclass
    class Odd:
        n: int

        def __post_init__(self) -> None:
            raise ZeroDivisionError

    cache = FakeCache()
    (item,) = rows("a", {"response_format": Odd})
    assert item.request is not None
    cache.known[cache_key(KEYS.digest(item.request))] = ChatCompletionResult('{"n": 1}')
    assert drawn(make(cache), [item])[0].outcome is None


# --- inputs that wait, fail or end


def test_a_row_is_not_held_back_by_one_that_waits_for_its_answer() -> None:
    answered = threading.Event()

    def read() -> Iterator[BatchItem]:
        for item in rows("abc"):
            yield item
            assert answered.wait(LONGEST_WAIT), "the row was held back"
            answered.clear()

    reuse = make(FakeCache())
    seen = []
    for item in reuse.items(read(), never_waits=False):
        seen.append(item.index)
        reuse.settle(answer(item))
        answered.set()
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("never_waits", [True, False])
@pytest.mark.parametrize("cache", [None, FakeCache()])
def test_an_error_of_the_input_comes_after_the_rows_that_it_gave(never_waits: bool, cache: FakeCache | None) -> None:
    def read() -> Iterator[BatchItem]:
        yield from rows("abc", AT_ZERO)
        raise OSError("the disk is gone")

    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        for item in make(cache, window=2).items(read(), never_waits=never_waits):
            seen.append(item.index)
    assert seen == [0, 1, 2]


def is_asleep(thread: threading.Thread) -> bool:
    assert thread.ident is not None
    frame = sys._current_frames().get(thread.ident)
    return frame is not None and frame.f_code.co_name == "wait"


def test_an_input_that_never_gives_its_next_row_is_left_when_the_run_is_stopped() -> None:
    never, cancel = threading.Event(), CancelToken()

    def read() -> Iterator[BatchItem]:
        yield row(0, "a")
        never.wait(2 * LONGEST_WAIT)

    thread, seen = in_thread(make(FakeCache(), cancel=cancel).items(read(), never_waits=False))
    try:
        assert eventually(lambda: indices(seen) == [0] and is_asleep(thread))
        cancel.stop()
        thread.join(LONGEST_WAIT)
        assert not thread.is_alive()
    finally:
        never.set()
    assert not cancel._listeners


def test_a_long_file_of_equal_rows_ends_when_the_run_is_stopped() -> None:
    cancel = CancelToken()
    read = 0

    def endless() -> Iterator[BatchItem]:
        nonlocal read
        for read in itertools.count():
            if read == 100:
                cancel.stop()
            assert read < 1_000, "nobody looked whether the run is stopped"
            yield row(read, "a", AT_ZERO)

    assert len(list(make(cancel=cancel).items(endless(), never_waits=True))) == 1


def test_a_thread_that_reads_ahead_nothing_but_equal_rows_ends_when_the_run_is_stopped() -> None:
    cancel, read = CancelToken(), list[int]()
    endless = (row(index, "a", AT_ZERO) for index in itertools.count())
    before = threading.active_count()
    drawing = make(FakeCache(), cancel=cancel).items(counted(endless, read), never_waits=False, most_waiting=None)
    assert next(drawing).index == 0
    assert eventually(lambda: len(read) > 100)
    cancel.stop()
    assert list(drawing) == []
    assert eventually(lambda: threading.active_count() <= before)


def test_a_drawing_that_is_left_reads_no_further() -> None:
    read: list[int] = []

    def note() -> Iterator[BatchItem]:
        for item in rows("x" * 1_000):
            read.append(item.index)
            yield item

    before = threading.active_count()
    drawing = make(FakeCache(), window=4).items(note(), never_waits=False)
    next(drawing)
    drawing.close()
    assert eventually(lambda: threading.active_count() <= before)
    assert len(read) < 20


def test_reading_ahead_is_bounded() -> None:
    read: list[int] = []

    def note() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    ahead = read_ahead(note(), 5, CancelToken())
    first = next(ahead)
    assert eventually(lambda: len(read) >= len(first) + 5)
    assert len(read) <= len(first) + 6
    assert [*first, *itertools.chain.from_iterable(ahead)] == list(range(100))


def test_nothing_is_taken_once_it_is_cancelled() -> None:
    cancel, read = CancelToken(), list[int]()

    def note() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    ahead = read_ahead(note(), 5, cancel)
    first = next(ahead)
    assert eventually(lambda: len(read) > len(first) + 5)
    cancel.stop()
    assert list(ahead) == []


def test_rows_come_also_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert list(read_ahead("abc", 2, CancelToken())) == [["a"], ["b"], ["c"]]


def test_windows_are_full_but_the_last() -> None:
    assert list(windows(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(windows(range(4), 2)) == [[0, 1], [2, 3]]
    assert list(windows((), 2)) == []


# --- how many wait, and what is kept


def in_thread(drawing: Iterator[BatchItem]) -> tuple[threading.Thread, list[BatchItem]]:
    seen: list[BatchItem] = []
    thread = threading.Thread(target=lambda: seen.extend(drawing), daemon=True)
    thread.start()
    return thread, seen


def counted(items: Iterable[BatchItem], read: list[int]) -> Iterator[BatchItem]:
    for item in items:
        read.append(item.index)
        yield item


def test_no_more_is_read_while_too_many_rows_wait() -> None:
    read: list[int] = []
    reuse = make()
    texts = "b" + "a" * 11 + "b" + "c"
    thread, seen = in_thread(reuse.items(counted(rows(texts, AT_ZERO), read), never_waits=True, most_waiting=10))
    assert eventually(lambda: reuse._room._waiters)  # type: ignore[attr-defined]
    assert len(read) == 12
    assert indices(seen) == [0, 1]
    assert len(reuse.settle(answer(seen[1]))) == 10
    thread.join(LONGEST_WAIT)
    assert indices(seen) == [0, 1, 13]


def test_rows_that_had_nobody_waiting_make_no_room_for_more() -> None:
    read: list[int] = []
    reuse = make()
    drawing = reuse.items(counted(rows([*"bcdef", *"a" * 50], AT_ZERO), read), never_waits=True, most_waiting=10)
    for _ in range(5):
        assert reuse.settle(answer(next(drawing))) == []
    thread, seen = in_thread(drawing)
    assert eventually(lambda: reuse._room._waiters)  # type: ignore[attr-defined]
    assert len(read) == 5 + 1 + 10
    reuse.settle(answer(seen[0]))
    thread.join(LONGEST_WAIT)
    assert not thread.is_alive()


def test_a_reader_that_waits_for_room_goes_when_the_run_is_stopped() -> None:
    cancel, read = CancelToken(), list[int]()
    reuse = make(cancel=cancel)
    thread, seen = in_thread(reuse.items(counted(rows("a" * 50, AT_ZERO), read), never_waits=True, most_waiting=10))
    assert eventually(lambda: reuse._room._waiters)  # type: ignore[attr-defined]
    assert len(read) == 11
    cancel.stop()
    thread.join(LONGEST_WAIT)
    assert not thread.is_alive()
    assert indices(seen) == [0]
    assert not cancel._listeners


def test_a_thread_that_reads_ahead_waits_for_room_too_and_ends_with_the_drawing() -> None:
    read: list[int] = []
    reuse = make(FakeCache())
    before = threading.active_count()
    drawing = reuse.items(counted(rows("a" * 50, AT_ZERO), read), never_waits=False, most_waiting=10)
    first = next(drawing)
    assert eventually(lambda: reuse._room._waiters)  # type: ignore[attr-defined]
    assert len(read) == 11
    assert len(reuse.settle(answer(first))) == 10
    assert indices([next(drawing), next(drawing)]) == [11, 12]
    again = make(FakeCache())
    drawing = again.items(rows("a" * 50, AT_ZERO), never_waits=False, most_waiting=10)
    next(drawing)
    assert eventually(lambda: again._room._waiters)  # type: ignore[attr-defined]
    drawing.close()
    assert eventually(lambda: threading.active_count() <= before)


@pytest.mark.parametrize("never_waits", [True, False])
def test_rows_are_named_in_the_thread_that_reads_them(never_waits: bool) -> None:
    """What answers `recall` is claimed there, row by row, and takes no lock."""
    reading: set[int] = set()
    recalling: set[int] = set()

    def read() -> Iterator[BatchItem]:
        for item in rows("abc", AT_ZERO):
            reading.add(threading.get_ident())
            yield item

    def recall(item: BatchItem, index: int) -> None:
        recalling.add(threading.get_ident())

    drawn(make(FakeCache()), read(), never_waits=never_waits, recall=recall)
    assert reading == recalling
    assert (threading.get_ident() in reading) is never_waits


def test_any_number_may_wait_where_an_order_reads_everything_first() -> None:
    reuse = make()
    (first,) = drawn(reuse, rows("a" * 5_000, AT_ZERO), most_waiting=None)
    assert len(reuse.settle(answer(first))) == 4_999


def test_the_output_file_is_asked_for_equal_rows_of_earlier_runs() -> None:
    asked: list[tuple[int, int]] = []

    def recall(item: BatchItem, index: int) -> Outcome | None:
        asked.append((item.index, index))
        assert item.request is not None
        return ChatCompletionResult("known", cost=0.5) if item.request.messages[0]["content"] == "a" else None

    reuse = make()
    known, new = drawn(reuse, rows("abab", AT_ZERO), recall=recall)
    assert asked == [(0, -1), (1, -1)]
    assert (result_of(known).content, result_of(known).cost, known.shared) == ("known", 0.0, True)
    assert new.outcome is None
    assert [result_of(item).content for item in reuse.settle(known)] == ["known"]


def test_an_answer_of_this_run_that_is_not_kept_any_more_is_found_in_the_output_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reuse_module, "KEPT", 1)
    answers: list[str] = []

    def recall(item: BatchItem, index: int) -> Outcome | None:
        return None if index < 0 else ChatCompletionResult(answers[index])

    reuse = make()
    texts = "abcaa"
    seen = []
    for item in reuse.items(rows(texts, AT_ZERO), never_waits=True, recall=recall):
        if item.outcome is None:
            seen.append(item.index)
            answer(item)
        answers.append(result_of(item).content)
        reuse.settle(item)
    assert seen == [0, 1, 2]
    assert answers == [f"to {text}" for text in texts]


@pytest.mark.parametrize(("cache", "asked"), [(None, 3), (FakeCache(), 3)])
def test_what_falls_out_of_memory_can_be_found_elsewhere(
    monkeypatch: pytest.MonkeyPatch, cache: FakeCache | None, asked: int
) -> None:
    monkeypatch.setattr(reuse_module, "KEPT", 1)
    reuse = make(cache, window=1)
    fresh = 0
    for item in reuse.items(rows("abcabc", AT_ZERO), never_waits=True):
        fresh += item.outcome is None
        reuse.settle(answer(item) if item.outcome is None else item)
    assert fresh == asked
    assert len(reuse._answers) == (3 if cache is None else 1)


def test_the_answers_that_were_wanted_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse_module, "KEPT", 2)
    reuse, fresh = make(FakeCache(), window=1), []
    for item in reuse.items(rows("abaca", AT_ZERO), never_waits=True):
        if item.outcome is None:
            fresh.append(item.index)
        reuse.settle(item if item.outcome is not None else answer(item, finish_reason="length"))
    assert fresh == [0, 1, 3]


def test_an_equal_row_that_comes_back_late_settles_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 1 got the answer of row 0, which then fell out of memory: row 3 asks anew, and row 4 waits for row 3."""
    monkeypatch.setattr(reuse_module, "KEPT", 1)
    reuse = make(FakeCache(), window=1)
    drawing = reuse.items(rows("aabaa", AT_ZERO), never_waits=True)
    first = next(drawing)
    reuse.settle(answer(first, finish_reason="length"))
    late, other = next(drawing), next(drawing)
    reuse.settle(answer(other))
    (anew,) = drawing
    assert (late.index, late.shared, anew.index, anew.outcome) == (1, True, 3, None)
    assert reuse.settle(late) == []
    assert indices(reuse.settle(answer(anew))) == [4]


# --- all together


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=40),
    st.lists(st.integers(0, 10), max_size=40),
    st.integers(1, 5),
    st.booleans(),
)
def test_every_row_is_settled_once_with_its_own_answer_in_whatever_order_they_come_back(
    wanted: list[tuple[str, bool]], order: list[int], window: int, with_cache: bool
) -> None:
    """Rows at temperature 0 are asked once a text, others each time; each gets what its own text and kind call for."""
    texts = [(text, AT_ZERO if shared else {"seed": 1}) for text, shared in wanted]
    items = [row(index, text, params) for index, (text, params) in enumerate(texts)]
    reuse = make(FakeCache() if with_cache else None, window=window)
    drawing = reuse.items(items, never_waits=True, most_waiting=None)
    turns = iter(order)
    under_way: list[BatchItem] = []
    settled: list[BatchItem] = []
    asked: list[tuple[str, bool]] = []

    def come_back(place: int) -> None:
        item = under_way.pop(place % len(under_way))
        if item.outcome is None:
            asked.append(wanted[item.index])
            answer(item)
        settled.extend([item, *reuse.settle(item)])

    for item in drawing:
        under_way.append(item)
        if next(turns, 0) % 2:
            come_back(next(turns, 0))
    while under_way:
        come_back(next(turns, 0))
    assert sorted(indices(settled)) == list(range(len(wanted)))
    assert all(result_of(item).content == f"to {wanted[item.index][0]}" for item in settled)
    shared = [one for one in asked if one[1]]
    assert sorted(shared) == sorted(set(shared))
    assert len(asked) - len(shared) == sum(not one[1] for one in wanted)
    assert sum(result_of(item).cost or 0 for item in settled) == 0.5 * len(asked)


@pytest.mark.parametrize("cache", [None, FakeCache()])
@pytest.mark.parametrize("never_waits", [True, False])
@pytest.mark.parametrize(("params", "requests"), [(AT_ZERO, 100), ({}, 1_000)])
def test_a_thousand_rows_with_a_hundred_texts(
    cache: FakeCache | None, never_waits: bool, params: dict[str, Any], requests: int
) -> None:
    if cache is not None:
        cache = FakeCache()
    cancel = CancelToken()
    backend = FakeBackend(lambda request: f"to {request.messages[0]['content']}")
    reuse = make(cache, cancel=cancel)
    items = rows((f"text {number % 100}" for number in range(1_000)), params)
    drawing = reuse.items(items, never_waits=never_waits, most_waiting=50)
    settled: list[BatchItem] = []
    for group in ThreadEngine(backend, workers=8, cancel=cancel).run(drawing):
        for item in group:
            settled.extend([item, *reuse.settle(item)])
    assert len(backend.requests) == requests
    assert sorted(indices(settled)) == list(range(1_000))
    assert all(result_of(item).content == f"to text {item.index % 100}" for item in settled)


def test_a_run_that_is_stopped_ends_with_rows_that_wait() -> None:
    cancel = CancelToken()
    stop: Callable[[ChatRequest], str] = lambda request: cancel.stop() or "last"  # type: ignore[func-returns-value]  # noqa: E731
    reuse = make(cancel=cancel)
    items = rows(itertools.chain("ab", "a" * 100, "cdefg"), AT_ZERO)
    drawing = reuse.items(items, never_waits=True, most_waiting=10)
    settled = [
        one
        for group in ThreadEngine(FakeBackend(stop), workers=1, cancel=cancel).run(drawing)
        for item in group
        for one in (item, *reuse.settle(item))
    ]
    assert 0 in indices(settled)
    assert all(item.outcome is not None for item in settled)
    assert len(settled) < 100
