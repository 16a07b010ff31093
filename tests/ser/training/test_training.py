import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ser.config import Config
from ser.losses import Loss, LossOutput
from ser.training import loop as training
from ser.training.batches import epoch_order
from ser.training.device import epoch_plan
from ser.training.loop import DivergedError, EpochRecord, train
from ser.training.setup import inverse_frequencies
from ser.training.state import load_state, save_state
from ser.training.task import Task
from ser.utils.errors import UserError

CPU = torch.device("cpu")
SMALL = {
    "model.width": 0.03,
    "optimizer.lr": 5e-3,
    "training.epochs": 3,
    "training.batch_size": 6,  # 16 utterances: the last batch is smaller
    "training.crop_seconds": 0.5,
    "training.precision": "float32",
}
LOSSES: dict[str, dict[str, Any]] = {
    "cross_entropy": {},
    "proselflc": {
        "loss.name": "proselflc",
        "loss.transit_time_ratio": 0.3,
        "loss.exp_base": 10.0,
        "loss.temperature": 0.5,
    },
    "elr": {"loss.name": "elr"},
}


def config_of(**changes: Any) -> Config:
    return Config.from_dotted(SMALL | {name.replace("__", "."): value for name, value in changes.items()})


def with_loss(name: str) -> Config:
    return Config.from_dotted(SMALL | LOSSES[name])


@pytest.fixture(scope="session")
def noisy(task_at: Callable[..., Task]) -> Task:
    return task_at("symmetric:0.25")


def weights_of(record: EpochRecord) -> dict[str, Tensor]:
    return copy.deepcopy(record.state["model"])


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def run(config: Config, task: Task, seed: int = 0) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """Return the metrics of every epoch, and the final weights."""
    records = list(train(config, task, seed=seed))
    return [record.metrics for record in records], weights_of(records[-1])


# Results of an epoch


def test_records_count_epochs_and_steps_to_the_plan(noisy: Task) -> None:
    records = list(train(config_of(), noisy, seed=0))
    assert [(record.epoch, record.step, record.finished) for record in records] == [
        (1, 3, False),
        (2, 6, False),
        (3, 9, True),
    ]


def test_records_hold_the_metrics_of_the_study(noisy: Task) -> None:
    (record, *_) = train(config_of(), noisy, seed=0)
    train_names = ("loss", "trust", "uar", "f1_weighted", "lr", "labels_changed", "labels_corrected", "memorised")
    train_names += ("trust_q10", "trust_q50", "trust_q90", "accuracy_clean", "accuracy_mislabelled")
    val_names = ("uar", "wa", "f1_weighted", "f1_macro", "ece", "brier", "nll", "loss")
    val_names += ("soft_ce", "jsd", "f1_macro_votes")
    expected = {f"train/{name}" for name in train_names} | {f"val/{name}" for name in val_names}
    expected |= {
        "val_noisy/uar",
        "best/val_uar",
        "best/epoch",
        "last/val_uar",
        "stopped/val_noisy_uar",
        "stopped/epoch",
    }
    # Cross entropy changes no label, so that a precision is not defined.
    assert record.metrics.keys() == expected | {"train/correction_recall"}
    assert all(math.isfinite(value) for value in record.metrics.values())


def test_best_is_the_first_of_the_highest_so_far_and_last_is_the_last(
    noisy: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    rights = iter([2, 3, 1, 3])  # of four validation utterances, two of either class

    def predictions(*_: object) -> np.ndarray:
        right = next(rights)
        truth = noisy.validation.truth
        return np.eye(2)[np.where(np.arange(4) < right, truth, 1 - truth)]

    monkeypatch.setattr(training, "predict", predictions)
    metrics, _ = run(config_of(training__epochs=4), noisy)
    assert [epoch["last/val_uar"] for epoch in metrics] == [0.5, 0.75, 0.25, 0.75]
    assert [epoch["best/val_uar"] for epoch in metrics] == [0.5, 0.75, 0.75, 0.75]
    assert [epoch["best/epoch"] for epoch in metrics] == [1, 2, 2, 2]


def test_an_easy_problem_is_learned(task_at: Callable[..., Task]) -> None:
    easy = {
        "model.width": 0.0625,
        "model.dropout": 0.0,
        "optimizer.lr": 1e-2,
        "training.batch_size": 4,
        "training.epochs": 12,
    }
    metrics, _ = run(Config.from_dotted(SMALL | easy), task_at("clean"))
    assert metrics[0]["val/uar"] < 0.8
    assert metrics[-1]["val/uar"] == 1.0
    assert metrics[-1]["val/loss"] < 0.4 < metrics[0]["val/loss"]
    assert metrics[-1]["train/loss"] < metrics[0]["train/loss"]


def test_without_the_truth_what_needs_it_is_left_out(task_at: Callable[..., Task]) -> None:
    metrics, _ = run(config_of(training__epochs=1), task_at("given"))
    assert {"train/loss", "train/labels_changed", "val_noisy/uar", "val/soft_ce", "stopped/epoch"} <= metrics[0].keys()
    needing = {"val/uar", "val/loss", "best/val_uar", "last/val_uar", "train/labels_corrected", "train/memorised"}
    assert not needing & metrics[0].keys()


def test_validation_never_reaches_the_weights(noisy: Task) -> None:
    part = noisy.validation
    other = replace(part, rows=noisy.train.rows[:4], noisy=1 - part.noisy, truth=1 - part.truth, soft=None)
    metrics, weights = run(config_of(), noisy)
    other_metrics, other_weights = run(config_of(), replace(noisy, validation=other))
    assert same_weights(weights, other_weights)
    assert metrics[-1]["val/loss"] != other_metrics[-1]["val/loss"]


# Seeds and steps


def test_a_seed_gives_the_same_numbers_and_another_one_others(noisy: Task) -> None:
    first, weights = run(config_of(), noisy)
    torch.rand(7)  # nothing depends on what was drawn before
    again, same = run(config_of(), noisy)
    other, different = run(config_of(), noisy, seed=1)
    assert first == again
    assert same_weights(weights, same)
    assert first != other
    assert not same_weights(weights, different)


class Recording:
    """Loss that records its calls."""

    def __init__(self, loss: Loss, total_steps: int) -> None:
        self.loss, self.total_steps = loss, total_steps
        self.targets, self.mixing, self.schedule = loss.targets, loss.mixing, loss.schedule
        self.state_dict, self.load_state_dict = loss.state_dict, loss.load_state_dict
        self.steps: list[Any] = []
        self.sizes: list[int] = []
        self.labels: list[Any] = []
        self.index: list[int] = []

    def __call__(self, logits: Tensor, targets: Tensor, step: int | Tensor, *, index: Tensor) -> LossOutput:
        self.steps.append(tuple(step.tolist()) if isinstance(step, Tensor) else step)
        self.sizes.append(len(targets))
        self.labels += targets.tolist()
        self.index += index.tolist()
        return self.loss(logits, targets, step, index=index)


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Recording]]:
    made: list[Recording] = []
    build = training.build_loss

    def build_recording(name: str, params: dict[str, Any], total_steps: int, *sizes: int) -> Recording:
        made.append(Recording(build(name, params, total_steps, *sizes), total_steps))
        return made[-1]

    monkeypatch.setattr(training, "build_loss", build_recording)
    return made


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_sees_every_planned_step_and_every_noisy_label(
    noisy: Task, recordings: list[Recording], loss: str
) -> None:
    run(with_loss(loss), noisy)
    (recording,) = recordings
    assert recording.total_steps == 9
    assert recording.steps == [recording.schedule(step) or step for step in range(9)]
    assert recording.sizes == [6, 6, 4] * 3
    for epoch in range(3):
        assert sorted(recording.labels[16 * epoch : 16 * (epoch + 1)]) == sorted(noisy.train.noisy)
        assert sorted(recording.index[16 * epoch : 16 * (epoch + 1)]) == list(range(16))
    assert recording.labels == noisy.train.noisy[recording.index].tolist()
    assert recording.labels[:16] != recording.labels[16:32]  # shuffled again


def test_the_plan_stays_when_training_is_resumed(noisy: Task, recordings: list[Recording]) -> None:
    first = next(iter(train(config_of(), noisy, seed=0)))
    list(train(config_of(), noisy, seed=0, state=first.state))
    resumed = recordings[1]
    assert resumed.total_steps == 9
    assert resumed.steps == list(range(3, 9))


def test_every_epoch_has_its_own_crops_and_masks(noisy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    crops: list[Tensor] = []
    masks: list[Tensor] = []
    augment = epoch_plan.spec_augment

    def recording(log_mel: Tensor, *more: Any) -> Tensor:
        result = augment(log_mel, *more)
        crops.append(log_mel.sum(dim=(1, 2)).sort().values)
        masks.append(result != log_mel)
        return result

    monkeypatch.setattr(epoch_plan, "spec_augment", recording)
    run(config_of(training__batch_size=16), noisy)
    assert len(crops) == 3
    for drawn in (crops, masks):
        assert not any(torch.equal(drawn[one], drawn[other]) for one, other in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("loss", LOSSES)
def test_resuming_after_any_epoch_gives_what_an_uninterrupted_run_gives(noisy: Task, tmp_path: Path, loss: str) -> None:
    config = with_loss(loss)
    uninterrupted = []
    for record in train(config, noisy, seed=3):
        uninterrupted.append(record.metrics)
        save_state(record.state, tmp_path / f"{record.epoch}.pt")
    last = load_state(tmp_path / "3.pt")
    for after in (1, 2, 3):
        records = list(train(config, noisy, seed=3, state=load_state(tmp_path / f"{after}.pt")))
        assert [record.metrics for record in records] == uninterrupted[after:]
        if records:
            assert same_weights(records[-1].state["model"], last["model"])


@pytest.mark.parametrize("loss", LOSSES)
def test_a_state_can_be_resumed_from_more_than_once(noisy: Task, loss: str) -> None:
    config = with_loss(loss)
    state = copy.deepcopy(next(iter(train(config, noisy, seed=0))).state)
    one, other = ([record.metrics for record in train(config, noisy, seed=0, state=state)] for _ in range(2))
    assert one == other


@pytest.mark.parametrize("what", ["configuration", "seed", "noise", "utterances"])
def test_the_state_of_another_run_is_refused(noisy: Task, task_at: Callable[..., Task], what: str) -> None:
    state = next(iter(train(config_of(), noisy, seed=0))).state
    config, task, seed = config_of(), noisy, 0
    if what == "configuration":
        config = config_of(optimizer__weight_decay=0.5)
    elif what == "seed":
        seed = 1
    elif what == "noise":
        task = task_at("symmetric:0.25", 1)
    else:
        task = replace(noisy, train=replace(noisy.train, utterance_ids=noisy.train.utterance_ids[::-1]))
    with pytest.raises(UserError, match="belongs to another"):
        next(iter(train(config, task, seed=seed, state=state)))


def test_a_state_is_resumed_though_its_version_described_the_noise_in_other_words(noisy: Task) -> None:
    (first, second, _) = [(record.metrics, copy.deepcopy(record.state)) for record in train(config_of(), noisy, seed=0)]
    reworded = replace(noisy, manifest=noisy.manifest | {"definition": "in other words"})
    resumed = next(iter(train(config_of(), reworded, seed=0, state=first[1])))
    assert resumed.metrics == second[0]
    other = replace(noisy, manifest=noisy.manifest | {"definition": "in other words", "digest": "0" * 16})
    with pytest.raises(UserError, match="belongs to another"):
        next(iter(train(config_of(), other, seed=0, state=first[1])))


# States on disk


def test_a_state_comes_back_and_its_writing_leaves_nothing_else(tmp_path: Path) -> None:
    save_state({"epoch": 1, "model": {"weight": torch.arange(3)}}, tmp_path / "state.pt")
    save_state({"epoch": 2, "model": {"weight": torch.arange(4)}}, tmp_path / "state.pt")
    state = load_state(tmp_path / "state.pt")
    assert state["epoch"] == 2
    assert torch.equal(state["model"]["weight"], torch.arange(4))
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_a_write_that_fails_leaves_the_state_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.pt"
    save_state({"epoch": 1}, path)

    def fail(state: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space"):
        save_state({"epoch": 2}, path)
    assert load_state(path)["epoch"] == 1


@pytest.mark.parametrize("kept", [0, 0.5, None])
def test_a_damaged_or_missing_state_is_reported_with_its_path(tmp_path: Path, kept: float | None) -> None:
    path = tmp_path / "state.pt"
    if kept is not None:
        save_state({"model": {"weight": torch.arange(1000)}}, path)
        path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UserError, match=r"state\.pt.*cannot be read"):
        load_state(path)


class Mischief:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.mkdir, (self.folder,)


def test_code_in_a_state_is_not_run(tmp_path: Path) -> None:
    torch.save({"epoch": Mischief(tmp_path / "made")}, tmp_path / "state.pt")
    with pytest.raises(UserError, match="cannot be read"):
        load_state(tmp_path / "state.pt")
    assert not (tmp_path / "made").exists()
    torch.load(tmp_path / "state.pt", weights_only=False)  # it would have been
    assert (tmp_path / "made").exists()


# Failures


@pytest.mark.parametrize("batch_size", [4, 16])
def test_a_run_that_diverges_is_reported_in_its_epoch(noisy: Task, batch_size: int) -> None:
    # With one batch per epoch the loss is still finite: the predictions show the divergence.
    config = config_of(optimizer__lr=1e30, training__batch_size=batch_size, training__epochs=1)
    with pytest.raises(DivergedError, match=r"diverged in epoch 1.*optimizer\.lr \(now 1e\+30\)"):
        list(train(config, noisy, seed=0))


def test_a_loss_that_is_not_finite_is_reported_although_the_predictions_are_finite(
    noisy: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "predict", lambda *_: np.full((4, 2), 0.5))
    with pytest.raises(DivergedError, match="training loss nan"):
        list(train(config_of(optimizer__lr=1e30), noisy, seed=0))


def test_a_gpu_without_memory_is_reported_with_the_settings_to_reduce(
    noisy: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(epoch_plan, "spec_augment", refuse)
    with pytest.raises(UserError, match=r"model\.width 0\.03, training\.batch_size 6, training\.crop_seconds 0\.5"):
        list(train(config_of(), noisy, seed=0))


# Learning rate, class weights, precision


def test_an_epoch_reports_the_learning_rate_of_its_last_step(noisy: Task) -> None:
    config = config_of(optimizer__warmup_ratio=0)
    metrics, _ = run(config, noisy)
    expected = [5e-3 * 0.5 * (1 + math.cos(math.pi * step / 9)) for step in (2, 5, 8)]
    assert [epoch["train/lr"] for epoch in metrics] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([0, 0, 0, 1], [4 / 6, 4 / 6, 4 / 6, 4 / 2]),
        ([0, 0, 1, 1], [1.0, 1.0, 1.0, 1.0]),
        ([1, 1, 1, 1], [0.5, 0.5, 0.5, 0.5]),  # none is 0
        # Two utterances of class 0, one of class 1; the third is half of each.
        ([[1.0, 0.0], [0.5, 0.5], [0.5, 0.5]], [3 / 4, (3 / 4 + 3 / 2) / 2, (3 / 4 + 3 / 2) / 2]),
        ([[0.0, 1.0], [0.0, 1.0]], [0.5, 0.5]),
    ],
)
def test_weights_of_classes_are_worked_out_by_hand(targets: list[Any], expected: list[float]) -> None:
    assert inverse_frequencies(torch.tensor(targets), 2).tolist() == pytest.approx(expected)


def test_sampling_draws_an_epoch_in_which_classes_are_alike() -> None:
    balance, rng = inverse_frequencies(torch.tensor([0] * 3600 + [1] * 400), 2), np.random.default_rng(0)
    drawn = epoch_order(balance, "sampling", rng)
    assert len(drawn) == 4000
    assert np.mean(drawn >= 3600) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(4000))
    once = epoch_order(balance, "weighting", rng)
    assert sorted(once) == list(range(4000))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model__dropout", 0.5),
        ("optimizer__weight_decay", 0.5),
        ("optimizer__schedule", "constant"),
        ("optimizer__warmup_ratio", 0.5),
        ("optimizer__gradient_clip", 0),
        ("augment__time_masks", 0),
        ("augment__frequency_masks", 0),
        ("training__class_balance", "none"),
        ("training__class_balance", "sampling"),
        ("training__crop_seconds", 0.4),
    ],
)
def test_every_setting_reaches_the_weights(noisy: Task, key: str, value: Any) -> None:
    rare = replace(noisy, train=replace(noisy.train, noisy=np.array([0] * 13 + [1] * 3)))
    (_, weights), (_, changed) = (run(config_of(training__epochs=1, **changes), rare) for changes in ({}, {key: value}))
    assert not same_weights(weights, changed)


def test_bfloat16_trains_in_other_numbers_than_float32(noisy: Task) -> None:
    (full, _), (half, _) = (run(config_of(training__precision=name), noisy) for name in ("float32", "bfloat16"))
    assert half != full
    assert half[0]["train/loss"] == pytest.approx(full[0]["train/loss"], rel=0.1)
