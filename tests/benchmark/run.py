#!/usr/bin/env python3
"""The benchmark: tusd_py beside other tus servers, in one run, round by round.

It installs the peers into a cache folder, starts them, and puts the same loads on each. Servers run all at once and
idle while another is measured; their idle CPU is watched. Results are written as JSON, Markdown and SVG.
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
from pathlib import Path
from typing import Any

from benchcases import CASES, Case, scale
from benchdisk import fresh_folder, spread_folders
from benchmachine import describe_machine, now
from benchmeasure import Measurer
from benchpeers import HERE, PEERS, ROOT, Choices, Recipe, Unavailable
from benchplot import write_plot
from benchprogress import Steps
from benchremarks import remarks
from benchreport import Results, targets_table, write_readme, write_table
from benchserver import Server
from benchwatch import usable_cores

RESULTS = HERE / "results"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tusd-py-benchmark"
QUICK = 1 / 8

DESCRIPTION = """\
Compare tusd_py with other tus servers on this machine. All peers run in one
run, in a new order each round; what is written are medians and their spread.

  python tests/benchmark/run.py --tusd ~/go/bin/tusd     everything (30 to 60 minutes, 25 GiB of disk)
  python tests/benchmark/run.py --quick                  a look: 2 rounds, an eighth of the load (5 minutes)
  python tests/benchmark/run.py --peers tusd-py,tusd --cases one,small --rounds 3
  python tests/benchmark/run.py --report                 write table and plot again from latest.json
  python tests/benchmark/run.py --readme                 write the section of the README again from latest.json

Servers of others are installed on the first run into the cache folder (npm,
pip, cargo; rustus takes minutes to build); a peer that cannot be had is left
out and said so. Memory and soak: see soak.py."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    folder = arguments.out or RESULTS
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers are stopped and uploads removed then, too
    if arguments.report or arguments.readme:
        results = Results.read(folder / "latest.json")
        if arguments.readme:
            write_readme(results, ROOT / "README.md", RESULTS)
        if arguments.report:
            _write_reports(results, folder)
        return 0
    is_whole = arguments.scale == 1 and arguments.cases == list(CASES) and arguments.peers == list(PEERS)
    if not arguments.out and not is_whole:  # what is shown in the README comes from whole runs only
        folder = arguments.cache / "results"
    folder.mkdir(parents=True, exist_ok=True)
    results = _run(arguments, folder)
    table, targets = _write_reports(results, folder)
    print(f"{table}\n\n{targets}\n{remarks(results)}")
    print(f"\nwritten to {folder}: latest.json, table.md, targets.md, plot.svg")
    return 0 if results.rounds else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)

    def chosen(known: dict[str, Any]) -> Any:
        def read(text: str) -> list[str]:
            names = [each.strip() for each in text.split(",") if each.strip()]
            if unknown := [each for each in names if each not in known]:
                raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; there are {', '.join(known)}")
            return [each for each in known if each in names]

        return read

    parser.add_argument("--peers", type=chosen(PEERS), default=list(PEERS), help=f"of {', '.join(PEERS)}")
    parser.add_argument("--cases", type=chosen(CASES), default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, help="of each case (default 5; quick: 2)")
    parser.add_argument("--quick", action="store_true", help="an eighth of the load, 2 rounds")
    parser.add_argument("--scale", type=float, help="that share of the load instead")
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
    parser.add_argument("--readme", action="store_true", help="measure nothing; write the README's section again")
    arguments = parser.parse_args(argv)
    arguments.scale = arguments.scale or (QUICK if arguments.quick else 1.0)
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 5)
    return arguments


def _run(arguments: argparse.Namespace, folder: Path) -> Results:
    cases = [scale(CASES[name], arguments.scale) for name in arguments.cases]
    recipes, left_out = _prepare_peers(arguments)
    base = arguments.data or arguments.cache
    base.mkdir(parents=True, exist_ok=True)
    data = Path(tempfile.mkdtemp(prefix="data-", dir=base))
    spread_folders(data)
    results = Results(
        date=now(),
        machine=describe_machine(data, arguments.clients),
        options={"rounds": arguments.rounds, "scale": arguments.scale, "workers": arguments.workers},
        cases={case.name: {"title": case.title, "unit": case.unit, "cpu_unit": case.cpu_unit, "kind": case.kind}
               for case in cases},
        peers={name: {"title": PEERS[name].title, "version": recipe.version, "note": recipe.note,
                      "workers": recipe.workers} for name, recipe in recipes.items()},
        left_out=left_out,
        rounds=[],
    )  # fmt: skip
    kinds = [f"{case.name} {peer}" for case in cases for peer in recipes for _ in range(arguments.rounds)]
    try:
        with Steps(kinds) as steps:
            for case in cases:
                _run_case(case, recipes, arguments, data, results, steps)
                results.write(folder / "unfinished.json")
    finally:
        print("removing the uploads", file=sys.stderr)
        shutil.rmtree(data, ignore_errors=True)
    (folder / "unfinished.json").replace(folder / "latest.json")
    return results


def _prepare_peers(arguments: argparse.Namespace) -> tuple[dict[str, Recipe], dict[str, str]]:
    choices = Choices(
        cache=arguments.cache.absolute(),
        python=arguments.python,
        tusd=arguments.tusd,
        rustus=arguments.rustus,
        workers=arguments.workers,
        may_install=not arguments.no_install,
    )
    recipes: dict[str, Recipe] = {}
    left_out: dict[str, str] = {}
    for name in arguments.peers:
        print(f"preparing {name}", file=sys.stderr, flush=True)
        try:
            recipes[name] = PEERS[name].prepare(choices)
        except Unavailable as reason:
            left_out[name] = str(reason)
            print(f"{name} is left out: {reason}", file=sys.stderr)
    return recipes, left_out


def _run_case(
    case: Case,
    recipes: dict[str, Recipe],
    arguments: argparse.Namespace,
    data: Path,
    results: Results,
    steps: Steps,
) -> None:
    measurer = Measurer(data, arguments.clients)
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for name, recipe in recipes.items():
            try:
                server = stack.enter_context(Server(name, recipe, fresh_folder(data, f"{case.name}-{name}")))
                measurer.warm_up(case, server)
                servers[name] = server
            except (Unavailable, OSError) as reason:
                results.left_out[f"{name}, {case.name}"] = str(reason)
                steps.say(f"{name} is left out of {case.name}: {reason}")
                steps.skip(f"{case.name} {name}", arguments.rounds)
        for number in range(1, arguments.rounds + 1):
            # Another order each time, the same in each run: no peer always comes after the same one.
            order = random.Random(f"{case.name} {number}").sample(list(servers), len(servers))
            for name in order:
                steps.begin(f"{case.name}: {name}, round {number} of {arguments.rounds}")
                others = [server for other, server in servers.items() if other != name]
                figures = _measure(measurer, case, servers[name], others)
                results.rounds.append({"case": case.name, "peer": name, "round": number} | figures)
                steps.end(f"{case.name} {name}")


def _measure(measurer: Measurer, case: Case, server: Server, others: list[Server]) -> dict[str, Any]:
    try:
        return measurer.measure(case, server, others)
    except OSError as error:
        has_ended = server.process.poll() is not None
        reason = f"the server ended: {server.last_words()}" if has_ended else str(error)
        return {"errors": 1, "error_samples": [reason], "speed": None}


def _write_reports(results: Results, folder: Path) -> tuple[str, str]:
    """Returns what is for people to read: table and targets."""
    table, targets = write_table(results, folder / "table.md"), targets_table(results)
    (folder / "targets.md").write_text(targets)
    try:
        write_plot(results, folder / "plot.svg")
    except ImportError:
        print("no plot: pip install 'tusd-py[benchmark]' for it", file=sys.stderr)
    return table, targets


if __name__ == "__main__":
    sys.exit(main())
