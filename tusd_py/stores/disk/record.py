"""The content of `<id>.info`: tusd's JSON fields, and ours under "TusdPy". Pure: text to record and back.

The offset is not simply a number in the record (promise 2): `Record.offset` derives it from what is stored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Self

from tusd_py.core.upload import Metadata, State, Upload, UploadId, parse_id

_TO_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

_LONGEST_CACHED_BYTES = 4096
"""So that a cache of records stays small, whatever metadata clients send."""


@dataclass(frozen=True, slots=True)
class Record:
    """An upload as recorded. `upload.offset` is the committed offset: bytes known to be on the disk.

    `boot` names the boot of the machine in which bytes after the committed ones were written: they survive a crash of
    the server, so in the same boot the file's size tells the offset; after a reboot only the committed ones count.
    None trusts the size always. `is_unverified`: bytes after the committed ones await their checksum, so they do not
    count (promise 6). `data_path` is where tusd was told to put the bytes, if not beside the record. `is_foreign`:
    tusd wrote the record, which knows no state. `finishes_by_size`: wherever the size is to be trusted, a file that has
    the upload's length makes it available, and nothing is written at its end.
    """

    upload: Upload
    boot: str | None = None
    is_unverified: bool = False
    data_path: str | None = None
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
        upload = self.upload
        data = {
            "ID": upload.id,
            "Size": upload.length or 0,
            "SizeIsDeferred": upload.length is None,
            "Offset": upload.offset,
            "MetaData": dict(upload.metadata.values),
            "IsPartial": upload.is_partial,
            "IsFinal": upload.is_final,
            "PartialUploads": list(upload.partials) or None,
            "Storage": {
                "Type": "filestore",
                "Path": self.data_path or f"{directory}/{upload.id}",
                "InfoPath": f"{directory}/{upload.id}.info",
            },
            "TusdPy": {
                "Version": 1,
                "State": upload.state,
                "Metadata": upload.metadata.raw,
                "Concat": upload.concat,
                "CreatedAt": upload.created_at,
                "ExpireAfterSeconds": upload.expire_after_seconds,
                "Boot": self.boot,
                "IsUnverified": self.is_unverified,
                "FinishesBySize": self.finishes_by_size,
            },
        }
        return _TO_JSON.encode(data).encode("utf-8", "surrogateescape")

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """Raises ValueError for what is not a record."""
        try:
            data = json.loads(text)
            ours = data.get("TusdPy")
            if ours is not None:
                return cls._decode_ours(data, ours)
            return cls(_foreign_upload(data), data_path=_data_path(data), is_foreign=True)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a record: {error!r}") from error

    @classmethod
    def _decode_ours(cls, data: dict[str, Any], ours: dict[str, Any]) -> Self:
        upload = Upload(
            id=_upload_id(data),
            length=_length(data),
            metadata=Metadata(ours["Metadata"], data["MetaData"]),
            offset=int(data["Offset"]),
            state=State(ours["State"]),
            is_partial=bool(data["IsPartial"]),
            concat=ours["Concat"],
            partials=_partials(data),
            created_at=float(ours["CreatedAt"]),
            expire_after_seconds=ours["ExpireAfterSeconds"],
        )
        return cls(
            upload,
            ours["Boot"],
            bool(ours["IsUnverified"]),
            _data_path(data),
            finishes_by_size=bool(ours.get("FinishesBySize")),
        )


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


def _foreign_upload(data: dict[str, Any]) -> Upload:
    """An upload that tusd recorded: it keeps no offset and no state, the file tells both."""
    partials = _partials(data)
    concat = None
    if data.get("IsPartial"):
        concat = "partial"
    elif partials:
        concat = "final;" + " ".join(partials)
    return Upload(
        id=_upload_id(data),
        length=_length(data),
        metadata=Metadata.of(data.get("MetaData") or {}),
        state=State.ASSEMBLING if partials else State.RECEIVING,
        is_partial=bool(data.get("IsPartial")),
        concat=concat,
        partials=partials,
    )


def _upload_id(data: dict[str, Any]) -> UploadId:
    upload_id = parse_id(data["ID"])
    if upload_id is None:
        raise ValueError(f"not an upload id: {data['ID']!r}")
    return upload_id


def _length(data: dict[str, Any]) -> int | None:
    return None if data.get("SizeIsDeferred") else int(data["Size"])


def _partials(data: dict[str, Any]) -> tuple[UploadId, ...]:
    return tuple(UploadId(partial) for partial in data.get("PartialUploads") or () if parse_id(partial))


def _data_path(data: dict[str, Any]) -> str | None:
    """Only a place that is not the usual one matters: the directory may have moved since tusd wrote it down."""
    path = (data.get("Storage") or {}).get("Path") or ""
    return path if path and path.rpartition("/")[2] != data["ID"] else None
