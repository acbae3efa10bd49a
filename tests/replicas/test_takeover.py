"""An upload goes on at once on another server when its client is stalled, and within the lease and a second when its
server is paused, dead or cut off; what the first server does late changes nothing (failures F20, F22, F23)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import pytest
from faultclient import Client, Connection, LostError
from faultserver import wait_for
from replicaserver import LEASE_SECONDS, MIB, Pair, Replica
from replicatakeover import FIRST, LENGTH, RETRIED, SECOND, late_answer, seam, send_up_to, take_over

SENT = pytest.mark.parametrize("sent", [300_000, 7 * MIB], ids=["small", "parts"])
SENT_IN_SHORT = pytest.mark.parametrize(
    "sent", [pytest.param(300_000, marks=pytest.mark.long), 7 * MIB], ids=["small", "parts"]
)
SOON_SECONDS = 1.0
LEASE_AND_ONE_SECONDS = LEASE_SECONDS + 1


@contextmanager
def held(client: Client, sent: int) -> Iterator[tuple[str, Connection]]:
    """An upload of which 1000 bytes are acknowledged, in the middle of a PATCH with all others."""
    path = client.create(LENGTH)
    assert client.patch(path, 0, FIRST[:1000]).status == 204
    with client.connect() as connection:
        connection.hold_patch(path, 1000, LENGTH - 1000, FIRST[1000:sent])
        yield path, connection


class Trickle(threading.Thread):
    """The first client goes on, slowly and healthily, until `end()`, or until nobody listens."""

    def __init__(self, connection: Connection, sent: int) -> None:
        super().__init__(daemon=True)
        self.sent = sent
        self._connection = connection
        self._is_over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._is_over.wait(0.02) and self._connection.try_to_send(FIRST[self.sent : self.sent + 1000]):
            self.sent += 1000

    def end(self) -> None:
        self._is_over.set()
        self.join()


def _tell(what: str, seconds: float) -> None:
    print(f"taken over from a {what} holder after {seconds:.2f} s (lease {LEASE_SECONDS:g} s)")


def _refused(connection: Connection) -> None:
    """Whoever is late is told so, or nothing."""
    answer = late_answer(connection)
    assert answer is None or answer.status in RETRIED, answer


def _stays(pair: Pair, path: str, content: bytes) -> None:
    """Wherever it is asked for. A server that was cut off is whole again some moments later."""
    for replica in pair.replicas:
        assert replica.client.offset(path) == LENGTH
        assert replica.client.content(path) == content


@SENT
def test_F20_a_stalled_client_is_outrun(pair: Pair, sent: int) -> None:
    """Not one byte that the first server had received is asked for again."""
    seconds = []
    for _ in range(3):
        with held(pair.a.client, sent) as (path, silent):
            taken = take_over(pair.b.client, path)
            assert taken.offset == sent
            silent.try_to_send(FIRST[sent:])
            _refused(silent)
            assert pair.a.client.content(path) == FIRST[:sent] + SECOND[sent:]
        seconds.append(taken.seconds)
        _tell("stalled", taken.seconds)
    assert median(seconds) < SOON_SECONDS


@SENT_IN_SHORT
def test_F22_a_paused_server_is_outrun(pair: Pair, sent: int) -> None:
    with held(pair.a.client, sent) as (path, late):
        with pair.a.frozen():
            late.try_to_send(FIRST[sent : sent + 50_000])  # what its kernel has for it when it wakes up
            taken = take_over(pair.b.client, path)
            content = pair.b.client.content(path)
        assert taken.seconds < LEASE_AND_ONE_SECONDS
        assert 1000 <= taken.offset <= sent
        assert seam(content) == taken.offset
        late.try_to_send(FIRST[sent + 50_000 :])
        _refused(late)
    _stays(pair, path, content)
    _tell("paused", taken.seconds)


def test_F22_a_server_that_wakes_up_in_the_middle_harms_nothing(pair: Pair) -> None:
    """While the other one is receiving what the first one was sent other bytes for, and has begun to store it."""
    parts = pair.b.s3.counts["UploadPart"]
    with held(pair.a.client, 7 * MIB) as (path, late), pair.b.client.connect() as connection:
        with pair.a.frozen():
            offset = pair.b.client.offset(path)
            connection.hold_patch(path, offset, LENGTH - offset, SECOND[offset : 6 * MIB])
            wait_for(lambda: pair.b.s3.counts["UploadPart"] > parts)
        late.try_to_send(FIRST[7 * MIB :])
        _refused(late)
        connection.send(SECOND[6 * MIB :])
        assert connection.answer().status == 204
    _stays(pair, path, FIRST[:offset] + SECOND[offset:])


@SENT_IN_SHORT
def test_F23_a_dead_server_is_replaced(pair: Pair, sent: int) -> None:
    with held(pair.a.client, sent) as (path, lost):
        pair.a.kill()
        with pytest.raises(LostError):
            lost.answer()
        taken = take_over(pair.b.client, path)
    assert taken.seconds < LEASE_AND_ONE_SECONDS
    assert 1000 <= taken.offset <= sent
    pair.a.start()
    _stays(pair, path, FIRST[: taken.offset] + SECOND[taken.offset :])
    _tell("dead", taken.seconds)


@pytest.mark.parametrize("how", ["cut", "silence"])
def test_F22_a_server_without_redis_is_outrun(pair: Pair, how: str) -> None:
    """Its client is healthy and goes on all the time; what it sent until the lease was over may count, and no more."""
    with held(pair.a.client, 7 * MIB) as (path, healthy):
        trickle = Trickle(healthy, 7 * MIB)
        try:
            getattr(pair.a.redis, how)()
            taken = take_over(pair.b.client, path)
        finally:
            trickle.end()
        assert taken.seconds < LEASE_AND_ONE_SECONDS
        _refused(healthy)
    content = pair.b.client.content(path)
    assert 1000 <= seam(content) <= taken.offset <= trickle.sent
    pair.a.redis.heal()
    _stays(pair, path, content)
    assert pair.a.client.content(_uploaded(pair.a)) == FIRST
    _tell(f"cut off ({how})", taken.seconds)


def _uploaded(replica: Replica) -> str:
    """A new one, as soon as the server has found Redis again."""
    paths: list[str] = []

    def try_to_create() -> bool:
        answer = replica.client.ask("POST", "/files/", {"Upload-Length": str(LENGTH)})
        assert answer.status in (201, 503), answer
        if answer.status == 201:
            paths.append(answer.headers["location"].partition("/files")[2])
        return bool(paths)

    wait_for(try_to_create, 10)
    path = f"/files{paths[0]}"
    assert replica.client.patch(path, 0, FIRST).status == 204
    return path


def test_a_server_without_storage_says_so_and_is_replaced(pair: Pair) -> None:
    """It is not dead and gives the upload back; what it had acknowledged is there."""
    with held(pair.a.client, 300_000) as (path, connection):
        fault = pair.a.s3.inject("before", for_ever=True)
        connection.send(FIRST[300_000:])
        answer = connection.answer()
        assert (answer.status, answer.code) == (503, "ERR_STORAGE_UNAVAILABLE")
        assert fault.hits
        taken = take_over(pair.b.client, path)
    assert taken.seconds < SOON_SECONDS
    assert taken.offset == 1000
    pair.a.heal()
    _stays(pair, path, FIRST[:1000] + SECOND[1000:])


@contextmanager
def _cut_off(replica: Replica, *, is_killed: bool) -> Iterator[None]:
    """From its clients and from Redis, whether it is dead or goes on; to S3 goes what is on its way."""
    if is_killed:
        replica.kill()
    else:
        replica.redis.cut()
    yield
    if is_killed:
        replica.start()
    else:
        replica.redis.heal()


@pytest.mark.parametrize(
    ("operation", "is_killed", "is_after"),
    [
        ("PutObject", False, True),
        ("UploadPart", True, False),
        *(
            pytest.param(operation, is_killed, is_after, marks=pytest.mark.long)
            for operation in ("PutObject", "UploadPart")
            for is_killed in (True, False)
            for is_after in (True, False)
            if (operation, is_killed, is_after) not in (("PutObject", False, True), ("UploadPart", True, False))
        ),
    ],
)
def test_F22_a_call_to_the_storage_that_lands_late_harms_nothing(
    pair: Pair, operation: str, *, is_killed: bool, is_after: bool
) -> None:
    """It is held on its way, in the middle of a PATCH, until another server is receiving other bytes for the upload, or
    has received them all. A state that lands in the middle may make the first one's bytes count: then the second client
    is told to ask again, and goes on from there."""
    base, sent = {"PutObject": (1000, 300_000), "UploadPart": (6 * MIB, 12 * MIB)}[operation]
    path = pair.a.client.create(LENGTH)
    assert pair.a.client.patch(path, 0, FIRST[:base]).status == 204
    late, parts = pair.a.s3.inject("hold", operation), pair.b.s3.counts["UploadPart"]
    with pair.a.client.connect() as first, pair.b.client.connect() as second:
        first.begin_patch(path, base, sent - base, FIRST[base:sent])
        if operation == "PutObject":
            assert pair.b.client.offset(path) == base  # asks the stalled one to let go: it writes down what it has
        assert late.wait().operation == operation
        with _cut_off(pair.a, is_killed=is_killed):
            began = time.monotonic()
            second.hold_patch(path, base, LENGTH - base, SECOND[base : base + 6 * MIB])
            seconds = time.monotonic() - began
            wait_for(lambda: pair.b.s3.counts["UploadPart"] > parts)
            if not is_after:
                late.release()
                late.hits[0].wait()
            second.send(SECOND[base + 6 * MIB :])
            answer = second.answer()
            if answer.status != 204:
                assert (operation, is_after) == ("PutObject", False)
                assert answer.status in RETRIED
                take_over(pair.b.client, path)
            content = pair.b.client.content(path)
            late.release()
            late.hits[0].wait()
        told = late_answer(first)
    assert seconds < LEASE_AND_ONE_SECONDS
    assert seam(content) == base if answer.status == 204 else base < seam(content) <= sent
    if told is not None and told.status == 204:  # all of it came first
        assert told.offset == sent == seam(content)
    else:
        assert told is None or told.status in RETRIED, told
    _stays(pair, path, content)
    _tell(f"{'dead' if is_killed else 'cut off'}, with {operation} under way,", seconds)


@pytest.mark.parametrize("finisher", ["a", "b"])
def test_F22_a_dead_server_s_part_that_lands_late_takes_nobody_s_place(pair: Pair, finisher: str) -> None:
    """It lands when the server that had the upload before, and remembers it, has gone on and sent parts of its own."""
    a, b, data = pair.a.client, pair.b.client, FIRST * 3
    path, offset = a.create(len(data)), 6 * MIB
    assert a.patch(path, 0, data[:offset]).status == 204
    late = pair.b.s3.inject("hold", "UploadPart")
    with b.connect() as lost:
        lost.begin_patch(path, offset, 6 * MIB, SECOND[offset : 12 * MIB])
        late.wait()
        pair.b.kill()
    for end in (offset + 100_000, offset + 12 * MIB):
        send_up_to(a, path, data, end)
    late.release()
    late.hits[0].wait()
    assert late.hits[0].upstream_status == 200
    pair.b.start()
    send_up_to(getattr(pair, finisher).client, path, data, len(data))
    for client in (a, b):
        assert client.content(path) == data


@pytest.mark.parametrize("operation", ["CompleteMultipartUpload", "PutObject"])
def test_F6_F22_a_last_step_that_lands_late_harms_nothing(pair: Pair, operation: str) -> None:
    """The server dies while it finishes the upload; the other one finishes it; then the first one's call lands."""
    length = LENGTH if operation == "CompleteMultipartUpload" else 5000
    path = pair.a.client.create(length)
    late = pair.a.s3.inject("hold", operation)
    with pair.a.client.connect() as first:
        first.begin_patch(path, 0, length, FIRST[:length])
        assert late.wait().operation == operation
        pair.a.kill()
        with pytest.raises(LostError):
            first.answer()
    content = SECOND[:length] if operation == "PutObject" else FIRST
    began = time.monotonic()
    if operation == "PutObject":
        assert pair.b.client.offset(path) == 0
        assert pair.b.client.patch(path, 0, content).status == 204
    wait_for(lambda: pair.b.client.head(path).status == pair.b.client.ask("GET", path).status == 200, 10)
    assert time.monotonic() - began < LEASE_AND_ONE_SECONDS
    assert pair.b.client.content(path) == content
    late.release()
    late.hits[0].wait()
    pair.a.start()
    for replica in pair.replicas:
        assert replica.client.content(path) == content


def test_F6_a_head_says_complete_only_of_what_can_be_read(pair: Pair) -> None:
    """The server dies before it has put the parts together, and its lock outlives it: the client that believes it has
    finished never asks again, and nobody finishes for it but the next sweep."""
    client = pair.b.client
    path = pair.a.client.create(LENGTH)
    complete = pair.a.s3.inject("hang", "CompleteMultipartUpload")
    with pair.a.client.connect() as first:
        first.begin_patch(path, 0, LENGTH, FIRST)
        complete.wait()
        pair.a.kill()
    deadline = time.monotonic() + 10
    while (head := client.head(path)).status == 423:
        assert time.monotonic() < deadline
    assert head.offset == LENGTH
    assert client.content(path) == FIRST
