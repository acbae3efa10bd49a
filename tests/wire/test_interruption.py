"""A body that ends too soon: every byte that arrived counts, none that did not (K20, F10, S9)."""

from __future__ import annotations

import base64
import hashlib

import pytest
from target import Target, noise

LENGTH = 600_000
CONTENT = noise(LENGTH)

COUNTS = [0, 1, 40, 65_535, 65_536, 65_537, 262_145, LENGTH - 1]


def checksum(content: bytes) -> tuple[str, str]:
    return ("Upload-Checksum", "sha1 " + base64.b64encode(hashlib.sha1(content).digest()).decode())


@pytest.mark.parametrize("end", ["FIN", "close", "RST"])
@pytest.mark.parametrize("count", COUNTS)
def test_K20_F10_every_byte_that_was_sent_is_kept(target: Target, count: int, end: str) -> None:
    path = target.create(LENGTH)
    with target.connect() as connection:
        target.start_patch(connection, path, 0, LENGTH, CONTENT[:count])
        if end == "FIN":
            connection.stop_sending()
            connection.is_closed_by_server()
        elif end == "RST":
            connection.reset()
    target.wait_for_offset(path, count)
    assert target.patch_when_free(path, count, CONTENT[count:]).status == 204
    target.check_content(path, CONTENT)


@pytest.mark.parametrize("end", ["FIN", "RST"])
@pytest.mark.parametrize("tail", [b"", b"\r\n", b"\r\n5", b"\r\n5\r\n"], ids=["in data", "after data", "size", "begun"])
def test_K20_F10_chunked_body_is_kept_too(target: Target, tail: bytes, end: str) -> None:
    path = target.create(1000)
    with target.connect() as connection:
        connection.send_request("PATCH", path, target.patch_fields(0, [("Transfer-Encoding", "chunked")]))
        size = 600 if tail else 900
        connection.send(b"%x\r\n" % size + CONTENT[:600] + tail)
        connection.wait_until_delivered()
        if end == "FIN":
            connection.stop_sending()
            connection.is_closed_by_server()
        else:
            connection.reset()
    target.wait_for_offset(path, 600)
    assert target.patch_when_free(path, 600, CONTENT[600:1000]).status == 204
    target.check_content(path, CONTENT[:1000])


def test_K20_many_interruptions_of_one_upload(target: Target) -> None:
    path = target.create(LENGTH)
    offset = 0
    for count in (1, 99, 70_000, 1, 300_000, 12_345):
        with target.connect() as connection:
            target.start_patch(connection, path, offset, LENGTH - offset, CONTENT[offset : offset + count])
        offset += count
        target.wait_for_offset(path, offset)
    assert target.patch_when_free(path, offset, CONTENT[offset:]).status == 204
    target.check_content(path, CONTENT)


@pytest.mark.needs("creation-defer-length")
def test_K20_interrupted_upload_of_deferred_length(target: Target) -> None:
    path = target.create(None)
    with target.connect() as connection:
        target.start_patch(connection, path, 0, 1000, CONTENT[:600], [("Upload-Length", "1000")])
    target.wait_for_offset(path, 600)
    assert target.patch_when_free(path, 600, CONTENT[600:1000], [("Upload-Length", "1000")]).status == 204
    target.check_content(path, CONTENT[:1000])


@pytest.mark.parametrize("cut", [1, 10, 40, -4, -2, -1])
def test_cut_in_the_head_changes_nothing(target: Target, cut: int) -> None:
    path = target.create(5)
    lines = "".join(f"{name}: {value}\r\n" for name, value in target.patch_fields(0))
    head = f"PATCH {path} HTTP/1.1\r\nHost: {target.authority}\r\nContent-Length: 5\r\n{lines}\r\n".encode()
    with target.connect() as connection:
        connection.send(head[:cut])
        connection.stop_sending()
        connection.is_closed_by_server()
    target.check_resumable(path, b"hello", at_most=0)


@pytest.mark.needs("checksum")
@pytest.mark.parametrize("end", ["FIN", "close", "RST"])
@pytest.mark.parametrize("count", [0, 1, 65_536, 262_145, LENGTH - 1])
def test_S9_F11_checksummed_body_that_is_cut_short_keeps_nothing(target: Target, count: int, end: str) -> None:
    path = target.create(LENGTH)
    fields = [checksum(CONTENT)]
    with target.connect() as connection:
        # Other bytes than those at the end, so that a leftover would show.
        target.start_patch(connection, path, 0, LENGTH, noise(count, seed=9), fields)
        if end == "FIN":
            connection.stop_sending()
            connection.is_closed_by_server()
        elif end == "RST":
            connection.reset()
    assert target.offset(path) == 0
    assert target.patch_when_free(path, 0, CONTENT, fields).status == 204
    target.check_content(path, CONTENT)


@pytest.mark.needs("checksum")
def test_S9_checksum_of_just_what_arrived_does_not_save_it(target: Target) -> None:
    path = target.create(1000)
    with target.connect() as connection:
        target.start_patch(connection, path, 0, 1000, CONTENT[:600], [checksum(CONTENT[:600])])
        connection.stop_sending()
        connection.is_closed_by_server()
    assert target.patch_when_free(path, 0, CONTENT[:1000]).status == 204
    target.check_content(path, CONTENT[:1000])


@pytest.mark.needs("checksum")
def test_S9_earlier_bytes_stay_where_a_checksummed_body_is_cut_short(target: Target) -> None:
    path = target.create(1000)
    target.patch(path, 0, CONTENT[:300])
    with target.connect() as connection:
        target.start_patch(connection, path, 300, 700, noise(500, seed=9), [checksum(CONTENT[300:1000])])
    assert target.offset(path) == 300
    assert target.patch_when_free(path, 300, CONTENT[300:1000]).status == 204
    target.check_content(path, CONTENT[:1000])


@pytest.mark.needs("creation-with-upload")
def test_W3_cut_creation_leaves_the_server_well(target: Target) -> None:
    fields = [
        ("Tus-Resumable", "1.0.0"), ("Upload-Length", "1000"), ("Content-Length", "1000"),
        ("Content-Type", "application/offset+octet-stream"),
    ]  # fmt: skip
    for _ in range(3):
        with target.connect() as connection:
            connection.send_request("POST", target.base, fields)
            connection.send(CONTENT[:600])
            connection.reset()
    target.check_content(target.upload(b"hello"), b"hello")
