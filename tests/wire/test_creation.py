"""Creation, deferred lengths, metadata, creation-with-upload (C, W)."""

from __future__ import annotations

import pytest
from client import Chunks
from target import OFFSET_TYPE, Target, merged, metadata, noise

pytestmark = pytest.mark.needs("creation")

deferred = pytest.mark.needs("creation-defer-length")
with_upload = pytest.mark.needs("creation-with-upload")

GOOD_METADATA = [
    "key",
    "key ",
    "key dmFsdWU=",
    "a YQ==,b",
    "a YQ==,b ,c Yw==",
    "filename w6kgLnR4dA==,is_confidential",
    "k /+8=",
    "a-b_c.d~e!# YQ==",
    "z eg==,a YQ==,m bQ==",
    "empty ,other YQ==",
]
BAD_METADATA = [
    "key not-base64!",
    "key YQ",
    "key YQ===",
    "key YQ=",
    "key Y Q==",
    "key Y\tQ==",
    "key -_8=",
    "key YQ==,key Yg==",
    "key,key",
    ",YQ==,=, , YQ== x,a !",
    "key \xe9\xe9\xe9\xe9",
    "key \u0661".encode(),
]


def test_C11_creation(target: Target) -> None:
    answer = target.post([("Upload-Length", "100")])
    assert answer.status == 201
    assert target.offset(target.path_of(answer.header("Location"))) == 0


def test_C11_location_is_absolute_on_the_host_that_was_asked(target: Target) -> None:
    answer = target.post([("Upload-Length", "1"), ("Host", "uploads.example:8443")])
    assert (answer.header("Location") or "").startswith(f"http://uploads.example:8443{target.base}")


def test_C11_creation_url_with_and_without_slash(target: Target) -> None:
    for base in {target.base.rstrip("/"), target.base.rstrip("/") + "/"} - {""}:
        answer = target.post([("Upload-Length", "3")], path=base)
        assert answer.status == 201
        path = target.path_of(answer.header("Location"))
        target.patch(path, 0, b"abc")
        target.check_content(path, b"abc")


def test_C11_every_upload_has_its_own_url(target: Target) -> None:
    assert len({target.create(1) for _ in range(5)}) == 5


def test_C3_post_without_length_is_400(target: Target) -> None:
    answer = target.post()
    assert answer.status == 400
    assert answer.header("Location") is None


@deferred
def test_C3_post_with_both_lengths_is_400(target: Target) -> None:
    assert target.post([("Upload-Length", "5"), ("Upload-Defer-Length", "1")]).status == 400


@deferred
@pytest.mark.parametrize("value", ["0", "2", "01", "true", "", "1, 1", "-1", "1.0"])
def test_C2_defer_length_other_than_1_is_400(target: Target, value: str) -> None:
    assert target.post([("Upload-Defer-Length", value)]).status == 400


@deferred
def test_C5_deferred_length_is_told_until_it_is_known(target: Target) -> None:
    path = target.create(None)
    for sent in range(2):
        answer = target.head(path)
        assert answer.header("Upload-Defer-Length") == "1"
        assert answer.header("Upload-Length") is None
        assert answer.header("Upload-Offset") == str(sent)
        target.patch(path, sent, b"x")


@deferred
def test_C2_C4_length_set_by_a_patch_in_the_middle(target: Target) -> None:
    path = target.create(None)
    assert target.patch(path, 0, b"he").status == 204
    assert target.patch(path, 2, b"l", [("Upload-Length", "5")]).status == 204
    answer = target.head(path)
    assert answer.header("Upload-Length") == "5"
    assert answer.header("Upload-Defer-Length") is None
    assert target.patch(path, 3, b"lo").status == 204
    target.check_content(path, b"hello")


@deferred
def test_C5_length_set_by_the_first_patch(target: Target) -> None:
    path = target.create(None)
    assert target.patch(path, 0, b"hello", [("Upload-Length", "5")]).status == 204
    target.check_content(path, b"hello")


@deferred
def test_C5_zero_byte_last_patch_carries_the_length(target: Target) -> None:
    path = target.create(None)
    assert target.patch(path, 0, b"hello").status == 204
    answer = target.patch(path, 5, b"", [("Upload-Length", "5")])
    assert answer.status == 204
    assert answer.header("Upload-Offset") == "5"
    target.check_content(path, b"hello")


@deferred
def test_C5_deferred_upload_that_turns_out_empty(target: Target) -> None:
    path = target.create(None)
    assert target.patch(path, 0, b"", [("Upload-Length", "0")]).status == 204
    target.check_content(path, b"")


@deferred
def test_C4_length_below_the_offset_is_400(target: Target) -> None:
    path = target.create(None)
    target.patch(path, 0, b"hello")
    assert target.patch(path, 5, b"", [("Upload-Length", "4")]).status == 400
    assert target.patch(path, 5, b"", [("Upload-Length", "5")]).status == 204
    target.check_content(path, b"hello")


@deferred
def test_C4_body_past_the_length_it_brings_is_413(target: Target) -> None:
    path = target.create(None)
    assert target.patch(path, 0, b"hello!", [("Upload-Length", "5")]).status == 413
    offset = target.offset(path)
    assert offset <= 5
    assert target.patch(path, offset, b"hello"[offset:], [("Upload-Length", "5")]).status == 204
    target.check_content(path, b"hello")


@deferred
@pytest.mark.needs("max-size")
def test_C10_deferred_length_above_the_maximum_is_413(target: Target) -> None:
    path = target.create(None)
    assert target.patch(path, 0, b"he", [("Upload-Length", str(target.max_size + 1))]).status == 413
    assert target.patch(path, 0, b"he", [("Upload-Length", "2")]).status == 204
    target.check_content(path, b"he")


@deferred
@pytest.mark.parametrize("body", [b"world", Chunks((b"wor", b"ld"))], ids=["length", "chunked"])
def test_C5_deferred_upload_in_pieces(target: Target, body: bytes | Chunks) -> None:
    path = target.create(None)
    assert target.patch(path, 0, b"hello ").status == 204
    assert target.patch(path, 6, body).status == 204
    assert target.patch(path, 11, b"", [("Upload-Length", "11")]).status == 204
    target.check_content(path, b"hello world")


def test_C4_same_length_again_is_204(target: Target) -> None:
    path = target.create(5)
    assert target.patch(path, 0, b"hello", [("Upload-Length", "5")]).status == 204
    target.check_content(path, b"hello")


@pytest.mark.parametrize("length", ["4", "6", "0"])
def test_C4_other_length_is_400_and_changes_nothing(target: Target, length: str) -> None:
    path = target.create(5)
    assert target.patch(path, 0, b"XX", [("Upload-Length", length)]).status == 400
    assert target.head(path).header("Upload-Length") == "5"
    target.check_resumable(path, b"hello", at_most=0)


def test_C7_empty_upload_is_finished_at_once(target: Target) -> None:
    target.check_content(target.create(0), b"")


@pytest.mark.needs("download")
def test_C7_get_of_empty_upload_is_200(target: Target) -> None:
    answer = target.ask("GET", target.create(0))
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("value", GOOD_METADATA)
def test_C8_C9_metadata_comes_back_as_it_was_sent(target: Target, value: str) -> None:
    path = target.create(5, [("Upload-Metadata", value)])
    # OWS around a field value is no part of it (RFC 9110 5.5).
    assert target.head(path).header("Upload-Metadata") == value.strip()
    target.patch(path, 0, b"hello")
    assert target.head(path).header("Upload-Metadata") == value.strip()


def test_C8_empty_metadata_is_accepted(target: Target) -> None:
    target.create(5, [("Upload-Metadata", "")])


def test_C9_no_metadata_no_header(target: Target) -> None:
    assert target.head(target.create(5)).header("Upload-Metadata") is None


def test_C9_large_metadata_comes_back(target: Target) -> None:
    value = metadata(**{f"key{number}": noise(150, number) for number in range(100)})
    assert target.head(target.create(5, [("Upload-Metadata", value)])).header("Upload-Metadata") == value


def test_C8_metadata_in_two_lines_is_one_list(target: Target) -> None:
    path = target.create(5, [("Upload-Metadata", "a YQ=="), ("Upload-Metadata", "b Yg==")])
    told = target.head(path).header("Upload-Metadata") or ""
    assert [item.strip() for item in told.split(",")] == ["a YQ==", "b Yg=="]


@pytest.mark.parametrize("value", BAD_METADATA)
def test_C8_invalid_metadata_is_400(target: Target, value: str | bytes) -> None:
    answer = target.post([("Upload-Length", "5"), ("Upload-Metadata", value)])
    assert answer.status == 400
    assert answer.header("Location") is None


def test_C8_a_key_in_two_lines_is_400(target: Target) -> None:
    fields = [("Upload-Length", "5"), ("Upload-Metadata", "a YQ=="), ("Upload-Metadata", "a Yg==")]
    assert target.post(fields).status == 400


@pytest.mark.needs("max-size")
def test_C10_length_at_the_maximum_is_201(target: Target) -> None:
    assert target.head(target.create(target.max_size)).header("Upload-Length") == str(target.max_size)


@pytest.mark.needs("max-size")
@pytest.mark.parametrize("excess", [1, 1000, 2**40])
def test_C10_length_above_the_maximum_is_413(target: Target, excess: int) -> None:
    answer = target.post([("Upload-Length", str(target.max_size + excess))])
    assert answer.status == 413
    assert answer.header("Location") is None


@with_upload
def test_W3_part_of_the_upload_with_the_creation(target: Target) -> None:
    answer = target.post([("Upload-Length", "5"), ("Content-Type", OFFSET_TYPE)], b"he")
    assert answer.status == 201
    assert answer.header("Upload-Offset") == "2"
    path = target.path_of(answer.header("Location"))
    assert target.check_resumable(path, b"hello") == 2


@with_upload
@pytest.mark.parametrize("body", [b"hello", Chunks((b"he", b"llo"))], ids=["length", "chunked"])
def test_W3_the_whole_upload_with_the_creation(target: Target, body: bytes | Chunks) -> None:
    answer = target.post([("Upload-Length", "5"), ("Content-Type", OFFSET_TYPE)], body)
    assert answer.status == 201
    assert answer.header("Upload-Offset") == "5"
    target.check_content(target.path_of(answer.header("Location")), b"hello")


@with_upload
def test_W3_large_upload_with_the_creation(target: Target) -> None:
    content = noise(1_500_000)
    answer = target.post([("Upload-Length", str(len(content))), ("Content-Type", OFFSET_TYPE)], content)
    assert answer.header("Upload-Offset") == str(len(content))
    target.check_content(target.path_of(answer.header("Location")), content)


@with_upload
@pytest.mark.parametrize("body", [b"", Chunks(())], ids=["length", "chunked"])
def test_W3_empty_body_is_told_as_offset_0(target: Target, body: bytes | Chunks) -> None:
    answer = target.post([("Upload-Length", "5"), ("Content-Type", OFFSET_TYPE)], body)
    assert answer.status == 201
    assert answer.header("Upload-Offset") == "0"


@with_upload
@deferred
def test_W3_deferred_length_with_body(target: Target) -> None:
    answer = target.post([("Upload-Defer-Length", "1"), ("Content-Type", OFFSET_TYPE)], b"hel")
    assert answer.header("Upload-Offset") == "3"
    path = target.path_of(answer.header("Location"))
    assert target.head(path).header("Upload-Defer-Length") == "1"
    assert target.patch(path, 3, b"lo", [("Upload-Length", "5")]).status == 204
    target.check_content(path, b"hello")


@with_upload
@pytest.mark.parametrize("body", [b"hello!", Chunks((b"hello", b"!"))], ids=["length", "chunked"])
def test_W2_body_past_the_length_is_413(target: Target, body: bytes | Chunks) -> None:
    assert target.post([("Upload-Length", "5"), ("Content-Type", OFFSET_TYPE)], body).status == 413


@with_upload
@pytest.mark.needs("max-size")
def test_W2_413_does_not_wait_for_the_body(target: Target) -> None:
    fields = [("Upload-Length", "5"), ("Content-Type", OFFSET_TYPE), ("Content-Length", "100000000")]
    with target.connect() as connection:
        connection.send_request("POST", target.base, merged([("Tus-Resumable", "1.0.0")], fields))
        assert connection.response().status == 413


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_W2_body_of_another_type_is_ignored(target: Target, content_type: str | None) -> None:
    answer = target.post([("Upload-Length", "5"), ("Content-Type", content_type)], b"XXXXX")
    assert answer.status == 201
    path = target.path_of(answer.header("Location"))
    assert target.check_resumable(path, b"hello") == 0


@with_upload
def test_W3_metadata_and_length_are_kept_beside_the_body(target: Target) -> None:
    value = metadata(filename="a.txt")
    path = target.create(5, [("Upload-Metadata", value)], b"he")
    answer = target.head(path)
    assert answer.header("Upload-Metadata") == value
    assert answer.header("Upload-Length") == "5"
    target.check_resumable(path, b"hello")
