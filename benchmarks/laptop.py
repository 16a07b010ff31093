"""Measure what shortens a study on a laptop, and whether the answer stays the same: python benchmarks/laptop.py.

Two savings, on a narrow CNN14 with the settings of the README's line for laptops:

* crops of 3 s instead of 5 s: paired trainings, one of each for every fold, with one seed and noise draw for both. The
  cost is processor time, so that other work on the machine matters less; the score is the UAR of the test speakers.
* schedulers: configurations of a space are trained to the end, and searches are replayed on their learning curves, in
  many orders, one trial at a time. That is what a search with random sampling would have done.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

if not __package__:
    # Run as a script: imports start at the repository root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
import tyro

from benchmarks.measure import OUTPUT, Measurement, Results, heading, run_worker, table
from ser.config import Config, complete
from ser.corpora import load
from ser.features.store import open_store
from ser.splits import split
from ser.training import train
from ser.training.task import make_task
from ser.utils.parallel import ALLOCATOR

SCHEDULERS = ("none", "asha", "hyperband", "median")
SCORE = "val_noisy/uar"


def worker(values: str, fold: str, level: str, corpus_name: str, root: str, features: str) -> None:
    """Train once with one thread; print processor seconds, the score after each epoch, and the test UAR."""
    torch.set_num_threads(1)
    corpus = load(corpus_name, Path(root) if root != "-" else None)
    store = open_store(corpus, "panns_16k", Path(features))
    task = make_task(corpus, split(corpus, int(fold)), store.path, level, int(fold), with_test=True)
    found, began = {}, time.process_time()
    for record in train(Config.from_dotted(json.loads(values)), task, seed=int(fold)):
        found[f"epoch {record.epoch}"] = record.metrics[SCORE]
    found |= {"cpu_seconds": time.process_time() - began, "test_uar": record.metrics["test/last/uar"]}
    print(json.dumps(found))


def main(
    corpus: str = "synthetic",
    corpus_root: Path | None = None,
    space: str = "cross_entropy",
    noise: str = "noisy-B",
    width: float = 0.125,
    epochs: int = 15,
    crops: tuple[float, float] = (5.0, 3.0),
    folds: int = 5,
    configurations: int = 12,
    orders: int = 100,
    output: Path = OUTPUT,
) -> None:
    """Print both tables, and write JSON.

    Args:
        corpus: Name of a corpus.
        corpus_root: Folder of the corpus.
        space: Search space; its first point is what the crops are compared with.
        noise: Noise level.
        width: Width of CNN14.
        epochs: Epochs of a training.
        crops: Two lengths of crops in seconds; the schedulers' trainings have the second.
        folds: Folds whose trainings are compared, at least 2; 0 leaves the crops out.
        configurations: Configurations that are trained for the schedulers; 0 leaves them out.
        orders: Orders in which the searches are replayed.
        output: Folder for the JSON file.
    """
    from study.setup.pruners import grace_period
    from study.setup.spaces import load_space

    shared = {
        "model.width": width, "model.dropout": 0.0, "training.batch_size": 16, "training.epochs": epochs,
        "training.crop_seconds": crops[-1],
    }  # fmt: skip
    chosen = load_space(space, shared)
    results = Results("laptop", {"corpus": corpus, "noise": noise, "space": space, "epochs": epochs})
    print(heading(results.about))
    point = complete(shared, next(chosen.examples()))
    first = split(load(corpus, corpus_root)).number
    examples = islice(chosen.examples(), configurations)
    trainings = {
        (crop_name(crop), fold): {**point, "training.crop_seconds": crop}
        for fold in range(1, folds + 1)
        for crop in crops
    }
    searched = {(f"configuration {number}", first): complete(shared, own) for number, own in enumerate(examples)}
    trainings |= searched
    with tempfile.TemporaryDirectory() as features, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        open_store(load(corpus, corpus_root), "panns_16k", Path(features))

        def once(training: tuple[str, int]) -> Measurement:
            values = json.dumps(trainings[training])
            arguments = (values, training[1], noise, corpus, corpus_root or "-", features)
            found = run_worker(__file__, *arguments, environment=ALLOCATOR)
            print(training, f"{found['cpu_seconds']:.0f} s, test UAR {found['test_uar']:.3f}", file=sys.stderr)
            return found

        measured = dict(zip(trainings, pool.map(once, trainings), strict=True))
    for (variant, _), found in measured.items():
        results.rounds.setdefault(variant, []).append(found)
    if folds:
        print(crops_table(results, *map(crop_name, crops)))
    if configurations:
        found = [measured[training] for training in searched]
        print("\n" + schedulers_table(found, grace_period(chosen, shared, epochs), orders))
    print(f"\nsaved: {results.save(output)}")


def crop_name(seconds: float) -> str:
    """Return the name of the trainings with one length of crops."""
    return f"crops of {seconds:g} s"


def crops_table(results: Results, long: str, short: str) -> str:
    """Return processor time and test UAR of both lengths of crops, and their differences over the folds."""
    from scipy import stats

    rows = [
        [name, results.cell(name, "cpu_seconds"), f"{np.mean(results.values(name, 'test_uar')):.3f}", ""]
        for name in (long, short)
    ]
    differences = 100 * np.subtract(results.values(short, "test_uar"), results.values(long, "test_uar"))
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / math.sqrt(len(differences))
    rows[1][3] = (
        f"{differences.mean():+.1f} points ({differences.mean() - half:+.1f} to {differences.mean() + half:+.1f})"
    )
    rows[1][1] += f", {results.ratio(short, long, 'cpu_seconds'):.2f} ×"
    return table(("", "CPU s a training", f"test UAR, {len(differences)} folds", "difference, 95 % interval"), rows)


def schedulers_table(found: Sequence[Measurement], grace: int, orders: int) -> str:
    """Return what each scheduler trains of a search, and how good the configuration is that it finds."""
    epochs = sum(name.startswith("epoch ") for name in found[0])
    curves = np.array([[one[f"epoch {epoch}"] for epoch in range(1, epochs + 1)] for one in found])
    last, tests = curves[:, -1], np.array([one["test_uar"] for one in found])
    top = int(last.argmax())
    rng = np.random.default_rng(0)
    permutations = [rng.permutation(len(curves)) for _ in range(orders)]
    rows = []
    for scheduler in SCHEDULERS:
        replays = [replay(curves[order], scheduler, grace) for order in permutations]
        best = np.array([order[chosen] for order, (chosen, _) in zip(permutations, replays, strict=True)])
        trained = np.mean([epochs_trained for _, epochs_trained in replays]) / curves.size
        lost = [100 * float(np.mean(scores[best] - scores[top])) for scores in (last, tests)]
        rows.append(
            [
                scheduler,
                f"{trained:.0%}",
                f"{np.mean(last[best] == last.max()):.0%}",
                *(f"{points:+.1f}" for points in lost),
            ]
        )
    header = ("scheduler", "epochs trained", "finds the best", "its validation UAR, points", "its test UAR, points")
    about = f"{len(curves)} configurations, none stopped before epoch {grace} of {epochs}, {orders} orders:"
    return f"{about}\n\n{table(header, rows)}"


def replay(curves: np.ndarray[Any, Any], scheduler: Any, grace: int) -> tuple[int, int]:
    """Run a search over learning curves, one trial after the other.

    Args:
        curves: (K, epochs) scores of the K trials in their order.
        scheduler: Name of a scheduler of the study.
        grace: First epoch at which a trial may be stopped.

    Returns:
        The trial with the best score after the last epoch among those that were not stopped, and the number of epochs
        that were trained.
    """
    import optuna

    from study.setup.pruners import make_pruner

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = make_pruner(scheduler, grace, curves.shape[1])
    study = optuna.create_study(study_name="replay", direction="maximize", pruner=pruner)  # the name decides brackets
    trained, finished = 0, []
    for number, curve in enumerate(curves):
        trial = study.ask()
        for epoch, score in enumerate(curve.tolist(), start=1):
            trial.report(score, epoch)
            trained += 1
            if epoch < len(curve) and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, curve[-1])
            finished.append(number)
    return max(finished, key=lambda number: curves[number, -1]), trained


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
    else:
        tyro.cli(main)
