"""The disk store: `core.ports.Store` and every capability, over one directory. The layout is in the package's
docstring; what makes bytes durable is in `stored`, what a crash can leave is in `files`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio.lowlevel

from tusd_py.core.checksum import Buffer
from tusd_py.core.upload import Upload, UploadId
from tusd_py.errors import ConfigError, RequestError, TusError, upload_not_found
from tusd_py.stores.disk.descriptors import read_pieces
from tusd_py.stores.disk.failures import Failures, advice
from tusd_py.stores.disk.files import Files, UnreadableRecordError
from tusd_py.stores.disk.pace import Pace
from tusd_py.stores.disk.record import Record
from tusd_py.stores.disk.settling import Settling
from tusd_py.stores.disk.sink import BUFFER_BYTES, BufferPool
from tusd_py.stores.disk.stored import Disk, StoredFile, boot_id, snapshot

Hold = Callable[[UploadId], AbstractAsyncContextManager[None]]


class DiskStore:
    """Uploads in `directory`, which is made if it is missing.

    `is_durable`: data and record are on the disk before an offset is answered, so it survives a power cut; without,
    it survives the death of the server. Any number of processes may use one directory, with a locker they share.
    `finishes_by_size`: without `is_durable`, an upload is available as soon as its last byte is written, and `finish`
    writes nothing. Not for those who want a say in what becomes available.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        is_durable: bool = True,
        finishes_by_size: bool = True,
        dir_permissions: int = 0o775,
        file_permissions: int = 0o664,
    ) -> None:
        settling = Settling()
        pace = Pace(settling)
        files = Files(
            Path(directory),
            is_durable=is_durable,
            dir_permissions=dir_permissions,
            file_permissions=file_permissions,
            in_background=pace.run_in_background,
            settling=settling,
        )
        self._disk = Disk(files, pace, BufferPool(), Failures(files.directory), finishes_by_size)

    @property
    def directory(self) -> str:
        return self._disk.files.directory

    def prepare(self) -> None:
        """Make the folders and see that files can be made in them. Raises ConfigError saying what to do. Blocking."""
        try:
            self._disk.files.prepare()
        except OSError as error:
            what = "it cannot be made there" if isinstance(error, FileNotFoundError) else advice(error)
            raise ConfigError(f"--upload-dir: cannot store uploads in {self.directory}: {what}") from error

    def probe(self) -> None:
        """See whether uploads can be written now. Raises OSError. Blocking, for as long as the disk hangs."""
        self._disk.files.probe()

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        self._disk.pace.close()
        self._disk.files.marks.close()

    async def create(self, upload: Upload, first_bytes: int | None = None) -> StoredFile:
        disk = self._disk
        with disk.failures.translated():
            return await disk.run_step(lambda: StoredFile.created(disk, upload, first_bytes), StoredFile.uncreate)

    async def read(self, upload_id: UploadId) -> Upload:
        with self._disk.failures.translated():
            return await self._disk.pace.run(lambda: self._read(upload_id))

    async def open(self, upload_id: UploadId, expected_offset: int | None = None) -> StoredFile:
        disk = self._disk
        with disk.failures.translated():
            stored = await disk.pace.run(lambda: StoredFile.opened(disk, upload_id))
            if stored.needs_repair:
                run = disk.pace.run_in_thread if disk.files.is_durable else disk.pace.run
                try:
                    await run(stored.repair)
                except BaseException:
                    await stored.close()
                    raise
            return stored

    # core.ports.Places

    def storage(self, upload: Upload) -> dict[str, str]:
        place = upload.place or upload.id
        path = os.path.join(self.directory, place)
        return {"Type": "filestore", "Path": path, "InfoPath": f"{self.directory}/{upload.id}.info"}

    def placed(self, upload: Upload, storage: Mapping[str, str]) -> Upload:
        place = storage.get("Path")
        if not place:
            return upload
        self._disk.files.refuse_bad_place(place)
        return replace(upload, place=place)

    async def declare_length(self, upload_id: UploadId, length: int) -> None:
        files = self._disk.files

        def declare() -> None:
            record = files.read_own_record(upload_id)
            files.write_record(replace(record, upload=replace(record.upload, length=length)))

        with self._disk.failures.translated():
            await self._disk.pace.run_step(declare)

    async def terminate(self, upload_id: UploadId) -> bool:
        files = self._disk.files

        def terminate() -> bool:
            try:
                record, _ = files.read_record(upload_id)
            except TusError:
                files.remove(upload_id)  # half gone already
                return False
            files.remove(upload_id, files.data_path(record))
            for waited_for in dict.fromkeys(record.upload.partials):
                files.marks.unmark_waiting(waited_for, upload_id)
            return True

        with self._disk.failures.translated():
            return await self._disk.pace.run_in_thread(terminate)

    async def concatenate(self, final: UploadId, partials: Sequence[UploadId]) -> None:
        files, pace = self._disk.files, self._disk.pace

        def look() -> tuple[Record, list[str]]:
            paths = [files.data_path(files.read_record(each)[0]) for each in partials]
            return files.read_own_record(final), paths

        def commit(length: int) -> None:
            record, _ = files.read_record(final)
            record = replace(record, upload=replace(record.upload, length=length))
            files.write_record(record.committed(length, self._disk.boot))

        with self._disk.failures.translated():
            length = 0
            copying = files.copy_into_place(*await pace.run_in_thread(look))
            try:
                while (done := await pace.run_in_thread(lambda: next(copying, None))) is not None:
                    length = done
            finally:
                copying.close()
            await pace.run_in_thread(lambda: commit(length))

    async def note_waiting(self, final: UploadId, partials: Iterable[UploadId]) -> None:
        with self._disk.failures.translated():
            await self._disk.pace.run_in_thread(lambda: self._disk.files.marks.mark_waiting(set(partials), final))

    async def waiting_for(self, partial: UploadId) -> list[UploadId]:
        with self._disk.failures.translated():
            return await self._disk.pace.run(lambda: self._disk.files.marks.waiting_for(partial))

    async def unfinished(self) -> AsyncIterator[Upload]:
        with self._disk.failures.translated():
            marked = await self._disk.pace.run_in_thread(self._disk.files.marks.unfinished)
        for upload_id in marked:
            await anyio.lowlevel.checkpoint()  # there may be thousands, and requests wait
            upload = await self._read_if_there(upload_id)
            if upload is not None:
                yield upload

    async def settle(self, upload_id: UploadId) -> None:
        with self._disk.failures.translated():
            await self._disk.pace.run(lambda: self._disk.files.marks.clear(upload_id))

    async def is_sweep_due(self, interval_seconds: float) -> bool:
        return True

    async def sweep_leftovers(self, hold: Hold) -> int:
        files, run = self._disk.files, self._disk.pace.run_in_thread
        marks, removed = files.marks, 0
        with self._disk.failures.translated():
            await run(marks.tidy)
            for upload_id in await run(marks.unfinished):
                removed += await self._swept(hold, upload_id, partial(self._sweep_mark, upload_id))
            for upload_id, path in await run(files.temporaries):
                removed += await self._swept(hold, upload_id, partial(files.remove_temporary, upload_id, path))
            for waited_for in await run(marks.waited_for):
                for final in await run(partial(marks.waiting_for, waited_for)):
                    removed += await self._swept(hold, final, partial(self._sweep_waiting, waited_for, final))
                await run(partial(marks.remove_empty_waiting, waited_for))
        return removed

    async def list_ids(self, cursor: str, count: int) -> tuple[list[UploadId], str]:
        with self._disk.failures.translated():
            ids = await self._disk.pace.run_in_thread(lambda: self._disk.files.ids_after(cursor, count + 1))
        return ids[:count], ids[count - 1] if len(ids) > count else ""

    async def read_range(self, upload_id: UploadId, start: int, end: int) -> AsyncGenerator[Buffer, None]:
        files, pace = self._disk.files, self._disk.pace

        def open_data() -> int:
            return os.open(files.data_path(files.read_record(upload_id)[0]), os.O_RDONLY | os.O_CLOEXEC)

        with self._disk.failures.translated():
            descriptor = await pace.run(open_data)
            try:
                pieces = read_pieces(descriptor, start, end, BUFFER_BYTES)
                # Not from the page cache, perhaps, so in a thread: a reader must not slow the writers (failures F28).
                while piece := await pace.run_in_thread(lambda: next(pieces, b"")):
                    yield piece
            finally:
                os.close(descriptor)

    # Steps.

    def _read(self, upload_id: UploadId) -> Upload:
        record, data = self._disk.files.read_record(upload_id)
        found = record.offset(data.st_size, boot_id())
        if found < record.upload.offset:
            raise upload_not_found()  # promise 5: bytes that were answered are gone
        # Where the record does not trust the size, only committed bytes may be answered; the lock's holder, or who
        # takes the lock, commits the rest. Where it does, the size may have been answered; we commit it if we can.
        is_committed = found == record.upload.offset
        offset = found if record.boot is None else record.upload.offset
        is_settled = is_committed or (record.boot is None and not self._disk.files.is_durable)
        return snapshot(record.upload, offset=offset, touched_at=data.st_mtime, is_settled=is_settled)

    async def _read_if_there(self, upload_id: UploadId) -> Upload | None:
        """None without a record, or without data: that is for `sweep_leftovers`."""
        with self._disk.failures.translated():
            try:
                return await self._disk.pace.run(lambda: self._read(upload_id))
            except (RequestError, UnreadableRecordError):
                return None

    async def _swept(self, hold: Hold, upload_id: UploadId, sweep: Callable[[], int]) -> int:
        try:
            async with hold(upload_id):
                return await self._disk.pace.run_in_thread(sweep)
        except RequestError:
            return 0  # held (failures F27)
        except OSError as error:  # one leftover must not keep the others
            self._disk.failures.log(error)
            return 0

    def _sweep_mark(self, upload_id: UploadId) -> int:
        files = self._disk.files
        try:
            files.read_record(upload_id)
        except RequestError:  # a record without data is lost, data without a record never was: nothing can come of it
            return files.remove(upload_id)
        except UnreadableRecordError as error:
            if not files.has_bytes(upload_id):  # a creation that nobody was told of (failures F12)
                return files.remove(upload_id)
            self._disk.failures.log(error)  # somebody's bytes: for people to look at
        return 0

    def _sweep_waiting(self, waited_for: UploadId, final: UploadId) -> int:
        files = self._disk.files
        if files.has_record(final) and not self._read(final).is_available:
            return 0
        files.marks.unmark_waiting(waited_for, final)
        return 1
