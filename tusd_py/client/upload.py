"""The command `tusd-py upload`: sends files to a tus server, for people and scripts without a browser."""

from __future__ import annotations

import argparse
import mimetypes
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from io import BufferedReader
from typing import TYPE_CHECKING

from tusd_py.client import UPLOAD as NAME
from tusd_py.client import streams
from tusd_py.client.bookmark import Taken
from tusd_py.client.interruption import end_at_once
from tusd_py.client.progress import Progress
from tusd_py.client.words import Words, dashed, endpoint, kept
from tusd_py.config.kinds import Duration, Size
from tusd_py.errors import ConfigError

if TYPE_CHECKING:
    from tusd_py.client.sending import Sender

HELP = f"""\
usage: tusd-py {NAME} FILE... http[s]://host/files/ [flags]

Sends files to a tus server, this one or another, and shows how far they are. After a cut, and while the server is away,
it tries again and goes on where the server is; after Ctrl-C or a crash the same command does. The URL of each upload is
printed on standard output, all else on standard error.

Examples:
  tusd-py {NAME} data.parquet https://up.example.com/files/
  tusd-py {NAME} *.csv https://up.example.com/files/ --metadata project=apollo --header 'Authorization: Bearer x'
  url=$(tusd-py {NAME} model.safetensors https://up.example.com/files/)

Flags:
  --chunk-size SIZE     most that one request brings (default: 64MiB; with --checksum 8MiB). Less for proxies that limit
                        bodies, or collect them: tusd-py check URL finds these
  --metadata KEY=VALUE  told with the file, beside filename and filetype; may be given several times
  --header TEXT         send this header to that host, as in 'Authorization: Bearer x'; may be given several times
  --checksum            send the SHA-1 of each chunk, which the server verifies; a cut then costs the whole chunk
  --retry-for TIME      once the server has answered: how long to try again without a single byte getting through
                       (default: 10m; 0: not at all)
  --log-format FORM     text, or json: one object a line on standard error
  --help                print this and exit

What was begun is remembered below $XDG_STATE_HOME (else ~/.local/state), by path, size and time of change of the file,
for a month. Where the server tells a digest (tusd-py --digest sha256), it is compared with the file's at the end.
REQUESTS_CA_BUNDLE names the certificates to trust, where those that come with Python's requests are not right.
It needs tuspy: pip install 'tusd-py[client]'

Exit codes: 0 all are there; 1 some are not, and why is said; 2 wrong words; 130 interrupted by Ctrl-C
"""

_INTERRUPTED = 130
_CHUNK_BYTES = 64 << 20
_CHECKED_CHUNK_BYTES = 8 << 20


def run(argv: Sequence[str], state_folder: str, tell: Callable[[str], object]) -> int:
    """`argv` are the words after the command. Returns the exit code; raises ConfigError for code 2."""
    given = _read(argv)
    if given.help:
        tell(HELP)
        return 0
    *paths, url = given.words or [""]
    if not paths:
        raise ConfigError(f"what is to be sent, and where to? tusd-py {NAME} FILE... URL")
    sender: Sender | None = None
    try:
        sender = _sender(given, endpoint(url), os.path.join(state_folder, "tusd-py", "uploads"))
        with sender.session:
            sent = [_sent(sender, path, name, tell) for path, name in zip(paths, _names(paths), strict=True)]
        return 0 if all(sent) else 1
    except KeyboardInterrupt:
        end_at_once()
        if sender is not None:
            progress = sender.progress
            progress.clear()
            onwards = "the same command goes on from there" if sender.is_kept else "the same command starts anew"
            progress.say(f"interrupted at {progress.percent}%; {onwards}", "interrupted")
        return _INTERRUPTED


def _read(argv: Sequence[str]) -> argparse.Namespace:
    words = Words(f"tusd-py {NAME}", HELP)
    words.add_argument("words", nargs="*")
    words.add_argument("--chunk-size", type=kept(Size(1)))
    words.add_argument("--metadata", action="append", default=[], type=_pair)
    words.add_argument("--checksum", action="store_true")
    words.add_argument("--retry-for", type=kept(Duration(may_be_zero=True)), default=600.0)
    return words.parse_intermixed_args(dashed(argv, words))


def _pair(text: str) -> tuple[str, str]:
    key, joint, value = text.partition("=")
    if not joint or not key or not key.isascii() or not key.isprintable() or set(key) & {" ", ","}:
        raise argparse.ArgumentTypeError(
            f"{text!r} is wrong; write key=value, the key of visible ASCII without blank or comma"
        )
    return key, value


def _sender(given: argparse.Namespace, url: str, folder: str) -> Sender:
    try:
        from tusd_py.client.sending import Order, Sender  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("tusclient", "requests"):
            raise
        raise ConfigError(f"tusd-py {NAME} needs tuspy: pip install 'tusd-py[client]'") from None
    order = Order(
        endpoint=url,
        headers=dict(given.header),
        metadata=dict(given.metadata),
        chunk_bytes=given.chunk_size or (_CHECKED_CHUNK_BYTES if given.checksum else _CHUNK_BYTES),
        retry_seconds=given.retry_for,
        has_checksums=given.checksum,
        state_folder=folder,
    )
    return Sender(order, Progress(sys.stderr, is_json=given.log_format == "json"))


def _names(paths: Sequence[str]) -> list[str]:
    """What people are told of each: the last part of its path, or all where others end alike."""
    counts = Counter(map(_last_part, paths))
    return [last if counts[last := _last_part(path)] == 1 else _text(path) for path in paths]


def _last_part(path: str) -> str:
    return _text(os.path.basename(path) or path)


def _text(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


def _sent(sender: Sender, path: str, shown_name: str, tell: Callable[[str], object]) -> bool:
    """Whether that file is there now; what went wrong is said."""
    from tusd_py.client.transfer import Trouble  # noqa: PLC0415  (needs tuspy)

    name, progress = _last_part(path), sender.progress
    progress.begin(shown_name, _text(path), 0)
    try:
        with _opened(path) as file:
            progress.begin(shown_name, _text(path), os.fstat(file.fileno()).st_size)
            if sender.order.has_checksums:
                sender.check_checksums()
            filetype, _ = mimetypes.guess_type(name)
            guessed = {"filename": name} | ({"filetype": filetype} if filetype else {})
            url = sender.send(path, file, {**guessed, **sender.order.metadata})
    except Trouble as trouble:
        return _failed(progress, str(trouble))
    except Taken:
        return _failed(progress, "another tusd-py is sending this file to the same address: let it, or end it first")
    except OSError as error:
        return _failed(progress, f"cannot be read: {(error.strerror or str(error)).lower()}")
    progress.end(url)
    if why := streams.why_untold(tell, f"{url}\n"):
        progress.say(f"sent to {url}, but {why}")
    return not why


def _opened(path: str) -> BufferedReader:
    """Raises OSError with words of ours for what is no file."""
    if path == "-":
        raise OSError(None, "standard input has no length; save it to a file first")
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise OSError(None, f"it is a directory; give its files, as in {os.path.join(path, '*')}")
    if not stat.S_ISREG(mode):
        raise OSError(None, "it is no regular file")
    return open(path, "rb")


def _failed(progress: Progress, why: str) -> bool:
    progress.clear()
    progress.say(f"not sent: {why}", "failed")
    return False
