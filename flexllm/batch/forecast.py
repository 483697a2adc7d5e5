"""What a batch will take, before anything is sent: counted where it can be, reckoned from what answers tell so far.

It reads what a job would read, in the same way (`Reader`, `Checkpoint`, `Reuse`), and neither writes nor locks anything.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import itemgetter

from ..language import _, mark, plural, with_commas, with_semicolons
from ..prices import ModelPrice, Price
from .checkpoint import Checkpoint
from .items import RowSource
from .options import BatchOptions
from .outlook import Forecast, Pace
from .output import OutputView
from .reuse import Reuse
from .seen import Range, Seen
from .survey import MOST_LINES, Survey

Prices = Callable[[str], Sequence[ModelPrice | None]]
"""From a model to what it costs at each endpoint."""


def _nobody_knows(model: str) -> Sequence[ModelPrice | None]:
    """Return the prices at no endpoint."""
    return ()


def make_forecast(
    rows: RowSource,
    options: BatchOptions,
    *,
    reuse: Reuse | None = None,
    prices: Prices = _nobody_knows,
    pace: Pace | None = None,
    sampled: int = 0,
    now: float | None = None,
) -> Forecast:
    """Return what a job with these rows and options would take. The input is read to its end.

    Args:
        options: Those of the job. A sample is not heeded: it is the whole that is asked for.
        reuse: As the job's.
        prices: From a model to its price at each endpoint that may answer, None for one without a known price.
        pace: How fast they may be asked; None: one by one.
        sampled: Answers in the output file that were bought as a sample.
        now: Unix time, for prices that change; None is the present.

    Raises:
        CheckpointError: The output file could not be used.
        InputError: The input cannot be understood.
    """
    checkpoint = None
    if options.output is not None:
        checkpoint = Checkpoint(options.output, options.checkpoint, _say_nothing, OutputView(options.output))
        checkpoint.notices_changes = rows.is_uniform
    try:
        survey = Survey(checkpoint, reuse)
        survey.read(rows, options.limit)
        name = options.output.name if options.output is not None else ""
        return _Reckoning(survey, survey.seen_before(), name, sampled).forecast(
            prices, pace or Pace(), time.time() if now is None else now
        )
    finally:
        if checkpoint is not None:
            checkpoint.close()


def _say_nothing(sentence: str) -> None:
    """Stand for those who hear what a run would mend: nothing is mended here."""


class _Reckoning:
    """From counts to numbers.

    Args:
        name: What the file with earlier answers is called.
        sampled: How many of them were bought as a sample.
    """

    def __init__(self, survey: Survey, seen: Seen, name: str, sampled: int) -> None:
        self._survey = survey
        self._seen = seen
        self._answers = _answers_words(survey, name, sampled) if len(seen) else ""

    def forecast(self, prices: Prices, pace: Pace, now: float) -> Forecast:
        survey = self._survey
        factor = self._seen.prompt_factor(survey.to_buy)
        prompt = factor.times(float(sum(map(sum, survey.estimates.values()))))
        completion = self._completion()
        cost, cost_reason = self._cost(prices, factor, completion, now)
        seconds, seconds_reason = self._time(pace, prompt.expected, completion.expected)
        rests_on = {
            "prompt_tokens": self._prompt_reason(),
            "completion_tokens": self._completion_reason(),
            "cost": cost_reason,
            "seconds": seconds_reason,
        }
        return Forecast(
            rows=survey.rows, done=survey.done, failed=survey.failed, cached=survey.cached, shared=survey.shared,
            to_buy=survey.to_buy, changed=survey.changed, prompt_tokens=prompt, completion_tokens=completion, cost=cost,
            seconds=seconds, rests_on=rests_on if survey.to_buy else {},
        )  # fmt: skip

    def _prompt_reason(self) -> str:
        if self._seen.corrects_prompts:
            return _("estimated from the texts, corrected by {answers}", answers=self._answers)
        return _("estimated from the texts")

    def _completion(self) -> Range:
        """Return the tokens of all replies. Where a limit is set, it is the worst."""
        each = self._seen.completion(self._survey.to_buy)
        total = Range(0.0, 0.0, 0.0)
        for limit, count in self._survey.limits.items():
            one = each if limit is None else Range(min(each.low, limit), min(each.expected, limit), float(limit))
            total = total.plus(one.times(count))
        return total

    def _completion_reason(self) -> str:
        limits, parts = self._survey.limits, [self._answers or _("no answers seen yet: a guess")]
        if None not in limits and len(limits) == 1:
            parts.append(_("at worst {tokens:,} each", tokens=next(iter(limits))))
        elif None not in limits:
            parts.append(_("at worst what max_tokens allows"))
        return with_semicolons(parts)

    def _cost(self, prices: Prices, factor: Range, completion: Range, now: float) -> tuple[Range | None, str]:
        """Return the dollars for all rows, each at the price of the model that it asks."""
        total, told = Range(0.0, 0.0, 0.0), ""
        models = self._survey.estimates
        for model, estimates in models.items():
            replies = completion.times(len(estimates) / self._survey.to_buy)
            cost, told = self._cost_of(prices(model), now, estimates, factor, replies)
            if cost is None:
                return None, f"{told}: {model}" if len(models) > 1 else told
            total = total.plus(cost)
        return total, _("at the prices of {count} models", count=len(models)) if len(models) > 1 else told

    def _cost_of(
        self, prices: Sequence[ModelPrice | None], now: float, estimates: array[int], factor: Range, completion: Range
    ) -> tuple[Range | None, str]:
        known = [one for one in prices if one is not None]
        if not known or len(known) < len(prices):
            return None, _("the price is unknown") if not known else _("the price of an endpoint is unknown")
        costs = [self._cost_at(one, now, estimates, factor, completion) for one in known]
        expected = sum(one.expected for one in costs) / len(costs)
        cost = Range(min(one.low for one in costs), expected, max(one.worst for one in costs))
        if len(set(known)) == 1:
            return cost, _price_words(known[0], now)
        return cost, _("between the prices of {count} endpoints", count=len(known))

    def _cost_at(self, model: ModelPrice, now: float, estimates: array[int], factor: Range, completion: Range) -> Range:
        price = model.at(now)
        usual = self._seen.cost_factor(price, model.provider)
        low, expected, worst = (_dollars(price, estimates, *pair) for pair in zip(factor, completion, strict=True))
        return Range(low * min(usual, 1.0), expected * usual, worst * max(usual, 1.0))

    def _time(self, pace: Pace, prompt: float, completion: float) -> tuple[float | None, str]:
        """Return the seconds that the strictest limit makes it last, and which that is."""
        count, latency = self._survey.to_buy, self._seen.latency
        ways: list[tuple[float, str]] = []
        if latency is not None:
            workers = min(pace.concurrency, count) or 1
            reason = _("{workers:,} at a time, {latency:.1f} s each", workers=workers, latency=latency)
            ways.append((count * latency / workers, reason))
        for amount, rate, text in (
            (float(count), pace.requests, mark("{rate:,.6g} requests a minute")),
            (prompt + completion, pace.tokens, mark("{rate:,.6g} tokens a minute")),
            (prompt, pace.input_tokens, mark("{rate:,.6g} tokens of prompts a minute")),
            (completion, pace.output_tokens, mark("{rate:,.6g} tokens of answers a minute")),
        ):
            if rate is not None:
                ways.append((amount / rate, _(text, rate=60 * rate)))
        if not count:
            return 0.0, ""
        if not ways:
            return None, _("no rate is set, and no answers seen yet")
        seconds, reason = max(ways, key=itemgetter(0))
        if latency is None:
            reason = with_semicolons([reason, _("how long an answer takes is not known yet")])
        return seconds, reason


def _dollars(price: Price, estimates: array[int], factor: float, completion: float) -> float:
    """Return the cost of all rows, each in the tier that its prompt is in."""
    each = completion / len(estimates)
    bounds = [tier.above for tier in price.tiers]
    if not bounds:
        groups = {0: (len(estimates), float(sum(estimates)))}
    else:
        groups = {}
        for estimate in estimates:
            group = bisect_left(bounds, estimate * factor)
            count, total = groups.get(group, (0, 0.0))
            groups[group] = (count + 1, total + estimate)
    cost = price.request * len(estimates)
    for group, (count, total) in groups.items():
        at = price.for_prompt(bounds[group - 1] + 1) if group else price
        cost += (total * factor * at.input + count * each * at.output) / 1e6
    return cost


def _answers_words(survey: Survey, name: str, sampled: int) -> str:
    found = survey.answers
    in_cache = plural("{count:,} answer in the cache", "{count:,} answers in the cache", survey.from_cache)
    if not found:
        return in_cache if survey.from_cache else ""
    is_sample = sampled >= found
    if found > MOST_LINES and is_sample:
        in_file = _("{read:,} of {count:,} sampled answers", read=MOST_LINES, count=found)
    elif found > MOST_LINES:
        in_file = _("{read:,} of {count:,} answers in {name}", read=MOST_LINES, count=found, name=name)
    elif is_sample:
        in_file = plural("{count:,} sampled answer", "{count:,} sampled answers", found)
    else:
        in_file = plural("{count:,} answer in {name}", "{count:,} answers in {name}", found, name=name)
    return _("{in_file} and {in_cache}", in_file=in_file, in_cache=in_cache) if survey.from_cache else in_file


def _price_words(price: ModelPrice, now: float) -> str:
    at, model = price.at(now), price.model or _("own price")
    parts = [_("{model}: ${input:g} in, ${output:g} out per million", model=model, input=at.input, output=at.output)]
    parts.append(price.date or _("as given"))
    if price.uncertain:
        parts.append(_("not confirmed"))
    return with_commas(parts)
