import math
from dataclasses import FrozenInstanceError

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ser.errors import UserError
from ser.losses import (
    LOSSES,
    CrossEntropy,
    ProSelfLC,
    Schedule,
    as_distribution,
    build_loss,
    correct_targets,
    global_trust,
    local_trust,
    soft_cross_entropy,
)

TOTAL_STEPS = 100
STEP = 60
PUBLISHED = {"transit_time_ratio": 0.5, "exp_base": 16.0}

# Each loss, with every variant that takes another path: (name, params).
BATTERY = {
    "cross_entropy": ("cross_entropy", {}),
    "proselflc, flowing": ("proselflc", PUBLISHED),
    "proselflc, stopped": ("proselflc", {**PUBLISHED, "target_gradient": False}),
    "proselflc, sharp": ("proselflc", {**PUBLISHED, "temperature": 0.4, "trust": "confidence"}),
    "proselflc, entropy schedule": (
        "proselflc",
        {**PUBLISHED, "temperature": {"kind": "cosine", "start": 1.0, "end": 0.4}},
    ),
    "proselflc, global": ("proselflc", {**PUBLISHED, "trust": "global"}),
}


def logits_and_labels(samples: int = 6, classes: int = 4, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    logits = scale * torch.randn(samples, classes, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.randint(classes, (samples,), generator=generator)


def soft_labels(samples: int = 6, classes: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(8)
    return torch.rand(samples, classes, generator=generator, dtype=torch.float64).softmax(dim=1)


def gradient(loss, logits: Tensor, targets: Tensor, step: int = STEP) -> Tensor:
    """∂L/∂z per sample, (N, C)."""
    (result,) = torch.autograd.grad(loss(logits, targets, step).per_sample.sum(), logits)
    return result


def proselflc(**params) -> ProSelfLC:
    return ProSelfLC(**{**PUBLISHED, "total_steps": TOTAL_STEPS, **params})


# The battery: every loss.


@pytest.fixture(params=sorted(BATTERY))
def loss(request):
    name, params = BATTERY[request.param]
    return build_loss(name, params, TOTAL_STEPS)


def test_every_loss_is_in_the_battery():
    assert {name for name, _ in BATTERY.values()} == set(LOSSES)


def test_shapes_are_as_promised_and_loss_is_the_mean_of_per_sample(loss):
    logits, labels = logits_and_labels()
    output = loss(logits, labels, STEP)
    assert output.loss.shape == ()
    assert output.per_sample.shape == output.trust.shape == (6,)
    assert output.corrected_targets.shape == (6, 4)
    torch.testing.assert_close(output.loss, output.per_sample.mean())


def test_only_the_losses_carry_gradient(loss):
    logits, labels = logits_and_labels()
    output = loss(logits, labels, STEP)
    assert output.loss.requires_grad
    assert output.per_sample.requires_grad
    assert not output.corrected_targets.requires_grad
    assert not output.trust.requires_grad


@pytest.mark.parametrize("step", [0, 1, STEP, TOTAL_STEPS])
def test_corrected_targets_are_distributions_and_trust_is_a_share(loss, step):
    logits, labels = logits_and_labels()
    output = loss(logits, labels, step)
    torch.testing.assert_close(output.corrected_targets.sum(dim=1), torch.ones(6, dtype=torch.float64))
    assert output.corrected_targets.min() >= 0
    assert output.trust.min() >= 0
    assert output.trust.max() <= 1


def test_integer_labels_and_their_one_hot_rows_agree(loss):
    logits, labels = logits_and_labels()
    by_index = loss(logits, labels, STEP)
    by_row = loss(logits, F.one_hot(labels, 4).double(), STEP)
    for field in ("per_sample", "corrected_targets", "trust"):
        assert torch.equal(getattr(by_index, field), getattr(by_row, field))


def test_permuting_samples_permutes_the_results(loss):
    logits, _ = logits_and_labels()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    output, permuted = loss(logits, soft_labels(), STEP), loss(logits[order], soft_labels()[order], STEP)
    for field in ("per_sample", "corrected_targets", "trust"):
        torch.testing.assert_close(getattr(permuted, field), getattr(output, field)[order])


def test_permuting_classes_changes_no_loss_and_permutes_the_targets(loss):
    logits, _ = logits_and_labels()
    order = torch.tensor([2, 0, 3, 1])
    output = loss(logits, soft_labels(), STEP)
    permuted = loss(logits[:, order], soft_labels()[:, order], STEP)
    torch.testing.assert_close(permuted.per_sample, output.per_sample)
    torch.testing.assert_close(permuted.trust, output.trust)
    torch.testing.assert_close(permuted.corrected_targets, output.corrected_targets[:, order])


def test_shifting_all_logits_of_a_sample_changes_nothing(loss):
    logits, labels = logits_and_labels()
    torch.testing.assert_close(loss(logits + 5.0, labels, STEP).per_sample, loss(logits, labels, STEP).per_sample)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_losses_and_gradients_are_finite_at_extreme_logits(loss, dtype, autocast):
    rows = [[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4], [0.0, 0.0, 0.0]]
    logits = torch.tensor(rows).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = loss(logits, torch.zeros(5, dtype=torch.int64), STEP)
    output.loss.backward()
    for tensor in (output.per_sample, output.corrected_targets, output.trust, logits.grad):
        assert torch.isfinite(tensor).all()
    assert output.per_sample.dtype == torch.float32


def test_half_precision_logits_give_the_float32_result_of_the_same_values(loss):
    logits, labels = logits_and_labels()
    half = logits.detach().bfloat16()
    assert torch.equal(loss(half, labels, STEP).per_sample, loss(half.float(), labels, STEP).per_sample)


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
def test_targets_of_another_shape_or_type_are_refused(loss, targets):
    with pytest.raises(ValueError, match="targets"):
        loss(logits_and_labels()[0], targets, STEP)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 4, 2)])
def test_logits_of_another_shape_are_refused(loss, shape):
    with pytest.raises(ValueError, match=r"logits must be \(N, C\)"):
        loss(torch.zeros(shape), torch.zeros(6, dtype=torch.int64), STEP)


def test_a_loss_can_neither_be_changed_nor_changes_between_calls(loss):
    logits, labels = logits_and_labels()
    first = loss(logits, labels, STEP).per_sample
    loss(logits * 2, labels, STEP + 1)
    assert torch.equal(loss(logits, labels, STEP).per_sample, first)
    with pytest.raises(FrozenInstanceError):
        loss.total_steps = 5


# Pure functions.


def test_soft_cross_entropy_of_a_known_case():
    # p = (1/4, 3/4), q = (1/2, 1/2): H = (log 4 + log 4/3) / 2.
    value = soft_cross_entropy(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.0, math.log(3)]]))
    torch.testing.assert_close(value, torch.tensor([(math.log(4) + math.log(4 / 3)) / 2]))


def test_soft_cross_entropy_passes_a_numerical_gradient_check_in_both_arguments():
    logits, _ = logits_and_labels()
    assert torch.autograd.gradcheck(soft_cross_entropy, (soft_labels().requires_grad_(), logits))


def test_indices_become_one_hot_and_probabilities_pass_through():
    assert as_distribution(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    soft = torch.tensor([[0.2, 0.8]])
    assert as_distribution(soft, 2) is soft


def test_an_index_outside_the_classes_is_refused():
    with pytest.raises(RuntimeError, match="Class values"):
        as_distribution(torch.tensor([0, 3]), 3)


def test_global_trust_of_known_cases():
    assert global_trust(0.5, 16, 0.5) == 0.5
    assert global_trust(1.0, math.log(3), 0.0) == pytest.approx(0.75)
    assert global_trust(0.0, math.log(3), 1.0) == pytest.approx(0.25)


def test_global_trust_of_the_ancestors_values_never_exceeds_858():
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


def test_an_unknown_local_trust_is_told_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'entropy'"):
        local_trust(torch.ones(1, 2), "entropi")


def test_correct_targets_of_a_known_case():
    corrected = correct_targets(
        torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
        torch.tensor([[0.2, 0.8], [0.2, 0.8], [0.2, 0.8]]),
        torch.tensor([0.0, 0.5, 1.0]),
    )
    torch.testing.assert_close(corrected, torch.tensor([[1.0, 0.0], [0.6, 0.4], [0.2, 0.8]]))


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


# Cross entropy.


def test_cross_entropy_equals_torchs_for_indices_and_for_soft_labels():
    logits, labels = logits_and_labels()
    for targets in (labels, soft_labels()):
        output = CrossEntropy()(logits, targets, STEP)
        torch.testing.assert_close(output.per_sample, F.cross_entropy(logits, targets, reduction="none"))
        torch.testing.assert_close(output.loss, F.cross_entropy(logits, targets))


def test_cross_entropy_believes_the_label_alone():
    logits, _ = logits_and_labels()
    output = CrossEntropy()(logits, soft_labels(), STEP)
    assert torch.equal(output.corrected_targets, soft_labels())
    assert not output.trust.any()


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
    q, p = soft_labels(), logits.softmax(dim=1)
    expected = -((0.5 * q + 0.5 * p) * p.log()).sum(dim=1)
    loss = proselflc(exp_base=0, trust="global")
    for step in (0, STEP, TOTAL_STEPS):
        torch.testing.assert_close(loss(logits, q, step).per_sample, expected)
    torch.testing.assert_close(gradient(loss, logits, q), torch.autograd.grad(expected.sum(), logits)[0])


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


@pytest.mark.parametrize("step", [-1, TOTAL_STEPS + 1])
def test_a_step_outside_the_plan_is_refused(step):
    logits, labels = logits_and_labels()
    with pytest.raises(ValueError, match=r"outside the plan of 0..100 steps"):
        proselflc()(logits, labels, step)


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
        ({"target_gradient": 1}, "target_gradient must be true, false or left out, got 1"),
    ],
)
def test_parameters_out_of_range_are_refused(params, message):
    with pytest.raises(UserError, match=message):
        proselflc(**params)
