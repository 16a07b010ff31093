"""The optimizer: AdamW, with the learning rate as a function of the step."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ser.config import OptimizerConfig
from ser.models import Classifier


def make_optimizer(model: Classifier, config: OptimizerConfig) -> torch.optim.AdamW:
    """Return a fused AdamW over the parameters that are trained (Loshchilov and Hutter 2019).

    Weight decay does not apply to biases and the gains of norms. The head's groups come first, because the reported
    learning rate is that of the first group. The layers of a speech encoder follow from the top downwards, each with
    ``model.layer_lr_decay`` times the rate of the layer above.

    Args:
        model: Network.
        config: Rates and decay.

    Returns:
        The optimizer; each of its groups has a ``factor`` on the learning rate. On a GPU the learning rates are tensors
        there, so that no step waits for one, and one that is captured in a CUDA graph reads the present rate.

    Source:
        Discriminative rates: Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL
        2018 (arXiv 1801.06146).
    """
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            below = name.partition(".")[0] not in model.head_names
            factor = config.base_lr_factor * model.rate_factor(name) if below else 1.0
            groups.setdefault((below, -factor, parameter.ndim <= 1), []).append(parameter)
    ordered = [
        {"params": groups[key], "factor": -key[1], "weight_decay": 0.0 if key[2] else config.weight_decay}
        for key in sorted(groups)
    ]
    optimizer = torch.optim.AdamW(ordered, lr=config.lr, fused=True)
    _place_rates(optimizer)
    return optimizer


def learning_rate_factor(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """Return the factor on the peak learning rate in a step: a linear warm-up, then the schedule.

    Args:
        config: Schedule and warm-up.
        step: Number of the optimiser step, from 0.
        total_steps: Planned steps.

    Returns:
        A factor from 0 to 1.

    Example:
        >>> config = OptimizerConfig(schedule="cosine", warmup_ratio=0.1)
        >>> [round(learning_rate_factor(config, step, 100), 3) for step in (0, 9, 10, 55, 99)]
        [0.091, 0.909, 1.0, 0.5, 0.0]
    """
    warmup = config.warmup_ratio * total_steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total_steps - warmup)))


def learning_rates(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int, total_steps: int
) -> list[float]:
    """Return the learning rate of each group in a step.

    Args:
        optimizer: Optimizer from ``make_optimizer``.
        config: Peak rate and schedule.
        step: Number of the step, from 0.
        total_steps: Planned steps.
    """
    rate = config.lr * learning_rate_factor(config, step, total_steps)
    return [rate * group["factor"] for group in optimizer.param_groups]


def set_learning_rate(optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int, total_steps: int) -> None:
    """Set the learning rate of a step in all groups, each with its own factor.

    Args:
        optimizer: Optimizer from ``make_optimizer``.
        config: Peak rate and schedule.
        step: Number of the step, from 0.
        total_steps: Planned steps.
    """
    rates = learning_rates(optimizer, config, step, total_steps)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)  # the number is an argument of the kernel, so nothing is copied
        else:
            group["lr"] = rate


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the ``state_dict`` of an optimizer, with plain learning rates, so that any device can resume from it.

    Args:
        optimizer: Optimizer from ``make_optimizer``.
    """
    state = optimizer.state_dict()
    groups = [group for group in state["param_groups"] if isinstance(group["lr"], Tensor)]
    if groups:
        for group, rate in zip(groups, torch.stack([group["lr"] for group in groups]).tolist(), strict=True):
            group.update(lr=rate, capturable=False)
    return state


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore a copy of the state of an optimizer, on the device of its parameters.

    Args:
        optimizer: Optimizer from ``make_optimizer``.
        state: State from ``optimizer_state``, of any device.
    """
    # A copy, because the optimizer would otherwise update the caller's tensors.
    optimizer.load_state_dict(copy.deepcopy(state))
    _place_rates(optimizer)


def _place_rates(optimizer: torch.optim.Optimizer) -> None:
    """Put the learning rates where the parameters are, if that is a GPU; on a CPU they stay numbers."""
    for group in optimizer.param_groups:
        device = group["params"][0].device
        if device.type == "cuda":
            group.update(lr=torch.tensor(float(group["lr"]), device=device), capturable=True)
            # Torch warns in the first step that is not captured. The fused optimizer is as fast with as without.
            warnings.filterwarnings("ignore", "This instance was constructed with capturable=True", UserWarning)
