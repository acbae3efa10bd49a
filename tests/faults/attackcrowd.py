"""Thousands of connections of one thread that do no more than they are told: who they attack, and why, is left to
the tests. Nothing here blocks, and nothing lasts longer than it is given."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterable
from typing import Self

_RESET = struct.pack("ii", 1, 0)
_KEPT_BYTES = 64 * 1024
_TURN_SECONDS = 0.02
_BATCH_SECONDS = 0.005
_POUR_SECONDS = 0.002
_POURED = bytes(64 * 1024)
_MOST_EVENTS = 512


class Peer:
    """One connection. `heard` is the beginning of what came, `heard_bytes` all of it; `over_at` is when it ended."""

    __slots__ = ("_crowd", "_more", "heard", "heard_bytes", "joined_at", "over_at", "sent_bytes", "socket", "unsent")

    def __init__(self, crowd: Crowd, data: bytes, more: Callable[[], bytes] | None) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.joined_at = time.monotonic()
        self.over_at: float | None = None
        self.heard = b""
        self.heard_bytes = self.sent_bytes = 0
        self.unsent = data
        self._crowd = crowd
        self._more = more

    @property
    def statuses(self) -> list[int]:
        """Of all answers in `heard`, as far as their bodies do not look like some."""
        return [int(piece[:3]) for piece in self.heard.split(b"HTTP/1.1 ")[1:]]

    @property
    def lasted_seconds(self) -> float:
        assert self.over_at is not None, "it is not over"
        return self.over_at - self.joined_at

    def say(self, data: bytes) -> None:
        if self.over_at is None:
            self.unsent += data
            self.write()

    def write(self) -> None:
        """As much as goes; `more` is asked when all has gone."""
        try:
            while self.unsent or (self._more is not None and (data := self._more())):
                self.unsent = self.unsent or data
                count = self.socket.send(self.unsent)
                self.sent_bytes += count
                self.unsent = self.unsent[count:]
                if self.unsent or self._more is not None:
                    break  # the others want to write, too
        except BlockingIOError:
            pass
        except OSError:
            self.leave()
            return
        self._crowd.watch(self, writes=bool(self.unsent or self._more is not None))

    def read(self) -> None:
        try:
            data = self.socket.recv(256 * 1024)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.heard_bytes += len(data)
        if len(self.heard) < _KEPT_BYTES:
            self.heard += data[:_KEPT_BYTES]
        if not data:
            self.leave()

    def leave(self, *, by_reset: bool = False) -> None:
        if self.over_at is None:
            self.over_at = time.monotonic()
            if by_reset:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._crowd.forget(self)
            self.socket.close()


class Crowd:
    """A context manager; at its end all leave. `stay` is how many have not left or been closed."""

    def __init__(self, port: int) -> None:
        self.peers: list[Peer] = []
        self.stay = 0
        self._port = port
        self._epoll = select.epoll()
        self._by_descriptor: dict[int, tuple[Peer, bool]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self.peers:
            peer.leave()
        self._epoll.close()

    def join(
        self,
        sayings: Iterable[bytes],
        *,
        reads: bool = True,
        more: Callable[[], bytes] | None = None,
        each_second: float = 2_000.0,
        host: str = "127.0.0.1",
        receive_buffer_bytes: int = 0,
    ) -> list[Peer]:
        """One for each of `sayings` connects, `each_second` so many, and says it, then whatever `more` returns. They
        read what comes, unless not `reads`. Returns them when all have begun."""
        began, joined = time.monotonic(), []
        batch = max(1, round(each_second * _BATCH_SECONDS))  # evenly: a burst is another attack
        for number, data in enumerate(sayings):
            peer = Peer(self, data, more)
            joined.append(peer)
            self.peers.append(peer)
            self.stay += 1
            if receive_buffer_bytes:
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            if host != "127.0.0.1":
                peer.socket.bind((host, 0))
            peer.socket.connect_ex(("127.0.0.1", self._port))
            self._by_descriptor[peer.socket.fileno()] = peer, reads
            self._epoll.register(peer.socket, self._mask(reads=reads, writes=True))
            if (number + 1) % batch == 0:
                self.turn(began + (number + 1) / each_second - time.monotonic())
        return joined

    def turn(self, seconds: float = 0.0, until: Callable[[], bool] = lambda: False) -> bool:
        """Let everybody do what they can for so long; whether it came to `until`."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            for descriptor, events in self._epoll.poll(max(0.0, min(left, _TURN_SECONDS)), _MOST_EVENTS):
                self._serve(descriptor, events)
            if until():
                return True
            if left <= 0:
                return False

    def pour(self, each_second: int, seconds: float) -> None:
        """All together say so many bytes a second, as if they came by a network."""
        began, count = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            while self.stay and count < passed * each_second:
                for peer in self.peers:
                    if not peer.unsent:  # otherwise it is the server that cannot take more
                        peer.say(_POURED)
                    count += len(_POURED)
            self.turn(_POUR_SECONDS)

    def _serve(self, descriptor: int, events: int) -> None:
        if descriptor not in self._by_descriptor:
            return  # it left a moment ago
        peer, reads = self._by_descriptor[descriptor]
        if events & select.EPOLLOUT:
            peer.write()
        if events & select.EPOLLIN and reads:
            peer.read()
        elif events & (select.EPOLLHUP | select.EPOLLERR):
            peer.leave()

    def wait_for_all(self, seconds: float) -> None:
        """Until the server has ended every connection."""
        assert self.turn(seconds, lambda: not self.stay), f"{self.stay} of {len(self.peers)} stay"

    def _mask(self, *, reads: bool, writes: bool) -> int:
        return (select.EPOLLIN if reads else 0) | (select.EPOLLOUT if writes else 0)

    # What a peer tells.

    def watch(self, peer: Peer, *, writes: bool) -> None:
        if peer.over_at is None:
            _, reads = self._by_descriptor[peer.socket.fileno()]
            self._epoll.modify(peer.socket, self._mask(reads=reads, writes=writes))

    def forget(self, peer: Peer) -> None:
        self.stay -= 1
        descriptor = peer.socket.fileno()
        if self._by_descriptor.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
