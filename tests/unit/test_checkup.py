"""What `flexllm test` finds out about a server, and what it advises."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from gettext import NullTranslations
from typing import Any

import pytest
from foreign import speak

import flexllm.errors as errors
from flexllm.chat import ChatCompletionResult, Chunk, Usage
from flexllm.cli.advice import advice
from flexllm.cli.checkup import Checkup, other_urls
from flexllm.config import ResolvedEndpoint
from flexllm.config.endpoint import DEFAULT

KEY = "sk-or-v1-0123456789abcdef0123456789abcdef01234567"
ANSWER = ChatCompletionResult("Hello", Usage({}, prompt_tokens=5, completion_tokens=1, total_tokens=6), model="m-1")


class FakeClient:
    """A client that lists what it is told to, or fails, and answers, or fails."""

    def __init__(self, listed: Any = (), answer: Any = ANSWER) -> None:
        self.listed = listed
        self.answer = answer
        self.asked: list[str] = []

    def model_list(self) -> list[str]:
        if isinstance(self.listed, Exception):
            raise self.listed
        return list(self.listed)

    def stream_chunks_sync(self, question: str, model: str) -> Iterator[Any]:
        self.asked.append(model)
        if isinstance(self.answer, Exception):
            raise self.answer
        yield Chunk()
        yield Chunk(content=self.answer.content)
        yield self.answer


def checkup(model: str = "m", *, base_url: str = "http://host:8000/v1", key: str = KEY, **more: Any) -> Checkup:
    server = ResolvedEndpoint(model=model, base_url=base_url, api_key=key, source="a file", sources=more)
    return Checkup(server=server, place=base_url, format="openai", model=model)


def tried(client: Any, model: str = "m") -> Checkup:
    found = checkup(model)
    found.look_up_models(client)
    if found.error is None:
        found.ask(client)
    return found


# --- what is found out ------------------------------------------------------------------------------------------------


def test_a_server_that_lists_and_answers_is_well() -> None:
    found = tried(FakeClient(["n", "m"]))
    assert (found.error, found.listed, found.has_model, found.result) == (None, ["n", "m"], True, ANSWER)
    assert found.first is not None
    assert found.total is not None
    assert 0 <= found.first <= found.total


def test_a_list_that_is_not_to_be_had_is_no_failure_if_the_question_is_answered() -> None:
    missing = errors.NotFound("no list", status=404)
    found = tried(FakeClient(missing))
    assert (found.error, found.list_error, found.listed, found.has_model) == (None, missing, None, None)


def test_a_server_that_cannot_be_reached_is_not_asked_a_question() -> None:
    nobody = errors.ConnectionFailed("nothing listens")
    client = FakeClient(nobody)
    assert tried(client).error is nobody
    assert client.asked == []


def test_a_list_that_takes_too_long_does_not_keep_the_question_from_being_asked() -> None:
    found = tried(FakeClient(errors.RequestTimeout("slow")))
    assert (found.error, found.result) == (None, ANSWER)


def test_the_only_model_of_a_server_is_asked_if_nobody_names_one() -> None:
    client = FakeClient(["only"])
    found = tried(client, "")
    assert (client.asked, found.model, found.error) == (["only"], "only", None)


@pytest.mark.parametrize(
    ("listed", "said"), [(["a", "b"], "give -m with one of those at http://host:8000/v1: a, b"), ([], "give -m NAME")]
)
def test_several_models_or_none_leave_it_to_the_user_to_name_one(listed: list[str], said: str) -> None:
    client = FakeClient(listed)
    found = tried(client, "")
    assert isinstance(found.error, errors.ConfigError)
    assert said in str(found.error)
    assert client.asked == []


def test_a_failed_question_is_the_error() -> None:
    refused = errors.AuthenticationFailed("HTTP 401", status=401)
    found = tried(FakeClient(["m"], refused))
    assert (found.error, found.result, found.first) == (refused, None, None)
    assert found.total is not None


def test_all_of_it_is_json_and_holds_no_key() -> None:
    for client in (
        FakeClient(["m"]),
        FakeClient(errors.NotFound("x", status=404), errors.ServerError("y", status=500)),
    ):
        found = tried(client)
        found.advice = advice(found)
        text = json.dumps(found.as_dict())
        assert KEY not in text
        assert json.loads(text)["api_key"] == "sk-or-v1-012345...4567"
        assert json.loads(text)["ok"] is (found.error is None)


def test_a_server_without_a_key_has_none_in_json() -> None:
    assert checkup(key="EMPTY").as_dict()["api_key"] is None


@pytest.mark.parametrize(
    ("place", "urls"),
    [
        ("http://host:8000", ["http://host:8000/v1", "http://host:8000/api/v1"]),
        ("http://host/v1/chat/completions", ["http://host/v1"]),
        ("http://host/v1/models", ["http://host/v1"]),
        ("http://host/v1/completions", ["http://host/v1"]),
        ("http://host/v1", []),
    ],
)
def test_other_urls_of_the_same_server_are_proposed(place: str, urls: list[str]) -> None:
    assert other_urls(place) == urls


# --- what is to be done -----------------------------------------------------------------------------------------------


def failed(error: errors.FlexLLMError, cause: BaseException | None = None, **more: Any) -> Checkup:
    found = checkup(**more)
    error.__cause__ = cause
    found.error = error
    return found


def said(error: errors.FlexLLMError, cause: BaseException | None = None, **more: Any) -> str:
    return " ".join(advice(failed(error, cause, **more)))


def every_error(kind: type[errors.FlexLLMError] = errors.FlexLLMError) -> list[type[errors.FlexLLMError]]:
    return [kind, *(one for child in kind.__subclasses__() for one in every_error(child))]


@pytest.mark.parametrize("kind", every_error())
def test_there_is_advice_in_full_sentences_for_every_error(kind: type[errors.FlexLLMError]) -> None:
    sentences = advice(failed(kind("it failed")))
    assert sentences
    for sentence in sentences:
        assert sentence[0].isupper() or sentence[0] == "'"
        assert sentence.endswith(".")
        assert KEY not in sentence


class Loud(NullTranslations):
    """A language of which each text can be told by its beginning."""

    def gettext(self, message: str) -> str:
        return f"!{message}"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"!{msgid1 if n == 1 else msgid2}"


@pytest.mark.parametrize("kind", every_error())
def test_advice_is_given_in_the_readers_language(
    kind: type[errors.FlexLLMError], monkeypatch: pytest.MonkeyPatch
) -> None:
    speak(monkeypatch, Loud())
    assert [one for one in advice(failed(kind("it failed"))) if not one.startswith("!")] == []


def test_where_all_is_well_nothing_is_advised() -> None:
    assert advice(checkup()) == []


def test_a_name_that_cannot_be_found_is_shown_with_where_it_comes_from() -> None:
    error = errors.ConnectionFailed("the name cannot be found")
    told = said(error, socket.gaierror(-2, "unknown"), base_url="http://hots:8000/v1")
    assert "Check how hots is written" in told
    found = failed(error, socket.gaierror(-2, "unknown"))
    found.server.sources["base_url"] = "FLEXLLM_BASE_URL"  # type: ignore[index]
    assert "(FLEXLLM_BASE_URL)" in advice(found)[0]


def test_where_nothing_listens_one_is_told_to_start_the_server() -> None:
    refused = ConnectionRefusedError(111, "refused")
    error = errors.ConnectionFailed("nothing listens")
    assert "with 'ollama serve' for" in said(error, refused, base_url="http://localhost:11434/v1")
    told = said(error, refused, base_url="http://127.0.0.1:8000/v1")
    assert "vllm serve" in told
    assert "'flexllm mock'" in told
    assert "listens to other machines" in said(error, refused, base_url="http://far:8000/v1")


def test_the_cause_is_found_however_deep_the_libraries_hide_it() -> None:
    inner = OSError("outer", ConnectionRefusedError(111, "refused"))
    middle = RuntimeError("middle")
    middle.reason = inner  # type: ignore[attr-defined]
    middle.__context__ = middle  # a ring
    assert "serve" in said(errors.ConnectionFailed("x"), middle, base_url="http://localhost:1/v1")


def test_tls_has_advice_for_wrong_certificates_and_for_servers_without_it() -> None:
    assert "--ca-bundle" in said(errors.TlsFailed("certificate"), ssl.SSLCertVerificationError("self-signed"))
    told = said(errors.ConnectionFailed("tls"), ssl.SSLError("wrong version"), base_url="https://host/v1")
    assert "try http:// instead of https://" in told
    assert "write https://" in said(errors.ConnectionFailed("broken"), base_url="http://host/v1")
    assert "write https://" not in said(errors.ConnectionFailed("broken"), base_url="https://host/v1")


def test_a_key_that_looks_like_another_services_is_pointed_out() -> None:
    refused = errors.AuthenticationFailed("HTTP 401", status=401)
    told = said(refused, base_url="https://api.openai.com/v1", api_key="FLEXLLM_API_KEY")
    assert "sk-or-v1-012345...4567 (FLEXLLM_API_KEY)" in told
    assert "looks like a key of OpenRouter, and was sent to api.openai.com" in told
    assert "looks like" not in said(refused, base_url="https://openrouter.ai/api/v1")
    assert "looks like" not in said(refused, base_url="http://localhost:8000/v1")
    assert "looks like" in said(refused, base_url="https://evilopenrouter.ai/api/v1")
    assert "sk-or-v1-012345...4567." in said(refused, api_key=DEFAULT)


def test_a_missing_key_is_said_to_be_missing() -> None:
    assert "No key was given" in said(errors.AuthenticationFailed("HTTP 401", status=401), key="EMPTY")


def test_a_key_that_is_known_and_refused_is_another_matter() -> None:
    assert "may not do this" in said(errors.PermissionDenied("HTTP 403", status=403))


def test_a_path_that_is_wrong_is_put_right_where_the_server_answers_at_another() -> None:
    for error in (errors.NotFound("HTTP 404", status=404), errors.MalformedResponse("an HTML page")):
        found = failed(error, base_url="http://host:8000")
        assert "most base URLs end with /v1" in " ".join(advice(found))
        found.better_url = "http://host:8000/v1"
        assert advice(found) == ["It answers at http://host:8000/v1: give that as base_url."]


def test_a_model_that_is_not_there_is_compared_with_those_that_are() -> None:
    found = failed(errors.NotFound("HTTP 404", status=404), model="gpt-4oo")
    found.listed = ["gpt-4o", "whisper"]
    assert advice(found) == ["The server does not have gpt-4oo; the nearest that it lists is gpt-4o."]
    found.listed = ["gpt-4o", "gpt-4o2"]
    assert advice(found) == ["The server does not have gpt-4oo; the nearest that it lists are gpt-4o, gpt-4o2."]
    found.listed = ["whisper"]
    assert "'flexllm models' lists what it has" in advice(found)[0]
