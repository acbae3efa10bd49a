"""Makes the picture that the README opens with: `python tests/e2e/page/picture.py`, with Chromium.

A real server, a real browser, and a network of 24 MiB a second that is cut now and then.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cutting_proxy import CuttingProxy
from playwright.sync_api import Page, sync_playwright
from upload_server import UploadServer

ROOT = Path(__file__).resolve().parents[3]
PICTURE = ROOT / "docs" / "page.png"
MIB = 1 << 20
FILES = {"checkpoint-4200.safetensors": 180 * MIB, "field-recordings.tar": 150 * MIB, "labels.parquet": 3 * MIB}


def main() -> None:
    with tempfile.TemporaryDirectory() as name, UploadServer(Path(name, "uploads"), "--digest", "sha256") as server:
        folder = Path(name)
        with CuttingProxy(server.port) as proxy, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 960, "height": 720}, device_scale_factor=2)
            page.add_init_script("delete window.showOpenFilePicker;")
            page.goto(proxy.through(server.url).removesuffix("files/"))
            _choose(page, [_make(folder, "labels.parquet")])
            page.locator('[data-name="labels.parquet"][data-check="same"]').wait_for()
            network = page.context.new_cdp_session(page)
            network.send("Network.enable")
            limits = {"offline": False, "latency": 5, "downloadThroughput": -1, "uploadThroughput": 24 * MIB}
            network.send("Network.emulateNetworkConditions", limits)
            proxy.break_after(45 * MIB, how="reset")
            _choose(page, [_make(folder, "checkpoint-4200.safetensors"), _make(folder, "field-recordings.tar")])
            page.wait_for_function(
                "() => Number(document.querySelector('[data-name^=checkpoint] [role=progressbar]').ariaValueNow) >= 55"
            )
            page.mouse.move(0, 0)
            page.screenshot(path=str(PICTURE), animations="disabled")
            browser.close()
    print(PICTURE.relative_to(ROOT))


def _make(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(random.Random(name).randbytes(MIB) * (FILES[name] // MIB))
    return path


def _choose(page: Page, paths: list[Path]) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose files").click()
    chooser.value.set_files([str(path) for path in paths])


if __name__ == "__main__":
    main()
