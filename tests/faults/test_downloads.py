"""Many readers, slow readers and a writer side by side (failures F28)."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Barrier

import pytest
from faultclient import Client
from faultserver import Duo

from tests.faults.conftest import Launch

CONTENT = os.urandom(1 << 20) * 50
DIGEST = hashlib.sha1(CONTENT).hexdigest()
WRITTEN = os.urandom(8 << 20)
READERS = 20
MEMORY_BYTES = 48 << 20
"""What all readers together may cost a server: less than one whole content."""


@dataclass(frozen=True)
class Served:
    duo: Duo
    path: str


@pytest.fixture(params=[1, 2], ids=["one", "two"])
def served(request: pytest.FixtureRequest, launch: Launch) -> Served:
    servers = [launch("--durability", "process") for _ in range(request.param)]
    duo = Duo(servers[0].directory, tuple(servers))
    return Served(duo, duo.a.upload(CONTENT))


def _digest(client: Client, path: str, barrier: Barrier | None = None) -> str:
    """What is read, once all at the `barrier` are being served."""
    hasher, left = hashlib.sha1(), len(CONTENT)
    with client.connect() as connection:
        connection.begin("GET", path, {})
        answer = connection.answer_head()
        assert (answer.status, answer.headers["content-length"]) == (200, str(left))
        if barrier is not None:
            barrier.wait()
        while left:
            piece = connection.read(min(left, 1 << 18))
            hasher.update(piece)
            left -= len(piece)
    return hasher.hexdigest()


@contextmanager
def _slow_readers(served: Served, count: int) -> Iterator[None]:
    """They ask and never read."""
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(served.duo.a.connect(receive_buffer_bytes=4096))
            connection.begin("GET", served.path, {})
            assert connection.head().status == 200
        yield


def test_F28_readers_block_neither_each_other_nor_a_writer(served: Served) -> None:
    duo = served.duo
    before = [server.peak_memory_bytes() for server in duo.servers]
    barrier = Barrier(READERS, timeout=10)
    with ThreadPoolExecutor(READERS) as threads:
        digests = [threads.submit(_digest, (duo.a, duo.b)[n % 2], served.path, barrier) for n in range(READERS)]
        slowest, written = 0.0, []
        while not all(digest.done() for digest in digests):
            began = time.monotonic()
            written.append(duo.b.upload(WRITTEN))
            slowest = max(slowest, time.monotonic() - began)
        assert {digest.result() for digest in digests} == {DIGEST}
    assert slowest < 5
    for path in written:
        assert duo.a.content(path) == WRITTEN
    for server, memory in zip(duo.servers, before, strict=True):
        assert server.peak_memory_bytes() - memory < MEMORY_BYTES


def test_F28_who_never_reads_hurts_nobody(served: Served) -> None:
    duo = served.duo
    memory = duo.servers[0].peak_memory_bytes()
    with _slow_readers(served, READERS):
        assert _digest(duo.a, served.path) == DIGEST
        began = time.monotonic()
        path = duo.a.upload(WRITTEN)
        assert duo.b.content(path) == WRITTEN
        assert time.monotonic() - began < 5
        before = duo.cpu_seconds()
        time.sleep(0.5)  # the time in which nothing may be done for those who do not read
        assert duo.cpu_seconds() - before < 0.1
        assert duo.servers[0].peak_memory_bytes() - memory < MEMORY_BYTES
    assert _digest(duo.b, served.path) == DIGEST
