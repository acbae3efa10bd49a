"""One span a request, as OpenTelemetry's own exporter in memory sees it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="missing: opentelemetry-sdk")
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF  # noqa: E402
from opentelemetry.trace import SpanKind, StatusCode, get_current_span  # noqa: E402

from tusd_py.tracing import Tracing  # noqa: E402

pytestmark = pytest.mark.anyio

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
UNTRACED = frozenset({"/healthz", "/metrics"})
Headers = dict[str, str]


class Traced:
    """An app behind `Tracing` that answers as it is told."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = sdk.TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.current: list[Any] = []

    async def ask(
        self, method: str, path: str, status: int, sent: Headers, answered: Headers, error: Exception | None = None
    ) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []

        async def app(_scope: Any, receive: Any, send: Any) -> None:
            self.current.append(get_current_span())
            await receive()
            if error is not None:
                raise error
            await send({"type": "http.response.start", "status": status, "headers": _raw(answered)})
            await send({"type": "http.response.body", "body": b""})

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"x"}

        async def send(message: dict[str, Any]) -> None:
            messages.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "scheme": "http",
            "http_version": "1.1",
            "client": ("127.0.0.1", 5),
            "headers": _raw(sent),
        }
        await Tracing(app, self.provider, "/files/", UNTRACED)(scope, receive, send)
        return messages

    def span(self) -> Any:
        (span,) = self.exporter.get_finished_spans()
        return span


def _raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


async def test_an_append_is_one_span() -> None:
    traced = Traced()
    sent = {"upload-offset": "10", "user-agent": "tus/1", "traceparent": f"00-{TRACE}-{PARENT}-01"}
    messages = await traced.ask("PATCH", "/files/abc", 204, sent, {"upload-offset": "25"})
    span = traced.span()
    assert span.name == "PATCH /files/{id}"
    assert span.kind is SpanKind.SERVER
    assert dict(span.attributes) == {
        "http.request.method": "PATCH",
        "http.route": "/files/{id}",
        "http.response.status_code": 204,
        "url.path": "/files/abc",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
        "user_agent.original": "tus/1",
        "tusd_py.upload.id": "abc",
        "tusd_py.upload.offset": 25,
        "tusd_py.upload.bytes": 15,
    }
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert traced.current[0].get_span_context() == span.context, "what the app does is part of it"
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"]
    assert messages[0]["headers"] == [(b"upload-offset", b"25")]


async def test_a_creation_knows_its_upload() -> None:
    traced = Traced()
    await traced.ask("POST", "/files/", 201, {}, {"location": "http://h/files/abc", "upload-offset": "7"})
    span = traced.span()
    assert span.name == "POST /files/"
    assert span.attributes["tusd_py.upload.id"] == "abc"
    assert span.attributes["tusd_py.upload.bytes"] == 7
    assert span.parent is None


@pytest.mark.parametrize(("status", "is_error"), [(200, False), (404, False), (423, False), (500, True), (503, True)])
async def test_errors_of_the_server_are_errors(status: int, is_error: bool) -> None:
    traced = Traced()
    await traced.ask("HEAD", "/files/abc", status, {}, {})
    assert (traced.span().status.status_code is StatusCode.ERROR) is is_error


async def test_an_exception_is_noted_and_goes_on() -> None:
    traced = Traced()
    with pytest.raises(ZeroDivisionError):
        await traced.ask("HEAD", "/files/abc", 500, {}, {}, error=ZeroDivisionError())
    span = traced.span()
    assert span.status.status_code is StatusCode.ERROR
    assert span.events[0].name == "exception"


@pytest.mark.parametrize("path", UNTRACED)
async def test_who_watches_is_not_traced(path: str) -> None:
    traced = Traced()
    assert len(await traced.ask("GET", path, 200, {}, {})) == 2
    assert traced.exporter.get_finished_spans() == ()


async def test_what_is_not_sampled_passes() -> None:
    traced = Traced(sampler=ALWAYS_OFF)
    assert len(await traced.ask("PATCH", "/files/abc", 204, {}, {"upload-offset": "1"})) == 2
    assert traced.exporter.get_finished_spans() == ()


@pytest.mark.parametrize("sent", [{"traceparent": "nonsense"}, {"upload-offset": "-1"}, {"upload-offset": "9" * 400}])
async def test_nonsense_is_ignored(sent: Headers) -> None:
    traced = Traced()
    await traced.ask("BREW", "/files/" + "x" * 5000, 204, sent, {"upload-offset": "3"})
    span = traced.span()
    assert span.attributes["http.request.method"] == "_OTHER"
    assert len(span.attributes["tusd_py.upload.id"]) < 300


def _in_a_child(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_asked_for_and_not_installed() -> None:
    said = _in_a_child(
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from tusd_py import tracing\n"
        "from tusd_py.errors import ConfigError\n"
        "try: tracing.start()\n"
        "except ConfigError as error: print(error)"
    )
    assert "pip install 'tusd-py[otel]'" in said
    assert "opentelemetry.sdk" in said


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    assert _in_a_child("import sys, tusd_py.tracing; print('opentelemetry' in sys.modules)") == "False\n"


def test_a_provider_of_the_operator_is_used() -> None:
    said = _in_a_child(
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "own = TracerProvider(); trace.set_tracer_provider(own)\n"
        "from tusd_py import tracing\n"
        "print(tracing.start() is own)"
    )
    assert said == "True\n"


def test_otherwise_spans_go_out_by_otlp() -> None:
    """To a collector on this machine, as OTEL_EXPORTER_OTLP_ENDPOINT says."""
    said = _in_a_child(
        """
import http.server, os, threading
bodies = []
class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        bodies.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Collector)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
from tusd_py import tracing
provider = tracing.start()
provider.get_tracer("t").start_span("a span").end()
provider.shutdown()
server.shutdown()
(path, body), = bodies
print(path, b"a span" in body, b"tusd-py" in body)
"""
    )
    assert said == "/v1/traces True True\n"
