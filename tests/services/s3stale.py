"""Delayed visibility (failures F13): for some seconds after a key changed, reads answer what was there before.

Before a change is passed on, the object as it is then is read from S3 itself, so that the old answer is a real one.
Writes stay as S3 does them, conditions included. Objects over 16 MiB, and what ListParts says, are never stale.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote_plus, unquote_plus

from botocore.exceptions import ClientError
from s3calls import Call
from s3http import Answer, without

LARGEST_BYTES = 16 << 20
OBJECT_READS = {"GetObject", "HeadObject"}
LISTS = {"ListObjects", "ListObjectsV2"}
CHANGES = {"PutObject", "CopyObject", "CompleteMultipartUpload", "DeleteObject", "DeleteObjects"}

Name = tuple[str, str]
"""Bucket and key."""

_MISSING = Answer(404, (("content-type", "application/xml"),), b"<Error><Code>NoSuchKey</Code></Error>")
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True)
class Change:
    at: float
    before: Answer


class StaleReads:
    """`client` is a boto3 client of the S3 server itself, not of the proxy."""

    def __init__(self, seconds: float, client: Any) -> None:
        self._seconds = seconds
        self._client = client
        self._changes: dict[Name, list[Change]] = {}

    def concerns(self, call: Call) -> bool:
        return call.operation in OBJECT_READS | LISTS | CHANGES

    def read(self, call: Call) -> Answer | None:
        """The old answer to a GET or HEAD of an object; None: the true one is to be given."""
        if call.operation not in OBJECT_READS or (seen := self._seen((call.bucket, call.key))) is None:
            return None
        return _of_conditions(seen, call.headers)

    def listed(self, call: Call, answer: Answer) -> Answer:
        """A list, with the entries as they were. Common prefixes and where pages end stay as they are."""
        if call.operation not in LISTS or answer.status != 200:
            return answer
        ET.register_namespace("", _NAMESPACE)
        root = ET.fromstring(answer.body)
        space = root.tag.rpartition("}")[0] + "}" if "}" in root.tag else ""
        is_encoded = root.findtext(f"{space}EncodingType") == "url"
        encode, decode = (quote_plus, unquote_plus) if is_encoded else (str, str)
        entries = {decode(entry.findtext(f"{space}Key", "")): entry for entry in root.findall(f"{space}Contents")}
        for bucket, key in list(self._changes):
            seen = self._seen((bucket, key))
            if seen is None or bucket != call.bucket or not key.startswith(call.query.get("prefix", "")):
                continue
            if (entry := entries.pop(key, None)) is not None:
                root.remove(entry)
            if seen is not _MISSING:
                entries[key] = _entry(root, space, encode(key), seen)
        for place, entry in enumerate(entries[key] for key in sorted(entries)):
            if entry in root:
                root.remove(entry)
            root.insert(place, entry)
        if (count := root.find(f"{space}KeyCount")) is not None:
            count.text = str(len(entries) + len(root.findall(f"{space}CommonPrefixes")))
        return Answer(answer.status, answer.headers, ET.tostring(root))

    async def before(self, call: Call, body: bytes) -> dict[Name, Answer]:
        """What a change is about to replace; nothing, if the call is none."""
        if call.operation not in CHANGES:
            return {}
        keys = [call.key]
        if call.operation == "DeleteObjects":
            keys = [element.text or "" for element in ET.fromstring(body).iter() if element.tag.endswith("Key")]
        seen = {(call.bucket, key): await asyncio.to_thread(self._look, call.bucket, key) for key in keys}
        return {name: answer for name, answer in seen.items() if answer is not None}

    def changed(self, before: dict[Name, Answer]) -> None:
        """Also after a refusal: then the old and the new are the same."""
        now = time.monotonic()
        for name, answer in before.items():
            self._changes.setdefault(name, []).append(Change(now, answer))

    def _seen(self, name: Name) -> Answer | None:
        """As of so many seconds ago, if that differs from now."""
        since = time.monotonic() - self._seconds
        changes = self._changes[name] = [change for change in self._changes.get(name, ()) if change.at > since]
        return changes[0].before if changes else None

    def _look(self, bucket: str, key: str) -> Answer | None:
        try:
            found = self._client.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return _MISSING
            raise
        with contextlib.closing(found["Body"]) as body:
            if found["ContentLength"] > LARGEST_BYTES:
                return None
            content = body.read()
        headers = found["ResponseMetadata"]["HTTPHeaders"].items()
        return Answer(200, without(headers, {"connection", "transfer-encoding", "content-length"}), content)


def _entry(root: ET.Element, space: str, key: str, seen: Answer) -> ET.Element:
    headers = dict(seen.headers)
    entry = ET.SubElement(root, f"{space}Contents")
    modified = parsedate_to_datetime(headers["last-modified"]).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    fields = {"Key": key, "LastModified": modified, "ETag": headers["etag"], "Size": str(len(seen.body))}
    for name, value in {**fields, "StorageClass": headers.get("x-amz-storage-class", "STANDARD")}.items():
        ET.SubElement(entry, f"{space}{name}").text = value
    return entry


def _of_conditions(seen: Answer, asked: dict[str, str]) -> Answer:
    """What If-Match, If-None-Match and Range make of an answer."""
    if seen is _MISSING:
        return seen
    headers = dict(seen.headers)
    if asked.get("if-match", "*") not in ("*", headers["etag"]):
        return Answer(412, (), b"<Error><Code>PreconditionFailed</Code></Error>")
    if asked.get("if-none-match") in ("*", headers["etag"]):
        return Answer(304, (("etag", headers["etag"]),))
    wants_part = "range" in asked  # the checksum of a whole is not told with a part of it
    if wants_part or asked.get("x-amz-checksum-mode", "").upper() != "ENABLED":
        headers = {name: value for name, value in headers.items() if not name.startswith("x-amz-checksum-")}
    content = seen.body
    if not (found := re.fullmatch(r"bytes=(\d*)-(\d*)", asked.get("range", ""))):
        return Answer(200, tuple(headers.items()), content)
    first, last = found.groups()
    start = int(first) if first else max(0, len(content) - int(last))
    end = min(len(content), int(last) + 1) if first and last else len(content)
    if start >= end:
        return Answer(416, (), b"<Error><Code>InvalidRange</Code></Error>")
    headers["content-range"] = f"bytes {start}-{end - 1}/{len(content)}"
    return Answer(206, tuple(headers.items()), content[start:end])
