"""Folds of a test: one unit each, disjoint, balanced, and without the speakers that a search has chosen by."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpora import Corpus, load
from ser.fold_design import MAX_UNITS, design_folds
from ser.splits import split
from ser.utils.errors import UserError

CLASSES = ("a", "b", "c")


def corpus_of(counts, genders=None, sessions=None, official=None):
    """Return a corpus; ``counts`` has the number of utterances of each class by speaker."""
    rows = [
        (speaker, label, (genders or {}).get(speaker, "unknown"), (sessions or {}).get(speaker, ""))
        for speaker, numbers in counts.items()
        for label, number in zip(CLASSES, numbers, strict=True)
        for _ in range(number)
    ]
    table = pd.DataFrame(rows, columns=["speaker", "label", "gender", "session"])
    table["utterance_id"] = [f"u{row:05d}" for row in range(len(table))]
    table["path"] = "/audio/" + table["utterance_id"] + ".wav"
    if official is not None:
        table["official_subset"] = [official[speaker] for speaker in table["speaker"]]
    return Corpus("toy", table, CLASSES, Path("/audio"))


def speakers(corpus, fold, subset):
    return sorted(set(corpus.table["speaker"].iloc[fold.subsets[subset]]))


def test_of_ten_speakers_each_is_tested_once_and_one_other_validates():
    corpus = corpus_of({f"s{number}": (2, 2, 2) for number in range(10)})
    folds = design_folds(corpus)
    assert [fold.unit for fold in folds] == ["speaker"] * 10
    assert sorted(speakers(corpus, fold, "test")[0] for fold in folds) == [f"s{number}" for number in range(10)]
    assert all(len(speakers(corpus, fold, "validation")) == 1 for fold in folds)
    assert all(len(speakers(corpus, fold, "train")) == 8 for fold in folds)


def test_twenty_four_speakers_are_left_out_one_at_a_time_and_both_genders_validate():
    names = [f"s{number:02d}" for number in range(24)]
    # All women before all men, as in corpora that number them so.
    genders = {name: "female" if place < 12 else "male" for place, name in enumerate(names)}
    corpus = corpus_of(dict.fromkeys(names, (1, 1, 1)), genders)
    folds = design_folds(corpus)
    assert len(folds) == 24
    validators = [speakers(corpus, fold, "validation") for fold in folds]
    assert all(len(names) == 3 for names in validators)
    assert all(len({genders[name] for name in names}) == 2 for names in validators)
    uses = pd.Series([name for names in validators for name in names]).value_counts()
    assert (uses == 3).all()  # by rotation


@settings(max_examples=20, deadline=None)
@given(st.integers(25, 120), st.integers(0, 2**32 - 1))
def test_more_speakers_form_groups_alike_in_size_classes_and_gender(number, seed):
    rng = np.random.default_rng(seed)
    names = [f"s{place:03d}" for place in range(number)]
    genders = {name: "female" if place < number // 3 else "male" for place, name in enumerate(names)}
    corpus = corpus_of({name: tuple(rng.integers(1, 6, 3)) for name in names}, genders)
    folds = design_folds(corpus)
    assert len(folds) == MAX_UNITS >= 20
    tested = [speakers(corpus, fold, "test") for fold in folds]
    assert sorted(name for names in tested for name in names) == names
    sizes = [len(names) for names in tested]
    assert max(sizes) - min(sizes) <= 1
    women = [sum(genders[name] == "female" for name in names) for names in tested]
    assert max(women) - min(women) <= 1
    counts = np.array([np.bincount(corpus.labels[fold.test], minlength=3) for fold in folds])
    blocks = np.array_split(np.arange(number), MAX_UNITS)  # neighbours by name, for comparison
    in_blocks = np.array(
        [np.bincount(corpus.labels[corpus.table["speaker"].isin([names[i] for i in block])], minlength=3)
         for block in blocks]
    )  # fmt: skip
    if number >= 3 * MAX_UNITS:  # with one or two speakers a group there is little to balance
        assert (counts / counts.sum(1, keepdims=True)).std() <= (in_blocks / in_blocks.sum(1, keepdims=True)).std()
    assert all(len(speakers(corpus, fold, "validation")) >= 3 for fold in folds)


def test_the_folds_do_not_depend_on_the_order_of_rows():
    counts = {f"s{place:02d}": (place % 3 + 1, 2, 1) for place in range(30)}
    corpus = corpus_of(counts)
    shuffled = Corpus("toy", corpus.table.sample(frac=1, random_state=0), CLASSES, Path("/audio"))
    for first, second in zip(design_folds(corpus), design_folds(shuffled), strict=True):
        np.testing.assert_array_equal(first.test, second.test)


def test_speakers_that_a_search_validated_on_are_not_tested_and_may_train():
    corpus = corpus_of({f"s{number}": (2, 2, 2) for number in range(10)})
    folds = design_folds(corpus, spare=["s3", "s4"])
    tested = {name for fold in folds for name in speakers(corpus, fold, "test")}
    assert tested == {f"s{number}" for number in range(10)} - {"s3", "s4"}
    assert [fold.number for fold in folds] == list(range(1, 9))
    assert any("s3" in speakers(corpus, fold, "train") for fold in folds)


def test_if_a_search_validated_on_everyone_nothing_is_left_to_test():
    corpus = corpus_of({f"s{number}": (2, 2, 2) for number in range(4)})
    with pytest.raises(UserError, match="none is left to test"):
        design_folds(corpus, spare=[f"s{number}" for number in range(4)])


def test_sessions_of_a_dialogue_corpus_are_tested_whole():
    corpus = load("synthetic")
    folds = design_folds(corpus)
    assert [speakers(corpus, fold, "test") for fold in folds] == [
        [f"Ses0{number}F", f"Ses0{number}M"] for number in range(1, 6)
    ]


def test_partners_of_a_dialogue_are_never_units_of_their_own():
    assert [fold.unit for fold in design_folds(load("synthetic"), "speaker")] == ["session"] * 5


def test_an_official_split_is_one_fold_also_for_a_search():
    official = {"s0": "train", "s1": "train", "s2": "validation", "s3": "test", "s4": ""}
    corpus = corpus_of(dict.fromkeys(official, (2, 2, 2)), official=official)
    (fold,) = design_folds(corpus)
    assert fold.unit == "official split"
    assert [speakers(corpus, fold, subset) for subset in ("train", "validation", "test")] == [
        ["s0", "s1"], ["s2"], ["s3"],
    ]  # fmt: skip
    np.testing.assert_array_equal(split(corpus).test, fold.test)
    with pytest.raises(UserError, match="is one fold"):
        split(corpus, 2)
    assert len(design_folds(corpus, "speaker")) == 5


def test_an_official_split_that_is_asked_for_must_be_there():
    with pytest.raises(UserError, match="has no official split"):
        split(load("synthetic"), by="official")
