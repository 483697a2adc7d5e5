"""Guards of the house: which room may know which, where each dependency comes in, and how large a room may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import flexllm

ROOT = Path(flexllm.__file__).parent

FLOORS: list[set[str]] = [
    {"__main__"},
    {"cli"},
    {"pool", "multimodal", "chain"},
    {"client"},
    {"aio", "engines"},
    {"batch", "backends"},
    {"providers", "request", "cache", "cost", "config"},
    {"tokens"},
    {"options", "chat", "configfile"},
    {"media", "schema"},
    {"limits", "templates", "parsing"},
    {"messages", "pages", "retry", "transport", "digest", "thoughts", "vertex", "router", "replies", "prices"},
    {"wire", "error_fields", "markup", "files", "sse", "http1", "cancel", "fork", "health"},
    {"amounts", "controls", "errors", "json_errors", "system_errors", "terminal", "words"},
    {"language"},
]
"""From the top to the ground. A room may import from lower floors alone: not from above, nor from beside it."""

APART = {"mock"}
"""Imports nothing of flexllm, so as to be an honest witness against the providers."""

DOORS = {
    "requests": "transport",
    "urllib3": "transport",
    "tqdm": "batch.progress",
    "yaml": "configfile",
    "sqlitedict": "cache",
    "cachetools": "cache",
    "tiktoken": "tokens.count",
    "ray": "engines.ray",
    "google": "vertex",
    "PIL": "media.images",
    "jsonschema": "schema.validation",
    "referencing": "schema.validation",  # jsonschema's own, for its references
    "pydantic": "schema.models",
    "shtab": "cli.completion.generation",
    "openpyxl": "batch.workbooks",
    "pyarrow": "batch.parquet",
    "pandas": "multimodal.frames",
}
"""The only module, or package of modules, that imports each dependency. Others may name `requests` for the type of
`session`, and no more."""

IMPURE = {"io", "logging", "os", "pathlib", "random", "socket", "ssl", "subprocess", "tempfile", "threading", "time"}
"""What a function of values has no need of: clocks, files, sockets, threads."""

MOST_LINES = 400
LONGER: dict[str, int] = {}
"""Modules that ask for a wall, with the number of lines that they must not pass meanwhile."""


class Import(NamedTuple):
    """One import of one name: by which module, of what, and whether at run time and at the top of the file."""

    module: str
    target: str
    line: int
    for_types: bool
    in_function: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name below flexllm; the package itself is ""."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str:
    return module.partition(".")[0]


@cache
def imports() -> tuple[Import, ...]:
    return tuple(one for module, path in modules().items() for one in _of_file(module, path))


def _of_file(module: str, path: Path) -> Iterator[Import]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def walk(node: ast.AST, for_types: bool, in_function: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(module, alias.name, child.lineno, for_types, in_function)
            elif isinstance(child, ast.ImportFrom):
                for target in _targets(child, package):
                    yield Import(module, target, child.lineno, for_types, in_function)
            else:
                types = for_types or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
                function = in_function or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from walk(child, types, function)

    return walk(ast.parse(path.read_text()), False, False)


def _targets(node: ast.ImportFrom, package: str) -> list[str]:
    """What `from ... import ...` reads: a module's name is that module, any other name the one that holds it."""
    if not node.level:
        start = node.module or ""
    else:
        parts = ["flexllm", *filter(None, package.split("."))]
        start = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])
    own = [f"{start}.{alias.name}" for alias in node.names]
    return [one if _inside(one) in modules() else start for one in own]


def _inside(target: str) -> str | None:
    """The name below flexllm, "" for the package itself, None for what is not ours."""
    if target == "flexllm":
        return ""
    return target[len("flexllm.") :] if target.startswith("flexllm.") else None


def inner() -> Iterator[tuple[Import, str]]:
    """The imports of our own modules, with the name below flexllm."""
    for one in imports():
        target = _inside(one.target)
        if target is not None:
            while target not in modules():
                target = target.rpartition(".")[0]
            yield one, target


def floor(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room(module) in rooms)


def test_the_walk_sees_the_imports_that_are_there() -> None:
    seen = {(one.module, one.target) for one in imports()}
    assert ("transport.direct", "requests") in seen
    assert ("backends.endpoint", "flexllm.limits") in seen
    assert ("providers", "flexllm.providers.openai") in seen
    assert ("mock.server", "flexllm.mock.openai") in seen
    assert len(modules()) > 30


def test_every_room_has_its_place() -> None:
    placed = set().union(*FLOORS) | APART
    assert {room(module) for module in modules() if module} - placed == set(), "put it on a floor of this table"


def test_imports_point_downstairs_only() -> None:
    wrong = []
    for one, target in inner():
        if not one.module or room(one.module) in APART or room(one.module) == room(target):
            continue  # the face resolves names; rooms may know themselves
        for_the_command_line_alone = target == "" or room(target) in APART
        if not (room(one.module) == "cli" if for_the_command_line_alone else floor(one.module) < floor(target)):
            wrong.append(str(one))
    assert wrong == []


def test_the_mock_knows_nothing_of_the_house() -> None:
    assert [str(one) for one, target in inner() if room(one.module) in APART and room(target) not in APART] == []


def test_providers_are_functions_of_values() -> None:
    wrong = [
        str(one)
        for one in imports()
        if room(one.module) == "providers"
        and (room(one.target) in IMPURE or one.target in ("flexllm.transport", "flexllm.limits", "flexllm.retry"))
    ]
    assert wrong == []


def test_a_batch_knows_no_backend_and_no_engine() -> None:
    known = {"backends", "engines", "providers", "transport", "limits", "client", "http1"}
    assert [str(one) for one, target in inner() if room(one.module) == "batch" and room(target) in known] == []


def test_each_dependency_comes_in_by_its_own_door() -> None:
    wrong = []
    for one in imports():
        package = room(one.target)
        if package in sys.stdlib_module_names or _inside(one.target) is not None:
            continue
        by_type = package == "requests" and one.for_types
        if DOORS.get(package) not in (one.module, room(one.module)) and not by_type:
            wrong.append(str(one))
    assert wrong == []


def test_our_own_modules_are_imported_inside_functions_by_the_command_line_alone() -> None:
    wrong = [str(one) for one, _ in inner() if one.in_function and room(one.module) not in ("cli", "")]
    assert wrong == []


def test_there_is_no_import_cycle_of_any_kind() -> None:
    edges: dict[str, set[str]] = {module: set() for module in modules()}
    for one, target in inner():
        if target != one.module:
            edges[one.module].add(target)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for target in sorted(edges[module]):
                visit(target, (*path, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


@pytest.mark.parametrize("module", sorted(modules()))
def test_no_module_outgrows_its_room(module: str) -> None:
    lines = len(modules()[module].read_text().splitlines())
    assert lines <= LONGER.get(module, MOST_LINES)
    assert module not in LONGER or lines > MOST_LINES, "it is short again: take it out of LONGER"


@pytest.mark.parametrize("module", sorted(modules()))
def test_every_module_and_what_it_shows_explains_itself(module: str) -> None:
    tree = ast.parse(modules()[module].read_text())
    if modules()[module].stat().st_size == 0:
        return
    silent = [] if ast.get_docstring(tree) else ["the module"]
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            silent += [] if ast.get_docstring(node) else [node.name]
    assert silent == []


def test_the_face_lists_its_names_in_order_and_knows_each() -> None:
    assert sorted(flexllm.__all__) == list(flexllm.__all__)
    assert len(set(flexllm.__all__)) == len(flexllm.__all__)
    assert [name for name in flexllm.__all__ if getattr(flexllm, name, None) is None] == []


def test_the_face_and_the_parser_need_the_standard_library_alone() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT.parent)!r})\n"
        "import flexllm, flexllm.cli.parser\n"
        "flexllm.cli.parser.build_parser().format_help()\n"
        "heavy = {'requests', 'urllib3', 'yaml', 'tqdm', 'asyncio', 'http.client', 'ssl'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    # -S: site-packages are not there, as on a machine that builds the man page.
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_providers_bring_no_network_along() -> None:
    code = "import sys, flexllm.providers; print(sorted({'requests', 'urllib3', 'ssl', 'asyncio'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert done.stdout == "[]\n"
