"""Certificates for servers of tests, signed by themselves. They need the openssl command."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path


def make_certificate(folder: Path, names: Iterable[str]) -> tuple[Path, Path]:
    """Make a certificate; return its path and that of its key.

    Args:
        names: Whom it is for, such as "DNS:example.com" or "IP:127.0.0.1".
    """
    path, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=tests", "-addext", f"subjectAltName={','.join(names)}", "-keyout", key, "-out", path],
        check=True, capture_output=True,
    )  # fmt: skip
    return path, key
