"""ProSelfLC: trust, schedules and identities; and the control that only re-weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ser.losses import (
    CrossEntropy,
    LabelCorrection,
    ProSelfLC,
    ReweightingControl,
    Schedule,
    global_trust,
    local_trust,
    reweighted_cross_entropy,
)
from ser.utils.errors import UserError
from tests.helpers.loss_cases import PUBLISHED, STEP, TOTAL_STEPS, logits_and_labels, soft_labels


def gradient(loss, logits: Tensor, targets: Tensor, step: int = STEP) -> Tensor:
    """∂L/∂z per sample, (N, C)."""
    (result,) = torch.autograd.grad(loss(logits, targets, step).per_sample.sum(), logits)
    return result


def proselflc(**params) -> ProSelfLC:
    return ProSelfLC(**{**PUBLISHED, "total_steps": TOTAL_STEPS, **params})


def control(**params) -> ReweightingControl:
    return ReweightingControl(**{**PUBLISHED, "total_steps": TOTAL_STEPS, **params})


# Trust.


def test_global_trust_of_known_cases():
    assert global_trust(0.5, 16, 0.5) == 0.5
    assert global_trust(1.0, math.log(3), 0.0) == pytest.approx(0.75)
    assert global_trust(0.0, math.log(3), 1.0) == pytest.approx(0.25)


def test_global_trust_of_the_earlier_studys_values_never_exceeds_858():
    values = [global_trust(step / 1000, 6, 0.7) for step in range(1001)]
    assert max(values) == values[-1] == pytest.approx(0.858, abs=5e-4)


@given(st.floats(0, 1), st.floats(0, 1e6), st.floats(0, 1))
def test_global_trust_is_a_share_and_half_at_the_transit(progress, exp_base, ratio):
    g = global_trust(progress, exp_base, ratio)
    assert 0 <= g <= 1
    assert (g >= 0.5) if progress >= ratio else (g <= 0.5)
    assert global_trust(progress, 0, ratio) == 0.5


def test_local_trust_of_known_cases():
    p = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    torch.testing.assert_close(local_trust(p, "entropy"), torch.tensor([0.0, 1.0, 0.5]))
    torch.testing.assert_close(local_trust(p, "confidence"), torch.tensor([0.25, 1.0, 0.5]))
    torch.testing.assert_close(local_trust(p, "global"), torch.ones(3))


@pytest.mark.parametrize("classes", range(2, 12))
def test_entropy_trust_of_a_uniform_prediction_is_never_negative(classes):
    trust = local_trust(torch.full((1, classes), 1 / classes), "entropy").item()
    assert 0 <= trust < 1e-6


def test_an_unknown_local_trust_is_reported_with_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'entropy'"):
        local_trust(torch.ones(1, 2), "entropi")


# Schedules.


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Schedule("constant", 0.5), [0.5, 0.5, 0.5, 0.5]),
        (Schedule("constant", 0.5, 2.0), [0.5, 0.5, 0.5, 0.5]),
        (Schedule("linear", 1.0, 0.4), [1.0, 0.85, 0.7, 0.4]),
        (Schedule("linear", 0.4, 1.0), [0.4, 0.55, 0.7, 1.0]),
        # (1 − cos(π/4)) / 2 = .146447 of the way after a quarter
        (Schedule("cosine", 1.0, 0.4), [1.0, 0.912132, 0.7, 0.4]),
    ],
)
def test_schedules_at_0_a_quarter_a_half_and_1(schedule, values):
    assert [schedule.at(x) for x in (0, 0.25, 0.5, 1)] == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("linaer", 1.0, 0.5), "unknown kind of Schedule 'linaer'. Did you mean 'linear'"),
        (("linear", 1.0), "'linear' needs an end"),
        (("cosine", 1.0, 0.0), "end must be a number > 0, got 0.0"),
        (("constant", -1.0), "start must be a number > 0, got -1.0"),
        (("constant", "1.0"), "start must be a number > 0, got '1.0'"),
        (("constant", True), "start must be a number > 0, got True"),
        (("constant", math.nan), "start must be a number > 0, got nan"),
    ],
)
def test_faulty_schedules_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Schedule(*arguments)


# The numbers of a step.

TEMPERATURES = (
    0.4,
    Schedule("constant", 0.7),
    Schedule("linear", 1.0, 0.4),
    Schedule("cosine", 2.0, 0.5),
)


def test_the_schedule_of_a_step_is_its_global_trust_and_temperature():
    # g(t) = 1 / (1 + exp(−log 3 · (t/Γ − 0))) is 3/4 at the end.
    loss = proselflc(exp_base=math.log(3), transit_time_ratio=0.0, temperature=Schedule("linear", 1.0, 0.4))
    assert loss.schedule(0) == (0.5, 1.0)
    assert loss.schedule(TOTAL_STEPS) == pytest.approx((0.75, 0.4))


@pytest.mark.parametrize("trust", ["entropy", "confidence", "global"])
@pytest.mark.parametrize("make", [proselflc, control])
def test_the_numbers_of_a_step_as_a_tensor_give_what_the_step_gives_to_the_bit(make, trust):
    for temperature in (1.0, *TEMPERATURES):
        loss = make(trust=trust, temperature=temperature)
        plan = torch.tensor([loss.schedule(step) for step in range(TOTAL_STEPS + 1)], dtype=torch.float64)
        for dtype in (torch.float32, torch.float64):
            logits = logits_and_labels()[0].detach().to(dtype).requires_grad_()
            for step in (0, 10, STEP, TOTAL_STEPS):
                by_step, by_numbers = loss(logits, soft_labels(), step), loss(logits, soft_labels(), plan[step])
                for name in ("loss", "per_sample", "corrected_targets", "trust"):
                    assert torch.equal(getattr(by_numbers, name), getattr(by_step, name))
                    assert getattr(by_numbers, name).dtype == getattr(by_step, name).dtype
                gradients = [torch.autograd.grad(output.loss, logits)[0] for output in (by_numbers, by_step)]
                assert torch.equal(*gradients)


@pytest.mark.parametrize(
    "numbers",
    [
        torch.tensor(60),
        torch.tensor([0.5, 1.0]),  # float32 would round g(t)
        torch.tensor([0.5], dtype=torch.float64),
        torch.tensor([[0.5, 1.0]], dtype=torch.float64),
        torch.tensor([0.5, 1.0], dtype=torch.float64, device="meta"),
    ],
)
def test_a_tensor_that_is_not_the_schedule_of_a_step_is_refused(numbers):
    logits, labels = logits_and_labels()
    with pytest.raises(ValueError, match="must have the 2 numbers of its schedule, float64 on cpu, got"):
        proselflc()(logits, labels, numbers)


# ProSelfLC: gradient identities, each against autograd.


def test_stopped_at_temperature_1_only_reweights_the_gradient_of_cross_entropy():
    logits, _ = logits_and_labels()
    q, loss = soft_labels(), proselflc(target_gradient=False)
    p, epsilon = logits.softmax(dim=1), loss(logits, q, STEP).trust[:, None]
    assert epsilon.min() > 0.01
    torch.testing.assert_close(gradient(loss, logits, q), (1 - epsilon) * (p - q))


@pytest.mark.parametrize("temperature", [0.4, 0.8, 1.5])
def test_stopped_with_temperature_adds_the_pull_towards_the_knowledge(temperature):
    logits, _ = logits_and_labels()
    q, loss = soft_labels(), proselflc(temperature=temperature)
    p, p_t = logits.softmax(dim=1), (logits / temperature).softmax(dim=1)
    epsilon = loss(logits, q, STEP).trust[:, None]
    torch.testing.assert_close(gradient(loss, logits, q), (1 - epsilon) * (p - q) + epsilon * (p - p_t))


def test_flowing_adds_entropy_minimisation():
    logits, _ = logits_and_labels()
    q, loss = soft_labels(), proselflc(target_gradient=True)
    p, epsilon = logits.softmax(dim=1), loss(logits, q, STEP).trust[:, None]
    entropy = -(p * p.log()).sum(dim=1, keepdim=True)
    entropy_gradient = -p * (p.log() + entropy)
    torch.testing.assert_close(gradient(loss, logits, q), (1 - epsilon) * (p - q) + epsilon * entropy_gradient)


def test_flowing_passes_a_numerical_gradient_check_where_trust_is_constant():
    logits, labels = logits_and_labels()
    loss = proselflc(trust="global", target_gradient=True)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels, STEP).loss, logits)


def test_without_trust_it_is_cross_entropy():
    logits, labels = logits_and_labels()
    loss = proselflc(transit_time_ratio=1.0, exp_base=1e4)  # g(0) = 1 / (1 + exp(10⁴)) = 0
    assert not loss(logits, labels, 0).trust.any()
    torch.testing.assert_close(loss(logits, labels, 0).per_sample, F.cross_entropy(logits, labels, reduction="none"))
    torch.testing.assert_close(gradient(loss, logits, labels, 0), gradient(CrossEntropy(), logits, labels))


def test_global_trust_with_exp_base_0_is_label_correction_by_a_half():
    logits, _ = logits_and_labels()
    for flowing in (True, False):
        loss = proselflc(exp_base=0, trust="global", target_gradient=flowing)
        correction = LabelCorrection(0.5, target_gradient=flowing)
        for step in (0, STEP, TOTAL_STEPS):
            output, expected = loss(logits, soft_labels(), step), correction(logits, soft_labels())
            torch.testing.assert_close(output.per_sample, expected.per_sample)
            torch.testing.assert_close(output.corrected_targets, expected.corrected_targets)
            torch.testing.assert_close(output.trust, expected.trust)
        torch.testing.assert_close(gradient(loss, logits, soft_labels()), gradient(correction, logits, soft_labels()))


# ProSelfLC: values.


def test_proselflc_of_a_case_known_by_hand():
    # p = (1/4, 3/4), label 0, t/Γ = τ, so g = 1/2; by confidence ε = 3/8: q̃ = (5/8 + 3/32, 9/32).
    loss = proselflc(transit_time_ratio=0.6, trust="confidence")
    output = loss(torch.tensor([[0.0, math.log(3)]]), torch.tensor([0]), STEP)
    torch.testing.assert_close(output.trust, torch.tensor([3 / 8]))
    torch.testing.assert_close(output.corrected_targets, torch.tensor([[23 / 32, 9 / 32]]))
    torch.testing.assert_close(output.loss, torch.tensor(23 / 32 * math.log(4) + 9 / 32 * math.log(4 / 3)))


@pytest.mark.parametrize("trust", ["entropy", "confidence"])
def test_temperature_sharpens_both_the_trust_and_the_correcting_knowledge(trust):
    logits, labels = logits_and_labels()
    output = proselflc(temperature=0.5, trust=trust)(logits, labels, STEP)
    p_t = (logits / 0.5).softmax(dim=1).detach()
    epsilon = global_trust(0.6, 16.0, 0.5) * local_trust(p_t, trust)
    torch.testing.assert_close(output.trust, epsilon)
    torch.testing.assert_close(
        output.corrected_targets,
        (1 - epsilon[:, None]) * F.one_hot(labels, 4) + epsilon[:, None] * p_t,
    )


@pytest.mark.parametrize(("step", "temperature"), [(0, 1.0), (50, 0.7), (100, 0.4)])
def test_an_entropy_schedule_follows_the_step(step, temperature):
    logits, labels = logits_and_labels()
    scheduled = proselflc(temperature=Schedule("linear", 1.0, 0.4))
    fixed = proselflc(temperature=temperature, target_gradient=False)
    torch.testing.assert_close(
        scheduled(logits, labels, step).corrected_targets, fixed(logits, labels, step).corrected_targets
    )


def test_a_confident_late_model_changes_the_label_and_an_early_one_does_not():
    logits, label = torch.tensor([[0.0, 8.0, 0.0]]), torch.tensor([0])
    loss = proselflc()
    assert loss(logits, label, TOTAL_STEPS).corrected_targets.argmax(dim=1).item() == 1
    assert loss(logits, label, 0).corrected_targets.argmax(dim=1).item() == 0


@pytest.mark.parametrize(
    ("temperature", "resolved"),
    [
        (1.0, True),
        (1, True),
        (Schedule("constant", 1.0, 0.4), True),
        (Schedule("linear", 1.0, 1.0), True),
        (0.5, False),
        (Schedule("constant", 0.5, 1.0), False),
        (Schedule("linear", 1.0, 0.4), False),
    ],
)
def test_target_gradient_resolves_to_true_only_for_a_constant_temperature_of_1(temperature, resolved):
    assert proselflc(temperature=temperature).target_gradient is resolved
    assert proselflc(temperature=temperature, target_gradient=False).target_gradient is False
    if resolved:
        assert proselflc(temperature=temperature, target_gradient=True).target_gradient is True
    else:
        with pytest.raises(UserError, match="needs a constant temperature of 1"):
            proselflc(temperature=temperature, target_gradient=True)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"transit_time_ratio": 1.1}, r"transit_time_ratio must be a number in \[0, 1\], got 1.1"),
        ({"transit_time_ratio": "0.5"}, r"transit_time_ratio must be a number in \[0, 1\], got '0.5'"),
        ({"transit_time_ratio": True}, r"transit_time_ratio must be a number in \[0, 1\], got True"),
        ({"exp_base": -1}, "exp_base must be a number >= 0, got -1"),
        ({"exp_base": math.inf}, "exp_base must be a number >= 0, got inf"),
        ({"total_steps": 0}, "total_steps must be an integer >= 1, got 0"),
        ({"total_steps": 10.0}, "total_steps must be an integer >= 1, got 10.0"),
        ({"temperature": 0.0}, "temperature must be a number > 0, got 0.0"),
        ({"temperature": None}, "temperature must be a number > 0, got None"),
        ({"trust": "entropie"}, "unknown trust of ProSelfLC 'entropie'. Did you mean 'entropy'"),
        ({"target_gradient": 1}, "target_gradient must be true, false or omitted, got 1"),
    ],
)
def test_parameters_out_of_range_are_refused(params, message):
    with pytest.raises(UserError, match=message):
        proselflc(**params)


# The control.


@pytest.mark.parametrize("trust", ["entropy", "confidence", "global"])
@pytest.mark.parametrize("step", [0, STEP, TOTAL_STEPS])
def test_the_control_has_the_gradient_of_stopped_proselflc_at_temperature_1(trust, step):
    logits, _ = logits_and_labels()
    stopped = proselflc(trust=trust, target_gradient=False)
    torch.testing.assert_close(
        gradient(control(trust=trust), logits, soft_labels(), step), gradient(stopped, logits, soft_labels(), step)
    )


@pytest.mark.parametrize("temperature", [0.4, Schedule("linear", 1.0, 0.4)])
def test_the_control_has_proselflcs_trust_and_leaves_the_labels_alone(temperature):
    logits, _ = logits_and_labels()
    ours, theirs = (make(temperature=temperature)(logits, soft_labels(), STEP) for make in (control, proselflc))
    assert torch.equal(ours.trust, theirs.trust)
    assert torch.equal(ours.corrected_targets, soft_labels())
    assert not torch.allclose(theirs.corrected_targets, soft_labels())


def test_the_control_of_a_case_known_by_hand():
    # As above: p = (1/4, 3/4), label 0, ε = 3/8.
    loss = control(transit_time_ratio=0.6, trust="confidence")
    output = loss(torch.tensor([[0.0, math.log(3)]]), torch.tensor([0]), STEP)
    torch.testing.assert_close(output.trust, torch.tensor([3 / 8]))
    torch.testing.assert_close(output.loss, torch.tensor(5 / 8 * math.log(4)))


def test_reweighting_of_known_cases():
    logits = torch.tensor([[0.0, math.log(3)]] * 3)
    value = reweighted_cross_entropy(logits, torch.tensor([[1.0, 0.0]] * 3), torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(value, math.log(4) * torch.tensor([1.0, 0.5, 0.0]))


def test_a_mistake_in_the_controls_parameters_names_the_control():
    with pytest.raises(UserError, match=r"ReweightingControl: exp_base must be a number >= 0, got -1"):
        control(exp_base=-1)
    with pytest.raises(UserError, match="unknown trust of ReweightingControl 'entropie'"):
        control(trust="entropie")
