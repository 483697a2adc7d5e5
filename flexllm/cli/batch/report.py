"""What `flexllm batch` tells at the end: how it went, how to go on, and with which exit code."""

from __future__ import annotations

import argparse
import re

from ...language import _, with_commas
from ..logs import record
from ..output import ERROR, print_json, talk

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from ...batch.job import BatchJob
    from ...batch.options import BatchOptions
    from ...batch.outlook import Forecast


def report(
    args: argparse.Namespace,
    job: BatchJob,
    options: BatchOptions,
    forecast: Forecast | None = None,
    sample: BatchJob | None = None,
) -> None:
    """Tell how the run went: in a sentence, or as JSON.

    Args:
        forecast: What was foretold of the run, after a sample.
        sample: The run that bought the sample before this one: what it took is not in this one's summary.
    """
    summary = job.summary()
    if args.json:
        foretold = {} if forecast is None else {"forecast": forecast.as_dict()}
        before = {} if sample is None else {"sample": sample.summary()}
        print_json({**summary, **foretold, **before, "output": args.output})
    told = sentence(summary, args.output, tokens=options.progress.tokens, cost=options.progress.cost)
    if args.quiet or args.json:  # a log file has it all the same
        record(told)
    else:
        talk(told)


def tell_trouble(args: argparse.Namespace, job: BatchJob) -> None:
    """Tell somebody who wants to hear of errors alone why the run ended with another exit code than 0."""
    if not args.quiet or args.json or not exit_code_of(job):
        return
    if job.stopped is not None:
        talk(f"flexllm: {job.stopped}", level=ERROR)
        return
    summary = job.summary()
    told = sentence(summary, args.output, tokens=False, cost=False)
    examples = [one["examples"][0]["message"] for one in summary["errors"].values() if one["examples"]]
    if examples:
        talk(_("flexllm: {told}; the first error: {message}", told=told, message=examples[0]), level=ERROR)
    else:
        talk(f"flexllm: {told}", level=ERROR)


def sentence(summary: dict[str, Any], output: str, *, tokens: bool, cost: bool) -> str:
    """Return the summary of a run for people, with or without the tokens that it took and what it cost."""
    from ...batch.progress import describe_answered, describe_cost, describe_retries, describe_tokens

    parts = [describe_answered(summary["success"], summary["total"])]
    if before := answered_before(summary):
        parts.append(_("{count:,} of them by earlier runs", count=before))
    if summary["cached"]:
        parts.append(_("{count:,} from the cache", count=summary["cached"]))
    if summary["shared"]:
        parts.append(_("{count:,} like another row", count=summary["shared"]))
    if summary["failed"]:
        parts.append(_failed_words(summary["failed"], summary["errors_by_class"]))
    if summary["retries"]:
        parts.append(describe_retries(summary["retries"]))
    parts.append(_("{seconds:.1f} s", seconds=summary["elapsed"]))
    if tokens and summary["total_tokens"]:
        parts.append(describe_tokens(summary["total_tokens"]))
    if cost and (paid := describe_cost(summary["cost"], summary["unpriced"])):
        parts.append(paid)
    for endpoint in summary["endpoints"]:
        parts += _endpoint_words(endpoint)
    told = with_commas(parts)
    return told if output == "-" else _("{told}; see {output}", told=told, output=output)


def _failed_words(count: int, by_class: Mapping[str, int]) -> str:
    if not by_class:
        return _("{count:,} failed", count=count)
    kinds = with_commas(f"{number:,} {kind}" for kind, number in by_class.items())
    return _("{count:,} failed ({kinds})", count=count, kinds=kinds)


def _endpoint_words(endpoint: Mapping[str, Any]) -> Iterator[str]:
    place, rate, error = endpoint["place"], endpoint["rate"], endpoint["last_error"]
    if endpoint["learned"] is not None and rate is not None:
        yield _("{place} accepts about {rate:.1f} requests a second", place=place, rate=rate)
    if endpoint["state"] in ("cooling", "probing"):
        yield _("{place} was left alone at the end ({error})", place=place, error=error)


def answered_before(summary: Mapping[str, Any]) -> int:
    """Return how many rows earlier runs answered: `resumed` counts also those that failed then and are left alone."""
    left_alone = summary["failed"] - sum(summary["errors_by_class"].values())
    return int(summary["resumed"] - left_alone)


def how_to_go_on(args: argparse.Namespace, file: Path | None) -> str:
    """Return what an interrupted user is to do, without his key.

    Args:
        file: The output file, None if it is standard output.
    """
    if file is None:
        return _("Interrupted; the answers that came are on standard output. Nothing was kept to go on from")
    command = _masked(args.argv)
    if args.input in (None, "-"):
        return _(
            "Interrupted; every answer that came is in {file}. To go on, the same input piped into the same command:\n"
            "  {command}",
            file=file, command=command,
        )  # fmt: skip
    return _(
        "Interrupted; every answer that came is in {file}. To go on, the same command:\n  {command}",
        file=file, command=command,
    )  # fmt: skip


def _masked(words: Sequence[str]) -> str:
    """Return the command line, quoted for a shell, without keys and the like: each is known by the option it follows."""
    import shlex

    shown, option = ["flexllm"], ""
    for word in words:
        name, equals, value = word.partition("=")
        if option in _MASKS:
            word = _MASKS[option](word)
        elif equals and name in _MASKS:
            word = f"{name}={_MASKS[name](value)}"
        shown.append(shlex.quote(word))
        option = word
    return " ".join(shown)


def _masked_param(text: str) -> str:
    name, equals, _value = text.partition("=")
    return f"{name}=VALUE" if equals and _SECRET.search(name) else text


_SECRET = re.compile(r"extra_body|key|token(?!s)|secret|auth|password", re.IGNORECASE)
"""What names of parameters with a secret hold; limits are called `max_tokens` and the like."""

_MASKS: Mapping[str, Callable[[str], str]] = {"--api-key": lambda _key: "KEY", "--param": _masked_param}
"""A URL is not among them: one that holds a secret is refused."""


def exit_code_of(job: BatchJob) -> int:
    """Return 0 if every row is answered; else why the run stopped, or what all failures have in common."""
    import flexllm.errors as errors

    from ..exits import AUTHENTICATION, BUDGET, DEADLINE, DONE, FAILED, UNREACHED, exit_code

    tally, stopped = job.tally, job.stopped
    if stopped is not None and stopped.reason == "max_time":
        return DEADLINE
    if stopped is not None and stopped.reason == "budget":
        return BUDGET
    if stopped is not None and stopped.reason == "fatal" and stopped.error is not None:
        return exit_code(stopped.error)
    if not tally.failed:
        return DONE
    codes = {exit_code(getattr(errors, kind)("")) for kind in tally.errors_by_class}
    return codes.pop() if not tally.success and codes in ({AUTHENTICATION}, {UNREACHED}) else FAILED
