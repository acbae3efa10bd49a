"""Requests that no application may see, or only in one strict reading."""

from __future__ import annotations

import asyncio
import socket
import threading
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
)
from tusd_py.server.protocol import TusProtocol

HEAD = b"PATCH /files/x HTTP/1.1\r\nHost: h\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

BAD_HEADS = {
    "unknown method": b"FOO / HTTP/1.1\r\nHost: h\r\n\r\n",
    "lower-case method": b"patch / HTTP/1.1\r\nHost: h\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: h\r\n\r\n",
    "LF only": b"GET / HTTP/1.1\nHost: h\n\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
    "bad host": b"GET / HTTP/1.1\r\nHost: h/evil\r\n\r\n",
    "CL and TE": HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE and CL": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "same length twice": HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "length list": HEAD + b"Content-Length: 3, 3\r\n\r\nabc",
    "length +3": HEAD + b"Content-Length: +3\r\n\r\nabc",
    "length -1": HEAD + b"Content-Length: -1\r\n\r\nabc",
    "length empty": HEAD + b"Content-Length:\r\n\r\nabc",
    "length overflow": HEAD + b"Content-Length: 18446744073709551617\r\n\r\nabc",
    "TE in HTTP/1.0": b"PATCH / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "obs-fold": HEAD + b"X: a\r\n b\r\n\r\n",
    "space first": b"GET / HTTP/1.1\r\n X: b\r\nHost: h\r\n\r\n",
    "space before colon": HEAD + b"Content-Length : 3\r\n\r\nabc",
    "bare CR": HEAD + b"X: a\rContent-Length: 3\r\n\r\nabc",
    "NUL": HEAD + b"X: a\x00b\r\n\r\n",
    "non-ASCII target": b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n",
    "control in target": b"GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
    "star for GET": b"GET * HTTP/1.1\r\nHost: h\r\n\r\n",
    "other scheme": b"GET ftp://h/x HTTP/1.1\r\nHost: h\r\n\r\n",
    "no authority": b"GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n",
    "user in authority": b"GET http://u@h/x HTTP/1.1\r\nHost: h\r\n\r\n",
    "CONNECT": b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n",
} | {
    f"TE {coding!r}": HEAD + b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n"
    for coding in (b"xchunked", b"chunked, chunked", b"gzip, chunked", b", chunked", b"chunked, identity",
                   b"identity", b"", b"chunked;q=1", b"\x0bchunked", b"identity\r\nTransfer-Encoding: chunked")
}  # fmt: skip

BAD_CHUNKS = [b"+5", b"0x5", b"-1", b" 5", b"5 ", b"", b"f" * 17, b"g", b"5\n", b'5;a="\n"']


def assert_refusal(said: bytes, status: int = 400, code: bytes = b"ERR_BAD_REQUEST") -> None:
    head, _, body = said.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 %d " % status)
    assert b"tus-resumable: 1.0.0" in lines
    assert b"x-content-type-options: nosniff" in lines
    assert b"content-type: text/plain; charset=utf-8" in lines
    assert b"connection: close" in lines
    assert body.startswith(code + b": ")
    assert body.endswith(b"\n")
    assert b"content-length: %d" % len(body) in lines


@pytest.mark.parametrize("name", BAD_HEADS)
def test_bad_head_is_refused_and_the_connection_closed(start: Start, name: str) -> None:
    app = Recorder()
    server = start(app)
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    assert_refusal(server.ask(BAD_HEADS[name] + smuggled))
    assert app.began.empty()


@pytest.mark.parametrize("size", BAD_CHUNKS)
def test_bad_chunk_in_mid_body(start: Start, size: bytes) -> None:
    """The application keeps the good bytes, the client hears why."""
    app = Recorder()
    server = start(app)
    with server.connect() as connection:
        connection.sendall(CHUNKED + b"4\r\ngood\r\n")
        app.began.get(timeout=PATIENCE_SECONDS)
        connection.sendall(size + b"\r\nabcde\r\n0\r\n\r\n")
        said = bytearray()
        while data := connection.recv(65536):
            said += data
    assert_refusal(bytes(said))
    seen = app.next()
    assert (seen.body, seen.end) == (b"good", "disconnect")


def test_bad_chunk_in_the_first_packet(start: Start) -> None:
    app = Recorder()
    assert_refusal(start(app).ask(CHUNKED + b"4\r\ngood\r\n4\r\nlonger\r\n"))
    seen = app.next()
    assert (seen.body, seen.end) == (b"goodlong", "disconnect")


def test_bad_chunk_after_the_response_began(start: Start) -> None:
    async def begin(seen: Seen, receive: Any, send: Any) -> bool:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await read_all(seen, receive)
        await send({"type": "http.response.body", "body": b"ok"})
        return True

    app = Recorder(begin)
    server = start(app)
    with server.connect() as connection:
        connection.sendall(CHUNKED + b"4\r\ngood\r\n")
        head = connection.recv(65536)
        connection.sendall(b"xyz\r\n")
        assert b"\r\nconnection: close\r\n" in head
        assert connection.recv(65536) == b"ok"
        assert connection.recv(1) == b""
    assert app.next().body == b"good"


def test_stop_does_not_wait_for_a_refused_client(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TusProtocol, "linger_silence_seconds", 0.3)
    server = start(Recorder())
    with server.connect() as connection:
        connection.sendall(CHUNKED + b"nonsense\r\n")
        assert read_answer(connection)[0] == 400
        assert not is_closed_within(connection, 0.5, sending=b"x")
        server._server.stop()
        assert is_closed_within(connection, 1.0, sending=b"x")


@pytest.mark.parametrize("second", [b"GARBAGE\r\n\r\n", CHUNKED + b"nonsense\r\n"])
def test_refusal_waits_for_the_response_before_it(start: Start, second: bytes) -> None:
    gate = asyncio.Event()

    async def wait(seen: Seen, receive: Any, send: Any) -> None:
        await gate.wait()

    app = Recorder(wait)
    server = start(app)
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 2\r\n\r\nok" + second)
        app.began.get(timeout=PATIENCE_SECONDS)
        server.in_loop(gate.set)
        assert read_answer(connection)[::2] == (200, b"2")
        assert_refusal(connection.recv(65536))
        assert connection.recv(1) == b""
    assert app.began.empty()


@pytest.mark.parametrize(
    ("opening", "endless"),
    [
        (b"GET /", b"a"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: ", b"a"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX", b"a"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: ", b" "),
        (b"GET / HTTP/1.1\r\nHost: h\r\n", b"X: aaaaaaaaa\r\n"),
        (b"", b"\r\n"),
        (CHUNKED + b"0\r\n", b"X: aaaaaaaaa\r\n"),
        (CHUNKED + b"0\r\nX: ", b"a"),
        (CHUNKED + b"5;", b"a"),
    ],
)
def test_endless_head_or_trailers(start: Start, opening: bytes, endless: bytes) -> None:
    server = start(Recorder())
    with server.connect() as connection:
        try:
            connection.sendall(opening)
            for _ in range(64):
                connection.sendall(endless * (4096 // len(endless)))
        except ConnectionError:
            pytest.fail("the answer was killed by a RST")
        said = connection.recv(65536)
    assert_refusal(said, 431, b"ERR_HEADERS_TOO_LARGE")


@pytest.mark.parametrize(("length", "status"), [(16_000, 200), (16_384, 431)])
def test_the_limit_is_exact_enough_for_a_head_in_one_packet(start: Start, length: int, status: int) -> None:
    server = start(Recorder())
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * length + b"\r\n\r\n")
        assert read_answer(connection)[0] == status


def test_long_body_after_a_short_head_is_no_long_head(start: Start) -> None:
    server = start(Recorder())
    with server.connect() as connection:
        for request in (
            HEAD + b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000,
            CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n",
        ):
            connection.sendall(request)
            assert read_answer(connection)[0] == 200


@pytest.mark.parametrize(
    ("request_line", "path", "query", "host"),
    [
        (b"PATCH http://other:81/files/x?q=1 HTTP/1.1", "/files/x", b"q=1", b"other:81"),
        (b"GET HTTP://[::1]:80 HTTP/1.1", "/", b"", b"[::1]:80"),
        (b"OPTIONS * HTTP/1.1", "*", b"", b"h"),
        (b"GET /files/%C3%A9%ff?%20? HTTP/1.1", "/files/é\ufffd", b"%20?", b"h"),
        (b"GET //a//b HTTP/1.1", "//a//b", b"", b"h"),
    ],
)
def test_request_targets(start: Start, request_line: bytes, path: str, query: bytes, host: bytes) -> None:
    app = Recorder()
    server = start(app)
    with server.connect() as connection:
        connection.sendall(request_line + b"\r\nHost: h\r\n\r\n")
        assert read_answer(connection)[0] == 200
    scope = app.next().scope
    assert (scope["path"], scope["query_string"], scope["headers"]) == (path, query, [(b"host", host)])


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_upgrade_is_answered_as_plain_http(start: Start, protocol: bytes) -> None:
    app = Recorder()
    server = start(app)
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\nHTTP2-Settings: AAMAAABk\r\n" % protocol
    with server.connect() as connection:
        for body in (b"", b"hello"):
            connection.sendall(HEAD + upgrade + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            status, headers, answered = read_answer(connection)
            assert (status, answered, headers.get("connection")) == (200, b"%d" % len(body), None)
            assert app.next().body == body
        connection.sendall((HEAD + upgrade + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n") * 3)
        for _ in range(3):
            assert read_answer(connection)[2] == b"1"
            assert app.next().last["trailers"] == [(b"a", b"b")]


def test_upgrade_in_the_trailers_means_nothing(start: Start) -> None:
    server = start(Recorder())
    with server.connect() as connection:
        connection.sendall(CHUNKED + b"0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n" + CHUNKED + b"0\r\n\r\n")
        assert read_answer(connection)[0] == 200
        assert read_answer(connection)[0] == 200


def test_nothing_after_connection_close_is_a_request(start: Start) -> None:
    app = Recorder()
    said = start(app).ask((HEAD + b"Connection: close\r\n\r\n") * 2)
    assert said.count(b"HTTP/1.1 200 ") == 1
    assert app.began.qsize() == 1


def test_half_a_head_and_then_nothing(start: Start) -> None:
    app = Recorder()
    server = start(app)
    with server.connect() as connection:
        connection.sendall(b"GET / HT")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert app.began.empty()


def test_keep_alive_serves_many(start: Start) -> None:
    async def teapot(seen: Seen, receive: Any, send: Any) -> bool:
        await answer(send, b"teapot", 418)
        return True

    server = start(Recorder(teapot))
    with server.connect() as connection:
        for _ in range(20):
            connection.sendall(b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert read_answer(connection)[0] == 418


def test_a_refused_body_is_answered_once_the_application_has_kept_its_bytes(start: Start) -> None:
    """Who asks for the offset after the answer must get the one that the next append needs (failures F20)."""
    may_end = threading.Event()

    async def keep(seen: Seen, receive: Any, _send: Any) -> bool:
        await read_all(seen, receive)
        while not may_end.is_set():
            await asyncio.sleep(0.01)
        return True

    running = start(app := Recorder(keep))
    with running.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n")
        app.began.get(timeout=PATIENCE_SECONDS)
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        may_end.set()
        connection.settimeout(PATIENCE_SECONDS)
        assert read_answer(connection)[0] == 400
    seen = app.next()
    assert (bytes(seen.body), seen.end) == (b"hello", "disconnect")
