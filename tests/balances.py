"""Services that tell balances, as they are on the network: their own hosts, over TLS, behind a proxy on 127.0.0.1.

Nothing in the program knows of it: it is led here by HTTPS_PROXY, and trusts the certificate by --ca-bundle or
REQUESTS_CA_BUNDLE. By hand: `python tests/balances.py` prints what to set, and serves until Ctrl-C.
"""

from __future__ import annotations

import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from certificates import make_certificate

ANSWERS: Mapping[str, Any] = {
    "openrouter.ai/api/v1/key": {
        "data": {
            "label": "sk-or-v1-cef...559", "usage": 53.37, "usage_daily": 3.3637, "usage_weekly": 20.1,
            "usage_monthly": 53.36, "limit": 150, "limit_remaining": 96.63, "limit_reset": None,
        }
    },
    "openrouter.ai/api/v1/credits": {"data": {"total_credits": 500, "total_usage": 100}},
    "api.siliconflow.cn/v1/user/info": {
        "code": 20000, "message": "OK", "status": True,
        "data": {"id": "u", "name": "", "balance": "0.88", "chargeBalance": "88.00", "totalBalance": "88.88"},
    },
    "api.deepseek.com/user/balance": {
        "is_available": True,
        "balance_infos": [
            {"currency": "CNY", "total_balance": "110.00", "granted_balance": "10.00", "topped_up_balance": "100.00"},
            {"currency": "USD", "total_balance": "3.50", "granted_balance": "0.00", "topped_up_balance": "3.50"},
        ],
    },
    "billing.aimlapi.com/v1/billing/balance": {"balance": 551564495, "lowBalance": False, "status": "current"},
    "api.openai.com/v1/dashboard/billing/credit_grants": {
        "object": "credit_summary", "total_granted": 18.0, "total_used": 5.5, "total_available": 12.5,
    },
}  # fmt: skip
"""What each service answers, by host and path, as its API reference has it."""

HOSTS = tuple(dict.fromkeys(place.partition("/")[0] for place in ANSWERS))

NAMES = tuple(f"DNS:{host}" for host in HOSTS)
"""What their certificate is for."""


class Seen(NamedTuple):
    """One request."""

    host: str
    path: str
    authorization: str | None


class BalanceServices:
    """All of them at once. Use as `with BalanceServices(certificate, key) as services:`.

    Attributes:
        seen: The requests that came, in order.
        answers: By host and path; to be changed. A pair is a status and what is answered with it.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate = certificate
        self.seen: list[Seen] = []
        self.answers: dict[str, Any] = dict(ANSWERS)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._listen)

    @property
    def env(self) -> dict[str, str]:
        """The environment that leads a command here."""
        port = self._listener.getsockname()[1]
        return {"HTTPS_PROXY": f"http://127.0.0.1:{port}", "REQUESTS_CA_BUNDLE": str(self.certificate)}

    def __enter__(self) -> BalanceServices:
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
            with connection:
                connection.settimeout(60)
                try:
                    self._serve(connection)
                except OSError:  # the client left, or does not trust the certificate
                    pass

    def _serve(self, connection: socket.socket) -> None:
        line, _ = _read_head(connection)
        host = line.split()[1].partition(":")[0]
        if not line.startswith("CONNECT ") or host not in HOSTS:
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with self._tls.wrap_socket(connection, server_side=True) as inside:
            line, headers = _read_head(inside)
            path = line.split()[1]
            self.seen.append(Seen(host, path, headers.get("authorization")))
            answer = self.answers.get(f"{host}{path}", (404, {"error": {"message": "nothing here"}}))
            status, value = answer if isinstance(answer, tuple) else (200, answer)
            body = json.dumps(value).encode()
            head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            inside.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)


def _read_head(connection: socket.socket) -> tuple[str, dict[str, str]]:
    """Return the first line of a request, and its headers by their names in small letters."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65_536)
        if not piece:
            raise ConnectionError("the client left")
        head += piece
    first, *lines = head.decode("latin-1").partition("\r\n\r\n")[0].split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return first, {name.lower(): value.strip() for name, _, value in pairs}


def main() -> None:
    """Serve until Ctrl-C."""
    with tempfile.TemporaryDirectory() as folder, BalanceServices(*make_certificate(Path(folder), NAMES)) as services:
        for name, value in services.env.items():
            print(f"export {name}={value}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
