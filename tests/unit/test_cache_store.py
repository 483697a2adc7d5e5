"""The response cache: what is put in is found, by whoever asks, and nothing that befalls the file reaches a row."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import sqlite3
import stat
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flexllm.cache import ResponseCache, ResponseCacheConfig, connection, disk, file, front, store
from flexllm.cache.connection import Lane
from flexllm.chat import ChatCompletionResult, Usage
from flexllm.errors import CacheError, ConfigError

Open = Callable[..., ResponseCache]


class Clock:
    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / disk.NAME


@pytest.fixture
def cache(folder: Path, clock: Clock) -> Iterator[Open]:
    """Open a store on the folder; all of them are closed in the end."""
    opened = []

    def make(**options: Any) -> ResponseCache:
        made = ResponseCache(ResponseCacheConfig(**{"enabled": True, "cache_dir": folder, **options}), clock=clock)
        opened.append(made)
        return made

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def answer(text: str = "yes", **fields: Any) -> ChatCompletionResult:
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3, prompt_tokens_details={"cached_tokens": 0})
    return ChatCompletionResult(text, usage, finish_reason="stop", **{"model": "m", **fields})


def fill(cache: ResponseCache, *keys: str) -> None:
    for key in keys:
        cache.put(key, answer(f"answer to {key}"))
    cache.close()


def content(cache: ResponseCache, key: str) -> str | None:
    found = cache.get(key)
    return None if found is None else found.content


def change(path: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(statement, values)


def wait_until_written(cache: ResponseCache) -> None:
    """Let the writer's own thread do it."""
    thread = cache._thread
    assert thread is not None
    thread.join(20)
    assert not thread.is_alive()


# What is put in is found


def test_an_answer_is_found_before_it_is_on_disk(cache: Open, path: Path) -> None:
    for memory in (0, 10):
        one = cache(memory=memory)
        one.put("a", answer("first"))
        found = one.get("a")
        assert found is not None
        assert (found.content, found.cached, found.cost, found.attempts) == (
            "first",
            True,
            0.0,
            0,
        )


def test_an_answer_is_found_by_the_next_who_opens_the_folder(cache: Open) -> None:
    fill(cache(), "a", "b")
    one = cache()
    assert content(one, "a") == "answer to a"
    assert content(one, "c") is None
    assert (one.hits, one.misses) == (1, 1)


def test_an_answer_is_found_by_others_that_have_the_folder_open(cache: Open) -> None:
    one, other = cache(), cache()
    assert content(other, "a") is None
    one.put("a", answer("first"))
    one.flush()
    assert content(other, "a") == "first"


def test_the_last_answer_put_in_stands(cache: Open) -> None:
    one = cache()
    for text in ("first", "second"):
        one.put("a", answer(text))
        assert content(one, "a") == text
        one.flush()
    assert content(cache(), "a") == "second"


@pytest.mark.parametrize("memory", [0, 4096])
def test_many_are_looked_up_at_once(cache: Open, memory: int) -> None:
    keys = [f"{number:032x}:{number % 7}" for number in range(1201)]
    fill(cache(), *keys[::2])
    one = cache(memory=memory)
    one.put("new", answer("not on disk"))
    found = one.get_many([*keys, *keys, "new"])
    assert {key: result.content for key, result in found.items()} == {
        "new": "not on disk",
        **{key: f"answer to {key}" for key in keys[::2]},
    }
    assert all(result.cached for result in found.values())
    assert (one.hits, one.misses) == (602, 600)
    assert one.get_many([]) == {}


def test_keys_with_marks_of_json_and_sql_are_plain_keys(cache: Open) -> None:
    keys = ['"', "'", "\\", 'a","b', "%", "_", "\n", "a b", ""]
    fill(cache(), *keys)
    assert {key: result.content for key, result in cache().get_many(keys).items()} == {
        k: f"answer to {k}" for k in keys
    }


def test_what_a_caller_does_to_an_answer_reaches_nobody_else(cache: Open) -> None:
    one, result = cache(), answer()
    one.put("a", result)
    assert result.usage is not None
    result.usage["prompt_tokens"] = 99
    for _ in range(3):
        found = one.get("a")
        assert found is not None
        assert found.usage is not None
        assert (found.usage.prompt_tokens, found.usage["prompt_tokens_details"]) == (1, {"cached_tokens": 0})
        found.usage["prompt_tokens"] = 99
        found.usage["prompt_tokens_details"]["cached_tokens"] = 99
        one.flush()


def test_bodies_are_kept_and_given_on_request(cache: Open) -> None:
    first = cache()
    first.put("with", answer(body=b"{}"), with_body=True)
    first.put("without", answer(body=b"{}"))
    for one in (first, cache()):
        bodies = [
            result and result.body
            for key in ("with", "without")
            for asked in (True, False)
            for result in (one.get(key, with_body=asked), one.get_many([key], with_body=asked)[key])
        ]
        assert bodies == [b"{}", b"{}", None, None, None, None, None, None]
        first.close()


def test_what_cannot_be_kept_is_dropped_without_a_word(cache: Open, warnings: Callable[[], list[str]]) -> None:
    one = cache()
    one.put("a", answer(native={"claude": b"bytes"}))
    one.put("ключ", answer())
    one.put("\ud800", answer())
    one.put("good", answer())
    one.close()
    assert [content(one, key) for key in ("a", "ключ", "\ud800", "good")] == [None, None, None, "yes"]
    assert one.get_many(["ключ", "good"]).keys() == {"good"}
    assert warnings() == []


def test_memory_is_bounded(cache: Open) -> None:
    one = cache(memory=2)
    for key in "abc":
        one.put(key, answer(key))
    one.put("long", answer("x" * 10 * front.UNIT))
    one.flush()
    assert one._front._kept.currsize <= 2
    assert [content(one, key) for key in "abc"] == ["a", "b", "c"]
    assert len(content(one, "long") or "") == 10 * front.UNIT


def test_answers_that_a_slow_disk_keeps_waiting_are_bounded(cache: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MOST_WAITING", 1000)
    one = cache(memory=0)
    with one._writing:
        for number in range(20):
            one.put(str(number), answer("x" * 100))
        assert 0 < one._front.waiting < 10
    one.flush()
    assert one._front._characters == 0
    assert content(one, "0") == "x" * 100


def test_an_answer_that_is_replaced_while_it_is_written_still_waits() -> None:
    waiting = front.Front(10)
    waiting.wait("a", "first")
    waiting.wait("b", "first")
    batch = waiting.batch(9)
    waiting.wait("a", "second")
    waiting.written(batch)
    assert waiting.batch(9) == [("a", "second")]


def test_an_answer_too_long_for_memory_does_not_leave_an_older_one_there() -> None:
    kept = front.Front(2)
    kept.keep("a", "short")
    kept.keep("a", "x" * 3 * front.UNIT)
    assert kept.find("a") is None


def test_sixteen_threads_share_one_store(cache: Open) -> None:
    one = cache(memory=50)
    wrong: list[str] = []
    asked = [0] * 16

    def work(seed: int) -> None:
        for number in range(60):
            key = str((seed * 31 + number * 7) % 97)
            one.put(key, answer(f"answer to {key}"))
            other = str((seed * 17 + number * 3) % 97)
            found = {**one.get_many([other, key]), other: one.get(other)}
            asked[seed] += len({other, key}) + 1
            wrong.extend(k for k, result in found.items() if result and result.content != f"answer to {k}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert one.hits + one.misses == sum(asked)
    one.close()
    assert cache().stats().entries == 97


# Age


def test_an_answer_is_used_until_its_time_is_over(cache: Open, clock: Clock) -> None:
    one = cache(ttl=60, memory=10)
    one.put("a", answer())
    one.flush()
    for other in (one, cache(ttl=60, memory=0)):
        clock.now = 1_795_000_059.9
        assert content(other, "a") == "yes"
        assert other.get_many(["a"]).keys() == {"a"}
        clock.now = 1_795_000_060.0
        assert content(other, "a") is None
        assert other.get_many(["a"]) == {}


def test_without_a_time_to_live_answers_are_used_for_ever(cache: Open, clock: Clock) -> None:
    fill(cache(ttl=60), "a")
    clock.now += 1e9
    assert content(cache(ttl=60), "a") is None
    assert content(cache(ttl=0), "a") == "answer to a"


def test_a_clock_that_went_wrong_does_not_keep_an_answer_for_ever(cache: Open, clock: Clock) -> None:
    fill(cache(ttl=60), "a")
    clock.now -= 59
    assert content(cache(ttl=60), "a") == "answer to a"
    clock.now -= 1
    assert content(cache(ttl=60), "a") is None


def test_an_answer_that_is_too_old_is_overwritten(cache: Open, clock: Clock) -> None:
    one = cache(ttl=60)
    one.put("a", answer("old"))
    clock.now += 60
    assert content(one, "a") is None
    one.put("a", answer("new"))
    one.close()
    assert content(cache(ttl=60), "a") == "new"
    assert cache().stats().entries == 1


def test_a_newer_answer_of_another_process_is_found_behind_an_old_one_in_memory(cache: Open, clock: Clock) -> None:
    one, other = cache(ttl=60), cache(ttl=60)
    one.put("a", answer("old"))
    one.flush()
    clock.now += 60
    other.put("a", answer("new"))
    other.flush()
    assert [result.content for result in one.get_many(["a"]).values()] == ["new"]
    assert content(one, "a") == "new"


# Writing


def test_the_writer_needs_nobody_to_flush_and_ends_when_it_has_nothing_to_do(
    cache: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "DELAY", 0.0)
    monkeypatch.setattr(store, "LINGER", 0.0)
    one = cache()
    for round_ in ("a", "b"):
        one.put(round_, answer())
        wait_until_written(one)
        assert content(cache(), round_) == "yes"


def test_a_full_batch_does_not_wait_for_more(cache: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "DELAY", 1e6)
    monkeypatch.setattr(store, "BATCH", 450)
    monkeypatch.setattr(store, "LINGER", 0.0)
    one = cache()
    for number in range(450):
        one.put(str(number), answer())
    wait_until_written(one)
    assert cache().stats().entries == 450


def test_a_store_that_nobody_closed_is_written_and_let_go(
    cache: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "DELAY", 0.0)
    monkeypatch.setattr(store, "LINGER", 0.0)
    one = ResponseCache(ResponseCacheConfig(cache_dir=folder))
    one.put("a", answer())
    wait_until_written(one)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
    assert cache().stats().entries == 1


def test_a_closed_store_opens_again(cache: Open) -> None:
    one = cache()
    fill(one, "a")
    assert content(one, "a") == "answer to a"
    fill(one, "b")
    one.close()
    one.close()
    with one as same:
        assert same.get_many(["a", "b"]).keys() == {"a", "b"}


def test_closing_leaves_no_thread_and_no_log(cache: Open, folder: Path) -> None:
    before = set(threading.enumerate())
    fill(cache(), "a")
    assert set(threading.enumerate()) <= before
    assert os.listdir(folder) == [disk.NAME]


# The file


def test_folder_and_file_are_the_users_alone(cache: Open, folder: Path, path: Path) -> None:
    one, before = cache(), os.umask(0)
    try:
        one.put("a", answer())
        one.flush()
        modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in os.listdir(folder)}
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes == {disk.NAME: 0o600, f"{disk.NAME}-wal": 0o600, f"{disk.NAME}-shm": 0o600}


def test_a_folder_that_is_there_keeps_its_mode(cache: Open, folder: Path) -> None:
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    fill(cache(), "a")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_making_a_store_makes_no_file(cache: Open, folder: Path) -> None:
    one = cache()
    assert one.stats().entries == 0
    assert one.prune(everything=True) == 0
    assert list(one.entries()) == []
    one.close()
    assert not folder.exists()


def test_what_is_on_disk_is_json_text(cache: Open, path: Path) -> None:
    one = cache()
    one.put("a", answer("世界"))
    one.put("b", answer("\ud800"))
    one.close()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT typeof(value), substr(value, 1, 6) FROM answers").fetchall()
        assert rows == [("text", '{"at":'), ("text", '{"at":')]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_folder_with_marks_in_its_name_is_a_folder(cache: Open, tmp_path: Path) -> None:
    strange = tmp_path / "a?b#c%20d'e ü"
    fill(cache(cache_dir=strange), "a")
    assert content(cache(cache_dir=strange), "a") == "answer to a"
    assert (strange / disk.NAME).exists()


def test_a_home_that_nobody_knows_is_a_matter_of_configuration(cache: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="cache_dir='~nobody-of-this-name/x'"):
        cache(cache_dir="~nobody-of-this-name/x")


# What befalls the file


def damage_the_head(path: Path) -> None:
    path.write_bytes(b"this is no database, " * 500)


def damage_all_but_the_head(path: Path) -> None:
    size = path.stat().st_size
    with open(path, "r+b") as file_:
        file_.seek(100)
        file_.write(b"\xa5" * (size - 100))


def damage_the_schema(path: Path) -> None:
    """SQLite quotes it in its complaint, which then is no text."""
    data = path.read_bytes()
    path.write_bytes(data.replace(b"PRIMARY KEY", b"PRIMARY \xa2\xffX"))
    assert path.read_bytes() != data


def cut_it(path: Path) -> None:
    os.truncate(path, 5000)


def make_it_another_programs(path: Path) -> None:
    path.unlink()
    change(path, "CREATE TABLE answers (id INTEGER, text TEXT, more TEXT)")


@pytest.mark.parametrize(
    "damage", [damage_the_head, damage_all_but_the_head, damage_the_schema, cut_it, make_it_another_programs]
)
def test_a_damaged_file_is_put_aside_with_one_warning(
    cache: Open, folder: Path, path: Path, warnings: Callable[[], list[str]], damage: Callable[[Path], None]
) -> None:
    fill(cache(), *map(str, range(200)))
    damage(path)
    damaged = path.read_bytes()
    one = cache()
    assert content(one, "7") is None
    one.put("a", answer("new"))
    one.close()
    assert one.get_many(["a", "7"]).keys() == {"a"}
    one.close()
    assert [name for name in os.listdir(folder) if "damaged" not in name] == [disk.NAME]
    (aside,) = folder.glob("*.damaged-*")
    assert aside.read_bytes()[:4000] == damaged[:4000]
    assert warnings() == [f"the response cache in {folder} was damaged: it is {aside.name} now, and a new one is begun"]


def damage_the_leaves(path: Path) -> None:
    """Spoil all pages but the first ones, so that the file opens, and fails where it is read."""
    size = path.stat().st_size
    with open(path, "r+b") as file_:
        file_.seek(3 * 4096)
        file_.write(b"\xa5" * (size - 3 * 4096))


@pytest.mark.parametrize("how", ["get", "get_many", "put"])
def test_damage_that_shows_later_is_met_alike(
    cache: Open, folder: Path, path: Path, warnings: Callable[[], list[str]], how: str
) -> None:
    fill(cache(), *map(str, range(2000)))
    damage_the_leaves(path)
    one = cache()
    for number in range(0, 2000, 9):
        if how == "get":
            assert content(one, str(number)) in (None, f"answer to {number}")
        elif how == "put":
            one.put(str(number), answer(f"answer to {number}"))
        else:
            one.get_many([str(other) for other in range(number, number + 9)])
    one.flush()
    assert len(list(folder.glob("*.damaged-*"))) <= 2  # the file, and perhaps its log
    assert len(warnings()) == 1
    assert "was damaged" in warnings()[0]
    one.put("a", answer("new"))
    one.close()
    assert content(cache(), "a") == "new"


def test_two_stores_that_meet_the_same_damage_put_it_aside_once(
    cache: Open, folder: Path, path: Path, warnings: Callable[[], list[str]]
) -> None:
    fill(cache(), *map(str, range(2000)))
    one, other = cache(), cache()
    assert content(one, "no such key") is content(other, "no such key") is None
    damage_the_leaves(path)
    for number in range(0, 2000, 9):
        assert content(one, str(number)) in (None, f"answer to {number}")
        assert content(other, str(number)) in (None, f"answer to {number}")
    one.put("a", answer("new"))
    one.close()
    assert content(other, "a") == "new"
    other.close()
    assert content(one, "a") == "new"
    assert len([name for name in os.listdir(folder) if "damaged" in name and "-wal" not in name]) == 1
    assert len(warnings()) == 1


def test_a_text_that_is_no_utf_8_is_a_miss_and_not_another_text(cache: Open, path: Path) -> None:
    fill(cache(), "a", "b")
    damaged = b'{"at":1795000000.0,"model":"m","content":"answer to \xff"}'
    change(path, "UPDATE answers SET value = CAST(? AS TEXT) WHERE key = 'b'", damaged)
    one = cache()
    assert one.get_many(["a", "b"]).keys() == {"a"}
    assert content(one, "b") is None


def test_the_log_of_a_damaged_file_goes_with_it(cache: Open, folder: Path, path: Path) -> None:
    one = cache()
    one.put("a", answer())
    one.flush()
    log = (folder / f"{disk.NAME}-wal").read_bytes()
    damage_the_head(path)
    assert content(cache(), "b") is None
    (aside,) = folder.glob("*.damaged-*-wal")
    assert aside.read_bytes() == log


def test_a_table_that_somebody_dropped_is_made_again(
    cache: Open, path: Path, warnings: Callable[[], list[str]]
) -> None:
    one = cache(memory=0)
    for _ in range(2):
        assert content(one, "a") is None
        one.put("a", answer())
        one.flush()
        assert content(one, "a") == "yes"
        change(path, "DROP TABLE answers")
    one.put("b", answer())
    one.flush()
    assert content(one, "b") == "yes"
    assert warnings() == []


def test_a_file_that_vanishes_in_the_midst_of_a_statement_is_begun_anew(
    cache: Open, folder: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    fill(cache(), "a")
    usual = Lane.ask
    times = iter(["vanish"])

    def ask(self: Lane, *values: Any, **options: Any) -> Any:
        if next(times, None):
            shutil.rmtree(folder)
            raise sqlite3.OperationalError("disk I/O error")
        return usual(self, *values, **options)

    monkeypatch.setattr(Lane, "ask", ask)
    one = cache()
    assert content(one, "a") is None
    fill(one, "b")
    assert content(cache(), "b") == "answer to b"
    assert warnings() == []


def test_threads_that_meet_the_same_damage_put_it_aside_once(
    cache: Open, folder: Path, warnings: Callable[[], list[str]]
) -> None:
    fill(cache(), "a")
    answers = file.AnswerFile(folder)
    assert answers.read("SELECT count(*) FROM answers", ()) == [(1,)]
    seen = answers._file
    answers._put_aside(seen)
    answers._put_aside(seen)
    assert answers.read("SELECT count(*) FROM answers", ()) == [(0,)]
    answers.close()
    assert len(warnings()) == 1


def test_a_cache_warns_once_whatever_befalls_it(
    cache: Open, folder: Path, path: Path, warnings: Callable[[], list[str]]
) -> None:
    folder.mkdir()
    path.write_text("no database")
    one = cache()
    assert content(one, "a") is None
    shutil.rmtree(folder)
    folder.write_text("no folder")
    assert content(one, "a") is None
    one.put("b", answer())
    one.close()
    assert len(warnings()) == 1


def test_a_file_that_somebody_else_began_anew_is_not_put_aside(cache: Open, path: Path) -> None:
    fill(cache(), "a")
    seen = connection.file_id(path)
    aside = disk.put_aside(path, seen)
    assert aside is not None
    fill(cache(), "b")
    assert disk.put_aside(path, seen) is None
    assert cache().get_many(["a", "b"]).keys() == {"b"}


@pytest.mark.parametrize(
    "value",
    [None, "", "{", "no JSON", "[1]", "7", '{"at":1}', '{"at":"x","content":"x"}', "]]", b"\xff\xfe", b"\x80\x04N.", 5],
)
def test_one_damaged_entry_is_a_miss_and_its_neighbours_are_found(
    cache: Open, path: Path, value: Any, warnings: Callable[[], list[str]]
) -> None:
    fill(cache(), "a", "b", "c")
    change(path, "UPDATE answers SET value = ? WHERE key = 'b'", value)
    one = cache()
    found = one.get_many(["a", "b", "c"])
    assert {key: result.content for key, result in found.items()} == {"a": "answer to a", "c": "answer to c"}
    assert content(one, "b") is None
    assert content(one, "c") == "answer to c"
    assert [entry.key for entry in one.entries()] == ["a", "c"]
    one.put("b", answer("new"))
    one.close()
    assert content(cache(), "b") == "new"
    assert warnings() == []


def test_a_file_that_vanishes_is_begun_anew(
    cache: Open, folder: Path, path: Path, warnings: Callable[[], list[str]]
) -> None:
    one = cache(memory=0)
    for vanish in (lambda: shutil.rmtree(folder), path.unlink):
        one.put("a", answer("first"))
        one.flush()
        vanish()
        assert content(one, "a") is None
        one.put("b", answer("second"))
        one.flush()
        assert content(one, "b") == content(cache(), "b") == "second"
    shutil.rmtree(folder)
    other = cache()
    other.put("c", answer("third"))
    other.flush()
    one.close()  # whose connection is to a file that is gone, and must not take the log of the new one along
    assert content(cache(), "c") == "third"
    assert warnings() == []


def test_a_folder_that_cannot_be_is_one_warning(
    cache: Open, tmp_path: Path, warnings: Callable[[], list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "cache", Path("/proc/no/such/folder"), Path("a\0b")):
        one = cache(cache_dir=folder)
        for _ in range(3):
            assert content(one, "a") is None
            assert one.get_many(["a", "b"]) == {}
            one.put("c", answer())
        one.close()
    assert len(warnings()) == 4
    assert all(text.startswith("the response cache in ") and "is off for this process: " in text for text in warnings())
    assert capfd.readouterr() == ("", "")


def test_a_cache_that_is_off_still_knows_what_was_put_in(cache: Open, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one = cache(cache_dir=tmp_path / "file")
    assert content(one, "a") is None
    one.put("a", answer())
    assert content(one, "a") == "yes"
    assert one._front.waiting == 0


def test_a_network_file_system_is_refused(
    cache: Open, folder: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(disk, "_file_system", lambda folder: "nfs4")
    fill(cache(), "a")
    assert content(cache(), "a") is None
    assert warnings()[0] == (
        f"the response cache in {folder} takes no more answers: it is on a network file system (nfs4); "
        "name a local folder with cache_dir"
    )


def test_the_kernel_knows_the_file_system_of_a_folder(tmp_path: Path) -> None:
    if not os.path.exists("/proc/self/mountinfo"):
        pytest.skip("this kernel does not tell")
    assert disk._file_system(Path("/proc")) == "proc"
    assert disk._file_system(tmp_path / "nowhere") == ""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "READ_PATIENCE", 0.01)
    monkeypatch.setattr(file, "WRITE_PATIENCE", 0.01)
    monkeypatch.setattr(disk, "PATIENCE", 0.01)


@pytest.mark.usefixtures("impatient")
def test_a_file_that_stays_locked_for_writing_is_still_read(
    cache: Open, folder: Path, path: Path, warnings: Callable[[], list[str]]
) -> None:
    fill(cache(), "a")
    one = cache()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        one.put("b", answer())
        one.put("c", answer())
        one.flush()
        assert content(one, "a") == "answer to a"
        connection.execute("ROLLBACK")
    assert warnings() == [f"the response cache in {folder} takes no more answers: database is locked"]


@pytest.mark.usefixtures("impatient")
def test_a_file_that_another_program_keeps_to_itself_is_one_warning(
    cache: Open, folder: Path, path: Path, warnings: Callable[[], list[str]]
) -> None:
    fill(cache(), "a")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("DELETE FROM answers WHERE key = 'b'")
        one = cache()
        for _ in range(3):
            assert content(one, "a") is None
            one.put("b", answer())
        one.close()
    assert warnings() == [f"the response cache in {folder} is off for this process: database is locked"]
    assert content(cache(), "a") == "answer to a"


@pytest.mark.usefixtures("impatient")
def test_a_folder_that_stays_locked_is_one_warning(
    cache: Open, folder: Path, warnings: Callable[[], list[str]]
) -> None:
    folder.mkdir()
    with disk._folder_lock(folder):
        assert content(cache(), "a") is None
    assert warnings() == [
        f"the response cache in {folder} is off for this process: another process holds a lock on the folder"
    ]
    assert content(cache(), "a") is None
    assert len(warnings()) == 1


def test_a_read_that_is_too_large_for_one_statement_is_done_in_small_ones(
    cache: Open, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    fill(cache(), "a", "b")
    usual = connection.connect

    def limited(path: Path, patience: float) -> Any:
        made: Any = usual(path, patience)
        made.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 250)
        return made

    if not hasattr(sqlite3, "SQLITE_LIMIT_LENGTH"):
        pytest.skip("this Python cannot limit SQLite")
    monkeypatch.setattr(connection, "connect", limited)
    one = cache()
    assert one.get_many(["a", "b"]).keys() == {"a", "b"}
    assert warnings() == []


def test_a_connection_that_fails_tells_those_who_wait_and_nobody_else(
    path: Path, capfd: pytest.CaptureFixture[str], warnings: Callable[[], list[str]]
) -> None:
    path.parent.mkdir()
    lane = Lane(path, patience=0.01, within=60)
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="unable to open"):
            lane.ask("SELECT 1")
    assert not path.exists()
    disk.prepare(path)
    assert lane.ask("SELECT 1") == [(1,)]
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        lane.ask("SELECT * FROM nowhere")
    assert lane.ask("SELECT key FROM answers") == []
    lane.is_shut = True
    with pytest.raises(CacheError, match="it is off"):
        lane.ask("SELECT 1")
    lane.close()
    assert (capfd.readouterr(), warnings()) == (("", ""), [])


def test_a_connection_whose_thread_dies_is_replaced(
    cache: Open, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(connection, "PULSE", 0.01)
    fill(cache(), "a")
    one = cache(memory=0)
    assert content(one, "a") == "answer to a"
    lane = one._file._reader
    assert lane._dict is not None
    lane._dict.conn.reqs.put("no request")
    with pytest.raises(ValueError, match="unpack"):
        lane.ask("SELECT 1")
    lane.close()
    assert content(one, "a") == "answer to a"
    assert warnings() == []


def test_a_disk_that_does_not_answer_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, goes_on = connection.connect, threading.Event()

    def slow(path: Path, patience: float) -> sqlite3.Connection:
        made = usual(path, patience)
        made.create_function("answer", 0, lambda: goes_on.wait(20))
        return made

    path.parent.mkdir()
    disk.prepare(path)
    monkeypatch.setattr(connection, "connect", slow)
    monkeypatch.setattr(connection, "PULSE", 0.01)
    lane = Lane(path, patience=1, within=0.02)
    with pytest.raises(TimeoutError, match=r"the disk did not answer within 0\.02 s"):
        lane.ask("SELECT answer()")
    assert lane._dict is not None
    thread = lane._dict.conn
    assert not lane.hold(0.01), "a fork must know that it still runs"
    goes_on.set()
    thread.join(20)
    assert not thread.is_alive()
    assert lane.ask("SELECT 1") == [(1,)]
    lane.close()


def test_without_another_thread_to_be_had_the_cache_still_works(
    cache: Open, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    fill(cache(), "a", "b")
    assert cache().get_many(["a", "b", "c"]).keys() == {"a", "b"}
    assert warnings() == []


# Looking after it


def test_statistics_tell_what_is_there(cache: Open, clock: Clock, path: Path) -> None:
    first = cache(ttl=60)
    first.put("a", answer(model="gpt-4o"))
    clock.now += 100
    first.put("b", answer(model="gpt-4o"))
    first.put("c", answer(model='an "odd", ,"content": name'))
    first.put("d", answer(model=None))
    first.put("e", answer("\ud800", model="gpt-4o"))
    stats = first.stats()
    assert stats.as_dict() == {
        "path": str(path),
        "entries": 5,
        "expired": 1,
        "bytes": stats.bytes,
        "oldest": 1_795_000_000.0,
        "newest": 1_795_000_100.0,
        "models": {"gpt-4o": 3, "": 1, 'an "odd", ,"content": name': 1},
    }
    assert stats.bytes >= path.stat().st_size > 0
    assert cache(ttl=0).stats().expired == 0
    first.prune(everything=True)
    assert (first.stats().entries, first.stats().oldest, first.stats().models) == (0, None, {})


def test_entries_come_in_the_order_of_writing_or_the_newest_first(cache: Open, clock: Clock) -> None:
    keys = [str(number) for number in range(600)]
    first = cache(ttl=60)
    for key in keys:
        clock.now += 1
        first.put(key, answer(f"answer to {key}"))
    clock.now += 1000
    entries = list(first.entries())
    assert [entry.key for entry in entries] == keys
    assert [entry.key for entry in first.entries(newest_first=True)] == keys[::-1]
    assert (entries[3].at, entries[3].result.content) == (1_795_000_004.0, "answer to 3")
    assert next(first.entries(newest_first=True)).key == "599"


def test_entries_bring_their_bodies(cache: Open) -> None:
    one = cache()
    one.put("a", answer(body=b"{}"), with_body=True)
    assert [entry.result.body for entry in one.entries()] == [b"{}"]


def test_pruning_removes_what_is_older(cache: Open, clock: Clock, path: Path) -> None:
    one = cache(ttl=0)
    for key in "abcd":
        one.put(key, answer(key))
        clock.now += 10
    one.flush()
    change(path, "UPDATE answers SET value = 'damaged' WHERE key = 'd'")
    assert one.prune() == 0
    assert one.prune(older_than=30) == 2
    assert [entry.key for entry in one.entries()] == ["b", "c"]
    assert [content(one, key) for key in "abcd"] == [None, "b", "c", None]
    assert one.prune(older_than=20) == 1
    assert cache(ttl=5).prune() == 1


def test_pruning_everything_empties_memory_too(cache: Open) -> None:
    one = cache()
    one.put("a", answer())
    assert one.prune(everything=True) == 1
    assert content(one, "a") is None


def test_pruning_to_a_size_removes_the_oldest(cache: Open, clock: Clock, path: Path) -> None:
    one = cache()
    for number in range(300):
        clock.now += 1
        one.put(str(number), answer("世" * 1000))
    before = one.stats().bytes
    assert one.prune(max_bytes=before) == 0
    removed = one.prune(max_bytes=before // 2)
    stats = one.stats()
    assert stats.bytes <= before // 2
    assert stats.entries == 300 - removed
    assert 100 < stats.entries < 170  # as many as fit, more or less
    assert [entry.key for entry in one.entries()] == [str(number) for number in range(removed, 300)]
    assert one.prune(max_bytes=0) == stats.entries


def test_pruning_to_a_size_does_not_count_what_stands_in_the_log_too(cache: Open) -> None:
    one = cache()
    for number in range(300):
        one.put(str(number), answer("x" * 16_000))
    assert one.stats().bytes > 8_000_000
    assert one.prune(max_bytes=6_000_000) == 0


def test_answers_that_are_removed_are_gone_even_if_the_file_cannot_be_made_smaller(
    cache: Open, path: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    one = cache()
    for key in "abc":
        one.put(key, answer("x" * 5000))
    usual = file.AnswerFile.demand

    def full(self: file.AnswerFile, statement: str, values: Any = ()) -> Any:
        if statement == "VACUUM":
            raise CacheError("database or disk is full")
        return usual(self, statement, values)

    monkeypatch.setattr(file.AnswerFile, "demand", full)
    removed = one.prune(max_bytes=20_000)
    assert 0 < removed < 3
    assert one.prune(everything=True) == 3 - removed
    assert one.stats().entries == 0
    assert warnings() == ["answers were removed, but the file is as large as before: database or disk is full"] * 2


def test_one_who_looks_after_it_is_told_what_is_wrong(cache: Open, tmp_path: Path) -> None:
    (tmp_path / disk.NAME).mkdir()
    one = cache(cache_dir=tmp_path)
    for ask in (one.stats, one.prune, lambda: list(one.entries())):
        with pytest.raises(CacheError, match=f"the response cache in {tmp_path} cannot be used: "):
            ask()
