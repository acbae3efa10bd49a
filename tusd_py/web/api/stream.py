"""Server-Sent Events: the states of uploads as they change. Which events there are stands in `openapi`.

A stream begins with the states as they are, unless it goes on where the last one stopped. It ends when its client goes,
the server stops, or it has lasted long; browsers then open it anew by themselves.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import anyio
from starlette.types import Receive, Scope, Send

from tusd_py.core.feed import Feed, News, Watch
from tusd_py.core.upload import Upload, UploadId
from tusd_py.core.uploads import Uploads
from tusd_py.errors import BackendError, RequestError
from tusd_py.web.api.status import Status
from tusd_py.web.requests import account_of, wait_for_end

HEARTBEAT_SECONDS = 15.0
LONGEST_SECONDS = 900.0
"""Then it ends, and goes on as a new one: at another worker perhaps, or another server behind a balancer."""
RETRY_MS = 2_000
PARTING_SECONDS = 1.0
"""For so long is waited until one that reads slowly has taken the end."""
_MOST_TEXT_BYTES = 4 << 20

Describe = Callable[[Upload], Status]

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would else gather it
]


class Texts:
    """The newest events as they were written, for all who watch all uploads under one URL: written once."""

    def __init__(self) -> None:
        self._texts: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._bytes = 0

    def text(self, place: str, base: str, write: Callable[[], bytes]) -> bytes:
        text = self._texts.get((place, base))
        if text is None:
            text = self._texts[place, base] = write()
            self._bytes += len(text)
            while self._bytes > _MOST_TEXT_BYTES:
                self._bytes -= len(self._texts.popitem(last=False)[1])
        return text


@dataclass(frozen=True, slots=True)
class View:
    """How uploads are shown to one client: `base` is where they are, as it sees it."""

    base: str
    describe: Describe
    texts: Texts


class Stream:
    """One stream of the news of these uploads, or of all."""

    def __init__(self, uploads: Uploads, upload_ids: frozenset[UploadId] | None, view: View) -> None:
        self._uploads = uploads
        self._feed: Feed = uploads.feed
        self._upload_ids = upload_ids
        self._view = view
        self._told: dict[UploadId, int] = {}  # offsets: they never go down, though news may be older than what we read

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
            await _send(send, b"retry: %d\n\n" % RETRY_MS)
            with self._feed.watch(self._upload_ids, since) as watch:
                async for text in self._texts(watch):
                    await _send(send, text)
            tasks.cancel_scope.cancel()
        with anyio.move_on_after(PARTING_SECONDS):  # who has closed only its own side may still read
            await send({"type": "http.response.body", "body": b""})

    async def _texts(self, watch: Watch) -> AsyncIterator[bytes]:
        ends_at = anyio.current_time() + LONGEST_SECONDS
        while not watch.is_over and anyio.current_time() < ends_at:
            if watch.has_missed:
                watch.has_missed = False
                async for text in self._snapshot():
                    yield text
            news = None
            with anyio.move_on_after(HEARTBEAT_SECONDS):
                news = await watch.news()
            if news is None:
                yield b": heartbeat\n\n"
            else:
                yield b"".join(self._text(number, each) for number, each in news)

    async def _snapshot(self) -> AsyncIterator[bytes]:
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
                yield _event("upload", place, self._view.describe(upload))

    def _text(self, number: int, news: News) -> bytes:
        place = self._feed.place(number)
        if news.upload is None:
            self._told.pop(news.upload_id, None)
            return _event("removed", place, {"id": news.upload_id, "reason": news.reason})
        upload = news.upload
        if self._upload_ids is None:
            view = self._view
            return view.texts.text(place, view.base, lambda: _event("upload", place, view.describe(upload)))
        upload = replace(upload, offset=max(upload.offset, self._told.get(upload.id, 0)))
        self._told[upload.id] = upload.offset
        return _event("upload", place, self._view.describe(upload))


def _event(name: str, place: str, data: Status) -> bytes:
    return f"id: {place}\nevent: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def _send(send: Send, text: bytes) -> None:
    if text:
        await send({"type": "http.response.body", "body": text, "more_body": True})
