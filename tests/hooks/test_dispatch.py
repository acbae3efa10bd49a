"""Which hooks are asked and told, in which order, how long, and what happens when one fails."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import pytest
from listening import Kept, Scripted, dispatcher

from tusd_py.core.events import AccessMode, Caller, EventType
from tusd_py.core.jobs import Job
from tusd_py.core.observer import Unobserved
from tusd_py.core.upload import Metadata, Upload, UploadId
from tusd_py.errors import HookFailed, Refused
from tusd_py.hooks import wire
from tusd_py.hooks.contract import HookError, PostFinish, PreAccess, change, reject, respond
from tusd_py.hooks.dispatch import Listener

pytestmark = pytest.mark.anyio

MADE = Upload(UploadId("drawn"), 10, Metadata("a Yg==", {"a": "b"}), offset=4, created_at=5.0)
PRE = [each for each in EventType if each.startswith("pre-")]


class Counted(Unobserved):
    def __init__(self) -> None:
        self.calls: list[tuple[str, bool]] = []

    def hook_ended(self, event: str, seconds: float, *, has_failed: bool) -> None:
        assert 0 <= seconds < 5
        self.calls.append((event, has_failed))


async def test_only_those_that_listen_are_asked() -> None:
    one, two = Scripted(name="one", events=[EventType.PRE_CREATE]), Scripted(name="two", events=[EventType.POST_FINISH])
    house = dispatcher(one, two)
    assert [house.wants(each) for each in (EventType.PRE_CREATE, EventType.PRE_FINISH)] == [True, False]
    await house.ask(EventType.PRE_CREATE, MADE, Caller())
    await house.ask(EventType.PRE_FINISH, MADE, Caller())
    assert (len(one.heard), len(two.heard)) == (1, 0)


async def test_each_is_asked_in_order_and_sees_what_the_one_before_changed() -> None:
    one = Scripted(change(metadata={"by": "one"}), name="one")
    two = Scripted(change(id="mine"), name="two")
    three = Scripted(name="three")
    made = await dispatcher(one, two, three).ask(EventType.PRE_CREATE, MADE, Caller())
    assert made == replace(MADE, id="mine", is_named=True, metadata=Metadata.of({"by": "one"}))
    assert [each.heard[0].upload.metadata for each in (one, two, three)] == [{"a": "b"}, {"by": "one"}, {"by": "one"}]
    assert three.heard[0].upload.id == ""  # nobody has it yet


async def test_only_pre_create_changes_anything() -> None:
    house = dispatcher(Scripted(change(id="mine")))
    assert await house.ask(EventType.PRE_FINISH, MADE, Caller()) == MADE


@pytest.mark.parametrize("event", PRE)
async def test_the_first_no_is_the_answer(event: EventType) -> None:
    one, two, three = Scripted(name="one"), Scripted(reject(), name="two"), Scripted(name="three")
    with pytest.raises(Refused) as caught:
        await dispatcher(one, two, three).ask(event, MADE, Caller())
    assert caught.value.status == (403 if event is EventType.PRE_ACCESS else 400)
    assert caught.value.code.endswith("REJECTED")
    assert [len(each.heard) for each in (one, two, three)] == [1, 1, 0]


async def test_a_no_is_said_in_the_hooks_words() -> None:
    house = dispatcher(Scripted(reject("no cats", status=422, headers={"X-Why": "cats"})))
    with pytest.raises(Refused) as caught:
        await house.ask(EventType.PRE_CREATE, MADE, Caller())
    assert (caught.value.status, caught.value.body, caught.value.headers) == (422, "no cats", {"X-Why": "cats"})


@pytest.mark.parametrize("status", [200, 204, 307])
async def test_a_no_never_looks_like_a_yes(status: int) -> None:
    with pytest.raises(Refused) as caught:
        await dispatcher(Scripted(reject(status=status))).ask(EventType.PRE_CREATE, MADE, Caller())
    assert caught.value.status == 400


async def test_replies_add_up_and_the_later_one_wins() -> None:
    one = Scripted(respond("one", status=200, headers={"X-A": "1", "X-B": "1"}), name="one")
    two = Scripted(respond(headers={"X-B": "2"}), name="two")
    caller = Caller()
    await dispatcher(one, two).ask(EventType.PRE_CREATE, MADE, caller)
    assert caller.reply is not None
    assert (caller.reply.status, caller.reply.body, caller.reply.headers) == (200, "one", {"X-A": "1", "X-B": "2"})


@pytest.mark.parametrize(
    "word",
    [HookError("broken"), change(id="a/b"), respond(headers={"X": "a\nb"})],
    ids=["fails", "bad-id", "bad-header"],
)
async def test_one_that_fails_refuses_or_is_passed_over_as_the_operator_chose(
    word: object, caplog: pytest.LogCaptureFixture
) -> None:
    last = Scripted(name="last")
    counted = Counted()
    with pytest.raises(HookFailed) as caught:
        await dispatcher(Scripted(word), last, observer=counted).ask(EventType.PRE_CREATE, MADE, Caller())
    assert (caught.value.status, len(last.heard)) == (503, 0)
    assert "broken" not in caught.value.message  # details go to the log
    with caplog.at_level(logging.ERROR, "tusd_py.hooks"):
        house = dispatcher(Listener(Scripted(word), is_required=False), last, observer=counted)
        assert await house.ask(EventType.PRE_CREATE, MADE, Caller()) == MADE
    assert len(last.heard) == 1
    assert "HookFailed hook=scripted type=pre-create id=drawn" in caplog.text
    assert [event for event, _ in counted.calls] == ["pre-create"] * 3


async def test_one_that_hangs_is_given_up_and_ended() -> None:
    hanging, counted = Scripted(), Counted()
    hanging.is_hanging = True
    house = dispatcher(Listener(hanging, timeout_seconds=0.05), observer=counted)
    began_at = time.monotonic()
    with pytest.raises(HookFailed) as caught:
        await house.ask(EventType.PRE_CREATE, MADE, Caller())
    assert time.monotonic() - began_at < 2
    assert hanging.was_cancelled
    assert "no answer within 0.05 s" in str(caught.value.__cause__)
    assert counted.calls == [("pre-create", True)]


async def test_access_is_asked_with_what_is_wanted() -> None:
    hook = Scripted()
    house = dispatcher(hook)
    caller = Caller("HEAD", "/files/drawn", "1.2.3.4:5", [(b"authorization", b"Bearer x")])
    await house.ask(EventType.PRE_ACCESS, MADE, caller, AccessMode.READ)
    await house.ask(EventType.PRE_ACCESS, None, caller, AccessMode.LIST)
    one, every = hook.heard
    assert isinstance(one, PreAccess)
    assert isinstance(every, PreAccess)
    assert (one.access.mode, one.access.uploads, one.upload.id) == ("read", (one.upload,), "drawn")
    assert (every.access.mode, every.access.uploads, every.upload.id) == ("list", (), "")
    assert one.request.header("Authorization") == "Bearer x"


async def test_what_is_told_is_owed_to_each_that_listens() -> None:
    queue = Kept()
    hooks = [Scripted(name="one"), Scripted(name="two"), Scripted(name="deaf", events=[EventType.PRE_CREATE])]
    house = dispatcher(*hooks, queue=queue)
    await house.tell(EventType.POST_FINISH, MADE, Caller("PATCH", "/files/drawn"))
    await house._outbox.sent()
    assert [(job.key, job.hook, job.event, job.upload_id) for job in queue.jobs] == [
        ("drawn:post-finish:one", "one", "post-finish", "drawn"),
        ("drawn:post-finish:two", "two", "post-finish", "drawn"),
    ]
    assert [each.heard for each in hooks] == [[], [], []]
    for job in queue.jobs:
        await house.deliver(job)
    event = hooks[1].heard[0]
    assert isinstance(event, PostFinish)
    assert (event.key, event.upload.offset, event.request.method) == ("drawn:post-finish:two", 4, "PATCH")


async def test_the_beginning_is_told_again_at_the_end_where_it_may_have_been_lost() -> None:
    queue = Kept()
    made = replace(MADE, created_at=time.time())
    house = dispatcher(Scripted(), queue=queue)  # a server that was started after the upload was made
    await house.tell(EventType.POST_FINISH, made, Caller())
    await house.aclose()
    assert [job.event for job in queue.jobs] == ["post-create", "post-finish"]


async def test_the_beginning_is_not_told_again_where_it_was_told_just_now_or_is_too_long_ago_to_be_known() -> None:
    queue = Kept()
    house = dispatcher(Scripted(), queue=queue)
    new, old = replace(MADE, created_at=time.time()), replace(MADE, id=UploadId("old"), created_at=5.0)
    await house.tell(EventType.POST_CREATE, new, Caller())
    await house.tell(EventType.POST_FINISH, new, Caller())
    await house.tell(EventType.POST_FINISH, old, Caller())
    await house.aclose()
    assert [(job.upload_id, job.event) for job in queue.jobs] == [
        ("drawn", "post-create"), ("drawn", "post-finish"), ("old", "post-finish"),
    ]  # fmt: skip


async def test_what_cannot_be_delivered_is_said_so() -> None:
    house = dispatcher(Scripted(HookError("busy", retry_after_seconds=9)))
    payload = wire.encode_event(PostFinish(wire.Upload()))
    job = Job("k", UploadId("drawn"), "post-finish", "scripted", payload)
    with pytest.raises(HookError, match="busy") as caught:
        await house.deliver(job)
    assert caught.value.retry_after_seconds == 9
    with pytest.raises(HookError, match="no hook 'gone'") as caught:
        await house.deliver(replace(job, hook="gone"))
    assert not caught.value.is_final
    with pytest.raises(HookError, match="cannot be read") as caught:
        await house.deliver(replace(job, payload=b"?"))
    assert caught.value.is_final


async def test_a_job_has_a_longer_limit_of_its_own() -> None:
    hanging = Scripted()
    hanging.is_hanging = True
    house = dispatcher(Listener(hanging, timeout_seconds=60, job_timeout_seconds=0.05, concurrency=3))
    assert house.concurrency == {"scripted": 3}
    with pytest.raises(HookError, match=r"within 0.05 s"):
        await house.deliver(
            Job("k", UploadId("d"), "post-finish", "scripted", wire.encode_event(PostFinish(wire.Upload())))
        )


async def test_hooks_are_opened_and_closed() -> None:
    hook = Scripted()
    house = dispatcher(hook)
    await house.start()
    assert hook.is_open
    await house.aclose()
    assert not hook.is_open


async def test_after_a_loss_the_beginning_is_told_again() -> None:
    queue = Kept()
    house = dispatcher(Scripted(), queue=queue)
    made = replace(MADE, created_at=time.time())
    await house.tell(EventType.POST_CREATE, made, Caller())
    house.forget_told()
    await house.tell(EventType.POST_FINISH, made, Caller())
    await house.aclose()
    assert [job.event for job in queue.jobs] == ["post-create", "post-create", "post-finish"]
