"""Figures of training curves and of the global trust."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.common.style import colour_and_marker, hide_frame, legend_above
from analysis.sections.curves.epochs import CHANGED, CORRECTED, MEMORISED, SOFT, TRAIN_F1, VALIDATION_F1, Line
from ser.losses import global_trust

# Heading of a column → metric of the solid line, and of the dashed one.
PANELS = {
    "weighted F1": (VALIDATION_F1, TRAIN_F1),
    "soft cross entropy": (SOFT, None),
    "labels changed": (CHANGED, CORRECTED),
    "memorised": (MEMORISED, None),
}
DASHED = {"weighted F1": "dashed: training", "labels changed": "dashed: corrected"}
MARKS = 6
TRUST_STEPS = 201


def draw_curves(curves: pd.DataFrame) -> Figure:
    """Draw curves over epochs: one row per noise level, one column per metric, one colour per line.

    Args:
        curves: From ``analysis.sections.curves.epochs.mean_curves``, at most eight lines per level.
    """
    levels = list(dict.fromkeys(curves["noise"]))
    recorded = set(curves["metric"])
    shown = {heading: pair for heading, pair in PANELS.items() if recorded & set(pair)}
    names = list(dict.fromkeys(curves["line"]))
    size = (0.6 + 2.9 * len(shown), 0.9 + 2.4 * len(levels))
    figure, grid = plt.subplots(len(levels), len(shown), figsize=size, layout="constrained", squeeze=False)
    found: dict[str, Artist] = {}
    for row, level in zip(grid, levels, strict=True):
        for axes, (heading, pair) in zip(row, shown.items(), strict=True):
            for metric, style in zip(pair, ("-", "--"), strict=True):
                of_metric = curves[(curves["noise"] == level) & (curves["metric"] == metric)]
                for name, line in of_metric.groupby("line", sort=False):
                    colour, marker = colour_and_marker(names.index(str(name)))
                    axes.plot(
                        line["epoch"], line["mean"], color=colour, linestyle=style, marker=marker, markersize=4,
                        linewidth=1.6 if style == "-" else 1.0, markevery=max(1, len(line) // MARKS),
                    )  # fmt: skip
                    found[str(name)] = Line2D([], [], color=colour, marker=marker, markersize=5)
                    below, above = line["mean"] - line["deviation"], line["mean"] + line["deviation"]
                    axes.fill_between(line["epoch"], below, above, color=colour, alpha=0.15, linewidth=0)
            axes.set_title(f"{level}: {heading}", fontsize="medium", loc="left")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
            if heading in DASHED:
                axes.annotate(DASHED[heading], (0.98, 0.02), xycoords="axes fraction", ha="right", fontsize="x-small")
            axes.set_xlabel("epoch" if level == levels[-1] else "")
            axes.grid(alpha=0.3)
            hide_frame(axes)
    legend_above(figure, found, 4)
    return figure


def draw_trust(lines: Sequence[Line]) -> Figure:
    """Draw the global trust g(t) of the chosen τ and B over training: one panel per noise level.

    Args:
        lines: Lines with ``trust``, at least one.
    """
    levels = list(dict.fromkeys(line.noise for line in lines))
    size = (0.8 + 3.2 * len(levels), 3.3)
    figure, grid = plt.subplots(1, len(levels), figsize=size, layout="constrained", squeeze=False, sharey=True)
    progress = np.linspace(0, 1, TRUST_STEPS)
    for axes, level in zip(grid[0], levels, strict=True):
        for place, line in enumerate(line for line in lines if line.noise == level):
            assert line.trust is not None
            transit, base = line.trust
            colour, marker = colour_and_marker(place)
            values = [global_trust(float(share), base, transit) for share in progress]
            axes.plot(
                progress, values, color=colour, marker=marker,
                markevery=TRUST_STEPS // MARKS, markersize=5, label=f"{line.name}: τ {transit:.2g}, B {base:.3g}",
            )  # fmt: skip
            axes.axvline(transit, color=colour, linestyle=":", linewidth=1)
        axes.set_title(level, fontsize="medium", loc="left")
        axes.set_xlabel("share of the planned steps, t/Γ")
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="x-small", loc="lower right")
        hide_frame(axes)
    grid[0][0].set_ylabel("global trust g(t)")
    return figure
