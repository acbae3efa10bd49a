"""Requests and connections leave nothing to the garbage collector: what they took is free as soon as they end.

The collector is called seldom, on purpose; what only it can free would pile up in a storm of connections.
"""

from __future__ import annotations

import gc
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.server.conftest import PATIENCE_SECONDS, Start
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


class Client:
    def __init__(self, address: str) -> None:
        url = urlsplit(address)
        self._socket = socket.create_connection((url.hostname, url.port), PATIENCE_SECONDS)

    def send(self, content: bytes) -> None:
        self._socket.sendall(content)

    def ask(self, head: str) -> str:
        """The head of the answer, or all of a short one."""
        self.send(head.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._socket.recv(65536)
        return answer.decode()

    def create(self) -> str:
        line = next(line for line in self.ask(POST).split("\r\n") if line.startswith("location:"))
        return urlsplit(line.partition(" ")[2]).path

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def upload(client: Client) -> None:
    path = client.create()
    assert " 100 " in client.ask(PATCH.format(path=path, offset=0))
    client.send(bytes(LENGTH - 1))
    assert " 204 " in client.ask("x")
    assert " 200 " in client.ask(f"HEAD {path} HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\n\r\n")
    client.close()


def stop_in_mid_body(client: Client) -> None:
    assert " 100 " in client.ask(PATCH.format(path=client.create(), offset=0))
    client.send(bytes(LENGTH // 2))
    client.reset()


def be_refused(client: Client) -> None:
    assert " 409 " in client.ask(PATCH.format(path=client.create(), offset=5))
    client.close()


def speak_nonsense(client: Client) -> None:
    assert " 400 " in client.ask("NO REQUEST\r\n\r\n")
    client.close()


def stop_in_mid_head(client: Client) -> None:
    client.send(b"HEAD /")
    client.reset()


@pytest.mark.parametrize("behave", [upload, stop_in_mid_body, be_refused, speak_nonsense, stop_in_mid_head])
def test_what_ends_is_freed_at_once(start: Start, tmp_path: Path, behave: Callable[[Client], None]) -> None:
    app = create_app(Config(upload_dir=str(tmp_path), durability="process"))
    with garbage() as found:
        running = start(app)
        for _ in range(TIMES):
            behave(Client(running.address))
        running.stop()  # which waits for the last one
    assert not {name: count for name, count in found.items() if count >= TIMES}
