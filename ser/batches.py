"""Fixed-length crops and segments out of the feature store, and SpecAugment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser.config import AugmentConfig
from ser.feature_store import FeatureStore
from ser.features import FrontEnd

MIN_SEGMENT_SECONDS = 1.0


def crop_frames(seconds: float, front_end: FrontEnd) -> int:
    """Frames in a crop of so many seconds."""
    return round(seconds * front_end.sample_rate / front_end.hop_length)


def gather(store: FeatureStore, rows: NDArray[np.int64], starts: NDArray[np.int64], frames: int) -> NDArray[np.float32]:
    """Copies one window of each utterance out of the store.

    Args:
        store: The feature store.
        rows: (n,) utterances.
        starts: (n,) first frame of each window.
        frames: Length T of the windows.

    Returns:
        (n, T, M) frames; what lies beyond an utterance's end is silence.
    """
    windows = np.full((len(rows), frames, store.frames.shape[1]), store.front_end.silence, dtype=np.float32)
    for window, row, start in zip(windows, rows, starts, strict=True):
        piece = store.utterance(int(row))[start : start + frames]
        window[: len(piece)] = piece
    return windows


def valid_frames(
    store: FeatureStore, rows: NDArray[np.int64], starts: NDArray[np.int64], frames: int
) -> NDArray[np.int64]:
    """(n,) how many frames of each window, as `gather` cuts them, lie before its utterance's end."""
    return np.asarray(np.minimum(store.lengths[rows] - starts, frames))


def random_starts(lengths: NDArray[np.int64], frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Uniform crop positions; an utterance shorter than the crop starts at 0.

    Args:
        lengths: (n,) frames of each utterance.
        frames: Length of the crops.
        rng: The random stream.
    """
    return rng.integers(0, np.maximum(lengths - frames, 0) + 1)


@dataclass(frozen=True)
class Segments:
    """All windows that evaluation averages over.

    Args:
        owner: (S,) index, within the part, of the utterance a segment belongs to.
        starts: (S,) first frame.
    """

    owner: NDArray[np.int64]
    starts: NDArray[np.int64]


def segments(lengths: NDArray[np.int64], frames: int, shortest: int) -> Segments:
    """Cuts utterances into consecutive segments; a last piece below ``shortest`` is left out.

    Args:
        lengths: (n,) frames of each utterance.
        frames: Length of a segment.
        shortest: Least length of a last piece; a first piece is kept at any length.
    """
    full, rest = lengths // frames, lengths % frames
    counts = np.maximum(full + (rest >= shortest), 1)
    owner = np.repeat(np.arange(len(lengths)), counts)
    position = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Segments(owner, position * frames)


def spec_augment(log_mel: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Masks random stretches of time and frequency with the crop's mean (Park et al. 2019).

    Args:
        log_mel: (n, T, M) crops.
        config: Numbers and widths of the masks.
        generator: The random stream, on the CPU.

    Returns:
        (n, T, M), a new tensor.
    """
    n, frames, bins = log_mel.shape
    masked = torch.zeros((n, frames, bins), dtype=torch.bool, device=log_mel.device)
    plans = (
        (1, frames, config.time_masks, min(config.time_mask_frames, frames // 4)),
        (2, bins, config.frequency_masks, min(config.frequency_mask_bins, bins)),
    )
    for axis, size, count, widest in plans:
        # As the paper has it: a width from 0 to the widest, then a start that keeps the mask inside.
        width = (torch.rand((n, count, 1), generator=generator) * (widest + 1)).floor()
        start = (torch.rand((n, count, 1), generator=generator) * (size - width + 1)).floor()
        position = torch.arange(size)
        hit = ((position >= start) & (position < start + width)).any(dim=1).to(log_mel.device)
        masked |= hit.unsqueeze(3 - axis)
    return torch.where(masked, log_mel.mean(dim=(1, 2), keepdim=True), log_mel)
