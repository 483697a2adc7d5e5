"""What a script puts down for which request, in Python and as JSON. No socket."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.mock import MockOptions, MockServer, ReceivedRequest, Reply
from flexllm.mock.responder import Responder
from flexllm.mock.scripts import fixed, lookup, script_of_json


def chat(prompt: str) -> ReceivedRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    return ReceivedRequest(method="POST", path="/v1/chat/completions", body=json.dumps(body).encode())


def statuses(script: Any, *prompts: str) -> list[int]:
    responder = Responder(MockOptions(), script)
    return [responder.answer(chat(prompt))[0].status for prompt in prompts]


def found(script: Any, *prompts: str | None) -> list[Any]:
    look = lookup(fixed(script))
    assert look is not None
    return [look(ReceivedRequest(method="GET", path="/"), prompt) for prompt in prompts]


# ---------------------------------------------------------------------------------------------------- Python


def test_a_list_holds_faults_replies_and_nothing() -> None:
    assert statuses(["unavailable", None, Reply(status=418), "quota"], *"abcde") == [503, 200, 418, 429, 200]


def test_a_function_may_name_a_fault() -> None:
    def script(request: ReceivedRequest) -> str | None:
        return "payment" if b"odd" in request.body else None

    assert statuses(script, "odd", "even") == [402, 200]


def test_a_function_that_names_no_fault_gives_a_500_that_says_so(caplog: pytest.LogCaptureFixture) -> None:
    responder = Responder(MockOptions(), lambda request: "pavement")
    exchange, plan = responder.answer(chat("a"))
    assert exchange.status == 500
    assert b"no fault 'pavement'" in plan.steps[0][1]
    assert responder.ledger.stats()["faults"] == {}
    assert "no reply to" in caplog.text


def test_a_row_fails_twice_like_this_and_is_then_answered() -> None:
    script = {"row 7": ["server_error", Reply(status=429)], "row 9": ["forbidden"]}
    assert statuses(script, "row 7", "row 8", "row 9", "row 7", "row 7", "row 9") == [500, 200, 403, 429, 200, 200]


def test_nothing_in_a_list_lets_one_request_through() -> None:
    assert statuses({"a": ["server_error", None, "unavailable"]}, "a", "a", "a", "a") == [500, 200, 503, 200]


def test_what_is_no_list_stands_for_every_request() -> None:
    assert found({"bad": "hang", "worse": Reply(status=500)}, "bad", "bad", "bad") == ["hang"] * 3
    assert found({"bad": None, "": "hang"}, "bad", "good") == [None, "hang"]


def test_the_longest_piece_of_the_prompt_counts() -> None:
    script = {"row 1": ["payment"] * 3, "row 12": ["forbidden"], "": ["quota"]}
    assert found(script, "row 1", "row 12", "row 12", "x") == ["payment", "forbidden", None, "quota"]


def test_a_request_without_a_prompt_has_no_piece_of_it() -> None:
    assert found({"": "hang"}, None) == [None]
    assert found(["hang"], None) == ["hang"]


def test_a_generator_can_be_a_script_of_a_server_that_starts_twice() -> None:
    script = fixed(name for name in ("quota", None))
    for _ in range(2):
        assert statuses(script, "a", "b", "c") == [429, 200, 200]


def test_a_script_that_is_empty_puts_nothing_down() -> None:
    assert [lookup(fixed(script)) for script in (None, [], {}, ())] == [None] * 4


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (["hangs"], "no fault 'hangs'; there are: "),
        ([3], "script has 3; allowed: replies, names of faults, and None"),
        ([["hang"]], "script has ['hang']"),
        ("hang", "script is 'hang'; allowed: a function, a list, or lists by"),
        (Reply(), "allowed: a function, a list"),
        (3, "script is 3; allowed"),
        ({"a": ["hangs"]}, "no fault 'hangs'"),
        ({"a": 3}, "script has 3"),
        ({3: ["hang"]}, "script has 3 as a piece of a prompt"),
    ],
)
def test_a_wrong_script_is_refused_before_the_start(script: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        MockServer(script=script)


# ---------------------------------------------------------------------------------------------------- JSON


def test_json_says_all_that_python_says() -> None:
    reply = {
        "status": 429,
        "headers": {"Retry-After": "3"},
        "body": {"error": "ä"},
        "delay": 0.5,
        "drip": 1,
        "drip_head": True,
        "cut": "body",
        "cut_at": 3,
        "reset": True,
        "close": False,
        "framing": "length",
        "gzip": False,
        "pieces": None,
    }
    expected = Reply(
        status=429,
        headers={"Retry-After": "3"},
        body=json.dumps({"error": "ä"}).encode(),
        delay=0.5,
        drip=1,
        drip_head=True,
        cut="body",
        cut_at=3,
        reset=True,
        framing="length",
    )
    assert script_of_json([None, "hang", reply, {}]) == [None, "hang", expected, Reply()]
    assert script_of_json({"row": ["hang", {"status": 500}], "all": "quota", "none": None}) == {
        "row": ["hang", Reply(status=500)],
        "all": "quota",
        "none": None,
    }


def test_bodies_and_pieces_come_as_text() -> None:
    assert script_of_json([{"body": "<p>é\ud800"}]) == [Reply(body=b"<p>\xc3\xa9\\ud800")]
    assert script_of_json([{"body": [1]}]) == [Reply(body=b"[1]")]
    assert script_of_json([{"pieces": [[0, "a"], [0.5, ""]]}]) == [Reply(pieces=((0, b"a"), (0.5, b"")))]


WRONG_REPLIES = [
    ({"state": 3}, "a reply has no field 'state'; there are: status, "),
    ({"tokens": 3}, "no field 'tokens'"),
    ({"status": "500"}, "the field 'status' of a reply is \"500\"; allowed: a whole number"),
    ({"status": True}, "is true; allowed: a whole number"),
    ({"status": 500.0}, "is 500.0; allowed: a whole number"),
    ({"status": 99}, "status is 99; allowed: 200 to 599"),
    ({"delay": "1"}, 'is "1"; allowed: a number'),
    ({"delay": 10**400}, "allowed: a number"),
    ({"delay": -1}, "delay is -1; allowed: seconds, at least 0"),
    ({"reset": 1}, "is 1; allowed: true or false"),
    ({"cut": "tail"}, "cut is 'tail'; allowed: "),
    ({"framing": 3}, "is 3; allowed: a text"),
    ({"headers": ["a"]}, "the field 'headers' of a reply is not an object of texts"),
    ({"headers": {"a": 1}}, "not an object of texts"),
    ({"pieces": "a"}, "not a list of pairs [seconds, text]"),
    ({"pieces": [[0, "a"], ["a"]]}, "not a list of pairs"),
    ({"pieces": [[-1, "a"]]}, "not a list of pairs"),
    ({"pieces": [[10**400, "a"]]}, "not a list of pairs"),
    ({"pieces": [[True, "a"]]}, "not a list of pairs"),
    ({"pieces": [[0, 3]]}, "not a list of pairs"),
    ({"pieces": [], "body": ""}, "body is b''; allowed: None if there are pieces"),
]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "the script is not a list of replies, fault names and nulls, or an object"),
        ("hang", "the script is not a list"),
        (True, "the script is not a list"),
        ([3], "the script has 3; allowed: an object that is a reply, a fault name, null"),
        ([["hang"]], 'the script has ["hang"]; allowed'),
        (["hangs"], "no fault 'hangs'"),
        ({"a": 3}, "the script has 3"),
        ({"a": [["hang"]]}, 'the script has ["hang"]'),
        *(([reply], message) for reply, message in WRONG_REPLIES),
    ],
)
def test_wrong_json_is_refused_with_one_sentence(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        script_of_json(value)
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["hang", "a", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["status", "body", "headers", "pieces", "cut", "delay", "a"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(value=JSON)
def test_any_json_is_a_script_or_a_value_error(value: Any) -> None:
    try:
        script = script_of_json(value)
    except ValueError:
        return
    Responder(MockOptions(), script).answer(chat("a"))
