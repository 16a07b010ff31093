"""Losses built by name, with parameters checked against their signatures."""

import pytest

from ser.losses import (
    LOSSES,
    ConfidencePenalty,
    CrossEntropy,
    EarlyLearningRegularization,
    FocalLoss,
    GeneralizedCrossEntropy,
    LabelCorrection,
    LabelSmoothing,
    NormalizedLosses,
    ProSelfLC,
    ReweightingControl,
    Schedule,
    SoftLabels,
    SymmetricCrossEntropy,
    build_loss,
)
from ser.utils.errors import UserError

PUBLISHED = {"transit_time_ratio": 0.5, "exp_base": 16.0}
SIZES = (10, 6, 4)  # steps, training utterances, classes


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("cross_entropy", {}, CrossEntropy()),
        ("soft_labels", {}, SoftLabels()),
        ("label_smoothing", {"epsilon": 0.2}, LabelSmoothing(0.2)),
        ("confidence_penalty", {"epsilon": 0.2, "target_gradient": False}, ConfidencePenalty(0.2, False)),
        ("label_correction", {"epsilon": 0.2}, LabelCorrection(0.2)),
        ("proselflc", PUBLISHED, ProSelfLC(0.5, 16.0, total_steps=10)),
        ("reweighting_control", PUBLISHED, ReweightingControl(0.5, 16.0, total_steps=10)),
        ("generalized_cross_entropy", {"q": 0.5}, GeneralizedCrossEntropy(0.5)),
        ("symmetric_cross_entropy", {"alpha": 6, "beta": 0.1}, SymmetricCrossEntropy(6, 0.1)),
        ("normalized_losses", {"alpha": 10, "beta": 0.1}, NormalizedLosses(10, 0.1)),
        ("focal", {"gamma": 1}, FocalLoss(1)),
    ],
)
def test_a_loss_is_built_of_its_parameters_and_what_training_provides(name, params, expected):
    built = build_loss(name, params, *SIZES)
    assert type(built) is LOSSES[name]
    assert built == expected


def test_the_size_of_the_training_set_reaches_the_loss_with_a_state():
    loss = build_loss("elr", {"strength": 7, "momentum": 0.9}, *SIZES)
    assert isinstance(loss, EarlyLearningRegularization)
    assert (loss.strength, loss.momentum, loss.memory.shape) == (7, 0.9, (6, 4))


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (0.5, 0.5),
        ({"kind": "constant", "start": 0.5}, Schedule("constant", 0.5)),
        ({"kind": "constant", "start": 0.5, "end": 1.0}, Schedule("constant", 0.5, 1.0)),
        ({"kind": "linear", "start": 1, "end": 0.4}, Schedule("linear", 1, 0.4)),
    ],
)
def test_a_mapping_for_the_temperature_becomes_a_schedule(temperature, expected):
    params = {**PUBLISHED, "temperature": temperature}
    assert build_loss("proselflc", params, *SIZES).temperature == expected
    assert params["temperature"] is temperature


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("proselfcl", {}, "unknown loss 'proselfcl'. Did you mean 'proselflc'"),
        ("cross_entropy", {"epsilon": 0.1}, "'cross_entropy' takes no parameters, got 'epsilon'"),
        ("proselflc", {"transit_ratio": 0.5}, "'transit_ratio'. Did you mean 'transit_time_ratio'"),
        (
            "proselflc",
            {**PUBLISHED, "total_steps": 5},
            "unknown parameter of loss 'proselflc': 'total_steps'",
        ),
        ("elr", {"num_samples": 5}, "unknown parameter of loss 'elr': 'num_samples'"),
        ("elr", {"beta": 0.9}, "unknown parameter of loss 'elr': 'beta'.*Known: momentum, strength"),
        ("label_correction", {}, "loss 'label_correction' needs epsilon: give a value"),
        ("generalized_cross_entropy", {"q": "0.7x"}, "q must be a number"),
        ("reweighting_control", {**PUBLISHED, "target_gradient": False}, "of loss 'reweighting_control': 'target_gra"),
        ("proselflc", {}, "loss 'proselflc' needs transit_time_ratio and exp_base"),
        ("proselflc", {"exp_base": 4}, "loss 'proselflc' needs transit_time_ratio:"),
        ("proselflc", {**PUBLISHED, "temperature": {"kind": "constant"}}, "temperature schedule needs start"),
        (
            "proselflc",
            {**PUBLISHED, "temperature": {"kind": "constant", "start": 1.0, "stop": 2.0}},
            "unknown parameter of temperature schedule: 'stop'",
        ),
        (
            "proselflc",
            {"transit_time_ratio": {"start": 1}, "exp_base": 4},
            "transit_time_ratio must be a number",
        ),
    ],
)
def test_mistakes_in_a_loss_by_name_are_reported(name, params, message):
    with pytest.raises(UserError, match=message):
        build_loss(name, params, *SIZES)
