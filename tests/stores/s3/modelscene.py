"""What the simulated processes do with one upload, and what must be true of it meanwhile, whatever comes between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from modelloop import Process, at_once
from modelnetwork import Network, ProcessLocks, new_store
from modelstorage import NOW, SimulatedStorage
from s3scene import Feed

from tusd_py.core.body import Body
from tusd_py.core.checksum import Checksum
from tusd_py.core.upload import Upload, UploadId
from tusd_py.errors import RequestError, TusError, mismatched_offset
from tusd_py.stores.s3.record import Record

ID = UploadId(f"{1:032x}")
WRITERS = "ABC"
MOST_TRIES = 12


class Wrong(Exception):
    """Something that must never be."""


def written_by(name: str, start: int, count: int) -> bytes:
    """Each byte tells whose it is and where it belongs."""
    return bytes(64 * (WRITERS.index(name) + 1) + position for position in range(start, start + count))


def told(content: bytes) -> str:
    """`AAAB`: whose bytes these are, and `?` where they do not belong."""
    names = ((WRITERS[each // 64 - 1] if each >= 64 else "?", each % 64) for each in content)
    return "".join(name if at == position else "?" for position, (name, at) in enumerate(names)) or "nothing"


class Monitor:
    """Looks at the storage at every moment, and hears all that is acknowledged. `acknowledged` are the bytes, by
    position; `content` is what there was the last time."""

    def __init__(self, network: Network, *, is_conditional: bool, has_sums: bool) -> None:
        self.acknowledged: dict[int, int] = {}
        self.content = b""
        self.length: int | None = None
        self.may_be_gone = False
        self.is_gone = False
        self.is_shown = True
        self.is_finished = False
        self._seen: tuple[object, ...] = ()
        self._storage = network.storage
        self._is_conditional = is_conditional
        self._store = new_store(network, None if is_conditional else ProcessLocks(network), has_sums=has_sums)

    def fingerprint(self) -> int:
        known = tuple(sorted(self.acknowledged.items()))
        return hash((known, self.content, self.length, self.may_be_gone, self.is_gone))

    def hear(self, start: int, data: bytes) -> None:
        """The bytes from `start` on were acknowledged to be these."""
        for position, byte in enumerate(data, start):
            if self.acknowledged.setdefault(position, byte) != byte:
                raise Wrong(f"two writers were both told that byte {position} is theirs")

    def hear_length(self, length: int) -> None:
        if self.length not in (None, length):
            raise Wrong(f"the length was {self.length}, and now {length} was acknowledged")
        self.length = length

    def look(self) -> None:
        """Raises Wrong. What has not changed since the last time is well."""
        heard = (self._storage.changes, len(self.acknowledged), self.length, self.is_gone)
        if heard == self._seen:
            return
        self._seen = heard
        shown = self._shown()
        self.is_shown, self.is_finished = shown is not None, shown is not None and shown.is_available
        if shown is None:
            if not self.may_be_gone:
                raise Wrong("the upload is gone")
            # Without conditions, only what somebody was told is for good.
            self.is_gone = self.is_gone or self._is_conditional
            return
        if self.is_gone:
            raise Wrong("a terminated upload has come back")
        content = self._content()
        self._compare(shown, content)
        self.content = content

    def read_all(self) -> None:
        """As a download does."""
        shown = self._shown()
        if shown is None or not shown.is_available:
            raise Wrong("the upload is not available")
        content = at_once(self._downloaded(shown.length or 0))
        self._compare(shown, content)
        if len(content) != shown.length:
            raise Wrong(f"{len(content)} bytes were read of {shown.length}")

    def sweep(self, *, of_multiparts: bool) -> None:
        """After which nothing may be left of an upload that was terminated."""
        for _ in range(2):
            at_once(self._swept())
        left = [*self._storage.objects, *(self._storage.multiparts if of_multiparts else ())]
        if left:
            raise Wrong(f"the sweep leaves {' and '.join(left).replace(ID, 'id')}")

    def _compare(self, shown: Upload, content: bytes) -> None:
        if shown.offset != len(content):
            raise Wrong(f"the offset is {shown.offset}, and there is {told(content)}")
        if self.length is not None and shown.length != self.length:
            raise Wrong(f"the length {self.length} was acknowledged, and now it is {shown.length}")
        if shown.length is not None and shown.offset > shown.length:
            raise Wrong(f"the offset {shown.offset} is beyond the length")
        if "?" in told(content):
            raise Wrong(f"bytes are where they do not belong: {told(content)}")
        lost = [at for at, byte in self.acknowledged.items() if at >= len(content) or content[at] != byte]
        if lost:
            raise Wrong(f"byte {min(lost)} was acknowledged, and is not there: {told(content)}")
        # Without conditions, what nobody was told may be replaced.
        if self._is_conditional and not content.startswith(self.content):
            raise Wrong(f"{told(content)} has replaced {told(self.content)}")

    def _shown(self) -> Upload | None:
        try:
            return at_once(self._store.read(ID))
        except RequestError as error:
            if error.status != 404:
                raise Wrong(f"who looks is told: {error!r}") from error
            return None

    def _content(self) -> bytes:
        """The bytes that the newest state counts, wherever they are."""
        link = at_once(self._store.bucket.chain.read(self._store.bucket.names.info(ID)))
        if link is None:
            raise Wrong("there is no state")
        record = link.record
        multipart = self._storage.multiparts.get(record.multipart or "")
        if record.upload.is_available or (record.parts and multipart is None):
            return self._object(record)
        parts = multipart.parts if multipart is not None else {}
        lacking = [number for number in record.numbers if number not in parts]
        if lacking:
            raise Wrong(f"the state counts part {lacking[0]}, which is not there")
        head = b"".join(parts[number] for number in record.numbers)
        if len(head) != record.tail_start:
            raise Wrong(f"the parts that count have {len(head)} bytes instead of {record.tail_start}")
        tail_of = self._storage.objects[link.version if not self._is_conditional else f"{ID}.info"].body
        return head + tail_of[tail_of.index(b"\n") + 1 :]

    def _object(self, record: Record) -> bytes:
        found = self._storage.objects.get(record.key)
        if found is None:
            raise Wrong(f"{record.upload.offset} bytes are told to be there, and there is nothing")
        return found.body

    async def _downloaded(self, length: int) -> bytes:
        return b"".join([bytes(piece) async for piece in self._store.read_range(ID, 0, length)])

    async def _swept(self) -> None:
        assert [each async for each in self._store.unfinished()] == []
        await self._store.sweep_leftovers(_free)


@asynccontextmanager
async def _free(_upload_id: UploadId) -> AsyncIterator[None]:
    yield


class Actor:
    """One process, and the requests that reach it. `say` is told what became of each."""

    def __init__(
        self, process: Process, network: Network, monitor: Monitor, say: Callable[[str], None], *, has_sums: bool
    ) -> None:
        self.process = process
        self._monitor = monitor
        self._say = say
        self._locks = None if monitor._is_conditional else ProcessLocks(network)
        self._store = new_store(network, self._locks, has_sums=has_sums)

    async def create(self, length: int | None) -> None:
        async with self._request(f"POST of {length}"):
            await (await self._store.create(Upload(id=ID, length=length, created_at=NOW))).close()
            if length is not None:
                self._monitor.hear_length(length)

    async def patch(self, offset: int, count: int, checksum: Checksum | None = None) -> None:
        """As `core.uploads` does it."""
        async with self._request(f"PATCH of {count} at {offset}"):
            stored = await self._store.open(ID, offset)
            try:
                if stored.upload.offset != offset or stored.upload.is_available:
                    raise mismatched_offset(stored.upload.offset)
                data = written_by(self.process.name, offset, count)
                body = Body(Feed(data), checksum=checksum)
                if stored.upload.length is not None:
                    body.bound(stored.upload.length - offset)
                await stored.append(body)
                if stored.upload.has_all_bytes:
                    await stored.finish()
                self._monitor.hear(offset, data[: stored.upload.offset - offset])
                if body.error is not None:
                    raise body.error
                self._say(f"{self.process.name} is told: the offset is {stored.upload.offset}")
            finally:
                await stored.close()

    async def finish(self) -> None:
        """As who finds that all bytes are there, and the upload is not finished."""
        async with self._request("finish"):
            stored = await self._store.open(ID)
            try:
                if stored.upload.has_all_bytes:
                    await stored.finish()
                    self._say(f"{self.process.name} is told: it is finished")
            finally:
                await stored.close()

    async def declare_length(self, length: int) -> None:
        async with self._request(f"length {length}"):
            stored = await self._store.open(ID)
            await stored.close()
            if stored.upload.length is None:
                await self._store.declare_length(ID, length)
                self._monitor.hear_length(length)
                self._say(f"{self.process.name} is told: the length is {length}")

    async def terminate(self) -> None:
        self._monitor.may_be_gone = True
        async with self._request("DELETE"):
            await self._store.terminate(ID)
            self._monitor.is_gone = True
            self._say(f"{self.process.name} is told: it is gone")

    async def resume(self, length: int, most: int = 16) -> None:
        """Until all is there, or the upload is gone."""
        for _ in range(MOST_TRIES):
            try:
                found = await self._store.read(ID)
            except TusError as error:
                if error.status == 404 and self._monitor.may_be_gone:
                    return
                if error.status in (500, 503):
                    continue
                raise
            if found.is_available:
                return
            if found.length is None:
                await self.declare_length(length)
            elif found.has_all_bytes:
                await self.finish()
            else:
                await self.patch(found.offset, min(most, found.length - found.offset))
        raise Wrong(f"{self.process.name} tries again and again, and cannot finish the upload")

    @asynccontextmanager
    async def _request(self, what: str) -> AsyncIterator[None]:
        self._say(f"{self.process.name}: {what}")
        try:
            if self._locks is not None:
                await self._locks.claim()
            yield
        except TusError as error:
            self._say(f"{self.process.name} is told: {error.status} {error.message}")
        finally:
            if self._locks is not None:
                self._locks.release()


Act = Callable[[Actor], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Scenario:
    """`before` happens first, one after the other, by whom; then `at_once` does what each is to do; at last C resumes
    the upload, up to `length`. `leaves_no_multiparts` is what is asked of the sweep, if it was terminated."""

    length: int
    before: tuple[tuple[str, Act], ...]
    at_once: dict[str, tuple[Act, ...]]
    leaves_no_multiparts: bool = False


class Scene:
    """One run of a scenario: a storage, three processes, and who looks at them."""

    def __init__(self, scenario: Scenario, say: Callable[[str], None], *, is_conditional: bool, has_sums: bool) -> None:
        self.scenario = scenario
        self.storage = SimulatedStorage(has_sums=has_sums)
        self.network = Network(self.storage)
        self.monitor = Monitor(self.network, is_conditional=is_conditional, has_sums=has_sums)
        self.processes = {name: Process(name) for name in WRITERS}
        self._actors = {
            name: Actor(process, self.network, self.monitor, say, has_sums=has_sums)
            for name, process in self.processes.items()
        }

    def before(self) -> Iterator[tuple[Process, Coroutine[Any, Any, None]]]:
        """Each is to end before the next."""
        for name, act in self.scenario.before:
            process = self.processes[name]
            process.asks_at_once = True
            yield process, act(self._actors[name])
            process.asks_at_once = False

    async def work(self, name: str) -> None:
        acts: tuple[Act, ...] = (resume(self.scenario.length),) if name == "C" else self.scenario.at_once[name]
        for act in acts:
            await act(self._actors[name])


def create(length: int | None) -> Act:
    return lambda actor: actor.create(length)


def patch(offset: int, count: int) -> Act:
    return lambda actor: actor.patch(offset, count)


def patch_in_vain(offset: int, count: int) -> Act:
    """With a wrong checksum: nothing of it counts (promise 6)."""
    return lambda actor: actor.patch(offset, count, Checksum("sha1", bytes(20)))


def resume(length: int) -> Act:
    return lambda actor: actor.resume(length)


def declare_length(length: int) -> Act:
    return lambda actor: actor.declare_length(length)


finish: Act = Actor.finish
terminate: Act = Actor.terminate
