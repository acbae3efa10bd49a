"""The server does not start over a bucket that it cannot use: one line says what to do, with exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from s3servers import S3Server


def start(server: S3Server, *flags: str, **variables: str) -> tuple[int, list[str]]:
    """How it ended, and what it said that is no log."""
    address = ("--s3-endpoint", server.endpoint, "--port", "0", "--host", "127.0.0.1")
    ended = subprocess.run(
        [sys.executable, "-m", "tusd_py", "--s3-bucket", server.new_bucket(), *address, *flags],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.returncode, [line for line in ended.stderr.splitlines() if not line[:4].isdigit()]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("flags", "variables", "line"),
    [
        (["--s3-bucket", "nowhere"], {}, "there is no bucket 'nowhere': create it, or correct its name"),
        ([], {"AWS_SECRET_ACCESS_KEY": "wrong"}, "the secret key is wrong: correct AWS_SECRET_ACCESS_KEY"),
        (["--s3-endpoint", "http://127.0.0.1:1"], {}, "the storage cannot be reached: correct --s3-endpoint"),
        (["--s3-object-key", "{name}"], {}, "--s3-object-key: '{name}' is wrong"),
        (["--locker", "redis", "--redis-url", "redis://127.0.0.1:1"], {}, "cannot be used just now: the log says why"),
    ],
    ids=["bucket", "key", "endpoint", "template", "redis"],
)
def test_one_line_says_what_to_do(
    minio: S3Server, workers: str, flags: list[str], variables: dict[str, str], line: str
) -> None:
    code, lines = start(minio, "--workers", workers, *flags, **variables)
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("tusd-py: error: ")
    assert line in lines[0]
