"""Crops and segments of utterances: which frames, in which order, and what SpecAugment masks of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser.config import AugmentConfig
from ser.features.front_ends import FrontEnd
from ser.features.store import FeatureStore

EVALUATION_BATCH = 64
"""Number of segments that a network evaluates at a time, whatever the batch size of its training."""


def crop_frames(seconds: float, front_end: FrontEnd) -> int:
    """Return the number of frames in a crop; 1 for a front end with one vector per utterance."""
    return 1 if front_end.kind == "vector" else round(seconds * front_end.sample_rate / front_end.hop_length)


def gather(
    store: FeatureStore,
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    frames: int,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Copy one window of each utterance from the store.

    Args:
        store: Feature store.
        rows: (n,) utterances.
        starts: (n,) first frame of each window.
        frames: Length T of the windows.
        out: (n, T, M) array to write to; None for a new one.

    Returns:
        (n, T, M) frames, padded with silence after the end of an utterance.
    """
    windows = np.empty((len(rows), frames, store.frames.shape[1]), dtype=np.float32) if out is None else out
    if store.front_end.kind == "vector":  # a row is an utterance
        # Rows are within the store. "raise", the default, would copy them twice.
        return np.take(np.asarray(store.frames), rows[:, None], axis=0, out=windows, mode="clip")
    windows.fill(store.front_end.silence)
    for window, row, start in zip(windows, rows, starts, strict=True):
        piece = store.utterance(int(row))[start : start + frames]
        window[: len(piece)] = piece
    return windows


def valid_frames(
    store: FeatureStore, rows: NDArray[np.int64], starts: NDArray[np.int64], frames: int
) -> NDArray[np.int64]:
    """Return the number of frames without padding, (n,), of each window that ``gather`` copies."""
    return np.asarray(np.minimum(store.lengths[rows] - starts, frames))


def epoch_order(
    balance: Tensor, class_balance: Literal["weighting", "sampling", "none"], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the utterances of an epoch in random order.

    Args:
        balance: (n,) inverse frequencies of the utterances' classes.
        class_balance: ``sampling`` draws n utterances with replacement, all classes equally often; otherwise each
            utterance occurs once.
        rng: Random generator.

    Returns:
        (n,) positions in the training subset.
    """
    if class_balance != "sampling":
        return rng.permutation(len(balance))
    chances = balance.numpy()
    return rng.choice(len(balance), size=len(balance), p=chances / chances.sum())


def random_starts(lengths: NDArray[np.int64], frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw uniform crop positions; an utterance shorter than the crop starts at 0.

    Args:
        lengths: (n,) frames of each utterance.
        frames: Length of the crops.
        rng: Random generator.

    Returns:
        (n,) first frames.
    """
    return rng.integers(0, np.maximum(lengths - frames, 0) + 1)


@dataclass(frozen=True)
class Segments:
    """Windows that evaluation averages over.

    Args:
        owner: (S,) index, within the subset, of the utterance that a segment belongs to.
        starts: (S,) first frame.
    """

    owner: NDArray[np.int64]
    starts: NDArray[np.int64]


def segments(lengths: NDArray[np.int64], frames: int, shortest: int) -> Segments:
    """Cut utterances into consecutive segments; a remainder shorter than ``shortest`` is left out.

    Args:
        lengths: (n,) frames of each utterance.
        frames: Length of a segment.
        shortest: Minimum length of a remainder; the first segment is kept at any length.
    """
    full, rest = lengths // frames, lengths % frames
    counts = np.maximum(full + (rest >= shortest), 1)
    owner = np.repeat(np.arange(len(lengths)), counts)
    position = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Segments(owner, position * frames)


def draw_masks(
    n: int, frames: int, bins: int, config: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw what SpecAugment masks in the crops of a batch.

    Args:
        n: Number of crops.
        frames: T, length of a crop.
        bins: M, number of mel bins.
        config: Numbers and widths of the masks.
        generator: Random generator on the CPU.

    Returns:
        (n, T) whether a frame is masked, and (n, M) whether a mel bin is masked, on the CPU.
    """
    plans = (
        (frames, config.time_masks, min(config.time_mask_frames, frames // 4)),
        (bins, config.frequency_masks, min(config.frequency_mask_bins, bins)),
    )
    drawn = []
    for size, count, widest in plans:
        # As in the paper: a width from 0 to the widest, then a start that keeps the mask inside.
        width = (torch.rand((n, count, 1), generator=generator) * (widest + 1)).floor()
        start = (torch.rand((n, count, 1), generator=generator) * (size - width + 1)).floor()
        position = torch.arange(size)
        drawn.append(((position >= start) & (position < start + width)).any(dim=1))
    return drawn[0], drawn[1]


def spec_augment(log_mel: Tensor, in_time: Tensor, in_frequency: Tensor) -> Tensor:
    """Replace ranges of time and frequency by the mean of the crop (SpecAugment).

    Args:
        log_mel: (n, T, M) crops.
        in_time: (n, T) whether a frame is masked, on the device of the crops.
        in_frequency: (n, M) whether a mel bin is masked, on the device of the crops.

    Returns:
        (n, T, M), a new tensor.

    Source:
        Park et al., "SpecAugment", Interspeech 2019.
    """
    masked = in_time[:, :, None] | in_frequency[:, None, :]
    return torch.where(masked, log_mel.mean(dim=(1, 2), keepdim=True), log_mel)
