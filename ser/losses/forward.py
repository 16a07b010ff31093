"""Forward correction, which models how true labels become noisy ones by a matrix that it estimates in a warm-up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ser.losses.base import Loss, LossOutput, check_index, cross_entropy_with_logits, make_output
from ser.losses.early_learning import update_averages
from ser.losses.schedule import progress_of
from ser.utils.checks import check_count, check_range
from ser.utils.errors import UserError


def estimate_transition(predictions: Tensor, quantile: float) -> Tensor:
    """Estimate the transition matrix T, T_ij = P(noisy label j | true label i), from predictions of noisy labels.

    The anchor of class i is the utterance at the given quantile of the predicted probabilities of i. It is taken for an
    utterance that certainly is of class i, so that its prediction is how labels of class i are distributed. A class i
    that is not the most probable one at its own anchor, because the network does not predict it or the class is rare,
    has no anchor: its labels are trusted, T_ij = 1 for j = i.

    Args:
        predictions: p, (n, C), of utterances of the training set. A row of zeros is an utterance without prediction.
        quantile: In (0, 1]; 1 takes the utterance with the highest probability.

    Returns:
        (C, C), rows sum to 1.

    Source:
        Patrini et al., CVPR 2017 (arXiv 1609.03683), equations 12 and 13; the quantile is that of its experiments.

    Example:
        Labels of class 0 become class 1 in a quarter of the cases.

        >>> estimate_transition(torch.tensor([[0.75, 0.25], [0.0, 1.0], [0.5, 0.5]]), quantile=1.0)
        tensor([[0.7500, 0.2500],
                [0.0000, 1.0000]])
    """
    trusted = torch.eye(predictions.shape[1], dtype=predictions.dtype, device=predictions.device)
    known = predictions.sum(dim=1) > 0
    # All shapes are those of the predictions, so that a GPU computes this without the host: utterances without
    # prediction are sorted to the end.
    order = predictions.masked_fill(~known.unsqueeze(1), math.inf).argsort(dim=0, stable=True)
    place = (quantile * known.sum(dtype=torch.float64)).ceil().long() - 1
    anchors = predictions[order.index_select(0, place.clamp(min=0).unsqueeze(0))[0]]
    found = known.any() & (anchors.argmax(dim=1) == torch.arange(len(anchors), device=anchors.device))
    return torch.where(found.unsqueeze(1), anchors, trusted)


def true_label_posterior(logits: Tensor, transition: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the probability of each noisy label, and of each true label given the noisy one.

    Args:
        logits: z, (N, C), with p = softmax(z) the prediction of the true label.
        transition: T, (C, C), with T_jj > 0.

    Returns:
        log (Tᵀ p), (N, C) by noisy label j; and the posterior T_kj p_k / (Tᵀ p)_j, (N, C, C) by true label k and noisy
        label j.
    """
    joint = F.log_softmax(logits, dim=-1).unsqueeze(-1) + transition.log()
    return joint.logsumexp(dim=1), joint.softmax(dim=1)


@dataclass(eq=False)
class ForwardCorrection(Loss):
    """Forward correction with an estimated transition matrix: −log (Tᵀ p)_y for a label y.

    The network predicts true labels p; multiplied by T they are compared with the noisy labels. T is estimated once,
    by `estimate_transition`, at the end of a warm-up of plain cross entropy, from the last prediction of each training
    utterance in it. The warm-up is part of the planned steps, so training costs what it costs with the other losses;
    the paper trains a network of its own for the estimate, to the end.

    The gradient is p − q̃ with q̃_k = T_ky p_k / (Tᵀ p)_y, the probability of the true label given the prediction and
    the noisy label. These are the corrected targets; the trust is 1 − q̃_y. Where the training loop weights classes, T
    describes the weighted labels, on which it is used.

    Which of the two computations a step is, follows from the step and the loaded state on the host. A CUDA graph
    captures one of them: training takes one graph for the steps of the warm-up, and another for the later ones,
    captured after the first of these, which estimates T.

    Args:
        num_samples: n ≥ 1, number of utterances in the training set.
        num_classes: C ≥ 2.
        total_steps: Γ ≥ 1, the **planned** number of optimiser steps.
        warmup_ratio: Share of the planned steps in the warm-up, in [0, 1]; this project's, .5 by default. In the
            warm-up ``index`` is required.
        quantile: Quantile of the anchors, in (0, 1]. Published .97, and 1 for a hundred classes.

    Raises:
        UserError: If a parameter is out of range.

    Source:
        Patrini et al., Making deep neural networks robust to label noise: a loss correction approach, CVPR 2017
        (arXiv 1609.03683).

    Example:
        In the warm-up, the utterance that is most surely of class 0 is predicted to have label 1 in 12 % of the cases,
        and that of class 1 never to have label 0. From then on a label 1 may stand for class 0; a label 0 is certain.

        >>> loss = ForwardCorrection(num_samples=3, num_classes=2, total_steps=10, quantile=1.0)
        >>> logits = torch.tensor([[3.0, 1.0], [-99.0, 0.0], [0.0, 0.0]]).log_softmax(1)
        >>> _ = loss(logits, torch.tensor([0, 1, 1]), step=4, index=torch.arange(3))
        >>> output = loss(torch.zeros(2, 2), torch.tensor([0, 1]), step=5)
        >>> [[round(share, 2) for share in row] for row in loss.transition.tolist()]
        [[0.88, 0.12], [0.0, 1.0]]
        >>> [[round(share, 2) for share in row] for row in output.corrected_targets.tolist()]
        [[1.0, 0.0], [0.11, 0.89]]
    """

    num_samples: int
    num_classes: int
    total_steps: int
    warmup_ratio: float = 0.5
    quantile: float = 0.97
    predictions: Tensor = field(init=False, repr=False)
    transition: Tensor = field(init=False, repr=False)
    _estimated: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_count(f"{name}: num_samples", self.num_samples)
        check_count(f"{name}: num_classes", self.num_classes, least=2)
        check_count(f"{name}: total_steps", self.total_steps)
        check_range(f"{name}: warmup_ratio", self.warmup_ratio, 0.0, 1.0)
        check_range(f"{name}: quantile", self.quantile, 0.0, 1.0)
        if self.quantile == 0:
            raise UserError(f"{name}: quantile must be above 0, got {self.quantile!r}.")
        self.predictions = torch.zeros(self.num_samples, self.num_classes)
        self.transition = torch.zeros(self.num_classes, self.num_classes)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        if z.shape[1] != self.num_classes:
            raise ValueError(f"logits must have {self.num_classes} classes, as the loss has, got {z.shape[1]}")
        warmup = progress_of(step, self.total_steps) < self.warmup_ratio
        # Copies in the first call alone.
        self.predictions, self.transition = self.predictions.to(z.device), self.transition.to(z.device)
        if warmup:
            # Without momentum the average is the last prediction, or the mean of those in this batch.
            update_averages(self.predictions, check_index(index, z), F.softmax(z.detach(), dim=-1), momentum=0.0)
            return make_output(cross_entropy_with_logits(z, q), q)
        if not self._estimated:
            self.transition = estimate_transition(self.predictions, self.quantile)
            self._estimated = True
        log_noisy, posterior = true_label_posterior(z, self.transition.to(z.dtype))
        corrected = (posterior * q.unsqueeze(1)).sum(dim=2)
        kept = (posterior.diagonal(dim1=1, dim2=2) * q).sum(dim=1)
        return make_output(-(q * log_noisy).sum(dim=1), corrected, (1.0 - kept).clamp(0.0, 1.0))

    def state_dict(self) -> dict[str, Tensor]:
        """Return ``predictions`` (n, C) and ``transition`` (C, C), 0 before the estimate: themselves, not copies."""
        return {"predictions": self.predictions, "transition": self.transition}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore a copy of a state that `state_dict` returned.

        Raises:
            ValueError: If the state belongs to another loss, or to another number of utterances or classes.
        """
        wanted = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        got = {name: tuple(tensor.shape) for name, tensor in state.items()}
        if got != wanted:
            raise ValueError(f"{type(self).__name__} has a state of {wanted}, got {got}")
        self.predictions, self.transition = state["predictions"].clone(), state["transition"].clone()
        self._estimated = bool(self.transition.any())
