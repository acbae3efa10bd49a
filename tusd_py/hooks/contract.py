"""Everything that the author of a hook imports.

    from tusd_py.hooks.contract import Hook, PostFinish

    hook = Hook()

    @hook.on("post-finish")
    async def say(event: PostFinish) -> None:
        print(event.upload.id, "has", event.upload.length, "bytes")

A handler is an async or a plain function; a plain one runs in a thread. It names what it needs as parameters:

    event     the `Event`; annotate it with the class of its type, such as `PreCreate`
    upload    `event.upload`, the record
    request   `event.request`, what the client sent
    settings  the `settings` that the hook declared, filled in by whoever runs the server
    stream    the bytes of the stored upload: a `Stream` for async functions, a `SyncStream` for plain ones; events
              that come when there are none yet (pre-access, pre-create, post-create, post-receive) have none
    log       a `logging.Logger` of the hook's own

It answers with None (all is well), `reject(...)`, `stop(...)`, `change(...)` or `respond(...)`, as the event allows:

    pre-access      may it see or change the uploads?      reject
    pre-create      may it be made, and as what?           reject, change, respond
    post-create     it was made                            -
    post-receive    bytes are coming, now and again        stop, respond
    pre-finish      all bytes are there                    reject, respond
    post-finish     it can be had                          -
    pre-terminate   may its client remove it?              reject
    post-terminate  it is gone                             -

A handler that raises has failed: the client then waits for another try, or goes on, as the server's operator chose.
Events that begin with post- may be told more than once, after a crash for instance: `event.key` is then the same.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, BinaryIO, ClassVar, Protocol, TypeVar

EVENTS = (
    "pre-access", "pre-create", "post-create", "post-receive", "pre-finish", "post-finish", "pre-terminate",
    "post-terminate",
)  # fmt: skip
PARAMETERS = ("event", "upload", "request", "settings", "stream", "log")
_WITH_BYTES = ("pre-finish", "post-finish", "pre-terminate")

F = TypeVar("F", bound=Callable[..., Any])


# What happens.


@dataclass(frozen=True, slots=True)
class Upload:
    """The record of an upload. `length` and `offset` are bytes, `length` is None while it is not known; `id` is empty
    until the upload is made. `metadata` is what the client says, decoded. `partials` are the ids of what a final upload
    is made of. `storage` says where the bytes are: Type filestore with Path, or s3store with Bucket and Key. `digest`
    is `<algorithm>:<hex>` of all bytes, where the server makes one. `created_at` is in seconds since the epoch.
    """

    id: str = ""
    length: int | None = None
    offset: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_partial: bool = False
    is_final: bool = False
    partials: tuple[str, ...] = ()
    storage: Mapping[str, str] = field(default_factory=dict)
    digest: str | None = None
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """What the client sent, all empty where no client did. `remote_address` is that of whoever connected, which may be
    a proxy. `headers` have their names in the form Content-Type."""

    method: str = ""
    uri: str = ""
    remote_address: str = ""
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def header(self, name: str) -> str | None:
        """The values of a header, joined by commas; None without any. Case does not count."""
        wanted = name.lower()
        for each, values in self.headers.items():
            if each.lower() == wanted:
                return ", ".join(values)
        return None


@dataclass(frozen=True, slots=True)
class Access:
    """What a client wants: `mode` is read, write, or list for all uploads; `uploads` are the ones it names."""

    mode: str
    uploads: tuple[Upload, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens to an upload. `key` is the same whenever this event of this upload is told again."""

    TYPE: ClassVar[str] = ""

    upload: Upload
    request: Request = Request()
    key: str = ""

    @property
    def type(self) -> str:
        return self.TYPE


@dataclass(frozen=True, slots=True)
class PreAccess(Event):
    TYPE: ClassVar[str] = "pre-access"

    access: Access = Access("read")


class PreCreate(Event):
    __slots__ = ()
    TYPE = "pre-create"


class PostCreate(Event):
    __slots__ = ()
    TYPE = "post-create"


class PostReceive(Event):
    """`upload.offset` counts bytes that arrived; not all of them need to be stored yet."""

    __slots__ = ()
    TYPE = "post-receive"


class PreFinish(Event):
    __slots__ = ()
    TYPE = "pre-finish"


class PostFinish(Event):
    __slots__ = ()
    TYPE = "post-finish"


class PreTerminate(Event):
    __slots__ = ()
    TYPE = "pre-terminate"


class PostTerminate(Event):
    __slots__ = ()
    TYPE = "post-terminate"


EVENT_CLASSES: Mapping[str, type[Event]] = {
    each.TYPE: each
    for each in (PreAccess, PreCreate, PostCreate, PostReceive, PreFinish, PostFinish, PreTerminate, PostTerminate)
}


# What a hook says to it.


@dataclass(frozen=True, slots=True)
class Response:
    """What is said to the client. Status 0, an empty body: what would be said without it."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of an upload that is being made; None leaves a part as it is. `metadata` replaces all of it."""

    id: str | None = None
    metadata: Mapping[str, str] | None = None
    storage: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a hook; without anything set: go on. Made by `reject`, `stop`, `change` and `respond`."""

    is_rejected: bool = False
    is_stopped: bool = False
    response: Response | None = None
    change: Change | None = None


GO_ON = Answer()


def reject(body: str = "", *, status: int = 0, headers: Mapping[str, str] | None = None) -> Answer:
    """It must not happen. The client is answered with `status` (400, or 403 for access) and `body`."""
    return Answer(is_rejected=True, response=Response(status, headers or {}, body))


def stop(body: str = "", *, status: int = 0, headers: Mapping[str, str] | None = None) -> Answer:
    """End the upload that is just being received, and remove it. The client is answered with `status` (400)."""
    return Answer(is_stopped=True, response=Response(status, headers or {}, body))


def respond(body: str = "", *, status: int = 0, headers: Mapping[str, str] | None = None) -> Answer:
    """All is well, and this is added to the answer to the client."""
    return Answer(response=Response(status, headers or {}, body))


def change(
    *,
    id: str | None = None,  # noqa: A002  # the word of the field
    metadata: Mapping[str, str] | None = None,
    storage: Mapping[str, str] | None = None,
    response: Response | None = None,
) -> Answer:
    """Make the upload with another id, other metadata (all of it), or in another place. An id has letters, digits, -
    and _ only, 128 at most, and nobody must have used it before; whoever can guess it has the upload."""
    return Answer(response=response, change=Change(id, metadata, storage))


# What a handler may ask for.


class Stream(Protocol):
    """The bytes of a stored upload, for async handlers. Each iteration reads from the start."""

    @property
    def length(self) -> int: ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """All bytes in order, in pieces of at most 1 MiB."""
        ...

    async def read(self, start: int = 0, end: int | None = None) -> bytes:
        """The bytes from `start` up to, not including, `end`; held in memory at once."""
        ...


class SyncStream(Protocol):
    """The same for plain functions, and as a file for what reads files."""

    @property
    def length(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...

    def read(self, start: int = 0, end: int | None = None) -> bytes: ...

    def open(self) -> BinaryIO:
        """A file of these bytes for csv, zipfile, gzip, pandas and the like; reading it loads no more than it needs."""
        ...


class HookError(Exception):
    """A hook could not do its work. A handler may raise it to say so in its own words.

    `retry_after_seconds`: not to be tried again sooner. `is_final`: trying again cannot help.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, is_final: bool = False) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.is_final = is_final


@dataclass(frozen=True, slots=True)
class Handler:
    """One function of a hook, and which parameters it names."""

    event: str
    function: Callable[..., Any]
    parameters: tuple[str, ...]

    @property
    def is_async(self) -> bool:
        """Also of an object whose __call__ is async."""
        call = getattr(self.function, "__call__", None)  # noqa: B004 - not whether, but which
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(call)


class Hook:
    """The handlers of one hook. `settings` is a frozen dataclass whose fields are what its user may set; a
    `__post_init__` of it that raises ValueError refuses values. Order: handlers of one event run as they are written.
    """

    def __init__(self, settings: type | None = None) -> None:
        if settings is not None and not is_dataclass(settings):
            raise TypeError(f"settings of a hook are a dataclass, not {settings!r}")
        self.settings = settings
        self.handlers: list[Handler] = []

    def on(self, *events: str) -> Callable[[F], F]:
        """Call the decorated function for these events."""
        for event in events:
            if event not in EVENTS:
                raise ValueError(f"there is no event {event!r}; there are {', '.join(EVENTS)}")
        if not events:
            raise ValueError(f"name an event, as in @hook.on('post-finish'); there are {', '.join(EVENTS)}")

        def register(function: F) -> F:
            for event in events:
                self.handlers.append(Handler(event, function, self._parameters(event, function)))
            return function

        return register

    def _has(self, name: str, event: str) -> bool:
        return {"stream": event in _WITH_BYTES, "settings": self.settings is not None}.get(name, name in PARAMETERS)

    def _parameters(self, event: str, function: Callable[..., Any]) -> tuple[str, ...]:
        name = getattr(function, "__name__", repr(function))
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{name} has a yield, and nobody would run it: return the answer")
        needed = []
        for each in inspect.signature(function).parameters.values():
            if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
                continue
            if each.default is not each.empty and not self._has(each.name, event):
                continue  # it has something to go on with
            if each.name not in PARAMETERS or each.kind is each.POSITIONAL_ONLY:
                raise TypeError(f"{name} needs {each.name!r}, which nobody has; there are {', '.join(PARAMETERS)}")
            if each.name == "stream" and event not in _WITH_BYTES:
                raise TypeError(f"{name} needs stream, but at {event} there are no bytes; at {', '.join(_WITH_BYTES)}")
            if each.name == "settings" and self.settings is None:
                raise TypeError(f"{name} needs settings, but the hook declares none: Hook(settings=...)")
            needed.append(each.name)
        return tuple(needed)
