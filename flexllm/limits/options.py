"""How fast one endpoint may be asked, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from ..language import _

DEFAULT_CONCURRENCY = 10
"""The number that the user's document gives for `concurrency_limit`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """How fast one endpoint may be asked. None, wherever it may stand, means not limited.

    Attributes:
        concurrency: Requests under way at the same time.
        max_qps: Requests that start per second; also the hard ceiling of what `adaptive` may find.
        min_qps: What `adaptive` never goes below; None leaves it free.
        max_rpm: Requests that start per minute, spread evenly over it.
        max_tpm: Tokens per minute, of requests and replies together.
        max_input_tpm: Tokens of requests per minute.
        max_output_tpm: Tokens of replies per minute.
        burst: Requests that may start at once after a pause, where `max_qps` or `max_rpm` is set. None lets them start
            one by one, and makes up for threads that wake up late: by one request up to 100 a second, above that by
            what 10 ms hold, so that the rate is reached.
        adaptive: Find the rate that the server accepts, from its refusals and from what its headers say.
    """

    concurrency: int = DEFAULT_CONCURRENCY
    max_qps: float | None = None
    min_qps: float | None = None
    max_rpm: float | None = None
    max_tpm: float | None = None
    max_input_tpm: float | None = None
    max_output_tpm: float | None = None
    burst: int | None = None
    adaptive: bool = True

    def __post_init__(self) -> None:
        if not _is_count(self.concurrency):
            given = self.concurrency
            raise ConfigError(_("concurrency_limit={given!r} must be a whole number of at least 1", given=given))
        if self.burst is not None and not _is_count(self.burst):
            raise ConfigError(_("burst={burst!r} must be a whole number of at least 1", burst=self.burst))
        if not isinstance(self.adaptive, bool):
            raise ConfigError(_("adaptive={adaptive!r} must be True or False", adaptive=self.adaptive))
        for name in ("max_qps", "min_qps", "max_rpm", "max_tpm", "max_input_tpm", "max_output_tpm"):
            value = getattr(self, name)
            is_rate = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
            if value is not None and not is_rate:
                raise ConfigError(_("{name}={value!r} must be above 0, or None for no limit", name=name, value=value))
        least, most = self.min_qps, self.max_qps
        if least is not None and most is not None and least > most:
            raise ConfigError(_("min_qps={least!r} must not be above max_qps={most!r}", least=least, most=most))

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited, so that they must be estimated before a request is sent."""
        return not (self.max_tpm is None and self.max_input_tpm is None and self.max_output_tpm is None)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def per_second(per_minute: float | None) -> float | None:
    """Return a limit as its bucket takes it; None is not limited."""
    return None if per_minute is None else per_minute / 60.0
