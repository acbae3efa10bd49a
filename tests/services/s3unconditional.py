"""A storage that takes no conditions, as some do: what it is sent loses them. And fences in place of a locker's."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tusd_py.core.upload import UploadId
from tusd_py.stores.s3 import S3Store
from tusd_py.stores.s3.client import Client
from tusd_py.stores.s3.fenced import FencedChain
from tusd_py.stores.s3.wire import Answer


class _Unconditional(Client):
    async def _attempt(
        self, operation: str, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], *rest: Any
    ) -> Answer:
        headers = {name: value for name, value in headers.items() if not name.startswith("if-")}
        return await super()._attempt(operation, method, key, query, headers, *rest)


def unconditional(store: S3Store, fences: Fences | None) -> S3Store:
    """The same, as if its storage took no conditions, which it finds out when it is started."""
    client: Client = copy.copy(store.bucket.client)
    client.__class__ = _Unconditional
    return S3Store(replace(store.bucket, client=client), fences)


def fenced(store: S3Store, fences: Fences) -> S3Store:
    """The same, as if it had found that out."""
    store = unconditional(store, fences)
    chain = FencedChain(store.bucket.client, store.bucket.control, fences)
    return S3Store(replace(store.bucket, chain=chain), fences)


class Fences:
    """Those of one process, which is given a lock whenever it asks for its fence; `turns` is what all share."""

    def __init__(self, turns: dict[UploadId, tuple[int, Fences]]) -> None:
        self._turns = turns

    def fence(self, upload_id: UploadId) -> int:
        number, owner = self._turns.get(upload_id, (0, None))
        if owner is not self:
            number += 1
            self._turns[upload_id] = number, self
        return number

    async def is_held(self, upload_id: UploadId) -> bool:
        return self._turns[upload_id][1] is self
