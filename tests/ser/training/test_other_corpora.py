"""Trainings tested on another corpus after their last epoch: networks and classical models."""

import dataclasses

import numpy as np
import pytest

from ser.config import Config, ModelConfig
from ser.features.store import FeatureStore, open_store
from ser.metrics.classification import METRICS
from ser.models.classical import FRONT_ENDS
from ser.splits import split
from ser.training.classical import train_classical
from ser.training.loop import train
from ser.training.other_corpora import COUNTS, OtherTest, score_others
from ser.training.task import make_task

SETTINGS = {
    "model.width": 0.03, "training.epochs": 2, "training.crop_seconds": 0.5, "training.batch_size": 8,
    "training.precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def other(tones, store):
    """The tones as another corpus whose classes have other places."""
    truth = np.array([["low", "high"].index(label) for label in tones.table["label"]])
    rows, speakers = np.arange(4, 24), tuple(tones.table["speaker"].iloc[4:])
    return OtherTest("calls", store.path, ("low", "high"), (1, 0), rows, truth[4:], speakers)


def test_right_predictions_are_counted_by_speaker_and_class(other):
    def predict(store, rows):
        assert isinstance(store, FeatureStore)
        return np.tile([0.7, 0.3], (len(rows), 1))  # of the training's classes: always high

    metrics, counts = score_others((other,), predict)
    assert list(counts.columns) == list(COUNTS)
    assert set(counts["corpus"]) == {"calls"}
    assert (counts["total"] == 2).all()
    assert sorted(set(counts["speaker"])) == ["s1", "s2", "s3", "s4", "s5"]
    assert dict(counts.groupby("label")["correct"].sum()) == {"high": 10, "low": 0}
    assert (metrics["test/calls/uar"], metrics["test/calls/wa"]) == (0.5, 0.5)
    assert metrics["test/calls/f1_macro"] == pytest.approx(1 / 3)
    assert metrics["test/calls/nll"] == pytest.approx((-np.log(0.7) - np.log(0.3)) / 2)


def test_without_other_corpora_nothing_is_scored():
    assert score_others((), lambda store, rows: np.empty(0)) == ({}, None)


def test_a_network_is_scored_after_its_last_epoch_and_trains_as_without(task_at, other):
    task, config = task_at(), Config.from_dotted({"loss.name": "cross_entropy", **SETTINGS})
    alone = list(train(config, task, seed=0))
    first, last = train(config, dataclasses.replace(task, others=(other,)), seed=0)
    assert first.others is None
    assert not any(name.startswith("test/") for name in first.metrics)
    assert {name: last.metrics[name] for name in alone[-1].metrics} == alone[-1].metrics
    assert set(last.metrics) - set(alone[-1].metrics) == {f"test/calls/{name}" for name in METRICS}
    recalls = last.others.groupby("label")[["correct", "total"]].sum()
    assert last.metrics["test/calls/uar"] == pytest.approx((recalls["correct"] / recalls["total"]).mean())


def test_a_classical_model_is_scored_too(tones, other, tmp_path):
    store = open_store(tones, FRONT_ENDS[0], tmp_path)
    config = Config(ModelConfig("random_forest", parameters={"trees": 20, "min_samples_split": 2}))
    task = make_task(tones, split(tones), store.path, "clean", 0)
    alone, _, none = train_classical(config, np.asarray(store.frames), task, 0)
    others = (dataclasses.replace(other, store=store.path),)
    metrics, _, counts = train_classical(config, np.asarray(store.frames), dataclasses.replace(task, others=others), 0)
    assert none is None
    assert {name: metrics[name] for name in alone} == alone
    assert metrics["test/calls/uar"] > 0.9  # a tone is high or low
    assert counts["correct"].sum() == round(metrics["test/calls/wa"] * counts["total"].sum())
