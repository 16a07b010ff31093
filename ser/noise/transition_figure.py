"""Figure of a transition matrix."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

MAP = "cividis"
"""Sequential colour map that colour vision deficiency does not change (Nuñez, Anderton and Renslow 2018)."""


def draw_transition(classes: Sequence[str], rates: ArrayLike, title: str) -> Figure:
    """Draw a transition matrix as a heat map with its rates as text.

    Args:
        classes: The C class names.
        rates: (C, C) in [0, 1], true × noisy.
        title: Title, one or more lines.

    Returns:
        The figure; rates that round to 0 have no text.
    """
    table = np.asarray(rates, dtype=float)
    size = 1.8 + 0.55 * len(classes)
    figure = Figure(figsize=(size + 0.8, size + 0.4), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(table, cmap=MAP, vmin=0.0, vmax=1.0)
    for (row, column), rate in np.ndenumerate(table):
        if text := f"{rate:.2f}".removeprefix("0") if rate >= 0.005 else "":
            # At this luminance black and white text have the same contrast (WCAG 2).
            dark = luminance(image.cmap(rate)) < 0.179
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("noisy label")
    axes.set_ylabel("true label")
    axes.set_title(title, fontsize="medium")
    figure.colorbar(image, ax=axes, label="share of the true label", shrink=0.8)
    return figure


def to_png(figure: Figure) -> bytes:
    """Render a figure as PNG at 150 dpi, with the same bytes each time."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def luminance(colour: Sequence[float]) -> float:
    """Compute the relative luminance of an RGB or RGBA colour in sRGB, 0 to 1 (WCAG 2)."""
    values = np.asarray(colour[:3], dtype=float)
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
