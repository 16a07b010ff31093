"""Tests of the optimizer: parameter groups of torch's AdamW, old states, the learning rate by step."""

from __future__ import annotations

import pytest
import torch

from ser.config import OptimizerConfig
from ser.models import build_model
from ser.training.optimizer import learning_rate_factor, make_optimizer, set_learning_rate


def test_training_that_continues_from_a_state_dict_gives_the_same_weights() -> None:
    config = OptimizerConfig(lr=0.01, weight_decay=0.1, base_lr_factor=0.5)
    models = [build_model("cnn6", 2, 1 / 32) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [make_optimizer(model, config) for model in models]
    x = torch.randn(4, 64, 64)
    for step in range(6):
        if step == 3:
            state = optimizers[0].state_dict()
            optimizers[0] = make_optimizer(models[0], config)
            optimizers[0].load_state_dict(state)
        for model, optimizer in zip(models, optimizers, strict=True):
            set_learning_rate(optimizer, config, step, 6)
            torch.manual_seed(step)
            optimizer.zero_grad(set_to_none=True)
            model(x).square().sum().backward()
            optimizer.step()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_groups_are_the_head_and_the_base_with_and_without_decay() -> None:
    optimizer = make_optimizer(
        build_model("cnn6", 2, 1 / 32), OptimizerConfig(lr=0.01, weight_decay=0.1, base_lr_factor=0.5)
    )
    groups = [(group["factor"], group["weight_decay"], group["fused"]) for group in optimizer.param_groups]
    assert groups == [(1.0, 0.1, True), (1.0, 0.0, True), (0.5, 0.1, True), (0.5, 0.0, True)]


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1 / 11), (4, 5 / 11), (9, 10 / 11), (10, 1.0), (40, 0.75), (55, 0.5), (100, 0.0)],
)
def test_the_learning_rate_rises_then_follows_a_cosine_to_zero(step: int, expected: float) -> None:
    assert learning_rate_factor(OptimizerConfig(warmup_ratio=0.1), step, 100) == pytest.approx(expected)


@pytest.mark.parametrize(("step", "expected"), [(0, 1 / 11), (9, 10 / 11), (10, 1.0), (99, 1.0)])
def test_a_constant_learning_rate_stays_at_its_peak(step: int, expected: float) -> None:
    config = OptimizerConfig(schedule="constant", warmup_ratio=0.1)
    assert learning_rate_factor(config, step, 100) == pytest.approx(expected)


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    assert learning_rate_factor(OptimizerConfig(warmup_ratio=0), 0, 100) == 1.0
