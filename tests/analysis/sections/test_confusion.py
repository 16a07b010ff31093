"""Confusion matrices: numbers known by hand and scikit-learn's, what is missing, and the command line."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import classification_report as sklearn_report

from analysis.common.methods import Method, choose_methods
from analysis.sections.confusion.figures import draw_confusions, draw_differences
from analysis.sections.confusion.matrices import (
    classification_report,
    confusion_table,
    frequent_confusions,
    grouped,
    mean_confusion,
    predictions_of,
    share_differences,
    shares,
)
from analysis.sections.confusion.section import Options, section
from analysis.sections.confusion.wording import difference_sentence, worst_sentence
from study.schema import UTTERANCES
from tests.helpers.made_records import CLASSES

AB = ("A", "B")


def predicted(rows):
    """Return predictions; a row is (label, predicted, seed, fold, gender, agreement)."""
    names = ["label", "predicted", "seed", "fold", "gender", "agreement"]
    return pd.DataFrame(rows, columns=names)


FEW = predicted(
    [
        ("A", "A", 1, 1, "female", "unanimous"),
        ("A", "B", 1, 2, "male", "majority"),
        ("B", "B", 1, 2, "male", None),
        ("A", "A", 2, 1, "female", "unanimous"),
        ("A", "A", 2, 2, "male", "majority"),
        ("B", "A", 2, 2, "male", None),
    ]
)


def test_predictions_are_of_one_part_and_of_known_labels_alone():
    table = pd.DataFrame(
        {
            "utterance_id": list("abcd"), "subset": ["test", "test", "test", "validation"], "speaker": "s",
            "gender": "male", "agreement": None, "label": ["A", None, "B", "B"],
            "p_A": [0.5, 0.9, 0.2, 0.9], "p_B": [0.5, 0.1, 0.8, 0.1],
        }
    )  # fmt: skip
    found = predictions_of(table, "test")
    assert found[["utterance_id", "predicted"]].to_numpy().tolist() == [["a", "A"], ["c", "B"]]  # the first of equals


def test_folds_are_pooled_and_seeds_averaged():
    counts = mean_confusion(FEW, AB)
    assert counts.tolist() == [[1.5, 0.5], [0.5, 0.5]]
    assert shares(counts).tolist() == [[0.75, 0.25], [0.5, 0.5]]


def test_a_class_without_utterances_has_no_shares_and_no_scores():
    counts = mean_confusion(FEW, ("A", "B", "C"))
    assert np.isnan(shares(counts)[2]).all()
    report = classification_report(counts, ("A", "B", "C")).set_index("class")
    assert report.loc["C", ["precision", "recall", "f1"]].isna().all()
    assert report.loc["mean", "recall"] == (0.75 + 0.5) / 2
    assert report.loc["mean", "utterances"] == 3


def test_groups_are_in_their_own_order_and_unknown_ones_last():
    assert [(by, name, len(rows)) for by, name, rows in grouped(FEW)] == [
        ("all", "all", 6), ("gender", "female", 2), ("gender", "male", 4),
        ("agreement", "unanimous", 2), ("agreement", "majority", 2), ("agreement", "unknown", 2),
    ]  # fmt: skip
    nothing = FEW.assign(gender="unknown", agreement=None)
    assert [by for by, _, _ in grouped(nothing)] == ["all"]


def test_the_most_frequent_confusions_are_those_of_the_largest_share():
    cells = confusion_table(FEW, AB)
    assert len(cells) == 6 * 4
    top = frequent_confusions(cells[cells["by"] == "all"], 5)
    assert top[["label", "predicted", "count", "share"]].to_numpy().tolist() == [
        ["B", "A", 0.5, 0.5], ["A", "B", 0.5, 0.25],
    ]  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from("ABC")), min_size=1, max_size=40))
def test_the_report_of_one_seed_is_scikit_learns(pairs):
    rows = predicted([(label, guess, 1, 1, "male", None) for label, guess in pairs])
    report = classification_report(mean_confusion(rows, "ABC"), "ABC").set_index("class")
    known = sklearn_report(rows["label"], rows["predicted"], labels=list("ABC"), output_dict=True, zero_division=0)
    there = sorted(set(rows["label"]))
    for name in there:
        mine = report.loc[name, ["precision", "recall", "f1", "utterances"]].to_list()
        assert mine == pytest.approx(list(known[name].values()))
    assert report.loc["mean", "recall"] == pytest.approx(np.mean([known[name]["recall"] for name in there]))


def test_differences_are_of_common_seeds_and_folds():
    other = FEW.assign(predicted=FEW["label"])
    found = share_differences(other[other["seed"] == 1], FEW, AB)
    assert found.tolist() == [[0.5, -0.5], [0.0, 0.0]]  # of seed 1 alone: A is right in one of two, B in one of one
    assert np.nansum(np.abs(share_differences(FEW, FEW, AB))) == 0
    assert share_differences(other.assign(fold=9), FEW, AB) is None


def test_numbers_stand_in_the_cells():
    drawn = draw_confusions({"one": mean_confusion(FEW, AB)}, AB, 3)
    assert {text.get_text() for text in drawn.axes[0].texts} == {"75", "25", "50"}
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == ["A (2)", "B (1)"]
    drawn = draw_differences({"one": np.array([[0.5, -0.5], [0.004, np.nan]])}, AB, 3)
    assert [text.get_text() for text in drawn.axes[0].texts] == ["+50", "−50"]
    low, high = drawn.axes[0].images[0].get_clim()
    assert low == -high  # white is no difference


# The section


@pytest.fixture(scope="module")
def confirmed(new_made_store):
    """A search and the confirmation of two of its three methods at noisy-B."""
    store = new_made_store()
    store.search({("cross_entropy", "noisy-B"): [0.5], ("proselflc", "noisy-B"): [0.6], ("gce", "noisy-B"): [0.6]})
    skills = {("cross_entropy", "noisy-B", "default"): 0.4, ("proselflc", "noisy-B", "search-1"): 0.9}
    store.confirm(skills, folds=(3, 4), seeds=(1, 2))
    return store


def test_confirmed_methods_are_scored_on_test_folds(confirmed):
    records = confirmed.records()
    assert {run.fold for method in choose_methods(records).methods for run in method.runs} == {3, 4}
    found = section(records, Options())
    assert "test subset" in found.title
    tables = {table.name: table.data for table in found.tables}
    report = tables["classification_report"].set_index(["space", "class"])
    for space in ("cross_entropy", "proselflc"):
        rows = records.confirmed[records.confirmed["space"] == space]
        assert report.loc[(space, "mean"), "recall"] == pytest.approx(rows["uar"].mean())
    groups = tables["recall_by_group"]
    assert list(groups["group"].unique()) == ["all", "female", "male", "unanimous", "majority"]
    assert groups.loc[groups["group"] == "all", "utterances"].tolist() == [96, 96]
    cells = tables["confusions"]
    assert cells[cells["by"] == "all"].groupby("space")["count"].sum().tolist() == pytest.approx([96, 96])
    assert {figure.name for figure in found.figures} == {
        f"confusion-{kind}noisy-B" for kind in ("", "gender-", "agreement-", "difference-")
    }
    worst, changed = found.sentences
    assert worst.startswith("Most frequent confusion")
    assert re.search(r"(anger|happiness|neutral|sadness) taken for .* \((cross entropy|ProSelfLC) \d+%", worst)
    assert changed.startswith("Recall compared with cross entropy at noisy-B, the largest differences in points")
    assert re.search(r"ProSelfLC \+\d+ for \w+", changed)
    assert any(line.startswith("Searched but not confirmed: ") for line in found.missing)


def test_names_are_in_words_and_the_files_keep_those_on_record(confirmed):
    found = section(confirmed.records(), Options())
    for table in found.tables:
        assert set(table.text["method"]) == {"cross entropy", "ProSelfLC"}
        assert set(table.data["space"]) == {"cross_entropy", "proselflc"}
        assert "_" not in " ".join([*table.text.columns, *table.text.astype(str).to_numpy().ravel()])
    figure = found.figures[0]
    assert "taken for" in figure.alternative
    assert re.search(r"ProSelfLC: UAR \d+\.\d%", figure.alternative)
    first = figure.figure.axes[0]
    assert [label.get_text() for label in first.get_xticklabels()] == ["anger", "happiness", "neutral", "sadness"]
    assert (first.get_xlabel(), first.get_ylabel()) == ("predicted class", "true class (utterances)")


def test_a_group_without_a_class_has_its_number_of_classes(confirmed):
    records = confirmed.records()
    for run_id in records.confirmed["run_id"]:
        table = records.utterances(run_id)
        records.results[run_id, UTTERANCES] = table[(table["gender"] != "male") | (table["label"] != "sad")]
    (groups,) = [table for table in section(records, Options()).tables if table.name == "recall_by_group"]
    text = groups.text.set_index(["method", "group"])
    assert text.loc[("ProSelfLC", "male"), "UAR"].endswith(" (3 of 4)")
    assert text.loc[("ProSelfLC", "male"), "sadness"] == "–"
    assert "(" not in text.loc[("ProSelfLC", "female"), "UAR"]
    assert "over k of 4 classes" in groups.caption


METHODS = {space: Method("noisy-B", 0.4, space, "search-1", 0.5, ()) for space in ("elr", "proselflc")}


def test_equal_confusions_are_said_once():
    cells = {method: confusion_table(FEW, AB) for method in METHODS.values()}
    assert worst_sentence(cells, "noisy-B") == (
        "Most frequent confusion at noisy-B, in % of the true class: B taken for A (ELR 50%, ProSelfLC 50%)."
    )
    right = confusion_table(FEW.assign(predicted=FEW["label"]), AB)
    assert worst_sentence({METHODS["elr"]: right}, "clean").endswith("in % of the true class: none (ELR).")


def test_where_no_recall_differs_one_sentence_says_so():
    equal = dict.fromkeys(METHODS.values(), np.zeros((2, 2)))
    assert difference_sentence(equal, "noisy-B", "cross_entropy", AB) == (
        "At noisy-B no method's recall of a class differs from that of cross entropy by a point."
    )
    one = equal | {METHODS["elr"]: np.array([[0.1, -0.1], [0.2, -0.2]])}
    assert difference_sentence(one, "noisy-B", "cross_entropy", AB).endswith(
        "(not tested): ELR +10 for A and −20 for B; ProSelfLC none."
    )


def test_a_search_alone_is_scored_on_validation_and_compares_nothing_in_words(made_store):
    made_store.search({("cross_entropy", "clean"): [0.5, 0.6], ("proselflc", "clean"): [0.9], ("gce", "clean"): [0.2]})
    found = section(made_store.records(), Options())
    assert "validation subset" in found.title
    assert "one seed" in found.title
    assert not any("compared with" in line for line in found.sentences)
    assert any("study/confirm.py --experiment made" in line for line in found.missing)
    assert not any("nan" in line for line in (*found.sentences, *found.notes, *found.missing))


def test_one_method_without_gender_votes_or_truth_is_reported(confirmed, monkeypatch):
    records = confirmed.records()
    for unknown, expected in (({"gender": "unknown", "agreement": None}, 2), ({"label": None}, 0)):
        for run_id in records.confirmed["run_id"]:
            table = records.utterances(run_id)
            records.results[run_id, UTTERANCES] = table.assign(
                **{name: pd.array([value] * len(table), dtype="string") for name, value in unknown.items()}
            )
        found = section(records, Options())
        assert len(found.figures) == expected
        missing = " ".join(found.missing)
        assert ("No true label is known" in missing) == (expected == 0)
        assert ("No speaker's gender is known" in missing) == (expected == 2)
        assert ("agreement is not known" in missing) == (expected == 2)


@pytest.fixture
def call(confirmed, call_section, tmp_path):
    where = ["--tracking-uri", confirmed.uri, "--experiment", "made", "--output", str(tmp_path / "output")]
    return lambda *arguments: call_section("confusion", *where, *arguments)


def test_the_command_writes_tables_and_figures(call, tmp_path):
    code, printed, error = call("--reference", "proselflc")
    assert (code, error) == (0, "")
    assert "Recall compared with ProSelfLC at noisy-B" in printed
    folder = tmp_path / "output"
    cells = pd.read_csv(folder / "confusions.csv")
    assert len(cells) == 2 * 5 * len(CLASSES) ** 2
    for suffix in ("svg", "pdf", "png"):
        assert (folder / f"confusion-difference-noisy-B.{suffix}").stat().st_size > 5_000
    assert (folder / "confusion.md").read_text().startswith("# Confusion matrices (test subset")


def test_a_misspelt_reference_is_an_error(call):
    code, _, error = call("--reference", "proselfl")
    assert code == 2
    assert "Did you mean 'proselflc'" in error
