"""Tokens counted where tiktoken and its vocabulary are at hand, and estimated where they are not."""

from __future__ import annotations

import base64
import builtins
import copy
import hashlib
import json
import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from generated import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.chat import ChatRequest
from flexllm.errors import ConfigError, InputError
from flexllm.tokens import Corrections, TokenCount, count, count_messages_tokens, count_tokens, estimate_prompt_tokens
from flexllm.tokens import learned as learned_module
from flexllm.tokens.count import STRETCH, VOCABULARIES, Encodings

WORDS = ["he", "hel", "lo", "hello", " w", " wo", " world", "us", "er", "user", "ld", "or"]
"""What the made-up vocabulary holds besides single bytes."""

QUESTION = {"role": "user", "content": "hello world"}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing is known of servers, no vocabulary has been looked for, and tiktoken's folder is this test's own."""
    monkeypatch.setattr(count, "_encodings", Encodings())
    monkeypatch.setattr(count, "corrections", Corrections())
    folder = tmp_path / "vocabularies"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let whatever would download a vocabulary be seen. Returns the URLs that were asked for."""
    asked: list[str] = []
    load = pytest.importorskip("tiktoken.load")

    def read_file(url: str) -> bytes:
        asked.append(url)
        raise OSError("no network in a test")

    monkeypatch.setattr(load, "read_file", read_file)
    return asked


def vocabulary() -> bytes:
    return written([bytes([byte]) for byte in range(256)] + [word.encode() for word in WORDS])


def written(words: list[bytes]) -> bytes:
    """A vocabulary as its file holds it."""
    return b"".join(base64.b64encode(word) + b" " + str(rank).encode() + b"\n" for rank, word in enumerate(words))


def put_vocabulary(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "o200k_base") -> Path:
    """Write a made-up vocabulary under the name of a real one, and have it taken for that."""
    known = VOCABULARIES[name]
    folder.mkdir(exist_ok=True)
    data = vocabulary()
    (folder / known.file).write_bytes(data)
    monkeypatch.setitem(VOCABULARIES, name, known._replace(sha256=hashlib.sha256(data).hexdigest()))
    return folder / known.file


@pytest.fixture
def counted(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The made-up vocabulary is at hand."""
    pytest.importorskip("tiktoken")
    put_vocabulary(fresh, monkeypatch)


# --- the number -------------------------------------------------------------------------------------------------------


def test_a_count_is_an_int_that_says_whether_it_is_an_estimate() -> None:
    tokens = TokenCount(12, True)
    assert (tokens, tokens.is_estimate, repr(tokens), f"{tokens:,}") == (12, True, "12", "12")
    assert json.dumps({"tokens": tokens}) == '{"tokens": 12}'
    assert type(tokens + 1) is int


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("is_estimate", [True, False])
def test_a_count_pickles(protocol: int, is_estimate: bool) -> None:
    tokens = pickle.loads(pickle.dumps(TokenCount(12, is_estimate), protocol))
    assert (type(tokens), tokens, tokens.is_estimate) == (TokenCount, 12, is_estimate)
    assert copy.deepcopy(tokens).is_estimate is is_estimate


# --- without a tokenizer ----------------------------------------------------------------------------------------------


def test_a_text_is_estimated_by_its_length_where_no_vocabulary_is_at_hand() -> None:
    tokens = count_tokens("x" * 400)
    assert (tokens, tokens.is_estimate) == (100, True)
    assert (count_tokens(""), count_tokens("a"), count_tokens("你好吗")) == (0, 1, 3)
    assert count_tokens("half a character \ud800") == 5


@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-4-5", "gpt-6-luna", "no-such-model"])
def test_a_conversation_is_estimated_as_a_request_is(model: str) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a token bucket?"}]
    tokens = count_messages_tokens([messages], model)
    assert (tokens, tokens.is_estimate) == (estimate_prompt_tokens(ChatRequest(messages, model)), True)


def test_conversations_come_as_a_list_or_as_a_single_one() -> None:
    one = count_messages_tokens([QUESTION])
    assert one == count_messages_tokens([[QUESTION]]) == count_messages_tokens(QUESTION)
    assert one == count_messages_tokens("hello world") == count_messages_tokens(["hello world"])
    assert count_messages_tokens([[QUESTION], [QUESTION]]) == 2 * one
    assert count_messages_tokens(iter([[QUESTION], "hello world", QUESTION])) == 3 * one
    assert count_messages_tokens([QUESTION, QUESTION]) < 2 * one, "messages in a list are one conversation"


def test_no_conversation_has_no_tokens_and_nothing_in_it_is_estimated() -> None:
    assert (count_messages_tokens([]), count_messages_tokens([]).is_estimate) == (0, False)


def test_pictures_count_as_pictures_however_they_are_written(tmp_path: Path) -> None:
    named = [{"role": "user", "content": [tmp_path / "not-there.png"]}]
    assert count_messages_tokens(named) > 700


@pytest.mark.parametrize("wrong", [None, 5, b"hello", ["hello"], QUESTION])
def test_what_is_no_text_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match=f"counts a text, not {type(wrong).__name__}; count_messages_tokens counts"):
        count_tokens(wrong)


@pytest.mark.parametrize("wrong", [None, 5, b"hello", 1.5])
def test_what_is_no_list_of_conversations_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match=f"conversations must be a list of them, or one, not {type(wrong).__name__}"):
        count_messages_tokens(wrong)


def test_a_conversation_that_cannot_be_used_is_named() -> None:
    with pytest.raises(InputError, match=r"^conversation 1: message 0 has the role 'wizard'"):
        count_messages_tokens([[QUESTION], [{"role": "wizard", "content": "hi"}]])
    with pytest.raises(InputError, match=r"^message 0 \(role 'user'\) has no content"):
        count_messages_tokens([{"role": "user"}])
    with pytest.raises(InputError, match=r"^conversation 2: messages must be a text"):
        count_messages_tokens(["a", "b", None])  # type: ignore[list-item]


@pytest.mark.parametrize("wrong", [None, "", 4, ["gpt-4o"]])
def test_a_model_must_have_a_name(wrong: Any) -> None:
    for ask in (count_tokens, count_messages_tokens):
        with pytest.raises(ConfigError, match="is no name of a model"):
            ask("hello", wrong)  # type: ignore[operator]


# --- what servers teach -----------------------------------------------------------------------------------------------


def test_an_estimate_is_corrected_by_what_servers_counted_for_that_model() -> None:
    count.corrections.seen("qwen-max", 1000, 1500)
    assert count_tokens("x" * 400, "qwen-max") == 150
    assert count_tokens("", "qwen-max") == 0
    assert count_tokens("x" * 400, "qwen-plus") == 100
    before = estimate_prompt_tokens(ChatRequest([QUESTION], "qwen-max"))
    assert count_messages_tokens([QUESTION], "qwen-max") == int(before * 1.5 + 0.5)
    assert count_tokens("x" * 400, "qwen-max").is_estimate


def test_replies_teach_what_their_requests_should_have_been_estimated_at() -> None:
    request = ChatRequest([{"role": "user", "content": "x" * 4000}], "m")
    estimated = estimate_prompt_tokens(request)
    known = Corrections()
    for usage in (None, {}, {"prompt_tokens": None}, {"prompt_tokens": 0}, {"prompt_tokens": "12"}):
        known.learn(request, usage)
    assert known.expect("m", 1000) == 1000
    known.learn(request, {"prompt_tokens": 2 * estimated})
    assert known.expect("m", 1000) == 2000


def test_after_many_replies_one_in_sixteen_teaches(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    def look(request: ChatRequest) -> int:
        looks.append(request.model)
        return 10

    monkeypatch.setattr(learned_module, "estimate_prompt_tokens", look)
    known = Corrections()
    for _ in range(Corrections.ENOUGH + 160):
        known.learn(ChatRequest([QUESTION], "a"), {"prompt_tokens": 20})
    assert len(looks) == Corrections.ENOUGH + 10
    known.learn(ChatRequest([QUESTION], "b"), {"prompt_tokens": 20})
    assert looks[-1] == "b", "each model has its own beginning"


def test_models_beyond_a_bound_are_forgotten_the_oldest_first() -> None:
    known = Corrections()
    for number in range(Corrections.MOST_MODELS + 1):
        known.learn(ChatRequest([QUESTION], f"m{number}"), {"prompt_tokens": 5000})
    assert known.expect("m0", 100) == 100
    assert known.expect("m1", 100) > 100
    assert known.expect(f"m{Corrections.MOST_MODELS}", 100) > 100
    assert len(known._models) == len(known._replies) == Corrections.MOST_MODELS


def test_threads_may_teach_and_ask_at_once() -> None:
    known = Corrections()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(300):
                known.learn(ChatRequest([QUESTION], f"m{(number * 300 + turn) % 400}"), {"prompt_tokens": 20})
                known.expect(f"m{turn}", 10)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(known._models) == Corrections.MOST_MODELS


# --- with a tokenizer -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("counted")
def test_a_text_is_counted_where_the_vocabulary_is_at_hand(no_network: list[str]) -> None:
    tokens = count_tokens("hello world")
    assert (tokens, tokens.is_estimate) == (2, False)
    assert count_tokens("") == 0
    assert not count_tokens("").is_estimate
    assert no_network == []


@pytest.mark.usefixtures("counted")
def test_servers_do_not_correct_what_was_counted() -> None:
    count.corrections.seen("gpt-4o", 100, 400)
    assert count_tokens("hello world") == 2


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("text", ["<|endoftext|>", "hello<|im_start|>user", "\ud800 half", "\x00", "🙂" * 10])
def test_no_text_makes_counting_fail(text: str) -> None:
    assert count_tokens(text) > 0
    assert not count_tokens(text).is_estimate


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4o-2024-08-06", "gpt-4.1-mini", "gpt-5.6", "o3-mini", "openai/gpt-4o-mini", "gpt-oss-20b"]
)
def test_models_of_one_encoding_share_its_vocabulary(model: str) -> None:
    assert (count_tokens("hello world", model), count_tokens("hello world", model).is_estimate) == (2, False)


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("model", ["gpt-4", "gpt-6-luna", "claude-sonnet-4-5", "my/gpt-4o", "text-davinci-003"])
def test_other_models_are_estimated(model: str) -> None:
    assert count_tokens("hello world!", model).is_estimate


def test_older_models_have_a_vocabulary_of_their_own(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tiktoken")
    put_vocabulary(fresh, monkeypatch, "cl100k_base")
    assert not count_tokens("hello world", "gpt-4").is_estimate
    assert count_tokens("hello world", "gpt-4o").is_estimate


@pytest.mark.usefixtures("counted")
def test_a_conversation_is_counted_with_the_frame_around_its_messages() -> None:
    counted = count_messages_tokens([QUESTION])
    assert (counted, counted.is_estimate) == (3 + 1 + 2 + 3, False)  # frame, "user", the text, the reply's beginning
    assert count_messages_tokens([{**QUESTION, "name": "lo"}]) == 9 + 1 + 1
    assert count_messages_tokens([QUESTION, QUESTION]) == 9 + 6
    assert count_messages_tokens([[QUESTION], [QUESTION]]) == 9 + 9
    parts = [{"type": "text", "text": "hello"}, {"type": "text", "text": " world"}]
    assert count_messages_tokens([{"role": "user", "content": parts}]) == 9
    assert not count_messages_tokens([{"role": "user", "content": parts}]).is_estimate


@pytest.mark.usefixtures("counted")
def test_what_is_no_text_is_estimated_beside_what_is() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    seen = count_messages_tokens([{"role": "user", "content": [{"type": "text", "text": "hello world"}, picture]}])
    assert (seen, seen.is_estimate) == (9 + 765, True)
    call = {"id": "c", "type": "function", "function": {"name": "look_up", "arguments": '{"place": "here"}'}}
    called = count_messages_tokens([{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert called.is_estimate
    assert called > 20


@pytest.mark.usefixtures("counted")
def test_the_frame_of_open_models_is_another_and_so_a_guess() -> None:
    assert count_messages_tokens([QUESTION], "gpt-oss-120b").is_estimate
    assert not count_tokens("hello", "gpt-oss-120b").is_estimate


# --- long texts -------------------------------------------------------------------------------------------------------


LETTERS = "abZ1'., _-/\n\t\r你。，é\u0301"
"""What encodings treat differently: letters, digits, marks, quotes, blanks, line ends."""


@pytest.mark.parametrize("name", sorted(VOCABULARIES))
@settings(max_examples=examples(500))
@given(text=st.text(st.sampled_from(LETTERS), min_size=2, max_size=12))
def test_a_text_that_is_cut_at_a_seam_has_as_many_tokens_as_the_whole(name: str, text: str) -> None:
    pytest.importorskip("tiktoken")
    encode = encoder_of_pairs(name)
    for seam in count._SEAM.finditer(text):
        assert len(encode(text[: seam.end()])) + len(encode(text[seam.end() :])) == len(encode(text))


@cache
def encoder_of_pairs(name: str) -> Callable[[str], list[int]]:
    """An encoding that knows every pair of LETTERS: a cut between two that stand in one piece shows."""
    words = [bytes([byte]) for byte in range(256)] + [letter.encode() for letter in LETTERS if not letter.isascii()]
    words += [(one + other).encode() for one in LETTERS for other in LETTERS]
    return count._encoder("pairs", written(words), VOCABULARIES[name].pattern)


@pytest.mark.usefixtures("counted")
@given(text=st.text(st.sampled_from("a ."), max_size=60))
def test_the_stretches_of_a_text_are_the_text(text: str) -> None:
    with patch.object(count, "STRETCH", 8):
        pieces = list(count._stretches(text))
    assert "".join(piece for piece, _ in pieces) == text
    assert all(len(piece) <= 8 for piece, _ in pieces)


@pytest.mark.usefixtures("counted")
def test_a_long_text_is_counted_in_stretches() -> None:
    text = "hello world" + " world" * (STRETCH // 3)
    assert (count_tokens(text), count_tokens(text).is_estimate) == (2 + STRETCH // 3, False)


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("letter", [" ", "a", "\n", "^", "的"])
def test_a_million_equal_letters_are_counted_all_the_same(letter: str) -> None:
    tokens = count_tokens(letter * 1_000_000)
    assert tokens.is_estimate, "there was no seam to cut at"
    assert tokens == len(letter.encode()) * 1_000_000


def test_where_the_tokenizer_gives_up_a_text_is_estimated() -> None:
    def give_up(text: str) -> list[int]:
        raise ValueError("stack size exceeded")

    tokens = count.Tokenizer(give_up, "gpt-4o").count("x" * 400)
    assert (tokens, tokens.is_estimate) == (100, True)


# --- nothing is downloaded, and nothing tried twice --------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4", "gpt-oss-20b", "text-davinci-003", "gpt2"])
def test_a_vocabulary_that_is_not_there_is_not_downloaded(model: str, no_network: list[str]) -> None:
    assert count_tokens("hello world", model).is_estimate
    assert no_network == []


def test_a_damaged_vocabulary_is_neither_used_nor_removed_nor_downloaded(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = put_vocabulary(fresh, monkeypatch)
    path.write_bytes(vocabulary()[:-40])
    for _ in range(3):
        assert count_tokens("hello world").is_estimate
    assert no_network == []
    assert path.exists()
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


@pytest.mark.parametrize("kind", ["a folder", "nothing in it", "no caching"])
def test_an_unusable_folder_means_an_estimate(
    kind: str, fresh: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[str]
) -> None:
    if kind == "a folder":
        (fresh / VOCABULARIES["o200k_base"].file).mkdir(parents=True)
    elif kind == "nothing in it":
        fresh.mkdir()
    else:
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
        put_vocabulary(fresh, monkeypatch)
        monkeypatch.chdir(fresh)
    assert count_tokens("hello world").is_estimate
    assert no_network == []


def test_the_vocabulary_is_looked_for_where_tiktoken_keeps_it(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tiktoken")
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", str(fresh))
    put_vocabulary(fresh, monkeypatch)
    assert not count_tokens("hello").is_estimate
    monkeypatch.delenv("DATA_GYM_CACHE_DIR")
    monkeypatch.setattr(count, "_encodings", Encodings())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert count_tokens("hello").is_estimate
    (tmp_path / "data-gym-cache").mkdir()
    put_vocabulary(tmp_path / "data-gym-cache", monkeypatch)
    monkeypatch.setattr(count, "_encodings", Encodings())
    assert not count_tokens("hello").is_estimate


def test_a_vocabulary_is_looked_for_once(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tiktoken")
    assert count_tokens("hello world").is_estimate
    put_vocabulary(fresh, monkeypatch)
    assert count_tokens("hello world").is_estimate
    assert count_messages_tokens([QUESTION]).is_estimate


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Make tiktoken absent. Returns its name for each time that it was asked for."""
    asked: list[str] = []
    real = builtins.__import__

    def spying(name: str, *rest: Any, **more: Any) -> Any:
        if name == "tiktoken":
            asked.append(name)
            raise ModuleNotFoundError("No module named 'tiktoken'", name=name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", spying)
    return asked


def test_without_tiktoken_tokens_are_estimated_and_it_is_looked_for_once(imports: list[str]) -> None:
    for _ in range(3):
        assert count_tokens("x" * 400).is_estimate
    assert imports == ["tiktoken"]


def test_a_broken_tiktoken_is_none(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = types.ModuleType("tiktoken")
    broken.encoding_name_for_model = lambda model: "o200k_base"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tiktoken", broken)
    put_vocabulary(fresh, monkeypatch)
    assert count_tokens("x" * 400).is_estimate


def test_counting_starts_without_tiktoken_being_loaded() -> None:
    assert "tiktoken" not in count.__dict__


# --- tiktoken's own word ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(VOCABULARIES))
def test_encodings_are_what_tiktoken_says_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    public = pytest.importorskip("tiktoken_ext.openai_public")
    asked: list[tuple[str, str]] = []

    def load(url: str, expected_hash: str) -> dict[bytes, int]:
        asked.append((url, expected_hash))
        return {}

    monkeypatch.setattr(public, "load_tiktoken_bpe", load)
    ours = VOCABULARIES[name]
    assert public.ENCODING_CONSTRUCTORS[name]()["pat_str"] == ours.pattern
    assert asked == [(asked[0][0], ours.sha256)]
    assert hashlib.sha1(asked[0][0].encode()).hexdigest() == ours.file


def test_gpt_oss_has_the_words_of_o200k(monkeypatch: pytest.MonkeyPatch) -> None:
    public = pytest.importorskip("tiktoken_ext.openai_public")
    monkeypatch.setattr(public, "load_tiktoken_bpe", lambda url, expected_hash: {expected_hash.encode(): 0})
    plain, harmony = (public.ENCODING_CONSTRUCTORS[name]() for name in ("o200k_base", count.HARMONY))
    assert [plain[key] for key in ("pat_str", "mergeable_ranks")] == [
        harmony[key] for key in ("pat_str", "mergeable_ranks")
    ]
