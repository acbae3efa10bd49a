"""The calls to S3 that are few: multipart uploads begun and ended, listings, copies. By boto3, in threads of their own.

It also knows what boto3 is best at: whose credentials these are, and where the bucket is. Raises what `client` raises.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import botocore.exceptions
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from tusd_py.stores.s3.attributes import METADATA
from tusd_py.stores.s3.client import S3Error, Tell, Unclear
from tusd_py.stores.s3.encryption import NO_ENCRYPTION, Encryption
from tusd_py.stores.s3.signing import Keys

MOST_CALLS = 16
_KEYS_SECONDS = 60.0

Response = dict[str, Any]


class Control:
    """One bucket. `s3` is boto3's client; `presigner` another, where clients reach the storage elsewhere."""

    def __init__(
        self,
        s3: Any,
        credentials: Any,
        bucket: str,
        encryption: Encryption = NO_ENCRYPTION,
        tell: Tell | None = None,
        presigner: Any = None,
    ) -> None:
        self.bucket = bucket
        self._presigner = presigner or s3
        self._encryption = {
            "create_multipart_upload": _arguments(encryption.new),
            "upload_part_copy": _arguments({**encryption.each, **encryption.source}),
            "list_parts": _arguments(encryption.each),
            "complete_multipart_upload": _arguments(encryption.each),
        }
        self._s3 = s3
        self._credentials = credentials
        self._tell = tell
        self._limiter: anyio.CapacityLimiter | None = None
        self._keys: Keys | None = None
        self._keys_good_until = 0.0

    async def call(self, operation: str, **arguments: Any) -> Response:
        """Any operation of boto3's client, by its name there."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(MOST_CALLS)
        arguments |= self._encryption.get(operation, {})
        call: Callable[[], Response] = partial(getattr(self._s3, operation), Bucket=self.bucket, **arguments)
        began_at = time.monotonic()
        status = 0
        try:
            answer = await anyio.to_thread.run_sync(partial(_translated, operation, call), limiter=self._limiter)
            status = 200
            return answer
        except S3Error as error:
            status = error.status
            raise
        finally:
            if self._tell is not None:
                self._tell(operation, str(arguments.get("Key", "")), status, time.monotonic() - began_at)

    async def pages(self, operation: str, limit: int | None = None, **arguments: Any) -> AsyncIterator[Response]:
        """The answers to a listing, one after the other, as far as there are any, and `limit` at most."""
        tokens = _PAGING[operation]
        count = 0
        while limit is None or count < limit:
            page = await self.call(operation, **arguments)
            yield page
            count += 1
            if not page.get("IsTruncated"):
                return
            arguments |= {argument: page[field] for argument, field in tokens.items() if page.get(field)}

    async def begin(self, key: str, headers: Mapping[str, str], **arguments: str) -> str:
        """Begin a multipart upload of an object with these headers; returns its id."""
        begun = await self.call("create_multipart_upload", Key=key, **_arguments(headers), **arguments)
        return str(begun["UploadId"])

    async def list_parts(self, key: str, multipart: str) -> list[Response]:
        pages = self.pages("list_parts", Key=key, UploadId=multipart)
        return [part async for page in pages for part in page.get("Parts", ())]

    async def complete(self, key: str, multipart: str, parts: Sequence[Response], **arguments: str) -> Response:
        return await self.call(
            "complete_multipart_upload",
            Key=key,
            UploadId=multipart,
            MultipartUpload={"Parts": list(parts)},
            **arguments,
        )

    async def presigned(self, key: str, seconds: int, **arguments: str) -> str:
        """A URL under which anybody may get an object. Makes no request, but may ask for new credentials."""
        call = partial(
            self._presigner.generate_presigned_url,
            "get_object",
            Params={"Bucket": self.bucket, "Key": key, **arguments},
            ExpiresIn=seconds,
        )
        return str(await anyio.to_thread.run_sync(call))

    async def abort(self, key: str, multipart: str) -> None:
        """Also when there is none."""
        try:
            await self.call("abort_multipart_upload", Key=key, UploadId=multipart)
        except S3Error as error:
            if not error.is_missing:
                raise

    async def keys(self) -> Keys:
        """Credentials that are good now; where they are lent, boto3 asks for new ones in time."""
        now = time.monotonic()
        if self._keys is None or now > self._keys_good_until:
            frozen = await anyio.to_thread.run_sync(self._credentials.get_frozen_credentials)
            self._keys = Keys(frozen.access_key, frozen.secret_key, frozen.token)
            self._keys_good_until = now + _KEYS_SECONDS
        return self._keys

    def close(self) -> None:
        self._s3.close()
        self._presigner.close()


_PAGING = {
    "list_parts": {"PartNumberMarker": "NextPartNumberMarker"},
    "list_objects_v2": {"ContinuationToken": "NextContinuationToken"},
    "list_multipart_uploads": {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"},
}


_NAMES = {
    "content-type": "ContentType",
    "x-amz-storage-class": "StorageClass",
    "x-amz-tagging": "Tagging",
    "x-amz-acl": "ACL",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
    "x-amz-server-side-encryption-customer-algorithm": "SSECustomerAlgorithm",
    "x-amz-server-side-encryption-customer-key": "SSECustomerKey",
    "x-amz-server-side-encryption-customer-key-md5": "SSECustomerKeyMD5",
    "x-amz-copy-source-server-side-encryption-customer-algorithm": "CopySourceSSECustomerAlgorithm",
    "x-amz-copy-source-server-side-encryption-customer-key": "CopySourceSSECustomerKey",
    "x-amz-copy-source-server-side-encryption-customer-key-md5": "CopySourceSSECustomerKeyMD5",
}
"""What boto3 calls headers."""


def _arguments(headers: Mapping[str, str]) -> dict[str, Any]:
    """Headers as boto3 wants them."""
    arguments: dict[str, Any] = {_NAMES[name]: value for name, value in headers.items() if name in _NAMES}
    metadata = {name.removeprefix(METADATA): value for name, value in headers.items() if name.startswith(METADATA)}
    return {**arguments, "Metadata": metadata} if metadata else arguments


def _translated(operation: str, call: Callable[[], Response]) -> Response:
    try:
        return call()
    except ClientError as error:
        told = error.response.get("Error", {})
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        refused = S3Error(operation, status, str(told.get("Code", status)), str(told.get("Message", "no details")))
        if refused.is_passing:
            raise Unclear(str(refused)) from error
        raise refused from error
    except (HTTPClientError, botocore.exceptions.ConnectionError) as error:
        raise Unclear(f"{operation}: {error}") from error
    except BotoCoreError as error:
        raise S3Error(operation, 0, type(error).__name__, str(error)) from error
