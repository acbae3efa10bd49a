"""The events of an upload's life that hooks hear of, who caused them, and what the core asks of whoever runs hooks.

Events that begin with pre- are asked before something is done and may refuse it; those that begin with post- are told
afterwards. Names and meaning are tusd's; pre-access is ours. How hooks are reached is left to `hooks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from tusd_py.core.body import Body
from tusd_py.core.ports import StoredUpload
from tusd_py.core.upload import Upload, UploadId


class EventType(StrEnum):
    PRE_ACCESS = "pre-access"
    PRE_CREATE = "pre-create"
    POST_CREATE = "post-create"
    POST_RECEIVE = "post-receive"
    PRE_FINISH = "pre-finish"
    POST_FINISH = "post-finish"
    PRE_TERMINATE = "pre-terminate"
    POST_TERMINATE = "post-terminate"


class AccessMode(StrEnum):
    """What a request wants with uploads that exist. LIST: to see all of them."""

    READ = "read"
    WRITE = "write"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a hook wants said to the client. Status 0, an empty body: what would be said without it."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    def then(self, later: Reply) -> Reply:
        """Both, of which the later one wins where they differ (as in tusd)."""
        headers = {**self.headers, **later.headers}
        return Reply(later.status or self.status, headers, later.body or self.body)


class Caller:
    """The request that makes something happen, as hooks are told of it; and in `reply` what they want said in its
    answer. `headers` are as they came: lower-case names, in order. Without a `method`: nobody's, such as a sweep's.
    """

    __slots__ = ("headers", "method", "remote_address", "reply", "uri")

    def __init__(
        self, method: str = "", uri: str = "", remote_address: str = "", headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        self.method = method
        self.uri = uri
        self.remote_address = remote_address
        self.headers = headers
        self.reply: Reply | None = None

    def add(self, reply: Reply | None) -> None:
        """What another hook wants said, after those before it."""
        if reply is not None:
            self.reply = reply if self.reply is None else self.reply.then(reply)


NO_CALLER = Caller()


class Hooks(Protocol):
    """Whoever runs hooks, for all requests of a process."""

    def wants(self, event: EventType) -> bool:
        """Whether any hook listens to this event; if not, nobody needs to be asked or told."""
        ...

    async def ask(
        self, event: EventType, upload: Upload | None, caller: Caller, mode: AccessMode | None = None
    ) -> Upload | None:
        """Ask every hook that listens, in order; the upload as they changed it (only pre-create may). None: all uploads
        are meant.

        Answers within the time limits of the hooks, whatever they do. Adds to `caller.reply`. Raises `Refused` when one
        says no, and `HookFailed` when one that must be heard could not be.
        """
        ...

    async def tell(self, event: EventType, upload: Upload, caller: Caller) -> None:
        """Pass an event on to every hook that listens, without waiting for them; those about one upload are told in
        this order (failures F33).

        What a store can tell of again, post-create and post-finish, is not waited for; anything else is in safe hands
        when this returns. Raises BackendError when it cannot be.
        """
        ...

    async def remind(self, uploads: Sequence[Upload]) -> set[UploadId]:
        """Tell again of finished uploads what may have been lost (failures F30). The ids of those of which nothing is
        owed: all was told before, or nobody listens."""
        ...

    async def forget(self, upload_id: UploadId) -> None:
        """The upload is about to go: what is owed about it is not wanted any more. Raises BackendError."""
        ...

    def watch(self, stored: StoredUpload, body: Body, caller: Caller) -> AbstractContextManager[None]:
        """While the context is open, hooks hear now and again how far the body is (post-receive). One may stop it: the
        body is then interrupted with `Stopped`."""
        ...


class NoHooks:
    """Nobody listens."""

    def wants(self, _event: EventType) -> bool:
        return False

    async def ask(
        self, _event: EventType, upload: Upload | None, _caller: Caller, _mode: AccessMode | None = None
    ) -> Upload | None:
        return upload

    async def tell(self, _event: EventType, _upload: Upload, _caller: Caller) -> None: ...

    async def remind(self, uploads: Sequence[Upload]) -> set[UploadId]:
        return {upload.id for upload in uploads}

    async def forget(self, _upload_id: UploadId) -> None: ...

    def watch(self, _stored: StoredUpload, _body: Body, _caller: Caller) -> AbstractContextManager[None]:
        return _NOTHING


_NOTHING = nullcontext()
NO_HOOKS: Hooks = NoHooks()
