"""The news of uploads: who hears which, in what order, what is missed, and that nobody pays who does not watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import anyio
import pytest
from feeding import END
from feeding import Feed as Client

from tusd_py.core import feed as feed_module
from tusd_py.core.body import Body
from tusd_py.core.commands import Append, Create
from tusd_py.core.feed import Feed, News, Watch
from tusd_py.core.rules import Rules
from tusd_py.core.upload import Metadata, State, Upload, UploadId, new_id
from tusd_py.core.uploads import Uploads
from tusd_py.errors import TusError
from tusd_py.lockers.memory import MemoryLocker
from tusd_py.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

ONE, OTHER = UploadId("1" * 32), UploadId("2" * 32)


def upload(upload_id: UploadId = ONE, offset: int = 0) -> Upload:
    return Upload(id=upload_id, length=10, offset=offset)


class Relay:
    """Another process that listens or not, and what it was told."""

    def __init__(self) -> None:
        self.has_listeners = False
        self.sent: list[bytes] = []
        self.heard: Callable[[bytes], None] | None = None
        self.missed: Callable[[], None] | None = None

    def send(self, _upload_id: UploadId, message: bytes) -> None:
        self.sent.append(message)

    def listen(self, heard: Callable[[bytes], None], missed: Callable[[], None]) -> None:
        assert self.heard is None
        self.heard, self.missed = heard, missed

    def leave(self) -> None:
        self.heard = self.missed = None


async def told(watch: Watch) -> list[News]:
    with anyio.fail_after(5):
        return [news for _, news in await watch.news()]


async def test_everybody_hears_of_theirs_in_order_and_only_the_newest() -> None:
    feed = Feed()
    with feed.watch(frozenset({ONE})) as one, feed.watch(None) as everything:
        feed.changed(upload(ONE, 1))
        feed.changed(upload(OTHER, 1))
        feed.changed(upload(ONE, 2))
        feed.removed(OTHER, "terminated")
        assert [(news.upload_id, news.received) for news in await told(one)] == [(ONE, 2)]
        assert [(news.upload_id, news.reason) for news in await told(everything)] == [(ONE, ""), (OTHER, "terminated")]
        feed.changed(upload(OTHER, 3))
        feed.changed(upload(ONE, 3))
        assert [news.received for news in await told(one)] == [3]


async def test_who_comes_back_hears_what_it_missed_and_a_stranger_is_told_to_look() -> None:
    feed = Feed()
    with feed.watch(None) as watch:
        assert watch.has_missed  # it was nowhere before
        feed.changed(upload(ONE, 1))
        ((number, _),) = await watch.news()
        place = feed.place(number)
    feed.changed(upload(ONE, 2))  # between the two; it lingers
    feed.changed(upload(OTHER, 1))
    with feed.watch(None, place) as watch:
        assert not watch.has_missed
        assert [(news.upload_id, news.received) for news in await told(watch)] == [(ONE, 2), (OTHER, 1)]
    with feed.watch(frozenset({OTHER}), place) as watch:
        assert [news.upload_id for news in await told(watch)] == [OTHER]
    for since in ("", "x", "-", f"{place}0", f"x{place}", feed.place(-1), "\u0661-\u0661"):
        with feed.watch(None, since) as watch:
            assert watch.has_missed, since


async def test_what_is_older_than_the_history_was_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_LONGEST_HISTORY", 3)
    feed = Feed()
    with feed.watch(None):
        place = feed.place()
        for offset in range(3):
            feed.changed(upload(ONE, offset))
        with feed.watch(None, place) as watch:
            assert not watch.has_missed
        feed.changed(upload(ONE, 3))
        with feed.watch(None, place) as watch:
            assert watch.has_missed


async def test_a_reader_that_is_slow_costs_no_more_than_its_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_MOST_PENDING", 5)
    feed = Feed()
    with feed.watch(None) as watch:
        watch.has_missed = False
        for offset in range(1_000):
            feed.changed(upload(ONE, offset))
        assert [news.received for news in await told(watch)] == [999]
        for _ in range(6):
            feed.changed(upload(new_id()))
        assert watch.has_missed
        assert await told(watch) == []


async def test_without_an_audience_nothing_is_told_or_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "LINGER_SECONDS", 0.0)
    relay = Relay()
    feed = Feed(relay)
    feed.changed(upload())
    assert not feed.has_audience
    assert relay.sent == []
    assert relay.heard is None
    with feed.watch(None):
        assert relay.heard is not None
        feed.changed(upload(ONE, 1))
        place = feed.place()
        assert feed.progress(ONE) is not None
    await asyncio.sleep(0.01)  # the lingering, which was made short
    assert not feed.has_audience
    assert relay.heard is None
    assert feed.progress(ONE) is None  # from now on, it is gathered again
    assert feed.has_audience
    with feed.watch(None, place) as watch:
        assert watch.has_missed


async def test_other_processes_are_told_and_heard() -> None:
    relay = Relay()
    feed = Feed(relay)
    relay.has_listeners = True
    full = Upload(
        id=ONE,
        length=None,
        metadata=Metadata("name w7w=", {"name": "ü\udce4"}),
        offset=3,
        state=State.ASSEMBLING,
        partials=(OTHER, ONE),
        expire_after_seconds=2.5,
    )
    feed.changed(full)
    feed.removed(OTHER, "expired")
    assert all(line.isascii() and b"\n" not in line for line in relay.sent)
    other = Relay()
    hearer = Feed(other)
    with hearer.watch(None) as watch:
        for line in relay.sent:
            other.heard(line)
        assert await told(watch) == [News(ONE, full, 3), News(OTHER, None, reason="expired")]
        assert other.sent == []  # hearsay is not passed on


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b'{"upload_id":"x","upload":{},"new":1}', b"\xff", b'{"upload":3}']
)
async def test_what_cannot_be_understood_counts_as_missed(line: bytes) -> None:
    relay = Relay()
    feed = Feed(relay)
    with feed.watch(None) as watch:
        watch.has_missed = False
        place = feed.place()
        relay.heard(line)
        assert watch.has_missed
        with feed.watch(None, place) as late:
            assert late.has_missed  # there is a hole since then


async def test_when_the_way_to_the_others_was_lost_it_is_said() -> None:
    relay = Relay()
    feed = Feed(relay)
    with feed.watch(None) as watch:
        watch.has_missed = False
        relay.missed()
        assert await told(watch) == []
        assert watch.has_missed


async def test_the_end_of_the_server_ends_every_watch() -> None:
    feed = Feed()
    with feed.watch(None) as watch:
        feed.stop()
        assert await told(watch) == []
        assert watch.is_over
    with feed.watch(None) as late:
        assert late.is_over
    assert not feed.has_audience


def said(upload: Upload, *, is_active: bool = False) -> bytes:
    return News(upload.id, upload, upload.offset, is_active=is_active).encode()


async def test_what_other_processes_say_too_late_counts_for_nothing() -> None:
    relay = Relay()
    feed = Feed(relay)
    done = replace(upload(ONE, 10), state=State.AVAILABLE)
    gone = News(OTHER, None, reason="terminated")
    with feed.watch(None) as watch:
        await told(watch)
        for line in (said(upload(ONE, 5)), said(upload(ONE, 3)), said(done), said(upload(ONE, 7), is_active=True)):
            relay.heard(line)
        for line in (said(upload(OTHER, 5)), gone.encode(), said(upload(OTHER, 8)), said(replace(done, id=OTHER))):
            relay.heard(line)
        assert await told(watch) == [News(ONE, done, 10), gone]


async def test_what_comes_after_the_end_counts_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """The id of a final upload comes again when it is made of the same partials."""
    monkeypatch.setattr(feed_module, "_OVER_SECONDS", 0.0)
    feed = Feed()
    with feed.watch(None) as watch:
        feed.removed(ONE, "terminated")
        feed.changed(upload(ONE, 0))
        assert [news.upload for news in await told(watch)] == [upload(ONE, 0)]


async def test_a_body_that_ended_elsewhere_rests_unless_another_follows_anywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_module, "TELL_EVERY_SECONDS", 0.02)
    relay = Relay()
    relay.has_listeners = True
    feed = Feed(relay)
    with feed.watch(None) as watch:
        await told(watch)
        relay.heard(said(upload(ONE, 5), is_active=True))
        relay.heard(said(upload(OTHER, 5), is_active=True))
        relay.heard(said(replace(upload(OTHER, 10), state=State.AVAILABLE)))
        (active, available) = await told(watch)
        assert (active.is_active, available.is_over) == (True, True)
        (resting,) = await told(watch)  # and nothing of the other one, which is finished
        assert (resting.upload_id, resting.is_active, resting.received) == (ONE, False, 5)
        assert relay.sent == []  # that is for each to find out


async def test_of_whom_nothing_is_heard_is_not_active_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process was killed in the middle of a body."""
    monkeypatch.setattr(feed_module, "TELL_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(feed_module, "ACTIVE_SECONDS", 0.1)
    relay = Relay()
    feed = Feed(relay)
    with feed.watch(None) as watch:
        relay.heard(News(ONE, upload(ONE, 5), received=7, is_active=True).encode())
        (active,) = await told(watch)
        assert active.is_active
        (silent,) = await told(watch)
        assert (silent.upload_id, silent.is_active, silent.received) == (ONE, False, 7)


# As the core tells it.


@pytest.fixture
async def uploads() -> AsyncIterator[Uploads]:
    return Uploads(MemoryStore(), MemoryLocker(), Rules())


async def make(uploads: Uploads, length: int | None = 10) -> Upload:
    command = Create(length=length, metadata=Metadata(), has_body=False)
    return await uploads.create(command, Body(Client(END)))


async def test_an_upload_is_told_of_from_its_creation_to_its_end(uploads: Uploads) -> None:
    with uploads.feed.watch(None) as watch:
        made = await make(uploads)
        assert [news.upload for news in await told(watch)] == [made]
        await uploads.append(Append(made.id, 0), Body(Client(b"01234", END)))
        (news,) = await told(watch)
        assert (news.upload.offset, news.received, news.is_active) == (5, 5, True)
        await uploads.append(Append(made.id, 5), Body(Client(b"56789", END)))
        (news,) = await told(watch)
        assert (news.upload.state, news.is_active) == (State.AVAILABLE, False)
        await uploads.terminate(made.id)
        assert await told(watch) == [News(made.id, None, reason="terminated")]


async def test_a_body_on_its_way_is_told_of_now_and_then_and_when_it_pauses(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "TELL_EVERY_SECONDS", 0.01)
    made = await make(uploads)
    with uploads.feed.watch(frozenset({made.id})) as watch:
        assert await told(watch) == []  # it is new here, and is to look at the upload itself
        client = Client(b"012")
        appending = asyncio.create_task(uploads.append(Append(made.id, 0), Body(client)))
        (news,) = await told(watch)
        assert (news.received, news.upload.offset, news.is_active) == (3, 0, True)
        (again,) = await told(watch)  # that nothing more comes is told once
        assert again == news
        with anyio.move_on_after(0.1):
            await watch.news()
            pytest.fail("told for the third time")
        client.give(b"3456", END)
        await appending
        seen = await told(watch)
        while seen[-1].is_active:  # most often the next body follows at once, so its end is told a little later
            seen = await told(watch)
        assert (seen[-1].received, seen[-1].upload.offset) == (7, 7)


async def test_of_a_body_that_breaks_it_is_told_at_once(uploads: Uploads) -> None:
    made = await make(uploads)
    with uploads.feed.watch(None) as watch:
        broken = Body(Client(b"012", TusErrorOfTheNetwork()))
        with pytest.raises(TusError):
            await uploads.append(Append(made.id, 0), broken)
        (news,) = await told(watch)
        assert (news.upload.offset, news.is_active) == (3, False)


async def test_a_creation_that_fails_is_taken_back(uploads: Uploads) -> None:
    with uploads.feed.watch(None) as watch:
        command = Create(length=10, metadata=Metadata(), has_body=True)
        with pytest.raises(TusError):
            await uploads.create(command, Body(Client(b"012", TusErrorOfTheNetwork())))
        assert [(news.upload, news.reason) for news in await told(watch)] == [(None, "unknown")]


async def test_what_expires_is_told_of() -> None:
    store = MemoryStore()
    uploads = Uploads(store, MemoryLocker(), Rules(expire_after_seconds=0.001))
    made = await make(uploads)
    entry = store._entry(made.id)
    entry.upload = replace(entry.upload, created_at=1.0, touched_at=1.0)
    with uploads.feed.watch(None) as watch:
        assert await uploads.sweep() == 1
        assert await told(watch) == [News(made.id, None, reason="expired")]


def TusErrorOfTheNetwork() -> TusError:
    from tusd_py.core.body import unexpected_eof

    return unexpected_eof()
