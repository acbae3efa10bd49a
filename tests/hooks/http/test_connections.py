"""Connections: kept alive and used again, never more than allowed, none left behind whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence

import pytest
from rawreceiver import HOST, Peer, answer, hooked, receiving, sample

from tusd_py.hooks.contract import GO_ON, HookError
from tusd_py.hooks.http import client
from tusd_py.hooks.http.settings import ReceiverSettings
from tusd_py.hooks.http.transport import Receiver

pytestmark = pytest.mark.anyio


async def test_a_thousand_calls_go_over_as_many_connections_as_are_in_flight() -> None:
    async with receiving(answer()) as receiver, hooked(receiver) as hook:

        async def call_often() -> None:
            for _ in range(32):
                await hook.call(sample())

        async with asyncio.TaskGroup() as tasks:
            for _ in range(32):
                tasks.create_task(call_often())
        assert len(receiver.heard) == 1024
        assert receiver.connections <= 32
    assert receiver.open == 0


async def test_there_are_never_more_connections_than_allowed_and_nothing_is_pipelined() -> None:
    early: list[bytes] = []

    async def answer_late(peer: Peer) -> None:
        try:
            async with asyncio.timeout(0.05):
                early.append(await peer.reader.read(1))
        except TimeoutError:
            await peer.send(answer())

    async with receiving(answer_late) as receiver, hooked(receiver, max_connections=2) as hook:
        assert await asyncio.gather(*(hook.call(sample()) for _ in range(8))) == [GO_ON] * 8
        assert (receiver.connections, receiver.most_open) == (2, 2)
    assert early == []


async def test_a_kept_connection_that_was_closed_costs_no_try_and_the_event_is_heard_once() -> None:
    """It is closed when the next request is on its way: what a receiver's own idle time does to us."""

    async def answer_then_close_on_next(peer: Peer) -> None:
        await peer.send(answer())
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.reset()

    async with receiving(answer_then_close_on_next, answer()) as receiver, hooked(receiver, retries=0) as hook:
        assert await hook.call(sample()) == GO_ON
        assert await hook.call(sample()) == GO_ON
        assert (len(receiver.heard), receiver.connections) == (2, 2)


async def test_a_kept_connection_that_was_closed_long_ago_is_not_used() -> None:
    async def answer_then_close(peer: Peer) -> None:
        await peer.send(answer())
        await peer.close()

    async with receiving(answer_then_close, answer()) as receiver, hooked(receiver, retries=0) as hook:
        assert await hook.call(sample()) == GO_ON
        await receiver.wait_until_all_closed()
        assert await hook.call(sample()) == GO_ON
        assert (len(receiver.heard), receiver.connections) == (2, 2)


async def test_of_kept_connections_one_that_is_open_is_taken() -> None:
    """The one that was used last is not: it was closed."""
    is_heard, is_other_idle = asyncio.Event(), asyncio.Event()

    async def be_last(peer: Peer) -> None:
        is_heard.set()
        await is_other_idle.wait()
        await peer.send(answer())
        await peer.close()

    async with receiving(be_last, answer()) as receiver, hooked(receiver, retries=0) as hook:
        last = asyncio.create_task(hook.call(sample()))
        await is_heard.wait()
        assert await hook.call(sample()) == GO_ON
        kept = hook._client._idle[:]
        is_other_idle.set()
        assert await last == GO_ON
        for each in set(hook._client._idle) - set(kept):
            await each.closed
        assert await hook.call(sample()) == GO_ON
        assert receiver.connections == 2


async def test_a_new_connection_that_is_closed_without_an_answer_is_a_try() -> None:
    """It may have been heard: without retries nothing is sent twice."""
    async with receiving(Peer.close) as receiver, hooked(receiver, retries=0) as hook:
        with pytest.raises(HookError, match="without an answer"):
            await hook.call(sample())
    assert len(receiver.heard) == 1


async def test_an_answer_that_has_begun_on_a_kept_connection_is_not_asked_for_twice() -> None:
    async def begin(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 2")
        await peer.close()

    async with receiving(answer(), begin, answer()) as receiver, hooked(receiver, retries=0) as hook:
        assert await hook.call(sample()) == GO_ON
        with pytest.raises(HookError, match="within the head"):
            await hook.call(sample())
    assert len(receiver.heard) == 2


async def test_idle_connections_are_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "IDLE_SECONDS", 0.1)
    async with receiving(answer()) as receiver, hooked(receiver) as hook:
        await asyncio.gather(*(hook.call(sample()) for _ in range(3)))
        assert receiver.open == 3
        await receiver.wait_until_all_closed()
        assert await hook.call(sample()) == GO_ON


async def test_a_call_that_is_cancelled_closes_its_connection() -> None:
    is_asked = asyncio.Event()

    async def never_answer(peer: Peer) -> None:
        is_asked.set()
        await peer.wait_until_closed()

    async with receiving(never_answer, answer()) as receiver, hooked(receiver, max_connections=1) as hook:
        call = asyncio.create_task(hook.call(sample()))
        waiting = asyncio.create_task(hook.call(sample()))
        await is_asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await waiting == GO_ON  # its turn has come
        assert receiver.connections == 2
    assert receiver.open == 0


async def test_a_call_may_be_cancelled_at_any_point() -> None:
    """After each number of turns of the loop, while the name is looked up and a connection made, and while one is used
    again. A call afterwards works, and no connection is open that is not idle."""

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        await asyncio.sleep(0)
        return "127.0.0.2", HOST  # the first refuses

    ends = {True: 0, False: 0}
    async with receiving(answer()) as receiver:
        for turns in range(60):
            settings = ReceiverSettings(name="a", events=frozenset(), url=f"http://name:{receiver.port}/")
            hook = Receiver(settings, resolve)
            if turns % 2:
                await hook.call(sample())
            call = asyncio.create_task(hook.call(sample()))
            for _ in range(turns // 2):
                await asyncio.sleep(0)
            ends[call.cancel()] += 1
            await asyncio.gather(call, return_exceptions=True)
            assert await hook.call(sample()) == GO_ON
            await hook.aclose()
            if receiver.open:
                await receiver.wait_until_all_closed()
    assert ends[True] > 10


async def test_a_call_cancelled_when_its_answer_has_just_come_leaves_nothing() -> None:
    async with receiving(answer()) as receiver, hooked(receiver) as hook:
        await hook.call(sample())
        (connection,) = hook._client._idle
        call: asyncio.Task[object] = asyncio.create_task(hook.call(sample()))
        finish = connection._finish

        def finish_and_cancel() -> None:
            finish()
            call.cancel()

        connection._finish = finish_and_cancel  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await call
        await receiver.wait_until_all_closed()


async def test_no_descriptor_is_left_after_calls_of_every_kind() -> None:
    kinds = [
        answer(), answer(b"", "Connection: close"), answer(b"x" * 9000), b"garbage\r\n", Peer.reset, Peer.close,
        answer(b"", status="500 No"), Peer.wait_until_closed,
    ]  # fmt: skip

    async def call_all() -> None:
        async with receiving(*kinds * 5, answer()) as receiver:
            async with hooked(receiver, retries=0, timeout_seconds=0.05) as hook:
                for _ in range(5):
                    await asyncio.gather(*(hook.call(sample()) for _ in kinds), return_exceptions=True)
            if receiver.open:
                await receiver.wait_until_all_closed()

    await call_all()
    await asyncio.sleep(0)
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        await call_all()
    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) <= len(before)


async def test_the_next_address_is_tried_when_one_refuses() -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return "::1", HOST

    async with receiving(answer()) as receiver:
        hook = Receiver(ReceiverSettings(name="a", events=frozenset(), url=f"http://a:{receiver.port}/"), resolve)
        assert await hook.call(sample()) == GO_ON
        await hook.aclose()
    assert receiver.heard[0].one("Host") == f"a:{receiver.port}"


async def test_the_next_address_is_tried_when_one_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.2)
    silent = "127.0.0.2"

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return (silent, HOST)

    async with receiving(answer()) as receiver:
        with socket.create_server((silent, receiver.port), backlog=0) as listener, contextlib.ExitStack() as waiting:
            for _ in range(3):  # whoever comes after them gets no answer
                crowd = waiting.enter_context(socket.socket())
                crowd.setblocking(False)
                crowd.connect_ex(listener.getsockname())
            hook = Receiver(ReceiverSettings(name="a", events=frozenset(), url=f"http://a:{receiver.port}/"), resolve)
            assert await hook.call(sample()) == GO_ON
            await hook.aclose()


async def test_a_receiver_that_takes_no_connection_is_said_to_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.2)
    with socket.create_server((HOST, 0)) as listener:  # and nobody shakes hands
        async with hooked(f"https://{HOST}:{listener.getsockname()[1]}/", retries=0) as hook:
            with pytest.raises(HookError, match=f"it cannot be reached: {HOST} is silent"):
                await hook.call(sample())


async def test_a_name_without_addresses_is_said() -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return ()

    hook = Receiver(ReceiverSettings(name="a", events=frozenset(), url="http://a/", retries=0), resolve)
    with pytest.raises(HookError, match="its name has no address"):
        await hook.call(sample())


async def test_a_name_that_is_not_found_is_said() -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    hook = Receiver(ReceiverSettings(name="a", events=frozenset(), url="http://a/", retries=0), resolve)
    with pytest.raises(HookError, match="its name cannot be looked up: Name or service not known"):
        await hook.call(sample())


async def test_the_system_finds_localhost() -> None:
    async with receiving(answer()) as receiver, hooked(f"http://localhost:{receiver.port}/") as hook:
        assert await hook.call(sample()) == GO_ON
