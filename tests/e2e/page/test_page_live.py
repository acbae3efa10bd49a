"""The page hears of what others do to the uploads it shows: by the server's events."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from cutting_proxy import CuttingProxy
from page_visit import MIB, SECONDS, WAIT_SECONDS, Visit, Visitor, check_page, page_url
from upload_server import UploadServer

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
    tab.page.get_by_text("No uploads here.").wait_for()


def test_without_leave_there_is_no_such_list(visit: Visitor) -> None:
    tab = visit()

    assert tab.page.get_by_role("button", name="All on this server").count() == 0
