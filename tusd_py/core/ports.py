"""What the core asks of a store and of a locker. The docstrings are the contract; `tests/conformance` holds it.

A store keeps the basics (`Store`, `StoredUpload`) and may do more: `Terminates`, `Concatenates`, `DefersLength`,
`Expires`, `Lists`, `ServesRanges`, `Redirects`. What it can do is found out once, by `Capabilities.of`, and decides
what is announced.

Errors: a store raises `errors.upload_not_found()` for what it does not have or has lost, and `BackendError` for
everything that fails underneath. It never raises for a broken body: see `StoredUpload.append`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

from tusd_py.core.body import Body, Wish
from tusd_py.core.checksum import Buffer
from tusd_py.core.digest import Digest
from tusd_py.core.upload import Upload, UploadId


class StoredUpload(Protocol):
    """One upload, opened by the request that holds its lock. Not shared between tasks; closed before the lock goes."""

    @property
    def upload(self) -> Upload:
        """The snapshot as of the last call here; settled."""
        ...

    async def append(self, body: Body) -> int:
        """Write the body at the offset and return the number of bytes (>= 0) made durable by this call, or, where it
        brings the last one, by the `finish` that follows.

        Takes the bytes by `body.into(sink)`. A broken or interrupted body is an orderly end: what came before counts.
        Before anything counts, `body.accepts(read_back)` is asked; after a False nothing counts (promise 6), also
        after a crash in between. When the store itself fails half-way it raises BackendError; what was acknowledged
        earlier is unharmed (promise 1), and bytes after the offset are cut by the next `open`.
        """
        ...

    async def finish(self, digest: Digest | None = None, *, owes: bool = False) -> None:
        """Called when all bytes are there: makes the upload AVAILABLE, durably. May be repeated after a crash.

        With `owes`, `unfinished` goes on to find it until `settle`: both are one durable step (failures F30). With
        `digest`, its text is in the record by then. Where nothing is left to do, a store may show the upload as
        AVAILABLE as soon as all its bytes are there.
        """
        ...

    async def close(self) -> None:
        """Give back what is held. Never raises, may be called twice."""
        ...


class Store(Protocol):
    """A backend that keeps uploads. Any number of tasks and processes may use it at once."""

    async def create(self, upload: Upload, first_bytes: int | None = None) -> StoredUpload:
        """Keep a new upload and open it: durable before this returns.

        With `first_bytes` the caller appends that many, or finishes, or removes the upload, before anybody is told of
        it; so nothing needs to be durable before that is.

        Raises FileExistsError when the id is taken, with `first_bytes` at the latest when they are to count; then
        nothing is changed.
        """
        ...

    async def read(self, upload_id: UploadId) -> Upload:
        """A snapshot without a lock, at any time, also while a holder writes.

        Its offset was durable at some moment during the call and never goes down from one call to the next.
        """
        ...

    async def open(self, upload_id: UploadId, expected_offset: int | None = None) -> StoredUpload:
        """Open for change; the caller holds the lock. Repairs first what a crash left: the offset is settled after.

        `expected_offset`: where the caller wants to append. A store that left the upload there may take that for
        granted, if it notices at the latest when bytes are to count that somebody else has changed it since.
        """
        ...

    async def aclose(self) -> None:
        """Give back threads and connections, when no request is running any more."""
        ...


@runtime_checkable
class Terminates(Protocol):
    async def terminate(self, upload_id: UploadId) -> bool:
        """Remove everything of the upload; returns whether there was one. The caller holds the lock and nothing is
        open. May be repeated."""
        ...


@runtime_checkable
class DefersLength(Protocol):
    async def declare_length(self, upload_id: UploadId, length: int) -> None:
        """Set the length, durably. The caller holds the lock, nothing is open, and the length was deferred."""
        ...


@runtime_checkable
class Concatenates(Protocol):
    async def concatenate(self, final: UploadId, partials: Sequence[UploadId]) -> None:
        """Copy the bytes of the available partials into `final`, which then has all its bytes; not yet finished.

        The caller holds the final's lock and nothing is open. Atomic: before it is done, `final` has no bytes.
        May be repeated after a crash. `partials` may name one several times.
        """
        ...

    async def note_waiting(self, final: UploadId, partials: Iterable[UploadId]) -> None:
        """Remember, durably, that `final` waits for these partials. May be repeated."""
        ...

    async def waiting_for(self, partial: UploadId) -> list[UploadId]:
        """The finals that wait for this partial; those long done may be among them. Cheap when there are none."""
        ...


@runtime_checkable
class Expires(Protocol):
    def unfinished(self) -> AsyncIterator[Upload]:
        """Every upload that is not available, or was finished with `owes` and is not settled, in no order. There may be
        others among them. Costs in proportion to these, not to all that are finished."""
        ...

    async def settle(self, upload_id: UploadId) -> None:
        """Nothing is owed any more because this upload was finished. Needs no lock. May be repeated."""
        ...

    async def is_sweep_due(self, interval_seconds: float) -> bool:
        """Whether this process is to sweep now. False: another one that shares the backend has done so lately."""
        ...

    async def sweep_leftovers(self, hold: Callable[[UploadId], AbstractAsyncContextManager[None]]) -> int:
        """Remove what crashed requests left that belongs to no upload; returns how many things went.

        `hold(id)` takes the id's lock, or raises RequestError when somebody has it; nothing of a held id is touched
        (failures F27).
        """
        ...


@runtime_checkable
class Lists(Protocol):
    async def list_ids(self, cursor: str, count: int) -> tuple[list[UploadId], str]:
        """About `count` of all uploads, in an order of the store's own, and the cursor for what follows.

        An empty cursor begins, and says the end. There may be fewer, or none, before the end. What is created or
        removed meanwhile may be among them; no other is left out or comes twice. RequestError for what is no cursor.
        """
        ...


@runtime_checkable
class Places(Protocol):
    def storage(self, upload: Upload) -> Mapping[str, str]:
        """Where the bytes of an upload are or will be, as tusd tells its hooks."""
        ...

    def placed(self, upload: Upload, storage: Mapping[str, str]) -> Upload:
        """An upload that is being made, with the place that a hook wants for its bytes. Raises ValueError saying what
        cannot be."""
        ...


@runtime_checkable
class ServesRanges(Protocol):
    def read_range(self, upload_id: UploadId, start: int, end: int) -> AsyncGenerator[Buffer, None]:
        """The bytes from `start` up to, not including, `end` of an available upload, in order, in bounded pieces.

        Needs no lock; any number of readers. A piece is valid until the next one is asked for.
        """
        ...


@runtime_checkable
class Redirects(Protocol):
    async def location(self, upload_id: UploadId, content_type: str, disposition: str) -> str | None:
        """A URL that gives anybody who has it the bytes of an available upload, for a while and straight from the
        storage, with these headers (Content-Type, Content-Disposition). None: `read_range` is to be used.
        """
        ...


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store can do beyond the basics, or None. An operator may take some away."""

    terminates: Terminates | None
    defers_length: DefersLength | None
    concatenates: Concatenates | None
    expires: Expires | None
    lists: Lists | None
    serves_ranges: ServesRanges | None
    redirects: Redirects | None

    @classmethod
    def of(cls, store: Store) -> Self:
        return cls(
            terminates=store if isinstance(store, Terminates) else None,
            defers_length=store if isinstance(store, DefersLength) else None,
            concatenates=store if isinstance(store, Concatenates) else None,
            expires=store if isinstance(store, Expires) else None,
            lists=store if isinstance(store, Lists) else None,
            serves_ranges=store if isinstance(store, ServesRanges) else None,
            redirects=store if isinstance(store, Redirects) else None,
        )


ReleaseRequested = Callable[[Wish], Awaitable[bool]]
"""How a locker tells the holder that somebody waits. The answer True says that the holder is letting go.

`Wish.NOW`: let go whatever you do; answered at once. `Wish.IF_STALLED`: answered within about a second; False says
that the holder is healthy and goes on. `Wish.WHEN_STALLED`: somebody waits until the lock is free; answered only when
the holder lets go, and cancelled by the locker when the waiter leaves or the lock is free."""


class Locker(Protocol):
    """Exclusive rights to change uploads, across all that share the backend. No order among waiters is promised."""

    def hold(
        self,
        upload_id: UploadId,
        release_requested: ReleaseRequested,
        *,
        wish: Wish | None = Wish.WHEN_STALLED,
    ) -> AbstractAsyncContextManager[None]:
        """Have the lock for the context; `release_requested` is how others ask for it meanwhile.

        `wish` is what is asked of a present holder. NOW and WHEN_STALLED wait for it, up to the locker's time limit;
        IF_STALLED waits only if the holder is letting go; None asks nothing and does not wait. Who does not get the
        lock gets `errors.upload_locked()`. Waiting costs no CPU. The end of a holder's process frees its locks.
        """
        ...

    async def settle(self, upload_id: UploadId) -> bool:
        """Let a stalled holder go, leave a healthy one alone; answers within about a second.

        True: a healthy holder has the lock. False: nobody had it at the moment of the answer.
        """
        ...
