"""All that the steps of an epoch need, drawn on the host and uploaded at once: a step then only takes its slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser.config import Config
from ser.losses import Loss, Mixing, as_distribution
from ser.models import uploaded
from ser.training.batches import crop_frames, draw_masks, epoch_order, random_starts, spec_augment, valid_frames
from ser.training.device.features import DeviceFeatures, Windows
from ser.training.setup import inverse_frequencies, training_targets
from ser.training.task import Task
from ser.utils.hashing import derived_seed


@dataclass(frozen=True)
class Batch:
    """Inputs of a training step; B samples.

    Args:
        crops: (B, T, M), masked and mixed, on the device.
        lengths: (B,) valid frames, on the CPU; None for a network that does not mask padding.
        targets: (B,) labels or (B, C) distributions, on the device.
        weight: (B,) class weights, on the device.
        index: (B,) positions in the training subset, on the device.
        step: What the loss gets as its step: the number, or the numbers of ``Loss.schedule`` on the device.
    """

    crops: Tensor
    lengths: Tensor | None
    targets: Tensor
    weight: Tensor
    index: Tensor
    step: int | Tensor


@dataclass(frozen=True)
class EpochPlan:
    """Samples, crops, masks, mixtures and schedules of the steps of an epoch.

    Args:
        size: Number of samples in a batch; the last one may be smaller.
        first_step: Number of optimiser steps before the epoch.
        windows: Crops of n samples.
        lengths: (n,) valid frames on the CPU; None for a network that does not mask padding.
        index: (n,) positions in the training subset, on the device.
        targets: (n,) labels or (n, C) distributions, on the device.
        weight: (n,) class weights, on the device.
        masks: (n, T) masked frames and (n, M) masked mel bins, on the device; None for features that are not masked.
        mixings: How each batch is mixed, or None.
        schedule: (steps, K) numbers of ``Loss.schedule``, on the device; None for losses that take the step itself.
        num_classes: C.
    """

    size: int
    first_step: int
    windows: Windows
    lengths: Tensor | None
    index: Tensor
    targets: Tensor
    weight: Tensor
    masks: tuple[Tensor, Tensor] | None
    mixings: Sequence[Mixing | None]
    schedule: Tensor | None
    num_classes: int

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of the epoch."""
        for number, crops in enumerate(self.windows.batches(self.size)):
            here = slice(number * self.size, (number + 1) * self.size)
            targets, weight = self.targets[here], self.weight[here]
            if self.masks is not None:
                crops = spec_augment(crops, *(mask[here] for mask in self.masks))
            if (mixing := self.mixings[number]) is not None:
                crops, weight = mixing(crops), mixing(weight)
                targets = mixing(as_distribution(targets, self.num_classes))
            lengths = None if self.lengths is None else self.lengths[here]
            step = self.first_step + number if self.schedule is None else self.schedule[number]
            yield Batch(crops, lengths, targets, weight, self.index[here], step)


class EpochPlanner:
    """Planner of the epochs of a training; all that it draws follows from the seed and the number of the epoch.

    Args:
        config: Configuration.
        task: Data of the training.
        features: Features of its utterances.
        loss: The loss.
        seed: Seed of order, crops, masks and mixtures.
        with_lengths: Whether the network masks padding.

    Raises:
        UserError: The loss asks for soft targets, and the corpus has no votes.
    """

    def __init__(
        self, config: Config, task: Task, features: DeviceFeatures, loss: Loss, seed: int, *, with_lengths: bool
    ) -> None:
        self._config, self._features, self._loss, self._seed = config, features, loss, seed
        self._rows, self._with_lengths = task.train.rows, with_lengths
        self._frames = crop_frames(config.training.crop_seconds, features.store.front_end)
        targets = training_targets(loss, task.train)
        self._balance = inverse_frequencies(targets, len(task.classes))
        weighting = config.training.class_balance == "weighting"
        weights = self._balance.float() if weighting else torch.ones(len(task.train))
        self._num_classes = len(task.classes)
        self._targets, self._weights = targets.to(features.device), weights.to(features.device)

    def plan(self, epoch: int) -> EpochPlan:
        """Return the plan of an epoch.

        Args:
            epoch: Number of the epoch, from 1.
        """
        config, device, store = self._config, self._features.device, self._features.store
        size = config.training.batch_size
        rng = np.random.default_rng(derived_seed(self._seed, "epoch", epoch))
        order = epoch_order(self._balance, config.training.class_balance, rng)
        rows = self._rows[order]
        starts = random_starts(store.lengths[self._rows], self._frames, rng)[order]
        sizes = [len(batch) for batch in np.split(order, range(size, len(order), size))]
        mixes = np.random.default_rng(derived_seed(self._seed, "mixing", epoch))
        mixings = [self._loss.mixing(count, mixes) for count in sizes]
        index = uploaded(torch.from_numpy(order), device)
        first_step = (epoch - 1) * len(sizes)
        return EpochPlan(
            size=size,
            first_step=first_step,
            windows=self._features.windows(rows, starts, self._frames),
            lengths=self._lengths(rows, starts, sizes, mixings) if self._with_lengths else None,
            index=index,
            targets=self._targets[index],
            weight=self._weights[index],
            masks=self._masks(epoch, sizes) if store.front_end.kind == "log_mel" else None,
            mixings=_on_device(mixings, device),
            schedule=self._schedule(range(first_step, first_step + len(sizes))),
            num_classes=self._num_classes,
        )

    def _masks(self, epoch: int, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Draw the masks of all batches, one after the other."""
        generator = torch.Generator().manual_seed(derived_seed(self._seed, "masks", epoch))
        bins = self._features.store.frames.shape[1]
        drawn = [draw_masks(count, self._frames, bins, self._config.augment, generator) for count in sizes]
        times, frequencies = (torch.cat(masks) for masks in zip(*drawn, strict=True))
        return uploaded(times, self._features.device), uploaded(frequencies, self._features.device)

    def _lengths(
        self,
        rows: NDArray[np.int64],
        starts: NDArray[np.int64],
        sizes: Sequence[int],
        mixings: Sequence[Mixing | None],
    ) -> Tensor:
        """Return the valid frames of all crops; a mixture is valid as far as the longer of its two crops."""
        valid = torch.from_numpy(valid_frames(self._features.store, rows, starts, self._frames))
        mixed = [
            lengths if mixing is None else torch.maximum(lengths, lengths[mixing.partner])
            for lengths, mixing in zip(torch.split(valid, list(sizes)), mixings, strict=True)
        ]
        return torch.cat(mixed)

    def _schedule(self, steps: range) -> Tensor | None:
        numbers = torch.tensor([self._loss.schedule(step) for step in steps], dtype=torch.float64)
        return uploaded(numbers, self._features.device) if numbers.numel() else None


def _on_device(mixings: Sequence[Mixing | None], device: torch.device) -> list[Mixing | None]:
    """Return the mixings of all batches with shares and partners on a device."""
    drawn = [mixing for mixing in mixings if mixing is not None]
    if not drawn:
        return list(mixings)
    shares = uploaded(torch.tensor([mixing.share for mixing in drawn], dtype=torch.float64), device)
    partners = uploaded(torch.cat([mixing.partner for mixing in drawn]), device)
    moved = zip(shares, torch.split(partners, [len(mixing.partner) for mixing in drawn]), strict=True)
    return [None if mixing is None else _moved(mixing, *next(moved)) for mixing in mixings]


def _moved(mixing: Mixing, share: Tensor, partner: Tensor) -> Mixing:
    return replace(mixing, share=share, partner=partner)  # keeps the class of a loss's own mixing
