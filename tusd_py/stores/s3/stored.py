"""One upload in a bucket, opened by the holder of its lock: append and finish.

The order of writes is what makes an offset durable: parts first, then the state that counts them, which carries the
tail. All numbers, objects and bytes that no state names may be forgotten, by a crash too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

from tusd_py.core.body import Body
from tusd_py.core.digest import Digest
from tusd_py.core.upload import State, Upload
from tusd_py.errors import Interrupted, RequestError, mismatched_offset, size_exceeded, upload_not_found
from tusd_py.stores.s3 import assembling, crc
from tusd_py.stores.s3.bucket import Bucket
from tusd_py.stores.s3.chain import Link, Superseded
from tusd_py.stores.s3.client import S3Error
from tusd_py.stores.s3.inflow import RESTING_WINDOW, WINDOW, Inflow, Outgoing
from tusd_py.stores.s3.memory import Part
from tusd_py.stores.s3.record import Record
from tusd_py.stores.s3.spool import Spool
from tusd_py.stores.s3.warm import Known, Taken
from tusd_py.stores.s3.wire import NOTHING, Payload

_FLUSH_SHARE = 16
"""A body that is so many times shorter than the tail it would be written with again makes a part of that tail."""

_LONGEST_TAIL = 3 / 4
"""Of a part: what is left over of more than that is sent as one. Of bodies of 1 MiB that saves a fifth of the bytes
sent to S3, and the numbers suffice: see `plan.SPARE_SHARE`."""


class StoredObject:
    """A `core.ports.StoredUpload`.

    `link` is the newest state, None as long as nothing is recorded. `is_clean`: no part that was sent before is under
    way; else those of a predecessor may be, with the numbers that its window had.
    """

    def __init__(self, bucket: Bucket, link: Link | None, record: Record, *, is_clean: bool) -> None:
        self._bucket = bucket
        self._link = link
        self._record = record
        self._is_clean = is_clean
        self._taken: dict[int, Taken] = {}
        self._tail: Part | None = Part(bucket.memory)  # None: what S3 has must be read again
        self._complete: Record | None = None  # with all bytes, the last of which are not written down yet
        self._multipart = record.multipart
        self._is_assumed = False  # that `link` is still the newest state
        self._is_newest = False  # `link` was written under this lock
        self._owes = False
        self._preparing = asyncio.Lock()

    @classmethod
    def found(cls, bucket: Bucket, link: Link, tail: Part) -> StoredObject:
        """As it was read with its tail."""
        stored = cls(bucket, link, link.record, is_clean=False)
        stored._tail = tail
        return stored

    @classmethod
    def known(cls, bucket: Bucket, known: Known) -> StoredObject:
        stored = cls(bucket, known.link, known.link.record, is_clean=known.is_clean)
        stored._tail, stored._taken = known.tail, known.taken
        stored._is_assumed = True
        return stored

    @property
    def upload(self) -> Upload:
        return (self._complete or self._record).upload

    async def append(self, body: Body) -> int:
        start = self._record.upload.offset
        with self._bucket.failures.translated():
            tail = self._tail or await self._reread()
            self._tail = None
            inflow = self._inflow(tail, body)
            spool = Spool(inflow, self._bucket.memory.folder) if body.needs_read_back else None
            try:
                await body.into(spool or inflow)
                await self._settle(start, body, inflow, spool)
                if self._link is None and self._complete is None:  # made with first bytes that did not come
                    await self._write(self._record, NOTHING)
            finally:
                await inflow.close()
                if spool is not None:
                    spool.close()
        return self.upload.offset - start

    async def finish(self, digest: Digest | None = None, *, owes: bool = False) -> None:
        with self._bucket.failures.translated():
            if self._record.upload.is_available:
                return
            self._owes = owes
            if self._complete is None and self._multipart is not None and self._record.tail_bytes:
                await self._send_tail()
            if self._multipart is not None and (self._complete or self._record).parts:
                await self._finish_multipart(digest)
            else:
                try:
                    await self._finish_small(digest)
                except Superseded:
                    await self._refresh()
                    await self._finish_small(digest)
            self._complete = None

    async def declare_length(self, length: int) -> None:
        with self._bucket.failures.translated():
            try:
                await self._write_again(self._record.with_length(length))
            except Superseded:
                await self._refresh()
                if self._record.upload.length not in (None, length):
                    raise RequestError(
                        f"Upload-Length was {self._record.upload.length} and cannot change",
                        code="ERR_INVALID_UPLOAD_LENGTH",
                    ) from None
                await self._write_again(self._record.with_length(length))

    async def record_first(self) -> None:
        """Write the first state. Raises FileExistsError."""
        with self._bucket.failures.translated():
            await self._write(self._record, NOTHING)

    async def close(self) -> None:
        is_ours = self._is_clean or self._is_newest
        if self._is_newest and self._complete is None:
            self._is_newest = False
            self._bucket.leave_note(self._record)
        tail, self._tail = self._tail, None
        if tail is None:
            return
        is_worth_knowing = is_ours and not self._record.upload.is_available and self._complete is None
        if is_worth_knowing and self._link is not None:
            known = Known(self._link, tail, self._taken, is_clean=self._is_clean)
            await self._bucket.warm.keep(self._record.upload.id, known)
        else:
            tail.release()

    # Receiving.

    def _inflow(self, tail: Part, body: Body) -> Inflow:
        record = self._record
        is_new = record.multipart is None  # and as long as no state names it, nobody else sends parts to it
        return Inflow(
            self._bucket,
            tail,
            record.next_number + self._burned,
            self._bucket.plan.limits.max_parts if is_new else record.window if self._is_clean else WINDOW,
            record,
            self._send,
            self._commit,
            body,
        )

    async def _settle(self, start: int, body: Body, inflow: Inflow, spool: Spool | None) -> None:
        """Make what was received count, as far as it may and can."""
        if not await body.accepts(spool.read_back if spool is not None else _nothing):
            self._is_clean = False  # parts of it may be under way
            return
        try:
            await self._count(start, body, inflow)
        except Superseded:
            await self._refresh()
            await self._count(start, body, inflow)

    async def _count(self, start: int, body: Body, inflow: Inflow) -> None:
        upload = self._record.upload
        if upload.length is not None and start + body.received > upload.length:
            raise size_exceeded()  # it was declared meanwhile
        is_last = start + body.received == upload.length
        if body.received == 0:
            self._tail = inflow.take()
            return
        if is_last and inflow.is_unsent and self._multipart is None:
            self._tail = inflow.take()
            self._complete = self._record.with_offset(start + body.received)
            return
        if inflow.gathering.size and (is_last or inflow.is_whole or self._is_flushed(body, inflow)):
            await inflow.send_rest()
        run = await inflow.drained()
        if inflow.error is not None:
            await self._keep(run, inflow, body)
        elif is_last:
            self._complete = self._counting(run, inflow.next_number)
            self._note(run)
            self._tail = inflow.take()
        else:
            used = self._record.next_number
            if not inflow.is_unsent:
                used = max(inflow.next_number, used + self._burned)
                self._is_clean = True
            # Else it stays open which numbers a predecessor has used: leaving them out costs nothing (failures F14).
            await self._commit(run, used, inflow.gathering)
            self._is_clean = not self._burned
            self._tail = inflow.take()

    def _is_flushed(self, body: Body, inflow: Inflow) -> bool:
        """Whether the tail has become too long to be written again with each little body (failures F14)."""
        limits = self._bucket.plan.limits
        size = inflow.gathering.size
        if size < limits.min_part_bytes or limits.wants_equal_parts:
            return False
        return size >= _LONGEST_TAIL * inflow.room or body.received * _FLUSH_SHARE < size

    async def _keep(self, run: list[Outgoing], inflow: Inflow, body: Body) -> None:
        """A part was lost: what came before it counts, and nothing after it."""
        error = inflow.error
        assert error is not None  # noqa: S101
        self._is_clean = False
        if isinstance(error, Superseded | RequestError):
            raise error
        if run:
            await self._commit(run, inflow.next_number)
        if not isinstance(body.error, Interrupted):
            raise error
        self._bucket.failures.log(error)

    async def _send(self, outgoing: Outgoing, part: Part) -> None:
        bucket = self._bucket
        multipart = await self._prepared()
        if self._record.crc is None:
            outgoing.crc = None  # a multipart upload is begun with checksums or without; tusd's are without
        headers = bucket.crc_header(outgoing.crc)
        try:
            async with bucket.slots.one():
                answer = await bucket.client.put_part(
                    self._record.key, multipart, outgoing.number, part.payload(), headers
                )
        except S3Error as error:
            if error.code == "NoSuchUpload":
                raise await self._without_multipart() from error
            raise
        outgoing.etag = answer.headers["etag"]

    async def _without_multipart(self) -> Exception:
        """Why the multipart upload is gone: another holder has finished, or its parts are lost (failures F8)."""
        newest = await self._bucket.chain.read(self._bucket.names.info(self._record.upload.id))
        is_newest = newest is not None and self._link is not None and newest.version == self._link.version
        return upload_not_found() if is_newest else Superseded()

    async def _prepared(self) -> str:
        """What must be before the first part is sent; returns the multipart upload's id."""
        async with self._preparing:
            if self._link is None:
                await self._write(self._record, NOTHING)
            elif not self._is_clean:
                # Before there are parts, too: else a predecessor that wakes up could make its own bytes count, and all
                # that our client sends would be for nothing (failures F22).
                await self._commit([], self._record.next_number + self._burned)
            if self._multipart is None:
                self._multipart = await assembling.begin(self._bucket, self._record)
            self._is_clean = True
            return self._multipart

    # Writing states.

    @property
    def _burned(self) -> int:
        """Numbers beyond those that the state knows of, which a predecessor may have used."""
        return self._record.window if self._record.multipart is not None and not self._is_clean else 0

    async def _commit(self, run: list[Outgoing], next_number: int, tail: Part | None = None) -> None:
        """Count `run` and the bytes of `tail` after it; without a run, only note which number nobody has used. With a
        tail it is the end of a PATCH."""
        if tail is not None:
            record = self._counting(run, next_number, tail.size)
            await self._write(replace(record, window=max(self._burned, RESTING_WINDOW)), tail.payload())
        elif run:
            await self._write(replace(self._counting(run, next_number), window=WINDOW), NOTHING)
        else:
            await self._write_again(replace(self._record, next_number=next_number, window=WINDOW))
        self._note(run)

    def _counting(self, run: list[Outgoing], next_number: int, tail_bytes: int = 0) -> Record:
        record = self._record
        whole = record.crc
        for each in run:
            whole = crc.combined(whole, each.crc, each.size)
        record = record.counting(
            [each.number for each in run], sum(each.size for each in run), tail_bytes, whole, time.time()
        )
        return replace(record, multipart=self._multipart, next_number=max(next_number, record.next_number))

    def _note(self, run: list[Outgoing]) -> None:
        self._taken |= {each.number: Taken(each.etag, each.crc) for each in run if each.etag is not None}

    async def _write(self, record: Record, tail: Payload) -> None:
        key = self._bucket.names.info(record.upload.id)
        self._is_newest = False
        try:
            self._link = await self._bucket.chain.append(key, record, tail, after=self._link)
        except Superseded:
            if self._link is not None:
                raise
            found = await self._bucket.chain.read(key)
            if found is None or not found.record.is_terminated:
                raise FileExistsError(record.upload.id) from None
            self._link = await self._bucket.chain.append(key, record, tail, after=found)
        self._record = self._link.record
        self._is_assumed, self._is_newest = False, True

    async def _refresh(self) -> None:
        """After Superseded: what this process had left was not the newest state, as it had assumed. Go on upon that if
        it counts the same bytes, else raise what the request earns."""
        before = self._record
        if not self._is_assumed or self._bucket.has_lost(before.upload.id):
            raise Superseded
        newest = await self._bucket.chain.read(self._bucket.names.info(before.upload.id))
        if newest is None:
            raise upload_not_found()
        record = newest.record
        if record.is_terminated:
            raise upload_not_found()
        if record.upload.offset != before.upload.offset:
            raise mismatched_offset(record.upload.offset)
        is_alike = (record.tail_start, record.parts) == (before.tail_start, before.parts)
        is_receiving = record.upload.state is State.RECEIVING
        if not (is_alike and is_receiving and record.multipart in (None, self._multipart)):
            raise Superseded
        if self._complete is not None:
            if record.upload.length != before.upload.length:
                raise Superseded
            self._complete = record.with_offset(self._complete.upload.offset)
        if (record.next_number, record.window) != (before.next_number, before.window):
            self._is_clean = False  # its holder may have used numbers, and its requests be under way (failures F22)
        self._link, self._record, self._is_assumed = newest, record, False

    async def _write_again(self, record: Record) -> None:
        """`record` with the tail that there is; it may not be in memory any more, or is being gathered upon."""
        tail = self._tail or await self._reread()
        try:
            await self._write(record, tail.payload())
        finally:
            if tail is not self._tail:
                tail.release()

    async def _reread(self) -> Part:
        """The tail as S3 has it."""
        tail = Part(self._bucket.memory)
        if not self._record.tail_bytes or self._link is None:
            return tail
        try:
            found = await self._bucket.newest(self._record.upload.id, tail, self._link.record)
            if found is None or found.version != self._link.version:
                raise Superseded
        except BaseException:
            tail.release()
            raise
        return tail

    # Finishing.

    @property
    def _is_own(self) -> bool:
        """Whether the state is there to stay, so that what it says may be done for good."""
        key = self._bucket.names.info(self._record.upload.id)
        return self._link is None or self._bucket.chain.is_own(key, self._link)

    async def _send_tail(self) -> None:
        """The last part, of an upload whose length was declared when all bytes were there."""
        self._tail = tail = self._tail or await self._reread()
        outgoing = Outgoing(self._record.next_number + self._burned, tail.size, tail.crc)
        await self._send(outgoing, tail)
        self._complete = self._counting([outgoing], outgoing.number + 1)
        self._note([outgoing])

    async def _finish_small(self, digest: Digest | None) -> None:
        record, bucket = self._record, self._bucket
        whole = self._tail or await self._reread()
        self._tail = whole
        complete = replace(self._complete or record, crc=whole.crc)
        is_put = record.upload.state is State.RECEIVING and await assembling.put_if_absent(bucket, complete, whole)
        if not is_put:
            if record.upload.state is State.RECEIVING or not self._is_own:
                tail = replace(complete, tail_bytes=whole.size).in_state(State.ASSEMBLING)
                await self._write(tail, whole.payload())
            await assembling.put(bucket, complete, whole)
        text = await digest.text(whole.read) if digest is not None else None
        await self._write(complete.finished(time.time(), text, owes=self._owes), NOTHING)

    async def _finish_multipart(self, digest: Digest | None) -> None:
        if self._complete is not None or self._record.upload.state is State.RECEIVING or not self._is_own:
            record = self._complete or self._record
            await self._write(record.in_state(State.ASSEMBLING), NOTHING)
        await assembling.complete(self._bucket, self._record, self._taken)
        text = None
        if digest is not None:
            text = await digest.text(partial(assembling.read, self._bucket, self._record))
        await self._write(self._record.finished(time.time(), text, owes=self._owes), NOTHING)


async def _nothing() -> AsyncIterator[bytes]:
    for piece in tuple[bytes, ...]():
        yield piece
