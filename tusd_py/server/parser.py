"""From bytes to requests: httptools, made strict and bounded. No I/O: a receiver is told of each request and piece."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import httptools

from tusd_py.errors import RequestError
from tusd_py.logs import event
from tusd_py.server.head import Framing, Target, bad_request, check_head, headers_too_large, parse_target

# Each line costs some two microseconds to take in, so that 64 KiB of short ones are ten milliseconds of everybody's.
_MAX_FIELDS = 1000

log = logging.getLogger("tusd_py.server")


@dataclass(slots=True)
class Request:
    """The head of a request; names in `headers` are lower-case."""

    method: str
    version: str
    target: Target
    headers: list[tuple[bytes, bytes]]
    framing: Framing
    keeps_alive: bool


class Receiver(Protocol):
    """Who is told; may raise RequestError, which ends the parsing."""

    def begin(self, request: Request) -> None: ...

    def add(self, piece: bytes) -> None: ...

    def add_trailer(self, name: bytes, value: bytes) -> None: ...

    def end(self) -> None: ...


class RequestParser:
    """The requests of one connection. After an error it must not be fed again."""

    def __init__(self, receiver: Receiver, max_header_bytes: int) -> None:
        self.is_in_head = False
        self.is_in_body = False
        self._receiver = receiver
        self._max_header_bytes = max_header_bytes
        self._fields = 0
        self._head_bytes = 0  # of the finished parts of this head, or of these trailers
        self._quiet_bytes = 0  # fed since a head, a piece of body or a message was whole
        self._is_upgrade = False
        self._request: Request
        self._renew()

    def _renew(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # what comes is ours to judge

    def feed(self, data: bytes | memoryview) -> None:
        """Raises RequestError when this is no request that we understand."""
        self._quiet_bytes += len(data)
        try:
            while (offset := self._feed(data)) is not None:
                # llhttp stops here and would take the body for another protocol. We speak HTTP/1.1 only and may ignore
                # the offer (RFC 9110 7.8), so the same request is parsed again without it.
                data = memoryview(data)[offset:]
                again = self._head_without_upgrade()
                self._renew()
                self._feed(again)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, RequestError):
                raise cause from None
            if cause is not None:
                event(log, "ParserFailed", level=logging.ERROR, error=cause)
            raise bad_request(str(error)) from error
        if self._quiet_bytes > self._max_header_bytes:
            raise headers_too_large(self._max_header_bytes)

    def close(self) -> None:
        """Let go of the receiver, and of httptools, which holds on to us. Feed it no more."""
        del self._parser, self._receiver

    def skip_body(self) -> None:
        """The rest of this body went another way; what is fed next is the next request."""
        self._renew()
        self.on_message_complete()

    def _feed(self, data: bytes | memoryview) -> int | None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return int(upgrade.args[0])
        return None

    def _head_without_upgrade(self) -> bytes:
        request = self._request
        lines = [b"%b %b HTTP/%b\r\n" % (request.method.encode(), self._target, request.version.encode())]
        lines += [b"%b: %b\r\n" % header for header in request.headers if header[0] != b"upgrade"]
        return b"".join([*lines, b"\r\n"])

    def _count(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > self._max_header_bytes or self._fields > _MAX_FIELDS:
            raise headers_too_large(self._max_header_bytes)

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self.is_in_head = True
        self._head_bytes = self._fields = 0

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._count(len(name) + len(value) + 4)
        name, value = name.lower(), value.strip(b" \t")
        if self.is_in_body:
            self._receiver.add_trailer(name, value)
        else:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.is_in_head = False
        self._head_bytes = self._quiet_bytes = self._fields = 0
        parser, headers = self._parser, self._headers
        version = parser.get_http_version()
        framing = check_head(version, headers)
        method = parser.get_method().decode("ascii")
        keeps_alive = version == "1.1" and parser.should_keep_alive()
        target = parse_target(method, self._target)
        self._request = Request(method, version, target, headers, framing, keeps_alive)
        self._is_upgrade = parser.should_upgrade()
        if not self._is_upgrade:
            self._receiver.begin(self._request)
            self.is_in_body = True

    def on_body(self, body: bytes) -> None:
        self._quiet_bytes = 0
        self._receiver.add(body)

    def on_message_complete(self) -> None:
        self._quiet_bytes = 0
        if not self._is_upgrade:
            self.is_in_body = False
            self._receiver.end()
