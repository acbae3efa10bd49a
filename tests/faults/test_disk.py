"""Disks that are full, read-only, gone or forbidden under a running server.

Needs to mount (tmpfs, bind) for most: skipped where that is not allowed. In all of these a HEAD must never say 404:
clients take that for "start again from byte 0". Every case ends with the disk well again and every byte read back.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from faultclient import BASE_PATH, Client, checksum
from faultserver import Server

from tests.faults.conftest import Launch

DATA = os.urandom(6_000_011)
LONG = os.urandom(20_000_003)
FINISHED = os.urandom(100_000)


def _mount(*arguments: str) -> None:
    if shutil.which("mount") is None:
        pytest.skip("missing: mount")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"missing: mount ({done.stderr.strip()})")


def _unmount(path: Path) -> None:
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """8 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    _mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path))
    try:
        yield path
    finally:
        _unmount(path)


@contextmanager
def _read_only(path: Path) -> Iterator[None]:
    """A view of the same directory that takes no writes is laid over it, whatever the server has open there."""
    _mount("--bind", str(path), str(path))
    try:
        _mount("-o", "remount,bind,ro", str(path))
        yield
    finally:
        _unmount(path)


def _check_backend_error(client: Client, path: str, offset: int, *, status: int = 500) -> None:
    """What a PATCH, a HEAD and a creation are told while nothing can be stored."""
    answer = client.patch(path, offset, DATA[offset : offset + 2_000_000])
    assert answer.status == status, answer
    created = client.ask("POST", BASE_PATH, {"Upload-Length": "10"})
    assert created.status == status, created
    head = client.head(path)
    assert head.status in (200, 423), head
    if head.status == 200:
        assert offset <= head.offset <= offset + 2_000_000


def _check_well(client: Client, path: str, finished: str) -> None:
    client.finish(path, DATA)
    assert client.content(finished) == FINISHED
    assert client.content(client.upload(DATA[:1000])) == DATA[:1000]


def _uploads(server: Server) -> tuple[str, str]:
    """An upload with 1000 bytes of DATA, and a finished one."""
    path = server.client.create(len(DATA))
    assert server.client.patch(path, 0, DATA[:1000]).status == 204
    return path, server.client.upload(FINISHED)


def _fill(path: Path) -> None:
    """Until nothing more fits on the disk."""
    with path.open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(b"x" * 4096)


def test_a_full_disk_loses_nothing_and_says_so(launch: Launch, durability: str, small_disk: Path) -> None:
    server = launch("--durability", durability, directory=small_disk / "uploads")
    client = server.client
    ballast, path = client.upload(DATA[:5_000_000]), client.create(len(DATA))
    assert client.patch(path, 0, DATA[:1_000_000]).status == 204
    acknowledged = 1_000_000
    for _ in range(3):
        answer = client.patch(path, acknowledged, DATA[acknowledged:])
        assert (answer.status, answer.code) == (507, "ERR_INSUFFICIENT_STORAGE")
        assert acknowledged <= client.offset(path) < 8 << 20
        acknowledged = client.offset(path)
    assert client.content(ballast) == DATA[:5_000_000]
    assert server.log.count("free space") == 1
    assert "Traceback" not in server.log
    assert client.delete(ballast).status == 204  # also on a full disk
    client.finish(path, DATA)


def test_a_full_disk_discards_a_checksummed_body(launch: Launch, durability: str, small_disk: Path) -> None:
    server = launch("--durability", durability, directory=small_disk / "uploads")
    client = server.client
    path = client.create(len(LONG))
    assert client.patch(path, 0, LONG[:1000]).status == 204
    answer = client.patch(path, 1000, LONG[1000:], Upload_Checksum=checksum(LONG[1000:]))
    assert answer.status == 507
    assert client.offset(path) == 1000
    _mount("-o", "remount,size=64m", str(small_disk))
    assert client.offset(path) == 1000
    answer = client.patch(path, 1000, LONG[1000:], Upload_Checksum=checksum(LONG[1000:]))
    assert (answer.status, answer.offset) == (204, len(LONG))
    client.finish(path, LONG)


def test_an_upload_longer_than_the_disk_goes_on_when_there_is_room(
    launch: Launch, durability: str, small_disk: Path
) -> None:
    server = launch("--durability", durability, directory=small_disk / "uploads")
    client = server.client
    path = client.create(len(LONG))
    assert client.patch(path, 0, LONG[:500_000]).status == 204
    answer = client.patch(path, 500_000, LONG[500_000:])
    assert (answer.status, answer.code) == (507, "ERR_INSUFFICIENT_STORAGE")
    assert 500_000 <= client.offset(path) < 8 << 20
    before = client.offset(path)
    server.kill()
    server.start()
    assert client.offset(path) >= before
    refused = client.ask("POST", BASE_PATH, {"Upload-Length": "10"})
    assert refused.status in (201, 507)  # a small record may still find a place
    _mount("-o", "remount,size=64m", str(small_disk))
    client.finish(path, LONG)


def test_a_server_can_be_started_and_read_from_on_a_full_disk(launch: Launch, small_disk: Path) -> None:
    server = launch("--durability", "power", directory=small_disk / "uploads")
    path, finished = _uploads(server)
    server.kill()
    _fill(small_disk / "ballast")
    server.start()
    client = server.client
    assert client.offset(path) == 1000
    assert client.content(finished) == FINISHED
    _check_backend_error(client, path, 1000, status=507)
    (small_disk / "ballast").unlink()
    _check_well(client, path, finished)


def test_a_read_only_disk_is_no_lost_upload(launch: Launch, durability: str) -> None:
    server = launch("--durability", durability)
    path, finished = _uploads(server)
    with _read_only(server.directory):
        for _ in range(3):
            _check_backend_error(server.client, path, 1000)
        assert server.client.content(finished) == FINISHED
        assert server.client.delete(finished).status == 500
        assert server.client.content(finished) == FINISHED
    assert server.log.count("remount it writable") == 1
    _check_well(server.client, path, finished)


@pytest.mark.parametrize("is_replaced", [False, True], ids=["gone", "unmounted"])
def test_a_directory_that_is_gone_is_no_lost_upload(launch: Launch, durability: str, is_replaced: bool) -> None:
    """Renamed away; or an empty mount point is left where it was."""
    server = launch("--durability", durability)
    client = server.client
    path, finished = _uploads(server)
    away = server.directory.with_name("away")
    server.directory.rename(away)
    if is_replaced:
        server.directory.mkdir()
    _check_backend_error(client, path, 1000)
    assert client.head(finished).status in (200, 423)
    assert client.ask("GET", finished).status == 500
    assert client.delete(finished).status == 500
    assert client.head(BASE_PATH + "0" * 32).status in (200, 423)  # nobody can know
    if is_replaced:
        shutil.rmtree(server.directory)
    away.rename(server.directory)
    _check_well(client, path, finished)
    assert client.head(BASE_PATH + "0" * 32).status == 404
    assert "Traceback" not in server.log


def test_a_directory_that_goes_in_mid_patch_and_comes_back(launch: Launch, durability: str) -> None:
    server = launch("--durability", durability)
    client = server.client
    path, finished = _uploads(server)
    away = server.directory.with_name("away")
    with client.connect() as connection:
        connection.hold_patch(path, 1000, len(DATA) - 1000, DATA[1000:2_000_000])
        server.directory.rename(away)
        connection.send(DATA[2_000_000:])
        assert connection.answer().status in (204, 500)
    away.rename(server.directory)
    _check_well(client, path, finished)


@pytest.mark.parametrize("mode", [0o000, 0o500], ids=["nothing", "read"])
def test_a_forbidden_directory_is_no_lost_upload(launch: Launch, durability: str, mode: int) -> None:
    wrapper: tuple[str, ...] = ()
    if os.geteuid() == 0:  # whom nothing is forbidden
        if shutil.which("setpriv") is None:
            pytest.skip("missing: setpriv")
        wrapper = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")
    server = launch("--durability", durability, wrapper=wrapper)
    path, finished = _uploads(server)
    data = server.directory / path.rpartition("/")[2]
    folders = [server.directory, *(server.directory / ".tusd-py").glob("[tu]*")]
    data.chmod(mode & 0o400)
    for folder in reversed(folders):
        folder.chmod(mode)
    try:
        _check_backend_error(server.client, path, 1000)
        assert server.client.head(finished).status in (200, 423)
    finally:
        for folder in folders:
            folder.chmod(0o755)
        data.chmod(0o644)
    assert server.log.count("let the server's user own") >= 1
    _check_well(server.client, path, finished)
