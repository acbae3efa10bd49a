"""Which hooks there are by the settings, and in what order they are asked: a part of the composition root.

How each kind of hook is reached is left to the transports, what they are owed to `jobs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tusd_py.config import Config, environment
from tusd_py.config.hooks import EVENTS, check_event
from tusd_py.config.kinds import Choice, Duration, Kind, Listing, Number, Text
from tusd_py.core.events import EventType
from tusd_py.errors import ConfigError
from tusd_py.hooks import finding, settings
from tusd_py.hooks.contract import Hook, Upload
from tusd_py.hooks.dispatch import Listener
from tusd_py.hooks.executable import Executable, find_in_folder
from tusd_py.hooks.http.settings import NAMED_BY_CLIENTS, ReceiverSettings
from tusd_py.hooks.http.transport import Receiver
from tusd_py.hooks.inprocess import InProcess
from tusd_py.hooks.reading import Bytes
from tusd_py.hooks.transport import Transport

OpenStream = Callable[[Upload], Bytes]

_LATER_SECONDS = 1.0
"""A receiver keeps its limit itself, and says more about what happened until then."""

CLIENTS = "clients"
"""What the receivers are known by that clients name."""

_KINDS: dict[str, Kind] = {
    "use": Text("where the hook is: a name, a module, a path, or an address"),
    "events": Listing("events, as a list or separated by commas: " + ", ".join(EVENTS), check_event),
    "on_failure": Choice("fail", "allow"),
    "timeout": Duration(may_be_zero=False),
    "job_timeout": Duration(may_be_zero=False),
    "concurrency": Number(1, 1000),
}


@dataclass(frozen=True, slots=True)
class Options:
    """What is said of one hook in hook-options; None and empty: nothing."""

    use: str = ""
    events: tuple[str, ...] = ()
    on_failure: str = ""
    timeout: float | None = None
    job_timeout: float | None = None
    concurrency: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str, table: Mapping[str, object]) -> Options:
        """Raises ConfigError."""
        found: dict[str, Any] = {}
        for written, value in table.items():
            key, where = written.replace("-", "_"), f"hook-options, {name}, {written}"
            if key == "settings" and isinstance(value, Mapping):
                found[key] = value
            elif kind := _KINDS.get(key):
                found[key] = _accepted(kind, value, where)
            else:
                if key == "settings":
                    raise ConfigError(f"{where}: it is no table; write [hook-options.{name}.settings]")
                known = ", ".join([*_KINDS, "settings"]).replace("_", "-")
                own = f"what the hook itself declares belongs in [hook-options.{name}.settings]"
                raise ConfigError(f"{where}: there is no such option; there are {known}; {own}")
        return cls(**found)


def _accepted(kind: Kind, value: object, where: str) -> Any:
    try:
        return kind.check(kind.parse(value) if isinstance(value, str) else value)
    except ValueError as error:
        reason = f" ({error})" if str(error) else ""
        raise ConfigError(f"{where}: {value!r} is wrong{reason}; allowed: {kind.allowed}") from None


def make_listeners(config: Config, open_stream: OpenStream) -> list[Listener]:
    """Every hook, in the order in which they are asked: those of `hooks`, of `hooks-dir`, of `hooks-http`, of clients.

    Raises ConfigError for one that is not there or cannot be. Blocking: it imports authors' modules.
    """
    house = _House(config, open_stream)
    listeners = list(house.listeners())
    names = [each.name for each in listeners]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"there are several hooks called {name}; name each once, and one of them otherwise: another word in"
                " --hooks, and where it is as use in [hook-options.WORD]"
            )
    for name in config.hook_options:
        if name not in names:
            known = ", ".join(names) or "none"
            raise ConfigError(f"hook-options, {name}: there is no hook of this name; there are: {known}")
    return listeners


class _House:
    def __init__(self, config: Config, open_stream: OpenStream) -> None:
        self._config = config
        self._open_stream = open_stream
        self._options = {name: Options.read(name, table) for name, table in config.hook_options.items()}
        self._enabled = frozenset(EventType(each) for each in config.hooks_enabled_events)

    def listeners(self) -> Iterator[Listener]:
        config = self._config
        for use in config.hooks:
            yield self._listener(self._named(use))
        if config.hooks_dir:
            in_python = finding.find_in_folder(config.hooks_dir)
            programs = find_in_folder(Path(config.hooks_dir), self._enabled, environment.inherited())
            if not in_python and not programs:  # the wrong folder looks like one whose hooks say yes to all
                finding.warn_of_empty(config.hooks_dir)
            for name, hook in in_python:
                yield self._listener(self._in_process(name, hook))
            for each in programs:
                yield self._listener(each)
        for url in config.hooks_http:
            yield self._listener(self._receiver(shown(url), url))
        if config.hooks_http_metadata_key:
            yield self._listener(self._clients())

    def _listener(self, transport: Transport) -> Listener:
        config, options = self._config, self._option(transport.name)
        if options.events and isinstance(transport, InProcess):
            raise ConfigError(f"hook-options, {transport.name}, events: a hook in Python says itself which it wants")
        is_http = isinstance(transport, Receiver)
        timeout = options.timeout or (config.hooks_http_timeout if is_http else config.hooks_timeout)
        if is_http:
            timeout += _LATER_SECONDS
        return Listener(
            transport,
            timeout_seconds=timeout,
            job_timeout_seconds=options.job_timeout or (timeout if is_http else config.hooks_job_timeout),
            is_required=(options.on_failure or config.hooks_on_failure) == "fail",
            concurrency=options.concurrency or config.hooks_concurrency,
        )

    def _option(self, name: str) -> Options:
        return self._options.get(name, Options())

    def _events(self, name: str) -> frozenset[EventType]:
        return frozenset(EventType(each) for each in self._option(name).events) or self._enabled

    def _named(self, use: str) -> Transport:
        """A hook of `hooks`: what it is shows in how it is written."""
        place = self._option(use).use or use
        if place.startswith(("http://", "https://")):
            return self._receiver(use if place != use else shown(place), place)
        path = Path(place)
        if "/" in place and not place.endswith(("/", ".py")) and ":" not in place and path.is_file():
            return Executable(use, path.absolute(), self._events(use), environment.inherited())
        name, hook = finding.find(place)
        return self._in_process(use if place != use else name, hook)

    def _in_process(self, name: str, hook: Hook) -> InProcess:
        given = self._option(name).settings
        where = f"settings of {name} ([hook-options.{name}.settings])"
        if hook.settings is None and given:
            raise ConfigError(f"{where}: this hook has no settings")
        filled = settings.fill(hook.settings, given, where) if hook.settings is not None else None
        return InProcess(name, hook, filled, self._open_stream)

    def _receiver(self, name: str, url: str) -> Receiver:
        config = self._config
        settings = self._receiver_settings(name, self._events(name))
        headers, skips = config.hooks_http_forward_headers, config.hooks_http_skip_verify
        return Receiver(replace(settings, url=url, forward_headers=headers, skip_verify=skips))

    def _clients(self) -> Receiver:
        """Those that clients name: they get no headers, and their certificates are always verified."""
        config = self._config
        settings = self._receiver_settings(CLIENTS, self._events(CLIENTS) & NAMED_BY_CLIENTS)
        key, hosts = config.hooks_http_metadata_key, config.hooks_http_allowed_hosts
        return Receiver(replace(settings, metadata_key=key, allowed_hosts=hosts))

    def _receiver_settings(self, name: str, events: frozenset[EventType]) -> ReceiverSettings:
        """What all receivers have in common."""
        config = self._config
        return ReceiverSettings(
            name=name,
            events=events,
            retries=config.hooks_http_retry,
            backoff_seconds=config.hooks_http_backoff,
            timeout_seconds=self._option(name).timeout or config.hooks_http_timeout,
            size_limit_bytes=config.hooks_http_size_limit,
            secrets=config.hooks_http_secrets,
            cloudevents_source=config.hooks_http_cloudevents or None,
        )


def shown(url: str) -> str:
    """What a receiver is known by: its address, without what may be a secret."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"
