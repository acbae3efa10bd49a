"""The endpoints of who runs the server: their answers, and that a store that hangs stalls nobody."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tusd_py.errors import BackendError
from tusd_py.metrics import Metrics
from tusd_py.web import health
from tusd_py.web.health import Endpoint, Probe, in_thread

pytestmark = pytest.mark.anyio


class Answer:
    def __init__(self, messages: list[dict[str, Any]]) -> None:
        start, self.end = messages
        self.status = start["status"]
        self.headers = dict(start["headers"])
        assert len(self.headers) == len(start["headers"])
        self.body = self.end["body"].decode()


async def ask(endpoint: Endpoint, method: str = "GET", accept: bytes | None = None) -> Answer:
    messages: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody reads a body here")

    headers = [] if accept is None else [(b"accept", accept)]
    await endpoint({"type": "http", "method": method, "path": "/", "headers": headers}, receive, send)
    return Answer(messages)


class Store:
    """Something that can be written, or not, or hangs, and counts who asks."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.hangs = False
        self.asked_once = anyio.Event()
        self.answers = anyio.Event()

    async def can_write(self) -> None:
        self.asked += 1
        self.asked_once.set()
        if self.hangs:
            await self.answers.wait()
        if self.error is not None:
            raise self.error


def never() -> bool:
    return False


async def test_alive() -> None:
    answer = await ask(health.alive())
    assert (answer.status, answer.body) == (200, "ok\n")
    assert answer.headers[b"cache-control"] == b"no-store"
    assert answer.headers[b"content-type"] == b"text/plain; charset=utf-8"
    assert answer.headers[b"content-length"] == b"3"


def _endpoints() -> dict[str, Callable[[], Endpoint]]:
    return {
        "alive": health.alive,
        "ready": lambda: health.ready(Probe(Store().can_write), never),
        "metrics": lambda: health.metrics(lambda _accept: (b"x 1\n", "text/plain")),
    }


@pytest.mark.parametrize("name", _endpoints())
async def test_head_is_get_without_the_body(name: str) -> None:
    endpoint = _endpoints()[name]()
    get, head = await ask(endpoint), await ask(endpoint, "HEAD")
    assert head.headers == get.headers
    assert (head.status, head.body) == (get.status, "")
    assert get.body


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get"])
@pytest.mark.parametrize("name", _endpoints())
async def test_nothing_else_is_allowed(name: str, method: str) -> None:
    answer = await ask(_endpoints()[name](), method)
    assert answer.status == 405
    assert answer.headers[b"allow"] == b"GET, HEAD"
    assert answer.headers[b"cache-control"] == b"no-store"


async def test_ready() -> None:
    store = Store()
    answer = await ask(health.ready(Probe(store.can_write), never))
    assert (answer.status, answer.body, store.asked) == (200, "ok\n", 1)


async def test_not_ready_while_stopping_and_nobody_asks_the_store() -> None:
    store = Store()
    answer = await ask(health.ready(Probe(store.can_write), lambda: True))
    assert (answer.status, answer.body) == (503, "not ready: the server is stopping\n")
    assert store.asked == 0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/secret/path"), "No space left on device"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/secret/path"), "Read-only file system"),
        (BackendError("the disk is full"), "the disk is full"),
        (RuntimeError("/secret/path"), "cannot be asked"),
        (OSError("/secret/path"), "cannot be written: OSError"),
    ],
)
async def test_not_ready_says_why_and_no_more(error: Exception, said: str) -> None:
    store = Store()
    store.error = error
    answer = await ask(health.ready(Probe(store.can_write), never))
    assert answer.status == 503
    assert said in answer.body
    assert "secret" not in answer.body


async def test_one_probe_for_all_who_ask() -> None:
    store = Store()
    store.hangs = True
    ready = health.ready(Probe(store.can_write, every_seconds=60, timeout_seconds=60), never)
    answers: list[int] = []

    async def one() -> None:
        answers.append((await ask(ready)).status)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(one)
        await store.asked_once.wait()
        store.answers.set()
    store.error = OSError()
    assert (await ask(ready)).status == 200, "still fresh"
    assert answers == [200] * 20
    assert store.asked == 1


async def test_it_is_asked_again_when_it_is_no_longer_fresh() -> None:
    store = Store()
    ready = health.ready(Probe(store.can_write, every_seconds=0), never)
    assert (await ask(ready)).status == 200
    store.error = OSError(errno.EIO, "Input/output error")
    assert (await ask(ready)).status == 503
    store.error = None
    assert (await ask(ready)).status == 200
    assert store.asked == 3


async def test_a_store_that_hangs_is_not_waited_for_nor_asked_again() -> None:
    store = Store()
    store.hangs = True
    ready = health.ready(Probe(store.can_write, every_seconds=0, timeout_seconds=0.05), never)
    with anyio.fail_after(5):
        for _ in range(3):
            answer = await ask(ready)
            assert answer.status == 503
            assert "has not answered for 0.05 s" in answer.body
        assert store.asked == 1
        store.answers.set()
        while (await ask(ready)).status != 200:
            await anyio.lowlevel.checkpoint()


async def test_a_disk_that_hangs_blocks_one_thread_and_not_the_loop() -> None:
    hangs, began = threading.Event(), threading.Event()

    def check() -> None:
        began.set()
        hangs.wait()

    ready = health.ready(Probe(in_thread(check), every_seconds=0, timeout_seconds=0.05), never)
    try:
        with anyio.fail_after(5):
            assert (await ask(ready)).status == 503
            assert (await ask(ready)).status == 503
            assert (await ask(health.alive())).status == 200
    finally:
        hangs.set()
    assert began.is_set()


async def test_who_asks_and_leaves_spoils_nothing() -> None:
    store = Store()
    store.hangs = True
    ready = health.ready(Probe(store.can_write, timeout_seconds=60), never)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, ready)
        await store.asked_once.wait()
        tasks.cancel_scope.cancel()
    store.answers.set()
    with anyio.fail_after(5):
        assert (await ask(ready)).status == 200
    assert store.asked == 1


async def test_changes_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tusd_py.health")
    store = Store()
    ready = health.ready(Probe(store.can_write, every_seconds=0), never)
    await ask(ready)
    for _ in range(3):
        store.error = BackendError("full")
        await ask(ready)
    store.error = None
    await ask(ready)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"NotReady pid={os.getpid()} reason=full"),
        ("INFO", f"Ready pid={os.getpid()}"),
    ]


async def test_metrics_show_what_was_found_before() -> None:
    async def look() -> int:
        return 7

    answer = await ask(health.metrics(lambda accept, found: (f"x {found}\n".encode(), accept or "text/plain"), look))
    assert answer.body == "x 7\n"


async def test_metrics_in_the_format_that_is_asked_for() -> None:
    numbers = Metrics()
    endpoint = health.metrics(numbers.expose)
    answer = await ask(endpoint)
    assert answer.status == 200
    assert answer.headers[b"content-type"].startswith(b"text/plain; version=0.0.4")
    assert "tusd_requests_total{" in answer.body
    for name in ("tusd_uploads_created", "tusd_bytes_received", "tusd_requests_total"):
        assert f"# TYPE {name} counter\n" in answer.body
    answer = await ask(endpoint, accept=b"application/openmetrics-text; version=1.0.0")
    assert answer.headers[b"content-type"].startswith(b"application/openmetrics-text")
    assert answer.body.endswith("# EOF\n")
