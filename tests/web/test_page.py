"""The page as browsers get it: what it is told, its headers, its assets, and paths at which there is none."""

from __future__ import annotations

import gzip
import html
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

import tusd_py.app
from tusd_py import Config, __version__, create_app
from tusd_py.web import page

pytestmark = pytest.mark.anyio

INDEX = """<!doctype html>
<html lang="en">
<head>
<meta name="tusd-py" content="{}">
<script type="module" src="page-assets/main-0f3c9a1b.js"></script>
</head>
</html>
"""
SCRIPT = b"console.log('hello')\n" * 500
ASSETS = {
    "main-0f3c9a1b.js": SCRIPT,
    "main-B4XQK2ZD.css": b"body { margin: 0 }",
    "icons/logo-0f3c9a1b.svg": b"<svg/>" * 100,
    "picture-0f3c9a1b.png": b"\x89PNG" * 100,
    "settings.js": b"let x\n",
}

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "worker-src": "'self'",
    "manifest-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}

Make = Callable[..., TestClient]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bundle"
    for name, content in ASSETS.items():
        path = folder / "assets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "index.html").write_text(INDEX)
    (folder / "secret.txt").write_text("not an asset")
    monkeypatch.setattr(tusd_py.app, "bundled", lambda name: folder if name == "static" else None)
    return folder


@pytest.fixture
def make(bundle: Path, tmp_path: Path) -> Make:
    def make(mount: str = "", **values: Any) -> TestClient:
        app: Starlette = create_app(Config(upload_dir=str(tmp_path / "data"), locker="memory", **values))
        if mount:
            app = Starlette(routes=[Mount(mount, app)])
        return TestClient(app, base_url="http://host", follow_redirects=False)

    return make


@pytest.fixture
def client(make: Make) -> TestClient:
    return make()


def plainly(client: TestClient, path: str, **headers: str) -> httpx.Response:
    return client.get(path, headers={"accept-encoding": "identity"} | headers)


def told(answer: httpx.Response) -> dict[str, Any]:
    found = re.findall(r'<meta name="tusd-py" content="([^"]*)">', answer.text)
    assert len(found) == 1
    facts = json.loads(html.unescape(found[0]))
    assert isinstance(facts, dict)
    return facts


def create(client: TestClient, url: str) -> httpx.Response:
    return client.post(url, headers={"Tus-Resumable": "1.0.0", "Upload-Length": "5"})


# What it is, and what it is told.


def test_the_page_is_told_what_the_server_is(client: TestClient) -> None:
    answer = plainly(client, "/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.count("page-assets/main-0f3c9a1b.js") == 1
    assert told(answer) == {
        "endpoint": "/files/",
        "api": "/api/",
        "maxSize": 0,
        "version": __version__,
        "listing": False,
        "canTerminate": True,
        "canDownload": True,
        "expires": True,
        "digest": "none",
    }


def test_the_page_is_told_what_settings_say(make: Make) -> None:
    client = make(
        base_path="/a",
        max_size="5GB",
        disable_termination=True,
        disable_download=True,
        digest="sha256",
        page_path="/p",
        expire_after=0.0,
    )
    facts = told(plainly(client, "/p/"))
    assert (facts["endpoint"], facts["maxSize"], facts["digest"]) == ("/a/", 5 * 10**9, "sha256")
    assert (facts["canTerminate"], facts["canDownload"], facts["expires"]) == (False, False, False)


def test_what_it_is_told_cannot_leave_its_attribute(make: Make) -> None:
    client = make(mount="/{tenant}", base_path="/it's&/")
    answer = plainly(client, '/"><script>/')
    assert answer.status_code == 200
    assert "<script>" not in answer.text
    assert told(answer)["endpoint"] == "/%22%3E%3Cscript%3E/it's&/"


def test_under_a_mount_it_is_told_the_paths_there(make: Make) -> None:
    client = make(mount="/uploads")
    facts = told(plainly(client, "/uploads/"))
    assert (facts["endpoint"], facts["api"]) == ("/uploads/files/", "/uploads/api/")
    assert create(client, facts["endpoint"]).headers["location"].startswith("http://host/uploads/files/")
    assert plainly(client, "/uploads/page-assets/main-0f3c9a1b.js").content == SCRIPT
    assert plainly(client, "/page-assets/main-0f3c9a1b.js").status_code == 404


@pytest.mark.parametrize(("path", "there"), [("/p", "./p/"), ("/a/b", "./b/"), ("/a:b", "./a%3Ab/")])
def test_the_path_without_its_slash_leads_to_the_page(path: str, there: str, make: Make) -> None:
    client = make(page_path=path)
    answer = client.get(path)
    assert (answer.status_code, answer.headers["location"], answer.content) == (308, there, b"")
    assert client.head(path).status_code == 308
    assert client.get(path, follow_redirects=True).url.path == f"{path}/"
    assert client.post(path).status_code == 405
    assert client.get("/").status_code == 404


async def test_a_mount_without_its_slash_leads_to_the_page(bundle: Path) -> None:
    """Some frameworks hand such a request on."""
    for mount, there in (("/up", b"./up/"), ("/a/\xfc", b"./%C3%BC/"), ("/x//evil.example", b"./evil.example/")):
        status, headers, _ = await ask(apps(bundle)[""], path=mount, root_path=mount)
        assert (status, headers[b"location"]) == (308, there)


# Headers.


@pytest.mark.parametrize("path", ["/", "/page-assets/main-0f3c9a1b.js"])
def test_the_browser_is_told_to_be_strict(path: str, client: TestClient) -> None:
    headers = client.get(path).headers
    policy = dict(each.split(" ", 1) for each in headers["content-security-policy"].split("; "))
    assert policy == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    assert "clipboard" not in headers["permissions-policy"], "the page has a copy button"


def test_the_page_speaks_no_tus(client: TestClient) -> None:
    answer = client.get("/", headers={"Tus-Resumable": "9.9", "X-HTTP-Method-Override": "DELETE"})
    assert answer.status_code == 200
    assert "tus-resumable" not in answer.headers


@pytest.mark.parametrize("coding", ["gzip", "identity"])
@pytest.mark.parametrize("path", ["/", "/page-assets/main-0f3c9a1b.js"])
def test_head_is_get_without_the_body(path: str, coding: str, client: TestClient) -> None:
    get, head = (client.request(method, path, headers={"accept-encoding": coding}) for method in ("GET", "HEAD"))
    assert head.headers == get.headers
    assert (head.status_code, head.content) == (200, b"")
    assert get.content


@pytest.mark.parametrize("path", ["/", "/page-assets/main-0f3c9a1b.js"])
async def test_head_sends_no_body_at_all(path: str, bundle: Path) -> None:
    """Clients drop one, so that only a server would see it."""
    status, headers, body = await ask(apps(bundle)[path], path=path, method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers[b"content-length"]) > 100


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/page-assets/main-0f3c9a1b.js"])
def test_nothing_but_get_and_head_is_allowed(path: str, method: str, client: TestClient) -> None:
    answer = client.request(method, path, headers={"X-HTTP-Method-Override": "GET"})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


# Caching and compression.


@pytest.mark.parametrize("coding", ["gzip", "identity"])
@pytest.mark.parametrize("path", ["/", "/page-assets/main-0f3c9a1b.js", "/page-assets/settings.js"])
def test_what_the_browser_has_is_not_sent_again(path: str, coding: str, client: TestClient) -> None:
    first = client.get(path, headers={"accept-encoding": coding})
    etag = first.headers["etag"]
    for field in (etag, f'"x", W/{etag}', f'"a,b" ,{etag}', "*"):
        again = client.get(path, headers={"accept-encoding": coding, "if-none-match": field})
        assert (again.status_code, again.content) == (304, b""), field
        for name in ("etag", "cache-control", "vary", "content-security-policy"):
            assert again.headers[name] == first.headers[name]
        assert not {"content-length", "content-encoding", "content-type"} & set(again.headers)
    for field in ('"x"', etag.strip('"'), etag[:-1]):
        assert client.get(path, headers={"accept-encoding": coding, "if-none-match": field}).status_code == 200, field


def test_another_page_has_another_etag(make: Make, bundle: Path) -> None:
    tags = {plainly(make(), "/").headers["etag"], plainly(make(max_size=5), "/").headers["etag"]}
    (bundle / "index.html").write_text(INDEX.replace('"en"', '"de"'))
    tags.add(plainly(make(), "/").headers["etag"])
    assert len(tags) == 3


@pytest.mark.parametrize("name", ASSETS)
def test_only_names_with_a_hash_are_kept_for_ever(name: str, client: TestClient) -> None:
    kept = client.get(f"/page-assets/{name}").headers["cache-control"]
    assert kept == ("no-cache" if name == "settings.js" else "public, max-age=31536000, immutable")
    assert client.get("/").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("accept", "is_wanted"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("deflate,gzip", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("identity, gzip;q=0.001", True),
        ("xgzip", False),
    ],
)
def test_gzip_goes_to_those_who_take_it(accept: str, is_wanted: bool, client: TestClient) -> None:
    path = "/page-assets/main-0f3c9a1b.js"
    with client.stream("GET", path, headers={"accept-encoding": accept}) as answer:
        sent = b"".join(answer.iter_raw())
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers.get("content-encoding") == ("gzip" if is_wanted else None)
    assert len(sent) == int(answer.headers["content-length"])
    assert (gzip.decompress(sent) if is_wanted else sent) == SCRIPT
    assert (len(sent) < len(SCRIPT) / 10) == is_wanted
    other = plainly(client, path).headers["etag"]
    assert (answer.headers["etag"] != other) == is_wanted, "other bytes, so another strong tag"


def test_what_gzip_would_not_shrink_is_sent_as_it_is(client: TestClient) -> None:
    for name in ("picture-0f3c9a1b.png", "main-B4XQK2ZD.css"):
        answer = client.get(f"/page-assets/{name}", headers={"accept-encoding": "gzip"})
        assert "content-encoding" not in answer.headers
        assert answer.content == ASSETS[name]


def test_assets_have_their_types(client: TestClient) -> None:
    types = {name: client.get(f"/page-assets/{name}").headers["content-type"] for name in ASSETS}
    assert types == {
        "main-0f3c9a1b.js": "text/javascript; charset=utf-8",
        "main-B4XQK2ZD.css": "text/css; charset=utf-8",
        "icons/logo-0f3c9a1b.svg": "image/svg+xml",
        "picture-0f3c9a1b.png": "image/png",
        "settings.js": "text/javascript; charset=utf-8",
    }


# Where there is nothing.


def apps(bundle: Path) -> dict[str, Any]:
    return dict(page.make_apps(bundle, "/", "/files/", "/api/", {}))


async def ask(
    app: Any, *, path: str, root_path: str = "", method: str = "GET"
) -> tuple[int, dict[bytes, bytes], bytes]:
    """One request whose path nobody puts straight before it gets here."""
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": method, "path": path, "root_path": root_path, "headers": []}
    more = {"http_version": "1.1", "scheme": "http", "server": ("host", 80), "client": None}
    await app(scope | more, receive, send)
    return messages[0]["status"], dict(messages[0]["headers"]), messages[1]["body"]


@pytest.mark.parametrize("base_path", ["/files/", "/"])
@pytest.mark.parametrize(
    "path",
    [
        "/page-assets/", "/page-assets", "/page-assets/x", "/page-assets/secret.txt", "/page-assets/icons",
        "/page-assets/../secret.txt", "/page-assets/../index.html", "/page-assets/icons/../settings.js",
        "/page-assets/./settings.js", "/page-assets//settings.js", "/page-assets/settings.js/",
        "/page-assets/%2e%2e/secret.txt", "/page-assets/..\\secret.txt", "/page-assets/settings.js\0",
        "/page-assets//etc/passwd", "/page-assets/../../../../etc/passwd", "/assets/settings.js", "/index.html",
        "//page-assets/settings.js", "/page-assets/settings.JS", "/./",
    ],
)  # fmt: skip
async def test_no_other_path_leads_to_a_file(path: str, base_path: str, bundle: Path, tmp_path: Path) -> None:
    app = create_app(Config(upload_dir=str(tmp_path / "data"), locker="memory", base_path=base_path))
    status, _, body = await ask(app, path=path)
    assert status == 404
    assert b"not an asset" not in body
    assert b"let x" not in body


def test_a_link_that_leads_nowhere_is_no_asset(bundle: Path, make: Make) -> None:
    (bundle / "assets" / "gone.js").symlink_to(bundle / "nowhere")
    client = make()
    assert client.get("/").status_code == 200
    assert client.get("/page-assets/gone.js").status_code == 404


def test_the_page_can_be_off(make: Make) -> None:
    client = make(disable_page=True)
    assert client.get("/").status_code == 404
    assert client.get("/page-assets/main-0f3c9a1b.js").status_code == 404
    assert create(client, "/files/").status_code == 201


# Beside the uploads.


@pytest.mark.parametrize("path", ["/", "/up/"])
@pytest.mark.parametrize("mount", ["", "/mount"])
def test_one_path_may_be_for_both(path: str, mount: str, make: Make) -> None:
    client = make(mount=mount, base_path=path, page_path=path)
    url = f"{mount}{path}"
    assert told(plainly(client, url))["endpoint"] == url
    assert client.head(url).headers["content-type"].startswith("text/html")
    assert client.options(url).headers["tus-version"] == "1.0.0"
    location = create(client, url).headers["location"]
    assert location.startswith(f"http://host{url}")
    assert client.head(location, headers={"Tus-Resumable": "1.0.0"}).headers["upload-offset"] == "0"
    assert plainly(client, f"{url}page-assets/main-0f3c9a1b.js").content == SCRIPT
    assert client.patch(url, headers={"Tus-Resumable": "1.0.0"}).headers["allow"] == "POST, OPTIONS"


def test_the_page_may_upload_where_other_sites_are_named(make: Make) -> None:
    """Browsers name the origin of a page with each POST, also when it is the server's own."""
    client = make(cors_allow_origin=r"https://app\.example")
    fields = {"Tus-Resumable": "1.0.0", "Upload-Length": "5"}
    for origin, status in (
        ("http://host", 201),
        ("https://app.example", 201),
        ("https://host", 403),
        ("http://host:8080", 403),
        ("http://host.example", 403),
        ("null", 403),
    ):
        assert client.post("/files/", headers=fields | {"Origin": origin}).status_code == status, origin


def test_probes_stay_where_they_are(make: Make) -> None:
    client = make()
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/metrics").status_code == 200


def test_the_page_stays_where_the_uploads_are_when_the_metrics_do_not(make: Make) -> None:
    client = make(metrics_port=9100)
    assert client.get("/").status_code == 200
    assert client.get("/healthz").status_code == 404


# Without a bundle.


@pytest.fixture(params=["none", "empty", "of others"])
def without(request: pytest.FixtureRequest, make: Make, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    if request.param == "none":
        monkeypatch.setattr(tusd_py.app, "bundled", lambda _name: None)
    elif request.param == "empty":
        (bundle / "index.html").unlink()
    else:
        (bundle / "index.html").write_text("<!doctype html>")
    return make(base_path="/up&down/")


def test_a_plain_page_says_what_is_missing(without: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    answer = plainly(without, "/")
    assert answer.status_code == 200
    assert "<code>/up&amp;down/</code>" in answer.text
    assert "{{" not in answer.text
    assert "npm run build" in answer.text
    assert told(answer)["endpoint"] == "/up&down/"
    assert answer.headers["cache-control"] == "no-cache", "a real one may come"
    assert create(without, "/up&down/").status_code == 201


def test_the_plain_page_keeps_the_policy(without: TestClient) -> None:
    text = plainly(without, "/").text
    assert not re.search(r"<script|<style|style=|\son\w+=|https?://", text)
    (sheet,) = re.findall(r'href="(page-assets/[^"]+)"', text)
    answer = without.get(f"/{sheet}")
    assert answer.headers["content-type"].startswith("text/css")
    assert answer.headers["cache-control"] == "no-cache"


def test_a_bundle_that_is_no_page_is_told_to_the_log(
    bundle: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    (bundle / "index.html").write_text(INDEX + INDEX)
    with caplog.at_level(logging.WARNING, "tusd_py.page"):
        assert "npm run build" in make().get("/").text
    assert "PageBroken" in caplog.text
    assert "more than one" in caplog.text
