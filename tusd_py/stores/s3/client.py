"""The calls to S3 that are many, over `wire`: put, get, head, delete, a part. Those that are few are `control`'s.

Raises `S3Error` for what the storage refuses, with S3's code, and `Unclear` where nobody can tell whether the request
was carried out. What may be asked again is asked again, after a pause that grows; a write under a condition is not: who
wants it looks first (see `chain`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from tusd_py.logs import event
from tusd_py.stores.s3.encryption import NO_ENCRYPTION, Encryption
from tusd_py.stores.s3.signing import Keys, encode_path, encode_query, signed_headers
from tusd_py.stores.s3.wire import NOTHING, Answer, Payload, Wire, WireError

log = logging.getLogger("tusd_py.s3")

LATE_SECONDS = 3600.0
"""Longer than any request may be under way."""

ATTEMPTS = 5
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 3.0

_CODE = re.compile(rb"<Code>([A-Za-z0-9._-]{1,100})</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{1,500})</Message>")
_PASSING = {"SlowDown", "RequestTimeout", "OperationAborted"}
_BY_STATUS = {404: "NotFound", 403: "Forbidden", 412: "PreconditionFailed", 304: "NotModified"}


class S3Error(Exception):
    """The storage refused. `code` is S3's; of an answer without a body, such as that to HEAD, the status' name."""

    def __init__(self, operation: str, status: int, code: str, message: str) -> None:
        super().__init__(f"{operation}: {status} {code}: {message}")
        self.operation = operation
        self.status = status
        self.code = code

    @property
    def is_missing(self) -> bool:
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        """A condition was not met, or somebody else was writing at that moment."""
        return self.status == 412 or self.code == "ConditionalRequestConflict"

    @property
    def is_passing(self) -> bool:
        return (self.status >= 500 and self.status != 501) or self.status == 429 or self.code in _PASSING


class Unclear(Exception):
    """The network, or the storage, failed in a way that leaves open whether the request was carried out."""


Tell = Callable[[str, str, int, float], None]
"""Hears of each call: operation, key, status (0: none came), seconds."""


def log_call(operation: str, key: str, status: int, seconds: float) -> None:
    event(log, "S3Call", operation=operation, key=key, status=status, seconds=round(seconds, 4))


class KeySource(Protocol):
    async def keys(self) -> Keys:
        """Credentials that are good now."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where requests to a bucket go; `path` stands before each key, and is `/` or `/bucket/`."""

    host: str
    region: str
    path: str


class Client:
    """One bucket."""

    def __init__(
        self,
        wire: Wire,
        place: Place,
        keys: KeySource,
        encryption: Encryption = NO_ENCRYPTION,
        tell: Tell | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._wire = wire
        self._place = place
        self._keys = keys
        self._encryption = encryption
        self._tell = tell
        self._now = now

    @property
    def host(self) -> str:
        return self._place.host

    async def put(self, key: str, payload: Payload, headers: Mapping[str, str]) -> Answer:
        """Once. Raises Unclear also where the storage says that it failed: it may have written all the same."""
        return await self._attempt("PutObject", "PUT", key, {}, {**headers, **self._encryption.new}, payload)

    async def put_again(self, key: str, payload: Payload, headers: Mapping[str, str]) -> Answer:
        """Until it is there, over what may be there."""
        return await self._persist("PutObject", "PUT", key, {}, {**headers, **self._encryption.new}, payload)

    async def put_part(
        self, key: str, multipart: str, number: int, payload: Payload, headers: Mapping[str, str]
    ) -> Answer:
        """The same bytes under the same number may be sent again."""
        query = {"partNumber": str(number), "uploadId": multipart}
        return await self._persist("UploadPart", "PUT", key, query, {**headers, **self._encryption.each}, payload)

    async def get(self, key: str, headers: Mapping[str, str], byte_range: str | None = None) -> Answer:
        return await self._persist("GetObject", "GET", key, {}, self._asking(headers, byte_range))

    async def head(self, key: str, headers: Mapping[str, str]) -> Answer:
        return await self._persist("HeadObject", "HEAD", key, {}, self._asking(headers))

    async def delete(self, key: str) -> None:
        await self._persist("DeleteObject", "DELETE", key, {}, {})

    @asynccontextmanager
    async def stream(
        self, key: str, headers: Mapping[str, str], byte_range: str | None = None
    ) -> AsyncGenerator[tuple[Answer, AsyncGenerator[bytes, None]], None]:
        """The bytes as they come, once."""
        target, sent = await self._prepared("GET", key, {}, self._asking(headers, byte_range))
        try:
            async with self._wire.stream("GET", target, sent) as (answer, body):
                if answer.status not in (200, 206):
                    answer.body = b"".join([piece async for piece in body])
                    raise _judged("GetObject", answer)
                yield answer, body
        except WireError as error:
            raise Unclear(f"GetObject: {error}") from error

    async def aclose(self) -> None:
        await self._wire.aclose()

    # Steps.

    def _asking(self, headers: Mapping[str, str], byte_range: str | None = None) -> dict[str, str]:
        asked = {**headers, **self._encryption.each}
        return asked if byte_range is None else {**asked, "range": f"bytes={byte_range}"}

    async def _persist(
        self,
        operation: str,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        payload: Payload = NOTHING,
    ) -> Answer:
        """Again and again, for what does no harm twice."""
        for left, pause_seconds in attempts():
            try:
                return await self._attempt(operation, method, key, query, headers, payload)
            except Unclear:
                if not left:
                    raise
            await asyncio.sleep(pause_seconds)
        raise AssertionError

    async def _attempt(
        self,
        operation: str,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        payload: Payload = NOTHING,
    ) -> Answer:
        if method == "PUT":
            headers = {**headers, "content-length": str(payload.size)}
        target, sent = await self._prepared(method, key, query, headers)
        began_at = time.monotonic()
        status = 0
        try:
            answer = await self._wire.request(method, target, sent, payload)
            status = answer.status
        except WireError as error:
            raise Unclear(f"{operation}: {error}") from error
        finally:
            if self._tell is not None:
                self._tell(operation, key, status, time.monotonic() - began_at)
        if status < 300:
            return answer
        raise _judged(operation, answer)

    async def _prepared(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        place = self._place
        target = place.path + encode_path(key)
        if query:
            target += "?" + encode_query(query)
        keys = await self._keys.keys()
        return target, signed_headers(keys, place.region, method, target, place.host, headers, self._now())


def attempts() -> Iterator[tuple[int, float]]:
    """Of each: how many are left after it, and the seconds to wait before the next."""
    return zip(reversed(range(ATTEMPTS)), pauses(), strict=False)


def pauses() -> Iterator[float]:
    """Seconds to wait before asking again: longer and longer, and not all at the same moment."""
    seconds = _FIRST_PAUSE_SECONDS
    while True:
        yield seconds * random.uniform(0.5, 1.5)  # noqa: S311
        seconds = min(seconds * 2, _LONGEST_PAUSE_SECONDS)


def _judged(operation: str, answer: Answer) -> Exception:
    refused = _refused(operation, answer)
    return Unclear(str(refused)) if refused.is_passing else refused


def _refused(operation: str, answer: Answer) -> S3Error:
    code, message = _CODE.search(answer.body), _MESSAGE.search(answer.body)
    return S3Error(
        operation,
        answer.status,
        code[1].decode() if code else _BY_STATUS.get(answer.status, str(answer.status)),
        message[1].decode("utf-8", "replace") if message else "no details",
    )
