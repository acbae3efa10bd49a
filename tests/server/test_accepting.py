"""Connections that we accept ourselves, and those in the middle of a TLS handshake."""

from __future__ import annotations

import errno
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import PATIENCE_SECONDS, Recorder, Start, connect_tls, read_answer
from tusd_py.server import accepting
from tusd_py.server.bounds import Bounds

GET = b"GET /files/x HTTP/1.1\r\nHost: h\r\n\r\n"


def test_a_handshake_takes_no_longer_than_a_head(start: Start, tls: dict[str, str]) -> None:
    server = start(Recorder(), bounds=Bounds(head_seconds=0.2), **tls)
    assert server.ask(b"") == b""
    server.wait_until(lambda: not server._server._acceptor.is_awaiting)


def test_those_that_shake_hands_are_connections_too(
    start: Start, tls: dict[str, str], certificates: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tusd_py.server")
    server = start(Recorder(), bounds=Bounds(max_connections=2), **tls)
    with server.connect() as silent:
        server.wait_until(lambda: server._server._acceptor.is_awaiting)
        with connect_tls(server.port, certificates) as second:
            second.sendall(GET)
            assert read_answer(second)[0] == 200
            assert server.ask(b"") == b""  # at once: the time of a head is 30 s
            assert [record.msg.name for record in caplog.records] == ["ConnectionsRefused"]  # type: ignore[attr-defined]
            second.sendall(GET)
            assert read_answer(second)[0] == 200
        assert silent.fileno() >= 0
    server.wait_until(lambda: not server._server._acceptor.is_awaiting)
    with connect_tls(server.port, certificates) as third:
        third.sendall(GET)
        assert read_answer(third)[0] == 200


def test_without_tls_one_too_many_is_told_so(start: Start) -> None:
    server = start(Recorder(), bounds=Bounds(max_connections=1))
    with server.connect(), socket.create_server(("127.0.0.1", 0)) as listener:
        server.connection()
        listener.setblocking(False)
        with socket.create_connection(listener.getsockname(), timeout=PATIENCE_SECONDS) as stray:
            server.in_loop(lambda: server._server._acceptor.take(listener))
            assert read_answer(stray)[0] == 503
            assert stray.recv(1) == b""


class Scarce(socket.socket):
    """A listener for whose first connection there is no descriptor."""

    refusals = 0

    def accept(self) -> tuple[socket.socket, Any]:
        if not self.refusals:
            self.refusals += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_without_descriptors_accepting_pauses_and_goes_on(
    start: Start, tls: dict[str, str], certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "_PAUSE_SECONDS", 0.05)
    server = start(Recorder(), **tls)
    with Scarce(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server.in_loop(lambda: server._server._acceptor.watch(listener))
        with connect_tls(listener.getsockname()[1], certificates) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.sendall(GET)
            assert read_answer(connection)[0] == 200
        assert listener.refusals == 1
        server.stop()
        assert listener.fileno() == -1, "closed with the others"
