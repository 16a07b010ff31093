"""Scores of the confirmed configurations: pooled, with their spread, and their difference from the search."""

import re

import numpy as np
import pandas as pd
import pytest

from analysis.sections.best_runs.confirmed_scores import (
    confirmed_scores,
    confirmed_text,
    difference_sentences,
    parameters_text,
)
from analysis.sections.best_runs.section import Options, section
from analysis.sections.significance.comparisons import HELD_OUT, SEEN, read_tested
from tests.helpers.confirmed_records import confirmed_records

TEN = {1: range(5), 2: range(5, 10)}


def scores_of(records, searched=None):
    return confirmed_scores(read_tested(records, defaults=True), len(records.classes), searched or {})


def test_scores_are_means_over_seeds_of_pooled_folds():
    methods = {("clean", "elr"): lambda speaker, seed: 9 if speaker == 0 else 4 + seed}
    (row,) = scores_of(confirmed_records(methods, folds={1: [0], 2: range(1, 10)}), {"clean-elr": 0.8}).to_dict(
        "records"
    )
    by_seed = [(9 + 9 * (4 + seed)) / 100 for seed in (1, 2)]
    assert row["uar"] == pytest.approx(np.mean(by_seed))
    assert row["sd_seeds"] == pytest.approx(np.std(by_seed, ddof=1))
    assert row["low"] <= row["uar"] < row["high"] < 0.9
    assert row["drop"] == pytest.approx(0.8 - row["uar"])
    assert (row["speakers"], row["seeds"], row["fold_names"], row["trials"]) == (10, 2, "1, 2", 4)
    assert (row["uar_best_epoch"], row["best_epoch"], row["validation_uar"]) == (0.9, 3, pytest.approx(0.6))
    assert row["optimizer.lr"] == "0.001"


def test_the_drop_is_reported_for_each_level():
    methods = {("clean", name): (lambda speaker, seed: 5) for name in ("cross_entropy", "elr")}
    scores = scores_of(confirmed_records(methods, folds=TEN), {"clean-elr": 0.6, "clean-cross_entropy": 0.54})
    (sentence,) = difference_sentences(scores)
    assert "cross_entropy search-1 0.540, then 0.500; elr search-1 0.600, then 0.500. Mean drop +7.0" in sentence
    assert difference_sentences(scores_of(confirmed_records(methods, folds=TEN))) == []


def test_without_tables_or_a_search_there_is_a_mean_and_no_interval():
    records = confirmed_records({("clean", "elr"): lambda speaker, seed: 5}, folds=TEN, seeds=[1])
    records._tables.update(dict.fromkeys(records._tables))
    scores = scores_of(records)
    (row,) = scores.to_dict("records")
    assert (row["uar"], row["speakers"]) == (0.5, 0)
    (shown,) = confirmed_text(scores).to_dict("records")
    assert (shown["test UAR"], shown["95 % interval"], shown["drop"], shown["search val"]) == ("0.500", "–", "–", "–")


def test_defaults_stand_beside_the_chosen_one_and_seen_folds_apart():
    records = confirmed_records({("clean", "elr"): lambda speaker, seed: 5}, folds=TEN, held_out=[2])
    more = [
        records.confirmed.assign(candidate=name, selected=selected, run_id=lambda table: name + table["run_id"])  # noqa: B023
        for name, selected in (("default", 0.4), ("search-2", 0.3))
    ]
    records.confirmed = pd.concat([records.confirmed, *more], ignore_index=True)
    for table in more:
        records._tables.update(dict.fromkeys(table["run_id"]))
    scores = scores_of(records)
    assert set(zip(scores["folds"], scores["candidate"], strict=True)) == {
        (part, name) for part in (HELD_OUT, SEEN) for name in ("search-1", "default")
    }


def test_parameters_that_differ_by_fold_are_said_to():
    records = confirmed_records({("clean", "elr"): lambda speaker, seed: 5}, folds=TEN)
    records.confirmed["parameters"] = [{"optimizer.lr": str(fold)} for fold in records.confirmed["fold"]]
    assert parameters_text(scores_of(records))["parameters"].tolist() == ["differ by fold"]


def test_best_runs_show_both_stages(made_store, tmp_path, call_section):
    made_store.search({("elr", "clean"): [0.9]})
    early = made_store.records()
    found = section(early, Options())
    assert [table.name for table in found.tables] == ["best_runs"]
    assert re.search(r"To confirm: python study/confirm\.py --experiment made", found.missing[0])
    (source,) = early.search.table["run_id"]
    skills = {("elr", "clean", "search-1"): 0.5, ("elr", "clean", "default"): 0.4}
    made_store.confirm(skills, folds=(3, 4), seeds=(1, 2), source=source)
    where = ["--tracking-uri", made_store.uri, "--output", str(tmp_path / "out")]
    code, printed, error = call_section("best_runs", *where)
    assert (code, error) == (0, "")
    best = pd.read_csv(tmp_path / "out" / "best_runs.csv")
    table = pd.read_csv(tmp_path / "out" / "best_runs_confirmed.csv").set_index("candidate")
    assert table.loc["search-1", "search_uar"] == best["uar"].iloc[0]
    assert table.loc["search-1", "drop"] == pytest.approx(best["uar"].iloc[0] - table.loc["search-1", "uar"])
    assert np.isnan(table.loc["default", "drop"])
    assert "clean, validation UAR in the search, then test UAR on new seeds: elr search-1" in printed
    assert not re.search(r"\bnan\b", printed)
    confirmed = made_store.records().confirmed
    mine = confirmed[(confirmed["candidate"] == "search-1") & (confirmed["fold"] == 4)]
    assert table.loc["search-1", "uar"] == pytest.approx(mine["uar"].mean())
    assert {f"best_runs.{suffix}" for suffix in ("csv", "md", "tex", "svg", "png")} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    code, _, error = call_section("best_runs", *where, "--study", "mad")
    assert code == 2
    assert "unknown study 'mad'. Did you mean 'made'? Known: made." in error
    assert call_section("best_runs", *where, "--top", "0")[0] == 2
