"""The one order of steps for every verb, whatever the wire and the store: lock, open, check, write, finish, answer.

Checks that need no body come before its first byte is read (failures F34). What HTTP looks like, and how bytes are
kept, is left to the codecs and the stores.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import replace
from types import TracebackType

import anyio

from tusd_py.core.announcer import Announcer
from tusd_py.core.body import Body, Wish
from tusd_py.core.checksum import Buffer
from tusd_py.core.commands import Append, Concatenate, Create
from tusd_py.core.digest import Digests
from tusd_py.core.events import NO_CALLER, AccessMode, Caller
from tusd_py.core.observer import Observer
from tusd_py.core.ports import Capabilities, Concatenates, Locker, Store, StoredUpload
from tusd_py.core.rules import Offers, Rules, as_bad_partials, refuse_final, total_length
from tusd_py.core.upkeep import Upkeep, soon
from tusd_py.core.upload import State, Upload, UploadId, final_id, new_id
from tusd_py.errors import (
    BackendError,
    RequestError,
    Stopped,
    server_shutdown,
    upload_exists,
    upload_locked,
    upload_not_found,
)


class Uploads:
    """Every verb on uploads. One instance per process; its methods may run at once for any number of requests.

    Methods return the upload as it stands afterwards and raise `TusError`.
    """

    def __init__(self, store: Store, locker: Locker, rules: Rules, announcer: Announcer | None = None) -> None:
        self._store = store
        self._locker = locker
        self._rules = rules
        self._announcer = announcer = announcer or Announcer()
        self.feed = announcer.feed
        self._can = can = Capabilities.of(store)
        self._digests = digests = Digests(rules.digest)
        self._upkeep = Upkeep(store, locker, rules, can, announcer, digests)
        self._bodies: set[Body] = set()
        self.is_stopping = False
        self.offers = Offers.of(rules, can)

    async def create(self, command: Create, body: Body, caller: Caller = NO_CALLER) -> Upload:
        """Make an upload; with `command.has_body`, `body` is its first bytes.

        A creation that fails leaves nothing: nobody was told the id.
        """
        self._refuse_when_stopping()
        if command.length is None and not self.offers.deferred_length:
            raise RequestError("deferred lengths are not offered here", code="ERR_INVALID_UPLOAD_LENGTH_DEFER")
        if command.is_partial:
            self._refuse_unless_concatenating()
        self._rules.check_size(command.length)
        upload = self._new_upload(command)
        if command.has_body:
            self._rules.bound(body, upload, command.content_length)
        upload = await self._announcer.ask_create(upload, caller)
        async with self._hold(upload.id, body):
            upload = await self._create_and_fill(upload, command, body, caller)
        await self._announcer.created(upload, caller)
        if upload.is_available:
            await self._upkeep.finished(upload, caller)
        return upload

    async def append(self, command: Append, body: Body, caller: Caller = NO_CALLER) -> Upload:
        """Write `body` at `command.offset`, and finish the upload if that was all."""
        self._refuse_when_stopping()
        await self.check_access(AccessMode.WRITE, command.id, caller)
        async with self._hold(command.id, body):
            stored = await self._store.open(command.id, command.offset)
            try:
                was_available = stored.upload.is_available
                self._rules.check_append(stored.upload, command)
                is_declared = command.length is not None and stored.upload.length is None
                upload = replace(stored.upload, length=command.length) if is_declared else stored.upload
                self._rules.bound(body, upload, command.content_length)
                if is_declared:
                    stored = await self._declare_length(stored, upload)
                await self._fill(stored, body, caller)
                upload = stored.upload
            finally:
                await stored.close()
            is_stopped = isinstance(body.error, Stopped) and await self._upkeep.end(upload, caller)
        if is_stopped:
            self._announcer.stopped(upload)
        elif upload.is_available and not was_available:
            await self._upkeep.finished(upload, caller)
        if body.error is not None:
            self._announcer.interrupted(upload, body.error.code)
            raise body.error
        return upload

    async def inspect(self, upload_id: UploadId, caller: Caller = NO_CALLER) -> Upload:
        """The upload, with an offset that the next append is accepted at.

        Never interrupts a healthy append; one whose client is stalled is ended first (failures F20). Drives on what a
        crash left half-done (failures F6). RequestError: 404, or 410 when it has expired.
        """
        await self.check_access(AccessMode.READ, upload_id, caller)
        try:
            is_held = await self._locker.settle(upload_id)
        except BackendError:
            is_held = True  # for all that is known; the offset last settled is true all the same
        upload = await self._upkeep.read(upload_id)
        if upload.is_due and not is_held:
            upload = await self._upkeep.drive_when_asked(upload)
        if upload.has_all_bytes and not (upload.is_available or upload.is_final):
            # Who hears that all bytes are there never asks again, and nobody would finish it (failures F6).
            raise upload_locked()
        return await self._upkeep.with_length(upload)

    async def find(self, upload_id: UploadId, caller: Caller = NO_CALLER) -> Upload:
        """The upload as last settled. Takes no lock and waits for nobody, so hooks may ask too (failures F28, F36).

        RequestError: 404, or 410 when it has expired.
        """
        upload = await self._upkeep.read(upload_id)
        await self._announcer.ask_access(AccessMode.READ, upload, caller)
        return upload

    async def check_access(self, mode: AccessMode, upload_id: UploadId | None, caller: Caller) -> None:
        """Raise what this caller earns who wants to see or change an upload, or to see all of them.

        RequestError for an upload that is not there, where hooks are asked; Refused if one says no.
        """
        if self._announcer.asks_access:
            upload = None if upload_id is None else await self._upkeep.read(upload_id)
            await self._announcer.ask_access(mode, upload, caller)

    async def terminate(self, upload_id: UploadId, caller: Caller = NO_CALLER) -> None:
        """Remove an upload, finished or not; a running append is ended (failures F26).

        RequestError: 404 when it is gone, 423 when its holder does not let go, 405 where this is not offered.
        """
        if not self.offers.termination:
            raise RequestError("uploads cannot be terminated here", code="ERR_METHOD_NOT_ALLOWED", status=405)
        upload = await self._store.read(upload_id)
        await self._announcer.ask_access(AccessMode.WRITE, upload, caller)
        await self._announcer.ask_terminate(upload, caller)
        async with self._locker.hold(upload_id, soon, wish=Wish.NOW):
            if not await self._upkeep.end(upload, caller):
                raise upload_not_found()  # somebody else was first
        self._announcer.terminated(upload)

    async def concatenate(self, command: Concatenate, caller: Caller = NO_CALLER) -> Upload:
        """Make a final upload; its bytes are there at once if the partials are complete, else when the last one is.

        The same partials with the same metadata are the same upload: a retried request finds it (failures F16).
        """
        self._refuse_when_stopping()
        concatenates = self._refuse_unless_concatenating()
        upload_id = final_id(command.partials, command.metadata.raw)
        with suppress(RequestError):
            found = await self._store.read(upload_id)
            if found.is_available:  # its partials may be gone by now
                await self._announcer.ask_access(AccessMode.READ, found, caller)
                return found
        partials = await self._named_partials(command, caller)
        length = total_length(partials)
        self._rules.check_size(length)
        upload = Upload(
            id=upload_id,
            length=length,
            metadata=command.metadata,
            state=State.ASSEMBLING,
            concat=command.concat,
            partials=command.partials,
            created_at=time.time(),
            expire_after_seconds=self._rules.expire_after_seconds,
            is_heard=self._announcer.owes_finish,
        )
        upload = await self._announcer.ask_create(upload, caller)
        async with self._locker.hold(upload.id, soon):
            # First the note, then the record, then a look at the partials: whoever comes last drives the final on.
            await concatenates.note_waiting(upload.id, [each.id for each in partials if not each.is_available])
            await self._create_final(upload, caller)
        with as_bad_partials():
            return await self._upkeep.with_length(await self._upkeep.drive(upload.id, caller=caller))

    async def read_range(self, upload_id: UploadId, start: int, end: int) -> AsyncGenerator[Buffer, None]:
        """The bytes from `start` up to, not including, `end` of an available upload."""
        if self._can.serves_ranges is None:
            raise RequestError("uploads cannot be downloaded here", code="ERR_METHOD_NOT_ALLOWED", status=405)
        async with aclosing(self._can.serves_ranges.read_range(upload_id, start, end)) as pieces:
            async for piece in pieces:
                yield piece

    async def location(self, upload_id: UploadId, content_type: str, disposition: str) -> str | None:
        """Where else a client may get the bytes of an available upload, if anywhere."""
        if self._can.redirects is None:
            return None
        return await self._can.redirects.location(upload_id, content_type, disposition)

    async def refuse_unknown(self, upload_id: UploadId) -> None:
        """Raise what an append to this upload earns before its headers are even looked at: 404, 410, 403."""
        refuse_final(await self._upkeep.read(upload_id))

    async def page(self, cursor: str, count: int) -> tuple[list[Upload], str]:
        """Some of all uploads, about `count`, and the cursor for what follows; an empty one begins, and says the end.

        Those that expired or cannot be read are left out. RequestError where the store cannot list.
        """
        return await self._upkeep.page(cursor, count)

    async def is_sweep_due(self, interval_seconds: float) -> bool:
        """Whether it is for this process to sweep, where there are several."""
        return await self._upkeep.is_sweep_due(interval_seconds)

    async def sweep(self) -> int:
        """Remove expired uploads and leftovers, and drive on what waits; returns how many things went."""
        return await self._upkeep.sweep()

    def stop(self) -> None:
        """Take no new requests and end the running bodies; what they brought is kept. For a server about to exit."""
        self.is_stopping = True
        self.feed.stop()
        for body in self._bodies:
            body.interrupt(server_shutdown())

    # Steps.

    def _hold(self, upload_id: UploadId, body: Body) -> _Hold:
        turn = self._locker.hold(upload_id, body.release_requested)
        return _Hold(turn, self._bodies, body, self._announcer.observer)

    async def _create_and_fill(self, upload: Upload, command: Create, body: Body, caller: Caller) -> Upload:
        first_bytes = command.content_length if command.has_body else 0 if upload.length == 0 else None
        if self._announcer.asks_finish:
            first_bytes = None  # hooks look at it before it is finished (failures F36)
        try:
            stored = await self._store.create(upload, first_bytes)
        except FileExistsError:
            if not (upload.is_named or upload.place):
                raise
            raise upload_exists() from None
        try:
            if command.has_body:
                await self._fill(stored, body, caller)
                if body.error is not None:
                    raise body.error
            elif upload.length == 0:
                await self._upkeep.finish(stored, caller)  # tus C7
            return stored.upload
        except BaseException:
            with anyio.CancelScope(shield=True):
                await stored.close()
                await self._upkeep.remove(upload.id)
            self._announcer.never_was(upload.id)
            raise
        finally:
            await stored.close()

    async def _create_final(self, upload: Upload, caller: Caller) -> None:
        try:
            stored = await self._store.create(upload)
        except FileExistsError:
            found = await self._upkeep.read_alive(upload.id)
            if not found.is_expired(time.time()):
                if found.partials != upload.partials:
                    raise upload_exists() from None
                return  # asked for again
            await self._upkeep.remove(upload.id)
            stored = await self._store.create(upload)
        await stored.close()
        await self._announcer.created(upload, caller)

    async def _fill(self, stored: StoredUpload, body: Body, caller: Caller) -> None:
        if stored.upload.is_available:
            await body.expect_nothing()  # an empty body is fine (failures F32)
            return
        before = stored.upload
        body.digest = self._digests.begin(before)
        with self._announcer.receiving(stored, body, caller):
            await stored.append(body)
            if stored.upload.offset == before.offset + body.received:
                self._digests.keep(stored.upload, body.digest)
            if stored.upload.has_all_bytes:
                await self._upkeep.finish(stored, caller)

    async def _declare_length(self, stored: StoredUpload, upload: Upload) -> StoredUpload:
        if self._can.defers_length is None or upload.length is None:
            raise RequestError("deferred lengths are not offered here", code="ERR_INVALID_UPLOAD_LENGTH_DEFER")
        await stored.close()
        await self._can.defers_length.declare_length(upload.id, upload.length)
        return await self._store.open(upload.id, upload.offset)

    # Checks.

    def _refuse_when_stopping(self) -> None:
        if self.is_stopping:
            raise server_shutdown()

    def _refuse_unless_concatenating(self) -> Concatenates:
        if self._can.concatenates is None or not self.offers.concatenation:
            raise RequestError("uploads cannot be concatenated here", code="ERR_CONCATENATION_UNSUPPORTED")
        return self._can.concatenates

    async def _named_partials(self, command: Concatenate, caller: Caller) -> list[Upload]:
        """What the client named, each read once."""
        with as_bad_partials():
            found = {each: await self._upkeep.read_partial(each) for each in dict.fromkeys(command.partials)}
        for partial in found.values():
            await self._announcer.ask_access(AccessMode.READ, partial, caller)
        return [found[each] for each in command.partials]

    def _new_upload(self, command: Create) -> Upload:
        return Upload(
            id=new_id(),
            length=command.length,
            metadata=command.metadata,
            is_partial=command.is_partial,
            concat=command.concat,
            created_at=time.time(),
            expire_after_seconds=self._rules.expire_after_seconds,
            is_heard=self._announcer.owes_finish,
        )


class _Hold:
    """The lock of a request with a body, which `stop` finds meanwhile. The waiting is told."""

    __slots__ = ("_bodies", "_body", "_observer", "_turn")

    def __init__(
        self, turn: AbstractAsyncContextManager[None], bodies: set[Body], body: Body, observer: Observer
    ) -> None:
        self._turn = turn
        self._bodies = bodies
        self._body = body
        self._observer = observer

    async def __aenter__(self) -> None:
        asked_at = time.monotonic()
        self._bodies.add(self._body)
        try:
            await self._turn.__aenter__()
        except BaseException:
            self._bodies.discard(self._body)
            raise
        finally:
            self._observer.lock_waited(time.monotonic() - asked_at)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bodies.discard(self._body)
        await self._turn.__aexit__(kind, error, trace)
