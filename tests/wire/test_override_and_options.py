"""X-HTTP-Method-Override, OPTIONS, methods that are not allowed (K7, K22, K23, K3)."""

from __future__ import annotations

import pytest
from target import Target, merged

OVERRIDE = "X-HTTP-Method-Override"


@pytest.mark.parametrize("actual", ["POST", "GET", "PUT", "DELETE", "HEAD"])
def test_K7_patch_by_override(target: Target, actual: str) -> None:
    path = target.create(5)
    answer = target.ask(actual, path, target.patch_fields(0, [(OVERRIDE, "PATCH")]), b"hello")
    assert answer.status == 204
    assert answer.header("Upload-Offset") == "5"
    target.check_content(path, b"hello")


@pytest.mark.parametrize("actual", ["POST", "GET", "PATCH", "DELETE"])
def test_K7_head_by_override(target: Target, actual: str) -> None:
    path = target.create(5)
    with target.connect() as connection:
        for _ in range(2):
            answer = connection.request(actual, path, [("Tus-Resumable", "1.0.0"), (OVERRIDE, "HEAD")], b"")
            assert answer.status in (200, 204)
            assert answer.header("Upload-Offset") == "0"
            assert answer.body == b""


@pytest.mark.needs("termination")
@pytest.mark.parametrize("actual", ["POST", "GET", "PATCH", "HEAD"])
def test_K7_delete_by_override(target: Target, actual: str) -> None:
    path = target.create(5)
    assert target.ask(actual, path, [(OVERRIDE, "DELETE")], None if actual in ("GET", "HEAD") else b"").status == 204
    assert target.head(path).status in (404, 410)


@pytest.mark.needs("creation")
@pytest.mark.parametrize("actual", ["PUT", "PATCH", "GET"])
def test_K7_post_by_override(target: Target, actual: str) -> None:
    answer = target.ask(actual, target.base, [(OVERRIDE, "POST"), ("Upload-Length", "5")], b"")
    assert answer.status == 201
    assert target.offset(target.path_of(answer.header("Location"))) == 0


@pytest.mark.needs("creation")
def test_K7_the_actual_method_is_ignored(target: Target) -> None:
    path = target.upload(b"hello")
    answer = target.ask("DELETE", path, [(OVERRIDE, "HEAD")])
    assert answer.status in (200, 204)
    target.check_content(path, b"hello")


def test_K7_options_by_override(target: Target) -> None:
    answer = target.ask("POST", target.base, [(OVERRIDE, "OPTIONS"), ("Tus-Resumable", None)], b"")
    assert answer.status in (200, 204)
    assert "1.0.0" in answer.tokens("Tus-Version")


@pytest.mark.needs("creation", "download")
def test_K7_get_by_override_and_body_framed_for_the_actual_method(target: Target) -> None:
    path = target.upload(b"hello")
    assert target.ask("POST", path, [(OVERRIDE, "GET")], b"").body == b"hello"
    with target.connect() as connection:
        for _ in range(2):
            assert connection.request("HEAD", path, [(OVERRIDE, "GET"), ("Tus-Resumable", "1.0.0")]).status == 200


@pytest.mark.parametrize("value", ["FROB", "PATCH DELETE", "PATCH, HEAD", "../PATCH", "P\xc4TCH"])
def test_K7_unknown_method_by_override_is_refused(target: Target, value: str) -> None:
    path = target.create(5)
    answer = target.ask("POST", path, target.patch_fields(0, [(OVERRIDE, value)]), b"XXXXX")
    assert answer.status in (400, 405, 501)
    target.check_resumable(path, b"hello", at_most=0)


def test_K22_options(target: Target) -> None:
    answer = target.announced
    assert answer.status in (200, 204)
    assert "1.0.0" in answer.tokens("Tus-Version")
    assert answer.header("Tus-Resumable") == "1.0.0"


def test_K5_extensions_are_a_list_of_known_names(target: Target) -> None:
    known = {
        "creation", "creation-with-upload", "creation-defer-length", "expiration", "checksum", "checksum-trailer",
        "termination", "concatenation", "concatenation-unfinished",
    }  # fmt: skip
    assert target.announced.header("Tus-Extension") != ""
    assert target.extensions <= known


@pytest.mark.needs("creation")
def test_W1_C6_N1_S7_extensions_come_with_those_they_extend(target: Target) -> None:
    needs = {
        "creation-with-upload": "creation", "creation-defer-length": "creation",
        "checksum-trailer": "checksum", "concatenation-unfinished": "concatenation",
    }  # fmt: skip
    for extension, needed in needs.items():
        assert extension not in target.extensions or needed in target.extensions


@pytest.mark.needs("max-size")
def test_K6_max_size(target: Target) -> None:
    assert target.announced.header("Tus-Max-Size") == str(target.max_size)


@pytest.mark.parametrize("version", ["0.2.2", "2.0.0", "", None])
def test_K23_options_ignores_the_version(target: Target, version: str | None) -> None:
    answer = target.ask("OPTIONS", target.base, [("Tus-Resumable", version)])
    assert answer.status in (200, 204)
    assert "1.0.0" in answer.tokens("Tus-Version")


@pytest.mark.parametrize("kind", ["base", "without slash", "upload", "upload with slash", "unknown upload"])
def test_K22_options_everywhere(target: Target, kind: str) -> None:
    upload = target.create(5)
    path = {
        "base": target.base, "without slash": target.base.rstrip("/") or "/", "upload": upload,
        "upload with slash": upload + "/", "unknown upload": target.unknown,
    }[kind]  # fmt: skip
    answer = target.ask("OPTIONS", path)
    assert answer.status in (200, 204)
    assert "1.0.0" in answer.tokens("Tus-Version")


def test_K22_options_asterisk_does_no_harm(target: Target) -> None:
    with target.connect() as connection:
        assert connection.request("OPTIONS", "*").status in (200, 204, 400, 404)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "LOCK"])
def test_K3_405_with_allow_on_the_creation_url(target: Target, method: str) -> None:
    answer = target.ask(method, target.base, target.patch_fields(0), b"x" if method in ("PUT", "PATCH") else None)
    assert answer.status == 405
    assert {"post"} <= answer.tokens("Allow")
    assert method.lower() not in answer.tokens("Allow")
    assert answer.header("Tus-Resumable") == "1.0.0"


@pytest.mark.parametrize("method", ["PUT", "POST", "TRACE", "PROPFIND", "LOCK"])
def test_K3_405_with_allow_on_an_upload(target: Target, method: str) -> None:
    path = target.create(5)
    answer = target.ask(method, path, target.patch_fields(0), b"XXXXX" if method in ("PUT", "POST") else None)
    assert answer.status == 405
    assert {"head", "patch"} <= answer.tokens("Allow")
    assert method.lower() not in answer.tokens("Allow")
    assert answer.header("Tus-Resumable") == "1.0.0"
    target.check_resumable(path, b"hello", at_most=0)


@pytest.mark.parametrize("method", ["FROB", "patch", "Post"])
def test_K3_method_that_nobody_knows_is_refused(target: Target, method: str) -> None:
    path = target.create(5)
    with target.connect() as connection:
        fields = merged([("Content-Length", "5")], target.patch_fields(0))
        answer = connection.request(method, path, fields, b"XXXXX")
        assert answer.status in (400, 405, 501)
    target.check_resumable(path, b"hello", at_most=0)


@pytest.mark.parametrize("path", ["/", "/nowhere", "/filesystem/x", "/files2/", "//", "/%66iles2/"])
def test_K3_paths_elsewhere_are_404(target: Target, path: str) -> None:
    if path == target.base:
        pytest.skip("that is the creation URL")
    assert target.ask("POST", path, [("Upload-Length", "5")], b"").status in (404, 405)
