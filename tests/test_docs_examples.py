"""What the documentation tells people to type works as it stands there, but for the port."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

# Those folders have no packages; their modules are found here.
sys.path.insert(0, str(Path(__file__).parent / "wire"))
sys.path.insert(0, str(Path(__file__).parent / "e2e"))

from asgi_servers import run_asgi_server
from node_client import FOLDER as NODE_FOLDER
from node_client import MissingNode, installed_node_client
from upload_server import UploadServer

from tusd_py import authoring
from tusd_py.assembly.hooking import make_listeners
from tusd_py.config import load as load_settings
from tusd_py.hooks.finding import GROUP
from tusd_py.hooks.testing import load, sample, tell

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted(set(ROOT.glob("docs/*.md")) - {ROOT / "docs/clients.md"})]
"""Those of the clients are run by tests/e2e/test_clients_document.py."""
WAIT_SECONDS = 60


@dataclass(frozen=True)
class Block:
    page: str
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page}: {self.language}: {self.text.splitlines()[0]}"


def _blocks() -> list[Block]:
    return [
        Block(page.name, language, text)
        for page in PAGES
        for language, text in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    ]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[UploadServer]:
    with UploadServer(tmp_path / "uploads", "--expose-api") as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the reader is: a checkout, as far as the examples see it."""
    shutil.copy(README, tmp_path)
    return tmp_path


def _run(command: list[str], folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _for(block: Block, server: UploadServer) -> str:
    """The text with the port of this server; it names the default one."""
    assert "http://127.0.0.1:8080/files/" in block.text
    return block.text.replace("http://127.0.0.1:8080/", server.url.removesuffix("files/"))


def _run_tuspy(block: Block, server: UploadServer, folder: Path) -> None:
    printed = _run([sys.executable, "-c", _for(block, server)], folder)
    server.check_content(printed.strip(), README.read_bytes())


def _run_tus_js_client(block: Block, server: UploadServer, folder: Path) -> None:
    try:
        installed_node_client()
    except MissingNode as error:
        pytest.skip(f"missing: {error}")
    (folder / "node_modules").symlink_to(NODE_FOLDER / "node_modules")
    (folder / "example.mjs").write_text(_for(block, server))
    printed = _run(["node", "example.mjs"], folder)
    server.check_content(printed.strip(), README.read_bytes())


def _run_curl(block: Block, server: UploadServer, folder: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("missing: curl")
    printed = _run(["sh", "-euc", _for(block, server)], folder)
    assert "HTTP/1.1 204" in printed
    assert printed.endswith("hello")


def _run_own(block: Block, server: UploadServer, folder: Path) -> str:
    words = [line for line in _for(block, server).splitlines() if "pip install" not in line]
    return _run_installed("\n".join(words), folder)


def _run_installed(text: str, folder: Path) -> str:
    """What it prints, in a virtual environment that has been made."""
    return _run(["sh", "-euc", text.replace(".venv/bin/", f"{Path(sys.executable).parent}/")], folder)


def _run_upload(block: Block, server: UploadServer, folder: Path) -> None:
    server.check_content(_run_own(block, server, folder).strip(), README.read_bytes())


def _run_check(block: Block, server: UploadServer, folder: Path) -> None:
    assert "https://app.example.com" in block.text
    assert " NO " not in _run_own(block, server, folder)


def _run_status(block: Block, server: UploadServer, folder: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("missing: curl")
    printed = _run(["sh", "-euc", _for(block, server)], folder)
    state, stream = printed.split("retry: ")
    assert json.loads(state)["missing"] == {"start": 0, "end": 5}
    assert "event: upload\n" in stream
    assert printed.endswith("and so on\n")


def _run_first_hook(block: Block, _server: UploadServer, folder: Path) -> None:
    printed = _run_installed(block.text, folder)
    assert "hooks/sorting.py" in printed
    assert "4 passed" in printed
    assert "log info: README.md has" in printed
    assert "refused, as it should be\n" in printed
    assert "sorting (hooks/sorting.py)" in printed


def _run_smallest_hook(block: Block, _server: UploadServer, folder: Path) -> None:
    path = folder / "team.py"
    path.write_text(block.text)
    hook = load(path)
    assert tell(hook, sample("pre-create")).is_rejected
    answer = tell(hook, sample("pre-create", headers={"X-Team": "vision"}, filename="a.csv"))
    assert answer.change is not None
    assert answer.change.metadata == {"filename": "a.csv", "team": "vision"}
    tell(hook, sample("post-finish", "a\nb\n", team="vision"))
    _check_types(path)


def _run_tested_hook(block: Block, _server: UploadServer, folder: Path) -> None:
    """The test of the page, on the hook with settings of the page."""
    (folder / "size.py").write_text(next(each.text for each in _blocks() if "class Settings:" in each.text))
    (folder / "test_size.py").write_text(block.text)
    printed = _run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "."], folder)
    assert "2 passed" in printed
    _check_types(folder / "size.py", folder / "test_size.py")


def _run_settings(block: Block, _server: UploadServer, _folder: Path) -> None:
    assert 'with_name("size.py")' in next(each.text for each in _blocks() if "sample(" in each.text), block.name


def _run_entry_point(block: Block, _server: UploadServer, _folder: Path) -> None:
    assert list(tomllib.loads(block.text)["project"]["entry-points"]) == [GROUP]


def _run_hook_options(block: Block, _server: UploadServer, folder: Path) -> None:
    assert authoring.run(["new", "sorting", "--dir", str(folder / "hooks")], lambda _text: None) == 0
    (folder / "tusd.toml").write_text(block.text.replace('"hooks"', f'"{folder}/hooks"'))
    found = make_listeners(load_settings(["--config", str(folder / "tusd.toml")]).config, _no_bytes)
    chosen = [(each.name, each.timeout_seconds, each.concurrency) for each in found]
    assert chosen == [("notify", 5 + 1, 2), ("sorting", 15, 8)]


def _no_bytes(_upload: object) -> NoReturn:
    raise AssertionError("nobody asks for bytes here")


def _run_jobs(block: Block, server: UploadServer, folder: Path) -> None:
    (folder / "data").symlink_to(server.directory)
    assert _run_installed(block.text, folder).count("nothing is owed") == 3


def _check_types(*paths: Path) -> None:
    folder = paths[0].parent
    _run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", "cache", *map(str, paths)], folder)


RUN: dict[str, Callable[[Block, UploadServer, Path], None]] = {
    "from tusclient.client import TusClient": _run_tuspy,
    'from "tus-js-client"': _run_tus_js_client,
    "L=$(curl": _run_curl,
    "ID=$(curl": _run_status,
    ".venv/bin/tusd-py upload": _run_upload,
    ".venv/bin/tusd-py check http://": _run_check,
    "tusd-py hooks new": _run_first_hook,
    "def name_it(": _run_smallest_hook,
    "def refuse_large(": _run_settings,
    "hook = load(": _run_tested_hook,
    "[project.entry-points.": _run_entry_point,
    "[hook-options.": _run_hook_options,
    "tusd-py jobs list": _run_jobs,
}

NOT_RUN_BY_THOSE = {
    "create_app": "run below, under other servers than ours",
    "pip install -q -e . && .venv/bin/tusd-py": "installs; tests/e2e/test_wheel.py does it with what is shipped",
    "pip install -q -e '.[test]'": "installs and runs the tests: it is what runs this",
    ".venv/bin/tusd-py check s3://uploads": "needs services; tests/test_cli_check.py and tests/wire run both",
    "docker build": "needs an engine; tests/container takes the image's steps without one",
    "flowchart TD": "a picture; tests/test_house.py holds its arrows",
}


def test_every_block_is_known() -> None:
    for block in _blocks():
        known = [sign for sign in (*RUN, *NOT_RUN_BY_THOSE) if sign in block.text]
        assert len(known) == 1, f"{block.name!r} is in the documentation: run it here, or say why not"
    for sign in (*RUN, *NOT_RUN_BY_THOSE):
        assert any(sign in block.text for block in _blocks()), f"no block has {sign!r} any more"


@pytest.mark.parametrize("sign", RUN)
def test_an_example_does_what_it_says(server: UploadServer, folder: Path, sign: str) -> None:
    block = next(block for block in _blocks() if sign in block.text)
    RUN[sign](block, server, folder)


@pytest.mark.parametrize("name", ["uvicorn-httptools", "uvicorn-tusd-py"])
def test_the_application_takes_an_upload(tmp_path: Path, name: str) -> None:
    code = next(block.text for block in _blocks() if "create_app" in block.text)
    with run_asgi_server(name, tmp_path, code) as server:
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
            _upload(connection, server.origin)
        assert (tmp_path / "data").is_dir()
    assert "NoLifespan" not in server.log


def _upload(connection: http.client.HTTPConnection, origin: str) -> None:
    version = {"Tus-Resumable": "1.0.0"}
    headers = version | {"Upload-Length": "5", "Content-Type": "application/offset+octet-stream"}
    connection.request("POST", "/uploads/files/", b"hello", headers)
    made = connection.getresponse()
    made.read()
    assert made.status == 201
    path = made.headers["Location"].removeprefix(origin)
    assert path.startswith("/uploads/files/")
    connection.request("GET", path)
    assert connection.getresponse().read() == b"hello"
    connection.request("POST", "/uploads/files/", headers=version | {"Upload-Length": "6000000000"})
    assert connection.getresponse().status == 413


def test_the_application_passes_a_strict_type_check(tmp_path: Path) -> None:
    code = next(block.text for block in _blocks() if "create_app" in block.text)
    (tmp_path / "mine.py").write_text(code)
    lenient = ("--allow-untyped-defs", "--allow-incomplete-defs")  # for the one word that would make it longer
    _run([sys.executable, "-m", "mypy", "--strict", *lenient, "--cache-dir", "cache", "mine.py"], tmp_path)
