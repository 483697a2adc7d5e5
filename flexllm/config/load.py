"""Reads the configuration, and tells what was set in vain."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..configfile import reader
from ..configfile.values import Config
from .environment import warn_of_unknown


def load_config(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check the configuration file. A missing default file is an empty configuration.

    What the file, or a variable that begins with FLEXLLM_, says in vain is logged as a warning.

    Raises:
        ConfigError: The file that the argument or FLEXLLM_CONFIG names is missing, or the file is unreadable or wrong;
            the message says where, and what is allowed.
    """
    warn_of_unknown(environ)
    return reader.load_config(path, environ)
