"""How the storage encrypts what it keeps: the headers that say so, in lower case. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

_CUSTOMER = "server-side-encryption-customer-"
CUSTOMER_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Encryption:
    """`new` goes with each object that is begun, `each` with each request about its bytes, `source` where they are
    copied from: a customer's key is sent every time."""

    new: Mapping[str, str] = field(default_factory=dict)
    each: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def by_storage(cls, algorithm: str, kms_key: str = "") -> Self:
        """With keys that the storage keeps: `AES256`, `aws:kms`, `aws:kms:dsse`."""
        new = {"x-amz-server-side-encryption": algorithm}
        if kms_key:
            new["x-amz-server-side-encryption-aws-kms-key-id"] = kms_key
        return cls(new)

    @classmethod
    def by_customer(cls, key: bytes) -> Self:
        """With a key of 32 bytes that the storage forgets after each request (SSE-C)."""
        fields = {
            "algorithm": "AES256",
            "key": base64.b64encode(key).decode(),
            "key-md5": base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode(),
        }
        each = {f"x-amz-{_CUSTOMER}{name}": value for name, value in fields.items()}
        return cls(each, each, {f"x-amz-copy-source-{_CUSTOMER}{name}": value for name, value in fields.items()})


NO_ENCRYPTION = Encryption()
"""As the bucket has it by itself."""
