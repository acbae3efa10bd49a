"""Drives many connections from one epoll loop, as cheaply as Python can.

Each connection runs a script: a generator that yields a `Request` and is sent the `Answer`, or None if the request
was cut on purpose. What the requests are is left to the scripts.
"""

from __future__ import annotations

import select
import socket
from array import array
from collections import Counter
from collections.abc import Generator, Iterable
from time import perf_counter
from typing import NamedTuple

from benchwire import UNTIL_LAST_CHUNK, Target, measure_answer, must_close, window

STALL_SECONDS = 60.0
ONE_SEND_BYTES = 64 << 10  # a body up to this travels in one send with its head
SEND_BYTES = 1 << 20
RECEIVE_BYTES = 256 << 10

_MASK = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Request(NamedTuple):
    """`kind` names its latencies. The body is a window of the pattern; after `cut_after` bytes the line is cut."""

    kind: str
    head: bytes
    body_start: int = 0
    body_bytes: int = 0
    has_no_body: bool = False
    cut_after: int = -1


class Answer(NamedTuple):
    status: int
    head: bytes
    body: bytes


Script = Generator[Request, Answer | None, None]


class StalledError(Exception):
    """No connection made progress for a minute."""


class _Link:
    __slots__ = ("at", "end", "head", "received", "request", "script", "sock", "started", "total")
    sock: socket.socket
    request: Request
    started: float
    total: int  # length of the answer, as far as known

    def __init__(self, script: Script) -> None:
        self.script = script
        self.received = bytearray()
        self.head = b""  # what of it is not sent yet
        self.at = self.end = 0  # of the body


class Engine:
    """`latencies` are seconds by kind of request; `errors` counts what went wrong by what it was."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.latencies: dict[str, array[float]] = {}
        self.errors: Counter[str] = Counter()
        self._epoll = select.epoll()
        self._links: dict[int, _Link] = {}
        self._lost_in_a_row = 0

    def connect(self, scripts: Iterable[Script]) -> None:
        for script in scripts:
            self._connect(_Link(script))

    def run(self) -> None:
        links, poll = self._links, self._epoll.poll
        for link in list(links.values()):
            self._step(link, None)
        while links:
            events = poll(STALL_SECONDS)
            if not events:
                raise StalledError(f"no progress for {STALL_SECONDS:.0f} s on {len(links)} connections")
            for fd, mask in events:
                if fd not in links:
                    continue
                link = links[fd]
                if mask & select.EPOLLOUT and link.at < link.end + len(link.head):
                    self._flush(link)
                if mask & _READABLE and fd in links:
                    self._receive(link)

    def _connect(self, link: _Link) -> None:
        link.sock = socket.create_connection((self.target.host, self.target.port), 30)
        link.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sock.setblocking(False)
        link.received.clear()
        self._links[link.sock.fileno()] = link
        self._epoll.register(link.sock.fileno(), _MASK)

    def _disconnect(self, link: _Link) -> None:
        del self._links[link.sock.fileno()]
        link.sock.close()  # leaves the epoll by itself

    def _step(self, link: _Link, answer: Answer | None) -> None:
        try:
            request = link.request = link.script.send(answer)
        except StopIteration:
            self._disconnect(link)
            return
        link.total = 0
        link.started = perf_counter()
        body_bytes = request.body_bytes
        if 0 < body_bytes <= ONE_SEND_BYTES and request.cut_after < 0:
            link.head = request.head + window(request.body_start, body_bytes)
            link.at = link.end = 0
        else:
            link.head = request.head
            link.at, link.end = 0, body_bytes if request.cut_after < 0 else request.cut_after
        self._flush(link)

    def _flush(self, link: _Link) -> None:
        send = link.sock.send
        try:
            while link.head:
                link.head = link.head[send(link.head) :]
            while link.at < link.end:
                size = min(SEND_BYTES, link.end - link.at)
                link.at += send(window(link.request.body_start + link.at, size))
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(link, f"{link.request.kind}: {error.strerror}")
            return
        if link.request.cut_after >= 0:
            self._disconnect(link)
            self._connect(link)
            self._step(link, None)

    def _receive(self, link: _Link) -> None:
        while True:
            try:
                data = link.sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(link, f"{link.request.kind}: {error.strerror}")
                return
            if not data:
                self._lose(link, f"{link.request.kind}: closed by the server")
                return
            sock = link.sock
            self._take(link, data)
            if len(data) < RECEIVE_BYTES or link.sock is not sock or sock.fileno() < 0:
                return

    def _take(self, link: _Link, data: bytes) -> None:
        if link.received:
            link.received += data
            if link.total > len(link.received):
                return
            data = bytes(link.received)
        found = measure_answer(data, link.request.has_no_body)
        while found and found[0] < 200:  # 100 and its like announce the answer
            data = data[found[1] :]
            found = measure_answer(data, link.request.has_no_body)
        if found:
            status, end, link.total = found
            is_whole = data.endswith(b"0\r\n\r\n") if link.total == UNTIL_LAST_CHUNK else len(data) >= link.total
            if is_whole:
                self._finish(link, Answer(status, data[:end], data[end:]))
                return
        link.received[:] = data

    def _finish(self, link: _Link, answer: Answer) -> None:
        self._lost_in_a_row = 0
        kind = link.request.kind
        if kind not in self.latencies:
            self.latencies[kind] = array("d")
        self.latencies[kind].append(perf_counter() - link.started)
        link.received.clear()
        if must_close(answer.head) or link.head or link.at < link.end:
            self._disconnect(link)
            self._connect(link)
        self._step(link, answer)

    def _lose(self, link: _Link, reason: str) -> None:
        """The connection broke: an error, and the script goes on with an answer that is none."""
        self.errors[reason] += 1
        self._lost_in_a_row += 1
        if self._lost_in_a_row > 200:
            raise StalledError(f"every connection is lost; the last: {reason}")
        self._disconnect(link)
        self._connect(link)
        self._step(link, Answer(0, b"", b""))
