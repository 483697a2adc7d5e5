"""The language of the person at this command line, for our own words and for those that argparse says."""

from __future__ import annotations

import os
import sys

from ..language import CHINESE, DOMAIN, ENGLISH, VARIABLE, _, activate, chosen, mark

_ARGPARSE = (
    mark("usage: "),
    mark("%(heading)s:"),
    mark("options"),
    mark("positional arguments"),
    mark("show this help message and exit"),
    mark("show program's version number and exit"),
    mark("argument %(argument_name)s: %(message)s"),
    mark("ambiguous option: %(option)s could match %(matches)s"),
    mark("expected one argument"),
    mark("expected at least one argument"),
    mark("expected at most one argument"),
    mark("ignored explicit argument %r"),
    mark("invalid %(type)s value: %(value)r"),
    mark("not allowed with argument %s"),
    mark("one of the arguments %s is required"),
    mark("the following arguments are required: %s"),
    mark("unrecognized arguments: %s"),
)
"""What argparse may say of itself to those who type; it looks its words up as every program's, by `gettext`."""


def set_language() -> None:
    """Talk from now on as FLEXLLM_LANG or the locale asks; in English where the terminal has no letters for the other."""
    wanted = chosen(os.environ)
    if wanted == CHINESE and not _can_show("简"):
        wanted = ENGLISH
    activate(wanted or ENGLISH)
    _teach_argparse(wanted or ENGLISH)
    if wanted is None:
        from .output import complain

        complain(
            _(
                "{variable}={value!r} names no language that there is: give 'en' or 'zh'; this is English",
                variable=VARIABLE,
                value=os.environ[VARIABLE],
            )
        )


def _can_show(letter: str) -> bool:
    """Return whether what is said can be shown where it goes. Encodings of Japan or Taiwan have many letters, but not all."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    try:
        letter.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _teach_argparse(language: str) -> None:
    import gettext  # as argparse has

    if language != ENGLISH:
        package = os.path.dirname(os.path.dirname(__file__))
        gettext.bindtextdomain(DOMAIN, os.path.join(package, "data", "locale"))
        gettext.textdomain(DOMAIN)
        os.environ["LANGUAGE"] = language  # gettext asks the environment again for each text
    elif gettext.textdomain() == DOMAIN:  # an earlier call, in the same process
        gettext.textdomain("messages")
