"""The lane: the bytes of one body, from the socket straight into the memory of whoever stores them.

While it is open, the parser sees nothing: `TusProtocol` lets the event loop receive into `Lane.buffer()`. Bodies of
known length only. Each byte is copied once less than on the way through the parser, four times less than through
ASGI messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

from uvicorn.protocols.http.flow_control import FlowControl

from tusd_py.core.body import Sink
from tusd_py.server.cycle import TusCycle


class Lane:
    """Fills `sink` with the `left` bytes that the body still lacks. `whole` is called when the last one is there."""

    __slots__ = ("_error", "_flow", "_pause", "_spare", "_waiter", "_whole", "left", "sink")

    def __init__(self, sink: Sink, left: int, flow: FlowControl, spare: memoryview, whole: Callable[[], None]) -> None:
        self.sink = sink
        self.left = left
        self._flow = flow
        self._spare = spare
        self._whole = whole
        self._pause: Awaitable[None] | None = None
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Until the body is whole or `is_over`. Raises what the sink raises."""
        try:
            while self.left and not is_over():
                self._flow.resume_reading()
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
                if self._error is not None:
                    raise self._error
                if self._pause is not None:
                    pause, self._pause = self._pause, None
                    await pause
        finally:
            if isinstance(self._pause, Coroutine):  # cancelled before it was awaited
                self._pause.close()

    def rescue(self, data: bytes, cycle: TusCycle) -> None:
        """Bytes that came another way when the connection broke; `cycle` hands them over when the lane is closed."""
        data = data[: self.left]
        cycle.add(data)
        self.left -= len(data)
        if not self.left:
            self._whole()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Called by the protocol, from within the event loop's read.

    def buffer(self) -> memoryview:
        try:
            room = self.sink.buffer()
        except Exception as error:
            self._error = error  # raised if a byte comes; the end of the connection may come instead
            return self._spare
        return room if len(room) <= self.left else room[: self.left]

    def filled(self, count: int) -> None:
        if self._error is None:
            self.left -= count
            try:
                self._pause = self.sink.filled(count)
            except Exception as error:
                self._error = error
        if self._error is not None or self._pause is not None:
            self._flow.pause_reading()
            self.wake()
        if not self.left:
            self._whole()
            self.wake()
