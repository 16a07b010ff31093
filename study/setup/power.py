"""Power of a confirmation's design: which differences it can show, before anything is trained."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy import stats
from scipy.optimize import brentq

ALPHA = 0.05
"""Level that a family of comparisons keeps."""

POWER = 0.8


@lru_cache
def noncentrality(
    units: int, comparisons: int = 1, levels: int = 1, alpha: float = ALPHA, power: float = POWER
) -> float:
    """Return the difference, in standard errors, that one of several comparisons shows with the given power.

    The t test stands in for the sign-flip test that the analysis uses, at the largest level up to ``alpha`` that the
    sign patterns of few units can reach.

    Args:
        units: Independently trained folds; 1 or more.
        comparisons: Number of comparisons that share the level ``alpha``, 1 or more.
        levels: Number of noise levels over which they are spread; those of one level share the reference.
        alpha: Level of all of them together, 0 to 1.
        power: Probability of a claim, 0 to 1.

    Returns:
        Above 0; infinity where the smallest possible p-value is above ``alpha``.

    Example:
        >>> round(noncentrality(24), 2), round(noncentrality(24, comparisons=33), 2), noncentrality(5)
        (2.93, 4.31, inf)
    """
    smallest = 2.0 ** (1 - units)
    if smallest > alpha:
        return float("inf")
    level = single_level(float(np.floor(alpha / smallest)) * smallest, comparisons, levels)
    freedom = units - 1
    critical = float(stats.t.isf(level / 2, freedom))

    def shortfall(shift: float) -> float:
        return float(power - stats.nct.sf(critical, freedom, shift))

    return float(brentq(shortfall, 0.0, 2 * (critical + stats.t.ppf(power, freedom))))


@lru_cache
def single_level(alpha: float, comparisons: int, levels: int = 1) -> float:
    """Return the level of each comparison at which all of them together keep the level ``alpha``.

    Comparisons with the same reference at one noise level have the correlation ½ (Dunnett 1955); those of different
    levels are independent.

    Args:
        alpha: Level of all comparisons together, 0 to 1.
        comparisons: How many there are, 1 or more.
        levels: Number of noise levels over which they are spread evenly.

    Example:
        >>> round(single_level(0.05, 1), 4), round(single_level(0.05, 33), 4), round(single_level(0.05, 33, 33), 4)
        (0.05, 0.0024, 0.0016)
    """
    if comparisons == 1:
        return alpha
    points, weights = hermegauss(64)
    weights = weights / weights.sum()

    def excess(critical: float) -> float:
        inside = stats.norm.cdf(np.sqrt(2) * critical - points) - stats.norm.cdf(-np.sqrt(2) * critical - points)
        return float((weights @ inside ** (comparisons / levels)) ** levels - (1 - alpha))

    return float(2 * stats.norm.sf(brentq(excess, 0.0, 10.0)))
