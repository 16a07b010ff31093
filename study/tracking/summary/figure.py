"""The figure of a parent run: the score of each of its trials, with the chosen ones marked."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from study.tracking.summary.content import Content

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHOSEN, OTHERS, CHANCE = "#0072b2", "#999999", "#666666"


def figure_of(content: Content, title: str) -> bytes:
    """Draw the scores of trials, and return the picture.

    Args:
        content: With at least one point.
        title: Title of the figure.

    Returns:
        A PNG file.
    """
    from matplotlib.figure import Figure  # half a second, in the study's process alone

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    _draw(figure, content, title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _draw(figure: Figure, content: Content, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = figure.subplots()
    for chosen, colour, size, marker in ((False, OTHERS, 24, "o"), (True, CHOSEN, 48, "D")):
        mine = [point for point in content.points if point.chosen == chosen]
        if mine:
            label = "chosen" if chosen else "other trials"
            places, scores = [point.place for point in mine], [point.score for point in mine]
            axes.scatter(places, scores, s=size, c=colour, marker=marker, label=label)
    if content.chance is not None:
        axes.axhline(content.chance, color=CHANCE, linestyle=":", label="chance")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=content.axes[0], ylabel=content.axes[1], title=title)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
