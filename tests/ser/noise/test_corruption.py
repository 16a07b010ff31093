import json
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpora.corpus import Corpus
from ser.noise import NAMED_LEVELS, RECIPES, check_level, corrupt, corrupt_level
from ser.noise.crema_d_confusions import crema_d_transition
from ser.utils.errors import UserError

EMOTIONS = ("angry", "fearful", "happy", "neutral", "sad")
recipes = pytest.mark.parametrize("recipe", sorted(RECIPES))
battery = settings(max_examples=25, deadline=None)


def corpus_of(labels, classes, votes=None, speakers=None, true_labels=None, ids=None, name="tiny"):
    table = pd.DataFrame(
        {
            "utterance_id": ids or [f"u{i:05}" for i in range(len(labels))],
            "speaker": speakers or ["s"] * len(labels),
            "label": list(labels),
        }
    )
    if votes is not None:
        table["votes"] = pd.Series(list(votes), dtype=object)
    if true_labels is not None:
        table["true_label"] = pd.Series(list(true_labels), dtype=object)
    return Corpus(name, table, tuple(classes), synthesize=lambda _: np.zeros(16, dtype=np.float32))


def random_corpus(seed, size, width=5):
    rng = np.random.default_rng(seed)
    classes = tuple(rng.permutation(EMOTIONS)[:width].tolist())
    votes = rng.integers(0, 3, (size, width))
    votes[np.arange(size), rng.integers(0, width, size)] += 1
    labels = [classes[i] for i in rng.integers(0, width, size)]
    speakers = [f"s{i}" for i in rng.integers(0, 4, size)]
    return corpus_of(labels, classes, [tuple(map(int, row)) for row in votes], speakers)


@st.composite
def corpora(draw):
    return random_corpus(draw(st.integers(0, 10**6)), draw(st.integers(1, 30)), draw(st.integers(2, 5)))


@st.composite
def corpora_in_parts(draw):
    corpus = draw(corpora())
    part = np.array(draw(st.lists(st.integers(0, 2), min_size=len(corpus), max_size=len(corpus))))
    return corpus, {"train": np.flatnonzero(part == 0), "validation": np.flatnonzero(part == 1)}


def most_possible(corpus, recipe, rows):
    parts = corrupt(corpus, recipe, 0, 0, rows).manifest["parts"].values()
    return min((part["most_possible"] for part in parts if part["utterances"]), default=1.0)


def flips(noisy):
    return {i: noisy.labels[i] for i in np.flatnonzero(noisy.labels != noisy.truth)}


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
    assert set(noisy.labels) <= set(corpus.classes)


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
    if len(train) and recipe != "pair":  # whose pairs are those of the whole corpus
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
    eligible = dissent.any(axis=1)
    noisy = corrupt(corpus, "disagreement", eligible.mean(), seed)
    assert (noisy.labels != noisy.truth).tolist() == eligible.tolist()
    assert all(dissent[i, corpus.classes.index(label)] for i, label in flips(noisy).items())


# Answers known by hand.


def four_utterances():
    return corpus_of(
        ["sad", "sad", "angry", "happy"],
        ("angry", "happy", "sad"),
        votes=[(1, 0, 2), (0, 0, 3), (3, 0, 0), (0, 2, 1)],
        speakers=["ann", "ann", "bob", "bob"],
    )


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
    corpus = corpus_of(["sad"] * 4, ("angry", "sad"), votes=[(0, 3), (1, 2), (0, 3), (0, 3)])
    assert flips(corrupt(corpus, "disagreement", 0.1249, 0)) == {}
    assert flips(corrupt(corpus, "disagreement", 0.125, 0)) == {1: "angry"}
    assert flips(corrupt(corpus, "disagreement", 0.25, 0)) == {1: "angry"}


def test_half_an_utterance_rounds_up_of_the_rate_as_written():
    corpus = corpus_of(["sad"] * 50, ("angry", "sad"))
    assert corrupt(corpus, "symmetric", 0.29, 0).manifest["parts"]["all"]["flipped"] == 15


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
    corpus = corpus_of(["sad"] * 3000, ("angry", "happy", "sad"), votes=[(3, 1, 5)] * 3000)
    drawn = list(flips(corrupt(corpus, "disagreement", 0.4, 11)).values())
    assert drawn.count("angry") / 1200 == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 1200))


def test_the_more_annotators_dissent_the_sooner_the_instance_flips():
    # Shares of dissent .1 and .9: as exponential clocks run, the first of two is the second with chance .9.
    corpus = corpus_of(["sad"] * 2000, ("angry", "sad"), votes=[(1, 9), (9, 1)] * 1000)
    flipped = np.array(list(flips(corrupt(corpus, "instance", 0.05, 3))))
    assert (flipped % 2).mean() == pytest.approx(0.9, abs=4 * np.sqrt(0.9 * 0.1 / 100))
    few = corpus_of(["sad"] * 4, ("angry", "sad"), votes=[(0, 3), (1, 2), (0, 3), (0, 3)])
    assert flips(corrupt(few, "instance", 0.25, 0)) == {1: "angry"}


def test_votes_for_categories_outside_the_classes_dilute_dissent():
    corpus = corpus_of(["sad"] * 2000, ("angry", "sad"), votes=[(1, 1)] * 2000)
    table = corpus.table.assign(other_votes=[0, 8] * 1000)
    corpus = Corpus("tiny", table, corpus.classes, synthesize=corpus.synthesize)
    flipped = np.array(list(flips(corrupt(corpus, "instance", 0.05, 3))))
    assert (flipped % 2).mean() == pytest.approx(1 / 6, abs=4 * np.sqrt(5 / 36 / 100))


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


def matrix_file(tmp_path, text):
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    return f"matrix:{tmp_path / 'm.csv'}"


def test_a_matrix_gives_its_classes_and_its_rates(tmp_path):
    # Counts in another order than the corpus's; happy is never mislabelled.
    recipe = matrix_file(tmp_path, ",sad,happy,angry\nangry,3,1,12\nhappy,0,9,0\nsad,50,0,50\n")
    corpus = corpus_of(["angry"] * 4000 + ["happy"] * 4000 + ["sad"] * 4000, ("angry", "happy", "sad"))
    noisy = corrupt(corpus, recipe, 0.05, 0)
    rates = noisy.manifest["rate_by_class"]
    assert rates["happy"] == 0
    assert rates["sad"] / rates["angry"] == pytest.approx(2, rel=0.3)  # 50 % against 25 %
    drawn = [label for row, label in flips(noisy).items() if row < 4000]
    assert drawn.count("sad") / len(drawn) == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / len(drawn)))
    assert set(flips(noisy).values()) == {"angry", "sad", "happy"}
    assert "m.csv, digest " in noisy.manifest["note"]
    with pytest.raises(UserError, match=r"most possible is matrix:.*:0\.6666"):
        corrupt(corpus, recipe, 0.7, 0)
    assert corrupt_level(corpus, f"{recipe}:0.05", 0).manifest == noisy.manifest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file has none"),
        (",angry,sad\n", "the file has none"),
        (",angry,sad\nangry,1\nsad,0,1\n", "angry: expected 2 non-negative rates"),
        (",angry,sad\nangry,1,-1\nsad,0,1\n", "angry: expected 2 non-negative rates"),
        (",angry,sad\nangry,1,nan\nsad,0,0\n", "(?s)angry: expected 2.*sad: expected 2"),
        (",angry,sad\nangry,1,0\nangry,1,0\n", "angry: row appears more than once"),
        (",angry,angry\nangry,1,0\nsad,1,0\n", "angry: column appears more than once"),
        (",angry,sad\nangry,1,much\nsad,1,0\n", "angry: expected 2"),
        (",angry,joy\nangry,1,0\njoy,1,0\n", "(?s)sad: no row.*sad: no column.*joy: is not a class of the corpus"),
    ],
)
def test_a_file_that_is_not_a_matrix_of_the_classes_is_an_error(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        corrupt(corpus_of(["sad", "angry"], ("angry", "sad")), matrix_file(tmp_path, text), 0.5, 0)


def test_a_matrix_that_is_missing_or_binary_is_an_error(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        check_level(f"matrix:{tmp_path}/none.csv:0.3")
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        check_level(f"matrix:{tmp_path}/m.csv:0.3")


def test_symmetric_is_uniform_over_the_other_classes():
    drawn = list(flips(corrupt(corpus_of(["sad"] * 3000, EMOTIONS), "symmetric", 0.4, 12)).values())
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

    angry = flips(corrupt(corpus_of(["angry"] * 3000, EMOTIONS), "human", 0.4, 14)).values()
    heard = np.array([0, 0.051, 0.019, 0.176, 0.011])
    shares = [list(angry).count(name) / 1200 for name in EMOTIONS]
    assert shares == pytest.approx(heard / heard.sum(), abs=0.05)


def test_a_class_heard_as_nothing_else_is_not_eligible():
    corpus = corpus_of(["neutral", "boredom", "neutral"], ("neutral", "boredom"))
    noisy = corrupt(corpus, "human", 0.3333, 0)
    assert flips(noisy) == {1: "neutral"}
    assert noisy.manifest["eligible_share"] == pytest.approx(1 / 3)
    with pytest.raises(UserError, match=r"most possible is human:0\.3333; or use symmetric:0\.9"):
        corrupt(corpus, "human", 0.9, 0)


# Levels.


def dissent(eligible, size):
    return [(1, 2) if i < eligible else (0, 3) for i in range(size)]


def test_noisy_levels_are_disagreement_where_every_part_has_the_votes():
    corpus = corpus_of(["sad"] * 20, ("angry", "sad"), votes=dissent(10, 10) + dissent(4, 10))
    parts = {"train": range(10), "validation": range(10, 20)}
    a, b = (corrupt_level(corpus, level, 0, parts) for level in ("noisy-A", "noisy-B"))
    assert [part["flipped"] for part in a.manifest["parts"].values()] == [3, 3]
    assert [part["flipped"] for part in b.manifest["parts"].values()] == [4, 4]
    assert (a.manifest["recipe"], a.manifest["rate_asked"], a.manifest["level"]) == ("disagreement", 0.2648, "noisy-A")
    assert (b.manifest["rate_asked"], b.manifest["eligible_share_asked"], b.manifest["note"]) == (0.4019, None, "")


def test_noisy_levels_are_shares_of_the_eligible_where_one_part_lacks_the_votes_for_noisy_b():
    corpus = corpus_of(["sad"] * 20, ("angry", "sad"), votes=dissent(10, 10) + dissent(3, 10))
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
        assert "no vote in corpus" in str(error)  # noqa: PT017
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
    corpus = corpus_of(["sad"] * 3, ("angry", "sad"), votes=[(1, 2), None, (1, 2)])
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
    corpus = corpus_of(["sad"] * 14, ("angry", "sad"), votes=dissent(7, 7) + dissent(2, 7))
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
