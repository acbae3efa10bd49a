"""Bytes of many uploads through few buffers: never mixed, never more memory than there is, whatever the disk does."""

from __future__ import annotations

import os
import random
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pacing import Clock
from scenario import Bytes, server

from tusd_py.core.body import Body, Sink, unexpected_eof
from tusd_py.core.checksum import Checksum
from tusd_py.core.commands import Append, Create
from tusd_py.errors import BackendError, RequestError
from tusd_py.stores.disk.descriptors import write_all
from tusd_py.stores.disk.pace import Pace
from tusd_py.stores.disk.sink import BUFFER_BYTES, BufferPool, FileSink

pytestmark = pytest.mark.anyio

SIZES = st.sampled_from([1, 100, 4096, 100_000, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 700_000])


@pytest.fixture
def pace() -> Iterator[Pace]:
    made = Pace()
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def clocked_pace(clock: Clock) -> Iterator[Pace]:
    made = clock.pace()
    yield made
    made.close()


@pytest.fixture
def slow_pace(clock: Clock, clocked_pace: Pace) -> Pace:
    """Slow until the clock moves on."""
    clocked_pace.run_inline(clock.taking(1.0))
    assert clocked_pace.is_slow
    return clocked_pace


def put(sink: FileSink, data: bytes) -> object:
    """What fits, as a source does it; returns what `filled` returns."""
    room = sink.buffer()
    count = min(len(room), len(data))
    room[:count] = data[:count]
    return count, sink.filled(count)


def opened(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_RDWR)


async def pour(sink: FileSink, data: bytes) -> None:
    while data:
        count, pause = put(sink, data)
        if pause is not None:
            await pause
        data = data[count:]


class Mixer:
    """Sinks that are fed in turns, at random, and then hold what each was given."""

    def __init__(self, folder: Path, pace: Pace, count: int, limit: int) -> None:
        self.pool, self.pace = BufferPool(limit), pace
        self.limit = limit
        self.paths = [folder / str(number) for number in range(count)]
        self.files = [opened(path) for path in self.paths]
        self.sinks = [FileSink(file, 3, self.pool, pace, None) for file in self.files]
        self.sent = [bytearray() for _ in range(count)]

    async def feed(self, number: int, size: int) -> None:
        data = random.randbytes(size)
        self.sent[number] += data
        await pour(self.sinks[number], data)
        assert self.pool._taken <= self.limit or self.pace.is_slow

    async def end(self) -> None:
        for sink, sent in zip(self.sinks, self.sent, strict=True):
            await sink.flush()
            await sink.release()
            await sink.release()
            assert sink.written == len(sent)
        assert self.pool._taken == 0
        for file, path, sent in zip(self.files, self.paths, self.sent, strict=True):
            os.close(file)
            assert path.read_bytes() == (b"\0" * 3 + sent if sent else b"")


@settings(deadline=None, max_examples=60)
@given(
    turns=st.lists(st.tuples(st.integers(0, 4), SIZES), max_size=25),
    limit=st.integers(0, 3),
    slow_from=st.none() | st.integers(0, 25),
)
def test_bytes_of_uploads_that_take_turns_are_never_mixed(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[int, int]], limit: int, slow_from: int | None
) -> None:
    async def run() -> None:
        clock = Clock()
        pace = clock.pace()
        mixer = Mixer(tmp_path_factory.mktemp("sinks"), pace, 5, limit)
        for turn, (number, size) in enumerate(turns):
            if turn == slow_from:
                pace.run_inline(clock.taking(1.0))
                assert pace.is_slow
            await mixer.feed(number, size)
        await mixer.end()
        pace.close()

    anyio.run(run)


async def test_uploads_under_way_at_once_on_a_slow_disk_are_never_mixed(tmp_path: Path, slow_pace: Pace) -> None:
    """Each waits for its write in a thread, while the others' bytes come."""
    mixer = Mixer(tmp_path, slow_pace, 20, 4)
    async with anyio.create_task_group() as tasks:

        async def upload(number: int) -> None:
            for _ in range(10):
                await mixer.feed(number, random.choice([1, 5000, 100_000, 300_000]))

        for number in range(20):
            tasks.start_soon(upload, number)
    await mixer.end()


async def test_what_waits_for_a_thread_is_kept_from_the_moment_it_was_filled(tmp_path: Path, slow_pace: Pace) -> None:
    """Sources may await the pause later: the next upload's bytes come before that."""
    for limit in (0, 8):
        pool = BufferPool(limit)
        files = [opened(tmp_path / f"{limit}-{number}") for number in range(3)]
        sinks = [FileSink(file, 0, pool, slow_pace, None) for file in files]
        pauses = [put(sink, bytes([number]) * BUFFER_BYTES)[1] for number, sink in enumerate(sinks)]
        for pause in pauses:
            await pause
        for number, sink in enumerate(sinks):
            await sink.release()
            os.close(files[number])
            assert (tmp_path / f"{limit}-{number}").read_bytes() == bytes([number]) * BUFFER_BYTES
        assert pool._taken == 0


async def test_a_pause_that_is_never_awaited_loses_nothing(tmp_path: Path, slow_pace: Pace) -> None:
    """The body was ended in that moment."""
    file = opened(tmp_path / "one")
    sink = FileSink(file, 0, BufferPool(), slow_pace, None)
    count, pause = put(sink, b"x" * BUFFER_BYTES)
    assert hasattr(pause, "close")
    pause.close()
    await sink.flush()
    await sink.release()
    assert sink.written == count
    assert os.fstat(file).st_size == count
    os.close(file)


async def test_an_idle_upload_owns_no_buffer_and_beyond_the_limit_none_does(tmp_path: Path, pace: Pace) -> None:
    pool = BufferPool(2)
    files = [opened(tmp_path / str(number)) for number in range(4)]
    sinks = [FileSink(file, 0, pool, pace, None) for file in files]
    assert all(sink.buffer() is pool.spare for sink in sinks)
    for sink in sinks:
        put(sink, b"hello")
    assert [sink.written for sink in sinks] == [0, 0, 5, 5]
    assert [sink._own is None for sink in sinks] == [False, False, True, True]
    put(sinks[0], b"x" * BUFFER_BYTES)
    assert sinks[0].written == BUFFER_BYTES
    assert sinks[0]._own is None  # what it had is another's now
    put(sinks[2], b"world")
    assert (sinks[2].written, sinks[2]._own is None) == (5, False)
    for sink, file in zip(sinks, files, strict=True):
        await sink.flush()
        await sink.release()
        os.close(file)
    assert (tmp_path / "2").read_bytes() == b"helloworld"


async def test_a_full_buffer_is_written_from_where_it_came(tmp_path: Path, pace: Pace) -> None:
    pool = BufferPool(8)
    sink = FileSink(opened(tmp_path / "one"), 0, pool, pace, None)
    for number in range(10):
        assert sink.buffer() is pool.spare
        assert put(sink, bytes([number]) * BUFFER_BYTES) == (BUFFER_BYTES, None)
        assert pool._taken == 0
    await sink.flush()
    os.close(sink._file)
    assert (tmp_path / "one").read_bytes() == b"".join(bytes([number]) * BUFFER_BYTES for number in range(10))


@pytest.mark.parametrize("size", [4096, BUFFER_BYTES])
async def test_a_write_that_fails_leaves_nothing_to_be_written_later(tmp_path: Path, pace: Pace, size: int) -> None:
    """By then other bytes would be in the shared buffer."""
    file = opened(tmp_path / "one")
    pool = BufferPool(0)
    sink = FileSink(file, 0, pool, pace, None)
    reading = os.open(tmp_path / "one", os.O_RDONLY)
    sink._file = reading  # refuses
    with pytest.raises(OSError, match="Bad file"):
        put(sink, b"x" * size)
    sink._file = file
    pool.spare[:3] = b"not"
    await sink.flush()
    await sink.release()
    assert (sink.written, pool._taken, os.fstat(file).st_size) == (0, 0, 0)
    os.close(reading)
    os.close(file)


class Trickle:
    """A source that hands over a part, then waits until all others have too."""

    def __init__(self, data: bytes, go_on: anyio.Event, *, breaks: bool = False) -> None:
        self.data, self.go_on, self.breaks = data, go_on, breaks

    async def fill(self, sink: Sink) -> Checksum | None:
        await Bytes(self.data[:700]).fill(sink)
        await self.go_on.wait()
        await Bytes(self.data[700:]).fill(sink)
        if self.breaks:
            raise unexpected_eof()
        return None


async def test_two_thousand_uploads_in_mid_body_cost_little_memory(tmp_path: Path) -> None:
    """With a buffer for each it would be 500 MiB."""
    uploads = server(tmp_path, is_durable=False)
    contents = {}
    for _ in range(2000):
        data = random.randbytes(1500)
        contents[(await uploads.create(Create(len(data)), Body.__new__(Body))).id] = data
    go_on = anyio.Event()
    tracemalloc.start()
    try:
        async with anyio.create_task_group() as tasks:
            for upload_id, data in contents.items():
                tasks.start_soon(uploads.append, Append(upload_id, 0), Body(Trickle(data, go_on)))
            await anyio.wait_all_tasks_blocked()
            _, peak = tracemalloc.get_traced_memory()
            go_on.set()
    finally:
        tracemalloc.stop()
    assert peak < 70 << 20
    for upload_id, data in contents.items():
        assert (tmp_path / upload_id).read_bytes() == data


async def test_uploads_in_mid_body_that_end_in_every_way_give_their_buffers_back(tmp_path: Path) -> None:
    uploads = server(tmp_path, is_durable=False)
    pool = uploads._store._disk.pool
    wrong = Checksum("sha1", bytes(20))

    async def append(data: bytes, **options: object) -> None:
        upload_id = (await uploads.create(Create(5000), Body.__new__(Body))).id
        go_on = anyio.Event()
        go_on.set()
        await uploads.append(Append(upload_id, 0), Body(Trickle(data, go_on, **options.pop("source", {})), **options))

    await append(b"x" * 1000)
    with pytest.raises(RequestError):
        await append(b"x" * 1000, checksum=wrong)
    with pytest.raises(Exception, match="ended early"):
        await append(b"x" * 1000, source={"breaks": True})
    with pytest.raises(RequestError):
        await append(b"x" * 6000)
    with (
        mock.patch("tusd_py.stores.disk.sink.write_all", side_effect=OSError(5, "broken")),
        pytest.raises(BackendError),
    ):
        await append(b"x" * 1000)
    with anyio.move_on_after(0.01):
        upload_id = (await uploads.create(Create(5000), Body.__new__(Body))).id
        await uploads.append(Append(upload_id, 0), Body(Trickle(b"x" * 1000, anyio.Event())))
    assert pool._taken == 0


async def test_a_disk_that_gets_slow_takes_the_writes_to_threads_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock, clocked_pace: Pace
) -> None:
    uploads = server(tmp_path, is_durable=False)
    uploads._store._disk = replace(uploads._store._disk, pace=clocked_pace)
    wrote_in: list[tuple[int, bool]] = []
    seconds_each = 1.0

    def write_slowly(descriptor: int, data: memoryview, position: int) -> None:
        wrote_in.append((len(data), threading.current_thread() is threading.main_thread()))
        clock.advance(seconds_each)
        write_all(descriptor, data, position)

    monkeypatch.setattr("tusd_py.stores.disk.sink.write_all", write_slowly)
    upload_id = (await uploads.create(Create(3_000_000), Body.__new__(Body))).id
    data = random.randbytes(3_000_000)
    assert (await uploads.append(Append(upload_id, 0), Body(Bytes(data[:1_500_000])))).offset == 1_500_000
    last = 1_500_000 % BUFFER_BYTES
    assert wrote_in == [(BUFFER_BYTES, True), *[(BUFFER_BYTES, False)] * 4, (last, False)]

    wrote_in.clear()
    seconds_each = 0.0
    clock.advance(10.0)
    assert (await uploads.append(Append(upload_id, 1_500_000), Body(Bytes(data[1_500_000:])))).is_available
    assert wrote_in == [*[(BUFFER_BYTES, True)] * 5, (last, True)]
    assert (tmp_path / upload_id).read_bytes() == data
