"""A browser sends files from the page: whole folders, paused, through cuts and crashes; what arrives is the same."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cutting_proxy import CuttingProxy
from page_visit import MIB, StalledSender, Visit, Visitor, check_page, check_same, page_url
from upload_server import UploadServer

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Route

MakeFile = Callable[[str, int], Path]

TUS = {"Tus-Resumable": "1.0.0"}


def answer_some(tab: Visit, reply: Callable[[list[str]], dict[str, Any] | None]) -> list[str]:
    """Returns what is asked of the server from now on: methods, in order. `reply` sees that, and has the answer to the
    last one; None leaves it to the server."""
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.method)
        own = reply(asked)
        if own is None:
            route.continue_()
        else:
            route.fulfill(**own)

    tab.page.route("**/files/*", answer)
    return asked


def answer_with(status: int, body: str) -> Callable[[Route], None]:
    return lambda route: route.fulfill(status=status, body=body)


def metadata_of(server: UploadServer, url: str) -> dict[str, str]:
    info = json.loads(server.path(url).with_name(server.path(url).name + ".info").read_text())
    return dict(info["MetaData"])


def test_chosen_files_arrive_with_their_names_and_are_compared(
    server: UploadServer, visit: Visitor, make_file: MakeFile
) -> None:
    tab = visit()
    paths = [make_file("report.pdf", 3 * MIB + 1), make_file("empty.txt", 0), make_file("grüße.txt", 900)]

    tab.choose(*paths)

    for path in paths:
        tab.wait_for(path.name, "finished", check="same")
        check_same(server, tab.link(path.name), path)
    assert metadata_of(server, tab.link("report.pdf")) == {"filename": "report.pdf", "filetype": "application/pdf"}
    assert metadata_of(server, tab.link("grüße.txt"))["filename"] == "grüße.txt"


def test_200_mib_go_on_after_the_network_was_cut(
    server: UploadServer, proxy: CuttingProxy, through_proxy: Visit, make_file: MakeFile, tmp_path: Path
) -> None:
    path = make_file("recordings.tar", 200 * MIB + 12_345)
    proxy.break_after(60 * MIB + 777, how="reset")
    proxy.break_after(30 * MIB, times=2)

    through_proxy.choose(path)
    through_proxy.wait_for(path.name, "finished")

    assert proxy.broken >= 2
    assert proxy.sent_bytes < 216 * MIB + proxy.broken * 8 * MIB, "it began anew instead of going on"
    check_same(server, through_proxy.link(path.name), path)


def test_a_lost_network_is_told_and_waited_out(
    server: UploadServer, proxy: CuttingProxy, through_proxy: Visit, make_file: MakeFile, tmp_path: Path
) -> None:
    path = make_file("survey.csv", 30 * MIB)
    proxy.break_after(14 * MIB)
    proxy.is_refusing = True  # new connections; the page's own goes on up to the cut
    through_proxy.choose(path)

    row = through_proxy.wait_for(path.name, "waiting")
    through_proxy.page.get_by_text("The server does not answer. Uploads wait").wait_for()
    assert "goes on by itself" in row.inner_text()
    through_proxy.shoot("no-answer", tmp_path)
    proxy.is_refusing = False

    through_proxy.wait_for(path.name, "finished", check="same")
    through_proxy.page.get_by_text("The server does not answer").wait_for(state="detached")
    check_same(server, through_proxy.link(path.name), path)


def test_without_a_network_it_says_so_and_waits(
    server: UploadServer, visit: Visitor, make_file: MakeFile, tmp_path: Path
) -> None:
    path = make_file("survey.csv", MIB)
    tab = visit()
    tab.may_lose_network = True
    tab.context.set_offline(True)

    tab.choose(path)
    tab.wait_for(path.name, "waiting")
    tab.page.get_by_text("You are offline. Uploads wait and go on by themselves.").wait_for()
    tab.shoot("offline", tmp_path)
    tab.context.set_offline(False)

    tab.wait_for(path.name, "finished", check="same")
    check_same(server, tab.link(path.name), path)


def test_a_killed_server_that_comes_back_gets_the_rest(
    server: UploadServer, proxy: CuttingProxy, through_proxy: Visit, send_and_stall: StalledSender
) -> None:
    path = send_and_stall("model.bin", 40 * MIB, after=20 * MIB)

    server.kill()
    proxy.release()
    through_proxy.wait_for(path.name, "waiting")
    server.start()

    through_proxy.wait_for(path.name, "finished", check="same")
    check_same(server, through_proxy.link(path.name), path)


def test_a_dropped_folder_keeps_its_paths(server: UploadServer, visit: Visitor, make_file: MakeFile) -> None:
    paths = [
        make_file(f"photos/{name}", size) for name, size in (("2026/2.jpg", 20), ("2026/10.txt", 30), ("a.jpg", 10))
    ]
    (paths[0].parents[1] / "nothing").mkdir()
    tab = visit()

    tab.drop(paths[0].parents[1] / "nothing")
    tab.page.get_by_text("There are no files in it.").wait_for()
    tab.drop(paths[0].parents[1])

    titles = [str(path.relative_to(paths[0].parents[2])) for path in paths]
    for path, title in zip(paths, titles, strict=True):
        tab.wait_for(title, "finished", check="same")
        url = tab.link(title)
        check_same(server, url, path)
        assert metadata_of(server, url)["relativePath"] == title
        assert metadata_of(server, url)["filename"] == path.name
    assert [record["path"] for record in sorted(tab.records(), key=itemgetter("place"))] == titles


def test_a_paused_upload_rests_and_goes_on(
    server: UploadServer, through_proxy: Visit, send_and_stall: StalledSender
) -> None:
    path = send_and_stall("backup.img", 30 * MIB, after=18 * MIB)

    through_proxy.button("Pause backup.img").click()
    through_proxy.wait_for(path.name, "paused")
    through_proxy.button("Resume backup.img").click()

    through_proxy.wait_for(path.name, "finished", check="same")
    check_same(server, through_proxy.link(path.name), path)


def test_pause_all_and_resume_all_mean_all(
    server: UploadServer, proxy: CuttingProxy, through_proxy: Visit, make_file: MakeFile
) -> None:
    paths = [make_file(f"{number}.bin", 12 * MIB) for number in range(3)]
    proxy.break_after(9 * MIB, how="stall")
    through_proxy.page.get_by_label("Files at a time").select_option("1")
    through_proxy.choose(*paths)
    proxy.wait_for_stall()

    through_proxy.button("Pause all").click()
    for path in paths:
        through_proxy.wait_for(path.name, "paused")
    through_proxy.button("Resume all").click()

    for path in paths:
        through_proxy.wait_for(path.name, "finished", check="same")


def test_a_cancelled_upload_is_removed_from_the_server_after_a_question(
    server: UploadServer, through_proxy: Visit, send_and_stall: StalledSender
) -> None:
    path = send_and_stall("mistake.mov", 30 * MIB, after=18 * MIB)
    url = through_proxy.records()[0]["url"]

    through_proxy.button("Cancel mistake.mov").click()
    through_proxy.button("Keep it").click()
    through_proxy.button("Cancel mistake.mov").click()
    through_proxy.button("Stop and remove").click()

    through_proxy.row(path.name).wait_for(state="detached")
    assert server.head(url).status_code == 404
    assert through_proxy.records() == []


def test_what_cannot_be_removed_without_a_network_rests(
    server: UploadServer, through_proxy: Visit, send_and_stall: StalledSender
) -> None:
    tab = through_proxy
    path = send_and_stall("mistake.mov", 30 * MIB, after=18 * MIB)
    tab.context.set_offline(True)

    tab.button("Cancel mistake.mov").click()
    tab.button("Stop and remove").click()

    row = tab.wait_for(path.name, "paused")
    words = "the server did not answer. Press \N{MULTIPLICATION SIGN} to try again, or Resume to go on sending."
    row.get_by_text(f"It could not be removed: {words}").wait_for()
    assert tab.records()[0]["isPaused"]
    tab.context.set_offline(False)
    tab.button("Resume mistake.mov").click()
    tab.wait_for(path.name, "finished", check="same")
    check_same(server, tab.link(path.name), path)


def test_what_is_too_large_is_told_before_anything_is_sent(
    bundle: Path, context: BrowserContext, tmp_path: Path, make_file: MakeFile
) -> None:
    with UploadServer(tmp_path / "small", "--max-size", "1MiB") as server:
        check_page(server)
        tab = Visit(context, page_url(server.url)).open()

        tab.choose(make_file("huge.iso", 2 * MIB))
        tab.page.get_by_text("huge.iso was not added: it is 2.0 MiB, and the server takes 1.0 MiB at most.").wait_for()

        assert tab.page.locator("[data-name]").count() == 0
        assert list(server.directory.glob("*.info")) == []
        tab.check_console()


@pytest.mark.parametrize(
    ("status", "body", "words", "remedy"),
    [
        (507, "ERR_INSUFFICIENT_STORAGE: no space left", "The server's disk is full", "Try again"),
        (413, "<html>413 Request Entity Too Large</html>", "Choose a smaller chunk size", "Try again"),
        (403, "ERR_UPLOAD_REJECTED: only images", "The server refused it: only images", "Try again"),
        (404, "ERR_UPLOAD_NOT_FOUND: upload not found", "The server no longer has this upload", "Start over"),
    ],
    ids=["disk-full", "proxy", "refused", "gone"],
)
def test_a_refusal_is_told_in_words_and_can_be_mended(
    server: UploadServer, visit: Visitor, make_file: MakeFile, status: int, body: str, words: str, remedy: str
) -> None:
    path = make_file("album.zip", 20 * MIB)
    tab = visit()
    refusal = {"status": status, "body": body, "headers": TUS if body.startswith("ERR_") else {}}
    answer_some(tab, lambda asked: refusal if asked[-1] == "PATCH" and asked.count("PATCH") == 2 else None)
    tab.choose(path)
    row = tab.wait_for(path.name, "failed")
    assert words in row.inner_text()
    assert row.get_by_role("button", name="Pause").count() == 0
    tab.complaints.clear()  # what it was answered

    row.get_by_role("button", name=remedy).click()
    tab.wait_for(path.name, "finished", check="same")
    check_same(server, tab.link(path.name), path)


def test_an_upload_whose_requests_were_too_large_goes_on_in_smaller_chunks(
    server: UploadServer, visit: Visitor, make_file: MakeFile
) -> None:
    path = make_file("album.zip", 10 * MIB)
    tab = visit()
    refusal = {"status": 413, "body": "<html>413 Request Entity Too Large</html>"}
    answer_some(tab, lambda asked: refusal if asked[-1] == "PATCH" else None)
    tab.choose(path)
    tab.wait_for(path.name, "failed").get_by_text("Choose a smaller chunk size").wait_for()
    tab.complaints.clear()  # 413
    tab.page.unroute("**/files/*")
    tab.page.get_by_label("Chunk size").select_option("1 MiB")
    tab.button("Try again: album.zip").click()

    tab.wait_for(path.name, "finished", check="same")
    check_same(server, tab.link(path.name), path)
    assert re.findall(r"method=PATCH .* bytes=(\d+)", server.log()) == [str(MIB)] * 10


def test_what_a_proxy_says_of_an_upload_while_its_server_is_away_loses_nothing(
    server: UploadServer, visit: Visitor, make_file: MakeFile
) -> None:
    path = make_file("album.zip", 20 * MIB)
    tab = visit()
    said = {3: 404, 4: 404, 5: 200}
    asked = answer_some(
        tab, lambda asked: {"status": said[len(asked)], "body": "404 page not found"} if len(asked) in said else None
    )
    tab.choose(path)
    tab.wait_for(path.name, "waiting").get_by_text("Something on the way answered").wait_for()
    tab.wait_for(path.name, "finished", check="same")

    assert asked[:6] == ["POST", "PATCH", "PATCH", "HEAD", "HEAD", "HEAD"]
    check_same(server, tab.link(path.name), path)
    assert server.log().count("UploadCreated") == 1
    tab.complaints.clear()  # 404


def test_a_refused_creation_is_told_in_words_and_can_be_tried_again(visit: Visitor, make_file: MakeFile) -> None:
    answers = {
        "closed.zip": (403, "ERR_UPLOAD_REJECTED: uploads are closed", "The server refused it: uploads are closed."),
        "nowhere.zip": (404, "not found", "The server takes no uploads at this address."),
        "wrong.zip": (400, "ERR_INVALID_METADATA: too long", "The server answered 400: too long. Try again"),
    }
    tab = visit()

    for name, (status, body, words) in answers.items():
        tab.page.route("**/files/", answer_with(status, body))
        tab.choose(make_file(name, MIB))
        tab.wait_for(name, "failed").get_by_text(words).wait_for()
        tab.page.unroute("**/files/")
    tab.complaints.clear()  # what it was answered
    for name in answers:
        tab.button(f"Try again: {name}").click()
        tab.wait_for(name, "finished", check="same")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_servers_own_digest_is_compared(
    bundle: Path, context: BrowserContext, tmp_path: Path, make_file: MakeFile, algorithm: str
) -> None:
    with UploadServer(tmp_path / "digested", "--digest", algorithm) as server:
        check_page(server)
        tab = Visit(context, page_url(server.url)).open()
        path = make_file("large.bin", 65 * MIB)

        tab.choose(path)
        tab.wait_for(path.name, "finished", check="same")

        shown = tab.row(path.name).locator(".digest > [title]").first.get_attribute("title")
        assert shown == f"{algorithm}:{hashlib.new(algorithm, path.read_bytes()).hexdigest()}"
        tab.check_console()


def test_other_bytes_on_the_server_are_found(server: UploadServer, visit: Visitor, make_file: MakeFile) -> None:
    tab = visit()
    path = make_file("large.bin", 65 * MIB)
    tab.choose(path)
    row = tab.wait_for(path.name, "finished", check="none")
    row.get_by_text("Finished. Not compared: larger than 64 MiB. Press Verify to read it back").wait_for()
    with server.path(tab.link(path.name)).open("r+b") as stored:
        stored.seek(64 * MIB)
        stored.write(b"spoilt")

    tab.button("Verify large.bin: read it back and compare").click()

    row = tab.wait_for(path.name, "finished", check="different")
    assert "The server has other bytes than this file" in row.inner_text()
