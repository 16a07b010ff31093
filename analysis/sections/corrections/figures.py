"""Figures of the corrections: corrected label pairs, and precision and recall over the epochs."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from analysis.common.style import hide_frame, hide_panels, legend_above, method_style
from study.schema import in_words

UNKNOWN = "true label unknown"
DARK, LIGHT = "#7A7A7A", "#C8C8C8"
"""Greys of the bars, which are no method's colour."""


def draw_corrected_pairs(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the corrected label pairs of each trial as bars, split into right and wrong corrections.

    Args:
        panels: Title → pairs from top to bottom, at least one: ``noisy_label``, ``corrected_label``, ``flips``,
            ``judged``, ``right`` and ``wrong``, as from ``analysis.common.corrected_labels.corrected_pairs``.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    tallest = max(len(pairs) for pairs in panels.values())
    size = (0.3 + 3.8 * columns, 0.8 + rows * (1.1 + 0.28 * tallest))
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axes, (title, pairs) in zip(grid.flat, panels.items(), strict=False):
        left = np.zeros(len(pairs))
        unknown = pairs["flips"] - pairs["judged"]
        shares = (
            (pairs["right"], "right", DARK, ""),
            (pairs["wrong"], "wrong", "none", "////"),
            (unknown, UNKNOWN, LIGHT, ""),
        )
        for counts, meaning, colour, hatch in shares:
            width = counts.to_numpy(dtype=float)
            axes.barh(range(len(pairs)), width, left=left, color=colour, hatch=hatch, edgecolor=DARK, label=meaning)
            left += width
        for place, count in enumerate(left):
            axes.annotate(f"{count:.0f}", (count, place), xytext=(3, 0), textcoords="offset points", va="center")
        named = zip(pairs["noisy_label"], pairs["corrected_label"], strict=True)
        axes.set_yticks(range(len(pairs)), [f"{noisy} → {corrected}" for noisy, corrected in named])
        axes.set_ylim(tallest - 0.4, -0.6)
        axes.set_xlim(0, 1.12 * left.max())  # leaves space for the number of the longest bar
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(title, fontsize="medium", loc="left")
        axes.set_xlabel("corrected training labels")
        hide_frame(axes)
    hide_panels(grid.flat[len(panels) :])
    handles, meanings = grid.flat[0].get_legend_handles_labels()
    shown = dict(zip(map(str, meanings), handles, strict=True))
    if not any((pairs["flips"] > pairs["judged"]).any() for pairs in panels.values()):
        del shown[UNKNOWN]
    legend_above(figure, shown, len(shown), "noisy label → corrected label")
    return figure


def draw_correction_curves(curves: pd.DataFrame) -> Figure:
    """Draw precision above recall, in %: one column per noise level, one line per method.

    Args:
        curves: ``noise``, ``space``, ``epoch``, ``precision`` and ``recall``, at least one row; several trials of a
            space give their mean and a band from the smallest to the largest value.
    """
    levels = list(dict.fromkeys(curves["noise"]))
    spaces = sorted(set(curves["space"]))
    size = (1.0 + 3.2 * len(levels), 5.2)
    figure, grid = plt.subplots(2, len(levels), figsize=size, layout="constrained", squeeze=False, sharex="col")
    for line, score in zip(grid, ("precision", "recall"), strict=True):
        for axes, level in zip(line, levels, strict=True):
            for space in spaces:
                rows = curves[(curves["noise"] == level) & (curves["space"] == space)]
                if rows.empty:
                    continue
                found = 100 * rows.groupby("epoch")[score].agg(["mean", "min", "max"])
                colour, marker = method_style(space)
                axes.plot(
                    found.index, found["mean"], color=colour, marker=marker, markersize=4,
                    markevery=max(1, len(found) // 10), label=in_words(space),
                )  # fmt: skip
                axes.fill_between(found.index, found["min"], found["max"], color=colour, alpha=0.2, linewidth=0)
            axes.set_ylim(0, 100)
            axes.grid(alpha=0.3)
            hide_frame(axes)
            axes.xaxis.get_major_locator().set_params(integer=True)
        line[0].set_ylabel(f"{score} of the corrections, %")
    for axes, level in zip(grid[0], levels, strict=True):
        axes.set_title(level, fontsize="medium", loc="left")
    for axes in grid[1]:
        axes.set_xlabel("epoch")
    named: dict[str, Artist] = {}
    for axes in grid.flat:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(map(str, labels), handles, strict=True))
    legend_above(figure, named, 4)
    return figure
