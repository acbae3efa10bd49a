"""The commands `tusd-py hooks new|run|list`: what they write works as it is, what they say is enough to go on."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tusd_py import authoring
from tusd_py.authoring.words import parser as words_of
from tusd_py.errors import ConfigError

WAIT_SECONDS = 60
Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """In an empty folder; gives the exit code, and what is told, without the times."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        told: list[str] = []
        code = authoring.run(words, told.append)
        return code, re.sub(r" \([0-9.]+ m?s\)", "", "".join(told))

    return run


def _refusal(command: Command, *words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        command(*words)
    return str(caught.value)


def _write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def _hook(body: str, event: str = "post-finish", needs: str = "") -> str:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"from tusd_py.hooks.contract import *\nhook = Hook()\n@hook.on({event!r})\ndef judge({needs}):\n{lines}\n"


# new


def _tool(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("importing", ["prepend", "importlib"])
def test_a_new_hook_passes_its_test_as_it_is(command: Command, importing: str) -> None:
    code, told = command("new", "sorting")
    assert code == 0
    assert sorted(os.listdir("hooks")) == ["sorting.py", "test_sorting.py"]
    test, run = [line.strip() for line in told.splitlines() if line.startswith("  ")]
    assert test == "pytest hooks/test_sorting.py"
    flags = ("-q", "-p", "no:cacheprovider", "-W", "error", "--import-mode", importing)
    assert "4 passed" in _tool("pytest", *flags, *test.split()[1:])
    assert command(*run.split()[2:]) == (
        0,
        "pre-create\n  goes on\npost-finish\n  log info: test_sorting.py has 34 lines\n  goes on\n",
    )


def test_a_new_hook_is_clean_for_ruff_and_strict_mypy(command: Command) -> None:
    command("new", "sorting")
    _tool("ruff", "check", "--isolated", "--select", "E,F,W,I,UP,B,RUF,ANN,PT,SIM,PTH", "hooks")
    _tool("ruff", "format", "--isolated", "--check", "hooks")
    _tool("mypy", "--strict", "--cache-dir", "cache", "hooks")


def test_its_test_fails_when_the_hook_does_nothing(command: Command) -> None:
    command("new", "sorting")
    path = Path("hooks/sorting.py")
    path.write_text(path.read_text().replace("in settings.unwanted", "in ()").replace("lines +=", "lines -="))
    with pytest.raises(AssertionError, match="3 failed, 1 passed"):
        _tool("pytest", "-q", "-p", "no:cacheprovider", "hooks")


def test_another_folder_is_made_and_named_in_what_to_do_next(command: Command) -> None:
    _, told = command("new", "sorting", "--dir", "my hooks/mine")
    assert Path("my hooks/mine/sorting.py").is_file()
    assert "pytest 'my hooks/mine/test_sorting.py'" in told
    assert "tusd-py hooks run 'my hooks/mine/sorting.py' --file" in told
    _, told = command("new", "sorting", "--dir", ".")
    assert "tusd-py hooks run ./sorting.py --file" in told


def test_nothing_is_written_over_what_is_there(command: Command) -> None:
    _write("hooks/test_sorting.py", "mine\n")
    assert "hooks/test_sorting.py is there already, and stays as it is" in _refusal(command, "new", "sorting")
    assert os.listdir("hooks") == ["test_sorting.py"]
    assert Path("hooks/test_sorting.py").read_text() == "mine\n"
    Path("hooks/other").mkdir()
    assert "hooks/other is there already" in _refusal(command, "new", "other")


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("Check-CSV", "check_csv"),
        ("class", ""),
        ("test_a", "a"),
        ("../x", "x"),
        ("1st", ""),
        ("conftest", ""),
        ("ä", ""),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_a_better_one(command: Command, name: str, better: str) -> None:
    said = _refusal(command, "new", name)
    assert "cannot be the name of a hook" in said
    assert ("how about" in said) == bool(better)
    assert said.endswith(f"; how about {better}?" if better else "takes for a test")
    assert os.listdir() == []


def test_a_folder_that_cannot_be_made_is_said(command: Command) -> None:
    _write("file", "")
    assert "the hook cannot be written to 'file/hooks': not a directory" in _refusal(
        command, "new", "sorting", "--dir", "file/hooks"
    )


# run


@pytest.fixture
def sorting(command: Command) -> Command:
    command("new", "sorting")
    _write("a.csv", "a,b\n1,2\n")
    return command


def test_a_rejection_ends_it_and_says_what_the_client_hears(sorting: Command) -> None:
    assert sorting("run", "sorting", "--file", "a.csv", "--metadata", "filename=b.EXE", "--metadata", "a=b=c") == (
        1,
        'pre-create\n  rejects it; the client gets status 415, "files that end in .exe are not taken here"\n',
    )


def test_settings_are_given_as_texts_and_checked(sorting: Command) -> None:
    words = ("run", "sorting", "--file", "a.csv", "--setting")
    assert sorting(*words, "unwanted=.txt,.csv")[0] == 1
    assert sorting(*words, "unwanted=")[0] == 0
    refusal = _refusal(sorting, *words, "unwanted=csv")
    assert refusal == "settings of sorting (--setting KEY=VALUE): unwanted: 'csv' has no dot; write .csv"
    assert "did you mean unwanted?" in _refusal(sorting, *words, "unwnted=.csv")
    assert "'x' has no =; write KEY=VALUE" in _refusal(sorting, *words, "x")
    assert "unwanted is given twice; a list has commas" in _refusal(
        sorting, *words, "unwanted=.a", "--setting", "unwanted=.b"
    )
    _write("plain.py", _hook("pass"))
    assert "plain has no settings" in _refusal(sorting, "run", "./plain.py", "--file", "a.csv", "--setting", "a=1")


def test_settings_in_tables_have_dots(command: Command) -> None:
    _write(
        "mine.py",
        "from dataclasses import dataclass\nfrom tusd_py.hooks.contract import Hook, reject\n"
        "@dataclass(frozen=True)\nclass Limits:\n    rows: int = 1\n"
        "@dataclass(frozen=True)\nclass Settings:\n    limits: Limits = Limits()\n"
        "hook = Hook(Settings)\n@hook.on('pre-create')\ndef judge(settings):\n"
        "    return reject(str(settings.limits.rows))\n",
    )
    assert '"7"' in command("run", "./mine.py", "--file", "mine.py", "--setting", "limits.rows=7")[1]
    assert "limits is given as a value and as a table" in _refusal(
        command, "run", "./mine.py", "--file", "mine.py", "--setting", "limits=1", "--setting", "limits.rows=7"
    )


def test_one_event_is_told_when_it_is_named(sorting: Command) -> None:
    assert sorting("run", "sorting", "--file", "a.csv", "--event", "post-finish") == (
        0,
        "post-finish\n  log info: a.csv has 2 lines\n  goes on\n",
    )
    words = ("run", "sorting", "--file", "a.csv", "--event")
    assert "does not listen to pre-finish, but to pre-create, post-finish" in _refusal(sorting, *words, "pre-finish")
    assert "there is no event 'finish'" in _refusal(sorting, *words, "finish")


def test_a_change_counts_for_the_events_that_follow(command: Command) -> None:
    _write(
        "mine.py",
        _hook(
            "return change(id='two', metadata={'a': '1'}, response=respond('made', headers={'X-A': 'b'}).response)",
            "pre-create",
        )
        + "@hook.on('post-finish')\nasync def tell(upload, log):\n"
        "    log.warning('%s %s', upload.id, dict(upload.metadata))\n",
    )
    assert command("run", "./mine.py", "--file", "mine.py") == (
        0,
        """pre-create
  goes on with id two, metadata a=1; the client gets X-A: b, "made"
post-finish
  log warning: two {'a': '1'}
  goes on
""",
    )


def test_a_failure_is_shown_with_its_line_and_without_ours(command: Command) -> None:
    path = _write("mine.py", _hook("rows = 0\nreturn 1 / rows"))
    code, told = command("run", "./mine.py", "--file", "mine.py")
    assert code == 1
    assert told.endswith("  failed: ZeroDivisionError: division by zero\n")
    assert f'| Traceback (most recent call last):\n  |   File "{path.absolute()}", line 6, in judge' in told
    assert told.count("ZeroDivisionError") == 2
    _write("busy.py", _hook("raise HookError('busy', retry_after_seconds=90)"))
    assert command("run", "./busy.py", "--file", "mine.py") == (
        1,
        "post-finish\n  failed: busy\n  the server would try again after 90 s\n",
    )


def test_an_async_function_that_blocks_is_found_out(command: Command) -> None:
    _write("mine.py", _hook("import time\ntime.sleep(0.5)").replace("def judge", "async def judge"))
    code, told = command("run", "./mine.py", "--file", "mine.py")
    assert code == 0
    assert "but for 0.5 s nothing else could run" in told
    _write("plain.py", _hook("import time\ntime.sleep(0.5)"))
    assert command("run", "./plain.py", "--file", "mine.py") == (0, "post-finish\n  goes on\n")


def test_the_request_has_the_headers_that_are_given(command: Command) -> None:
    _write("mine.py", _hook("return reject(str(request.header('authorization')))", "pre-access", "request"))
    assert command("run", "./mine.py", "--file", "mine.py", "--header", "authorization: Bearer x") == (
        1,
        'pre-access\n  rejects it; the client gets status 403, "Bearer x"\n',
    )


def test_what_a_hook_says_steers_no_terminal(command: Command) -> None:
    _write("mine.py", _hook("log.info('a\\x1b[2J\\nb')\nreturn reject('\\x1b[2J')", "pre-create", "log"))
    told = command("run", "./mine.py", "--file", "mine.py")[1]
    assert "\x1b" not in told
    assert "log info: a\\x1b[2J\n  log info: b\n" in told


def test_an_event_may_come_from_a_file(sorting: Command) -> None:
    event = {
        "Type": "post-finish",
        "Event": {
            "Upload": {
                "ID": "x",
                "Size": 8,
                "Offset": 8,
                "MetaData": {"filename": "b.csv"},
                "Storage": {"Path": "a.csv"},
            },
            "HTTPRequest": {},
        },
    }
    _write("event.json", json.dumps(event))
    expected = (0, "post-finish\n  log info: b.csv has 2 lines\n  goes on\n")
    assert sorting("run", "sorting", "--json", "event.json") == expected
    assert sorting("run", "sorting", "--json", "event.json", "--file", "a.csv") == expected
    assert "do not go with it" in _refusal(sorting, "run", "sorting", "--json", "event.json", "--event", "post-finish")
    _write("event.json", "{}")
    assert "--json 'event.json': not an event of a hook" in _refusal(sorting, "run", "sorting", "--json", "event.json")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run",), "hooks run takes one HOOK, not 0"),
        (("run", "sorting"), "which file? tusd-py hooks run sorting --file FILE"),
        (("run", "sorting", "--file", "gone"), "there is no file 'gone'"),
        (("run", "sortin", "--file", "a.csv"), "there is no hook 'sortin'; did you mean sorting?"),
        (("run", "nothing_like_it", "--file", "a.csv"), "there is no hook 'nothing_like_it'"),
        (("run", "./gone.py", "--file", "a.csv"), "there is no file "),
        (("run", "./a.csv", "--file", "a.csv", "--setting", "a=b"), "only hooks in Python have settings"),
        (("run", "https://a.example/hook", "--file", "a.csv", "--event", "x"), "there is no event 'x'"),
        (("rn", "sorting"), "unknown command hooks 'rn'; did you mean run?"),
        (("run", "sorting", "--fil", "a.csv"), "unrecognized arguments: --fil a.csv; see tusd-py hooks --help"),
    ],
)
def test_wrong_words_are_answered_with_what_to_do(sorting: Command, words: tuple[str, ...], said: str) -> None:
    assert said in _refusal(sorting, *words)


def test_a_bar_is_shown_on_a_terminal_when_reading_takes_long(
    sorting: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tusd_py.authoring import trial

    words = ("run", "sorting", "--file", "a.csv", "--event", "post-finish")
    sorting(*words)
    assert capsys.readouterr().out == "", "no bar where there is no terminal"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    sorting(*words)
    assert capsys.readouterr().out == "", "no bar for what is quick"
    monkeypatch.setattr(trial, "_LONG_SECONDS", -1.0)
    sorting(*words)
    shown = capsys.readouterr().out
    assert "reading [########################] 100% 8 bytes of 8 bytes" in shown
    assert shown.endswith("\r"), "and it is taken away"


def test_an_interrupt_ends_a_hook_that_never_does(command: Command) -> None:
    _write("mine.py", _hook("import threading\nprint('waits', flush=True)\nthreading.Event().wait()"))
    code = "import sys; from tusd_py import authoring; sys.exit(authoring.run(sys.argv[1:], sys.stdout.write))"
    words = [sys.executable, "-u", "-c", code, "run", "./mine.py", "--file", "mine.py"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        guard = threading.Timer(WAIT_SECONDS, process.kill)
        guard.start()
        try:
            assert process.stdout is not None
            while "waits" not in process.stdout.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate()
        finally:
            guard.cancel()
            process.kill()
    assert (process.returncode, errors) == (130, "")
    assert out.endswith("interrupted\n")


# list


def test_the_list_has_events_settings_and_what_is_broken(sorting: Command) -> None:
    _write("hooks/broken.py", "import nowhere_at_all\n")
    code, told = sorting("list")
    assert code == 1
    said = " ".join(told.split())
    assert f"broken.py cannot be loaded: {Path('hooks/broken.py').absolute()}, line 1: there is no module" in said
    assert (
        "sorting (hooks/sorting.py)\n  pre-create     refuse_unwanted\n  post-finish    count_lines\n  settings:\n"
        "    unwanted: a list of: text (default: .exe,.bat). what names of files must not end in, each with\n"
        "      its dot\n"
    ) in told
    Path("hooks/broken.py").unlink()
    assert sorting("list", "--hooks-dir", "hooks")[0] == 0


def test_without_any_hook_the_list_says_how_to_make_one(command: Command) -> None:
    assert command("list") == (
        0,
        "There are no hooks: none is installed, and none is in hooks/.\nMake one: tusd-py hooks new NAME\n",
    )
    assert "cannot be read" in _refusal(command, "list", "--hooks-dir", "gone")


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("new", "--help"), ("run", "-h"), ("list", "-help")])
def test_help_teaches_every_flag(command: Command, words: tuple[str, ...]) -> None:
    code, told = command(*words)
    assert (code, told) == (0, authoring.HELP)
    for name in authoring.COMMANDS:
        for action in words_of(name)._actions:
            for flag in action.option_strings:
                assert flag in told or action.dest == "help"


# Programs and addresses


def test_a_program_is_tried_as_by_the_server(command: Command) -> None:
    path = _write("hooks/pre-create", '#!/bin/sh\necho "asked about $TUS_SIZE" >&2\necho \'{"RejectUpload": true}\'\n')
    path.chmod(0o755)
    Path("a.csv").write_text("a,b\n")
    code, said = command("run", "./hooks/pre-create", "--file", "a.csv")
    assert code == 1
    assert said.startswith("pre-create\n")  # no other event: that is what it is called
    assert "asked about 4" in said
    assert "rejects" in said or "refuse" in said


def test_a_program_with_another_name_hears_of_what_tusd_tells(command: Command) -> None:
    path = _write("hooks/note", "#!/bin/sh\ntrue\n")
    path.chmod(0o755)
    Path("a.csv").write_text("a,b\n")
    code, said = command("run", "./hooks/note", "--file", "a.csv")
    events = [line for line in said.splitlines() if not line.startswith(" ")]
    assert (code, events) == (0, ["pre-create", "post-create", "post-receive", "post-finish", "post-terminate"])


def test_an_address_that_does_not_answer_is_named(command: Command) -> None:
    Path("a.csv").write_text("a,b\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/hook"
        code, said = command("run", url, "--file", "a.csv", "--event", "post-finish")
    assert code == 1
    assert said.startswith("post-finish\n  failed: ")
