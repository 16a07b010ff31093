"""Confidence interval of a UAR where networks and test speakers are crossed: each network judges each speaker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REPETITIONS = 2000
CONFIDENCE = 0.95
CELLS = 4_000_000
"""Largest number of values in memory at a time, per repetition × speakers × classes."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CrossedInterval:
    """UAR, or a difference of two, with its interval.

    Args:
        estimate: From all networks and speakers.
        low: Lower end; NaN where nothing can be resampled.
        high: Upper end.
        networks: Number of networks; with one, the interval is about this network.
        speakers: Number of test speakers; with one, the interval is about this speaker.
    """

    estimate: float
    low: float
    high: float
    networks: int
    speakers: int


def crossed_interval(
    correct: NDArray[np.integer | np.floating], total: Floats | NDArray[np.integer], seed: int = 0
) -> CrossedInterval:
    """Return the UAR of several networks on the same speakers, with a 95 % interval for other networks and speakers.

    Both are random: another training gives another network, and other speakers are harder or easier. So both are
    resampled, independently of each other (pigeonhole bootstrap): a network counts as often as it was drawn, a
    speaker as well, and each class's recall is computed from the counts that remain. One network and one speaker
    fewer are drawn than there are, which makes the variance of a mean unbiased. The interval is the estimate ± t
    times the standard deviation of the resampled values; the degrees of freedom of t are those of Satterthwaite for
    the parts that networks and speakers contribute, so that few networks give a wide interval.

    Args:
        correct: (N, S, C) right predictions of each network for each speaker and class; for the difference of two
            methods, the difference of their counts.
        total: (S, C) utterances.
        seed: Seed of the resampling.

    Returns:
        The UAR is the mean over the classes that occur. With one network or one speaker only the other is resampled.

    Source:
        Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007; Rao and Wu, Resampling inference with
        complex survey data, Journal of the American Statistical Association 83, 1988 (one unit fewer); Satterthwaite,
        An approximate distribution of estimates of variance components, Biometrics Bulletin 2, 1946.

    Example:
        >>> right = np.array([[[15], [19], [17]], [[16], [18], [17]], [[15], [18], [19]]])
        >>> found = crossed_interval(right, np.array([[40], [40], [40]]))
        >>> round(found.estimate, 3), round(found.low, 1), round(found.high, 1)
        (0.428, 0.3, 0.5)
    """
    from scipy import stats  # importing it takes half a second

    right, counts = np.asarray(correct, dtype=np.float64), np.asarray(total, dtype=np.float64)
    networks, speakers, _ = right.shape
    estimate = float(_uars(np.ones((1, networks)), np.ones((1, speakers)), right, counts)[0])
    rng = np.random.default_rng(seed)
    drawn = [_draws(rng, networks), _draws(rng, speakers)]
    if networks < 2 and speakers < 2:
        return CrossedInterval(estimate, np.nan, np.nan, networks, speakers)
    fixed = [np.ones((REPETITIONS, networks)), np.ones((REPETITIONS, speakers))]
    variance = _uars(drawn[0], drawn[1], right, counts).var()
    parts = (
        (_uars(drawn[0], fixed[1], right, counts).var(), networks - 1),
        (_uars(fixed[0], drawn[1], right, counts).var(), speakers - 1),
    )
    spread = sum(part**2 / degrees for part, degrees in parts if degrees)
    degrees = sum(part for part, _ in parts) ** 2 / spread if spread > 0 else 1.0
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees) * np.sqrt(variance))
    return CrossedInterval(estimate, estimate - reach, estimate + reach, networks, speakers)


def interval_over_speakers(
    speakers: NDArray[np.str_], truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> CrossedInterval:
    """Return the UAR of one network with its 95 % interval for other speakers.

    Args:
        speakers: (n,) speaker of each utterance, n ≥ 1.
        truth: (n,) true class indices, all known.
        predicted: (n,) class indices.
        classes: Number of classes C.

    Returns:
        The UAR over the classes that occur; its ends are NaN where there is one speaker.

    Example:
        >>> speakers, truth = np.array(["a", "a", "b", "b"]), np.array([0, 1, 0, 1])
        >>> found = interval_over_speakers(speakers, truth, predicted=np.array([0, 1, 0, 0]), classes=2)
        >>> found.estimate, found.speakers
        (0.75, 2)
    """
    names, speaker = np.unique(speakers, return_inverse=True)
    total = np.zeros((len(names), classes), dtype=np.int64)
    correct = np.zeros_like(total)
    np.add.at(total, (speaker, truth), 1)
    right = predicted == truth
    np.add.at(correct, (speaker[right], truth[right]), 1)
    return crossed_interval(correct[None], total)


def _draws(rng: np.random.Generator, count: int) -> Floats:
    """Return (R, count) how often each unit was drawn, out of draws of one unit fewer; a single one is always there."""
    if count == 1:
        return np.ones((REPETITIONS, 1))
    return rng.multinomial(count - 1, np.full(count, 1 / count), size=REPETITIONS).astype(np.float64)


def _uars(networks: Floats, speakers: Floats, correct: Floats, total: Floats) -> Floats:
    """Return (R,) UARs of R resamples, given how often each network (R, N) and each speaker (R, S) counts."""
    step = max(1, CELLS // total.size)
    found = []
    for start in range(0, len(networks), step):
        by_network, by_speaker = networks[start : start + step], speakers[start : start + step]
        weighted = np.einsum("rn,nsc->rsc", by_network, correct, optimize=True)
        right = np.einsum("rs,rsc->rc", by_speaker, weighted)
        there = (by_speaker @ total) * by_network.sum(axis=1, keepdims=True)
        recall = np.divide(right, there, out=np.full_like(right, np.nan), where=there > 0)
        found.append(np.nanmean(recall, axis=1))
    return np.concatenate(found)
