"""`flexllm credits` over real sockets: the services' own hosts, over TLS, as far as the program can tell."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from balances import NAMES, BalanceServices
from certificates import make_certificate
from command_line import in_process, run

KEY = "sk-or-v1-cef5a7deadbeefdeadbeefdeadbeefdeadbeef8559"
FAILED, CONFIG, AUTHENTICATION, UNREACHED = 1, 3, 4, 6

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if not shutil.which("openssl"):
        pytest.skip("the openssl command is needed to make a certificate")
    return make_certificate(tmp_path_factory.mktemp("balances"), NAMES)


@pytest.fixture
def services(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[BalanceServices]:
    with BalanceServices(*certificate) as services:
        for name, value in services.env.items():
            monkeypatch.setenv(name, value)
        yield services


def configure(home: Path, text: str) -> None:
    folder = home / ".flexllm"
    folder.mkdir()
    file = folder / "config.yaml"
    file.write_text(text)
    file.chmod(0o600)


TWO_MODELS = f"""
default: grok-4.1-fast
models:
  - id: grok-4.1-fast
    name: x-ai/grok-4.1-fast
    base_url: https://openrouter.ai/api/v1
    api_key: {KEY}
  - id: deepseek
    base_url: https://api.deepseek.com
    api_key: sk-deep-0123456789abcdef
"""


def test_the_default_models_account_is_told_as_the_users_document_has_it(
    services: BalanceServices, clean_environment: Path
) -> None:
    configure(clean_environment, TWO_MODELS)
    done = run("credits")
    assert done.out == (
        "OpenRouter account balance\n"
        "Model: grok-4.1-fast\n"
        "API Key: sk-or-v1-cef5a7...8559\n"
        "----------------------------------------\n"
        "  Remaining: $96.63\n"
        "  Limit: $150.00\n"
        "  Used: $53.37\n"
        "  Used today: $3.3637\n"
        "  Used this month: $53.36\n"
    )
    assert (done.code, done.err) == (0, "")
    assert {(one.host, one.authorization) for one in services.seen} == {("openrouter.ai", f"Bearer {KEY}")}


def test_another_models_account_is_asked_with_its_own_key(
    services: BalanceServices, clean_environment: Path, capsys: Any
) -> None:
    configure(clean_environment, TWO_MODELS)
    done = in_process(capsys, "credits", "-m", "deepseek")
    assert done.out.splitlines() == [
        "DeepSeek account balance", "Model: deepseek", "API Key: sk-d...cdef", "-" * 40, "  Remaining: ¥110.00",
        "  Remaining in USD: $3.50",
    ]  # fmt: skip
    assert [(one.host, one.authorization) for one in services.seen] == [
        ("api.deepseek.com", "Bearer sk-deep-0123456789abcdef")
    ]


@pytest.mark.parametrize(
    ("base_url", "title", "line", "host"),
    [
        ("https://openrouter.ai/api/v1", "OpenRouter account balance", "  Remaining: $96.63", "openrouter.ai"),
        ("https://api.siliconflow.cn/v1", "SiliconFlow account balance", "  Remaining: ¥88.88", "api.siliconflow.cn"),
        ("https://api.deepseek.com/anthropic", "DeepSeek account balance", "  Remaining: ¥110.00", "api.deepseek.com"),
        ("https://api.aimlapi.com/v1", "AI/ML API account balance", "  Remaining: $275.78", "billing.aimlapi.com"),
        ("https://api.openai.com/v1", "OpenAI account balance", "  Remaining: $12.50", "api.openai.com"),
    ],
)
def test_each_of_the_five_services_is_asked_at_its_own_host_alone(
    services: BalanceServices, capsys: Any, base_url: str, title: str, line: str, host: str
) -> None:
    done = in_process(capsys, "credits", "--base-url", base_url, "--api-key", KEY)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{title}\nAPI Key: sk-or-v1-cef5a7...8559\n{'-' * 40}\n")
    assert line in done.out.splitlines()
    assert {(one.host, one.authorization) for one in services.seen} == {(host, f"Bearer {KEY}")}


def test_as_json_it_is_data_without_the_key(services: BalanceServices, capsys: Any) -> None:
    done = in_process(
        capsys, "credits", "--base-url", "https://openrouter.ai/api/v1", "--api-key", KEY, "-m", "m", "--json"
    )
    assert KEY not in done.out
    assert {name: done.data[name] for name in ("provider", "model", "remaining", "used_today", "currency")} == {
        "provider": "OpenRouter", "model": "m", "remaining": 96.63, "used_today": 3.3637, "currency": "USD",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("base_url", "said"),
    [
        ("https://api.anthropic.com", "Anthropic tells no balance to a normal key: its Admin API"),
        ("https://api.x.ai/v1", "xAI tells a balance only to a management key"),
        ("https://api.together.xyz/v1", "Together AI has no public request that tells a balance"),
        ("https://api.groq.com/openai/v1", "Groq has no public request"),
        ("https://api.mistral.ai/v1", "Mistral has no public request"),
        ("http://127.0.0.1:8000/v1", "nobody knows how to ask 127.0.0.1 for a balance"),
        ("https://openrouter.ai.example.com/v1", "nobody knows how to ask openrouter.ai.example.com"),
    ],
)
@pytest.mark.parametrize("key", [("--api-key", KEY), ()])
def test_those_that_cannot_be_asked_say_why_and_are_not_asked(
    services: BalanceServices, capsys: Any, base_url: str, said: str, key: tuple[str, ...]
) -> None:
    done = in_process(capsys, "credits", "--base-url", base_url, *key)
    assert said in done.sentence
    assert done.code == CONFIG
    assert services.seen == []


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ((401, {"error": {"message": "No auth credentials found"}}), AUTHENTICATION, "No auth credentials found"),
        ((403, {"error": {"message": "no"}}), AUTHENTICATION, "not allowed to do this"),
        ((429, {"error": {"message": "slow down"}}), FAILED, "slow down"),
        ((500, {"error": {"message": f"we do not know {KEY}"}}), FAILED, "we do not know sk-or-v1-cef5a7...8559"),
        ({"data": {}}, FAILED, "a balance that holds no amount"),
        ([], FAILED, "a balance that is no object but list"),
    ],
)
def test_a_service_that_refuses_is_told_in_one_sentence(
    services: BalanceServices, capsys: Any, answer: Any, code: int, said: str
) -> None:
    services.answers["openrouter.ai/api/v1/key"] = answer
    services.answers["openrouter.ai/api/v1/credits"] = (403, {"error": {"message": "management keys alone"}})
    done = in_process(capsys, "credits", "--base-url", "https://openrouter.ai/api/v1", "--api-key", KEY)
    assert said in done.sentence
    assert KEY not in done.err
    assert done.code == code


def test_openais_refusal_says_where_to_look_instead(services: BalanceServices, capsys: Any) -> None:
    services.answers["api.openai.com/v1/dashboard/billing/credit_grants"] = (403, {"error": {"message": "session key"}})
    done = in_process(capsys, "credits", "--base-url", "https://api.openai.com/v1", "--api-key", KEY)
    assert "see https://platform.openai.com/settings/organization/billing" in done.sentence
    assert done.code == AUTHENTICATION


def test_without_a_key_nobody_is_asked(services: BalanceServices, capsys: Any) -> None:
    done = in_process(capsys, "credits", "--base-url", "https://api.deepseek.com")
    assert "DeepSeek tells the balance of a key, and there is none" in done.sentence
    assert (done.code, services.seen) == (CONFIG, [])


def test_a_certificate_that_nobody_vouches_for_is_refused_and_the_key_stays_here(
    services: BalanceServices, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    arguments = ("credits", "--base-url", "https://api.deepseek.com", "--api-key", KEY)
    done = in_process(capsys, *arguments)
    assert "certificate" in done.sentence
    assert (done.code, services.seen) == (UNREACHED, [])
    done = in_process(capsys, *arguments, "--ca-bundle", str(services.certificate))
    assert (done.code, len(services.seen)) == (0, 1)


def test_where_there_is_a_pool_and_no_model_each_account_is_told_once(
    services: BalanceServices, clean_environment: Path, capsys: Any
) -> None:
    configure(
        clean_environment,
        "batch:\n  endpoints:\n"
        "    - {base_url: 'https://api.deepseek.com', api_key: sk-1, model: a}\n"
        "    - {base_url: 'https://api.deepseek.com', api_key: sk-1, model: b}\n"
        "    - {base_url: 'https://api.groq.com/openai/v1', api_key: sk-2, model: c}\n"
        "    - {base_url: 'https://api.siliconflow.cn/v1', api_key: sk-3, model: d}\n",
    )
    done = in_process(capsys, "credits")
    assert [line for line in done.out.splitlines() if line.startswith(("Deep", "Sili", "Model"))] == [
        "DeepSeek account balance", "Model: a", "SiliconFlow account balance", "Model: d",
    ]  # fmt: skip
    assert done.err.startswith("flexllm: Groq has no public request")
    assert done.code == CONFIG
    assert [(one.host, one.authorization) for one in services.seen] == [
        ("api.deepseek.com", "Bearer sk-1"), ("api.siliconflow.cn", "Bearer sk-3"),
    ]  # fmt: skip
    told = in_process(capsys, "credits", "--json")
    assert [one["provider"] for one in told.data] == ["DeepSeek", "SiliconFlow"]


def test_where_there_is_a_default_model_its_account_is_told_and_not_the_pools(
    services: BalanceServices, clean_environment: Path, capsys: Any
) -> None:
    pool = "batch: {endpoints: [{base_url: 'https://api.siliconflow.cn/v1', api_key: sk-3}]}\n"
    configure(clean_environment, TWO_MODELS + pool)
    assert in_process(capsys, "credits").out.startswith("OpenRouter account balance\nModel: grok-4.1-fast\n")


def test_with_no_configuration_it_says_how_to_begin(capsys: Any) -> None:
    done = in_process(capsys, "credits")
    assert "flexllm init" in done.sentence
    assert done.code == CONFIG
