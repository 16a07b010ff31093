"""Tests of the best epochs: the oracle by true labels, and the honest early stop by noisy ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ser.config import Config
from ser.training import loop as training
from ser.training.evaluation import SegmentedUtterances
from ser.training.loop import EpochRecord, train
from ser.training.state import load_state, save_state
from ser.training.task import Task

CONFIG = Config.from_dotted(
    {
        "model.width": 0.03,
        "optimizer.lr": 5e-3,
        "training.epochs": 5,
        "training.batch_size": 6,
        "training.crop_seconds": 0.5,
        "training.precision": "float32",
    }
)
TRUTH, NOISY = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])
# Predictions of each epoch. Validation UAR against noisy labels .5, 1, .5, 1, 0; against true ones .5, .5, 1, .5, .5.
VALIDATION = ([1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 1, 0], [1, 0, 0, 1])
# Test UAR 0, .75, .25, .5, 1.
TEST = ([1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1])


@pytest.fixture
def tested(task_at: Callable[..., Task]) -> Task:
    """Task with four validation utterances, two of which have wrong labels, and four test utterances."""
    task = task_at("symmetric:0.25")
    validation = replace(task.validation, truth=TRUTH, noisy=NOISY, soft=None)
    return replace(task, validation=validation, test=replace(validation, rows=task.train.rows[:4], noisy=TRUTH))


@pytest.fixture
def predicted(tested: Task, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the predictions by those above; return the list of the subsets that are predicted."""
    calls: list[str] = []

    def predict(_model: object, utterances: SegmentedUtterances, *_: object) -> NDArray[np.float64]:
        calls.append("validation" if utterances.rows is tested.validation.rows else "test")
        epoch = calls.count("validation") - 1
        return np.eye(2)[(VALIDATION if calls[-1] == "validation" else TEST)[epoch]]

    monkeypatch.setattr(training, "predict", predict)
    return calls


def stopped_labels(record: EpochRecord) -> list[str]:
    assert record.utterances is not None
    return record.utterances.loc[record.utterances["subset"] == "test", "stopped_label"].tolist()


def test_the_stop_is_the_first_best_epoch_by_noisy_labels_and_the_oracle_that_by_true_ones(
    tested: Task, predicted: list[str]
) -> None:
    records = list(train(CONFIG, tested, seed=0))
    assert [record.metrics["stopped/epoch"] for record in records] == [1, 2, 2, 2, 2]
    assert [record.metrics["stopped/val_noisy_uar"] for record in records] == [0.5, 1, 1, 1, 1]
    assert [record.metrics["best/epoch"] for record in records] == [1, 1, 3, 3, 3]
    last = records[-1].metrics
    assert [last[f"test/{which}/uar"] for which in ("stopped", "best", "last")] == [0.75, 0.25, 1.0]
    assert {name.split("/")[2] for name in last if name.startswith("test/stopped")} == {
        name.split("/")[2] for name in last if name.startswith("test/last")
    }
    assert not [name for record in records[:-1] for name in record.metrics if name.startswith("test/")]


def test_the_table_has_the_classes_predicted_at_the_stop(tested: Task, predicted: list[str]) -> None:
    *_, last = train(CONFIG, tested, seed=0)
    assert stopped_labels(last) == ["high", "high", "low", "high"]
    assert last.utterances is not None
    assert last.utterances.loc[last.utterances["subset"] != "test", "stopped_label"].isna().all()


def test_test_predictions_are_made_once_in_an_epoch_that_is_best_or_last(tested: Task, predicted: list[str]) -> None:
    list(train(CONFIG, tested, seed=0))
    assert " ".join(predicted) == "validation test validation test validation test validation validation test"


def test_the_stop_needs_no_true_label(tested: Task, predicted: list[str]) -> None:
    unknown = np.full(4, -1)
    assert tested.test is not None
    validation = replace(tested.validation, truth=unknown)
    *_, known = train(CONFIG, replace(tested, validation=validation), seed=0)
    assert (known.metrics["stopped/epoch"], known.metrics["test/stopped/uar"]) == (2, 0.75)
    assert not [name for name in known.metrics if name.startswith(("best/", "test/best/"))]
    predicted.clear()
    *_, last = train(CONFIG, replace(tested, validation=validation, test=replace(tested.test, truth=unknown)), seed=0)
    assert last.metrics["stopped/epoch"] == 2
    assert not [name for name in last.metrics if name.startswith("test/")]
    assert stopped_labels(last) == stopped_labels(known)


def test_without_a_test_subset_the_stop_has_its_epoch_alone(tested: Task, predicted: list[str]) -> None:
    *_, last = train(CONFIG, replace(tested, test=None), seed=0)
    assert last.metrics["stopped/epoch"] == 2
    assert not [name for name in last.metrics if name.startswith("test/")]
    assert last.utterances is not None
    assert last.utterances["stopped_label"].isna().all()


def test_a_resumed_run_has_the_stop_of_an_uninterrupted_one_to_the_bit(tested: Task, tmp_path: Path) -> None:
    records = []
    for record in train(CONFIG, tested, seed=1):  # with the network's own predictions
        records.append(record)
        save_state(record.state, tmp_path / f"{record.epoch}.pt")
    last = records[-1]
    stop = int(last.metrics["stopped/epoch"])
    assert 1 <= stop < 5  # otherwise the stop need not survive
    for after in range(1, 5):
        resumed = list(train(CONFIG, tested, seed=1, state=load_state(tmp_path / f"{after}.pt")))
        assert [record.metrics for record in resumed] == [record.metrics for record in records[after:]]
        assert resumed[-1].utterances is not None
        pd.testing.assert_frame_equal(resumed[-1].utterances, last.utterances, check_exact=True)


def test_a_run_that_an_older_version_began_is_resumed_without_a_stop(tested: Task) -> None:
    records = train(CONFIG, tested, seed=1)
    older = {name: value for name, value in next(records).state.items() if name != "stopped"}
    *_, whole = train(CONFIG, tested, seed=1)
    *_, resumed = train(CONFIG, tested, seed=1, state=older)
    assert resumed.metrics == {name: value for name, value in whole.metrics.items() if "stopped/" not in name}
    assert stopped_labels(resumed) == [pd.NA] * 4
    assert "stopped" not in resumed.state  # so that it stays without one
