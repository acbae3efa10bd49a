"""Checksum and checksum-trailer (S)."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from client import Chunks
from target import OFFSET_TYPE, Target, noise

pytestmark = pytest.mark.needs("checksum")

trailer = pytest.mark.needs("checksum-trailer")

ALGORITHMS = ["sha1", "md5", "sha256", "sha384", "sha512", "crc32"]


def checksum(content: bytes, algorithm: str = "sha1") -> str:
    if algorithm == "crc32":
        digest = zlib.crc32(content).to_bytes(4, "big")
    else:
        digest = hashlib.new(algorithm, content).digest()
    return f"{algorithm} {base64.b64encode(digest).decode()}"


WRONG = checksum(b"something else")
MALFORMED = [
    "",
    "sha1",
    "sha1 ",
    "sha1 !!!!",
    "sha1 YQ",
    "sha1  " + WRONG[5:] + "=",
    WRONG.replace(" ", ":"),
    WRONG[5:],
]
UNKNOWN = ["sha0 YQ==", "SHA1 " + WRONG[5:], "sha-1 " + WRONG[5:], "../sha1 YQ==", "__init__ YQ==", "shake_128 YQ=="]


def test_S5_S6_sha1_is_announced(target: Target) -> None:
    assert "sha1" in target.announced.tokens("Tus-Checksum-Algorithm")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_S2_right_checksum_is_204(target: Target, algorithm: str) -> None:
    if algorithm not in target.announced.tokens("Tus-Checksum-Algorithm"):
        pytest.skip(f"the server does not announce {algorithm}")
    path = target.create(11)
    answer = target.patch(path, 0, b"hello world", [("Upload-Checksum", checksum(b"hello world", algorithm))])
    assert answer.status == 204
    assert answer.header("Upload-Offset") == "11"
    target.check_content(path, b"hello world")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_S3_S4_wrong_checksum_is_460_and_changes_nothing(target: Target, algorithm: str) -> None:
    if algorithm not in target.announced.tokens("Tus-Checksum-Algorithm"):
        pytest.skip(f"the server does not announce {algorithm}")
    path = target.create(11)
    assert target.patch(path, 0, b"HELLO WORLD", [("Upload-Checksum", checksum(b"x", algorithm))]).status == 460
    target.check_resumable(path, b"hello world", at_most=0)


def test_S2_the_example_of_the_specification(target: Target) -> None:
    path = target.create(11)
    fields = [("Upload-Checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=")]
    assert target.patch(path, 0, b"hello world", fields).status == 204
    target.check_content(path, b"hello world")


@pytest.mark.parametrize("value", MALFORMED)
def test_S3_malformed_checksum_is_400_and_changes_nothing(target: Target, value: str) -> None:
    path = target.create(5)
    assert target.patch(path, 0, b"XXXXX", [("Upload-Checksum", value)]).status == 400
    target.check_resumable(path, b"hello", at_most=0)


@pytest.mark.parametrize("value", UNKNOWN)
def test_S3_unknown_algorithm_is_400_and_changes_nothing(target: Target, value: str) -> None:
    path = target.create(5)
    assert target.patch(path, 0, b"XXXXX", [("Upload-Checksum", value)]).status == 400
    target.check_resumable(path, b"hello", at_most=0)


def test_S4_digest_of_another_length_never_matches(target: Target) -> None:
    path = target.create(5)
    assert target.patch(path, 0, b"XXXXX", [("Upload-Checksum", "sha1 YQ==")]).status in (400, 460)
    target.check_resumable(path, b"hello", at_most=0)


def test_S8_checksum_is_of_this_body_only(target: Target) -> None:
    path = target.create(11)
    for offset, piece in [(0, b"hello "), (6, b"world")]:
        assert target.patch(path, offset, piece, [("Upload-Checksum", checksum(piece))]).status == 204
    target.check_content(path, b"hello world")


def test_S4_460_in_the_middle_keeps_what_was_there(target: Target) -> None:
    path = target.create(11)
    target.patch(path, 0, b"hello ")
    assert target.patch(path, 6, b"WORLD", [("Upload-Checksum", WRONG)]).status == 460
    assert target.patch(path, 6, b"WO", [("Upload-Checksum", WRONG)]).status == 460
    target.check_resumable(path, b"hello world", at_most=6)


def test_S4_460_of_a_large_body_leaves_nothing_behind(target: Target) -> None:
    content = noise(1_200_000)
    path = target.create(len(content))
    assert target.patch(path, 0, noise(1_100_000, seed=2), [("Upload-Checksum", WRONG)]).status == 460
    target.check_resumable(path, content, at_most=0)


@pytest.mark.needs("creation-defer-length")
def test_S4_460_does_not_set_the_length_or_keep_bytes(target: Target) -> None:
    path = target.create(None)
    assert target.patch(path, 0, b"XXXXXXX", [("Upload-Length", "7"), ("Upload-Checksum", WRONG)]).status == 460
    assert target.offset(path) == 0
    assert target.patch(path, 0, b"hello").status == 204
    assert target.patch(path, 5, b"", [("Upload-Length", "5")]).status in (204, 400)
    assert target.offset(path) == 5


def test_S2_empty_body(target: Target) -> None:
    path = target.create(5)
    assert target.patch(path, 0, b"", [("Upload-Checksum", checksum(b""))]).status == 204
    assert target.patch(path, 0, b"", [("Upload-Checksum", WRONG)]).status == 460
    target.check_resumable(path, b"hello", at_most=0)


def test_S2_chunked_body(target: Target) -> None:
    path = target.create(11)
    body = Chunks((b"hello", b" world"))
    assert target.patch(path, 0, body, [("Upload-Checksum", WRONG)]).status == 460
    assert target.patch(path, 0, body, [("Upload-Checksum", checksum(b"hello world"))]).status == 204
    target.check_content(path, b"hello world")


def test_S4_K15_wrong_offset_comes_before_wrong_checksum(target: Target) -> None:
    path = target.create(5)
    assert target.patch(path, 3, b"lo", [("Upload-Checksum", WRONG)]).status == 409
    target.check_resumable(path, b"hello", at_most=0)


def test_S4_body_past_the_length_keeps_nothing(target: Target) -> None:
    path = target.create(5)
    body = Chunks((b"HELLO", b"!"))
    assert target.patch(path, 0, body, [("Upload-Checksum", checksum(b"HELLO!"))]).status == 413
    target.check_resumable(path, b"hello", at_most=0)


def test_S3_two_different_checksums_are_400(target: Target) -> None:
    path = target.create(5)
    fields = [("Upload-Checksum", checksum(b"hello")), ("Upload-Checksum", WRONG)]
    assert target.patch(path, 0, b"hello", fields).status == 400
    target.check_resumable(path, b"hello", at_most=0)


@pytest.mark.needs("creation-with-upload")
def test_W2_checksum_at_creation(target: Target) -> None:
    fields = [("Upload-Length", "5"), ("Content-Type", OFFSET_TYPE)]
    assert target.post([*fields, ("Upload-Checksum", WRONG)], b"hello").status == 460
    assert target.post([*fields, ("Upload-Checksum", "nope YQ==")], b"hello").status == 400
    answer = target.post([*fields, ("Upload-Checksum", checksum(b"hello"))], b"hello")
    assert answer.status == 201
    target.check_content(target.path_of(answer.header("Location")), b"hello")


@trailer
@pytest.mark.parametrize("is_named", [True, False], ids=["named", "unnamed"])
@pytest.mark.parametrize("pieces", [(b"hello world",), (b"hello", b" ", b"world")], ids=["one", "three"])
def test_S7_right_trailer_is_204(target: Target, pieces: tuple[bytes, ...], is_named: bool) -> None:
    path = target.create(11)
    body = Chunks(pieces, (("Upload-Checksum", checksum(b"hello world")),))
    fields = [("Trailer", "Upload-Checksum")] if is_named else []
    assert target.patch(path, 0, body, fields).status == 204
    target.check_content(path, b"hello world")


@trailer
@pytest.mark.parametrize("is_named", [True, False], ids=["named", "unnamed"])
def test_S7_wrong_trailer_is_460_and_changes_nothing(target: Target, is_named: bool) -> None:
    path = target.create(11)
    body = Chunks((b"HELLO", b" WORLD"), (("Upload-Checksum", WRONG),))
    fields = [("Trailer", "Upload-Checksum")] if is_named else []
    assert target.patch(path, 0, body, fields).status == 460
    target.check_resumable(path, b"hello world", at_most=0)


@trailer
@pytest.mark.parametrize("value", ["sha0 YQ==", "sha1", "sha1 !!", ""])
def test_S7_bad_trailer_is_400_and_changes_nothing(target: Target, value: str) -> None:
    path = target.create(5)
    body = Chunks((b"XXXXX",), (("Upload-Checksum", value),))
    assert target.patch(path, 0, body, [("Trailer", "Upload-Checksum")]).status == 400
    target.check_resumable(path, b"hello", at_most=0)


@trailer
def test_S7_large_body_with_trailer(target: Target) -> None:
    content = noise(700_000)
    path = target.create(len(content))
    pieces = tuple(content[start : start + 9001] for start in range(0, len(content), 9001))
    fields = [("Trailer", "Upload-Checksum")]
    wrong, right = (("Upload-Checksum", WRONG),), (("Upload-Checksum", checksum(content)),)
    assert target.patch(path, 0, Chunks(pieces, wrong), fields).status == 460
    assert target.offset(path) == 0
    assert target.patch(path, 0, Chunks(pieces, right), fields).status == 204
    target.check_content(path, content)


@trailer
def test_S7_other_trailers_mean_nothing(target: Target) -> None:
    path = target.create(5)
    trailers = (("Upload-Offset", "3"), ("Upload-Length", "9"), ("Tus-Resumable", "9.9.9"), ("X-Other", "1"))
    assert target.patch(path, 0, Chunks((b"hello",), trailers)).status == 204
    target.check_content(path, b"hello")


@trailer
def test_S7_S9_named_trailer_that_never_comes_keeps_nothing(target: Target) -> None:
    path = target.create(5)
    fields = target.patch_fields(0, [("Trailer", "Upload-Checksum"), ("Transfer-Encoding", "chunked")])
    with target.connect() as connection:
        connection.send_request("PATCH", path, fields)
        connection.send(b"3\r\nXXX\r\n")
        connection.stop_sending()
        connection.is_closed_by_server()
    assert target.patch_when_free(path, 0, b"hello").status == 204
    target.check_content(path, b"hello")


@trailer
def test_S7_connection_is_usable_after_trailers(target: Target) -> None:
    path = target.create(5)
    body = Chunks((b"hello",), (("Upload-Checksum", checksum(b"hello")),))
    with target.connect() as connection:
        fields = target.patch_fields(0, [("Trailer", "Upload-Checksum")])
        assert connection.request("PATCH", path, fields, body).status == 204
        assert connection.request("HEAD", path, [("Tus-Resumable", "1.0.0")]).header("Upload-Offset") == "5"
