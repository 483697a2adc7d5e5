"""Runs the Python blocks of one page, one after the other, in one namespace: a program of its own, driven by `example_pages`.

Reads a block as a line of JSON from standard input, and writes what became of it as a line of JSON to standard output.
`await` may stand at the top level, as in a notebook. Line numbers are those of the page.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import sys
import tempfile
import traceback
from typing import Any, BinaryIO


def main() -> None:
    """Serve until standard input ends."""
    blocks, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    names: dict[str, Any] = {"__name__": "__main__"}
    loop = asyncio.new_event_loop()
    for line in blocks:
        print(json.dumps(_run(json.loads(line), names, loop)), file=answers, flush=True)
    loop.close()


def _run(block: dict[str, Any], names: dict[str, Any], loop: asyncio.AbstractEventLoop) -> dict[str, str | None]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        error = None
        try:
            _execute(block, names, loop)
        except BaseException:  # whatever it is, SystemExit too: the page goes on, and the test says it
            error = traceback.format_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        return {"out": _text(out), "err": _text(err), "error": error}


def _execute(block: dict[str, Any], names: dict[str, Any], loop: asyncio.AbstractEventLoop) -> None:
    source = "\n" * (block["line"] - 1) + block["code"]
    code = compile(source, block["path"], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        loop.run_until_complete(eval(code, names))
    else:
        exec(code, names)


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


if __name__ == "__main__":
    main()
