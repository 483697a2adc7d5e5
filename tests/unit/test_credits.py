"""What is left of an account's credit: whom to ask for it, and what the replies say."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.errors import (
    ApiStatusError,
    AuthenticationFailed,
    ConfigError,
    MalformedResponse,
    NotFound,
    PermissionDenied,
    RateLimited,
    RequestError,
    ServerError,
)
from flexllm.providers.credits import Balance, find_service
from flexllm.wire import HttpResponse

KEY = "sk-or-v1-cef5a7deadbeefdeadbeefdeadbeefdeadbeef8559"

SERVICES = [
    ("https://openrouter.ai/api/v1", "OpenRouter", ["https://openrouter.ai/api/v1/key", "https://openrouter.ai/api/v1/credits"]),
    ("https://api.siliconflow.cn/v1", "SiliconFlow", ["https://api.siliconflow.cn/v1/user/info"]),
    ("https://api.siliconflow.com/v1", "SiliconFlow", ["https://api.siliconflow.com/v1/user/info"]),
    ("https://api.deepseek.com", "DeepSeek", ["https://api.deepseek.com/user/balance"]),
    ("https://api.deepseek.com/anthropic", "DeepSeek", ["https://api.deepseek.com/user/balance"]),
    ("https://api.aimlapi.com/v1", "AI/ML API", ["https://billing.aimlapi.com/v1/billing/balance"]),
    ("https://api.moonshot.ai/v1", "Moonshot", ["https://api.moonshot.ai/v1/users/me/balance"]),
    ("https://api.moonshot.cn/v1", "Moonshot", ["https://api.moonshot.cn/v1/users/me/balance"]),
    ("https://api.openai.com/v1", "OpenAI", ["https://api.openai.com/v1/dashboard/billing/credit_grants"]),
    ("https://eu.api.openai.com/v1", "OpenAI", ["https://api.openai.com/v1/dashboard/billing/credit_grants"]),
]  # fmt: skip


def reply(body: Any, status: int = 200) -> HttpResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(status, {"content-type": "application/json", "x-request-id": "r-1"}, data)


def read(base_url: str, *bodies: Any) -> Balance:
    return find_service(base_url).read([body if isinstance(body, HttpResponse) else reply(body) for body in bodies])


# --- whom to ask ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("base_url", "provider", "urls"), SERVICES)
def test_a_service_is_found_by_its_host_and_asked_with_the_key(base_url: str, provider: str, urls: list[str]) -> None:
    service = find_service(base_url)
    requests = service.requests(KEY)
    assert service.provider == provider
    assert [(request.method, request.url, request.body) for request in requests] == [("GET", url, b"") for url in urls]
    for request in requests:
        assert dict(request.headers)["Authorization"] == f"Bearer {KEY}"
        assert "Content-Type" not in dict(request.headers)


def test_spelling_port_and_path_of_a_base_url_do_not_matter() -> None:
    for base_url in ("HTTPS://OpenRouter.AI/api", "https://openrouter.ai:443", "https://www.openrouter.ai./x?y#z"):
        assert find_service(base_url).provider == "OpenRouter"


def test_a_key_goes_over_https_to_the_service_alone() -> None:
    for base_url in (
        "http://openrouter.ai:8080/api/v1",
        "https://openrouter.ai@openrouter.ai/",
        "http://x.openrouter.ai",
    ):
        assert {request.url[:22] for request in find_service(base_url).requests(KEY)} == {"https://openrouter.ai/"}


@pytest.mark.parametrize(
    "base_url",
    [
        "https://openrouter.ai.evil.com/api/v1",
        "https://evilopenrouter.ai/api/v1",
        "https://evil.com/openrouter.ai",
        "https://evil.com/?openrouter.ai",
        "https://openrouter.ai@evil.com/",
        "https://evil.com#.openrouter.ai",
        "https://deepseek.com.cn",
        "https://notapi.openai.com/v1",
        "http://127.0.0.1:8000/v1",
        "ftp://openrouter.ai",
        "openrouter.ai",
        "https://[openrouter.ai",
        "",
        None,
        5,
    ],
)
def test_no_other_host_is_taken_for_a_service(base_url: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"^nobody knows how to ask .* for a balance; known are OpenRouter, SiliconFlow,"
    ):
        find_service(base_url)


def test_the_message_about_an_unknown_host_holds_no_password() -> None:
    with pytest.raises(ConfigError, match=r"ask example\.com for") as caught:
        find_service("https://user:secret@example.com/v1?key=secret")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("base_url", "words"),
    [
        ("https://api.anthropic.com", ["Anthropic", "Admin API", "sk-ant-admin", "console.anthropic.com"]),
        ("https://api.x.ai/v1", ["xAI", "management key", "console.x.ai"]),
        ("https://api.together.xyz/v1", ["Together AI", "no public request"]),
        ("https://api.together.ai/v1", ["Together AI", "no public request"]),
        ("https://api.groq.com/openai/v1", ["Groq", "no public request", "console.groq.com"]),
        ("https://api.mistral.ai/v1", ["Mistral", "no public request"]),
        ("https://generativelanguage.googleapis.com/v1beta", ["Google", "console.cloud.google.com"]),
        ("https://us-central1-aiplatform.googleapis.com", ["Google"]),
        ("https://api.fireworks.ai/inference/v1", ["Fireworks"]),
        ("https://api.cerebras.ai/v1", ["Cerebras"]),
        ("https://api.cohere.ai/compatibility/v1", ["Cohere"]),
        ("https://api.cohere.com/v2", ["Cohere"]),
        ("https://api.perplexity.ai", ["Perplexity"]),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", ["DashScope", "access key"]),
        ("https://api.z.ai/api/paas/v4", ["Z.ai", "no documented request"]),
        ("https://open.bigmodel.cn/api/paas/v4", ["Zhipu", "no documented request"]),
    ],
)
def test_a_service_that_does_not_tell_is_named_with_the_reason_and_the_place_to_look(
    base_url: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        find_service(base_url)
    said = str(caught.value)
    assert all(word in said for word in words)
    assert "; see https://" in said
    assert not said.endswith(".")


@pytest.mark.parametrize("key", ["", "EMPTY", None])
def test_without_a_key_nothing_is_asked(key: Any) -> None:
    with pytest.raises(ConfigError, match="DeepSeek tells the balance of a key, and there is none; give api_key"):
        find_service("https://api.deepseek.com").requests(key)


def test_a_key_that_no_header_can_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match="api_key holds a character"):
        find_service("https://api.deepseek.com").requests("sk-1\r\nX-Evil: 1")


def test_neither_a_service_nor_a_request_shows_the_key() -> None:
    service = find_service("https://openrouter.ai/api/v1")
    assert KEY[-8:] not in repr(service) + repr(service.requests(KEY))


# --- what the replies say ---------------------------------------------------------------------------------------------

OPENROUTER_KEY = {
    "data": {
        "label": "sk-or-v1-cef...559", "usage": 53.37, "usage_daily": 3.3637, "usage_weekly": 20.1, "usage_monthly": 53.36,
        "limit": 150, "limit_remaining": 96.63, "limit_reset": None, "is_free_tier": False, "is_management_key": False,
        "byok_usage": 0, "rate_limit": {"requests": -1, "interval": "10s", "note": "deprecated"},
    }
}  # fmt: skip
NEEDS_MANAGEMENT = reply({"error": {"message": "Only management keys can perform this operation", "code": 403}}, 403)


def openrouter(key: dict[str, Any], credits: Any = NEEDS_MANAGEMENT) -> Balance:
    return read("https://openrouter.ai/api/v1", {"data": {**OPENROUTER_KEY["data"], **key}}, credits)


def test_openrouter_tells_of_the_key_and_what_it_has_spent() -> None:
    assert openrouter({}) == Balance(
        provider="OpenRouter",
        remaining=96.63,
        limit=150.0,
        used=53.37,
        used_today=3.3637,
        used_month=53.36,
        currency="USD",
    )


def test_openrouters_account_counts_where_it_holds_less_than_the_key_may_spend() -> None:
    assert openrouter({}, {"data": {"total_credits": 110.5, "total_usage": 105.5}}).remaining == 5.0
    assert openrouter({}, {"data": {"total_credits": 1105, "total_usage": 25.75}}).remaining == 96.63


def test_a_key_without_a_limit_may_spend_what_the_account_holds() -> None:
    unlimited = {"limit": None, "limit_remaining": None}
    told = openrouter(unlimited, {"data": {"total_credits": 110.5, "total_usage": 25.75}})
    assert (told.remaining, told.limit, told.used) == (84.75, None, 53.37)
    assert openrouter(unlimited).remaining is None
    assert openrouter(unlimited).used == 53.37


def test_a_renewed_limit_is_not_reckoned_against_all_that_was_ever_used() -> None:
    assert openrouter({"limit_remaining": None}).remaining == pytest.approx(96.63)
    assert openrouter({"limit_remaining": None, "limit_reset": "monthly"}).remaining is None


@pytest.mark.parametrize(
    "second", [[], [reply(b"<html>", 502)], [reply(b"no json")], [reply([1])], [reply({"data": 5})]]
)
def test_what_is_not_needed_may_fail_or_be_missing(second: list[HttpResponse]) -> None:
    balance = find_service("https://openrouter.ai").read([reply(OPENROUTER_KEY), *second])
    assert balance.remaining == 96.63


def test_deepseek_sends_amounts_as_text_in_one_currency_or_two() -> None:
    yuan = {"currency": "CNY", "total_balance": "110.00", "granted_balance": "10.00", "topped_up_balance": "100.00"}
    told = read("https://api.deepseek.com", {"is_available": True, "balance_infos": [yuan]})
    assert told == Balance(provider="DeepSeek", remaining=110.0, currency="CNY", is_available=True)
    dollars = {"currency": "USD", "total_balance": "0.00"}
    for listed in ([yuan, dollars], [dollars, yuan]):
        told = read("https://api.deepseek.com", {"is_available": False, "balance_infos": listed})
        assert (told.remaining, told.currency, told.is_available) == (110.0, "CNY", False)
        assert [(other.remaining, other.currency) for other in told.others] == [(0.0, "USD")]


@pytest.mark.parametrize(("domain", "currency"), [("cn", "CNY"), ("com", "USD")])
def test_siliconflow_sends_text_in_the_currency_of_its_host(domain: str, currency: str) -> None:
    data = {
        "id": "u",
        "name": "",
        "balance": "0.88",
        "chargeBalance": "88.00",
        "totalBalance": "88.88",
        "status": "normal",
    }
    body = {"code": 20000, "message": "OK", "status": True, "data": data}
    told = read(f"https://api.siliconflow.{domain}/v1", body)
    assert told == Balance(provider="SiliconFlow", remaining=88.88, currency=currency)


@pytest.mark.parametrize(("domain", "currency"), [("cn", "CNY"), ("ai", "USD")])
def test_moonshot_blocks_accounts_that_hold_nothing(domain: str, currency: str) -> None:
    body = {"code": 0, "data": {"available_balance": 49.58, "voucher_balance": 46.58}, "scode": "0x0", "status": True}
    told = read(f"https://api.moonshot.{domain}/v1", body)
    assert told == Balance(provider="Moonshot", remaining=49.58, currency=currency, is_available=True)
    for amount in (-0.5, 0):
        body["data"] = {"available_balance": amount}
        told = read(f"https://api.moonshot.{domain}/v1", body)
        assert (told.remaining, told.is_available) == (amount, False)


def test_credits_of_aiml_become_dollars() -> None:
    told = read("https://api.aimlapi.com/v1", {"balance": 551564495, "lowBalance": False, "status": "current"})
    assert told.remaining == pytest.approx(275.7822475, abs=1e-9)
    assert (told.currency, told.unit) == ("USD", "credits, 2,000,000 to the dollar")


def test_openai_tells_of_the_credit_that_was_granted() -> None:
    body = {"object": "credit_summary", "total_granted": 18.0, "total_used": 5.5, "total_available": 12.5, "grants": {}}
    assert read("https://api.openai.com/v1", body) == Balance(provider="OpenAI", remaining=12.5, limit=18.0, used=5.5)
    del body["total_available"]
    assert read("https://api.openai.com/v1", body).remaining == 12.5


def test_a_balance_is_json_and_pickles() -> None:
    told = openrouter({})
    assert json.loads(json.dumps(asdict(told)))["remaining"] == 96.63
    assert pickle.loads(pickle.dumps(told)) == told


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (
            401,
            {"error": {"message": "No auth credentials found", "code": 401}},
            AuthenticationFailed,
            "check the API key",
        ),
        (401, "Invalid token", AuthenticationFailed, "Invalid token"),
        (403, {"error": {"message": "no"}}, PermissionDenied, "not allowed"),
        (404, b"<html>", NotFound, "has no balance at https://"),
        (429, {"error": {"message": "slow down"}}, RateLimited, "slow down"),
        (500, b"", ServerError, "HTTP 500"),
        (302, b"", NotFound, "has no balance|redirects"),
    ],
)
@pytest.mark.parametrize(
    "base_url", ["https://openrouter.ai", "https://api.deepseek.com", "https://api.siliconflow.cn"]
)
def test_a_refusal_is_the_error_that_it_stands_for(
    base_url: str, status: int, body: Any, kind: type[ApiStatusError], said: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        read(base_url, reply(body, status))
    assert caught.value.endpoint == find_service(base_url).urls[0]
    assert caught.value.request_id == "r-1"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_openais_refusal_of_a_key_says_where_to_look(status: int) -> None:
    said = "Your request to GET /v1/dashboard/billing/credit_grants must be made with a session key"
    body = {"error": {"message": said, "type": "server_error", "param": None, "code": None}}
    with pytest.raises(
        PermissionDenied, match=r"browsers alone, not to a key; see https://platform\.openai\.com"
    ) as caught:
        read("https://api.openai.com/v1", reply(body, status))
    assert (caught.value.status, caught.value.request_id, said in caught.value.body) == (status, "r-1", True)


def test_a_wrong_key_at_openai_is_a_wrong_key() -> None:
    body = {"error": {"message": "Incorrect API key provided: sk-1", "code": "invalid_api_key"}}
    with pytest.raises(AuthenticationFailed, match="check the API key"):
        read("https://api.openai.com/v1", reply(body, 401))


@pytest.mark.parametrize(
    ("base_url", "body"),
    [
        ("https://api.siliconflow.cn/v1", {"code": 20012, "message": "user is gone", "status": False, "data": None}),
        ("https://api.siliconflow.cn/v1", {"code": 20012, "message": "user is gone", "data": {"totalBalance": "1.00"}}),
        ("https://api.moonshot.cn/v1", {"code": 0, "message": "user is gone", "scode": "0x5", "status": False}),
        ("https://openrouter.ai", {"error": {"message": "user is gone", "code": 500}}),
    ],
)
def test_an_error_inside_a_success_is_an_error(base_url: str, body: dict[str, Any]) -> None:
    with pytest.raises(ApiStatusError, match="user is gone"):
        read(base_url, body)


@pytest.mark.parametrize(
    "amount", [None, True, "", "soon", "NaN", "inf", "-Infinity", "1e999", 10**400, [1], {"usd": 1}]
)
def test_what_is_no_amount_is_no_balance(amount: Any) -> None:
    for base_url, body in (
        ("https://api.deepseek.com", {"balance_infos": [{"currency": "CNY", "total_balance": amount}, 5, None]}),
        ("https://api.deepseek.com", {"balance_infos": amount}),
        ("https://api.siliconflow.cn", {"code": 20000, "data": {"totalBalance": amount}}),
        ("https://api.moonshot.cn", {"code": 0, "data": {"available_balance": amount}}),
        ("https://api.aimlapi.com", {"balance": amount}),
        ("https://api.openai.com", {"total_available": amount}),
        ("https://openrouter.ai", {"data": {"limit_remaining": amount, "usage": amount}}),
    ):
        with pytest.raises(MalformedResponse, match="sent a balance that holds no amount") as caught:
            read(base_url, body)
        assert caught.value.endpoint == find_service(base_url).urls[0]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["data", "code", "status", "error", "balance", "balance_infos", "limit", "usage", "total_used"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(base_url=st.sampled_from([row[0] for row in SERVICES]), bodies=st.lists(json_values, min_size=1, max_size=3),
       status=st.sampled_from([200, 200, 200, 204, 302, 400, 403, 500]))  # fmt: skip
def test_whatever_comes_is_a_balance_or_an_error_of_ours(base_url: str, bodies: list[Any], status: int) -> None:
    service = find_service(base_url)
    told: Balance | RequestError
    try:
        told = service.read([reply(body, status) for body in bodies])
    except RequestError as error:
        told = error
    if isinstance(told, Balance):
        assert told.remaining is not None or told.used is not None
        json.dumps(asdict(told), allow_nan=False)
    else:
        assert (told.endpoint, bool(str(told))) == (service.urls[0], True)
