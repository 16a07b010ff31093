import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    classification_report,
    f1_score,
    log_loss,
    matthews_corrcoef,
)

from ser.metrics.agreement import STRATA, strata
from ser.metrics.classification import (
    METRICS,
    SOFT_METRICS,
    TINY,
    GroupScore,
    Metric,
    confusion,
    expected_calibration_error,
    f1_macro_votes,
    jensen_shannon,
    recalls,
    restrict,
    scores,
    soft_cross_entropy,
    soft_scores,
    uar,
    uar_by_group,
)
from ser.training import evaluation
from ser.training.task import Subset


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
        ("nll", -2 * math.log(TINY) / 6),
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
    assert list(scores(certain(PREDICTED, 3), LABELS)) == list(METRICS)
    soft = np.eye(3)[LABELS]
    assert list(soft_scores(soft, soft)) == list(SOFT_METRICS)


def test_macro_f1_of_the_classes_above_chance_is_worked_out_by_hand() -> None:
    votes = np.array([[2, 1, 0, 0], [1, 1, 1, 1], [0, 1, 3, 0], [0, 0, 4, 0]])  # a+b (a third is above 1/4), none, c, c
    probabilities = np.array([[0.5, 0.2, 0.3, 0.0], [0.1, 0.7, 0.1, 0.1], [0.3, 0.3, 0.3, 0.1], [0.2, 0.2, 0.2, 0.4]])
    # Predicted: a+c, b, a+b+c, d. F1 of a: 2 · 1 / (2 + 1), of b: 0 / (2 + 1), of c: 2 · 1 / (2 + 2); d is not named.
    found = f1_macro_votes(probabilities, votes / votes.sum(axis=1, keepdims=True))
    assert found == pytest.approx((2 / 3 + 0 + 1 / 2) / 3)
    assert np.isnan(f1_macro_votes(np.eye(4)[[0]], np.full((1, 4), 0.25)))  # nobody is above chance


@given(distributions(12, 4), distributions(12, 4))
def test_macro_f1_of_the_classes_above_chance_agrees_with_scikit_learn(
    probabilities: NDArray[np.float64], soft: NDArray[np.float64]
) -> None:
    named = soft > 1 / 4
    by_class = f1_score(named, probabilities > 1 / 4, average=None, zero_division=0)
    found = f1_macro_votes(probabilities, soft)
    if named.any():
        assert found == pytest.approx(by_class[named.any(axis=0)].mean())
    if not np.isclose(soft, 1 / 4).any():
        smoothed = 0.05 / 3 + (1 - 0.05 - 0.05 / 3) * soft  # as in the label files of EMO-SUPERB
        assert f1_macro_votes(probabilities, smoothed) == pytest.approx(found, nan_ok=True)


def test_a_metric_that_is_added_is_recorded_for_validation_and_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "mcc", Metric(lambda p, y, _: matthews_corrcoef(y, p.argmax(axis=1)), "MCC", True))
    probabilities = certain(PREDICTED, 3)
    subset = Subset(np.arange(6), tuple("abcdef"), LABELS, LABELS, None, ("s",) * 6, ("unknown",) * 6)
    expected = pytest.approx(matthews_corrcoef(LABELS, PREDICTED))
    assert evaluation.subset_metrics("val", probabilities, subset)["val/mcc"] == expected
    assert evaluation.test_metrics("test/last", probabilities, subset)["test/last/mcc"] == expected


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@given(distributions(12, 4), arrays(np.int64, 12, elements=st.integers(0, 3)))
def test_scores_agree_with_scikit_learn(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    result, predicted = scores(probabilities, labels), probabilities.argmax(axis=1)
    assert result["uar"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert result["wa"] == pytest.approx(accuracy_score(labels, predicted))
    assert result["f1_weighted"] == pytest.approx(f1_score(labels, predicted, average="weighted"))
    assert result["nll"] == result["loss"] == pytest.approx(log_loss(labels, probabilities, labels=range(4)))
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


@pytest.mark.parametrize(
    ("predicted", "soft", "expected"),
    [
        ([0.25, 0.75], [0.25, 0.75], 0.0),
        ([1.0, 0.0], [0.0, 1.0], math.log(2)),
        # The mixture is (3/4, 1/4).
        ([1.0, 0.0], [0.5, 0.5], 0.75 * math.log(4 / 3) + 0.25 * math.log(4) - math.log(2) / 2),
    ],
)
def test_jensen_shannon_is_worked_out_by_hand(predicted: list[float], soft: list[float], expected: float) -> None:
    assert jensen_shannon(np.array([predicted]), np.array([soft])) == pytest.approx(expected, abs=1e-15)


@given(distributions(3, 4), distributions(3, 4))
def test_jensen_shannon_agrees_with_scipy(probabilities: NDArray[np.float64], soft: NDArray[np.float64]) -> None:
    expected = (jensenshannon(probabilities, soft, axis=1) ** 2).mean()
    found = jensen_shannon(probabilities, soft)
    assert found == pytest.approx(np.nan_to_num(expected), abs=1e-12)
    assert found == pytest.approx(jensen_shannon(soft, probabilities), abs=1e-12)
    assert 0 <= found <= math.log(2)


def test_a_confusion_matrix_has_labels_as_rows_and_predictions_as_columns() -> None:
    counts = confusion(certain(PREDICTED, 4), LABELS)
    assert counts.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert recalls(counts)[:3] == pytest.approx([2 / 3, 1 / 2, 1])
    assert math.isnan(recalls(counts)[3])


@given(distributions(12, 4), arrays(np.int64, 12, elements=st.integers(0, 3)))
def test_recalls_agree_with_scikit_learn_and_average_to_uar(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> None:
    counts = confusion(probabilities, labels)
    predicted = probabilities.argmax(axis=1)
    expected = classification_report(labels, predicted, labels=range(4), output_dict=True, zero_division=np.nan)
    assert recalls(counts) == pytest.approx([expected[str(index)]["recall"] for index in range(4)], nan_ok=True)
    assert np.nanmean(recalls(counts)) == pytest.approx(scores(probabilities, labels)["uar"])
    assert counts.sum() == 12


def test_groups_are_scored_over_the_classes_that_they_have() -> None:
    found = uar_by_group(certain(PREDICTED, 3), LABELS, ["b", "b", "b", "b", "a", "a"])
    assert list(found) == ["a", "b"]
    assert found["a"] == GroupScore(uar=0.5, utterances=2, classes=2)  # class 1 never, class 2 always
    assert found["b"] == GroupScore(uar=pytest.approx((2 / 3 + 1) / 2), utterances=4, classes=2)


@given(distributions(12, 3), arrays(np.int64, 12, elements=st.integers(0, 2)), st.lists(st.booleans(), min_size=12))
def test_a_groups_uar_is_that_of_its_utterances_alone(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], left: list[bool]
) -> None:
    member = np.array(left[:12])
    for name, score in uar_by_group(probabilities, labels, np.where(member, "left", "right")).items():
        of_group = member == (name == "left")
        assert score.uar == pytest.approx(scores(probabilities[of_group], labels[of_group])["uar"])
        assert score.utterances == of_group.sum()


def test_agreement_strata_come_from_full_agreement_to_none_and_empty_ones_are_left_out() -> None:
    votes = [[3, 0], [1, 1], [0, 2], [1, 1]]
    found = uar_by_group(certain([0, 1, 0, 0], 2), np.array([0, 0, 1, 1]), strata(votes), STRATA)
    assert {name: score.uar for name, score in found.items()} == {"unanimous": 0.5, "none": 0.0}
    assert list(found) == ["unanimous", "none"]


def test_groups_must_fit_the_labels_and_the_order() -> None:
    with pytest.raises(ValueError, match="2 groups for 1 labels"):
        uar_by_group(certain([0], 2), np.array([0]), ["a", "b"])
    with pytest.raises(ValueError, match=r"\['a'\] are not among \['b'\]"):
        uar_by_group(certain([0], 2), np.array([0]), ["a"], ["b"])


@pytest.mark.parametrize("function", [scores, confusion])
@pytest.mark.parametrize(("rows", "labels"), [(0, []), (2, [0, 1, 0]), (3, [0, 1])])
def test_predictions_must_fit_the_labels(function: Callable[..., object], rows: int, labels: list[int]) -> None:
    with pytest.raises(ValueError, match=f"{rows} predictions for {len(labels)} labels"):
        function(np.full((rows, 2), 0.5), np.array(labels, dtype=np.int64))


def test_uar_is_the_mean_recall_of_the_classes_present() -> None:
    assert uar(np.array([1, 0, 3]), np.array([2, 0, 4])) == (0.5 + 0.75) / 2
    assert math.isnan(uar(np.zeros(2), np.zeros(2)))


def test_restricted_probabilities_keep_their_ratios_and_their_order() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), size=50)
    found = restrict(probabilities, [4, 0, 2])
    assert np.allclose(found.sum(axis=1), 1)
    assert np.allclose(found[:, 0] / found[:, 2], probabilities[:, 4] / probabilities[:, 2])
    assert restrict(np.array([[1.0, 0.0, 0.0]]), [1, 2]).tolist() == [[0.5, 0.5]]  # neither is known
