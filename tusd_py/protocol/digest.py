"""Repr-Digest (RFC 9530): the digest of a finished upload, for who wants to compare what it got."""

from __future__ import annotations

from base64 import b64encode

from tusd_py.core.upload import Upload

_NAMES = {"sha256": "sha-256", "sha512": "sha-512"}


def repr_digest(upload: Upload) -> dict[str, str]:
    """The header; none where no digest is known."""
    algorithm, _, value = (upload.digest or "").partition(":")
    name = _NAMES.get(algorithm)
    return {"Repr-Digest": f"{name}=:{b64encode(bytes.fromhex(value)).decode()}:"} if name is not None else {}
