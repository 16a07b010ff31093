"""Figures of a search: importance, slices, contours, parallel coordinates, and expected validation performance."""

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

from analysis.common.parameters import Parameter, parameter_in_words, positions
from analysis.common.searches import Score
from analysis.common.style import PALETTE, colour_and_marker, hide_frame, hide_panels, legend_above, method_style
from analysis.sections.importance.scores import FANOVA, PED_ANOVA
from analysis.sections.importance.smoothing import kernel_mean
from study.schema import in_words

COLOURS = "cividis"  # suits colour-blind readers, and its lightness rises evenly in print
GRID = 60
MARKS = 8  # marks on a line
STAR = {"marker": "*", "s": 150, "color": PALETTE[1], "edgecolors": "black", "zorder": 4}


@dataclass(frozen=True)
class Panel:
    """Finished trials of one search, to be drawn.

    Args:
        title: Noise level and method.
        parameters: Parameters, the most important first.
        configurations: Searched parameters of the n trials.
        scores: (n,) in the units of the axes.
        best: Number of the chosen trial.
        label: Axis title of the score.
        mode: ``max`` if a larger score is better, else ``min``.
    """

    title: str
    parameters: Sequence[Parameter]
    configurations: Sequence[Mapping[str, str]]
    scores: NDArray[np.float64]
    best: int
    label: str
    mode: str


def draw_importances(table: pd.DataFrame) -> Figure:
    """Draw importances with their range: one panel per method, one row per parameter, one colour per level.

    Args:
        table: From ``analysis.sections.importance.scores.importances``, with ``noise`` and ``space``.
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
            colour, marker = colour_and_marker(level_number)
            for kind, evaluator in enumerate((FANOVA, PED_ANOVA)):
                shown = of_space[(of_space["noise"] == level) & (of_space["evaluator"] == evaluator)]
                places = np.array([order.index(name) for name in shown["parameter"]], dtype=float)
                y = places - 0.4 + (2 * level_number + kind + 0.5) * lane
                axes.hlines(y, shown["low"], shown["high"], color=colour, linewidth=1.2)
                filled = colour if evaluator == FANOVA else "white"
                name = f"{level} {evaluator}"
                axes.scatter(shown["importance"], y, s=28, marker=marker, c=filled, edgecolors=colour, label=name)
                axes.vlines(shown["chance"], y - 0.45 * lane, y + 0.45 * lane, color="black", linewidth=1.5)
        axes.set_yticks(range(len(order)), [parameter_in_words(name).replace(" (", "\n(") for name in order])
        axes.set_ylim(tallest[place // columns] - 0.4, -0.6)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("importance, from 0 to 1")
        axes.set_title(in_words(space), fontsize="medium", loc="left")
        axes.grid(axis="x", alpha=0.3)
        hide_frame(axes)
    hide_panels(grid.flat[len(spaces) :])
    found: dict[str, Artist] = {}
    for axes in grid.flat[: len(spaces)]:
        found |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    legend_above(figure, found, 2 * columns, "line: range over resamples; tick: largest value for shuffled scores")
    return figure


def draw_slices(panels: Sequence[Panel], shown: int = 5) -> Figure:
    """Draw every trial's score against each parameter: one row per search, the most important parameter first.

    Args:
        panels: At least one.
        shown: Largest number of parameters per search.
    """
    columns = min(shown, max(len(panel.parameters) for panel in panels))
    size = (0.9 + 2.3 * columns, 0.5 + 2.4 * len(panels))
    figure, grid = plt.subplots(len(panels), columns, figsize=size, layout="constrained", squeeze=False)
    for row, panel in zip(grid, panels, strict=True):
        cube = positions(panel.parameters, panel.configurations)
        for column, axes in enumerate(row):
            if column >= len(panel.parameters):
                axes.set_visible(False)
                continue
            parameter = panel.parameters[column]
            axes.scatter(cube[:, column], panel.scores, s=18, facecolors="none", edgecolors=PALETTE[0], linewidths=1)
            axes.scatter(cube[panel.best, column], panel.scores[panel.best], **STAR)
            if not parameter.choices:
                at = np.linspace(0, 1, GRID)
                line = kernel_mean(cube[:, [column]], panel.scores, at[:, None])
                axes.plot(at, line, color="grey", linewidth=1.2)
            _ticks(axes, parameter, "x")
            axes.set_xlabel(parameter.words, fontsize="small")
            axes.grid(axis="y", alpha=0.3)
            hide_frame(axes)
            if column:
                axes.set_yticklabels([])
            axes.set_ylim(*_limits(panel.scores))
        row[0].set_ylabel(panel.label, fontsize="small")
        row[0].set_title(panel.title, fontsize="medium", loc="left")
    return figure


def draw_contours(panels: Sequence[Panel]) -> Figure:
    """Draw the mean score over the two most important numeric parameters of each search; blank where no trial is near.

    Args:
        panels: At least one, each with at least two numeric parameters.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    size = (3.9 * columns, 3.3 * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    side = np.linspace(0, 1, GRID)
    across, along = np.meshgrid(side, side)
    at = np.column_stack([across.ravel(), along.ravel()])
    for axes, panel in zip(grid.flat, panels, strict=False):
        pair = [parameter for parameter in panel.parameters if not parameter.choices][:2]
        cube = positions(pair, panel.configurations)
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
        axes.set_xlabel(pair[0].words, fontsize="small")
        axes.set_ylabel(pair[1].words, fontsize="small")
        axes.set_title(panel.title, fontsize="medium", loc="left")
    hide_panels(grid.flat[len(panels) :])
    return figure


def draw_parallel(panels: Sequence[Panel]) -> Figure:
    """Draw parallel coordinates: each trial is a line through its parameters, coloured by score, the best in front.

    Args:
        panels: At least one.
    """
    widest = max(len(panel.parameters) for panel in panels)
    size = (2.2 + 1.3 * widest, 0.3 + 2.6 * len(panels))
    figure, grid = plt.subplots(len(panels), 1, figsize=size, layout="constrained", squeeze=False)
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        cube = positions(panel.parameters, panel.configurations)
        low, high = float(panel.scores.min()), float(panel.scores.max())
        colours = plt.get_cmap(COLOURS if panel.mode == "max" else f"{COLOURS}_r")
        scale = Normalize(low, high)
        order = np.argsort(panel.scores if panel.mode == "max" else -panel.scores, kind="stable")
        for rank, trial in enumerate(order, start=1):
            opacity = 0.25 + 0.75 * rank / len(order)
            axes.plot(cube[trial], color=colours(scale(panel.scores[trial])), alpha=opacity, linewidth=1.2)
        axes.plot(cube[panel.best], color=PALETTE[1], linewidth=2.5, linestyle="--")
        for place, parameter in enumerate(panel.parameters):
            axes.axvline(place, color="black", linewidth=0.8)
            for position, value, side in ((0, parameter.low, "top"), (1, parameter.high, "bottom")):
                text = parameter.choices[int(value)] if parameter.choices else f"{value:.3g}"
                gap = (0, -3 if position == 0 else 3)
                axes.annotate(
                    text, (place, position), xytext=gap, textcoords="offset points", ha="center", va=side, size="small"
                )
        axes.set_xticks(
            range(len(panel.parameters)), [one.words.replace(" (", "\n(") for one in panel.parameters], fontsize="small"
        )
        axes.tick_params(axis="x", length=0, pad=14)
        axes.set_yticks([])
        axes.set_ylim(-0.02, 1.02)
        axes.set_title(panel.title, fontsize="medium", loc="left", pad=16)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(plt.cm.ScalarMappable(norm=scale, cmap=colours), ax=axes)
        bar.set_label(panel.label, fontsize="small")
    return figure


def draw_expected_performance(curves: pd.DataFrame, score: Score) -> Figure:
    """Draw the expected best score against the number of trials: one panel per level, one line per method.

    Args:
        curves: From ``expected_performance``, with ``noise`` and ``space``.
        score: The score in words.
    """
    levels, spaces = list(dict.fromkeys(curves["noise"])), sorted(set(curves["space"]))
    size = (0.8 + 3.4 * len(levels), 4.0)
    figure, grid = plt.subplots(1, len(levels), figsize=size, layout="constrained", squeeze=False, sharey=True)
    found: dict[str, Artist] = {}
    for axes, level in zip(grid[0], levels, strict=True):
        for space in spaces:
            curve = curves[(curves["noise"] == level) & (curves["space"] == space)]
            if curve.empty:
                continue
            colour, marker = method_style(space)
            (found[in_words(space)],) = axes.plot(
                curve["trials"], score.scale * curve["expected"], color=colour, marker=marker, markersize=5,
                markevery=max(1, len(curve) // MARKS),
            )  # fmt: skip
            band = curve[curve["band"]]
            below, above = band["expected"] - band["deviation"], band["expected"] + band["deviation"]
            axes.fill_between(
                band["trials"], score.scale * below, score.scale * above, color=colour, alpha=0.12, linewidth=0
            )
        axes.set_xlabel("finished trials")
        axes.set_title(level, fontsize="medium", loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        hide_frame(axes)
    grid[0][0].set_ylabel(f"expected best\n{score.axis}", fontsize="small")
    legend_above(figure, found, 4, "band: standard deviation of the best")
    return figure


def _ticks(axes: Axes, parameter: Parameter, side: str) -> None:
    """Label the ends and the middle of a parameter that is drawn by its positions."""
    places = np.linspace(0, 1, len(parameter.choices)) if parameter.choices else np.array([0.0, 0.5, 1.0])
    texts = parameter.choices or tuple(f"{parameter.value_at(float(place)):.2g}" for place in places)
    choose = axes.set_xticks if side == "x" else axes.set_yticks
    choose(list(places), list(texts), fontsize="x-small")
    (axes.xaxis if side == "x" else axes.yaxis).set_minor_formatter(NullFormatter())
    (axes.set_xlim if side == "x" else axes.set_ylim)(-0.06, 1.06)


def _limits(scores: NDArray[np.float64]) -> tuple[float, float]:
    margin = 0.08 * float(np.ptp(scores)) or 0.01
    return float(scores.min()) - margin, float(scores.max()) + margin
