"""Posteriors equal crowd-kit's; the model finds good annotators, spammers and the classes that nobody names."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ser.labels.dawid_skene import DawidSkene, fit_dawid_skene
from ser.labels.judgements import Judgements

# Shares of the right class, of random answers, and a seed: from good to useless annotators.
QUALITIES = [(0.9, 0), (0.7, 1), (0.5, 2), (0.3, 3)]


def drawn(right: float, seed: int, *, utterances: int = 60, classes: int = 4, annotators: int = 7) -> Judgements:
    """Draw one to four annotators for each utterance, and sometimes a second class from one of them."""
    rng = np.random.default_rng(seed)
    rows = []
    for utterance in range(utterances):
        truth = int(rng.integers(classes))
        for annotator in rng.choice(annotators, size=rng.integers(1, 5), replace=False):
            named = {
                truth if rng.random() < right else int(rng.integers(classes)) for _ in range(1 + (rng.random() < 0.1))
            }
            rows += [(utterance, int(annotator), label) for label in sorted(named)]
    return made(rows, annotators)


def made(rows: list[tuple[int, int, int]], annotators: int) -> Judgements:
    utterance, annotator, label = np.array(rows, dtype=np.int64).T
    return Judgements(utterance, annotator, label, tuple(f"a{number}" for number in range(annotators)))


def posteriors_of_crowd_kit(judged: Judgements, utterances: int, classes: int) -> NDArray[np.float64]:
    aggregation = pytest.importorskip("crowdkit.aggregation", reason="crowd-kit is not installed (make install)")
    frame = pd.DataFrame({"task": judged.utterance, "worker": judged.annotator, "label": judged.label})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # crowd-kit calls pandas with deprecated arguments
        fitted = aggregation.DawidSkene().fit(frame)
    table = fitted.probas_.reindex(index=range(utterances), columns=range(classes), fill_value=0.0)
    assert fit_dawid_skene(judged, utterances, classes).iterations == len(fitted.loss_history_)
    return np.asarray(table.to_numpy(dtype=float))


@pytest.mark.parametrize(("right", "seed"), QUALITIES)
def test_posteriors_are_those_of_crowd_kit(right: float, seed: int) -> None:
    judged = drawn(right, seed)
    expected = posteriors_of_crowd_kit(judged, 60, 4)
    assert fit_dawid_skene(judged, 60, 4).posteriors == pytest.approx(expected, abs=1e-6)


def test_a_class_that_nobody_names_has_probability_zero_as_in_crowd_kit() -> None:
    judged = drawn(0.7, 4, classes=3)
    judged = Judgements(judged.utterance, judged.annotator, judged.label * 2, judged.annotators)  # classes 0, 2, 4
    fitted = fit_dawid_skene(judged, 60, 6)
    assert fitted.posteriors == pytest.approx(posteriors_of_crowd_kit(judged, 60, 6), abs=1e-6)
    assert not fitted.posteriors[:, [1, 3, 5]].any()
    assert not fitted.prior[[1, 3, 5]].any()


def test_posteriors_are_those_that_crowd_kit_1_4_2_has_given() -> None:
    rows = [
        (0, 0, 2), (0, 1, 1), (0, 3, 1), (0, 2, 1), (0, 2, 2), (1, 0, 2), (1, 3, 0), (1, 2, 2), (1, 1, 2), (2, 0, 2),
        (2, 3, 0), (2, 2, 0), (2, 1, 1), (3, 0, 2), (3, 2, 2), (3, 3, 0), (4, 3, 1), (4, 2, 2), (4, 0, 0), (5, 0, 1),
        (5, 3, 0),
    ]  # fmt: skip
    fitted = fit_dawid_skene(made(rows, 4), 6, 3)
    expected = [[0, 1, 0], [0, 0, 1], [1, 0, 0], [0.000136, 0, 0.999864], [0, 1, 0], [1, 0, 0]]
    assert fitted.posteriors == pytest.approx(np.array(expected), abs=1e-6)
    assert fitted.iterations == 15


def all_judge(labels: NDArray[np.int64]) -> DawidSkene:
    """Fit annotators who judge every utterance: (annotators, utterances) labels of 3 classes."""
    annotators, utterances = labels.shape
    rows = [(u, a, int(labels[a, u])) for a in range(annotators) for u in range(utterances)]
    return fit_dawid_skene(made(rows, annotators), utterances, 3)


def test_perfect_annotators_have_the_identity_and_a_habit_is_seen() -> None:
    truth = np.arange(90) % 3
    habit = np.where(truth == 2, 1, truth)  # two annotators name class 1 for two thirds of class 2
    habit[2::9] = 2
    fitted = all_judge(np.stack([truth, truth, truth, habit, habit]))
    assert fitted.posteriors.argmax(axis=1).tolist() == truth.tolist()
    assert fitted.confusion[0] == pytest.approx(np.eye(3), abs=1e-6)
    assert fitted.confusion[3][2] == pytest.approx([0, 2 / 3, 1 / 3], abs=0.02)
    assert fitted.prior == pytest.approx([1 / 3] * 3, abs=1e-6)


def test_a_spammer_has_a_flat_matrix_and_changes_nothing() -> None:
    truth = np.arange(300) % 3
    rng = np.random.default_rng(0)
    fitted = all_judge(np.stack([truth, truth, rng.integers(3, size=300)]))
    assert fitted.confusion[2] == pytest.approx(np.full((3, 3), 1 / 3), abs=0.1)
    assert fitted.posteriors == pytest.approx(np.eye(3)[truth], abs=1e-6)


def test_posteriors_and_matrices_are_distributions() -> None:
    fitted = fit_dawid_skene(drawn(0.5, 5), 60, 4)
    assert fitted.posteriors.sum(axis=1) == pytest.approx(np.ones(60))
    assert fitted.confusion.sum(axis=2) == pytest.approx(np.ones((7, 4)))
    assert fitted.prior.sum() == pytest.approx(1)


def test_the_order_of_rows_utterances_and_annotators_does_not_matter() -> None:
    judged, rng = drawn(0.5, 6), np.random.default_rng(0)
    rows, utterances, annotators = (rng.permutation(size) for size in (len(judged.label), 60, 7))
    shuffled = Judgements(
        utterances[judged.utterance][rows], annotators[judged.annotator][rows], judged.label[rows], judged.annotators
    )
    one, other = fit_dawid_skene(judged, 60, 4), fit_dawid_skene(shuffled, 60, 4)
    assert other.posteriors[utterances] == pytest.approx(one.posteriors, abs=1e-8)
    assert other.confusion[annotators] == pytest.approx(one.confusion, abs=1e-8)


def test_an_annotator_with_one_judgement_and_unanimous_votes() -> None:
    fitted = fit_dawid_skene(made([(0, 0, 1), (1, 0, 0), (1, 1, 0)], 2), 2, 2)
    assert fitted.posteriors == pytest.approx(np.array([[0.0, 1.0], [1.0, 0.0]]), abs=1e-6)
    assert fitted.confusion[1][0] == pytest.approx([1, 0])  # said class 0 once, of class 0


def test_all_judgements_of_one_class() -> None:
    fitted = fit_dawid_skene(made([(0, 0, 1), (1, 0, 1)], 1), 2, 2)
    assert fitted.posteriors.tolist() == [[0, 1], [0, 1]]
