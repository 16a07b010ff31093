import pytest

from ser.errors import UserError
from ser.losses import (
    CrossEntropy,
    ProSelfLC,
    Schedule,
    build_loss,
)

PUBLISHED = {"transit_time_ratio": 0.5, "exp_base": 16.0}


def test_total_steps_reach_only_the_losses_that_take_them():
    assert build_loss("cross_entropy", {}, 10) == CrossEntropy()
    assert build_loss("proselflc", PUBLISHED, 10) == ProSelfLC(0.5, 16.0, total_steps=10)


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
    assert build_loss("proselflc", params, 10).temperature == expected
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
def test_mistakes_in_a_loss_by_name_are_told(name, params, message):
    with pytest.raises(UserError, match=message):
        build_loss(name, params, 10)
