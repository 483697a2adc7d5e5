"""`flexllm mock`: a server to try everything on."""

from __future__ import annotations

import argparse

from ...language import _
from ..output import print_data, talk
from ..units import count, number, positive, whole

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from typing import Any

    from ...errors import ConfigError


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "mock",
        help=_("start a server that answers like an LLM, for tries and tests"),
        description=_(
            "Start a server on this machine that speaks OpenAI's chat completions, Anthropic's messages and Gemini's "
            "generateContent, also as Vertex AI does. It answers from the request alone: the same request gets the same "
            "answer, and one that the service would refuse is refused. It prints its base URL for OpenAI's format (for "
            "the others leave out /v1) and runs until Ctrl-C or SIGTERM, which end it with exit code 0. GET /mock/requests "
            "tells what it has received. While it runs, POST /mock/options changes its options, POST /mock/script says "
            "what is answered next, and POST /mock/reset begins the counts and the chances again; the first two take JSON."
        ),
        epilog=_("Example: flexllm mock --delay 0.2 --faults rate_limited:0.05,reset:0.01"),
    )
    _add_answer_options(parser)
    _add_failure_options(parser)
    _add_limit_options(parser)
    parser.set_defaults(run=run)


def _add_answer_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host", type=_named, default="127.0.0.1", help=_("the address to listen on (127.0.0.1: this machine alone)")
    )
    parser.add_argument("-p", "--port", type=whole, default=8000, help=_("the port; 0 takes a free one (8000)"))
    parser.add_argument(
        "--delay",
        type=_delay,
        default=0.0,
        metavar="SECONDS",
        help=_("before each answer; or a range such as 0.1-0.5 (0)"),
    )
    parser.add_argument(
        "--token-delay", type=number, default=0.0, metavar="SECONDS", help=_("between streamed pieces (0)")
    )
    parser.add_argument(
        "--model", type=_named, default="mock-model", metavar="NAME", help=_("the model it offers (mock-model)")
    )
    parser.add_argument("--require-key", type=_named, metavar="KEY", help=_("answer 401 to every other key"))
    parser.add_argument(
        "--openai-dialect",
        choices=("any", "openai"),
        default="any",
        help=_("what is taken in OpenAI's format: what any known server takes (any), or what OpenAI itself does"),
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=_("of the failures, faults and delays (0)"))


def _add_failure_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--error-rate", type=number, default=0.0, metavar="SHARE", help=_("of requests that fail: 0 to 1 (0)")
    )
    parser.add_argument(
        "--error-status", type=whole, default=500, metavar="STATUS", help=_("with which HTTP status (500)")
    )
    parser.add_argument(
        "--faults",
        default="",
        metavar="NAME:SHARE,...",
        help=_(
            "Strike shares of the requests with faults as real providers have them, such as "
            "rate_limited:0.1,hang:0.02. The shares are at most 1 together. There are rate_limited, quota, "
            "unauthorized, payment, forbidden, not_found, bad_request, context_too_long, server_error, bad_gateway, "
            "unavailable, overloaded, overloaded_stream, broken_stream, hang, drip, reset, truncated_json, html, "
            "empty, refusal, length and slow_close."
        ),
    )


def _add_limit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rate-limit",
        type=positive,
        metavar="N",
        help=_("requests a second; what comes faster gets a 429 with Retry-After"),
    )
    parser.add_argument(
        "--rate-burst", type=count, default=1, metavar="N", help=_("requests that may come at once (1)")
    )
    parser.add_argument(
        "--token-rate-limit",
        type=positive,
        metavar="N",
        help=_("Allow so many tokens a minute, of prompts and answers together; what goes beyond gets a 429."),
    )
    parser.add_argument(
        "--concurrency-limit",
        type=count,
        metavar="N",
        help=_("Allow so many requests to be under way at once; one more gets a 429."),
    )
    parser.add_argument(
        "--rate-headers",
        action="store_true",
        help=_("Tell in the headers of every reply what the limits still allow, as OpenAI and Anthropic do."),
    )
    parser.add_argument(
        "--retry-after",
        type=_retry_after,
        default=1,
        metavar="SECONDS",
        help=_("What a 429 asks to wait (1); with none it gives no hint at all."),
    )


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from ...errors import ConfigError
    from ...mock import MockServer

    _check(args)
    try:
        server = MockServer(
            args.host,
            args.port,
            delay=args.delay,
            error_rate=args.error_rate,
            error_status=args.error_status,
            faults=args.faults,
            rate_limit=args.rate_limit,
            rate_burst=args.rate_burst,
            token_rate_limit=args.token_rate_limit,
            concurrency_limit=args.concurrency_limit,
            rate_headers=args.rate_headers,
            retry_after=args.retry_after,
            seed=args.seed,
            model=args.model,
            api_key=args.require_key,
            token_delay=args.token_delay,
            openai_dialect=args.openai_dialect,
        )
    except ValueError as error:  # of what nobody can type
        raise ConfigError(str(error)) from None
    try:
        server.start()
    except OSError as error:
        raise _not_listening(args, error) from None
    with server:
        talk(
            _(
                "Try it: flexllm ask Hello --base-url {base_url} -m {model}. Ctrl-C ends it.",
                base_url=server.base_url,
                model=args.model,
            )
        )
        print_data(server.base_url)
        server.serve_forever()
    return 0


def _not_listening(args: argparse.Namespace, error: OSError) -> ConfigError:
    import errno

    from ...errors import ConfigError
    from ...system_errors import reason_of

    plain = str(error.strerror).partition(" (while")[0]  # newer Pythons repeat the address there
    about = {"host": args.host, "port": args.port, "reason": reason_of(OSError(error.errno, plain))}
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        return ConfigError(_("cannot listen on {host}:{port}: {reason}; --port 0 takes a free one", **about))
    return ConfigError(
        _("cannot listen on {host}:{port}: {reason}; --host must be an address of this machine", **about)
    )


def _check(args: argparse.Namespace) -> None:
    """Refuse what can be typed and the server does not take; it would say so for programs, in English.

    Raises:
        ConfigError: An option is out of its range, or --faults names what is none.
    """
    from ...errors import ConfigError
    from ...mock.options import MAX_AMOUNT

    for name, (lowest, highest) in {**dict.fromkeys(_AMOUNTS, (0, MAX_AMOUNT)), **_RANGES}.items():
        given = getattr(args, name)
        for one in given if isinstance(given, tuple) else (given,):
            if one is not None and not lowest <= one <= highest:
                option = name.replace("_", "-")
                raise ConfigError(
                    _(
                        "--{option} is {given}; allowed: {lowest:g} to {highest:g}",
                        option=option, given=one, lowest=lowest, highest=highest,
                    )
                )  # fmt: skip
    _check_faults(args.faults)


_AMOUNTS = ("delay", "token_delay", "retry_after", "rate_limit", "token_rate_limit")
_RANGES = {"port": (0, 65535), "error_rate": (0, 1), "error_status": (400, 599)}


def _check_faults(text: str) -> None:
    from ...errors import ConfigError
    from ...mock.faults import FAULTS

    shares: dict[str, float] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, _colon, amount = (one.strip() for one in part.partition(":"))
        try:
            share = float(amount)
        except ValueError:
            raise ConfigError(_("{part!r} is not a fault and its share, such as 'hang:0.02'", part=part[:60])) from None
        if name not in FAULTS:
            known = ", ".join(FAULTS)
            raise ConfigError(_("there is no fault {name!r}; there are: {known}", name=name[:60], known=known))
        if not 0 <= share <= 1:
            raise ConfigError(_("the share of the fault {name!r} is {share}; allowed: 0 to 1", name=name, share=share))
        if name in shares:
            raise ConfigError(_("the fault {name!r} is given twice", name=name))
        shares[name] = share
    if (total := sum(shares.values())) > 1 + 1e-9:  # nine times a ninth is more than 1
        raise ConfigError(_("the shares of the faults are {total:g} together; allowed: at most 1", total=total))


def _delay(text: str) -> float | tuple[float, float]:
    low, dash, high = text.partition("-")
    try:
        delays = (number(low), number(high or low))
    except argparse.ArgumentTypeError:
        delays = (1.0, 0.0)
    if delays[0] > delays[1] or bool(dash) != bool(high):
        raise argparse.ArgumentTypeError(_("{text!r} is neither seconds nor a range such as 0.1-0.5", text=text))
    return delays if dash else delays[0]


def _named(text: str) -> str:
    if not text.strip():  # an empty variable of a script; an empty host would be every address of the machine
        raise argparse.ArgumentTypeError(_("{text!r} is empty; give a text, or leave the option out", text=text))
    return text


def _retry_after(text: str) -> float | None:
    if text.lower() == "none":
        return None
    try:
        return number(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(_("{text!r} is neither seconds nor none", text=text)) from None
