"""Compare learning curves in bfloat16 and float32: python benchmarks/precision.py.

Trains the same configuration from several seeds in float32 (``training.precision=float32``) and in bfloat16, with the
other settings that follow from it, and compares the curves. A difference within the scatter of the seeds is no
difference.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

if not __package__:
    # Run as a script: imports start at the repository root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from benchmarks.measure import OUTPUT, Results, heading, run_worker, table
from ser.config import Config
from ser.corpora import load
from ser.features.store import open_store
from ser.splits import split
from ser.training import train
from ser.training.task import make_task

PRECISIONS = ("float32", "bfloat16")
CURVES = ("train/loss", "val/loss", "val/uar")
LOSS = {"loss.name": "proselflc", "loss.transit_time_ratio": 0.5, "loss.exp_base": 10.0}


def worker(
    precision: str, seed: str, width: str, epochs: str, seconds: str, corpus_name: str, root: str, features: str
) -> None:
    """Train once; print the values of every curve by epoch."""
    corpus = load(corpus_name, Path(root) if root != "-" else None)
    task = make_task(corpus, split(corpus), open_store(corpus, "panns_16k", Path(features)).path, "noisy-A", 0)
    settings = {
        "model.width": float(width), "model.dropout": 0.0, "optimizer.lr": 2e-3, "training.batch_size": 16,
        "training.crop_seconds": float(seconds), "training.epochs": int(epochs), "training.precision": precision,
    }  # fmt: skip
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = {}
    for record in train(Config.from_dotted({**settings, **LOSS}), task, seed=int(seed), device=device):
        found |= {f"{curve} {record.epoch}": record.metrics[curve] for curve in CURVES}
    print(json.dumps(found))


def main(
    width: float = 0.125,
    epochs: int = 12,
    seeds: int = 3,
    corpus: str = "synthetic",
    corpus_root: Path | None = None,
    crop_seconds: float = 2.0,
    output: Path = OUTPUT,
) -> None:
    """Print the table, and write JSON and a figure.

    Args:
        width: Width of CNN14.
        epochs: Epochs of a run.
        seeds: Number of seeds, and so of runs at each precision.
        corpus: Name of a corpus, at noise level noisy-A.
        corpus_root: Folder of the corpus.
        crop_seconds: Length of a crop in seconds.
        output: Folder for the JSON file and the figure.
    """
    about = {"corpus": f"{corpus} noisy-A", "network": f"CNN14 × {width:g}", "epochs": epochs, "seeds": seeds}
    results = Results("precision", about)
    print(heading(about))
    with tempfile.TemporaryDirectory() as features:
        open_store(load(corpus, corpus_root), "panns_16k", Path(features))
        for seed in range(seeds):
            arguments = (seed, width, epochs, crop_seconds, corpus, corpus_root or "-", features)
            runs = {p: (lambda p=p, a=arguments: run_worker(__file__, p, *a)) for p in PRECISIONS}
            results.run(runs, 1)
    plain, fast = (_curves(results, precision, epochs) for precision in PRECISIONS)
    rows = []
    for number, curve in enumerate(CURVES):
        scatter = plain[:, number].std(axis=0, ddof=1)
        difference = np.abs((fast[:, number] - plain[:, number]).mean(axis=0))
        cells = (
            f"{values.mean():.3f} ± {values.std(ddof=1):.3f}" for values in (plain[:, number, -1], fast[:, number, -1])
        )
        rows.append([curve, *cells, f"{difference.mean():.4f}", f"{scatter.mean():.4f}"])
    header = ("", *(f"{name}, last epoch" for name in PRECISIONS), "difference of the means", "scatter of the seeds")
    print(table(header, rows))
    print(
        "\nThe last two columns are means over the epochs; the scatter is the standard deviation of the float32 runs."
    )
    results.save(output)
    _draw(plain, fast, output)


def _curves(results: Results, precision: str, epochs: int) -> NDArray[np.float64]:
    """Return (seeds, curves, epochs) the values of all curves."""
    runs = results.rounds[precision]
    return np.array([[[run[f"{curve} {e}"] for e in range(1, epochs + 1)] for curve in CURVES] for run in runs])


def _draw(plain: NDArray[np.float64], fast: NDArray[np.float64], folder: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3), layout="constrained")
    for number, (axes, curve) in enumerate(zip(figure.subplots(1, len(CURVES)), CURVES, strict=True)):
        for values, colour, name in ((plain, "#4477aa", PRECISIONS[0]), (fast, "#ee6677", PRECISIONS[1])):
            for seed, line in enumerate(values[:, number]):
                label = name if seed == 0 else None
                axes.plot(range(1, len(line) + 1), line, color=colour, linewidth=1, label=label)
        axes.set(title=curve, xlabel="epoch")
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(folder / "precision.png", dpi=130)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
    else:
        tyro.cli(main)
