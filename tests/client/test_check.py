"""`tusd-py check URL`: each thing that stands between clients and a server is found, named, and its remedy told."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import make_certificate
from spoilingproxy import SpoilingProxy, Spoils, without
from upload_server import ROOT, UploadServer

from tusd_py.client.site import stretch

ORIGIN = "https://app.example.com"
QUICK = ("--pause", "0", "--body-size", "2MiB")

Run = Callable[..., tuple[int, str, str]]
Spoiling = Callable[[Spoils], SpoilingProxy]

pytestmark = pytest.mark.usefixtures("impatient")


def examined(command: Run, url: str, *flags: str) -> tuple[int, dict[str, dict[str, Any]], dict[str, Any]]:
    """Exit code, findings by name, and all of the JSON."""
    code, out, _ = command("check", url, *QUICK, *flags, "--log-format", "json")
    told = json.loads(out)
    return code, {each["name"]: each for each in told["findings"]}, told


def assert_only(findings: dict[str, dict[str, Any]], *names: str) -> None:
    """Nothing else was found wrong."""
    assert {name: each["detail"] for name, each in findings.items() if each["verdict"] != "yes"}.keys() == set(names)


def stored(server: UploadServer) -> list[str]:
    return [path.name for path in server.directory.iterdir() if path.suffix == ".info"]


# A good one.


def test_a_good_server_passes_and_keeps_nothing(lasting_server: UploadServer, command: Run) -> None:
    code, out, err = command("check", lasting_server.url, *QUICK, "--origin", ORIGIN)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{lasting_server.url}: no TLS"
    assert len([line for line in lines if line.startswith("  yes ")]) == 24
    assert not [line for line in lines if line.startswith(("  NO ", "  unclear"))]
    assert lines[-1] == "All that is required works."
    assert stored(lasting_server) == []


def test_json_is_one_object(lasting_server: UploadServer, command: Run) -> None:
    code, findings, told = examined(command, lasting_server.url)
    assert code == 0
    assert_only(findings)
    assert (told["url"], told["is_usable"], told["missing"], told["left"]) == (lasting_server.url, True, [], [])
    assert "checksum" in told["extensions"]
    assert told["sent_bytes"] > 5 << 20
    assert not {"cors_preflight", "cors_answers"} & set(findings)


def test_a_server_with_few_extensions_and_a_small_limit(tmp_path: Path, command: Run) -> None:
    flags = ("--max-size", "100000", "--disable-termination", "--disable-download")
    with UploadServer(tmp_path / "uploads", *flags) as server:
        code, findings, told = examined(command, server.url)
        left = stored(server)
    assert code == 0
    assert_only(findings, "terminate", "download")
    assert told["max_size"] == 100_000
    assert {url.rsplit("/", 1)[1] for url in told["left"]} == {name.removesuffix(".info") for name in left} != set()


# What proxies do.


def answering(status: str, *methods: str, headers: str = "") -> Callable[[str, str], str | None]:
    told = f"HTTP/1.1 {status}\r\nServer: spoiling/1\r\n{headers}Content-Length: 0\r\n\r\n"
    return lambda method, _head: told if method in methods else None


def replacing(pattern: str, text: str) -> Callable[[str, str], str]:
    return lambda _method, head: re.sub(pattern, text, head)


def hiding_options(method: str, head: str) -> str | None:
    return "HTTP/1.1 204 Nothing\r\n\r\n" if method == "OPTIONS" else None


SPOILS: dict[str, tuple[Spoils, tuple[str, ...], str]] = {
    "collects bodies": (Spoils(is_collecting=True), ("partial",), "nginx: proxy_request_buffering off"),
    "limits bodies": (Spoils(most_body_bytes=1 << 20), ("sizes",), "nginx: client_max_body_size 0"),
    "takes Tus-Resumable away": (Spoils(response=without("tus-resumable")), ("answers",), "Tus-Resumable is missing"),
    "takes checksums away": (Spoils(request=without("upload-checksum")), ("checksum",), "let the proxy pass"),
    "takes metadata away": (Spoils(request=without("upload-metadata")), ("metadata",), "names and types of files"),
    "takes override away": (Spoils(request=without("x-http-method-override")), ("override",), "where PATCH is blocked"),
    "blocks PATCH": (Spoils(answer=answering("405 No", "PATCH")), ("append",), "PATCH is blocked"),
    "blocks OPTIONS": (Spoils(answer=hiding_options), ("options",), "pass OPTIONS on to it"),
    "blocks DELETE": (Spoils(answer=answering("403 No", "DELETE")), ("terminate",), "DELETE is blocked"),
    "caches HEAD": (Spoils(is_caching=True), ("fresh", "takeover", "download"), "turn caching off"),
    "changes downloads": (Spoils(body=lambda method, body: body[:-1] + b"?" if method == "GET" else body),
                          ("download",), "is not what was uploaded"),
    "has another clock": (Spoils(response=replacing(r"(?i)date: .*", "Date: Mon, 02 Jan 2006 15:04:05 GMT")),
                          ("clock",), "set both by NTP"),
    "refuses Expect": (Spoils(answer=lambda _, head: "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"
                              if "Expect: " in head else None), ("expect",), "Expect: 100-continue"),
    "refuses chunked bodies": (Spoils(answer=lambda _, head: "HTTP/1.1 411 No\r\nContent-Length: 0\r\n\r\n"
                                      if "chunked" in head else None), ("chunked",), "proxy_http_version 1.1"),
    "changes paths": (Spoils(response=replacing(r"(?i)(location: http://[^/]*)/files/", r"\1/inside/")),
                      ("location",), "--base-path /files/"),
    "names a host inside": (Spoils(response=replacing(r"(?i)location: http://[^/]*/", "Location: http://127.0.0.1:1/")),
                            ("location",), "--behind-proxy"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILS)
def test_a_proxy_that(name: str, spoiling: Spoiling, command: Run) -> None:
    spoils, wrong, says = SPOILS[name]
    code, findings, told = examined(command, spoiling(spoils).url)
    assert_only(findings, *wrong)
    assert says in findings[wrong[0]]["advice"]
    missing = [each for each in wrong if findings[each]["is_required"]]
    assert (code, told["missing"]) == (1 if missing else 0, missing)
    assert bool(told["left"]) == (name == "blocks DELETE")


def test_what_cannot_be_removed_is_told(spoiling: Spoiling, command: Run, lasting_server: UploadServer) -> None:
    before = set(stored(lasting_server))
    code, out, err = command("check", spoiling(Spoils(answer=answering("405 No", "DELETE"))).url, *QUICK)
    left = {name.removesuffix(".info") for name in set(stored(lasting_server)) - before}
    assert code == 0
    assert left
    assert all(each in err and each in out for each in left)


def test_a_proxy_that_collects_is_told_from_a_server_that_forgets(command: Run, spoiling: Spoiling) -> None:
    """It answers a wrong offset before the body is there: so it is asked at once, and what it is told is lost."""
    offsets = replacing(r"(?i)upload-offset: [1-9]\d*", "Upload-Offset: 0")
    heads_only = Spoils(response=lambda method, head: offsets(method, head) if method == "HEAD" else head)
    _, findings, _ = examined(command, spoiling(heads_only).url)
    assert findings["partial"]["verdict"] == "no"
    assert "by the tus server itself" in findings["partial"]["advice"]


def test_answers_without_an_offset_end_it(spoiling: Spoiling, command: Run) -> None:
    code, out, _ = command("check", spoiling(Spoils(response=without("upload-offset"))).url, *QUICK)
    assert code == 1
    assert "  NO       HEAD tells offset and length" in out
    assert "without Upload-Offset" in out
    assert "  The rest could not be tried.\n" in out


def test_a_proxy_that_cuts_a_body_that_pauses(spoiling: Spoiling, command: Run) -> None:
    url = spoiling(Spoils(longest_silence_seconds=0.7)).url
    code, findings, _ = examined(command, url, "--pause", "1.5s")
    assert code == 1
    assert findings["pause"]["verdict"] == "no"
    assert "nginx: client_body_timeout" in findings["pause"]["advice"]


def test_an_upload_that_stays_locked(spoiling: Spoiling, command: Run) -> None:
    proxies: list[SpoilingProxy] = []

    def lock(method: str, head: str) -> str | None:
        if method in ("HEAD", "PATCH") and proxies and proxies[0].open_patches:
            return "HTTP/1.1 423 Locked\r\nTus-Resumable: 1.0.0\r\nContent-Length: 0\r\n\r\n"
        return None

    proxies.append(spoiling(Spoils(answer=lock)))
    code, findings, _ = examined(command, proxies[0].url)
    assert code == 1
    assert_only(findings, "takeover")
    assert "HEAD answered 423" in findings["takeover"]["detail"]


def test_a_proxy_that_speaks_tls_and_does_not_say_so(
    spoiling: Spoiling, command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = spoiling(Spoils(tls=tls(tmp_path)))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "public.pem"))
    code, findings, _ = examined(command, proxy.url)
    assert code == 1
    assert_only(findings, "location")
    assert "Location says http:// and browsers refuse to mix" in findings["location"]["advice"]
    assert "proxy_set_header X-Forwarded-Proto $scheme" in findings["location"]["advice"]


def test_a_proxy_that_says_so_is_good(
    spoiling: Spoiling, command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = replacing("\r\n\r\n", "\r\nX-Forwarded-Proto: https\r\n\r\n")
    proxy = spoiling(Spoils(tls=tls(tmp_path), request=told))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "public.pem"))
    code, findings, _ = examined(command, proxy.url)
    assert code == 0
    assert_only(findings)


@pytest.mark.parametrize(
    ("status", "says"), [("301 Moved", "repeat it as a GET"), ("308 Moved", "send the body again")]
)
def test_a_redirect(status: str, says: str, spoiling: Spoiling, command: Run, lasting_server: UploadServer) -> None:
    moved = answering(status, "POST", "OPTIONS", headers=f"Location: {lasting_server.url}\r\n")
    code, findings, told = examined(command, spoiling(Spoils(answer=moved)).url)
    assert code == 1
    assert findings["direct"]["verdict"] == "no"
    assert says in findings["direct"]["advice"]
    assert f"give clients {lasting_server.url}" in findings["direct"]["advice"]
    assert_only(findings, "direct", "options")
    assert told["missing"] == ["direct"]


def test_a_redirect_to_another_host_is_not_followed(spoiling: Spoiling, command: Run) -> None:
    moved = answering("302 Moved", "POST", headers="Location: http://elsewhere.invalid/files/\r\n")
    result = command("check", spoiling(Spoils(answer=moved)).url)
    assert_one_line(result, "redirects to http://elsewhere.invalid/files/, and uploads do not follow")


# Browsers.

CORS: dict[str, tuple[Spoils, str, str]] = {
    "adds a second origin": (Spoils(response=replacing("\r\n\r\n", "\r\nAccess-Control-Allow-Origin: *\r\n\r\n")),
                             "cors_preflight", "both add CORS headers"),
    "exposes nothing": (Spoils(response=without("access-control-expose-headers")), "cors_answers", "cannot resume"),
    "wants a login for OPTIONS": (Spoils(answer=lambda method, head: "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"
                                         if method == "OPTIONS" and "Authorization" not in head else None),
                                  "cors_preflight", "wants a login for it"),
    "allows few headers": (Spoils(response=replacing("(?i)(access-control-allow-headers): .*", r"\1: content-type")),
                           "cors_preflight", "stop pages of that site"),
    "allows few methods": (Spoils(response=replacing("(?i)(access-control-allow-methods): .*", r"\1: GET, POST")),
                           "cors_preflight", "stop pages of that site"),
}  # fmt: skip


@pytest.mark.parametrize("name", CORS)
def test_pages_of_other_sites_where_a_proxy(name: str, spoiling: Spoiling, command: Run) -> None:
    spoils, wrong, says = CORS[name]
    login = ("--header", "Authorization: Bearer x")
    code, findings, _ = examined(command, spoiling(spoils).url, "--origin", ORIGIN, *login)
    assert code == 1
    assert findings[wrong]["verdict"] == "no"
    assert says in findings[wrong]["advice"]


def test_a_site_that_the_server_does_not_know(tmp_path: Path, command: Run) -> None:
    with UploadServer(tmp_path / "uploads", "--cors-allow-origin", r"https://other\.example\.com") as server:
        code, findings, _ = examined(command, server.url, "--origin", ORIGIN)
        assert examined(command, server.url, "--origin", "https://other.example.com")[0] == 0
    assert code == 1
    assert_only(findings, "cors_preflight", "cors_answers")
    assert "--cors-allow-origin" in findings["cors_preflight"]["advice"]


# No tus server at all: one line, and exit code 2.


def assert_one_line(result: tuple[int, str, str], says: str) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("tusd-py: error: ")
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:1/files/", "nothing listens at 127.0.0.1:1: see whether the server runs"),
        ("http://server.invalid/files/", "the host server.invalid has no address: correct the URL"),
        ("http:///files/", "'http:///files/' is no URL of a server"),
        ("http://user:secret@127.0.0.1/", "no login in the URL, please"),
    ],
)
def test_nothing_there(url: str, says: str, command: Run) -> None:
    assert_one_line(command("check", url), says)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("http://a/", "http://b/"), "one server at a time"),
        (("http://a/", "--orgin", "x"), "unrecognized arguments: --orgin"),
        (("http://a/", "--header", "x"), "'x' is no header; write 'Name: value'"),
        (("http://a/", "--body-size", "1"), "allowed: bytes as a whole number, or with a unit"),
        (("http://a/", "--origin", "https://a/b"), "is no origin"),
        (("a/files/",), "is no bucket; write s3://bucket or s3://bucket/prefix, or the URL of a server"),
    ],
)
def test_wrong_words(argv: tuple[str, ...], says: str, command: Run) -> None:
    assert_one_line(command("check", *argv), says)


def test_an_address_where_no_uploads_are_made(lasting_server: UploadServer, command: Run) -> None:
    url = lasting_server.url.replace("/files/", "/elsewhere/")
    assert_one_line(command("check", url), f"nothing creates uploads at {url}: POST answered 404")
    assert_one_line(command("check", lasting_server.url.replace("/files/", "/")), "not from a tus server; give the URL")
    assert_one_line(command("check", f"http://127.0.0.1:{silent_port()}/"), "nothing speaks tus at")


def test_a_site_that_is_no_tus_server(spoiling: Spoiling, command: Run) -> None:
    site = spoiling(Spoils(answer=answering("404 No", "OPTIONS", "POST")))
    assert_one_line(command("check", site.url), "POST answered 404, from spoiling/1 and not from a tus server")


def test_a_login_that_is_wanted(spoiling: Spoiling, command: Run) -> None:
    door = Spoils(
        answer=lambda _, head: (
            None if "Authorization: Bearer x" in head else "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"
        )
    )
    url = spoiling(door).url
    assert_one_line(command("check", url), "give it: --header 'Authorization: Bearer ...'")
    assert examined(command, url, "--header", "Authorization: Bearer x")[0] == 0


def test_a_certificate_that_is_not_trusted(spoiling: Spoiling, command: Run, tmp_path: Path) -> None:
    result = command("check", spoiling(Spoils(tls=tls(tmp_path))).url)
    assert_one_line(result, "is not trusted: self-signed certificate")


def test_https_where_http_is_spoken(lasting_server: UploadServer, command: Run) -> None:
    result = command("check", lasting_server.url.replace("http://", "https://"))
    assert_one_line(result, "see whether that port speaks https")


def tls(folder: Path) -> ssl.SSLContext:
    make_certificate(folder / "public.pem", folder / "private.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "public.pem", folder / "private.pem")
    return context


def silent_port() -> int:
    """Of a program that speaks no HTTP and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def greet() -> None:
        with listener:
            for _ in range(4):
                connection, _address = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"220 mail.example.com\r\n")

    threading.Thread(target=greet, daemon=True).start()
    return int(listener.getsockname()[1])


# Ctrl-C.


def test_ctrl_c_leaves_nothing(server: UploadServer) -> None:
    argv = [sys.executable, "-W", "error", "-m", "tusd_py", "check", server.url, "--pause", "1m"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for_an_upload(server)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "tusd-py: interrupted\n")
    assert stored(server) == []


def wait_for_an_upload(server: UploadServer) -> None:
    deadline = time.monotonic() + 20
    while not stored(server):
        assert time.monotonic() < deadline


def test_stretches_of_bytes_fit_together() -> None:
    whole = stretch(0, 3_500_000)
    assert len(whole) == 3_500_000
    pieces = [stretch(start, min(700_001, 3_500_000 - start)) for start in range(0, 3_500_000, 700_001)]
    assert b"".join(pieces) == whole
    assert whole[: 1 << 20] != whole[1 << 20 : 2 << 20]


@pytest.fixture(autouse=True)
def _uploads_are_removed(lasting_server: UploadServer, request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for path in lasting_server.directory.iterdir():
        if not path.name.startswith("."):
            path.unlink(missing_ok=True)
