"""uvicorn's httptools protocol, made safe for uploads: `uvicorn --http tusd_py.server.protocol:TusProtocol` works too.

Adds to it: no byte lost when the client goes (failures F10), request trailers, strict framing with answers of our own,
bounded heads, and early answers that a client in mid-upload can read. Leaves to `cycle` what one request sees, to
`head` what is a valid head, and to uvicorn the response and the keep-alive timer.

Read against uvicorn 0.34.0 and 0.54.0, from which it needs the names listed in tests/server/test_uvicorn_contract.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tusd_py.errors import RequestError
from tusd_py.server.cycle import TusCycle
from tusd_py.server.head import (
    bad_request,
    check_head,
    head_timed_out,
    headers_too_large,
    parse_target,
    refusal,
)

# Requests that may wait behind the one being answered. The parser cannot be paused between two of them, and each is
# some thirty times larger in memory than on the wire.
MAX_PIPELINED = 100
TRAILERS_EXTENSION = "tusd_py.request_trailers"


class TusProtocol(HttpToolsProtocol):
    """One connection. `_running` is the cycle whose application runs or ran last; `cycle` is the one being received."""

    head_seconds: ClassVar[float] = 30.0
    # A client that has not yet read our answer usually goes on sending. Closing now would make the kernel send a RST,
    # which destroys the answer in the client's buffer (RFC 9112 9.6). So what comes is read and dropped until the
    # client closes, is silent for 2 s, or 30 s are over: no bound in bytes, since a blocking client looks for the
    # answer only after its last byte. Discarding is cheap, and while the server stops 2 s must do.
    linger_silence_seconds: ClassVar[float] = 2.0
    linger_seconds: ClassVar[float] = 30.0

    cycle: TusCycle
    pipeline: Any  # uvicorn keeps (cycle, app) in it, newest at the left; here it holds cycles

    def __init__(self, *args: Any, max_header_bytes: int = 64 * 1024, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_header_bytes = max_header_bytes
        self._running: TusCycle | None = None
        self._is_in_head = False
        self._is_in_body = False
        self._is_head_upgrade = False
        self._head_bytes = 0  # of the finished parts of this head, or of these trailers
        self._quiet_bytes = 0  # fed to the parser since a head, a piece of body or a message was whole
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_deaf = False  # what still arrives is dropped
        self._has_eof = False
        self._is_stopping = False
        self._refusal: bytes | None = None  # waits for the responses before it
        self._linger_timer: asyncio.TimerHandle | None = None
        self._linger_until = 0.0
        self._heard_at = 0.0

    # The connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm_head_timer()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._is_deaf:
            self._heard_at = self.loop.time()
            return
        self._quiet_bytes += len(data)
        try:
            self._parse(data)
            if self._quiet_bytes > self._max_header_bytes:
                raise headers_too_large(self._max_header_bytes)
        except RequestError as error:
            self._refuse(error)
        except httptools.HttpParserError as error:
            self._refuse(self._why_unparsable(error))
        else:
            if self._is_in_head or not (self._is_in_body or self._is_busy()):
                self._arm_head_timer()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep our side open while an answer is owed: the client may have closed only its own."""
        if self._is_in_body:
            self.cycle.cut()
        self._has_eof = self._is_deaf = True
        if self._linger_timer is not None or not self._is_busy():
            return False
        self.cycle.is_last = True
        return self.scheme != "https"  # TLS cannot be half closed

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_in_body and not self._is_deaf:
            self._rescue()
        for timer in (self._head_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        for cycle in (self._running, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnect()
        self.pipeline.clear()
        self._unset_keepalive_if_required()  # uvicorn leaves the timer after a RST, and with it all this for 75 s
        super().connection_lost(exc)

    def _rescue(self) -> None:
        """Take what lies between the kernel and us (failures F10).

        A failed write ends the connection without reading what the kernel holds; a RST under TLS ends it without what
        was received and, because reading was paused, not yet decrypted.
        """
        self.flow.read_paused = True  # so that nothing touches the transport any more
        tls = self.transport.get_extra_info("ssl_object")
        with contextlib.suppress(OSError):  # nothing left, or nothing to read from; ssl.SSLError is one
            if tls is not None:
                self._read_all(lambda: tls.read(HIGH_WATER_LIMIT))
                return
            descriptor = os.dup(self.transport.get_extra_info("socket").fileno())
            with socket.socket(fileno=descriptor) as connection:
                connection.setblocking(False)
                self._read_all(lambda: connection.recv(HIGH_WATER_LIMIT))

    def _read_all(self, read: Callable[[], bytes]) -> None:
        while not self._is_deaf and (data := read()):
            self.data_received(data)

    def shutdown(self) -> None:
        """The server stops: end after the response in progress, or now. May be called repeatedly."""
        self._is_stopping = True
        if self._linger_timer is not None:
            self._linger_until = min(self._linger_until, self.loop.time() + self.linger_silence_seconds)
        elif self._is_busy() and self._running is not None:
            self._running.is_last = True
        else:
            self.transport.close()

    def _is_busy(self) -> bool:
        return self._running is not None and not self._running.response_complete

    # Parsing.

    def _parse(self, data: bytes) -> None:
        rest: bytes | memoryview = data
        while (offset := self._feed(rest)) is not None:
            # llhttp stops here and would take the body for another protocol. We speak HTTP/1.1 only and may ignore the
            # offer (RFC 9110 7.8), so the same request is parsed again without it.
            rest = memoryview(rest)[offset:]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._feed(self._head_without_upgrade())

    def _feed(self, data: bytes | memoryview) -> int | None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return int(upgrade.args[0])
        return None

    def _head_without_upgrade(self) -> bytes:
        lines = [f"{self.scope['method']} ".encode(), self.url, f" HTTP/{self.scope['http_version']}\r\n".encode()]
        lines += [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        return b"".join([*lines, b"\r\n"])

    def _why_unparsable(self, error: httptools.HttpParserError) -> RequestError:
        cause = error.__context__
        if isinstance(cause, RequestError):
            return cause
        if cause is not None:
            self.logger.error("a parser callback failed", exc_info=cause)
        return bad_request(str(error))

    def _count(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > self._max_header_bytes:
            raise headers_too_large(self._max_header_bytes)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        name, value = name.lower(), value.strip(b" \t")
        if not self._is_in_body:
            self.headers.append((name, value))
        elif self.cycle.trailers is not None:
            self.cycle.trailers.append((name, value))

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._head_bytes = self._quiet_bytes = 0
        self._cancel_head_timer()
        version = self.parser.get_http_version()
        method = self.parser.get_method().decode("ascii")
        self.scope["method"] = method
        self.scope["http_version"] = version
        check_head(version, self.headers)
        if len(self.pipeline) >= MAX_PIPELINED:
            raise bad_request(f"more than {MAX_PIPELINED} requests without waiting for an answer")
        self._set_target(method)
        self._is_head_upgrade = self.parser.should_upgrade()
        if not self._is_head_upgrade:
            self._begin_cycle(version)

    def _set_target(self, method: str) -> None:
        target = parse_target(method, self.url)
        if target.authority is not None:  # counts more than Host (RFC 9112 3.2.2)
            self.headers[:] = [header for header in self.headers if header[0] != b"host"]
            self.headers.append((b"host", target.authority))
        self.scope["path"] = self.root_path + unquote(target.path.decode("ascii"))
        self.scope["raw_path"] = self.root_path.encode("ascii") + target.path
        self.scope["query_string"] = target.query
        self.scope["extensions"] = {TRAILERS_EXTENSION: {}}

    def _begin_cycle(self, version: str) -> None:
        expects_continue = any(name == b"expect" and value.lower() == b"100-continue" for name, value in self.headers)
        self.cycle = TusCycle(
            is_chunked=any(name == b"transfer-encoding" for name, _ in self.headers),
            may_read=lambda: not self.pipeline,
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=expects_continue and version == "1.1",  # RFC 9110 10.1.1
            keep_alive=version == "1.1" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self._is_in_body = True
        if self._is_busy():
            self.pipeline.appendleft(self.cycle)
            self.flow.pause_reading()
        else:
            self._start(self.cycle)

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        cycle.pieces.append(body)
        cycle.queued_bytes += len(body)
        cycle.message_event.set()
        self._quiet_bytes = 0
        if cycle.queued_bytes > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        self._quiet_bytes = 0
        if self._is_head_upgrade:
            return
        self._is_in_body = False
        self.cycle.more_body = False
        self.cycle.message_event.set()

    # Responses, and the end of the connection.

    def _start(self, cycle: TusCycle) -> None:
        self._running = cycle
        cycle.is_last = cycle.is_last or self._is_stopping
        task = self.loop.create_task(cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        task.add_done_callback(lambda _task: self._ended(cycle))
        self.tasks.add(task)

    def _ended(self, cycle: TusCycle) -> None:
        if cycle is self._running and cycle.disconnected and self._refusal is not None:
            self._send_refusal()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        cycle = self._running
        if self.transport.is_closing() or cycle is None:
            return
        if cycle.is_last:
            is_client_sending = self._is_in_head or self._is_in_body or self.pipeline
            self.pipeline.clear()
            if is_client_sending:
                self._linger()
            else:
                self.transport.close()
        elif self.pipeline:
            self._start(self.pipeline.pop())
        elif self._refusal is not None:
            self._send_refusal()
        else:
            self.flow.resume_reading()
            if self._is_in_head:  # the time that we needed is not the client's
                self._cancel_head_timer()
                self._arm_head_timer()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _refuse(self, error: RequestError) -> None:
        """Answer with `error` as soon as the requests before have theirs, and hear no more."""
        self._is_deaf = True
        self._cancel_head_timer()
        self.logger.info("refused a request from %s: %s", self.client, error.message)
        self._refusal = refusal(error, self.server_state.default_headers)
        if self._is_in_body:
            if self.cycle is not self._running:
                self.pipeline.popleft()  # broken before it was begun
            elif self.cycle.response_started:
                self.cycle.cut()
            else:
                # Its answer is this refusal, but not before the application has kept what came: who asks for the offset
                # after this answer must get the one that the next append needs.
                self.cycle.disconnect()
                return
        if not self._is_busy():
            self._send_refusal()

    def _send_refusal(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self._refusal or b"")
            self._linger()

    def _linger(self) -> None:
        self._is_deaf = True
        self._cancel_head_timer()
        if self._has_eof:
            self.transport.close()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._heard_at = self.loop.time()
        self._linger_until = self._heard_at + (
            self.linger_silence_seconds if self._is_stopping else self.linger_seconds
        )
        self._watch_silence()

    def _watch_silence(self) -> None:
        now = self.loop.time()
        silent_at = self._heard_at + self.linger_silence_seconds
        is_flushed = self.transport.get_write_buffer_size() == 0
        if now >= self._linger_until or (now >= silent_at and is_flushed):
            self.transport.abort()
            return
        pause_seconds = max(min(silent_at, self._linger_until) - now, 0.05)
        self._linger_timer = self.loop.call_later(pause_seconds, self._watch_silence)

    # The time a head may take. uvicorn has no such limit, not even for a connection that never sends a byte.

    def _arm_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self._head_is_late)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self._is_busy():  # a response is under way: no place for an answer, and somebody is there
            self._arm_head_timer()
        elif self._is_in_head:
            self._refuse(head_timed_out())
        else:
            self.transport.close()
