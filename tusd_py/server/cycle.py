"""One request and its response, as the application sees them through ASGI.

Owns the bytes between the parser and the application: none that arrived is lost when the client goes (failures F10),
and a piece is handed over as the parser made it, without a copy. Decides whether the connection can be used again.
Writing the response is uvicorn's; what happens to the connection afterwards is the protocol's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tusd_py.errors import TusError
from tusd_py.server.head import failure_content, failure_headers


class TusCycle(RequestResponseCycle):
    """`trailers` is None unless the request is chunked. `is_cut`: no more of the body will come, but the client may
    still read an answer. `is_last`: the connection ends with this response. `may_read` says whether reading on would
    bring this request's bytes, not those of a next one.
    """

    def __init__(self, *, is_chunked: bool, may_read: Callable[[], bool], **settings: Any) -> None:
        super().__init__(**settings)
        self.pieces: list[bytes] = []
        self.queued_bytes = 0
        self.trailers: list[tuple[bytes, bytes]] | None = [] if is_chunked else None
        self.is_cut = False
        self.is_last = False
        self._is_delivered = False
        self._may_read = may_read

    def cut(self) -> None:
        self.is_cut = True
        self.message_event.set()

    def disconnect(self) -> None:
        self.disconnected = True
        self.message_event.set()

    async def run_asgi(self, app: Callable[..., Any]) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self.transport.close()
            raise
        except Exception:
            self.logger.exception("the application failed")
            await self._fail()
        else:
            if self.response_complete or self.disconnected:
                return
            if self.is_cut and not self.response_started:
                self.transport.close()  # the client left, and nobody wants to tell it anything
                return
            self.logger.error("the application ended without completing its response")
            await self._fail()
        finally:
            self.on_response = lambda: None

    async def _fail(self) -> None:
        if self.response_started:
            self.transport.close()  # cut short, so that nobody takes the response for whole
            return
        content = failure_content(TusError("internal server error"))
        await self.send(
            {"type": "http.response.start", "status": 500, "headers": failure_headers(content)},
        )
        await self.send({"type": "http.response.body", "body": content, "more_body": False})

    async def send(self, message: Any) -> None:
        if self.response_started or message["type"] != "http.response.start":
            await super().send(message)
            return
        if self.more_body or self.is_last or not self.keep_alive:
            # Without the end of this body nobody can tell where the next request begins (RFC 9112 9.3).
            message = {**message, "headers": _with_close(message.get("headers", ()))}
        await super().send(message)
        # uvicorn would close at once after the last byte; the protocol does it instead, and may have to linger.
        self.is_last = self.is_last or not self.keep_alive
        self.keep_alive = True

    async def receive(self) -> Any:
        if self.waiting_for_100_continue:
            self.waiting_for_100_continue = False
            if self.more_body and not self.pieces and self._is_open():
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self.response_complete:
            if self.pieces or not (self.more_body or self._is_delivered):
                return self._next_message()
            if self.disconnected or self.is_cut:
                break
            if self._is_open() and self._may_read():
                self.flow.resume_reading()
            self.message_event.clear()
            await self.message_event.wait()
        return {"type": "http.disconnect"}

    def _is_open(self) -> bool:
        return not (self.disconnected or self.is_cut or self.transport.is_closing())

    def _next_message(self) -> dict[str, Any]:
        body = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
        self.pieces.clear()
        self.queued_bytes = 0
        message = {"type": "http.request", "body": body, "more_body": self.more_body}
        if not self.more_body:
            self._is_delivered = True
            if self.trailers is not None:
                message["trailers"] = self.trailers
        return message


def _with_close(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    kept = [header for header in headers if header[0].lower() != b"connection"]
    return [*kept, (b"connection", b"close")]
