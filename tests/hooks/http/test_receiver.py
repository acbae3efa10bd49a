"""What receivers are sent, what their answers mean, and how often they are tried."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from email.utils import formatdate

import pytest
from rawreceiver import HOST, Peer, answer, hooked, receiving, sample

from tusd_py.errors import ConfigError
from tusd_py.hooks.contract import GO_ON, Change, Event, HookError, PreAccess, PreCreate, PreTerminate, Request
from tusd_py.hooks.http.settings import ReceiverSettings
from tusd_py.hooks.http.transport import Receiver
from tusd_py.hooks.wire import decode_event, encode_event

pytestmark = pytest.mark.anyio

BUSY = answer(b"come back", status="503 Service Unavailable", kind="text/plain")


async def test_a_receiver_is_sent_tusds_json() -> None:
    async with receiving(answer()) as receiver, hooked(receiver) as hook:
        assert await hook.call(sample()) == GO_ON
    (heard,) = receiver.heard
    assert heard.line == "POST /hooks?a=b HTTP/1.1"
    assert heard.one("Host") == f"{HOST}:{receiver.port}"
    assert heard.one("Content-Type") == "application/json"
    assert not heard.all("Accept-Encoding")
    assert not heard.all("Authorization")
    assert not heard.all("Cookie")
    assert not heard.all("webhook-id")
    assert heard.body == encode_event(sample())
    assert decode_event(heard.body) == sample()


async def test_an_answer_rejects_and_changes() -> None:
    rejection = answer(b'{"RejectUpload":true,"HTTPResponse":{"StatusCode":418,"Body":"no","Header":{"X":"y"}}}')
    change = answer(b'{"ChangeFileInfo":{"ID":"b","MetaData":{"c":"d"}}}', kind="Application/JSON; charset=utf-8")
    async with receiving(rejection, change) as receiver, hooked(receiver) as hook:
        rejected = await hook.call(sample(PreCreate))
        assert rejected.is_rejected
        assert rejected.response is not None
        assert (rejected.response.status, rejected.response.body) == (418, "no")
        assert rejected.response.headers == {"X": "y"}
        assert (await hook.call(sample(PreCreate))).change == Change("b", {"c": "d"})


@pytest.mark.parametrize(
    ("event", "field"),
    [(PreCreate, "RejectUpload"), (PreTerminate, "RejectTermination"), (PreAccess, "RejectAccess")],
)
async def test_each_event_has_its_own_word_for_no(event: type[Event], field: str) -> None:
    async with receiving(answer(b'{"%s":true}' % field.encode())) as receiver, hooked(receiver) as hook:
        assert (await hook.call(sample(event))).is_rejected


@pytest.mark.parametrize(
    "nothing",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        answer(b""),
        answer(b" \n"),
        b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_a_success_without_a_body_means_go_on(nothing: bytes) -> None:
    async with receiving(nothing) as receiver, hooked(receiver) as hook:
        assert await hook.call(sample(PreCreate)) == GO_ON
        assert await hook.call(sample(PreCreate)) == GO_ON
        assert receiver.connections == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (answer(b"hello", kind="text/plain"), "has the Content-Type text/plain; it must be application/json: hello"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "has no Content-Type"),
        (answer(b"{}", kind="application/jsonp"), "application/jsonp"),
        (answer(b"{}", "Content-Encoding: gzip"), "is packed (gzip)"),
        (answer(b"[1"), "is not JSON"),
        (answer(b"[1]"), "not an object"),
        (answer(b'{"RejectUpload":"yes"}'), "not true or false"),
        (answer(b"no\x1b[31m way\n", status="400 Bad Request"), "it answered 400: no [31m way"),
        (answer(b"x" * 9000, status="404 Not Found"), "it answered 404: " + "x" * 200 + "..."),
        (answer(b"", status="401 Unauthorized"), "it answered 401"),
    ],
)
async def test_a_wrong_answer_is_said_at_once(wrong: bytes, words: str) -> None:
    async with receiving(wrong) as receiver, hooked(receiver) as hook:
        with pytest.raises(HookError) as caught:
            await hook.call(sample(PreCreate))
        assert words in str(caught.value)
        assert str(caught.value).startswith(f"http://{HOST}:{receiver.port}/hooks: ")
        assert "\x1b" not in str(caught.value)
        assert not caught.value.is_final
    assert len(receiver.heard) == 1


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "304 Not Modified"])
async def test_a_redirect_is_not_followed(status: str) -> None:
    async with receiving(answer()) as other:
        location = f"Location: http://user:secret@{HOST}:{other.port}/elsewhere?token=secret"
        async with receiving(answer(b"", location, status=status)) as receiver, hooked(receiver) as hook:
            with pytest.raises(HookError, match="redirects are not followed") as caught:
                await hook.call(sample())
    assert f"leads to http://{HOST}:{other.port}/elsewhere:" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert (len(receiver.heard), other.connections) == (1, 0)


@pytest.mark.parametrize(
    "status", ["500 Internal Server Error", "503 Service Unavailable", "408 Timeout", "425 Too Early", "429 Too Many"]
)
async def test_a_failure_is_tried_again(status: str) -> None:
    async with (
        receiving(answer(b"", status=status), answer(b'{"StopUpload":true}')) as receiver,
        hooked(receiver, secrets=("whsec_" + "QUJD" * 8,)) as hook,
    ):
        assert (await hook.call(sample())).is_stopped
    one, two = receiver.heard
    assert one.body == two.body
    assert one.one("webhook-id") == two.one("webhook-id") == "a:post-finish"


async def test_a_failure_is_tried_so_often_and_no_more() -> None:
    async with receiving(BUSY) as receiver, hooked(receiver, retries=2) as hook:
        with pytest.raises(HookError, match="it answered 503: come back") as caught:
            await hook.call(sample())
        assert (caught.value.retry_after_seconds, caught.value.is_final) == (None, False)
    assert len(receiver.heard) == 3


async def test_there_is_a_pause_between_tries() -> None:
    async with receiving(BUSY, answer()) as receiver, hooked(receiver, backoff_seconds=0.2) as hook:
        started = time.monotonic()
        assert await hook.call(sample()) == GO_ON
        assert time.monotonic() - started >= 0.19


async def test_who_is_gone_is_never_called_again() -> None:
    async with receiving(answer(b"bye", status="410 Gone")) as receiver, hooked(receiver) as hook:
        with pytest.raises(HookError, match="it answered 410: bye") as caught:
            await hook.call(sample())
        assert caught.value.is_final
    assert len(receiver.heard) == 1


async def test_a_short_retry_after_is_waited_for() -> None:
    busy = answer(b"", "Retry-After: 1", status="429 Too Many Requests")
    async with receiving(busy, answer()) as receiver, hooked(receiver) as hook:
        started = time.monotonic()
        assert await hook.call(sample()) == GO_ON
        assert 0.99 <= time.monotonic() - started < 5


async def test_a_long_retry_after_is_handed_on() -> None:
    busy = answer(b"", "Retry-After: 120", status="503 Service Unavailable")
    date = answer(b"", f"Retry-After: {formatdate(time.time() + 600, usegmt=True)}", status="429 Too Many Requests")
    endless = answer(b"", f"Retry-After: {'9' * 400}", status="503 Service Unavailable")
    past = answer(b"", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT", status="503 Service Unavailable")
    async with receiving(busy, date, endless, past) as receiver, hooked(receiver) as hook:
        waits = []
        for _ in range(4):
            with pytest.raises(HookError) as caught:
                await hook.call(sample())
            waits.append(caught.value.retry_after_seconds)
    assert waits[0] == 120
    assert 590 < (waits[1] or 0) <= 600
    assert waits[2:] == [86400, 0]
    assert len(receiver.heard) == 3 + 4  # none was tried again, but for the last


@pytest.mark.parametrize("nonsense", ["soon", "-5", "1.5", "\xb2", "Sun, 99 Nov 1994 08:49:37 GMT", ""])
async def test_a_retry_after_that_says_nothing_is_passed_over(nonsense: str) -> None:
    busy = answer(b"", f"Retry-After: {nonsense}", status="503 Service Unavailable")
    async with receiving(busy, answer()) as receiver, hooked(receiver) as hook:
        assert await hook.call(sample()) == GO_ON


async def test_the_time_limit_is_for_all_tries_and_says_what_happened() -> None:
    async with receiving(BUSY, Peer.wait_until_closed) as receiver, hooked(receiver, timeout_seconds=0.3) as hook:
        started = time.monotonic()
        with pytest.raises(HookError) as caught:
            await hook.call(sample())
        assert 0.29 <= time.monotonic() - started < 5
        await receiver.wait_until_all_closed()
    assert str(caught.value).endswith(
        "no answer within 0.3 s: try 2 was waiting for the answer; the one before: it answered 503: come back"
    )


async def test_a_pause_that_does_not_fit_into_the_time_limit_is_not_made() -> None:
    async with receiving(BUSY) as receiver, hooked(receiver, timeout_seconds=5, backoff_seconds=6) as hook:
        async with asyncio.timeout(2):
            with pytest.raises(HookError, match="it answered 503"):
                await hook.call(sample())


async def test_nobody_there_is_said() -> None:
    async with receiving(answer()) as receiver:
        pass
    async with hooked(receiver, retries=1) as hook:
        with pytest.raises(HookError, match="it cannot be reached: "):
            await hook.call(sample())


async def test_a_user_in_the_url_is_basic_auth_and_never_shown() -> None:
    async with receiving(answer(b"no", status="400 Bad Request")) as receiver:
        url = f"http://us%20er:s%3Acret@{HOST}:{receiver.port}/x?token=s3cret"
        async with hooked(url, forward_headers=("Authorization",)) as hook:
            with pytest.raises(HookError) as caught:
                await hook.call(sample())
            assert "cret" not in f"{caught.value!r} {hook._settings!r} {hook._address!r}"
    assert receiver.heard[0].one("Authorization") == "Basic dXMgZXI6czpjcmV0"
    assert receiver.heard[0].line == "POST /x?token=s3cret HTTP/1.1"


async def test_headers_are_forwarded_as_they_are_named() -> None:
    async with (
        receiving(answer()) as receiver,
        hooked(receiver, forward_headers=("x-TEAM", "Cookie", "X-Missing")) as hook,
    ):
        await hook.call(sample())
    (heard,) = receiver.heard
    assert [(name, value) for name, value in heard.headers if name.lower() in ("x-team", "cookie", "x-missing")] == [
        ("x-TEAM", "red"), ("x-TEAM", "blue"), ("Cookie", "a=1"),
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "a\x7f", "日本"])
async def test_a_value_with_control_characters_cannot_pass(value: str) -> None:
    event = replace(sample(), request=Request(headers={"X-Team": (value, "good")}))
    async with receiving(answer()) as receiver, hooked(receiver, forward_headers=("X-Team",)) as hook:
        await hook.call(event)
    assert receiver.heard[0].all("X-Team") == ["good"]
    assert not receiver.heard[0].all("X-Evil")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": ""}, "needs a URL or a metadata key"),
        ({"metadata_key": "callback"}, "one of them"),
        ({"url": "ftp://a/"}, "does not begin with http"),
        ({"url": "http://us:secret@a:b/"}, "is no URL"),
        ({"url": "http:///x"}, "no host name"),
        ({"url": "http://a..b/"}, "cannot be"),
        ({"url": "http://a/ b"}, "has a space"),
        ({"url": "http://a/\r\nX: y"}, "has a space"),
        ({"url": "http://" + "a" * 3000}, "longer than"),
        ({"retries": -1}, "retries of the receiver test is -1"),
        ({"timeout_seconds": 0}, "time limit"),
        ({"max_connections": 0}, "most connections"),
        ({"forward_headers": ("Host",)}, "Host is of the connection"),
        ({"forward_headers": ("content-length",)}, "content-length is of"),
        ({"forward_headers": ("Transfer-Encoding",)}, "is of the connection"),
        ({"forward_headers": ("webhook-id",)}, "is of the connection"),
        ({"forward_headers": ("a b",)}, "is no name of a header"),
        ({"forward_headers": ("a:\r\nb",)}, "is no name of a header"),
    ],
)
async def test_settings_that_cannot_work_are_refused(settings: dict[str, object], words: str) -> None:
    given: dict[str, object] = {"name": "test", "events": frozenset(), "url": "http://localhost/", **settings}
    with pytest.raises(ConfigError) as caught:
        Receiver(ReceiverSettings(**given))  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
