"""Compare what `python -m ser.noise estimate` estimates with known noise: the table of docs/noise.md.

python benchmarks/noise_estimate.py --corpus ravdess --corpus-root PATH
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tyro

from ser.corpora import load
from ser.features.store import open_store
from ser.noise import NAMED_RATES, corrupt, corrupt_level
from ser.noise.estimate import Estimate, estimate, nearest_level, out_of_sample, speaker_groups, statistics
from ser.utils.hashing import hashed_uniform


def ambiguous(labels: np.ndarray, probabilities: np.ndarray, ids: list[str], rate: float, seed: int) -> np.ndarray:
    """Return labels of which some are replaced by the most probable other class, as annotators confuse classes.

    Utterances whose other class is more probable are replaced first, up to ``rate``.
    """
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = 0
    clock = -np.log(hashed_uniform(seed, "benchmark.ambiguous", ids)) / np.maximum(others.max(axis=1), 1e-9)
    flipped = np.argsort(clock, kind="stable")[: round(rate * len(labels))]
    noisy = labels.copy()
    noisy[flipped] = others[flipped].argmax(axis=1)
    return noisy


def main(corpus: str = "synthetic", corpus_root: Path | None = None, seeds: int = 5) -> None:
    """Print the table.

    Args:
        corpus: Name of a corpus whose labels are taken as true.
        corpus_root: Folder of the corpus.
        seeds: Number of noise draws at each level.
    """
    read = load(corpus, corpus_root)
    ids, classes = list(read.table["utterance_id"]), len(read.classes)
    with tempfile.TemporaryDirectory() as folder:
        features = statistics(open_store(read, "panns_16k", Path(folder)), list(read.table["speaker"]))
    groups = speaker_groups(read)
    clean = out_of_sample(features, read.labels, groups, classes)

    draws: dict[tuple[str, str], list[np.ndarray]] = {("clean", "clean"): [read.labels]}
    for level, (rate, _) in NAMED_RATES.items():
        numbers = range(seeds)
        named = [corrupt_level(read, level, seed) for seed in numbers]
        draws[named[0].manifest["recipe"], level] = [read.class_indices(noisy.labels) for noisy in named]
        draws["symmetric", level] = [read.class_indices(corrupt(read, "symmetric", rate, s).labels) for s in numbers]
        draws["ambiguous first", level] = [ambiguous(read.labels, clean, ids, rate, seed) for seed in numbers]
    print(f"{corpus}: {len(read)} utterances, {classes} classes; {seeds} draws of each; mean (lowest–highest)")
    heads = ("confident learning", "surest tenth")
    print(f"{'noise':<16}{'level':<9}{'true':>6}{'UAR':>6}{heads[0]:>21}{heads[1]:>21}{'level right':>16}")
    for (recipe, level), labelled in draws.items():
        readings = [estimate(noisy, out_of_sample(features, noisy, groups, classes)) for noisy in labelled]
        true = np.mean([np.mean(noisy != read.labels) for noisy in labelled])
        right = [
            sum(nearest_level(getattr(found, name)) == level for found in readings) for name in ("rate", "surest_rate")
        ]
        print(
            f"{recipe:<16}{level:<9}{true:>6.3f}{np.mean([found.uar for found in readings]):>6.2f}"
            f"{_spread(readings, 'rate'):>21}{_spread(readings, 'surest_rate'):>21}"
            f"{f'{right[0]} and {right[1]} of {len(readings)}':>16}"
        )


def _spread(readings: list[Estimate], name: str) -> str:
    values = [getattr(found, name) for found in readings]
    return f"{np.mean(values):.3f} ({min(values):.2f}–{max(values):.2f})"


if __name__ == "__main__":
    tyro.cli(main)
