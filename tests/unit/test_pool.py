"""The face of a pool: how its endpoints are given, what is refused, what it shows of itself. Nothing is sent."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from flexllm import ConfigError, EndpointConfig, LLMClient, LLMClientPool
from flexllm.client.members import pool_model

KEY = "sk-proj-Zx81hTq0LmN4vBs7"
A, B = "http://a.test/v1", "http://b.test/v1"


def limits(pool: LLMClient) -> list[Any]:
    return [one.gate.limit for one in pool._endpoints]


# --- made of endpoints


def test_endpoints_are_configs_or_dictionaries() -> None:
    with LLMClientPool([EndpointConfig(A), {"base_url": B}]) as pool:
        assert [one.place for one in pool._endpoints] == [A, B]


def test_a_client_with_endpoints_is_the_same_thing() -> None:
    with (
        LLMClient("m", endpoints=[{"base_url": A}, {"base_url": B}]) as client,
        LLMClientPool([{"base_url": A}]) as pool,
    ):
        assert isinstance(pool, LLMClient)
        assert type(client._backend) is type(pool._backend)
        assert client.stats["num_endpoints"] == 2
        assert repr(client) == "LLMClient(endpoints=2, load_balance='round_robin', fallback=True)"


def test_arguments_go_by_position_as_specified() -> None:
    with LLMClientPool([{"base_url": A}], None, "weighted", False) as pool:
        assert repr(pool) == "LLMClientPool(endpoints=1, load_balance='weighted', fallback=False)"
    config = EndpointConfig(A, KEY, "m", "openai", 2.0, 3, 4.0)
    assert (config.base_url, config.api_key, config.model, config.provider) == (A, KEY, "m", "openai")
    assert (config.weight, config.concurrency_limit, config.max_qps) == (2.0, 3, 4.0)
    assert EndpointConfig(A) == EndpointConfig(A, "EMPTY", None, "auto", 1.0, None, None)


@pytest.mark.parametrize("arguments", [{}, {"endpoints": []}, {"clients": []}, {"endpoints": None, "clients": None}])
def test_neither_endpoints_nor_clients_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"endpoints=\[...\] or clients=\[...\]"):
        LLMClientPool(**arguments)


def test_a_client_with_no_endpoints_in_its_list_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        LLMClient("m", endpoints=[])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"endpoints": A}, "endpoints must be a list"),
        ({"endpoints": {"base_url": A}}, "endpoints must be a list"),
        ({"endpoints": 3}, "endpoints must be a list"),
        ({"endpoints": [A]}, r"endpoints\[0\] must be an EndpointConfig or a dictionary, not of type str"),
        ({"endpoints": [{"base_url": A}, None]}, r"endpoints\[1\] must be .* not of type NoneType"),
        (
            {"endpoints": [{"base_url": A, "weigth": 2}]},
            r"endpoints\[0\] has no option 'weigth'; did you mean 'weight'",
        ),
        ({"endpoints": [{"base_url": A, 7: 2}]}, r"endpoints\[0\] has no option 7"),
        ({"endpoints": [{}]}, r"endpoints\[0\] has no base_url"),
        ({"endpoints": [{"base_url": ""}]}, r"endpoints\[0\] has no base_url"),
        ({"endpoints": [{"base_url": None, "api_key": KEY}]}, r"endpoints\[0\] has no base_url"),
        ({"endpoints": [{"base_url": A, "weight": -1}]}, r"endpoints\[0\]: weight=-1"),
        ({"endpoints": [{"base_url": A, "weight": True}]}, r"endpoints\[0\]: weight=True"),
        ({"endpoints": [{"base_url": A, "weight": "2"}]}, r"endpoints\[0\]: weight='2'"),
        ({"endpoints": [{"base_url": A, "weight": float("nan")}]}, r"endpoints\[0\]: weight=nan"),
        ({"endpoints": [{"base_url": A, "weight": float("inf")}]}, r"endpoints\[0\]: weight=inf"),
        ({"endpoints": [{"base_url": A, "model": 3}]}, r"endpoints\[0\]: model=3"),
        ({"endpoints": [{"base_url": 5}]}, r"endpoints\[0\]: base_url must be a URL"),
        ({"endpoints": [{"base_url": A, "headers": "X: y"}]}, r"endpoints\[0\]: headers"),
        ({"endpoints": [{"base_url": A}, {"base_url": B, "concurrency_limit": 0}]}, r"endpoints\[1\]: concurrency"),
        ({"endpoints": [{"base_url": A, "max_qps": 0}]}, r"endpoints\[0\]: max_qps=0"),
        ({"endpoints": [{"base_url": A, "min_qps": 9, "max_qps": 3}]}, r"endpoints\[0\]: min_qps=9"),
        ({"endpoints": [{"base_url": A, "adaptive": "yes"}]}, r"endpoints\[0\]: adaptive='yes'"),
        ({"endpoints": [{"base_url": A, "timeout": 0}]}, r"endpoints\[0\]: timeout"),
        ({"endpoints": [{"base_url": A, "provider": "nobody"}]}, r"endpoints\[0\]: .*nobody"),
        ({"endpoints": [{"base_url": "a.test"}]}, r"endpoints\[0\]: .*a\.test"),
        ({"endpoints": [{"provider": "claude"}]}, r"endpoints\[0\]: api_key is missing"),
        ({"clients": [A]}, r"clients\[0\] must be a client, not of type str"),
        ({"clients": [None]}, r"clients\[0\] must be a client"),
        ({"clients": "ab"}, "clients must be a list"),
        ({"endpoints": [{"base_url": A}], "base_url": A}, "base_url and api_key belong to one endpoint"),
        ({"endpoints": [{"base_url": A}], "api_key": KEY}, "base_url and api_key belong to one endpoint"),
        ({"endpoints": [{"base_url": A}], "auth": dict}, "auth belongs to one endpoint"),
        ({"endpoints": [{"base_url": A}], "load_balance": "fastest"}, "load_balance='fastest'"),
        ({"endpoints": [{"base_url": A}], "load_balance": ["random"]}, "random"),
        ({"endpoints": [{"base_url": A}], "fallback": None}, "fallback=None"),
        ({"endpoints": [{"base_url": A}], "failure_threshold": 0}, "failure_threshold=0"),
        ({"endpoints": [{"base_url": A}], "recovery_time": -1}, "recovery_time=-1"),
        ({"endpoints": [{"base_url": A}], "total_concurrency_limit": 0}, "total_concurrency_limit=0"),
        ({"endpoints": [{"base_url": A}], "total_max_qps": -2}, "total_max_qps=-2"),
        ({"endpoints": [{"base_url": A}], "hedge": 2}, "hedge=2"),
        ({"endpoints": [{"base_url": A}], "hedge": float("nan")}, "hedge=nan"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        LLMClientPool(**arguments)

    assert KEY not in str(caught.value)
    assert not str(caught.value).endswith(".")


@pytest.mark.parametrize("option", [{"total_concurrency_limit": 4}, {"total_max_qps": 4}])
def test_a_total_of_one_endpoint_is_refused_with_what_to_give_instead(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"for one give {next(iter(option)).removeprefix('total_')}"):
        LLMClient("m", A, **option)


# --- limits


def test_limits_for_all_are_those_of_every_endpoint_that_has_none_of_its_own() -> None:
    own = {
        "base_url": B,
        "concurrency_limit": 2,
        "max_qps": 5,
        "max_rpm": 60,
        "max_tpm": 7,
        "burst": 3,
        "adaptive": False,
    }
    with LLMClientPool([{"base_url": A}, own], concurrency_limit=7, max_qps=9, min_qps=1, max_input_tpm=11) as pool:
        one, two = limits(pool)

    assert (one.concurrency, one.max_qps, one.min_qps, one.max_input_tpm) == (7, 9, 1, 11)
    assert (one.max_rpm, one.burst, one.adaptive) == (None, None, True)
    assert (two.concurrency, two.max_qps, two.min_qps, two.max_input_tpm) == (2, 5, 1, 11)
    assert (two.max_rpm, two.max_tpm, two.burst, two.adaptive) == (60, 7, 3, False)


def test_the_workers_are_the_sum_of_the_limits_capped_by_the_total() -> None:
    endpoints: list[Any] = [{"base_url": A}, {"base_url": B, "concurrency_limit": 30}]
    for total, workers in ((None, 40), (25, 25), (400, 40), (1, 1)):
        with LLMClientPool(endpoints, total_concurrency_limit=total) as pool:
            assert pool._workers() == workers


def test_an_endpoints_time_and_headers_are_its_own() -> None:
    with LLMClientPool(
        [{"base_url": A, "timeout": 3, "headers": {"X-One": "1"}}, {"base_url": B}], timeout=9, headers={"X-All": "all"}
    ) as pool:
        one, two = pool._endpoints

    assert one._target.headers == (("X-All", "all"), ("X-One", "1"))
    assert two._target.headers == (("X-All", "all"),)
    assert one._transport._options.timeout == 3
    assert two._transport._options.timeout == 9


# --- models


@pytest.mark.parametrize(
    ("models", "given", "stands_for"),
    [
        ((None, None), "m", "m"),
        (("a", "a"), None, "a"),
        (("a", "a"), "m", "a"),
        (("b", "a"), None, "a|b"),
        (("a", "b"), None, "a|b"),
        (("a", None), "m", "a|m"),
        (("a", None), None, None),
        ((None, None), None, None),
    ],
)
def test_what_stands_for_the_models_does_not_depend_on_their_order(
    models: tuple[str | None, ...], given: str | None, stands_for: str | None
) -> None:
    endpoints = [{"base_url": url, "model": model} for url, model in zip((A, B), models, strict=True)]
    with LLMClientPool(endpoints, model=given) as pool:
        assert pool.model == stands_for
        assert pool_model(pool._endpoints[::-1], given) == stands_for


def test_the_models_of_clients_are_theirs() -> None:
    with (
        LLMClient("one", A) as first,
        LLMClient(None, B) as second,
        LLMClientPool(clients=[first, second], model="for-all") as pool,
    ):
        assert [one.model for one in pool._endpoints] == ["one", None]
        assert pool.model == "for-all"


def test_a_batch_needs_a_model_from_somewhere() -> None:
    with LLMClientPool([{"base_url": A}]) as pool, pytest.raises(ConfigError, match="no model is named"):
        pool.chat_completions_batch_sync(["Hello"], show_progress=False)


# --- clients


def test_a_pool_shares_the_gate_of_a_lent_client_and_has_counts_of_its_own() -> None:
    with LLMClient("m", A) as client, LLMClientPool(clients=[client, client]) as pool:
        mine, (one, two) = client._endpoints[0], pool._endpoints
        assert one is not two
        assert one.gate is two.gate is mine.gate
        assert len({id(each.passages) for each in (mine, one, two)}) == 3


def test_closing_a_pool_leaves_a_lent_client_open(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    with LLMClient("m", A) as client:
        pool = LLMClientPool([{"base_url": B, "model": "m"}], [client])
        for name, endpoint in zip(("own", "lent"), pool._endpoints, strict=True):
            transport = endpoint._transport
            monkeypatch.setattr(
                transport, "close", lambda name=name, close=transport.close: (closed.append(name), close())
            )
        pool.close()
        assert closed == ["own"]


# --- what it shows


def test_the_repr_names_no_key() -> None:
    with LLMClientPool([EndpointConfig(A, KEY), EndpointConfig(B, KEY)], load_balance="least_busy") as pool:
        shown = repr(pool), repr(pool.stats), repr(EndpointConfig(A, KEY)), repr(pool._endpoints)

    assert shown[0] == "LLMClientPool(endpoints=2, load_balance='least_busy', fallback=True)"
    assert KEY not in "".join(shown)


def test_stats_have_one_entry_for_each_endpoint() -> None:
    with LLMClientPool(
        [{"base_url": A, "model": "one"}, {"base_url": B}], load_balance="random", fallback=False
    ) as pool:
        stats = json.loads(json.dumps(pool.stats))

    assert stats["num_endpoints"] == 2
    assert (stats["load_balance"], stats["fallback"]) == ("random", False)
    assert [one["place"] for one in stats["endpoints"]] == [A, B]
    assert [one["model"] for one in stats["endpoints"]] == ["one", None]
    assert {one["state"] for one in stats["endpoints"]} == {"ready"}
    assert {one["sent"] for one in stats["endpoints"]} == {0}


def test_a_client_of_one_endpoint_has_stats_too() -> None:
    with LLMClient("m", A) as client:
        assert client.stats["num_endpoints"] == 1
        assert client.stats["endpoints"][0]["place"] == A


def test_a_config_is_a_value() -> None:
    config = EndpointConfig(A, KEY, headers={"X-One": "1"})

    assert pickle.loads(pickle.dumps(config)) == config
    assert len({config, EndpointConfig(A, KEY, headers={"X-One": "1"})}) == 1
    with pytest.raises(AttributeError):
        config.base_url = B  # type: ignore[misc]


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError):
        LLMClientPool([{"base_url": A}], unknown=1)


def test_the_state_of_a_lone_endpoint_names_its_model() -> None:
    with LLMClient("m", A) as client:
        assert [one["model"] for one in client.stats["endpoints"]] == ["m"]
