"""The bytes of one PATCH on their way into parts, which are sent while more bytes come: a `core.body.Sink`.

What counts is the unbroken run of parts that S3 has taken (failures F4, F5): the first one that it does not take ends
the body. While the body goes on, the run is written down now and then, so a crash costs little. What becomes of the
bytes after the last whole part is left to `stored`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tusd_py.core.body import Body
from tusd_py.errors import Interrupted
from tusd_py.stores.s3.bucket import Bucket
from tusd_py.stores.s3.memory import Part
from tusd_py.stores.s3.record import Record

WINDOW = 16
"""How many part numbers may be used between two states of one PATCH (`Record.window`). Twice COMMIT_BYTES."""

RESTING_WINDOW = 2
"""The same between two PATCHes: one of 8 MiB needs no state before its parts, and where each PATCH comes to another
process, few numbers are left out (`plan.SPARE_SHARE`)."""

COMMIT_BYTES = 64 * 1024 * 1024
COMMIT_SECONDS = 10.0


@dataclass(slots=True)
class Outgoing:
    """A part that is being sent, or was. `etag` None: not taken yet."""

    number: int
    size: int
    crc: int | None
    etag: str | None = None


class Inflow:
    """`gathering` is the part that the next bytes go into; at first it holds the old tail.

    It has the number `next_number`, and `window` numbers may be used before the state that follows `record`.
    `send(outgoing, part)` has S3 take a part; `commit(parts, next_number)` writes down that these count, too, and which
    number nobody has used.
    """

    def __init__(
        self,
        bucket: Bucket,
        gathering: Part,
        next_number: int,
        window: int,
        record: Record,
        send: Callable[[Outgoing, Part], Awaitable[None]],
        commit: Callable[[list[Outgoing], int], Awaitable[None]],
        body: Body,
    ) -> None:
        self.gathering = gathering
        self.next_number = next_number
        self.is_unsent = True  # not one part yet
        self.error: Exception | None = None
        self._memory = bucket.memory
        self._plan = bucket.plan
        self._most_parts = bucket.buffered_parts
        self._send = send
        self._commit = commit
        self._body = body
        self._free_number = next_number + window
        self._start = record.tail_start
        self._length = record.upload.length
        self._others_bytes = record.part_bytes
        self._parts: list[Outgoing] = []  # that the state does not count yet
        self._tasks: set[asyncio.Task[None]] = set()
        self.room = self._room()
        self._committing: asyncio.Task[None] | None = None
        self._commit_at = asyncio.get_running_loop().time() + COMMIT_SECONDS
        self._news = asyncio.Event()

    @property
    def is_whole(self) -> bool:
        """Whether `gathering` is as large as a part may be."""
        return self.gathering.size >= self.room

    # core.body.Sink

    def buffer(self) -> memoryview:
        if self.is_whole:
            self.send()
        return self._memory.spare[: self.room - self.gathering.size]

    def filled(self, count: int) -> Awaitable[None] | None:
        self.gathering.add_spare(count)
        if self.gathering.has_file and self.gathering.pending_bytes >= len(self._memory.spare):
            return self.gathering.spill()
        if self.is_whole and self._is_full:
            return self._wait_for_room()
        if self._memory.is_short:
            return self._wait_for_memory()
        return None

    # What `stored` does.

    def take(self) -> Part:
        """What is gathered; it is the caller's from now on."""
        part, self.gathering = self.gathering, Part(self._memory)
        return part

    def send(self) -> None:
        """Have S3 take what is gathered, as a part; more is gathered after it."""
        part, self.gathering = self.gathering, Part(self._memory)
        outgoing = Outgoing(self.next_number, part.size, part.crc)
        self.next_number += 1
        self._start += part.size
        self._others_bytes = part.size
        self._parts.append(outgoing)
        self.is_unsent = False
        task = asyncio.get_running_loop().create_task(self._send_one(outgoing, part))
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._sent(task, part))  # also of one that never began
        self.room = self._room()

    async def send_rest(self) -> None:
        """The same, of the last of it: once there is a number for it, and not after a failure."""
        await self._wait_for_room()
        if self.error is None:
            self.send()

    async def drained(self) -> list[Outgoing]:
        """Once all that was sent is taken or lost: those that were taken, in order, since the last commit."""
        while self._under_way:
            await asyncio.wait(self._under_way)
        return self._run()

    async def close(self) -> None:
        """End what is under way, whatever it is."""
        while tasks := self._under_way:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        self.gathering.release()

    # Steps.

    def _room(self) -> int:
        is_outpaced = len(self._tasks) >= self._most_parts and self._memory.is_ample
        return self._plan.part_bytes(
            self._start, self.next_number, self._length, self._others_bytes, is_outpaced=is_outpaced
        )

    @property
    def _under_way(self) -> list[asyncio.Task[None]]:
        tasks = [*self._tasks, *([self._committing] if self._committing is not None else ())]
        return [task for task in tasks if not task.done()]

    @property
    def _is_full(self) -> bool:
        return len(self._tasks) >= self._most_parts or self.next_number >= self._free_number

    async def _send_one(self, outgoing: Outgoing, part: Part) -> None:
        try:
            await self._send(outgoing, part)
        except Exception as error:
            self._fail(error)
        # At once: whoever waits for news must not count on a task that has none left.
        self._sent(asyncio.current_task(), part)
        self._commit_if_due()

    def _sent(self, task: asyncio.Task[None] | None, part: Part) -> None:
        part.release()
        if task in self._tasks:
            self._tasks.remove(task)
            self._news.set()

    def _commit_if_due(self) -> None:
        if self.error is None and self._committing is None and self._is_commit_due():
            self._committing = asyncio.get_running_loop().create_task(self._commit_run())

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            self._body.interrupt(
                Interrupted("the storage failed; go on from the offset", code="ERR_STORAGE_FAILED", status=503)
            )

    def _run(self) -> list[Outgoing]:
        """The unbroken run at the start of what was not yet committed."""
        run: list[Outgoing] = []
        for each in self._parts:
            if each.etag is None:
                break
            run.append(each)
        return run

    def _is_commit_due(self) -> bool:
        if self.next_number >= self._free_number:
            return not self._tasks or bool(self._run())
        if self._body.may_be_discarded:
            return False
        run = self._run()
        is_late = asyncio.get_running_loop().time() >= self._commit_at
        return sum(each.size for each in run) >= COMMIT_BYTES or (is_late and bool(run))

    async def _commit_run(self) -> None:
        run = [] if self._body.may_be_discarded else self._run()
        used = self.next_number
        try:
            await self._commit(run, used)
        except Exception as error:
            self._fail(error)
        else:
            del self._parts[: len(run)]
            self._free_number = used + WINDOW
            self._commit_at = asyncio.get_running_loop().time() + COMMIT_SECONDS
        finally:
            self._committing = None
            self._news.set()
        self._commit_if_due()

    async def _wait_for_room(self) -> None:
        while self._is_full and self.error is None:
            self._news.clear()
            await self._news.wait()

    async def _wait_for_memory(self) -> None:
        """Where parts are under way, the memory of one of them comes back; else the bytes go to a file."""
        if not self._tasks:
            await self.gathering.spill()
            return
        self._news.clear()
        await self._news.wait()
