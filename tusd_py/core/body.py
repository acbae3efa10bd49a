"""The bytes of one request on their way into a store.

To the store a broken network looks like an orderly end: `Body.into` returns, what arrived counts, and the real error
is kept in `Body.error` for `core.uploads` to raise afterwards. The body counts, bounds, times and digests the bytes
as they pass, and can be ended from outside; it leaves reading the network to its source and keeping bytes to the sink.

Source, body and sink speak one language, that of asyncio.BufferedProtocol: "where do the next bytes go?" and "so
many are there". So a socket can fill the store's own memory, and any server can fill it by copying.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import Enum
from functools import partial
from typing import Protocol

import anyio
import anyio.lowlevel

from tusd_py.core.checksum import Buffer, Checksum
from tusd_py.errors import Interrupted, RequestError, TusError, size_exceeded

HEALTHY_SECONDS = 0.2
"""A body that goes on for this long after somebody asked is alive: longer than it takes to empty a socket's buffer."""

LAST_LOOK_SECONDS = 0.05
"""Silence is looked at once more after this: when the loop was busy, timers may run before bytes that are there."""


class Wish(Enum):
    """What somebody who waits for an upload wants of its present holder."""

    NOW = "now"
    WHEN_STALLED = "when-stalled"
    IF_STALLED = "if-stalled"


class Sink(Protocol):
    """Where a store takes bytes."""

    def buffer(self) -> memoryview:
        """Writable room for the next bytes, at least one; good until `filled`."""
        ...

    def filled(self, count: int) -> Awaitable[None] | None:
        """`count` (> 0) bytes are at the start of the last `buffer()`.

        None: go on at once. An awaitable: await it before the next `buffer()`; this is how a slow store slows its
        client. Raises what the store raises.
        """
        ...


class Source(Protocol):
    """Where the bytes of a request come from."""

    async def fill(self, sink: Sink) -> Checksum | None:
        """Hand every byte to `sink`, in order. Returns the checksum that a trailer brought, if any.

        Asks for a `buffer()` only when there is a byte to put into it: at the bound of a body there is none.

        Raises `Interrupted` when the body ends early, after all that arrived was handed over; RequestError for a
        trailer that cannot be read.
        """
        ...


def unexpected_eof() -> Interrupted:
    """The client went away in mid-body (tus K19); nobody is likely to read this answer."""
    return Interrupted("the body ended early", code="ERR_UNEXPECTED_EOF", status=400)


def taken_over() -> Interrupted:
    return Interrupted("another request took this upload over; ask for the offset and go on from there")


def _timed_out(seconds: float) -> Interrupted:
    # tus K19: the connection is closed. 503, since a client that wakes up again retries on it (tusd: 500).
    return Interrupted(
        f"no byte for {seconds:g} s",
        code="ERR_READ_TIMEOUT",
        status=503,
        headers={"Connection": "close"},
    )


class Body:
    """One request's body. `received` counts bytes handed to the sink; `error` is why it ended early, or None.

    `checksum` is what the bytes must hash to; `expects_trailer` says that this will be known only at the end. Either
    makes the body atomic: it counts whole or not at all (tus S4, S9). `may_trail`: a trailer may come without being
    announced, so nothing may count before the end either. `stall_seconds` of silence and the client is
    stalled: a request that waits for the upload may have it. After `idle_seconds` the body ends by itself. Only time
    spent waiting for the client counts, never time in the store (failures F37).
    """

    def __init__(
        self,
        source: Source,
        *,
        checksum: Checksum | None = None,
        expects_trailer: bool = False,
        may_trail: bool = False,
        stall_seconds: float = 0.5,
        idle_seconds: float = 60.0,
    ) -> None:
        self.received = 0
        self.error: TusError | None = None
        self.is_atomic = checksum is not None or expects_trailer
        self.may_be_discarded = self.is_atomic or may_trail
        self._source = source
        self._checksum = checksum
        self._hasher = checksum.hasher() if checksum else None
        self._late_checksum: Checksum | None = None
        self._stall_seconds = stall_seconds
        self._idle_seconds = idle_seconds
        self._limit: int | None = None
        self._limit_error: Callable[[], TusError] = size_exceeded
        self._sink: Sink
        self._window = memoryview(b"")
        self._is_void = False  # nothing of it may count
        self._is_in_sink = False
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._broken = anyio.Event()
        self._activity: anyio.Event | None = None
        self._watchers = 0
        self._is_reading = False  # waiting for the client, not for the store
        self._last_activity = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def bound(self, limit: int | None, error: Callable[[], TusError] = size_exceeded) -> None:
        """Take at most `limit` bytes (None: any number); what goes beyond ends the body with `error()`."""
        self._limit = limit
        self._limit_error = error

    async def into(self, sink: Sink) -> None:
        """Fill `sink` until the body ends, for whatever reason. Raises only what the sink raises."""
        self._sink = sink
        if self.error is not None:
            return
        try:
            with self._scope:
                self._resume()
                self._late_checksum = await self._source.fill(self)
        except Interrupted as error:
            self._keep(error)
        except RequestError as error:
            if self._is_in_sink:
                raise
            if self.error is None:  # not the bound, so a trailer that cannot be read (tus S3, S4)
                self._is_void = True
                self._keep(error)
        finally:
            self._suspend()
            self._ended.set()

    async def accepts(self, read_back: Callable[[], AsyncIterator[Buffer]]) -> bool:
        """Whether the bytes may count. Asked once, after `into`, before the store makes them count.

        `read_back()` yields the bytes that were received, again: a trailer names its algorithm only at the end.
        """
        checksum = self._checksum or self._late_checksum
        if checksum is None and not (self.is_atomic or self._is_void):
            return True
        if self.error is not None:
            return False  # tus S9: cut short, so discarded whole
        if checksum is None:
            self._keep(RequestError("the announced Upload-Checksum trailer did not come", code="ERR_INVALID_CHECKSUM"))
            return False
        hasher = self._hasher
        if hasher is None:
            hasher = checksum.hasher()
            async for piece in read_back():
                hasher.update(piece)
                await anyio.lowlevel.checkpoint()  # others must not wait for all of it
        if checksum.matches(hasher):
            return True
        self._keep(RequestError("the checksum does not match", code="ERR_CHECKSUM_MISMATCH", status=460))
        return False

    async def expect_nothing(self) -> None:
        """For an upload that takes no more bytes: the first one is too many."""
        self.bound(0, self._limit_error)
        await self.into(_NOWHERE)
        await self.accepts(_nothing)

    def interrupt(self, error: Interrupted) -> None:
        """End the body now, from outside; its bytes stay. Without effect once it has ended."""
        if not self._ended.is_set():
            self._keep(error)
            self._scope.cancel()

    async def release_requested(self, wish: Wish) -> bool:
        """Somebody else wants the upload; the contract is `ports.ReleaseRequested`."""
        if wish is Wish.NOW:
            self.interrupt(taken_over())
            return True
        self._watchers += 1
        self._watch_silence()
        try:
            if wish is Wish.WHEN_STALLED:
                await self._broken.wait()
            else:
                await self._wait_for_verdict()
            # A body that has ended leaves only what is quick: soon the offset is the one that the next append needs.
            return self.error is not None or self._ended.is_set()
        finally:
            self._watchers -= 1

    async def _wait_for_verdict(self) -> None:
        """Until the body has ended, or its client is stalled, or it is clear that it is neither.

        Bytes alone do not tell: those of a client that has gone may still be coming out of the kernel. Bytes that come
        after a while do.
        """
        with anyio.move_on_after(HEALTHY_SECONDS):
            await self._ended.wait()
        if self._is_reading:
            self._activity = self._activity or anyio.Event()
            await self._activity.wait()

    # The sink that the source sees.

    def buffer(self) -> memoryview:
        left = None if self._limit is None else self._limit - self.received
        if left is not None and left <= 0:
            error = self._limit_error()
            self._keep(error)
            raise error
        self._is_in_sink = True
        self._window = self._sink.buffer()[:left]
        self._is_in_sink = False
        return self._window

    def filled(self, count: int) -> Awaitable[None] | None:
        self.received += count
        if self._hasher is not None:
            self._hasher.update(self._window[:count])
        self._is_in_sink = True
        pause = self._sink.filled(count)
        if pause is not None:
            return self._wait_for_store(pause)
        self._is_in_sink = False
        self._resume()
        return None

    async def _wait_for_store(self, pause: Awaitable[None]) -> None:
        self._suspend()
        await pause
        self._is_in_sink = False
        self._resume()

    # Keeping time.

    def _resume(self) -> None:
        self._is_reading = True
        self._last_activity = anyio.current_time()
        self._announce_activity()
        if self._timer is None:
            self._watch_silence()

    def _suspend(self) -> None:
        self._is_reading = False
        self._announce_activity()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _announce_activity(self) -> None:
        if self._activity is not None:
            self._activity.set()
            self._activity = None

    def _silent_seconds(self) -> float:
        return anyio.current_time() - self._last_activity

    def _watch_silence(self, *, is_last_look: bool = False) -> None:
        """End the body when its client is silent for too long: soon if somebody waits for the upload.

        One timer, set anew only when it is due: each byte costs no more than a look at the clock.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._is_reading:
            return
        left = (self._stall_seconds if self._watchers else self._idle_seconds) - self._silent_seconds()
        if left <= 0 and is_last_look:
            self.interrupt(taken_over() if self._watchers else _timed_out(self._idle_seconds))
            return
        look = partial(self._watch_silence, is_last_look=left <= 0)
        self._timer = asyncio.get_running_loop().call_later(left if left > 0 else LAST_LOOK_SECONDS, look)

    def _keep(self, error: TusError) -> None:
        if self.error is None:
            self.error = error
            self._broken.set()


class _Nowhere:
    """A sink that the bound keeps all bytes from."""

    def buffer(self) -> memoryview:
        raise size_exceeded()

    def filled(self, _count: int) -> None:
        raise size_exceeded()


_NOWHERE = _Nowhere()


async def _nothing() -> AsyncIterator[bytes]:
    for piece in tuple[bytes, ...]():
        yield piece
