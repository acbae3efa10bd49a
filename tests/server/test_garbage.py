"""Requests and connections leave nothing to the garbage collector: what they took is free as soon as they end.

The collector is called seldom, on purpose; what only it can free would pile up in a storm of connections.
"""

from __future__ import annotations

import gc
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.server.conftest import Start, read_answer, reset
from tusd_py import Config, create_app

TIMES = 10
LENGTH = 100_000
POST = "POST /files/ HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 100000\r\nContent-Length: 0\r\n\r\n"
PATCH = (
    "PATCH {path} HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n"
    "Content-Type: application/offset+octet-stream\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n"
)


@contextmanager
def garbage() -> Iterator[Counter[str]]:
    """What of ours, and of the parser's, only the collector could free afterwards: how often, by type."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        ours = (type(each) for each in gc.garbage if type(each).__module__.startswith(("tusd_py", "httptools")))
        found.update(each.__qualname__ for each in ours)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.collect()


def ask(connection: socket.socket, head: str) -> tuple[int, dict[str, str], bytes]:
    connection.sendall(head.encode())
    return read_answer(connection)


def create(connection: socket.socket) -> str:
    return urlsplit(ask(connection, POST)[1]["location"]).path


def upload(connection: socket.socket) -> None:
    path = create(connection)
    assert ask(connection, PATCH.format(path=path, offset=0))[0] == 100
    connection.sendall(bytes(LENGTH))
    assert read_answer(connection)[0] == 204
    assert ask(connection, f"HEAD {path} HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\n\r\n")[0] == 200
    connection.close()


def stop_in_mid_body(connection: socket.socket) -> None:
    assert ask(connection, PATCH.format(path=create(connection), offset=0))[0] == 100
    connection.sendall(bytes(LENGTH // 2))
    reset(connection)


def be_refused(connection: socket.socket) -> None:
    assert ask(connection, PATCH.format(path=create(connection), offset=5))[0] == 409
    connection.close()


def speak_nonsense(connection: socket.socket) -> None:
    assert ask(connection, "NO REQUEST\r\n\r\n")[0] == 400
    connection.close()


def stop_in_mid_head(connection: socket.socket) -> None:
    connection.sendall(b"HEAD /")
    reset(connection)


@pytest.mark.parametrize("behave", [upload, stop_in_mid_body, be_refused, speak_nonsense, stop_in_mid_head])
def test_what_ends_is_freed_at_once(start: Start, tmp_path: Path, behave: Callable[[socket.socket], None]) -> None:
    app = create_app(Config(upload_dir=str(tmp_path), durability="process"))
    with garbage() as found:
        running = start(app)
        for _ in range(TIMES):
            behave(running.connect())
        running.stop()  # which waits for the last one
    assert not {name: count for name, count in found.items() if count >= TIMES}
