"""A whole upload against a directory, and a file system whose calls fail on demand: for the fault tests of the disk."""

from __future__ import annotations

import hashlib
import os
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from tusd_py.core.body import Body, Sink, unexpected_eof
from tusd_py.core.checksum import Checksum
from tusd_py.core.commands import Append, Create
from tusd_py.core.rules import Rules
from tusd_py.core.upload import Metadata, UploadId
from tusd_py.core.uploads import Uploads
from tusd_py.lockers.memory import MemoryLocker
from tusd_py.stores.disk import DiskStore

MODULES = ("files", "stored", "store")


class Crash(BaseException):
    """The process dies here: every later call of it fails too."""


class Fault:
    """Counts file calls; at call number `at` does what `fail` does, from then on too if it is a crash."""

    def __init__(self, at: int | None, fail: BaseException) -> None:
        self.at, self.fail, self.count, self.has_struck = at, fail, 0, False

    def before(self, _name: str) -> None:
        self.count += 1
        is_over = self.has_struck and not isinstance(self.fail, Crash)
        if self.at is not None and self.count >= self.at and not is_over:
            self.has_struck = True
            raise self.fail


CALLS = [
    "open",
    "close",
    "read",
    "write",
    "pread",
    "pwrite",
    "fsync",
    "fdatasync",
    "ftruncate",
    "rename",
    "unlink",
    "copy_file_range",
    "listdir",
    "makedirs",
    "rmdir",
]


@contextmanager
def file_calls(fault: Fault) -> Iterator[None]:
    """Let the disk store see an `os` whose calls go through `fault`."""
    proxy = types.SimpleNamespace(**{name: getattr(os, name) for name in dir(os)})
    for name in CALLS:

        def call(*args: object, _name: str = name, **kwargs: object) -> object:
            try:
                fault.before(_name)
            except OSError:
                if _name == "close":  # the kernel closes whatever it answers
                    os.close(*args)
                raise
            return getattr(os, _name)(*args, **kwargs)

        setattr(proxy, name, call)
    patches = [mock.patch(f"tusd_py.stores.disk.{module}.os", proxy) for module in MODULES]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


class Bytes:
    """A `core.body.Source` of `data` that may break at its end."""

    def __init__(self, data: bytes, *, breaks: bool = False) -> None:
        self.data, self.breaks = data, breaks

    async def fill(self, sink: Sink) -> Checksum | None:
        left = memoryview(self.data)
        while left:
            room = sink.buffer()
            count = min(len(room), len(left))
            room[:count] = left[:count]
            pause = sink.filled(count)
            if pause is not None:
                await pause
            left = left[count:]
        if self.breaks:
            raise unexpected_eof()
        return None


class Client:
    """Sends `data` in chunks and remembers what was answered. `acknowledged` never goes down, or it is a bug."""

    def __init__(self, data: bytes, chunk: int, *, checksummed: bool = False) -> None:
        self.data, self.chunk, self.checksummed = data, chunk, checksummed
        self.upload_id: UploadId | None = None
        self.acknowledged = 0
        self.sent = 0

    async def send(self, uploads: Uploads) -> None:
        """Go on from wherever the server stands, to the end; raises what the server raises."""
        if self.upload_id is None:
            created = await uploads.create(
                Create(len(self.data), Metadata("name YQ==", {"name": "a"})), Body(Bytes(b""))
            )
            self.upload_id = created.id
        upload = await uploads.inspect(self.upload_id)
        assert self.acknowledged <= upload.offset <= self.sent
        while not upload.is_available:
            piece = self.data[upload.offset : upload.offset + self.chunk]
            checksum = Checksum("sha1", hashlib.sha1(piece).digest()) if self.checksummed else None
            self.sent = max(self.sent, upload.offset + len(piece))
            command = Append(self.upload_id, upload.offset, content_length=len(piece), checksum=checksum)
            upload = await uploads.append(command, Body(Bytes(piece), checksum=checksum))
            self.acknowledged = upload.offset

    async def verify(self, uploads: Uploads) -> None:
        assert self.upload_id is not None
        pieces = [bytes(piece) async for piece in uploads.read_range(self.upload_id, 0, len(self.data))]
        assert b"".join(pieces) == self.data


def server(path: Path, *, is_durable: bool) -> Uploads:
    """What a process sees that has just been started on the directory."""
    store = DiskStore(path, is_durable=is_durable)
    store.prepare()
    return Uploads(store, MemoryLocker(timeout_seconds=5), Rules(expire_after_seconds=3600))


def leftovers(path: Path) -> list[str]:
    """What is there that belongs to no upload: files in the work folder, data without a record, and the reverse.

    An upload whose creation died before its answer is whole, unknown to its client, and goes when it expires.
    """
    work = path / ".tusd-py"
    found = [each for each in work.rglob("*") if each.is_file() or each.parent.name == "waiting"]
    found = [each for each in found if not (each.parent.name == "unfinished" and _is_unfinished(path, each.name))]
    names = {each.name for each in path.iterdir() if each.is_file()}
    odd = [
        name
        for name in names
        if name.removesuffix(".info") not in names or f"{name.removesuffix('.info')}.info" not in names
    ]
    return sorted([str(each.relative_to(work)) for each in found] + odd)


def _is_unfinished(path: Path, upload_id: str) -> bool:
    record = path / f"{upload_id}.info"
    return record.exists() and '"State":"available"' not in record.read_text()
