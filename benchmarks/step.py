"""Compare a training step of this project with that of a common reference loop: python benchmarks/step.py.

Both train the same network with the same loss on the same crops of 5 s. The reference reads waveforms in a DataLoader
with workers, computes log-mels inside the model at every step, trains in float32 with torch's default memory format,
allocator and optimizer, and reads loss and accuracy by ``.item()`` at every step. The tuned reference is the same loop
with what a few lines and variables add to it: bfloat16 autocast where the hardware has it, channels last, and the
settings of glibc's allocator that this project uses. Each variant runs in its own process, in turn.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

if not __package__:
    # Run as a script: imports start at the repository root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import soundfile
import torch
import tyro
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.gpu_parts.steps import FieldModel
from benchmarks.measure import OUTPUT, Results, heading, memory_mb, run_worker, table
from ser.config import Config
from ser.corpora import load
from ser.features.store import open_store
from ser.losses import build_loss
from ser.models import build_model
from ser.splits import split
from ser.training import train
from ser.training.device.arithmetic import resolve_arithmetic
from ser.training.task import Task, make_task
from ser.utils.parallel import ALLOCATOR

SECONDS, RATE, CLASSES = 5.0, 16000, 6
EPOCHS = 3  # the first one warms up
LOSS = {"loss.name": "proselflc", "loss.transit_time_ratio": 0.5, "loss.exp_base": 10.0}
GEMM = 4096
TORCHS_LAYERS = {"AMBIVALENT_FAST_LAYERS": "0"}  # instead of the project's
PLAIN_BATCH = 16  # the float32 of this project is compared up to this batch size
REFERENCE, TUNED = "reference loop", "reference loop with autocast, channels last, allocator"
OURS, FLOAT32, PAIR = "this project", "this project, float32", "this project, 2 trials"


class Recordings(Dataset[tuple[Tensor, int]]):
    """Dataset of random crops of WAV files, as projects commonly write it."""

    def __init__(self, folder: Path, count: int) -> None:
        files = sorted(folder.glob("*.wav"))
        self._files = [files[number % len(files)] for number in range(count)]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        samples, _ = soundfile.read(self._files[number], dtype="float32")
        length = int(SECONDS * RATE)
        start = np.random.default_rng(number).integers(0, max(len(samples) - length, 0) + 1)
        crop = np.zeros(length, dtype=np.float32)
        piece = samples[start : start + length]
        crop[: len(piece)] = piece
        return torch.from_numpy(crop), int(self._files[number].stem.split("_")[1])


def reference(name: str, width: float, batch: int, steps: int, folder: Path, *, tuned: bool) -> Iterator[float]:
    """Train with the reference loop; yield the seconds of each epoch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    network = build_model(name, CLASSES, width)
    for module in list(network.modules()):
        for child, layer in module.named_children():
            if isinstance(layer, nn.Dropout):
                setattr(module, child, nn.Dropout(layer.p))  # torch's dropout instead of the project's
    model = FieldModel(network).to(device).train()
    precision: dict[str, Any] = {"training.precision": "auto" if tuned else "float32"}
    autocast = resolve_arithmetic(Config.from_dotted(precision), device).autocast()
    if tuned:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = build_loss(*_loss(), EPOCHS * steps, batch * steps, CLASSES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    loader = DataLoader(
        Recordings(folder, batch * steps), batch, shuffle=True, num_workers=2, persistent_workers=True,
        pin_memory=device.type == "cuda",
    )  # fmt: skip
    step = 0
    for _ in range(EPOCHS):
        began = time.perf_counter()
        total, right = 0.0, 0
        for waveforms, given in loader:
            waveform, labels = waveforms.to(device), given.to(device)
            with autocast:
                logits = model(waveform)
            output = loss(logits.float(), labels, step)
            optimizer.zero_grad()
            output.loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            total += output.loss.item()
            right += int((logits.argmax(dim=1) == labels).sum().item())
            step += 1
        yield time.perf_counter() - began


def ours(name: str, width: float, batch: int, steps: int, precision: str, task: Task) -> Iterator[float]:
    """Train as a trial does, with two validation utterances; yield the seconds of each epoch."""
    settings = {"model.name": name, "model.width": width, "training.precision": precision}
    settings |= {"training.batch_size": batch, "training.crop_seconds": SECONDS, "training.epochs": EPOCHS}
    rows = np.arange(batch * steps) % len(task.train)
    small = replace(task, train=task.train.take(rows), validation=task.validation.take(np.arange(2)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    began = time.perf_counter()
    for _ in train(Config.from_dotted({**settings, **LOSS}), small, seed=0, device=device):
        yield time.perf_counter() - began
        began = time.perf_counter()


def _loss() -> tuple[str, dict[str, Any]]:
    values = {key.removeprefix("loss."): value for key, value in LOSS.items()}
    return str(values.pop("name")), values


def prepare(folder: Path) -> None:
    """Write the synthetic corpus as WAV files, and its feature store."""
    corpus = load("synthetic")
    assert corpus.synthesize is not None
    for number, row in enumerate(corpus.table.itertuples()):
        samples = corpus.synthesize(str(row.utterance_id))
        label = corpus.classes.index(str(row.label))
        soundfile.write(folder / f"{number:04d}_{label}.wav", samples, RATE)
    open_store(corpus, "panns_16k", folder)


def worker(variant: str, name: str, width: str, batch: str, steps: str, threads: str, folder: str) -> None:
    """Train, and print the cost of a step."""
    torch.set_num_threads(int(threads))
    if variant in (REFERENCE, TUNED):
        epochs = reference(name, float(width), int(batch), int(steps), Path(folder), tuned=variant == TUNED)
    else:
        corpus = load("synthetic")
        task = make_task(corpus, split(corpus), open_store(corpus, "panns_16k", Path(folder)).path, "clean", 0)
        precision = "float32" if variant == FLOAT32 else "auto"
        epochs = ours(name, float(width), int(batch), int(steps), precision, task)
    seconds = list(epochs)[1:]
    found = {"clips_per_second": int(batch) * int(steps) * len(seconds) / sum(seconds)}
    found["step_seconds"] = int(batch) / found["clips_per_second"]
    found["peak_mb"] = memory_mb()
    if torch.cuda.is_available():
        found["gpu_peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps(found))


def flop_per_clip(name: str, width: float) -> float:
    """Return the floating-point operations of a step for one clip: forward, and backward to weights and inputs."""
    from torch.utils.flop_counter import FlopCounterMode

    model = build_model(name, CLASSES, width)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, int(SECONDS * 100), 64)).sum().backward()
    return counter.get_total_flops() / 2


def peak_flops() -> float:
    """Return the floating-point operations per second of the fastest of ten bfloat16 matrix products."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    one = torch.randn(GEMM, GEMM, device=device).bfloat16()
    best = 0.0
    for _ in range(10):
        began = time.perf_counter()
        product = one @ one
        float(product[0, 0])  # waits for a GPU
        best = max(best, 2 * GEMM**3 / (time.perf_counter() - began))
    return best


def main(
    networks: tuple[str, ...] = ("cnn14:1", "cnn14:0.25", "cnn14:0.125", "cnn10:1", "cnn6:1"),
    batches: tuple[int, ...] = (16, 64),
    repeats: int = 2,
    output: Path = OUTPUT,
) -> None:
    """Print the table, and write JSON and a figure.

    Args:
        networks: Networks as NAME:WIDTH.
        batches: Batch sizes.
        repeats: Rounds over all variants.
        output: Folder for the JSON file and the figure.
    """
    cores = len(os.sched_getaffinity(0))
    peak = peak_flops()
    about = {"crops of": f"{SECONDS:g} s", "rounds": repeats, "bf16 gemm": f"{peak / 1e9:.0f} GFLOP/s"}
    results = Results("step", about)
    print(heading(about))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for network, batch in [(network, batch) for network in networks for batch in batches]:
            model, width = network.split(":")
            rows += compare(results, model, float(width), batch, cores, peak, folder, repeats)
    header = (
        "network", "batch", "variant", "clips/s", "relative to the reference", "relative to the tuned reference",
        "of the bf16 peak", "peak MB",
    )  # fmt: skip
    print(table(header, rows))
    results.save(output)
    fast = [name for name in results.rounds if not name.endswith(REFERENCE)]
    results.draw(output, "ratio", "speed relative to the reference loop", fast)


def compare(
    results: Results, model: str, width: float, batch: int, cores: int, peak: float, folder: Path, repeats: int
) -> list[list[str]]:
    """Measure one network at one batch size; return the rows of its table."""
    flop = flop_per_clip(model, width)
    narrow = width <= 0.25 and cores > 1
    steps = max(1, (48 if flop > 5e9 else 240) // batch)
    title = f"{model} × {width:g}, batch {batch}"

    def once(variant: str, threads: int) -> dict[str, float]:
        environment = {REFERENCE: {}, TUNED: {**ALLOCATOR, **TORCHS_LAYERS}}.get(variant, ALLOCATOR)
        return run_worker(__file__, variant, model, width, batch, steps, threads, folder, environment=environment)

    def pair() -> dict[str, float]:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(cores) as pool:
            found = list(pool.map(lambda _: once(PAIR, 1), range(cores)))
        return {key: sum(one[key] for one in found) for key in ("clips_per_second", "peak_mb")}

    variants = {
        f"{title}, {REFERENCE}": lambda: once(REFERENCE, cores),
        f"{title}, {TUNED}": lambda: once(TUNED, cores),
        f"{title}, {OURS}": lambda: once(OURS, cores),
    }
    if batch <= PLAIN_BATCH:
        variants[f"{title}, {FLOAT32}"] = lambda: once(FLOAT32, cores)
    if narrow and not torch.cuda.is_available():
        variants[f"{title}, {PAIR}"] = pair
    results.run(variants, repeats)
    for key, base in (("ratio", REFERENCE), ("ratio_tuned", TUNED)):
        speeds = results.values(f"{title}, {base}", "clips_per_second")
        for variant in variants:
            rounds = zip(results.rounds[variant], speeds, strict=True)
            results.rounds[variant] = [{**one, key: one["clips_per_second"] / other} for one, other in rounds]
    memory = "gpu_peak_mb" if torch.cuda.is_available() else "peak_mb"
    return [
        [
            f"{model} × {width:g}", str(batch), variant.removeprefix(f"{title}, "),
            results.cell(variant, "clips_per_second"),
            *(f"{results.median(variant, key):.2f} ×" for key in ("ratio", "ratio_tuned")),
            f"{results.median(variant, 'clips_per_second') * flop / peak:.0%}",
            f"{results.median(variant, memory):.0f}",
        ]
        for variant in variants
    ]  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
    else:
        tyro.cli(main)
