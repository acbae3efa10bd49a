"""Tus-Resumable (tus K4, K23)."""

from __future__ import annotations

import pytest
from asking import ask, refused

from tusd_py.protocol.tus import VERSION, check_version

METHODS = ["POST", "PATCH", "DELETE", "HEAD", "GET", "PUT"]
OTHERS = [
    "0.2.2",
    "1.0.1",
    "2.0.0",
    "1.0",
    "1.0.0.0",
    "1.0.00",
    "",
    "1.0.0, 0.2.2",
    "v1.0.0",
    "1.0.0\xa0",
    "\uff11.0.0",
]


@pytest.mark.parametrize("method", [*METHODS, "OPTIONS"])
def test_K4_our_version_is_spoken(method: str) -> None:
    assert VERSION == "1.0.0"
    check_version(method, ask(("Tus-Resumable", "1.0.0")))


@pytest.mark.parametrize("version", OTHERS)
@pytest.mark.parametrize("method", METHODS)
def test_K4_another_version_is_412_with_tus_version(method: str, version: str) -> None:
    with refused(412, "ERR_UNSUPPORTED_VERSION") as caught:
        check_version(method, ask(("Tus-Resumable", version)))
    assert caught.value.headers == {"Tus-Version": "1.0.0"}


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_K4_no_version_is_412_where_something_would_change(method: str) -> None:
    with refused(412):
        check_version(method, ask())


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_K4_no_version_is_fine_where_nothing_changes(method: str) -> None:
    check_version(method, ask())


def test_K4_two_versions_are_412() -> None:
    with refused(412):
        check_version("POST", ask(("Tus-Resumable", "1.0.0"), ("Tus-Resumable", "0.2.2")))


@pytest.mark.parametrize("version", [*OTHERS, "1.0.0"])
def test_K23_options_ignores_the_version(version: str) -> None:
    check_version("OPTIONS", ask(("Tus-Resumable", version)))


def test_K23_options_needs_no_version() -> None:
    check_version("OPTIONS", ask())
