"""Measure what a study costs beyond its training: python benchmarks/study.py.

Runs ``python study/run.py`` on the synthetic corpus, two trials of one CPU at a time: 8 trials of 30 s, then 64 of 2 s.
It is compared with the same training under plain Ray Tune (OptunaSearch, a checkpoint per epoch, MLflowLoggerCallback
on SQLite), with and without reuse of actors, and with the training alone in two processes with the allocator settings
of the study's workers. Each variant is a command of its own. Feature store and MLflow database exist already, as for
every study of a machine but its first. Reported are the time of the whole command relative to the recorded seconds of
training divided by the number of slots; the time from the start to the first step, from the last step of a trial to the
first of the next in its slot, and from the last step to the end; and the time between the ends of the slots.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

if not __package__:
    # Run as a script: imports start at the repository root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
import tyro

from benchmarks.measure import OUTPUT, Results, heading, run_worker, table
from ser.config import Config
from ser.corpora import load
from ser.features.store import open_store
from ser.splits import split
from ser.training import save_state, train
from ser.training.task import Task, make_task
from ser.utils.parallel import ALLOCATOR
from study.schema import SECONDS
from study.setup.spaces import load_space
from study.tracking.opening import open_client

ROOT = Path(__file__).resolve().parents[1]
SLOTS = 2
SEED = 0
LEVEL, SPACE, METRIC = "noisy-A", "proselflc", "val_noisy/uar"
FIXED = {"training.batch_size": 16, "training.crop_seconds": 2.0}

# A trial: time of its first step, time after its last step, and the seconds of its epochs.
Trial = tuple[float, float, float]


@dataclass(frozen=True)
class Shape:
    """Number of trials, approximate seconds of each, and width of the network."""

    trials: int
    seconds: float
    width: float

    @property
    def name(self) -> str:
        """Return the name that is printed."""
        return f"{self.trials} × {self.seconds:g} s"


SHAPES = {"long": Shape(8, 30.0, 0.125), "short": Shape(64, 2.0, 0.03125)}


def make_synthetic_task(features: Path) -> Task:
    """Return the task that all variants train on."""
    corpus = load("synthetic")
    return make_task(corpus, split(corpus), open_store(corpus, "panns_16k", features).path, LEVEL, SEED)


def settings(epochs: int, width: float) -> dict[str, Any]:
    """Return the settings of all variants that are not searched."""
    fixed = {**FIXED, "model.width": width, "training.epochs": epochs}
    return {**fixed, **load_space(SPACE, fixed).constants}


# Variants


def run_study(shape: Shape, epochs: int, folder: Path) -> list[Trial]:
    """Run the study's command; return its trials, read from its records."""
    command = [
        sys.executable, str(ROOT / "study" / "run.py"), "--space", SPACE, "--noise", LEVEL, "--seed", str(SEED),
        "--trials", str(shape.trials), "--epochs", str(epochs), "--width", str(shape.width),
        "--batch-size", str(FIXED["training.batch_size"]),
        "--set", f"training.crop_seconds={FIXED['training.crop_seconds']}",
        "--cpus-per-trial", "1", "--max-concurrent", str(SLOTS), "--name", "benchmark",
        "--storage-path", str(folder), "--tracking-uri", f"sqlite:///{folder}/mlflow.db",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    trials = []
    for path in folder.glob("studies/*/*/*/records.jsonl"):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        epochs_on_record = [line for line in lines if line["kind"] == "epoch"]
        seconds = [line["metrics"][SECONDS] for line in epochs_on_record]
        times = [line["time"] / 1000 for line in epochs_on_record]
        trials.append((times[0] - seconds[0], times[-1], sum(seconds)))
    return trials


def run_plain(shape: Shape, epochs: int, folder: Path, *, reuse: bool) -> list[Trial]:
    """Run plain Ray Tune in its own process; return its trials."""
    found: Any = run_worker(__file__, "plain", int(reuse), shape.trials, epochs, shape.width, folder)
    return [tuple(trial) for trial in found["trials"]]


def run_alone(shape: Shape, epochs: int, folder: Path) -> list[Trial]:
    """Run the training alone, in one process per slot; return its trials."""
    arguments = ("alone", shape.trials // SLOTS, epochs, shape.width, folder)
    with ThreadPoolExecutor(SLOTS) as pool:
        futures = [pool.submit(run_worker, __file__, *arguments, environment=ALLOCATOR) for _ in range(SLOTS)]
        answers: list[Any] = [future.result() for future in futures]
    return [tuple(trial) for answer in answers for trial in answer["trials"]]


def measure(run: Any, shape: Shape, epochs: int, template: Path) -> dict[str, float]:
    """Run a variant in a new folder and return its times.

    Args:
        run: Function that runs the variant.
        shape: Number of trials, their seconds and width.
        epochs: Epochs of a trial.
        template: Folder with feature store and database; it is copied.
    """
    with tempfile.TemporaryDirectory(prefix="study") as name:
        folder = Path(name)
        shutil.copytree(template, folder, dirs_exist_ok=True)
        began = time.time()
        trials = run(shape, epochs, folder)
        ended = time.time()
    if len(trials) != shape.trials:
        raise RuntimeError(f"{len(trials)} of {shape.trials} trials have finished.")
    training = sum(seconds for _, _, seconds in trials) / SLOTS
    return {
        "wall": ended - began,
        "training": training,
        "overhead": 100 * ((ended - began) / training - 1),
        "first": min(first for first, _, _ in trials) - began,
        "between": median(gaps(trials)),
        "tail": ended - max(last for _, last, _ in trials),
        "apart": apart(trials),
    }


def gaps(trials: list[Trial]) -> Iterator[float]:
    """Yield the seconds from the end of a trial to the first step of the next one in its slot."""
    free: list[float] = []
    for first, last, _ in sorted(trials):
        if len(free) == SLOTS:
            freed = min(free)
            free.remove(freed)
            yield first - freed
        free.append(last)


def apart(trials: list[Trial]) -> float:
    """Return the seconds from the end of the first slot to that of the last."""
    ends = sorted(last for _, last, _ in trials)
    return ends[-1] - ends[-SLOTS]


# Workers


def plain_worker(reuse: str, trials: str, epochs: str, width: str, folder: str) -> None:
    """Run plain Ray Tune as in its documentation; print the times of the trials."""
    os.environ["PYTHONPATH"] = str(ROOT)
    import optuna
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    class Plain(tune.Trainable):
        """Trainable with one epoch per step and one checkpoint per epoch."""

        def setup(self, config: dict[str, Any], task: Task, fixed: dict[str, Any]) -> None:
            torch.set_num_threads(1)
            self._records = train(Config.from_dotted({**fixed, **config}), task, seed=SEED)
            self._began, self._seconds = 0.0, 0.0

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)  # with_parameters adds the other arguments
            return True

        def step(self) -> dict[str, Any]:
            began = time.monotonic()
            self._began = self._began or time.time()
            self._record = next(self._records)
            self._seconds += time.monotonic() - began
            times = {"began": self._began, "ended": time.time(), "seconds": self._seconds}
            return {**self._record.metrics, **times, "done": self._record.finished}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            save_state(self._record.state, Path(checkpoint_dir) / "state.pt")

        def load_checkpoint(self, checkpoint_dir: str) -> None:
            """Load nothing: this benchmark does not resume."""

    ray.init(address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    task = make_synthetic_task(Path(folder) / "features")
    fixed = settings(int(epochs), float(width))
    domains = load_space(SPACE, fixed).domains
    search = OptunaSearch(domains, metric=METRIC, mode="max", sampler=optuna.samplers.TPESampler(seed=SEED))
    results = tune.Tuner(
        tune.with_resources(tune.with_parameters(Plain, task=task, fixed=fixed), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=search, num_samples=int(trials), max_concurrent_trials=SLOTS, reuse_actors=bool(int(reuse))
        ),
        run_config=tune.RunConfig(
            name="plain",
            storage_path=folder,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2, checkpoint_frequency=1, checkpoint_at_end=True),
            callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="plain")],
            verbose=0,
        ),
    ).fit()
    times = [[result.metrics[name] for name in ("began", "ended", "seconds")] for result in results]
    ray.shutdown()
    print("\n" + json.dumps({"trials": times}))


def alone_worker(trials: str, epochs: str, width: str, folder: str) -> None:
    """Train trials one after the other; print their times."""
    torch.set_num_threads(1)
    task = make_synthetic_task(Path(folder) / "features")
    fixed = settings(int(epochs), float(width))
    config = Config.from_dotted({**fixed, **next(iter(load_space(SPACE, fixed).examples()))})
    times = []
    for _ in range(int(trials)):
        began, clock = time.time(), time.monotonic()
        for _ in train(config, task, seed=SEED):
            pass
        times.append([began, time.time(), time.monotonic() - clock])
    print(json.dumps({"trials": times}))


def main(
    shapes: tuple[Literal["long", "short"], ...] = ("long", "short"),
    variants: tuple[Literal["study", "plain-reused", "plain", "alone"], ...] = (
        "study",
        "plain-reused",
        "plain",
        "alone",
    ),
    repeats: int = 1,
    output: Path = OUTPUT,
) -> None:
    """Print a table for each shape; a round takes about 15 minutes on two cores.

    Args:
        shapes: 8 trials of 30 s (long), 64 trials of 2 s (short).
        variants: The study, plain Ray Tune with and without reuse of actors, the training alone.
        repeats: Rounds over all variants and shapes.
        output: Folder for the JSON file and the figure.
    """
    results = Results("study", {"network": "CNN14", "batch": 16, "crops": "2 s", "slots": SLOTS, "rounds": repeats})
    known = {
        "study": ("study", run_study),
        "plain-reused": ("plain Tune, actors reused", partial(run_plain, reuse=True)),
        "plain": ("plain Tune", partial(run_plain, reuse=False)),
        "alone": ("training alone, two processes", run_alone),
    }
    runs = dict(known[variant] for variant in variants)
    with tempfile.TemporaryDirectory(prefix="template") as name:
        template = Path(name)
        open_store(load("synthetic"), "panns_16k", template / "features")
        open_client(f"sqlite:///{template}/mlflow.db")
        measured = {}
        for shape in (SHAPES[name] for name in shapes):
            epochs = epochs_of(shape, template)
            results.about = {**results.about, shape.name: f"width {shape.width:g}, {epochs} epochs"}
            for variant, run in runs.items():
                measured[f"{shape.name}, {variant}"] = partial(measure, run, shape, epochs, template)
        results.run(measured, repeats)
    report(results, output, [SHAPES[name] for name in shapes], list(runs))


def epochs_of(shape: Shape, template: Path) -> int:
    """Return the number of epochs that take about the seconds of a shape, with two trials at a time."""
    few, more = (
        max(seconds for _, _, seconds in run_alone(Shape(SLOTS, 0.0, shape.width), epochs, template))
        for epochs in (1, 4)
    )
    return max(2, round(shape.seconds * 3 / (more - few)))


def report(results: Results, output: Path, shapes: list[Shape], variants: list[str]) -> None:
    """Print the tables, and write JSON and a figure.

    Args:
        results: Measurements of all rounds.
        output: Folder for the JSON file and the figure.
        shapes: Shapes that were run.
        variants: Names of the variants; wall times are compared with the first and the last.
    """
    print(heading(results.about))
    columns = {
        "wall": "wall, s",
        "training": "training / slots, s",
        "overhead": "overhead, %",
        "first": "to the first step, s",
        "between": "between trials, s",
        "tail": "tail, s",
        "apart": "between the slots' ends, s",
    }
    header = ["", *columns.values(), f"wall, {variants[0]} = 1", f"wall, {variants[-1]} = 1"]
    for shape in shapes:
        names = {variant: f"{shape.name}, {variant}" for variant in variants}
        rows = [
            [
                variant,
                *(results.cell(name, key) for key in columns),
            ]
            + [f"{results.ratio(name, names[to], 'wall'):.2f}" for to in (variants[0], variants[-1])]
            for variant, name in names.items()
        ]
        print(f"\n{shape.name}\n\n{table(header, rows)}")
    print(f"\n{results.save(output)}, {results.draw(output, 'overhead', 'overhead, % of the training')}")


if __name__ == "__main__":
    if sys.argv[1:3] == ["--worker", "plain"]:
        plain_worker(*sys.argv[3:])
    elif sys.argv[1:3] == ["--worker", "alone"]:
        alone_worker(*sys.argv[3:])
    else:
        tyro.cli(main)
