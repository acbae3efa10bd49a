"""A whole upload against a directory, and a file system whose calls fail on demand: for the tests of the disk."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import anyio

from tusd_py.core.body import Body, Sink, pour, unexpected_eof
from tusd_py.core.checksum import Checksum
from tusd_py.core.commands import Append, Create
from tusd_py.core.rules import Rules
from tusd_py.core.upload import Metadata, UploadId
from tusd_py.core.uploads import Uploads
from tusd_py.lockers.memory import MemoryLocker
from tusd_py.stores.disk import DiskStore

MODULES = ("descriptors", "files", "journal", "marks", "stored", "store")


class Crash(BaseException):
    """The process dies here: every later call of it fails too."""


class Fault:
    """Counts file calls; at call number `at` does what `fail` does, from then on too if it is a crash."""

    def __init__(self, at: int | None, fail: BaseException) -> None:
        self.at, self.fail, self.has_struck = at, fail, False
        self.calls: list[str] = []

    @property
    def count(self) -> int:
        return len(self.calls)

    def before(self, name: str) -> None:
        self.calls.append(name)
        is_over = self.has_struck and not isinstance(self.fail, Crash)
        if self.at is not None and self.count >= self.at and not is_over:
            self.has_struck = True
            raise type(self.fail)(*self.fail.args)  # a new one: with its traceback it keeps open what should be closed


CALLS = [
    "open",
    "stat",
    "fstat",
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
                if sys._getframe(1).f_code.co_name != "__del__":  # Python's doing, not the store's, and at any time
                    fault.before(_name)
            except (OSError, Crash):
                if _name == "close":  # the kernel closes whatever it answers, and what a dead process had open
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
        await pour(self.data, sink)
        if self.breaks:
            raise unexpected_eof()
        return None


class Paused:
    """A source that hands over `data`, then waits for `go_on`, then ends with `checksum` as its trailer."""

    def __init__(self, data: bytes, checksum: Checksum | None = None) -> None:
        self.data, self.checksum = data, checksum
        self.is_over, self.go_on = anyio.Event(), anyio.Event()

    async def fill(self, sink: Sink) -> Checksum | None:
        await pour(self.data, sink)
        self.is_over.set()
        await self.go_on.wait()
        return self.checksum


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


def server(path: Path, *, is_durable: bool, finishes_by_size: bool = True) -> Uploads:
    """What a process sees that has just been started on the directory."""
    store = DiskStore(path, is_durable=is_durable, finishes_by_size=finishes_by_size)
    store.prepare()
    return Uploads(store, MemoryLocker(timeout_seconds=5), Rules(expire_after_seconds=3600))


def leftovers(path: Path) -> list[str]:
    """What is there that belongs to no upload: files in the work folder, data without a record, and the reverse; and
    what is marked unfinished and is not, or is unfinished and not marked, so that it would never expire.

    An upload whose creation died before its answer is whole, unknown to its client, and goes when it expires.
    """
    work = path / ".tusd-py"
    unfinished = {each.stem for each in path.glob("*.info") if is_unfinished(path, each.stem)}
    files = [each for each in work.rglob("*") if each.is_file() and each.parent.name not in ("unfinished", "journals")]
    files = [each for each in files if not (each.parts[-3] == "waiting" and each.name in unfinished)]
    files += [each for each in (work / "waiting").iterdir() if not any(each.iterdir())]
    names = {each.name for each in path.iterdir() if each.is_file()}
    odd = [
        name
        for name in names
        if name.removesuffix(".info") not in names or f"{name.removesuffix('.info')}.info" not in names
    ]
    wrong = [f"marked {each}" for each in marked(path) - unfinished]
    wrong += [f"not marked {each}" for each in unfinished - marked(path)]
    return sorted([str(each.relative_to(work)) for each in files] + odd + wrong)


def marked(path: Path) -> set[str]:
    """The ids that anybody who looks for unfinished uploads will look at."""
    lines = {line for each in journals(path) for line in each.read_text("ascii").split("\n")}
    noted = {line[1:] for line in lines if line.startswith("+") and f"-{line[1:]}" not in lines}
    return noted | {each.name for each in (path / ".tusd-py/unfinished").iterdir()}


def journals(path: Path) -> list[Path]:
    return [*(path / ".tusd-py/journals").iterdir()]


def is_unfinished(path: Path, upload_id: str) -> bool:
    """As the files say it, read without the store's help."""
    record = json.loads((path / f"{upload_id}.info").read_bytes())
    ours = record["TusdPy"]
    is_size_true = ours["FinishesBySize"] and ours["Boot"] is None and not ours["IsUnverified"]
    if is_size_true and (path / upload_id).stat().st_size == record["Size"]:
        return False
    return bool(ours["State"] != "available")
