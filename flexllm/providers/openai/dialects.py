"""What servers that speak OpenAI's chat completions differ in, as one table; who asks whom is told by the base URL.

A server whose host is not known is taken for one of one's own: vLLM, SGLang or a gateway. Pure: values, and two look-ups.

Sources: each provider's API reference; what only their servers' replies tell is noted where it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import urlsplit

from ...language import _, mark
from ...media.options import MediaWants

NO_VIDEO = mark("give pictures of it, as parts of type image_url")
NO_FILE = mark("give its text, or pictures of its pages")
_SOUND_ITSELF = MediaWants(inline_remote=frozenset({"audio"}))
_TEXT_AND_PICTURES = {
    "audio_url": mark("leave it out"),
    "input_audio": mark("leave it out"),
    "video_url": NO_VIDEO,
    "video": NO_VIDEO,
    "file": NO_FILE,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dialect:
    """One server's way of speaking.

    Attributes:
        name: In the table.
        title: For people, in English; `shown` is in their language.
        thinking: How the switch for thinking is said; `thinking` knows the ways by this word.
        thinking_field: The field for an object given as `thinking`; None where the server has no such object.
        levels: Strengths of thinking that it knows; what single models know is in `models`.
        budgets: The fewest and the most tokens that a budget for thinking may have; None where it takes none.
        budget_in_limit: Whether such a budget is part of `max_tokens`, which elsewhere limits the answer alone.
        has_developer: Whether `developer` is a role of its own; elsewhere it is said as `system`.
        one_system: Whether several leading system messages become one: some chat templates take no more.
        reasoning_back: The field in which an earlier turn's thinking goes back; "both" for `reasoning_content` and
            `reasoning` (servers of either name), "with_tools" for the first of them, where tools are used, "tags" for
            the text before the answer, between tags, for GLM's models; None where it does not go back.
        details_back: Whether `reasoning_details` go back unchanged.
        refused_fields: Fields that other servers' replies have, and whose message this one refuses; they are left out.
        prefix: How the last message is marked to be continued: by the field "prefix" or "partial", by the request's
            fields ("template"), or not at all (None).
        continues_at_beta: Whether that is done at another URL.
        refused_parts: Types of content parts that are not taken, with what to do instead.
        audio_urls: Whether sounds are taken as parts of type `audio_url`; elsewhere they are said as `input_audio`.
        refused_words: Parameters that the server ignores or refuses, with the values that ask nothing of it.
        renamed: Parameters that it knows by another name alone, with that name.
        forced_tools: What becomes of a `tool_choice` that forces a call: it is said as OpenAI says it (None), as "any", it
            is "refused", it is refused as "required" alone ("by_name"), or it is refused while the model thinks
            ("without_thinking").
        stream_options: Whether a stream may be asked for its usage; where not, it brings it unasked.
        json_schema: Whether it holds a reply to a schema; where not, the schema is told to the model.
        checks_models: Whether what is known of OpenAI's own models is held against a request.
        short_ids: Whether ids of tool calls must be nine letters and digits.
        models_query: Added to the URL of the list of models.
        media: In what form pictures and the like must stand.
        watched: Parameters that need a look; a request with none of them is sent as it is. Computed.
    """

    name: str
    title: str
    thinking: str = "effort"
    thinking_field: str | None = None
    levels: tuple[str, ...] = ("low", "medium", "high")
    budgets: tuple[int, int] | None = None
    budget_in_limit: bool = False
    has_developer: bool = False
    one_system: bool = False
    reasoning_back: str | None = None
    details_back: bool = False
    refused_fields: frozenset[str] = frozenset()
    prefix: str | None = None
    continues_at_beta: bool = False
    refused_parts: Mapping[str, str] = field(default_factory=dict)
    audio_urls: bool = False
    refused_words: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    forced_tools: str | None = None
    stream_options: bool = True
    json_schema: bool = True
    checks_models: bool = False
    short_ids: bool = False
    models_query: str = ""
    media: MediaWants = _SOUND_ITSELF
    watched: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        words = {"thinking", *self.refused_words, *self.renamed}
        if self.forced_tools:
            words.add("tool_choice")
        if not self.json_schema:
            words.add("response_format")
        if self.checks_models:
            words.update(SAMPLING, ("max_tokens", "stop"))
        object.__setattr__(self, "watched", frozenset(words))
        for name in ("refused_parts", "refused_words", "renamed"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    @property
    def shown(self) -> str:
        """The title in the language in use."""
        return _(self.title)


SAMPLING: Mapping[str, tuple[object, ...]] = {
    "temperature": (1,),
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
}
"""What OpenAI's models refuse while they think, with the values that ask nothing of them."""

_LIMIT = {"max_completion_tokens": "max_tokens"}
_OPENAI_PARTS = {"video_url": NO_VIDEO, "video": NO_VIDEO}
_FOREIGN_FIELDS = frozenset({"reasoning", "reasoning_details"})

UNKNOWN = Dialect(
    name="vllm",
    title=mark("vLLM (which unknown hosts are taken for)"),
    thinking="template",
    thinking_field="thinking",
    levels=("minimal", "low", "medium", "high", "xhigh", "max"),
    budgets=(1, 10**9),
    budget_in_limit=True,
    one_system=True,
    reasoning_back="both",
    prefix="template",
    refused_parts={"file": NO_FILE},
    audio_urls=True,
    media=MediaWants(),
)
"""Servers of one's own. They name thinking `reasoning` now and `reasoning_content` before, and read what they know."""

GATEWAY = replace(UNKNOWN, title=mark("a gateway"), refused_parts={}, audio_urls=False, prefix=None)
"""A host that is not known, asked for a model that nobody can run: it hands on to the maker, who takes more parts."""

_DIALECTS: tuple[tuple[Dialect, tuple[str, ...]], ...] = (
    (
        Dialect(
            name="openai",
            title="OpenAI",
            levels=("minimal", "low", "medium", "high", "xhigh", "max"),
            has_developer=True,
            refused_fields=_FOREIGN_FIELDS,
            refused_parts=_OPENAI_PARTS,
            checks_models=True,
            media=MediaWants(inline_remote=frozenset({"audio", "file"})),
        ),
        ("api.openai.com",),
    ),
    (
        Dialect(
            name="azure",
            title="Azure OpenAI",
            levels=("minimal", "low", "medium", "high", "xhigh", "max"),
            has_developer=True,
            refused_fields=_FOREIGN_FIELDS,
            refused_parts={**_OPENAI_PARTS, "file": NO_FILE},
            checks_models=True,
        ),
        ("openai.azure.com", "cognitiveservices.azure.com", "services.ai.azure.com"),
    ),
    (
        Dialect(
            name="deepseek",
            title="DeepSeek",
            thinking="type",
            thinking_field="thinking",
            levels=("low", "high", "max"),
            reasoning_back="with_tools",
            prefix="prefix",
            continues_at_beta=True,
            refused_parts=_TEXT_AND_PICTURES,
            renamed=_LIMIT,
            forced_tools="without_thinking",
            json_schema=False,
        ),
        ("deepseek.com",),
    ),
    (
        Dialect(
            name="dashscope",
            title="DashScope",
            thinking="enable",
            levels=(),
            budgets=(1, 10**9),
            prefix="partial",
            refused_parts={"file": NO_FILE},
            media=MediaWants(audio_as_uri=True),
        ),
        ("aliyuncs.com",),
    ),
    (
        Dialect(
            name="siliconflow",
            title="SiliconFlow",
            thinking="enable",
            levels=(),
            budgets=(128, 32_768),
            renamed=_LIMIT,
            models_query="?type=text&sub_type=chat",
        ),
        ("siliconflow.cn", "siliconflow.com"),
    ),
    (
        Dialect(
            name="openrouter",
            title="OpenRouter",
            thinking="reasoning",
            thinking_field="reasoning",
            levels=("minimal", "low", "medium", "high", "xhigh", "max"),
            budgets=(1, 10**9),
            budget_in_limit=True,
            has_developer=True,
            details_back=True,
            refused_parts={"video": mark("give a part of type video_url")},
        ),
        ("openrouter.ai",),
    ),
    (
        Dialect(
            name="moonshot",
            title="Kimi",
            thinking="type",
            thinking_field="thinking",
            levels=("low", "high", "max"),
            reasoning_back="reasoning_content",
            prefix="partial",
            forced_tools="by_name",
        ),
        ("moonshot.ai", "moonshot.cn", "kimi.com"),
    ),
    (
        Dialect(
            name="zai",
            title="Z.ai",
            thinking="type",
            thinking_field="thinking",
            levels=("low", "high", "max"),
            reasoning_back="reasoning_content",
            renamed=_LIMIT,
        ),
        ("z.ai", "bigmodel.cn"),
    ),
    (Dialect(name="xai", title="xAI"), ("x.ai",)),
    (
        Dialect(
            name="mistral",
            title="Mistral",
            thinking="mistral",
            levels=("high",),
            prefix="prefix",
            # It answers 422 to fields that it does not know. Sources: its API reference and its replies.
            refused_fields=_FOREIGN_FIELDS | {"annotations"},
            refused_words={"logprobs": (False,), "top_logprobs": (0,), "logit_bias": ({},)},
            renamed={**_LIMIT, "seed": "random_seed"},
            forced_tools="any",
            stream_options=False,
            short_ids=True,
        ),
        ("mistral.ai",),
    ),
    (Dialect(name="groq", title="Groq"), ("groq.com",)),
    (
        Dialect(name="together", title="Together", thinking="toggle", thinking_field="reasoning", renamed=_LIMIT),
        ("together.xyz", "together.ai"),
    ),
    (Dialect(name="fireworks", title="Fireworks"), ("fireworks.ai",)),
    (Dialect(name="cerebras", title="Cerebras", thinking="disable", reasoning_back="tags"), ("cerebras.ai",)),
    (
        Dialect(name="minimax", title="MiniMax", thinking="split", levels=(), details_back=True),
        ("minimax.io", "minimaxi.com", "minimax.chat"),
    ),
    (
        Dialect(name="doubao", title="Doubao", thinking="type", thinking_field="thinking"),
        ("volces.com", "bytepluses.com"),
    ),
    (Dialect(name="perplexity", title="Perplexity", renamed=_LIMIT), ("perplexity.ai",)),
    (
        Dialect(
            name="gemini", title=mark("Gemini's layer in OpenAI's format"), levels=("minimal", "low", "medium", "high")
        ),
        ("googleapis.com",),
    ),
    (
        Dialect(
            name="anthropic",
            title=mark("Anthropic's layer in OpenAI's format"),
            thinking="budget",
            thinking_field="thinking",
            levels=(),
            budgets=(1024, 10**9),
            budget_in_limit=True,
        ),
        ("anthropic.com",),
    ),
    (
        Dialect(
            name="ollama",
            title="Ollama",
            thinking_field="reasoning",
            levels=("low", "medium", "high", "max"),
            reasoning_back="reasoning",
            refused_parts={**_OPENAI_PARTS, "file": NO_FILE},
            # It ignores what it does not know. Source: its server's code.
            refused_words={
                "n": (1,),
                "logit_bias": ({},),
                "parallel_tool_calls": (True,),
                "chat_template_kwargs": ({},),
                # Words of its native API, where they mean something.
                **dict.fromkeys(("think", "format", "options", "keep_alive"), ({},)),
            },
            renamed=_LIMIT,
            forced_tools="refused",
            media=MediaWants(
                inline_remote=frozenset({"image", "audio"}),
                image_types=frozenset({"image/jpeg", "image/png", "image/webp"}),
            ),
        ),
        ("ollama.com",),
    ),
)
"""Each dialect, and the domains of its servers."""

OLLAMA_PORT = 11434
_BY_DOMAIN = {domain: dialect for dialect, domains in _DIALECTS for domain in domains}
DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {dialect.name: dialect for dialect in (*(one for one, _domains in _DIALECTS), UNKNOWN)}
)
"""All of them, by name."""


@lru_cache(maxsize=256)
def dialect_of(base_url: str) -> Dialect:
    """Return how the server at a base URL speaks; what is known of vLLM where its host says nothing."""
    try:
        parts = urlsplit(base_url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return UNKNOWN
    while host:
        if host in _BY_DOMAIN:
            return _BY_DOMAIN[host]
        host = host.partition(".")[2]
    return DIALECTS["ollama"] if port == OLLAMA_PORT else UNKNOWN


@lru_cache(maxsize=256)
def continuing_url(base_url: str) -> str:
    """Return where DeepSeek continues a message: its beta, for the base URLs that it documents."""
    base, _slash, last = base_url.rpartition("/")
    if last == "v1":
        return f"{base}/beta"
    return base_url if last == "beta" else f"{base_url}/beta"
