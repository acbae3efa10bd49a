"""`tusd-py upload`: files arrive whole whatever happens, and what cannot be sent is said in clear words."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import ssl
import sys
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from certificates import make_certificate
from cutting_proxy import CuttingProxy, How
from spoilingproxy import SpoilingProxy, Spoils
from upload_server import VERSION, UploadServer
from uploading import Uploading, kept

from tusd_py.client import sending, session, transfer
from tusd_py.client.bookmark import Bookmark, Identity
from tusd_py.config import environment

BREAK_BYTES = 3_300_000

Run = Callable[..., tuple[int, str, str]]
Spoiling = Callable[[Spoils], SpoilingProxy]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


# What arrives.


@pytest.mark.parametrize("flags", [(), ("--chunk-size", "1MiB"), ("--checksum",), ("-chunk-size=3MB", "-checksum")])
def test_a_file_arrives(
    flags: tuple[str, ...], server: UploadServer, source: Path, content: bytes, state: Path, command: Run
) -> None:
    code, out, err = command("upload", str(source), server.url, *flags)
    assert (code, err) == (0, "source data.csv: done, 8.0 MiB\n")
    server.check_content(out.strip(), content)
    assert out == f"{out.strip()}\n"
    assert kept(state) == []


def test_several_files_an_empty_one_too(server: UploadServer, tmp_path: Path, command: Run) -> None:
    contents = {"a.txt": b"a" * 5, "ü 日本.bin": os.urandom(2000), "empty": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    code, out, _ = command("upload", *(str(tmp_path / name) for name in contents), server.url)
    assert code == 0
    for url, content in zip(out.splitlines(), contents.values(), strict=True):
        server.check_content(url, content)


def test_metadata_and_headers_go_with_it(server: UploadServer, source: Path, command: Run, spoiling: Spoiling) -> None:
    seen: list[str] = []
    proxy = spoiling(Spoils(request=lambda _, head: seen.append(head) or head))
    told = ("--metadata", "project=Übung=1", "--metadata", "empty=", "--header", "Authorization: Bearer x")
    code, out, _ = command("upload", *told, str(source), proxy.url)
    assert code == 0
    echoed = requests.head(out.strip(), headers=VERSION, timeout=10).headers["Upload-Metadata"]
    pairs = (pair.partition(" ") for pair in echoed.split(","))
    assert {key: b64decode(value).decode() for key, _, value in pairs} == {
        "filename": "source data.csv", "filetype": "text/csv", "project": "Übung=1", "empty": ""
    }  # fmt: skip
    assert seen
    assert all("Authorization: Bearer x\r\n" in head for head in seen[:2])


def test_json_lines(server: UploadServer, source: Path, command: Run) -> None:
    code, out, err = command("upload", str(source), "/nowhere", server.url, "--log-format", "json")
    assert code == 1
    assert out.startswith(server.url)
    done, failed = map(json.loads, err.splitlines())
    assert done == {"file": str(source), "event": "done", "bytes": source.stat().st_size, "url": out.strip()}
    why = "not sent: cannot be read: no such file or directory"
    assert failed == {"file": "/nowhere", "event": "failed", "text": why}


def test_files_of_one_name_are_told_apart(server: UploadServer, tmp_path: Path, command: Run) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.csv").write_text(folder)
    (tmp_path / "y.csv").write_text("y")
    paths = [str(tmp_path / each) for each in ("a/x.csv", "y.csv", "b/x.csv")]
    _, out, err = command("upload", *paths, server.url)
    assert err.splitlines() == [f"{name}: done, 1 bytes" for name in (paths[0], "y.csv", paths[2])]
    assert [server.metadata(url)["filename"] for url in out.splitlines()] == ["x.csv", "y.csv", "x.csv"]


# Bad networks, and ends of all kinds.


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("flags", [(), ("--checksum", "--chunk-size", "2MiB")])
def test_a_cut_upload_goes_on(
    how: How, flags: tuple[str, ...], server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes,
    command: Run,
) -> None:  # fmt: skip
    proxy.break_after(1_300_000, how=how)
    proxy.break_after(1_900_000, how=how)
    code, out, err = command("upload", str(source), proxy.through(server.url), *flags)
    assert code == 0
    server.check_content(out.strip(), content)
    assert proxy.broken == 2
    assert err.count("; trying again in ") == 2
    assert proxy.sent_bytes < len(content) + 5_000_000


def test_a_network_that_died_is_given_up(
    server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes, command: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(session, "SEND_SECONDS", 0.5)
    monkeypatch.setattr(session, "ANSWER_SECONDS", 0.5)
    proxy.break_after(BREAK_BYTES, how="stall")
    code, out, err = command("upload", str(source), proxy.through(server.url))
    assert code == 0
    server.check_content(out.strip(), content)
    assert "(no answer in time); trying again in 0.5 s\n" in err
    assert proxy.sent_bytes < len(content) + 100_000


def test_a_killed_upload_goes_on_when_it_is_started_again(
    server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes, state: Path
) -> None:
    words = (str(source), proxy.through(server.url))
    proxy.break_after(BREAK_BYTES, how="stall")
    with Uploading(*words) as killed:
        proxy.wait_for_stall()
        killed.process.kill()
    assert [json.loads(path.read_text())["endpoint"] for path in kept(state)] == [words[1]]
    assert kept(state)[0].stat().st_mode & 0o077 == 0
    before = proxy.sent_bytes
    with Uploading(*words) as again:
        code, out, said = again.finish()
    assert code == 0
    assert said[0] == "source data.csv: going on with what was begun before"
    server.check_content(out.strip(), content)
    assert proxy.sent_bytes - before < len(content) - BREAK_BYTES + 100_000
    assert kept(state) == []


def test_ctrl_c_says_how_to_go_on(server: UploadServer, proxy: CuttingProxy, source: Path, state: Path) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    with Uploading(str(source), proxy.through(server.url)) as uploading:
        proxy.wait_for_stall()
        uploading.process.send_signal(signal.SIGINT)
        code, out, said = uploading.finish()
    assert (code, out) == (130, "")
    assert said[-1].startswith("source data.csv: interrupted at ")
    assert said[-1].endswith("%; the same command goes on from there")
    assert len(kept(state)) == 1


def test_a_server_that_is_away_is_waited_for(
    server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes
) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    with Uploading(str(source), proxy.through(server.url)) as uploading:
        proxy.wait_for_stall()
        server.kill()
        proxy.release()
        uploading.wait_for("; trying again in 1 s")
        server.start()
        code, out, said = uploading.finish()
    assert code == 0, said
    server.check_content(out.strip(), content)


def test_what_is_given_up_is_kept(
    server: UploadServer, proxy: CuttingProxy, source: Path, state: Path, command: Run
) -> None:
    proxy.break_after(BREAK_BYTES)
    code, out, err = command("upload", str(source), proxy.through(server.url), "--retry-for", "0")
    assert (code, out) == (1, "")
    assert "source data.csv: not sent: no answer from 127.0.0.1:" in err
    assert len(kept(state)) == 1


def test_an_upload_that_the_server_has_no_more_is_sent_anew(
    server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes, command: Run
) -> None:
    proxy.break_after(BREAK_BYTES)
    url = proxy.through(server.url)
    assert command("upload", str(source), url, "--retry-for", "0")[0] == 1
    for path in server.directory.glob("*.info"):
        upload = server.url + path.name.removesuffix(".info")
        assert requests.delete(upload, headers=VERSION, timeout=10).status_code == 204
    code, out, err = command("upload", str(source), url)
    assert code == 0
    assert "the server has this upload no more, so it is sent anew (" in err
    server.check_content(out.strip(), content)


STRANGERS = {
    "a proxy whose server is away": "404 Not Found",
    "a login page": "302 Found\r\nLocation: http://login.example/",
    "a page for everything": "200 OK",
}


def stranger_says(stranger: str) -> str:
    return f"HTTP/1.1 {STRANGERS[stranger]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("stranger", STRANGERS)
def test_what_strangers_say_of_an_upload_passes(
    stranger: str, lasting_server: UploadServer, source: Path, content: bytes, command: Run, spoiling: Spoiling
) -> None:
    asked: list[str] = []

    def answer(method: str, _head: str) -> str | None:
        asked.append(method)
        return stranger_says(stranger) if len(asked) in (3, 4) else None

    proxy = spoiling(Spoils(answer=answer))
    code, out, err = command("upload", str(source), proxy.url, "--chunk-size", "1MiB")
    assert code == 0
    assert asked[:5] == ["POST", "PATCH", "PATCH", "HEAD", "HEAD"]
    assert asked.count("POST") == 1
    assert err.count("; trying again in ") == 2
    lasting_server.check_content(out.strip(), content)


def test_an_upload_of_which_strangers_say_for_long_that_it_is_gone_is_sent_anew(
    lasting_server: UploadServer, source: Path, content: bytes, command: Run, spoiling: Spoiling
) -> None:
    asked: list[str] = []

    def answer(method: str, _head: str) -> str | None:
        asked.append(method)
        is_old = "POST" not in asked[1:] and len(asked) > 2
        return stranger_says("a proxy whose server is away") if is_old else None

    proxy = spoiling(Spoils(answer=answer))
    code, out, err = command("upload", str(source), proxy.url, "--chunk-size", "1MiB", "--retry-for", "700ms")
    assert code == 0
    assert err.count("; trying again in ") >= 1
    assert "the server has this upload no more, so it is sent anew (" in err
    assert asked.count("POST") == 2
    lasting_server.check_content(out.strip(), content)


def test_another_file_of_the_same_name_is_another_upload(
    server: UploadServer, proxy: CuttingProxy, source: Path, command: Run
) -> None:
    proxy.break_after(BREAK_BYTES)
    url = proxy.through(server.url)
    assert command("upload", str(source), url, "--retry-for", "0")[0] == 1
    other = random.Random(8).randbytes(source.stat().st_size)
    source.write_bytes(other)
    code, out, err = command("upload", str(source), url)
    assert (code, "going on" in err) == (0, False)
    server.check_content(out.strip(), other)


def test_two_do_not_send_the_same(server: UploadServer, source: Path, state: Path, command: Run) -> None:
    with source.open("rb") as file:
        identity = Identity.of(str(source), file.fileno())
    with Bookmark(str(state / "tusd-py" / "uploads"), identity, server.url):
        code, _, err = command("upload", str(source), server.url)
    assert code == 1
    assert "not sent: another tusd-py is sending this file to the same address" in err
    assert command("upload", str(source), server.url)[0] == 0


def test_where_it_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    for named, folder in (("/var/state", "/var/state"), ("relative", "/home/somebody/.local/state")):
        monkeypatch.setenv("XDG_STATE_HOME", named)
        assert environment.state_folder() == folder
    monkeypatch.delenv("XDG_STATE_HOME")
    assert environment.state_folder() == "/home/somebody/.local/state"


# Bytes that are not right.


def test_a_checksum_that_was_spoilt_on_the_way_is_sent_again(
    spoiling: Spoiling, lasting_server: UploadServer, source: Path, content: bytes, command: Run
) -> None:
    spoilt: list[str] = []

    def spoil(method: str, head: str) -> str:
        if method == "PATCH" and not spoilt:
            spoilt.append(head)
            return re.sub(r"Upload-Checksum: sha1 \S{26}", f"Upload-Checksum: sha1 {'A' * 26}", head)
        return head

    code, out, err = command("upload", str(source), spoiling(Spoils(request=spoil)).url, "--checksum")
    assert code == 0, err
    assert "Upload-Checksum: sha1 " in spoilt[0]
    assert "PATCH answered 460" in err
    assert "; trying again in 0.5 s" in err
    lasting_server.check_content(lasting_server.direct(out.strip()), content)


@pytest.mark.parametrize(
    ("told", "is_right"),
    [
        (r"sha-256=:\1:", True),
        (r"crc32c=:AAAAAA==:, sha-256=:\1:;x=1, sha-512=:AAAA:", True),
        (r"sha-256=:AAAA\1:", False),
        (r"crc32c=:AAAAAA==:, sha-256=:AAAA\1:", False),
    ],
)
def test_the_digest_of_the_server_is_compared(
    told: str, is_right: bool, tmp_path: Path, source: Path, state: Path, command: Run
) -> None:
    def spoil(_method: str, head: str) -> str:
        return re.sub(r"sha-256=:(.*?):", told, head)

    flags = ("--digest", "sha256", "--behind-proxy")
    with (
        UploadServer(tmp_path / "digested", *flags) as server,
        SpoilingProxy(server.port, Spoils(response=spoil)) as proxy,
    ):
        code, out, err = command("upload", str(source), proxy.url)
    assert (code, bool(out)) == ((0, True) if is_right else (1, False))
    assert ("the server has other bytes than the file" in err) is not is_right
    assert kept(state) == []


def test_a_file_that_changes_meanwhile(spoiling: Spoiling, source: Path, state: Path, command: Run) -> None:
    def touch(method: str, head: str) -> str:
        if method == "PATCH":
            os.utime(source)
        return head

    code, out, err = command("upload", str(source), spoiling(Spoils(request=touch)).url)
    assert (code, out) == (1, "")
    assert "the file changed while it was sent, and what arrived is a mixture" in err
    assert kept(state) == []


# What cannot be sent.


def unsendable(folder: Path) -> dict[str, str]:
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    return {
        "-": "-: not sent: cannot be read: standard input has no length; save it to a file first",
        str(folder): f"it is a directory; give its files, as in {folder}/*",
        str(folder / "none"): "none: not sent: cannot be read: no such file or directory",
        str(folder / "loop"): "loop: not sent: cannot be read: too many levels of symbolic links",
        str(folder / "pipe"): "pipe: not sent: cannot be read: it is no regular file",
    }


def test_what_is_no_file_is_said_and_the_rest_is_sent(
    server: UploadServer, source: Path, content: bytes, tmp_path: Path, command: Run
) -> None:
    wrong = unsendable(tmp_path)
    code, out, err = command("upload", *wrong, str(source), server.url)
    assert code == 1
    for line, says in zip(err.splitlines(), wrong.values(), strict=False):
        assert line.endswith(says)
    server.check_content(out.strip(), content)


def test_a_file_that_is_too_long(tmp_path: Path, source: Path, command: Run) -> None:
    with UploadServer(tmp_path / "small", "--max-size", "1MB") as server:
        code, _, err = command("upload", str(source), server.url)
    assert code == 1
    assert "an upload cannot be created: POST answered 413 (ERR_MAX_SIZE_EXCEEDED" in err
    assert err.endswith("; it is larger than is allowed there\n")


def test_a_proxy_that_limits_bodies(spoiling: Spoiling, source: Path, command: Run) -> None:
    url = spoiling(Spoils(most_body_bytes=1 << 20)).url
    code, _, err = command("upload", str(source), url)
    assert code == 1
    assert err.endswith("PATCH answered 413; a proxy limits bodies: try --chunk-size 1MB\n")
    assert command("upload", str(source), url, "--chunk-size", "1MB")[0] == 0


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:1/files/", "no answer from 127.0.0.1:1 (connection refused)"),
        ("{server}elsewhere", "POST answered 405"),
        ("{server}../elsewhere/", "POST answered 404"),
    ],
)
def test_a_wrong_address_is_not_tried_again(
    url: str, says: str, lasting_server: UploadServer, source: Path, state: Path, command: Run
) -> None:
    code, out, err = command("upload", str(source), url.format(server=lasting_server.url))
    assert (code, out) == (1, "")
    assert err.startswith("source data.csv: not sent: ")
    assert says in err
    assert err.count("\n") == 1
    assert kept(state) == []


def test_a_certificate_that_is_not_trusted(
    spoiling: Spoiling, source: Path, tmp_path: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_certificate(tmp_path / "public.pem", tmp_path / "private.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "public.pem", tmp_path / "private.pem")
    proxy = Spoils(tls=context, request=lambda _, head: head.replace("\r\n", "\r\nX-Forwarded-Proto: https\r\n", 1))
    url = spoiling(proxy).url
    code, _, err = command("upload", str(source), url)
    assert code == 1
    assert err.endswith(" is not trusted (self-signed certificate)\n")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "public.pem"))
    assert command("upload", str(source), url)[2] == "source data.csv: done, 8.0 MiB\n"
    proxy.request = lambda _, head: head
    assert "the server gives an address without TLS, http://" in command("upload", str(source), url)[2]


def test_a_redirect_is_told(spoiling: Spoiling, lasting_server: UploadServer, source: Path, command: Run) -> None:
    moved = f"HTTP/1.1 301 Moved\r\nLocation: {lasting_server.url}\r\nContent-Length: 0\r\n\r\n"
    _, _, err = command("upload", str(source), spoiling(Spoils(answer=lambda *_: moved)).url)
    assert f"the server redirects: give {lasting_server.url} as the address" in err


def test_checksums_where_the_server_has_none(
    spoiling: Spoiling, source: Path, command: Run, lasting_server: UploadServer
) -> None:
    hidden = Spoils(response=lambda _, head: head.replace("checksum", "nothing"))
    code, _, err = command("upload", str(source), spoiling(hidden).url, "--checksum")
    assert code == 1
    assert "this server verifies no checksums: leave out --checksum" in err


# Words.


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ((), "what is to be sent, and where to?"),
        (("http://a/files/",), "what is to be sent, and where to?"),
        (("file", "a/files/"), "'a/files/' is no URL of a server; write it as in https://host/files/"),
        (("file", "http://a/", "--metadata", "x"), "'x' is wrong; write key=value"),
        (("file", "http://a/", "--metadata", "a b=c"), "'a b=c' is wrong; write key=value"),
        (("file", "http://a/", "--chunk-size", "0"), "argument --chunk-size: '0' is wrong"),
        (("file", "http://a/", "--chunk-size"), "argument --chunk-size: expected one argument"),
        (("file", "http://a/", "--retry-for", "soon"), "argument --retry-for: 'soon' is wrong"),
        (("file", "http://a/", "--header", "a: b\r\nc: d"), "is no header; write 'Name: value'"),
        (("file", "http://a/", "--frob"), "unrecognized arguments: --frob"),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2(argv: tuple[str, ...], says: str, command: Run) -> None:
    code, out, err = command("upload", *argv)
    assert (code, out) == (2, "")
    assert err.startswith("tusd-py: error: ")
    assert says in err
    assert err.count("\n") == 1


def test_the_help_teaches(command: Run) -> None:
    code, out, err = command("upload", "--help")
    assert (code, err) == (0, "")
    for word in ("usage: tusd-py upload FILE...", "Examples:", "--chunk-size", "--retry-for", "Exit codes:"):
        assert word in out
    assert all(len(line) <= 120 for line in out.splitlines())
    assert "tusd-py upload FILE... https://host/files/" in command("--help")[1]


@pytest.mark.parametrize("lacking", ["tusclient.client", "requests"])
def test_without_tuspy_it_says_what_to_install(lacking: str, command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sending, transfer, session):
        monkeypatch.delitem(sys.modules, module.__name__)
    monkeypatch.setitem(sys.modules, lacking, None)
    code, _, err = command("upload", "file", "http://a/files/")
    assert (code, err) == (2, "tusd-py: error: tusd-py upload needs tuspy: pip install 'tusd-py[client]'\n")
