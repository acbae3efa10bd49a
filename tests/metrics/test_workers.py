"""Several workers, real processes: what one of them counted is never lost, and what it had open goes with it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tusd_py.metrics import Metrics, catalogue, cells
from tusd_py.metrics import folder as folders
from tusd_py.metrics.folder import Folder, Snapshot

# Does what each line says and answers; the calls are those of Metrics.
WORKER = """
import sys
from tusd_py.metrics import Metrics
metrics = Metrics(sys.argv[1], int(sys.argv[2]))
print("ready", flush=True)
for line in sys.stdin:
    name, *values = line.split()
    getattr(metrics, name)(*(float(value) for value in values))
    print("done", flush=True)
"""


class Worker:
    def __init__(self, folder: Path, slot: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), str(slot)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answered("ready")

    def do(self, *call: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, call)) + "\n")
        self.process.stdin.flush()
        self._answered("done")

    def _answered(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == word + "\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def hire(tmp_path: Path) -> Iterator[type[Worker]]:
    hired: list[Worker] = []

    class Hired(Worker):
        def __init__(self, slot: int) -> None:
            super().__init__(tmp_path, slot)
            hired.append(self)

    yield Hired  # type: ignore[misc]
    for worker in hired:
        if worker.process.returncode is None:
            worker.kill()


def value(snapshot: Snapshot, family: catalogue.Family) -> float:
    return snapshot.values[family.start]


def worker_files(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.startswith(cells.PREFIX))


def test_each_shows_all_at_once(tmp_path: Path, hire: type[Worker]) -> None:
    own = Metrics(str(tmp_path), 0)
    first, second = hire(1), hire(2)  # type: ignore[call-arg, arg-type]
    first.do("upload_created")
    second.do("bytes_received", 2**40)
    second.do("body_started")
    own.upload_created()
    own.body_started()
    snapshot = own.snapshot()
    assert value(snapshot, catalogue.UPLOADS_CREATED) == 2
    assert value(snapshot, catalogue.BYTES_RECEIVED) == 2**40
    assert value(snapshot, catalogue.BODIES_OPEN) == 2
    assert [(worker.slot, worker.pid) for worker in snapshot.workers] == [
        (0, os.getpid()),
        (1, first.process.pid),
        (2, second.process.pid),
    ]


def test_a_killed_workers_counters_remain_and_its_gauges_vanish(tmp_path: Path, hire: type[Worker]) -> None:
    own = Metrics(str(tmp_path), 0)
    worker = hire(1)  # type: ignore[call-arg, arg-type]
    worker.do("bytes_received", 5)
    worker.do("lock_waited", 0.3)
    worker.do("body_started")
    worker.do("connection_opened")
    assert value(own.snapshot(), catalogue.BODIES_OPEN) == 1
    worker.kill()
    for _ in range(3):  # before it is folded, and after
        snapshot = own.snapshot()
        assert value(snapshot, catalogue.BYTES_RECEIVED) == 5
        assert sum(snapshot.values[catalogue.LOCK_SECONDS.start : catalogue.LOCK_SECONDS.end - 1]) == 1
        assert value(snapshot, catalogue.BODIES_OPEN) == 0
        assert value(snapshot, catalogue.CONNECTIONS_OPEN) == 0
        assert [worker.slot for worker in snapshot.workers] == [0]
    assert len(worker_files(tmp_path)) == 1, "folded"


def test_replacements_do_not_reset(tmp_path: Path, hire: type[Worker]) -> None:
    own = Metrics(str(tmp_path), 0)
    for number in range(1, 4):
        worker = hire(1)  # type: ignore[call-arg, arg-type]
        worker.do("upload_finished")
        worker.do("lock_waited", 0.1)
        assert value(own.snapshot(), catalogue.UPLOADS_FINISHED) == number
        worker.kill()
        assert value(own.snapshot(), catalogue.UPLOADS_FINISHED) == number
    assert len(worker_files(tmp_path)) == 1


def test_a_worker_that_is_stopped_is_alive(tmp_path: Path, hire: type[Worker]) -> None:
    own = Metrics(str(tmp_path), 0)
    worker = hire(1)  # type: ignore[call-arg, arg-type]
    worker.do("body_started")
    worker.process.send_signal(signal.SIGSTOP)
    snapshot = own.snapshot()
    worker.process.send_signal(signal.SIGCONT)
    assert value(snapshot, catalogue.BODIES_OPEN) == 1


def test_two_look_at_once_while_workers_die(tmp_path: Path) -> None:
    """No one ever sees a counter go down, whoever folds."""
    own = Metrics(str(tmp_path), 0)
    is_over = Event()

    def look() -> int:
        folder, last, looks = Folder(str(tmp_path)), 0.0, 0
        while not is_over.is_set():
            now = value(folder.snapshot(), catalogue.UPLOADS_CREATED)
            assert now >= last
            last, looks = now, looks + 1
        return looks

    with ThreadPoolExecutor(3) as threads:
        lookers = [threads.submit(look) for _ in range(3)]
        try:
            for slot in range(200):
                worker = Metrics(str(tmp_path), slot)  # its lock goes as that of a killed one: with the descriptor
                worker.upload_created()
                worker.close()
        finally:
            is_over.set()
        assert all(looker.result() > 0 for looker in lookers)
    assert value(own.snapshot(), catalogue.UPLOADS_CREATED) == 200
    assert len(worker_files(tmp_path)) == 1


def test_folding_that_was_cut_short_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies between the rename and the removal of what it contains, and then before the rename."""
    own = Metrics(str(tmp_path), 0)
    for cut_at in ("unlink", "rename"):
        before = value(own.snapshot(), catalogue.UPLOADS_CREATED)
        dead = Metrics(str(tmp_path), 1)
        dead.upload_created()
        dead.close()
        with monkeypatch.context() as patch:
            patch.setattr(folders.os, cut_at, _cut)
            for _ in range(2):
                assert value(own.snapshot(), catalogue.UPLOADS_CREATED) == before + 1
            assert len(worker_files(tmp_path)) == 2
        for _ in range(2):
            assert value(own.snapshot(), catalogue.UPLOADS_CREATED) == before + 1
        assert len(worker_files(tmp_path)) == 1


def _cut(*_args: object) -> None:
    raise OSError("cut")


def test_a_folder_that_takes_nothing_is_still_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, dead = Metrics(str(tmp_path), 0), Metrics(str(tmp_path), 1)
    dead.upload_created()
    dead.close()
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "_write_folded", _cut)
        assert value(own.snapshot(), catalogue.UPLOADS_CREATED) == 1


def test_who_folds_already_is_not_waited_for(tmp_path: Path) -> None:
    own, dead = Metrics(str(tmp_path), 0), Metrics(str(tmp_path), 1)
    dead.upload_created()
    dead.close()
    with Folder(str(tmp_path))._folding():
        assert value(own.snapshot(), catalogue.UPLOADS_CREATED) == 1
        assert len(worker_files(tmp_path)) == 2
    own.snapshot()
    assert len(worker_files(tmp_path)) == 1


def test_who_looks_at_a_dead_worker_does_not_revive_it(tmp_path: Path) -> None:
    own, dead = Metrics(str(tmp_path), 0), Metrics(str(tmp_path), 1)
    dead.body_started()
    (name,) = [name for name in worker_files(tmp_path) if name.startswith(f"{cells.PREFIX}1-")]
    dead.close()
    with open(tmp_path / name, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # another one looks just now
        snapshot = own.snapshot()
    assert value(snapshot, catalogue.BODIES_OPEN) == 0
    assert [worker.slot for worker in snapshot.workers] == [0]


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * cells.FILE_BYTES, b"\0" * (cells.FILE_BYTES + 1)])
def test_torn_and_foreign_files_are_ignored(tmp_path: Path, content: bytes) -> None:
    own = Metrics(str(tmp_path), 0)
    own.upload_created()
    names = [
        f"{cells.PREFIX}7-1-torn{cells.SUFFIX}",
        folders._FOLDED,
        "README",
        f"worker-00000000-1{cells.SUFFIX}",
    ]
    for name in names:
        (tmp_path / name).write_bytes(content)
    (tmp_path / f"{cells.PREFIX}folder{cells.SUFFIX}").mkdir()
    (tmp_path / f"{cells.PREFIX}link{cells.SUFFIX}").symlink_to(tmp_path / worker_files(tmp_path)[0])
    os.mkfifo(tmp_path / f"{cells.PREFIX}pipe{cells.SUFFIX}")
    snapshot = own.snapshot()
    assert value(snapshot, catalogue.UPLOADS_CREATED) == 1
    assert [worker.slot for worker in snapshot.workers] == [0]
    assert all((tmp_path / name).read_bytes() == content for name in names)


def test_a_torn_copy_of_a_workers_file_is_ignored(tmp_path: Path) -> None:
    own = Metrics(str(tmp_path), 0)
    own.upload_created()
    whole = (tmp_path / worker_files(tmp_path)[0]).read_bytes()
    (tmp_path / f"{cells.PREFIX}1-1-half{cells.SUFFIX}").write_bytes(whole[: len(whole) // 2])
    assert value(own.snapshot(), catalogue.UPLOADS_CREATED) == 1


def test_what_crashed_while_it_was_made_is_swept(tmp_path: Path) -> None:
    own, dead = Metrics(str(tmp_path), 0), Metrics(str(tmp_path), 1)
    old = tmp_path / f"{cells.PREFIX}1-1-old{cells.SUFFIX}{cells.UNFINISHED}"
    new = tmp_path / f"{cells.PREFIX}1-1-new{cells.SUFFIX}{cells.UNFINISHED}"
    old.write_bytes(b"")
    new.write_bytes(b"")
    os.utime(old, (0, 0))
    dead.close()
    own.snapshot()
    assert not old.exists()
    assert new.exists()


def test_a_full_disk_is_noticed_before_anything_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cells.os, "write", lambda _descriptor, content: len(content) // 2)
        with pytest.raises(OSError, match="no room"):
            Metrics(str(tmp_path), 0)
    assert os.listdir(tmp_path) == []


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    own = Metrics(str(tmp_path / "new"), 0)
    Metrics(str(tmp_path / "new"), 1).close()
    own.snapshot()
    for path in (tmp_path / "new", *(tmp_path / "new").iterdir()):
        assert path.stat().st_mode & 0o077 == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1e5), st.booleans()), max_size=25))
def test_sums_never_go_down_by_a_rounding(
    tmp_path_factory: pytest.TempPathFactory, told: list[tuple[int, float, bool]]
) -> None:
    """Whoever dies, and in whatever order all is added up."""
    folder = str(tmp_path_factory.mktemp("cells"))
    own = Metrics(folder, 9)
    workers: dict[int, Metrics] = {}
    cell, last, count = catalogue.LOCK_SECONDS.end - 1, 0.0, 0
    for slot, seconds, is_killed in told:
        worker = workers.setdefault(slot, Metrics(folder, slot)) if slot not in workers else workers[slot]
        worker.lock_waited(seconds)
        count += 1
        if is_killed:
            workers.pop(slot).close()
        snapshot = own.snapshot()
        assert snapshot.values[cell] >= last
        assert snapshot.values == own.snapshot().values
        last = snapshot.values[cell]
    assert sum(own.snapshot().values[catalogue.LOCK_SECONDS.start : cell]) == count
    for each in (own, *workers.values()):
        each.close()
