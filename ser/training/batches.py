"""Fixed-length crops and segments from the feature store, and SpecAugment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser.config import AugmentConfig
from ser.features.front_ends import FrontEnd
from ser.features.store import FeatureStore
from ser.losses import Mixing

MIN_SEGMENT_SECONDS = 1.0
EVALUATION_BATCH = 64


def crop_frames(seconds: float, front_end: FrontEnd) -> int:
    """Return the number of frames in a crop; 1 for a front end with one vector per utterance."""
    return 1 if front_end.kind == "vector" else round(seconds * front_end.sample_rate / front_end.hop_length)


def gather(store: FeatureStore, rows: NDArray[np.int64], starts: NDArray[np.int64], frames: int) -> NDArray[np.float32]:
    """Copy one window of each utterance from the store.

    Args:
        store: Feature store.
        rows: (n,) utterances.
        starts: (n,) first frame of each window.
        frames: Length T of the windows.

    Returns:
        (n, T, M) frames, padded with silence after the end of an utterance.
    """
    if store.front_end.kind == "vector":  # a row is an utterance
        return np.asarray(store.frames)[rows, None]
    windows = np.full((len(rows), frames, store.frames.shape[1]), store.front_end.silence, dtype=np.float32)
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


def mean_over_segments(
    compute: Callable[[Tensor, Tensor | None], Tensor],
    store: FeatureStore,
    rows: NDArray[np.int64],
    frames: int,
    *,
    with_lengths: bool,
) -> NDArray[np.float64]:
    """Compute the mean over the segments of each utterance.

    Args:
        compute: Function of (S, T, M) segments and their (S,) valid frames, or None, to (S, K) values.
        store: Feature store.
        rows: (n,) utterances.
        frames: Length T of a segment.
        with_lengths: Whether ``compute`` gets the valid frames.

    Returns:
        (n, K) float64.
    """
    cut = segments(store.lengths[rows], frames, min(crop_frames(MIN_SEGMENT_SECONDS, store.front_end), frames))
    outputs: list[Tensor] = []
    for begin in range(0, len(cut.owner), EVALUATION_BATCH):
        owners = rows[cut.owner[begin : begin + EVALUATION_BATCH]]
        starts = cut.starts[begin : begin + EVALUATION_BATCH]
        lengths = torch.from_numpy(valid_frames(store, owners, starts, frames)) if with_lengths else None
        outputs.append(compute(torch.from_numpy(gather(store, owners, starts, frames)), lengths).double())
    found = torch.cat(outputs).cpu().numpy()
    sums = np.zeros((len(rows), found.shape[1]))
    np.add.at(sums, cut.owner, found)
    return np.asarray(sums / np.bincount(cut.owner)[:, None])


def spec_augment(log_mel: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Replace random ranges of time and frequency by the mean of the crop (SpecAugment).

    Args:
        log_mel: (n, T, M) crops.
        config: Numbers and widths of the masks.
        generator: Random generator on the CPU.

    Returns:
        (n, T, M), a new tensor.

    Source:
        Park et al., "SpecAugment", Interspeech 2019.
    """
    n, frames, bins = log_mel.shape
    masked = torch.zeros((n, frames, bins), dtype=torch.bool, device=log_mel.device)
    plans = (
        (1, frames, config.time_masks, min(config.time_mask_frames, frames // 4)),
        (2, bins, config.frequency_masks, min(config.frequency_mask_bins, bins)),
    )
    for axis, size, count, widest in plans:
        # As in the paper: a width from 0 to the widest, then a start that keeps the mask inside.
        width = (torch.rand((n, count, 1), generator=generator) * (widest + 1)).floor()
        start = (torch.rand((n, count, 1), generator=generator) * (size - width + 1)).floor()
        position = torch.arange(size)
        hit = ((position >= start) & (position < start + width)).any(dim=1).to(log_mel.device)
        masked |= hit.unsqueeze(3 - axis)
    return torch.where(masked, log_mel.mean(dim=(1, 2), keepdim=True), log_mel)


def mix_crops(mixing: Mixing, crops: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Mix the crops of a batch; a mixture is valid as far as the longer of its two crops.

    Args:
        mixing: Shares and partners.
        crops: (n, T, M).
        lengths: (n,) valid frames, or None for a network that does not mask padding.

    Returns:
        (n, T, M) mixtures, and their (n,) valid frames or None.
    """
    longer = None if lengths is None else torch.maximum(lengths, lengths[mixing.partner])
    return mixing(crops), longer
