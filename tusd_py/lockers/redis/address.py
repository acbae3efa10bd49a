"""Where Redis is: the URL of a server, of a Sentinel's service or of a Cluster, and the client for it.

redis-py is imported here, and only when a client is made. Nothing is connected. A password never leaves this module:
not in an error, not in `Address.shown`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from importlib import util
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from tusd_py.errors import ConfigError

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

CONNECT_SECONDS = 1.0
_SENTINEL_PATIENCE = {"socket_timeout": 0.4, "socket_connect_timeout": 0.4}  # there may be dead ones among them
_NODE_PATIENCE = {"socket_timeout": 0.6, "socket_connect_timeout": 0.3}  # one that hangs keeps nobody from the others

_FORMS = (
    "allowed are redis://[[user]:password@]host[:port][/db], the same with rediss:// for TLS, "
    "unix://[[user]:password@]/path[?db=0], redis+sentinel://host:port,host:port/service[/db] "
    "and redis+cluster://host:port,host:port; rediss+sentinel:// and rediss+cluster:// for TLS"
)
_PORTS = {"sentinel": 26379, "cluster": 6379, "": 6379}
_TLS_OPTIONS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}


@dataclass(frozen=True, slots=True)
class Address:
    """A URL that was read. `shown` is what logs may say of it."""

    shown: str
    form: str  # "", "sentinel", "cluster" or "unix"
    hosts: list[tuple[str, int]]
    service: str = ""
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)

    def client(self) -> Redis | RedisCluster:
        try:
            import redis.asyncio as library  # noqa: PLC0415
        except ImportError as error:
            raise ConfigError("Redis needs the package redis: pip install 'tusd-py[redis]'") from error
        from redis.asyncio.sentinel import Sentinel  # noqa: PLC0415

        options = self.options | _habits()
        if self.form == "cluster":
            nodes = [library.cluster.ClusterNode(host, port) for host, port in self.hosts]
            return library.RedisCluster(startup_nodes=nodes, **options | _NODE_PATIENCE)
        if self.form == "sentinel":
            tls = {name: value for name, value in self.options.items() if name.startswith("ssl")}
            asking = _habits() | _SENTINEL_PATIENCE | tls | self.sentinel_options
            sentinel = Sentinel(self.hosts, sentinel_kwargs=asking, **options)  # type: ignore[no-untyped-call]
            client: Redis = sentinel.master_for(self.service)
            return client
        if self.form == "unix":
            return library.Redis(**options)
        return library.Redis(host=self.hosts[0][0], port=self.hosts[0][1], **options)

    async def listener(self, client: Redis | RedisCluster) -> Redis:
        """A client for subscriptions. Each node of a Cluster hears what is published at any."""
        import redis.asyncio as library  # noqa: PLC0415

        if isinstance(client, library.Redis):
            return client
        await client.initialize()
        node = random.choice(client.get_primaries())  # noqa: S311
        return library.Redis(host=node.host, port=int(node.port), **self.options, **_habits())


async def close(client: Redis | RedisCluster) -> None:
    """With its connections to the Sentinels, which redis-py would leave open."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for each in [client, *(manager.sentinels if manager is not None else [])]:
        await each.aclose()


def _habits() -> dict[str, Any]:
    """Retries and time limits are ours (`connection`), since redis-py would add them up to minutes."""
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    # To tell Redis about redis-py costs round trips, and a look at the disk to learn its version.
    if util.find_spec("redis.driver_info"):
        nameless: dict[str, Any] = {"driver_info": None}
    else:
        nameless = {"lib_name": None, "lib_version": None}
    return nameless | {
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": True,
        "protocol": 2,
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_SECONDS,
    }


def parse(url: str) -> Address:
    """Raises ConfigError, which says what is wrong and what is allowed."""
    try:
        parts = urlsplit(url)
        return _parse(parts)
    except ValueError as error:
        raise ConfigError(f"the Redis URL is wrong: {error}; {_FORMS}") from None


def _parse(parts: SplitResult) -> Address:
    scheme, _, form = parts.scheme.partition("+")
    if scheme == "unix" and not form:
        form = "unix"
    elif scheme not in ("redis", "rediss") or form not in _PORTS or parts.scheme.endswith("+"):
        raise ValueError(f"unknown scheme {parts.scheme[:20]!r}")
    if parts.fragment:
        raise ValueError("it has a '#', which a password must have as %23")
    credentials, _, hosts = parts.netloc.rpartition("@")
    options = _credentials(credentials)
    if scheme == "rediss":
        options["ssl"] = True
    query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    sentinel_options = {"password": query.pop("sentinel_password")} if _has_sentinel_password(form, query) else {}
    path = unquote(parts.path)
    if form == "unix":
        options |= {"unix_socket_path": _socket_path(hosts, path), "db": _database(query.pop("db", ""))}
        shown, named, service = f"unix://{path}", [], ""
    else:
        named = [_host(each, _PORTS[form]) for each in hosts.split(",")]
        if form == "" and len(named) > 1:
            raise ValueError("several hosts, which only Sentinels and a Cluster have")
        service, database = _service(form, path)
        if form != "cluster":
            options["db"] = _database(database)
        elif database:
            raise ValueError("a Cluster has no database number")
        shown = f"{parts.scheme}://{hosts}{parts.path}"
    return Address(shown, form, named, service, options | _tls(scheme, query), sentinel_options)


def _has_sentinel_password(form: str, query: dict[str, str]) -> bool:
    return form == "sentinel" and "sentinel_password" in query


def _credentials(text: str) -> dict[str, Any]:
    user, _, password = text.partition(":")
    given = {"username": unquote(user), "password": unquote(password)}
    if given["username"] and not given["password"]:
        raise ValueError("a user without a password (a password alone is written :password@host)")
    return {name: value for name, value in given.items() if value}


def _socket_path(hosts: str, path: str) -> str:
    if hosts or not path.startswith("/") or path == "/":
        raise ValueError("a Unix socket needs an absolute path")
    return path


def _host(text: str, default_port: int) -> tuple[str, int]:
    host, colon, port = text, "", ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
    elif ":" in text:
        host, colon, port = text.partition(":")
    if not host:
        raise ValueError("a host is missing")
    if not colon:
        return host, default_port
    # What stands for a port may be a part of a password with a sign that should have been escaped: not shown.
    if colon != ":" or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("a port is not a number from 1 to 65535 (signs like / ? # @ in a password must be %-escaped)")
    return host, int(port)


def _service(form: str, path: str) -> tuple[str, str]:
    words = path.strip("/").split("/") if path.strip("/") else []
    if form == "sentinel":
        if not words:
            raise ValueError("the name of the Sentinels' service is missing")
        return words[0], "/".join(words[1:])
    return "", "/".join(words)


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError(f"the database {text[:20]!r} is not a number")
    return int(text or 0)


def _tls(scheme: str, query: dict[str, str]) -> dict[str, Any]:
    for name in query:
        if name not in _TLS_OPTIONS:
            raise ValueError(f"unknown option {name[:30]!r}; options are {', '.join(sorted(_TLS_OPTIONS))} (for TLS)")
        if scheme != "rediss":
            raise ValueError(f"the option {name} is for TLS, with rediss://")
    options: dict[str, Any] = dict(query)
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = options["ssl_check_hostname"].lower() in ("true", "yes", "1")
    if options.get("ssl_cert_reqs", "required") not in ("none", "optional", "required"):
        raise ValueError("ssl_cert_reqs is none, optional or required")
    return options
