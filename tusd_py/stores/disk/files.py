"""The blocking file calls of the disk store, by what they mean for an upload. Each is one step that a crash leaves
either done or not done; the order of steps is the store's.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tusd_py.core.upload import UploadId, parse_id
from tusd_py.errors import upload_not_found
from tusd_py.stores.disk.record import Record

WORK_FOLDER = ".tusd-py"
TEMPORARY_FOLDER = "tmp"

_COPY_BYTES = 64 * 1024 * 1024
# What copy_file_range answers between file systems, on old kernels and on special ones.
_CANNOT_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF}


class Files:
    """The files of one upload directory. `is_durable`: a step is on the disk before it returns."""

    def __init__(self, directory: Path, *, is_durable: bool, dir_permissions: int, file_permissions: int) -> None:
        self.directory = str(directory.absolute())
        self.is_durable = is_durable
        self._dir_permissions = dir_permissions
        self._file_permissions = file_permissions
        work = f"{self.directory}/{WORK_FOLDER}"
        self._unfinished = f"{work}/unfinished"
        self._waiting = f"{work}/waiting"
        self._temporary = f"{work}/{TEMPORARY_FOLDER}"

    def prepare(self) -> None:
        """Make the folders, and see that files can be made in them."""
        for folder in (self.directory, self._unfinished, self._waiting, self._temporary):
            os.makedirs(folder, self._dir_permissions, exist_ok=True)
        probe = f"{self._temporary}/probe.{secrets.token_hex(8)}"
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, self._file_permissions))
        _unlink(probe)  # another process's sweep may have been there first

    # Records.

    def read_record(self, upload_id: UploadId) -> tuple[Record, os.stat_result]:
        """The record and the state of the data file, as they stood together at one moment.

        Raises upload_not_found for what is not there or was lost.
        """
        path = f"{self.directory}/{upload_id}.info"
        while True:
            try:
                text, before = _read_file(path)
                record, data = self._decode(upload_id, text)
                after = os.stat(path)
            except FileNotFoundError:
                self._refuse_if_unmounted()
                raise upload_not_found() from None
            if (before.st_ino, before.st_ctime_ns) == (after.st_ino, after.st_ctime_ns):
                return record, data

    def _decode(self, upload_id: UploadId, text: bytes) -> tuple[Record, os.stat_result]:
        try:
            record = Record.decode(text)
        except ValueError as error:
            raise OSError(errno.EIO, f"{error}", f"{upload_id}.info") from error
        try:
            data = os.stat(self.data_path(record))
        except FileNotFoundError:
            raise upload_not_found() from None
        return record.seen(data.st_size), data

    def write_record(self, record: Record) -> None:
        """Replace the record: written beside, then renamed, so that no crash tears it (failures F12)."""
        upload_id = record.upload.id
        with self.temporary(upload_id) as (path, descriptor):
            write_all(descriptor, memoryview(record.encode(self.directory)), 0)
            if self.is_durable:
                os.fsync(descriptor)
            os.rename(path, f"{self.directory}/{upload_id}.info")
        self.sync_directory()

    def replace_record(self, old: Record, new: Record) -> Record:
        """Write `new` if it says something else than `old`."""
        if new != old:
            self.write_record(new)
        return new

    @contextmanager
    def temporary(self, upload_id: UploadId) -> Iterator[tuple[str, int]]:
        """A new file in the work folder to be renamed into place; goes away if it was not."""
        path = f"{self._temporary}/{upload_id}.{secrets.token_hex(4)}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, self._file_permissions)
        try:
            yield path, descriptor
        except BaseException:
            with suppress(OSError):
                os.unlink(path)
            raise
        finally:
            os.close(descriptor)

    def sync_directory(self, directory: str | None = None) -> None:
        if self.is_durable:
            descriptor = os.open(directory or self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    # Data.

    def data_path(self, record: Record) -> str:
        """Where the bytes are: beside the record, or where tusd was told, but never outside the directory."""
        if record.data_path is None:
            return f"{self.directory}/{record.upload.id}"
        path = os.path.realpath(record.data_path)
        if not path.startswith(os.path.realpath(self.directory) + "/"):
            raise upload_not_found()
        return path

    def create(self, record: Record) -> int:
        """Make a new upload: mark, data file, record, in this order, so that what a crash leaves has a mark.

        Returns the descriptor of the data file. Raises FileExistsError if the id is taken.
        """
        upload_id = record.upload.id
        if os.path.exists(f"{self.directory}/{upload_id}.info"):
            raise FileExistsError(errno.EEXIST, "upload exists", upload_id)
        self.mark_unfinished(upload_id)
        flags = os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC
        descriptor = os.open(f"{self.directory}/{upload_id}", flags, self._file_permissions)
        try:
            self.write_record(record)
        except BaseException:
            os.close(descriptor)
            with suppress(OSError):
                self.remove(upload_id)
            raise
        return descriptor

    def remove(self, upload_id: UploadId, data_path: str | None = None) -> None:
        """Remove everything of an upload; the mark first and last, so that the sweep can end what a crash cut."""
        with suppress(OSError):  # a full or read-only disk must not keep anybody from deleting
            self.mark_unfinished(upload_id)
        for path in (f"{self.directory}/{upload_id}.info", data_path or f"{self.directory}/{upload_id}"):
            _unlink(path)
        self.sync_directory()
        self.unmark_unfinished(upload_id)

    def copy_into_place(self, upload_id: UploadId, sources: list[str]) -> Generator[int, None, None]:
        """Join the files into the upload's data file, which appears whole at the end; yields bytes done so far."""
        with self.temporary(upload_id) as (path, target):
            done = 0
            for source in sources:
                for count in _copy(source, target, done):
                    done += count
                    yield done
            if self.is_durable:
                sync_data(target)
            os.rename(path, f"{self.directory}/{upload_id}")
        self.sync_directory()

    # Marks.

    def mark_unfinished(self, upload_id: UploadId) -> None:
        """Not synced by itself: journals keep it with the record that is synced next, and without it nothing is lost,
        only an expired upload stays."""
        flags = os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC
        os.close(os.open(f"{self._unfinished}/{upload_id}", flags, self._file_permissions))

    def unmark_unfinished(self, upload_id: UploadId) -> None:
        _unlink(f"{self._unfinished}/{upload_id}")

    def marked_unfinished(self) -> list[UploadId]:
        return _ids(self._unfinished)

    def has_record(self, upload_id: UploadId) -> bool:
        return os.path.exists(f"{self.directory}/{upload_id}.info")

    def mark_waiting(self, partials: Iterable[UploadId], final: UploadId) -> None:
        for partial in partials:
            self._mark_waiting(partial, final)
        self.sync_directory(self._waiting)

    def _mark_waiting(self, partial: UploadId, final: UploadId) -> None:
        folder = f"{self._waiting}/{partial}"
        flags = os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC
        while True:
            os.makedirs(folder, self._dir_permissions, exist_ok=True)
            try:
                os.close(os.open(f"{folder}/{final}", flags, self._file_permissions))
                break
            except FileNotFoundError:
                self._refuse_if_unmounted()  # else somebody removed the empty folder in between
        self.sync_directory(folder)

    def unmark_waiting(self, partial: UploadId, final: UploadId) -> None:
        _unlink(f"{self._waiting}/{partial}/{final}")
        self.remove_empty_waiting(partial)

    def remove_empty_waiting(self, partial: UploadId) -> None:
        with suppress(OSError):
            os.rmdir(f"{self._waiting}/{partial}")

    def waiting_for(self, partial: UploadId) -> list[UploadId]:
        return _ids(f"{self._waiting}/{partial}")

    def marked_waiting(self) -> list[UploadId]:
        return _ids(self._waiting)

    # Leftovers.

    def temporaries(self) -> list[tuple[UploadId, str]]:
        """Files on their way into place, with the upload they are for: leftovers if nobody holds it."""
        found = []
        for name in os.listdir(self._temporary):
            upload_id = parse_id(name.partition(".")[0])
            if upload_id is not None:
                found.append((upload_id, f"{self._temporary}/{name}"))
        return found

    def remove_temporary(self, path: str) -> int:
        _unlink(path)
        return 1

    def _refuse_if_unmounted(self) -> None:
        """A directory that is gone, or a mount point with nothing mounted, is a failure and no 404 for everybody."""
        if not os.path.isdir(self._unfinished):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._unfinished)


class UnsyncedError(OSError):
    """The disk did not take what the page cache holds; the kernel tells this once and forgets."""


def sync_data(descriptor: int) -> None:
    """Bring a file's bytes to the disk. Raises UnsyncedError: then what was not synced before may be lost."""
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        raise UnsyncedError(error.errno, error.strerror) from error


def _read_file(path: str) -> tuple[bytes, os.stat_result]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 1 << 22), os.fstat(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: memoryview, position: int) -> None:
    """Write all of `data` at `position`; a disk that fills up takes what fits before it raises."""
    while data:
        count = os.pwrite(descriptor, data, position)
        data = data[count:]
        position += count


def read_pieces(descriptor: int, start: int, end: int, piece_bytes: int) -> Iterator[bytes]:
    """The bytes [start, end) in pieces. Raises EIO if the file is shorter: the bytes were lost."""
    while start < end:
        piece = os.pread(descriptor, min(piece_bytes, end - start), start)
        if not piece:
            raise OSError(errno.EIO, "the file is shorter than its record says")
        yield piece
        start += len(piece)


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


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _ids(folder: str) -> list[UploadId]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [upload_id for upload_id in map(parse_id, names) if upload_id is not None]
