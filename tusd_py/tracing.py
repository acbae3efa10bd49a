"""OpenTelemetry: one server span for each request, for those who installed the extra `otel` and asked for it.

A small layer of our own: opentelemetry-instrumentation-asgi costs three times as much for each request and knows
nothing of uploads. Where spans go is the SDK's matter, which reads OTEL_* by itself; nothing here runs when it is off.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from tusd_py import __version__
from tusd_py.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span
    from opentelemetry.trace import TracerProvider as AnyProvider

Scope = MutableMapping[str, Any]
Headers = Mapping[bytes, bytes]

LONGEST_VALUE = 256


def start() -> TracerProvider:
    """The process's provider, with an OTLP exporter if nobody has set one. Its `shutdown` sends what is left.

    Raises ConfigError if the extra is not installed.
    """
    try:
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider as SdkProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"tracing needs more packages ({error.name}): pip install 'tusd-py[otel]'") from error
    present = trace.get_tracer_provider()
    if isinstance(present, SdkProvider):
        return present
    name = Resource.create({"service.name": "tusd-py", "service.version": __version__})
    provider = SdkProvider(resource=name)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


async def finish(provider: TracerProvider, within_seconds: float = 5.0) -> None:
    """Send what is left; a collector that is away must not hold up the end."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def send() -> None:
        provider.shutdown()
        with contextlib.suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=send, name="tracing", daemon=True).start()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), within_seconds)


class Tracing:
    """Wraps an ASGI `app`. Requests to `untraced` paths, those of who watches the server, get no span.

    Upload id, offset and bytes are taken from path and headers, where tus has them.
    """

    def __init__(self, app: Any, provider: AnyProvider, base_path: str, untraced: frozenset[str]) -> None:
        from opentelemetry import propagate, trace  # noqa: PLC0415

        self._app = app
        self._tracer = provider.get_tracer("tusd_py", __version__)
        self._base_path = base_path.rstrip("/") + "/"
        self._untraced = untraced
        self._extract = propagate.extract
        self._trace = trace

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] in self._untraced:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        context = self._extract(_carrier(headers)) if b"traceparent" in headers else None
        name, attributes = self._describe(scope, headers)
        kind = self._trace.SpanKind.SERVER
        with self._tracer.start_as_current_span(name, context, kind, attributes) as span:
            if not span.is_recording():  # not sampled
                await self._app(scope, receive, send)
                return

            async def send_noted(message: dict[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    self._note(span, message, headers, scope)
                await send(message)

            await self._app(scope, receive, send_noted)

    def _describe(self, scope: Scope, headers: Headers) -> tuple[str, dict[str, Any]]:
        path = scope["path"][:LONGEST_VALUE]
        attributes = {
            "http.request.method": scope["method"] if scope["method"] in _METHODS else "_OTHER",
            "url.path": path,
            "url.scheme": scope.get("scheme", "http"),
            "network.protocol.version": scope.get("http_version", "1.1"),
        }
        if client := scope.get("client"):
            attributes["client.address"] = client[0]
        if agent := headers.get(b"user-agent"):
            attributes["user_agent.original"] = agent.decode("latin-1")[:LONGEST_VALUE]
        if upload_id := path.removeprefix(self._base_path) if path.startswith(self._base_path) else "":
            attributes["tusd_py.upload.id"] = upload_id
        if path.rstrip("/") + "/" == self._base_path or upload_id:
            attributes["http.route"] = self._base_path + ("{id}" if upload_id else "")
        return f"{attributes['http.request.method']} {attributes.get('http.route', '')}".rstrip(), attributes

    def _note(self, span: Span, message: dict[str, Any], headers: Headers, scope: Scope) -> None:
        status = message["status"]
        answer = dict(message.get("headers", ()))
        span.set_attribute("http.response.status_code", status)
        if location := answer.get(b"location"):
            span.set_attribute("tusd_py.upload.id", location.decode("latin-1").rpartition("/")[2])
        after = _number(answer.get(b"upload-offset"))
        if after is not None:
            span.set_attribute("tusd_py.upload.offset", after)
            if scope["method"] in ("PATCH", "POST") and status < 300:
                span.set_attribute("tusd_py.upload.bytes", after - (_number(headers.get(b"upload-offset")) or 0))
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
            span.set_attribute("error.type", str(status))


_METHODS = frozenset({"POST", "HEAD", "PATCH", "GET", "DELETE", "OPTIONS", "PUT"})


def _carrier(headers: Headers) -> dict[str, str]:
    wanted = (b"traceparent", b"tracestate", b"baggage")
    return {name.decode(): headers[name].decode("latin-1") for name in wanted if name in headers}


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() and len(value) < 20 else None
