"""Cross entropy against a target that is mixed by a constant share ε, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from ser.losses.base import Loss, LossOutput, make_output, soft_cross_entropy
from ser.utils.checks import check_flag, check_range


def smooth_labels(targets: Tensor, epsilon: float) -> Tensor:
    """The smoothed target q̃ = (1 − ε) q + ε u.

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
    """The target q̃ = (1 − ε) q − ε p, which is no distribution: H(q̃, p) = (1 − ε) H(q, p) − ε H(p).

    Args:
        targets: q, (N, C).
        prediction: p, (N, C).
        epsilon: ε in [0, 1].

    Returns:
        (N, C), each row sums to 1 − 2ε; entries may be negative.

    Source:
        Pereyra et al., Regularizing neural networks by penalizing confident output distributions, ICLR 2017 workshop
        (arXiv 1701.06548), whose weight of the entropy is ε / (1 − ε) here; in this form Wang et al., CVPR 2021.
    """
    return (1.0 - epsilon) * targets - epsilon * prediction


def correct_targets(targets: Tensor, knowledge: Tensor, trust: Tensor | float) -> Tensor:
    """The corrected target q̃ = (1 − ε) q + ε p.

    Args:
        targets: q, (N, C).
        knowledge: p, (N, C), what the label is mixed with.
        trust: ε in [0, 1], (N,) or one for all.

    Returns:
        (N, C), each row sums to 1.

    Source:
        Reed et al. 2014 (arXiv 1412.6596) for a constant ε; Wang et al., CVPR 2021, for one per utterance.
    """
    epsilon = trust.unsqueeze(-1) if isinstance(trust, Tensor) else trust
    return (1.0 - epsilon) * targets + epsilon * knowledge


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross entropy, H(q, p): the label is believed, the model is not. The baseline; no parameters."""

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        return make_output(soft_cross_entropy(q, z), q)


@dataclass(frozen=True)
class SoftLabels(CrossEntropy):
    """Cross entropy against the annotators' distribution: an oracle on the data side; no parameters.

    Training hands it the votes of each utterance as its target, whatever the noise level made of the label, so a
    corpus without votes cannot train with it.

    Source:
        Fayek, Lech and Cavedon, Modeling subjectiveness in emotion recognition with deep neural networks: ensembles
        vs soft labels, IJCNN 2016.
    """

    targets: ClassVar[Literal["noisy", "soft"]] = "soft"


@dataclass(frozen=True)
class LabelSmoothing(Loss):
    """Label smoothing: H(q̃, p) with q̃ = (1 − ε) q + ε u.

    Args:
        epsilon: ε in [0, 1]. Published .1; usual range .05 to .5.

    Raises:
        UserError: ``epsilon`` is out of range.

    Source:
        Szegedy et al., CVPR 2016 (arXiv 1512.00567); against label noise: Lukasik et al., ICML 2020
        (arXiv 2003.02819).
    """

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        check_range("LabelSmoothing: epsilon", self.epsilon, 0.0, 1.0)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        corrected = smooth_labels(q, self.epsilon)
        return make_output(soft_cross_entropy(corrected, z), corrected)


@dataclass(frozen=True)
class ConfidencePenalty(Loss):
    """Confidence penalty: H(q̃, p) with q̃ = (1 − ε) q − ε p, so that entropy is rewarded.

    Stopped, ∂L/∂z = (1 − ε)(p − q): samples are only re-weighted, all alike.

    Args:
        epsilon: ε in [0, 1]. Usual range .05 to .5; the published weight of the entropy, .1, is ε = 1/11.
        target_gradient: Whether the gradient flows through p in q̃, which makes it the published penalty.

    Raises:
        UserError: A parameter is out of range.

    Source:
        Pereyra et al., ICLR 2017 workshop (arXiv 1701.06548); in this form Wang et al., CVPR 2021.
    """

    epsilon: float
    target_gradient: bool = True

    def __post_init__(self) -> None:
        check_range("ConfidencePenalty: epsilon", self.epsilon, 0.0, 1.0)
        check_flag("ConfidencePenalty: target_gradient", self.target_gradient)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        corrected = penalize_confidence(q, _prediction(z, self.target_gradient), self.epsilon)
        return make_output(soft_cross_entropy(corrected, z), corrected)


@dataclass(frozen=True)
class LabelCorrection(Loss):
    """Label correction by a constant share, soft bootstrapping: H(q̃, p) with q̃ = (1 − ε) q + ε p.

    Args:
        epsilon: ε in [0, 1]. Published .05 (a weight of .95 on the label); usual range .05 to .5.
        target_gradient: Whether the gradient flows through p in q̃ (entropy minimisation, as published). Stopped,
            samples are only re-weighted, all alike.

    Raises:
        UserError: A parameter is out of range.

    Source:
        Reed et al., Training deep neural networks on noisy labels with bootstrapping, 2014 (arXiv 1412.6596).
    """

    epsilon: float
    target_gradient: bool = True

    def __post_init__(self) -> None:
        check_range("LabelCorrection: epsilon", self.epsilon, 0.0, 1.0)
        check_flag("LabelCorrection: target_gradient", self.target_gradient)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        corrected = correct_targets(q, _prediction(z, self.target_gradient), self.epsilon)
        return make_output(soft_cross_entropy(corrected, z), corrected, self.epsilon)


def _prediction(z: Tensor, with_gradient: bool) -> Tensor:
    return F.softmax(z if with_gradient else z.detach(), dim=-1)
