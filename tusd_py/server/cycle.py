"""One request and its response, as the application sees them through ASGI, and through the lane.

Owns the bytes between the parser and the application: none that arrived is lost when the client goes (failures F10),
and a piece is handed over as the parser made it, without a copy. Writes the response, and decides whether the
connection can be used again; what happens to it afterwards is the protocol's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from tusd_py.core.body import Sink, pour
from tusd_py.errors import TusError
from tusd_py.extensions import HANGUP, LANE, TRAILERS
from tusd_py.logs import event
from tusd_py.server.response import Response, failure_content, failure_headers

log = logging.getLogger("tusd_py.server")

Lines = list[tuple[bytes, bytes]]


class Connection(Protocol):
    """What a cycle needs of the connection it came on; `TusProtocol`."""

    transport: asyncio.Transport
    flow: Any
    pipeline: Any  # while there is one, reading on would bring bytes of a next request

    def date_line(self) -> bytes: ...

    def fill(self, cycle: TusCycle, sink: Sink) -> Coroutine[Any, Any, None]: ...

    def on_response_complete(self) -> None: ...


class TusCycle:
    """`trailers` is None unless the request is chunked. `more_body`: the parser has not seen the end of the body.
    `is_cut`: no more of it will come, but the client may still read an answer. `disconnected`: nor that. `is_hung_up`:
    an answer without an end is to end. `is_awaited`: the application waits for more of the body. `is_last`: the
    connection ends with this response.
    """

    __slots__ = (
        "_connection", "_event", "_expects_continue", "_hangup", "_is_delivered", "_response", "disconnected", "is_cut",
        "is_hung_up", "is_last", "left", "more_body", "pieces", "queued_bytes", "response_complete", "response_started",
        "scope", "trailers",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        scope: dict[str, Any],
        *,
        content_length: int | None,
        expects_continue: bool,
        is_last: bool,
    ) -> None:
        self.scope = scope
        scope["extensions"] = {TRAILERS: {}, LANE: self.fill, HANGUP: self.wait_for_hangup}
        self.pieces: list[bytes] = []
        self.queued_bytes = 0
        self.left = content_length  # what the parser has not seen of a body of known length
        self.more_body = True
        self.trailers: Lines | None = [] if content_length is None else None
        self.is_cut = False
        self.is_hung_up = False
        self.is_last = is_last
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self._connection = connection
        self._expects_continue = expects_continue
        self._is_delivered = False
        self._event: asyncio.Event | None = None
        self._hangup: asyncio.Event | None = None
        self._response: Response | None = None

    # What the protocol tells.

    def add(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.queued_bytes += len(piece)
        if self.left is not None:
            self.left -= len(piece)
        self._wake()

    def end_body(self) -> None:
        self.more_body = False
        self._wake()

    def cut(self) -> None:
        self.is_cut = True
        self._wake()

    def disconnect(self) -> None:
        self.disconnected = True
        self._wake()
        self.hang_up()

    def hang_up(self) -> None:
        self.is_hung_up = True
        if self._hangup is not None:
            self._hangup.set()

    @property
    def is_awaited(self) -> bool:
        return self._event is not None and not self._event.is_set()

    def is_over(self) -> bool:
        return self.disconnected or self.is_cut

    def _wake(self) -> None:
        if self._event is not None:
            self._event.set()

    # The application.

    async def run(self, app: Callable[..., Any]) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._connection.transport.close()
            raise
        except Exception as error:
            event(log, "ApplicationFailed", level=logging.ERROR, error=error)
            await self._fail()
        else:
            if self.response_complete or self.disconnected:
                return
            if self.is_cut and not self.response_started:
                self._connection.transport.close()  # the client left, and nobody wants to tell it anything
                return
            event(log, "ResponseIncomplete", level=logging.ERROR, reason="the application ended in the middle of it")
            await self._fail()
        finally:
            self.scope = {}  # which refers to us

    async def _fail(self) -> None:
        if self.response_started:
            self._flush()
            self._connection.transport.close()  # cut short, so that nobody takes the response for whole
            return
        content = failure_content(TusError("internal server error"))
        await self.send({"type": "http.response.start", "status": 500, "headers": failure_headers(content)})
        await self.send({"type": "http.response.body", "body": content})

    async def receive(self) -> dict[str, Any]:
        self._continue()
        while not self.response_complete:
            if self.pieces or not (self.more_body or self._is_delivered):
                return self._next_message()
            if self.is_over():
                break
            await self._wait()
        return {"type": "http.disconnect"}

    async def fill(self, sink: Sink) -> Lines | None:
        """Hand the whole body to `sink`, straight from the socket where its length is known.

        Returns its trailers, or None if it was cut short, after all that arrived was handed over. Raises what the
        sink raises.
        """
        self._continue()
        while True:
            for piece in self._taken():
                await pour(piece, sink)
            if not self.more_body:
                self._is_delivered = True
                return self.trailers or []
            if self.pieces:
                continue  # they came while the store was slow
            if self.is_over():
                return None
            if self.left is None:
                await self._wait()
            else:
                await self._connection.fill(self, sink)

    async def wait_for_hangup(self) -> None:
        if not self.is_hung_up:
            self._hangup = asyncio.Event()
            await self._hangup.wait()

    def _continue(self) -> None:
        if self._expects_continue:
            self._expects_continue = False
            if self.more_body and not self.pieces and self._is_open() and not self.response_started:
                self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _wait(self) -> None:
        self._flush()
        connection = self._connection
        if self._is_open() and not connection.pipeline:
            connection.flow.resume_reading()
        if self._event is None:
            self._event = asyncio.Event()
        self._event.clear()
        await self._event.wait()

    def _is_open(self) -> bool:
        return not (self.disconnected or self.is_cut or self._connection.transport.is_closing())

    def _taken(self) -> list[bytes]:
        pieces, self.pieces = self.pieces, []
        self.queued_bytes = 0
        return pieces

    def _next_message(self) -> dict[str, Any]:
        pieces = self._taken()
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        message = {"type": "http.request", "body": body, "more_body": self.more_body}
        if not self.more_body:
            self._is_delivered = True
            if self.trailers is not None:
                message["trailers"] = self.trailers
        return message

    # The response. Its head leaves in one packet with the first bytes of its body, unless the application waits first.

    async def send(self, message: dict[str, Any]) -> None:
        connection = self._connection
        if connection.flow.write_paused and not self.disconnected:
            await connection.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._start(message)
            return
        if self.response_complete:
            raise RuntimeError(f"{message['type']} after the end of the response")
        if message["type"] != "http.response.body":
            raise RuntimeError(f"{message['type']} in the middle of a response")
        is_complete = not message.get("more_body", False)
        assert self._response is not None  # noqa: S101  (it was started)
        data = self._response.frame(message.get("body", b""), is_complete=is_complete)
        if data:
            connection.transport.write(data)
        if is_complete:
            self.response_complete = True
            self._wake()
            connection.on_response_complete()

    def _start(self, message: dict[str, Any]) -> None:
        if message["type"] != "http.response.start":
            raise RuntimeError(f"{message['type']} before the start of the response")
        self._response = response = Response(
            message["status"],
            message.get("headers", ()),
            date_line=self._connection.date_line(),
            is_bodiless=self.scope["method"] == "HEAD",
            speaks_chunked=self.scope["http_version"] == "1.1",
            # Without the end of this body nobody can tell where the next request begins (RFC 9112 9.3).
            must_close=self.is_last or self.more_body,
        )
        self.response_started = True
        self.is_last = response.has_close

    def _flush(self) -> None:
        if self._response is not None and not self.disconnected and (head := self._response.unsent()):
            self._connection.transport.write(head)
