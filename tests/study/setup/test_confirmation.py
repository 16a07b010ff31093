"""Tests of what a confirmation trains, and what it recommends."""

import math

import pytest
import yaml

from ser.config import Config
from ser.utils.errors import UserError
from study.commands.confirm import recommend, summary
from study.options import ConfirmOptions
from study.schema import SELECTIONS
from study.setup.candidates import choose
from study.setup.confirmation import chosen_folds
from study.setup.spaces import load_space
from study.tracking.confirmations import confirmed_table
from study.tracking.searches import Trials, read_trials
from study.tracking.store import experiment_id, open_client, search_all
from tests.helpers.made_records import make_confirm, make_search


@pytest.fixture
def store(tmp_path):
    uri = f"sqlite:///{tmp_path}/m.db"
    client = open_client(uri)
    return client, experiment_id(client, uri, "made")


def confirmed(store):
    client, experiment = store
    return confirmed_table(search_all(client, [experiment], "tags.stage = 'confirm' and tags.kind = 'trial'"))[0]


def trials_with(store, folder, configurations):
    """Return a search whose trials have these configurations; the last one has the best score."""
    client, experiment = store
    skills = [0.3 + 0.1 * number for number in range(len(configurations))]
    make_search(client, experiment, folder, {("cross_entropy", "noisy-B"): skills})
    trials = read_trials(client, experiment)
    order = {f"{number:03d}": values for number, values in enumerate(configurations, start=1)}
    table = trials.table.assign(all_parameters=[order[number] for number in trials.table["trial"]])
    return Trials(table, trials.selection, trials.chance, trials.others)


def test_the_best_and_the_default_are_confirmed(store, tmp_path):
    spaces = {"cross_entropy": load_space("cross_entropy", {})}
    rates = [{"optimizer.lr": rate} for rate in (1e-4, 2e-3, 3e-3)]
    found = choose(trials_with(store, tmp_path, rates), spaces, {}, top=2)
    assert [(one.name, one.configuration["optimizer.lr"]) for one in found] == [
        ("search-1", 3e-3), ("search-2", 2e-3), ("default", 1e-3),
    ]  # fmt: skip
    assert [bool(one.source) for one in found] == [True, True, False]


def test_a_default_that_was_best_is_confirmed_once(store, tmp_path):
    space = load_space("cross_entropy", {})
    default = Config.from_dotted(next(iter(space.examples()))).to_dotted()
    found = choose(trials_with(store, tmp_path, [{"optimizer.lr": 1e-4}, default]), {"cross_entropy": space}, {}, top=2)
    assert [one.name for one in found] == ["search-2", "default"]
    assert all(one.source for one in found)


def test_folds_are_all_the_held_out_one_or_numbers():
    assert chosen_folds(("all",), 5, 5) == (1, 2, 3, 4, 5)
    assert chosen_folds(("held-out",), 5, 4) == (4,)
    assert chosen_folds(("5", "2", "5"), 5, 4) == (5, 2)
    for wrong in (("6",), ("0",), ("x",), (), ("all", "1")):
        with pytest.raises(UserError, match="--folds"):
            chosen_folds(wrong, 5, 5)


@pytest.mark.parametrize("options", [{"seeds": 0}, {"top": -1}, {"resume": True}])
def test_mistakes_in_the_call_are_reported(options):
    with pytest.raises(UserError, match=r"--(seeds|top|resume)"):
        ConfirmOptions(**options)


def test_the_choice_is_made_on_validation_scores_and_the_test_score_is_reported(store, tmp_path):
    client, experiment = store
    skills = {
        ("cross_entropy", "noisy-B", "default"): 0.5, ("cross_entropy", "noisy-B", "search-1"): 0.8,
        ("proselflc", "noisy-B", "default"): 0.6,
    }  # fmt: skip
    make_confirm(client, experiment, tmp_path / "o", skills, seeds=(1, 2), folds=(3, 4))
    table = confirmed(store)
    text = summary(table, SELECTIONS["noisy"])
    assert "cross_entropy search-1: 0.8" in text
    assert "cross_entropy default" not in text
    assert "the held-out fold" in text
    assert "folds seen by the search" in text
    (path,) = recommend(table, SELECTIONS["noisy"], tmp_path / "recommended")
    assert path.name == "recommended-noisy-B.yaml"
    written = path.read_text()
    assert "cross_entropy, search-1" in written
    values = Config.from_dotted(yaml.safe_load(written))
    assert values.loss.name == "cross_entropy"
    mean = table[(table["space"] == "cross_entropy") & (table["candidate"] == "search-1") & ~table["seen"]][
        "uar"
    ].mean()
    assert f"Test UAR {mean:.3f} over 2 trials, on the fold that the search held out." in written
    assert not math.isnan(mean)


def test_without_the_held_out_fold_the_scores_are_called_seen(store, tmp_path):
    client, experiment = store
    make_confirm(client, experiment, tmp_path / "o", {("proselflc", "clean", "default"): 0.6}, folds=(1,))
    table = confirmed(store)
    assert "the held-out fold" not in summary(table, SELECTIONS["noisy"])
    (path,) = recommend(table, SELECTIONS["noisy"], tmp_path / "recommended")
    assert "on folds that the search has seen" in path.read_text()
