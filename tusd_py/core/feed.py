"""What happens to uploads, told live to whoever watches, in this process and in the others that share them.

The core tells of it, `web` watches. While nobody does, here or elsewhere, it costs next to nothing: bodies are asked
how far they are twice a second, and told of only if there is an audience. News may be late and may be lost: who misses
some is told so, and looks at the uploads themselves.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from tusd_py.core.body import Body
from tusd_py.core.ports import StoredUpload
from tusd_py.core.progress import ACTIVE_SECONDS, Course, Progress
from tusd_py.core.upload import Metadata, State, Upload, UploadId

TELL_EVERY_SECONDS = 0.5
LINGER_SECONDS = 30.0
"""For so long after the last one who watched, news are still gathered: most of them come back."""
_LONGEST_HISTORY = 4_096
_MOST_PENDING = 10_000
_MOST_KNOWN = 20_000
_LONGEST_NUMBER = 19
_OVER_SECONDS = 5.0
"""For so long after the end of an upload, news from before it may come from other processes."""


@dataclass(frozen=True, slots=True)
class News:
    """Of one upload: how it is now, or None and the reason why it is gone.

    `received` counts its bytes that have arrived, >= its offset; `is_active`: a request brings more just now.
    """

    upload_id: UploadId
    upload: Upload | None
    received: int = 0
    is_active: bool = False
    reason: str = ""

    @property
    def is_over(self) -> bool:
        return self.upload is None or self.upload.is_available

    @property
    def is_resting(self) -> bool:
        """Whether a body has ended here, or has brought nothing yet."""
        return self.is_active and self.upload is not None and self.received == self.upload.offset

    def encode(self) -> bytes:
        """One line of ASCII, for other processes."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, line: bytes) -> News:
        """Raises ValueError, KeyError or TypeError for what another version may have said."""
        fields = json.loads(line)
        if (upload := fields.pop("upload")) is not None:
            upload["metadata"] = Metadata(**upload["metadata"])
            upload["state"] = State(upload["state"])
            upload["partials"] = tuple(upload["partials"])
            upload = Upload(**upload)
        return cls(upload=upload, **fields)


@dataclass(frozen=True, slots=True)
class _Known:
    news: News
    at: float  # of the loop's clock


class Relay(Protocol):
    """The way to the other processes that share the uploads. No call waits or raises."""

    @property
    def has_listeners(self) -> bool:
        """Whether another process listens now, as far as is known."""
        ...

    def send(self, upload_id: UploadId, message: bytes) -> None:
        """Tell those that listen a line about an upload. Lines about one upload arrive in order, or not at all."""
        ...

    def listen(self, heard: Callable[[bytes], None], missed: Callable[[], None]) -> None:
        """Hear what the others send, until `leave`; `missed` is called when something may have been lost."""
        ...

    def leave(self) -> None: ...


class Feed:
    """The news of all uploads. One for each process; for one event loop, once somebody watches or sends bytes."""

    def __init__(self, relay: Relay | None = None) -> None:
        self._relay = relay
        self._bodies: dict[Body, tuple[StoredUpload, int]] = {}  # and the offset at which it began
        self._told: dict[Body, tuple[int, bool]] = {}  # how much of it, and whether that it pauses there
        self._known: OrderedDict[UploadId, _Known] = OrderedDict()  # the newest that was heard of each
        self._active: set[UploadId] = set()  # until somebody says that they are not, or nobody says anything
        self._timer: asyncio.TimerHandle | None = None
        self._watches: set[Watch] = set()
        self._course = Course()
        self._history: deque[tuple[int, News]] = deque(maxlen=_LONGEST_HISTORY)
        self._count = 0
        self._epoch = ""  # of the history; none while nobody watches
        self._lingering: asyncio.TimerHandle | None = None
        self._is_stopped = False

    @property
    def has_audience(self) -> bool:
        return bool(self._epoch) or (self._relay is not None and self._relay.has_listeners)

    # What the core tells.

    def body_begins(self, stored: StoredUpload, body: Body) -> None:
        """Bytes of an upload may come now. Each call is followed by one of `body_ended`."""
        self._bodies[body] = stored, stored.upload.offset
        self._keep_telling()

    def body_ended(self, stored: StoredUpload, body: Body) -> None:
        del self._bodies[body]
        if self.has_audience:
            upload = stored.upload
            self._told.pop(body, None)
            goes_on = body.error is None and not upload.is_available  # most often the next body follows at once
            self._tell(News(upload.id, upload, upload.offset, is_active=goes_on))

    def changed(self, upload: Upload) -> None:
        if self.has_audience:
            self._tell(News(upload.id, upload, upload.offset))

    def removed(self, upload_id: UploadId, reason: str) -> None:
        """`reason` is for programs: `terminated`, `expired`, or `unknown`: it never was."""
        if self.has_audience:
            self._tell(News(upload_id, None, reason=reason))

    def stop(self) -> None:
        """Nobody is told anything any more."""
        self._is_stopped = True
        for watch in self._watches:
            watch.end()
        self._forget()

    # What those ask who want to know.

    @contextmanager
    def watch(self, upload_ids: frozenset[UploadId] | None, since: str = "") -> Iterator[Watch]:
        """News of these uploads, or of all. `since` is the `place` where one was before."""
        self._begin()
        watch = Watch(upload_ids)
        self._watches.add(watch)
        self._catch_up(watch, since)
        if self._is_stopped:
            watch.end()
        try:
            yield watch
        finally:
            self._watches.discard(watch)
            self._linger()

    def place(self, number: int | None = None) -> str:
        """What `watch` takes as `since`: behind the news of this number, or behind all."""
        return f"{self._epoch}-{self._count if number is None else number}"

    def progress(self, upload_id: UploadId) -> Progress | None:
        """How an upload has been going on, if that is known here. Who asks wants to know more soon, so from now on it
        is gathered for a while."""
        self._begin()
        if not self._watches:
            self._linger()
        return self._course.of(upload_id)

    # Steps.

    def _tell(self, news: News) -> None:
        if self._relay is not None and self._relay.has_listeners:
            self._relay.send(news.upload_id, news.encode())
        self._hear(news)

    def _hear(self, news: News) -> None:
        if not self._epoch or self._is_old(news):
            return
        self._known[news.upload_id] = _Known(news, asyncio.get_running_loop().time())
        self._known.move_to_end(news.upload_id)
        if len(self._known) > _MOST_KNOWN:
            self._active.discard(self._known.popitem(last=False)[0])
        if news.is_active:
            self._active.add(news.upload_id)
            self._keep_telling()
        else:
            self._active.discard(news.upload_id)
        if news.is_over:
            self._course.forget(news.upload_id)
        else:
            self._course.note(news.upload_id, news.received, is_active=news.is_active)
        self._count += 1
        self._history.append((self._count, news))
        for watch in self._watches:
            watch.hear(self._count, news)

    def _heard(self, line: bytes) -> None:
        try:
            news = News.decode(line)
        except (ValueError, KeyError, TypeError):
            self._missed()
            return
        self._hear(news)

    def _missed(self) -> None:
        self._history.clear()
        self._count += 1  # here is a hole
        for watch in self._watches:
            watch.miss()

    def _is_old(self, news: News) -> bool:
        """Whether it was overtaken: what several processes say of an upload may come in another order than it was."""
        known = self._known.get(news.upload_id)
        if known is None or news.upload is None:
            return False
        before = known.news.upload
        if before is None or (before.is_available and not news.is_over):
            return asyncio.get_running_loop().time() < known.at + _OVER_SECONDS
        return news.upload.offset < before.offset

    def _keep_telling(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TELL_EVERY_SECONDS, self._tell_now_and_then)

    def _tell_now_and_then(self) -> None:
        self._timer = None
        self._tell_of_bodies()
        self._tell_of_silence()
        if self._bodies or self._active:
            self._keep_telling()

    def _tell_of_silence(self) -> None:
        """Each process to those that watch here: which body, wherever it was, no other one has followed, and of which
        nothing was heard for long, whose process may be dead."""
        now = asyncio.get_running_loop().time()
        for known in [self._known[each] for each in self._active]:
            if known.at <= now - (TELL_EVERY_SECONDS if known.news.is_resting else ACTIVE_SECONDS):
                self._hear(replace(known.news, is_active=False))

    def _tell_of_bodies(self) -> None:
        if not self.has_audience:
            self._told.clear()
            return
        for body, (stored, began_at) in self._bodies.items():
            told, is_pause_told = self._told.get(body, (-1, False))
            if body.received != told or not is_pause_told:
                self._told[body] = body.received, body.received == told
                upload = stored.upload
                received = max(began_at + body.received, upload.offset)
                self._tell(News(upload.id, upload, received, is_active=True))

    def _begin(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if not self._epoch and not self._is_stopped:
            self._epoch = secrets.token_hex(4)
            if self._relay is not None:
                self._relay.listen(self._heard, self._missed)

    def _linger(self) -> None:
        if not self._watches and self._epoch:
            self._lingering = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._forget)

    def _forget(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self._epoch and self._relay is not None:
            self._relay.leave()
        self._epoch = ""
        self._history.clear()
        self._known.clear()
        self._active.clear()
        self._course = Course()

    def _catch_up(self, watch: Watch, since: str) -> None:
        epoch, _, number = since.partition("-")
        oldest = self._history[0][0] if self._history else self._count + 1
        is_number = number.isdecimal() and len(number) < _LONGEST_NUMBER
        if epoch != self._epoch or not is_number or not oldest - 1 <= int(number) <= self._count:
            watch.miss()
            return
        for each, news in self._history:
            if each > int(number):
                watch.hear(each, news)


class Watch:
    """What somebody who watches has not been told yet: of each upload the newest, so that who is slow misses only
    steps in between. `has_missed`: more than that was lost, so look at the uploads themselves; whoever does sets it
    back first."""

    def __init__(self, upload_ids: frozenset[UploadId] | None) -> None:
        self.has_missed = False
        self.is_over = False
        self._upload_ids = upload_ids
        self._pending: dict[UploadId, tuple[int, News]] = {}
        self._has_news = asyncio.Event()

    def hear(self, number: int, news: News) -> None:
        if self._upload_ids is not None and news.upload_id not in self._upload_ids:
            return
        self._pending.pop(news.upload_id, None)  # the newest stands last
        self._pending[news.upload_id] = (number, news)
        if len(self._pending) > _MOST_PENDING:
            self._pending.clear()
            self.has_missed = True
        self._has_news.set()

    def miss(self) -> None:
        self.has_missed = True
        self._has_news.set()

    def end(self) -> None:
        self.is_over = True
        self._has_news.set()

    async def news(self) -> list[tuple[int, News]]:
        """What is new, in order; waits until there is something, or it `is_over`, or one `has_missed` something."""
        await self._has_news.wait()
        self._has_news.clear()
        news = list(self._pending.values())
        self._pending.clear()
        return news
