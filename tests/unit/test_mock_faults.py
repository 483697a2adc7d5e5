"""Every fault in every dialect: what crosses the wire, byte for byte. No socket."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from flexllm.cli.parser import build_parser
from flexllm.mock import MockOptions, ReceivedRequest
from flexllm.mock.faults import FAULTS, SLOW_CLOSE_SECONDS, parse_shares
from flexllm.mock.http import WirePlan
from flexllm.mock.ledger import MockStats
from flexllm.mock.responder import Responder

TURN = {"role": "user", "content": "hello"}
CONTENT = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
DEVELOPER = "/v1beta/models/gemini-2.0-flash"
VERTEX = "/v1/projects/p/locations/l/publishers/google/models/gemini-2.0-flash"
ASKED: dict[str, tuple[str, str, dict[str, str], dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", "", {}, {"model": "gpt-4o", "messages": [TURN]}),
    "anthropic": (
        "/v1/messages",
        "",
        {"anthropic-version": "2023-06-01"},
        {"model": "claude-sonnet-4-5", "max_tokens": 500, "messages": [TURN]},
    ),
    "gemini": (f"{DEVELOPER}:generateContent", "", {}, CONTENT),
    "vertex": (f"{VERTEX}:generateContent", "", {}, CONTENT),
}
DIALECTS = tuple(ASKED)
STREAMS = (False, True)
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)
every_way = pytest.mark.parametrize("stream", STREAMS, ids=["whole", "stream"])


def request(dialect: str, stream: bool = False, query: str = "alt=sse", **fields: Any) -> ReceivedRequest:
    path, usual_query, headers, body = ASKED[dialect]
    body = {**body, **fields}
    if stream and dialect in ("gemini", "vertex"):
        path, usual_query = path.replace(":generate", ":streamGenerate"), query
    elif stream:
        body["stream"] = True
    return ReceivedRequest(
        method="POST", path=path, query=usual_query, headers=headers, body=json.dumps(body).encode(), time_unix=1e9
    )


class Sent(NamedTuple):
    """What a plan puts on the wire; `body` without the framing of chunks."""

    plan: WirePlan
    status: int
    headers: dict[str, str]
    body: bytes
    stats: MockStats

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """The data of a stream's events; of one that is no JSON the text."""
        found = []
        for line in re.split(rb"\r?\n", self.body):
            if line.startswith(b"data: "):
                try:
                    found.append(json.loads(line[6:]))
                except ValueError:
                    found.append(line[6:].decode())
        return found


def sent(asked: ReceivedRequest, fault: str | None, **options: Any) -> Sent:
    responder = Responder(MockOptions(**options), [fault])
    exchange, plan = responder.answer(asked)
    exchange.end(not plan.is_cut, has_head=plan.has_head)
    head, _, body = b"".join(data for _, data in plan.steps).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    if headers.get("transfer-encoding") == "chunked" and not plan.is_cut:
        body = b"".join(unchunked(body))
    status = int(lines[0].split()[1]) if head else 0
    return Sent(plan, status, headers, body, responder.ledger.stats())


def unchunked(body: bytes) -> Iterator[bytes]:
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        yield body[:length]
        assert body[length : length + 2] == b"\r\n"
        body = body[length + 2 :]
        assert length or not body


def error_of(dialect: str, error: Any) -> tuple[Any, Any]:
    """What kind of error it is, and what it says."""
    inner = error["error"]
    return inner[{"openai": "code", "anthropic": "type"}.get(dialect, "status")], inner["message"]


def text_of(dialect: str, events: list[Any]) -> str:
    texts = []
    for event in events:
        if not isinstance(event, dict):
            continue
        if dialect == "openai":
            texts += [choice["delta"].get("content") or "" for choice in event.get("choices", ())]
        elif dialect == "anthropic":
            texts.append(event.get("delta", {}).get("text", ""))
        else:
            for candidate in event.get("candidates", ()):
                texts += [part.get("text", "") for part in candidate.get("content", {}).get("parts", ())]
    return "".join(texts)


# ---------------------------------------------------------------------------------------------------- all of them

OWN = {"vertex": {"unauthorized": 401}, "gemini": {"unauthorized": 400}, "anthropic": {"quota": 400}}
STATUSES = {
    "rate_limited": 429,
    "quota": 429,
    "unauthorized": 401,
    "payment": 402,
    "forbidden": 403,
    "not_found": 404,
    "bad_request": 400,
    "context_too_long": 400,
    "server_error": 500,
    "bad_gateway": 502,
    "unavailable": 503,
    "overloaded": 529,
}
LATE = {"openai": 200, "anthropic": 529, "gemini": 503, "vertex": 503}  # an overload that is not streamed


@pytest.mark.parametrize("name", FAULTS)
@every_dialect
@every_way
def test_a_fault_has_its_status_and_is_the_same_every_time(name: str, dialect: str, stream: bool) -> None:
    one, two = (sent(request(dialect, stream), name, hang_seconds=7) for _ in range(2))
    assert one == two
    usual = 0 if name == "hang" else LATE[dialect] if name.endswith("_stream") and not stream else 200
    assert one.status == OWN.get(dialect, {}).get(name, STATUSES.get(name, usual))
    assert one.stats["faults"] == {name: 1}
    assert one.stats["statuses"] == ({str(one.status): 1} if one.status else {})
    assert one.stats["answered"] == (one.status == 200 and name != "reset")


@pytest.mark.parametrize("name", [*STATUSES, "quota"])
@every_dialect
@every_way
def test_an_error_is_one_of_its_dialect(name: str, dialect: str, stream: bool) -> None:
    answer = sent(request(dialect, stream), name)
    if name == "bad_gateway":
        assert answer.headers["content-type"].startswith("text/html")
        assert b"<title>502 Bad Gateway</title>" in answer.body
        return
    kind, message = error_of(dialect, answer.json())
    assert message
    assert kind or dialect == "openai"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.headers["content-type"].startswith("application/json")
    if dialect == "anthropic":
        assert answer.json()["request_id"] == answer.headers["request-id"] == "req_0_00000001"


@every_way
def test_quota_and_key_and_context_are_told_in_the_words_of_each_provider(stream: bool) -> None:
    def said(dialect: str, name: str) -> tuple[Any, Any]:
        return error_of(dialect, sent(request(dialect, stream), name).json())

    assert said("openai", "quota")[0] == "insufficient_quota"
    assert "usage limits" in said("anthropic", "quota")[1]
    assert b"GenerateRequestsPerDay" in sent(request("gemini", stream), "quota").body
    assert said("openai", "unauthorized")[0] == "invalid_api_key"
    assert said("anthropic", "unauthorized")[0] == "authentication_error"
    assert b'"reason":"API_KEY_INVALID"' in sent(request("gemini", stream), "unauthorized").body
    assert said("vertex", "unauthorized")[0] == "UNAUTHENTICATED"
    assert said("openai", "context_too_long")[0] == "context_length_exceeded"
    assert "prompt is too long" in said("anthropic", "context_too_long")[1]
    assert "exceeds the maximum number of tokens" in said("gemini", "context_too_long")[1]
    assert said("anthropic", "payment")[0] == "billing_error"


@every_dialect
def test_an_unknown_model_is_named(dialect: str) -> None:
    model = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4-5"}.get(dialect, "gemini-2.0-flash")
    assert model in error_of(dialect, sent(request(dialect), "not_found").json())[1]


@every_dialect
@every_way
def test_a_piece_of_the_prompt_finds_its_faults_in_every_dialect(dialect: str, stream: bool) -> None:
    responder = Responder(MockOptions(), {"hell": ["server_error", "unavailable"], "": ["payment"]})
    assert [responder.answer(request(dialect, stream))[0].status for _ in range(3)] == [500, 503, 200]


# ---------------------------------------------------------------------------------------------------- rate_limited


@every_way
def test_a_rate_limit_gives_the_hints_of_its_dialect(stream: bool) -> None:
    openai = sent(request("openai", stream), "rate_limited", retry_after=62.5).headers
    assert openai["retry-after"] == "62.5"
    assert openai["x-ratelimit-remaining-requests"] == "0"
    assert openai["x-ratelimit-reset-requests"] == "1m2.5s"
    anthropic = sent(request("anthropic", stream), "rate_limited", retry_after=2).headers
    assert anthropic["retry-after"] == "2"
    assert anthropic["anthropic-ratelimit-requests-remaining"] == "0"
    assert anthropic["anthropic-ratelimit-requests-reset"] == "2001-09-09T01:46:42Z"  # Unix time 1,000,000,002
    gemini = sent(request("gemini", stream), "rate_limited", retry_after=0.25)
    assert "retry-after" not in gemini.headers
    kinds = {detail["@type"].rpartition(".")[2]: detail for detail in gemini.json()["error"]["details"]}
    assert kinds["RetryInfo"]["retryDelay"] == "0.25s"
    assert "PerMinute" in kinds["QuotaFailure"]["violations"][0]["quotaId"]


@every_dialect
@every_way
def test_a_rate_limit_without_a_hint_has_none_at_all(dialect: str, stream: bool) -> None:
    plan = sent(request(dialect, stream), "rate_limited", retry_after=None).plan
    wire = b"".join(data for _, data in plan.steps).lower()
    assert wire.startswith(b"http/1.1 429 ")
    assert [hint for hint in (b"retry-after", b"ratelimit-", b"retryinfo", b"retrydelay") if hint in wire] == []


# ---------------------------------------------------------------------------------------------------- streams

OVERLOADED = {
    "openai": "server_is_overloaded",
    "anthropic": "overloaded_error",
    "gemini": "UNAVAILABLE",
    "vertex": "UNAVAILABLE",
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


@every_dialect
def test_an_overloaded_stream_fails_before_the_first_text(dialect: str) -> None:
    answer = sent(request(dialect, stream=True), "overloaded_stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    *before, error = answer.events()
    assert error_of(dialect, error)[0] == OVERLOADED[dialect]
    assert text_of(dialect, before) == ""
    assert len(before) == {"openai": 1, "anthropic": 2}.get(dialect, 0)


@every_dialect
def test_a_broken_stream_fails_in_the_middle_of_the_text(dialect: str) -> None:
    whole = text_of(dialect, sent(request(dialect, stream=True), None).events())
    answer = sent(request(dialect, stream=True), "broken_stream")
    *before, error = answer.events()
    assert error_of(dialect, error)[0] == OVERLOADED[dialect]
    text = text_of(dialect, before)
    assert whole.startswith(text)
    assert 0 < len(text) < len(whole)
    if dialect == "anthropic":
        assert error["request_id"] == answer.headers["request-id"]
        assert b"event: error\ndata: " in answer.body


@pytest.mark.parametrize("name", ["overloaded_stream", "broken_stream"])
def test_a_stream_that_is_one_array_ends_as_one(name: str) -> None:
    events = sent(request("gemini", stream=True, query=""), name).json()
    assert events[-1]["error"]["status"] == "UNAVAILABLE"
    assert bool(text_of("gemini", events)) == (name == "broken_stream")


def test_a_broken_stream_of_a_thinking_model_has_begun_its_text() -> None:
    asked = request("openai", stream=True, enable_thinking=True, stream_options={"include_usage": True})
    events = sent(asked, "broken_stream").events()
    assert text_of("openai", events)
    assert all(choice["finish_reason"] is None for event in events for choice in event.get("choices", ()))
    thinking = {"type": "enabled", "budget_tokens": 1024}
    asked = request("anthropic", stream=True, thinking=thinking, max_tokens=2000)
    assert text_of("anthropic", sent(asked, "broken_stream").events())
    config = {"thinkingConfig": {"includeThoughts": True, "thinkingBudget": 512}}
    path = f"{DEVELOPER.replace('2.0', '2.5')}:streamGenerateContent"
    asked = request("gemini", stream=True, generationConfig=config)
    asked = ReceivedRequest(method="POST", path=path, query="alt=sse", body=asked.body)
    parts = [part for event in sent(asked, "broken_stream").events()[:-1] for part in parts_of(event)]
    assert parts[0].get("thought") is True
    assert "thought" not in parts[-1]


def parts_of(event: Any) -> list[dict[str, Any]]:
    return [part for candidate in event["candidates"] for part in candidate["content"]["parts"]]


def test_a_broken_stream_may_break_a_call_of_a_tool() -> None:
    tool = {"type": "function", "function": {"name": "hello", "parameters": SCHEMA}}
    *before, error = sent(request("openai", stream=True, tools=[tool]), "broken_stream").events()
    arguments = [
        call["function"]["arguments"] for one in before for call in one["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert arguments
    assert error["error"]
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads("".join(arguments))


@pytest.mark.parametrize("name", ["overloaded_stream", "broken_stream"])
@every_dialect
def test_who_does_not_stream_is_told_of_an_overload_too(name: str, dialect: str) -> None:
    answer = sent(request(dialect), name)
    assert answer.status == LATE[dialect]
    assert error_of(dialect, answer.json())[0] == OVERLOADED[dialect]


# ---------------------------------------------------------------------------------------------------- on the way


@every_dialect
@every_way
def test_a_hang_sends_nothing_and_ends_at_last(dialect: str, stream: bool) -> None:
    answer = sent(request(dialect, stream), "hang")
    assert answer.plan.steps == [(600.0, b"")]
    assert (answer.plan.ending, answer.plan.is_cut, answer.stats["failed"]) == ("close", True, 1)
    assert sent(request(dialect, stream), "hang", hang_seconds=2).plan.steps == [(2, b"")]


@every_dialect
@every_way
def test_a_drip_sends_the_answer_byte_by_byte_for_minutes(dialect: str, stream: bool) -> None:
    answer, whole = sent(request(dialect, stream), "drip"), sent(request(dialect, stream), None)
    assert answer.body == whole.body
    head, *body = answer.plan.steps
    assert head[1].endswith(b"\r\n\r\n")
    assert {len(data) for _, data in body} == {1}
    assert max(pause for pause, _ in body) < 1
    assert sum(pause for pause, _ in body) > 120


@every_dialect
@every_way
def test_a_reset_comes_in_the_middle_of_the_body(dialect: str, stream: bool) -> None:
    answer, whole = sent(request(dialect, stream), "reset"), sent(request(dialect, stream), None)
    assert answer.plan.ending == "reset"
    every_byte = b"".join(data for _, data in whole.plan.steps)
    assert every_byte.startswith(b"".join(data for _, data in answer.plan.steps))
    assert 0 < len(answer.body) < len(every_byte.partition(b"\r\n\r\n")[2])


@every_dialect
@every_way
def test_truncated_json_calls_itself_whole(dialect: str, stream: bool) -> None:
    answer, whole = sent(request(dialect, stream), "truncated_json"), sent(request(dialect, stream), None)
    assert (answer.status, answer.plan.ending, answer.plan.is_cut) == (200, "keep", False)
    assert whole.body.startswith(answer.body)
    assert 0 < len(answer.body) < len(whole.body)
    if stream:
        last = answer.events()[-1]
        assert isinstance(last, str)
        assert last.startswith("{")
    else:
        assert int(answer.headers["content-length"]) == len(answer.body)
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            answer.json()


@every_dialect
@every_way
def test_a_page_and_nothing_come_as_if_all_were_well(dialect: str, stream: bool) -> None:
    page = sent(request(dialect, stream), "html")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.body.startswith(b"<!DOCTYPE html>")
    nothing = sent(request(dialect, stream), "empty")
    assert (nothing.status, nothing.headers["content-length"], nothing.body) == (200, "0", b"")


@every_dialect
@every_way
def test_a_slow_close_sends_all_at_once_and_ends_later(dialect: str, stream: bool) -> None:
    answer, whole = sent(request(dialect, stream, query="alt=sse"), "slow_close"), sent(request(dialect, stream), None)
    (at_once, everything), last = answer.plan.steps
    assert (at_once, last) == (0.0, (SLOW_CLOSE_SECONDS, b""))
    assert everything.partition(b"\r\n\r\n")[2] == whole.body
    assert answer.plan.ending == "close"
    assert answer.headers["connection"] == "close"
    assert not {"content-length", "transfer-encoding"} & set(answer.headers)


# ---------------------------------------------------------------------------------------------------- endings


def ending(dialect: str, body: Any) -> tuple[str, str]:
    """Why an answer ends, and its text."""
    if dialect == "openai":
        return body["choices"][0]["finish_reason"], body["choices"][0]["message"]["content"]
    if dialect == "anthropic":
        return body["stop_reason"], "".join(block.get("text", "") for block in body["content"])
    return body["candidates"][0]["finishReason"], text_of("gemini", [body])


def streamed_ending(dialect: str, events: list[Any]) -> str:
    if dialect == "openai":
        return [choice["finish_reason"] for event in events[:-1] for choice in event["choices"]][-1]
    if dialect == "anthropic":
        return next(event["delta"]["stop_reason"] for event in events if event["type"] == "message_delta")
    return events[-1]["candidates"][0]["finishReason"]


CUT = {"openai": "length", "anthropic": "max_tokens", "gemini": "MAX_TOKENS", "vertex": "MAX_TOKENS"}
FILTERED = {"openai": "content_filter", "anthropic": "refusal", "gemini": "SAFETY", "vertex": "SAFETY"}


@every_dialect
def test_a_length_stop_cuts_the_text(dialect: str) -> None:
    _, whole = ending(dialect, sent(request(dialect), None).json())
    reason, text = ending(dialect, sent(request(dialect), "length").json())
    assert reason == CUT[dialect]
    assert whole.startswith(text)
    assert 0 < len(text) < len(whole)
    events = sent(request(dialect, stream=True), "length").events()
    assert (streamed_ending(dialect, events), text_of(dialect, events)) == (reason, text)


def test_a_length_stop_spares_the_thought_and_cuts_what_follows() -> None:
    body = sent(request("openai", enable_thinking=True), "length").json()
    message = body["choices"][0]["message"]
    assert message["reasoning_content"].endswith("so a short answer will do.")
    assert message["content"]
    tool = {"type": "function", "function": {"name": "hello", "parameters": SCHEMA}}
    body = sent(request("openai", tools=[tool]), "length").json()
    assert body["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("limit", [1, 2])
def test_a_length_stop_holds_for_the_shortest_answers(limit: int) -> None:
    body = sent(request("openai", max_tokens=limit), "length").json()
    assert body["choices"][0]["finish_reason"] == "length"


@every_dialect
def test_a_refusal_ends_as_the_dialect_says_it(dialect: str) -> None:
    assert ending(dialect, sent(request(dialect), "refusal").json()) == (FILTERED[dialect], "")
    events = sent(request(dialect, stream=True), "refusal").events()
    assert (streamed_ending(dialect, events), text_of(dialect, events)) == (FILTERED[dialect], "")


def test_a_refusal_gives_its_reason_where_there_is_a_place_for_it() -> None:
    details = sent(request("anthropic"), "refusal").json()["stop_details"]
    assert (details["type"], details["category"]) == ("refusal", "general_harms")
    assert details["explanation"]
    rating = sent(request("gemini"), "refusal").json()["candidates"][0]["safetyRatings"][0]
    assert rating["blocked"] is True
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    choice = sent(request("openai", response_format=wanted), "refusal").json()["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", None)
    assert choice["message"]["refusal"] == "I'm sorry, but I can't help with that."
    events = sent(request("openai", stream=True, response_format=wanted), "refusal").events()
    said = [choice["delta"].get("refusal") or "" for event in events[:-1] for choice in event["choices"]]
    assert "".join(said) == choice["message"]["refusal"]


# ---------------------------------------------------------------------------------------------------- shares


def struck(responder: Responder, count: int = 200) -> list[int]:
    return [responder.answer(request("openai"))[0].status for _ in range(count)]


def test_shares_of_the_requests_are_struck_as_the_seed_has_it() -> None:
    faults = "rate_limited:0.2, server_error:0.1"
    runs = [struck(Responder(MockOptions(faults=faults, seed=seed), None)) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert 20 <= runs[0].count(429) <= 60
    assert 8 <= runs[0].count(500) <= 35
    as_mapping = MockOptions(faults={"rate_limited": 0.2, "server_error": 0.1}, seed=1)
    assert struck(Responder(as_mapping, None)) == runs[0]


def test_shares_that_are_all_leave_nothing() -> None:
    responder = Responder(MockOptions(faults={"server_error": 0.3, "unavailable": 0.7}), None)
    assert set(struck(responder)) == {500, 503}


def test_no_fault_is_spent_on_a_request_that_is_wrong_by_itself() -> None:
    one, two = (Responder(MockOptions(faults="server_error:0.5"), None) for _ in range(2))
    expected = struck(one, 20)
    found = []
    for _ in range(20):
        wrong = ReceivedRequest(method="POST", path="/v1/chat/completions", body=b"{")
        assert two.answer(wrong)[0].status == 400
        listed = ReceivedRequest(method="GET", path="/v1/models")
        assert two.answer(listed)[0].status == 200
        found.append(two.answer(request("openai"))[0].status)
    assert found == expected


def test_faults_leave_the_sequence_of_failures_as_it_was() -> None:
    failed = struck(Responder(MockOptions(error_rate=0.3, error_status=503, seed=5), None))
    both = struck(Responder(MockOptions(error_rate=0.3, error_status=503, faults="server_error:0.2", seed=5), None))
    assert 500 in both
    assert [one for one in zip(both, failed, strict=True) if one[0] != 500 and one[0] != one[1]] == []


def test_failures_leave_the_sequence_of_faults_as_it_was() -> None:
    alone = struck(Responder(MockOptions(faults="server_error:0.3", seed=5), None))
    both = struck(Responder(MockOptions(error_rate=0.3, error_status=503, faults="server_error:0.3", seed=5), None))
    assert 503 in both
    assert [status == 500 for status in both] == [status == 500 for status in alone]


def test_a_delay_comes_before_a_fault_too() -> None:
    responder = Responder(MockOptions(faults="server_error:1", delay=3), None)
    assert responder.answer(request("openai"))[1].steps[0][0] == 3


def test_a_reset_begins_the_faults_again() -> None:
    responder = Responder(MockOptions(faults="server_error:0.5"), None)
    before = struck(responder, 30)
    assert responder.ledger.stats()["faults"] == {"server_error": before.count(500)}
    responder.reset()
    assert responder.ledger.stats()["faults"] == {}
    assert struck(responder, 30) == before


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ("hangs:0.1", "no fault 'hangs'; there are: rate_limited, "),
        ("hang", "'hang' is not a fault and its share"),
        ("hang:", "'hang:' is not"),
        ("hang:lots", "'hang:lots' is not"),
        ("hang:1.5", "share of the fault 'hang' is 1.5; allowed: 0 to 1"),
        ("hang:-0.1", "allowed: 0 to 1"),
        ("hang:nan", "allowed: 0 to 1"),
        ("hang:0.1,hang:0.2", "'hang' is given twice"),
        ("hang:0.6,reset:0.6", "1.2 together; allowed: at most 1"),
        ({"hang": "0.1"}, "is '0.1'; allowed"),
        ({"hang": True}, "is True; allowed"),
        ({"hang": None}, "is None; allowed"),
        ({3: 0.1}, "no fault '3'"),
        (None, "faults is None; allowed: a mapping or a text"),
        (["hang"], "allowed: a mapping or a text"),
    ],
)
def test_wrong_shares_are_refused_with_one_sentence(faults: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        MockOptions(faults=faults)


def test_shares_may_be_spelt_with_blanks_and_miss_the_whole_by_a_rounding() -> None:
    assert parse_shares(" hang : 0.1 , , reset:1e-1,") == {"hang": 0.1, "reset": 0.1}
    assert parse_shares("") == {}
    beyond = {"hang": 0.7, "reset": 0.30000000001}
    assert sum(beyond.values()) > 1
    assert parse_shares(beyond) == beyond


def test_the_command_line_names_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["mock", "--help"])
    help_text = " ".join(capsys.readouterr().out.split())
    named = re.search(r"There are ([a-z_, ]+) and ([a-z_]+)\.", help_text)
    assert named is not None
    assert [*named[1].split(", "), named[2]] == list(FAULTS)


def test_a_fault_strikes_what_is_no_chat_in_its_own_way() -> None:
    listed = ReceivedRequest(method="GET", path="/v1/models")
    assert sent(listed, "unavailable").status == 503
    assert 0 < len(sent(listed, "truncated_json").body) < len(sent(listed, None).body)
    assert sent(listed, "refusal").body == sent(listed, None).body
    assert sent(listed, "unavailable").stats["statuses"] == {}  # these count chat requests
