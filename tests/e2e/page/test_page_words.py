"""What the page says and offers is so: names as they are, what was not compared, what this server does not do, what is
off the list and how it comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from page_visit import MIB, SECONDS, Answers, StalledSender, Visit, Visitor, check_page, page_url
from upload_server import UploadServer

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Route

MakeFile = Callable[[str, int], Path]

UNDO = "Undo: back into this list"
VERSION = {"Tus-Resumable": "1.0.0"}


def names(tab: Visit) -> list[str]:
    """Of all rows, as they stand."""
    return [row.get_attribute("data-name") or "" for row in tab.page.locator("[data-name]").all()]


def width_beyond(inner: Locator, outer: Locator) -> float:
    """How far the one reaches out of the other."""
    boxes = inner.bounding_box(), outer.bounding_box()
    assert boxes[0] is not None
    assert boxes[1] is not None
    return (boxes[0]["x"] + boxes[0]["width"]) - (boxes[1]["x"] + boxes[1]["width"])


def test_what_was_taken_off_the_list_comes_back(server: UploadServer, visit: Visitor, make_file: MakeFile) -> None:
    tab = visit()
    paths = [make_file(name, 900) for name in ("a.txt", "b.txt", "c.txt")]
    for path in paths:
        tab.choose(path)
        tab.wait_for(path.name, "finished", check="same")
    before, links = names(tab), {path.name: tab.link(path.name) for path in paths}

    tab.button("Remove b.txt from this list").click()
    line = tab.page.get_by_role("listitem").filter(has_text="b.txt is off this list. It stays on the server.")
    line.wait_for()
    assert "Press Undo" in tab.page.locator("#page > [role=status]").inner_text()
    assert names(tab) == ["c.txt", "a.txt"]
    tab.button("Clear list").click()
    tab.page.get_by_role("listitem").filter(has_text="3 files are off this list").wait_for()
    assert tab.records() == []
    tab.button(UNDO).click()

    tab.wait_for("b.txt", "finished", check="same")
    tab.reload()
    tab.wait_for("b.txt", "finished", check="same")
    assert names(tab) == before == ["c.txt", "b.txt", "a.txt"]
    assert {name: tab.link(name) for name in before} == links


def test_what_was_taken_off_stays_off_after_the_next_action(visit: Visitor, make_file: MakeFile) -> None:
    tab = visit()
    tab.choose(make_file("a.txt", 900))
    tab.wait_for("a.txt", "finished", check="same")
    tab.page.clock.install()
    tab.button("Remove a.txt from this list").click()

    tab.choose(make_file("b.txt", 900))
    tab.wait_for("b.txt", "finished", check="same")
    assert tab.button(UNDO).count() == 1, "ten seconds are not over"
    tab.page.clock.fast_forward(11 * SECONDS)
    assert tab.button(UNDO).count() == 1, "nothing was done"
    tab.choose(make_file("c.txt", 900))

    tab.button(UNDO).wait_for(state="detached")


def test_rows_stand_in_the_same_order_after_a_reload(
    server: UploadServer, through_proxy: Visit, send_and_stall: StalledSender, make_file: MakeFile
) -> None:
    tab = through_proxy
    tab.page.get_by_label("Files at a time").select_option("1")
    send_and_stall("first.bin", 20 * MIB, after=9 * MIB)
    tab.choose(*(make_file(f"{number}.txt", 10) for number in (3, 1, 4, 5, 9, 2, 6)))
    tab.row("6.txt", "queued").get_by_text("Waiting").wait_for()
    tab.page.get_by_role("heading", name="Under way").wait_for()
    before = names(tab)

    tab.reload()

    tab.wait_for("first.bin", "stopped")
    assert names(tab) == before == ["3.txt", "1.txt", "4.txt", "5.txt", "9.txt", "2.txt", "6.txt", "first.bin"]
    tab.page.get_by_role("heading", name="Unfinished").wait_for()


def test_what_hides_in_a_name_is_seen(bundle: Path, visit: Visitor, tmp_path: Path, make_file: MakeFile) -> None:
    names = {
        "report[U+202E]gpj.exe": "report\u202egpj.exe",
        "soft[U+00AD][U+034F][U+E0041].txt": "soft\u00ad\u034f\U000e0041.txt",
        "a[U+2067]b[U+2069][U+200F]c[U+0007].txt": "a\u2067b\u2069\u200fc\u0007.txt",
        "family \U0001f468\u200d\U0001f469.jpg": "family \U0001f468\u200d\U0001f469.jpg",  # a joiner hides nothing
    }
    with UploadServer(tmp_path / "listed", "--list-uploads") as server:
        check_page(server)
        tab = visit(page_url(server.url))

        tab.choose(*(make_file(name, 900) for name in names.values()))
        for shown, name in names.items():
            row = tab.wait_for(shown, "finished", check="same")
            assert server.metadata(tab.link(shown))["filename"] == name
            assert row.locator("bdi").inner_text().replace("\n", "") == shown
            row.get_by_role("heading", name=shown).wait_for()
            row.get_by_role("button", name=f"Copy link of {shown}").wait_for()
        tab.button("All on this server").click()
        for shown in names:
            tab.page.locator("[data-state] bdi").filter(has_text=shown[-8:]).wait_for()
            tab.page.get_by_role("link", name=shown).wait_for()
        seen = tab.page.locator("main").inner_html()
        assert not any(control in seen for control in "\u202e\u2067\u2069\u200f\u0007")


def test_of_a_long_name_both_ends_are_seen(visit: Visitor, make_file: MakeFile, tmp_path: Path) -> None:
    tab = visit()
    tab.page.set_viewport_size({"width": 320, "height": 640})
    name = "measurements-of-the-north-station-" * 7 + "v12.parquet"

    others = {
        "WHOLE-WORLD[U+202E]gnp.exe": "WHOLE-WORLD\u202egnp.exe",  # too long as it is shown
        "(no name)": " \u3000 ",
        "WWW.WWWWWWWWWWWW": "w" * 9 + "\U0001f469\u200d\U0001f52c" * 9 + "WWW.WWWWWWWWWWWW",
    }

    tab.choose(make_file(name, 900), *(make_file(each, 900) for each in others.values()))
    row = tab.wait_for(name, "finished", check="same")
    for ending in others:
        shown = tab.page.locator("[data-check=same] bdi").filter(has_text=ending)
        shown.wait_for()
        assert width_beyond(shown.locator("span").last, shown) <= 0.5, ending
    cut = tab.row("WHOLE-WORLD[U+202E]gnp.exe").locator(".name-tail")
    cut.wait_for()
    tab.page.get_by_role("heading", name=name).scroll_into_view_if_needed()
    tab.shoot("phone-names", tmp_path)

    head, tail = row.locator(".name-head"), row.locator(".name-tail")
    assert tail.inner_text().endswith("v12.parquet")
    assert width_beyond(tail, row) < 0
    assert head.evaluate("element => element.scrollWidth > element.clientWidth && element.clientWidth > 80")
    assert row.get_by_role("heading").get_attribute("title") == name
    tab.page.set_viewport_size({"width": 1100, "height": 640})
    cut.wait_for(state="detached")
    assert tab.page.evaluate("window.find('WHOLE-WORLD[U+202E]gnp.exe')"), "what fits is in one piece"
    assert tail.count() == 1
    assert row.get_by_role("link", name=name).get_attribute("href") == f"/files/{tab.link(name).rsplit('/')[-1]}"


@pytest.mark.parametrize(
    ("digest", "check", "words"),
    [
        ("none", "unknown", "Stored, and not compared. This server does not give files out."),
        ("sha256", "same", "Verified: the server has the same bytes. It does not give files out."),
    ],
)
def test_a_server_without_downloads_is_not_linked_to(
    bundle: Path, visit: Visitor, tmp_path: Path, make_file: MakeFile, digest: str, check: str, words: str
) -> None:
    with UploadServer(tmp_path / "silent", "--disable-download", "--list-uploads", "--digest", digest) as server:
        check_page(server)
        tab = visit(page_url(server.url))
        path = make_file("secret.txt", 900)

        tab.choose(path)
        row = tab.wait_for(path.name, "finished", check=check)

        row.get_by_text(words).wait_for()
        assert row.get_by_role("link").count() == 0
        assert [button.get_attribute("aria-label") for button in row.get_by_role("button").all()][:-1] == [
            "Copy ID of secret.txt, by which the server's operator finds it",
            "Remove secret.txt from this list",
        ]
        assert requests.get(server.direct(tab.records()[0]["url"]), timeout=10).status_code in {404, 405}
        tab.button("All on this server").click()
        tab.page.locator("[data-state=available]").wait_for()
        assert tab.page.locator("main").get_by_role("link").count() == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "Stop this upload, and remove what was sent?"),
        (("--disable-termination",), "What was sent stays on the server until it expires."),
        (("--disable-termination", "--expire-after", "0"), "What was sent stays on the server."),
    ],
    ids=["removed", "expires", "stays"],
)
def test_what_becomes_of_a_cancelled_upload_is_said(
    bundle: Path, visit: Visitor, tmp_path: Path, make_file: MakeFile, flags: tuple[str, ...], words: str
) -> None:
    with UploadServer(tmp_path / "other", *flags) as server:
        check_page(server)
        tab = visit(page_url(server.url))
        Answers(tab)
        tab.choose(make_file("mistake.mov", 900))
        tab.wait_for_start("mistake.mov")

        tab.button("Cancel mistake.mov").click()

        tab.row("mistake.mov").get_by_text(words, exact=False).wait_for()
        assert ("expires" in tab.row("mistake.mov").inner_text()) == ("expires" in words)


def test_without_the_state_of_uploads_the_server_is_asked_where_they_stand(
    server: UploadServer, through_proxy: Visit, send_and_stall: StalledSender
) -> None:
    """As behind a proxy that lets only the uploads through."""
    tab = through_proxy
    tab.page.route("**/api/**", lambda route: route.fulfill(status=404, body="not found"))
    path = send_and_stall("thesis.zip", 20 * MIB, after=12 * MIB)
    tab.button("Pause thesis.zip").click()
    tab.wait_for(path.name, "paused")
    url = server.direct(tab.records()[0]["url"])
    offset = server.offset(url)
    headers = VERSION | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    content = path.read_bytes()[offset : 14 * MIB]
    assert requests.patch(url, data=content, headers=headers, timeout=10).status_code == 204

    tab.reload()

    tab.wait_for(path.name, "paused").get_by_text("14 of 20 MiB").wait_for()
    tab.choose_again(path.name, path)
    tab.wait_for(path.name, "finished", check="same")
    assert {each for each in tab.complaints if "404" not in each} == set()
    tab.complaints.clear()


def test_what_is_off_the_list_stays_so_when_its_comparison_ends(visit: Visitor, make_file: MakeFile) -> None:
    tab = visit()
    asked: list[Route] = []
    tab.page.route("**/files/*", lambda route: asked.append(route) if is_head(route) else route.continue_())
    with tab.page.expect_request(lambda request: request.method == "HEAD"):
        tab.choose(make_file("notes.txt", 900))
    tab.button("Remove notes.txt from this list").click()

    with tab.page.expect_response(lambda response: response.request.method == "HEAD"):
        asked[0].fulfill(headers={"Upload-Offset": "900", "Repr-Digest": f"sha-256=:{'A' * 43}=:"})
    tab.page.evaluate("() => new Promise(requestAnimationFrame)")

    assert tab.records() == []


def is_head(route: Route) -> bool:
    return route.request.method == "HEAD"
