"""Figure of the UAR on each tested corpus, with intervals."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.common.style import hide_frame, legend_above, method_style
from study.schema import in_words


def corpus_heading(scores: pd.DataFrame, corpus: str) -> str:
    """Return the heading of a tested corpus, with its number of classes where the trainings have more.

    Args:
        scores: Rows of ``Tested.scores`` of one or several confirmations.
        corpus: Name of the tested corpus.
    """
    rows = scores[(scores["tested"] == corpus) & (scores["classes"] < scores["own_classes"])]
    pairs = rows[["classes", "own_classes"]].drop_duplicates().to_numpy().tolist()
    fewer = [f"{count} of {own} classes" for count, own in pairs]
    return f"tested on {corpus}" + (f" ({', '.join(fewer)})" if fewer else "")


def draw_across(scores: pd.DataFrame) -> Figure:
    """Draw the UAR of each method by tested corpus, a panel for each, with the UAR of guessing as a line.

    Args:
        scores: Rows of ``Tested.scores`` of one or several confirmations.
    """
    tested = list(dict.fromkeys(scores["tested"]))
    keys = list(scores[["level", "trained", "method"]].drop_duplicates().itertuples(index=False, name=None))
    several = [scores[name].nunique() > 1 for name in ("level", "trained")]
    names = [
        in_words(method) + (f", {level}" if several[0] else "") + (f", trained on {trained}" if several[1] else "")
        for level, trained, method in keys
    ]
    size = (2.4 + 2.6 * len(tested), 1.2 + 0.32 * len(keys))
    figure, grid = plt.subplots(
        1, len(tested), figsize=size, layout="constrained", sharex=True, sharey=True, squeeze=False
    )
    for axes, corpus in zip(grid.flat, tested, strict=True):
        for row in scores[scores["tested"] == corpus].to_dict("records"):
            place = len(keys) - 1 - keys.index((row["level"], row["trained"], row["method"]))
            colour, marker = method_style(row["method"])
            ends = [100 * max(0, row["low"]), 100 * min(1, row["high"])]
            axes.plot(ends, [place, place], color=colour, linewidth=1.4)
            axes.plot(100 * row["uar"], place, marker=marker, color=colour, markersize=6)
            chance = [100 / row["classes"]] * 2
            axes.plot(chance, [place - 0.4, place + 0.4], color="black", linewidth=1, linestyle=":")
        axes.set_title(corpus_heading(scores, corpus), fontsize="medium", loc="left")
        axes.grid(axis="x", alpha=0.3)
        hide_frame(axes)
    grid.flat[0].set_yticks(range(len(keys)), names[::-1])
    grid.flat[0].set_ylim(-0.6, len(keys) - 0.4)
    figure.supxlabel("test UAR, %", fontsize="medium")
    legend_above(figure, {"guessing": Line2D([], [], color="black", linewidth=1, linestyle=":")}, 1)
    return figure
