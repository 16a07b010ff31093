import math
from collections.abc import Sequence
from itertools import chain

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from ser.losses import LossOutput
from ser.training.label_metrics import BatchLog, LabelMetrics

CPU = torch.device("cpu")


def update(
    label_metrics: LabelMetrics,
    predicted: Sequence[int],
    noisy: Sequence[int],
    truth: Sequence[int],
    changed_to: Sequence[int],
    per_sample: Sequence[float] | None = None,
    trust: Sequence[float] | None = None,
) -> None:
    losses = torch.tensor(per_sample or [0.0] * len(noisy))
    targets = F.one_hot(torch.tensor(changed_to), 3).float()
    output = LossOutput(losses.mean(), losses, targets, torch.tensor(trust or [0.0] * len(noisy)))
    label_metrics.update(
        F.one_hot(torch.tensor(predicted), 3).float(), torch.tensor(noisy), torch.tensor(truth), output
    )


def test_four_utterances_give_the_shares_worked_out_by_hand() -> None:
    label_metrics = LabelMetrics(3, CPU)
    # Kept; correctly changed, though the wrong label is predicted; wrongly changed; changed with unknown truth.
    update(
        label_metrics,
        [0, 1, 2, 2],
        [0, 1, 2, 0],
        [0, 0, 2, -1],
        [0, 0, 1, 1],
        [0.0, 1.0, 2.0, 5.0],
        [0.1, 0.2, 0.3, 0.8],
    )
    metrics = label_metrics.metrics()
    assert metrics.pop("uar") == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert metrics.pop("f1_weighted") == pytest.approx((2 * 2 / 3 + 1 + 2 / 3) / 4)
    assert metrics == pytest.approx(
        {
            "loss": 2.0,
            "trust": 0.35,
            "trust_q10": 0.1,
            "trust_q50": 0.2,
            "trust_q90": 0.8,
            "accuracy_clean": 1.0,
            "accuracy_mislabelled": 0.0,
            "labels_changed": 3 / 4,
            "labels_corrected": 1 / 4,
            "correction_precision": 1 / 2,
            "correction_recall": 1.0,
            "memorised": 1.0,
        }
    )


def test_accuracy_is_against_the_truth_of_clean_and_of_mislabelled_utterances_apart() -> None:
    label_metrics = LabelMetrics(3, CPU)
    # Clean: two of three right. Mislabelled: one as its wrong label, one as the truth, one as neither, one right.
    # The last has no known truth.
    update(label_metrics, [0, 1, 0], [0, 1, 2], [0, 1, 2], [0, 1, 2])
    update(label_metrics, [1, 0, 2, 2, 1], [1, 1, 1, 0, 1], [0, 0, 0, 2, -1], [1, 1, 1, 0, 1])
    metrics = label_metrics.metrics()
    assert metrics["accuracy_clean"] == pytest.approx(2 / 3)
    assert metrics["accuracy_mislabelled"] == pytest.approx(2 / 4)
    assert metrics["memorised"] == pytest.approx(1 / 4)


def test_a_soft_target_is_changed_where_the_correction_moves_its_own_largest_share() -> None:
    label_metrics = LabelMetrics(3, CPU)
    targets = torch.tensor([[0.6, 0.4, 0.0], [0.2, 0.2, 0.6], [0.5, 0.0, 0.5]])
    corrected = torch.tensor([[0.6, 0.4, 0.0], [0.6, 0.2, 0.2], [0.5, 0.0, 0.5]])
    output = LossOutput(torch.tensor(0.0), torch.zeros(3), corrected, torch.zeros(3))
    noisy, truth = torch.tensor([1, 1, 1]), torch.tensor([0, 0, 0])
    label_metrics.update(torch.zeros(3, 3), noisy, truth, output, targets)
    assert label_metrics.metrics()["labels_changed"] == pytest.approx(1 / 3)
    assert label_metrics.metrics()["labels_corrected"] == pytest.approx(1 / 3)


@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=9), min_size=1, max_size=9))
def test_trust_quantiles_over_batches_are_numpys_to_a_bin(batches: list[list[float]]) -> None:
    label_metrics = LabelMetrics(3, CPU)
    for batch in batches:
        labels = [0] * len(batch)
        update(label_metrics, labels, labels, labels, labels, trust=batch)
    metrics = label_metrics.metrics()
    for name, share in (("trust_q10", 0.1), ("trust_q50", 0.5), ("trust_q90", 0.9)):
        expected = np.quantile(list(chain.from_iterable(batches)), share, method="inverted_cdf")
        assert metrics[name] == pytest.approx(expected, abs=0.01 + 1e-6)


@pytest.mark.parametrize("value", [0.0, 0.299, 0.3, 1.0])
def test_quantiles_of_a_constant_trust_are_that_trust(value: float) -> None:
    label_metrics = LabelMetrics(3, CPU)
    update(label_metrics, [0] * 7, [0] * 7, [0] * 7, [0] * 7, trust=[value] * 7)
    metrics = label_metrics.metrics()
    assert [metrics[f"trust_q{share}"] for share in (10, 50, 90)] == pytest.approx([value] * 3)


def test_a_trust_that_is_not_a_number_breaks_nothing() -> None:
    label_metrics = LabelMetrics(3, CPU)
    update(label_metrics, [0, 0], [0, 0], [0, 0], [0, 0], per_sample=[math.nan, 1.0], trust=[math.nan, 0.5])
    assert math.isnan(label_metrics.metrics()["loss"])


def test_a_mislabelled_utterance_predicted_otherwise_is_not_memorised() -> None:
    label_metrics = LabelMetrics(3, CPU)
    update(label_metrics, [0, 1, 2, 0], [1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0])
    metrics = label_metrics.metrics()
    assert metrics["memorised"] == pytest.approx(1 / 3)
    assert metrics["correction_recall"] == 0.0


OF_MISLABELLED = {"correction_recall", "memorised", "accuracy_mislabelled"}
UNDEFINED_WITHOUT_TRUTH = {"labels_corrected", "correction_precision", "accuracy_clean"} | OF_MISLABELLED


@pytest.mark.parametrize(
    ("noisy", "truth", "changed_to", "absent"),
    [
        ([0, 1], [-1, -1], [1, 1], UNDEFINED_WITHOUT_TRUTH),
        ([0, 1], [0, 1], [1, 1], OF_MISLABELLED),  # nothing is mislabelled
        ([0, 1], [1, 1], [0, 1], {"correction_precision"}),  # nothing is changed
        ([0, 1], [1, 0], [1, 0], {"accuracy_clean"}),  # all is mislabelled
        ([0, 1], [1, -1], [0, 2], {"correction_precision", "accuracy_clean"}),  # what is changed cannot be judged
        ([0, 1], [1, 1], [1, 1], set()),
    ],
)
def test_what_is_undefined_is_left_out(
    noisy: list[int], truth: list[int], changed_to: list[int], absent: set[str]
) -> None:
    label_metrics = LabelMetrics(3, CPU)
    update(label_metrics, [0, 0], noisy, truth, changed_to)
    assert UNDEFINED_WITHOUT_TRUTH - label_metrics.metrics().keys() == absent


@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=6), min_size=1))
def test_scores_over_batches_are_scikit_learns_over_all(batches: list[list[tuple[int, int]]]) -> None:
    label_metrics = LabelMetrics(3, CPU)
    for batch in batches:
        noisy, predicted = zip(*batch, strict=True)
        update(label_metrics, predicted, noisy, noisy, noisy, per_sample=[float(label) for label in noisy])
    noisy, predicted = zip(*chain.from_iterable(batches), strict=True)
    metrics = label_metrics.metrics()
    recalls = [
        sum(p == label for q, p in zip(noisy, predicted, strict=True) if q == label) / noisy.count(label)
        for label in set(noisy)
    ]
    assert metrics["uar"] == pytest.approx(sum(recalls) / len(recalls))
    assert metrics["f1_weighted"] == pytest.approx(f1_score(noisy, predicted, average="weighted", zero_division=0))
    assert metrics["loss"] == pytest.approx(sum(noisy) / len(noisy))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batches_come_back_as_one_batch_without_gradient_in_every_epoch(dtype: torch.dtype) -> None:
    log = BatchLog(4)  # room for more than an epoch has
    for epoch in range(2):
        corrected = torch.tensor([[0.3, 0.7], [0.9, 0.1], [0.5, 0.5]]) + epoch
        logits = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
        for rows in (slice(0, 2), slice(2, 3)):
            losses = logits[rows].sum(dim=1)
            output = LossOutput(losses.mean(), losses, corrected[rows], corrected[rows, 0])
            log.add(logits[rows].to(dtype), output)
        joined, output = log.joined()
        assert torch.equal(joined, logits)
        assert output.per_sample.tolist() == [3.0, 7.0, 11.0]
        assert torch.equal(output.corrected_targets, corrected)
        assert torch.equal(output.trust, corrected[:, 0])
        assert not any(tensor.requires_grad for tensor in (joined, output.per_sample))
