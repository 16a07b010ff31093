"""The optimizer: AdamW, with the learning rate as a function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

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
        The optimizer; each of its groups has a ``factor`` on the learning rate.

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
    return torch.optim.AdamW(ordered, lr=config.lr, fused=True)


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


def set_learning_rate(optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int, total_steps: int) -> None:
    """Set the learning rate of a step in all groups, each with its own factor.

    Args:
        optimizer: Optimizer from ``make_optimizer``.
        config: Peak rate and schedule.
        step: Number of the step, from 0.
        total_steps: Planned steps.
    """
    for group in optimizer.param_groups:
        group["lr"] = config.lr * learning_rate_factor(config, step, total_steps) * group["factor"]
