"""Tests of the optimizer: parameter groups of torch's AdamW, old states, the learning rate by step."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from ser.config import OptimizerConfig
from ser.models import build_model
from ser.training.optimizer import (
    learning_rate_factor,
    learning_rates,
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
    set_learning_rate,
)
from tests.helpers.fake_cuda import fake_cuda, run_on_fake_cuda


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


# On a GPU

RATES = OptimizerConfig(lr=0.01, warmup_ratio=0, base_lr_factor=0.5)


def train_steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        set_learning_rate(optimizer, RATES, step, 6)
        optimizer.zero_grad(set_to_none=True)
        x = torch.arange(64.0 * 64).view(1, 64, 64).sin() * (step + 1)
        model(x.to(next(model.parameters()).device)).square().sum().backward()
        optimizer.step()


def moved_between_devices() -> dict[str, Any]:
    """Train three steps on one device and three on the other, with all ways to go."""
    found: dict[str, Any] = {}
    with fake_cuda() as gpu, warnings.catch_warnings():
        warnings.simplefilter("error")
        for first in ("cpu", "cuda"):
            for second in ("cpu", "cuda"):
                torch.manual_seed(0)
                model = build_model("cnn6", 2, 1 / 32, dropout=0.0).to(first)
                optimizer = make_optimizer(model, RATES)  # type: ignore[arg-type]
                train_steps(model, optimizer, range(3))
                state = optimizer_state(optimizer)
                weights = {name: value.cpu() for name, value in model.state_dict().items()}
                model = build_model("cnn6", 2, 1 / 32, dropout=0.0)
                model.load_state_dict(weights)
                model = model.to(second)
                resumed = make_optimizer(model, RATES)  # type: ignore[arg-type]
                load_optimizer_state(resumed, state)
                gpu.clear()
                set_learning_rate(resumed, RATES, 3, 6)
                waits = [str(wait) for wait in gpu.waits]
                train_steps(model, resumed, range(3, 6))
                rates = [group["lr"] for group in resumed.param_groups]
                found[f"{first}, {second}"] = {
                    "saved": [group["lr"] for group in state["param_groups"]],
                    "capturable": [group["capturable"] for group in state["param_groups"]],
                    "where": [rate.device.type if isinstance(rate, torch.Tensor) else "number" for rate in rates],
                    "steps": sorted({(one["step"].device.type, one["step"].item()) for one in resumed.state.values()}),
                    "planned": learning_rates(resumed, RATES, 5, 6),
                    "rates": [float(rate) for rate in rates],
                    "waits": waits,
                    "weight": next(model.parameters()).flatten()[:5].tolist(),
                }
    return found


def test_a_run_resumes_on_any_device_from_a_state_of_any_with_plain_learning_rates() -> None:
    found = run_on_fake_cuda(moved_between_devices)
    saved = [0.01 * learning_rate_factor(RATES, 2, 6) * factor for factor in (1, 1, 0.5, 0.5)]
    for name, of in found.items():
        second = name.split(", ")[1]
        assert of["saved"] == pytest.approx(saved, rel=1e-6), name
        assert of["capturable"] == [False] * 4, name
        assert of["where"] == ["cuda" if second == "cuda" else "number"] * 4, name
        assert of["steps"] == [[second, 6.0]], name
        assert of["rates"] == pytest.approx(of["planned"], rel=1e-6), name
        assert of["waits"] == [], name
        assert of["weight"] == pytest.approx(found["cpu, cpu"]["weight"], rel=1e-4), name
