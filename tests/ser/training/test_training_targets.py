"""Tests of what training passes to a loss (targets, positions of utterances) and stores of it (its state)."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ser.config import Config
from ser.losses import CrossEntropy, LossOutput, SoftLabels
from ser.training.device.epoch_plan import EpochPlanner
from ser.training.loop import EpochRecord, train
from ser.training.setup import training_targets
from ser.training.task import Task
from ser.utils.errors import UserError

SMALL = {
    "model.width": 0.03,
    "training.epochs": 2,
    "training.batch_size": 6,
    "training.crop_seconds": 0.5,
    "training.precision": "float32",
}
BALANCES = ["weighting", "sampling"]


def records(task: Task, loss: str, **changes: Any) -> list[EpochRecord]:
    config = SMALL | {"loss.name": loss} | {name.replace("__", "."): value for name, value in changes.items()}
    return list(train(Config.from_dotted(config), task, seed=0))


def same_weights(one: list[EpochRecord], other: list[EpochRecord]) -> bool:
    return all(torch.equal(value, other[-1].state["model"][key]) for key, value in one[-1].state["model"].items())


@pytest.fixture
def noisy(task_at: Callable[..., Task]) -> Task:
    return task_at("symmetric:0.25")


def test_labels_are_the_targets_unless_a_loss_asks_for_votes(noisy: Task) -> None:
    assert noisy.train.soft is not None
    assert training_targets(CrossEntropy(), noisy.train).tolist() == noisy.train.noisy.tolist()
    assert training_targets(SoftLabels(), noisy.train).numpy() == pytest.approx(noisy.train.soft)
    assert training_targets(SoftLabels, noisy.train).shape == (16, 2)


def test_soft_labels_learn_the_annotators_distribution_of_each_utterance(
    noisy: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, list[float]]] = []
    call = SoftLabels.__call__

    def recording(self: SoftLabels, logits: Tensor, targets: Tensor, step: int, *, index: Tensor) -> LossOutput:
        seen.extend(zip(index.tolist(), targets.tolist(), strict=True))
        return call(self, logits, targets, step, index=index)

    monkeypatch.setattr(SoftLabels, "__call__", recording)
    (first, _) = records(noisy, "soft_labels")
    assert noisy.train.soft is not None
    positions, targets = zip(*seen, strict=True)
    assert sorted(positions) == sorted([*range(16), *range(16)])
    assert np.array(targets) == pytest.approx(noisy.train.soft[list(positions)])
    assert first.metrics["train/labels_changed"] == 0  # against its own target, not the noisy label


@pytest.mark.parametrize("balance", BALANCES)
def test_soft_labels_learn_the_same_whatever_became_of_the_labels(task_at: Callable[..., Task], balance: str) -> None:
    clean, noisy = (
        records(task_at(level), "soft_labels", training__class_balance=balance) for level in ("clean", "symmetric:0.25")
    )
    assert same_weights(clean, noisy)
    assert not same_weights(clean, records(task_at("clean"), "cross_entropy", training__class_balance=balance))


def test_soft_labels_need_votes_before_training_starts(noisy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpochPlanner, "plan", lambda *_: pytest.fail("training has started"))
    with pytest.raises(UserError, match=r"'soft_labels'.*the corpus has no votes"):
        records(replace(noisy, train=replace(noisy.train, soft=None)), "soft_labels")


@pytest.mark.parametrize("balance", BALANCES)
def test_what_a_loss_remembers_of_every_utterance_is_in_the_state(noisy: Task, balance: str) -> None:
    (one,) = records(noisy, "elr", training__class_balance=balance, training__epochs=1)
    memory = one.state["loss"]["memory"]
    assert memory.shape == (16, 2)
    # Each draw adds .3 of the difference to 1; sampling omits some utterances and draws others several times.
    sizes = [0.0, 0.3, 0.51, 0.657, 0.7599, 0.83193]
    assert all(min(abs(total - size) for size in sizes) < 1e-5 for total in memory.sum(dim=1).tolist())
    assert (memory.sum(dim=1) - 0.3).abs().max().item() < 1e-5 or balance == "sampling"


@pytest.mark.parametrize("balance", BALANCES)
def test_the_state_of_the_loss_determines_how_training_continues(noisy: Task, balance: str) -> None:
    config = Config.from_dotted(SMALL | {"loss.name": "elr", "training.class_balance": balance})
    state = copy.deepcopy(next(iter(train(config, noisy, seed=0))).state)
    forgetful = {**state, "loss": {"memory": torch.zeros(16, 2)}}
    uninterrupted = records(noisy, "elr", training__class_balance=balance)
    assert same_weights(list(train(config, noisy, seed=0, state=state)), uninterrupted)
    assert not same_weights(list(train(config, noisy, seed=0, state=forgetful)), uninterrupted)
