"""Hooks in this process: what functions are given, which answers are taken, and what never gets through."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import io
import logging
import sys
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from tusd_py import logs
from tusd_py.hooks import inprocess
from tusd_py.hooks.contract import (
    Answer,
    Change,
    Hook,
    HookError,
    PostFinish,
    PostReceive,
    PreAccess,
    PreCreate,
    PreFinish,
    Request,
    Response,
    Upload,
    change,
    reject,
    respond,
    stop,
)
from tusd_py.hooks.inprocess import InProcess

pytestmark = pytest.mark.anyio
PATIENCE_SECONDS = 10
UPLOAD = Upload(id="one", length=5, offset=5, metadata={"filename": "a.csv"})
FINISHED = PostFinish(UPLOAD, Request("PATCH", "/files/one"), "one:post-finish")


class Content:
    """Bytes in pieces of a chosen size, that know who read them and whether they were closed."""

    def __init__(self, data: bytes, piece_bytes: int = 100_000, missing: int = 0) -> None:
        self.data = data
        self.length = len(data)
        self.opened = self.closed = 0
        self._piece_bytes = piece_bytes
        self._missing = missing

    async def pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
        self.opened += 1
        try:
            for first in range(start, end - self._missing, self._piece_bytes):
                await anyio.lowlevel.checkpoint()
                yield self.data[first : min(first + self._piece_bytes, end - self._missing)]
        finally:
            self.closed += 1


def _transport(hook: Hook, content: Content | None = None, settings: object = None, threads: int = 16) -> InProcess:
    return InProcess("mine", hook, settings, lambda _upload: content or Content(b"hello"), threads=threads)


async def _answer_to(event: Any, function: Callable[..., object], content: Content | None = None) -> Answer:
    hook = Hook()
    hook.on(event.type)(function)
    with anyio.fail_after(PATIENCE_SECONDS):
        return await _transport(hook, content).call(event)


# What functions are given.


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_function_gets_what_it_names_and_runs_where_it_belongs(is_async: bool) -> None:
    given: dict[str, Any] = {}
    hook = Hook()

    def take(event: object, upload: object, request: object, log: logging.Logger) -> None:
        given.update(event=event, upload=upload, request=request, log=log.name, request_id=logs.request_id.get())
        given["thread"] = threading.get_ident()

    async def take_async(event: object, upload: object, request: object, log: logging.Logger) -> None:
        take(event, upload, request, log)

    hook.on("post-finish")(take_async if is_async else take)
    token = logs.request_id.set("r1")
    assert await _transport(hook).call(FINISHED) == Answer()
    logs.request_id.reset(token)
    assert (given["event"], given["upload"], given["request"]) == (FINISHED, UPLOAD, FINISHED.request)
    assert (given["log"], given["request_id"]) == ("tusd_py.hooks.mine", "r1")
    assert (given["thread"] == threading.get_ident()) is is_async


async def test_settings_are_those_that_were_filled_in() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Settings:
        limit: int

    hook = Hook(Settings)

    @hook.on("pre-create")
    async def refuse(settings: Settings) -> Answer:
        return reject(f"over {settings.limit}")

    answer = await _transport(hook, settings=Settings(3)).call(PreCreate(UPLOAD))
    assert answer.response == Response(0, {}, "over 3")


async def test_an_object_whose_call_is_async_runs_in_the_loop() -> None:
    class Refuser:
        async def __call__(self, upload: Upload) -> Answer:
            asyncio.get_running_loop()
            return reject(upload.id)

    answer = await _answer_to(PreCreate(UPLOAD), Refuser())
    assert answer.response is not None
    assert answer.response.body == "one"


# Several functions.


async def test_answers_merge_and_later_functions_see_the_upload_as_changed() -> None:
    hook = Hook()
    seen = []

    @hook.on("pre-create")
    def first() -> Answer:
        return change(id="two", metadata={"a": "1"}, response=Response(202, {"X-A": "1", "X-B": "1"}, "first"))

    @hook.on("pre-create")
    async def second(upload: Upload) -> Answer:
        seen.append(upload)
        return change(metadata={"a": "2"})

    @hook.on("pre-create")
    async def third(event: PreCreate) -> Answer:
        seen.append(event.upload)
        return respond("last", headers={"X-B": "2"})

    answer = await _transport(hook).call(PreCreate(Upload(length=5)))
    assert [(each.id, each.metadata) for each in seen] == [("two", {"a": "1"}), ("two", {"a": "2"})]
    assert answer == Answer(change=Change("two", {"a": "2"}), response=Response(202, {"X-A": "1", "X-B": "2"}, "last"))


@pytest.mark.parametrize(("event", "end"), [(PreCreate(UPLOAD), reject("no")), (PostReceive(UPLOAD), stop("no"))])
async def test_a_refusal_stands_alone_and_ends_it(event: Any, end: Answer) -> None:
    hook = Hook()
    told = []
    hook.on(event.type)(lambda: respond("yes", status=201, headers={"Content-Type": "text/html"}))
    hook.on(event.type)(lambda: end)
    hook.on(event.type)(lambda: told.append("after"))
    assert await _transport(hook).call(event) == end
    assert told == []


async def test_only_the_functions_of_an_event_hear_of_it() -> None:
    hook = Hook()
    told = []
    hook.on("pre-create")(lambda: told.append("created"))
    hook.on("post-finish", "pre-finish")(lambda event: told.append(event.type))
    transport = _transport(hook)
    assert transport.events == {"pre-create", "pre-finish", "post-finish"}
    await transport.call(FINISHED)
    assert told == ["post-finish"]


# Wrong answers.


@pytest.mark.parametrize(
    ("event", "answer", "said"),
    [
        (PreCreate(UPLOAD), stop(), "answered stop(...); at pre-create it may answer None, reject(...), change(...)"),
        (PreAccess(UPLOAD), respond("x"), "answered respond(...); at pre-access it may answer None, reject(...)"),
        (PreFinish(UPLOAD), change(id="a"), "answered change(...)"),
        (FINISHED, reject(), "answered reject(...); at post-finish it may answer None"),
        (PostReceive(UPLOAD), reject(), "at post-receive it may answer None, stop(...), respond(...)"),
        (PreCreate(UPLOAD), False, "answered False (bool)"),
        (PreCreate(UPLOAD), reject, "answered <function reject"),
        (PreCreate(UPLOAD), reject, "call it: return reject(...)"),
        (PreCreate(UPLOAD), reject(status=99), "status is 99 (int); it is a whole number from 200 to 599"),
        (PreCreate(UPLOAD), reject(status=True), "status is True (bool)"),
        (PreCreate(UPLOAD), reject({"a": 1}), "json.dumps"),  # type: ignore[arg-type]
        (PreCreate(UPLOAD), respond(headers={"Retry-After": 5}), "headers={'Retry-After': '60'}"),  # type: ignore[dict-item]
        (PreCreate(UPLOAD), change(metadata={"rows": 5}), "metadata={'filename': 'a.csv'}"),  # type: ignore[dict-item]
        (PreCreate(UPLOAD), change(id=5), "the id is 5 (int); it is text"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
async def test_a_wrong_answer_names_the_function_and_what_would_be_right(event: Any, answer: Any, said: str) -> None:
    def judge() -> object:
        return answer

    with pytest.raises(HookError) as caught:
        await _answer_to(event, judge)
    assert "judge of hook mine" in str(caught.value)
    assert said in str(caught.value)


async def test_a_plain_function_that_gives_a_coroutine_is_told_to_be_async() -> None:
    async def judge() -> Answer:
        return reject()

    def plain() -> object:
        return judge()

    with pytest.raises(HookError, match="plain of hook mine gave something to await; make it an async function"):
        await _answer_to(PreCreate(UPLOAD), plain)
    gc.collect()  # a coroutine that nobody awaited would warn now, and fail


# Errors.


async def test_an_async_function_that_does_not_end_is_abandoned(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inprocess, "GRACE_SECONDS", 0.05)
    may_end = asyncio.Event()

    async def hold() -> None:
        while not may_end.is_set():
            with suppress(asyncio.CancelledError):
                await may_end.wait()

    hook = Hook()
    hook.on("post-finish")(hold)
    transport = _transport(hook)
    with caplog.at_level(logging.WARNING), pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await transport.call(PostFinish(Upload("u")))
    assert "HookAbandoned" in caplog.text
    assert "function=hold" in caplog.text
    may_end.set()
    await asyncio.wait(transport._tasks)


async def test_a_function_that_cancels_its_task_cancels_nobody_else() -> None:
    async def end() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    hook = Hook()
    hook.on("post-finish")(end)
    with pytest.raises(HookError, match="CancelledError"):
        await _transport(hook).call(PostFinish(Upload("u")))


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("not\n  a table"), "ValueError: not a table"),
        (KeyError(), "KeyError"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError(), "CancelledError"),
        (GeneratorExit(), "RuntimeError: it raised GeneratorExit"),
        (ExceptionGroup("unhandled errors in a TaskGroup", [OSError("no route")]), "OSError: no route"),
        (StopIteration(), "StopIteration: next() found nothing more"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_whatever_a_function_raises_is_an_error_of_the_hook(
    caplog: pytest.LogCaptureFixture, is_async: bool, error: BaseException, said: str
) -> None:
    def fail() -> None:
        raise error

    async def fail_async() -> None:
        raise error

    with pytest.raises(HookError) as caught:
        await _answer_to(PreCreate(UPLOAD), fail_async if is_async else fail)
    assert said in str(caught.value)
    assert caught.value.__cause__ is not None
    (record,) = [each for each in caplog.records if each.exc_info]
    assert record.message.startswith("HookRaised hook=mine function=fail")
    await anyio.lowlevel.checkpoint()  # and nothing else was cancelled


async def test_a_hook_error_passes_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    error = HookError("the scanner is busy", retry_after_seconds=5)

    def fail() -> None:
        raise error

    with pytest.raises(HookError) as caught:
        await _answer_to(FINISHED, fail)
    assert caught.value is error
    assert not caplog.records


# Bytes.


DATA = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(100_000))  # 3.2 MB


@pytest.mark.parametrize("piece_bytes", [1000, 100_000, 3_000_000])
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_stream_gives_all_bytes_once_more_each_time(is_async: bool, piece_bytes: int) -> None:
    content = Content(DATA, piece_bytes)
    read: list[bytes] = []

    async def take_async(stream: Any) -> None:
        assert stream.length == len(DATA)
        for _ in range(2):
            read.append(b"".join([piece async for piece in stream]))
        assert max([len(piece) async for piece in stream]) <= 1 << 20
        read.append(await stream.read(5, 15) + await stream.read(len(DATA) - 3) + await stream.read(9, 4))

    def take(stream: Any) -> None:
        assert stream.length == len(DATA)
        for _ in range(2):
            read.append(b"".join(stream))
        assert max(len(piece) for piece in stream) <= 1 << 20
        read.append(stream.read(5, 15) + stream.read(len(DATA) - 3) + stream.read(9, 4))

    await _answer_to(FINISHED, take_async if is_async else take, content)
    assert read == [DATA, DATA, DATA[5:15] + DATA[-3:]]
    assert content.opened == content.closed == 5


async def test_small_pieces_cross_between_threads_together() -> None:
    content = Content(DATA, 100)
    hops = 0

    def take(stream: Any) -> None:
        nonlocal hops
        ask = stream._errand.ask

        def count(do: Any) -> Any:
            nonlocal hops
            hops += 1
            return ask(do)

        stream._errand.ask = count
        assert b"".join(stream) == DATA

    await _answer_to(FINISHED, take, content)
    assert hops < 10


async def test_a_plain_function_may_have_its_bytes_as_a_file() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", DATA)
        archive.writestr("b.txt", "two\nlines\n")
    content = Content(packed.getvalue(), 7_000)

    def unpack(stream: Any) -> None:
        with stream.open() as file:
            assert zipfile.ZipFile(file).read("b.txt") == b"two\nlines\n"
            assert zipfile.ZipFile(file).read("a.txt") == DATA
            assert file.seek(-4, io.SEEK_END) == content.length - 4
            assert file.read() == content.data[-4:]
            assert file.read() == b""
        with stream.open() as file:
            assert file.read() == content.data

    await _answer_to(FINISHED, unpack, content)
    assert content.opened == content.closed


@pytest.mark.parametrize("is_async", [True, False])
async def test_bytes_that_the_storage_does_not_have_are_no_end_of_the_file(is_async: bool) -> None:
    async def take_async(stream: Any) -> None:
        async for _ in stream:
            pass

    def take(stream: Any) -> None:
        list(stream)

    with pytest.raises(HookError, match="ended at byte 3199999 of what should be read up to byte 3200000"):
        await _answer_to(FINISHED, take_async if is_async else take, Content(DATA, missing=1))


async def test_places_before_the_start_are_refused() -> None:
    async def take(stream: Any) -> None:
        await stream.read(-4)

    with pytest.raises(HookError, match=r"ValueError: read\(-4, None\)"):
        await _answer_to(FINISHED, take)


@pytest.mark.parametrize("is_async", [True, False])
async def test_what_is_left_half_read_is_closed(is_async: bool) -> None:
    content = Content(DATA)
    kept = []

    async def take_async(stream: Any) -> None:
        iterator = aiter(stream)
        await anext(iterator)
        kept.append(iterator)

    def take(stream: Any) -> None:
        iterator = iter(stream)
        next(iterator)
        kept.append(iterator)

    await _answer_to(FINISHED, take_async if is_async else take, content)
    assert (content.opened, content.closed) == (1, 1)


async def test_what_a_plain_function_reads_no_further_is_closed_at_once() -> None:
    content = Content(DATA)
    open_now = []

    def take(stream: Any) -> None:
        for _ in range(3):
            for _ in stream:
                break
            open_now.append(content.opened - content.closed)
        with stream.open() as file:
            for start in (5, 3_000_000, 1_500_000):
                file.seek(start)
                assert file.read(10) == DATA[start : start + 10]
                open_now.append(content.opened - content.closed - 1)

    await _answer_to(FINISHED, take, content)
    assert max(open_now) == 0


# Threads.


async def test_an_async_function_is_cancelled_with_its_call() -> None:
    content = Content(DATA)
    ended = False

    async def wait(stream: Any) -> None:
        nonlocal ended
        try:
            async for _ in stream:
                await anyio.sleep_forever()
        finally:
            ended = True

    with anyio.move_on_after(0.05) as scope:
        await _answer_to(FINISHED, wait, content)
    assert scope.cancelled_caught
    assert ended
    assert (content.opened, content.closed) == (1, 1)


async def test_a_plain_function_that_does_not_end_is_abandoned_and_keeps_its_slot(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    go = threading.Event()
    failed: list[BaseException] = []
    hook = Hook()

    @hook.on("post-finish")
    def wait(stream: Any) -> None:
        go.wait(PATIENCE_SECONDS)
        try:
            stream.read()
        except HookError as error:
            failed.append(error)

    hook.on("pre-create")(lambda: reject("heard"))
    transport = _transport(hook, threads=1)
    try:
        with anyio.move_on_after(0.05) as scope:
            await transport.call(FINISHED)
        assert scope.cancelled_caught
        assert transport.abandoned == 1
        assert "HookAbandoned hook=mine function=wait abandoned=1 threads=1" in caplog.text
        with anyio.move_on_after(0.05) as scope:
            await transport.call(PreCreate(UPLOAD))
        assert scope.cancelled_caught, "it had a thread beyond the limit"
        assert transport.abandoned == 1, "what did not begin is not abandoned"
    finally:
        go.set()
    with anyio.fail_after(PATIENCE_SECONDS):
        assert (await transport.call(PreCreate(UPLOAD))).is_rejected
    assert transport.abandoned == 0
    assert "AbandonedHookEnded" in caplog.text
    assert "nobody waits for this call any more" in str(failed[0])


async def test_plain_functions_run_at_once_up_to_the_limit() -> None:
    running = most = 0
    barrier = threading.Barrier(3)
    lock = threading.Lock()
    hook = Hook()

    @hook.on("post-finish")
    def meet() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait(PATIENCE_SECONDS)  # three at once, or it breaks
        with lock:
            running -= 1

    transport = _transport(hook, threads=3)
    async with anyio.create_task_group() as tasks:
        for _ in range(9):
            tasks.start_soon(transport.call, FINISHED)
    assert most == 3


async def test_threads_are_used_again_and_end_with_the_hook() -> None:
    seen: set[threading.Thread] = set()
    contexts = []
    hook = Hook()

    @hook.on("post-finish")
    def look() -> None:
        seen.add(threading.current_thread())
        contexts.append(logs.request_id.get())

    transport = _transport(hook)
    for each in ("r1", None, "r2"):
        token = logs.request_id.set(each)
        await transport.call(FINISHED)
        logs.request_id.reset(token)
    (thread,) = seen
    assert contexts == ["r1", None, "r2"]
    await transport.aclose()
    await anyio.to_thread.run_sync(thread.join, PATIENCE_SECONDS)
    assert not thread.is_alive()


async def test_a_function_cancelled_while_it_reads_leaves_nothing_open() -> None:
    class Stuck(Content):
        async def pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
            self.opened += 1
            try:
                yield b"h"
                reading.set()
                await anyio.sleep_forever()
            finally:
                self.closed += 1

    reading = anyio.Event()
    content = Stuck(b"hello")
    ended = threading.Event()
    hook = Hook()

    @hook.on("post-finish")
    def take(stream: Any) -> None:
        try:
            list(stream)
        finally:
            ended.set()

    transport = _transport(hook, content)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(transport.call, FINISHED)
        with anyio.fail_after(PATIENCE_SECONDS):
            await reading.wait()
        tasks.cancel_scope.cancel()
    assert (content.opened, content.closed) == (1, 1)
    assert await anyio.to_thread.run_sync(ended.wait, PATIENCE_SECONDS)


def test_a_plain_function_that_never_ends_does_not_keep_the_process() -> None:
    import subprocess

    code = """
import anyio, threading
from tusd_py.hooks.contract import Hook, PostFinish, Upload
from tusd_py.hooks.inprocess import InProcess
hook = Hook()
hook.on("post-finish")(lambda: threading.Event().wait())
async def main():
    with anyio.move_on_after(0.05):
        await InProcess("mine", hook, None, None).call(PostFinish(Upload()))
anyio.run(main)
print("ended")
"""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    assert done.stdout == "ended\n"
    assert "HookAbandoned" in done.stderr
    assert time.monotonic() - begun < PATIENCE_SECONDS
