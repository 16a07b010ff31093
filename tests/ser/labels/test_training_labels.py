"""Labels from votes: right values, from the rows of a subset alone, scored against the corpus's labels."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ser.corpora import Corpus, load
from ser.corpora.corpus import count_votes
from ser.labels import LABEL_KINDS, LabelKind, kind_of
from ser.labels.dawid_skene import fit_dawid_skene
from ser.labels.judgements import judgements_of, votes_digest
from ser.labels.training_labels import labels_line, training_labels
from ser.noise import NoisyLabels, corrupt_level
from ser.utils.errors import UserError
from tests.helpers import corpus_trees

CLASSES = ("angry", "happy", "sad")
FROM_VOTES: tuple[LabelKind, ...] = LABEL_KINDS[1:]
Vote = tuple[str, str | None, str]


def judged(labels: dict[str, str], votes: Iterable[Vote], selves: Iterable[Vote] = ()) -> Corpus:
    """Return a corpus of utterances with these labels; votes are (utterance, annotator, named category)."""
    rows = [(*vote, False) for vote in votes] + [(*vote, True) for vote in selves]
    annotations = pd.DataFrame(rows, columns=["utterance_id", "annotator", "label", "is_self"])
    counts, others = count_votes(annotations, list(labels), CLASSES)
    table = pd.DataFrame({"utterance_id": list(labels), "speaker": "s", "label": list(labels.values())})
    table = table.assign(votes=pd.Series(counts, dtype=object), other_votes=others)
    silence = np.zeros(16, dtype=np.float32)
    return Corpus("judged", table, CLASSES, synthesize=lambda _: silence, annotations=annotations)


def random_votes(seed: int = 0, utterances: int = 40) -> Corpus:
    rng = np.random.default_rng(seed)
    labels = {f"u{number:02}": CLASSES[number % 3] for number in range(utterances)}
    votes = []
    for name, label in labels.items():
        for annotator in range(3):
            votes.append((name, f"a{annotator}", label if rng.random() < 0.5 else CLASSES[rng.integers(3)]))
    return judged(labels, votes)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return random_votes()


FOUR = judged(
    {"u1": "angry", "u2": "happy", "u3": "sad", "u4": "sad"},
    [
        ("u1", "ann", "angry"), ("u1", "bob", "angry"), ("u1", "bob", "angry"), ("u1", "cem", "sad"),  # bob twice: once
        ("u2", "ann", "angry"), ("u2", "ann", "happy"), ("u2", "bob", "angry"),  # ann names two
        ("u3", "ann", "sad"), ("u3", "bob", "bored"), ("u3", "cem", "bored"),  # outside the classes
        ("u4", "ann", "happy"), ("u4", "bob", "sad"),  # a tie
    ],
    [("u4", "s", "angry")],
)  # fmt: skip


def names(made: NoisyLabels) -> list[str]:
    return [str(name) for name in made.labels]


def test_plurality_counts_each_category_of_an_annotator_once_and_no_self_evaluation() -> None:
    made = training_labels(FOUR, "plurality", "clean", 0)
    assert names(made)[:3] == ["angry", "angry", "sad"]
    assert names(made)[3] in {"happy", "sad"}
    facts = {"votes": 3 + 3 + 1 + 2, "votes_outside": 2, "ties": 1}
    assert made.manifest["labels"] == {"kind": "plurality", "subsets": {"all": facts}}
    assert made.targets is None


def test_soft_targets_are_the_shares_of_the_votes_beside_the_plurality() -> None:
    made = training_labels(FOUR, "soft", "clean", 0)
    assert made.targets is not None
    assert made.targets[:3] == pytest.approx(np.array([[2 / 3, 0, 1 / 3], [2 / 3, 1 / 3, 0], [0, 0, 1]]))
    assert names(made) == names(training_labels(FOUR, "plurality", "clean", 0))


def test_dawid_skene_labels_are_the_largest_posteriors(corpus: Corpus) -> None:
    rows = np.arange(len(corpus))
    fitted = fit_dawid_skene(judgements_of(corpus, rows), len(corpus), 3)
    made = training_labels(corpus, "dawid_skene", "clean", 0)
    assert corpus.class_indices(made.labels).tolist() == fitted.posteriors.argmax(axis=1).tolist()
    facts = made.manifest["labels"]["subsets"]["all"]
    assert facts == {
        "votes": 120, "votes_outside": 0, "annotators": 3, "iterations": fitted.iterations, "ties": 0,
    }  # fmt: skip


def test_judgements_of_rows_are_those_that_votes_count() -> None:
    rows = np.array([2, 0])
    found = judgements_of(FOUR, rows)
    assert found.annotators == ("ann", "bob", "cem")
    assert found.outside == 2
    counted = np.zeros((2, 3), dtype=int)
    np.add.at(counted, (found.utterance, found.label), 1)
    assert FOUR.votes is not None
    assert counted.tolist() == FOUR.votes[rows].tolist()


@pytest.mark.parametrize("kind", FROM_VOTES)
def test_the_corpus_label_is_the_truth_and_the_manifest_says_how_far_labels_differ(
    corpus: Corpus, kind: LabelKind
) -> None:
    made = training_labels(corpus, kind, "clean", 0, {"train": range(30), "validation": range(30, 36)})
    assert made.truth.tolist() == corpus.table["label"].tolist()
    wrong = int((made.labels[:30] != made.truth[:30]).sum())
    assert wrong > 0
    assert made.manifest["parts"]["train"]["rate"] == wrong / 30
    assert np.sum(made.manifest["transition_counts"]) == 36
    assert kind_of(made.manifest) == kind
    assert list(made.manifest["labels"]["subsets"]) == ["train", "validation"]
    assert f"{wrong / 30:.2%} other labels" in labels_line(made.manifest)
    assert names(made)[36:] == corpus.table["label"].tolist()[36:]  # of no subset


@pytest.mark.parametrize("kind", FROM_VOTES)
def test_a_subset_never_sees_the_votes_of_others(corpus: Corpus, kind: LabelKind) -> None:
    rows = {"train": range(25), "validation": range(25, 33)}
    assert corpus.annotations is not None
    for seen, unseen in ((slice(0, 25), slice(25, 40)), (slice(25, 33), slice(0, 25))):
        changed = set(corpus.table["utterance_id"][unseen])
        turned = corpus.annotations.assign(
            label=[
                CLASSES[(CLASSES.index(label) + 1) % 3] if name in changed else label
                for name, label in zip(corpus.annotations["utterance_id"], corpus.annotations["label"], strict=True)
            ]
        )
        counts, _ = count_votes(turned, list(corpus.table["utterance_id"]), CLASSES)
        table = corpus.table.assign(votes=pd.Series(counts, dtype=object))
        other = replace(corpus, table=table, annotations=turned)
        one, two = (training_labels(which, kind, "clean", 0, rows) for which in (corpus, other))
        assert names(one)[seen] == names(two)[seen]
        assert names(one) != names(two)
        if one.targets is not None and two.targets is not None:
            assert one.targets[seen].tolist() == two.targets[seen].tolist()


@pytest.mark.parametrize("kind", FROM_VOTES)
def test_neither_the_order_of_votes_nor_the_names_of_annotators_matter(corpus: Corpus, kind: LabelKind) -> None:
    assert corpus.annotations is not None
    shuffled = corpus.annotations.sample(frac=1, random_state=0)
    renamed = shuffled.assign(annotator=shuffled["annotator"].map({"a0": "z", "a1": "m", "a2": "b"}))
    other = replace(corpus, annotations=renamed)
    assert names(training_labels(other, kind, "clean", 1)) == names(training_labels(corpus, kind, "clean", 0))
    assert votes_digest(replace(corpus, annotations=shuffled)) == votes_digest(corpus)
    assert votes_digest(other) != votes_digest(corpus)


def test_ties_fall_by_the_utterance_alone_and_on_every_tied_class() -> None:
    labels = {f"u{number:03}": "sad" for number in range(300)}
    tied = judged(labels, [(name, f"a{place}", label) for name in labels for place, label in enumerate(CLASSES[1:])])
    made = training_labels(tied, "plurality", "clean", 0)
    assert made.manifest["labels"]["subsets"]["all"]["ties"] == 300
    happy = names(made).count("happy")
    assert 110 < happy < 190
    assert names(made).count("sad") == 300 - happy
    some = training_labels(tied, "plurality", "clean", 5, {"train": range(100, 200)})
    assert names(some)[100:200] == names(made)[100:200]


def test_unanimous_votes_give_the_same_labels_for_all_kinds() -> None:
    labels = {f"u{number}": CLASSES[number % 2] for number in range(6)}  # nobody votes for the third class
    votes = [(name, annotator, label) for name, label in labels.items() for annotator in ("ann", "bob")]
    corpus = judged(labels, [*votes, ("u0", "cem", "angry")])  # cem judges once
    for kind in FROM_VOTES:
        made = training_labels(corpus, kind, "clean", 0)
        assert names(made) == list(labels.values())
        assert made.manifest["rate_realised"] == 0


def test_consensus_is_the_noise_level_and_the_manifest_says_so(corpus: Corpus) -> None:
    made, drawn = training_labels(corpus, "consensus", "symmetric:0.5", 3), corrupt_level(corpus, "symmetric:0.5", 3)
    assert names(made) == names(drawn)
    assert made.manifest == drawn.manifest
    assert made.manifest["labels"] == {"kind": "consensus"}
    assert kind_of({key: value for key, value in made.manifest.items() if key != "labels"}) == "consensus"


@pytest.mark.parametrize("kind", FROM_VOTES)
@pytest.mark.parametrize("level", ["noisy-A", "given", "symmetric:0"])
def test_labels_from_votes_go_with_the_clean_level_only(corpus: Corpus, kind: LabelKind, level: str) -> None:
    with pytest.raises(UserError, match=rf"--labels {kind}: .* not with '{level}'"):
        training_labels(corpus, kind, level, 0)


@pytest.mark.parametrize("kind", FROM_VOTES)
def test_without_votes_there_are_no_labels_from_votes(corpus: Corpus, kind: LabelKind) -> None:
    unvoted = replace(corpus, table=corpus.table.drop(columns="votes"))
    with pytest.raises(UserError, match=f"--labels {kind}: corpus 'judged' has no votes. Train on --labels consensus"):
        training_labels(unvoted, kind, "clean", 0)


def test_dawid_skene_needs_votes_of_named_annotators(corpus: Corpus) -> None:
    counts_alone = replace(corpus, annotations=None)
    with pytest.raises(UserError, match="'judged' has no individual votes"):
        training_labels(counts_alone, "dawid_skene", "clean", 0)
    assert corpus.annotations is not None
    hidden = [None if number < 7 else name for number, name in enumerate(corpus.annotations["annotator"])]
    anonymous = replace(corpus, annotations=corpus.annotations.assign(annotator=hidden))
    with pytest.raises(UserError, match="7 of 120 votes of corpus 'judged' are anonymous"):
        training_labels(anonymous, "dawid_skene", "clean", 0)
    training_labels(anonymous, "dawid_skene", "clean", 0, {"train": range(20, 40)})  # those of other rows do not count
    fewer = replace(corpus, annotations=corpus.annotations[corpus.annotations["utterance_id"] != "u05"])
    with pytest.raises(UserError, match=r"u05.*no annotator named one of the classes"):
        training_labels(fewer, "dawid_skene", "clean", 0)


def test_counts_of_votes_are_enough_for_plurality_and_soft(tmp_path: Path) -> None:
    corpus = load("crema-d", corpus_trees.crema_d(tmp_path))
    for kind in ("plurality", "soft"):
        made = training_labels(corpus, kind, "clean", 0)  # type: ignore[arg-type]
        assert set(made.labels) <= set(corpus.classes)
    with pytest.raises(UserError, match="90 of 90 votes of corpus 'crema-d' are anonymous"):
        training_labels(corpus, "dawid_skene", "clean", 0)


@pytest.mark.parametrize("name", ["iemocap", "msp-podcast", "synthetic"])
def test_corpora_with_named_annotators_can_be_fitted(name: str, tmp_path: Path) -> None:
    trees = {"iemocap": corpus_trees.iemocap, "msp-podcast": corpus_trees.msp_podcast}
    corpus = load(name, trees[name](tmp_path)) if name in trees else load(name)
    made = training_labels(corpus, "dawid_skene", "clean", 0)
    assert made.manifest["labels"]["subsets"]["all"]["annotators"] > 1
    assert corpus.votes is not None
    assert made.manifest["labels"]["subsets"]["all"]["votes"] == corpus.votes.sum()
