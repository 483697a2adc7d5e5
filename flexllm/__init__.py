"""flexllm: the LLM client for code that is not async.

    from flexllm import LLMClient

    with LLMClient(model="gpt-6-luna", api_key="...") as client:
        print(client.chat_completions_sync("What is a token bucket?"))

Importing this package loads the standard library alone; each name is resolved when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, whose import would take longer than all of this

__version__ = "1.0.0.dev0"

if TYPE_CHECKING:
    from typing import Any

    from .batch.items import BatchResult, BatchResultItem
    from .batch.outlook import Forecast
    from .cache.key import messages_hash
    from .cache.options import ResponseCacheConfig
    from .cache.store import ResponseCache
    from .chain.client import ChainOfThoughtClient
    from .chain.context import Context, StepResponse, StepResult
    from .chain.monitor import ChainEvent, LoggingMonitor
    from .chain.steps import LinearStep, Step
    from .chat import ChatCompletionResult, Chunk, ToolCall, ToolCallDelta, Usage
    from .client.llm import LLMClient
    from .client.mllm import MllmClient
    from .client.providers import ClaudeClient, GeminiClient, OpenAIClient
    from .cost.estimates import estimate_batch_cost, estimate_cost
    from .cost.options import CostTrackerConfig
    from .cost.report import CostReport
    from .cost.tracker import CostTracker
    from .errors import (
        AllEndpointsFailed,
        ApiStatusError,
        AuthenticationFailed,
        BadRequest,
        BatchFailed,
        BatchStopped,
        BudgetExceededError,
        CacheError,
        ChainError,
        CheckpointError,
        ConfigError,
        ConnectionFailed,
        ContentFiltered,
        ContextTooLong,
        FlexLLMError,
        InputError,
        MalformedResponse,
        NotFound,
        OutputLocked,
        Overloaded,
        PermissionDenied,
        PriceUnknown,
        QuotaExhausted,
        RateLimited,
        RejectedReply,
        ReplyTruncated,
        RequestCancelled,
        RequestError,
        RequestTimeout,
        SchemaMismatch,
        ServerError,
        StreamBroken,
        TlsFailed,
        UnreadableReply,
    )
    from .limits.slowness import HedgePolicy
    from .media.options import MediaOptions
    from .multimodal.folders import MllmFolderProcessor
    from .multimodal.tables import MllmTableProcessor
    from .options import EndpointConfig
    from .parsing import extract_code_snippets, parse_to_code, parse_to_obj
    from .pool import LLMClientPool
    from .prices.public import MODEL_PRICING
    from .prices.values import Price
    from .providers.credits.balance import Balance
    from .router import ProviderConfig, ProviderRouter, create_router_from_urls
    from .tokens.count import count_messages_tokens, count_tokens

_ROOMS = {
    "batch.items": "BatchResult BatchResultItem",
    "batch.outlook": "Forecast",
    "cache.key": "messages_hash",
    "cache.options": "ResponseCacheConfig",
    "cache.store": "ResponseCache",
    "chain.client": "ChainOfThoughtClient",
    "chain.context": "Context StepResponse StepResult",
    "chain.monitor": "ChainEvent LoggingMonitor",
    "chain.steps": "LinearStep Step",
    "chat": "ChatCompletionResult Chunk ToolCall ToolCallDelta Usage",
    "client.llm": "LLMClient",
    "client.mllm": "MllmClient",
    "client.providers": "ClaudeClient GeminiClient OpenAIClient",
    "cost.estimates": "estimate_batch_cost estimate_cost",
    "cost.options": "CostTrackerConfig",
    "cost.report": "CostReport",
    "cost.tracker": "CostTracker",
    "errors": (
        "AllEndpointsFailed ApiStatusError AuthenticationFailed BadRequest BatchFailed BatchStopped BudgetExceededError "
        "CacheError ChainError CheckpointError ConfigError ConnectionFailed ContentFiltered ContextTooLong FlexLLMError "
        "InputError "
        "MalformedResponse NotFound OutputLocked Overloaded PermissionDenied PriceUnknown QuotaExhausted RateLimited "
        "RejectedReply ReplyTruncated RequestCancelled RequestError RequestTimeout SchemaMismatch ServerError "
        "StreamBroken TlsFailed UnreadableReply"
    ),
    "limits.slowness": "HedgePolicy",
    "media.options": "MediaOptions",
    "multimodal.folders": "MllmFolderProcessor",
    "multimodal.tables": "MllmTableProcessor",
    "options": "EndpointConfig",
    "parsing": "extract_code_snippets parse_to_code parse_to_obj",
    "pool": "LLMClientPool",
    "prices.public": "MODEL_PRICING",
    "prices.values": "Price",
    "providers.credits.balance": "Balance",
    "router": "ProviderConfig ProviderRouter create_router_from_urls",
    "tokens.count": "count_messages_tokens count_tokens",
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names.split()}

__all__ = [  # noqa: RUF022 - sorted as `sorted` has it
    "AllEndpointsFailed",
    "ApiStatusError",
    "AuthenticationFailed",
    "BadRequest",
    "Balance",
    "BatchFailed",
    "BatchResult",
    "BatchResultItem",
    "BatchStopped",
    "BudgetExceededError",
    "CacheError",
    "ChainError",
    "ChainEvent",
    "ChainOfThoughtClient",
    "ChatCompletionResult",
    "CheckpointError",
    "Chunk",
    "ClaudeClient",
    "ConfigError",
    "ConnectionFailed",
    "ContentFiltered",
    "Context",
    "ContextTooLong",
    "CostReport",
    "CostTracker",
    "CostTrackerConfig",
    "EndpointConfig",
    "FlexLLMError",
    "Forecast",
    "GeminiClient",
    "HedgePolicy",
    "InputError",
    "LLMClient",
    "LLMClientPool",
    "LinearStep",
    "LoggingMonitor",
    "MODEL_PRICING",
    "MalformedResponse",
    "MediaOptions",
    "MllmClient",
    "MllmFolderProcessor",
    "MllmTableProcessor",
    "NotFound",
    "OpenAIClient",
    "OutputLocked",
    "Overloaded",
    "PermissionDenied",
    "Price",
    "PriceUnknown",
    "ProviderConfig",
    "ProviderRouter",
    "QuotaExhausted",
    "RateLimited",
    "RejectedReply",
    "ReplyTruncated",
    "RequestCancelled",
    "RequestError",
    "RequestTimeout",
    "ResponseCache",
    "ResponseCacheConfig",
    "SchemaMismatch",
    "ServerError",
    "Step",
    "StepResponse",
    "StepResult",
    "StreamBroken",
    "TlsFailed",
    "ToolCall",
    "ToolCallDelta",
    "UnreadableReply",
    "Usage",
    "__version__",
    "count_messages_tokens",
    "count_tokens",
    "create_router_from_urls",
    "estimate_batch_cost",
    "estimate_cost",
    "extract_code_snippets",
    "messages_hash",
    "parse_to_code",
    "parse_to_obj",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        import difflib
        import sys
        from importlib.util import find_spec

        known = {one.lower(): one for one in __all__}
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
        hint = f"; did you mean {known[near[0]]!r}?" if near else ""
        message = f"module 'flexllm' has no attribute {name!r}{hint}"
        # `from flexllm import X` looks with hasattr first, which would drop an AttributeError together with its hint.
        is_import = sys._getframe(1).f_code.co_name == "_handle_fromlist"
        if is_import and near and find_spec(f"{__name__}.{name}") is None:
            raise ImportError(message, name=__name__, path=__file__)
        raise AttributeError(message)
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
    return value


def __dir__() -> list[str]:
    return __all__
