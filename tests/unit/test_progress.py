"""What a batch shows: a bar on a terminal, a line now and then elsewhere, nothing when that is asked."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import struct
import termios

import pytest
from fakes import FakeClock

from flexllm.batch.progress import (
    PLAIN_SECONDS,
    REDRAW_SECONDS,
    Progress,
    ProgressOptions,
    Tally,
    describe,
    describe_cost,
    describe_endpoints,
    make_progress,
    short_number,
)
from flexllm.errors import AllEndpointsFailed, InputError, RateLimited, ServerError
from flexllm.health import EndpointHealth


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(Terminal):
    """A terminal that was closed, or a pipe whose reader has left."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


def shown_on(stream: io.StringIO, clock: FakeClock | None = None, **options: bool) -> Progress:
    return make_progress(ProgressOptions(**options), stream, clock or FakeClock())


# --- plain lines


def test_a_log_gets_a_line_every_so_often() -> None:
    stream, clock, tally = io.StringIO(), FakeClock(), Tally(total=2_000)
    progress = shown_on(stream, clock)
    for second in range(1, 25):
        clock.advance(1.0)
        tally.success = 50 * second
        progress.update(tally)
    assert PLAIN_SECONDS == 10.0
    assert stream.getvalue().splitlines() == [
        "500/2,000 in 10 s, 50.0 req/s",
        "1,000/2,000 in 20 s, 50.0 req/s",
    ]


def test_a_log_gets_the_last_state() -> None:
    stream, clock = io.StringIO(), FakeClock()
    progress = shown_on(stream, clock)
    progress.update(Tally(total=4, success=3, failed=1))
    clock.advance(2.0)
    progress.close()
    assert stream.getvalue() == "4/4 in 2 s, 2.0 req/s, 1 failed\n"


def test_a_run_in_which_nothing_happened_prints_nothing() -> None:
    stream = io.StringIO()
    shown_on(stream).close()
    assert stream.getvalue() == ""


def test_a_pipe_has_no_total() -> None:
    stream, clock = io.StringIO(), FakeClock()
    progress = shown_on(stream, clock)
    progress.update(Tally(success=12))
    clock.advance(4.0)
    progress.close()
    assert stream.getvalue() == "12 done in 4 s, 3.0 req/s\n"


def test_sentences_are_lines_of_their_own_without_control_characters() -> None:
    stream = io.StringIO()
    progress = shown_on(stream)
    progress.say("first RateLimited, in row 3: slow down")
    progress.say("something else")
    assert stream.getvalue() == "first RateLimited, in row 3: slow down\nsomething else\n"


def test_control_characters_of_a_server_do_not_reach_the_log() -> None:
    stream = io.StringIO()
    shown_on(stream).say("first ServerError: \x1b[31mred\x07 and\rback")
    assert stream.getvalue() == "first ServerError: \\x1b[31mred\\x07 and\\x0dback\n"


# --- who else is told


class Witness:
    def __init__(self) -> None:
        self.heard: list[object] = []

    def begin(self, tally: Tally) -> None:
        self.heard.append(("begin", tally.total))

    def update(self, tally: Tally) -> None:
        self.heard.append(("update", tally.done))

    def say(self, text: str) -> None:
        self.heard.append(text)

    def close(self) -> None:
        self.heard.append("close")


@pytest.mark.parametrize("show", [True, False])
def test_others_are_told_whatever_is_shown(show: bool) -> None:
    stream, witness = io.StringIO(), Witness()
    progress = make_progress(ProgressOptions(show=show, also=(witness,)), stream, FakeClock())
    progress.begin(Tally(total=2))
    progress.update(Tally(total=2, success=1))
    progress.say("one failed")
    progress.close()
    assert witness.heard == [("begin", 2), ("update", 1), "one failed", "close"]
    assert bool(stream.getvalue()) is show


def test_a_beginning_shows_nothing() -> None:
    stream = io.StringIO()
    shown_on(stream).begin(Tally(total=5))
    shown_on(terminal := Terminal()).begin(Tally(total=5))
    assert stream.getvalue() == terminal.getvalue() == ""


# --- the bar


def test_a_terminal_gets_a_bar_with_done_and_total() -> None:
    stream, clock = Terminal(), FakeClock()
    progress = shown_on(stream, clock, tokens=True)
    progress.update(Tally(total=10, success=3, failed=1, retries=2, prompt_tokens=12_000, completion_tokens=345))
    last = stream.getvalue().split("\r")[-1]
    assert "4/10" in last
    assert "12.3k tokens, 2 retries, 1 failed" in last
    progress.close()
    assert stream.getvalue().endswith("\n")


def test_the_bar_is_not_drawn_for_every_row() -> None:
    stream, clock, tally = Terminal(), FakeClock(), Tally(total=10_000)
    progress = shown_on(stream, clock)
    progress.update(tally)
    drawn = len(stream.getvalue())
    for row in range(1_000):
        clock.advance(REDRAW_SECONDS / 2_000)
        tally.success = row
        progress.update(tally)
    assert len(stream.getvalue()) == drawn
    clock.advance(REDRAW_SECONDS)
    progress.update(tally)
    assert "999/10000" in stream.getvalue()[drawn:]
    progress.close()


def test_a_bar_of_a_pipe_counts_without_a_total() -> None:
    stream = Terminal()
    progress = shown_on(stream)
    progress.update(Tally(success=17))
    assert "17row" in stream.getvalue()
    progress.close()


def test_sentences_stand_above_the_bar() -> None:
    stream = Terminal()
    progress = shown_on(stream)
    progress.update(Tally(total=10, success=3))
    progress.say("first RateLimited, in row 3: slow down")
    progress.close()
    assert "\rfirst RateLimited, in row 3: slow down\n" in stream.getvalue()
    assert stream.getvalue().rstrip().split("\r")[-1].lstrip().startswith("30%")


def test_a_sentence_before_the_first_row_draws_no_bar() -> None:
    stream = Terminal()
    progress = shown_on(stream)
    progress.say("out.jsonl: the last line was torn and is cut off")
    assert stream.getvalue() == "out.jsonl: the last line was torn and is cut off\n"
    progress.close()


def test_a_run_that_never_began_draws_no_bar() -> None:
    stream = Terminal()
    shown_on(stream).close()
    assert stream.getvalue() == ""


def test_the_rate_of_the_bar_is_that_of_this_run() -> None:
    stream = Terminal()
    progress = shown_on(stream)
    progress.update(Tally(total=1_000_000, success=500_000, resumed=500_000))
    assert "500,000 resumed" in stream.getvalue()
    assert "row/s" not in stream.getvalue().replace("?row/s", "")
    progress.close()


# --- a notebook


class OutStream(io.StringIO):
    """Standard error of a notebook: no terminal, but what is written behind a carriage return takes the line's place."""

    encoding = "UTF-8"  # type: ignore[assignment]

    @property
    def lines(self) -> list[str]:
        """What the notebook shows in the end."""
        return [line.split("\r")[-1].rstrip() for line in self.getvalue().split("\n")]


OutStream.__module__ = "ipykernel.iostream"


def test_a_notebook_gets_a_bar_that_ends_as_one_line() -> None:
    stream, clock = OutStream(), FakeClock()
    progress = shown_on(stream, clock, cost=True)
    for done in range(1, 101):
        clock.advance(REDRAW_SECONDS)
        progress.update(Tally(total=100, success=done, cost=done / 1_000))
    progress.close()
    assert stream.getvalue().count("\r") > 50
    line, end = stream.lines
    assert (line[:25], end) == ("100%|██████████| 100/100 ", "")
    assert line.endswith("💰 $0.1000]")


def test_sentences_in_a_notebook_stand_above_the_bar() -> None:
    stream, clock = OutStream(), FakeClock()
    progress = shown_on(stream, clock)
    progress.update(Tally(total=2, success=1))
    progress.say("first RateLimited, in row 1: slow down")
    clock.advance(REDRAW_SECONDS)
    progress.update(Tally(total=2, success=2))
    progress.close()
    first, line, end = stream.lines
    assert (first, line[:4], end) == ("first RateLimited, in row 1: slow down", "100%", "")


def test_the_bar_of_a_notebook_is_short_whatever_terminal_its_server_has() -> None:
    master, slave = os.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 80, 300, 0, 0))
        stream = OutStream()
        stream.fileno = lambda: slave  # type: ignore[method-assign]
        progress = shown_on(stream)
        progress.update(Tally(total=2, success=1))
        progress.close()
    finally:
        os.close(master)
        os.close(slave)
    assert max(map(len, stream.lines)) < 80


# --- what was learned of the endpoints


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_endpoints_are_asked_how_they_do_only_when_a_line_is_drawn(stream: io.StringIO) -> None:
    clock, tally, asked = FakeClock(), Tally(total=10_000), []

    def health() -> list[EndpointHealth]:
        asked.append(clock.now)
        return [EndpointHealth(place="http://a", learned=41.0, rate=38.2)]

    progress = make_progress(ProgressOptions(), stream, clock, health)
    clock.advance(PLAIN_SECONDS)
    progress.update(tally)
    assert len(asked) == 1
    for row in range(1_000):
        clock.advance(REDRAW_SECONDS / 2_000)
        tally.success = row
        progress.update(tally)
    assert len(asked) == 1
    progress.close()
    assert len(asked) == 2
    assert "limit 38.2 req/s" in stream.getvalue().splitlines()[-1]


def test_nobody_asks_for_endpoints_that_are_not_shown() -> None:
    progress = make_progress(ProgressOptions(show=False), health=lambda: pytest.fail("asked"))
    progress.update(Tally(success=1))
    progress.close()


def endpoints(*states: str, **fields: float | None) -> list[EndpointHealth]:
    return [EndpointHealth(place="http://a", state=state, **fields) for state in states]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ([], ""),
        (endpoints("ready"), ""),
        (endpoints("ready", rate=50.0), ""),  # as set, not as learned
        (endpoints("ready", rate=38.24, learned=41.0), "limit 38.2 req/s"),
        (endpoints("waiting", rate=None, learned=41.0), "limit 41.0 req/s"),
        (endpoints("cooling"), ""),
        (endpoints("ready", "waiting", rate=38.0, learned=41.0), ""),
        (endpoints("ready", "waiting", "cooling"), "2 of 3 endpoints"),
        (endpoints("probing", "cooling"), "0 of 2 endpoints"),
    ],
)
def test_endpoints_are_told_of_once_they_do_not_just_answer(known: list[EndpointHealth], text: str) -> None:
    assert describe_endpoints(known) == text


def test_what_was_learned_stands_behind_the_rate() -> None:
    known = endpoints("ready", rate=40.0, learned=41.0)
    tally = Tally(success=30, retries=1)
    assert describe(tally, 1.0, ProgressOptions(), known) == "30.0 req/s, limit 40.0 req/s, 1 retry"
    assert describe(tally, 1.0, ProgressOptions(), known, rate=False) == "limit 40.0 req/s, 1 retry"


# --- silence


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_nothing_is_shown_where_that_is_asked(stream: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    progress = shown_on(stream, show=False)
    progress.update(Tally(total=4, success=4))
    with caplog.at_level(logging.WARNING):
        progress.say("a sentence goes to the log")
    progress.close()
    assert stream.getvalue() == ""
    assert caplog.messages == ["a sentence goes to the log"]


def test_a_process_without_standard_error_is_served_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    progress = make_progress(ProgressOptions())
    progress.update(Tally(success=1))
    progress.close()


# --- a stream that fails ends no batch


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_reader_that_has_gone_ends_no_batch(is_terminal: bool) -> None:
    clock = FakeClock()
    progress = shown_on(Gone(is_terminal=is_terminal), clock)
    for done in range(1, 5):
        clock.advance(20.0)
        progress.update(Tally(total=9, success=done))
        progress.say("a sentence")
    progress.close()


def test_a_closed_stream_ends_no_batch() -> None:
    stream = io.StringIO()
    progress = shown_on(stream)
    stream.close()
    progress.update(Tally(success=1))
    progress.say("a sentence")
    progress.close()


def test_a_stream_that_knows_ascii_alone_ends_no_batch() -> None:
    with open(os.devnull, "w", encoding="ascii") as stream:
        progress = make_progress(ProgressOptions(), stream, FakeClock())
        progress.say("the answer was: 你好 — \ud83d")
        progress.update(Tally(success=1))
        progress.close()


# --- words


def test_details_name_what_there_is() -> None:
    tally = Tally(success=30, failed=2, resumed=12, retries=1, prompt_tokens=900, completion_tokens=50)
    assert describe(tally, 10.0, ProgressOptions()) == "2.0 req/s, 12 resumed, 1 retry, 2 failed"
    assert (
        describe(tally, 10.0, ProgressOptions(tokens=True), rate=False) == "12 resumed, 950 tokens, 1 retry, 2 failed"
    )
    assert describe(Tally(), 0.0, ProgressOptions(tokens=True)) == ""


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (950, "950"), (9_999, "9,999"), (12_345, "12.3k"), (4_500_000, "4.5M")]
)
def test_numbers_are_written_as_people_read_them(number: int, text: str) -> None:
    assert short_number(number) == text


def test_a_tally_tells_what_this_run_did() -> None:
    tally = Tally(success=7, failed=3, resumed=4, prompt_tokens=2, completion_tokens=3)
    assert (tally.done, tally.asked, tally.total_tokens) == (10, 6, 5)


# --- errors


def test_a_tally_keeps_the_first_failed_rows_of_each_class() -> None:
    tally = Tally()
    for row in range(5):
        first = tally.count_error(RateLimited(f"slow {row}", status=429, attempts=4, request_id=f"req_{row}"), row)
        assert first is (row == 0)
    assert tally.count_error(InputError("no such picture"), 7) is True
    assert (tally.failed, tally.retries, tally.errors_by_class) == (6, 15, {"RateLimited": 5, "InputError": 1})
    assert tally.errors() == {
        "RateLimited": {
            "count": 5,
            "examples": [{"row": row, "message": f"slow {row}", "request_id": f"req_{row}"} for row in range(3)],
        },
        "InputError": {
            "count": 1,
            "examples": [{"row": 7, "message": "no such picture", "request_id": None}],
        },
    }


def test_a_pools_error_is_known_by_its_last_request() -> None:
    tally = Tally()
    errors = [RateLimited("slow", request_id="req_1"), ServerError("oops", request_id="req_2")]
    tally.count_error(AllEndpointsFailed("both", errors=errors, attempts=3), 0)
    tally.count_error(AllEndpointsFailed("none"), 1)
    assert tally.retries == 2
    examples = tally.errors()["AllEndpointsFailed"]["examples"]
    assert [example["request_id"] for example in examples] == ["req_2", None]


@pytest.mark.parametrize(
    ("cost", "unpriced", "told"),
    [
        (None, 0, ""),
        (None, 3, "💰 price unknown"),
        (0.0012, 0, "💰 $0.0012"),
        (0.0012, 1, "💰 $0.0012 and 1 row of unknown price"),
        (12.5, 1_200, "💰 $12.50 and 1,200 rows of unknown price"),
    ],
)
def test_a_cost_is_told_as_far_as_prices_are_known(cost: float | None, unpriced: int, told: str) -> None:
    assert describe_cost(cost, unpriced) == told
