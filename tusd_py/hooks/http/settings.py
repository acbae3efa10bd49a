"""What is set for one receiver, and the checks that need nothing but the settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from tusd_py.core.events import EventType
from tusd_py.errors import ConfigError
from tusd_py.hooks.http.addresses import Allowed, read_allowed

NAMED_BY_CLIENTS = frozenset({EventType.POST_CREATE, EventType.POST_FINISH, EventType.POST_TERMINATE})
"""Events that may go to an address that a client named. It is never asked: it would be asking the client itself."""

_OURS = {
    "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host",
    "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "trailers",
    "transfer-encoding", "upgrade", "webhook-id", "webhook-signature", "webhook-timestamp",
}  # fmt: skip
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSettings:
    """Either `url`, where the operator's receiver is, or `metadata_key`, by which clients name their own.

    - `retries`: after a first try that failed, with `backoff_seconds` before each; `timeout_seconds` is for all.
    - `size_limit_bytes`: the most that is read of an answer's body.
    - `forward_headers`: of the client's request, that are sent as headers too; written as they are named here.
    - `secrets`: of Standard Webhooks, `whsec_...` or `whsk_...`, the newest first.
    - `cloudevents_source`: with it, events are sent as CloudEvents, and this, the URL of our server, is their source.
    - `allowed_hosts`: those that clients may name, as `[http://]host[:port]` with `.example.com` for all below it.
    """

    name: str
    events: frozenset[EventType]
    url: str = field(default="", repr=False)
    retries: int = 3
    backoff_seconds: float = 1.0
    timeout_seconds: float = 15.0
    size_limit_bytes: int = 5120
    max_connections: int = 100
    forward_headers: tuple[str, ...] = ()
    skip_verify: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)
    cloudevents_source: str | None = None
    metadata_key: str = ""
    allowed_hosts: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises ConfigError for what cannot work."""
        if bool(self.url) == bool(self.metadata_key):
            raise ConfigError(f"the receiver {self.name} needs a URL or a metadata key, one of them")
        for word, value, least in (
            ("retries", self.retries, 0),
            ("backoff", self.backoff_seconds, 0),
            ("size limit", self.size_limit_bytes, 1),
            ("most connections", self.max_connections, 1),
        ):
            if value < least:
                raise ConfigError(f"the {word} of the receiver {self.name} is {value}; it is {least} or more")
        if self.timeout_seconds <= 0:
            raise ConfigError(f"the time limit of the receiver {self.name} is {self.timeout_seconds}; it is above 0")
        for header in self.forward_headers:
            if not header or not _TOKEN.issuperset(header):
                raise ConfigError(f"{header!r}, to be forwarded to the receiver {self.name}, is no name of a header")
            if header.lower() in _OURS:
                raise ConfigError(f"{header} is of the connection to the receiver {self.name}; it cannot be forwarded")
        if self.metadata_key:
            self._check_named_by_clients()

    def allowed(self) -> tuple[Allowed, ...]:
        """Raises ConfigError."""
        return tuple(self._allowed(each) for each in self.allowed_hosts)

    def _allowed(self, text: str) -> Allowed:
        try:
            return read_allowed(text)
        except ValueError as error:
            raise ConfigError(f"{text!r}, a host allowed for the receiver {self.name}, {error}") from None

    def _check_named_by_clients(self) -> None:
        if not self.allowed_hosts:
            raise ConfigError(
                f"clients name the receiver {self.name}; list the hosts that they may name: --hooks-http-allowed-hosts"
            )
        if wrong := self.events - NAMED_BY_CLIENTS:
            raise ConfigError(
                f"clients name the receiver {self.name}; it cannot have {', '.join(sorted(wrong))},"
                f" only {', '.join(sorted(NAMED_BY_CLIENTS))}"
            )
        if self.forward_headers:
            raise ConfigError(f"clients name the receiver {self.name}; no headers are forwarded to it")
        if self.skip_verify:
            raise ConfigError(f"clients name the receiver {self.name}; its certificate is always verified")
