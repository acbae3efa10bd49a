"""What an operator may say of the S3 store, and what follows from it. Wrong values raise ConfigError, which names the
flag."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from tusd_py.errors import ConfigError
from tusd_py.stores.s3.attributes import Attributes
from tusd_py.stores.s3.encryption import CUSTOMER_KEY_BYTES, NO_ENCRYPTION, Encryption
from tusd_py.stores.s3.plan import MIB
from tusd_py.stores.s3.template import PLAIN, Template

CUSTOMER = "customer"

_MAX_TAGS = 10
_MAX_REDIRECT_SECONDS = 7 * 86_400
"""Of a presigned URL."""
_STORAGE_CLASS = re.compile(r"[A-Z0-9_-]{1,64}")
_TAG = re.compile(r"[\w .:/=+@-]{1,256}")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Sizes are bytes. `endpoint` is empty for Amazon; `memory_bytes` and `concurrent_parts` are of one process.
    `redirect_seconds` 0: downloads come through this server."""

    bucket: str
    endpoint: str = ""
    prefix: str = ""
    part_bytes: int = 8 * MIB
    min_part_bytes: int = 5 * MIB
    concurrent_parts: int = 10
    memory_bytes: int = 128 * MIB
    temporary_folder: str | None = None
    uses_acceleration: bool = False
    sends_checksums: bool = True
    uses_tls: bool = True
    buffered_parts: int = 4
    logs_calls: bool = False
    object_key: str = PLAIN
    has_metadata: bool = True
    storage_class: str = ""
    tags: str = ""
    acl: str = ""
    encryption: str = ""
    kms_key: str = ""
    customer_key_file: str = ""
    redirect_seconds: float = 0.0
    public_endpoint: str = ""

    def template(self) -> Template:
        try:
            return Template.parse(self.object_key)
        except ValueError as error:
            raise ConfigError(f"--s3-object-key: {self.object_key!r} is wrong ({error})") from error

    def attributes(self) -> Attributes:
        fixed = {}
        if self.storage_class:
            if not _STORAGE_CLASS.fullmatch(self.storage_class):
                raise ConfigError(f"--s3-storage-class: {self.storage_class!r} is none; one is INTELLIGENT_TIERING")
            fixed["x-amz-storage-class"] = self.storage_class
        if self.tags:
            _check_tags(self.tags)
            fixed["x-amz-tagging"] = self.tags
        if self.acl:
            fixed["x-amz-acl"] = self.acl
        return Attributes(fixed, self.has_metadata)

    def encrypted(self) -> Encryption:
        if self.kms_key and not self.encryption.startswith("aws:kms"):
            raise ConfigError("--s3-kms-key is for --s3-encryption aws:kms, which is not set")
        if (self.encryption == CUSTOMER) != bool(self.customer_key_file):
            raise ConfigError("--s3-encryption customer and --s3-customer-key-file need each other")
        if self.encryption == CUSTOMER:
            if self.endpoint.startswith("http://") or not self.uses_tls:
                raise ConfigError("--s3-encryption customer sends the key with each request: that needs TLS, https://")
            return Encryption.by_customer(_read_key(self.customer_key_file))
        return Encryption.by_storage(self.encryption, self.kms_key) if self.encryption else NO_ENCRYPTION

    def check_redirects(self) -> None:
        if self.redirect_seconds > _MAX_REDIRECT_SECONDS:
            raise ConfigError("--s3-redirect-downloads: presigned URLs are good for 7d at most")
        if self.redirect_seconds and self.encryption == CUSTOMER:
            raise ConfigError(
                "--s3-redirect-downloads does not go with --s3-encryption customer: clients do not have the key"
            )
        if self.public_endpoint and not self.redirect_seconds:
            raise ConfigError("--s3-public-endpoint is for --s3-redirect-downloads, which is not set")


def _check_tags(text: str) -> None:
    try:
        tags = parse_qsl(text, keep_blank_values=True, strict_parsing=True)
    except ValueError as error:
        raise ConfigError(f"--s3-tags: {text!r} is wrong ({error}); write them as project=mice&team=vision") from error
    names = [name for name, _ in tags]
    if len(tags) > _MAX_TAGS or len(set(names)) < len(names):
        raise ConfigError(f"--s3-tags: an object has {_MAX_TAGS} tags at most, each with a name of its own")
    for name, value in tags:
        if not _TAG.fullmatch(name) or len(name) > 128 or (value and not _TAG.fullmatch(value)):
            raise ConfigError(f"--s3-tags: S3 does not take {name}={value}: letters, digits, blanks and .:/=+@_- only")


def _read_key(path: str) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"--s3-customer-key-file: cannot be read: {error}") from error
    if len(data) != CUSTOMER_KEY_BYTES:
        try:
            data = base64.b64decode(data.strip(), validate=True)
        except binascii.Error:
            data = b""
    if len(data) != CUSTOMER_KEY_BYTES:
        raise ConfigError(
            f"--s3-customer-key-file: {path} has neither 32 bytes nor these in base64; make one with:"
            " openssl rand -base64 32"
        )
    return data
