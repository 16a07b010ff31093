"""Early-learning regularisation and its moving averages."""

import math

import pytest
import torch

from ser.losses import CrossEntropy, EarlyLearningRegularization, early_learning_regularizer, update_averages
from ser.utils.errors import UserError
from tests.helpers.loss_cases import gradient, logits_and_labels, soft_labels

LOG_3 = math.log(3)


def elr(samples: int = 6, classes: int = 4, **params) -> EarlyLearningRegularization:
    return EarlyLearningRegularization(samples, classes, **params)


def test_two_calls_equal_values_computed_by_hand():
    loss = elr(3, 2)
    index, label = torch.tensor([1]), torch.tensor([0])
    # p = (1/4, 3/4), t̄ = .3 p = (.075, .225), ⟨p, t̄⟩ = .1875.
    first = loss(torch.tensor([[0.0, LOG_3]]), label, index=index)
    torch.testing.assert_close(first.loss, torch.tensor(math.log(4) + 3 * math.log(0.8125)))
    # p = (3/4, 1/4), t̄ = .7 (.075, .225) + .3 p = (.2775, .2325), ⟨p, t̄⟩ = .26625.
    second = loss(torch.tensor([[LOG_3, 0.0]]), label, index=index)
    torch.testing.assert_close(second.loss, torch.tensor(math.log(4 / 3) + 3 * math.log(0.73375)))
    torch.testing.assert_close(loss.memory, torch.tensor([[0.0, 0.0], [0.2775, 0.2325], [0.0, 0.0]]))
    assert second.corrected_targets.tolist() == [[1, 0]]
    assert second.trust.tolist() == [0]


def test_the_defaults_are_the_published_ones():
    loss = elr()
    assert (loss.strength, loss.momentum) == (3.0, 0.7)


def test_the_regulariser_of_known_cases():
    averages = torch.tensor([[0.0, 0.0], [0.5, 0.5], [1.0, 0.0], [1.0, 0.0]])
    logits = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 0.0], [100.0, 0.0]])
    expected = torch.tensor([1.0, 0.5, 0.5, 1e-4]).log()  # the last is clamped
    torch.testing.assert_close(early_learning_regularizer(logits, averages), expected, rtol=1e-3, atol=1e-6)


def test_the_regulariser_passes_a_numerical_gradient_check():
    logits, _ = logits_and_labels()
    assert torch.autograd.gradcheck(lambda z: early_learning_regularizer(z, soft_labels()), logits)


def test_its_gradient_is_the_papers():
    # Liu et al. 2020, lemma 2: p_c / (1 − ⟨p, t̄⟩) · Σ_k (t̄_k − t̄_c) p_k.
    logits, _ = logits_and_labels()
    t, p = soft_labels(), logits.softmax(dim=1)
    agreement = (p * t).sum(dim=1, keepdim=True)
    expected = p / (1 - agreement) * (agreement - t)
    torch.testing.assert_close(gradient(early_learning_regularizer(logits, t), logits), expected)


@pytest.mark.parametrize("params", [{"strength": 0}, {"momentum": 1}])
def test_without_strength_or_without_memory_it_is_cross_entropy(params):
    logits, labels = logits_and_labels()
    output = elr(**params)(logits, labels, index=torch.arange(6))
    torch.testing.assert_close(output.per_sample, CrossEntropy()(logits, labels).per_sample)


def test_the_memory_carries_no_gradient_and_only_the_batch_is_remembered():
    logits, labels = logits_and_labels()
    loss = elr(10)
    loss(logits, labels, index=torch.tensor([7, 1, 3, 0, 9, 4])).loss.backward()
    assert not loss.memory.requires_grad
    torch.testing.assert_close(loss.memory[7].double(), 0.3 * logits[0].detach().softmax(dim=0))
    assert loss.memory.sum(dim=1).gt(0).tolist() == [True, True, False, True, True, False, False, True, False, True]


def test_the_memory_converges_to_a_constant_prediction():
    logits, labels = logits_and_labels()
    loss = elr()
    for _ in range(60):
        loss(logits, labels, index=torch.arange(6))
    torch.testing.assert_close(loss.memory, logits.detach().softmax(dim=1).float())


def test_an_utterance_that_is_twice_in_a_batch_counts_once_by_its_mean():
    p = torch.tensor([[0.25, 0.75], [0.6, 0.4], [0.75, 0.25]])
    memory = torch.full((2, 2), 0.2)
    averages = update_averages(memory, torch.tensor([1, 0, 1]), p, 0.7)
    expected = torch.tensor([[0.32, 0.26], [0.29, 0.29]])
    torch.testing.assert_close(memory, expected)
    torch.testing.assert_close(averages, expected[[1, 0, 1]])


def test_a_state_brings_another_loss_to_the_same_numbers_and_is_not_shared():
    logits, labels = logits_and_labels()
    index = torch.arange(6)
    one, other = elr(), elr()
    one(logits, labels, index=index)
    state = one.state_dict()
    other.load_state_dict(state)
    kept = state["memory"].clone()
    following = other(logits * 2, labels, index=index).per_sample
    assert torch.equal(state["memory"], kept)
    assert torch.equal(one(logits * 2, labels, index=index).per_sample, following)
    assert torch.equal(one.memory, other.memory)


@pytest.mark.parametrize("state", [{}, {"memory": torch.zeros(5, 4)}, {"average": torch.zeros(6, 4)}])
def test_the_state_of_another_loss_is_refused(state):
    with pytest.raises(ValueError, match=r"has a state of memory \(6, 4\), got"):
        elr().load_state_dict(state)


@pytest.mark.parametrize(
    ("index", "got"),
    [
        (None, "none"),
        (torch.arange(5), r"\(5,\) of torch.int64"),
        (torch.zeros(6), r"\(6,\) of torch.float32"),
        (torch.zeros(6, 1, dtype=torch.int64), r"\(6, 1\)"),
    ],
)
def test_a_call_without_a_fitting_index_is_refused(index, got):
    logits, labels = logits_and_labels()
    with pytest.raises(ValueError, match=rf"index must be \(6,\) integers, got {got}"):
        elr()(logits, labels, index=index)


def test_an_index_or_classes_beyond_the_memory_are_refused():
    logits, labels = logits_and_labels()
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        elr(5)(logits, labels, index=torch.arange(6))
    with pytest.raises(ValueError, match="logits must have 3 classes, as the loss has, got 4"):
        elr(classes=3)(logits, labels, index=torch.arange(6))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"samples": 0}, "num_samples must be an integer >= 1, got 0"),
        ({"classes": 1}, "num_classes must be an integer >= 2, got 1"),
        ({"strength": -1}, "strength must be a number >= 0, got -1"),
        ({"momentum": 1.1}, r"momentum must be a number in \[0, 1\], got 1.1"),
    ],
)
def test_parameters_out_of_range_are_refused(params, message):
    with pytest.raises(UserError, match=f"EarlyLearningRegularization: {message}"):
        elr(**params)
