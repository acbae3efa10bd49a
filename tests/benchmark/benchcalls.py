"""What a server asks of S3: its calls for each piece of work, counted by a proxy between the two.

One connection to one process, so that what this process knows by heart is seen as such; what it knows not is asked of a
second process on the same bucket. Calls that come after an answer count for the work that was answered.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchcases import MIB
from benchpeers import HERE, Recipe, Unavailable
from benchserver import Server
from benchstorage import Bucket, Storage
from benchwire import METADATA, UPLOAD_TYPE, Target, differs_from_pattern, window

PROXY = HERE.parent / "services" / "s3proxy.py"
QUIET_SECONDS = 0.1
SMALL, LARGE, PARTIAL = 4096, 60 * MIB, 6 * MIB
SENT, WHOLE = 12 * MIB, 20 * MIB  # of an unfinished one


Counts = dict[str, dict[str, Any]]
"""By piece of work: a `Count`, or why there is none."""


class Refused(Exception):
    """A server answered otherwise than the work needs: it cannot do it."""


@dataclass
class Count:
    """Of one piece of work."""

    calls: Counter[str] = field(default_factory=Counter)
    sent_bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.calls)

    def add(self, other: Count) -> None:
        self.calls += other.calls
        self.sent_bytes += other.sent_bytes


class Proxy:
    """The counting proxy, as a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.endpoint = f"http://127.0.0.1:{self._line().strip()}"

    def count(self) -> Count:
        """The calls since the last time, when no more come."""
        count = Count()
        while True:
            time.sleep(QUIET_SECONDS)  # nothing tells that a server will call no more
            more = self._ask()
            if not more:
                time.sleep(QUIET_SECONDS)  # it tells first and forgets then, also a call that comes in between
                return count
            count.add(more)

    def _ask(self) -> Count:
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        told = json.loads(self._line())
        return Count(Counter(told["calls"]), sum(told["request_bytes"].values()))

    def _line(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise OSError("the proxy ended")
        return line


@contextmanager
def counting(storage: Storage) -> Iterator[Proxy]:
    command = [sys.executable, str(PROXY), "--upstream", storage.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Proxy(process)  # it ends with its input


class _Client:
    """One connection."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection = target.connect()

    def close(self) -> None:
        self._connection.close()

    def create(self, length: int, body: memoryview | None = None, concat: str = "") -> str:
        headers = {"Upload-Metadata": METADATA, "Content-Length": str(len(body or b""))}
        if concat:
            headers["Upload-Concat"] = concat
        if length:
            headers["Upload-Length"] = str(length)
        if body is not None:
            headers["Content-Type"] = UPLOAD_TYPE
        answer = self._ask("POST", self._target.path, (201,), headers, body)
        return self._target.path_of(answer.headers["Location"])

    def patch(self, path: str, start: int, end: int, piece: int = 8 * MIB) -> None:
        for offset in range(start, end, piece):
            length = min(piece, end - offset)
            headers = {"Upload-Offset": str(offset), "Content-Type": UPLOAD_TYPE, "Content-Length": str(length)}
            answer = self._ask("PATCH", path, (204, 200), headers, window(offset, length))
            self._expect(answer, offset + length)

    def head(self, path: str, offset: int) -> None:
        self._expect(self._ask("HEAD", path, (200, 204)), offset)

    def get(self, path: str, length: int) -> None:
        answer = self._ask("GET", path, (200,), reads=False)
        if wrong := differs_from_pattern(answer, 0, length):
            raise Refused(f"GET: {wrong}")

    def delete(self, path: str) -> None:
        self._ask("DELETE", path, (204, 200))

    def _ask(
        self,
        method: str,
        path: str,
        statuses: tuple[int, ...],
        headers: dict[str, str] | None = None,
        body: memoryview | None = None,
        reads: bool = True,
    ) -> http.client.HTTPResponse:
        self._connection.request(method, path, body, {"Tus-Resumable": "1.0.0"} | (headers or {}))
        answer = self._connection.getresponse()
        text = answer.read() if reads or answer.status not in statuses else b""
        if answer.status not in statuses:
            raise Refused(f"{method} was answered {answer.status} {text[:80].decode(errors='replace')}".strip())
        return answer

    def _expect(self, answer: http.client.HTTPResponse, offset: int) -> None:
        if answer.headers["Upload-Offset"] != str(offset):
            raise Refused(f"offset {answer.headers['Upload-Offset']} instead of {offset}")


class _Work:
    """What is done with one server, piece by piece; what it refuses is told instead of a count."""

    def __init__(self, client: _Client, proxy: Proxy) -> None:
        self.counts: Counts = {}
        self._client = client
        self._proxy = proxy
        self._large = self._unfinished = ""

    def before_another(self) -> None:
        client = self._client
        self._note("patches", self._send_large)
        self._note("head-finished", lambda: client.head(self._large, LARGE))
        self._note("small", lambda: client.patch(client.create(SMALL), 0, SMALL))
        self._note("cwu", lambda: client.create(SMALL, window(0, SMALL)))
        self._unfinished = client.create(WHOLE)
        client.patch(self._unfinished, 0, SENT)
        self._proxy.count()
        self._note("head", lambda: client.head(self._unfinished, SENT))

    def in_another(self, client: _Client) -> None:
        self._proxy.count()  # what it asked at its start
        self._note("head-cold", lambda: client.head(self._unfinished, SENT))
        self._note("head-finished-cold", lambda: client.head(self._large, LARGE))

    def after_another(self) -> None:
        client = self._client
        self._note("get", lambda: client.get(self._large, LARGE))
        self._concatenate()
        self._note("delete", lambda: client.delete(self._large))
        self._note("delete-unfinished", lambda: client.delete(self._unfinished))

    def _send_large(self) -> None:
        self._large = self._client.create(LARGE)
        self._client.patch(self._large, 0, LARGE, MIB)

    def _concatenate(self) -> None:
        client = self._client
        try:
            partials = [client.create(PARTIAL, concat="partial") for _ in range(3)]
        except Refused as error:
            self.counts["concat"] = {"refused": str(error)}
            return
        for partial in partials:
            client.patch(partial, 0, PARTIAL)
        self._proxy.count()
        self._note("concat", lambda: client.create(0, concat=f"final;{' '.join(partials)}"))

    def _note(self, name: str, work: Callable[[], object]) -> None:
        try:
            work()
            count = self._proxy.count()
            self.counts[name] = {"calls": dict(count.calls), "sent_bytes": count.sent_bytes}
        except Refused as error:
            self.counts[name] = {"refused": str(error)}
            self._proxy.count()


def count_calls(recipe: Recipe, bucket: Bucket, proxy: Proxy, folder: Path) -> Counts:
    with Server("one", recipe, folder / "one", bucket) as one, closing(_Client(one.target)) as client:
        time.sleep(recipe.ready_seconds)
        proxy.count()
        work = _Work(client, proxy)
        work.before_another()
        with Server("another", recipe, folder / "another", bucket) as other, closing(_Client(other.target)) as second:
            work.in_another(second)
        proxy.count()
        work.after_another()
    return work.counts


def count_all(
    recipes: dict[str, Recipe], storage: Storage, data: Path, say: Callable[[str], None]
) -> tuple[dict[str, Counts], dict[str, str]]:
    """By peer; and who is left out, with the reason."""
    calls: dict[str, Counts] = {}
    left_out: dict[str, str] = {}
    with counting(storage) as proxy:
        for name, recipe in recipes.items():
            say(f"counting the calls of {name}")
            try:
                calls[name] = count_calls(recipe, storage.new_bucket(proxy.endpoint), proxy, data / f"calls-{name}")
            except (Unavailable, Refused, OSError, http.client.HTTPException) as error:
                left_out[f"{name}, calls"] = str(error)
    return calls, left_out
