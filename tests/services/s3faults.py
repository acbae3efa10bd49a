"""What goes wrong between a client and S3, and at which call.

A fault waits for its call, takes effect, and is spent, unless it is for ever. What each kind does on the wire is known
to `s3proxy`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from s3calls import Call
from s3http import Answer

WAIT_SECONDS = 15.0

Kind = Literal[
    "before",  # reset, and S3 hears nothing of it
    "after",  # S3 carries it out; instead of the answer the connection is reset
    "error500",  # InternalError
    "slow_down",  # 503 SlowDown
    "error_inside_200",  # 200 with an InternalError as its body: for CompleteMultipartUpload and copies
    "reset_mid_body",  # reset when half of the request's body was read; `passed_on`: S3 received that half
    "truncate_answer",  # half of the answer's body, then reset
    "hang",  # read and never answered; `release()` resets the connection
    "hold",  # stopped at the proxy until `release()`, and then goes on, whether the client is still there or not
    "delay",  # the same, for so many seconds
]

CARRIED_OUT: frozenset[str] = frozenset({"after", "truncate_answer"})
"""Kinds that only exist with the call carried out; of the others, `carried_out` tells, or nothing is."""

NEVER_CARRIED_OUT: frozenset[str] = frozenset({"before", "reset_mid_body"})
STANDING: frozenset[str] = frozenset({"hang", "hold", "delay"})


@dataclass(eq=False)
class Fault:
    """Takes effect at the nth call from now on of those that it is for, and at all after it if it is for ever."""

    kind: Kind
    operation: str | None = None
    nth: int = 1
    where: Callable[[Call], bool] | None = None
    for_ever: bool = False
    carried_out: bool = False
    passed_on: bool = False
    seconds: float = 0.0
    hits: list[Call] = field(default_factory=list)
    """The calls at which it took effect, so far."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"no kind of fault: {self.kind}")
        if self.carried_out and self.kind in NEVER_CARRIED_OUT:
            raise ValueError(f"{self.kind} is never carried out")
        if self.passed_on and self.kind != "reset_mid_body":
            raise ValueError("only reset_mid_body passes half of a body on")
        self.carried_out = self.carried_out or self.kind in CARRIED_OUT
        self._seen = 0
        self._is_released = False
        self._standing: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._changed = threading.Condition()

    def wait(self, times: int = 1, within_seconds: float = WAIT_SECONDS) -> Call:
        """Blocks until it took effect so often: for hold and hang, until a call stands. In a loop, `asyncio.to_thread`.

        Answers the last of these calls.
        """
        with self._changed:
            has_hit = self._changed.wait_for(lambda: len(self.hits) >= times, within_seconds)
        assert has_hit, f"{self.kind} did not come about"
        return self.hits[times - 1]

    def release(self) -> None:
        """Ends hold and hang, for the calls that stand and for those to come."""
        with self._changed:
            self._is_released = True
            for event, loop in self._standing.items():
                loop.call_soon_threadsafe(event.set)

    def meets(self, call: Call) -> bool:
        """Whether it is this call's turn. To be asked once of each call."""
        if self.operation not in (None, call.operation) or (self.where is not None and not self.where(call)):
            return False
        self._seen += 1
        return self._seen == self.nth or (self.for_ever and self._seen > self.nth)

    def take_effect(self, call: Call) -> None:
        with self._changed:
            self.hits.append(call)
            self._changed.notify_all()

    async def stand(self, call: Call) -> None:
        """What hold, hang and delay do with a call."""
        event = asyncio.Event()
        with self._changed:
            self._standing[event] = asyncio.get_running_loop()
            if self._is_released:
                event.set()
        self.take_effect(call)
        try:
            async with asyncio.timeout(self.seconds if self.kind == "delay" else None):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            with self._changed:
                del self._standing[event]

    def answer(self) -> Answer:
        """What S3 is made to say, for the kinds that say something."""
        status, code, message = {
            "error500": (500, "InternalError", "We encountered an internal error. Please try again."),
            "slow_down": (503, "SlowDown", "Please reduce your request rate."),
            "error_inside_200": (200, "InternalError", "We encountered an internal error. Please try again."),
        }[self.kind]
        error = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>proxy</RequestId></Error>"
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n{error}'
        return Answer(status, (("content-type", "application/xml"),), text.encode())
