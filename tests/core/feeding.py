"""Bodies whose every byte, break and silence is up to the test, and sinks that write down what they get."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

from tusd_py.core.body import Sink, pour
from tusd_py.core.checksum import Checksum

END = None

Item = bytes | Exception | Checksum | None


class Feed:
    """A `Source`: hands over what it was given, in order; an exception breaks the body, END or a Checksum ends it.

    With nothing left it waits for `give`, as for a silent client. `was_asked` is set as soon as anybody reads.
    """

    def __init__(self, *items: Item) -> None:
        self.was_asked = asyncio.Event()
        self._items: asyncio.Queue[Item] = asyncio.Queue()
        self.give(*items)

    def give(self, *items: Item) -> None:
        for item in items:
            self._items.put_nowait(item)

    async def handed_over(self) -> None:
        """Wait until everything given so far is in the sink."""
        await self._items.join()

    async def fill(self, sink: Sink) -> Checksum | None:
        self.was_asked.set()
        while True:
            item = await self._items.get()
            try:
                if isinstance(item, Exception):
                    raise item
                if not isinstance(item, bytes):
                    return item
                await pour(item, sink)
            finally:
                self._items.task_done()


class Tub:
    """A `Sink` with `room` bytes of buffer; `pause` makes what `filled` returns."""

    def __init__(self, room: int = 64, pause: Callable[[], Awaitable[None] | None] = lambda: None) -> None:
        self.data = bytearray()
        self._view = memoryview(bytearray(room))
        self._pause = pause

    def buffer(self) -> memoryview:
        return self._view

    def filled(self, count: int) -> Awaitable[None] | None:
        assert count > 0
        self.data += self._view[:count]
        return self._pause()


def left_behind() -> list[object]:
    """The tasks and timers of this loop that are not the test's own."""
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    others = [task for task in tasks if "TestRunner" not in getattr(task.get_coro(), "__qualname__", "")]
    return others + [timer for timer in loop._scheduled if not timer.cancelled()]


def sha1(data: bytes) -> Checksum:
    return Checksum("sha1", hashlib.sha1(data).digest())
