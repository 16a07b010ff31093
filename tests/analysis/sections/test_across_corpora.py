"""Trainings of a confirmation on their own test speakers and on other corpora."""

import shlex
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis.common.designs import data_options
from analysis.common.style import method_style
from analysis.page.reproduction import reproduction_commands
from analysis.sections.across_corpora import section as module
from analysis.sections.across_corpora.figures import corpus_heading
from analysis.sections.across_corpora.section import Options, section
from analysis.sections.across_corpora.tested import read_tested
from ser.metrics.intervals import crossed_interval
from study.schema import ACROSS_CORPORA, DESIGN, in_words
from study.setup.design import Design, OtherCorpus
from tests.helpers.confirmed_records import CLASSES, confirmed_records, named

SIX = {fold: [fold] for fold in range(1, 7)}
CALLS = OtherCorpus("calls", "table", "/calls.csv", {}, "d", {"angry": "anger", "sad": "sad"})
SPACES = ("cross_entropy", "elr")
STRANGERS = [f"c{number}" for number in range(8)]


@pytest.fixture(autouse=True)
def no_other_experiment(monkeypatch):
    monkeypatch.setattr(module, "search_all", lambda *_: [])


def made(right, *, folds=SIX, unit="speaker", seeds=(1,), unfinished=()):
    """Return records of trainings whose right predictions on the other corpus are ``right(space, fold, seed, s)``."""
    own = {("clean", space): (lambda speaker, seed, more=place: 5 + more) for place, space in enumerate(SPACES)}
    records = confirmed_records(own, folds=folds, unit=unit, seeds=seeds, unfinished=unfinished)
    (key,) = [key for key in records.results if key[1] == DESIGN]
    records.results[key] = _with_calls(records, key)
    for trial in records.confirmed.to_dict("records"):
        rows = [
            ("calls", speaker, label, right(trial["space"], trial["fold"], trial["seed"], place), 10)
            for place, speaker in enumerate(STRANGERS)
            for label in CLASSES
        ]
        records.results[trial["run_id"], ACROSS_CORPORA] = pd.DataFrame(
            rows, columns=["corpus", "speaker", "label", "correct", "total"]
        )
    records.client = SimpleNamespace(search_experiments=lambda: [])
    return records


def _with_calls(records, key):
    design = replace(Design.of(records.results[key]), test_corpora=(CALLS,))
    records.confirmed["design"] = design.digest
    return design.to_json()


def varied(space, fold, seed, speaker):
    return 4 + (fold + seed) % 2 + speaker % 3 + (space == "elr")


def test_the_table_holds_own_and_other_corpora_with_their_units():
    scores = read_tested(made(varied)).scores.set_index(["tested", "method"])
    own, other = scores.loc[("made", "elr")], scores.loc[("calls", "elr")]
    assert own["uar"] == pytest.approx(0.6)
    assert (own["low"], own["high"]) == pytest.approx((0.6, 0.6))  # all folds have the same score
    assert (own["units"], own["speakers"], other["units"], other["speakers"]) == (6, 6, 6, 8)
    counts = np.array(
        [[[varied("elr", fold, 1, place)] * 2 for place in range(8)] for fold in range(1, 7)], dtype=float
    )
    expected = crossed_interval(counts, np.full((8, 2), 10))
    assert (other["uar"], other["low"], other["high"]) == pytest.approx(
        (expected.estimate, expected.low, expected.high)
    )
    assert other["utterances"] == 160
    assert other["difference"] == pytest.approx(0.1)
    assert other["difference_low"] == pytest.approx(0.1)  # the same for every training and speaker
    assert pd.isna(scores.loc[("calls", "cross_entropy"), "difference"])


def test_seeds_of_a_fold_are_one_unit_and_those_of_an_official_split_are_units():
    folds = read_tested(made(varied, seeds=(1, 2))).scores
    assert set(folds["units"]) == {6}
    assert set(folds["trainings"]) == {12}
    official = read_tested(made(varied, folds={1: [1, 2, 3]}, unit="training", seeds=(1, 2, 3, 4))).scores
    assert set(official["units"]) == {4}


def test_the_section_is_a_table_of_corpora_by_corpora():
    found = section(made(varied), Options())
    matrix = found.tables[0].text
    assert list(matrix.columns) == ["noise", "method", "trained on", "tested on made", "tested on calls"]
    assert list(matrix["method"]) == ["cross entropy", "ELR"]
    assert matrix["tested on made"].tolist() == ["50.0 [50.0, 50.0]", "60.0 [60.0, 60.0]"]
    differences = found.tables[1].text
    assert differences["tested on calls"].tolist() == ["+10.0 [+10.0…+10.0]"]
    classes = found.tables[2].text
    assert classes["classes"].tolist() == ["angry, sad", "angry = anger, sad"]
    assert found.sentences[0].startswith(
        "cross entropy at clean, trained on made, test UAR in %: on made 50.0 [50.0, 50.0] over 2 classes (chance 50.0)"
    )
    assert "On calls, ELR at clean differs from cross entropy by +10.0" in found.sentences[1]
    titles = [axes.get_title(loc="left") for axes in found.figures[0].figure.axes]
    assert titles == ["tested on made", "tested on calls"]
    colours = {line.get_color() for line in found.figures[0].figure.axes[0].lines} - {"black"}
    assert colours == {method_style(space)[0] for space in SPACES}
    assert found.tables[1].caption.startswith("Difference of test UAR from cross entropy in points")


def test_headings_have_the_number_of_classes_where_a_test_has_fewer():
    scores = pd.DataFrame({"tested": ["made", "calls"], "classes": [4, 2], "own_classes": [4, 4]})
    assert corpus_heading(scores, "made") == "tested on made"
    assert corpus_heading(scores, "calls") == "tested on calls (2 of 4 classes)"


def test_missing_trainings_are_said_and_not_counted():
    found = section(made(varied, unfinished=[("clean", "elr", 2)]), Options())
    assert found.tables[0].data.set_index(["tested", "method"]).loc[("calls", "elr"), "units"] == 5
    assert any("1 of 12 planned trainings have not finished" in note for note in found.notes)


def test_without_test_corpora_one_sentence_says_how_to_get_them():
    records = confirmed_records({("clean", "cross_entropy"): lambda speaker, seed: 5}, folds=SIX)
    found = section(records, Options())
    assert found.is_empty
    (sentence,) = found.missing
    assert sentence.startswith("No confirmation here was tested on other corpora. To test one:")
    assert "--space cross_entropy --test-corpus NAME=PATH" in sentence
    assert records.command("study/confirm.py") in sentence


def test_the_search_that_is_shown_is_the_one_to_confirm_on_other_corpora(made_store):
    made_store.search({("elr", "clean"): [0.5]})
    (sentence,) = section(made_store.records(), Options()).missing
    assert "--study made --test-corpus NAME=PATH" in sentence
    assert "--space" not in sentence


def test_rows_of_further_experiments_join_the_matrix(monkeypatch):
    other = made(varied)
    other.experiment, other.identifier = "second", "2"
    monkeypatch.setattr(module, "open_records", lambda options: other)
    found = section(made(varied), Options(also=("second",)))
    assert found.tables[0].data["trained"].tolist().count("second") == 4
    matrix = found.tables[0].text
    assert matrix["trained on"].tolist() == ["made", "second"] * 2
    assert matrix["tested on second"].tolist()[0] == "–"


def test_other_experiments_that_were_tested_across_corpora_are_named(monkeypatch):
    records = made(varied)
    experiments = [SimpleNamespace(experiment_id="1", name="made"), SimpleNamespace(experiment_id="2", name="second")]
    records.client = SimpleNamespace(search_experiments=lambda: experiments)
    runs = [SimpleNamespace(info=SimpleNamespace(experiment_id=one)) for one in ("1", "2", "2")]
    monkeypatch.setattr(module, "search_all", lambda client, ids, query: runs)
    found = section(records, Options())
    assert found.notes[3].endswith(
        f"(second). To add them: {records.command('analysis/across_corpora.py', '--also', 'second')}"
    )
    assert named(1) == "s01"


def test_experiments_on_one_corpus_have_rows_of_their_own(monkeypatch):
    first, other = made(varied), made(lambda space, fold, seed, speaker: 2)
    found = read_tested(other)
    tested = {id(first): read_tested(first), id(other): replace(found, design=replace(found.design, experiment="two"))}
    monkeypatch.setattr(module, "open_records", lambda options: other)
    monkeypatch.setattr(module, "read_tested", lambda records: tested[id(records)])
    shown = section(first, Options(also=("two",)))
    matrix = shown.tables[0].text.set_index(["method", "trained on"])
    assert set(matrix.index) == {(in_words(method), f"made ({name})") for method in SPACES for name in ("made", "two")}
    assert matrix.loc[("ELR", "made (two)"), "tested on calls"].startswith("20.0")
    (classes,) = [table for table in shown.tables if table.name == "across_corpora-classes"]
    assert classes.text[["trained on", "tested on"]].to_numpy().tolist() == [
        [f"made ({name})", tested] for name in ("made", "two") for tested in ("made", "calls")
    ]


def test_the_command_that_repeats_a_confirmation_names_its_test_corpora():
    records, found = made(varied), SimpleNamespace(studies={}, parents={}, search=[])
    (key,) = [key for key in records.results if key[1] == DESIGN]
    calls = replace(CALLS, root="/my data/calls.csv", options={"classes": "angry=anger,sad"})
    design = replace(Design.of(records.results[key]), test_corpora=(calls,))
    records.results[key], records.confirmed["design"] = design.to_json(), design.digest
    (command,) = reproduction_commands(records, found)
    words = shlex.split(command)
    assert words[words.index("--test-corpus") + 1] == "table=/my data/calls.csv"
    assert words[words.index("--test-options") + 1] == "calls.classes=angry=anger,sad"
    assert words[words.index("--top") + 1] == "1"  # the default alone: the search's best may have been the default


def test_the_command_that_repeats_a_confirmation_names_what_it_compares():
    records, found = made(varied), SimpleNamespace(studies={}, parents={}, search=[])
    (key,) = [key for key in records.results if key[1] == DESIGN]
    primary = {"method": "cross_entropy", "level": "clean"}
    design = replace(Design.of(records.results[key]), reference="elr", primary=primary)
    records.results[key], records.confirmed["design"] = design.to_json(), design.digest
    words = shlex.split(*reproduction_commands(records, found))
    assert words[words.index("--reference") + 1] == "elr"
    assert words[words.index("--primary") + 1 :][:2] == ["cross_entropy", "clean"]


def test_a_new_confirmation_of_defaults_is_of_the_data_that_are_shown():
    run = SimpleNamespace(data=SimpleNamespace(tags={"mlflow.parentRunId": "p"}))
    options = {"corpus": "table", "corpus_root": "/my data/calls.csv", "classes": "a,b", "seed": 3}
    documents = {("p", "search.json"): {"options": options}}
    records = SimpleNamespace(
        matched=SimpleNamespace(search=(), confirmed=(run,)), document=lambda *key: documents.get(key)
    )
    assert data_options(records) == ["--corpus", "table", "--corpus-root", "/my data/calls.csv", "--classes", "a,b"]
