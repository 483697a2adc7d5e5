"""How many files, and so connections, this process may have open."""

from __future__ import annotations

from ..errors import ConfigError
from ..language import _


def allow_connections(connections: int) -> None:
    """Raise this process's soft limit of open files where so many connections need it.

    Raises:
        ConfigError: The hard limit is too low; the message says which and what to do.
    """
    try:
        import resource  # not on every platform
    except ImportError:
        return
    needed = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft in (resource.RLIM_INFINITY,) or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        reason = _(
            "concurrency_limit={connections} needs about {needed} open files, but the hard limit of this process is "
            "{hard}: lower concurrency_limit to {possible}, or raise the limit (ulimit -Hn, LimitNOFILE= of a systemd unit, "
            "/etc/security/limits.conf)",
            connections=connections,
            needed=needed,
            hard=hard,
            possible=max(1, hard - SPARE_FILES),
        )
        raise ConfigError(reason)
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


SPARE_FILES = 64
"""Open files besides connections: input, output, logs, libraries, and what the caller has open."""
