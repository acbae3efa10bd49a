"""What objects are made with beside their bytes: type, metadata, storage class, tags, access. Pure.

As headers, in lower case; `control` knows what boto3 calls them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tusd_py.core.upload import Upload

METADATA = "x-amz-meta-"
MAX_METADATA_BYTES = 2048
"""Of all names and values together, as S3 counts them."""

UPLOAD_ID = "tusd-py-upload"
"""The name of what all objects of uploads have in their metadata, and no others: the upload's id."""

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}"
_MEDIA_TYPE = re.compile(rf"{_WORD}/{_WORD}(?:; ?{_WORD}={_WORD})*")
"""As clients may name one in their metadata; anything else does not become a header."""
_NAME = re.compile(r"[a-z0-9!#$&'*+.^_`|~-]{1,200}")
_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")


@dataclass(frozen=True, slots=True)
class Attributes:
    """Of all objects of uploads in a bucket. `fixed` are headers that do not depend on the upload."""

    fixed: Mapping[str, str] = field(default_factory=dict)
    has_metadata: bool = True

    def headers(self, upload: Upload) -> dict[str, str]:
        """What the object of an upload is begun with."""
        values = upload.metadata.values
        content_type = values.get("filetype", "")
        headers = {
            "content-type": content_type if _MEDIA_TYPE.fullmatch(content_type) else "application/octet-stream",
            METADATA + UPLOAD_ID: upload.id,
            **self.fixed,
        }
        if self.has_metadata:
            headers |= _metadata(values, MAX_METADATA_BYTES - len(UPLOAD_ID) - len(upload.id))
        return headers


def _metadata(values: Mapping[str, str], left: int) -> dict[str, str]:
    """What fits, in the client's order; all of it is in the record."""
    headers = {}
    for key, value in values.items():
        name, text = key.lower(), _header_text(value)
        size = len(name) + len(text)
        if name == UPLOAD_ID or not text or not _NAME.fullmatch(name) or size > left:
            continue
        headers[METADATA + name] = text
        left -= size
    return headers


def _header_text(value: str) -> str:
    """In ASCII; anything else as an encoded word of RFC 2047, which S3 gives back as it is."""
    if not value or (_PLAIN.fullmatch(value) and "=?" not in value and "  " not in value):
        return value
    return f"=?UTF-8?B?{base64.b64encode(value.encode(errors='surrogateescape')).decode()}?="
