"""A bucket as the checks of S3 dialects use it: short ways to write, to read, and to be refused."""

from __future__ import annotations

import base64
import functools
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

from awscrt import checksums
from botocore.exceptions import ClientError
from s3servers import S3Server

PART_BYTES = 5 << 20
"""The smallest part that need not be the last."""


Check = Callable[["Bucket"], None]

CHECKS: dict[str, Check] = {}
"""What we rely on an S3 server to do. The docstring is what a check claims; it fails with the reason."""


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


class Bucket:
    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.name = server.new_bucket()
        self.client = server.client(request_checksum_calculation="when_required", max_pool_connections=16)
        self._numbers = itertools.count()

    def new_key(self) -> str:
        return f"folder/{next(self._numbers)}"

    def put(self, key: str, body: bytes = b"some", **fields: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.put_object(Bucket=self.name, Key=key, Body=body, **fields)
        return answer

    def head(self, key: str, **fields: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.head_object(Bucket=self.name, Key=key, **fields)
        return answer

    def get(self, key: str, **fields: Any) -> bytes:
        # Not `with body`, which enters the stream below it, unchecked.
        with closing(self.client.get_object(Bucket=self.name, Key=key, **fields)["Body"]) as body:
            content: bytes = body.read()
        return content

    def begin(self, **fields: Any) -> Multipart:
        return Multipart(self, self.new_key(), fields)

    def list(self, **fields: Any) -> list[str]:
        return [each["Key"] for each in self.client.list_objects_v2(Bucket=self.name, **fields).get("Contents", ())]


class Multipart:
    """One multipart upload."""

    def __init__(self, bucket: Bucket, key: str, fields: dict[str, Any]) -> None:
        self.bucket = bucket
        self.key = key
        self.id = bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key, **fields)["UploadId"]
        self._ids = {"Bucket": bucket.name, "Key": key, "UploadId": self.id}

    def send(self, number: int, body: bytes, **fields: Any) -> dict[str, Any]:
        """Answers the part as Complete wants it."""
        answer = self.bucket.client.upload_part(**self._ids, PartNumber=number, Body=body, **fields)
        sums = {name: value for name, value in fields.items() if name.startswith("Checksum")}
        return {"PartNumber": number, "ETag": answer["ETag"], **sums}

    def copy(self, number: int, source: str, **fields: Any) -> dict[str, Any]:
        place = {"Bucket": self.bucket.name, "Key": source}
        answer = self.bucket.client.upload_part_copy(**self._ids, PartNumber=number, CopySource=place, **fields)
        return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

    def parts(self, **fields: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.bucket.client.list_parts(**self._ids, **fields)
        return answer

    def complete(self, *parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
        whole = {"MultipartUpload": {"Parts": list(parts)}} if parts else {}
        answer: dict[str, Any] = self.bucket.client.complete_multipart_upload(**self._ids, **whole, **fields)
        return answer

    def abort(self) -> None:
        self.bucket.client.abort_multipart_upload(**self._ids)


@functools.cache
def part_of(letter: str) -> bytes:
    return letter.encode() * PART_BYTES


def crc64(body: bytes) -> str:
    return base64.b64encode(checksums.crc64nvme(body).to_bytes(8, "big")).decode()


def crc32c(body: bytes) -> str:
    return base64.b64encode(checksums.crc32c(body).to_bytes(4, "big")).decode()


@contextmanager
def refused(*codes: str) -> Iterator[None]:
    """Whether what follows is refused with one of these codes."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        assert code in codes, f"refused with {code}"
    else:
        raise AssertionError("accepted")


def winners(attempt: Callable[[int], object], times: int = 12) -> int:
    """How many of so many attempts at once were not refused with a conflict or a failed condition."""

    def wins(number: int) -> bool:
        try:
            attempt(number)
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (404, 409, 412), error
            return False
        return True

    with ThreadPoolExecutor(times) as threads:
        return sum(threads.map(wins, range(times)))
