"""Maximum-likelihood estimation of annotators' errors and true classes by EM.

Source: Dawid and Skene, Maximum likelihood estimation of observer error-rates using the EM algorithm, Journal of the
Royal Statistical Society C 28(1), 1979. Start, bounds and stopping rule are those of crowd-kit 1.4, so that the
posteriors are equal to its own; tests/ser/labels/test_dawid_skene.py compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import softmax

from ser.labels.judgements import Judgements

LEAST = 1e-10
"""Smallest probability and smallest expected count."""
MOST_ITERATIONS = 100
TOLERANCE = 1e-5
"""Least gain of the evidence lower bound per judgement for which EM continues."""


@dataclass(frozen=True, eq=False)
class DawidSkene:
    """Fitted model.

    Args:
        posteriors: (N, C), probability of each class for each utterance; rows sum to 1.
        confusion: (A, C, C), annotator × true class × named class: probability of naming the class. A row of a true
            class that no judged utterance has is uniform over the classes that the annotator has named.
        prior: (C,), share of each class.
        iterations: Number of EM iterations.
    """

    posteriors: NDArray[np.float64]
    confusion: NDArray[np.float64]
    prior: NDArray[np.float64]
    iterations: int


def fit_dawid_skene(judged: Judgements, utterances: int, classes: int) -> DawidSkene:
    """Fit the model of Dawid and Skene to judgements.

    Every annotator has a confusion matrix of their own. EM starts from the shares of the votes, and ends after 100
    iterations, or when the evidence lower bound per judgement grows by less than 10⁻⁵. A class that nobody has named
    has probability 0.

    Args:
        judged: At least one judgement of each utterance.
        utterances: N.
        classes: C.

    Returns:
        The model.

    Example:
        Two annotators agree on four utterances, a third one always names class 0.

        >>> from ser.labels.judgements import Judgements
        >>> judged = Judgements(np.tile(np.arange(4), 3), np.repeat([0, 1, 2], 4), np.array([0, 1, 0, 1] * 2 + [0] * 4),
        ...                     ("a", "b", "c"))
        >>> fitted = fit_dawid_skene(judged, utterances=4, classes=2)
        >>> fitted.posteriors.argmax(axis=1).tolist(), fitted.confusion[2].round(3).tolist()
        ([0, 1, 0, 1], [[1.0, 0.0], [1.0, 0.0]])
    """
    named = np.unique(judged.label)
    label = np.searchsorted(named, judged.label)
    # What an annotator never says needs no probability: rows are the pairs (annotator, class) that occur.
    pairs, pair = np.unique(judged.annotator * len(named) + label, return_inverse=True)
    annotator, said = np.divmod(pairs, len(named))
    ones = np.ones(len(pair))
    counts = csr_matrix((ones, (judged.utterance, pair)), shape=(utterances, len(pairs)))  # adds up repetitions
    of_annotator = csr_matrix((np.ones(len(pairs)), (annotator, np.arange(len(pairs)))))

    def maximise(posteriors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the prior (K,) and the probability of each pair's class for each true class, (P, K)."""
        expected = np.maximum(counts.T @ posteriors, LEAST)
        return np.maximum(posteriors.mean(axis=0), LEAST), expected / (of_annotator @ expected)[annotator]

    votes = np.zeros((utterances, len(named)))
    np.add.at(votes, (judged.utterance, label), 1.0)
    posteriors = votes / votes.sum(axis=1, keepdims=True)
    judgements = votes.sum(axis=1, keepdims=True)
    prior, errors = maximise(posteriors)
    bound, iterations = -np.inf, 0
    while iterations < MOST_ITERATIONS:
        iterations += 1
        posteriors = softmax(np.log(prior) + counts @ np.log(errors), axis=1)
        prior, errors = maximise(posteriors)
        joint = posteriors * (judgements * np.log(prior) + counts @ np.log(errors))  # crowd-kit: a prior per judgement
        entropy = -np.maximum(posteriors, LEAST) * np.log(np.maximum(posteriors, LEAST))
        before, bound = bound, float(joint.sum() + entropy.sum()) / len(label)
        if bound - before < TOLERANCE:
            break
    return _with_all_classes(posteriors, errors, prior, named, (annotator, said), classes, iterations)


def _with_all_classes(
    posteriors: NDArray[np.float64],
    errors: NDArray[np.float64],
    prior: NDArray[np.float64],
    named: NDArray[np.int64],
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    classes: int,
    iterations: int,
) -> DawidSkene:
    """Return the model over all classes; those that nobody has named have probability 0."""
    annotator, said = pairs
    whole = np.zeros((len(posteriors), classes))
    whole[:, named] = posteriors
    share = np.zeros(classes)
    share[named] = prior / prior.sum()
    confusion = np.zeros((annotator.max() + 1, classes, classes))
    for place, true in enumerate(named):
        confusion[annotator, true, named[said]] = errors[:, place]
    return DawidSkene(whole, confusion, share, iterations)
