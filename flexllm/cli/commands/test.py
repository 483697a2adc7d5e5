"""`flexllm test`: does the server answer, and if not, what is to be done?"""

from __future__ import annotations

import argparse

from ...language import _, plural, with_semicolons
from ...terminal import padded, width
from ..common import make_client, provider_of
from ..exits import common_code
from ..logs import set_up_logging
from ..output import complain, print_data, print_json
from ..servers import add_server_options, find_servers, place_of, shown
from ..tables import shortened

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from ...chat import ChatCompletionResult
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
        description=_(
            "Try the server that 'flexllm ask' would ask: take its list of models, then ask one short question, which "
            "costs next to nothing. Tell how long it took, or what went wrong and what can be done. A list of models that "
            "is not to be had is no failure, as long as the question is answered. Where the configuration lists endpoints "
            "for batch and no other server is named, each of them is tried. Nothing is tried twice."
        ),
        epilog=_("Examples: flexllm test; flexllm test --base-url http://localhost:8000/v1"),
    )
    add_server_options(parser, timeout=TIMEOUT)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Try each server; the exit code is 0 only if all of them work."""
    set_up_logging(args)
    _config, servers = find_servers(args)
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
            print_data("1. " + _("The list of models:"), end=" ")
            found.look_up_models(client)
            print_data(_list_sentence(found))
            if found.error is None:
                print_data("2. " + _("A short question, streamed:"), end=" ")
                found.ask(client)
                print_data(_answer_sentence(found))
        except KeyboardInterrupt:
            print_data("")  # what is said of it gets a line of its own
            raise
    _conclude(args, found)
    if found.error is None:
        print_data("\n" + _("Everything works."))
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
            print_data(_("failed."))
            complain(found.error)
            _print_advice(found)
        yield found
    print_data("\n" + _("{working} of {count} endpoints work.", working=working, count=len(servers)))


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

    server = _("{url} ({format} format)", url=found.place, format=found.format)
    key = _("none") if found.server.api_key == NO_KEY else mask_key(found.server.api_key)
    lines = (
        (_("Server:"), _with_source(server, found.source("base_url"))),
        (_("Model:"), _with_source(found.model, found.source("model")) if found.model else _("not named")),
        (_("API key:"), _with_source(key, found.source("api_key"))),
    )
    columns = max(width(label) for label, _told in lines)
    return [*(f"{padded(label, columns)} {told}" for label, told in lines), ""]


def _with_source(setting: str, source: str | None) -> str:
    return _("{setting}, from {source}", setting=setting, source=source) if source else setting


def _list_sentence(found: Checkup) -> str:
    from ..checkup import MOST_NAMED

    if found.listed is None:
        if found.error is not None:
            return _("failed.")
        return _("not to be had ({reason}).", reason=_short(found.list_error))
    if not found.listed:
        return _("it is empty ({seconds:.2f} s).", seconds=found.list_seconds)
    names = ", ".join(found.listed[:MOST_NAMED])
    if len(found.listed) > MOST_NAMED:
        names = _("{names} and {more} more", names=names, more=len(found.listed) - MOST_NAMED)
    listed = plural(
        "{count:,} model in {seconds:.2f} s: {names}", "{count:,} models in {seconds:.2f} s: {names}", len(found.listed),
        seconds=found.list_seconds, names=names,
    )  # fmt: skip
    return shown(_whether_listed(found, listed))


def _whether_listed(found: Checkup, listed: str) -> str:
    """Return what is listed as a sentence, and whether the model that is asked is part of it."""
    if found.has_model is None:
        return _("{listed}.", listed=listed)
    if found.has_model:
        return _("{listed}. {model} is among them.", listed=listed, model=found.model)
    if not (near := found.nearest()):
        return _("{listed}. {model} is not among them.", listed=listed, model=found.model)
    return plural(
        "{listed}. {model} is not among them; the nearest is {names}.",
        "{listed}. {model} is not among them; the nearest are {names}.",
        len(near), listed=listed, model=found.model, names=", ".join(near),
    )  # fmt: skip


def _answer_sentence(found: Checkup) -> str:
    result = found.result
    if found.error is not None or result is None:
        return _("failed.") if found.total is None else _("failed after {total:.2f} s.", total=found.total)
    facts = with_semicolons(filter(None, [_times(found), _bought(result)]))
    if answer := shortened(result.content):
        return shown(_("{facts}. It said: {answer}", facts=facts, answer=answer))
    return shown(_("{facts}. It said nothing", facts=facts))


def _times(found: Checkup) -> str:
    if found.first is None:
        return _("complete after {total:.2f} s", total=found.total)
    return _("first token after {first:.2f} s, complete after {total:.2f} s", first=found.first, total=found.total)


def _bought(result: ChatCompletionResult) -> str:
    from ...cost import dollars

    cost = "" if result.cost is None else dollars(result.cost)
    if result.usage is None:
        return cost
    prompt, answer = result.usage.prompt_tokens, result.usage.completion_tokens
    if not cost:
        return _("{prompt} + {answer} tokens", prompt=prompt, answer=answer)
    return _("{prompt} + {answer} tokens, {cost}", prompt=prompt, answer=answer, cost=cost)


def _short(error: object) -> str:
    from ...errors import ApiStatusError

    text = f"HTTP {error.status}" if isinstance(error, ApiStatusError) and error.status else str(error)
    return shown(shortened(text, 160))


def _print_advice(found: Checkup) -> None:
    print_data("\n".join([_("What to do:"), *(shown(f"  - {sentence}") for sentence in found.advice)]))
