"""The client as an object: its options, what it sends, what it hides. No socket: a session with an adapter that answers."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import requests.adapters
import urllib3

from flexllm import (
    AuthenticationFailed,
    ClaudeClient,
    ConfigError,
    ConnectionFailed,
    InputError,
    LLMClient,
    OpenAIClient,
)

KEY = "sk-a-very-secret-key-of-forty-characters"
ANSWER = {"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}], "model": "m-1"}

Server = Callable[[requests.PreparedRequest], "tuple[int, Any]"]


class AnsweringAdapter(requests.adapters.BaseAdapter):
    """Answers what a session sends, and keeps it. `answer` gives status and body, or raises."""

    def __init__(self, answer: Server) -> None:
        super().__init__()
        self.sent: list[requests.PreparedRequest] = []
        self._answer = answer

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        self.sent.append(request)
        status, body = self._answer(request)
        response = requests.Response()
        response.status_code = status
        response.url = str(request.url)
        response.raw = urllib3.HTTPResponse(io.BytesIO(json.dumps(body).encode()), preload_content=False)
        return response

    def close(self) -> None:
        """There is nothing to close."""

    def bodies(self) -> list[Any]:
        return [json.loads(request.body or b"null") for request in self.sent]


def answering(answer: Server = lambda request: (200, ANSWER)) -> tuple[AnsweringAdapter, requests.Session]:
    """Return an adapter, and a session that has it for every URL."""
    adapter, session = AnsweringAdapter(answer), requests.Session()
    session.mount("http://", adapter)
    return adapter, session


def new_client(session: requests.Session, **options: Any) -> LLMClient:
    given: dict[str, Any] = {"model": "m", "base_url": "http://llm.test/v1", "retry_delay": 0.0, **options}
    return LLMClient(session=session, **given)


# --- the constructor


def test_the_constructor_is_the_promised_one() -> None:
    parameters = inspect.signature(LLMClient).parameters
    by_position = [name for name, one in parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD]
    defaults = {name: one.default for name, one in parameters.items()}

    assert by_position == ["model", "base_url", "api_key", "provider"]
    assert all(one.kind is one.KEYWORD_ONLY for name, one in parameters.items() if name not in by_position)
    promised = {"model": None, "base_url": None, "api_key": "EMPTY", "cache": None, "cost_tracker": None}
    promised |= {"concurrency_limit": 10, "max_qps": None, "retry_times": 3, "retry_delay": 1.0, "timeout": 120}
    assert {name: defaults[name] for name in promised} == promised


def test_what_follows_the_provider_is_keyword_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        LLMClient("m", "http://llm.test/v1", KEY, "openai", None)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("concurrency_limit", (0, -1, 2.5, "10")),
        ("max_qps", (0, -1.0, "fast", float("nan"))),
        ("retry_times", (-1, 1.5, None)),
        ("retry_delay", (-1, float("inf"), float("nan"), "1")),
        ("timeout", (0, -1, float("nan"), "1", None)),
        ("connect_timeout", (0, -1, None)),
        ("stream_timeout", (0, -1, "1")),
        ("base_url", ("llm.test/v1", "ftp://llm.test", "http://", "http://llm.test/a b", "http://llm.test:99999/v1")),
        ("api_key", ("two words", "line\n", "schlüssel")),
        ("provider", ("opnai",)),
        ("cache", (1, object())),
        ("cost_tracker", (True, object())),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(option: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=option) as caught:
            LLMClient(**{"model": "m", option: value})
        assert isinstance(caught.value, ValueError)


def test_a_refused_key_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        LLMClient("m", api_key="sk-secret with-a-blank")

    assert "secret" not in str(caught.value)


def test_a_refused_password_in_the_url_is_not_shown() -> None:
    with pytest.raises(ConfigError, match="base_url") as caught:
        LLMClient("m", "http://me:hidden@llm.test/v1")

    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("key", [None, "", "EMPTY"])
def test_no_key_is_the_conventional_one(key: str | None) -> None:
    adapter, session = answering()
    new_client(session, api_key=key).chat_completions_sync("Hello")

    assert adapter.sent[0].headers["Authorization"] == "Bearer EMPTY"


def test_a_slash_behind_the_url_does_not_matter() -> None:
    adapter, session = answering()
    new_client(session, base_url="http://llm.test/v1/").chat_completions_sync("Hello")

    assert adapter.sent[0].url == "http://llm.test/v1/chat/completions"


def test_an_openai_client_is_a_client() -> None:
    client = OpenAIClient("m", "http://llm.test/v1")

    assert isinstance(client, LLMClient)
    assert repr(client).startswith("OpenAIClient(")


# --- the configuration file


def test_from_config_takes_url_and_key_of_the_named_entry(tmp_path: Path) -> None:
    adapter, session = answering()
    path = _config(tmp_path / "flexllm.yaml")
    client = LLMClient.from_config("second", str(path), session=session, concurrency_limit=3)
    client.chat_completions_sync("Hello")

    assert client.model == "m-2"
    assert adapter.sent[0].url == "http://second.test/v1/chat/completions"
    assert adapter.sent[0].headers["Authorization"] == f"Bearer {KEY}"
    assert "concurrency_limit=3" in repr(client)


def test_from_config_takes_the_default_entry_of_the_file_at_home(clean_environment: Path) -> None:
    (clean_environment / ".flexllm").mkdir()
    _config(clean_environment / ".flexllm" / "config.yaml")

    assert LLMClient.from_config().model == "m-1"
    assert isinstance(OpenAIClient.from_config(), OpenAIClient)


def test_from_config_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"third.*'first'"):
        LLMClient.from_config("third", str(_config(tmp_path / "flexllm.yaml")))


def _config(path: Path) -> Path:
    path.write_text(
        "default: first\nmodels:\n"
        "  - {id: first, name: m-1, base_url: 'http://first.test/v1', api_key: sk-first-key-of-the-file}\n"
        f"  - {{id: second, name: m-2, base_url: 'http://second.test/v1', api_key: {KEY}}}\n"
    )
    return path


# --- keys


def test_repr_masks_the_key() -> None:
    client = LLMClient("m", "http://llm.test/v1", KEY, headers={"X-Api-Key": KEY})

    assert KEY not in repr(client)
    assert repr(client).startswith("LLMClient(model='m', base_url='http://llm.test/v1', api_key='sk-a-very")


@pytest.mark.parametrize(
    "message",
    ["the key is wrong", f"Incorrect API key provided: {KEY}.", f"no access for {KEY}, Bearer {KEY}"],
    ids=["ordinary", "the server repeats the key", "twice"],
)
def test_no_error_and_no_log_line_shows_the_key(message: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    statuses = iter([500, 401])
    _, session = answering(lambda request: (next(statuses), {"error": {"message": message, "code": "bad"}}))

    with pytest.raises(AuthenticationFailed) as caught:
        new_client(session, api_key=KEY).chat_completions_sync("Hello")

    assert "attempt 1" in caplog.text  # the retry was logged, with its reason
    for shown in (str(caught.value), repr(caught.value), caught.value.body, repr(vars(caught.value)), caplog.text):
        assert KEY not in shown
    if KEY in message:
        assert "sk-a-very-secre...ters" in str(caught.value)


def test_no_connection_error_shows_the_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def fail(request: requests.PreparedRequest) -> tuple[int, Any]:
        raise requests.ConnectionError(f"could not send {dict(request.headers)}")

    _, session = answering(fail)
    with pytest.raises(ConnectionFailed) as caught:
        new_client(session, api_key=KEY, retry_times=1).chat_completions_sync("Hello")

    assert KEY not in str(caught.value)
    assert KEY not in caplog.text


def test_no_row_of_a_batch_shows_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, session = answering(lambda request: (401, {"error": {"message": f"{KEY} is wrong", "code": "bad"}}))
    output = tmp_path / "out.jsonl"
    results = new_client(session, api_key=KEY).chat_completions_batch_sync(["a", "b"], output)

    assert results == [None, None]
    assert KEY not in output.read_text() + repr(results.errors) + results._repr_html_() + "".join(capsys.readouterr())


def test_the_log_is_silent_until_somebody_listens() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("flexllm").handlers)


# --- what is sent


def test_unknown_keyword_arguments_go_to_the_api_unchanged() -> None:
    adapter, session = answering()
    odd = {"temperature": 0, "stop": ["\n", "."], "Weird-Name": None, "max_tokens": 7}
    new_client(session).chat_completions_sync(
        "Hello", return_usage=True, skip_cache=True, **odd, extra_body={"top_k": 1}
    )

    assert adapter.bodies() == [{"model": "m", "messages": [{"role": "user", "content": "Hello"}], **odd, "top_k": 1}]


def test_arguments_of_the_call_itself_do_not_go_to_the_api(tmp_path: Path) -> None:
    """Whatever the client's own methods name, in any of them, is not for the server."""
    adapter, session = answering()
    client = new_client(session)
    common = {"show_progress": False, "track_cost": True, "return_usage": True, "flush_interval": 0.1, "grace": 1.0}
    kept = {"save_input": "last", "save_raw": True, "retry_failed": False, "on_change": "keep"}
    lists = {"metadata_list": [1], "params_list": [{"seed": 1}]}
    client.chat_completions_batch_sync(["a"], tmp_path / "a.jsonl", return_summary=True, **common, **kept, **lists)
    client.chat_completions_batch_sync(["a"], output_jsonl=tmp_path / "b.jsonl", return_cost_report=True, seed=1)
    list(client.iter_chat_completions_batch_sync(["a"], tmp_path / "c.jsonl", **common, **kept, **lists))

    asked = {"model": "m", "messages": [{"role": "user", "content": "a"}], "seed": 1}
    assert adapter.bodies() == [asked] * 3


@pytest.mark.parametrize("option", ["return_summary", "return_cost_report"])
def test_an_iterator_refuses_what_only_a_whole_result_can_have(option: str) -> None:
    adapter, session = answering()
    with pytest.raises(ConfigError, match=option):
        new_client(session).iter_chat_completions_batch_sync(["a"], **{option: True})

    assert not adapter.sent


def test_the_model_of_the_call_goes_before_that_of_the_client() -> None:
    adapter, session = answering()
    client = new_client(session)
    client.chat_completions_sync("Hello", "by position")
    client.chat_completions_batch_sync(["Hello"], show_progress=False, model="of a batch")
    client.chat_completions_batch_sync(["Hello"], show_progress=False, params_list=[{"model": "of a row"}])
    asyncio.run(_ask(client, "Hello", "awaited"))

    assert [body["model"] for body in adapter.bodies()] == ["by position", "of a batch", "of a row", "awaited"]


async def _ask(client: LLMClient, *args: Any) -> Any:
    return await client.chat_completions(*args)


def test_without_a_model_nothing_is_sent(tmp_path: Path) -> None:
    adapter, session = answering()
    client = new_client(session, model=None)
    output = tmp_path / "out.jsonl"

    async def stream() -> None:
        async for _ in client.chat_completions_stream("Hello"):
            pass

    for call in (
        lambda: client.chat_completions_sync("Hello"),
        lambda: client.chat_completions_stream_sync("Hello"),  # before the first piece is asked for
        lambda: client.chat_completions_batch_sync(["Hello"], output),
        lambda: client.iter_chat_completions_batch_sync(["Hello"], output),
        lambda: asyncio.run(_ask(client, "Hello")),
        lambda: asyncio.run(stream()),
    ):
        with pytest.raises(ConfigError, match="model"):
            call()
    assert not adapter.sent
    assert not output.exists()


def test_rows_may_name_their_models_where_the_client_has_none() -> None:
    adapter, session = answering()
    rows = [{"model": "one"}, {"model": "two"}]
    results = new_client(session, model=None).chat_completions_batch_sync(
        ["a", "b"], show_progress=False, params_list=rows
    )

    assert results == ["fine", "fine"]
    assert {body["model"] for body in adapter.bodies()} == {"one", "two"}


def test_thinking_is_sent_only_where_it_is_given() -> None:
    adapter, session = answering()
    client = new_client(session)
    client.chat_completions_sync("Hello", thinking=None)
    client.chat_completions_sync("Hello", thinking={"type": "enabled"})

    assert [body.get("thinking", "not sent") for body in adapter.bodies()] == ["not sent", {"type": "enabled"}]


def test_a_stream_is_not_asked_for_by_a_parameter() -> None:
    """As with OpenAI's own client. What came back would be no answer, and would be bought four times."""
    adapter, session = answering()
    client = new_client(session)
    with pytest.raises(InputError, match="stream=True"):
        client.chat_completions_sync("Hello", stream=True)
    results = client.chat_completions_batch_sync(["Hello"], show_progress=False, stream=True)

    assert isinstance(results.errors[0], InputError)
    assert not adapter.sent
    assert client.chat_completions_sync("Hello", stream=False) == "fine"


def test_messages_that_cannot_be_sent_are_refused_before_anything_is() -> None:
    adapter, session = answering()
    with pytest.raises(InputError, match="role"):
        new_client(session).chat_completions_sync([{"role": "uesr", "content": "Hello"}])

    assert not adapter.sent


@pytest.mark.parametrize("name", ["answers.json", "answers", "answers.jsonl.gz", "answers.csv"])
def test_an_output_that_is_no_jsonl_is_refused(name: str, tmp_path: Path) -> None:
    adapter, session = answering()
    with pytest.raises(ValueError, match=r"output_file.*\.jsonl"):
        new_client(session).chat_completions_batch_sync(["a"], tmp_path / name)

    assert not adapter.sent


@pytest.mark.parametrize("name", ["metadata_list", "params_list"])
def test_a_list_beside_the_rows_must_be_as_long(name: str) -> None:
    adapter, session = answering()
    with pytest.raises(ValueError, match=name):
        new_client(session).chat_completions_batch_sync(["a", "b"], show_progress=False, **{name: [{}]})

    assert not adapter.sent


@pytest.mark.parametrize("entries", [[{}, 3], [{}, "low"], [{}, [("seed", 1)]], "ab", {"seed": 1}, iter([{}, {}])])
def test_a_list_of_parameters_that_is_none_is_refused_at_once(entries: Any) -> None:
    adapter, session = answering()
    with pytest.raises(ConfigError, match=r"params_list(\[1\])? must be a"):
        new_client(session).chat_completions_batch_sync(["a", "b"], show_progress=False, params_list=entries)

    assert not adapter.sent


# --- what comes back


def test_a_batch_gives_what_its_flags_ask_for() -> None:
    _, session = answering(lambda request: (200, {**ANSWER, "usage": {"prompt_tokens": 3, "completion_tokens": 2}}))
    client = new_client(session)

    def ask(**flags: bool) -> Any:
        return client.chat_completions_batch_sync(["a", "b"], show_progress=False, **flags)

    assert ask() == ["fine", "fine"]
    assert [result.usage["total_tokens"] for result in ask(return_usage=True)] == [5, 5]
    results, summary = ask(return_summary=True)
    assert (list(results), summary["total"], summary["success"], summary["failed"]) == (["fine", "fine"], 2, 2, 0)
    results, report = ask(return_cost_report=True)
    assert (list(results), report.total_tokens, report.request_count, report.total_cost) == (["fine", "fine"], 10, 2, 0)
    results, summary, report = ask(return_summary=True, return_cost_report=True)
    assert (len(results), summary["total_tokens"], report.total_tokens) == (2, 10, 10)


def test_every_sync_method_has_its_awaitable_twin() -> None:
    for name in ("chat_completions", "chat_completions_batch", "forecast_batch", "aclose"):
        assert inspect.iscoroutinefunction(getattr(LLMClient, name)), name
    for name in ("chat_completions_stream", "stream_chunks", "iter_chat_completions_batch"):
        assert inspect.isasyncgenfunction(getattr(LLMClient, name)), name
    twins = [name.removesuffix("_sync") for name in dir(LLMClient) if name.endswith("_sync")]
    assert len(twins) == 6
    assert all(hasattr(LLMClient, name) for name in twins)


def test_a_client_is_a_context_manager_of_both_kinds() -> None:
    _, session = answering()
    with new_client(session) as client:
        assert client.chat_completions_sync("Hello") == "fine"

    async def ask() -> Any:
        async with new_client(session) as client:
            return await client.chat_completions("Hello")

    assert asyncio.run(ask()) == "fine"


def test_a_session_of_the_caller_is_not_closed() -> None:
    closed = []
    adapter, session = answering()
    session.close = lambda: closed.append(True)  # type: ignore[method-assign]
    new_client(session).close()

    assert not closed
    assert session.get_adapter("http://llm.test") is adapter


def test_what_says_who_asks_need_not_be_hashable() -> None:
    @dataclass
    class Token:
        text: str

        def __call__(self) -> dict[str, str]:
            return {"Authorization": self.text}

    one, other = Token("a"), Token("a")
    clients = [LLMClient("m", "http://localhost:1/v1", auth=auth) for auth in (one, one, other)]
    gates = [client._endpoints[0].gate for client in clients]
    assert gates[0] is gates[1] is not gates[2]


# --- balances


def test_the_balance_of_an_account_is_asked_of_its_service() -> None:
    replies = {
        "https://openrouter.ai/api/v1/key": (200, {"data": {"usage": 53.37, "limit": 150.0, "limit_remaining": 96.63}}),
        "https://openrouter.ai/api/v1/credits": (403, {"error": {"message": "for management keys", "code": 403}}),
    }
    adapter, session = answering(lambda request: replies[str(request.url)])
    session.mount("https://", adapter)
    with LLMClient("m", "https://openrouter.ai/api/v1", KEY, session=session) as client:
        balance = client.credits()

    assert (balance.provider, balance.remaining, balance.limit, balance.used) == ("OpenRouter", 96.63, 150.0, 53.37)
    assert {request.headers["Authorization"] for request in adapter.sent} == {f"Bearer {KEY}"}


def test_a_service_that_tells_no_balance_says_why() -> None:
    with ClaudeClient(api_key=KEY, model="claude-sonnet-5-5") as client, pytest.raises(ConfigError, match="Anthropic"):
        client.credits()


def test_a_pool_has_no_balance_of_its_own() -> None:
    pool = LLMClient("m", endpoints=[{"base_url": "http://a.test/v1"}, {"base_url": "http://b.test/v1"}])
    with pool, pytest.raises(ConfigError, match="several accounts"):
        pool.credits()
