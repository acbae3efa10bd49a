"""Lines: what they say, that nobody can forge one, and that writing them stops nobody."""

from __future__ import annotations

import json
import logging
import os
import re
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py import logs
from tusd_py.logs import answered, choose_request_id, event, request_id

log = logging.getLogger("tusd_py.test_logs")

# What terminals, log readers and people can be misled with.
HOSTILE = [
    "a b",
    "a\nERROR forged",
    "a\r\nb",
    "\x1b[2J\x1b]0;title\x07",
    'say "no"',
    "back\\slash",
    "a=b",
    "a=b c=d",
    "x y=z",
    '", "level": "ERROR',
    "\u202eevil\u2066",
    "\x85\u2028\u2029",
    "\x7f\x00\x08",
    "\ud800",
    "Ωdéjà/路径",
    "",
    "%s %d %(name)s",
    "{0}",
]
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


class Lines:
    """What was written to the output, line by line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def text(self) -> str:
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        content = b""
        while piece := os.read(self._descriptor, 65536):
            content += piece
        return content.decode("ascii")

    def all(self) -> list[str]:
        text = self.text()
        assert text.endswith("\n")
        return text.splitlines()

    def one(self) -> str:
        (line,) = self.all()
        return line

    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.one())
        return value


@contextmanager
def written(form: logs.Format) -> Iterator[Lines]:
    """Events of this package go to a file for the while, as `configure` would have it with standard error."""
    descriptor = os.memfd_create("lines")
    kept = logs._output
    logs._output = logs._Output(descriptor, form)
    handler = logs._Handler(logs._output)
    foreign = logging.getLogger("foreign")
    foreign.addHandler(handler)
    foreign.propagate = False
    house = logging.getLogger("tusd_py")
    level = house.level
    house.setLevel(logging.INFO)
    try:
        yield Lines(descriptor)
    finally:
        house.setLevel(level)
        foreign.removeHandler(handler)
        foreign.propagate = True
        logs._output = kept
        os.close(descriptor)


@pytest.fixture
def text() -> Iterator[Lines]:
    with written("text") as lines:
        yield lines


@pytest.fixture
def objects() -> Iterator[Lines]:
    with written("json") as lines:
        yield lines


@pytest.fixture
def in_request() -> Iterator[str]:
    token = request_id.set("req-1")
    yield "req-1"
    request_id.reset(token)


def test_text(text: Lines) -> None:
    event(log, "UploadCreated", id="abc", size=12, seconds=0.00123456789, length=None, is_final=False)
    assert re.fullmatch(TIME + " INFO UploadCreated id=abc size=12 seconds=0.00123457 is_final=false", text.one())


def test_json(objects: Lines, in_request: str) -> None:
    event(log, "UploadCreated", level=logging.WARNING, id="abc", size=12, seconds=0.5, length=None, is_final=False)
    line = objects.json()
    assert re.fullmatch(TIME, line.pop("time"))
    assert line == {
        "level": "WARNING",
        "event": "UploadCreated",
        "logger": "tusd_py.test_logs",
        "id": "abc",
        "size": 12,
        "seconds": 0.5,
        "is_final": "false",
        "request_id": in_request,
    }


def test_the_request_is_on_every_line(text: Lines, in_request: str) -> None:
    event(log, "UploadCreated")
    logging.getLogger("foreign").warning("careful")
    event(log, "Other", request_id="given")
    created, foreign, other = text.all()
    assert created.endswith(" INFO UploadCreated request_id=req-1")
    assert foreign.endswith(" WARNING careful request_id=req-1")
    assert other.endswith(" INFO Other request_id=given")


def test_what_is_off_is_not_written(text: Lines) -> None:
    logging.getLogger("tusd_py").setLevel(logging.WARNING)
    event(log, "UploadCreated", id="abc")
    answered("GET", "/", 200, None, "abc", 0, 0.1, "127.0.0.1")
    event(log, "NotReady", level=logging.WARNING)
    assert text.one().endswith("WARNING NotReady")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_value_forges_a_line_or_a_field_in_text(text: Lines, hostile: str) -> None:
    event(log, "UploadCreated", id=hostile, size=1)
    line = text.one()
    assert line.isprintable()
    value = re.fullmatch(TIME + r' INFO UploadCreated id=([^" =\\]*|"(?:[^"\\]|\\.)*") size=1', line)
    assert value is not None
    shown = value[1]
    assert (json.loads(shown) if shown.startswith('"') else shown) == hostile


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_value_forges_a_line_or_a_field_in_json(objects: Lines, hostile: str) -> None:
    event(log, "UploadCreated", id=hostile, size=1)
    line = objects.json()
    assert list(line) == ["time", "level", "event", "logger", "id", "size"]
    assert (line["id"], line["size"], line["level"]) == (hostile, 1, "INFO")
    assert objects.one().isprintable()


@given(st.dictionaries(st.sampled_from("abcdef"), st.text(max_size=300) | st.integers() | st.floats() | st.booleans()))
def test_any_fields(fields: dict[str, object]) -> None:
    with written("json") as lines:
        event(log, "Any", **fields)
        line = lines.json()
        assert {key for key in line if len(key) == 1} == set(fields)
        for key, value in fields.items():
            if isinstance(value, str):
                assert line[key] == value or (len(value) > 256 and line[key] == value[:256] + "...")
    with written("text") as lines:
        event(log, "Any", **fields)
        assert lines.one().isprintable()
        assert [pair[0] for pair in re.findall(r' (\w+)=("(?:[^"\\]|\\.)*"|[^" ]*)', lines.one())] == list(fields)


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("hostile", [*HOSTILE, "x" * 100_000])
def test_the_line_of_a_request_is_safe(form: logs.Format, hostile: str, in_request: str) -> None:
    with written(form) as lines:
        answered(hostile, hostile, 404, None, "abc", 5, 0.25, hostile)
        line = lines.one()
        assert line.isprintable()
        assert len(line) < 2000
        if form == "json":
            found = json.loads(line)
            assert found["path"] in (hostile, hostile[:256] + "...")
            assert (found["event"], found["status"], found["bytes"]) == ("ResponseOutgoing", 404, 5)
        else:
            assert len(re.findall(r" status=404 ", line)) == 1


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_line_of_a_request_is_as_that_of_an_event(form: logs.Format, in_request: str) -> None:
    """The short way and the long way say the same."""
    given = ("PATCH", "/files/abc", 204, None, "abc", 65536, 0.00123, "127.0.0.1")
    with written(form) as lines:
        answered(*given)
        event(
            logging.getLogger("tusd_py.requests"),
            "ResponseOutgoing",
            method="PATCH",
            path="/files/abc",
            status=204,
            id="abc",
            bytes=65536,
            seconds=0.00123,
            client="127.0.0.1",
        )
        first, second = (re.sub(TIME, "TIME", line) for line in lines.all())
        assert first == second
    with written(form) as lines:
        answered("PATCH", "/files/abc", 409, "ERR_MISMATCHED_OFFSET", None, 0, 0.00123, None)
        line = lines.one()
        assert "ERR_MISMATCHED_OFFSET" in line
        assert '"id"' not in line
        assert " id=" not in line
        assert "unix" in line


def test_what_is_inside_metadata_is_never_shown(text: Lines) -> None:
    event(log, "UploadCreated", metadata={"name": "secret"}, partials=["secret"], raw=b"secret")
    assert text.one().endswith("metadata=<dict> partials=<list> raw=<bytes>")


def _failed() -> ValueError:
    try:
        raise ValueError("bad\n2026-01-01T00:00:00.000Z INFO UploadFinished id=forged\x1b[0m")
    except ValueError as error:
        return error


def test_a_traceback_in_text_is_marked(text: Lines) -> None:
    event(log, "StoreFailed", level=logging.ERROR, error=_failed(), id="abc")
    first, *rest = text.all()
    assert first.endswith(" ERROR StoreFailed id=abc")
    assert rest[0] == "  | Traceback (most recent call last):"
    assert all(line.startswith("  | ") and line.isprintable() for line in rest)
    assert "_failed" in text.text()


def test_a_traceback_in_json_is_one_string(objects: Lines) -> None:
    event(log, "StoreFailed", level=logging.ERROR, error=_failed(), id="abc")
    line = objects.json()
    assert line["error"].startswith("ValueError: bad\n")
    assert line["trace"].startswith("Traceback (most recent call last):\n")
    assert "ValueError: bad\n" in line["trace"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_records_of_others_have_the_same_form(form: logs.Format) -> None:
    with written(form) as lines:
        try:
            raise KeyError("x")
        except KeyError:
            logging.getLogger("foreign").exception("broken %s", "a\nb")
        first = lines.all()[0]
        if form == "json":
            assert json.loads(first)["event"] == "broken a\nb"
            assert json.loads(first)["error"] == "KeyError: 'x'"
        else:
            assert first.endswith(r" ERROR broken a\x0ab")


def test_a_record_that_cannot_be_formatted_breaks_nothing(text: Lines) -> None:
    assert logs._output is not None
    record = logging.LogRecord("foreign", logging.WARNING, "", 0, "%d", ("no number",), None)
    logs._Handler(logs._output).handle(record)
    first, *rest = text.all()
    assert first.endswith(" WARNING BadLogRecord message=%d")
    assert "TypeError" in rest[-1]


def test_embedded_an_event_is_an_ordinary_record(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tusd_py"):
        event(log, "UploadCreated", id="a b", size=3)
        event(log, "StoreFailed", level=logging.ERROR, error=_failed())
    created, failed = caplog.records
    assert created.getMessage() == 'UploadCreated id="a b" size=3'
    assert created.funcName == "test_embedded_an_event_is_an_ordinary_record"
    assert failed.exc_info is not None
    assert failed.exc_info[0] is ValueError


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        ("0190b5e6-7f2c-7c3e-8b1a-3b0f6a1d2c4e", True),
        ("a" * 128, True),
        ("Root=1:x_y.z", False),
        ("a" * 129, False),
        ("", False),
        (None, False),
        ("a b", False),
        ("a\n", False),
        ("\xff", False),
        ("Ω", False),
    ],
)
def test_a_good_request_id_is_taken_over(given: str | None, is_taken: bool) -> None:
    chosen = choose_request_id(given)
    assert (chosen == given) is is_taken
    assert logs._REQUEST_ID.fullmatch(chosen)


def test_made_request_ids_differ() -> None:
    assert len({choose_request_id(None) for _ in range(1000)}) == 1000
    print_one = "from tusd_py.logs import choose_request_id; print(choose_request_id(None))"
    made = {subprocess.check_output([sys.executable, "-c", print_one]) for _ in range(2)}
    assert len(made) == 2, "in another process too"


# Standard error as it is outside.

CHILD = """
import logging, sys
from tusd_py import logs
logs.configure(is_verbose=True, form="text")
log = logging.getLogger("tusd_py.child")
for number in range(int(sys.argv[1])):
    logs.event(log, "Line", name=sys.argv[2], number=number, filler="x" * int(sys.argv[3]))
print("over", flush=True)
for word in sys.stdin:
    logs.event(log, "After")
    print("over", flush=True)
"""


def child(stderr: Any, lines: int, *, name: str = "a", filler: int = 150, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(lines), name, str(filler)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        **more,
    )


def _over(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "over\n"


def _end(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=20)
    assert process.returncode == 0


def _read_until_over(pipe: int, processes: list[subprocess.Popen[str]]) -> bytes:
    """What all of them write, until each is over and nothing of it is left in the pipe."""
    text, left = b"", len(processes)
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        for process in processes:
            assert process.stdout is not None
            selector.register(process.stdout, selectors.EVENT_READ, process)
        while ready := selector.select(None if left else 0):
            for key, _ in ready:
                if key.data is None:
                    text += os.read(pipe, 65536)
                else:
                    _over(key.data)
                    selector.unregister(key.fileobj)
                    left -= 1
    return text


def test_lines_of_several_processes_do_not_mix() -> None:
    read, write = os.pipe()
    processes = [child(write, 500, name=name) for name in "abc"]
    os.close(write)
    text = _read_until_over(read, processes)
    for process in processes:  # now there is room for a line that says what was dropped
        assert process.stdin is not None
        print("go on", file=process.stdin, flush=True)
        _over(process)
        _end(process)
    with os.fdopen(read, "rb") as pipe:
        lines = (text + pipe.read()).decode().splitlines()
    for name in "abc":
        own = [line for line in lines if f" name={name} " in line]
        numbers = [int(re.search(r" number=(\d+) ", line)[1]) for line in own]  # type: ignore[index]
        assert numbers == sorted(numbers)
    told = [line for line in lines if "LogLinesDropped" in line]
    whole = [line for line in lines if re.fullmatch(TIME + r" INFO Line name=[abc] number=\d+ filler=x{150}", line)]
    after = [line for line in lines if re.fullmatch(TIME + " INFO After", line)]
    assert len(after) == len(processes)
    assert len(whole) + len(told) + len(after) == len(lines), "no line is torn"
    assert len(whole) + sum(int(line.rpartition("count=")[2]) for line in told) == 1500


def test_a_reader_that_does_not_read_stops_nobody() -> None:
    """The pipe is full long before; then it is read, and the next line says what is missing."""
    read, write = os.pipe()
    process = child(write, 5000)
    os.close(write)
    _over(process)  # it wrote more than a pipe holds, and went on
    with os.fdopen(read) as pipe:
        lines = [pipe.readline() for _ in range(300)]
        assert all("INFO Line" in line for line in lines)
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        _over(process)
        process.stdin.close()
        rest = pipe.read().splitlines()
    _wait(process)
    assert rest[-1].partition(" ")[2].startswith("WARNING LogLinesDropped count=")
    missing = int(rest[-1].rpartition("=")[2])
    shown = sum(" INFO Line " in line and line.endswith("x" * 150) for line in [each.rstrip() for each in lines] + rest)
    assert shown + missing == 5000


def _wait(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=20) == 0


def test_a_line_that_is_cut_does_not_spoil_the_next() -> None:
    """Lines longer than a pipe takes in one piece: what is left of the last is a line of its own."""
    read, write = os.pipe()
    output = logs._Output(write, "text")
    long: dict[str, object] = {f"field{number}": "x" * 250 for number in range(40)}
    for number in range(20):
        output.write(logging.INFO, "test", "Long", {"number": number, **long, "end": "end"}, None)
    os.set_blocking(read, False)
    lines = os.read(read, 2**20)
    output.write(logging.INFO, "test", "Short", {}, None)
    lines += os.read(read, 2**20)
    *whole, torn, short, dropped = lines.decode().splitlines()
    assert whole
    assert all(re.fullmatch(TIME + r" INFO Long .* end=end", line) for line in whole)
    assert "end=end" not in torn
    assert re.fullmatch(TIME + " INFO Short", short)
    assert dropped.endswith(f"WARNING LogLinesDropped count={20 - len(whole)}")
    for descriptor in (read, write, output._descriptor):
        os.close(descriptor)


def test_a_reader_that_is_gone_stops_nobody() -> None:
    read, write = os.pipe()
    process = child(write, 0)
    os.close(write)
    os.close(read)
    _over(process)
    _end(process)


def test_no_standard_error_at_all() -> None:
    process = child(None, 100, preexec_fn=lambda: os.close(2))
    _over(process)
    _end(process)


def test_a_socket_that_nobody_reads_stops_nobody() -> None:
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = child(theirs.fileno(), 5000)
        _over(process)
        _end(process)
        assert ours.recv(2000).count(b"\n") > 0


def test_the_shells_standard_error_stays_as_it_was() -> None:
    read, write = os.pipe()
    process = child(write, 1)
    _over(process)
    assert os.get_blocking(write)
    os.close(write)
    _end(process)
    os.close(read)
