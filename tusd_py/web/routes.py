"""The two resources of tus under the base path: the creation URL and the uploads.

Each method is: headers to a command, the command to `core.uploads`, the outcome to an answer. Rules live in
`protocol.tus` and the core, errors are answered in `app`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from tusd_py.core.body import Body
from tusd_py.core.checksum import Checksum
from tusd_py.core.commands import Concatenate
from tusd_py.core.events import Caller
from tusd_py.core.patience import Patience
from tusd_py.core.upload import UploadId, parse_given_id
from tusd_py.core.uploads import Uploads
from tusd_py.errors import BackendError, RequestError, upload_locked, upload_not_found
from tusd_py.logs import event
from tusd_py.protocol import tus
from tusd_py.protocol.headers import Headers
from tusd_py.web import downloads
from tusd_py.web.requests import Proxies, account_of, caller_of, has_own_server, headers_of, path_of, source_of
from tusd_py.web.responses import encode_headers, send_empty, send_reply

log = logging.getLogger("tusd_py.web")


@dataclass(slots=True)
class Exchange:
    """One request and the way to answer it."""

    scope: Scope
    receive: Receive
    send: Send
    headers: Headers
    caller: Caller

    @property
    def method(self) -> str:
        return str(self.scope["method"])

    async def answer(self, answer: tus.Answer) -> None:
        if self.caller.reply is not None:
            await send_reply(self.send, answer.status, answer.headers, self.caller.reply)
        else:
            await send_empty(self.send, answer.status, encode_headers(answer.headers))


class TusEndpoint:
    """An ASGI app for everything under `base_path`, which starts and ends with a slash."""

    def __init__(
        self, uploads: Uploads, base_path: str, proxies: Proxies, patience: Patience, max_unwanted_bytes: int = 65_536
    ) -> None:
        self._uploads = uploads
        self._base_path = base_path
        self._proxies = proxies
        self._patience = patience
        self._max_unwanted_bytes = max_unwanted_bytes
        self.has_lifespan = False
        self._verbs = {"HEAD": self._inspect, "PATCH": self._append}
        if uploads.offers.download:
            self._verbs["GET"] = self._download
        if uploads.offers.termination:
            self._verbs["DELETE"] = self._terminate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        exchange = Exchange(scope, receive, send, headers, caller_of(scope))
        tus.check_version(exchange.method, headers)
        if exchange.method not in ("POST", "PATCH"):
            self._refuse_unwanted(headers)
        self._warn_without_lifespan()
        name = self._name(scope)
        if exchange.method == "OPTIONS":
            await self._options(exchange)
        elif not name:
            await self._creation(exchange)
        else:
            await self._upload(exchange, name)

    def owns(self, scope: Scope) -> bool:
        """Whether the path of a request is one of ours."""
        path = path_of(scope)
        return path.startswith(self._base_path) or path == self._base_path.rstrip("/")

    def _name(self, scope: Scope) -> str:
        """What follows the base path, exactly: a route's expression would take an id with a line end for the id."""
        path = path_of(scope)
        if path == self._base_path.rstrip("/"):
            return ""
        return path.removeprefix(self._base_path).removesuffix("/")

    def _warn_without_lifespan(self) -> None:
        if not self.has_lifespan:
            self.has_lifespan = True  # said once
            event(
                log,
                "NoLifespan",
                level=logging.WARNING,
                advice="nothing expires, no hook is told: run this app's lifespan in that of the app it is mounted in",
            )

    def _refuse_unwanted(self, headers: Headers) -> None:
        """A body that nobody reads is only dropped, but a long one is a mistake, or worse."""
        if (headers.integer("content-length") or 0) > self._max_unwanted_bytes:
            raise RequestError("this request takes no body", code="ERR_UNWANTED_BODY", status=413)

    async def _options(self, exchange: Exchange) -> None:
        await exchange.answer(tus.encode_options(self._uploads.offers, reads_trailers=has_own_server(exchange.scope)))

    async def _creation(self, exchange: Exchange) -> None:
        if exchange.method != "POST":
            raise _not_allowed("POST, OPTIONS")
        base = exchange.scope.get("root_path", "") + self._base_path
        command = tus.decode_create(exchange.headers, base)
        if isinstance(command, Concatenate) or not command.has_body:
            self._refuse_unwanted(exchange.headers)
        origin = self._proxies.origin(exchange.scope, exchange.headers)
        if isinstance(command, Concatenate):
            upload = await self._uploads.concatenate(command, exchange.caller)
        else:
            upload = await self._uploads.create(command, self._body(exchange, command.checksum), exchange.caller)
        account_of(exchange.scope).upload_id = upload.id
        await exchange.answer(tus.encode_created(upload, f"{origin}{base}{upload.id}"))

    async def _upload(self, exchange: Exchange, name: str) -> None:
        verb = self._verbs.get(exchange.method)
        if verb is None:
            raise _not_allowed(", ".join([*self._verbs, "OPTIONS"]))
        upload_id = parse_given_id(name)
        if upload_id is None:
            raise upload_not_found()
        account_of(exchange.scope).upload_id = upload_id
        await verb(exchange, upload_id)

    async def _inspect(self, exchange: Exchange, upload_id: UploadId) -> None:
        try:
            upload = await self._uploads.inspect(upload_id, exchange.caller)
        except BackendError as error:
            # tus-js-client takes any other failure of HEAD for "upload again from byte 0".
            raise upload_locked() from error
        await exchange.answer(tus.encode_inspected(upload))

    async def _append(self, exchange: Exchange, upload_id: UploadId) -> None:
        try:
            command = tus.decode_append(upload_id, exchange.headers)
            body = self._body(exchange, command.checksum)
        except RequestError:
            await self._uploads.refuse_unknown(upload_id)  # which upload comes before which headers
            raise
        await exchange.answer(tus.encode_appended(await self._uploads.append(command, body, exchange.caller)))

    async def _terminate(self, exchange: Exchange, upload_id: UploadId) -> None:
        await self._uploads.terminate(upload_id, exchange.caller)
        await exchange.answer(tus.Answer(204))

    async def _download(self, exchange: Exchange, upload_id: UploadId) -> None:
        upload = await self._uploads.find(upload_id, exchange.caller)
        await downloads.serve(self._uploads, upload, exchange.headers, exchange.send, exchange.receive)

    def _body(self, exchange: Exchange, checksum: Checksum | None) -> Body:
        coding = exchange.headers.joined("transfer-encoding")
        if coding is not None and coding.lower() != "chunked":  # other servers undo nothing else
            raise RequestError("this transfer coding is not undone here", code="ERR_BAD_REQUEST", status=501)
        reads_trailers = has_own_server(exchange.scope)
        expects_trailer = tus.announces_checksum(exchange.headers)
        if expects_trailer and not reads_trailers:
            raise RequestError("checksum trailers are not supported here", code="ERR_INVALID_CHECKSUM")
        body = Body(
            source_of(exchange.scope, exchange.receive),
            checksum=checksum,
            expects_trailer=expects_trailer and checksum is None,
            may_trail=reads_trailers and "transfer-encoding" in exchange.headers,
            patience=self._patience,
        )
        account_of(exchange.scope).body = body
        return body


def _not_allowed(methods: str) -> RequestError:
    return RequestError(
        f"allowed here: {methods}", code="ERR_METHOD_NOT_ALLOWED", status=405, headers={"Allow": methods}
    )
