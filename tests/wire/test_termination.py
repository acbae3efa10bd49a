"""Termination (D). DELETE beside a running PATCH is in test_concurrency."""

from __future__ import annotations

import pytest
from target import Target

pytestmark = pytest.mark.needs("termination")


def check_gone(target: Target, path: str) -> None:
    assert target.head(path).status in (404, 410)
    assert target.head(path).header("Upload-Offset") is None
    assert target.patch(path, 0, b"x").status in (404, 410)
    assert target.ask("GET", path).status in (404, 405, 410)
    assert target.ask("DELETE", path).status in (404, 410)


@pytest.mark.parametrize("sent", [b"", b"he", b"hello"], ids=["new", "begun", "finished"])
def test_D2_D3_delete_is_204_and_final(target: Target, sent: bytes) -> None:
    path = target.create(5)
    if sent:
        assert target.patch(path, 0, sent).status == 204
    answer = target.ask("DELETE", path)
    assert answer.status == 204
    check_gone(target, path)


@pytest.mark.needs("creation-defer-length")
def test_D2_delete_of_deferred_upload(target: Target) -> None:
    path = target.create(None)
    target.patch(path, 0, b"he")
    assert target.ask("DELETE", path).status == 204
    check_gone(target, path)


def test_D2_delete_of_empty_upload(target: Target) -> None:
    path = target.create(0)
    assert target.ask("DELETE", path).status == 204
    check_gone(target, path)


@pytest.mark.parametrize("version", [None, "0.2.2"])
def test_K4_delete_with_wrong_version_is_412_and_removes_nothing(target: Target, version: str | None) -> None:
    path = target.upload(b"hello")
    assert target.ask("DELETE", path, [("Tus-Resumable", version)]).status == 412
    target.check_content(path, b"hello")


def test_D3_delete_of_unknown_upload_is_404(target: Target) -> None:
    assert target.ask("DELETE", target.unknown).status in (404, 410)


def test_D2_delete_takes_one_upload_only(target: Target) -> None:
    gone, kept = target.upload(b"gone"), target.upload(b"kept")
    assert target.ask("DELETE", gone).status == 204
    target.check_content(kept, b"kept")


def test_D2_connection_is_usable_after_delete(target: Target) -> None:
    path = target.upload(b"hello")
    with target.connect() as connection:
        assert connection.request("DELETE", path, [("Tus-Resumable", "1.0.0")]).status == 204
        assert connection.request("HEAD", path, [("Tus-Resumable", "1.0.0")]).status in (404, 410)
