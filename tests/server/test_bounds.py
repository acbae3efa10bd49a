"""What a client may take: times, connections, requests; and what it is told beyond."""

from __future__ import annotations

import asyncio
import logging
import resource
import select
import socket
import subprocess
import sys
import time
from ipaddress import ip_network
from typing import Any

import pytest

from tests.server.conftest import Recorder, Seen, Start, is_closed_within, read_answer, read_to_end
from tusd_py.metrics import Metrics
from tusd_py.server.bounds import Admission, Bounds, allow_open_files, too_many_connections
from tusd_py.server.protocol import TusProtocol
from tusd_py.server.refusals import Refusals

GET = b"GET /files/x HTTP/1.1\r\nHost: h\r\n\r\n"


def bounds(**changes: Any) -> Bounds:
    return Bounds(**changes)


@pytest.mark.parametrize("before", [b"", GET])
def test_head_that_does_not_come_to_an_end(start: Start, before: bytes) -> None:
    server = start(Recorder(), bounds=bounds(head_seconds=0.2))
    with server.connect() as connection:
        connection.sendall(before)
        if before:
            assert read_answer(connection)[0] == 200
        connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert read_to_end(connection).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_head_that_goes_on_after_its_time_holds_the_connection_no_longer(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TusProtocol, "linger_silence_seconds", 0.3)
    server = start(Recorder(), bounds=bounds(head_seconds=0.2))
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert connection.recv(12) == b"HTTP/1.1 408"
        assert is_closed_within(connection, 2.0, sending=b"x")


@pytest.mark.parametrize("silence", [b"", b"\r\n"])
def test_connection_without_a_request_is_closed(start: Start, silence: bytes) -> None:
    assert start(Recorder(), bounds=bounds(head_seconds=0.2)).ask(silence) == b""


def test_what_the_server_itself_turns_away_is_told_and_counted(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tusd_py.server")
    metrics = Metrics()
    server = start(Recorder(), bounds=bounds(head_seconds=0.2, max_connections=1), counter=metrics)
    with server.connect() as first:
        server.connection()
        assert server.ask(b"").startswith(b"HTTP/1.1 503 ")
        assert first.recv(1) == b""
    server.wait_until(lambda: not server._server.server_state.connections)
    assert server.ask(b"GET / HTTP/1.1\r\n").startswith(b"HTTP/1.1 408 ")
    server.wait_until(lambda: not server._server.server_state.connections)
    assert server.ask(b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    told = [str(record.msg) for record in caplog.records if record.name == "tusd_py.server"]
    assert told == [
        (
            "ConnectionsRefused count=1 code=ERR_TOO_MANY_CONNECTIONS"
            ' reason="too many connections; try again soon" client=127.0.0.1'
        ),
        "ConnectionSilent seconds=0.2 client=127.0.0.1",
        (
            'RequestRefused status=408 code=ERR_REQUEST_TIMEOUT reason="the request head did not arrive in time"'
            " client=127.0.0.1"
        ),
        (
            'RequestRefused status=400 code=ERR_BAD_REQUEST reason="a request has exactly one Host header"'
            " client=127.0.0.1"
        ),
    ]
    shown = metrics.expose("")[0].decode()
    for status, code in (
        ("503", "ERR_TOO_MANY_CONNECTIONS"),
        ("408", "ERR_REQUEST_TIMEOUT"),
        ("400", "ERR_BAD_REQUEST"),
    ):
        assert f'tusd_errors_total{{code="{code}",status="{status}"}} 1.0' in shown


def test_a_flood_of_connections_is_a_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    refusals = Refusals(clock=lambda: now)
    for _ in range(1000):
        refusals.connection(too_many_connections(), "192.0.2.1")
    now += 1.0
    refusals.connection(too_many_connections(from_one_address=True), None)
    first, second = (str(record.msg) for record in caplog.records)
    assert first.startswith('ConnectionsRefused count=1 code=ERR_TOO_MANY_CONNECTIONS reason="too many connections; ')
    assert first.endswith(" client=192.0.2.1")
    assert second.startswith("ConnectionsRefused count=1000 code=ERR_TOO_MANY_CONNECTIONS ")
    assert second.endswith(' reason="too many connections from this address" client=unix')


def test_idle_connection_is_closed(start: Start) -> None:
    server = start(Recorder(), bounds=bounds(keep_alive_seconds=0.2))
    with server.connect() as connection:
        for _ in range(2):
            connection.sendall(GET)
            assert read_answer(connection)[0] == 200
        assert connection.recv(1) == b""


def test_slow_body_is_no_slow_head(start: Start) -> None:
    """Time limits for the body are the application's; a next head waits while a response is under way."""
    has_waited = asyncio.Event()

    async def outlast(seen: Seen, receive: Any, send: Any) -> None:
        asyncio.get_running_loop().call_later(0.7, has_waited.set)
        await has_waited.wait()

    server = start(Recorder(outlast), bounds=bounds(head_seconds=0.3))
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello" + b"GET / HTTP")
        assert read_answer(connection)[0] == 200
        connection.sendall(b"/1.1\r\nHost: h\r\n\r\n")
        assert read_answer(connection)[0] == 200


def test_F37_a_storage_that_takes_its_time_is_waited_for(start: Start) -> None:
    """Longer than any time that a client has."""

    async def store(seen: Seen, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.5)

    server = start(Recorder(store), bounds=bounds(head_seconds=0.1, keep_alive_seconds=0.1, write_seconds=0.1))
    with server.connect() as connection:
        connection.sendall(GET)
        assert read_answer(connection)[0] == 200


def test_F37_a_storage_that_takes_too_long_is_answered_for_and_goes_on(start: Start) -> None:
    gate = asyncio.Event()

    async def store(seen: Seen, receive: Any, send: Any) -> None:
        await gate.wait()

    app = Recorder(store)
    server = start(app, bounds=bounds(answer_seconds=0.2))
    with server.connect() as connection:
        connection.sendall(b"PATCH / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
        said = read_to_end(connection)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nconnection: close\r\n" in said
        assert b"ERR_STORAGE_TIMEOUT: the storage did not answer within 0.2 s" in said
    assert app.finished.empty()
    server.in_loop(gate.set)
    assert app.next().body == b"hello"  # it came to its end, and its answer went nowhere


def test_F37_the_time_for_which_the_loop_stood_still_is_not_the_storages(start: Start) -> None:
    """The storage has answered meanwhile, and nobody could hear it. Its answer takes more than one turn of the loop."""

    async def store(seen: Seen, receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()
        answer = loop.run_in_executor(None, time.sleep, 0.1)
        loop.call_soon(time.sleep, 0.5)
        await asyncio.shield(answer)
        for _ in range(5):
            await asyncio.sleep(0)

    server = start(Recorder(store), bounds=bounds(answer_seconds=0.2))
    with server.connect() as connection:
        connection.sendall(GET)
        assert read_answer(connection)[0] == 200


def test_F37_a_loop_that_stands_still_again_and_again_answers_late(start: Start) -> None:
    async def store(seen: Seen, receive: Any, send: Any) -> None:
        for _ in range(10):
            time.sleep(0.15)  # this is what is tried
            await asyncio.sleep(0)

    with start(Recorder(store), bounds=bounds(answer_seconds=0.2)).connect() as connection:
        connection.sendall(GET)
        assert read_to_end(connection).startswith(b"HTTP/1.1 503 ")


def test_F37_a_late_answer_to_HEAD_is_423_without_a_body(start: Start) -> None:
    """tus-js-client takes any other failure for "upload again from byte 0"."""

    async def store(seen: Seen, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.5)

    said = start(Recorder(store), bounds=bounds(answer_seconds=0.1)).ask(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 423 ")
    assert said.endswith(b"\r\n\r\n")


def test_a_body_that_takes_long_is_not_the_storages_fault(start: Start) -> None:
    server = start(Recorder(), bounds=bounds(answer_seconds=0.2))
    with server.connect() as connection:
        connection.sendall(b"PATCH / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.sendall(b"hello")
        assert read_answer(connection)[2] == b"5"


class Downloads:
    """Answers with `count` pieces of 256 KiB."""

    def __init__(self, count: int) -> None:
        self.count = count

    async def __call__(self, seen: Seen, receive: Any, send: Any) -> bool:
        length = self.count * 262_144
        headers = [(b"content-length", b"%d" % length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(self.count):
            await send({"type": "http.response.body", "body": bytes(262_144), "more_body": number < self.count - 1})
        return True


@pytest.mark.parametrize("count", [40, 400])
def test_client_that_never_reads_its_answer_is_cut(start: Start, count: int) -> None:
    """In mid-response, and when all of it is written but not taken."""
    app = Recorder(Downloads(count))
    server = start(app, bounds=bounds(write_seconds=0.3, keep_alive_seconds=0.3))
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(GET)
        assert is_closed_within(connection, 5.0, sending=b"")
    app.next()
    server.wait_until(lambda: not server._server.server_state.connections)


def test_slow_reader_gets_it_all(start: Start) -> None:
    app = Recorder(Downloads(40))
    server = start(app, bounds=bounds(write_seconds=0.4, keep_alive_seconds=0.4))
    with server.connect() as connection:
        connection.sendall(GET)
        head, left = b"", 40 * 262_144
        while b"\r\n\r\n" not in head:
            head += connection.recv(1)
        while left:
            select.select([], [], [], 0.1)  # a megabyte every tenth of a second
            left -= len(connection.recv(min(left, 1 << 20)))
    assert app.next()


def test_last_request_of_a_connection(start: Start) -> None:
    server = start(Recorder(), bounds=bounds(max_requests=3))
    with server.connect() as connection:
        for number in range(3):
            connection.sendall(GET)
            status, headers, _ = read_answer(connection)
            assert (status, headers.get("connection")) == (200, "close" if number == 2 else None)
        assert connection.recv(1) == b""


def test_one_connection_too_many_is_told_so_and_the_others_go_on(start: Start) -> None:
    server = start(Recorder(), bounds=bounds(max_connections=2))
    with server.connect() as first, server.connect() as second:
        for connection in (first, second):
            connection.sendall(GET)
            assert read_answer(connection)[0] == 200
        with server.connect() as third:
            status, headers, said = read_answer(third)
            assert (status, headers["retry-after"], headers["connection"]) == (503, "5", "close")
            assert said == b"ERR_TOO_MANY_CONNECTIONS: too many connections; try again soon\n"
        for connection in (first, second):
            connection.sendall(GET)
            assert read_answer(connection)[0] == 200
    server.wait_until(lambda: not server._server.server_state.connections)
    with server.connect() as connection:
        connection.sendall(GET)
        assert read_answer(connection)[0] == 200


FROM_THIS_ADDRESS = "too many connections from this address"


def refusal_of(admission: Admission, host: str) -> str | None:
    error = admission.enter(host)
    assert error is None or (error.status, error.code) == (503, "ERR_TOO_MANY_CONNECTIONS")
    return None if error is None else error.message


def test_one_address_does_not_get_all_connections() -> None:
    admission = Admission(bounds(max_connections=6, max_connections_per_address=2))
    assert [refusal_of(admission, "192.0.2.1") for _ in range(3)] == [None, None, FROM_THIS_ADDRESS]
    admission.leave("192.0.2.1")
    assert admission.enter("192.0.2.2") is None
    assert admission.enter(None) is None  # a unix socket
    admission.leave("192.0.2.1")
    assert admission.enter("192.0.2.1") is None
    assert admission.enter("192.0.2.3") is None
    assert admission.enter("192.0.2.4") is None
    assert refusal_of(admission, "192.0.2.5") == "too many connections; try again soon"
    assert refusal_of(admission, "192.0.2.1") == "too many connections; try again soon"
    admission.leave("192.0.2.1")
    admission.leave("192.0.2.5")
    admission.leave("192.0.2.4")
    assert refusal_of(admission, "192.0.2.1") == FROM_THIS_ADDRESS, "one that was turned away is not one less"


def test_a_network_of_ipv6_is_one_client_and_trusted_proxies_are_none() -> None:
    trusted = (ip_network("10.0.0.0/8"), ip_network("::1"))
    admission = Admission(bounds(max_connections_per_address=1, trusted=trusted))
    assert admission.enter("2001:db8::1") is None
    assert refusal_of(admission, "2001:db8::2") == FROM_THIS_ADDRESS
    assert admission.enter("2001:db8:0:1::1") is None
    assert admission.enter("::ffff:192.0.2.1") is None
    assert refusal_of(admission, "192.0.2.1") == FROM_THIS_ADDRESS
    for _ in range(3):
        assert admission.enter("10.1.2.3") is None
        assert admission.enter("::1") is None
    for host in ("2001:db8::2", "2001:db8::1", "192.0.2.1", "::ffff:192.0.2.1", "2001:db8:0:1::1"):
        admission.leave(host)
    assert not admission._counts


@pytest.mark.parametrize(("hard", "connections", "allowed"), [(1000, 100, 100), (1000, 4000, 436), (300, 100, 86)])
def test_open_files_are_raised_as_far_as_the_machine_allows(hard: int, connections: int, allowed: int) -> None:
    code = (
        "import resource, sys; from tusd_py.server.bounds import allow_open_files;"
        "hard, connections = map(int, sys.argv[1:]);"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard));"
        "print(allow_open_files(connections), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(hard), str(connections)], capture_output=True, text=True, check=True
    )
    said, limit = map(int, done.stdout.split())
    assert said == allowed
    assert limit <= hard


def test_open_files_that_are_enough_are_left_alone() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert allow_open_files(1) == 1
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


class Long:
    """Answers with 8 MiB at once, which no kernel takes."""

    async def __call__(self, seen: Seen, receive: Any, send: Any) -> bool:
        headers = [(b"content-length", b"8388608")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(8_388_608)})
        return True


def test_idle_connection_is_closed_whose_last_answer_was_read_slowly(start: Start) -> None:
    server = start(Recorder(Long()), bounds=bounds(keep_alive_seconds=0.3))
    with server.connect() as connection:
        connection.sendall(GET)
        select.select([], [], [], 0.1)  # it waits for its reader when it is complete
        assert len(read_answer(connection)[2]) == 8_388_608
        connection.settimeout(3)
        assert connection.recv(1) == b""


@pytest.mark.parametrize("said", [GET, b"\0", b"GET / HTT"])
def test_client_that_says_more_and_never_reads_is_cut(start: Start, said: bytes) -> None:
    server = start(Recorder(Downloads(400)), bounds=bounds(write_seconds=0.3))
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(GET)
        select.select([], [], [], 0.15)
        connection.sendall(said)
        assert is_closed_within(connection, 3.0, sending=b"")
