"""What a client wants done, in requests of which each may be lost: it goes on where the next server says.

Bytes that were acknowledged must still be there then, and none may be counted that were never sent (failures F1, F2).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from faultclient import BASE_PATH, Answer, Client, path_of
from replicaserver import MIB

UPLOAD_TYPE = "application/offset+octet-stream"
TRY_SECONDS = 20.0
AGAIN = frozenset({423, 503})
"""What is asked again after as it stands; after 409 one asks where to go on."""


class Scenario(Protocol):
    def run(self, client: Client) -> None:
        """Bring it to its end, from wherever it is. Raises LostError when the server is gone; then run it again."""
        ...

    def check(self, client: Client) -> None:
        """What is to be seen at the end, on any server."""
        ...


def asked(client: Client, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
    """Until the answer is another one than to try again."""
    deadline = time.monotonic() + TRY_SECONDS
    while (answer := client.ask(method, path, headers, body)).status in AGAIN:
        assert time.monotonic() < deadline, answer
    return answer


@dataclass
class Upload:
    """Of `data`, in bodies of these sizes, the first one in the creation if `is_with_creation`."""

    data: bytes
    sizes: Sequence[int]
    is_with_creation: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    path: str | None = None
    acknowledged: int = 0
    sent: int = 0

    def run(self, client: Client) -> None:
        if self.path is None:
            self._create(client)
        else:
            self._ask(client)
        while self.acknowledged < len(self.data):
            self._send(client)

    def check(self, client: Client) -> None:
        assert self.path is not None
        assert client.offset(self.path) == len(self.data)
        assert client.content(self.path) == self.data

    def _create(self, client: Client) -> None:
        """Whoever was not answered has no upload, and makes another one."""
        first = self.data[: self.sizes[0]] if self.is_with_creation else b""
        headers = {"Upload-Length": str(len(self.data)), **self.headers}
        if first:
            headers["Content-Type"] = UPLOAD_TYPE
        answer = asked(client, "POST", BASE_PATH, headers, first)
        assert answer.status == 201, answer
        self.path, self.acknowledged, self.sent = path_of(answer), len(first), len(first)

    def _ask(self, client: Client) -> None:
        assert self.path is not None
        answer = asked(client, "HEAD", self.path, {})
        assert answer.status == 200, answer
        assert self.acknowledged <= answer.offset <= self.sent, (self.acknowledged, answer.offset, self.sent)
        self.acknowledged = answer.offset

    def _send(self, client: Client) -> None:
        assert self.path is not None
        start, done = self.acknowledged, 0
        for size in self.sizes:
            done += size
            if done > start:
                break
        end = min(done, len(self.data))
        self.sent = max(self.sent, end)
        headers = {"Upload-Offset": str(start), "Content-Type": UPLOAD_TYPE}
        answer = asked(client, "PATCH", self.path, headers, self.data[start:end])
        if answer.status == 409:
            self._ask(client)
            return
        assert (answer.status, answer.offset) == (204, end), answer
        self.acknowledged = end


@dataclass
class Joined:
    """Partials and the final that is made of them."""

    partials: list[Upload]
    path: str | None = None

    def run(self, client: Client) -> None:
        for partial in self.partials:
            partial.run(client)
        headers = {"Upload-Concat": "final;" + " ".join(str(partial.path) for partial in self.partials)}
        answer = asked(client, "POST", BASE_PATH, headers)
        assert answer.status == 201, answer
        assert self.path in (None, path_of(answer))
        self.path = path_of(answer)

    def check(self, client: Client) -> None:
        assert self.path is not None
        content = b"".join(partial.data for partial in self.partials)
        assert asked(client, "HEAD", self.path, {}).offset == len(content)
        assert client.content(self.path) == content
        for partial in self.partials:
            partial.check(client)


@dataclass
class Removed:
    """An upload that is not finished, and then not wanted."""

    upload: Upload

    def run(self, client: Client) -> None:
        if self.upload.path is None:
            self.upload._create(client)
        answer = asked(client, "DELETE", self.upload.path or "", {})
        assert answer.status in (204, 404), answer  # 404: the one that was not answered has removed it

    def check(self, client: Client) -> None:
        assert client.head(self.upload.path or "").status == 404
        assert client.patch(self.upload.path or "", 0, b"x").status == 404


def _parts() -> Upload:
    return Upload(os.urandom(13 * MIB), [MIB, 7 * MIB, 5 * MIB])


def _joined() -> Joined:
    partial = {"Upload-Concat": "partial"}
    sizes = (6 * MIB, 2_000)
    return Joined([Upload(os.urandom(size), [size], is_with_creation=True, headers=partial) for size in sizes])


SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "small": lambda: Upload(os.urandom(5_000), [2_000, 3_000]),
    "parts": _parts,
    "at-once": lambda: Upload(os.urandom(5_000), [5_000], is_with_creation=True),
    "parts-from-creation": lambda: Upload(os.urandom(11 * MIB), [6 * MIB, 5 * MIB], is_with_creation=True),
    "joined": _joined,
    "removed": lambda: Removed(Upload(os.urandom(13 * MIB), [6 * MIB], is_with_creation=True)),
}
