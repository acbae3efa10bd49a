"""Uploads that are deleted or swept while somebody writes them, and those that must stay (failures F26, F27)."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from faultclient import Answer, Connection, checksum
from faultserver import Duo, wait_for

from tests.faults.conftest import ONE_AND_TWO, Launch
from tusd_py.stores.disk import DiskStore

DATA = os.urandom(2_000_003)
OTHER = os.urandom(400_000)
GONE = (404, 410)
SOON_SECONDS = 1.0


class Flood(threading.Thread):
    """A healthy fast client that goes on writing until its server has had enough."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.answer: Answer | None = None
        self._connection = connection

    def run(self) -> None:
        while self._connection.try_to_send(b"x" * 20_000) and not self._connection.has_answer(0.002):
            pass
        self.answer = self._connection.answer()


@contextmanager
def _flooded(duo: Duo, path: str, length: int, **more: str) -> Iterator[Flood]:
    with duo.a.connect() as connection:
        connection.hold_patch(path, 0, length, b"x", **more)
        flood = Flood(connection)
        flood.start()
        try:
            yield flood
        finally:
            flood.join(20)


@pytest.mark.parametrize("checksummed", [False, True], ids=["plain", "checksummed"])
def test_F26_delete_ends_a_healthy_patch_and_leaves_nothing(duo: Duo, checksummed: bool) -> None:
    other = duo.a.upload(OTHER)
    length = 10_000_000_000
    path = duo.a.create(length)
    more = {"Upload_Checksum": checksum(b"")} if checksummed else {}
    with _flooded(duo, path, length, **more) as flood:
        began = time.monotonic()
        assert duo.b.delete(path).status == 204
        assert time.monotonic() - began < SOON_SECONDS
        assert duo.b.head(path).status in GONE
        assert duo.files_of(path) == []
    assert flood.answer is not None
    assert (flood.answer.status, flood.answer.code) == (423, "ERR_UPLOAD_INTERRUPTED")
    for client in (duo.a, duo.b):
        assert client.head(path).status in GONE
        assert client.ask("GET", path).status in GONE
        assert client.patch(path, 0, b"x").status in GONE
        assert client.delete(path).status in GONE
    assert duo.files_of(path) == []
    assert duo.b.content(other) == OTHER


def test_F26_those_who_wait_for_a_deleted_upload_hear_of_it(duo: Duo) -> None:
    path = duo.a.create(len(DATA))
    with duo.a.connect() as holder, duo.b.connect() as first, duo.a.connect() as second:
        holder.hold_patch(path, 0, len(DATA), DATA[:1000])
        first.begin_patch(path, 0, 1000, OTHER[:1000])
        # This one might have its turn before the DELETE, since no order is promised, and then has to be ended too.
        second.begin_patch(path, 1000, len(DATA) - 1000, OTHER[:1000])
        for waiter in (first, second):
            waiter.wait_until_read()
        began = time.monotonic()
        assert duo.b.delete(path).status == 204
        assert time.monotonic() - began < SOON_SECONDS
        assert holder.answer().status == 423
        assert first.answer().status in (404, 409)
        assert second.answer().status in (404, 423)
    assert duo.b.head(path).status in GONE
    assert duo.files_of(path) == []
    duo.a.finish(duo.b.create(len(DATA)), DATA)


def test_F26_a_download_under_way_is_not_cut_short_unnoticed(duo: Duo) -> None:
    content = DATA * 10
    path = duo.a.upload(content)
    with duo.a.connect(receive_buffer_bytes=4096) as reader:
        reader.begin("GET", path, {})
        assert reader.answer_head().status == 200
        assert duo.b.delete(path).status == 204
        assert duo.b.head(path).status in GONE
        assert reader.read(len(content)) == content
    assert duo.files_of(path) == []


@ONE_AND_TWO
def test_F27_the_sweep_takes_what_is_given_up_and_nothing_else(launch: Launch, durability: str, count: int) -> None:
    flags = ("--durability", durability, "--expire-after", "1s", "--sweep-interval", "100ms", "--stall-timeout", "30s")
    servers = [launch(*flags) for _ in range(count)]
    duo = Duo(servers[0].directory, tuple(servers))
    finished, empty = duo.a.upload(OTHER), duo.a.create(0)
    leftover = duo.directory / ".tusd-py" / "tmp" / f"{secrets.token_hex(16)}.0123abcd"
    leftover.write_bytes(OTHER)
    held = duo.a.create(len(DATA))
    with duo.a.connect() as holder:
        holder.hold_patch(held, 0, len(DATA), DATA[:300_000])
        given_up = [duo.a.create(1000), duo.b.create(None), duo.b.create(len(DATA))]
        assert duo.a.patch(given_up[2], 0, DATA[:1000]).status == 204
        wait_for(lambda: not any(duo.files_of(path) for path in given_up))  # each younger than what is held
        wait_for(lambda: not leftover.exists())
        holder.send(DATA[300_000:])
        answer = holder.answer()
        assert (answer.status, answer.offset) == (204, len(DATA))
    for path in given_up:
        assert duo.b.head(path).status in GONE
        assert duo.a.patch(path, 0, b"x").status in GONE
    for path, content in ((held, DATA), (finished, OTHER), (empty, b"")):
        assert duo.b.offset(path) == len(content)
        assert duo.b.content(path) == content


def test_F27_the_sweep_of_one_server_keeps_no_other_from_starting(launch: Launch) -> None:
    """What a starting server does to its directory, many times, beside one that sweeps it without a pause."""
    server = launch("--sweep-interval", "1ms")
    path = server.client.create(len(DATA))
    for _ in range(20_000):
        DiskStore(server.directory).prepare()
    server.client.finish(path, DATA)
