"""Delayed visibility (failures F13): the proxy answers what was there before, and writes stay as they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from s3bucket import Bucket
from s3proxy import FaultProxy
from s3servers import S3Server

SECONDS = 0.5
FOR_THE_TEST = 60.0


class Late:
    """A bucket with objects from before, read and written through a proxy that is late."""

    def __init__(self, server: S3Server, proxy: FaultProxy) -> None:
        self.server = server
        self.proxy = proxy
        self.bucket = Bucket(server)
        self.bucket.put("old", b"0123456789", Metadata={"fence": "1"})
        self._client = server.client(proxy.endpoint)
        self.bucket.client = self._client

    def begin(self, seconds: float = FOR_THE_TEST) -> None:
        self.proxy.stale_reads(seconds, self.server.client())

    def sizes(self, **fields: Any) -> dict[str, int]:
        found = self._client.list_objects_v2(Bucket=self.bucket.name, **fields)
        sizes = {each["Key"]: each["Size"] for each in found.get("Contents", ())}
        assert found["KeyCount"] == len(sizes)
        return sizes


@pytest.fixture
def late(versitygw: S3Server, proxy: FaultProxy) -> Late:
    return Late(versitygw, proxy)


def missing(read: Callable[[], object]) -> bool:
    try:
        read()
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404, error
        return True
    return False


def test_each_server_can_be_late(s3: S3Server) -> None:
    with FaultProxy(s3.host, s3.port) as proxy:
        late = Late(s3, proxy)
        late.begin()
        bucket = late.bucket
        bucket.put("old", b"changed")
        bucket.put("a new+key", b"new")
        assert bucket.get("old") == b"0123456789"
        assert missing(lambda: bucket.get("a new+key"))
        assert late.sizes() == {"old": 10}
        proxy.heal()
        assert late.sizes() == {"a new+key": 3, "old": 7}


def test_a_new_key_is_missing_at_first(late: Late) -> None:
    late.begin()
    late.bucket.put("new", b"new")
    assert missing(lambda: late.bucket.get("new"))
    assert missing(lambda: late.bucket.head("new"))
    assert late.sizes() == {"old": 10}


def test_a_changed_key_is_as_it_was(late: Late) -> None:
    before = late.bucket.head("old")
    late.begin()
    for fence in ("2", "3"):
        late.bucket.put("old", b"changed", Metadata={"fence": fence})
    after = late.bucket.head("old")
    for name in ("ETag", "ContentLength", "Metadata", "LastModified"):
        assert after[name] == before[name]
    assert late.bucket.get("old") == b"0123456789"
    assert late.sizes() == {"old": 10}


def test_ranges_and_conditions_of_reads_are_of_what_was(late: Late) -> None:
    before = late.bucket.head("old")["ETag"]
    late.begin()
    late.bucket.put("old", b"changed")
    got = [late.bucket.get("old", Range=f"bytes={each}") for each in ("2-4", "7-", "-2", "8-20")]
    assert got == [b"234", b"789", b"89", b"89"]
    assert late.bucket.get("old", IfMatch=before) == b"0123456789"
    with pytest.raises(ClientError, match="InvalidRange"):
        late.bucket.get("old", Range="bytes=10-")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        late.bucket.get("old", IfMatch='"other"')
    with pytest.raises(ClientError, match="304"):
        late.bucket.get("old", IfNoneMatch=before)


def test_deleted_keys_are_still_there(late: Late) -> None:
    late.bucket.put("other/one", b"1")
    late.begin()
    client, name = late.bucket.client, late.bucket.name
    client.delete_object(Bucket=name, Key="old")
    client.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "other/one"}]})
    assert late.bucket.get("old") == b"0123456789"
    assert late.sizes() == {"old": 10, "other/one": 1}
    assert late.sizes(Prefix="other/") == {"other/one": 1}
    late.proxy.heal()
    assert late.sizes() == {}


def test_completed_and_copied_objects_are_late_too(late: Late) -> None:
    late.begin()
    upload = late.bucket.begin()
    upload.complete(upload.send(1, b"end"))
    place = {"Bucket": late.bucket.name, "Key": "old"}
    late.bucket.client.copy_object(Bucket=late.bucket.name, Key="copy", CopySource=place)
    assert missing(lambda: late.bucket.head(upload.key))
    assert missing(lambda: late.bucket.head("copy"))
    late.proxy.heal()
    assert late.bucket.get(upload.key) == b"end"


def test_large_objects_are_never_late(late: Late, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3stale.LARGEST_BYTES", 9)
    late.begin()
    late.bucket.put("old", b"changed")
    assert late.bucket.get("old") == b"changed"


def test_conditions_of_writes_are_of_what_is(late: Late) -> None:
    late.begin()
    etag = late.bucket.put("new", b"first", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError, match="PreconditionFailed"):
        late.bucket.put("new", b"second", IfNoneMatch="*")
    late.bucket.put("new", b"third", IfMatch=etag)
    late.proxy.heal()
    assert late.bucket.get("new") == b"third"


def test_what_was_is_what_was_so_many_seconds_ago(late: Late) -> None:
    late.begin(SECONDS)
    started = time.monotonic()
    late.bucket.put("old", b"second")
    while (seen := late.bucket.get("old")) == b"0123456789":
        assert time.monotonic() - started < SECONDS + 5
    assert seen == b"second"
    assert time.monotonic() - started >= SECONDS
    late.bucket.put("old", b"third")
    assert late.bucket.get("old") == b"second"


def test_a_request_that_was_lost_on_its_way_back_is_late_too(late: Late) -> None:
    late.begin()
    late.proxy.inject("error500", "PutObject", carried_out=True)
    with pytest.raises(ClientError, match="InternalError"):
        late.bucket.put("old", b"changed")
    assert late.bucket.get("old") == b"0123456789"
    late.proxy.heal()
    assert late.bucket.get("old") == b"changed"
