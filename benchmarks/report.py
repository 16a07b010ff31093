"""Measure the time of the report and of a command's start: python benchmarks/report.py.

The records are made, not trained (``tests/helpers/made_records.py``): a search of three noise levels, two spaces and
200 trials each, and a confirmation of 288 trainings with their per-utterance tables. ``--tracking-uri`` and
``--experiment`` take records of your own. ``--before`` measures another checkout in turn with this one. A round takes
a minute and a half.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

if not __package__:
    # Run as a script: imports start at the repository root.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import tyro

from benchmarks.measure import OUTPUT, Measurement, Results, heading, table
from study.environment import CODE_ROOT as ROOT
from study.tracking.opening import experiment_id, open_client
from study.tracking.store import search_all
from tests.helpers.made_records import copy_trials, make_confirm, make_search

SPACES, LEVELS = ("cross_entropy", "proselflc"), ("clean", "noisy-A", "noisy-B")
TRIALS, FOLDS, SEEDS = 200, (1, 2, 3, 4), range(1, 13)
SKILLS = (0.9, 0.8, 0.6)
HERE, BEFORE = "this checkout", "before"


@dataclass(frozen=True)
class ReportBenchmarkOptions:
    """Options of the benchmark."""

    before: Path | None = None
    """Folder of another checkout that is measured in turn with this one."""
    tracking_uri: str | None = None
    """MLflow tracking URI of records of your own."""
    experiment: str = "made"
    """Experiment of the report."""
    repeats: int = 3
    """Rounds over all variants."""
    output: Path = OUTPUT
    """Folder of the JSON."""


def main() -> int:
    """Run the command line."""
    options = tyro.cli(ReportBenchmarkOptions, description=__doc__)
    about = {"experiment": options.experiment, "trials of a search": TRIALS, "searches": len(SPACES) * len(LEVELS)}
    about["confirmed trainings"] = len(SPACES) * len(LEVELS) * len(FOLDS) * len(SEEDS)
    about = {"records": options.tracking_uri} if options.tracking_uri else about
    print(heading(about))
    results = Results("report", about)
    with tempfile.TemporaryDirectory(prefix="report") as folder:
        uri = options.tracking_uri or make_records(Path(folder))
        trees = {HERE: ROOT} | ({BEFORE: options.before.resolve()} if options.before else {})
        results.run(variants(trees, uri, options.experiment, Path(folder)), options.repeats)
    print("\n" + report_table(results, list(trees)))
    print(f"\nwrote {results.save(options.output)}")
    return 0


def make_records(folder: Path) -> str:
    """Write the records of a search and of its confirmation; return their tracking URI."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = open_client(uri)
    experiment = experiment_id(client, uri, "made")
    methods = [(space, level) for space in SPACES for level in LEVELS]
    make_search(client, experiment, folder / "studies", dict.fromkeys(methods, SKILLS))
    for parent in search_all(client, [experiment], "tags.kind = 'parent'"):
        copy_trials(folder / "mlflow.db", parent.info.run_id, TRIALS)
    skills = {(*method, "search-1"): SKILLS[place % 2] for place, method in enumerate(methods)}
    primary = (LEVELS[-1], SPACES[-1])
    make_confirm(client, experiment, folder / "studies", skills, seeds=SEEDS, folds=FOLDS, primary=primary)
    return uri


def variants(trees: dict[str, Path], uri: str, experiment: str, folder: Path) -> dict[str, Callable[[], Measurement]]:
    """Return the measuring function of each command and checkout by name."""
    records = ("--tracking-uri", uri, "--experiment", experiment, "--output", str(folder / "output"))
    commands = {"report.py": ("report.py", *records), "best_runs.py": ("best_runs.py", *records)}
    commands["best_runs.py --help"] = ("best_runs.py", "--help")
    return {
        f"{command}, {name}": partial(costs, tree, *words)
        for command, words in commands.items()
        for name, tree in trees.items()
    }


def costs(tree: Path, script: str, *words: str) -> Measurement:
    """Run an analysis of a checkout; return its ``seconds``, ``cpu`` (seconds) and ``memory`` (peak in MB)."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(tree / "analysis" / script), *words],
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    seconds = time.monotonic() - began
    return {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss * 1024 / 1e6}


def report_table(results: Results, trees: list[str]) -> str:
    """Return the table of times and memory, with the ratio to the other checkout."""
    keys = ("seconds", "cpu", "memory")
    rows = []
    for variant in results.rounds:
        cells = [results.cell(variant, key) for key in keys]
        command, _, name = variant.partition(", ")
        if len(trees) > 1:
            cells.append("" if name == BEFORE else f"{results.ratio(variant, f'{command}, {BEFORE}', 'seconds'):.2f} ×")
        rows.append((command, name, *cells))
    header = ("command", "", "seconds", "CPU, s", "peak, MB", *(["time / before"] if len(trees) > 1 else []))
    return table(header, rows)


if __name__ == "__main__":
    sys.exit(main())
