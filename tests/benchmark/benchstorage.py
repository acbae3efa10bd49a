"""The S3 server under the servers, where they store in S3: a process and a folder for a case, and buckets in it; and
the Redis beside it.

All servers of a case use the same one, each with a bucket of its own. Nothing is removed before the end of a run (see
`benchdisk`): objects are emptied on the disk, and a process that has done its work is killed beside its folder.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchpeers import HERE
from benchwire import differs_from_pattern

sys.path.append(str(HERE.parent / "services"))

from botocore.exceptions import BotoCoreError, ClientError
from s3servers import MinIO, MissingService, S3Server, Versitygw

from tests.lockers.redisserver import redis_server

KINDS = {server.name: server for server in (MinIO, Versitygw)}


@dataclass(frozen=True)
class Bucket:
    """A bucket for one server of a peer. `folder` is where the S3 server keeps its objects."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    folder: Path
    client: Any
    redis: str = ""

    @property
    def places(self) -> dict[str, str]:
        """What recipes have names for."""
        return {
            "bucket": self.name,
            "endpoint": self.endpoint,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "redis": self.redis,
        }

    def differs_from_pattern(self, path: str, start: int, length: int) -> str:
        """Read the object of an upload back, past the server that made it; what is wrong with it, or nothing."""
        key = path.rstrip("/").rpartition("/")[2].partition("+")[0]  # tusd adds the id of the multipart upload
        try:
            with closing(self.client.get_object(Bucket=self.name, Key=key)["Body"]) as body:
                return differs_from_pattern(body, start, length)
        except (ClientError, BotoCoreError) as error:
            return f"cannot be read back: {error}"


class Storage:
    """A running S3 server, and the URL of a Redis beside it, if there is one."""

    def __init__(self, server: S3Server, redis: str = "") -> None:
        self._server = server
        self._redis = redis
        self._client = server.client()
        self.address = f"{server.host}:{server.port}"

    @property
    def pid(self) -> int:
        return self._server.pid

    def new_bucket(self, endpoint: str = "") -> Bucket:
        """At another endpoint: behind a proxy."""
        server, name = self._server, self._server.new_bucket()
        folder = server.folder / "data" / name
        keys = server.access_key, server.secret_key
        return Bucket(name, endpoint or server.endpoint, *keys, folder, self._client, self._redis)


def version(kind: str) -> str:
    """As Go wrote it into the program."""
    program = shutil.which(kind)
    found = re.search(rb"\nmod\t\S+\t(v\S+)\t", Path(program).read_bytes()) if program else None
    return f"{kind} {found[1].decode()}" if found else kind


@contextmanager
def running(kind: str, folder: Path, until_removed: ExitStack) -> Iterator[Storage]:
    """An S3 server that keeps its objects in `folder`, also when it has ended; they go with `until_removed`."""
    usual, tempfile.tempdir = tempfile.tempdir, str(folder)  # it makes its folder there
    try:
        server = KINDS[kind]()
    except MissingService as error:
        raise SystemExit(str(error)) from error
    finally:
        tempfile.tempdir = usual
    until_removed.callback(server.stop)
    with ExitStack() as stack:
        stack.callback(server.kill)
        has_redis = shutil.which("redis-server") is not None
        yield Storage(server, stack.enter_context(redis_server(folder / "redis")).url if has_redis else "")
