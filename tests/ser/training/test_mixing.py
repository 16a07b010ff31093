"""Tests of training on mixed inputs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ser.config import Config
from ser.features.store import FeatureStore
from ser.losses import CrossEntropy, LossOutput, Mixing
from ser.losses.mixup import Mixup
from ser.training.device.epoch_plan import EpochPlanner
from ser.training.device.features import DeviceFeatures
from ser.training.loop import EpochRecord, train
from ser.training.state import load_state, save_state
from ser.training.task import Task

SETTINGS = {
    "model.width": 0.03,
    "model.dropout": 0.0,
    "optimizer.lr": 5e-3,
    "training.epochs": 3,
    "training.batch_size": 6,
    "training.crop_seconds": 0.5,
    "training.precision": "float32",
}
MIXUP = {"loss.name": "mixup", "loss.alpha": 1.0}


def last_of(settings: dict[str, Any], task: Task) -> EpochRecord:
    *_, last = train(Config.from_dotted(SETTINGS | settings), task, seed=0)
    return last


@pytest.fixture
def unbalanced(task_at: Callable[..., Task]) -> Task:
    task = task_at("clean")
    return replace(task, train=replace(task.train, noisy=np.array([0] * 12 + [1] * 4)))


class Partners(CrossEntropy):
    """Loss that replaces each sample by its partner."""

    def mixing(self, size: int, rng: np.random.Generator) -> Mixing | None:
        return Mixing(0.0, torch.from_numpy(rng.permutation(size)))


class Neighbours(CrossEntropy):
    """Loss that mixes each sample with the one after it, in batches of three and more."""

    def mixing(self, size: int, rng: np.random.Generator) -> Mixing | None:
        return Mixing(0.25, torch.arange(size).roll(-1)) if size > 2 else None


@pytest.mark.parametrize("with_lengths", [True, False])
def test_a_mixture_is_valid_as_far_as_its_longer_crop(task_at: Callable[..., Task], with_lengths: bool) -> None:
    task = task_at("clean")
    task = replace(task, train=task.train.take(np.arange(5)))
    features = DeviceFeatures(FeatureStore.open(task.store), torch.device("cpu"))
    changes = {"training.batch_size": 3, "training.crop_seconds": 0.8, "augment.time_masks": 0}
    config = Config.from_dotted(SETTINGS | changes | {"augment.frequency_masks": 0})
    mixed, plain = (
        list(EpochPlanner(config, task, features, loss, seed=0, with_lengths=with_lengths).plan(1).batches())
        for loss in (Neighbours(), CrossEntropy())
    )
    first, last = mixed
    own = plain[0]
    torch.testing.assert_close(first.crops, 0.25 * own.crops + 0.75 * own.crops[[1, 2, 0]])
    one_hot = torch.nn.functional.one_hot(own.targets, 2).float()
    torch.testing.assert_close(first.targets, 0.25 * one_hot + 0.75 * one_hot[[1, 2, 0]])
    torch.testing.assert_close(first.weight, 0.25 * own.weight + 0.75 * own.weight[[1, 2, 0]])
    assert torch.equal(last.crops, plain[1].crops)  # of two samples: not mixed
    assert torch.equal(last.targets, plain[1].targets)
    if not with_lengths:
        assert first.lengths is own.lengths is None
        return
    assert first.lengths is not None
    assert own.lengths is not None
    assert len(own.lengths.unique()) > 1
    assert torch.equal(first.lengths, torch.maximum(own.lengths, own.lengths[[1, 2, 0]]))


def test_inputs_targets_and_class_weights_are_mixed_alike(unbalanced: Task) -> None:
    # A batch of partners alone is the batch itself in another order.
    partners, slow = {"loss.name": f"{__name__}.Partners"}, {"optimizer.lr": 1e-3}
    own, of_partners, unweighted = (
        last_of(slow | settings, unbalanced).metrics["train/loss"]
        for settings in ({}, partners, partners | {"training.class_balance": "none"})
    )
    assert of_partners == pytest.approx(own, rel=1e-3)
    assert unweighted != pytest.approx(own, rel=1e-1)


def test_mixup_of_nothing_is_cross_entropy_to_the_bit(unbalanced: Task) -> None:
    plain, nothing = last_of({}, unbalanced), last_of(MIXUP | {"loss.alpha": 0.0}, unbalanced)
    assert plain.metrics == nothing.metrics
    assert plain.metrics["train/loss"] != last_of(MIXUP, unbalanced).metrics["train/loss"]


def test_the_loss_gets_mixed_targets_that_favour_each_samples_own_label(
    unbalanced: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Tensor, Tensor]] = []
    compute = CrossEntropy.__call__

    def record(self: CrossEntropy, logits: Tensor, targets: Tensor, step: int, *, index: Tensor) -> LossOutput:
        given.append((index, targets))
        return compute(self, logits, targets, step, index=index)

    monkeypatch.setattr(CrossEntropy, "__call__", record)
    last_of(MIXUP, unbalanced)
    index, targets = (torch.cat(parts) for parts in zip(*given, strict=True))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(48))
    assert targets.argmax(dim=1).tolist() == unbalanced.train.noisy[index].tolist()
    assert ((targets > 0) & (targets < 1)).any()


@pytest.mark.parametrize("model", ["cnn14", "bilstm"])  # the second one masks padding
def test_mixing_changes_no_label(task_at: Callable[..., Task], model: str) -> None:
    task = task_at("symmetric:0.25")
    last = last_of(MIXUP | {"model.name": model}, task)
    assert last.metrics["train/labels_changed"] == last.metrics["train/trust"] == 0
    assert last.utterances is not None
    train_rows = last.utterances[last.utterances["subset"] == "train"]
    assert (train_rows["corrected_label"] == train_rows["noisy_label"]).all()
    assert (train_rows["kept"] >= 0.5).all()


def test_a_resumed_run_mixes_as_an_uninterrupted_one(unbalanced: Task, tmp_path: Path) -> None:
    config, metrics = Config.from_dotted(SETTINGS | MIXUP), []
    for record in train(config, unbalanced, seed=0):
        metrics.append(record.metrics)
        save_state(record.state, tmp_path / f"{record.epoch}.pt")
    for after in (1, 2):
        resumed = train(config, unbalanced, seed=0, state=load_state(tmp_path / f"{after}.pt"))
        assert [record.metrics for record in resumed] == metrics[after:]


def test_each_epoch_is_mixed_in_its_own_way(unbalanced: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    mixings: list[Mixing] = []
    draw = Mixup.mixing

    def record(self: Mixup, size: int, rng: np.random.Generator) -> Mixing | None:
        mixing = draw(self, size, rng)
        assert mixing is not None
        mixings.append(mixing)
        return mixing

    monkeypatch.setattr(Mixup, "mixing", record)
    last_of(MIXUP | {"training.batch_size": 16}, unbalanced)
    assert len({mixing.share for mixing in mixings}) == len({tuple(mixing.partner.tolist()) for mixing in mixings}) == 3
