"""Folds in the records: trials on different folds are not mixed, and classes that a fold lacks are said."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ser.corpora import Corpus, load
from ser.splits import FORMER_AUTO, split
from ser.training.task import make_task
from ser.utils.errors import UserError
from study.console import make_console
from study.options import StudyOptions
from study.schema import CONFIRM, SEARCH, SELECTIONS, Tag, absent_of, absent_tag
from study.search.progress import SearchProgress
from study.setup.prepare import fold_digest, prepare, protocol
from study.tracking.searches import absent_remarks
from study.trial.specification import DONE, EPOCH, TRIAL_KEY


@pytest.fixture
def unbalanced(tmp_path):
    """Corpus of nine speakers of three classes, one class each; the third class has two speakers."""
    labels = {f"s{place}": "abc"[0 if place < 4 else 1 if place < 7 else 2] for place in range(9)}
    rows = [(speaker, label) for speaker, label in labels.items() for _ in range(4)]
    table = pd.DataFrame(rows, columns=["speaker", "label"])
    table["utterance_id"] = [f"u{row:02d}" for row in range(len(table))]
    table["path"] = [f"/audio/{row}.wav" for row in range(len(table))]
    return Corpus("toy", table, ("a", "b", "c"), tmp_path)


def test_a_fold_that_version_0_1_had_keeps_its_protocol():
    corpus, options = load("synthetic"), StudyOptions()
    fold = split(corpus)
    assert fold_digest(options, corpus, fold) == ""
    assert protocol(options, corpus, fold.unit, 5, 0) == protocol(options, corpus, fold.unit, 5, 0, "")


def test_trials_on_other_folds_of_one_number_have_another_protocol(unbalanced):
    begun = StudyOptions(split_by=FORMER_AUTO)  # as a resumed study of version 0.1 has it
    former, today = split(unbalanced, 1, FORMER_AUTO), split(unbalanced, 1)
    assert not np.array_equal(former.test, today.test)
    assert fold_digest(StudyOptions(fold=1, split_by=begun.split_by), unbalanced, former) == ""
    found = fold_digest(StudyOptions(fold=1), unbalanced, today)
    protocols = {protocol(begun, unbalanced, today.unit, 1, 0, rows) for rows in ("", found)}
    assert len(protocols) == 2


def test_a_trial_records_the_classes_that_its_subsets_lack(unbalanced, tmp_path):
    fold = split(unbalanced)
    task = make_task(unbalanced, fold, tmp_path, "clean", 0, with_test=True)
    lacking = {
        subset: sorted(set("abc") - set(unbalanced.table["label"].iloc[rows])) for subset, rows in fold.subsets.items()
    }
    assert any(lacking.values())
    found = absent_of(absent_tag(task.absent))
    assert {name: found.get(name, []) for name in lacking} == lacking
    assert found.get("validation_noisy", []) == lacking["validation"]
    whole = make_task(load("synthetic"), split(load("synthetic")), tmp_path, "clean", 0)
    assert absent_tag(whole.absent) == {}


def run(stage, fold, absent):
    """Return a run as MLflow's client has it."""
    tags = {Tag.STAGE: stage, Tag.FOLD: fold, Tag.NOISE: "clean", **absent_tag(absent)}
    dataset = SimpleNamespace(profile='{"classes": ["a", "b", "c"]}')
    return SimpleNamespace(
        info=SimpleNamespace(run_id=fold, start_time=0),
        data=SimpleNamespace(tags=tags),
        inputs=SimpleNamespace(dataset_inputs=[SimpleNamespace(dataset=dataset)]),
    )


def test_tables_and_reports_say_over_which_classes_uar_is(monkeypatch):
    monkeypatch.setattr("study.tracking.searches.classes_of_any", lambda runs: ["a", "b", "c"])
    runs = [run(SEARCH, "3", {"validation": ["c"], "validation_noisy": ["c"]}), run(CONFIRM, "2", {"test": ["a", "b"]})]
    assert absent_remarks([*runs, run(CONFIRM, "4", {"test": ["a", "b"]}), run(CONFIRM, "5", {})]) == [
        "UAR over 2 of 3 classes (validation has no c): the search at clean.",
        "UAR over 1 of 3 classes (test has no a and no b): fold 2, fold 4.",
    ]
    assert absent_remarks([run(CONFIRM, "5", {})]) == []


def test_progress_says_over_which_classes_a_score_is(monkeypatch):
    said = []
    progress = SearchProgress("elr clean", [], 2, 1, SELECTIONS["noisy"], {1: "over 2 of 3 classes", 2: ""})
    monkeypatch.setattr(progress, "tell", said.append)
    monkeypatch.setattr(progress, "_show", lambda trials: None)
    for number in (1, 2):
        result = {"val_noisy/uar": 0.5, DONE: True, EPOCH: 1}
        progress.on_trial_complete(1, [], SimpleNamespace(config={TRIAL_KEY: number}, last_result=result))
    assert said == ["trial 1: val_noisy/uar 0.500 over 2 of 3 classes (best)", "trial 2: val_noisy/uar 0.500"]


def test_a_search_on_a_validation_of_one_class_is_refused_before_anything_is_read(tmp_path):
    rows = [f"u{place},{place}.wav,s{place % 4},{'ab'[place % 4 % 2]}" for place in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["utterance_id,path,speaker,label", *rows]) + "\n")
    for place in range(40):
        (tmp_path / f"{place}.wav").write_bytes(b"")
    options = StudyOptions(
        corpus="table", corpus_root=tmp_path / "t.csv", storage_path=tmp_path / "results", noise=("clean",)
    )
    with pytest.raises(UserError, match=r"has one class alone.*Choose another fold"):
        prepare(options, make_console())
    assert not (tmp_path / "results" / "features").exists()
