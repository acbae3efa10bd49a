"""How far uploads are, told to hooks now and again while bytes come (post-receive), which may stop one.

Of each upload at most one such question is on its way, and in each interval at most one is asked, however many requests
bring its bytes. What was said too late for one request counts for the next. Whom it asks is the dispatcher's.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tusd_py.core.body import Body
from tusd_py.core.events import Caller, Reply
from tusd_py.core.ports import StoredUpload
from tusd_py.core.upload import Upload, UploadId
from tusd_py.errors import Stopped

Ask = Callable[[Upload, Caller], Awaitable[Reply | None]]

_MOST_KNOWN = 20_000


@dataclass(slots=True)
class _Watched:
    stored: StoredUpload
    caller: Caller
    began_at: int  # the offset

    def upload(self, body: Body) -> Upload:
        """With the bytes that arrived, stored or not, as tusd counts them."""
        upload = self.stored.upload
        return replace(upload, offset=max(self.began_at + body.received, upload.offset))


@dataclass(slots=True)
class _Course:
    """Of one upload: when it was last asked about, at which offset, and what stopped it."""

    asked_at: float
    offset: int
    is_being_asked: bool = False
    stopped: Stopped | None = None


class Progress:
    """For one event loop. `ask` says with a Reply that an upload is to stop; it never raises."""

    def __init__(self, ask: Ask, interval_seconds: float) -> None:
        self._ask = ask
        self._interval_seconds = interval_seconds
        self._bodies: dict[Body, _Watched] = {}
        self._courses: OrderedDict[tuple[UploadId, float], _Course] = OrderedDict()  # ids may come again
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def watch(self, stored: StoredUpload, body: Body, caller: Caller) -> Iterator[None]:
        upload = stored.upload
        course = self._course(upload)
        if course.stopped is not None:
            body.interrupt(course.stopped)
        self._bodies[body] = _Watched(stored, caller, upload.offset)
        self._keep_looking()
        try:
            yield
        finally:
            watched = self._bodies.pop(body)
            if not stored.upload.is_available:  # of a finished one post-finish tells
                self._look(body, watched)

    async def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _course(self, upload: Upload) -> _Course:
        key = upload.id, upload.created_at
        course = self._courses.get(key)
        if course is None:
            course = self._courses[key] = _Course(time.monotonic(), upload.offset)
            if len(self._courses) > _MOST_KNOWN:
                self._courses.popitem(last=False)
        self._courses.move_to_end(key)
        return course

    def _keep_looking(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._interval_seconds, self._look_at_all)

    def _look_at_all(self) -> None:
        self._timer = None
        for body, watched in self._bodies.items():
            self._look(body, watched)
        if self._bodies:
            self._keep_looking()

    def _look(self, body: Body, watched: _Watched) -> None:
        upload = watched.upload(body)
        course = self._course(upload)
        is_due = time.monotonic() >= course.asked_at + self._interval_seconds
        if is_due and upload.offset != course.offset and not (course.is_being_asked or course.stopped):
            course.asked_at, course.offset, course.is_being_asked = time.monotonic(), upload.offset, True
            task = asyncio.create_task(self._ask_about(course, body, upload, watched.caller))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask_about(self, course: _Course, body: Body, upload: Upload, caller: Caller) -> None:
        try:
            reply = await self._ask(upload, caller)
        finally:
            course.is_being_asked = False
        if reply is not None:
            course.stopped = Stopped(
                "upload has been stopped by server",
                status=reply.status or None,
                headers=reply.headers,
                body=reply.body,
            )
            body.interrupt(course.stopped)
