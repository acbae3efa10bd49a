"""Other people's ASGI servers with our application in them, each a process of its own, and what each does differently.
One of them, `uvicorn-tusd-py`, is uvicorn's command with our protocol class, and does nothing differently.

Whoever wants one gives a folder, in which it works and keeps its log, and the source of the application. What a server
answers by itself, before our code sees anything, is listed here and not in the cases, which ask for what is right.
"""

from __future__ import annotations

import fnmatch
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.server.supervised import free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 20.0
STOP_SECONDS = 15.0

COMMANDS: dict[str, tuple[str, ...]] = {
    "uvicorn-tusd-py": ("uvicorn", "served:app", "--http", "tusd_py.server.protocol:TusProtocol", "--port", "{port}"),
    "uvicorn-httptools": ("uvicorn", "served:app", "--http", "httptools", "--port", "{port}"),
    "uvicorn-h11": ("uvicorn", "served:app", "--http", "h11", "--port", "{port}"),
    "hypercorn": ("hypercorn", "served:app", "--bind", "127.0.0.1:{port}"),
    "granian": ("granian", "--interface", "asgi", "--port", "{port}", "served:app"),
}

FOREIGN = tuple(name for name in COMMANDS if name != "uvicorn-tusd-py")

APPLICATION = """
from tusd_py import Config, create_app

app = create_app(Config(upload_dir="uploads", max_size=1 << 30))
"""


@dataclass(frozen=True)
class AsgiServer:
    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def check_log(self) -> None:
        """No request got as far as an exception in our code that nobody expected; others keep their own house."""
        for trace in re.split(r"^(?=Traceback)", self.log, flags=re.MULTILINE)[1:]:
            assert f"{os.sep}tusd_py{os.sep}" not in trace, trace[:5000]

    @property
    def memory_bytes(self) -> int:
        """Resident, of the process and those it started."""
        return sum(_resident_bytes(pid) for pid in _family(self.process.pid))


@contextmanager
def run_asgi_server(
    name: str, folder: Path, source: str = APPLICATION, flags: Sequence[str] = ()
) -> Iterator[AsgiServer]:
    """The server `name` of COMMANDS with the `app` of a module that has this `source`."""
    (folder / "served.py").write_text(source)
    port = free_port()
    command = [sys.executable, "-m", *(part.format(port=port) for part in COMMANDS[name]), *flags]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TUSD_PY_")}
    environment["PYTHONPATH"] = os.pathsep.join((str(folder), str(ROOT)))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    server = AsgiServer(process, port, folder)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _listens(port):
            assert process.poll() is None, server.log[-4000:]
            assert time.monotonic() < deadline, server.log[-4000:]
            time.sleep(0.05)  # the only sign that they all give
        yield server
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    server.check_log()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _family(pid: int) -> Iterator[int]:
    yield pid
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in tasks.read_text().split():
            yield from _family(int(child))


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Difference:
    """Cases, by names with wildcards, that these servers do not stand, and why."""

    why: str
    servers: tuple[str, ...]
    cases: tuple[str, ...]


HTTPTOOLS, H11, HYPERCORN, GRANIAN = (
    ("uvicorn-httptools",),
    ("uvicorn-h11",),
    ("hypercorn",),
    ("granian",),
)  # fmt: skip
BY_H11 = H11 + HYPERCORN

_FIELD = "test_malformed_header_field_is_400_and_changes_nothing"
_FRAMING = "test_conflicting_framing_is_refused_and_nothing_smuggled"
_CHUNK = "test_bad_chunk_is_refused_and_keeps_only_what_was_framed_well"
_GARBAGE = "test_garbage_instead_of_a_request_line"

ONLY_OURS = (
    Difference(
        "only our server rescues the last bytes before a cut",
        FOREIGN,
        (
            "test_K20_F10_every_byte_that_was_sent_is_kept*",
            "test_K20_F10_chunked_body_is_kept_too*",
            "test_K20_many_interruptions_of_one_upload",
            "test_K20_interrupted_upload_of_deferred_length",
        ),
    ),
)

THEIR_OWN = (
    Difference(
        "heads have no bound",
        HTTPTOOLS,
        (
            "test_head_of_*_is_refused[[]one value]",
            "test_head_of_*_is_refused[[]many fields]",
            "test_head_of_*_is_refused[[]name]",
            "test_trailers_of_2_MB_are_refused",
            "test_chunk_extension_of_2_MB_is_refused",
        ),
    ),
    Difference(
        "the bound of heads is above 200 kB",
        GRANIAN,
        ("test_head_of_200_kB_is_refused[[]one value]", "test_head_of_200_kB_is_refused[[]method]"),
    ),
    Difference("a request may have 100 header fields", GRANIAN, ("test_headers_that_nobody_knows_are_ignored[[]500]",)),
    Difference(
        "what follows refused metadata is read as a request",
        HTTPTOOLS + GRANIAN,
        ("test_metadata_of_200_kB_is_refused",),
    ),
    Difference(
        "HTTP/1.1 without Host is taken",
        HTTPTOOLS + GRANIAN,
        ("test_http_1_1_without_exactly_one_host_is_400[[]none]",),
    ),
    Difference("HTTP/1.0 is told to go on", HTTPTOOLS, ("test_no_100_for_http_1_0",)),
    Difference(
        "100 is sent before the application is asked", HYPERCORN, ("test_no_100_where_the_head_earns_an_error*",)
    ),
    Difference(
        "garbage behind a request takes its answer",
        HTTPTOOLS,
        ("test_content_length_that_is_too_short_leaves_no_second_request",),
    ),
    Difference(
        "Content-Length beside Transfer-Encoding is ignored",
        BY_H11 + GRANIAN,
        (f"{_FRAMING}[[]CL and TE]", f"{_FRAMING}[[]TE and CL]", f"{_FRAMING}[[]CL 0 and TE]"),
    ),
    Difference("a bare line feed ends a line", GRANIAN, (f"{_FRAMING}[[]TE behind a bare LF]",)),
    Difference(
        "a bare line feed ends a line",
        BY_H11,
        (f"{_FRAMING}[[]TE behind a bare LF]", "test_malformed_trailer_is_refused[[]X: a*Y: b*"),
    ),
    Difference(
        "a head that ends with bare line feeds, then the end of input: no answer",
        H11 + GRANIAN,
        ("test_bare_line_feeds_are_refused_or_read_as_line_ends",),
    ),
    Difference("folded lines are joined", BY_H11, (f"{_FIELD}[[]obs-fold*", f"{_FRAMING}[[]folded*")),
    Difference(
        "control characters are taken in values",
        BY_H11,
        (f"{_FIELD}[[]control character in value]", f"{_FIELD}[[]DEL in value]"),
    ),
    Difference(
        "chunk sizes have 20 digits and any extension",
        BY_H11,
        (f"{_CHUNK}[[]20 hex digits]", f"{_CHUNK}[[]17 hex digits]", f"{_CHUNK}[[]NUL in the extension]"),
    ),
    Difference("chunk extensions may be anything", GRANIAN, (f"{_CHUNK}[[]NUL in the extension]",)),
    Difference(
        "an empty line before a request is an error", BY_H11, ("test_empty_lines_before_a_request_are_skipped",)
    ),
    Difference("the absolute form is handed on as a path", BY_H11, ("test_K13_absolute_request_target",)),
    Difference("the preface of HTTP/2 is a request for *", H11, (f"{_GARBAGE}[[]HTTP/2 preface]",)),
    Difference("HTTP/9.9 is taken for HTTP/1.1", HYPERCORN, (f"{_GARBAGE}[[]version 9.9]",)),
    Difference("methods are read without case", HYPERCORN, ("test_K3_method_that_nobody_knows_is_refused[[]patch]",)),
)


def difference(server: str, case: str) -> str | None:
    """Why the case of this name is not for this server, or None."""
    for each in ONLY_OURS + THEIR_OWN:
        if server in each.servers and any(fnmatch.fnmatchcase(case, pattern) for pattern in each.cases):
            return each.why
    return None
