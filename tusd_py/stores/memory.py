"""Uploads in this process's memory: for tests and for trying things out. The shortest complete store there is, so
also the one to read before writing another.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

from tusd_py.core.body import Body
from tusd_py.core.checksum import Buffer
from tusd_py.core.digest import Digest
from tusd_py.core.upload import State, Upload, UploadId
from tusd_py.errors import upload_not_found

PIECE_BYTES = 256 * 1024


@dataclass(slots=True)
class _Entry:
    upload: Upload
    data: bytearray
    owes: bool = False


class _ArraySink:
    """A `core.body.Sink` that gathers pieces in an array."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._view = memoryview(bytearray(PIECE_BYTES))

    def buffer(self) -> memoryview:
        return self._view

    def filled(self, count: int) -> None:
        self.data += self._view[:count]


class MemoryUpload:
    """A `core.ports.StoredUpload`."""

    def __init__(self, entry: _Entry) -> None:
        self._entry = entry

    @property
    def upload(self) -> Upload:
        return self._entry.upload

    async def append(self, body: Body) -> int:
        sink = _ArraySink()
        await body.into(sink)

        async def read_back() -> AsyncIterator[Buffer]:
            yield sink.data

        if not await body.accepts(read_back):
            return 0
        entry = self._entry
        entry.data += sink.data
        entry.upload = replace(entry.upload, offset=len(entry.data), touched_at=time.time())
        return len(sink.data)

    async def finish(self, digest: Digest | None = None, *, owes: bool = False) -> None:
        async def read_back() -> AsyncIterator[Buffer]:
            yield self._entry.data

        text = await digest.text(read_back) if digest is not None else None
        self._entry.upload = replace(self._entry.upload, state=State.AVAILABLE, digest=text)
        self._entry.owes = owes

    async def close(self) -> None:
        pass


class MemoryStore:
    """A `core.ports.Store` with every capability. Bytes count at the end of each append and end with the process."""

    def __init__(self) -> None:
        self._entries: dict[UploadId, _Entry] = {}
        self._waiting: dict[UploadId, set[UploadId]] = {}

    async def aclose(self) -> None:
        pass

    def storage(self, _upload: Upload) -> dict[str, str]:
        return {"Type": "memory"}

    def placed(self, _upload: Upload, _storage: Mapping[str, str]) -> Upload:
        raise ValueError("there are no places in memory to choose")

    async def create(self, upload: Upload, first_bytes: int | None = None) -> MemoryUpload:
        if upload.id in self._entries:
            raise FileExistsError(upload.id)
        entry = _Entry(replace(upload, touched_at=time.time()), bytearray())
        self._entries[upload.id] = entry
        return MemoryUpload(entry)

    async def read(self, upload_id: UploadId) -> Upload:
        return self._entry(upload_id).upload

    async def open(self, upload_id: UploadId, expected_offset: int | None = None) -> MemoryUpload:
        return MemoryUpload(self._entry(upload_id))

    async def declare_length(self, upload_id: UploadId, length: int) -> None:
        entry = self._entry(upload_id)
        entry.upload = replace(entry.upload, length=length)

    async def terminate(self, upload_id: UploadId) -> bool:
        entry = self._entries.pop(upload_id, None)
        for partial in entry.upload.partials if entry else ():
            self._waiting.get(partial, set()).discard(upload_id)
        return entry is not None

    async def concatenate(self, final: UploadId, partials: Sequence[UploadId]) -> None:
        data = bytearray().join(self._entry(partial).data for partial in partials)
        entry = self._entry(final)
        entry.data = data
        entry.upload = replace(entry.upload, length=len(data), offset=len(data), touched_at=time.time())

    async def note_waiting(self, final: UploadId, partials: Iterable[UploadId]) -> None:
        for partial in partials:
            self._waiting.setdefault(partial, set()).add(final)

    async def waiting_for(self, partial: UploadId) -> list[UploadId]:
        return list(self._waiting.get(partial, ()))

    async def unfinished(self) -> AsyncIterator[Upload]:
        for entry in list(self._entries.values()):
            if entry.owes or not entry.upload.is_available:
                yield entry.upload

    async def settle(self, upload_id: UploadId) -> None:
        if upload_id in self._entries:
            self._entries[upload_id].owes = False

    async def is_sweep_due(self, interval_seconds: float) -> bool:
        return True

    async def sweep_leftovers(self, hold: Callable[[UploadId], AbstractAsyncContextManager[None]]) -> int:
        removed = 0
        for partial, finals in list(self._waiting.items()):
            done = {each for each in finals if each not in self._entries or self._entries[each].upload.is_available}
            removed += len(done)
            self._waiting[partial] = finals - done
            if not self._waiting[partial]:
                del self._waiting[partial]
        return removed

    async def list_ids(self, cursor: str, count: int) -> tuple[list[UploadId], str]:
        ids = sorted(each for each in self._entries if each > cursor)
        return ids[:count], ids[count - 1] if len(ids) > count else ""

    async def read_range(self, upload_id: UploadId, start: int, end: int) -> AsyncGenerator[Buffer, None]:
        data = self._entry(upload_id).data
        for position in range(start, end, PIECE_BYTES):
            yield data[position : min(position + PIECE_BYTES, end)]

    def _entry(self, upload_id: UploadId) -> _Entry:
        try:
            return self._entries[upload_id]
        except KeyError:
            raise upload_not_found() from None
