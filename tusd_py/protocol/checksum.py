"""Upload-Checksum (tus S1 to S9): `algorithm base64`, in a header or in a trailer."""

from __future__ import annotations

import base64
import binascii

from tusd_py.core.checksum import ALGORITHMS, Checksum
from tusd_py.errors import RequestError

CODE = "ERR_INVALID_CHECKSUM"


def parse_checksum(value: str | None) -> Checksum | None:
    """The expected digest, or None without the field. Raises RequestError 400 (tus S3) naming what is wrong."""
    if value is None:
        return None
    algorithm, _, encoded = value.partition(" ")
    new_hasher = ALGORITHMS.get(algorithm)
    if new_hasher is None:
        known = ", ".join(ALGORITHMS)
        raise RequestError(f"Upload-Checksum: unknown algorithm; known are {known}", code=CODE)
    try:
        expected = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise RequestError("Upload-Checksum: the digest is not base64", code=CODE) from error
    length = len(new_hasher().digest())
    if len(expected) != length:
        raise RequestError(f"Upload-Checksum: a {algorithm} digest has {length} bytes", code=CODE)
    return Checksum(algorithm, expected)
