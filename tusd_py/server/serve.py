"""Starts the server, keeps it running, and stops it so that no request is lost without an answer.

Owns the order of starting and stopping, signals and exit codes. Leaves what can go wrong with addresses and
certificates to `sockets`, the wire to `protocol`, and interrupting running bodies to whoever passes `on_stop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from types import FrameType
from typing import Any

import uvicorn

from tusd_py.errors import ConfigError
from tusd_py.server.protocol import TusProtocol
from tusd_py.server.sockets import BACKLOG, Listeners, listen, listen_unix, tls_context

# Longer than the 60 s for which nginx and the big load balancers keep an idle connection, so that they close first and
# never send a request into a connection that we are closing.
KEEP_ALIVE_SECONDS = 75
# What a cancelled request may still take to make its bytes durable.
CANCEL_GRACE_SECONDS = 5.0

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Plain values; `unix_sock` wins over host and port, and TLS is on if `tls_certificate` is set.

    `announce` is called once, with the address, as soon as requests are answered.
    """

    host: str
    port: int
    unix_sock: str
    tls_certificate: str
    tls_key: str
    tls_mode: str
    base_path: str
    max_header_bytes: int
    shutdown_timeout_seconds: float
    announce: Callable[[str], None] | None = None


def serve(app: Any, options: ServeOptions, *, on_stop: Callable[[], None]) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. `on_stop` is called in the loop, once, when it begins."""
    return Server(app, options, on_stop=on_stop).serve_until_stopped()


class Server(uvicorn.Server):
    """uvicorn's server with sockets of its own, no polling, and an exit code. `stop` may be called from any thread."""

    def __init__(
        self,
        app: Any,
        options: ServeOptions,
        *,
        on_stop: Callable[[], None],
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=TusProtocol,  # type: ignore[arg-type]  # uvicorn's types know no BufferedProtocol
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=True,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        super().__init__(config)
        self._options = options
        self._on_stop = on_stop
        self._loop_factory = loop_factory or _fastest_loop()
        self._listeners: Listeners
        self._tls: ssl.SSLContext | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_wanted = asyncio.Event()

    def serve_until_stopped(self) -> int:
        options = self._options
        try:
            if options.tls_certificate:
                self._tls = tls_context(options.tls_certificate, options.tls_key, options.tls_mode)
            self._listeners = (
                listen_unix(options.unix_sock) if options.unix_sock else listen(options.host, options.port)
            )
        except ConfigError as error:
            sys.stderr.write(f"tusd-py: error: {error}\n")
            return 1
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(self.serve())
        finally:
            self._listeners.close()
        return 1 if self.lifespan.should_exit else 0

    def stop(self) -> None:
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: stopped already
                self._loop.call_soon_threadsafe(self._stop_wanted.set)

    # What uvicorn.Server.serve() calls, in this order.

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # signal.signal, not loop.add_signal_handler: a second signal must work even if the loop hangs.
        previous = {number: signal.signal(number, self.handle_exit) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self._listeners.remove_unix_sock()
            os._exit(1)
        self.stop()

    async def startup(self, sockets: Any = None) -> None:
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.stderr.write("tusd-py: error: the application could not start\n")
            self.should_exit = True
            return
        self._renew_date()
        loop = asyncio.get_running_loop()
        self.servers = []
        for listener in self._listeners.sockets:
            start = loop.create_unix_server if self._options.unix_sock else loop.create_server
            self.servers.append(await start(self._connect, sock=listener, ssl=self._tls, backlog=BACKLOG))
        self.started = True
        if self._options.announce is not None:
            self._options.announce(self._address())

    def _connect(self) -> TusProtocol:
        return TusProtocol(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            max_header_bytes=self._options.max_header_bytes,
        )

    def _address(self) -> str:
        listeners = self._listeners
        if listeners.unix_sock:
            return f"unix:{listeners.unix_sock}"
        host = f"[{listeners.host}]" if ":" in listeners.host else listeners.host
        return f"{'https' if self._tls else 'http'}://{host}:{listeners.port}{self._options.base_path}"

    async def main_loop(self) -> None:
        while not self.should_exit:
            self._renew_date()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop_wanted.wait(), 1.0)

    def _renew_date(self) -> None:
        self.server_state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]

    async def shutdown(self, sockets: Any = None) -> None:
        for server in self.servers:
            server.close()
        self._close_connections()
        self._on_stop()
        try:
            async with asyncio.timeout(self._options.shutdown_timeout_seconds):
                await self._drain()
        except TimeoutError:
            await self._cancel()
        await self.lifespan.shutdown()

    def _close_connections(self) -> None:
        for connection in list(self.server_state.connections):
            connection.shutdown()

    async def _drain(self) -> None:
        while self.server_state.connections or self.server_state.tasks:
            # Again each time: a connection may have been accepted but not made when we began to stop.
            self._close_connections()
            await asyncio.sleep(0.02)

    async def _cancel(self) -> None:
        tasks = set(self.server_state.tasks)
        if tasks:
            logger.warning("cancelling %d requests that did not end in time", len(tasks))
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_GRACE_SECONDS)
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
