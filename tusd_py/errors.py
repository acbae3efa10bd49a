"""Every error this package raises on purpose, and what it means on the wire.

    TusError                    has an ERR_* code, an HTTP status and a message for the client
    ├── RequestError            the client asked for something that is wrong or impossible (4xx)
    ├── Interrupted             the request was cut short; what arrived is kept and may be resumed
    ├── Refused                 a policy said no
    └── BackendError            a store, locker or hook failed; the message is fixed, details go to the log
    ConfigError                 a wrong setting; raised at start-up and never reaches HTTP

Codes and statuses are tusd's where the tus text or its clients do not need another; each difference says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType


class TusError(Exception):
    """An error with a meaning for the client.

    `code` is stable and machine-readable, `status` the HTTP status, `message` one sentence that names what was
    wrong. `headers` are extra response headers. `body`, if there is one, is said instead of code and message: a hook
    chose it.
    """

    code = "ERR_INTERNAL_SERVER_ERROR"
    status = 500

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.body = body
        self.code = code or type(self).code
        self.status = status or type(self).status
        self.headers = dict(headers or {})


class RequestError(TusError):
    """The request is wrong, or cannot be carried out on this upload as it is."""

    code = "ERR_INVALID_REQUEST"
    status = 400


class Interrupted(TusError):
    """The body ended early; the bytes that arrived are stored and the client may go on from the new offset.

    423 and 503, not tusd's 400 and 500: tus-js-client retries a PATCH on 423, 409 and 5xx only, and an
    interrupted upload is exactly what should be retried.
    """

    code = "ERR_UPLOAD_INTERRUPTED"
    status = 423


class Refused(TusError):
    """The request is well formed, but a rule of this server does not allow it."""

    code = "ERR_UPLOAD_REJECTED"
    status = 403


class Stopped(Interrupted):
    """A hook ended the upload while its bytes came; it is removed. 400 as in tusd: no client tries that again."""

    code = "ERR_UPLOAD_STOPPED"
    status = 400


class BackendError(TusError):
    """The store, the locker or a hook failed. `message` is all the client sees; the cause is chained for the log."""

    status = 500

    def __init__(
        self,
        message: str = "the storage failed; the offset acknowledged so far is unharmed",
        *,
        code: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message, code=code, status=status)


class HookFailed(BackendError):
    """A hook that must be heard could not be. 503, where tusd has 500: every client tries that again, too, and nobody
    takes it for a defect of the server."""

    code = "ERR_HOOK_FAILED"
    status = 503


class ConfigError(Exception):
    """A setting that cannot work: names the flag, the value and what is allowed."""


def upload_not_found() -> RequestError:
    """404: no such upload, or the backend has lost it (tus K10, K18, D3)."""
    return RequestError("upload not found", code="ERR_UPLOAD_NOT_FOUND", status=404)


def upload_locked() -> RequestError:
    """423: another request holds the upload and did not let go in time (tusd answers 500 here, which ends a client)."""
    return RequestError("the upload is in use by another request", code="ERR_UPLOAD_LOCKED", status=423)


def upload_exists() -> RequestError:
    """409: a hook chose an id for a new upload that another one has."""
    return RequestError("there is an upload with the id chosen for this one", code="ERR_UPLOAD_EXISTS", status=409)


def storage_full() -> BackendError:
    """507: there is no room for more bytes."""
    return BackendError(
        "no space left to store uploads; the offset acknowledged so far is unharmed",
        code="ERR_INSUFFICIENT_STORAGE",
        status=507,
    )


def mismatched_offset(current: int) -> RequestError:
    """409 (tus K15); carries the current offset, which the unreleased tus 1.1 asks for and no client minds."""
    return RequestError(
        f"Upload-Offset does not match: the upload is at {current}",
        code="ERR_MISMATCHED_OFFSET",
        status=409,
        headers={"Upload-Offset": str(current)},
    )


def size_exceeded() -> RequestError:
    """413: the body goes past the declared length of the upload."""
    return RequestError("the body goes past the upload's length", code="ERR_UPLOAD_SIZE_EXCEEDED", status=413)


def max_size_exceeded(limit: int) -> RequestError:
    """413 (tus C10): longer than this server takes."""
    return RequestError(f"longer than the {limit} bytes allowed here", code="ERR_MAX_SIZE_EXCEEDED", status=413)


def server_shutdown() -> Interrupted:
    """503: the server is stopping; the bytes so far are stored."""
    return Interrupted("the server is shutting down, try again soon", code="ERR_SERVER_SHUTDOWN", status=503)


class Translation:
    """A context: what is raised inside is given to `translate`, which raises what it becomes, or returns: it passes.

    Keeps no state, so one serves all who are in it at once.
    """

    __slots__ = ("_translate",)

    def __init__(self, translate: Callable[[BaseException], None]) -> None:
        self._translate = translate

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._translate(error)
