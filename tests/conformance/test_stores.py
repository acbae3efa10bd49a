"""The port suite of stores: what `core.ports` promises, for every store that there is. Ids of promises: design 4."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from tusd_py.core.body import Body, Sink, unexpected_eof
from tusd_py.core.checksum import Checksum
from tusd_py.core.digest import Digest
from tusd_py.core.ports import Capabilities, Store, StoredUpload
from tusd_py.core.upload import Metadata, State, Upload, UploadId, new_id
from tusd_py.errors import RequestError, upload_locked
from tusd_py.stores.s3 import S3Store

pytestmark = pytest.mark.anyio


class Script:
    """A source that hands over `data` in `pieces`, then breaks or ends; `checksum` comes in the trailer."""

    def __init__(self, data: bytes, *, piece: int = 100_000, breaks: bool = False, checksum: Checksum | None = None):
        self.data, self.piece, self.breaks, self.checksum = data, piece, breaks, checksum

    async def fill(self, sink: Sink) -> Checksum | None:
        left = memoryview(self.data)
        while left:
            room = sink.buffer()
            count = min(len(room), len(left), self.piece)
            room[:count] = left[:count]
            pause = sink.filled(count)
            if pause is not None:
                await pause
            left = left[count:]
        if self.breaks:
            raise unexpected_eof()
        return self.checksum


def sha1(data: bytes) -> Checksum:
    return Checksum("sha1", hashlib.sha1(data).digest())


def upload(length: int | None, **fields: object) -> Upload:
    return replace(Upload(id=new_id(), length=length, created_at=time.time()), **fields)


async def add(store: Store, upload_id: UploadId, data: bytes, **options: object) -> int:
    """Append as `core.uploads` does: open, append, finish if all is there, close."""
    return await fill(await store.open(upload_id), data, **options)


async def fill(stored: StoredUpload, data: bytes, **options: object) -> int:
    count = await stored.append(Body(Script(data, **options)))
    if stored.upload.has_all_bytes:
        await stored.finish()
    await stored.close()
    return count


async def make(store: Store, data: bytes, **fields: object) -> Upload:
    """An available upload with these bytes."""
    made = upload(len(data), **fields)
    stored = await store.create(made)
    await stored.append(Body(Script(data)))
    await stored.finish()
    await stored.close()
    return await store.read(made.id)


async def content(store: Store, upload_id: UploadId) -> bytes:
    found = await store.read(upload_id)
    return b"".join([bytes(piece) async for piece in store.read_range(upload_id, 0, found.length)])


@asynccontextmanager
async def free(_upload_id: UploadId) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def held(_upload_id: UploadId) -> AsyncIterator[None]:
    raise upload_locked()
    yield


async def test_a_store_says_what_it_can(store: Store) -> None:
    capabilities = set(Capabilities.__slots__) - {"redirects"}  # only who has its bytes elsewhere
    assert all(getattr(Capabilities.of(store), each) for each in capabilities)


async def test_a_new_upload_reads_back_as_it_was_made(store: Store, reopened: Store) -> None:
    made = upload(
        123,
        metadata=Metadata("name 4pyTLvA=,empty", {"name": "✓.ð", "empty": ""}),
        is_partial=True,
        concat="partial",
        expire_after_seconds=60.0,
    )
    stored = await store.create(made)
    await stored.close()
    found = await reopened.read(made.id)
    assert replace(found, touched_at=0) == replace(made, is_settled=True, place=stored.upload.place)
    assert abs(found.touched_at - time.time()) < 60


async def test_metadata_that_is_not_utf8_keeps_its_raw_form(store: Store, reopened: Store) -> None:
    made = upload(1, metadata=Metadata("n \xff\xfe", {"n": "\ufffd"}))
    await (await store.create(made)).close()
    assert (await reopened.read(made.id)).metadata == made.metadata


async def test_an_id_is_taken_once(store: Store) -> None:
    made = upload(5)
    stored = await store.create(made)
    await stored.append(Body(Script(b"hel")))
    await stored.close()
    with pytest.raises(FileExistsError):
        await store.create(made)
    assert (await store.read(made.id)).offset == 3


@pytest.mark.parametrize("count", [0, 3, 5], ids=["none", "some", "all"])
async def test_an_upload_made_with_its_first_bytes_counts_once_they_do(
    store: Store, reopened: Store, count: int
) -> None:
    made = upload(5, metadata=Metadata("name YQ==", {"name": "a"}))
    stored = await store.create(made, count)
    assert await fill(stored, b"hello"[:count]) == count
    found = await reopened.read(made.id)
    assert (found.offset, found.length, found.metadata, found.is_available) == (count, 5, made.metadata, count == 5)
    await fill(await reopened.open(made.id), b"hello"[count:])
    assert await content(store, made.id) == b"hello"


@pytest.mark.parametrize("data", [b"", b"hello", os.urandom(9 * 2**20)], ids=["empty", "small", "parts"])
@pytest.mark.parametrize("is_seen", [True, False], ids=["seen", "read-back"])
async def test_a_digest_is_in_the_record_once_it_is_finished(
    store: Store, reopened: Store, data: bytes, is_seen: bool
) -> None:
    value = hashlib.sha256(data)
    made = upload(len(data))
    stored = await store.create(made)
    if data:
        await stored.append(Body(Script(data)))
    await stored.finish(Digest("sha256", value.digest() if is_seen else None))
    assert stored.upload.digest == f"sha256:{value.hexdigest()}"
    await stored.close()
    found = await reopened.read(made.id)
    assert (found.is_available, found.digest) == (True, stored.upload.digest)
    assert await content(reopened, made.id) == data


async def test_an_upload_without_its_first_bytes_can_be_removed(store: Store) -> None:
    made = upload(5)
    stored = await store.create(made, 5)
    await stored.close()
    await store.terminate(made.id)
    assert [each.id async for each in store.unfinished()] == []
    assert await store.sweep_leftovers(free) == 0
    await (await store.create(made, 5)).close()  # nothing of it is in the way


async def test_an_id_is_taken_once_also_with_first_bytes(store: Store) -> None:
    made = upload(5)
    await fill(await store.create(made, 3), b"hel")
    for first_bytes in (None, 3, 5):
        with pytest.raises(FileExistsError):
            await fill(await store.create(made, first_bytes), b"HELLO"[: first_bytes or 0])
    assert (await store.read(made.id)).offset == 3


async def test_unknown_uploads_are_404(store: Store) -> None:
    for verb in (store.read, store.open):
        with pytest.raises(RequestError) as error:
            await verb(new_id())
        assert error.value.status == 404


@pytest.mark.parametrize("piece", [1000, 65_536, 262_144, 300_001, 10_000_000])
async def test_bytes_come_back_however_they_were_split(store: Store, reopened: Store, piece: int) -> None:
    data = os.urandom(1_300_003)
    made = upload(len(data))
    await (await store.create(made)).close()
    assert await add(store, made.id, data[:700_001], piece=piece) == 700_001
    assert (await reopened.read(made.id)).offset == 700_001
    assert await add(reopened, made.id, data[700_001:], piece=piece) == 600_002
    assert (await store.read(made.id)).is_available
    assert await content(store, made.id) == data


async def test_a_broken_body_keeps_what_came(store: Store, reopened: Store) -> None:
    data = os.urandom(500_000)
    made = upload(len(data))
    await (await store.create(made)).close()
    assert await add(store, made.id, data[:300_001], breaks=True) == 300_001
    assert (await reopened.read(made.id)).offset == 300_001
    await add(reopened, made.id, data[300_001:])
    assert await content(store, made.id) == data


async def test_an_empty_append_changes_nothing(store: Store) -> None:
    made = upload(10)
    await (await store.create(made)).close()
    assert await add(store, made.id, b"") == 0
    assert (await store.read(made.id)).offset == 0


async def test_zero_bytes_are_an_upload(store: Store, reopened: Store) -> None:
    made = await make(store, b"")
    assert (made.offset, made.length, made.state) == (0, 0, State.AVAILABLE)
    assert await content(reopened, made.id) == b""


@pytest.mark.parametrize("is_late", [False, True], ids=["header", "trailer"])
@pytest.mark.parametrize("fault", ["wrong", "cut"])
async def test_a_checksummed_body_counts_whole_or_not_at_all(
    store: Store, reopened: Store, fault: str, is_late: bool
) -> None:
    data = os.urandom(900_000)
    made = upload(len(data))
    await (await store.create(made)).close()
    await add(store, made.id, data[:100])
    expected = sha1(data[100:]) if fault == "cut" else sha1(b"something else")

    def body(checksum: Checksum, *, breaks: bool) -> Body:
        source = Script(data[100:], breaks=breaks, checksum=checksum if is_late else None)
        return Body(source, checksum=None if is_late else checksum, expects_trailer=is_late)

    stored = await store.open(made.id)
    refused = body(expected, breaks=fault == "cut")
    assert await stored.append(refused) == 0
    assert refused.error is not None
    assert stored.upload.offset == 100
    await stored.close()
    assert (await reopened.read(made.id)).offset == 100
    stored = await reopened.open(made.id)
    assert await stored.append(body(sha1(data[100:]), breaks=False)) == len(data) - 100
    await stored.finish()
    await stored.close()
    assert await content(store, made.id) == data


async def test_an_unannounced_trailer_is_verified_too(store: Store) -> None:
    made = upload(400_000)
    await (await store.create(made)).close()
    stored = await store.open(made.id)
    data = os.urandom(400_000)
    assert await stored.append(Body(Script(data, checksum=sha1(b"no")), may_trail=True)) == 0
    assert await stored.append(Body(Script(data, checksum=sha1(data)), may_trail=True)) == 400_000
    await stored.finish()
    await stored.close()
    assert await content(store, made.id) == data


async def test_finishing_may_be_repeated(store: Store, reopened: Store, request: pytest.FixtureRequest) -> None:
    made = upload(3)
    stored = await store.create(made)
    await stored.append(Body(Script(b"abc")))
    await stored.close()  # as after a crash: all bytes in is not finished, unless there is nothing left to do
    finishes_by_size = request.node.callspec.params["made"] == "disk-process"
    assert (await store.read(made.id)).is_available == finishes_by_size
    for _ in range(2):
        stored = await reopened.open(made.id)
        if not stored.upload.has_all_bytes:  # a store may leave the last ones to be durable to `finish`
            await stored.append(Body(Script(b"abc"[stored.upload.offset :])))
        assert stored.upload.has_all_bytes
        await stored.finish()
        assert stored.upload.is_available
        await stored.close()
    assert await content(store, made.id) == b"abc"


async def test_a_deferred_length_is_declared_once_known(store: Store, reopened: Store) -> None:
    made = upload(None)
    await (await store.create(made)).close()
    await add(store, made.id, b"abc")
    found = await reopened.read(made.id)
    assert (found.length, found.offset) == (None, 3)
    await store.declare_length(made.id, 5)
    found = await reopened.read(made.id)
    assert (found.length, found.offset) == (5, 3)
    await add(reopened, made.id, b"de")
    assert await content(store, made.id) == b"abcde"


async def test_termination_leaves_nothing(store: Store, reopened: Store) -> None:
    finished, unfinished = await make(store, b"abc"), upload(9)
    await (await store.create(unfinished)).close()
    await add(store, unfinished.id, b"abc")
    for upload_id in (finished.id, unfinished.id):
        assert await store.terminate(upload_id)
        assert not await store.terminate(upload_id)
        with pytest.raises(RequestError):
            await reopened.read(upload_id)
    assert [each async for each in store.unfinished()] == []


async def test_concatenation_joins_in_order_and_may_be_repeated(store: Store, reopened: Store) -> None:
    first, second = os.urandom(700_000), os.urandom(300_001)
    one = await make(store, first, is_partial=True, concat="partial")
    two = await make(store, second, is_partial=True, concat="partial")
    empty = await make(store, b"", is_partial=True, concat="partial")
    order = (two.id, one.id, empty.id, two.id)
    final = upload(None, partials=order, concat="final;x", state=State.ASSEMBLING)
    await (await store.create(final)).close()
    assert (await reopened.read(final.id)).offset == 0
    for _ in range(2):
        await store.concatenate(final.id, order)
    stored = await reopened.open(final.id)
    assert stored.upload.length == stored.upload.offset == 1_300_002
    await stored.finish()
    await stored.close()
    assert await content(store, final.id) == second + first + second
    found = await reopened.read(final.id)
    assert (found.partials, found.concat) == (order, "final;x")
    assert await content(store, one.id) == first  # tus N6: partials stay as they were


async def test_finals_are_remembered_by_their_partials(store: Store, reopened: Store) -> None:
    one, two = new_id(), new_id()
    final = upload(None, partials=(one, two), state=State.ASSEMBLING)
    assert await store.waiting_for(one) == []
    for _ in range(2):
        await store.note_waiting(final.id, [one, two])
    assert await reopened.waiting_for(one) == await store.waiting_for(two) == [final.id]
    await store.sweep_leftovers(free)  # a note without its final is a leftover
    assert await reopened.waiting_for(one) == []


async def test_unfinished_uploads_are_found_and_finished_ones_are_not(store: Store, reopened: Store) -> None:
    await make(store, b"abc")
    pending = upload(9)
    await (await store.create(pending)).close()
    assert [each.id async for each in reopened.unfinished()] == [pending.id]


async def test_sweeping_touches_nothing_that_lives_or_is_held(store: Store) -> None:
    done = await make(store, b"abc")
    pending = upload(9)
    stored: StoredUpload = await store.create(pending)
    await stored.append(Body(Script(b"abc")))
    await stored.close()
    for hold in (held, free):
        assert await store.sweep_leftovers(hold) == 0
    assert await content(store, done.id) == b"abc"
    assert (await store.read(pending.id)).offset == 3


async def test_ranges_are_exact_and_readers_do_not_wait_for_each_other(store: Store) -> None:
    data = os.urandom(1_000_000)
    made = await make(store, data)
    for start, end in ((0, 0), (0, 1), (999_999, 1_000_000), (1, 700_000), (262_143, 262_145)):
        pieces = [bytes(piece) async for piece in store.read_range(made.id, start, end)]
        assert b"".join(pieces) == data[start:end]
        assert all(len(piece) <= 1 << 20 for piece in pieces)
    readers = [store.read_range(made.id, 0, len(data)) for _ in range(5)]
    firsts = [bytes(await anext(reader)) for reader in readers]
    assert all(first and data.startswith(first) for first in firsts)
    for reader in readers:
        await reader.aclose()


async def test_all_uploads_are_listed_once_page_by_page(store: Store, reopened: Store) -> None:
    assert await store.list_ids("", 3) == ([], "")
    made = {(await make(store, b"abc")).id for _ in range(4)}
    for _ in range(3):
        pending = upload(9)
        stored = await store.create(pending)
        await stored.append(Body(Script(b"abc")))
        await stored.close()
        made.add(pending.id)
    gone = await make(store, b"abc")
    await store.terminate(gone.id)
    for count in (1, 3, 7, 100):
        listed: list[UploadId] = []
        cursor = ""
        while True:
            ids, cursor = await reopened.list_ids(cursor, count)
            assert len(ids) <= count
            listed += ids
            if not cursor:
                break
        assert gone.id not in listed or isinstance(reopened, S3Store)  # what is left there says that it is gone
        assert sorted(set(listed) - {gone.id}) == sorted(made)
        assert len(listed) == len(set(listed))
    for cursor in ("~", "\u00e9", "/../", "x" * 1024):
        with suppress(RequestError):  # it may say that this is no cursor
            ids, _ = await reopened.list_ids(cursor, 100)
            assert set(ids) <= made | {gone.id}


# Ids and places that hooks choose.


@pytest.mark.parametrize("size", [0, 10, 3 << 20])
async def test_an_id_that_a_hook_chose_may_come_again(store: Store, reopened: Store, size: int) -> None:
    for round_ in range(3):
        data = os.urandom(size)
        made = upload(size, id=UploadId("chosen"), is_named=True)
        with_first_bytes = size if round_ % 2 else None
        stored = await store.create(made, with_first_bytes)
        await fill(stored, data)
        assert await content(reopened, made.id) == data
        assert (await reopened.read(made.id)).is_named
        assert await store.terminate(made.id)
        assert not [each async for each in reopened.unfinished() if each.id == made.id]
        await store.sweep_leftovers(free)  # what S3 keeps of the old one, so that no late request brings it back
    with pytest.raises(RequestError):
        await reopened.read(UploadId("chosen"))


async def test_an_unfinished_upload_of_a_chosen_id_is_found_each_time(store: Store, reopened: Store) -> None:
    for _ in range(2):
        made = upload(5, id=UploadId("chosen"), is_named=True)
        await (await store.create(made)).close()
        assert [each.id async for each in reopened.unfinished()] == ["chosen"]
        await store.terminate(made.id)
        await store.sweep_leftovers(free)


@pytest.mark.parametrize("first_bytes", [None, 5])
async def test_a_chosen_id_is_taken_once(store: Store, first_bytes: int | None) -> None:
    made = upload(5, id=UploadId("chosen"), is_named=True)
    await fill(await store.create(made, first_bytes), b"hello")
    with pytest.raises(FileExistsError):
        await fill(await store.create(replace(made, created_at=1.0), first_bytes), b"other")
    assert await content(store, made.id) == b"hello"


async def test_a_store_tells_where_bytes_are(store: Store, reopened: Store) -> None:
    made = await make(store, b"hello")
    told = store.storage(made)
    assert told == reopened.storage(await reopened.read(made.id))
    assert told["Type"] in ("memory", "filestore", "s3store")
    with pytest.raises(ValueError, match=r"\w"):
        store.placed(made, {"Path": "../outside", "Key": "another"})


# What is owed (failures F30).


@pytest.mark.parametrize("fields", [{}, {"id": UploadId("chosen"), "is_named": True}], ids=["drawn", "chosen"])
@pytest.mark.parametrize("size", [0, 10, 6 << 20])
async def test_what_is_owed_is_found_until_it_is_settled(
    store: Store, reopened: Store, fields: dict[str, object], size: int
) -> None:
    data = os.urandom(size)
    made = upload(size, **fields)
    stored = await store.create(made)
    if size:
        await stored.append(Body(Script(data)))
    await stored.finish(owes=True)
    await stored.close()
    other = await make(store, b"hello")
    assert await content(reopened, made.id) == data
    for each in (store, reopened):
        await each.sweep_leftovers(free)
        found = [found async for found in each.unfinished()]
        assert [(one.id, one.is_available, one.offset) for one in found] == [(made.id, True, size)]
    await reopened.settle(made.id)
    await store.settle(made.id)
    for each in (store, reopened):
        assert [found async for found in each.unfinished()] == []
    assert await content(reopened, made.id) == data
    assert await content(reopened, other.id) == b"hello"
    await store.settle(UploadId("unknown"))


async def test_what_is_owed_goes_with_the_upload(store: Store, reopened: Store) -> None:
    made = upload(5)
    stored = await store.create(made, 5)
    await stored.append(Body(Script(b"hello")))
    await stored.finish(owes=True)
    await stored.close()
    assert await store.terminate(made.id)
    assert [found async for found in reopened.unfinished()] == []
    await reopened.settle(made.id)
    with pytest.raises(RequestError):
        await store.read(made.id)
