"""Uploads: what hooks are asked and told, when, and what comes of it when they say no (failures F31 to F36)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import anyio
import pytest
from feeding import END, Feed
from scene import Scene, refused

from tusd_py.core.body import Body, unexpected_eof
from tusd_py.core.events import AccessMode, Caller, EventType
from tusd_py.core.ports import StoredUpload
from tusd_py.core.rules import Rules
from tusd_py.core.upload import Metadata, State, Upload, UploadId
from tusd_py.core.uploads import Uploads
from tusd_py.errors import BackendError, HookFailed, Refused, Stopped

pytestmark = pytest.mark.anyio

NO = Refused("no", code="ERR_UPLOAD_REJECTED", status=400)
BROKEN = HookFailed("it did not answer")


class Noted:
    """Hooks that write down what they hear. `says` makes the next question of a type fail, or changes its upload."""

    def __init__(self, *deaf: EventType) -> None:
        self.heard: list[str] = []
        self.uploads: list[Upload | None] = []
        self.says: dict[EventType, list[Exception | Callable[[Upload], Upload] | Callable[[], Awaitable[None]]]] = {}
        self.modes: list[AccessMode | None] = []
        self.watched: list[Body] = []
        self.owing: set[UploadId] = set()
        self.forgotten: list[UploadId] = []
        self._deaf = deaf

    def wants(self, event: EventType) -> bool:
        return event not in self._deaf

    async def ask(
        self, event: EventType, upload: Upload | None, caller: Caller, mode: AccessMode | None = None
    ) -> Upload | None:
        self.heard.append(event)
        self.uploads.append(upload)
        self.modes.append(mode)
        said = self.says.get(event)
        word = said.pop(0) if said else None
        if isinstance(word, Exception):
            raise word
        return word(upload) if word is not None else upload

    async def tell(self, event: EventType, upload: Upload, _caller: Caller) -> None:
        self.heard.append(event)
        self.uploads.append(upload)

    async def remind(self, uploads: Sequence[Upload]) -> set[UploadId]:
        self.heard += [f"again {upload.id}" for upload in uploads]
        return {upload.id for upload in uploads} - self.owing

    async def forget(self, upload_id: UploadId) -> None:
        self.forgotten.append(upload_id)

    @contextmanager
    def watch(self, _stored: StoredUpload, body: Body, _caller: Caller) -> Iterator[None]:
        self.watched.append(body)
        yield
        self.watched.remove(body)


@pytest.fixture
def hooks() -> Noted:
    return Noted(EventType.PRE_ACCESS)


@pytest.fixture
def scene(hooks: Noted) -> Scene:
    return Scene(hooks=hooks)


async def test_an_upload_in_two_requests_is_told_in_order(scene: Scene, hooks: Noted) -> None:
    made = await scene.create(5)
    await scene.append(made.id, 0, b"he")
    await scene.append(made.id, 2, b"llo")
    await scene.uploads.terminate(made.id)
    assert hooks.heard == [
        "pre-create", "post-create", "pre-finish", "post-finish", "pre-terminate", "post-terminate",
    ]  # fmt: skip
    assert [upload.offset for upload in hooks.uploads if upload] == [0, 0, 5, 5, 5, 5]


@pytest.mark.parametrize("data", [b"hello", b""])
async def test_an_upload_in_one_request_is_told_in_order(scene: Scene, hooks: Noted, data: bytes) -> None:
    await scene.create(len(data), *([data] if data else []))
    assert hooks.heard == ["pre-create", "pre-finish", "post-create", "post-finish"]


async def test_a_final_upload_is_asked_and_told(scene: Scene, hooks: Noted) -> None:
    partial = await scene.partial(5, b"hello")
    hooks.heard.clear()
    final = await scene.final(partial.id)
    assert hooks.heard == ["pre-create", "post-create", "pre-finish", "post-finish"]
    assert (await scene.final(partial.id)).id == final.id  # asked for again (failures F16)
    assert hooks.heard == ["pre-create", "post-create", "pre-finish", "post-finish"]
    assert await scene.content(final.id) == b"hello"


async def test_an_empty_append_to_a_finished_upload_is_told_to_nobody(scene: Scene, hooks: Noted) -> None:
    made = await scene.create(5, b"hello")
    hooks.heard.clear()
    assert (await scene.append(made.id, 5)).offset == 5
    assert hooks.heard == []  # failures F32


async def test_a_refused_creation_leaves_nothing_and_reads_no_byte(scene: Scene, hooks: Noted) -> None:
    hooks.says[EventType.PRE_CREATE] = [NO]
    feed = Feed(b"hello", END)
    with refused(400, "ERR_UPLOAD_REJECTED"):
        await scene.create(5, feed=feed)
    assert not feed.was_asked.is_set()  # failures F34
    assert (scene.ids(), scene.store.changes, hooks.heard) == (set(), {}, ["pre-create"])
    assert scene.is_quiet()


async def test_a_hook_chooses_id_and_metadata(scene: Scene, hooks: Noted) -> None:
    metadata = Metadata.of({"filename": "b.txt"})
    hooks.says[EventType.PRE_CREATE] = [
        lambda made: replace(made, id=UploadId("mine"), is_named=True, metadata=metadata)
    ]
    made = await scene.create(5, b"hello")
    assert (made.id, made.metadata.raw) == ("mine", "filename Yi50eHQ=")
    assert await scene.content(UploadId("mine")) == b"hello"


async def test_an_id_that_is_taken_is_refused_and_its_upload_is_unharmed(scene: Scene, hooks: Noted) -> None:
    hooks.says[EventType.PRE_CREATE] = [lambda made: replace(made, id=UploadId("mine"), is_named=True)] * 2
    await scene.create(5, b"hello")
    with refused(409, "ERR_UPLOAD_EXISTS"):
        await scene.create(5, b"other")
    assert await scene.content(UploadId("mine")) == b"hello"
    assert scene.is_quiet()


async def test_a_final_under_anothers_id_is_refused(scene: Scene, hooks: Noted) -> None:
    one, two = await scene.partial(5, b"hello"), await scene.partial(5, b"world")
    hooks.says[EventType.PRE_CREATE] = [lambda made: replace(made, id=UploadId("mine"), is_named=True)] * 3
    await scene.final(one.id)
    with refused(409, "ERR_UPLOAD_EXISTS"):
        await scene.final(two.id)
    assert (await scene.final(one.id)).id == "mine"
    assert await scene.content(UploadId("mine")) == b"hello"


@pytest.mark.parametrize("word", [NO, BROKEN], ids=["no", "silence"])
async def test_a_finish_that_is_refused_is_asked_again_and_never_skipped(
    scene: Scene, hooks: Noted, word: Exception
) -> None:
    made = await scene.create(5)
    hooks.says[EventType.PRE_FINISH] = [word, word, word]
    with refused(word.status, word.code):
        await scene.append(made.id, 0, b"hello")
    with refused(word.status, word.code):  # failures F31: tusd answers 204 here
        await scene.append(made.id, 5)
    with refused(423):  # nobody is told that all is there, who would never ask again
        await scene.uploads.inspect(made.id)
    assert not (await scene.uploads.find(made.id)).is_available
    assert "post-finish" not in hooks.heard
    assert (await scene.append(made.id, 5)).is_available
    assert hooks.heard.count("pre-finish") == 4
    assert hooks.heard.count("post-finish") == 1
    assert scene.is_quiet()


async def test_a_finish_that_was_refused_is_asked_again_by_the_sweep(scene: Scene, hooks: Noted) -> None:
    made = await scene.create(5)
    hooks.says[EventType.PRE_FINISH] = [BROKEN]
    with refused(503):
        await scene.append(made.id, 0, b"hello")
    await scene.uploads.sweep()
    assert (await scene.uploads.inspect(made.id)).is_available
    assert hooks.heard.count("post-finish") == 1


async def test_a_creation_whose_finish_is_refused_leaves_nothing(scene: Scene, hooks: Noted) -> None:
    hooks.says[EventType.PRE_FINISH] = [NO]
    with refused(400):
        await scene.create(5, b"hello")
    assert scene.ids() == set()
    assert "post-create" not in hooks.heard


async def test_a_refused_termination_removes_nothing(scene: Scene, hooks: Noted) -> None:
    made = await scene.create(5, b"hello")
    hooks.says[EventType.PRE_TERMINATE] = [NO]
    with refused(400):
        await scene.uploads.terminate(made.id)
    assert await scene.content(made.id) == b"hello"
    assert "post-terminate" not in hooks.heard


async def test_an_expired_upload_is_told_as_gone(hooks: Noted) -> None:
    scene = Scene(Rules(expire_after_seconds=60.0), hooks=hooks)
    made = await scene.create(5, b"he")
    scene.age(made.id, 61)
    await scene.uploads.sweep()
    assert hooks.heard[-1] == "post-terminate"
    assert hooks.uploads[-1] is not None
    assert hooks.uploads[-1].id == made.id


async def test_a_stopped_upload_goes_at_once(scene: Scene, hooks: Noted) -> None:
    made = await scene.create(10)
    feed = Feed(b"hello")

    async def stop() -> None:
        await feed.handed_over()
        hooks.watched[0].interrupt(Stopped("enough", body="you shall not"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop)
        with refused(400, "ERR_UPLOAD_STOPPED") as caught:
            await scene.append(made.id, 0, feed=feed)
    assert caught.value.body == "you shall not"
    assert scene.ids() == set()
    assert hooks.heard[-1] == "post-terminate"
    assert (hooks.watched, scene.is_quiet()) == ([], True)


async def test_a_body_is_watched_while_its_bytes_come(scene: Scene, hooks: Noted) -> None:
    made = await scene.create(10)
    with refused(400):
        await scene.append(made.id, 0, b"hel", unexpected_eof())
    assert hooks.watched == []
    assert (await scene.uploads.inspect(made.id)).offset == 3


# Access.

ACCESSES = {
    "append": (lambda scene, found: scene.append(found, 0, b"hello"), AccessMode.WRITE),
    "inspect": (lambda scene, found: scene.uploads.inspect(found), AccessMode.READ),
    "find": (lambda scene, found: scene.uploads.find(found), AccessMode.READ),
    "terminate": (lambda scene, found: scene.uploads.terminate(found), AccessMode.WRITE),
    "concatenate": (lambda scene, found: scene.final(found), AccessMode.READ),
    "list": (lambda scene, found: scene.uploads.check_access(AccessMode.LIST, None, Caller()), AccessMode.LIST),
}


@pytest.mark.parametrize("verb", ACCESSES)
async def test_who_has_no_access_gets_nothing_and_changes_nothing(verb: str) -> None:
    hooks = Noted()
    scene = Scene(hooks=hooks)
    made = await scene.partial(5)
    act, mode = ACCESSES[verb]
    hooks.says[EventType.PRE_ACCESS] = [Refused("no", code="ERR_ACCESS_REJECTED", status=403)]
    hooks.heard.clear()
    hooks.modes.clear()
    scene.store.calls.clear()
    with refused(403, "ERR_ACCESS_REJECTED"):
        await act(scene, made.id)
    assert (hooks.heard, hooks.modes) == (["pre-access"], [mode])
    assert scene.store.changes == {}
    assert scene.is_quiet()


async def test_a_finished_final_is_not_found_again_without_access() -> None:
    hooks = Noted()
    scene = Scene(hooks=hooks)
    partial = await scene.partial(5, b"hello")
    final = await scene.final(partial.id)
    assert final.state is State.AVAILABLE
    hooks.says[EventType.PRE_ACCESS] = [Refused("no", status=403)]
    with refused(403):
        await scene.final(partial.id)


async def test_access_to_what_is_not_there_asks_nobody() -> None:
    hooks = Noted()
    scene = Scene(hooks=hooks)
    with refused(404):
        await scene.append(UploadId("unknown"), 0, b"x")
    assert hooks.heard == []


# What is owed.


async def test_a_finished_upload_is_told_again_until_nothing_is_owed(scene: Scene, hooks: Noted) -> None:
    made = await scene.create(5, b"hello")
    plain = await scene.create(5)
    hooks.owing = {made.id}
    hooks.heard.clear()
    for _ in range(2):
        await scene.uploads.sweep()
    assert hooks.heard == [f"again {made.id}"] * 2
    hooks.owing = set()
    await scene.uploads.sweep()
    await scene.uploads.sweep()
    assert hooks.heard == [f"again {made.id}"] * 3  # failures F30: found, told, and not looked at any more
    assert [each.id async for each in scene.store.unfinished()] == [plain.id]


async def test_without_hooks_that_hear_of_it_nothing_is_owed() -> None:
    scene = Scene(hooks=Noted(EventType.POST_FINISH, EventType.PRE_ACCESS))
    await scene.create(5, b"hello")
    assert [each async for each in scene.store.unfinished()] == []


async def test_what_is_owed_is_kept_for_days_while_there_are_no_hooks(scene: Scene, hooks: Noted) -> None:
    """A server that was started without them by mistake must not forget it."""
    made = await scene.create(5, b"hello")
    scene.uploads = Uploads(scene.store, scene.locker, Rules())
    await scene.uploads.sweep()
    assert [each.id async for each in scene.store.unfinished()] == [made.id]
    scene.age(made.id, 8 * 24 * 3600)
    await scene.uploads.sweep()
    assert [each async for each in scene.store.unfinished()] == []


async def test_what_is_owed_is_told_before_the_sweep_goes_on_with_leftovers(scene: Scene, hooks: Noted) -> None:
    made = await scene.create(5, b"hello")
    hooks.owing = {made.id}

    async def fail(uploads: Sequence[Upload]) -> set[UploadId]:
        assert uploads
        raise BackendError("the queue is down")

    hooks.remind = fail
    await scene.uploads.sweep()  # a queue that is down keeps nobody from sweeping
    assert [each.id async for each in scene.store.unfinished()] == [made.id]


async def test_of_an_upload_that_goes_nothing_is_owed(scene: Scene, hooks: Noted) -> None:
    made = await scene.create(5, b"hello")
    await scene.uploads.terminate(made.id)
    assert hooks.forgotten == [made.id]
    assert [each async for each in scene.store.unfinished()] == []
