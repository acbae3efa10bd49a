"""AWS Signature Version 4 for requests to S3, in the Authorization header.

Payloads are not hashed (`UNSIGNED-PAYLOAD`): SHA-256 costs more CPU than all of the rest of sending, and the checksum
header, which is signed, says what the bytes must be. Compared with botocore in the tests.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote

UNSIGNED = "UNSIGNED-PAYLOAD"

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials as they are at one moment."""

    access_key: str
    secret_key: str
    token: str | None = None

    def __repr__(self) -> str:
        return f"Keys({self.access_key!r}, ...)"


def encode_path(path: str) -> str:
    """Each segment of a path as S3 signs and takes it: once, all but the unreserved characters of RFC 3986."""
    return quote(path, safe="/-_.~")


def encode_query(query: Query) -> str:
    return "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))


def signed_headers(
    keys: Keys,
    region: str,
    method: str,
    target: str,
    host: str,
    headers: Mapping[str, str],
    now: datetime,
) -> dict[str, str]:
    """The headers to send: `headers`, whose names are in lower case, and those that sign them all.

    `target` is the encoded path, with `?` and the encoded, sorted query if there is one.
    """
    moment = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    day = moment[:8]
    sent = {**headers, "host": host, "x-amz-content-sha256": UNSIGNED, "x-amz-date": moment}
    if keys.token is not None:
        sent["x-amz-security-token"] = keys.token
    names = sorted(sent)
    path, _, query = target.partition("?")
    canonical = "\n".join(
        (
            method,
            path,
            query,
            *(f"{name}:{' '.join(sent[name].split())}" for name in names),
            "",
            ";".join(names),
            UNSIGNED,
        )
    )
    scope = f"{day}/{region}/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(_signing_key(keys.secret_key, day, region), to_sign.encode(), "sha256").hex()
    sent["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope},SignedHeaders={';'.join(names)},Signature={signature}"
    )
    return sent


@lru_cache(maxsize=16)
def _signing_key(secret_key: str, day: str, region: str) -> bytes:
    """Good for a day: four of the six hashes of a signature."""
    key = f"AWS4{secret_key}".encode()
    for word in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    return key
