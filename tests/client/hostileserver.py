"""A server that reads requests as it should, and answers whatever a test wants: too much, too slowly, or nonsense."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType

HOST = "127.0.0.1"
WAIT_SECONDS = 10.0
"""Longer than any test allows a client to wait; then what was endless ends, and the test fails and does not hang."""


@dataclass(slots=True)
class Asked:
    method: str
    path: str
    head: str
    upload_length: int  # of the newest upload
    upload_offset: int

    def number(self, name: str) -> int:
        found = re.search(rf"(?i)\r\n{name}: (\d+)", self.head)
        return int(found[1]) if found else 0


Answering = Callable[[Asked], Iterable[bytes]]


def answer(status: int, body: bytes = b"", **headers: str) -> list[bytes]:
    """An orderly one. Names of headers have _ for -."""
    told = {
        "Tus_Resumable": "1.0.0",
        "Tus_Version": "1.0.0",
        "Connection": "close",
        "Content_Length": str(len(body)),
        **headers,
    }
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in told.items())
    return [f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode("latin-1"), body]


def taking(asked: Asked, location: str = "/files/1") -> list[bytes]:
    """As a server that keeps nothing would, but for length and offset of the newest upload."""
    match asked.method:
        case "POST":
            return answer(201, Location=location)
        case "PATCH":
            return answer(204, Upload_Offset=str(asked.upload_offset))
        case "HEAD":
            return answer(
                200,
                Upload_Offset=str(asked.upload_offset),
                Upload_Length=str(asked.upload_length),
                Cache_Control="no-store",
            )
        case _:
            return answer(204, Tus_Extension="creation,termination")


@dataclass
class HostileServer:
    answering: Answering
    asked: list[Asked] = field(default_factory=list)
    pause_seconds: float = 0.0  # after each piece of a body

    def __enter__(self) -> HostileServer:
        self._upload_length = self._upload_offset = 0
        self._is_over = threading.Event()
        self._was_asked = threading.Semaphore(0)
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((HOST, 0), backlog=64)
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        for each in (self._listener, *self._connections.copy()):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(WAIT_SECONDS)

    @property
    def origin(self) -> str:
        return f"http://{HOST}:{self._listener.getsockname()[1]}"

    @property
    def url(self) -> str:
        return f"{self.origin}/files/"

    def wait_until_asked(self) -> None:
        assert self._was_asked.acquire(timeout=WAIT_SECONDS), "nothing was asked"

    def drip(self, data: bytes, whole: bytes = b"", seconds: float = 0.05) -> Iterator[bytes]:
        """After the `whole`, a byte now and then, more often than any limit of a socket, and again and again."""
        yield whole
        for sent in range(int(WAIT_SECONDS / seconds)):
            yield data[sent % len(data)].to_bytes()
            self._is_over.wait(seconds)

    def silence(self) -> Iterator[bytes]:
        self._is_over.wait(WAIT_SECONDS)
        yield b""

    def _start(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._is_over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.add(connection)
            self._start(lambda connection=connection: self._serve(connection))

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(WAIT_SECONDS)
            if (asked := self._read(connection)) is not None:
                self.asked.append(asked)
                self._was_asked.release()
                for data in self.answering(asked):
                    connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):  # else a reset could overtake the answer
                    pass
        self._connections.discard(connection)

    def _read(self, connection: socket.socket) -> Asked | None:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := connection.recv(1 << 16)):
                return None
            data += more
        raw, _, rest = data.partition(b"\r\n\r\n")
        head = raw.decode("latin-1")
        method, path = head.split(" ")[:2]
        asked = Asked(method, path, head, 0, 0)
        if method == "POST":
            self._upload_length, self._upload_offset = asked.number("upload-length"), 0
        left = asked.number("content-length") - len(rest)
        while left > 0 and (more := connection.recv(min(left, 1 << 16))):
            left -= len(more)
            self._is_over.wait(self.pause_seconds)
        if method == "PATCH":
            self._upload_offset = asked.number("upload-offset") + asked.number("content-length") - max(left, 0)
        asked.upload_length, asked.upload_offset = self._upload_length, self._upload_offset
        return asked
