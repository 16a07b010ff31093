"""Figures of confusion matrices and of their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from analysis.common.style import hide_panels
from analysis.sections.confusion.matrices import shares
from ser.noise.transition_figure import MAP, luminance

DIVERGING = "PuOr_r"
"""Brewer's palette, suitable for colour-blind readers: orange for larger, purple for smaller, white for 0."""
LEAST_LIMIT = 10.0
"""Smallest number of percentage points at full colour, so that small differences look small."""
DARK = 0.179
"""Luminance at which black and white text have the same contrast (WCAG 2)."""


def draw_confusions(panels: Mapping[str, NDArray[np.float64]], classes: Sequence[str], columns: int) -> Figure:
    """Draw confusion matrices, each row in percent of its label's utterances.

    Args:
        panels: Title → (C, C) counts, label × predicted.
        classes: The C class names.
        columns: Panels per row.

    Returns:
        The figure; shares that round to 0 are blank.
    """
    figure, grid = _grid(len(panels), columns, len(classes))
    for axes, (title, counts) in zip(grid, panels.items(), strict=False):
        percent = 100 * shares(counts)
        image = axes.imshow(percent, cmap=MAP, vmin=0, vmax=100)
        _write_cells(axes, image, percent, "{:.0f}")
        rows = [f"{name} ({total:.0f})" for name, total in zip(classes, counts.sum(axis=1), strict=True)]
        _label(axes, title, rows, classes)
    figure.colorbar(image, ax=list(grid), label="% of the true label's utterances", shrink=0.6, aspect=30)
    return figure


def draw_differences(panels: Mapping[str, NDArray[np.float64]], classes: Sequence[str], columns: int) -> Figure:
    """Draw differences of row-normalised confusion matrices, in percentage points.

    Args:
        panels: Title → (C, C) differences of shares, from −1 to 1.
        classes: The C class names.
        columns: Panels per row.

    Returns:
        The figure; differences that round to 0 are blank.
    """
    figure, grid = _grid(len(panels), columns, len(classes))
    limit = max([LEAST_LIMIT, *(100 * float(np.nanmax(np.abs(values), initial=0)) for values in panels.values())])
    for axes, (title, values) in zip(grid, panels.items(), strict=False):
        image = axes.imshow(100 * values, cmap=DIVERGING, vmin=-limit, vmax=limit)
        _write_cells(axes, image, 100 * values, "{:+.0f}")
        for place in range(len(classes)):  # a larger share is better on the diagonal
            outline = Rectangle((place - 0.47, place - 0.47), 0.94, 0.94, fill=False, edgecolor="black")
            axes.add_patch(outline)
        _label(axes, title, classes, classes)
    figure.colorbar(image, ax=list(grid), label="percentage points", shrink=0.6, aspect=30)
    return figure


def _grid(panels: int, columns: int, classes: int) -> tuple[Figure, list[Axes]]:
    across = min(columns, panels)
    down = -(-panels // across)
    side = 1.4 + 0.36 * classes
    size = (0.9 + side * across, 0.2 + (side - 0.25) * down)
    figure, grid = plt.subplots(down, across, figsize=size, layout="constrained", squeeze=False)
    hide_panels(grid.flat[panels:])
    return figure, list(grid.flat[:panels])


def _write_cells(axes: Axes, image: AxesImage, values: NDArray[np.float64], form: str) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value) and round(value) != 0:
            dark = luminance(image.to_rgba(np.array([value]))[0].tolist()) < DARK
            text = form.format(value).replace("-", "−")
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")


def _label(axes: Axes, title: str, rows: Sequence[str], columns: Sequence[str]) -> None:
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_title(title, fontsize="medium", loc="left")
    axes.set_xlabel("predicted", fontsize=8)
    axes.set_ylabel("true label (utterances)" if rows != columns else "true label", fontsize=8)
