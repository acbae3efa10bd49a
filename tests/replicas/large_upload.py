"""One large upload to two servers on MinIO and Redis, while connections are cut, Redis restarts and each server dies.

Not a test: run by hand, `python tests/replicas/large_upload.py --size 19GiB`. Exits with 0 if every offset that was
answered stood, and the bytes are equal at both ends. It takes 1.1 times the size on the disk, and removes all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

# As a program of its own, it finds what it shares with tests.
sys.path.extend(
    str(Path(__file__).parent.parent / name) for name in ("..", "replicas", "stores/s3", "faults", "e2e", "services")
)

from big_file import size
from faultclient import Client, LostError, patch_headers
from replicaserver import MIB, Pair, pair_on
from s3servers import MinIO
from slowscene import Pattern

PATCH_BYTES = 2048 * MIB
LEASE_SECONDS = 2.0
RETRIED = (409, 423, 500, 503)
RETRY_SECONDS = 0.2
GIVE_UP_SECONDS = 60.0
FROZEN_SECONDS = 2 * LEASE_SECONDS


class Trouble(threading.Thread):
    """What goes wrong, each as soon as so much was sent."""

    def __init__(self, pair: Pair, length: int, cuts: int) -> None:
        super().__init__(daemon=True)
        self._pair = pair
        self._news = threading.Condition()
        self._sent = 0
        self.done = 0
        big: list[tuple[float, str, Callable[[], None]]] = [
            (0.2, "Redis is killed and starts again", self._restart_redis),
            (0.4, "server a is killed and starts again", lambda: self._restart(0)),
            (0.6, "server b is killed and starts again", lambda: self._restart(1)),
            (0.75, f"server a stands still for {FROZEN_SECONDS:g} s", lambda: self._freeze(0)),
            (0.85, "server b loses the storage, and has it again", lambda: self._lose_storage(1)),
        ]
        cut = pair.balancer.reset_connections
        small = [((each + 0.5) / cuts, "all connections are cut", cut) for each in range(cuts)]
        plan = [(int(share * length), what, do) for share, what, do in big + small]
        self._plan = sorted(plan, key=lambda each: each[0])
        self.planned = len(self._plan)

    def tell(self, sent: int) -> None:
        with self._news:
            self._sent = max(self._sent, sent)
            self._news.notify()

    def run(self) -> None:
        for at, what, do in self._plan:
            with self._news:
                self._news.wait_for(lambda at=at: self._sent >= at)
            print(f"\n{at / 1e9:6.2f} GB sent: {what}", flush=True)
            do()
            self.done += 1

    def _restart_redis(self) -> None:
        self._pair.redis.kill()
        time.sleep(1)
        self._pair.redis.start()

    def _restart(self, number: int) -> None:
        self._pair.replicas[number].kill()
        self._pair.replicas[number].start()

    def _freeze(self, number: int) -> None:
        with self._pair.replicas[number].frozen():
            time.sleep(FROZEN_SECONDS)

    def _lose_storage(self, number: int) -> None:
        s3 = self._pair.replicas[number].s3
        s3.inject("before", for_ever=True)
        time.sleep(1)
        s3.heal()


class Sender:
    """A client that believes what it was answered, and asks where to go on after a failure."""

    def __init__(self, client: Client, content: Pattern, tell: Callable[[int], None]) -> None:
        self._client, self._content, self._tell = client, content, tell
        self._acknowledged = self._sent = 0
        self.failures: list[str] = []

    def upload(self) -> str:
        path = self._client.create(self._content.length)
        while self._acknowledged < self._content.length:
            offset = self._ask(path)
            assert self._acknowledged <= offset <= self._sent, (self._acknowledged, offset, self._sent)
            self._acknowledged = offset
            if offset < self._content.length:
                self._send(path, offset)
            print(f"\r{self._acknowledged / 1e9:6.2f} GB acknowledged", end="", flush=True)
        return path

    def _ask(self, path: str) -> int:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            try:
                answer = self._client.head(path)
            except (LostError, TimeoutError) as error:
                self.failures.append(f"HEAD: {error!r}")
            else:
                if answer.status == 200:
                    return answer.offset
                assert answer.status in RETRIED, answer
                self.failures.append(f"HEAD: {answer.status}")
            time.sleep(RETRY_SECONDS)
        raise AssertionError(self.failures[-5:])

    def _send(self, path: str, offset: int) -> None:
        end = min(offset + PATCH_BYTES, self._content.length)
        try:
            with self._client.connect() as connection:
                connection.begin("PATCH", path, patch_headers(offset, end - offset))
                for block in self._content.pieces(offset, end):
                    self._sent = max(self._sent, offset + len(block))
                    offset += len(block)
                    if not connection.try_to_send(block):  # it may have answered already
                        break
                    self._tell(self._sent)
                answer = connection.answer()
        except (LostError, TimeoutError) as error:
            self.failures.append(f"PATCH: {error!r}")
            return
        if answer.status == 204:
            assert answer.offset == end, answer
            self._acknowledged = end
        else:
            assert answer.status in RETRIED, answer
            self.failures.append(f"PATCH: {answer.status} {answer.code}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=size, default=size("1GiB"), help="bytes, or as in 500MiB (default: 1GiB)")
    parser.add_argument("--dir", type=Path, help="where there is room (default: the system's temporary folder)")
    parser.add_argument("--cuts", type=int, default=8, help="how often all connections are cut (default: 8)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    tempfile.tempdir = str(arguments.dir) if arguments.dir else None
    content = Pattern(arguments.seed, arguments.size)
    with tempfile.TemporaryDirectory() as folder, MinIO() as storage:
        os.environ |= storage.credentials
        with pair_on(storage, Path(folder), "--redis-lease", f"{LEASE_SECONDS:g}s", "--s3-part-size", "8MiB") as pair:
            return 0 if _carry(pair, content, arguments.cuts) else 1


def _carry(pair: Pair, content: Pattern, cuts: int) -> bool:
    trouble = Trouble(pair, content.length, cuts)
    trouble.start()
    sender = Sender(pair.client, content, trouble.tell)
    began = time.monotonic()
    path = sender.upload()
    seconds = time.monotonic() - began
    trouble.join(GIVE_UP_SECONDS)
    print(f"\n{content.length / 1e9:.2f} GB in {seconds:.0f} s, {content.length / 1e6 / seconds:.0f} MB/s")
    print(f"{trouble.done} of {trouble.planned} troubles came; what the client saw: {', '.join(sender.failures)}")
    print(f"connections to the servers: {dict(pair.balancer.taken)}")
    expected = _hashed(content.pieces())
    found = [_digest(replica.port, path) for replica in pair.replicas]
    left = pair.storage.client().list_multipart_uploads(Bucket=pair.bucket).get("Uploads", ())
    print(f"sha256 sent     {expected}", *(f"sha256 received {each}" for each in found), sep="\n")
    print(f"objects: {pair.objects_of(path)}, unfinished multipart uploads: {len(left)}")
    return found == [expected, expected] and trouble.done == trouble.planned and not left


def _digest(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_SECONDS)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    with contextlib.closing(connection):
        return _hashed(iter(partial(answer.read, MIB), b""))


def _hashed(pieces: Iterable[bytes]) -> str:
    hasher = hashlib.sha256()
    for piece in pieces:
        hasher.update(piece)
    return hasher.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
