"""What is left over of bodies is kept for the next ones, in memory or in files, and never more of it than may be."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest
from s3scene import MIB, Scene, add, content, create, some

from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError
from tusd_py.stores.s3 import S3Store
from tusd_py.stores.s3 import warm as warm_module

pytestmark = pytest.mark.anyio

Write = Callable[..., int]
LENGTH = 4 * MIB + 1
MEMORY = {"memory_bytes": 16 * MIB}


async def _receive(store: S3Store, count: int) -> dict[UploadId, bytes]:
    """Uploads that lack their last byte, and what they are to become: in PATCHes of 1 MiB, each in its turn."""
    uploads = {await create(store, LENGTH): some(LENGTH) for _ in range(count)}
    for offset in range(0, LENGTH - 1, MIB):
        for upload_id, data in uploads.items():
            assert await add(store, upload_id, data[offset : offset + MIB], offset) == offset + MIB
            assert store.bucket.memory.used_bytes <= MEMORY["memory_bytes"]
    return uploads


async def _finish(store: S3Store, uploads: dict[UploadId, bytes]) -> None:
    for upload_id, data in uploads.items():
        assert await add(store, upload_id, data[-1:], LENGTH - 1) == LENGTH
        assert await content(store, upload_id) == data


async def test_tails_beyond_the_memory_wait_in_files(scene: Scene) -> None:
    store = scene.store(**MEMORY)
    uploads = await _receive(store, 8)
    assert "GetObject" not in scene.calls()
    assert sum(store.bucket.warm._filed.values()) > MEMORY["memory_bytes"]
    await _finish(store, uploads)
    assert not store.bucket.warm._filed
    assert store.bucket.memory.used_bytes == 0


async def test_files_take_twice_the_memory_and_what_is_beyond_is_read_again(scene: Scene) -> None:
    store = scene.store(**MEMORY)
    uploads = await _receive(store, 12)
    assert scene.calls()["GetObject"]
    assert 0 < sum(store.bucket.warm._filed.values()) <= 2 * MEMORY["memory_bytes"]
    await _finish(store, uploads)


async def test_there_are_so_many_files(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_module, "_MOST_FILES", 2)
    store = scene.store(**MEMORY)
    uploads = await _receive(store, 8)
    assert len(store.bucket.warm._filed) == 2
    await _finish(store, uploads)


class FullDisk:
    """Takes nothing as long as there are more files than `most`."""

    def __init__(self, store: S3Store, most: int, write: Write) -> None:
        self._store, self._most, self._write = store, most, write
        self.refused = 0

    def __call__(self, file: int, data: memoryview, start: int) -> int:
        if len(self._store.bucket.warm._filed) <= self._most:
            return self._write(file, data[:1000], start)  # as little as a kernel may
        self.refused += 1
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_kept_files_make_room_on_a_full_disk(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    store = scene.store(**MEMORY)
    disk = FullDisk(store, 3, os.pwrite)
    monkeypatch.setattr(os, "pwrite", disk)
    uploads = await _receive(store, 8)
    assert disk.refused
    await _finish(store, uploads)


async def test_what_finds_no_room_in_a_file_is_read_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    store = scene.store(**MEMORY)
    disk = FullDisk(store, -1, os.pwrite)
    monkeypatch.setattr(os, "pwrite", disk)
    uploads = await _receive(store, 5)
    assert disk.refused
    assert scene.calls()["GetObject"]
    await _finish(store, uploads)


async def test_pieces_that_are_not_in_the_cache_are_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a file system that cannot tell: the read that may wait is in a thread."""
    read = os.preadv

    def preadv(file: int, pieces: list[memoryview], start: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return read(file, pieces, start)

    monkeypatch.setattr(os, "preadv", preadv)
    store = scene.store(**MEMORY)
    await _finish(store, await _receive(store, 8))


async def test_a_file_that_is_too_short_is_never_sent(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    store = scene.store(**MEMORY)
    uploads = await _receive(store, 8)
    upload_id = next(iter(store.bucket.warm._filed))
    file = store.bucket.warm._known[upload_id].tail._file
    assert file is not None
    file.truncate(MIB)
    with pytest.raises(BackendError):
        await add(store, upload_id, uploads[upload_id][-1:], LENGTH - 1)
    assert (await store.read(upload_id)).offset == LENGTH - 1
    await _finish(store, uploads)
