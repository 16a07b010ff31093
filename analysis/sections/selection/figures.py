"""Figures of choices: scores by other labels, or at another noise level, against the score that judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from analysis.common.style import hide_frame, hide_panels, legend_above, method_style
from study.schema import in_words


@dataclass(frozen=True)
class Scatter:
    """Trials by two scores.

    Args:
        title: Title of the panel.
        points: ``space``, ``x``, ``y``, and ``chosen`` (whether the mark is filled), in the units of the axes.
        x: Axis title of ``x``.
        y: Axis title of ``y``.
        best: Largest ``y`` of all trials, drawn as a line; None draws none.
    """

    title: str
    points: pd.DataFrame
    x: str
    y: str
    best: float | None = None


def draw_scatters(panels: Sequence[Scatter], columns: int, title: str) -> Figure:
    """Draw panels of trials by two scores, with one colour and marker per method.

    Args:
        panels: At least one.
        columns: Panels per row.
        title: Title of the legend.
    """
    rows = -(-len(panels) // columns)
    size = (0.8 + 3.1 * columns, 0.8 + 3.0 * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    spaces = sorted({space for panel in panels for space in panel.points["space"]})
    found: dict[str, Artist] = {}
    for axes, panel in zip(grid.flat, panels, strict=False):
        for space in spaces:
            points = panel.points[panel.points["space"] == space]
            colour, marker = method_style(space)
            picked = points["chosen"].to_numpy(dtype=bool)
            x, y = points["x"].to_numpy(dtype=np.float64), points["y"].to_numpy(dtype=np.float64)
            found[in_words(space)] = axes.scatter(x, y, s=22, marker=marker, facecolors="none", edgecolors=colour)
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
        hide_frame(axes)
    hide_panels(grid.flat[len(panels) :])
    legend_above(figure, found, 2 * columns, title)
    return figure
