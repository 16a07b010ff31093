"""Tests of what training records of each utterance, and of the per-utterance table."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.config import Config
from ser.losses import LossOutput
from ser.training import loop as training
from ser.training.device import epoch_plan
from ser.training.label_metrics import UtteranceLog
from ser.training.loop import train
from ser.training.state import load_state, save_state
from ser.training.task import Subset, Task
from ser.training.utterance_table import LastSeen, utterance_table
from ser.utils.errors import UserError

CPU = torch.device("cpu")
SETTINGS = {
    "model.width": 0.03,
    "optimizer.lr": 5e-3,
    "training.epochs": 4,
    "training.batch_size": 6,
    "training.crop_seconds": 0.5,
    "training.precision": "float32",
}
TRUSTING = {
    "loss.name": "proselflc",
    "loss.transit_time_ratio": 0.2,
    "loss.exp_base": 20.0,
    "loss.temperature": 0.3,
    "loss.trust": "confidence",
}


def output_of(corrected: Sequence[Sequence[float]], trust: Sequence[float]) -> LossOutput:
    losses = torch.zeros(len(trust))
    return LossOutput(losses.mean(), losses, torch.tensor(corrected), torch.tensor(trust))


def update(
    log: UtteranceLog,
    index: Sequence[int],
    noisy: Sequence[int],
    corrected: Sequence[Sequence[float]],
    trust: Sequence[float],
    epoch: int,
    logits: torch.Tensor | None = None,
    targets: torch.Tensor | None = None,
) -> None:
    given = torch.zeros(len(index), 3) if logits is None else logits
    log.update(torch.tensor(index), given, torch.tensor(noisy), output_of(corrected, trust), epoch, targets)


KEPT, TO_1, TO_2 = [0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.2, 0.6]


def test_the_last_value_of_each_utterance_stays_and_the_first_change_is_remembered() -> None:
    log = UtteranceLog(4, 3, CPU)
    update(log, [2, 0], [0, 0], [KEPT, TO_1], [0.1, 0.2], 1)
    logits = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
    update(log, [0, 3], [0, 0], [KEPT, TO_2], [0.3, 0.4], 2, logits)
    update(log, [3], [0], [TO_1], [0.5], 3)
    seen = log.last_seen()
    assert seen.corrected.tolist() == [0, -1, 0, 1]
    assert seen.first_changed.tolist() == [1, 0, 0, 2]  # utterance 0 was changed back, utterance 1 never drawn
    np.testing.assert_allclose(seen.kept, [0.7, np.nan, 0.7, 0.3], rtol=1e-6)
    np.testing.assert_allclose(seen.trust, [0.3, np.nan, 0.1, 0.5], rtol=1e-6)
    np.testing.assert_allclose(seen.probabilities[0], F.softmax(logits[0], dim=0), rtol=1e-6)
    assert np.isnan(seen.probabilities[1]).all()


def test_the_last_of_several_draws_in_one_batch_stays() -> None:
    log = UtteranceLog(2, 3, CPU)
    update(log, [1, 1, 0, 1], [0, 0, 0, 0], [TO_1, TO_2, TO_1, KEPT], [0.1, 0.2, 0.3, 0.4], 5)
    seen = log.last_seen()
    assert seen.corrected.tolist() == [1, 0]
    np.testing.assert_allclose(seen.trust, [0.3, 0.4], rtol=1e-6)
    assert seen.first_changed.tolist() == [5, 5]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), min_size=1, max_size=5))
def test_batches_with_repetitions_leave_what_one_utterance_at_a_time_leaves(batches: list[list[int]]) -> None:
    rng = np.random.default_rng(0)
    whole, single = (UtteranceLog(5, 3, CPU) for _ in range(2))
    for epoch, index in enumerate(batches, start=1):
        corrected = rng.dirichlet([1, 1, 1], len(index)).astype(np.float32).tolist()
        trust = rng.uniform(size=len(index)).astype(np.float32).tolist()
        logits = torch.from_numpy(rng.normal(size=(len(index), 3)).astype(np.float32))
        noisy = rng.integers(0, 3, len(index)).tolist()
        update(whole, index, noisy, corrected, trust, epoch, logits)
        for place in range(len(index)):
            one = slice(place, place + 1)
            update(single, index[one], noisy[one], corrected[one], trust[one], epoch, logits[one])
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(tensor, single.state_dict()[name], rtol=0, atol=1e-7, equal_nan=True)


def test_soft_targets_that_the_loss_leaves_alone_change_no_label() -> None:
    log = UtteranceLog(2, 3, CPU)
    targets = torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.8, 0.1]])
    update(log, [0, 1], [0, 0], [[0.1, 0.8, 0.1], [0.0, 0.4, 0.6]], [0.0, 0.5], 1, targets=targets)
    seen = log.last_seen()
    assert seen.corrected.tolist() == [0, 2]
    assert seen.first_changed.tolist() == [0, 1]
    np.testing.assert_allclose(seen.kept, [0.1, 0.0], rtol=1e-6)


def test_a_state_is_taken_over_as_a_copy() -> None:
    one, other = (UtteranceLog(3, 3, CPU) for _ in range(2))
    update(one, [0], [0], [TO_1], [0.5], 2)
    other.load_state_dict(one.state_dict())
    update(other, [1], [0], [TO_2], [0.5], 3)
    assert one.last_seen().corrected.tolist() == [1, -1, -1]
    assert other.last_seen().corrected.tolist() == [1, 2, -1]


def test_the_table_of_three_two_and_two_utterances_is_known() -> None:
    def part(names: str, noisy: list[int], truth: list[int]) -> Subset:
        genders = tuple("female" if name in "ac" else "male" for name in names)
        speakers = tuple(f"of {name}" for name in names)
        agreement = ("none", "majority", "unanimous") if len(names) == 3 else None
        known = np.arange(len(names)), tuple(names), np.array(noisy), np.array(truth)
        return Subset(*known, None, speakers, genders, agreement)

    train_rows, validation_rows = part("abc", [0, 1, 1], [0, 0, -1]), part("de", [1, 0], [1, 1])
    task = Task(("high", "low"), Path(), train_rows, validation_rows, {}, part("fg", [0, 1], [0, 1]))
    seen = LastSeen(
        np.array([[0.75, 0.25], [0.5, 0.5], [np.nan, np.nan]], np.float32),
        np.array([0, 0, -1]),
        np.array([0.75, 0.25, np.nan], np.float32),
        np.array([0.125, 0.5, np.nan], np.float32),
        np.array([0, 3, 0]),
    )
    predictions = np.array([[0.25, 0.75], [1, 0]])
    table = utterance_table(task, seen, predictions, 1 - predictions, np.array([1, 0]))
    missing = pd.NA
    expected = {
        "utterance_id": list("abcdefg"),
        "subset": ["train"] * 3 + ["validation"] * 2 + ["test"] * 2,
        "speaker": [f"of {name}" for name in "abcdefg"],
        "gender": ["female", "male", "female", "male", "male", "male", "male"],
        "noisy_label": ["high", "low", "low", "low", "high", missing, missing],
        "label": ["high", "high", missing, "low", "low", "high", "low"],
        "corrected_label": ["high", "high", *[missing] * 5],
        "kept": [0.75, 0.25, *[np.nan] * 5],
        "trust": [0.125, 0.5, *[np.nan] * 5],
        "first_epoch_changed": [missing, 3, *[missing] * 5],
        "agreement": ["none", "majority", "unanimous", *[missing] * 4],
        "stopped_label": [*[missing] * 5, "low", "high"],
        "p_high": [0.75, 0.5, np.nan, 0.25, 1, 0.75, 0],
        "p_low": [0.25, 0.5, np.nan, 0.75, 0, 0.25, 1],
    }
    types = ["string"] * 7 + ["float32"] * 2 + ["Int64", "string", "string"] + ["float32"] * 2
    known = pd.DataFrame(expected).astype(dict(zip(expected, types, strict=True)))
    pd.testing.assert_frame_equal(table, known)


def test_a_table_comes_back_from_its_file_also_without_any_truth(tmp_path: Path, task_at: Callable[..., Task]) -> None:
    *_, record = train(Config.from_dotted(SETTINGS | {"training.epochs": 1}), task_at("given"), seed=0)
    assert record.utterances is not None
    assert record.utterances["label"].isna().all()
    record.utterances.to_parquet(tmp_path / "table.parquet", index=False)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), record.utterances)


# In training


def config_of(**changes: Any) -> Config:
    return Config.from_dotted(SETTINGS | TRUSTING | {name.replace("__", "."): value for name, value in changes.items()})


@pytest.fixture(scope="module")
def noisy(task_at: Callable[..., Task]) -> Task:
    return task_at("symmetric:0.25")


def test_the_table_agrees_with_the_last_epochs_shares(noisy: Task) -> None:
    records = list(train(config_of(), noisy, seed=0))
    assert [record.utterances is None for record in records] == [True, True, True, False]
    table, metrics = records[-1].utterances, records[-1].metrics
    assert table is not None
    rows = table[table["subset"] == "train"]
    flipped, right = rows["corrected_label"] != rows["noisy_label"], rows["corrected_label"] == rows["label"]
    assert 0 < flipped.sum() < 16  # else nothing is shown
    assert flipped.mean() == metrics["train/labels_changed"]
    assert (flipped & right).mean() == metrics["train/labels_corrected"]
    assert rows["trust"].mean() == pytest.approx(metrics["train/trust"])
    assert (rows["first_epoch_changed"].notna() | ~flipped).all()
    np.testing.assert_allclose(rows[["p_high", "p_low"]].sum(axis=1), 1, rtol=1e-6)


def test_validation_rows_have_the_final_evaluations_probabilities(noisy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    known = np.array([[0.25, 0.75], [0.5, 0.5], [1, 0], [0, 1]])
    monkeypatch.setattr(training, "predict", lambda *_: known)
    *_, record = train(config_of(), noisy, seed=0)
    assert record.utterances is not None
    rest = record.utterances[record.utterances["subset"] == "validation"]
    assert rest[["p_high", "p_low"]].to_numpy().tolist() == known.tolist()
    assert rest[["corrected_label", "kept", "trust", "first_epoch_changed"]].isna().all(axis=None)


@pytest.mark.parametrize("balance", ["weighting", "sampling"])
def test_a_resumed_run_gives_the_table_of_an_uninterrupted_one_to_the_bit(
    noisy: Task, tmp_path: Path, balance: str
) -> None:
    config = config_of(training__class_balance=balance)
    *_, last = (
        save_state(record.state, tmp_path / f"{record.epoch}.pt") or record for record in train(config, noisy, seed=3)
    )
    assert last.utterances is not None
    for after in (1, 3):
        *_, resumed = train(config, noisy, seed=3, state=load_state(tmp_path / f"{after}.pt"))
        assert resumed.utterances is not None
        pd.testing.assert_frame_equal(resumed.utterances, last.utterances, check_exact=True)


def test_what_sampling_does_not_draw_keeps_its_older_value_or_none(
    noisy: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = iter([np.array([0, 0, 1, 2]), np.array([1, 1, 1, 3])])
    monkeypatch.setattr(epoch_plan, "epoch_order", lambda *_: next(orders))
    five = noisy.train.take(np.arange(5))
    config = config_of(training__epochs=2, training__batch_size=5)
    first, last = (copy.deepcopy(record.state) for record in train(config, replace(noisy, train=five), seed=0))
    before, after = first["utterances"]["last"], last["utterances"]["last"]
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])
    assert before[3].isnan().all()
    assert not after[3].isnan().any()
    assert after[4].isnan().all()


def test_a_state_without_a_table_is_reported(noisy: Task) -> None:
    state = next(iter(train(config_of(), noisy, seed=0))).state
    older = {name: value for name, value in state.items() if name != "utterances"}
    with pytest.raises(UserError, match="older version"):
        next(iter(train(config_of(), noisy, seed=0, state=older)))
