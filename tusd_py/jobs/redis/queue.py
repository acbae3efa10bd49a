"""`core.jobs.Queue` over Redis. Who waits for jobs asks again when there is news, or when it is time."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from tusd_py.core.jobs import Claim, Job, JobState, JobStatus
from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError, ConfigError
from tusd_py.jobs.redis.connection import Known, Place
from tusd_py.jobs.redis.failures import Failures
from tusd_py.jobs.redis.news import News
from tusd_py.jobs.redis.scripts import STATES
from tusd_py.jobs.redis.sender import MOST_AT_ONCE, Sender
from tusd_py.jobs.wakeups import Wakeups

KEEP_DONE_SECONDS = 7 * 24 * 3600.0

FORGET_SECONDS = 10.0
FORGET_COUNT = 500
"""How often to remove what has been over for long, and how much at once; sooner while there is more."""

Claims = list[Claim]  # by another name, since `list` is a method below
_Answers = list[Any]


class RedisQueue:
    """One for all processes that share a Redis and a prefix. `keep_done_seconds`: for how long a repeat of what is over
    is recognised. `on_loss` is called when Redis was emptied, started again or replaced, and what is owed is to be
    found again. `clock` is for tests, and must be that of all; else Redis' own counts. `start` may be left out: then
    what it would say is told to whoever comes first. Raises ConfigError."""

    def __init__(
        self,
        place: Place,
        prefix: str = "tusd-py:",
        *,
        keep_done_seconds: float = KEEP_DONE_SECONDS,
        on_loss: Callable[[], None] = lambda: None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if not prefix or any(sign in prefix for sign in "{} "):
            raise ConfigError(f"the Redis prefix {prefix!r} is wrong: it needs a sign, and none of '{{', '}}' and ' '")
        known = Known(f"{prefix}{{jobs}}:", place.shown, on_loss)
        failures = Failures(place.shown)
        self._sender = Sender(place, known, failures, clock)
        self._wakeups = Wakeups()
        self._news = News(place, known, failures, self._wakeups.wake)
        self._keep_done_seconds = keep_done_seconds
        self._time = clock or time.monotonic
        self._forget_at = -math.inf
        self._undoing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises ConfigError when Redis cannot be used. From here on it is noticed when it changes."""
        await self._sender.start()
        self._news.open()

    async def put(self, jobs: Sequence[Job]) -> None:
        for some in _parts(jobs):
            await self._sender.call("put", _of_jobs(some), len(some))

    async def put_again(self, jobs: Sequence[Job]) -> set[UploadId]:
        if not jobs:
            return set()
        return {UploadId(each.decode()) for each in await self._sender.call("put_again", _of_jobs(jobs))}

    async def claim(self, capacity: Mapping[str, int], lease_seconds: float) -> Claims:
        self._news.open()
        await self._forget()
        wanted = [_bytes(each) for hook, most in capacity.items() if most > 0 for each in (hook, most)]
        return await self._wakeups.wait_for_some(partial(self._take, wanted, lease_seconds), lease_seconds)

    async def extend(
        self, claim: Claim, lease_seconds: float, progress: float | None = None, note: str | None = None
    ) -> bool:
        said = ("" if progress is None else repr(progress), "-" if note is None else f"={note}")
        return bool((await self._change("extend", [claim], repr(lease_seconds), *said))[0])

    async def finish(self, claims: Sequence[Claim]) -> set[UploadId]:
        settled: set[UploadId] = set()
        for some in _parts(claims):
            answers = await self._change("finish", some)
            settled.update(claim.job.upload_id for claim, is_last in zip(some, answers, strict=True) if is_last)
        return settled

    async def put_off(self, claim: Claim, seconds: float, error: str) -> None:
        await self._change("put_off", [claim], repr(seconds), error)

    async def give_back(self, claims: Sequence[Claim]) -> None:
        for some in _parts(claims):
            await self._change("give_back", some)

    async def bury(self, claim: Claim, error: str) -> None:
        await self._change("bury", [claim], error)

    async def cancel(self, upload_id: UploadId, kept: str = "") -> int:
        return int((await self._call("cancel", upload_id, kept))[0])

    async def list(self, states: Sequence[JobState], count: int, after: str = "") -> list[JobStatus]:
        numbers = [STATES.index(state) + 1 for state in dict.fromkeys(states)]
        return [_status(each) for each in await self._call("list", count, after, *numbers)]

    async def find(self, key: str) -> JobStatus | None:
        found = await self._call("find", key)
        return _status(found[0]) if found else None

    async def counts(self) -> Mapping[JobState, int]:
        return dict(zip(STATES, await self._call("counts"), strict=True))

    async def overdue_seconds(self, hooks: Sequence[str]) -> float:
        return float((await self._call("overdue", *hooks))[0])

    async def retry(self, key: str) -> bool:
        return bool((await self._call("retry", key))[0])

    async def drop(self, key: str) -> bool:
        return bool((await self._call("drop", key))[0])

    async def aclose(self) -> None:
        """May be called twice."""
        while self._undoing:
            await asyncio.wait(self._undoing)
        await self._news.aclose()
        await self._sender.aclose()

    async def _call(self, operation: str, *arguments: str | float) -> Sequence[Any]:
        return await self._sender.call(operation, [_bytes(each) for each in arguments])

    async def _change(self, operation: str, claims: Sequence[Claim], *values: str) -> Sequence[Any]:
        fields = [_bytes(each) for claim in claims for each in (claim.job.key, claim.token, *values)]
        return await self._sender.call(operation, fields, len(claims))

    async def _take(self, wanted: Sequence[bytes], lease_seconds: float) -> tuple[Claims, float]:
        token = secrets.token_hex(8)  # with its key, it is of one claim only
        future = self._sender.call("claim", [token.encode(), _bytes(lease_seconds), *wanted])
        try:
            soonest, *taken = await asyncio.shield(future)
        except asyncio.CancelledError:
            undoing = asyncio.get_running_loop().create_task(self._undo(future, token))
            self._undoing.add(undoing)
            undoing.add_done_callback(self._undoing.discard)
            raise
        return [_claim(each, token) for each in taken], float(soonest or math.inf)

    async def _undo(self, taking: asyncio.Future[_Answers], token: str) -> None:
        """Give back the claims that nobody heard of. If that fails, their lease runs out."""
        with suppress(BackendError):
            _, *taken = await taking
            await self.give_back([_claim(each, token) for each in taken])

    async def _forget(self) -> None:
        now = self._time()
        if now < self._forget_at:
            return
        self._forget_at = now + FORGET_SECONDS
        if (await self._call("forget", self._keep_done_seconds, FORGET_COUNT))[0] >= FORGET_COUNT:
            self._forget_at = now


def _parts(each: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (each[start : start + MOST_AT_ONCE] for start in range(0, len(each), MOST_AT_ONCE))


def _of_jobs(jobs: Sequence[Job]) -> list[bytes]:
    return [
        value
        for job in jobs
        for value in (job.upload_id.encode(), job.event.encode(), job.hook.encode(), bytes(job.payload))
    ]


def _bytes(value: str | float) -> bytes:
    return value.encode() if isinstance(value, str) else repr(value).encode()


def _job(upload: bytes, event: bytes, hook: bytes, payload: bytes) -> Job:
    upload_id, name, wanted = upload.decode(), event.decode(), hook.decode()
    return Job(f"{upload_id}:{name}:{wanted}", UploadId(upload_id), name, wanted, payload)


def _claim(answer: Sequence[Any], token: str) -> Claim:
    *fields, attempt = answer
    return Claim(_job(*fields), token, attempt)


def _status(answer: Sequence[Any]) -> JobStatus:
    upload, event, hook, payload, state, attempts, *times, progress, note, error = answer
    created_at, changed_at, due_at = map(float, times)
    return JobStatus(
        *(_job(upload, event, hook, payload), STATES[state - 1], attempts, created_at, changed_at, due_at),
        *(float(progress) if progress else None, note.decode(), error.decode()),
    )
