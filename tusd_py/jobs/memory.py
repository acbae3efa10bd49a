"""Jobs in the memory of one process: for tests, and for apps that owe nothing after they ended.

The contract of `core.jobs.Queue`, but nothing outlives the queue. No await between looking and changing, so no locks.
"""

from __future__ import annotations

import heapq
import math
import secrets
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

from tusd_py.core.jobs import Claim, Job, JobState, JobStatus
from tusd_py.core.upload import UploadId
from tusd_py.jobs.wakeups import Wakeups

_Claims = list[Claim]  # by another name, since `list` is a method below

_KEEP_DONE_SECONDS = 7 * 24 * 3600.0


@dataclass(slots=True, eq=False)
class _Entry:
    """`ready_at`: when the job may be had: of the one that is first in its line; None of those behind it, and of those
    that are over. Of a running one it is the end of its lease."""

    number: int
    job: Job
    created_at: float
    changed_at: float
    due_at: float
    state: JobState = JobState.WAITING
    ready_at: float | None = None
    attempts: int = 0
    token: str = ""
    progress: float | None = None
    note: str = ""
    error: str = ""

    @property
    def line(self) -> tuple[UploadId, str]:
        return self.job.upload_id, self.job.hook

    def status(self) -> JobStatus:
        return JobStatus(
            *(self.job, self.state, self.attempts, self.created_at, self.changed_at, self.due_at),
            *(self.progress, self.note, self.error),
        )


class MemoryQueue:
    """`keep_done_seconds`: for how long a repeat of what is over is recognised."""

    def __init__(self, clock: Callable[[], float] = time.time, keep_done_seconds: float = _KEEP_DONE_SECONDS) -> None:
        self._clock = clock
        self._keep_done_seconds = keep_done_seconds
        self._numbers = count()
        self._entries: dict[str, _Entry] = {}
        self._lines: defaultdict[tuple[UploadId, str], list[_Entry]] = defaultdict(list)
        self._ready: defaultdict[str, list[tuple[float, int, _Entry]]] = defaultdict(list)  # heaps, with stale items
        self._owed: Counter[UploadId] = Counter()  # jobs of each upload that are not over
        self._over: deque[tuple[float, str]] = deque()
        self._wakeups = Wakeups()

    async def put(self, jobs: Sequence[Job]) -> None:
        now = self._clock()
        self._forget(now)
        for job in jobs:
            if job.key not in self._entries:
                entry = _Entry(next(self._numbers), job, now, now, now)
                self._entries[job.key] = entry
                self._lines[entry.line].append(entry)
                self._owed[job.upload_id] += 1
                self._settle(entry.line)
        self._wakeups.wake()

    async def put_again(self, jobs: Sequence[Job]) -> set[UploadId]:
        last = {job.upload_id: job.event for job in jobs}
        ends = [job for job in jobs if job.event == last[job.upload_id]]
        known = {job.upload_id for job in ends if job.key in self._entries}
        await self.put([job for job in jobs if job.upload_id not in known])
        return self._settled(set(last))

    async def claim(self, capacity: Mapping[str, int], lease_seconds: float) -> list[Claim]:
        async def take() -> tuple[list[Claim], float]:
            return self._take(capacity, lease_seconds)

        return await self._wakeups.wait_for_some(take, lease_seconds)

    async def extend(
        self, claim: Claim, lease_seconds: float, progress: float | None = None, note: str | None = None
    ) -> bool:
        entry = self._held(claim)
        if entry is None:
            return False
        self._make_ready(entry, self._clock() + lease_seconds)
        entry.progress = entry.progress if progress is None else progress
        entry.note = entry.note if note is None else note
        return True

    async def finish(self, claims: Sequence[Claim]) -> set[UploadId]:
        uploads = set()
        for claim in claims:
            if (entry := self._held(claim)) is not None:
                self._end(entry, JobState.DONE)
                uploads.add(claim.job.upload_id)
        return self._settled(uploads)

    async def put_off(self, claim: Claim, seconds: float, error: str) -> None:
        if (entry := self._held(claim)) is not None:
            entry.error = error
            self._wait(entry, seconds)

    async def give_back(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            if (entry := self._held(claim)) is not None:
                entry.attempts -= 1
                self._wait(entry, 0)

    async def bury(self, claim: Claim, error: str) -> None:
        if (entry := self._held(claim)) is not None:
            entry.error = error
            self._end(entry, JobState.DEAD)

    async def cancel(self, upload_id: UploadId, kept: str = "") -> int:
        lines = [line for key, line in self._lines.items() if key[0] == upload_id]
        entries = [entry for line in lines for entry in line if entry.job.event != kept]
        for entry in entries:
            self._end(entry, JobState.CANCELLED)
        return len(entries)

    async def list(self, states: Sequence[JobState], count: int, after: str = "") -> list[JobStatus]:
        if after and after not in self._entries:
            return []
        number = self._entries[after].number if after else -1
        behind = (each for each in self._entries.values() if each.number > number and each.state in states)
        return [entry.status() for entry in islice(behind, count)]

    async def find(self, key: str) -> JobStatus | None:
        entry = self._entries.get(key)
        return entry.status() if entry is not None else None

    async def counts(self) -> Mapping[JobState, int]:
        counts = dict.fromkeys(JobState, 0)
        for entry in self._entries.values():
            counts[entry.state] += 1
        return counts

    async def overdue_seconds(self, hooks: Sequence[str]) -> float:
        now = self._clock()
        return max(0.0, now - min((self._soonest(hook) for hook in hooks), default=now))

    async def retry(self, key: str) -> bool:
        entry = self._entries.get(key)
        if entry is None or entry.state not in (JobState.WAITING, JobState.DEAD):
            return False
        line = self._lines[entry.line]
        if entry.state is JobState.DEAD:
            line.append(entry)
            line.sort(key=lambda each: each.number)
        for other in line:
            if other.state is JobState.WAITING:
                other.ready_at = None
        entry.attempts = 0
        self._wait(entry, 0)
        return True

    async def drop(self, key: str) -> bool:
        entry = self._entries.get(key)
        if entry is None or entry.state in (JobState.DONE, JobState.CANCELLED):
            return False
        self._end(entry, JobState.CANCELLED)
        return True

    async def aclose(self) -> None:
        pass

    def _settled(self, upload_ids: set[UploadId]) -> set[UploadId]:
        """Those of which nothing is owed."""
        return {each for each in upload_ids if not self._owed[each]}

    def _take(self, capacity: Mapping[str, int], lease_seconds: float) -> tuple[_Claims, float]:
        now = self._clock()
        claims: _Claims = []
        soonest = math.inf
        for hook, most in capacity.items():
            heap = self._ready[hook]
            taken = 0
            while taken < most and heap:
                ready_at, _, entry = heap[0]
                if entry.ready_at == ready_at and ready_at > now:
                    soonest = min(soonest, ready_at - now)
                    break
                heapq.heappop(heap)
                if entry.ready_at == ready_at:
                    taken += 1
                    claims.append(self._lease(entry, now, lease_seconds))
        return claims, soonest

    def _soonest(self, hook: str) -> float:
        """When a job of this hook may be had."""
        heap = self._ready[hook]
        while heap and heap[0][2].ready_at != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def _lease(self, entry: _Entry, now: float, lease_seconds: float) -> Claim:
        entry.state, entry.changed_at = JobState.RUNNING, now
        entry.attempts += 1
        entry.token = secrets.token_hex(8)
        entry.progress, entry.note = None, ""
        self._make_ready(entry, now + lease_seconds)
        return Claim(entry.job, entry.token, entry.attempts)

    def _held(self, claim: Claim) -> _Entry | None:
        entry = self._entries.get(claim.job.key)
        is_held = entry is not None and entry.state is JobState.RUNNING and entry.token == claim.token
        return entry if is_held else None

    def _wait(self, entry: _Entry, seconds: float) -> None:
        entry.state, entry.ready_at, entry.changed_at = JobState.WAITING, None, self._clock()
        entry.due_at = entry.changed_at + seconds
        self._settle(entry.line)
        self._wakeups.wake()

    def _end(self, entry: _Entry, state: JobState) -> None:
        was_owed = entry.state in (JobState.WAITING, JobState.RUNNING)
        entry.state, entry.ready_at, entry.changed_at = state, None, self._clock()
        if state is not JobState.DEAD:
            self._owed[entry.job.upload_id] -= 1
            if not self._owed[entry.job.upload_id]:
                del self._owed[entry.job.upload_id]
            entry.job = replace(entry.job, payload=b"")
            self._over.append((entry.changed_at, entry.job.key))
        if was_owed:
            self._lines[entry.line].remove(entry)
            self._settle(entry.line)
            self._wakeups.wake()

    def _settle(self, line: tuple[UploadId, str]) -> None:
        """The oldest of a line that has no other at its head is its head."""
        entries = self._lines[line]
        if not entries:
            del self._lines[line]
        elif all(entry.ready_at is None for entry in entries):
            self._make_ready(entries[0], entries[0].due_at)

    def _make_ready(self, entry: _Entry, ready_at: float) -> None:
        entry.ready_at = ready_at
        heapq.heappush(self._ready[entry.job.hook], (ready_at, entry.number, entry))

    def _forget(self, now: float) -> None:
        while self._over and self._over[0][0] < now - self._keep_done_seconds:
            del self._entries[self._over.popleft()[1]]
