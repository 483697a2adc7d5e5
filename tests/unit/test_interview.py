"""The questions of `flexllm init`, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from foreign import speak

from flexllm.cli.first_config import FirstModel
from flexllm.cli.interview import interview
from flexllm.errors import AuthenticationFailed, ConnectionFailed, FlexLLMError, MalformedResponse, NotFound

KEY = "sk-a-key-that-nobody-may-see"


class FakePerson:
    """Gives the answers that he was told to, and goes."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.seen: list[str] = []
        self.secrets: list[str] = []

    def tell(self, text: str) -> None:
        self.seen.append(text)

    def ask(self, question: str) -> str:
        self.seen.append(question)
        if not self.answers:
            raise EOFError
        return self.answers.pop(0)

    def ask_secret(self, question: str) -> str:
        self.secrets.append(question)
        return self.ask(question)

    @property
    def text(self) -> str:
        return "\n".join(self.seen)


class FakeServers:
    """Lists models, for one key alone if there is one."""

    def __init__(self, listed: Sequence[str] | FlexLLMError = (), key: str | None = None) -> None:
        self.listed = listed
        self.key = key
        self.asked: list[tuple[str, str, str]] = []

    def __call__(self, base_url: str, api_key: str, provider: str) -> list[str]:
        self.asked.append((base_url, api_key, provider))
        if isinstance(self.listed, FlexLLMError):
            raise self.listed
        if self.key is not None and api_key != self.key:
            raise AuthenticationFailed("HTTP 401: wrong key", status=401)
        return list(self.listed)


def run(
    *answers: str, servers: FakeServers | None = None, environ: Mapping[str, str] | None = None
) -> tuple[FirstModel, FakePerson]:
    person = FakePerson(*answers)
    found = interview(person, servers or FakeServers(), environ or {})
    assert person.answers == [], "he was not asked everything"
    assert KEY not in person.text
    return found, person


def test_enter_everywhere_takes_openai_and_the_key_that_is_in_the_environment() -> None:
    servers = FakeServers(["gpt-6-astra", "gpt-6-luna"])
    found, person = run("", "", "", "", servers=servers, environ={"OPENAI_API_KEY": KEY})
    assert found == FirstModel(
        name="gpt-6-luna", provider="openai", base_url="https://api.openai.com/v1", api_key="${OPENAI_API_KEY}"
    )
    assert servers.asked == [("https://api.openai.com/v1", KEY, "openai")]
    assert person.secrets == []


def test_a_key_that_is_typed_is_asked_for_where_it_is_not_shown() -> None:
    found, person = run("deepseek", "", KEY, "", servers=FakeServers(["deepseek-v4-flash"], KEY))
    assert (found.api_key, found.name) == (KEY, "deepseek-v4-flash")
    assert person.secrets == ["API key: "]


def test_in_a_language_with_wide_letters_services_stand_below_each_other_and_can_be_chosen_by_their_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speak(monkeypatch, {"Ollama, on this machine": "本机的 Ollama", "another server": "其他服务器"})
    found, person = run("其他", "http://h/v1", "", "m")
    assert found.base_url == "http://h/v1"
    shown = [line for line in person.seen if line.startswith("  ")]
    assert shown[0] == "   1  OpenAI                 https://api.openai.com/v1"
    assert shown[7] == "   8  本机的 Ollama          http://localhost:11434/v1"
    assert shown[9] == "  10  其他服务器             any that speaks OpenAI's format"


@pytest.mark.parametrize(("answer", "is_taken"), [("是", True), ("y", True), ("YES", True), ("", False), ("不", False)])
def test_yes_can_be_said_in_either_language(answer: str, is_taken: bool) -> None:
    again = () if is_taken else ("a",)
    found, _ = run("10", "http://h/v1", "", "unlisted", answer, *again, servers=FakeServers(["a", "b"]))
    assert found.name == ("unlisted" if is_taken else "a")


def test_a_key_of_the_environment_need_not_be_taken() -> None:
    found, _ = run("1", "", "n", KEY, "m", environ={"OPENAI_API_KEY": "sk-of-somebody-else"})
    assert found.api_key == KEY


def test_a_variable_is_not_offered_for_another_server_than_its_own() -> None:
    servers = FakeServers(["m"])
    found, person = run(
        "1", "https://proxy.example/v1", KEY, "", servers=servers, environ={"OPENAI_API_KEY": "sk-other"}
    )
    assert "is set here" not in person.text
    assert servers.asked == [("https://proxy.example/v1", KEY, "openai")]
    assert found.api_key == KEY


@pytest.mark.parametrize(
    ("set_here", "taken"),
    [
        (("GEMINI_API_KEY",), "GEMINI_API_KEY"),
        (("GOOGLE_API_KEY",), "GOOGLE_API_KEY"),
        (("GEMINI_API_KEY", "GOOGLE_API_KEY"), "GOOGLE_API_KEY"),  # as Google's own clients choose
    ],
)
def test_of_two_variables_of_a_service_that_one_is_offered_which_its_own_clients_take(
    set_here: Sequence[str], taken: str
) -> None:
    servers = FakeServers(["gemini-3.8-flash"])
    environ = {name: KEY if name == taken else "of-nobody" for name in set_here}
    found, person = run("gemini", "", "", "", servers=servers, environ=environ)
    assert found.api_key == f"${{{taken}}}"
    assert f"{taken} is set here." in person.text
    assert [key for _, key, _ in servers.asked] == [KEY]


@pytest.mark.parametrize("typed", ["$MY_KEY", "${MY_KEY}", "env:MY_KEY", " $MY_KEY "])
def test_a_variable_can_be_named_instead_of_a_key(typed: str) -> None:
    servers = FakeServers(["m"])
    found, _ = run("1", "", typed, "1", servers=servers, environ={"MY_KEY": KEY})
    assert found.api_key == "${MY_KEY}"
    assert servers.asked[0][1] == KEY


def test_with_a_variable_that_is_not_set_yet_no_server_is_asked() -> None:
    servers = FakeServers(["m"])
    found, person = run("claude", "", "", "", servers=servers)
    assert found.api_key == "${ANTHROPIC_API_KEY}"
    assert (found.provider, found.name) == ("claude", "claude-haiku-5-5")
    assert "ANTHROPIC_API_KEY is not set here" in person.text
    assert servers.asked == []


def test_a_server_of_ones_own_needs_no_key() -> None:
    servers = FakeServers(["qwen3:4b"])
    found, _ = run("8", "", "", "", servers=servers)
    assert found == FirstModel(
        name="qwen3:4b", provider="openai", base_url="http://localhost:11434/v1", api_key="EMPTY"
    )  # fmt: skip
    assert servers.asked == [("http://localhost:11434/v1", "EMPTY", "openai")]


def test_another_key_can_be_given_where_one_is_refused() -> None:
    servers = FakeServers(["m"], KEY)
    found, person = run("1", "", "sk-wrong-0000000000", "y", KEY, "m", servers=servers)
    assert found.api_key == KEY
    assert "not to be had: HTTP 401: wrong key." in person.text


def test_a_key_that_is_refused_can_be_kept() -> None:
    found, _ = run("1", "", KEY, "n", "", servers=FakeServers(["m"], "another"))
    assert (found.api_key, found.name) == (KEY, "gpt-6-luna")


def test_where_no_list_is_to_be_had_a_name_is_typed() -> None:
    found, person = run("9", "", "", "", "", "my-model", servers=FakeServers(ConnectionFailed("nothing listens there")))
    assert found.name == "my-model"
    assert "not to be had: nothing listens there." in person.text
    assert "Please type the name of a model." in person.text


def test_a_key_with_a_blank_in_it_is_asked_for_again() -> None:
    found, person = run("1", "", "sk 1", KEY, "m")
    assert found.api_key == KEY
    assert "a character that an HTTP header cannot carry" in person.text


def test_a_key_with_the_sign_of_a_variable_in_it_is_written_as_it_is() -> None:
    found, _ = run("1", "", "sk-${x}", "m")
    assert found.api_key == "sk-$${x}"


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("host.example/v1", "https://host.example/v1"),
        ("localhost:8000/v1", "http://localhost:8000/v1"),
        ("127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
        ("https://host.example/v1", "https://host.example/v1"),
    ],
)
def test_a_url_may_be_typed_without_its_scheme(typed: str, url: str) -> None:
    assert run("another", typed, "", "m")[0].base_url == url


@pytest.mark.parametrize(
    "typed", ["", "ftp://host/v1", "http://", "two words", "http://user:secret@host/v1", "http://h?x"]
)
def test_what_is_no_url_is_asked_for_again(typed: str) -> None:
    found, person = run("10", typed, "http://host/v1", "", "m")
    assert found.base_url == "http://host/v1"
    assert "secret" not in person.text


@pytest.mark.parametrize("typed", ["0", "11", "x", "o", "-1", "²"])
def test_a_number_that_is_not_on_the_menu_is_asked_for_again(typed: str) -> None:
    _, person = run(typed, "1", "", KEY, "m")
    assert "Please type a number from 1 to 10." in person.text


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("localhost:8000", "http://localhost:8000/v1"),
        ("http://host/v1/chat/completions", "http://host/v1"),
        ("https://host", "https://host/api/v1"),
    ],
)
@pytest.mark.parametrize("error", [NotFound("HTTP 404", status=404), MalformedResponse("an HTML page")])
def test_a_version_path_that_was_left_out_is_found(typed: str, url: str, error: FlexLLMError) -> None:
    def models_of(base_url: str, api_key: str, provider: str) -> list[str]:
        if base_url != url:
            raise error
        return ["m"]

    person = FakePerson("another", typed, "", "1")
    assert interview(person, models_of, {}).base_url == url
    assert f"The server lists its models at {url}; that is taken as the base URL." in person.text


def test_where_no_other_path_answers_the_url_stays_as_it_was_typed() -> None:
    servers = FakeServers(NotFound("HTTP 404", status=404))
    found, person = run("another", "http://host", "", "", "m", servers=servers)
    assert found.base_url == "http://host"
    assert "not to be had: HTTP 404." in person.text
    assert [url for url, _, _ in servers.asked] == ["http://host", "http://host/v1", "http://host/api/v1"]


def test_another_url_can_be_given_where_nobody_answers() -> None:
    def models_of(base_url: str, api_key: str, provider: str) -> list[str]:
        if base_url != "http://right/v1":
            raise ConnectionFailed("nothing listens there")
        return ["m"]

    person = FakePerson("another", "http://wrong/v1", "", "y", "http://right/v1", "", "")
    found = interview(person, models_of, {})
    assert (found.base_url, found.name) == ("http://right/v1", "m")


LONG = [f"model-{number}" for number in range(40)]


def test_a_long_list_is_searched_by_a_part_of_the_name() -> None:
    found, person = run("8", "", "", "EL-3", "2", servers=FakeServers(LONG))
    assert found.name == "model-30"
    assert "and 25 more" in person.text


def test_a_name_of_the_list_counts_as_it_is_though_others_begin_like_it() -> None:
    assert run("8", "", "", "model-3", servers=FakeServers(LONG))[0].name == "model-3"


def test_a_name_that_is_not_on_the_list_is_taken_if_that_is_meant() -> None:
    found, person = run("8", "", "", "mine", "", "99", "n", "mine", "y", servers=FakeServers(LONG))
    assert found.name == "mine"
    assert person.text.count("The server does not list it.") == 3


def test_an_arrow_key_is_no_part_of_a_name() -> None:
    found, person = run(
        "9", "", "", "", "abc\x1b[D", "abd", servers=FakeServers(ConnectionFailed("nothing listens there"))
    )
    assert found.name == "abd"
    assert "please type it again" in person.text
    assert "\x1b" not in person.text


def test_what_a_server_calls_its_models_cannot_write_on_the_terminal() -> None:
    _, person = run("8", "", "", "1", servers=FakeServers(["a\x1b[2J\nb", "c"]))
    assert "\x1b" not in person.text
    assert "a\\x1b[2J b" in person.text


@pytest.mark.parametrize("answers", [(), ("1",), ("1", ""), ("1", "", KEY)])
def test_somebody_who_goes_ends_it(answers: Sequence[str]) -> None:
    with pytest.raises(EOFError):
        interview(FakePerson(*answers), FakeServers(), {})
