"""Losses for training with noisy labels.

Each loss consists of pure functions with its formula and a thin class that holds its parameters. All of them are
called as ``loss(logits, targets, step, index=index)`` and return a `LossOutput`. `build_loss` builds one by its name,
or by the import path of a class of your own.

Notation: logits z (N, C), predictions p = softmax(z), label q (one-hot or soft), u uniform, H(a, b) = −Σ a log b,
H(p) = H(p, p), t optimiser steps done, Γ steps planned, t̄ the moving average of an utterance's predictions. The
corrected target q̃ is what the model learns from; the trust ε is the weight that the label loses because the model's
prediction is trusted.

================================  ==============================================  ===============  ===============
name                              loss of one sample                              corrected q̃      trust
================================  ==============================================  ===============  ===============
``cross_entropy``                 H(q, p)                                         q                0
``soft_labels``                   H(q, p), q the annotators' distribution         q                0
``label_smoothing``               H(q̃, p)                                         (1−ε)q + εu      0
``confidence_penalty``            H(q̃, p) = (1−ε) H(q, p) − ε H(p)                (1−ε)q − εp      0
``label_correction``              H(q̃, p) = (1−ε) H(q, p) + ε H(p)                (1−ε)q + εp      ε
``proselflc``                     H(q̃, p)                                         (1−ε)q + εp_T    ε = g(t)·l(p_T)
``reweighting_control``           (1−ε) H(q, p)                                   q                ε = g(t)·l(p_T)
``generalized_cross_entropy``     Σ q (1 − p^γ)/γ (γ is its parameter ``q``)      q                0
``symmetric_cross_entropy``       α H(q, p) + β H(p, q)                           q                0
``normalized_losses``             α H(q, p) / Σ_k H(e_k, p) + β H(p, q)           q                0
``focal``                         −Σ q (1 − p)^γ log p                            q                0
``elr``                           H(q, p) + λ log(1 − ⟨p, t̄⟩)                     q                0
``mixup``                         H(q, p), p and q of λ x + (1−λ) x′              q                0
``forward_correction``            −log (Tᵀ p)_y, T_kj = P(label j | truth k)      P(truth | y)     1 − q̃_y
================================  ==============================================  ===============  ===============

In H(p, q), log q is clipped at log 1e-4 = −9.21, a parameter. The formulas hold for soft labels too. All of them except
H(p, q) are affine in q: the loss of a soft label is the mean of the losses of its classes, weighted by their shares.
"""

from ser.losses.base import Loss, LossOutput, Mixing, as_distribution, cross_entropy_with_logits, make_output
from ser.losses.constant import (
    ConfidencePenalty,
    CrossEntropy,
    LabelCorrection,
    LabelSmoothing,
    SoftLabels,
    correct_targets,
    penalize_confidence,
    smooth_labels,
)
from ser.losses.early_learning import EarlyLearningRegularization, early_learning_regularizer, update_averages
from ser.losses.forward import ForwardCorrection, estimate_transition, true_label_posterior
from ser.losses.mixup import Mixup
from ser.losses.proselflc import (
    ProSelfLC,
    ReweightingControl,
    global_trust,
    local_trust,
    reweighted_cross_entropy,
)
from ser.losses.registry import LOSSES, build_loss, loss_class
from ser.losses.reshaped import (
    FocalLoss,
    GeneralizedCrossEntropy,
    NormalizedLosses,
    SymmetricCrossEntropy,
    focal_cross_entropy,
    generalized_cross_entropy,
    normalized_cross_entropy,
    reverse_cross_entropy,
)
from ser.losses.schedule import Schedule

__all__ = [
    "LOSSES",
    "ConfidencePenalty",
    "CrossEntropy",
    "EarlyLearningRegularization",
    "FocalLoss",
    "ForwardCorrection",
    "GeneralizedCrossEntropy",
    "LabelCorrection",
    "LabelSmoothing",
    "Loss",
    "LossOutput",
    "Mixing",
    "Mixup",
    "NormalizedLosses",
    "ProSelfLC",
    "ReweightingControl",
    "Schedule",
    "SoftLabels",
    "SymmetricCrossEntropy",
    "as_distribution",
    "build_loss",
    "correct_targets",
    "cross_entropy_with_logits",
    "early_learning_regularizer",
    "estimate_transition",
    "focal_cross_entropy",
    "generalized_cross_entropy",
    "global_trust",
    "local_trust",
    "loss_class",
    "make_output",
    "normalized_cross_entropy",
    "penalize_confidence",
    "reverse_cross_entropy",
    "reweighted_cross_entropy",
    "smooth_labels",
    "true_label_posterior",
    "update_averages",
]
