"""The options of an endpoint: composed, picklable, without a key in their representation; and one of a pool's."""

from __future__ import annotations

import pickle
import re
from dataclasses import fields
from typing import Any

import pytest

from flexllm.errors import ConfigError
from flexllm.limits import RateLimit
from flexllm.media.options import MediaOptions
from flexllm.options import EndpointConfig, EndpointOptions, as_endpoint_config
from flexllm.transport import TransportOptions
from flexllm.wire import NO_KEY

SECRET = "sk-proj-Zx81hTq0LmN4vBs7"


def test_the_defaults_are_those_of_the_rooms() -> None:
    options = EndpointOptions()
    assert (options.provider, options.base_url, options.api_key, options.headers) == ("auto", None, NO_KEY, ())
    assert (options.rate_limit, options.transport, options.media) == (RateLimit(), TransportOptions(), MediaOptions())


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


# --- one endpoint of a pool -------------------------------------------------------------------------------------------

POOL = EndpointOptions(
    provider="openai",
    model="m",
    base_url="http://unused/v1",
    api_key="sk-of-the-pool",
    headers=(("X-Team", "all"), ("X-Trace", "on")),
    rate_limit=RateLimit(concurrency=7, max_qps=20.0, max_tpm=1000.0, adaptive=False),
    transport=TransportOptions(timeout=30.0, connect_timeout=3.0, connections=7),
)


def test_what_an_endpoint_leaves_open_is_as_the_pool_has_it() -> None:
    options = EndpointConfig("http://host/v1").over(POOL)
    assert (options.base_url, options.model, options.headers) == ("http://host/v1", "m", POOL.headers)
    assert (options.rate_limit, options.transport) == (POOL.rate_limit, POOL.transport)


def test_address_key_and_provider_are_an_endpoints_own() -> None:
    """A pool's key must not go to a server that it was not given for."""
    for config in (EndpointConfig("http://host/v1"), EndpointConfig("http://host/v1", api_key="", provider="")):
        options = config.over(POOL)
        assert (options.api_key, options.provider) == (NO_KEY, "auto")
    own = EndpointConfig(None, "sk-own", provider="gemini").over(POOL)
    assert (own.base_url, own.api_key, own.provider) == (None, "sk-own", "gemini")


def test_an_endpoints_own_limits_beat_the_pools() -> None:
    config = EndpointConfig(
        "http://host/v1",
        model="own",
        concurrency_limit=3,
        max_qps=5.0,
        min_qps=1.0,
        max_rpm=60.0,
        max_tpm=10.0,
        max_input_tpm=8.0,
        max_output_tpm=2.0,
        burst=4,
        adaptive=True,
        timeout=9.0,
    )
    options = config.over(POOL)
    assert options.model == "own"
    assert options.rate_limit == RateLimit(
        concurrency=3,
        max_qps=5.0,
        min_qps=1.0,
        max_rpm=60.0,
        max_tpm=10.0,
        max_input_tpm=8.0,
        max_output_tpm=2.0,
        burst=4,
        adaptive=True,
    )
    assert options.transport == TransportOptions(timeout=9.0, connect_timeout=3.0, connections=3)


def test_what_an_endpoint_switches_off_is_off() -> None:
    pool = EndpointOptions(rate_limit=RateLimit(adaptive=True))
    assert not EndpointConfig("http://host/v1", adaptive=False).over(pool).rate_limit.adaptive


def test_headers_of_an_endpoint_take_the_place_of_the_pools() -> None:
    options = EndpointConfig("http://host/v1", headers={"x-team": "own", "X-New": "1"}).over(POOL)
    assert options.headers == (("X-Trace", "on"), ("x-team", "own"), ("X-New", "1"))


def test_a_limit_that_cannot_be_is_refused_when_it_is_put_over_the_pools() -> None:
    for wrong in ({"concurrency_limit": 0}, {"max_qps": 0}, {"timeout": -1.0}, {"min_qps": 30.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            EndpointConfig("http://host/v1", **wrong).over(POOL)  # type: ignore[arg-type]


def test_an_endpoint_pickles_has_a_hash_and_hides_its_key() -> None:
    config = EndpointConfig("http://host/v1", SECRET, headers={"X-Token": SECRET})
    assert pickle.loads(pickle.dumps(config)) == config
    assert hash(config) == hash(EndpointConfig("http://host/v1", SECRET))
    assert SECRET not in f"{config!r} {config}"


def test_an_entry_may_be_a_dictionary_or_the_value_itself() -> None:
    config = EndpointConfig("http://host/v1", "sk-1", "m", weight=2.0)
    assert as_endpoint_config(config, "endpoints[0]") is config
    given = {"base_url": "http://host/v1", "api_key": "sk-1", "model": "m", "weight": 2.0}
    assert as_endpoint_config(given, "endpoints[0]") == config
    assert as_endpoint_config({"provider": "gemini"}, "endpoints[0]") == EndpointConfig(None, provider="gemini")


def test_a_dictionary_may_have_every_option() -> None:
    given = {one.name: one.default for one in fields(EndpointConfig) if one.name != "base_url"}
    assert as_endpoint_config({"base_url": "http://host/v1", **given}, "x") == EndpointConfig("http://host/v1")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("http://host/v1", "endpoints[1] must be an EndpointConfig or a dictionary, not of type str"),
        (None, "not of type NoneType"),
        ({}, "endpoints[1] has no base_url: give the server to ask, or the provider whose own it is"),
        ({"base_url": ""}, "has no base_url"),
        ({"base_url": None, "provider": "auto"}, "has no base_url"),
        ({"base_url": "http://h", "max_qsp": 5}, "endpoints[1] has no option 'max_qsp'; did you mean 'max_qps'?"),
        ({"base_url": "http://h", "zzz": 5}, "endpoints[1] has no option 'zzz'"),
        ({"base_url": "http://h", 5: 5}, "endpoints[1] has no option 5"),
        ({"base_url": "http://h", "weight": "heavy"}, "endpoints[1]: weight='heavy' of an endpoint must be a number"),
        ({"base_url": "http://h", "weight": -1}, "weight=-1"),
        ({"base_url": "http://h", "weight": True}, "weight=True"),
        ({"base_url": "http://h", "weight": float("nan")}, "weight=nan"),
        ({"base_url": "http://h", "weight": float("inf")}, "weight=inf"),
        ({"base_url": "http://h", "headers": [("a", "b")]}, "headers of an endpoint must be a mapping"),
        ({"base_url": "http://h", "model": ["m"]}, "must be the name of a model"),
    ],
)
def test_an_entry_that_is_none_is_refused_by_its_place(given: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        as_endpoint_config(given, "endpoints[1]")
    assert "endpoints[1]" in str(caught.value)
