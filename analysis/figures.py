"""Figures: what is drawn is computed elsewhere."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ser.hashing import hashed_uniform
from study.records import FINISHED

# Okabe and Ito's palette: told apart by the colour-blind, and in print.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SPREAD = 0.7


def draw_trials(trials: pd.DataFrame, best: pd.DataFrame, score: str, label: str, chance: float | None) -> Figure:
    """Every finished trial's score by noise level and space, the chosen one filled.

    Args:
        trials: One row for each trial, as ``study.results.Trials.table``.
        best: From ``study.results.best_runs``; rank 1 is drawn filled.
        score: Column to draw.
        label: What it is, for the axis.
        chance: Score of guessing; a dotted line. None draws none.

    Returns:
        The figure.
    """
    chosen = set(best[best["rank"] == 1]["run_id"].dropna())
    levels = list(dict.fromkeys(best["noise"]))
    spaces = sorted(set(best["space"]))
    figure, axes = plt.subplots(figsize=(1.6 + 1.8 * len(levels), 3.6), layout="constrained")
    for index, space in enumerate(spaces):
        colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        rows = trials[(trials["space"] == space) & (trials["fidelity"] == FINISHED)].dropna(subset=[score])
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
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        loc="outside upper center",
        title="each mark a trial; filled: chosen by the search",
        ncols=len(spaces),
        frameon=False,
        fontsize="small",
        title_fontsize="small",
    )
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a figure, the same bytes each time, and closes it."""
    with plt.rc_context({"svg.hashsalt": "ambivalent", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
    plt.close(figure)
