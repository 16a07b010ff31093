"""Classification metrics against hard labels and against the annotators' distribution.

A function with ``labels`` scores against those hard labels, true or noisy; one with ``soft_labels`` against the
annotators' distribution. Shapes: N utterances, C classes. A prediction is the class with the largest probability, the
first of several.

Adding a metric takes one entry in ``METRICS`` or ``SOFT_METRICS``: training records it, and tables derive their columns
from these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BINS = 15

# Keeps the logarithm of a probability that underflowed finite.
TINY = 1e-12

Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Metric:
    """A metric against hard labels.

    Args:
        compute: (probabilities (N, C), labels (N,), their confusion matrix (C, C)) → score.
        heading: Column heading in tables.
        higher_is_better: Direction.
        in_overview: Whether the table of the best configurations has a column for it.
    """

    compute: Callable[[Probabilities, Labels, Counts], float]
    heading: str
    higher_is_better: bool
    in_overview: bool = True


@dataclass(frozen=True)
class SoftMetric:
    """A metric against the annotators' distribution.

    Args:
        compute: (probabilities (N, C), soft labels (N, C)) → score.
        heading: Column heading in tables.
        higher_is_better: Direction.
    """

    compute: Callable[[Probabilities, NDArray[np.float64]], float]
    heading: str
    higher_is_better: bool


def scores(probabilities: Probabilities, labels: Labels) -> dict[str, float]:
    """Compute every metric of ``METRICS``.

    Args:
        probabilities: (N, C), rows sum to 1.
        labels: (N,) class indices 0…C−1 to score against.

    Returns:
        Name → score: ``uar`` (mean recall over the classes present), ``wa`` (accuracy), ``f1_weighted``, ``f1_macro``
        (over the classes present), ``ece``, ``brier`` (0 to 2), ``nll`` (mean negative log-likelihood, nats), ``loss``
        (the same).

    Raises:
        ValueError: If there are no labels, or if the shapes do not match.

    Example:
        >>> import numpy as np
        >>> probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
        >>> found = scores(probabilities, labels=np.array([0, 1, 1]))
        >>> {name: round(found[name], 3) for name in ("uar", "wa", "f1_macro", "brier")}
        {'uar': 0.75, 'wa': 0.667, 'f1_macro': 0.667, 'brier': 0.327}
    """
    counts = confusion(probabilities, labels)
    return {name: metric.compute(probabilities, labels, counts) for name, metric in METRICS.items()}


def soft_scores(probabilities: Probabilities, soft_labels: NDArray[np.float64]) -> dict[str, float]:
    """Compute every metric of ``SOFT_METRICS``.

    Args:
        probabilities: (N, C), rows sum to 1.
        soft_labels: (N, C), rows sum to 1.

    Returns:
        Name → score: ``soft_ce`` (cross entropy) and ``jsd`` (Jensen–Shannon divergence), both in nats, and
        ``f1_macro_votes`` (macro F1 of the classes above 1/C).
    """
    return {name: metric.compute(probabilities, soft_labels) for name, metric in SOFT_METRICS.items()}


def restrict(probabilities: NDArray[np.float64], columns: Sequence[int]) -> NDArray[np.float64]:
    """Return the probabilities of some classes, given that it is one of them.

    Args:
        probabilities: (n, C), rows sum to 1.
        columns: S of the C columns.

    Returns:
        (n, S), rows sum to 1.

    Example:
        >>> import numpy as np
        >>> restrict(np.array([[0.6, 0.1, 0.3]]), [1, 2]).round(2).tolist()
        [[0.25, 0.75]]
    """
    chosen = np.maximum(probabilities[:, list(columns)], TINY)
    return np.asarray(chosen / chosen.sum(axis=1, keepdims=True))


def uar(correct: NDArray[np.integer | np.floating], total: NDArray[np.integer | np.floating]) -> float:
    """Compute the unweighted average recall: the mean of the recalls of the classes present.

    Source: Schuller, Steidl and Batliner, The INTERSPEECH 2009 Emotion Challenge.

    Args:
        correct: (C,) correct predictions per class.
        total: (C,) labels per class.

    Returns:
        UAR, 0 to 1; NaN if no class is present.

    Example:
        >>> import numpy as np
        >>> uar(correct=np.array([3, 1, 0]), total=np.array([4, 2, 0]))  # the third class is absent
        0.625
    """
    present = total > 0
    return float((correct[present] / total[present]).mean()) if present.any() else float("nan")


def expected_calibration_error(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> float:
    """Compute the expected calibration error: mean |accuracy − confidence| over equal-width bins of confidence.

    Each bin is weighted by its size.

    Source: Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, ICML 2017.

    Args:
        confidence: (N,) probability of the predicted class, 0 to 1.
        correct: (N,) True where the prediction is correct.
        bins: Number of bins over (0, 1].

    Returns:
        ECE, 0 to 1.
    """
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(index, weights=correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def soft_cross_entropy(probabilities: NDArray[np.float64], soft_labels: NDArray[np.float64]) -> float:
    """Compute the mean cross entropy −Σ soft · log p of predictions against the annotators' distribution.

    The smallest possible value is the mean entropy of the distributions, which is above 0 where annotators disagree.
    (``ser.losses.cross_entropy_with_logits`` is the training loss of each utterance, computed from logits.)

    Args:
        probabilities: (N, C), rows sum to 1.
        soft_labels: (N, C), rows sum to 1.

    Returns:
        Cross entropy in nats.
    """
    return float(-(soft_labels * np.log(np.maximum(probabilities, TINY))).sum(axis=1).mean())


def jensen_shannon(probabilities: NDArray[np.float64], soft_labels: NDArray[np.float64]) -> float:
    """Compute the mean Jensen–Shannon divergence of predictions from the annotators' distribution.

    H((p + q) / 2) − (H(p) + H(q)) / 2, not its square root, which is the distance. Unlike the cross entropy it is
    bounded, and 0 for a perfect prediction.

    Source: Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information Theory 37, 1991.

    Args:
        probabilities: (N, C), rows sum to 1.
        soft_labels: (N, C), rows sum to 1.

    Returns:
        Divergence in nats, from 0 (equal) to log 2 (disjoint).
    """
    mixed = entropy((probabilities + soft_labels) / 2)
    divergence = mixed - (entropy(probabilities) + entropy(soft_labels)) / 2
    return float(np.maximum(divergence, 0.0).mean())  # rounding may go below 0


def f1_macro_votes(probabilities: NDArray[np.float64], soft_labels: NDArray[np.float64]) -> float:
    """Compute the macro F1 of all classes above chance: those with a probability, and with a share of votes, above 1/C.

    An utterance has several classes, or none if all shares are 1/C. F1 is computed for each class over all utterances
    and averaged over the classes that some utterance has. This is the metric of EMO-SUPERB, whose label smoothing
    leaves shares on their side of 1/C; its averages count a class that no utterance has as 0.

    Source: Wu, Chou, Chang et al., Open-Emotion: a reproducible EMO-SUPERB for speech emotion recognition systems,
    IEEE SLT 2024.

    Args:
        probabilities: (N, C), rows sum to 1.
        soft_labels: (N, C), rows sum to 1.

    Returns:
        F1, 0 to 1; NaN if no utterance has a class.

    Example:
        >>> import numpy as np
        >>> votes = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])  # first and second class; first class
        >>> f1_macro_votes(np.array([[0.8, 0.1, 0.1], [0.4, 0.4, 0.2]]), votes)  # F1 of 1 and 0
        0.5
    """
    chance = 1 / probabilities.shape[1]
    predicted, named = probabilities > chance, soft_labels > chance
    hits = (predicted & named).sum(axis=0)
    present = named.any(axis=0)
    f1 = 2 * hits / np.maximum(predicted.sum(axis=0) + named.sum(axis=0), 1)
    return float(f1[present].mean()) if present.any() else float("nan")


def entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the Shannon entropy −Σ p · log p of each row, with 0 · log 0 = 0.

    Args:
        p: (N, C), non-negative.

    Returns:
        (N,) entropies in nats.
    """
    import torch  # takes a second; whoever only reads METRICS does without

    terms: NDArray[np.float64] = torch.special.entr(torch.from_numpy(p)).numpy()
    return np.asarray(terms.sum(axis=1))


def confusion(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the utterances of each label that are predicted as each class.

    Args:
        probabilities: (N, C), rows sum to 1.
        labels: (N,) class indices 0…C−1 to score against.

    Returns:
        (C, C) counts, label × predicted.

    Raises:
        ValueError: If there are no labels, or if the shapes do not match.
    """
    _check(probabilities, labels)
    classes = probabilities.shape[1]
    pairs = labels * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def recalls(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the recall of each class.

    Args:
        counts: (C, C), from ``confusion``.

    Returns:
        (C,) recalls, 0 to 1; NaN for a class without labels.
    """
    totals = counts.sum(axis=1)
    return np.where(totals > 0, np.diag(counts) / np.maximum(totals, 1), np.nan)


@dataclass(frozen=True)
class GroupScore:
    """Score of a group of utterances.

    Args:
        uar: Mean recall over the classes among the group's labels, 0 to 1. Groups with different classes are not
            comparable.
        utterances: Number of utterances.
        classes: Number of classes among the labels.
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
    """Compute the UAR of each group of utterances, such as an agreement stratum, a gender or a speaker.

    Args:
        probabilities: (N, C), rows sum to 1.
        labels: (N,) class indices 0…C−1 to score against.
        groups: (N,) the name of each utterance's group.
        order: All possible names in the order of the result; None sorts the names that occur.

    Returns:
        Name → score of the groups that have utterances.

    Raises:
        ValueError: If there are no labels, the shapes do not match, or ``order`` lacks a group.

    Example:
        >>> import numpy as np
        >>> probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
        >>> uar_by_group(probabilities, np.array([0, 1, 1]), ["anna", "anna", "ben"])["anna"]
        GroupScore(uar=0.5, utterances=2, classes=2)
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
        counts = confusion(probabilities[member], labels[member])
        support = counts.sum(axis=1)
        found[name] = GroupScore(uar(np.diag(counts), support), int(member.sum()), int((support > 0).sum()))
    return found


def _check(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    if len(labels) == 0 or probabilities.shape[0] != len(labels):
        raise ValueError(f"{probabilities.shape[0]} predictions for {len(labels)} labels")


def _uar(_probabilities: Probabilities, _labels: Labels, counts: Counts) -> float:
    return uar(np.diag(counts), counts.sum(axis=1))


def _accuracy(probabilities: Probabilities, labels: Labels, _counts: Counts) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())


def _f1_by_class(counts: Counts) -> NDArray[np.float64]:
    """Compute 2 · precision · recall / (precision + recall); 0 for a class without labels and predictions."""
    return np.asarray(2.0 * np.diag(counts) / np.maximum(counts.sum(axis=1) + counts.sum(axis=0), 1))


def _f1_weighted(_probabilities: Probabilities, labels: Labels, counts: Counts) -> float:
    return float((_f1_by_class(counts) * counts.sum(axis=1)).sum() / len(labels))


def _f1_macro(_probabilities: Probabilities, _labels: Labels, counts: Counts) -> float:
    return float(_f1_by_class(counts)[counts.sum(axis=1) > 0].mean())


def _ece(probabilities: Probabilities, labels: Labels, _counts: Counts) -> float:
    return expected_calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)


def _brier(probabilities: Probabilities, labels: Labels, _counts: Counts) -> float:
    """Sum over all classes, as Brier defines it (Monthly Weather Review 78, 1950)."""
    one_hot = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - one_hot) ** 2).sum(axis=1).mean())


def _nll(probabilities: Probabilities, labels: Labels, _counts: Counts) -> float:
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], TINY)).mean())


METRICS = {
    "uar": Metric(_uar, "UAR", higher_is_better=True),
    "wa": Metric(_accuracy, "WA", higher_is_better=True),
    "f1_weighted": Metric(_f1_weighted, "F1 wtd", higher_is_better=True),
    "f1_macro": Metric(_f1_macro, "F1 mac", higher_is_better=True),
    "ece": Metric(_ece, "ECE", higher_is_better=False),
    "brier": Metric(_brier, "Brier", higher_is_better=False, in_overview=False),
    "nll": Metric(_nll, "NLL", higher_is_better=False, in_overview=False),
    "loss": Metric(_nll, "loss", higher_is_better=False, in_overview=False),  # the older name of nll in the records
}
"""Name in the records, after ``val/``, ``test/last/`` and the like → metric against hard labels."""

SOFT_METRICS = {
    "soft_ce": SoftMetric(soft_cross_entropy, "soft CE", higher_is_better=False),
    "jsd": SoftMetric(jensen_shannon, "JSD", higher_is_better=False),
    "f1_macro_votes": SoftMetric(f1_macro_votes, "F1 votes", higher_is_better=True),
}
"""Name in the records → metric against the annotators' distribution."""
