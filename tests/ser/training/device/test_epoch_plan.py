"""Tests of the plan of an epoch: what its batches hold is what each step would draw for itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ser.config import Config
from ser.features.store import FeatureStore
from ser.losses import Loss, Mixing, as_distribution, build_loss
from ser.training.batches import epoch_order, gather, random_starts
from ser.training.device.epoch_plan import EpochPlanner
from ser.training.device.features import DeviceFeatures
from ser.training.setup import inverse_frequencies
from ser.training.task import Task
from ser.utils.hashing import derived_seed

CPU = torch.device("cpu")
SETTINGS = {"training.batch_size": 6, "training.epochs": 3, "augment.time_mask_frames": 9}
TRUSTING = {"loss.name": "proselflc", "loss.transit_time_ratio": 0.5, "loss.exp_base": 10.0}
MIXUP = {"loss.name": "mixup", "loss.alpha": 1.0}


@pytest.fixture
def task(task_at: Callable[..., Task]) -> Task:
    task = task_at("symmetric:0.25")
    return replace(task, train=replace(task.train, noisy=np.array([0] * 12 + [1] * 4)))


def make(task: Task, config: Config) -> tuple[EpochPlanner, Loss]:
    loss = build_loss(config.loss.name, config.loss.parameters, 9, len(task.train), 2)
    features = DeviceFeatures(FeatureStore.open(task.store), CPU)
    return EpochPlanner(config, task, features, loss, 5, with_lengths=True), loss


def augmented(log_mel: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """Return crops with SpecAugment, one crop and mask at a time."""
    n, frames, bins = log_mel.shape
    augment = config.augment
    kinds = (
        (frames, augment.time_masks, min(augment.time_mask_frames, frames // 4)),
        (bins, augment.frequency_masks, min(augment.frequency_mask_bins, bins)),
    )
    result, means = log_mel.clone(), log_mel.mean(dim=(1, 2))
    for axis, (size, count, widest) in enumerate(kinds):
        widths = (torch.rand((n, count), generator=generator) * (widest + 1)).floor()
        begins = (torch.rand((n, count), generator=generator) * (size - widths + 1)).floor()
        for crop, mean, width, begin in zip(result, means, widths, begins, strict=True):
            for first, length in zip(begin.int().tolist(), width.int().tolist(), strict=True):
                crop.narrow(axis, first, length).fill_(mean)
    return result


@pytest.mark.parametrize("balance", ["weighting", "sampling", "none"])
@pytest.mark.parametrize("seconds", [0.5, 1.0])  # shorter than each utterance, longer than some
@pytest.mark.parametrize("loss_settings", [TRUSTING, MIXUP], ids=lambda settings: settings["loss.name"])
def test_batches_are_what_steps_would_draw_one_after_the_other(
    task: Task, balance: str, seconds: float, loss_settings: dict[str, Any]
) -> None:
    changes = {"training.class_balance": balance, "training.crop_seconds": seconds}
    config, epoch = Config.from_dotted(SETTINGS | loss_settings | changes), 2
    planner, loss = make(task, config)
    store, frames, rows = FeatureStore.open(task.store), round(100 * seconds), task.train.rows
    rng = np.random.default_rng(derived_seed(5, "epoch", epoch))
    masks = torch.Generator().manual_seed(derived_seed(5, "masks", epoch))
    mixes = np.random.default_rng(derived_seed(5, "mixing", epoch))
    targets = torch.tensor(task.train.noisy)
    inverse = inverse_frequencies(targets, 2)
    weights = inverse.float() if balance == "weighting" else torch.ones(16)
    order = epoch_order(inverse, balance, rng)  # type: ignore[arg-type]
    starts = random_starts(store.lengths[rows], frames, rng)
    batches = list(planner.plan(epoch).batches())
    assert [len(batch.index) for batch in batches] == [6, 6, 4]
    for number, batch in enumerate(batches):
        chosen = order[6 * number : 6 * number + 6]
        crops = augmented(torch.from_numpy(gather(store, rows[chosen], starts[chosen], frames)), config, masks)
        lengths = torch.from_numpy(np.minimum(store.lengths[rows[chosen]] - starts[chosen], frames))
        index = torch.from_numpy(chosen)
        expected, weight = targets[index], weights[index]
        if (mixing := loss.mixing(len(chosen), mixes)) is not None:
            lengths = torch.maximum(lengths, lengths[mixing.partner])
            crops, weight = mixing(crops), mixing(weight)
            expected = mixing(as_distribution(expected, 2))
        assert batch.lengths is not None
        for found, known in (
            (batch.crops, crops), (batch.lengths, lengths), (batch.index, index), (batch.targets, expected),
            (batch.weight, weight),
        ):  # fmt: skip
            assert found.dtype == known.dtype
            assert torch.equal(found, known)
        step = 3 + number
        if numbers := loss.schedule(step):
            assert isinstance(batch.step, Tensor)
            assert batch.step.dtype == torch.float64
            assert batch.step.tolist() == list(numbers)
        else:
            assert batch.step == step


def test_only_some_batches_may_be_mixed(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    planner, loss = make(task, Config.from_dotted(SETTINGS | MIXUP))
    shares = iter([None, 0.25, 0.75])

    class OwnMixing(Mixing):
        """Mixing of a user's loss."""

    def mixing(_loss: Loss, size: int, rng: np.random.Generator) -> Mixing | None:
        share = next(shares)
        return None if share is None else OwnMixing(share, torch.arange(size).roll(1))

    monkeypatch.setattr(type(loss), "mixing", mixing)
    plan = planner.plan(1)
    assert [type(mixing) for mixing in plan.mixings] == [type(None), OwnMixing, OwnMixing]
    targets = [batch.targets for batch in plan.batches()]
    own = [as_distribution(labels, 2) for labels in plan.targets.split(6)]
    assert torch.equal(targets[0], plan.targets[:6])
    for found, labels, share in zip(targets[1:], own[1:], (0.25, 0.75), strict=True):
        torch.testing.assert_close(found, share * labels + (1 - share) * labels.roll(1, dims=0))
