"""Both commands against servers that are broken or mean: bounded in time and memory, and one clear line in the end."""

from __future__ import annotations

import gzip
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hostileserver import Answering, Asked, HostileServer, answer, taking
from upload_server import ROOT
from uploading import kept

from tusd_py.client import session, wire

LIMIT_SECONDS = 0.4
SOON_SECONDS = 6.0
"""For what a dozen limits and requests may take together; a server that is hostile goes on for longer."""
MOST_GROWTH_BYTES = 50 << 20
FLOOD_BYTES = 1 << 30
COMMANDS = ("upload", "check")

Run = Callable[..., tuple[int, str, str]]
Hostile = Callable[[Answering], HostileServer]


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with ExitStack() as servers:
        yield lambda answering: servers.enter_context(HostileServer(answering))


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch, impatient: None) -> None:
    for module in (session, wire):
        monkeypatch.setattr(module, "CONNECT_SECONDS", LIMIT_SECONDS)
        monkeypatch.setattr(module, "ANSWER_SECONDS", LIMIT_SECONDS)


@pytest.fixture
def tried(command: Run, small: Path) -> Run:
    """Runs one of the two against a URL, and sees that it ends well whatever happened: soon, with few clear words."""

    def run(name: str, url: str, *flags: str) -> tuple[int, str, str]:
        words = (str(small), url, "--retry-for", "0") if name == "upload" else (url, "--pause", "0")
        begun = time.monotonic()
        code, out, err = command(name, *words, *flags)
        assert time.monotonic() - begun < SOON_SECONDS
        assert "Traceback" not in err
        assert err.count("\n") <= 1 + err.count(": going on with what was begun before\n")
        assert code in (0, 1, 2)
        assert bool(out) == (code == 0 or (name == "check" and code == 1))
        return code, out, err

    return run


# Time.


def slow(server: HostileServer, how: str) -> Iterable[bytes]:
    match how:
        case "nothing":
            return server.silence()
        case "head":
            return server.drip(b"a", b"HTTP/1.1 200 OK\r\nX: ")
        case "interim answers":
            return (b"HTTP/1.1 100 Continue\r\n\r\n" for _ in server.drip(b"."))
        case "chunks":
            return server.drip(b"1\r\na\r\n", b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n")
        case _:
            return server.drip(b"a", b"HTTP/1.1 500 No\r\nContent-Length: 10000\r\n\r\n")


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("how", ["nothing", "head", "interim answers", "body", "chunks"])
@pytest.mark.usefixtures("limited")
def test_an_answer_that_drips_is_given_up(how: str, name: str, hostile: Hostile, tried: Run) -> None:
    server = hostile(lambda _asked: slow(server, how))
    code, _, err = tried(name, server.url)
    if name == "check":
        assert (code, "nothing speaks tus at" in err, "no answer came in time" in err) == (2, True, True)
    elif how in ("body", "chunks"):  # what the head says is known
        assert (code, err[-18:]) == (1, "POST answered 500\n")
    else:
        assert (code, err[-21:]) == (1, " (no answer in time)\n")


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("limited")
def test_tls_that_never_greets_is_given_up(name: str, tried: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code, _, err = tried(name, f"https://127.0.0.1:{silent.getsockname()[1]}/")
    assert code == (1 if name == "upload" else 2)
    assert "no answer in time" in err or "does not answer: see whether a firewall" in err


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("limited")
def test_a_name_that_is_looked_up_for_ever_is_given_up(name: str, tried: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with HostileServer(taking) as server:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: [*server.silence()][1:])
        code, _, err = tried(name, "http://slow.invalid/files/")
    assert code == (1 if name == "upload" else 2)
    assert "no answer in time" in err or "does not answer: see whether a firewall" in err


def test_a_server_that_reads_slowly_but_steadily_gets_it_all(
    small: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it takes far longer than any of the limits, and the kernel would take it at once."""
    small.write_bytes(b"q" * 3_000_000)
    monkeypatch.setattr(session, "SEND_SECONDS", 1.0)
    monkeypatch.setattr(session, "ANSWER_SECONDS", 1.0)
    with HostileServer(taking, pause_seconds=0.06) as server:
        begun = time.monotonic()
        code, _, err = command("upload", str(small), server.url, "--retry-for", "0")
        took = time.monotonic() - begun
    assert (code, err) == (0, "small.bin: done, 2.9 MiB\n")
    assert [asked.method for asked in server.asked].count("PATCH") == 1
    assert took > 2.5


# Memory.

PEAK = """
import re, sys
from tusd_py.cli import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(code)
"""


def peak_bytes(*words: str) -> int:
    argv = [sys.executable, "-W", "error", "-c", PEAK, *words]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in (1, 2), ended.stderr
    return int(ended.stderr.splitlines()[-1]) << 10


def flood(status: int, headers: str, body: Iterable[bytes], told_bytes: int) -> Iterator[bytes]:
    yield f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {told_bytes}\r\n\r\n".encode()
    yield from body


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("status", [302, 500])
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_body_of_a_gigabyte_takes_no_memory(
    status: int, is_packed: bool, name: str, hostile: Hostile, small: Path
) -> None:
    piece, count = b"a" * (1 << 20), FLOOD_BYTES >> 20
    headers = "Location: /elsewhere/\r\n"
    if is_packed:
        piece = gzip.compress(b"a" * (16 << 20))
        headers, count = f"{headers}Content-Encoding: gzip\r\n", FLOOD_BYTES // (16 << 20)
    bodies = {"flood": [piece] * count, "little": [b"no"]}
    servers = {
        what: hostile(lambda _asked, b=body: flood(status, headers, b, sum(map(len, b))))
        for what, body in bodies.items()
    }
    words = (name, str(small), "--retry-for", "0") if name == "upload" else (name,)
    peaks = {what: peak_bytes(*words, server.url) for what, server in servers.items()}
    assert peaks["flood"] - peaks["little"] < MOST_GROWTH_BYTES


def test_cookies_are_kept_but_not_without_end(hostile: Hostile, small: Path, command: Run) -> None:
    def baking(asked: Asked) -> Iterable[bytes]:
        head, body = taking(asked)
        made = len(server.asked)
        cookies = b"".join(b"Set-Cookie: c%d-%d=x\r\n" % (made, each) for each in range(15))
        return [head.replace(b"\r\n\r\n", b"\r\n" + cookies + b"\r\n"), body]

    server = hostile(baking)
    assert command("upload", str(small), server.url, "--chunk-size", "100")[0] == 0
    counts = [asked.head.count("=x") for asked in server.asked]
    assert (counts[:2], max(counts)) == ([0, 15], 15)


# The terminal.

EVIL = "\x1b]0;title\x07\x1b[2J\u202egpj"
EVIL_LATIN = "\x1b]0;title\x07\x1b[2J\x9b2J"


def is_clean(text: str) -> bool:
    return all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    "says",
    [
        {"status": 201, "Location": f"/files/{EVIL_LATIN}"},
        {"status": 302, "Location": f"http://127.0.0.1/{EVIL_LATIN}"},
        {"status": 500, "body": EVIL.encode()},
        {"status": 500, "Server": EVIL_LATIN, "Tus_Resumable": "no", "body": b"\x1b[2J"},
        {"status": 204, "Upload_Offset": EVIL_LATIN, "Tus_Version": EVIL_LATIN, "Tus_Extension": EVIL_LATIN},
    ],
)
def test_a_server_does_not_steer_the_terminal(says: dict[str, object], name: str, hostile: Hostile, tried: Run) -> None:
    server = hostile(lambda _asked: answer(**says))  # type: ignore[arg-type]
    code, out, err = tried(name, server.url)
    assert code != 0
    assert is_clean(out + err)
    assert "\\x1b" in out + err or (says["status"] == 204 and name == "upload")  # it says what is missing


def test_the_name_of_a_file_does_not_steer_the_terminal(tmp_path: Path, hostile: Hostile, command: Run) -> None:
    path = tmp_path / f"a{EVIL}\n.bin"
    path.write_bytes(b"q" * 1000)
    code, out, err = command("upload", str(path), hostile(taking).url)
    assert code == 0
    assert is_clean(out + err)
    assert err.startswith(r"a\x1b]0;title\x07\x1b[2J\u202egpj\n.bin: done")


# Logins.


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("limited")
def test_a_login_goes_to_no_other_host(
    name: str, hostile: Hostile, command: Run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = hostile(taking)
    server = hostile(lambda asked: taking(asked, location=f"{other.origin}/1"))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password secret")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    _, _, err = command(
        name, *([str(small)] if name == "upload" else []), server.url, "--header", "Authorization: Bearer secret",
        "--header", "X-Key: secret",
    )  # fmt: skip
    if name == "upload":
        away = other.origin.removeprefix("http://")
        assert err.splitlines()[0] == f"small.bin: it goes to another host, {away}, and --header does not go there"
        assert err.count("\n") == 2
    assert all("Authorization: Bearer secret\r\nX-Key: secret" in asked.head for asked in server.asked)
    assert {"HEAD"} <= {asked.method for asked in other.asked}
    assert not [asked.head for asked in other.asked if re.search("secret|authorization", asked.head, re.IGNORECASE)]


# Nonsense.


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    "location",
    ["http://[", "http://a:99999999/", "javascript:alert(1)", "file:///etc/passwd", "http://user:pw@127.0.0.1/1",
     "/\xff\xfe", "/a b", "/\x01", f"http://a/{'b' * 60_000}\x7f"],
)  # fmt: skip
def test_a_location_that_is_none(location: str, name: str, hostile: Hostile, tried: Run, tmp_path: Path) -> None:
    server = hostile(lambda asked: taking(asked, location=location))
    code, out, err = tried(name, server.url)
    assert code == 1
    if name == "upload":
        assert "the server gives an address that cannot be used: " in err
        assert kept(tmp_path / "state") == []
    else:
        assert re.search(r"  NO       Location is right, .*Location cannot be used: ", out)
        assert "Traceback" not in out
    assert len(out + err) < 40_000


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("number", ["-5", "\xb2", "9" * 5000])
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "OPTIONS"])
@pytest.mark.usefixtures("limited")
def test_a_number_that_is_none(method: str, number: str, name: str, hostile: Hostile, tried: Run) -> None:
    told = {"Upload_Offset": number, "Upload_Length": number, "Tus_Max_Size": number, "Tus_Extension": "creation"}
    server = hostile(lambda asked: answer(204, **told) if asked.method == method else taking(asked))
    code, out, err = tried(name, server.url)
    if name == "check":
        assert (code, "Required, and missing: " in out) == (1, True)
    elif method == "PATCH":
        assert (code, "PATCH answered 204, and Upload-Offset is " in err) == (1, True)
    else:
        assert (code, err) == (0, "small.bin: done, 1000 bytes\n")


def test_a_resumed_upload_has_a_number_that_is_none(hostile: Hostile, tried: Run, tmp_path: Path) -> None:
    server = hostile(lambda asked: answer(500) if asked.method == "PATCH" else taking(asked))
    assert tried("upload", server.url)[0] == 1
    assert len(kept(tmp_path / "state")) == 1
    server.answering = lambda _asked: answer(200, Upload_Offset="-1")
    code, _, err = tried("upload", server.url)
    assert (code, err.count("HEAD answered 200, and Upload-Offset is -1")) == (1, 1)


BROKEN: dict[str, bytes | Iterable[bytes]] = {
    "garbage": os.urandom(4000),
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nLoc",
    "a version of its own": b"HTTP/9.9 200 OK\r\n\r\n",
    "a status of its own": b"HTTP/1.1 2\xb2\xb2 OK\r\n\r\n",
    "a header without end": [b"HTTP/1.1 200 OK\r\nX: ", *[b"a" * 65_536] * 200],
    "headers without end": [b"HTTP/1.1 200 OK\r\n", *[b"X-%d: b\r\n" % each for each in range(9000)]],
    "interim answers without end": [b"HTTP/1.1 100 Continue\r\n\r\n" * 1000] * 10,
    "a chunk of no length": b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "a chunk of less than nothing": b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
    "a chunk of exabytes": b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc",
    "a body of exabytes": b"HTTP/1.1 500 No\r\nContent-Length: 99999999999999999999999\r\n\r\nabc",
    "a charset that is none": b"HTTP/1.1 500 No\r\nContent-Type: text/plain; charset=zlib_codec\r\n\r\nabc",
    "a packing that is none": b"HTTP/1.1 500 No\r\nContent-Encoding: gzip, br, x\r\n\r\nabc",
    "a date of no calendar": b"HTTP/1.1 201 No\r\nLocation: /1\r\nUpload-Offset: 0\r\nUpload-Length: 3000\r\n"
                             b"Date: Mon, 01 Jan 99999999999999999999 00:00:00 GMT\r\n\r\n",
    "a cookie of its own": b"HTTP/1.1 500 No\r\nSet-Cookie: \xff=\x01; Expires=99; Domain=..\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.usefixtures("limited")
def test_what_is_hardly_http(what: str, name: str, hostile: Hostile, tried: Run) -> None:
    sent = BROKEN[what]
    code, out, err = tried(name, hostile(lambda _asked: [sent] if isinstance(sent, bytes) else sent).url)
    assert code != 0
    assert is_clean(out + err)


# Ctrl-C.

UNINTERRUPTIBLE = """
import socket, sys, time

def look_up(*_args, **_options):
    print("looking up", file=sys.stderr, flush=True)
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass  # as the system's own

if "slow.invalid" in sys.argv[-1]:
    socket.getaddrinfo = look_up
from tusd_py.cli import main
sys.exit(main(sys.argv[1:]))
"""


def interrupted(words: list[str], is_begun: Callable[[subprocess.Popen[str]], object]) -> tuple[float, int, str]:
    """Seconds from Ctrl-C to the end, exit code, and what it said last."""
    argv = [sys.executable, "-W", "error", "-c", UNINTERRUPTIBLE, *words]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            is_begun(process)
            process.send_signal(signal.SIGINT)
            begun = time.monotonic()
            _, err = process.communicate(timeout=20)
            return time.monotonic() - begun, process.returncode, err.splitlines()[-1]
        finally:
            process.kill()


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_ctrl_c_does_not_wait_for_a_server_that_is_silent(
    method: str, name: str, hostile: Hostile, small: Path, tmp_path: Path
) -> None:
    times = 3 if (name, method) == ("check", "POST") else 1  # by then there are uploads to be removed

    def silent(asked: Asked) -> Iterable[bytes]:
        """Also to DELETE, by which the check would tidy up."""
        return server.silence() if asked.method == "DELETE" or is_time() else taking(asked)

    def is_time() -> bool:
        return [each.method for each in server.asked].count(method) >= times

    server = hostile(silent)

    def wait(_process: object) -> None:
        while not is_time():
            server.wait_until_asked()

    words = ["upload", str(small), server.url] if name == "upload" else ["check", server.url]
    took, code, said = interrupted(words, wait)
    assert code == 130
    assert took < (1.0 if name == "upload" else 1.8)
    if name == "check":
        assert said == "tusd-py: interrupted"
    else:
        assert said == "small.bin: interrupted at " + (
            "0%; the same command goes on from there"
            if method == "POST"
            else "100%; the same command goes on from there"
        )
        assert len(kept(tmp_path / "state")) == (1 if method == "PATCH" else 0)


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_does_not_wait_for_a_name(name: str, small: Path) -> None:
    words = [name, *([str(small)] if name == "upload" else []), "http://slow.invalid/files/"]

    def wait(process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        assert process.stderr.readline() == "looking up\n"

    took, code, said = interrupted(words, wait)
    assert (code, took < 1.0) == (130, True)
    assert "interrupted" in said


def test_a_second_ctrl_c_ends_the_check_at_once(hostile: Hostile) -> None:
    server = hostile(lambda asked: server.silence() if asked.method == "POST" else taking(asked))

    def wait(process: subprocess.Popen[str]) -> None:
        while not server.asked or server.asked[-1].method != "POST":
            server.wait_until_asked()
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)  # two signals at once are one

    took, code, said = interrupted(["check", server.url], wait)
    assert (code, took < 0.6, said) == (130, True, "tusd-py: interrupted")
