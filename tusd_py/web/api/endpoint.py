"""The ASGI app of the status API: which path is which, and who may see it. Shapes are left to the modules beside it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any

from starlette.types import Receive, Scope, Send

from tusd_py.core.upload import Upload, parse_given_id
from tusd_py.core.uploads import Uploads
from tusd_py.errors import RequestError, upload_not_found
from tusd_py.web.access import Access
from tusd_py.web.api import openapi, reference
from tusd_py.web.api.query import Listing, Query, watched_ids
from tusd_py.web.api.status import Status, describe
from tusd_py.web.api.stream import Stream, Texts, View
from tusd_py.web.requests import account_of, caller_of, headers_of, path_of
from tusd_py.web.responses import Headers, send_empty

_METHODS = "GET, HEAD, OPTIONS"

Answer = Callable[[Scope, Receive, Send], Awaitable[None]]


class ApiEndpoint:
    """Everything under `path`; `base_path` is where the uploads are. Both start and end with a slash."""

    def __init__(self, uploads: Uploads, access: Access, *, path: str, base_path: str, version: str) -> None:
        self._uploads = uploads
        self._access = access
        self._path = path
        self._base_path = base_path
        self._version = version
        self._texts = Texts()
        self._answers: dict[str, Answer] = {
            "": self._reference,
            "openapi.json": self._openapi,
            "uploads": self._list,
            "events": self._events,
        }

    def owns(self, scope: Scope) -> bool:
        path = path_of(scope)
        return path.startswith(self._path) or path == self._path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = path_of(scope).removeprefix(self._path)
        answer = self._answers.get(name)
        if name == self._path.rstrip("/"):
            answer = self._reference
        elif name.startswith("uploads/"):
            answer = self._upload
        if answer is None:
            raise RequestError(f"no such resource; {self._path} says what there is", code="ERR_NOT_FOUND", status=404)
        if scope["method"] == "OPTIONS":
            await send_empty(send, 204, [(b"allow", _METHODS.encode())])
        elif scope["method"] in ("GET", "HEAD"):
            await answer(scope, receive, send)
        else:
            raise RequestError(
                f"allowed here: {_METHODS}; uploads are changed by tus, at {self._base_path}",
                code="ERR_METHOD_NOT_ALLOWED",
                status=405,
                headers={"Allow": _METHODS},
            )

    # Resources.

    async def _upload(self, scope: Scope, _receive: Receive, send: Send) -> None:
        name = scope["path"].rpartition("/")[2]
        upload_id = parse_given_id(name)
        if upload_id is None or not scope["path"].endswith(f"{self._path}uploads/{name}"):
            raise upload_not_found()
        account_of(scope).upload_id = upload_id
        Query(scope["query_string"]).finish("none")
        upload = await self._uploads.find(upload_id, caller_of(scope))
        await _send_json(scope, send, self._describe(self._base(scope), may_guess=True)(upload))

    async def _list(self, scope: Scope, _receive: Receive, send: Send) -> None:
        await self._access.check_all(scope)
        listing = Listing.of(scope["query_string"])
        uploads, cursor = await self._uploads.page(listing.cursor, listing.limit)
        describe_each = self._describe(self._base(scope))
        wanted = [describe_each(upload) for upload in uploads if listing.wants(upload)]
        await _send_json(scope, send, {"uploads": wanted, "next": cursor or None})

    async def _events(self, scope: Scope, receive: Receive, send: Send) -> None:
        upload_ids, since = watched_ids(scope["query_string"])
        if upload_ids is None:
            await self._access.check_all(scope)
        for upload_id in upload_ids or ():
            await self._access.check_upload(scope, upload_id)
        since = headers_of(scope).joined("last-event-id") or since or ""
        base = self._base(scope)
        view = View(base, self._describe(base), self._texts)
        await Stream(self._uploads, upload_ids, view).run(scope, receive, send, since)

    async def _openapi(self, scope: Scope, _receive: Receive, send: Send) -> None:
        await _send_json(scope, send, self._document | {"servers": [{"url": scope.get("root_path", "") or "/"}]})

    async def _reference(self, scope: Scope, _receive: Receive, send: Send) -> None:
        page = reference.page(self._document, scope.get("root_path", ""))
        await _send(scope, send, page, [(b"content-security-policy", reference.POLICY)], b"text/html; charset=utf-8")

    # Steps.

    @cached_property
    def _document(self) -> dict[str, Any]:
        return openapi.document(self._path, self._version)

    def _base(self, scope: Scope) -> str:
        """Where uploads are, as this client sees it."""
        origin = self._access.proxies.origin(scope, headers_of(scope))
        return f"{origin}{scope.get('root_path', '')}{self._base_path}"

    def _describe(self, base: str, *, may_guess: bool = False) -> Callable[[Upload], Status]:
        feed = self._uploads.feed
        return lambda upload: describe(upload, f"{base}{upload.id}", feed.progress(upload.id), may_guess=may_guess)


async def _send_json(scope: Scope, send: Send, value: object) -> None:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    await _send(scope, send, body, [(b"cache-control", b"no-store")], b"application/json")


async def _send(scope: Scope, send: Send, body: bytes, headers: Headers, content_type: bytes) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
