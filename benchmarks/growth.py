"""Measure how the cost of a study grows with its number of trials: python benchmarks/growth.py.

Each variant of the three parts runs in its own process, in turn:

* search: searches of 100 and 1,000 trials in simulated time (``tests/helpers/simulation.py``), with the study's journal
  and searcher and with Ray Tune's OptunaSearch. Measured are the time of a suggestion, the growth of the process and
  the size on disk. With more than 1,000 trials, all but the last 300 are suggested at random, because the time of a
  TPE suggestion does not depend on who suggested the earlier trials;
* ray: 100 trials of made-up training on a real Ray, recorded in MLflow (SQLite), by the study and by plain Ray Tune
  with MLflowLoggerCallback;
* records: ``analysis/best_runs.py`` and ``analysis/report.py`` on MLflow records of the same numbers of trials, made by
  copying rows (``tests/helpers/made_records.py``).

A round takes four minutes; ``--trials 100 1000 10000`` takes seven more.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

if not __package__:
    # Run as a script: imports start at the repository root, also in Ray's workers.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = sys.path[0]

import numpy as np
import optuna
import ray
import tyro
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch

from benchmarks.measure import OUTPUT, Measurement, Results, heading, memory_mb, run_worker, table
from study.backend.trial_resources import TrialResources
from study.environment import CODE_ROOT as ROOT
from study.schema import SELECTIONS
from study.search.journal import JOURNAL, Journal
from study.search.run_search import run_trials
from study.search.searcher import StudySearch
from study.search.trial_logs import TrialLogs
from study.setup.spaces import load_space
from study.tracking.opening import experiment_id, open_client
from study.tracking.store import search_all
from study.tracking.upload import Courier
from study.trial.specification import DEVICE, DONE, EPOCH, EVENTS, TrialContext, epoch_event
from tests.helpers.made_records import copy_trials, make_search
from tests.helpers.simulation import simulate
from tests.helpers.trial_context import DATASET, runs_of

METRIC = SELECTIONS["noisy"].metric
STUDY, PLAIN = "study", "plain Ray Tune"
SLOTS, EPOCHS = 20, 8  # simulated
RAY_TRIALS, RAY_EPOCHS, RAY_SLOTS = 100, 5, 2
MOST_BY_TPE, LAST_BY_TPE = 1000, 300  # up to the first number TPE suggests all trials, above it only the last ones
LAST = 100
SPACES, LEVELS = ("cross_entropy", "proselflc"), ("clean", "noisy-B")
COMMANDS = ("best_runs", "report")


@dataclass(frozen=True)
class GrowthOptions:
    """Options of the benchmark."""

    trials: tuple[int, ...] = (100, 1000)
    """Numbers of trials."""
    repeats: int = 2
    """Rounds over all variants."""
    parts: tuple[Literal["search", "ray", "records"], ...] = ("search", "ray", "records")
    """Parts to run."""
    output: Path = OUTPUT
    """Folder for the JSON and the figure."""
    worker: tuple[str, ...] = ()
    """Internal: work of one process."""


def main() -> int:
    """Run the command line."""
    options = tyro.cli(GrowthOptions, description=__doc__)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if options.worker:
        kind, folder, size = options.worker
        workers: dict[str, Callable[[str, Path, int], Measurement]] = {"search": search_costs, "ray": ray_costs}
        part, _, variant = kind.partition(":")
        print(json.dumps(workers[part](variant, Path(folder), int(size))))
        return 0
    about = {"trials": options.trials, "epochs": EPOCHS, "at a time": SLOTS, "space": "proselflc"}
    print(heading(about))
    results = Results("growth", about)
    with tempfile.TemporaryDirectory(prefix="growth") as folder:
        results.run(variants(options, Path(folder)), options.repeats)
    if "search" in options.parts:
        print("\n" + search_table(results, options.trials))
    if "ray" in options.parts:
        print("\n" + ray_table(results))
    if "records" in options.parts:
        print("\n" + records_table(results, options.trials))
    print(f"\nwrote {results.save(options.output)}")
    if "search" in options.parts:
        drawn = [f"{name}, {size} trials" for size in options.trials for name in (STUDY, PLAIN)]
        path = results.draw(options.output, "last", "a suggestion, ms, the last hundred", drawn)
        print(f"wrote {path}")
    return 0


def variants(options: GrowthOptions, folder: Path) -> dict[str, Callable[[], Measurement]]:
    """Return the measuring function of each variant by name."""
    found: dict[str, Callable[[], Measurement]] = {}
    for size in options.trials:
        if "search" in options.parts:
            for name in (STUDY, PLAIN):
                found[f"{name}, {size} trials"] = partial(_worker, f"search:{name}", size)
    if "ray" in options.parts:
        for name in (STUDY, PLAIN):
            found[f"{name}, real Ray"] = partial(_worker, f"ray:{name}", RAY_TRIALS)
    if "records" in options.parts:
        for size in options.trials:
            make_database(folder / str(size), size)
            for command in COMMANDS:
                found[f"{command}, {size} trials"] = partial(command_costs, command, folder / str(size))
    return found


def _worker(kind: str, size: int) -> Measurement:
    with tempfile.TemporaryDirectory(prefix="growth") as folder:
        return run_worker(__file__, kind, folder, size)


def search_costs(kind: str, folder: Path, size: int) -> Measurement:
    """Measure a search in simulated time.

    Args:
        kind: Searcher: ``STUDY`` or ``PLAIN``.
        folder: Empty folder.
        size: Number of trials.

    Returns:
        ``median``, ``most`` (95 % quantile) and ``last`` (median of the last hundred): milliseconds per TPE
        suggestion; ``memory``: growth of the process per trial in KB; ``state``: size on disk in MB.
    """
    options: dict[str, Any] = {"scheduler": "none"}
    learned = size if size <= MOST_BY_TPE else LAST_BY_TPE
    simulate(folder / "first", 2 * SLOTS, SLOTS, EPOCHS, **options)  # imports and compiles everything once
    simulate(folder / "second", 2 * SLOTS, SLOTS, EPOCHS, rival=plain_search("tpe"), **options)
    gc.collect()
    before = 1e6 * memory_mb(field="VmRSS")
    path = folder / "measured"
    if kind == STUDY:
        if learned < size:
            simulate(path, size - learned, SLOTS, EPOCHS, sampler="random", **options)
        latencies = simulate(path, size, SLOTS, EPOCHS, **options).latencies
        state = (path / JOURNAL).stat().st_size
    else:
        search = plain_search("random" if learned < size else "tpe")
        if learned < size:
            simulate(path, size - learned, SLOTS, EPOCHS, rival=search, **options)
            search = plain_search("tpe", search)
        latencies = simulate(folder / "learned", learned, SLOTS, EPOCHS, rival=search, **options).latencies
        search.save(str(folder / "search.pkl"))
        state = (folder / "search.pkl").stat().st_size
    gc.collect()
    grown = 1e6 * memory_mb(field="VmRSS") - before
    milliseconds = 1000 * np.array(latencies)
    return {
        "median": float(np.median(milliseconds)),
        "most": float(np.quantile(milliseconds, 0.95)),
        "last": float(np.median(milliseconds[-LAST:])),
        "memory": grown / size / 1e3,
        "state": state / 1e6,
    }


def plain_search(sampler: str, known: OptunaSearch | None = None) -> OptunaSearch:
    """Return Ray Tune's OptunaSearch over the study's space, with the study's sampler.

    Args:
        sampler: ``tpe`` or ``random``.
        known: Searcher whose trials are kept; only its sampler is replaced.
    """
    space = load_space("proselflc", {})
    made = (
        optuna.samplers.TPESampler(seed=0, constant_liar=True)
        if sampler == "tpe"
        else optuna.samplers.RandomSampler(seed=0)
    )
    search = OptunaSearch(space.domains, metric=METRIC, mode="max", sampler=made)
    if known is not None:
        known._ot_study.sampler = made
        return known
    return search


def ray_costs(kind: str, folder: Path, size: int) -> Measurement:
    """Measure trials of made-up training on a real Ray.

    Returns:
        ``seconds``, ``memory`` (growth of the driver's peak per trial in KB), ``state`` (size on disk in MB).
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    ray.init(address="local", num_cpus=RAY_SLOTS, include_dashboard=False, log_to_driver=False)
    uri = f"sqlite:///{folder}/mlflow.db"
    client = open_client(uri)
    experiment = experiment_id(client, uri, "growth")
    before = 1e6 * memory_mb(field="VmHWM")
    began = time.monotonic()
    if kind == STUDY:
        journal = Journal(folder, load_space("proselflc", {}), SELECTIONS["noisy"], seed=0)
        courier = Courier(client)
        context = TrialContext(cast(Any, SimpleNamespace(absent={})), {}, 0, 1, "cpu", METRIC, folder)
        logs = TrialLogs(context, {}, DATASET, runs_of(experiment, "growth"), courier)
        search = StudySearch(journal, logs, SELECTIONS["noisy"], size, RAY_SLOTS)
        run_trials(search, tune.with_parameters(Made, events=True), TrialResources(1, 0, RAY_SLOTS), folder)
        left, _ = courier.close(60)
        assert not left, left
        state = (folder / JOURNAL).stat().st_size
    else:
        tune.Tuner(
            tune.with_resources(Made, {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=plain_search("tpe"), num_samples=size, max_concurrent_trials=RAY_SLOTS, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name="plain",
                storage_path=str(folder / "tune"),
                callbacks=[MLflowLoggerCallback(tracking_uri=uri, experiment_name="plain")],
                verbose=0,
            ),
        ).fit()
        state = sum(path.stat().st_size for path in (folder / "tune").rglob("*") if path.is_file())
    seconds = time.monotonic() - began
    return {"seconds": seconds, "memory": (1e6 * memory_mb(field="VmHWM") - before) / size / 1e3, "state": state / 1e6}


class Made(tune.Trainable):  # type: ignore[misc]
    """Trainable whose training takes no time."""

    def setup(self, config: dict[str, Any], events: bool = False) -> None:
        """Start a trial; with events, report to the study."""
        self._configuration, self._epoch, self._events, self._placed = config, 0, events, False

    def reset_config(self, new_config: dict[str, Any], **shared: Any) -> bool:
        """Start the next trial in the same actor."""
        self.setup(new_config, **shared)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch."""
        if self._events and not self._placed:
            self._placed = True
            return {DEVICE: "node", EPOCH: 0, "done": False}
        self._epoch += 1
        result = {METRIC: 0.1 * self._epoch + self._configuration["optimizer.lr"], EPOCH: self._epoch}
        done = self._epoch == RAY_EPOCHS
        events = [epoch_event(self._epoch, {METRIC: result[METRIC]})] if self._events else []
        return {**result, EVENTS: events, DONE: done, "done": done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing."""


def make_database(folder: Path, size: int) -> None:
    """Make MLflow records of a study of four searches: twelve trials as a study records them, and copies of them."""
    folder.mkdir(parents=True)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = open_client(uri)
    experiment = experiment_id(client, uri, "made")
    make_search(client, experiment, folder / "study", {(s, level): (0.9, 0.8, 0.6) for s in SPACES for level in LEVELS})
    for parent in search_all(client, [experiment], "tags.kind = 'parent'"):
        copy_trials(folder / "mlflow.db", parent.info.run_id, size // (len(SPACES) * len(LEVELS)))


def command_costs(command: str, folder: Path) -> Measurement:
    """Run an analysis on these records; return its ``seconds`` and ``memory``, the peak in MB."""
    arguments = ["--tracking-uri", f"sqlite:///{folder / 'mlflow.db'}", "--experiment", "made"]
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "analysis" / f"{command}.py"), *arguments, "--output", str(folder / command)],
        stdout=subprocess.DEVNULL,
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, 1e6 * memory_mb(process.pid, "VmHWM"))
        time.sleep(0.05)
    seconds = time.monotonic() - began
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return {"seconds": seconds, "memory": peak / 1e6}


def search_table(results: Results, sizes: tuple[int, ...]) -> str:
    """Return the table of suggestion times, memory and size on disk."""
    header = ("trials, simulated", "", "suggestion, ms", "95 %", "of the last hundred", "KB a trial", "state, MB")
    rows = []
    for size in sizes:
        for name in (STUDY, PLAIN):
            variant = f"{name}, {size} trials"
            cells = [results.cell(variant, key) for key in ("median", "most", "last", "memory", "state")]
            rows.append((f"{size:,}", name, *cells))
        against = [f"{results.ratio(f'{STUDY}, {size} trials', variant, key):.2f} ×" for key in ("median", "most")]
        more = [
            f"{results.ratio(f'{STUDY}, {size} trials', variant, key):.2f} ×" for key in ("last", "memory", "state")
        ]
        rows.append((f"{size:,}", "study / plain", *against, *more))
    return table(header, rows)


def ray_table(results: Results) -> str:
    """Return the table of the driver's costs on a real Ray."""
    keys = ("seconds", "memory", "state")
    names = [f"{name}, real Ray" for name in (STUDY, PLAIN)]
    rows = [(name, *(results.cell(name, key) for key in keys)) for name in names]
    rows.append(("study / plain", *(f"{results.ratio(*names, key):.2f} ×" for key in keys)))
    header = (f"{RAY_TRIALS} trials, {RAY_SLOTS} at a time", "seconds", "driver growth, KB a trial", "state, MB")
    return table(header, rows)


def records_table(results: Results, sizes: tuple[int, ...]) -> str:
    """Return the table of the analyses' time and memory."""
    names = [f"{command}, {size} trials" for command in COMMANDS for size in sizes]
    rows = [(name, results.cell(name, "seconds"), results.cell(name, "memory")) for name in names]
    return table(("analysis", "seconds", "peak, MB"), rows)


if __name__ == "__main__":
    sys.exit(main())
