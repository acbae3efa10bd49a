"""Uploads: what is checked before the first byte is read, and in what order (failures F34; section 1's order)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from feeding import END, Feed
from scene import NotedStore, Scene, refused

from tusd_py.core.body import Body
from tusd_py.core.commands import Append, Concatenate, Create
from tusd_py.core.ports import Capabilities, Store
from tusd_py.core.rules import Offers, Rules
from tusd_py.core.upload import Upload, UploadId
from tusd_py.core.uploads import Uploads
from tusd_py.lockers.memory import MemoryLocker

pytestmark = pytest.mark.anyio

EXPIRE_SECONDS = 100.0


@dataclass
class Stage:
    """Uploads in every state, in a house with a maximum and an expiry."""

    scene: Scene = field(default_factory=lambda: Scene(Rules(max_size_bytes=1000, expire_after_seconds=EXPIRE_SECONDS)))
    ids: dict[str, UploadId] = field(default_factory=dict)

    async def set_up(self) -> None:
        scene, ids = self.scene, self.ids
        ids["unknown"] = UploadId("unknown")
        ids["receiving"] = (await scene.create(10, b"hello")).id
        ids["deferred"] = (await scene.create(None, b"hello")).id
        ids["finished"] = (await scene.create(5, b"hello")).id
        ids["partial"] = (await scene.partial(5, b"hello")).id
        ids["waiting"] = (await scene.partial(10, b"hello")).id
        ids["final"] = (await scene.final(ids["partial"])).id
        ids["unfinished final"] = (await scene.final(ids["waiting"])).id
        ids["expired"] = (await scene.create(10, b"hello")).id
        ids["expired partial"] = (await scene.partial(10, b"hello")).id
        ids["expired final"] = (await scene.final(ids["expired partial"])).id
        for name in ("expired", "expired partial", "expired final"):
            scene.age(ids[name], EXPIRE_SECONDS + 1)
        scene.store.calls.clear()


@pytest.fixture
async def stage(anyio_backend: str) -> Iterator[Stage]:
    made = Stage()
    await made.set_up()
    yield made
    assert made.scene.is_quiet()


# name of the upload, fields of the append, status, code
APPENDS = {
    "unknown": ("unknown", {"offset": 0}, 404, "ERR_UPLOAD_NOT_FOUND"),
    "expired": ("expired", {"offset": 5}, 410, "ERR_UPLOAD_NOT_FOUND"),
    "final": ("final", {"offset": 5}, 403, "ERR_MODIFY_FINAL"),
    "unfinished final": ("unfinished final", {"offset": 0}, 403, "ERR_MODIFY_FINAL"),
    "offset too small": ("receiving", {"offset": 4}, 409, "ERR_MISMATCHED_OFFSET"),
    "offset too large": ("receiving", {"offset": 6}, 409, "ERR_MISMATCHED_OFFSET"),
    "offset of a deferred one": ("deferred", {"offset": 0}, 409, "ERR_MISMATCHED_OFFSET"),
    "offset of a finished one": ("finished", {"offset": 0}, 409, "ERR_MISMATCHED_OFFSET"),
    "another length": ("receiving", {"offset": 5, "length": 11}, 400, "ERR_INVALID_UPLOAD_LENGTH"),
    "length below the offset": ("deferred", {"offset": 5, "length": 4}, 400, "ERR_INVALID_UPLOAD_LENGTH"),
    "length over the maximum": ("deferred", {"offset": 5, "length": 1001}, 413, "ERR_MAX_SIZE_EXCEEDED"),
    "body past the length": ("receiving", {"offset": 5, "content_length": 6}, 413, "ERR_UPLOAD_SIZE_EXCEEDED"),
    "body past the maximum": ("deferred", {"offset": 5, "content_length": 996}, 413, "ERR_MAX_SIZE_EXCEEDED"),
    "body on a finished one": ("finished", {"offset": 5, "content_length": 1}, 413, "ERR_UPLOAD_SIZE_EXCEEDED"),
    # Pairs: which fault is told first.
    "404 before all": ("unknown", {"offset": 9, "length": 2000, "content_length": 2000}, 404, None),
    "410 before 403": ("expired final", {"offset": 9}, 410, None),
    "410 before 409": ("expired", {"offset": 9, "length": 3}, 410, None),
    "403 before 400": ("final", {"offset": 5, "length": 3}, 403, None),
    "403 before 409": ("final", {"offset": 9}, 403, None),
    "403 before 413": ("final", {"offset": 5, "content_length": 2000}, 403, None),
    "400 before 409": ("receiving", {"offset": 9, "length": 3}, 400, None),
    "409 before 413": ("receiving", {"offset": 4, "content_length": 2000}, 409, None),
    "409 before 413 of the length": ("deferred", {"offset": 4, "length": 2000}, 409, None),
}


@pytest.mark.parametrize(("name", "fields", "status", "code"), APPENDS.values(), ids=APPENDS)
async def test_F34_K15_K18_N6_E3_an_append_is_refused_before_its_first_byte(
    stage: Stage, name: str, fields: dict[str, int], status: int, code: str | None
) -> None:
    feed = Feed(b"x" * 5, END)
    scene, upload_id = stage.scene, stage.ids[name]
    before = scene.store._entries.get(upload_id)
    record = before and (before.upload, bytes(before.data))
    with refused(status, code) as caught:
        await scene.uploads.append(Append(upload_id, **fields), scene.body(feed))
    assert not feed.was_asked.is_set()
    assert scene.store.changes == {}
    after = scene.store._entries.get(upload_id)
    assert (after and (after.upload, bytes(after.data))) == record
    if status == 409:
        assert caught.value.headers == {"Upload-Offset": str(record[0].offset)}


CREATIONS = {
    "length over the maximum": (Create(1001), 413, "ERR_MAX_SIZE_EXCEEDED"),
    "the same of a partial": (Create(1001, is_partial=True, concat="partial"), 413, "ERR_MAX_SIZE_EXCEEDED"),
    "body past the length": (Create(5, has_body=True, content_length=6), 413, "ERR_UPLOAD_SIZE_EXCEEDED"),
    "body past the maximum": (Create(None, has_body=True, content_length=1001), 413, "ERR_MAX_SIZE_EXCEEDED"),
    "body of an empty upload": (Create(0, has_body=True, content_length=1), 413, "ERR_UPLOAD_SIZE_EXCEEDED"),
}


@pytest.mark.parametrize(("command", "status", "code"), CREATIONS.values(), ids=CREATIONS)
async def test_F34_C10_W2_a_creation_is_refused_before_its_first_byte(
    stage: Stage, command: Create, status: int, code: str
) -> None:
    feed = Feed(b"x" * 6, END)
    ids = stage.scene.ids()
    with refused(status, code):
        await stage.scene.uploads.create(command, stage.scene.body(feed))
    assert not feed.was_asked.is_set()
    assert stage.scene.ids() == ids
    assert stage.scene.store.changes == {}


async def test_C10_the_maximum_itself_is_allowed(stage: Stage) -> None:
    assert (await stage.scene.create(1000)).length == 1000
    data = b"x" * 1000
    assert (await stage.scene.create(1000, data, content_length=1000)).is_available
    assert (await stage.scene.create(None, data, content_length=1000)).offset == 1000


async def test_K15_a_refused_append_leaves_the_next_one_alone(stage: Stage) -> None:
    with refused(409):
        await stage.scene.append(stage.ids["receiving"], 4, b"world")
    assert (await stage.scene.append(stage.ids["receiving"], 5, b"world")).is_available
    assert await stage.scene.content(stage.ids["receiving"]) == b"helloworld"


async def test_C4_an_append_that_is_too_long_declares_no_length(stage: Stage) -> None:
    """413 as announced: what is refused before its first byte changes nothing."""
    with refused(413):
        await stage.scene.append(stage.ids["deferred"], 5, b"x" * 9, length=8, content_length=9)
    assert (await stage.scene.store.read(stage.ids["deferred"])).length is None


@pytest.mark.parametrize(
    ("name", "status"),
    [("unknown", 404), ("expired", 410), ("expired final", 410), ("final", 403), ("receiving", None)],
)
async def test_K18_E3_N6_which_upload_comes_before_which_headers(stage: Stage, name: str, status: int | None) -> None:
    if status is None:
        await stage.scene.uploads.refuse_unknown(stage.ids[name])
        return
    with refused(status):
        await stage.scene.uploads.refuse_unknown(stage.ids[name])


async def test_E3_an_expired_upload_is_410_and_may_be_terminated(stage: Stage) -> None:
    with refused(410, "ERR_UPLOAD_NOT_FOUND"):
        await stage.scene.uploads.inspect(stage.ids["expired"])
    await stage.scene.uploads.terminate(stage.ids["expired"])
    with refused(404):
        await stage.scene.uploads.inspect(stage.ids["expired"])


async def test_F34_nothing_new_is_taken_while_stopping(stage: Stage) -> None:
    stage.scene.uploads.stop()
    feed = Feed(b"hello", END)
    body = stage.scene.body(feed)
    with refused(503, "ERR_SERVER_SHUTDOWN"):
        await stage.scene.uploads.append(Append(stage.ids["receiving"], 5), body)
    with refused(503):
        await stage.scene.uploads.create(Create(5, has_body=True, content_length=5), body)
    with refused(503):
        await stage.scene.final(stage.ids["partial"], stage.ids["partial"])
    assert not feed.was_asked.is_set()
    assert stage.scene.store.changes == {}
    assert (await stage.scene.uploads.inspect(stage.ids["receiving"])).offset == 5


class Plain:
    """A store with the basics only."""

    def __init__(self) -> None:
        self._inner = NotedStore()
        self.create, self.read, self.open = self._inner.create, self._inner.read, self._inner.open
        self.aclose = self._inner.aclose


TAKEN_AWAY = Rules(allows_termination=False, allows_concatenation=False, allows_download=False)


@pytest.mark.parametrize(("store", "rules"), [(Plain, Rules()), (NotedStore, TAKEN_AWAY)], ids=["plain", "forbidden"])
async def test_D1_N1_what_is_not_offered_is_refused(store: type[Store], rules: Rules) -> None:
    uploads = Uploads(store(), MemoryLocker(timeout_seconds=1.0), rules)
    made: Upload = await uploads.create(Create(5), Body(Feed()))
    with refused(405, "ERR_METHOD_NOT_ALLOWED"):
        await uploads.terminate(made.id)
    with refused(400, "ERR_CONCATENATION_UNSUPPORTED"):
        await uploads.create(Create(5, is_partial=True, concat="partial"), Body(Feed()))
    with refused(400, "ERR_CONCATENATION_UNSUPPORTED"):
        await uploads.concatenate(Concatenate((made.id,), "final;" + made.id))
    assert (await uploads.append(Append(made.id, 0), Body(Feed(b"hello", END)))).is_available
    offers = uploads.offers
    assert (offers.termination, offers.concatenation, offers.download) == (False, False, False)


async def test_C6_a_store_that_cannot_defer_is_not_asked_to() -> None:
    uploads = Uploads(Plain(), MemoryLocker(timeout_seconds=1.0), Rules(expire_after_seconds=1))
    feed = Feed(b"hello", END)
    with refused(400, "ERR_INVALID_UPLOAD_LENGTH_DEFER"):
        await uploads.create(Create(None, has_body=True, content_length=5), Body(feed))
    assert not feed.was_asked.is_set()
    with refused(405):
        [piece async for piece in uploads.read_range(UploadId("x"), 0, 1)]
    assert await uploads.sweep() == 0
    assert (uploads.offers.deferred_length, uploads.offers.expiration) == (False, False)


def test_C6_E1_D1_N1_everything_is_offered_by_a_store_that_can() -> None:
    rules = Rules(max_size_bytes=5, expire_after_seconds=1)
    offers = Offers.of(rules, Capabilities.of(NotedStore()))
    assert offers == Offers(True, True, True, True, True, 5)
    assert not Offers.of(Rules(), Capabilities.of(NotedStore())).expiration
