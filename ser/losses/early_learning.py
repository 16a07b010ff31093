"""Early-learning regularisation, which keeps a moving average of the predictions for each utterance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ser.losses.base import Loss, LossOutput, check_index, cross_entropy_with_logits, make_output
from ser.utils.checks import check_count, check_range

# Largest inner product ⟨p, t̄⟩, so that log(1 − ⟨p, t̄⟩) stays finite.
LARGEST_AGREEMENT = 1.0 - 1e-4


def update_averages(memory: Tensor, index: Tensor, prediction: Tensor, momentum: float) -> Tensor:
    """Update the moving averages of the utterances of a batch in place, t̄ ← β t̄ + (1 − β) p.

    Args:
        memory: t̄ of every utterance, (n, C).
        index: (N,) integers in 0..n−1. An utterance that occurs several times in the batch counts once, with the mean
            of its predictions.
        prediction: p, (N, C), without gradient.
        momentum: β in [0, 1].

    Returns:
        The new t̄ of the batch, (N, C).
    """
    prediction = prediction.to(memory.dtype)
    counts = memory.new_zeros(len(memory)).index_add_(0, index, prediction.new_ones(len(index)))
    means = torch.zeros_like(memory).index_add_(0, index, prediction)[index] / counts[index].unsqueeze(1)
    averages = momentum * memory[index] + (1.0 - momentum) * means
    memory[index] = averages
    return averages


def early_learning_regularizer(logits: Tensor, averages: Tensor) -> Tensor:
    """Compute log(1 − ⟨p, t̄⟩), which pulls p towards the predictions of early training.

    Args:
        logits: z, (N, C).
        averages: t̄, (N, C), without gradient. The inner product ⟨p, t̄⟩ is clamped at 1 − 1e-4.

    Returns:
        (N,), at most 0.

    Source:
        Liu et al., NeurIPS 2020 (arXiv 2007.00151), equation 6.
    """
    agreement = (F.softmax(logits, dim=-1) * averages).sum(dim=-1)
    return torch.log1p(-agreement.clamp(max=LARGEST_AGREEMENT))


@dataclass(eq=False)
class EarlyLearningRegularization(Loss):
    """Early-learning regularisation: H(q, p) + λ log(1 − ⟨p, t̄⟩).

    t̄ is the moving average of an utterance's predictions, 0 before the first. Each call updates it and then uses it,
    without gradient; ``index`` is required. The averages are the state of the loss: save and restore them together
    with the network. They move to the device of the logits in the first call, and are updated in place from then on.

    Args:
        num_samples: n ≥ 1, number of utterances in the training set.
        num_classes: C ≥ 2.
        strength: λ ≥ 0. Published 3 (CIFAR-10), 1 (CIFAR-10, asymmetric noise), 7 (CIFAR-100).
        momentum: β in [0, 1]. Published .7 (CIFAR-10), .9 (CIFAR-10, asymmetric noise; CIFAR-100).

    Raises:
        UserError: If a parameter is out of range.

    Source:
        Liu et al., Early-learning regularization prevents memorization of noisy labels, NeurIPS 2020
        (arXiv 2007.00151).

    Example:
        >>> import torch
        >>> loss = EarlyLearningRegularization(num_samples=3, num_classes=2, momentum=0.7)
        >>> output = loss(torch.zeros(1, 2), torch.tensor([0]), index=torch.tensor([1]))
        >>> [[round(average, 2) for average in row] for row in loss.memory.tolist()]
        [[0.0, 0.0], [0.15, 0.15], [0.0, 0.0]]
    """

    num_samples: int
    num_classes: int
    strength: float = 3.0
    momentum: float = 0.7
    memory: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_count(f"{name}: num_samples", self.num_samples)
        check_count(f"{name}: num_classes", self.num_classes, least=2)
        check_range(f"{name}: strength", self.strength, 0.0)
        check_range(f"{name}: momentum", self.momentum, 0.0, 1.0)
        self.memory = torch.zeros(self.num_samples, self.num_classes)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        index = check_index(index, z)
        if z.shape[1] != self.num_classes:
            raise ValueError(f"logits must have {self.num_classes} classes, as the loss has, got {z.shape[1]}")
        self.memory = self.memory.to(z.device)  # a copy in the first call alone
        averages = update_averages(self.memory, index, F.softmax(z.detach(), dim=-1), self.momentum).to(z.dtype)
        regularizer = early_learning_regularizer(z, averages)
        return make_output(cross_entropy_with_logits(z, q) + self.strength * regularizer, q)

    def state_dict(self) -> dict[str, Tensor]:
        """Return ``memory``, (n, C): the moving averages themselves, not a copy."""
        return {"memory": self.memory}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore a copy of a state that `state_dict` returned.

        Raises:
            ValueError: If the state belongs to another loss, or to another number of utterances or classes.
        """
        wanted, got = tuple(self.memory.shape), {name: tuple(tensor.shape) for name, tensor in state.items()}
        if got != {"memory": wanted}:
            raise ValueError(f"{type(self).__name__} has a state of memory {wanted}, got {got}")
        self.memory = state["memory"].clone()
