"""The cases: what each puts on a server, in which sizes, and what its figures are called."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchload import Load

GIB = 1 << 30
MIB = 1 << 20
SMALL_ROUND_BYTES = 256 * MIB


@dataclass(frozen=True, kw_only=True)
class Case:
    """`unit` is of the speed, `cpu_unit` of the server's CPU; `kind` is the request whose latencies matter most."""

    name: str
    title: str
    unit: str
    cpu_unit: str
    kind: str
    load: Load

    @property
    def is_bulk(self) -> bool:
        """It moves so much that its files are emptied afterwards."""
        return self.load.piece_bytes >= MIB

    @property
    def round_bytes(self) -> int:
        """What a round puts into files, about."""
        return self.load.size_bytes * self.load.count if self.is_bulk else SMALL_ROUND_BYTES


# The small ones first: deleting files makes ext4 create files slowly for some seconds, and nothing is deleted there.
CASES = {
    case.name: case
    for case in (
        Case(
            name="small",
            title="4 KiB, POST + PATCH, 32 connections",
            unit="uploads/s",
            cpu_unit="ms/upload",
            kind="PATCH",
            load=Load(verb="upload", size_bytes=4096, piece_bytes=4096, links=32, seconds=2.5),
        ),
        Case(
            name="cwu",
            title="4 KiB, creation-with-upload, 32 connections",
            unit="uploads/s",
            cpu_unit="ms/upload",
            kind="POST",
            load=Load(verb="create-with-upload", size_bytes=4096, piece_bytes=4096, links=32, seconds=2.5),
        ),
        Case(
            name="head",
            title="HEAD of one upload, 32 connections",
            unit="requests/s",
            cpu_unit="ms/request",
            kind="HEAD",
            load=Load(verb="head", size_bytes=MIB, offset=4096, links=32, seconds=2.5),
        ),
        Case(
            name="one",
            title="1 GiB in one PATCH",
            unit="MiB/s",
            cpu_unit="s/GiB",
            kind="PATCH",
            load=Load(verb="upload", size_bytes=GIB, piece_bytes=GIB, count=1),
        ),
        Case(
            name="chunks",
            title="1 GiB in PATCHes of 8 MiB",
            unit="MiB/s",
            cpu_unit="s/GiB",
            kind="PATCH",
            load=Load(verb="upload", size_bytes=GIB, piece_bytes=8 * MIB, count=1),
        ),
        Case(
            name="many",
            title="200 uploads of 5 MiB at once, PATCHes of 1 MiB",
            unit="uploads/s",
            cpu_unit="s/GiB",
            kind="PATCH",
            load=Load(verb="upload", size_bytes=5 * MIB, piece_bytes=MIB, links=200, count=200),
        ),
    )
}

_HEAD = CASES["head"]
_S3_CASES = (
    CASES["small"],
    CASES["cwu"],
    replace(_HEAD, title="HEAD of one unfinished upload, 32 connections"),
    replace(
        _HEAD,
        name="head-finished",
        title="HEAD of one finished upload, 32 connections",
        load=replace(_HEAD.load, size_bytes=4096),
    ),
    CASES["one"],
    CASES["chunks"],
    CASES["many"],
)
S3_CASES = {case.name: case for case in _S3_CASES}

# What the calls to S3 are counted of; see `benchcalls`.
WORKS = {
    "patches": "60 MiB in PATCHes of 1 MiB",
    "head-finished": "HEAD of it, in the process that took it",
    "small": "4 KiB, POST + PATCH",
    "cwu": "4 KiB, creation-with-upload",
    "head": "HEAD after 12 of 20 MiB, in the process that took them",
    "head-cold": "the same HEAD in another process",
    "head-finished-cold": "HEAD of the finished 60 MiB in another process",
    "get": "GET of the 60 MiB",
    "concat": "concatenation of 3 partial uploads of 6 MiB",
    "delete": "DELETE of the 60 MiB",
    "delete-unfinished": "DELETE after 12 of 20 MiB",
}


def scale(case: Case, factor: float) -> Case:
    """The case with a fraction of its bytes or seconds; its title says so."""
    load = case.load
    if factor == 1:
        return case
    if not case.is_bulk:
        return replace(case, load=replace(load, seconds=load.seconds * factor), title=f"{case.title} (short)")
    if case.name == "many":
        count = max(2, int(load.count * factor))
        return replace(
            case,
            load=replace(load, count=count, links=count),
            title=f"{count} uploads of 5 MiB at once, PATCHes of 1 MiB",
        )
    size = max(2 * MIB, int(load.size_bytes * factor))
    piece = min(load.piece_bytes, size) if case.name == "chunks" else size
    title = f"{size >> 20} MiB in " + ("one PATCH" if piece == size else f"PATCHes of {piece >> 20} MiB")
    return replace(case, load=replace(load, size_bytes=size, piece_bytes=piece), title=title)
