"""Which endpoint and which model: from the configuration file, the environment and what the caller says.

A base URL and its key travel together from one source: a key from one place is never sent to a server that another place
names. Which providers exist is the registry's business.
"""

from ..configfile.paths import DEFAULT_PATH, config_path
from ..configfile.values import BatchEndpoint, BatchSettings, Config, ModelEntry
from .endpoint import ResolvedEndpoint
from .environment import names_server
from .load import load_config
from .pool import resolve_pool
from .resolve import resolve_endpoint

__all__ = [
    "DEFAULT_PATH",
    "BatchEndpoint",
    "BatchSettings",
    "Config",
    "ModelEntry",
    "ResolvedEndpoint",
    "config_path",
    "load_config",
    "names_server",
    "resolve_endpoint",
    "resolve_pool",
]
