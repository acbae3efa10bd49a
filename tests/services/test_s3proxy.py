"""The fault proxy passes on what it is not told to hurt, names and counts it, and streams it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import s3proxy
from botocore.exceptions import ClientError, ConnectionClosedError
from rawupstream import RawUpstream, exactly
from s3bucket import PART_BYTES, Bucket, part_of
from s3calls import call_of
from s3proxy import FaultProxy
from s3servers import S3Server

MIB = 1 << 20


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("GET", "/", "ListBuckets"),
        ("HEAD", "/b", "HeadBucket"),
        ("PUT", "/b", "CreateBucket"),
        ("DELETE", "/b/", "DeleteBucket"),
        ("GET", "/b?list-type=2&prefix=uploads", "ListObjectsV2"),
        ("GET", "/b?prefix=uploadId", "ListObjects"),
        ("GET", "/b?uploads", "ListMultipartUploads"),
        ("GET", "/b?location", "GetBucketLocation"),
        ("POST", "/b?delete", "DeleteObjects"),
        ("PUT", "/b/k", "PutObject"),
        ("GET", "/b/k?response-content-type=x", "GetObject"),
        ("HEAD", "/b/k", "HeadObject"),
        ("DELETE", "/b/k", "DeleteObject"),
        ("POST", "/b/k?uploads=", "CreateMultipartUpload"),
        ("PUT", "/b/k?partNumber=1&uploadId=x", "UploadPart"),
        ("POST", "/b/k?uploadId=x", "CompleteMultipartUpload"),
        ("DELETE", "/b/k?uploadId=x", "AbortMultipartUpload"),
        ("GET", "/b/k?uploadId=x&max-parts=2", "ListParts"),
        ("PUT", "/b/k?tagging", "PutObjectTagging"),
        ("GET", "/b/k?tagging", "GetObjectTagging"),
        ("PATCH", "/b/k", "PATCH key"),
    ],
)
def test_operations_are_named(method: str, target: str, operation: str) -> None:
    assert call_of(1, method, target, {}).operation == operation


def test_copies_are_named_and_keys_decoded() -> None:
    copying = {"x-amz-copy-source": "/b/other"}
    assert call_of(1, "PUT", "/b/k", copying).operation == "CopyObject"
    call = call_of(1, "PUT", "/b/folder/a%20b%2B?partNumber=3&uploadId=x", copying)
    assert (call.operation, call.bucket, call.key) == ("UploadPartCopy", "b", "folder/a b+")
    assert call.query == {"partNumber": "3", "uploadId": "x"}


def test_each_server_accepts_what_comes_through(s3: S3Server) -> None:
    with FaultProxy(s3.host, s3.port) as proxy:
        client, bucket = s3.client(proxy.endpoint), s3.new_bucket()
        place = {"Bucket": bucket, "Key": "folder/a b"}
        upload_id = client.create_multipart_upload(**place)["UploadId"]
        parts = [
            {
                "PartNumber": number,
                "ETag": client.upload_part(**place, UploadId=upload_id, PartNumber=number, Body=body)["ETag"],
            }
            for number, body in ((1, part_of("a")), (2, b"end"))
        ]
        client.complete_multipart_upload(**place, UploadId=upload_id, MultipartUpload={"Parts": parts})
        with closing(client.get_object(**place)["Body"]) as body:
            assert body.read() == part_of("a") + b"end"
        assert client.head_object(**place)["ContentLength"] == PART_BYTES + 3
        client.delete_object(**place)
        with pytest.raises(ClientError, match="404"):
            client.head_object(**place)
        assert [(call.number, call.operation, call.key, call.status) for call in proxy.calls] == [
            (1, "CreateMultipartUpload", "folder/a b", 200),
            (2, "UploadPart", "folder/a b", 200),
            (3, "UploadPart", "folder/a b", 200),
            (4, "CompleteMultipartUpload", "folder/a b", 200),
            (5, "GetObject", "folder/a b", 200),
            (6, "HeadObject", "folder/a b", 200),
            (7, "DeleteObject", "folder/a b", 204),
            (8, "HeadObject", "folder/a b", 404),
        ]
        assert [call.request_bytes for call in proxy.calls[1:3]] == [PART_BYTES, 3]
        assert proxy.counts["UploadPart"] == proxy.counts["HeadObject"] == 2
        assert proxy.counts.total() == 8
        proxy.clear()
        client.head_bucket(Bucket=bucket)
        assert (proxy.counts, [call.number for call in proxy.calls]) == ({"HeadBucket": 1}, [1])


def test_signatures_are_still_verified_behind_it(versitygw: S3Server, proxy: FaultProxy) -> None:
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        versitygw.client(proxy.endpoint, secret_key="wrong").list_buckets()


def test_presigned_urls_of_the_proxy_work(versitygw: S3Server, proxy: FaultProxy) -> None:
    bucket = Bucket(versitygw)
    bucket.put("key", b"stored")
    url = versitygw.client(proxy.endpoint).generate_presigned_url("get_object", {"Bucket": bucket.name, "Key": "key"})
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as connection:
        path = url.removeprefix(proxy.endpoint)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{proxy.port}\r\nConnection: close\r\n\r\n".encode())
        assert b"".join(iter(lambda: connection.recv(65536), b"")).endswith(b"\r\n\r\nstored")
    assert [call.operation for call in proxy.calls] == ["GetObject"]


def test_heads_bodies_and_answers_pass_unchanged_on_one_connection(raw: RawUpstream) -> None:
    client = raw.connect()
    request = b"PUT /b/k HTTP/1.1\r\nHost: as.it.is:1\r\nX-Odd:  kept \r\nContent-Length: 4\r\n\r\nsome"
    answer = b"HTTP/1.1 200 Fine\r\nETag: x\r\nContent-Length: 2\r\n\r\nok"
    client.sendall(request + request)  # the second is read ahead
    server = raw.accept()
    for _ in range(2):
        exactly(server, request)
        server.sendall(answer)
        exactly(client, answer)


def test_chunked_bodies_and_answers_pass_unchanged(raw: RawUpstream) -> None:
    client = raw.connect()
    chunks = b"4;sig=1\r\nsome\r\n3\r\nend\r\n0\r\nx-amz-trailer: 1\r\n\r\n"
    request = b"PUT /b/k HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    for byte in (request[at : at + 1] for at in range(len(request))):
        client.sendall(byte)
    server = raw.accept()
    exactly(server, request)
    server.sendall(answer)
    exactly(client, answer)
    assert raw.proxy.calls[0].request_bytes == len(chunks)
    client.sendall(b"HEAD /b/k HTTP/1.1\r\n\r\n")
    exactly(server, b"HEAD /b/k HTTP/1.1\r\n\r\n")
    server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
    exactly(client, b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")


def test_an_answer_that_ends_with_its_connection_ends_the_clients_too(raw: RawUpstream) -> None:
    client = raw.connect()
    client.sendall(b"GET /b/k HTTP/1.1\r\n\r\n")
    server = raw.accept()
    exactly(server, b"GET /b/k HTTP/1.1\r\n\r\n")
    server.sendall(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    server.close()
    assert b"".join(iter(lambda: client.recv(65536), b"")) == b"HTTP/1.1 200 OK\r\n\r\nall of it"


def test_bodies_are_streamed_both_ways(raw: RawUpstream) -> None:
    client = raw.connect()
    head = b"PUT /b/k HTTP/1.1\r\nContent-Length: 2097152\r\n\r\n"
    client.sendall(head + bytes(MIB))
    server = raw.accept()
    exactly(server, head + bytes(MIB))  # while the rest has not been sent
    client.sendall(bytes(MIB))
    exactly(server, bytes(MIB))
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2097152\r\n\r\n"
    server.sendall(answer + bytes(MIB))
    exactly(client, answer + bytes(MIB))
    server.sendall(bytes(MIB))
    exactly(client, bytes(MIB))


def test_who_expects_100_continue_gets_it_from_s3(raw: RawUpstream) -> None:
    client = raw.connect()
    head = b"PUT /b/k HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    client.sendall(head)
    server = raw.accept()
    exactly(server, head)
    server.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    exactly(client, b"HTTP/1.1 100 Continue\r\n\r\n")
    client.sendall(b"some")
    exactly(server, b"some")
    server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    exactly(client, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def test_who_expects_100_continue_may_be_refused_instead(raw: RawUpstream) -> None:
    client = raw.connect()
    client.sendall(b"PUT /b/k HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    refusal = b"HTTP/1.1 412 No\r\nContent-Length: 0\r\n\r\n"
    raw.accept().sendall(refusal)
    exactly(client, refusal)
    assert client.recv(1) == b""
    assert (raw.proxy.calls[0].status, raw.proxy.calls[0].request_bytes) == (412, 0)


def test_an_early_refusal_reaches_who_is_still_sending(raw: RawUpstream) -> None:
    client = raw.connect()
    client.sendall(b"PUT /b/k HTTP/1.1\r\nContent-Length: 2097156\r\n\r\nsome")
    server = raw.accept()
    exactly(server, b"PUT /b/k HTTP/1.1\r\nContent-Length: 2097156\r\n\r\nsome")
    refusal = b"HTTP/1.1 403 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
    server.sendall(refusal)
    server.close()
    client.sendall(bytes(2 * MIB))
    exactly(client, refusal)
    assert client.recv(1) == b""
    assert raw.proxy.calls[0].request_bytes == 4 + 2 * MIB


def test_a_dead_server_looks_dead_and_is_found_again(raw: RawUpstream) -> None:
    client = raw.connect()
    client.sendall(b"GET /b/k HTTP/1.1\r\n\r\n")
    raw.accept().close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    again = raw.connect()
    answer = b"HTTP/1.1 204 OK\r\n\r\n"
    for _ in range(2):  # the server closes after each answer, without saying so
        again.sendall(b"DELETE /b/k HTTP/1.1\r\n\r\n")
        with raw.accept() as server:
            server.sendall(answer)
            exactly(again, answer)
            server.shutdown(socket.SHUT_RDWR)
    assert [(call.status, call.upstream_status) for call in raw.proxy.calls] == [(None, None), (204, 204), (204, 204)]


def test_a_server_can_be_killed_at_a_call_and_started_again(versitygw: S3Server) -> None:
    with type(versitygw)() as own, FaultProxy(own.host, own.port) as proxy:
        bucket = Bucket(own)
        client = own.client(proxy.endpoint)

        def kill(call: object) -> None:
            proxy.on_call = None
            own.kill()

        proxy.on_call = kill
        with pytest.raises(ConnectionClosedError):
            client.put_object(Bucket=bucket.name, Key="key", Body=b"some")
        own.start()
        client.put_object(Bucket=bucket.name, Key="key", Body=b"again")
        assert bucket.get("key") == b"again"
        assert [call.upstream_status for call in proxy.calls] == [None, 200]


def test_close_ends_connections_and_tells_what_failed_inside(raw: RawUpstream) -> None:
    client, waiting = raw.connect(), raw.connect()
    waiting.sendall(b"GET /b/k HTTP/1.1\r\n\r\n")
    raw.accept()
    raw.proxy.on_call = lambda call: call.nothing  # type: ignore[attr-defined]
    client.sendall(b"GET /b/k HTTP/1.1\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ExceptionGroup, match="in the proxy") as caught:
        raw.proxy.close()
    assert [type(each) for each in caught.value.exceptions] == [AttributeError]
    assert waiting.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", raw.proxy.port), 1)


def test_as_a_program_it_counts_and_needs_little_memory(versitygw: S3Server) -> None:
    size = 96 * MIB
    command = [sys.executable, s3proxy.__file__, "--upstream", f"{versitygw.host}:{versitygw.port}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            endpoint = f"http://127.0.0.1:{int(process.stdout.readline())}"
            client = versitygw.client(endpoint, request_checksum_calculation="when_required")
            client.put_object(Bucket=versitygw.new_bucket(), Key="large", Body=bytes(size))
            print(file=process.stdin, flush=True)
            counted = {"calls": {"PutObject": 1}, "request_bytes": {"PutObject": size}}
            assert json.loads(process.stdout.readline()) == counted
            print(file=process.stdin, flush=True)
            assert json.loads(process.stdout.readline()) == {"calls": {}, "request_bytes": {}}
            peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            assert peak is not None
            assert int(peak[1]) << 10 < size
            process.stdin.close()
            assert process.wait(10) == 0
        finally:
            process.kill()
