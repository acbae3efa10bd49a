"""A client that resumes: it believes what it was answered, asks where to go on after a failure, and reads all back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from s3scene import Scene, content, create, fill, new_upload

from tusd_py.core.upload import UploadId
from tusd_py.errors import TusError
from tusd_py.stores.s3 import S3Store

T = TypeVar("T")

MOST_TRIES = 20


class Resuming:
    """Sends `data` in bodies of these `sizes`; `process` gives the store of the process that a request reaches.

    `failed` is called after each request that failed, with what it failed with. `history` is every offset that was
    answered; `began_at` is that of the first body that counted: what comes before it may be another client's.
    """

    def __init__(
        self,
        data: bytes,
        sizes: Sequence[int],
        process: Callable[[], S3Store],
        failed: Callable[[TusError], object] = lambda _error: None,
    ) -> None:
        self.data = data
        self.sizes = sizes
        self.history = [0]
        self.errors: list[TusError] = []
        self.began_at = len(data)
        self.id: UploadId
        self._process = process
        self._failed = failed

    async def upload(self, *, with_creation: bool = False, is_deferred: bool = False) -> None:
        await self._persist(lambda: self._create(with_creation=with_creation, is_deferred=is_deferred))
        await self.resume()

    async def resume(self) -> None:
        turn = 0
        while True:
            found = await self._persist(lambda: self._process().read(self.id))
            assert found.offset >= self.history[-1], f"{self.history[-1]} were acknowledged, and now {found.offset}"
            self.history.append(found.offset)
            if found.is_available:
                return
            try:
                await self._send(found.offset, self.sizes[turn % len(self.sizes)])
            except TusError as error:
                self._note(error)
            turn += 1
            assert turn < 10 * MOST_TRIES, (found, self.errors[-3:])

    async def check(self, scene: Scene) -> None:
        """Every byte, as another process reads it."""
        assert await content(scene.store(), self.id) == self.data

    async def _create(self, *, with_creation: bool, is_deferred: bool) -> None:
        length = None if is_deferred else len(self.data)
        store = self._process()
        if not with_creation:
            self.id = await create(store, length)
            return
        made = new_upload(length)
        offset = await fill(await store.create(made, self.sizes[0]), self.data[: self.sizes[0]])
        self.id = made.id
        self.history.append(offset)

    async def _send(self, offset: int, size: int) -> None:
        store = self._process()
        stored = await store.open(self.id, offset)
        if stored.upload.offset != offset:
            await stored.close()
            return
        if stored.upload.length is None and offset + size >= len(self.data):
            await stored.close()
            await store.declare_length(self.id, len(self.data))
            stored = await store.open(self.id, offset)
        self.history.append(await fill(stored, self.data[offset : offset + size]))
        self.began_at = min(self.began_at, offset)
        assert self.history[-1] >= self.history[-2]

    async def _persist(self, call: Callable[[], Awaitable[T]]) -> T:
        """A POST or a HEAD, until it is answered."""
        for _ in range(MOST_TRIES):
            try:
                return await call()
            except TusError as error:
                self._note(error)
        raise AssertionError(self.errors)

    def _note(self, error: TusError) -> None:
        assert error.status in (409, 423, 500, 503), error  # what clients try again after
        self.errors.append(error)
        self._failed(error)
