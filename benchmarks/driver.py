"""What a study's driver costs: python benchmarks/driver.py.

Runs 100 trials of made-up training on a real Ray, once through the study's journal, scheduler and records, once
through plain Ray Tune with OptunaSearch, each in a process of its own, in turn, and prints seconds, memory of the
driver and the size of its state; then thousands of trials in simulated time, for the latency of a suggestion.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])

import optuna  # noqa: E402
import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.search.optuna import OptunaSearch  # noqa: E402

from study.cluster import Slots  # noqa: E402
from study.journal import JOURNAL, Journal  # noqa: E402
from study.outbox import Outbox  # noqa: E402
from study.records import FINISHED, SELECTIONS  # noqa: E402
from study.search import run_trials  # noqa: E402
from study.searcher import StudySearch  # noqa: E402
from study.spaces import load_space  # noqa: E402
from study.trainable import DONE, EPOCH, TRIAL_KEY, trial_folder  # noqa: E402

TRIALS, EPOCHS, SLOTS = 100, 5, 2
METRIC = "val_noisy/uar"


class Made(tune.Trainable):
    """Training that takes no time."""

    def setup(self, config: dict[str, Any], folder: Path | None = None) -> None:
        """Takes a trial."""
        self._folder, self._configuration, self._epoch = folder or getattr(self, "_folder", None), config, 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next one."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One epoch."""
        self._epoch += 1
        result = {METRIC: 0.1 * self._epoch + self._configuration["optimizer.lr"], EPOCH: self._epoch}
        done = self._epoch == EPOCHS
        if self._folder is not None:
            outbox = Outbox(trial_folder(self._folder, self._configuration[TRIAL_KEY]))
            outbox.epoch(self._epoch, {METRIC: result[METRIC]})
            if done:
                outbox.end(FINISHED)
        return {**result, DONE: done, "done": done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing."""


def worker(kind: str, folder: Path) -> None:
    """Runs the trials; prints what they cost as JSON."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    ray.init(address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    space = load_space("proselflc", {})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    if kind == "study":
        search = StudySearch(Journal(folder, space, SELECTIONS["noisy"], seed=0), SELECTIONS["noisy"], TRIALS)
        run_trials(search, tune.with_parameters(Made, folder=folder), Slots(1, 0, SLOTS), folder)
        size = (folder / JOURNAL).stat().st_size
    else:
        search = OptunaSearch(space.domains, metric=METRIC, mode="max", sampler=optuna.samplers.TPESampler(seed=0))
        tune.Tuner(
            tune.with_resources(Made, {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=search, num_samples=TRIALS, max_concurrent_trials=SLOTS, reuse_actors=True
            ),
            run_config=tune.RunConfig(name="plain", storage_path=str(folder), verbose=0),
        ).fit()
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    seconds = time.monotonic() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"seconds": seconds, "memory": grown, "state": size / 1e6}))


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--simulated", type=int, nargs="*", default=[100, 1000, 2000])
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker[0], Path(options.worker[1]))
        return 0
    found: dict[str, list[dict[str, float]]] = {"study": [], "plain Ray Tune": []}
    for _ in range(options.repeats):
        for kind, costs in found.items():
            with tempfile.TemporaryDirectory(prefix="driver") as folder:
                done = subprocess.run(
                    [sys.executable, __file__, "--worker", kind.split()[0], folder],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                costs.append(json.loads(done.stdout.splitlines()[-1]))
    print(
        f"{TRIALS} trials of {EPOCHS} epochs, {SLOTS} at a time; {platform.machine()}, ray {ray.__version__}; medians"
    )
    print("| | seconds | driver's memory grew by, MB | state, MB |\n| --- | --- | --- | --- |")
    for kind, costs in found.items():
        cells = [f"{median(cost[key] for cost in costs):.1f}" for key in ("seconds", "memory", "state")]
        print(f"| {kind} | " + " | ".join(cells) + " |")

    from simulation import simulate

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(
        "\n| trials, 200 at a time, simulated | suggestion, ms | of the last hundred | journal, MB |"
        "\n| --- | --- | --- | --- |"
    )
    for trials in options.simulated:
        with tempfile.TemporaryDirectory(prefix="driver") as name:
            outcome = simulate(Path(name), trials, 200, 8, records=False)
            size = (Path(name) / JOURNAL).stat().st_size
        middle, last = median(outcome.latencies), median(outcome.latencies[-100:])
        print(f"| {trials} | {1000 * middle:.0f} | {1000 * last:.0f} | {size / 1e6:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
