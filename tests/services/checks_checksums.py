"""Checksums: wrong ones are refused, and what the server knows of the whole object afterwards."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from s3bucket import Bucket, check, crc32c, crc64, part_of, refused

WHOLE = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
REFUSALS = ("BadDigest", "XAmzContentChecksumMismatch")


@check
def put_crc64nvme(bucket: Bucket) -> None:
    """PutObject refuses a wrong CRC64NVME: BadDigest"""
    key = bucket.new_key()
    bucket.put(key, b"some", ChecksumCRC64NVME=crc64(b"some"))
    with refused(*REFUSALS):
        bucket.put(key, b"other", ChecksumCRC64NVME=crc64(b"some"))
    assert bucket.get(key) == b"some"


@check
def put_crc32c(bucket: Bucket) -> None:
    """PutObject refuses a wrong CRC32C: BadDigest"""
    key = bucket.new_key()
    bucket.put(key, b"some", ChecksumCRC32C=crc32c(b"some"))
    with refused(*REFUSALS):
        bucket.put(key, b"other", ChecksumCRC32C=crc32c(b"some"))
    assert bucket.get(key) == b"some"


@check
def put_md5(bucket: Bucket) -> None:
    """PutObject refuses a wrong Content-MD5: BadDigest"""
    md5 = base64.b64encode(hashlib.md5(b"some").digest()).decode()
    with refused("BadDigest"):
        bucket.put(bucket.new_key(), b"other", ContentMD5=md5)


@check
def put_content_sha256(bucket: Bucket) -> None:
    """PutObject refuses bytes that differ from the signed x-amz-content-sha256: XAmzContentSHA256Mismatch"""

    def change(request: Any, **_: object) -> None:
        request.body = b"evil"

    client = bucket.server.client(request_checksum_calculation="when_required")
    client.meta.events.register("before-send.s3.PutObject", change)
    with refused("XAmzContentSHA256Mismatch"):
        client.put_object(Bucket=bucket.name, Key=bucket.new_key(), Body=b"some")


@check
def part_crc64nvme(bucket: Bucket) -> None:
    """UploadPart refuses a wrong CRC64NVME, and the part is not there: BadDigest"""
    upload = bucket.begin(ChecksumAlgorithm="CRC64NVME")
    with refused(*REFUSALS):
        upload.send(1, b"other", ChecksumCRC64NVME=crc64(b"some"))
    assert not upload.parts().get("Parts")


@check
def part_crc32c(bucket: Bucket) -> None:
    """UploadPart refuses a wrong CRC32C, and the part is not there: BadDigest"""
    upload = bucket.begin(ChecksumAlgorithm="CRC32C")
    with refused(*REFUSALS):
        upload.send(1, b"other", ChecksumCRC32C=crc32c(b"some"))
    assert not upload.parts().get("Parts")


@check
def part_md5(bucket: Bucket) -> None:
    """UploadPart refuses a wrong Content-MD5: BadDigest"""
    with refused("BadDigest"):
        bucket.begin().send(1, b"other", ContentMD5=base64.b64encode(hashlib.md5(b"some").digest()).decode())


@check
def complete_crc64nvme(bucket: Bucket) -> None:
    """Complete takes the CRC64NVME of the whole object, of parts that came with theirs, and tells it"""
    upload = bucket.begin(**WHOLE)
    bodies = {1: part_of("a"), 2: b"end"}
    parts = [upload.send(number, body, ChecksumCRC64NVME=crc64(body)) for number, body in bodies.items()]
    whole = crc64(part_of("a") + b"end")
    answer = upload.complete(*parts, ChecksumCRC64NVME=whole, ChecksumType="FULL_OBJECT")
    assert answer.get("ChecksumCRC64NVME") == whole, "not told"
    assert bucket.get(upload.key) == part_of("a") + b"end"


@check
def complete_crc64nvme_wrong(bucket: Bucket) -> None:
    """Complete refuses a wrong CRC64NVME of the whole object, which is not made: BadDigest"""
    upload = bucket.begin(**WHOLE)
    part = upload.send(1, b"end", ChecksumCRC64NVME=crc64(b"end"))
    with refused(*REFUSALS):
        upload.complete(part, ChecksumCRC64NVME=crc64(b"other"), ChecksumType="FULL_OBJECT")
    with refused("NoSuchKey"):
        bucket.get(upload.key)


@check
def complete_after_wrong_crc64nvme(bucket: Bucket) -> None:
    """After such a refusal the upload can still be completed"""
    upload = bucket.begin(**WHOLE)
    part = upload.send(1, b"end", ChecksumCRC64NVME=crc64(b"end"))
    with refused(*REFUSALS):
        upload.complete(part, ChecksumCRC64NVME=crc64(b"other"), ChecksumType="FULL_OBJECT")
    upload.complete(part, ChecksumCRC64NVME=crc64(b"end"), ChecksumType="FULL_OBJECT")
    assert bucket.get(upload.key) == b"end"


@check
def complete_crc64nvme_unlisted(bucket: Bucket) -> None:
    """The list of parts of such a Complete need not repeat their checksums"""
    upload = bucket.begin(**WHOLE)
    part = upload.send(1, b"end", ChecksumCRC64NVME=crc64(b"end"))
    del part["ChecksumCRC64NVME"]
    upload.complete(part, ChecksumCRC64NVME=crc64(b"end"), ChecksumType="FULL_OBJECT")


@check
def complete_crc64nvme_of_plain_parts(bucket: Bucket) -> None:
    """The parts need not come with checksums for Complete to refuse a wrong CRC64NVME of the whole"""
    _refuses_wrong_whole(bucket, **WHOLE)


@check
def complete_crc64nvme_undeclared(bucket: Bucket) -> None:
    """The same where CreateMultipartUpload did not announce checksums"""
    _refuses_wrong_whole(bucket)


def _refuses_wrong_whole(bucket: Bucket, **declared: str) -> None:
    upload = bucket.begin(**declared)
    part = upload.send(1, b"end")
    with refused(*REFUSALS):
        upload.complete(part, ChecksumCRC64NVME=crc64(b"other"), ChecksumType="FULL_OBJECT")
    upload.complete(part, ChecksumCRC64NVME=crc64(b"end"), ChecksumType="FULL_OBJECT")
    assert bucket.get(upload.key) == b"end"


@check
def copied_parts_of_checksummed_upload(bucket: Bucket) -> None:
    """UploadPartCopy works in an upload that announced CRC64NVME, and Complete without a sum of the whole"""
    source = bucket.new_key()
    bucket.put(source, b"some")
    upload = bucket.begin(**WHOLE)
    upload.complete(upload.copy(1, source))
    assert bucket.get(upload.key) == b"some"


@check
def complete_crc64nvme_of_copied_parts(bucket: Bucket) -> None:
    """Copied parts count in the CRC64NVME of the whole object, if listed with the checksums that the copy answers"""
    source = bucket.new_key()
    bucket.put(source, part_of("a"))
    upload = bucket.begin(**WHOLE)
    copied = {**upload.copy(1, source), "ChecksumCRC64NVME": crc64(part_of("a"))}
    sent = upload.send(2, b"end", ChecksumCRC64NVME=crc64(b"end"))
    whole = crc64(part_of("a") + b"end")
    answer = upload.complete(copied, sent, ChecksumCRC64NVME=whole, ChecksumType="FULL_OBJECT")
    assert answer.get("ChecksumCRC64NVME") == whole, "not told"


@check
def list_parts_crc64nvme(bucket: Bucket) -> None:
    """ListParts tells the CRC64NVME of each part, as Complete wants it"""
    upload = bucket.begin(**WHOLE)
    upload.send(1, b"end", ChecksumCRC64NVME=crc64(b"end"))
    assert [part.get("ChecksumCRC64NVME") for part in upload.parts()["Parts"]] == [crc64(b"end")], "not told"


@check
def head_crc64nvme(bucket: Bucket) -> None:
    """HeadObject tells the CRC64NVME of the whole multipart object, when asked"""
    upload = bucket.begin(**WHOLE)
    upload.complete(upload.send(1, b"end", ChecksumCRC64NVME=crc64(b"end")), ChecksumType="FULL_OBJECT")
    head = bucket.head(upload.key, ChecksumMode="ENABLED")
    assert (head.get("ChecksumCRC64NVME"), head.get("ChecksumType")) == (crc64(b"end"), "FULL_OBJECT"), "not told"


@check
def default_checksum(bucket: Bucket) -> None:
    """HeadObject tells a CRC64NVME also of an object that was written without any checksum"""
    key = bucket.new_key()
    bucket.put(key, b"some")
    assert bucket.head(key, ChecksumMode="ENABLED").get("ChecksumCRC64NVME") == crc64(b"some"), "none"


@check
def checksum_trailer(bucket: Bucket) -> None:
    """A checksum may come in a trailer, as boto sends it by default for streams"""
    client = bucket.server.client(s3={"addressing_style": "path", "payload_signing_enabled": False})
    key = bucket.new_key()
    client.put_object(Bucket=bucket.name, Key=key, Body=b"some", ChecksumAlgorithm="CRC32C")
    assert bucket.get(key) == b"some"
