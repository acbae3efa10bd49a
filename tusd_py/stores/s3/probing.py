"""A bench to try out a storage on: calls are timed and counted, and all that they make is removed again.

What is tried stands in `traits`; this knows how, and what it means when a call fails.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError

from tusd_py.errors import ConfigError
from tusd_py.stores.s3 import crc
from tusd_py.stores.s3.client import Client, S3Error, Unclear, attempts
from tusd_py.stores.s3.control import Control, Response
from tusd_py.stores.s3.diagnosis import action, fatal, is_throttled, operation, refusal
from tusd_py.stores.s3.wire import Answer, payload

T = TypeVar("T")


class Unlike(Exception):
    """The storage answered, and has not done what S3 does."""


class Untried(Exception):
    """Something that it needs was not there."""


class Verdict(StrEnum):
    YES = "yes"
    NO = "no"
    DENIED = "denied"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one trait. `permission` is the IAM action that was lacking; `advice` says what follows."""

    name: str
    title: str
    verdict: Verdict
    is_required: bool
    detail: str = ""
    advice: str = ""
    permission: str = ""

    @property
    def is_yes(self) -> bool:
        return self.verdict is Verdict.YES


@dataclass(frozen=True, slots=True)
class Trait:
    """Something that S3 does. `function` tries it, and raises Unlike; it may return a detail to tell."""

    title: str
    function: Callable[[Bench], Awaitable[str | None]]
    is_required: bool
    is_quick: bool
    otherwise: str

    @property
    def name(self) -> str:
        return self.function.__name__

    async def finding(self, bench: Bench) -> Finding:
        """Raises ConfigError where nothing else can succeed either."""
        verdict, permission = Verdict.YES, ""
        try:
            detail = await self.function(bench) or ""
        except Unlike as error:
            verdict, detail = Verdict.NO, str(error)
        except Untried as error:
            verdict, detail = Verdict.UNCLEAR, f"not tried: {error}"
        except KeyError as error:
            verdict, detail = Verdict.NO, f"the answer lacks {error}"
        except (S3Error, Unclear, BotoCoreError) as error:
            if (line := fatal(error, bench.control.bucket)) is not None:
                raise ConfigError(line) from error
            said = refusal(error)
            if said is None:
                verdict, detail = Verdict.UNCLEAR, " ".join(str(error).split())
            elif said.status == 403:
                name = operation(said.operation)
                verdict, permission = Verdict.DENIED, action(name)
                detail = f"{name} needs {permission}"
            else:
                verdict, detail = Verdict.NO, f"{operation(said.operation)} says {said.code}"
        advice = self.otherwise if verdict is Verdict.NO else ""
        return Finding(self.name, self.title, verdict, self.is_required, detail, advice, permission)


class Bench:
    """Below `<prefix>.tusd-py/check-<random>/`. Used for one run; `clean` ends it."""

    def __init__(self, client: Client, control: Control, prefix: str) -> None:
        self.client = client
        self.control = control
        self.folder = f"{prefix}.tusd-py/check-{secrets.token_hex(6)}/"
        self.seconds: dict[str, list[float]] = {}
        self.sent_bytes = 0
        self.server = ""
        self.source = b""
        """What the object `source_key` holds, once there is one."""
        self.source_key = f"{self.folder}source"
        self._keys: dict[str, None] = {}
        self._begun: dict[str, set[str]] = {}

    @property
    def calls(self) -> int:
        return sum(map(len, self.seconds.values()))

    def key(self, name: str) -> str:
        """Of an object that is going to be made."""
        key = self.folder + name
        self._keys[key] = None
        return key

    async def put(self, key: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Once; again only where the storage asks for patience, as some do after a write a second to one key."""
        for left, pause_seconds in attempts():
            self.sent_bytes += len(body)
            try:
                answer = await self._timed("PutObject", self.client.put(key, payload(body), headers or {}))
            except Unclear as error:
                if not left or not is_throttled(error):
                    raise
            else:
                self.server = answer.headers.get("server", self.server)
                return answer
            await asyncio.sleep(pause_seconds)
        raise AssertionError

    async def get(self, key: str, byte_range: str | None = None) -> bytes:
        return (await self._timed("GetObject", self.client.get(key, {}, byte_range))).body

    async def head(self, key: str) -> Mapping[str, str]:
        return (await self._timed("HeadObject", self.client.head(key, {}))).headers

    async def delete(self, key: str) -> None:
        await self._timed("DeleteObject", self.client.delete(key))

    async def call(self, name: str, **arguments: Any) -> Response:
        return await self._timed(operation(name), self.control.call(name, **arguments))

    async def begin(self, key: str, *, is_checked: bool = False) -> Multipart:
        ids = self._begun.setdefault(key, set())
        checks = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"} if is_checked else {}
        begun = await self.call("create_multipart_upload", Key=key, **checks)
        ids.add(begun["UploadId"])
        return Multipart(self, key, begun["UploadId"])

    async def send_part(self, key: str, multipart: str, number: int, body: bytes, headers: Mapping[str, str]) -> Answer:
        self.sent_bytes += len(body)
        return await self._timed("UploadPart", self.client.put_part(key, multipart, number, payload(body), headers))

    async def clean(self, *, has_versions: bool = False) -> list[str]:
        """Remove all that was made; returns what could not be removed, and why."""
        steps: list[tuple[str, Callable[[], Awaitable[object]]]] = []
        for key, ids in self._begun.items():
            steps.append((f"multipart uploads of {key}", partial(self._abort_all, key, ids)))
        for key in self._keys:
            steps.append((key, partial(self.client.delete, key)))
        if has_versions:
            steps.append((f"versions below {self.folder}", self._delete_versions))
        left = []
        for what, step in steps:
            try:
                await step()
            except (S3Error, Unclear, BotoCoreError) as error:
                left.append(f"{what} ({error})")
                if fatal(error, self.control.bucket) is not None:
                    return [f"what was made below {self.folder} ({error})"]
        return left

    async def _abort_all(self, key: str, ids: set[str]) -> None:
        # One may have been begun whose answer nobody waited for; who may not list aborts those that are known.
        with suppress(S3Error):
            page = await self.control.call("list_multipart_uploads", Prefix=key)
            ids.update(each["UploadId"] for each in page.get("Uploads", ()) if each["Key"] == key)
        for each in ids:
            await self.control.abort(key, each)

    async def _delete_versions(self) -> None:
        page = await self.control.call("list_object_versions", Prefix=self.folder)
        for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            await self.control.call("delete_object", Key=each["Key"], VersionId=each["VersionId"])

    async def _timed(self, name: str, call: Awaitable[T]) -> T:
        start = time.perf_counter()
        try:
            return await call
        finally:
            self.seconds.setdefault(name, []).append(time.perf_counter() - start)


@dataclass(frozen=True, slots=True)
class Multipart:
    """One multipart upload. Parts are as Complete wants them."""

    bench: Bench
    key: str
    id: str

    async def send(self, number: int, body: bytes, sum_of: bytes | None = None) -> Response:
        """With the CRC64NVME of `sum_of`, if given."""
        value = None if sum_of is None else crc64(sum_of)
        headers = {} if value is None else {crc.HEADER: value}
        answer = await self.bench.send_part(self.key, self.id, number, body, headers)
        part = {"PartNumber": number, "ETag": answer.headers["etag"]}
        return part if value is None else {**part, crc.FIELD: value}

    async def copy(self, number: int, first: int, last: int) -> Response:
        """Bytes of the bench's source, `last` included."""
        copied = await self._call(
            "upload_part_copy",
            PartNumber=number,
            CopySource={"Bucket": self.bench.control.bucket, "Key": self.bench.source_key},
            CopySourceRange=f"bytes={first}-{last}",
        )
        return {"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]}

    async def list(self, **arguments: Any) -> Response:
        return await self._call("list_parts", **arguments)

    async def complete(self, parts: Sequence[Response], whole: bytes | None = None) -> None:
        """With the CRC64NVME of `whole`, if given."""
        checks = {} if whole is None else {crc.FIELD: crc64(whole), "ChecksumType": "FULL_OBJECT"}
        self.bench.key(self.key.removeprefix(self.bench.folder))
        await self._call("complete_multipart_upload", MultipartUpload={"Parts": list(parts)}, **checks)

    async def abort(self) -> None:
        await self._call("abort_multipart_upload")

    async def _call(self, name: str, **arguments: Any) -> Response:
        return await self.bench.call(name, Key=self.key, UploadId=self.id, **arguments)


def crc64(data: bytes) -> str:
    """Raises Unlike where nothing here can compute it."""
    value = crc.crc64(data, 0)
    if value is None:
        raise Unlike("nothing here computes CRC64NVME: pip install 'tusd-py[s3]'")
    return crc.to_text(value)


async def refused(call: Awaitable[object], *statuses: int) -> None:
    """Raises Unlike where the call is accepted, and its own error where it is refused for another reason."""
    try:
        await call
    except (S3Error, Unclear) as error:
        said = refusal(error)
        if said is None or said.status not in statuses:
            raise
        return
    raise Unlike("accepted")
