"""The benchmark works: tiny loads against tusd_py alone, and its checks see what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchcalls import Count, counting
from benchcases import CASES, S3_CASES, WORKS, scale
from benchgoals import GOALS, S3_GOALS, calls_table, check_goal, targets_table
from benchload import Load, run_load
from benchpeers import PEERS, Choices
from benchplot import LOOKS
from benchreport import Results, write_page
from benchs3peers import S3_PEERS
from benchserver import Server
from benchstorage import Storage
from benchwire import PATTERN, window
from s3servers import S3Server

HERE = Path(__file__).parent


def _command(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONWARNINGS": "default"}
    command = [sys.executable, str(HERE / name), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def _results(**speeds: float) -> Results:
    """One round of case `one` with these speeds."""
    named = {name.replace("_", "-"): speed for name, speed in speeds.items()}
    row = {
        "case": "one",
        "errors": 0,
        "cpu": 1.0,
        "peak_pss_mib": 100.0,
        "latency_ms": {"PATCH": {"p50": 1.0, "p95": 2.0, "p99": 3.0}},
    }
    return Results(
        date="today",
        machine={"cores": 2, "cpu": "some", "memory_gib": 4, "kernel": "6", "file_system": "ext4"},
        options={"rounds": 1, "scale": 1.0},
        cases={"one": {"title": "one", "unit": "MiB/s", "cpu_unit": "s/GiB", "kind": "PATCH"}},
        peers={name: {"title": name, "version": "1", "note": "", "workers": 2} for name in named},
        left_out={},
        rounds=[row | {"peer": peer, "round": 1, "speed": speed} for peer, speed in named.items()],
    )


def test_every_case_runs_and_every_upload_is_compared(tmp_path: Path) -> None:
    done = _command(
        "run.py", "--peers=tusd-py", "--scale=0.01", "--rounds=1", f"--out={tmp_path}/out", f"--cache={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads((tmp_path / "out" / "latest.json").read_text())
    assert [row["case"] for row in results["rounds"]] == list(CASES)
    for row in results["rounds"]:
        assert row["errors"] == 0, row
        assert row["done"] > 0
        assert row["speed"] > 0
        assert row["peak_pss_mib"] > 5
        assert row["verified"] == (0 if row["case"] == "head" else 1)
    assert "the client worked" in done.stdout
    assert "4 KiB" in (tmp_path / "out" / "table.md").read_text()
    assert not list(tmp_path.glob("data-*")), "uploads are left"


@pytest.mark.usefixtures("versitygw")  # or a reason to skip; the run has its own
def test_every_case_runs_in_s3_and_calls_are_counted(tmp_path: Path) -> None:
    flags = ("--storage=versitygw", "--peers=tusd-py", f"--out={tmp_path}/out", f"--cache={tmp_path}")
    done = _command("run.py", *flags, "--size-mib=8", "--rounds=1")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "out" / "s3-versitygw.json"
    results: dict[str, Any] = json.loads(file.read_text())
    assert [row["case"] for row in results["rounds"]] == list(S3_CASES)
    for row in results["rounds"]:
        assert row["errors"] == 0, row
        assert row["done"] > 0
        assert row["verified"] == (0 if row["case"].startswith("head") else row["done"])
        if row["case"] == "one":
            assert row["storage_cpu"] > 0
    assert list(results["calls"]["tusd-py"]) == list(WORKS)
    for work, count in results["calls"]["tusd-py"].items():
        assert "refused" not in count, work
    assert results["calls"]["tusd-py"]["patches"]["sent_bytes"] >= 60 << 20
    report = (tmp_path / "out" / "s3-versitygw.md").read_text()
    assert "CPU of the S3 server" in report
    assert "| 60 MiB in PATCHes of 1 MiB | **" in report
    assert "| patches | tusd-py: calls to S3 ≤ 75 |" in report

    results["calls"] = {}
    file.write_text(json.dumps(results))
    done = _command("run.py", *flags, "--calls")
    assert done.returncode == 0, done.stderr
    counted = json.loads(file.read_text())
    assert counted["rounds"] == results["rounds"]
    assert list(counted["calls"]["tusd-py"]) == list(WORKS)
    assert not list(tmp_path.glob("data-*")), "uploads are left"


def test_many_uploads_under_way_at_once_are_all_compared(tmp_path: Path) -> None:
    done = _command("soak.py", "load", "--count=30", "--seconds=0.3", f"--out={tmp_path}", f"--cache={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "load.json").read_text())
    assert (result["under_way"], result["identical"]) == (30, 30)
    assert result["memory_mib"]["peak"] > 5


def test_a_soak_resumes_ends_and_cleans_up(tmp_path: Path) -> None:
    done = _command("soak.py", "soak", "--count=150", "--links=8", f"--out={tmp_path}", f"--cache={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "soak.json").read_text())
    assert result["uploads"] == sum(result["fates"].values()) == 150
    assert set(result["fates"]) == {"whole", "with creation", "resumed", "ended"}


def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    """Else figures of a server that answers quickly and wrongly would look good."""
    recipe = PEERS["tusd-py"].prepare(Choices(tmp_path))
    with Server("tusd-py", recipe, tmp_path / "uploads") as server:
        path = server.target.create(5000, bytes(window(7, 5000)))
        assert server.check(path, 7, 5000) == ""
        assert server.check(path, 8, 5000).startswith("wrong bytes")
        assert server.check(path, 7, 4999) == "5000 bytes instead of 4999"
        assert server.check(path + "x", 7, 5000).startswith("cannot be read back")
        outcome = run_load(server.target, Load(verb="head", links=2, count=10, path=path, offset=4999), 2)
        assert (outcome.done, sum(outcome.errors.values())) == (0, 10)
        outcome = run_load(server.target, Load(verb="head", links=2, count=10, path=path, offset=5000), 2)
        assert (outcome.done, sum(outcome.errors.values())) == (10, 0)


def test_what_is_wrong_in_a_bucket_is_seen(versitygw: S3Server) -> None:
    bucket = Storage(versitygw).new_bucket()
    bucket.client.put_object(Bucket=bucket.name, Key="some", Body=bytes(window(7, 5000)))
    for path in ("/files/some", "/files/some+multipart"):
        assert bucket.differs_from_pattern(path, 7, 5000) == ""
    assert bucket.differs_from_pattern("/files/some", 8, 5000).startswith("wrong bytes")
    assert bucket.differs_from_pattern("/files/some", 7, 4999) == "5000 bytes instead of 4999"
    assert bucket.differs_from_pattern("/files/other", 7, 5000).startswith("cannot be read back")


def test_calls_are_counted_once(versitygw: S3Server) -> None:
    storage = Storage(versitygw)
    with counting(storage) as proxy:
        client = versitygw.client(endpoint=proxy.endpoint)
        bucket = storage.new_bucket()
        for body in (b"some", b"more"):
            client.put_object(Bucket=bucket.name, Key="some", Body=body)
        client.head_object(Bucket=bucket.name, Key="some")
        assert proxy.count().calls == {"PutObject": 2, "HeadObject": 1}
        assert proxy.count() == Count()


def test_a_window_is_a_part_of_the_endless_pattern() -> None:
    assert bytes(window(len(PATTERN) - 2, 5)) == PATTERN[-2:] + PATTERN[:3]
    assert bytes(window(3 * len(PATTERN) + 1, 2)) == PATTERN[1:3]


@pytest.mark.parametrize("name", S3_CASES)
def test_a_scaled_case_says_so(name: str) -> None:
    case = S3_CASES[name]
    small = scale(case, 0.01)
    assert small.title != case.title
    assert small.load.seconds < case.load.seconds or small.round_bytes < case.round_bytes


def test_goals_compare_medians() -> None:
    goal = next(each for each in GOALS if (each.case, each.figure, each.peer) == ("one", "speed", "tusd"))
    assert check_goal(_results(tusd_py=150.0, tusd=100.0), goal) == (1.5, False)
    assert check_goal(_results(tusd_py=160.0, tusd=100.0), goal) == (1.6, True)
    assert check_goal(_results(tusd_py=160.0), goal) is None
    assert "| one | tusd-py: speed ≥ 1.60 of tusd | 1.50 | NO |" in targets_table(_results(tusd_py=150.0, tusd=100.0))


def test_goals_in_s3_are_of_calls_and_memory_too() -> None:
    results = _results(tusd_py=160.0, tusd=100.0)
    results.options["storage"] = "minio"
    results.calls = {
        "tusd-py": {"small": {"calls": {"PutObject": 3, "HeadObject": 1}, "sent_bytes": 2 << 20}},
        "tusd": {"small": {"refused": "it was 501"}},
    }
    table = targets_table(results)
    assert "| one | tusd-py: speed ≥ 1.50 of tusd | 1.60 | yes |" in table
    assert "| one | tusd-py: cpu ≤ 0.80 | 1.00 | NO |" in table
    assert "| small | tusd-py: calls to S3 ≤ 3 | 4 | NO |" in table
    calls = calls_table(results)
    assert "| **4**, 2 MiB<br>3 PutObject, 1 HeadObject | - (it was 501) | ≤ 3 |" in calls
    memory = next(each for each in S3_GOALS["minio"] if each.figure == "peak_rss_mib")
    results.cases["many"] = results.cases["one"]
    results.rounds.append(results.rounds[0] | {"case": "many", "peak_rss_mib": 300.0})
    assert check_goal(results, memory) == (150.0, True)  # of one of two workers


def test_the_plot_knows_each_peer() -> None:
    assert LOOKS.keys() == PEERS.keys() | S3_PEERS.keys()


def test_the_section_of_a_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nafter\n")
    for _ in range(2):
        write_page(_results(tusd_py=160.0, tusd=100.0), page, tmp_path / "results")
        text = page.read_text()
        assert text.startswith("before\n<!-- benchmark -->\n")
        assert text.endswith("<!-- /benchmark -->\nafter\n")
        assert "old" not in text
        assert text.count("(results/plot.svg)") == text.count("**160**") == 1
