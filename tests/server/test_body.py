"""What reaches the application of a request body, and what happens to the connection afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import Any

import pytest

from tests.server.conftest import (
    PATIENCE_SECONDS,
    Recorder,
    Seen,
    Start,
    answer,
    is_closed_within,
    read_all,
    read_answer,
    read_to_end,
    reset,
    send_until_full,
    unacknowledged_bytes,
)
from tusd_py.server.protocol import MAX_PIPELINED, TusProtocol

pytestmark = pytest.mark.usefixtures("way")


def patch(length: int, more: bytes = b"") -> bytes:
    return b"PATCH /files/x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n%b\r\n" % (length, more)


CHUNKED = b"PATCH /files/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET /files/x HTTP/1.1\r\nHost: h\r\n\r\n"


class Gate:
    """An application that reads nothing, or one message, until the test opens the gate; then 64 KiB or so at a time."""

    def __init__(self, *, reads_first: bool = False) -> None:
        self.is_open = asyncio.Event()
        self._reads_first = reads_first

    async def __call__(self, seen: Seen, receive: Any, send: Any) -> None:
        if self._reads_first:
            seen.body += (await receive())["body"]
        await self.is_open.wait()
        await read_all(seen, receive, is_slow=True)


@pytest.mark.parametrize("cut", ["FIN", "RST"])
def test_bytes_sent_just_before_the_cut_arrive(start: Start, cut: str) -> None:
    """failures F10: the application begins to read when the connection is gone."""
    gate = Gate()
    app = Recorder(gate)
    server = start(app)
    connection = server.connect()
    connection.sendall(patch(1000) + b"a" * 40)
    app.began.get(timeout=PATIENCE_SECONDS)
    connection.sendall(b"b" * 2)
    while unacknowledged_bytes(connection):
        time.sleep(0.001)
    servers_end = server.connection()
    if cut == "FIN":
        connection.shutdown(socket.SHUT_WR)
    else:
        reset(connection)
    server.wait_for_end_of_input(servers_end)
    server.in_loop(gate.is_open.set)
    seen = app.next()
    connection.close()
    assert (seen.body, seen.end) == (b"a" * 40 + b"b" * 2, "disconnect")


@pytest.mark.parametrize("reads_first", [False, True])
def test_slow_application_gets_all_after_fin(start: Start, reads_first: bool) -> None:
    """failures F10, with the reading paused by flow control when the client closes."""
    gate = Gate(reads_first=reads_first)
    app = Recorder(gate)
    server = start(app)
    body = os.urandom(3 << 20)
    with server.connect() as connection:
        connection.sendall(patch(len(body) + 1))
        send_until_full(connection, body[: 1 << 20])
        server.in_loop(gate.is_open.set)
        connection.setblocking(True)
        connection.sendall(body[1 << 20 :])
    seen = app.next()
    assert seen.end == "disconnect"
    assert seen.body == body


@pytest.mark.parametrize("reads_first", [False, True])
def test_slow_application_gets_what_the_kernel_had_at_rst(start: Start, reads_first: bool) -> None:
    """failures F10: Linux still delivers what it had received when the RST came."""
    gate = Gate(reads_first=reads_first)
    app = Recorder(gate)
    server = start(app)
    body = os.urandom(3 << 20)
    connection = server.connect()
    connection.sendall(patch(len(body) + 1))
    delivered = send_until_full(connection, body)
    reset(connection)
    server.in_loop(gate.is_open.set)
    seen = app.next()
    assert seen.end == "disconnect"
    assert len(seen.body) >= delivered > 65536
    assert seen.body == body[: len(seen.body)]


def test_failed_write_does_not_cost_the_received_bytes(start: Start) -> None:
    """failures F10: a write that meets the RST ends the transport before the receive queue is read."""
    is_reset = asyncio.Event()

    async def answer_early(seen: Seen, receive: Any, send: Any) -> bool:
        await is_reset.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        for _ in range(20):
            await asyncio.sleep(0)
        await read_all(seen, receive)
        return True

    app = Recorder(answer_early)
    server = start(app)
    body = os.urandom(1 << 20)
    connection = server.connect()
    connection.sendall(patch(len(body) + 1))
    delivered = send_until_full(connection, body)
    reset(connection)
    server.in_loop(is_reset.set)
    seen = app.next()
    assert len(seen.body) >= delivered > 65536
    assert seen.body == body[: len(seen.body)]


def test_half_closed_client_reads_its_answer(start: Start) -> None:
    gate = Gate()
    app = Recorder(gate)
    server = start(app)
    with server.connect() as connection:
        connection.sendall(patch(5) + b"hello")
        app.began.get(timeout=PATIENCE_SECONDS)
        connection.shutdown(socket.SHUT_WR)
        server.wait_for_end_of_input(server.connection())
        server.in_loop(gate.is_open.set)
        assert read_answer(connection)[::2] == (200, b"5")
        assert connection.recv(1) == b""
    assert app.next().end == "complete"


def test_client_that_half_closes_in_mid_body_reads_its_answer(start: Start) -> None:
    app = Recorder()
    server = start(app)
    with server.connect() as connection:
        connection.sendall(patch(50) + b"hello")
        connection.shutdown(socket.SHUT_WR)
        status, headers, body = read_answer(connection)
        assert (status, headers["connection"], body) == (200, "close", b"5")
        assert connection.recv(1) == b""
    assert app.next().end == "disconnect"


def test_application_may_return_silently_after_a_cut(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async def read_and_return(seen: Seen, receive: Any, send: Any) -> bool:
        await read_all(seen, receive)
        return True

    server = start(Recorder(read_and_return))
    with server.connect() as connection:
        connection.sendall(patch(50) + b"hello")
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection) == b""
    assert not caplog.records


def test_trailers_come_with_the_last_message(start: Start) -> None:
    """tus S7."""
    app = Recorder()
    server = start(app)
    with server.connect() as connection:
        trailers = b"Upload-Checksum: sha1 abc=\r\nX-Empty:\r\n"
        connection.sendall(CHUNKED + b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n")
        assert read_answer(connection)[2] == b"5"
        seen = app.next()
        assert seen.last["trailers"] == [(b"upload-checksum", b"sha1 abc="), (b"x-empty", b"")]
        assert "tusd_py.request_trailers" in seen.scope["extensions"]
        assert [name for name, _ in seen.scope["headers"]] == [b"host", b"transfer-encoding"]
        connection.sendall(CHUNKED + b"0\r\n\r\n")  # the same connection goes on
        assert read_answer(connection)[2] == b"0"
        assert app.next().last["trailers"] == []
        connection.sendall(patch(1) + b"x")
        assert read_answer(connection)[2] == b"1"
        assert not app.next().last.get("trailers")


def test_trailers_split_over_packets(start: Start) -> None:
    app = Recorder()
    server = start(app)
    with server.connect() as connection:
        request = CHUNKED + b"5;ext=1\r\nhello\r\n0\r\nUpload-Checksum: sha1 abc=\r\nZ: 1\r\n\r\n"
        connection.sendall(request[: len(CHUNKED)])
        app.began.get(timeout=PATIENCE_SECONDS)
        for byte in request[len(CHUNKED) :]:
            connection.sendall(bytes([byte]))
        assert read_answer(connection)[2] == b"5"
    assert app.next().last["trailers"] == [(b"upload-checksum", b"sha1 abc="), (b"z", b"1")]


async def refuse(seen: Seen, receive: Any, send: Any) -> bool:
    await answer(send, b"conflict", 409)
    return True


def test_early_answer_reaches_a_client_that_sends_first_and_reads_later(start: Start) -> None:
    app = Recorder(refuse)
    server = start(app)
    with server.connect() as connection:
        connection.sendall(patch(50 << 20))
        piece = b"x" * (1 << 20)
        for _ in range(50):
            connection.sendall(piece)
        status, headers, body = read_answer(connection)
        assert (status, headers["connection"], body) == (409, "close", b"conflict")
        assert connection.recv(1) == b""


def test_early_answer_is_followed_by_a_half_close_and_never_by_the_next_request(start: Start) -> None:
    app = Recorder(refuse)
    server = start(app)
    with server.connect() as connection:
        connection.sendall(patch(1000) + b"partly")
        assert read_answer(connection)[0] == 409
        assert connection.recv(1) == b""  # well before the linger time is over
        connection.sendall(GET)
    app.next()
    assert app.began.qsize() == 1


def test_lingering_ends_by_silence(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TusProtocol, "linger_silence_seconds", 0.2)
    server = start(Recorder(refuse))
    with server.connect() as connection:
        connection.sendall(patch(1 << 40))
        assert read_answer(connection)[0] == 409
        assert connection.recv(1) == b""
        assert not is_closed_within(connection, 0.6, sending=b"x")  # not silent
        assert not is_closed_within(connection, 0.5, sending=b"")
        assert is_closed_within(connection, 0.2, sending=b"x")


def test_lingering_ends_in_time_even_if_the_client_never_stops(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TusProtocol, "linger_seconds", 0.3)
    server = start(Recorder(refuse))
    with server.connect() as connection:
        connection.sendall(patch(1 << 40))
        assert read_answer(connection)[0] == 409
        assert is_closed_within(connection, 2.0, sending=b"x")


def test_answer_before_reading_keeps_the_connection_if_the_body_is_there(start: Start) -> None:
    app = Recorder(refuse)
    server = start(app)
    with server.connect() as connection:
        for _ in range(3):
            connection.sendall(patch(5) + b"hello")
            status, headers, _ = read_answer(connection)
            assert status == 409
            assert "connection" not in headers


def test_expect_continue(start: Start) -> None:
    app = Recorder()
    server = start(app)
    with server.connect() as connection:
        connection.sendall(patch(5, b"Expect: 100-continue\r\n"))
        assert read_answer(connection)[0] == 100
        connection.sendall(b"hello")
        assert read_answer(connection)[::2] == (200, b"5")
        connection.sendall(GET)
        assert read_answer(connection)[0] == 200


def test_no_continue_without_receive_and_the_connection_ends(start: Start) -> None:
    app = Recorder(refuse)
    server = start(app)
    said = server.ask(patch(5, b"Expect: 100-continue\r\n"))
    assert said.startswith(b"HTTP/1.1 409 ")
    assert b"\r\nconnection: close\r\n" in said


@pytest.mark.parametrize("request_", [patch(5, b"Expect: 100-continue\r\n") + b"hello", patch(0)])
def test_no_continue_when_the_body_is_there(start: Start, request_: bytes) -> None:
    server = start(Recorder())
    with server.connect() as connection:
        connection.sendall(request_)
        assert read_answer(connection)[0] == 200


def test_no_continue_to_http_1_0(start: Start) -> None:
    """tus I4."""
    app = Recorder()
    server = start(app)
    with server.connect() as connection:
        head = b"PATCH /x HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head)
        app.began.get(timeout=PATIENCE_SECONDS)
        connection.sendall(b"hello")
        assert read_answer(connection)[0] == 200
        assert connection.recv(1) == b""


def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    gate = asyncio.Event()

    async def wait(seen: Seen, receive: Any, send: Any) -> None:
        await gate.wait()

    app = Recorder(wait)
    server = start(app)
    with server.connect() as connection:
        connection.sendall(patch(1) + b"a" + patch(200_000) + b"b" * 200_000 + patch(3) + b"ccc")
        server.in_loop(gate.set)
        assert [read_answer(connection)[2] for _ in range(3)] == [b"1", b"200000", b"3"]


def test_asking_for_the_disconnect_does_not_read_the_next_body(start: Start) -> None:
    """An application that polls while it answers must not make the server buffer what comes next."""
    may_poll = asyncio.Event()

    async def poll_for_disconnect(seen: Seen, receive: Any, send: Any) -> bool:
        await read_all(seen, receive)
        if len(seen.body) == 1:
            await may_poll.wait()
            for _ in range(100):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(receive(), 0.001)
        await answer(send, b"%d" % len(seen.body))
        return True

    app = Recorder(poll_for_disconnect)
    server = start(app)
    body = b"b" * (8 << 20)
    with server.connect() as connection:
        connection.sendall(patch(1) + b"a" + patch(len(body)))
        server.wait_until(lambda: len(server.connection().pipeline) == 1)
        sent = len(body) - len(body[send_until_full(connection, body) :])
        server.in_loop(may_poll.set)
        connection.setblocking(True)
        assert read_answer(connection)[2] == b"1"
        assert server.connection().cycle.queued_bytes <= 64 * 1024 + 256 * 1024
        assert 0 < sent < len(body)


def test_pipeline_has_an_end(start: Start) -> None:
    gate = asyncio.Event()

    async def wait(seen: Seen, receive: Any, send: Any) -> None:
        await gate.wait()

    app = Recorder(wait)
    server = start(app)
    with server.connect() as connection:
        connection.sendall(GET * 500)
        server.wait_until(lambda: server.connection()._refusal is not None)
        assert len(server.connection().pipeline) == MAX_PIPELINED
        server.in_loop(gate.set)
        assert [read_answer(connection)[0] for _ in range(MAX_PIPELINED + 2)] == [200] * (MAX_PIPELINED + 1) + [400]
        assert connection.recv(1) == b""


def test_application_that_fails(start: Start) -> None:
    async def fail(seen: Seen, receive: Any, send: Any) -> None:
        raise ValueError("secret")

    said = start(Recorder(fail)).ask(patch(10))
    assert said.startswith(b"HTTP/1.1 500 ")
    assert said.endswith(b"\r\n\r\nERR_INTERNAL_SERVER_ERROR: internal server error\n")
    assert b"\r\ntus-resumable: 1.0.0\r\n" in said


def test_application_that_fails_in_mid_response(start: Start) -> None:
    async def fail(seen: Seen, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"1234", "more_body": True})
        raise ValueError("secret")

    assert start(Recorder(fail)).ask(GET).endswith(b"\r\n\r\n1234")
