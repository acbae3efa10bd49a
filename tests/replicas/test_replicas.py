"""Any request may go to any of two servers on one bucket: nobody needs sticky sessions."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from faultclient import BASE_PATH, Client, LostError, checksum, path_of
from faultserver import wait_for
from replicaserver import MIB, Pair, pair_on
from s3servers import S3Server
from tusclient.client import TusClient

DATA = os.urandom(13 * MIB + 17)
SMALL = DATA[:100_003]
SOON_SECONDS = 1.0


def _concatenate(client: Client, *paths: str) -> str:
    answer = client.ask("POST", BASE_PATH, {"Upload-Concat": "final;" + " ".join(paths)})
    assert answer.status == 201, answer
    return path_of(answer)


def _read_on_both(pair: Pair, path: str, content: bytes) -> None:
    for replica in pair.replicas:
        assert replica.client.offset(path) == len(content)
        assert replica.client.content(path) == content


@pytest.mark.parametrize("data", [SMALL, DATA], ids=["small", "parts"])
def test_each_request_may_go_to_another_server(each_pair: Pair, data: bytes) -> None:
    """Two rounds: what a server remembers of an upload is older than what the other one has stored since."""
    a, b = each_pair.a.client, each_pair.b.client
    path = a.create(len(data))
    assert b.offset(path) == 0
    offset = 0
    for number, client in enumerate((b, a, b, a)):
        end = len(data) if number == 3 else offset + len(data) // 4
        answer = client.patch(path, offset, data[offset:end])
        assert (answer.status, answer.offset) == (204, end), answer
        offset = end
        assert [each.offset(path) for each in (a, b)] == [end, end]
    _read_on_both(each_pair, path, data)


def test_an_upload_that_was_just_made_is_known_to_both(shared_pair: Pair) -> None:
    for one, other in (shared_pair.replicas, shared_pair.replicas[::-1]):
        for first in (b"", SMALL[:1000], DATA[: 6 * MIB]):
            path = one.client.create(len(DATA), {"Content-Type": "application/offset+octet-stream"}, first)
            answer = other.client.patch(path, len(first), DATA[len(first) :])
            assert (answer.status, answer.offset) == (204, len(DATA)), answer
            _read_on_both(shared_pair, path, DATA)


def test_what_one_server_remembers_does_not_deceive_it(shared_pair: Pair) -> None:
    """Each is told an offset that was true when it had the upload last, and refuses."""
    a, b = shared_pair.a.client, shared_pair.b.client
    path = a.create(len(SMALL))
    assert a.patch(path, 0, SMALL[:1000]).status == 204
    assert b.patch(path, 1000, SMALL[1000:2000]).status == 204
    for client in (a, b):
        answer = client.patch(path, 1000, b"x" * 100)
        assert (answer.status, answer.offset) == (409, 2000)
    b.finish(path, SMALL)
    answer = a.patch(path, 2000, b"x" * 100)
    assert answer.status in (409, 413)
    _read_on_both(shared_pair, path, SMALL)


@pytest.mark.parametrize("sent", [100_000, 7 * MIB], ids=["small", "parts"])
def test_F26_a_server_removes_what_the_other_is_receiving(shared_pair: Pair, sent: int) -> None:
    a, b = shared_pair.a.client, shared_pair.b.client
    path = a.create(len(DATA))
    assert a.patch(path, 0, DATA[:1000]).status == 204
    with a.connect() as connection:
        connection.hold_patch(path, 1000, len(DATA) - 1000, DATA[1000:sent])
        began = time.monotonic()
        assert b.delete(path).status == 204
        assert time.monotonic() - began < SOON_SECONDS
        connection.try_to_send(DATA[sent:])
        assert connection.answer().status in (404, 423)
    assert [each.head(path).status for each in (a, b)] == [404, 404]
    assert a.patch(path, 0, DATA).status == 404
    assert shared_pair.objects_of(path) == []


def test_F16_partials_of_both_servers_are_joined_by_either(shared_pair: Pair) -> None:
    a, b = shared_pair.a.client, shared_pair.b.client
    pieces = [DATA[: 6 * MIB], DATA[6 * MIB : 7 * MIB], DATA[7 * MIB :]]
    partial = {"Upload-Concat": "partial"}
    paths = [client.create(len(piece), partial) for client, piece in zip((a, b, a), pieces, strict=True)]
    for client, path, piece in zip((b, a, b), paths[:2], pieces[:2], strict=False):
        assert client.patch(path, 0, piece).status == 204
    final = _concatenate(a, *paths)
    assert final == _concatenate(b, *paths)
    assert b.ask("GET", final).status == 400  # one is missing
    middle = len(pieces[2]) // 2
    assert a.patch(paths[2], 0, pieces[2][:middle]).status == 204
    assert b.patch(paths[2], middle, pieces[2][middle:]).status == 204
    assert final == _concatenate(a, *paths)
    _read_on_both(shared_pair, final, DATA)


@pytest.mark.parametrize("data", [SMALL, DATA], ids=["small", "parts"])
def test_F15_a_length_may_be_declared_to_another_server(shared_pair: Pair, data: bytes) -> None:
    a, b = shared_pair.a.client, shared_pair.b.client
    path, middle = a.create(None), len(data) // 2
    assert a.patch(path, 0, data[:middle]).status == 204
    assert b.head(path).headers["upload-defer-length"] == "1"
    assert b.patch(path, middle, b"", Upload_Length=str(len(data))).status == 204
    assert a.head(path).headers["upload-length"] == str(len(data))
    assert a.patch(path, middle, data[middle:] + b"x").status == 413
    a.finish(path, data)
    _read_on_both(shared_pair, path, data)


@pytest.mark.parametrize("sent", [100_000, 12 * MIB], ids=["small", "parts"])
def test_F11_a_cut_checksummed_body_counts_nothing_elsewhere(shared_pair: Pair, sent: int) -> None:
    a, b = shared_pair.a.client, shared_pair.b.client
    path = a.create(len(DATA))
    assert a.patch(path, 0, DATA[:1000]).status == 204
    wrong = bytes(255 - each for each in DATA[1000:])
    with a.connect() as connection:
        connection.hold_patch(path, 1000, len(wrong), wrong[:sent], Upload_Checksum=checksum(wrong))
        connection.reset()
    assert b.offset(path) == 1000
    answer = b.patch(path, 1000, DATA[1000:], Upload_Checksum=checksum(DATA[1000:]))
    assert (answer.status, answer.offset) == (204, len(DATA)), answer
    _read_on_both(shared_pair, path, DATA)


def test_F27_a_server_sweeps_what_the_other_left_and_nothing_that_it_is_receiving(
    versitygw: S3Server, tmp_path: Path
) -> None:
    flags = ("--expire-after", "2s", "--sweep-interval", "300ms", "--redis-lease", "1s")
    with pair_on(versitygw, tmp_path, *flags) as pair:
        a, b = pair.a.client, pair.b.client
        kept = a.create(len(SMALL))
        with a.connect() as connection:
            connection.hold_patch(kept, 0, len(SMALL), SMALL[:1000])
            left = [a.create(len(DATA)), a.create(len(SMALL))]
            assert a.patch(left[0], 0, DATA[: 6 * MIB]).status == 204
            wait_for(lambda: not any(map(pair.objects_of, left)), 15)
            connection.send(SMALL[1000:])
            assert connection.answer().status == 204
            assert {each.head(path).status for each in (a, b) for path in left} == {404}
        _read_on_both(pair, kept, SMALL)
        orphan = a.create(len(DATA))
        assert a.patch(orphan, 0, DATA[: 6 * MIB]).status == 204
        pair.a.kill()
        wait_for(lambda: not pair.objects_of(orphan), 15)
        with pytest.raises(LostError):
            a.head(orphan)
        assert b.head(orphan).status == 404
        assert b.content(kept) == SMALL


@pytest.mark.parametrize("is_checked", [False, True], ids=["plain", "checksummed"])
def test_tuspy_uploads_by_way_of_a_balancer(shared_pair: Pair, *, is_checked: bool) -> None:
    """It makes a new connection for each request: creation on the one server, first PATCH on the other one."""
    before = shared_pair.balancer.taken.copy()
    client = TusClient(f"http://127.0.0.1:{shared_pair.balancer.port}/files/")
    uploader = client.uploader(file_stream=io.BytesIO(DATA), chunk_size=MIB, upload_checksum=is_checked)
    uploader.upload()
    taken = shared_pair.balancer.taken - before
    assert sum(taken.values()) == 15  # the creation, and 14 PATCHes
    assert sorted(taken.values()) == [7, 8]
    _read_on_both(shared_pair, BASE_PATH + uploader.url.rpartition("/")[2], DATA)
