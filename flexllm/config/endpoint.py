"""Whom to ask, as a value, with the place that each part of it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..configfile.values import Masked
from ..errors import ConfigError
from ..language import _
from ..prices import PriceLike
from ..templates import CONTENT, UserTemplate
from ..wire import NO_KEY

DEFAULT = "default"
"""The source of what nobody says."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ResolvedEndpoint(Masked):
    """Whom to ask, and for what.

    Attributes:
        model: The server's name of the model.
        base_url: None means the provider's own.
        api_key: From the same source as `base_url`.
        entry_id: The entry of the file that was chosen; None if it was none.
        source: Where `base_url` and `api_key` come from, for people.
        prices: What the file says of models by name; of this one, what its own entry says.
        sources: Where each value comes from, for people, by the names of these fields and, for parameters, such as
            "params.temperature": "--model", "FLEXLLM_MODEL", "~/.flexllm/config.yaml, line 12", "default".
    """

    model: str
    base_url: str | None
    api_key: str = NO_KEY
    provider: str = "auto"
    system: str | None = None
    user_template: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    entry_id: str | None = None
    source: str
    prices: Mapping[str, PriceLike] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    def client_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return prices, `system`, `user_template` and `params` as options of a client, below those that are given.

        Args:
            given: The caller's own options. None counts: the caller sees to it himself.

        Raises:
            ConfigError: The template has places that only the rows of an input file can fill, and no other is given.
        """
        if self.user_template is not None and "user_template" not in given:
            self._check_template(UserTemplate(self.user_template))
        own = {name: getattr(self, name) for name in ("prices", "system", "user_template", "params")}
        return {**own, **given}

    def _check_template(self, template: UserTemplate) -> None:
        if template.needs_fields:
            others = ", ".join(f"{{{name}}}" for name in template.names if name != CONTENT)
            raise ConfigError(
                _(
                    "{place}: user_template has {fields}, which only the rows of flexllm batch can fill; choose another "
                    "model, or write {{content}} alone",
                    place=self.sources.get("user_template", self.source),
                    fields=others,
                )
            )
