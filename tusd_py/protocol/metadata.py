"""Upload-Metadata (tus C8): a comma list of `key base64`. Strict, since a dropped pair is a lost file name."""

from __future__ import annotations

import base64
import binascii
import re

from tusd_py.core.upload import Metadata
from tusd_py.errors import RequestError

CODE = "ERR_INVALID_METADATA"

MAX_BYTES = 32 * 1024
"""Longest header accepted. Kept with the upload and sent back on every HEAD, so no place for files."""

# Visible ASCII without comma: it goes back into a header as it came.
_KEY = re.compile(r"[!-+\--~]+", re.ASCII)


def parse_metadata(raw: str | None) -> Metadata:
    """The metadata of a header value; None and "" mean none. Raises RequestError naming the pair that is wrong.

    Values that are not UTF-8 are kept in `raw` and shown with replacement characters in `values`.
    """
    if not raw:
        return Metadata()
    if len(raw) > MAX_BYTES:
        raise RequestError(f"Upload-Metadata is longer than {MAX_BYTES} bytes", code=CODE, status=431)
    values: dict[str, str] = {}
    for pair in raw.split(","):
        key, _, encoded = pair.strip(" ").partition(" ")
        if not _KEY.fullmatch(key):
            raise RequestError("Upload-Metadata has a key that is empty or not visible ASCII", code=CODE)
        if key in values:
            raise RequestError(f"Upload-Metadata has the key {key!r} twice", code=CODE)
        values[key] = _decode(key, encoded)
    return Metadata(raw, values)


def _decode(key: str, encoded: str) -> str:
    try:
        # validate: the default drops foreign characters in silence.
        return base64.b64decode(encoded.encode("ascii"), validate=True).decode("utf-8", "replace")
    except (UnicodeEncodeError, binascii.Error) as error:
        raise RequestError(f"Upload-Metadata: the value of {key!r} is not base64", code=CODE) from error
