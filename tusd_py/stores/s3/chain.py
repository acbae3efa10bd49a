"""The states of uploads, each a chain of writes: read the newest, write the next one unless somebody else has.

A write names the ETag of the state that it follows (`If-Match`; `If-None-Match: *` for the first), so the storage
itself lets only one of two holders go on (failures F21, F22). After an answer that was lost, or a refusal that may be
due to one's own first attempt, the state is read back: its token tells whose it is.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from tusd_py.stores.s3.client import Client, S3Error, Unclear, attempts, pauses
from tusd_py.stores.s3.memory import Part
from tusd_py.stores.s3.record import Record
from tusd_py.stores.s3.wire import Answer, Payload, Piece

_HEAD_BYTES = 64 * 1024
"""What is read of a state at first: the record, unless its metadata is very long, and not much of the tail."""

_LATE_SECONDS = 10.0
"""How long a storage may go on answering what was there before a write (failures F13)."""


HEADERS = {"content-type": "application/json"}


class Superseded(Exception):
    """Somebody else has written the next state: this holder is none any more."""


@dataclass(frozen=True, slots=True)
class Link:
    """A state as it is stored; `version` tells it from all others of its upload."""

    record: Record
    version: str


class Chain:
    """Those of one bucket. A state's key is that of its upload (`Names.info`), its version the ETag."""

    is_conditional = True

    def __init__(self, client: Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    async def read(self, key: str, *, tail: Part | None = None, known: Record | None = None) -> Link | None:
        """The newest state, None if there is none. Raises S3Error, Unclear, and ValueError for what is no state.

        Its tail is added to `tail`, which is empty. An older state than `known`, which has been written, is not taken
        for the newest.
        """
        deadline = asyncio.get_running_loop().time() + _LATE_SECONDS
        for pause_seconds in pauses():
            link = await self._newest(key, tail)
            # Where there is none at all, somebody has removed it.
            if known is None or link is None or link.record.sequence >= known.sequence:
                return link
            if tail is not None:
                tail.clear()
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(pause_seconds)
        raise Unclear(f"GetObject {key}: the storage goes on answering an older state than it has taken")

    async def append(self, key: str, record: Record, tail: Payload, after: Link | None) -> Link:
        """Write `record` as the state after `after`, or as the first. Raises Superseded, S3Error, Unclear."""
        record = following(record, after)
        condition = {"if-none-match": "*"} if after is None else {"if-match": after.version}
        payload = behind(record.encode(self._bucket), tail)
        for left, pause_seconds in attempts():
            try:
                return Link(record, (await self._client.put(key, payload, HEADERS | condition)).headers["etag"])
            except S3Error as error:
                if not (error.is_conflict or (error.is_missing and after is not None)):
                    raise
            except Unclear:
                if not left:
                    raise
            found = await self.read(key, known=None if after is None else after.record)
            if found is not None and found.record.token == record.token:
                return found
            if version_of(found) != version_of(after):
                raise Superseded
            await asyncio.sleep(pause_seconds)
        raise Superseded

    def is_own(self, key: str, link: Link) -> bool:
        """Whether nothing that is still under way can take the place of this state, which is the newest."""
        return True

    async def remove(self, key: str, record: Record) -> None:
        """Forget an upload; `record` is its last state."""
        await self._client.delete(key)

    async def _newest(self, key: str, tail: Part | None) -> Link | None:
        return await (self._read(key) if tail is None else self._read_whole(key, tail))

    async def _read(self, key: str) -> Link | None:
        try:
            answer = await self._client.get(key, {}, f"0-{_HEAD_BYTES - 1}")
            line, newline, _ = answer.body.partition(b"\n")
            if not newline and _size(answer) > len(answer.body):
                answer = await self._client.get(key, {})
                line, _, _ = answer.body.partition(b"\n")
        except S3Error as error:
            if error.is_missing:
                return None
            raise
        return Link(Record.decode(line), answer.headers["etag"])

    async def _read_whole(self, key: str, tail: Part) -> Link | None:
        for left, pause_seconds in attempts():
            try:
                async with self._client.stream(key, {}) as (answer, body), aclosing(body):
                    record = await _split(body, tail)
                if tail.size == record.tail_bytes:
                    return Link(record, answer.headers["etag"])
                raise Unclear(f"GetObject {key}: {tail.size} bytes came instead of {record.tail_bytes}")
            except S3Error as error:
                if error.is_missing:
                    return None
                raise
            except Unclear:
                if not left:
                    raise
            tail.clear()
            await asyncio.sleep(pause_seconds)
        raise AssertionError


def version_of(link: Link | None) -> str | None:
    return link.version if link is not None else None


def following(record: Record, after: Link | None) -> Record:
    sequence = after.record.sequence if after is not None else 0
    return replace(record, token=secrets.token_hex(8), sequence=sequence + 1)


async def _split(body: AsyncGenerator[bytes, None], tail: Part) -> Record:
    """The record; what comes after its line goes to `tail`."""
    head = b""
    async for piece in body:
        if tail.size or b"\n" in head:
            await tail.add(piece)
            continue
        head += piece
        rest = head.partition(b"\n")[2]
        if rest:
            await tail.add(rest)
    return Record.decode(head.partition(b"\n")[0])


def _size(answer: Answer) -> int:
    """Of the whole object."""
    return int(answer.headers.get("content-range", "").rpartition("/")[2] or len(answer.body))


def behind(line: bytes, tail: Payload) -> Payload:
    size = len(line) + tail.size
    if tail.read is None:
        return Payload(size, (line, *tail.pieces))
    return Payload(size, read=partial(_joined, line, tail.read))


async def _joined(line: bytes, read: Callable[[], AsyncGenerator[Piece, None]]) -> AsyncGenerator[Piece, None]:
    yield line
    async with aclosing(read()) as pieces:
        async for piece in pieces:
            yield piece
