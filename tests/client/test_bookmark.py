"""What is remembered of an unfinished upload: by the file as it is now and where it goes, for one process at a time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tusd_py.client.bookmark import FORGOTTEN_SECONDS, Bookmark, Identity, Taken

FILE = Identity("/data/a.bin", 1000, 123)
ENDPOINT = "http://host/files/"


def test_it_is_there_the_next_time(tmp_path: Path) -> None:
    with Bookmark(str(tmp_path), FILE, ENDPOINT) as bookmark:
        assert bookmark.url == ""
        bookmark.keep("http://host/files/a-very-long-one")
        bookmark.keep("http://host/files/1")
    with Bookmark(str(tmp_path), FILE, ENDPOINT) as bookmark:
        assert bookmark.url == "http://host/files/1"
        bookmark.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "endpoint"),
    [
        (Identity("/data/b.bin", 1000, 123), ENDPOINT),
        (Identity("/data/a.bin", 1001, 123), ENDPOINT),
        (Identity("/data/a.bin", 1000, 124), ENDPOINT),
        (FILE, "http://host/other/"),
    ],
)
def test_another_file_or_place_is_another_upload(file: Identity, endpoint: str, tmp_path: Path) -> None:
    with Bookmark(str(tmp_path), FILE, ENDPOINT) as bookmark:
        bookmark.keep("http://host/files/1")
        with Bookmark(str(tmp_path), file, endpoint) as other:
            assert other.url == ""


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Bookmark(str(tmp_path), FILE, ENDPOINT), pytest.raises(Taken), Bookmark(str(tmp_path), FILE, ENDPOINT):
        pass
    with Bookmark(str(tmp_path), FILE, ENDPOINT) as bookmark:
        assert bookmark.url == ""


def test_nothing_is_left_where_nothing_was_begun(tmp_path: Path) -> None:
    with Bookmark(str(tmp_path), FILE, ENDPOINT):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"url": 5}', '{"url": "http://["}', "\x00\xff"])
def test_what_a_crash_left_of_it_is_no_url(content: str, tmp_path: Path) -> None:
    with Bookmark(str(tmp_path), FILE, ENDPOINT) as bookmark:
        bookmark.keep("http://host/files/1")
    (path,) = tmp_path.iterdir()
    path.write_bytes(content.encode("latin-1"))
    with Bookmark(str(tmp_path), FILE, ENDPOINT) as bookmark:
        assert bookmark.url == ""


def test_after_a_month_it_is_forgotten(tmp_path: Path) -> None:
    for name, age in (("old", FORGOTTEN_SECONDS + 60), ("young", FORGOTTEN_SECONDS - 60)):
        (tmp_path / name).write_text("{}")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with Bookmark(str(tmp_path), FILE, ENDPOINT):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["young"]
