"""The lane: bodies from the socket straight into a sink, with everything around them as without it."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import (
    PATIENCE_SECONDS,
    ByteSink,
    Recorder,
    Seen,
    Start,
    answer,
    connect_tls,
    read_answer,
    reset,
    send_until_full,
    some_turns,
    unacknowledged_bytes,
)

GET = b"GET /files/x HTTP/1.1\r\nHost: h\r\n\r\n"


def patch(length: int) -> bytes:
    return b"PATCH /files/x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % length


class Filling:
    """An application that fills the sink that `make_sink(seen)` makes, by the lane."""

    def __init__(self, make_sink: Callable[[Seen], Any]) -> None:
        self.make_sink = make_sink
        self.task: asyncio.Task[Any] | None = None

    async def __call__(self, seen: Seen, receive: Any, send: Any) -> bool:
        self.task = asyncio.current_task()
        try:
            trailers = await seen.scope["extensions"]["tusd_py.lane"](self.make_sink(seen))
        except OSError as error:
            seen.end = str(error)
            await answer(send, b"disk", 507)
            return True
        except asyncio.CancelledError:
            assert self.task is not None
            self.task.uncancel()
            seen.end = "interrupted"
            await answer(send, b"interrupted", 423)
            return True
        seen.end = "disconnect" if trailers is None else "complete"
        await answer(send, b"%d" % len(seen.body))
        return True


@pytest.mark.parametrize("is_secure", [False, True])
@pytest.mark.parametrize("room", [1, 1000, 256 * 1024])
def test_any_split_arrives_whole_and_the_connection_goes_on(
    start: Start, tls: dict[str, str], certificates: Path, is_secure: bool, room: int
) -> None:
    app = Recorder(Filling(lambda seen: ByteSink(seen.body, room)))
    server = start(app, **(tls if is_secure else {}))
    chance = random.Random(room)
    with connect_tls(server.port, certificates) if is_secure else server.connect() as connection:
        for length in [1, 32 * 1024, 100_000, (1 << 20) + 1 if room > 1 else 70_000]:
            body = os.urandom(length)
            message = patch(length) + body + GET  # the next request begins in the packet that ends the body
            while message:
                count = chance.choice([1, 10, 1000, 50_000, 300_000])
                connection.sendall(message[:count])
                message = message[count:]
            assert read_answer(connection)[::2] == (200, b"%d" % length)
            assert read_answer(connection)[::2] == (200, b"0")
            seen = app.next()
            assert (seen.end, bytes(seen.body)) == ("complete", body)
            assert app.next().scope["method"] == "GET"


def test_a_slow_store_slows_the_client_and_nothing_piles_up(start: Start) -> None:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    app = Recorder(Filling(lambda seen: ByteSink(seen.body, 65536, wait)))
    server = start(app)
    body = os.urandom(24 << 20)
    with server.connect() as connection:
        connection.sendall(patch(len(body)))
        app.began.get(timeout=PATIENCE_SECONDS)
        delivered = send_until_full(connection, body)
        sent = delivered + unacknowledged_bytes(connection)
        assert sent < len(body)
        assert server.connection().cycle.queued_bytes <= 64 * 1024
        server.in_loop(gate.set)
        connection.setblocking(True)
        connection.sendall(body[sent:])
        assert read_answer(connection)[2] == b"%d" % len(body)
    assert app.next().body == body


@pytest.mark.parametrize("cut", ["FIN", "RST"])
def test_what_was_delivered_while_the_store_was_slow_is_kept(start: Start, cut: str) -> None:
    """failures F10."""
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    app = Recorder(Filling(lambda seen: ByteSink(seen.body, 65536, wait)))
    server = start(app)
    body = os.urandom(3 << 20)
    connection = server.connect()
    connection.sendall(patch(len(body) + 1))
    app.began.get(timeout=PATIENCE_SECONDS)
    delivered = send_until_full(connection, body)
    if cut == "RST":
        reset(connection)
    else:
        delivered += unacknowledged_bytes(connection)
        connection.shutdown(socket.SHUT_WR)
    server.in_loop(gate.set)
    seen = app.next()
    connection.close()
    assert seen.end == "disconnect"
    assert len(seen.body) >= delivered > 65536
    assert seen.body == body[: len(seen.body)]


class BrokenSink(ByteSink):
    """Fails like a full disk after `good` times, when it is asked for room or when it is given bytes."""

    def __init__(self, kept: bytearray, good: int, where: str) -> None:
        super().__init__(kept)
        self._good = good
        self._where = where

    def _fail(self, where: str) -> None:
        if where == self._where:
            self._good -= 1
            if self._good < 0:
                raise OSError("full")

    def buffer(self) -> memoryview:
        self._fail("buffer")
        return super().buffer()

    def filled(self, count: int) -> Awaitable[None] | None:
        self._fail("filled")
        return super().filled(count)


@pytest.mark.parametrize("where", ["buffer", "filled"])
@pytest.mark.parametrize("good", [0, 1, 20])
def test_a_store_that_fails_is_answered_and_the_connection_ends(start: Start, where: str, good: int) -> None:
    app = Recorder(Filling(lambda seen: BrokenSink(seen.body, good, where)))
    server = start(app)
    body = os.urandom(4 << 20)
    with server.connect() as connection:
        connection.sendall(patch(len(body)) + body + GET)
        status, headers, said = read_answer(connection)
        assert (status, headers["connection"], said) == (507, "close", b"disk")
        assert connection.recv(1) == b""
    seen = app.next()
    assert seen.end == "full"
    assert seen.body == body[: len(seen.body)]
    assert app.began.qsize() == 1


def test_an_interrupted_lane_keeps_what_came_and_answers(start: Start) -> None:
    filling = Filling(lambda seen: ByteSink(seen.body))
    app = Recorder(filling)
    server = start(app)
    body = os.urandom(300_000)
    with server.connect() as connection:
        connection.sendall(patch(1 << 20) + body)
        seen = app.began.get(timeout=PATIENCE_SECONDS)
        server.wait_until(lambda: len(seen.body) == len(body))
        assert filling.task is not None
        server.in_loop(filling.task.cancel)
        status, headers, said = read_answer(connection)
        assert (status, headers["connection"], said) == (423, "close", b"interrupted")
        connection.sendall(b"x" * 1000)  # dropped
        assert connection.recv(1) == b""
    assert (app.next().end, seen.body) == ("interrupted", body)


def test_an_interruption_that_meets_a_pause_leaves_no_coroutine_behind(start: Start) -> None:
    filling = Filling(lambda seen: ByteSink(seen.body))

    def interrupt_and_pause() -> Awaitable[None]:
        assert filling.task is not None
        filling.task.cancel()  # is told before the pause is awaited
        return some_turns()

    filling.make_sink = lambda seen: ByteSink(seen.body, pause=interrupt_and_pause)
    app = Recorder(filling)
    server = start(app)
    with warnings.catch_warnings(), server.connect() as connection:
        warnings.simplefilter("error")
        connection.sendall(patch(1 << 20))
        app.began.get(timeout=PATIENCE_SECONDS)
        connection.sendall(b"x" * 1000)
        assert read_answer(connection)[0] == 423
        gc.collect()


def test_expect_continue(start: Start) -> None:
    """tus I4."""
    app = Recorder(Filling(lambda seen: ByteSink(seen.body)))
    server = start(app)
    with server.connect() as connection:
        connection.sendall(patch(200_000).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert read_answer(connection)[0] == 100
        connection.sendall(b"x" * 200_000 + GET)
        assert read_answer(connection)[::2] == (200, b"200000")
        assert read_answer(connection)[::2] == (200, b"0")
