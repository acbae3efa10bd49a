"""The worker: takes jobs from a queue, has them run, and tells the queue what became of them.

Knows nothing of hooks: `run` is given by the app, and raises to fail. What it raises may have the attributes
`retry_after_seconds`, which counts where it is longer than the delay of `backoff`, and `is_final`: there is no use in
another try. While the queue is down what runs goes on; whose claim was lost meanwhile is heard as soon as it is back.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tusd_py.core.jobs import Claim, Job, Queue
from tusd_py.jobs import backoff
from tusd_py.logs import Seldom, event

log = logging.getLogger("tusd_py.jobs")
T = TypeVar("T")

LEASE_SECONDS = 30.0
GATHER_SECONDS = 0.01
"""Jobs that come one by one are taken some at a time: a look at the queue costs more than a short job."""

BEAT_SECONDS = 1.0
"""How often at most a job's progress is written down."""

LONGEST_TEXT = 1000
"""Signs of an error or a note that are kept."""

LAST_WORD_SECONDS = 5.0
"""What the queue and the jobs have, after the grace is over, to take back what was cancelled."""


class Beat:
    """What a running job says of itself, when it likes: written down once a second."""

    def __init__(self) -> None:
        self.progress: float | None = None
        self.note: str | None = None
        self.is_news = False

    def __call__(self, progress: float | None = None, note: str | None = None) -> None:
        """`progress` from 0 to 1; None leaves what was said. Never waits."""
        if progress is not None:
            self.progress = min(max(progress, 0.0), 1.0)
        if note is not None:
            self.note = _plain(note)
        self.is_news = True


Run = Callable[[Job, Beat], Awaitable[None]]


@dataclass(slots=True, eq=False)
class _Running:
    claim: Claim
    extended_at: float
    beat: Beat = field(default_factory=Beat)
    task: asyncio.Task[None] | None = None
    is_lost: bool = False

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()


class _Lane:
    """One hook's jobs: how many may run, and which do."""

    def __init__(self, hook: str, most: int) -> None:
        self.hook = hook
        self.running: set[_Running] = set()
        self._most = most
        self._has_room = asyncio.Event()

    async def room(self) -> int:
        """How many more may run, as soon as it is one."""
        while len(self.running) >= self._most:
            self._has_room.clear()
            await self._has_room.wait()
        return self._most - len(self.running)

    def leave(self, running: _Running) -> None:
        self.running.discard(running)
        self._has_room.set()


class Worker:
    """`capacity`: how many jobs of each hook may run here at once. Others' hooks are left alone. `settled` hears of
    jobs that were the last thing owed about their uploads."""

    def __init__(
        self,
        queue: Queue,
        run: Run,
        capacity: Mapping[str, int],
        lease_seconds: float = LEASE_SECONDS,
        delays_seconds: Sequence[float] = backoff.DELAYS_SECONDS,
        draw: Callable[[], float] = random.random,
        settled: Callable[[Job], object] = lambda _job: None,
    ) -> None:
        self._settled = settled
        self._queue = queue
        self._run = run
        self._lease_seconds = lease_seconds
        self._beat_seconds = min(BEAT_SECONDS, lease_seconds / 3)
        self._delays_seconds = delays_seconds
        self._draw = draw
        self._lanes = [_Lane(hook, most) for hook, most in capacity.items() if most > 0]
        self._feeds: list[asyncio.Task[None]] = []
        self._keeper: asyncio.Task[None] | None = None
        self._is_over = False
        self._seldom = Seldom()

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._keeper = loop.create_task(self._keep())
        # One for each hook: whoever waits for the jobs of one does not hear that another has room again.
        self._feeds = [loop.create_task(self._feed(lane)) for lane in self._lanes]

    async def stop(self, grace_seconds: float) -> None:
        """Take no more; let what runs end, and after the grace cancel it and give it back. May be called twice."""
        feeds, self._feeds = self._feeds, []
        await _cancel(feeds)
        if tasks := self._tasks():
            await asyncio.wait(tasks, timeout=grace_seconds)
        self._is_over = True
        if tasks := self._tasks():
            for running in self._all_running():
                running.cancel()
            await asyncio.wait(tasks, timeout=LAST_WORD_SECONDS)
        if stuck := self._tasks():  # their leases run out
            event(log, "JobsNotEnded", level=logging.WARNING, jobs=len(stuck))
        if self._keeper is not None:
            await _cancel([self._keeper])

    async def _feed(self, lane: _Lane) -> None:
        outage = backoff.Outage(self._draw)
        while True:
            room = await lane.room()
            try:
                claims = await self._queue.claim({lane.hook: room}, self._lease_seconds)
            except Exception as error:
                self._tell_outage(error)
                await asyncio.sleep(outage.next_seconds())
                continue
            outage = backoff.Outage(self._draw)
            loop = asyncio.get_running_loop()
            for claim in claims:
                running = _Running(claim, loop.time())
                lane.running.add(running)
                running.task = loop.create_task(self._attend(lane, running))
            if len(claims) < room:
                await asyncio.sleep(GATHER_SECONDS)

    async def _attend(self, lane: _Lane, running: _Running) -> None:
        try:
            await self._carry_out(running)
        except asyncio.CancelledError:
            if not running.is_lost:
                await self._insist(lambda: self._queue.give_back([running.claim]))
        finally:
            lane.leave(running)

    async def _carry_out(self, running: _Running) -> None:
        claim = running.claim
        if claim.attempt > len(self._delays_seconds) + 1:
            # Not run: whoever took it so often died of it.
            await self._insist(lambda: self._queue.bury(claim, "given up: its worker ended during each attempt"))
            return
        try:
            await self._run(claim.job, running.beat)
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            await self._fail(running, error)  # the job's own doing
        except Exception as error:
            await self._fail(running, error)
        else:
            await self._last_beat(running)
            if await self._insist(lambda: self._queue.finish([claim])):
                self._settled(claim.job)

    async def _fail(self, running: _Running, error: BaseException) -> None:
        claim, reason = running.claim, _plain(f"{type(error).__name__}: {error}")
        asked_seconds = getattr(error, "retry_after_seconds", None)
        seconds = backoff.delay_seconds(claim.attempt, asked_seconds, self._draw(), self._delays_seconds)
        if getattr(error, "is_final", False):
            seconds = None
        event(
            log,
            "JobBuried" if seconds is None else "JobFailed",
            level=logging.ERROR if seconds is None else logging.WARNING,
            key=claim.job.key,
            attempt=claim.attempt,
            again_seconds=seconds,
            reason=reason,
        )
        await self._last_beat(running)
        if seconds is None:
            await self._insist(lambda: self._queue.bury(claim, reason))
        else:
            await self._insist(lambda: self._queue.put_off(claim, seconds, reason))

    async def _last_beat(self, running: _Running) -> None:
        if running.beat.is_news:
            await self._extend(running)

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """Until the queue has heard it, or, when the worker is being stopped, once."""
        outage = backoff.Outage(self._draw)
        while True:
            try:
                return await call()
            except Exception as error:
                self._tell_outage(error)
            if self._is_over:
                return None
            await asyncio.sleep(outage.next_seconds())

    async def _keep(self) -> None:
        """Extend the leases of what runs, and write down what it says."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._beat_seconds)
            old = loop.time() - self._lease_seconds / 3 + self._beat_seconds / 2  # sooner rather than a beat later
            due = [each for each in self._all_running() if each.beat.is_news or each.extended_at <= old]
            await asyncio.gather(*(self._extend(running) for running in due))

    async def _extend(self, running: _Running) -> None:
        beat = running.beat
        now = asyncio.get_running_loop().time()
        beat.is_news = False
        try:
            is_held = await self._queue.extend(running.claim, self._lease_seconds, beat.progress, beat.note)
        except Exception as error:
            self._tell_outage(error)
            beat.is_news = True
            return
        running.extended_at = now
        if not is_held and not running.is_lost and any(running in lane.running for lane in self._lanes):
            running.is_lost = True
            running.cancel()

    def _tell_outage(self, error: Exception) -> None:
        if self._seldom.is_due(type(error)):
            event(log, "JobsQueueDown", level=logging.ERROR, error=error)

    def _all_running(self) -> list[_Running]:
        return [running for lane in self._lanes for running in lane.running]

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [running.task for running in self._all_running() if running.task is not None]


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _plain(text: str) -> str:
    """What any queue can keep."""
    return text[:LONGEST_TEXT].encode(errors="replace").decode()
