"""Starts the server, keeps it running, and stops it so that no request is lost without an answer.

Owns the order of starting and stopping, signals and exit codes of one process: one that serves alone, or a worker with
a lifeline to its supervisor. Leaves what can go wrong with addresses and certificates to `sockets`, the wire to
`protocol`, several processes to `supervise`, and interrupting running bodies to whoever passes `on_stop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from types import FrameType
from typing import Any, cast

import uvicorn

from tusd_py.errors import ConfigError
from tusd_py.logs import event
from tusd_py.server.accepting import Acceptor
from tusd_py.server.bounds import Admission, Bounds
from tusd_py.server.leaving import LAST_SECONDS, leave_after
from tusd_py.server.lifeline import BEAT, LEAVING, READY, Lifeline
from tusd_py.server.protocol import TusProtocol
from tusd_py.server.refusals import Counter
from tusd_py.server.sockets import BACKLOG, Listeners, listen, listen_unix, tls_context

# What a cancelled request may still take to make its bytes durable.
CANCEL_GRACE_SECONDS = 5.0
# How often the date is renewed, the supervisor hears from us, and connections are taken from workers that hang.
_TICK_SECONDS = 1.0
# How soon again, where some were found.
_STRAY_SECONDS = 0.02
# Of a loop, from accepting a connection to telling its protocol: asyncio makes a task and a transport in between.
_TURNS_TO_CONNECT = 5
# How often those are looked for that came while we retire.
_RETIRE_TICK_SECONDS = 0.05

log = logging.getLogger("tusd_py.server")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Plain values; `unix_sock` wins over host and port, and TLS is on if `tls_certificate` is set.

    `announce` is called once, with the address, as soon as requests are answered. `operations` is an application for
    `operations_port` (0: none), on the same host, that the bound on connections does not apply to. `refusal` says why
    the application has not started, where that was foreseen.
    """

    host: str
    port: int
    unix_sock: str
    tls_certificate: str
    tls_key: str
    tls_mode: str
    base_path: str
    shutdown_timeout_seconds: float
    bounds: Bounds = Bounds()
    counter: Counter | None = None
    operations: Any = None
    operations_port: int = 0
    announce: Callable[[str], None] | None = None
    refusal: Callable[[], str | None] | None = None


def serve(app: Any, options: ServeOptions, *, on_stop: Callable[[], None], lifeline: Lifeline | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. `on_stop` is called in the loop, once, when it begins.

    With a `lifeline` this is a worker: it accepts on the sockets that it was given, and ends as it is told.
    """
    return Server(app, options, on_stop=on_stop, lifeline=lifeline).serve_until_stopped()


def uvicorn_config(app: Any, **options: Any) -> uvicorn.Config:
    """What we leave to uvicorn, and how."""
    return uvicorn.Config(
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
        **options,
    )


class Server(uvicorn.Server):
    """uvicorn's server with sockets of its own, no polling, and an exit code.

    `stop` and `retire` may be called from any thread. One that retires takes no connections any more but serves those
    it has: each to the end of its next request, and for no longer than the shutdown timeout. Then it stops.
    """

    def __init__(
        self,
        app: Any,
        options: ServeOptions,
        *,
        on_stop: Callable[[], None],
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
        lifeline: Lifeline | None = None,
    ) -> None:
        super().__init__(uvicorn_config(app))
        self._options = options
        self._admission = Admission(options.bounds, options.counter)
        self._on_stop = on_stop
        self._loop_factory = loop_factory or _fastest_loop()
        self._lifeline = lifeline
        self._listeners: Listeners
        self._operations = Listeners([])
        self._others: list[socket.socket] = []
        self._acceptor: Acceptor
        self._tls: ssl.SSLContext | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_retiring = False
        self._exit_code = 0
        self._news = asyncio.Event()
        self._last: threading.Timer | None = None

    def serve_until_stopped(self) -> int:
        options = self._options
        try:
            if options.tls_certificate:
                self._tls = tls_context(options.tls_certificate, options.tls_key, options.tls_mode)
            self._listeners = self._find_listeners()
            self._operations = self._find_operations()
        except ConfigError as error:
            return self._complain(str(error))
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(self.serve())
        finally:
            if self._last is not None:
                self._last.cancel()
            self._listeners.close()
            self._operations.close()
        return self._exit_code

    def _find_listeners(self) -> Listeners:
        options = self._options
        if self._lifeline is not None:
            own, others = self._lifeline.orders.own, self._lifeline.orders.others
            self._others = [socket.socket(fileno=each) for each in others]
            return Listeners([socket.socket(fileno=each) for each in own])
        return listen_unix(options.unix_sock) if options.unix_sock else listen(options.host, options.port)

    def _find_operations(self) -> Listeners:
        options = self._options
        if self._lifeline is not None:
            return Listeners([socket.socket(fileno=each) for each in self._lifeline.orders.operations])
        return listen(options.host, options.operations_port) if options.operations_port else Listeners([])

    def _refuse_to_start(self, records: list[logging.LogRecord]) -> None:
        """`records` tell of an error, with all that it went through; of one that was foreseen a line is enough."""
        refusal = self._options.refusal() if self._options.refusal is not None else None
        for record in records if refusal is None else ():
            logging.getLogger(record.name).handle(record)
        self._exit_code = self._complain(refusal or "the application could not start", 1 if refusal is None else 2)
        self.should_exit = True

    def _complain(self, message: str, exit_code: int = 1) -> int:
        if self._lifeline is not None:
            return self._lifeline.refuse(message, exit_code)
        sys.stderr.write(f"tusd-py: error: {message}\n")
        return exit_code

    def stop(self) -> None:
        self.should_exit = True
        self._wake()

    def retire(self) -> None:
        self._is_retiring = True
        self._wake()

    def _wake(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: stopped already
                self._loop.call_soon_threadsafe(self._news.set)

    # What uvicorn.Server.serve() calls, in this order.

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # signal.signal, not loop.add_signal_handler: a second signal must work even if the loop hangs.
        if self._lifeline is not None:
            self._heed_supervisor()
            yield
            return
        previous = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _heed_supervisor(self) -> None:
        """Ctrl-C and the end of a terminal reach us too, but it is the supervisor that acts on them. Nor does a second
        SIGTERM end us at once: systemd sends one to all, and the supervisor another."""
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # unlike SIG_IGN not inherited by programs that we start
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self._listeners.remove_unix_sock()
            os._exit(1)
        self.stop()

    async def startup(self, sockets: Any = None) -> None:
        with _held_back(logging.getLogger("uvicorn.error")) as records:
            await self.lifespan.startup()
        if self.lifespan.should_exit:
            self._refuse_to_start(records)
            return
        self._renew_date()
        loop = asyncio.get_running_loop()
        self.servers = []
        self._acceptor = Acceptor(self._connect, self._tls, self._options.bounds.head_seconds, self._admission)
        for listener in self._listeners.sockets:
            if self._tls is not None:
                self._acceptor.watch(listener)
            else:
                start = loop.create_unix_server if self._options.unix_sock else loop.create_server
                self.servers.append(await start(self._connect, sock=listener, backlog=BACKLOG))
        for listener in self._operations.sockets:
            self.servers.append(await loop.create_server(self._connect_operations(), sock=listener, backlog=BACKLOG))
        self.started = True
        if self._lifeline is not None:
            end_within_seconds = self._options.shutdown_timeout_seconds + CANCEL_GRACE_SECONDS * 2
            self._lifeline.watch(retire=self.retire, stop=self.stop, end_within_seconds=end_within_seconds)
            self._lifeline.say(READY)
        if self._options.announce is not None:
            self._options.announce(self._listeners.url(self._options.base_path, is_tls=self._tls is not None))

    def _connect(self) -> TusProtocol:
        return TusProtocol(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            bounds=self._options.bounds,
            admission=self._admission,
        )

    def _connect_operations(self) -> Callable[[], TusProtocol]:
        config = uvicorn.Config(self._options.operations, interface="asgi3", lifespan="off", log_config=None)
        config.load()
        return lambda: TusProtocol(config, self.server_state, {}, bounds=self._options.bounds)

    async def main_loop(self) -> None:
        loop = asyncio.get_running_loop()
        tick_at = 0.0
        while not (self.should_exit or self._is_retiring):
            if loop.time() >= tick_at:
                tick_at = loop.time() + _TICK_SECONDS
                self._renew_date()
                self._tell(BEAT)
            # Where there are some there will be more.
            pause_seconds = _STRAY_SECONDS if self._take_strays() else tick_at - loop.time()
            await self._wait(max(pause_seconds, 0.001))
        self._tell(LEAVING)
        if not self.should_exit:
            await self._retire()

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)
        self._news.clear()

    def _tell(self, word: str) -> None:
        if self._lifeline is not None:
            self._lifeline.say(word)

    def _take_strays(self) -> bool:
        """Connections that nobody has taken: to a worker that hangs, or to one that died and is not replaced yet."""
        count = 0
        for listener in self._others:
            with contextlib.suppress(OSError):
                count += self._acceptor.take(listener)
        return count > 0

    async def _retire(self) -> None:
        """Who keeps connections open sends the next request without looking, so that an idle one is not closed yet."""
        await self._stop_accepting()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._options.shutdown_timeout_seconds
        while (
            (self.server_state.connections or self._acceptor.is_awaiting) and loop.time() < end and not self.should_exit
        ):
            self._renew_date()
            for connection in list(self.server_state.connections):
                cast("TusProtocol", connection).retire()
            await self._wait(_RETIRE_TICK_SECONDS)

    async def _stop_accepting(self) -> None:
        """Afterwards every connection is known to `server_state`, or to the acceptor."""
        self._acceptor.stop()
        for listener in (each for server in self.servers for each in server.sockets):
            # asyncio forgets whom it has just accepted when the Server is closed; uvloop has no reader here.
            asyncio.get_running_loop().remove_reader(listener)
        await _turn()
        for server in self.servers:
            server.close()
        self.servers.clear()
        for listener in self._others:
            listener.close()
        self._others.clear()
        await _turn()

    def _renew_date(self) -> None:
        self.server_state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]

    async def shutdown(self, sockets: Any = None) -> None:
        self._admission.shut()
        await self._stop_accepting()
        self._acceptor.cancel()
        self._close_connections()
        self._on_stop()
        try:
            async with asyncio.timeout(self._options.shutdown_timeout_seconds):
                await self._drain()
        except TimeoutError:
            await self._cancel()
        self._last = leave_after(self._options.shutdown_timeout_seconds + LAST_SECONDS, self._exit_code or 1)
        await self.lifespan.shutdown()

    def _close_connections(self) -> None:
        for connection in list(self.server_state.connections):
            connection.shutdown()

    async def _drain(self) -> None:
        while self.server_state.connections or self.server_state.tasks or self._acceptor.is_awaiting:
            self._close_connections()
            await asyncio.sleep(0.02)

    async def _cancel(self) -> None:
        tasks = set(self.server_state.tasks)
        if tasks:
            event(log, "RequestsCancelled", level=logging.WARNING, count=len(tasks), reason="they did not end in time")
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_GRACE_SECONDS)
        for connection in list(self.server_state.connections):
            connection.transport.abort()


@contextlib.contextmanager
def _held_back(logger: logging.Logger) -> Iterator[list[logging.LogRecord]]:
    """What it is to write meanwhile, instead of writing it."""
    records: list[logging.LogRecord] = []

    def hold(record: logging.LogRecord) -> bool:
        records.append(record)
        return False

    logger.addFilter(hold)
    try:
        yield records
    finally:
        logger.removeFilter(hold)


async def _turn() -> None:
    for _ in range(_TURNS_TO_CONNECT):
        await asyncio.sleep(0)


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
