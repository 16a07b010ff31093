"""What all losses share: the call, its result, and cross entropy against a distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LossOutput:
    """What a loss says about one batch.

    Attributes:
        loss: Scalar, the mean of ``per_sample``; call ``backward`` on it.
        per_sample: (N,), with gradient.
        corrected_targets: (N, C), q̃, the targets that were learnt from, without gradient, for reporting. The targets
            themselves where a loss corrects nothing. Each row is a distribution, except ConfidencePenalty's: it sums
            to 1 − 2ε, and its entries may be negative.
        trust: (N,) in [0, 1], ε, the weight that the label loses because the model's own prediction was trusted,
            without gradient. 0 for losses that do not ask the prediction, or, as ConfidencePenalty, work against it.
    """

    loss: Tensor
    per_sample: Tensor
    corrected_targets: Tensor
    trust: Tensor


class Loss(ABC):
    """The call that every loss answers, and the state that it may have.

    Attributes:
        targets: What training hands to the loss: ``noisy``, the labels of the noise level, or ``soft``, the
            annotators' distribution, which only a corpus with votes has.
    """

    targets: ClassVar[Literal["noisy", "soft"]] = "noisy"

    def __call__(
        self, logits: Tensor, targets: Tensor, step: int | None = None, *, index: Tensor | None = None
    ) -> LossOutput:
        """The loss of one batch.

        Args:
            logits: (N, C), floating point. Half precision is computed in float32.
            targets: (N,) class indices, or (N, C) probabilities.
            step: Optimiser steps done so far, from 0 to the planned total; needed by the losses that change over
                time.
            index: (N,) integers, positions of the samples in the training set; needed by the losses that remember
                them.

        Raises:
            ValueError: Shapes or types do not fit, ``step`` lies outside the plan, or a step or index is missing.
        """
        if logits.ndim != 2 or logits.shape[1] < 2:
            raise ValueError(f"logits must be (N, C) with at least 2 classes, got {tuple(logits.shape)}")
        if targets.shape[:1] != logits.shape[:1]:
            raise ValueError(f"{logits.shape[0]} logits rows for targets of shape {tuple(targets.shape)}")
        z = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        return self._compute(z, as_distribution(targets, z.shape[1]).to(z.dtype), step, index)

    @abstractmethod
    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        """The loss of checked logits and distributions, both (N, C) of one type, float32 or better."""

    def state_dict(self) -> dict[str, Tensor]:
        """What the loss remembers between calls: nothing, but for those that say so."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over a copy of what ``state_dict`` gave.

        Raises:
            ValueError: The state is another loss's.
        """
        if state:
            raise ValueError(f"{type(self).__name__} remembers nothing, got a state of {', '.join(state)}")


def soft_cross_entropy(targets: Tensor, logits: Tensor) -> Tensor:
    """Cross entropy against a distribution, H(q, p) = −Σ q log softmax(z).

    Args:
        targets: (N, C) probabilities; gradient flows through them if they carry one.
        logits: (N, C).

    Returns:
        (N,).
    """
    return -(targets * F.log_softmax(logits, dim=-1)).sum(dim=-1)


def as_distribution(targets: Tensor, num_classes: int) -> Tensor:
    """Targets as one distribution per utterance.

    Args:
        targets: (N,) class indices in 0..C−1, or (N, C) probabilities, which are passed through.
        num_classes: C.

    Returns:
        (N, C), floating point.

    Raises:
        ValueError: Another shape, or indices that are no integers, or probabilities that are.
        RuntimeError: An index outside 0..C−1 (PyTorch's own check).
    """
    if targets.ndim == 1 and not targets.is_floating_point():
        return F.one_hot(targets.long(), num_classes).float()
    if targets.ndim == 2 and targets.shape[1] == num_classes and targets.is_floating_point():
        return targets
    raise ValueError(
        f"targets must be (N,) integers or (N, {num_classes}) probabilities, "
        f"got {tuple(targets.shape)} of {targets.dtype}"
    )


def make_output(per_sample: Tensor, corrected_targets: Tensor, trust: Tensor | float = 0.0) -> LossOutput:
    """A ``LossOutput`` of its parts.

    Args:
        per_sample: (N,).
        corrected_targets: (N, C).
        trust: (N,), or one for all samples.
    """
    if not isinstance(trust, Tensor):
        trust = torch.full_like(per_sample, trust)
    return LossOutput(per_sample.mean(), per_sample, corrected_targets.detach(), trust.detach())
