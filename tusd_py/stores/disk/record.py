"""The content of `<id>.info`, in the form of `stores.fileinfo`. Pure: text to record and back.

The offset is not simply a number in the record (promise 2): `Record.offset` derives it from what is stored.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Self

from tusd_py.core.upload import State, Upload, UploadId
from tusd_py.stores import fileinfo
from tusd_py.stores.fileinfo import FileInfo

_LONGEST_CACHED_BYTES = 4096
"""So that a cache of records stays small, whatever metadata clients send."""


@dataclass(frozen=True, slots=True)
class Record:
    """An upload as recorded. `upload.offset` is the committed offset: bytes known to be on the disk.

    `boot` names the boot of the machine in which bytes after the committed ones were written: they survive a crash of
    the server, so in the same boot the file's size tells the offset; after a reboot only the committed ones count.
    None trusts the size always. `is_unverified`: bytes after the committed ones await their checksum, so they do not
    count (promise 6). `upload.place` is a path, absolute or below the directory. `is_foreign`:
    tusd wrote the record, which knows no state. `finishes_by_size`: wherever the size is to be trusted, a file that has
    the upload's length makes it available, and nothing is written at its end.
    """

    upload: Upload
    boot: str | None = None
    is_unverified: bool = False
    is_foreign: bool = False
    finishes_by_size: bool = False

    def is_finished_at(self, size: int) -> bool:
        """Whether a file of `size` bytes says by itself that the upload is available."""
        if size != self.upload.length:
            return False
        return self.is_foreign or (self.finishes_by_size and self.boot is None and not self.is_unverified)

    def seen(self, size: int) -> Self:
        """The record beside a file of `size` bytes."""
        if self.upload.is_available or not self.is_finished_at(size):
            return self
        return replace(self, upload=replace(self.upload, offset=size, state=State.AVAILABLE))

    def offset(self, size: int, boot: str) -> int:
        """The bytes that count in a file of `size` bytes. May be less than committed: then bytes were lost."""
        upload = self.upload
        is_size_true = self.boot in (None, boot) and not self.is_unverified
        if upload.is_available or upload.is_final or not is_size_true:
            return min(size, upload.offset)
        return size if upload.length is None else min(size, upload.length)

    def committed(self, offset: int, boot: str | None) -> Self:
        """The record once `offset` bytes are on the disk."""
        upload = replace(self.upload, offset=offset)
        return replace(self, upload=upload, boot=boot, is_unverified=False, is_foreign=False)

    def encode(self, directory: str) -> bytes:
        upload_id = self.upload.id
        storage = {
            "Type": "filestore",
            "Path": os.path.join(directory, self.upload.place or upload_id),
            "InfoPath": f"{directory}/{upload_id}.info",
        }
        ours = {"Boot": self.boot, "IsUnverified": self.is_unverified, "FinishesBySize": self.finishes_by_size}
        if self.upload.place is not None:
            ours["Place"] = self.upload.place
        return fileinfo.encode(self.upload, storage, ours)

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """Raises ValueError for what is not a record."""
        info = fileinfo.decode(text)
        place = (info.ours or {}).get("Place") or _data_path(info)
        upload = info.upload if place is None else replace(info.upload, place=place)
        if info.ours is None:
            return cls(upload, is_foreign=True)
        try:
            boot, is_unverified = info.ours["Boot"], bool(info.ours["IsUnverified"])
        except KeyError as error:
            raise ValueError(f"not a record of a file: {error!r}") from error
        by_size = bool(info.ours.get("FinishesBySize"))
        return cls(upload, boot, is_unverified, finishes_by_size=by_size)


class RecordCache:
    """Records lately read or written, with their texts: while the text is the same, it need not be decoded again.

    Any thread may use it: what two threads do at once costs an entry at most.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._generation = capacity // 2
        self._young: dict[UploadId, tuple[bytes, Record]] = {}
        self._old: dict[UploadId, tuple[bytes, Record]] = {}

    def get(self, upload_id: UploadId, text: bytes) -> Record | None:
        """The record that `text` is, or None if that is not known."""
        entry = self._young.get(upload_id) or self._old.get(upload_id)
        return entry[1] if entry is not None and entry[0] == text else None

    def keep(self, text: bytes, record: Record) -> None:
        """`record` is what `text` decodes to; long ones are not kept."""
        if len(text) > _LONGEST_CACHED_BYTES:
            return
        if len(self._young) >= self._generation:
            self._young, self._old = {}, self._young
        self._young[record.upload.id] = (text, record)


def _data_path(info: FileInfo) -> str | None:
    """Only a place that is not the usual one matters: the directory may have moved since tusd wrote it down."""
    path = info.storage.get("Path") or ""
    return path if path and path.rpartition("/")[2] != info.upload.id else None
