"""Generalised, symmetric and normalised cross entropy, and focal loss."""

import math
from itertools import pairwise

import pytest
import torch

from ser.losses import (
    CrossEntropy,
    FocalLoss,
    GeneralizedCrossEntropy,
    NormalizedLosses,
    SymmetricCrossEntropy,
    focal_cross_entropy,
    generalized_cross_entropy,
    normalized_cross_entropy,
    reverse_cross_entropy,
)
from ser.utils.errors import UserError
from tests.helpers.loss_cases import gradient, logits_and_labels, soft_labels

# p = (1/4, 3/4), label 0.
QUARTER, LABEL = torch.tensor([[0.0, math.log(3)]]), torch.tensor([0])
LOG_4, LOG_4_3 = math.log(4), math.log(4 / 3)


def same_as(loss, other, scale=1.0, **tolerance):
    """Whether a loss is another one, scaled, in value and gradient."""
    logits, labels = logits_and_labels()
    for targets in (labels, soft_labels()):
        one, two = loss(logits, targets).per_sample, scale * other(logits, targets).per_sample
        torch.testing.assert_close(one, two, **tolerance)
        torch.testing.assert_close(gradient(one, logits), gradient(two, logits), **tolerance)


# By hand.


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (GeneralizedCrossEntropy(), (1 - 0.25**0.7) / 0.7),
        (GeneralizedCrossEntropy(0.5), 1),
        (GeneralizedCrossEntropy(1), 0.75),
        # Reverse cross entropy is 3/4 · 9.210340, and 3/4 · 4 with the value of log 0 in the text of Wang et al. 2019.
        (SymmetricCrossEntropy(), 0.1 * LOG_4 + 6.907755),
        (SymmetricCrossEntropy(6, 0.1), 6 * LOG_4 + 0.6907755),
        (SymmetricCrossEntropy(log_zero=-4), 0.1 * LOG_4 + 3),
        (NormalizedLosses(), LOG_4 / (LOG_4 + LOG_4_3) + 6.907755),
        (NormalizedLosses(10, 0.1), 10 * LOG_4 / (LOG_4 + LOG_4_3) + 0.6907755),
        (NormalizedLosses(log_zero=-4), LOG_4 / (LOG_4 + LOG_4_3) + 3),
        (FocalLoss(), 9 / 16 * LOG_4),
        (FocalLoss(0.5), math.sqrt(0.75) * LOG_4),
    ],
)
def test_a_case_known_by_hand(loss, value):
    output = loss(QUARTER, LABEL)
    torch.testing.assert_close(output.loss, torch.tensor(float(value)))
    assert output.corrected_targets.tolist() == [[1, 0]]
    assert output.trust.tolist() == [0]


def test_soft_labels_of_a_case_known_by_hand():
    # With log 0 = −4, the share e⁻⁵ counts as e⁻⁴ in log q, and as it stands in the rest.
    rare = math.exp(-5)
    q = torch.tensor([[1 - rare, rare]], dtype=torch.float64)
    z = QUARTER.double()
    cases = {
        reverse_cross_entropy(z, q, -4.0): -(0.25 * math.log(1 - rare) + 0.75 * -4),
        reverse_cross_entropy(z, q): -(0.25 * math.log(1 - rare) + 0.75 * -5),
        normalized_cross_entropy(z, q): ((1 - rare) * LOG_4 + rare * LOG_4_3) / (LOG_4 + LOG_4_3),
        generalized_cross_entropy(z, q, 1.0): (1 - rare) * 0.75 + rare * 0.25,
        focal_cross_entropy(z, q, 1.0): (1 - rare) * 0.75 * LOG_4 + rare * 0.25 * LOG_4_3,
    }
    for value, expected in cases.items():
        assert value.item() == pytest.approx(expected, rel=1e-6)


def test_the_defaults_are_the_published_ones():
    assert GeneralizedCrossEntropy() == GeneralizedCrossEntropy(q=0.7)
    assert SymmetricCrossEntropy() == SymmetricCrossEntropy(alpha=0.1, beta=1.0, log_zero=math.log(1e-4))
    assert NormalizedLosses() == NormalizedLosses(alpha=1.0, beta=1.0, log_zero=math.log(1e-4))
    assert FocalLoss() == FocalLoss(gamma=2.0)


# Identities.


def test_generalised_cross_entropy_goes_to_cross_entropy_with_q():
    same_as(GeneralizedCrossEntropy(1e-6), CrossEntropy(), rtol=1e-4, atol=1e-5)
    logits, labels = logits_and_labels()
    values = [GeneralizedCrossEntropy(q)(logits, labels).per_sample for q in (1.0, 0.7, 0.1, 1e-6)]
    assert all((later > earlier).all() for earlier, later in pairwise(values))


def test_generalised_cross_entropy_keeps_its_digits_in_float32_at_the_smallest_q():
    logits, labels = logits_and_labels()
    value = GeneralizedCrossEntropy(1e-6)(logits.float(), labels).per_sample
    torch.testing.assert_close(value, CrossEntropy()(logits.float(), labels).per_sample, rtol=1e-5, atol=1e-6)


def test_generalised_cross_entropy_with_q_1_is_half_the_mean_absolute_error():
    logits, labels = logits_and_labels()
    one_hot, p = torch.eye(4).double()[labels], logits.softmax(dim=1)
    output = GeneralizedCrossEntropy(1)(logits, labels)
    absolute = (one_hot - p).abs().sum(dim=1)
    torch.testing.assert_close(output.per_sample, absolute / 2)


def test_generalised_cross_entropy_weighs_a_gradient_by_the_labels_probability():
    # Zhang and Sabuncu: ∂L/∂z = p_y^q (p − e_y), so that an unlikely, perhaps wrong, label pulls less.
    logits, labels = logits_and_labels()
    p = logits.softmax(dim=1)
    label_p = p.gather(1, labels[:, None])
    expected = label_p**0.7 * (p - torch.eye(4).double()[labels])
    torch.testing.assert_close(gradient(GeneralizedCrossEntropy()(logits, labels).per_sample, logits), expected)


@pytest.mark.parametrize("alpha", [0.1, 6.0])
def test_symmetric_cross_entropy_without_the_reverse_is_scaled_cross_entropy(alpha):
    same_as(SymmetricCrossEntropy(alpha, 0), CrossEntropy(), alpha)


@pytest.mark.parametrize("log_zero", [-4.0, math.log(1e-4)])
def test_symmetric_cross_entropy_without_cross_entropy_is_the_mean_absolute_error_scaled(log_zero):
    logits, labels = logits_and_labels()
    absolute = (torch.eye(4).double()[labels] - logits.softmax(dim=1)).abs().sum(dim=1)
    value = SymmetricCrossEntropy(0, 1, log_zero)(logits, labels).per_sample
    torch.testing.assert_close(value, -log_zero / 2 * absolute)


def test_normalised_and_reverse_cross_entropy_over_all_labels_sum_to_a_constant():
    # What makes them robust to symmetric noise (Ghosh et al. 2017); cross entropy has no such sum.
    logits, _ = logits_and_labels()
    for function, total in ((normalized_cross_entropy, 1.0), (reverse_cross_entropy, 3 * -math.log(1e-4))):
        sums = sum(function(logits, torch.eye(4).double()[torch.full((6,), k)]) for k in range(4))
        torch.testing.assert_close(sums, torch.full((6,), total, dtype=torch.float64))


def test_normalised_cross_entropy_of_a_uniform_prediction_is_one_in_c():
    value = normalized_cross_entropy(torch.full((1, 4), 3.0), torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
    torch.testing.assert_close(value, torch.tensor([0.25]))


def test_focal_loss_with_gamma_0_is_cross_entropy():
    same_as(FocalLoss(0), CrossEntropy())


@pytest.mark.parametrize("gamma", [0.001, 0.3, 1.0, 2.0])
def test_focal_loss_leaves_a_sample_alone_that_is_predicted_with_certainty(gamma):
    logits = torch.tensor([[50.0, 0.0]], requires_grad=True)
    value = FocalLoss(gamma)(logits, torch.tensor([0])).per_sample
    assert value.item() == 0
    assert gradient(value, logits).abs().max() < 1e-20


@pytest.mark.parametrize(
    ("make", "params", "message"),
    [
        (GeneralizedCrossEntropy, {"q": 0}, r"GeneralizedCrossEntropy: q must be a number in \[1e-06, 1\], got 0"),
        (GeneralizedCrossEntropy, {"q": 1.1}, r"q must be a number in \[1e-06, 1\], got 1.1"),
        (SymmetricCrossEntropy, {"alpha": -1}, "SymmetricCrossEntropy: alpha must be a number >= 0, got -1"),
        (SymmetricCrossEntropy, {"beta": math.inf}, "SymmetricCrossEntropy: beta must be a number >= 0, got inf"),
        (SymmetricCrossEntropy, {"log_zero": 4}, r"log_zero must be a number in \[-100, 0\], got 4"),
        (NormalizedLosses, {"log_zero": None}, r"NormalizedLosses: log_zero must be a number in \[-100, 0\]"),
        (NormalizedLosses, {"alpha": "1"}, "NormalizedLosses: alpha must be a number >= 0, got '1'"),
        (NormalizedLosses, {"beta": -1}, "NormalizedLosses: beta must be a number >= 0, got -1"),
        (FocalLoss, {"gamma": -0.5}, "FocalLoss: gamma must be a number >= 0, got -0.5"),
    ],
)
def test_parameters_out_of_range_are_refused(make, params, message):
    with pytest.raises(UserError, match=message):
        make(**params)
