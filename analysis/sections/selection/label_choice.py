"""Choices by other validation labels, and choices at one noise level scored at another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata, spearmanr

from analysis.common.parameters import parameters_of, positions
from ser.utils.hashing import derived_seed
from study.schema import SELECTIONS, Selection

TRUTH = "uar"
"""Column that judges choices: validation UAR against true labels."""
RULES = tuple(rule for rule in SELECTIONS.values() if not rule.oracle)
"""Selection rules that need no true label."""
ALL = "all"
"""Name of the space that stands for all spaces together."""
LEAST_RANKED = 4
RESAMPLES = 1000
NEAR = 0.1
"""Largest distance between configurations that count as similar, in shares of the ranges."""
SAME, NEAREST, NONE = "same", "nearest", "none near"


def best_by(trials: pd.DataFrame, rule: Selection) -> int | None:
    """Return the row of the trial that a selection rule chooses; the earliest one in case of a tie.

    Args:
        trials: Finished trials.
        rule: A rule of ``study.schema.SELECTIONS``.

    Returns:
        An index label; None if no trial has the rule's score.
    """
    scored = trials.dropna(subset=[rule.column])
    if scored.empty:
        return None
    order = [rule.column, "start", "run_id"]
    return int(scored.sort_values(order, ascending=[rule.mode == "min", True, True]).index[0])


def regrets(trials: pd.DataFrame, tested: Mapping[str, float]) -> pd.DataFrame:
    """Compute the regret of each selection rule: how far its choice is below the best trial by true labels.

    Args:
        trials: Finished trials of one noise level.
        tested: Search run → mean test UAR of its confirmation.

    Returns:
        One row per rule whose score and true score all trials have: ``by``, ``trials`` (n), ``chosen_space``,
        ``trial``, ``run_id``, ``uar`` (validation UAR of the choice against true labels), ``regret`` (≥ 0), ``random``
        (expected regret of a random choice), ``test_uar`` (NaN if the trial was not confirmed).

    Example:
        >>> trials = pd.DataFrame({
        ...     "uar": [0.5, 0.75], "uar_noisy": [0.4, 0.3], "soft_ce": [1.0, 0.9], "start": [1, 2],
        ...     "run_id": ["a", "b"], "trial": ["001", "002"], "space": "elr",
        ... })
        >>> regrets(trials, {})[["by", "trial", "regret"]].to_numpy().tolist()
        [['noisy', '001', 0.25], ['clean', '002', 0.0], ['soft', '002', 0.0]]
    """
    rows = []
    for rule in SELECTIONS.values():
        if trials.empty or trials[[rule.column, TRUTH]].isna().to_numpy().any():
            continue
        chosen = trials.loc[best_by(trials, rule)]
        best = trials[TRUTH].max()
        rows.append(
            {
                "by": rule.name, "trials": len(trials), "chosen_space": chosen["space"], "trial": chosen["trial"],
                "run_id": chosen["run_id"], "uar": chosen[TRUTH],
                "regret": best - chosen[TRUTH], "random": best - trials[TRUTH].mean(),
                "test_uar": tested.get(str(chosen["run_id"]), np.nan),
            }
        )  # fmt: skip
    return pd.DataFrame(
        rows, columns=["by", "trials", "chosen_space", "trial", "run_id", "uar", "regret", "random", "test_uar"]
    )


def agreements(trials: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Compute the rank correlation of each rule's score with the score against true labels.

    Args:
        trials: Finished trials of one noise level.
        seed: Seed of the bootstrap.

    Returns:
        One row per rule of ``RULES`` for which at least four trials have both scores, not all equal: ``by``, ``trials``
        (n), ``spearman`` (ρ; 1 is agreement, also for scores of which the smallest is best), ``low`` and ``high`` (its
        95 % bootstrap interval over trials), ``kendall`` (τ-b), ``same`` (whether the scores are equal for all trials).
    """
    rows = []
    for rule in RULES:
        both = trials[[rule.column, TRUTH]].dropna().to_numpy(dtype=np.float64)
        if len(both) < LEAST_RANKED or (np.ptp(both, axis=0) == 0).any():
            continue
        score = both[:, 0] if rule.mode == "max" else -both[:, 0]
        low, high = spearman_interval(score, both[:, 1], seed)
        rows.append(
            {
                "by": rule.name, "trials": len(both), "spearman": float(spearmanr(score, both[:, 1]).statistic),
                "low": low, "high": high, "kendall": float(kendalltau(score, both[:, 1]).statistic),
                "same": bool(np.allclose(score, both[:, 1], rtol=0, atol=1e-12)),
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=["by", "trials", "spearman", "low", "high", "kendall", "same"])


def spearman_interval(x: NDArray[np.float64], y: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Compute a 95 % percentile bootstrap interval of Spearman's ρ.

    Args:
        x: (n,) not all equal.
        y: (n,) not all equal.
        seed: Seed of the resamples; those in which all x or all y are equal are left out.

    Returns:
        Lower and upper end.
    """
    rng = np.random.default_rng(derived_seed(seed, "spearman"))
    rows = rng.integers(len(x), size=(RESAMPLES, len(x)))
    first, second = rankdata(x[rows], axis=1), rankdata(y[rows], axis=1)
    first, second = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (first, second))
    scale = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    values = (first * second).sum(axis=1)[scale > 0] / scale[scale > 0]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def transfers(space: str, levels: Mapping[str, pd.DataFrame], selection: Selection, score: str) -> pd.DataFrame:
    """Score the configuration chosen at one noise level at another, for each ordered pair of levels.

    Args:
        space: Search space.
        levels: Noise level → its finished trials, at least one each.
        selection: Rule by which configurations are chosen.
        score: Column that judges them, larger is better, such as ``uar``.

    Returns:
        ``space``, ``from``, ``to``, ``shared`` (configurations tried at both levels), ``spearman`` (of their scores at
        both levels; NaN for fewer than four), ``trial`` (chosen at ``from``), ``parameters``, ``match`` (``same``: also
        tried at ``to``; ``nearest``: a configuration within .1 of the ranges was; ``none near``), ``distance`` (root
        mean square of the differences in shares of the ranges, 0 or 1 for a choice), ``moved`` (score of the match at
        ``to``), ``own`` (score of the choice at ``to``), ``difference`` (moved − own), ``random`` (mean score at
        ``to``). Scores are NaN if no configuration is near.
    """
    parameters = parameters_of(space, [tried for table in levels.values() for tried in table["parameters"]])
    choices = np.array([bool(parameter.choices) for parameter in parameters], dtype=bool)
    cubes = {name: positions(parameters, list(table["parameters"])) for name, table in levels.items()}
    rows = []
    for start, source in levels.items():
        chosen = _chosen(source, selection)
        for end, target in levels.items():
            if start == end:
                continue
            pairs = _shared(list(source["parameters"]), list(target["parameters"]))
            first = source[score].to_numpy(dtype=np.float64)[list(pairs)]
            second = target[score].to_numpy(dtype=np.float64)[list(pairs.values())]
            ranked = len(pairs) >= LEAST_RANKED and np.ptp(first) > 0 and np.ptp(second) > 0
            gaps = np.abs(cubes[end] - cubes[start][chosen])
            gaps[:, choices] = gaps[:, choices] > 0
            distance = np.sqrt((gaps**2).mean(axis=1)) if len(parameters) else np.zeros(len(target))
            place = int(distance.argmin())
            same = _shared([source["parameters"].iloc[chosen]], list(target["parameters"])).get(0)
            match = SAME if same is not None else NEAREST if distance[place] <= NEAR else NONE
            place = same if same is not None else place
            own = _chosen(target, selection)
            scores = target[score].to_numpy(dtype=np.float64)
            moved = scores[place] if match != NONE else np.nan
            rows.append(
                {
                    "space": space, "from": start, "to": end, "shared": len(pairs),
                    "spearman": float(spearmanr(first, second).statistic) if ranked else np.nan,
                    "trial": source["trial"].iloc[chosen], "parameters": source["parameters"].iloc[chosen],
                    "match": match, "distance": float(distance[place]), "moved": moved, "own": scores[own],
                    "difference": moved - scores[own], "random": scores.mean(),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def shared_scores(first: pd.DataFrame, second: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the scores of the configurations that were tried at both of two levels.

    Args:
        first: Finished trials of one level.
        second: Finished trials of another level.
        score: Column of the score.

    Returns:
        ``first`` and ``second``, one row per configuration.
    """
    pairs = _shared(list(first["parameters"]), list(second["parameters"]))
    return pd.DataFrame(
        {
            "first": first[score].to_numpy(dtype=np.float64)[list(pairs)],
            "second": second[score].to_numpy(dtype=np.float64)[list(pairs.values())],
        }
    )


def _chosen(trials: pd.DataFrame, selection: Selection) -> int:
    """Return the number of the row that the search chose."""
    scores = trials["selected"].to_numpy()
    return int(scores.argmax() if selection.mode == "max" else scores.argmin())


def _shared(first: Sequence[Mapping[str, str]], second: Sequence[Mapping[str, str]]) -> dict[int, int]:
    """Return the rows of both with the same parameters; the first one in case of several."""
    known: dict[frozenset[tuple[str, str]], int] = {}
    for row, parameters in enumerate(second):
        known.setdefault(frozenset(parameters.items()), row)
    found, used = {}, set()
    for row, parameters in enumerate(first):
        key = frozenset(parameters.items())
        if key in known and key not in used:
            used.add(key)
            found[row] = known[key]
    return found
