"""The blocking file calls of the disk store, by what they mean for an upload. Each is one step that a crash leaves
either done or not done; the order of steps is the store's. What needs attention is in `marks`.
"""

from __future__ import annotations

import errno
import heapq
import os
import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tusd_py.core.upload import UploadId, parse_id
from tusd_py.errors import TusError, upload_not_found
from tusd_py.stores.disk.descriptors import read_all, remove, sync_data, sync_directory, write_all
from tusd_py.stores.disk.journal import Journal
from tusd_py.stores.disk.marks import Marks
from tusd_py.stores.disk.record import Record, RecordCache
from tusd_py.stores.disk.settling import Settling

WORK_FOLDER = ".tusd-py"
TEMPORARY_FOLDER = "tmp"

_RECORD_BYTES = 4096
"""Most records are shorter. A larger buffer costs more than the reading: it is made anew each time."""

_ASIDE = ".gone"
"""How records that were put aside end in the folder of temporary files, and nothing else does."""

_COPY_BYTES = 64 * 1024 * 1024
# What copy_file_range answers between file systems, on old kernels and on special ones.
_CANNOT_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF}


class UnreadableRecordError(OSError):
    """What stands in place of a record is none."""


class Files:
    """The files of one upload directory. `is_durable`: a step is on the disk before it returns."""

    def __init__(
        self,
        directory: Path,
        *,
        is_durable: bool,
        dir_permissions: int,
        file_permissions: int,
        in_background: Callable[[Callable[[], None]], object],
        settling: Settling,
    ) -> None:
        self.directory = str(directory.absolute())
        self.is_durable = is_durable
        self._settling = settling
        self._dir_permissions = dir_permissions
        self._file_permissions = file_permissions
        work = f"{self.directory}/{WORK_FOLDER}"
        self._temporary = f"{work}/{TEMPORARY_FOLDER}"
        journal = Journal(
            f"{work}/journals",
            is_durable=is_durable,
            file_permissions=file_permissions,
            in_background=in_background,
        )
        self.marks = Marks(
            work, journal, is_durable=is_durable, dir_permissions=dir_permissions, file_permissions=file_permissions
        )
        self._records = RecordCache()

    def prepare(self) -> None:
        """Make the folders, and see that files can be made in them."""
        for folder in (self.directory, *self.marks.folders, self._temporary):
            os.makedirs(folder, self._dir_permissions, exist_ok=True)
        self._try_to_make(b"")  # from a full disk uploads can still be read

    def probe(self) -> None:
        """See that a file can be made and written in the folders, and make none of them: they may be unmounted."""
        self._try_to_make(b"x")

    def _try_to_make(self, content: bytes) -> None:
        path = f"{self._temporary}/probe.{secrets.token_hex(8)}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, self._file_permissions)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
            remove(path)  # another process's sweep may have been there first

    # Records.

    def read_record(self, upload_id: UploadId) -> tuple[Record, os.stat_result]:
        """The record and the state of the data file, as they stood together at one moment, for whoever asks.

        Raises upload_not_found for what is not there or was lost.
        """
        path = f"{self.directory}/{upload_id}.info"
        while True:
            descriptor = self._open_record(path)
            try:
                record = self._decode(upload_id, descriptor)
                data = os.stat(self.data_path(record))
                if record.upload.is_available:  # nobody changes it any more
                    return record, data
                # While it is open no other file has its number.
                if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                    return record.seen(data.st_size), data
            except FileNotFoundError:
                raise upload_not_found() from None
            finally:
                os.close(descriptor)

    def read_own_record(self, upload_id: UploadId) -> Record:
        """The record alone, for whoever holds the lock, so that nobody else changes it.

        Raises upload_not_found.
        """
        descriptor = self._open_record(f"{self.directory}/{upload_id}.info")
        try:
            return self._decode(upload_id, descriptor)
        finally:
            os.close(descriptor)

    def _open_record(self, path: str) -> int:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self.marks.refuse_if_unmounted()
            raise upload_not_found() from None

    def _decode(self, upload_id: UploadId, descriptor: int) -> Record:
        text = read_all(descriptor, 0, _RECORD_BYTES)
        record = self._records.get(upload_id, text)
        if record is None:
            try:
                record = Record.decode(text)
            except ValueError as error:
                raise UnreadableRecordError(errno.EBADMSG, f"{error}", f"{upload_id}.info") from error
            self._records.keep(text, record)
        return record

    def write_record(self, record: Record) -> None:
        """Replace the record: written beside, then renamed, so that no crash tears it (failures F12)."""
        self._put_record(record)
        self._sync_directory()  # at once, also in a batch: who asks meanwhile may be told what it says

    def write_first_record(self, record: Record) -> None:
        """The record of an upload that was created without, whose bytes are on the disk already."""
        self._put_record(record)
        self._settle_directory()

    def _put_record(self, record: Record) -> None:
        upload_id = record.upload.id
        with self.temporary(upload_id) as (path, descriptor):
            self._fill(descriptor, record.encode(self.directory))
            os.rename(path, f"{self.directory}/{upload_id}.info")

    def replace_record(self, old: Record, new: Record) -> Record:
        """Write `new` if it says something else than `old`."""
        if new != old:
            self.write_record(new)
        return new

    def _fill(self, descriptor: int, text: bytes) -> None:
        write_all(descriptor, text, 0)
        if self.is_durable:
            os.fsync(descriptor)

    @contextmanager
    def temporary(self, upload_id: UploadId) -> Iterator[tuple[str, int]]:
        """A new file in the work folder to be renamed into place; goes away if it was not."""
        path = self._new_temporary(upload_id)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, self._file_permissions)
        try:
            yield path, descriptor
        except BaseException:
            with suppress(OSError):
                os.unlink(path)
            raise
        finally:
            os.close(descriptor)

    def _new_temporary(self, upload_id: UploadId) -> str:
        return f"{self._temporary}/{upload_id}.{secrets.token_hex(4)}"

    def _sync_directory(self) -> None:
        if self.is_durable:
            sync_directory(self.directory)

    def _settle_directory(self) -> None:
        if self.is_durable:
            self._settling.need(self._sync_directory)

    def _settle_notes(self) -> None:
        if self.is_durable:
            self._settling.need(self.marks.sync_notes)

    def ids_after(self, cursor: str, count: int) -> list[UploadId]:
        """The first ids of uploads behind the cursor, sorted. A second for a million uploads."""
        names = (name.removesuffix(".info") for name in os.listdir(self.directory) if name.endswith(".info"))
        ids = (parse_id(name) for name in names if name > cursor)
        return heapq.nsmallest(count, (each for each in ids if each is not None))

    # Data.

    def data_path(self, record: Record) -> str:
        """Where the bytes are: beside the record, or where tusd was told, but never outside the directory."""
        if record.upload.place is None:
            return f"{self.directory}/{record.upload.id}"
        path = os.path.realpath(os.path.join(self.directory, record.upload.place))
        if not path.startswith(os.path.realpath(self.directory) + "/"):
            raise upload_not_found()
        return path

    def refuse_bad_place(self, place: str) -> None:
        """Raise ValueError for a place that no upload's bytes may have."""
        directory = self.directory
        path = os.path.normpath(os.path.join(directory, place))
        if not path.startswith(directory + "/") or place.endswith("/") or "\0" in place:
            raise ValueError(f"Path {place!r} is no file below the upload directory")
        if f"{path}/".startswith(f"{directory}/{WORK_FOLDER}/") or path.endswith(".info"):
            raise ValueError(f"Path {place!r} is the server's own")

    def create(self, record: Record, *, is_recorded: bool = True) -> int:
        """Make a new upload: mark, data file, record, in this order, so that what a crash leaves has a mark. Without
        `is_recorded` the record is left to `write_first_record`: data without one never was.

        Returns the descriptor of the data file. Raises FileExistsError if the id is taken.
        """
        upload = record.upload
        may_come_again = upload.may_come_again  # so others may look while it is being made
        if (may_come_again or not is_recorded) and self.has_record(upload.id):
            raise FileExistsError(errno.EEXIST, "upload exists", upload.id)
        if may_come_again:
            self.marks.mark(upload.id)
        else:
            self.marks.note(upload.id)
        if upload.place is not None:
            return self._create_elsewhere(record)
        path = self.data_path(record)
        flags = os.O_CREAT | (os.O_TRUNC if may_come_again else os.O_EXCL) | os.O_RDWR | os.O_CLOEXEC
        descriptor = os.open(path, flags, self._file_permissions)
        try:
            if may_come_again:
                self.write_record(record)
            elif is_recorded:
                self._write_new_record(record)
            else:
                self._settle_notes()  # before bytes are on the disk, which only the note would tell of
        except BaseException as error:
            os.close(descriptor)
            with suppress(OSError):
                if isinstance(error, FileExistsError):  # somebody's record, whose data was lost
                    remove(path)
                else:
                    self.remove(upload.id)
            raise
        return descriptor

    def _create_elsewhere(self, record: Record) -> int:
        """Where a hook wants the data. The record comes first: nothing else tells of a file that a crash leaves there.
        Raises FileExistsError if there is a file."""
        path = self.data_path(record)
        os.makedirs(os.path.dirname(path), self._dir_permissions, exist_ok=True)
        self.write_record(record)
        self._settle_notes()
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            descriptor = os.open(path, flags, self._file_permissions)
        except OSError:
            self.remove(record.upload.id)
            raise
        if self.is_durable:
            sync_directory(os.path.dirname(path))
        return descriptor

    def _write_new_record(self, record: Record) -> None:
        """In place, since nobody looks for it yet. What a crash tears has an empty data file and is a leftover."""
        path = f"{self.directory}/{record.upload.id}.info"
        text = record.encode(self.directory)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        descriptor = os.open(path, flags, self._file_permissions)
        try:
            self._fill(descriptor, text)
        finally:
            os.close(descriptor)
        self._settle_directory()
        self._settle_notes()
        self._records.keep(text, record)

    def remove(self, upload_id: UploadId, data_path: str | None = None) -> bool:
        """Remove everything of an upload. Its record goes to the work folder first and from there last, so that nobody
        finds it any more and the sweep can end what a crash cut. Nothing is created for that: ext4 takes long to find
        an inode for a new file beside removed ones.

        Tells whether there was anything.
        """
        path, aside = f"{self.directory}/{upload_id}.info", f"{self._new_temporary(upload_id)}{_ASIDE}"
        try:
            os.rename(path, aside)
            had_record = True
        except OSError:  # there is none; or the disk is full, which must not keep anybody from deleting
            had_record = remove(path)
        had_data = remove(data_path or f"{self.directory}/{upload_id}")
        self._sync_directory()
        self.marks.clear(upload_id)
        remove(aside)
        return had_record or had_data

    def copy_into_place(self, final: Record, sources: list[str]) -> Generator[int, None, None]:
        """Join the files into the upload's data file, which appears whole at the end; yields bytes done so far."""
        data_path = self.data_path(final)
        with self.temporary(final.upload.id) as (path, target):
            done = 0
            for source in sources:
                for count in _copy(source, target, done):
                    done += count
                    yield done
            if self.is_durable:
                sync_data(target)
            os.rename(path, data_path)
        if self.is_durable:
            sync_directory(os.path.dirname(data_path))

    def has_record(self, upload_id: UploadId) -> bool:
        return os.path.exists(f"{self.directory}/{upload_id}.info")

    def has_bytes(self, upload_id: UploadId) -> bool:
        """Whether there is a data file that is not empty."""
        try:
            return os.stat(f"{self.directory}/{upload_id}").st_size > 0
        except FileNotFoundError:
            return False

    # Leftovers.

    def temporaries(self) -> list[tuple[UploadId, str]]:
        """Files on their way into place or out, with the upload they are for: leftovers if nobody holds it."""
        found = []
        for name in os.listdir(self._temporary):
            upload_id = parse_id(name.partition(".")[0])
            if upload_id is not None:
                found.append((upload_id, f"{self._temporary}/{name}"))
        return found

    def remove_temporary(self, upload_id: UploadId, path: str) -> int:
        if path.endswith(_ASIDE) and not self.has_record(upload_id):  # it was being removed
            remove(self._data_path_in(path) or f"{self.directory}/{upload_id}")
        remove(path)
        return 1

    def _data_path_in(self, path: str) -> str | None:
        """Where a record that was put aside says its bytes are. Nothing that a client sent may be read as one."""
        try:
            with open(path, "rb") as file:
                return self.data_path(Record.decode(file.read()))
        except (OSError, ValueError, TusError):
            return None  # it was torn before


def _copy(source: str, target: int, position: int) -> Iterator[int]:
    """Append a file at `position` of the descriptor `target`, in the kernel where it can; yields bytes copied."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise upload_not_found() from None  # removed meanwhile
    try:
        left = size = os.fstat(descriptor).st_size
        while left:
            try:
                count = os.copy_file_range(
                    descriptor, target, min(left, _COPY_BYTES), offset_src=size - left, offset_dst=position
                )
            except OSError as error:
                if error.errno not in _CANNOT_COPY:
                    raise
                piece = os.pread(descriptor, 1 << 20, size - left)
                write_all(target, memoryview(piece), position)
                count = len(piece)
            if count == 0:
                raise OSError(errno.EIO, "a partial upload became shorter", source)
            left -= count
            position += count
            yield count
    finally:
        os.close(descriptor)
