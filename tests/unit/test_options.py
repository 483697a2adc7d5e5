"""The options of an endpoint: composed, picklable, and without a key in their representation."""

from __future__ import annotations

import pickle

import pytest

from flexllm.errors import ConfigError
from flexllm.limits import RateLimit
from flexllm.options import EndpointOptions
from flexllm.retry import RetryPolicy
from flexllm.transport import TransportOptions
from flexllm.wire import NO_KEY

SECRET = "sk-proj-Zx81hTq0LmN4vBs7"


def test_the_defaults_are_those_of_the_rooms() -> None:
    options = EndpointOptions()
    assert (options.provider, options.base_url, options.api_key, options.headers) == ("auto", None, NO_KEY, ())
    assert (options.rate_limit, options.retry, options.transport) == (RateLimit(), RetryPolicy(), TransportOptions())


def test_options_pickle() -> None:
    options = EndpointOptions(api_key=SECRET, transport=TransportOptions(proxies={"https": "http://proxy:3128"}))
    assert pickle.loads(pickle.dumps(options)) == options


def test_no_secret_stands_in_a_representation() -> None:
    transport = TransportOptions(proxies={"https": f"http://me:{SECRET}@proxy:3128"})
    options = EndpointOptions(api_key=SECRET, headers=(("X-Token", SECRET),), transport=transport)
    assert SECRET not in f"{options!r} {options} {transport!r}"


def test_options_are_given_by_name_alone() -> None:
    with pytest.raises(TypeError):
        EndpointOptions("openai")  # type: ignore[misc]


def test_a_wrong_value_is_found_where_it_is_given() -> None:
    with pytest.raises(ConfigError, match="concurrency_limit"):
        EndpointOptions(rate_limit=RateLimit(concurrency=0))
