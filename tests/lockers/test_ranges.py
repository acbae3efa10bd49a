"""LockFile with the kernel's two kinds of byte-range locks, seen from a second opening or a second process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tusd_py.lockers.file import ranges
from tusd_py.lockers.file.ranges import LockFile

OTHER = """
import sys
from tusd_py.lockers.file import ranges
ranges._HAS_OFD = {has_ofd}
file = ranges.LockFile(sys.argv[1])
file.open()
print(file.is_locked("a"), file.lock("a"), file.is_locked("b"), file.lock("b"))
"""


@pytest.fixture
def file(tmp_path):
    made = LockFile(str(tmp_path / "lock"))
    made.open()
    yield made
    made.close()


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("theirs", [True, False])
def test_other_process_is_kept_out(tmp_path, monkeypatch, file, ours, theirs):
    """Both kinds exclude each other too, so that a change of kind between two versions is harmless."""

    def ask() -> str:
        script = OTHER.format(has_ofd=theirs)
        command = [sys.executable, "-c", script, str(tmp_path / "lock")]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    monkeypatch.setattr(ranges, "_HAS_OFD", ours)
    assert file.lock("a")
    assert ask() == "True False False True"
    file.unlock("a")
    assert ask() == "False True False True"


def test_names_are_independent(tmp_path, file):
    other = LockFile(str(tmp_path / "lock"))
    other.open()
    names = [f"{number:032x}" for number in range(1000)]
    assert all(file.lock(name) for name in names[::2])
    assert all(other.lock(name) for name in names[1::2])
    assert not any(other.lock(name) for name in names[::2])
    for name in names[::2]:
        file.unlock(name)
    assert all(other.lock(name) for name in names[::2])
    other.close()
    assert all(file.lock(name) for name in names)


def test_moving_takes_locks_along(tmp_path, file):
    assert file.lock("a")
    (tmp_path / "lock").unlink()
    assert file.is_removed()
    file.move()
    assert not file.is_removed()
    other = LockFile(str(tmp_path / "lock"))
    other.open()
    assert other.is_locked("a")
    assert not other.is_locked("b")
    other.close()


def test_lock_lost_by_moving_too_late_is_reported(tmp_path, file, caplog):
    assert file.lock("a")
    (tmp_path / "lock").unlink()
    other = LockFile(str(tmp_path / "lock"))
    other.open()
    assert other.lock("a")
    file.move()
    assert "LockLost id=a" in caplog.text
    file.unlock("a")
    assert file.is_locked("a")
    other.close()
