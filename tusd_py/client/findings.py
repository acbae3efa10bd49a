"""What a probe found: a verdict, what was seen, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tusd_py.client.site import Site

Verdict = Literal["yes", "no", "unclear"]


@dataclass(frozen=True, slots=True)
class Result:
    verdict: Verdict
    detail: str = ""
    advice: str = ""


def yes(detail: str = "", advice: str = "") -> Result:
    return Result("yes", detail, advice)


def no(detail: str, advice: str = "") -> Result:
    return Result("no", detail, advice)


def unclear(detail: str, advice: str = "") -> Result:
    return Result("unclear", detail, advice)


@dataclass(frozen=True, slots=True)
class Probe:
    """`find` returns None where there is nothing to try. With `is_gate`, nothing after it makes sense unless it is a
    yes; with `is_required`, uploads are not safe, or not possible, without."""

    name: str
    title: str
    find: Callable[[Site], Result | None]
    is_required: bool = True
    is_gate: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    title: str
    verdict: Verdict
    detail: str
    advice: str
    is_required: bool

    @property
    def is_missing(self) -> bool:
        return self.is_required and self.verdict != "yes"
