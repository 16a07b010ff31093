"""Figures of choices: scores by other labels, or at another noise level, against those that count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from analysis.common.style import MARKERS, PALETTE


@dataclass(frozen=True)
class Scatter:
    """Trials by two scores.

    Args:
        title: Above the panel.
        points: ``space``, ``x``, ``y``, and ``chosen`` (what is drawn filled).
        x: What ``x`` is.
        y: What ``y`` is.
        best: The largest ``y`` that could have been had, drawn as a line; None draws none.
    """

    title: str
    points: pd.DataFrame
    x: str
    y: str
    best: float | None = None


def draw_scatters(panels: Sequence[Scatter], columns: int, title: str) -> Figure:
    """Panels of trials by two scores, a colour and a mark for each space.

    Args:
        panels: At least one.
        columns: Panels in a row.
        title: Of the legend: what a filled mark is.

    Returns:
        The figure.
    """
    rows = -(-len(panels) // columns)
    size = (0.8 + 3.1 * columns, 0.8 + 3.0 * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    spaces = sorted({space for panel in panels for space in panel.points["space"]})
    found: dict[str, Artist] = {}
    for axes, panel in zip(grid.flat, panels, strict=False):
        for number, space in enumerate(spaces):
            points = panel.points[panel.points["space"] == space]
            colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
            picked = points["chosen"].to_numpy(dtype=bool)
            x, y = points["x"].to_numpy(dtype=np.float64), points["y"].to_numpy(dtype=np.float64)
            found[space] = axes.scatter(x, y, s=22, marker=marker, facecolors="none", edgecolors=colour)
            axes.scatter(x[picked], y[picked], s=80, marker=marker, color=colour, edgecolors="black", zorder=3)
        if panel.best is not None:
            axes.axhline(panel.best, color="grey", linestyle=":", linewidth=1)
            axes.annotate(
                "best of all", (0, panel.best), xycoords=("axes fraction", "data"), xytext=(2, 2),
                textcoords="offset points", color="grey", fontsize="small",
            )  # fmt: skip
        axes.set_title(panel.title, fontsize="medium", loc="left")
        axes.set_xlabel(panel.x, fontsize="small")
        axes.set_ylabel(panel.y, fontsize="small")
        axes.grid(alpha=0.3)
        axes.margins(0.1)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    figure.legend(
        list(found.values()), list(found), loc="outside upper center", title=title, ncols=min(len(found), 2 * columns),
        frameon=False, fontsize="small", title_fontsize="small",
    )  # fmt: skip
    return figure
