"""Tests of cross entropy, and of the losses that mix the target by a constant share."""

import math

import pytest
import torch
import torch.nn.functional as F

from ser.losses import (
    ConfidencePenalty,
    CrossEntropy,
    LabelCorrection,
    LabelSmoothing,
    SoftLabels,
    as_distribution,
    correct_targets,
    cross_entropy_with_logits,
    penalize_confidence,
    smooth_labels,
)
from ser.utils.errors import UserError
from tests.helpers.loss_cases import STEP, gradient, logits_and_labels, soft_labels

# p = (1/4, 3/4), label 0.
QUARTER, LABEL = torch.tensor([[0.0, math.log(3)]]), torch.tensor([0])
LOG_4, LOG_4_3 = math.log(4), math.log(4 / 3)


# Functions


def test_cross_entropy_with_logits_of_a_known_case():
    value = cross_entropy_with_logits(QUARTER, torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(value, torch.tensor([(LOG_4 + LOG_4_3) / 2]))


def test_cross_entropy_with_logits_passes_a_numerical_gradient_check_in_both_arguments():
    logits, _ = logits_and_labels()
    assert torch.autograd.gradcheck(cross_entropy_with_logits, (logits, soft_labels().requires_grad_()))


def test_indices_become_one_hot_and_probabilities_pass_through():
    assert as_distribution(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    soft = torch.tensor([[0.2, 0.8]])
    assert as_distribution(soft, 2) is soft


def test_an_index_outside_the_classes_is_refused():
    with pytest.raises(RuntimeError, match="Class values"):
        as_distribution(torch.tensor([0, 3]), 3)


def test_targets_of_known_cases():
    q, p = torch.tensor([[1.0, 0.0], [0.3, 0.7]]), torch.tensor([[0.2, 0.8], [0.2, 0.8]])
    torch.testing.assert_close(smooth_labels(q, 0.2), torch.tensor([[0.9, 0.1], [0.34, 0.66]]))
    torch.testing.assert_close(penalize_confidence(q, p, 0.5), torch.tensor([[0.4, -0.4], [0.05, -0.05]]))
    torch.testing.assert_close(correct_targets(q, p, 0.5), torch.tensor([[0.6, 0.4], [0.25, 0.75]]))
    by_sample = correct_targets(q[:1].expand(3, 2), p[:1].expand(3, 2), torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(by_sample, torch.tensor([[1.0, 0.0], [0.6, 0.4], [0.2, 0.8]]))


# Classes: cases computed by hand


@pytest.mark.parametrize(
    ("loss", "target", "trust", "value"),
    [
        (CrossEntropy(), (1, 0), 0, LOG_4),
        (LabelSmoothing(), (0.95, 0.05), 0, 0.95 * LOG_4 + 0.05 * LOG_4_3),
        (LabelSmoothing(0.2), (0.9, 0.1), 0, 0.9 * LOG_4 + 0.1 * LOG_4_3),
        # H(p) = (log 4 + 3 log 4/3) / 4; its published weight is .1, that of cross entropy 1.
        (ConfidencePenalty(0.2), (0.75, -0.15), 0, 0.8 * LOG_4 - 0.2 * (LOG_4 + 3 * LOG_4_3) / 4),
        (ConfidencePenalty(1 / 11), (39 / 44, -3 / 44), 0, 10 / 11 * (LOG_4 - 0.1 * (LOG_4 + 3 * LOG_4_3) / 4)),
        (LabelCorrection(0.2), (0.85, 0.15), 0.2, 0.85 * LOG_4 + 0.15 * LOG_4_3),
        (LabelCorrection(0.05, target_gradient=False), (77 / 80, 3 / 80), 0.05, 77 / 80 * LOG_4 + 3 / 80 * LOG_4_3),
    ],
)
def test_a_case_known_by_hand(loss, target, trust, value):
    output = loss(QUARTER, LABEL)
    torch.testing.assert_close(output.corrected_targets, torch.tensor([target]).float())
    torch.testing.assert_close(output.trust, torch.tensor([trust]).float())
    torch.testing.assert_close(output.loss, torch.tensor(value))


def test_cross_entropy_equals_torchs_for_indices_and_for_soft_labels():
    logits, labels = logits_and_labels()
    for targets in (labels, soft_labels()):
        output = CrossEntropy()(logits, targets, STEP)
        torch.testing.assert_close(output.per_sample, F.cross_entropy(logits, targets, reduction="none"))
        torch.testing.assert_close(output.loss, F.cross_entropy(logits, targets))


def test_label_smoothing_equals_torchs():
    logits, labels = logits_and_labels()
    expected = F.cross_entropy(logits, labels, reduction="none", label_smoothing=0.3)
    torch.testing.assert_close(LabelSmoothing(0.3)(logits, labels).per_sample, expected)


def test_soft_labels_are_cross_entropy_that_asks_for_votes():
    logits, _ = logits_and_labels()
    expected = CrossEntropy()(logits, soft_labels()).per_sample
    assert torch.equal(SoftLabels()(logits, soft_labels()).per_sample, expected)
    assert (SoftLabels().targets, CrossEntropy().targets) == ("soft", "noisy")


# Identities


@pytest.mark.parametrize("make", [LabelSmoothing, ConfidencePenalty, LabelCorrection])
def test_without_a_share_each_is_cross_entropy(make):
    logits, labels = logits_and_labels()
    output, expected = make(0)(logits, labels), CrossEntropy()(logits, labels)
    torch.testing.assert_close(output.per_sample, expected.per_sample)
    torch.testing.assert_close(gradient(output.per_sample, logits), gradient(expected.per_sample, logits))


@pytest.mark.parametrize("make", [ConfidencePenalty, LabelCorrection])
@pytest.mark.parametrize("epsilon", [0.1, 0.5, 0.9])
def test_stopped_they_only_reweight_the_gradient_of_cross_entropy(make, epsilon):
    logits, _ = logits_and_labels()
    q, p = soft_labels(), logits.softmax(dim=1)
    output = make(epsilon, target_gradient=False)(logits, q)
    torch.testing.assert_close(gradient(output.per_sample, logits), (1 - epsilon) * (p - q))


@pytest.mark.parametrize(("make", "sign"), [(ConfidencePenalty, -1), (LabelCorrection, 1)])
def test_flowing_one_rewards_entropy_and_the_other_minimises_it(make, sign):
    logits, _ = logits_and_labels()
    q, p = soft_labels(), logits.softmax(dim=1)
    entropy = -(p * p.log()).sum(dim=1, keepdim=True)
    expected = 0.7 * (p - q) + sign * 0.3 * -p * (p.log() + entropy)
    torch.testing.assert_close(gradient(make(0.3)(logits, q).per_sample, logits), expected)


@pytest.mark.parametrize("make", [LabelSmoothing, ConfidencePenalty, LabelCorrection])
@pytest.mark.parametrize("epsilon", [-0.1, 1.1, "0.5", True, math.nan, None])
def test_a_share_out_of_range_is_refused(make, epsilon):
    with pytest.raises(UserError, match=rf"{make.__name__}: epsilon must be a number in \[0, 1\], got"):
        make(epsilon)


@pytest.mark.parametrize("make", [ConfidencePenalty, LabelCorrection])
@pytest.mark.parametrize("flag", [None, 1, "true"])
def test_a_flag_is_true_or_false(make, flag):
    with pytest.raises(UserError, match=f"{make.__name__}: target_gradient must be true or false, got"):
        make(0.1, target_gradient=flag)
