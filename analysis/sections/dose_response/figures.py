"""Figure of the difference from the reference over the noise levels."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.common.style import MARKS, hide_frame, hide_panels, legend_above
from analysis.inference import NOT_POSSIBLE

COLUMNS = 3


def draw_dose_response(compared: pd.DataFrame, single: pd.DataFrame, reference: str) -> Figure:
    """Draw each method's difference from the reference by noise rate, a panel for each method.

    Args:
        compared: Rows of ``Family.compared`` with a verdict and a known rate, at least one.
        single: Differences of single units: ``method``, ``rate``, ``difference``; drawn instead of an interval where no
            evidence was possible.
        reference: Method that the others are compared with.
    """
    methods = list(dict.fromkeys(compared["method"]))
    columns = min(COLUMNS, len(methods))
    rows = math.ceil(len(methods) / columns)
    size = (1.2 + 2.7 * columns, 0.9 + 2.4 * rows)
    figure, grid = plt.subplots(
        rows, columns, figsize=size, layout="constrained", sharex=True, sharey=True, squeeze=False
    )
    for axes, method in zip(grid.flat, methods, strict=False):
        mine = compared[compared["method"] == method].sort_values("rate", kind="stable")
        rates, heights = 100 * mine["rate"].to_numpy(), 100 * mine["difference"].to_numpy()
        axes.axhline(0, color="black", linewidth=0.8)
        axes.plot(rates, heights, color="grey", linewidth=1.2, zorder=1)
        for rate, height, row in zip(rates, heights, mine.to_dict("records"), strict=True):
            marker, face, _ = MARKS[row["verdict"]]
            if row["verdict"] != NOT_POSSIBLE and np.isfinite(row["low"]):
                axes.plot([rate, rate], [100 * row["low"], 100 * row["high"]], color="black", linewidth=1.2, zorder=2)
            axes.plot(rate, height, marker=marker, markersize=7, color="black", markerfacecolor=face, zorder=3)
        units = single[single["method"] == method]
        axes.plot(100 * units["rate"], 100 * units["difference"], "x", color="grey", markersize=4, zorder=1)
        axes.set_title(method, fontsize="medium", loc="left")
        axes.grid(alpha=0.3)
        hide_frame(axes)
    hide_panels(grid.flat[len(methods) :])
    figure.supxlabel("wrong labels in training, %", fontsize="medium")
    figure.supylabel(f"difference of test UAR\n(method − {reference}), points", fontsize="medium")
    entries: dict[str, Artist] = {
        label: Line2D([], [], marker=marker, color="black", markerfacecolor=face, linestyle="none")
        for verdict, (marker, face, label) in MARKS.items()
        if (compared["verdict"] == verdict).any()
    }
    if len(single):
        entries["single folds or trainings"] = Line2D([], [], marker="x", color="grey", linestyle="none")
    legend_above(figure, entries, 2)
    return figure
