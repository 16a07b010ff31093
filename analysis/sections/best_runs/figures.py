"""Figure of the best runs: the score of every finished trial."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.common.searches import Score
from analysis.common.style import hide_frame, legend_above, method_style
from analysis.common.text import configuration_in_words
from ser.utils.hashing import hashed_uniform
from study.schema import in_words

SPREAD = 0.8
MOST_HOVERED = 500
"""Largest number of trials that are drawn one by one, each with a text; of more, only the chosen ones are."""


def draw_trials(
    finished: pd.DataFrame, chosen: set[str], score: Score, column: str, chance: float | None
) -> tuple[Figure, dict[str, str]]:
    """Draw every finished trial's score by noise level and method, the chosen ones filled.

    Args:
        finished: Trials with a score, as ``study.tracking.searches.Trials.table``; levels in the order of display.
        chosen: Run ids of the trials that are drawn filled.
        score: The score in words.
        column: Its column.
        chance: Score of guessing, drawn as a dotted line; None draws none.

    Returns:
        The figure and, for each mark, gid → text for hovering.
    """
    levels = list(dict.fromkeys(finished["noise"]))
    spaces = sorted(set(finished["space"]))
    figure, axes = plt.subplots(figsize=(2.4 + 1.6 * len(levels), 4.0), layout="constrained")
    lane = SPREAD / len(spaces)
    hover: dict[str, str] = {}
    entries: dict[str, Artist] = {}
    for index, space in enumerate(spaces):
        colour, marker = method_style(space)
        rows = finished[finished["space"] == space]
        jitter = (hashed_uniform(0, "jitter", rows["run_id"]) - 0.5) * lane * 0.5
        centre = np.array([levels.index(level) for level in rows["noise"]], dtype=float)
        x = centre + (index + 0.5) * lane - SPREAD / 2 + jitter
        y = score.scale * rows[column].to_numpy(dtype=float)
        picked = rows["run_id"].isin(chosen).to_numpy()
        alone = picked if len(finished) > MOST_HOVERED else np.ones(len(rows), dtype=bool)
        axes.scatter(x[~alone], y[~alone], s=24, marker=marker, facecolors="none", edgecolors=colour)
        for place in np.flatnonzero(alone):
            row, gid = rows.iloc[place], f"best_runs-{len(hover)}"
            size, fill, zorder = (8, colour, 3) if picked[place] else (5, "none", 2)
            axes.plot(
                x[place], y[place], marker, markersize=size, markerfacecolor=fill, markeredgecolor=colour,
                zorder=zorder, gid=gid,
            )  # fmt: skip
            trial = configuration_in_words(str(row["trial"]))
            hover[gid] = f"{in_words(space)}, {row['noise']}, {trial}: {score.text(row[column])}"
        entries[in_words(space)] = Line2D([], [], color=colour, marker=marker, linestyle="none")
    if chance is not None:
        axes.axhline(score.scale * chance, color="grey", linestyle=":", linewidth=1.2)
        entries["chance"] = Line2D([], [], color="grey", linestyle=":", linewidth=1.2)
    rates = finished.drop_duplicates("noise").set_index("noise")["rate"]
    axes.set_xticks(
        range(len(levels)),
        [level if pd.isna(rates[level]) else f"{level}\n{rates[level]:.1%} wrong" for level in levels],
    )
    axes.set_xlim(-0.5, len(levels) - 0.5)
    axes.set_xlabel("noise level of the training labels")
    axes.set_ylabel(score.axis)
    axes.grid(axis="y", alpha=0.3)
    hide_frame(axes)
    legend_above(figure, entries, 4, "one mark per trial; filled: chosen by the search")
    return figure, hover
