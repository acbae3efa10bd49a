"""`tusd-py upload` where files, streams and homes are odd: it says what is wrong, or gets on without."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cutting_proxy import CuttingProxy
from hostileserver import Asked, HostileServer, answer, taking
from spoilingproxy import SpoilingProxy, Spoils
from upload_server import ROOT, UploadServer
from uploading import Uploading, kept

from tusd_py.client.transfer import Piece

Run = Callable[..., tuple[int, str, str]]
Spoiling = Callable[[Spoils], SpoilingProxy]
WAIT_SECONDS = 30


@pytest.fixture
def good() -> Iterator[HostileServer]:
    with HostileServer(taking) as server:
        yield server


def ended(
    *words: str, environment: dict[str, str | None] | None = None, shell: str = '"$@"'
) -> subprocess.CompletedProcess[str]:
    """The command, in a shell that does something to it. A variable that is None is taken away."""
    changed = {**os.environ, **(environment or {})}
    argv = [sys.executable, "-W", "error", "-m", "tusd_py", *words]
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shell}", "bash", *argv],
        cwd=ROOT, env={name: value for name, value in changed.items() if value is not None},
        capture_output=True, text=True, timeout=WAIT_SECONDS, check=False,
    )  # fmt: skip


# Files.


def test_a_file_that_shrinks_meanwhile(spoiling: Spoiling, source: Path, tmp_path: Path, command: Run) -> None:
    def shrink(method: str, head: str) -> str:
        if method == "POST":
            os.truncate(source, 1000)
        return head

    code, out, err = command("upload", str(source), spoiling(Spoils(response=shrink)).url)
    assert (code, out) == (1, "")
    assert err.startswith(
        "source data.csv: not sent: the file changed while it was sent, and what arrived is a mixture"
    )
    assert err.count("\n") == 1
    assert kept(tmp_path / "state") == []


def test_a_file_that_grows_meanwhile(spoiling: Spoiling, source: Path, tmp_path: Path, command: Run) -> None:
    def grow(method: str, head: str) -> str:
        if method == "PATCH":
            with source.open("ab") as file:
                file.write(b"more")
        return head

    code, out, err = command("upload", str(source), spoiling(Spoils(request=grow)).url)
    assert (code, out) == (1, "")
    assert err.endswith("the file changed while it was sent, and what arrived is a mixture: send it again\n")
    assert kept(tmp_path / "state") == []


def test_a_file_that_vanishes_meanwhile_is_sent(
    spoiling: Spoiling, lasting_server: UploadServer, source: Path, content: bytes, command: Run
) -> None:
    def remove(method: str, head: str) -> str:
        if method == "PATCH":
            source.unlink(missing_ok=True)
        return head

    code, out, _ = command("upload", str(source), spoiling(Spoils(request=remove)).url)
    assert code == 0
    lasting_server.check_content(lasting_server.direct(out.strip()), content)


def test_a_disk_that_fails_is_not_taken_for_the_network(
    good: HostileServer, small: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def __init__(self, file: object) -> None: ...

        def read(self, _count: int) -> bytes:
            raise OSError(5, os.strerror(5))

    beginning = Piece.__init__

    def begin(piece: Piece, *words: object) -> None:
        beginning(piece, *words)  # type: ignore[arg-type]
        piece._file = Failing(piece._file)  # type: ignore[assignment]

    monkeypatch.setattr(Piece, "__init__", begin)
    code, _, err = command("upload", str(small), good.url)
    assert (code, err) == (1, "small.bin: not sent: the file cannot be read any further: input/output error\n")


def test_devices_are_not_sent(good: HostileServer, command: Run) -> None:
    code, _, err = command("upload", "/dev/zero", good.url)
    assert (code, err) == (1, "zero: not sent: cannot be read: it is no regular file\n")
    assert good.asked == []


@pytest.mark.parametrize("flags", [(), ("--checksum",)])
def test_terabytes_begin_at_once_and_end_at_once(
    flags: tuple[str, ...], server: UploadServer, proxy: CuttingProxy, tmp_path: Path
) -> None:
    """A sparse file, which takes no room."""
    path = tmp_path / "huge.bin"
    path.touch()
    os.truncate(path, 5 << 40)
    proxy.break_after(40_000_000, how="stall")
    with Uploading(str(path), proxy.through(server.url), *flags) as uploading:
        proxy.wait_for_stall()
        status = Path(f"/proc/{uploading.process.pid}/status").read_text()
        uploading.process.send_signal(signal.SIGINT)
        code, _, said = uploading.finish()
    assert (code, said[-1]) == (130, "huge.bin: interrupted at 0%; the same command goes on from there")
    assert int(status.partition("VmHWM:")[2].split()[0]) < 100 << 10
    assert len(kept(tmp_path / "state")) == 1


# Streams.


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(closed: str, good: HostileServer, small: Path) -> None:
    result = ended("upload", str(small), good.url, shell=f'"$@" {closed}')
    assert result.returncode == 0
    assert result.stderr == ("" if "2>" in closed else "small.bin: done, 1000 bytes\n")
    assert result.stdout == ("" if " >&" in f" {closed}" else f"{good.url}1\n")


@pytest.mark.parametrize("name", ["upload", "check"])
def test_readers_that_left(name: str, good: HostileServer, small: Path) -> None:
    """Nobody reads the rest, and nothing is said of that."""
    words = (str(small), "none", good.url) if name == "upload" else ("http://127.0.0.1:1/",)
    result = ended(name, *words, shell='{ "$@" 2>&1; echo "$?" >&2; } | :')
    assert result.stderr == ("1\n" if name == "upload" else "2\n")
    if name == "upload":
        assert "PATCH" in [asked.method for asked in good.asked]


def test_a_standard_output_that_is_full_for_the_check() -> None:
    with HostileServer(lambda asked: answer(500) if asked.method == "POST" else taking(asked)) as server:
        result = ended("check", server.url, shell='"$@" >/dev/full')
    assert (result.returncode, result.stderr) == (
        1, "tusd-py: standard output takes no more: no space left on device\n"
    )  # fmt: skip


def test_a_standard_output_that_is_full(good: HostileServer, small: Path) -> None:
    result = ended("upload", str(small), good.url, shell='"$@" >/dev/full')
    assert result.returncode == 1
    assert result.stderr.splitlines()[1:] == [
        f"small.bin: sent to {good.url}1, but standard output takes no more: no space left on device"
    ]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_letters_that_the_terminal_has_not(encoding: str) -> None:
    told = "\u65e5\u672c".encode()

    def say(asked: Asked) -> list[bytes]:
        return answer(500, told) if asked.method == "POST" else taking(asked)

    with HostileServer(say) as server:
        result = ended("check", server.url, environment={"PYTHONIOENCODING": encoding})
    assert (result.returncode, result.stderr) == (1, "")
    assert r"POST answered 500 (\u65e5\u672c)" in result.stdout


# Where uploads are remembered.


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"XDG_STATE_HOME": "/dev/null/nowhere"}, "/dev/null/nowhere/tusd-py/uploads: not a directory"),
        ({"XDG_STATE_HOME": None, "HOME": "/proc/nowhere"}, "/proc/nowhere/.local/state/tusd-py/uploads: no such file"),
        ({"XDG_STATE_HOME": None, "HOME": "~"}, "no home directory"),
    ],
)
def test_where_nothing_can_be_remembered_it_is_sent_all_the_same(
    environment: dict[str, str | None], why: str, server: UploadServer, source: Path, content: bytes
) -> None:
    result = ended("upload", str(source), server.url, environment=environment)
    assert result.returncode == 0
    first, last = result.stderr.splitlines()
    assert first.startswith("source data.csv: not remembered, so that it starts anew if interrupted (")
    assert why in first
    assert last == "source data.csv: done, 8.0 MiB"
    server.check_content(result.stdout.strip(), content)
    assert not (ROOT / "~").exists()


def test_what_is_not_remembered_still_goes_on_after_a_cut(
    server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes, command: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/nowhere")
    proxy.break_after(5_000_000)
    code, out, err = command("upload", str(source), proxy.through(server.url))
    assert code == 0
    assert err.count("not remembered") == 1
    server.check_content(out.strip(), content)
    assert proxy.sent_bytes < len(content) + 2_000_000


def test_ctrl_c_promises_nothing_that_is_not_remembered(
    server: UploadServer, proxy: CuttingProxy, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/nowhere")
    proxy.break_after(3_000_000, how="stall")
    with Uploading(str(source), proxy.through(server.url)) as uploading:
        proxy.wait_for_stall()
        uploading.process.send_signal(signal.SIGINT)
        code, _, said = uploading.finish()
    assert (code, said[-1].partition("; ")[2]) == (130, "the same command starts anew")


def test_a_disk_that_is_full_is_said_and_the_file_is_sent(good: HostileServer, small: Path, tmp_path: Path) -> None:
    """Of all files that may be written, none may have a byte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    result = ended("upload", str(small), good.url, shell='ulimit -f 0; "$@" | cat')
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before
    assert (result.returncode, result.stdout) == (0, f"{good.url}1\n")
    assert "small.bin: not remembered, so that it starts anew if interrupted (" in result.stderr
    assert kept(tmp_path / "state") == []


def test_two_processes_do_not_send_the_same(server: UploadServer, proxy: CuttingProxy, source: Path) -> None:
    url = proxy.through(server.url)
    proxy.break_after(3_000_000, how="stall")
    with Uploading(str(source), url) as first:
        proxy.wait_for_stall()
        with Uploading(str(source), url) as second:
            code, _, said = second.finish()
        assert first.process.poll() is None
    assert (code, len(said)) == (1, 1)
    assert "another tusd-py is sending this file to the same address: let it, or end it first" in said[0]


# Addresses.


@pytest.mark.parametrize("name", ["upload", "check"])
@pytest.mark.parametrize(
    "url",
    ["http://user:hidden@127.0.0.1/files/", "user:hidden@127.0.0.1/files/", "http://user:hid/hidden@127.0.0.1/",
     "htp://user:hidden@127.0.0.1/", "http://user:hidden@[::1/", "//user:hidden@127.0.0.1"],
)  # fmt: skip
def test_a_password_is_not_shown(url: str, name: str, small: Path, command: Run) -> None:
    code, out, err = command(name, *([str(small)] if name == "upload" else []), url)
    assert (code, out) == (2, "")
    assert err == (
        "tusd-py: error: no login in the URL, please: it ends up in logs; use --header 'Authorization: Basic ...'\n"
    )


def test_a_query_of_the_address_is_sent(good: HostileServer, small: Path, command: Run) -> None:
    assert command("upload", str(small), f"{good.url}?token=a%20b&c")[0] == 0
    assert [asked.path for asked in good.asked][:2] == ["/files/?token=a%20b&c", "/files/1"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_of_the_environment_is_used(
    scheme: str, good: HostileServer, small: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", good.origin)
    code, out, err = command("upload", str(small), f"{scheme}://up.invalid/files/", "--retry-for", "0")
    if scheme == "http":
        assert (code, out) == (0, "http://up.invalid/files/1\n")
        assert good.asked[0].path == "http://up.invalid/files/"
    else:  # it opens no tunnel
        assert (code, err) == (1, "small.bin: not sent: no answer from up.invalid (Tunnel connection failed: 204 X)\n")
        assert (good.asked[0].method, good.asked[0].path) == ("CONNECT", "up.invalid:443")
