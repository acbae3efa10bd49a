"""Whatever happens in whatever order to uploads on two servers with one directory: in the end what is unfinished is
known to be, exactly, and nothing else is left.
"""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario import Bytes, Crash, Fault, file_calls, is_unfinished, journals, leftovers, server

from tusd_py.core.body import Body
from tusd_py.core.checksum import Checksum
from tusd_py.core.commands import Append, Concatenate, Create
from tusd_py.core.upload import UploadId
from tusd_py.core.uploads import Uploads
from tusd_py.errors import TusError
from tusd_py.stores.disk import journal

LENGTH = 10
DATA = bytes(range(LENGTH))
MODES = [(True, True), (False, True), (False, False)]
"""(is_durable, finishes_by_size)"""

WRITES = ["create", "with_upload", "part", "rest", "checksummed", "refused", "only_append", "concatenate"]
OTHERS = ["terminate", "inspect", "sweep", "restart", "lose_journal"]
STEPS = st.tuples(
    st.sampled_from(WRITES) | st.sampled_from(OTHERS),
    st.integers(0, 1),  # the server
    st.integers(0, 5),  # the upload, of those that there are
    st.none() | st.integers(1, 25),  # the file call at which
    st.booleans(),  # the process dies, or the disk fails once
    st.sampled_from(MODES),  # of a restart
)


class World:
    """Two servers on one directory, and what clients know."""

    def __init__(self, path: Path, modes: list[tuple[bool, bool]]) -> None:
        self.path = path
        self.ids: list[UploadId] = []
        self.servers = [self._start(mode) for mode in modes]

    def _start(self, mode: tuple[bool, bool]) -> Uploads:
        is_durable, finishes_by_size = mode
        return server(self.path, is_durable=is_durable, finishes_by_size=finishes_by_size)

    async def take(
        self, verb: str, number: int, upload: int, at: int | None, is_crash: bool, mode: tuple[bool, bool]
    ) -> None:
        if verb == "restart":
            self._end(number, mode)
            return
        step: Callable[[Uploads, UploadId | None], object] = getattr(self, verb)
        fail = Crash() if is_crash else OSError(errno.ENOSPC, "full")
        upload_id = self.ids[upload % len(self.ids)] if self.ids else None
        try:
            with file_calls(Fault(at, fail)), suppress(TusError):
                await step(self.servers[number], upload_id)
        except Crash:
            self._end(number, mode)

    def _end(self, number: int, mode: tuple[bool, bool]) -> None:
        store = self.servers[number]._store
        store._disk.files.marks.tidy()  # else what was only in a journal that somebody removed is lost with us
        store.close()  # frees what the kernel frees
        self.servers[number] = self._start(mode)

    # Verbs.

    async def create(self, uploads: Uploads, _id: UploadId | None, data: bytes | None = None) -> None:
        command = Create(LENGTH, is_partial=True, concat="partial", has_body=data is not None, content_length=LENGTH)
        self.ids.append((await uploads.create(command, Body(Bytes(data or b"")))).id)

    async def with_upload(self, uploads: Uploads, upload_id: UploadId | None) -> None:
        await self.create(uploads, upload_id, DATA)

    async def part(self, uploads: Uploads, upload_id: UploadId | None) -> None:
        await self._append(uploads, upload_id, 3)

    async def rest(self, uploads: Uploads, upload_id: UploadId | None) -> None:
        await self._append(uploads, upload_id, LENGTH)

    async def checksummed(self, uploads: Uploads, upload_id: UploadId | None) -> None:
        await self._append(uploads, upload_id, LENGTH, is_checked=True)

    async def refused(self, uploads: Uploads, upload_id: UploadId | None) -> None:
        await self._append(uploads, upload_id, LENGTH, is_checked=True, is_wrong=True)

    async def _append(
        self,
        uploads: Uploads,
        upload_id: UploadId | None,
        count: int,
        *,
        is_checked: bool = False,
        is_wrong: bool = False,
    ) -> None:
        if upload_id is None:
            return
        offset = (await uploads.inspect(upload_id)).offset
        piece = DATA[offset : offset + count]
        checksum = None
        if is_checked:
            hasher = Checksum("sha1", b"").hasher()
            hasher.update(piece)
            checksum = Checksum("sha1", bytes(20) if is_wrong else hasher.digest())
        await uploads.append(Append(upload_id, offset), Body(Bytes(piece), checksum=checksum))

    async def only_append(self, uploads: Uploads, upload_id: UploadId | None) -> None:
        """And die before it is finished."""
        if upload_id is None:
            return
        stored = await uploads._store.open(upload_id)
        offset = stored.upload.offset
        if not stored.upload.is_available and not stored.upload.is_final:
            await stored.append(Body(Bytes(DATA[offset:])))
        await stored.close()

    async def concatenate(self, uploads: Uploads, upload_id: UploadId | None) -> None:
        if upload_id is not None:
            final = await uploads.concatenate(Concatenate((upload_id,), f"final;{upload_id}"))
            if final.id not in self.ids:
                self.ids.append(final.id)

    async def terminate(self, uploads: Uploads, upload_id: UploadId | None) -> None:
        if upload_id is not None:
            await uploads.terminate(upload_id)

    async def inspect(self, uploads: Uploads, upload_id: UploadId | None) -> None:
        if upload_id is not None:
            await uploads.inspect(upload_id)

    async def sweep(self, uploads: Uploads, _id: UploadId | None) -> None:
        await uploads.sweep()

    async def lose_journal(self, uploads: Uploads, _id: UploadId | None) -> None:
        """Somebody cleans up under the running server."""
        own = uploads._store._disk.files.marks._journal._own
        if own is not None:
            Path(own.path).unlink(missing_ok=True)

    # The end.

    async def check(self) -> None:
        for each in self.servers * 2:  # what one of them does may leave the other something to do
            await each.sweep()
        assert leftovers(self.path) == []
        unfinished = {each.stem for each in self.path.glob("*.info") if is_unfinished(self.path, each.stem)}
        for each in self.servers:
            assert {found.id async for found in each._store.unfinished()} == unfinished
            for upload_id in self.ids:
                try:
                    found = await each.inspect(upload_id)
                except TusError as error:
                    assert error.status == 404
                    assert not (self.path / upload_id).exists()
                else:
                    assert found.is_available == (upload_id not in unfinished)
                    content = (self.path / upload_id).read_bytes()
                    assert content[: found.offset] == DATA[: found.offset]  # what lies beyond is cut by the next append
                    assert content == DATA or not found.is_available


@settings(deadline=None, max_examples=150)
@given(modes=st.lists(st.sampled_from(MODES), min_size=2, max_size=2), steps=st.lists(STEPS, max_size=20))
def test_any_sequence_leaves_what_is_unfinished_known_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory,
    modes: list[tuple[bool, bool]],
    steps: list[tuple[str, int, int, int | None, bool, tuple[bool, bool]]],
) -> None:
    async def run() -> None:
        world = World(tmp_path_factory.mktemp("world"), modes)
        for step in steps:
            await world.take(*step)
        await world.check()
        for each in world.servers:
            each._store.close()
        gc.collect()  # errors hold what was open where they were raised, so that it looks alive
        last = server(world.path, is_durable=True)
        await last.sweep()
        last._store.close()
        assert len(journals(world.path)) <= 1
        assert leftovers(world.path) == []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "LONG_BYTES", 200)  # some lines
        anyio.run(run)
