"""kill -9 at random moments while clients upload (failures F1, F11, F12, F16, F23).

The moments come from a seed, which a failing test prints; FAULT_SEED runs it again as far as timing allows.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faultclient import BASE_PATH, PIECE_BYTES, LostError, checksum, patch_headers
from faultfleet import Fleet, Uploader, check_records, check_uploaders
from faultserver import Server, wait_for

from tests.faults.conftest import ONE_AND_TWO, Launch

UPLOADERS = 4
KILLS = 15
MANY_KILLS = 200
DATA = os.urandom(3_000_017)
OTHER = os.urandom(3_000_017)


def _seed() -> str:
    seed = os.environ.get("FAULT_SEED") or secrets.token_hex(4)
    print(f"run again with FAULT_SEED={seed}")
    return seed


def _batter(servers: list[Server], kills: int, seed: str) -> list[Uploader]:
    """Kill servers while clients upload; returns the clients, done and content."""
    rng = random.Random(seed)
    fleet = Fleet(servers)
    uploaders = [Uploader(fleet, f"{seed}/{number}") for number in range(UPLOADERS)]
    for uploader in uploaders:
        uploader.start()
    try:
        for _ in range(kills):
            fleet.is_over.wait(10 ** rng.uniform(-2.5, -0.5))
            if fleet.is_over.is_set():
                break
            server = rng.choice(servers)
            fleet.kill(server)
            check_records(servers[0].directory)
            fleet.restart(server)
            for uploader in uploaders:
                for job in uploader.jobs[-5:]:
                    job.watch(server.client)
    finally:
        fleet.end(uploaders)
    check_uploaders(uploaders)
    _check_nothing_is_left(fleet, uploaders)
    return uploaders


def _check_nothing_is_left(fleet: Fleet, uploaders: list[Uploader]) -> None:
    server = fleet.servers[0]
    known = {path.rpartition("/")[2] for uploader in uploaders for job in uploader.jobs for path in _paths(job)}
    records = {each.stem for each in server.directory.glob("*.info")}
    assert known <= records
    orphans = records - known  # the answer to their creation was lost
    assert len(orphans) <= fleet.unanswered_creations
    work = server.directory / ".tusd-py"
    for orphan in orphans:
        assert server.client.delete(BASE_PATH + orphan).status == 204
    try:
        wait_for(lambda: not _leftovers(work), within_seconds=15)
    except AssertionError as error:
        error.add_note(f"left: {_leftovers(work)}\n{server.log[-4000:]}")
        raise
    files = {each.name for each in server.directory.iterdir() if each.is_file()}
    assert files == known | {f"{each}.info" for each in known}


def _leftovers(work: Path) -> list[Path]:
    return [each for name in ("unfinished", "tmp", "waiting") for each in (work / name).iterdir()]


def _paths(job: object) -> list[str]:
    return [each.path for each in (job, *getattr(job, "partials", ())) if each.path]


def _run(launch: Launch, count: int, durability: str, kills: int) -> None:
    seed = _seed()
    flags = ("--durability", durability, "--sweep-interval", "1s")
    servers = [launch(*flags) for _ in range(count)]
    uploaders = _batter(servers, kills, seed)
    jobs = [job for uploader in uploaders for job in uploader.jobs]
    assert len(jobs) >= UPLOADERS
    for job in jobs:
        job.verify(servers[-1].client)


@ONE_AND_TWO
def test_F1_F11_F12_F23_no_kill_loses_or_invents_a_byte(launch: Launch, count: int, durability: str) -> None:
    _run(launch, count, durability, KILLS)


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 2], ids=["one", "two"])
def test_F1_F11_F12_F23_no_kill_of_many_loses_or_invents_a_byte(launch: Launch, durability: str, count: int) -> None:
    _run(launch, count, durability, MANY_KILLS)


@pytest.mark.parametrize("is_checksummed", [False, True], ids=["plain", "checksummed"])
def test_F1_F11_bytes_written_but_not_answered(launch: Launch, durability: str, is_checksummed: bool) -> None:
    """Killed after megabytes were written and before anything was said about them; then other bytes come."""
    server = launch("--durability", durability)
    path = server.client.create(len(DATA))
    assert server.client.patch(path, 0, DATA[:1000]).status == 204
    body = DATA[1000:] if not is_checksummed else OTHER[1000:]
    more = {"Upload_Checksum": checksum(body)} if is_checksummed else {}
    with server.client.connect() as connection:
        connection.hold_patch(path, 1000, len(body), body[:-1], **more)
        server.kill()
        with pytest.raises(LostError):
            connection.answer()
    server.start()
    offset = server.client.offset(path)
    if is_checksummed:
        assert offset == 1000
    else:
        assert 1000 <= offset < len(DATA)
    server.client.finish(path, DATA)


@ONE_AND_TWO
def test_F1_F20_all_who_ask_after_a_crash_hear_the_same(launch: Launch, durability: str, count: int) -> None:
    """The first one to ask makes the written bytes count; meanwhile nobody may hear an offset that is about to go."""
    a = launch("--durability", durability)
    b = launch("--durability", durability) if count == 2 else a
    for _ in range(5):
        path = a.client.create(len(DATA))
        assert a.client.patch(path, 0, DATA[:1000]).status == 204
        with a.client.connect() as connection:
            connection.hold_patch(path, 1000, len(DATA) - 1000, DATA[1000:-1])
            a.kill()
        if a is b:
            a.start()
        with ThreadPoolExecutor(8) as threads:
            offsets = set(threads.map(b.client.offset, [path] * 8))
        assert len(offsets) == 1
        assert b.client.patch(path, offsets.pop(), b"").status == 204
        b.client.finish(path, DATA)
        if a is not b:
            a.start()


def test_F12_the_record_is_whole_at_every_moment(launch: Launch, durability: str) -> None:
    """Each checksummed PATCH writes the record twice. What another process sees of it is what a crash would leave."""
    server = launch("--durability", durability)
    path = server.client.create(len(DATA))
    acknowledged = 0
    for _ in range(3):
        killer = threading.Timer(0.1 + random.random() * 0.2, server.process.kill)
        killer.start()
        sent = acknowledged
        with ThreadPoolExecutor(1) as threads:
            looks = threads.submit(_watch_records, server, killer.finished)
            try:
                while True:
                    piece = DATA[acknowledged : acknowledged + 100]
                    sent = acknowledged + len(piece)
                    answer = server.client.patch(path, acknowledged, piece, Upload_Checksum=checksum(piece))
                    assert (answer.status, answer.offset) == (204, sent)
                    acknowledged = sent
            except LostError:
                killer.join()
            assert looks.result() > 100
        server.exit_code()
        assert check_records(server.directory) == 1
        server.start()
        assert server.client.offset(path) in (acknowledged, sent)
        acknowledged = server.client.offset(path)
    server.client.finish(path, DATA)


def _watch_records(server: Server, is_over: threading.Event) -> int:
    looks = 0
    while not is_over.is_set():
        looks += check_records(server.directory)
    return looks


def test_F12_a_torn_record_beside_the_whole_one_harms_nothing(launch: Launch, durability: str) -> None:
    server = launch("--durability", durability, "--sweep-interval", "200ms")
    path = server.client.create(len(DATA))
    assert server.client.patch(path, 0, DATA[:1000]).status == 204
    upload_id = path.rpartition("/")[2]
    server.kill()
    torn = server.directory / ".tusd-py" / "tmp" / f"{upload_id}.00112233"
    torn.write_bytes((server.directory / f"{upload_id}.info").read_bytes()[:50])
    server.start()
    assert server.client.offset(path) == 1000
    wait_for(lambda: not torn.exists())
    server.client.finish(path, DATA)


@ONE_AND_TWO
def test_sigterm_keeps_what_has_arrived(launch: Launch, durability: str, count: int) -> None:
    a = launch("--durability", durability)
    b = launch("--durability", durability) if count == 2 else a
    path = a.client.create(len(DATA))
    silent_path = a.client.create(len(OTHER))
    with a.client.connect() as connection, a.client.connect() as silent:
        silent.hold_patch(silent_path, 0, len(OTHER), OTHER[:5])
        connection.begin("PATCH", path, patch_headers(0, len(DATA), Expect="100-continue"))
        assert connection.head().status == 100
        connection.send(DATA[:1_000_000])
        connection.wait_until_read()
        began = time.monotonic()
        a.request_stop()
        for each in (connection, silent):
            answer = each.answer()
            assert (answer.status, answer.code) == (503, "ERR_SERVER_SHUTDOWN")
    assert a.exit_code(2) == 0
    assert time.monotonic() - began < 2
    if count == 1:
        a.start()
    assert b.client.offset(path) == 1_000_000
    assert b.client.offset(silent_path) == 5
    b.client.finish(path, DATA)
    b.client.finish(silent_path, OTHER)
    assert "Traceback" not in a.log


def test_sigterm_ends_a_client_that_never_stops_sending(launch: Launch) -> None:
    server = launch()
    path = server.client.create(10_000_000_000)
    sent = 0
    with server.client.connect() as connection:
        connection.hold_patch(path, 0, 10_000_000_000, b"")
        stopper = threading.Timer(0.2, server.request_stop)
        stopper.start()
        while connection.try_to_send(DATA[:PIECE_BYTES]):
            sent += PIECE_BYTES
            time.sleep(0.001)  # the client's own pace: it never looks for an answer
    stopper.join()
    assert server.exit_code(5) == 0
    server.start()
    offset = server.client.offset(path)
    assert 0 < offset <= sent + PIECE_BYTES
    written = (server.directory / path.rpartition("/")[2]).read_bytes()
    assert written == (DATA[:PIECE_BYTES] * (offset // PIECE_BYTES + 1))[:offset]
    assert server.client.delete(path).status == 204
