"""Downloads of media against real servers on loopback: what is followed, what is bounded, and what is never asked."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import PlainProvider, Setup, ok
from fakes import (
    CLOSE,
    LONGEST_WAIT,
    READ,
    RESET,
    ScriptedServer,
    Sleep,
    chunked,
    eventually,
    http_reply,
    unused_port,
)

from flexllm.cancel import CancelToken
from flexllm.chat import ChatRequest
from flexllm.errors import (
    ConfigError,
    ConnectionFailed,
    FlexLLMError,
    InputError,
    RequestCancelled,
    RequestTimeout,
    TlsFailed,
)
from flexllm.media.load import MediaStore
from flexllm.media.options import MediaOptions
from flexllm.media.sources import encoded
from flexllm.transport import TransportOptions, guard
from flexllm.transport.download import MAX_REDIRECTS, download

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)

Reply = tuple[int, dict[str, str], bytes]


class Site:
    """A web server on loopback that answers each path with the reply it was given, and counts who asked.

    Attributes:
        asked: The paths, in order.
        heads: The headers of each request.
    """

    def __init__(self, replies: dict[str, Reply | Callable[[], Reply]]) -> None:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                site.heads.append({name.lower(): value for name, value in self.headers.items()})
                reply = replies.get(self.path) or replies.get(self.path.partition("?")[0], (404, {}, b"nothing here"))
                status, headers, body = reply() if callable(reply) else reply
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.asked: list[str] = []
        self.heads: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(LONGEST_WAIT)


def fetch(url: str, **limits: Any) -> tuple[bytes, str]:
    return download(url, **{"max_bytes": 1000, "timeout": LONGEST_WAIT, "allow_private": True, **limits})


def failure(url: str, **limits: Any) -> FlexLLMError:
    with pytest.raises(FlexLLMError) as caught:
        fetch(url, **limits)
    return caught.value


def moved(place: str, status: int = 302) -> Reply:
    return status, {"Location": place}, b"moved"


# --- What is fetched --------------------------------------------------------------------------------------------------


def test_bytes_and_their_type_come_back() -> None:
    with Site({"/a.png?x=1": (200, {"Content-Type": "image/png"}, PNG), "/b": (203, {}, b"b")}) as site:
        assert fetch(f"{site.url}/a.png?x=1#fragment") == (PNG, "image/png")
        assert fetch(f"{site.url}/b") == (b"b", "")
        assert site.asked == ["/a.png?x=1", "/b"]


def test_no_key_no_cookie_and_nothing_of_the_machine_is_sent(clean_environment: Path) -> None:
    (clean_environment / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (clean_environment / ".netrc").chmod(0o600)
    with Site({"/a": (200, {"Set-Cookie": "a=b"}, b"x")}) as site:
        fetch(f"{site.url}/a")
        fetch(f"{site.url}/a")
        wanted = {
            "host": f"127.0.0.1:{site.port}",
            "user-agent": "flexllm",
            "accept": "*/*",
            "accept-encoding": "identity",
        }
        assert site.heads == [wanted, wanted]


def test_a_password_in_a_url_goes_to_its_own_server_and_into_no_error() -> None:
    replies: dict[str, Any] = {"/a": moved("/b"), "/c": (404, {}, b"")}
    with Site(replies) as site:
        replies["/b"] = moved(f"{site.url}/c")
        error = failure(f"http://me:secret@127.0.0.1:{site.port}/a?sig=secret")
        assert ["authorization" in head for head in site.heads] == [True, True, False]
        assert str(error) == f"'{site.url}/c' cannot be downloaded: its server answered 404"
        replies["/b"] = (404, {}, b"")
        error = failure(f"http://me:secret@127.0.0.1:{site.port}/a?sig=secret")
        assert str(error) == f"'{site.url}/b' cannot be downloaded: its server answered 404"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_also_relative_ones(status: int) -> None:
    replies = {"/a/b": moved("../c?x=1", status), "/c?x=1": moved("//127.0.0.1:{port}/d", status), "/d": (200, {}, PNG)}
    with Site(replies) as site:
        replies["/c?x=1"] = moved(f"//127.0.0.1:{site.port}/d", status)
        assert fetch(f"{site.url}/a/b")[0] == PNG
        assert site.asked == ["/a/b", "/c?x=1", "/d"]


def test_five_redirects_are_followed_and_no_sixth() -> None:
    replies: dict[str, Any] = {f"/{number}": moved(f"/{number + 1}") for number in range(6)}
    with Site({**replies, "/6": (200, {}, PNG)}) as site:
        assert fetch(f"{site.url}/1")[0] == PNG
        assert len(site.asked) == MAX_REDIRECTS + 1
        error = failure(f"{site.url}/0")
        assert isinstance(error, InputError)
        assert "is redirected again, after 5 redirects" in str(error)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://127.0.0.1/", "data:,x"])
def test_a_redirect_to_anything_but_a_web_address_is_refused(place: str) -> None:
    with Site({"/a": moved(place)}) as site:
        error = failure(f"{site.url}/a")
        assert isinstance(error, InputError)
        assert "http or https and a host are needed" in str(error)


def test_a_redirect_to_what_is_no_url_is_refused() -> None:
    with Site({"/a": moved("http://[")}) as site:
        assert str(failure(f"{site.url}/a")).endswith("its server redirects to what is no URL")


def test_a_redirect_without_a_place_is_an_answer_that_cannot_be_used() -> None:
    with Site({"/a": (302, {}, b"")}) as site:
        assert "its server answered 302" in str(failure(f"{site.url}/a"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.png",
        "ftp://127.0.0.1/a",
        "http://",
        "http:///a",
        "http://[::1",
        "http://a:x/",
        "http://a:99999/",
        "https://a..b/",
        "http://" + "a" * 70 + ".invalid/",
        "http://\ud800/",
        "http://a\nb/",
    ],
)
def test_a_wrong_url_is_a_wrong_input(url: str) -> None:
    for allow_private in (True, False):
        error = failure(url, allow_private=allow_private)
        assert isinstance(error, InputError)
        assert not str(error).endswith(".")


def test_blanks_and_letters_beyond_ascii_in_a_url_are_quoted() -> None:
    with Site({"/%E4%B8%96%20a.png": (200, {}, PNG)}) as site:
        assert fetch(f"{site.url}/世 a.png")[0] == PNG


# --- What the server's answer means -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418, 451])
def test_a_refusal_is_the_fault_of_the_input(status: int) -> None:
    with Site({"/a": (status, {}, b"no")}) as site:
        error = failure(f"{site.url}/a?token=secret")
        assert isinstance(error, InputError)
        assert str(error) == f"'{site.url}/a' cannot be downloaded: its server answered {status}"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 599])
def test_a_failing_server_may_answer_later(status: int) -> None:
    with Site({"/a": (status, {}, b"no")}) as site:
        error = failure(f"{site.url}/a")
        assert type(error) is ConnectionFailed
        assert error.attempts == 0  # no model was asked
        assert f"its server answered {status}" in str(error)


def test_nothing_listens() -> None:
    error = failure(f"http://127.0.0.1:{unused_port()}/a.png")
    assert type(error) is ConnectionFailed
    assert (error.attempts, error.endpoint) == (0, None)
    assert "could not be downloaded: nothing listens at" in str(error)


@pytest.mark.parametrize(
    "steps",
    [
        [READ, CLOSE],
        [READ, RESET],
        [READ, http_reply(b"x" * 10)[:-4], CLOSE],
        [READ, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", CLOSE],
        [READ, b"nonsense\r\n\r\n", CLOSE],
    ],
)
def test_a_reply_that_breaks_off_may_be_whole_the_next_time(steps: list[Any]) -> None:
    with ScriptedServer(steps) as server:
        error = failure(f"{server.url}/a")
        assert type(error) is ConnectionFailed
        assert str(error).startswith(f"'{server.url}/a' could not be downloaded: ")


def test_names_that_do_not_exist_and_names_that_cannot_be_asked_now(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, kind, text in [
        (socket.EAI_NONAME, InputError, "the name 'photos.example' in 'http://photos.example/a' cannot be found"),
        (
            socket.EAI_AGAIN,
            ConnectionFailed,
            "the name 'photos.example' in 'http://photos.example/a' cannot be looked up",
        ),
    ]:

        def fail(*args: Any, number: int = number, **more: Any) -> Any:
            raise socket.gaierror(number, "no")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        for allow_private in (True, False):
            error = failure("http://photos.example/a?x=1", allow_private=allow_private)
            assert type(error) is kind
            assert str(error).startswith(text)


# --- Bounds -----------------------------------------------------------------------------------------------------------


def test_a_body_may_be_as_long_as_allowed_and_no_longer() -> None:
    with Site({"/a": (200, {}, b"x" * 1000), "/b": (200, {}, b"x" * 1001)}) as site:
        assert len(fetch(f"{site.url}/a")[0]) == 1000
        error = failure(f"{site.url}/b")
        assert isinstance(error, InputError)
        assert str(error) == f"'{site.url}/b' has 1001 bytes, more than max_bytes=1000"


def test_a_length_that_is_too_large_is_refused_before_the_body_comes() -> None:
    with ScriptedServer(
        [READ, b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", Sleep(20)]
    ) as server:
        assert "has 99999999999999999999 bytes, more than max_bytes=1000" in str(failure(f"{server.url}/a"))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("200 OK", "has more bytes than max_bytes=100000"),
        ("302 Found", "its server answered 410"),
        ("404 Not Found", "its server answered 404"),
        ("500 Oh", "its server answered 500"),
    ],
)
def test_an_endless_body_is_read_no_further_than_allowed(status: str, outcome: str) -> None:
    poured = []

    def pour(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock.sendall(chunked(b"x" * 10_000, end=b""))
                poured.append(10_000)

    head = f"HTTP/1.1 {status}\r\nLocation: /b\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with ScriptedServer([READ, head, pour], [READ, http_reply(status="410 Gone")]) as server:
        assert str(failure(f"{server.url}/a", max_bytes=100_000)).endswith(outcome)
    assert sum(poured) < 20_000_000  # what the kernel's buffers hold


@pytest.mark.parametrize(
    ("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("X-GZIP", gzip.compress)]
)
def test_a_coding_that_nobody_asked_for_is_undone_within_the_limit(coding: str, pack: Callable[[bytes], bytes]) -> None:
    head = {"Content-Encoding": coding}
    replies = {
        "/a": (200, head, pack(PNG)),
        "/bomb": (200, head, pack(bytes(500_000))),
        "/broken": (200, head, b"\x1f\x8bnonsense"),
    }
    with Site(replies) as site:
        assert fetch(f"{site.url}/a")[0] == PNG
        assert "has more bytes than max_bytes=1000" in str(failure(f"{site.url}/bomb"))
        assert type(failure(f"{site.url}/broken")) is ConnectionFailed


def test_a_packed_bomb_is_not_unpacked() -> None:
    with Site({"/a": (200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(50_000_000)))}) as site:
        tracemalloc.start()
        try:
            failure(f"{site.url}/a", max_bytes=100_000)
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()


def test_an_unknown_coding_is_refused() -> None:
    with Site({"/a": (200, {"Content-Encoding": "br"}, b"x")}) as site:
        assert "is sent in the coding 'br'" in str(failure(f"{site.url}/a"))


def drip(*pieces: bytes) -> list[Any]:
    """Steps that send something every twentieth of a second, which no time limit between two pieces would notice."""
    return [step for piece in pieces for step in (piece, Sleep(0.05))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "steps",
    [
        [Sleep(20)],
        [READ, Sleep(20)],
        [READ, *drip(*[b"HTTP/1.1 200 OK\r\n", *[b"X-More: 1\r\n"] * 200])],
        [READ, b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", *drip(*[b"x"] * 200)],
        [READ, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *drip(*[chunked(b"x", end=b"")] * 200)],
        [READ, b"HTTP/1.1 200 OK\r\n\r\n", *drip(*[b"x"] * 200)],
    ],
    ids=["no word", "no reply", "head", "body", "chunks", "until closed"],
)
def test_a_server_that_takes_its_time_is_left_in_time(steps: list[Any]) -> None:
    with ScriptedServer(steps) as server:
        error = failure(f"{server.url}/a", timeout=0.3)
        assert type(error) is RequestTimeout
        assert str(error) == f"'{server.url}/a' was not downloaded within 0.3 s; raise download_timeout"
        assert eventually(no_thread_is_left)


def no_thread_is_left() -> bool:
    return all(thread.name != "flexllm-session" for thread in threading.enumerate())


@pytest.mark.slow
def test_the_time_limit_is_one_for_all_redirects() -> None:
    def later(place: str) -> Callable[[], Reply]:
        def answer() -> Reply:
            time.sleep(0.15)
            return moved(place)

        return answer

    with Site({"/a": later("/b"), "/b": later("/c"), "/c": later("/d"), "/d": (200, {}, PNG)}) as site:
        assert type(failure(f"{site.url}/a", timeout=0.3)) is RequestTimeout
        assert "/d" not in site.asked


def test_an_abort_ends_a_download_at_once() -> None:
    cancel = CancelToken()
    with ScriptedServer([READ, lambda sock: cancel.abort(), Sleep(20)]) as server:
        assert type(failure(f"{server.url}/a", cancel=cancel)) is RequestCancelled
        assert eventually(no_thread_is_left)


# --- Private addresses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "10.0.0.1",
    ],
)
def test_a_private_host_is_not_asked_however_it_is_written(host: str) -> None:
    with ScriptedServer([READ, http_reply(PNG)]) as server:
        error = failure(f"http://{host}:{server.port}/a?x=1", allow_private=False)
        assert type(error) is InputError
        assert "which is no public address; set allow_private=True if it may be asked" in str(error)
        assert f"'http://{host}:{server.port}/a' leads to " in str(error)
        assert server.connections == 0


def test_a_private_host_is_asked_where_that_is_allowed() -> None:
    with Site({"/a": (200, {}, PNG)}) as site:
        for host in ("127.0.0.1", "localhost", "2130706433"):
            assert fetch(f"http://{host}:{site.port}/a")[0] == PNG


def addresses(*places: str) -> Callable[..., Any]:
    """A name look-up that gives one address after the other, the last one for ever."""
    left = list(places)

    def look_up(host: str, port: int, *args: Any, **more: Any) -> Any:
        place = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port))]

    return look_up


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_name_that_changes_its_address_is_seen_through_before_a_byte_is_sent(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", addresses("93.184.216.34", "127.0.0.1"))
    with ScriptedServer([READ, http_reply(PNG)]) as server:
        error = failure(f"{scheme}://rebound.example:{server.port}/a", allow_private=False)
        assert type(error) is InputError
        assert f"'{scheme}://rebound.example:{server.port}/a' leads to 127.0.0.1, which is no public" in str(error)
        assert eventually(lambda: server.connections == 1)
        assert server.received == [bytearray()]


def test_a_name_with_a_public_and_a_private_address_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(host: str, port: int, *args: Any, **more: Any) -> Any:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", port, 0, 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert "leads to fd00::1" in str(failure("http://two.example/a", allow_private=False))


@pytest.mark.parametrize(
    "place", ["http://127.0.0.2:{port}/secret", "http://169.254.169.254/latest/meta-data/", "//[::1]/x"]
)
def test_each_redirect_is_looked_at_anew(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "is_public", lambda address: address == "127.0.0.1")
    replies: dict[str, Any] = {"/a": (200, {}, PNG)}
    with Site(replies) as site:
        assert fetch(f"{site.url}/a", allow_private=False)[0] == PNG
        replies["/b"] = moved(place.format(port=site.port))
        error = failure(f"{site.url}/b", allow_private=False)
        assert type(error) is InputError
        assert "is no public address" in str(error)
        assert site.asked == ["/a", "/b"]


# --- Proxies ----------------------------------------------------------------------------------------------------------


def test_a_proxy_is_used_and_the_name_is_checked_in_the_place_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    replies: dict[str, Any] = {"http://photos.invalid/a": (200, {}, PNG)}
    with Site(replies) as site:
        monkeypatch.setenv("HTTP_PROXY", site.url)
        assert fetch("http://photos.invalid/a", allow_private=False)[0] == PNG
        for host in ("127.0.0.1", "localhost", "169.254.169.254", "2130706433"):
            assert "is no public address" in str(failure(f"http://{host}/a", allow_private=False))
        assert site.asked == ["http://photos.invalid/a"]


def test_proxies_come_from_the_options_too_and_the_environment_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with Site({"/a": (200, {}, PNG), "http://photos.invalid/a": (200, {}, PNG)}) as site:
        given = TransportOptions(proxies={"http": site.url})
        assert fetch("http://photos.invalid/a", options=given)[0] == PNG
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")
        assert fetch(f"{site.url}/a", options=TransportOptions(trust_env=False))[0] == PNG
        assert type(failure("http://photos.invalid/a")) is ConnectionFailed
        monkeypatch.setenv("HTTP_PROXY", "http://:0")
        assert type(failure("http://photos.invalid/a")) is ConfigError


# --- TLS --------------------------------------------------------------------------------------------------------------


def test_over_tls_with_a_certificate_that_is_known(tls: ssl.SSLContext, certificate: Path) -> None:
    with ScriptedServer([READ, http_reply(PNG)], tls=tls) as server:
        assert fetch(f"{server.url}/a", options=TransportOptions(verify=str(certificate)))[0] == PNG


def test_over_tls_with_a_certificate_that_is_not(tls: ssl.SSLContext) -> None:
    with ScriptedServer([READ, http_reply(PNG)], tls=tls) as server:
        assert type(failure(f"{server.url}/a")) is TlsFailed


@pytest.mark.slow
def test_over_tls_too_a_trickling_server_is_left_in_time(tls: ssl.SSLContext, certificate: Path) -> None:
    steps = [READ, b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", *drip(*[b"x"] * 200)]
    with ScriptedServer(steps, tls=tls) as server:
        options = TransportOptions(verify=str(certificate))
        assert type(failure(f"{server.url}/a", timeout=0.5, options=options)) is RequestTimeout
        assert eventually(no_thread_is_left)


# --- The store and the backend over a real server ---------------------------------------------------------------------


def test_many_threads_that_want_one_url_make_one_request() -> None:
    gate = threading.Barrier(8)

    def slowly() -> Reply:
        time.sleep(0.05)
        return 200, {"Content-Type": "image/jpeg"}, PNG

    with Site({"/a": slowly}) as site, ThreadPoolExecutor(8) as threads:
        media = MediaStore(MediaOptions(allow_private=True))

        def ask(_: int) -> str:
            gate.wait(LONGEST_WAIT)
            return media.data_uri(f"{site.url}/a", "image")

        assert set(threads.map(ask, range(8))) == {encoded(PNG, "image/png")}
        assert media.data_uri(f"{site.url}/a", "image") == encoded(PNG, "image/png")
        assert site.asked == ["/a"]


def test_a_request_reaches_the_provider_with_the_download_inline() -> None:
    with Site({"/a.png": (200, {"Content-Type": "text/plain"}, PNG)}) as site:
        provider = PlainProvider(inline_remote=frozenset({"image"}))
        setup = Setup(ok(), ok(), provider=provider, media=MediaStore(MediaOptions(allow_private=True)))
        part = {"type": "image_url", "image_url": {"url": f"{site.url}/a.png"}}
        for _ in range(2):
            setup.attempts.complete(ChatRequest([{"role": "user", "content": [part]}], "m"))
        assert site.asked == ["/a.png"]
        for seen in provider.asked:
            assert seen.messages[0]["content"][0]["image_url"]["url"] == encoded(PNG, "image/png")


def test_by_default_a_client_does_not_ask_its_own_machine() -> None:
    with Site({"/a.png": (200, {}, PNG)}) as site:
        setup = Setup(provider=PlainProvider(inline_remote=frozenset({"image"})), media=MediaStore(MediaOptions()))
        part = {"type": "image_url", "image_url": {"url": f"http://localhost:{site.port}/a.png"}}
        with pytest.raises(InputError, match=r"message 0, part 0: .* leads to .*, which is no public address"):
            setup.attempts.complete(ChatRequest([{"role": "user", "content": [part]}], "m"))
        assert site.asked == []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_reads_media_of_its_own_while_the_parent_is_downloading() -> None:
    asked, answer = threading.Event(), threading.Event()

    def held_up(sock: socket.socket) -> None:
        asked.set()
        answer.wait(LONGEST_WAIT)

    with ScriptedServer([READ, held_up, http_reply(PNG)], [READ, http_reply(PNG)]) as server:
        media = MediaStore(MediaOptions(allow_private=True))
        with ThreadPoolExecutor(1) as threads:
            parents = threads.submit(media.data_uri, f"{server.url}/a", "image")
            assert asked.wait(LONGEST_WAIT)
            child = os.fork()
            if not child:
                os._exit(0 if media.data_uri(f"{server.url}/a", "image") == encoded(PNG, "image/png") else 1)
            assert os.waitpid(child, 0)[1] == 0
            answer.set()
            assert parents.result(LONGEST_WAIT) == encoded(PNG, "image/png")
        assert server.connections == 2
