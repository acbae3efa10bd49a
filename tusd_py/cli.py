"""The command `tusd-py`: serves, or prints settings, help or version.

It turns settings into an app and a server and says when it is ready. What the settings are is left to `config`, what
is printed about them to `reference`, and how HTTP is spoken to `app` and `server`.
"""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from collections.abc import Callable, Sequence

from tusd_py import __version__
from tusd_py.config import SETTINGS, Config, load
from tusd_py.config.reference import config_file, help_text
from tusd_py.config.sources import read_arguments
from tusd_py.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 2 for a wrong setting, else what serving returned."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        return _run(argv)
    except ConfigError as error:
        message = " ".join(str(error).splitlines())
        sys.stderr.write(f"tusd-py: error: {message}\n")
        return 2


def _run(argv: Sequence[str]) -> int:
    arguments = read_arguments(argv, SETTINGS)
    if arguments.is_help_wanted:
        return _print(help_text(shutil.get_terminal_size().columns))
    if arguments.is_version_wanted:
        return _print(f"tusd-py {__version__}\n")
    is_config_wanted = _is_config_wanted(arguments.words)
    loaded = load(argv)
    if is_config_wanted:
        return _print(config_file(loaded))
    return _serve(loaded.config)


def _is_config_wanted(words: Sequence[str]) -> bool:
    for word in words:
        if word in {"true", "false"}:
            raise ConfigError(
                f"unexpected word {word!r}; after a flag with true|false it needs a =, as in --verbose={word}"
            )
        if word != "config":
            nearest = difflib.get_close_matches(word, ["config", "help", "version"], n=1)
            known = {"config": "config", "help": "--help", "version": "--version"}
            hint = f"did you mean {known[nearest[0]]}?" if nearest else "the only command is config; see tusd-py --help"
            raise ConfigError(f"unknown command {word!r}; {hint}")
    return bool(words)


def _print(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has left (`| head`). Without this, Python complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _serve(config: Config) -> int:
    # Imported here: help and settings are printed without loading a server.
    from tusd_py import logs  # noqa: PLC0415
    from tusd_py.app import create_app  # noqa: PLC0415
    from tusd_py.server.serve import ServeOptions, serve  # noqa: PLC0415

    logs.configure(is_verbose=config.verbose)
    app = create_app(config)
    options = ServeOptions(
        host=config.host,
        port=config.port,
        unix_sock=config.unix_sock,
        tls_certificate=config.tls_certificate,
        tls_key=config.tls_key,
        tls_mode=config.tls_mode,
        base_path=config.base_path,
        max_header_bytes=config.max_header_size,
        shutdown_timeout_seconds=config.shutdown_timeout,
        announce=announcement(config),
    )
    return serve(app, options, on_stop=app.state.uploads.stop)


def announcement(config: Config) -> Callable[[str], None]:
    """What to call with the URL once the server listens. Its first line is for programs that wait for it."""

    def announce(url: str) -> None:
        lines = [f"tusd-py {__version__} is ready: {url}"]
        if config.show_startup_logs:
            directory = os.path.abspath(config.upload_dir)
            lines.append(f"uploads go to {directory} (durability: {config.durability}, locker: {config.locker})")
            lines.append("stop with Ctrl-C; settings: tusd-py config, help: tusd-py --help")
        _print("\n".join(lines) + "\n")

    return announce
