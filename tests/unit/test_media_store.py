"""The store: files and URLs read once, kept within bounds, read anew when they change, and refused with the reason."""

from __future__ import annotations

import base64
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flexllm.cancel import CancelToken
from flexllm.errors import ConnectionFailed, InputError, RequestCancelled
from flexllm.media.cache import OnceCache
from flexllm.media.load import MediaStore
from flexllm.media.options import MediaOptions
from flexllm.media.sources import encoded
from flexllm.transport import TransportOptions

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00"
URL = "https://example.org/photo?size=1"


class FakeDownload:
    """Gives the answers it was made with, the last one for ever, and keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []
        self.limits: dict[str, Any] = {}

    def __call__(self, url: str, **limits: Any) -> tuple[bytes, str]:
        self.asked.append(url)
        self.limits = limits
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        while callable(answer):
            answer = answer()
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, tuple) else (answer, "")


def store(*answers: Any, **options: Any) -> tuple[MediaStore, FakeDownload]:
    download = FakeDownload(*answers)
    return MediaStore(MediaOptions(**options), download=download), download


def test_a_file_is_read_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    media, _ = store(b"")
    path = tmp_path / "photo.jpg"
    path.write_bytes(PNG)
    first = media.data_uri(str(path), "image")
    assert first == encoded(PNG, "image/png")
    assert media.data_uri(str(path), "image") is first
    assert media.data_uri(path.as_uri(), "image") is first
    os.utime(path, ns=(1, 1))
    again = media.data_uri(str(path), "image")
    assert (again == first, again is first) == (True, False)
    path.write_bytes(GIF)
    assert media.data_uri(str(path), "image") == encoded(GIF, "image/gif")


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_read_anew(tmp_path: Path) -> None:
    media, _ = store(b"")
    path, other = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_bytes(b"one")
    other.write_bytes(b"two")
    for each in (path, other):
        os.utime(each, ns=(5, 5))
    assert media.data_uri(str(path), "file") == encoded(b"one", "text/plain")
    other.replace(path)
    assert media.data_uri(str(path), "file") == encoded(b"two", "text/plain")


def test_a_relative_path_counts_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    media, _ = store(b"")
    for folder, data in (("a", PNG), ("b", GIF)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "photo").write_bytes(data)
    monkeypatch.chdir(tmp_path / "a")
    assert media.data_uri("photo", "image") == encoded(PNG, "image/png")
    monkeypatch.chdir(tmp_path / "b")
    assert media.data_uri("photo", "image") == encoded(GIF, "image/gif")


def test_the_suffix_tells_what_the_bytes_do_not(tmp_path: Path) -> None:
    media, _ = store(b"")
    path = tmp_path / "rows.csv"
    path.write_bytes(b"a,b\n1,2\n")
    assert media.data_uri(str(path), "file").startswith("data:text/csv;base64,")


def test_an_unusable_file_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    media, _ = store(b"", max_bytes=100)
    (tmp_path / "empty.png").touch()
    (tmp_path / "big.png").write_bytes(PNG * 2)
    (tmp_path / "song.png").write_bytes(WAV)
    (tmp_path / "page.png").write_bytes(b"<html>404</html>")
    (tmp_path / "noise.png").write_bytes(b"\x00\x01\x02")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "ring").symlink_to("ring")
    reasons = {
        "missing.png": f"the file 'missing.png' (in the working directory {tmp_path}) does not exist",
        f"{tmp_path}/missing.png": f"the file '{tmp_path}/missing.png' does not exist",
        f"file://{tmp_path}/no%20such.png": f"the file '{tmp_path}/no such.png' does not exist",
        str(tmp_path): "is a folder, not a file",
        "": "does not exist",
        "pipe": "is not a plain file but a device, pipe or socket",
        "/dev/zero": "the file '/dev/zero' is not a plain file",
        "empty.png": "is empty",
        "big.png": f"has {2 * len(PNG)} bytes, more than max_bytes=100",
        "song.png": "'song.png' is not an image: its bytes are audio/wav",
        "page.png": "'page.png' is not an image: its bytes are text/html",
        "noise.png": "'noise.png' is not an image: its bytes are of no known image format",
        "ring": "cannot be read: ",
        "empty.png/inside.png": "cannot be read: Not a directory",
        "a\x00b.png": "holds a character that no path can",
        "half \ud800.png": "holds a character that no path can",
        "x/" * 3000 + "y.png": "cannot be read: File name too long",
        "gs://bucket/a.png": "'gs://bucket/a.png' cannot be read: only paths and file, http, https and data URLs can",
    }
    for source, reason in reasons.items():
        with pytest.raises(InputError, match=re.escape(reason)) as caught:
            media.data_uri(source, "image")
        assert len(str(caught.value)) < 500
        assert not str(caught.value).endswith(".")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_must_not_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(PNG)
    path.chmod(0)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        store(b"")[0].data_uri(str(path), "image")


def test_a_file_that_grows_after_the_look_is_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flexllm.media import files

    path = tmp_path / "log.txt"
    path.write_bytes(b"x" * 200)
    with pytest.raises(InputError, match="has more bytes than max_bytes=100"):
        files.read_file(str(path), 100)
    with pytest.raises(InputError, match="does not exist"):
        files.read_file(str(tmp_path / "gone.txt"), 100)


def test_local_files_can_be_forbidden(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    media, _ = store(PNG, local_files=False)
    for source in (str(path), path.as_uri(), "photo.png", "/etc/passwd", "~/.ssh/id_rsa"):
        with pytest.raises(InputError, match="local_files=False forbids"):
            media.data_uri(source, "image")
    assert media.data_uri(URL, "image") == media.data_uri(encoded(PNG, "image/png"), "image")


def test_a_url_is_downloaded_once_within_the_limits() -> None:
    proxied = TransportOptions(proxies={"https": "http://proxy:3128"})
    download = FakeDownload((PNG, "text/plain"))
    media = MediaStore(MediaOptions(max_bytes=1000, download_timeout=5, allow_private=True), proxied, download=download)
    first = media.data_uri(URL, "image")
    assert first == encoded(PNG, "image/png")
    assert media.data_uri(f"{URL}#fragment", "image") is first
    assert download.asked == [URL]
    assert download.limits == {
        "max_bytes": 1000,
        "timeout": 5,
        "allow_private": True,
        "options": proxied,
        "cancel": None,
    }


def test_what_a_server_sends_instead_of_an_image_is_named() -> None:
    media, download = store((b"<!doctype html><title>Log in</title>", "image/png"))
    with pytest.raises(
        InputError, match=re.escape("'https://example.org/photo' is not an image: its bytes are text/html")
    ):
        media.data_uri(URL, "image")
    assert download.asked == [URL]


@pytest.mark.parametrize(
    ("data", "declared", "kind", "mime"),
    [
        (b"a,b", "text/csv; charset=utf-8", "file", "text/csv"),
        (b"\x00\x01", "audio/x-odd", "audio", "audio/x-odd"),
        (b"\x00\x00\x00\x14ftypisom\x00\x00\x02\x00mp41", "", "audio", "audio/mp4"),
        (b"\x00\x00\x00\x14ftypisom\x00\x00\x02\x00mp41", "", "video", "video/mp4"),
        (b"\x00\x01", "", "file", "application/octet-stream"),
    ],
)
def test_the_kind_and_the_server_help_where_bytes_do_not_tell(data: bytes, declared: str, kind: str, mime: str) -> None:
    media, _ = store((data, declared))
    assert media.data_uri(URL, kind) == encoded(data, mime)


def test_failures_are_not_kept() -> None:
    media, download = store(ConnectionFailed("reset"), b"", PNG)
    with pytest.raises(ConnectionFailed):
        media.data_uri(URL, "image")
    with pytest.raises(InputError, match="is empty"):
        media.data_uri(URL, "image")
    assert media.data_uri(URL, "image") == encoded(PNG, "image/png")
    assert len(download.asked) == 3


def test_data_uris_and_base64_are_taken_as_they_are_or_mended() -> None:
    media, _ = store(b"", max_bytes=1000)
    good = encoded(PNG, "image/png")
    assert media.data_uri(good, "image") is good
    assert media.data_uri(good.replace("png", "jpeg"), "image") == good
    assert media.data_uri(good.partition(",")[2], "image") == good
    with pytest.raises(InputError, match="the data URI has 1001 bytes, more than max_bytes=1000"):
        media.data_uri(encoded(bytes(1001), "image/png"), "image")


def test_a_stopped_caller_downloads_nothing() -> None:
    media, download = store(PNG)
    cancel = CancelToken()
    cancel.stop()
    with pytest.raises(RequestCancelled):
        media.data_uri(URL, "image", cancel=cancel)
    assert download.asked == []


# The cache by itself.


def test_the_least_recently_used_goes_first() -> None:
    cache = OnceCache(10)
    made: list[str] = []

    def ask(key: str, size: int = 4) -> str:
        def make() -> str:
            made.append(key)
            return key * size

        return cache.get(key, make)

    ask("a"), ask("b"), ask("a"), ask("c")  # b has to go
    assert (ask("a"), made) == ("aaaa", ["a", "b", "c"])
    ask("b")
    assert made == ["a", "b", "c", "b"]


def test_what_is_larger_than_the_cache_is_not_kept_and_drives_nothing_out() -> None:
    cache = OnceCache(10)
    assert cache.get("small", lambda: "s") == "s"
    assert cache.get("large", lambda: "l" * 11) == "l" * 11
    assert cache.get("large", lambda: "anew") == "anew"
    assert cache.get("small", lambda: "anew") == "s"


def test_a_cache_of_no_bytes_keeps_nothing() -> None:
    cache = OnceCache(0)
    assert [cache.get("a", lambda: "1"), cache.get("a", lambda: "2")] == ["1", "2"]


def test_a_forked_child_starts_with_an_empty_cache_and_a_free_lock() -> None:
    cache = OnceCache(100)
    cache.get("a", lambda: "1")
    cache._lock.acquire()
    cache._after_fork_in_child()
    assert cache.get("a", lambda: "2") == "2"


class Meeting:
    """Several threads that ask one cache for the same key, the first of them held up in its work until all wait."""

    def __init__(self, cache: OnceCache, make: Callable[[], str], count: int = 4) -> None:
        self._go = threading.Event()
        self._begun = threading.Event()
        self._arrived = threading.Semaphore(0)
        self._make = make
        self.cache = cache
        self.count = count
        self.outcomes: list[Any] = []
        self.made = 0

    def make(self) -> str:
        self.made += 1
        self._begun.set()
        assert self._go.wait(60)
        return self._make()

    def ask(self, cancel: CancelToken | None = None) -> None:
        try:
            self.outcomes.append(self.cache.get("key", self.make, cancel))
        except BaseException as error:
            self.outcomes.append(error)

    def hold(
        self, cancels: list[CancelToken | None] | None = None, between: Callable[[], object] = lambda: None
    ) -> None:
        cancels = cancels or [None] * self.count
        threads = [threading.Thread(target=self.ask, args=(cancel,)) for cancel in cancels]
        threads[0].start()
        assert self._begun.wait(60)
        work = self.cache._under_way["key"]
        wait = work.wait

        def arrive(cancel: CancelToken | None) -> None:
            self._arrived.release()
            wait(cancel)

        work.wait = arrive  # type: ignore[method-assign]
        for thread in threads[1:]:
            thread.start()
            assert self._arrived.acquire(timeout=60)
        between()
        self._go.set()
        for thread in threads:
            thread.join(60)


def test_many_threads_make_one_text() -> None:
    meeting = Meeting(OnceCache(100), lambda: "text")
    meeting.hold()
    assert (meeting.outcomes, meeting.made) == (["text"] * 4, 1)


def test_even_what_is_too_large_to_keep_is_made_once_for_those_who_wait() -> None:
    meeting = Meeting(OnceCache(0), lambda: "text")
    meeting.hold()
    assert (meeting.outcomes, meeting.made) == (["text"] * 4, 1)


def fail(error: BaseException) -> str:
    raise error


def test_those_who_wait_share_a_failure_each_with_an_error_of_its_own() -> None:
    error = ConnectionFailed("reset", endpoint="there")
    meeting = Meeting(OnceCache(100), lambda: fail(error))
    meeting.hold()
    assert {(type(one), str(one), one.endpoint) for one in meeting.outcomes} == {(ConnectionFailed, "reset", "there")}
    assert len({id(one) for one in meeting.outcomes}) == 4
    assert meeting.cache.get("key", lambda: "later") == "later"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), RequestCancelled("stopped")])
def test_if_the_first_is_interrupted_another_takes_over(interruption: BaseException) -> None:
    ways = [lambda: fail(interruption), lambda: "text"]
    meeting = Meeting(OnceCache(100), lambda: ways.pop(0)() if len(ways) > 1 else ways[0]())
    meeting.hold()
    assert sorted(map(str, meeting.outcomes)) == sorted([str(interruption), "text", "text", "text"])
    assert meeting.made == 2


def test_a_stopped_caller_does_not_wait_for_others() -> None:
    cancel = CancelToken()
    meeting = Meeting(OnceCache(100), lambda: "text")
    left = threading.Event()

    class Outcomes(list[Any]):
        def append(self, outcome: Any) -> None:
            super().append(outcome)
            left.set()

    def stop_and_see() -> None:
        cancel.stop()
        assert left.wait(60)

    meeting.outcomes = Outcomes()
    meeting.hold([None, cancel], between=stop_and_see)
    assert [type(one) for one in meeting.outcomes] == [RequestCancelled, str]
