"""One battery over all losses."""

from dataclasses import FrozenInstanceError

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.losses import LOSSES, Loss
from tests.helpers.loss_cases import (
    BATTERY,
    CLASSES,
    FLOWING,
    STEP,
    TOTAL_STEPS,
    Variant,
    gradient,
    logits_and_labels,
    soft_labels,
)

FIELDS = ("per_sample", "corrected_targets", "trust")
PROGRESSIVE = {"proselflc", "reweighting_control", "forward_correction"}
WITH_STATE = {"elr", "forward_correction"}


@pytest.fixture(params=sorted(BATTERY))
def variant(request):
    return Variant(request.param)


@pytest.fixture(params=["hard", "soft"])
def targets(request):
    return logits_and_labels()[1] if request.param == "hard" else soft_labels()


def test_every_loss_is_in_the_battery():
    assert {name for name, *_ in BATTERY.values()} == set(LOSSES)


def test_the_study_has_these_losses():
    assert set(LOSSES) >= {
        "cross_entropy", "proselflc", "label_smoothing", "confidence_penalty", "label_correction",
        "generalized_cross_entropy", "symmetric_cross_entropy", "normalized_losses", "elr", "focal", "soft_labels",
        "reweighting_control", "mixup", "forward_correction",
    }  # fmt: skip
    assert all(issubclass(loss, Loss) for loss in LOSSES.values())


# The output.


def test_shapes_are_as_promised_and_loss_is_the_mean_of_per_sample(variant, targets):
    output = variant(logits_and_labels()[0], targets)
    assert output.loss.shape == ()
    assert output.per_sample.shape == output.trust.shape == (6,)
    assert output.corrected_targets.shape == (6, 4)
    torch.testing.assert_close(output.loss, output.per_sample.mean())


def test_only_the_losses_carry_gradient(variant, targets):
    output = variant(logits_and_labels()[0], targets)
    assert output.loss.requires_grad
    assert output.per_sample.requires_grad
    assert not output.corrected_targets.requires_grad
    assert not output.trust.requires_grad


@pytest.mark.parametrize("step", [0, 1, STEP, TOTAL_STEPS])
def test_corrected_targets_are_distributions_and_trust_is_a_share(variant, targets, step):
    output = variant(logits_and_labels()[0], targets, step)
    whole = 1 - 2 * variant.parameters["epsilon"] if variant.name == "confidence_penalty" else 1
    torch.testing.assert_close(output.corrected_targets.sum(dim=1), torch.full((6,), float(whole)).double())
    assert (output.corrected_targets.min() >= 0) == (variant.name != "confidence_penalty")
    assert output.trust.min() >= 0
    assert output.trust.max() <= 1


def test_a_loss_that_corrects_nothing_returns_the_targets_and_no_trust(variant, targets):
    output = variant(logits_and_labels()[0], targets)
    if not variant.corrects and variant.name not in {"label_smoothing", "confidence_penalty"}:
        given = F.one_hot(targets, CLASSES).double() if targets.ndim == 1 else targets
        assert torch.equal(output.corrected_targets, given)
    assert (output.trust.max() > 0) == (variant.corrects or variant.name == "reweighting_control")


# The formula and its gradient.


def test_values_and_gradients_are_those_of_the_formula(variant, targets):
    logits, _ = logits_and_labels()
    q = F.one_hot(targets, CLASSES).double() if targets.ndim == 1 else targets
    loss = variant.fresh()
    output = variant(logits, targets, loss=loss)
    memory = loss.state_dict().get("memory")

    def formula(z):
        # What carries no gradient keeps its value while the logits change.
        return variant.formula(z.softmax(dim=1), q, output, memory)

    torch.testing.assert_close(output.per_sample, formula(logits), rtol=1e-6, atol=1e-8)
    numerical, height = torch.empty_like(logits), 1e-5
    for k in range(CLASSES):
        shift = height * F.one_hot(torch.tensor(k), CLASSES)
        numerical[:, k] = (formula(logits + shift) - formula(logits - shift)).detach() / (2 * height)
    torch.testing.assert_close(gradient(output.per_sample, logits), numerical, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("title", FLOWING)
def test_autograd_agrees_with_finite_differences(title, targets):
    variant = Variant(title)
    assert torch.autograd.gradcheck(lambda z: variant(z, targets).per_sample, logits_and_labels()[0])


def test_integer_labels_and_their_one_hot_rows_agree(variant):
    logits, labels = logits_and_labels()
    by_index, by_row = variant(logits, labels), variant(logits, F.one_hot(labels, CLASSES).double())
    for name in FIELDS:
        assert torch.equal(getattr(by_index, name), getattr(by_row, name))


def test_a_soft_label_gives_the_mean_of_its_classes_losses(variant):
    logits, _ = logits_and_labels()
    q = soft_labels()
    of_classes = torch.stack([variant(logits, torch.full((6,), k)).per_sample for k in range(CLASSES)], dim=1)
    mean, soft = (q * of_classes).sum(dim=1), variant(logits, q).per_sample
    if variant.name in {"symmetric_cross_entropy", "normalized_losses"}:  # log q is not affine in q
        assert not torch.allclose(soft, mean)
    else:
        torch.testing.assert_close(soft, mean)


def test_permuting_samples_permutes_the_results(variant, targets):
    logits, _ = logits_and_labels()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    output, permuted = variant(logits, targets), variant(logits[order], targets[order], index=order)
    for name in FIELDS:
        torch.testing.assert_close(getattr(permuted, name), getattr(output, name)[order])


def test_permuting_classes_changes_no_loss_and_permutes_the_targets(variant):
    logits, _ = logits_and_labels()
    order = torch.tensor([2, 0, 3, 1])
    output, permuted = variant(logits, soft_labels()), variant(logits[:, order], soft_labels()[:, order])
    torch.testing.assert_close(permuted.per_sample, output.per_sample)
    torch.testing.assert_close(permuted.trust, output.trust)
    torch.testing.assert_close(permuted.corrected_targets, output.corrected_targets[:, order])


def test_shifting_all_logits_of_a_sample_changes_nothing(variant, targets):
    logits, _ = logits_and_labels()
    torch.testing.assert_close(variant(logits + 5.0, targets).per_sample, variant(logits, targets).per_sample)


# Extremes.

EXTREMES = [[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4], [0.0, 0.0, 0.0], [17.0, 0.0, 0.0]]


def assert_finite(variant, rows, targets, dtype, autocast):
    logits = torch.tensor(rows).to(dtype).requires_grad_()
    loss = variant.fresh()
    for step in (0, STEP, TOTAL_STEPS):  # the state of a loss grows
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = variant(logits, targets, step, loss)
        result = gradient(output.per_sample, logits)
        assert output.per_sample.dtype == torch.float32
        for tensor in (output.loss, output.per_sample, output.corrected_targets, output.trust, result):
            assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("title", sorted(BATTERY))
def test_losses_and_gradients_are_finite_at_extreme_logits(title, dtype, autocast, soft):
    targets = torch.tensor([[0.5, 0.5, 0.0]] * 6) if soft else torch.zeros(6, dtype=torch.int64)
    assert_finite(Variant(title, classes=3), EXTREMES, targets, dtype, autocast)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=6),
    label=st.integers(0, 2),
)
@pytest.mark.parametrize("title", sorted(BATTERY))
def test_losses_and_gradients_are_finite_wherever_the_logits_are(title, rows, label):
    assert_finite(Variant(title, classes=3), rows, torch.full((len(rows),), label), torch.float32, autocast=True)


def test_half_precision_logits_give_the_float32_result_of_the_same_values(variant, targets):
    half = logits_and_labels()[0].detach().bfloat16()
    assert torch.equal(variant(half, targets).per_sample, variant(half.float(), targets).per_sample)


# The call.


@pytest.mark.parametrize(
    "targets",
    [
        torch.zeros(6),  # indices must be integers
        torch.zeros(6, 4, dtype=torch.int64),  # probabilities must not be
        torch.zeros(6, 3),
        torch.zeros(5, dtype=torch.int64),
        torch.zeros(6, 4, 1),
        torch.tensor(1),
    ],
)
def test_targets_of_another_shape_or_type_are_refused(variant, targets):
    with pytest.raises(ValueError, match="targets"):
        variant(logits_and_labels()[0], targets)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 4, 2)])
def test_logits_of_another_shape_are_refused(variant, shape):
    with pytest.raises(ValueError, match=r"logits must be \(N, C\)"):
        variant(torch.zeros(shape), torch.zeros(6, dtype=torch.int64))


def test_only_losses_that_change_over_time_need_the_step(variant, targets):
    logits, _ = logits_and_labels()
    if variant.name in PROGRESSIVE:
        with pytest.raises(ValueError, match="pass the step"):
            variant(logits, targets, step=None)
        for step in (-1, TOTAL_STEPS + 1):
            with pytest.raises(ValueError, match=r"outside the plan of 0..100 steps"):
                variant(logits, targets, step)
    else:
        assert torch.equal(variant(logits, targets, step=None).per_sample, variant(logits, targets).per_sample)


@pytest.mark.parametrize("step", [torch.tensor(STEP), torch.tensor([0.5, 1.0]).double(), torch.tensor([]).double()])
def test_a_loss_without_a_schedule_takes_no_tensor_for_the_step(variant, targets, step):
    loss = variant.fresh()
    if not loss.schedule(STEP):
        with pytest.raises(ValueError, match=f"{type(loss).__name__} has no schedule: pass the step as an integer"):
            variant(logits_and_labels()[0], targets, step, loss)
    else:
        assert variant.name in PROGRESSIVE - WITH_STATE


def test_a_loss_is_immutable_and_does_not_change_between_calls(variant, targets):
    logits, _ = logits_and_labels()
    loss = variant.fresh()
    first = variant(logits, targets, loss=loss).per_sample
    variant(logits * 2, targets, STEP + 1, loss)
    again = variant(logits, targets, loss=loss).per_sample
    assert torch.equal(again, first) == (variant.name != "elr")
    if variant.name in WITH_STATE:
        return
    with pytest.raises(FrozenInstanceError):
        loss.total_steps = 5


def test_only_soft_labels_are_trained_on_the_annotators_distribution():
    assert {name for name, loss in LOSSES.items() if loss.targets == "soft"} == {"soft_labels"}
    assert {loss.targets for name, loss in LOSSES.items() if name != "soft_labels"} == {"noisy"}


def test_a_loss_without_a_state_has_an_empty_one_and_accepts_no_other(variant):
    loss = variant.fresh()
    if variant.name not in WITH_STATE:
        assert loss.state_dict() == {}
        loss.load_state_dict({})
        with pytest.raises(ValueError, match="has no state to restore, got memory"):
            loss.load_state_dict({"memory": torch.zeros(6, 4)})
