"""HTML that notebooks show: small pieces, of which the values that have a `_repr_html_` put theirs together.

What a model wrote is shown as what it is, letters: nothing in it is markup, it cannot steer the page, and each piece has a
limit. The page's own font and colours are kept, for nobody knows whether it is light or dark: lines and quiet words are
translucent, and there is no background. No script, and nothing that a page would have to fetch. It is English, as all that
the library says to a program.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Sequence

from .controls import without_controls

MOST_LETTERS = 20_000
"""Of a text that stands in a box of its own, which is scrolled; a notebook file keeps all that it shows."""

MOST_ROWS = 50

_HALF = re.compile("[\ud800-\udfff]")

# An id outweighs whatever the page says of tables, as Jupyter and Sphinx do; that none has it does not matter.
_STYLE = """<style>
:is(.flexllm,#flexllm){color:inherit;line-height:1.5;max-width:64em;padding:.4em 0}
:is(.flexllm,#flexllm) p{margin:.25em 0}
:is(.flexllm,#flexllm) .text{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext;
max-height:30em;overflow:auto;scrollbar-width:thin;scrollbar-color:rgba(128,128,128,.5) transparent}
:is(.flexllm,#flexllm) .code{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.92em;margin:.5em 0}
:is(.flexllm,#flexllm) .quiet{opacity:.7;font-size:.9em}
:is(.flexllm,#flexllm) .bad{color:var(--jp-error-color1,var(--vscode-errorForeground,#d64541))}
:is(.flexllm,#flexllm) details{margin:.25em 0 .5em;padding-left:.75em;border-left:3px solid rgba(128,128,128,.35)}
:is(.flexllm,#flexllm) summary{cursor:pointer;opacity:.7}
:is(.flexllm,#flexllm) table{border-collapse:collapse;table-layout:auto;width:auto;margin:.5em 0;color:inherit;
font-size:.95em;border:0}
:is(.flexllm,#flexllm) tr{background:none;border:0}
:is(.flexllm,#flexllm) :is(th,td){text-align:left;vertical-align:top;padding:.3em .75em;border:0;color:inherit;
background:none;line-height:1.5;border-bottom:1px solid rgba(128,128,128,.3);white-space:normal;max-width:none}
:is(.flexllm,#flexllm) th{opacity:.7;font-weight:600}
:is(.flexllm,#flexllm) .number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
:is(.flexllm,#flexllm) td .text{max-height:9em;min-width:12em}
</style>"""


class Html(str):
    """A text that is HTML already. Whatever is no `Html` is letters, and is escaped where it is put in."""

    __slots__ = ()


def whole(*parts: Html) -> Html:
    """Return all there is to show of a value."""
    return Html(f'<div class="flexllm">{_STYLE}{"".join(parts)}</div>')


def letters(text: str) -> Html:
    """Return a text as letters. Control characters and half letters, which no page can hold, are spelled out."""
    text = without_controls(text.replace("\r\n", "\n"))
    text = _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text)
    return Html(html.escape(text))


def strong(text: str) -> Html:
    """Return a paragraph that says the main thing."""
    return Html(f"<p><b>{letters(text)}</b></p>")


def quiet(facts: Iterable[str]) -> Html:
    """Return a paragraph of smaller things beside each other; nothing if there are none."""
    told = " · ".join(letters(fact) for fact in facts)
    return Html(f'<p class="quiet">{told}</p>' if told else "")


def box(text: str, most: int = MOST_LETTERS, *, is_code: bool = False, rest: str = "") -> Html:
    """Return a text with its lines as they are, scrolled where it is long.

    Args:
        most: How many letters are shown.
        rest: Where the others are, for the sentence that says so.
    """
    kind = "text code" if is_code else "text"
    # Right-to-left text has its own direction, line by line, which ends with the box.
    shown = Html(f'<div class="{kind}" dir="auto">{letters(text[:most])}{"…" if len(text) > most else ""}</div>')
    if len(text) <= most or not rest:
        return shown
    return Html(shown + quiet([f"{len(text) - most:,} more characters are not shown; {rest}"]))


def fold(title: str, inner: Html) -> Html:
    """Return a piece that is opened by a click."""
    return Html(f"<details><summary>{letters(title)}</summary>{inner}</details>")


def table(names: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[int], more: int = 0) -> Html:
    """Return a table.

    Args:
        rows: The cells of each; the first MOST_ROWS are shown.
        numbers: The columns that are aligned to the right.
        more: Rows that are not among the given ones, to be told of.
    """
    lines = list(rows)
    more += max(0, len(lines) - MOST_ROWS)
    body = "".join(f"<tr>{_cells('td', line, numbers)}</tr>" for line in lines[:MOST_ROWS])
    head = f"<tr>{_cells('th', names, numbers)}</tr>"
    foot = quiet([f"and {more:,} more {'row' if more == 1 else 'rows'}"] if more else [])
    return Html(f"<table><thead>{head}</thead><tbody>{body}</tbody></table>{foot}")


def bad(text: str) -> Html:
    """Return letters in the colour of errors."""
    return Html(f'<span class="bad">{letters(text)}</span>')


def _cells(tag: str, cells: Sequence[str], numbers: Collection[int]) -> str:
    shown = (cell if isinstance(cell, Html) else letters(cell) for cell in cells)
    return "".join(
        f'<{tag} class="number">{cell}</{tag}>' if column in numbers else f"<{tag}>{cell}</{tag}>"
        for column, cell in enumerate(shown)
    )
