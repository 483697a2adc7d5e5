"""Whose prices hold at which server: by the host of a base URL, and nothing else. Pure.

A maker's own server sells at the maker's price. Servers that sell other people's open models (Groq, Together, OpenRouter)
have prices of their own, which hold there alone. A server that nobody here knows is taken for a gateway: what it passes on
costs what the maker asks, which is not sure of a model that others can run too; and an open model whose maker sells none
has no price. At servers that are known to have prices of their own, which no list here holds, everything is unknown.

Sources: the providers' documentation of their base URLs and prices.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

OPENROUTER = "openrouter"

HOSTING = frozenset({"groq", "together", OPENROUTER})
"""Sell models that others made, at prices of their own."""

ALONE = frozenset({"anthropic", "cohere", "google", "openai", "perplexity", "xai"})
"""Sell their models at one price, wherever these are bought: nobody else can run them."""

_OPEN_MODELS = ("gpt-oss", "gemma", "command-")
"""How the names of models begin that those in `ALONE` gave away."""


class Offer(NamedTuple):
    """Whose prices hold somewhere.

    Attributes:
        providers: Those; or, with `others`, all but those, unless the model's own name says that it is theirs.
        is_certain: The prices are those of this very place, not of the same provider in another country, say.
        is_passed_on: They are the makers', at a server that may run models by itself.
    """

    providers: frozenset[str]
    others: bool = False
    is_certain: bool = True
    is_passed_on: bool = False

    def is_sure(self, provider: str, model: str) -> bool:
        """Return whether a provider's price is what this model costs here."""
        return self.is_certain and (not self.is_passed_on or sells_alone(provider, model))

    def holds(self, provider: str, named: str | None) -> bool:
        """Return whether a provider's price holds, for a model whose name says that it is `named`'s."""
        if not self.others:
            return provider in self.providers
        return provider not in self.providers or provider == named


_GATEWAY = (Offer(HOSTING, others=True, is_passed_on=True),)
_ANYWHERE = (Offer(HOSTING, others=True), Offer(HOSTING - {OPENROUTER}), Offer(frozenset({OPENROUTER})))


def _own(*providers: str) -> tuple[Offer, ...]:
    return (Offer(frozenset(providers)),)


def _abroad(provider: str) -> tuple[Offer, ...]:
    """Of a place whose prices are in another currency, and not quite those of the list."""
    return (Offer(frozenset({provider}), is_certain=False),)


_HOSTS: dict[str, tuple[Offer, ...]] = {
    "aimlapi.com": (),
    "aliyuncs.com": _abroad("dashscope"),
    "amazonaws.com": _own("anthropic"),
    "anthropic.com": _own("anthropic"),
    "azure.com": _own("openai", "anthropic"),
    "bigmodel.cn": _abroad("zai"),
    "bytepluses.com": _abroad("volcengine"),
    "cerebras.ai": (),
    "cohere.ai": _own("cohere"),
    "cohere.com": _own("cohere"),
    "dashscope-intl.aliyuncs.com": _own("dashscope"),
    "deepinfra.com": (),
    "deepseek.com": _own("deepseek"),
    "fireworks.ai": (),
    "googleapis.com": _own("google", "anthropic"),
    "groq.com": _own("groq"),
    "huggingface.co": (),
    "minimax.io": _own("minimax"),
    "minimaxi.com": _abroad("minimax"),
    "mistral.ai": _own("mistral"),
    "moonshot.ai": _own("moonshot"),
    "moonshot.cn": _abroad("moonshot"),
    "novita.ai": (),
    "nvidia.com": (),
    "ollama.com": (),
    "openai.com": _own("openai"),
    "openrouter.ai": (Offer(frozenset({OPENROUTER})), Offer(HOSTING, others=True, is_certain=False)),
    "perplexity.ai": _own("perplexity"),
    "sambanova.ai": (),
    "siliconflow.cn": (),
    "siliconflow.com": (),
    "together.ai": _own("together"),
    "together.xyz": _own("together"),
    "volces.com": _own("volcengine"),
    "x.ai": _own("xai"),
    "z.ai": _own("zai"),
}
"""By the end of the host's name; the longest that fits holds."""


def offers(base_url: str | None) -> tuple[Offer, ...]:
    """Return whose prices hold at a server, the nearest first; None asks for any price that is known at all."""
    if not base_url:
        return _ANYWHERE
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:  # no URL; who asks it says so
        host = ""
    parts = host.rstrip(".").split(".")
    for start in range(len(parts)):
        found = _HOSTS.get(".".join(parts[start:]))
        if found is not None:
            return found
    return _GATEWAY


def sells_alone(provider: str, model: str) -> bool:
    """Return whether a model costs the same wherever it is bought, because its maker alone can run it."""
    return provider in ALONE and not model.lower().startswith(_OPEN_MODELS)
