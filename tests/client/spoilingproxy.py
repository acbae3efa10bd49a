"""A proxy that does what proxies of the world do to uploads: one wrong at a time, named by who asks for it.

One request a connection. It reads heads, and pumps bodies unless it is told to collect them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

HOST = "127.0.0.1"
WAIT_SECONDS = 15.0

Editor = Callable[[str, str], str]
"""From method and head to the head that is passed on."""


def unchanged(_method: str, head: str) -> str:
    return head


def without(*names: str) -> Editor:
    """An editor that drops headers."""

    def edit(_method: str, head: str) -> str:
        for name in names:
            head = re.sub(rf"(?im)^{name}:.*\r\n", "", head)
        return head

    return edit


@dataclass
class Spoils:
    request: Editor = unchanged
    response: Editor = unchanged
    answer: Callable[[str, str], str | None] = lambda _method, _head: None  # the head of one of its own
    is_collecting: bool = False  # bodies, before it passes them on
    is_caching: bool = False  # answers to HEAD, for ever
    longest_silence_seconds: float | None = None
    most_body_bytes: int | None = None
    body: Callable[[str, bytes], bytes] | None = None  # of answers
    tls: ssl.SSLContext | None = None
    cached: dict[str, bytes] = field(default_factory=dict)


class SpoilingProxy:
    def __init__(self, port: int, spoils: Spoils) -> None:
        self._upstream = port
        self._spoils = spoils
        self._loop = asyncio.new_event_loop()
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.open_patches = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._spoils.tls else 'http'}://{HOST}:{self.port}/files/"

    def __enter__(self) -> SpoilingProxy:
        self._thread.start()
        assert self._is_ready.wait(WAIT_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join(WAIT_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._serving = self._loop.create_task(self._serve())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serving)
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, HOST, 0, ssl=self._spoils.tls)
        self.port = server.sockets[0].getsockname()[1]
        self._is_ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for writer in self._writers:  # a close waits for bytes that nobody takes any more
                writer.transport.abort()
            await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = self._loop.create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._exchange(reader, writer)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        spoils = self._spoils
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path = head.split(" ", 2)[:2]
        length = int(found[1]) if (found := re.search(r"(?i)content-length: (\d+)", head)) else None
        own = spoils.answer(method, head)
        if spoils.most_body_bytes is not None and (length or 0) > spoils.most_body_bytes:
            own = "HTTP/1.1 413 Too Large\r\nServer: spoiling\r\nContent-Length: 0\r\n\r\n"
        if own is None and spoils.is_caching and method == "HEAD" and path in spoils.cached:
            own = spoils.cached[path].decode("latin-1")
        if own is not None:
            writer.write(own.encode("latin-1"))
            await writer.drain()
            while await reader.read(1 << 16):  # until the client has it: a reset would take it away
                pass
            return
        collected = await reader.readexactly(length) if spoils.is_collecting and length else b""
        head = spoils.request(method, head).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
        up_reader, up_writer = await asyncio.open_connection(HOST, self._upstream)
        self._writers.add(up_writer)
        self.open_patches += method == "PATCH"
        try:
            up_writer.write(head.encode("latin-1") + collected)
            up = self._loop.create_task(self._pump_up(reader, up_writer))
            try:
                await self._pass_answer(method, path, up_reader, writer, up)
            finally:
                up.cancel()
                await asyncio.gather(up, return_exceptions=True)
        finally:
            self.open_patches -= method == "PATCH"
            up_writer.close()

    async def _pump_up(self, reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter) -> None:
        while data := await asyncio.wait_for(reader.read(1 << 16), self._spoils.longest_silence_seconds):
            up_writer.write(data)
            await up_writer.drain()
        up_writer.close()

    async def _pass_answer(
        self,
        method: str,
        path: str,
        up_reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up: asyncio.Task[None],
    ) -> None:
        answered = self._loop.create_task(up_reader.readuntil(b"\r\n\r\n"))
        try:
            await asyncio.wait({answered, up}, return_when=asyncio.FIRST_COMPLETED)
            if up.done() and not answered.done():
                if up.exception() is not None:
                    return
                await asyncio.wait({answered}, timeout=WAIT_SECONDS)
            head = answered.result().decode("latin-1")
        finally:
            answered.cancel()
        edited = self._spoils.response(method, head).encode("latin-1")
        if method == "HEAD":
            self._spoils.cached.setdefault(path, edited)
        writer.write(edited)
        body = await up_reader.read()
        writer.write(self._spoils.body(method, body) if self._spoils.body else body)
        await writer.drain()
