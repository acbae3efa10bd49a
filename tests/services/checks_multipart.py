"""Multipart uploads and their rules: parts, copied parts, lists of them, Complete and Abort, once and again."""

from __future__ import annotations

from botocore.exceptions import ClientError
from s3bucket import PART_BYTES, Bucket, check, part_of, refused


@check
def multipart(bucket: Bucket) -> None:
    """A multipart upload becomes the object, with parts of 5 MiB and a last one of any size"""
    upload = bucket.begin()
    upload.complete(upload.send(1, part_of("a")), upload.send(2, b"end"))
    assert bucket.get(upload.key) == part_of("a") + b"end"


@check
def multipart_invisible(bucket: Bucket) -> None:
    """Nothing is to be seen of it before Complete"""
    upload = bucket.begin()
    upload.send(1, b"end")
    with refused("NoSuchKey"):
        bucket.get(upload.key)
    assert upload.key not in bucket.list()


@check
def small_middle_part(bucket: Bucket) -> None:
    """Complete refuses a part under 5 MiB that is not the last: EntityTooSmall"""
    upload = bucket.begin()
    parts = upload.send(1, part_of("a")[1:]), upload.send(2, b"end")
    with refused("EntityTooSmall"):
        upload.complete(*parts)


@check
def part_order(bucket: Bucket) -> None:
    """Complete refuses parts out of order: InvalidPartOrder"""
    upload = bucket.begin()
    first, second = upload.send(1, part_of("a")), upload.send(2, part_of("b"))
    with refused("InvalidPartOrder"):
        upload.complete(second, first)


@check
def part_etag(bucket: Bucket) -> None:
    """Complete refuses a wrong ETag of a part: InvalidPart; the upload can still be completed"""
    upload = bucket.begin()
    part = upload.send(1, b"end")
    with refused("InvalidPart"):
        upload.complete({"PartNumber": 1, "ETag": '"' + "0" * 32 + '"'})
    upload.complete(part)
    assert bucket.get(upload.key) == b"end"


@check
def part_missing(bucket: Bucket) -> None:
    """Complete refuses a part that was never sent: InvalidPart"""
    upload = bucket.begin()
    part = upload.send(1, part_of("a"))
    with refused("InvalidPart"):
        upload.complete(part, {**part, "PartNumber": 2})


@check
def part_number_gaps(bucket: Bucket) -> None:
    """Numbers may be left out: 2, 5 and 10000"""
    upload = bucket.begin()
    upload.complete(upload.send(2, part_of("a")), upload.send(5, part_of("b")), upload.send(10_000, b"end"))
    assert bucket.get(upload.key) == part_of("a") + part_of("b") + b"end"


@check
def part_not_counted(bucket: Bucket) -> None:
    """Parts that Complete does not list do not count"""
    upload = bucket.begin()
    first, _, third = upload.send(1, part_of("a")), upload.send(2, part_of("b")), upload.send(3, b"end")
    upload.complete(first, third)
    assert bucket.get(upload.key) == part_of("a") + b"end"


@check
def part_again(bucket: Bucket) -> None:
    """A part sent again replaces the one before"""
    upload = bucket.begin()
    upload.send(1, b"old")
    upload.complete(upload.send(1, b"new"))
    assert bucket.get(upload.key) == b"new"


@check
def part_number_limit(bucket: Bucket) -> None:
    """Part number 10001 is refused: InvalidArgument"""
    upload = bucket.begin()
    with refused("InvalidArgument"):
        upload.send(10_001, b"end")


@check
def empty_part(bucket: Bucket) -> None:
    """One empty part makes an empty object"""
    upload = bucket.begin()
    upload.complete(upload.send(1, b""))
    assert bucket.get(upload.key) == b""


@check
def complete_without_parts(bucket: Bucket) -> None:
    """Complete refuses an empty list of parts: MalformedXML or InvalidRequest"""
    upload = bucket.begin()
    with refused("MalformedXML", "InvalidRequest"):
        upload.complete()


@check
def copy_range(bucket: Bucket) -> None:
    """UploadPartCopy takes exactly the range that it is asked for"""
    source = bucket.new_key()
    bucket.put(source, b"0123456789" * (PART_BYTES // 10) + b"the end")
    upload = bucket.begin()
    first = upload.copy(1, source, CopySourceRange=f"bytes=1-{PART_BYTES}")
    upload.complete(first, upload.copy(2, source, CopySourceRange="bytes=3-3"))
    whole = bucket.get(source)
    assert bucket.get(upload.key) == whole[1 : PART_BYTES + 1] + b"3"


@check
def copy_range_beyond(bucket: Bucket) -> None:
    """UploadPartCopy refuses a range beyond the end: InvalidRange or InvalidArgument"""
    source = bucket.new_key()
    bucket.put(source, b"0123456789")
    upload = bucket.begin()
    with refused("InvalidRange", "InvalidArgument"):
        upload.copy(1, source, CopySourceRange="bytes=5-10")


@check
def copy_if_match(bucket: Bucket) -> None:
    """UploadPartCopy heeds x-amz-copy-source-if-match: PreconditionFailed"""
    source = bucket.new_key()
    stale = bucket.put(source)["ETag"]
    bucket.put(source, b"other")
    upload = bucket.begin()
    with refused("PreconditionFailed"):
        upload.copy(1, source, CopySourceIfMatch=stale)


@check
def list_parts(bucket: Bucket) -> None:
    """ListParts gives numbers, sizes and ETags, page by page"""
    upload = bucket.begin()
    sent = [upload.send(number, b"x" * number) for number in (1, 4, 7)]
    first = upload.parts(MaxParts=2)
    second = upload.parts(MaxParts=2, PartNumberMarker=first["NextPartNumberMarker"])
    assert (first["IsTruncated"], second["IsTruncated"]) == (True, False), "IsTruncated is wrong"
    listed = [*first["Parts"], *second["Parts"]]
    assert [(part["PartNumber"], part["Size"], part["ETag"]) for part in listed] == [
        (part["PartNumber"], part["PartNumber"], part["ETag"]) for part in sent
    ], "other parts"


@check
def list_uploads(bucket: Bucket) -> None:
    """ListMultipartUploads has what is open, and not what was completed or aborted"""
    is_open, completed, aborted = bucket.begin(), bucket.begin(), bucket.begin()
    completed.complete(completed.send(1, b"end"))
    aborted.abort()
    uploads = bucket.client.list_multipart_uploads(Bucket=bucket.name)["Uploads"]
    ids = {each["UploadId"] for each in uploads}
    assert is_open.id in ids
    assert not ids & {completed.id, aborted.id}


@check
def list_uploads_prefix(bucket: Bucket) -> None:
    """ListMultipartUploads with a whole key as its prefix has the open ones of it"""
    upload = bucket.begin()
    bucket.begin()
    uploads = bucket.client.list_multipart_uploads(Bucket=bucket.name, Prefix=upload.key).get("Uploads", [])
    assert [each["UploadId"] for each in uploads] == [upload.id]


@check
def abort(bucket: Bucket) -> None:
    """After Abort, ListParts, UploadPart and Complete say NoSuchUpload"""
    upload = bucket.begin()
    part = upload.send(1, b"end")
    upload.abort()
    with refused("NoSuchUpload"):
        upload.parts()
    with refused("NoSuchUpload"):
        upload.send(2, b"late")
    with refused("NoSuchUpload"):
        upload.complete(part)


@check
def abort_repeated(bucket: Bucket) -> None:
    """Abort repeated: NoSuchUpload"""
    upload = bucket.begin()
    upload.abort()
    with refused("NoSuchUpload"):
        upload.abort()


@check
def list_parts_after_complete(bucket: Bucket) -> None:
    """After Complete, ListParts and UploadPart say NoSuchUpload"""
    upload = bucket.begin()
    upload.complete(upload.send(1, b"end"))
    with refused("NoSuchUpload"):
        upload.parts()
    with refused("NoSuchUpload"):
        upload.send(2, b"late")


@check
def complete_repeated_succeeds(bucket: Bucket) -> None:
    """Complete repeated succeeds again"""
    upload = bucket.begin()
    part = upload.send(1, b"end")
    assert upload.complete(part)["ETag"] == upload.complete(part)["ETag"]


@check
def complete_repeated_is_harmless(bucket: Bucket) -> None:
    """Complete repeated succeeds or says NoSuchUpload, and an object written since then stays"""
    upload = bucket.begin()
    part = upload.send(1, b"end")
    upload.complete(part)
    bucket.put(upload.key, b"newer")
    try:
        upload.complete(part)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "NoSuchUpload", error
    assert bucket.get(upload.key) == b"newer"


@check
def abort_after_complete(bucket: Bucket) -> None:
    """Abort after Complete leaves the object alone, and succeeds or says NoSuchUpload"""
    upload = bucket.begin()
    upload.complete(upload.send(1, b"end"))
    try:
        upload.abort()
    except ClientError as error:
        assert error.response["Error"]["Code"] == "NoSuchUpload", error
    assert bucket.get(upload.key) == b"end"


@check
def abort_after_complete_is_told(bucket: Bucket) -> None:
    """Abort after Complete: NoSuchUpload"""
    upload = bucket.begin()
    upload.complete(upload.send(1, b"end"))
    with refused("NoSuchUpload"):
        upload.abort()


@check
def object_size(bucket: Bucket) -> None:
    """Complete refuses a wrong x-amz-mp-object-size: InvalidRequest"""
    upload = bucket.begin()
    part = upload.send(1, b"end")
    with refused("InvalidRequest"):
        upload.complete(part, MpuObjectSize=4)
