"""Where the configuration file is, and how people are told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

DEFAULT_PATH = "~/.flexllm/config.yaml"
"""As the user's document has it. Not expanded, so that help and man page are the same on every machine."""


def config_path(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the file to read: the argument, else FLEXLLM_CONFIG, else the default. It need not exist."""
    # Not Path.expanduser, which raises for a user without a home directory.
    return Path(os.path.expanduser(path or variable(environ, "FLEXLLM_CONFIG") or DEFAULT_PATH))


def variable(environ: Mapping[str, str], name: str) -> str | None:
    """Return an environment variable; blank means not set."""
    return environ.get(name, "").strip() or None


def shown_path(path: Path) -> str:
    """Return a path for people: `~` for the home directory."""
    home = os.path.join(os.path.expanduser("~"), "")
    return f"~/{str(path)[len(home) :]}" if str(path).startswith(home) else str(path)
