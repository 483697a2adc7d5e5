"""`flexllm ask`: one question, one answer."""

from __future__ import annotations

import argparse
import sys

from ...language import _
from ..answers import AnswerPrinter, add_printing_options, print_answer_json, print_text, remark
from ..attachments import Attachments, piped_in
from ..common import add_endpoint_options, add_talk_options, find_endpoint, make_client
from ..logs import set_up_logging
from ..output import print_json, standard_output, talk
from ..request_options import add_request_options, add_system_option, request_params
from ..units import words

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from typing import Any

    from ...chat import ChatCompletionResult


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "ask",
        help=_("ask one question"),
        description=_(
            "Ask one question and print the answer; on a terminal piece by piece as it arrives. What is piped in is put "
            "behind the question, or is the question if none is given. A pipe is read to its end: where one stays open and "
            "nothing is meant to come, as under ssh without -n, put </dev/null behind the command."
        ),
        epilog=_(
            'Examples: flexllm ask "What is Python?"; git diff | flexllm ask "Write a commit message" -s "Be brief"; '
            'flexllm ask "What is on it?" -f photo.jpg; flexllm ask "A shell script that counts lines" -x > count.sh'
        ),
    )
    parser.add_argument(
        "prompt",
        nargs="?",
        type=words,
        metavar="PROMPT",
        help=_("the question, in quotes; without it, or as -, it is what is piped in"),
    )
    add_system_option(parser)
    parser.add_argument(
        "-f", "--file", action="append", default=[], metavar="FILE", dest="files",
        help=_("a file that goes along with the question: a text, picture, sound, video or PDF, also as the URL of one; - "
        "is standard input. Repeatable. What the provider cannot take is refused before anything is sent"),
    )  # fmt: skip
    parser.add_argument(
        "-x", "--extract", action="store_true",
        help=_("print the first code block of the answer alone; without one, fail with exit code 1"),
    )  # fmt: skip
    add_printing_options(parser, _("print the answer only when it is complete"))
    add_request_options(parser)
    add_endpoint_options(parser)
    add_talk_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, and print the answer."""
    from ...errors import ConfigError, RejectedReply

    set_up_logging(args)
    if args.extract and args.schema is not None:
        raise ConfigError(_("-x prints a code block and --schema asks for JSON; give one of them"))
    content = _content(args)
    endpoint = find_endpoint(args)[1]
    params = request_params(args, endpoint.params)
    messages = [{"role": "user", "content": content}]
    stdout = standard_output()  # before anything is paid for
    system = {} if args.system is None else {"system": args.system or None}
    printer = AnswerPrinter(show_thinking=args.show_thinking)
    with make_client(args, endpoint, **system) as client:
        if stdout.isatty() and not _needs_whole(args, params):
            printer.stream(client.stream_chunks_sync(messages, **params))
            return 0
        try:
            result: Any = client.chat_completions_sync(messages, return_usage=True, **params)
        except RejectedReply as error:
            _tell_rejected(args, error.content)
            raise
    _print(args, result, printer)
    return 0


def _needs_whole(args: argparse.Namespace, params: dict[str, Any]) -> bool:
    """Return whether nothing can be printed before all of the answer is there."""
    return bool(args.json or args.no_stream or args.extract or args.schema or params.get("response_format"))


def _print(args: argparse.Namespace, result: ChatCompletionResult, printer: AnswerPrinter) -> None:
    code = _code(args, result) if args.extract else None
    if args.json:
        print_answer_json(result, **({} if code is None else {"code": code}))
    elif code is not None:
        print_text(code)
        remark(result)
    elif args.schema is not None and result.parsed is not None:
        print_json(result.parsed)
        remark(result)
    else:
        printer.whole(result)


def _code(args: argparse.Namespace, result: ChatCompletionResult) -> str:
    from ...errors import MalformedResponse
    from ...parsing import extract_code_snippets

    snippets = extract_code_snippets(result.content)
    if not snippets:
        _tell_rejected(args, result.content)
        raise MalformedResponse(_("the answer holds no code block; without -x it is printed as it is"))
    return snippets[0]["code"].replace("\r\n", "\n")  # a script with carriage returns does not run


def _tell_rejected(args: argparse.Namespace, answer: str) -> None:
    """Tell whoever wants to know (--verbose) what came: it is paid for, and may be of use; to others it is private."""
    if args.verbose:
        talk(_("flexllm: the answer was: {answer}", answer=answer))


def _content(args: argparse.Namespace) -> Any:
    """Return the content of the message: the question, what is piped in, and the files."""
    from ...errors import InputError

    attached = Attachments()
    stdin = piped_in(args.files)
    piped = "" if stdin is None else attached.add_piped(stdin)
    prompt = None if args.prompt == "-" else args.prompt
    question = "\n\n".join(part for part in (prompt, piped) if part)
    for source in args.files:
        attached.add(source, sys.stdin.buffer if sys.stdin is not None else None)
    if not question.strip() and not attached.texts and not attached.parts:
        raise InputError(_("nothing is asked: give a question, or pipe one in"))
    return attached.content(question)
