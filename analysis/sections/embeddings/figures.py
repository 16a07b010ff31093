"""Figure of embeddings in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.common.style import MARKERS, PALETTE


def draw_embeddings(panels: Mapping[str, tuple[NDArray[np.float64], Mapping[str, Sequence[str]]]]) -> Figure:
    """Draw embeddings: one row per network, one panel per attribute that colours the points.

    Args:
        panels: Title → the (n, 2) points, and attribute → its n values; all with the same attributes.

    Returns:
        The figure, without ticks because positions have no unit.
    """
    attributes = list(next(iter(panels.values()))[1])
    names = {
        attribute: list(dict.fromkeys(sorted(name for _, about in panels.values() for name in about[attribute])))
        for attribute in attributes
    }
    size = (0.4 + 4.0 * len(attributes), 0.9 + 3.6 * len(panels))
    figure, grid = plt.subplots(len(panels), len(attributes), figsize=size, layout="constrained", squeeze=False)
    for line, (title, (points, about)) in zip(grid, panels.items(), strict=True):
        for axes, attribute in zip(line, attributes, strict=True):
            member = np.asarray(about[attribute], dtype=object)
            for place, name in enumerate(names[attribute]):
                chosen = points[member == name]
                # Colours repeat after eight names, with other markers.
                marker = MARKERS[(place + place // len(PALETTE)) % len(MARKERS)]
                axes.scatter(
                    *chosen.T, s=16, marker=marker, color=PALETTE[place % len(PALETTE)], alpha=0.8, linewidths=0,
                    label=name,
                )  # fmt: skip
            axes.set_title(f"{title}, by {attribute}", fontsize="medium", loc="left")
            axes.set_xticks([])
            axes.set_yticks([])
    for axes, attribute in zip(grid[-1], attributes, strict=True):
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(
            handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=min(len(names[attribute]), 4),
            frameon=False, fontsize="small", handletextpad=0.2, columnspacing=0.8,
        )  # fmt: skip
    return figure
