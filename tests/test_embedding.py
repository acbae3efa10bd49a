"""Our application inside other people's: mounted anywhere, beside their routes, behind their middleware and servers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx2 as httpx
import pytest
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

import tusd_py
from tusd_py import Config, create_app, parse_id

# The suite that runs against any server has the way to start one.
sys.path.insert(0, str(Path(__file__).parent / "wire"))

from asgi_servers import run_asgi_server

VERSION = {"Tus-Resumable": "1.0.0"}
PATCH = VERSION | {"Content-Type": "application/offset+octet-stream"}
START_SECONDS = 10.0

Connect = Callable[..., contextlib.AbstractContextManager[httpx.Client]]


@contextlib.contextmanager
def in_process(app: Any, **_settings: Any) -> Iterator[httpx.Client]:
    with TestClient(app, base_url="http://testserver") as client:
        yield client


@contextlib.contextmanager
def by_uvicorn(app: Any, **settings: Any) -> Iterator[httpx.Client]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, **settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)  # uvicorn has no event for it
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)


WAYS: dict[str, Connect] = {"in-process": in_process, "uvicorn": by_uvicorn}


@pytest.fixture(params=WAYS)
def connect(request: pytest.FixtureRequest) -> Connect:
    return WAYS[request.param]


def run_lifespan_of(*guests: Starlette) -> Callable[[Any], contextlib.AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for guest in guests:
                await stack.enter_async_context(guest.router.lifespan_context(guest))
            yield

    return lifespan


def in_starlette(mounts: dict[str, Starlette]) -> Starlette:
    async def mine(_request: Request) -> Response:
        return PlainTextResponse("mine")

    routes = [Route("/mine", mine), *(Mount(path, app) for path, app in mounts.items())]
    return Starlette(routes=routes, lifespan=run_lifespan_of(*mounts.values()))


def in_fastapi(mounts: dict[str, Starlette]) -> FastAPI:
    def check(x_token: Annotated[str, Header()] = "") -> None:
        if x_token == "bad":
            raise HTTPException(401, "a bad token")

    host = FastAPI(lifespan=run_lifespan_of(*mounts.values()), dependencies=[Depends(check)])
    host.add_middleware(GZipMiddleware, minimum_size=500)

    @host.get("/mine")
    def mine() -> str:
        return "mine"

    for path, app in mounts.items():
        host.mount(path, app)
    return host


HOSTS: dict[str, Callable[[dict[str, Starlette]], Any]] = {"Starlette": in_starlette, "FastAPI": in_fastapi}


def create(client: httpx.Client, url: str, length: int, **headers: str) -> str:
    answer = client.post(url, headers=VERSION | {"Upload-Length": str(length)} | headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    return answer.headers["Location"]


def patch(client: httpx.Client, url: str, offset: int, data: bytes) -> int:
    answer = client.patch(url, content=data, headers=PATCH | {"Upload-Offset": str(offset)})
    assert answer.status_code == 204, answer.text
    return int(answer.headers["Upload-Offset"])


def offset(client: httpx.Client, url: str) -> int:
    answer = client.head(url, headers=VERSION)
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


def join(client: httpx.Client, url: str, partials: list[str]) -> str:
    answer = client.post(url, headers=VERSION | {"Upload-Concat": "final;" + " ".join(partials)})
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def path_of(url: str) -> str:
    return httpx.URL(url).path


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("prefix", ["/", "/uploads", "/a/b"])
def test_an_upload_lives_its_life_under_a_mount(connect: Connect, tmp_path: Path, host: str, prefix: str) -> None:
    app = create_app(Config(upload_dir=str(tmp_path)))
    data = os.urandom(300_000)
    with connect(HOSTS[host]({prefix: app})) as client:
        base = f"{prefix.rstrip('/')}/files/"
        location = create(client, base, len(data))
        assert location.startswith(str(client.base_url.join(base)))
        assert patch(client, location, 0, data[:100_000]) == 100_000
        assert offset(client, location) == 100_000
        assert patch(client, location, 100_000, data[100_000:]) == len(data)
        assert client.get(location).content == data
        assert client.delete(location, headers=VERSION).status_code == 204
        assert client.head(location, headers=VERSION).status_code == 404

        halves = [create(client, base, 3, **{"Upload-Concat": "partial"}) for _ in range(2)]
        for half, piece in zip(halves, (b"foo", b"bar"), strict=True):
            patch(client, half, 0, piece)
        for partials in (halves, [path_of(half) for half in halves]):
            assert client.get(join(client, base, partials)).content == b"foobar"


@pytest.mark.parametrize("base_path", ["/", "/up", "/very/deep/"])
@pytest.mark.parametrize("prefix", ["/", "/uploads"])
def test_base_path_follows_the_mount(connect: Connect, tmp_path: Path, prefix: str, base_path: str) -> None:
    app = create_app(Config(upload_dir=str(tmp_path), base_path=base_path))
    base = prefix.rstrip("/") + base_path.rstrip("/") + "/"
    with connect(in_starlette({prefix: app})) as client:
        location = create(client, base, 5)
        assert path_of(location).rpartition("/")[0] + "/" == base
        patch(client, location, 0, b"hello")
        assert client.get(location).text == "hello"


def test_two_of_us_side_by_side_know_nothing_of_each_other(connect: Connect, tmp_path: Path) -> None:
    names = ("one", "two")
    apps = {f"/{name}": create_app(Config(upload_dir=str(tmp_path / name), max_size=10)) for name in names}
    with connect(in_fastapi(apps)) as client:
        locations = {name: create(client, f"/{name}/files/", 5) for name in names}
        for name, location in locations.items():
            patch(client, location, 0, b"hello")
            assert (tmp_path / name / location.rpartition("/")[2]).read_bytes() == b"hello"
        elsewhere = locations["one"].replace("/one/", "/two/")
        assert client.head(elsewhere, headers=VERSION).status_code == 404
        partial = create(client, "/one/files/", 1, **{"Upload-Concat": "partial"})
        for url in (partial, path_of(partial)):  # of the other one, so not a part
            answer = client.post("/two/files/", headers=VERSION | {"Upload-Concat": f"final;{url}"})
            assert 400 <= answer.status_code < 500
        for name in names:
            assert b'method="PATCH"' in client.get(f"/{name}/metrics").content


FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "up.example.com"}


def test_a_trusted_proxy_says_what_the_client_asked_for(tmp_path: Path) -> None:
    app = create_app(Config(upload_dir=str(tmp_path), behind_proxy=True))
    with by_uvicorn(in_starlette({"/a/b": app}), proxy_headers=False) as client:
        location = create(client, "/a/b/files/", 5, **FORWARDED, **{"Upload-Concat": "partial"})
        assert location.startswith("https://up.example.com/a/b/files/")
        patch(client, path_of(location), 0, b"hello")
        final = join(client, "/a/b/files/", [location])  # the name that the client knows it by
        assert client.get(path_of(final)).text == "hello"


@pytest.mark.parametrize("settings", [{}, {"behind_proxy": True, "trusted_proxies": ("10.0.0.0/8",)}])
def test_nobody_else_does(tmp_path: Path, settings: dict[str, Any]) -> None:
    app = create_app(Config(upload_dir=str(tmp_path), **settings))
    with by_uvicorn(in_starlette({"/a/b": app}), proxy_headers=False) as client:
        location = create(client, "/a/b/files/", 5, **FORWARDED)
        assert location.startswith(str(client.base_url.join("/a/b/files/")))


@pytest.mark.parametrize("prefix", ["", "/uploads"])
def test_the_server_may_give_the_root_path(tmp_path: Path, prefix: str) -> None:
    """`uvicorn --root-path /api`, behind a proxy that takes /api away."""
    app = create_app(Config(upload_dir=str(tmp_path)))
    with by_uvicorn(in_starlette({prefix: app}) if prefix else app, root_path="/api") as client:
        location = create(client, f"{prefix}/files/", 5, **{"Upload-Concat": "partial"})
        assert path_of(location).startswith(f"/api{prefix}/files/")
        behind = path_of(location).removeprefix("/api")
        patch(client, behind, 0, b"hello")
        for partial in (location, path_of(location)):
            final = join(client, f"{prefix}/files/", [partial])
            assert client.get(path_of(final).removeprefix("/api")).text == "hello"


def test_routes_and_errors_of_the_host_stay_its_own(connect: Connect, tmp_path: Path) -> None:
    app = create_app(Config(upload_dir=str(tmp_path)))
    host = in_fastapi({"/uploads": app})

    @host.get("/broken")
    def broken() -> None:
        raise LookupError("of the host")

    @host.exception_handler(LookupError)
    def answer(_request: Request, error: Exception) -> Response:
        return JSONResponse({"lost": str(error)}, status_code=410)

    with connect(host) as client:
        assert client.get("/mine").json() == "mine"
        assert client.get("/mine", headers={"X-Token": "bad"}).json() == {"detail": "a bad token"}
        lost = client.get("/broken")
        assert (lost.status_code, lost.json()) == (410, {"lost": "of the host"})
        missing = client.get("/nowhere")
        assert (missing.status_code, missing.json()) == (404, {"detail": "Not Found"})
        assert "Tus-Resumable" not in missing.headers
        ours = client.get("/uploads/nowhere")
        assert (ours.status_code, ours.text) == (404, "ERR_NOT_FOUND: not found\n")
        assert ours.headers["Tus-Resumable"] == "1.0.0"


def test_middleware_of_the_host_stands_around_us(connect: Connect, tmp_path: Path) -> None:
    host = in_fastapi({"/uploads": create_app(Config(upload_dir=str(tmp_path)))})

    @host.middleware("http")
    async def count(request: Request, call_next: Callable[[Request], Any]) -> Response:
        request.session["count"] = request.session.get("count", 0) + 1
        answer: Response = await call_next(request)
        answer.headers["X-Count"] = str(request.session["count"])
        return answer

    host.add_middleware(SessionMiddleware, secret_key="secret")
    data = b"the same again " * 20_000
    with connect(host) as client:
        location = create(client, "/uploads/files/", len(data))
        patch(client, location, 0, data)
        answer = client.get(location, headers={"Accept-Encoding": "gzip"})
        assert answer.content == data
        assert answer.headers["X-Count"] == "3"
        plain = client.get(location, headers={"Accept-Encoding": "identity"})
        assert plain.content == data
        assert plain.headers["Content-Length"] == str(len(data))


def test_a_range_is_not_compressed_by_the_host(connect: Connect, tmp_path: Path) -> None:
    data = b"the same again " * 20_000
    with connect(in_fastapi({"/uploads": create_app(Config(upload_dir=str(tmp_path)))})) as client:
        location = create(client, "/uploads/files/", len(data))
        patch(client, location, 0, data)
        headers = {"Accept-Encoding": "gzip", "Range": "bytes=1000-200999"}
        with client.stream("GET", location, headers=headers) as answer:
            assert answer.status_code == 206
            assert b"".join(answer.iter_raw()) == data[1000:201_000]


class Doorkeeper(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Callable[[Request], Any]) -> Response:
        if request.headers.get("Authorization") != "Bearer good":
            return PlainTextResponse("who are you?", 401)
        answer: Response = await call_next(request)
        return answer


def test_middleware_added_to_us_sees_every_request_of_tus(connect: Connect, tmp_path: Path) -> None:
    app = create_app(Config(upload_dir=str(tmp_path)))
    app.add_middleware(Doorkeeper)
    data = os.urandom(400_000)
    with connect(in_starlette({"/uploads": app})) as client:
        stranger = client.post("/uploads/files/", headers=VERSION | {"Upload-Length": "5"})
        assert (stranger.status_code, stranger.text) == (401, "who are you?")
        assert client.get("/uploads/metrics").status_code == 401
        assert client.get("/mine").text == "mine"
        client.headers["Authorization"] = "Bearer good"
        location = create(client, "/uploads/files/", len(data))
        assert patch(client, location, 0, data) == len(data)
        assert offset(client, location) == len(data)
        assert client.get(location).content == data


def test_the_host_has_the_uploads_at_hand(connect: Connect, tmp_path: Path) -> None:
    app = create_app(Config(upload_dir=str(tmp_path)))

    async def tell(request: Request) -> Response:
        upload_id = parse_id(request.path_params["id"])
        if upload_id is None:
            return PlainTextResponse("no id", 400)
        upload = await app.state.uploads.find(upload_id)
        return JSONResponse({"offset": upload.offset, "length": upload.length, "metadata": upload.metadata.values})

    host = in_starlette({"/uploads": app})
    host.router.routes.insert(0, Route("/tell/{id:path}", tell))
    with connect(host) as client:
        location = create(client, "/uploads/files/", 9, **{"Upload-Metadata": "filename YS50eHQ="})
        patch(client, location, 0, b"hello")
        told = client.get("/tell/" + location.rpartition("/")[2]).json()
        assert told == {"offset": 5, "length": 9, "metadata": {"filename": "a.txt"}}
        assert client.get("/tell/..%2f..%2fetc%2fpasswd").text == "no id"


def test_with_its_lifespan_what_expired_goes(tmp_path: Path) -> None:
    def app() -> Starlette:
        return create_app(Config(upload_dir=str(tmp_path), expire_after=0.2, sweep_interval=0.05))

    with in_process(in_starlette({"/uploads": app()})) as client:
        location = create(client, "/uploads/files/", 5)
        path = tmp_path / location.rpartition("/")[2]
        assert path.exists()
        deadline = time.monotonic() + START_SECONDS
        while path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)  # a sweep tells nobody
        assert client.head(location, headers=VERSION).status_code in (404, 410)


FORGETFUL = """
from starlette.applications import Starlette
from starlette.routing import Mount

from tusd_py import Config, create_app

app = Starlette(routes=[Mount("/uploads", create_app(Config(upload_dir="uploads", max_size=10)))])
"""


def test_without_its_lifespan_it_works_takes_turns_and_warns_once(tmp_path: Path) -> None:
    with (
        run_asgi_server("uvicorn-httptools", tmp_path, FORGETFUL) as server,
        httpx.Client(base_url=server.origin, timeout=10) as client,
    ):
        location = create(client, "/uploads/files/", 10)

        def push(_index: int) -> int:
            return client.patch(location, content=b"hello", headers=PATCH | {"Upload-Offset": "0"}).status_code

        with ThreadPoolExecutor(5) as pool:
            statuses = sorted(pool.map(push, range(5)))
        assert statuses[0] == 204
        assert set(statuses[1:]) <= {409, 423}
        patch(client, location, 5, b"world")
        assert client.get(location).text == "helloworld"
        assert client.delete(location, headers=VERSION).status_code == 204
    assert server.log.count("NoLifespan") == 1
    assert "run this app's lifespan" in server.log
    assert server.process.returncode in (0, -signal.SIGTERM)


def test_a_limit_of_the_host_holds_for_us_and_keeps_what_fits(connect: Connect, tmp_path: Path) -> None:
    app = create_app(Config(upload_dir=str(tmp_path)))
    host = FastAPI(lifespan=run_lifespan_of(app), max_body_size=100_000)
    host.mount("/uploads", app)
    data = os.urandom(300_000)
    with connect(host) as client:
        location = create(client, "/uploads/files/", len(data))
        answer = client.patch(location, content=data, headers=PATCH | {"Upload-Offset": "0"})
        assert answer.status_code == 413
        pieces = (data[start : start + 30_000] for start in range(0, len(data), 30_000))
        answer = client.patch(location, content=pieces, headers=PATCH | {"Upload-Offset": "0"})  # chunked
        assert answer.status_code == 413
        for start in range(offset(client, location), len(data), 100_000):
            patch(client, location, start, data[start : start + 100_000])
        assert client.get(location).content == data


def test_import_is_cheap_and_names_come_when_asked_for() -> None:
    code = """
import sys
import tusd_py
assert not {"starlette", "anyio", "uvicorn", "asyncio"} & set(sys.modules), "imported too much"
assert set(tusd_py.__all__) <= set(dir(tusd_py))
for name in tusd_py.__all__:
    assert getattr(tusd_py, name) is not None
from tusd_py.app import create_app
assert tusd_py.create_app is create_app
try:
    tusd_py.creat_app
except AttributeError as error:
    assert "creat_app" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_every_name_has_its_type() -> None:
    stub = (Path(tusd_py.__file__).parent / "__init__.pyi").read_text()
    namespace: dict[str, Any] = {}
    exec(stub.replace("__version__: str", ""), namespace)
    assert set(namespace["__all__"]) == set(tusd_py.__all__)
    for name in set(tusd_py.__all__) - {"__version__"}:
        assert namespace[name] is getattr(tusd_py, name)


def test_the_names_are_typed(tmp_path: Path) -> None:
    (tmp_path / "host.py").write_text(
        "from tusd_py import Config, Uploads, create_app\n"
        "app = create_app(Config(upload_dir='data', max_size=5))\n"
        "uploads: Uploads = app.state.uploads\n"
        "reveal_type(app)\n"
        "create_app(Config(max_size=None))\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "host.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("host.py")]
    assert [line.split(":")[1] for line in lines] == ["4", "5"], done.stdout
    assert 'Revealed type is "tusd_py.web.application.Application"' in lines[0]
    assert 'incompatible type "None"; expected "int"' in lines[1]
