"""What errors look like: Tus-Resumable on all of them (K3), `ERR_CODE: message`, or JSON where it is asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from client import Response
from target import Target

WRONG_CHECKSUM = ("Upload-Checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=")

Provoke = Callable[[Target, list[tuple[str, str]]], Response]

# Each also with the code where it is tusd's and decided.
ERRORS: dict[str, tuple[int, str | None, Provoke]] = {
    "no length": (400, None, lambda target, more: target.post(more)),
    "bad offset": (400, None, lambda target, more: target.patch(target.create(5), "x", b"hello", more)),
    "bad metadata": (
        400, None, lambda target, more: target.post([("Upload-Length", "5"), ("Upload-Metadata", "a !"), *more]),
    ),
    "unknown upload": (
        404, "ERR_UPLOAD_NOT_FOUND", lambda target, more: target.patch(target.unknown, 0, b"hello", more),
    ),
    "unknown path": (404, None, lambda target, more: target.ask("GET", "/nowhere/at/all", more)),
    "method": (405, None, lambda target, more: target.ask("PUT", target.create(5), more, b"")),
    "mismatched offset": (
        409, "ERR_MISMATCHED_OFFSET", lambda target, more: target.patch(target.create(5), 3, b"lo", more),
    ),
    "version": (412, None, lambda target, more: target.post([("Tus-Resumable", "0.2.2"), *more])),
    "past the length": (
        413, "ERR_UPLOAD_SIZE_EXCEEDED", lambda target, more: target.patch(target.create(5), 0, b"hello!", more),
    ),
    "past the maximum": (
        413, "ERR_MAX_SIZE_EXCEEDED", lambda target, more: target.post([("Upload-Length", str(2**62)), *more]),
    ),
    "content type": (
        415, None, lambda target, more: target.patch(target.create(5), 0, b"x", [("Content-Type", "a/b"), *more]),
    ),
    "checksum": (460, None, lambda target, more: target.patch(target.create(5), 0, b"hello", [WRONG_CHECKSUM, *more])),
    "incomplete": (400, "ERR_INCOMPLETE_UPLOAD", lambda target, more: target.ask("GET", target.create(5), more)),
}  # fmt: skip


def provoke(target: Target, name: str, *more: tuple[str, str]) -> Response:
    needed = {"checksum": "checksum"}.get(name)
    if needed and needed not in target.extensions:
        pytest.skip(f"the server does not announce {needed}")
    if name == "past the maximum" and not target.max_size:
        pytest.skip("needs the server's limit: --max-size")
    if name == "incomplete" and not target.serves_downloads:
        pytest.skip("the server does not serve uploads by GET")
    answer = ERRORS[name][2](target, list(more))
    assert answer.status == ERRORS[name][0], answer
    assert answer.header("Tus-Resumable") == "1.0.0"
    return answer


@pytest.mark.parametrize("name", ERRORS)
def test_K3_error_has_version_and_text(target: Target, name: str) -> None:
    answer = provoke(target, name)
    assert re.fullmatch(r"text/plain(; ?charset=utf-8)?", answer.header("Content-Type") or "")
    assert re.fullmatch(r"ERR_[A-Z0-9_]+: [^\r\n]+\n", answer.text)
    if code := ERRORS[name][1]:
        assert answer.text.startswith(f"{code}: ")


@pytest.mark.parametrize("name", ERRORS)
def test_K3_error_as_problem_json(target: Target, name: str) -> None:
    answer = provoke(target, name, ("Accept", "application/problem+json"))
    assert answer.header("Content-Type") == "application/problem+json"
    problem = json.loads(answer.body)
    assert set(problem) == {"type", "title", "status", "code", "detail"}
    assert problem["status"] == answer.status
    assert all(isinstance(problem[key], str) and problem[key] for key in ("type", "title", "code", "detail"))
    assert re.fullmatch(r"ERR_[A-Z0-9_]+", problem["code"])
    if code := ERRORS[name][1]:
        assert problem["code"] == code


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("*/*", False), ("text/html,application/xhtml+xml,*/*;q=0.8", False), ("text/plain", False),
        ("application/problem+json;q=0", False), ("text/plain, application/problem+json;q=0.5", None),
        ("application/problem+json, */*", True), ("APPLICATION/PROBLEM+JSON", True), (";;,=", False),
    ],
)  # fmt: skip
def test_errors_as_accept_asks(target: Target, accept: str, is_json: bool | None) -> None:
    answer = provoke(target, "unknown upload", ("Accept", accept))
    told = answer.header("Content-Type") == "application/problem+json"
    assert is_json is None or told == is_json
    assert answer.body


@pytest.mark.parametrize("version", ["1.0.0", "0.2.2"])
def test_K3_error_of_head_has_no_body_but_a_version(target: Target, version: str) -> None:
    with target.connect() as connection:
        answer = connection.request("HEAD", target.unknown, [("Tus-Resumable", version)])
        assert answer.status in (404, 410, 412)
        assert answer.header("Tus-Resumable") == "1.0.0"
        if not answer.says_close:
            assert connection.request("OPTIONS", target.base).status in (200, 204)


def test_K3_success_has_version(target: Target) -> None:
    created = target.post([("Upload-Length", "5")])
    path = target.path_of(created.header("Location"))
    answers = [created, target.head(path), target.patch(path, 0, b"hello"), target.announced]
    if "termination" in target.extensions:
        answers.append(target.ask("DELETE", path))
    assert [answer.header("Tus-Resumable") for answer in answers] == ["1.0.0"] * len(answers)


@pytest.mark.parametrize("name", ["unknown upload", "bad metadata", "unknown path"])
def test_errors_do_not_repeat_what_was_sent(target: Target, name: str) -> None:
    answer = provoke(target, name, ("X-Probe", "<script>alert(1)</script>"))
    assert "<script>" not in answer.text
    assert answer.header("X-Content-Type-Options") == "nosniff"


def test_errors_do_not_repeat_the_path(target: Target) -> None:
    answer = target.ask("GET", target.base.rstrip("/") + "/<script>alert(1)</script>")
    assert answer.status in (400, 404)
    assert "<script>" not in answer.text
