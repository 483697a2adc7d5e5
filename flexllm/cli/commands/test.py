"""`flexllm test`: does the server answer, and if not, what is to be done?"""

from __future__ import annotations

import argparse

from ...language import _
from ..common import make_client, provider_of
from ..exits import common_code
from ..logs import set_up_logging
from ..output import complain, print_data, print_json
from ..servers import add_server_options, find_servers, place_of, shown
from ..tables import shortened
from ..units import counted, nearest_are

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from ...config import ResolvedEndpoint
    from ..checkup import Checkup

TIMEOUT = 15.0
"""Seconds for each request: somebody is waiting in front of it."""

STREAM_TIMEOUTS = 4
"""How many times that the whole answer may take."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "test",
        help=_("try whether a server answers, and tell what to do if it does not"),
        description=(
            _(
                "Try the server that 'flexllm ask' would ask: take its list of models, then ask one short question, which "
                "costs next to nothing. Tell how long it took, or what went wrong and what can be done. A list of models that "
                "is not to be had is no failure, as long as the question is answered. Where the configuration lists endpoints "
                "for batch and no other server is named, each of them is tried. Nothing is tried twice."
            )
        ),
        epilog=_("Examples: flexllm test; flexllm test --base-url http://localhost:8000/v1"),
    )
    add_server_options(parser, timeout=TIMEOUT)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Try each server; the exit code is 0 only if all of them work."""
    set_up_logging(args)
    _, servers = find_servers(args)
    if args.json or args.quiet:
        found = list(_together(args, servers))
    elif len(servers) == 1:
        found = [_narrated(args, servers[0])]
    else:
        found = list(_listed(args, servers))
    if args.json:
        print_json({"ok": not any(one.error for one in found), "servers": [one.as_dict() for one in found]})
    if args.json or args.quiet:
        for one in found:
            if one.error is not None:
                complain(one.error)
    return common_code([one.error for one in found if one.error is not None])


def _narrated(args: argparse.Namespace, server: ResolvedEndpoint) -> Checkup:
    """Try one server, and tell each step as it is made."""
    found = _begin(server)
    with _client(args, server) as client:
        print_data("\n".join(_whom(found)))
        try:
            print_data(_("1. The list of models: "), end="")
            found.look_up_models(client)
            print_data(_list_sentence(found))
            if found.error is None:
                print_data(_("2. A short question, streamed: "), end="")
                found.ask(client)
                print_data(_answer_sentence(found))
        except KeyboardInterrupt:
            print_data("")  # what is said of it gets a line of its own
            raise
    _conclude(args, found)
    if found.error is None:
        print_data(_("\nEverything works."))
    else:
        complain(found.error)
        _print_advice(found)
    return found


def _listed(args: argparse.Namespace, servers: Sequence[ResolvedEndpoint]) -> Iterator[Checkup]:
    """Try the endpoints of a pool at the same time, and give each a line as its turn comes."""
    working = 0
    for number, found in enumerate(_together(args, servers), 1):
        print_data(f"{number}. {found.place}{f' ({shown(found.model)})' if found.model else ''}: ", end="")
        if found.error is None:
            working += 1
            print_data(_answer_sentence(found))
        else:
            print_data("failed.")
            complain(found.error)
            _print_advice(found)
        yield found
    print_data(_("\n{working} of {count} endpoints work.", working=working, count=len(servers)))


def _together(args: argparse.Namespace, servers: Sequence[ResolvedEndpoint]) -> Iterator[Checkup]:
    """Try servers at the same time; yield what was found in their order."""
    from concurrent.futures import ThreadPoolExecutor

    threads = ThreadPoolExecutor(len(servers), thread_name_prefix="flexllm-test")
    try:
        yield from threads.map(lambda server: _tried(args, server), servers)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C nobody waits for them


def _tried(args: argparse.Namespace, server: ResolvedEndpoint) -> Checkup:
    from ...errors import ConfigError

    try:
        found = _begin(server)
        with _client(args, server) as client:
            found.look_up_models(client)
            if found.error is None:
                found.ask(client)
    except ConfigError as error:  # of one endpoint: the others are tried all the same
        found = _begin(server, known=False)
        found.error = error
    _conclude(args, found)
    return found


def _begin(server: ResolvedEndpoint, *, known: bool = True) -> Checkup:
    from ..checkup import Checkup

    provider = provider_of(server)[0].name if known else server.provider
    place = place_of(server) if known else server.base_url or server.provider
    return Checkup(server=server, place=place, format=provider, model=server.model)


def _client(args: argparse.Namespace, server: ResolvedEndpoint) -> Any:
    # The template of an entry may have places for the fields of a row, and here there is none.
    return make_client(args, server, user_template=None, stream_timeout=STREAM_TIMEOUTS * args.timeout)


def _conclude(args: argparse.Namespace, found: Checkup) -> None:
    """Find out what to do about what went wrong."""
    from ..advice import advice

    if found.error is not None:
        found.better_url = _better_url(args, found)
        found.advice = advice(found)


def _better_url(args: argparse.Namespace, found: Checkup) -> str | None:
    """Return the URL of the same server at which it does list models, if what it lacks at this one is a path."""
    from dataclasses import replace

    from ...errors import FlexLLMError, MalformedResponse, NotFound
    from ..checkup import other_urls

    if (
        found.format != "openai"
        or found.listed is not None
        or not isinstance(found.error, (NotFound, MalformedResponse))
    ):
        return None
    for url in other_urls(found.place):
        try:
            with _client(args, replace(found.server, base_url=url)) as client:
                client.model_list()
        except FlexLLMError:
            continue
        return url
    return None


# --- as text ----------------------------------------------------------------------------------------------------------


def _whom(found: Checkup) -> list[str]:
    from ...wire import NO_KEY, mask_key

    model = f"{found.model}{_source(found, 'model')}" if found.model else _("not named")
    key = "none" if found.server.api_key == NO_KEY else mask_key(found.server.api_key)
    return [
        f"Server:  {found.place} ({found.format} format){_source(found, 'base_url')}",
        f"Model:   {model}",
        _("API key: {key}{source}", key=key, source=_source(found, "api_key")),
        "",
    ]


def _source(found: Checkup, name: str) -> str:
    source = found.source(name)
    return f", from {source}" if source else ""


def _list_sentence(found: Checkup) -> str:
    from ..checkup import MOST_NAMED

    if found.listed is None:
        if found.error is not None:
            return "failed."
        return _("not to be had ({short}).", short=_short(found.list_error))
    if not found.listed:
        return _("it is empty ({list_seconds:.2f} s).", list_seconds=found.list_seconds)
    some = ", ".join(found.listed[:MOST_NAMED])
    more = f" and {len(found.listed) - MOST_NAMED} more" if len(found.listed) > MOST_NAMED else ""
    told = shown(f"{counted(len(found.listed), 'model')} in {found.list_seconds:.2f} s: {some}{more}")
    if found.has_model is None:
        return f"{told}."
    if found.has_model:
        return shown(_("{told}. {model} is among them.", told=told, model=found.model))
    near = f"; {nearest_are(found.nearest())}" if found.nearest() else ""
    return shown(_("{told}. {model} is not among them{near}.", told=told, model=found.model, near=near))


def _answer_sentence(found: Checkup) -> str:
    result = found.result
    if found.error is not None or result is None:
        return "failed." if found.total is None else _("failed after {total:.2f} s.", total=found.total)
    times = _("complete after {total:.2f} s", total=found.total)
    if found.first is not None:
        times = _("first token after {first:.2f} s, {times}", first=found.first, times=times)
    tokens = ""
    if result.usage is not None:
        tokens = f"; {result.usage.prompt_tokens} + {result.usage.completion_tokens} tokens"
    if result.cost is not None:
        from ...cost import dollars

        tokens = f"{tokens}, {dollars(result.cost)}"
    said = shortened(result.content)
    said = _("It said: {said}", said=said) if said else _("It said nothing")
    return shown(f"{times}{tokens}. {said}")


def _short(error: object) -> str:
    from ...errors import ApiStatusError

    text = f"HTTP {error.status}" if isinstance(error, ApiStatusError) and error.status else str(error)
    return shown(shortened(text, 160))


def _print_advice(found: Checkup) -> None:
    print_data(_("What to do:\n") + "\n".join(shown(f"  - {sentence}") for sentence in found.advice))
