"""A TCP way on loopback that can be cut or fall silent: from a server to Redis, or from clients to servers in turn.

It relays bytes and knows nothing of what they say. Of several ports each connection gets the next one, so that with one
request a connection no two requests in a row reach the same server.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable
from functools import partial

from acceptor import Acceptor
from cutting_proxy import BLOCK_BYTES, HOST, WAIT_SECONDS, reset


class Link(Acceptor):
    """`taken` counts the connections to each port."""

    def __init__(self, *ports: int) -> None:
        self.taken: Counter[int] = Counter()
        self._ports = list(ports)
        self._is_cut = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._relays: set[asyncio.Task[None]] = set()
        super().__init__("link")

    def cut(self) -> None:
        """Reset all connections, and new ones at once, until `heal()`."""
        self._is_cut = True
        self.reset_connections()

    def silence(self) -> None:
        """From now on nothing comes through, and nobody is told, until `heal()`: as when the network is split."""
        self._in_loop(self._flows.clear)

    def heal(self) -> None:
        """What fell silent goes on."""
        self._is_cut = False
        self._in_loop(self._flows.set)

    def reset_connections(self) -> None:
        """Those that there are. Returns when they are gone."""
        asyncio.run_coroutine_threadsafe(self._reset_all(), self._loop).result(WAIT_SECONDS)

    def _in_loop(self, call: Callable[[], None]) -> None:
        """Returns when it is done."""

        async def run() -> None:
            call()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(WAIT_SECONDS)

    async def _end(self) -> None:
        await self._reset_all()

    async def _reset_all(self) -> None:
        relays = list(self._relays)
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            relay = self._loop.create_task(self._relay(client))
            self._relays.add(relay)
            relay.add_done_callback(partial(self._forget, client))

    def _forget(self, client: socket.socket, relay: asyncio.Task[None]) -> None:
        client.close()  # also of one that was cancelled before it began
        self._relays.discard(relay)

    async def _relay(self, client: socket.socket) -> None:
        with client, contextlib.ExitStack() as stack:
            ends = [client]
            try:
                if self._is_cut:
                    raise ConnectionResetError
                server = stack.enter_context(await self._connected())
                ends.append(server)
                for each in ends:
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(client, server))
                    pumps.create_task(self._pump(server, client))
            except* (OSError, asyncio.CancelledError):
                reset(*ends)

    async def _connected(self) -> socket.socket:
        """To the next in turn; a dead one is passed over, as balancers do."""
        for _ in self._ports:
            port = self._ports.pop(0)
            self._ports.append(port)
            server = socket.socket()
            server.setblocking(False)
            try:
                await self._loop.sock_connect(server, (HOST, port))
            except ConnectionRefusedError:
                server.close()
            except BaseException:
                server.close()
                raise
            else:
                self.taken[port] += 1
                return server
        raise ConnectionRefusedError

    async def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        buffer = memoryview(bytearray(BLOCK_BYTES))
        while count := await self._loop.sock_recv_into(source, buffer):
            await self._flows.wait()
            await self._loop.sock_sendall(sink, buffer[:count])
        sink.shutdown(socket.SHUT_WR)
