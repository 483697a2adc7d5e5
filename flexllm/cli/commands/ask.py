"""`flexllm ask`: one question, one answer."""

from __future__ import annotations

import argparse
import sys

from ..common import (
    add_endpoint_options,
    add_talk_options,
    find_endpoint,
    make_client,
)
from ..logs import set_up_logging
from ..output import print_data, print_json, standard_output
from ..request_options import add_request_options, request_params

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "ask",
        help="ask one question",
        description=(
            "Ask one question and print the answer; on a terminal piece by piece as it arrives. What is piped in is put "
            "behind the question, or is the question if none is given."
        ),
        epilog='Examples: flexllm ask "What is Python?"; git diff | flexllm ask "Write a commit message" -s "Be brief"',
    )
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="the question")
    parser.add_argument("-s", "--system", metavar="TEXT", help="what the model should be or do (the system message)")
    parser.add_argument("--no-stream", action="store_true", help="print the answer only when it is complete")
    add_request_options(parser)
    add_endpoint_options(parser)
    add_talk_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, and print the answer."""
    from ...errors import InputError
    from ...messages import normalise_messages

    set_up_logging(args)
    question = _question(args.prompt)
    if not question.strip():
        raise InputError("nothing is asked: give a question, or pipe one in")
    _, endpoint = find_endpoint(args)
    params = request_params(args, {})
    messages = normalise_messages(question, args.system)
    stdout = standard_output()  # before anything is paid for
    with make_client(args, endpoint) as client:
        if stdout.isatty() and not args.json and not args.no_stream:
            _print_pieces(client.chat_completions_stream_sync(messages, **params))
            return 0
        result: Any = client.chat_completions_sync(messages, return_usage=True, **params)
    if args.json:
        calls = [call.as_dict() for call in result.tool_calls or ()]
        print_json({name: getattr(result, name) for name in _FIELDS} | {"tool_calls": calls or None})
    else:
        print_data(result.content)
    return 0


_FIELDS = (
    "content", "reasoning_content", "finish_reason", "model", "usage", "cost", "endpoint", "request_id", "latency",
    "attempts",
)  # fmt: skip


def _print_pieces(pieces: Iterable[Any]) -> None:
    """Print an answer as it comes, and end its line also where it breaks off: what is then said gets its own."""
    begun = False
    try:
        for piece in pieces:
            print_data(str(piece), end="")
            begun = True
    except BaseException:
        if begun:
            print_data("")
        raise
    print_data("")


def _question(prompt: str | None) -> str:
    """Return the prompt and, behind it, what is piped in."""
    piped = ""
    if sys.stdin is not None and not sys.stdin.isatty():
        piped = sys.stdin.buffer.read().decode("utf-8", "replace").strip()
    return "\n\n".join(part for part in (prompt, piped) if part)
