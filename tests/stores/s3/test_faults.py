"""Each call to S3 goes wrong in turn, in each way; what was acknowledged is there, and the upload finishes
(failures F2, F3, F4, F5, F6, F7)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from s3client import Resuming
from s3scene import MIB, Scene, content, some

from tusd_py.stores.s3 import S3Store, client, connecting, wire

pytestmark = pytest.mark.anyio

# The bodies of an upload, and how it is made.
SCENARIOS: dict[str, tuple[int, list[int], dict[str, bool]]] = {
    "small": (5_000, [2_000, 3_000], {}),
    "small-at-once": (5_000, [5_000], {"with_creation": True}),
    "small-deferred": (5_000, [2_000], {"is_deferred": True}),
    "parts": (13 * MIB, [MIB, 7 * MIB, 2 * MIB], {}),
    "parts-at-once": (11 * MIB, [11 * MIB], {"with_creation": True}),
    "parts-deferred": (11 * MIB, [6 * MIB], {"is_deferred": True}),
}

FAULTS: dict[str, dict[str, Any]] = {
    "before": {"kind": "before"},
    "after": {"kind": "after"},
    "error500": {"kind": "error500"},
    "error500-carried-out": {"kind": "error500", "carried_out": True},
    "slow-down": {"kind": "slow_down"},
    "slow-down-carried-out": {"kind": "slow_down", "carried_out": True},
    "reset-mid-body": {"kind": "reset_mid_body"},
    "reset-mid-body-passed-on": {"kind": "reset_mid_body", "passed_on": True},
    "error-inside-200": {"kind": "error_inside_200", "operation": "CompleteMultipartUpload"},
    "error-inside-200-carried-out": {
        "kind": "error_inside_200",
        "operation": "CompleteMultipartUpload",
        "carried_out": True,
    },
    "truncated": {"kind": "truncate_answer"},
    "hang": {"kind": "hang"},
    "hang-carried-out": {"kind": "hang", "carried_out": True},
}


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.002)


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest) -> tuple[bytes, list[int], dict[str, bool]]:
    length, sizes, options = SCENARIOS[request.param]
    return some(length), sizes, options


async def _calls(scene: Scene, data: bytes, sizes: list[int], options: dict[str, bool]) -> int:
    """How many there are where nothing goes wrong."""
    store = scene.store()
    scene.proxy.clear()
    await Resuming(data, sizes, lambda: store).upload(**options)
    count = len(scene.proxy.calls)
    scene.proxy.clear()
    return count


IN_SHORT = {"small-hang", "parts-before", "parts-after", "parts-error500-carried-out", "parts-error-inside-200",
            "parts-error-inside-200-carried-out", "parts-reset-mid-body-passed-on", "parts-at-once-after",
            "parts-deferred-after"}  # fmt: skip
"""Of those that send parts and of those that hang, since these take their time; the others with --long."""


def _points() -> list[Any]:
    points = []
    for name in SCENARIOS:
        for fault in FAULTS:
            takes_long = "parts" in name or "hang" in fault
            marks = [pytest.mark.long] if takes_long and f"{name}-{fault}" not in IN_SHORT else []
            points.append(pytest.param(name, fault, marks=marks, id=f"{name}-{fault}"))
    return points


@pytest.mark.parametrize(("scenario", "fault"), _points(), indirect=["scenario"])
async def test_one_call_goes_wrong(
    scene: Scene, scenario: tuple[bytes, list[int], dict[str, bool]], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, sizes, options = scenario
    if FAULTS[fault]["kind"] == "hang":
        monkeypatch.setattr(wire, "SILENCE_SECONDS", 0.4)
        monkeypatch.setattr(connecting, "READ_SECONDS", 0.4)
    for nth in range(1, 1 + await _calls(scene, data, sizes, options)):
        hit = scene.proxy.inject(**{"nth": nth, **FAULTS[fault]})
        store = scene.store()
        upload = Resuming(data, sizes, lambda store=store: store)
        await upload.upload(**options)
        scene.proxy.heal()
        await upload.check(scene)
        if not hit.hits:
            break  # there are no more calls of this operation


@pytest.mark.parametrize("carried_out", [False, True], ids=["lost", "carried-out"])
async def test_from_one_call_on_all_go_wrong_for_a_while(
    scene: Scene, scenario: tuple[bytes, list[int], dict[str, bool]], *, carried_out: bool
) -> None:
    """Until the request fails; the next one may reach another process."""
    data, sizes, options = scenario
    for nth in range(1, 1 + await _calls(scene, data, sizes, options)):
        scene.proxy.inject("error500", nth=nth, for_ever=True, carried_out=carried_out)
        stores = [scene.store(), scene.store()]

        def process(stores: list[S3Store] = stores) -> S3Store:
            return stores[0]

        def failed(_error: object, stores: list[S3Store] = stores) -> None:
            scene.proxy.heal()
            stores.reverse()

        upload = Resuming(data, sizes, process, failed)
        await upload.upload(**options)
        assert upload.errors, "so often a failure cannot be made good"
        await upload.check(scene)


@pytest.mark.parametrize("carried_out", [False, True], ids=["before", "after"])
async def test_the_process_ends_at_a_call(
    scene: Scene, scenario: tuple[bytes, list[int], dict[str, bool]], *, carried_out: bool
) -> None:
    """As by kill -9: another process goes on, and the call of the first one lands while it does, or afterwards."""
    data, sizes, options = scenario
    if "with_creation" in options and sizes[0] == len(data):
        pytest.skip("nobody was told of the upload")
    for nth in range(2, 1 + await _calls(scene, data, sizes, options)):
        held = scene.proxy.inject("hold", nth=nth, carried_out=carried_out)
        first = scene.store()
        upload = Resuming(data, sizes, lambda first=first: first)
        task = asyncio.ensure_future(upload.upload(**options))
        waiting = asyncio.ensure_future(asyncio.to_thread(held.wait))
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        second = scene.store()
        after = Resuming(data, sizes, lambda second=second: second)
        after.id, after.history = upload.id, [max(upload.history)]
        late = asyncio.get_running_loop().call_later(0.02 * (nth % 4), held.release)
        await after.resume()
        late.cancel()
        held.release()
        await asyncio.to_thread(held.hits[0].wait)
        await after.check(scene)


async def test_a_process_is_frozen_at_a_call_and_wakes_when_another_has_finished(
    scene: Scene, scenario: tuple[bytes, list[int], dict[str, bool]]
) -> None:
    """What the other one was told it has stored is what is there, though the first one had other bytes in its hands
    (failures F21, F22)."""
    data, sizes, options = scenario
    if "with_creation" in options and sizes[0] == len(data):
        pytest.skip("nobody was told of the upload")
    for nth in range(2, 1 + await _calls(scene, data, sizes, options)):
        held = scene.proxy.inject("hold", nth=nth)
        first, second = scene.store(), scene.store()
        upload = Resuming(data, sizes, lambda first=first: first)
        task = asyncio.ensure_future(upload.upload(**options))
        waiting = asyncio.ensure_future(asyncio.to_thread(held.wait))
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        assert not task.done()
        other = Resuming(some(len(data)), sizes, lambda second=second: second)
        other.id = upload.id
        await other.resume()
        expected = data[: other.began_at] + other.data[other.began_at :]
        assert await content(scene.store(), upload.id) == expected
        held.release()
        await asyncio.wait_for(task, 10)
        assert await content(scene.store(), upload.id) == expected
