"""Figure of embeddings in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.common.style import MARKERS, METHOD_COLOURS

MOST_SHAPES = 1000
"""Points of a figure up to which each is a shape; more are drawn as pixels, so that the file stays small."""


def draw_embeddings(panels: Mapping[str, tuple[NDArray[np.float64], Mapping[str, Sequence[str]]]]) -> Figure:
    """Draw embeddings: one row per network, one panel per attribute that colours the points.

    Args:
        panels: Title → the (n, 2) points, and attribute → its n values; all with the same attributes.

    Returns:
        The figure, without ticks because positions have no unit; all text is drawn as text.
    """
    attributes = list(next(iter(panels.values()))[1])
    names = {
        attribute: list(dict.fromkeys(sorted(name for _, about in panels.values() for name in about[attribute])))
        for attribute in attributes
    }
    are_pixels = len(attributes) * sum(len(points) for points, _ in panels.values()) > MOST_SHAPES
    size = (0.6 + 4.0 * len(attributes), 0.9 + 3.6 * len(panels))
    figure, grid = plt.subplots(len(panels), len(attributes), figsize=size, layout="constrained", squeeze=False)
    for line, (title, (points, about)) in zip(grid, panels.items(), strict=True):
        for axes, attribute in zip(line, attributes, strict=True):
            member = np.asarray(about[attribute], dtype=object)
            for place, name in enumerate(names[attribute]):
                chosen = points[member == name]
                # Colours repeat after seven names, markers after eight.
                colour = METHOD_COLOURS[place % len(METHOD_COLOURS)]
                marker = MARKERS[place % len(MARKERS)]
                axes.scatter(
                    *chosen.T, s=16, marker=marker, color=colour, alpha=0.8, linewidths=0, label=name,
                    rasterized=are_pixels,
                )  # fmt: skip
            axes.set_title(f"{title}, by {attribute}", fontsize="medium", loc="left")
            axes.set_xlabel("t-SNE, first dimension (no unit)", fontsize=8)
            axes.set_ylabel("second dimension (no unit)", fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])
    for axes, attribute in zip(grid[-1], attributes, strict=True):
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(
            handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=min(len(handles), 4), frameon=False,
            title=attribute, fontsize="small", title_fontsize="small", handletextpad=0.2, columnspacing=0.8,
        )  # fmt: skip
    return figure
