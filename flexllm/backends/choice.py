"""Whom a row is sent to next: the face of that choice, its options, and the choice where there is only one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..cancel import CancelToken
from ..errors import ConfigError, FlexLLMError, RequestError
from ..health import EndpointHealth
from ..language import _
from ..router import STRATEGIES
from .endpoint import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """How several endpoints are asked as one.

    Attributes:
        load_balance: "round_robin", "weighted", "random", "fallback" (always the first that is well) or "least_busy".
        fallback: A row that fails on one endpoint goes on to another.
        failure_threshold: Failures in a row after which an endpoint is left alone.
        recovery_time: Seconds for that; then one request tries it.
        total_concurrency_limit: Requests under way at all endpoints together; None is the sum of theirs.
        total_max_qps: Requests that start per second at all of them together; None is not limited.
    """

    load_balance: str = "round_robin"
    fallback: bool = True
    failure_threshold: int = 3
    recovery_time: float = 60.0
    total_concurrency_limit: int | None = None
    total_max_qps: float | None = None

    def __post_init__(self) -> None:
        if self.load_balance not in STRATEGIES:
            given, known = self.load_balance, ", ".join(STRATEGIES)
            raise ConfigError(_("load_balance={given!r} is not known; it can be {known}", given=given, known=known))
        if not isinstance(self.fallback, bool):
            raise ConfigError(_("fallback={fallback!r} must be True or False", fallback=self.fallback))
        total, rate = self.total_concurrency_limit, self.total_max_qps
        if total is not None and not (isinstance(total, int) and not isinstance(total, bool) and total >= 1):
            raise ConfigError(
                _("total_concurrency_limit={total!r} must be a whole number of at least 1, or None", total=total)
            )
        if rate is not None and not (isinstance(rate, (int, float)) and not isinstance(rate, bool) and rate > 0):
            raise ConfigError(_("total_max_qps={rate!r} must be above 0, or None for no limit", rate=rate))


class Choice(Protocol):
    """Hands out endpoints, one for each attempt. May be shared by threads.

    Attributes:
        endpoints: All there are.
        attempts_at_least: How many attempts a row has, whatever the retry policy says, so that it can go on elsewhere.
    """

    @property
    def endpoints(self) -> Sequence[Endpoint]: ...

    @property
    def attempts_at_least(self) -> int: ...

    def take(
        self, failed: Sequence[Endpoint], cancel: CancelToken | None, until: float | None, distribute: bool = True
    ) -> Endpoint:
        """Return whom to ask now, and reserve a place there, which `give` takes back.

        Args:
            failed: Those that have failed the row, in order.
            until: When to give up waiting, on the monotonic clock.
            distribute: The row goes where there is room, so that a fast endpoint takes more rows; False keeps to the
                strategy, and waits there.

        Raises:
            AllEndpointsFailed: None can be asked in time.
            RequestCancelled: `cancel` was stopped before.
        """

    def give(self, endpoint: Endpoint, error: BaseException | None) -> None:
        """Take note of how an attempt ended: with an answer if `error` is None."""

    def has_other(self, failed: Sequence[Endpoint], until: float | None) -> bool:
        """Return whether the row may go on elsewhere, at an endpoint that has not failed it.

        Args:
            until: Count those too that cool now but are back by then; None counts those alone that can be asked now.
        """

    def spare(self, busy: Endpoint) -> Endpoint | None:
        """Return, and reserve, an endpoint for a second request beside the one at `busy`; None if there is no room."""

    def verdict(self, failed: Sequence[Endpoint], errors: Sequence[RequestError], attempts: int) -> FlexLLMError:
        """Return what the row fails with, after attempts at these endpoints that ended in these errors."""

    def health(self) -> tuple[EndpointHealth, ...]:
        """Return how each endpoint does."""


class OneEndpoint:
    """The choice where there is only one."""

    attempts_at_least = 1

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoints = (endpoint,)
        self._endpoint = endpoint

    def take(
        self, failed: Sequence[Endpoint], cancel: CancelToken | None, until: float | None, distribute: bool = True
    ) -> Endpoint:
        """Return it; its gate is waited for there."""
        return self._endpoint

    def give(self, endpoint: Endpoint, error: BaseException | None) -> None:
        """Do nothing: there is nobody else to ask."""

    def has_other(self, failed: Sequence[Endpoint], until: float | None) -> bool:
        """Return False."""
        return False

    def spare(self, busy: Endpoint) -> Endpoint | None:
        """Return it: the same server may be quicker with a second request."""
        return self._endpoint

    def verdict(self, failed: Sequence[Endpoint], errors: Sequence[RequestError], attempts: int) -> FlexLLMError:
        """Return the last error."""
        return errors[-1]

    def health(self) -> tuple[EndpointHealth, ...]:
        """Return how it does."""
        return (self._endpoint.health(),)
