"""Figure of the differences between methods and the reference, with their intervals."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.common.style import MARKS
from analysis.common.text import interval_text, percent, points
from analysis.inference import NOT_POSSIBLE
from study.schema import in_words

UNSEEN = "lightgrey"
NARROWEST = 6.6
"""Smallest width in inches, which the title of the horizontal axis needs."""


def draw_differences(
    compared: pd.DataFrame, single: Mapping[tuple[str, str], Sequence[float]], reference: str, name: str
) -> tuple[Figure, dict[str, str]]:
    """Draw each method's difference from the reference with its interval, a panel for each noise level.

    Args:
        compared: Rows of ``Family.compared`` with a verdict, at least one.
        single: (level, method) → differences of the single units, drawn where no evidence is possible.
        reference: Method that the others are compared with.
        name: Name of the figure, with which its gids begin.

    Returns:
        The figure and, for each mark, gid → text for hovering. The grey band is what the design finds with less than
        80 % power.
    """
    levels = list(dict.fromkeys(compared["level"]))
    methods = list(dict.fromkeys(compared["method"]))[::-1]
    size = (max(NARROWEST, 1.6 + 2.5 * len(levels)), 1.9 + 0.34 * len(methods))
    figure, grid = plt.subplots(1, len(levels), figsize=size, sharex=True, sharey=True, squeeze=False)
    figure.set_layout_engine("constrained")
    hover = {}
    for column, (axes, level) in enumerate(zip(grid.flat, levels, strict=True)):
        rows = compared[compared["level"] == level]
        for row in rows.to_dict("records"):
            place = methods.index(row["method"])
            gid = f"{name}-{column}-{place}"
            _draw_difference(axes, place, row, single.get((level, row["method"]), ()), gid)
            around = f", 95 % interval {interval_text(row['low'], row['high'])}" if has_interval(row) else ""
            hover[gid] = (
                f"{in_words(row['method'])} at {level}: {points(row['difference'])} points{around}; {row['verdict']}"
            )
        axes.axvline(0, color="black", linewidth=0.8)
        rate = rows["rate"].iloc[0]
        title = level if pd.isna(rate) else f"{level}, {percent(rate, 1)} wrong labels"
        axes.set_title(title, fontsize="medium", loc="left")
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    axes = grid.flat[0]
    axes.set_yticks(range(len(methods)), list(map(in_words, methods)))
    axes.set_ylim(-0.6, len(methods) - 0.4)
    figure.supxlabel(f"difference of test UAR (method − {in_words(reference)}), points", fontsize="medium")
    handles: list[Line2D | Patch] = [
        Line2D([], [], marker=marker, color="black", markerfacecolor=face, label=label, linestyle="none")
        for verdict, (marker, face, label) in MARKS.items()
        if (compared["verdict"] == verdict).any()
    ]
    if (impossible := compared["verdict"] == NOT_POSSIBLE).any():
        unit = compared.loc[impossible, "unit"].iloc[0]
        handles.append(Line2D([], [], marker="x", color="grey", label=f"single {unit}s", linestyle="none"))
    if np.isfinite(compared["detectable"]).any():
        handles.append(Patch(color=UNSEEN, label="found with less than 80 % power"))
    figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False, fontsize="small")
    return figure, hover


def has_interval(row: Mapping[Hashable, Any]) -> bool:
    """Return whether the interval of a comparison is shown: not where no evidence was possible.

    Args:
        row: Of ``Family.compared``.
    """
    return bool(row["verdict"] != NOT_POSSIBLE and np.isfinite(row["low"]))


def _draw_difference(axes: Axes, place: int, row: Mapping[Hashable, Any], single: Sequence[float], gid: str) -> None:
    marker, face, _ = MARKS[str(row["verdict"])]
    if np.isfinite(row["detectable"]):
        reach = 100 * row["detectable"]
        axes.barh(place, 2 * reach, left=-reach, height=0.62, color=UNSEEN, zorder=1)
    if has_interval(row):
        axes.plot([100 * row["low"], 100 * row["high"]], [place, place], color="black", linewidth=1.4, zorder=2)
    if row["verdict"] == NOT_POSSIBLE:
        axes.plot(100 * np.array(single), np.full(len(single), place), "x", color="grey", markersize=4, zorder=1)
    axes.plot(
        100 * row["difference"], place, marker=marker, markersize=7, color="black", markerfacecolor=face, zorder=3,
        gid=gid,
    )  # fmt: skip
