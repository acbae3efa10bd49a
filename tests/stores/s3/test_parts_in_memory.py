"""The bytes of a part: what comes in is what goes out, and all memory is counted and given back."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator

import pytest
from s3scene import MIB, some

from tusd_py.stores.s3.crc import crc64
from tusd_py.stores.s3.memory import BLOCK_BYTES, Memory, Part

pytestmark = pytest.mark.anyio

SIZES = (1, 1000, BLOCK_BYTES // 4 - 1, BLOCK_BYTES // 4, BLOCK_BYTES // 2, BLOCK_BYTES - 1, BLOCK_BYTES)


def _pieces(data: bytes, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    start = 0
    while start < len(data):
        size = rng.choice(SIZES)
        yield data[start : start + size]
        start += size


def _receive(part: Part, memory: Memory, piece: bytes) -> None:
    memory.spare[: len(piece)] = piece
    part.add_spare(len(piece))


async def _content(part: Part) -> bytes:
    payload = part.payload()
    if payload.read is None:
        return b"".join(bytes(each) for each in payload.pieces)
    return b"".join([bytes(each) async for each in payload.read()])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spills", [False, True], ids=["memory", "file"])
async def test_what_comes_in_goes_out(seed: int, *, spills: bool) -> None:
    memory = Memory(64 * MIB)
    part, data = Part(memory), some(3 * MIB + seed)
    for number, piece in enumerate(_pieces(data, seed)):
        if number % 5 == 4:
            await part.add(piece)  # as it is read from the storage
        else:
            _receive(part, memory, piece)
        if number % 7 == 6:
            assert await _content(part) == data[: part.size]  # sent in the middle, and then there is more
        if spills and number % 9 == 8:
            await part.spill()
    assert part.has_file == spills
    assert await _content(part) == data
    assert b"".join([bytes(each) async for each in part.read()]) == data
    assert (part.size, part.crc) == (len(data), crc64(data, 0))
    part.release()
    assert memory.used_bytes == 0


async def test_few_bytes_take_no_block() -> None:
    """An idle client holds what it sent and no more."""
    memory = Memory(64 * MIB)
    parts = [Part(memory) for _ in range(100)]
    for part in parts:
        _receive(part, memory, some(1000))
    assert memory.used_bytes == 100_000
    for part in parts:
        part.release()
    assert memory.used_bytes == 0


async def test_small_pieces_take_hardly_more_than_their_bytes() -> None:
    memory = Memory(64 * MIB)
    part = Part(memory)
    for _ in range(1000):
        _receive(part, memory, some(5000))
        assert part.size <= memory.used_bytes <= part.size + BLOCK_BYTES
    part.release()


async def test_blocks_are_used_again_up_to_the_limit() -> None:
    memory = Memory(4 * MIB)
    first = Part(memory)
    for _ in range(2 * MIB // BLOCK_BYTES):
        _receive(first, memory, some(BLOCK_BYTES))
    blocks = {id(each.obj) for each in first._blocks}
    first.release()
    second = Part(memory)
    for _ in range(2 * MIB // BLOCK_BYTES):
        _receive(second, memory, some(BLOCK_BYTES))
    assert len(blocks & {id(each.obj) for each in second._blocks}) == len(blocks) - 1  # one is the spare
    second.release()


async def _spilled(memory: Memory, data: bytes) -> Part:
    part = Part(memory)
    _receive(part, memory, data)
    await part.spill()
    return part


async def test_what_rests_takes_little_of_memory_that_is_not_ample() -> None:
    memory = Memory(4 * MIB)
    small, large, filed = Part(memory), Part(memory), await _spilled(memory, b"a")
    _receive(small, memory, b"b" * 1000)
    for part in (large, filed):
        _receive(part, memory, b"c" * BLOCK_BYTES)
    for part in (small, large, filed):
        await part.rest()
    assert (small.has_file, large.has_file, filed.pending_bytes) == (False, False, 0)
    others = Part(memory)
    while memory.is_ample:
        _receive(others, memory, b"d" * BLOCK_BYTES)
    for part in (small, large, filed):
        await part.rest()
    assert (small.has_file, large.has_file) == (False, True)
    assert [await _content(part) for part in (small, large, filed)] == [
        b"b" * 1000,
        b"c" * BLOCK_BYTES,
        b"a" + b"c" * BLOCK_BYTES,
    ]
    for part in (small, large, filed, others):
        part.release()
    assert memory.used_bytes == 0


async def test_a_disk_that_is_full_is_tried_again_where_there_may_be_room(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, write, is_full = Memory(4 * MIB), os.pwrite, True

    def pwrite(file: int, data: memoryview, start: int) -> int:
        if is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data, start)

    def relieve_files() -> bool:
        nonlocal is_full
        is_full = False
        return True

    monkeypatch.setattr(os, "pwrite", pwrite)
    part, data = Part(memory), some(BLOCK_BYTES)
    _receive(part, memory, data)
    with pytest.raises(OSError, match="No space"):
        await part.spill()
    assert part.pending_bytes == len(data)
    memory.relieve_files = relieve_files
    await part.spill()
    assert (part.pending_bytes, memory.used_bytes) == (0, 0)
    assert await _content(part) == data
    part.release()
