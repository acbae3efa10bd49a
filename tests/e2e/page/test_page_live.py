"""The page hears of what others do to the uploads it shows: by the server's events."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from cutting_proxy import CuttingProxy
from page_visit import MIB, SECONDS, WAIT_SECONDS, StalledSender, Visit, Visitor, check_page, page_url
from upload_server import UploadServer

if TYPE_CHECKING:
    from playwright.sync_api import Route

VERSION = {"Tus-Resumable": "1.0.0"}
pytestmark = pytest.mark.usefixtures("api")


def create(server: UploadServer, length: int, name: str) -> str:
    metadata = {"Upload-Metadata": "filename " + b64encode(name.encode()).decode()}
    headers = VERSION | metadata | {"Upload-Length": str(length)}
    answer = requests.post(server.url, headers=headers, timeout=10)
    assert answer.status_code == 201, answer.text
    return server.direct(answer.headers["Location"])


def append(url: str, offset: int, content: bytes) -> None:
    headers = VERSION | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    answer = requests.patch(url, data=content, headers=headers, timeout=30)
    assert answer.status_code == 204, answer.text


def test_what_another_program_sends_is_shown(
    server: UploadServer, proxy: CuttingProxy, through_proxy: Visit, make_file: Callable[[str, int], Path]
) -> None:
    path = make_file("shared.bin", 16 * MIB)
    proxy.break_after(9 * MIB, how="stall")
    through_proxy.choose(path)
    proxy.wait_for_stall()
    through_proxy.button("Pause shared.bin").click()
    row = through_proxy.wait_for(path.name, "paused")
    url = server.direct(through_proxy.records()[0]["url"])
    offset = server.offset(url)
    content = path.read_bytes()

    append(url, offset, content[offset : 14 * MIB])
    row.get_by_text("14 of 16 MiB").wait_for()
    append(url, 14 * MIB, content[14 * MIB :])

    through_proxy.wait_for(path.name, "finished", check="same")


@pytest.fixture
def listing_server(bundle: Path, tmp_path: Path) -> Iterator[UploadServer]:
    with UploadServer(tmp_path / "listed", "--list-uploads") as server:
        check_page(server)
        yield server


def test_all_uploads_are_listed_where_that_is_allowed(listing_server: UploadServer, visit: Visitor) -> None:
    finished = create(listing_server, 5, "first.txt")
    append(finished, 0, b"hello")
    tab = visit(page_url(listing_server.url))

    tab.button("All on this server").click()
    rows = tab.page.locator("[data-state]")
    rows.get_by_role("link", name="first.txt").wait_for()
    second = create(listing_server, 100, "second.txt")
    row = rows.filter(has_text="second.txt")
    row.wait_for(timeout=WAIT_SECONDS * SECONDS)
    append(second, 0, bytes(60))
    row.get_by_text("60 of 100 B").wait_for()
    assert requests.delete(second, headers=VERSION, timeout=10).status_code == 204

    row.wait_for(state="detached")
    tab.page.get_by_role("searchbox").fill("nothing")
    tab.page.get_by_text("No name has this in it.").wait_for()


def test_a_name_is_searched_for_until_it_is_found_or_the_list_ends(
    listing_server: UploadServer, visit: Visitor
) -> None:
    parts = {
        ("50", "", ""): (["1.txt", "3.txt", "2.txt"], "a"),
        ("1000", "seven", ""): ([], "b"),
        ("1000", "seven", "b"): (["seven.txt"], "c"),
        ("1000", "nine", ""): ([], None),
    }
    held: list[Route] = []

    def answer(route: Route) -> None:
        query = parse_qs(urlsplit(route.request.url).query)
        limit, name, cursor = (query.get(each, [""])[0] for each in ("limit", "name", "cursor"))
        if (cursor == "b" and not held) or name == "eight":
            held.append(route)
            return
        ids, following = parts[limit, name, cursor]
        route.fulfill(json={"uploads": [status_of(each) for each in ids], "next": following})

    tab = visit(page_url(listing_server.url))
    tab.page.route("**/api/uploads?*", answer)
    tab.button("All on this server").click()
    tab.page.locator("[data-state]").nth(2).wait_for()
    assert tab.page.locator("[data-state] bdi").all_inner_texts() == ["3.txt", "2.txt", "1.txt"]

    search, searching = tab.page.get_by_role("searchbox"), tab.page.get_by_text("Searching …")
    with tab.page.expect_request("**/api/uploads?*cursor=b*"):
        search.fill("seven")
    searching.wait_for()
    assert tab.page.locator("[data-state]").count() + tab.button("Show more").count() == 0
    answer(held[0])
    tab.page.get_by_role("link", name="seven.txt").wait_for()
    searching.wait_for(state="detached")
    tab.button("Show more").wait_for()

    with tab.page.expect_request("**/api/uploads?*name=eight*"):
        search.fill("eight")
    with tab.page.expect_event("requestfailed", lambda request: "eight" in request.url):
        search.fill("nine")
    tab.page.get_by_text("No name has this in it.").wait_for()
    assert tab.button("Show more").count() == 0


def status_of(name: str) -> dict[str, Any]:
    """As the server tells it: the first digit of the name says when it was made."""
    numbers = {"offset": 5, "received": 5, "length": 5, "bytes_per_second": None, "seconds_left": None}
    times = {"created_at": f"2026-01-0{name[0] if name[0].isdecimal() else 9}T12:00:00Z"}
    texts = {"id": name, "url": f"/files/{name}", "state": "available", "digest": None}
    return {**texts, **numbers, **times, "metadata": {"filename": name}, "is_active": False}


def test_why_the_list_is_refused_is_said_in_the_servers_words(listing_server: UploadServer, visit: Visitor) -> None:
    tab = visit(page_url(listing_server.url).replace("127.0.0.1", "files.localhost"))

    tab.button("All on this server").click()

    tab.page.get_by_text("uploads are not listed under the name files.localhost without TLS").wait_for()
    tab.page.get_by_text("or run the server with --list-hosts files.localhost.").wait_for()
    assert tab.button("Try again").count() == 0
    assert {each for each in tab.complaints if "403" not in each} == set()
    tab.complaints.clear()


def test_who_watches_another_tab_is_not_asked_for_the_file(
    server: UploadServer, through_proxy: Visit, send_and_stall: StalledSender
) -> None:
    path = send_and_stall("shared.bin", 20 * MIB, after=9 * MIB)
    name = through_proxy.records()[0]["url"].rsplit("/", 1)[1]
    told = [status_of(name) | {"state": "receiving", "is_active": True, "received": size} for size in (MIB, 2 * MIB)]
    body = "".join(f"event: upload\ndata: {json.dumps(each)}\n\n" for each in told)

    through_proxy.page.route("**/api/events*", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
    through_proxy.reload()

    row = through_proxy.wait_for(path.name, "elsewhere")
    assert [button.get_attribute("aria-label") for button in row.get_by_role("button").all()] == [f"Cancel {path.name}"]


def test_without_leave_there_is_no_such_list(visit: Visitor) -> None:
    tab = visit()

    assert tab.page.get_by_role("button", name="All on this server").count() == 0
