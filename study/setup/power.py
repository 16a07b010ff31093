"""Power of a confirmation's design: which differences it can show, before anything is trained.

Variances of a difference of test UAR add up from components that were measured, or that a pilot estimates. UAR is a
fraction, 0 to 1; S seeds, P speakers, C classes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray

from ser.utils.errors import UserError

ALPHA = 0.05
"""Level that a family of comparisons keeps."""

POWER = 0.8

GOALS = (0.05, 0.03, 0.02)
"""Differences for which the plan says what they would take."""

MOST_FOLDS, MOST_SEEDS = 1000, 100
"""Where the search for a sufficient design ends."""


@dataclass(frozen=True)
class Components:
    """Standard deviations of which the spread of a difference is made.

    Args:
        run: UAR of one training of a method, common to all test speakers.
        draw: Of the noise draw of a training.
        speaker_run: UAR of one test speaker in one training, next to ``run``.
        utterance: Correctness of one utterance (0 or 1) between trainings. Most utterances are right or wrong in all of
            them, so it is far below the .5 of a coin.
        speaker_method: Of a test speaker's own difference between two methods, the same in all trainings, so that
            more seeds do not average it out. Not measured: an assumption.
        source: Origin of the values, for messages.

    Source:
        CNN14 × .125 on RAVDESS at 40 % noise, six trainings: ``run``; a speaker × run residual of 3.7 points with
        60 utterances, here divided into ``speaker_run`` and ``utterance`` such that differences between two methods
        vary by 6 to 7 points over speakers of 44 utterances, as seen; ``draw`` from a small network.
    """

    run: float = 0.026
    draw: float = 0.005
    speaker_run: float = 0.025
    utterance: float = 0.2
    speaker_method: float = 0.01
    source: str = "spreads measured on RAVDESS (CNN14 × .125, 40 % noise)"


MEASURED = Components()


@dataclass(frozen=True)
class Design:
    """Comparisons of a confirmation and the data that they rest on.

    Args:
        folds: Number of folds, each trained independently; 1 for an official split, where the unit is the training.
        seeds: Trainings of each method and fold.
        speakers: Test speakers of a fold, on average.
        utterances: Test utterances of each class in a fold, on average.
        methods: Number of methods, the reference included; 2 or more.
        levels: Number of noise levels.
        primary: Whether one comparison is declared as the primary one.
    """

    folds: int
    seeds: int
    speakers: float
    utterances: tuple[float, ...]
    methods: int = 2
    levels: int = 1
    primary: bool = True

    @property
    def units(self) -> int:
        """Return the number of independent units."""
        return self.folds if self.folds > 1 else self.seeds

    @property
    def others(self) -> int:
        """Return the number of comparisons next to the primary one."""
        return (self.methods - 1) * self.levels - self.primary

    def __str__(self) -> str:
        seeds = f"{self.seeds} seed{'s' * (self.seeds != 1)}"
        return f"{self.folds} fold{'s' * (self.folds != 1)} × {seeds}"


def standard_error(design: Design, components: Components = MEASURED) -> float:
    """Return the standard error of the difference of two methods."""
    present = np.array([count for count in design.utterances if count > 0])
    training = (
        components.run**2
        + components.draw**2
        + components.speaker_run**2 / design.speakers
        + components.utterance**2 * (1 / present).mean() / len(present)
    )
    preference = components.speaker_method**2 / design.speakers if design.folds > 1 else 0.0
    return float(np.sqrt((2 * training / design.seeds + preference) / design.folds))


def detectable(design: Design, components: Components = MEASURED, *, primary: bool) -> float:
    """Return the difference that the design shows with a power of 80 %, after correction.

    Args:
        design: Folds, seeds, data and comparisons.
        components: Measured or estimated spreads.
        primary: For the primary comparison, at .025; otherwise for each of the others, at .025 for all of them, or
            .05 where there is no primary comparison.

    Returns:
        Above 0; infinity where the units are too few for any claim.

    Example:
        >>> ravdess = Design(folds=24, seeds=1, speakers=1, utterances=(8, 8, 8, 8, 4, 8))
        >>> round(detectable(ravdess, primary=True), 3)
        0.046
    """
    alpha = ALPHA / 2 if design.primary else ALPHA
    comparisons, levels = (1, 1) if primary else (design.others, design.levels)
    return noncentrality(design.units, comparisons, levels, alpha) * standard_error(design, components)


def power_lines(design: Design, components: Components = MEASURED) -> list[str]:
    """Say which differences a design can show with 80 % power, and what 5, 3 and 2 points would take.

    Args:
        design: Folds, seeds, data and comparisons.
        components: Measured or estimated spreads.

    Returns:
        Lines of text in plain words.
    """
    unit = "folds" if design.folds > 1 else "trainings of each method (one fold)"
    kinds = [("the primary comparison", True)] * design.primary
    if design.others:
        other = "other comparison" if design.primary else "comparison"
        kinds.append((f"each of {design.others} {other}s" if design.others > 1 else f"the {other}", False))
    smallest = 2.0 ** (1 - design.units)
    alpha = ALPHA / 2 if design.primary else ALPHA
    if smallest > alpha:
        least = next(units for units in range(design.units, 20) if 2.0 ** (1 - units) <= alpha)
        return [
            f"With {design.units} {unit} the smallest possible p-value is {smallest:.3g}, above {alpha:g}: no "
            f"difference can be shown, the verdict will be 'not possible'. At least {least} are needed."
        ]
    shown = "; ".join(
        f"{100 * detectable(design, components, primary=primary):.1f} points for {kind}" for kind, primary in kinds
    )
    lines = [
        f"{design} can show, with 80 % power and after correction: {shown}. Smaller differences may be missed. "
        f"Assumed: {components.source}."
    ]
    for goal in GOALS:
        takes = [f"{_sufficient(design, components, primary, goal)} for {kind}" for kind, primary in kinds]
        lines.append(f"{100 * goal:.0f} points take {'; '.join(takes)}.")
    return lines


def _sufficient(design: Design, components: Components, primary: bool, goal: float) -> str:
    """Return the smallest designs that show a difference: more seeds in the same folds, or more folds of one seed."""

    def first(candidates: Sequence[Design]) -> list[str]:
        place = bisect_left(candidates, True, key=lambda one: detectable(one, components, primary=primary) <= goal)
        return [str(candidates[place])] if place < len(candidates) else []

    found = first([replace(design, seeds=seeds) for seeds in range(1, MOST_SEEDS + 1)])
    if design.folds > 1:
        found += first([replace(design, folds=folds, seeds=1) for folds in range(2, MOST_FOLDS + 1)])
    return " or ".join(dict.fromkeys(found)) or f"more than {MOST_FOLDS} folds or {MOST_SEEDS} seeds"


def components_from_pilot(correct: NDArray[np.float64], total: NDArray[np.float64]) -> Components:
    """Estimate the components from several trainings of the reference on one fold.

    With two speakers or more, ``run`` is what their UARs have in common in each training (a two-way analysis of
    variance without replication); with one speaker, all that the utterances do not explain. The pilot cannot tell
    ``utterance`` from ``speaker_run``, so the measured ``utterance`` is kept as far as the spread allows.

    Args:
        correct: (S, P, C) right predictions of each training, speaker and class; S at least 2.
        total: (P, C) test utterances, the same in all trainings; each speaker has some.

    Returns:
        Components; ``run`` contains the noise draw, ``speaker_method`` is kept.

    Raises:
        UserError: There are fewer than two trainings.
    """
    seeds, speakers, _ = correct.shape
    if seeds < 2:
        raise UserError(f"a pilot needs at least two trainings of the fold, with different seeds; found {seeds}.")
    present = total > 0
    share = np.where(present, 1 / np.where(present, total, 1), 0) / present.sum(axis=1, keepdims=True)
    uar = (correct * share).sum(axis=2)
    sampling = float(
        (share / present.sum(axis=1, keepdims=True)).sum(axis=1).mean()
    )  # variance of a UAR per utterance's
    by_run = uar.mean(axis=1, keepdims=True)
    of_mean = float(by_run.var(ddof=1))
    if speakers > 1:
        residual = uar - by_run - uar.mean(axis=0) + uar.mean()
        of_speaker = float((residual**2).sum() / ((seeds - 1) * (speakers - 1)))
        run = max(of_mean - of_speaker / speakers, 0.0)
    else:
        of_speaker = min(of_mean, MEASURED.utterance**2 * sampling)
        run = of_mean - of_speaker
    utterance = min(MEASURED.utterance**2, of_speaker / sampling)
    return replace(
        MEASURED,
        run=float(np.sqrt(run)),
        draw=0.0,
        speaker_run=float(np.sqrt(max(of_speaker - utterance * sampling, 0.0))),
        utterance=float(np.sqrt(utterance)),
        source=f"spreads of a pilot, {seeds} trainings of one fold",
    )


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
    from scipy import stats  # imported here, because most commands need no SciPy
    from scipy.optimize import brentq

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
    from scipy import stats  # imported here, because most commands need no SciPy
    from scipy.optimize import brentq

    if comparisons == 1:
        return alpha
    points, weights = hermegauss(64)
    weights = weights / weights.sum()

    def excess(critical: float) -> float:
        inside = stats.norm.cdf(np.sqrt(2) * critical - points) - stats.norm.cdf(-np.sqrt(2) * critical - points)
        return float((weights @ inside ** (comparisons / levels)) ** levels - (1 - alpha))

    return float(2 * stats.norm.sf(brentq(excess, 0.0, 10.0)))
