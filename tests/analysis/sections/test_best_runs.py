"""Scores of the confirmed configurations: means over trainings, early stops, and their difference from the search."""

import re

import numpy as np
import pandas as pd
import pytest

from analysis.sections.best_runs.confirmed_scores import (
    change_sentences,
    confirmed_scores,
    confirmed_text,
    notes,
    parameters_table,
)
from analysis.sections.best_runs.section import Options, section
from study.schema import CHOSEN_BY, TRAINED_BY, Tag
from tests.helpers.confirmed_records import confirmed_records

TEN = {1: range(5), 2: range(5, 10)}


def constant(right):
    return lambda speaker, seed: right


def made(methods=None, **options):
    cells = methods or {("clean", "elr"): constant(5)}
    return confirmed_records(cells, folds=TEN, **{"candidate": "search-1", **options})


def scores_of(records, searched=None):
    return confirmed_scores(records.confirmed, searched or {})


def test_scores_are_means_over_trainings():
    records = made({("clean", "elr"): lambda speaker, seed: 4 + seed + (speaker >= 5)}, seeds=(1, 2))
    (row,) = scores_of(records, {"clean-elr": 0.8}).to_dict("records")
    assert row["uar"] == pytest.approx(np.mean([0.5, 0.6, 0.6, 0.7]))
    assert row["deviation"] == pytest.approx(np.std([0.5, 0.6, 0.6, 0.7], ddof=1))
    assert row["drop"] == pytest.approx(0.8 - row["uar"])
    assert (row["folds"], row["seeds"], row["trainings"]) == (2, 2, 4)
    assert (row["uar_best_epoch"], row["best_epoch"], row["validation_uar"]) == (0.9, 3, pytest.approx(0.6))
    assert row["optimizer.lr"] == "0.001"


def test_the_early_stop_is_next_to_the_last_epoch_and_the_oracle_is_marked():
    (shown,) = confirmed_text(scores_of(made())).to_dict("records")
    assert (shown["test UAR"], shown["early stop (epoch)"]) == ("50.0 ± 0.0", "45.0 (2)")
    assert shown["oracle (epoch)"] == "90.0 (3)"


@pytest.mark.parametrize(("searched", "change"), [(0.6, "−8.0"), (0.4, "+12.0"), (0.48, "+4.0")])
def test_the_change_from_the_search_has_the_sign_of_its_direction(searched, change):
    """Test UAR is .5 for both methods, whose scores in the search differ by .04."""
    records = made({("clean", name): constant(5) for name in ("cross_entropy", "elr")})
    scores = scores_of(records, {"clean-elr": searched, "clean-cross_entropy": searched - 0.04})
    (sentence,) = change_sentences(scores)
    assert f"{change} points at clean (2 configurations)" in sentence
    shown = confirmed_text(scores).set_index("method")
    assert shown.at["ELR", "change"].startswith(change[0])
    assert change_sentences(scores_of(records)) == []
    assert "change" not in confirmed_text(scores_of(records))


def test_what_the_search_did_with_the_test_speakers_is_shown():
    records = made(exposure={("elr", 1): CHOSEN_BY, ("elr", 2): TRAINED_BY})
    scores = scores_of(records, {"clean-elr": 0.6})
    assert confirmed_text(scores)["test speakers"].tolist() == ["chosen by", "trained on"]
    assert "−10.0 points at clean (1 configuration)" in change_sentences(scores)[0]
    assert any("no clean test" in note for note in notes(records, scores))
    unseen = scores_of(made())
    assert "test speakers" not in confirmed_text(unseen)
    assert not any("test speakers: " in note for note in notes(made(), unseen))


def test_parameters_of_a_configuration_are_listed_once_for_all_levels():
    records = made({(level, "elr"): constant(5) for level in ("clean", "noisy-A")})
    (row,) = parameters_table(None, scores_of(records)).text.to_dict("records")
    assert row == {
        "method": "ELR", "noise": "clean and noisy-A", "configuration": "best of search", "parameters": "lr=0.001",
    }  # fmt: skip


def test_parameters_that_differ_by_fold_are_said_to():
    records = made()
    records.confirmed["parameters"] = [{"optimizer.lr": str(fold)} for fold in records.confirmed["fold"]]
    assert parameters_table(None, scores_of(records)).text["parameters"].tolist() == ["differ by fold"]


def test_uar_over_fewer_classes_is_said_on_the_axis_and_in_the_caption(made_store):
    made_store.search({("elr", "clean"): [0.9]}, tags={Tag.ABSENT: '{"validation": ["sad"]}'})
    found = section(made_store.records(), Options())
    (axes,) = found.figures[0].figure.axes
    assert axes.get_ylabel() == "validation UAR against true labels,\nover 3 of 4 classes, %"
    assert "against true labels (over 3 of 4 classes)" in found.tables[0].caption


def test_best_runs_show_both_stages(made_store, tmp_path, call_section):
    made_store.search({("elr", "clean"): [0.9]})
    early = made_store.records()
    found = section(early, Options())
    assert [table.name for table in found.tables] == ["best_runs", "best_runs_parameters"]
    assert re.search(r"To confirm: python study/confirm\.py --experiment made", found.missing[0])
    (source,), (score,) = (early.search.table[name] for name in ("run_id", "uar"))
    assert found.figures[0].hover == {"best_runs-0": f"ELR, clean, trial 1: {score:.1%}"}
    skills = {("elr", "clean", "search-1"): 0.5, ("elr", "clean", "default"): 0.4}
    made_store.confirm(skills, folds=(3, 4), seeds=(1, 2), source=source)
    where = ["--tracking-uri", made_store.uri, "--output", str(tmp_path / "out")]
    code, printed, error = call_section("best_runs", *where)
    assert (code, error) == (0, "")
    best = pd.read_csv(tmp_path / "out" / "best_runs.csv")
    table = pd.read_csv(tmp_path / "out" / "best_runs_confirmed.csv").set_index("candidate")
    winner = table.loc["search-1"]
    assert set(winner["search_uar"]) == {best["uar"].iloc[0]}
    assert winner["drop"].to_numpy() == pytest.approx(best["uar"].iloc[0] - winner["uar"].to_numpy())
    assert np.isnan(table.loc["default", "drop"])
    assert "points at clean (1 configuration)" in printed
    assert not re.search(r"\bnan\b", printed)
    confirmed = made_store.records().confirmed
    mine = confirmed[confirmed["candidate"] == "search-1"]
    for exposure, fold in (("trained_by", 3), ("unseen", 4)):
        (uar,) = table.loc[(table.index == "search-1") & (table["exposure"] == exposure), "uar"]
        assert uar == pytest.approx(mine.loc[mine["fold"] == fold, "uar"].mean())
    assert {f"best_runs.{suffix}" for suffix in ("csv", "md", "tex", "svg", "png")} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    code, _, error = call_section("best_runs", *where, "--study", "mad")
    assert code == 2
    assert "unknown study 'mad'. Did you mean 'made'? Known: made, made-confirm." in error
    assert call_section("best_runs", *where, "--top", "0")[0] == 2
