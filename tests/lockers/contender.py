"""A process that uses a FileLocker as its standard input says, and writes what happened. For `test_file`.

hold ID WISH KIND   KIND busy: goes on whatever it is asked; stalled, healthy: a Body whose client is like that
release ID          (busy only)
settle ID
count ID TIMES PATH add one to the number in the file at PATH, TIMES times, each time under the lock
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from tusd_py.core.body import Body, Sink, Wish
from tusd_py.core.patience import Patience
from tusd_py.core.upload import UploadId
from tusd_py.errors import TusError
from tusd_py.lockers.file import FileLocker


class Client:
    def __init__(self, kind: str) -> None:
        self._kind = kind

    async def fill(self, sink: Sink) -> None:
        while True:
            sink.buffer()[:4] = b"data"
            sink.filled(4)
            await asyncio.sleep(0.02 if self._kind == "healthy" else 3600)


class Scrap:
    def __init__(self) -> None:
        self._room = memoryview(bytearray(64))

    def buffer(self) -> memoryview:
        return self._room

    def filled(self, count: int) -> None:
        pass


class Contender:
    def __init__(self, locker: FileLocker) -> None:
        self._locker = locker
        self._released: dict[str, asyncio.Event] = {}

    async def hold(self, upload_id: str, wish: str, kind: str) -> None:
        body = Body(Client(kind), patience=Patience(stall_seconds=0.3))
        released = self._released[upload_id] = asyncio.Event()

        async def goes_on(_wish: Wish) -> bool:
            return False

        ask = goes_on if kind == "busy" else body.release_requested
        try:
            async with self._locker.hold(UploadId(upload_id), ask, wish=None if wish == "none" else Wish(wish)):
                say(f"held {upload_id}")
                await (released.wait() if kind == "busy" else body.into(Scrap()))
            say(f"released {upload_id}")
        except TusError as error:
            say(f"{error.status} {upload_id}")

    async def release(self, upload_id: str) -> None:
        self._released[upload_id].set()

    async def settle(self, upload_id: str) -> None:
        say(f"settled {upload_id} {await self._locker.settle(UploadId(upload_id))}")

    async def count(self, upload_id: str, times: str, path: str) -> None:
        async def goes_on(_wish: Wish) -> bool:
            return False

        for _ in range(int(times)):
            async with self._locker.hold(UploadId(upload_id), goes_on):
                number = int(Path(path).read_text())
                await asyncio.sleep(random.choice([0, 0, 0.001]))
                Path(path).write_text(str(number + 1))
            await asyncio.sleep(random.choice([0, 0.001]))
        say("counted")


def say(line: str) -> None:
    print(line, flush=True)


async def main(directory: str, timeout_seconds: str) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with FileLocker(directory, float(timeout_seconds)) as locker:
        contender = Contender(locker)
        say("ready")
        tasks = set()
        while line := (await reader.readline()).decode():
            verb, *words = line.split()
            tasks.add(asyncio.create_task(getattr(contender, verb)(*words)))
        for task in tasks:
            task.cancel()
    transport.close()


if __name__ == "__main__":
    if sys.argv[3] == "uvloop":
        import uvloop

        uvloop.run(main(*sys.argv[1:3]))
    else:
        asyncio.run(main(*sys.argv[1:3]))
