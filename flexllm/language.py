"""The language of what people read: English, or on the command line that of the reader.

Each text for people stands in the code in English, in `_()`, which looks it up in the catalogue of the language that is in
use. A program that imports flexllm reads and logs English, whatever the locale: only the command line asks for another one,
with `activate`. Words for programs (statuses, reasons, names of errors and of fields) are not texts, and stay as they are.
"""

from __future__ import annotations

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    import gettext
    from collections.abc import Iterable, Mapping

DOMAIN = "flexllm"
ENGLISH = "en"
CHINESE = "zh_CN"
LANGUAGES = (ENGLISH, CHINESE)

VARIABLE = "FLEXLLM_LANG"
_LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")  # the first that is set counts: POSIX, section 8.2
_SIMPLIFIED = {"", "cn", "sg", "hans", "hans_cn", "hans_sg"}

_catalogue: gettext.NullTranslations | None = None  # None: English, for which none is needed


def _(text: str, /, **values: object) -> str:
    """Return a text in the language in use, with `values` in its places as `str.format` puts them.

    Without values, braces in the text are plain letters.
    """
    found = text if _catalogue is None or not text else _catalogue.gettext(text)  # "" is the catalogue's own head
    return found.format(**values) if values else found


def plural(one: str, many: str, /, count: int, **values: object) -> str:
    """Return the text that fits a number: `one` for 1, else `many`. It stands in `{count}`, grouped by `{count:,}`."""
    english = one if count == 1 else many
    found = english if _catalogue is None else _catalogue.ngettext(one, many, count)
    return found.format(count=count, **values)


def with_commas(parts: Iterable[str]) -> str:
    """Return short facts in one sentence, as the language in use puts them behind one another."""
    return _(", ").join(parts)


def with_semicolons(parts: Iterable[str]) -> str:
    """Return clauses that stand alone in one sentence."""
    return _("; ").join(parts)


def mark(text: str) -> str:
    """Return a text as it is, so that it can be found for translation; whoever shows it calls `_`."""
    return text


def activate(language: str) -> None:
    """Put a language of LANGUAGES in use, in this process, from now on."""
    global _catalogue
    _catalogue = None if language == ENGLISH else _read(language)


def language() -> str:
    """Return which of LANGUAGES is in use."""
    return ENGLISH if _catalogue is None else CHINESE


def chosen(environ: Mapping[str, str]) -> str | None:
    """Return which of LANGUAGES the variables of the environment ask for; None if FLEXLLM_LANG names none of them.

    FLEXLLM_LANG goes before the locale; of that, the first language of LANGUAGE that there is. As everywhere, LANGUAGE does
    not count in the locale "C". Another language, traditional Chinese too, is answered in English.
    """
    if own := environ.get(VARIABLE, "").strip():
        return _known(own)
    locale = next((environ[name] for name in _LOCALE if environ.get(name)), "C")
    if _plain(locale) in ("c", "posix"):
        return ENGLISH
    wishes = [*environ.get("LANGUAGE", "").split(":"), locale]
    return next(filter(None, map(_known, wishes)), ENGLISH)


def _known(name: str) -> str | None:
    """Return a language by its name in any usual writing, such as zh, zh-Hans or zh_CN.UTF-8; None if it is another one."""
    spoken, _unused, rest = _plain(name).partition("_")
    if spoken in ("en", "c", "posix"):
        return ENGLISH
    return CHINESE if spoken == "zh" and rest in _SIMPLIFIED else None


def _plain(name: str) -> str:
    return name.partition(".")[0].partition("@")[0].replace("-", "_").strip().lower()


def _read(name: str) -> gettext.NullTranslations:
    import pkgutil
    from gettext import GNUTranslations
    from io import BytesIO

    data = pkgutil.get_data(__package__, f"data/locale/{name}/LC_MESSAGES/{DOMAIN}.mo")
    assert data is not None  # only a loader without files gives none
    return GNUTranslations(BytesIO(data))
