"""The options of `flexllm batch`, and the way from them and the configuration to the values that a run is made of."""

from __future__ import annotations

import argparse
import os

from ...language import _
from ..common import make_client, make_pool
from ..units import amount, count, duration, number, positive, price, quantile, share
from .watch import add_watch_options

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from ...batch.options import BatchOptions
    from ...batch.progress import Progress
    from ...cache import ResponseCacheConfig
    from ...client import LLMClient
    from ...config import BatchSettings, Config, ResolvedEndpoint
    from ...cost.options import CostTrackerConfig
    from ...media.options import MediaOptions


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is run, and when it ends."""
    group = parser.add_argument_group(_("run"))
    group.add_argument(
        "--grace", type=duration, default=10.0, metavar="TIME",
        help=_("how long requests under way may finish after Ctrl-C, SIGTERM or a closed terminal: seconds, or 30s, 2m; a "
        "second signal ends it at once (10)"),
    )  # fmt: skip
    group.add_argument(
        "--max-time", type=duration, metavar="TIME",
        help=_("for the run: seconds, or 30m, 8h; then nothing new is asked, and what is under way has --grace. The same "
        "command goes on later"),
    )  # fmt: skip
    add_watch_options(group)
    group.add_argument(
        "--fail-over", type=share, metavar="SHARE", help=_("stop when more than this share of the rows failed: 0 to 1")
    )
    group.add_argument(
        "--connect-timeout", type=duration, metavar="TIME", help=_("how long making a connection may take (10)")
    )
    group.add_argument(
        "--on-truncated", choices=("keep", "error", "retry"),
        help=_("an answer that was cut at a token limit: keep it, count it as failed, or ask once more with more tokens "
        "(keep)"),
    )  # fmt: skip
    group.add_argument(
        "--on-invalid", choices=("keep", "error", "retry"),
        help=_("an answer that is not of the form that response_format asks for (error)"),
    )  # fmt: skip
    group.add_argument(
        "--track-cost",
        action=argparse.BooleanOptionalAction,
        default=None,
        help=_("show the cost, where prices are known (on)"),
    )
    group.add_argument(
        "--return-usage", action=argparse.BooleanOptionalAction, default=None, help=_("show the tokens used (on)")
    )


def add_limit_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how fast it goes."""
    group = parser.add_argument_group(
        _("limits"), _("Of each endpoint, retries included. They are kept, and may be combined.")
    )
    group.add_argument(
        "-c", "--concurrency", type=count, metavar="N", help=_("requests under way at the same time (10)")
    )
    group.add_argument("--max-qps", type=positive, metavar="N", help=_("requests a second at most"))
    group.add_argument("--max-rpm", type=positive, metavar="N", help=_("requests a minute at most"))
    group.add_argument("--max-tpm", type=positive, metavar="N", help=_("tokens a minute at most, in and out together"))
    group.add_argument("--max-input-tpm", type=positive, metavar="N", help=_("tokens of the requests a minute at most"))
    group.add_argument("--max-output-tpm", type=positive, metavar="N", help=_("tokens of the answers a minute at most"))
    group.add_argument(
        "--adaptive", action=argparse.BooleanOptionalAction, default=None,
        help=_("find the rate that the server accepts, from its refusals and what its headers say (on)"),
    )  # fmt: skip
    group.add_argument(
        "--burst",
        type=count,
        metavar="N",
        help=_("requests that may go out at once where --max-qps allows one after the other"),
    )
    group.add_argument(
        "--min-qps", type=positive, metavar="N", help=_("requests a second that --adaptive never goes below")
    )
    group.add_argument(
        "--hedge", type=quantile, metavar="QUANTILE",
        help=_("send a row once more when it takes longer than this share of the others, 0.95 say; the first answer counts"),
    )  # fmt: skip


def add_pool_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for several endpoints."""
    group = parser.add_argument_group(
        _("several endpoints"), _("For the endpoints under 'batch' in the configuration file, which are asked as one.")
    )
    group.add_argument(
        "--distribute", action=argparse.BooleanOptionalAction, default=None,
        help=_("give each row to the endpoint that has room, instead of the one that --load-balance chooses (on)"),
    )  # fmt: skip
    group.add_argument(
        "--load-balance", choices=("round_robin", "weighted", "random", "fallback", "least_busy"),
        help=_("how an endpoint is chosen where --distribute does not (round_robin)"),
    )  # fmt: skip
    group.add_argument(
        "--fallback", action=argparse.BooleanOptionalAction, default=None,
        help=_("ask another endpoint when one fails (on)"),
    )  # fmt: skip
    group.add_argument(
        "--failure-threshold", type=count, metavar="N",
        help=_("leave an endpoint alone for a while after so many failures in a row (3)"),
    )  # fmt: skip
    group.add_argument(
        "--recovery-time", type=duration, metavar="TIME", help=_("how long it is left alone: seconds, or 30s, 5m (60)")
    )
    group.add_argument(
        "--total-concurrency",
        type=count,
        metavar="N",
        help=_("requests under way at the same time, at all endpoints together"),
    )
    group.add_argument(
        "--total-max-qps", type=positive, metavar="N", help=_("requests a second at most, at all endpoints together")
    )


def add_resume_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the output file."""
    group = parser.add_argument_group(_("resume"))
    group.add_argument(
        "--retry-failed", action=argparse.BooleanOptionalAction, default=None,
        help=_("ask only the rows that failed in earlier runs, and no new ones; with --no-retry-failed the failed ones are "
        "left alone. Without either, new and failed rows are asked"),
    )  # fmt: skip
    group.add_argument(
        "--on-change", choices=("rerun", "keep", "fail"),
        help=_("what to do with rows that were answered with another model or other parameters: ask again, keep the "
        "answer, or stop (rerun)"),
    )  # fmt: skip
    group.add_argument(
        "--save-input", default="all", choices=("all", "last", "none"),
        help=_("what of the messages each answer repeats: all, the last one, none (all)"),
    )  # fmt: skip
    group.add_argument("--save-raw", action="store_true", help=_("keep the server's whole reply in each line"))
    group.add_argument(
        "--flush-interval", type=number, metavar="SECONDS",
        help=_("until an answer is on the disk and not only in the kernel, at most (1)"),
    )  # fmt: skip


def add_cost_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that save requests, limit what they cost, or tell it before."""
    group = parser.add_argument_group(
        _("cost"),
        _("What earlier runs of the same output file took counts towards the budgets. Prices: flexllm pricing."),
    )
    before = group.add_mutually_exclusive_group()
    before.add_argument(
        "--dry-run", action="store_true",
        help=_("send nothing and write nothing: tell how many rows are to be bought, and what they will take in tokens, "
        "dollars and time"),
    )  # fmt: skip
    before.add_argument(
        "--sample", type=count, metavar="N",
        help=_("first ask N rows, spread over the file; then tell what the rest will take, and ask whether to go on"),
    )  # fmt: skip
    group.add_argument("-y", "--yes", action="store_true", help=_("go on after --sample without being asked"))
    group.add_argument(
        "--max-cost", type=amount, metavar="DOLLARS",
        help=_("stop before more than this is spent; the price of the model must be known. The same command with more goes "
        "on later"),
    )  # fmt: skip
    group.add_argument(
        "--max-requests",
        type=count,
        metavar="N",
        help=_("stop before more requests than this are sent, retries included"),
    )
    group.add_argument(
        "--max-total-tokens", type=count, metavar="N",
        help=_("stop before more tokens than this are used, of prompts and answers together; --max-tokens is another "
        "thing: the limit of each answer"),
    )  # fmt: skip
    group.add_argument(
        "--price", type=price, metavar="IN,OUT[,CACHED]",
        help=_("the model's price in US dollars per million tokens, of the prompt, the answer and, if it is another, the "
        "part of the prompt that the provider has in its cache: 0.5,1.5 say"),
    )  # fmt: skip
    group.add_argument(
        "--cache", action=argparse.BooleanOptionalAction, default=None,
        help=_("take answers from the response cache, and keep new ones there (off)"),
    )  # fmt: skip
    group.add_argument("--cache-dir", metavar="DIR", help=_("the folder of the cache; turns it on"))
    group.add_argument(
        "--cache-ttl", type=duration, metavar="TIME",
        help=_("use answers that are no older: seconds, or 30m, 12h, 7d; 0 for any age; turns the cache on (24h)"),
    )  # fmt: skip
    group.add_argument(
        "--share", action=argparse.BooleanOptionalAction, default=None,
        help=_("ask equal rows once and give all of them the answer (on at --temperature 0 alone)"),
    )  # fmt: skip
    group.add_argument(
        "--order", choices=("input", "prefix"),
        help=_("input asks the rows as they come; prefix reads all of them first and asks rows that begin alike one after "
        "the other, so that the provider's cache of prompts makes them cheaper (input)"),
    )  # fmt: skip


def first(*values: Any) -> Any:
    """Return the first value that is set, None if none is."""
    return next((value for value in values if value is not None), None)


def batch_client(args: argparse.Namespace, endpoint: ResolvedEndpoint | None, config: Config) -> LLMClient:
    """Return a client for one endpoint, or for those of the configuration if `endpoint` is None."""
    from dataclasses import replace

    settings = config.batch
    options = {name: first(getattr(args, name), getattr(settings, name)) for name in _RATES}
    options.update(
        concurrency_limit=first(args.concurrency, settings.concurrency),
        timeout=settings.timeout,
        total_timeout=settings.total_timeout,
        burst=args.burst,
        connect_timeout=args.connect_timeout,
        on_truncated=args.on_truncated,
        on_invalid=args.on_invalid,
        hedge=args.hedge,
        cache=cache_config(args, settings),
        media=_media(args),
    )
    entries = settings.endpoints
    if args.price is not None:  # it goes before all that the file says
        options.update(price=args.price, prices=None)
        entries = tuple(replace(entry, price=None) for entry in entries)
    if endpoint is not None:
        _refuse_pool_options(args)
        # Rows bring these along: some have a system message of their own, and templates have places for their fields.
        return make_client(args, endpoint, system=None, user_template=None, params=None, **options)
    options = {"prices": config.prices or None, **options}
    options.update(
        fallback=first(args.fallback, settings.fallback),
        load_balance=first(args.load_balance, settings.load_balance),
        failure_threshold=args.failure_threshold,
        recovery_time=args.recovery_time,
        total_concurrency_limit=args.total_concurrency,
        total_max_qps=args.total_max_qps,
    )
    return make_pool(args, entries, config, **options)


def _media(args: argparse.Namespace) -> MediaOptions | None:
    """Return how pictures are read; None as anywhere. Those of a folder are asked about once each, and not kept."""
    from ...media.options import MediaOptions

    is_folder = args.input is not None and os.path.isdir(os.path.expanduser(args.input))
    return MediaOptions(cache_bytes=0) if is_folder else None


def _refuse_pool_options(args: argparse.Namespace) -> None:
    from ...errors import ConfigError

    for name in _POOL_OPTIONS:
        if getattr(args, name) is not None:
            raise ConfigError(
                _(
                    "{option} is for several endpoints, and one is asked; list them under 'batch' in the configuration "
                    "file, and name no other",
                    option=f"--{name.replace('_', '-')}",
                )
            )


_POOL_OPTIONS = (
    "distribute", "load_balance", "fallback", "failure_threshold", "recovery_time", "total_concurrency", "total_max_qps",
)  # fmt: skip
"""As `add_pool_options` adds them."""


def batch_options(
    args: argparse.Namespace, settings: BatchSettings, output: Path | None, watchers: tuple[Progress, ...] = ()
) -> BatchOptions:
    """Return how the batch is run.

    Args:
        output: None if the answers go to standard output.
        watchers: Who else is told of the progress.
    """
    from ...batch.options import BatchOptions, CheckpointOptions
    from ...batch.progress import ProgressOptions

    return BatchOptions(
        output=output,
        checkpoint=CheckpointOptions(
            flush_interval=first(args.flush_interval, 1.0),
            retry_failed=_RETRY_FAILED[args.retry_failed],
            on_change=args.on_change or "rerun",
            save_input=_SAVE_INPUT[args.save_input],
            save_raw=args.save_raw,
        ),
        progress=ProgressOptions(
            show=not args.quiet,
            tokens=first(args.return_usage, settings.return_usage, True),
            cost=first(args.track_cost, settings.track_cost, True),
            also=watchers,
        ),
        grace=args.grace,
        max_time=first(args.max_time, settings.max_time),
        fail_over=first(args.fail_over, settings.fail_over),
        limit=args.limit,
        give_resumed=False,
        share=args.share,
        order=args.order or "input",
    )


_RETRY_FAILED: dict[bool | None, bool | str] = {None: True, True: "only", False: False}
_SAVE_INPUT: dict[str, bool | str] = {"all": True, "last": "last", "none": False}


def cache_config(args: argparse.Namespace, settings: BatchSettings) -> ResponseCacheConfig | None:
    """Return where answers are kept; None if they are not."""
    named = True if args.cache_dir is not None or args.cache_ttl is not None else None
    if not first(args.cache, named, settings.cache):
        return None
    from ...cache import ResponseCacheConfig

    given = {"ttl": args.cache_ttl, "cache_dir": args.cache_dir}
    return ResponseCacheConfig(enabled=True, **{name: value for name, value in given.items() if value is not None})


def budget(args: argparse.Namespace, settings: BatchSettings) -> CostTrackerConfig:
    """Return what the run, with all earlier ones of its output file, may take."""
    from ...cost.options import CostTrackerConfig

    return CostTrackerConfig(
        enabled=True,
        budget_limit=first(args.max_cost, settings.max_cost),
        max_requests=args.max_requests,
        max_tokens=args.max_total_tokens,
    )


_RATES = ("max_qps", "min_qps", "max_rpm", "max_tpm", "max_input_tpm", "max_output_tpm", "adaptive")
