"""Measure where an epoch and a trial spend their time: python benchmarks/epoch.py.

Runs a short trial and a longer one after it in one process, as a slot of the study does, with evaluation, label
metrics, checkpoints and records in a real MLflow store, and measures the time of each part. The first trial includes
the imports; the fixed cost of the second is the time before its first step and after its last evaluation. The network
of a finished trial is written in the background; the benchmark waits for it before the next trial and states that time.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

if not __package__:
    # Run as a script: imports start at the repository root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import tyro

from benchmarks.measure import OUTPUT, Results, heading, run_worker, table
from ser.utils.parallel import ALLOCATOR

EPOCHS = (2, 16)
"""Epochs of the first trial, which warms the process up, and of the second, which is measured."""
PARTS = ("evaluation", "label metrics", "checkpoint", "records", "delivery")
SPACE = {"loss.name": "proselflc", "loss.transit_time_ratio": 0.5, "loss.exp_base": 10.0, "optimizer.lr": 1e-3}


class Clock:
    """Seconds by part, and the times of the first batch and the last evaluation."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.first_batch = 0.0
        self.last_evaluation = 0.0

    def patch(self, owner: Any, name: str, part: str) -> None:
        """Add the time of a function of a module or class to a part."""
        function = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[part] += time.perf_counter() - began
                if part == "evaluation":
                    self.last_evaluation = time.perf_counter()

        setattr(owner, name, timed)

    def watch(self, owner: Any, name: str) -> None:
        """Record when a function is first called; set ``first_batch`` to 0 to record it again."""
        function = getattr(owner, name)

        def noted(*arguments: Any, **named: Any) -> Any:
            self.first_batch = self.first_batch or time.perf_counter()
            return function(*arguments, **named)

        setattr(owner, name, noted)


def worker(width: str, threads: str, seconds: str, corpus_name: str, root: str, features: str, began: str) -> None:
    """Run the two trials; print the times of an epoch of the second."""
    import torch

    from ser.corpora import load
    from ser.features.store import open_store
    from ser.splits import split
    from ser.training import loop as training
    from ser.training.device.epoch_plan import EpochPlanner
    from ser.training.label_metrics import BatchLog, LabelMetrics, UtteranceLog
    from ser.training.task import make_task
    from study.trial import trainable
    from study.trial.ended import Saver
    from study.trial.specification import EVENTS, TrialContext, trial_folder
    from study.trial.trainable import Attempt

    imported = time.time() - float(began)
    # Work of the study's own process, next to the trials.
    from mlflow import MlflowClient
    from mlflow.entities import Dataset

    from study.tracking.event_log import EventLog
    from study.tracking.upload import ROUND_SECONDS, Delivery, SearchRuns, deliver

    corpus = load(corpus_name, Path(root) if root != "-" else None)
    task = make_task(corpus, split(corpus), open_store(corpus, "panns_16k", Path(features)).path, "noisy-A", 0)
    clock = Clock()
    for owner, name, part in (
        (training, "predict", "evaluation"),
        (training, "subset_metrics", "evaluation"),
        (BatchLog, "add", "label metrics"),
        (BatchLog, "joined", "label metrics"),
        (LabelMetrics, "update", "label metrics"),
        (LabelMetrics, "metrics", "label metrics"),
        (UtteranceLog, "update", "label metrics"),
        (trainable, "save_checkpoint", "checkpoint"),
        (EventLog, "take", "records"),
    ):
        clock.patch(owner, name, part)
    clock.watch(EpochPlanner, "plan")
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        client = MlflowClient(tracking_uri=uri)
        context = TrialContext(
            task=task,
            defaults={
                "model.width": float(width), "training.batch_size": 16, "training.crop_seconds": float(seconds),
            },
            seed=0, threads=int(threads), device="cuda" if torch.cuda.is_available() else "cpu",
            objective="val_noisy/uar", folder=Path(folder),
        )  # fmt: skip
        experiment = client.create_experiment("benchmark", Path(folder).as_uri())
        runs = SearchRuns(experiment, "parent", {"study": "benchmark", "space": "focal", "noise": "clean"})
        dataset = Dataset("d", "digest", "local", "{}").to_dictionary()
        found, saver = {"imports": imported}, Saver()
        for number, planned in enumerate(EPOCHS, start=1):
            clock.seconds.clear()
            clock.first_batch = 0.0
            start = time.perf_counter()
            attempt = Attempt({**SPACE, "trial": number, "attempt": 1, "training.epochs": planned}, context, saver)
            log = EventLog(trial_folder(context.folder, number))
            delivery = Delivery(number, log, runs)
            attempt.step()  # says where it runs
            log.begin({}, SPACE, dataset)
            epochs: list[float] = []
            delivered = start
            for _ in range(planned):
                epoch_began = time.perf_counter()
                log.take(attempt.step()[EVENTS])
                epochs.append(time.perf_counter() - epoch_began)
                if len(epochs) == planned or time.perf_counter() - delivered >= ROUND_SECONDS:
                    processor = time.process_time()
                    deliver(delivery, client)
                    clock.seconds["delivery"] += time.process_time() - processor
                    delivered = time.perf_counter()
            attempt.close()
            end = time.perf_counter()
            found[f"to the first step, trial {number}"] = clock.first_batch - start
            found[f"after the last evaluation, trial {number}"] = end - clock.last_evaluation
            saver.join()  # here nothing trains at the same time
            found[f"network, trial {number}"] = time.perf_counter() - end
        found["epoch"] = (sum(epochs) - found["to the first step, trial 2"]) / planned
        found |= {part: clock.seconds[part] / planned for part in PARTS}
    print(json.dumps(found))


def main(
    widths: tuple[float, ...] = (0.125, 0.25, 1.0),
    corpus: str = "synthetic",
    corpus_root: Path | None = None,
    crop_seconds: float = 2.0,
    repeats: int = 2,
    output: Path = OUTPUT,
) -> None:
    """Print the tables, and write JSON and a figure.

    Args:
        widths: Widths of CNN14; up to .25 a trial has one thread, above .25 all threads, as in the study.
        corpus: Name of a corpus.
        corpus_root: Folder of the corpus.
        crop_seconds: Length of a crop in seconds.
        repeats: Rounds over all widths.
        output: Folder for the JSON file and the figure.
    """
    from ser.corpora import load
    from ser.features.store import open_store

    cores = len(os.sched_getaffinity(0))
    about = {"corpus": corpus, "network": "CNN14", "batch": 16, "crops of": f"{crop_seconds:g} s", "rounds": repeats}
    results = Results("epoch", about)
    print(heading(about))
    with tempfile.TemporaryDirectory() as features:
        open_store(load(corpus, corpus_root), "panns_16k", Path(features))

        def once(width: float) -> Callable[[], dict[str, float]]:
            threads = 1 if width <= 0.25 else cores
            arguments = (width, threads, crop_seconds, corpus, corpus_root or "-", features)
            return lambda: run_worker(__file__, *arguments, time.time(), environment=ALLOCATOR)

        results.run({f"width {width:g}": once(width) for width in widths}, repeats)
    for name, rounds in results.rounds.items():
        results.rounds[name] = [
            {**found, "share": sum(found[part] for part in PARTS) / found["epoch"]} for found in rounds
        ]
    rows = [
        [
            name, results.cell(name, "epoch"),
            *(f"{results.median(name, part) / results.median(name, 'epoch'):.2%}" for part in PARTS),
            f"{results.median(name, 'share'):.1%}",
        ]
        for name in results.rounds
    ]  # fmt: skip
    print(table(("CNN14", "epoch, s", *PARTS, "together"), rows))
    fixed = [
        "imports",
        *(
            f"{part}, trial {number}"
            for number in (1, 2)
            for part in ("to the first step", "after the last evaluation", "network")
        ),
    ]
    rows = [[name, *(results.cell(name, part) for part in fixed)] for name in results.rounds]
    print("\nSeconds per process (imports) and per trial:\n\n" + table(("CNN14", *fixed), rows))
    results.save(output)
    results.draw(output, "share", "share of an epoch that is not training")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
    else:
        tyro.cli(main)
