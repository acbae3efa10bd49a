"""Who may write: stalled, healthy, rival, frozen and dead holders of an upload (failures F20 to F24)."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from faultclient import Answer, Client, Connection, LostError, checksum, patch_headers
from faultserver import Duo

from tests.faults.conftest import ONE_AND_TWO, SHARED_ONE_AND_TWO, Launch

DATA = os.urandom(2_000_003)
EVIL = bytes(255 - byte for byte in DATA)  # differs from DATA in every byte
SOON_SECONDS = 1.2


class Trickle(threading.Thread):
    """A healthy slow client: `piece_bytes` of `data` every `pause_seconds`, until `hurry` is set; then all the rest."""

    def __init__(self, client: Client, path: str, data: bytes, *, piece_bytes: int = 1, pause_seconds: float = 0.1):
        super().__init__()
        self.answer: Answer | None = None
        self.sent = 0
        self._hurry = threading.Event()
        self._data, self._piece_bytes, self._pause_seconds = data, piece_bytes, pause_seconds
        self._connection = client.connect()
        self._connection.hold_patch(path, 0, len(data), data[:piece_bytes])
        self.sent = piece_bytes

    def _send(self, count: int) -> None:
        self._connection.try_to_send(self._data[self.sent : self.sent + count])
        self.sent = min(self.sent + count, len(self._data))

    def run(self) -> None:
        with self._connection:
            while self.sent < len(self._data) and not self._hurry.wait(self._pause_seconds):
                self._send(self._piece_bytes)
            self._send(len(self._data))
            self.answer = self._connection.answer()

    def finish(self) -> Answer:
        self._hurry.set()
        self.join(20)
        assert self.answer is not None
        return self.answer


@pytest.mark.parametrize("sent", [0, 300_000])
def test_F20_a_head_ends_a_half_open_patch(duo: Duo, sent: int) -> None:
    path = duo.a.create(len(DATA))
    with duo.a.connect() as silent:
        silent.hold_patch(path, 0, len(DATA), DATA[:sent])
        began = time.monotonic()
        assert duo.b.offset(path) == sent
        assert time.monotonic() - began < SOON_SECONDS
        half = (sent + len(DATA)) // 2
        with duo.b.connect() as next_one:
            next_one.begin_patch(path, sent, len(DATA) - sent, DATA[sent:half])
            silent.try_to_send(EVIL[sent:])  # it wakes up and writes on, while another has the upload
            next_one.send(DATA[half:])
            answer = next_one.answer()
        assert (answer.status, answer.offset) == (204, len(DATA))
        interrupted = silent.answer()
        assert (interrupted.status, interrupted.code) == (423, "ERR_UPLOAD_INTERRUPTED")
        silent.try_to_send(EVIL)
        assert duo.a.content(path) == DATA
    duo.b.finish(path, DATA)


def test_F20_a_patch_ends_a_half_open_patch(duo: Duo) -> None:
    path = duo.a.create(len(DATA))
    with duo.a.connect() as silent:
        silent.hold_patch(path, 0, len(DATA), DATA[:300_000])
        began = time.monotonic()
        answer = duo.b.patch(path, 300_000, DATA[300_000:])
        assert (answer.status, answer.offset) == (204, len(DATA))
        assert time.monotonic() - began < SOON_SECONDS
        silent.try_to_send(EVIL[300_000:])
        assert silent.answer().status == 423
    duo.a.finish(path, DATA)


def test_F11_F20_a_half_open_checksummed_patch_counts_nothing(duo: Duo) -> None:
    path = duo.a.create(len(DATA))
    assert duo.a.patch(path, 0, DATA[:1000]).status == 204
    with duo.a.connect() as silent:
        silent.hold_patch(path, 1000, len(DATA) - 1000, EVIL[1000:1_900_000], Upload_Checksum=checksum(DATA))
        began = time.monotonic()
        assert duo.b.offset(path) == 1000
        assert time.monotonic() - began < SOON_SECONDS
        silent.try_to_send(EVIL[1_900_000:])
        assert silent.answer().status == 423
    duo.b.finish(path, DATA)


@SHARED_ONE_AND_TWO
def test_F20_a_head_never_ends_a_healthy_patch(duo: Duo) -> None:
    path = duo.a.create(len(DATA))
    patch = Trickle(duo.a, path, DATA, piece_bytes=30_000)
    patch.start()
    try:
        offsets, slowest = [0], 0.0
        while patch.sent < 600_000:
            began = time.monotonic()
            offsets.append(duo.b.offset(path))
            slowest = max(slowest, time.monotonic() - began)
    finally:
        answer = patch.finish()
    assert (answer.status, answer.offset) == (204, len(DATA)), answer
    assert slowest < SOON_SECONDS
    assert offsets == sorted(offsets)
    duo.b.finish(path, DATA)


@SHARED_ONE_AND_TWO
def test_F21_of_two_patches_at_one_offset_one_wins_whole(duo: Duo) -> None:
    size = len(DATA) // 2
    bodies = (DATA[:size], EVIL[:size])
    for _ in range(20):
        path = duo.a.create(len(DATA))
        barrier = threading.Barrier(2)
        with ThreadPoolExecutor(2) as threads:
            rivals = [
                threads.submit(_patch_in_pieces, client, path, body, barrier)
                for client, body in zip((duo.a, duo.b), bodies, strict=True)
            ]
            answers = [rival.result(20) for rival in rivals]
        statuses = sorted(answer.status for answer in answers)
        assert statuses == [204, 409], answers
        winner = bodies[[answer.status for answer in answers].index(204)]
        assert all(answer.offset == size for answer in answers)
        duo.b.finish(path, winner + DATA[size:])


def _patch_in_pieces(client: Client, path: str, body: bytes, barrier: threading.Barrier) -> Answer:
    with client.connect() as connection:
        barrier.wait(5)
        connection.begin("PATCH", path, patch_headers(0, len(body)))
        for start in range(0, len(body), 20_000):
            if not connection.try_to_send(body[start : start + 20_000]):
                break
        return connection.answer()


def test_F22_a_frozen_holder_keeps_its_right(launch: Launch) -> None:
    flags = ("--acquire-lock-timeout", "1s")
    a, b = launch(*flags), launch(*flags)
    path, other = a.client.create(len(DATA)), a.client.create(len(EVIL))
    with a.client.connect() as holder:
        holder.hold_patch(path, 0, len(DATA), DATA[:400_000])
        with a.frozen(), ThreadPoolExecutor(1) as threads:
            rival = threads.submit(b.client.patch, path, 0, EVIL)
            began = time.monotonic()
            assert b.client.patch(other, 0, EVIL).status == 204  # nobody else is held up
            assert time.monotonic() - began < 0.5
            began = time.monotonic()
            head = b.client.head(path)
            assert head.status in (200, 423)
            assert time.monotonic() - began < 3
            if head.status == 200:
                assert head.offset <= 400_000
            refused = rival.result(20)
            assert (refused.status, refused.code) == (423, "ERR_UPLOAD_LOCKED")
        holder.send(DATA[400_000:])
        answer = holder.answer()
        # It looks stalled, since its client was not read meanwhile; but what it took is its client's.
        assert answer.status in (204, 423)
    b.client.finish(path, DATA)
    assert a.client.content(other) == EVIL


def test_F22_who_waits_for_a_frozen_holder_gets_its_turn(launch: Launch) -> None:
    a, b = launch(), launch()
    path = a.client.create(len(DATA))
    with a.client.connect() as silent, b.client.connect() as next_one:
        silent.hold_patch(path, 0, len(DATA), DATA[:400_000])
        with a.frozen():
            next_one.begin_patch(path, 400_000, len(DATA) - 400_000, DATA[400_000:500_000])
            # Late bytes that only the kernel has: they count for nobody or, once `a` goes on, for its PATCH.
            silent.try_to_send(DATA[400_000:450_000])
        next_one.try_to_send(DATA[500_000:])
        assert next_one.answer().status in (204, 409)
        silent.try_to_send(EVIL[450_000:])
        assert silent.answer().status == 423
    b.client.finish(path, DATA)


@ONE_AND_TWO
def test_F23_a_dead_holder_s_upload_goes_on_at_once(launch: Launch, durability: str, count: int) -> None:
    a = launch("--durability", durability)
    b = launch("--durability", durability) if count == 2 else a
    path = a.client.create(len(DATA))
    assert a.client.patch(path, 0, DATA[:1000]).status == 204
    with a.client.connect() as holder:
        holder.hold_patch(path, 1000, len(DATA) - 1000, DATA[1000:900_000])
        a.kill()
        with pytest.raises(LostError):
            holder.answer()
    if count == 1:
        a.start()
    began = time.monotonic()
    assert 1000 <= b.client.offset(path) <= 900_000
    b.client.finish(path, DATA)
    assert time.monotonic() - began < SOON_SECONDS


def test_F23_who_waits_for_a_dead_holder_gets_its_turn(launch: Launch) -> None:
    a, b = launch(), launch()
    path = a.client.create(len(DATA))
    assert a.client.patch(path, 0, DATA[:1000]).status == 204
    checksummed = {"Upload_Checksum": checksum(EVIL[1000:])}
    with a.client.connect() as holder, b.client.connect() as next_one:
        holder.hold_patch(path, 1000, len(DATA) - 1000, EVIL[1000:900_000], **checksummed)
        healthy = threading.Event()
        keeper = threading.Thread(target=_keep_alive, args=(holder, healthy))
        keeper.start()
        try:
            next_one.begin_patch(path, 1000, len(DATA) - 1000, DATA[1000:2000])
            next_one.wait_until_read()
        finally:
            healthy.set()
            keeper.join()
        a.kill()
        began = time.monotonic()
        next_one.send(DATA[2000:])
        assert next_one.answer().status == 204
        assert time.monotonic() - began < SOON_SECONDS
    b.client.finish(path, DATA)


def _keep_alive(holder: Connection, is_over: threading.Event) -> None:
    while not is_over.wait(0.05):
        holder.try_to_send(b"x")


@SHARED_ONE_AND_TWO
def test_F24_waiting_costs_no_cpu_and_delays_nobody(duo: Duo) -> None:
    path = duo.a.create(len(DATA))
    finished = duo.a.upload(DATA[:100_000])
    holder = Trickle(duo.a, path, DATA)
    holder.start()
    try:
        with ExitStack() as stack:
            waiters = [stack.enter_context(duo.b.connect()) for _ in range(200)]
            for waiter in waiters:
                waiter.begin_patch(path, 0, 10, EVIL[:10])
            assert duo.b.offset(path) == 0  # asked after them, on the same server
            before = duo.cpu_seconds()
            slowest = 0.0
            end = time.monotonic() + 2
            while (began := time.monotonic()) < end:
                assert duo.b.offset(finished) == 100_000
                assert duo.b.content(finished) == DATA[:100_000]
                slowest = max(slowest, (time.monotonic() - began) / 2)
                time.sleep(0.2)  # the clients' own pace: it is the waiters' cost that is measured
            assert duo.cpu_seconds() - before < 0.2
            assert slowest < 0.1
            assert holder.finish().status == 204
            answers = [waiter.answer() for waiter in waiters]
    finally:
        holder.finish()
    assert {(answer.status, answer.offset) for answer in answers} == {(409, len(DATA))}
    duo.b.finish(path, DATA)
