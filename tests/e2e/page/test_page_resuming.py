"""Uploads of an earlier visit go on: after a reload, a killed browser, in a second tab; with the same file only."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from cutting_proxy import CuttingProxy
from page_visit import HANDLE_PICKER, MIB, StalledSender, Visit, Visitor, check_same, kill_browser, page_url
from upload_server import UploadServer

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Playwright

MakeFile = Callable[[str, int], Path]


def test_after_a_reload_the_file_is_chosen_again_and_goes_on(
    server: UploadServer, proxy: CuttingProxy, through_proxy: Visit, send_and_stall: StalledSender
) -> None:
    path = send_and_stall("thesis.zip", 40 * MIB, after=25 * MIB)

    through_proxy.reload()
    assert through_proxy.asked_to_stay == 1
    row = through_proxy.wait_for(path.name, "stopped")
    assert "Choose the file again" in row.inner_text()
    before = proxy.sent_bytes
    through_proxy.choose_again(path.name, path)

    through_proxy.wait_for(path.name, "finished", check="same")
    assert proxy.sent_bytes - before < 25 * MIB, "it began anew instead of going on"
    check_same(server, through_proxy.link(path.name), path)
    assert through_proxy.page.locator("[data-name]").count() == 1


def test_a_stopped_upload_goes_on_when_its_file_is_dropped(
    server: UploadServer, through_proxy: Visit, send_and_stall: StalledSender
) -> None:
    path = send_and_stall("thesis.zip", 20 * MIB, after=12 * MIB)
    url = through_proxy.records()[0]["url"]

    through_proxy.reload()
    through_proxy.wait_for(path.name, "stopped")
    through_proxy.drop(path)

    through_proxy.wait_for(path.name, "finished", check="same")
    assert through_proxy.link(path.name).endswith(url)


def test_another_file_is_refused_in_words_and_not_sent(
    server: UploadServer, through_proxy: Visit, make_file: MakeFile, send_and_stall: StalledSender
) -> None:
    path = send_and_stall("thesis.zip", 20 * MIB, after=12 * MIB)
    through_proxy.reload()
    through_proxy.wait_for(path.name, "stopped")
    before = server.offset(through_proxy.records()[0]["url"])
    row = through_proxy.row(path.name)

    through_proxy.choose_again(path.name, make_file("other.zip", 20 * MIB))
    row.get_by_text("This is other.zip, but the upload began with thesis.zip").wait_for()
    through_proxy.choose_again(path.name, make_file("elsewhere/thesis.zip", 21 * MIB))
    row.get_by_text("This file is 21 MiB; the upload began with one of 20 MiB.").wait_for()

    assert server.offset(through_proxy.records()[0]["url"]) == before
    assert len(list(server.directory.glob("*.info"))) == 1


@pytest.mark.parametrize("flags", [(), ("--disable-termination",)], ids=["removes", "keeps"])
def test_a_file_that_changed_since_can_be_sent_from_its_start(
    bundle: Path, visit: Visitor, make_file: MakeFile, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    with UploadServer(tmp_path / "changed", *flags) as server, CuttingProxy(server.port) as proxy:
        tab = visit(page_url(proxy.through(server.url)))
        tab.may_lose_network = True
        path = make_file("thesis.zip", 20 * MIB)
        proxy.break_after(12 * MIB, how="stall")
        tab.choose(path)
        proxy.wait_for_stall()
        tab.reload()
        row = tab.wait_for(path.name, "stopped")
        old = server.direct(tab.records()[0]["url"])
        path.write_bytes(bytes(500))

        tab.choose_again(path.name, path)
        row.get_by_text("This file is 500 B; the upload began with one of 20 MiB.").wait_for()
        assert ("removes the" in row.inner_text()) == (not flags)
        tab.choose_in("Choose the old file: thesis.zip", make_file("elsewhere/thesis.zip", 501))
        row.get_by_text("This file is 501 B").wait_for()
        tab.choose_in("Choose the old file: thesis.zip", make_file("other.zip", 501))
        row.get_by_text("This is other.zip, but the upload began with thesis.zip").wait_for()
        tab.choose_in("Choose the old file: thesis.zip", path)
        row.get_by_text("This file is 500 B").wait_for()
        tab.button("Start over: thesis.zip").click()

        tab.wait_for(path.name, "finished", check="same")
        check_same(server, tab.link(path.name), path)
        assert tab.page.locator("[data-name]").count() == 1
        if flags:
            assert server.offset(old) > 0
        else:
            assert server.is_gone(old)


def test_the_old_file_goes_on_after_the_changed_one_was_refused(
    server: UploadServer, through_proxy: Visit, send_and_stall: StalledSender, make_file: MakeFile
) -> None:
    path = send_and_stall("thesis.zip", 20 * MIB, after=12 * MIB)
    through_proxy.reload()
    row = through_proxy.wait_for(path.name, "stopped")
    url = through_proxy.records()[0]["url"]

    newer = make_file("elsewhere/thesis.zip", 20 * MIB)
    os.utime(newer, (0, 0))
    through_proxy.choose_again(path.name, newer)
    row.get_by_text(
        "This file has changed since the upload began. The one it began with was last changed on"
    ).wait_for()
    through_proxy.choose_in("Choose the old file: thesis.zip", path)

    through_proxy.wait_for(path.name, "finished", check="same")
    assert through_proxy.link(path.name).endswith(url)
    assert through_proxy.button("Start over: thesis.zip").count() == 0


def test_with_a_handle_an_upload_goes_on_after_a_reload_by_itself(
    server: UploadServer, proxy: CuttingProxy, visit: Visitor
) -> None:
    tab = visit(page_url(proxy.through(server.url)), picker=HANDLE_PICKER)
    tab.may_lose_network = True
    tab.page.evaluate(
        """async () => {
          const folder = await navigator.storage.getDirectory();
          const stream = await (await folder.getFileHandle("kept.bin", { create: true })).createWritable();
          await stream.write(new Uint8Array(20 * 2 ** 20).map((_, index) => index * 31 >> 3));
          await stream.close();
        }"""
    )
    proxy.break_after(12 * MIB, how="stall")
    tab.button("Choose files").click()
    proxy.wait_for_stall()

    tab.reload()

    tab.wait_for("kept.bin", "finished", check="same")
    assert len(list(server.directory.glob("*.info"))) == 1


@pytest.mark.usefixtures("api")
def test_an_upload_that_the_server_lost_can_be_started_over(
    server: UploadServer, through_proxy: Visit, send_and_stall: StalledSender
) -> None:
    path = send_and_stall("draft.docx", 20 * MIB, after=12 * MIB)
    through_proxy.button("Pause draft.docx").click()
    through_proxy.wait_for(path.name, "paused")
    url = through_proxy.records()[0]["url"]
    assert requests.delete(server.direct(url), headers={"Tus-Resumable": "1.0.0"}, timeout=10).status_code == 204

    through_proxy.row(path.name).get_by_text("The server no longer has this upload").wait_for()
    through_proxy.button("Start over: draft.docx").click()

    through_proxy.wait_for(path.name, "finished", check="same")
    assert not through_proxy.link(path.name).endswith(url)
    through_proxy.complaints.clear()  # 404, as it had to be


@pytest.mark.usefixtures("api")
def test_a_finished_file_that_the_server_lost_is_not_called_safe(
    server: UploadServer, visit: Visitor, make_file: MakeFile
) -> None:
    tab = visit()
    path = make_file("draft.docx", 900)
    tab.choose(path)
    tab.wait_for(path.name, "finished", check="same")
    url = tab.link(path.name)
    tab.reload()
    tab.wait_for(path.name, "finished", check="same")
    assert requests.delete(url, headers={"Tus-Resumable": "1.0.0"}, timeout=10).status_code == 204

    row = tab.wait_for(path.name, "failed")
    row.get_by_text("This file was removed from the server.").wait_for()
    assert "0%, 0 of 1 chunks safe" in (row.get_by_role("progressbar").get_attribute("aria-valuetext") or "")
    tab.choose_again(path.name, path)

    tab.wait_for(path.name, "finished", check="same")
    check_same(server, tab.link(path.name), path)
    assert tab.link(path.name) != url


def test_two_tabs_with_one_file_make_one_upload(
    server: UploadServer, visit: Visitor, through_proxy: Visit, send_and_stall: StalledSender
) -> None:
    path = send_and_stall("shared.bin", 30 * MIB, after=14 * MIB)
    second = visit(through_proxy.url)
    second.may_lose_network = True
    second.choose(path)
    second.wait_for(path.name, "elsewhere")

    through_proxy.page.close(run_before_unload=False)

    second.wait_for(path.name, "finished", check="same")
    assert len(list(server.directory.glob("*.info"))) == 1
    check_same(server, second.link(path.name), path)


def test_what_is_cancelled_in_one_tab_is_not_sent_by_another(
    server: UploadServer, proxy: CuttingProxy, visit: Visitor, through_proxy: Visit, send_and_stall: StalledSender
) -> None:
    path = send_and_stall("shared.bin", 30 * MIB, after=14 * MIB)
    url = through_proxy.records()[0]["url"]
    second = visit(through_proxy.url)
    second.may_lose_network = True

    second.button("Cancel shared.bin").click()
    second.button("Stop and remove").click()

    for tab in (second, through_proxy):
        tab.row(path.name).wait_for(state="detached")
    proxy.release()
    second.page.bring_to_front()
    second.reload()
    assert second.records() == []
    assert [tab.row(path.name).count() for tab in (second, through_proxy)] == [0, 0]
    assert server.is_gone(url)
    assert re.findall("UploadCreated", server.log()) == ["UploadCreated"]


def test_a_killed_browser_remembers_and_goes_on(
    server: UploadServer,
    proxy: CuttingProxy,
    playwright: Playwright,
    chromium_path: str,
    make_file: MakeFile,
    tmp_path: Path,
) -> None:
    path = make_file("film.mkv", 30 * MIB)
    url = page_url(proxy.through(server.url))
    proxy.break_after(18 * MIB, how="stall")
    with profile_of(playwright, chromium_path, tmp_path / "profile") as context:
        tab = Visit(context, url).open()
        tab.choose(path)
        proxy.wait_for_stall()
        kill_browser(tmp_path / "profile")
    with profile_of(playwright, chromium_path, tmp_path / "profile") as context:
        tab = Visit(context, url).open()
        tab.wait_for(path.name, "stopped")
        tab.choose_again(path.name, path)
        tab.wait_for(path.name, "finished", check="same")
        check_same(server, tab.link(path.name), path)
    assert len(list(server.directory.glob("*.info"))) == 1


@contextmanager
def profile_of(playwright: Playwright, chromium_path: str, folder: Path) -> Iterator[BrowserContext]:
    """A browser whose memory outlasts it."""
    from playwright.sync_api import Error

    arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
    context = playwright.chromium.launch_persistent_context(folder, executable_path=chromium_path, args=arguments)
    try:
        yield context
    finally:
        with suppress(Error):  # it was killed
            context.close()
