"""The figures of analysis/significance.py: differences with their intervals, and critical-difference diagrams."""

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

from analysis.common.style import PALETTE
from analysis.sections.significance.comparisons import BETTER, IMPOSSIBLE, NO_EVIDENCE, WORSE, LevelRanking

MARKS = {
    BETTER: ("o", PALETTE[0], "evidence that it is better"),
    WORSE: ("s", PALETTE[1], "evidence that it is worse"),
    NO_EVIDENCE: ("o", "white", "no evidence"),
    IMPOSSIBLE: ("D", "white", "no evidence was possible"),
}
UNSEEN = "lightgrey"


def draw_differences(comparisons: pd.DataFrame) -> Figure:
    """Each method's difference from the reference with its interval, a panel for each noise level.

    Args:
        comparisons: From ``comparisons.compare_all``, at least one row, of the same folds.

    Returns:
        The figure; the grey band is what the design would probably not have shown.
    """
    levels = list(dict.fromkeys(comparisons["noise"]))
    methods = sorted(set(comparisons["method"]), reverse=True)
    size = (1.6 + 2.5 * len(levels), 1.9 + 0.34 * len(methods))
    figure, grid = plt.subplots(1, len(levels), figsize=size, sharex=True, sharey=True, squeeze=False)
    figure.set_layout_engine("constrained")
    for axes, level in zip(grid.flat, levels, strict=True):
        for row in comparisons[comparisons["noise"] == level].to_dict("records"):
            _difference(axes, methods.index(row["method"]), row)
        axes.axvline(0, color="black", linewidth=0.8)
        rate = comparisons.loc[comparisons["noise"] == level, "rate"].iloc[0]
        axes.set_title(level if pd.isna(rate) else f"{level}, {rate:.1%} wrong", fontsize="medium", loc="left")
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    axes = grid.flat[0]
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(-0.6, len(methods) - 0.4)
    figure.supxlabel(f"difference of test UAR (method − {comparisons['reference'].iloc[0]}), points", fontsize="medium")
    verdicts = [verdict for verdict in MARKS if (comparisons["verdict"] == verdict).any()]
    handles: list[Line2D | Patch] = [
        Line2D([], [], marker=MARKS[name][0], color="black", markerfacecolor=MARKS[name][1], label=MARKS[name][2])
        for name in verdicts
    ]
    if np.isfinite(comparisons["smallest_detectable"]).any():
        handles.append(Patch(color=UNSEEN, label="seen less often than four times in five"))
    figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False, fontsize="small")
    return figure


def _difference(axes: Axes, place: int, row: Mapping[Hashable, Any]) -> None:
    marker, face, _ = MARKS[str(row["verdict"])]
    if np.isfinite(row["smallest_detectable"]):
        reach = 100 * row["smallest_detectable"]
        axes.barh(place, 2 * reach, left=-reach, height=0.62, color=UNSEEN, zorder=1)
    if np.isfinite(row["low"]):
        axes.plot([100 * row["low"], 100 * row["high"]], [place, place], color="black", linewidth=1.4, zorder=2)
    axes.plot(
        100 * row["difference"], place, marker=marker, markersize=7, color="black", markerfacecolor=face, zorder=3
    )


def draw_rankings(rankings: Sequence[LevelRanking]) -> Figure:
    """Critical-difference diagrams (Demšar 2006), one below the other: bars join what cannot be told apart.

    Args:
        rankings: Those with a ``ranking``, at least one.
    """
    heights = [1.0 + 0.26 * (len(level.methods) + 1) // 2 + 0.13 * len(_groups(level)) for level in rankings]
    figure, grid = plt.subplots(
        len(rankings), 1, figsize=(7.2, sum(heights) + 0.2), squeeze=False, height_ratios=heights
    )
    figure.set_layout_engine("constrained")
    for axes, level in zip(grid.flat, rankings, strict=True):
        _ranking(axes, level)
    return figure


def _groups(level: LevelRanking) -> tuple[tuple[int, ...], ...]:
    return () if level.ranking is None else level.ranking.groups


def _ranking(axes: Axes, level: LevelRanking) -> None:
    """One diagram; best on the left. The vertical unit is a line of text below the axis at 0."""
    if level.ranking is None:
        raise ValueError(f"{level.noise} has no ranking")
    ranks, count = level.ranking.ranks, len(level.methods)
    order = np.argsort(ranks, kind="stable")
    half = (count + 1) // 2
    bars = 0.45 * len(_groups(level))
    for tick in range(1, count + 1):
        axes.plot([tick, tick], [0, 0.18], color="black", linewidth=0.8)
        axes.text(tick, 0.3, str(tick), ha="center", va="bottom", fontsize="small")
    axes.plot([1, count], [0, 0], color="black", linewidth=0.8)
    margin = 0.12 * (count - 1)
    for position, index in enumerate(order):
        left = position < half
        line = (position if left else count - 1 - position) + 1 + bars
        end = 1 - margin if left else count + margin
        axes.plot([ranks[index], ranks[index], end], [0, -line, -line], color="black", linewidth=0.8)
        text = f"{level.methods[index]} ({ranks[index]:.2f})"
        axes.annotate(
            text, (end, -line), xytext=(-3 if left else 3, 0), textcoords="offset points",
            ha="right" if left else "left", va="center", fontsize="small",
        )  # fmt: skip
    for place, group in enumerate(_groups(level)):
        ends = ranks[list(group)]
        depth = -0.45 * (place + 0.8)
        axes.plot(
            [ends.min() - 0.03, ends.max() + 0.03], [depth, depth], color=PALETTE[0], linewidth=4,
            solid_capstyle="butt",
        )  # fmt: skip
    critical = level.ranking.critical_difference
    ruler = min(critical, count - 1.0)
    axes.plot([1, 1 + ruler], [1.55, 1.55], color="black", linewidth=1.2, marker="|")
    longer = ", longer than the axis" if critical > ruler else ""
    axes.text(1, 1.75, f"CD {critical:.2f}{longer}", fontsize="small", va="bottom")
    axes.set_title(f"{level.noise}: mean ranks over {level.blocks} blocks", fontsize="medium", loc="left")
    axes.set_xlim(1 - 3.2 * margin - 0.2, count + 3.2 * margin + 0.2)
    axes.set_ylim(-half - bars - 0.6, 2.6)
    axes.axis("off")
