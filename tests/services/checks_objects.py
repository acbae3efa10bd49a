"""Objects: what is kept with them, how they are read, listed, copied and deleted, and who may."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

from s3bucket import Bucket, check, refused


@check
def metadata(bucket: Bucket) -> None:
    """Metadata, Content-Type and Content-Disposition are kept, also of an empty object"""
    key = bucket.new_key()
    kept = {"Metadata": {"tail-start": "5242880", "token": "x" * 1500}, "ContentType": "text/csv"}
    bucket.put(key, b"", ContentDisposition="attachment", **kept)
    head = bucket.head(key)
    assert {name: head[name] for name in kept} == kept
    assert (head["ContentDisposition"], head["ContentLength"]) == ("attachment", 0)


@check
def metadata_of_multipart(bucket: Bucket) -> None:
    """Metadata and Content-Type given to CreateMultipartUpload are the object's"""
    upload = bucket.begin(Metadata={"name": "data"}, ContentType="text/csv")
    upload.complete(upload.send(1, b"end"))
    head = bucket.head(upload.key)
    assert (head["Metadata"], head["ContentType"]) == ({"name": "data"}, "text/csv")


@check
def metadata_limit(bucket: Bucket) -> None:
    """Metadata over 2 KiB are refused: MetadataTooLarge"""
    with refused("MetadataTooLarge"):
        bucket.put(bucket.new_key(), Metadata={"token": "x" * 2100})


@check
def tags(bucket: Bucket) -> None:
    """Tags of PutObject are kept"""
    key = bucket.new_key()
    bucket.put(key, Tagging="state=checking")
    found = bucket.client.get_object_tagging(Bucket=bucket.name, Key=key)["TagSet"]
    assert found == [{"Key": "state", "Value": "checking"}]


@check
def tags_of_multipart(bucket: Bucket) -> None:
    """Tags of CreateMultipartUpload are the object's"""
    upload = bucket.begin(Tagging="state=checking")
    upload.complete(upload.send(1, b"end"))
    found = bucket.client.get_object_tagging(Bucket=bucket.name, Key=upload.key)["TagSet"]
    assert found == [{"Key": "state", "Value": "checking"}]


@check
def storage_class(bucket: Bucket) -> None:
    """A storage class, REDUCED_REDUNDANCY, is kept and told"""
    key = bucket.new_key()
    bucket.put(key, StorageClass="REDUCED_REDUNDANCY")
    assert bucket.head(key).get("StorageClass") == "REDUCED_REDUNDANCY", "not told"


@check
def storage_class_accepted(bucket: Bucket) -> None:
    """A storage class other than STANDARD, STANDARD_IA, is accepted"""
    bucket.put(bucket.new_key(), StorageClass="STANDARD_IA")


@check
def ranges(bucket: Bucket) -> None:
    """GetObject gives ranges: from to, from on, the last ones; and refuses one beyond the end: InvalidRange"""
    key = bucket.new_key()
    bucket.put(key, b"0123456789")
    assert [bucket.get(key, Range=f"bytes={each}") for each in ("2-4", "7-", "-2")] == [b"234", b"789", b"89"]
    with refused("InvalidRange"):
        bucket.get(key, Range="bytes=10-")


@check
def odd_keys(bucket: Bucket) -> None:
    """Keys with blanks, plus, percent and letters of all languages come back as they are"""
    keys = sorted(["odd/a b+c", "odd/50%", "odd/ключ", "odd/a&b=c?d"])
    for key in keys:
        bucket.put(key, key.encode())
    assert bucket.list(Prefix="odd/") == keys
    assert [bucket.get(key) for key in keys] == [key.encode() for key in keys]


@check
def key_and_key_below(bucket: Bucket) -> None:
    """A key may be the beginning of another: name and name/more"""
    key = bucket.new_key()
    bucket.put(key, b"one")
    bucket.put(f"{key}/more", b"two")
    assert (bucket.get(key), bucket.get(f"{key}/more")) == (b"one", b"two")


@check
def lists(bucket: Bucket) -> None:
    """ListObjectsV2 heeds prefix, page size, continuation token and start-after"""
    keys = [f"list/{number}" for number in range(5)]
    for key in keys:
        bucket.put(key)
    first = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix="list/", MaxKeys=3)
    token = first["NextContinuationToken"]
    assert [each["Key"] for each in first["Contents"]] == keys[:3]
    assert bucket.list(Prefix="list/", ContinuationToken=token) == keys[3:]
    assert bucket.list(Prefix="list/", StartAfter="list/1") == keys[2:]


@check
def list_prefixes(bucket: Bucket) -> None:
    """ListObjectsV2 with a delimiter folds what is below into CommonPrefixes"""
    for key in ("fold/a/1", "fold/a/2", "fold/b"):
        bucket.put(key)
    found = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix="fold/", Delimiter="/")
    assert [each["Prefix"] for each in found["CommonPrefixes"]] == ["fold/a/"]
    assert [each["Key"] for each in found["Contents"]] == ["fold/b"]


@check
def delete(bucket: Bucket) -> None:
    """DeleteObject succeeds for a key that exists and for one that does not"""
    key = bucket.new_key()
    bucket.put(key)
    for _ in range(2):
        bucket.client.delete_object(Bucket=bucket.name, Key=key)
    with refused("NoSuchKey"):
        bucket.get(key)


@check
def delete_many(bucket: Bucket) -> None:
    """DeleteObjects deletes many, and counts those that do not exist as deleted"""
    keys = [f"many/{number}" for number in range(4)]
    for key in keys[:3]:
        bucket.put(key)
    answer = bucket.client.delete_objects(Bucket=bucket.name, Delete={"Objects": [{"Key": key} for key in keys]})
    assert sorted(each["Key"] for each in answer["Deleted"]) == keys
    assert bucket.list(Prefix="many/") == []


@check
def copy(bucket: Bucket) -> None:
    """CopyObject keeps metadata, or replaces them on the object itself"""
    source, target = bucket.new_key(), bucket.new_key()
    bucket.put(source, b"some", Metadata={"name": "data"})
    place = {"Bucket": bucket.name, "Key": source}
    bucket.client.copy_object(Bucket=bucket.name, Key=target, CopySource=place)
    assert (bucket.get(target), bucket.head(target)["Metadata"]) == (b"some", {"name": "data"})
    replaced = {"MetadataDirective": "REPLACE", "Metadata": {"name": "new"}}
    bucket.client.copy_object(Bucket=bucket.name, Key=source, CopySource=place, **replaced)
    assert (bucket.get(source), bucket.head(source)["Metadata"]) == (b"some", {"name": "new"})


@check
def missing(bucket: Bucket) -> None:
    """A key that does not exist: HEAD 404, GET NoSuchKey"""
    with refused("404"):
        bucket.head("nothing")
    with refused("NoSuchKey"):
        bucket.get("nothing")


@check
def wrong_bucket(bucket: Bucket) -> None:
    """A bucket that does not exist: NoSuchBucket, on PutObject and on CreateMultipartUpload; HeadBucket 404"""
    with refused("NoSuchBucket"):
        bucket.client.put_object(Bucket="no-such-bucket", Key="some", Body=b"")
    with refused("NoSuchBucket"):
        bucket.client.create_multipart_upload(Bucket="no-such-bucket", Key="some")
    with refused("404"):
        bucket.client.head_bucket(Bucket="no-such-bucket")


@check
def bad_signature(bucket: Bucket) -> None:
    """A wrong secret key is refused: SignatureDoesNotMatch"""
    with refused("SignatureDoesNotMatch"):
        bucket.server.client(secret_key="wrong-secret-key").list_objects_v2(Bucket=bucket.name)


@check
def unknown_access_key(bucket: Bucket) -> None:
    """An unknown access key is refused: InvalidAccessKeyId"""
    with refused("InvalidAccessKeyId"):
        bucket.server.client(access_key="unknown-access").list_objects_v2(Bucket=bucket.name)


@check
def unsigned_payload(bucket: Bucket) -> None:
    """The payload need not be signed: UNSIGNED-PAYLOAD"""
    client = bucket.server.client(
        s3={"addressing_style": "path", "payload_signing_enabled": False}, request_checksum_calculation="when_required"
    )
    key = bucket.new_key()
    client.put_object(Bucket=bucket.name, Key=key, Body=b"some")
    assert bucket.get(key) == b"some"


@check
def presigned_get(bucket: Bucket) -> None:
    """A presigned GET works, and says what response-content-disposition asks for"""
    key = bucket.new_key()
    bucket.put(key, b"some")
    fields = {"Bucket": bucket.name, "Key": key, "ResponseContentDisposition": "attachment"}
    status, headers, body = _ask("GET", bucket.client.generate_presigned_url("get_object", fields))
    assert (status, body, headers["content-disposition"]) == (200, b"some", "attachment")


@check
def presigned_part(bucket: Bucket) -> None:
    """A presigned PUT of a part works, and answers its ETag"""
    upload = bucket.begin()
    fields = {"Bucket": bucket.name, "Key": upload.key, "UploadId": upload.id, "PartNumber": 1}
    status, headers, _ = _ask("PUT", bucket.client.generate_presigned_url("upload_part", fields), b"end")
    assert status == 200
    upload.complete({"PartNumber": 1, "ETag": headers["etag"]})
    assert bucket.get(upload.key) == b"end"


@check
def presigned_tampered(bucket: Bucket) -> None:
    """A presigned URL does not work for another key: 403"""
    bucket.put("tampered/other", b"secret")
    url = bucket.client.generate_presigned_url("get_object", {"Bucket": bucket.name, "Key": "tampered/key"})
    status, _, _ = _ask("GET", url.replace("tampered/key", "tampered/other"))
    assert status == 403, f"answered {status}"


def _ask(method: str, url: str, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body)
        with connection.getresponse() as answer:
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()
