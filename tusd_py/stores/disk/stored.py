"""One upload on the disk, opened by the holder of its lock: recover, append, finish.

The order of steps is what makes an offset durable: data on the disk first, then the record that counts it. With
`power` durability both are synced before the offset is answered; with `process` the kernel's page cache keeps them,
and the file's size is the offset.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from tusd_py.core.body import Body
from tusd_py.core.upload import State, Upload
from tusd_py.errors import upload_not_found
from tusd_py.stores.disk.failures import Failures
from tusd_py.stores.disk.files import Files, UnsyncedError, read_pieces, sync_data
from tusd_py.stores.disk.pace import Pace
from tusd_py.stores.disk.record import Record
from tusd_py.stores.disk.sink import BUFFER_BYTES, BufferPool, FileSink


@cache
def boot_id() -> str:
    """Names this boot of the machine; this process where the system does not tell, so that only what was committed
    counts after it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Disk:
    """What the uploads of one store share."""

    files: Files
    pace: Pace
    pool: BufferPool
    failures: Failures

    @property
    def boot(self) -> str | None:
        """What new records are stamped with: see `Record.boot`."""
        return boot_id() if self.files.is_durable else None


class StoredFile:
    """A `core.ports.StoredUpload`. Made by `recovered` or `created` only."""

    def __init__(self, disk: Disk, record: Record, file: int, offset: int, touched_at: float) -> None:
        self._disk = disk
        self._touched_at = touched_at
        self._record = record
        self._file = file
        self._offset = offset  # may be ahead of the record: see `_commit`

    @classmethod
    def created(cls, disk: Disk, upload: Upload) -> StoredFile:
        """Make the upload's files. Blocking."""
        record = Record(upload, boot=disk.boot)
        return cls(disk, record, disk.files.create(record), upload.offset, time.time())

    @classmethod
    def recovered(cls, disk: Disk, record: Record) -> StoredFile:
        """Open, cut strays (failures F9), and commit what a crash left written but not counted. Blocking."""
        is_durable = disk.files.is_durable
        flags = os.O_RDONLY if record.upload.is_available else os.O_RDWR
        file = os.open(disk.files.data_path(record), flags | os.O_CLOEXEC)
        try:
            data = os.fstat(file)
            size = data.st_size
            offset = record.offset(size, boot_id())
            if offset < record.upload.offset:
                raise upload_not_found()  # promise 5
            recovered = record.committed(offset, disk.boot)
            if not record.upload.is_available:
                if size > offset:
                    os.ftruncate(file, offset)
                if is_durable and recovered != record:
                    sync_data(file)
                # Where the size is the offset the record needs no word of it, but it must say that it is so.
                if is_durable or record.is_unverified or record.boot is not None:
                    record = disk.files.replace_record(record, recovered)
        except BaseException:
            os.close(file)
            raise
        return cls(disk, record, file, offset, data.st_mtime)

    @property
    def upload(self) -> Upload:
        return replace(self._record.upload, offset=self._offset, touched_at=self._touched_at, is_settled=True)

    async def append(self, body: Body) -> int:
        start = self._offset
        disk = self._disk
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

    async def finish(self) -> None:
        with self._disk.failures.translated():
            finished = replace(self._committed(self._offset).upload, state=State.AVAILABLE)
            await self._write_record(Record(finished, data_path=self._record.data_path))
            await self._disk.pace.run(self._unmark)

    async def close(self) -> None:
        if self._file >= 0:
            file, self._file = self._file, -1
            with suppress(OSError):  # what had to be on the disk was synced
                os.close(file)

    # Steps.

    async def _commit(self, offset: int) -> None:
        """Make everything up to `offset` count."""
        files = self._disk.files
        if files.is_durable:
            await self._disk.pace.run_in_thread(lambda: sync_data(self._file))
        # The last append needs no record of its own: `finish` follows and writes one. After a crash in between the
        # file's size tells the offset, and after a power cut nothing was answered yet.
        is_noted = files.is_durable or self._record.is_unverified or self._record.boot is not None
        if offset != self._record.upload.length and is_noted:
            await self._write_record(self._committed(offset))
        self._offset = offset
        self._touched_at = time.time()

    async def _discard(self, offset: int) -> None:
        """What was written since `offset` never was (tus S4)."""

        def discard() -> None:
            os.ftruncate(self._file, offset)
            self._disk.files.write_record(self._committed(offset))

        await self._disk.pace.run_in_thread(discard)
        self._record = self._committed(offset)

    def _checkpoint(self, offset: int) -> None:
        record = self._committed(offset)
        self._disk.files.write_record(record)
        self._record = record

    def _cut_unsynced(self) -> None:
        """After a failed sync the page cache may hold what the disk never got: only what was committed counts."""
        with suppress(OSError):
            os.ftruncate(self._file, self._record.upload.offset)

    def _committed(self, offset: int) -> Record:
        return self._record.committed(offset, self._disk.boot)

    async def _write_record(self, record: Record) -> None:
        files, pace = self._disk.files, self._disk.pace
        run = pace.run_in_thread if files.is_durable else pace.run
        await run(lambda: files.write_record(record))
        self._record = record

    async def _read_back(self, start: int, end: int) -> AsyncIterator[bytes]:
        pieces = read_pieces(self._file, start, end, BUFFER_BYTES)
        while piece := await self._disk.pace.run(lambda: next(pieces, b"")):
            yield piece

    def _unmark(self) -> None:
        files, upload = self._disk.files, self._record.upload
        files.unmark_unfinished(upload.id)
        for partial in dict.fromkeys(upload.partials):
            files.unmark_waiting(partial, upload.id)
