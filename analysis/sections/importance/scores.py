"""Importance of the searched parameters: functional ANOVA, and PED-ANOVA through Optuna, with their uncertainty.

Both get each value's position in its range on the searched scale: a learning rate would otherwise be integrated over
its linear range, most of which is hardly sampled.

Sources: Hutter, Hoos and Leyton-Brown, ICML 2014 (fANOVA); Watanabe, Bansal and Hutter, IJCAI 2023 (PED-ANOVA).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from analysis.common.parameters import Parameter, positions, silent_optuna
from analysis.sections.importance.fanova import fanova
from ser.utils.hashing import derived_seed

FANOVA, PED_ANOVA = "fANOVA", "PED-ANOVA"
LEAST_TRIALS = 10
TREES, RESAMPLED_TREES = 64, 16
RESAMPLES, SHUFFLES = 20, 19
# Forests of thousands of trials take minutes per search.
MOST_TRIALS = 250
# PED-ANOVA compares the best tenth with all trials; Optuna recommends at least five trials in it.
BEST_SHARE, LEAST_BEST = 0.1, 5


@dataclass(frozen=True)
class _Trials:
    """Trials whose importances are computed, of all of them or of a resample.

    Args:
        parameters: The d parameters.
        configurations: The n trials.
        cube: (n, d) positions.
        mode: ``max`` or ``min``.
        seed: Seed of the forests.
    """

    parameters: Sequence[Parameter]
    configurations: Sequence[Mapping[str, str]]
    cube: NDArray[np.float64]
    mode: str
    seed: int

    def importances(
        self, evaluator: str, rows: NDArray[np.int64], scores: NDArray[np.float64], trees: int
    ) -> NDArray[np.float64]:
        """Return the (d,) importance of each parameter in some trials.

        Args:
            evaluator: ``FANOVA`` or ``PED_ANOVA``.
            rows: (m,) the trials.
            scores: (m,) their scores.
            trees: Size of the forest.
        """
        if np.ptp(scores) == 0:
            return np.zeros(len(self.parameters))
        if evaluator == FANOVA:
            options = [len(parameter.choices) for parameter in self.parameters]
            return fanova(self.cube[rows], options, scores, trees, derived_seed(self.seed, "forest") % 2**32)
        return self._ped_anova(rows, scores)

    def _ped_anova(self, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
        study = optuna.create_study(direction="maximize" if self.mode == "max" else "minimize")
        distributions = {parameter.name: _distribution(parameter) for parameter in self.parameters}
        for row, score in zip(rows, scores, strict=True):
            point = {
                parameter.name: self.configurations[row][parameter.name]
                if parameter.choices
                else float(self.cube[row, column])
                for column, parameter in enumerate(self.parameters)
            }
            study.add_trial(optuna.create_trial(params=point, distributions=distributions, value=float(score)))
        names = [parameter.name for parameter in self.parameters]
        evaluator = PedAnovaImportanceEvaluator(target_quantile=max(BEST_SHARE, LEAST_BEST / len(self.configurations)))
        found = get_param_importances(study, evaluator=evaluator, params=names, normalize=False)
        return np.array([found[name] for name in names])


def importances(
    parameters: Sequence[Parameter],
    configurations: Sequence[Mapping[str, str]],
    scores: NDArray[np.float64],
    mode: str,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute how much of the scores' variation each parameter explains, its uncertainty, and the chance level.

    Args:
        parameters: The parameters, at least two.
        configurations: n ≥ 10 finished trials.
        scores: (n,) finite, not all equal.
        mode: ``max`` if a larger score is better, else ``min``.
        seed: Seed of forests, resamples and shuffles.

    Returns:
        One row per evaluator and parameter, the most important first: ``evaluator``, ``parameter``, ``importance`` in
        [0, 1] (``fANOVA``: share of the variance over the whole range that the parameter explains alone; the remainder
        to 1 is due to interactions; ``PED-ANOVA``: divergence between the parameter's values in the best tenth, at
        least five, and in all trials, as a share of all parameters' divergences), ``low`` and ``high`` (smallest and
        largest over 20 bootstrap resamples of the trials), ``chance`` (largest importance of any parameter in 19
        shuffles of the scores, in the same units, at most 1: parameters without influence exceed it in one of twenty
        searches), and ``stands_out`` (whether the importance is above ``chance``). Of more than ``MOST_TRIALS`` trials,
        a random sample of this size is used.
    """
    trials = _Trials(parameters, configurations, positions(parameters, configurations), mode, seed)
    rng = np.random.default_rng(derived_seed(seed, "resamples"))
    seen = np.arange(len(scores))
    if len(scores) > MOST_TRIALS:
        seen = np.sort(rng.permutation(len(scores))[:MOST_TRIALS])
    resamples = [np.sort(rng.integers(len(scores), size=len(seen))) for _ in range(RESAMPLES)]
    shuffles = [rng.permutation(scores[seen]) for _ in range(SHUFFLES)]
    tables = []
    with silent_optuna():
        for evaluator in (FANOVA, PED_ANOVA):
            found = trials.importances(evaluator, seen, scores[seen], TREES)
            spread = np.array(
                [trials.importances(evaluator, rows, scores[rows], RESAMPLED_TREES) for rows in resamples]
            )
            chance = max(trials.importances(evaluator, seen, values, RESAMPLED_TREES).max() for values in shuffles)
            above = found > chance
            if evaluator == PED_ANOVA:  # a divergence, whose absolute size has no meaning
                total = found.sum() or 1.0
                found, chance = found / total, min(1.0, chance / total)
                spread = spread / np.maximum(spread.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
            table = pd.DataFrame(
                {
                    "evaluator": evaluator, "parameter": [parameter.name for parameter in parameters],
                    "importance": found, "low": spread.min(axis=0), "high": spread.max(axis=0), "chance": chance,
                    "stands_out": above,
                }
            )  # fmt: skip
            tables.append(table.sort_values(["importance", "parameter"], ascending=[False, True]))
    return pd.concat(tables, ignore_index=True)


def _distribution(parameter: Parameter) -> BaseDistribution:
    return CategoricalDistribution(parameter.choices) if parameter.choices else FloatDistribution(0.0, 1.0)
