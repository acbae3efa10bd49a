"""Jobs and a clock for tests of queues and workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from tusd_py.core.jobs import Claim, Job, Queue
from tusd_py.core.upload import UploadId


def job(upload: str = "u1", event: str = "post-finish", hook: str = "scan", payload: bytes = b"{}") -> Job:
    return Job(f"{upload}:{event}:{hook}", UploadId(upload), event, hook, payload)


@dataclass
class Clock:
    """Stands still until told otherwise."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def claim_one(queue: Queue, hook: str = "scan", lease_seconds: float = 30.0) -> Claim:
    """There must be one."""
    (claim,) = await claim_some(queue, {hook: 1}, lease_seconds)
    return claim


async def claim_some(queue: Queue, capacity: dict[str, int], lease_seconds: float = 30.0) -> list[Claim]:
    """There must be some."""
    with anyio.fail_after(5):
        return await queue.claim(capacity, lease_seconds)


async def has_none(queue: Queue, *hooks: str) -> bool:
    """Whether there is nothing to be had now. Does not wait for any."""
    return not await queue.claim(dict.fromkeys(hooks or ("scan",), 100), 0.0)


async def until(is_true: Callable[[], bool], seconds: float = 5.0) -> None:
    with anyio.fail_after(seconds):
        while not is_true():
            await anyio.sleep(0.002)
