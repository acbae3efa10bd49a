"""Uploads while the workers that receive them are killed, renewed and ended (failures F1, F11, F20, F23)."""

from __future__ import annotations

import os
import random
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import cast

import pytest
from faultclient import Client, Connection, LostError
from faultfleet import Fleet, Uploader, check_records, check_uploaders
from faultserver import Server

from tests.server.supervised import Supervised, is_alive, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
Run = Callable[..., Supervised]
DATA = os.urandom(3_000_017)
UPLOADERS = 4
ROUNDS = 8


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """run(*flags) starts a server with two workers."""
    servers: list[Supervised] = []

    def run_one(*flags: str) -> Supervised:
        servers.append(Supervised(tmp_path, "--port", "0", "--workers", "2", *flags))
        return servers[-1]

    yield run_one
    for server in servers:
        server.clear_away()
        assert "Traceback" not in server.log, server.log[-8000:]


def _patch_each(stack: ExitStack, client: Client, sent: int, count: int = 20) -> list[tuple[Connection, str]]:
    """PATCHes that have begun: over the workers as the kernel spreads them, so many that each has some: that one of
    two has none happens once in 500,000 times."""
    held = []
    for _ in range(count):
        path = client.create(len(DATA))
        connection = stack.enter_context(client.connect())
        connection.hold_patch(path, 0, len(DATA), DATA[:sent])
        held.append((connection, path))
    return held


def test_F1_F23_uploads_of_a_killed_worker_go_on_by_the_others(run: Run) -> None:
    server = run()
    client = Client(server.port)
    with ExitStack() as stack:
        held = _patch_each(stack, client, 1_000_000)
        os.kill(server.workers()[0], signal.SIGKILL)
        lost = 0
        for connection, path in held:
            try:
                connection.send(DATA[1_000_000:])
                assert connection.answer().status == 204
            except LostError:
                lost += 1
                assert client.offset(path) <= len(DATA)
            client.finish(path, DATA)
    assert lost, "none of the uploads was the killed one's"
    assert server.end()[0] == 0


def test_a_body_goes_on_while_workers_are_renewed(run: Run) -> None:
    server = run()
    client = Client(server.port)
    old = server.workers()
    with ExitStack() as stack:
        held = _patch_each(stack, client, 1_000_000)
        server.send(signal.SIGHUP)
        server.wait_for_log("Reloaded")
        assert all(is_alive(pid) for pid in old)
        path = client.create(len(DATA))  # by a new one, meanwhile
        assert client.patch(path, 0, DATA).status == 204
        for connection, _ in held:
            connection.send(DATA[1_000_000:])
            answer = connection.answer()
            assert (answer.status, answer.headers["connection"]) == (204, "close")
    wait_until(lambda: not any(is_alive(pid) for pid in old))
    for _, path in held:
        assert client.content(path) == DATA
    assert server.end()[0] == 0


def test_a_body_that_takes_too_long_is_interrupted_and_its_bytes_are_kept(run: Run) -> None:
    server = run("--shutdown-timeout", "500ms")
    client = Client(server.port)
    old = server.workers()
    with ExitStack() as stack:
        held = _patch_each(stack, client, 1_000_000)
        server.send(signal.SIGHUP)
        for connection, _ in held:
            answer = connection.answer()
            assert (answer.status, answer.code) == (503, "ERR_SERVER_SHUTDOWN")
        for _, path in held:
            assert client.offset(path) == 1_000_000
            client.finish(path, DATA)
    wait_until(lambda: not any(is_alive(pid) for pid in old))
    assert server.end()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["sigterm", "supervisor-killed"])
def test_the_end_of_all_keeps_what_has_arrived(run: Run, number: signal.Signals) -> None:
    server = run()
    client = Client(server.port)
    began = time.monotonic()
    with ExitStack() as stack:
        held = _patch_each(stack, client, 1_000_000)
        workers = server.workers()
        server.send(number)
        for connection, _ in held:
            answer = connection.answer()
            assert (answer.status, answer.code) == (503, "ERR_SERVER_SHUTDOWN")
    code, _ = server.end(None)
    assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in workers))
    assert time.monotonic() - began < 5
    again = run()
    for _, path in held:
        assert Client(again.port).offset(path) == 1_000_000
        Client(again.port).finish(path, DATA)


def test_F1_F11_F23_no_death_and_no_renewal_of_workers_loses_or_invents_a_byte(run: Run) -> None:
    seed = os.environ.get("FAULT_SEED") or secrets.token_hex(4)
    print(f"run again with FAULT_SEED={seed}")
    rng = random.Random(seed)
    server = run("--sweep-interval", "1s")
    # A fleet only asks a server for its port and directory.
    fleet = Fleet([cast("Server", server)])
    uploaders = [Uploader(fleet, f"{seed}/{number}") for number in range(UPLOADERS)]
    for uploader in uploaders:
        uploader.start()
    try:
        for number in range(ROUNDS):
            if fleet.is_over.wait(10 ** rng.uniform(-2, -0.5)):
                break
            _disturb(server, rng, is_renewal=number % 3 == 2)
            check_records(server.directory)
            for job in [job for uploader in uploaders for job in uploader.jobs[-5:]]:
                with suppress(LostError):  # by a worker that was killed just then
                    job.watch(Client(server.port))
    finally:
        fleet.end(uploaders)
    check_uploaders(uploaders)
    jobs = [job for uploader in uploaders for job in uploader.jobs]
    assert len(jobs) >= UPLOADERS
    for job in jobs:
        job.verify(Client(server.port))
    assert server.end()[0] == 0


def _disturb(server: Supervised, rng: random.Random, *, is_renewal: bool) -> None:
    if is_renewal:
        server.send(signal.SIGHUP)
        return
    victim = rng.choice(server.workers())  # an old one, a new one, or one that still starts
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not is_alive(victim) and len(server.workers()) >= 2)
