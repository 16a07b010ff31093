"""Metrics, each against labels that the caller names: the true ones, the noisy ones, or the annotators' distribution.

A function with ``labels`` scores against those hard labels, whichever they are; one with ``soft_labels`` against the
annotators' distribution. Shapes: N utterances, C classes. A prediction is the class of the largest probability, the
first of several.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

CALIBRATION_BINS = 15
METRICS = ("uar", "wa", "f1_weighted", "f1_macro", "ece", "brier", "nll", "loss")
"""What ``scores`` gives. ``loss`` is ``nll`` under its older name in the records."""

# Keeps the logarithm of a probability that underflowed finite.
TINY = 1e-12


def scores(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, float]:
    """Every metric of predicted probabilities against hard labels.

    Sources: UAR, Schuller, Steidl and Batliner, The INTERSPEECH 2009 Emotion Challenge; ECE, Guo et al. 2017; the
    Brier score is Brier's own sum over all classes (Monthly Weather Review 78, 1950).

    Args:
        probabilities: (N, C), rows sum to 1.
        labels: (N,) class indices 0…C−1 to score against.

    Returns:
        ``uar`` (mean recall over the classes present), ``wa`` (accuracy), ``f1_weighted``, ``f1_macro`` (over the
        classes present), ``ece``, ``brier`` (0 to 2), ``nll`` (mean negative log-likelihood, nats), ``loss`` (the
        same).

    Raises:
        ValueError: No labels, or shapes that do not fit.
    """
    _check(probabilities, labels)
    counts = confusion(probabilities, labels)
    support = counts.sum(axis=1)
    present = support > 0
    # 2 · precision · recall / (precision + recall); 0 for a class that is neither there nor predicted.
    f1 = 2.0 * np.diag(counts) / np.maximum(support + counts.sum(axis=0), 1)
    correct = probabilities.argmax(axis=1) == labels
    one_hot = np.eye(probabilities.shape[1])[labels]
    nll = float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], TINY)).mean())
    return {
        "uar": float(recalls(counts)[present].mean()),
        "wa": float(correct.mean()),
        "f1_weighted": float((f1 * support).sum() / len(labels)),
        "f1_macro": float(f1[present].mean()),
        "ece": expected_calibration_error(probabilities.max(axis=1), correct),
        "brier": float(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
        "nll": nll,
        "loss": nll,
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

    Its least value is the distribution's own mean entropy, which is above 0 where annotators disagree.

    Args:
        probabilities: (N, C), rows sum to 1.
        soft_labels: (N, C), rows sum to 1.
    """
    return float(-(soft_labels * np.log(np.maximum(probabilities, TINY))).sum(axis=1).mean())


def jensen_shannon(probabilities: NDArray[np.float64], soft_labels: NDArray[np.float64]) -> float:
    """Mean Jensen–Shannon divergence from the annotators' distribution, nats.

    H((p + q) / 2) − (H(p) + H(q)) / 2, and not its square root, the distance. Unlike the cross entropy it is 0 for a
    perfect prediction, and bounded.

    Source: Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information Theory 37, 1991.

    Args:
        probabilities: (N, C), rows sum to 1.
        soft_labels: (N, C), rows sum to 1.

    Returns:
        0 (equal) to log 2 (nothing in common).
    """
    mixed = entropy((probabilities + soft_labels) / 2)
    divergence = mixed - (entropy(probabilities) + entropy(soft_labels)) / 2
    return float(np.maximum(divergence, 0.0).mean())  # rounding may go below 0


def entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """−Σ p · log p of each row, nats; 0 · log 0 is 0.

    Args:
        p: (N, C), not below 0.

    Returns:
        (N,).
    """
    terms: NDArray[np.float64] = torch.special.entr(torch.from_numpy(p)).numpy()
    return np.asarray(terms.sum(axis=1))


def confusion(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many utterances of each label are predicted as each class.

    Args:
        probabilities: (N, C), rows sum to 1.
        labels: (N,) class indices 0…C−1 to score against.

    Returns:
        (C, C) counts, label × predicted.

    Raises:
        ValueError: No labels, or shapes that do not fit.
    """
    _check(probabilities, labels)
    classes = probabilities.shape[1]
    pairs = labels * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def recalls(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Recall of each class.

    Args:
        counts: (C, C), from ``confusion``.

    Returns:
        (C,) 0 to 1 against the labels that were counted; NaN for a class without labels.
    """
    totals = counts.sum(axis=1)
    return np.where(totals > 0, np.diag(counts) / np.maximum(totals, 1), np.nan)


@dataclass(frozen=True)
class GroupScore:
    """The score of a group of utterances.

    Args:
        uar: Mean recall over the classes that the group's labels have, 0 to 1. Groups with different classes are
            not comparable.
        utterances: How many the group has.
        classes: How many classes its labels have.
    """

    uar: float
    utterances: int
    classes: int


def uar_by_group(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    groups: Sequence[str] | NDArray[np.object_],
    order: Iterable[str] | None = None,
) -> dict[str, GroupScore]:
    """UAR of each group of utterances: of an agreement stratum (``ser.metrics.agreement.strata``), a gender or a speaker.

    Args:
        probabilities: (N, C), rows sum to 1.
        labels: (N,) class indices 0…C−1 to score against.
        groups: (N,) the name of each utterance's group.
        order: All names that there may be, in the order wanted; None sorts.

    Returns:
        Name → score, of the groups that have utterances.

    Raises:
        ValueError: No labels, shapes that do not fit, or a group that ``order`` lacks.
    """
    _check(probabilities, labels)
    names = np.asarray(groups, dtype=object)
    if names.shape != labels.shape:
        raise ValueError(f"{len(names)} groups for {len(labels)} labels")
    there = set(names.tolist())
    wanted = sorted(there) if order is None else list(order)
    if lacking := there - set(wanted):
        raise ValueError(f"groups {sorted(lacking)} are not among {wanted}")
    found = {}
    for name in (name for name in wanted if name in there):
        member = names == name
        recall = recalls(confusion(probabilities[member], labels[member]))
        found[name] = GroupScore(float(np.nanmean(recall)), int(member.sum()), int((~np.isnan(recall)).sum()))
    return found


def _check(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    if len(labels) == 0 or probabilities.shape[0] != len(labels):
        raise ValueError(f"{probabilities.shape[0]} predictions for {len(labels)} labels")
