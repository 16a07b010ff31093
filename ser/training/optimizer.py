"""The optimizer of a run: AdamW, with the learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch

from ser.config import OptimizerConfig
from ser.models import Classifier


def _plain(method: Any) -> Any:
    """A method of torch's optimizers without its guard against torch.compile."""
    return getattr(method, "__wrapped__", method)


if TYPE_CHECKING:
    AdamW = torch.optim.AdamW
else:

    class AdamW(torch.optim.AdamW):
        """Torch's AdamW, which does not import torch's compiler: half a second of every process.

        Its guards make the compiler leave an optimizer alone, and import it for that; nothing is compiled here.
        """

        step = torch.no_grad()(_plain(torch.optim.AdamW.step))
        zero_grad = _plain(torch.optim.AdamW.zero_grad)
        add_param_group = _plain(torch.optim.AdamW.add_param_group)
        state_dict = _plain(torch.optim.AdamW.state_dict)
        load_state_dict = _plain(torch.optim.AdamW.load_state_dict)


def make_optimizer(model: Classifier, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW as one kernel over the parameters that are trained (Loshchilov and Hutter 2019).

    Biases and the gains of batch norm are not decayed. The head comes first, for its rate is the one reported.

    Args:
        model: The network.
        config: Rates and decay.

    Returns:
        The optimizer; its groups have a ``factor`` on the learning rate.
    """
    groups = [
        {"params": parameters, "factor": factor, "weight_decay": decay}
        for in_head, factor in ((True, 1.0), (False, config.base_lr_factor))
        for is_matrix, decay in ((True, config.weight_decay), (False, 0.0))
        if (
            parameters := [
                parameter
                for name, parameter in model.named_parameters()
                if parameter.requires_grad and name.startswith("head.") == in_head and (parameter.ndim > 1) == is_matrix
            ]
        )
    ]
    return cast(torch.optim.Optimizer, AdamW(groups, lr=config.lr, fused=True))


def learning_rate_factor(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """Factor on the peak learning rate after ``step`` of ``total_steps`` planned optimiser steps."""
    warmup = config.warmup_ratio * total_steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total_steps - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int, total_steps: int) -> None:
    """Sets the learning rates of a step, each group's with its own factor.

    Args:
        optimizer: From ``make_optimizer``.
        config: Peak rate and schedule.
        step: Optimiser steps done.
        total_steps: Planned ones.
    """
    for group in optimizer.param_groups:
        group["lr"] = config.lr * learning_rate_factor(config, step, total_steps) * group["factor"]
