"""What is shipped: an sdist, and a wheel that runs by itself in a clean environment."""

from __future__ import annotations

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

OFFLINE = ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ReadTimeoutError", "ProxyError")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel made from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that has the wheel and what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--retries", "1", str(only(built, "*.whl"))]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode and any(sign in done.stdout + done.stderr for sign in OFFLINE):
        pytest.skip(f"missing: a package index for the wheel's dependencies: {done.stderr[-500:]}")
    assert done.returncode == 0, done.stderr
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


def ask(method: str, url: str, fields: dict[str, str] | None = None, body: bytes = b"") -> tuple[int, Message, bytes]:
    """One request without any tus library."""
    headers = {"Tus-Resumable": "1.0.0"} | (fields or {})
    request = urllib.request.Request(url, data=body or None, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.status, answer.headers, answer.read()
