"""A small HTTP/1.1 client for one receiver: sends requests over connections that are kept alive, of which there are not
more than so many. It follows no redirect, unpacks nothing, and asks no proxy.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

from tusd_py.hooks.contract import HookError
from tusd_py.hooks.http.addresses import Address, Resolve
from tusd_py.hooks.http.connection import Connection, Reply, TryAgain, Unheard

IDLE_SECONDS = 30.0
CONNECT_SECONDS = 5.0
"""For one IP address of a receiver; it may have others that do answer."""


class Progress:
    """What was done for a request, for whoever must say why it took too long."""

    __slots__ = ("failure", "stage", "tries")

    def __init__(self) -> None:
        self.tries = 0
        self.stage = ""
        self.failure = ""  # of the try before


class Client:
    """`resolve` is asked once for each connection, which then goes to what it said. A client that does not keep alive
    may be given another address each time."""

    def __init__(self, *, most_body_bytes: int, max_connections: int, resolve: Resolve, keeps_alive: bool) -> None:
        self._most_body_bytes = most_body_bytes
        self._turns = asyncio.Semaphore(max_connections)
        self._resolve = resolve
        self._keeps_alive = keeps_alive
        self._tls: ssl.SSLContext | None = None
        self._idle: list[Connection] = []  # those used last at the end
        self._sweep_timer: asyncio.TimerHandle | None = None

    def trust(self, *, skip_verify: bool) -> None:
        """Make ready for https, by the system's certificates (OpenSSL's SSL_CERT_FILE names others)."""
        self._tls = ssl.create_default_context()
        if skip_verify:
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE

    async def send(self, address: Address, request: bytes, progress: Progress) -> Reply:
        """Raises TryAgain, and HookError where another try cannot help. Cancelled, it closes what it used."""
        progress.stage = "was waiting for a free connection"
        async with self._turns:
            progress.stage = "was waiting for the answer"
            connection = self._take()
            if connection is not None:
                with suppress(Unheard):  # it was closed while it lay idle: another one is worth a try at once
                    return self._give_back(connection, await connection.exchange(request))
            connection = await self._connect(address, progress)
            return self._give_back(connection, await connection.exchange(request))

    async def aclose(self) -> None:
        """Close what lies idle."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        idle, self._idle = self._idle, []
        for each in idle:
            each.abort()
        for each in idle:
            await each.closed

    async def _connect(self, address: Address, progress: Progress) -> Connection:
        """To the first of its IP addresses that takes a connection."""
        progress.stage = "was looking up the name"
        try:
            hosts = await self._resolve(address.host, address.port)
        except OSError as error:
            raise TryAgain(f"its name cannot be looked up: {error}") from error
        fault: OSError | None = None
        for host in hosts:
            progress.stage = f"was connecting to {host}"
            connection = Connection(self._most_body_bytes)
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._open(connection, address, host)
            except ssl.SSLCertVerificationError as error:
                raise HookError(f"its certificate cannot be trusted: {error.verify_message or error}") from error
            except OSError as error:  # TimeoutError too
                connection.abort()
                fault = error
            except BaseException:
                connection.abort()
                raise
            else:
                progress.stage = "was waiting for the answer"
                return connection
        if fault is None:
            raise TryAgain("its name has no address")
        raise TryAgain(f"it cannot be reached: {str(fault) or f'{hosts[-1]} is silent'}") from fault

    async def _open(self, connection: Connection, address: Address, host: str) -> None:
        tls, name = (self._tls, address.host) if address.is_tls else (None, None)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: connection, host, address.port, ssl=tls, server_hostname=name)

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable:
                return connection
        return None

    def _give_back(self, connection: Connection, reply: Reply) -> Reply:
        if not self._keeps_alive:
            connection.abort()
        elif connection.is_reusable:
            loop = asyncio.get_running_loop()
            connection.idle_since = loop.time()
            self._idle.append(connection)
            if self._sweep_timer is None:
                self._sweep_timer = loop.call_later(IDLE_SECONDS, self._sweep)
        return reply

    def _sweep(self) -> None:
        """Close those that nobody has used for long, before their receivers do."""
        loop = asyncio.get_running_loop()
        horizon = loop.time() - IDLE_SECONDS
        while self._idle and self._idle[0].idle_since <= horizon:
            self._idle.pop(0).abort()
        self._sweep_timer = loop.call_later(IDLE_SECONDS, self._sweep) if self._idle else None
