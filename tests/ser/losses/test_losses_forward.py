"""Forward correction: the matrix that is estimated, and the loss that uses it."""

import copy
import math

import pytest
import torch

from ser.config import Config
from ser.losses import CrossEntropy, ForwardCorrection, estimate_transition
from ser.training.loop import train
from ser.utils.errors import UserError
from tests.helpers.loss_cases import gradient, logits_and_labels, soft_labels

STEPS = 10  # the warm-up lasts until step 4
# Class 0 keeps its label in 3 of 4 cases, class 1 in half of them.
SKEWED = torch.tensor([[3 / 4, 1 / 4], [1 / 2, 1 / 2]])


def forward(samples=6, classes=4, transition=None, **params):
    loss = ForwardCorrection(samples, classes, STEPS, **params)
    if transition is not None:
        loss.load_state_dict({"predictions": torch.zeros(samples, classes), "transition": transition})
    return loss


def random_transition(classes=4):
    rows = torch.rand(classes, classes, generator=torch.Generator().manual_seed(3)) + torch.eye(classes)
    return rows / rows.sum(dim=1, keepdim=True)


# The loss.


def test_a_case_known_by_hand():
    # p = (1/4, 3/4): label 0 has the probability 1/4 · 3/4 + 3/4 · 1/2 = 9/16, a third of it from class 0.
    output = forward(1, 2, SKEWED)(torch.tensor([[0.0, math.log(3)]]), torch.tensor([0]), 5)
    torch.testing.assert_close(output.loss, torch.tensor(math.log(16 / 9)))
    torch.testing.assert_close(output.corrected_targets, torch.tensor([[1 / 3, 2 / 3]]))
    torch.testing.assert_close(output.trust, torch.tensor([2 / 3]))


def test_the_gradient_is_that_of_cross_entropy_against_the_corrected_targets():
    logits, labels = logits_and_labels()
    for targets in (labels, soft_labels()):
        output = forward(transition=random_transition())(logits, targets, 5)
        expected = logits.softmax(dim=1) - output.corrected_targets
        torch.testing.assert_close(gradient(output.per_sample, logits), expected.detach())


def test_with_correct_labels_it_is_cross_entropy_to_all_digits():
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [0.3, 0.2, -1.0]], requires_grad=True)
    labels = torch.zeros(3, dtype=torch.int64)
    output = forward(3, 3, torch.eye(3))(logits, labels, 5)
    plain = CrossEntropy()(logits, labels)
    assert torch.equal(output.per_sample, plain.per_sample)
    assert torch.equal(output.corrected_targets, plain.corrected_targets)
    assert torch.equal(output.trust, plain.trust)
    torch.testing.assert_close(gradient(output.per_sample, logits), gradient(plain.per_sample, logits))


def test_the_true_distribution_minimises_it_where_labels_are_noisy():
    # Forward correction is proper (Patrini et al., theorem 2): over the noisy labels of p, the best prediction is p.
    transition, p = random_transition(), torch.tensor([0.1, 0.5, 0.15, 0.25])
    loss, noisy = forward(1, transition=transition), (p @ transition)[None]
    logits = p.log()[None].requires_grad_()
    assert gradient(loss(logits, noisy, 5).per_sample, logits).abs().max() < 1e-6
    assert gradient(CrossEntropy()(logits, noisy).per_sample, logits).abs().max() > 0.05


# The estimate.


def test_the_estimate_is_exact_where_anchors_are_perfect():
    transition = random_transition()
    truth = torch.cat([soft_labels().float(), torch.eye(4)])
    torch.testing.assert_close(estimate_transition(truth @ transition, 1.0), transition)


def test_a_quantile_leaves_the_outliers_out():
    # The probabilities of class 0 are 1, .99, .98, …, .01; those above .97 are outliers.
    first = torch.arange(100, 0, -1) / 100
    predictions = torch.stack([first, 1 - first], dim=1)
    torch.testing.assert_close(estimate_transition(predictions, 1.0), torch.tensor([[1.0, 0.0], [0.01, 0.99]]))
    torch.testing.assert_close(estimate_transition(predictions, 0.97), torch.tensor([[0.97, 0.03], [0.04, 0.96]]))


def test_utterances_without_prediction_do_not_count():
    predictions = torch.tensor([[0.6, 0.4], [0.3, 0.7]])
    gaps = torch.cat([torch.zeros(90, 2), predictions, torch.zeros(5, 2)])
    assert torch.equal(estimate_transition(gaps, 0.5), estimate_transition(predictions, 0.5))
    assert torch.equal(estimate_transition(torch.zeros(3, 4), 0.97), torch.eye(4))
    assert torch.equal(estimate_transition(torch.zeros(3, 1), 0.97), torch.eye(1))


def test_a_class_that_is_never_predicted_has_no_anchor_and_keeps_its_labels():
    predictions = torch.tensor([[0.7, 0.1, 0.2], [0.1, 0.8, 0.1], [0.5, 0.2, 0.3]])
    expected = torch.tensor([[0.7, 0.1, 0.2], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]])
    assert torch.equal(estimate_transition(predictions, 1.0), expected)


def test_a_network_trained_on_noisy_labels_gives_the_matrix_that_made_them():
    generator = torch.Generator().manual_seed(0)
    transition = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.8, 0.2], [0.1, 0.1, 0.8]])
    truth = torch.arange(1200) % 3
    labels = torch.multinomial(transition[truth], 1, generator=generator)[:, 0]
    by_class = torch.zeros(3, 3, requires_grad=True)  # the network: logits for each class, which it recognises
    optimizer = torch.optim.Adam([by_class], lr=0.1)
    loss, index = ForwardCorrection(1200, 3, total_steps=200), torch.arange(1200)
    for step in range(200):
        output = loss(by_class[truth], labels, step, index=index)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert (loss.transition - transition).abs().max() < 0.1
    wrong = labels != truth
    corrected = output.corrected_targets.argmax(dim=1)
    assert (corrected == truth)[wrong].float().mean() > 0.8
    assert (corrected == truth)[~wrong].float().mean() > 0.95


# The course of training.


def test_the_warm_up_is_cross_entropy_and_the_matrix_is_estimated_once_at_its_end():
    logits, labels = logits_and_labels()
    loss, index = forward(quantile=1.0), torch.arange(6)
    for step in range(5):
        output = loss(logits * step, labels, step, index=index)
        assert torch.equal(output.per_sample, CrossEntropy()(logits * step, labels).per_sample)
        assert not loss.transition.any()
    last = (logits * 4).softmax(dim=1).detach().float()
    torch.testing.assert_close(loss.predictions, last)
    loss(logits, labels, 5)
    torch.testing.assert_close(loss.transition, estimate_transition(last, 1.0))
    kept = loss.transition.clone()
    loss(logits * -3, labels, 6, index=index)
    assert torch.equal(loss.transition, kept)
    torch.testing.assert_close(loss.predictions, last)


@pytest.mark.parametrize("cut", [3, 5, 7])
def test_a_state_brings_another_loss_to_the_same_numbers_and_is_not_shared(cut):
    logits, labels = logits_and_labels()
    index, one, other = torch.arange(6), forward(quantile=1.0), forward(quantile=1.0)
    for step in range(cut):
        one(logits * (step + 1), labels, step, index=index)
    state = copy.deepcopy(one.state_dict())
    other.load_state_dict(one.state_dict())
    following = [other(logits * (step + 1), labels, step, index=index).per_sample for step in range(cut, STEPS)]
    assert all(torch.equal(one.state_dict()[name], tensor) for name, tensor in state.items())
    for step, expected in zip(range(cut, STEPS), following, strict=True):
        assert torch.equal(one(logits * (step + 1), labels, step, index=index).per_sample, expected)
    assert all(torch.equal(one.state_dict()[name], tensor) for name, tensor in other.state_dict().items())


def test_a_state_says_whether_the_matrix_was_estimated():
    logits, labels = logits_and_labels()
    loss, index = forward(quantile=1.0), torch.arange(6)
    loss(logits, labels, 4, index=index)
    before = copy.deepcopy(loss.state_dict())
    loss(logits, labels, 5)
    after = copy.deepcopy(loss.state_dict())
    loss(logits * -3, labels, 4, index=index)  # other predictions
    loss.load_state_dict(after)
    loss(logits, labels, 6)
    assert torch.equal(loss.transition, after["transition"])
    before["predictions"] = torch.eye(6, 4)
    loss.load_state_dict(before)
    loss(logits, labels, 6)
    assert torch.equal(loss.transition, torch.eye(4))


def test_a_run_resumed_in_or_after_the_warm_up_gives_the_numbers_of_an_uninterrupted_one(task_at):
    task = task_at("symmetric:0.25")
    config = Config.from_dotted(
        {
            "model.width": 0.03,
            "training.epochs": 3,
            "training.batch_size": 8,
            "training.crop_seconds": 0.5,
            "training.precision": "float32",
            "loss.name": "forward_correction",
            "loss.warmup_ratio": 0.5,  # in the middle of the second epoch
        }
    )
    whole, states = [], []
    for record in train(config, task, seed=0):
        whole.append(record.metrics)
        states.append(copy.deepcopy(record.state))
    assert [state["loss"]["transition"].any().item() for state in states] == [False, True, True]
    for done in (1, 2):
        resumed = [record.metrics for record in train(config, task, seed=0, state=states[done - 1])]
        assert resumed == whole[done:]


# Faulty calls.


def test_the_warm_up_requires_the_index_and_nothing_else_does():
    logits, labels = logits_and_labels()
    with pytest.raises(ValueError, match=r"index must be \(6,\) integers, got none"):
        forward()(logits, labels, 4)
    forward()(logits, labels, 5)


def test_other_classes_and_the_state_of_another_loss_are_refused():
    logits, labels = logits_and_labels()
    with pytest.raises(ValueError, match="logits must have 3 classes, as the loss has, got 4"):
        forward(classes=3)(logits, labels, 5)
    for state in ({}, {"memory": torch.zeros(6, 4)}, forward(7).state_dict(), forward(classes=3).state_dict()):
        with pytest.raises(ValueError, match=r"ForwardCorrection has a state of .*\(6, 4\).*got"):
            forward().load_state_dict(state)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"samples": 0}, "num_samples must be an integer >= 1, got 0"),
        ({"classes": 1}, "num_classes must be an integer >= 2, got 1"),
        ({"warmup_ratio": 1.1}, r"warmup_ratio must be a number in \[0, 1\], got 1.1"),
        ({"quantile": 2}, r"quantile must be a number in \[0, 1\], got 2"),
        ({"quantile": 0}, "quantile must be above 0, got 0"),
    ],
)
def test_parameters_out_of_range_are_refused(params, message):
    with pytest.raises(UserError, match=f"ForwardCorrection: {message}"):
        forward(**params)
