"""Training curves: means known by hand, which runs are shown, and the command line."""

import numpy as np
import pandas as pd
import pytest

from analysis.sections.curves.epochs import MEMORISED, VALIDATION_F1, Line, mean_curves, summarise
from analysis.sections.curves.section import Options, confirmed_lines, section, sentences
from ser.utils.errors import UserError
from study.schema import CHOSEN_BY
from tests.helpers.made_records import EPOCHS

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


def summary_of(**columns):
    table = {"noise": "noisy-A", "line": ["elr", "focal"], "validation_f1": [0.5, 0.4], "drop": [0.0, 0.0]}
    return pd.DataFrame({**table, "changed": [0.0, 0.0], "memorised": [np.nan, np.nan], **columns})


def test_sentences_name_values_falls_and_what_all_methods_share():
    (f1,) = sentences(summary_of())
    assert f1 == "At noisy-A, validation F1 after the last epoch is 50.0% with ELR and 40.0% with focal loss."
    assert "fall from the best epoch is 3.0 points with focal loss" in sentences(summary_of(drop=[0.0, 0.03]))[0]
    (_, memorised) = sentences(summary_of(memorised=[0.2, 0.2]))
    assert memorised.endswith("last epoch: 20.0% with each method at noisy-A.")
    (_, changed) = sentences(summary_of(changed=[0.1, 0.0]))
    assert changed.endswith("last epoch: 10.0% with ELR at noisy-A.")
    assert sentences(summary_of(validation_f1=[np.nan, np.nan])) == []


def test_levels_are_in_the_order_of_their_noise_rates(made_store):
    made_store.confirm({("elr", noise, "default"): 0.5 for noise in ("noisy-B", "clean", "noisy-A")})
    lines = confirmed_lines(made_store.records())
    assert [line.noise for line in lines] == ["clean", "noisy-A", "noisy-B"]


@pytest.fixture(scope="module")
def searched(new_made_store):
    store = new_made_store()
    spaces, levels = ("proselflc", "cross_entropy"), ("clean", "noisy-B")
    store.search({(space, noise): [0.5, 0.9] for space in spaces for noise in levels})
    return store


def test_without_a_confirmation_the_best_trials_are_shown(searched):
    found = section(searched.records(), Options())
    assert any("study/confirm.py" in line for line in found.missing)
    summary, points = (table.data for table in found.tables)
    assert summary["detail"].tolist() == ["002"] * 4
    assert found.tables[0].text["configuration"].tolist() == ["trial 2"] * 4
    assert {"ProSelfLC", "cross entropy"} == set(found.tables[0].text["method"])
    assert set(points["epoch"]) == set(range(1, EPOCHS + 1))
    assert {figure.name for figure in found.figures} == {"curves", "trust"}
    assert any("0.99 with ProSelfLC at clean (τ = 0.24, B = 6)" in line for line in found.sentences)
    (shown,) = (figure for figure in found.figures if figure.name == "curves")
    f1 = summary[(summary["noise"] == "clean") & (summary["line"] == "proselflc")]["validation_f1"].item()
    assert f"ProSelfLC, clean, epoch {EPOCHS}, validation F1: {f1:.1%}" in shown.hover.values()
    drawn = {artist.get_gid() for axes in shown.figure.axes for artist in axes.lines}
    assert set(shown.hover) <= drawn


def test_the_confirmed_representatives_are_shown_on_folds_that_did_not_choose_them(made_store):
    skills = {("proselflc", "noisy-B", "default"): 0.5, ("proselflc", "noisy-B", "search-1"): 0.9}
    made_store.confirm(skills, folds=(3, 4), exposure=CHOSEN_BY)
    found = section(made_store.records(), Options())
    (row,) = found.tables[0].data.to_dict("records")
    assert (row["detail"], row["runs"], row["noise"]) == ("search-1", 3, "noisy-B")
    assert not any("confirm.py" in line for line in found.missing)
    assert "nan" not in " ".join(found.sentences)


def test_any_runs_can_be_shown(searched, tmp_path, call_section):
    records = searched.records()
    first, second = records.search.table["run_id"].iloc[:2]
    base = ["--tracking-uri", searched.uri, "--output", str(tmp_path), "--run"]
    assert call_section("curves", *base, first, second)[0] == 0
    assert {"curves.csv", "epochs.csv", "curves.svg", "curves.pdf", "curves.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert pd.read_csv(tmp_path / "curves.csv")["line"].nunique() == 2
    code, _, error = call_section("curves", *base, "none")
    assert code == 2
    assert "best_runs.csv" in error
    assert call_section("curves", *base, first, "--experiment", "made")[0] == 2
    with pytest.raises(UserError, match="twice"):
        section(records, Options(run=(first, first)))
    parent = records.client.get_run(first).data.tags["mlflow.parentRunId"]
    with pytest.raises(UserError, match="no trial"):
        section(records, Options(run=(parent,)))
