"""The first real answer: RAVDESS at noisy-B, from the records of its 48 trainings to the sentence of the report.

``fixtures/ravdess.tar.xz`` has the MLflow database and artifacts of two confirmations with CNN14 × .125 (README): one
declared three noise levels, and its primary comparison was trained; the other trained cross entropy a second time.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score

from analysis.common.families import read_families
from analysis.common.records import open_records
from analysis.common.results import read_results
from analysis.inference import compare_methods
from analysis.options import RecordsOptions
from analysis.page.opening import make_opening
from analysis.report import main
from analysis.sections.significance.section import Options, section
from ser.utils.command_line import run_command
from tests.helpers.archived_records import unpack

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = ROOT / "tests" / "fixtures" / "ravdess.tar.xz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return unpack(ARCHIVE, tmp_path_factory.mktemp("ravdess"), "/study")


@pytest.fixture(scope="module")
def records(folder):
    return open_records(RecordsOptions(f"sqlite:///{folder}/mlflow.db", "ravdess"))


def predictions(records, space, study):
    """Return true and predicted labels of all test utterances of a method, read from its tables as they are."""
    trials = records.confirmed
    mine = trials[(trials["space"] == space) & (trials["study"] == study) & (trials["status"] == "finished")]
    tables = [records.utterances(run_id) for run_id in mine["run_id"]]
    test = pd.concat([table[table["subset"] == "test"] for table in tables])
    columns = [f"p_{name}" for name in records.classes]
    return test["label"].to_numpy(), np.array(records.classes)[test[columns].to_numpy().argmax(axis=1)]


def test_every_speaker_is_tested_once_by_a_network_that_never_heard_them(records):
    design = read_families(records)[0].design
    assert (design.unit, len(design.folds), design.seeds) == ("speaker", 24, (1,))
    assert sorted(name for fold in design.folds for name in fold.test) == [f"Actor_{n:02d}" for n in range(1, 25)]
    for trial in records.confirmed[records.confirmed["status"] == "finished"].to_dict("records"):
        table = records.utterances(trial["run_id"])
        fold = next(fold for fold in design.folds if fold.number == trial["fold"])
        speakers = {name: set(rows["speaker"]) for name, rows in table.groupby("subset")}
        assert speakers["test"] == set(fold.test)
        assert speakers["validation"] == set(fold.validation)
        assert len(speakers["train"]) == 20
        assert not speakers["train"] & (speakers["test"] | speakers["validation"])


def test_the_difference_is_that_of_the_pooled_recalls(records):
    first = read_families(records)[0]
    (row,) = first.primary.to_dict("records")
    scores = [
        recall_score(*predictions(records, space, "ravdess-first"), average="macro")
        for space in ("proselflc", "cross_entropy")
    ]
    assert (row["uar"], row["uar_reference"]) == pytest.approx(scores, abs=1e-12)
    assert row["difference"] == pytest.approx(scores[0] - scores[1], abs=1e-12)
    assert (row["verdict"], row["units"]) == ("no evidence", 24)
    assert row["low"] < 0 < row["high"]
    assert row["p_adjusted"] == pytest.approx(min(1, 2 * row["p"]))


def test_levels_that_were_declared_and_not_trained_have_no_verdict(records):
    first = read_families(records)[0]
    assert len(first.missing) == 96
    others = first.compared[~first.compared["primary"].astype(bool)]
    assert set(others["verdict"]) == {"incomplete"}


def test_the_opening_says_what_was_found_and_for_what(records):
    opening = make_opening(records)
    pending = ("no verdict yet", "verdict pending: 48 trainings missing")
    assert {row.level: (row.method, row.why) for row in opening.advice} == {
        "clean": pending,
        "noisy-A": pending,
        "noisy-B": ("cross entropy", "the reference; nothing shown to be better"),
    }
    assert opening.primary == (
        "Declared beforehand: at noisy-B (40.2% of the labels wrong) there is no evidence that ProSelfLC differs from "
        "cross entropy: its test UAR is 0.6 points lower (95 % interval −3.7 to +2.5, corrected p > 0.999), and 4.9 "
        "points would have been found with 80 % power."
    )
    worse = (
        "At noisy-B (40.2% of the labels wrong) cross entropy with an early stop is worse than cross entropy, by 4.7"
    )
    assert next(line for line in opening.details if "worse" in line).startswith(worse)
    assert opening.details[-1].endswith(
        "of the wrong labels, with cross entropy 12% (mean of 24 trainings; a description, not a test)."
    )
    below = " ".join(section(records, Options()).sentences)
    assert opening.primary in below
    assert "24 folds of one speaker, each with its own seed and noise draw" in below
    assert "96 of 144 planned trainings have not finished" in below


def test_cross_entropy_is_not_found_to_differ_from_itself(records):
    trials = records.confirmed
    wanted = trials[(trials["space"] == "cross_entropy") & (trials["status"] == "finished")]
    results = read_results(records, wanted).table
    assert sorted(results["seed"].unique()) == [1, 2]
    named = results.assign(method=results["seed"].map({1: "first", 2: "second"}), seed=1)
    (row,) = compare_methods(named, "first").to_dict("records")
    assert (row["units"], row["verdict"]) == (24, "no evidence")


def test_the_report_of_these_records_is_written(folder, tmp_path, monkeypatch, capsys):
    where = ("--tracking-uri", f"sqlite:///{folder}/mlflow.db", "--output", str(tmp_path / "report"))
    monkeypatch.setattr("sys.argv", ["report.py", *where])
    assert run_command(main) == 0, capsys.readouterr().err
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "there is no evidence that ProSelfLC differs from cross entropy" in page
    assert (tmp_path / "report" / "significance" / "significance.svg").exists()
    assert "loss.name: cross_entropy" in (tmp_path / "report" / "recommended-noisy-B.yaml").read_text()
