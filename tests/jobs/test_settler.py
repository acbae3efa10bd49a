"""The store hears of uploads about which nothing is owed any more."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError
from tusd_py.jobs.settler import Settler

pytestmark = pytest.mark.anyio


class Queue:
    def __init__(self, *owing: str) -> None:
        self.owes = set(owing)
        self.asked: list[list[UploadId]] = []
        self.is_down = False

    async def owing(self, upload_ids: Collection[UploadId]) -> set[UploadId]:
        self.asked.append(list(upload_ids))
        await asyncio.sleep(0)
        if self.is_down:
            raise BackendError("down")
        return self.owes & set(upload_ids)


async def settled(queue: Queue, *ids: str) -> list[str]:
    told: list[str] = []

    async def settle(upload_id: UploadId) -> None:
        told.append(upload_id)

    settler = Settler(queue, settle)
    for each in ids:
        settler.add(UploadId(each))
    await settler.aclose()
    return told


async def test_only_those_of_which_nothing_is_owed_are_settled() -> None:
    assert await settled(Queue("b"), "a", "b", "c") == ["a", "c"]


async def test_each_is_asked_about_once_at_a_time() -> None:
    queue = Queue()
    ids = [f"u{number}" for number in range(1200)]
    assert sorted(await settled(queue, *ids, *ids)) == sorted(ids)
    assert [len(asked) for asked in queue.asked] == [500, 500, 200]


async def test_a_queue_that_is_down_settles_nothing_and_raises_nothing() -> None:
    queue = Queue()
    queue.is_down = True
    assert await settled(queue, "a") == []


async def test_one_that_is_added_while_it_is_settled_is_looked_at_again() -> None:
    queue, told = Queue(), []

    async def settle(upload_id: UploadId) -> None:
        told.append(upload_id)
        if len(told) == 1:
            settler.add(upload_id)

    settler = Settler(queue, settle)
    settler.add(UploadId("a"))
    await settler.aclose()
    assert told == ["a", "a"]
