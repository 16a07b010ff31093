"""Figures of a corpus, from the numbers that ``ser.description.summary`` computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ser.corpora.corpus import GENDERS
from ser.metrics.agreement import STRATA

# From the palette of Okabe and Ito, distinguishable with colour blindness and in print.
_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#E69F00", "#009E73", "#999999"
_GENDER_COLOURS = dict(zip(GENDERS, (_ORANGE, _BLUE, _GREY), strict=True))
_STRATUM_COLOURS = dict(zip(STRATA, (_BLUE, "#56B4E9", _ORANGE, "#D55E00"), strict=True))
_BINS = 40
_MAX_SESSIONS = 12
_MAX_CLASSES = 40

NAMES = ("durations.png", "classes.png", "vote_entropy.png")
"""The files that ``draw`` may write."""


def draw(utterances: pd.DataFrame, classes: Sequence[str], folder: Path) -> list[Path]:
    """Draw durations by class, classes by gender and session, and the entropy of votes if there are any.

    Only the 40 largest classes are drawn.

    Args:
        utterances: ``Description.utterances``; not empty.
        classes: The class names.
        folder: An existing folder for the files.

    Returns:
        The files that were written.
    """
    if len(classes) > _MAX_CLASSES:
        largest = set(utterances["label"].value_counts().index[:_MAX_CLASSES])
        classes = [name for name in classes if name in largest]
    figures = {}
    # Class names are plain text, even if they contain dollar signs.
    with mpl.rc_context({"text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False}):
        figures["durations.png"] = draw_durations(utterances, classes)
        figures["classes.png"] = draw_classes(utterances, classes)
        if utterances["entropy"].notna().any():
            figures["vote_entropy.png"] = draw_entropy(utterances)
        for name, figure in figures.items():
            figure.savefig(folder / name, dpi=150)
    return [folder / name for name in figures]


def draw_durations(utterances: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Draw a histogram of durations per class, with common scales.

    Args:
        utterances: Columns ``label`` and ``seconds``.
        classes: The class names, from top to bottom.
    """
    seconds = utterances["seconds"].to_numpy()
    edges = np.linspace(seconds.min(), max(seconds.max(), seconds.min() + 0.1), _BINS + 1).tolist()
    figure = Figure(figsize=(6.4, 0.9 + 0.75 * len(classes)), layout="constrained")
    panels = figure.subplots(len(classes), sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, name in zip(panels, classes, strict=True):
        some = seconds[utterances["label"] == name]
        axes.hist(some, edges, color=_BLUE)
        if len(some):
            axes.axvline(float(np.median(some)), color="black", linewidth=1)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.locator_params(axis="y", nbins=3, integer=True)
    panels[0].set_title("Utterances by duration and class; line: median of the class", loc="left", fontsize="medium")
    panels[-1].set_xlabel("duration (s)")
    return figure


def draw_classes(utterances: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Draw the number of utterances per class by gender and, for 2 to 12 sessions, by session.

    Args:
        utterances: Columns ``label``, ``gender`` and ``session``.
        classes: The class names, from top to bottom.
    """
    sessions = sorted(set(utterances["session"]) - {""})
    with_sessions = 1 < len(sessions) <= _MAX_SESSIONS
    width = 2.2 + 0.55 * len(sessions) if with_sessions else 0.0
    figure = Figure(figsize=(6.4 + width, 1.4 + 0.4 * len(classes)), layout="constrained")
    panels = figure.subplots(ncols=1 + with_sessions, squeeze=False, width_ratios=[6.4, width][: 1 + with_sessions])[0]
    _draw_genders(panels[0], _count_table(utterances, classes, "gender", GENDERS), classes)
    if with_sessions:
        _draw_sessions(panels[1], _count_table(utterances, classes, "session", sessions), sessions)
    return figure


def draw_entropy(utterances: pd.DataFrame) -> Figure:
    """Draw the distribution of the entropy of votes by agreement of the annotators.

    Args:
        utterances: Columns ``entropy`` and ``stratum``; rows without an entropy are skipped.
    """
    voted = utterances.dropna(subset=["entropy"])
    names = [name for name in STRATA if (voted["stratum"] == name).any()]
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.hist(
        [voted["entropy"][voted["stratum"] == name] for name in names],
        np.linspace(0, 1, _BINS + 1).tolist(),
        stacked=True,
        color=[_STRATUM_COLOURS[name] for name in names],
        label=[f"{name} ({int((voted['stratum'] == name).sum())})" for name in names],
    )
    axes.set_xlim(0, 1)
    axes.set_xlabel("entropy of an utterance's votes (0: all for one class, 1: the same for every class)")
    axes.set_ylabel("utterances")
    axes.locator_params(axis="y", integer=True)
    axes.legend(title="agreement", frameon=False)
    return figure


def _draw_genders(axes: Axes, counts: pd.DataFrame, classes: Sequence[str]) -> None:
    left = np.zeros(len(classes))
    for gender in GENDERS:
        if counts[gender].any():
            axes.barh(classes, counts[gender], left=left, color=_GENDER_COLOURS[gender], label=gender)
            left += counts[gender].to_numpy()
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("utterances")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(GENDERS), frameon=False)


def _draw_sessions(axes: Axes, counts: pd.DataFrame, sessions: Sequence[str]) -> None:
    table = counts.to_numpy()
    # Only the lighter half of the colour map, so that the numbers are readable on all colours.
    axes.imshow(table, cmap="Blues", vmin=0, vmax=2 * table.max(), aspect="auto")
    for (row, column), count in np.ndenumerate(table):
        axes.text(column, row, str(count), ha="center", va="center", fontsize="small")
    axes.set_xticks(range(len(sessions)), sessions, rotation=45 if max(map(len, sessions)) > 6 else 0)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("session")
    axes.set_title("utterances by session", fontsize="medium")


def _count_table(utterances: pd.DataFrame, classes: Sequence[str], column: str, names: Sequence[str]) -> pd.DataFrame:
    """Count the utterances by class (rows) and by the given names of a column (columns)."""
    counts = pd.crosstab(utterances["label"], utterances[column])
    return counts.reindex(index=list(classes), columns=list(names), fill_value=0)
