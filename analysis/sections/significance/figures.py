"""Figure of the differences between methods and the reference, with their intervals."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.common.style import MARKS
from analysis.inference import NOT_POSSIBLE

UNSEEN = "lightgrey"


def draw_differences(compared: pd.DataFrame, reference: str) -> Figure:
    """Draw each method's difference from the reference with its interval, a panel for each noise level.

    Args:
        compared: Rows of ``Family.compared`` with a verdict, at least one.
        reference: Method that the others are compared with.

    Returns:
        The figure; the grey band is what the design finds with less than 80 % power.
    """
    levels = list(dict.fromkeys(compared["level"]))
    methods = list(dict.fromkeys(compared["method"]))[::-1]
    size = (1.6 + 2.5 * len(levels), 1.9 + 0.34 * len(methods))
    figure, grid = plt.subplots(1, len(levels), figsize=size, sharex=True, sharey=True, squeeze=False)
    figure.set_layout_engine("constrained")
    for axes, level in zip(grid.flat, levels, strict=True):
        rows = compared[compared["level"] == level]
        for row in rows.to_dict("records"):
            _draw_difference(axes, methods.index(row["method"]), row)
        axes.axvline(0, color="black", linewidth=0.8)
        rate = rows["rate"].iloc[0]
        axes.set_title(level if pd.isna(rate) else f"{level}, {rate:.1%} wrong", fontsize="medium", loc="left")
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    axes = grid.flat[0]
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(-0.6, len(methods) - 0.4)
    figure.supxlabel(f"difference of test UAR (method − {reference}), points", fontsize="medium")
    handles: list[Line2D | Patch] = [
        Line2D([], [], marker=marker, color="black", markerfacecolor=face, label=label, linestyle="none")
        for verdict, (marker, face, label) in MARKS.items()
        if (compared["verdict"] == verdict).any()
    ]
    if np.isfinite(compared["detectable"]).any():
        handles.append(Patch(color=UNSEEN, label="found with less than 80 % power"))
    figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False, fontsize="small")
    return figure


def _draw_difference(axes: Axes, place: int, row: Mapping[Hashable, Any]) -> None:
    marker, face, _ = MARKS[str(row["verdict"])]
    if np.isfinite(row["detectable"]):
        reach = 100 * row["detectable"]
        axes.barh(place, 2 * reach, left=-reach, height=0.62, color=UNSEEN, zorder=1)
    if np.isfinite(row["low"]) and row["verdict"] != NOT_POSSIBLE:
        axes.plot([100 * row["low"], 100 * row["high"]], [place, place], color="black", linewidth=1.4, zorder=2)
    axes.plot(
        100 * row["difference"], place, marker=marker, markersize=7, color="black", markerfacecolor=face, zorder=3
    )
