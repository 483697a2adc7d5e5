"""Keys that need not be in the file: `${VARIABLE}` and `api_key_cmd`; and a file that too many people can read."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm import LLMClient
from flexllm.config import Config, commands, load_config, resolve_endpoint, resolve_pool
from flexllm.configfile.places import expand, literal
from flexllm.errors import ConfigError

SECRET = "sk-0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command has run yet."""
    monkeypatch.setattr(commands, "_known", {})


def load(tmp_path: Path, text: str, mode: int = 0o600) -> Config:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    file.chmod(mode)
    return load_config(file, {})


def complaint(config: Config, environ: dict[str, str], model: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve_endpoint(config, model=model, environ=environ)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ ${VARIABLE}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("${A}", "one"),
        ("x-${A}-${B_2}", "x-one-two"),
        ("${A:-other}", "one"),
        ("${NONE:-other}", "other"),
        ("${NONE:-}", ""),
        ("${BLANK:-other}", "other"),
        ("${NONE:-http://h:80/v1}", "http://h:80/v1"),
        ("${SPACED}", "three"),
        ("$A $$ $(A) {A}", "$A $$ $(A) {A}"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$${A}${A}", "${A}one"),
        ("${DOLLAR}", "${A}"),
    ],
)
def test_variables_are_replaced(text: str, expected: str) -> None:
    environ = {"A": "one", "B_2": "two", "BLANK": " ", "SPACED": " three\n", "DOLLAR": "${A}"}
    assert expand(text, environ, "here") == expected


@pytest.mark.parametrize(
    "text", ["${", "a${", "${}", "${A", "${A B}", "${1}", "${A:-${B}}", "${A-b}", "${A:?b}", "${é}"]
)
def test_a_place_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"here has a \$\{ that begins no variable: write \$\{NAME\}"):
        expand(text, {"A": SECRET, "B": SECRET}, "here")


@given(st.text(alphabet="${}A:- b", max_size=12))
def test_what_is_written_literally_is_what_it_was(text: str) -> None:
    assert expand(literal(text), {}, "here") == text


def test_variables_count_in_key_url_name_and_default(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "default: ${D:-a}\nmodels:\n- id: a\n  name: ${N}\n  base_url: http://${HOST}/v1\n  api_key: k-${K}\n"
        "  system: ${K}\n  user_template: '{content} ${K}'\n  params: {x: '${K}'}\n- id: b\n",
    )
    found = resolve_endpoint(config, environ={"N": "m", "HOST": "h:1", "K": "1"})
    assert (found.model, found.base_url, found.api_key) == ("m", "http://h:1/v1", "k-1")
    assert (found.system, found.user_template, found.params) == ("${K}", "{content} ${K}", {"x": "${K}"})
    assert resolve_endpoint(config, environ={"D": "b"}).model == "b"
    assert config.warnings == ()


def test_an_entry_is_found_by_the_name_that_a_variable_gives_it(tmp_path: Path) -> None:
    config = load(tmp_path, "models:\n- {id: a, name: '${N}'}\n- {id: b, name: '${NOT_SET}'}\n")
    assert resolve_endpoint(config, model="m", environ={"N": "m"}).entry_id == "a"
    assert complaint(config, {}, "b") == (
        f"{tmp_path}/config.yaml, line 3: name asks for the environment variable NOT_SET, which is not set; set it, or "
        "write ${NOT_SET:-default}"
    )


@pytest.mark.parametrize("key", ["api_key", "base_url", "name"])
def test_a_variable_that_is_not_set_is_an_error_when_its_entry_is_asked(tmp_path: Path, key: str) -> None:
    config = load(tmp_path, f"models:\n- id: a\n- id: b\n  {key}: ${{LOST}}\n")
    assert resolve_endpoint(config, model="a", environ={}).model == "a"
    said = complaint(config, {"OTHER": SECRET}, "b")
    assert said.startswith(
        f"{tmp_path}/config.yaml, line 4: {key} asks for the environment variable LOST, which is not"
    )
    assert complaint(config, {"LOST": "  "}, "b") == said


def test_the_default_asks_for_its_variable_when_it_is_needed(tmp_path: Path) -> None:
    config = load(tmp_path, "default: ${LOST}\nmodels: [{id: a}, {id: b}]\n")
    assert resolve_endpoint(config, model="b", environ={}).model == "b"
    assert "config.yaml, line 1: default asks for the environment variable LOST" in complaint(config, {})
    assert "no model 'c', its own default; it has" in complaint(config, {"LOST": "c"})


@pytest.mark.parametrize(
    ("key", "said"),
    [("api_key", "api_key holds a character"), ("base_url", "base_url, its variables replaced, is not a URL")],
)
def test_what_a_variable_holds_is_checked_and_not_shown(tmp_path: Path, key: str, said: str) -> None:
    config = load(tmp_path, f"models:\n- id: a\n  {key}: ${{X}}\n")
    message = complaint(config, {"X": f"{SECRET} é"})
    assert f"config.yaml, line 3: {said}" in message
    assert "0123" not in message


def test_a_key_on_the_command_line_needs_no_variable(tmp_path: Path) -> None:
    config = load(tmp_path, "models:\n- id: a\n  api_key: ${LOST}\n- id: b\n  api_key_cmd: exit 1\n")
    for model in ("a", "b"):
        assert resolve_endpoint(config, model=model, api_key="flag", environ={}).api_key == "flag"


def test_an_empty_default_is_no_key(tmp_path: Path) -> None:
    config = load(tmp_path, "models: [{id: a, api_key: '${LOST:-}', base_url: 'https://api.openai.com/v1'}]")
    assert resolve_endpoint(config, environ={}).api_key == "EMPTY"
    assert resolve_endpoint(config, environ={"OPENAI_API_KEY": "k"}).api_key == "EMPTY"  # the file has said "none"


def test_the_endpoints_of_a_batch_have_variables_too(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "batch:\n  endpoints:\n  - {base_url: 'http://${H}/v1', api_key: '${K}', model: '${M:-m}'}\n"
        "  - base_url: http://b/v1\n    api_key: ${L}\n",
    )
    first, second = resolve_pool(config, environ={"H": "h", "K": "k", "L": "l"})
    assert (first.base_url, first.api_key, first.model) == ("http://h/v1", "k", "m")
    assert (second.base_url, second.api_key, second.model) == ("http://b/v1", "l", None)
    with pytest.raises(ConfigError, match=r"config\.yaml, line 5: api_key asks for the environment variable L, which"):
        resolve_pool(config, config.batch.endpoints[1:], environ={})


# ------------------------------------------------------------------------------------------------ api_key_cmd


def of_command(tmp_path: Path, command: str) -> Config:
    return load(tmp_path, f"models:\n- id: a\n  api_key_cmd: {command}\n")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("echo key", "key"),
        ("printf 'key'", "key"),
        ("printf '  key \\r\\nsecond\\n'", "key"),
        ("printf '\\n\\nkey\\n'", "key"),
        ("'echo talk >&2; echo $KEY_PART'", "part"),
        ("[echo, $KEY_PART]", "$KEY_PART"),
        (f'[{sys.executable}, -c, "import sys; print(len(sys.stdin.read()), sys.argv[1])", x]', None),
    ],
)
def test_a_key_is_the_first_line_that_its_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, expected: str | None
) -> None:
    monkeypatch.setenv("KEY_PART", "part")
    config = of_command(tmp_path, command)
    if expected is None:  # standard input is empty, and a blank in a key is refused
        assert f"{tmp_path}/config.yaml, line 3: api_key_cmd: api_key holds a character" in complaint(config, {})
        return
    found = resolve_endpoint(config, environ={})
    assert found.api_key == expected
    assert found.sources["api_key"] == f"{tmp_path}/config.yaml, line 3, printed by api_key_cmd"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("exit 3", "ended with exit code 3"),
        ("echo sk-secret; echo one >&2; printf 'the store\\033 is locked\\n\\n' >&2; exit 1",
         "ended with exit code 1: the store is locked"),
        ("'true'", "printed no key"),
        ("echo", "printed no key"),
        ("echo no such entry >&2", "printed no key: no such entry"),
        ("kill -9 $$", "was ended by signal 9"),
        ("no-such-command-of-ours", "ended with exit code 127: "),
        ("[no-such-command-of-ours]", "cannot be run: 'no-such-command-of-ours': No such file or directory"),
        ("[/]", "cannot be run: '/': Permission denied"),
    ],
)  # fmt: skip
def test_a_command_that_fails_is_named_with_its_line_and_last_words(tmp_path: Path, command: str, said: str) -> None:
    message = complaint(of_command(tmp_path, command), {})
    assert message.startswith(f"{tmp_path}/config.yaml, line 3: api_key_cmd {said}")
    assert "sk-secret" not in message
    assert "\n" not in message


def test_last_words_are_cut(tmp_path: Path) -> None:
    message = complaint(of_command(tmp_path, "head -c 5000 /dev/zero | tr '\\0' x >&2; exit 1"), {})
    assert message.endswith(": " + "x" * 200)


def test_a_command_that_hangs_is_ended() -> None:
    with pytest.raises(ConfigError, match=r"^here: api_key_cmd did not end within 0.05 seconds; try it in a shell$"):
        commands.key_of_command("sleep 1 & wait", "here", patience=0.05)


def test_a_command_runs_once_in_the_life_of_a_process(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        f"models:\n- &a\n  id: a\n  api_key_cmd: echo run >> {tmp_path}/runs; echo key\n- {{<<: *a, id: b}}\n",
    )
    threads = [threading.Thread(target=resolve_endpoint, args=(config,), kwargs={"model": name}) for name in "abab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert resolve_endpoint(config, model="b", environ={}).api_key == "key"
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_command_that_failed_is_tried_again(tmp_path: Path) -> None:
    config = of_command(tmp_path, f"cat {tmp_path}/key")
    assert "No such file" in complaint(config, {})
    (tmp_path / "key").write_text("key\n")
    assert resolve_endpoint(config, environ={}).api_key == "key"


def test_only_the_command_of_the_entry_that_is_asked_runs(tmp_path: Path) -> None:
    run = f"touch {tmp_path}/ran; echo key"
    config = load(
        tmp_path,
        f"models:\n- id: a\n- id: b\n  api_key_cmd: {run}\nbatch:\n  endpoints:\n  - base_url: http://a\n"
        f"    api_key_cmd: {run}\n",
    )
    resolve_endpoint(config, model="a", environ={})
    found = resolve_endpoint(config, model="b", environ={}, run_commands=False)
    (entry,) = resolve_pool(config, environ={}, run_commands=False)
    assert (found.api_key, entry.api_key) == ("EMPTY", "EMPTY")
    assert found.sources["api_key"].endswith("line 4, printed by api_key_cmd, which is run when it is needed")
    assert not (tmp_path / "ran").exists()
    assert resolve_pool(config, environ={})[0].api_key == "key"
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "text",
    [
        "models:\n- id: a\n  api_key: k\n  api_key_cmd: echo k",
        "models:\n- &a {id: a, api_key: k}\n- {<<: *a, id: b, api_key_cmd: c}",
    ],
)  # fmt: skip
def test_a_key_and_a_command_for_it_do_not_go_together(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml, line \d, models\[\d\] has both api_key and api_key_cmd"):
        load(tmp_path, text)


@pytest.mark.parametrize("command", ["3", "''", "' '", "[]", "[1]", "['', a]", "{a: b}", "true", '"a\\0b"'])
def test_a_command_of_the_wrong_type_is_refused_with_its_line(tmp_path: Path, command: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml, line 3, models\[0\]: api_key_cmd must be a command that pr"):
        of_command(tmp_path, command)


def test_keys_from_variables_and_commands_reach_a_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.yaml"
    load(
        tmp_path,
        "models:\n- {id: a, api_key: '${K}'}\n- {id: b, api_key_cmd: echo 0123456789abcdef-of-b}\n",
    )
    monkeypatch.setenv("K", "0123456789abcdef-of-a")
    with LLMClient.from_config("a", str(file)) as a, LLMClient.from_config("b", str(file)) as b:
        assert "0123...of-a" in repr(a)
        assert "0123...of-b" in repr(b)


# ------------------------------------------------------------------------------------------------ who may read it


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
@pytest.mark.parametrize(
    "text",
    [f"models: [{{id: a, api_key: {SECRET}}}]", f"batch: {{endpoints: [{{base_url: 'http://a', api_key: {SECRET}}}]}}"],
)  # fmt: skip
def test_a_key_in_a_file_that_others_can_read_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, mode: int
) -> None:
    file = f"{tmp_path}/config.yaml"
    config = load(tmp_path, text, mode)
    assert caplog.messages == list(config.warnings)
    assert config.warnings == (f"{file} holds a key and is open to other users of this machine; run: chmod 600 {file}",)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (f"models: [{{id: a, api_key: {SECRET}}}]", 0o600),
        (f"models: [{{id: a, api_key: {SECRET}}}]", 0o400),
        ("models: [{id: a, api_key: EMPTY}, {id: b, api_key: ''}, {id: c}]", 0o644),
        ("models: [{id: a, api_key: '${KEY}'}, {id: b, api_key_cmd: echo key}]", 0o644),
    ],
)
def test_there_is_no_warning_where_no_key_can_be_read(tmp_path: Path, text: str, mode: int) -> None:
    assert load(tmp_path, text, mode).warnings == ()


def test_it_is_the_file_that_counts_and_not_the_link_to_it(tmp_path: Path) -> None:
    load(tmp_path, f"models: [{{id: a, api_key: {SECRET}}}]", 0o600)
    (tmp_path / "link.yaml").symlink_to("config.yaml")
    assert load_config(tmp_path / "link.yaml", {}).warnings == ()
    (tmp_path / "config.yaml").chmod(0o644)
    assert len(load_config(tmp_path / "link.yaml", {}).warnings) == 1


# ------------------------------------------------------------------------------------------------ templates


@pytest.mark.parametrize("template", ["Translate", "'{}'", "'{{content}}'", "3", "[a]", "' '"])
def test_a_template_without_a_place_is_refused_with_its_line(tmp_path: Path, template: str) -> None:
    with pytest.raises(
        ConfigError, match=r"config\.yaml, line 3, models\[0\]: user_template.* must be a text with {conte"
    ):
        load(tmp_path, f"models:\n- id: a\n  user_template: {template}")


def test_a_template_for_rows_is_refused_where_one_question_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    config = load(tmp_path, "models:\n- id: a\n  user_template: '{question} in {lang}: {content}'\n")
    with pytest.raises(
        ConfigError, match=r"config\.yaml, line 3: user_template has {question}, {lang}, which only the"
    ):
        LLMClient.from_config("a", str(file))
    LLMClient.from_config("a", str(file), user_template="{content}").close()
    endpoint = resolve_endpoint(config, environ={})  # a batch takes it
    assert endpoint.client_options({"user_template": None})["user_template"] is None


def test_the_list_of_ids_needs_neither_checks_nor_prices() -> None:
    code = (
        "import sys, flexllm.configfile.ids\n"
        "print([name for name in ('flexllm.prices', 'flexllm.configfile.reader', 'logging') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
