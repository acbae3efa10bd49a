"""How processes tell each other what happens to uploads: the same promises over sockets in a folder and over Redis."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest

from tests.lockers.conftest import PREFIX
from tests.lockers.redisserver import RedisServer, redis_server
from tusd_py.core.feed import Relay
from tusd_py.core.upload import UploadId
from tusd_py.lockers.file import relay as file_module
from tusd_py.lockers.file.relay import FileRelay
from tusd_py.lockers.redis import RedisLocker
from tusd_py.lockers.redis import relay as redis_module

pytestmark = pytest.mark.anyio

ID = UploadId("00112233445566778899aabbccddeeff")

Process = Callable[[], "asynccontextmanager[Relay]"]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def of_folder(path: Path) -> AsyncIterator[FileRelay]:
    relay = FileRelay(str(path / "news"))
    await relay.start()
    try:
        yield relay
    finally:
        await relay.aclose()


@asynccontextmanager
async def of_redis(server: RedisServer) -> AsyncIterator[Relay]:
    async with RedisLocker(server.url, PREFIX, 5.0, 5.0) as locker:
        yield locker.relay


@pytest.fixture(params=["file", "redis"])
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Process:
    """Makes the relay of one more process."""
    if request.param == "file":
        return lambda: of_folder(tmp_path)
    server: RedisServer = request.getfixturevalue("server")
    return lambda: of_redis(server)


class Ear:
    """Who listens: what it heard, and how often it was told that it missed something."""

    def __init__(self, relay: Relay) -> None:
        self.lines: list[bytes] = []
        self.misses = 0
        self.change = asyncio.Event()
        relay.listen(self._hear, self._miss)

    def _hear(self, line: bytes) -> None:
        self.lines.append(line)
        self.change.set()

    def _miss(self) -> None:
        self.misses += 1
        self.change.set()

    async def until(self, is_enough: Callable[[Ear], bool]) -> None:
        with anyio.fail_after(10):
            while not is_enough(self):
                self.change.clear()
                await self.change.wait()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.005)


async def test_who_listens_hears_all_others_in_order_and_not_itself(process: Process) -> None:
    async with process() as one, process() as two, process() as three:
        assert not one.has_listeners
        ear = Ear(one)
        await until(lambda: two.has_listeners and three.has_listeners)
        assert not one.has_listeners
        lines = [b"%d" % number for number in range(500)]
        for line in lines:
            two.send(ID, line)
            three.send(ID, b"x" + line)
            one.send(ID, b"mine")
        await ear.until(lambda ear: len(ear.lines) == 1000)
        assert [line for line in ear.lines if line.isdigit()] == lines
        assert [line[1:] for line in ear.lines if not line.isdigit()] == lines


async def test_two_that_listen_hear_each_other(process: Process) -> None:
    async with process() as one, process() as two:
        first, second = Ear(one), Ear(two)
        await until(lambda: one.has_listeners and two.has_listeners)
        await until(lambda: not isinstance(one, FileRelay) or bool(one._audience and two._audience))
        long = b"y" * 300_000
        one.send(ID, b"from one")
        two.send(ID, long)
        await first.until(lambda ear: ear.lines == [long])
        await second.until(lambda ear: ear.lines == [b"from one"])


async def test_a_process_that_comes_later_is_heard(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "REMIND_SECONDS", 0.1)
    async with process() as one:
        ear = Ear(one)
        async with process() as late:
            await until(lambda: late.has_listeners)
            late.send(ID, b"here I am")
            await ear.until(lambda ear: ear.lines == [b"here I am"])


async def test_who_leaves_hears_nothing_more_and_costs_nothing(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "REMIND_SECONDS", 0.1)
    monkeypatch.setattr(redis_module, "_FORGET_SECONDS", 0.3)
    async with process() as one, process() as two:
        for _ in range(3):
            ear = Ear(one)
            await until(lambda: two.has_listeners)
            two.send(ID, b"heard")
            await ear.until(lambda ear: ear.lines == [b"heard"])
            one.leave()
            await until(lambda: not two.has_listeners)
            two.send(ID, b"not heard")
        assert ear.lines == [b"heard"]


# Over a folder.


async def heard_of_each_other(one: Relay, two: Relay) -> None:
    """Until nobody is about to connect to anybody any more."""
    Ear(one)
    await until(lambda: two.has_listeners)
    one.leave()
    await until(lambda: not two.has_listeners)


async def test_who_hears_of_a_new_one_while_it_is_calling_it_hears_it_once(tmp_path: Path) -> None:
    async with of_folder(tmp_path) as one, of_folder(tmp_path) as two:
        ear = Ear(one)
        one._call_others()  # as when `new` comes
        await until(lambda: two.has_listeners)
        two.send(ID, b"once")
        two.send(ID, b"end")
        await ear.until(lambda ear: b"end" in ear.lines)
        assert ear.lines == [b"once", b"end"]


async def test_a_peer_that_ends_was_perhaps_about_to_say_something(tmp_path: Path) -> None:
    async with of_folder(tmp_path) as one:
        ear = Ear(one)
        async with of_folder(tmp_path) as two:
            await until(lambda: two.has_listeners)
        await ear.until(lambda ear: ear.misses == 1)
        async with of_folder(tmp_path) as three:
            await until(lambda: three.has_listeners)


async def test_who_does_not_read_is_hung_up_on_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_module._Line, "longest_wait_bytes", 100_000)
    async with of_folder(tmp_path) as one, of_folder(tmp_path) as two:
        ear = Ear(one)
        await until(lambda: two.has_listeners)
        for number in range(100):  # without a turn for the loop in which it could be read
            two.send(UploadId(f"{number:032x}"), b"x" * 50_000)
        assert two.has_listeners
        await ear.until(lambda ear: ear.misses >= 1)
        ear.lines.clear()
        await until(lambda: two.has_listeners)
        two.send(ID, b"again")
        await ear.until(lambda ear: b"again" in ear.lines)


async def test_who_reads_slowly_hears_the_newest_of_each_upload(tmp_path: Path) -> None:
    """A burst of more than the socket takes: twice a second each worker tells of all uploads that are under way."""
    ids = [UploadId(f"{number:032x}") for number in range(300)]
    async with of_folder(tmp_path) as one, of_folder(tmp_path) as two:
        ear = Ear(one)
        await until(lambda: two.has_listeners)
        for offset in range(5):
            for upload_id in ids:
                two.send(upload_id, f"{upload_id} {offset} ".encode() + b"x" * 10_000)
        await ear.until(lambda ear: ear.lines[-1:] == [f"{ids[-1]} 4 ".encode() + b"x" * 10_000])
        assert ear.misses == 0
        heard = [line.split()[:2] for line in ear.lines]
        assert len(heard) < 5 * len(ids)
        assert dict(heard) == {upload_id.encode(): b"4" for upload_id in ids}
        assert heard == sorted(heard, key=lambda pair: pair[1])
        for line in two._audience:
            assert (line._waiting, line._waiting_bytes) == ({}, 0)


async def test_strangers_at_the_socket_harm_nobody(tmp_path: Path) -> None:
    async with of_folder(tmp_path) as one, of_folder(tmp_path) as two:
        for word in (b"hello\n", b"new\n", b"\xff\xfe\n", b"x" * 600_000, b""):
            for path in (tmp_path / "news").glob("*.sock"):
                _reader, writer = await asyncio.open_unix_connection(str(path))
                with suppress(ConnectionError):
                    writer.write(word)
                    await writer.drain()
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
        ear = Ear(one)
        await until(lambda: two.has_listeners)
        two.send(ID, b"fine")
        await ear.until(lambda ear: ear.lines == [b"fine"])


async def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "news"
    async with of_folder(tmp_path) as one:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(folder / "1-dead.sock"))
        ear = Ear(one)
        async with of_folder(tmp_path) as two:
            await until(lambda: two.has_listeners)
            two.send(ID, b"alive")
            await ear.until(lambda ear: ear.lines == [b"alive"])
            assert len(list(folder.iterdir())) == 2
    assert list(folder.iterdir()) == []


async def test_a_killed_process_is_noticed_at_once(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from tusd_py.lockers.file.relay import FileRelay\n"
        "async def main():\n"
        "    relay = FileRelay(sys.argv[1])\n"
        "    await relay.start()\n"
        "    print('up', flush=True)\n"
        "    while not relay.has_listeners:\n"
        "        await asyncio.sleep(0.01)\n"
        "    relay.send('0' * 32, b'said')\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "news")]
    other = await anyio.to_thread.run_sync(lambda: subprocess.Popen(command, stdout=subprocess.PIPE))
    try:
        async with of_folder(tmp_path) as one:
            await anyio.to_thread.run_sync(other.stdout.readline)
            ear = Ear(one)
            await ear.until(lambda ear: ear.lines == [b"said"])
            os.kill(other.pid, signal.SIGKILL)
            await ear.until(lambda ear: ear.misses == 1)
    finally:
        other.kill()
        other.stdout.close()
        await anyio.to_thread.run_sync(other.wait)


async def test_a_folder_that_cannot_be_used_is_told_of_and_nothing_else_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "news").write_text("in the way")
    async with of_folder(tmp_path) as relay:
        Ear(relay)
        relay.send(ID, b"to nobody")
        assert not relay.has_listeners
    assert [record.message.split()[0] for record in caplog.records] == ["FeedFailed"]


async def test_a_socket_that_was_cleaned_away_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_module, "_TOUCH_SECONDS", 0.02)
    async with of_folder(tmp_path) as one, of_folder(tmp_path) as two:
        for path in (tmp_path / "news").glob("*.sock"):
            path.unlink()
        await until(lambda: len(list((tmp_path / "news").glob("*.sock"))) == 2)
        ear = Ear(one)
        await until(lambda: two.has_listeners)
        two.send(ID, b"found")
        await ear.until(lambda ear: ear.lines == [b"found"])


async def test_a_folder_that_was_removed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once by who wants to hear; by the others when they look whether they are still listed."""
    async with of_folder(tmp_path) as one, of_folder(tmp_path) as two:
        await heard_of_each_other(one, two)
        shutil.rmtree(tmp_path / "news")
        ear = Ear(one)
        await until(lambda: len(list((tmp_path / "news").glob("*.sock"))) == 1)
        await two._be_listed()
        await until(lambda: two.has_listeners)
        two.send(ID, b"found")
        await ear.until(lambda ear: ear.lines == [b"found"])


async def test_who_is_listed_again_while_it_listens_calls_those_who_were_before(tmp_path: Path) -> None:
    async with of_folder(tmp_path) as one, of_folder(tmp_path) as two:
        await heard_of_each_other(one, two)
        shutil.rmtree(tmp_path / "news")
        await two._be_listed()
        ear = Ear(one)
        await until(lambda: two.has_listeners)
        two.send(ID, b"found")
        await ear.until(lambda ear: ear.lines == [b"found"])


# Over Redis.


async def test_redis_that_goes_and_comes_costs_news_and_says_so(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        async with of_redis(server) as one, of_redis(server) as two:
            ear = Ear(one)
            await until(lambda: two.has_listeners)
            two.send(ID, b"before")
            await ear.until(lambda ear: ear.lines == [b"before"])
            misses = ear.misses
            await anyio.to_thread.run_sync(server.kill)
            two.send(ID, b"lost")
            await ear.until(lambda ear: ear.misses > misses)
            await anyio.to_thread.run_sync(server.start)
            for number in itertools.count():
                two.send(ID, b"after %d" % number)
                with anyio.move_on_after(0.2):
                    await ear.until(lambda ear: any(line.startswith(b"after") for line in ear.lines))
                    break
                assert number < 50
            assert b"lost" not in ear.lines
