"""The page for everybody: axe-core finds nothing, phones need no sideways scroll, keyboards reach all, it is small.

Takes the pictures that people look at (TEST_SCREENSHOTS names the folder).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cutting_proxy import CuttingProxy
from page_bundle import STATIC
from page_visit import MIB, Answers, Visit, Visitor, page_url
from upload_server import UploadServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MOST_TRANSFER_BYTES = 100_000
AXE = STATIC / "node_modules" / "axe-core" / "axe.min.js"

MakeFile = Callable[[str, int], Path]
Open = Callable[..., Visit]


@pytest.fixture
def opened(chromium: Browser, server: UploadServer, proxy: CuttingProxy) -> Iterator[Open]:
    """Opens the page through the proxy in a window of its own kind, into which axe-core may be put."""
    visits: list[Visit] = []

    def begin(width: int = 1100, height: int = 800, **preferences: Any) -> Visit:
        context = chromium.new_context(viewport={"width": width, "height": height}, bypass_csp=True, **preferences)
        visits.append(Visit(context, page_url(proxy.through(server.url))))
        visits[-1].may_lose_network = True
        return visits[-1].open()

    yield begin
    for tab in visits:
        tab.check_console()
        tab.context.close()


def fill(tab: Visit, proxy: CuttingProxy, make_file: MakeFile) -> None:
    """One finished, one under way that had trouble, one waiting for its turn."""
    tab.page.get_by_label("Files at a time").select_option("1")
    tab.choose(make_file("notes.txt", 3000))
    tab.wait_for("notes.txt", "finished", check="same")
    proxy.break_after(40 * MIB)
    proxy.break_after(60 * MIB, how="stall")
    tab.choose(make_file("field recordings, spring.tar", 200 * MIB), make_file("model.safetensors", 20 * MIB))
    proxy.wait_for_stall()


def check_accessible(tab: Visit) -> None:
    tab.page.add_script_tag(path=str(AXE))
    found = tab.page.evaluate("async () => (await axe.run(document)).violations")
    told = [(each["impact"], each["id"], [node["html"][:160] for node in each["nodes"]]) for each in found]
    assert [each for each in told if each[0] in {"serious", "critical", "moderate"}] == []


def check_no_sideways_scroll(tab: Visit) -> None:
    widths = tab.page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1], widths


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    opened: Open, proxy: CuttingProxy, make_file: MakeFile, tmp_path: Path, scheme: str
) -> None:
    tab = opened(color_scheme=scheme, reduced_motion="reduce")
    check_accessible(tab)
    tab.shoot(f"empty-{scheme}", tmp_path)

    fill(tab, proxy, make_file)
    check_accessible(tab)
    tab.shoot(f"sending-{scheme}", tmp_path)

    tab.button("Pause all").click()
    tab.wait_for("model.safetensors", "paused")
    tab.button("Cancel field recordings, spring.tar").click()
    check_accessible(tab)
    tab.shoot(f"paused-{scheme}", tmp_path)
    tab.button("Keep it").click()
    tab.button("Resume all").click()
    tab.wait_for("field recordings, spring.tar", "finished")
    tab.wait_for("model.safetensors", "finished", check="same")
    check_accessible(tab)
    tab.shoot(f"finished-{scheme}", tmp_path)


def test_the_narrowest_phone_needs_no_sideways_scroll(
    opened: Open, proxy: CuttingProxy, make_file: MakeFile, tmp_path: Path
) -> None:
    tab = opened(320, 640, has_touch=True)
    check_no_sideways_scroll(tab)
    tab.shoot("phone-empty", tmp_path)

    fill(tab, proxy, make_file)
    check_no_sideways_scroll(tab)
    tab.shoot("phone-sending", tmp_path)
    tab.button("Cancel field recordings, spring.tar").click()
    check_no_sideways_scroll(tab)
    tab.button("Stop and remove").click()
    long_name = "a-very-long-name-" * 9 + ".bin"
    tab.choose(make_file(long_name, 100))
    tab.wait_for(long_name, "finished", check="same")
    tab.wait_for("model.safetensors", "finished", check="same")
    check_no_sideways_scroll(tab)
    tab.shoot("phone-finished", tmp_path)


def test_a_phone_has_room_for_all_buttons(opened: Open, make_file: MakeFile, tmp_path: Path) -> None:
    tab = opened(320, 640, color_scheme="dark", reduced_motion="reduce")
    tab.context.route("**/files/*", lambda route: route.abort() if route.request.method == "GET" else route.continue_())
    tab.choose(make_file("notes.txt", 3000))
    tab.wait_for("notes.txt", "finished", check="unknown")
    tab.button("Verify notes.txt: read it back and compare").wait_for()
    path = make_file("observations-of-the-whole-spring.parquet", MIB)
    Answers(tab)
    tab.choose(path)
    tab.wait_for_start(path.name)
    tab.reload()
    tab.wait_for(path.name, "stopped")
    check_no_sideways_scroll(tab)
    path.write_bytes(b"changed")

    tab.choose_again(path.name, path)
    tab.button(f"Start over: {path.name}").wait_for()
    tab.button("Remove notes.txt from this list").click()

    check_no_sideways_scroll(tab)
    check_accessible(tab)
    tab.shoot("phone-changed", tmp_path)


def test_a_drag_that_ends_elsewhere_leaves_the_page_as_it_was(visit: Visitor, make_file: MakeFile) -> None:
    tab = visit()
    tab.drag("dragEnter", "dragOver", over=[make_file("notes.txt", 10)])
    overlay = tab.page.get_by_text("Drop to upload")
    overlay.wait_for()

    tab.drag("dragCancel", over=[])

    overlay.wait_for(state="detached")


def test_ten_thousand_chunks_are_drawn_in_little_space(
    opened: Open, proxy: CuttingProxy, make_file: MakeFile, tmp_path: Path
) -> None:
    """Of a file that is larger than the machine has room for: the browser remembers it, and nothing is sent."""
    tab = opened()
    size = 10_500 * MIB
    texts = {"key": "k", "url": None, "name": "genome.bam", "path": "", "type": "", "digest": "", "verdict": ""}
    numbers = {"size": size, "lastModified": 1, "chunkBytes": MIB, "saved": 6_200 * MIB, "addedAt": 1, "endedAt": None}
    record = {**texts, **numbers, "isPaused": True, "isFinished": False}
    script = "record => localStorage.setItem('tusd-py:/files/:upload:k', JSON.stringify(record))"
    tab.page.evaluate(script, record | {"url": "/files/none"})
    tab.page.route("**/files/none", lambda route: route.abort())
    tab.page.route("**/api/events*", lambda route: route.abort())
    tab.reload()

    bar = tab.page.get_by_role("progressbar")
    bar.wait_for()
    box = bar.bounding_box()
    assert box is not None
    assert box["height"] <= 100, box
    assert "6,200 of 10,500 chunks safe" in (bar.get_attribute("aria-valuetext") or "")
    tab.shoot("ten-thousand-chunks", tmp_path)


def test_a_keyboard_reaches_everything_in_order(visit: Visitor, make_file: MakeFile) -> None:
    tab = visit()
    tab.choose(make_file("notes.txt", 3000))
    tab.wait_for("notes.txt", "finished", check="same")
    tab.reload()  # so that the first Tab begins at the top
    tab.wait_for("notes.txt", "finished", check="same")

    reached = []
    for _ in range(11):
        tab.page.keyboard.press("Tab")
        script = (
            "() => document.activeElement.ariaLabel || document.activeElement.labels?.[0]?.innerText.split('\\n')[0]"
        )
        reached.append(tab.page.evaluate(f"() => ({script})() || document.activeElement.innerText"))

    assert reached == [
        *(
            "Skip to the uploads",
            "Choose files",
            "Choose a folder",
            "Chunk size",
            "Files at a time",
            "Clear list",
            "notes.txt",
        ),
        *("Copy link of notes.txt", "Remove notes.txt from this list", "Copy the sha256 digest", "HTTP API"),
    ]


def test_choices_are_remembered(visit: Visitor) -> None:
    tab = visit()
    tab.page.get_by_label("Chunk size").select_option("64 MiB")
    tab.page.get_by_label("Files at a time").select_option("4")

    tab.reload()

    assert tab.page.get_by_label("Chunk size").evaluate("select => select.selectedOptions[0].text") == "64 MiB"
    assert tab.page.get_by_label("Files at a time").input_value() == "4"


def test_the_page_is_small_and_asks_nobody_else(server: UploadServer, visit: Visitor, make_file: MakeFile) -> None:
    tab = visit()
    tab.choose(make_file("notes.txt", 10))
    tab.wait_for("notes.txt", "finished", check="same")
    script = """() => performance.getEntries()
        .filter(each => each.entryType === "navigation" || each.name.includes("page-assets"))
        .map(each => [each.name, each.encodedBodySize])"""
    parts = dict(tab.page.evaluate(script))

    assert len(parts) >= 3, parts
    assert sum(parts.values()) <= MOST_TRANSFER_BYTES, parts
    others = tab.page.evaluate("() => performance.getEntriesByType('resource').map(each => each.name)")
    assert all(name.startswith(page_url(server.url)) for name in others), others
