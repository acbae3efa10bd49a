"""What browsers need (CORS), on every answer and without authorisation or version."""

from __future__ import annotations

import pytest
from client import Response
from target import Target, metadata

ORIGIN = "http://app.example"

REQUEST_HEADERS = {
    "creation": {"upload-length", "upload-metadata"},
    "creation-defer-length": {"upload-defer-length"},
    "concatenation": {"upload-concat"},
    "checksum": {"upload-checksum"},
}
RESPONSE_HEADERS = {
    "creation": {"location", "upload-metadata"},
    "creation-defer-length": {"upload-defer-length"},
    "concatenation": {"upload-concat"},
    "checksum": {"tus-checksum-algorithm"},
    "expiration": {"upload-expires"},
}


def check_origin(answer: Response) -> None:
    allowed = answer.header("Access-Control-Allow-Origin")
    assert allowed in ("*", ORIGIN), answer
    if allowed == ORIGIN:
        assert "origin" in answer.tokens("Vary")
    else:
        assert answer.header("Access-Control-Allow-Credentials") != "true"


def preflight(target: Target, path: str, method: str = "PATCH") -> Response:
    fields = [
        ("Tus-Resumable", None),
        ("Origin", ORIGIN),
        ("Access-Control-Request-Method", method),
        ("Access-Control-Request-Headers", "tus-resumable,upload-offset,content-type,upload-length"),
    ]
    return target.ask("OPTIONS", path, fields)


@pytest.mark.parametrize("kind", ["base", "without slash", "upload", "upload with slash", "unknown upload"])
def test_CORS_preflight(target: Target, kind: str) -> None:
    upload = target.create(5)
    path = {
        "base": target.base, "without slash": target.base.rstrip("/") or "/", "upload": upload,
        "upload with slash": upload + "/", "unknown upload": target.unknown,
    }[kind]  # fmt: skip
    answer = preflight(target, path)
    assert answer.status in (200, 204)
    check_origin(answer)
    assert {"post", "head", "patch", "options"} <= answer.tokens("Access-Control-Allow-Methods")
    if "termination" in target.extensions:
        assert "delete" in answer.tokens("Access-Control-Allow-Methods")
    assert int(answer.header("Access-Control-Max-Age") or "0") > 0


def test_CORS_preflight_allows_every_tus_header(target: Target) -> None:
    needed = {"tus-resumable", "upload-offset", "content-type", "x-http-method-override", "x-requested-with"}
    for extension in target.extensions:
        needed |= REQUEST_HEADERS.get(extension, set())
    assert needed <= preflight(target, target.base).tokens("Access-Control-Allow-Headers")


def exposed(target: Target) -> set[str]:
    needed = {"tus-resumable", "tus-version", "upload-offset", "upload-length", "tus-extension", "tus-max-size"}
    for extension in target.extensions:
        needed |= RESPONSE_HEADERS.get(extension, set())
    return needed


def test_CORS_creation_and_patch_and_head_expose_tus_headers(target: Target) -> None:
    origin = [("Origin", ORIGIN)]
    created = target.post([("Upload-Length", "5"), ("Upload-Metadata", metadata(a="b")), *origin])
    path = target.path_of(created.header("Location"))
    for answer in (created, target.patch(path, 0, b"he", origin), target.head(path, origin)):
        assert answer.status in (200, 201, 204)
        check_origin(answer)
        assert exposed(target) <= answer.tokens("Access-Control-Expose-Headers")
    target.check_resumable(path, b"hello")


def test_CORS_options_without_preflight_headers(target: Target) -> None:
    check_origin(target.ask("OPTIONS", target.base, [("Origin", ORIGIN)]))


@pytest.mark.needs("termination")
def test_CORS_delete(target: Target) -> None:
    check_origin(target.ask("DELETE", target.create(5), [("Origin", ORIGIN)]))


@pytest.mark.needs("download")
def test_CORS_get(target: Target) -> None:
    answer = target.ask("GET", target.upload(b"hello"), [("Origin", ORIGIN)])
    check_origin(answer)
    assert answer.body == b"hello"


@pytest.mark.parametrize("status", [400, 404, 405, 409, 412, 413, 415])
def test_CORS_errors_can_be_read_by_pages(target: Target, status: int) -> None:
    path = target.create(5)
    origin = [("Origin", ORIGIN)]
    answer = {
        400: lambda: target.patch(path, "x", b"hello", origin),
        404: lambda: target.head(target.unknown, origin),
        405: lambda: target.ask("PUT", path, origin, b""),
        409: lambda: target.patch(path, 3, b"hello", origin),
        412: lambda: target.patch(path, 0, b"hello", [("Tus-Resumable", "0.1.0"), *origin]),
        413: lambda: target.patch(path, 0, b"hello!", origin),
        415: lambda: target.patch(path, 0, b"hello", [("Content-Type", "text/plain"), *origin]),
    }[status]()
    assert answer.status == status
    check_origin(answer)
    assert "upload-offset" in answer.tokens("Access-Control-Expose-Headers")


def test_CORS_hostile_origin_is_not_copied_into_the_head(target: Target) -> None:
    answer = target.head(target.create(5), [("Origin", 'http://a"\t,;<script>')])
    assert answer.header("Access-Control-Allow-Credentials") != "true"
    assert answer.status in (200, 204, 400, 403)
