"""Losses that keep the label and reshape cross entropy, so that a wrong label pulls less, or a hard one more."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ser.losses.base import Loss, LossOutput, make_output, soft_cross_entropy
from ser.utils.checks import check_range

# log 0 in the reverse cross entropy (Wang et al., ICCV 2019: A).
LOG_ZERO = -4.0
# Below it, 1 − p^q is lost in float32, and the loss is cross entropy to all digits.
SMALLEST_Q = 1e-6


def generalized_cross_entropy(targets: Tensor, logits: Tensor, q: float) -> Tensor:
    """Generalised cross entropy, Σ_k target_k (1 − p_k^q) / q.

    For a label y it is (1 − p_y^q) / q: cross entropy as q → 0, and at q = 1 half the mean absolute error Σ |e_y − p|.

    Args:
        targets: (N, C) probabilities.
        logits: (N, C).
        q: In (0, 1].

    Returns:
        (N,), at most 1/q.

    Source:
        Zhang and Sabuncu, NeurIPS 2018 (arXiv 1805.07836), equation 6; linear in soft targets.
    """
    return -(targets * torch.expm1(q * F.log_softmax(logits, dim=-1))).sum(dim=-1) / q


def reverse_cross_entropy(targets: Tensor, logits: Tensor) -> Tensor:
    """Reverse cross entropy, H(p, q) = −Σ p log q, with log q clipped at −4.

    For a label y it is 4 (1 − p_y). The share of a class in a soft target counts as e⁻⁴ = .018 where it is smaller.

    Args:
        targets: q, (N, C) probabilities.
        logits: (N, C).

    Returns:
        (N,) in [0, 4].

    Source:
        Wang et al., Symmetric cross entropy, ICCV 2019 (arXiv 1908.06112), equation 5.
    """
    return -(F.softmax(logits, dim=-1) * targets.log().clamp(min=LOG_ZERO)).sum(dim=-1)


def normalized_cross_entropy(targets: Tensor, logits: Tensor) -> Tensor:
    """Normalised cross entropy, H(q, p) / Σ_k H(e_k, p): the label's loss as a share of that of all C labels.

    Args:
        targets: q, (N, C) probabilities.
        logits: (N, C).

    Returns:
        (N,) in [0, 1].

    Source:
        Ma et al., Normalized loss functions, ICML 2020 (arXiv 2006.13554), equation 7; linear in soft targets.
    """
    log_p = F.log_softmax(logits, dim=-1)
    # The sum over all labels is least, C log C, where p is uniform, so nothing is divided by 0.
    return (targets * log_p).sum(dim=-1) / log_p.sum(dim=-1)


def focal_cross_entropy(targets: Tensor, logits: Tensor, gamma: float) -> Tensor:
    """Focal loss, −Σ q (1 − p)^γ log p.

    Args:
        targets: q, (N, C) probabilities.
        logits: (N, C).
        gamma: γ ≥ 0; 0 gives cross entropy.

    Returns:
        (N,).

    Source:
        Lin et al., Focal loss for dense object detection, ICCV 2017 (arXiv 1708.02002), equation 4, without its class
        weights; linear in soft targets.
    """
    log_p = F.log_softmax(logits, dim=-1)
    # Where p rounds to 1, (1 − p)^γ has an infinite slope for γ < 1, while the loss itself has none.
    doubt = (1.0 - log_p.exp()).clamp(min=torch.finfo(log_p.dtype).tiny)
    return -(targets * doubt.pow(gamma) * log_p).sum(dim=-1)


@dataclass(frozen=True)
class GeneralizedCrossEntropy(Loss):
    """Generalised cross entropy, between cross entropy (q → 0) and mean absolute error (q = 1).

    Args:
        q: From 1e-6 to 1. Published .7.

    Raises:
        UserError: ``q`` is out of range.

    Source:
        Zhang and Sabuncu, NeurIPS 2018 (arXiv 1805.07836), without its truncation.
    """

    q: float = 0.7

    def __post_init__(self) -> None:
        check_range("GeneralizedCrossEntropy: q", self.q, SMALLEST_Q, 1.0)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        return make_output(generalized_cross_entropy(q, z, self.q), q)


@dataclass(frozen=True)
class SymmetricCrossEntropy(Loss):
    """Symmetric cross entropy, α H(q, p) + β H(p, q), with log 0 clipped at −4.

    Args:
        alpha: α ≥ 0, weight of cross entropy. Published .1 for ten classes (.01 for digits), 6 for a hundred.
        beta: β ≥ 0, weight of reverse cross entropy. Published 1 for ten classes, .1 for a hundred.

    Raises:
        UserError: A parameter is out of range.

    Source:
        Wang et al., ICCV 2019 (arXiv 1908.06112).
    """

    alpha: float = 0.1
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_range("SymmetricCrossEntropy: alpha", self.alpha, 0.0)
        check_range("SymmetricCrossEntropy: beta", self.beta, 0.0)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        return make_output(self.alpha * soft_cross_entropy(q, z) + self.beta * reverse_cross_entropy(q, z), q)


@dataclass(frozen=True)
class NormalizedLosses(Loss):
    """An active and a passive loss, both robust: normalised plus reverse cross entropy, α NCE + β RCE.

    Args:
        alpha: α ≥ 0, weight of normalised cross entropy. Published 1 for ten classes, 10 for a hundred.
        beta: β ≥ 0, weight of reverse cross entropy. Published 1 for ten classes (10 for digits), .1 for a hundred.

    Raises:
        UserError: A parameter is out of range.

    Source:
        Ma et al., ICML 2020 (arXiv 2006.13554), NCE+RCE; log 0 is clipped at −4 as in `SymmetricCrossEntropy`.
    """

    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_range("NormalizedLosses: alpha", self.alpha, 0.0)
        check_range("NormalizedLosses: beta", self.beta, 0.0)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        return make_output(self.alpha * normalized_cross_entropy(q, z) + self.beta * reverse_cross_entropy(q, z), q)


@dataclass(frozen=True)
class FocalLoss(Loss):
    """Focal loss, −Σ q (1 − p)^γ log p: hard samples count more, and so do mislabelled ones.

    Args:
        gamma: γ ≥ 0. Published 2, out of 0 to 5.

    Raises:
        UserError: ``gamma`` is out of range.

    Source:
        Lin et al., ICCV 2017 (arXiv 1708.02002), without its class weights.
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        check_range("FocalLoss: gamma", self.gamma, 0.0)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        return make_output(focal_cross_entropy(q, z, self.gamma), q)
