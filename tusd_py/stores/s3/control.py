"""The calls to S3 that are few: multipart uploads begun and ended, listings, copies. By boto3, in threads of their own.

It also knows what boto3 is best at: whose credentials these are, and where the bucket is. Raises what `client` raises.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import botocore.exceptions
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from tusd_py.stores.s3.client import S3Error, Tell, Unclear
from tusd_py.stores.s3.signing import Keys

MOST_CALLS = 16
_KEYS_SECONDS = 60.0

Response = dict[str, Any]


class Control:
    """One bucket. `s3` is boto3's client."""

    def __init__(self, s3: Any, credentials: Any, bucket: str, tell: Tell | None = None) -> None:
        self.bucket = bucket
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


_PAGING = {
    "list_parts": {"PartNumberMarker": "NextPartNumberMarker"},
    "list_objects_v2": {"ContinuationToken": "NextContinuationToken"},
    "list_multipart_uploads": {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"},
}


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
