"""Rows that begin alike go behind the first of them, and nothing ever waits for a row that does not come."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import LONGEST_WAIT, FakeBackend, eventually
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.batch.items import BatchItem
from flexllm.batch.prefixes import STRETCH, PrefixOrder
from flexllm.batch.reuse import Reuse
from flexllm.cache.key import KeyScope, RequestKeys
from flexllm.cancel import CancelToken
from flexllm.chat import ChatCompletionResult, ChatRequest
from flexllm.engines.threads import ThreadEngine
from flexllm.errors import InputError, ServerError
from flexllm.request import make_request

LONG = "x" * STRETCH


def row(index: int, messages: Any, model: str = "m", **params: Any) -> BatchItem:
    return BatchItem(index, make_request(messages, model, params))


def conversation(system: str, user: Any = "?") -> list[dict[str, Any]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def come_back(order: PrefixOrder, item: BatchItem) -> None:
    item.outcome = item.outcome or ChatCompletionResult("ok")
    order.settle(item)


def indices(items: list[BatchItem]) -> list[int]:
    return [item.index for item in items]


def asked_before_an_answer(*items: BatchItem) -> list[int]:
    """The rows that go while no answer is there yet; the run is stopped when there are no more."""
    cancel = CancelToken()
    order = PrefixOrder(cancel)
    drawn: list[BatchItem] = []
    drawing = order.items(items)
    thread = threading.Thread(target=lambda: drawn.extend(drawing))
    thread.start()
    assert eventually(lambda: order._changed._waiters or not thread.is_alive())  # type: ignore[attr-defined]
    cancel.stop()
    thread.join(LONGEST_WAIT)
    return indices(drawn)


def test_the_rest_of_a_group_follows_the_answer_to_its_first_row() -> None:
    order = PrefixOrder()
    drawing = order.items([row(number, f"{number % 2}{LONG}{number}") for number in range(6)])
    first, second = next(drawing), next(drawing)
    assert indices([first, second]) == [0, 1]
    come_back(order, second)
    assert indices([next(drawing), next(drawing)]) == [3, 5]
    come_back(order, first)
    assert indices([*drawing]) == [2, 4]


def test_a_group_that_may_go_goes_before_the_next_group_begins() -> None:
    order = PrefixOrder()
    drawing = order.items([row(number, f"{'aabbc'[number]}{LONG}") for number in range(5)])
    first = next(drawing)
    come_back(order, first)
    assert indices([next(drawing), next(drawing)]) == [1, 2]


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (f"{LONG}a", f"{LONG}b", True),
        (LONG, f"{LONG}b", True),
        (f"{LONG[:-100]}a", f"{LONG[:-100]}b", False),
        (f"{LONG[:-3]}a", f"{LONG[:-3]}b", True),
        ("a", "a", False),
        (LONG[:-1000], LONG[:-1000], False),
        (f"a{LONG}", f"b{LONG}", False),
        (conversation(LONG, "a"), conversation(LONG, "b"), True),
        (conversation("be kind", f"{LONG}a"), conversation("be kind", f"{LONG}b"), True),
        (conversation("be kind", LONG), conversation("be rude", LONG), False),
        (conversation("x", LONG), [{"role": "user", "content": f"x{LONG}"}], False),
        (conversation("文" * (STRETCH // 3 + 1), "a"), conversation("文" * (STRETCH // 3 + 1), "b"), True),
        (conversation("\ud800" * STRETCH, "a"), conversation("\ud800" * STRETCH, "b"), True),
    ],
)
def test_rows_belong_together_that_begin_with_the_same_4096_bytes(one: Any, other: Any, together: bool) -> None:
    assert asked_before_an_answer(row(0, one), row(1, other)) == ([0] if together else [0, 1])


def test_rows_of_another_model_or_with_other_tools_begin_otherwise() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    items = [row(0, LONG), row(1, LONG, "n"), row(2, LONG, tools=tools), row(3, LONG, seed=1)]
    assert asked_before_an_answer(*items) == [0, 1, 2]


def test_a_picture_counts_whole() -> None:
    def picture(data: bytes) -> list[dict[str, Any]]:
        uri = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": uri}}, "what is it?"]}]

    one, other = b"\x89PNG\r\n\x1a\n" + bytes(STRETCH), b"\x89PNG\r\n\x1a\n" + bytes(STRETCH) + b"\1"
    assert asked_before_an_answer(row(0, picture(one)), row(1, picture(other)), row(2, picture(one))) == [0, 1]


def test_settled_rows_pass_before_all_are_read() -> None:
    def read() -> Iterator[BatchItem]:
        yield row(0, LONG)
        yield BatchItem(1, place=4)
        yield BatchItem(2, outcome=InputError("row 2 cannot be asked"))
        raise AssertionError("read on")

    drawing = PrefixOrder().items(read())
    assert indices([next(drawing), next(drawing)]) == [1, 2]


def test_a_row_that_cannot_be_written_as_json_goes_like_any_other() -> None:
    broken = ChatRequest([{"role": "user", "content": [{"type": "x", "x": {1}}]}], "m", {"tools": {1}})
    assert indices(list(PrefixOrder().items([BatchItem(0, broken), BatchItem(1, broken)]))) == [0, 1]


def test_the_rest_goes_also_where_the_first_row_failed() -> None:
    order = PrefixOrder()
    drawing = order.items([row(0, LONG), row(1, LONG)])
    first = next(drawing)
    first.outcome = ServerError("broken", status=500)
    come_back(order, first)
    assert indices([*drawing]) == [1]


def test_only_the_first_row_lets_its_group_go_and_only_once() -> None:
    order = PrefixOrder()
    drawing = order.items([row(number, LONG) for number in range(3)])
    first = next(drawing)
    order.settle(BatchItem(7, outcome=ServerError("broken")))
    come_back(order, first)
    come_back(order, first)
    assert indices([*drawing]) == [1, 2]


def test_a_first_row_that_never_comes_back_holds_nobody_once_the_run_is_stopped() -> None:
    cancel = CancelToken()
    order = PrefixOrder(cancel)
    drawn: list[BatchItem] = []
    drawing = order.items([row(0, LONG), row(1, LONG)])
    thread = threading.Thread(target=lambda: drawn.extend(drawing))
    thread.start()
    assert eventually(lambda: order._changed._waiters)  # type: ignore[attr-defined]
    cancel.stop()
    thread.join(LONGEST_WAIT)
    assert not thread.is_alive()
    assert indices(drawn) == [0]
    assert not cancel._listeners


def test_a_run_that_is_stopped_reads_no_further() -> None:
    cancel = CancelToken()

    def read() -> Iterator[BatchItem]:
        yield row(0, LONG)
        cancel.stop()
        yield row(1, LONG)
        raise AssertionError("read on")

    assert list(PrefixOrder(cancel).items(read())) == []


def test_what_the_input_raises_is_raised() -> None:
    def read() -> Iterator[BatchItem]:
        yield row(0, LONG)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(PrefixOrder().items(read()))


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abcdef-"), max_size=20), st.lists(st.integers(0, 9), max_size=60))
def test_every_row_goes_once_and_none_before_the_first_of_its_group_is_back(
    groups: list[str], order: list[int]
) -> None:
    turns = iter(order)
    prefixes = PrefixOrder()
    items = [
        row(number, f"{group * STRETCH}{number}" if group != "-" else "short") for number, group in enumerate(groups)
    ]
    under_way: list[BatchItem] = []
    back: set[int] = set()
    drawn: list[int] = []
    drawing = prefixes.items(items)
    while len(drawn) < len(items):
        # Whoever draws while nothing can go would wait, so all that is under way comes back first.
        if under_way and (next(turns, 0) % 2 or not _may_go(groups, drawn, back)):
            item = under_way.pop(next(turns, 0) % len(under_way))
            come_back(prefixes, item)
            back.add(item.index)
            continue
        item = next(drawing)
        group = groups[item.index]
        if group != "-" and groups.index(group) != item.index:
            assert groups.index(group) in back
        drawn.append(item.index)
        under_way.append(item)
    assert sorted(drawn) == list(range(len(items)))
    for item in under_way:
        come_back(prefixes, item)
    assert list(drawing) == []


def _may_go(groups: list[str], drawn: list[int], back: set[int]) -> bool:
    """Whether there is a row to be drawn that waits for none."""
    return any(
        group == "-" or groups.index(group) in {index, *back}
        for index, group in enumerate(groups)
        if index not in drawn
    )


@pytest.mark.parametrize("order_is_outside", [True, False])
def test_an_order_and_sharing_go_together(order_is_outside: bool) -> None:
    """In either way: rows that need no request are taken out before the order is made, or behind it."""
    cancel = CancelToken()
    lock = threading.Lock()
    begun: dict[str, int] = {}
    wrong: list[str] = []

    def answer(request: ChatRequest) -> str:
        text = request.messages[0]["content"]
        with lock:
            begun[text[0]] = begun.get(text[0], 0) + 1
            if text[0] not in settled_groups and begun[text[0]] > 1:
                wrong.append(text[-6:])
        return f"to {text}"

    settled_groups: set[str] = set()
    backend = FakeBackend(answer)
    order, reuse = PrefixOrder(cancel), Reuse(RequestKeys(KeyScope("openai")), cancel=cancel)
    items = [row(n, f"{'abcde'[n % 5] * STRETCH}{n % 40}", temperature=0) for n in range(400)]
    if order_is_outside:
        drawing = order.items(reuse.items(items, never_waits=True, most_waiting=None))
    else:
        drawing = reuse.items(order.items(items), never_waits=False, most_waiting=50)
    settled: list[BatchItem] = []
    for group in ThreadEngine(backend, workers=4, cancel=cancel).run(drawing):
        for item in group:
            assert item.request is not None
            settled_groups.add(item.request.messages[0]["content"][0])
            settled.extend([item, *reuse.settle(item)])
            order.settle(item)
    assert wrong == []
    assert len(backend.requests) == 40
    assert sorted(indices(settled)) == list(range(400))
    assert all(item.outcome is not None and item.outcome.content == f"to {_text(item)}" for item in settled)  # type: ignore[union-attr]


def _text(item: BatchItem) -> str:
    assert item.request is not None
    text: str = item.request.messages[0]["content"]
    return text


@pytest.mark.parametrize("name", ["system", "systemInstruction", "system_instruction", "tools"])
def test_what_stands_before_the_messages_counts_where_it_is_a_parameter(name: str) -> None:
    def item_of(index: int, text: str) -> BatchItem:
        params = {name: [{"text": text * 5000}] if name == "tools" else text * 5000}
        return BatchItem(index, ChatRequest([{"role": "user", "content": f"question {index}"}], "m", params))

    order = PrefixOrder()
    items = order.items([item_of(index, "ab"[index % 2]) for index in range(4)])

    assert [next(items).index, next(items).index] == [0, 1]
    order.settle(BatchItem(0))
    assert next(items).index == 2
