"""A browser for each module, a page of its own for each test, and a server that serves the page."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

# The folder has no package; its modules, and those of the folder above, are found here.
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from cutting_proxy import CuttingProxy
from page_bundle import MissingNode, build_page
from page_visit import MIB, PLAIN_PICKER, StalledSender, Visit, Visitor, check_page, page_url
from upload_server import UploadServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Playwright

ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]


@pytest.fixture(scope="session")
def bundle() -> Path:
    try:
        return build_page()
    except MissingNode as error:
        pytest.skip(f"missing: {error}")


@pytest.fixture(scope="session")
def chromium_path() -> str:
    path = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("missing: chromium")
    return path


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """For a module and no longer: its event loop runs in this thread, where later tests want theirs."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("missing: playwright")
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def chromium(playwright: Playwright, chromium_path: str) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=chromium_path, args=ARGUMENTS)
    yield browser
    browser.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """As a fresh profile."""
    context = chromium.new_context(viewport={"width": 1100, "height": 800})
    yield context
    context.close()


@pytest.fixture
def server(bundle: Path, tmp_path: Path) -> Iterator[UploadServer]:
    with UploadServer(tmp_path / "uploads") as server:
        check_page(server)
        yield server


@pytest.fixture
def visit(context: BrowserContext, server: UploadServer) -> Iterator[Visitor]:
    """Makes tabs on the page; what their consoles said is looked at in the end."""
    visits: list[Visit] = []

    def begin(url: str = "", *, picker: str = PLAIN_PICKER) -> Visit:
        visits.append(Visit(context, url or page_url(server.url), picker=picker))
        return visits[-1].open()

    yield begin
    for each in visits:
        each.check_console()


@pytest.fixture
def through_proxy(proxy: CuttingProxy, server: UploadServer, visit: Visitor) -> Visit:
    """A tab whose network may be cut."""
    tab = visit(page_url(proxy.through(server.url)))
    tab.may_lose_network = True
    return tab


@pytest.fixture
def api(server: UploadServer) -> None:
    if requests.get(page_url(server.url) + "api/openapi.json", timeout=10).status_code == 404:
        pytest.skip("missing: this server has no status API")


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[[str, int], Path]:
    """Files in which a shifted, lost or repeated stretch shows."""

    def make(name: str, size: int) -> Path:
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        block = random.Random(name).randbytes(min(size, 3 * MIB + 17))
        with path.open("wb") as file:
            for start in range(0, size, max(1, len(block))):
                file.write(block[: size - start])
        return path

    return make


@pytest.fixture
def send_and_stall(proxy: CuttingProxy, through_proxy: Visit, make_file: Callable[[str, int], Path]) -> StalledSender:
    """Chooses a new file, whose upload stalls after so many bytes."""

    def send(name: str, size: int, *, after: int) -> Path:
        path = make_file(name, size)
        proxy.break_after(after, how="stall")
        through_proxy.choose(path)
        proxy.wait_for_stall()
        return path

    return send
