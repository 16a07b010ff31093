"""What a trial's settings cost: python benchmarks/trial.py.

Trains the same few epochs of CNN14 on the synthetic corpus, each variant in a process of its own, in turn, several
times over, and prints the median seconds of an epoch with the ratio to the plain variant. Two narrow trials at a time
are compared with one that has both threads.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

if not __package__:
    # Run as a script: imports begin at the repository's root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
import tyro

from ser.config import Config
from ser.corpora import load
from ser.feature_store import open_store
from ser.splits import split
from ser.task import make_task
from ser.training import train
from study.cluster import ALLOCATOR

EPOCHS = 3


@dataclass(frozen=True)
class Variant:
    """A way to run a trial."""

    name: str
    precision: str
    allocator: bool
    threads: int
    at_a_time: int = 1


VARIANTS = (
    Variant("float32", "float32", allocator=False, threads=2),
    Variant("bfloat16", "bfloat16", allocator=False, threads=2),
    Variant("bfloat16, allocator", "bfloat16", allocator=True, threads=2),
    Variant("bfloat16, allocator, 1 thread", "bfloat16", allocator=True, threads=1),
    Variant("bfloat16, allocator, 2 trials of 1 thread", "bfloat16", allocator=True, threads=1, at_a_time=2),
)


def run_once(variant: Variant, width: float, features: Path) -> float:
    """Seconds of training and evaluation in an epoch of one trial, the first epoch left out."""
    command = [sys.executable, __file__, "--worker", variant.precision, str(width), str(variant.threads), str(features)]
    environment = {**os.environ, **(ALLOCATOR if variant.allocator else {})}
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(variant.at_a_time)
    ]
    return max(float(process.communicate()[0]) for process in processes) / variant.at_a_time


def worker(precision: str, width: str, threads: str, features: str) -> None:
    """Trains, and prints the mean seconds of the later epochs."""
    torch.set_num_threads(int(threads))
    corpus = load("synthetic")
    parts = split(corpus)
    task = make_task(corpus, parts, open_store(corpus, "panns_16k", Path(features)).path, "clean", 0)
    settings = {"model.width": float(width), "training.precision": precision, "training.batch_size": 16}
    settings |= {"training.crop_seconds": 2.0, "training.epochs": EPOCHS}
    began = 0.0
    for record in train(Config.from_dotted(settings), task, seed=0):
        if record.epoch == 1:
            began = time.perf_counter()
    print((time.perf_counter() - began) / (EPOCHS - 1))


def main(width: float = 0.125, repeats: int = 3) -> None:
    """Prints the table.

    Args:
        width: Scale of the network's channels.
        repeats: Rounds over all variants.
    """
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, torch {torch.__version__}")
    print(f"CNN14 × {width:g}, batch 16, crops of 2 s, 288 + 96 utterances; {repeats} rounds")
    seconds: dict[str, list[float]] = {variant.name: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as features:
        open_store(load("synthetic"), "panns_16k", Path(features))
        for _ in range(repeats):
            for variant in VARIANTS:
                seconds[variant.name].append(run_once(variant, width, Path(features)))
    plain = median(seconds[VARIANTS[0].name])
    print(f"{'variant':<44}{'s / epoch and trial':>20}{'min':>8}{'max':>8}{'speed':>8}")
    for name, values in seconds.items():
        middle = median(values)
        print(f"{name:<44}{middle:>20.2f}{min(values):>8.2f}{max(values):>8.2f}{plain / middle:>7.2f}×")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
    else:
        tyro.cli(main)
