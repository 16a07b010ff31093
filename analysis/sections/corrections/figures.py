"""How well labels were corrected over the epochs, as a figure: what is drawn is computed elsewhere."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from analysis.common.style import MARKERS, PALETTE


def draw_correction_curves(curves: pd.DataFrame) -> Figure:
    """Precision above recall, one column for each noise level, one line for each space.

    Args:
        curves: ``noise``, ``space``, ``epoch``, ``precision`` and ``recall``, at least one row; several trials of one
            space give their mean and a band from the least to the largest.

    Returns:
        The figure.
    """
    levels = list(dict.fromkeys(curves["noise"]))
    spaces = sorted(set(curves["space"]))
    size = (1.0 + 3.2 * len(levels), 5.2)
    figure, grid = plt.subplots(2, len(levels), figsize=size, layout="constrained", squeeze=False, sharex="col")
    for line, score in zip(grid, ("precision", "recall"), strict=True):
        for axes, level in zip(line, levels, strict=True):
            for place, space in enumerate(spaces):
                rows = curves[(curves["noise"] == level) & (curves["space"] == space)]
                if rows.empty:
                    continue
                found = rows.groupby("epoch")[score].agg(["mean", "min", "max"])
                colour, marker = PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]
                axes.plot(
                    found.index, found["mean"], color=colour, marker=marker, markersize=4,
                    markevery=max(1, len(found) // 10), label=space,
                )  # fmt: skip
                axes.fill_between(found.index, found["min"], found["max"], color=colour, alpha=0.2, linewidth=0)
            axes.set_ylim(0, 1)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            axes.xaxis.get_major_locator().set_params(integer=True)
        line[0].set_ylabel(f"{score} of correction")
    for axes, level in zip(grid[0], levels, strict=True):
        axes.set_title(level, fontsize="medium", loc="left")
    for axes in grid[1]:
        axes.set_xlabel("epoch")
    named: dict[str, Artist] = {}
    for axes in grid.flat:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(map(str, labels), handles, strict=True))
    figure.legend(
        named.values(),
        named.keys(),
        loc="outside upper center",
        ncols=min(len(named), 4),
        frameon=False,
        fontsize="small",
    )
    return figure
