"""The interface that all losses share, and cross entropy against a distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LossOutput:
    """Result of a loss for one batch.

    Attributes:
        loss: Scalar, the mean of ``per_sample``; call ``backward`` on it.
        per_sample: (N,), with gradient.
        corrected_targets: (N, C), q̃, the targets that the model learns from, without gradient, for reporting. Equal
            to the given targets for losses that do not correct them. Each row is a distribution, except for
            `ConfidencePenalty`, whose rows sum to 1 − 2ε and may have negative entries.
        trust: (N,) in [0, 1], ε, the weight that the label loses because the model's own prediction is trusted,
            without gradient. 0 for losses that do not trust the prediction.
    """

    loss: Tensor
    per_sample: Tensor
    corrected_targets: Tensor
    trust: Tensor


@dataclass(frozen=True, eq=False)
class Mixing:
    """Share and partners by which the samples of a batch are mixed before the network sees them.

    Attributes:
        share: λ in [0, 1], the share of the sample itself; that of its partner is 1 − λ. A number, or a float64 tensor
            without dimensions on the device of the values.
        partner: (N,) positions in the batch, on the device of the values.
    """

    share: float | Tensor
    partner: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """Return λ · values + (1 − λ) · those of the partners.

        Args:
            values: (N, …), floating point.
        """
        return self.share * values + (1.0 - self.share) * values[self.partner]


class Loss(ABC):
    """Base class of all losses.

    A subclass implements `_compute`. A loss that keeps a state between calls also implements `state_dict` and
    `load_state_dict`; one that trains on mixed inputs implements `mixing`.

    Attributes:
        targets: What the training loop passes as targets: ``noisy``, the labels of the noise level, or ``soft``, the
            annotators' distribution, which requires a corpus with votes.
        former_defaults: Parameters whose default has changed since version 0.1, with the former default. A
            configuration always names them; one that was stored without them has the former defaults.
    """

    targets: ClassVar[Literal["noisy", "soft"]] = "noisy"
    former_defaults: ClassVar[Mapping[str, Any]] = {}

    def __call__(
        self, logits: Tensor, targets: Tensor, step: int | Tensor | None = None, *, index: Tensor | None = None
    ) -> LossOutput:
        """Compute the loss of one batch.

        Args:
            logits: (N, C), floating point. Half precision is computed in float32.
            targets: (N,) class indices, or (N, C) probabilities.
            step: Optimiser steps done so far, from 0 to the planned total. Required by losses that change during
                training. A loss with a `schedule` also takes the numbers of the step as a float64 tensor (K,) on the
                device of the logits. On a GPU they are then read from its memory: a captured CUDA graph reads new
                ones at every replay, and has no Python number that stays what it was at the capture.
            index: (N,) integers, positions of the samples in the training set. Required by losses that keep a state
                for each utterance.

        Raises:
            ValueError: If shapes or types do not match, if ``step`` is outside the plan or a tensor that the loss does
                not take, or if a required ``step`` or ``index`` is missing.
        """
        if logits.ndim != 2 or logits.shape[1] < 2:
            raise ValueError(f"logits must be (N, C) with at least 2 classes, got {tuple(logits.shape)}")
        if targets.shape[:1] != logits.shape[:1]:
            raise ValueError(
                f"targets must have one row for each of the {logits.shape[0]} rows of logits, "
                f"got shape {tuple(targets.shape)}"
            )
        z = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        q = as_distribution(targets, z.shape[1]).to(z.dtype)
        numbers = self._numbers(step, z.device) if isinstance(step, Tensor) else self.schedule(step)
        return self._compute(z, q, numbers or step, index)

    @abstractmethod
    def _compute(self, z: Tensor, q: Tensor, step: Any, index: Tensor | None) -> LossOutput:
        """Compute the loss of checked inputs.

        Args:
            z: Logits, (N, C), float32 or float64.
            q: Target distributions, (N, C), of the same type.
            step: The step, an integer or None. A loss with a `schedule` gets its K numbers instead, a tuple of floats
                or of tensors without dimensions; each subclass declares which of the two it takes.
            index: As in `__call__`.

        Returns:
            The result, most easily made with `make_output`.
        """

    def schedule(self, step: int | None) -> tuple[float, ...]:
        """Return the numbers that the loss uses in place of a step; none for losses that use the step or ignore it.

        Args:
            step: Optimiser steps done so far; None if the caller gave none.

        Returns:
            K numbers, as many at every step.
        """
        return ()

    def _numbers(self, step: Tensor, device: torch.device) -> tuple[Tensor, ...]:
        """Return the numbers in a tensor that a caller passes for a step."""
        wanted = (len(self.schedule(0)),)
        if wanted == (0,):
            raise ValueError(
                f"{type(self).__name__} has no schedule: pass the step as an integer, got a tensor {tuple(step.shape)}"
            )
        if step.shape != wanted or step.dtype != torch.float64 or step.device != device:
            raise ValueError(
                f"a tensor for the step of {type(self).__name__} must have the {wanted[0]} numbers of its schedule, "
                f"float64 on {device}, got {tuple(step.shape)} of {step.dtype} on {step.device}"
            )
        return step.unbind()

    def mixing(self, size: int, rng: np.random.Generator) -> Mixing | None:
        """Draw how the training loop mixes a batch: inputs, targets and class weights; None for not at all.

        Args:
            size: N, number of samples in the batch.
            rng: Random generator, used for nothing else.
        """
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state that is kept between calls; empty for losses without one."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore a copy of a state that `state_dict` returned.

        Raises:
            ValueError: If the state belongs to another loss.
        """
        if state:
            raise ValueError(f"{type(self).__name__} has no state to restore, got {', '.join(state)}")


def cross_entropy_with_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the cross entropy of logits against a distribution, H(q, p) = −Σ q log softmax(z).

    Args:
        logits: z, (N, C).
        targets: q, (N, C) probabilities; they may carry a gradient.

    Returns:
        (N,).
    """
    return -(targets * F.log_softmax(logits, dim=-1)).sum(dim=-1)


def as_distribution(targets: Tensor, num_classes: int) -> Tensor:
    """Return targets as one distribution for each sample.

    Args:
        targets: (N,) class indices in 0..C−1, or (N, C) probabilities, which are returned as they are.
        num_classes: C.

    Returns:
        (N, C), floating point.

    Raises:
        ValueError: If the shape differs, if indices are not integers, or if probabilities are integers.
        RuntimeError: If an index is outside 0..C−1 (raised by PyTorch).
    """
    if targets.ndim == 1 and not targets.is_floating_point():
        return F.one_hot(targets.long(), num_classes).float()
    if targets.ndim == 2 and targets.shape[1] == num_classes and targets.is_floating_point():
        return targets
    raise ValueError(
        f"targets must be (N,) integers or (N, {num_classes}) probabilities, "
        f"got {tuple(targets.shape)} of {targets.dtype}"
    )


def check_index(index: Tensor | None, logits: Tensor) -> Tensor:
    """Return the positions of the samples in the training set, for a loss with a state for each utterance.

    Args:
        index: (N,) integers.
        logits: (N, C).

    Raises:
        ValueError: If ``index`` is missing or is not one integer for each sample.
    """
    if index is None or index.shape != logits.shape[:1] or index.is_floating_point():
        got = "none" if index is None else f"{tuple(index.shape)} of {index.dtype}"
        raise ValueError(
            f"this loss has a state for each utterance: index must be ({len(logits)},) integers, got {got}"
        )
    return index.long()


def make_output(per_sample: Tensor, corrected_targets: Tensor, trust: Tensor | float = 0.0) -> LossOutput:
    """Return a `LossOutput` from the values of the samples.

    Args:
        per_sample: (N,).
        corrected_targets: (N, C).
        trust: (N,), or one value for all samples.
    """
    if not isinstance(trust, Tensor):
        trust = torch.full_like(per_sample, trust)
    return LossOutput(per_sample.mean(), per_sample, corrected_targets.detach(), trust.detach())
