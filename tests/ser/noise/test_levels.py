import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser.corpora.corpus import Corpus
from ser.noise import NAMED_LEVELS, check_level, corrupt, corrupt_level
from ser.utils.errors import UserError
from tests.helpers.tiny_corpora import (
    EMOTIONS,
    battery,
    corpora_in_parts,
    corpus_and_rows,
    corpus_of,
    flips,
    four_utterances,
    random_corpus,
)


def dissent(eligible, size):
    return [(1, 2) if i < eligible else (0, 3) for i in range(size)]


def test_noisy_levels_are_disagreement_where_every_part_has_the_votes():
    corpus, _ = corpus_and_rows(["sad"] * 20, ("angry", "sad"), dissent(10, 10) + dissent(4, 10))
    parts = {"train": range(10), "validation": range(10, 20)}
    a, b = (corrupt_level(corpus, level, 0, parts) for level in ("noisy-A", "noisy-B"))
    assert [part["flipped"] for part in a.manifest["parts"].values()] == [3, 3]
    assert [part["flipped"] for part in b.manifest["parts"].values()] == [4, 4]
    assert (a.manifest["recipe"], a.manifest["rate_asked"], a.manifest["level"]) == ("disagreement", 0.2648, "noisy-A")
    assert (b.manifest["rate_asked"], b.manifest["eligible_share_asked"], b.manifest["note"]) == (0.4019, None, "")


def test_noisy_levels_are_shares_of_the_eligible_where_one_part_lacks_the_votes_for_noisy_b():
    corpus, _ = corpus_and_rows(["sad"] * 20, ("angry", "sad"), dissent(10, 10) + dissent(3, 10))
    parts = {"train": range(10), "validation": range(10, 20)}
    a, b = (corrupt_level(corpus, level, 0, parts) for level in ("noisy-A", "noisy-B"))
    assert [part["flipped"] for part in a.manifest["parts"].values()] == [4, 1]
    assert [part["flipped"] for part in b.manifest["parts"].values()] == [6, 2]
    assert flips(a).items() < flips(b).items()
    assert a.manifest["rate_realised"] == 0.25
    assert a.manifest["eligible_share_asked"] == 0.4
    assert "train: 10 of 10, validation: 3 of 10" in a.manifest["note"]
    assert "noise flips in 0.6 of each subset's eligible utterances" in b.manifest["note"]


@battery
@given(drawn=corpora_in_parts(), seed=st.integers(), has_votes=st.booleans())
def test_noisy_a_is_nested_in_noisy_b(drawn, seed, has_votes):
    corpus, parts = drawn
    if not has_votes:
        corpus = Corpus("mute", corpus.table.drop(columns="votes"), corpus.classes, synthesize=corpus.synthesize)
    try:
        a, b = (corrupt_level(corpus, level, seed, parts) for level in ("noisy-A", "noisy-B"))
    except UserError as error:
        one_class = corpus.table["label"].nunique() == 1
        assert one_class or "no vote in corpus" in str(error)  # noqa: PT017
        return
    assert flips(a).items() <= flips(b).items()


def test_noisy_levels_of_a_corpus_without_votes_are_confusion_matrix_noise():
    corpus = corpus_of(["sad", "angry"] * 500, EMOTIONS)
    noisy = corrupt_level(corpus, "noisy-B", 3)
    assert list(noisy.labels) == list(corrupt(corpus, "human", 0.4019, 3).labels)
    assert noisy.manifest["recipe"] == "human"
    assert noisy.manifest["rate_realised"] == 0.402
    assert "Corpus 'tiny' has no votes, so noisy-B is confusion-matrix noise" in noisy.manifest["note"]


def test_utterances_that_lack_votes_are_counted():
    corpus = corpus_of(["sad", "angry", "sad"], ("angry", "sad"), votes=[(1, 2), None, (1, 2)])
    assert "1 of the 3 utterances" in corrupt_level(corpus, "noisy-A", 0).manifest["note"]
    with pytest.raises(UserError, match=r"1 of the 3 utterances.*have no votes.*human:RATE or symmetric:RATE"):
        corrupt(corpus, "disagreement", 0.1, 0)


def test_noisy_levels_of_unanimous_votes_are_an_error():
    with pytest.raises(UserError, match=r"no vote in corpus 'tiny' dissents.*human:0\.2648"):
        corrupt_level(corpus_of(["sad"] * 3, ("angry", "sad"), votes=[(0, 3)] * 3), "noisy-A", 0)


def test_clean_keeps_the_consensus_labels():
    noisy = corrupt_level(four_utterances(), "clean", 0)
    assert list(noisy.labels) == list(noisy.truth) == ["sad", "sad", "angry", "happy"]
    assert noisy.manifest["rate_asked"] == noisy.manifest["rate_realised"] == 0
    assert noisy.manifest["parts"]["all"]["most_possible"] is None


def test_recipe_and_rate_make_a_level():
    corpus = random_corpus(0, 20)
    level = corrupt_level(corpus, "symmetric:0.3", 4, [1, 2, 3])
    assert level.manifest == corrupt(corpus, "symmetric", 0.3, 4, [1, 2, 3]).manifest


def given_corpus(true_labels):
    return corpus_of(
        ["sad", "angry", "sad", "sad"], ("angry", "sad"), true_labels=true_labels, speakers=["ann", "ann", "bob", "cy"]
    )


def test_given_labels_are_scored_against_the_true_ones():
    noisy = corrupt_level(given_corpus(["angry", "angry", "sad", "sad"]), "given", 0)
    assert list(noisy.labels) == ["sad", "angry", "sad", "sad"]
    assert list(noisy.truth) == ["angry", "angry", "sad", "sad"]
    assert noisy.manifest["rate_asked"] is None
    assert noisy.manifest["rate_realised"] == 0.25
    assert noisy.manifest["transition_counts"] == [[1, 1], [0, 2]]
    assert noisy.manifest["note"] == ""


def test_given_labels_count_known_truth_only():
    noisy = corrupt_level(given_corpus(["angry", None, "sad", None]), "given", 0, {"train": [0, 2], "x": [3]})
    assert list(noisy.truth) == ["angry", None, "sad", None]
    manifest = noisy.manifest
    assert (manifest["truth_known"], manifest["rate_realised"]) == (2, 0.5)
    assert manifest["parts"]["x"] == {
        "utterances": 1,
        "truth_known": 0,
        "flipped": None,
        "rate": None,
        "most_possible": None,
    }
    assert manifest["rate_by_speaker"] == {"ann": 1, "bob": 0, "cy": None}
    assert "known for 2 of 3 utterances" in manifest["note"]


def test_given_labels_without_truth_say_what_is_left_out():
    noisy = corrupt_level(given_corpus(None), "given", 0)
    assert list(noisy.labels) == ["sad", "angry", "sad", "sad"]
    assert list(noisy.truth) == [None] * 4
    manifest = noisy.manifest
    assert manifest["truth_known"] == 0
    for key in ("rate_realised", "transition_counts", "transition_rates", "rate_by_class", "rate_by_speaker"):
        assert manifest[key] is None
    assert "No true label is known" in manifest["note"]
    json.dumps(manifest, allow_nan=False)


# Mistakes.


@pytest.mark.parametrize("level", [*NAMED_LEVELS, "symmetric:0.3", "human:1", "disagreement:0"])
def test_levels_that_exist_pass_the_check(level):
    check_level(level)


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ("noisy-C", "Did you mean .*'noisy-A'"),
        ("symetric:0.3", "Did you mean 'symmetric'"),
        ("symmetric", "Did you mean .*'symmetric:RATE'"),
        ("symmetric:", "rate '' is not a number"),
        ("symmetric:lots", "rate 'lots' is not a number"),
        ("symmetric:30", "30.0 is not between 0 and 1"),
        ("symmetric:-0.1", "-0.1 is not between 0 and 1"),
        ("human:nan", "nan is not between 0 and 1"),
        ("human:inf", "inf is not between 0 and 1"),
        ("clean:0.3", "unknown noise recipe 'clean'"),
        ("", "unknown noise level ''"),
    ],
)
def test_unknown_levels_are_errors_that_name_the_nearest(level, message):
    for check in (check_level, lambda name: corrupt_level(four_utterances(), name, 0)):
        with pytest.raises(UserError, match=message):
            check(level)


def test_corrupt_checks_recipe_and_rate():
    with pytest.raises(UserError, match="Did you mean 'disagreement'"):
        corrupt(four_utterances(), "disagrement", 0.1, 0)
    with pytest.raises(UserError, match="not between 0 and 1"):
        corrupt(four_utterances(), "symmetric", float("nan"), 0)


def test_more_disagreement_than_the_votes_allow_names_the_most_and_that_succeeds():
    corpus, _ = corpus_and_rows(["sad"] * 14, ("angry", "sad"), dissent(7, 7) + dissent(2, 7))
    parts = {"train": range(7), "validation": range(7, 14)}
    with pytest.raises(UserError) as caught:
        corrupt(corpus, "disagreement", 0.5, 0, parts)
    message = str(caught.value)
    assert "subset 'validation' needs 4 of its 7 utterances and has 2" in message
    assert "'train'" not in message
    assert "The most possible is disagreement:0.2857; or use human:0.5 or symmetric:0.5." in message
    assert corrupt(corpus, "disagreement", 0.2857, 0, parts).manifest["parts"]["validation"]["flipped"] == 2


def test_disagreement_without_votes_suggests_recipes_that_need_none():
    with pytest.raises(UserError, match=r"corpus 'tiny' has no votes.*human:RATE or symmetric:RATE"):
        corrupt(corpus_of(["sad", "angry"], ("angry", "sad")), "disagreement", 0.1, 0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"train": [0, 1], "validation": [1, 2]}, "row 1 is given more than once"),
        ([2, 2], "row 2 is given more than once"),
        ([4], "must be in"),
        ([-1], "must be in"),
        ([True, False], "or a mask of 4"),
        ([0.5], "expected positions"),
        ([[0, 1]], "expected positions"),
        ({}, "no subsets"),
    ],
)
def test_rows_that_make_no_sense_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        corrupt(four_utterances(), "symmetric", 0.5, 0, rows)
