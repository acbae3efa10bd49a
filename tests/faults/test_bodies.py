"""Bodies that break, lie about their length, or should never have been read (failures F9, F10, F11, F34)."""

from __future__ import annotations

import os

import pytest
from faultclient import BASE_PATH, Connection, LostError, checksum, chunk, patch_headers
from faultserver import Duo, wait_for

from tests.faults.conftest import SHARED_ONE_AND_TWO

DATA = os.urandom(3_000_017)
OTHER = os.urandom(3_000_017)
SIZES = [1, 65_537, 300_001, 2_500_000]


def _wait_for_offset(duo: Duo, path: str, offset: int) -> None:
    """A client that has left holds nobody up; but what the kernel has of it is still being taken over."""
    wait_for(lambda: duo.b.offset(path) >= offset)
    assert duo.b.offset(path) == offset


@pytest.mark.parametrize("sent", SIZES)
@pytest.mark.parametrize("end", ["close", "half-close", "reset"])
def test_F10_every_byte_that_the_kernel_delivered_is_kept(duo: Duo, sent: int, end: str) -> None:
    path = duo.a.create(len(DATA))
    with duo.a.connect() as connection:
        connection.begin("PATCH", path, patch_headers(0, len(DATA)))
        connection.send(DATA[:sent])
        if end == "reset":
            connection.wait_until_delivered()
            connection.reset()
        elif end == "half-close":
            connection.socket.shutdown(1)
            assert connection.answer().status == 400
    _wait_for_offset(duo, path, sent)
    duo.b.finish(path, DATA)


@pytest.mark.parametrize("sent", [1, 700_000])
def test_F10_chunks_are_kept_up_to_the_last_byte(duo: Duo, sent: int) -> None:
    path = duo.a.create(len(DATA))
    with duo.a.connect() as connection:
        connection.begin("PATCH", path, patch_headers(0, None))
        for start in range(0, sent, 50_000):
            connection.send(chunk(DATA[start : min(start + 50_000, sent)]))
        connection.send(b"ffff\r\n" + DATA[sent : sent + 100])  # a chunk that was only begun
    _wait_for_offset(duo, path, sent + 100)
    duo.b.finish(path, DATA)


def test_F9_bytes_beyond_the_announced_body_are_no_upload_s(duo: Duo) -> None:
    path = duo.a.create(len(DATA))
    with duo.a.connect() as connection:
        connection.begin("PATCH", path, patch_headers(0, 1000))
        connection.send(DATA[:1000] + OTHER[:500])
        assert connection.answer().status == 204
    assert duo.b.offset(path) == 1000
    duo.b.finish(path, DATA)


@pytest.mark.parametrize("length", [10, 1_000_000])
def test_F9_bytes_beyond_the_length_are_refused(duo: Duo, length: int) -> None:
    path = duo.a.create(length)
    assert duo.a.patch(path, 0, DATA[: length + 1]).status == 413
    assert duo.b.offset(path) == 0  # announced, so refused before the body
    with duo.a.connect() as connection:
        connection.begin("PATCH", path, patch_headers(0, None))
        connection.try_to_send(chunk(DATA[:length] + OTHER[:300_000]) + chunk(b""))
        assert connection.answer().status == 413
    duo.b.finish(path, DATA[:length])


@pytest.mark.parametrize("sent", [0, 5, 900_000])
def test_F9_a_malformed_body_leaves_no_strays(duo: Duo, sent: int) -> None:
    path = duo.a.create(len(DATA))
    with duo.a.connect() as connection:
        connection.begin("PATCH", path, patch_headers(0, None))
        connection.send((chunk(DATA[:sent]) if sent else b"") + b"not a chunk\r\n" + OTHER[:1000])
        assert connection.answer().status == 400
    assert duo.b.offset(path) == sent
    duo.b.finish(path, DATA)


def test_F9_strays_after_the_offset_are_cut(duo: Duo) -> None:
    """What a writer left that died between writing a checksummed body and verifying it."""
    path = duo.a.create(len(DATA))
    assert duo.a.patch(path, 0, DATA[:1000]).status == 204
    with duo.a.connect() as connection:
        connection.begin_patch(path, 1000, 2_000_000, OTHER[:1_900_000], Upload_Checksum=checksum(DATA))
    wait_for(lambda: duo.b.patch(path, 1000, DATA[1000:1500]).status == 204)
    assert duo.a.offset(path) == 1500
    duo.a.finish(path, DATA)


@pytest.mark.parametrize("is_trailer", [False, True], ids=["header", "trailer"])
@pytest.mark.parametrize("sent", [1, 299_999])
@pytest.mark.parametrize("end", ["close", "reset"])
def test_F11_a_checksummed_body_cut_short_counts_nothing(duo: Duo, sent: int, end: str, is_trailer: bool) -> None:
    path = duo.a.create(len(DATA))
    assert duo.a.patch(path, 0, DATA[:777]).status == 204
    with duo.a.connect() as connection:
        if is_trailer:
            connection.begin("PATCH", path, patch_headers(777, None, Trailer="Upload-Checksum"))
            connection.send(chunk(OTHER[:sent]))
        else:
            body = OTHER[:300_000]
            connection.begin("PATCH", path, patch_headers(777, len(body), Upload_Checksum=checksum(body)))
            connection.send(body[:sent])
        connection.wait_until_delivered()
        if end == "reset":
            connection.reset()
    assert duo.b.offset(path) == 777
    duo.b.finish(path, DATA)


@pytest.mark.parametrize("length", [10, 1_500_000])
def test_F11_a_wrong_checksum_leaves_the_content_clean(duo: Duo, length: int) -> None:
    path = duo.a.create(len(DATA))
    wrong = duo.a.patch(path, 0, OTHER[:length], Upload_Checksum=checksum(DATA[:length]))
    assert (wrong.status, wrong.code) == (460, "ERR_CHECKSUM_MISMATCH")
    assert duo.b.offset(path) == 0
    right = duo.b.patch(path, 0, DATA[:length], Upload_Checksum=checksum(DATA[:length]))
    assert (right.status, right.offset) == (204, length)
    duo.a.finish(path, DATA)


def _wrong_patches(path: str) -> list[tuple[int, str, dict[str, str | None]]]:
    good = patch_headers(100, 1000)
    return [
        (409, path, patch_headers(0, 1000)),
        (409, path, patch_headers(101, 1000)),
        (400, path, good | {"Upload-Offset": "-1"}),
        (400, path, good | {"Upload-Checksum": "sha1 !"}),
        (413, path, patch_headers(100, len(DATA))),
        (415, path, good | {"Content-Type": "text/plain"}),
        (412, path, good | {"Tus-Resumable": "0.2.2"}),
        (404, BASE_PATH + "0123456789abcdef0123456789abcdef", good),
        (404, BASE_PATH + "a.info", good),
    ]


def _early_status(connection: Connection, path: str, headers: dict[str, str | None]) -> int:
    connection.begin("PATCH", path, headers)
    answer = connection.answer()
    assert answer.interim == ()  # no 100: the body is not wanted
    connection.try_to_send(OTHER[:1000])
    return answer.status


@SHARED_ONE_AND_TWO
@pytest.mark.parametrize("expect", ["100-continue", None])
@pytest.mark.parametrize("case", range(9))
def test_F34_checks_come_before_the_body(duo: Duo, case: int, expect: str | None) -> None:
    path = duo.a.create(len(DATA))
    assert duo.a.patch(path, 0, DATA[:100]).status == 204
    status, target, headers = _wrong_patches(path)[case]
    with duo.a.connect() as connection:
        assert _early_status(connection, target, headers | {"Expect": expect}) == status
    assert duo.b.offset(path) == 100
    assert (duo.directory / path.rpartition("/")[2]).read_bytes() == DATA[:100]
    with duo.b.connect() as connection:
        connection.begin("PATCH", path, patch_headers(100, len(DATA) - 100, Expect="100-continue"))
        assert connection.head().status == 100
        connection.send(DATA[100:])
        assert connection.answer().status == 204
    duo.a.finish(path, DATA)


def test_F34_a_refused_creation_stores_nothing(duo: Duo) -> None:
    before = sorted(duo.directory.rglob("*"))
    for wrong in ({"Upload-Length": "-1"}, {"Upload-Metadata": "a !"}, {"Upload-Length": "5"}, {"Tus-Resumable": "2"}):
        headers = {
            "Upload-Length": "1000",
            "Content-Length": "1000",
            "Content-Type": "application/offset+octet-stream",
            "Expect": "100-continue",
        }
        with duo.a.connect() as connection:
            connection.begin("POST", BASE_PATH, headers | wrong)
            answer = connection.answer("POST")
            assert 400 <= answer.status < 500
            assert answer.interim == ()
    assert sorted(duo.directory.rglob("*")) == before
    content = duo.a.upload(DATA)
    assert duo.b.content(content) == DATA


@pytest.mark.parametrize("sent", [0, 1, 400_000])
def test_F9_F10_a_creation_that_is_cut_leaves_nothing_or_a_whole_prefix(duo: Duo, sent: int) -> None:
    before = set(duo.directory.iterdir())
    headers = {
        "Upload-Length": str(len(DATA)),
        "Content-Length": str(len(DATA)),
        "Content-Type": "application/offset+octet-stream",
    }
    with duo.a.connect() as connection:
        connection.begin("POST", BASE_PATH, headers)
        connection.send(DATA[:sent])
        connection.wait_until_delivered()
        connection.reset()
    # Nobody was told the id, so nothing may stay.
    wait_for(lambda: set(duo.directory.iterdir()) == before)
    with duo.a.connect() as connection:
        connection.begin("POST", BASE_PATH, headers)
        connection.send(DATA)
        created = connection.answer("POST")
    assert (created.status, created.offset) == (201, len(DATA))
    path = created.headers["location"].partition("//")[2].partition("/")[2]
    assert duo.b.content("/" + path) == DATA


def test_a_lost_connection_is_told_from_an_answer(duo: Duo) -> None:
    """The client of these tests must not take silence for success."""
    path = duo.a.create(len(DATA))
    with duo.a.connect() as connection:
        connection.begin("PATCH", path, patch_headers(0, len(DATA)))
        connection.send(DATA[:10])
        connection.socket.shutdown(0)
        with pytest.raises(LostError):
            connection.answer()
