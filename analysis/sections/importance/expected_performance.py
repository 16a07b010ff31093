"""Expected validation performance: the expected best of n trials, for every n up to the number that was run."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

# With more trials there are too few different subsets for the deviation to mean something.
BAND_SHARE = 0.5


def expected_performance(scores: NDArray[np.float64], mode: str) -> pd.DataFrame:
    """Compute the expected best of n trials drawn without replacement; the estimate is unbiased.

    The i-th smallest of N scores is the best of n with probability C(i − 1, n − 1) / C(N, n).

    Args:
        scores: (N,) finite, N ≥ 1.
        mode: ``max`` if a larger score is better, else ``min``.

    Returns:
        One row per n from 1 to N: ``trials`` (n), ``expected``, ``deviation`` (standard deviation of the best of n; 0
        for N, where only one subset exists), ``band`` (whether the deviation is drawn: n ≤ N / 2).

    Source:
        Dodge et al., "Show Your Work", EMNLP 2019; without replacement: Tang et al., ACL 2020.

    Example:
        >>> expected_performance(np.array([0.25, 0.5, 0.75]), "max")["expected"].round(6).tolist()
        [0.5, 0.666667, 0.75]
    """
    sign = 1.0 if mode == "max" else -1.0
    ordered = np.sort(sign * scores)
    total = len(ordered)
    n, i = np.arange(1, total + 1)[:, None], np.arange(1, total + 1)[None, :]
    with np.errstate(invalid="ignore"):
        probability = np.where(i >= n, np.exp(_log_binomial(i - 1, n - 1) - _log_binomial(total, n)), 0.0)
    probability /= probability.sum(axis=1, keepdims=True)  # corrects rounding errors
    expected = probability @ ordered
    variance = (probability * (ordered[None, :] - expected[:, None]) ** 2).sum(axis=1)
    counts = n[:, 0]
    return pd.DataFrame(
        {
            "trials": counts,
            "expected": sign * expected,
            "deviation": np.sqrt(variance),
            "band": counts <= BAND_SHARE * total,
        }
    )


def sufficient_trials(curve: pd.DataFrame, tolerance: float) -> int:
    """Return the smallest number of trials whose expected best is within ``tolerance`` of that of all trials.

    Args:
        curve: From ``expected_performance``.
        tolerance: ≥ 0, in units of the score.

    Example:
        >>> sufficient_trials(expected_performance(np.array([0.25, 0.5, 0.75]), "max"), 0.1)
        2
    """
    gap = (curve["expected"] - curve["expected"].iloc[-1]).abs()
    return int(curve["trials"][gap <= tolerance].iloc[0])


def _log_binomial(n: NDArray[np.int64] | int, k: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the logarithm of C(n, k); values for n < k are meaningless and not used."""
    return np.asarray(gammaln(np.add(n, 1)) - gammaln(k + 1) - gammaln(np.maximum(n - k, 0) + 1))
