"""Figures: what is drawn is computed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ser.utils.hashing import hashed_uniform
from study.schema import FINISHED

# Okabe and Ito's palette: told apart by the colour-blind, and in print.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SPREAD = 0.7


def draw_trials(trials: pd.DataFrame, best: pd.DataFrame, score: str, label: str, chance: float | None) -> Figure:
    """Every finished trial's score by noise level and space, the chosen one filled.

    Args:
        trials: One row for each trial, as ``study.tracking.searches.Trials.table``.
        best: From ``study.tracking.searches.best_runs``; rank 1 is drawn filled.
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


def draw_flips(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """The label pairs of each trial that were flipped, as bars: the right flips, then the wrong ones.

    Args:
        panels: Title → pairs to draw, at least one, from the top: ``noisy_label``, ``corrected_label``, ``flips``,
            ``judged``, ``right`` and ``wrong``, as from ``analysis.common.label_flips.flipped_pairs``.

    Returns:
        The figure.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    tallest = max(len(pairs) for pairs in panels.values())
    size = (0.6 + 4.4 * columns, 0.8 + rows * (1.1 + 0.28 * tallest))
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axes, (title, pairs) in zip(grid.flat, panels.items(), strict=False):
        left = np.zeros(len(pairs))
        unknown = pairs["flips"] - pairs["judged"]
        shares = (
            (pairs["right"], "right", PALETTE[0], ""),
            (pairs["wrong"], "wrong", PALETTE[1], "////"),
            (unknown, "true label unknown", "lightgrey", ""),
        )
        for counts, meaning, colour, hatch in shares:
            width = counts.to_numpy(dtype=float)
            axes.barh(range(len(pairs)), width, left=left, color=colour, hatch=hatch, edgecolor="white", label=meaning)
            left += width
        for place, flips in enumerate(left):
            axes.annotate(f"{flips:.0f}", (flips, place), xytext=(3, 0), textcoords="offset points", va="center")
        named = zip(pairs["noisy_label"], pairs["corrected_label"], strict=True)
        axes.set_yticks(range(len(pairs)), [f"{noisy} → {corrected}" for noisy, corrected in named])
        axes.set_ylim(tallest - 0.4, -0.6)
        axes.set_xlim(0, 1.12 * left.max())  # room for the longest bar's number
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(title, fontsize="medium", loc="left")
        axes.set_xlabel("training utterances")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    handles, meanings = grid.flat[0].get_legend_handles_labels()
    if not any((pairs["flips"] > pairs["judged"]).any() for pairs in panels.values()):
        handles, meanings = handles[:2], meanings[:2]
    figure.legend(
        handles,
        meanings,
        loc="outside upper center",
        title="noisy label → label after the last correction",
        ncols=len(meanings),
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
