"""What the environment says before the configuration file, in a sentence: who edits the file would wonder otherwise."""

from __future__ import annotations

from ..language import _

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from ..config import Config


def what_goes_before(config: Config | None = None) -> str | None:
    """Return that a variable decides where nobody gives -m, as a sentence; None if the file does.

    Args:
        config: What the file says, for OPENAI_MODEL counts only where it names a model of the file; None is a file whose
            one model is the default.
    """
    from ..config.environment import read_environment

    found = read_environment()
    if found.base_url is not None:
        return _(
            "{source} is set, and goes before the file: its server is asked unless -m names a model of "
            "the file. See flexllm list --resolve.",
            source=found.base_url.source,
        )
    named = found.model
    if named is None and found.openai_model is not None and config is not None:
        named = found.openai_model if _has(config, found.openai_model.value) else None
    if named is None:
        return None
    return _("{source} is set, and goes before the default of the file.", source=named.source)


def _has(config: Config, name: str) -> bool:
    from ..errors import ConfigError

    try:
        return config.find(name) is not None
    except ConfigError:  # several are called so, and none of them is asked
        return False
