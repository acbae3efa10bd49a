"""A receiver on loopback that speaks raw bytes, so that it can be wrong in every way; and the way to it."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from tusd_py.core.events import EventType
from tusd_py.hooks.contract import Event, PostFinish, Request, Upload
from tusd_py.hooks.http.settings import ReceiverSettings
from tusd_py.hooks.http.transport import Receiver

HOST = "127.0.0.1"
CLOSE_SECONDS = 5.0


@dataclass(frozen=True)
class Heard:
    """A request as it came."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]

    def one(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    def json(self) -> Any:
        return json.loads(self.body)


class Peer:
    """Our end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def close(self) -> None:
        self.writer.close()

    async def reset(self) -> None:
        connected = self.writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def wait_until_closed(self) -> None:
        while await self.reader.read(65536):
            pass


Behaviour = bytes | Callable[[Peer], Awaitable[None]]


class RawReceiver:
    """Behaves to each request as the next of `behaviours` says, and for ever as the last one. `is_hasty`: before it has
    read the request's body, which it does afterwards."""

    def __init__(self, behaviours: tuple[Behaviour, ...], is_hasty: bool) -> None:
        self._is_hasty = is_hasty
        self._behaviours = list(behaviours)
        self._all_closed = asyncio.Event()
        self.heard: list[Heard] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        self._all_closed.clear()
        peer = Peer(reader, writer)
        try:
            while not writer.is_closing():
                self.heard.append(await _read(reader, self._is_hasty))
                behaviour = self._behaviours.pop(0) if len(self._behaviours) > 1 else self._behaviours[0]
                await (peer.send(behaviour) if isinstance(behaviour, bytes) else behaviour(peer))
                if self._is_hasty:
                    await reader.readexactly(int(self.heard[-1].one("Content-Length")))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.open -= 1
            if not self.open:
                self._all_closed.set()

    async def wait_until_all_closed(self) -> None:
        async with asyncio.timeout(CLOSE_SECONDS):
            await self._all_closed.wait()


async def _read(reader: asyncio.StreamReader, is_head_enough: bool) -> Heard:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head[:-4].split("\r\n")
    headers = [(name, value) for name, _, value in (each.partition(": ") for each in lines)]
    heard = Heard(line, headers, b"")
    if not is_head_enough:
        heard = replace(heard, body=await reader.readexactly(int(heard.one("Content-Length"))))
    return heard


def answer(body: bytes = b"{}", *headers: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@asynccontextmanager
async def receiving(
    *behaviours: Behaviour, tls: ssl.SSLContext | None = None, is_hasty: bool = False
) -> AsyncIterator[RawReceiver]:
    receiver = RawReceiver(behaviours, is_hasty)
    server = await asyncio.start_server(receiver.serve, HOST, 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        if receiver.open:
            await receiver.wait_until_all_closed()


@asynccontextmanager
async def hooked(to: RawReceiver | str, **settings: Any) -> AsyncIterator[Receiver]:
    """A transport to a receiver, or to a URL; it does not wait between tries."""
    if "metadata_key" not in settings:
        settings["url"] = to if isinstance(to, str) else f"http://{HOST}:{to.port}/hooks?a=b"
    receiver = Receiver(ReceiverSettings(**{"name": "test", "events": ALL, "backoff_seconds": 0.0, **settings}))
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.aclose()


ALL = frozenset(EventType)
HEADERS = {"Authorization": ("Bearer a",), "Cookie": ("a=1",), "X-Team": ("red", "blue")}
REQUEST = Request("PATCH", "/files/a", "192.0.2.1:5", HEADERS)


def sample(event_class: type[Event] = PostFinish, **metadata: str) -> Event:
    upload = Upload("a", 5, 5, {"filename": "Übung.bin", **metadata}, storage={"Type": "filestore", "Path": "/data/a"})
    return event_class(upload, REQUEST, key=f"a:{event_class.TYPE}")
