"""The codec of tus 1.0.0: headers to commands, uploads to answers. Pure; rule ids are those of the rule book.

What the rules do not see here: whether the upload exists and where it stands (`core.uploads`), and how requests
and answers travel (`web`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from tusd_py.core.checksum import ALGORITHMS
from tusd_py.core.commands import Append, Concatenate, Create
from tusd_py.core.rules import Offers
from tusd_py.core.upload import Upload, UploadId, parse_given_id
from tusd_py.errors import RequestError
from tusd_py.protocol.checksum import parse_checksum
from tusd_py.protocol.digest import repr_digest
from tusd_py.protocol.headers import Headers
from tusd_py.protocol.metadata import parse_metadata

VERSION = "1.0.0"
BODY_TYPE = "application/offset+octet-stream"
MAX_PARTIALS = 10_000
"""Partial uploads in one final; as many as S3 takes parts."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and headers; the answers of tus have no body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


def check_version(method: str, headers: Headers) -> None:
    """Refuse another protocol version before anything else (tus K4, K23).

    HEAD and GET without the header are fine: browsers and the IETF protocol send none.
    """
    if method == "OPTIONS" or headers.joined("tus-resumable") == VERSION:
        return
    versions = {each.strip(" ") for each in (headers.joined("tus-resumable") or "").split(",")}
    if versions == {VERSION} or ("tus-resumable" not in headers and method in ("HEAD", "GET")):
        return
    raise RequestError(
        f"Tus-Resumable must be {VERSION}",
        code="ERR_UNSUPPORTED_VERSION",
        status=412,
        headers={"Tus-Version": VERSION},
    )


def decode_create(headers: Headers, base_path: str) -> Create | Concatenate:
    """The command of a POST to the creation URL. `base_path` is what upload URLs start with."""
    metadata = parse_metadata(headers.joined("upload-metadata"))
    concat = headers.one("upload-concat", "ERR_INVALID_CONCAT")
    if concat is not None and concat != "partial":
        return _decode_final(headers, concat, base_path)
    length = headers.integer("upload-length", "ERR_INVALID_UPLOAD_LENGTH")
    deferred = headers.one("upload-defer-length", "ERR_INVALID_UPLOAD_LENGTH_DEFER")
    if deferred not in (None, "1"):  # tus C2
        raise RequestError("Upload-Defer-Length must be 1", code="ERR_INVALID_UPLOAD_LENGTH_DEFER")
    if length is not None and deferred is not None:
        raise RequestError(
            "Upload-Length and Upload-Defer-Length exclude each other", code="ERR_AMBIGUOUS_UPLOAD_LENGTH"
        )
    if length is None and deferred is None:  # tus C3
        raise RequestError("Upload-Length or Upload-Defer-Length: 1 is needed", code="ERR_INVALID_UPLOAD_LENGTH")
    # tus W2; another content type is somebody's form or default, and its body no upload's.
    has_body = _is_body_type(headers)
    return Create(
        length=length,
        metadata=metadata,
        is_partial=concat is not None,
        concat=concat,
        has_body=has_body,
        content_length=_content_length(headers),
        checksum=parse_checksum(headers.one("upload-checksum")) if has_body else None,
    )


def decode_append(upload_id: UploadId, headers: Headers) -> Append:
    """The command of a PATCH."""
    if not _is_body_type(headers):  # tus K14
        raise RequestError(f"Content-Type must be {BODY_TYPE}", code="ERR_INVALID_CONTENT_TYPE", status=415)
    offset = headers.integer("upload-offset", "ERR_INVALID_OFFSET")
    if offset is None:
        raise RequestError("Upload-Offset is needed", code="ERR_INVALID_OFFSET")
    return Append(
        id=upload_id,
        offset=offset,
        length=headers.integer("upload-length", "ERR_INVALID_UPLOAD_LENGTH"),
        content_length=_content_length(headers),
        checksum=parse_checksum(headers.one("upload-checksum")),
    )


def announces_checksum(headers: Headers) -> bool:
    """Whether Trailer says that the checksum comes at the end (tus S7; the header field is not obligatory)."""
    if "trailer" not in headers:
        return False
    names = (headers.joined("trailer") or "").split(",")
    return "upload-checksum" in (name.strip().lower() for name in names)


def encode_options(offers: Offers, *, reads_trailers: bool) -> Answer:
    """The answer to OPTIONS (tus K2, K5, K6, K22)."""
    extensions = ["creation", "creation-with-upload", "checksum"]
    extensions += [name for name, is_offered in _optional_extensions(offers, reads_trailers) if is_offered]
    headers = {
        "Tus-Version": VERSION,
        "Tus-Extension": ",".join(extensions),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),  # tus S6
    }
    if offers.max_size_bytes is not None:
        headers["Tus-Max-Size"] = str(offers.max_size_bytes)
    return Answer(204, headers)


def _optional_extensions(offers: Offers, reads_trailers: bool) -> Iterable[tuple[str, bool]]:
    yield "creation-defer-length", offers.deferred_length
    yield "checksum-trailer", reads_trailers
    yield "expiration", offers.expiration
    yield "termination", offers.termination
    yield "concatenation", offers.concatenation
    yield "concatenation-unfinished", offers.concatenation


def encode_created(upload: Upload, location: str) -> Answer:
    """The answer to a creation (tus C11, W3, E2)."""
    headers = {"Location": location} | _expiry(upload)
    if not upload.is_final:
        headers["Upload-Offset"] = str(upload.offset)
    return Answer(201, headers)


def encode_appended(upload: Upload) -> Answer:
    """The answer to a PATCH (tus K16, K17, E2)."""
    return Answer(204, {"Upload-Offset": str(upload.offset)} | _expiry(upload))


def encode_inspected(upload: Upload) -> Answer:
    """The answer to a HEAD (tus K8 to K12, C2, C5, C9, N7 to N10)."""
    headers = {"Cache-Control": "no-store"} | _expiry(upload)
    if upload.is_available or not upload.is_final:
        headers["Upload-Offset"] = str(upload.offset)
    if upload.length is not None:
        headers["Upload-Length"] = str(upload.length)
    elif not upload.is_final:
        headers["Upload-Defer-Length"] = "1"
    if upload.metadata.raw:
        headers["Upload-Metadata"] = upload.metadata.raw
    if upload.concat is not None:
        headers["Upload-Concat"] = upload.concat
    return Answer(200, headers | repr_digest(upload))


def _expiry(upload: Upload) -> dict[str, str]:
    if upload.expires_at is None:
        return {}
    return {"Upload-Expires": _http_date(int(upload.expires_at))}  # tus E4


@lru_cache(maxsize=256)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _is_body_type(headers: Headers) -> bool:
    return (headers.one("content-type", "ERR_INVALID_CONTENT_TYPE") or "").lower() == BODY_TYPE


def _content_length(headers: Headers) -> int | None:
    if "transfer-encoding" in headers:
        return None
    return headers.integer("content-length") or 0


def _decode_final(headers: Headers, concat: str, base_path: str) -> Concatenate:
    if not concat.isprintable():  # it goes back into a header (tus N10)
        raise RequestError("Upload-Concat has a control character", code="ERR_INVALID_CONCAT")
    kind, _, urls = concat.partition(";")
    if kind != "final":
        raise RequestError("Upload-Concat must be partial or final;<urls>", code="ERR_INVALID_CONCAT")
    if "upload-length" in headers or "upload-defer-length" in headers:  # tus N11
        raise RequestError("a final upload has no length of its own", code="ERR_INVALID_UPLOAD_LENGTH")
    if _content_length(headers) != 0 and _is_body_type(headers):
        raise RequestError("a final upload takes no bytes of its own", code="ERR_MODIFY_FINAL", status=403)
    partials = tuple(_partial_id(url, base_path) for url in urls.split(" ") if url)
    if not partials:
        raise RequestError("Upload-Concat names no partial upload", code="ERR_INVALID_CONCAT")
    if len(partials) > MAX_PARTIALS:
        raise RequestError(f"Upload-Concat names more than {MAX_PARTIALS} partials", code="ERR_INVALID_CONCAT")
    return Concatenate(partials, concat, parse_metadata(headers.joined("upload-metadata")))


def _partial_id(url: str, base_path: str) -> UploadId:
    """The id in an absolute or relative URL (tus N11); scheme and host are ignored, nothing is ever fetched."""
    try:
        name = unquote(urlsplit(url).path).removesuffix("/")
    except ValueError:  # half an IPv6 address, for instance
        name = ""
    upload_id = parse_given_id(name.removeprefix(base_path))
    if upload_id is None:
        raise RequestError("Upload-Concat names something that is no upload here", code="ERR_INVALID_CONCAT")
    return upload_id
