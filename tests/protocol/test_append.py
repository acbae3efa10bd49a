"""PATCH: headers to `Append` (tus K13 to K15, K21, C4, S3)."""

from __future__ import annotations

import pytest
from asking import ID, NOT_INTEGERS, TYPE, ask, refused, sha1

from tusd_py.core.commands import Append
from tusd_py.protocol.headers import MAX_INTEGER
from tusd_py.protocol.tus import decode_append


def append(*lines: tuple[str, str]) -> Append:
    return decode_append(ID, ask(*lines))


def offset(value: int | str) -> tuple[str, str]:
    return ("Upload-Offset", str(value))


@pytest.mark.parametrize("value", [0, 70, MAX_INTEGER])
def test_K13_the_example_of_the_specification(value: int) -> None:
    command = append(TYPE, offset(value), ("Content-Length", "30"))
    assert command == Append(id=ID, offset=value, length=None, content_length=30, checksum=None)


@pytest.mark.parametrize(
    "content_type", ["application/offset+octet-stream", "Application/Offset+Octet-Stream", " " + TYPE[1] + "\t"]
)
def test_K14_our_type_in_any_case(content_type: str) -> None:
    assert append(("Content-Type", content_type), offset(0)).offset == 0


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "*/*",
        "application/octet-stream",
        "application/offset+octet-streams",
        "application/offset octet-stream",
        "application/partial-upload",
        "x, application/offset+octet-stream",
    ],
)
def test_K14_any_other_type_is_415(content_type: str | None) -> None:
    lines = [] if content_type is None else [("Content-Type", content_type)]
    with refused(415, "ERR_INVALID_CONTENT_TYPE"):
        append(*lines, offset(0))


def test_K14_two_types_are_refused() -> None:
    with refused(400):
        append(TYPE, ("Content-Type", "text/plain"), offset(0))


def test_K15_an_offset_is_needed() -> None:
    with refused(400, "ERR_INVALID_OFFSET"):
        append(TYPE, ("Content-Length", "5"))


@pytest.mark.parametrize("text", NOT_INTEGERS.values(), ids=NOT_INTEGERS)
def test_K1_an_offset_that_is_no_integer_is_400(text: str) -> None:
    with refused(400, "ERR_INVALID_OFFSET"):
        append(TYPE, offset(text))


def test_K15_two_different_offsets_are_400_and_two_equal_ones_are_one() -> None:
    assert append(TYPE, offset(5), offset(5)).offset == 5
    with refused(400, "ERR_INVALID_OFFSET"):
        append(TYPE, offset(5), offset(6))


@pytest.mark.parametrize(
    ("lines", "content_length"),
    [
        ([], 0),
        ([("Content-Length", "0")], 0),
        ([("Content-Length", "30")], 30),
        ([("Content-Length", "30"), ("Content-Length", "30")], 30),
        ([("Transfer-Encoding", "chunked")], None),
        ([("transfer-encoding", "Chunked")], None),
    ],
)
def test_K21_content_length_is_not_required(lines: list[tuple[str, str]], content_length: int | None) -> None:
    assert append(TYPE, offset(0), *lines).content_length == content_length


@pytest.mark.parametrize("text", NOT_INTEGERS.values(), ids=NOT_INTEGERS)
def test_K1_a_content_length_that_is_no_integer_is_400(text: str) -> None:
    with refused(400):
        append(TYPE, offset(0), ("Content-Length", text))


def test_K21_two_different_content_lengths_are_400() -> None:
    with refused(400):
        append(TYPE, offset(0), ("Content-Length", "5"), ("Content-Length", "6"))


@pytest.mark.parametrize("length", [0, 100, MAX_INTEGER])
def test_C4_a_length_may_come_with_an_append(length: int) -> None:
    assert append(TYPE, offset(0), ("Upload-Length", str(length))).length == length


@pytest.mark.parametrize("text", NOT_INTEGERS.values(), ids=NOT_INTEGERS)
def test_K1_C4_a_length_that_is_no_integer_is_400(text: str) -> None:
    with refused(400, "ERR_INVALID_UPLOAD_LENGTH"):
        append(TYPE, offset(0), ("Upload-Length", text))


def test_S3_a_checksum_comes_along_and_a_wrong_one_is_400() -> None:
    command = append(TYPE, offset(0), ("Upload-Checksum", sha1(b"hello")))
    assert command.checksum is not None
    with refused(400, "ERR_INVALID_CHECKSUM"):
        append(TYPE, offset(0), ("Upload-Checksum", "sha0 YQ=="))


def test_K14_the_type_is_looked_at_before_the_other_fields() -> None:
    """Section 1's order: 415 before 400."""
    with refused(415):
        append(("Content-Type", "text/plain"), offset("x"), ("Upload-Checksum", "?"), ("Upload-Length", "?"))
