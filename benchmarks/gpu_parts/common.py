"""What all parts of the benchmark of the GPU path share: sizes, made-up data, timing, rows with errors and memory."""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ser.config import Config
from ser.features.front_ends import FRONT_ENDS
from ser.features.store import FORMAT
from ser.losses import LOSSES
from ser.training import Subset, Task, train

CLASSES, MELS, HOP, RATE = 6, 64, 160, 16000
EPOCHS = 1000
"""Planned epochs, more than are trained: only the last one needs pandas, for its table."""

SELF_CORRECTION = {"transit_time_ratio": 0.5, "exp_base": 10.0}
PARAMETERS: dict[str, dict[str, Any]] = {
    "proselflc": SELF_CORRECTION,
    "reweighting_control": SELF_CORRECTION,
    "confidence_penalty": {"epsilon": 0.1},
    "label_correction": {"epsilon": 0.1},
}
"""Arguments of the losses that need some."""

Row = dict[str, Any]
Step = Callable[[], Any]


@dataclass(frozen=True)
class Settings:
    """Sizes of all parts."""

    device: str
    start: str = "fork"  # how processes are started; ``spawn`` where CUDA does not work after a fork
    widths: tuple[float, ...] = (1.0, 0.25, 0.125)  # of CNN14, the widest first
    batches: tuple[int, ...] = (32, 16, 64)  # the most important first
    losses: tuple[str, ...] = tuple(LOSSES)
    frames: int = 500  # of a crop: 5 s
    steps: int = 15  # timed together
    repeats: int = 3  # whose median counts
    matrix: int = 8192  # rows of the matrices whose product is the peak
    copied: int = 2**30  # bytes that are copied to measure the bandwidth
    processes: tuple[int, ...] = (1, 2, 4, 8)  # that share the GPU
    seconds: float = 4.0  # for which they train
    crowded: tuple[int, float] = (1024, 0.05)  # a batch that is too large for this share of the GPU's memory
    pipes: str | None = None  # folder of the MPS daemon's pipes, which processes that share the GPU connect to


SOME_LOSSES = ("cross_entropy", "proselflc", "elr", "mixup")
SMALL: Row = {"widths": (1.0, 0.125), "batches": (32,), "losses": SOME_LOSSES}
SMALL |= {"steps": 10, "repeats": 1, "processes": (1, 4), "seconds": 2.0}
"""For a first look on a GPU."""

TINY: Row = {"widths": (1 / 32,), "batches": (4, 2), "losses": ("proselflc", "elr"), "frames": 64, "steps": 1}
TINY |= {"repeats": 1, "matrix": 256, "copied": 2**20, "processes": (1, 2), "seconds": 0.2, "crowded": (8, 0.05)}
"""For a test on a CPU."""


def make_settings(device: str, small: bool) -> Settings:
    """Return the sizes for a device: tiny ones on a CPU, where only the script itself is tested."""
    return Settings(device, **(TINY if device == "cpu" else SMALL if small else {}))


def made_task(folder: Path, frames: int, utterances: int = 96) -> Task:
    """Write a feature store of noise in which each class has a louder band, and return its task.

    Args:
        folder: Empty folder for the store.
        frames: Length of an utterance.
        utterances: Their number; three quarters are for training.
    """
    rng, rows = np.random.default_rng(0), np.arange(utterances)
    labels = rows % CLASSES
    values = rng.normal(-50, 10, (utterances, frames, MELS)).astype("<f4")
    for value, label in zip(values, labels, strict=True):
        value[:, 10 * label : 10 * label + 10] += 20
    values.tofile(folder / "frames.f32")
    np.save(folder / "offsets.npy", np.arange(utterances + 1) * frames)
    np.save(folder / "content.npy", rows.astype("U16"))
    np.save(folder / "levels.npy", np.zeros((utterances, 2), dtype=np.float32))
    files = ("frames.f32", "offsets.npy", "content.npy", "levels.npy")
    sizes = {name: (folder / name).stat().st_size for name in files}
    meta = {"format": FORMAT, "front_end": asdict(FRONT_ENDS["panns_16k"]), "sizes": sizes}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")

    def subset(rows: Any) -> Subset:
        noisy = np.where(rng.random(len(rows)) < 0.2, rng.integers(0, CLASSES, len(rows)), labels[rows])
        soft = 0.9 * np.eye(CLASSES)[noisy] + 0.1 / CLASSES
        ids, unknown = tuple(f"u{row}" for row in rows), ("unknown",) * len(rows)
        return Subset(rows, ids, noisy, labels[rows], soft, unknown, unknown)

    names, training = tuple(f"class {number}" for number in range(CLASSES)), utterances * 3 // 4
    return Task(names, folder, subset(rows[:training]), subset(rows[training:]), {"level": "made up"})


def epochs_of(
    settings: Settings, task: Task, width: float, batch: int, steps: int, loss: str = "proselflc", **values: Any
) -> Iterator[Any]:
    """Return the records of ``ser.training.train``, whose epochs have this number of steps and evaluate little.

    Args:
        settings: Sizes.
        task: Data, whose training utterances are repeated or cut to the steps.
        width: Width of CNN14.
        batch: Clips in a step.
        steps: Steps of an epoch.
        loss: Name of the loss.
        values: Further keys of the section ``training``.
    """
    rows = np.arange(batch * steps) % len(task.train)
    small = replace(task, train=task.train.take(rows), validation=task.validation.take(np.arange(2)))
    dotted = {f"loss.{name}": value for name, value in PARAMETERS.get(loss, {}).items()}
    dotted |= {"loss.name": loss, "model.width": width, "training.batch_size": batch, "training.epochs": EPOCHS}
    dotted |= {"training.crop_seconds": settings.frames * HOP / RATE}
    config = Config.from_dotted({**dotted, **{f"training.{name}": value for name, value in values.items()}})
    return train(config, small, seed=0, device=settings.device)


def time_steps(settings: Settings, call: Step, calls: int, steps_of_call: int = 1) -> float:
    """Return the seconds of a step: the median of a few rounds of calls, after one to warm up."""
    seconds = []
    for _ in range(settings.repeats + 1):
        began = time.perf_counter()
        for _ in range(calls):
            call()
        wait(settings)
        seconds.append((time.perf_counter() - began) / calls / steps_of_call)
    return float(np.median(seconds[1:]))


def wait(settings: Settings) -> None:
    """Wait for the GPU."""
    if settings.device == "cuda":
        torch.cuda.synchronize()


def attempt(measure: Callable[..., Row], **row: Any) -> Row:
    """Return a row together with what ``measure`` finds for it, or with the error, and with the peak memory."""
    gc.collect()
    if torch.cuda.is_initialized():  # the calls below would initialise it, and processes could not be forked
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        found = measure(**row)
    except Exception as error:
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}"}
    if torch.cuda.is_initialized():
        found["allocated_gb"] = torch.cuda.max_memory_allocated() / 1e9
        found["reserved_gb"] = torch.cuda.max_memory_reserved() / 1e9
    return {**row, **found}
