"""Sentences on confusion matrices, also for readers who cannot see the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.common.methods import Method
from analysis.common.text import listing, percent, signed
from analysis.sections.confusion.matrices import ALL, classification_report, frequent_confusions
from ser.corpora.names import emotions_in_words
from study.schema import in_words


def worst_sentence(cells: Mapping[Method, pd.DataFrame], noise: str) -> str:
    """Return a sentence on the most frequent confusion of each method at one noise level.

    Args:
        cells: Method → rows of ``confusion_table``.
        noise: Noise level.
    """
    by: dict[str, list[str]] = {}
    for method, table in cells.items():
        confusion, share = _worst(table)
        by.setdefault(confusion, []).append(f"{in_words(method.space)}{f' {percent(share)}' if share else ''}")
    found = "; ".join(f"{confusion} ({', '.join(methods)})" for confusion, methods in by.items())
    return f"Most frequent confusion{'s' if len(by) > 1 else ''} at {noise}, in % of the true class: {found}."


def difference_sentence(
    differences: Mapping[Method, NDArray[np.float64]], noise: str, reference: str, classes: Sequence[str]
) -> str:
    """Return a sentence on the classes whose recall differs most from the reference's at one noise level.

    Args:
        differences: Method → (C, C) differences of shares from the reference's.
        noise: Noise level.
        reference: The reference.
        classes: The C class names.
    """
    changes = {method: _changes(np.diag(values), classes) for method, values in differences.items()}
    if not any(changes.values()):
        return f"At {noise} no method's recall of a class differs from that of {in_words(reference)} by a point."
    found = "; ".join(f"{in_words(method.space)} {text or 'none'}" for method, text in changes.items())
    return (
        f"Recall compared with {in_words(reference)} at {noise}, the largest differences in points (not tested): "
        f"{found}."
    )


def seen_text(method: Method, cells: pd.DataFrame, counts: NDArray[np.float64], classes: Sequence[str]) -> str:
    """Return what the matrix of a method shows: its UAR and its most frequent confusion.

    Args:
        method: The method.
        cells: Its rows of ``confusion_table``.
        counts: (C, C), true × predicted.
        classes: The C class names.
    """
    confusion, share = _worst(cells)
    most = f"; {confusion} in {percent(share)} of its utterances" if share else ""
    return f"{in_words(method.space)}: {uar_text(counts, classes)}{most}."


def uar_text(counts: NDArray[np.float64], classes: Sequence[str]) -> str:
    """Return the UAR of a matrix with its number of classes, if some have no utterances.

    Args:
        counts: (C, C), true × predicted.
        classes: The C class names.

    Example:
        >>> uar_text(np.array([[3.0, 1.0], [0.0, 0.0]]), ["a", "b"])
        'UAR 75.0% over 1 of 2 classes'
    """
    there = int((counts.sum(axis=1) > 0).sum())
    over = f" over {there} of {len(classes)} classes" if there < len(classes) else ""
    return f"UAR {percent(classification_report(counts, classes)['recall'].iloc[-1], 1)}{over}"


def _worst(cells: pd.DataFrame) -> tuple[str, float]:
    """Return the most frequent confusion in words, and its share of the true class; 0 if nothing is confused."""
    worst = frequent_confusions(cells[cells["by"] == ALL], 1)
    if worst.empty:
        return "none", 0.0
    classes = list(dict.fromkeys(cells["label"]))
    words = dict(zip(classes, emotions_in_words(classes), strict=True))
    cell = worst.iloc[0]
    return f"{words[cell['label']]} taken for {words[cell['predicted']]}", float(cell["share"])


def _changes(recalls: NDArray[np.float64], classes: Sequence[str]) -> str:
    """Return the largest gain and loss of recall; empty if none reaches half a point."""
    words = emotions_in_words(classes)
    high, low = int(np.nanargmax(recalls)), int(np.nanargmin(recalls))
    places = [place for place, sign in ((high, 1), (low, -1)) if round(sign * 100 * recalls[place]) > 0]
    return listing([f"{signed(100 * recalls[place], 0)} for {words[place]}" for place in places])
