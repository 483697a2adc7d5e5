"""A running mock server that is asked and told over HTTP. No socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.mock import MockOptions, ReceivedRequest
from flexllm.mock.options import CHANGEABLE
from flexllm.mock.responder import Responder


def chat(prompt: str = "hello", **headers: str) -> ReceivedRequest:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]}).encode()
    return ReceivedRequest(method="POST", path="/v1/chat/completions", headers=headers, body=body)


def tell(responder: Responder, path: str, value: Any, method: str = "POST") -> tuple[int, Any]:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    exchange, plan = responder.answer(ReceivedRequest(method=method, path=path, body=body))
    exchange.end(is_complete=True)
    answer = b"".join(data for _, data in plan.steps).partition(b"\r\n\r\n")[2]
    return exchange.status, json.loads(answer)


def refusal(responder: Responder, path: str, value: Any) -> str:
    status, body = tell(responder, path, value)
    assert status == 400
    message: str = body["error"]["message"]
    assert "\n" not in message
    assert not message.endswith(".")
    return message


def statuses(responder: Responder, count: int = 3, **headers: str) -> list[int]:
    return [responder.answer(chat(**headers))[0].status for _ in range(count)]


def test_a_script_can_be_set_replaced_and_taken_away() -> None:
    responder = Responder(MockOptions(), lambda request: "payment")
    assert statuses(responder) == [402, 402, 402]
    assert tell(responder, "/mock/script", ["unavailable", None, {"status": 418}]) == (200, {})
    assert statuses(responder, 4) == [503, 200, 418, 200]
    assert tell(responder, "/mock/script", {"hello": ["forbidden"], "": "quota"}) == (200, {})
    assert statuses(responder) == [403, 200, 200]
    assert responder.answer(chat("x"))[0].status == 429
    assert tell(responder, "/mock/script", []) == (200, {})
    assert responder.answer(chat("x"))[0].status == 200
    assert tell(responder, "/mock/requests", b"", "GET")[1]["faults"] == {
        "payment": 3,
        "unavailable": 1,
        "forbidden": 1,
        "quota": 1,
    }


def test_a_wrong_script_leaves_the_one_there_is() -> None:
    responder = Responder(MockOptions(), ["payment"])
    assert "no fault 'hangs'" in refusal(responder, "/mock/script", ["hang", "hangs"])
    assert "not JSON" in refusal(responder, "/mock/script", b"{")
    assert "not JSON" in refusal(responder, "/mock/script", b"")
    assert "is not a list" in refusal(responder, "/mock/script", 3)
    assert statuses(responder) == [402, 200, 200]


def test_options_change_while_it_runs() -> None:
    responder = Responder(MockOptions(api_key="old"), None)
    assert statuses(responder, 1) == [401]
    assert tell(responder, "/mock/options", {"api_key": None, "error_rate": 1, "error_status": 503}) == (200, {})
    assert statuses(responder) == [503, 503, 503]
    tell(responder, "/mock/options", {"error_rate": 0, "faults": "server_error:1"})
    assert statuses(responder) == [500, 500, 500]
    tell(responder, "/mock/options", {"faults": {"payment": 1}})
    assert statuses(responder) == [402, 402, 402]
    tell(responder, "/mock/options", {"faults": {}, "rate_limit": 0.001, "retry_after": None})
    assert statuses(responder) == [200, 429, 429]
    assert b"retry-after" not in responder.answer(chat())[1].steps[0][1]
    tell(responder, "/mock/options", {"rate_limit": None, "delay": [1, 2], "api_key": "new"})
    assert statuses(responder, 1) == [401]
    assert 1 <= responder.answer(chat(authorization="Bearer new"))[1].steps[0][0] <= 2
    tell(responder, "/mock/options", {"delay": 0, "api_key": None, "concurrency_limit": 1})
    assert statuses(responder) == [429, 429, 429]  # none of those above has ended


def test_other_options_leave_the_limit_as_it_stands() -> None:
    responder = Responder(MockOptions(rate_limit=0.001), None)
    assert statuses(responder, 1) == [200]
    tell(responder, "/mock/options", {"retry_after": 3})
    assert statuses(responder, 1) == [429]
    tell(responder, "/mock/options", {"rate_burst": 2})
    assert statuses(responder) == [200, 200, 429]


def test_a_change_does_not_begin_the_chances_again() -> None:
    one, two = (Responder(MockOptions(faults="payment:0.5"), None) for _ in range(2))
    expected = statuses(one, 20)
    found = statuses(two, 10)
    tell(two, "/mock/options", {"retry_after": 3})
    assert found + statuses(two, 10) == expected
    assert tell(two, "/mock/reset", b"") == (200, {})
    assert statuses(two, 20) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 3}, "'colour' is no option that can change; there are: delay, "),
        ({"port": 3}, "'port' is no option that can change"),
        ({"seed": 3}, "'seed' is no option that can change"),
        ({"error_rate": 2}, "error_rate is 2; allowed: 0 to 1"),
        ({"error_rate": "0.1"}, "error_rate is '0.1'; allowed: 0 to 1"),
        ({"error_rate": True}, "error_rate is True; allowed"),
        ({"error_rate": None}, "error_rate is None; allowed"),
        ({"error_status": 200}, "error_status is 200"),
        ({"delay": [2, 1]}, "delay is (2, 1); allowed"),
        ({"delay": [1, 2, 3]}, "allowed: seconds, at least 0, or a tuple"),
        ({"delay": "1"}, "delay is '1'"),
        ({"rate_limit": 0}, "rate_limit is 0; allowed: None, or more than 0 per second"),
        ({"rate_limit": 1e400}, "not JSON"),
        ({"rate_burst": 1.5}, "rate_burst is 1.5; allowed: at least 1"),
        ({"token_rate_limit": -1}, "token_rate_limit is -1"),
        ({"concurrency_limit": 0}, "concurrency_limit is 0; allowed: None, 1 or more"),
        ({"rate_headers": 1}, "rate_headers is 1; allowed: True, False"),
        ({"retry_after": "none"}, "retry_after is 'none'; allowed: None, or seconds, at least 0"),
        ({"hang_seconds": -1}, "hang_seconds is -1"),
        ({"token_delay": []}, "token_delay is []"),
        ({"faults": {"hang": 2}}, "share of the fault 'hang' is 2"),
        ({"faults": None}, "faults is None"),
        ([1], "the options are not an object of names and values"),
        (b"nonsense", "the body of POST /mock/options is not JSON"),
    ],
)
def test_a_wrong_option_changes_nothing_and_is_named(changes: Any, message: str) -> None:
    responder = Responder(MockOptions(), None)
    before = responder.options
    if isinstance(changes, dict):
        changes = {"error_status": 503, **changes}
    assert message in refusal(responder, "/mock/options", changes)
    assert responder.options is before


@pytest.mark.parametrize("key", ["", 3, ["secret"]])
def test_a_wrong_key_is_not_repeated(key: Any) -> None:
    message = refusal(Responder(MockOptions(), None), "/mock/options", {"api_key": key})
    assert message == "api_key is not a key; allowed: None, or a text that is not empty"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just("hang:0.1"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["hang", "a"]), inner, max_size=2),
    max_leaves=4,
)


@given(changes=st.dictionaries(st.sampled_from(CHANGEABLE), VALUES, max_size=3))
def test_any_value_is_taken_or_refused_with_a_sentence(changes: dict[str, Any]) -> None:
    responder = Responder(MockOptions(), None)
    status, body = tell(responder, "/mock/options", changes)
    assert (status, body) == (200, {}) or (status == 400 and body["error"]["message"])
    responder.answer(chat())


def test_reports_are_not_counted_and_need_no_key() -> None:
    responder = Responder(MockOptions(api_key="k", faults="payment:1", rate_limit=0.001), None)
    assert tell(responder, "/mock/requests", b"", "GET")[0] == 200
    stats = responder.ledger.stats()
    assert (stats["received"], stats["statuses"], stats["first_at"], len(responder.ledger.requests)) == (0, {}, None, 0)


def test_other_methods_and_paths_are_told_what_there_is() -> None:
    responder = Responder(MockOptions(), None)
    for method, path, status in (
        ("GET", "/mock/script", 405),
        ("PUT", "/mock/options", 405),
        ("POST", "/mock/requests", 405),
        ("GET", "/mock/other", 404),
        ("GET", "/mock/", 404),
    ):
        found, body = tell(responder, path, b"", method)
        assert found == status
        assert "GET /mock/requests, POST /mock/reset, POST /mock/script" in body["error"]["message"]
