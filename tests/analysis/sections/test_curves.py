"""Curves over epochs: means known by hand, which runs are shown, and the command line."""

import sys

import numpy as np
import pandas as pd
import pytest

from analysis.common.records import RecordsOptions, open_records
from analysis.sections.curves import section as curves
from analysis.sections.curves.epochs import MEMORISED, VALIDATION_F1, Line, mean_curves, summarise
from ser.utils.command_line import run_command
from ser.utils.errors import UserError
from study.tracking.store import experiment_id, open_client
from tests.helpers.made_records import EPOCHS, make_confirm, make_search

VALUES = {
    ("r1", VALIDATION_F1): [0.2, 0.6, 0.5],
    ("r2", VALIDATION_F1): [0.4, 0.8, 0.5],
    ("r1", MEMORISED): [0.1, 0.2, 0.3],
}


def curve(run_id, metric):
    values = VALUES.get((run_id, metric), [])
    return pd.Series(values, index=range(1, len(values) + 1), dtype=float)


def test_the_mean_and_the_spread_of_two_runs_are_known():
    table = mean_curves([Line("noisy-A", "elr", "default", ("r1", "r2"))], curve)
    validation = table[table["metric"] == VALIDATION_F1]
    assert validation["mean"].tolist() == pytest.approx([0.3, 0.7, 0.5])
    assert validation["deviation"].tolist() == pytest.approx([np.sqrt(0.02), np.sqrt(0.02), 0])
    assert table[table["metric"] == MEMORISED]["runs"].tolist() == [1, 1, 1]
    (row,) = summarise(table).to_dict("records")
    assert (row["best_epoch"], row["epochs"], row["runs"]) == (2, 3, 2)
    assert (row["best_f1"], row["drop"], row["memorised"]) == pytest.approx((0.7, 0.2, 0.3))
    assert np.isnan(row["soft_ce"])


def test_runs_without_curves_give_an_empty_table():
    assert mean_curves([Line("clean", "elr", "default", ("none",))], curve).empty


def test_trust_is_known_of_losses_that_have_it():
    parameters = {"loss.transit_time_ratio": "0.7", "loss.exp_base": "6"}
    assert Line("clean", "proselflc", "", ("r1",), parameters).trust == (0.7, 6.0)
    assert Line("clean", "elr", "", ("r1",)).trust is None


@pytest.fixture
def store(tmp_path):
    uri = f"sqlite:///{tmp_path}/m.db"
    client = open_client(uri)
    experiment = experiment_id(client, uri, "made")
    skills = {(space, noise): [0.5, 0.9] for space in ("proselflc", "cross_entropy") for noise in ("clean", "noisy-B")}
    make_search(client, experiment, tmp_path / "s", skills)
    return uri, client, experiment, tmp_path


def test_without_a_confirmation_the_best_trials_are_shown(store):
    uri, *_ = store
    found = curves.section(open_records(RecordsOptions(uri, "made")))
    assert any("study/confirm.py" in line for line in found.missing)
    summary, points = (table.data for table in found.tables)
    assert summary["detail"].tolist() == ["trial 002"] * 4
    assert set(points["epoch"]) == set(range(1, EPOCHS + 1))
    assert {figure.name for figure in found.figures} == {"curves", "trust"}
    assert any("proselflc (τ 0.24, B 6) ends at 0.99" in line for line in found.sentences)


def test_the_confirmed_representatives_are_shown_on_unseen_folds(store):
    uri, client, experiment, folder = store
    skills = {("proselflc", "noisy-B", "default"): 0.5, ("proselflc", "noisy-B", "search-1"): 0.9}
    make_confirm(client, experiment, folder / "s", skills, folds=(3, 4))
    found = curves.section(open_records(RecordsOptions(uri, "made")))
    (row,) = found.tables[0].data.to_dict("records")
    assert (row["detail"], row["runs"], row["noise"]) == ("search-1", 3, "noisy-B")
    assert not any("confirm.py" in line for line in found.missing)
    assert "nan" not in " ".join(found.sentences)


def test_any_runs_can_be_shown(store, monkeypatch, capsys):
    uri, _, _, folder = store
    records = open_records(RecordsOptions(uri, "made"))
    first, second = records.search.table["run_id"].iloc[:2]
    out = folder / "out"
    base = ["curves.py", "--tracking-uri", uri, "--output", str(out), "--run"]
    monkeypatch.setattr(sys, "argv", [*base, first, second])
    assert run_command(curves.main) == 0
    assert {"curves.csv", "epochs.csv", "curves.svg", "curves.pdf", "curves.png"} <= {
        path.name for path in out.iterdir()
    }
    assert pd.read_csv(out / "curves.csv")["line"].nunique() == 2
    monkeypatch.setattr(sys, "argv", [*base, "none"])
    assert run_command(curves.main) == 2
    assert "best_runs.csv" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*base, first, "--experiment", "made"])
    assert run_command(curves.main) == 2
    with pytest.raises(UserError, match="twice"):
        curves.section(records, [first, first])
    parent = records.client.get_run(first).data.tags["mlflow.parentRunId"]
    with pytest.raises(UserError, match="no trial"):
        curves.section(records, [parent])
