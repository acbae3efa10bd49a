"""The bytes of one request on their way into a store.

To the store a broken network looks like an orderly end: `Body.into` returns, what arrived counts, and the real error
is kept in `Body.error` for `core.uploads` to raise afterwards. The body counts, bounds, times and digests the bytes
as they pass, and can be ended from outside; it leaves reading the network to its source and keeping bytes to the sink.

Source, body and sink speak one language, that of asyncio.BufferedProtocol: "where do the next bytes go?" and "so
many are there". So a socket can fill the store's own memory, and any server can fill it by copying.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import Enum
from typing import Protocol

import anyio

from tusd_py.core.checksum import Buffer, Checksum, Hasher, hash_all
from tusd_py.core.patience import Patience, Watch, taken_over
from tusd_py.errors import Interrupted, RequestError, TusError, size_exceeded

_PATIENCE = Patience()

HEALTHY_SECONDS = 0.2
"""A body that goes on for this long after somebody asked is alive: longer than it takes to empty a socket's buffer."""


class Wish(Enum):
    """What somebody who waits for an upload wants of its present holder."""

    NOW = "now"
    WHEN_STALLED = "when-stalled"
    IF_STALLED = "if-stalled"


class Sink(Protocol):
    """Where a store takes bytes."""

    def buffer(self) -> memoryview:
        """Writable room for the next bytes, at least one. Good until `filled`, which comes before the loop runs again:
        what is shown may be shared."""
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


async def pour(data: bytes, sink: Sink) -> None:
    """Copy `data` into `sink`."""
    left = memoryview(data)
    while left:
        room = sink.buffer()
        count = min(len(room), len(left))
        room[:count] = left[:count]
        pause = sink.filled(count)
        if pause is not None:
            await pause
        left = left[count:]


def unexpected_eof() -> Interrupted:
    """The client went away in mid-body (tus K19); nobody is likely to read this answer."""
    return Interrupted("the body ended early", code="ERR_UNEXPECTED_EOF", status=400)


class Body:
    """One request's body. `received` counts bytes handed to the sink; `error` is why it ended early, or None.

    `checksum` is what the bytes must hash to; `expects_trailer` says that this will be known only at the end. Either
    makes the body atomic: it counts whole or not at all (tus S4, S9). `may_trail`: a trailer may come without being
    announced, so nothing may count before the end either. `patience` is what its client may take. `tell` hears of the
    bytes of each piece that the sink took; `digest`, if there is one, is given them.
    """

    def __init__(
        self,
        source: Source,
        *,
        checksum: Checksum | None = None,
        expects_trailer: bool = False,
        may_trail: bool = False,
        patience: Patience = _PATIENCE,
    ) -> None:
        self.received = 0
        self.error: TusError | None = None
        self.tell: Callable[[int], object] = _unheard
        self.digest: Hasher | None = None
        self.is_atomic = checksum is not None or expects_trailer
        self.may_be_discarded = self.is_atomic or may_trail
        self._source = source
        self._checksum = checksum
        self._hasher = checksum.hasher() if checksum else None
        self._late_checksum: Checksum | None = None
        self._watch = Watch(patience)
        self._limit: int | None = None
        self._limit_error: Callable[[], TusError] = size_exceeded
        self._sink: Sink
        self._window = memoryview(b"")
        self._is_void = False  # nothing of it may count
        self._is_in_sink = False
        self._task: asyncio.Task[None] | None = None  # that fills the sink
        self._is_interrupting = False
        self._ended = asyncio.Event()
        self._broken = asyncio.Event()

    @property
    def needs_read_back(self) -> bool:
        """Whether `accepts` may have to read the bytes again: which algorithm it is, only a trailer will tell."""
        return self.may_be_discarded and self._hasher is None

    @property
    def client_seconds(self) -> float:
        """What was spent waiting for the client; not yet counted while it is being waited for."""
        return self._watch.client_seconds

    def bound(self, limit: int | None, error: Callable[[], TusError] = size_exceeded) -> None:
        """Take at most `limit` bytes (None: any number); what goes beyond ends the body with `error()`."""
        self._limit = limit
        self._limit_error = error

    async def into(self, sink: Sink) -> None:
        """Fill `sink` until the body ends, for whatever reason. Raises only what the sink raises."""
        self._sink = sink
        if self.error is not None:
            return
        self._task = task = asyncio.current_task()
        cancellations = task.cancelling() if task is not None else 0
        try:
            self._watch.resume(self.interrupt)
            self._late_checksum = await self._source.fill(self)
        except asyncio.CancelledError:
            # As asyncio.timeout tells its own cancellation from another's.
            if not self._is_interrupting or task is None or task.uncancel() > cancellations:
                raise
        except Interrupted as error:
            self._keep(error)
        except RequestError as error:
            if self._is_in_sink:
                raise
            if self.error is None:  # not the bound, so a trailer that cannot be read (tus S3, S4)
                self._is_void = True
                self._keep(error)
        finally:
            self._task = None
            self._watch.suspend()
            self._ended.set()
            # Memory of the sink's would else be kept until the collector comes to this request.
            self._sink, self._window = _NOWHERE, memoryview(b"")

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
            await hash_all(hasher, read_back())
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
            if self._task is not None and not self._is_interrupting:
                self._is_interrupting = True
                self._task.cancel()

    async def release_requested(self, wish: Wish) -> bool:
        """Somebody else wants the upload; the contract is `ports.ReleaseRequested`."""
        if wish is Wish.NOW:
            self.interrupt(taken_over())
            return True
        self._watch.add_watcher()
        try:
            if wish is Wish.WHEN_STALLED:
                await self._broken.wait()
            else:
                await self._wait_for_verdict()
            # A body that has ended leaves only what is quick: soon the offset is the one that the next append needs.
            return self.error is not None or self._ended.is_set()
        finally:
            self._watch.remove_watcher()

    async def _wait_for_verdict(self) -> None:
        """Until the body has ended, or its client is stalled, or it is clear that it is neither.

        Bytes alone do not tell: those of a client that has gone may still be coming out of the kernel. Bytes that come
        after a while do.
        """
        with anyio.move_on_after(HEALTHY_SECONDS):
            await self._ended.wait()
        if self._watch.is_reading:
            await self._watch.activity()

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
        if self.digest is not None:
            self.digest.update(self._window[:count])
        self._is_in_sink = True
        given_at = time.monotonic()
        pause = self._sink.filled(count)
        self._watch.heard(self.received, given_at)
        self.tell(count)
        if pause is not None:
            return self._wait_for_store(pause)
        self._is_in_sink = False
        return None

    async def _wait_for_store(self, pause: Awaitable[None]) -> None:
        self._watch.suspend()
        await pause
        self._is_in_sink = False
        self._watch.resume(self.interrupt)

    def _keep(self, error: TusError) -> None:
        if self.error is None:
            self.error = error
            self._broken.set()


def _unheard(_count: int) -> None: ...


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
