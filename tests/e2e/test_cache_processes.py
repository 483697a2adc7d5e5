"""One response cache under several processes: killed, forked, ended without a word, out of disk."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import flexllm
from flexllm.cache import ResponseCache, ResponseCacheConfig
from flexllm.chat import ChatCompletionResult, Usage

KEYS = 3000

SETUP = """
import logging, os, random, resource, signal, sys, threading
from flexllm.cache import ResponseCache, ResponseCacheConfig
from flexllm.chat import ChatCompletionResult, Usage

logging.basicConfig()

def answer(key):
    usage = Usage(prompt_tokens=len(key), completion_tokens=1, total_tokens=len(key) + 1)
    return ChatCompletionResult(f"answer to {key} " * 20, usage, finish_reason="stop", model="m")

cache = ResponseCache(ResponseCacheConfig(enabled=True, cache_dir=sys.argv[1], memory=100))
"""

HAMMER = f"""
def work(seed):
    chance = random.Random(seed)
    count = 0
    while True:
        keys = [str(chance.randrange({KEYS})) for _ in range(chance.choice([1, 1, 7, 60]))]
        found = cache.get_many(keys) if len(keys) > 1 else {{keys[0]: cache.get(keys[0])}}
        for key in keys:
            result = found.get(key)
            if result is None:
                cache.put(key, answer(key))
            elif (result.content, result.usage) != (answer(key).content, answer(key).usage):
                os.write(1, f"wrong: {{key}} is {{result!r:.50}}\\n".encode())
        count += 1
        if count % 10 == 0:
            os.write(1, b"done\\n")  # in one go: a print by one of many threads may come in pieces

for number in range(16):
    threading.Thread(target=work, args=(int(sys.argv[2]) * 100 + number,), daemon=True).start()
threading.Event().wait()
"""


def answer(key: str) -> ChatCompletionResult:
    usage = Usage(prompt_tokens=len(key), completion_tokens=1, total_tokens=len(key) + 1)
    return ChatCompletionResult(f"answer to {key} " * 20, usage, finish_reason="stop", model="m")


def start(code: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SETUP + code, str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(flexllm.__file__).parents[1],
    )


def run(code: str, folder: Path, *arguments: str) -> str:
    """Run a script to its end; it must not complain."""
    process = start(code, folder, *arguments)
    out, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, "")
    return out


def opened(folder: Path) -> ResponseCache:
    return ResponseCache(ResponseCacheConfig(enabled=True, cache_dir=folder))


def assert_sound(folder: Path) -> int:
    """All entries are right, and the file is as SQLite wants it. Return how many there are."""
    with opened(folder) as cache:
        entries = list(cache.entries())
        assert [entry.key for entry in entries if entry.result.content != answer(entry.key).content] == []
        assert len({entry.key for entry in entries}) == len(entries)
        cache.put("after", answer("after"))
        cache.flush()
        found = cache.get("after")
        assert found is not None
        assert found.content == answer("after").content
    with closing(sqlite3.connect(folder / "answers.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.execute("DELETE FROM answers WHERE key = 'after'")
        connection.commit()
    assert sorted(os.listdir(folder)) == ["answers.sqlite"]
    return len(entries)


@pytest.mark.slow
def test_two_processes_with_sixteen_threads_each_killed_at_random(tmp_path: Path) -> None:
    folder, chance, counts = tmp_path / "cache", random.Random(5), [0]
    for round_ in range(8):
        two = [start(HAMMER, folder, str(2 * round_ + number)) for number in range(2)]
        rest = []
        for process in two:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(chance.choice([1, 20, 80, 200]))]
            assert set(said) == {"done\n"}
        for process in two:
            process.send_signal(signal.SIGKILL)
        for process in two:
            rest.append(process.communicate(timeout=30))
            assert process.returncode == -signal.SIGKILL
        assert [line for out, _ in rest for line in out.splitlines() if line != "done"] == []
        assert [complaints for _, complaints in rest] == ["", ""]
        if round_ % 2:
            counts.append(assert_sound(folder))
    assert counts == sorted(counts), "answers are lost"
    assert counts[-1] > 500, "little was ever written"


@pytest.mark.slow
def test_answers_that_nobody_flushed_are_on_disk_when_the_interpreter_ends(tmp_path: Path) -> None:
    run("cache.put('a', answer('a'))", tmp_path)
    run("cache.put('b', answer('b')); sys.exit()", tmp_path)
    run("threading.Thread(target=lambda: cache.put('c', answer('c'))).start()", tmp_path)
    process = start("cache.put('d', answer('d')); raise SystemExit('over')", tmp_path)
    assert process.communicate(timeout=60) == ("", "over\n")
    with opened(tmp_path) as cache:
        assert cache.get_many("abcd").keys() == set("abcd")
    assert os.listdir(tmp_path) == ["answers.sqlite"]


@pytest.mark.slow
def test_many_processes_begin_one_cache_at_the_same_moment(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "cache"
    code = """
sys.stdin.readline()
for number in range(20):
    cache.put(sys.argv[2] + str(number), answer(sys.argv[2] + str(number)))
cache.close()
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SETUP + code, str(folder), name],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(flexllm.__file__).parents[1],
        )
        for name in "abcdef"
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    complaints = [process.communicate(timeout=60)[1] for process in processes]
    assert complaints == [""] * 6
    assert assert_sound(folder) == 120


@pytest.mark.slow
def test_many_processes_meet_one_damaged_file_and_put_it_aside_once(tmp_path: Path) -> None:
    (tmp_path / "answers.sqlite").write_bytes(b"no database at all" * 1000)
    code = "assert cache.get('none') is None; cache.put(sys.argv[2], answer(sys.argv[2]))"
    processes = [start(code, tmp_path, name) for name in "abcdef"]
    complaints = [process.communicate(timeout=60)[1] for process in processes]
    told = [text for text in complaints if text]
    assert len(told) == 1
    assert "was damaged: it is answers.sqlite.damaged-" in told[0]
    with opened(tmp_path) as cache:
        assert cache.get_many("abcdef").keys() == set("abcdef")
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.slow
def test_a_full_disk_costs_one_warning(tmp_path: Path) -> None:
    code = """
cache.put("first", answer("first"))
cache.flush()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for number in range(3000):
    cache.put(str(number), answer(str(number)))
    if number % 500 == 0:
        cache.flush()
assert cache.get("first").content == answer("first").content
cache.close()
"""
    process = start(code, tmp_path)
    out, complaints = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert len(complaints.splitlines()) == 1
    assert f"the response cache in {tmp_path} takes no more answers: " in complaints
    with opened(tmp_path) as cache:
        assert cache.get("first") is not None


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are only spawned here")


def forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if not child:
        signal.alarm(30)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


@needs_fork
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_children_forked_while_the_cache_is_busy_have_their_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, stop, wrong = opened(tmp_path), threading.Event(), []

    def keep_busy(seed: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = f"{seed}-{number % 400}"
            cache.put(key, answer(key))
            for found, result in cache.get_many([f"{seed}-{number * 7 % 400}", key]).items():
                if result.content != answer(found).content:
                    wrong.append(found)

    def in_child(name: str) -> None:
        for number in range(50):
            cache.put(f"{name}-{number}", answer(f"{name}-{number}"))
            assert (found := cache.get(f"{name}-{number}")) is not None
            assert found.content == answer(f"{name}-{number}").content
        assert (early := cache.get("early")) is not None
        assert early.content == answer("early").content
        cache.close()

    cache.put("early", answer("early"))
    cache.flush()
    threads = [threading.Thread(target=keep_busy, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    try:
        children = [forked(lambda name=f"child{number}": in_child(name)) for number in range(12)]  # type: ignore[misc]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    cache.close()
    assert codes == [0] * 12
    assert wrong == []
    assert caplog.records == []
    with opened(tmp_path) as after:
        keys = [f"child{child}-{number}" for child in range(12) for number in range(50)]
        assert after.get_many(keys).keys() == set(keys)
    assert os.listdir(tmp_path) == ["answers.sqlite"]


@needs_fork
@pytest.mark.slow
def test_what_a_child_of_multiprocessing_bought_last_is_on_disk_when_it_ends(tmp_path: Path) -> None:
    code = """
import multiprocessing, warnings
warnings.simplefilter("ignore", DeprecationWarning)
cache.put("parent", answer("parent"))
child = multiprocessing.get_context("fork").Process(target=lambda: cache.put("child", answer("child")))
child.start()
child.join()
assert child.exitcode == 0
"""
    run(code, tmp_path)
    with opened(tmp_path) as cache:
        assert cache.get_many(["parent", "child"]).keys() == {"parent", "child"}
    assert os.listdir(tmp_path) == ["answers.sqlite"]


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_what_waits_at_a_fork_is_written_once_by_the_parent(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    with cache._writing:  # nothing is written meanwhile
        cache.put("a", answer("a"))

        def in_child() -> None:
            assert cache._front.waiting == 0
            assert cache.get("a") is None
            cache.put("b", answer("b"))
            cache.close()

        child = forked(in_child)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (found := cache.get("b")) is not None
        assert found.content == answer("b").content
    cache.close()
    with opened(tmp_path) as after:
        assert after.get_many(["a", "b"]).keys() == {"a", "b"}


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_holds_locks_of_its_own(tmp_path: Path) -> None:
    """With SQLite's state as it was in the parent, it would not lock the file, for it seems locked already. The parent
    would then take the log away as the last one to close, and with it what the child writes from then on."""
    cache = opened(tmp_path)
    cache.put("a", answer("a"))
    cache.flush()
    assert cache.get("none") is None
    is_open, may_go_on = os.pipe(), os.pipe()

    def in_child() -> None:
        assert cache.get("a") is not None
        cache.put("b", answer("b"))
        cache.flush()
        os.write(is_open[1], b".")
        assert os.read(may_go_on[0], 1) == b"."
        cache.put("c", answer("c"))
        cache.flush()
        with opened(tmp_path) as other:
            assert other.get_many("abc").keys() == set("abc")

    child = forked(in_child)
    assert os.read(is_open[0], 1) == b"."
    cache.close()
    os.write(may_go_on[1], b".")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for descriptor in (*is_open, *may_go_on):
        os.close(descriptor)
    with opened(tmp_path) as after:
        assert after.get_many("abc").keys() == set("abc")


@needs_fork
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_threads_that_fork_at_the_same_time_leave_the_cache_as_it_was(tmp_path: Path) -> None:
    cache, codes = opened(tmp_path), []

    def in_child() -> None:
        cache.put(str(os.getpid()), answer(str(os.getpid())))
        cache.close()

    def fork_often() -> None:
        for _ in range(6):
            child = forked(in_child)
            cache.put(f"of {child}", answer(f"of {child}"))
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    threads = [threading.Thread(target=fork_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 24
    assert cache.stats().entries == 48
    cache.close()


@needs_fork
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_in_the_midst_of_a_statement_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's state in such a child is that of its parent, locks and all: it must not be touched."""
    from flexllm.cache import file

    monkeypatch.setattr(file, "FORK_PATIENCE", 0.01)
    cache = opened(tmp_path)
    cache.put("a", answer("a"))
    cache.close()
    assert cache.get("none") is None
    assert cache._file._reader._dict is not None
    with cache._file._reader._lock, cache._file._reader._dict.conn.reqs.mutex:

        def in_child() -> None:
            assert cache.get("b") is None
            cache.put("c", answer("c"))
            assert cache.get("c") is not None
            cache.close()

        child = forked(in_child)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cache.get("c") is None
    assert cache.get("a") is not None
    cache.close()
