"""The report of what a run cost: its numbers, as JSON, as text for people, and as a table in a notebook."""

from __future__ import annotations

import json
import pickle
from html.parser import HTMLParser

import pytest

from flexllm import CostReport
from flexllm.cost import CostLine, dollars

SIMPLE = CostReport(0.0123, 12_345, 6_789, 100, "gpt-6-luna")


def test_the_fields_of_old_stand_in_their_order() -> None:
    assert (
        CostReport(
            total_cost=0.0123,
            total_input_tokens=12_345,
            total_output_tokens=6_789,
            request_count=100,
            model="gpt-6-luna",
        )
        == SIMPLE
    )
    with pytest.raises(TypeError):
        CostReport(0.0, 0, 0, 0, "", 5)  # type: ignore[misc]


def test_sums_and_averages() -> None:
    assert SIMPLE.total_tokens == 19_134
    assert SIMPLE.avg_cost_per_request == pytest.approx(0.000123)
    assert (SIMPLE.avg_input_tokens, SIMPLE.avg_output_tokens) == (123.45, 67.89)


def test_averages_of_nothing_are_zero() -> None:
    empty = CostReport()
    assert (empty.avg_cost_per_request, empty.avg_input_tokens, empty.avg_output_tokens) == (0.0, 0.0, 0.0)
    assert (empty.total_cost, empty.total_tokens) == (0.0, 0)


FULL = CostReport(
    1.5,
    1000,
    500,
    100,
    cached_requests=25,
    failed_requests=0,
    unpriced_requests=12,
    estimated_cost=0.25,
    cached_tokens=400,
    cache_write_tokens=300,
    reasoning_tokens=200,
    by_model={"gpt-6-luna": CostLine(1.5, 88, 900, 400), "my-model": CostLine(None, 12, 100, 100, 12)},
    by_endpoint={"https://here/v1": CostLine(1.5, 100, 1000, 500, 12)},
    price_date="2026-11-22",
)


def test_a_summary_is_json_and_holds_every_field() -> None:
    summary = FULL.summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert {*summary} == {*CostReport.__dataclass_fields__, "total_tokens"}
    assert summary["total_tokens"] == 1500
    assert summary["by_model"]["my-model"] == {
        "cost": None, "requests": 12, "input_tokens": 100, "output_tokens": 100, "unpriced_requests": 12,
    }  # fmt: skip


def test_a_report_can_be_sent_to_another_process_and_is_a_value() -> None:
    assert pickle.loads(pickle.dumps(FULL)) == FULL
    assert hash(FULL) == hash(pickle.loads(pickle.dumps(FULL)))


# --- for people -------------------------------------------------------------------------------------------------------


def test_a_plain_report_is_one_line() -> None:
    assert str(SIMPLE) == "100 requests, 12,345 input and 6,789 output tokens (gpt-6-luna): $0.0123"
    assert str(CostReport(2.0, 1, 2, 1)) == "1 request, 1 input and 2 output tokens: $2.00"


def test_everything_that_is_to_be_known_of_the_numbers_is_said() -> None:
    assert str(FULL).splitlines() == [
        "100 requests, 1,000 input and 500 output tokens: $1.50",
        "price unknown for 12 of 100 requests (my-model); not in the sum",
        "$0.2500 of it is estimated: attempts that broke off, replies without token counts, rates that are not sure",
        "of the input 400 from the provider's cache and 300 written to it, of the output 200 thinking",
        "25 of 125 rows (20%) answered for nothing, by the cache or an equal row",
        "prices of 2026-11-22",
        "gpt-6-luna: 88 requests, 900 input and 400 output tokens, $1.50",
        "my-model: 12 requests, 100 input and 100 output tokens, price unknown",
    ]


def test_an_unknown_price_is_never_shown_as_nothing() -> None:
    unknown = CostReport(0.0, 100, 10, 12, "my-model", unpriced_requests=12, price_date="2026-11-22")
    assert str(unknown).splitlines() == [
        "12 requests, 100 input and 10 output tokens (my-model)",
        "price unknown for 12 of 12 requests (my-model); not in the sum",
    ]
    assert "$" not in unknown._repr_html_()


def test_answers_from_the_cache_alone_cost_nothing_and_say_so() -> None:
    text = str(CostReport(cached_requests=7, failed_requests=1))
    assert "$0.00" in text
    assert "7 of 8 rows (88%) answered for nothing" in text
    assert "1 failed" in text


def test_what_failed_attempts_cost_is_shown_though_no_answer_has_a_price() -> None:
    assert "$0.5000" in str(CostReport(0.5, 1, 1, 1, unpriced_requests=1))


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0.0, "$0.00"),
        (0.0012, "$0.0012"),
        (0.001, "$0.0010"),
        (0.00012, "$0.00012"),
        (0.0000034, "$0.0000034"),
        (1e-300, "$0.000000000000"),
        (0.5, "$0.5000"),
        (1.0, "$1.00"),
        (12.345, "$12.35"),
        (1234567.891, "$1,234,567.89"),
        (-0.25, "-$0.2500"),
    ],
)
def test_dollars_are_readable_at_every_size(amount: float, shown: str) -> None:
    assert dollars(amount) == shown


class _Page(HTMLParser):
    """Collects the text of each cell, and complains of tags that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [f"{name}={value}" for name, value in attrs]
        if tag == "br":
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def page(report: CostReport) -> _Page:
    found = _Page()
    found.feed(report._repr_html_())
    assert found.open == []
    return found


def test_a_notebook_shows_a_table_of_models_and_one_of_endpoints() -> None:
    shown = page(FULL)
    assert shown.rows == [
        ["model", "requests", "input tokens", "output tokens", "cost"],
        ["gpt-6-luna", "88", "900", "400", "$1.50"],
        ["my-model", "12", "100", "100", "price unknown"],
        ["endpoint", "requests", "input tokens", "output tokens", "cost"],
        ["https://here/v1", "100", "1,000", "500", "$1.50, 12 unpriced"],
    ]
    assert not any("color" in attribute or "background" in attribute for attribute in shown.attributes)


def test_a_notebook_shows_names_as_text_and_not_as_markup() -> None:
    evil = CostReport(1.0, 1, 1, 1, "<script>", by_model={"<img src=x>": CostLine(1.0, 1, 1, 1)})
    assert page(evil).rows[1][0] == "<img src=x>"
    assert "<script>" not in evil._repr_html_()


def test_a_long_name_does_not_break_the_line() -> None:
    report = CostReport(1.0, 1, 1, 1, "a\nb" + "x" * 500)
    assert len(str(report)) < 200
    assert "\n" not in str(report)
