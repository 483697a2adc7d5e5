"""The way in and out of every command: parse, run, and turn errors into one sentence and an exit code."""

from __future__ import annotations

import os
import sys

import flexllm.errors as errors  # not `from ..`: the package's __getattr__ would be asked first

from .exits import FAILED, exit_code
from .output import talk
from .parser import build_parser

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(arguments)
    args.argv = arguments
    try:
        code: int = args.run(args)
    except KeyboardInterrupt:
        talk("flexllm: interrupted")
        code = 130
    except BrokenPipeError:  # the reader of our output has seen enough
        code = FAILED
    except (errors.FlexLLMError, OSError) as error:
        talk(f"flexllm: {_sentence(error)}")
        code = exit_code(error)
    _settle_streams()
    if code > 128:  # after an interrupt nobody waits for threads that wait for a server
        os._exit(code)
    return code


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:  # str() would begin with the error's number
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _settle_streams() -> None:
    """Write out what is buffered; drop what cannot be written, which the interpreter would turn into exit code 120."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            except (OSError, ValueError):  # closed, or no file at all
                pass


if __name__ == "__main__":
    sys.exit(main())
