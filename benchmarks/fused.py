"""Compare several trials trained as one network with the same trials trained one by one: python benchmarks/fused.py.

Trials of one space differ in numbers and seeds, not in shapes, so k trials can be one network whose convolutions have
k groups. Batch norm and pooling already work channel by channel. Measured are forward pass, backward pass and optimizer
step, where each trial has its own batch: k networks one after the other, one network of k groups, and, on a CPU with
several cores, k networks in parallel with one thread each, as the study runs them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

if not __package__:
    # Run as a script: imports start at the repository root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from benchmarks.measure import OUTPUT, Results, heading, run_worker, table
from ser.models import build_model
from ser.models.classifier import scaled
from ser.models.panns import Cnn14
from ser.utils.parallel import ALLOCATOR

CLASSES, FRAMES, BATCH, STEPS = 6, 500, 16, 12
ONE_BY_ONE, FUSED, SIDE_BY_SIDE = "one by one", "fused", "side by side, 1 thread each"


class FusedCnn14(nn.Module):
    """Network of k CNN14 without dropout: convolutions with k groups, linear layers as products of k matrices.

    Args:
        trials: k.
        width: Width of each CNN14.
        memory_format: Order of the activations in memory.
    """

    def __init__(self, trials: int, width: float, memory_format: torch.memory_format) -> None:
        super().__init__()
        self.trials, self.memory_format = trials, memory_format
        channels = scaled(Cnn14.channels, width)
        self.bn0 = nn.BatchNorm1d(trials * 64)
        layers = [pair for before, after in pairwise((1, *channels)) for pair in ((before, after), (after, after))]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(trials * before, trials * after, 3, padding=1, groups=trials, bias=False)
            for before, after in layers
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(trials * after) for _, after in layers)
        size = channels[-1]
        self.fc1 = nn.Parameter(torch.randn(trials, size, size) / size**0.5)
        self.head = nn.Parameter(torch.randn(trials, size, CLASSES) / size**0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, k, T, 64) to logits (k, N, C)."""
        n, trials, frames, bins = features.shape
        x = self.bn0(features.permute(0, 1, 3, 2).reshape(n, trials * bins, frames))
        x = x.view(n, trials, bins, frames).transpose(2, 3).contiguous(memory_format=self.memory_format)
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = F.relu_(norm(convolution(x)))
            if number % 2 and number < 2 * Cnn14.halvings:
                x = F.avg_pool2d(x, 2)
        x = x.mean(dim=3)
        x = (x.amax(dim=2) + x.mean(dim=2)).view(n, trials, -1).transpose(0, 1)
        return F.relu(x @ self.fc1.to(x.dtype)) @ self.head.to(x.dtype)


def fused_format(device: str) -> torch.memory_format:
    """Return the order in memory in which convolutions with groups are fast on a device.

    On GPUs they are reported to be 35 times slower with channels last, which is the faster order for all others there.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    return torch.contiguous_format if device == "cuda" else torch.channels_last


def worker(variant: str, trials: str, width: str, threads: str) -> None:
    """Train, and print the clips per second of all trials."""
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    k = 1 if variant == SIDE_BY_SIDE else int(trials)
    networks: list[nn.Module]
    memory_format = torch.channels_last
    if variant == FUSED:
        memory_format = fused_format(device.type)
        networks = [FusedCnn14(k, float(width), memory_format)]
    else:
        networks = [build_model("cnn14", CLASSES, float(width), 0.0) for _ in range(k)]
    inputs, labels = torch.randn(BATCH, k, FRAMES, 64) * 20 - 40, torch.randint(0, CLASSES, (k, BATCH))
    inputs, labels = inputs.to(device), labels.to(device)
    networks = [network.to(device=device, memory_format=memory_format) for network in networks]  # type: ignore[call-overload]
    optimizers = [torch.optim.AdamW(network.parameters(), fused=True) for network in networks]
    seconds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        for number, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
            with torch.autocast(device.type, torch.bfloat16):
                logits = network(inputs) if variant == FUSED else network(inputs[:, number])
            truth = labels.flatten() if variant == FUSED else labels[number]
            loss = F.cross_entropy(logits.float().reshape(-1, CLASSES), truth, reduction="sum") / BATCH
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        float(loss.detach())  # waits for a GPU
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"clips_per_second": k * BATCH / sorted(seconds[2:])[len(seconds[2:]) // 2]}))


def main(
    widths: tuple[float, ...] = (0.0625, 0.125, 0.25),
    trials: tuple[int, ...] = (2, 4, 8),
    repeats: int = 3,
    output: Path = OUTPUT,
) -> None:
    """Print the table, and write JSON and a figure.

    Args:
        widths: Widths of the networks.
        trials: Numbers of trials trained together.
        repeats: Rounds over all variants.
        output: Folder for the JSON file and the figure.
    """
    cores = len(os.sched_getaffinity(0))
    results = Results("fused", {"network": "CNN14", "batch": BATCH, "crops of": "5 s", "rounds": repeats})
    print(heading(results.about))
    rows = []
    for width in widths:
        for k in trials:
            rows += compare(results, width, k, cores, repeats)
    print(table(("width", "trials", "variant", "clips/s", "relative to the study"), rows))
    results.save(output)
    results.draw(output, "clips_per_second", "clips of 5 s per second, all trials together")


def compare(results: Results, width: float, k: int, cores: int, repeats: int) -> list[list[str]]:
    """Measure k trials of one width; return the rows of the table."""
    title = f"width {width:g}, {k} trials"

    def together() -> dict[str, float]:
        with ThreadPoolExecutor(cores) as pool:
            arguments = (SIDE_BY_SIDE, k, width, 1)
            found = pool.map(lambda _: run_worker(__file__, *arguments, environment=ALLOCATOR), range(cores))
        return {"clips_per_second": sum(one["clips_per_second"] for one in found)}

    variants = {
        f"{title}, {ONE_BY_ONE}": lambda: run_worker(__file__, ONE_BY_ONE, k, width, cores, environment=ALLOCATOR),
        f"{title}, {FUSED}": lambda: run_worker(__file__, FUSED, k, width, cores, environment=ALLOCATOR),
    }
    if cores > 1 and not torch.cuda.is_available():
        variants[f"{title}, {SIDE_BY_SIDE}"] = together
    results.run(variants, repeats)
    base = list(variants)[-1] if len(variants) > 2 else next(iter(variants))  # as the study runs them
    return [
        [
            f"{width:g}", str(k), variant.removeprefix(f"{title}, "), results.cell(variant, "clips_per_second"),
            f"{results.ratio(variant, base, 'clips_per_second'):.2f} ×",
        ]
        for variant in variants
    ]  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
    else:
        tyro.cli(main)
