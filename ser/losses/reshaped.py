"""Losses that keep the label and change the shape of cross entropy.

The robust ones (generalised, symmetric, normalised) lower the influence of unlikely, perhaps wrong labels; focal loss
raises that of hard samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ser.losses.base import Loss, LossOutput, cross_entropy_with_logits, make_output
from ser.utils.checks import check_range

# The value of log 0 in reverse cross entropy. The published codes of Wang et al. 2019 and of Ma et al. 2020 clip the
# label at 1e-4, and the published results are theirs; the text of Wang et al. 2019 has −4.
LOG_ZERO = math.log(1e-4)
FORMER_LOG_ZERO = -4.0
# For a smaller q, float32 cannot resolve 1 − p^q, and the loss equals cross entropy to all digits.
SMALLEST_Q = 1e-6


def generalized_cross_entropy(logits: Tensor, targets: Tensor, q: float) -> Tensor:
    """Compute generalised cross entropy, Σ_k target_k (1 − p_k^q) / q.

    For a label y it is (1 − p_y^q) / q: cross entropy as q → 0, and half the mean absolute error Σ |e_y − p| at q = 1.

    Args:
        logits: z, (N, C).
        targets: (N, C) probabilities.
        q: In (0, 1].

    Returns:
        (N,), at most 1/q.

    Source:
        Zhang and Sabuncu, NeurIPS 2018 (arXiv 1805.07836), equation 6; linear in soft targets.
    """
    return -(targets * torch.expm1(q * F.log_softmax(logits, dim=-1))).sum(dim=-1) / q


def reverse_cross_entropy(logits: Tensor, targets: Tensor, log_zero: float = LOG_ZERO) -> Tensor:
    """Compute reverse cross entropy, H(p, q) = −Σ p log q, with log q clipped at A.

    For a label y it is −A (1 − p_y). In a soft target, a class with a share below e^A counts as if it had that share.

    Args:
        logits: z, (N, C).
        targets: q, (N, C) probabilities.
        log_zero: A ≤ 0, the value of log 0. The published codes have log 1e-4 = −9.21.

    Returns:
        (N,) in [0, −A].

    Source:
        Wang et al., Symmetric cross entropy, ICCV 2019 (arXiv 1908.06112), equation 5.
    """
    return -(F.softmax(logits, dim=-1) * targets.log().clamp(min=log_zero)).sum(dim=-1)


def normalized_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute normalised cross entropy, H(q, p) / Σ_k H(e_k, p): the loss of the label relative to that of all labels.

    Args:
        logits: z, (N, C).
        targets: q, (N, C) probabilities.

    Returns:
        (N,) in [0, 1].

    Source:
        Ma et al., Normalized loss functions, ICML 2020 (arXiv 2006.13554), equation 7; linear in soft targets.
    """
    log_p = F.log_softmax(logits, dim=-1)
    # The denominator is at least C log C, its value for a uniform p, and so never 0.
    return (targets * log_p).sum(dim=-1) / log_p.sum(dim=-1)


def focal_cross_entropy(logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """Compute the focal loss, −Σ q (1 − p)^γ log p.

    Args:
        logits: z, (N, C).
        targets: q, (N, C) probabilities.
        gamma: γ ≥ 0; 0 gives cross entropy.

    Returns:
        (N,).

    Source:
        Lin et al., Focal loss for dense object detection, ICCV 2017 (arXiv 1708.02002), equation 4, without its class
        weights; linear in soft targets.
    """
    log_p = F.log_softmax(logits, dim=-1)
    # For γ < 1, (1 − p)^γ has an infinite slope where p rounds to 1, although the slope of the loss is 0 there.
    doubt = (1.0 - log_p.exp()).clamp(min=torch.finfo(log_p.dtype).tiny)
    return -(targets * doubt.pow(gamma) * log_p).sum(dim=-1)


@dataclass(frozen=True)
class GeneralizedCrossEntropy(Loss):
    """Generalised cross entropy, (1 − p_y^q) / q: cross entropy for q → 0, half the mean absolute error for q = 1.

    Args:
        q: From 1e-6 to 1. Published .7.

    Raises:
        UserError: If ``q`` is out of range.

    Source:
        Zhang and Sabuncu, NeurIPS 2018 (arXiv 1805.07836), without its truncation.

    Example:
        >>> import torch
        >>> output = GeneralizedCrossEntropy(q=0.5)(torch.zeros(1, 4), torch.tensor([0]))
        >>> round(output.loss.item(), 4)  # (1 - √0.25) / 0.5
        1.0
    """

    q: float = 0.7

    def __post_init__(self) -> None:
        check_range("GeneralizedCrossEntropy: q", self.q, SMALLEST_Q, 1.0)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        return make_output(generalized_cross_entropy(z, q, self.q), q)


@dataclass(frozen=True)
class SymmetricCrossEntropy(Loss):
    """Symmetric cross entropy, α H(q, p) + β H(p, q), with log q clipped at A.

    Args:
        alpha: α ≥ 0, weight of cross entropy. Published .1 for ten classes (.01 for digits), 6 for a hundred.
        beta: β ≥ 0, weight of reverse cross entropy. Published 1 for ten classes, .1 for a hundred.
        log_zero: A from −100 to 0, the value of log 0. The published code clips labels at 1e-4, which is −9.21; the
            text of the paper has −4. Reverse cross entropy is proportional to it.

    Raises:
        UserError: If a parameter is out of range.

    Source:
        Wang et al., ICCV 2019 (arXiv 1908.06112).

    Example:
        >>> import torch
        >>> output = SymmetricCrossEntropy(alpha=0.1, beta=1.0)(torch.zeros(1, 4), torch.tensor([0]))
        >>> round(output.loss.item(), 4)  # 0.1 log 4 + 9.2103 (1 - 0.25)
        7.0464
    """

    former_defaults: ClassVar[Mapping[str, Any]] = {"log_zero": FORMER_LOG_ZERO}

    alpha: float = 0.1
    beta: float = 1.0
    log_zero: float = LOG_ZERO

    def __post_init__(self) -> None:
        check_range("SymmetricCrossEntropy: alpha", self.alpha, 0.0)
        check_range("SymmetricCrossEntropy: beta", self.beta, 0.0)
        check_range("SymmetricCrossEntropy: log_zero", self.log_zero, -100.0, 0.0)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        reverse = reverse_cross_entropy(z, q, self.log_zero)
        return make_output(self.alpha * cross_entropy_with_logits(z, q) + self.beta * reverse, q)


@dataclass(frozen=True)
class NormalizedLosses(Loss):
    """Normalised plus reverse cross entropy, α NCE + β RCE: an active and a passive loss, both robust to label noise.

    Args:
        alpha: α ≥ 0, weight of normalised cross entropy. Published 1 for ten classes, 10 for a hundred.
        beta: β ≥ 0, weight of reverse cross entropy. Published 1 for ten classes (10 for digits), .1 for a hundred.
        log_zero: A from −100 to 0, the value of log 0. The published code clips labels at 1e-4, which is −9.21.

    Raises:
        UserError: If a parameter is out of range.

    Source:
        Ma et al., ICML 2020 (arXiv 2006.13554), NCE+RCE.

    Example:
        >>> import torch
        >>> output = NormalizedLosses()(torch.zeros(1, 4), torch.tensor([0]))
        >>> round(output.loss.item(), 4)  # 1/4 + 9.2103 (1 - 0.25)
        7.1578
    """

    former_defaults: ClassVar[Mapping[str, Any]] = {"log_zero": FORMER_LOG_ZERO}

    alpha: float = 1.0
    beta: float = 1.0
    log_zero: float = LOG_ZERO

    def __post_init__(self) -> None:
        check_range("NormalizedLosses: alpha", self.alpha, 0.0)
        check_range("NormalizedLosses: beta", self.beta, 0.0)
        check_range("NormalizedLosses: log_zero", self.log_zero, -100.0, 0.0)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        reverse = reverse_cross_entropy(z, q, self.log_zero)
        return make_output(self.alpha * normalized_cross_entropy(z, q) + self.beta * reverse, q)


@dataclass(frozen=True)
class FocalLoss(Loss):
    """Focal loss, −Σ q (1 − p)^γ log p, which gives hard samples, and with them mislabelled ones, more weight.

    Args:
        gamma: γ ≥ 0. Published 2; the paper tried 0 to 5.

    Raises:
        UserError: If ``gamma`` is out of range.

    Source:
        Lin et al., ICCV 2017 (arXiv 1708.02002), without its class weights.

    Example:
        >>> import torch
        >>> output = FocalLoss(gamma=2.0)(torch.zeros(1, 4), torch.tensor([0]))
        >>> round(output.loss.item(), 4)  # 0.75² log 4
        0.7798
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        check_range("FocalLoss: gamma", self.gamma, 0.0)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        return make_output(focal_cross_entropy(z, q, self.gamma), q)
