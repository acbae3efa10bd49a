"""Every setting: its name, default and help, and what values work together.

`Config` may be made in Python, where it checks itself, or by `load` from flags > environment > file > defaults.
Only this folder reads the environment, and only `app` and `cli` read a Config: they hand plain values on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from tusd_py.config import hooks, paths, storage
from tusd_py.config.kinds import (
    Choice,
    Duration,
    Host,
    Listing,
    Number,
    Path,
    Regex,
    Setting,
    Size,
    Switch,
    UrlPath,
    check_host,
    check_network,
    check_token,
    setting,
    settings_of,
)
from tusd_py.config.sources import (
    CONFIG_VARIABLE,
    Given,
    read_arguments,
    read_environment,
    read_file,
    read_flags,
)
from tusd_py.errors import ConfigError

LISTENING, WORKERS, PROTOCOL, STATUS, CORS, TIMEOUTS, LOGGING = (
    "Listening", "Workers", "Protocol", "Page and status", "CORS (browsers on other sites)", "Timeouts and bounds",
    "Logs and metrics",
)  # fmt: skip
GROUPS = (LISTENING, WORKERS, PROTOCOL, STATUS, CORS, *storage.GROUPS, *hooks.GROUPS, TIMEOUTS, LOGGING)

SWITCH = Switch()
NAMES = Listing("names of HTTP, separated by commas", check_token)
HOSTS = Listing("names of hosts, without scheme and port, separated by commas", check_host)
PROXIES = Listing("IP addresses and networks such as 10.0.0.0/8, separated by commas", check_network)


@dataclass(frozen=True, kw_only=True)
class Config(storage.Storage, hooks.Hooks):
    """The settings of one server. Sizes are bytes, times are seconds; a wrong value raises ConfigError."""

    host: str = setting(
        "127.0.0.1", Host(), LISTENING,
        "Address to listen on. 127.0.0.1 takes connections from this machine only; 0.0.0.0 or :: from everywhere.",
        differs="tusd: 0.0.0.0. A server without access control should not be reachable from outside before somebody"
        " says so.",
    )  # fmt: skip
    port: int = setting(
        8080, Number(0, 65535), LISTENING,
        "TCP port to listen on. 0 takes a free one; the first line of output says which.",
    )  # fmt: skip
    unix_sock: str = setting(
        "", Path(may_be_empty=True), LISTENING,
        "Unix socket to listen on. When set, it wins: host and port are not used.",
    )  # fmt: skip
    base_path: str = setting(
        "/files/", UrlPath(), LISTENING,
        "URL path where uploads are created. With or without the slash at its end.",
    )  # fmt: skip
    behind_proxy: bool = setting(
        False, SWITCH, LISTENING,
        "A proxy stands in front: take scheme and host of upload URLs from its X-Forwarded-Proto, X-Forwarded-Host and"
        " Forwarded headers. They are believed from trusted-proxies only.",
    )  # fmt: skip
    trusted_proxies: tuple[str, ...] = setting(
        ("127.0.0.1", "::1"), PROXIES, LISTENING,
        "Who may send the headers that behind-proxy reads: IP addresses and networks, such as 10.0.0.0/8,::1.",
        differs="tusd: no such setting; with behind-proxy it believes X-Forwarded-* from everybody, so that any client"
        " may choose the URLs it is answered.",
    )  # fmt: skip
    tls_certificate: str = setting(
        "", Path(may_be_empty=True), LISTENING,
        "PEM file with the certificate and its chain. Together with tls-key it turns on HTTPS; without both: plain"
        " HTTP.",
    )  # fmt: skip
    tls_key: str = setting(
        "", Path(may_be_empty=True), LISTENING,
        "PEM file with the private key of tls-certificate.",
    )  # fmt: skip
    tls_mode: str = setting(
        "tls12", Choice("tls12", "tls12-strong", "tls13"), LISTENING,
        "Oldest TLS that is spoken. tls12: 1.2 and newer; tls12-strong: of 1.2 only ciphers with forward secrecy and"
        " authenticated encryption; tls13: 1.3 only.",
    )  # fmt: skip

    workers: int = setting(
        0, Number(0, 1024), WORKERS,
        "Processes that serve. 0: one for each core that this process may use; more gain nothing. Each takes 25 MiB,"
        " and twice that while it receives a hundred uploads. A supervisor of 12 MiB beside them replaces one that dies"
        " or hangs, and on SIGHUP all of them one after the other, with settings and certificates read anew and no"
        " request lost."
        " 1: one process and no supervisor; for containers that are started again when they end, for debuggers, and"
        " where memory is scarce.",
    )  # fmt: skip

    max_size: int = setting(
        0, Size(), PROTOCOL,
        "Longest upload allowed, in bytes. Longer ones are refused with 413. 0: no limit.",
    )  # fmt: skip
    digest: str = setting(
        "none", Choice("none", "sha256", "sha512"), PROTOCOL,
        "Digest of each finished upload, kept in its record and told by HEAD and GET (Repr-Digest). Computed as the"
        " bytes come, 0.6 s of CPU a GiB; read once more where they came to several processes, or parts were joined.",
        differs="tusd: no such setting.",
    )  # fmt: skip
    disable_download: bool = setting(
        False, SWITCH, PROTOCOL, "Do not serve finished uploads by GET.",
    )  # fmt: skip
    disable_termination: bool = setting(
        False, SWITCH, PROTOCOL, "Do not let clients remove uploads by DELETE.",
    )  # fmt: skip
    disable_concatenation: bool = setting(
        False, SWITCH, PROTOCOL, "Do not let clients upload in parallel parts that are joined at the end.",
    )  # fmt: skip
    expire_after: float = setting(
        7 * 86_400.0, Duration(may_be_zero=True), PROTOCOL,
        "Remove unfinished uploads that nobody touched for this long; clients are told in Upload-Expires. Only uploads"
        " whose client was told are ever removed: never finished ones, never ones that tusd wrote. 0: never.",
        differs="tusd: never. Uploads that their clients gave up would fill the disk in the end; a week outlasts a"
        " long weekend.",
    )  # fmt: skip
    sweep_interval: float = setting(
        600.0, Duration(may_be_zero=False), PROTOCOL,
        "How often expired uploads are looked for. Costs in proportion to the unfinished uploads.",
        differs="tusd: no such setting; it removes nothing by itself.",
    )  # fmt: skip

    page_path: str = setting(
        "/", UrlPath(), STATUS,
        "URL path of the page, on which people send files from a browser and watch uploads. It may be base-path itself,"
        " but not lie below it.",
        differs="tusd: no such setting; its page at / only says what the server is.",
    )  # fmt: skip
    disable_page: bool = setting(
        False, SWITCH, STATUS, "Serve no such page.",
    )  # fmt: skip
    expose_api: bool = setting(
        False, SWITCH, STATUS,
        "Tell programs the state of uploads, as JSON and as live events, at api-path. With the page it is always on."
        " Whoever has an upload's URL may ask; nobody gets a list of all (list-uploads).",
        differs="tusd: no such setting.",
    )  # fmt: skip
    api_path: str = setting(
        "/api/", UrlPath(), STATUS,
        "URL path of that. A browser opened there shows what can be asked.",
    )  # fmt: skip
    list_uploads: bool = setting(
        False, SWITCH, STATUS,
        "Tell everybody who can reach the server of all uploads, with their URLs, by which they can be downloaded and"
        " removed. For servers that only trusted people can reach.",
        differs="tusd: no such setting.",
    )  # fmt: skip
    list_hosts: tuple[str, ...] = setting(
        (), HOSTS, STATUS,
        "Names of this server, as in files.example.com, by which it gives that list without TLS, too. By its address"
        " and by names without a dot it always does. Anybody can point a name of their own at this server; their page"
        " could then read the list through its visitors' browsers.",
    )  # fmt: skip

    disable_cors: bool = setting(
        False, SWITCH, CORS, "Send no CORS headers; pages of other sites can then not upload here.",
    )  # fmt: skip
    cors_allow_origin: str = setting(
        ".*", Regex(), CORS,
        "Regular expression for the sites whose pages may upload, as in https://(app|www)\\.example\\.com. It must"
        " match the whole origin; tusd's may match a part, where a forgotten $ lets strangers in. .* allows all."
        " Others get 403.",
    )  # fmt: skip
    cors_allow_credentials: bool = setting(
        False, SWITCH, CORS,
        "Let those pages send cookies and logins. Narrow cors-allow-origin first: with .* any site could act in its"
        " visitors' names.",
    )  # fmt: skip
    cors_allow_methods: tuple[str, ...] = setting(
        (), NAMES, CORS, "More methods to allow, beside those of tus.",
    )  # fmt: skip
    cors_allow_headers: tuple[str, ...] = setting(
        (), NAMES, CORS, "More request headers to allow, beside those of tus.",
    )  # fmt: skip
    cors_max_age: int = setting(
        86_400, Number(0, 2**31 - 1), CORS,
        "Seconds for which a browser may remember what is allowed. 86400: a day, and browsers cap it themselves.",
    )  # fmt: skip
    cors_expose_headers: tuple[str, ...] = setting(
        (), NAMES, CORS, "More response headers that pages may read, beside those of tus.",
    )  # fmt: skip

    network_timeout: float = setting(
        60.0, Duration(may_be_zero=False), TIMEOUTS,
        "Longest silence of a client in the middle of a body. Then the request ends; its bytes are kept. 2,000 clients"
        " that stop hold about 90 MiB for a minute, and no upload that somebody else asks for (stall-timeout).",
    )  # fmt: skip
    least_rate: int = setting(
        64, Size(), TIMEOUTS,
        "Fewest bytes a second of a body, judged over each network-timeout; below it the request ends, its bytes are"
        " kept. 64: whoever holds 2,000 uploads open for nothing must send 128 KB/s for it, and the slowest of modems"
        " still passes. 0: no limit.",
        differs="tusd: no such setting; one byte in each network-timeout holds an upload for ever.",
    )  # fmt: skip
    header_timeout: float = setting(
        30.0, Duration(may_be_zero=False), TIMEOUTS,
        "Longest time for the head of a request, and for the first one after connecting. 2,000 connections that send no"
        " more than a line hold about 20 MiB for 30 s, and then nothing.",
        differs="tusd: no such setting; it waits for a head as long as for a body, a minute.",
    )  # fmt: skip
    keep_alive_timeout: float = setting(
        75.0, Duration(may_be_zero=False), TIMEOUTS,
        "How long a connection may wait for its next request. Longer than the 60 s of nginx and the big load balancers,"
        " so that they close first and never send a request into a connection that is being closed. A thousand clients"
        " a minute that come once leave 1,250 idle connections, 17 MiB.",
    )  # fmt: skip
    write_timeout: float = setting(
        60.0, Duration(may_be_zero=False), TIMEOUTS,
        "How long a client may take no byte of its answer. Then the connection is cut. Until then an unread answer"
        " holds about 0.38 MiB: 256 KiB that the kernel has not sent yet, and what waits behind that here.",
        differs="tusd: no such setting; network-timeout bounds a whole answer, also a long download that goes well.",
    )  # fmt: skip
    answer_timeout: float = setting(
        300.0, Duration(may_be_zero=False), TIMEOUTS,
        "Longest time from the end of a body to its answer. A storage that takes longer goes on, and the upload stays"
        " locked meanwhile, but its client is told 503 and asks for the offset later. 5 minutes: 100 GB of partial"
        " uploads joined at 350 MB/s.",
        differs="tusd: no such setting; the connection of a client that waits for a slow storage is dropped.",
    )  # fmt: skip
    max_connections: int = setting(
        16_384, Number(1, 1_000_000), TIMEOUTS,
        "Most connections at once, over all workers; more are answered 503 and closed. Each worker takes an equal"
        " share, and connections spread over them only roughly: some may be refused a little earlier. An idle one costs"
        " 9 to 14 KiB, one in mid-upload 45 KiB and two open files: 16,384 uploads at once are about 720 MiB and 32,768"
        " files.",
        differs="tusd: no limit but that of open files, at which it stops answering anybody.",
    )  # fmt: skip
    max_connections_per_address: int = setting(
        0, Number(0, 1_000_000), TIMEOUTS,
        "Most connections at once from one address (of IPv6: one /64 network). 0: half of max-connections, so that no"
        " single client can take them all: 8,192 idle ones are 112 MiB at most. Like those, they are shared out to the"
        " workers. Trusted proxies and unix sockets are not counted.",
        differs="tusd: no such setting.",
    )  # fmt: skip
    max_requests: int = setting(
        10_000, Number(1, 2**31 - 1), TIMEOUTS,
        "Most requests on one connection; the answer to the last one closes it. A new connection costs 0.1 ms, a"
        " hundredth of a microsecond for each of 10,000 requests, and lets new workers get their share.",
    )  # fmt: skip
    max_unwanted_body: int = setting(
        65_536, Size(), TIMEOUTS,
        "Longest body of a request that needs none, such as HEAD or DELETE: some clients send a few bytes. Longer ones"
        " are refused with 413 before they are read. 64 KiB is what the kernel has taken from the network anyway.",
    )  # fmt: skip
    shutdown_timeout: float = setting(
        10.0, Duration(may_be_zero=True), TIMEOUTS,
        "How long running requests may take to end after SIGTERM or Ctrl-C. Their bytes are kept either way.",
    )  # fmt: skip
    max_header_size: int = setting(
        65_536, Size(4_096, 16 * 2**20), TIMEOUTS,
        "Longest head of a request, in bytes. Metadata and lists of parts travel in it. 1,000 clients that each send"
        " one slowly hold 64 MiB, for header-timeout.",
        differs="tusd: no such setting; Go's 1 MiB. 64 KiB holds over a thousand parts, and a flood of"
        " connections 16 times less memory.",
    )  # fmt: skip

    verbose: bool = setting(
        True, SWITCH, LOGGING, "Log one line for each event. Errors are logged in any case.",
    )  # fmt: skip
    log_format: str = setting(
        "text", Choice("text", "json"), LOGGING,
        "How log lines look: text for people, json for programs, one object a line.",
    )  # fmt: skip
    expose_metrics: bool = setting(
        True, SWITCH, LOGGING,
        "Count what happens and show it to Prometheus at metrics-path, for all workers together. Costs about 2 of the"
        " 100 microseconds of a small request.",
    )  # fmt: skip
    metrics_path: str = setting(
        "/metrics", UrlPath(is_folder=False), LOGGING,
        "URL path of the metrics.",
    )  # fmt: skip
    metrics_port: int = setting(
        0, Number(0, 65535), LOGGING,
        "TCP port of their own for metrics-path, /healthz and /readyz, on the same host, that no bound on connections"
        " applies to; they are then not served where the uploads are. 0: they are served there.",
        differs="tusd: no such setting; everybody who may upload may read the metrics.",
    )  # fmt: skip
    tracing: bool = setting(
        False, SWITCH, LOGGING,
        "One OpenTelemetry span for each request, none for its pieces, sent by OTLP over HTTP as the variables OTEL_*"
        " say. Needs pip install 'tusd-py[otel]'. Costs 25 microseconds a request.",
        differs="tusd: no such setting.",
    )  # fmt: skip
    show_startup_logs: bool = setting(
        True, SWITCH, LOGGING,
        "Print where uploads go and how to stop. The first line, with the URL, is printed in any case: other programs"
        " wait for it.",
    )  # fmt: skip

    @property
    def trusted_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Whose word is taken for who the client is: the trusted proxies, if there is one at all."""
        return tuple(map(ip_network, self.trusted_proxies)) if self.behind_proxy else ()

    @property
    def has_api(self) -> bool:
        return self.expose_api or self.list_uploads or not self.disable_page

    def __post_init__(self) -> None:
        for name, each in SETTINGS.items():
            object.__setattr__(self, name, each.accept(getattr(self, name), f"setting {name}"))
        if self.tls_certificate and not self.tls_key:
            raise ConfigError(f"--tls-certificate {self.tls_certificate!r} needs --tls-key; set both, or neither")
        if self.tls_key and not self.tls_certificate:
            raise ConfigError(f"--tls-key {self.tls_key!r} needs --tls-certificate; set both, or neither")
        if self.has_api and self.base_path.startswith(self.api_path):
            raise ConfigError(f"--base-path {self.base_path!r} lies in --api-path {self.api_path!r}: move one of them")
        if self.s3_part_size < self.s3_min_part_size:
            sizes = f"{self.s3_part_size} is less than --s3-min-part-size {self.s3_min_part_size}"
            raise ConfigError(f"--s3-part-size {sizes}: the storage would refuse the parts")
        self._check_shared()
        if not self.disable_page:
            watched = () if self.metrics_port else ("/healthz", "/readyz", self.metrics_path)
            paths.check_page(self.page_path, self.base_path, self.api_path, watched)

    def _check_shared(self) -> None:
        """What processes share."""
        if self.locker == "redis" and not self.redis_url:
            raise ConfigError("--locker redis needs --redis-url, as in redis://127.0.0.1:6379")
        if self.locker == "memory" and self.workers > 1:
            raise ConfigError(f"--locker memory is for one process; use --locker file for --workers {self.workers}")
        if self.jobs == "redis" and not (self.jobs_redis_url or self.redis_url):
            raise ConfigError("--jobs redis needs --jobs-redis-url or --redis-url, as in redis://127.0.0.1:6379")
        if self.jobs == "memory" and self.workers > 1:
            raise ConfigError(f"--jobs memory is for one process; use --jobs sqlite for --workers {self.workers}")


SETTINGS: dict[str, Setting] = settings_of(Config, GROUPS)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A Config, and for each setting where its value comes from."""

    config: Config
    sources: dict[str, str]


def to_texts(config: Config) -> dict[str, str]:
    """Every setting as text, for another process; `from_texts` makes the same Config of it."""
    return {name: each.kind.write(getattr(config, name)) for name, each in SETTINGS.items()}


def from_texts(texts: Mapping[str, str]) -> Config:
    return Config(**{name: SETTINGS[name].read(text, f"setting {name}") for name, text in texts.items()})


def load(argv: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> Loaded:
    """Settings from flags, environment and file; a source is checked also where a stronger one overrules it.

    Words of `argv` that are not flags, --help and --version are the caller's.
    """
    environ = os.environ if environ is None else environ
    arguments = read_arguments(argv, SETTINGS)
    path = environ.get(CONFIG_VARIABLE, "") if arguments.config_file is None else arguments.config_file
    given: dict[str, Given] = read_file(path, SETTINGS) if path else {}
    given |= read_environment(environ, SETTINGS)
    given |= read_flags(arguments, SETTINGS)
    config = Config(**{name: value for name, (value, _) in given.items()})
    return Loaded(config, {name: given[name].source if name in given else "default" for name in SETTINGS})
