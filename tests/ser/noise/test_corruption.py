import json
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser.corpora.corpus import Corpus
from ser.noise import RECIPES, corrupt, corrupt_level
from ser.noise.crema_d_confusions import crema_d_transition
from ser.utils.errors import UserError
from tests.helpers.tiny_corpora import (
    EMOTIONS,
    battery,
    corpora,
    corpora_in_parts,
    corpus_and_rows,
    corpus_of,
    flips,
    four_utterances,
    random_corpus,
)

recipes = pytest.mark.parametrize("recipe", sorted(RECIPES))


def most_possible(corpus, recipe, rows):
    parts = corrupt(corpus, recipe, 0, 0, rows).manifest["parts"].values()
    return min((part["most_possible"] for part in parts if part["utterances"]), default=1.0)


# The battery: what holds for every recipe.


@recipes
@battery
@given(drawn=corpora_in_parts(), share=st.floats(0, 1), seed=st.integers())
def test_each_part_realises_the_rate_to_the_nearest_utterance_and_other_rows_keep_their_label(
    recipe, drawn, share, seed
):
    corpus, parts = drawn
    rate = share * most_possible(corpus, recipe, parts)
    noisy = corrupt(corpus, recipe, rate, seed, parts)
    flipped = noisy.labels != corpus.table["label"].to_numpy(dtype=object)
    for name, positions in parts.items():
        assert abs(int(flipped[positions].sum()) - Fraction(rate) * len(positions)) <= Fraction(1, 2) + Fraction(
            1, 10**9
        )
        assert noisy.manifest["parts"][name]["flipped"] == flipped[positions].sum()
    assert flipped.sum() == sum(flipped[positions].sum() for positions in parts.values())
    assert set(noisy.labels) <= set(corpus.table["label"])


@recipes
@battery
@given(drawn=corpora_in_parts(), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)), seed=st.integers())
def test_flips_at_a_lower_rate_are_among_those_at_a_higher_one_with_the_same_new_label(recipe, drawn, shares, seed):
    corpus, parts = drawn
    most = most_possible(corpus, recipe, parts)
    low, high = (flips(corrupt(corpus, recipe, share * most, seed, parts)) for share in sorted(shares))
    assert low.items() <= high.items()


@recipes
@battery
@given(drawn=corpora_in_parts(), share=st.floats(0, 1), seed=st.integers(), shuffle=st.integers(0, 10**6))
def test_neither_row_order_nor_the_rest_of_the_corpus_matters(recipe, drawn, share, seed, shuffle):
    corpus, parts = drawn
    rate = share * most_possible(corpus, recipe, parts)
    noisy = corrupt(corpus, recipe, rate, seed, parts)
    shuffled = np.random.default_rng(shuffle).permutation(len(corpus))
    again = Corpus(corpus.name, corpus.table.iloc[shuffled], corpus.classes, synthesize=corpus.synthesize)
    reversed_parts = {name: list(reversed(rows)) for name, rows in reversed(parts.items())}
    other = corrupt(again, recipe, rate, seed, reversed_parts)
    assert list(other.labels) == list(noisy.labels)
    assert other.manifest == noisy.manifest

    train = corpus.table.iloc[parts["train"]]
    same_classes = set(train["label"]) == set(corpus.table["label"])
    if same_classes and recipe != "pair":  # whose pairs are those of the whole corpus
        alone = corrupt(Corpus("other", train, corpus.classes, synthesize=corpus.synthesize), recipe, rate, seed)
        assert list(alone.labels) == list(noisy.labels[parts["train"]])


@recipes
@battery
@given(corpus=corpora(), share=st.floats(0, 1), seed=st.integers())
def test_the_manifest_is_json_and_agrees_with_the_labels(recipe, corpus, share, seed):
    rate = share * most_possible(corpus, recipe, None)
    noisy = corrupt(corpus, recipe, rate, seed)
    manifest = noisy.manifest
    assert json.loads(json.dumps(manifest, allow_nan=False)) == manifest
    wrong = noisy.labels != noisy.truth
    assert manifest["rate_realised"] == wrong.mean()
    counts = pd.crosstab(
        pd.Categorical(noisy.truth, corpus.classes), pd.Categorical(noisy.labels, corpus.classes), dropna=False
    )
    assert manifest["transition_counts"] == counts.to_numpy().tolist()
    for row, name in zip(manifest["transition_rates"], corpus.classes, strict=True):
        assert sum(row) == pytest.approx(float(name in noisy.truth))
    for column, key in ((noisy.truth, "rate_by_class"), (corpus.table["speaker"], "rate_by_speaker")):
        rates = {name: rate for name, rate in manifest[key].items() if rate is not None}
        assert rates == pytest.approx(pd.Series(wrong).groupby(np.asarray(column)).mean().to_dict())


@recipes
def test_another_seed_draws_other_utterances_and_another_digest(recipe):
    corpus = random_corpus(0, 60)
    one, two = (corrupt(corpus, recipe, 0.3, seed) for seed in (1, 2))
    assert flips(one).keys() != flips(two).keys()
    assert one.manifest["digest"] != two.manifest["digest"]


@recipes
def test_the_digest_follows_from_ids_and_noisy_labels_alone(recipe):
    corpus = random_corpus(0, 60)
    rates = [corrupt(corpus, recipe, rate, 1).manifest["digest"] for rate in (0.3, 0.301, 0.4)]
    assert rates[0] == rates[1] != rates[2]
    nothing = {corrupt(corpus, recipe, 0, seed).manifest["digest"] for seed in (1, 2)}
    assert nothing == {corrupt_level(corpus, "clean", 3).manifest["digest"]}


@battery
@given(corpus=corpora(), seed=st.integers())
def test_disagreement_gives_a_dissenting_vote_and_no_other_utterance_is_eligible(corpus, seed):
    dissent = corpus.votes.copy()
    dissent[np.arange(len(corpus)), corpus.labels] = 0
    dissent[:, np.setdiff1d(np.arange(len(corpus.classes)), corpus.labels)] = 0  # nobody is given an unknown class
    eligible = dissent.any(axis=1)
    noisy = corrupt(corpus, "disagreement", eligible.mean(), seed)
    assert (noisy.labels != noisy.truth).tolist() == eligible.tolist()
    assert all(dissent[i, corpus.classes.index(label)] for i, label in flips(noisy).items())


# Answers known by hand.


def test_two_dissenting_votes_make_the_one_possible_noise_at_rate_half():
    noisy = corrupt(four_utterances(), "disagreement", 0.5, seed=7)
    assert list(noisy.labels) == ["angry", "sad", "angry", "sad"]
    assert list(noisy.truth) == ["sad", "sad", "angry", "happy"]
    manifest = noisy.manifest
    assert manifest["level"] == "disagreement:0.5"
    assert manifest["recipe"] == "disagreement"
    assert "consensus label was replaced by a dissenting annotator's vote" in manifest["definition"]
    assert manifest["rate_asked"] == manifest["rate_realised"] == manifest["eligible_share"] == 0.5
    assert manifest["parts"] == {
        "all": {"utterances": 4, "truth_known": 4, "flipped": 2, "rate": 0.5, "most_possible": 0.5}
    }
    assert manifest["transition_counts"] == [[1, 0, 0], [0, 0, 1], [1, 0, 1]]
    assert manifest["transition_rates"] == [[1, 0, 0], [0, 0, 1], [0.5, 0, 0.5]]
    assert manifest["rate_by_class"] == {"angry": 0, "happy": 1, "sad": 0.5}
    assert manifest["rate_by_speaker"] == {"ann": 0.5, "bob": 0.5}
    assert manifest["seed"] == 7
    assert manifest["classes"] == ["angry", "happy", "sad"]
    assert manifest["corpus"] == "tiny"
    assert manifest["corpus_digest"] == four_utterances().digest


def test_one_eligible_utterance_flips_from_rate_an_eighth_on():
    corpus, rows = corpus_and_rows(["sad"] * 4, ("angry", "sad"), [(0, 3), (1, 2), (0, 3), (0, 3)])
    assert flips(corrupt(corpus, "disagreement", 0.1249, 0, rows)) == {}
    assert flips(corrupt(corpus, "disagreement", 0.125, 0, rows)) == {1: "angry"}
    assert flips(corrupt(corpus, "disagreement", 0.25, 0, rows)) == {1: "angry"}


def test_half_an_utterance_rounds_up_of_the_rate_as_written():
    corpus, rows = corpus_and_rows(["sad"] * 50, ("angry", "sad"))
    assert corrupt(corpus, "symmetric", 0.29, 0, rows).manifest["parts"]["rows"]["flipped"] == 15


@pytest.mark.parametrize("recipe", ["symmetric", "human"])
def test_two_classes_swap_entirely_at_rate_one(recipe):
    noisy = corrupt(corpus_of(["sad", "angry", "sad"], ("angry", "sad")), recipe, 1, 0)
    assert list(noisy.labels) == ["angry", "sad", "angry"]


def test_an_empty_part_has_no_rate():
    noisy = corrupt(four_utterances(), "symmetric", 0.5, 0, {"train": [0, 1], "validation": []})
    empty = noisy.manifest["parts"]["validation"]
    assert empty == {"utterances": 0, "truth_known": 0, "flipped": 0, "rate": None, "most_possible": None}
    assert noisy.manifest["rate_realised"] == 0.5
    nothing = corrupt(four_utterances(), "symmetric", 0.5, 0, [])
    assert nothing.manifest["rate_realised"] is None
    json.dumps(nothing.manifest, allow_nan=False)


def test_a_mask_and_positions_name_the_same_rows():
    corpus = random_corpus(3, 20)
    mask = np.arange(20) % 3 == 0
    by_mask, by_position = (corrupt(corpus, "symmetric", 0.5, 0, r) for r in (mask, np.flatnonzero(mask)))
    assert by_mask.manifest == by_position.manifest
    assert list(by_mask.manifest["parts"]) == ["rows"]


def test_the_draw_is_the_same_on_every_machine():
    votes = [(1, 0, 0, 3, 1), (0, 2, 0, 1, 2), (3, 0, 0, 0, 0), (0, 1, 2, 1, 0)] * 3
    corpus = corpus_of(["neutral", "sad", "angry", "happy"] * 3, EMOTIONS, votes)
    drawn = {recipe: flips(corrupt(corpus, recipe, 0.25, 5)) for recipe in ("disagreement", "human", "symmetric")}
    # Worked out apart, in plain Python from the hash and the formulas.
    assert drawn == {
        "disagreement": {0: "sad", 1: "neutral", 11: "neutral"},
        "human": {1: "neutral", 6: "neutral", 11: "sad"},
        "symmetric": {1: "neutral", 6: "sad", 11: "sad"},
    }


def test_a_dissenting_vote_is_drawn_with_multiplicity():
    corpus, rows = corpus_and_rows(["sad"] * 3000, ("angry", "happy", "sad"), [(3, 1, 5)] * 3000)
    drawn = list(flips(corrupt(corpus, "disagreement", 0.4, 11, rows)).values())
    assert drawn.count("angry") / 1200 == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 1200))


def test_a_pair_is_the_class_that_most_votes_dissent_for():
    votes = [(0, 3, 2), (1, 3, 0), (4, 1, 0), (0, 0, 5)]
    corpus = corpus_of(["happy", "happy", "angry", "sad"], ("angry", "happy", "sad"), votes)
    noisy = corrupt(corpus, "pair", 0.75, 0)
    assert list(noisy.labels) == ["sad", "sad", "happy", "sad"]  # nobody takes sad for another: it cannot flip
    assert noisy.manifest["note"] == ("Pairs by the corpus's votes: angry → happy, happy → sad, sad → sad.")
    with pytest.raises(UserError, match=r"The most possible is pair:0\.75"):
        corrupt(corpus, "pair", 0.9, 0)


def test_without_votes_pairs_are_what_listeners_hear():
    noisy = corrupt(corpus_of(["anger", "sadness", "fear"], ("anger", "fear", "sadness")), "pair", 1, 0)
    assert list(noisy.labels) == ["fear", "fear", "sadness"]
    assert noisy.manifest["note"].startswith("Pairs by CREMA-D's listeners: ")


def test_symmetric_is_uniform_over_the_other_classes():
    corpus, rows = corpus_and_rows(["sad"] * 3000, EMOTIONS)
    drawn = list(flips(corrupt(corpus, "symmetric", 0.4, 12, rows)).values())
    shares = [drawn.count(name) / 1200 for name in EMOTIONS]
    assert shares == pytest.approx([0.25, 0.25, 0.25, 0.25, 0], abs=4 * np.sqrt(0.25 * 0.75 / 1200))


# The human recipe.


def test_human_noise_flips_misheard_classes_more_and_to_what_is_heard():
    corpus = corpus_of(["neutral", "sad"] * 2000, ("neutral", "sad"))
    stay = crema_d_transition(corpus.classes).diagonal()
    assert stay == pytest.approx([0.762 / 0.832, 0.250 / 0.781])
    rates = corrupt(corpus, "human", 0.3, 13).manifest["rate_by_class"]
    # A share of 1 − exp(−(1 − diagonal) t) of each class has flipped at time t of the race.
    times = [-np.log(1 - rates[name]) / (1 - stay[i]) for i, name in enumerate(corpus.classes)]
    assert times[0] == pytest.approx(times[1], rel=0.2)

    corpus, rows = corpus_and_rows(["angry"] * 3000, EMOTIONS)
    angry = flips(corrupt(corpus, "human", 0.4, 14, rows)).values()
    heard = np.array([0, 0.051, 0.019, 0.176, 0.011])
    shares = [list(angry).count(name) / 1200 for name in EMOTIONS]
    assert shares == pytest.approx(heard / heard.sum(), abs=0.05)


def test_more_than_is_possible_names_the_most():
    corpus = corpus_of(["angry", "sad", "sad"], ("angry", "happy", "sad"), votes=[(1, 0, 2), (0, 1, 2), (0, 0, 3)])
    with pytest.raises(UserError, match=r"most possible is disagreement:0\.3333; or use human:0\.9 or symmetric:0\.9"):
        corrupt(corpus, "disagreement", 0.9, 0)


# Classes without utterances.


@recipes
@battery
@given(corpus=corpora(), seed=st.integers())
def test_noise_lands_on_no_class_that_the_corpus_lacks(recipe, corpus, seed):
    noisy = corrupt(corpus, recipe, most_possible(corpus, recipe, None), seed)
    assert set(noisy.labels) <= set(corpus.table["label"])


def test_a_class_without_utterances_changes_no_noise_of_the_others():
    labels = ["sad", "angry", "happy"] * 20
    votes = [(0, 1, 2), (2, 1, 0), (1, 2, 0)] * 20
    corpus = corpus_of(labels, ("angry", "happy", "sad"), votes)
    wider = corpus_of(labels, ("angry", "happy", "sad", "boredom"), [(*counts, 9) for counts in votes])
    for recipe in RECIPES:
        alike = [list(corrupt(one, recipe, 0.4, 0).labels) for one in (corpus, wider)]
        assert alike[0] == alike[1], recipe


def test_a_corpus_of_one_class_takes_no_noise():
    with pytest.raises(UserError, match="needs 1 of its 4 utterances and has 0"):
        corrupt(corpus_of(["sad"] * 4, ("angry", "sad")), "symmetric", 0.25, 0)


# Classes that CREMA-D lacks.


def test_human_noise_of_other_classes_names_what_to_take_instead():
    corpus = corpus_of(["neutral", "calm", "sad"], ("neutral", "calm", "sad"))
    with pytest.raises(UserError, match=r"and not 'calm'.*--classes neutral,sad, merge .*symmetric:RATE"):
        corrupt(corpus, "human", 0.3, 0)
    with pytest.raises(UserError, match=r"no votes, so noisy-A .*and not 'calm'.*symmetric:0\.2648"):
        corrupt_level(corpus, "noisy-A", 0)
    with pytest.raises(UserError, match="and not 'calm'"):
        corrupt(corpus, "pair", 0.3, 0)


def test_a_removed_recipe_names_what_to_take_instead():
    with pytest.raises(UserError, match=r"'instance' has been removed.*Use disagreement:RATE"):
        corrupt(four_utterances(), "instance", 0.1, 0)
