"""Each fault of the proxy does what it says: to the client, and to what S3 has afterwards."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError, ResponseStreamingError
from rawupstream import RawUpstream, exactly
from s3bucket import PART_BYTES, Bucket
from s3faults import Fault, Kind
from s3proxy import FaultProxy
from s3servers import S3Server

CARRIED_OUT = pytest.mark.parametrize("carried_out", [False, True], ids=["not-carried-out", "carried-out"])


class Hurt:
    """A bucket that is written to through the proxy and read from beside it."""

    def __init__(self, server: S3Server, proxy: FaultProxy) -> None:
        self.server = server
        self.proxy = proxy
        self.real = Bucket(server)
        self.client = server.client(proxy.endpoint)

    def put(self, key: str = "key", body: bytes = b"some", client: Any = None, **fields: Any) -> None:
        (client or self.client).put_object(Bucket=self.real.name, Key=key, Body=body, **fields)

    def get(self, key: str = "key", **fields: Any) -> bytes:
        with closing(self.client.get_object(Bucket=self.real.name, Key=key, **fields)["Body"]) as body:
            content: bytes = body.read()
        return content

    def impatient(self) -> Any:
        return self.server.client(self.proxy.endpoint, read_timeout=0.2)

    def has(self, key: str = "key") -> bool:
        return key in self.real.list()


def received_before_reset(connection: socket.socket) -> bytes:
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        return received
    raise AssertionError("it ended in order")


@pytest.fixture
def hurt(versitygw: S3Server, proxy: FaultProxy) -> Hurt:
    return Hurt(versitygw, proxy)


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def test_before_is_a_reset_and_nothing_happened(hurt: Hurt) -> None:
    fault = hurt.proxy.inject("before")
    with pytest.raises(ConnectionClosedError):
        hurt.put()
    call = fault.wait()
    assert (call.operation, call.status, call.upstream_status) == ("PutObject", None, None)
    assert not hurt.has()
    hurt.put()
    assert hurt.has()


def test_after_is_a_reset_and_it_happened(hurt: Hurt) -> None:
    fault = hurt.proxy.inject("after")
    with pytest.raises(ConnectionClosedError):
        hurt.put()
    call = fault.wait()
    assert (call.status, call.upstream_status) == (None, 200)
    assert hurt.real.get("key") == b"some"


@pytest.mark.parametrize("kind", ["before", "after", "hang"])
def test_cut_connections_end_with_a_reset(hurt: Hurt, kind: Kind) -> None:
    fault = hurt.proxy.inject(kind, "ListBuckets")
    with socket.create_connection(("127.0.0.1", hurt.proxy.port), 10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        fault.wait()
        fault.release()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


@CARRIED_OUT
@pytest.mark.parametrize(
    ("kind", "status", "code"), [("error500", 500, "InternalError"), ("slow_down", 503, "SlowDown")]
)
def test_s3_says_an_error(hurt: Hurt, kind: Kind, status: int, code: str, carried_out: bool) -> None:
    hurt.proxy.inject(kind, carried_out=carried_out)
    with pytest.raises(ClientError, match=code) as caught:
        hurt.put(body=bytes(100_000))
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    call = hurt.proxy.calls[0]
    assert (call.status, call.upstream_status) == (status, 200 if carried_out else None)
    assert call.request_bytes == 100_000
    assert hurt.has() is carried_out


def test_an_error_to_a_head_has_no_body(hurt: Hurt) -> None:
    hurt.real.put("key")
    hurt.proxy.inject("slow_down", "HeadObject")
    with pytest.raises(ClientError, match="503"):
        hurt.client.head_object(Bucket=hurt.real.name, Key="key")
    hurt.client.head_object(Bucket=hurt.real.name, Key="key")


@CARRIED_OUT
def test_an_error_inside_200_of_complete(hurt: Hurt, carried_out: bool) -> None:
    upload = hurt.real.begin()
    parts = {"Parts": [upload.send(1, b"end")]}
    hurt.proxy.inject("error_inside_200", "CompleteMultipartUpload", carried_out=carried_out)
    with pytest.raises(ClientError, match="InternalError"):
        hurt.client.complete_multipart_upload(
            Bucket=hurt.real.name, Key=upload.key, UploadId=upload.id, MultipartUpload=parts
        )
    assert hurt.proxy.calls[0].status == 200
    assert hurt.has(upload.key) is carried_out


@CARRIED_OUT
def test_an_error_inside_200_of_a_copy(hurt: Hurt, carried_out: bool) -> None:
    hurt.real.put("source")
    hurt.proxy.inject("error_inside_200", "CopyObject", carried_out=carried_out)
    place = {"Bucket": hurt.real.name, "Key": "source"}
    with pytest.raises(ClientError, match="InternalError"):
        hurt.client.copy_object(Bucket=hurt.real.name, Key="target", CopySource=place)
    assert hurt.has("target") is carried_out


@pytest.mark.parametrize("passed_on", [False, True])
def test_reset_mid_body_after_half_of_it(hurt: Hurt, passed_on: bool) -> None:
    hurt.real.put("key", b"before")
    fault = hurt.proxy.inject("reset_mid_body", "PutObject", passed_on=passed_on)
    with pytest.raises(ConnectionClosedError):
        hurt.put(body=bytes(PART_BYTES))
    call = fault.wait()
    call.wait()
    assert (call.request_bytes, call.status) == (PART_BYTES // 2, None)
    assert hurt.real.get("key") == b"before"


def test_half_of_a_body_is_what_s3_received(raw: RawUpstream) -> None:
    raw.proxy.inject("reset_mid_body", passed_on=True)
    body = bytes(range(256)) * 256
    client = raw.connect()
    client.sendall(b"PUT /b/k HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert received_before_reset(raw.accept()).partition(b"\r\n\r\n")[2] == body[: len(body) // 2]
    assert received_before_reset(client) == b""


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_truncate_answer_gives_half_and_a_reset(hurt: Hurt, size: int) -> None:
    hurt.real.put("key", bytes(size))
    hurt.proxy.inject("truncate_answer", "GetObject")
    url = hurt.client.generate_presigned_url("get_object", {"Bucket": hurt.real.name, "Key": "key"})
    with socket.create_connection(("127.0.0.1", hurt.proxy.port), 10) as connection:
        path = url.removeprefix(hurt.proxy.endpoint)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{hurt.proxy.port}\r\n\r\n".encode())
        head, _, received = received_before_reset(connection).partition(b"\r\n\r\n")
    assert f"content-length: {size}\r\n".encode() in head.lower() + b"\r\n"
    assert received == bytes(size // 2)
    assert hurt.get() == bytes(size)


def test_a_truncated_answer_is_an_error_to_boto(hurt: Hurt) -> None:
    hurt.real.put("key")
    hurt.proxy.inject("truncate_answer", "GetObject")
    with pytest.raises(ResponseStreamingError):
        hurt.get()


@CARRIED_OUT
def test_hang_never_answers(hurt: Hurt, carried_out: bool) -> None:
    fault = hurt.proxy.inject("hang", "PutObject", carried_out=carried_out)
    with pytest.raises(ReadTimeoutError):
        hurt.put(client=hurt.impatient())
    assert hurt.has() is carried_out
    fault.release()
    fault.wait().wait()
    assert hurt.has() is carried_out
    assert hurt.proxy.calls[0].status is None


def test_a_held_request_lands_late_though_its_client_has_left(hurt: Hurt) -> None:
    fault = hurt.proxy.inject("hold", "PutObject")
    with pytest.raises(ReadTimeoutError):
        hurt.put(body=b"late", client=hurt.impatient())
    call = fault.wait()
    hurt.put(body=b"newer")  # a hold holds one call
    assert hurt.real.get("key") == b"newer"
    fault.release()
    call.wait()
    assert call.upstream_status == 200
    assert hurt.real.get("key") == b"late"


def test_a_held_request_stays_bound_to_its_conditions(hurt: Hurt) -> None:
    fault = hurt.proxy.inject("hold", "PutObject")
    with pytest.raises(ReadTimeoutError):
        hurt.put(body=b"late", client=hurt.impatient(), IfNoneMatch="*")
    hurt.put(body=b"newer", IfNoneMatch="*")
    fault.release()
    fault.wait().wait()
    assert hurt.proxy.calls[0].upstream_status == 412
    assert hurt.real.get("key") == b"newer"


def test_a_held_answer_comes_on_release(hurt: Hurt, background: ThreadPoolExecutor) -> None:
    fault = hurt.proxy.inject("hold", "PutObject", carried_out=True)
    putting = background.submit(hurt.put)
    fault.wait()
    assert hurt.has()
    assert not putting.done()
    fault.release()
    putting.result(10)


def test_a_hold_for_ever_holds_all_until_released(hurt: Hurt, background: ThreadPoolExecutor) -> None:
    fault = hurt.proxy.inject("hold", "PutObject", for_ever=True)
    first = background.submit(hurt.put, "first")
    second = background.submit(hurt.put, "second")
    fault.wait(times=2)
    assert not hurt.real.list()
    fault.release()
    for putting in (first, second):
        putting.result(10)
    hurt.put("third")  # released once and for all
    assert hurt.real.list() == ["first", "second", "third"]


def test_delay_waits_and_then_passes_on(hurt: Hurt) -> None:
    hurt.proxy.inject("delay", seconds=0.3)
    started = time.monotonic()
    hurt.put()
    assert time.monotonic() - started >= 0.3
    assert hurt.has()


def test_a_large_body_can_be_held_and_delayed(hurt: Hurt) -> None:
    hurt.proxy.inject("delay", seconds=0.01)
    body = bytes(range(256)) * (PART_BYTES >> 8)
    hurt.put(body=body)
    assert hurt.real.get("key") == body


def test_a_fault_waits_for_the_nth_call_from_now_on(hurt: Hurt) -> None:
    hurt.put()
    hurt.proxy.inject("error500", nth=2)
    hurt.put()
    with pytest.raises(ClientError, match="InternalError"):
        hurt.put()
    hurt.put()


def test_a_fault_waits_for_the_nth_of_its_operation(hurt: Hurt) -> None:
    fault = hurt.proxy.inject("error500", "GetObject", nth=2)
    hurt.put()
    hurt.get()
    hurt.put()
    with pytest.raises(ClientError, match="InternalError"):
        hurt.get()
    assert [call.number for call in fault.hits] == [4]


def test_a_fault_waits_for_the_call_that_it_is_for(hurt: Hurt) -> None:
    hurt.proxy.inject("error500", where=lambda call: call.key == "this" and call.headers.get("if-none-match") == "*")
    hurt.put("this")
    hurt.put("that", IfNoneMatch="*")
    with pytest.raises(ClientError, match="InternalError"):
        hurt.put("this", IfNoneMatch="*")


def test_a_fault_for_ever_lasts_until_it_is_healed(hurt: Hurt) -> None:
    fault = hurt.proxy.inject("error500", nth=2, for_ever=True)
    hurt.put()
    for _ in range(3):
        with pytest.raises(ClientError, match="InternalError"):
            hurt.put()
    hurt.proxy.heal()
    hurt.put()
    assert len(fault.hits) == 3


def test_two_faults_each_count_from_when_they_were_set(hurt: Hurt) -> None:
    hurt.proxy.inject("error500", nth=1)
    hurt.proxy.inject("slow_down", nth=2)
    with pytest.raises(ClientError, match="InternalError"):
        hurt.put()
    with pytest.raises(ClientError, match="SlowDown"):
        hurt.put()
    hurt.put()


def test_heal_lets_go_what_stands(hurt: Hurt, background: ThreadPoolExecutor) -> None:
    fault = hurt.proxy.inject("hold")
    putting = background.submit(hurt.put)
    fault.wait()
    hurt.proxy.heal()
    putting.result(10)


def test_close_ends_what_stands(versitygw: S3Server, background: ThreadPoolExecutor) -> None:
    with FaultProxy(versitygw.host, versitygw.port) as proxy:
        hurt = Hurt(versitygw, proxy)
        fault = proxy.inject("hang")
        putting = background.submit(hurt.put)
        fault.wait()
    with pytest.raises(ConnectionClosedError):
        putting.result(10)


def test_a_client_that_expects_100_continue_is_let_to_send_its_body(hurt: Hurt) -> None:
    hurt.proxy.inject("error500")
    with socket.create_connection(("127.0.0.1", hurt.proxy.port), 10) as connection:
        connection.sendall(b"PUT /b/k HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"some")
        assert connection.recv(4096).startswith(b"HTTP/1.1 500 ")


def test_what_was_collected_is_passed_on_as_one_message(raw: RawUpstream) -> None:
    raw.proxy.inject("delay")
    client = raw.connect()
    head = b"PUT /b/k HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    client.sendall(head)
    exactly(client, b"HTTP/1.1 100 Continue\r\n\r\n")
    client.sendall(b"some")
    server = raw.accept()
    exactly(server, head + b"some")
    server.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    server.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nend\r\n0\r\n\r\n")
    exactly(client, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nokend")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("burn", {}),
        ("before", {"carried_out": True}),
        ("reset_mid_body", {"carried_out": True}),
        ("after", {"passed_on": True}),
    ],
)
def test_faults_that_make_no_sense_are_refused(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=kind if kind != "after" else "reset_mid_body"):
        Fault(kind, **options)
