"""Certificates for tests, signed by themselves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_MAKE = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]


def make_certificate(certificate: Path, key: Path, name: str = "localhost") -> None:
    """Write both as PEM files. Skips the test where there is no openssl."""
    names = f"subjectAltName=DNS:{name},IP:127.0.0.1"
    _openssl(*_MAKE, "-subj", f"/CN={name}", "-addext", names, "-keyout", str(key), "-out", str(certificate))


def lock_key(key: Path, locked: Path, password: str) -> None:
    _openssl("openssl", "ec", "-in", str(key), "-aes128", "-passout", f"pass:{password}", "-out", str(locked))


def _openssl(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("missing: openssl, to make certificates")
