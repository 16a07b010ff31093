"""What a search may expect of its budget: the best of n trials, for every n up to those that were run."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

# The band is drawn as far as there are enough different subsets for it to mean something.
BAND_SHARE = 0.5


def expected_best(scores: NDArray[np.float64], mode: str) -> pd.DataFrame:
    """The expected best of n trials drawn without replacement, which is unbiased.

    The i-th smallest of N scores is the best of n with the chance C(i − 1, n − 1) / C(N, n).

    Args:
        scores: (N,) finite, N ≥ 1.
        mode: ``max`` or ``min``: which scores are good.

    Returns:
        For each n from 1 to N: ``trials`` (n), ``expected``, ``deviation`` (standard deviation of the best of n; 0 at
        N, where one subset alone is left), ``band`` (whether the deviation is to be drawn: n ≤ N / 2).

    Source:
        Dodge et al., "Show Your Work", EMNLP 2019; without replacement: Tang et al., ACL 2020.
    """
    sign = 1.0 if mode == "max" else -1.0
    ordered = np.sort(sign * scores)
    total = len(ordered)
    n, i = np.arange(1, total + 1)[:, None], np.arange(1, total + 1)[None, :]
    with np.errstate(invalid="ignore"):
        chance = np.where(i >= n, np.exp(_log_binomial(i - 1, n - 1) - _log_binomial(total, n)), 0.0)
    chance /= chance.sum(axis=1, keepdims=True)  # rounding alone
    expected = chance @ ordered
    variance = (chance * (ordered[None, :] - expected[:, None]) ** 2).sum(axis=1)
    counts = n[:, 0]
    return pd.DataFrame(
        {
            "trials": counts,
            "expected": sign * expected,
            "deviation": np.sqrt(variance),
            "band": counts <= BAND_SHARE * total,
        }
    )


def enough(curve: pd.DataFrame, tolerance: float) -> int:
    """The fewest trials whose expected best is within ``tolerance`` of that of all.

    Args:
        curve: From ``expected_best``.
        tolerance: ≥ 0, in units of the score.
    """
    gap = (curve["expected"] - curve["expected"].iloc[-1]).abs()
    return int(curve["trials"][gap <= tolerance].iloc[0])


def _log_binomial(n: NDArray[np.int64] | int, k: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logarithm of C(n, k); what n < k gives is not used."""
    return np.asarray(gammaln(np.add(n, 1)) - gammaln(k + 1) - gammaln(np.maximum(n - k, 0) + 1))
