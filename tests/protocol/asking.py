"""Requests as header lines, and what a refusal looks like: for all tests of the codec."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tusd_py.core.upload import UploadId
from tusd_py.errors import RequestError
from tusd_py.protocol.headers import Headers
from tusd_py.protocol.tus import BODY_TYPE

BASE = "/files/"
ID = UploadId("0123456789abcdef0123456789abcdef")

TYPE = ("Content-Type", BODY_TYPE)

NOT_INTEGERS = {
    "plus": "+5",
    "minus": "-5",
    "underscore": "5_0",
    "blank inside": "5 0",
    "decimal point": "5.0",
    "exponent": "5e3",
    "hex": "0x5",
    "letters": "five",
    "empty": "",
    "arabic-indic": "\u0665",
    "full-width": "\uff15",
    "superscript": "\xb2",
    "no-break space": "\xa05",
    "vertical tab": "\x0b5",
    "line feed": "5\n",
    "two, as a list": "5, 5",
    "2^63": str(2**63),
    "2^64": str(2**64),
    "5000 digits": "9" * 5000,
}
"""tus K1 and what Python's own int() would take."""


def ask(*lines: tuple[str, str]) -> Headers:
    """The headers of a request, as a server hands them over: in bytes, with the blanks that HTTP allows."""
    return Headers.of_raw((name.encode("latin-1"), _wire(value)) for name, value in lines)


def _wire(value: str) -> bytes:
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def sha1(data: bytes) -> str:
    return "sha1 " + b64(hashlib.sha1(data).digest())


@contextmanager
def refused(status: int, code: str | None = None) -> Iterator[pytest.ExceptionInfo[RequestError]]:
    with pytest.raises(RequestError) as caught:
        yield caught
    assert caught.value.status == status, caught.value
    if code is not None:
        assert caught.value.code == code, caught.value
