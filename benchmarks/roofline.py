"""Compute the fastest a training step of CNN14 can be on a GPU: python benchmarks/roofline.py.

A step does a number of floating-point operations and moves a number of bytes; neither can be faster than the GPU's peak
and its memory bandwidth. The operations are counted by torch on the meta device. The bytes are those of separate
kernels for each layer, in bfloat16: a compiled network, which fuses layers, moves fewer and may exceed the limit.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

if not __package__:
    # Run as a script: imports begin at the repository's root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import table
from ser.models import build_model
from ser.models.classifier import scaled
from ser.models.panns import MEL_BINS, Cnn14

GPUS = {"H100 SXM": (989e12, 3.35e12), "H200": (989e12, 4.8e12)}
"""Dense bfloat16 operations and bytes of memory traffic in a second, by the manufacturer's data sheets."""

WIDTHS, BATCHES, FRAMES, CLASSES = (1.0, 0.25, 0.125), (16, 32, 64), 500, 6

BYTES_OF_A_VALUE = 2
"""An activation is bfloat16."""
PASSES_OF_OUTPUT = 1 + 3 + 2 + 3 + 5 + 2
"""How often the output of a convolution is read or written. Forward: written by the convolution; read twice and written
once by the batch norm; read and written by the ReLU. Backward: gradient and value read and a gradient written by the
ReLU; two values read twice and one written by the batch norm; read for the gradients of input and weights."""
PASSES_OF_INPUT = 3
"""How often its input is: read in the forward pass and for the weights' gradient, and its own gradient written."""
PASSES_OF_POOLING = 2
"""How often pooling reads or writes each of its two sizes: once forward, once backward."""
PASSES_OF_DROPOUT = 2 * 2.5
"""Forward and backward: a value read, one written, and a mask of one byte, which is half a value."""
BYTES_OF_A_WEIGHT = (4 + 2) + 2 * 2 + 4 + 4 + 2 * 4 + 4 * 4 + 3 * 4
"""Float32 weight read and its bfloat16 copy written; that read twice; gradient written; read for the norm; read and
written by clipping; weight, gradient and two moments read, and all but the gradient written, by AdamW."""


@dataclass(frozen=True)
class Cost:
    """Cost of a training step.

    Args:
        flop: Floating-point operations for a clip: forward, and backward to weights and inputs.
        clip_bytes: Bytes of activations that are read or written for a clip.
        step_bytes: Bytes of weights, gradients and moments that are read or written in a step.
        weights: Number of weights.
    """

    flop: float
    clip_bytes: float
    step_bytes: float
    weights: int

    def clips_per_second(self, batch: int, peak: float, bandwidth: float) -> float:
        """Return the limit: operations at the peak, then bytes at the bandwidth, without overlap.

        Args:
            batch: Clips in a step.
            peak: Floating-point operations in a second.
            bandwidth: Bytes in a second.
        """
        return batch / (batch * self.flop / peak + (batch * self.clip_bytes + self.step_bytes) / bandwidth)


@cache
def step_cost(width: float, frames: int = FRAMES) -> Cost:
    """Return the cost of a training step of CNN14.

    Args:
        width: Factor on its channels.
        frames: Length of a crop.

    Example:
        >>> round(step_cost(1.0).flop / 1e9, 1), round(step_cost(1.0).clip_bytes / 1e6)
        (59.7, 318)
    """
    with torch.device("meta"):
        model, crops = build_model("cnn14", CLASSES, width), torch.zeros(2, frames, MEL_BINS)
    with FlopCounterMode(display=False) as counter:
        model(crops).sum().backward()
    weights = sum(parameter.numel() for parameter in model.parameters())
    values, positions = 0.0, frames * MEL_BINS
    for number, (before, after) in enumerate(pairwise((1, *scaled(Cnn14.channels, width)))):
        values += positions * (PASSES_OF_INPUT * (before + after) + 2 * PASSES_OF_OUTPUT * after)
        if number < Cnn14.halvings:
            pooled = (frames // 2 ** (number + 1)) * (MEL_BINS // 2 ** (number + 1))
            values += PASSES_OF_POOLING * (positions + pooled) * after
            positions = pooled
        values += PASSES_OF_DROPOUT * positions * after
    return Cost(counter.get_total_flops() / 2, BYTES_OF_A_VALUE * values, weights * BYTES_OF_A_WEIGHT, weights)


def main() -> None:
    """Print cost and limits as Markdown tables."""
    cells = []
    for width in WIDTHS:
        cost = step_cost(width)
        for batch in BATCHES:
            limits = [cost.clips_per_second(batch, *gpu) for gpu in GPUS.values()]
            shares = [limit * cost.flop / peak for limit, (peak, _) in zip(limits, GPUS.values(), strict=True)]
            found = [f"{limit:,.0f} ({share:.0%})" for limit, share in zip(limits, shares, strict=True)]
            moved = f"{cost.clip_bytes / 1e6:.0f} MB a clip, {cost.step_bytes / 1e9:.2f} GB a step"
            cells.append([f"{width:g}", str(batch), f"{cost.flop / 1e9:.1f}", moved, *found])
    print(table(("width", "batch", "GFLOP a clip", "moved", *(f"{name}, clips/s (MFU)" for name in GPUS)), cells))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
