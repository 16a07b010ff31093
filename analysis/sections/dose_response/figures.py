"""Figure of the test UAR over the share of wrong training labels."""

from __future__ import annotations

from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.common.style import hide_frame, legend_above, method_style
from analysis.common.text import percent
from analysis.sections.dose_response.scores import Scores
from study.schema import AT_STOP, in_words

MOST_NAMED = 5
"""Largest number of noise levels whose names are written below their rates."""
DODGE = 0.012
"""Distance of two methods at one level, as a share of the range of noise rates."""
ALONE = 0.05
"""Range of noise rates around a single level."""


def draw_scores(scores: Scores, chance: float, name: str) -> tuple[Figure, dict[str, str]]:
    """Draw the test UAR of each method by noise rate.

    Args:
        scores: Scores of known noise rate, at least one.
        chance: UAR of guessing, 0 to 1.
        name: Name of the figure, with which its gids begin.

    Returns:
        The figure and, for each mark, gid → text for hovering. A mark has its 95 % interval, or the single units where
        they are too few for one.
    """
    table = scores.table
    methods = list(dict.fromkeys(table["method"]))
    rates = 100 * table["rate"].drop_duplicates().to_numpy()
    span = max(np.ptp(rates), 100 * ALONE)
    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    axes.axhline(100 * chance, color="grey", linestyle=":", linewidth=1.2)
    entries: dict[str, Artist] = {}
    hover = {}
    for place, method in enumerate(methods):
        mine = table[table["method"] == method]
        shift = DODGE * span * (place - (len(methods) - 1) / 2)
        colour, marker = method_style(method)
        style: Literal["--", "-"] = "--" if method.endswith(AT_STOP) else "-"
        axes.plot(100 * mine["rate"] + shift, 100 * mine["uar"], style, color=colour, linewidth=1.4, zorder=2)
        for number, row in enumerate(mine.to_dict("records")):
            x = 100 * row["rate"] + shift
            if scores.has_intervals:
                axes.plot([x, x], [100 * row["low"], 100 * row["high"]], color=colour, linewidth=1.4, zorder=2)
            else:
                units = 100 * np.array(row["by_unit"])
                axes.plot(np.full(len(units), x), units, marker, color=colour, markersize=3, alpha=0.5, zorder=1)
            gid = f"{name}-{place}-{number}"
            axes.plot(x, 100 * row["uar"], marker, color=colour, markersize=7, zorder=3, gid=gid)
            hover[gid] = (
                f"{in_words(method)} at {row['level']}, {percent(row['rate'], 1)} wrong labels: test UAR "
                f"{scores.text(row['level'], method)}"
            )
        entries[in_words(method)] = Line2D([], [], color=colour, linestyle=style, linewidth=1.4, marker=marker)
    entries["chance"] = Line2D([], [], color="grey", linestyle=":", linewidth=1.2)
    axes.set_xlim(rates.min() - 0.08 * span, rates.max() + 0.08 * span)
    levels = table.drop_duplicates("level")
    names = levels["level"] if len(levels) <= MOST_NAMED else [""] * len(levels)
    ticks = [f"{100 * rate:.1f}\n{level}".strip() for rate, level in zip(levels["rate"], names, strict=True)]
    axes.set_xticks(100 * levels["rate"], ticks)
    figure.supxlabel("wrong training labels, %", fontsize="medium")
    axes.set_ylabel("test UAR, %")
    axes.grid(axis="y", alpha=0.3)
    hide_frame(axes)
    legend_above(figure, entries, 3)
    return figure, hover
