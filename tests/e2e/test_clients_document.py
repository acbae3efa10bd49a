"""docs/clients.md: its table names the versions that the tests run, and its examples upload a file as they stand there,
but for the port."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chromium_client import Chromium, bundle
from cutting_proxy import CuttingProxy
from node_client import FOLDERS, Release
from upload_server import ROOT, UploadServer

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page

DOCUMENT = (ROOT / "docs" / "clients.md").read_text()
FOLDER = Path(__file__).parent
EXAMPLES = re.findall(r"^### ([^\n]+)\n(?:(?!^###).)*?^```(\w+)\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
WAIT_SECONDS = 60
HTML = '<!doctype html><input type="file"><div id="uppy"></div><script type="module" src="example.js"></script>'
JAVA = """import io.tus.java.client.*; import java.io.File; import java.net.URL;
public class Example {{ public static void main(String[] arguments) throws Exception {{ {} }} }}"""


OpenExample = Callable[[str], AbstractContextManager["Page"]]


@pytest.fixture
def open_example(release: Release, chromium: Chromium, pages: Path, tmp_path: Path) -> OpenExample:
    @contextmanager
    def opened(text: str) -> Iterator[Page]:
        script = tmp_path / "example.js"
        script.write_text(text)
        bundle(pages, [script])
        (pages / release / "example.html").write_text(HTML)
        with chromium.open(f"{release}/example.html") as run:
            yield run.page

    return opened


def test_table_has_the_versions_that_are_run() -> None:
    table = re.findall(r"^\| ([^|]+) \| ([\d.]+) \| ([^|]+) \|", DOCUMENT, re.MULTILINE)
    expected = [("Uppy (@uppy/core)", npm_version("@uppy/core", release), "Chromium; Node") for release in FOLDERS]
    for runtime in ("Chromium", "Node"):
        expected += [("tus-js-client", npm_version("tus-js-client", release), runtime) for release in FOLDERS]
    expected += [("tuspy", tuspy_version(), "Python"), ("tus-java-client", maven_version(), "Java")]
    expected += [("tus_client", cargo_version("tus_client"), "Rust"), ("tusgo", go_version("tusgo"), "Go")]
    assert table == expected, "a lock file has changed: try the clients, then correct docs/clients.md"


def test_lock_files_have_no_download_addresses() -> None:
    for folder in FOLDERS.values():
        assert '"resolved"' not in (folder / "package-lock.json").read_text()


def test_examples_are_those_that_are_run_here() -> None:
    assert [(client, language) for client, language, _ in EXAMPLES] == [
        ("Uppy", "js"),
        ("tus-js-client", "js"),
        ("tuspy", "python"),
        ("tus-java-client", "java"),
    ]
    assert len(EXAMPLES) == DOCUMENT.count("```") // 2


def test_example_of_uppy(open_example: OpenExample, server: UploadServer) -> None:
    with open_example(example("Uppy", server.url)) as page:
        page.set_input_files(".uppy-Dashboard-input >> nth=0", ROOT / "README.md")
        with page.expect_console_message(is_url) as printed:
            page.get_by_role("button", name="Upload 1 file").click()
    check(server, printed.value.text)


def test_example_of_tus_js_client_goes_on_once_online(
    open_example: OpenExample, server: UploadServer, proxy: CuttingProxy
) -> None:
    proxy.break_after(4_000, how="stall")
    with open_example(example("tus-js-client", proxy.through(server.url))) as page:
        page.set_input_files("input", ROOT / "README.md")
        proxy.wait_for_stall()
        page.context.set_offline(True)
        proxy.is_refusing = True
        with page.expect_event("requestfailed"):
            proxy.cut()
        proxy.is_refusing = False
        with page.expect_console_message(is_url) as printed:
            page.context.set_offline(False)
    check(server, printed.value.text)


def test_example_in_python(server: UploadServer) -> None:
    printed = run([sys.executable, "-c", example("tuspy", server.url)])
    server.check_content(printed, (ROOT / "README.md").read_bytes())


def test_example_in_java(java: list[str], server: UploadServer, tmp_path: Path) -> None:
    program = tmp_path / "Example.java"
    program.write_text(JAVA.format(example("tus-java-client", server.url)))
    printed = run([*java, str(program)])
    server.check_content(printed, (ROOT / "README.md").read_bytes())


def is_url(message: ConsoleMessage) -> bool:
    return message.text.startswith("http")


def check(server: UploadServer, url: str) -> None:
    assert server.metadata(url)["filename"] == "README.md"
    server.check_content(url, (ROOT / "README.md").read_bytes())


def example(client: str, url: str) -> str:
    (text,) = (text for name, _, text in EXAMPLES if name == client)
    assert "http://127.0.0.1:8080/files/" in text
    return text.replace("http://127.0.0.1:8080/files/", url)


def run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def npm_version(package: str, release: Release) -> str:
    locked = json.loads((FOLDERS[release] / "package-lock.json").read_text())
    return locked["packages"][f"node_modules/{package}"]["version"]


def tuspy_version() -> str:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (found,) = (each for each in extras["client"] if each.startswith("tuspy>="))
    return found.removeprefix("tuspy>=")


def maven_version() -> str:
    name = "{http://maven.apache.org/POM/4.0.0}"
    project = ET.parse(FOLDER / "java" / "pom.xml")
    (version,) = (each.text for each in project.iterfind(f".//{name}dependency/{name}version"))
    return str(version)


def cargo_version(crate: str) -> str:
    packages = tomllib.loads((FOLDER / "rust" / "Cargo.lock").read_text())["package"]
    return next(each["version"] for each in packages if each["name"] == crate)


def go_version(module: str) -> str:
    (version,) = re.findall(rf"/{module} v([\d.]+)$", (FOLDER / "go" / "go.mod").read_text(), re.MULTILINE)
    return str(version)
