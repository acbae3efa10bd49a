"""Where settings come from: the words of a command line, the environment, a TOML file.

Each reader returns, for the settings that were given, the value and its source. Which source wins is `config.load`'s.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tusd_py.config.kinds import Path, Setting, Switch
from tusd_py.errors import ConfigError

PREFIX = "TUSD_PY_"
CONFIG_VARIABLE = "TUSD_PY_CONFIG"

# Known to those who come from tusd, and not here (yet).
TUSD_FLAGS = """
    enable-h2c enable-experimental-protocol filelock-holder-poll-interval filelock-acquirer-poll-interval
    s3-bucket s3-object-prefix s3-endpoint s3-part-size s3-min-part-size s3-max-buffered-parts
    s3-disable-content-hashes s3-disable-ssl s3-concurrent-part-uploads s3-transfer-acceleration s3-log-api-calls
    gcs-bucket gcs-object-prefix gcs-endpoint
    azure-storage azure-container-access-type azure-blob-access-tier azure-object-prefix azure-endpoint
    hooks-enabled-events progress-hooks-interval hooks-dir hooks-http hooks-http-forward-headers hooks-http-retry
    hooks-http-backoff hooks-http-timeout hooks-http-size-limit hooks-http-skip-verify hooks-grpc hooks-grpc-retry
    hooks-grpc-backoff hooks-grpc-secure hooks-grpc-server-tls-certificate hooks-grpc-client-tls-certificate
    hooks-grpc-client-tls-key hooks-grpc-forward-headers hooks-plugin
    expose-pprof pprof-path pprof-block-profile-rate pprof-mutex-profile-rate
    show-greeting request-completion-timeout
"""

# What Kubernetes puts into every pod beside a Service named tusd-py or tusd-py-something; the worst of them,
# TUSD_PY_PORT=tcp://10.0.0.1:8080, is told from a port by its value.
SERVICE_LINK = re.compile(
    r"TUSD_PY_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)"
)


class Given(NamedTuple):
    """A value that somebody gave, and where."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """A command line, taken apart but not yet believed: flags by their bare name, and the other words."""

    texts: dict[str, str]
    words: list[str]

    @property
    def config_file(self) -> str | None:
        return self.texts.get("config")

    @property
    def is_help_wanted(self) -> bool:
        return "help" in self.texts or "h" in self.texts

    @property
    def is_version_wanted(self) -> bool:
        return self.texts.get("version", "false") != "false"


def read_arguments(argv: Sequence[str], settings: Mapping[str, Setting]) -> Arguments:
    """Take a command line apart: `--port 80`, `--port=80`, and the same with one dash, as Go programs have it."""
    alone = {"help", "h", "version"} | {s.key for s in settings.values() if isinstance(s.kind, Switch)}
    known = {"config"} | alone | {s.key for s in settings.values()}
    arguments = Arguments({}, [])
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            arguments.words.append(word)
            continue
        dashed, has_value, value = word.partition("=")
        key = _bare(dashed)
        if key not in known:
            raise _unknown("flag", dashed, key, [f"--{each}" for each in known])
        if not has_value:
            value = "true" if key in alone else _next_value(rest, dashed, known)
        arguments.texts[key] = value
    return arguments


def _bare(dashed: str) -> str:
    return dashed.removeprefix("-").removeprefix("-")


def _next_value(rest: list[str], dashed: str, known: Container[str]) -> str:
    # The next word may begin with a dash (--port -1 earns its own message), but it may not be another flag.
    if not rest or (rest[0].startswith("-") and _bare(rest[0]).partition("=")[0] in known):
        raise ConfigError(f"flag {dashed} needs a value: {dashed} VALUE or {dashed}=VALUE")
    return rest.pop(0)


def read_flags(arguments: Arguments, settings: Mapping[str, Setting]) -> dict[str, Given]:
    """The settings given on the command line; a flag given twice counts as its last."""
    given = {}
    for setting in settings.values():
        if setting.key in arguments.texts:
            where = f"flag {setting.flag}"
            given[setting.name] = Given(setting.read(arguments.texts[setting.key], where), where)
    return given


def read_environment(environ: Mapping[str, str], settings: Mapping[str, Setting]) -> dict[str, Given]:
    """The settings given as TUSD_PY_*; other variables of that prefix are refused, since they are misspelt."""
    by_variable = {s.variable: s for s in settings.values()}
    given = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE or _is_service_link(variable, text):
            continue
        setting = by_variable.get(variable)
        if setting is None:
            key = variable.removeprefix(PREFIX).lower().replace("_", "-")
            raise _unknown("environment variable", variable, key, [*by_variable, CONFIG_VARIABLE])
        where = f"environment {variable}"
        given[setting.name] = Given(setting.read(text, where), where)
    return given


def _is_service_link(variable: str, text: str) -> bool:
    if SERVICE_LINK.fullmatch(variable):
        return True
    return variable.endswith("_PORT") and text.startswith(("tcp://", "udp://", "sctp://"))


def read_file(path: str, settings: Mapping[str, Setting]) -> dict[str, Given]:
    """The settings given in a TOML file; keys with dashes or underscores. Sections are for tables only."""
    by_key = {s.key: s for s in settings.values()}
    given: dict[str, Given] = {}
    for written, value in _parse_file(path).items():
        where = f"file {path}: {written}"
        setting = by_key.get(written.replace("_", "-"))
        if isinstance(value, dict) and (setting is None or dict not in setting.kind.file_types):
            tables = [key for key, each in by_key.items() if dict in each.kind.file_types]
            nearest = difflib.get_close_matches(written.replace("_", "-"), tables, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else "write the keys without one"
            raise ConfigError(f"{where}: sections are not used; {hint}")
        if setting is None:
            raise _unknown(f"key in file {path}:", written, written.replace("_", "-"), by_key)
        if setting.name in given:
            raise ConfigError(f"{where}: given twice, with dashes and with underscores")
        given[setting.name] = Given(_read_toml(setting, value, where), f"file {path}")
    return given


def _parse_file(path: str) -> dict[str, Any]:
    try:
        with open(Path(may_be_empty=False).check(path), "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"file {path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"file {path}: not valid TOML: {error}") from None
    except ValueError as error:
        raise ConfigError(f"file {path!r}: cannot be read: {error}") from None


def _read_toml(setting: Setting, value: object, where: str) -> Any:
    """A TOML value; text and numbers mean what they mean on the command line."""
    if type(value) not in setting.kind.file_types:
        raise ConfigError(f"{where}: {value!r} is wrong; allowed: {setting.kind.allowed}")
    if isinstance(value, list | bool | dict):
        return setting.accept(value, where)
    return setting.read(str(value), where)


def _unknown(what: str, written: str, key: str, known: Iterable[str]) -> ConfigError:
    if key in TUSD_FLAGS.split():
        return ConfigError(f"{written} is a flag of tusd that this version does not have")
    wanted = f"--{key}" if what == "flag" else written
    nearest = difflib.get_close_matches(wanted, known, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else "tusd-py --help lists what there is"
    return ConfigError(f"unknown {what} {written}; {hint}")
