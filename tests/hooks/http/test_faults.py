"""Receivers that are slow, cut off, endless, or that lie: each is said, bounded, and leaves no connection behind."""

from __future__ import annotations

import asyncio
import time

import pytest
from rawreceiver import Behaviour, Peer, RawReceiver, answer, hooked, receiving, sample

from tusd_py.hooks.contract import GO_ON, HookError, PreCreate

pytestmark = pytest.mark.anyio

STOP = b'{"StopUpload":true}'
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"


def then(data: bytes, end: str) -> Behaviour:
    """Sends this, and then closes or resets the connection."""

    async def behave(peer: Peer) -> None:
        if data:
            await peer.send(data)
        await getattr(peer, end)()

    return behave


def for_ever(start: bytes, again: bytes) -> Behaviour:
    async def behave(peer: Peer) -> None:
        await peer.send(start)
        while True:
            await peer.send(again)

    return behave


async def fails(receiver: RawReceiver, words: str, **settings: object) -> None:
    """One call fails with these words, and its connection is closed."""
    async with hooked(receiver, **{"retries": 0, "timeout_seconds": 5.0, **settings}) as hook:
        started = time.monotonic()
        with pytest.raises(HookError) as caught:
            await hook.call(sample(PreCreate))
        assert words in str(caught.value)
        assert time.monotonic() - started < 4  # and not by the time limit
        await receiver.wait_until_all_closed()


@pytest.mark.parametrize(
    "whole",
    [
        answer(STOP),
        CHUNKED + b"5\r\n" + STOP[:5] + b"\r\n" + b"e;a=b\r\n" + STOP[5:] + b"\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(STOP),
    ],
    ids=["plain", "chunked", "after 1xx"],
)
async def test_an_answer_may_come_byte_by_byte(whole: bytes) -> None:
    async def drip(peer: Peer) -> None:
        for each in whole:
            await peer.send(bytes([each]))

    async with receiving(drip, whole) as receiver, hooked(receiver) as hook:
        assert (await hook.call(sample())).is_stopped
        assert (await hook.call(sample())).is_stopped
        assert receiver.connections == 1


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
async def test_an_answer_may_end_with_its_connection(version: bytes) -> None:
    head = version + UNTIL_CLOSE[8:]
    async with receiving(then(head + STOP, "close")) as receiver, hooked(receiver, retries=0) as hook:
        assert (await hook.call(sample())).is_stopped
        assert (await hook.call(sample())).is_stopped
    assert receiver.connections == 2


async def test_a_receiver_may_close_after_each_answer() -> None:
    last = answer(STOP, "Connection: close")
    async with receiving(last) as receiver, hooked(receiver, retries=0) as hook:  # says so, and leaves it to us
        assert (await hook.call(sample())).is_stopped
        assert (await hook.call(sample())).is_stopped
        await receiver.wait_until_all_closed()
    assert receiver.connections == 2


async def test_an_empty_body_may_end_with_its_connection() -> None:
    quiet = then(b"HTTP/1.0 200 OK\r\n\r\n", "close")
    async with receiving(quiet) as receiver, hooked(receiver, retries=0) as hook:
        assert await hook.call(sample(PreCreate)) == GO_ON


async def test_what_a_1xx_says_is_not_of_the_answer() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    quiet = then(hints + b"HTTP/1.1 200 OK\r\n\r\n", "close")
    async with receiving(quiet) as receiver, hooked(receiver, retries=0) as hook:
        assert await hook.call(sample(PreCreate)) == GO_ON


async def test_announced_json_that_does_not_come_is_no_yes() -> None:
    """A receiver that died before it said no has not said yes."""
    async with receiving(then(UNTIL_CLOSE, "close")) as receiver:
        await fails(receiver, "ended before the JSON that its answer announced")


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (then(b"", "close"), "closed the connection without an answer"),
        (then(b"", "reset"), "closed the connection without an answer"),
        (then(b"HTTP/1.1 200 O", "close"), "ended within the head"),
        (then(b"HTTP/1.1 200 OK\r\nContent-Le", "reset"), "ended within the head"),
        (then(b"HTTP/1.1 100 Continue\r\n\r\n", "close"), "ended within the head"),
        (then(answer(STOP)[:-3], "close"), f"ended after {len(STOP) - 3} bytes"),
        (then(answer(STOP)[:-3], "reset"), "ended "),
        (then(UNTIL_CLOSE + STOP, "reset"), f"ended after {len(STOP)} bytes"),
        (then(CHUNKED + b"5\r\n{    \r\n", "close"), "ended after 5 bytes"),
        (then(CHUNKED + b"5\r\n{   }\r\n", "close"), "ended after 5 bytes"),
    ],
)
async def test_an_answer_that_is_cut_off_is_tried_again(behaviour: Behaviour, words: str) -> None:
    async with receiving(behaviour, behaviour, answer(STOP)) as receiver:
        await fails(receiver, words)
        async with hooked(receiver, retries=1) as hook:
            assert (await hook.call(sample())).is_stopped
        assert len(receiver.heard) == 3


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.7\r\n", "is not HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "is not HTTP"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "answered with HTTP/2.0"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", "is not HTTP"),
        (CHUNKED + b"zz\r\n{}", "is not HTTP"),
        (CHUNKED + b"2\r\n{}XX", "is not HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n{}", "101"),
        (answer(b" " * 5121), "longer than 5120 bytes"),
        (UNTIL_CLOSE + b" " * 5121, "longer than 5120 bytes"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 66000 + b"\r\n\r\n", "the head of its answer is longer than 65536"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 12000 + b"Content-Length: 0\r\n\r\n", "longer than 65536"),
        (for_ever(b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n" * 999), "longer than 65536"),
        (for_ever(b"HTTP/1.1 200 OK\r\nX: ", b"a" * 999), "longer than 65536"),
        (for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 99), "longer than 65536"),
        (for_ever(b"", b"\r\n" * 99), "longer than 65536"),
        (for_ever(UNTIL_CLOSE, b" " * 999), "longer than 5120 bytes"),
        (for_ever(CHUNKED, b"1\r\n \r\n" * 99), "longer than 5120 bytes"),
        (for_ever(CHUNKED + b"1", b";a=b" * 999), "to say little"),
        (for_ever(CHUNKED + b"0\r\n", b"X: 1\r\n" * 99), "longer than 65536"),
        (for_ever(CHUNKED + b"0\r\nX: ", b"a" * 999), "to say little"),
    ],
)
async def test_what_is_no_answer_is_said_at_once(behaviour: Behaviour, words: str) -> None:
    async with receiving(behaviour) as receiver:
        await fails(receiver, words, retries=3)
    assert len(receiver.heard) == 1


async def test_an_endless_page_of_a_failure_is_still_a_failure() -> None:
    page = for_ever(b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n\r\n<h1>Bad", b" Gateway" * 999)
    async with receiving(page, answer(STOP)) as receiver, hooked(receiver) as hook:
        assert (await hook.call(sample())).is_stopped
    assert receiver.connections == 2


@pytest.mark.parametrize(
    "behaviour",
    [
        Peer.wait_until_closed,
        lambda peer: then_waits(peer, b"HTTP/1.1 200 OK\r\n"),
        lambda peer: then_waits(peer, answer(STOP)[:-1]),
        lambda peer: then_waits(peer, CHUNKED + b"13\r\n" + STOP + b"\r\n"),
        lambda peer: then_waits(peer, b"HTTP/1.1 102 Processing\r\n\r\n"),
    ],
    ids=["silent", "head", "body", "last chunk", "1xx"],
)
async def test_a_receiver_that_stalls_is_given_up_in_time(behaviour: Behaviour) -> None:
    async with receiving(behaviour) as receiver:
        await fails(receiver, "no answer within 0.2 s: try 1 was waiting for the answer", timeout_seconds=0.2)


async def then_waits(peer: Peer, data: bytes) -> None:
    await peer.send(data)
    await peer.wait_until_closed()


async def test_a_body_longer_than_it_says_is_not_taken_for_the_next_answer() -> None:
    lie = answer(STOP) + answer(b'{"RejectUpload":true}')
    garbage = answer(STOP) + b"garbage"
    async with receiving(lie, garbage, answer(b"{}")) as receiver, hooked(receiver, retries=0) as hook:
        assert (await hook.call(sample(PreCreate))).is_stopped
        assert (await hook.call(sample(PreCreate))).is_stopped
        assert await hook.call(sample(PreCreate)) == GO_ON
        assert receiver.connections == 3


async def test_an_answer_to_nothing_is_not_taken_for_the_next_one() -> None:
    """It comes while the connection lies idle."""
    is_idle = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.send(answer(STOP))
        await is_idle.wait()
        await peer.send(answer(b'{"RejectUpload":true}'))
        await peer.wait_until_closed()  # which is our reaction

    async with receiving(talk, answer(b"{}")) as receiver, hooked(receiver, retries=0) as hook:
        assert (await hook.call(sample(PreCreate))).is_stopped
        is_idle.set()
        await receiver.wait_until_all_closed()
        assert await hook.call(sample(PreCreate)) == GO_ON
        assert receiver.connections == 2


async def test_an_answer_before_the_request_was_read_is_enough() -> None:
    """Of a request that fills all buffers; the next one does not wait behind its rest."""
    large = sample(PreCreate, large="x" * 20_000_000)
    async with receiving(answer(STOP), is_hasty=True) as receiver, hooked(receiver, retries=0) as hook:
        assert (await hook.call(large)).is_stopped
        assert (await hook.call(large)).is_stopped
        await receiver.wait_until_all_closed()
    assert [heard.line for heard in receiver.heard] == ["POST /hooks?a=b HTTP/1.1"] * 2
    assert receiver.connections == 2
