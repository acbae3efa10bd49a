"""A house with a store that writes down what is asked of it and fails when told to, for the tests of `core.uploads`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from feeding import END, Feed, Item

from tusd_py.core.announcer import Announcer
from tusd_py.core.body import Body
from tusd_py.core.checksum import Checksum
from tusd_py.core.commands import Append, Concatenate, Create
from tusd_py.core.digest import Digest
from tusd_py.core.events import NO_HOOKS, Hooks
from tusd_py.core.patience import Patience
from tusd_py.core.ports import StoredUpload
from tusd_py.core.rules import Rules
from tusd_py.core.upload import Metadata, Upload, UploadId
from tusd_py.core.uploads import Uploads
from tusd_py.errors import TusError
from tusd_py.lockers.memory import MemoryLocker
from tusd_py.stores.memory import MemoryStore, MemoryUpload

# What changes something in a store.
CHANGES = {"create", "append", "finish", "declare_length", "terminate", "concatenate", "note_waiting"}


class NotedUpload:
    """A `StoredUpload` whose calls are noted by its store."""

    def __init__(self, inner: MemoryUpload, store: NotedStore) -> None:
        self._inner, self._store = inner, store

    @property
    def upload(self) -> Upload:
        return self._inner.upload

    async def append(self, body: Body) -> int:
        await self._store.note("append")
        return await self._inner.append(body)

    async def finish(self, digest: Digest | None = None, *, owes: bool = False) -> None:
        await self._store.note("finish")
        await self._inner.finish(digest, owes=owes)

    async def close(self) -> None:
        self._store.opened.discard(self)


class NotedStore(MemoryStore):
    """The memory store; `calls` counts, `fail` makes the next one fail, `before` does something first."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.opened: set[NotedUpload] = set()
        self._before: dict[str, list[Callable[[], Awaitable[None]]]] = {}

    def before(self, verb: str, act: Callable[[], Awaitable[None]]) -> None:
        self._before.setdefault(verb, []).append(act)

    def fail(self, verb: str, error: Exception) -> None:
        async def act() -> None:
            raise error

        self.before(verb, act)

    async def note(self, verb: str) -> None:
        self.calls[verb] += 1
        if acts := self._before.get(verb):
            await acts.pop(0)()

    @property
    def changes(self) -> dict[str, int]:
        return {verb: count for verb, count in self.calls.items() if verb in CHANGES}

    def _noted(self, inner: MemoryUpload) -> NotedUpload:
        noted = NotedUpload(inner, self)
        self.opened.add(noted)
        return noted

    async def create(self, upload: Upload, first_bytes: int | None = None) -> StoredUpload:
        await self.note("create")
        return self._noted(await super().create(upload))

    async def open(self, upload_id: UploadId, expected_offset: int | None = None) -> StoredUpload:
        await self.note("open")
        return self._noted(await super().open(upload_id))

    async def declare_length(self, upload_id: UploadId, length: int) -> None:
        await self.note("declare_length")
        await super().declare_length(upload_id, length)

    async def terminate(self, upload_id: UploadId) -> bool:
        await self.note("terminate")
        return await super().terminate(upload_id)

    async def concatenate(self, final: UploadId, partials: Sequence[UploadId]) -> None:
        await self.note("concatenate")
        await super().concatenate(final, partials)

    async def note_waiting(self, final: UploadId, partials: Sequence[UploadId]) -> None:
        await self.note("note_waiting")
        await super().note_waiting(final, partials)


class Scene:
    """Uploads over a noted store; every verb in one line."""

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        stall_seconds: float = 0.05,
        timeout_seconds: float = 10.0,
        hooks: Hooks = NO_HOOKS,
    ) -> None:
        self.store = NotedStore()
        self.locker = MemoryLocker(timeout_seconds=timeout_seconds)
        self.uploads = Uploads(self.store, self.locker, rules or Rules(), Announcer(hooks=hooks))
        self.stall_seconds = stall_seconds

    def body(self, feed: Feed, checksum: Checksum | None = None) -> Body:
        return Body(feed, checksum=checksum, patience=Patience(self.stall_seconds, 60.0))

    async def create(self, length: int | None, *items: Item, feed: Feed | None = None, **fields: object) -> Upload:
        """Items are a body, whose end is added."""
        has_body = bool(items) or feed is not None
        command = Create(length=length, has_body=has_body, **fields)
        return await self.uploads.create(command, self.body(feed or Feed(*items, END), command.checksum))

    async def partial(self, length: int | None, *items: Item) -> Upload:
        return await self.create(length, *items, is_partial=True, concat="partial")

    async def append(
        self, upload_id: UploadId, offset: int, *items: Item, feed: Feed | None = None, **fields: object
    ) -> Upload:
        command = Append(upload_id, offset, **fields)
        return await self.uploads.append(command, self.body(feed or Feed(*items, END), command.checksum))

    async def final(self, *partials: UploadId, raw: str = "") -> Upload:
        concat = "final;" + " ".join(f"/files/{each}" for each in partials)
        return await self.uploads.concatenate(Concatenate(partials, concat, Metadata(raw)))

    async def content(self, upload_id: UploadId) -> bytes:
        upload = await self.store.read(upload_id)
        assert upload.is_available
        return b"".join([bytes(piece) async for piece in self.uploads.read_range(upload_id, 0, upload.offset)])

    def ids(self) -> set[UploadId]:
        return set(self.store._entries)

    def age(self, upload_id: UploadId, seconds: float) -> None:
        """Let the upload be untouched for so long."""
        entry = self.store._entries[upload_id]
        then = time.time() - seconds
        entry.upload = replace(entry.upload, created_at=then, touched_at=then)

    def is_quiet(self) -> bool:
        """Nothing is open or held any more."""
        return not self.store.opened and not self.locker._turns._locks and not self.uploads._bodies


@contextmanager
def refused(status: int, code: str | None = None) -> Iterator[pytest.ExceptionInfo[TusError]]:
    with pytest.raises(TusError) as caught:
        yield caught
    assert caught.value.status == status, caught.value
    if code is not None:
        assert caught.value.code == code, caught.value
