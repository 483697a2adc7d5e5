"""The way in and out of every command: parse, run, and turn errors into one sentence and an exit code."""

from __future__ import annotations

import os
import sys

import flexllm.errors as errors  # not `from ..`: the package's __getattr__ would be asked first

from .output import talk
from .parser import build_parser

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE, FAILED, USAGE, CONFIG, AUTHENTICATION, LOCKED, UNREACHED, BUDGET, DEADLINE, FILES = range(10)
"""Exit codes, fixed for good; flexllm(1) explains them. An interrupt gives 128 and the signal's number."""

EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.InputError, FILES),
    (errors.ConfigError, CONFIG),
    (errors.AuthenticationFailed, AUTHENTICATION),
    (errors.PermissionDenied, AUTHENTICATION),
    (errors.OutputLocked, LOCKED),
    (errors.CheckpointError, FILES),
    (errors.ConnectionFailed, UNREACHED),
    (errors.BudgetExceededError, BUDGET),
    (errors.FlexLLMError, FAILED),
    (OSError, FILES),
)
"""The first class that fits decides."""


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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except (errors.FlexLLMError, OSError) as error:
        talk(f"flexllm: {error}")
        code = exit_code(error)
    if code > 128:
        leave(code)
    return code


def exit_code(error: BaseException) -> int:
    """Return the exit code that an error means."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def leave(code: int) -> None:
    """End the process at once: after an interrupt nobody waits for threads that wait for a server."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
