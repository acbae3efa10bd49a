"""CRC64NVME, the checksum that S3 computes over whole objects however they were sent. From awscrt, at 40 GiB/s."""

from __future__ import annotations

import base64
from typing import cast

try:
    from awscrt import checksums
except ImportError:  # what is sent is then not checked by its checksum, and `check` says so
    checksums = None

HEADER = "x-amz-checksum-crc64nvme"
FIELD = "ChecksumCRC64NVME"
"""In the words of boto3."""


def crc64(data: bytes | bytearray | memoryview, before: int | None) -> int | None:
    """Of what `before` is of, followed by `data`; None where unknown."""
    if checksums is None or before is None:
        return None
    return cast("int", checksums.crc64nvme(data, before))


def combined(first: int | None, second: int | None, second_bytes: int) -> int | None:
    """Of two runs of bytes, one after the other."""
    if checksums is None or first is None or second is None:
        return None
    return cast("int", checksums.combine_crc64nvme(first, second, second_bytes))


def to_text(crc: int) -> str:
    """As it stands in a header."""
    return base64.b64encode(crc.to_bytes(8, "big")).decode()
