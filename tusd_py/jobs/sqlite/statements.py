"""The table of jobs and every statement on it. Each function is one step of a transaction that `writer` opens.

Jobs of one upload and one hook stand in a line. Only its head has a `ready_at`: when it may be had, or, while it runs,
when its lease ends. So what can be claimed is one range of one index, whatever else there is, and no job that is behind
another one is ever looked at. Payloads have a table of their own, since SQLite gives the room of a deleted row to
others, and that of a shortened one to nobody.
"""

from __future__ import annotations

import heapq
import math
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from tusd_py.core.jobs import Claim, Job, JobState, JobStatus
from tusd_py.core.upload import UploadId

VERSION = 1

SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY,  -- the order of put
    key TEXT NOT NULL UNIQUE,
    upload_id TEXT NOT NULL,
    event TEXT NOT NULL,
    hook TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    ready_at REAL,
    due_at REAL NOT NULL,
    created_at REAL NOT NULL,
    changed_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    token TEXT NOT NULL DEFAULT '',
    progress REAL,
    note TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT ''
);
CREATE INDEX jobs_ready ON jobs (hook, ready_at) WHERE ready_at IS NOT NULL;
CREATE UNIQUE INDEX jobs_head ON jobs (upload_id, hook) WHERE ready_at IS NOT NULL;
CREATE INDEX jobs_line ON jobs (upload_id, hook, number) WHERE state IN ('waiting', 'running');
CREATE INDEX jobs_dead ON jobs (upload_id) WHERE state = 'dead';
CREATE INDEX jobs_state ON jobs (state, number);

CREATE TABLE payloads (number INTEGER PRIMARY KEY, payload BLOB NOT NULL);
CREATE TRIGGER jobs_end AFTER UPDATE OF state ON jobs WHEN NEW.state IN ('done', 'cancelled') BEGIN
    DELETE FROM payloads WHERE number = NEW.number;
END;

CREATE TABLE tally (state TEXT PRIMARY KEY, jobs INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO tally VALUES ('waiting', 0), ('running', 0), ('done', 0), ('dead', 0), ('cancelled', 0);
CREATE TRIGGER jobs_come AFTER INSERT ON jobs BEGIN
    UPDATE tally SET jobs = jobs + 1 WHERE state = NEW.state;
END;
CREATE TRIGGER jobs_change AFTER UPDATE OF state ON jobs WHEN OLD.state <> NEW.state BEGIN
    UPDATE tally SET jobs = jobs - 1 WHERE state = OLD.state;
    UPDATE tally SET jobs = jobs + 1 WHERE state = NEW.state;
END;
CREATE TRIGGER jobs_go AFTER DELETE ON jobs BEGIN
    UPDATE tally SET jobs = jobs - 1 WHERE state = OLD.state;
END;
"""

PUT = """
INSERT INTO jobs (key, upload_id, event, hook, ready_at, due_at, created_at, changed_at)
SELECT :key, :upload_id, :event, :hook,
    CASE WHEN EXISTS (SELECT 1 FROM jobs WHERE upload_id = :upload_id AND hook = :hook AND ready_at IS NOT NULL)
    THEN NULL ELSE :now END, :now, :now, :now
WHERE true ON CONFLICT (key) DO NOTHING
"""

KNOWN = "SELECT 1 FROM jobs WHERE key = ?"

SOONEST = "SELECT min(ready_at) FROM jobs WHERE hook = ? AND ready_at IS NOT NULL"

READY = """
SELECT number, key, upload_id, event, hook, coalesce(payload, x''), attempts
FROM jobs LEFT JOIN payloads USING (number)
WHERE hook = ? AND ready_at <= ? ORDER BY ready_at, number LIMIT ?
"""

LEASE = """
UPDATE jobs SET state = 'running', ready_at = ?, changed_at = ?, attempts = attempts + 1, token = ?, progress = NULL,
    note = '' WHERE number = ?
"""

EXTEND = """
UPDATE jobs SET ready_at = :until, progress = coalesce(:progress, progress), note = coalesce(:note, note)
WHERE key = :key AND token = :token AND state = 'running'
"""

PUT_OFF = """
UPDATE jobs SET state = 'waiting', ready_at = NULL, changed_at = :now, due_at = :due_at, error = :error
WHERE key = :key AND token = :token AND state = 'running'
"""

GIVE_BACK = """
UPDATE jobs SET state = 'waiting', ready_at = NULL, changed_at = :now, due_at = :now, attempts = attempts - 1
WHERE key = :key AND token = :token AND state = 'running'
"""

FINISH = """
UPDATE jobs SET state = 'done', ready_at = NULL, changed_at = :now
WHERE key = :key AND token = :token AND state = 'running'
"""

BURY = """
UPDATE jobs SET state = 'dead', ready_at = NULL, changed_at = :now, error = :error
WHERE key = :key AND token = :token AND state = 'running'
"""

PROMOTE = """
UPDATE jobs SET ready_at = due_at WHERE number = (
    SELECT number FROM jobs WHERE upload_id = :upload_id AND hook = :hook AND state IN ('waiting', 'running')
    ORDER BY number LIMIT 1
) AND NOT EXISTS (SELECT 1 FROM jobs WHERE upload_id = :upload_id AND hook = :hook AND ready_at IS NOT NULL)
"""
"""The oldest of a line that has no head becomes its head."""

DEMOTE = """
UPDATE jobs SET ready_at = NULL
WHERE upload_id = :upload_id AND hook = :hook AND ready_at IS NOT NULL AND state = 'waiting'
"""
"""The head of a line gives place to an older one that comes back, unless it runs."""

CANCEL = """
UPDATE jobs SET state = 'cancelled', ready_at = NULL, changed_at = :now
WHERE upload_id = :upload_id AND event <> :kept AND state IN ('waiting', 'running')
"""

PROMOTE_ALL = """
UPDATE jobs SET ready_at = due_at WHERE upload_id = :upload_id AND state = 'waiting' AND NOT EXISTS (
    SELECT 1 FROM jobs AS other WHERE other.upload_id = jobs.upload_id AND other.hook = jobs.hook
    AND other.state IN ('waiting', 'running') AND (other.ready_at IS NOT NULL OR other.number < jobs.number)
)
"""
"""The same in all lines of an upload."""

OWES = """
SELECT EXISTS (SELECT 1 FROM jobs WHERE upload_id = :id AND state IN ('waiting', 'running'))
    OR EXISTS (SELECT 1 FROM jobs WHERE upload_id = :id AND state = 'dead')
"""

RETRY = "UPDATE jobs SET state = 'waiting', attempts = 0, due_at = ?, changed_at = ? WHERE number = ?"

DROP = "UPDATE jobs SET state = 'cancelled', ready_at = NULL, changed_at = ? WHERE number = ?"

LIST = """
SELECT number, key, upload_id, event, hook, coalesce(payload, x''), state, attempts, created_at, changed_at, due_at,
    progress, note, error
FROM jobs LEFT JOIN payloads USING (number) WHERE state = ? AND number > ? ORDER BY number LIMIT ?
"""

FIND = LIST.partition("WHERE")[0] + "WHERE key = ?"

FORGET = """
DELETE FROM jobs WHERE changed_at < ? AND number IN (SELECT number FROM jobs WHERE state = ? ORDER BY number LIMIT ?)
"""
"""Looks at the oldest only. One of them that ended late keeps those behind it a little longer."""


def put(connection: sqlite3.Connection, jobs: Iterable[Job], now: float) -> None:
    for job in jobs:
        cursor = connection.execute(PUT, _fields(job) | {"event": job.event, "now": now})
        if cursor.rowcount:
            connection.execute("INSERT INTO payloads VALUES (?, ?)", (cursor.lastrowid, job.payload))


def put_again(connection: sqlite3.Connection, jobs: Sequence[Job], now: float) -> set[UploadId]:
    last = {job.upload_id: job.event for job in jobs}
    ends = [job for job in jobs if job.event == last[job.upload_id]]
    known = {job.upload_id for job in ends if connection.execute(KNOWN, (job.key,)).fetchone()}
    put(connection, (job for job in jobs if job.upload_id not in known), now)
    return _settled(connection, last)


def soonest(connection: sqlite3.Connection, hooks: Iterable[str]) -> float:
    """When a job of these hooks may be had; infinity: there is none."""
    found = [connection.execute(SOONEST, (hook,)).fetchone()[0] for hook in hooks]
    return min((at for at in found if at is not None), default=math.inf)


def claim(connection: sqlite3.Connection, capacity: Mapping[str, int], now: float, until: float) -> list[Claim]:
    token = secrets.token_hex(8)  # with its key, it is of one claim only
    claims: list[Claim] = []
    leases: list[tuple[float, float, str, int]] = []
    for wanted, most in capacity.items():
        for number, key, upload_id, event, hook, payload, attempts in connection.execute(READY, (wanted, now, most)):
            claims.append(Claim(Job(key, UploadId(upload_id), event, hook, payload), token, attempts + 1))
            leases.append((until, now, token, number))
    connection.executemany(LEASE, leases)
    return claims


def change(connection: sqlite3.Connection, statement: str, claims: Sequence[Claim], fields: dict[str, object]) -> bool:
    """Do this with those that are still held, and let the next in their lines come. Whether the only one was."""
    rows = [_fields(claim.job) | {"token": claim.token} | fields for claim in claims]
    has_changed = connection.executemany(statement, rows).rowcount > 0
    if statement is not EXTEND:
        connection.executemany(PROMOTE, rows)
    return has_changed


def finish(connection: sqlite3.Connection, claims: Sequence[Claim], now: float) -> set[UploadId]:
    uploads = set()
    for claim in claims:
        row = _fields(claim.job) | {"token": claim.token, "now": now}
        if connection.execute(FINISH, row).rowcount:
            uploads.add(claim.job.upload_id)
            connection.execute(PROMOTE, row)
    return _settled(connection, uploads)


def cancel(connection: sqlite3.Connection, upload_id: UploadId, kept: str, now: float) -> int:
    row = {"upload_id": upload_id, "kept": kept, "now": now}
    count = connection.execute(CANCEL, row).rowcount
    connection.execute(PROMOTE_ALL, row)
    return count


def listed(connection: sqlite3.Connection, states: Iterable[JobState], count: int, after: str) -> list[JobStatus]:
    number = 0
    if after:
        row = connection.execute("SELECT number FROM jobs WHERE key = ?", (after,)).fetchone()
        if row is None:
            return []
        number = row[0]
    rows = [connection.execute(LIST, (state, number, count)).fetchall() for state in dict.fromkeys(states)]
    return [_status(row) for row in islice(heapq.merge(*rows), count)]


def find(connection: sqlite3.Connection, key: str) -> JobStatus | None:
    row = connection.execute(FIND, (key,)).fetchone()
    return _status(row) if row is not None else None


def counts(connection: sqlite3.Connection) -> dict[JobState, int]:
    return {JobState(state): jobs for state, jobs in connection.execute("SELECT state, jobs FROM tally")}


def retry(connection: sqlite3.Connection, key: str, now: float) -> bool:
    found = _number_of(connection, key, (JobState.WAITING, JobState.DEAD))
    if found is None:
        return False
    number, line = found
    connection.execute(DEMOTE, line)
    connection.execute(RETRY, (now, now, number))
    connection.execute(PROMOTE, line)
    return True


def drop(connection: sqlite3.Connection, key: str, now: float) -> bool:
    found = _number_of(connection, key, (JobState.WAITING, JobState.RUNNING, JobState.DEAD))
    if found is None:
        return False
    number, line = found
    connection.execute(DROP, (now, number))
    connection.execute(PROMOTE, line)
    return True


def forget(connection: sqlite3.Connection, before: float, count: int) -> int:
    """Remove some of what is over since then, and give some of the room back. How many jobs it were."""
    over = (JobState.DONE, JobState.CANCELLED)
    gone = sum(connection.execute(FORGET, (before, state, count)).rowcount for state in over)
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    if free > connection.execute("PRAGMA page_count").fetchone()[0] // 2:  # less will be needed again soon
        for _ in range(count):  # one page each time: Python does not see that it could go on
            connection.execute("PRAGMA incremental_vacuum(1)")
    return gone


def _settled(connection: sqlite3.Connection, upload_ids: Iterable[UploadId]) -> set[UploadId]:
    """Those of which nothing is owed."""
    return {each for each in upload_ids if not connection.execute(OWES, {"id": each}).fetchone()[0]}


def _number_of(
    connection: sqlite3.Connection, key: str, states: Sequence[JobState]
) -> tuple[int, dict[str, object]] | None:
    row = connection.execute("SELECT number, state, upload_id, hook FROM jobs WHERE key = ?", (key,)).fetchone()
    if row is None or row[1] not in states:
        return None
    return row[0], {"upload_id": row[2], "hook": row[3]}


def _fields(job: Job) -> dict[str, object]:
    return {"key": job.key, "upload_id": job.upload_id, "hook": job.hook}


def _status(row: Sequence[object]) -> JobStatus:
    _, key, upload_id, event, hook, payload, state, *rest = row
    job = Job(key, UploadId(upload_id), event, hook, payload)  # type: ignore[arg-type]
    return JobStatus(job, JobState(state), *rest)  # type: ignore[arg-type]
