"""A server whose hooks are owed in Redis: a worker elsewhere tells them, and what Redis loses is found again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from upload_server import ROOT, VERSION, UploadServer

from tests.e2e.test_hooks import HOOK, WAIT_SECONDS, Ear, create, id_of, patch, wait_for
from tests.lockers.redisserver import RedisServer, redis_server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis", "requirepass hush", "appendonly yes") as made:
        yield made


@pytest.fixture
def ear(tmp_path: Path) -> Ear:
    folder = tmp_path / "hooks"
    folder.mkdir()
    (folder / "everything.py").write_text(HOOK)
    return Ear(folder)


@pytest.fixture
def flags(tmp_path: Path, redis: RedisServer, ear: Ear) -> list[str]:
    url = f"redis://:hush@127.0.0.1:{redis.port}"
    return ["--hooks-dir", str(ear.folder), "--jobs", "redis", "--jobs-redis-url", url]


def ask(*words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "tusd_py", *words]
    ran = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=30)
    return ran.returncode, ran.stdout + ran.stderr


def empty(redis: RedisServer) -> None:
    assert redis.ask("-a", "hush", "FLUSHALL").endswith("OK")


def test_a_worker_that_shares_nothing_with_the_server_but_redis_and_the_uploads_tells_its_hooks(
    tmp_path: Path, flags: list[str], ear: Ear
) -> None:
    with UploadServer(tmp_path / "uploads", *flags, "--run-jobs=false") as server:
        made = id_of(create(server, 5, b"hello"))
        assert not list(server.directory.rglob("jobs.sqlite*"))
        code, listed = ask("jobs", "list", *flags)
        assert code == 0
        assert f"{made}:post-create:everything" in listed
        assert "in all: 2 waiting" in listed
        assert ask("jobs", "drop", f"{made}:post-create:everything", *flags)[0] == 0
        command = [sys.executable, "-m", "tusd_py", "worker", "--upload-dir", str(server.directory), *flags]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as worker:
            try:
                assert worker.stdout is not None
                assert "ready" in worker.stdout.readline()
                wait_for(lambda: ear.of(made) == ["post-finish"])
                worker.terminate()
                assert worker.wait(WAIT_SECONDS) == 0
            finally:
                worker.kill()
    assert ask("jobs", "list", *flags) == (0, "nothing is owed; in all: 1 done, 1 cancelled\n")


def test_metrics_show_what_is_owed_and_the_other_numbers_while_redis_is_away(
    tmp_path: Path, flags: list[str], redis: RedisServer
) -> None:
    with UploadServer(tmp_path / "uploads", *flags, "--run-jobs=false") as server:
        made = id_of(create(server, 5, b"hello"))
        create(server, 5)
        assert ask("jobs", "drop", f"{made}:post-create:everything", *flags)[0] == 0
        numbers = metrics(server)
        assert 'tusd_py_jobs{state="waiting"} 2.0' in numbers
        assert 'tusd_py_jobs{state="dead"} 0.0' in numbers
        (oldest,) = [line for line in numbers if line.startswith("tusd_py_job_oldest_seconds ")]
        assert 0 < float(oldest.split()[1]) < 60
        redis.kill()
        numbers = metrics(server)
        assert "tusd_uploads_created 2.0" in numbers
        assert not [line for line in numbers if line.startswith("tusd_py_job")]


def metrics(server: UploadServer) -> list[str]:
    return requests.get(server.url.replace("/files/", "/metrics"), timeout=10).text.splitlines()


def test_a_redis_that_is_emptied_has_lost_nothing_that_the_uploads_know(
    tmp_path: Path, flags: list[str], redis: RedisServer, ear: Ear
) -> None:
    with UploadServer(tmp_path / "uploads", *flags, "--run-jobs=false") as server:
        made = id_of(create(server, 5, b"hello"))
        empty(redis)
        wait_for(lambda: "2 waiting" in ask("jobs", "list", *flags)[1])  # nobody had to do anything
        assert "JobsRedisChanged" in server.log()
        assert "hush" not in server.log()
        server.stop()
    with UploadServer(tmp_path / "uploads", *flags):
        wait_for(lambda: ear.of(made) == ["post-create", "post-finish"])


def test_what_is_finished_while_redis_is_away_is_told_when_it_is_back(
    tmp_path: Path, flags: list[str], redis: RedisServer, ear: Ear
) -> None:
    with UploadServer(tmp_path / "uploads", *flags) as server:
        url = create(server, 5).headers["Location"]
        made = url.rpartition("/")[2]
        wait_for(lambda: ear.of(made) == ["post-create"])
        redis.kill()
        assert patch(url, 0, b"hello").status_code == 204
        other = create(server, 5, b"hello")
        gone = requests.delete(url, headers=VERSION, timeout=10)
        redis.start()
        wait_for(lambda: "post-finish" in ear.of(made))
        assert gone.status_code == 500  # its end could be promised to nobody
        wait_for(lambda: ear.of(id_of(other)) == ["post-create", "post-finish"])


def test_a_server_does_not_start_without_it_and_says_what_to_do(
    tmp_path: Path, flags: list[str], redis: RedisServer
) -> None:
    redis.kill()
    code, said = ask("--port", "0", "--upload-dir", str(tmp_path / "uploads"), "--workers", "1", *flags)
    assert code != 0
    assert f"the queue in redis://127.0.0.1:{redis.port} cannot be used" in said
    assert "is it running, and are host and port right?" in said
    assert "hush" not in said
    code, said = ask("jobs", "list", *flags)
    assert code != 0
    assert "Traceback" not in said
