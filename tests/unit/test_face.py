"""The face: what `import flexllm` gives, what it loads, and what a wrong name says."""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import flexllm
import flexllm.mock
from flexllm import errors

# The list "Importable from flexllm" of the specification's api.md. What of it exists must be in the face.
IMPORTABLE = """
    LLMClient OpenAIClient GeminiClient ClaudeClient LLMClientPool EndpointConfig ProviderRouter ProviderConfig
    create_router_from_urls MllmClient MllmTableProcessor MllmFolderProcessor ChainOfThoughtClient Step LinearStep
    ChatCompletionResult BatchResult BatchResultItem ToolCall ResponseCache ResponseCacheConfig CostTracker
    CostTrackerConfig CostReport BudgetExceededError count_tokens count_messages_tokens estimate_cost
    estimate_batch_cost messages_hash MODEL_PRICING extract_code_snippets parse_to_obj parse_to_code
"""
PROMISED = IMPORTABLE.split()
NAMES = [name for name in flexllm.__all__ if name != "__version__"]


def test_all_is_sorted_and_each_name_stands_once() -> None:
    assert flexllm.__all__ == sorted(set(flexllm.__all__))


def test_every_name_of_all_resolves_to_what_its_room_calls_so() -> None:
    for name in NAMES:
        if name != "MODEL_PRICING":  # a mapping, and the one name that is neither class nor function
            assert getattr(flexllm, name).__name__ == name


def test_a_resolved_name_is_kept() -> None:
    assert flexllm.LLMClient is flexllm.LLMClient
    assert vars(flexllm)["LLMClient"] is flexllm.LLMClient


def test_every_promised_name_that_exists_is_in_the_face() -> None:
    exist = {name for module in _rooms() for name in vars(module) if name in PROMISED}

    assert exist
    assert exist <= set(flexllm.__all__)


def test_the_rest_of_the_face_is_errors_and_a_few_values() -> None:
    assert set(NAMES) - set(PROMISED) - set(_error_names()) == {
        "Balance", "ChainEvent", "Chunk", "Context", "Forecast", "HedgePolicy", "LoggingMonitor", "MediaOptions",
        "Price", "StepResponse", "StepResult", "ToolCallDelta", "Usage",
    }  # fmt: skip


def test_every_error_is_in_the_face() -> None:
    assert set(_error_names()) <= set(flexllm.__all__)


def test_type_checkers_see_the_same_names() -> None:
    """They read the imports under TYPE_CHECKING; a name that is missing there would pass as Any."""
    blocks = [node for node in ast.parse(inspect.getsource(flexllm)).body if isinstance(node, ast.If)]
    imports = [node for node in ast.walk(blocks[0]) if isinstance(node, ast.ImportFrom) and node.level]

    assert sorted(alias.name for node in imports for alias in node.names) == NAMES
    for node in imports:
        for alias in node.names:
            if alias.name == "MODEL_PRICING":
                continue
            assert getattr(flexllm, alias.name).__module__ == f"flexllm.{node.module}"


def test_every_class_of_the_face_pickles() -> None:
    for name in NAMES:
        kind = getattr(flexllm, name)
        if name == "MODEL_PRICING":
            continue
        assert inspect.isclass(kind) or inspect.isfunction(kind)
        assert pickle.loads(pickle.dumps(kind)) is kind


def test_dir_lists_the_face() -> None:
    assert dir(flexllm) == flexllm.__all__


def test_a_star_import_brings_the_face() -> None:
    names: dict[str, Any] = {}
    exec("from flexllm import *", names)

    assert set(NAMES) <= set(names)


def test_the_mock_server_is_importable() -> None:
    assert flexllm.mock.MockServer.__name__ == "MockServer"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("LLMClent", "LLMClient"),
        ("LlmClient", "LLMClient"),
        ("OpenAiClient", "OpenAIClient"),
        ("ChatCompletionsResult", "ChatCompletionResult"),
        ("BudgetExceeded", "BudgetExceededError"),
    ],
)
def test_a_wrong_name_gives_the_nearest_right_one(wrong: str, right: str) -> None:
    with pytest.raises(AttributeError, match=rf"{wrong!r}; did you mean {right!r}\?"):
        getattr(flexllm, wrong)
    with pytest.raises(ImportError, match=rf"{wrong!r}; did you mean {right!r}\?"):
        exec(f"from flexllm import {wrong}")


def test_a_name_like_no_other_gives_no_hint() -> None:
    with pytest.raises(AttributeError, match=r"'qqqq'$"):
        flexllm.qqqq  # noqa: B018
    with pytest.raises(ImportError, match="qqqq"):
        exec("from flexllm import qqqq")


def test_hasattr_is_false_for_a_wrong_name() -> None:
    assert not hasattr(flexllm, "LLMClent")


def test_names_are_resolved_on_first_use_and_only_the_standard_library_is_loaded() -> None:
    """In a process of its own. Whatever a `.pth` file of the environment has loaded before does not count."""
    script = """
import sys
before = set(sys.modules)
def foreign():
    tops = {name.partition(".")[0] for name in set(sys.modules) - before}
    return sorted(tops - sys.stdlib_module_names - {"flexllm"})
import flexllm
rooms = sorted(name for name in sys.modules if name.startswith("flexllm."))
print("import flexllm:", foreign(), rooms)
from flexllm import mock
print("a room:", foreign(), mock.__name__)
import flexllm.cli.parser, flexllm.cli.main
flexllm.cli.parser.build_parser().format_help()
print("parser:", foreign())
print("lazy:", "Usage" in vars(flexllm), "flexllm.chat" in sys.modules)
flexllm.Usage
print("resolved:", "Usage" in vars(flexllm), "flexllm.chat" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)

    assert done.stdout.splitlines() == [
        "import flexllm: [] []",
        "a room: [] flexllm.mock",
        "parser: []",
        "lazy: False False",
        "resolved: True True",
    ]


def test_the_version_is_one_that_packaging_tools_take() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", flexllm.__version__)


def _error_names() -> list[str]:
    return [
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.FlexLLMError) and value.__module__ == errors.__name__
    ]


def _rooms() -> Iterator[Any]:
    for found in pkgutil.walk_packages(flexllm.__path__, "flexllm."):
        if not found.name.endswith("__main__") and not found.name.startswith(
            "flexllm.mock"
        ):  # the mock has its own face
            yield importlib.import_module(found.name)
