"""The state of an upload as one object, `<id>.info`: a line of JSON with tusd's fields and ours, and then the tail.

The write that keeps the tail moves the offset, too, so no crash comes between the two. Each write names the ETag of the
one before, which makes one chain of all states from creation to removal (`chain`). Pure: bytes to record and back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from tusd_py.core.upload import State, Upload
from tusd_py.stores import fileinfo

FINISHED_MULTIPLE = 64
"""Records of finished uploads of which hooks have heard, and no others, have a size that this divides: a listing tells
which they are."""

_RUN = re.compile(r"(\d+)(?:-(\d+))?")

Runs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One state. `upload.offset` is `tail_start + tail_bytes` as long as bytes come.

    `key` is the object that the upload becomes. `parts` are the numbers that count, as runs (first, last), ascending;
    their bytes are those before `tail_start`. `next_number` is the first number that nobody used up to this state, and
    `window` how many of them its holder may use before it writes the next one: who follows a holder that vanished
    leaves out as many, since requests of that one may still be on their way. `token` is drawn anew for each write: it
    tells one's own write from another's after an answer that was lost. `sequence` counts the writes, so a read that
    comes late in time is known as such (failures F13). `crc` is the CRC64NVME of all bytes before the tail, None where
    unknown. `is_terminated`: nothing is left but to remove what late requests may have left behind. `is_foreign`: tusd
    wrote it, which does not say how much there is (see `tusd`). `is_owing`: it is finished, and hooks must hear of it.
    """

    upload: Upload
    key: str
    token: str = ""
    sequence: int = 0
    multipart: str | None = None
    parts: Runs = ()
    next_number: int = 1
    window: int = 0
    tail_start: int = 0
    tail_bytes: int = 0
    crc: int | None = 0
    is_terminated: bool = False
    is_foreign: bool = False
    is_owing: bool = False

    @property
    def numbers(self) -> list[int]:
        return [number for first, last in self.parts for number in range(first, last + 1)]

    @property
    def part_bytes(self) -> int:
        """The size of the parts, where all are equal; 0: there are none."""
        return self.tail_start // max(sum(last - first + 1 for first, last in self.parts), 1)

    def with_parts(self, numbers: Iterable[int]) -> Runs:
        """The runs once `numbers`, which ascend, count too."""
        runs = list(self.parts)
        for number in numbers:
            if runs and runs[-1][1] == number - 1:
                runs[-1] = (runs[-1][0], number)
            else:
                runs.append((number, number))
        return tuple(runs)

    def encode(self, bucket: str) -> bytes:
        """The line before the tail."""
        ours = {
            "Token": self.token,
            "Sequence": self.sequence,
            "TouchedAt": self.upload.touched_at,
            "Multipart": self.multipart,
            "Parts": ",".join(str(a) if a == b else f"{a}-{b}" for a, b in self.parts),
            "NextNumber": self.next_number,
            "Window": self.window,
            "TailStart": self.tail_start,
            "TailBytes": self.tail_bytes,
            "Crc64Nvme": self.crc,
            "IsTerminated": self.is_terminated,
        }
        if self.is_owing:
            ours["IsOwing"] = True
        storage = {"Type": "s3store", "Bucket": bucket, "Key": self.key}
        line = fileinfo.encode(self.upload, storage, ours)
        total = len(line) + 1 + self.tail_bytes
        if self.upload.is_available and not self.is_owing:
            line += b" " * (-total % FINISHED_MULTIPLE)
        elif total % FINISHED_MULTIPLE == 0:
            line += b" "
        return line + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Self:
        """Raises ValueError for what is not such a line."""
        info = fileinfo.decode(line)
        try:
            key = str(info.storage["Key"])
            if info.ours is None:
                upload = replace(info.upload, place=key)
                return cls(upload, key, multipart=info.multipart or None, is_foreign=True)
            return cls._decoded(info.upload, key, info.ours)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a record of an object: {error!r}") from error

    @classmethod
    def _decoded(cls, upload: Upload, key: str, ours: Any) -> Self:
        return cls(
            replace(upload, touched_at=float(ours["TouchedAt"]), place=key),
            key,
            token=ours["Token"],
            sequence=int(ours["Sequence"]),
            multipart=ours["Multipart"],
            parts=_runs(ours["Parts"]),
            next_number=int(ours["NextNumber"]),
            window=int(ours["Window"]),
            tail_start=int(ours["TailStart"]),
            tail_bytes=int(ours["TailBytes"]),
            crc=ours["Crc64Nvme"],
            is_terminated=bool(ours["IsTerminated"]),
            is_owing=bool(ours.get("IsOwing")),
        )

    # The states that may follow.

    def with_length(self, length: int) -> Self:
        return replace(self, upload=replace(self.upload, length=length))

    def with_offset(self, offset: int) -> Self:
        return replace(self, upload=replace(self.upload, offset=offset))

    def counting(self, numbers: Iterable[int], part_bytes: int, tail_bytes: int, crc: int | None, now: float) -> Self:
        """More parts count, of `part_bytes` in all, and then a tail; the old tail is in the first of them, or in the
        new one."""
        tail_start = self.tail_start + part_bytes
        return replace(
            self,
            upload=replace(self.upload, offset=tail_start + tail_bytes, touched_at=now),
            parts=self.with_parts(numbers),
            tail_start=tail_start,
            tail_bytes=tail_bytes,
            crc=crc,
        )

    def finished(self, now: float, digest: str | None, *, owes: bool = False) -> Self:
        """The object is there: what it was made of is nobody's business any more."""
        length = self.upload.length or 0
        upload = replace(self.upload, state=State.AVAILABLE, offset=length, touched_at=now, digest=digest)
        done = replace(self, upload=upload, multipart=None, parts=(), tail_start=upload.offset, tail_bytes=0)
        return replace(done, is_owing=owes)

    def terminated(self, now: float) -> Self:
        upload = replace(self.upload, state=State.RECEIVING, touched_at=now)
        return replace(self, upload=upload, tail_bytes=0, is_terminated=True, is_owing=False)

    def in_state(self, state: State) -> Self:
        return replace(self, upload=replace(self.upload, state=state))


def _runs(text: str) -> Runs:
    runs = []
    for each in text.split(",") if text else ():
        match = _RUN.fullmatch(each)
        if match is None:
            raise ValueError(f"not numbers of parts: {text!r}")
        runs.append((int(match[1]), int(match[2] or match[1])))
    return tuple(runs)
