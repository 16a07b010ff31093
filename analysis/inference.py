"""Comparison of methods: is a difference of test UAR more than chance, given that a trained network is one draw?

All test utterances of a fold are judged by the same network, so the unit is the trained fold and not the speaker or the
utterance; with a single fold (an official split) it is the training. docs/inference.md explains the test.

Shapes: U units, C classes, K comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ser.utils.errors import UserError, unknown_name
from study.setup.power import ALPHA, noncentrality

BETTER, WORSE, NO_EVIDENCE, NOT_POSSIBLE = "better", "worse", "no evidence", "not possible"
"""Verdicts; ``not possible``: with so few units the smallest possible p-value is above the level."""

FOLD, TRAINING = "fold", "training"
"""Units."""

CONFIDENCE = 0.95

EXACT_UNITS = 14
"""Largest number of units for which all patterns of signs are tried; with more, ``PATTERNS`` random ones."""

PATTERNS = 10_000

SCOPE_FOLDS = "trainings on this corpus with other seeds and noise draws, tested on speakers like these"
SCOPE_TRAININGS = "trainings with other seeds and noise draws, tested on these very speakers"

KEYS = ["level", "method", "fold", "seed", "speaker", "label"]

Floats = NDArray[np.float64]


def compare_methods(
    results: pd.DataFrame, reference: str, primary: tuple[str, str] | None = None, seed: int = 0
) -> pd.DataFrame:
    """Compare every method with the reference at each noise level, all comparisons as one family.

    A fold's share of a difference is Σ over the classes of Δcorrect / (C · utterances of the class in all folds), its
    seeds averaged; the shares add up to the difference of the pooled UARs. The test flips the signs of the shares fold
    by fold, the same signs for all comparisons, with the statistic |Σ| / √Σ², and takes the largest statistic of all
    comparisons for the correction (single-step max-T).

    Args:
        results: One row for each (``method``, ``level``, ``fold``, ``seed``, ``speaker``, ``label``) with ``correct``
            right predictions of ``total`` test utterances. All methods and levels have the same folds, seeds and
            utterances; a speaker is tested in one fold.
        reference: Method that all others are compared with.
        primary: (level, method) of the one comparison that was declared before the trainings as the most important.
            Its ``p_adjusted`` is 2 p; that of the others twice the max-T p among them, or once if the primary
            comparison is claimed. Without it all are adjusted by max-T.
        seed: Seed of the random sign patterns, of which there are ``PATTERNS`` with more than ``EXACT_UNITS`` units.

    Returns:
        One row for each level and method other than the reference, in the order of ``results``: ``level``, ``method``,
        ``uar``, ``uar_reference``, ``difference`` (method − reference, −1 to 1), ``low``, ``high`` (95 % interval of
        this difference alone, NaN with one unit), ``p``, ``p_adjusted``, ``p_smallest`` (smallest ``p`` that the
        units permit), ``alpha`` (level at which the comparison is tested, .05 or .025), ``verdict`` (``better``,
        ``worse``, ``no evidence``, ``not possible``), ``detectable`` (difference that such a design shows with 80 %
        power after correction, given the spread seen; infinite where none, NaN without spread), ``scope`` (which
        trainings and speakers the claim is about), ``unit`` (``fold`` or ``training``), ``units``, ``seeds``. A verdict
        is a claim where ``p_adjusted`` ≤ .05.

    Raises:
        UserError: Columns or trainings are missing, rows occur twice, counts are impossible, methods were tested on
            different utterances, or the reference or the primary comparison is not in ``results``.

    Source:
        Westfall and Young, Resampling-Based Multiple Testing, Wiley 1993 (max-T); Wiens, A fixed sequence Bonferroni
        procedure for testing multiple endpoints, Pharmaceutical Statistics 2, 2003, and Wiens and Dmitrienko, The
        fallback procedure for evaluating a single family of hypotheses, Journal of Biopharmaceutical Statistics 15,
        2005 (primary comparison); Phipson and Smyth 2010 (p-values of random patterns).

    Example:
        >>> rows = [(method, "clean", fold, 1, f"speaker {fold}", "anger", right, 20)
        ...         for fold in range(6) for method, right in [("cross_entropy", 9 + fold), ("gce", 11 + fold)]]
        >>> columns = ["method", "level", "fold", "seed", "speaker", "label", "correct", "total"]
        >>> compared = compare_methods(pd.DataFrame(rows, columns=columns), "cross_entropy")
        >>> compared[["method", "difference", "p", "verdict"]].round(5).to_dict("records")
        [{'method': 'gce', 'difference': 0.1, 'p': 0.03125, 'verdict': 'better'}]
    """
    counts = _count(_checked(results))
    keys = _comparisons(counts.cells, reference)
    if primary is not None and tuple(primary) not in keys:
        known = "; ".join(f"{method} at {level}" for level, method in keys) or "none"
        raise UserError(
            f"the primary comparison is {primary[1]} at {primary[0]}, which is not in the results. Comparisons in the "
            f"results: {known}."
        )
    is_primary = np.array([primary is not None and key == tuple(primary) for key in keys], dtype=bool)
    shares = counts.uar_shares()
    methods = shares[:, [counts.cells.index(key) for key in keys]]
    references = shares[:, [counts.cells.index((level, reference)) for level, _ in keys]]
    found = flip_signs(methods - references, is_primary, seed)
    units = len(shares)
    difference = (methods - references).sum(axis=0)
    error = standard_error(methods - references, counts.weights())
    reach = error * _quantile(units)
    possible = 2.0 ** (1 - units) <= found.alpha
    claimed = possible & (found.p_adjusted <= ALPHA)
    others = [level for (level, _), first in zip(keys, is_primary, strict=True) if not first]
    needed = [
        noncentrality(units, alpha=alpha) if first else noncentrality(units, len(others), len(set(others)), alpha)
        for first, alpha in zip(is_primary, found.alpha.tolist(), strict=True)
    ]
    return pd.DataFrame(keys, columns=["level", "method"]).assign(
        uar=methods.sum(axis=0),
        uar_reference=references.sum(axis=0),
        difference=difference,
        low=difference - reach,
        high=difference + reach,
        p=found.p,
        p_adjusted=found.p_adjusted,
        p_smallest=smallest_p(units),
        alpha=found.alpha,
        verdict=np.select([~possible, claimed & (difference > 0), claimed], [NOT_POSSIBLE, BETTER, WORSE], NO_EVIDENCE),
        detectable=np.where(possible, np.where(error > 0, error, np.nan) * needed, np.inf),
        scope=SCOPE_TRAININGS if counts.unit == TRAINING else SCOPE_FOLDS,
        unit=counts.unit,
        units=units,
        seeds=results["seed"].nunique(),
    )


def method_scores(results: pd.DataFrame) -> pd.DataFrame:
    """Return the test UAR of each method at each noise level, with its interval over units.

    Args:
        results: As for ``compare_methods``; no reference is needed.

    Returns:
        One row for each level and method, in the order of ``results``: ``level``, ``method``, ``uar`` (pooled over
        the units, 0 to 1), ``low``, ``high`` (95 % interval of this score alone, within 0 to 1; NaN with one unit),
        ``by_unit`` (UAR of each unit over the classes that it has), ``unit`` and ``units``. Two of these intervals
        may overlap although the difference of their methods is clear of 0, since methods share folds and seeds.

    Raises:
        UserError: As ``compare_methods``.

    Example:
        >>> rows = [("elr", "clean", fold, 1, f"speaker {fold}", "anger", right, 20)
        ...         for fold, right in enumerate([10, 11, 12, 13, 14])]
        >>> columns = ["method", "level", "fold", "seed", "speaker", "label", "correct", "total"]
        >>> found = method_scores(pd.DataFrame(rows, columns=columns)).iloc[0]
        >>> found["by_unit"], *found[["uar", "low", "high"]].astype(float).round(3)
        ((0.5, 0.55, 0.6, 0.65, 0.7), 0.6, 0.502, 0.698)
    """
    counts = _count(_checked(results))
    shares = counts.uar_shares()
    uar = shares.sum(axis=0)
    reach = standard_error(shares, counts.weights()) * _quantile(len(shares))
    return pd.DataFrame(counts.cells, columns=["level", "method"]).assign(
        uar=uar,
        low=np.maximum(uar - reach, 0),
        high=np.minimum(uar + reach, 1),
        by_unit=pd.Series(list(map(tuple, counts.unit_uars().tolist())), dtype=object),
        unit=counts.unit,
        units=len(shares),
    )


def pays_from(compared: pd.DataFrame, levels_by_rate: Sequence[str]) -> dict[str, str | None]:
    """Return the noise level from which each method pays: it is better there and at all higher levels.

    Args:
        compared: From ``compare_methods``.
        levels_by_rate: Noise levels, from the lowest noise rate to the highest.

    Returns:
        Method → level, None where the method is not better at the highest level.

    Example:
        >>> rows = [("clean", "gce", "worse"), ("noisy-A", "gce", "better"), ("noisy-B", "gce", "better")]
        >>> pays_from(pd.DataFrame(rows, columns=["level", "method", "verdict"]), ["clean", "noisy-A", "noisy-B"])
        {'gce': 'noisy-A'}
    """
    better = compared[compared["verdict"] == BETTER]
    claimed = set(zip(better["method"], better["level"], strict=True))
    found: dict[str, str | None] = {}
    for method in dict.fromkeys(compared["method"]):
        found[method] = None
        for level in reversed(levels_by_rate):
            if (method, level) not in claimed:
                break
            found[method] = level
    return found


@dataclass(frozen=True, eq=False)
class SignFlips:
    """Result of the sign-flip test of K comparisons.

    Args:
        p: (K,) two-sided p-values of each comparison alone.
        p_adjusted: (K,) p-values adjusted for all comparisons; a difference is claimed where they are ≤ ``ALPHA``.
        alpha: (K,) level at which a comparison (the primary one) or the family of the others is tested.
    """

    p: Floats
    p_adjusted: Floats
    alpha: Floats


def flip_signs(shares: Floats, is_primary: NDArray[np.bool_], seed: int = 0) -> SignFlips:
    """Test all comparisons with the same random signs of the units.

    Args:
        shares: (U, K) shares of the differences; without a difference either sign is equally likely.
        is_primary: (K,) True for the primary comparison, if there is one.
        seed: Seed of the random signs.

    Returns:
        p-values. The statistic |Σ| / √Σ² grows with the absolute t statistic, and its denominator does not change with
        the signs. A comparison without any difference has p = 1.
    """
    spread = np.sqrt((shares**2).sum(axis=0))
    scaled = shares / np.where(spread > 0, spread, 1.0)
    observed = np.abs(scaled.sum(axis=0)) - 1e-9
    flipped = np.abs(scaled.T @ _signs(len(shares), seed))
    p = _share_of_patterns(flipped >= observed[:, None], len(shares))
    others = ~is_primary
    p_adjusted = np.where(is_primary, 2 * p, 1.0)
    if others.any():
        largest = flipped[others].max(axis=0)
        p_adjusted[others] = _share_of_patterns(largest >= observed[others, None], len(shares))
    halved = is_primary | (p_adjusted[is_primary] > ALPHA).any()
    p_adjusted[others & halved] *= 2
    return SignFlips(p, np.minimum(p_adjusted, 1.0), np.where(halved, ALPHA / 2, ALPHA))


def smallest_p(units: int) -> float:
    """Return the smallest p-value that a number of units permits, whatever the difference."""
    return 2.0 ** (1 - units) if units <= EXACT_UNITS else 1 / (1 + PATTERNS)


@lru_cache(maxsize=4)
def _signs(units: int, seed: int) -> Floats:
    """Return (U, patterns) signs; a pattern and its opposite count alike, so of all patterns the first sign stays."""
    if units <= EXACT_UNITS:
        negative = np.arange(2 ** (units - 1)) >> np.arange(units)[::-1, None] & 1
    else:
        negative = np.random.default_rng(seed).integers(0, 2, size=(units, PATTERNS))
    return np.asarray(1 - 2 * negative, dtype=np.float64)


def _share_of_patterns(reached: NDArray[np.bool_], units: int) -> Floats:
    """Return (K,) shares of (K, patterns), the observed one counted where the patterns are random."""
    extra = 0 if units <= EXACT_UNITS else 1
    return np.asarray((np.count_nonzero(reached, axis=1) + extra) / (reached.shape[1] + extra), dtype=np.float64)


def standard_error(shares: Floats, weights: Floats) -> Floats:
    """Return the standard error of differences over units, by leaving out each of them (jackknife).

    Args:
        shares: (U, K) shares of the differences.
        weights: (U,) shares of the test utterances, averaged over the classes; they sum to 1.

    Returns:
        (K,), NaN with one unit. With equal weights it is that of a sum of U independent shares, as in a t test.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, Chapman and Hall 1993, chapter 11.
    """
    if len(shares) < 2:
        return np.full(shares.shape[1], np.nan)
    units = len(shares)
    changes = (shares - weights[:, None] * shares.sum(axis=0)) / (1 - weights[:, None])
    return np.asarray(np.sqrt((units - 1) / units * (changes**2).sum(axis=0)), dtype=np.float64)


def _quantile(units: int) -> float:
    """Return the quantile of t for an interval over a number of units."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, max(units - 1, 1)))


def _checked(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with test utterances, or raise an error that says what is wrong with them."""
    if missing := [name for name in [*KEYS, "correct", "total"] if name not in results.columns]:
        raise UserError(
            f"the results have no column {', '.join(missing)}. Needed: {', '.join([*KEYS, 'correct', 'total'])}."
        )
    table = results[[*KEYS, "correct", "total"]]
    if empty := [name for name in table.columns if table[name].isna().any()]:
        rows = list(table.index[table[empty[0]].isna()][:3])
        raise UserError(f"the results have missing values in {', '.join(empty)} (rows {rows}). Leave such rows out.")
    if (twice := table.duplicated(KEYS)).any():
        raise UserError(f"the results have {twice.sum()} rows twice, the first: {_name(table[twice].iloc[0])}.")
    wrong = ~(
        (table["correct"] >= 0) & (table["correct"] <= table["total"]) & np.isfinite(table["total"].astype(float))
    )
    if wrong.any():
        row = table[wrong].iloc[0]
        raise UserError(f"{row['correct']} of {row['total']} predictions are right, which is impossible: {_name(row)}.")
    table = table[table["total"] > 0].astype(dict.fromkeys(KEYS, object))
    if table.empty:
        raise UserError("the results have no test utterances.")
    of_speaker = table[["speaker", "fold"]].drop_duplicates()
    if (again := of_speaker["speaker"].duplicated()).any():
        speaker, fold = of_speaker[again].iloc[0]
        raise UserError(
            f"speaker {speaker} is tested in fold {fold} and in another one. Folds count as independent, so a speaker "
            "is tested in one fold."
        )
    return table


def _name(row: Mapping[str, object] | pd.Series) -> str:
    return ", ".join(f"{key} {row[key]}" for key in KEYS)


@dataclass(frozen=True, eq=False)
class _Counts:
    """Test predictions by unit and class.

    Args:
        cells: (level, method).
        unit: ``fold`` or ``training``.
        correct: (cells, U, C) right predictions; averaged over the seeds where the unit is the fold.
        total: (U, C) utterances.
    """

    cells: list[tuple[str, str]]
    unit: str
    correct: Floats
    total: Floats

    def uar_shares(self) -> Floats:
        """Return (U, cells) shares of the UAR pooled over the units."""
        return np.asarray((self.correct / self._pooled()).sum(axis=-1).T)

    def unit_uars(self) -> Floats:
        """Return (cells, U) UARs of each unit alone, over the classes that it has."""
        there = np.broadcast_to(self.total > 0, self.correct.shape)
        recall = np.divide(self.correct, self.total, out=np.zeros_like(self.correct), where=there)
        return np.asarray(recall.sum(axis=-1) / (self.total > 0).sum(axis=-1))

    def weights(self) -> Floats:
        """Return (U,) shares of the test utterances, averaged over the classes."""
        return np.asarray((self.total / self._pooled()).sum(axis=-1))

    def _pooled(self) -> Floats:
        return np.asarray(self.total.shape[1] * self.total.sum(axis=0))


def _count(table: pd.DataFrame) -> _Counts:
    """Count by unit and class, or raise an error unless all cells have the same trainings and test utterances."""
    cells = list(table[["level", "method"]].drop_duplicates().itertuples(index=False, name=None))
    folds, seeds, speakers, labels = (
        sorted(table[name].unique(), key=str) for name in ("fold", "seed", "speaker", "label")
    )
    cell = pd.MultiIndex.from_frame(table[["level", "method"]]).map({key: place for place, key in enumerate(cells)})
    places = (
        cell.to_numpy(),
        *(
            table[name].map({value: place for place, value in enumerate(values)}).to_numpy()
            for name, values in (("seed", seeds), ("speaker", speakers), ("label", labels))
        ),
    )
    correct = np.zeros((len(cells), len(seeds), len(speakers), len(labels)))
    total = np.zeros_like(correct)
    correct[places] = table["correct"]
    total[places] = table["total"]
    fold_of = dict(zip(table["speaker"], table["fold"], strict=True))
    in_fold = np.array([[fold_of[speaker] == fold for speaker in speakers] for fold in folds], dtype=np.float64)
    if lacking := [
        f"{cells[cell][1]} at {cells[cell][0]} has no fold {folds[fold]}, seed {seeds[seed]}"
        for cell, seed, fold in np.argwhere(total.sum(axis=-1) @ in_fold.T == 0)
    ]:
        more = f"; and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        raise UserError(
            f"not all methods have all trainings: {'; '.join(lacking[:5])}{more}. Compare complete designs: finish the "
            "confirmation, or leave out methods, folds or seeds for all."
        )
    for cell, seed, speaker, label in np.argwhere(total != total[0, 0])[:1]:
        raise UserError(
            f"{cells[cell][1]} at {cells[cell][0]} (seed {seeds[seed]}) and {cells[0][1]} at {cells[0][0]} (seed "
            f"{seeds[0]}) were tested on different utterances of speaker {speakers[speaker]}, class {labels[label]}. "
            "Methods are compared on the same utterances."
        )
    if len(folds) > 1:
        return _Counts(cells, FOLD, in_fold @ correct.mean(axis=1), in_fold @ total[0, 0])
    return _Counts(cells, TRAINING, correct.sum(axis=2), total[0].sum(axis=1))


def _comparisons(cells: Sequence[tuple[str, str]], reference: str) -> list[tuple[str, str]]:
    """Return (level, method) of the comparisons, or raise an error where the reference is missing."""
    methods = {method for _, method in cells}
    if reference not in methods:
        raise unknown_name("reference method", reference, methods)
    if without := sorted({level for level, _ in cells} - {level for level, method in cells if method == reference}):
        raise UserError(f"{reference}, the reference, has no results at {', '.join(without)}.")
    return [cell for cell in cells if cell[1] != reference]
