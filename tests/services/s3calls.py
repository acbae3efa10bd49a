"""What a request to S3 is: its operation, named as in the S3 API, its bucket and its key, in path style."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

_COPY = "x-amz-copy-source"

_OF_KEYS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "GET": (
        ("uploadId", "ListParts"),
        ("tagging", "GetObjectTagging"),
        ("attributes", "GetObjectAttributes"),
        ("acl", "GetObjectAcl"),
        ("", "GetObject"),
    ),
    "HEAD": (("", "HeadObject"),),
    "PUT": (
        ("partNumber", "UploadPart"),
        ("tagging", "PutObjectTagging"),
        ("acl", "PutObjectAcl"),
        ("", "PutObject"),
    ),
    "POST": (("uploads", "CreateMultipartUpload"), ("uploadId", "CompleteMultipartUpload")),
    "DELETE": (("uploadId", "AbortMultipartUpload"), ("tagging", "DeleteObjectTagging"), ("", "DeleteObject")),
}

_OF_BUCKETS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "GET": (
        ("list-type", "ListObjectsV2"),
        ("uploads", "ListMultipartUploads"),
        ("versions", "ListObjectVersions"),
        ("location", "GetBucketLocation"),
        ("versioning", "GetBucketVersioning"),
        ("lifecycle", "GetBucketLifecycleConfiguration"),
        ("", "ListObjects"),
    ),
    "HEAD": (("", "HeadBucket"),),
    "PUT": (
        ("versioning", "PutBucketVersioning"),
        ("lifecycle", "PutBucketLifecycleConfiguration"),
        ("", "CreateBucket"),
    ),
    "POST": (("delete", "DeleteObjects"),),
    "DELETE": (("lifecycle", "DeleteBucketLifecycle"), ("", "DeleteBucket")),
}

_COPIES = {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}


@dataclass(eq=False)
class Call:
    """One request that came to the proxy, and what became of it."""

    number: int
    operation: str
    bucket: str
    key: str
    method: str
    target: str
    headers: dict[str, str] = field(repr=False)  # names in lower case
    request_bytes: int = 0
    """What its body took on the wire: first what its head announces, then what was read."""
    status: int | None = None
    """What the client was answered; None: nothing."""
    upstream_status: int | None = None
    """What S3 answered; None: nothing, or it was not asked."""

    def __post_init__(self) -> None:
        self._has_ended = threading.Event()

    def end(self) -> None:
        self._has_ended.set()

    def wait(self, within_seconds: float = 15.0) -> None:
        """Blocks until the proxy is done with it, which may be long after its client has left."""
        assert self._has_ended.wait(within_seconds), f"{self.operation} has not ended"

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


def call_of(number: int, method: str, target: str, headers: dict[str, str]) -> Call:
    path, _, query = target.partition("?")
    bucket, _, key = path.lstrip("/").partition("/")
    names = set(dict(parse_qsl(query, keep_blank_values=True)))
    operation = _operation_of(method, bucket, key, names)
    if _COPY in headers:
        operation = _COPIES.get(operation, operation)
    announced = int(headers.get("content-length", 0))
    return Call(number, operation, unquote(bucket), unquote(key), method, target, headers, announced)


def _operation_of(method: str, bucket: str, key: str, names: set[str]) -> str:
    if not bucket:
        return "ListBuckets"
    table = _OF_KEYS if key else _OF_BUCKETS
    for name, operation in table.get(method, ()):
        if not name or name in names:
            return operation
    return f"{method} {'key' if key else 'bucket'}"
