"""A TCP proxy on loopback that is the bad network: it cuts, resets or stalls connections at an exact byte.

It relays bytes and knows nothing of HTTP. Faults count the bytes that a client has sent on its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

HOST = "127.0.0.1"
BLOCK_BYTES = 256 << 10
WAIT_SECONDS = 15.0
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

How = Literal["close", "reset", "stall"]


@dataclass(slots=True)
class Fault:
    after_bytes: int
    times: int
    how: How


class Cut(Exception):
    """Ends a connection on both sides."""


class CuttingProxy:
    def __init__(self, port: int) -> None:
        self._upstream = (HOST, port)
        self._faults: list[Fault] = []
        self._loop = asyncio.new_event_loop()
        self._relays: set[asyncio.Task[None]] = set()
        self._stalled: set[asyncio.Task[None]] = set()
        self._is_released = asyncio.Event()
        self._stalls = threading.Semaphore(0)
        self._listener = socket.create_server((HOST, 0), backlog=128)
        self._listener.setblocking(False)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port: int = self._listener.getsockname()[1]
        self.is_refusing = False  # whether new connections are reset at once
        self.broken = 0
        self.sent_bytes = 0

    def __enter__(self) -> CuttingProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._accepting.cancel)
        self._thread.join(WAIT_SECONDS)

    def through(self, url: str) -> str:
        """`url` by way of this proxy."""
        return urlunsplit(urlsplit(url)._replace(netloc=f"{HOST}:{self.port}"))

    def break_after(self, after_bytes: int, *, times: int = 1, how: How = "close") -> None:
        """End the next `times` connections that send `after_bytes`: orderly, or by RST. Or stall one: the bytes that
        follow stay here, and the server does not learn that the client has left; answers still reach the client."""
        self._faults.append(Fault(after_bytes, times, how))

    def wait_for_stall(self) -> None:
        """Return when one more connection has stalled and the server has read all that came through it."""
        assert self._stalls.acquire(timeout=WAIT_SECONDS), "nothing stalled: too few bytes were sent"

    def release(self) -> None:
        """What stalled goes on: late bytes reach the server. Returns when those connections are over."""
        asyncio.run_coroutine_threadsafe(self._release(), self._loop).result(WAIT_SECONDS)

    def cut(self) -> None:
        """Reset all connections there are."""
        asyncio.run_coroutine_threadsafe(self._cut_relays(), self._loop).result(WAIT_SECONDS)

    async def _release(self) -> None:
        self._is_released.set()
        if self._stalled:
            await asyncio.wait(self._stalled)

    async def _cut_relays(self) -> None:
        relays = list(self._relays)
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._accepting = self._loop.create_task(self._accept())
        with contextlib.suppress(asyncio.CancelledError), self._listener:
            self._loop.run_until_complete(self._accepting)
        self._loop.run_until_complete(self._cut_relays())
        self._loop.close()

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            relay = self._loop.create_task(self._relay(client))
            self._relays.add(relay)
            relay.add_done_callback(self._forget)

    def _forget(self, relay: asyncio.Task[None]) -> None:
        self._relays.discard(relay)
        self._stalled.discard(relay)

    async def _relay(self, client: socket.socket) -> None:
        relay = asyncio.current_task()
        assert relay is not None
        with client, socket.socket() as server:
            server.setblocking(False)
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                if self.is_refusing:
                    raise ConnectionRefusedError
                await self._loop.sock_connect(server, self._upstream)
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump_up(client, server, relay))
                    pumps.create_task(self._pump(server, client))
            except* Cut:
                pass
            except* (OSError, asyncio.CancelledError):
                reset(client, server)

    async def _pump_up(self, client: socket.socket, server: socket.socket, relay: asyncio.Task[None]) -> None:
        sent = 0
        buffer = memoryview(bytearray(BLOCK_BYTES))
        while count := await self._loop.sock_recv_into(client, buffer):
            done = 0
            while fault := self._fault_within(sent + done, count - done):
                stretch = buffer[done : fault.after_bytes - sent]
                await self._loop.sock_sendall(server, stretch)
                self.sent_bytes += len(stretch)
                done += len(stretch)
                await self._break(fault, client, server, relay)
            await self._loop.sock_sendall(server, buffer[done:count])
            self.sent_bytes += count - done
            sent += count
        server.shutdown(socket.SHUT_WR)

    async def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        buffer = memoryview(bytearray(BLOCK_BYTES))
        while count := await self._loop.sock_recv_into(source, buffer):
            await self._loop.sock_sendall(sink, buffer[:count])
        sink.shutdown(socket.SHUT_WR)

    def _fault_within(self, sent: int, count: int) -> Fault | None:
        """The first fault that is due on a connection that sent `sent` bytes and is about to send `count`."""
        due = [each for each in self._faults if each.times and sent <= each.after_bytes < sent + count]
        fault = min(due, key=lambda each: each.after_bytes, default=None)
        if fault is not None:
            fault.times -= 1
        return fault

    async def _break(
        self, fault: Fault, client: socket.socket, server: socket.socket, relay: asyncio.Task[None]
    ) -> None:
        self.broken += 1
        if fault.how != "close":
            # An RST throws away what is under way, and a FIN does not: without this, "after_bytes" would not be exact.
            while is_unread(server):
                await asyncio.sleep(0.002)
        if fault.how == "stall":
            self._stalled.add(relay)
            self._stalls.release()
            await self._is_released.wait()
            return
        if fault.how == "reset":
            reset(client, server)
        raise Cut


def reset(*sockets: socket.socket) -> None:
    """Make their close an RST."""
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


def is_unread(connected: socket.socket) -> bool:
    """Whether bytes that were sent are still in a kernel's queue: ours, or that of the process at the other end."""
    ends = (f"{connected.getpeername()[1]:04X}", f"{connected.getsockname()[1]:04X}")
    with open("/proc/net/tcp", encoding="ascii") as table:
        next(table)
        for local, remote, _state, queues in (line.split()[1:5] for line in table):
            ports = (local.partition(":")[2], remote.partition(":")[2])
            unsent, unread = queues.split(":")
            if (ports == ends and int(unread, 16)) or (ports == ends[::-1] and int(unsent, 16)):
                return True
    return False
