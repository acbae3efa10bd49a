"""The names inside uvicorn and httptools that tusd_py.server builds on. A failure here means: read their new code."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import httptools
import pytest
import uvicorn
from uvicorn.protocols.http import flow_control, httptools_impl
from uvicorn.server import ServerState

PROTOCOL_METHODS = [
    "_unset_keepalive_if_required", "connection_lost", "connection_made", "data_received", "eof_received", "on_body",
    "on_header", "on_headers_complete", "on_message_begin", "on_message_complete", "on_response_complete", "on_url",
    "shutdown", "timeout_keep_alive_handler",
]  # fmt: skip
PROTOCOL_ATTRIBUTES = [
    "access_log", "access_logger", "app", "client", "cycle", "flow", "headers", "logger", "loop", "parser", "pipeline",
    "root_path", "scheme", "scope", "server_state", "tasks", "timeout_keep_alive", "timeout_keep_alive_task",
    "transport",
]  # fmt: skip
CYCLE_PARAMETERS = [
    "access_log", "access_logger", "default_headers", "expect_100_continue", "flow", "keep_alive", "logger",
    "message_event", "on_response", "scope", "transport",
]  # fmt: skip
CYCLE_ATTRIBUTES = [
    "disconnected", "flow", "keep_alive", "logger", "message_event", "more_body", "on_response", "response_complete",
    "response_started", "scope", "transport", "waiting_for_100_continue",
]  # fmt: skip
SERVER_METHODS = ["capture_signals", "handle_exit", "main_loop", "serve", "shutdown", "startup"]


def missing(names: list[str], owner: object) -> str:
    gone = [name for name in names if not hasattr(owner, name)]
    return f"uvicorn {uvicorn.__version__} has no {', '.join(gone)} in {owner!r} any more" if gone else ""


@pytest.fixture
def protocol() -> httptools_impl.HttpToolsProtocol:
    config = uvicorn.Config(lambda: None, log_config=None, ws="none", interface="asgi3", factory=False)
    config.load_app = lambda: None  # type: ignore[method-assign, assignment, return-value]
    loop = SimpleNamespace()
    return httptools_impl.HttpToolsProtocol(config, ServerState(), {}, loop)  # type: ignore[arg-type]


def test_protocol(protocol: httptools_impl.HttpToolsProtocol) -> None:
    assert not missing(PROTOCOL_METHODS, httptools_impl.HttpToolsProtocol), missing(
        PROTOCOL_METHODS, httptools_impl.HttpToolsProtocol
    )
    assert not missing(PROTOCOL_ATTRIBUTES, protocol), missing(PROTOCOL_ATTRIBUTES, protocol)


def test_message_begin_makes_the_scope_over_the_header_list(protocol: httptools_impl.HttpToolsProtocol) -> None:
    protocol.on_message_begin()
    assert protocol.scope["headers"] is protocol.headers
    assert protocol.url == b""


def test_cycle() -> None:
    parameters = list(inspect.signature(httptools_impl.RequestResponseCycle.__init__).parameters)[1:]
    assert sorted(parameters) == CYCLE_PARAMETERS, f"uvicorn {uvicorn.__version__} makes a cycle from {parameters}"
    cycle = httptools_impl.RequestResponseCycle(**dict.fromkeys(parameters))  # type: ignore[arg-type]
    assert not missing(CYCLE_ATTRIBUTES, cycle), missing(CYCLE_ATTRIBUTES, cycle)
    assert inspect.iscoroutinefunction(cycle.run_asgi)
    source = inspect.getsource(httptools_impl.RequestResponseCycle.send)
    assert "if not self.keep_alive:" in source, "the cycle closes differently: see TusCycle.send"
    assert "self.on_response()" in source


def test_flow_control_and_server() -> None:
    assert flow_control.HIGH_WATER_LIMIT > 0
    names = ["drain", "pause_reading", "resume_reading"]
    assert not missing(names, flow_control.FlowControl), missing(names, flow_control.FlowControl)
    assert "read_paused" in inspect.getsource(flow_control.FlowControl.pause_reading)
    assert not missing(SERVER_METHODS, uvicorn.Server), missing(SERVER_METHODS, uvicorn.Server)
    state = ["connections", "default_headers", "tasks", "total_requests"]
    assert not missing(state, ServerState()), missing(state, ServerState())


def test_httptools() -> None:
    names = ["feed_data", "get_http_version", "get_method", "set_dangerous_leniencies", "should_keep_alive"]
    assert not missing([*names, "should_upgrade"], httptools.HttpRequestParser)
