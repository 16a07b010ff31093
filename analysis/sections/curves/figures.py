"""Figures of training curves and of the global trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.common.style import hide_frame, legend_above
from analysis.sections.curves.epochs import CHANGED, CORRECTED, MEMORISED, SOFT, TRAIN_F1, VALIDATION_F1, Line
from ser.losses import global_trust
from study.schema import in_words


@dataclass(frozen=True)
class Panel:
    """Metrics that share axes.

    Args:
        title: Axis title, with its unit.
        names: Metric → its name in words; the first is drawn solid, the second dashed.
        scale: Factor from recorded to drawn values.
    """

    title: str
    names: Mapping[str, str]
    scale: float = 100.0


PANELS = (
    Panel("weighted F1, %", {VALIDATION_F1: "validation F1", TRAIN_F1: "training F1"}),
    Panel("cross entropy against\nthe annotators' votes, nats", {SOFT: "cross entropy against the votes"}, scale=1.0),
    Panel("training labels, %", {CHANGED: "labels changed", CORRECTED: "changed to the true label"}),
    Panel("wrong labels memorised, %", {MEMORISED: "wrong labels memorised"}),
)
MARKS = 6
TRUST_STEPS = 201

Styles = Mapping[str, tuple[str, str]]
"""Line → its colour and marker."""


def draw_curves(curves: pd.DataFrame, styles: Styles) -> tuple[Figure, dict[str, str]]:
    """Draw curves over epochs: one row per noise level, one column per metric, one colour per line.

    Args:
        curves: From ``analysis.sections.curves.epochs.mean_curves``, at most eight lines per level.
        styles: Colour and marker of each line.

    Returns:
        The figure and, for the last point of each curve, gid → text for hovering.
    """
    levels = list(dict.fromkeys(curves["noise"]))
    shown = [panel for panel in PANELS if set(panel.names) & set(curves["metric"])]
    size = (1.0 + 3.2 * len(shown), 1.0 + 2.5 * len(levels))
    figure, grid = plt.subplots(len(levels), len(shown), figsize=size, layout="constrained", squeeze=False)
    found: dict[str, Artist] = {}
    hover: dict[str, str] = {}
    for row, level in zip(grid, levels, strict=True):
        metrics = set(curves[curves["noise"] == level]["metric"])
        for axes, panel in zip(row, shown, strict=True):
            for (metric, what), style in zip(panel.names.items(), ("-", "--"), strict=False):
                of_metric = curves[(curves["noise"] == level) & (curves["metric"] == metric)]
                for name, line in of_metric.groupby("line", sort=False):
                    colour, marker = styles[str(name)]
                    mean, deviation = panel.scale * line["mean"], panel.scale * line["deviation"]
                    axes.plot(
                        line["epoch"], mean, color=colour, linestyle=style, marker=marker, markersize=4,
                        linewidth=1.6 if style == "-" else 1.0, markevery=max(1, len(line) // MARKS),
                    )  # fmt: skip
                    axes.fill_between(
                        line["epoch"], mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0
                    )
                    gid = f"curves-{len(hover)}"
                    end, last = line["epoch"].iloc[-1], mean.iloc[-1]
                    axes.plot(end, last, color=colour, marker=marker, markersize=6, zorder=3, gid=gid)
                    value = f"{last:.1f}%" if panel.scale > 1 else f"{last:.3f} nats"
                    hover[gid] = f"{in_words(str(name))}, {level}, epoch {end}, {what}: {value}"
                    found[in_words(str(name))] = Line2D([], [], color=colour, marker=marker, markersize=5)
            drawn = [what for metric, what in panel.names.items() if metric in metrics]
            axes.set_visible(bool(drawn))
            axes.set_title(level, fontsize="medium", loc="left")
            axes.set_title(f"dashed: {drawn[1]}" if len(drawn) > 1 else "", fontsize="x-small", loc="right")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
            axes.set_xlabel("epoch" if level == levels[-1] else "")
            axes.set_ylabel(panel.title, fontsize="small")
            axes.grid(alpha=0.3)
            hide_frame(axes)
    legend_above(figure, found, 4)
    return figure, hover


def draw_trust(lines: Sequence[Line], styles: Styles) -> Figure:
    """Draw the global trust g(t) of the chosen τ and B over training: one panel per noise level.

    Args:
        lines: Lines with ``trust``, at least one.
        styles: Colour and marker of each line.
    """
    levels = list(dict.fromkeys(line.noise for line in lines))
    size = (0.8 + 3.2 * len(levels), 3.3)
    figure, grid = plt.subplots(1, len(levels), figsize=size, layout="constrained", squeeze=False, sharey=True)
    progress = np.linspace(0, 1, TRUST_STEPS)
    for axes, level in zip(grid[0], levels, strict=True):
        for line in (line for line in lines if line.noise == level):
            assert line.trust is not None
            transit, base = line.trust
            colour, marker = styles[line.name]
            values = [global_trust(float(share), base, transit) for share in progress]
            axes.plot(
                progress, values, color=colour, marker=marker, markevery=TRUST_STEPS // MARKS, markersize=5,
                label=f"{in_words(line.name)}: τ {transit:.2g}, B {base:.3g}",
            )  # fmt: skip
            axes.axvline(transit, color=colour, linestyle=":", linewidth=1)
        axes.set_title(level, fontsize="medium", loc="left")
        axes.set_xlabel("share of the training steps, t/Γ")
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="x-small", loc="lower right")
        hide_frame(axes)
    grid[0][0].set_ylabel("global trust g(t), from 0 to 1")
    return figure
