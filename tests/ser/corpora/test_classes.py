"""Classes that are chosen, merged and renamed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ser.corpora import Corpus, load
from ser.corpora.classes import NO_VOTE, OTHER_TRUTH, choose_classes
from ser.noise import corrupt_level
from ser.utils.errors import UserError
from tests.helpers.corpus_trees import BUILDERS

CHOSEN = {
    "iemocap": "ang,hap=hap+exc,neu,sad",
    "ravdess": "neutral,happy,sad,angry,fearful,disgust",
    "emodb": "anger,disgust,fear,happiness,neutral,sadness",
    "msp-podcast": "anger,disgust,fear,happiness,neutral,sadness",
    "esd": "angry,happy,neutral,sad",
    "crema-d": "anger,happiness,neutral,sadness",
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small folder of each corpus."""
    return {name: BUILDERS[name](tmp_path_factory.mktemp(name)) for name in [*CHOSEN, "iemocap-4"]}


def made(rows: list[tuple[object, ...]], columns: tuple[str, ...], classes: tuple[str, ...]) -> Corpus:
    table = pd.DataFrame(rows, columns=list(columns))
    ids = [f"u{number}" for number in range(len(rows))]
    return Corpus("made", table.assign(utterance_id=ids, speaker="s"), classes, synthesize=lambda _: np.zeros(1))


CLASSES = ("angry", "calm", "happy", "neutral")
VOTED = made(
    [
        ("angry", (2, 1, 0, 0), 0),
        ("calm", (0, 2, 0, 1), 1),
        ("happy", (0, 0, 3, 0), 0),
        ("neutral", (0, 1, 0, 1), 2),
        ("angry", (0, 0, 3, 0), 1),
    ],
    ("label", "votes", "other_votes"),
    CLASSES,
)


# Answers known by hand


def test_classes_are_merged_renamed_and_left_out_with_their_votes() -> None:
    corpus = choose_classes(VOTED, "quiet=neutral+calm, anger=angry")
    assert corpus.classes == ("quiet", "anger")
    # u2 is happy. u4 is angry, but all of its votes are for happy or something else.
    assert corpus.table["utterance_id"].tolist() == ["u0", "u1", "u3"]
    assert corpus.table["label"].tolist() == ["anger", "quiet", "quiet"]
    assert corpus.votes is not None
    assert corpus.votes.tolist() == [[1, 2], [3, 0], [2, 0]]
    assert corpus.other_votes.tolist() == [0, 1, 2]
    assert corpus.outside == {"happy": 1, NO_VOTE: 1}
    assert corpus.notes == (
        f"classes quiet (neutral + calm), anger (angry): 3 of 5 utterances, without 1 happy, 1 {NO_VOTE}",
    )


def test_votes_for_classes_left_out_become_other_votes() -> None:
    corpus = choose_classes(VOTED, "angry,happy,neutral")
    assert corpus.table["utterance_id"].tolist() == ["u0", "u2", "u3", "u4"]
    assert corpus.votes is not None
    assert corpus.votes.tolist() == [[2, 0, 0], [0, 3, 0], [0, 0, 1], [0, 3, 0]]
    assert corpus.other_votes.tolist() == [1, 0, 3, 1]
    assert corpus_disagrees(corpus) == ["u4"]


def corpus_disagrees(corpus: Corpus) -> list[str]:
    """Return the utterances that disagreement noise can change."""
    noisy = corrupt_level(corpus, "disagreement:0.25", 0)
    return corpus.table["utterance_id"][noisy.labels != noisy.truth].tolist()


def test_utterances_without_votes_stay_without() -> None:
    corpus = made([("angry", None), ("calm", (0, 1, 0, 0)), ("happy", None)], ("label", "votes"), CLASSES)
    assert choose_classes(corpus, "angry,calm").table["votes"].tolist() == [None, (0, 1)]


def test_true_labels_are_mapped_and_utterances_with_another_one_are_left_out() -> None:
    rows = [("angry", "calm"), ("calm", "happy"), ("happy", "angry"), ("neutral", None)]
    corpus = choose_classes(made(rows, ("label", "true_label"), CLASSES), "angry,quiet=calm+neutral")
    assert corpus.table["label"].tolist() == ["angry", "quiet"]
    assert corpus.table["true_label"].iloc[0] == "quiet"
    assert corpus.class_indices(corpus.table["true_label"]).tolist() == [1, -1]
    assert corpus.outside == {"happy": 1, OTHER_TRUTH: 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("angry,hapy", "unknown class of corpus 'made': 'hapy'. Did you mean 'happy'"),
        ("angry,quiet=calm+neutra", "'neutra'. Did you mean 'neutral'"),
        ("angry,quiet=calm+angry", "uses class 'angry' twice"),
        ("angry,angry", "uses class 'angry' twice"),
        ("quiet=calm,quiet=neutral", "names class 'quiet' twice"),
        ("angry", "at least two"),
        ("all=angry+calm+happy+neutral", "at least two"),
        ("", "empty name"),
        ("angry,,calm", "empty name"),
        ("angry,=calm", "empty name"),
        ("angry,quiet=", "empty name"),
        ("angry,quiet=calm+", "empty name"),
        ("happy=angry,calm", "'happy' is another category"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        choose_classes(VOTED, text)
    assert message in str(error.value)


def test_a_choice_without_utterances_is_an_error() -> None:
    calm = made([("calm",)], ("label",), CLASSES)
    with pytest.raises(UserError, match="leaves none of the 1 utterances"):
        choose_classes(calm, "angry,happy")


# Every corpus


def test_the_four_classes_of_iemocap_are_a_choice_of_its_six(trees: dict[str, Path]) -> None:
    chosen = load("iemocap", trees["iemocap"], classes=CHOSEN["iemocap"])
    four = load("iemocap-4", trees["iemocap-4"])
    assert chosen.digest == four.digest
    assert chosen.outside == four.outside
    assert chosen.annotations is not None
    assert four.annotations is not None
    pd.testing.assert_frame_equal(chosen.annotations, four.annotations)


def test_an_annotator_who_names_two_merged_classes_has_one_vote(trees: dict[str, Path]) -> None:
    six = load("iemocap", trees["iemocap"])
    assert six.annotations is not None
    utterance = six.table["utterance_id"][six.table["label"] == "hap"].iloc[0]
    more = pd.DataFrame([(utterance, "E9", word, False) for word in ("hap", "exc")], columns=six.annotations.columns)
    both = Corpus("both", six.table, six.classes, six.root, annotations=pd.concat([six.annotations, more]))
    before, after = (choose_classes(one, CHOSEN["iemocap"]) for one in (six, both))
    row = before.table["utterance_id"].tolist().index(utterance)
    assert before.votes is not None
    assert after.votes is not None
    assert (after.votes - before.votes)[row].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("name", sorted(CHOSEN))
def test_naming_all_classes_changes_nothing(trees: dict[str, Path], name: str) -> None:
    corpus = load(name, trees[name], classes="all")
    assert load(name, trees[name], classes=",".join(corpus.classes)).digest == corpus.digest
    assert corpus.notes == ()


@pytest.mark.parametrize("name", sorted(CHOSEN))
def test_a_choice_makes_the_named_levels_possible(trees: dict[str, Path], name: str) -> None:
    corpus = load(name, trees[name], classes=CHOSEN[name])
    noisy = corrupt_level(corpus, "noisy-A", 0)
    assert noisy.manifest["recipe"] == ("human" if corpus.votes is None else "disagreement")
    assert noisy.manifest["rate_realised"] > 0


@pytest.mark.parametrize("name", ["ravdess", "emodb", "esd"])
def test_all_classes_without_votes_name_the_choice_that_human_noise_knows(trees: dict[str, Path], name: str) -> None:
    corpus = load(name, trees[name], classes="all")
    with pytest.raises(UserError) as error:
        corrupt_level(corpus, "noisy-A", 0)
    assert f"--classes {CHOSEN[name]}," in str(error.value)
    assert "symmetric:0.2648" in str(error.value)


def test_ravdess_has_the_classes_of_crema_d_unless_all_are_asked_for(trees: dict[str, Path]) -> None:
    shared, everything = (load("ravdess", trees["ravdess"], classes=classes) for classes in (None, "all"))
    assert shared.classes == ("neutral", "happy", "sad", "angry", "fearful", "disgust")
    assert (len(shared), len(everything), len(everything.classes)) == (24, 32, 8)
    assert shared.notes == (
        "classes neutral, happy, sad, angry, fearful, disgust: 24 of 32 utterances, without 4 calm, 4 surprised; "
        "--classes all brings all 8 classes",
    )
    assert load("ravdess", trees["ravdess"], classes="quiet=neutral+calm,surprised").outside["happy"] == 4
