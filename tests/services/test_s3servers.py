"""The S3 servers that other tests build on: what each of them does, how they start, stand still, die and end."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from s3bucket import CHECKS, Bucket, Check
from s3dialects import FAILURES, GAPS
from s3servers import MinIO, MissingService, Moto, S3Server, Versitygw


@pytest.fixture(scope="session")
def bucket(s3: S3Server) -> Bucket:
    return Bucket(s3)


@pytest.fixture
def own(s3: S3Server) -> Iterator[S3Server]:
    """A server of the same kind that may be hurt."""
    with type(s3)() as server:
        yield server


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_it_does_what_we_rely_on_but_for_known_gaps(check: Check, s3: S3Server, bucket: Bucket) -> None:
    if check.__name__ in GAPS[s3.name]:
        with pytest.raises(FAILURES):
            check(bucket)
    else:
        check(bucket)


def test_the_reference_servers_have_no_gaps_in_what_keeps_data_whole() -> None:
    needed = {name for name in CHECKS if name.startswith(("put_if", "multipart", "part_", "copy_range", "put_crc"))}
    assert len(needed) > 15
    assert not needed & (GAPS["minio"] | GAPS["versitygw"])


def test_every_gap_is_of_a_check() -> None:
    assert frozenset().union(*GAPS.values()) <= CHECKS.keys()


def test_kill_and_start_keep_the_port_and_what_was_stored(own: S3Server) -> None:
    bucket = Bucket(own)
    bucket.put("folder/key", b"stored")
    endpoint, pid = own.endpoint, own.pid
    own.kill()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((own.host, own.port), 1)
    own.start()
    assert own.endpoint == endpoint
    if isinstance(own, Moto):
        with pytest.raises(ClientError, match="NoSuchBucket"):
            bucket.get("folder/key")
    else:
        assert bucket.get("folder/key") == b"stored"


def test_a_paused_server_answers_only_when_it_goes_on(s3: S3Server, bucket: Bucket) -> None:
    client = s3.client(read_timeout=0.2)
    s3.pause()
    try:
        with pytest.raises(ReadTimeoutError):
            client.head_bucket(Bucket=bucket.name)
    finally:
        s3.resume()
    client.head_bucket(Bucket=bucket.name)


def test_stop_leaves_neither_process_nor_folder_nor_port(own: S3Server) -> None:
    pid, folder, port = own.pid, own.folder, own.port
    own.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not folder.exists()
    with socket.create_server(("127.0.0.1", port)):
        own.stop()


def test_a_paused_server_can_be_stopped(own: S3Server) -> None:
    own.pause()
    own.stop()
    assert not Path(f"/proc/{own.pid}").exists()


def test_it_listens_on_its_one_port_of_loopback(s3: S3Server) -> None:
    deadline = time.monotonic() + 10
    while isinstance(s3, MinIO) and "Docs:" not in s3.log:  # its last line; a console opens after it
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "WebUI:" not in s3.log
    assert _listening(s3.pid) <= {("0100007F", s3.port), ("00000000000000000000000001000000", s3.port)}
    assert ("0100007F", s3.port) in _listening(s3.pid)


def test_buckets_have_names_of_their_own(s3: S3Server) -> None:
    assert s3.new_bucket() != s3.new_bucket()


@pytest.mark.parametrize("kind", [MinIO, Versitygw])
def test_a_missing_program_says_how_to_install_it(
    kind: type[S3Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(MissingService, match=rf"^missing: {kind.name}; go install github.com/\S+@v"):
        kind()


@pytest.mark.parametrize("kind", [MinIO, Versitygw])
def test_a_program_is_found_where_go_installs_it(
    kind: type[S3Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "go" / "bin" / kind.name
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho no such server\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(AssertionError, match="ended at once; it wrote: no such server"):
        kind()


def _listening(pid: int) -> set[tuple[str, int]]:
    """Address and port, as the kernel writes them, of each socket that a process listens on."""
    links = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in links:
                address, _, port = fields[1].partition(":")
                found.add((address, int(port, 16)))
    return found
