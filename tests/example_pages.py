"""Runs the examples of one page, in order, in one folder and one home, against one mock server. `examples` finds them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from examples import ROOT, Example, commands_of, fits
from internet import Internet

from flexllm.mock import MockServer
from flexllm.mock.replies import ReceivedRequest, Reply
from flexllm.mock.responder import ordinary_reply

PATIENCE = 60.0
"""Seconds until an example that does not end has failed."""

KEY = "sk-example-0123456789abcdef"
OPENROUTER_KEY = f"sk-or-v1-cef5a7{'0123456789abcdef' * 3}8559"
CONFIG = f"""\
default: gpt-4
models:
  - {{id: gpt-4, name: gpt-4, base_url: https://api.openai.com/v1, api_key: {KEY}}}
  - {{id: gpt-4o, name: gpt-4o, base_url: https://api.openai.com/v1, api_key: {KEY}}}
  - {{id: gpt-6-luna, name: gpt-6-luna, base_url: https://api.openai.com/v1, api_key: {KEY}}}
  - {{id: grok-4, name: grok-4, base_url: https://openrouter.ai/api/v1, api_key: {OPENROUTER_KEY}}}
  - {{id: grok-4.1-fast, name: grok-4.1-fast, base_url: https://openrouter.ai/api/v1, api_key: {OPENROUTER_KEY}}}
  - {{id: local-ollama, name: "qwen3:4b", base_url: http://localhost:11434/v1}}
"""
"""~/.flexllm/config.yaml of every page."""

QUESTIONS = 30
"""Rows of the questions.jsonl that lies in the folder of every page."""

KEYS = (
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "DEEPSEEK_API_KEY",
    "DASHSCOPE_API_KEY",
    "OPENROUTER_API_KEY",
)
"""Variables in which examples find a key."""


class Wrong(AssertionError):
    """An example does not do what its page says."""


class Page:
    """The state that the examples of a page share.

    Args:
        folder: An empty one.
        certificate: Of the hosts, and its key.
    """

    def __init__(self, examples: list[Example], folder: Path, certificate: tuple[Path, Path]) -> None:
        self.examples = examples
        self._folder, self._home, self._programs = folder / "page", folder / "home", folder / "programs"
        self._state, self._left_by = folder / "state", folder / "left_by"
        for path in (self._folder, self._home / ".flexllm", self._programs):
            path.mkdir(parents=True)
        self._state.touch()
        self._left_by.touch()
        config = self._home / ".flexllm" / "config.yaml"
        config.write_text(CONFIG, encoding="utf-8")
        config.chmod(0o600)
        questions = (ROOT / "tests" / "data" / "gsm8k-100.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (self._folder / "questions.jsonl").write_text("".join(questions[:QUESTIONS]), encoding="utf-8")
        self._make_programs()
        self._closing = contextlib.ExitStack()
        self._server = self._closing.enter_context(MockServer(model="gpt-4", models=("gpt-4o-mini",)))
        self._internet = self._closing.enter_context(Internet(self._server, *certificate))
        self._python: subprocess.Popen[str] | None = None
        self._failures: list[Exception | None] = []

    def close(self) -> None:
        if self._python is not None:
            _end_group(self._python)
        self._closing.close()

    def run(self, number: int) -> None:
        """Run an example, and before it those above it that have not been run. Raises what is wrong with it."""
        while len(self._failures) <= number:
            failure = None
            try:
                self._run(self.examples[len(self._failures)])
            except (AssertionError, OSError, ValueError) as error:
                failure = error
            self._failures.append(failure)
        if (known := self._failures[number]) is not None:
            raise known

    def _run(self, example: Example) -> None:
        if example.not_run is not None:
            return
        self._prepare(example)
        self._internet.refused.clear()
        if example.is_session:
            self._run_session(example)
        else:
            printed = self._run_python(example) if example.block.language == "python" else self._run_bash(example)
            if example.output is not None:
                _compare(example, printed, example.output)
        left_by = self._left_by.read_text(encoding="utf-8").split()
        if self._internet.refused or left_by:
            raise Wrong(f"{example.block} asks hosts that are not served: {[*self._internet.refused, *left_by]}")

    def _prepare(self, example: Example) -> None:
        for block in example.before:
            name = block.note("file") or ""
            path = self._home / name[2:] if name.startswith("~/") else self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, encoding="utf-8")
            path.chmod(0o600)  # it may be a configuration
        reply = example.block.note("reply")
        if reply is not None:
            self._server.set_script((lambda request: _answering(request, reply)) if reply else None)
        for word, commands in example.block.notes:
            if word == "setup":
                code, printed = self._shell(example, commands)
                if code:
                    raise Wrong(f"the setup of {example.block} ended with {code}:\n{printed}")

    # --- shell

    def _run_bash(self, example: Example) -> str:
        err = self._folder.parent / "err"
        code, out = self._shell(example, example.block.code, err)
        told = err.read_text(encoding="utf-8", errors="replace")
        if code != int(example.block.note("exit") or 0) or "Traceback" in told:
            raise Wrong(f"{example.block} ended with {code}:\n{out}{told}")
        return out

    def _run_session(self, example: Example) -> None:
        code = 0
        for command, wanted in commands_of(example.block.code):
            code, printed = self._shell(example, command)
            if "Traceback" in printed:
                raise Wrong(f"{example.block}: {command}\n{printed}")
            _compare(example, printed, wanted, command)
        if code != int(example.block.note("exit") or 0):
            raise Wrong(f"{example.block} ended with {code}")

    def _shell(self, example: Example, commands: str, err: Path | None = None) -> tuple[int, str]:
        """Run commands where the last ones left the shell; return exit code and output, with errors unless they go apart."""
        out = self._folder.parent / "out"
        script = f'. "$SHELL_STATE"\n{commands}\n{{ export -p; printf "cd %q\\n" "$PWD"; }} > "$SHELL_STATE"'
        typed = _typed(example.block.note("types"))
        with out.open("wb") as file, (err or Path(os.devnull)).open("wb") as errors, typed as keyboard:
            process = subprocess.Popen(
                ["bash", "-eo", "pipefail", "-c", script], cwd=self._folder, env=self._env(example),
                stdin=keyboard, stdout=file, stderr=subprocess.STDOUT if err is None else errors,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                code = -1
            _end_group(process)
        return code, out.read_text(encoding="utf-8", errors="replace")

    # --- Python

    def _run_python(self, example: Example) -> str:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-W", "error", str(ROOT / "tests" / "python_blocks.py")], cwd=self._folder,
                env=self._env(example), stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8",
                start_new_session=True,
            )  # fmt: skip
        block = example.block
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._python.stdin.write(f"{json.dumps({'path': block.page, 'line': block.line, 'code': block.code})}\n")
        self._python.stdin.flush()
        if not select.select([self._python.stdout], [], [], PATIENCE)[0]:
            raise Wrong(f"{block} does not end")
        answer = json.loads(self._python.stdout.readline())
        if answer["error"] or "Traceback" in answer["err"]:
            raise Wrong(f"{block}:\n{answer['out']}{answer['err']}{answer['error']}")
        return answer["out"]

    # --- around both

    def _env(self, example: Example) -> dict[str, str]:
        place = {
            "HOME": str(self._home),
            "PATH": os.pathsep.join([str(self._programs), str(self._home / "bin"), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "loopback"), str(ROOT)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SHELL": "/bin/bash",
            "COLUMNS": "100",
            "EXAMPLES_LEFT_BY": str(self._left_by),
            "SHELL_STATE": str(self._state),
            "LANG": "zh_CN.UTF-8" if example.is_chinese else "C.UTF-8",
            "PYTHONUTF8": "1",
        }
        if example.is_chinese:
            place["FLEXLLM_LANG"] = "zh"
        keys = dict.fromkeys(KEYS, KEY)
        unset = ("XDG_CONFIG_HOME", "XDG_CACHE_HOME")
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        return {**kept, **place, **keys, **self._internet.env}

    def _make_programs(self) -> None:
        flexllm = f'exec "{sys.executable}" "{ROOT / "bin" / "flexllm"}" "$@"'
        python = f'exec "{sys.executable}" "$@"'
        for name, line in (("flexllm", flexllm), ("xllm", flexllm), ("python", python), ("python3", python)):
            program = self._programs / name
            program.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)


@contextlib.contextmanager
def _typed(lines: str | None) -> Iterator[int]:
    """Give a standard input: a terminal on which lines are typed, and ^D for Ctrl-D; an empty one where nobody types."""
    if lines is None:
        yield subprocess.DEVNULL
        return
    keyboard, its_end = pty.openpty()
    try:
        for line in lines.splitlines():
            os.write(keyboard, b"\x04" if line == "^D" else f"{line}\n".encode())
        yield its_end
    finally:
        os.close(keyboard)
        os.close(its_end)


def _compare(example: Example, printed: str, wanted: str, command: str = "") -> None:
    if not fits(printed, wanted):
        raise Wrong(f"{example.block}: {command}\n--- the page shows\n{wanted}\n--- it printed\n{printed}")


def _end_group(process: subprocess.Popen[Any]) -> None:
    """End a process and all that it left running."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    process.wait()


def _answering(request: ReceivedRequest, text: str) -> Reply | None:
    """Return the ordinary reply with another text; None, for the ordinary one, where it has none to be replaced."""
    reply = ordinary_reply(request)
    if request.method != "POST" or reply.status != 200:
        return None
    if reply.pieces is None:
        body, _ = _with_text(reply.body or b"", text)
        return Reply(body=body)
    pieces, left = [], text
    for pause, piece in reply.pieces:
        changed, left = _with_text(piece, left)
        pieces.append((pause, changed))
    return Reply(pieces=tuple(pieces), headers=reply.headers)


def _with_text(body: bytes, text: str) -> tuple[bytes, str]:
    """Put a text where a reply, or a piece of a stream, has one; return what is left for the pieces behind it."""
    before, brace, rest = body.partition(b"{")
    try:
        value = json.loads(brace + rest)
    except ValueError:
        return body, text
    for holder in _holders(value):
        holder["content" if "content" in holder else "text"] = text
        text = ""
    end = rest[len(rest.rstrip(b"\n")) :]
    return before + json.dumps(value, ensure_ascii=False).encode() + end, text


def _holders(value: Any) -> list[dict[str, Any]]:
    """Return the objects with a text: OpenAI's messages and deltas, Claude's and Gemini's parts."""
    found = [choice.get(name) for choice in value.get("choices", ()) for name in ("message", "delta")]
    found += value.get("content", ()) if isinstance(value.get("content"), list) else ()
    found += [value["delta"]] if isinstance(value.get("delta"), dict) else []
    found += [part for one in value.get("candidates", ()) for part in one.get("content", {}).get("parts", ())]
    is_text = [one for one in found if isinstance(one, dict) and (one.get("content") or one.get("text"))]
    return [one for one in is_text if not one.get("thought")]
