"""The hosts that examples name, served from 127.0.0.1: a proxy that leads every one of them to a mock server.

Nothing in an example knows of it: HTTPS_PROXY and HTTP_PROXY lead it here, and REQUESTS_CA_BUNDLE trusts the certificate.
Balances are those of `balances.ANSWERS`. A host that is not served is refused, and kept in `refused`.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from pathlib import Path

from balances import ANSWERS

from flexllm.mock import MockServer

PREFIXES = {
    "api.openai.com": "",
    "api.deepseek.com": "",
    "api.anthropic.com": "",
    "generativelanguage.googleapis.com": "",
    "aiplatform.googleapis.com": "",
    "us-central1-aiplatform.googleapis.com": "",
    "openrouter.ai": "/api",
    "dashscope.aliyuncs.com": "/compatible-mode",
    "api.siliconflow.cn": "",
    "billing.aimlapi.com": "",
    "localhost": "",
    "fast-api.com": "",
    "slow-api.com": "",
}
"""What a host puts before the paths that a mock server knows. Beside these, every host below example.com is served."""

NAMES = tuple(f"DNS:{host}" for host in (*PREFIXES, "example.com", "*.example.com"))
"""What the certificate of all hosts is for."""

PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0f01f00050001ffa3d4ec"
    "160000000049454e44ae426082"
)
"""One pixel, as PNG: what every path that ends with .png holds."""


class Internet:
    """The proxy. Use as `with Internet(server, certificate, key) as internet:`.

    Attributes:
        refused: Hosts that were asked for and are not served.
    """

    def __init__(self, server: MockServer, certificate: Path, key: Path) -> None:
        self.refused: list[str] = []
        self._server = server
        self._certificate = certificate
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._thread = threading.Thread(target=self._listen)

    @property
    def env(self) -> dict[str, str]:
        """The environment that leads a program here. Servers that an example starts itself are at 127.0.0.1."""
        proxy = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        named = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), proxy)
        certificate = str(self._certificate)
        return {
            **named,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "REQUESTS_CA_BUNDLE": certificate,
            "CURL_CA_BUNDLE": certificate,
            "SSL_CERT_FILE": certificate,
        }

    def __enter__(self) -> Internet:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve_safely, args=(connection,), daemon=True).start()

    def _serve_safely(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(60)
            try:
                self._serve(connection)
            except OSError:  # the client left
                pass

    def _serve(self, connection: socket.socket) -> None:
        head, rest = _read_head(connection)
        method, target, _version = head[0].split(" ")
        if method == "CONNECT":
            host = target.partition(":")[0]
            if self._is_served(host, connection):
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                with self._tls.wrap_socket(connection, server_side=True) as inside:
                    self._answer(inside, host, *_read_head(inside))
        else:
            host, _, path = target.removeprefix("http://").partition("/")
            host = host.partition(":")[0]
            if self._is_served(host, connection):
                self._answer(connection, host, [f"{method} /{path} HTTP/1.1", *head[1:]], rest)

    def _is_served(self, host: str, connection: socket.socket) -> bool:
        if host in PREFIXES or host == "example.com" or host.endswith(".example.com"):
            return True
        self.refused.append(host)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return False

    def _answer(self, client: socket.socket, host: str, head: list[str], rest: bytes) -> None:
        """Answer one request; the connection is then closed."""
        method, path, _version = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = _read_body(client, rest, int(headers.get("content-length", 0)))
        if f"{host}{path}" in ANSWERS:
            client.sendall(_reply("application/json", json.dumps(ANSWERS[f"{host}{path}"]).encode()))
        elif path.endswith(".png"):
            client.sendall(_reply("image/png", PICTURE))
        else:
            path = path.removeprefix(PREFIXES.get(host, ""))
            kept = [line for line in head[1:] if not line.lower().startswith(("connection:", "proxy-"))]
            first = "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""])
            self._forward(client, first.encode("latin-1") + body)

    def _forward(self, client: socket.socket, request: bytes) -> None:
        """Pass a request to the mock server, and everything that it answers back."""
        host, _, port = self._server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=60) as server:
            server.sendall(request)
            while piece := server.recv(65_536):
                client.sendall(piece)


def _read_head(connection: socket.socket) -> tuple[list[str], bytes]:
    """Return the lines of a request's head, and what has come of its body."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65_536)
        if not piece:
            raise ConnectionError("the client left")
        head += piece
    before, _, rest = head.partition(b"\r\n\r\n")
    return before.decode("latin-1").split("\r\n"), rest


def _read_body(connection: socket.socket, begun: bytes, length: int) -> bytes:
    while len(begun) < length:
        piece = connection.recv(65_536)
        if not piece:
            raise ConnectionError("the client left")
        begun += piece
    return begun


def _reply(kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
