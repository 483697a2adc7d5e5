"""`${VARIABLE}` in the values of the configuration file. Pure: the environment is an argument."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import ConfigError
from ..language import _
from .paths import variable

_PLACE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-((?:(?!\$\{)[^}])*))?\}|\$\{")


def has_variables(text: str) -> bool:
    """Return whether a value is not what it says: `expand` makes something else of it."""
    return "${" in text


def expand(text: str, environ: Mapping[str, str], where: str) -> str:
    """Return a text with its variables replaced: `${NAME}` and `${NAME:-default}`; `$${` stands for `${` itself.

    A variable that is blank counts as not set; blanks around its value are cut off.

    Args:
        where: File, line and key, for people.

    Raises:
        ConfigError: A variable without a default is not set, or a place is not closed. No message shows the text: it may
            be a key.
    """

    def value(matched: re.Match[str]) -> str:
        name, default = matched.groups()
        if matched[0] == "$${":
            return "${"
        if name is None:
            raise ConfigError(
                _(
                    "{where} has a ${{ that begins no variable: write ${{NAME}} or ${{NAME:-default}}, or $${{ for the two "
                    "characters themselves",
                    where=where,
                )
            )
        found = variable(environ, name)
        if found is not None:
            return found
        if default is None:
            raise ConfigError(
                _(
                    "{where} asks for the environment variable {name}, which is not set; set it, or write "
                    "${{{name}:-default}}",
                    where=where,
                    name=name,
                )
            )
        return str(default)

    return _PLACE.sub(value, text) if has_variables(text) else text


def expand_if_set(text: str, environ: Mapping[str, str]) -> str | None:
    """Return what `expand` does, None where that raises."""
    try:
        return expand(text, environ, "")
    except ConfigError:
        return None


def literal(text: str) -> str:
    """Return a text so written that `expand` makes it of it."""
    return text.replace("${", "$${")
