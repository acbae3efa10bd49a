"""Settings: where they come from, which source wins, and what is said about a wrong one."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.config import SETTINGS, Config, load
from tusd_py.config.kinds import MAX_BYTES, MAX_SECONDS, Duration, Permission, Size, Switch
from tusd_py.config.reference import differences_table, help_text, settings_table
from tusd_py.errors import ConfigError

# Every flag of tusd's cmd/tusd/cli/flags.go.
TUSD_FLAGS = """
host port unix-sock base-path behind-proxy enable-h2c tls-certificate tls-key tls-mode enable-experimental-protocol
disable-download disable-termination disable-concatenation max-size disable-cors cors-allow-origin
cors-allow-credentials cors-allow-methods cors-allow-headers cors-max-age cors-expose-headers upload-dir
filelock-holder-poll-interval filelock-acquirer-poll-interval dir-perms file-perms s3-bucket s3-object-prefix
s3-endpoint s3-part-size s3-min-part-size s3-max-buffered-parts s3-disable-content-hashes s3-disable-ssl
s3-concurrent-part-uploads s3-transfer-acceleration s3-log-api-calls gcs-bucket gcs-object-prefix gcs-endpoint
azure-storage azure-container-access-type azure-blob-access-tier azure-object-prefix azure-endpoint
hooks-enabled-events progress-hooks-interval hooks-dir hooks-http hooks-http-forward-headers hooks-http-retry
hooks-http-backoff hooks-http-timeout hooks-http-size-limit hooks-http-skip-verify hooks-grpc hooks-grpc-retry
hooks-grpc-backoff hooks-grpc-secure hooks-grpc-server-tls-certificate hooks-grpc-client-tls-certificate
hooks-grpc-client-tls-key hooks-grpc-forward-headers hooks-plugin expose-metrics metrics-path expose-pprof pprof-path
pprof-block-profile-rate pprof-mutex-profile-rate show-greeting version verbose show-startup-logs log-format
network-timeout shutdown-timeout acquire-lock-timeout request-completion-timeout
""".split()  # noqa: SIM905 - a list of 79 lines would say less

# tusd's defaults, as this package writes them, of the flags both have.
TUSD_DEFAULTS = {
    "host": "0.0.0.0", "port": "8080", "unix-sock": "", "base-path": "/files/", "behind-proxy": "false",
    "tls-certificate": "", "tls-key": "", "tls-mode": "tls12", "disable-download": "false",
    "disable-termination": "false", "disable-concatenation": "false", "max-size": "0", "disable-cors": "false",
    "cors-allow-origin": ".*", "cors-allow-credentials": "false", "cors-allow-methods": "", "cors-allow-headers": "",
    "cors-max-age": "86400", "cors-expose-headers": "", "upload-dir": "./data", "dir-perms": "775",
    "file-perms": "664", "verbose": "true", "show-startup-logs": "true", "network-timeout": "1m",
    "shutdown-timeout": "10s", "acquire-lock-timeout": "20s", "log-format": "text", "expose-metrics": "true",
    "metrics-path": "/metrics", "s3-bucket": "", "s3-object-prefix": "", "s3-endpoint": "", "s3-part-size": "50MiB",
    "s3-min-part-size": "5MiB", "s3-max-buffered-parts": "20", "s3-disable-content-hashes": "false",
    "s3-disable-ssl": "false", "s3-concurrent-part-uploads": "10", "s3-transfer-acceleration": "false",
    "s3-log-api-calls": "false", "hooks-dir": "", "hooks-http": "", "hooks-http-forward-headers": "",
    "hooks-http-retry": "3", "hooks-http-backoff": "1s", "hooks-http-timeout": "15s", "hooks-http-size-limit": "5KiB",
    "hooks-http-skip-verify": "false", "progress-hooks-interval": "1s",
    "hooks-enabled-events": "pre-create,post-create,post-receive,post-terminate,post-finish",
}  # fmt: skip


def refusal(argv=(), environ=None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(argv, environ or {})
    return str(caught.value)


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "tusd.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


# Sources and their order.


def test_defaults_when_nothing_is_given():
    loaded = load([], {})
    assert loaded.config == Config()
    assert loaded.sources == dict.fromkeys(SETTINGS, "default")


def test_flag_beats_environment_beats_file_beats_default(toml):
    path = toml("port = 1\nhost = '::1'\nmax-size = 1\n")
    environ = {"TUSD_PY_PORT": "2", "TUSD_PY_MAX_SIZE": "2"}
    loaded = load(["--config", path, "--port", "3"], environ)
    assert (loaded.config.port, loaded.config.max_size, loaded.config.host) == (3, 2, "::1")
    assert loaded.sources["port"] == "flag --port"
    assert loaded.sources["max_size"] == "environment TUSD_PY_MAX_SIZE"
    assert loaded.sources["host"] == f"file {path}"
    assert loaded.sources["upload_dir"] == "default"


def test_config_file_named_by_the_environment_and_overruled_by_the_flag(toml, tmp_path):
    path = toml("port = 1\n")
    other = tmp_path / "other.toml"
    other.write_text("port = 2\n", encoding="utf-8")
    environ = {"TUSD_PY_CONFIG": path}
    assert load([], environ).config.port == 1
    assert load(["--config", str(other)], environ).config.port == 2
    assert load(["--config="], environ).config.port == 8080


def test_the_process_environment_is_read_when_none_is_given(monkeypatch):
    monkeypatch.setenv("TUSD_PY_PORT", "4321")
    assert load().config.port == 4321


def test_a_wrong_value_is_refused_even_where_a_stronger_source_overrules_it(toml):
    path = toml("port = 99999\n")
    assert f"file {path}: port: '99999'" in refusal(["--config", path, "--port", "1"], {"TUSD_PY_PORT": "2"})
    assert "environment TUSD_PY_PORT: 'x'" in refusal(["--port", "1"], {"TUSD_PY_PORT": "x"})


def test_other_variables_are_nobodys_business():
    assert load([], {"PORT": "x", "TUSD_PORT": "x", "PATH": "/bin"}).config == Config()


def test_what_kubernetes_adds_for_a_service_of_our_name_is_ignored():
    links = {
        "TUSD_PY_SERVICE_HOST": "10.0.0.1",
        "TUSD_PY_SERVICE_PORT": "8080",
        "TUSD_PY_SERVICE_PORT_HTTP": "8080",
        "TUSD_PY_PORT": "tcp://10.0.0.1:8080",
        "TUSD_PY_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "TUSD_PY_PORT_8080_TCP_PROTO": "tcp",
        "TUSD_PY_PORT_8080_TCP_PORT": "8080",
        "TUSD_PY_PORT_8080_TCP_ADDR": "10.0.0.1",
        "TUSD_PY_INSIDE_SERVICE_HOST": "10.0.0.2",
        "TUSD_PY_INSIDE_PORT": "tcp://10.0.0.2:80",
    }
    assert load([], links).config == Config()
    assert load([], links | {"TUSD_PY_HOST": "::"}).config.host == "::"


# Forms of flags.


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--port", "80"], "port", 80),
        (["--port=80"], "port", 80),
        (["-port", "80"], "port", 80),
        (["-port=80"], "port", 80),
        (["-upload-dir", "/srv/a=b"], "upload_dir", "/srv/a=b"),
        (["-upload-dir=/srv/a=b"], "upload_dir", "/srv/a=b"),
        (["-behind-proxy"], "behind_proxy", True),
        (["--behind-proxy"], "behind_proxy", True),
        (["--behind-proxy=true"], "behind_proxy", True),
        (["--behind-proxy=false"], "behind_proxy", False),
        (["-verbose=0"], "verbose", False),
        (["-port=1", "-port=2"], "port", 2),
        (["--upload-dir", "-"], "upload_dir", "-"),
        (["--cors-allow-methods="], "cors_allow_methods", ()),
    ],
)
def test_flags_in_both_styles(argv, name, value):
    assert getattr(load(argv, {}).config, name) == value


@pytest.mark.parametrize("argv", [["--port"], ["--port", "--verbose"], ["--port", "-host=::1"], ["--config"]])
def test_a_flag_without_its_value(argv):
    assert refusal(argv) == f"flag {argv[0]} needs a value: {argv[0]} VALUE or {argv[0]}=VALUE"


# Values of each kind.


@pytest.mark.parametrize(
    ("flag", "text", "value"),
    [
        ("max-size", "0", 0),
        ("max-size", "67108864", 67_108_864),
        ("max-size", "64MiB", 64 * 2**20),
        ("max-size", "64 mib", 64 * 2**20),
        ("max-size", "5GB", 5 * 10**9),
        ("max-size", "1.5GiB", 3 * 2**29),
        ("max-size", "7B", 7),
        ("network-timeout", "30", 30.0),
        ("network-timeout", "0.25", 0.25),
        ("network-timeout", "30s", 30.0),
        ("network-timeout", "5m", 300.0),
        ("network-timeout", "2h", 7200.0),
        ("network-timeout", "1h30m", 5400.0),
        ("expire-after", "7d", 604_800.0),
        ("expire-after", "0", 0.0),
        ("stall-timeout", "500ms", 0.5),
        ("dir-perms", "700", 0o700),
        ("dir-perms", "0750", 0o750),
        ("file-perms", "0o640", 0o640),
        ("trusted-proxies", "10.0.0.0/8, fd00::/8,192.0.2.1", ("10.0.0.0/8", "fd00::/8", "192.0.2.1")),
        ("trusted-proxies", "", ()),
        ("cors-allow-headers", "X-Trace,X-Team", ("X-Trace", "X-Team")),
        ("base-path", "/", "/"),
        ("base-path", "/files", "/files/"),
        ("base-path", "/a/b/", "/a/b/"),
        ("host", "::", "::"),
        ("host", "upload.example.com", "upload.example.com"),
        ("tls-mode", "tls12-strong", "tls12-strong"),
        ("durability", "process", "process"),
        ("unix-sock", "", ""),
        ("verbose", "No", False),
    ],
)
def test_values_as_text(flag, text, value):
    name = flag.replace("-", "_")
    assert getattr(load([f"--{flag}={text}"], {}).config, name) == value
    assert getattr(load([], {SETTINGS[name].variable: text}).config, name) == value


WRONG = [
    ("port", "70000", "from 0 to 65535"),
    ("port", "-1", "from 0 to 65535"),
    ("port", "8_080", "a whole number"),
    ("port", "٨٠", "a whole number"),
    ("port", "", "a whole number"),
    ("max-size", "64MB!", "64KiB"),
    ("max-size", "64M", "no unit 'M'"),
    ("max-size", "0.5B", "not a whole number of bytes"),
    ("max-size", "-1", "64KiB"),
    ("max-size", "9000000PiB", "64KiB"),
    ("max-header-size", "100", "from 4KiB to 16MiB"),
    ("network-timeout", "0", "more than 0"),
    ("network-timeout", "nan", "500ms"),
    ("network-timeout", "5 minutes", "500ms"),
    ("shutdown-timeout", "-1s", "500ms"),
    ("expire-after", "40000d", "at most 36500d"),
    ("tls-mode", "tls11", "tls12 or tls12-strong or tls13"),
    ("durability", "none", "power or process"),
    ("locker", "etcd", "file or memory or redis"),
    ("behind-proxy", "maybe", "true or false"),
    ("dir-perms", "778", "three octal digits"),
    ("dir-perms", "2775", "three octal digits"),
    ("dir-perms", "600", "at least 700 for the owner"),
    ("file-perms", "444", "at least 600 for the owner"),
    ("trusted-proxies", "10.0.0.1/8", "host bits set"),
    ("trusted-proxies", "127.0.0.1,proxy.local", "'proxy.local'"),
    ("trusted-proxies", "127.0.0.1,", "IP addresses and networks"),
    ("cors-allow-headers", "X Y", "'X Y'"),
    ("cors-allow-origin", "(", "unterminated"),
    ("base-path", "", "does not begin with /"),
    ("base-path", "files/", "does not begin with /"),
    ("base-path", "//", "empty segment"),
    ("base-path", "/a//b", "empty segment"),
    ("base-path", "/files//", "empty segment"),
    ("base-path", "/a/../b", "segment '..'"),
    ("base-path", "/a?b", "segment 'a?b'"),
    ("base-path", "/a#b", "segment 'a#b'"),
    ("base-path", "/a b/", "segment 'a b'"),
    ("base-path", "/%2e%2e/", "segment '%2e%2e'"),
    ("base-path", "/{id}/", "segment '{id}'"),
    ("host", "", "an IP address or a host name"),
    ("host", "300.1.1.1", "an IP address or a host name"),
    ("host", "127.0.0.1:80", "without port"),
    ("upload-dir", "", "a path"),
    ("upload-dir", "a\x00b", "control characters"),
    ("upload-dir", "a\udcff", "not UTF-8"),
]


@pytest.mark.parametrize(("flag", "text", "says"), WRONG)
def test_a_wrong_value_names_flag_value_and_what_is_allowed(flag, text, says, toml):
    message = refusal([f"--{flag}={text}"])
    assert message.startswith(f"flag --{flag}: {text!r} is wrong")
    assert says in message
    assert "; allowed: " in message
    assert "\n" not in message
    variable = SETTINGS[flag.replace("-", "_")].variable
    assert refusal([], {variable: text}).startswith(f"environment {variable}: {text!r} is wrong")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('port = "http"', "port: 'http' is wrong; allowed: a whole number"),
        ("port = 80.5", "port: 80.5 is wrong"),
        ("port = true", "port: True is wrong"),
        ("host = 5", "host: 5 is wrong"),
        ('verbose = "yes"', "verbose: 'yes' is wrong; allowed: true or false"),
        ("verbose = 1", "verbose: 1 is wrong"),
        ("network-timeout = nan", "network-timeout: 'nan' is wrong"),
        ("network-timeout = 2020-01-01", "network-timeout: datetime.date"),
        ("trusted-proxies = [1]", "trusted-proxies: [1] is wrong"),
        ("dir-perms = 0o775", "dir-perms: '509' is wrong"),
        ("base_path = 'x'", "base_path: 'x' is wrong"),
        ("max-size = 1\nmax_size = 1", "max_size: given twice"),
        ("[listening]\nport = 1", "listening: sections are not used; write the keys without one"),
        ("[hooks-options.x]\nuse = 'y'", "hooks-options: sections are not used; did you mean hook-options?"),
    ],
)
def test_a_wrong_value_in_the_file_names_file_and_key(line, says, toml):
    path = toml(line)
    assert refusal(["--config", path]).startswith(f"file {path}: {says}")


def test_every_decimal_that_means_a_usable_mode_is_refused_as_its_digits():
    # In a file, `dir-perms = 0o775` arrives as 509: it must never pass as some other mode.
    for mode in (Permission(0o600), Permission(0o700)):
        for value in range(0o1000):
            if value & mode.needed == mode.needed:
                with pytest.raises(ValueError):
                    mode.check(mode.parse(str(value)))


def test_values_of_the_file_in_their_own_types(toml):
    path = toml(
        'max_size = "64MiB"\nnetwork-timeout = 1.5\nsweep-interval = 5\nverbose = false\ndir-perms = 750\n'
        'trusted-proxies = ["10.0.0.0/8", "::1"]\ncors-allow-headers = "A,B"\n'
    )
    config = load(["--config", path], {}).config
    assert config.max_size == 64 * 2**20
    assert (config.network_timeout, config.sweep_interval) == (1.5, 5.0)
    assert config.verbose is False
    assert config.dir_perms == 0o750
    assert config.trusted_proxies == ("10.0.0.0/8", "::1")
    assert config.cors_allow_headers == ("A", "B")


def test_files_that_cannot_be_read(tmp_path, toml):
    missing = str(tmp_path / "missing.toml")
    assert refusal(["--config", missing]) == f"file {missing}: cannot be read: No such file or directory"
    assert "cannot be read: Is a directory" in refusal(["--config", str(tmp_path)])
    assert "not valid TOML: " in refusal(["--config", toml("port = = 1")])
    (tmp_path / "latin.toml").write_bytes(b"host = '\xe9'\n")
    assert "not valid TOML: " in refusal(["--config", str(tmp_path / "latin.toml")])
    assert "control characters" in refusal(["--config", "a\nb"])


# What there is not.


def test_tusd_has_79_flags_and_each_is_known_here():
    assert len(TUSD_FLAGS) == len(set(TUSD_FLAGS)) == 79
    ours = {s.key for s in SETTINGS.values()} | {"version"}
    for flag in TUSD_FLAGS:
        if flag not in ours:
            assert refusal([f"-{flag}=1"]) == f"-{flag} is a flag of tusd that this version does not have"


@pytest.mark.parametrize("flag", ["gcs-bucket", "enable-h2c"])
def test_tusds_flags_are_named_in_every_source(flag, toml):
    ending = "is a flag of tusd that this version does not have"
    variable = "TUSD_PY_" + flag.upper().replace("-", "_")
    assert refusal([f"--{flag}", "x"]) == f"--{flag} {ending}"
    assert refusal([], {variable: "x"}) == f"{variable} {ending}"
    assert refusal(["--config", toml(f"{flag} = 1")]) == f"{flag} {ending}"


def test_unknown_names_suggest_the_nearest(toml):
    assert refusal(["-prot", "80"]) == "unknown flag -prot; did you mean --port?"
    assert refusal(["--upload_dir=x"]) == "unknown flag --upload_dir; did you mean --upload-dir?"
    assert refusal(["--zzzz"]) == "unknown flag --zzzz; tusd-py --help lists what there is"
    message = refusal([], {"TUSD_PY_UPLOADDIR": "x"})
    assert message == "unknown environment variable TUSD_PY_UPLOADDIR; did you mean TUSD_PY_UPLOAD_DIR?"
    path = toml("max-sise = 1")
    assert refusal(["--config", path]) == f"unknown key in file {path}: max-sise; did you mean max-size?"


# Config made in Python.


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().port = 1  # type: ignore[misc]


def test_config_made_in_python_is_normalised():
    config = Config(base_path="/a", trusted_proxies=["::1"], network_timeout=5)  # type: ignore[arg-type]
    assert config.base_path == "/a/"
    assert config.trusted_proxies == ("::1",)
    assert type(config.network_timeout) is float


def test_config_made_in_python_reads_text_as_a_command_line_does():
    config = Config(
        max_size="5GB", expire_after="7d", trusted_proxies="10.0.0.0/8,::1", file_perms="600", verbose="false"
    )  # type: ignore[arg-type]
    assert (config.max_size, config.expire_after, config.file_perms) == (5 * 10**9, 7 * 86_400.0, 0o600)
    assert config.trusted_proxies == ("10.0.0.0/8", "::1")
    assert config.verbose is False


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"port": 70000}, "setting port: 70000 is wrong; allowed: a whole number from 0 to 65535"),
        ({"port": "http"}, "setting port: 'http' is wrong"),
        ({"port": True}, "setting port: True is wrong"),
        ({"max_size": "64 apples"}, "setting max_size: '64 apples' is wrong"),
        ({"max_size": 1.0}, "setting max_size: 1.0 is wrong"),
        ({"network_timeout": "soon"}, "setting network_timeout: 'soon' is wrong"),
        ({"network_timeout": float("nan")}, "setting network_timeout: nan is wrong"),
        ({"network_timeout": float("inf")}, "setting network_timeout: inf is wrong"),
        ({"network_timeout": True}, "setting network_timeout: True is wrong"),
        ({"verbose": 1}, "setting verbose: 1 is wrong"),
        ({"host": b"::1"}, "setting host: b'::1' is wrong"),
        ({"upload_dir": None}, "setting upload_dir: None is wrong"),
        ({"trusted_proxies": "nginx"}, "setting trusted_proxies: 'nginx' is wrong"),
        ({"dir_perms": 775}, "setting dir_perms: 775 is wrong"),
        ({"file_perms": "999"}, "setting file_perms: '999' is wrong"),
        ({"locker": "etcd"}, "setting locker: 'etcd' is wrong"),
        ({"locker": "redis"}, "--locker redis needs --redis-url"),
        ({"jobs": "redis"}, "--jobs redis needs --jobs-redis-url or --redis-url"),
        ({"s3_part_size": "5MiB", "s3_min_part_size": "6MiB"}, "--s3-part-size 5242880 is less than"),
        ({"s3_endpoint": "localhost:9000"}, "setting s3_endpoint: 'localhost:9000' is wrong (does not begin with http"),
        ({"page_path": "/files/x"}, "--page-path /files/x/ lies below --base-path /files/, where the uploads are;"),
        ({"base_path": "/", "page_path": "/x"}, "--page-path /x/ lies below --base-path /, where the uploads are;"),
        ({"base_path": "/page-assets/x"}, "--base-path /page-assets/x/ lies where --page-path / has its files;"),
        ({"page_path": "/a", "base_path": "/a/page-assets"}, "--base-path /a/page-assets/ lies where --page-path /a/"),
        ({"page_path": "/metrics"}, "--page-path /metrics/ and /metrics of the metrics or the probes are one path;"),
        ({"metrics_path": "/"}, "--page-path / and / of the metrics or the probes are one path;"),
        ({"page_path": "/healthz"}, "--page-path /healthz/ and /healthz of the"),
        ({"page_path": "/readyz/"}, "--page-path /readyz/ and /readyz of the"),
        ({"page_path": "/api"}, "--page-path /api/ and /api/, where programs ask, are in each other's way; choose"),
        ({"page_path": "/api/page"}, "--page-path /api/page/ and /api/, where programs ask, are in each other's way;"),
        ({"tls_certificate": "c.pem"}, "--tls-certificate 'c.pem' needs --tls-key"),
        ({"tls_key": "k.pem"}, "--tls-key 'k.pem' needs --tls-certificate"),
    ],
)
def test_config_made_in_python_checks_itself(values, says):
    with pytest.raises(ConfigError) as caught:
        Config(**values)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    "values",
    [
        {"base_path": "/", "page_path": "/"},
        {"base_path": "/a/b", "page_path": "/a"},
        {"base_path": "/files", "page_path": "/files"},
        {"base_path": "/files", "page_path": "/filesystem"},
        {"page_path": "/apis"},
        {"page_path": "/metrics", "metrics_port": 9100},
        {"page_path": "/metrics", "metrics_path": "/m"},
        {"page_path": "/files/x", "disable_page": True},
    ],
)
def test_paths_that_get_along_are_taken(values):
    Config(**values)


def test_certificate_and_key_may_come_from_different_sources(toml):
    path = toml('tls-certificate = "c.pem"')
    config = load(["--config", path, "--tls-key", "k.pem"], {}).config
    assert (config.tls_certificate, config.tls_key) == ("c.pem", "k.pem")
    assert refusal(["--config", path]) == "--tls-certificate 'c.pem' needs --tls-key; set both, or neither"


# Written values read back.


@pytest.mark.parametrize("name", SETTINGS)
def test_every_default_passes_its_own_check_and_reads_back(name):
    setting = SETTINGS[name]
    assert setting.accept(setting.default, name) == setting.default
    assert setting.read(setting.kind.write(setting.default), name) == setting.default
    assert type(setting.default) is type(setting.accept(setting.default, name))


@given(st.integers(0, MAX_BYTES) | st.integers(0, 2**13).map(lambda n: n * 2**40))
def test_sizes_read_back(value):
    assert Size().parse(Size().write(value)) == value


@given(st.floats(1e-9, MAX_SECONDS) | st.integers(0, 10**6).map(lambda n: n / 1000) | st.just(0.0))
def test_durations_read_back(value):
    kind = Duration(may_be_zero=True)
    assert kind.check(kind.parse(kind.write(value))) == value


@given(st.text())
def test_any_text_is_a_value_or_a_value_error(text):
    for kind in {type(s.kind): s.kind for s in SETTINGS.values()}.values():
        try:
            value = kind.check(kind.parse(text))
        except ValueError:
            continue
        assert kind.check(kind.parse(kind.write(value))) == value


# Help and tables.


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_explains_itself_everywhere(name):
    setting = SETTINGS[name]
    assert setting.help_text.endswith(".")
    default = setting.kind.write(setting.default) or "none"
    joint = "=" if isinstance(setting.kind, Switch) else " "
    lines = re.sub(r",\n {6}(?=[a-z-]+[,)])", ",", help_text(80))  # a long list goes on in the next line
    lines = lines.replace(", ", ",") if len(default) > 50 else lines
    assert f"  {setting.flag}{joint}{setting.kind.placeholder}  (default: {default})\n" in lines
    assert settings_table().count(f"| `{setting.flag}` | `{default}` | ") == 1


def test_every_default_that_is_not_tusds_says_so():
    rows = differences_table().splitlines()[2:]
    named = {row.split("`")[1].removeprefix("--") for row in rows}
    for setting in SETTINGS.values():
        if setting.key in TUSD_DEFAULTS:
            is_different = setting.kind.write(setting.default) != TUSD_DEFAULTS[setting.key]
            assert (setting.key in named) == is_different == bool(setting.differs)
    assert {"host", "expire-after", "trusted-proxies", "durability"} <= named
    assert set(TUSD_DEFAULTS) == {s.key for s in SETTINGS.values()} & set(TUSD_FLAGS)


@pytest.mark.parametrize("table", [settings_table, differences_table])
def test_tables_have_three_cells_in_every_row(table):
    for row in table().splitlines():
        assert row.replace(r"\|", "").count("|") == 4


@pytest.mark.parametrize(("columns", "widest"), [(80, 80), (100, 100), (1000, 100)])
def test_help_fits_the_terminal(columns, widest):
    assert max(len(line) for line in help_text(columns).splitlines()) <= widest


def test_explanations_fit_a_narrow_terminal():
    explanations = [line for line in help_text(60).splitlines() if line.startswith(" " * 6)]
    assert len(explanations) > len(SETTINGS)
    assert max(len(line) for line in explanations) <= 60
