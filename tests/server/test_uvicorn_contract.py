"""What tusd_py.server takes from uvicorn and httptools. A failure here means: read their new code."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
from collections.abc import Iterator
from typing import Any
from unittest import mock

import httptools
import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from tusd_py.server.protocol import TusProtocol
from tusd_py.server.serve import uvicorn_config


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "lifespan"
    assert (await receive())["type"] == "lifespan.startup"
    scope["state"]["made"] = "at the start"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    await send({"type": "lifespan.shutdown.complete"})


def test_the_configuration() -> None:
    made = uvicorn_config(app, root_path="/below")
    assert not made.loaded
    made.load()
    assert made.loaded
    assert made.loaded_app is app
    assert made.http_protocol_class is TusProtocol
    assert made.root_path == "/below"
    assert made.asgi_version == "3.0"


def test_the_state_of_a_server() -> None:
    assert vars(ServerState()) == {"total_requests": 0, "connections": set(), "tasks": set(), "default_headers": []}


def test_what_the_protocol_class_is_made_with() -> None:
    """By `uvicorn --http`; our own server adds keywords."""
    source = "".join(inspect.getsource(uvicorn.Server.startup).split())
    assert "config=config,server_state=self.server_state,app_state=self.lifespan.state,_loop=_loop," in source
    made = ("config", "server_state", "app_state", "_loop")
    inspect.signature(TusProtocol).bind(**dict.fromkeys(made))


class Steps(uvicorn.Server):
    """Overrides what tusd_py.server.serve overrides."""

    def __init__(self) -> None:
        super().__init__(uvicorn_config(app))
        self.steps: list[str] = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        self.steps.append("capture")
        yield
        self.steps.append("release")

    async def startup(self, sockets: Any = None) -> None:
        await self.lifespan.startup()
        assert not self.lifespan.should_exit
        assert self.lifespan.state == {"made": "at the start"}
        self.started = True
        self.steps.append("startup")

    async def main_loop(self) -> None:
        assert not self.should_exit
        assert isinstance(self.server_state, ServerState)
        assert self.config.loaded
        self.steps.append("main_loop")

    async def shutdown(self, sockets: Any = None) -> None:
        await self.lifespan.shutdown()
        self.steps.append("shutdown")


def test_the_steps_of_a_server() -> None:
    server = Steps()
    asyncio.run(server.serve())
    assert server.steps == ["capture", "startup", "main_loop", "shutdown", "release"]


class Refusing(Steps):
    async def startup(self, sockets: Any = None) -> None:
        self.should_exit = True
        self.steps.append("startup")


def test_a_server_that_cannot_start_takes_no_further_step() -> None:
    server = Refusing()
    asyncio.run(server.serve())
    assert server.steps == ["capture", "startup", "release"]


async def _control(flow: FlowControl) -> None:
    flow.pause_writing()
    assert flow.write_paused
    waiting = asyncio.ensure_future(flow.drain())
    await asyncio.sleep(0)
    assert not waiting.done()
    flow.resume_writing()
    assert not flow.write_paused
    await waiting


def test_flow_control() -> None:
    assert HIGH_WATER_LIMIT > 0
    transport = mock.create_autospec(asyncio.Transport, instance=True)
    flow = FlowControl(transport)
    for _ in range(2):  # the second time without effect
        flow.pause_reading()
    for _ in range(2):
        flow.resume_reading()
    assert transport.method_calls == [mock.call.pause_reading(), mock.call.resume_reading()]
    flow.read_paused = True  # as the protocol does, so that nothing touches the transport any more
    flow.pause_reading()
    assert len(transport.method_calls) == 2
    asyncio.run(_control(flow))


def test_addresses() -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, *address)
            assert get_remote_addr(transport) == address
            assert get_local_addr(transport) == transport.get_extra_info("sockname")
            assert not is_ssl(transport)
            transport.abort()
            await asyncio.sleep(0)  # in which it is closed

    asyncio.run(run())


class Told:
    """What tusd_py.server.parser is told, and asks."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.told: list[object] = []

    def on_message_begin(self) -> None:
        self.told.append("begin")

    def on_url(self, url: bytes) -> None:
        self.told.append(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.told.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self.parser
        asked = (parser.get_method(), parser.get_http_version(), parser.should_keep_alive(), parser.should_upgrade())
        self.told.append(asked)

    def on_body(self, body: bytes) -> None:
        self.told.append(body)

    def on_message_complete(self) -> None:
        self.told.append("end")


def test_the_parser_tells_of_a_request_and_its_trailers() -> None:
    told = Told()
    told.parser.feed_data(
        memoryview(b"PATCH /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nDigest: x\r\n\r\n")
    )
    assert told.told == [
        "begin", b"/a", (b"Transfer-Encoding", b"chunked"), (b"PATCH", "1.1", True, False), b"hi", (b"Digest", b"x"),
        "end",
    ]  # fmt: skip


def test_the_parser_stops_after_the_head_of_an_upgrade() -> None:
    told = Told()
    head = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    with pytest.raises(httptools.HttpParserUpgrade) as stopped:
        told.parser.feed_data(head + b"more")
    assert stopped.value.args[0] == len(head)
    assert (b"GET", "1.1", True, True) in told.told


def test_the_parser_refuses_what_is_no_request_and_keeps_the_error_of_a_callback() -> None:
    with pytest.raises(httptools.HttpParserError):
        Told().parser.feed_data(b"\0")
    told = Told()
    problem = ValueError("of ours")
    with mock.patch.object(Told, "on_headers_complete", side_effect=problem):
        told = Told()
        with pytest.raises(httptools.HttpParserError) as failed:
            told.parser.feed_data(b"GET / HTTP/1.1\r\nA: b\r\n\r\n")
    assert failed.value.__context__ is problem
