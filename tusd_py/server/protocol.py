"""The HTTP/1.1 connection, made for uploads: `uvicorn --http tusd_py.server.protocol:TusProtocol` works too.

What it has beyond uvicorn's own: no byte lost when the client goes (failures F10), a lane for bodies, request trailers,
strict framing with answers of our own, bounded heads, and early answers that a client in mid-upload can read. Leaves to
`parser` what is a request, to `cycle` what the application sees of it, to `lane` the fast way of a body.

Read against uvicorn 0.34.0 and 0.54.0, from which it needs the names listed in tests/server/test_uvicorn_contract.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, ClassVar

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from tusd_py.core.body import Sink
from tusd_py.errors import RequestError, TusError
from tusd_py.server.bounds import Admission, Bounds, answer_is_late
from tusd_py.server.cycle import TusCycle
from tusd_py.server.deadline import Deadline
from tusd_py.server.head import bad_request, head_timed_out
from tusd_py.server.lane import Lane
from tusd_py.server.lingering import Lingering, reset
from tusd_py.server.parser import Request, RequestParser
from tusd_py.server.refusals import Refusals
from tusd_py.server.rescue import undelivered
from tusd_py.server.response import header_lines, refusal
from tusd_py.server.scope import Peers
from tusd_py.server.scratch import scratch

# Requests that may wait behind the one being answered. The parser cannot be paused between two of them, and each is
# some thirty times larger in memory than on the wire.
MAX_PIPELINED = 100

_BOUNDS = Bounds()
_REFUSALS = Refusals()


class TusProtocol(asyncio.BufferedProtocol):
    """One connection. `_running` is the cycle whose application runs or ran last; `cycle` is the one being received."""

    linger_silence_seconds: ClassVar[float] = 2.0
    linger_seconds: ClassVar[float] = 30.0

    def __init__(
        self,
        config: Any,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        bounds: Bounds = _BOUNDS,
        admission: Admission | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self.app = config.loaded_app
        self.loop = _loop or asyncio.get_running_loop()
        self.server_state = server_state
        self.pipeline: deque[TusCycle] = deque()  # newest at the left
        self.cycle: TusCycle | None = None
        self.transport: asyncio.Transport
        self.flow: FlowControl
        self._config = config
        self._app_state = app_state
        self._bounds = bounds
        self._admission = admission
        self._refusals = _REFUSALS if admission is None else admission.refusals
        self._requests = 0
        self._unwritten_bytes = 0  # when the client was last seen to take none
        self._scratch = scratch
        self._deadline = Deadline(self.loop, self._is_late)
        self._running: TusCycle | None = None
        self._lane: Lane | None = None
        self._awaits_head = False  # the deadline is that of a head
        self._is_deaf = False  # what still arrives is dropped
        self._has_eof = False
        self._is_stopping = False
        self._refusal: TusError | None = None  # waits for the responses before it
        self._lingering: Lingering | None = None
        self._parser = RequestParser(self, bounds.max_header_bytes)

    # The connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.flow = FlowControl(transport)
        self.client = get_remote_addr(transport)
        self._host = self.client[0] if self.client else None
        self._is_secure = is_ssl(transport)
        self._peers = Peers(
            server=get_local_addr(transport),
            client=self.client,
            scheme="https" if self._is_secure else "http",
            root_path=self._config.root_path,
            asgi_version=self._config.asgi_version,
            state=self._app_state,
        )
        self.server_state.connections.add(self)
        problem = self._admission.enter(self._host) if self._admission is not None else None
        if problem is None:
            self._await_head()
        else:  # and no lingering, which would be another connection too many
            self._is_deaf = True
            transport.write(refusal(problem, self.date_line()))
            transport.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._lane is not None:
            return self._lane.buffer()
        return self._scratch.body if self.cycle is not None and self.cycle.is_awaited else self._scratch.head

    def buffer_updated(self, nbytes: int) -> None:
        if self._lane is not None:
            self._lane.filled(nbytes)
        else:
            self._received(self._scratch.body[:nbytes])

    def _received(self, data: memoryview | bytes) -> None:
        if self._is_deaf:
            if self._lingering is not None:
                self._lingering.heard()
            return
        try:
            self._parser.feed(data)
        except RequestError as error:
            self._refuse(error)
        else:
            if not (self._parser.is_in_body or self._is_busy()):
                self._await_head()

    def eof_received(self) -> bool:
        """Keep our side open while an answer is owed: the client may have closed only its own."""
        if self._parser.is_in_body and not self._is_deaf:
            if self._is_secure:
                self._rescue()
            self._last_one().cut()
            self._wake_lane()
        self._has_eof = self._is_deaf = True
        if self._lingering is not None or not self._is_busy():
            return False
        self._last_one().is_last = True
        if self._running is not None:
            self._running.hang_up()
        return not self._is_secure  # TLS cannot be half closed

    def connection_lost(self, exc: Exception | None) -> None:
        if self._parser.is_in_body and not self._is_deaf:
            self._rescue()
        self._is_deaf = True
        self._deadline.close()
        self._parser.close()
        if self._lingering is not None:
            self._lingering.close()
        for cycle in (self._running, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnect()
        self._wake_lane()
        self.pipeline.clear()
        self._running = self.cycle = self._refusal = None
        self.server_state.connections.discard(self)
        if self._admission is not None:
            self._admission.leave(self._host)
        self.flow.resume_writing()
        self.transport.close()

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        if not self.transport.is_closing():
            self._deadline.release()

    def _rescue(self) -> None:
        self.flow.read_paused = True  # so that nothing touches the transport any more
        for data in undelivered(self.transport):
            if self._lane is None:
                self._received(data)
            else:
                self._lane.rescue(data, self._last_one())
            if self._is_deaf:
                break

    def shutdown(self) -> None:
        """The server stops: end after the response in progress, or now. May be called repeatedly."""
        self._is_stopping = True
        if self._lingering is not None:
            self._lingering.hurry()
        elif self._is_busy():
            self.retire()
        else:
            self._close()

    def retire(self) -> None:
        """End after the response in progress, or after the next one. May be called repeatedly."""
        self._is_stopping = True
        if self._is_busy() and self._running is not None:
            self._running.is_last = True
            self._running.hang_up()

    def _is_busy(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _last_one(self) -> TusCycle:
        assert self.cycle is not None  # noqa: S101  (only asked in a body, or while one runs)
        return self.cycle

    # The lane.

    async def fill(self, cycle: TusCycle, sink: Sink) -> None:
        """Hand the rest of the body to `sink`, straight from the socket, until it is whole or the client is gone."""
        assert cycle.left is not None  # noqa: S101  (others have no lane)
        self._lane = lane = Lane(sink, cycle.left, self.flow, self._scratch.body, self._is_whole)
        try:
            await lane.run(cycle.is_over)
        finally:
            if self._lane is lane:
                self._lane = None
                cycle.left = lane.left
                self.flow.pause_reading()  # the parser does not know what the lane took

    def _is_whole(self) -> None:
        self._lane = None
        self._parser.skip_body()

    def _wake_lane(self) -> None:
        if self._lane is not None:
            self._lane.wake()

    # What the parser tells.

    def begin(self, request: Request) -> None:
        self._deadline.clear()
        self._awaits_head = False
        self._requests += 1
        if len(self.pipeline) >= MAX_PIPELINED:
            raise bad_request(f"more than {MAX_PIPELINED} requests without waiting for an answer")
        self.cycle = cycle = TusCycle(
            self,
            self._peers.scope_of(request),
            content_length=request.framing.length,
            expects_continue=request.framing.expects_continue,
            is_last=not request.keeps_alive or self._requests >= self._bounds.max_requests,
        )
        if self._is_busy():
            self.pipeline.appendleft(cycle)
            self.flow.pause_reading()
        else:
            self._start(cycle)

    def add(self, piece: bytes) -> None:
        cycle = self._last_one()
        cycle.add(piece)
        if cycle.queued_bytes > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def add_trailer(self, name: bytes, value: bytes) -> None:
        trailers = self._last_one().trailers
        if trailers is not None:
            trailers.append((name, value))

    def end(self) -> None:
        cycle = self._last_one()
        cycle.end_body()
        if cycle is self._running and not cycle.response_started:
            self._deadline.set(self._bounds.answer_seconds)

    # Responses, and the end of the connection.

    def _start(self, cycle: TusCycle) -> None:
        self._running = cycle
        cycle.is_last = cycle.is_last or self._is_stopping
        task = self.loop.create_task(cycle.run(self.app))
        self.server_state.tasks.add(task)
        task.add_done_callback(self._ended)
        if not cycle.more_body:
            self._deadline.set(self._bounds.answer_seconds)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.server_state.tasks.discard(task)
        if self._refusal is not None and self._running is not None and self._running.disconnected:
            self._send_refusal()

    def date_line(self) -> bytes:
        return header_lines(self.server_state.default_headers)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        cycle = self._running
        if self.transport.is_closing() or cycle is None:
            return
        if cycle.is_last:
            is_client_sending = self._parser.is_in_head or self._parser.is_in_body or self.pipeline
            self.pipeline.clear()
            if is_client_sending:
                self._linger()
            else:
                self._close()
        elif self.pipeline:
            self._start(self.pipeline.pop())
        elif self._refusal is not None:
            self._send_refusal()
        else:
            self.flow.resume_reading()
            self._awaits_head = False  # the time that we needed is not the client's
            if self._parser.is_in_head:
                self._await_head()
            else:
                self._deadline.set(self._bounds.keep_alive_seconds)

    def _refuse(self, error: TusError) -> None:
        """Answer with `error` as soon as the requests before have theirs, and hear no more."""
        self._is_deaf = True
        self._deadline.clear()
        self._refusal = error
        cycle = self.cycle
        if self._parser.is_in_body and cycle is not None:
            if cycle is not self._running:
                self.pipeline.popleft()  # broken before it was begun
            elif cycle.response_started:
                cycle.cut()
            else:
                # Its answer is this refusal, but not before the application has kept what came: who asks for the offset
                # after this answer must get the one that the next append needs.
                cycle.disconnect()
                return
        if not self._is_busy():
            self._send_refusal()

    def _send_refusal(self, *, is_bodiless: bool = False) -> None:
        if not self.transport.is_closing() and self._refusal is not None:
            self._refusals.request(self._refusal, self._host)
            self.transport.write(refusal(self._refusal, self.date_line(), is_bodiless=is_bodiless))
            self._linger(is_short=self._refusal.status == 408)

    def _linger(self, *, is_short: bool = False) -> None:
        self._is_deaf = True
        self._deadline.clear()
        if self._has_eof:
            self.transport.close()
            return
        seconds = self.linger_silence_seconds if self._is_stopping or is_short else self.linger_seconds
        self._lingering = Lingering(self.loop, self.transport, self.linger_silence_seconds, seconds)
        self.flow.resume_reading()

    # The time that a head may take, and that nothing may come for.

    def _await_head(self) -> None:
        if not self._awaits_head:
            self._awaits_head = True
            self._deadline.set(self._bounds.head_seconds)

    def _await_reader(self) -> None:
        self._unwritten_bytes = self.transport.get_write_buffer_size()
        self._deadline.hold(self._bounds.write_seconds)

    def _close(self) -> None:
        """End the connection once the client has taken what it was told; it may not take for ever."""
        if self.transport.is_closing():  # asyncio's TLS transports break when they are closed again
            return
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._await_reader()

    def _is_late(self) -> None:
        if self.flow.write_paused or self.transport.is_closing():
            if self.transport.get_write_buffer_size() < self._unwritten_bytes:
                self._await_reader()
            else:
                reset(self.transport)
        elif self._is_busy():
            self._answer_late()
        elif self._awaits_head and self._parser.is_in_head:
            self._refuse(head_timed_out())
        else:
            if not self._requests:
                self._refusals.silence(self._bounds.head_seconds, self._host)
            self._close()

    def _answer_late(self) -> None:
        """The client gets an answer; the application may take its time, and is heard by nobody."""
        cycle = self._running
        if cycle is not None and not cycle.response_started and not cycle.more_body:
            method = cycle.scope["method"]
            self._refusal = answer_is_late(self._bounds.answer_seconds, method)
            self._send_refusal(is_bodiless=method == "HEAD")
            self._refusal = None
            cycle.disconnect()
