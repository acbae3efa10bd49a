"""Everything so small that a scenario is a few calls, and nothing by chance: sizes, random values, clocks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from modelloop import ORACLE, RUNNING
from modelstorage import NOW

from tusd_py.stores.s3 import (
    assembling,
    chain,
    client,
    failures,
    fenced,
    inflow,
    memory,
    plan,
    store,
    stored,
    sweeping,
)

WINDOW = 3
COMMIT_BYTES = 16
_SWEPT_AFTER_SECONDS = 2 * client.LATE_SECONDS


def settle(patch: pytest.MonkeyPatch) -> None:
    """A part has 8 bytes, 4 at least (`modelnetwork`); two parts are written down, three numbers are a window."""
    patch.setattr(plan, "MIB", 1)
    patch.setattr(memory, "BLOCK_BYTES", 256)
    patch.setattr(memory, "_LEAST_TAKEN_BYTES", 128)
    patch.setattr(inflow, "COMMIT_BYTES", COMMIT_BYTES)
    patch.setattr(inflow, "WINDOW", WINDOW)
    patch.setattr(stored, "WINDOW", WINDOW)
    patch.setattr(failures.log, "disabled", True)
    patch.setattr(chain, "secrets", SimpleNamespace(token_hex=_token))
    patch.setattr(client, "random", SimpleNamespace(uniform=lambda _least, _most: 1.0))
    for module in (assembling, fenced, store, stored, sweeping):
        patch.setattr(module, "time", SimpleNamespace(time=_now, monotonic=lambda: RUNNING.get().seconds))


def _now() -> float:
    """The oracle sweeps later, when no request can be under way any more."""
    return NOW + (_SWEPT_AFTER_SECONDS if RUNNING.get() is ORACLE else 0.0)


def _token(_size: int) -> str:
    process = RUNNING.get()
    process.drawn += 1
    return f"{process.name}{process.drawn}"
