"""Chooses whom to ask: what the caller says before the environment, before the file, before the default."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

from ..configfile.checks import checked_pair
from ..configfile.values import Config, ModelEntry, ids_of
from ..errors import ConfigError
from ..language import _, mark, with_commas
from ..wire import NO_KEY
from .endpoint import DEFAULT, ResolvedEndpoint
from .environment import OPENAI_URL, Environment, Named, read_environment
from .keys import base_url_of, key_of, text_of, with_openai_key

_NO_DEFAULT = mark(
    "{file} has several models and no default; it has {ids}: choose one with -m, or give --base-url to ask another server"
)
_NOT_LISTED = mark(
    "{file} has no model {name!r}; it has {ids}: choose one with -m, or give --base-url to ask another server"
)
_DEFAULT_NOT_LISTED = mark(
    "{file} has no model {name!r}, its own default; it has {ids}: choose one with -m, or give --base-url to ask another "
    "server"
)
_NO_KEY = Named(NO_KEY, DEFAULT)
_AUTO = Named("auto", DEFAULT)
_log = logging.getLogger(__name__)


def resolve_endpoint(
    config: Config,
    *,
    model: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    provider: str | None = None,
    environ: Mapping[str, str] = os.environ,
    run_commands: bool = True,
    needs_model: bool = True,
) -> ResolvedEndpoint:
    """Choose whom to ask: what the caller says before the environment, before the file, before the default.

    Model names may cross from one source to another, keys never do. The one exception is explicit: `api_key` together
    with the `model` of an entry replaces that entry's key.

    Args:
        model: An entry's id or name, or the name of a model at another server. None, here and below: not given.
        run_commands: False runs no `api_key_cmd`: the key is then NO_KEY, and its source says what would be run.
        needs_model: False is enough for what is asked of a server and not of a model: `model` is then "" where nobody names
            one.

    Raises:
        ConfigError: The sources leave open whom to ask, or do not fit together; the message says what to do.
    """
    flags = _Flags(
        model=_flag("model", model),
        base_url=_flag("base_url", base_url),
        api_key=_flag("api_key", api_key),
        provider=_flag("provider", provider),
    )
    return _Choice(config, flags, read_environment(environ), environ, run_commands, needs_model).endpoint()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags:
    model: Named | None
    base_url: Named | None
    api_key: Named | None
    provider: Named | None


def _flag(name: str, value: str | None) -> Named | None:
    if value is not None and not value.strip():
        raise ConfigError(_("{name} is given but empty; give a value or leave it out", name=name))
    return None if value is None else Named(value, f"--{name.replace('_', '-')}")


def _command_line() -> str:
    return _("the command line")


def _environment() -> str:
    return _("the environment")


def _checked_key(key: Named) -> Named:
    return Named(checked_pair(None, key.value, key.source)[1], key.source)


@dataclass(frozen=True, slots=True)
class _Choice:
    """All that is said of whom to ask."""

    config: Config
    flags: _Flags
    environment: Environment
    environ: Mapping[str, str]
    run_commands: bool
    needs_model: bool

    def endpoint(self) -> ResolvedEndpoint:
        config, flags, environment = self.config, self.flags, self.environment
        if flags.base_url is not None:
            return self._outside(flags.base_url, flags.api_key, flags.provider, _command_line())
        entry = config.find(flags.model.value, self.environ) if flags.model is not None else None
        if entry is None:
            if flags.api_key is not None and (environment.base_url is not None or config.models):
                raise self._key_without_server()
            if environment.base_url is not None:
                if environment.lost_key is not None:
                    _log.warning(
                        "%s is ignored: it is for the server of FLEXLLM_BASE_URL, which is not set",
                        environment.lost_key.source,
                    )
                provider = flags.provider or environment.provider
                return self._outside(environment.base_url, environment.api_key, provider, _environment())
            if not config.models:
                return self._without_url()
            entry = self._listed_entry()
        if flags.api_key is None and environment.base_url is None:
            self._warn_of_ignored(entry)
        return self._from_file(entry)

    # --- outside the file

    def _without_url(self) -> ResolvedEndpoint:
        """Return what a key alone names: its provider's own server."""
        flags, environment = self.flags, self.environment
        provider = flags.provider or environment.provider
        if flags.api_key is not None:
            return self._outside(None, flags.api_key, provider, _command_line())
        if environment.api_key is not None:
            return self._outside(None, environment.api_key, provider, _environment())
        key = environment.openai_key
        if key is not None and (provider is None or provider.value in ("auto", "openai")):
            return self._outside(Named(OPENAI_URL, key.source), key, provider, _environment())
        raise ConfigError(
            _(
                "no server is configured: give --base-url (and --api-key, -m), or set FLEXLLM_BASE_URL, FLEXLLM_API_KEY and "
                "FLEXLLM_MODEL, or list models in {file} ('flexllm init' writes one)",
                file=self.config.file,
            )
        )

    def _outside(
        self, base_url: Named | None, api_key: Named | None, provider: Named | None, source: str
    ) -> ResolvedEndpoint:
        """Return an endpoint that is none of the file's."""
        model = self.flags.model or self.environment.model or self.environment.openai_model
        if model is None and self.flags.base_url is not None:
            model = self._model_of_default()
        if model is None and not self.needs_model:
            model = Named("", DEFAULT)
        if model is None:
            reason = _(
                "{source} says whom to ask, but not for which model; give -m NAME or set FLEXLLM_MODEL", source=source
            )
            raise ConfigError(reason)
        provider = provider or _AUTO
        key = api_key or _NO_KEY
        url = checked_pair(base_url.value, NO_KEY, base_url.source)[0] if base_url is not None else None
        key = _checked_key(key)
        if url is not None:
            url, key = with_openai_key(url, key, provider.value, model.value, self.environment)
        named = {"model": model, "provider": provider, "base_url": base_url or _AUTO, "api_key": key}
        return ResolvedEndpoint(
            model=model.value,
            base_url=url,
            api_key=key.value,
            provider=provider.value,
            source=source,
            prices=self.config.prices,
            sources={
                **{name: one.source for name, one in named.items()},
                **dict.fromkeys(("system", "user_template"), DEFAULT),
            },
        )

    def _model_of_default(self) -> Named | None:
        """Return the name of the file's default model, which another server may have too."""
        try:
            entry = self.config.default_entry(self.environ)
            return None if entry is None else self._name(entry)
        except ConfigError:
            if self.needs_model:
                raise
            return None

    def _key_without_server(self) -> ConfigError:
        asked = self.flags.model or self.environment.model
        models = self.config.models
        if not models:
            return ConfigError(_("an API key is given without the server that it belongs to; give --base-url too"))
        return ConfigError(
            _(
                "an API key is given without the server that it belongs to; give --base-url too, or -m with an entry of "
                "{file}: {ids}",
                file=self.config.file,
                ids=ids_of(models, asked and asked.value),
            )
        )

    # --- an entry of the file

    def _listed_entry(self) -> ModelEntry:
        """Return the entry that is asked for by its id or name, or the default one."""
        config, environment = self.config, self.environment
        asked = self.flags.model or environment.model
        if asked is None and environment.openai_model is not None:
            # It is meant for every program that asks OpenAI: where it names none of ours, no harm is done.
            entry = config.find(environment.openai_model.value, self.environ)
            if entry is not None:
                return entry
        entry = config.default_entry(self.environ) if asked is None else config.find(asked.value, self.environ)
        if entry is not None:
            return entry
        raise self._nothing_listed(asked)

    def _nothing_listed(self, asked: Named | None) -> ConfigError:
        config = self.config
        name = asked.value if asked is not None else config.default_name(self.environ)
        text = _NOT_LISTED if asked is not None else _DEFAULT_NOT_LISTED
        if name is None:
            text = _NO_DEFAULT
        return ConfigError(_(text, file=config.file, name=name, ids=ids_of(config.models, name)))

    def _warn_of_ignored(self, entry: ModelEntry) -> None:
        for named, own in ((self.environment.api_key, "api_key"), (self.environment.provider, "provider")):
            if named is not None:
                _log.warning(
                    "%s is ignored: model %s has its own %s in the file, and FLEXLLM_BASE_URL is not set",
                    named.source, entry.id, own,
                )  # fmt: skip

    def _from_file(self, entry: ModelEntry) -> ResolvedEndpoint:
        config, flags, where = self.config, self.flags, self._key(entry)
        source = with_commas([config.file, where])
        if flags.api_key is None and entry.base_url is None and self._is_another_provider(entry):
            # Without a URL the provider stands for it: another one would get a key that was not meant for it.
            reason = _(
                "{source} has no base_url and its key belongs to provider {provider!r}; to ask provider {other!r} give its "
                "key with --api-key, or an entry of its own",
                source=source,
                provider=entry.provider,
                other=flags.provider and flags.provider.value,
            )
            raise ConfigError(reason)
        model = self._name(entry)
        provider = flags.provider or Named(entry.provider, self._source(entry, "provider"))
        url = base_url_of(config, where, entry, self.environ)
        if flags.api_key is not None:
            key = _checked_key(flags.api_key)
        else:
            key = key_of(config, where, entry, self.environ, run=self.run_commands)
        asked_url = url
        url, key = with_openai_key(url, key, provider.value, model.value, self.environment)
        return ResolvedEndpoint(
            model=model.value,
            base_url=url,
            api_key=key.value,
            provider=provider.value,
            system=entry.system,
            user_template=entry.user_template,
            params=entry.params,
            prices=config.prices if entry.price is None else {**config.prices, model.value: entry.price},
            entry_id=entry.id,
            source=source if flags.api_key is None else _("{source}, with the key of the command line", source=source),
            sources={
                "model": model.source,
                "base_url": self._source(entry, "base_url") if asked_url == url else DEFAULT,
                "api_key": key.source,
                "provider": provider.source,
                "system": self._source(entry, "system"),
                "user_template": self._source(entry, "user_template"),
                **{f"params.{name}": config.place(f"{where}.params.{name}") for name in entry.params},
            },
        )

    def _name(self, entry: ModelEntry) -> Named:
        """Return what the server calls an entry's model."""
        key = self._key(entry, "name")
        if key not in self.config.lines:
            key = self._key(entry, "id")
        return Named(text_of(self.config, key, entry.name, self.environ), self.config.place(key))

    def _is_another_provider(self, entry: ModelEntry) -> bool:
        return self.flags.provider is not None and self.flags.provider.value != entry.provider

    def _key(self, entry: ModelEntry, name: str = "") -> str:
        """Return what `Config.place` knows an entry by, or one of its keys."""
        return f"models[{self.config.models.index(entry)}]" + (f".{name}" if name else "")

    def _source(self, entry: ModelEntry, name: str) -> str:
        """Return where a value of an entry comes from."""
        is_set = getattr(entry, name) not in (None, "auto")
        return self.config.place(self._key(entry, name)) if is_set else DEFAULT
