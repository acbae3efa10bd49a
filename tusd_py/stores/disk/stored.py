"""One upload on the disk, opened by the holder of its lock: recover, append, finish.

The order of steps is what makes an offset durable: data on the disk first, then the record that counts it. With
`power` durability both are synced before the offset is answered; with `process` the kernel's page cache keeps them,
and the file's size is the offset.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from tusd_py.core.body import Body
from tusd_py.core.digest import Digest
from tusd_py.core.upload import State, Upload, UploadId
from tusd_py.errors import upload_not_found
from tusd_py.stores.disk.descriptors import UnsyncedError, read_pieces, sync_data
from tusd_py.stores.disk.failures import Failures
from tusd_py.stores.disk.files import Files
from tusd_py.stores.disk.pace import Pace
from tusd_py.stores.disk.record import Record
from tusd_py.stores.disk.sink import BUFFER_BYTES, BufferPool, FileSink

T = TypeVar("T")

_SHORT_BYTES = 1024 * 1024
"""Less than this is soon on the disk."""


@cache
def boot_id() -> str:
    """Names this boot of the machine; this process where the system does not tell, so that only what was committed
    counts after it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return secrets.token_hex(16)


_INDEXES = {each.name: index for index, each in enumerate(fields(Upload))}
_values = attrgetter(*_INDEXES)


def snapshot(upload: Upload, **changes: object) -> Upload:
    """dataclasses.replace at half its price: each request takes several."""
    values = list(_values(upload))
    for name, value in changes.items():
        values[_INDEXES[name]] = value
    return Upload(*values)


@dataclass(frozen=True, slots=True)
class Disk:
    """What the uploads of one store share."""

    files: Files
    pace: Pace
    pool: BufferPool
    failures: Failures
    finishes_by_size: bool

    @property
    def boot(self) -> str | None:
        """What new records are stamped with: see `Record.boot`."""
        return boot_id() if self.files.is_durable else None

    def run_step(self, call: Callable[[], T], undo: Callable[[T], object] | None = None) -> Awaitable[T]:
        """Run what makes a change count: it waits for the disk where that is asked for. `undo`: see `Pace.run_step`."""
        return self.pace.run_step(call, undo) if self.files.is_durable else self.pace.run(call)


class StoredFile:
    """A `core.ports.StoredUpload`. Made by `created` or `opened` only; then repaired, if it needs that."""

    def __init__(self, disk: Disk, record: Record, file: int, offset: int, touched_at: float) -> None:
        self._disk = disk
        self._touched_at = touched_at
        self._record = record
        self._file = file
        self._offset = offset  # may be ahead of the record, and of the disk: see `_commit`
        self._state = record.upload.state  # likewise: see `finish`
        self._has_strays = False
        self._is_recorded = True
        self._owes_sync = False
        self._upload: Upload | None = None  # the snapshot, while it is true

    @classmethod
    def created(cls, disk: Disk, upload: Upload, first_bytes: int | None) -> StoredFile:
        """Make the upload's files. What waits for the disk waits once, where the first bytes are few: then these make
        the record. Blocking."""
        by_size = disk.finishes_by_size and not (disk.files.is_durable or upload.length is None or upload.is_final)
        record = Record(upload, boot=disk.boot, finishes_by_size=by_size)
        is_plain = not (upload.is_named or upload.place)
        is_recorded = not (is_plain and disk.files.is_durable) or first_bytes is None or first_bytes >= _SHORT_BYTES
        file = disk.files.create(record, is_recorded=is_recorded)
        stored = cls(disk, record, file, upload.offset, time.time())
        stored._is_recorded = is_recorded
        return stored

    def uncreate(self) -> None:
        """Take back what `created` made. Blocking."""
        os.close(self._file)
        self._disk.files.remove(self._record.upload.id)

    @classmethod
    def opened(cls, disk: Disk, upload_id: UploadId) -> StoredFile:
        """Open as it stands. Blocking."""
        record = disk.files.read_own_record(upload_id)
        flags = os.O_RDONLY if record.upload.is_available else os.O_RDWR
        try:
            file = os.open(disk.files.data_path(record), flags | os.O_CLOEXEC)
        except FileNotFoundError:
            raise upload_not_found() from None
        try:
            data = os.fstat(file)
            record = record.seen(data.st_size)
            offset = record.offset(data.st_size, boot_id())
            if offset < record.upload.offset:
                raise upload_not_found()  # promise 5
            stored = cls(disk, record, file, offset, data.st_mtime)
            stored._has_strays = data.st_size > offset
            return stored
        except BaseException:
            os.close(file)
            raise

    @property
    def needs_repair(self) -> bool:
        """Whether there are strays, or bytes that a crash or another durability left written but not counted."""
        record = self._record
        if record.upload.is_available:
            return False
        return self._has_strays or (self._must_note and record != self._committed(self._offset))

    def repair(self) -> None:
        """Cut strays (failures F9), and commit what is written but not counted. Blocking."""
        record, recovered = self._record, self._committed(self._offset)
        if self._has_strays:
            os.ftruncate(self._file, self._offset)
        if self._disk.files.is_durable and recovered != record:
            try:
                sync_data(self._file)
            except UnsyncedError:
                self._cut_unsynced()
                raise
        # Where the size is the offset the record needs no word of it, but it must say that it is so.
        if self._must_note:
            self._record = self._disk.files.replace_record(record, recovered)
        self._has_strays = False

    @property
    def upload(self) -> Upload:
        if self._upload is None:
            self._upload = snapshot(
                self._record.upload,
                offset=self._offset,
                state=self._state,
                touched_at=self._touched_at,
                is_settled=True,
            )
        return self._upload

    async def append(self, body: Body) -> int:
        start, disk = self._offset, self._disk
        with disk.failures.translated():
            if body.is_atomic:
                await self._write_record(replace(self._committed(start), is_unverified=True))
            elif body.may_be_discarded and not disk.files.is_durable:
                # Until its end nobody may be told the size; after a crash it counts as in any other body.
                await self._write_record(replace(self._committed(start), boot=boot_id()))
            checkpoint = self._checkpoint if disk.files.is_durable and not body.may_be_discarded else None
            sink = FileSink(self._file, start, disk.pool, disk.pace, checkpoint)
            try:
                await body.into(sink)
                await sink.flush()
                end = start + sink.written
                if await body.accepts(lambda: self._read_back(start, end)):
                    await self._commit(end)
                else:
                    await self._discard(start)
            except UnsyncedError:
                await sink.release()  # its thread may be committing
                self._cut_unsynced()
                raise
            finally:
                await sink.release()
        return self._offset - start

    async def finish(self, digest: Digest | None = None, *, owes: bool = False) -> None:
        with self._disk.failures.translated():
            try:
                if digest is not None or not self._record.is_finished_at(self._offset):
                    text = await digest.text(lambda: self._read_back(0, self._offset)) if digest is not None else None
                    finished = replace(self._committed(self._offset).upload, state=State.AVAILABLE, digest=text)
                    await self._write_record(Record(finished))
                elif self._owes_sync:
                    await self._disk.run_step(self._sync)
            except UnsyncedError:
                self._cut_unsynced()
                raise
            self._state, self._upload = State.AVAILABLE, None
            await self._disk.pace.run(lambda: self._disk.files.marks.finish(self._record.upload, owes=owes))

    async def close(self) -> None:
        if self._file >= 0:
            file, self._file = self._file, -1
            with suppress(OSError):  # what had to be on the disk was synced
                os.close(file)

    # Steps.

    async def _commit(self, offset: int) -> None:
        """Make everything up to `offset` count."""
        if self._disk.files.is_durable:
            if offset - self._offset < _SHORT_BYTES:
                self._owes_sync = True  # in one step with the record
            else:
                await self._disk.pace.run_in_thread(lambda: sync_data(self._file))
        # The last append needs no record of its own: `finish` follows and writes one. After a crash in between the
        # file's size tells the offset, and after a power cut nothing was answered yet.
        if offset != self._record.upload.length and self._must_note:
            await self._write_record(self._committed(offset))
        self._offset = offset
        self._touched_at = time.time()
        self._upload = None

    async def _discard(self, offset: int) -> None:
        """What was written since `offset` never was (tus S4)."""

        def discard() -> None:
            os.ftruncate(self._file, offset)
            self._checkpoint(offset)

        await self._disk.pace.run_in_thread(discard)

    def _checkpoint(self, offset: int) -> None:
        self._set_record(self._committed(offset))

    def _cut_unsynced(self) -> None:
        """After a failed sync the page cache may hold what the disk never got: only what was committed counts."""
        with suppress(OSError):
            os.ftruncate(self._file, self._record.upload.offset)

    @property
    def _must_note(self) -> bool:
        """Whether the record has to say which bytes count, or that they do not finish: the size alone must not."""
        record, disk = self._record, self._disk
        is_by_size = record.finishes_by_size and not disk.finishes_by_size
        return disk.files.is_durable or record.is_unverified or record.boot is not None or is_by_size

    def _committed(self, offset: int) -> Record:
        record = self._record.committed(offset, self._disk.boot)
        if record.finishes_by_size and not self._disk.finishes_by_size:
            return replace(record, finishes_by_size=False)
        return record

    async def _write_record(self, record: Record) -> None:
        await self._disk.run_step(lambda: self._set_record(record))

    def _sync(self) -> None:
        if self._owes_sync:
            sync_data(self._file)
            self._owes_sync = False

    def _set_record(self, record: Record) -> None:
        files = self._disk.files
        self._sync()
        write = files.write_record if self._is_recorded else files.write_first_record
        write(record)
        self._record, self._is_recorded = record, True

    async def _read_back(self, start: int, end: int) -> AsyncIterator[bytes]:
        pieces = read_pieces(self._file, start, end, BUFFER_BYTES)
        while piece := await self._disk.pace.run(lambda: next(pieces, b"")):
            yield piece
