"""`core.jobs.Queue` over a SQLite file. Waits for jobs without asking the disk more than once a second."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from tusd_py.core.jobs import Claim, Job, JobState, JobStatus
from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError
from tusd_py.jobs.sqlite import statements
from tusd_py.jobs.sqlite.writer import Writer
from tusd_py.jobs.wakeups import Wakeups

KEEP_DONE_SECONDS = 7 * 24 * 3600.0
BUSY_SECONDS = 5.0

LOOK_SECONDS = 1.0
"""How often to look for what other processes put. One search of an index, so there is no use in asking first whether
the file has changed."""

FORGET_SECONDS = 10.0
FORGET_COUNT = 500
"""How often to remove what has been over for long, and how much at once; sooner while there is more."""


Claims = list[Claim]  # by another name, since `list` is a method below


class SqliteQueue:
    """`keep_done_seconds`: for how long a repeat of what is over is recognised. `on_loss` is called when the file was
    damaged, removed or replaced, and what is owed is to be found again. `clock` must be that of all processes that use
    the file. `start` may be left out: then what it would say is told to whoever comes first."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keep_done_seconds: float = KEEP_DONE_SECONDS,
        busy_seconds: float = BUSY_SECONDS,
        on_loss: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._writer = Writer(os.fspath(path), busy_seconds, on_loss)
        self._wakeups = Wakeups()
        self._keep_done_seconds = keep_done_seconds
        self._clock = clock
        self._forget_at = -math.inf
        self._undoing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises ConfigError when the file cannot be used as it is. A damaged one is set aside, which the log tells."""
        await self._writer.start()

    async def put(self, jobs: Sequence[Job]) -> None:
        if jobs:
            await self._writer.write(partial(statements.put, jobs=[*jobs], now=self._clock()))
            self._wakeups.wake()

    async def put_again(self, jobs: Sequence[Job]) -> set[UploadId]:
        if not jobs:
            return set()
        settled = await self._writer.write(partial(statements.put_again, jobs=[*jobs], now=self._clock()))
        self._wakeups.wake()
        return settled

    async def claim(self, capacity: Mapping[str, int], lease_seconds: float) -> Claims:
        await self._forget()
        wanted = {hook: most for hook, most in capacity.items() if most > 0}
        take = partial(self._take, wanted, lease_seconds)
        return await self._wakeups.wait_for_some(take, lease_seconds, LOOK_SECONDS)

    async def extend(
        self, claim: Claim, lease_seconds: float, progress: float | None = None, note: str | None = None
    ) -> bool:
        until = self._clock() + lease_seconds
        return await self._change(statements.EXTEND, [claim], until=until, progress=progress, note=note)

    async def finish(self, claims: Sequence[Claim]) -> set[UploadId]:
        if not claims:
            return set()
        call = partial(statements.finish, claims=[*claims], now=self._clock())
        settled = await self._writer.write(call)
        self._wakeups.wake()
        return settled

    async def put_off(self, claim: Claim, seconds: float, error: str) -> None:
        await self._change(statements.PUT_OFF, [claim], due_at=self._clock() + seconds, error=error)

    async def give_back(self, claims: Sequence[Claim]) -> None:
        if claims:
            await self._change(statements.GIVE_BACK, claims)

    async def bury(self, claim: Claim, error: str) -> None:
        await self._change(statements.BURY, [claim], error=error)

    async def cancel(self, upload_id: UploadId, kept: str = "") -> int:
        call = partial(statements.cancel, upload_id=upload_id, kept=kept, now=self._clock())
        count = await self._writer.write(call)
        self._wakeups.wake()  # what is kept may be the next of its line
        return count

    async def list(self, states: Sequence[JobState], count: int, after: str = "") -> list[JobStatus]:
        return await self._writer.read(partial(statements.listed, states=states, count=count, after=after))

    async def find(self, key: str) -> JobStatus | None:
        return await self._writer.read(partial(statements.find, key=key))

    async def counts(self) -> Mapping[JobState, int]:
        return await self._writer.read(statements.counts)

    async def overdue_seconds(self, hooks: Sequence[str]) -> float:
        soonest = await self._writer.read(partial(statements.soonest, hooks=hooks))
        return max(0.0, self._clock() - soonest)

    async def retry(self, key: str) -> bool:
        found = await self._writer.write(partial(statements.retry, key=key, now=self._clock()))
        self._wakeups.wake()
        return found

    async def drop(self, key: str) -> bool:
        found = await self._writer.write(partial(statements.drop, key=key, now=self._clock()))
        self._wakeups.wake()  # the next of its line
        return found

    async def aclose(self) -> None:
        while self._undoing:
            await asyncio.wait(self._undoing)
        await self._writer.aclose()

    async def _change(self, statement: str, claims: Sequence[Claim], **fields: object) -> bool:
        fields["now"] = self._clock()
        call = partial(statements.change, statement=statement, claims=[*claims], fields=fields)
        is_held = await self._writer.write(call)
        self._wakeups.wake()
        return is_held

    async def _take(self, capacity: Mapping[str, int], lease_seconds: float) -> tuple[Claims, float]:
        soonest = await self._writer.read(partial(statements.soonest, hooks=capacity))
        now = self._clock()
        if soonest > now:
            return [], soonest - now
        future = self._writer.write(partial(statements.claim, capacity=capacity, now=now, until=now + lease_seconds))
        try:
            return await asyncio.shield(future), 0.0
        except asyncio.CancelledError:
            undoing = asyncio.get_running_loop().create_task(self._undo(future))
            self._undoing.add(undoing)
            undoing.add_done_callback(self._undoing.discard)
            raise

    async def _undo(self, taking: asyncio.Future[Claims]) -> None:
        """Give back the claims that nobody heard of. If that fails, their lease runs out."""
        with suppress(BackendError):
            await self.give_back(await taking)

    async def _forget(self) -> None:
        now = self._clock()
        if now < self._forget_at:
            return
        self._forget_at = now + FORGET_SECONDS
        before = now - self._keep_done_seconds
        if await self._writer.write(partial(statements.forget, before=before, count=FORGET_COUNT)) >= FORGET_COUNT:
            self._forget_at = now
