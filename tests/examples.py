"""The examples of the READMEs and of docs/: found, with what comments above them say. `example_pages` runs them.

By hand: `python tests/examples.py` prints how many there are, by page and by language.

A comment above a block, `<!-- example: ... -->` in Markdown and `.. example: ...` in reStructuredText, may say:

    not run, because REASON     the block is left out; the test holds the number of such blocks
    setup                       and, in the lines below, shell commands that are run first and that readers do not see
    file NAME                   the block, of any language, is written to that file (~ is the page's own home)
    output                      the block is what the example before it printed; "..." stands for anything
    exit N                      the shell block ends with this exit code
    types                       and, in the lines below, what is typed on a terminal while the block runs; ^D is Ctrl-D
    reply TEXT                  from here on the server answers every question of the page with TEXT; without a text, as usual
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = "English", "Chinese"
RUN = ("python", "bash", "console")
MISNAMED = {"py": "python", "python3": "python", "pycon": "python", "sh": "bash", "shell": "bash", "zsh": "bash",
            "shell-session": "console", "ipython": "python"}  # fmt: skip
"""Names under which an example would be shown and not be run."""

_FENCE = re.compile(r"( *)(`{3,}|~{3,})\s*(?:\{code(?:-block)?\}\s*)?([\w+-]*)")
_COMMENT = re.compile(r" *<!--\s*example:\s*(.*?)-->[ \t]*", re.DOTALL)
_RST_BLOCK = re.compile(r"( *)\.\. code-block:: *(\w+)")
_RST_COMMENT = re.compile(r"( *)\.\. example: (.*)")
_KNOWN = ("not run", "setup", "file", "output", "exit", "types", "reply")


@dataclass(frozen=True)
class Block:
    """One block of code, with the comments above it.

    Attributes:
        page: The page's path in the project.
        line: The number of its first line of code in the page.
        notes: What comments above it say, as pairs of a word and what follows.
    """

    page: str
    line: int
    language: str
    code: str
    notes: tuple[tuple[str, str], ...] = ()

    def note(self, word: str) -> str | None:
        """Return what the comment that begins with a word says behind it, None where there is none."""
        return next((text for known, text in self.notes if known == word), None)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass
class Example:
    """A block that is run, or says why it is not.

    Attributes:
        block: It.
        before: Blocks that are written to files first.
        output: What it is to print, None where the page does not say.
    """

    block: Block
    before: list[Block] = field(default_factory=list)
    output: str | None = None

    @property
    def is_chinese(self) -> bool:
        """Whether its reader, and so its environment, is Chinese."""
        return language_of(self.block.page) == CHINESE

    @property
    def not_run(self) -> str | None:
        """Why it is not run, None if it is."""
        return self.block.note("not run")

    @property
    def is_session(self) -> bool:
        """Whether it shows commands behind "$ ", and what they print."""
        return self.block.language == "console" or (
            self.block.language == "bash" and self.block.code.lstrip().startswith("$ ")
        )


def pages() -> list[str]:
    """Return the paths of all pages with examples."""
    found = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return ["README.rst", "README.zh.rst", *found]


def language_of(page: str) -> str:
    """Return ENGLISH or CHINESE."""
    return ENGLISH if page == "README.rst" or page.startswith("docs/en/") else CHINESE


def examples_of(page: str) -> list[Example]:
    """Return the examples of a page in their order; what is wrong with them is a ValueError that names page and line."""
    examples: list[Example] = []
    files: list[Block] = []
    for block in blocks_of(page, (ROOT / page).read_text(encoding="utf-8")):
        if block.note("file") is not None:
            files.append(block)
        elif block.note("output") is not None:
            if not examples or examples[-1].output is not None:
                raise ValueError(f"{block}: there is no example above that this could be the output of")
            examples[-1].output = block.code
        elif block.language in MISNAMED:
            raise ValueError(f"{block}: {block.language} would not be run; write {MISNAMED[block.language]}")
        elif block.language in RUN:
            examples.append(Example(block, files))
            files = []
        elif block.notes:
            raise ValueError(f"{block}: a comment says how to run a block that is none of {', '.join(RUN)}")
    if files:
        raise ValueError(f"{files[0]}: no example below needs this file")
    return examples


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """Yield all blocks of a page."""
    return _of_markdown(page, text) if page.endswith(".md") else _of_rst(page, text)


def _of_markdown(page: str, text: str) -> Iterator[Block]:
    lines = text.splitlines()
    notes: list[tuple[str, str]] = []
    at = 0
    while at < len(lines):
        if comment := _COMMENT.match("\n".join(lines[at:])) if "<!--" in lines[at] else None:
            notes.append(_note(page, at + 1, comment[1]))
            at += comment[0].count("\n") + 1
        elif fence := _FENCE.match(lines[at]):
            end = _end_of_fence(lines, at, fence[2])
            code = textwrap.dedent("\n".join(line for line in lines[at + 1 : end]) + "\n")
            yield Block(page, at + 2, fence[3].lower(), code, tuple(notes))
            notes, at = [], end + 1
        else:
            _check_notes(page, at + 1, notes, lines[at])
            at += 1
    _check_notes(page, at, notes, "the end")


def _end_of_fence(lines: list[str], start: int, fence: str) -> int:
    for at in range(start + 1, len(lines)):
        if lines[at].strip().startswith(fence) and not lines[at].strip(f" {fence[0]}"):
            return at
    raise ValueError(f"the block at line {start + 1} has no end")


def _of_rst(page: str, text: str) -> Iterator[Block]:
    lines = text.splitlines()
    notes: list[tuple[str, str]] = []
    at = 0
    while at < len(lines):
        comment, start = _RST_COMMENT.fullmatch(lines[at]), _RST_BLOCK.fullmatch(lines[at])
        if comment or start:
            end = _end_of_indented(lines, at + 1, len((comment or start)[1]))  # type: ignore[index]
            inner = textwrap.dedent("\n".join(lines[at + 1 : end]))
        if comment:
            notes.append(_note(page, at + 1, f"{comment[2]}\n{inner}"))
            at = end
        elif start:
            first = next(number for number in range(at + 1, end) if lines[number].strip())
            yield Block(page, first + 1, start[2], inner.strip("\n") + "\n", tuple(notes))
            notes, at = [], end
        else:
            _check_notes(page, at + 1, notes, lines[at])
            at += 1
    _check_notes(page, at, notes, "the end")


def _end_of_indented(lines: list[str], start: int, outer: int) -> int:
    end = start
    for at in range(start, len(lines)):
        if lines[at].strip():
            if len(lines[at]) - len(lines[at].lstrip()) <= outer:
                break
            end = at + 1
    return end


def _note(page: str, line: int, text: str) -> tuple[str, str]:
    word = next((word for word in _KNOWN if re.match(rf"{word}\b", text)), None)
    if word is None:
        raise ValueError(f"{page}:{line}: the comment begins with none of {', '.join(_KNOWN)}")
    rest = text[len(word) :].strip()
    if word == "not run" and not re.fullmatch(r", because \S.{10,}", rest, re.DOTALL):
        raise ValueError(f"{page}:{line}: write `not run, because` and the reason")
    return word, rest.removeprefix(", because ")


def _check_notes(page: str, line: int, notes: list[tuple[str, str]], text: str) -> None:
    if notes and text.strip():
        raise ValueError(f"{page}:{line}: between the comment about an example and its block is something else")


def fits(printed: str, wanted: str) -> bool:
    """Return whether what was printed is what a page shows; "..." stands for anything, blanks at line ends for nothing."""
    pattern = ".*".join(re.escape(part) for part in _tidied(wanted).split("..."))
    return re.fullmatch(pattern, _tidied(printed), re.DOTALL) is not None


def _tidied(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines()).rstrip()


def commands_of(session: str) -> list[tuple[str, str]]:
    """Return the commands of a session, each with what it is to print."""
    found: list[tuple[list[str], list[str]]] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif not found:
            raise ValueError(f"a session begins with a command behind '$ ', and not with {line!r}")
        elif line.startswith("> ") and not found[-1][1]:
            found[-1][0].append(line[2:])
        else:
            found[-1][1].append(line)
    return [("\n".join(command), "\n".join(output)) for command, output in found]


def main() -> None:
    """Print the numbers."""
    totals: Counter[str] = Counter()
    for page in pages():
        found = examples_of(page)
        left_out = sum(example.not_run is not None for example in found)
        totals[language_of(page)] += len(found) - left_out
        print(f"{page:<32} {len(found) - left_out:>4} run, {left_out} not")
    print(", ".join(f"{language}: {count}" for language, count in totals.items()))


if __name__ == "__main__":
    main()
