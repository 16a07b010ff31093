"""Metrics, each against labels that the caller names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score, recall_score

CALIBRATION_BINS = 15
METRICS = ("uar", "wa", "f1_weighted", "f1_macro", "ece", "brier", "loss")

# Keeps the logarithm of a probability that underflowed finite.
TINY = 1e-12


def scores(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, float]:
    """Every metric of predicted probabilities against hard labels.

    Args:
        probabilities: (N, C), rows sum to 1.
        labels: (N,) class indices 0…C−1.

    Returns:
        ``uar`` (mean recall over the classes present), ``wa`` (accuracy), ``f1_weighted``, ``f1_macro``, ``ece``,
        ``brier`` (0 to 2), ``loss`` (negative log-likelihood, nats).

    Raises:
        ValueError: No labels, or shapes that do not fit.
    """
    if len(labels) == 0 or probabilities.shape[0] != len(labels):
        raise ValueError(f"{probabilities.shape[0]} predictions for {len(labels)} labels")
    predicted = probabilities.argmax(axis=1)
    present = np.unique(labels)
    correct = predicted == labels
    one_hot = np.eye(probabilities.shape[1])[labels]
    return {
        "uar": float(recall_score(labels, predicted, labels=present, average="macro", zero_division=0)),
        "wa": float(correct.mean()),
        "f1_weighted": float(f1_score(labels, predicted, average="weighted", zero_division=0)),
        "f1_macro": float(f1_score(labels, predicted, labels=present, average="macro", zero_division=0)),
        "ece": expected_calibration_error(probabilities.max(axis=1), correct),
        "brier": float(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
        "loss": float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], TINY)).mean()),
    }


def expected_calibration_error(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> float:
    """Mean |accuracy − confidence| over equal-width bins of confidence, weighted by their size (Guo et al. 2017).

    Args:
        confidence: (N,) probability of the predicted class, 0 to 1.
        correct: (N,) whether the prediction was right.
        bins: Number of bins over (0, 1].

    Returns:
        ECE, 0 to 1.
    """
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(index, weights=correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def soft_cross_entropy(probabilities: NDArray[np.float64], soft_labels: NDArray[np.float64]) -> float:
    """Mean −Σ soft · log p against the annotators' distribution, nats.

    Args:
        probabilities: (N, C), rows sum to 1.
        soft_labels: (N, C), rows sum to 1.
    """
    return float(-(soft_labels * np.log(np.maximum(probabilities, TINY))).sum(axis=1).mean())
