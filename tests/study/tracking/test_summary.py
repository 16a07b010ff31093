"""Tests of what parent runs say of their trials: the right scores, once, again after a change, and never as trials."""

import math
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from study.schema import Tag
from study.tracking.searches import read_trials
from study.tracking.store import search_all
from study.tracking.summary.write import About, describe_experiment, summarise
from tests.helpers.made_records import make_store

ABOUT = About("Search `made` on made.", {"Report": "ambivalent report --study made"})
NOTE = "mlflow.note.content"
KEY = {Tag.STUDY: "made", Tag.SPACE: "proselflc", Tag.NOISE: "noisy-B"}


class Calls:
    """Client that counts calls, and loses the server after a number of them."""

    def __init__(self, client, left=math.inf):
        self._client, self._left, self.names = client, left, Counter()

    def __getattr__(self, name):
        real = getattr(self._client, name)

        def call(*arguments, **options):
            self._left -= 1
            if self._left < 0:
                raise MlflowException("the connection was lost")
            self.names[name] += 1
            return real(*arguments, **options)

        return call


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Make a store with a search of which the second trial is the best, and the fourth was stopped."""
    store = make_store(tmp_path_factory.mktemp("searched"))
    store.search({("proselflc", "noisy-B"): (0.5, 0.8, 0.6, 0.9), ("elr", "noisy-B"): (0.5,)}, stopped=1)
    return store


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path)


def runs_of(store, key=KEY):
    query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in key.items())
    runs = search_all(store.client, [store.experiment], query)
    (parent,) = [run for run in runs if run.data.tags["kind"] == "parent"]
    return parent, {run.data.tags["trial"]: run for run in runs if run.data.tags["kind"] == "trial"}


def files(store, run):
    return {file.path for file in store.client.list_artifacts(run.info.run_id)}


def test_a_parent_has_the_scores_of_the_chosen_trial_counts_and_the_rate(searched):
    before = read_trials(searched.client, searched.experiment).table
    summarise(searched.client, searched.experiment, KEY, ABOUT)
    parent, trials = runs_of(searched)
    best = trials["002"]
    scores = {name for name in best.data.metrics if "/uar" in name or name in ("train/memorised", "best/val_uar")}
    assert {"val/uar", "val_noisy/uar", "train/memorised", "best/val_uar"} <= scores
    assert {name: parent.data.metrics[name] for name in scores} == {name: best.data.metrics[name] for name in scores}
    assert parent.data.metrics["noise_rate"] == 0.4019
    counts = {name: parent.data.metrics[f"trials/{name}"] for name in ("planned", "finished", "stopped", "failed")}
    assert counts == {"planned": 4, "finished": 3, "stopped": 1, "failed": 0}
    tags = parent.data.tags
    assert (tags["chosen.trial"], tags["chosen.run"]) == ("002", best.info.run_id)
    for name in ("loss.exp_base", "loss.transit_time_ratio", "optimizer.lr"):
        assert tags[f"chosen.{name}"] == best.data.params[name]
    assert not parent.data.params
    pd.testing.assert_frame_equal(read_trials(searched.client, searched.experiment).table, before)


def test_its_description_says_what_it_is_and_its_files_can_be_read(searched, tmp_path):
    summarise(searched.client, searched.experiment, KEY, ABOUT)
    parent, trials = runs_of(searched)
    note = parent.data.tags[NOTE]
    for words in (
        "**ProSelfLC** at noise level **noisy-B** (40.19%", "Trial 002 was chosen by", "3 finished, 1 stopped",
        "    ambivalent report --study made", "| 002 |",
    ):  # fmt: skip
        assert words in note
    assert {"best_runs.csv", "trials.png", "noise_manifest.json"} <= files(searched, parent)
    path = searched.client.download_artifacts(parent.info.run_id, "best_runs.csv", str(tmp_path))
    table = pd.read_csv(path, dtype={"trial": str})
    assert (table["trial"][0], set(table["trial"])) == ("002", {"001", "002", "003"})
    assert table["val_noisy/uar"].is_monotonic_decreasing
    assert table["uar"][0] == trials["002"].data.metrics["val/uar"]
    path = searched.client.download_artifacts(parent.info.run_id, "trials.png", str(tmp_path))
    assert Path(path).read_bytes().startswith(b"\x89PNG")


def test_what_is_said_is_not_said_again(searched):
    summarise(searched.client, searched.experiment, KEY, ABOUT)
    calls = Calls(searched.client)
    summarise(calls, searched.experiment, KEY, ABOUT)
    assert calls.names == {"search_runs": 1}
    parent, _ = runs_of(searched)
    history = searched.client.get_metric_history(parent.info.run_id, "val/uar")
    assert [point.step for point in history] == [0]


def test_a_better_trial_of_a_resumed_study_is_shown_and_a_changed_description_stays(store):
    store.search({("proselflc", "noisy-B"): (0.6, 0.5)})
    summarise(store.client, store.experiment, KEY, ABOUT)
    parent, _ = runs_of(store)
    store.client.set_tag(parent.info.run_id, NOTE, "my own words")
    store.search({("proselflc", "noisy-B"): (0.6, 0.5, 0.9)})
    summarise(store.client, store.experiment, KEY, ABOUT)
    parent, trials = runs_of(store)
    assert parent.data.tags["chosen.trial"] == "003"
    assert parent.data.metrics["val/uar"] == trials["003"].data.metrics["val/uar"]
    assert parent.data.metrics["trials/finished"] == 3
    assert parent.data.tags[NOTE] == "my own words"


def test_a_parent_that_was_deleted_and_created_again_says_it_all(store):
    store.search({("proselflc", "noisy-B"): (0.6,)})
    summarise(store.client, store.experiment, KEY, ABOUT)
    first, _ = runs_of(store)
    store.client.delete_run(first.info.run_id)
    tags = {Tag.NOISE_RATE: "0.4019", Tag.PLANNED_TRIALS: "1", "kind": "parent", **KEY}
    store.client.create_run(store.experiment, tags=tags)
    summarise(store.client, store.experiment, KEY, ABOUT)
    parent, _ = runs_of(store)
    assert parent.data.metrics == first.data.metrics
    assert {"best_runs.csv", "trials.png"} <= files(store, parent)


@pytest.mark.parametrize("calls", range(3))
def test_a_store_that_is_lost_at_any_call_has_it_all_after_the_next_time(store, calls):
    store.search({("proselflc", "noisy-B"): (0.6,)})
    with pytest.raises(MlflowException):
        summarise(Calls(store.client, calls), store.experiment, KEY, ABOUT)
    summarise(store.client, store.experiment, KEY, ABOUT)
    parent, trials = runs_of(store)
    assert parent.data.metrics["val/uar"] == trials["001"].data.metrics["val/uar"]
    assert {"best_runs.csv", "trials.png"} <= files(store, parent)


def test_a_search_without_a_finished_trial_has_counts_alone(store):
    store.search({("proselflc", "noisy-B"): (0.6, 0.7)}, stopped=2)
    summarise(store.client, store.experiment, KEY, ABOUT)
    parent, _ = runs_of(store)
    assert parent.data.metrics["trials/stopped"] == 2
    assert "val/uar" not in parent.data.metrics
    assert "No trial has finished" in parent.data.tags[NOTE]


def test_a_confirmation_has_means_over_what_its_folds_chose(store):
    store.confirm(
        {("elr", "noisy-B", "default"): 0.9, ("elr", "noisy-B", "search-1"): 0.5}, folds=(1, 2, 3), seeds=(1,)
    )
    key = {Tag.STUDY: "made-confirm", Tag.SPACE: "elr", Tag.NOISE: "noisy-B"}
    summarise(store.client, store.experiment, key, ABOUT)
    parent, trials = runs_of(store, key)
    tested = [run.data.metrics["test/last/uar"] for run in trials.values() if run.data.tags["candidate"] == "default"]
    assert len(tested) == 3
    assert parent.data.metrics["test/last/uar"] == pytest.approx(sum(tested) / 3)
    assert parent.data.metrics["trials/finished"] == 6
    assert parent.data.tags["chosen.candidates"] == "default × 3"
    assert "In each fold the configuration with the best UAR" in parent.data.tags[NOTE]


def test_no_two_runs_of_an_experiment_share_a_name(store):
    for study in ("first", "second"):
        store.search({("proselflc", "noisy-B"): (0.6, 0.5), ("elr", "clean"): (0.5, 0.7)}, study=study)
    store.confirm({("elr", "clean", "default"): 0.9, ("elr", "clean", "search-1"): 0.5}, folds=(1, 2), seeds=(1, 2))
    runs = search_all(store.client, [store.experiment], "")
    assert len({run.info.run_name for run in runs}) == len(runs) == 2 * (2 + 4) + 1 + 8
    names = {run.info.run_name for run in runs}
    assert {"noisy-B proselflc · first", "trial 002 · clean elr · second"} <= names
    assert "search-1 fold 2 seed 1 · clean elr · made-confirm" in names


def test_an_experiment_gets_a_description_once(store):
    describe_experiment(store.client, store.experiment)
    assert "noisy labels" in store.client.get_experiment(store.experiment).tags[NOTE]
    store.client.set_experiment_tag(store.experiment, NOTE, "mine")
    describe_experiment(store.client, store.experiment)
    assert store.client.get_experiment(store.experiment).tags[NOTE] == "mine"
