"""Smooth lines and surfaces through scattered trials."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The mean is undefined where the trials nearby have less than the weight of half a trial.
LEAST_WEIGHT = 0.5
LEAST_BANDWIDTH = 0.05


def kernel_mean(
    points: NDArray[np.float64], scores: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute the mean score around places, weighted by a Gaussian kernel whose width follows Scott's rule.

    Args:
        points: (n, d) in the unit cube.
        scores: (n,).
        at: (m, d) places.

    Returns:
        (m,); NaN where no trial is near.

    Source:
        Nadaraya 1964; Watson 1964; the width: Scott 1992, n^(−1/(d + 4)) standard deviations.

    Example:
        >>> points = np.array([[0.0], [0.2]])
        >>> kernel_mean(points, np.array([1.0, 3.0]), np.array([[0.1], [1.0]])).tolist()
        [2.0, nan]
    """
    count, dimensions = points.shape
    width = np.maximum(points.std(axis=0) * count ** (-1 / (dimensions + 4)), LEAST_BANDWIDTH)
    distance = ((at[:, None, :] - points[None, :, :]) / width) ** 2
    weight = np.exp(-0.5 * distance.sum(axis=2))
    total = weight.sum(axis=1)
    mean = weight @ scores / np.maximum(total, np.finfo(np.float64).tiny)
    return np.where(total >= LEAST_WEIGHT, mean, np.nan)
