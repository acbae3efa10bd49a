"""Server-Sent Events: the states of uploads as they change. Which events there are stands in `openapi`.

A stream begins with the states as they are, unless it goes on where the last one stopped. It ends when its client goes
or the server stops; browsers then open it anew by themselves.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import anyio
from starlette.types import Receive, Scope, Send

from tusd_py.core.feed import Feed, News, Watch
from tusd_py.core.upload import Upload, UploadId
from tusd_py.core.uploads import Uploads
from tusd_py.errors import BackendError, RequestError
from tusd_py.web.api.status import Status
from tusd_py.web.requests import account_of, wait_for_end

HEARTBEAT_SECONDS = 15.0
RETRY_MS = 2_000

Describe = Callable[[Upload], Status]

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would else gather it
]


class Stream:
    """One stream of the news of these uploads, or of all."""

    def __init__(self, uploads: Uploads, upload_ids: frozenset[UploadId] | None, describe: Describe) -> None:
        self._uploads = uploads
        self._feed: Feed = uploads.feed
        self._upload_ids = upload_ids
        self._describe = describe
        self._told: dict[
            UploadId, int
        ] = {}  # offsets, which never go down, though news may be older than what was read

    async def run(self, scope: Scope, receive: Receive, send: Send, since: str) -> None:
        account_of(scope).is_stream = True
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        async with anyio.create_task_group() as tasks:

            async def watch_client() -> None:
                await wait_for_end(scope, receive)
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch_client)
            await _send(send, f"retry: {RETRY_MS}\n\n")
            with self._feed.watch(self._upload_ids, since) as watch:
                async for text in self._texts(watch):
                    await _send(send, text)
            await send({"type": "http.response.body", "body": b""})
            tasks.cancel_scope.cancel()

    async def _texts(self, watch: Watch) -> AsyncIterator[str]:
        while not watch.is_over:
            if watch.has_missed:
                watch.has_missed = False
                async for text in self._snapshot():
                    yield text
            news = None
            with anyio.move_on_after(HEARTBEAT_SECONDS):
                news = await watch.news()
            if news is None:
                yield ": heartbeat\n\n"
            else:
                yield "".join(self._text(number, each) for number, each in news)

    async def _snapshot(self) -> AsyncIterator[str]:
        place = self._feed.place()
        if self._upload_ids is None:
            yield _event("reset", place, {})
            return
        for upload_id in sorted(self._upload_ids):
            try:
                upload = await self._uploads.find(upload_id)
            except RequestError:
                yield _event("removed", place, {"id": upload_id, "reason": "unknown"})
            except BackendError:
                continue  # has been logged; what happens next is told all the same
            else:
                self._told[upload_id] = upload.offset
                yield _event("upload", place, self._describe(upload))

    def _text(self, number: int, news: News) -> str:
        place = self._feed.place(number)
        if news.upload is None:
            self._told.pop(news.upload_id, None)
            return _event("removed", place, {"id": news.upload_id, "reason": news.reason})
        upload = news.upload
        if self._upload_ids is not None:
            upload = replace(upload, offset=max(upload.offset, self._told.get(upload.id, 0)))
            self._told[upload.id] = upload.offset
        return _event("upload", place, self._describe(upload))


def _event(name: str, place: str, data: Status) -> str:
    return f"id: {place}\nevent: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


async def _send(send: Send, text: str) -> None:
    if text:
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
