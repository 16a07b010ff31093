"""Votes: counts, shares, lists, raters in columns and in rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpora.loader_result import LoaderResult
from ser.corpora.names import NearEqualNames
from ser.corpora.tables import result_of
from ser.corpora.tables.shares import counts_of
from ser.metrics.agreement import fleiss_kappa
from ser.utils.errors import DataErrors

ROWS = pd.DataFrame({"path": ["a.wav", "b.wav", "c.wav", "d.wav"], "speaker": ["1", "1", "2", "2"]})
LABELS = {"label": ["sad", "happy", "sad", "happy"]}
COUNTS = {"sad": [3, 1, 2, 0], "happy": [0, 2, 1, 3]}
VOTES = [(3, 0), (1, 2), (2, 1), (0, 3)]


def result(frame: pd.DataFrame, **options: Any) -> LoaderResult:
    return result_of(frame, name="mine", where="table t.csv", folder=Path("/data"), **options)


def votes(found: LoaderResult) -> list[tuple[int, ...] | None]:
    return found.rows["votes"].tolist()


def errors_of(found: LoaderResult) -> dict[str, str]:
    with pytest.raises(DataErrors) as error:
        found.to_corpus()
    return dict(error.value.errors)


# Counts


@pytest.mark.parametrize(
    "names", [{}, {"sad": "votes_sad", "happy": "votes_happy"}, {"sad": "Sadness", "happy": "JOY"}]
)
@pytest.mark.parametrize("labelled", [False, True])
def test_counts_by_class_are_votes_and_give_missing_labels(names: dict[str, str], labelled: bool) -> None:
    found = result(ROWS.assign(**(LABELS if labelled else {}), **COUNTS).rename(columns=names))
    assert votes(found) == VOTES
    own = [name.removeprefix("votes_") for name in names.values()]
    classes = ("sad", "happy") if labelled or not names else tuple(own)
    assert found.classes == classes
    assert found.rows["label"].tolist() == [classes[index] for index in (0, 1, 0, 1)]


def test_votes_may_be_blank_and_a_tie_is_no_label() -> None:
    table = ROWS.assign(votes_sad=["2", "1", "", "0"], votes_happy=["1", "1", "", "4"])
    found = result(table)
    assert found.rows["utterance_id"].tolist() == ["a", "d"]
    assert dict(found.outside) == {"tie": 1, "without votes": 1}
    labelled = result(table.assign(**LABELS))
    assert votes(labelled) == [(2, 1), (1, 1), None, (0, 4)]
    assert not labelled.outside


def test_other_votes_win_or_are_counted() -> None:
    found = result(ROWS.assign(**COUNTS, Other=[0, 1, 5, 0]))
    assert dict(found.outside) == {"other": 1}
    assert found.rows["other_votes"].tolist() == [0, 1, 0]
    assert found.classes == ("sad", "happy")


def test_votes_in_records_and_lists() -> None:
    records = [{"sad": 3}, {"sad": 1, "happy": 2}, {"sad": 2, "happy": 1}, {"happy": 3}]
    assert votes(result(ROWS.assign(votes=records))) == VOTES
    listed = result(ROWS.assign(**LABELS, votes=["[0, 3]", "[2, 1]", "[1, 2]", None]))
    assert votes(listed) == [(0, 3), (2, 1), (1, 2), None]
    with pytest.raises(DataErrors, match="label: column missing"):
        result(ROWS.assign(votes=["[0, 3]"] * 4))  # nothing says which classes these are


def test_numbers_that_are_no_votes_are_not_taken() -> None:
    for cells in ([0.1, 2.5, 3.0, 0.0], ["x", "1", "2", "3"], [-1, 2, 0, 1]):
        found = result(ROWS.assign(**LABELS, sad=cells, happy=[1, 2, 3, 4]))
        assert "votes" not in found.rows
        assert any("not used: sad, happy" in note for note in found.notes)


def test_one_hot_columns_are_labels_and_no_votes() -> None:
    one_hot = ROWS.assign(sad=[1, 0, 1, 0], happy=[0, 1, 0, 1])
    found = result(one_hot)
    assert found.rows["label"].tolist() == LABELS["label"]
    assert votes(found) == [None] * 4
    assert "votes" not in result(one_hot.assign(**LABELS)).rows


def test_the_sum_of_votes_is_no_class() -> None:
    total = ROWS.assign(**LABELS, votes_sad=COUNTS["sad"], votes_happy=COUNTS["happy"], votes_total=[3, 3, 3, 3])
    assert "is the sum of the other votes" in errors_of(result(total))["votes_total"]
    nobody = ROWS.assign(**LABELS, votes_sad=COUNTS["sad"], votes_happy=COUNTS["happy"], votes_fear=[0, 1, 0, 0])
    assert result(nobody).to_corpus()  # the votes for fear are for no class of the data


def test_votes_can_be_left_out() -> None:
    assert "votes" not in result(ROWS.assign(**LABELS, **COUNTS), columns="votes=").rows


# Shares


def shares(*rows: list[float], **columns: Any) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["sad", "happy", "fear"])
    return pd.concat([ROWS, table], axis=1).dropna(subset="sad").assign(**columns)


@pytest.mark.parametrize("decimals", [2, 4, 16])
def test_shares_become_the_counts_of_the_number_of_raters(decimals: int) -> None:
    rows = np.array([[4, 1, 0], [6, 0, 0], [1, 1, 2], [0, 2, 1]])
    raters = rows.sum(axis=1)
    table = shares(*np.round(rows / raters[:, None], decimals).tolist(), num_raters=[str(n) for n in raters])
    assert votes(result(table)) == [tuple(row) for row in rows.tolist()]


def test_without_a_number_the_smallest_that_fits_is_taken_and_said() -> None:
    found = result(shares([0.8, 0.2, 0], [0.6, 0.2, 0.2], [1, 0, 0], [0.33, 0.67, 0]))
    # Unanimous raters are as many as those of most utterances that are not, here five.
    assert votes(found) == [(4, 1, 0), (3, 1, 1), (5, 0, 0), (1, 2, 0)]
    said = "votes: counts from shares; raters: 5 for 3 of 4 utterances, 3 for the others (numbers that fit)"
    assert said in found.notes


def test_label_smoothing_is_undone() -> None:
    rows = np.array([[8, 2, 0], [10, 0, 0], [0, 7, 3], [0, 1, 9]])
    smoothed = 0.05 / 2 + (1 - 0.05 * 3 / 2) * rows / 10
    found = result(shares(*np.round(smoothed, 6).tolist()))
    assert votes(found) == [tuple(row) for row in rows.tolist()]
    assert any("label smoothing of 5% was undone" in note for note in found.notes)


def test_columns_of_unknown_emotions_belong_to_the_shares_that_they_complete() -> None:
    table = ROWS.assign(
        sad=[0.5, 0.25, 0, 0], relax=[0.25, 0.75, 0, 1], happy=[0.25, 0, 1, 0], age=[0.3, 0.4, 0.5, 0.6]
    )
    found = result(table)
    assert found.classes == ("sad", "relax", "happy")
    assert found.rows["label"].tolist() == ["sad", "relax", "happy", "relax"]


def test_shares_that_no_raters_give_are_errors_with_advice() -> None:
    found = result(shares([0.8, 0.2, 0], [0.6, 0.2, 0.2], [0.1237, 0.8763, 0], [0.5, 0.3, 0.1]))
    errors = errors_of(found)
    assert "shares 0.1237, 0.8763, 0 are whole numbers for no number of raters up to" in errors["c"]
    assert "0.5, 0.3, 0.1 are not shares that add up to 1" in errors["d"]
    with pytest.raises(DataErrors, match="columns=votes= ; a column raters"):
        found.to_corpus()
    assert found.to_corpus(["c", "d"])  # the advice to exclude works
    wrong = result(shares([0.8, 0.2, 0], [0.5, 0.5, 0], [1, 0, 0], [0, 1, 0], raters=[5, 5, 5, 5]))
    assert list(errors_of(wrong)) == ["b"]  # half of five


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3).filter(any), min_size=1, max_size=8))
def test_counts_give_the_shares_back(rows: list[list[int]]) -> None:
    counts = np.array(rows)
    exact = counts / counts.sum(axis=1, keepdims=True)
    found = counts_of(exact.copy())
    assert not found.problems
    np.testing.assert_allclose(found.counts / found.counts.sum(axis=1, keepdims=True), exact, atol=1e-6)
    known = counts_of(exact.copy(), counts.sum(axis=1).astype(float))
    assert known.counts.tolist() == rows


# Raters


@pytest.mark.parametrize("name", ["rater_{}", "rater{}", "annotator-{}", "Evaluator {}", "ann{}", "annotator_{}"])
def test_one_column_for_each_rater(name: str) -> None:
    who = "ABC" if name == "annotator_{}" else "123"
    said = (["sad", "sad", "", "happy"], ["sad", "happy", "sad", "happy"], ["sad", "fear", "happy", None])
    columns = {name.format(letter): words for letter, words in zip(who, said, strict=True)}
    found = result(ROWS.assign(**columns))
    assert found.rows["label"].tolist() == ["sad", "happy"]
    assert dict(found.outside) == {"tie": 2}
    assert votes(found) == [(0, 3), (2, 0)]
    assert found.classes == ("happy", "sad")
    assert len(found.annotations) == 10  # those of ties as well
    labelled = result(ROWS.assign(**LABELS, **columns))
    assert votes(labelled) == [(0, 3), (1, 1), (1, 1), (2, 0)]
    assert labelled.rows["other_votes"].tolist() == [0, 1, 0, 0]
    assert "votes for no class: 'fear' (1)" in labelled.notes


def test_ratings_on_a_scale_are_no_votes() -> None:
    found = result(ROWS.assign(**LABELS, rater_1=["3", "4", "5", "1"], rater_2=["2", "2", "2", "1.5"]))
    assert "votes" not in found.rows


def test_rows_of_utterances_and_raters_are_joined() -> None:
    rows = [("a", "r1", "sad"), ("a", "r2", "sad"), ("a", "r3", "happy"), ("b", "r1", "happy"), ("b", "r2", ""),
            ("c", "r1", "sad"), ("c", "r2", "happy"), ("d", "r3", "happy")]  # fmt: skip
    table = pd.DataFrame(rows, columns=["utterance", "worker", "emotion"]).assign(speaker="s", sex="f")
    found = result(table)
    assert found.rows["utterance_id"].tolist() == ["a", "b", "d"]
    assert votes(found) == [(1, 2), (1, 0), (1, 0)]
    assert dict(found.outside) == {"tie": 1}
    assert found.annotations[["utterance_id", "annotator", "label"]].to_numpy().tolist()[:3] == [
        list(r) for r in rows[:3]
    ]
    table.loc[1, "speaker"] = "t"
    assert "differ in speaker: s, t" in errors_of(result(table))["a"]
    single = table.drop_duplicates("utterance")
    assert "votes" not in result(single).rows  # each was judged once: the label is the label


def test_the_agreement_of_shares_is_that_of_their_counts() -> None:
    rows = np.array([[10, 0, 0], [7, 3, 0], [0, 9, 1], [0, 0, 10], [1, 0, 9], [5, 5, 0]])
    found = counts_of(rows / 10)
    assert fleiss_kappa(found.counts) == pytest.approx(fleiss_kappa(rows))


RATED = pd.DataFrame(
    {"utterance_id": ["u", "u", "b"], "path": ["1.wav", "2.wav", "b.wav"], "speaker": ["1", "1", "2"]}
).assign(rater_1=["sad", "happy", "happy"], rater_2=["sad", "happy", "happy"], rater_3=["happy", "happy", "sad"])


def test_rows_of_one_utterance_have_the_votes_of_their_own() -> None:
    found = result(RATED)
    assert votes(found) == [(1, 2), (3, 0), (2, 1)]  # happy, sad
    assert found.rows["label"].tolist() == ["sad", "happy", "happy"]
    assert list(errors_of(found)) == ["2.wav"]
    corpus = found.to_corpus(["2.wav"])
    assert corpus.table[["utterance_id", "label", "votes"]].to_numpy().tolist() == [
        ["b", "happy", (2, 1)],
        ["u", "sad", (1, 2)],
    ]
    assert corpus.annotations is not None
    assert corpus.annotations["label"][corpus.annotations["utterance_id"] == "u"].tolist() == ["sad", "sad", "happy"]


def test_equal_rows_with_raters_count_once() -> None:
    corpus = result(RATED.iloc[[0, 0, 2]]).to_corpus()
    assert corpus.table[["utterance_id", "votes"]].to_numpy().tolist() == [["b", (2, 1)], ["u", (1, 2)]]
    assert corpus.annotations is not None
    assert len(corpus.annotations) == 6


def test_rows_are_named_in_errors_as_they_are_excluded_where_others_have_no_label() -> None:
    cells = {"utterance_id": ["v", "v", "b", "c"], "path": ["x.wav", "x.wav", "b.wav", "c.wav"]}
    times = {"start": ["0", "wrong", "", ""], "end": ["1", "2", "", ""]}
    frame = pd.DataFrame({**cells, **times, "speaker": ["1", "1", "2", "2"]})
    found = result(frame.assign(votes_sad=[1, 2, 0, 3], votes_happy=[1, 1, 3, 0]))  # the first is a tie
    (name,) = errors_of(found)
    assert found.to_corpus([name]).table["utterance_id"].tolist() == ["b", "c"]


@pytest.mark.parametrize("long", [True, False], ids=["a row for each rater", "a column for each rater"])
def test_raters_who_write_a_class_in_two_ways_are_a_question_before_votes_are_counted(long: bool) -> None:
    """Else angry, Angry and sad would be a tie."""
    said = {"rater_1": ["angry", "sad", "sad", "angry"], "rater_2": ["Angry", "sad", "sad", "angry"],
            "rater_3": ["sad", "sad", "angry", "angry"]}  # fmt: skip
    table = ROWS.assign(**said)
    if long:
        table = table.melt(["path", "speaker"], var_name="rater", value_name="label")
    with pytest.raises(NearEqualNames) as raised:
        result(table)
    assert raised.value.found == {"label": [[("angry", 3), ("Angry", 1)]]}


@pytest.mark.parametrize(
    ("column", "cells", "seen"), [("start", ["0", "5"], "0.0, 5.0"), ("true_label", ["sad", "happy"], "sad, happy")]
)
def test_rows_of_raters_that_name_different_audio_or_truth_are_not_joined(
    column: str, cells: list[str], seen: str
) -> None:
    rows = [("a", "r1", "sad"), ("a", "r2", "sad"), ("b", "r1", "happy"), ("c", "r1", "sad")]
    table = pd.DataFrame(rows, columns=["utterance_id", "worker", "emotion"]).assign(path="x.wav", speaker="s", end="9")
    assert f"differ in {column}: {seen}" in errors_of(result(table.assign(**{column: [*cells, *cells]})))["a"]
    assert len(result(table.assign(**{column: [cells[0]] * 4})).to_corpus()) == 3


def test_repeats_are_listed_where_no_second_class_is_left_without_them() -> None:
    names = ["u", "u", "v", "v"]
    frame = pd.DataFrame({"utterance_id": names, "path": ["1.wav", "2.wav", "3.wav", "4.wav"], "speaker": ["1"] * 4})
    assert list(errors_of(result(frame.assign(label=["sad", "happy"] * 2)))) == ["2.wav", "4.wav"]
