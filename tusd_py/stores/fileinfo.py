"""tusd's FileInfo: the JSON in which both servers record an upload, with what only ours knows under "TusdPy". Pure.

What a store adds of its own to either part, and what the record means beside the bytes, is left to the store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tusd_py.core.upload import Metadata, State, Upload, UploadId, parse_given_id

_TO_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class FileInfo:
    """`storage` and `ours` are as they were written; `ours` None: tusd wrote it, which knows no state and no times.
    `multipart` is what tusd's ids have behind a plus sign, in S3: the id of a multipart upload."""

    upload: Upload
    storage: Mapping[str, Any]
    ours: Mapping[str, Any] | None
    multipart: str = ""


def encode(upload: Upload, storage: Mapping[str, Any], ours: Mapping[str, Any]) -> bytes:
    data = {
        "ID": upload.id,
        "Size": upload.length or 0,
        "SizeIsDeferred": upload.length is None,
        "Offset": upload.offset,
        "MetaData": dict(upload.metadata.values),
        "IsPartial": upload.is_partial,
        "IsFinal": upload.is_final,
        "PartialUploads": list(upload.partials) or None,
        "Storage": storage,
        "TusdPy": {
            "Version": 1,
            "State": upload.state,
            "Metadata": upload.metadata.raw,
            "Concat": upload.concat,
            "CreatedAt": upload.created_at,
            "ExpireAfterSeconds": upload.expire_after_seconds,
            **({"Digest": upload.digest} if upload.digest is not None else {}),
            **({"IsNamed": True} if upload.is_named else {}),
            **({"IsHeard": True} if upload.is_heard else {}),
            **ours,
        },
    }
    return _TO_JSON.encode(data).encode("utf-8", "surrogateescape")


def decode(text: bytes) -> FileInfo:
    """Raises ValueError for what is not a record."""
    try:
        data = json.loads(text)
        ours = data.get("TusdPy")
        upload = _foreign_upload(data) if ours is None else _upload(data, ours)
        return FileInfo(upload, data.get("Storage") or {}, ours, data["ID"].partition("+")[2])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record: {error!r}") from error


def _upload(data: dict[str, Any], ours: dict[str, Any]) -> Upload:
    return Upload(
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
        digest=ours.get("Digest"),
        is_named=bool(ours.get("IsNamed")),
        is_heard=bool(ours.get("IsHeard")),
    )


def _foreign_upload(data: dict[str, Any]) -> Upload:
    """An upload that tusd recorded: it keeps no offset and no state, the bytes tell both."""
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
    upload_id = parse_given_id(data["ID"])
    if upload_id is None:
        raise ValueError(f"not an upload id: {data['ID']!r}")
    return upload_id


def _length(data: dict[str, Any]) -> int | None:
    return None if data.get("SizeIsDeferred") else int(data["Size"])


def _partials(data: dict[str, Any]) -> tuple[UploadId, ...]:
    ids = (parse_given_id(partial) for partial in data.get("PartialUploads") or ())
    return tuple(each for each in ids if each is not None)
