"""What is shipped: an sdist, and a wheel that runs by itself in a clean environment, with the page in both."""

from __future__ import annotations

import gzip
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import venv
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from upload_server import ROOT, UploadServer

BUNDLE = "tusd_py/_bundled/static/"

OFFLINE = ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ReadTimeoutError", "ProxyError")


@pytest.fixture(autouse=True)
def _only_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel made from it. Without npm they lack the page."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", "--outdir", str(folder), str(ROOT))
    return folder


@pytest.fixture(scope="module")
def page(built: Path) -> dict[str, bytes]:
    """The page in the wheel, by name."""
    page = page_in(only(built, "*.whl"))
    if not page:
        pytest.skip("missing: node and npm and a registry of packages, with which the page is built")
    return page


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that has the wheel and what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    run_pip(folder / "bin" / "python", "install", str(only(built, "*.whl")))
    return folder / "bin"


@pytest.fixture
def server(installed: Path, tmp_path: Path) -> Iterator[UploadServer]:
    with UploadServer(tmp_path / "uploads", command=[str(installed / "tusd-py")], cwd=tmp_path) as server:
        yield server


def test_wheel_has_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(only(built, "*.whl")) as wheel:
        names = set(wheel.namelist())
    assert {"tusd_py/py.typed", "tusd_py/__main__.py", "tusd_py/cli.py", "tusd_py/app.py"} <= names
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "tusd_py").rglob("*.py")}
    assert sources <= names
    (information,) = {name.split("/")[0] for name in names} - {"tusd_py"}
    assert information.endswith(".dist-info")
    assert f"{information}/licenses/LICENSE" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]


def test_sdist_has_what_was_written_and_nothing_that_was_installed(built: Path) -> None:
    with tarfile.open(only(built, "*.tar.gz")) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "tusd_py/py.typed", "tests/conftest.py"} <= names
    assert not [name for name in names if "node_modules" in name or "__pycache__" in name or name.startswith(".venv")]


def test_sdist_and_wheel_have_the_same_page(built: Path, page: dict[str, bytes]) -> None:
    assert "index.html" in page
    assert {name.partition("/")[0] for name in page} == {"index.html", "assets"}
    with tarfile.open(only(built, "*.tar.gz")) as sdist:
        files = {each.name.partition("/static/dist/")[2]: each for each in sdist.getmembers() if each.isfile()}
        files.pop("")
        assert {name: read(sdist, each) for name, each in files.items()} == page


def test_the_page_keeps_to_what_the_server_expects(page: dict[str, bytes]) -> None:
    """What the page in the tree is built to: its policy allows nothing inline and nothing from elsewhere."""
    text = page["index.html"].decode()
    assert text.count('<meta name="tusd-py" content="{}">') == 1
    wanted = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert wanted
    for url in wanted:
        assert url.startswith("data:") or url.removeprefix("page-") in page, url
    for attributes, content in re.findall(r"<script([^>]*)>(.*?)</script>", text, re.DOTALL):
        assert "src=" in attributes
        assert not content.strip()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", text)
    for name in page:
        assert name == "index.html" or re.search(r"[-.]([A-Z0-9]{8}|[0-9a-f]{8,64})\.", name), f"{name} has no hash"
    transferred = sum(len(gzip.compress(content)) for name, content in page.items() if not name.endswith(".map"))
    assert transferred <= 250_000


def test_installed_command_serves_the_page(server: UploadServer, page: dict[str, bytes]) -> None:
    root = server.url.removesuffix("files/")
    status, headers, body = ask("GET", root)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    (told,) = re.findall(rb'<meta name="tusd-py" content="([^"]*)">', body)
    assert json.loads(html.unescape(told.decode()))["endpoint"] == "/files/"
    for name in page.keys() - {"index.html"}:
        _, headers, body = ask("GET", f"{root}page-{name}")
        assert body == page[name]
        assert headers["Cache-Control"].endswith("immutable")


def test_a_machine_without_node_builds_the_page_all_the_same(page: dict[str, bytes], tmp_path: Path) -> None:
    """The build fetches a Node for itself. From a checkout, since an sdist has the page already."""
    checkout, programs = tmp_path / "checkout", tmp_path / "programs"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(".*", "node_modules", "dist", "tests", "__pycache__"))
    programs.mkdir()
    for place in filter(os.path.isdir, os.environ["PATH"].split(os.pathsep)):
        for path in Path(place).iterdir():
            if path.name not in {"node", "nodejs", "npm", "npx"} and not os.path.lexists(programs / path.name):
                (programs / path.name).symlink_to(path)
    environ = {name: value for name, value in os.environ.items() if name != "BUILD_TUSD_PY_PAGE"}
    wheel = ["wheel", "-v", "--no-deps", "--wheel-dir", str(tmp_path), str(checkout)]
    said = run_pip(Path(sys.executable), *wheel, environ=environ | {"PATH": str(programs)})
    assert page_in(only(tmp_path, "*.whl")).keys() == page.keys(), said[-2000:]


def test_installed_command_serves_an_upload(server: UploadServer, content: bytes) -> None:
    name = b64encode("Gewicht größer.bin".encode()).decode()
    creation = {"Upload-Length": str(len(content)), "Upload-Metadata": f"filename {name}"}
    status, headers, _ = ask("POST", server.url, creation)
    assert status == 201
    url = headers["Location"]
    for start, end in ((0, 5_000_000), (5_000_000, len(content))):
        fields = {"Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"}
        status, headers, _ = ask("PATCH", url, fields, content[start:end])
        assert (status, headers["Upload-Offset"]) == (204, str(end))
    status, headers, _ = ask("HEAD", url)
    assert (status, headers["Upload-Offset"]) == (200, str(len(content)))
    status, _, body = ask("GET", url)
    assert status == 200
    assert body == content, "other bytes were downloaded"
    server.check_content(url, content)
    assert server.stop() == 0
    server.start()
    server.check_content(url, content)


def test_installed_package_is_not_the_checkout(installed: Path, tmp_path: Path) -> None:
    where = run(str(installed / "python"), "-c", "import tusd_py; print(tusd_py.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def page_in(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as wheel:
        return {name.removeprefix(BUNDLE): wheel.read(name) for name in wheel.namelist() if name.startswith(BUNDLE)}


def run_pip(python: Path, *words: str, environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(python), "-m", "pip", *words, "--retries", "1"], capture_output=True, text=True, check=False, env=environ
    )
    if done.returncode and any(sign in done.stdout + done.stderr for sign in OFFLINE):
        pytest.skip(f"missing: a package index: {done.stderr[-500:]}")
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def read(sdist: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = sdist.extractfile(member)
    assert file is not None
    return file.read()


def ask(method: str, url: str, fields: dict[str, str] | None = None, body: bytes = b"") -> tuple[int, Message, bytes]:
    """One request without any tus library."""
    headers = {"Tus-Resumable": "1.0.0"} | (fields or {})
    request = urllib.request.Request(url, data=body or None, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.status, answer.headers, answer.read()
