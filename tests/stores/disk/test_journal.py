"""Which uploads are unfinished, whatever happens to the journals: torn, unlinked, taken over, shortened, all of it."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest
from scenario import Crash, Fault, file_calls

from tusd_py.core.upload import UploadId, new_id
from tusd_py.stores.disk import journal as module
from tusd_py.stores.disk.journal import Journal

LONG_BYTES = 2000
ONE, TWO, THREE = (UploadId(each * 32) for each in "123")


@pytest.fixture(autouse=True)
def _short_journals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONG_BYTES", LONG_BYTES)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def begin(folder: Path, *, is_durable: bool = False) -> Journal:
    """A journal whose upkeep is done at the sweep only."""
    folder.mkdir(parents=True, exist_ok=True)
    return Journal(str(folder), is_durable=is_durable, file_permissions=0o600, in_background=lambda _call: None)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def size(folder: Path) -> int:
    return sum(each.stat().st_size for each in files(folder))


def test_what_was_added_and_not_dropped_is_unfinished_for_everybody(tmp_path: Path) -> None:
    a, b = begin(tmp_path), begin(tmp_path)
    assert a.unfinished() == set()
    assert files(tmp_path) == []  # who only looks leaves nothing
    a.add(ONE)
    a.add(TWO)
    b.add(THREE)
    b.drop(ONE)
    a.drop(THREE)
    assert a.unfinished() == b.unfinished() == begin(tmp_path).unfinished() == {TWO}
    assert len(files(tmp_path)) == 2


def test_a_drop_may_come_before_its_addition_is_seen(tmp_path: Path) -> None:
    a, b = begin(tmp_path), begin(tmp_path)
    b.drop(ONE)
    a.add(ONE)
    for each in (a, b, a):
        each.tidy()
    assert a.unfinished() == set()


def test_finished_uploads_leave_nothing_however_many(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """Half of them are finished by another process than the one that made them, as with two workers."""
    made = [
        Journal(str(tmp_path), is_durable=False, file_permissions=0o600, in_background=executor.submit)
        for _ in range(2)
    ]
    alive = {new_id() for _ in range(10)}
    for each in alive:
        made[0].add(each)
    largest = 0
    for number in range(3000):
        upload_id = new_id()
        made[number % 2].add(upload_id)
        made[number // 2 % 2].drop(upload_id)
        if number % 50 == 0:
            executor.submit(lambda: None).result()
            largest = max(largest, size(tmp_path))
    executor.submit(lambda: None).result()
    assert largest < 4 * (LONG_BYTES + 100 * 34)
    assert len(files(tmp_path)) == 2
    assert made[0].unfinished() == made[1].unfinished() == alive


def test_a_long_journal_of_uploads_that_are_alive_is_not_written_over_and_over(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    made = Journal(str(tmp_path), is_durable=False, file_permissions=0o600, in_background=executor.submit)
    names = set()
    for _ in range(2000):
        made.add(new_id())
        executor.submit(lambda: None).result()
        names.update(files(tmp_path))
    assert len(names) < 8  # each time it is four times as long
    assert len(made.unfinished()) == 2000


@pytest.mark.parametrize("tail", [b"+" + THREE.encode(), b"+3", b"-" + ONE.encode(), b"\0" * 50, b"+../../x", b"\xff"])
def test_a_torn_last_line_is_none(tmp_path: Path, tail: bytes) -> None:
    first = begin(tmp_path)
    first.add(ONE)
    first.close()
    with files(tmp_path)[0].open("ab") as file:
        file.write(tail)
    second = begin(tmp_path)
    assert second.unfinished() == {ONE}
    second.tidy()
    assert second.unfinished() == {ONE}


@pytest.mark.parametrize(
    "line", [b"", b"+", b"-", b"?", b"+a/b\n+..", b"+" + b"x" * 200, b"\0\0\0", b"\xff\xfe", b"3" * 32]
)
def test_a_line_that_is_none_harms_no_other(tmp_path: Path, line: bytes) -> None:
    first = begin(tmp_path)
    first.add(ONE)
    first.close()
    with files(tmp_path)[0].open("ab") as file:
        file.write(line + b"\n+" + TWO.encode() + b"\n")
    second = begin(tmp_path)
    assert second.unfinished() == {ONE, TWO}
    second.tidy()
    assert second.unfinished() == {ONE, TWO}


@pytest.mark.parametrize("count", range(36))
def test_a_disk_that_is_full_within_a_line_spoils_no_later_line(tmp_path: Path, count: int) -> None:
    made = begin(tmp_path)
    made.add(ONE)
    with mock.patch.object(module, "os", wraps=os) as calls:
        calls.write.side_effect = lambda file, text: os.write(file, text[:count])
        if count < 34:
            with pytest.raises(OSError, match="No space") as error:
                made.add(TWO)
            assert error.value.errno == errno.ENOSPC
        made.drop(ONE)  # cannot be written either, and is no error
    made.add(THREE)
    expected = {ONE, THREE} if count < 34 else {THREE}
    assert made.unfinished() == expected
    made.tidy()
    assert made.unfinished() == expected


HOLDER = """
import sys
from tusd_py.stores.disk.journal import Journal
journal = Journal(sys.argv[1], is_durable=False, file_permissions=0o600, in_background=print)
journal.add(sys.argv[2])
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_journal_of_a_killed_process_is_taken_over_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    processes = [
        subprocess.Popen([*command, each], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd())
        for each in (ONE, TWO)
    ]
    try:
        for each in processes:
            assert each.stdout is not None
            assert each.stdout.readline() == b"ready\n"
        made = begin(tmp_path)
        made.tidy()
        before = files(tmp_path)
        assert len(before) == 2
        processes[0].kill()
        processes[0].wait()
        made.tidy()
        assert made.unfinished() == {ONE, TWO}
        assert len(files(tmp_path)) == 2
        assert len(set(files(tmp_path)) & set(before)) == 1
        made.tidy()
        assert made.unfinished() == {ONE, TWO}
    finally:
        for each in processes:
            each.kill()
            each.communicate()


def test_several_take_over_at_once_and_lose_nothing(tmp_path: Path) -> None:
    for _ in range(20):
        ids = [new_id() for _ in range(40)]
        for each in ids:
            dead = begin(tmp_path)
            dead.add(each)
            dead.close()
        heirs = [begin(tmp_path) for _ in range(4)]
        barrier = threading.Barrier(4)

        def inherit(heir: Journal, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            heir.tidy()

        threads = [threading.Thread(target=inherit, args=(each,)) for each in heirs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert begin(tmp_path).unfinished() == set(ids)
        assert len(files(tmp_path)) <= 4
        for each in ids:
            heirs[0].drop(each)
        for heir in heirs:
            heir.tidy()
            heir.close()
        assert begin(tmp_path).unfinished() == set()


def test_a_shortened_journal_keeps_what_others_need(tmp_path: Path) -> None:
    a, b = begin(tmp_path), begin(tmp_path)
    a.add(ONE)
    b.drop(ONE)
    for _ in range(100):
        b.add(upload_id := new_id())
        b.drop(upload_id)
    b.tidy()
    assert size(tmp_path) == 2 * 34  # a's addition and b's drop
    assert a.unfinished() == set()
    for _ in range(100):
        a.add(upload_id := new_id())
        a.drop(upload_id)
    a.tidy()
    assert [each.stat().st_size for each in files(tmp_path)] == [34]


def _prepared(folder: Path, *, is_durable: bool) -> tuple[Journal, set[UploadId]]:
    """A long journal of our own and two of dead processes, one of which holds a drop that we need."""
    gc.collect()
    own, dead, other = (begin(folder, is_durable=is_durable) for _ in range(3))
    for each in (ONE, TWO):
        own.add(each)
    dead.drop(ONE)
    dead.add(THREE)
    other.add(ids := new_id())
    for _ in range(60):
        own.add(upload_id := new_id())
        other.drop(upload_id)
    for each in (dead, other):
        each.close()
    return own, {TWO, THREE, ids}


@pytest.mark.parametrize("is_durable", [True, False], ids=["power", "process"])
@pytest.mark.parametrize("fail", [Crash(), OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken")], ids=str)
def test_F1_dying_or_failing_at_any_call_of_taking_over_and_shortening_loses_nothing(
    tmp_path: Path, is_durable: bool, fail: BaseException
) -> None:
    own, expected = _prepared(tmp_path / "dry", is_durable=is_durable)
    fault = Fault(None, fail)
    with file_calls(fault):
        own.tidy()
    assert own.unfinished() == expected
    assert len(files(tmp_path / "dry")) == 1
    assert fault.count > 15
    for at in range(1, fault.count + 1):
        folder = tmp_path / str(at)
        own, expected = _prepared(folder, is_durable=is_durable)
        with file_calls(Fault(at, fail)):
            try:
                own.tidy()
            except Crash:
                own.close()
                own = begin(folder, is_durable=is_durable)
        # What was cut between removing the journal that drops and the one that adds is looked at once more.
        assert own.unfinished() == begin(folder).unfinished() >= expected
        own.add(upload_id := new_id())
        for each in own.unfinished() - expected - {upload_id}:
            own.drop(each)
        gc.collect()
        own.tidy()
        assert own.unfinished() == expected | {upload_id}
        assert len(files(folder)) == 1


def test_F1_failing_at_any_call_of_an_addition_raises_and_spoils_nothing(tmp_path: Path) -> None:
    for at in range(1, 5):
        folder = tmp_path / str(at)
        made = begin(folder)
        with file_calls(Fault(at, OSError(errno.EIO, "broken"))):
            try:
                made.add(ONE)
            except OSError:
                expected = {TWO}
            else:
                expected = {ONE, TWO}
        made.add(TWO)
        assert made.unfinished() == expected


def test_a_journal_that_was_unlinked_is_written_anew_at_the_next_addition(tmp_path: Path) -> None:
    made = begin(tmp_path)
    made.add(ONE)
    files(tmp_path)[0].unlink()
    made.drop(THREE)
    made.add(TWO)
    assert begin(tmp_path).unfinished() == {ONE, TWO}
    assert len(files(tmp_path)) == 1


def test_a_journal_that_was_unlinked_is_written_anew_at_the_next_sweep(tmp_path: Path) -> None:
    made = begin(tmp_path)
    made.add(ONE)
    files(tmp_path)[0].unlink()
    made.tidy()
    assert begin(tmp_path).unfinished() == {ONE}


def test_a_directory_that_is_gone_takes_no_uploads_and_comes_back_whole(tmp_path: Path) -> None:
    folder, away = tmp_path / "work/journals", tmp_path / "away"
    made = begin(folder)
    made.add(ONE)
    folder.parent.rename(away)
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            made.add(TWO)
        with pytest.raises(FileNotFoundError):
            made.unfinished()
        made.tidy()
        made.drop(ONE)
    away.rename(folder.parent)
    made.add(THREE)
    assert made.unfinished() == begin(folder).unfinished() == {THREE}
    assert len(files(folder)) == 1


def test_another_directory_in_its_place_gets_a_journal_of_its_own(tmp_path: Path) -> None:
    folder, away = tmp_path / "work/journals", tmp_path / "away"
    made = begin(folder)
    made.add(ONE)
    folder.parent.rename(away)
    folder.mkdir(parents=True)
    made.add(TWO)
    assert begin(folder).unfinished() == {ONE, TWO}  # one too many costs a look
    assert begin(away / "journals").unfinished() == {ONE}


def test_a_journal_is_taken_over_in_the_moment_it_is_begun(tmp_path: Path) -> None:
    """Before it is locked it looks like a dead one's."""
    heir = begin(tmp_path)
    flock = fcntl.flock
    rivals = iter([heir.tidy, lambda: held.append(_locked(files(tmp_path)[0])), lambda: None])
    held: list[int] = []

    def rival(file: int, operation: int) -> None:
        with mock.patch.object(module.fcntl, "flock", flock):
            next(rivals)()
        flock(file, operation)

    made = begin(tmp_path)
    with mock.patch.object(module.fcntl, "flock", rival):
        made.add(ONE)
    assert begin(tmp_path).unfinished() == {ONE}
    os.close(held[0])
    heir.tidy()
    assert begin(tmp_path).unfinished() == {ONE}
    assert len(files(tmp_path)) == 1


def _locked(path: Path) -> int:
    file = os.open(path, os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def test_without_file_locks_nothing_is_taken_over_and_all_else_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_file: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    dead, made = begin(tmp_path), begin(tmp_path)
    dead.add(ONE)
    dead.close()
    made.add(TWO)
    made.tidy()
    assert made.unfinished() == {ONE, TWO}
    assert len(files(tmp_path)) == 2


def test_a_journal_that_moves_under_a_readers_eyes_is_read_where_it_went(tmp_path: Path) -> None:
    made = begin(tmp_path)
    made.add(ONE)
    made.close()
    heir = begin(tmp_path)
    moves = iter([heir.tidy])
    read = module._read_lines

    def move_first(path: str) -> list[bytes]:
        next(moves, lambda: None)()
        return read(path)

    with mock.patch.object(module, "_read_lines", move_first):
        assert begin(tmp_path).unfinished() == {ONE}


class Crowd:
    """Threads that add and drop on two journals, while others sweep without a pause, and processes come and die."""

    def __init__(self, folder: Path, *, is_durable: bool) -> None:
        self.folder = folder
        self.journals = [begin(folder, is_durable=is_durable) for _ in range(2)]
        self.alive: set[UploadId] = set()
        self.is_over = threading.Event()

    def work(self, number: int) -> None:
        for count in range(400):
            upload_id = new_id()
            self.journals[number].add(upload_id)
            if count % 10:
                self.journals[count % 2].drop(upload_id)
            else:
                self.alive.add(upload_id)

    def sweep(self, number: int) -> None:
        while not self.is_over.is_set():
            self.journals[number].tidy()
            self.journals[number].unfinished()

    def come_and_die(self, _number: int) -> None:
        while not self.is_over.is_set():
            mortal = begin(self.folder)
            mortal.add(upload_id := new_id())
            mortal.drop(upload_id)
            mortal.close()


@pytest.mark.parametrize("is_durable", [True, False], ids=["power", "process"])
def test_nothing_is_lost_while_all_happens_at_once(tmp_path: Path, is_durable: bool) -> None:
    crowd = Crowd(tmp_path, is_durable=is_durable)
    workers = [threading.Thread(target=crowd.work, args=(number % 2,)) for number in range(4)]
    others = [threading.Thread(target=each, args=(n,)) for n in range(2) for each in (crowd.sweep, crowd.come_and_die)]
    for thread in workers + others:
        thread.start()
    for thread in workers:
        thread.join()
    crowd.is_over.set()
    for thread in others:
        thread.join()
    for each in crowd.journals:
        each.tidy()
    found = begin(tmp_path).unfinished()
    assert len(crowd.alive) == 160
    assert found >= crowd.alive
    # Where a drop went while its addition was on the way to another journal, the sweep looks once more.
    assert len(found) < 160 + 50
