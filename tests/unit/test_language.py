"""The language of what people read: which one is chosen, how texts come out, and a guard that none is left untranslatable."""

from __future__ import annotations

import argparse
import ast
import errno
import gettext
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter
from typing import NamedTuple

import pytest

import flexllm
from flexllm import language, system_errors
from flexllm.cli import locale
from flexllm.language import CHINESE, ENGLISH, _, activate, chosen, mark, plural
from flexllm.system_errors import reason_of

ROOT = Path(flexllm.__file__).parent


class _Catalogue(gettext.NullTranslations):
    """Turns texts round, so that a test sees which were looked up."""

    def gettext(self, message: str) -> str:
        return f"[{message}]"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"[{msgid2}]"  # as in Chinese, which has one form


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "_catalogue", _Catalogue())


# --- which one ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["zh", "zh_CN", "zh-CN", "ZH_cn", "zh_CN.UTF-8", "zh_CN.utf8", "zh_CN.GB18030", "zh_SG", "zh-Hans", "zh-Hans-CN",
     "zh_Hans_SG.UTF-8", "zh_CN@stroke", "zh_CN.UTF-8@stroke", " zh "],
)  # fmt: skip
def test_simplified_chinese_is_chosen_in_every_usual_writing(name: str) -> None:
    assert chosen({"FLEXLLM_LANG": name}) == CHINESE
    assert chosen({"LANG": name}) == CHINESE


@pytest.mark.parametrize("name", ["en", "en_US", "en-GB", "EN", "en_US.UTF-8", "C", "C.UTF-8", "POSIX", "en@quot"])
def test_english_is_chosen_in_every_usual_writing(name: str) -> None:
    assert chosen({"FLEXLLM_LANG": name}) == ENGLISH
    assert chosen({"LANG": name}) == ENGLISH
    assert chosen({"FLEXLLM_LANG": name, "LANG": "zh_CN.UTF-8"}) == ENGLISH


@pytest.mark.parametrize(
    "name", ["zh_TW", "zh-Hant", "zh_HK.UTF-8", "zh_Hant_TW", "zh_MO", "de_DE.UTF-8", "ja", "fr_CH@euro", "z"]
)
def test_a_locale_of_another_language_is_answered_in_english(name: str) -> None:
    assert chosen({"LANG": name}) == ENGLISH
    assert chosen({"LC_ALL": name, "LANG": "zh_CN.UTF-8"}) == ENGLISH


@pytest.mark.parametrize("name", ["zh_TW", "de", "chinese", "zhongwen", "english", "zh_CN_x", "_", "1"])
def test_a_flexllm_lang_that_there_is_not_is_told_from_english(name: str) -> None:
    assert chosen({"FLEXLLM_LANG": name, "LANG": "zh_CN.UTF-8"}) is None


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_a_blank_flexllm_lang_leaves_it_to_the_locale(blank: str) -> None:
    assert chosen({"FLEXLLM_LANG": blank, "LANG": "zh_CN.UTF-8"}) == CHINESE
    assert chosen({"FLEXLLM_LANG": blank}) == ENGLISH


def test_without_any_variable_it_is_english() -> None:
    assert chosen({}) == ENGLISH


def test_flexllm_lang_goes_before_the_locale() -> None:
    assert chosen({"FLEXLLM_LANG": "zh", "LC_ALL": "C", "LANG": "en_US.UTF-8", "LANGUAGE": "en"}) == CHINESE
    assert chosen({"FLEXLLM_LANG": "en", "LC_ALL": "zh_CN.UTF-8", "LANGUAGE": "zh_CN"}) == ENGLISH


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"LC_ALL": "zh_CN.UTF-8", "LC_MESSAGES": "en_US", "LANG": "en_US"}, CHINESE),
        ({"LC_ALL": "en_US.UTF-8", "LC_MESSAGES": "zh_CN", "LANG": "zh_CN"}, ENGLISH),
        ({"LC_MESSAGES": "zh_CN.UTF-8", "LANG": "en_US"}, CHINESE),
        ({"LC_MESSAGES": "en_US.UTF-8", "LANG": "zh_CN"}, ENGLISH),
        ({"LC_ALL": "", "LC_MESSAGES": "", "LANG": "zh_CN.UTF-8"}, CHINESE),  # empty is not set: POSIX
        ({"LC_CTYPE": "zh_CN.UTF-8", "LANG": "en_US.UTF-8"}, ENGLISH),  # letters are not messages
        ({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, ENGLISH),
    ],
)
def test_the_first_variable_of_the_locale_that_is_set_counts(environ: dict[str, str], expected: str) -> None:
    assert chosen(environ) == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"LANGUAGE": "zh_CN", "LANG": "en_US.UTF-8"}, CHINESE),
        ({"LANGUAGE": "zh_CN:en", "LANG": "en_US.UTF-8"}, CHINESE),
        ({"LANGUAGE": "en:zh_CN", "LANG": "zh_CN.UTF-8"}, ENGLISH),
        ({"LANGUAGE": "de:zh_CN:en", "LANG": "de_DE.UTF-8"}, CHINESE),  # the first of the wishes that there is
        ({"LANGUAGE": "zh_TW:zh_CN", "LANG": "zh_TW.UTF-8"}, CHINESE),
        ({"LANGUAGE": "de:fr", "LANG": "zh_CN.UTF-8"}, CHINESE),
        ({"LANGUAGE": "de:fr", "LANG": "de_DE.UTF-8"}, ENGLISH),
        ({"LANGUAGE": ":", "LANG": "zh_CN.UTF-8"}, CHINESE),
        ({"LANGUAGE": "", "LANG": "zh_CN.UTF-8"}, CHINESE),
    ],
)
def test_of_the_wishes_in_language_the_first_that_there_is_is_taken(environ: dict[str, str], expected: str) -> None:
    assert chosen(environ) == expected


@pytest.mark.parametrize(
    "locale_of",
    [{}, {"LANG": "C"}, {"LANG": "POSIX"}, {"LANG": "C.UTF-8"}, {"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, {"LANG": ""}],
)
def test_language_does_not_count_in_the_locale_c(locale_of: dict[str, str]) -> None:
    assert chosen({"LANGUAGE": "zh_CN:zh", **locale_of}) == ENGLISH


# --- texts --------------------------------------------------------------------------------------------------------------


def test_values_are_put_in_with_their_formats() -> None:
    text = _("{count:,} rows cost ${cost:.2f} at {name!r} ({share:.0%})", count=12345, cost=1.5, name="a", share=0.25)
    assert text == "12,345 rows cost $1.50 at 'a' (25%)"


def test_braces_of_a_text_without_values_are_plain_letters() -> None:
    assert _("write {content}, {'type': 'text'} or {{") == "write {content}, {'type': 'text'} or {{"


def test_doubled_braces_of_a_text_with_values_are_single_ones() -> None:
    assert _("write {{content}} at {place}", place="{here}") == "write {content} at {here}"


def test_a_value_may_have_any_name() -> None:
    assert _("{text} {self} {name}", text="a", self="b", name="c") == "a b c"
    assert plural("{one} {many}", "{one} {many}", 2, one="a", many="b") == "a b"


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1234, "1,234 rows"), (-1, "-1 rows")]
)
def test_a_number_chooses_its_form(count: int, expected: str) -> None:
    assert plural("{count:,} row", "{count:,} rows", count) == expected


def test_a_form_may_leave_the_number_out_and_have_other_values() -> None:
    assert plural("one row of {path}", "{count} rows of {path}", 1, path="a") == "one row of a"


def test_a_marked_text_stays_as_it_is() -> None:
    assert mark("leave it {out}") == "leave it {out}"


def test_each_text_is_looked_up_when_it_is_shown(catalogue: None) -> None:
    assert _("{count} of {{all}}", count=1) == "[1 of {all}]"
    assert _("{content}") == "[{content}]"
    assert mark("text") == "text"
    assert plural("{count} row", "{count} rows", 1) == "[1 rows]"


def test_english_needs_no_catalogue_and_can_be_gone_back_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "_catalogue", None)
    read: list[str] = []
    monkeypatch.setattr(language, "_read", lambda name: read.append(name) or _Catalogue())
    activate(ENGLISH)
    assert (language.language(), _("text"), read) == (ENGLISH, "text", [])
    activate(CHINESE)
    assert (language.language(), _("text"), read) == (CHINESE, "[text]", [CHINESE])
    activate(ENGLISH)
    assert (language.language(), _("text"), read) == (ENGLISH, "text", [CHINESE])


def test_a_language_that_there_is_not_is_refused() -> None:
    with pytest.raises((ValueError, OSError)):
        activate("tlh")
    assert language.language() == ENGLISH


# --- what the system says -----------------------------------------------------------------------------------------------


def test_the_systems_reason_is_looked_up(catalogue: None) -> None:
    assert reason_of(OSError(errno.ENOSPC, "No space left on device", "out.jsonl")) == "[No space left on device]"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a"), "No such file or directory"),
        (OSError(errno.ENOENT, "words of another system"), "words of another system"),
        (OSError("no number at all"), "no number at all"),
        (OSError(99999, "unheard of"), "unheard of"),
        (OSError(errno.EIO, None), None),
        (OSError(), "OSError"),
    ],
)
def test_other_words_of_a_system_are_left_as_they_are(error: OSError, expected: str | None) -> None:
    assert reason_of(error) == (str(error) if expected is None else expected)


def test_reasons_are_worded_as_this_system_words_them() -> None:
    import os
    import sys

    if sys.platform != "linux":
        pytest.skip("the words are those of Linux")
    other = {code: os.strerror(code) for code, text in system_errors._REASONS.items() if os.strerror(code) != text}
    assert other == {}


# --- what argparse says -------------------------------------------------------------------------------------------------

NOT_SHOWN = {
    " (default: %(default)s)": "of a formatter that is not used",
    # Only a parser that is made wrongly says so, to whoever writes it.
    "'required' is an invalid argument for positionals": "a mistake of the parser's",
    ".__call__() not defined": "a mistake of the parser's",
    "cannot have multiple subparser arguments": "a mistake of the parser's",
    "cannot merge actions - two groups are named %r": "a mistake of the parser's",
    "invalid conflict_resolution value: %r": "a mistake of the parser's",
    "invalid option string %(option)r: must start with a character %(prefix_chars)r": "a mistake of the parser's",
    "mutually exclusive arguments must be optional": "a mistake of the parser's",
    "unknown parser %(parser_name)r (choices: %(choices)s)": "commands are looked up before argparse sees them",
    "invalid choice: %(value)r (choose from %(choices)s)": "the parser of the house says it itself",
    "invalid choice: %(value)r, maybe you meant %(suggestion)r? (choose from %(choices)s)": "the same, since Python 3.14",
    "%r is not callable": "a mistake of the parser's",
    "dest= is required for options like %r": "a mistake of the parser's",
    'argument "-" with mode %r': "no argument is opened by argparse",
    "can't open '%(filename)s': %(error)s": "no argument is opened by argparse",
    "conflicting option string: %s": "a mistake of the parser's",
    "conflicting option strings: %s": "a mistake of the parser's",
    "conflicting subparser: %s": "a mistake of the parser's",
    "conflicting subparser alias: %s": "a mistake of the parser's",
    "unknown action": "a mistake of the parser's",
    "%(prog)s: error: %(message)s\n": "errors are shown by the parser of the house",
    "%(prog)s: warning: %(message)s\n": "no option is deprecated",
    "option '%(option)s' is deprecated": "no option is deprecated",
    "command '%(parser_name)s' is deprecated": "no command is deprecated",
    "argument '%(argument_name)s' is deprecated": "no argument is deprecated",
    "subcommands": "the list of commands has a heading of its own",
    "expected %s argument": "every number of arguments is one of the named ones",
    "expected %s arguments": "every number of arguments is one of the named ones",
    "unexpected option string: %s": "the parser takes option strings apart before",
}
"""What the argparse of one Python or another can say and does not say here, with the reason."""


def _texts_of_argparse() -> set[str]:
    """Return every text that the running Python's argparse looks up."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(argparse))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("_", "ngettext"):
            found |= {one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return found


def test_what_argparse_says_to_those_who_type_can_be_looked_up() -> None:
    unknown = _texts_of_argparse() - set(locale._ARGPARSE) - NOT_SHOWN.keys()
    assert unknown == set(), "put them in flexllm/cli/locale.py, or in NOT_SHOWN"


# --- a guard: no text for people without a way to be looked up -----------------------------------------------------------

OUTSIDE = {
    "mock": "its words are a server's",
    "markup": "for notebooks, in which Python speaks English",
    "pages": "for notebooks, in which Python speaks English",
    "cli.manual": "for the manual, which is in English",
}
"""Rooms whose words nobody reads on the command line: why."""

_SERVER = "a server's words, looked for in its reply"
_HEADER = "a header of a request"
_PROMPT = "said to a model"
_YAML = "a line of the configuration file"
_STATUS = "the status line's own word, before a text that was looked up"
_NAMES = "names of this package, for Python"
_INSIDE = "a mark that nobody is shown"
_STORED = "a note in a file, which does not change with the reader"
_SHELL = "code for a shell or for its line editor"
_COMMAND = "a command, as it is typed"
_FORM = "values alone, in their form"
_LIBRARY = "another library's words, looked for in its error"

NOT_FOR_PEOPLE: dict[tuple[str, str], str] = {
    ("", "; did you mean"): _NAMES,
    ("", "ProviderConfig"): _NAMES,
    ("", "count_messages"): _NAMES,
    ("", "estimate_batch_cost"): _NAMES,
    ("", "extract_code_snippets"): _NAMES,
    ("", "module 'flexllm'"): _NAMES,
    ("backends.again", "That cannot be used"): _PROMPT,
    ("backends.again", "the answer broke off"): _PROMPT,
    ("backends.balanced", "not sent"): _INSIDE,
    ("backends.row", "broken off"): _INSIDE,
    ("backends.row", "cut off"): _INSIDE,
    ("backends.row", "the caller's model"): _INSIDE,
    ("batch.lines", "key is"): _INSIDE,
    ("batch.lines", "source is"): _INSIDE,
    ("batch.loading", "index is"): _INSIDE,
    ("batch.spent", "on failed rows"): _STORED,
    ("batch.survey", "not asked"): _INSIDE,
    ("cache.disk", "not a database"): _LIBRARY,
    ("cache.file", "no such table"): _LIBRARY,
    ("cache.file", "unable to open"): _LIBRARY,
    ("cache.key", "any model"): _INSIDE,
    ("cli.attachments", "standard input"): _PROMPT,
    ("cli.balances", "xx x"): _FORM,
    ("cli.batch.report", "flexllm: x"): _FORM,
    ("cli.chat.conversation", "[The answer"): _PROMPT,
    ("cli.chat.editor", "convert-meta"): _SHELL,
    ("cli.chat.editor", "input-meta"): _SHELL,
    ("cli.chat.editor", "output-meta"): _SHELL,
    ("cli.chat.editor", "set "): _SHELL,
    ("cli.chat.editor", "tab:"): _SHELL,
    ("cli.checkup", "Say hello"): _PROMPT,
    ("cli.commands.batch", "flexllm batch [INPUT]"): _COMMAND,
    ("cli.commands.cache", "flexllm cache"): _COMMAND,
    ("cli.commands.init", " --config"): _COMMAND,
    ("cli.commands.init", "flexllm x"): _COMMAND,
    ("cli.commands.list", "weight x"): _FORM,
    ("cli.commands.pricing", "Written by"): _STORED,
    ("cli.commands.pricing", "the configuration file"): _STORED,
    ("cli.commands.test", "HTTP x"): _FORM,
    ("cli.commands.version", "flexllm x"): _FORM,
    ("cli.completion.generation", "# Parse"): _SHELL,
    ("cli.completion.generation", "#compdef"): _SHELL,
    ("cli.completion.generation", "complete -o"): _SHELL,
    ("cli.completion.generation", "shtab "): _INSIDE,
    ("cli.completion.generation", "{first}#"): _SHELL,
    ("cli.completion.shells", "exec "): _SHELL,
    ("cli.completion.shells", "fpath"): _SHELL,
    ("cli.completion.shells", "if !"): _SHELL,
    ("cli.log_file", "x.xZ"): _FORM,
    ("cli.output", "flexllm: x"): _FORM,
    ("cli.parser", "flexllm x"): _FORM,
    ("cli.request_options", "--schema x"): _COMMAND,
    ("cli.resolved", "flexllm ask"): _COMMAND,
    ("configfile.edit", "default: x"): _YAML,
    ("configfile.edit", "xx: x, x"): _YAML,
    ("configfile.edit", "xxdefault: xxx"): _YAML,
    ("media.images", "cannot identify"): _LIBRARY,
    ("media.images", "pip install"): _COMMAND,
    ("prices.rows", "US dollars"): _STORED,
    ("prices.updates", "OpenRouter"): _STORED,
    ("prices.updates", "a price is not given"): _INSIDE,
    ("providers.base", "gzip, deflate"): _HEADER,
    ("providers.claude", "Bearer x"): _HEADER,
    ("providers.claude.errors", "content filtering policy"): _SERVER,
    ("providers.claude.errors", "credit balance is too low"): _SERVER,
    ("providers.claude.errors", "exceed context limit"): _SERVER,
    ("providers.claude.errors", "spend limit"): _SERVER,
    ("providers.claude.errors", "usage limits"): _SERVER,
    ("providers.claude.requests", "Answer with JSON"): _PROMPT,
    ("providers.claude.requests", "Answer with one JSON object"): _PROMPT,
    ("providers.credits.balance", "Bearer x"): _HEADER,
    ("providers.credits.balance", "HTTP x: x"): _STATUS,
    ("providers.gemini.replies", "input token count"): _SERVER,
    ("providers.openai", "Bearer x"): _HEADER,
    ("providers.openai.requests", "Answer with one JSON object"): _PROMPT,
    ("providers.status", "HTTP xx: x"): _STATUS,
    ("providers.status", "exceeds the maximum number"): _SERVER,
    ("providers.status", "maximum context length"): _SERVER,
    ("providers.status", "over capacity"): _SERVER,
    ("providers.status", "prompt is too long"): _SERVER,
    ("providers.status", "reduce the length"): _SERVER,
    ("schema.replies", "the reply does not match"): _PROMPT,
    ("transport", "first piece"): _INSIDE,
    ("transport.direct", "Host: x"): _HEADER,
    ("transport.direct", "no TLS"): _INSIDE,
    ("transport.options", "first piece"): _INSIDE,
    ("transport.session", "Bearer x"): _HEADER,
    ("vertex.tokens", "Bearer x"): _HEADER,
}
"""By module and the beginning of a text that is none for people: why."""

_WORDS = re.compile(r"[A-Za-z]{2,}[,:;]? [a-z(]")
_SQL = re.compile(r"(SELECT |INSERT |REPLACE |DELETE |CREATE |PRAGMA |NOT x >=|sum\(x\) OVER|substr\(|rowid IN )")
_LOOKED_UP = {"_": 1, "mark": 1, "plural": 2}
_LOG = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_PATTERNS = {"compile", "match", "fullmatch", "search", "sub", "findall", "finditer", "split"}


class Text(NamedTuple):
    """A place in a module, and what stands there."""

    module: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.text[:90]!r}"


@cache
def trees() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if parts[0] not in OUTSIDE and name not in OUTSIDE:
            found[name] = ast.parse(path.read_text())
    return found


def _called(node: ast.AST) -> str | None:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


def _calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _called(node) == name:
                yield module, node


def _shown(node: ast.AST) -> str | None:
    """Return a literal's text, with "x" where an f-string has a value; None for other nodes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
    return None


def _is_of_programs(node: ast.AST) -> bool:
    """Whether nothing below a node is said to people: docstrings, records of logs, assertions, patterns, types."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if _SQL.match(_shown(node) or ""):
        return True
    if isinstance(node, ast.Assert) or (isinstance(node, ast.FunctionDef) and node.name == "__repr__"):
        return True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
        holder, attribute = node.func.value.id, node.func.attr
        return (holder in ("log", "_log") and attribute in _LOG) or (holder == "re" and attribute in _PATTERNS)
    return False


def _bare(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the literals below a node that are not looked up."""
    for child in ast.iter_child_nodes(node):
        if _is_of_programs(child):
            continue
        name = _called(child)
        if isinstance(child, ast.Call) and name in _LOOKED_UP:
            for other in (*child.args[_LOOKED_UP[name] :], *child.keywords):
                yield from _bare(ast.Tuple(elts=[other]))  # type: ignore[list-item]
            continue
        if isinstance(child, (ast.AnnAssign, ast.arg)):
            child.annotation = None  # type: ignore[assignment]
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            child.returns = None
        text = _shown(child)
        if text is None:
            yield from _bare(child)
            continue
        if _WORDS.search(text):
            yield child.lineno, text  # type: ignore[attr-defined]
        for part in child.values if isinstance(child, ast.JoinedStr) else ():
            if isinstance(part, ast.FormattedValue):
                yield from _bare(ast.Tuple(elts=[part.value]))


@cache
def bare_texts() -> tuple[Text, ...]:
    return tuple(Text(module, line, text) for module, tree in trees().items() for line, text in _bare(tree))


def test_every_text_for_people_can_be_looked_up() -> None:
    left = [
        str(one)
        for one in bare_texts()
        if not any(one.module == module and one.text.startswith(start) for module, start in NOT_FOR_PEOPLE)
    ]
    assert left == [], f"{len(left)} texts: put each in _(), or into NOT_FOR_PEOPLE"


def test_every_exception_is_still_needed() -> None:
    needless = [
        (module, start)
        for module, start in NOT_FOR_PEOPLE
        if not any(one.module == module and one.text.startswith(start) for one in bare_texts())
    ]
    assert needless == []


def test_a_text_is_looked_up_as_it_stands_in_the_catalogue() -> None:
    """Neither values nor other pieces may be in it before it is looked up."""
    made = [
        str(Text(module, node.lineno, ast.unparse(text)))
        for name, texts in _LOOKED_UP.items()
        for module, node in _calls(name)
        for text in node.args[:texts]
        if module != "language" and isinstance(text, (ast.JoinedStr, ast.BinOp, ast.Call))
    ]
    assert made == []


def _names(text: str) -> set[str]:
    return {name for piece in Formatter().parse(text) for name in _names_of(*piece)}


def _names_of(_before: str, name: str | None, spec: str | None, _conversion: str | None) -> Iterator[str]:
    if name is not None:
        yield name
        yield from _names(spec or "")


def _braces_wrong(node: ast.Call, given: set[str], texts: int) -> bool:
    literals = [one.value for one in node.args[:texts] if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    if len(literals) < texts or any(keyword.arg is None for keyword in node.keywords):
        return False
    try:
        used = set().union(*map(_names, literals))
    except ValueError:
        return True
    return used - {"count"} != given - {"count"} or not all(name.isidentifier() for name in used)


def test_braces_hold_the_names_that_are_given_and_no_others() -> None:
    wrong = []
    for name, texts in _LOOKED_UP.items():
        for module, node in _calls(name):
            given = {keyword.arg for keyword in node.keywords if keyword.arg}
            if (given or name == "plural") and _braces_wrong(node, given, texts):
                wrong.append(str(Text(module, node.lineno, ast.unparse(node))))
    assert wrong == []


def test_names_in_braces_are_words_of_their_own() -> None:
    """A number or a line behind a name says that two values have one name, which no translator can tell apart."""
    odd = []
    for name in ("_", "plural"):
        for module, node in _calls(name):
            for keyword in node.keywords:
                if re.search(r"_?\d$|_$", keyword.arg or ""):
                    odd.append(str(Text(module, node.lineno, str(keyword.arg))))
    assert odd == []


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a scope, the scopes in it not opened."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, _SCOPES):
            yield from _own(child)


def _binds(scope: ast.AST) -> bool:
    return any(
        (isinstance(node, ast.Name) and node.id == "_" and isinstance(node.ctx, ast.Store))
        or (isinstance(node, ast.arg) and node.arg == "_")
        for node in _own(scope)
    )


def test_who_looks_texts_up_has_nothing_else_of_that_name() -> None:
    wrong = [
        f"{module}:{getattr(scope, 'lineno', 0)}"
        for module, tree in trees().items()
        for scope in ast.walk(tree)
        if isinstance(scope, (ast.Module, *_SCOPES))
        and _binds(scope)
        and any(_called(one) == "_" for one in ast.walk(scope))
    ]
    assert wrong == []
