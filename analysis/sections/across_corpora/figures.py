"""Figure of the UAR on each tested corpus, with intervals."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.common.style import colour_and_marker, hide_frame, legend_above


def draw_across(scores: pd.DataFrame) -> Figure:
    """Draw the UAR of each method by tested corpus, a panel for each, with the UAR of guessing as a line.

    Args:
        scores: Rows of ``Tested.scores`` of one or several confirmations.
    """
    tested = list(dict.fromkeys(scores["tested"]))
    several = scores["trained"].nunique() > 1
    names = [
        f"{row.method}, trained on {row.trained}" if several else row.method
        for row in scores[["trained", "method"]].drop_duplicates().itertuples()
    ]
    keys = list(scores[["trained", "method"]].drop_duplicates().itertuples(index=False, name=None))
    levels = list(dict.fromkeys(scores["level"]))
    size = (2.4 + 2.6 * len(tested), 1.2 + 0.32 * len(keys) * max(1, 0.6 * len(levels)))
    figure, grid = plt.subplots(
        1, len(tested), figsize=size, layout="constrained", sharex=True, sharey=True, squeeze=False
    )
    for axes, corpus in zip(grid.flat, tested, strict=True):
        for row in scores[scores["tested"] == corpus].to_dict("records"):
            level = levels.index(row["level"])
            place: float = len(keys) - 1 - keys.index((row["trained"], row["method"]))
            place += 0.6 * ((len(levels) - 1) / 2 - level) / len(levels)
            colour, marker = colour_and_marker(level)
            axes.plot(
                [100 * max(0, row["low"]), 100 * min(1, row["high"])], [place, place], color=colour, linewidth=1.4
            )
            axes.plot(100 * row["uar"], place, marker=marker, color=colour, markersize=6)
            axes.plot(
                [100 / row["classes"]] * 2, [place - 0.28, place + 0.28], color="black", linewidth=1, linestyle=":"
            )
        axes.set_title(f"tested on {corpus}", fontsize="medium", loc="left")
        axes.grid(axis="x", alpha=0.3)
        hide_frame(axes)
    grid.flat[0].set_yticks(range(len(keys)), names[::-1])
    grid.flat[0].set_ylim(-0.6, len(keys) - 0.4)
    figure.supxlabel("test UAR, %", fontsize="medium")
    entries: dict[str, Artist] = {
        level: Line2D([], [], color=colour_and_marker(place)[0], marker=colour_and_marker(place)[1])
        for place, level in enumerate(levels)
    }
    entries["guessing"] = Line2D([], [], color="black", linewidth=1, linestyle=":")
    legend_above(figure, entries, 4)
    return figure
