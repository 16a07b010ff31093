import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score, brier_score_loss, f1_score, log_loss

from ser.evaluation import METRICS, TINY, expected_calibration_error, scores, soft_cross_entropy


def certain(predicted: list[int], num_classes: int) -> NDArray[np.float64]:
    return np.eye(num_classes)[predicted]


def distributions(rows: int, num_classes: int) -> st.SearchStrategy[NDArray[np.float64]]:
    raw = arrays(np.float64, (rows, num_classes), elements=st.floats(0.01, 1.0))
    return raw.map(lambda values: values / values.sum(axis=1, keepdims=True))


# Classes: recalls 2/3, 1/2, 1; precisions 1, 1/2, 1/2; F1 .8, .5, 2/3.
LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("uar", (2 / 3 + 1 / 2 + 1) / 3),
        ("wa", 4 / 6),
        ("f1_weighted", (3 * 0.8 + 2 * 0.5 + 1 * 2 / 3) / 6),
        ("f1_macro", (0.8 + 0.5 + 2 / 3) / 3),
        ("brier", 2 * 2 / 6),  # two wrong ones, certain
        ("ece", 2 / 6),
        ("loss", -2 * math.log(TINY) / 6),
    ],
)
def test_six_predictions_score_as_worked_out_by_hand(metric: str, expected: float) -> None:
    assert scores(certain(PREDICTED, 3), LABELS)[metric] == pytest.approx(expected)


def test_a_class_without_labels_does_not_count_even_if_predicted() -> None:
    result = scores(certain([0, 2, 1, 1], 4), np.array([0, 0, 1, 1]))
    assert result["uar"] == pytest.approx((0.5 + 1) / 2)
    assert result["f1_macro"] == pytest.approx((2 / 3 + 1) / 2)
    assert result["f1_weighted"] == pytest.approx((2 * 2 / 3 + 2 * 1) / 4)


def test_every_metric_is_given_under_its_name() -> None:
    assert tuple(scores(certain(PREDICTED, 3), LABELS)) == METRICS


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@given(distributions(12, 4), arrays(np.int64, 12, elements=st.integers(0, 3)))
def test_scores_agree_with_scikit_learn(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    result, predicted = scores(probabilities, labels), probabilities.argmax(axis=1)
    assert result["uar"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert result["wa"] == pytest.approx(accuracy_score(labels, predicted))
    assert result["f1_weighted"] == pytest.approx(f1_score(labels, predicted, average="weighted"))
    assert result["loss"] == pytest.approx(log_loss(labels, probabilities, labels=range(4)))
    by_class = [brier_score_loss(labels == index, probabilities[:, index]) for index in range(4)]
    assert result["brier"] == pytest.approx(sum(by_class))


def test_brier_and_loss_of_one_prediction_are_worked_out_by_hand() -> None:
    result = scores(np.array([[0.7, 0.2, 0.1]]), np.array([0]))
    assert result["brier"] == pytest.approx(0.09 + 0.04 + 0.01)
    assert result["loss"] == pytest.approx(-math.log(0.7))
    assert result["ece"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("confidence", "correct", "bins", "expected"),
    [
        ([0.5, 0.5, 0.9, 0.9], [1, 0, 1, 1], 15, 0.05),  # gaps 0 and .1, half of all each
        ([0.7, 0.8], [1, 0], 15, (0.3 + 0.8) / 2),  # two bins: nothing cancels
        ([0.7, 0.72], [1, 0], 15, (0.72 - 0.3) / 2),  # one bin: it does
        ([0.25, 0.5], [1, 0], 2, (0.75 - 0.5) / 2),  # an edge belongs to the bin below it
        ([0.0, 1.0], [0, 1], 15, 0.0),
        ([0.0, 1.0], [1, 0], 15, 1.0),
    ],
)
def test_ece_is_worked_out_by_hand(confidence: list[float], correct: list[int], bins: int, expected: float) -> None:
    result = expected_calibration_error(np.array(confidence), np.array(correct, dtype=bool), bins)
    assert result == pytest.approx(expected)


def test_perfect_calibration_has_no_error() -> None:
    confidence = np.repeat(np.arange(1, 11) / 10, 10)
    correct = np.concatenate([np.arange(10) < right for right in range(1, 11)])
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.0)


def test_soft_cross_entropy_is_worked_out_by_hand() -> None:
    probabilities, soft = np.array([[0.25, 0.75], [1.0, 0.0]]), np.array([[0.5, 0.5], [1.0, 0.0]])
    assert soft_cross_entropy(probabilities, soft) == pytest.approx(-0.5 * (math.log(0.25) + math.log(0.75)) / 2)


@given(distributions(3, 4), distributions(3, 4))
def test_soft_cross_entropy_is_least_at_the_soft_labels(
    probabilities: NDArray[np.float64], soft: NDArray[np.float64]
) -> None:
    assert soft_cross_entropy(probabilities, soft) >= soft_cross_entropy(soft, soft) - 1e-12


@pytest.mark.parametrize(("rows", "labels"), [(0, []), (2, [0, 1, 0]), (3, [0, 1])])
def test_predictions_must_fit_the_labels(rows: int, labels: list[int]) -> None:
    with pytest.raises(ValueError, match=f"{rows} predictions for {len(labels)} labels"):
        scores(np.full((rows, 2), 0.5), np.array(labels, dtype=np.int64))
