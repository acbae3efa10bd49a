"""What keeps uploads as they should be, whoever asks: read them, drive on what waits, remove what expired.

Every step here may be repeated, and is, after a crash: by the next request to the upload, or by the sweep. What
requests want of uploads is `uploads`.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import replace

import anyio

from tusd_py.core.announcer import Announcer
from tusd_py.core.body import Wish
from tusd_py.core.digest import Digests
from tusd_py.core.events import NO_CALLER, Caller
from tusd_py.core.ports import Capabilities, Expires, Locker, Store, StoredUpload
from tusd_py.core.rules import Rules, refuse_expired, total_length
from tusd_py.core.upload import Upload, UploadId
from tusd_py.errors import (
    BackendError,
    HookFailed,
    Refused,
    RequestError,
    TusError,
    upload_locked,
    upload_not_found,
)
from tusd_py.logs import event

log = logging.getLogger("tusd_py.uploads")

_READ_AT_ONCE = 16
_REMIND_AT_ONCE = 500


async def soon(_wish: Wish) -> bool:
    """The answer of a holder that waits for no client: it lets go when its work is done, and that is not long.

    So who asks for the offset while another request repairs the upload gets the repaired one.
    """
    return True


class Upkeep:
    """Over one store and locker, for all requests of a process and its sweep."""

    def __init__(
        self,
        store: Store,
        locker: Locker,
        rules: Rules,
        can: Capabilities,
        announcer: Announcer,
        digests: Digests,
    ) -> None:
        self._store = store
        self._locker = locker
        self._rules = rules
        self._can = can
        self._announcer = announcer
        self._digests = digests

    async def read(self, upload_id: UploadId) -> Upload:
        """As last settled. Raises upload_not_found(), or 410 for an expired one."""
        upload = await self.read_alive(upload_id)
        refuse_expired(upload)
        return upload

    async def read_alive(self, upload_id: UploadId) -> Upload:
        """A final that waits lives as long as one of its partials is being written."""
        upload = await self._store.read(upload_id)
        if not upload.is_expired(time.time()):
            return upload
        for partial in dict.fromkeys(upload.partials):
            with suppress(RequestError):
                touched_at = (await self._store.read(partial)).touched_at
                upload = replace(upload, touched_at=max(upload.touched_at, touched_at))
        return upload

    async def read_partial(self, upload_id: UploadId) -> Upload:
        """An upload that a final may be made of."""
        upload = await self.read(upload_id)
        if not upload.is_partial:  # tus N12
            raise RequestError(f"{upload_id} is not a partial upload", code="ERR_INVALID_CONCAT")
        return upload

    async def with_length(self, upload: Upload) -> Upload:
        """A final's length, as soon as it can be computed (tus N9)."""
        if upload.length is not None or not upload.is_final:
            return upload
        return replace(upload, length=total_length([await self.read_partial(each) for each in upload.partials]))

    async def drive(
        self, upload_id: UploadId, wish: Wish | None = Wish.WHEN_STALLED, caller: Caller = NO_CALLER
    ) -> Upload:
        """Take every step that is due and not done: repair, assemble, finish. May be repeated at any time."""
        async with self._locker.hold(upload_id, soon, wish=wish):
            upload = await self._store.read(upload_id)
            if upload.is_available:
                return upload
            if upload.is_final and not await self._assemble(upload):
                return upload
            stored = await self._store.open(upload_id)
            try:
                if stored.upload.has_all_bytes:
                    await self.finish(stored, caller)
                upload = stored.upload
            finally:
                await stored.close()
        if upload.is_available:
            await self.finished(upload, caller)
        return upload

    async def finish(self, stored: StoredUpload, caller: Caller) -> None:
        """Make an upload available that has all its bytes, if hooks allow it: each try asks anew (failures F31)."""
        await self._announcer.ask_finish(stored.upload, caller)
        await stored.finish(self._digests.of(stored.upload), owes=self._announcer.owes_finish)

    async def drive_when_asked(self, upload: Upload) -> Upload:
        """Drive on for somebody who only asked. If that cannot be now, the last settled state is true as well, but for
        an upload that would look complete and is not."""
        try:
            return await self.drive(upload.id, Wish.IF_STALLED)
        except (HookFailed, Refused):
            return await self.read(upload.id)  # it waits for another try, with all its bytes
        except BackendError:
            if upload.has_all_bytes or upload.is_final:
                raise
        except RequestError as error:
            if error.status != upload_locked().status:
                raise
        return upload

    async def finished(self, upload: Upload, caller: Caller) -> None:
        """Say so, and drive on the finals that waited for it."""
        await self._announcer.finished(upload, caller)
        if upload.is_partial and self._can.concatenates is not None:
            for final in await self._can.concatenates.waiting_for(upload.id):
                try:
                    await self.drive(final)
                except TusError as error:
                    # The partial is complete all the same; the next request to the final, or the sweep, tries again.
                    event(log, "UploadNotAssembled", level=logging.WARNING, id=final, reason=error.message)

    async def end(self, upload: Upload, caller: Caller) -> bool:
        """Remove an upload that its client or a hook ends, or that expired; whether there was something to remove. The
        caller holds the lock and nothing is open."""
        await self._announcer.goes(upload, caller)
        return await self.remove(upload.id)

    async def remove(self, upload_id: UploadId) -> bool:
        """Whether there was something to remove. The caller holds the lock and nothing is open."""
        return self._can.terminates is not None and await self._can.terminates.terminate(upload_id)

    async def page(self, cursor: str, count: int) -> tuple[list[Upload], str]:
        """About `count` of all uploads, read, and the cursor for what follows."""
        if self._can.lists is None:
            raise RequestError("uploads cannot be listed here", code="ERR_LISTING_UNSUPPORTED", status=501)
        ids, cursor = await self._can.lists.list_ids(cursor, count)
        found: dict[UploadId, Upload] = {}

        async def read(upload_id: UploadId) -> None:
            try:
                found[upload_id] = await self.read(upload_id)
            except RequestError:
                return  # gone meanwhile, or expired
            except BackendError as error:  # one record must not keep the others
                event(log, "UploadNotListed", level=logging.WARNING, id=upload_id, reason=error.message)

        for start in range(0, len(ids), _READ_AT_ONCE):
            async with anyio.create_task_group() as tasks:
                for each in ids[start : start + _READ_AT_ONCE]:
                    tasks.start_soon(read, each)
        return [found[each] for each in ids if each in found], cursor

    async def is_sweep_due(self, interval_seconds: float) -> bool:
        return self._can.expires is not None and await self._can.expires.is_sweep_due(interval_seconds)

    async def sweep(self) -> int:
        """Remove expired uploads and leftovers, and drive on what waits; returns how many things went.

        Costs in proportion to what is unfinished. Never touches what is held or finished (failures F27).
        """
        if self._can.expires is None:
            return 0
        removed = 0
        owing: list[Upload] = []
        async for upload in self._can.expires.unfinished():
            try:
                if upload.is_available:
                    owing.append(upload)
                else:
                    removed += await self._sweep_one(upload)
                if len(owing) >= _REMIND_AT_ONCE:
                    await self._remind(self._can.expires, owing)
            except TusError as error:
                if error.status != upload_locked().status:
                    event(log, "SweepSkipped", level=logging.WARNING, id=upload.id, reason=error.message)
        await self._remind(self._can.expires, owing)
        return removed + await self._can.expires.sweep_leftovers(
            lambda upload_id: self._locker.hold(upload_id, soon, wish=None)
        )

    async def _remind(self, expires: Expires, owing: list[Upload]) -> None:
        """Hooks may not have heard of these, or nobody has noted that they did (failures F30)."""
        try:
            for upload_id in await self._announcer.remind(owing) if owing else ():
                await expires.settle(upload_id)
        except BackendError as error:
            event(log, "SweepSkipped", level=logging.WARNING, owing=len(owing), reason=error.message)
        owing.clear()

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
                await self.remove(final.id)
            raise
        return True

    async def _sweep_one(self, upload: Upload) -> int:
        now = time.time()
        if upload.is_expired(now):
            async with self._locker.hold(upload.id, soon, wish=None):
                upload = await self.read_alive(upload.id)
                if upload.is_expired(now):
                    await self.end(upload, NO_CALLER)
                    self._announcer.expired(upload)
                    return 1
        elif upload.is_due:
            await self.drive(upload.id, wish=None)
        return 0
