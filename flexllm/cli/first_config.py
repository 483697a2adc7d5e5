"""The first configuration file: what stands in it, and how it is written so that nobody else reads it and nothing is lost.

Its text is data: `data/first_config.yaml`, and for each other language a file beside it, with comments in that.

Imported when a command runs, not when the parser is made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..configfile.paths import shown_path, variable
from ..configfile.places import literal
from ..configfile.quotes import double_quoted
from ..errors import ConfigError
from ..files import replace_file
from ..language import ENGLISH, _, language, mark
from ..system_errors import reason_of
from ..wire import NO_KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One that is offered to a newcomer.

    Attributes:
        title: What people call it.
        base_url: None where it is the user's own to say.
        provider: The wire format.
        variable: The environment variable in which its users keep the key; None where no key is needed.
        first_variables: Others, which its own clients read before that one.
        model: One that is good to begin with; None where that depends.
        note: What else is to be known, as a sentence. It and the title are marked for translation.
    """

    title: str
    base_url: str | None = None
    provider: str = "openai"
    variable: str | None = None
    first_variables: tuple[str, ...] = ()
    model: str | None = None
    note: str = ""

    def variable_in(self, environ: Mapping[str, str]) -> str | None:
        """Return the variable that holds the key, or would hold it; None where no key is needed."""
        set_here = (name for name in self.first_variables if variable(environ, name))
        return next(set_here, self.variable)


SERVICES = (
    Service(title="OpenAI", base_url="https://api.openai.com/v1", variable="OPENAI_API_KEY", model="gpt-6-luna"),
    Service(
        title="DeepSeek", base_url="https://api.deepseek.com", variable="DEEPSEEK_API_KEY", model="deepseek-v4-flash"
    ),
    Service(
        title="Qwen",
        base_url="https://dashscope.aliyuncs.com/compatible-mode/v1",
        variable="DASHSCOPE_API_KEY",
        model="qwen3.8-flash",
        note=mark("Keys of the international service are for https://dashscope-intl.aliyuncs.com/compatible-mode/v1."),
    ),
    Service(
        title="Gemini",
        base_url="https://generativelanguage.googleapis.com",
        provider="gemini",
        variable="GEMINI_API_KEY",
        first_variables=("GOOGLE_API_KEY",),
        model="gemini-3.8-flash",
    ),
    Service(
        title="Claude",
        base_url="https://api.anthropic.com",
        provider="claude",
        variable="ANTHROPIC_API_KEY",
        model="claude-haiku-5-5",
    ),
    Service(title="OpenRouter", base_url="https://openrouter.ai/api/v1", variable="OPENROUTER_API_KEY"),
    Service(
        title="SiliconFlow",
        base_url="https://api.siliconflow.cn/v1",
        variable="SILICONFLOW_API_KEY",
        note=mark("Keys of the international service are for https://api.siliconflow.com/v1."),
    ),
    Service(title=mark("Ollama, on this machine"), base_url="http://localhost:11434/v1"),
    Service(title=mark("vLLM, on this machine"), base_url="http://localhost:8000/v1"),
    Service(title=mark("another server")),
)
"""In the order in which they are offered. Source of URLs and variables: the services' documentation, and
google-genai, which takes GOOGLE_API_KEY before GEMINI_API_KEY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstModel:
    """The model that a new file has. `repr` shows no key.

    Attributes:
        api_key: As it is to stand in the file: "${NAME}", a key or "EMPTY"; see `literal_key`.
    """

    name: str
    provider: str
    base_url: str
    api_key: str

    def __repr__(self) -> str:
        return f"FirstModel({self.name!r}, {self.provider}, {self.base_url})"


EXAMPLE = FirstModel(
    name="gpt-6-luna", provider="openai", base_url="https://api.openai.com/v1", api_key="${OPENAI_API_KEY}"
)
"""What stands in a file about which nobody was asked."""


def config_text(model: FirstModel) -> str:
    """Return a configuration file with one model, and in comments everything else that may stand in one.

    Its words are those of `data/first_config.yaml`. There `<name>` is the place of a value, and of the comments that begin
    with `#<no_key>`, `#<variable>` or `#<key>` the one stays that fits the key.
    """
    kind = "no_key" if model.api_key == NO_KEY else "variable" if model.api_key.startswith("${") else "key"
    values = {
        "id": double_quoted(literal(model.name)),
        "provider": model.provider,
        "base_url": double_quoted(literal(model.base_url)),
        "api_key": NO_KEY if kind == "no_key" else double_quoted(model.api_key),
    }
    text = re.sub(
        r"^( *#)<(\w+)>(.*\n)",
        lambda line: line[1] + line[3] if line[2] == kind else "",
        _template(),
        flags=re.MULTILINE,
    )
    return re.sub(r"<(\w+)>", lambda place: values[place[1]], text)


def _template() -> str:
    name = "first_config" if language() == ENGLISH else f"first_config.{language()}"
    data = pkgutil.get_data(__name__.partition(".")[0], f"data/{name}.yaml")
    if data is None:
        raise ConfigError(_("the package's example of a configuration is missing; install flexllm again"))
    return data.decode()


def literal_key(key: str) -> str:
    """Return a key as it stands in the file, where "${" would be read as a variable's."""
    return literal(key)


# --- writing ----------------------------------------------------------------------------------------------------------

_PRIVATE = 0o600
"""The mode of a file that may hold a key; a backup may too."""


def check_place(path: Path, *, force: bool) -> None:
    """Refuse a place where no file can be written, before anybody is asked anything.

    Raises:
        ConfigError: A file is there, and it is not to be replaced; or what is there is no file.
        OSError: The folder cannot be written, or does not exist and cannot be made.
    """
    # Not Path.exists, which raises where a folder must not be looked into.
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigError(_("{path} is no file; name another one with --config", path=shown_path(path)))
    if os.path.exists(path) and not force:
        raise _taken(path)
    folder = Path(os.path.realpath(path)).parent
    folder = folder if os.path.exists(folder) else folder.parent
    if not os.path.isdir(folder):
        told = _("{path} cannot be written: its folder does not exist", path=shown_path(path))
        raise FileNotFoundError(errno.ENOENT, told)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def write_config(path: Path, text: str, *, force: bool) -> Path | None:
    """Write a file that its owner alone can read, all of it or nothing; the folder is made too, if it is missing.

    Args:
        force: Replace the file that is there; a symbolic link stays one.

    Returns:
        Where the file that was there is kept: in the same folder, with ".bak" behind its name. None if there was none.

    Raises:
        ConfigError: A file is there, and it is not to be replaced.
        OSError: It cannot be written.
    """
    real = Path(os.path.realpath(path))
    kept = None
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(real.parent, 0o700)
        if force and real.exists():
            kept = real.with_name(f"{real.name}.bak")
            replace_file(kept, (real.read_bytes(),), mode=_PRIVATE, follow=False)  # it may lead to the very file
            replace_file(real, (text.encode(),), mode=_PRIVATE)
        else:
            _create(real, text.encode())
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise _unwritable(path, error) from error
    return kept


def _unwritable(path: Path, error: OSError) -> OSError:
    told = _("{path} cannot be written: {reason}", path=shown_path(path), reason=reason_of(error))
    return OSError(error.errno, told)  # which becomes the class of the number


def _taken(path: Path) -> ConfigError:
    return ConfigError(
        _(
            "{path} is there already: edit it, or give --force to write a new one and keep it as {name}.bak",
            path=shown_path(path),
            name=path.name,
        )
    )


def _create(path: Path, data: bytes) -> None:
    """Write a file that is not there yet; one that somebody else makes at this moment is not touched."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    try:
        with open(handle, "wb") as stream:
            stream.write(data)
    except BaseException:
        os.unlink(path)
        raise
