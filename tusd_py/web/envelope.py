"""What every request and answer goes through, whoever answers: the outermost ASGI layer.

Applies X-HTTP-Method-Override before routing, refuses origins that may not ask, and adds to each answer, the
framework's own 404 included, what the protocol and browsers want on all of them. Each request has its id, and one line.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tusd_py.core.observer import Observer
from tusd_py.errors import Refused, TusError
from tusd_py.logs import answered, choose_request_id, request_id
from tusd_py.protocol.headers import Headers
from tusd_py.protocol.tus import VERSION
from tusd_py.web.cors import Cors
from tusd_py.web.requests import Account, Proxies, has_own_server, headers_of, open_account
from tusd_py.web.responses import Headers as HeaderLines
from tusd_py.web.responses import error_response

_ALWAYS: HeaderLines = [
    (b"tus-resumable", VERSION.encode()),  # tus K3
    (b"x-content-type-options", b"nosniff"),
]


class Envelope:
    """Wraps `app`. `cors` None: no CORS headers and no refusals. `observer` hears of each request, `proxies` are asked
    which origin is our own: its pages need no permission."""

    def __init__(self, app: ASGIApp, cors: Cors | None, observer: Observer, proxies: Proxies) -> None:
        self._observer = observer
        self._proxies = proxies
        self._app = app
        self._cors = cors
        self._added_for_no_page = _ALWAYS + (cors.headers(None, is_preflight=False) if cors else [])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_at = time.monotonic()
        headers = headers_of(scope)
        method = scope["method"]
        account = open_account(scope)
        request_id.set(name := choose_request_id(headers.joined("x-request-id")))
        override = headers.joined("x-http-method-override")
        if override is not None:  # tus K7; a copy, since the server frames its answer by the method on the wire
            scope = {**scope, "method": override.upper()}
        origin = headers.joined("origin")
        answer = _Answer(send, [*self._added(scope, headers, origin), (b"x-request-id", name.encode())])
        if not has_own_server(scope):  # ours looks after that itself
            receive = answer.watch_body(receive, scope, headers)
        code = None
        try:
            self._check_origin(scope, headers, origin)
            await self._app(scope, receive, answer.send)
        except Exception as error:
            known = error if isinstance(error, TusError) else TusError("internal server error")
            code = known.code
            if answer.status:
                raise  # the server cuts the connection, so that nobody takes the answer for whole
            response = error_response(known, accept=headers.joined("accept") or "", is_head=method == "HEAD")
            await response(scope, receive, answer.send)
            if known is not error:
                raise  # for the server's log
            _forget_frames(error)
        finally:
            self._tell(scope, account, answer, code, time.monotonic() - began_at)

    def _check_origin(self, scope: Scope, headers: Headers, origin: str | None) -> None:
        if self._cors is None:
            return
        try:
            self._cors.check(origin)
        except Refused:
            if origin != self._proxies.origin(scope, headers):
                raise

    def _tell(self, scope: Scope, account: Account, answer: _Answer, code: str | None, seconds: float) -> None:
        method, status = scope["method"], answer.status
        if not account.is_stream:  # how long somebody watches says nothing about how fast we answer
            self._observer.request_ended(method, status, code, seconds)
        client = scope.get("client")
        sent_bytes = 0 if code else answer.sent_bytes
        body_bytes = sent_bytes if account.body is None else account.body.received
        host = client[0] if client else None
        answered(method, scope["path"], status, code, account.upload_id, body_bytes, seconds, host)

    def _added(self, scope: Scope, headers: Headers, origin: str | None) -> HeaderLines:
        if self._cors is None:
            return _ALWAYS
        if origin is None:
            return self._added_for_no_page
        is_preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        return _ALWAYS + self._cors.headers(origin, is_preflight=is_preflight)


class _Answer:
    """The way back, on which headers are added.

    `watch_body`: on servers other than ours the connection must close when the answer comes before the end of the body:
    they would take the rest of it for the next request.
    """

    __slots__ = ("_added", "_is_body_open", "_receive", "_send", "sent_bytes", "status")

    def __init__(self, send: Send, added: HeaderLines) -> None:
        self.status = 0
        self.sent_bytes = 0
        self._send = send
        self._added = added
        self._is_body_open = False

    def watch_body(self, receive: Receive, scope: Scope, headers: Headers) -> Receive:
        has_body = "transfer-encoding" in headers or headers.joined("content-length") not in (None, "0")
        self._is_body_open = has_body and scope.get("http_version", "1.1").startswith("1")
        self._receive = receive
        return self._receive_watched if self._is_body_open else receive

    async def _receive_watched(self) -> Message:
        message = await self._receive()
        if not message.get("more_body", False):
            self._is_body_open = False
        return message

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), *self._added]
            if self._is_body_open:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        elif body := message.get("body"):
            self.sent_bytes += len(body)
        return self._send(message)


def _forget_frames(error: BaseException | None) -> None:
    """What an answered error came through: those frames know the body, and it knows the error."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
