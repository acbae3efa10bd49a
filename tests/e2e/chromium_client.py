"""Chromium for tests: pages of ours on an origin of their own, so that CORS counts, and what their scripts report.

Scripts are bundled with the packages of either major version; each page has a fresh profile.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client_run import WAIT_SECONDS, Reports
from node_client import FOLDER, FOLDERS, installed_node_client

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SCRIPTS = [FOLDER / "browser" / name for name in ("tus.js", "uppy.js")]
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]  # of containers, which run as root and have a small /dev/shm
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
HAS_COME = "([event, count]) => window.events.filter(each => [event, 'error'].includes(each.event)).length >= count"


class MissingBrowser(Exception):
    """There is no Chromium here, or nothing to steer it with."""


class PageRun(Reports):
    """A page whose script adds to `events`."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.page = page

    def wait_for(self, event: str, count: int = 1) -> None:
        """Until the page has reported so many of these; an error that was not waited for fails."""
        try:
            self.page.wait_for_function(HAS_COME, arg=[event, count], timeout=WAIT_SECONDS * 1000)
        finally:
            self.reports = self.page.evaluate("window.events")
        assert len(self.of(event)) >= count, f"no {event}; it reported {self.reports[-12:]}"

    def finish(self) -> str:
        self.wait_for("success")
        return self.url


class Chromium:
    def __init__(self, browser: Browser, origin: str) -> None:
        self._browser = browser
        self._origin = origin

    @contextmanager
    def open(self, page: str, **scenario: Any) -> Iterator[PageRun]:
        """`page` is as in `newest/tus.html`."""
        with self._browser.new_context(viewport={"width": 900, "height": 700}) as context:
            context.add_init_script(f"window.scenario = {json.dumps(scenario)}")
            opened = context.new_page()
            opened.goto(f"{self._origin}/{page}")
            run = PageRun(opened)
            try:
                yield run
            except BaseException as error:
                error.add_note(f"the page reported {opened.evaluate('(window.events || []).slice(-12)')}")
                raise


def bundle(folder: Path, scripts: Sequence[Path] = SCRIPTS) -> None:
    """Pages for `Chromium.open`, of both major versions, into `folder`."""
    for release in FOLDERS:
        installed_node_client(release)
    command = ["node", str(FOLDER / "bundle.mjs"), str(folder), *map(str, scripts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def running_chromium(folder: Path) -> Iterator[Chromium]:
    """With the pages in `folder`. While it runs, no event loop can be started in this thread: close it soon."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise MissingBrowser("playwright (pip install playwright)") from error
    path = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if path is None:
        raise MissingBrowser("chromium")
    with (
        serving(folder) as origin,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=path, args=ARGUMENTS) as browser,
    ):
        yield Chromium(browser, origin)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """An origin with these files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass
