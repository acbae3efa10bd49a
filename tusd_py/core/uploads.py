"""The one order of steps for every verb, whatever the wire and the store: lock, open, check, write, finish, answer.

Checks that need no body come before its first byte is read (failures F34). What HTTP looks like, and how bytes are
kept, is left to the codecs and the stores.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace

import anyio

from tusd_py.core.body import Body, Wish
from tusd_py.core.checksum import Buffer
from tusd_py.core.commands import Append, Concatenate, Create
from tusd_py.core.ports import Capabilities, Concatenates, Locker, Store, StoredUpload
from tusd_py.core.rules import Offers, Rules, as_bad_partials, refuse_expired, refuse_final, total_length
from tusd_py.core.upload import State, Upload, UploadId, final_id, new_id
from tusd_py.errors import (
    BackendError,
    RequestError,
    TusError,
    server_shutdown,
    upload_locked,
    upload_not_found,
)

log = logging.getLogger("tusd_py.uploads")


async def _soon(_wish: Wish) -> bool:
    """The answer of a holder that waits for no client: it lets go when its work is done, and that is not long.

    So who asks for the offset while another request repairs the upload gets the repaired one.
    """
    return True


class Uploads:
    """Every verb on uploads. One instance per process; its methods may run at once for any number of requests.

    Methods return the upload as it stands afterwards and raise `TusError`.
    """

    def __init__(self, store: Store, locker: Locker, rules: Rules) -> None:
        self._store = store
        self._locker = locker
        self._rules = rules
        self._can = Capabilities.of(store)
        self._bodies: set[Body] = set()
        self._is_stopping = False
        self.offers = Offers.of(rules, self._can)

    async def create(self, command: Create, body: Body) -> Upload:
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
        async with self._hold(upload.id, body):
            upload = await self._create_and_fill(upload, body if command.has_body else None)
        log.info("UploadCreated id=%s size=%s", upload.id, upload.length)
        self._log_finished(upload)
        return upload

    async def append(self, command: Append, body: Body) -> Upload:
        """Write `body` at `command.offset`, and finish the upload if that was all."""
        self._refuse_when_stopping()
        async with self._hold(command.id, body):
            stored = await self._store.open(command.id)
            try:
                was_available = stored.upload.is_available
                self._rules.check_append(stored.upload, command)
                is_declared = command.length is not None and stored.upload.length is None
                upload = replace(stored.upload, length=command.length) if is_declared else stored.upload
                self._rules.bound(body, upload, command.content_length)
                if is_declared:
                    stored = await self._declare_length(stored, upload)
                await self._fill(stored, body)
                upload = stored.upload
            finally:
                await stored.close()
        if upload.is_available and not was_available:
            await self._finished(upload)
        if body.error is not None:
            log.info("UploadInterrupted id=%s offset=%s reason=%s", upload.id, upload.offset, body.error.code)
            raise body.error
        return upload

    async def inspect(self, upload_id: UploadId) -> Upload:
        """The upload, with an offset that the next append is accepted at.

        Never interrupts a healthy append; one whose client is stalled is ended first (failures F20). Drives on what a
        crash left half-done (failures F6).
        """
        is_held = await self._locker.settle(upload_id)
        upload = await self._read(upload_id)
        if upload.is_due and not is_held:
            upload = await self._drive_asked(upload)
        return await self._with_length(upload)

    async def find(self, upload_id: UploadId) -> Upload:
        """The upload as last settled. Takes no lock and waits for nobody, so hooks may ask too (failures F28, F36)."""
        return await self._read(upload_id)

    async def terminate(self, upload_id: UploadId) -> None:
        """Remove an upload, finished or not; a running append is ended (failures F26)."""
        if not self.offers.termination:
            raise RequestError("uploads cannot be terminated here", code="ERR_METHOD_NOT_ALLOWED", status=405)
        await self._store.read(upload_id)
        async with self._locker.hold(upload_id, _soon, wish=Wish.NOW):
            await self._store.read(upload_id)
            await self._remove(upload_id)
        log.info("UploadTerminated id=%s", upload_id)

    async def concatenate(self, command: Concatenate) -> Upload:
        """Make a final upload; its bytes are there at once if the partials are complete, else when the last one is.

        The same partials with the same metadata are the same upload: a retried request finds it (failures F16).
        """
        self._refuse_when_stopping()
        concatenates = self._refuse_unless_concatenating()
        upload_id = final_id(command.partials, command.metadata.raw)
        with suppress(RequestError):
            found = await self._store.read(upload_id)
            if found.is_available:  # its partials may be gone by now
                return found
        partials = await self._named_partials(command)
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
        )
        async with self._locker.hold(upload.id, _soon):
            # First the note, then the record, then a look at the partials: whoever comes last drives the final on.
            await concatenates.note_waiting(upload.id, [each.id for each in partials if not each.is_available])
            await self._create_final(upload)
        with as_bad_partials():
            return await self._with_length(await self._drive(upload.id))

    async def read_range(self, upload_id: UploadId, start: int, end: int) -> AsyncGenerator[Buffer, None]:
        """The bytes from `start` up to, not including, `end` of an available upload."""
        if self._can.serves_ranges is None:
            raise RequestError("uploads cannot be downloaded here", code="ERR_METHOD_NOT_ALLOWED", status=405)
        async with aclosing(self._can.serves_ranges.read_range(upload_id, start, end)) as pieces:
            async for piece in pieces:
                yield piece

    async def refuse_unknown(self, upload_id: UploadId) -> None:
        """Raise what an append to this upload earns before its headers are even looked at: 404, 410, 403."""
        refuse_final(await self._read(upload_id))

    async def sweep(self) -> int:
        """Remove expired uploads and leftovers, and drive on what waits; returns how many things went.

        Costs in proportion to what is unfinished. Never touches what is held or finished (failures F27).
        """
        if self._can.expires is None:
            return 0
        removed = 0
        async for upload in self._can.expires.unfinished():
            try:
                removed += await self._sweep_one(upload)
            except TusError as error:
                if error.status != upload_locked().status:
                    log.warning("SweepSkipped id=%s reason=%s", upload.id, error.message)
        return removed + await self._can.expires.sweep_leftovers(
            lambda upload_id: self._locker.hold(upload_id, _soon, wish=None)
        )

    def stop(self) -> None:
        """Take no new requests and end the running bodies; what they brought is kept. For a server about to exit."""
        self._is_stopping = True
        for body in self._bodies:
            body.interrupt(server_shutdown())

    # Steps.

    @asynccontextmanager
    async def _hold(self, upload_id: UploadId, body: Body) -> AsyncIterator[None]:
        self._bodies.add(body)
        try:
            async with self._locker.hold(upload_id, body.release_requested):
                yield
        finally:
            self._bodies.discard(body)

    async def _create_and_fill(self, upload: Upload, body: Body | None) -> Upload:
        stored = await self._store.create(upload)
        try:
            if body is not None:
                await self._fill(stored, body)
                if body.error is not None:
                    raise body.error
            elif upload.length == 0:
                await stored.finish()  # tus C7
            return stored.upload
        except BaseException:
            with anyio.CancelScope(shield=True):
                await stored.close()
                await self._remove(upload.id)
            raise
        finally:
            await stored.close()

    async def _create_final(self, upload: Upload) -> None:
        try:
            stored = await self._store.create(upload)
        except FileExistsError:
            if not (await self._read_alive(upload.id)).is_expired(time.time()):
                return  # asked for again
            await self._remove(upload.id)
            stored = await self._store.create(upload)
        await stored.close()
        log.info("UploadCreated id=%s partials=%d", upload.id, len(upload.partials))

    async def _fill(self, stored: StoredUpload, body: Body) -> None:
        if stored.upload.is_available:
            await body.expect_nothing()  # an empty body is fine (failures F32)
            return
        await stored.append(body)
        if stored.upload.has_all_bytes:
            await stored.finish()

    async def _declare_length(self, stored: StoredUpload, upload: Upload) -> StoredUpload:
        if self._can.defers_length is None or upload.length is None:
            raise RequestError("deferred lengths are not offered here", code="ERR_INVALID_UPLOAD_LENGTH_DEFER")
        await stored.close()
        await self._can.defers_length.declare_length(upload.id, upload.length)
        return await self._store.open(upload.id)

    async def _finished(self, upload: Upload) -> None:
        self._log_finished(upload)
        if upload.is_partial and self._can.concatenates is not None:
            for final in await self._can.concatenates.waiting_for(upload.id):
                try:
                    await self._drive(final)
                except TusError as error:
                    # The partial is complete all the same; the next request to the final, or the sweep, tries again.
                    log.warning("UploadNotAssembled id=%s reason=%s", final, error.message)

    async def _drive(self, upload_id: UploadId, wish: Wish | None = Wish.WHEN_STALLED) -> Upload:
        """Take every step that is due and not done: repair, assemble, finish. May be repeated at any time."""
        async with self._locker.hold(upload_id, _soon, wish=wish):
            upload = await self._store.read(upload_id)
            if upload.is_available:
                return upload
            if upload.is_final and not await self._assemble(upload):
                return upload
            stored = await self._store.open(upload_id)
            try:
                if stored.upload.has_all_bytes:
                    await stored.finish()
                upload = stored.upload
            finally:
                await stored.close()
        if upload.is_available:
            await self._finished(upload)
        return upload

    async def _drive_asked(self, upload: Upload) -> Upload:
        """Drive on for somebody who only asked. If that cannot be now, the last settled state is true as well, but for
        an upload that would look complete and is not."""
        try:
            return await self._drive(upload.id, Wish.IF_STALLED)
        except BackendError:
            if upload.has_all_bytes or upload.is_final:
                raise
        except RequestError as error:
            if error.status != upload_locked().status:
                raise
        return upload

    async def _assemble(self, final: Upload) -> bool:
        if self._can.concatenates is None:
            return False
        lengths: dict[UploadId, int] = {}
        try:
            for partial in dict.fromkeys(final.partials):
                found = await self._store.read(partial)
                if not found.is_available:
                    return False
                lengths[partial] = found.offset
            self._rules.check_size(sum(lengths[partial] for partial in final.partials))
            await self._can.concatenates.concatenate(final.id, final.partials)
        except RequestError as error:
            if error.status == upload_not_found().status:  # a partial is gone, so nothing can come of the final
                await self._remove(final.id)
            raise
        return True

    async def _with_length(self, upload: Upload) -> Upload:
        """A final's length, as soon as it can be computed (tus N9)."""
        if upload.length is not None or not upload.is_final:
            return upload
        return replace(upload, length=total_length([await self._read_partial(each) for each in upload.partials]))

    async def _remove(self, upload_id: UploadId) -> None:
        if self._can.terminates is not None:
            await self._can.terminates.terminate(upload_id)

    async def _sweep_one(self, upload: Upload) -> int:
        now = time.time()
        if upload.is_expired(now):
            async with self._locker.hold(upload.id, _soon, wish=None):
                if (await self._read_alive(upload.id)).is_expired(now):
                    await self._remove(upload.id)
                    log.info("UploadExpired id=%s", upload.id)
                    return 1
        elif upload.is_due:
            await self._drive(upload.id, wish=None)
        return 0

    # Checks.

    def _refuse_when_stopping(self) -> None:
        if self._is_stopping:
            raise server_shutdown()

    def _refuse_unless_concatenating(self) -> Concatenates:
        if self._can.concatenates is None or not self.offers.concatenation:
            raise RequestError("uploads cannot be concatenated here", code="ERR_CONCATENATION_UNSUPPORTED")
        return self._can.concatenates

    async def _read(self, upload_id: UploadId) -> Upload:
        upload = await self._read_alive(upload_id)
        refuse_expired(upload)
        return upload

    async def _read_alive(self, upload_id: UploadId) -> Upload:
        """A final that waits lives as long as one of its partials is being written."""
        upload = await self._store.read(upload_id)
        if not upload.is_expired(time.time()):
            return upload
        for partial in dict.fromkeys(upload.partials):
            with suppress(RequestError):
                touched_at = (await self._store.read(partial)).touched_at
                upload = replace(upload, touched_at=max(upload.touched_at, touched_at))
        return upload

    async def _named_partials(self, command: Concatenate) -> list[Upload]:
        """What the client named, each read once."""
        with as_bad_partials():
            found = {each: await self._read_partial(each) for each in dict.fromkeys(command.partials)}
        return [found[each] for each in command.partials]

    async def _read_partial(self, upload_id: UploadId) -> Upload:
        upload = await self._read(upload_id)
        if not upload.is_partial:  # tus N12
            raise RequestError(f"{upload_id} is not a partial upload", code="ERR_INVALID_CONCAT")
        return upload

    def _new_upload(self, command: Create) -> Upload:
        return Upload(
            id=new_id(),
            length=command.length,
            metadata=command.metadata,
            is_partial=command.is_partial,
            concat=command.concat,
            created_at=time.time(),
            expire_after_seconds=self._rules.expire_after_seconds,
        )

    def _log_finished(self, upload: Upload) -> None:
        if upload.is_available:
            log.info("UploadFinished id=%s size=%s", upload.id, upload.length)
