"""FileLocker between real processes, killed and stopped ones among them, and what happens to its directory."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import socket
import stat
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from tusd_py.core.body import Wish
from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError, RequestError
from tusd_py.lockers.file import FileLocker, ranges
from tusd_py.lockers.file import locker as file_module

pytestmark = pytest.mark.anyio

ID = UploadId("00112233445566778899aabbccddeeff")
SCRIPT = Path(__file__).with_name("contender.py")


class Contender:
    """The other process."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._lines = BufferedByteReceiveStream(process.stdout)

    async def send(self, line: str) -> None:
        await self._process.stdin.send(line.encode() + b"\n")

    async def says(self, line: str, seconds: float = 3) -> float:
        """Wait for this very line; returns how long it took."""
        start = time.monotonic()
        with anyio.fail_after(seconds):
            assert (await self._lines.receive_until(b"\n", 200)).decode() == line
        return time.monotonic() - start

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self._process.wait()


@asynccontextmanager
async def contender(directory: Path, timeout_seconds: float = 5, loop: str = "asyncio") -> AsyncIterator[Contender]:
    process = await anyio.open_process(
        [sys.executable, str(SCRIPT), str(directory), str(timeout_seconds), loop], stderr=None
    )
    async with process:
        try:
            made = Contender(process)
            await made.says("ready", 10)
            yield made
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def busy(_wish: Wish) -> bool:
    return False


async def take(locker: FileLocker, wish: Wish | None = Wish.WHEN_STALLED) -> None:
    async with locker.hold(ID, busy, wish=wish):
        pass


async def timed(awaitable: Awaitable[None]) -> float:
    start = time.monotonic()
    await awaitable
    return time.monotonic() - start


async def until(is_true: Callable[[], bool]) -> None:
    with anyio.fail_after(3):
        while not is_true():
            await anyio.sleep(0.005)


class TestProcesses:
    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    async def test_exclusion_and_hand_over(self, tmp_path, loop):
        async with FileLocker(tmp_path) as ours, contender(tmp_path, loop=loop) as other:
            async with ours.hold(ID, busy):
                await other.send(f"hold {ID} none busy")
                await other.says(f"423 {ID}")
                await other.send(f"hold {ID} if-stalled busy")
                await other.says(f"423 {ID}")
                await other.send(f"hold {ID} when-stalled busy")
                await other.send(f"settle {ID}")
                await other.says(f"settled {ID} True")
            assert await other.says(f"held {ID}") < 0.3
            with pytest.raises(RequestError):
                await take(ours, None)
            await other.send(f"release {ID}")
            assert await timed(take(ours)) < 0.3

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    async def test_stalled_body_hands_over_within_a_second(self, tmp_path, loop):
        async with FileLocker(tmp_path) as ours, contender(tmp_path, loop=loop) as other:
            for wish in [Wish.WHEN_STALLED, Wish.IF_STALLED, Wish.NOW]:
                await other.send(f"hold {ID} none stalled")
                await other.says(f"held {ID}")
                assert await timed(take(ours, wish)) < 0.8
                await other.says(f"released {ID}")
            await other.send(f"hold {ID} none stalled")
            await other.says(f"held {ID}")
            assert await ours.settle(ID) is False

    async def test_healthy_body_goes_on(self, tmp_path):
        async with FileLocker(tmp_path, 0.6) as ours, contender(tmp_path) as other:
            await other.send(f"hold {ID} none healthy")
            await other.says(f"held {ID}")
            assert await ours.settle(ID) is True
            for wish in [Wish.WHEN_STALLED, Wish.IF_STALLED]:
                with pytest.raises(RequestError):
                    await take(ours, wish)
            assert await timed(take(ours, Wish.NOW)) < 0.3
            await other.says(f"released {ID}")

    async def test_line_here_does_not_keep_a_wish_from_there(self, tmp_path):
        """An append waits here for a healthy one there; a DELETE here must still reach that one (failures F26)."""
        async with FileLocker(tmp_path) as ours, contender(tmp_path) as other:
            await other.send(f"hold {ID} none healthy")
            await other.says(f"held {ID}")
            waiting = asyncio.create_task(take(ours))
            await until(lambda: bool(ours._turns._locks))
            assert await timed(take(ours, Wish.NOW)) < 0.3
            await waiting

    async def test_killed_holder(self, tmp_path):
        async with FileLocker(tmp_path) as ours, contender(tmp_path) as other:
            await other.send(f"hold {ID} none healthy")
            await other.says(f"held {ID}")
            waiting = asyncio.create_task(take(ours))
            await until(lambda: bool(ours._machine._peers._links))
            assert await ours.settle(ID) is True
            start = time.monotonic()
            await other.kill()
            await waiting
            assert time.monotonic() - start < 0.5
            await take(ours, None)
            assert await ours.settle(ID) is False

    async def test_killed_waiter(self, tmp_path):
        asked = []

        async def asking(wish: Wish) -> bool:
            asked.append(wish)
            try:
                await anyio.sleep_forever()
            finally:
                asked.append("taken back")

        async with FileLocker(tmp_path) as ours, contender(tmp_path) as other:
            async with ours.hold(ID, asking):
                await other.send(f"hold {ID} when-stalled busy")
                await until(lambda: asked == [Wish.WHEN_STALLED])
                await other.kill()
                await until(lambda: asked == [Wish.WHEN_STALLED, "taken back"])
            await take(ours, None)

    async def test_stopped_holder(self, tmp_path):
        """It answers nothing and lets nothing go, but it still has the lock: 423 at the limit, no lock broken."""
        async with FileLocker(tmp_path, 0.5) as ours, contender(tmp_path) as other:
            await other.send(f"hold {ID} none stalled")
            await other.says(f"held {ID}")
            other.signal(signal.SIGSTOP)
            start = time.monotonic()
            assert await ours.settle(ID) is True
            assert 0.5 < time.monotonic() - start < 1.5
            for wish in [Wish.WHEN_STALLED, Wish.NOW]:
                start, cpu = time.monotonic(), time.process_time()
                with pytest.raises(RequestError) as caught:
                    await take(ours, wish)
                assert caught.value.status == 423
                assert 0.45 < time.monotonic() - start < 0.8
                assert time.process_time() - cpu < 0.05
            waiting = asyncio.create_task(take(ours, Wish.NOW))
            await until(lambda: bool(ours._machine._peers._links))
            other.signal(signal.SIGCONT)
            assert await timed(waiting) < 0.5

    async def test_stopped_bystander_keeps_nobody_waiting(self, tmp_path):
        async with (
            FileLocker(tmp_path) as ours,
            contender(tmp_path) as other,
            contender(tmp_path) as bystander,
        ):
            bystander.signal(signal.SIGSTOP)
            await other.send(f"hold {ID} none stalled")
            await other.says(f"held {ID}")
            assert await timed(take(ours)) < 0.8

    async def test_no_lost_update(self, tmp_path):
        number = tmp_path / "number"
        number.write_text("0")
        async with contender(tmp_path, 20) as one, contender(tmp_path, 20, "uvloop") as two:
            for each in (one, two):
                await each.send(f"count {ID} 100 {number}")
                await each.send(f"count {ID} 100 {number}")
            for each in (one, two):
                await each.says("counted", 15)
                await each.says("counted", 15)
        assert number.read_text() == "400"


class TestDirectory:
    async def test_long_path(self, tmp_path):
        directory = tmp_path / ("long" * 30) / ("path" * 30)
        async with FileLocker(directory) as ours, FileLocker(str(directory)) as theirs:
            async with ours.hold(ID, busy):
                assert await theirs.settle(ID) is True
                waiting = asyncio.create_task(take(theirs))
                await until(lambda: bool(ours._machine._peers.callers))
            await waiting
            assert len(list(directory.iterdir())) == 3

    async def test_private(self, tmp_path):
        directory = tmp_path / "locks"
        async with FileLocker(directory):
            modes = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
            assert modes == {"": 0o600, ".sock": 0o600}
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert [path.name for path in directory.iterdir()] == ["lock"]

    async def test_start_removes_what_the_dead_left(self, tmp_path):
        leave_sockets(tmp_path, "1-00000000.sock", "999999999-00000000.sock.new", f"{os.getpid()}-0.sock.new")
        async with contender(tmp_path) as other, FileLocker(tmp_path):
            await other.kill()
            async with FileLocker(tmp_path):
                left = sorted(path.name for path in tmp_path.iterdir() if path.name.endswith(".new"))
                assert left == [f"{os.getpid()}-0.sock.new"]  # of a process that lives, and may be about to listen
                assert len(list(tmp_path.glob("*.sock"))) == 2

    async def test_asking_removes_what_the_dead_left(self, tmp_path):
        async with FileLocker(tmp_path) as ours, FileLocker(tmp_path) as theirs, theirs.hold(ID, busy):
            leave_sockets(tmp_path, "1-00000000.sock")
            with pytest.raises(RequestError):
                await take(ours, Wish.IF_STALLED)
            assert not (tmp_path / "1-00000000.sock").exists()

    async def test_opens_at_first_use(self, tmp_path):
        ours = FileLocker(tmp_path / "a")
        theirs = FileLocker(tmp_path / "a")
        async with ours.hold(ID, busy):
            assert await theirs.settle(ID) is True
        await ours.aclose()
        await theirs.aclose()
        await theirs.aclose()
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["lock"]

    async def test_closing_gives_back_what_is_held(self, tmp_path):
        async with FileLocker(tmp_path) as ours, FileLocker(tmp_path) as theirs, ours.hold(ID, busy):
            waiting = asyncio.create_task(take(theirs))
            await until(lambda: bool(ours._machine._peers.callers))
            await ours.aclose()
            await waiting

    @pytest.mark.parametrize("remove", ["lock", "everything", "directory"])
    async def test_removed_files(self, tmp_path, remove):
        """What is held stays held, new locks work, and everybody can be asked again."""
        directory = tmp_path / "locks"
        async with FileLocker(directory) as ours, FileLocker(directory) as theirs:
            async with ours.hold(ID, busy):
                if remove == "directory":
                    shutil.rmtree(directory)
                else:
                    for path in directory.glob("lock" if remove == "lock" else "*"):
                        path.unlink()
                async with ours.hold(UploadId("another"), busy):
                    assert (directory / "lock").exists()
                assert await theirs.settle(ID) is True
                with pytest.raises(RequestError):
                    await take(theirs, None)
                waiting = asyncio.create_task(take(theirs))
                await until(lambda: bool(ours._machine._peers.callers))
                start = time.monotonic()
            await waiting
            assert time.monotonic() - start < 0.3
            assert len(list(directory.glob("*.sock"))) == 2

    async def test_removed_lock_file_seen_by_the_other_first(self, tmp_path):
        """The holder has done nothing since; it is asked before anybody takes its upload."""
        async with FileLocker(tmp_path, 0.3) as ours, FileLocker(tmp_path, 0.3) as theirs:
            async with ours.hold(ID, busy):
                (tmp_path / "lock").unlink()
                with pytest.raises(RequestError):
                    await take(theirs)
                with pytest.raises(RequestError):
                    await take(theirs, None)
            await take(theirs, None)

    async def test_cleaners_see_that_it_is_used(self, tmp_path, monkeypatch):
        monkeypatch.setattr(file_module, "_TOUCH_SECONDS", 0.0)
        async with FileLocker(tmp_path) as ours:
            for path in tmp_path.iterdir():
                os.utime(path, (0, 0))
            await take(ours)
            assert all(path.stat().st_mtime > time.time() - 60 for path in tmp_path.iterdir())
            next(tmp_path.glob("*.sock")).unlink()
            await take(ours)
            assert len(list(tmp_path.glob("*.sock"))) == 1


class TestUnreachableHolder:
    async def test_its_end_is_noticed(self, tmp_path):
        """A holder whose socket was removed cannot be asked, so it is looked after now and then."""
        async with FileLocker(tmp_path) as ours, FileLocker(tmp_path) as theirs:
            async with theirs.hold(ID, busy):
                (tmp_path / theirs._machine._folder._own_name).unlink()
                waiting = asyncio.create_task(take(ours))
                await anyio.sleep(0.3)
                assert not waiting.done()
            assert await timed(waiting) < 0.5

    async def test_looking_costs_little(self, tmp_path):
        async with FileLocker(tmp_path, 1.0) as ours, FileLocker(tmp_path) as theirs, theirs.hold(ID, busy):
            (tmp_path / theirs._machine._folder._own_name).unlink()
            start = time.process_time()
            with pytest.raises(RequestError):
                await take(ours)
            assert time.process_time() - start < 0.05


class TestFailures:
    @pytest.mark.parametrize(("number", "advice"), [(errno.ENOLCK, "local file system"), (errno.EIO, "see the reason")])
    async def test_lock_fails(self, tmp_path, monkeypatch, caplog, number, advice):
        def fails(*_arguments: object) -> bool:
            raise OSError(number, os.strerror(number))

        async with FileLocker(tmp_path) as ours:
            with monkeypatch.context() as patch:
                patch.setattr(ranges, "_set", fails)
                with pytest.raises(BackendError) as caught:
                    await take(ours)
            assert isinstance(caught.value.__cause__, OSError)
            assert advice in caplog.text
            await take(ours)

    async def test_lock_fails_for_who_waited(self, tmp_path, monkeypatch):
        async with FileLocker(tmp_path) as ours, FileLocker(tmp_path) as theirs:
            async with theirs.hold(ID, busy):
                waiting = [asyncio.create_task(take(ours)) for _ in range(3)]
                await until(lambda: bool(theirs._machine._peers.callers))
                monkeypatch.setattr(ours._machine._file, "lock", _out_of_locks)
            for result in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(result, BackendError)
            assert not ours._turns._locks

    async def test_directory_cannot_be_made(self, tmp_path, caplog):
        (tmp_path / "file").write_text("")
        locker = FileLocker(tmp_path / "file" / "locks")
        with pytest.raises(BackendError):
            await locker.start()
        with pytest.raises(BackendError):
            await take(locker)
        assert "LockerFailed" in caplog.text
        await locker.aclose()


def _out_of_locks(_name: str) -> bool:
    raise OSError(errno.ENOLCK, "no locks")


def leave_sockets(directory: Path, *names: str) -> None:
    for name in names:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(f"{directory}/{name}")
