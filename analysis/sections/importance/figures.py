"""Figures of a search: importance, slices, contours, parallel coordinates, and the expected best against the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray

from analysis.common.parameters import Axis, positions
from analysis.common.style import MARKERS, PALETTE
from analysis.sections.importance.scores import FANOVA, PED_ANOVA
from analysis.sections.importance.smoothing import kernel_mean

STYLES = ("-", "--", "-.", ":")
COLOURS = "cividis"  # made for the colour-blind, and rises evenly in print
GRID = 60
MARKS = 8  # marks on a line
STAR = {"marker": "*", "s": 150, "color": PALETTE[1], "edgecolors": "black", "zorder": 4}


@dataclass(frozen=True)
class Panel:
    """The finished trials of one search, ready to be drawn.

    Args:
        title: Noise level and space.
        axes: The parameters, the most important first.
        parameters: Of each trial.
        scores: (n,).
        best: Number of the chosen trial.
        label: What the score is.
        mode: ``max`` or ``min``: which scores are good.
    """

    title: str
    axes: Sequence[Axis]
    parameters: Sequence[Mapping[str, str]]
    scores: NDArray[np.float64]
    best: int
    label: str
    mode: str


def draw_importances(table: pd.DataFrame) -> Figure:
    """Importance with its spread: a panel for each space, a row for each parameter, a colour for each level.

    Args:
        table: From ``analysis.sections.importance.scores.importances``, with ``noise`` and ``space``.

    Returns:
        The figure.
    """
    spaces, levels = list(dict.fromkeys(table["space"])), list(dict.fromkeys(table["noise"]))
    heights = [table[table["space"] == space]["parameter"].nunique() for space in spaces]
    columns = min(len(spaces), 3)
    rows = -(-len(spaces) // columns)
    tallest = [max(heights[row * columns : (row + 1) * columns]) for row in range(rows)]
    inches = [0.8 + 0.24 * (1 + len(levels)) * height for height in tallest]
    figure, grid = plt.subplots(
        rows, columns, figsize=(1.2 + 3.6 * columns, 0.9 + sum(inches)), layout="constrained", squeeze=False,
        gridspec_kw={"height_ratios": inches},
    )  # fmt: skip
    lane = 0.8 / (2 * len(levels))
    for place, (axes, space) in enumerate(zip(grid.flat, spaces, strict=False)):
        of_space = table[table["space"] == space]
        fanova = of_space[of_space["evaluator"] == FANOVA]
        order = list(fanova.groupby("parameter")["importance"].mean().sort_values(ascending=False).index)
        for level_number, level in enumerate(levels):
            colour, marker = PALETTE[level_number % len(PALETTE)], MARKERS[level_number % len(MARKERS)]
            for kind, evaluator in enumerate((FANOVA, PED_ANOVA)):
                part = of_space[(of_space["noise"] == level) & (of_space["evaluator"] == evaluator)]
                places = np.array([order.index(name) for name in part["parameter"]], dtype=float)
                y = places - 0.4 + (2 * level_number + kind + 0.5) * lane
                axes.hlines(y, part["low"], part["high"], color=colour, linewidth=1.2)
                filled = colour if evaluator == FANOVA else "white"
                name = f"{level} {evaluator}"
                axes.scatter(part["importance"], y, s=28, marker=marker, c=filled, edgecolors=colour, label=name)
                axes.vlines(part["chance"], y - 0.45 * lane, y + 0.45 * lane, color="black", linewidth=1.5)
        axes.set_yticks(range(len(order)), [name.partition(".")[2] for name in order])
        axes.set_ylim(tallest[place // columns] - 0.4, -0.6)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("importance")
        axes.set_title(space, fontsize="medium", loc="left")
        axes.grid(axis="x", alpha=0.3)
        _bare(axes)
    _hide(grid.flat[len(spaces) :])
    found: dict[str, Artist] = {}
    for axes in grid.flat[: len(spaces)]:
        found |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    _legend(figure, found, "bar: range over resamples; tick: what shuffled scores reach", 2 * columns)
    return figure


def draw_slices(panels: Sequence[Panel], shown: int = 5) -> Figure:
    """Every trial's score against each parameter: a row for each search, the most important parameters from the left.

    Args:
        panels: At least one.
        shown: Parameters of each.

    Returns:
        The figure.
    """
    columns = min(shown, max(len(panel.axes) for panel in panels))
    size = (0.9 + 2.3 * columns, 0.5 + 2.4 * len(panels))
    figure, grid = plt.subplots(len(panels), columns, figsize=size, layout="constrained", squeeze=False)
    for row, panel in zip(grid, panels, strict=True):
        cube = positions(panel.axes, panel.parameters)
        for column, axes in enumerate(row):
            if column >= len(panel.axes):
                axes.set_visible(False)
                continue
            axis = panel.axes[column]
            axes.scatter(cube[:, column], panel.scores, s=18, facecolors="none", edgecolors=PALETTE[0], linewidths=1)
            axes.scatter(cube[panel.best, column], panel.scores[panel.best], **STAR)
            if not axis.choices:
                at = np.linspace(0, 1, GRID)
                line = kernel_mean(cube[:, [column]], panel.scores, at[:, None])
                axes.plot(at, line, color="grey", linewidth=1.2)
            _ticks(axes, axis, "x")
            axes.set_xlabel(axis.short, fontsize="small")
            axes.grid(axis="y", alpha=0.3)
            _bare(axes)
            if column:
                axes.set_yticklabels([])
            axes.set_ylim(*_limits(panel.scores))
        row[0].set_ylabel(panel.label, fontsize="small")
        row[0].set_title(panel.title, fontsize="medium", loc="left")
    return figure


def draw_contours(panels: Sequence[Panel]) -> Figure:
    """The mean score over the two most important numbers of each search, blank where no trial is near.

    Args:
        panels: At least one; each with at least two parameters that are numbers.

    Returns:
        The figure.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    size = (3.9 * columns, 3.3 * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    side = np.linspace(0, 1, GRID)
    across, along = np.meshgrid(side, side)
    at = np.column_stack([across.ravel(), along.ravel()])
    for axes, panel in zip(grid.flat, panels, strict=False):
        pair = [axis for axis in panel.axes if not axis.choices][:2]
        cube = positions(pair, panel.parameters)
        surface = np.ma.masked_invalid(kernel_mean(cube, panel.scores, at).reshape(GRID, GRID))
        colours = COLOURS if panel.mode == "max" else f"{COLOURS}_r"
        drawn = axes.contourf(across, along, surface, levels=8, cmap=colours)
        bar = figure.colorbar(drawn, ax=axes)
        bar.set_label(panel.label, fontsize="small")
        bar.ax.tick_params(labelsize="small")
        axes.scatter(cube[:, 0], cube[:, 1], s=16, facecolors="white", edgecolors="black", linewidths=0.8)
        axes.scatter(cube[panel.best, 0], cube[panel.best, 1], **STAR)
        _ticks(axes, pair[0], "x")
        _ticks(axes, pair[1], "y")
        axes.set_xlabel(pair[0].short)
        axes.set_ylabel(pair[1].short)
        axes.set_title(panel.title, fontsize="medium", loc="left")
    _hide(grid.flat[len(panels) :])
    return figure


def draw_parallel(panels: Sequence[Panel]) -> Figure:
    """Parallel coordinates: each trial a line through its parameters, coloured by its score, good ones in front.

    Args:
        panels: At least one.

    Returns:
        The figure.
    """
    widest = max(len(panel.axes) for panel in panels)
    size = (2.2 + 1.3 * widest, 0.3 + 2.6 * len(panels))
    figure, grid = plt.subplots(len(panels), 1, figsize=size, layout="constrained", squeeze=False)
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        cube = positions(panel.axes, panel.parameters)
        low, high = float(panel.scores.min()), float(panel.scores.max())
        colours = plt.get_cmap(COLOURS if panel.mode == "max" else f"{COLOURS}_r")
        scale = Normalize(low, high)
        order = np.argsort(panel.scores if panel.mode == "max" else -panel.scores, kind="stable")
        for rank, trial in enumerate(order, start=1):
            opacity = 0.25 + 0.75 * rank / len(order)
            axes.plot(cube[trial], color=colours(scale(panel.scores[trial])), alpha=opacity, linewidth=1.2)
        axes.plot(cube[panel.best], color=PALETTE[1], linewidth=2.5, linestyle="--")
        for place, axis in enumerate(panel.axes):
            axes.axvline(place, color="black", linewidth=0.8)
            for position, value, side in ((0, axis.low, "top"), (1, axis.high, "bottom")):
                text = axis.choices[int(value)] if axis.choices else f"{value:.3g}"
                gap = (0, -3 if position == 0 else 3)
                axes.annotate(
                    text, (place, position), xytext=gap, textcoords="offset points", ha="center", va=side, size="small"
                )
        axes.set_xticks(range(len(panel.axes)), [axis.short for axis in panel.axes], fontsize="small")
        axes.tick_params(axis="x", length=0, pad=14)
        axes.set_yticks([])
        axes.set_ylim(-0.02, 1.02)
        axes.set_title(panel.title, fontsize="medium", loc="left", pad=16)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(plt.cm.ScalarMappable(norm=scale, cmap=colours), ax=axes)
        bar.set_label(panel.label, fontsize="small")
    return figure


def draw_budgets(curves: pd.DataFrame, label: str) -> Figure:
    """The expected best score against the number of trials: a panel for each level, a line for each space.

    Args:
        curves: From ``analysis.sections.importance.expected_performance.expected_best``, with ``noise`` and ``space``.
        label: What the score is.

    Returns:
        The figure.
    """
    levels, spaces = list(dict.fromkeys(curves["noise"])), sorted(set(curves["space"]))
    size = (0.8 + 3.4 * len(levels), 3.8)
    figure, grid = plt.subplots(1, len(levels), figsize=size, layout="constrained", squeeze=False, sharey=True)
    found: dict[str, Artist] = {}
    for axes, level in zip(grid[0], levels, strict=True):
        for number, space in enumerate(spaces):
            curve = curves[(curves["noise"] == level) & (curves["space"] == space)]
            if curve.empty:
                continue
            colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
            (found[space],) = axes.plot(
                curve["trials"], curve["expected"], color=colour, marker=marker, markersize=5,
                markevery=max(1, len(curve) // MARKS), linestyle=STYLES[number // len(PALETTE) % len(STYLES)],
            )  # fmt: skip
            band = curve[curve["band"]]
            below, above = band["expected"] - band["deviation"], band["expected"] + band["deviation"]
            axes.fill_between(band["trials"], below, above, color=colour, alpha=0.12, linewidth=0)
        axes.set_xlabel("finished trials")
        axes.set_title(level, fontsize="medium", loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        _bare(axes)
    grid[0][0].set_ylabel(f"expected best {label}")
    _legend(figure, found, "band: standard deviation of the best", 4)
    return figure


def _ticks(axes: Axes, axis: Axis, side: str) -> None:
    """Ticks at round values of a parameter that is drawn by its positions."""
    places = np.linspace(0, 1, len(axis.choices)) if axis.choices else np.array([0.0, 0.5, 1.0])
    texts = axis.choices or tuple(f"{axis.value_at(float(place)):.2g}" for place in places)
    choose = axes.set_xticks if side == "x" else axes.set_yticks
    choose(list(places), list(texts), fontsize="x-small")
    (axes.xaxis if side == "x" else axes.yaxis).set_minor_formatter(NullFormatter())
    (axes.set_xlim if side == "x" else axes.set_ylim)(-0.06, 1.06)


def _limits(scores: NDArray[np.float64]) -> tuple[float, float]:
    margin = 0.08 * float(np.ptp(scores)) or 0.01
    return float(scores.min()) - margin, float(scores.max()) + margin


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _hide(rest: NDArray[np.object_]) -> None:
    for axes in rest:
        axes.set_visible(False)


def _legend(figure: Figure, found: Mapping[str, Artist], title: str, columns: int) -> None:
    figure.legend(
        list(found.values()), list(found), loc="outside upper center", title=title, ncols=min(columns, len(found)),
        frameon=False, fontsize="small", title_fontsize="small",
    )  # fmt: skip
