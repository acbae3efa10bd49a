"""A real server on loopback, in a thread, on each event loop; and applications that write down what they receive."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import queue
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from tests.server.certificates import lock_key, make_certificate
from tests.server.supervised import Run, Supervised
from tusd_py.server.bounds import Bounds
from tusd_py.server.protocol import TusProtocol
from tusd_py.server.serve import ServeOptions, Server

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
PATIENCE_SECONDS = 10.0


@dataclass
class Seen:
    """One request as the application saw it; `end` is "complete" or "disconnect"."""

    scope: dict[str, Any]
    body: bytearray = field(default_factory=bytearray)
    last: dict[str, Any] = field(default_factory=dict)
    end: str = ""


class Recorder:
    """An application that reads each body, writes it down and answers 200 with its length.

    `before_reading(seen, receive, send)` may await something, or answer itself and return True.
    """

    def __init__(self, before_reading: Callable[..., Awaitable[Any]] | None = None) -> None:
        self.finished: queue.Queue[Seen] = queue.Queue()
        self.began: queue.Queue[Seen] = queue.Queue()
        self._before_reading = before_reading

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        seen = Seen(scope)
        self.began.put(seen)
        is_answered = self._before_reading is not None and await self._before_reading(seen, receive, send)
        if not is_answered:
            await read_all(seen, receive)
            await answer(send, b"%d" % len(seen.body))
        self.finished.put(seen)

    def next(self) -> Seen:
        return self.finished.get(timeout=PATIENCE_SECONDS)


async def lifespan(receive: Any, send: Any) -> None:
    for phase in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{phase}.complete"})


class Way:
    """How applications read bodies: by ASGI messages, or by the lane."""

    chosen = "messages"


class ByteSink:
    """A store's sink, as the lane sees it. Shows `room` bytes at a time; `pause` says what to wait for between them."""

    def __init__(self, kept: bytearray, room: int = 65536, pause: Callable[[], Awaitable[None] | None] | None = None):
        self._kept = kept
        self._room = memoryview(bytearray(room))
        self._pause = pause or (lambda: None)

    def buffer(self) -> memoryview:
        return self._room

    def filled(self, count: int) -> Awaitable[None] | None:
        self._kept += self._room[:count]
        return self._pause()


async def some_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def read_all(seen: Seen, receive: Any, *, is_slow: bool = False) -> None:
    if Way.chosen == "lane":
        fill = seen.scope["extensions"]["tusd_py.lane"]
        trailers = await fill(ByteSink(seen.body, pause=some_turns if is_slow else None))
        seen.end = "disconnect" if trailers is None else "complete"
        seen.last = {"trailers": trailers}
        return
    while not seen.end:
        if is_slow:
            await some_turns()
        message = await receive()
        if message["type"] == "http.disconnect":
            seen.end = "disconnect"
        else:
            seen.body += message["body"]
            seen.last = message
            seen.end = "" if message["more_body"] else "complete"


async def answer(send: Any, body: bytes, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Running:
    def __init__(self, app: Any, chosen: ServeOptions, on_stop: Callable[[], None], loop_factory: Any) -> None:
        chosen = replace(chosen, announce=self._announce)
        self._server = Server(app, chosen, on_stop=on_stop, loop_factory=loop_factory)
        self._ready = threading.Event()
        self.exit_code: int | None = None
        self.thread = threading.Thread(target=self._run)
        self.address = ""

    def _run(self) -> None:
        self.exit_code = self._server.serve_until_stopped()
        self._ready.set()

    def start(self) -> None:
        self.thread.start()
        assert self._ready.wait(PATIENCE_SECONDS)
        assert self.address

    def _announce(self, address: str) -> None:
        self.address = address
        self._ready.set()

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1].split("/")[0])

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def ask(self, request: bytes) -> bytes:
        """Everything the server says until it closes."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_to_end(connection)

    def in_loop(self, callback: Callable[[], Any]) -> None:
        assert self._server._loop is not None
        self._server._loop.call_soon_threadsafe(callback)

    def connection(self) -> TusProtocol:
        """The server's end of the only connection."""
        self.wait_until(lambda: len(self._server.server_state.connections) == 1)
        return cast("TusProtocol", next(iter(self._server.server_state.connections)))

    def wait_until(self, is_true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_true():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def wait_for_end_of_input(self, connection: TusProtocol) -> None:
        """Until the server knows that the client has left."""
        self.wait_until(lambda: connection._has_eof or connection not in self._server.server_state.connections)

    def stop(self) -> None:
        self._server.stop()
        self.thread.join(PATIENCE_SECONDS)
        assert not self.thread.is_alive()


Start = Callable[..., Running]


def read_to_end(connection: socket.socket) -> bytes:
    received = bytearray()
    while data := connection.recv(65536):
        received += data
    return bytes(received)


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One response with a Content-Length, and not a byte more."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, f"closed after {bytes(head)!r}"
        head += byte
    status_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = bytearray()
    while len(body) < int(headers.get("content-length", 0)):
        data = connection.recv(int(headers["content-length"]) - len(body))
        assert data
        body += data
    return int(status_line.split()[1]), headers, bytes(body)


def reset(connection: socket.socket) -> None:
    """Close so that the peer gets a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def unacknowledged_bytes(connection: socket.socket) -> int:
    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4))[0])


def send_until_full(connection: socket.socket, data: bytes) -> int:
    """Send as much of `data` as the two kernels hold while nobody reads; returns how much the other one has."""
    connection.setblocking(False)
    sent = 0
    try:
        while sent < len(data):
            sent += connection.send(data[sent : sent + 65536])
    except BlockingIOError:
        pass
    held, settled_at = unacknowledged_bytes(connection), time.monotonic() + 0.2
    while time.monotonic() < settled_at:  # no event tells that the window is shut
        time.sleep(0.01)
        if unacknowledged_bytes(connection) != held:
            held, settled_at = unacknowledged_bytes(connection), time.monotonic() + 0.2
    return sent - held


def is_closed_within(connection: socket.socket, seconds: float, *, sending: bytes) -> bool:
    """Whether the server closes for good while we go on: the kernel then answers with RST."""
    poll = select.poll()
    poll.register(connection, 0)  # only errors and hang-ups
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if poll.poll(20):
            return True
        if sending:
            with contextlib.suppress(ConnectionError):
                connection.send(sending)
    return False


def connect_tls(port: int, folder: Path, **limits: ssl.TLSVersion) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(folder / "a.crt"))
    for name, version in limits.items():
        setattr(context, name, version)
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
    try:
        return context.wrap_socket(connection, server_hostname="localhost")
    except OSError:
        connection.close()
        raise


def options(**changes: Any) -> ServeOptions:
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "unix_sock": "",
        "tls_certificate": "",
        "tls_key": "",
        "tls_mode": "tls12",
        "base_path": "/files/",
        "shutdown_timeout_seconds": 5.0,
        "bounds": Bounds(max_header_bytes=16 * 1024),
    }
    return ServeOptions(**values | changes)


@pytest.fixture(params=["asyncio", "uvloop"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """start(app, on_stop=..., **options) runs a server until the test ends."""
    servers: list[Running] = []

    def start_server(app: Any, *, on_stop: Callable[[], None] = lambda: None, **changes: Any) -> Running:
        running = Running(app, options(**changes), on_stop, LOOPS[request.param])
        servers.append(running)
        running.start()
        return running

    yield start_server
    for running in servers:
        running.stop()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    for name in ("a", "b"):
        make_certificate(folder / f"{name}.crt", folder / f"{name}.key")
    lock_key(folder / "a.key", folder / "locked.key", "secret")
    (folder / "junk").write_text("junk")
    return folder


@pytest.fixture
def tls(certificates: Path) -> dict[str, str]:
    """Options of a server that speaks TLS; `connect_tls` believes it."""
    return {"tls_certificate": str(certificates / "a.crt"), "tls_key": str(certificates / "a.key")}


@pytest.fixture(params=["messages", "lane"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs twice: applications read bodies by ASGI messages, and by the lane."""
    monkeypatch.setattr(Way, "chosen", request.param)
    return str(request.param)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """run(*flags, changes=..., environ=...) starts a server that ends with the test."""
    servers: list[Supervised] = []

    def run_one(*flags: str, **more: object) -> Supervised:
        folder = tmp_path / str(len(servers))
        folder.mkdir()
        servers.append(Supervised(folder, *flags, **more))  # type: ignore[arg-type]
        return servers[-1]

    yield run_one
    for server in servers:
        server.clear_away()
