"""A tus client on plain sockets that may stop, lie or die in the middle of anything.

Answers are returned as they are. A connection that ends where an answer should come raises `LostError`; nothing waits
longer than TIMEOUT_SECONDS.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import io
import re
import select
import socket
import struct
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 15.0
BASE_PATH = "/files/"
PIECE_BYTES = 64 * 1024

Headers = Mapping[str, str | None]

_NO_BODY = (204, 304)


class LostError(ConnectionError):
    """The connection ended, or could not be had."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = b""
    interim: tuple[int, ...] = ()

    @property
    def code(self) -> str:
        """ERR_..., of an answer that is an error."""
        return self.body.decode().partition(":")[0]

    @property
    def offset(self) -> int:
        return int(self.headers["upload-offset"])


def checksum(data: bytes) -> str:
    return "sha1 " + base64.b64encode(hashlib.sha1(data).digest()).decode()


def chunk(data: bytes) -> bytes:
    """One piece of a chunked body; of no bytes: its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def patch_headers(offset: int, length: int | None, **more: str | None) -> dict[str, str | None]:
    """For a PATCH with `length` bytes of body, or a chunked one; `more` with underscores for dashes."""
    headers: dict[str, str | None] = {
        "Content-Type": "application/offset+octet-stream",
        "Upload-Offset": str(offset),
        "Content-Length": None if length is None else str(length),
        "Transfer-Encoding": "chunked" if length is None else None,
    }
    return headers | {name.replace("_", "-"): value for name, value in more.items()}


class Connection:
    """One TCP connection; a context manager."""

    def __init__(self, port: int, *, receive_buffer_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        try:
            if receive_buffer_bytes is not None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            self.socket.settimeout(TIMEOUT_SECONDS)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.connect(("127.0.0.1", port))
        except ConnectionError as error:
            self.socket.close()
            raise LostError from error
        self._input: io.BufferedReader = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._input.close()
        self.socket.close()

    def reset(self) -> None:
        """RST: torn down as by a crash of the client's machine."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except ConnectionError as error:
            raise LostError from error

    def try_to_send(self, data: bytes) -> bool:
        """Send what a server that has answered and left may not take any more."""
        try:
            self.socket.sendall(data)
        except ConnectionError:
            return False
        return True

    def begin(self, method: str, path: str, headers: Headers) -> None:
        """Send a request's head."""
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
        fields = {"Tus-Resumable": "1.0.0", **headers}
        lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
        self.send("\r\n".join([*lines, "\r\n"]).encode("latin-1"))

    def begin_patch(self, path: str, offset: int, length: int, sent: bytes, **more: str | None) -> None:
        """Begin a PATCH of `length` bytes, send only `sent`, and see to it that the server's kernel has them."""
        self.begin("PATCH", path, patch_headers(offset, length, **more))
        self.send(sent)
        self.wait_until_delivered()

    def hold_patch(self, path: str, offset: int, length: int, sent: bytes, **more: str | None) -> None:
        """Begin a PATCH of `length` bytes, send only `sent`, and return when it has the upload and these bytes."""
        self.begin("PATCH", path, patch_headers(offset, length, Expect="100-continue", **more))
        assert self.head().status == 100  # sent once the body is wanted: locked, opened, checked
        self.send(sent)
        self.wait_until_read()

    def wait_until_delivered(self) -> None:
        """Until the other kernel has acknowledged every byte; there is no event for that."""
        self._poll(lambda: not struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, b"\0\0\0\0"))[0])

    def wait_until_read(self) -> None:
        """Until the server has taken every byte off its socket, and has had a turn to do something with them."""
        self.wait_until_delivered()
        self._poll(lambda: not self._unread_bytes())
        Client(self.socket.getpeername()[1]).ask("OPTIONS", BASE_PATH)

    def _poll(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not is_so():
            if time.monotonic() > deadline:
                raise TimeoutError("the server does not take the bytes off its socket")
            time.sleep(0.002)

    def _unread_bytes(self) -> int:
        """What lies in the server's socket, as the kernel tells."""
        theirs, ours = self.socket.getpeername()[1], self.socket.getsockname()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(f":{theirs:04X}") and fields[2].endswith(f":{ours:04X}"):
                return int(fields[4].partition(":")[2], 16)
        return 0

    def answer(self, method: str = "PATCH") -> Answer:
        """The next final answer, with its body."""
        answer = self.answer_head()
        if method == "HEAD" or answer.status in _NO_BODY:
            return answer
        length = int(answer.headers["content-length"])
        return Answer(answer.status, answer.headers, self.read(length), answer.interim)

    def has_answer(self, within_seconds: float) -> bool:
        """Whether there is something to read, or the end."""
        return bool(select.select([self.socket], [], [], within_seconds)[0])

    def answer_head(self) -> Answer:
        """The next final answer, without its body."""
        interim: list[int] = []
        while (head := self.head()).status < 200:
            interim.append(head.status)
        return Answer(head.status, head.headers, interim=tuple(interim))

    def head(self) -> Answer:
        """The next status line and headers, of a 1xx too."""
        found = re.fullmatch(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [^\r\n]*\r\n", self._line())
        assert found
        headers: dict[str, str] = {}
        while (line := self._line()) != b"\r\n":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return Answer(int(found[1]), headers)

    def read(self, count: int) -> bytes:
        try:
            data = self._input.read(count)
        except ConnectionError as error:
            raise LostError from error
        if len(data) < count:
            raise LostError(f"{count - len(data)} bytes are missing")
        return data

    def _line(self) -> bytes:
        try:
            line = self._input.readline(65536)
        except ConnectionError as error:
            raise LostError from error
        if not line.endswith(b"\n"):
            raise LostError("no answer")
        return line


class Client:
    """Whole requests to one server, each on a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connect(self, **more: int) -> Connection:
        return Connection(self.port, **more)

    def ask(self, method: str, path: str, headers: Headers | None = None, body: bytes = b"") -> Answer:
        with self.connect() as connection:
            framing = {} if method in ("GET", "HEAD", "DELETE") else {"Content-Length": str(len(body))}
            connection.begin(method, path, {**framing, **(headers or {})})
            connection.try_to_send(body)
            return connection.answer(method)

    def create(self, length: int | None, headers: Headers | None = None, body: bytes = b"") -> str:
        """The path of a new upload; None is a deferred length."""
        size = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
        answer = self.ask("POST", BASE_PATH, {**size, **(headers or {})}, body)
        assert answer.status == 201, answer
        return path_of(answer)

    def head(self, path: str) -> Answer:
        return self.ask("HEAD", path)

    def offset(self, path: str) -> int:
        answer = self.head(path)
        assert answer.status == 200, answer
        return answer.offset

    def patch(self, path: str, offset: int, data: bytes, **more: str | None) -> Answer:
        return self.ask("PATCH", path, patch_headers(offset, len(data), **more), data)

    def delete(self, path: str) -> Answer:
        return self.ask("DELETE", path)

    def content(self, path: str) -> bytes:
        answer = self.ask("GET", path)
        assert answer.status == 200, answer
        return answer.body

    def upload(self, data: bytes) -> str:
        """The path of a finished upload."""
        path = self.create(len(data))
        assert self.patch(path, 0, data).status == 204
        return path

    def finish(self, path: str, data: bytes) -> None:
        """Go on from where the server stands to the end of `data`, and read every byte back."""
        offset = self.offset(path)
        assert offset <= len(data)
        if offset < len(data):
            answer = self.patch(path, offset, data[offset:])
            assert (answer.status, answer.headers.get("upload-offset")) == (204, str(len(data))), answer
        assert self.offset(path) == len(data)
        assert self.content(path) == data


def path_of(created: Answer) -> str:
    return urlsplit(created.headers["location"]).path
