"""The store hears of uploads about which nothing is owed any more."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError
from tusd_py.jobs.settler import SETTLED_AT_ONCE, Settler

pytestmark = pytest.mark.anyio


class Store:
    def __init__(self) -> None:
        self.settled: list[UploadId] = []
        self.running = self.most = 0

    async def settle(self, upload_id: UploadId) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        if upload_id == "broken":
            raise BackendError("the disk is on fire")
        self.settled.append(upload_id)


async def test_each_is_settled_and_few_at_a_time() -> None:
    store = Store()
    settler = Settler(store.settle)
    ids = [UploadId(f"u{number}") for number in range(100)]
    settler.add(ids)
    settler.add(ids)
    settler.add(set())
    await settler.aclose()
    assert sorted(store.settled) == sorted(ids)
    assert store.most == SETTLED_AT_ONCE


async def test_one_that_fails_keeps_nobody_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    settler = Settler(store.settle)
    with caplog.at_level(logging.WARNING, "tusd_py.jobs"):
        settler.add([UploadId("broken"), UploadId("a")])
        await settler.aclose()
    assert store.settled == ["a"]
    assert 'NotSettled id=broken reason="the disk is on fire"' in caplog.text


async def test_one_that_is_added_while_it_is_settled_is_settled_again() -> None:
    told: list[UploadId] = []

    async def settle(upload_id: UploadId) -> None:
        told.append(upload_id)
        if len(told) == 1:
            settler.add([upload_id])

    settler = Settler(settle)
    settler.add([UploadId("a")])
    await settler.aclose()
    assert told == ["a", "a"]
