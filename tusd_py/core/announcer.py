"""What happens to uploads, told to all who want to know: the log, who counts, who watches, and hooks.

Hooks may also be asked, and have a say; that is here, too. In which order things happen is left to `uploads`, `upkeep`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tusd_py.core.body import Body
from tusd_py.core.events import NO_HOOKS, AccessMode, Caller, EventType, Hooks
from tusd_py.core.feed import Feed
from tusd_py.core.observer import NOBODY, Observer
from tusd_py.core.ports import StoredUpload
from tusd_py.core.upload import Upload, UploadId
from tusd_py.errors import Interrupted
from tusd_py.logs import event

log = logging.getLogger("tusd_py.uploads")

_KEPT_SECONDS = 7 * 24 * 3600.0


class Announcer:
    """One for each process. Nothing here waits for anybody but hooks, and for those only if there are any."""

    def __init__(self, observer: Observer = NOBODY, feed: Feed | None = None, hooks: Hooks = NO_HOOKS) -> None:
        self.observer = observer
        self.feed = feed or Feed()
        self._hooks = hooks

    # Asked before something is done. Raises Refused, or HookFailed.

    @property
    def asks_access(self) -> bool:
        return self._hooks.wants(EventType.PRE_ACCESS)

    async def ask_access(self, mode: AccessMode, upload: Upload | None, caller: Caller) -> None:
        if self.asks_access:
            await self._hooks.ask(EventType.PRE_ACCESS, upload, caller, mode)

    async def ask_create(self, upload: Upload, caller: Caller) -> Upload:
        """The upload as hooks want it to be made."""
        if not self._hooks.wants(EventType.PRE_CREATE):
            return upload
        return await self._hooks.ask(EventType.PRE_CREATE, upload, caller) or upload

    @property
    def asks_finish(self) -> bool:
        return self._hooks.wants(EventType.PRE_FINISH)

    async def ask_finish(self, upload: Upload, caller: Caller) -> None:
        if self.asks_finish:
            await self._hooks.ask(EventType.PRE_FINISH, upload, caller)

    async def ask_terminate(self, upload: Upload, caller: Caller) -> None:
        if self._hooks.wants(EventType.PRE_TERMINATE):
            await self._hooks.ask(EventType.PRE_TERMINATE, upload, caller)

    # Told of what was done.

    async def created(self, upload: Upload, caller: Caller) -> None:
        event(log, "UploadCreated", id=upload.id, size=upload.length, partials=len(upload.partials) or None)
        self.observer.upload_created()
        self.feed.changed(upload)
        if self._hooks.wants(EventType.POST_CREATE):
            await self._hooks.tell(EventType.POST_CREATE, upload, caller)

    async def finished(self, upload: Upload, caller: Caller) -> None:
        event(log, "UploadFinished", id=upload.id, size=upload.length, digest=upload.digest)
        self.observer.upload_finished()
        self.feed.changed(upload)
        if self.owes_finish:
            await self._hooks.tell(EventType.POST_FINISH, upload, caller)

    @property
    def owes_finish(self) -> bool:
        """Whether hooks are to hear of what is finished, so that it must not be forgotten before they have."""
        return self._hooks.wants(EventType.POST_FINISH)

    async def remind(self, uploads: Sequence[Upload]) -> set[UploadId]:
        """Tell of finished uploads again; which of them are owed nothing.

        Where no hook wants to hear of them, and some did, they are kept for days: it may be missing by mistake.
        """
        if self.owes_finish:
            return await self._hooks.remind(uploads)
        since = time.time() - _KEPT_SECONDS
        kept = {upload.id for upload in uploads if upload.is_heard and upload.touched_at > since}
        if kept:
            advice = "hooks were to hear of these, and there are none for post-finish: start with them"
            event(log, "NobodyToTell", level=logging.WARNING, uploads=len(kept), advice=advice)
        return {upload.id for upload in uploads} - kept

    async def goes(self, upload: Upload, caller: Caller) -> None:
        """An upload is about to be removed, for good: its lock is held. Afterwards nobody could tell of it any more, so
        it is told before."""
        if self._hooks.wants(EventType.POST_FINISH) or self._hooks.wants(EventType.POST_CREATE):
            await self._hooks.forget(upload.id)
        if self._hooks.wants(EventType.POST_TERMINATE):
            await self._hooks.tell(EventType.POST_TERMINATE, upload, caller)

    def terminated(self, upload: Upload) -> None:
        event(log, "UploadTerminated", id=upload.id)
        self.observer.upload_terminated()
        self.feed.removed(upload.id, "terminated")

    def stopped(self, upload: Upload) -> None:
        event(log, "UploadStopped", id=upload.id, offset=upload.offset)
        self.observer.upload_terminated()
        self.feed.removed(upload.id, "stopped")

    def expired(self, upload: Upload) -> None:
        event(log, "UploadExpired", id=upload.id)
        self.observer.upload_expired()
        self.feed.removed(upload.id, "expired")

    def never_was(self, upload_id: UploadId) -> None:
        """Its creation failed, and nobody was told of it but those who watch all."""
        self.feed.removed(upload_id, "unknown")

    # Told of what goes on.

    @contextmanager
    def receiving(self, stored: StoredUpload, body: Body, caller: Caller) -> Iterator[None]:
        """While the context is open, bytes of an upload may come."""
        began_at = time.monotonic()
        self.observer.body_started()
        self.feed.body_begins(stored, body)
        body.tell = self.observer.bytes_received
        try:
            if self._hooks.wants(EventType.POST_RECEIVE):
                with self._hooks.watch(stored, body, caller):
                    yield
            else:
                yield
        finally:
            seconds = time.monotonic() - began_at
            self.feed.body_ended(stored, body)
            self.observer.body_ended(body.client_seconds, seconds - body.client_seconds)
            if isinstance(body.error, Interrupted):
                self.observer.interrupted(body.error.code)

    def interrupted(self, upload: Upload, code: str) -> None:
        event(log, "UploadInterrupted", id=upload.id, offset=upload.offset, reason=code)
