"""The error tree: drawn as it is, picklable, and stored in output rows without loss."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import re
from typing import Any

import pytest

import flexllm.errors
from flexllm.error_fields import error_fields, error_from_fields
from flexllm.errors import (
    AllEndpointsFailed,
    ApiStatusError,
    BatchFailed,
    BudgetExceededError,
    ConfigError,
    FlexLLMError,
    InputError,
    OutputLocked,
    PriceUnknown,
    QuotaExhausted,
    RateLimited,
    RequestCancelled,
    RequestError,
    RequestTimeout,
    StreamBroken,
)


def classes(root: type[FlexLLMError] = FlexLLMError) -> list[type[FlexLLMError]]:
    found = [root]
    for child in root.__subclasses__():
        found += classes(child)
    return [kind for kind in dict.fromkeys(found) if kind.__module__ == "flexllm.errors"]


SPECIAL: dict[str, Any] = {
    "endpoint": "https://host/v1",
    "model": "m",
    "attempts": 3,
    "request_id": "req_1",
    "status": 429,
    "code": "rate_limit_exceeded",
    "body": '{"error":1}',
    "retry_after": 1.5,
    "should_retry": True,
    "partial": "Once upon",
    "result": "what had arrived",
    "content": "no JSON",
    "usage": {"prompt_tokens": 1},
    "current_cost": 1.25,
    "budget_limit": 1.0,
    "reason": "failures",
    "error": "what decided",
    "step": "plan",
    "context": "as far as it came",
}


def filled(kind: type[FlexLLMError]) -> FlexLLMError:
    """An error with a value of its own in every attribute."""
    accepted = inspect.signature(kind.__init__).parameters
    attributes = {name: value for name, value in SPECIAL.items() if name in accepted}
    if kind is AllEndpointsFailed:
        attributes["errors"] = [RequestTimeout("slow", endpoint="a"), RateLimited("busy", status=429)]
    if kind is BatchFailed:
        attributes["errors"] = {4: RequestTimeout("slow", endpoint="a")}
    return kind("what happened", **attributes)


def plain(error: object) -> object:
    if isinstance(error, BaseException):
        return type(error), str(error), {name: plain(value) for name, value in vars(error).items()}
    if isinstance(error, dict):
        return {key: plain(value) for key, value in error.items()}
    return [plain(value) for value in error] if isinstance(error, list) else error


@pytest.mark.parametrize("kind", classes())
def test_every_error_survives_pickling_and_copying_with_all_its_attributes(kind: type[FlexLLMError]) -> None:
    error = filled(kind)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert plain(again) == plain(error)


@pytest.mark.parametrize("kind", classes())
def test_every_error_can_be_made_of_its_message_alone(kind: type[FlexLLMError]) -> None:
    error = kind("what happened")
    assert str(error) == "what happened"
    assert plain(pickle.loads(pickle.dumps(error))) == plain(error)


@pytest.mark.parametrize("kind", classes())
def test_every_constructor_argument_becomes_an_attribute_of_the_same_name(kind: type[FlexLLMError]) -> None:
    error = filled(kind)
    keywords = [
        name for name, one in inspect.signature(kind.__init__).parameters.items() if one.kind is one.KEYWORD_ONLY
    ]
    assert set(keywords) == set(vars(error))
    assert None not in vars(error).values()


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn: dict[str, str] = {}  # class: parent
    above: list[tuple[int, str]] = []
    for line in (flexllm.errors.__doc__ or "").splitlines()[1:]:
        matched = re.match(r"( +)([A-Z]\w+(?:, [A-Z]\w+)*)(?:$|\s)", line)
        if not matched:
            continue
        indent = len(matched[1])
        above = [one for one in above if one[0] < indent]
        for name in matched[2].split(", "):
            drawn[name] = above[-1][1] if above else ""
        above.append((indent, matched[2].split(", ")[0]))
    actual = {kind.__name__: "" if kind is FlexLLMError else kind.__mro__[1].__name__ for kind in classes()}
    assert drawn == actual


@pytest.mark.parametrize("kind", [kind for kind in classes() if issubclass(kind, RequestError)])
def test_attributes_that_the_tree_promises_of_failed_requests_are_there(kind: type[FlexLLMError]) -> None:
    promised = {"endpoint", "model", "attempts", "request_id"}
    if issubclass(kind, ApiStatusError):
        promised |= {"status", "body", "code", "retry_after"}
    if issubclass(kind, StreamBroken):
        promised |= {"partial"}
    assert promised <= set(vars(kind("x")))


def test_wrong_options_and_inputs_are_also_value_errors_and_unknown_prices_lookup_errors() -> None:
    assert issubclass(ConfigError, ValueError)
    assert issubclass(InputError, ValueError)
    assert issubclass(PriceUnknown, LookupError)


def test_every_class_explains_itself() -> None:
    assert [kind.__name__ for kind in classes() if not inspect.getdoc(kind) or kind.__doc__ is None] == []


# --- as an output row stores them -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", classes())
def test_stored_fields_are_json_and_give_the_same_error_back(kind: type[FlexLLMError]) -> None:
    error = filled(kind)
    fields = json.loads(json.dumps(error_fields(error)))
    again = error_from_fields(fields)
    assert type(again) is kind
    assert str(again) == str(error)
    for name in ("status", "code", "request_id", "attempts", "content", "usage"):
        assert getattr(again, name, None) == getattr(error, name, None)
    assert error_fields(again) == fields


def test_stored_fields_name_status_code_and_attempts() -> None:
    error = QuotaExhausted("no credit", status=402, code="insufficient_quota", attempts=1, request_id="r")
    assert error_fields(error) == {
        "class": "QuotaExhausted",
        "message": "no credit",
        "status_code": 402,
        "code": "insufficient_quota",
        "request_id": "r",
        "attempts": 1,
    }


def test_a_code_that_the_server_did_not_send_is_not_stored() -> None:
    assert "code" not in error_fields(RateLimited("busy", status=429))


def test_a_foreign_error_is_stored_by_its_name_and_read_back_as_a_failed_request() -> None:
    fields = error_fields(KeyError("lost"))
    assert fields == {"class": "KeyError", "message": "'lost'"}
    again = error_from_fields(fields)
    assert type(again) is RequestError
    assert str(again) == "'lost'"


@pytest.mark.parametrize("fields", [{}, {"class": None}, {"class": "NoSuchClass", "status_code": 500}, {"class": 3}])
def test_fields_that_say_little_still_give_an_error(fields: dict[str, Any]) -> None:
    assert type(error_from_fields(fields)) is RequestError


def test_an_error_of_a_sort_without_a_status_gets_none_from_stored_fields() -> None:
    assert not hasattr(error_from_fields({"class": "OutputLocked", "message": "x", "status_code": 500}), "status")
    assert type(error_from_fields({"class": "OutputLocked"})) is OutputLocked


def test_lists_and_mappings_of_errors_are_copied() -> None:
    one, errors = RequestCancelled("stopped"), [RequestTimeout("slow")]
    several = AllEndpointsFailed("all", errors=errors)
    errors.append(RequestTimeout("more"))
    assert len(several.errors) == 1
    by_index = {1: one}
    batch = BatchFailed("some", errors=by_index)
    by_index.clear()
    assert batch.errors == {1: one}


def test_a_budget_error_tells_cost_and_limit() -> None:
    error = BudgetExceededError("too dear", current_cost=2.0, budget_limit=1.0)
    assert (error.current_cost, error.budget_limit) == (2.0, 1.0)
