"""Paired comparison over speakers: intervals, tests and ranks, on arrays alone.

The unit is the speaker, for utterances of one voice are not independent. UAR needs no more than how many utterances of
each class a speaker has (``total``) and how many of them were predicted rightly (``correct``), so that is what every
function takes. Shapes: S speakers, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq

RESAMPLES = 10_000
"""Of the bootstrap; and of the permutations where there are too many to try all."""

EXACT_SPEAKERS = 16
"""Up to so many speakers, every permutation is tried."""

ALPHA = 0.05
POWER = 0.8
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Score:
    """A UAR and how sure it is.

    Args:
        uar: 0 to 1.
        low: Lower end of the 95 % BCa interval over speakers; NaN with a single speaker.
        high: Upper end.
    """

    uar: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same utterances: a less b.

    Args:
        difference: UAR of a less that of b, −1 to 1.
        low: Lower end of the difference's 95 % BCa interval over speakers; NaN with a single speaker.
        high: Upper end.
        p: Two-sided, of the permutation that swaps a and b within speakers.
        p_smallest: The smallest p that so many speakers allow, whatever the difference.
        p_better: P(a > b): the share of resamplings of the speakers in which a's UAR is above b's, ties counted half.
            Not the probability that a is better: it knows no prior and the speakers alone.
        smallest_detectable: The difference that this design would have shown with 80 % power, at .05 for this
            comparison alone; infinite where no difference can be shown, NaN where a and b differ for no speaker.
    """

    difference: float
    low: float
    high: float
    p: float
    p_smallest: float
    p_better: float
    smallest_detectable: float


def uar(correct: NDArray[np.floating], total: NDArray[np.floating]) -> NDArray[np.float64]:
    """Unweighted average recall over the classes present.

    Args:
        correct: (…, C) right predictions of each class.
        total: (…, C) utterances of each class; at least one class has some.

    Returns:
        (…) 0 to 1.
    """
    present = total > 0
    recall = np.divide(correct, total, out=np.zeros(np.broadcast(correct, total).shape), where=present)
    return np.asarray(recall.sum(axis=-1) / present.sum(axis=-1), dtype=np.float64)


def score(correct: NDArray[np.float64], total: NDArray[np.float64], seed: int) -> Score:
    """A method's UAR over pooled speakers, with its interval.

    Args:
        correct: (S, C) right predictions; means over training seeds may be fractions.
        total: (S, C) utterances.
        seed: Of the resampling.
    """
    estimate = float(uar(correct.sum(axis=0), total.sum(axis=0)))
    weights = resampling_weights(len(total), seed)
    replicates = uar(weights @ correct, weights @ total)
    return Score(estimate, *bca_interval(estimate, replicates, _leave_one_out(correct, total)))


def compare(
    correct_a: NDArray[np.float64], correct_b: NDArray[np.float64], total: NDArray[np.float64], seed: int
) -> Comparison:
    """Compares the UAR of two methods that predicted the same utterances.

    Args:
        correct_a: (S, C) right predictions of a; means over training seeds may be fractions.
        correct_b: (S, C) those of b.
        total: (S, C) utterances, the same for both.
        seed: Of the resampling.
    """
    difference = float(uar(correct_a.sum(axis=0), total.sum(axis=0)) - uar(correct_b.sum(axis=0), total.sum(axis=0)))
    weights = resampling_weights(len(total), seed)
    totals = weights @ total
    replicates = uar(weights @ correct_a, totals) - uar(weights @ correct_b, totals)
    replicates[np.abs(replicates) < 1e-12] = 0.0  # ties that rounding has broken
    jackknife = _leave_one_out(correct_a, total) - _leave_one_out(correct_b, total)
    low, high = bca_interval(difference, replicates, jackknife)
    p, smallest = sign_flip_test(contributions(correct_a, correct_b, total), seed)
    return Comparison(
        difference, low, high, p, smallest,
        p_better=float((replicates > 0).mean() + (replicates == 0).mean() / 2),
        smallest_detectable=smallest_detectable(jackknife_error(jackknife), len(total), smallest),
    )  # fmt: skip


def contributions(
    correct_a: NDArray[np.float64], correct_b: NDArray[np.float64], total: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What each speaker adds to the difference of the UARs.

    A class's recall is a sum over speakers divided by a total that both methods share, so the difference is a sum over
    speakers too, and swapping the methods within a speaker flips the sign of his or her term.

    Returns:
        (S,), which add up to the difference.
    """
    totals = total.sum(axis=0)
    present = totals > 0
    return np.asarray(((correct_a - correct_b)[:, present] / totals[present]).sum(axis=1) / present.sum())


def resampling_weights(speakers: int, seed: int) -> NDArray[np.float64]:
    """How often each speaker is drawn in each resampling with replacement: (``RESAMPLES``, S), rows sum to S."""
    draws = np.random.default_rng(seed).multinomial(speakers, np.full(speakers, 1 / speakers), size=RESAMPLES)
    return draws.astype(np.float64)


def bca_interval(
    estimate: float, replicates: NDArray[np.float64], jackknife: NDArray[np.float64], confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval.

    Source: Efron, Better bootstrap confidence intervals, Journal of the American Statistical Association 82, 1987.

    Args:
        estimate: On the sample itself.
        replicates: (R,) on its resamplings.
        jackknife: (S,) without one unit each.
        confidence: Nominal coverage.

    Returns:
        Low and high; the estimate twice where all resamplings agree, NaN with fewer than two units.
    """
    if len(jackknife) < 2:
        return float("nan"), float("nan")
    if np.ptp(replicates) == 0:
        return estimate, estimate
    below = ((replicates < estimate).mean() + (replicates <= estimate).mean()) / 2
    bias = stats.norm.ppf(below)
    deviations = jackknife.mean() - jackknife
    spread = (deviations**2).sum() ** 1.5
    acceleration = (deviations**3).sum() / (6 * spread) if spread > 0 else 0.0
    z = bias + stats.norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    with np.errstate(invalid="ignore"):
        levels = stats.norm.cdf(bias + z / (1 - acceleration * z))
    if not np.isfinite(levels).all():  # the estimate is beyond all its resamplings
        levels = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = np.quantile(replicates, levels)
    return float(low), float(high)


def jackknife_error(jackknife: NDArray[np.float64]) -> float:
    """Standard error from the (S,) values without one unit each (Efron and Tibshirani 1993, ch. 11); NaN for none."""
    units = len(jackknife)
    if units < 2:
        return float("nan")
    return float(np.sqrt((units - 1) / units * ((jackknife - jackknife.mean()) ** 2).sum()))


def sign_flip_test(terms: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Two-sided permutation test of a sum whose terms have either sign equally often if there is no difference.

    Up to ``EXACT_SPEAKERS`` terms all patterns of signs are tried; beyond, ``RESAMPLES`` random ones, the observed one
    counted in (Phipson and Smyth 2010), so that p is never 0.

    Args:
        terms: (S,), from ``contributions``.
        seed: Of the random patterns.

    Returns:
        p, and the smallest p that so many terms allow: 2 / 2^S where all patterns are tried.
    """
    units = len(terms)
    observed = abs(terms.sum())
    tolerance = 1e-9 * np.abs(terms).sum()
    if units <= EXACT_SPEAKERS:
        # A pattern and its opposite count alike, so the first sign stays.
        patterns = np.arange(2 ** (units - 1))[:, None] >> np.arange(units) & 1
        sums = np.abs((1 - 2 * patterns) @ terms)
        return float((sums >= observed - tolerance).mean()), 1 / len(patterns)
    signs = np.random.default_rng(seed).integers(0, 2, size=(RESAMPLES, units), dtype=np.int8) * 2 - 1
    reached = (np.abs(signs @ terms) >= observed - tolerance).sum()
    return float((1 + reached) / (1 + RESAMPLES)), 1 / (1 + RESAMPLES)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values that keep the chance of any false finding among all of them below the level.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.

    Args:
        p: (m,) p-values.

    Returns:
        (m,), in the same order, at most 1. It grows with every p, so the smallest possible p-values give the smallest
        possible adjusted ones.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def smallest_detectable(
    standard_error: float, units: int, p_smallest: float = 0.0, alpha: float = ALPHA, power: float = POWER
) -> float:
    """The difference that a paired two-sided test finds with the given power.

    The noncentral t distribution with ``units`` − 1 degrees of freedom, at the largest level up to ``alpha`` that
    a permutation test of so few units can have.

    Args:
        standard_error: Of the difference.
        units: Speakers.
        p_smallest: From ``sign_flip_test``; its p-values are multiples of it. 0 for a test without steps.
        alpha: Level.
        power: Chance of finding the difference.

    Returns:
        The difference, above 0; infinity where no p can be as small as ``alpha``; NaN where the error is 0.
    """
    level = alpha if p_smallest == 0 else np.floor(alpha / p_smallest + 1e-9) * p_smallest
    if units < 2 or level == 0:
        return float("inf")
    if standard_error == 0:
        return float("nan")
    freedom = units - 1
    critical = stats.t.ppf(1 - level / 2, freedom)

    def shortfall(shift: float) -> float:
        return float(power - stats.nct.sf(critical, freedom, shift) - stats.nct.cdf(-critical, freedom, shift))

    # The sum of the two quantiles overshoots, for the error's own error counts twice in it.
    upper = 2 * (critical + stats.t.ppf(power, freedom))
    return standard_error * float(brentq(shortfall, 0.0, upper))


@dataclass(frozen=True, eq=False)
class Ranking:
    """Mean ranks of k methods over N blocks.

    Args:
        ranks: (k,) mean ranks, 1 is best; ties share.
        statistic: Friedman's χ², corrected for ties.
        p: Of the null hypothesis that all methods rank alike.
        critical_difference: Mean ranks farther apart than this differ at .05 (Nemenyi).
        groups: Indices of methods, best first, that cannot be told apart: the longest such runs, two at least.
    """

    ranks: NDArray[np.float64]
    statistic: float
    p: float
    critical_difference: float
    groups: tuple[tuple[int, ...], ...]


def rank_methods(scores: ArrayLike) -> Ranking:
    """Friedman's test and Nemenyi's critical difference.

    Source: Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006.

    Args:
        scores: (N, k), larger is better; at least two blocks and three methods.

    Raises:
        ValueError: Fewer.
    """
    values = np.asarray(scores, dtype=np.float64)
    blocks, methods = values.shape
    if blocks < 2 or methods < 3:
        raise ValueError(f"{blocks} blocks of {methods} methods; at least 2 of 3 are needed")
    ranks = stats.rankdata(-values, axis=1).mean(axis=0)
    statistic, p = 0.0, 1.0
    if (np.ptp(values, axis=1) > 0).any():
        statistic, p = map(float, stats.friedmanchisquare(*values.T))
    difference = critical_difference(methods, blocks)
    return Ranking(ranks, statistic, p, difference, indistinct(ranks, difference))


def critical_difference(methods: int, blocks: int, alpha: float = ALPHA) -> float:
    """Nemenyi's critical difference of mean ranks: q √(k(k+1) / 6N), q the studentised range's quantile over √2."""
    quantile = float(stats.studentized_range.ppf(1 - alpha, methods, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * blocks)))


def indistinct(ranks: Sequence[float] | NDArray[np.float64], difference: float) -> tuple[tuple[int, ...], ...]:
    """The longest runs of methods, sorted by mean rank, whose ranks span no more than the critical difference."""
    order = np.argsort(ranks, kind="stable")
    values = np.asarray(ranks, dtype=np.float64)[order]
    found: list[tuple[int, int]] = []
    for first in range(len(values)):
        last = int(np.searchsorted(values, values[first] + difference + 1e-12, side="right"))
        if last - first > 1 and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(tuple(int(index) for index in order[first:last]) for first, last in found)


def _leave_one_out(correct: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S,) UARs without one speaker each; empty with a single speaker."""
    if len(total) < 2:
        return np.empty(0)
    return uar(correct.sum(axis=0) - correct, total.sum(axis=0) - total)
