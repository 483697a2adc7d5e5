"""What the command line's exit codes mean, and which of them an error becomes. flexllm(1) tells the user the same."""

from __future__ import annotations

import flexllm.errors as errors  # not `from ..`: the package's __getattr__ would be asked first

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Iterable

DONE, FAILED, USAGE, CONFIG, AUTHENTICATION, LOCKED, UNREACHED, BUDGET, DEADLINE, FILES = range(10)
"""Exit codes, fixed for good; an interrupt gives 128 and the signal's number."""

EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.InputError, FILES),
    (errors.ConfigError, CONFIG),
    (errors.AuthenticationFailed, AUTHENTICATION),
    (errors.PermissionDenied, AUTHENTICATION),
    (errors.OutputLocked, LOCKED),
    (errors.CheckpointError, FILES),
    (errors.ConnectionFailed, UNREACHED),
    (errors.BudgetExceededError, BUDGET),
    (errors.PriceUnknown, CONFIG),
    (errors.FlexLLMError, FAILED),
    (OSError, FILES),
)
"""The first class that fits decides."""


def exit_code(error: BaseException) -> int:
    """Return the exit code that an error means; of all endpoints' errors, what they have in common."""
    if isinstance(error, errors.AllEndpointsFailed):
        return common_code(error.errors) or FAILED
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def common_code(several: Iterable[BaseException]) -> int:
    """Return the exit code that several servers' errors have in common, else that of a failure; of none, 0."""
    codes = {exit_code(error) for error in several}
    if not codes:
        return DONE
    return codes.pop() if len(codes) == 1 else FAILED
