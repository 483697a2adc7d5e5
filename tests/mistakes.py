"""What a user can do wrong, as a table: the command lines, what each must say, and with which code it must end."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from command_line import write_questions

from flexllm.mock import MockServer

FAILED, USAGE, CONFIG, AUTHENTICATION, LOCKED, UNREACHED, FILES = 1, 2, 3, 4, 5, 6, 9
KEY = "sk-a-very-secret-key-of-forty-characters"


@contextmanager
def serving() -> Iterator[dict[str, str]]:
    """Have the servers whose addresses the table names in braces."""
    with (
        MockServer() as good,
        MockServer(api_key=KEY) as strict,
        socket.socket() as silent,
    ):
        silent.bind(("127.0.0.1", 0))  # bound and not listening: nobody else takes it, and nobody answers
        port = silent.getsockname()[1]
        yield {
            "good": good.base_url,
            "strict": strict.base_url,
            "down": f"http://127.0.0.1:{port}/v1",
            "tls": good.base_url.replace("http:", "https:"),
            "port": str(good.port),
        }


def lay_out(folder: Path) -> None:
    """Put into a folder what the command lines name."""
    write_questions(folder / "in.jsonl", 3)
    for name, content in FILES_OF_ALL.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    (folder / "folder").mkdir()


CONFIGURED = b"""\
default: mine
models:
  - {id: mine, base_url: "http://127.0.0.1:9/v1", api_key: sk-in-the-file-of-forty-characters-at-all}
  - {id: other, base_url: "http://127.0.0.1:9/v1", api_key: "${NOBODY_SET_THIS}"}
  - {id: commanded, base_url: "http://127.0.0.1:9/v1", api_key_cmd: "echo locked >&2; exit 7"}
  - {id: claude, provider: claude, base_url: "https://api.anthropic.com", api_key: sk-ant-of-forty-characters-and-some-more}
"""

FILES_OF_ALL = {
    "config.yaml": CONFIGURED,
    "wrong-type.yaml": b"models: []\nbatch:\n  concurrency: many\n",
    "not-yaml.yaml": b"models: [\n",
    "latin.yaml": "default: \u00e4".encode("latin-1"),
    "no-default.yaml": b"models: [{id: a, base_url: http://h/v1}, {id: b, base_url: http://h/v1}]\n",
    "foreign.jsonl": b'{"text": "not an output file"}\n',
    "empty.jsonl": b"",
    "not-json.jsonl": b"what is this\n",
    "no-question.jsonl": b'{"text": "a"}\n{"text": "b"}\n',
    "utf16.jsonl": '{"q": "a"}\n'.encode("utf-16"),
    "damaged.jsonl.gz": gzip.compress(b'{"q": "a"}\n' * 100)[:-20],
    "no-question.csv": b"city,country\nRome,Italy\n",
    "schema.json": b'{"type": ',
    "binary.dat": bytes(range(256)),
}
"""Files that stand in the folder of every test."""


@dataclass(frozen=True)
class Mistake:
    """A command line, what it must say, and with which code it must end.

    Attributes:
        args: `{name}` is the address of a server.
        says: A part of the sentence.
        server: Named in the environment with a model; "" for none.
    """

    args: tuple[str, ...]
    code: int
    says: str
    server: str = ""
    env: dict[str, str] = field(default_factory=dict)
    stdin: str | None = None

    def __str__(self) -> str:
        return " ".join(self.args)[:70]


def mistake(line: str, code: int, says: str, server: str = "", stdin: str | None = None, **env: str) -> Mistake:
    """Make one of a line of shell words without quotes."""
    return Mistake(tuple(line.split()), code, says, server, env, stdin)


MISTAKES = [
    # the command line itself
    mistake("bacth in.jsonl -o out.jsonl", USAGE, "did you mean batch?"),
    mistake("version please", USAGE, "unrecognized arguments: please"),
    mistake("ask hello --temperature hot", USAGE, "argument --temperature: 'hot' is no number of at least 0"),
    mistake("ask hello --timeout -1", USAGE, "argument --timeout: '-1' is no number above 0"),
    mistake("ask hello --param seed", USAGE, "'seed' is not NAME=VALUE"),
    mistake("batch in.jsonl", USAGE, "required: -o/--output"),
    mistake("batch in.jsonl -o out.jsonl -c many", USAGE, "argument -c/--concurrency: "),
    mistake("batch in.jsonl -o out.jsonl -c 0", USAGE, "'0' is no whole number of at least 1"),
    mistake("batch in.jsonl -o out.jsonl --fail-over 2", USAGE, "'2' is no share: give a number above 0 and up to 1"),
    mistake("batch in.jsonl -o out.jsonl --max-qps nan", USAGE, "'nan' is no number above 0"),
    mistake("batch in.jsonl -o out.jsonl -y", USAGE, "-y answers what --sample asks"),
    mistake("batch in.jsonl -o - --on-change keep", USAGE, "--on-change needs an output file"),
    mistake("list --ids -m mine --config config.yaml", CONFIG, "leave one of them out"),
    mistake("batch in.jsonl -o out.jsonl --max-time soon", USAGE, "argument --max-time: 'soon'"),
    mistake("batch in.jsonl -o out.jsonl --format xml", USAGE, "invalid choice: 'xml'"),
    mistake("--show-completion tcsh", USAGE, "tcsh"),
    # whom to ask
    mistake("ask hello", CONFIG, "no server is configured"),
    mistake("ask hello --base-url {good}", CONFIG, "but not for which model; give -m NAME"),
    mistake("ask hello -m m --base-url localhost:8000/v1", CONFIG, "must start with http:// or https://"),
    mistake("ask hello -m m --base-url http://user:secret@localhost/v1", CONFIG, "holds a user name or password"),
    mistake("ask hello -m m --base-url {good} --provider gpt", CONFIG, "'gpt'"),
    mistake("ask hello --api-key k --config config.yaml", CONFIG, "an API key is given without the server"),
    mistake("ask hello -m m --base-url {strict} --api-key wrong", AUTHENTICATION, "HTTP 401"),
    mistake("ask hello -m m --base-url {down} --retry-times 0", UNREACHED, "nothing listens at"),
    mistake("ask hello -m m --base-url http://no-such-host.invalid/v1 --retry-times 0", UNREACHED, "no-such-host.invalid"),
    mistake("ask hello -m m --base-url {tls} --retry-times 0", UNREACHED, ""),
    mistake("ask hello -m m --base-url {good}/chat", FAILED, "HTTP 404"),
    mistake("ask hello -m m --base-url {tls} --ca-bundle none.pem", CONFIG, "--ca-bundle 'none.pem' does not exist"),
    # the configuration file
    mistake("ask hello --config none.yaml", CONFIG, "none.yaml does not exist"),
    mistake("ask hello", CONFIG, "(named by FLEXLLM_CONFIG) does not exist", FLEXLLM_CONFIG="none.yaml"),
    mistake("ask hello --config folder", CONFIG, "folder cannot be read: Is a directory"),
    mistake("ask hello --config not-yaml.yaml", CONFIG, "not-yaml.yaml, line 2 is not YAML"),
    mistake("ask hello --config latin.yaml", CONFIG, "line 1 is not UTF-8 text"),
    mistake("batch in.jsonl -o out.jsonl --config wrong-type.yaml", CONFIG,
            "line 3, batch: concurrency='many' must be a whole number"),
    mistake("ask hello --config no-default.yaml", CONFIG, "has several models and no default"),
    mistake("ask hello --config config.yaml -m mime", CONFIG, "has no model 'mime'; it has 'mine'"),
    mistake("ask hello --config config.yaml -m other", CONFIG, "NOBODY_SET_THIS"),
    mistake("ask hello --config config.yaml -m commanded", CONFIG, "locked"),
    mistake("set-model mime --config config.yaml", CONFIG, "'mine'"),
    mistake("set-model mine --config none.yaml", CONFIG, "none.yaml does not exist"),
    mistake("init --config config.yaml", CONFIG, "--force"),
    mistake("init --config in.jsonl/config.yaml", FILES, "in.jsonl"),
    mistake("list --config none.yaml", CONFIG, "none.yaml does not exist"),
    mistake("credits -m mine --config config.yaml", CONFIG, "nobody knows how to ask 127.0.0.1 for a balance"),
    mistake("credits -m claude --config config.yaml", CONFIG, "Admin API"),
    mistake("models", UNREACHED, "", server="down"),
    # one question
    mistake("ask", FILES, "nothing is asked", server="good"),
    mistake("ask hello -f none.txt", FILES, "none.txt", server="good"),
    mistake("ask hello -f folder", FILES, "folder", server="good"),
    mistake("ask hello -f binary.dat", FILES, "binary.dat", server="good"),
    mistake("ask hello --schema schema.json", CONFIG, "schema.json", server="good"),
    mistake("ask hello --schema none.json", FILES, "none.json", server="good"),
    mistake("ask hello -x", FAILED, "code block", server="good"),
    mistake("chat", FILES, "nothing is asked", server="good"),
    # a file of questions
    mistake("batch none.jsonl -o out.jsonl", FILES, "none.jsonl cannot be read: No such file", server="good"),
    mistake("batch folder -o out.jsonl", FILES, "folder is a folder without pictures", server="good"),
    mistake("batch empty.jsonl -o out.jsonl", FILES, "empty.jsonl holds no rows", server="good"),
    mistake("batch not-json.jsonl -o out.jsonl", FILES, "no row can be understood", server="good"),
    mistake("batch no-question.jsonl -o out.jsonl", FILES, "no row can be understood", server="good"),
    mistake("batch utf16.jsonl -o out.jsonl", FILES, "is UTF-16", server="good"),
    mistake("batch damaged.jsonl.gz -o out.jsonl", FILES, "damaged.jsonl.gz", server="good"),
    mistake("batch no-question.csv -o out.jsonl", FILES, "no-question.csv", server="good"),
    mistake("batch in.jsonl -o out.jsonl --user-field city", FILES, "city", server="good"),
    mistake("batch in.jsonl -o out.jsonl --user-template hello", CONFIG, "has no place", server="good"),
    mistake("batch -o out.jsonl", FILES, "holds no rows", server="good"),
    mistake("batch in.jsonl -o in.jsonl", FILES, "is both input and output", server="good"),
    mistake("batch in.jsonl -o out.txt", CONFIG, "out.txt", server="good"),
    mistake("batch in.jsonl -o none/out.jsonl", FILES, "the folder", server="good"),
    mistake("batch in.jsonl -o folder", CONFIG, "folder", server="good"),
    mistake("batch in.jsonl -o foreign.jsonl", FILES, "is no output file of a batch", server="good"),
    mistake("batch in.jsonl -o - --json", USAGE, "--json", server="good"),
    mistake("batch in.jsonl -o out.jsonl -n 0", USAGE, "0", server="good"),
    mistake("batch in.jsonl -o out.jsonl --errors none/e.jsonl", FILES, "none/e.jsonl", server="good"),
    mistake("batch in.jsonl -o out.jsonl --status-file none/s.json", FILES, "none", server="good"),
    mistake("batch in.jsonl -o out.jsonl --log-file folder", FILES, "folder", server="good"),
    mistake("batch in.jsonl -o out.jsonl --max-cost 1", CONFIG, "no price is known", server="good"),
    mistake("batch in.jsonl -o /dev/full/out.jsonl -q", FILES, "/dev/full", server="good"),
    mistake("status none.jsonl", FILES, "none.jsonl"),
    mistake("status foreign.jsonl", FILES, "foreign.jsonl"),
    mistake("status folder", FILES, "folder"),
    # the rest
    mistake("test -q", UNREACHED, "nothing listens at", server="down"),
    mistake("mock --port {port}", CONFIG, "Address already in use; --port 0 takes a free one"),
    mistake("mock --port 99999", CONFIG, "--port is 99999; allowed: 0 to 65535"),
    mistake("mock --port 80x", USAGE, "argument -p/--port: '80x' is no whole number of at least 0"),
    mistake("mock --error-rate 2", CONFIG, "--error-rate is 2.0; allowed: 0 to 1"),
    mistake("mock --error-status 99", CONFIG, "--error-status is 99; allowed: 400 to 599"),
    mistake("mock --rate-limit 0", USAGE, "argument --rate-limit: '0' is no number above 0"),
    mistake("mock --delay 2-1", USAGE, "'2-1' is neither seconds nor a range such as 0.1-0.5"),
    mistake("mock --token-delay nan", USAGE, "'nan' is no number of at least 0"),
    mistake("mock --require-key=", USAGE, "argument --require-key: '' is empty; give a text, or leave the option out"),
    mistake("mock --model=", USAGE, "argument --model: '' is empty"),
    mistake("mock --host=", USAGE, "argument --host: '' is empty"),
    mistake("pricing gtp-4o", FAILED, "the nearest are"),
    mistake("cache show 0123", FAILED, "0123"),
]  # fmt: skip
