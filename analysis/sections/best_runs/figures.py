"""Figure of the best runs: the score of every finished trial."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.common.style import colour_and_marker, hide_frame
from ser.utils.hashing import hashed_uniform
from study.schema import FINISHED

SPREAD = 0.7


def draw_trials(trials: pd.DataFrame, best: pd.DataFrame, score: str, label: str, chance: float | None) -> Figure:
    """Draw every finished trial's score by noise level and space, the chosen ones filled.

    Args:
        trials: One row per trial, as ``study.tracking.searches.Trials.table``.
        best: From ``study.tracking.searches.best_runs``; rank 1 is drawn filled.
        score: Column to draw.
        label: Axis label of the score.
        chance: Score of guessing, drawn as a dotted line; None draws none.
    """
    chosen = set(best[best["rank"] == 1]["run_id"].dropna())
    levels = list(dict.fromkeys(best["noise"]))
    spaces = sorted(set(best["space"]))
    figure, axes = plt.subplots(figsize=(1.6 + 1.8 * len(levels), 3.6), layout="constrained")
    for index, space in enumerate(spaces):
        colour, marker = colour_and_marker(index)
        rows = trials[(trials["space"] == space) & (trials["status"] == FINISHED)].dropna(subset=[score])
        lane = SPREAD / len(spaces)
        jitter = (hashed_uniform(0, "jitter", rows["run_id"]) - 0.5) * lane * 0.5
        centre = np.array([levels.index(level) for level in rows["noise"]], dtype=float)
        x = centre + (index + 0.5) * lane - SPREAD / 2 + jitter
        picked = rows["run_id"].isin(chosen).to_numpy()
        y = rows[score].to_numpy(dtype=float)
        axes.scatter(x[~picked], y[~picked], s=28, marker=marker, facecolors="none", edgecolors=colour, linewidths=1)
        axes.scatter(x[picked], y[picked], s=70, marker=marker, color=colour, edgecolors="black", label=space, zorder=3)
    if chance is not None:
        axes.axhline(chance, color="grey", linestyle=":", linewidth=1)
        axes.annotate("chance", (1, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="grey")
    rates = best.drop_duplicates("noise").set_index("noise")["rate"]
    axes.set_xticks(
        range(len(levels)),
        [level if pd.isna(rates[level]) else f"{level}\n{rates[level]:.1%} wrong" for level in levels],
    )
    axes.set_xlim(-0.5, len(levels) - 0.5)
    axes.set_ylabel(label)
    axes.grid(axis="y", alpha=0.3)
    hide_frame(axes)
    figure.legend(
        loc="outside upper center",
        title="one mark per trial; filled: chosen by the search",
        ncols=len(spaces),
        frameon=False,
        fontsize="small",
        title_fontsize="small",
    )
    return figure
