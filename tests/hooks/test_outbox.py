"""Jobs on their way into the queue: none overtakes another, none is left out of what it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio
import pytest

from tusd_py.core.jobs import Job
from tusd_py.core.upload import UploadId
from tusd_py.hooks import outbox
from tusd_py.hooks.outbox import Outbox

pytestmark = pytest.mark.anyio

MANY = 1000


def jobs(upload: int, *hooks: str) -> list[Job]:
    upload_id = UploadId(f"u{upload}")
    return [Job(f"{upload_id}:post-finish:{each}", upload_id, "post-finish", each, b"") for each in hooks or ("a",)]


class Queue:
    """Keeps batches. Takes one whenever `is_open` is set; and tells `meanwhile` before."""

    def __init__(self) -> None:
        self.batches: list[list[Job]] = []
        self.is_open = asyncio.Event()
        self.uploads = 0
        self.outbox: Outbox | None = None

    async def put(self, batch: Sequence[Job]) -> None:
        await self.is_open.wait()
        if self.outbox is not None and self.uploads < MANY:  # somebody always finishes an upload meanwhile
            self.uploads += 1
            self.outbox.add(jobs(self.uploads))
            await asyncio.sleep(0)
        self.batches.append([*batch])


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
async def box(queue: Queue):
    made = Outbox(queue)  # type: ignore[arg-type]  # as much of a queue as it needs
    yield made
    queue.outbox = None
    queue.is_open.set()
    await made.aclose()


async def test_who_waits_for_what_is_here_does_not_wait_for_what_comes(queue: Queue, box: Outbox) -> None:
    box.add(jobs(0))
    queue.outbox = box
    queue.is_open.set()
    with anyio.fail_after(5):
        await box.sent()
    assert [job.key for job in queue.batches[0]] == ["u0:post-finish:a"]
    assert queue.uploads < MANY


async def test_who_waits_for_what_is_dropped_waits_no_longer(queue: Queue, box: Outbox) -> None:
    box.add(jobs(0))
    is_over = asyncio.Event()

    async def wait() -> None:
        await box.sent()
        is_over.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await asyncio.sleep(0)
        tasks.start_soon(box.drop, UploadId("u0"))
        with anyio.fail_after(5):
            await is_over.wait()  # while the queue still takes nothing
        queue.is_open.set()


async def test_what_is_about_one_upload_is_put_at_once(
    queue: Queue, box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST_AT_ONCE", 5)
    for number in range(4):
        assert box.add(jobs(number, "a", "b", "c"))
    queue.is_open.set()
    with anyio.fail_after(5):
        await box.sent()
    assert [len(batch) for batch in queue.batches] == [6, 6]


async def test_where_there_is_no_room_for_all_there_is_room_for_none(
    queue: Queue, box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST_WAITING", 4)
    assert box.add(jobs(0, "a", "b", "c"))
    assert not box.add(jobs(1, "a", "b"))
    queue.is_open.set()
    with anyio.fail_after(5):
        await box.sent()
    assert {job.upload_id for batch in queue.batches for job in batch} == {"u0"}
    assert box.add(jobs(1, "a", "b"))
