"""How a batch is run, as values: its limits, its order, and how its output file is written and resumed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError
from ..language import _
from .lines import SAVE_INPUT
from .progress import ProgressOptions

ON_CHANGE = ("rerun", "keep", "fail")
ORDERS = ("input", "prefix")
ONLY = "only"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointOptions:
    """How an output file is written and resumed.

    Attributes:
        flush_interval: Seconds at most until a written row is on the disk, not only in the kernel.
        retry_failed: Ask failed rows of earlier runs again: True, besides the new ones; False leaves them alone; "only"
            asks nothing else, and leaves new rows, and those that were answered with other settings, to a later run.
        on_change: What to do with a row that was answered with another model or other parameters: "rerun" asks it
            again, "keep" takes the answer that is there, "fail" stops. Without effect where rows have parameters of
            their own (`params_list`).
        save_input: What of the messages a row keeps: True, "last" (the last message) or False.
        save_raw: Keep the server's whole reply in each row.
    """

    flush_interval: float = 1.0
    retry_failed: bool | str = True
    on_change: str = "rerun"
    save_input: bool | str = True
    save_raw: bool = False

    def __post_init__(self) -> None:
        if self.on_change not in ON_CHANGE:
            raise _unknown("on_change", self.on_change, ON_CHANGE)
        if not isinstance(self.retry_failed, bool) and self.retry_failed != ONLY:
            raise ConfigError(_("retry_failed={given!r} must be True, False or 'only'", given=self.retry_failed))
        if self.save_input not in SAVE_INPUT:
            raise ConfigError(_("save_input={given!r} must be True, 'last' or False", given=self.save_input))
        if not (_is_number(self.flush_interval) and self.flush_interval >= 0):
            raise ConfigError(
                _("flush_interval={given!r} must be a number of seconds, 0 or more", given=self.flush_interval)
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """How one batch is run.

    Attributes:
        output: The output file, None for none.
        checkpoint: How it is written and resumed.
        progress: What is shown.
        grace: Seconds that requests under way may take to finish when the batch is stopped.
        limit: Take only so many rows of the input; None takes all.
        give_resumed: Whether rows of earlier runs are given too, read back from the file.
        max_time: Seconds for the run, from the making of the job; then nothing new is asked. None is not limited.
        fail_over: The share of failed rows, of those that this run asked, above which it stops: looked at whenever a row
            fails, from the 20th row on. Rows that failed in an earlier run and fail again do not count. None is not
            limited.
        share: Whether equal rows are asked once and all get the answer; None: those with an explicit temperature of 0.
        order: "input", or "prefix": rows that begin alike one after the other, the first of them alone, so that the
            provider's own cache of prompts serves the rest. The whole input is read before the first row is asked, so it
            must not wait for answers.
        sample: Ask only so many rows, spread evenly over the input; None asks all.
    """

    output: Path | None = None
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)
    progress: ProgressOptions = field(default_factory=ProgressOptions)
    grace: float = 10.0
    limit: int | None = None
    give_resumed: bool = True
    max_time: float | None = None
    fail_over: float | None = None
    share: bool | None = None
    order: str = "input"
    sample: int | None = None

    def __post_init__(self) -> None:
        for name in ("limit", "sample"):
            count = getattr(self, name)
            if count is not None and (type(count) is not int or count < 1):
                raise ConfigError(_("{name}={given!r} must be a whole number of at least 1", name=name, given=count))
        if self.checkpoint.retry_failed == ONLY and self.output is None:
            raise ConfigError(
                _("retry_failed='only' asks rows that failed in earlier runs; name the output file of those runs")
            )
        if self.order not in ORDERS:
            raise _unknown("order", self.order, ORDERS)
        if self.share is not None and not isinstance(self.share, bool):
            raise ConfigError(_("share={given!r} must be True, False or None", given=self.share))
        if not (_is_number(self.grace) and self.grace >= 0):
            raise ConfigError(_("grace={given!r} must be a number of seconds, 0 or more", given=self.grace))
        if self.max_time is not None and not (_is_number(self.max_time) and self.max_time > 0):
            raise ConfigError(
                _("max_time={given!r} must be a number of seconds above 0, or None for no limit", given=self.max_time)
            )
        if self.fail_over is not None and not (_is_number(self.fail_over) and 0 < self.fail_over <= 1):
            reason = _(
                "fail_over={given!r} must be a share above 0 and up to 1, such as 0.1, or None for no limit",
                given=self.fail_over,
            )
            raise ConfigError(reason)


def _unknown(name: str, given: object, known: tuple[str, ...]) -> ConfigError:
    return ConfigError(
        _("{name}={given!r} is not known; there are: {known}", name=name, given=given, known=", ".join(known))
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
