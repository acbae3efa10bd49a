"""Conditional writes: what is refused, and that of many at once one wins."""

from __future__ import annotations

from s3bucket import Bucket, check, refused, winners


@check
def put_if_none_match(bucket: Bucket) -> None:
    """PutObject with If-None-Match: * writes what is new and refuses what exists: PreconditionFailed"""
    key = bucket.new_key()
    bucket.put(key, b"first", IfNoneMatch="*")
    with refused("PreconditionFailed"):
        bucket.put(key, b"second", IfNoneMatch="*")
    assert bucket.get(key) == b"first"


@check
def put_if_match(bucket: Bucket) -> None:
    """PutObject with If-Match writes over the ETag that is there"""
    key = bucket.new_key()
    etag = bucket.put(key, b"first")["ETag"]
    bucket.put(key, b"second", IfMatch=etag)
    assert bucket.get(key) == b"second"


@check
def put_if_match_stale(bucket: Bucket) -> None:
    """PutObject with If-Match refuses a stale ETag: PreconditionFailed"""
    key = bucket.new_key()
    etag = bucket.put(key, b"first")["ETag"]
    bucket.put(key, b"second")
    with refused("PreconditionFailed"):
        bucket.put(key, b"third", IfMatch=etag)
    assert bucket.get(key) == b"second"


@check
def put_if_match_missing(bucket: Bucket) -> None:
    """PutObject with If-Match refuses where no object is: NoSuchKey (404)"""
    key = bucket.new_key()
    etag = bucket.put(key)["ETag"]
    bucket.client.delete_object(Bucket=bucket.name, Key=key)
    with refused("NoSuchKey"):
        bucket.put(key, IfMatch=etag)


@check
def put_if_none_match_race(bucket: Bucket) -> None:
    """Of 12 PutObject at once with If-None-Match: *, one wins, and its bytes are there"""
    for _ in range(3):
        key, written = bucket.new_key(), list[int]()

        def attempt(number: int, key: str = key, written: list[int] = written) -> None:
            bucket.put(key, b"%d" % number, IfNoneMatch="*")
            written.append(number)

        count = winners(attempt)
        assert count == 1, f"{count} winners"
        assert bucket.get(key) == b"%d" % written[0]


@check
def put_if_match_race(bucket: Bucket) -> None:
    """Of 12 PutObject at once with If-Match on one ETag, one wins, and its bytes are there"""
    for _ in range(3):
        key, written = bucket.new_key(), list[int]()
        etag = bucket.put(key, b"first")["ETag"]

        def attempt(number: int, key: str = key, etag: str = etag, written: list[int] = written) -> None:
            bucket.put(key, b"%d" % number, IfMatch=etag)
            written.append(number)

        count = winners(attempt)
        assert count == 1, f"{count} winners"
        assert bucket.get(key) == b"%d" % written[0]


@check
def complete_if_none_match(bucket: Bucket) -> None:
    """Complete with If-None-Match: * refuses what exists: PreconditionFailed"""
    upload = bucket.begin()
    part = upload.send(1, b"end")
    bucket.put(upload.key, b"first")
    with refused("PreconditionFailed"):
        upload.complete(part, IfNoneMatch="*")
    assert bucket.get(upload.key) == b"first"


@check
def complete_if_match(bucket: Bucket) -> None:
    """Complete with If-Match refuses a stale ETag, PreconditionFailed, and then accepts the one that is there"""
    upload = bucket.begin()
    part = upload.send(1, b"end")
    stale = bucket.put(upload.key, b"first")["ETag"]
    etag = bucket.put(upload.key, b"second")["ETag"]
    with refused("PreconditionFailed"):
        upload.complete(part, IfMatch=stale)
    upload.complete(part, IfMatch=etag)
    assert bucket.get(upload.key) == b"end"


@check
def delete_if_match(bucket: Bucket) -> None:
    """DeleteObject with If-Match refuses a stale ETag: PreconditionFailed"""
    key = bucket.new_key()
    stale = bucket.put(key, b"first")["ETag"]
    etag = bucket.put(key, b"second")["ETag"]
    with refused("PreconditionFailed"):
        bucket.client.delete_object(Bucket=bucket.name, Key=key, IfMatch=stale)
    bucket.client.delete_object(Bucket=bucket.name, Key=key, IfMatch=etag)
    with refused("NoSuchKey"):
        bucket.get(key)


@check
def get_if_match(bucket: Bucket) -> None:
    """GetObject with If-Match refuses a stale ETag: PreconditionFailed"""
    key = bucket.new_key()
    stale = bucket.put(key, b"first")["ETag"]
    etag = bucket.put(key, b"second")["ETag"]
    with refused("PreconditionFailed"):
        bucket.get(key, IfMatch=stale)
    assert bucket.get(key, IfMatch=etag) == b"second"


@check
def etag_of_content(bucket: Bucket) -> None:
    """The ETag tells of the bytes alone: If-Match cannot tell apart two objects that differ in their metadata"""
    key = bucket.new_key()
    assert bucket.put(key, Metadata={"token": "one"})["ETag"] == bucket.put(key, Metadata={"token": "two"})["ETag"]
