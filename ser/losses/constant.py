"""Cross entropy against the label as it is, or against a label mixed with something else by a constant share ε."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from ser.losses.base import Loss, LossOutput, cross_entropy_with_logits, make_output
from ser.utils.checks import check_flag, check_range


def smooth_labels(targets: Tensor, epsilon: float) -> Tensor:
    """Return the smoothed targets q̃ = (1 − ε) q + ε u.

    Args:
        targets: q, (N, C).
        epsilon: ε in [0, 1].

    Returns:
        (N, C), each row sums to 1.

    Source:
        Szegedy et al., Rethinking the Inception architecture, CVPR 2016 (arXiv 1512.00567), section 7.
    """
    return (1.0 - epsilon) * targets + epsilon / targets.shape[-1]


def penalize_confidence(targets: Tensor, prediction: Tensor, epsilon: float) -> Tensor:
    """Return the targets q̃ = (1 − ε) q − ε p, with which H(q̃, p) = (1 − ε) H(q, p) − ε H(p).

    Args:
        targets: q, (N, C).
        prediction: p, (N, C).
        epsilon: ε in [0, 1].

    Returns:
        (N, C), not distributions: each row sums to 1 − 2ε, and entries may be negative.

    Source:
        Pereyra et al., Regularizing neural networks by penalizing confident output distributions, ICLR 2017 workshop
        (arXiv 1701.06548), whose weight of the entropy is ε / (1 − ε) here; in this form in Wang et al., CVPR 2021.
    """
    return (1.0 - epsilon) * targets - epsilon * prediction


def correct_targets(targets: Tensor, knowledge: Tensor, trust: Tensor | float) -> Tensor:
    """Return the corrected targets q̃ = (1 − ε) q + ε p.

    Args:
        targets: q, (N, C).
        knowledge: p, (N, C), the prediction that the label is mixed with.
        trust: ε in [0, 1], (N,) or one value for all samples.

    Returns:
        (N, C), each row sums to 1.

    Source:
        Reed et al. 2014 (arXiv 1412.6596) for a constant ε; Wang et al., CVPR 2021, for one ε per sample.
    """
    epsilon = trust.unsqueeze(-1) if isinstance(trust, Tensor) else trust
    return (1.0 - epsilon) * targets + epsilon * knowledge


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross entropy, H(q, p): the baseline, which trusts the label alone. No parameters.

    Example:
        >>> import torch
        >>> output = CrossEntropy()(torch.zeros(2, 4), torch.tensor([0, 3]))
        >>> round(output.loss.item(), 4)  # log 4
        1.3863
    """

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        return make_output(cross_entropy_with_logits(z, q), q)


@dataclass(frozen=True)
class SoftLabels(CrossEntropy):
    """Cross entropy against the annotators' distribution, an oracle on the data side. No parameters.

    The training loop passes the votes of each utterance as targets, at every noise level alike. A corpus without
    votes cannot be used.

    Source:
        Fayek, Lech and Cavedon, Modeling subjectiveness in emotion recognition with deep neural networks: ensembles
        vs soft labels, IJCNN 2016.

    Example:
        Two of three annotators chose the first class.

        >>> import torch
        >>> output = SoftLabels()(torch.zeros(1, 2), torch.tensor([[2 / 3, 1 / 3]]))
        >>> round(output.loss.item(), 4)  # log 2
        0.6931
    """

    targets: ClassVar[Literal["noisy", "soft"]] = "soft"


@dataclass(frozen=True)
class LabelSmoothing(Loss):
    """Label smoothing: H(q̃, p) with q̃ = (1 − ε) q + ε u.

    Args:
        epsilon: ε in [0, 1]. Published .1; usual range .05 to .5.

    Raises:
        UserError: If ``epsilon`` is out of range.

    Source:
        Szegedy et al., CVPR 2016 (arXiv 1512.00567); against label noise: Lukasik et al., ICML 2020
        (arXiv 2003.02819).

    Example:
        >>> import torch
        >>> output = LabelSmoothing(epsilon=0.2)(torch.zeros(1, 4), torch.tensor([0]))
        >>> [round(share, 2) for share in output.corrected_targets[0].tolist()]
        [0.85, 0.05, 0.05, 0.05]
    """

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        check_range("LabelSmoothing: epsilon", self.epsilon, 0.0, 1.0)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        corrected = smooth_labels(q, self.epsilon)
        return make_output(cross_entropy_with_logits(z, corrected), corrected)


@dataclass(frozen=True)
class ConfidencePenalty(Loss):
    """Confidence penalty, which rewards entropy: H(q̃, p) with q̃ = (1 − ε) q − ε p.

    Without ``target_gradient``, ∂L/∂z = (1 − ε)(p − q): the gradient of cross entropy, scaled alike for all samples.

    Args:
        epsilon: ε in [0, 1]. Usual range .05 to .5; the published weight of the entropy, .1, is ε = 1/11.
        target_gradient: Whether the gradient flows through p in q̃, as in the published penalty.

    Raises:
        UserError: If a parameter is out of range.

    Source:
        Pereyra et al., ICLR 2017 workshop (arXiv 1701.06548); in this form in Wang et al., CVPR 2021.

    Example:
        The loss is (1 − ε) H(q, p) − ε H(p) = (1 − 2 · 0.1) log 2 for a uniform prediction.

        >>> import torch
        >>> output = ConfidencePenalty(epsilon=0.1)(torch.zeros(1, 2), torch.tensor([0]))
        >>> round(output.loss.item(), 4)
        0.5545
    """

    epsilon: float
    target_gradient: bool = True

    def __post_init__(self) -> None:
        check_range("ConfidencePenalty: epsilon", self.epsilon, 0.0, 1.0)
        check_flag("ConfidencePenalty: target_gradient", self.target_gradient)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        corrected = penalize_confidence(q, _prediction(z, self.target_gradient), self.epsilon)
        return make_output(cross_entropy_with_logits(z, corrected), corrected)


@dataclass(frozen=True)
class LabelCorrection(Loss):
    """Label correction by a constant share (soft bootstrapping): H(q̃, p) with q̃ = (1 − ε) q + ε p.

    Args:
        epsilon: ε in [0, 1]. Published .05 (a weight of .95 on the label); usual range .05 to .5.
        target_gradient: Whether the gradient flows through p in q̃, which minimises entropy, as published. Without
            it, the gradient is that of cross entropy, scaled alike for all samples.

    Raises:
        UserError: If a parameter is out of range.

    Source:
        Reed et al., Training deep neural networks on noisy labels with bootstrapping, 2014 (arXiv 1412.6596).

    Example:
        The model is all but certain of class 1, the label is class 0.

        >>> import torch
        >>> output = LabelCorrection(epsilon=0.3)(torch.tensor([[0.0, 20.0]]), torch.tensor([0]))
        >>> [round(share, 2) for share in output.corrected_targets[0].tolist()]
        [0.7, 0.3]
    """

    epsilon: float
    target_gradient: bool = True

    def __post_init__(self) -> None:
        check_range("LabelCorrection: epsilon", self.epsilon, 0.0, 1.0)
        check_flag("LabelCorrection: target_gradient", self.target_gradient)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        corrected = correct_targets(q, _prediction(z, self.target_gradient), self.epsilon)
        return make_output(cross_entropy_with_logits(z, corrected), corrected, self.epsilon)


def _prediction(z: Tensor, with_gradient: bool) -> Tensor:
    return F.softmax(z if with_gradient else z.detach(), dim=-1)
