"""Who is slow makes nobody else slow, be it a client or the storage, and no memory is taken for what cannot go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from s3proxy import FaultProxy
from s3servers import S3Server
from slowscene import (
    MIB,
    Pattern,
    Server,
    assert_holds,
    healed,
    of,
    patch_headers,
    send,
    send_until_paused,
    serving,
    upload,
    wait_for_parts,
)

Serve = Callable[..., Server]

PART_BYTES = 5 * MIB
PARTS = ("--s3-part-size", "5MiB")
BUFFERED_PARTS = 4
"""The default of --s3-max-buffered-parts."""
KERNEL_BYTES = 16 * MIB
"""More than what lies in the two sockets of one connection."""
BESIDES_BYTES = 80 * MIB
"""What may come to --s3-memory: connections, pieces of files on their way, the heap's holes."""


@pytest.fixture
def proxy(versitygw: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(versitygw.host, versitygw.port) as running:
        yield running


@pytest.fixture
def serve(tmp_path: Path, versitygw: S3Server, proxy: FaultProxy) -> Iterator[Serve]:
    """serve(*flags) starts a server that ends with the test."""
    with ExitStack() as stack, healed(proxy):
        yield lambda *flags: stack.enter_context(serving(tmp_path, proxy.endpoint, versitygw.new_bucket(), *flags))


def test_F25_an_upload_whose_parts_hang_holds_up_no_other(serve: Serve, proxy: FaultProxy) -> None:
    """It has all the memory that there is."""
    server = serve(*PARTS, "--s3-memory", "16MiB", "--s3-concurrent-part-uploads", "5")
    client, before = server.client, server.peak_memory_bytes()
    stuck, other, begun = Pattern(1, 64 * MIB), Pattern(2, 23 * MIB), Pattern(3, 9 * MIB)
    stuck_path, begun_path = client.create(stuck.length), client.create(begun.length)
    assert client.patch(begun_path, 0, begun.read(0, MIB)).status == 204
    hanging = proxy.inject("hang", "UploadPart", where=of(stuck_path), for_ever=True)
    with ThreadPoolExecutor() as threads:
        with healed(proxy):
            sending = threads.submit(send, client, stuck_path, stuck)
            hanging.wait(2)  # 10 of 14 MiB: an eighth is for what is in queues
            other_path = upload(client, other)
            assert_holds(client, other_path, other)
            assert client.offset(begun_path) == MIB
            assert client.offset(stuck_path) == 0
            assert not sending.done()
            grown = server.peak_memory_bytes() - before
            assert grown < 16 * MIB + BESIDES_BYTES
        assert sending.result().status == 204
    assert_holds(client, stuck_path, stuck)
    client.finish(begun_path, begun.read(0, begun.length))
    print(f"grew by {grown / MIB:.0f} MiB")


def test_F25_parts_that_hang_give_their_slots_back(serve: Serve, proxy: FaultProxy) -> None:
    """Those of three uploads are more than may be sent at once."""
    server = serve(*PARTS, "--s3-concurrent-part-uploads", "10")
    client, other = server.client, Pattern(1, 23 * MIB)
    stuck = [Pattern(number, 32 * MIB) for number in (2, 3, 4)]
    paths = [client.create(pattern.length) for pattern in stuck]
    keys = {path.rpartition("/")[2] for path in paths}
    hanging = proxy.inject("hang", "UploadPart", where=lambda call: call.key in keys, for_ever=True)
    with ThreadPoolExecutor() as threads:
        with healed(proxy):
            sending = [threads.submit(send, client, path, pattern) for path, pattern in zip(paths, stuck, strict=True)]
            hanging.wait(10)
            assert_holds(client, upload(client, other), other)
            assert len(hanging.hits) <= 2 * len(stuck) * BUFFERED_PARTS  # long before they are given up: of 5 attempts
        assert [each.result().status for each in sending] == [204] * len(stuck)
    for path, pattern in zip(paths, stuck, strict=True):
        assert_holds(client, path, pattern)


def test_F25_clients_that_are_silent_hold_nothing_that_another_needs(serve: Serve, proxy: FaultProxy) -> None:
    """Most are in their first part; some have sent one, and are in the second. What they sent is more than the memory,
    and they are more than the parts that may be sent at once."""
    flags = ("--s3-memory", "16MiB", "--s3-concurrent-part-uploads", "4", "--network-timeout", "10m")
    server = serve(*PARTS, *flags)
    client, before = server.client, server.peak_memory_bytes()
    patterns = [Pattern(number, 6 * MIB) for number in range(90)]
    sent = [(PART_BYTES if number < 8 else 0) + 200 * 1024 for number in range(len(patterns))]
    assert sum(count % PART_BYTES for count in sent) > 16 * MIB
    with ExitStack() as stack:
        paths = [client.create(pattern.length) for pattern in patterns]
        connections = [stack.enter_context(client.connect()) for _ in patterns]
        for path, connection, pattern, count in zip(paths, connections, patterns, sent, strict=True):
            connection.hold_patch(path, 0, pattern.length, pattern.read(0, count))
        wait_for_parts(proxy, 8)
        busy = Pattern(-1, 30 * MIB)
        assert_holds(client, upload(client, busy), busy)
        for number in (0, 7, 8, len(patterns) - 1):  # and none of them was ended for it
            rest = patterns[number].read(sent[number], patterns[number].length)
            connections[number].send(rest)
            assert connections[number].answer().status == 204
            assert_holds(client, paths[number], patterns[number])
        grown = server.peak_memory_bytes() - before
    assert grown < 16 * MIB + BESIDES_BYTES
    print(f"grew by {grown / MIB:.0f} MiB")


@pytest.mark.parametrize("length", [18 * MIB, 64 * MIB], ids=["all-sent", "in-mid-body"])
def test_F4_the_first_lost_part_ends_a_body_and_what_came_before_it_counts(
    serve: Serve, proxy: FaultProxy, length: int
) -> None:
    client, pattern = serve(*PARTS).client, Pattern(4, length)
    path = client.create(length)
    is_second = of(path)
    lost = proxy.inject(
        "error500",
        "UploadPart",
        where=lambda call: is_second(call) and call.query["partNumber"] == "2",
        for_ever=True,
    )
    with healed(proxy):
        answer = send(client, path, pattern)
    assert 500 <= answer.status < 600, answer
    assert len(lost.hits) > 1  # it was tried again
    taken = {call.query["partNumber"] for call in proxy.calls if call.operation == "UploadPart" and call.status == 200}
    assert "3" in taken  # so there was something beyond the gap
    assert client.offset(path) == PART_BYTES
    assert client.patch(path, 3 * PART_BYTES, b"x").status == 409
    assert send(client, path, pattern, PART_BYTES).status == 204
    assert_holds(client, path, pattern)


def test_a_client_that_is_faster_than_the_storage_is_paused(serve: Serve, proxy: FaultProxy) -> None:
    client, pattern = serve(*PARTS).client, Pattern(5, 96 * MIB)
    path = client.create(pattern.length)
    standing = proxy.inject("hold", "UploadPart", for_ever=True)
    with client.connect() as connection:
        connection.begin("PATCH", path, patch_headers(0, pattern.length))
        with healed(proxy):
            sent = send_until_paused(connection, pattern)
            standing.wait(BUFFERED_PARTS)
            assert len(standing.hits) == BUFFERED_PARTS
            # The part that is gathered meanwhile is twice as large.
            assert sent <= (BUFFERED_PARTS + 2) * PART_BYTES + KERNEL_BYTES
        for piece in pattern.pieces(sent):
            connection.send(piece)
        assert connection.answer().status == 204
    assert_holds(client, path, pattern)
    print(f"paused after {sent / MIB:.1f} MiB")


@pytest.mark.parametrize(
    ("memory", "expected"),
    [("128MiB", [5, 5, 5, 5, 10, 1]), ("24MiB", [5, 5, 5, 5, 5, 5, 1])],
    ids=["and-memory-is-ample", "not-where-others-need-it"],
)
def test_parts_are_larger_while_a_client_outpaces_the_storage(
    serve: Serve, proxy: FaultProxy, memory: str, expected: list[int]
) -> None:
    client, pattern = serve(*PARTS, "--s3-memory", memory).client, Pattern(6, 31 * MIB)
    path = client.create(pattern.length)
    standing = proxy.inject("hold", "UploadPart", for_ever=True)
    with ThreadPoolExecutor() as threads:
        with healed(proxy):
            sending = threads.submit(send, client, path, pattern)
            standing.wait(4)
        assert sending.result().status == 204
    assert_holds(client, path, pattern)
    sizes = {
        int(call.query["partNumber"]): call.request_bytes for call in proxy.calls if call.operation == "UploadPart"
    }
    assert [sizes[number] / MIB for number in sorted(sizes)] == expected


@pytest.mark.parametrize(
    ("length", "operation"), [(5 * MIB, "PutObject"), (11 * MIB, "UploadPart")], ids=["objects", "parts"]
)
def test_forty_uploads_to_a_slow_storage_take_no_more_memory_than_they_may(
    serve: Serve, proxy: FaultProxy, length: int, operation: str
) -> None:
    server = serve(*PARTS, "--s3-memory", "32MiB")
    client, before = server.client, server.peak_memory_bytes()
    patterns = [Pattern(number, length) for number in range(40)]
    paths = [client.create(length) for _ in patterns]
    slow = proxy.inject(
        "delay", operation, where=lambda call: not call.key.endswith(".info"), for_ever=True, seconds=0.3
    )
    with ThreadPoolExecutor(len(patterns)) as threads, healed(proxy):
        answers = list(threads.map(lambda path, pattern: send(client, path, pattern), paths, patterns))
    grown = server.peak_memory_bytes() - before
    assert {answer.status for answer in answers} == {204}
    assert len(slow.hits) >= len(patterns)
    assert grown < 32 * MIB + BESIDES_BYTES
    for path, pattern in zip(paths, patterns, strict=True):
        assert_holds(client, path, pattern)
    print(f"{operation}: grew by {grown / MIB:.0f} MiB from {before / MIB:.0f}")
