"""The command `tusd-py`: serves, checks a bucket or a server, uploads, or prints settings, help or version.

It turns settings into an app and a server, or into workers and their supervisor, and says when it is ready. What the
settings are is left to `config`, what is printed about them to `reference`, and how HTTP is spoken to `app` and
`server`.
"""

from __future__ import annotations

import difflib
import gc
import logging
import math
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tusd_py import __version__, authoring, checking, client, logs, queueing
from tusd_py.bundled import bundled
from tusd_py.client import streams
from tusd_py.client.answers import shown
from tusd_py.config import SETTINGS, Config, environment, from_texts, load, to_texts
from tusd_py.config.reference import config_file, help_text
from tusd_py.config.sources import read_arguments
from tusd_py.errors import ConfigError

if TYPE_CHECKING:
    from tusd_py.server.bounds import Bounds
    from tusd_py.server.lifeline import Lifeline
    from tusd_py.server.supervise import Settings

FEW_CONNECTIONS = 1000

# Not for users: with the descriptor of a lifeline, this is how a supervisor starts a worker.
WORKER = "serving-worker"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 2 for a wrong setting, else what serving returned."""
    streams.open_missing()
    is_program = argv is None
    argv = sys.argv[1:] if argv is None else argv
    try:
        if len(argv) == 2 and argv[0] == WORKER and argv[1].isdigit():
            return _work(int(argv[1]))
        return _run(argv, _own_command() if is_program else None)
    except ConfigError as error:
        message = shown(" ".join(str(error).splitlines()))
        streams.write(sys.stderr, f"tusd-py: error: {message}\n")
        return 2


def _own_command() -> list[str]:
    """How this process was started, without the words that are the user's: the interpreter's flags belong to it."""
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv[1:])]]


def _run(argv: Sequence[str], command: Sequence[str] | None) -> int:
    if client.is_check_of_server(argv) or client.is_upload(argv):
        return _be_client(argv)
    if list(argv[:1]) == [authoring.NAME]:
        return authoring.run(argv[1:], _print)
    arguments = read_arguments(argv, SETTINGS)
    first = arguments.words[0] if arguments.words else ""
    if arguments.is_help_wanted:
        return _print(_help(first))
    if arguments.is_version_wanted:
        return _print(f"tusd-py {__version__}\n")
    if first in queueing.HELP:
        return queueing.run(arguments.words, load(argv).config, _print)
    if first == checking.NAME:
        return checking.run(arguments.words[1:], load(argv).config, _print)
    is_config_wanted = _is_config_wanted(arguments.words)
    loaded = load(argv)
    if is_config_wanted:
        return _print(config_file(loaded))
    config = loaded.config
    if config.workers == 1 or (config.workers == 0 and "memory" in (config.locker, config.jobs)):
        return _serve(config)
    return _supervise(config, argv, command or [sys.executable, "-m", "tusd_py"])


def _help(word: str) -> str:
    if word == checking.NAME:
        return checking.HELP
    text = help_text(shutil.get_terminal_size().columns)
    return queueing.HELP.get(word, f"{text}\n{checking.SUMMARY}\n{authoring.SUMMARY}\n{queueing.SUMMARY}\n")


def _be_client(argv: Sequence[str]) -> int:
    """These speak with servers that may be anybody's: settings do not count, and they have words of their own."""
    from tusd_py.client import check, upload  # noqa: PLC0415

    if client.is_upload(argv):
        return upload.run(argv[1:], environment.state_folder(), _tell)
    return check.run(argv[1:], checking.HELP, _tell)


def _is_config_wanted(words: Sequence[str]) -> bool:
    for word in words:
        if word in {"true", "false"}:
            raise ConfigError(
                f"unexpected word {word!r}; after a flag with true|false it needs a =, as in --verbose={word}"
            )
        if word == client.UPLOAD:
            raise ConfigError(f"the word {word} comes first: tusd-py {word} FILE... URL")
        if word == authoring.NAME:
            raise ConfigError(f"the word {word} comes first: tusd-py {word} {'|'.join(authoring.COMMANDS)}")
        if word != "config":
            commands = ("check", "config", "hooks", "jobs", "upload", "worker")
            known = {**dict(zip(commands, commands, strict=True)), "help": "--help", "version": "--version"}
            nearest = difflib.get_close_matches(word, known, n=1)
            hint = (
                f"did you mean {known[nearest[0]]}?"
                if nearest
                else "the commands are check, config, hooks, jobs, upload and worker; see tusd-py --help"
            )
            raise ConfigError(f"unknown command {word!r}; {hint}")
    return bool(words)


def _print(text: str) -> int:
    why = streams.why_untold(_tell, text)
    if why:
        streams.write(sys.stderr, f"tusd-py: error: {why}\n")
    return 1 if why else 0


def _tell(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Without this, Python complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # that is a reader who has left, as in `| head`
            raise


def _serve(config: Config, lifeline: Lifeline | None = None) -> int:
    # Imported here: help and settings are printed without loading a server.
    from tusd_py.app import create_app  # noqa: PLC0415
    from tusd_py.server import notify  # noqa: PLC0415
    from tusd_py.server.cores import count_cores  # noqa: PLC0415
    from tusd_py.server.serve import ServeOptions, serve  # noqa: PLC0415

    logs.configure(is_verbose=config.verbose, form=config.log_format)
    if lifeline is None:
        app = create_app(config)
    else:
        app = create_app(config, slot=lifeline.orders.slot, shared_folder=lifeline.orders.folder)
    announce = announcement(config)
    notify_address = environment.notify_address()

    def say_ready(url: str) -> None:
        announce(url)
        notify.tell(notify_address, notify.READY)

    def stop() -> None:
        if lifeline is None:
            notify.tell(notify_address, notify.STOPPING)
        app.state.uploads.stop()

    options = ServeOptions(
        host=config.host,
        port=config.port,
        unix_sock=config.unix_sock,
        tls_certificate=config.tls_certificate,
        tls_key=config.tls_key,
        tls_mode=config.tls_mode,
        base_path=config.base_path,
        shutdown_timeout_seconds=config.shutdown_timeout,
        bounds=_bounds(config, workers=1 if lifeline is None else config.workers or count_cores()),
        counter=app.state.metrics,
        operations=app.state.operations,
        operations_port=config.metrics_port,
        announce=say_ready if lifeline is None else None,
        refusal=lambda: app.state.refusal,
    )
    _calm_collector()
    return serve(app, options, on_stop=stop, lifeline=lifeline)


def _calm_collector() -> None:
    """What is here now stays, and requests leave few circles: looking for them all the time costs a twentieth."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _bounds(config: Config, workers: int) -> Bounds:
    """The share of one of `workers`; connections spread evenly, but not exactly."""
    from tusd_py.server.bounds import Bounds, allow_open_files  # noqa: PLC0415

    connections = math.ceil(config.max_connections / workers)
    has_files_for = allow_open_files(connections)
    if has_files_for < connections:
        logs.event(
            logging.getLogger("tusd_py.server"),
            "FewOpenFiles",
            level=logging.WARNING if has_files_for < FEW_CONNECTIONS else logging.INFO,
            connections=has_files_for * workers,
            advice="fewer than max-connections: raise the limit of open files (ulimit -n) to twice that per worker",
        )
    per_address = config.max_connections_per_address or max(config.max_connections // 2, 1)
    return Bounds(
        head_seconds=config.header_timeout,
        keep_alive_seconds=config.keep_alive_timeout,
        write_seconds=config.write_timeout,
        answer_seconds=config.answer_timeout,
        max_header_bytes=config.max_header_size,
        max_requests=config.max_requests,
        max_connections=has_files_for,
        max_connections_per_address=math.ceil(per_address / workers),
        trusted=config.trusted_networks,
    )


def _work(descriptor: int) -> int:
    """Serve as one of several, as the supervisor at the other end of `descriptor` orders."""
    import faulthandler  # noqa: PLC0415

    from tusd_py.server.lifeline import Lifeline  # noqa: PLC0415

    try:
        lifeline = Lifeline(descriptor)
    except (OSError, ValueError):
        raise ConfigError(f"{WORKER!r} is not for you: it is how tusd-py starts its own workers") from None
    faulthandler.enable()  # if we hang, the supervisor sends SIGABRT
    try:
        return _serve(from_texts(lifeline.orders.settings), lifeline)
    except ConfigError as error:
        return lifeline.refuse(str(error), 2)
    finally:
        if lifeline.is_orphan:
            shutil.rmtree(lifeline.orders.folder, ignore_errors=True)


def _supervise(config: Config, argv: Sequence[str], command: Sequence[str]) -> int:
    from tusd_py.server.cores import count_cores  # noqa: PLC0415
    from tusd_py.server.supervise import Plan, supervise  # noqa: PLC0415

    logs.configure(is_verbose=config.verbose, form=config.log_format)
    announce = announcement(config)
    plan = Plan(
        command=[*command, WORKER],
        environment=environment.inherited(),
        count=config.workers or count_cores(),
        host=config.host,
        port=config.port,
        unix_sock=config.unix_sock,
        settings=_settings(config),
        reload=lambda: _reload(config, argv),
        announce=lambda listeners: announce(listeners.url(config.base_path, is_tls=bool(config.tls_certificate))),
        notify_address=environment.notify_address(),
        operations_port=config.metrics_port,
    )
    return supervise(plan)


def _settings(config: Config) -> Settings:
    from tusd_py.server.supervise import Settings  # noqa: PLC0415

    return Settings(to_texts(config), config.shutdown_timeout)


def _reload(old: Config, argv: Sequence[str]) -> Settings:
    """The settings as they are now. Raises ConfigError, also for a change that new workers cannot make."""
    new = load(argv).config
    for name in ("host", "port", "unix_sock", "metrics_port", "workers"):
        if getattr(new, name) != getattr(old, name):
            flag = SETTINGS[name].flag
            raise ConfigError(f"{flag} was changed, which needs a restart: it is read only once")
    for flag, value in (("--locker", new.locker), ("--jobs", new.jobs)):
        if value == "memory":
            raise ConfigError(f"{flag} memory is for one process, and there is a supervisor; it needs a restart")
    return _settings(new)


def _place(config: Config) -> str:
    if config.s3_bucket:
        return f"s3://{config.s3_bucket}/{config.s3_object_prefix} (at {config.s3_endpoint or 'Amazon'}"
    return f"{os.path.abspath(config.upload_dir)} (durability: {config.durability}"


def announcement(config: Config) -> Callable[[str], None]:
    """What to call with the URL once the server listens. Its first line is for programs that wait for it."""
    from tusd_py.server.sockets import LOOPBACK  # noqa: PLC0415

    def announce(url: str) -> None:
        lines = [f"tusd-py {__version__} is ready: {url}"]
        if config.show_startup_logs:
            if not config.disable_page and url.startswith("http"):
                state = "" if bundled("static") else ", which was not built (open it to see how)"
                lines.append(f"the page for people{state}: {url.removesuffix(config.base_path)}{config.page_path}")
            if config.host in LOOPBACK and url.startswith("http"):
                lines.append("others reach it by the names and addresses of this machine")
            lines.append(f"uploads go to {_place(config)}, locker: {config.locker})")
            lines.append("stop with Ctrl-C; settings: tusd-py config, help: tusd-py --help")
        _print("\n".join(lines) + "\n")

    return announce
