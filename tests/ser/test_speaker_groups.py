"""Speaker groups: a partition, alike in classes and gender, the same whatever the order of the rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpora import Corpus
from ser.fold_classes import check_classes, class_counts, class_lines, folds_lines
from ser.fold_design import design_folds
from ser.speaker_groups import MAX_FOLDS, Speakers, alike_groups, fold_groups_of, speakers_of
from ser.splits import FORMER_AUTO, fold_begun, fold_groups, rows_digest, split
from ser.utils.errors import UserError

CLASSES = ("angry", "happy", "neutral", "sad")
# Ten speakers who each speak one or two of four classes.
UNBALANCED = {
    "ada": (30, 0, 0, 0), "ben": (12, 9, 0, 0), "cem": (0, 25, 0, 0), "dil": (0, 0, 14, 0), "eda": (8, 0, 0, 5),
    "fay": (0, 6, 11, 0), "gus": (0, 0, 0, 20), "han": (0, 0, 9, 7), "ida": (10, 4, 0, 0), "jan": (0, 0, 13, 2),
}  # fmt: skip


def corpus_of(utterances, genders=None, order=None):
    """Return a corpus; ``utterances`` has the number of each class by speaker."""
    rows = [
        (speaker, label, (genders or {}).get(speaker, "unknown"))
        for speaker, numbers in utterances.items()
        for label, number in zip(CLASSES, numbers, strict=False)
        for _ in range(number)
    ]
    table = pd.DataFrame(rows, columns=["speaker", "label", "gender"])
    table["utterance_id"] = [f"u{row:05d}" for row in range(len(table))]
    table["path"] = "/audio/" + table["utterance_id"] + ".wav"
    if order is not None:
        table = table.sample(frac=1, random_state=order)
    return Corpus("toy", table, CLASSES[: len(next(iter(utterances.values())))], Path("/audio"))


def people(utterances, genders=None):
    names = sorted(utterances)
    kinds = tuple((genders or {}).get(name, "unknown") for name in names)
    return Speakers(tuple(names), kinds, tuple(tuple(map(int, utterances[name])) for name in names))


@st.composite
def made_up(draw):
    """Draw 3 to 40 speakers of 2 to 4 classes, each with at least one utterance, and their genders."""
    classes = draw(st.integers(2, 4))
    rows = draw(st.lists(st.lists(st.integers(0, 5), min_size=classes, max_size=classes), min_size=3, max_size=40))
    rows = [row if any(row) else [1, *row[1:]] for row in rows]
    kinds = draw(st.lists(st.sampled_from(["female", "male"]), min_size=len(rows), max_size=len(rows)))
    names = [f"s{place:02d}" for place in range(len(rows))]
    return dict(zip(names, rows, strict=True)), dict(zip(names, kinds, strict=True))


@settings(max_examples=30, deadline=None)
@given(made_up())
def test_each_speaker_is_in_one_group_and_groups_have_like_sizes(drawn):
    speakers = people(*drawn)
    groups = fold_groups_of(speakers)
    assert sorted(name for group in groups for name in group) == list(speakers.names)
    assert 3 <= len(groups) <= MAX_FOLDS
    sizes = [len(group) for group in groups]
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=5, deadline=None)
@given(made_up(), st.integers(0, 100))
def test_the_order_of_rows_does_not_matter(drawn, order):
    utterances, genders = drawn
    assert fold_groups(corpus_of(utterances, genders)) == fold_groups(corpus_of(utterances, genders, order))


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 8), st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_a_class_that_can_be_in_every_group_is(count, classes, seed):
    """Speakers are made so that it is possible: some groups of two to three have each class at least once."""
    rng = np.random.default_rng(seed)
    groups = [np.arange(start, start + 3) for start in range(0, 3 * count, 3)]
    has = rng.random((3 * count, classes)) < 0.3
    for members in groups:
        has[rng.choice(members, classes), np.arange(classes)] = True
    has[~has.any(axis=1), 0] = True
    has = has[rng.permutation(len(has))]
    names = [f"s{place:02d}" for place in range(len(has))]
    speakers = people(dict(zip(names, has * rng.integers(1, 9, has.shape), strict=True)))
    own = dict(zip(names, has, strict=True))
    for group in alike_groups(speakers, count):
        assert np.any([own[name] for name in group], axis=0).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(6, 60), st.integers(3, 8), st.integers(0, 2**32 - 1))
def test_genders_are_spread_as_evenly_as_their_numbers_allow(number, count, seed):
    rng = np.random.default_rng(seed)
    count = min(count, number)
    genders = {f"s{place:02d}": str(rng.choice(["female", "male"])) for place in range(number)}
    speakers = people({name: rng.integers(1, 6, 3) for name in genders}, genders)
    women = [sum(genders[name] == "female" for name in group) for group in alike_groups(speakers, count)]
    assert max(women) - min(women) <= 1


def test_a_corpus_like_ravdess_has_eight_groups_of_both_genders():
    names = [f"Actor_{number:02d}" for number in range(1, 25)]
    genders = {name: "male" if place % 2 == 0 else "female" for place, name in enumerate(names)}
    groups = fold_groups_of(people(dict.fromkeys(names, (4, 8, 8, 8)), genders))
    assert [len(group) for group in groups] == [3] * 8
    assert {sum(genders[name] == "female" for name in group) for group in groups} == {1, 2}


def test_ten_speakers_of_both_genders_are_tested_in_pairs():
    genders = {f"{number:02d}": "female" if number < 5 else "male" for number in range(10)}
    groups = fold_groups_of(people(dict.fromkeys(genders, (3, 3)), genders))
    assert [sorted(genders[name] for name in group) for group in groups] == [["female", "male"]] * 5


def test_ten_unbalanced_speakers_have_every_class_in_every_subset_of_the_default_fold():
    corpus = corpus_of(UNBALANCED)
    fold = split(corpus)
    assert class_counts(corpus, fold).min() >= 2
    assert class_lines(corpus, fold) == []
    # Nine of ten speakers have at most two classes, so four pairs with all classes need eight of them to fit exactly;
    # three of five pairs are whole, and no validation part lacks a class.
    folds = [split(corpus, number) for number in range(1, fold.count + 1)]
    counts = np.array([class_counts(corpus, one) for one in folds])
    assert (counts[:, :2] > 0).all()
    assert (counts[:, 2] > 0).all(axis=1).sum() == 3
    former = np.array([class_counts(corpus, split(corpus, number, FORMER_AUTO)) for number in range(1, 9)])
    assert (former[:, 1:] > 0).all(axis=2).sum() == 0  # not one validation or test part had all classes


def test_where_no_pairs_can_have_every_class_there_are_fewer_groups():
    """Each of nine speakers has one of three classes: only three groups can have them all."""
    speakers = people({f"s{place}": np.eye(3)[place % 3] * 5 for place in range(9)})
    groups = fold_groups_of(speakers)
    assert len(groups) == 3
    assert [sorted(int(name[1]) % 3 for name in group) for group in groups] == [[0, 1, 2]] * 3


def test_a_class_of_one_speaker_is_trained_on():
    utterances = {f"s{place:02d}": (4, 4, 4, 0) for place in range(10)}
    corpus = corpus_of(utterances | {"s09": (4, 4, 4, 3)})
    fold = split(corpus)
    assert class_counts(corpus, fold)[:, 3].tolist() == [3, 0, 0]
    assert fold.count == 8  # a class that two folds cannot share does not cost folds


def test_what_a_fold_lacks_is_said_with_the_numbers():
    utterances = {f"s{place:02d}": (4, 4, 4, 0) for place in range(10)}
    corpus = corpus_of(utterances | {"s09": (4, 4, 4, 2)})
    said = class_lines(corpus, split(corpus))
    assert "warning: UAR over 3 of 4 classes (validation has no sad)" in said
    assert "warning: UAR over 3 of 4 classes (test has no sad)" in said
    assert "warning: few train utterances: 2 of sad" in said
    assert said[-1].split() == ["sad", "2", "0", "0"]
    lines = folds_lines(corpus, [split(corpus, number) for number in range(1, 9)])
    assert len([line for line in lines if line.startswith("class sad is not in the validation of")]) == 1


def test_a_validation_of_one_class_is_refused_with_advice_that_works():
    corpus = corpus_of({"a": (9, 0), "b": (0, 9), "c": (0, 8), "d": (6, 0)})
    with pytest.raises(UserError, match=r"validation of fold \d of corpus 'toy' has one class alone") as refused:
        check_classes(corpus, split(corpus), "auto", "held-out")
    advice = str(refused.value).splitlines()[0].rpartition("Choose another fold: ")[2].split()
    given_ = dict(zip(advice[::2], advice[1::2], strict=True))
    validation = given_.get("--validation", "held-out")
    by = given_.get("--split-by", "auto")
    check_classes(corpus, split(corpus, int(given_["--fold"]), by, validation), by, validation)


def test_advice_prefers_folds_that_leak_no_speakers():
    corpus = corpus_of({"a": (9, 0), "b": (5, 5), "c": (4, 4), "d": (6, 3)})
    with pytest.raises(UserError, match=r"Choose another fold: --fold \d"):
        check_classes(corpus, split(corpus, 2, "speaker"), "speaker", "held-out")


def test_a_training_finds_the_folds_of_version_0_1():
    corpus = corpus_of(UNBALANCED)
    former = split(corpus, 7, FORMER_AUTO)

    def check(fold):
        if rows_digest(corpus, fold) != rows_digest(corpus, former):
            raise UserError("another fold")

    assert rows_digest(corpus, fold_begun(corpus, 7, "auto", "held-out", check)) == rows_digest(corpus, former)
    with pytest.raises(UserError, match="another fold"):
        fold_begun(corpus, 1, "auto", "held-out", check)


def test_a_confirmation_validates_on_more_speakers_where_one_lacks_classes():
    corpus = corpus_of(UNBALANCED)
    for fold in design_folds(corpus):
        counts = class_counts(corpus, fold)
        assert (counts[0] > 0).all()
        assert (counts[1] > 0).sum() >= 3
        assert corpus.table["speaker"].iloc[fold.validation].nunique() <= 3


def test_speakers_of_two_genders_are_counted_once():
    corpus = corpus_of({"a": (1, 1), "b": (1, 1), "c": (1, 1)})
    table = corpus.table.assign(gender=["male", "female", "female", "female", "male", "male"])
    assert speakers_of(Corpus("toy", table, corpus.classes, Path("/audio"))).genders == ("female", "female", "male")


def calls(number, shared=False):
    """Return a corpus of callers with two of four classes each, every one in a session of their own or of two."""
    classes = [(0, 1), (2, 3), (0, 2), (1, 3)]
    utterances = {f"s{one:02d}": tuple(3 * (place in classes[one % 4]) for place in range(4)) for one in range(number)}
    corpus = corpus_of(utterances)
    session = corpus.table["speaker"].map(lambda name: f"call {int(name[1:]) // (1 + shared):02d}")
    return replace(corpus, table=corpus.table.assign(session=session))


@pytest.mark.parametrize(("number", "shared"), [(12, False), (40, False), (40, True)])
def test_many_sessions_are_held_out_in_groups_that_are_alike(number, shared):
    corpus = calls(number, shared)
    unit, groups = fold_groups(corpus)
    assert unit == "session group"
    assert len(groups) <= MAX_FOLDS
    assert sorted(name for group in groups for name in group) == sorted(set(corpus.table["speaker"]))
    session = dict(zip(corpus.table["speaker"], corpus.table["session"], strict=True))
    for found in (groups, [set(corpus.table["speaker"].iloc[one.test]) for one in design_folds(corpus)]):
        of = [{session[name] for name in group} for group in found]
        assert sum(map(len, of)) == len(set(session.values()))  # no session is in two groups
    for number in range(1, len(groups) + 1):
        assert (class_counts(corpus, split(corpus, number)) > 0).all()
    for by in ("session", FORMER_AUTO):
        assert [len(group) for group in fold_groups(corpus, by)[1]] == [1 + shared] * len(set(session.values()))


def test_more_than_24_sessions_are_tested_in_groups():
    assert {fold.unit for fold in design_folds(calls(24))} == {"session"}
    folds = design_folds(calls(40))
    assert (len(folds), {fold.unit for fold in folds}) == (24, {"session group"})
