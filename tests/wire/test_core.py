"""Core protocol (K): HEAD, PATCH, versions."""

from __future__ import annotations

import pytest
from client import Chunks
from target import OFFSET_TYPE, Target, noise

CONTENT = b"hello wire, hello world"

WRONG_VERSIONS = ["0.2.2", "2.0.0", "1.0", "1.0.0.0", "1.0.00", "", "1.0.0, 0.2.2", "one"]


@pytest.mark.parametrize("version", WRONG_VERSIONS)
def test_K4_post_with_wrong_version_is_412_with_tus_version(target: Target, version: str) -> None:
    answer = target.post([("Tus-Resumable", version), ("Upload-Length", "5")])
    assert answer.status == 412
    assert "1.0.0" in answer.tokens("Tus-Version")
    assert answer.header("Location") is None


@pytest.mark.parametrize("version", [*WRONG_VERSIONS, None])
def test_K4_patch_with_wrong_version_is_412_and_changes_nothing(target: Target, version: str | None) -> None:
    path = target.create(5)
    answer = target.patch(path, 0, b"hello", [("Tus-Resumable", version)])
    assert answer.status == 412
    assert "1.0.0" in answer.tokens("Tus-Version")
    assert target.offset(path) == 0


def test_K4_post_without_version_is_412_with_tus_version(target: Target) -> None:
    answer = target.post([("Tus-Resumable", None), ("Upload-Length", "5")])
    assert answer.status == 412
    assert "1.0.0" in answer.tokens("Tus-Version")


def test_K4_head_with_wrong_version_is_412(target: Target) -> None:
    answer = target.head(target.create(5), [("Tus-Resumable", "0.2.2")])
    assert answer.status == 412
    assert "1.0.0" in answer.tokens("Tus-Version")
    assert answer.header("Upload-Offset") is None


def test_K4_head_without_version_is_answered(target: Target) -> None:
    answer = target.head(target.create(5), [("Tus-Resumable", None)])
    assert answer.status in (200, 204)
    assert answer.header("Upload-Offset") == "0"


def test_K8_K9_K11_head_of_new_upload(target: Target) -> None:
    answer = target.head(target.create(100))
    assert answer.status in (200, 204)
    assert answer.header("Upload-Offset") == "0"
    assert answer.header("Upload-Length") == "100"


def test_K8_K9_head_in_the_middle(target: Target) -> None:
    path = target.create(len(CONTENT))
    target.patch(path, 0, CONTENT[:7])
    answer = target.head(path)
    assert answer.header("Upload-Offset") == "7"
    assert answer.header("Upload-Length") == str(len(CONTENT))


def test_K8_head_of_finished_upload_has_offset(target: Target) -> None:
    path = target.upload(CONTENT)
    assert target.head(path).header("Upload-Offset") == str(len(CONTENT))
    target.check_content(path, CONTENT)


@pytest.mark.parametrize("is_finished", [False, True])
def test_K12_head_is_not_stored(target: Target, is_finished: bool) -> None:
    path = target.upload(CONTENT) if is_finished else target.create(5)
    assert "no-store" in target.head(path).tokens("Cache-Control")


def test_K10_head_of_unknown_upload(target: Target) -> None:
    answer = target.head(target.unknown)
    assert answer.status in (403, 404, 410)
    assert answer.header("Upload-Offset") is None


@pytest.mark.parametrize("method", ["PATCH", "DELETE", "GET"])
def test_K18_D3_unknown_upload_is_404(target: Target, method: str) -> None:
    fields = target.patch_fields(0) if method == "PATCH" else []
    assert target.ask(method, target.unknown, fields, b"x" if method == "PATCH" else None).status in (404, 410)


def test_K13_K16_K17_one_patch(target: Target) -> None:
    path = target.create(len(CONTENT))
    answer = target.patch(path, 0, CONTENT)
    assert answer.status == 204
    assert answer.header("Upload-Offset") == str(len(CONTENT))
    target.check_content(path, CONTENT)


@pytest.mark.parametrize("size", [1, 4, 7, 22])
def test_K13_K17_many_patches(target: Target, size: int) -> None:
    path = target.create(len(CONTENT))
    for start in range(0, len(CONTENT), size):
        answer = target.patch(path, start, CONTENT[start : start + size])
        assert answer.status == 204
        assert answer.header("Upload-Offset") == str(min(start + size, len(CONTENT)))
    target.check_content(path, CONTENT)


@pytest.mark.parametrize("length", [65535, 65536, 65537, 262143, 262144, 262145, 3_000_001])
def test_K13_bodies_around_buffer_sizes(target: Target, length: int) -> None:
    content = noise(length)
    path = target.create(length)
    assert target.patch(path, 0, content).status == 204
    target.check_content(path, content)


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/octet-stream", "application/offset+octet-streams", "*/*"]
)
def test_K14_other_content_type_is_415_and_changes_nothing(target: Target, content_type: str | None) -> None:
    path = target.create(5)
    assert target.patch(path, 0, b"hello", [("Content-Type", content_type)]).status == 415
    target.check_resumable(path, b"world", at_most=0)


@pytest.mark.parametrize("offset", [0, 1, 6, 8, 23, 24, 2**40, 2**63 - 1])
def test_K15_patch_at_wrong_offset_is_409_and_changes_nothing(target: Target, offset: int) -> None:
    path = target.create(len(CONTENT))
    target.patch(path, 0, CONTENT[:7])
    answer = target.patch(path, offset, b"XXXX")
    assert answer.status == 409
    assert target.offset(path) == 7
    target.check_resumable(path, CONTENT, at_most=7)


def test_K15_409_tells_the_offset(target: Target) -> None:
    path = target.create(len(CONTENT))
    target.patch(path, 0, CONTENT[:7])
    assert target.patch(path, 0, b"X").header("Upload-Offset") == "7"


def test_K15_409_at_wrong_offset_of_finished_upload(target: Target) -> None:
    path = target.upload(CONTENT)
    assert target.patch(path, 0, CONTENT).status == 409
    target.check_content(path, CONTENT)


def test_K15_the_same_patch_twice_counts_once(target: Target) -> None:
    path = target.create(len(CONTENT))
    assert target.patch(path, 0, CONTENT[:7]).status == 204
    assert target.patch(path, 0, CONTENT[:7]).status == 409
    target.check_resumable(path, CONTENT, at_most=7)


def test_K17_missing_offset_is_400_and_changes_nothing(target: Target) -> None:
    path = target.create(5)
    assert target.patch(path, 0, b"XXXXX", [("Upload-Offset", None)]).status == 400
    target.check_resumable(path, b"hello", at_most=0)


@pytest.mark.parametrize("sent", [0, 3])
def test_K17_patch_past_the_length_is_413(target: Target, sent: int) -> None:
    path = target.create(5)
    if sent:
        target.patch(path, 0, b"hello"[:sent])
    assert target.patch(path, sent, b"hello"[sent:] + b"!").status == 413
    target.check_resumable(path, b"hello")


def test_K17_chunked_patch_past_the_length_is_413_and_never_beyond(target: Target) -> None:
    path = target.create(5)
    assert target.patch(path, 0, Chunks((b"hel", b"lo!", b"more"))).status == 413
    target.check_resumable(path, b"hello")


def test_K17_413_does_not_wait_for_the_body(target: Target) -> None:
    path = target.create(5)
    with target.connect() as connection:
        target.start_patch(connection, path, 0, 10_000_000, b"")
        assert connection.response().status == 413


def test_K17_empty_patch_of_finished_upload_is_204(target: Target) -> None:
    path = target.upload(CONTENT)
    answer = target.patch(path, len(CONTENT), b"")
    assert answer.status == 204
    assert answer.header("Upload-Offset") == str(len(CONTENT))
    target.check_content(path, CONTENT)


@pytest.mark.parametrize("body", [b"!", Chunks((b"!",))], ids=["length", "chunked"])
def test_K17_patch_of_finished_upload_with_body_is_413(target: Target, body: bytes | Chunks) -> None:
    path = target.upload(CONTENT)
    assert target.patch(path, len(CONTENT), body).status == 413
    target.check_content(path, CONTENT)


@pytest.mark.parametrize(
    "pieces",
    [(CONTENT,), (CONTENT[:1], CONTENT[1:2], CONTENT[2:]), tuple(bytes([byte]) for byte in CONTENT)],
    ids=["one", "three", "bytes"],
)
def test_K21_chunked_patch(target: Target, pieces: tuple[bytes, ...]) -> None:
    path = target.create(len(CONTENT))
    answer = target.patch(path, 0, Chunks(pieces))
    assert answer.status == 204
    assert answer.header("Upload-Offset") == str(len(CONTENT))
    target.check_content(path, CONTENT)


def test_K21_large_chunked_patch_in_odd_chunks(target: Target) -> None:
    content = noise(1_000_000)
    path = target.create(len(content))
    pieces = tuple(content[start : start + 4099] for start in range(0, len(content), 4099))
    assert target.patch(path, 0, Chunks(pieces)).status == 204
    target.check_content(path, content)


def test_K21_chunk_extensions_and_leading_zeros_are_framing(target: Target) -> None:
    path = target.create(10)
    with target.connect() as connection:
        fields = target.patch_fields(0, [("Transfer-Encoding", "chunked")])
        connection.send_request("PATCH", path, fields)
        connection.send(b'005;a=b;c="d"\r\nhello\r\n5;x\r\nworld\r\n000\r\n\r\n')
        assert connection.response().status == 204
    target.check_content(path, b"helloworld")


@pytest.mark.parametrize("body", [b"", Chunks(())], ids=["length", "chunked"])
def test_K21_empty_patch_is_204_and_changes_nothing(target: Target, body: bytes | Chunks) -> None:
    path = target.create(5)
    target.patch(path, 0, b"he")
    answer = target.patch(path, 2, body)
    assert answer.status == 204
    assert answer.header("Upload-Offset") == "2"
    target.check_resumable(path, b"hello", at_most=2)


def test_K21_patch_without_any_framing_is_empty(target: Target) -> None:
    path = target.create(5)
    answer = target.ask("PATCH", path, target.patch_fields(0))
    assert answer.status == 204
    assert answer.header("Upload-Offset") == "0"


def test_K13_patch_in_http_1_0(target: Target) -> None:
    path = target.create(5)
    fields = target.patch_fields(0, [("Content-Length", "5")])
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    with target.connect() as connection:
        connection.send(f"PATCH {path} HTTP/1.0\r\nHost: {target.authority}\r\n{lines}\r\nhello".encode())
        assert connection.response().status == 204
        assert connection.is_closed_by_server()
    target.check_content(path, b"hello")


def test_K13_head_and_body_byte_by_byte(target: Target) -> None:
    path = target.create(5)
    fields = target.patch_fields(0, [("Content-Length", "5")])
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    with target.connect() as connection:
        for byte in f"PATCH {path} HTTP/1.1\r\nHost: {target.authority}\r\n{lines}\r\nhello".encode():
            connection.send(bytes([byte]))
        assert connection.response().status == 204
    target.check_content(path, b"hello")


def test_K13_header_names_and_media_type_in_any_case(target: Target) -> None:
    path = target.create(5)
    fields = [("tus-resumable", "1.0.0"), ("UPLOAD-OFFSET", "0"), ("content-TYPE", OFFSET_TYPE.upper())]
    with target.connect() as connection:
        assert connection.request("PATCH", path, fields, b"hello").status == 204
    target.check_content(path, b"hello")


def test_K13_absolute_request_target(target: Target) -> None:
    path = target.create(5)
    with target.connect() as connection:
        answer = connection.request("PATCH", f"http://{target.authority}{path}", target.patch_fields(0), b"hello")
    assert answer.status == 204
    target.check_content(path, b"hello")
