"""What choosing by other labels would have given, and whether a choice at one noise level serves at another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata, spearmanr

from analysis.common.parameters import axes_of, positions
from ser.utils.hashing import derived_seed
from study.schema import SELECTIONS, Selection

NOISY, CLEAN, SOFT = SELECTIONS
COLUMNS = {NOISY: "uar_noisy", CLEAN: "uar", SOFT: "soft_ce"}
ALL = "all"
"""The space's name where every space's trials are ranked together."""
LEAST_RANKED = 4
RESAMPLES = 1000
NEAR = 0.1
"""A configuration further than this, in shares of the ranges, is another configuration."""
SAME, NEAREST, NONE = "same", "nearest", "none near"


def best_by(trials: pd.DataFrame, labels: str) -> int | None:
    """The row of the trial that these validation labels choose; the earliest of equals.

    Args:
        trials: Finished trials.
        labels: ``noisy``, ``clean`` or ``soft``.

    Returns:
        An index label, None where no trial was scored against these labels.
    """
    scored = trials.dropna(subset=[COLUMNS[labels]])
    if scored.empty:
        return None
    order = [COLUMNS[labels], "start", "run_id"]
    return int(scored.sort_values(order, ascending=[SELECTIONS[labels].mode == "min", True, True]).index[0])


def regrets(trials: pd.DataFrame, tested: Mapping[str, float]) -> pd.DataFrame:
    """What the trial chosen by each kind of labels scores against the true ones.

    Args:
        trials: Finished trials of one noise level.
        tested: Search run → mean test UAR of its confirmation.

    Returns:
        For each kind of labels that scored every trial, where true labels did too: ``by``, ``trials`` (n),
        ``chosen_space``, ``trial``, ``run_id``, ``uar`` (clean validation UAR of the chosen), ``regret`` (how
        far below the best of all, ≥ 0), ``random`` (the mean regret of a trial taken at random), ``test_uar`` (NaN if
        the trial was not confirmed).
    """
    rows = []
    for labels in COLUMNS:
        if trials.empty or trials[[COLUMNS[labels], "uar"]].isna().to_numpy().any():
            continue
        chosen = trials.loc[best_by(trials, labels)]
        best = trials["uar"].max()
        rows.append(
            {
                "by": labels, "trials": len(trials), "chosen_space": chosen["space"], "trial": chosen["trial"],
                "run_id": chosen["run_id"], "uar": chosen["uar"],
                "regret": best - chosen["uar"], "random": best - trials["uar"].mean(),
                "test_uar": tested.get(str(chosen["run_id"]), np.nan),
            }
        )  # fmt: skip
    return pd.DataFrame(
        rows, columns=["by", "trials", "chosen_space", "trial", "run_id", "uar", "regret", "random", "test_uar"]
    )


def agreements(trials: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """How far noisy and soft validation labels rank the trials as the true labels do.

    Args:
        trials: Finished trials of one noise level.
        seed: Of the bootstrap.

    Returns:
        For ``noisy`` and ``soft``, where at least four trials have both scores and they are not all equal: ``by``,
        ``trials`` (n), ``spearman`` (ρ; the cross entropy's sign turned, so that 1 is agreement), ``low`` and ``high``
        (its 95 % bootstrap interval over trials), ``kendall`` (τ-b), ``same`` (whether both score all trials alike).
    """
    rows = []
    for labels in (NOISY, SOFT):
        both = trials[[COLUMNS[labels], "uar"]].dropna().to_numpy(dtype=np.float64)
        if len(both) < LEAST_RANKED or (np.ptp(both, axis=0) == 0).any():
            continue
        score = both[:, 0] if SELECTIONS[labels].mode == "max" else -both[:, 0]
        low, high = spearman_interval(score, both[:, 1], seed)
        rows.append(
            {
                "by": labels, "trials": len(both), "spearman": float(spearmanr(score, both[:, 1]).statistic),
                "low": low, "high": high, "kendall": float(kendalltau(score, both[:, 1]).statistic),
                "same": bool(np.allclose(score, both[:, 1], rtol=0, atol=1e-12)),
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=["by", "trials", "spearman", "low", "high", "kendall", "same"])


def spearman_interval(x: NDArray[np.float64], y: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """A 95 % percentile bootstrap interval of Spearman's ρ.

    Args:
        x: (n,) not all equal.
        y: (n,) likewise.
        seed: Of the resamples; those in which all x or all y are equal are left out.
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
    """For each ordered pair of levels: how the configuration chosen at one fares at the other.

    Args:
        space: Search space.
        levels: Noise level → its finished trials, at least one each.
        selection: How configurations are chosen.
        score: Column that judges them, larger is better, such as ``uar``.

    Returns:
        ``space``, ``from``, ``to``, ``shared`` (configurations tried at both), ``spearman`` (of their scores at both
        levels, NaN for fewer than four), ``trial`` (chosen at ``from``), ``parameters``, ``match`` (``same``: tried at
        ``to`` too; ``nearest``: one within .1 of the ranges was; ``none near``), ``distance`` (root mean square of the
        differences in shares of the ranges, a choice's being 0 or 1; NaN without parameters), ``moved`` (score at
        ``to`` of what was matched), ``own`` (score at ``to`` of what is chosen there), ``difference`` (moved − own),
        ``random`` (mean score at ``to``); the scores are NaN where nothing is near.
    """
    axes = axes_of(space, [parameters for table in levels.values() for parameters in table["parameters"]])
    choices = np.array([bool(axis.choices) for axis in axes])
    cubes = {name: positions(axes, list(table["parameters"])) for name, table in levels.items()}
    rows = []
    for start, source in levels.items():
        chosen = int(source["selected"].to_numpy().argmax() if selection.mode == "max" else source["selected"].argmin())
        for end, target in levels.items():
            if start == end:
                continue
            pairs = _shared(list(source["parameters"]), list(target["parameters"]))
            first = source[score].to_numpy(dtype=np.float64)[list(pairs)]
            second = target[score].to_numpy(dtype=np.float64)[list(pairs.values())]
            ranked = len(pairs) >= LEAST_RANKED and np.ptp(first) > 0 and np.ptp(second) > 0
            gaps = np.abs(cubes[end] - cubes[start][chosen])
            gaps[:, choices] = gaps[:, choices] > 0
            distance = np.sqrt((gaps**2).mean(axis=1)) if len(axes) else np.zeros(len(target))
            place = int(distance.argmin())
            same = _shared([source["parameters"].iloc[chosen]], list(target["parameters"])).get(0)
            match = SAME if same is not None else NEAREST if distance[place] <= NEAR else NONE
            place = same if same is not None else place
            own = int(
                target["selected"].to_numpy().argmax() if selection.mode == "max" else target["selected"].argmin()
            )
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
    """Scores of the configurations that were tried at both of two levels.

    Args:
        first: Finished trials of one level.
        second: Of another.
        score: Column.

    Returns:
        ``first`` and ``second``, one row for each configuration.
    """
    pairs = _shared(list(first["parameters"]), list(second["parameters"]))
    return pd.DataFrame(
        {
            "first": first[score].to_numpy(dtype=np.float64)[list(pairs)],
            "second": second[score].to_numpy(dtype=np.float64)[list(pairs.values())],
        }
    )


def _shared(first: Sequence[Mapping[str, str]], second: Sequence[Mapping[str, str]]) -> dict[int, int]:
    """Rows of both that have the same parameters; of several that do, the first."""
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
