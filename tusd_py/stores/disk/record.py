"""The content of `<id>.info`: tusd's JSON fields, and ours under "TusdPy". Pure: text to record and back.

The offset is not simply a number in the record (promise 2): `Record.offset` derives it from what is stored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Self

from tusd_py.core.upload import Metadata, State, Upload, UploadId, parse_id


@dataclass(frozen=True, slots=True)
class Record:
    """An upload as recorded. `upload.offset` is the committed offset: bytes known to be on the disk.

    `boot` names the boot of the machine in which bytes after the committed ones were written: they survive a crash of
    the server, so in the same boot the file's size tells the offset; after a reboot only the committed ones count.
    None trusts the size always. `is_unverified`: bytes after the committed ones await their checksum, so they do not
    count (promise 6). `data_path` is where tusd was told to put the bytes, if not beside the record. `is_foreign`:
    tusd wrote the record, which knows no state.
    """

    upload: Upload
    boot: str | None = None
    is_unverified: bool = False
    data_path: str | None = None
    is_foreign: bool = False

    def seen(self, size: int) -> Self:
        """The record beside a file of `size` bytes: an upload of tusd is available when its file is long enough."""
        if not self.is_foreign or size != self.upload.length:
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
            },
        }
        return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")

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
        upload = replace(
            _foreign_upload(data),
            offset=int(data["Offset"]),
            state=State(ours["State"]),
            metadata=Metadata(ours["Metadata"], data["MetaData"]),
            concat=ours["Concat"],
            created_at=float(ours["CreatedAt"]),
            expire_after_seconds=ours["ExpireAfterSeconds"],
        )
        return cls(upload, ours["Boot"], bool(ours["IsUnverified"]), _data_path(data))


def _foreign_upload(data: dict[str, Any]) -> Upload:
    """An upload that tusd recorded: it keeps no offset and no state, the file tells both."""
    upload_id = parse_id(data["ID"])
    if upload_id is None:
        raise ValueError(f"not an upload id: {data['ID']!r}")
    partials = tuple(UploadId(partial) for partial in data.get("PartialUploads") or () if parse_id(partial))
    concat = None
    if data.get("IsPartial"):
        concat = "partial"
    elif partials:
        concat = "final;" + " ".join(partials)
    return Upload(
        id=upload_id,
        length=None if data.get("SizeIsDeferred") else int(data["Size"]),
        metadata=Metadata.of(data.get("MetaData") or {}),
        state=State.ASSEMBLING if partials else State.RECEIVING,
        is_partial=bool(data.get("IsPartial")),
        concat=concat,
        partials=partials,
    )


def _data_path(data: dict[str, Any]) -> str | None:
    """Only a place that is not the usual one matters: the directory may have moved since tusd wrote it down."""
    path = (data.get("Storage") or {}).get("Path") or ""
    return path if path and path.rpartition("/")[2] != data["ID"] else None
