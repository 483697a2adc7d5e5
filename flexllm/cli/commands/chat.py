"""`flexllm chat`: a conversation, with a person at a terminal or through a pipe."""

from __future__ import annotations

import argparse
import sys

from ...language import _
from ..answers import AnswerPrinter, add_printing_options, answer_fields
from ..attachments import piped_in
from ..common import add_endpoint_options, add_talk_options, find_endpoint, make_client
from ..logs import set_up_logging
from ..output import as_json, is_terminal, print_data, standard_output, talk
from ..request_options import add_request_options, add_system_option, request_params
from ..units import words

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from typing import Any, NoReturn

    from ...chat import ChatCompletionResult, Chunk
    from ...client import LLMClient
    from ...config import Config, ResolvedEndpoint
    from ...cost.tracker import CostTracker
    from ...messages import Message
    from ..chat.session import ChatSession, Partner


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "chat",
        help=_("talk with a model"),
        description=_(
            "Talk with a model: each question is asked together with all that was said before. /help tells the commands of "
            "the chat itself, such as /save and /model; Ctrl-C ends an answer, Ctrl-D the chat. Where standard input is no "
            "terminal, each of its lines is a question, and the first request that fails ends the chat with its exit code."
        ),
        epilog=_('Examples: flexllm chat; flexllm chat "Hello" -m gpt-4'),
    )
    parser.add_argument("prompt", nargs="?", type=words, metavar="MESSAGE", help=_("the first question"))
    add_system_option(parser)
    add_printing_options(parser, _("print each answer only when it is complete"))
    parser.add_argument(
        "--no-history", action="store_true",
        help=_("neither read nor write ~/.flexllm/chat_history, where what you type is kept for the next chat"),
    )  # fmt: skip
    add_request_options(parser)
    add_endpoint_options(parser)
    add_talk_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Talk until the end of the input."""
    from ...config import load_config
    from ...cost.options import CostTrackerConfig
    from ...cost.tracker import CostTracker
    from ..chat.session import ChatSession

    set_up_logging(args)
    opening = _opening(args)
    stdout = standard_output()
    tracker = CostTracker(CostTrackerConfig.tracking_only())
    config = load_config(args.config)
    session = ChatSession(
        _Introduction(args, config, tracker).meet,
        AnswerPrinter(show_thinking=args.show_thinking),
        system=args.system,
        streams=stdout.isatty() and not (args.json or args.no_stream),
        show=_print_json_line if args.json else None,
    )
    try:
        if is_terminal(sys.stdin):
            _converse(args, session, config, tracker, opening)
        else:
            _answer_lines(session, opening)
    finally:
        session.close()
    return 0


def _opening(args: argparse.Namespace) -> str | None:
    from ...errors import InputError

    opening = (args.prompt or "").strip() or None
    if opening is None and sys.stdin is None:
        raise InputError(
            _("nothing is asked: there is neither a question, nor a terminal or a pipe that one could come from")
        )
    return opening


def _converse(
    args: argparse.Namespace, session: ChatSession, config: Config, tracker: CostTracker, opening: str | None
) -> None:
    import signal

    from ...batch.signals import Terminated
    from ..chat.commands import Commands
    from ..chat.editor import Editor, History
    from ..chat.loop import converse

    commands = Commands(session, [entry.id for entry in config.models], tracker.get_report)
    editor = Editor(commands.completions, None if args.no_history else History())
    if not args.quiet:
        partner = session.partner
        talk(_("This is {name} at {place}.", name=partner.name, place=partner.place))
        talk(_("/help tells what there is; Ctrl-D ends the chat."))
    signal.signal(signal.SIGTERM, _end)
    try:
        converse(session, commands, editor.entry, opening)
    except SystemExit:  # ours; by now it may be what any other command ends with
        raise Terminated(signal.SIGTERM) from None


def _end(number: int, _frame: object) -> NoReturn:
    """Leave as an interrupt leaves, so that the editor gives the terminal back; but no answer is cut and gone on from."""
    raise SystemExit(128 + number)


def _answer_lines(session: ChatSession, opening: str | None) -> None:
    from itertools import chain

    from ...errors import InputError
    from ..chat.loop import answer_lines, lines_of

    stdin = piped_in()
    lines: Iterable[str] = () if stdin is None else lines_of(stdin)
    first = opening or next(iter(lines), None)
    if first is None:
        raise InputError(_("nothing is asked: give a question, or pipe questions in, one a line"))
    answer_lines(session, chain([first], lines))


class _Introduction:
    """Finds whom one talks with.

    Args:
        tracker: Counts what all of them cost.
    """

    def __init__(self, args: argparse.Namespace, config: Config, tracker: CostTracker) -> None:
        self._args = args
        self._config = config
        self._tracker = tracker
        self._endpoint: ResolvedEndpoint | None = None

    def meet(self, name: str | None) -> Partner:
        """Return the partner of a name: an entry of the configuration, or else a model at the server that is asked now.

        None is whom flags, environment and file name together.
        """
        from ..chat.session import Partner

        endpoint = self._find(name)
        client = make_client(self._args, endpoint, system=None, cost_tracker=self._tracker)
        partner = Partner(
            _Client(client), endpoint.entry_id or endpoint.model, endpoint.base_url or _("the provider's own server"),
            request_params(self._args, endpoint.params), endpoint.system,
        )  # fmt: skip
        self._endpoint = endpoint
        return partner

    def _find(self, name: str | None) -> ResolvedEndpoint:
        from dataclasses import replace

        if name is None:
            return find_endpoint(self._args, self._config)[1]
        if self._endpoint is not None and self._config.find(name) is None:
            return replace(self._endpoint, model=name, entry_id=None)
        # What flags say of a server is said of the first one.
        flags = {**vars(self._args), "model": name, "base_url": None, "api_key": None, "provider": None}
        return find_endpoint(argparse.Namespace(**flags), self._config)[1]


class _Client:
    """A client as a chat asks it."""

    def __init__(self, client: LLMClient) -> None:
        self._client = client
        self.close = client.close

    def stream(
        self, messages: Sequence[Message], params: Mapping[str, Any]
    ) -> Generator[Chunk | ChatCompletionResult, None, None]:
        """Yield an answer in pieces, then the whole."""
        yield from self._client.stream_chunks_sync(messages, **params)

    def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> ChatCompletionResult:
        """Return an answer."""
        answer: Any = self._client.chat_completions_sync(messages, return_usage=True, **params)
        result: ChatCompletionResult = answer
        return result


def _print_json_line(result: ChatCompletionResult) -> None:
    print_data(as_json(answer_fields(result)))
