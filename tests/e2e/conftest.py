"""What several of the tests over real sockets need."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import pytest
from certificates import make_certificate


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1, signed by itself, in one file with its key."""
    if not shutil.which("openssl"):
        pytest.skip("the openssl command is needed to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    path, key = make_certificate(folder, ["IP:127.0.0.1"])
    both = folder / "both.pem"
    both.write_bytes(key.read_bytes() + path.read_bytes())
    return both


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
