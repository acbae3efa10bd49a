"""Which S3 server does what: all checks, the gaps that we know of, and, as a program, a table of them in Markdown."""

from __future__ import annotations

import sys

sys.path.insert(0, __file__.rpartition("/")[0])  # as a program of its own, it finds its modules beside it

import checks_checksums
import checks_conditions
import checks_multipart
import checks_objects
from botocore.exceptions import BotoCoreError, ClientError
from s3bucket import CHECKS, Bucket
from s3servers import SERVERS

MODULES = (checks_multipart, checks_conditions, checks_checksums, checks_objects)
FAILURES = (AssertionError, BotoCoreError, ClientError, KeyError)
"""What a server that does not do a thing makes of its check."""

GAPS: dict[str, frozenset[str]] = {
    "minio": frozenset(
        {
            "complete_crc64nvme_unlisted",
            "complete_crc64nvme_of_plain_parts",
            "complete_crc64nvme_undeclared",
            "copied_parts_of_checksummed_upload",
            "complete_crc64nvme_of_copied_parts",
            "default_checksum",
            "delete_if_match",
            "abort_repeated",
            "complete_repeated_succeeds",
            "abort_after_complete_is_told",
            "object_size",
            "storage_class_accepted",
        }
    ),
    "versitygw": frozenset(
        {
            "complete_crc64nvme_unlisted",
            "complete_crc64nvme_of_plain_parts",
            "complete_crc64nvme_undeclared",
            "copied_parts_of_checksummed_upload",
            "storage_class",
            "key_and_key_below",
            "unknown_access_key",
        }
    ),
    "moto": frozenset(
        {
            "put_crc64nvme",
            "put_crc32c",
            "put_md5",
            "put_content_sha256",
            "part_crc64nvme",
            "part_crc32c",
            "part_md5",
            "complete_crc64nvme",
            "complete_crc64nvme_wrong",
            "complete_after_wrong_crc64nvme",
            "complete_crc64nvme_of_plain_parts",
            "complete_crc64nvme_undeclared",
            "complete_crc64nvme_of_copied_parts",
            "default_checksum",
            "complete_if_match",
            "part_order",
            "complete_without_parts",
            "copy_range_beyond",
            "copy_if_match",
            "list_parts",
            "list_parts_crc64nvme",
            "abort",
            "list_parts_after_complete",
            "complete_repeated_is_harmless",
            "object_size",
            "metadata_limit",
            "bad_signature",
            "unknown_access_key",
            "presigned_tampered",
        }
    ),
}
"""The checks that a server is known to fail, by its name."""


def result(name: str, bucket: Bucket) -> str:
    """Empty: the server does it."""
    try:
        CHECKS[name](bucket)
    except ClientError as error:
        return f"{error.operation_name} says {error.response['Error']['Code']}"
    except FAILURES as error:
        return str(error).split("\n")[0] or "not so"
    return ""


def main() -> None:
    results: dict[str, dict[str, str]] = {}
    for kind in SERVERS:
        with kind() as server:
            bucket = Bucket(server)
            results[kind.name] = {name: result(name, bucket) for name in CHECKS}
    print("| check |", " | ".join(results), "|")
    print("|---|", "---|" * len(results), sep="")
    for name, function in CHECKS.items():
        cells = [f"no: {why}" if (why := each[name]) else "yes" for each in results.values()]
        print(f"| {function.__doc__} (`{name}`) |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
