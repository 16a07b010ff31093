"""Which searched parameters mattered: functional ANOVA and PED-ANOVA through Optuna, and how far either can be trusted.

Both are given where a value lies in its range on the scale that was searched: Optuna's fANOVA would otherwise integrate
a learning rate over its raw range, most of which was hardly tried.

Sources: Hutter, Hoos and Leyton-Brown, ICML 2014 (fANOVA); Watanabe, Bansal and Hutter, IJCAI 2023 (PED-ANOVA).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)

from analysis.common.parameters import Axis, positions, silent
from ser.utils.hashing import derived_seed

FANOVA, PED_ANOVA = "fANOVA", "PED-ANOVA"
LEAST_TRIALS = 10
TREES, RESAMPLED_TREES = 64, 16
RESAMPLES, SHUFFLES = 20, 19
# Forests of thousands of trials take minutes a search.
MOST_TRIALS = 250
# PED-ANOVA compares the best tenth with all; Optuna advises five trials in it at least.
BEST_SHARE, LEAST_BEST = 0.1, 5


def importances(
    axes: Sequence[Axis],
    parameters: Sequence[Mapping[str, str]],
    scores: NDArray[np.float64],
    mode: str,
    seed: int = 0,
) -> pd.DataFrame:
    """How much of the scores' variation each parameter explains, with its spread and what chance gives.

    Args:
        axes: The parameters, at least two.
        parameters: Of n ≥ 10 finished trials.
        scores: (n,) finite, not all equal.
        mode: ``max`` or ``min``: which scores are good.
        seed: Of forests, resamples and shuffles.

    Returns:
        One row for each evaluator and parameter, the most important first: ``evaluator``, ``parameter``,
        ``importance`` in [0, 1] (``fANOVA``: the share of the variance over the whole range that the parameter explains
        alone, what is left to 1 being interactions; ``PED-ANOVA``: how far the parameter's values in the best tenth, or
        five, of the trials differ from those in all, as a share of all parameters'), ``low`` and ``high`` (smallest and
        largest over 20 bootstrap resamples of the trials), ``chance`` (the largest of any parameter in 19 shuffles of
        the scores, in the same units, at most 1: parameters without influence exceed it once in twenty times), and
        ``stands_out`` (whether the importance is above ``chance``). Of more than ``MOST_TRIALS`` trials, so
        many, drawn at random, stand for all; a resample is as large.
    """
    cube, names, trials = positions(axes, parameters), [axis.name for axis in axes], len(scores)
    distributions = {axis.name: _distribution(axis) for axis in axes}
    share = max(BEST_SHARE, LEAST_BEST / trials)

    def explain(evaluator: str, rows: NDArray[np.int64], values: NDArray[np.float64], trees: int) -> list[float]:
        if np.ptp(values) == 0:
            return [0.0] * len(names)
        study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
        chosen: BaseImportanceEvaluator = (
            FanovaImportanceEvaluator(n_trees=trees, seed=derived_seed(seed, "forest") % 2**32)
            if evaluator == FANOVA
            else PedAnovaImportanceEvaluator(target_quantile=share)
        )
        for row, value in zip(rows, values, strict=True):
            point = {
                axis.name: parameters[row][axis.name] if axis.choices else float(cube[row, column])
                for column, axis in enumerate(axes)
            }
            study.add_trial(optuna.create_trial(params=point, distributions=distributions, value=float(value)))
        try:
            found = get_param_importances(study, evaluator=chosen, params=names, normalize=False)
        except RuntimeError:  # no tree could tell two trials apart
            return [0.0] * len(names)
        return [float(found[name]) for name in names]

    rng = np.random.default_rng(derived_seed(seed, "resamples"))
    seen = np.arange(trials)
    if trials > MOST_TRIALS:
        seen = np.sort(rng.permutation(trials)[:MOST_TRIALS])
    resamples = [np.sort(rng.integers(trials, size=len(seen))) for _ in range(RESAMPLES)]
    shuffles = [rng.permutation(scores[seen]) for _ in range(SHUFFLES)]
    tables = []
    with silent():
        for evaluator in (FANOVA, PED_ANOVA):
            found = np.array(explain(evaluator, seen, scores[seen], TREES))
            spread = np.array([explain(evaluator, rows, scores[rows], RESAMPLED_TREES) for rows in resamples])
            chance = max(max(explain(evaluator, seen, values, RESAMPLED_TREES)) for values in shuffles)
            above = found > chance
            if evaluator == PED_ANOVA:  # a divergence, whose size alone tells nothing
                total = found.sum() or 1.0
                found, chance = found / total, min(1.0, chance / total)
                spread = spread / np.maximum(spread.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
            table = pd.DataFrame(
                {
                    "evaluator": evaluator, "parameter": names, "importance": found,
                    "low": spread.min(axis=0), "high": spread.max(axis=0),
                    "chance": chance, "stands_out": above,
                }
            )  # fmt: skip
            tables.append(table.sort_values(["importance", "parameter"], ascending=[False, True]))
    return pd.concat(tables, ignore_index=True)


def _distribution(axis: Axis) -> BaseDistribution:
    return CategoricalDistribution(axis.choices) if axis.choices else FloatDistribution(0.0, 1.0)
