"""Starting and stopping: announcements, signals, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import (
    PATIENCE_SECONDS,
    Recorder,
    Running,
    Seen,
    Start,
    answer,
    options,
    read_answer,
    read_to_end,
)
from tusd_py.server.serve import serve

ROOT = str(Path(__file__).parents[2])
GET = b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n"

PROGRAM = """
import asyncio, json, sys, time
from tusd_py.server import serve as serving

given = json.loads(sys.argv[1])
if given.pop("loop") == "asyncio":
    serving._fastest_loop = lambda: asyncio.new_event_loop
interrupted = asyncio.Event()

def say(word):
    print(word, flush=True)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if given["base_path"] == "/broken":
            raise RuntimeError("broken start")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("lifespan ended")
        await send({"type": "lifespan.shutdown.complete"})
        return
    say("request")
    status = 200
    try:
        if scope["path"] == "/hang":
            await asyncio.Event().wait()
        elif scope["path"] == "/block":
            time.sleep(60)
        elif scope["path"] == "/upload":
            await interrupted.wait()
            status = 503
    except asyncio.CancelledError:
        say("cancelled")
        raise
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

def stop():
    say("stopping")
    interrupted.set()

sys.exit(serving.serve(app, serving.ServeOptions(**given, announce=say), on_stop=stop))
"""


class Program:
    """A server in a process of its own. `said` are the lines it printed after the address."""

    def __init__(self, loop: str, **changes: Any) -> None:
        chosen = options(**changes)
        names = [name for name in chosen.__slots__ if name not in ("announce", "bounds", "counter")]
        given = {name: getattr(chosen, name) for name in names} | {"loop": loop}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(given)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def connect(self) -> socket.socket:
        port = int(self.address.rsplit(":", 1)[1].split("/")[0])
        return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)

    def end(self, number: signal.Signals | None = None) -> tuple[int, str, str, float]:
        """Exit code, standard output and error, seconds from the signal to the end."""
        began = time.monotonic()
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, out, err, time.monotonic() - began


@pytest.fixture(params=["asyncio", "uvloop"])
def launch(request: pytest.FixtureRequest) -> Iterator[Callable[..., Program]]:
    programs: list[Program] = []

    def launch_program(**changes: Any) -> Program:
        programs.append(Program(request.param, **changes))
        return programs[-1]

    yield launch_program
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
        program.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_an_idle_server_at_once(launch: Callable[..., Program], number: signal.Signals) -> None:
    program = launch()
    with program.connect() as idle, program.connect() as silent:
        idle.sendall(GET % b"")
        assert read_answer(idle)[0] == 200
        code, out, err, seconds = program.end(number)
        assert idle.recv(1) == silent.recv(1) == b""
    assert (code, out, err) == (0, "request\nstopping\nlifespan ended\n", "")
    assert seconds < 0.5


def test_running_upload_is_interrupted_and_answered(launch: Callable[..., Program]) -> None:
    program = launch()
    with program.connect() as connection:
        connection.sendall(b"PATCH /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\npart")
        assert program.line() == "request"
        program.process.send_signal(signal.SIGTERM)
        status, headers, _ = read_answer(connection)
        assert (status, headers["connection"]) == (503, "close")
    code, out, err, seconds = program.end()
    assert (code, out, err) == (0, "stopping\nlifespan ended\n", "")
    assert seconds < 1


def test_request_that_does_not_end_is_cancelled(launch: Callable[..., Program]) -> None:
    program = launch(shutdown_timeout_seconds=0.3)
    with program.connect() as connection:
        connection.sendall(GET % b"hang")
        assert program.line() == "request"
        code, out, err, seconds = program.end(signal.SIGTERM)
        assert read_to_end(connection) == b""
    assert (code, out) == (0, "stopping\ncancelled\nlifespan ended\n")
    assert err == 'RequestsCancelled count=1 reason="they did not end in time"\n'
    assert 0.3 <= seconds < 1.5


@pytest.mark.parametrize("path", [b"hang", b"block"])
def test_second_signal_ends_at_once(launch: Callable[..., Program], path: bytes, tmp_path: Path) -> None:
    """Also when the event loop itself hangs."""
    unix_sock = str(tmp_path / "s")
    program = launch(unix_sock=unix_sock, shutdown_timeout_seconds=60)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(unix_sock)
        connection.sendall(GET % path)
        assert program.line() == "request"
        program.process.send_signal(signal.SIGTERM)
        if path == b"hang":
            assert program.line() == "stopping"
        else:
            wait_until_signal_is_taken(program.process.pid)
        code, _, _, seconds = program.end(signal.SIGINT)
    assert code == 1
    assert seconds < 0.5
    assert not Path(unix_sock).exists()


def wait_until_signal_is_taken(pid: int) -> None:
    """Two different pending signals may be delivered in either order, but both count."""
    for _ in range(1000):
        pending = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "Pnd:" in line]
        if all(int(line.split()[1], 16) == 0 for line in pending):
            return
        time.sleep(0.001)
    pytest.fail("the signal is still pending")


def test_port_in_use_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert serve(Recorder(), options(port=port), on_stop=lambda: None) == 1
    problem = f"cannot listen on 127.0.0.1:{port}: another program listens there; stop it or choose another port"
    assert capsys.readouterr() == ("", f"tusd-py: error: {problem}\n")


def test_bad_certificate_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(Recorder(), options(tls_certificate="missing.crt"), on_stop=lambda: None) == 1
    problem = "cannot read the TLS certificate 'missing.crt': No such file or directory"
    assert capsys.readouterr().err == f"tusd-py: error: {problem}\n"


def test_application_that_cannot_start(launch: Callable[..., Program]) -> None:
    program = launch(base_path="/broken")
    assert program.address == ""
    code, _, err, _ = program.end()
    assert code == 1
    assert "broken start" in err
    assert err.endswith("the application could not start\n")


def test_ready_well_under_a_second(launch: Callable[..., Program]) -> None:
    began = time.monotonic()
    program = launch()
    with program.connect() as connection:
        connection.sendall(GET % b"")
        assert read_answer(connection)[0] == 200
    assert time.monotonic() - began < 2  # about 0.3 s; this machine may be busy


def test_server_in_a_thread_announces_and_stops(start: Start) -> None:
    stops: list[bool] = []
    server = start(Recorder(), on_stop=lambda: stops.append(True))
    assert server.address == f"http://127.0.0.1:{server.port}/files/"
    with server.connect() as connection:
        connection.sendall(GET % b"")
        assert "date" in read_answer(connection)[1]
        server.stop()
        assert connection.recv(1) == b""
    assert (server.exit_code, stops) == (0, [True])
    with pytest.raises(ConnectionRefusedError):
        server.connect()


def test_stop_waits_for_a_running_request_and_takes_no_new_ones(start: Start) -> None:
    may_end, is_stopping = asyncio.Event(), asyncio.Event()

    async def wait(seen: Seen, receive: Any, send: Any) -> bool:
        await may_end.wait()
        await answer(send, b"done")
        return True

    app = Recorder(wait)
    server = start(app, on_stop=is_stopping.set)
    with server.connect() as connection:
        connection.sendall(GET % b"")
        app.began.get(timeout=PATIENCE_SECONDS)
        server._server.stop()
        while not is_stopping.is_set() or is_accepting(server.port):
            time.sleep(0.005)
        connection.sendall(GET % b"late")
        assert not select.select([connection], [], [], 0.1)[0]
        server.in_loop(may_end.set)
        status, headers, body = read_answer(connection)
        assert (status, headers["connection"], body) == (200, "close", b"done")
    server.stop()
    assert (server.exit_code, app.began.qsize()) == (0, 0)


def is_accepting(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_client_that_keeps_sending_does_not_hold_up_the_stop(start: Start) -> None:
    interrupted = asyncio.Event()

    async def upload(seen: Seen, receive: Any, send: Any) -> bool:
        await interrupted.wait()
        await answer(send, b"stopping", 503)
        return True

    app = Recorder(upload)
    server = start(app, on_stop=interrupted.set, shutdown_timeout_seconds=0.5)
    with server.connect() as connection:
        connection.sendall(b"PATCH /x HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\npart")
        app.began.get(timeout=PATIENCE_SECONDS)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 1.5
        assert read_answer(connection)[0] == 503
    assert server.exit_code == 0


def test_what_connects_while_the_server_ends_is_closed_by_it(start: Start) -> None:
    """Connections accepted in the last turn of the loop: each is served, refused or closed, and none left open."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        for number in range(40):
            server = start(Recorder())
            clients = [threading.Thread(target=connect_until_refused, args=[server]) for _ in range(2)]
            for client in clients:
                client.start()
            server.wait_until(lambda: server._server.server_state.total_requests > number % 8)  # noqa: B023
            end = server._server.retire if number % 2 else server._server.stop
            end()
            server.thread.join(PATIENCE_SECONDS)
            assert server.exit_code == 0
            for client in clients:
                client.join(PATIENCE_SECONDS)
                assert not client.is_alive()
        gc.collect()
    assert [str(each.message) for each in caught if "unclosed" in str(each.message)] == []


def connect_until_refused(server: Running) -> None:
    while True:
        try:
            connection = server.connect()
        except ConnectionError:
            return
        with connection, contextlib.suppress(ConnectionError):
            connection.sendall(GET % b"")
            said = connection.recv(4096)
            assert said[:12] in (b"", b"HTTP/1.1 200", b"HTTP/1.1 503"), said


def test_retiring_waits_for_those_that_shake_hands(start: Start, tls: dict[str, str], certificates: Path) -> None:
    server = start(Recorder(), **tls)
    context = ssl.create_default_context(cafile=str(certificates / "a.crt"))
    with server.connect() as connection:
        server.wait_until(lambda: server._server._acceptor.is_awaiting)
        server._server.retire()
        server.wait_until(lambda: not is_accepting(server.port))
        with context.wrap_socket(connection, server_hostname="localhost") as secure:
            secure.sendall(GET % b"")
            assert read_answer(secure)[0] == 200
    server.thread.join(PATIENCE_SECONDS)
    assert (server.thread.is_alive(), server.exit_code) == (False, 0)


def test_stopping_waits_for_nobody_who_shakes_hands(start: Start, tls: dict[str, str]) -> None:
    server = start(Recorder(), **tls)
    with server.connect() as connection:
        server.wait_until(lambda: server._server._acceptor.is_awaiting)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 2  # at once; the bound on stopping is 5 s
        assert connection.recv(1) == b""
    assert server.exit_code == 0
