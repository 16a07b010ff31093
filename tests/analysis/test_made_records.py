"""The made records are what the study itself would write, as far as its readers can tell."""

import pandas as pd
import pytest

from analysis.common.designs import read_design
from analysis.common.records import open_records
from analysis.options import RecordsOptions
from ser.utils.errors import UserError
from study.tracking.confirmations import representatives
from study.tracking.searches import best_runs, read_trials
from study.tracking.store import search_all
from tests.helpers.made_records import CLASSES, EPOCHS, copy_trials


def test_made_records_are_read_like_real_ones(made_store, tmp_path):
    client, experiment = made_store.client, made_store.experiment
    made_store.search({("proselflc", "noisy-B"): [0.3, 0.9, 0.8]}, stopped=1)
    made_store.confirm({("proselflc", "noisy-B", "search-1"): 0.7}, folds=(3, 4))
    trials = read_trials(client, experiment)
    assert len(trials.table) == 3
    assert trials.chance == 1 / len(CLASSES)
    (best,) = best_runs(trials).to_dict("records")
    assert best["trial"] == "002"
    confirmed = search_all(client, [experiment], "tags.stage = 'confirm' and tags.kind = 'trial'")
    assert {(run.data.tags["seed"], run.data.tags["fold"], run.data.tags["exposure"]) for run in confirmed} == {
        (str(seed), fold, seen) for seed in (1, 2, 3) for fold, seen in (("3", "trained_by"), ("4", "unseen"))
    }
    design, _ = read_design(made_store.records(), "made-confirm")
    assert (design.digest, design.methods) == (confirmed[0].data.tags["design"], ("proselflc",))
    run = confirmed[0]
    assert run.data.metrics["test/last/uar"] > 0.4
    assert len(client.get_metric_history(run.info.run_id, "val/uar")) == EPOCHS
    path = client.download_artifacts(run.info.run_id, "utterances.parquet", str(tmp_path))
    assert set(pd.read_parquet(path)["subset"]) == {"train", "validation", "test"}


def test_the_analyses_read_both_stages(made_store):
    made_store.search({("cross_entropy", "clean"): [0.3, 0.9]})
    skills = {("cross_entropy", "clean", "default"): 0.5, ("cross_entropy", "clean", "search-1"): 0.9}
    made_store.confirm(skills, folds=(3, 4))
    records = made_store.records()
    assert len(records.search.table) == 2
    assert len(records.confirmed) == 12
    assert set(records.confirmed["searched"]) == {("optimizer.lr",)}
    assert records.classes == CLASSES
    run_id = records.confirmed["run_id"].iloc[0]
    assert list(records.curve(run_id, "val/uar").index) == list(range(1, EPOCHS + 1))
    assert records.curve(run_id, "none such").empty
    table = records.utterances(run_id)
    test = table[table["subset"] == "test"]
    right = test[[f"p_{name}" for name in CLASSES]].to_numpy().argmax(axis=1) == [
        CLASSES.index(x) for x in test["label"]
    ]
    assert right.mean() == pytest.approx(records.confirmed["wa"].iloc[0])
    (chosen,) = representatives(records.confirmed, records.selection).to_dict("records")
    assert chosen["candidate"] == "search-1"
    with pytest.raises(UserError, match="Did you mean 'made'"):
        open_records(RecordsOptions(made_store.uri, "mad"))


def test_copies_are_read_like_the_trial_that_they_copy(made_store, tmp_path):
    client = made_store.client
    made_store.search({("proselflc", "noisy-B"): [0.9, 0.8]})
    (parent,) = search_all(client, [made_store.experiment], "tags.kind = 'parent'")
    copy_trials(tmp_path / "m.db", parent.info.run_id, 30)
    records = made_store.records()
    table = records.search.table
    assert sorted(table["trial"]) == [f"{number:03d}" for number in range(1, 31)]
    assert table["run_id"].nunique() == 30
    assert len({parameters["optimizer.lr"] for parameters in table["parameters"]}) > 25
    (best,) = best_runs(records.search).to_dict("records")
    assert best["trial"] == "001"
    copied = table[table["trial"] == "030"].iloc[0]
    curve = records.curve(copied["run_id"], "val/uar")
    assert list(curve.index) == list(range(1, EPOCHS + 1))
    assert curve.iloc[-1] == pytest.approx(copied["uar"])
    run = client.get_run(copied["run_id"])
    assert run.inputs.dataset_inputs[0].dataset.name == "made noisy-B"
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
