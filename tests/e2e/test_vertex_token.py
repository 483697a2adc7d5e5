"""Google credentials against a token server on loopback: what is asked of it, how often, and what its failures become."""

from __future__ import annotations

import base64
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from fakes import CLOSE, READ, RESET, ScriptedServer, Step, http_reply, unused_port

import flexllm.vertex.google
from flexllm.errors import AuthenticationFailed, ConfigError, ConnectionFailed, TlsFailed
from flexllm.vertex import REFRESH_MARGIN, SCOPE, google_credentials

pytest.importorskip("google.auth")

JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EMAIL = "robot@my-project.iam.gserviceaccount.com"


@pytest.fixture(autouse=True)
def no_google_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("GOOGLE_", "CLOUDSDK_", "GCLOUD_", "GCE_")):
            monkeypatch.delenv(name)


def token_reply(number: int, **more: object) -> bytes:
    body = {"access_token": f"ya29.token-{number}", "expires_in": 3599, "token_type": "Bearer", **more}
    return http_reply(json.dumps(body).encode(), "Content-Type: application/json")


def asked_once(reply: bytes) -> list[Step]:
    return [READ, reply, CLOSE]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(*(asked_once(token_reply(number)) for number in (1, 2, 3))) as server:
        yield server


def form_of(raw: bytes) -> dict[str, str]:
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /token ")
    return {name: values[0] for name, values in parse_qs(body.decode(), strict_parsing=True).items()}


def bearer(number: int) -> tuple[tuple[str, str], ...]:
    return (("Authorization", f"Bearer ya29.token-{number}"),)


def user(url: str) -> Any:
    from google.oauth2.credentials import Credentials

    known: Any = Credentials
    return known(
        None, refresh_token="1//refresh", token_uri=f"{url}/token", client_id="client-id", client_secret="client-secret"
    )


@pytest.fixture(scope="session")
def private_key() -> Any:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def key_file(private_key: Any, tmp_path: Path) -> Callable[..., Path]:
    """Give a function that writes a service account's key file for a token server."""
    from cryptography.hazmat.primitives import serialization as to

    pem = private_key.private_bytes(to.Encoding.PEM, to.PrivateFormat.PKCS8, to.NoEncryption()).decode()

    def write(url: str, **more: object) -> Path:
        content = {
            "type": "service_account",
            "project_id": "my-project",
            "private_key_id": "key-1",
            "private_key": pem,
            "client_email": EMAIL,
            "client_id": "1234567890",
            "token_uri": f"{url}/token",
            **more,
        }
        path = tmp_path / "key.json"
        path.write_text(json.dumps(content))
        return path

    return write


def claims_of(assertion: str, private_key: Any) -> dict[str, Any]:
    """Return what a JWT claims, after its signature is checked, without google-auth."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    signed, _, signature = assertion.rpartition(".")
    padded = [part + "=" * (-len(part) % 4) for part in (*signed.split("."), signature)]
    head, claims, seal = (base64.urlsafe_b64decode(part) for part in padded)
    private_key.public_key().verify(seal, signed.encode(), PKCS1v15(), SHA256())
    assert json.loads(head)["alg"] == "RS256"
    found: dict[str, Any] = json.loads(claims)
    return found


@pytest.mark.parametrize("way", ["path", "mapping", "environment"])
def test_a_service_account_gets_a_token_for_a_signed_claim(
    server: ScriptedServer,
    key_file: Callable[..., Path],
    private_key: Any,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    path = key_file(server.url)
    if way == "environment":
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    given: dict[str, Any] = {"path": path, "mapping": json.loads(path.read_text()), "environment": None}
    credentials = google_credentials(given[way], project_id=None)
    assert credentials.project == "my-project"
    assert server.connections == 0
    assert [credentials.headers(), credentials.headers()] == [bearer(1), bearer(1)]
    (form,) = map(form_of, server.requests)
    assert form["grant_type"] == JWT_GRANT
    claims = claims_of(form["assertion"], private_key)
    assert (claims["iss"], claims["scope"]) == (EMAIL, SCOPE)
    assert abs(claims["iat"] - time.time()) < 60
    assert claims["exp"] - claims["iat"] <= 3600


def test_a_quota_project_of_a_key_file_goes_with_each_request(
    server: ScriptedServer, key_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "who-pays")
    credentials = google_credentials(key_file(server.url), project_id=None)
    assert credentials.headers() == (*bearer(1), ("x-goog-user-project", "who-pays"))


def test_a_user_gets_a_token_for_a_refresh_token(server: ScriptedServer) -> None:
    credentials = google_credentials(user(server.url), project_id="p")
    assert credentials.headers() == bearer(1)
    (form,) = map(form_of, server.requests)
    assert form == {
        "grant_type": "refresh_token",
        "client_id": "client-id",
        "client_secret": "client-secret",
        "refresh_token": "1//refresh",
    }


def test_a_token_is_renewed_before_the_servers_end_of_it(server: ScriptedServer) -> None:
    later = 0.0
    credentials = google_credentials(user(server.url), project_id="p", clock=lambda: time.time() + later)
    assert credentials.headers() == bearer(1)
    later = 3599 - REFRESH_MARGIN - 60  # a minute for a slow machine
    assert credentials.headers() == bearer(1)
    later = 3599 - REFRESH_MARGIN
    assert credentials.headers() == bearer(2)
    assert server.connections == 2


def test_thirty_threads_ask_the_server_once(server: ScriptedServer) -> None:
    credentials = google_credentials(user(server.url), project_id="p")
    together = threading.Barrier(30)
    answers: list[object] = []

    def ask() -> None:
        together.wait(60)
        answers.append(credentials.headers())

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [bearer(1)] * 30
    assert server.connections == 1


REFUSED = b'{"error": "invalid_grant", "error_description": "Token has been expired or revoked."}'


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        (http_reply(REFUSED, status="400 Bad Request"), AuthenticationFailed, "invalid_grant: Token has been expired"),
        (http_reply(b"{}", status="401 Unauthorized"), AuthenticationFailed, r"\{\}"),
        (http_reply(b"<html>no</html>", status="404 Not Found"), AuthenticationFailed, "<html>no"),
        (http_reply(b'{"token_type": "Bearer"}'), AuthenticationFailed, "No access token in response"),
        (http_reply(b"not JSON"), AuthenticationFailed, "no access token"),
        (token_reply(1, access_token=None), AuthenticationFailed, "no token that a header can carry"),
        (token_reply(1, access_token="two\r\nlines"), AuthenticationFailed, "no token that a header can carry"),
        (token_reply(1, expires_in="soon"), AuthenticationFailed, "soon"),
        (b"", ConnectionFailed, "(?i)connection"),
    ],
)
def test_a_reply_without_a_token_is_an_error_that_says_why(reply: bytes, kind: type[Exception], reason: str) -> None:
    with ScriptedServer(asked_once(reply)) as server:
        credentials = google_credentials(user(server.url), project_id="p")
        with pytest.raises(kind, match=reason) as caught:
            credentials.headers()
    for secret in ("client-secret", "1//refresh"):
        assert secret not in str(caught.value)


def test_a_connection_that_is_reset_can_be_tried_again() -> None:
    with ScriptedServer([READ, RESET], asked_once(token_reply(1))) as server:
        credentials = google_credentials(user(server.url), project_id="p")
        with pytest.raises(ConnectionFailed):
            credentials.headers()
        assert credentials.headers() == bearer(1)


def test_a_server_that_is_not_there_is_a_failed_connection() -> None:
    credentials = google_credentials(user(f"http://127.0.0.1:{unused_port()}"), project_id="p")
    with pytest.raises(ConnectionFailed, match="refused"):
        credentials.headers()


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flexllm.vertex.google, "TOKEN_TIMEOUT", 0.05)
    with ScriptedServer([READ]) as server:
        credentials = google_credentials(user(server.url), project_id="p")
        with pytest.raises(ConnectionFailed, match="timed out"):
            credentials.headers()


@pytest.mark.slow
def test_a_server_that_fails_is_asked_again_and_then_can_be_tried_later() -> None:
    with ScriptedServer(asked_once(http_reply(b"{}", status="503 Service Unavailable"))) as server:
        credentials = google_credentials(user(server.url), project_id="p")
        with pytest.raises(ConnectionFailed):
            credentials.headers()
        assert server.connections > 1  # google-auth's own retries


def test_a_certificate_that_is_not_accepted_is_named_as_such(private_key: Any, tmp_path: Path) -> None:
    with ScriptedServer(asked_once(token_reply(1)), tls=self_signed(private_key, tmp_path)) as server:
        credentials = google_credentials(user(server.url), project_id="p")
        with pytest.raises(TlsFailed, match=r"(?i)self.signed.*REQUESTS_CA_BUNDLE"):
            credentials.headers()


def test_a_default_file_for_a_broken_key_is_a_wrong_configuration(
    key_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = key_file("http://127.0.0.1", private_key="-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    with pytest.raises(ConfigError, match=r"key.json' is not valid"):
        google_credentials(path, project_id="p")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(ConfigError, match="no Google credentials can be used"):
        google_credentials(None, project_id="p").headers()


def self_signed(private_key: Any, folder: Path) -> ssl.SSLContext:
    """Return a server's context with a certificate for 127.0.0.1 that nobody vouches for."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import serialization as to
    from cryptography.hazmat.primitives.hashes import SHA256

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(private_key, SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        private_key.private_bytes(to.Encoding.PEM, to.PrivateFormat.PKCS8, to.NoEncryption())
        + certificate.public_bytes(to.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
