"""POST without concatenation: headers to `Create` (tus C1 to C8, W2)."""

from __future__ import annotations

import pytest
from asking import BASE, NOT_INTEGERS, TYPE, ask, b64, refused, sha1

from tusd_py.core.checksum import Checksum
from tusd_py.core.commands import Concatenate, Create
from tusd_py.core.upload import Metadata
from tusd_py.protocol.headers import MAX_INTEGER
from tusd_py.protocol.tus import decode_create


def create(*lines: tuple[str, str]) -> Create:
    command = decode_create(ask(*lines), BASE)
    assert isinstance(command, Create)
    return command


def length(value: int | str) -> tuple[str, str]:
    return ("Upload-Length", str(value))


DEFER = ("Upload-Defer-Length", "1")


@pytest.mark.parametrize("value", [0, 1, 100, MAX_INTEGER])
def test_C3_C7_a_length_is_any_integer_zero_included(value: int) -> None:
    assert create(length(value), ("Content-Length", "0")) == Create(length=value, content_length=0)


@pytest.mark.parametrize("text", NOT_INTEGERS.values(), ids=NOT_INTEGERS)
def test_K1_a_length_that_is_no_integer_is_400(text: str) -> None:
    with refused(400, "ERR_INVALID_UPLOAD_LENGTH"):
        create(length(text))


def test_C2_a_deferred_length() -> None:
    assert create(DEFER) == Create(length=None, content_length=0)


@pytest.mark.parametrize("value", ["0", "2", "", "true", "01", "1.0", "11", "-1", "1, 1"])
def test_C2_defer_is_1_or_400(value: str) -> None:
    with refused(400, "ERR_INVALID_UPLOAD_LENGTH_DEFER"):
        create(("Upload-Defer-Length", value))


def test_C2_defer_that_is_wrong_is_400_also_beside_a_length() -> None:
    with refused(400):
        create(length(5), ("Upload-Defer-Length", "0"))


def test_C3_no_length_at_all_is_400() -> None:
    with refused(400, "ERR_INVALID_UPLOAD_LENGTH"):
        create(("Content-Length", "0"))


def test_C3_both_lengths_are_400() -> None:
    with refused(400):
        create(length(5), DEFER)


def test_C3_two_different_lengths_are_400_and_two_equal_ones_are_one() -> None:
    assert create(length(5), length(5)).length == 5
    with refused(400, "ERR_INVALID_UPLOAD_LENGTH"):
        create(length(5), length(6))


@pytest.mark.parametrize("name", ["upload-length", "UPLOAD-LENGTH", "Upload-length"])
def test_C3_names_have_no_case(name: str) -> None:
    assert create((name, "5")).length == 5


def test_C8_metadata_comes_along() -> None:
    raw = f"filename {b64('a.bin')},empty"
    assert create(length(5), ("Upload-Metadata", raw)).metadata == Metadata(raw, {"filename": "a.bin", "empty": ""})


def test_C8_two_lines_of_metadata_are_one_list() -> None:
    command = create(length(5), ("Upload-Metadata", "a YQ=="), ("Upload-Metadata", "b Yg=="))
    assert command.metadata.values == {"a": "a", "b": "b"}


def test_C8_empty_metadata_is_none() -> None:
    assert create(length(5), ("Upload-Metadata", "")).metadata == Metadata()


def test_C8_bad_metadata_is_400() -> None:
    with refused(400, "ERR_INVALID_METADATA"):
        create(length(5), ("Upload-Metadata", "a YQ==,a YQ=="))


def test_N8_a_partial_upload_is_one_with_a_length_of_its_own() -> None:
    command = create(length(5), ("Upload-Concat", "partial"))
    assert (command.is_partial, command.concat, command.length) == (True, "partial", 5)
    assert create(DEFER, ("Upload-Concat", "partial")).length is None
    with refused(400):
        create(("Upload-Concat", "partial"))


@pytest.mark.parametrize("value", ["Partial", "PARTIAL", "partial;", "partial;/files/a", "", "whole", ";", "partials"])
def test_N8_anything_but_partial_or_final_is_400(value: str) -> None:
    with refused(400, "ERR_INVALID_CONCAT"):
        decode_create(ask(length(5), ("Upload-Concat", value)), BASE)


def test_N10_two_different_values_are_400_and_two_equal_ones_are_one() -> None:
    lines = (length(5), ("Upload-Concat", "partial"))
    assert create(*lines, ("Upload-Concat", "partial")).is_partial
    with refused(400, "ERR_INVALID_CONCAT"):
        create(*lines, ("Upload-Concat", "final;/files/a"))


def test_W2_a_body_of_our_type_is_the_first_bytes() -> None:
    command = create(length(100), TYPE, ("Content-Length", "5"), ("Upload-Checksum", sha1(b"hello")))
    assert command.has_body
    assert command.content_length == 5
    assert isinstance(command.checksum, Checksum)


def test_W2_K21_a_chunked_body_has_no_content_length() -> None:
    command = create(length(100), TYPE, ("Transfer-Encoding", "chunked"))
    assert (command.has_body, command.content_length) == (True, None)


def test_W3_an_empty_body_of_our_type_is_a_body() -> None:
    command = create(length(100), TYPE, ("Content-Length", "0"))
    assert (command.has_body, command.content_length) == (True, 0)


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/octet-stream", "multipart/form-data"])
def test_W2_a_body_of_another_type_is_not_the_uploads(content_type: str | None) -> None:
    lines = [length(100), ("Content-Length", "5"), ("Upload-Checksum", "nonsense")]
    command = create(*lines, *([] if content_type is None else [("Content-Type", content_type)]))
    assert not command.has_body
    assert command.checksum is None


def test_W2_a_wrong_checksum_field_is_400() -> None:
    with refused(400, "ERR_INVALID_CHECKSUM"):
        create(length(100), TYPE, ("Content-Length", "5"), ("Upload-Checksum", "nonsense"))


@pytest.mark.parametrize("text", NOT_INTEGERS.values(), ids=NOT_INTEGERS)
def test_K1_a_content_length_that_is_no_integer_is_400(text: str) -> None:
    with refused(400):
        create(length(100), TYPE, ("Content-Length", text))


def test_N3_a_final_is_not_a_create() -> None:
    command = decode_create(ask(("Upload-Concat", "final;/files/a")), BASE)
    assert isinstance(command, Concatenate)
