#!/usr/bin/env python3
"""The benchmark: tusd_py beside other tus servers, in one run, round by round.

It installs the peers into a cache folder, starts them, and puts the same loads on each. Servers run all at once and
idle while another is measured; their idle CPU is watched. They store on the disk, or in one S3 server. Results are
written as JSON, Markdown and SVG.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchcases import CASES, S3_CASES, Case, scale
from benchdisk import fresh_folder, spread_folders
from benchgoals import calls_table, targets_table
from benchmachine import describe_machine, now
from benchmeasure import Measurer
from benchpeers import HERE, PEERS, ROOT, Choices, Recipe, Unavailable
from benchplot import write_plot
from benchprogress import Steps
from benchremarks import remarks
from benchreport import Results, tables, write_page
from benchs3peers import S3_PEERS
from benchserver import Server
from benchwatch import usable_cores

if TYPE_CHECKING:
    from benchstorage import Storage

RESULTS = HERE / "results"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tusd-py-benchmark"
QUICK = 1 / 8
STORAGES = ("minio", "versitygw")
LARGE_MIB = 1024

DESCRIPTION = """\
Compare tusd_py with other tus servers on this machine. All peers run in one
run, in a new order each round; what is written are medians and their spread.

  python tests/benchmark/run.py --tusd ~/go/bin/tusd     everything (30 to 60 minutes, 25 GiB of disk)
  python tests/benchmark/run.py --quick                  a look: 2 rounds, an eighth of the load (5 minutes)
  python tests/benchmark/run.py --peers tusd-py,tusd --cases one,small --rounds 3
  python tests/benchmark/run.py --storage minio --tusd ~/go/bin/tusd     the same with S3; minio must be on PATH
  python tests/benchmark/run.py --storage minio --calls   what each asks of S3 (a minute)
  python tests/benchmark/run.py --report                 write table and plot again from latest.json
  python tests/benchmark/run.py --page                 write docs/performance.md again from latest.json

Servers of others are installed on the first run into the cache folder (npm,
pip, cargo; rustus takes minutes to build); a peer that cannot be had is left
out and said so. Memory and soak: see soak.py."""


@dataclass
class _Run:
    """What its steps share. An S3 server's objects are removed with `until_removed`."""

    arguments: argparse.Namespace
    recipes: dict[str, Recipe]
    data: Path
    results: Results
    steps: Steps
    until_removed: ExitStack


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    folder = arguments.out or RESULTS
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers are stopped and uploads removed then, too
    if arguments.report or arguments.page:
        results = Results.read(folder / _name(arguments.storage, "json"))
        if arguments.page:
            write_page(results, ROOT / "docs" / "performance.md", RESULTS)
        if arguments.report:
            _write_reports(results, folder)
        return 0
    is_whole = arguments.scale == 1 and arguments.cases == list(arguments.known_cases)
    if not arguments.out and not (is_whole and arguments.peers == list(arguments.known_peers)):
        folder = arguments.cache / "results"  # what is shown in the README comes from whole runs only
    folder.mkdir(parents=True, exist_ok=True)
    results = _run(arguments, folder)
    print(_write_reports(results, folder))
    if results.rounds:
        print(remarks(results))
    files = [_name(arguments.storage, kind) for kind in ("json", "md", "svg")]
    print(f"\nwritten to {folder}: {', '.join(files if arguments.storage else [*files, 'targets.md'])}")
    return 0 if results.rounds or results.calls else 1


def _name(storage: str, kind: str) -> str:
    disk = {"json": "latest.json", "md": "table.md", "svg": "plot.svg"}
    return f"s3-{storage}.{kind}" if storage else disk[kind]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", choices=STORAGES, default="", help="store in that S3 server (default: on disk)")
    parser.add_argument("--calls", action="store_true", help="with --storage: count the calls to it, nothing else")
    parser.add_argument("--peers", default="", help=f"of {', '.join(PEERS)}; in S3: {', '.join(S3_PEERS)}")
    parser.add_argument("--cases", default="", help=f"of {', '.join(S3_CASES)}; on disk without head-finished")
    parser.add_argument("--rounds", type=int, help="of each case (default 5; quick: 2)")
    parser.add_argument("--quick", action="store_true", help="an eighth of the load, 2 rounds")
    parser.add_argument("--scale", type=float, help="that share of the load instead")
    parser.add_argument("--size-mib", type=int, help="the scale as the size of what is 1 GiB")
    parser.add_argument(
        "--workers", type=int, default=usable_cores(), help="processes of servers that can have several"
    )
    parser.add_argument("--clients", type=int, default=1 if usable_cores() < 4 else 2, help="client processes")
    parser.add_argument("--tusd", default="", metavar="PATH", help="the binary of tusd (default: from PATH)")
    parser.add_argument("--rustus", default="", metavar="PATH", help="the binary of rustus (default: built by cargo)")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="the Python that has tusd_py")
    parser.add_argument("--no-install", action="store_true", help="leave out peers that are not installed yet")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help=f"peers live there (default: {CACHE})")
    parser.add_argument("--data", type=Path, metavar="DIR", help="uploads go there: a disk, no tmpfs (default: cache)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="results go there (default, for a whole run: results/)")
    parser.add_argument("--report", action="store_true", help="measure nothing; write table and plot again")
    parser.add_argument("--page", action="store_true", help="measure nothing; write docs/performance.md again")
    arguments = parser.parse_args(argv)
    if arguments.calls and not arguments.storage:
        parser.error("--calls is about an S3 server: say which with --storage")
    arguments.known_peers, arguments.known_cases = (S3_PEERS, S3_CASES) if arguments.storage else (PEERS, CASES)
    arguments.peers = _chosen(parser, arguments.peers, arguments.known_peers)
    arguments.cases = _chosen(parser, arguments.cases, arguments.known_cases)
    size = arguments.size_mib / LARGE_MIB if arguments.size_mib else 0
    arguments.scale = arguments.scale or size or (QUICK if arguments.quick else 1.0)
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 5)
    return arguments


def _chosen(parser: argparse.ArgumentParser, text: str, known: dict[str, Any]) -> list[str]:
    names = [each.strip() for each in text.split(",") if each.strip()]
    if unknown := [each for each in names if each not in known]:
        parser.error(f"{', '.join(unknown)}; there are {', '.join(known)}")
    return [each for each in known if not names or each in names]


def _run(arguments: argparse.Namespace, folder: Path) -> Results:
    cases = [] if arguments.calls else [scale(arguments.known_cases[name], arguments.scale) for name in arguments.cases]
    recipes, left_out = _prepare_peers(arguments, arguments.workers)
    base = arguments.data or arguments.cache
    base.mkdir(parents=True, exist_ok=True)
    data = Path(tempfile.mkdtemp(prefix="data-", dir=base.absolute()))
    spread_folders(data)
    results = Results(
        date=now(),
        machine=describe_machine(data, arguments.clients),
        options={"rounds": arguments.rounds, "scale": arguments.scale, "workers": arguments.workers},
        cases={case.name: {"title": case.title, "unit": case.unit, "cpu_unit": case.cpu_unit, "kind": case.kind}
               for case in cases},
        peers={name: {"title": arguments.known_peers[name].title, "version": recipe.version, "note": recipe.note,
                      "workers": recipe.workers} for name, recipe in recipes.items()},
        left_out=left_out,
        rounds=[],
    )  # fmt: skip
    kinds = [f"{case.name} {peer}" for case in cases for peer in recipes for _ in range(arguments.rounds)]
    try:
        with ExitStack() as until_removed, Steps(kinds) as steps:
            run = _Run(arguments, recipes, data, results, steps, until_removed)
            for case in cases:
                _run_case(run, case)
                results.write(folder / "unfinished.json")
            if arguments.calls or (arguments.storage and arguments.cases == list(arguments.known_cases)):
                results = _count_calls(run, folder)
    finally:
        print("removing the uploads", file=sys.stderr)
        shutil.rmtree(data, ignore_errors=True)
    results.write(folder / _name(arguments.storage, "json"))
    (folder / "unfinished.json").unlink(missing_ok=True)
    return results


def _prepare_peers(arguments: argparse.Namespace, workers: int) -> tuple[dict[str, Recipe], dict[str, str]]:
    choices = Choices(
        cache=arguments.cache.absolute(),
        python=arguments.python,
        tusd=arguments.tusd,
        rustus=arguments.rustus,
        workers=workers,
        may_install=not arguments.no_install,
    )
    recipes: dict[str, Recipe] = {}
    left_out: dict[str, str] = {}
    for name in arguments.peers:
        print(f"preparing {name}", file=sys.stderr, flush=True)
        try:
            recipes[name] = arguments.known_peers[name].prepare(choices)
        except Unavailable as reason:
            left_out[name] = str(reason)
            print(f"{name} is left out: {reason}", file=sys.stderr)
    return recipes, left_out


def _run_case(run: _Run, case: Case) -> None:
    arguments, steps = run.arguments, run.steps
    with ExitStack() as stack:
        storage = _start_storage(run, case.name, stack) if arguments.storage else None
        measurer = Measurer(run.data, arguments.clients, storage.pid if storage else None)
        servers: dict[str, Server] = {}
        for name, recipe in run.recipes.items():
            try:
                bucket = storage.new_bucket() if storage else None
                folder = fresh_folder(run.data, f"{case.name}-{name}")
                server = stack.enter_context(Server(name, recipe, folder, bucket))
                measurer.warm_up(case, server)
                servers[name] = server
            except (Unavailable, OSError) as reason:
                run.results.left_out[f"{name}, {case.name}"] = str(reason)
                steps.say(f"{name} is left out of {case.name}: {reason}")
                steps.skip(f"{case.name} {name}", arguments.rounds)
        for number in range(1, arguments.rounds + 1):
            # Another order each time, the same in each run: no peer always comes after the same one.
            order = random.Random(f"{case.name} {number}").sample(list(servers), len(servers))
            for name in order:
                steps.begin(f"{case.name}: {name}, round {number} of {arguments.rounds}")
                others = [server for other, server in servers.items() if other != name]
                figures = _measure(measurer, case, servers[name], others, number == 1)
                run.results.rounds.append({"case": case.name, "peer": name, "round": number} | figures)
                steps.end(f"{case.name} {name}")


def _start_storage(run: _Run, name: str, stack: ExitStack) -> Storage:
    from benchstorage import running, version  # it needs boto3

    kind = run.arguments.storage
    run.results.options |= {"storage": kind, "storage_version": version(kind)}
    return stack.enter_context(running(kind, fresh_folder(run.data, f"{name}-{kind}"), run.until_removed))


def _count_calls(run: _Run, folder: Path) -> Results:
    """With one worker each: what the calls are depends on who knows what."""
    from benchcalls import count_all

    recipes, _ = _prepare_peers(run.arguments, workers=1)
    with ExitStack() as stack:
        calls, left_out = count_all(recipes, _start_storage(run, "calls", stack), run.data, run.steps.say)
    results = run.results
    file = folder / _name(run.arguments.storage, "json")
    if run.arguments.calls and file.exists() and _versions(last := Results.read(file)) == _versions(results):
        results = last  # its figures are of the same servers
    results.calls = calls
    results.left_out |= left_out
    return results


def _versions(results: Results) -> dict[str, str]:
    return {name: about["version"] for name, about in results.peers.items()}


def _measure(measurer: Measurer, case: Case, server: Server, others: list[Server], is_first: bool) -> dict[str, Any]:
    try:
        return measurer.measure(case, server, others, is_first)
    except OSError as error:
        has_ended = server.process.poll() is not None
        reason = f"the server ended: {server.last_words()}" if has_ended else str(error)
        return {"errors": 1, "error_samples": [reason], "speed": None}


def _write_reports(results: Results, folder: Path) -> str:
    """Returns what is for people to read: tables and targets."""
    storage = results.storage
    figures, targets = tables(results) if results.rounds else "", targets_table(results)
    parts = [figures, calls_table(results), targets] if storage else [figures, targets]
    text = "\n".join(part for part in parts if part)
    if storage:
        plot = f"![speed and CPU relative to tusd]({_name(storage, 'svg')})\n\n" if results.rounds else ""
        (folder / _name(storage, "md")).write_text(plot + text)
    else:
        (folder / _name(storage, "md")).write_text(figures)
        (folder / "targets.md").write_text(targets)
    if results.rounds:
        try:
            write_plot(results, folder / _name(storage, "svg"))
        except ImportError:
            print("no plot: pip install 'tusd-py[benchmark]' for it", file=sys.stderr)
    return text


if __name__ == "__main__":
    sys.exit(main())
