"""`flexllm batch` and its inputs: what is asked, as the server sees it, and what a wrong input costs."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Done, at, in_shell, rows_of, run, write_rows

from flexllm.cli.exits import CONFIG, DONE, FAILED, FILES, USAGE
from flexllm.cli.main import main
from flexllm.mock import MockServer

QUICK = ("-q", "-c", "8", "--flush-interval", "60")


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer() as started:
        yield started


@pytest.fixture(autouse=True)
def place(server: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder, an environment and a server that has heard nothing yet."""
    monkeypatch.chdir(tmp_path)
    for name, value in at(server).items():
        monkeypatch.setenv(name, value)
    server.reset()
    interval = sys.getswitchinterval()  # which the command sets for a process of its own
    yield
    sys.setswitchinterval(interval)


def batch(capsys: pytest.CaptureFixture[str], *arguments: str) -> Done:
    """Run the command in this process."""
    try:
        code = main(["batch", *arguments, "-o", "out.jsonl", *QUICK])
    except SystemExit as error:
        code = int(error.code or 0)
    said = capsys.readouterr()
    return Done(code, said.out, said.err)


def bodies(server: MockServer) -> list[dict[str, Any]]:
    """Return what the server was asked, in the order of the questions."""
    asked = [json.loads(request.body) for request in server.requests if request.path.endswith("/chat/completions")]
    return sorted(asked, key=lambda body: str(body["messages"]))


def questions(server: MockServer) -> list[str]:
    return [body["messages"][-1]["content"] for body in bodies(server)]


def table(name: str, *rows: tuple[str, ...], delimiter: str = ",") -> str:
    with open(name, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return name


# --- kinds of inputs


def test_a_table_is_asked_once_and_gone_on_with(capsys: pytest.CaptureFixture[str], server: MockServer) -> None:
    rows = [("question", "id", "system"), ("a,\n1", "1", ""), ("b", "2", "Be brief."), ("c", "3", "")]
    assert batch(capsys, table("in.csv", *rows), "-n", "2").code == DONE
    assert batch(capsys, table("in.csv", *rows, delimiter=";")).code == DONE
    assert sorted(questions(server)) == ["a,\n1", "b", "c"]
    assert [row["metadata"] for row in rows_of("out.jsonl")] == [{"id": "1"}, {"id": "2"}, {"id": "3"}]
    assert rows_of("out.jsonl")[1]["input"][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("in.jsonl", b'{"q": "a"}\n{"q": "b"}\n'),
        ("in.jsonl.gz", gzip.compress(b'{"q": "a"}\n{"q": "b"}\n', mtime=0)),
        ("in.json", b'[{"q": "a"},\n {"q": "b"}]'),
        ("in.csv.gz", gzip.compress("\ufeffq\r\na\r\nb\r\n".encode(), mtime=0)),
        ("in.TSV", b"q\tid\na\t1\nb\t2\n"),
    ],
)
def test_every_kind_of_file_is_asked(
    capsys: pytest.CaptureFixture[str], server: MockServer, name: str, data: bytes
) -> None:
    Path(name).write_bytes(data)
    assert batch(capsys, name) == Done(DONE, "", "")
    assert questions(server) == ["a", "b"]


def test_pipes_of_every_kind_are_asked(server: MockServer) -> None:
    Path("in.csv").write_text("q,id\na,1\n", encoding="utf-8")
    Path("in.gz").write_bytes(gzip.compress(b'{"q": "b"}\n', mtime=0))
    script = '"$@" --input-type csv <in.csv && cat in.gz | "$@"'
    done = in_shell(script, "batch", "-o", "out.jsonl", "-q", env=at(server))
    assert (done.code, done.err) == (DONE, "")
    assert questions(server) == ["a", "b"]


def test_a_cell_may_hold_a_document(capsys: pytest.CaptureFixture[str], server: MockServer) -> None:
    Path("in.csv").write_text(f"q,id\n{'x' * 300_000},1\n", encoding="utf-8")
    assert batch(capsys, "in.csv").code == DONE
    assert questions(server) == ["x" * 300_000]


@pytest.mark.parametrize(
    ("text", "options", "hint"),
    [
        ("what,id\na,1\n", (), "--user-field names the field of the question, and a table is read by --input-type csv"),
        ("[{}]", (), "--user-field names the field of the question"),
        ("", (), "in.jsonl holds no rows; nothing was sent"),
        ('{"q": "a"}\n', ("--user-field", "t"), "the template say which fields a row must have"),
    ],
)
def test_what_may_help_where_no_row_can_be_read_is_told(
    capsys: pytest.CaptureFixture[str], server: MockServer, text: str, options: tuple[str, ...], hint: str
) -> None:
    Path("in.jsonl").write_text(text, encoding="utf-8")
    done = batch(capsys, "in.jsonl", *options)
    assert done.code == FILES
    assert done.sentence.endswith(hint)


def test_a_bad_row_costs_itself_alone(capsys: pytest.CaptureFixture[str], server: MockServer) -> None:
    Path("in.csv").write_text('q,id\na,1\nragged\n"b"x,2\nc,3\n', encoding="utf-8")
    assert batch(capsys, "in.csv").code == FAILED
    assert questions(server) == ["a", "c"]
    errors = [row.get("error") for row in rows_of("out.jsonl")]
    assert [error and error["class"] for error in errors] == [None, "InputError", "InputError", None]


# --- what is asked


def test_fields_and_a_template_from_the_command_line(capsys: pytest.CaptureFixture[str], server: MockServer) -> None:
    name = table("in.csv", ("title", "lang", "role"), ("Rain", "French", "Be brief."))
    Path("t.txt").write_text('Answer in {lang}:\n{content} {"json": 1}\n', encoding="utf-8")
    arguments = ("--user-field", "title", "--system-field", "role", "--user-template", "@t.txt")
    assert batch(capsys, name, *arguments).code == DONE
    (asked,) = bodies(server)
    assert [message["content"] for message in asked["messages"]] == ["Be brief.", 'Answer in French:\nRain {"json": 1}']


def test_files_of_the_home_folder_are_found_where_no_shell_writes_them_out(
    capsys: pytest.CaptureFixture[str], server: MockServer
) -> None:
    write_rows(Path.home() / "in.jsonl", {"q": "a"})
    (Path.home() / "t.txt").write_text("<{content}>", encoding="utf-8")
    assert batch(capsys, "~/in.jsonl", "--user-template", "@~/t.txt").code == DONE
    assert bodies(server)[0]["messages"][-1]["content"] == "<a>"


def test_an_entrys_system_and_template_hold_for_its_batches(
    capsys: pytest.CaptureFixture[str], server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in at(server):
        monkeypatch.delenv(name)
    Path("c.yaml").write_text(
        f"models:\n- id: m\n  base_url: {server.base_url}\n  system: Theirs.\n"
        "  user_template: '{lang}: {content}'\n  params: {temperature: 0.5}\n",
        encoding="utf-8",
    )
    name = write_rows(Path("in.jsonl"), {"q": "a", "lang": "fr"})
    config = ("--config", "c.yaml")
    assert batch(capsys, name, *config) == Done(DONE, "", "")
    assert batch(capsys, name, *config, "--system", "Mine.", "--user-template", "<{content}>").code == DONE
    asked = [[message["content"] for message in body["messages"]] for body in bodies(server)]
    assert sorted(asked) == [["Mine.", "<a>"], ["Theirs.", "fr: a"]]
    assert {body["temperature"] for body in bodies(server)} == {0.5}


def body_row(number: int, **body: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": f"q{number}"}], **body}
    return {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def test_lines_of_openais_batch_api_keep_their_own_settings(
    capsys: pytest.CaptureFixture[str], server: MockServer
) -> None:
    rows = (body_row(0, model="small", temperature=0.25), body_row(1, seed=7), body_row(2, model="small", max_tokens=9))
    name = write_rows(Path("in.jsonl"), *rows, {**body_row(3), "url": "/v1/embeddings"})
    assert batch(capsys, name, "--max-tokens", "5").code == FAILED
    assert [(body["model"], body.get("temperature"), body.get("seed")) for body in bodies(server)] == [
        ("small", 0.25, None),
        ("mock-model", None, 7),
        ("small", None, None),
    ]
    assert {body.get("max_tokens", body.get("max_completion_tokens")) for body in bodies(server)} == {5}
    assert [row["metadata"] for row in rows_of("out.jsonl")[:3]] == [{"custom_id": f"row-{n}"} for n in range(3)]
    assert batch(capsys, name, "--max-tokens", "5").code == FAILED
    assert len(bodies(server)) == 3, "nothing is asked twice"
    assert batch(capsys, name, "-m", "mine", "-n", "1").code == DONE
    assert bodies(server)[-1]["model"] in ("mine", "small")
    assert sum(body["model"] == "mine" for body in bodies(server)) == 1


NO_MODEL = "says whom to ask, but not for which model; give -m NAME or set FLEXLLM_MODEL"


@pytest.mark.parametrize("by_flag", [False, True])
def test_rows_that_name_their_model_need_no_other(
    capsys: pytest.CaptureFixture[str], server: MockServer, monkeypatch: pytest.MonkeyPatch, by_flag: bool
) -> None:
    monkeypatch.delenv("FLEXLLM_MODEL")
    monkeypatch.setenv("FLEXLLM_API_KEY", "sk-1")
    whom = ()
    if by_flag:
        monkeypatch.delenv("FLEXLLM_BASE_URL")
        whom = ("--base-url", server.base_url, "--api-key", "sk-1")
    name = write_rows(Path("in.jsonl"), body_row(0, model="small"), body_row(1), body_row(2, model="large"))
    assert batch(capsys, name, *whom).code == FAILED
    assert [body["model"] for body in bodies(server)] == ["small", "large"]
    [error] = [row["error"] for row in rows_of("out.jsonl") if row["status"] == "error"]
    assert "no 'model' in the 'body' of this row" in error["message"]
    assert batch(capsys, name, "--dry-run", *whom).code == DONE
    assert batch(capsys, name, *whom, "-n", "1") == Done(DONE, "", "")
    assert len(bodies(server)) == 2


def test_a_price_of_the_rows_own_models_is_no_question_of_another(
    capsys: pytest.CaptureFixture[str], server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLEXLLM_MODEL")
    name = write_rows(Path("in.jsonl"), body_row(0, model="gpt-4o-mini"))
    assert batch(capsys, name, "--max-cost", "1", "--dry-run").code == DONE
    assert batch(capsys, name, "--max-cost", "1").code == DONE
    assert rows_of("out.jsonl")[0]["cost"] > 0


@pytest.mark.parametrize(
    ("row", "arguments", "sentence"),
    [
        (body_row(0), (), "in.jsonl: the first row names no model, and nothing else does; set FLEXLLM_MODEL for such"),
        (body_row(0), ("--dry-run",), "in.jsonl: the first row names no model, and nothing else does"),
        ({"q": "a", "model": "small"}, (), NO_MODEL),
        ({"q": "a"}, ("--format", "simple"), NO_MODEL),
        ({**body_row(0, model="small"), "q": "a"}, ("--user-field", "q"), NO_MODEL),
        ({**body_row(0, model="small"), "q": "a"}, ("--user-template", "About {q}"), NO_MODEL),
    ],
)
def test_where_nothing_names_a_model_nothing_is_sent(
    capsys: pytest.CaptureFixture[str],
    server: MockServer,
    monkeypatch: pytest.MonkeyPatch,
    row: dict[str, Any],
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.delenv("FLEXLLM_MODEL")
    write_rows(Path("in.jsonl"), row, body_row(1, model="small"))
    done = batch(capsys, "in.jsonl", *arguments)
    assert done.code == CONFIG
    assert sentence in done.sentence
    assert not server.requests
    assert sorted(one.name for one in Path().iterdir()) == ["in.jsonl"]


def test_a_key_whose_server_the_model_tells_waits_for_no_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FLEXLLM_BASE_URL", "FLEXLLM_MODEL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("FLEXLLM_API_KEY", "sk-1")
    name = write_rows(Path("in.jsonl"), body_row(0, model="claude-sonnet-5-5"))
    done = batch(capsys, name)
    assert done.code == CONFIG
    assert NO_MODEL in done.sentence


# --- mistakes


@pytest.mark.parametrize(
    ("files", "arguments", "code", "sentence"),
    [
        ({}, ("nowhere.csv",), FILES, "nowhere.csv cannot be read: No such file or directory"),
        ({"folder.csv/x": ""}, ("folder.csv",), FILES, "folder.csv is a folder without pictures"),
        ({"in.csv": ""}, ("in.csv",), FILES, "in.csv holds no rows; nothing was sent"),
        ({"in.csv": "q,id\n"}, ("in.csv",), FILES, "in.csv holds no rows; nothing was sent"),
        ({"in.csv": "q,q\na,b\n"}, ("in.csv",), FILES, "in.csv: two columns are named 'q'"),
        ({"in.csv": "frage\na\n"}, ("in.csv",), FILES, "in.csv: no row can be understood (the first: its fields are"),
        ({"in.csv": "问题\n你\n".encode("gbk")}, ("in.csv",), FILES, "in.csv is not UTF-8"),
        ({"in.csv": b"PK\x03\x04"}, ("in.csv",), FILES, "in.csv is a workbook or a zip archive"),
        ({"in.json": '[{"q": 1}'}, ("in.json",), FILES, "in.json begins like a JSON array, and is none"),
        ({"in.gz": gzip.compress(b"{}\n" * 99, mtime=0)[:-9]}, ("in.gz",), FILES, "in.gz ends too early"),
        ({"in.csv": "q\na\n"}, ("in.csv", "--user-field", "x"), FILES, "in.csv: no row has 'x'"),
        ({"in.csv": "q\na\n"}, ("in.csv", "--user-template", "{x}"), FILES, "in.csv: no row has 'x'"),
        ({"in.csv": "q\na\n"}, ("in.csv", "--user-template", "@x"), FILES, "the template x cannot be read"),
        ({"in.csv": "q\na\n"}, ("in.csv", "--user-template", "x"), CONFIG, "user_template has no place"),
        ({"in.csv": "q\na\n"}, ("in.csv", "--user-field", ""), CONFIG, "--user-field is given but empty"),
        ({"out.jsonl": '{"q": 1}\n'}, ("out.jsonl",), FILES, "out.jsonl is both input and output"),
    ],
)  # fmt: skip
def test_a_wrong_input_is_one_sentence_before_anything_is_sent(
    capsys: pytest.CaptureFixture[str],
    server: MockServer,
    files: dict[str, str | bytes],
    arguments: tuple[str, ...],
    code: int,
    sentence: str,
) -> None:
    for name, data in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(data if isinstance(data, bytes) else data.encode())
    done = batch(capsys, *arguments)
    assert done.code == code
    assert done.sentence.startswith(f"flexllm: {sentence}")
    assert not done.sentence.endswith(".")
    assert server.requests == []
    assert "out.jsonl" in files or not Path("out.jsonl").exists()


@pytest.mark.parametrize("wrong", [("--format", "csv"), ("--input-type", "xlsx"), ("-n", "many")])
def test_an_unknown_word_is_a_mistake_of_the_command_line(
    capsys: pytest.CaptureFixture[str], wrong: tuple[str, str]
) -> None:
    done = batch(capsys, "in.csv", *wrong)
    assert done.code == USAGE
    assert done.sentence.startswith(
        f"flexllm batch: argument {wrong[0]}" if wrong[0] != "-n" else "flexllm batch: argument -n"
    )


def test_a_compressed_pipe_that_breaks_off_keeps_what_was_answered(server: MockServer) -> None:
    """In a pipe the damage shows only when it comes."""
    lines = "".join(json.dumps({"q": f"{number} {'x' * 50}"}) + "\n" for number in range(2_000))
    Path("in.gz").write_bytes(gzip.compress(lines.encode(), 1, mtime=0)[:-4_000])
    done = in_shell('cat in.gz | "$@"', "batch", "-o", "out.jsonl", "-q", "-n", "1999", env=at(server))
    assert done.code == FILES
    assert done.sentence == "flexllm: standard input ends too early: the compressed file is not whole"
    assert len(rows_of("out.jsonl")) == len(bodies(server))


def test_nothing_at_all_is_told() -> None:
    done = run("batch", "-o", "out.jsonl")
    assert (done.code, done.sentence) == (FILES, "flexllm: standard input holds no rows; nothing was sent")
