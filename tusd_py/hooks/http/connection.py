"""One connection to a receiver: a request is sent, its answer is read and bounded. One at a time, never pipelined. How
long that may take, and who gets the connection next, is left to `client`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import httptools

from tusd_py.hooks.contract import HookError

MOST_HEAD_BYTES = 65536

# What an answer takes on the wire beside its head: the framing of a byte in a chunk of its own, and some for trailers.
_FRAMING, _TRAILERS_BYTES = 8, 65536
_LENGTHS = (b"content-length", b"transfer-encoding")
_KEPT = {b"content-type", b"content-encoding", b"location", b"retry-after"}


class TryAgain(Exception):
    """There is no answer now, and there may be one to another try."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Unheard(TryAgain):
    """The connection was closed, and nothing of an answer had come."""


@dataclass(slots=True)
class Reply:
    """What a receiver answered. `headers` are those that mean something to us, with lower-case names. `is_open_ended`:
    only the end of the connection said where the body ends."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_open_ended: bool = False


class Connection(asyncio.Protocol):
    """Give it to `loop.create_connection`. `is_reusable` says whether another request may follow."""

    def __init__(self, most_body_bytes: int) -> None:
        self.is_reusable = False
        self.has_begun = False
        self.idle_since = 0.0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._most_body_bytes = most_body_bytes
        self._most_wire_bytes = MOST_HEAD_BYTES + _TRAILERS_BYTES + _FRAMING * most_body_bytes
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Reply] | None = None
        self._has_head = self._has_length = self._can_reuse = self._is_open_ended = False
        self._status = self._head_bytes = self._wire_bytes = 0
        self._headers: dict[str, str] = {}
        self._body = b""

    async def exchange(self, request: bytes) -> Reply:
        """What the receiver answers. Closes the connection if that fails, or is cancelled.

        Raises TryAgain, and HookError for what no receiver may answer.
        """
        if self._transport is None or self.closed.done():
            raise Unheard("the connection was closed")
        self._begin()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            reply = await self._answer
        except BaseException:  # it may be cancelled when the answer has just come
            self.abort()
            raise
        finally:
            self._answer = None
        if not self.is_reusable:
            self.abort()
        return reply

    def abort(self) -> None:
        """Close it at once; `closed` is done a little later."""
        self.is_reusable = False
        if self._transport is not None:
            self._transport.abort()

    # Of asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():  # nobody asked for more
            self.abort()
            return
        self.has_begun = True
        self._wire_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(HookError("it answered with another protocol (101), which nobody asked for"))
        except httptools.HttpParserError as error:
            self._fail(HookError(f"its answer is not HTTP: {error}"))
        if not self._has_head and self._wire_bytes > MOST_HEAD_BYTES:
            self._fail_for_head()
        elif self._wire_bytes > self._most_wire_bytes:
            self._fail(HookError(f"its answer takes more than {self._most_wire_bytes} bytes to say little"))

    def eof_received(self) -> None:
        self.is_reusable = False  # it is lost soon: let nobody take it meanwhile

    def connection_lost(self, error: Exception | None) -> None:
        self.is_reusable = False
        if not self.closed.done():
            self.closed.set_result(None)
        if not self.has_begun:
            self._fail(Unheard(f"it closed the connection without an answer{_reason(error)}"))
        elif not self._has_head:
            self._fail(TryAgain(f"the connection ended within the head of its answer{_reason(error)}"))
        elif self._has_length or error is not None:
            self._fail(TryAgain(f"the connection ended after {len(self._body)} bytes of its answer{_reason(error)}"))
        else:
            self._is_open_ended = True
            self._finish()

    # Of the parser.

    def on_message_begin(self) -> None:
        if self._answer is not None and self._answer.done():
            self.is_reusable = False  # something follows the whole answer: it answers nothing

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MOST_HEAD_BYTES:
            self._fail_for_head()
        key = name.lower()
        if key in _LENGTHS:
            self._has_length = True
        elif key in _KEPT and not self._has_head:  # and not in a trailer
            self._headers[key.decode("ascii")] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if (version := self._parser.get_http_version()) not in ("1.1", "1.0"):
            self._fail(HookError(f"it answered with HTTP/{version}, which nobody asked for"))
        if status >= 200:
            self._has_head = True
            self._status = status
            self._can_reuse = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        if len(self._body) + len(data) <= self._most_body_bytes:
            self._body += data
            return
        if 200 <= self._status < 300:
            self._fail(HookError(f"its answer is longer than {self._most_body_bytes} bytes"))
        else:  # its status is what counts
            self._body += data[: self._most_body_bytes - len(self._body)]
            self._can_reuse = False
            self._finish()

    def on_message_complete(self) -> None:
        if self._has_head:
            self._finish()
        else:  # 1xx: the answer is yet to come
            self._headers.clear()
            self._has_length = False

    # Parts.

    def _begin(self) -> None:
        self.is_reusable = self._can_reuse = False
        self.has_begun = self._has_head = self._has_length = self._is_open_ended = False
        self._status = self._head_bytes = self._wire_bytes = 0
        self._headers = {}
        self._body = b""

    def _finish(self) -> None:
        if self._answer is None or self._answer.done():
            return
        # A request that was answered before all of it was sent may never be read: the next one would wait behind it.
        is_sent = self._transport is not None and not self._transport.get_write_buffer_size()
        self.is_reusable = self._can_reuse and is_sent and not self.closed.done()
        self._answer.set_result(Reply(self._status, self._headers, self._body, self._is_open_ended))

    def _fail_for_head(self) -> None:
        self._fail(HookError(f"the head of its answer is longer than {MOST_HEAD_BYTES} bytes"))

    def _fail(self, error: Exception) -> None:
        """If the answer is whole already, it stands."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def _reason(error: Exception | None) -> str:
    return f": {error}" if error is not None and str(error) else ""
