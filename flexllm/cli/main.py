"""The way in and out of every command: parse, run, and turn errors into one sentence and an exit code."""

from __future__ import annotations

import os
import signal
import sys

import flexllm.errors as errors  # not `from ..`: the package's __getattr__ would be asked first
from flexllm.controls import one_line
from flexllm.system_errors import reason_of

from ..language import _
from .exits import FAILED, exit_code
from .locale import set_language
from .logs import record_traceback, tell_end
from .output import complain
from .parser import build_parser

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    set_language()
    try:
        args = build_parser().parse_args(arguments)
    except KeyboardInterrupt:
        complain(_("interrupted"))
        return 128 + signal.SIGINT
    finally:  # help that goes into `| head`
        _settle_streams()
    args.argv = arguments
    code = _run(args)
    _settle_streams()
    if code > 128:  # after an interrupt nobody waits for threads that wait for a server
        os._exit(code)
    return code


def _run(args: argparse.Namespace) -> int:
    """Run the command, and tell those who asked for it how it ended."""
    sentence = None
    code = FAILED  # of an error that nobody foresaw, whose traceback Python prints
    try:
        code = args.run(args)
    except KeyboardInterrupt as interrupt:
        number = getattr(interrupt, "signal", signal.SIGINT)
        code = 128 + number
        name = signal.Signals(number).name
        sentence = _("interrupted") if number == signal.SIGINT else _("ended by {signal}", signal=name)
        complain(sentence)
    except BrokenPipeError:  # the reader of our output has seen enough
        code = FAILED
    except (errors.FlexLLMError, OSError) as error:
        sentence = _sentence(error)
        complain(sentence)
        code = exit_code(error)
    except Exception as error:
        sentence = f"{type(error).__name__}: {error}"
        record_traceback(error)
        raise
    finally:
        tell_end(args, code, sentence)
    return code


def _sentence(error: BaseException) -> str:
    """Return an error as one sentence on one line, without the control characters that a server may have sent."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # str() would begin with the error's number
        text = f"{error.filename}: {reason_of(error)}" if error.filename else reason_of(error)
    return one_line(text)


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
