"""Shares of votes turned back into counts of raters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_RATERS = 40
"""Largest number of raters that is tried where the number is not known."""
MOST_RATERS_EXACT = 200
"""The same for shares of six decimals, which larger numbers cannot be confused by."""
SUM_TOLERANCE = 0.02
"""Largest distance of the sum of a row's shares from 1."""

_EXACT = 1e-5  # rounding error
_DECIMALS = 6  # of a share; more are not looked at
_NEAR_INTEGER = 0.05
_MOST_SMOOTHING = 0.11  # usual are 0.05 and 0.1
_MOST_ROWS = 0.5

Shares = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class FoundCounts:
    """Counts that shares stand for.

    Args:
        counts: (N, C); rows of zeros where there are none.
        problems: (row, what is wrong) of shares that no counts give.
        note: How the counts were found.
    """

    counts: Counts
    problems: list[tuple[int, str]]
    note: str


def counts_of(shares: Shares, raters: NDArray[np.float64] | None = None) -> FoundCounts:
    """Find the number of raters that each share stands for.

    With the number of raters, a count is share × raters. Otherwise it is the smallest number of raters, at most
    ``MOST_RATERS``, that makes all shares of a row whole within their rounding. Unanimous raters would then be one,
    whatever their number, so rows take the most frequent number above 1 where it fits them as well. Label smoothing,
    s = (1 − C·m)·p + m with the smallest share m, is undone, as the label files of EMO-SUPERB have it.

    Args:
        shares: (N, C), 0 to 1; rows of NaN have no votes.
        raters: (N,) number of raters of each row.

    Returns:
        The counts, and the rows without any.

    Example:
        >>> import numpy as np
        >>> counts_of(np.array([[0.67, 0.33], [1.0, 0.0]])).counts.tolist()
        [[2, 1], [3, 0]]
        >>> counts_of(np.array([[0.95, 0.025, 0.025], [0.6725, 0.3025, 0.025]])).counts.tolist()  # 5 % smoothing
        [[10, 0, 0], [7, 3, 0]]
    """
    blank = np.isnan(shares).all(axis=1)
    shares = np.nan_to_num(shares)
    counts = np.zeros(shares.shape, dtype=np.int64)
    sums = shares.sum(axis=1)
    bad = ~blank & ((np.abs(sums - 1) > SUM_TOLERANCE) | (shares < 0).any(axis=1) | (shares > 1).any(axis=1))
    problems = [
        (row, f"{_written(shares[row])} are not shares that add up to 1") for row in np.flatnonzero(bad).tolist()
    ]
    good = np.flatnonzero(~blank & ~bad)
    if not len(good):
        return FoundCounts(counts, problems, "votes: no shares")
    rounding = _rounding(shares[good])
    if raters is not None:
        found, fits = _with_raters(shares[good], raters[good], rounding)
        reason, note = "with this number of raters", "votes: counts are shares times the number of raters"
    else:
        extra = ""
        if smoothing := _smoothing(shares[good], rounding):
            shares[good], rounding = _unsmoothed(shares[good], smoothing, rounding)
            extra = f", after label smoothing of {smoothing:.0%} was undone"
        smallest = _smallest(shares[good], rounding)
        numbers = _usual(shares[good], smallest, rounding)
        found, fits = np.rint(shares[good] * numbers[:, None]).astype(np.int64), smallest > 0
        reason = f"for no number of raters up to {_most(rounding)}"
        note = f"votes: counts from shares{extra}; raters: {_ranges(numbers[fits])} (numbers that fit)"
    counts[good[fits]] = found[fits]
    problems += [(row, f"shares {_written(shares[row])} are whole numbers {reason}") for row in good[~fits].tolist()]
    return FoundCounts(counts, sorted(problems), note)


def _rounding(shares: Shares) -> float:
    """Return the largest rounding error of shares, from the number of decimals they have; tenths are exact."""
    for decimals in range(1, _DECIMALS):
        if np.allclose(np.round(shares, decimals), shares, rtol=0, atol=1e-9):
            return 0.51 * 10.0**-decimals if decimals > 1 else 0.0
    return 10.0**-_DECIMALS


def _smoothing(shares: Shares, rounding: float) -> float:
    """Return the label smoothing of shares, 0 if there is none.

    Smoothed shares are never 0, and most rows have classes without a vote, whose share is the smallest of all.
    """
    floor = float(shares.min())
    smoothing = floor * (shares.shape[1] - 1)
    at_floor = (shares <= floor + 2 * rounding).any(axis=1).mean()
    if floor == 0 or smoothing > _MOST_SMOOTHING or at_floor < _MOST_ROWS:
        return 0.0
    if abs(round(smoothing, 2) - smoothing) <= rounding * shares.shape[1]:
        smoothing = round(smoothing, 2)  # the smallest share itself is rounded
    without = _smallest(*_unsmoothed(shares, smoothing, rounding))
    plain = _smallest(shares, rounding)
    return smoothing if (without > 0).sum() > (plain > 0).sum() or 0 < without.sum() < plain.sum() else 0.0


def _unsmoothed(shares: Shares, smoothing: float, rounding: float) -> tuple[Shares, float]:
    """Return shares as they were before label smoothing, and their rounding error."""
    floor = smoothing / (shares.shape[1] - 1)
    scale = 1 - shares.shape[1] * floor
    return np.maximum(shares - floor, 0) / scale, 3 * rounding / scale


def _with_raters(shares: Shares, raters: NDArray[np.float64], rounding: float) -> tuple[Counts, NDArray[np.bool_]]:
    exact = shares * np.nan_to_num(raters)[:, None]
    counts = np.rint(exact).astype(np.int64)
    near = np.abs(counts - exact).max(axis=1) <= np.maximum(_NEAR_INTEGER, rounding * raters)
    return counts, near & (counts.sum(axis=1) == raters) & (raters > 0)


def _fit(shares: Shares, number: int, rounding: float) -> NDArray[np.bool_]:
    counts = np.rint(shares * number)
    return np.asarray(
        (counts.sum(axis=1) == number) & (np.abs(counts / number - shares).max(axis=1) <= rounding + 1e-9)
    )


def _smallest(shares: Shares, rounding: float) -> NDArray[np.int64]:
    """Return the smallest number of raters of each row, (N,); 0 where none fits."""
    rows, inverse = np.unique(shares, axis=0, return_inverse=True)
    found = np.zeros(len(rows), dtype=np.int64)
    for number in range(1, _most(rounding) + 1):
        left = np.flatnonzero(found == 0)
        found[left[_fit(rows[left], number, rounding)]] = number
    return found[inverse.reshape(-1)]


def _most(rounding: float) -> int:
    return MOST_RATERS_EXACT if 0 < rounding <= _EXACT else MOST_RATERS


def _usual(shares: Shares, smallest: NDArray[np.int64], rounding: float) -> NDArray[np.int64]:
    """Return the number of raters of each row: the most frequent one where it fits as well, else the smallest."""
    numbers, uses = np.unique(smallest[smallest > 1], return_counts=True)
    if not len(numbers):
        return smallest
    usual = int(numbers[uses.argmax()])
    return np.where(_fit(shares, usual, rounding), usual, smallest)


def _ranges(numbers: NDArray[np.int64]) -> str:
    values, uses = np.unique(numbers, return_counts=True)
    if len(values) <= 1:
        return f"{values[0]}" if len(values) else "none"
    usual = values[uses.argmax()]
    others = np.delete(values, uses.argmax())
    rest = f"{others[0]} to {others[-1]}" if len(others) > 1 else f"{others[0]}"
    return f"{usual} for {uses.max()} of {uses.sum()} utterances, {rest} for the others"


def _written(row: NDArray[np.float64]) -> str:
    return ", ".join(f"{share:.6g}" for share in row[:12]) + (", …" if len(row) > 12 else "")
