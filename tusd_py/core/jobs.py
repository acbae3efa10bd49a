"""Work that is owed to hooks, and what the core and the workers ask of a queue that keeps it.

A job is one event for one hook. It is delivered at least once: who runs it may see its `key` again after a crash.
Queues are in `jobs`; what a job says to whom is left to `hooks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tusd_py.core.upload import UploadId


class JobState(StrEnum):
    """WAITING for its turn or for another try, RUNNING, DONE; DEAD: given up until an operator says otherwise;
    CANCELLED: not wanted any more, by its upload's end or by an operator."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """`key` is `<upload id>:<event>:<hook>`; there is one job of each key, ever. `payload` is the event for the hook;
    queues need not keep it of what is over."""

    key: str
    upload_id: UploadId
    event: str
    hook: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that a worker may run now. `token` tells this claim from later ones of the same job; `attempt` counts from
    1."""

    job: Job
    token: str
    attempt: int


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What operators see of a job. Times are seconds since the epoch. `due_at`: of a waiting one, not before then.
    `progress`: 0 to 1, or None when it tells none; `note` is what it last said, `error` why it last failed."""

    job: Job
    state: JobState
    attempts: int
    created_at: float
    changed_at: float
    due_at: float
    progress: float | None = None
    note: str = ""
    error: str = ""


class Queue(Protocol):
    """Jobs that outlive processes. Any number of tasks and processes may use it at once. Everything here raises
    BackendError when the queue cannot be used; then nothing is changed, or it may be repeated."""

    async def put(self, jobs: Sequence[Job]) -> None:
        """Add jobs, durably before this returns. Those whose key was ever there are passed over."""
        ...

    async def put_again(self, jobs: Sequence[Job]) -> set[UploadId]:
        """The same of jobs that may have been put before, in whole uploads: those of an upload of whose last event one
        is here already, for whichever hook, are passed over, since others may have been over for too long to be known.
        Their uploads of which nothing is owed, as of the same moment: all that was to be done is over."""
        ...

    async def claim(self, capacity: Mapping[str, int], lease_seconds: float) -> list[Claim]:
        """Take jobs that are due, for each hook at most so many; waits until there is one, or about as long as a lease.

        Of one upload and one hook only the oldest job that is not over can be had, so they run in the order of `put`
        (failures F33). Jobs whose lease ran out can be had again, and count as one attempt more. Who is cancelled
        meanwhile has taken none.
        """
        ...

    async def extend(
        self, claim: Claim, lease_seconds: float, progress: float | None = None, note: str | None = None
    ) -> bool:
        """Keep a claim for so long from now, and say how far it is; None leaves what was said. False: it is lost, to
        another worker or because the job was cancelled, and its work is to end."""
        ...

    async def finish(self, claims: Sequence[Claim]) -> set[UploadId]:
        """They are done, durably. Those that are lost are passed over. Their uploads of which nothing is owed any more,
        as of the same moment: no other job is WAITING, RUNNING or DEAD."""
        ...

    async def put_off(self, claim: Claim, seconds: float, error: str) -> None:
        """It failed, and is to be tried again then. Nothing if the claim is lost."""
        ...

    async def give_back(self, claims: Sequence[Claim]) -> None:
        """They were not run to an end by our own wish: due now, and the attempt does not count. Those that are lost are
        passed over."""
        ...

    async def bury(self, claim: Claim, error: str) -> None:
        """It failed for good: it is DEAD. Nothing if the claim is lost."""
        ...

    async def cancel(self, upload_id: UploadId, kept: str = "") -> int:
        """The upload goes: what is owed about it is CANCELLED, also what is running, but for events of the type `kept`,
        which are about its end. How many there were. Dead ones stay, for operators to see."""
        ...

    # For operators.

    async def list(self, states: Sequence[JobState], count: int, after: str = "") -> list[JobStatus]:
        """Jobs in these states by age, the oldest first, those behind the one whose key is `after`; at most `count`.
        Behind a key that is not there any more there are none."""
        ...

    async def find(self, key: str) -> JobStatus | None: ...

    async def counts(self) -> Mapping[JobState, int]:
        """How many there are of each state."""
        ...

    async def overdue_seconds(self, hooks: Sequence[str]) -> float:
        """For how long a job of these hooks could have been had by now, of all that can: the longest. 0: none can."""
        ...

    async def retry(self, key: str) -> bool:
        """Make a dead or waiting job due now, with all its attempts before it. False: there is none such. It waits for
        what runs of its upload and hook, and goes before what waits and is younger."""
        ...

    async def drop(self, key: str) -> bool:
        """Cancel a job that is waiting, running or dead. False: there is none such."""
        ...

    async def aclose(self) -> None:
        """Give back what is held. Claims are left to their leases."""
        ...
