"""Upload-Checksum (tus S3, S5, S7, S8)."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from asking import ID, TYPE, ask, b64, refused, sha1

from tusd_py.core.checksum import ALGORITHMS, Checksum
from tusd_py.protocol.checksum import parse_checksum
from tusd_py.protocol.tus import announces_checksum, decode_append

CODE = "ERR_INVALID_CHECKSUM"
HELLO = b"hello world"

DIGESTS = {
    "sha1": hashlib.sha1(HELLO).digest(),
    "sha256": hashlib.sha256(HELLO).digest(),
    "sha512": hashlib.sha512(HELLO).digest(),
    "md5": hashlib.md5(HELLO).digest(),
    "crc32": zlib.crc32(HELLO).to_bytes(4, "big"),
}


def test_S5_S8_the_example_of_the_specification() -> None:
    checksum = parse_checksum("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=")
    assert checksum == Checksum("sha1", hashlib.sha1(HELLO).digest())


def test_S5_sha1_is_known_and_names_are_lower_case() -> None:
    assert "sha1" in ALGORITHMS
    assert all(name == name.lower() and name.isascii() for name in ALGORITHMS)


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "crc32c"])
def test_S8_every_algorithm_accepts_its_digest_and_no_other(name: str) -> None:
    checksum = parse_checksum(f"{name} {b64(DIGESTS[name])}")
    assert checksum is not None
    hasher = checksum.hasher()
    for piece in (HELLO[:4], memoryview(HELLO)[4:], bytearray()):
        hasher.update(piece)
    assert checksum.matches(hasher)
    hasher.update(b"!")
    assert not checksum.matches(hasher)


@pytest.mark.skipif("crc32c" not in ALGORITHMS, reason="missing: google-crc32c")
def test_S8_crc32c_is_castagnolis() -> None:
    checksum = parse_checksum(f"crc32c {b64(bytes.fromhex('e3069283'))}")  # the check value of RFC 3720's CRC
    assert checksum is not None
    hasher = checksum.hasher()
    hasher.update(b"1234")
    hasher.update(b"56789")
    assert checksum.matches(hasher)


def test_no_field_is_no_checksum() -> None:
    assert parse_checksum(None) is None


WRONG = {
    "empty": "",
    "unknown": "sha3 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "upper case": "SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "with a dash": "sha-1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "no digest": "sha1",
    "empty digest": "sha1 ",
    "no blank": "sha1Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "two blanks": "sha1  Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "too short": "sha1 " + b64(b"x" * 19),
    "too long": "sha1 " + b64(b"x" * 21),
    "of another algorithm": "sha1 " + b64(b"x" * 32),
    "hex": "sha1 " + hashlib.sha1(HELLO).hexdigest(),
    "one = too many": "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0==",
    "no padding": "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0",
    "blank inside": "sha1 Kq5sNclPz7QV 2+lfQIuc6R7oRu0=",
    "url alphabet": "sha1 Kq5sNclPz7QV2-lfQIuc6R7oRu0=",
    "latin-1": "sha1 Kq5sNclPz7QV2+lfQIuc6R7oR\xfc0=",
    "two of them": "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=,md5 XrY7u+Ae7tCTyyK7j1rNww==",
    "beyond latin-1": "\uff53ha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
}


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
def test_S3_an_unknown_algorithm_or_a_digest_that_is_none_is_400(value: str) -> None:
    with refused(400, CODE):
        parse_checksum(value)


def test_S3_two_different_checksums_are_400_and_two_equal_ones_are_one() -> None:
    lines = (TYPE, ("Upload-Offset", "0"), ("Upload-Checksum", sha1(HELLO)))
    assert decode_append(ID, ask(*lines, ("Upload-Checksum", sha1(HELLO)))).checksum == Checksum(
        "sha1", DIGESTS["sha1"]
    )
    with refused(400):
        decode_append(ID, ask(*lines, ("Upload-Checksum", sha1(b"other"))))


@pytest.mark.parametrize(
    ("lines", "is_announced"),
    [
        ([], False),
        ([("Trailer", "Upload-Checksum")], True),
        ([("trailer", "upload-checksum")], True),
        ([("Trailer", "X-Other , UPLOAD-CHECKSUM")], True),
        ([("Trailer", "X-Other"), ("Trailer", "Upload-Checksum")], True),
        ([("Trailer", "X-Upload-Checksum")], False),
        ([("Trailer", "")], False),
    ],
)
def test_S7_a_trailer_is_announced(lines: list[tuple[str, str]], is_announced: bool) -> None:
    assert announces_checksum(ask(*lines)) is is_announced
