"""What notebooks show of answers, batches and costs: everything as letters, in a bounded size."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from generated import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm import BatchResult, BatchResultItem, ChatCompletionResult, CostReport, RateLimited, ToolCall, Usage
from flexllm.controls import without_controls
from flexllm.cost import CostLine
from flexllm.markup import MOST_LETTERS, MOST_ROWS

USAGE = Usage(prompt_tokens=1200, completion_tokens=340, total_tokens=1540, reasoning_tokens=300)
TAGS = {"div", "style", "p", "b", "span", "details", "summary", "table", "thead", "tbody", "tr", "th", "td"}
ATTRIBUTES = {"class", "dir"}


class Page(HTMLParser):
    """Reads a page, and complains of what is not to be on one: foreign tags and attributes, tags that are not closed."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.html: str = value._repr_html_()
        self.feed(self.html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert {name for name, _value in attrs} <= ATTRIBUTES
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def batch(items: list[BatchResultItem], **summary: Any) -> BatchResult[Any]:
    return BatchResult([item.content for item in items], items, summary)


def answered(index: int, text: str = "yes") -> BatchResultItem:
    return BatchResultItem(index, text, USAGE)


# --- an answer


def test_an_answer_is_shown_with_what_it_took() -> None:
    page = Page(
        ChatCompletionResult("One\nTwo", USAGE, model="gpt-6-luna", cost=0.00123, latency=1.234, finish_reason="stop")
    )
    assert page.texts == [
        "One\nTwo",
        "gpt-6-luna · 1,200 input and 340 output tokens (300 thinking) · $0.0012 · 1.23 s",
    ]


def test_thinking_is_folded() -> None:
    page = Page(ChatCompletionResult("42", reasoning_content="Let me see."))
    assert page.texts == ["Thinking (11 characters)", "Let me see.", "42"]
    assert "<details><summary>" in page.html


def test_calls_of_tools_are_shown_with_their_letters() -> None:
    calls = [
        ToolCall("1", "function", {"name": "weather", "arguments": '{"city": "\\u4e1c\\u4eac"}'}),
        ToolCall("2", "custom", {"name": "shell", "arguments": "ls -l <x>"}),
        ToolCall("3", "function", {"name": "cut", "arguments": '{"city": "'}),
        ToolCall("4", "function", {}),
    ]
    page = Page(ChatCompletionResult("", tool_calls=calls, finish_reason="tool_calls"))
    assert page.texts == ['weather({"city": "东京"})', "shell(ls -l <x>)", 'cut({"city": ")', "()"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "The answer is empty."),
        ({"cached": True, "cost": 0.0, "latency": 1.0}, "from the cache"),
        ({"finish_reason": "length"}, "finish_reason length"),
        ({"usage": {"prompt_tokens": 3}}, "3 input and 0 output tokens"),  # type: ignore[dict-item]
        ({"usage": {"prompt_tokens": None, "other": []}}, "The answer is empty."),
        ({"content": None}, "The answer is empty."),
        ({"content": "a\r\nb\tc\r"}, "a\nb\tc\\x0d"),
        ({"content": "half \ud83d, \x00, \x1b[31m, \u2028"}, "half \\ud83d, \\x00, \\x1b[31m, \\u2028"),
    ],
)
def test_whatever_an_answer_lacks_or_holds_is_shown(fields: dict[str, Any], words: str) -> None:
    page = Page(ChatCompletionResult(**{"content": "", **fields}))
    assert words in page.text
    page.html.encode()


def test_a_long_answer_is_cut_and_says_so() -> None:
    page = Page(ChatCompletionResult("é" * 1_000_000, reasoning_content='"' * 1_000_000))
    assert len(page.html) < 8 * MOST_LETTERS
    assert page.text.count("980,000 more characters are not shown; they are in") == 2
    calls = [ToolCall(str(number), "function", {"name": "f", "arguments": "&" * 100_000}) for number in range(1_000)]
    page = Page(ChatCompletionResult("", tool_calls=calls))
    assert len(page.html) < 500_000
    assert "and 980 more calls" in page.text


# --- a batch


def test_a_batch_is_shown_by_its_counts_and_first_rows() -> None:
    items = [
        answered(0, "Line one\n  and two"),
        BatchResultItem(1, "known", USAGE, "cached"),
        BatchResultItem(2, status="error", error=RateLimited("slow <down>")),
    ]
    page = Page(
        batch(items, total=5, success=2, failed=1, cached=1, resumed=0, elapsed=41.26, total_tokens=3080, cost=1.5,
              unpriced=1, stopped=None, errors={"RateLimited": {"count": 1, "examples": []}})
    )  # fmt: skip
    assert page.texts[0] == "5 rows: 2 answered, 1 failed, 2 not asked"
    assert page.texts[1] == "1 from the cache · 3,080 tokens · $1.50 · price unknown for 1 row · 41.3 s"
    assert page.rows == [
        ["row", "status", "output"],
        ["0", "success", "Line one\n  and two"],
        ["1", "cached", "known"],
        ["2", "error", "RateLimited: slow <down>"],
    ]


def test_errors_behind_the_first_rows_are_shown_by_class() -> None:
    errors = {f"Kind{number}": {"count": 7, "examples": [{"row": 500, "message": "<x>"}]} for number in range(9)}
    page = Page(batch([answered(index) for index in range(1_000)], total=1_000, success=937, failed=63, errors=errors))
    assert page.rows[11:13] == [["error", "rows", "first row", "message"], ["Kind0", "7", "500", "<x>"]]
    assert len(page.rows) == 11 + 6
    assert "and 990 more rows" in page.text
    assert "and 4 more rows" in page.text


def test_why_a_batch_stopped_is_said() -> None:
    page = Page(batch([answered(0)], total=9, success=1, stopped="the budget of $1.00 is spent", cost=None))
    assert "Stopped: the budget of $1.00 is spent" in page.text
    assert "price unknown" in page.text


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_batch_without_a_summary_is_shown(rows: int) -> None:
    page = Page(batch([answered(index) for index in range(rows)]))
    assert page.texts[0] == f"{rows} row{'' if rows == 1 else 's'}"


def test_a_batch_of_a_million_rows_is_as_short_as_one_of_ten() -> None:
    page = Page(batch([answered(0, "&" * 1_000_000)] * 1_000_000, total=1_000_000, success=1_000_000))
    assert len(page.html) < 40_000
    assert "and 999,990 more rows" in page.text


# --- costs


def test_a_cost_report_of_many_models_is_cut() -> None:
    shares = {f"model-{number}": CostLine(1.0, 1, 1, 1) for number in range(10_000)}
    page = Page(CostReport(1.0, 1, 1, 1, by_model=shares))
    assert len(page.rows) == 1 + MOST_ROWS
    assert "and 9,950 more rows" in page.text


# --- all of them

HOSTILE = st.text(max_size=60) | st.text(
    alphabet="<>&\"'/=!-? \n\r\t\x00\x1b\u202e\u2066\u05d0\ud800;#xscriptyle", max_size=60
)


def spelled_out(text: str) -> str:
    """A text as it is to be read: what steers, and half letters, by their numbers."""
    return re.sub(
        "[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", without_controls(text.replace("\r\n", "\n"))
    )


def values(text: str) -> list[Any]:
    call = ToolCall(text, "custom", {"name": text, "arguments": text})
    answer = ChatCompletionResult(
        text, USAGE, text, [call], finish_reason=text or None, model=text, latency=0.1, cost=0.1
    )
    failed = BatchResultItem(1, status="error", error=RateLimited(text))
    errors = {text: {"count": 2, "examples": [{"row": 1, "message": text}]}}
    line = CostLine(0.5, 1, 2, 3)
    return [
        answer,
        batch([answered(0, text), failed], total=3, success=1, failed=2, stopped=text, errors=errors),
        CostReport(0.5, 1, 2, 3, text, by_model={text: line}, by_endpoint={text: line}),
    ]


@settings(max_examples=examples(300))
@given(HOSTILE)
def test_whatever_is_said_is_shown_as_letters(text: str) -> None:
    for value in values(text):
        page = Page(value)  # no tag and no attribute comes from the text
        page.html.encode()
        if not isinstance(value, CostReport):  # names are put on one line, and cut
            assert spelled_out(text) in page.text


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "</div></style><script>x</script>", "<!--", "<img src=x onerror=alert(1)>", "&lt;b&gt;",
     "]]>", "javascript:alert(1)", "' onclick='x", "<style>*{display:none}</style>"],
)  # fmt: skip
def test_markup_of_a_model_stays_letters(text: str) -> None:
    for value in values(text):
        assert text in Page(value).text


@pytest.mark.parametrize("value", values("x"), ids=lambda value: type(value).__name__)
def test_a_page_brings_no_colours_of_its_own_and_fetches_nothing(value: Any) -> None:
    html = Page(value).html
    assert not re.search(r"url\(|@import|http|background:(?!none)|[^-]color:(?!inherit|var)", html)
