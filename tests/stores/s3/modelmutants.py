"""The protocol with one of its rules taken away: the search must find out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from modelnetwork import ProcessLocks, SimulatedClient
from modelsearch import Bounds, Mode

from tusd_py.stores.s3 import assembling, chain, fenced, names
from tusd_py.stores.s3.fenced import FencedChain
from tusd_py.stores.s3.inflow import Inflow, Outgoing
from tusd_py.stores.s3.record import Record
from tusd_py.stores.s3.stored import StoredObject


def _conditions_are_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SimulatedClient, "drops_conditions", True)


def _numbers_are_used_twice(patch: pytest.MonkeyPatch) -> None:
    """Who follows goes on with the predecessor's next number, not beyond what that one may have under way."""
    patch.setattr(StoredObject, "_burned", 0)


def _the_window_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    """A holder sends more parts than its state says."""
    begin = Inflow.__init__

    def begin_wide(self: Inflow, bucket: Any, gathering: Any, next_number: int, window: int, *rest: Any) -> None:
        begin(self, bucket, gathering, next_number, window + 100, *rest)

    patch.setattr(Inflow, "__init__", begin_wide)


def _the_window_is_not_written_down(patch: pytest.MonkeyPatch) -> None:
    """Who follows uses numbers beyond the window, and the state does not say so: the next one uses them, too."""
    commit = StoredObject._commit

    async def commit_runs(self: StoredObject, run: list[Outgoing], *rest: Any) -> None:
        if run or rest[1:]:
            await commit(self, run, *rest)

    patch.setattr(StoredObject, "_commit", commit_runs)


def _the_last_part_keeps_no_window(patch: pytest.MonkeyPatch) -> None:
    async def send_rest(self: Inflow) -> None:
        self.send()

    patch.setattr(Inflow, "send_rest", send_rest)


def _parts_count_before_they_are_there(patch: pytest.MonkeyPatch) -> None:
    async def drained(self: Inflow) -> list[Outgoing]:
        return self._parts

    patch.setattr(Inflow, "drained", drained)


def _what_lies_beyond_a_gap_counts(patch: pytest.MonkeyPatch) -> None:
    """All parts that were taken, whatever came before them (failures F4)."""
    patch.setattr(Inflow, "_run", lambda self: [each for each in self._parts if each.etag is not None])


def _complete_is_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    """Neither size nor sum of what is there, after an answer that did not come."""

    async def is_there(*_: object) -> bool:
        return True

    async def has_multipart(*_: object) -> bool:
        return False

    patch.setattr(assembling, "_is_there", is_there)
    patch.setattr(assembling, "has_multipart", has_multipart)


def _any_object_of_the_size_will_do(patch: pytest.MonkeyPatch) -> None:
    async def has_multipart(*_: object) -> bool:
        return False

    patch.setattr(assembling, "has_multipart", has_multipart)


def _complete_comes_before_its_state(patch: pytest.MonkeyPatch) -> None:
    """ "Assembling" is not written first."""
    write = StoredObject._write

    async def write_others(self: StoredObject, record: Record, tail: Any) -> None:
        if record.upload.state == "assembling" and self._link is not None:
            self._link, self._record = replace(self._link, record=record), record
        else:
            await write(self, record, tail)

    patch.setattr(StoredObject, "_write", write_others)


def _small_objects_are_put_over_others(patch: pytest.MonkeyPatch) -> None:
    async def put(bucket: Any, record: Record, whole: Any) -> bool:
        await assembling.put(bucket, record, whole)
        return True

    patch.setattr(assembling, "put_if_absent", put)


def _tokens_are_alike(patch: pytest.MonkeyPatch) -> None:
    """Whose state it is that was found after an answer that did not come, nothing tells."""
    patch.setattr(chain, "secrets", SimpleNamespace(token_hex=lambda _size: "token"))


def _the_fence_is_not_asked(patch: pytest.MonkeyPatch) -> None:
    async def is_held(_self: ProcessLocks, _upload_id: str) -> bool:
        return True

    patch.setattr(ProcessLocks, "is_held", is_held)


def _states_are_not_looked_at_under_a_new_lock(patch: pytest.MonkeyPatch) -> None:
    """What is known of an earlier turn is taken for the newest."""

    def fenced_key(info: str, fence: int, sequence: int | None = None) -> str:
        return names.fenced_key(info, fence, sequence) if sequence is not None else ""

    patch.setattr(fenced, "fenced_key", fenced_key)


def _a_terminated_state_goes_at_once(patch: pytest.MonkeyPatch) -> None:
    """Though earlier ones may still come."""
    patch.setattr(fenced, "LATE_SECONDS", -1.0)


def _others_states_are_built_upon(patch: pytest.MonkeyPatch) -> None:
    """Complete, for good, on a state that its writer may never have told anybody, and that may be overtaken."""
    patch.setattr(FencedChain, "is_own", lambda *_: True)


FEW = Bounds(switches=1, faults=1, together=1)
MORE = Bounds(switches=1, faults=1, together=2)


@dataclass(frozen=True)
class Mutant:
    """`break_it` takes the rule away; `scenario` shows it, as `told`."""

    break_it: Callable[[pytest.MonkeyPatch], None]
    scenario: str
    told: str
    mode: Mode = Mode()
    bounds: Bounds = FEW


FENCED = Mode(is_conditional=False)

MUTANTS = {
    "conditions-are-ignored": Mutant(_conditions_are_ignored, "little-at-one-offset", "were both told"),
    "numbers-are-used-twice": Mutant(_numbers_are_used_twice, "parts-upon-parts", "was acknowledged, and is not there"),
    "the-window-is-not-kept": Mutant(_the_window_is_not_kept, "a-crash-in-the-middle", "do not belong"),
    "the-last-part-keeps-no-window": Mutant(
        _the_last_part_keeps_no_window, "a-crash-with-the-last-part", "the parts that count have"
    ),
    "the-window-is-not-written-down": Mutant(
        _the_window_is_not_written_down,
        "a-crash-of-who-took-over",
        "has replaced|the parts that count have",
    ),
    "parts-count-before-they-are-there": Mutant(
        _parts_count_before_they_are_there, "all-at-once-and-a-part", "there is nothing"
    ),
    "what-lies-beyond-a-gap-counts": Mutant(_what_lies_beyond_a_gap_counts, "parts-upon-parts", "do not belong"),
    "complete-is-not-looked-at": Mutant(_complete_is_not_looked_at, "finished-twice", "the upload is gone"),
    "any-object-of-the-size-will-do": Mutant(
        _any_object_of_the_size_will_do, "all-at-once-and-a-part", "was acknowledged, and is not there", bounds=MORE
    ),
    "complete-comes-before-its-state": Mutant(_complete_comes_before_its_state, "the-last-bytes", "the upload is gone"),
    "small-objects-are-put-over-others": Mutant(
        _small_objects_are_put_over_others, "all-at-once-and-a-part", "was acknowledged, and is not there"
    ),
    "tokens-are-alike": Mutant(_tokens_are_alike, "little-at-one-offset", "were both told"),
    "the-fence-is-not-asked": Mutant(_the_fence_is_not_asked, "little-at-one-offset", "were both told", FENCED),
    "a-new-lock-is-not-a-new-look": Mutant(
        _states_are_not_looked_at_under_a_new_lock, "the-last-bytes", "was acknowledged, and is not there", FENCED
    ),
    "a-terminated-state-goes-at-once": Mutant(
        _a_terminated_state_goes_at_once, "little-ended-and-terminated", "the sweep leaves|has come back", FENCED
    ),
    "others-states-are-built-upon": Mutant(
        _others_states_are_built_upon, "the-last-bytes-and-a-crash", "the upload is gone", FENCED, MORE
    ),
}
