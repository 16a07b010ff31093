"""Style of the figures: colours, markers, legends, and how files are saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.inference import BETTER, NO_EVIDENCE, NOT_POSSIBLE, WORSE
from ser.utils.hashing import derived_seed
from study.schema import AT_STOP, METHODS, space_and_labels

# Okabe and Ito's palette, which colour-blind readers can distinguish, also in print.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
METHOD_COLOURS = (*PALETTE[:6], "#7F7F7F")
"""Colours of methods, which are visible on light and on dark paper."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINE_STYLES = ("-", "--", "-.", ":")

MARKS = {
    BETTER: ("o", PALETTE[0], "evidence that it is better"),
    WORSE: ("s", PALETTE[1], "evidence that it is worse"),
    NO_EVIDENCE: ("o", "white", "no evidence"),
    NOT_POSSIBLE: ("D", "white", "no evidence was possible"),
}
"""Verdict of a comparison → marker, fill colour and label."""


def colour_and_marker(place: int) -> tuple[str, str]:
    """Return the colour and marker of the n-th noise level or configuration; they repeat after eight.

    Methods have their own (``method_style``); a figure shows either by colour.

    Args:
        place: n, from 0.
    """
    return PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]


def method_style(method: str) -> tuple[str, str]:
    """Return the colour and marker of a method: the same in all figures of all reports.

    Args:
        method: Search space, with its labels, digest or early stop where they distinguish it. A variant has the colour
            of its space and another marker; a space of one's own has a place that follows from its name.
    """
    space = space_and_labels(method.removesuffix(AT_STOP))[0].partition("@")[0]
    known = list(METHODS)
    own = known.index(space) if space in known else len(known) + derived_seed("space", space)
    variant = 0 if method == space else 1 + derived_seed("variant", method) % (len(MARKERS) - 1)
    return METHOD_COLOURS[own % len(METHOD_COLOURS)], MARKERS[(own + variant) % len(MARKERS)]


def hide_frame(axes: Axes) -> None:
    """Hide the upper and right border of a panel."""
    axes.spines[["top", "right"]].set_visible(False)


def hide_panels(unused: Iterable[Axes]) -> None:
    """Hide panels of a grid that nothing is drawn in."""
    for axes in unused:
        axes.set_visible(False)


def legend_above(figure: Figure, entries: Mapping[str, Artist], columns: int, title: str | None = None) -> None:
    """Draw a legend above all panels.

    Args:
        figure: Figure with constrained layout.
        entries: Label → what is drawn for it.
        columns: Largest number of columns.
        title: Text above the entries.
    """
    figure.legend(
        list(entries.values()), list(entries), loc="outside upper center", title=title,
        ncols=max(1, min(columns, len(entries))), frameon=False, fontsize="small", title_fontsize="small",
    )  # fmt: skip


def label(figure: Figure, data: str) -> None:
    """Write the name of the data below a figure, and fix its layout: it is computed once for all files.

    Args:
        figure: Figure with constrained layout.
        data: Name of the data.
    """
    below = figure.get_supxlabel()
    figure.supxlabel(f"{below} ({data})" if below else data, fontsize="medium" if below else "x-small")
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # a placeholder, "none", would still draw every file twice


def save(figure: Figure, path: Path) -> None:
    """Write a figure and close it; the same figure gives the same bytes.

    Args:
        figure: The drawing.
        path: File; its suffix is the format.
    """
    with plt.rc_context({"svg.hashsalt": "ambivalent", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
    plt.close(figure)
