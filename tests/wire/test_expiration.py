"""Expiration (E). That uploads do go away is for tests with a clock; here is what clients are told."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime

import pytest
from client import Response
from target import OFFSET_TYPE, Target

pytestmark = pytest.mark.needs("expiration")

IMF_FIXDATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-3][0-9] (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
    r" [0-9]{4} [0-2][0-9]:[0-5][0-9]:[0-6][0-9] GMT"
)


def check_expires(answer: Response) -> None:
    value = answer.header("Upload-Expires")
    assert value is not None, answer
    assert IMF_FIXDATE.fullmatch(value)
    moment = parsedate_to_datetime(value)
    assert moment.timestamp() > time.time()
    assert moment.strftime("%a") == value[:3]


def test_E2_E4_creation_tells_when(target: Target) -> None:
    check_expires(target.post([("Upload-Length", "5")]))


def test_E2_E4_patch_tells_when(target: Target) -> None:
    check_expires(target.patch(target.create(5), 0, b"he"))


def test_E2_empty_patch_tells_when(target: Target) -> None:
    check_expires(target.patch(target.create(5), 0, b""))


@pytest.mark.needs("creation-with-upload")
def test_E2_creation_with_part_of_the_upload_tells_when(target: Target) -> None:
    check_expires(target.post([("Upload-Length", "5"), ("Content-Type", OFFSET_TYPE)], b"he"))


@pytest.mark.needs("creation-defer-length")
def test_E2_deferred_upload_tells_when(target: Target) -> None:
    path = target.create(None)
    check_expires(target.patch(path, 0, b"hello"))


def test_E1_finishing_patch_does_not_expire(target: Target) -> None:
    path = target.create(5)
    assert target.patch(path, 0, b"hello").header("Upload-Expires") is None
    target.check_content(path, b"hello")


def test_E1_empty_upload_does_not_expire(target: Target) -> None:
    assert target.post([("Upload-Length", "0")]).header("Upload-Expires") is None


def test_E2_browsers_may_read_it(target: Target) -> None:
    answer = target.post([("Upload-Length", "5"), ("Origin", "http://app.example")])
    assert "upload-expires" in answer.tokens("Access-Control-Expose-Headers")
