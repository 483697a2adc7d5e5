"""The mock's words: requests, replies and options as values, and JSON."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from flexllm.mock import MockOptions, ReceivedRequest, Reply
from flexllm.mock.replies import dump_json, parse_json


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 100},
        {"status": 600},
        {"delay": -1},
        {"drip": -0.1},
        {"cut": "tail"},
        {"cut_at": -1},
        {"framing": "gzip"},
        {"body": b"", "pieces": ()},
        {"cut": ""},
        {"framing": ""},
        {"delay": float("nan")},
    ],
)
def test_a_wrong_reply_is_refused_with_its_field(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(fields))}.*allowed"):
        Reply(**fields)


@pytest.mark.parametrize(
    "options",
    [
        {"delay": -1},
        {"delay": (2, 1)},
        {"delay": (1,)},
        {"port": 70000},
        {"error_rate": 1.5},
        {"error_status": 200},
        {"rate_limit": 0},
        {"rate_burst": 0},
        {"retry_after": -1},
        {"retry_after": "1"},
        {"retry_after": float("inf")},
        {"rate_limit": float("nan")},
        {"token_rate_limit": 0},
        {"concurrency_limit": 0},
        {"concurrency_limit": 1.5},
        {"rate_headers": 1},
        {"hang_seconds": -1},
        {"delay": "1"},
        {"port": "80"},
        {"model": ""},
        {"models": ("",)},
        {"models": "abc"},
        {"api_key": ""},
        {"token_delay": -0.1},
        {"openai_dialect": "azure"},
    ],
)
def test_a_wrong_option_is_refused_with_its_name(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} is .*allowed: "):
        MockOptions(**options)


def test_values_pickle_and_the_request_shows_no_key() -> None:
    request = ReceivedRequest(method="GET", path="/", query="key=secret", headers={"authorization": "Bearer secret"})
    assert pickle.loads(pickle.dumps(request)) == request
    assert pickle.loads(pickle.dumps(Reply(cut="body"))) == Reply(cut="body")
    assert "secret" not in repr(request)


def test_a_request_parses_its_body() -> None:
    assert ReceivedRequest(method="POST", path="/", body=b'{"a": [1]}').json() == {"a": [1]}
    with pytest.raises(ValueError, match="Expecting"):
        ReceivedRequest(method="GET", path="/").json()


def test_json_is_compact_utf8() -> None:
    assert dump_json({"a": "é"}) == b'{"a":"\xc3\xa9"}'
    assert dump_json("\ud800") == b'"\\ud800"'  # half a character cannot be UTF-8
    assert parse_json(b'{"a": 1}') == {"a": 1}
    assert parse_json(b'{"a": NaN}') is None
