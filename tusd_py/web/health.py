"""Endpoints for those who run the server: is it alive, can it take uploads, what do its metrics say.

They speak no tus and stand outside the envelope. What is asked of the store, and how metrics look, is handed in; how
often and how long is decided here.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.types import Receive, Scope, Send

from tusd_py.errors import TusError
from tusd_py.logs import event
from tusd_py.web.responses import Headers

log = logging.getLogger("tusd_py.health")

PROBE_EVERY_SECONDS = 1.0
PROBE_TIMEOUT_SECONDS = 2.0

_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    body: bytes
    content_type: str = _TEXT
    status: int = 200


class Endpoint:
    """An ASGI app that answers GET and HEAD with what `page` makes for this Accept header."""

    def __init__(self, page: Callable[[str], Awaitable[Page]]) -> None:
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        more: Headers = []
        if scope["method"] in ("GET", "HEAD"):
            page = await self._page(_accept(scope))
        else:
            page = Page(b"allowed here: GET, HEAD\n", status=405)
            more.append((b"allow", b"GET, HEAD"))
        headers = [
            (b"content-type", page.content_type.encode("latin-1")),
            (b"content-length", str(len(page.body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            *more,
        ]
        await send({"type": "http.response.start", "status": page.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else page.body})


def _accept(scope: Scope) -> str:
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept")


def alive() -> Endpoint:
    """200 whenever the loop runs: who restarts servers asks this, and a full disk is no reason to."""

    async def page(_accept: str) -> Page:
        return Page(b"ok\n")

    return Endpoint(page)


def missing() -> Endpoint:
    """For all other paths of a port of their own."""

    async def page(_accept: str) -> Page:
        return Page(b"no such page\n", status=404)

    return Endpoint(page)


def ready(probe: Probe, is_stopping: Callable[[], bool]) -> Endpoint:
    """200 while uploads can be taken, else 503 and why: who spreads the load asks this."""

    async def page(_accept: str) -> Page:
        problem = "the server is stopping" if is_stopping() else await probe.problem()
        return Page(b"ok\n") if problem is None else Page(f"not ready: {problem}\n".encode(), status=503)

    return Endpoint(page)


def metrics(expose: Callable[..., tuple[bytes, str]], look: Callable[[], Awaitable[object]] | None = None) -> Endpoint:
    """`expose` makes body and content type of an Accept header; it reads files, so it is called in a thread. What
    `look` finds before is given to it, too."""
    limiter: list[CapacityLimiter] = []  # belongs to a loop, and the first request is in one

    async def page(accept: str) -> Page:
        if not limiter:
            limiter.append(CapacityLimiter(1))
        found = () if look is None else (await look(),)
        body, content_type = await anyio.to_thread.run_sync(expose, accept, *found, limiter=limiter[0])
        return Page(body, content_type)

    return Endpoint(page)


def in_thread(check: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    """`check` as a `can_write`, in a thread that is left alone when it hangs."""
    limiter: list[CapacityLimiter] = []

    async def can_write() -> None:
        if not limiter:
            limiter.append(CapacityLimiter(1))
        await anyio.to_thread.run_sync(check, abandon_on_cancel=True, limiter=limiter[0])

    return can_write


class Probe:
    """Whether the store can be written now. `can_write` raises what is wrong, and may hang: it is never waited for
    longer than `timeout_seconds`, and never asked again before it answered, nor twice within `every_seconds`.
    """

    def __init__(
        self,
        can_write: Callable[[], Awaitable[None]],
        *,
        every_seconds: float = PROBE_EVERY_SECONDS,
        timeout_seconds: float = PROBE_TIMEOUT_SECONDS,
    ) -> None:
        self._can_write = can_write
        self._every_seconds = every_seconds
        self._timeout_seconds = timeout_seconds
        self._running: asyncio.Task[str | None] | None = None
        self._asked_at = 0.0
        self._said: str | None = None

    async def problem(self) -> str | None:
        """What is wrong, in plain words, or None."""
        running = self._running
        if running is None or (running.done() and monotonic() >= self._asked_at + self._every_seconds):
            self._asked_at = monotonic()
            running = self._running = asyncio.create_task(self._ask())
        left = self._asked_at + self._timeout_seconds - monotonic()
        await asyncio.wait({running}, timeout=max(left, 0.0))  # leaves it running: others wait for it too
        if running.done() and not running.cancelled():
            problem = running.result()
        else:
            problem = f"the storage has not answered for {self._timeout_seconds:g} s"
        self._tell(problem)
        return problem

    async def _ask(self) -> str | None:
        try:
            await self._can_write()
        except TusError as error:
            return error.message
        except OSError as error:
            return f"the storage cannot be written: {error.strerror or type(error).__name__}"
        except Exception as error:
            event(log, "ProbeFailed", level=logging.ERROR, error=error)
            return "the storage cannot be asked"
        return None

    def _tell(self, problem: str | None) -> None:
        """Changes, not each question."""
        if problem == self._said:
            return
        self._said = problem
        pid = os.getpid()  # each worker finds out by itself
        if problem is None:
            event(log, "Ready", pid=pid)
        else:
            event(log, "NotReady", level=logging.WARNING, pid=pid, reason=problem)
