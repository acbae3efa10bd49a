"""What the socket of a locker puts up with: garbage, silence, long lines, many callers, callers that never read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tusd_py.core.body import Wish
from tusd_py.core.upload import UploadId
from tusd_py.lockers.file import FileLocker
from tusd_py.lockers.file import peers as peers_module

pytestmark = pytest.mark.anyio

ID = UploadId("00112233445566778899aabbccddeeff")


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


async def busy(_wish: Wish) -> bool:
    return False


@asynccontextmanager
async def holding(path: Path) -> AsyncIterator[FileLocker]:
    """A locker that has ID, and in the end still serves others properly."""
    async with FileLocker(path) as locker:
        async with locker.hold(ID, busy):
            yield locker
            async with FileLocker(path) as other:
                assert await other.settle(ID) is True
        with anyio.fail_after(3):
            while locker._machine._peers.callers:
                await anyio.sleep(0.005)


@asynccontextmanager
async def caller(path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    sock.connect(str(next(path.glob("*.sock"))))
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    try:
        with anyio.fail_after(3):
            yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n" * 100_000,
        b"x" * 1_000_000,
        b"\xff\x00\n" * 10,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"../../etc/passwd\n",
    ],
    ids=["empty lines", "long line", "not ascii", "http", "path"],
)
async def test_garbage_ends_the_connection(tmp_path, garbage):
    async with holding(tmp_path), caller(tmp_path) as (reader, writer):
        writer.write(garbage)
        assert await read_to_end(reader) in (b"", b"free\n")


async def test_unknown_wish_ends_the_connection(tmp_path):
    async with holding(tmp_path), caller(tmp_path) as (reader, writer):
        writer.write(f"{ID}\n".encode())
        assert await reader.readline() == b"held\n"
        writer.write(b"please\n")
        assert await read_to_end(reader) == b""


async def test_line_in_pieces(tmp_path):
    async with holding(tmp_path), caller(tmp_path) as (reader, writer):
        for byte in f"{ID}\nnow\nif-stalled\n".encode():
            writer.write(bytes([byte]))
            await anyio.sleep(0)
        assert [await reader.readline() for _ in range(3)] == [b"held\n", b"now no\n", b"if-stalled no\n"]


async def test_upload_that_nobody_holds_is_free(tmp_path):
    async with holding(tmp_path), caller(tmp_path) as (reader, writer):
        writer.write(b"another\n")
        assert await reader.read() == b"free\n"


async def test_silent_caller_is_hung_up_on(tmp_path, monkeypatch):
    monkeypatch.setattr(peers_module, "_PATIENCE_SECONDS", 0.05)
    async with holding(tmp_path), caller(tmp_path) as (reader, _):
        assert await read_to_end(reader) == b""


async def test_caller_that_never_reads_costs_little(tmp_path):
    async with holding(tmp_path) as locker, caller(tmp_path) as (reader, writer):
        writer.write(f"{ID}\n".encode())
        assert await reader.readline() == b"held\n"
        reader._transport.pause_reading()
        with pytest.raises(ConnectionError):  # noqa: PT012
            while locker._machine._peers.callers:
                writer.write(b"now\n")
                await writer.drain()
                await anyio.sleep(0)
            raise ConnectionError


async def test_too_many_callers(tmp_path, monkeypatch):
    monkeypatch.setattr(peers_module, "_MOST_CALLERS", 2)
    async with holding(tmp_path), caller(tmp_path) as first, caller(tmp_path) as second:
        for reader, writer in (first, second):
            writer.write(f"{ID}\n".encode())
            assert await reader.readline() == b"held\n"
        async with caller(tmp_path) as (reader, _):
            assert await read_to_end(reader) == b""
        first[1].write(b"now\n")
        assert await first[0].readline() == b"now no\n"


async def test_closing_ends_all_connections(tmp_path):
    async with FileLocker(tmp_path) as locker, locker.hold(ID, busy), caller(tmp_path) as (reader, writer):
        writer.write(f"{ID}\n".encode())
        assert await reader.readline() == b"held\n"
        await locker.aclose()
        assert await read_to_end(reader) == b""
