#!/usr/bin/env python3
"""Many uploads at once, and many one after the other: does the server keep every byte, and its memory?"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

from benchcases import MIB
from benchcrowd import Crowd, raise_file_limit
from benchdisk import fresh_folder, spread_folders
from benchlife import Life
from benchmachine import describe_machine, now
from benchpeers import PEERS, Choices, Unavailable
from benchplot import write_memory_plot
from benchprogress import spell
from benchserver import Server
from benchwatch import MemorySampler, cpu_seconds, memory_bytes, open_files, thread_count, usable_cores
from run import CACHE, RESULTS

WHOLE_LOAD, WHOLE_SOAK = 5_000, 200_000
PIECES, PIECE_BYTES = 16, 16 << 10
WARM_UP_SHARE = 0.25
SAMPLE_SECONDS = 1.0
# What the slope may add up to over the run: memory allocators breathe that much.
ALLOWED_GROWTH_MIB, ALLOWED_GROWTH_SHARE = 3.0, 0.05
TRICKLE_SECONDS_MOST = 240.0

DESCRIPTION = """\
  python tests/benchmark/soak.py load     5,000 uploads under way at once, each body trickling in (2 minutes)
  python tests/benchmark/soak.py soak     200,000 uploads, small and medium, some cut and resumed, some ended
                                          (some minutes); memory is sampled each second and must not grow
Every upload is read back and compared. Exit code 0: all is well."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\n\n{DESCRIPTION}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["load", "soak"])
    parser.add_argument("--count", type=int, help=f"uploads (default: load {WHOLE_LOAD:,}, soak {WHOLE_SOAK:,})")
    parser.add_argument("--seconds", type=float, default=60.0, help="load: how long the bodies trickle (default 60)")
    parser.add_argument("--links", type=int, default=64, help="soak: connections (default 64)")
    parser.add_argument("--peer", choices=list(PEERS), default="tusd-py", help="who is tested (default tusd-py)")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="its processes, if it can have several")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="the Python that has tusd_py")
    parser.add_argument("--tusd", default="", metavar="PATH", help="the binary of tusd")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="peers and uploads are there")
    parser.add_argument("--out", type=Path, metavar="DIR", help="results go there (default, for a whole one: results/)")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    whole = WHOLE_LOAD if arguments.what == "load" else WHOLE_SOAK
    arguments.count = arguments.count or whole
    is_whole = arguments.count >= whole and arguments.peer == "tusd-py"
    folder = arguments.out or (RESULTS if is_whole else arguments.cache / "results")
    folder.mkdir(parents=True, exist_ok=True)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    data = Path(tempfile.mkdtemp(prefix="data-", dir=arguments.cache))
    spread_folders(data)
    try:
        return _test(arguments, data, folder)
    except (Unavailable, OSError) as reason:
        print(f"soak.py: error: {reason}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _test(arguments: argparse.Namespace, data: Path, folder: Path) -> int:
    if arguments.what == "load":
        raise_file_limit(2 * arguments.count + 1000)  # a server may need a second one, for the file
    choices = Choices(arguments.cache.absolute(), arguments.python, arguments.tusd, workers=arguments.workers)
    recipe = PEERS[arguments.peer].prepare(choices)
    with Server(arguments.peer, recipe, fresh_folder(data, arguments.peer)) as server:
        test = _crowd if arguments.what == "load" else _soak
        result = test(arguments, server)
        if server.process.poll() is not None:
            result["errors"][f"the server ended: {server.last_words()}"] = 1
    result = {
        "date": now(),
        "machine": describe_machine(data, 1),
        "peer": arguments.peer,
        "version": recipe.version,
        "settings": recipe.note,
        "workers": recipe.workers,
    } | result
    result["is_good"] = result["is_good"] and not result["errors"]
    (folder / f"{arguments.what}.json").write_text(json.dumps(result, indent=1) + "\n")
    _report(arguments, result, folder)
    return 0 if result["is_good"] else 1


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- load ------------------------------------------------------------------------------------------------------------


def _crowd(arguments: argparse.Namespace, server: Server) -> dict[str, Any]:
    base_pss, _ = memory_bytes(server.pid)
    sampler = MemorySampler(server.pid, 0.25)
    sampler.start()
    crowd = Crowd(server.target, arguments.count, PIECES, PIECE_BYTES)
    _say(f"gathering {arguments.count:,} uploads")
    crowd.gather(lambda count: _say(f"{count:,} under way") if count % 1000 == 0 else None)
    held_pss, _ = memory_bytes(server.pid)
    files = open_files(server.pid)
    crowd.ask_as_bystander()
    seconds = min(arguments.seconds, TRICKLE_SECONDS_MOST)
    _say(f"all bodies go on, for {spell(seconds)}")
    crowd.trickle(seconds, lambda piece: _say(f"piece {piece + 1} of {PIECES}") if piece % 5 == 0 else None)
    sampler.stop()
    _say("comparing every upload")
    crowd.compare(server.check)
    outcome = crowd.outcome
    return {
        "uploads": arguments.count,
        "body_bytes": PIECES * PIECE_BYTES,
        "memory_mib": {
            "idle": round(base_pss / MIB, 1),
            "all_under_way": round(held_pss / MIB, 1),
            "peak": round(sampler.peak_pss / MIB, 1),
        },
        "kib_per_upload": round((sampler.peak_pss - base_pss) / max(outcome.under_way, 1) / 1024, 2),
        "open_files_under_way": files,
        **asdict(outcome),
        "is_good": outcome.identical == arguments.count == outcome.under_way,
    }


# --- soak ------------------------------------------------------------------------------------------------------------


class _SoakSampler(threading.Thread):
    """Each second: seconds, MiB, uploads done, open files, whether uploads are being deleted. Says how far it is."""

    def __init__(self, pid: int, life: Life, count: int) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float, int, int, bool]] = []
        self._pid, self._life, self._count = pid, life, count
        self._stopping = threading.Event()

    def run(self) -> None:
        begin = said = time.monotonic()
        while not self._stopping.wait(SAMPLE_SECONDS):
            at, done = time.monotonic() - begin, self._life.done
            pss = memory_bytes(self._pid)[0] / MIB
            self.samples.append((round(at, 2), round(pss, 2), done, open_files(self._pid), self._life.is_removing))
            if time.monotonic() - said > 10 and done:
                said = time.monotonic()
                left = spell(at / done * (self._count - done))
                _say(f"{done:,} of {self._count:,} uploads, {pss:.1f} MiB, about {left} left")

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def _soak(arguments: argparse.Namespace, server: Server) -> dict[str, Any]:
    life = Life(server.target, server.folder, arguments.count, arguments.links)
    _say("warming up")
    life.warm_up()
    files_before, threads_before = open_files(server.pid), thread_count(server.pid)
    sampler = _SoakSampler(server.pid, life, arguments.count)
    begin, cpu_before, own_before = time.monotonic(), cpu_seconds(server.pid), time.process_time()
    sampler.start()
    life.run()
    seconds = time.monotonic() - begin
    cpu, own = cpu_seconds(server.pid) - cpu_before, time.process_time() - own_before
    time.sleep(2 * SAMPLE_SECONDS)  # connections are closed by then
    sampler.stop()
    left_behind = sum(1 for path in server.folder.rglob("*") if path.is_file())
    result = {
        "uploads": life.done,
        "fates": dict(life.fates),
        "body_bytes": life.body_bytes,
        "seconds": round(seconds, 1),
        "uploads_per_second": round(life.done / seconds, 1),
        "server_cpu_s": round(cpu, 2),
        "client_cpu_s": round(own, 2),
        "open_files": {"before": files_before, "after": open_files(server.pid)},
        "threads": {"before": threads_before, "after": thread_count(server.pid)},
        "files_left_in_folder": left_behind,
        "errors": dict(life.engine.errors),
        "samples": sampler.samples,
    }
    growth = _judge_memory(sampler.samples)
    return result | {
        "memory": growth,
        "is_good": growth.get("is_steady", True) and sum(life.fates.values()) == life.done,
    }


def _judge_memory(samples: list[tuple[float, float, int, int, bool]]) -> dict[str, Any]:
    """The slope after the warm-up: over the run it must stay below what allocators breathe."""
    last = samples[-1][2] if samples else 0
    # The samples after the last upload say what is given back, not what is needed.
    steady = [each for each in samples if WARM_UP_SHARE * last <= each[2] < last]
    if len(steady) < 10:
        return {"verdict": "too short to judge"}
    sizes = [each[1] for each in steady]
    slope = linear_regression([each[2] for each in steady], sizes).slope
    growth = slope * (steady[-1][2] - steady[0][2])
    allowed = max(ALLOWED_GROWTH_MIB, ALLOWED_GROWTH_SHARE * median(sizes))
    is_steady = growth <= allowed
    return {
        "median_mib": round(median(sizes), 1),
        "least_mib": min(sizes),
        "peak_mib": max(sizes),
        "slope_kib_per_1000_uploads": round(slope * 1024 * 1000, 2),
        "growth_mib": round(growth, 2),
        "allowed_growth_mib": round(allowed, 2),
        "is_steady": is_steady,
        "verdict": f"memory {'does not grow' if is_steady else 'GROWS'}: {growth:+.2f} MiB by the slope after warm-up",
    }


def _report(arguments: argparse.Namespace, result: dict[str, Any], folder: Path) -> None:
    shown = {name: value for name, value in result.items() if name not in ("samples", "machine")}
    print(json.dumps(shown, indent=1))
    samples = result.get("samples")
    if samples:
        title = f"{result['uploads']:,} uploads with {result['peer']}, {result['workers']} workers"
        try:
            minutes, mebibytes = [each[0] / 60 for each in samples], [each[1] for each in samples]
            write_memory_plot(minutes, mebibytes, [each[4] for each in samples], title, folder / "soak.svg")
        except ImportError:
            _say("no plot: pip install 'tusd-py[benchmark]' for it")
    print(f"{'good' if result['is_good'] else 'NOT GOOD'}; written to {folder / arguments.what}.json")


if __name__ == "__main__":
    sys.exit(main())
