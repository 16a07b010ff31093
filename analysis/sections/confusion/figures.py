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
ON_LIGHT, ON_DARK = "#101010", "#F5F5F5"
"""Colours of what is drawn on cells; unlike black and white, they do not follow the paper of the page."""
CELL, GAP, LETTER = 0.36, 0.2, 0.075
"""Widths in inches of a cell, between panels, and of a letter of a class name."""
WIDEST = 10.5
"""Largest width of the panels in inches."""


def draw_confusions(panels: Mapping[str, NDArray[np.float64]], classes: Sequence[str], columns: int) -> Figure:
    """Draw confusion matrices, each row in percent of its class's utterances.

    Args:
        panels: Title → (C, C) counts, true × predicted.
        classes: The C class names.
        columns: Largest number of panels per row.

    Returns:
        The figure; shares that round to 0 are blank.
    """
    figure, grid, across = _grid(len(panels), columns, classes)
    named = [
        [f"{name} ({total:.0f})" for name, total in zip(classes, counts.sum(axis=1), strict=True)]
        for counts in panels.values()
    ]
    for place, (axes, (title, counts)) in enumerate(zip(grid, panels.items(), strict=True)):
        percent = 100 * shares(counts)
        image = axes.imshow(percent, cmap=MAP, vmin=0, vmax=100, aspect="auto")
        _write_cells(axes, image, percent, "{:.0f}")
        is_first = place % across == 0 or named[place] != named[place - place % across]
        _label(axes, title, named[place] if is_first else None, classes if place + across >= len(panels) else None)
        if place % across == 0:
            axes.set_ylabel("true class (utterances)", fontsize=8)
    figure.colorbar(image, ax=grid, label="% of the true class", shrink=0.6, aspect=30)
    return figure


def draw_differences(panels: Mapping[str, NDArray[np.float64]], classes: Sequence[str], columns: int) -> Figure:
    """Draw differences of row-normalised confusion matrices, in percentage points.

    Args:
        panels: Title → (C, C) differences of shares, from −1 to 1.
        classes: The C class names.
        columns: Largest number of panels per row.

    Returns:
        The figure; differences that round to 0 are blank.
    """
    figure, grid, across = _grid(len(panels), columns, classes)
    limit = max([LEAST_LIMIT, *(100 * float(np.nanmax(np.abs(values), initial=0)) for values in panels.values())])
    for place, (axes, (title, values)) in enumerate(zip(grid, panels.items(), strict=True)):
        image = axes.imshow(100 * values, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
        _write_cells(axes, image, 100 * values, "{:+.0f}")
        for diagonal in range(len(classes)):  # a larger share is better on the diagonal
            corner = (diagonal - 0.47, diagonal - 0.47)
            axes.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, edgecolor=ON_LIGHT))
        is_first = place % across == 0
        _label(axes, title, classes if is_first else None, classes if place + across >= len(panels) else None)
        if is_first:
            axes.set_ylabel("true class", fontsize=8)
    figure.colorbar(image, ax=grid, label="difference, points", shrink=0.6, aspect=30)
    return figure


def _grid(panels: int, columns: int, classes: Sequence[str]) -> tuple[Figure, list[Axes], int]:
    """Return a figure, its panels, and how many of them there are in a row; they fit the width of a page."""
    side, names = CELL * len(classes) + GAP, LETTER * max(map(len, classes))
    across = max(1, min(columns, panels, int(WIDEST / side)))
    down = -(-panels // across)
    size = (1.9 + names + side * across, 0.6 + 0.7 * names + (side + 0.2) * down)  # cells are about square
    figure, grid = plt.subplots(down, across, figsize=size, layout="constrained", squeeze=False)
    figure.set_layout_engine("constrained", w_pad=0.1)
    hide_panels(grid.flat[panels:])
    return figure, list(grid.flat[:panels]), across


def _write_cells(axes: Axes, image: AxesImage, values: NDArray[np.float64], form: str) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value) and round(value) != 0:
            dark = luminance(image.to_rgba(np.array([value]))[0].tolist()) < DARK
            cell = axes.text(
                column, row, form.format(value).replace("-", "−"), ha="center", va="center", fontsize=8,
                color=ON_DARK if dark else ON_LIGHT,
            )  # fmt: skip
            cell.set_in_layout(False)  # it lies within the panel; measuring it would take most of the drawing's time


def _label(axes: Axes, title: str, rows: Sequence[str] | None, columns: Sequence[str] | None) -> None:
    """Write the title, the names of the rows and those of the columns; None is those of a neighbouring panel."""
    if columns is None:
        axes.set_xticks([])
    else:
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_xlabel("predicted class", fontsize=8)
    if rows is None:
        axes.set_yticks([])
    else:
        axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_title(title, fontsize="medium", loc="left")
