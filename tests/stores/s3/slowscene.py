"""Real server processes over a bucket, and their clients: what those send follows from a seed and need not be kept."""

from __future__ import annotations

import random
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from s3calls import Call
from s3proxy import FaultProxy

# That folder has no package; its modules are found here.
sys.path.insert(0, str(Path(__file__).parents[2] / "faults"))

from faultclient import BASE_PATH, Answer, Client, Connection, patch_headers, path_of
from faultserver import Server, wait_for

MIB = 1 << 20
PATIENCE_SECONDS = 120.0
"""Of clients that wait for what is slow by design: it ends a test that would never end, and says nothing of speed."""


class Pattern:
    """`length` bytes that follow from `seed`. Each MiB begins with its number, so that none is taken for another."""

    def __init__(self, seed: int, length: int) -> None:
        self.length = length
        self._block = random.Random(seed).randbytes(MIB - 8)

    def pieces(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        end = self.length if end is None else end
        while start < end:
            index, skipped = divmod(start, MIB)
            piece = (index.to_bytes(8, "big") + self._block)[skipped : skipped + end - start]
            yield piece
            start += len(piece)

    def read(self, start: int, end: int) -> bytes:
        return b"".join(self.pieces(start, end))


@contextmanager
def serving(folder: Path, endpoint: str, bucket: str, *flags: str) -> Iterator[Server]:
    """A server of one worker, which ends with the context. Credentials come from the fixture of the storage."""
    log_path = folder / f"server-{len(list(folder.glob('server-*')))}.log"
    storage = ("--s3-bucket", bucket, "--s3-endpoint", endpoint, "--s3-temporary-dir", str(folder))
    server = Server(folder, log_path, (*storage, *flags))
    try:
        server.start()
        yield server
        assert server.process.poll() is None, server.log[-4000:]
        assert "Traceback" not in server.log, server.log[-8000:]
    finally:
        server.end()


@contextmanager
def healed(proxy: FaultProxy) -> Iterator[None]:
    """However it ends, nothing stands at the proxy afterwards."""
    try:
        yield
    finally:
        proxy.heal()


def of(path: str) -> Callable[[Call], bool]:
    """Whether a call is for the object of this upload."""
    key = path.rpartition("/")[2]
    return lambda call: call.key == key


def wait_for_parts(proxy: FaultProxy, count: int) -> None:
    """Until the storage has taken so many."""
    wait_for(lambda: sum(call.operation == "UploadPart" and call.status == 200 for call in proxy.calls) >= count, 15)


def ask(client: Client, method: str, path: str, headers: dict[str, str]) -> Answer:
    """Of what takes long."""
    with client.connect() as connection:
        connection.socket.settimeout(PATIENCE_SECONDS)
        connection.begin(method, path, {"Content-Length": "0"} | headers)
        return connection.answer(method)


def send(client: Client, path: str, pattern: Pattern, start: int = 0) -> Answer:
    """A PATCH of all that there is from `start` on; who is answered early sends no more."""
    with client.connect() as connection:
        connection.socket.settimeout(PATIENCE_SECONDS)
        connection.begin("PATCH", path, patch_headers(start, pattern.length - start))
        for piece in pattern.pieces(start):
            if not connection.try_to_send(piece):
                break
        return connection.answer()


def send_until_paused(connection: Connection, pattern: Pattern) -> int:
    """How much of a body the kernel takes until there is no room in it for a second; that has no other sign."""
    sent = 0
    while sent < pattern.length and select.select([], [connection.socket], [], 1.0)[1]:
        connection.socket.setblocking(False)
        sent += connection.socket.send(pattern.read(sent, min(sent + MIB, pattern.length)))
        connection.socket.settimeout(PATIENCE_SECONDS)
    return sent


def upload(client: Client, pattern: Pattern, headers: dict[str, str] | None = None) -> str:
    """The path of a finished upload, in one PATCH."""
    path = client.create(pattern.length, headers)
    answer = send(client, path, pattern)
    assert (answer.status, answer.headers.get("upload-offset")) == (204, str(pattern.length)), answer
    return path


def concatenate(client: Client, paths: list[str]) -> str:
    answer = ask(client, "POST", BASE_PATH, {"Upload-Concat": f"final;{' '.join(paths)}"})
    assert answer.status == 201, answer
    return path_of(answer)


def assert_holds(client: Client, path: str, *patterns: Pattern) -> None:
    """Every byte is read back."""
    with client.connect() as connection:
        connection.socket.settimeout(PATIENCE_SECONDS)
        connection.begin("GET", path, {})
        answer = connection.answer_head()
        length = sum(each.length for each in patterns)
        assert (answer.status, answer.headers.get("content-length")) == (200, str(length)), answer
        at = 0
        for pattern in patterns:
            for piece in pattern.pieces():
                # Not `assert ==`: a MiB would be printed.
                if connection.read(len(piece)) != piece:
                    raise AssertionError(f"other bytes than were sent, between {at} and {at + len(piece)}")
                at += len(piece)
