"""URL and key of an entry of the configuration file, its variables replaced and its command run."""

from __future__ import annotations

from collections.abc import Mapping

from ..configfile.checks import checked_pair
from ..configfile.places import expand, has_variables
from ..configfile.values import BatchEndpoint, Config, ModelEntry
from ..errors import ConfigError
from ..language import _
from ..wire import NO_KEY
from .commands import key_of_command
from .endpoint import DEFAULT
from .environment import OPENAI_URL, Environment, Named

_OTHERS_MODELS = ("claude-", "gemini-")
"""How the models begin that another provider than OpenAI is asked for where neither URL nor provider is named. The registry
of providers has the same words."""


def text_of(config: Config, key: str, value: str, environ: Mapping[str, str]) -> str:
    """Return a value of the file with its variables replaced; `key` is such as "models[0].name".

    Raises:
        ConfigError: One of them is not set.
    """
    return expand(value, environ, f"{config.place(key)}: {key.rpartition('.')[2]}")


def base_url_of(
    config: Config, where: str, entry: ModelEntry | BatchEndpoint, environ: Mapping[str, str]
) -> str | None:
    """Return the URL of an entry that stands at `where`, such as "models[0]"; None if it has none.

    Raises:
        ConfigError: A variable is not set, or it is no URL with it.
    """
    if entry.base_url is None:
        return None
    key = f"{where}.base_url"
    url = text_of(config, key, entry.base_url, environ)
    try:
        return checked_pair(url, NO_KEY, config.place(key))[0]
    except ConfigError:
        if not has_variables(entry.base_url):
            raise
        # What a variable holds is not shown: in the wrong one it is a key.
        raise ConfigError(
            _(
                "{place}: base_url, its variables replaced, is not a URL that can be asked, such as "
                "'https://api.openai.com/v1'; check them",
                place=config.place(key),
            )
        ) from None


def key_of(
    config: Config, where: str, entry: ModelEntry | BatchEndpoint, environ: Mapping[str, str], *, run: bool
) -> Named:
    """Return an entry's own key, and where it comes from; NO_KEY from "default" if it has none.

    Args:
        run: Whether its command may be run; else NO_KEY stands for what it would print.

    Raises:
        ConfigError: A variable is not set, the command fails, or it is no key that a request can carry.
    """
    if entry.api_key_cmd is not None:
        place = config.place(f"{where}.api_key_cmd")
        if not run:
            return Named(NO_KEY, _("{place}, printed by api_key_cmd, which is run when it is needed", place=place))
        key = key_of_command(entry.api_key_cmd, place)
        return Named(
            checked_pair(None, key, f"{place}: api_key_cmd")[1], _("{place}, printed by api_key_cmd", place=place)
        )
    place = config.place(f"{where}.api_key")
    key = text_of(config, f"{where}.api_key", entry.api_key, environ)
    if key in ("", NO_KEY):
        return Named(NO_KEY, DEFAULT if entry.api_key == NO_KEY else place)
    return Named(checked_pair(None, key, place)[1], place)


def with_openai_key(
    base_url: str | None, key: Named, provider: str, model: str, environment: Environment
) -> tuple[str | None, Named]:
    """Return URL and key, with OPENAI_API_KEY where a source gave none and the server is that key's own.

    Where the server is OpenAI's because nobody names another, the URL is returned too, so that the key can go nowhere else.
    """
    if key.value != NO_KEY or key.source != DEFAULT:
        return base_url, key
    is_openai = provider == "openai" or (provider == "auto" and not model.startswith(_OTHERS_MODELS))
    place = base_url or (OPENAI_URL if is_openai else None)
    found = environment.key_for(place)
    if found is None:
        return base_url, key
    return place, Named(checked_pair(None, found.value, found.source)[1], found.source)
