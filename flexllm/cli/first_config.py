"""The first configuration file: what stands in it, and how it is written so that nobody else reads it and nothing is lost.

Imported when a command runs, not when the parser is made.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..configfile.paths import shown_path
from ..configfile.places import literal
from ..configfile.quotes import double_quoted
from ..errors import ConfigError
from ..files import replace_file
from ..wire import NO_KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One that is offered to a newcomer.

    Attributes:
        title: What people call it.
        base_url: None where it is the user's own to say.
        provider: The wire format.
        variable: The environment variable in which its users keep the key; None where no key is needed.
        model: One that is good to begin with; None where that depends.
        note: What else is to be known, as a sentence.
    """

    title: str
    base_url: str | None = None
    provider: str = "openai"
    variable: str | None = None
    model: str | None = None
    note: str = ""


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
        note="Keys of the international service are for https://dashscope-intl.aliyuncs.com/compatible-mode/v1.",
    ),
    Service(
        title="Gemini",
        base_url="https://generativelanguage.googleapis.com",
        provider="gemini",
        variable="GEMINI_API_KEY",
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
        note="Keys of the international service are for https://api.siliconflow.com/v1.",
    ),
    Service(title="Ollama, on this machine", base_url="http://localhost:11434/v1"),
    Service(title="vLLM, on this machine", base_url="http://localhost:8000/v1"),
    Service(title="another server"),
)
"""In the order in which they are offered. Source of URLs and variables: the services' documentation."""


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
    """Return a configuration file with one model, and in comments everything else that may stand in one."""
    if model.api_key == NO_KEY:
        about_key = "This server asks for no key."
    elif model.api_key.startswith("${"):
        about_key = "The key: ${NAME} stands for the environment variable NAME, so that this file holds none."
    else:
        about_key = "The key. Only you can read this file; ${NAME} would take it from an environment variable."
    values = {
        "id": double_quoted(literal(model.name)),
        "provider": model.provider,
        "base_url": double_quoted(literal(model.base_url)),
        "about_key": about_key,
        "api_key": NO_KEY if model.api_key == NO_KEY else double_quoted(model.api_key),
    }
    return re.sub("<([a-z_]+)>", lambda found: values[found[1]], _TEXT)


def literal_key(key: str) -> str:
    """Return a key as it stands in the file, where "${" would be read as a variable's."""
    return literal(key)


_TEXT = """\
# The configuration of flexllm. 'man flexllm-config' explains it; 'flexllm test' tries it out.
# A line that begins with '#' and no blank is a setting that is off: take the '#' away, and it is on.

# Which model is asked where -m names none: the id of one of those below. 'flexllm set-model' changes it.
default: <id>

models:
  # id is what you call the model, name what the server calls it.
  - id: <id>
    name: <id>
    # The wire format: openai (which most servers speak), gemini or claude; auto goes by base_url.
    provider: <provider>
    # The server, with its version path.
    base_url: <base_url>
    # <about_key>
    api_key: <api_key>
    # What holds for each request that says nothing else: a system message, a text around each question ({content} is
    # where the question goes), and request parameters.
    #system: "You answer briefly."
    #user_template: "{content}"
    #params: {temperature: 0.2, max_tokens: 1000}
    # What it costs in US dollars per million tokens: of the prompt, of the answer, of what is cached of the prompt. Known
    # models need none: see 'flexllm pricing'.
    #price: "0.5,1.5,0.05"

  # A server of your own.
  #- id: "local-ollama"
    #name: "qwen3:4b"
    #provider: openai
    #base_url: "http://localhost:11434/v1"
    #api_key: EMPTY

  # A key that a command prints, such as a password store's. It is run when the model is asked.
  #- id: "deepseek"
    #name: "deepseek-v4-flash"
    #provider: openai
    #base_url: "https://api.deepseek.com"
    #api_key_cmd: "pass show deepseek"

# What 'flexllm batch' does where its options say nothing else.
batch:
  # Requests under way at the same time, at each endpoint.
  concurrency: 10
  # Requests a second and a minute, and tokens a minute: in all, of the requests, of the answers.
  #max_qps: 100
  #max_rpm: 3000
  #max_tpm: 1000000
  #max_input_tpm: 800000
  #max_output_tpm: 200000
  # Find the rate that the server accepts, and how far down that may go.
  #adaptive: true
  #min_qps: 1
  # Seconds for one attempt, and for all attempts of a request together.
  #timeout: 120
  #total_timeout: 600
  # Seconds after which nothing new is asked.
  #max_time: 3600
  # Stop when more than this share of the rows has failed.
  #fail_over: 0.5
  # Stop before more than this is spent, in US dollars.
  #max_cost: 5
  # Keep answers, and give equal requests the same one.
  #cache: false
  # Show tokens, and what they cost.
  #return_usage: true
  #track_cost: true

  # Several servers that are asked together, where no -m names a model. What an endpoint does not say, stands above.
  #endpoints:
    #- base_url: "http://fast-server:8000/v1"
      #api_key: EMPTY
      #model: "qwen"
      #provider: auto
      #weight: 2
      #concurrency_limit: 50
      #max_qps: 500
      #min_qps: 1
      #max_rpm: 30000
      #max_tpm: 1000000
      #max_input_tpm: 800000
      #max_output_tpm: 200000
      #adaptive: true
      #timeout: 60
      #price: "0.1,0.1"
    #- base_url: "http://slow-server:8000/v1"
      #api_key_cmd: ["pass", "show", "slow-server"]
      #model: "qwen"
      #concurrency_limit: 5
  # Ask another of them when one fails, and how they are chosen: round_robin, weighted, random or fallback.
  #fallback: true
  #load_balance: round_robin

# Prices of models by their names, where 'flexllm pricing' knows none or others: as price above.
#prices:
  #"my-own-model": "0.5,1.5"
"""


# --- writing ----------------------------------------------------------------------------------------------------------

_PRIVATE = 0o600
"""The mode of a file that may hold a key; a backup may too."""


def check_place(path: Path, *, force: bool) -> None:
    """Refuse a place where no file can be written, before anybody is asked anything.

    Raises:
        ConfigError: A file is there, and it is not to be replaced; or what is there is no file.
        OSError: The folder cannot be written, or does not exist and cannot be made.
    """
    if path.exists() and not path.is_file():
        raise ConfigError(f"{shown_path(path)} is no file; name another one with --config")
    if path.exists() and not force:
        raise _taken(path)
    folder = Path(os.path.realpath(path)).parent
    folder = folder if folder.exists() else folder.parent
    if not folder.is_dir():
        raise FileNotFoundError(2, f"{shown_path(path)} cannot be written: its folder does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(13, f"{shown_path(path)} cannot be written: Permission denied")


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
        raise OSError(error.errno, f"{shown_path(path)} cannot be written: {error.strerror}") from error
    return kept


def _taken(path: Path) -> ConfigError:
    return ConfigError(
        f"{shown_path(path)} is there already: edit it, or give --force to write a new one and keep it as "
        f"{path.name}.bak"
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
