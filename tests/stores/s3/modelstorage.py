"""A bucket in memory that does what S3 says it does: one call at a time, each at one moment, and what was written is
read.

Complete takes effect at one moment, too. The storage is an honest one, yet the poorest: where `has_sums` is False it
compares no checksums, so nothing but the protocol keeps bytes apart.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from modelloop import Process

from tusd_py.stores.s3 import crc
from tusd_py.stores.s3.client import S3Error
from tusd_py.stores.s3.wire import Answer

MIN_PART_BYTES = 4
NOW = 1_000_000_000.0

Response = dict[str, Any]


@dataclass(eq=False, slots=True)
class Request:
    """One call to the storage, or to the locks, on its way. `is_orphan`: nobody waits for its answer any more."""

    process: Process
    number: int
    operation: str
    key: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    future: asyncio.Future[Any] | None = None
    is_orphan: bool = False

    @property
    def name(self) -> str:
        return f"{self.process.name}{self.number}"

    @property
    def is_change(self) -> bool:
        return self.operation in CHANGES

    @property
    def is_conditional(self) -> bool:
        return any(name.startswith("if-") for name in self.headers)


@dataclass(frozen=True, slots=True)
class Stored:
    """An object; `fields` are the headers it was put with."""

    body: bytes
    etag: str
    fields: Mapping[str, str]


@dataclass(slots=True)
class Multipart:
    key: str
    fields: Mapping[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)


class SimulatedStorage:
    """`objects` by key, `multiparts` by id; `changes` counts the calls that may have changed something."""

    def __init__(self, *, has_sums: bool = False) -> None:
        self.objects: dict[str, Stored] = {}
        self.multiparts: dict[str, Multipart] = {}
        self.changes = 0
        self._has_sums = has_sums

    def fingerprint(self) -> int:
        """Equal where everything is."""
        objects = sorted((key, each.etag) for key, each in self.objects.items())
        parts = sorted((name, *sorted(each.parts.items())) for name, each in self.multiparts.items())
        return hash((tuple(objects), tuple(parts)))

    def carry_out(self, request: Request) -> Any:
        """What is answered. Raises S3Error."""
        self.changes += request.is_change
        return OPERATIONS[request.operation](self, request)

    # Objects.

    def put_object(self, request: Request) -> Answer:
        found = self.objects.get(request.key)
        if request.headers.get("if-none-match") == "*" and found is not None:
            raise _refusal(request, 412, "PreconditionFailed")
        if (etag := request.headers.get("if-match")) is not None:
            if found is None:
                raise _refusal(request, 404, "NoSuchKey")
            if found.etag != etag:
                raise _refusal(request, 412, "PreconditionFailed")
        self._compare(request, request.headers.get(crc.HEADER), request.body)
        stored = self.objects[request.key] = Stored(request.body, _etag(request.body), request.headers)
        return Answer(200, {"etag": stored.etag})

    def get_object(self, request: Request) -> Answer:
        found = self._found(request)
        size = len(found.body)
        start, end = 0, size
        if (asked := request.headers.get("range")) is not None:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1, size)
            if start >= size:
                raise _refusal(request, 416, "InvalidRange")
        headers = {"etag": found.etag, "content-range": f"bytes {start}-{end - 1}/{size}"}
        return Answer(206 if asked else 200, headers, found.body[start:end])

    def head_object(self, request: Request) -> Answer:
        found = self._found(request)
        headers = {**found.fields, "etag": found.etag, "content-length": str(len(found.body))}
        headers.pop(crc.HEADER, None)
        if self._has_sums:
            headers[crc.HEADER] = _sum(found.body)
        return Answer(200, headers)

    def delete_object(self, request: Request) -> Answer:
        self.objects.pop(request.key, None)
        return Answer(204)

    def list_objects(self, request: Request) -> Response:
        prefix, after = request.arguments["Prefix"], request.arguments.get("StartAfter", "")
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        entries = [{"Key": key, "Size": len(self.objects[key].body), "LastModified": _AT} for key in keys]
        return {"Contents": entries, "IsTruncated": False}

    # Multipart uploads.

    def begin(self, request: Request) -> Response:
        metadata = request.arguments.get("Metadata", {})
        fields = {f"x-amz-meta-{name}": value for name, value in metadata.items()}
        self.multiparts[f"m-{request.name}"] = Multipart(request.key, fields)
        return {"UploadId": f"m-{request.name}"}

    def put_part(self, request: Request) -> Answer:
        self._compare(request, request.headers.get(crc.HEADER), request.body)
        self._multipart(request, "uploadId").parts[int(request.arguments["partNumber"])] = request.body
        return Answer(200, {"etag": _etag(request.body)})

    def list_parts(self, request: Request) -> Response:
        parts = sorted(self._multipart(request, "UploadId").parts.items())
        entries = [{"PartNumber": number, "ETag": _etag(body), "Size": len(body)} for number, body in parts]
        if self._has_sums:
            entries = [{**entry, crc.FIELD: _sum(body)} for entry, (_, body) in zip(entries, parts, strict=True)]
        return {"Parts": entries, "IsTruncated": False}

    def complete(self, request: Request) -> Response:
        multipart = self._multipart(request, "UploadId")
        named = request.arguments["MultipartUpload"]["Parts"]
        numbers = [part["PartNumber"] for part in named]
        if numbers != sorted(set(numbers)):
            raise _refusal(request, 400, "InvalidPartOrder")
        bodies = [multipart.parts.get(number) for number in numbers]
        if any(body is None or _etag(body) != part["ETag"] for body, part in zip(bodies, named, strict=True)):
            raise _refusal(request, 400, "InvalidPart")
        pieces = [body for body in bodies if body is not None]
        if any(len(piece) < MIN_PART_BYTES for piece in pieces[:-1]):
            raise _refusal(request, 400, "EntityTooSmall")
        body = b"".join(pieces)
        self._compare(request, request.arguments.get(crc.FIELD), body)
        self.objects[request.key] = Stored(body, f"{_etag(body)}-{len(pieces)}", multipart.fields)
        del self.multiparts[request.arguments["UploadId"]]
        return {crc.FIELD: _sum(body)} if self._has_sums else {}

    def abort(self, request: Request) -> Response:
        self._multipart(request, "UploadId")
        del self.multiparts[request.arguments["UploadId"]]
        return {}

    def list_multiparts(self, request: Request) -> Response:
        prefix = request.arguments["Prefix"]
        found = sorted((each.key, name) for name, each in self.multiparts.items() if each.key.startswith(prefix))
        uploads = [{"Key": key, "UploadId": name, "Initiated": _AT} for key, name in found]
        return {"Uploads": uploads, "IsTruncated": False}

    # Steps.

    def _found(self, request: Request) -> Stored:
        found = self.objects.get(request.key)
        if found is None:
            raise _refusal(request, 404, "NoSuchKey")
        return found

    def _multipart(self, request: Request, argument: str) -> Multipart:
        found = self.multiparts.get(request.arguments[argument])
        if found is None or found.key != request.key:
            raise _refusal(request, 404, "NoSuchUpload")
        return found

    def _compare(self, request: Request, told: str | None, body: bytes) -> None:
        if self._has_sums and told is not None and told != _sum(body):
            raise _refusal(request, 400, "BadDigest")


_AT = datetime.fromtimestamp(NOW, UTC)

OPERATIONS: dict[str, Callable[[SimulatedStorage, Request], Any]] = {
    "PutObject": SimulatedStorage.put_object,
    "GetObject": SimulatedStorage.get_object,
    "HeadObject": SimulatedStorage.head_object,
    "DeleteObject": SimulatedStorage.delete_object,
    "UploadPart": SimulatedStorage.put_part,
    "list_objects_v2": SimulatedStorage.list_objects,
    "create_multipart_upload": SimulatedStorage.begin,
    "list_parts": SimulatedStorage.list_parts,
    "complete_multipart_upload": SimulatedStorage.complete,
    "abort_multipart_upload": SimulatedStorage.abort,
    "list_multipart_uploads": SimulatedStorage.list_multiparts,
}

CHANGES = {
    "PutObject", "DeleteObject", "UploadPart", "create_multipart_upload", "complete_multipart_upload",
    "abort_multipart_upload",
}  # fmt: skip


def _refusal(request: Request, status: int, code: str) -> S3Error:
    return S3Error(request.operation, status, code, "as S3 would")


def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _sum(body: bytes) -> str:
    return crc.to_text(crc.crc64(body, 0) or 0)
