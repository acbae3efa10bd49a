"""The order of checks where a request has two faults: 412, 404, 403, 415, 400, 409, 413."""

from __future__ import annotations

from itertools import combinations

import pytest
from target import Target

FAULTS: dict[int, list[tuple[str, str]]] = {
    412: [("Tus-Resumable", "0.2.2")],
    404: [],
    403: [],
    415: [("Content-Type", "text/plain")],
    400: [("Upload-Length", "five")],
    409: [("Upload-Offset", "3")],
    413: [],
}


@pytest.mark.parametrize(("first", "second"), [pair for pair in combinations(FAULTS, 2) if pair != (404, 403)])
def test_section_1_order_of_two_faults(target: Target, first: int, second: int) -> None:
    faults = {first, second}
    if 403 in faults and "concatenation" not in target.extensions:
        pytest.skip("the server does not announce concatenation")
    partial = target.upload(b"hello", [("Upload-Concat", "partial")]) if 403 in faults else ""
    if 404 in faults:
        path, offset = target.unknown, 0
    elif 403 in faults:
        answer = target.post([("Upload-Concat", f"final;{partial}")])
        path, offset = target.path_of(answer.header("Location")), 5
    else:
        path, offset = target.create(5), 0
    fields = [field for fault in faults for field in FAULTS[fault]]
    body = b"XXXXX" + b"!" * 100 if 413 in faults else b""
    assert target.patch(path, offset, body, fields).status == first
    if not {404, 403} & faults:
        target.check_resumable(path, b"hello", at_most=0)
    if partial:
        target.check_content(path, b"hello")
        target.check_content(partial, b"hello")


def test_section_1_all_faults_at_once(target: Target) -> None:
    fields = [field for fault in FAULTS.values() for field in fault]
    assert target.patch(target.unknown, 0, b"!" * 100, fields).status == 412


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_section_1_version_comes_before_method(target: Target, method: str) -> None:
    path = target.create(5)
    assert target.ask(method, path, [("Tus-Resumable", "0.2.2")], b"x").status == 412
    assert target.ask(method, target.unknown, [("Tus-Resumable", "0.2.2")], b"x").status == 412


def test_section_1_method_comes_before_unknown_upload(target: Target) -> None:
    assert target.ask("POST", target.unknown, [], b"x").status == 405


@pytest.mark.needs("creation", "max-size")
def test_section_1_order_at_creation(target: Target) -> None:
    too_long = ("Upload-Length", str(target.max_size + 1))
    assert target.post([too_long, ("Tus-Resumable", "0.2.2")]).status == 412
    assert target.post([too_long, ("Upload-Metadata", "a !!!")]).status == 400


@pytest.mark.needs("checksum")
def test_section_1_malformed_checksum_comes_before_offset_and_length(target: Target) -> None:
    path = target.create(5)
    assert target.patch(path, 3, b"XXXXXXXX", [("Upload-Checksum", "sha1")]).status == 400
    target.check_resumable(path, b"hello", at_most=0)


@pytest.mark.needs("checksum")
def test_section_1_460_comes_last(target: Target) -> None:
    path = target.create(5)
    wrong = ("Upload-Checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=")
    assert target.patch(path, 0, b"XXXXX!", [wrong]).status == 413
    assert target.patch(path, 0, b"XXXXX", [wrong]).status == 460
    target.check_resumable(path, b"hello", at_most=0)
