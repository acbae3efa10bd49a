"""The stream of events, message by message: what it begins with, what comes, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from tusd_py import Config, create_app
from tusd_py.core.body import Body
from tusd_py.core.commands import Append, Create
from tusd_py.core.upload import Metadata, Upload
from tusd_py.core.uploads import Uploads
from tusd_py.metrics import Metrics
from tusd_py.stores.disk import DiskStore
from tusd_py.web.api import endpoint as endpoint_module
from tusd_py.web.api import stream as stream_module

pytestmark = pytest.mark.anyio

Event = dict[str, Any]


class Bytes:
    """A `Source` of these."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def fill(self, sink: Any) -> None:
        if self._data:
            sink.buffer()[: len(self._data)] = self._data
            if (pause := sink.filled(len(self._data))) is not None:
                await pause


class Reader:
    """A browser's EventSource: parses what it is sent."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.comments = 0
        self.retry = 0
        self.is_ended = False
        self.events: list[Event] = []
        self.news = asyncio.Event()
        self.leaves = asyncio.Event()
        self._rest = ""

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            *blocks, self._rest = (self._rest + message["body"].decode()).split("\n\n")
            for block in blocks:
                self._take(block)
            self.is_ended = not message.get("more_body", False)
        self.news.set()

    async def receive(self) -> Any:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    def _take(self, block: str) -> None:
        if block.startswith(":"):
            self.comments += 1
        elif block.startswith("retry: "):
            self.retry = int(block.removeprefix("retry: "))
        else:
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            assert fields.keys() == {"id", "event", "data"}
            self.events.append(fields | {"data": json.loads(fields["data"])})

    async def until(self, is_enough: Callable[[Reader], object]) -> None:
        with anyio.fail_after(10):
            while not is_enough(self):
                self.news.clear()
                await self.news.wait()

    @property
    def told(self) -> list[tuple[str, object]]:
        """Each event's name, and the offset or the reason."""
        return [(each["event"], each["data"].get("offset", each["data"].get("reason"))) for each in self.events]


class House:
    def __init__(self, app: Any) -> None:
        self.app = app
        self.uploads: Uploads = app.state.uploads

    @asynccontextmanager
    async def watching(
        self, query: str = "", since: str = "", method: str = "GET", host: str = "h"
    ) -> AsyncIterator[Reader]:
        reader = Reader()
        headers = [(b"host", host.encode())] + ([(b"last-event-id", since.encode())] if since else [])
        scope = {
            "type": "http", "method": method, "path": "/api/events", "root_path": "", "scheme": "http",
            "query_string": query.encode(), "headers": headers, "http_version": "1.1",
        }  # fmt: skip
        running = asyncio.create_task(self.app(scope, reader.receive, reader.send))
        try:
            await reader.until(lambda reader: reader.status)
            yield reader
        finally:
            reader.leaves.set()
            with anyio.fail_after(5):
                await running

    async def make(self, length: int = 10) -> Upload:
        return await self.uploads.create(Create(length, Metadata("filename YQ==", {"filename": "a"})), Body(Bytes(b"")))

    async def append(self, upload: Upload, offset: int, data: bytes) -> None:
        await self.uploads.append(Append(upload.id, offset), Body(Bytes(data)))


@pytest.fixture
async def house(tmp_path: Any) -> AsyncIterator[House]:
    config = Config(upload_dir=str(tmp_path), locker="memory", list_uploads=True)
    app = create_app(config)
    async with app.router.lifespan_context(app):
        yield House(app)


async def test_it_begins_with_the_states_as_they_are(house: House) -> None:
    made = await house.make()
    await house.append(made, 0, b"abc")
    async with house.watching(f"id={made.id}&id={'0' * 32}") as reader:
        await reader.until(lambda reader: len(reader.events) == 2)
        assert reader.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
        assert reader.headers[b"cache-control"] == b"no-store"
        assert reader.retry == 2000
        assert sorted(reader.told) == [("removed", "unknown"), ("upload", 3)]
        (status,) = (each["data"] for each in reader.events if each["event"] == "upload")
        assert status["url"] == f"http://h/files/{made.id}"
        assert status["metadata"] == {"filename": "a"}


async def test_it_tells_what_happens_to_those_and_to_no_others(house: House) -> None:
    made, other = await house.make(), await house.make()
    async with house.watching(f"id={made.id}") as reader:
        await reader.until(lambda reader: reader.events)
        await house.append(other, 0, b"abc")
        await house.append(made, 0, b"abc")
        await reader.until(lambda reader: len(reader.events) == 2)
        await house.append(made, 3, b"defghij")
        await reader.until(lambda reader: reader.events[-1]["data"].get("state") == "available")
        await house.uploads.terminate(other.id)
        await house.uploads.terminate(made.id)
        await reader.until(lambda reader: reader.told[-1] == ("removed", "terminated"))
        assert {each["data"]["id"] for each in reader.events} == {made.id}


async def test_all_are_watched_where_that_is_allowed_and_one_is_told_to_look(house: House) -> None:
    before = await house.make()
    async with house.watching() as reader:
        await reader.until(lambda reader: reader.events)
        assert reader.told == [("reset", None)]
        made = await house.make()
        await house.append(before, 0, b"a")
        await reader.until(lambda reader: len(reader.events) == 3)
        assert [each["data"]["id"] for each in reader.events[1:]] == [made.id, before.id]


@pytest.mark.parametrize("by", ["header", "query"])
async def test_it_goes_on_where_it_was(house: House, by: str) -> None:
    made = await house.make()
    async with house.watching(f"id={made.id}") as reader:
        await reader.until(lambda reader: reader.events)
        since = reader.events[-1]["id"]
    await house.append(made, 0, b"abc")
    query, header = (f"id={made.id}", since) if by == "header" else (f"id={made.id}&last_event_id={since}", "")
    async with house.watching(query, header) as reader:
        await reader.until(lambda reader: reader.events)
        assert reader.told == [("upload", 3)]
        since = reader.events[-1]["id"]
    async with house.watching(f"id={made.id}", since) as reader:  # nothing was missed, so nothing is said
        await house.append(made, 3, b"d")
        await reader.until(lambda reader: reader.events)
        assert reader.told == [("upload", 4)]
    async with house.watching(f"id={made.id}", "from-elsewhere") as reader:
        await reader.until(lambda reader: reader.events)
        assert reader.told == [("upload", 4)]


async def test_silence_is_broken_now_and_then(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "HEARTBEAT_SECONDS", 0.01)
    async with house.watching() as reader:
        await reader.until(lambda reader: reader.comments >= 3)
        assert len(reader.events) == 1


async def test_it_ends_when_it_has_lasted_long_and_goes_on_as_a_new_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(stream_module, "LONGEST_SECONDS", 0.05)
    made = await house.make()
    async with house.watching(f"id={made.id}") as reader:
        await reader.until(lambda reader: reader.is_ended)
        since = reader.events[-1]["id"]
    await house.append(made, 0, b"abc")
    async with house.watching(f"id={made.id}", since) as reader:
        await reader.until(lambda reader: reader.events)
        assert reader.told == [("upload", 3)]


async def test_an_event_is_written_once_for_all_who_watch_all(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    describe = endpoint_module.describe

    def counted(upload: Upload, url: str, progress: Any, **options: Any) -> Any:
        written.append(url)
        return describe(upload, url, progress, **options)

    monkeypatch.setattr(endpoint_module, "describe", counted)
    async with house.watching() as one, house.watching() as two, house.watching(host="other") as three:
        made = await house.make()
        for reader in (one, two, three):
            await reader.until(lambda reader: len(reader.events) == 2)
        assert one.events[1] == two.events[1]
        assert three.events[1]["data"]["url"] == f"http://other/files/{made.id}"
        assert sorted(written) == [f"http://h/files/{made.id}", f"http://other/files/{made.id}"]


async def test_nobody_who_watches_is_told_of_activity_that_is_only_guessed(house: House) -> None:
    """Nothing would take it back, where no bytes come any more."""
    made = await house.make()
    await house.append(made, 0, b"abc")
    async with house.watching(f"id={made.id}") as reader:
        await reader.until(lambda reader: reader.events)
        assert reader.events[0]["data"]["is_active"] is False


async def test_offsets_never_go_down_though_news_may_be_older(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await house.make()
    await house.append(made, 0, b"abcde")
    old = await house.uploads.find(made.id)
    await house.append(made, 5, b"fg")
    async with house.watching(f"id={made.id}") as reader:
        await reader.until(lambda reader: reader.events)
        house.uploads.feed.changed(old)
        await reader.until(lambda reader: len(reader.events) == 2)
        assert reader.told == [("upload", 7), ("upload", 7)]


async def test_the_end_of_the_server_ends_it(house: House) -> None:
    async with house.watching() as reader:
        await reader.until(lambda reader: reader.events)
        house.uploads.stop()
        await reader.until(lambda reader: reader.is_ended)


async def test_head_tells_that_there_is_one(house: House) -> None:
    async with house.watching(method="HEAD") as reader:
        await reader.until(lambda reader: reader.is_ended)
        assert (reader.status, reader.events) == (200, [])


async def test_a_storage_that_fails_ends_no_stream(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await house.make()
    read = DiskStore._read
    monkeypatch.setattr(DiskStore, "_read", lambda *_: (_ for _ in ()).throw(OSError(5, "bad disk")))
    async with house.watching(f"id={made.id}") as reader:
        await reader.until(lambda reader: reader.retry)
        monkeypatch.setattr(DiskStore, "_read", read)
        await house.append(made, 0, b"abc")
        await reader.until(lambda reader: reader.events)
        assert reader.told[-1] == ("upload", 3)


@pytest.mark.parametrize(
    ("query", "named"), [("id=a.b", "a.b"), ("id=", "''"), ("x=1", "x"), ("&".join(["id=a"] * 201), "200")]
)
async def test_what_is_wrong_is_named(house: House, query: str, named: str) -> None:
    chunks: list[bytes] = []

    async def send(message: Any) -> None:
        chunks.append(message.get("body", b""))

    scope = {
        "type": "http", "method": "GET", "path": "/api/events", "root_path": "", "query_string": query.encode(),
        "headers": [(b"host", b"h")], "http_version": "1.1",
    }  # fmt: skip
    await house.app(scope, None, send)
    text = b"".join(chunks).decode()
    assert text.startswith("ERR_INVALID_QUERY: ")
    assert named in text


async def test_how_long_somebody_watches_does_not_count_as_slow(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Metrics, "request_ended", lambda _self, *request: told.append(request))
    async with house.watching(f"id={'0' * 32}") as reader:
        await reader.until(lambda reader: reader.events)
    assert told == []
    async with house.watching("x=1"):
        pass
    assert [(method, status) for method, status, *_ in told] == [("GET", 400)]


def test_texts_for_all_take_no_more_memory_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "_MOST_TEXT_BYTES", 100)
    texts = stream_module.Texts()
    for place in "abcdef":
        texts.text(place, "", lambda: b"x" * 30)
    assert [place for place, _ in texts._texts] == ["d", "e", "f"]
    assert texts.text("f", "", lambda: b"again") == b"x" * 30
    assert texts.text("a", "", lambda: b"again") == b"again"
    assert texts.text("long", "", lambda: b"y" * 200) == b"y" * 200
    assert not texts._texts
