"""What needs attention: which uploads are unfinished, or finished while hooks are owed something about them, and which
final uploads wait for which partials.

So looking for those never reads the others. A mark that is no longer true costs a look, and goes then.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress

from tusd_py.core.upload import Upload, UploadId, parse_id
from tusd_py.stores.disk.descriptors import remove, sync_directory
from tusd_py.stores.disk.journal import Journal


class Marks:
    """The marks in the folder `work`.

    A new upload is noted in the journal. The id of a final, or one that a hook chose, may come again, so it has a file
    of its own instead: what a journal says of an id it says for ever. (Other versions made files for others too.)
    """

    def __init__(
        self, work: str, journal: Journal, *, is_durable: bool, dir_permissions: int, file_permissions: int
    ) -> None:
        self._unfinished = f"{work}/unfinished"
        self._waiting = f"{work}/waiting"
        self._journal = journal
        self._is_durable = is_durable
        self._dir_permissions = dir_permissions
        self._file_permissions = file_permissions

    @property
    def folders(self) -> tuple[str, ...]:
        return self._unfinished, self._waiting, self._journal.folder

    def refuse_if_unmounted(self) -> None:
        """A directory that is gone, or a mount point with nothing mounted, is a failure and no 404 for everybody."""
        if not os.path.isdir(self._unfinished):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._unfinished)

    # Unfinished uploads.

    def note(self, upload_id: UploadId) -> None:
        """An upload whose id never was before is about to be made."""
        self._journal.add(upload_id)

    def sync_notes(self) -> None:
        """Bring what was noted to the disk."""
        self._journal.sync()

    def mark(self, upload_id: UploadId) -> None:
        """Not synced by itself: it is kept with the record that is synced next, and without it nothing is lost, only an
        expired upload stays."""
        flags = os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC
        os.close(os.open(f"{self._unfinished}/{upload_id}", flags, self._file_permissions))

    def finish(self, upload: Upload, *, owes: bool) -> None:
        for partial in dict.fromkeys(upload.partials):
            self.unmark_waiting(partial, upload.id)
        if owes:
            return
        if upload.may_come_again:
            remove(f"{self._unfinished}/{upload.id}")
        else:
            self._journal.drop(upload.id)

    def clear(self, upload_id: UploadId) -> None:
        """It is gone, or nothing is left to do about it, however it was marked."""
        self._journal.drop(upload_id)
        remove(f"{self._unfinished}/{upload_id}")

    def unfinished(self) -> list[UploadId]:
        return [*self._journal.unfinished().union(_ids(self._unfinished))]

    def tidy(self) -> None:
        self._journal.tidy()

    def close(self) -> None:
        self._journal.close()

    # Waiting finals.

    def mark_waiting(self, partials: Iterable[UploadId], final: UploadId) -> None:
        for partial in partials:
            self._mark_waiting(partial, final)
        if self._is_durable:
            sync_directory(self._waiting)

    def _mark_waiting(self, partial: UploadId, final: UploadId) -> None:
        folder = f"{self._waiting}/{partial}"
        flags = os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC
        while True:
            os.makedirs(folder, self._dir_permissions, exist_ok=True)
            try:
                os.close(os.open(f"{folder}/{final}", flags, self._file_permissions))
                break
            except FileNotFoundError:
                self.refuse_if_unmounted()  # else somebody removed the empty folder in between
        if self._is_durable:
            sync_directory(folder)

    def unmark_waiting(self, partial: UploadId, final: UploadId) -> None:
        remove(f"{self._waiting}/{partial}/{final}")
        self.remove_empty_waiting(partial)

    def remove_empty_waiting(self, partial: UploadId) -> None:
        with suppress(OSError):
            os.rmdir(f"{self._waiting}/{partial}")

    def waiting_for(self, partial: UploadId) -> list[UploadId]:
        return _ids(f"{self._waiting}/{partial}")

    def waited_for(self) -> list[UploadId]:
        """The partials that finals wait for."""
        return _ids(self._waiting)


def _ids(folder: str) -> list[UploadId]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [upload_id for upload_id in map(parse_id, names) if upload_id is not None]
