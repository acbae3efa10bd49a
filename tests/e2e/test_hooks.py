"""A server with hooks of every kind: what clients get, what hooks hear, what a kill leaves (failures F30 to F36)."""

from __future__ import annotations

import random
import re
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import requests
from upload_server import ROOT, VERSION, UploadServer

WAIT_SECONDS = 15.0
PATCH = VERSION | {"Content-Type": "application/offset+octet-stream"}

# Everything that a hook in Python may do, decided by what the client says.
HOOK = """
import os
import time
from pathlib import Path

from tusd_py.hooks.contract import Answer, Event, Hook, PreAccess, Request, Upload, change, reject, respond, stop

hook = Hook()
HEARD = Path(__file__).with_name("heard")


def note(line: str) -> None:
    descriptor = os.open(HEARD, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode() + b"\\n")
    os.close(descriptor)


@hook.on("pre-access")
async def check(event: PreAccess, request: Request) -> Answer | None:
    if request.header("X-Key") == "wrong":
        return reject("not yours", headers={"X-Why": event.access.mode})
    return None


@hook.on("pre-create")
async def name(upload: Upload) -> Answer | None:
    said = upload.metadata
    if "virus" in said.get("filename", ""):
        return reject("no viruses", status=422, headers={"X-Why": "name"})
    if "raise" in said:
        raise ValueError("a secret that no client may see")
    if "id" in said:
        storage = {"Path": said["path"]} if "path" in said else None
        return change(id=said["id"], metadata={"by": "hook"}, storage=storage)
    return respond(headers={"X-Asked": "yes"})


@hook.on("post-receive")
async def watch(upload: Upload) -> Answer | None:
    return stop("enough of this", status=413) if "endless" in upload.metadata else None


@hook.on("pre-finish")
def finish(upload: Upload) -> Answer | None:
    if HEARD.with_name("closed").exists():
        return reject("not now", status=409)
    return respond("a receipt", status=200, headers={"X-Receipt": upload.id}) if "receipt" in upload.metadata else None


@hook.on("post-create", "post-finish", "post-terminate")
def hear(event: Event) -> None:
    if HEARD.with_name("deaf").exists():
        raise RuntimeError("not now")
    note(f"{event.type} {event.upload.id} {event.key}")


@hook.on("pre-terminate")
async def keep(upload: Upload) -> Answer | None:
    return reject("keep it") if "keep" in upload.metadata else None
"""


ENDLESS = """
import asyncio

from tusd_py.hooks.contract import Hook, Upload

hook = Hook()


@hook.on("pre-create")
async def hold(upload: Upload) -> None:
    while "endless" in upload.metadata:
        try:
            await asyncio.sleep(3600)
        except BaseException:
            pass
"""


def wait_for(true: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def create(server: UploadServer, length: int, data: bytes | None = None, **metadata: str) -> requests.Response:
    pairs = ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in metadata.items())
    headers = VERSION | {"Upload-Length": str(length)} | ({"Upload-Metadata": pairs} if pairs else {})
    if data is not None:
        headers |= PATCH
    return requests.post(server.url, headers=headers, data=data, timeout=30)


def patch(url: str, offset: int, data: bytes) -> requests.Response:
    return requests.patch(url, headers=PATCH | {"Upload-Offset": str(offset)}, data=data, timeout=30)


def id_of(answer: requests.Response) -> str:
    assert answer.status_code == 201, (answer.status_code, answer.text)
    return answer.headers["Location"].rpartition("/")[2]


def living(group: int) -> list[str]:
    """The processes of a group that have not ended, whether or not anybody has taken notice of their end."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = path.read_text().rpartition(")")
            state, _, of_group = rest.split()[:3]
            if int(of_group) == group and state != "Z":
                found.append(name)
    return found


def ask_queue(server: UploadServer, question: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(server.directory / ".tusd-py/jobs.sqlite")) as connection:
        return connection.execute(question).fetchall()


class Ear:
    """What the hook heard."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lines(self) -> list[str]:
        heard = self.folder / "heard"
        return heard.read_text().splitlines() if heard.exists() else []

    def of(self, upload_id: str) -> list[str]:
        return [line.split()[0] for line in self.lines() if line.split()[1] == upload_id]


@pytest.fixture
def ear(tmp_path: Path) -> Ear:
    folder = tmp_path / "hooks"
    folder.mkdir()
    (folder / "everything.py").write_text(HOOK)
    return Ear(folder)


@pytest.fixture
def server(tmp_path: Path, ear: Ear) -> Iterator[UploadServer]:
    with UploadServer(
        tmp_path / "uploads", "--hooks-dir", str(ear.folder), "--progress-hooks-interval", "50ms"
    ) as made:
        yield made


class TestInPython:
    def test_an_upload_is_asked_about_and_told_in_order(self, server: UploadServer, ear: Ear) -> None:
        made = create(server, 5, receipt="please")
        assert made.headers["X-Asked"] == "yes"
        url = made.headers["Location"]
        finished = patch(url, 0, b"hello")
        assert (finished.status_code, finished.text, finished.headers["X-Receipt"]) == (200, "a receipt", id_of(made))
        assert finished.headers["Upload-Offset"] == "5"
        server.check_content(url, b"hello")
        wait_for(lambda: len(ear.of(id_of(made))) == 2)  # what is owed when it goes is not told
        assert requests.delete(url, headers=VERSION, timeout=10).status_code == 204
        wait_for(lambda: len(ear.of(id_of(made))) == 3)
        assert ear.of(id_of(made)) == ["post-create", "post-finish", "post-terminate"]  # failures F33

    def test_small_uploads_are_told_in_order_too(self, server: UploadServer, ear: Ear) -> None:
        ids = [id_of(create(server, 5, b"hello")) for _ in range(30)]
        wait_for(lambda: len(ear.lines()) == 60)
        assert all(ear.of(each) == ["post-create", "post-finish"] for each in ids)

    def test_a_refusal_is_said_in_the_hooks_words(self, server: UploadServer) -> None:
        answer = create(server, 5, b"hello", filename="virus.exe")
        assert (answer.status_code, answer.text, answer.headers["X-Why"]) == (422, "no viruses", "name")
        assert "Tus-Resumable" in answer.headers
        assert not list(server.directory.glob("*.info"))

    def test_a_hook_that_raises_refuses_and_tells_the_client_nothing(self, server: UploadServer) -> None:
        answer = create(server, 5, **{"raise": "yes"})
        assert answer.status_code == 503
        assert answer.text.startswith("ERR_HOOK_FAILED: ")
        assert "secret" not in answer.text
        assert "a secret that no client may see" in server.log()

    def test_a_hook_chooses_id_metadata_and_place(self, server: UploadServer) -> None:
        answer = create(server, 5, b"hello", id="my-own_1", path="sets/one.txt")
        assert id_of(answer) == "my-own_1"
        assert server.metadata(answer.headers["Location"]) == {"by": "hook"}
        assert (server.directory / "sets/one.txt").read_bytes() == b"hello"
        again = create(server, 5, b"other", id="my-own_1", path="sets/two.txt")
        assert (again.status_code, again.text.split(":")[0]) == (409, "ERR_UPLOAD_EXISTS")
        assert requests.get(answer.headers["Location"], timeout=10).content == b"hello"

    def test_a_place_that_is_taken_or_cannot_be_is_refused_in_so_many_words(self, server: UploadServer) -> None:
        url = create(server, 5, b"hello", id="one").headers["Location"]
        for place, status in (("one", 409), ("one\0", 503), (".tusd-py", 503), ("../one", 503), ("one.info", 503)):
            assert create(server, 5, b"other", id="two", path=place).status_code == status, place
        server.check_content(url, b"hello")

    def test_an_upload_is_stopped_while_its_bytes_come(self, server: UploadServer) -> None:
        url = create(server, 1 << 30, endless="yes").headers["Location"]

        def body() -> Iterator[bytes]:
            while "UploadStopped" not in server.log():
                yield b"x" * 65_536
                time.sleep(0.005)  # a client on a slow line

        answer = requests.patch(url, headers=PATCH | {"Upload-Offset": "0"}, data=body(), timeout=30)
        assert (answer.status_code, answer.text) == (413, "enough of this")
        wait_for(lambda: requests.head(url, headers=VERSION, timeout=10).status_code == 404)
        assert "HookStopUpload hook=everything" in server.log()

    def test_who_has_no_access_sees_and_changes_nothing(self, server: UploadServer) -> None:
        url = create(server, 5).headers["Location"]
        wrong = {"X-Key": "wrong"}
        for answer, mode in (
            (requests.patch(url, headers=PATCH | wrong | {"Upload-Offset": "0"}, data=b"hello", timeout=10), "write"),
            (requests.delete(url, headers=VERSION | wrong, timeout=10), "write"),
            (requests.get(url, headers=wrong, timeout=10), "read"),
            (requests.head(url, headers=VERSION | wrong, timeout=10), "read"),
            (requests.get(url.replace("/files/", "/api/uploads/"), headers=wrong, timeout=10), "read"),
        ):
            assert (answer.status_code, answer.headers["X-Why"]) == (403, mode)
        assert server.offset(url) == 0

    def test_a_termination_may_be_refused(self, server: UploadServer) -> None:
        url = create(server, 5, b"hello", keep="yes").headers["Location"]
        answer = requests.delete(url, headers=VERSION, timeout=10)
        assert (answer.status_code, answer.text) == (400, "keep it")
        server.check_content(url, b"hello")

    def test_a_refused_finish_is_asked_again_and_never_skipped(self, server: UploadServer, ear: Ear) -> None:
        (ear.folder / "closed").touch()
        url = create(server, 5).headers["Location"]
        for data, offset in ((b"hello", 0), (b"", 5)):  # failures F31: tusd says 204 the second time
            answer = patch(url, offset, data)
            assert (answer.status_code, answer.text) == (409, "not now")
            assert requests.get(url, timeout=10).status_code == 400
            assert requests.head(url, headers=VERSION, timeout=10).status_code == 423
        (ear.folder / "closed").unlink()
        assert patch(url, 5, b"").status_code == 204
        server.check_content(url, b"hello")
        wait_for(lambda: "post-finish" in ear.of(url.rpartition("/")[2]))

    def test_a_hook_that_does_not_let_itself_be_ended_holds_nobody(self, tmp_path: Path, ear: Ear) -> None:
        (ear.folder / "endless.py").write_text(ENDLESS)
        flags = ("--hooks-dir", str(ear.folder), "--hooks-timeout", "500ms", "--shutdown-timeout", "1s")
        with UploadServer(tmp_path / "uploads", *flags) as server:
            assert create(server, 5, endless="yes").status_code == 503
            assert "HookAbandoned hook=endless function=hold" in server.log()
            assert server.stop() == 1  # in time, which is 15 s, and not as if nothing had been
            assert "ServerLeft" in server.log()

    def test_metrics_count_hooks(self, server: UploadServer) -> None:
        create(server, 5, **{"raise": "yes"})
        text = requests.get(server.url.replace("/files/", "/metrics"), timeout=10).text
        assert 'tusd_hook_invocations_total{hooktype="pre-create"} 1.0' in text
        assert 'tusd_hook_errors_total{hooktype="pre-create"} 1.0' in text


class TestOwed:
    def test_a_kill_at_the_wrong_moment_loses_nothing(self, server: UploadServer, ear: Ear) -> None:
        """The server dies after it has answered and before any hook heard of it."""
        (ear.folder / "deaf").touch()
        ids = [id_of(create(server, 5, b"hello")) for _ in range(20)]
        server.kill()
        assert ear.lines() == []
        (ear.folder / "deaf").unlink()
        server.start()
        wait_for(lambda: all(ear.of(each) == ["post-create", "post-finish"] for each in ids), 30)

    def test_what_was_told_of_the_beginning_does_not_let_the_end_be_forgotten(
        self, server: UploadServer, ear: Ear
    ) -> None:
        url = create(server, 5).headers["Location"]
        made = url.rpartition("/")[2]
        wait_for(lambda: ear.of(made) == ["post-create"])
        wait_for(lambda: ask_queue(server, "SELECT jobs FROM tally WHERE state = 'done'") == [(1,)])
        (ear.folder / "deaf").touch()
        assert patch(url, 0, b"hello").status_code == 204
        server.kill()
        for path in (server.directory / ".tusd-py").glob("jobs.sqlite*"):
            path.unlink()  # as if the kill had come before it was put there
        (ear.folder / "deaf").unlink()
        server.start()
        wait_for(lambda: "post-finish" in ear.of(made))

    def test_a_queue_that_is_lost_before_the_end_has_not_lost_the_beginning(
        self, server: UploadServer, ear: Ear
    ) -> None:
        (ear.folder / "deaf").touch()
        url = create(server, 5).headers["Location"]
        server.kill()
        for path in (server.directory / ".tusd-py").glob("jobs.sqlite*"):
            path.unlink()
        (ear.folder / "deaf").unlink()
        server.start()
        assert patch(url, 0, b"hello").status_code == 204
        wait_for(lambda: ear.of(url.rpartition("/")[2]) == ["post-create", "post-finish"])

    def test_an_upload_that_several_end_at_once_is_told_of_once(self, server: UploadServer, ear: Ear) -> None:
        (ear.folder / "deaf").touch()
        urls = [create(server, 5, b"hello").headers["Location"] for _ in range(10)]
        codes: list[int] = []

        def end(url: str) -> None:
            codes.append(requests.delete(url, headers=VERSION, timeout=30).status_code)

        for url in urls:
            clients = [threading.Thread(target=end, args=(url,)) for _ in range(3)]
            for client in clients:
                client.start()
            for client in clients:
                client.join(WAIT_SECONDS)
        assert Counter(codes) == {204: 10, 404: 20}
        (ear.folder / "deaf").unlink()
        wait_for(lambda: len(ear.lines()) >= 10)
        assert all(ear.of(url.rpartition("/")[2]) == ["post-terminate"] for url in urls)

    def test_each_end_of_an_id_that_comes_again_is_told(self, server: UploadServer, ear: Ear) -> None:
        (ear.folder / "deaf").touch()
        for _ in range(3):
            url = create(server, 5, b"hello", id="again").headers["Location"]
            assert requests.delete(url, headers=VERSION, timeout=10).status_code == 204
        (ear.folder / "deaf").unlink()
        wait_for(lambda: len(ear.lines()) == 3, 30)
        assert ear.of("again") == ["post-terminate"] * 3
        assert len(set(ear.lines())) == 3  # keys

    def test_a_queue_that_is_lost_while_it_is_used_is_made_again(self, server: UploadServer, ear: Ear) -> None:
        (ear.folder / "deaf").touch()
        made = id_of(create(server, 5, b"hello"))
        for suffix in ("-wal", "-shm", ""):  # the file itself last: a new one is made at once, with these beside it
            (server.directory / f".tusd-py/jobs.sqlite{suffix}").unlink()
        (ear.folder / "deaf").unlink()
        # At least once: what was being told when its job went with the file is told again.
        wait_for(lambda: list(dict.fromkeys(ear.of(made))) == ["post-create", "post-finish"])

    def test_a_lost_queue_is_made_again(self, server: UploadServer, ear: Ear) -> None:
        (ear.folder / "deaf").touch()
        made = id_of(create(server, 5, b"hello"))
        server.kill()
        for path in (server.directory / ".tusd-py").glob("jobs.sqlite*"):
            path.write_bytes(b"this is no database" * 100)
        (ear.folder / "deaf").unlink()
        server.start()
        wait_for(lambda: ear.of(made) == ["post-create", "post-finish"])
        assert list((server.directory / ".tusd-py").glob("jobs.sqlite.corrupt*"))
        server.check_content(f"{server.url}{made}", b"hello")

    @pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.long)])
    def test_each_finished_upload_is_told_whenever_the_server_dies(
        self, server: UploadServer, ear: Ear, kills: int
    ) -> None:
        finished: list[str] = []
        is_over = threading.Event()

        def upload() -> None:
            while not is_over.is_set():
                try:
                    made = create(server, 5, b"hello")
                except requests.RequestException:
                    time.sleep(0.02)  # the server is being started
                    continue
                if made.status_code == 201:
                    finished.append(id_of(made))

        clients = [threading.Thread(target=upload) for _ in range(2)]
        for client in clients:
            client.start()
        luck = random.Random(7)
        for _ in range(kills):
            time.sleep(luck.uniform(0.02, 0.3))
            server.kill()
            server.start()
        is_over.set()
        for client in clients:
            client.join(WAIT_SECONDS)
        heard: Counter[str] = Counter()

        def all_heard() -> bool:
            heard.clear()
            heard.update(line for line in ear.lines())
            keys = {line.split()[2] for line in heard}
            return all(f"{each}:post-finish:everything" in keys for each in finished)

        wait_for(all_heard, 60)
        assert len(finished) > kills
        print(f"{kills} kills, {len(finished)} finished, {sum(heard.values())} told, {len(heard)} keys")
        assert sum(heard.values()) - len(heard) < len(finished) / 4 + 20  # told twice: only around a kill

    def test_jobs_are_listed_retried_and_dropped(self, server: UploadServer, ear: Ear) -> None:
        (ear.folder / "deaf").touch()
        first, second = (id_of(create(server, 5, b"hello")) for _ in range(2))

        def jobs(*words: str) -> tuple[int, str]:
            command = [sys.executable, "-m", "tusd_py", "jobs", *words, "--upload-dir", str(server.directory)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
            assert done.stderr == ""
            return done.returncode, done.stdout

        wait_for(lambda: jobs()[1].count("RuntimeError: not now") == 2)
        code, listed = jobs("list", "waiting")
        assert code == 0
        assert all(f"{each}:{kind}:everything" in listed for each in (first, second) for kind in ("post-create",))
        code, shown = jobs("show", f"{first}:post-create:everything")
        assert code == 0
        assert '"Type": "post-create"' in shown
        assert jobs("drop", f"{second}:post-create:everything", f"{second}:post-finish:everything")[0] == 0
        wait_for(lambda: jobs("retry", f"{first}:post-create:everything")[0] == 0)  # unless it is just being tried
        (ear.folder / "deaf").unlink()
        wait_for(lambda: ear.of(first) == ["post-create", "post-finish"])
        assert ear.of(second) == []
        assert jobs("show", "nothing") == (1, "there is no job 'nothing'; tusd-py jobs list shows what there is\n")

    def test_a_worker_of_its_own_does_what_the_server_does_not(self, tmp_path: Path, ear: Ear) -> None:
        flags = ("--hooks-dir", str(ear.folder), "--run-jobs=false")
        with UploadServer(tmp_path / "uploads", *flags) as server:
            made = id_of(create(server, 5, b"hello"))
            command = [sys.executable, "-m", "tusd_py", "worker", "--upload-dir", str(server.directory), *flags[:2]]
            with subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ) as worker:
                try:
                    assert worker.stdout is not None
                    assert "ready" in worker.stdout.readline()
                    wait_for(lambda: ear.of(made) == ["post-create", "post-finish"])
                    worker.terminate()
                    assert worker.wait(WAIT_SECONDS) == 0
                finally:
                    worker.kill()


class TestExecutables:
    def make(self, folder: Path, name: str, text: str) -> None:
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def test_one_that_never_ends_holds_no_client_and_leaves_no_process(self, tmp_path: Path) -> None:
        folder = tmp_path / "hooks"
        self.make(folder, "pre-create", "echo $$ > pid; sleep 1000 & wait")
        with UploadServer(tmp_path / "uploads", "--hooks-dir", str(folder), "--hooks-timeout", "300ms") as server:
            began_at = time.monotonic()
            assert create(server, 5).status_code == 503
            assert time.monotonic() - began_at < 5
            group = int((folder / "pid").read_text())
            assert living(group) == []

    def test_allow_goes_on_without_one_that_fails(self, tmp_path: Path) -> None:
        folder = tmp_path / "hooks"
        self.make(folder, "pre-create", "echo broken >&2; exit 3")
        flags = ("--hooks-dir", str(folder), "--hooks-on-failure", "allow")
        with UploadServer(tmp_path / "uploads", *flags) as server:
            assert create(server, 5).status_code == 201
            assert "broken" in server.log()

    def test_a_hook_may_ask_the_server_for_the_upload_it_is_asked_about(self, tmp_path: Path) -> None:
        """failures F36: in tusd that is a dead-lock."""
        folder = tmp_path / "hooks"
        self.make(
            folder, "pre-finish", "curl -sf -m 5 -I -H 'Tus-Resumable: 1.0.0' $(cat url)api/uploads/$TUS_ID > seen"
        )
        flags = ("--hooks-dir", str(folder), "--hooks-enabled-events", "pre-finish", "--expose-api")
        with UploadServer(tmp_path / "uploads", *flags) as server:
            (folder / "url").write_text(server.url.removesuffix("files/"))
            assert create(server, 5, b"hello").status_code == 201
            assert " 200 " in (folder / "seen").read_text()
            assert re.search(r"HookFailed", server.log()) is None

    def test_kinds_are_mixed_in_order(self, tmp_path: Path, ear: Ear) -> None:
        self.make(
            ear.folder, "pre-create", """cat > asked; echo '{"HTTPResponse": {"Header": {"X-Asked": "twice"}}}'"""
        )
        with UploadServer(tmp_path / "uploads", "--hooks-dir", str(ear.folder)) as server:
            assert create(server, 5).headers["X-Asked"] == "twice"
            assert create(server, 5, filename="virus").status_code == 422
            assert "virus" not in (ear.folder / "asked").read_text()  # the first no is the answer


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--hooks", "nowhere"), "nowhere"),
        (("--hooks-dir", "/nowhere"), "/nowhere"),
        (("--hooks-http", "ftp://user:hush@x"), "--hooks-http"),
        (("--hooks-enabled-events", "post-dinner"), "post-dinner"),
        (("--hook-options", '{"x": {}}'), "there is no hook of this name"),
        (("--hook-options", '{"x": {"colour": "red"}}'), "no such option"),
        (("--hook-options", "[1]"), "--hook-options"),
        (("--jobs", "memory", "--workers", "2"), "--jobs memory"),
        (("--hooks-http-metadata-key", "callback"), "--hooks-http-allowed-hosts"),
        (("--hooks-http", "http://127.0.0.1:9", "--hooks-http-secrets", "abc"), "--hooks-http-secrets"),
    ],
)
def test_settings_that_cannot_work_are_named(tmp_path: Path, flags: tuple[str, ...], named: str) -> None:
    command = [sys.executable, "-m", "tusd_py", "--upload-dir", str(tmp_path), "--port", "0", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2, done
    assert named in done.stderr
    assert "hush" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_hooks_is_warned_of(tmp_path: Path, ear: Ear) -> None:
    (tmp_path / "empty").mkdir()
    for folder, is_warned_of in ((tmp_path / "empty", True), (ear.folder, False)):
        with UploadServer(tmp_path / f"for-{folder.name}", "--hooks-dir", str(folder)) as server:
            assert ("NoHookInFolder" in server.log()) == is_warned_of
