"""A person with a browser on the page: opens it, drops and chooses files, reads rows, and hears what the console says.

Chromium by Playwright. Errors of the console, violations of the Content-Security-Policy and uncaught exceptions fail
the test at its end; requests that fail do so too, unless the test says that it cuts the network.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import pytest
import requests
from upload_server import UploadServer

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Dialog, Locator, Page, Route

MIB = 1 << 20
SECONDS = 1000.0  # Playwright counts in milliseconds
WAIT_SECONDS = 30.0
SHOTS = os.environ.get("TEST_SCREENSHOTS")

# Pickers of the system cannot be driven; the page then takes the input element, as in Firefox.
PLAIN_PICKER = "delete window.showOpenFilePicker;"

# A picker that gives handles, as Chromium's does, of a file that lives in the origin's own file system.
HANDLE_PICKER = """
window.showOpenFilePicker = async () => {
  const folder = await navigator.storage.getDirectory();
  return [await folder.getFileHandle("kept.bin")];
};
"""


class Visit:
    """One tab on the page."""

    def __init__(self, context: BrowserContext, url: str, *, picker: str = PLAIN_PICKER) -> None:
        self.context = context
        self.url = url
        self.may_lose_network = False
        self.complaints: list[str] = []
        self.asked_to_stay = 0
        self.page: Page = context.new_page()
        self.page.set_default_timeout(WAIT_SECONDS * SECONDS)
        self.page.add_init_script(picker)
        self.page.on("console", lambda message: self._hear(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("dialog", self._leave)

    def open(self) -> Visit:
        self.page.goto(self.url)
        self.page.get_by_role("heading", level=1).wait_for()
        return self

    def reload(self) -> None:
        self.page.reload()
        self.page.get_by_role("heading", level=1).wait_for()

    def choose(self, *paths: Path) -> None:
        self._pick(paths, lambda: self.page.get_by_role("button", name="Choose files").click())

    def choose_again(self, name: str, path: Path) -> None:
        self.choose_in(f"Choose file {name} again", path)

    def choose_in(self, button: str, path: Path) -> None:
        self._pick([path], lambda: self.button(button).click())

    def drop(self, *paths: Path) -> None:
        """As from a file manager: folders too, which no script in the page could make up."""
        self.drag("dragEnter", "dragOver", "drop", over=paths)

    def drag(self, *kinds: str, over: Sequence[Path]) -> None:
        session = self.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(path) for path in over], "dragOperationsMask": 1}
        for kind in kinds:
            session.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 200, "data": data})
        session.detach()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def row(self, name: str, phase: str = "") -> Locator:
        return self.page.locator(f'[data-name="{name}"]' + (f'[data-phase="{phase}"]' if phase else ""))

    def wait_for(self, name: str, phase: str, *, check: str = "") -> Locator:
        """The row, once the upload is in this phase, and compared with this result."""
        row = self.page.locator(
            f'[data-name="{name}"][data-phase="{phase}"]' + (f'[data-check="{check}"]' if check else "")
        )
        try:
            row.wait_for(timeout=WAIT_SECONDS * SECONDS)
        except Exception as error:
            error.add_note(f"the page shows: {self.page.locator('main').inner_text()}")
            raise
        return row

    def wait_for_start(self, name: str) -> None:
        """Until the server knows the upload: before that it is cancelled without a question."""
        self.wait_for(name, "sending").get_by_text("Starting").wait_for(state="detached")

    def link(self, name: str) -> str:
        """The finished upload's URL."""
        href = self.row(name).get_by_role("link").get_attribute("href")
        assert href is not None
        return str(self.page.evaluate("href => new URL(href, location.href).href", href))

    def shoot(self, name: str, folder: Path) -> None:
        """A picture for people to look at; kept where TEST_SCREENSHOTS says."""
        folder = Path(SHOTS) if SHOTS else folder
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(folder / f"{name}.png"), animations="disabled")

    def records(self) -> list[dict[str, Any]]:
        """What the browser remembers."""
        script = (
            "() => Object.entries(localStorage).filter(([k]) => k.includes(':upload:')).map(([, v]) => JSON.parse(v))"
        )
        return list(self.page.evaluate(script))

    def check_console(self) -> None:
        assert self.complaints == [], self.complaints

    def _pick(self, paths: Sequence[Path], click: Callable[[], None]) -> None:
        with self.page.expect_file_chooser() as chooser:
            click()
        chooser.value.set_files([str(path) for path in paths])

    def _leave(self, dialog: Dialog) -> None:
        """ "Leave this page?", which it asks while something is being sent."""
        assert dialog.type == "beforeunload", dialog.message
        self.asked_to_stay += 1
        dialog.accept()

    def _hear(self, kind: str, text: str) -> None:
        # 409 and 423: the server has not noticed yet that the cut request is over.
        is_network = re.search(r"Failed to load resource: (net::ERR_|.*status of (409|423|50[234]))", text) is not None
        if kind in {"error", "warning"} and not (is_network and self.may_lose_network):
            self.complaints.append(f"{kind}: {text}")


class Answers:
    """What becomes of the bytes that a tab sends: they stay on their way, are refused, or reach the server."""

    def __init__(self, tab: Visit) -> None:
        self.how: Literal["hold", "refuse", "take"] = "hold"
        tab.page.route("**/files/*", self._answer)

    def _answer(self, route: Route) -> None:
        if route.request.method != "PATCH" or self.how == "take":
            route.continue_()
        elif self.how == "refuse":
            route.fulfill(status=403, body="ERR_UPLOAD_REJECTED: not now")


Visitor = Callable[..., Visit]
StalledSender = Callable[..., Path]


def check_page(server: UploadServer) -> None:
    if 'name="tusd-py"' not in requests.get(page_url(server.url), timeout=10).text:
        pytest.skip("missing: this server has no page")


def check_same(server: UploadServer, url: str, path: Path) -> None:
    with path.open("rb") as file:
        expected = hashlib.file_digest(file, "sha256").hexdigest()
    assert server.digests(url) == {"GET": expected, "disk": expected}


def page_url(url: str) -> str:
    """Of the page at the root of the server whose endpoint is `url`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"


def kill_browser(profile: Path) -> None:
    """End the processes that use this profile, without a chance to save anything."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(profile).encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended
