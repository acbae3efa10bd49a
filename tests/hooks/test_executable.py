"""Executables as hooks: real programs, good and bad, and what is left of them. On both event loops."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from tusd_py.hooks.contract import Answer, Event, HookError, PostFinish, PreCreate, Response, Upload
from tusd_py.hooks.executable import Executable, program, run
from tusd_py.hooks.wire import encode_event
from tusd_py.logs import Event as Logged
from tusd_py.logs import request_id

pytestmark = pytest.mark.anyio

UPLOAD = Upload(id="4f2a", length=12, offset=7, metadata={"filename": "Übung 日本語.bin"})
EVENT = PostFinish(UPLOAD)
PATIENCE_SECONDS = 10.0
MIB = 1 << 20

Make = Callable[..., Executable]


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes hooks of scripts; after the test no process, descriptor or task of theirs is left."""
    before = descriptors()
    tasks = len(asyncio.all_tasks())
    hooks = []

    def make(script: str, *, interpreter: str = "/bin/sh", name: str = "hook", most: int = MIB) -> Executable:
        path = write(tmp_path / name, f"#!{interpreter}\n{script}\n")
        hooks.append(Executable(name, path, frozenset(), dict(os.environ), most))
        return hooks[-1]

    yield make
    for hook in hooks:
        await hook.aclose()
    assert descriptors() == before
    assert children() == []
    assert len(asyncio.all_tasks()) == tasks


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[dict[str, object]]]:
    """The fields of all events of a name that were logged."""
    caplog.set_level(logging.INFO, "tusd_py")

    def said(name: str) -> list[dict[str, object]]:
        return [each.msg.fields for each in caplog.records if isinstance(each.msg, Logged) and each.msg.name == name]

    return said


Said = Callable[[str], list[dict[str, object]]]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def descriptors() -> set[str]:
    return {name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


def children() -> list[str]:
    """But for those that were there before the test, such as servers of other tests."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that ended meanwhile
            found += (task / "children").read_text().split()
    return [each for each in found if each not in OTHERS]


OTHERS: set[str] = set()


@pytest.fixture(autouse=True)
def _others() -> None:
    OTHERS.clear()
    OTHERS.update(children())


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(is_so: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not is_so():
            await anyio.sleep(0.005)


async def number_in(path: Path) -> int:
    """What a program writes there, a line."""
    await until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


async def refusal(hook: Executable, event: Event = EVENT) -> str:
    with pytest.raises(HookError) as caught:
        await hook.call(event)
    return str(caught.value)


async def give_up(call: asyncio.Task[Answer]) -> None:
    call.cancel()
    await asyncio.wait([call], timeout=PATIENCE_SECONDS)
    assert call.cancelled()


@contextmanager
def killed_in_the_end(pid: int) -> Iterator[None]:
    try:
        yield
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


# What it is told, and what it answers.


async def test_a_hook_gets_the_event_as_tusd_gives_it(make: Make, tmp_path: Path) -> None:
    hook = make("cat /dev/stdin > event; env -0 > environment; pwd > folder; echo $0 > path")
    assert await hook.call(EVENT) == Answer()
    assert (tmp_path / "event").read_bytes() == encode_event(EVENT)
    given = {name: value for name, _, value in (each.partition("=") for each in read(tmp_path / "environment"))}
    assert {name: given[name] for name in ("TUS_ID", "TUS_SIZE", "TUS_OFFSET")} == {
        "TUS_ID": "4f2a",
        "TUS_SIZE": "12",
        "TUS_OFFSET": "7",
    }
    assert given["PATH"] == os.environ["PATH"]
    assert (tmp_path / "folder").read_text() == f"{tmp_path}\n"
    assert (tmp_path / "path").read_text() == f"{tmp_path}/hook\n"


def read(environment: Path) -> list[str]:
    return environment.read_text().rstrip("\0").split("\0")


async def test_a_size_that_is_not_known_is_zero(make: Make) -> None:
    hook = make("""echo "{\\"HTTPResponse\\": {\\"Body\\": \\"$TUS_ID/$TUS_SIZE\\"}}" """)
    assert await hook.call(PreCreate(Upload())) == Answer(response=Response(body="/0"))


async def test_a_hook_rejects(make: Make) -> None:
    hook = make("""echo '{"RejectUpload": true, "HTTPResponse": {"StatusCode": 415, "Body": "no"}}'""")
    assert await hook.call(PreCreate(UPLOAD)) == Answer(is_rejected=True, response=Response(415, {}, "no"))


async def test_much_that_nobody_reads_does_no_harm(make: Make) -> None:
    hook = make("exec 0<&-; echo '{}'")
    big = replace(UPLOAD, metadata={"notes": "x" * MIB})
    for _ in range(20):
        assert await hook.call(PreCreate(big)) == Answer()


async def test_much_arrives_whole(make: Make, tmp_path: Path) -> None:
    event = PreCreate(replace(UPLOAD, metadata={"notes": "".join(f"{number} é " for number in range(MIB // 8))}))
    assert len(encode_event(event)) > MIB
    await make("sleep 0.1; cat /dev/stdin | sha256sum > digest").call(event)
    assert (tmp_path / "digest").read_text().split()[0] == hashlib.sha256(encode_event(event)).hexdigest()


async def test_an_answer_counts_when_the_hook_has_ended(make: Make, tmp_path: Path) -> None:
    hook = make("echo '{\"StopUpload\": true}'; exec >&-; echo $$ > pid; read line < go; exit $line")
    for code in (0, 4):
        os.mkfifo(tmp_path / "go")
        call = asyncio.create_task(hook.call(EVENT))
        assert is_alive(await number_in(tmp_path / "pid"))
        assert not call.done()
        await anyio.to_thread.run_sync((tmp_path / "go").write_text, f"{code}\n")
        if code:
            with pytest.raises(HookError, match="exit code 4"):
                await call
        else:
            assert await call == Answer(is_stopped=True)
        (tmp_path / "go").unlink()
        (tmp_path / "pid").unlink()


async def test_many_at_once_get_each_its_own(make: Make) -> None:
    hook = make("""read line; printf '{"HTTPResponse": {"Body": "%s"}}' "$TUS_ID" """)
    wanted = [f"upload-{number}" for number in range(50)]
    answers = await asyncio.gather(*(hook.call(PostFinish(Upload(id=each))) for each in wanted))
    assert [each.response.body for each in answers if each.response] == wanted


# Failing.


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo '{}'; exit 3", "it ended with exit code 3: {}"),
        ("exit 200", "it ended with exit code 200, without a word"),
        ("echo '{}'; echo one >&2; printf 'disk full' >&2; exit 1", "it ended with exit code 1: one\ndisk full"),
        ("kill -SEGV $$", "it was ended by SIGSEGV, without a word"),
        ("echo oops >&2; kill -KILL $$", "it was ended by SIGKILL: oops"),
        ("kill -40 $$", "it was ended by signal 40, without a word"),
    ],
)
async def test_how_a_hook_failed_is_said(make: Make, script: str, message: str) -> None:
    assert await refusal(make(script)) == message


async def test_of_a_long_story_the_end_is_said(make: Make) -> None:
    message = await refusal(make("seq 1000 >&2; echo that is why >&2; exit 1"))
    assert message.endswith("\n999\n1000\nthat is why")
    assert len(message) < 256  # all that a line of the log shows of a value


@pytest.mark.parametrize("output", ["yes", "[1]", '{"RejectUpload": 1}', '{"HTTPResponse": {"StatusCode": 99}}', "{}{"])
async def test_what_is_no_answer_is_an_error(make: Make, output: str) -> None:
    await refusal(make(f"echo '{output}'"))


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("echo '{}'\n", 0o755, "it is no program, nor a script that begins with #! and its interpreter: \"echo '{}'\""),
        ("#!/bin/sh\n", 0o644, "this server's user may not execute it; chmod +x may help"),
        ("#!/no/such -x\n", 0o755, "it needs a program that is not there, see its first line: '#!/no/such -x'"),
        ("#!/bin/sh\r\n", 0o755, "it needs a program that is not there, see its first line: '#!/bin/sh\\r'"),
        ("", 0o755, "it is no program, nor a script that begins with #! and its interpreter: ''"),
    ],
    ids=["no-shebang", "not-executable", "no-interpreter", "from-windows", "empty"],
)
async def test_why_a_hook_cannot_be_started_is_said(make: Make, text: str, mode: int, message: str) -> None:
    hook = make("")
    hook.path.write_text(text)
    hook.path.chmod(mode)
    assert await refusal(hook) == f"{hook.path} cannot be started: {message}"


async def test_why_a_hook_cannot_be_started_is_said_of_one_that_may_not_be_read(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    hook = make("", interpreter="/no/such")
    monkeypatch.setattr(Path, "open", refuse)  # root reads everything
    assert (await refusal(hook)).endswith("see its first line: (cannot be read: Permission denied)")


async def test_a_hook_that_is_being_written_is_not_started(make: Make) -> None:
    hook = make("")
    shutil.copy("/bin/true", hook.path)
    with hook.path.open("ab"):
        assert "put a new hook in place with mv" in await refusal(hook)
    assert await hook.call(EVENT) == Answer()


async def test_a_folder_is_no_hook(make: Make) -> None:
    hook = make("")
    hook.path.unlink()
    hook.path.mkdir()
    assert "may not execute it" in await refusal(hook)


# Too much.


async def test_an_answer_may_be_as_long_as_the_limit(make: Make) -> None:
    hook = make("printf '{%098d' 0 | tr 0 ' '; printf '}'", most=100)
    assert await hook.call(EVENT) == Answer()


async def test_a_hook_that_answers_without_end_is_killed(make: Make, tmp_path: Path) -> None:
    hook = make("trap '' PIPE; echo $$ > pid; yes & head -c 200000 /dev/zero; exec sleep 1000", most=100_000)
    assert (await refusal(hook)).startswith("it wrote more than 100000 bytes to standard output")
    pid = await number_in(tmp_path / "pid")
    await until(lambda: not group(pid))


async def test_a_byte_beyond_the_limit_is_too_much_also_of_a_hook_that_ended(make: Make) -> None:
    assert "more than 8 bytes" in await refusal(make("echo '{      }'", most=8))


def group(pgid: int) -> list[int]:
    """The living processes of it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == pgid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


async def test_what_a_hook_says_is_in_the_log(make: Make, said: Said) -> None:
    hook = make("echo '\x1b[31mred'; echo one >&2; echo >&2; printf tw >&2; sleep 0.05; printf 'o\\377\\nthree' >&2")
    await refusal(hook)
    assert said("HookSaid") == [{"hook": "hook", "id": "4f2a", "text": each} for each in ("one", "two\ufffd", "three")]


async def test_of_a_flood_of_words_a_part_is_in_the_log(make: Make, said: Said) -> None:
    hook = make("yes 'all is well' | head -c 3000000 >&2; echo '{\"StopUpload\": true}'")
    assert await hook.call(EVENT) == Answer(is_stopped=True)
    [dropped] = said("HookLinesDropped")
    assert dropped["bytes"] == 3_000_000 - (64 << 10)
    assert dropped["id"] == "4f2a"
    assert len(said("HookSaid")) == (64 << 10) // len("all is well\n") + 1
    assert await hook.call(EVENT) == Answer(is_stopped=True)
    assert len(said("HookLinesDropped")) == 2


async def test_what_a_hook_says_belongs_to_its_request(make: Make, said: Said) -> None:
    seen = []

    class Asking(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            seen.append(request_id.get())

    log = logging.getLogger("tusd_py.hooks.executable")
    log.addHandler(handler := Asking())
    token = request_id.set("a-request")
    try:
        await make("echo one >&2").call(EVENT)
    finally:
        request_id.reset(token)
        log.removeHandler(handler)
    assert len(said("HookSaid")) == 1
    assert seen == ["a-request"]


# Not ending.

TREE = """
sh -c 'echo $$ > child; trap "" HUP; sleep 1000' > /dev/null 2>&1 &
sh -c 'sh -c "echo \\$\\$ > grandchild.new; mv grandchild.new grandchild; sleep 1000; :"; :' &
echo $$ > pid
sleep 1000
"""


@pytest.mark.parametrize("how", ["task", "scope"])
async def test_a_hook_that_never_ends_is_killed_with_all_its_children(make: Make, tmp_path: Path, how: str) -> None:
    hook = make(TREE)
    pids = []

    async def wait_for_tree() -> None:
        pids.extend([await number_in(tmp_path / each) for each in ("pid", "child", "grandchild")])

    if how == "task":
        call = asyncio.create_task(hook.call(EVENT))
        await wait_for_tree()
        assert all(map(is_alive, pids))
        await give_up(call)
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hook.call, EVENT)
            await wait_for_tree()
            tasks.cancel_scope.cancel()
    await until(lambda: not any(map(is_alive, pids)))
    assert group(pids[0]) == []


@pytest.mark.parametrize("how", ["task", "scope"])
async def test_a_hook_that_is_to_end_may_clean_up(make: Make, tmp_path: Path, said: Said, how: str) -> None:
    hook = make(
        "trap 'echo bye >&2; sleep 0.1; echo > cleaned; exit' TERM; echo $$ > pid; while :; do sleep 0.02; done"
    )
    if how == "task":
        call = asyncio.create_task(hook.call(EVENT))
        await number_in(tmp_path / "pid")
        await give_up(call)
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hook.call, EVENT)
            await number_in(tmp_path / "pid")
            tasks.cancel_scope.cancel()
    assert (tmp_path / "cleaned").exists()
    assert said("HookSaid")[-1]["text"] == "bye"


async def test_a_hook_that_will_not_end_is_killed_after_a_grace(make: Make, tmp_path: Path) -> None:
    hook = make("trap '' TERM; (while :; do sleep 1; done) & echo $$ > pid; while :; do sleep 1; done")
    call = asyncio.create_task(hook.call(EVENT))
    pid = await number_in(tmp_path / "pid")
    start = anyio.current_time()
    await give_up(call)
    assert run.GRACE_SECONDS <= anyio.current_time() - start < 4 * run.GRACE_SECONDS
    await until(lambda: not group(pid))


async def test_a_hook_that_ends_when_it_is_told_to_takes_no_longer(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "GRACE_SECONDS", 60.0)
    call = asyncio.create_task(make("echo $$ > pid; exec sleep 1000").call(EVENT))
    await number_in(tmp_path / "pid")
    await give_up(call)


async def test_who_cancels_twice_gets_no_grace(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "GRACE_SECONDS", 60.0)
    hook = make("trap '' TERM; cat > /dev/null; echo $$ > pid; while :; do sleep 1; done")
    call = asyncio.create_task(hook.call(EVENT))
    pid = await number_in(tmp_path / "pid")  # it read the event, so its start is over
    call.cancel()
    await anyio.sleep(0)
    assert not call.done()
    await give_up(call)
    await until(lambda: not group(pid) and not children())


async def test_a_call_that_is_given_up_at_its_start_leaves_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = make("trap '' TERM; while :; do sleep 0.01; done")
    start, begun, gate = hook._start, threading.Event(), threading.Event()

    def start_slowly(variables: dict[str, str]) -> run.Process | None:
        begun.set()
        gate.wait()
        return start(variables)

    monkeypatch.setattr(hook, "_start", start_slowly)
    call = asyncio.create_task(hook.call(EVENT))
    await until(begun.is_set)
    call.cancel()
    await anyio.sleep(0.01)
    is_early = call.done()
    gate.set()
    assert not is_early
    await asyncio.wait([call], timeout=PATIENCE_SECONDS)
    assert call.cancelled()
    assert children() == []


async def test_a_hook_that_the_system_does_not_end_holds_nobody_up(
    make: Make, tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = make("echo $$ > pid; exec sleep 1000")
    call = asyncio.create_task(hook.call(EVENT))
    with killed_in_the_end(pid := await number_in(tmp_path / "pid")):
        monkeypatch.setattr(os, "killpg", lambda _pgid, _number: None)
        await give_up(call)
        assert [each["pid"] for each in said("HookNotEnded")] == [pid]
    await until(lambda: not children())  # it is reaped whenever it ends


async def test_calls_that_are_given_up_at_any_time_leave_nothing(make: Make) -> None:
    hook = make("cat > /dev/null; sleep 0.01; echo '{\"StopUpload\": true}'")
    dice = random.Random(7)

    async def call(number: int) -> Answer | None:
        with anyio.move_on_after(dice.uniform(0, 0.2) if number % 10 else None):
            return await hook.call(EVENT)
        return None

    answers = await asyncio.gather(*map(call, range(100)))
    assert set(answers) == {Answer(is_stopped=True), None}


async def test_the_end_is_seen_without_pidfd(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_pid: int) -> int:
        raise OSError

    monkeypatch.setattr(os, "pidfd_open", fail)
    assert await make("sleep 0.1; echo '{\"StopUpload\": true}'").call(EVENT) == Answer(is_stopped=True)
    assert "exit code 5" in await refusal(make("exit 5"))


# What goes on in the background.


async def test_who_holds_standard_output_is_waited_for(make: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    hook = make("(read line < go; echo '{\"StopUpload\": true}') & echo $$ > pid")
    call = asyncio.create_task(hook.call(EVENT))
    pid = await number_in(tmp_path / "pid")
    await until(lambda: not is_alive(pid))
    assert not call.done()
    await anyio.to_thread.run_sync((tmp_path / "go").write_text, "\n")
    assert await call == Answer(is_stopped=True)


async def test_who_holds_standard_output_without_end_is_killed_with_the_call(make: Make, tmp_path: Path) -> None:
    hook = make("((echo $$ > pid; exec sh -c 'echo $$ > child; exec sleep 1000') &) &")
    call = asyncio.create_task(hook.call(EVENT))
    pid, child = [await number_in(tmp_path / each) for each in ("pid", "child")]
    await until(lambda: not is_alive(pid))
    assert is_alive(child)
    await give_up(call)
    await until(lambda: not is_alive(child))


async def test_who_lets_go_of_standard_output_goes_on(make: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    hook = make("nohup sh -c 'echo $$ > child; read line < go; echo > worked' > /dev/null 2>&1 &")
    assert await hook.call(EVENT) == Answer()
    with killed_in_the_end(await number_in(tmp_path / "child")):
        await hook.aclose()
        await anyio.to_thread.run_sync((tmp_path / "go").write_text, "\n")
        await until((tmp_path / "worked").exists)


async def test_who_goes_on_is_still_heard(make: Make, tmp_path: Path, said: Said) -> None:
    os.mkfifo(tmp_path / "go")
    hook = make("sh -c 'echo $$ > child; read line < go; echo late >&2' > /dev/null &")
    before = descriptors()
    assert await hook.call(EVENT) == Answer()
    with killed_in_the_end(await number_in(tmp_path / "child")):
        assert len(descriptors()) == len(before) + 1
        await anyio.to_thread.run_sync((tmp_path / "go").write_text, "\n")
        await until(lambda: said("HookSaid"))
        assert said("HookSaid") == [{"hook": "hook", "id": "4f2a", "text": "late"}]
        await until(lambda: descriptors() == before)


async def test_so_many_who_go_on_are_heard(
    make: Make, tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "_MOST_LISTENED", 2)
    os.mkfifo(tmp_path / "go")
    hook = make("sh -c 'read line < go' > /dev/null &")
    before = len(descriptors())
    for number in range(4):
        await hook.call(PostFinish(Upload(id=str(number))))
    assert len(descriptors()) == before + 2
    assert [each["id"] for each in said("HookUnheard")] == ["0", "1"]
    await hook.aclose()
    assert len(descriptors()) == before
    descriptor = os.open(tmp_path / "go", os.O_RDWR)
    await anyio.to_thread.run_sync(os.write, descriptor, b"\n" * 100)
    os.close(descriptor)


async def test_who_makes_a_session_of_its_own_holds_nothing_up(make: Make, tmp_path: Path) -> None:
    hook = make("setsid sh -c 'echo $$ > child; exec sleep 1000' & wait")
    before = descriptors()
    call = asyncio.create_task(hook.call(EVENT))
    with killed_in_the_end(child := await number_in(tmp_path / "child")):
        await give_up(call)
        assert is_alive(child)
        assert descriptors() == before


async def test_who_holds_standard_input_holds_nothing_up(make: Make, tmp_path: Path) -> None:
    hook = make("exec 3<&0; sh -c 'echo $$ > child; exec sleep 1000' <&3 > /dev/null 2>&1 &")
    before = descriptors()
    await hook.call(PreCreate(replace(UPLOAD, metadata={"notes": "x" * MIB})))
    with killed_in_the_end(await number_in(tmp_path / "child")):
        assert descriptors() == before


# Coming and going.


async def test_a_hook_that_vanished_is_as_if_it_were_not_there(make: Make, said: Said) -> None:
    hook = make("exit 1")
    hook.path.rename(hook.path.with_name("aside"))
    assert await hook.call(EVENT) == Answer()
    assert await hook.call(EVENT) == Answer()
    assert [each["hook"] for each in said("HookVanished")] == ["hook"]
    hook.path.with_name("aside").rename(hook.path)
    await refusal(hook)
    shutil.rmtree(hook.path.parent)
    assert await hook.call(EVENT) == Answer()


async def test_a_hook_may_be_replaced_while_it_runs(make: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    hook = make('echo $$ > pid; read line < go; echo \'{"HTTPResponse": {"Body": "old"}}\'')
    call = asyncio.create_task(hook.call(EVENT))
    await number_in(tmp_path / "pid")
    text = '#!/bin/sh\necho \'{"HTTPResponse": {"Body": "new"}}\'\n'
    write(tmp_path / "new", text).rename(hook.path)
    assert await hook.call(EVENT) == Answer(response=Response(body="new"))
    await anyio.to_thread.run_sync((tmp_path / "go").write_text, "\n")
    assert await call == Answer(response=Response(body="old"))


async def test_a_hook_may_be_written_in_python(make: Make) -> None:
    script = "import json, sys\nprint(json.dumps({'HTTPResponse': {'Body': json.load(sys.stdin)['Type']}}))"
    hook = make(script, interpreter=sys.executable)
    assert await hook.call(EVENT) == Answer(response=Response(body=json.loads(encode_event(EVENT))["Type"]))
