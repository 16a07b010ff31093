"""Confusion matrices and classification reports, computed from per-utterance tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ser.corpora.corpus import GENDERS
from ser.metrics.agreement import STRATA
from ser.training.utterance_table import AGREEMENT, PROBABILITY

ALL, GENDER = "all", "gender"
GROUPS = {GENDER: GENDERS, AGREEMENT: STRATA}
"""Columns that group utterances, and the groups in the order of display."""
BLOCK = ["seed", "fold"]


def predictions_of(utterances: pd.DataFrame, subset: str) -> pd.DataFrame:
    """Return the predictions of one trial for the utterances whose true label is known.

    Args:
        utterances: Table of ``ser.training.utterance_table``.
        subset: ``train``, ``validation`` or ``test``.

    Returns:
        ``utterance_id``, ``speaker``, ``gender``, ``agreement``, ``label`` (the true one), and ``predicted``, the class
        with the largest probability, the first one in case of a tie.
    """
    rows = utterances[(utterances["subset"] == subset) & utterances["label"].notna()]
    columns = [name for name in rows.columns.astype(str) if name.startswith(PROBABILITY)]
    classes = np.array([name.removeprefix(PROBABILITY) for name in columns], dtype=object)
    found = rows[["utterance_id", "speaker", GENDER, AGREEMENT, "label"]].reset_index(drop=True)
    return found.assign(predicted=classes[rows[columns].to_numpy(dtype=float).argmax(axis=1)])


def mean_confusion(predictions: pd.DataFrame, classes: Sequence[str]) -> NDArray[np.float64]:
    """Compute the confusion matrix, pooled over folds, then averaged over seeds.

    Args:
        predictions: ``label``, ``predicted``, ``seed`` and ``fold``.
        classes: The C class names.

    Returns:
        (C, C) counts, label × predicted.

    Example:
        >>> rows = pd.DataFrame({"label": ["a", "a", "b"], "predicted": ["a", "b", "b"], "seed": 1, "fold": 1})
        >>> mean_confusion(rows, ["a", "b"]).tolist()
        [[1.0, 1.0], [0.0, 1.0]]
    """
    place = {name: index for index, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)))
    pairs = predictions["label"].map(place).to_numpy(int), predictions["predicted"].map(place).to_numpy(int)
    np.add.at(counts, pairs, 1.0)
    return np.asarray(counts / max(predictions["seed"].nunique(), 1))


def shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (C, C) counts as shares of their row; NaN in the row of a class without utterances."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0))


def grouped(predictions: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Group predictions: all of them, those of each gender, and those of each agreement stratum.

    Args:
        predictions: From ``predictions_of``.

    Returns:
        Triples of ``all``, ``gender`` or ``agreement``; the group; and its rows. A grouping is omitted if the group of
        every utterance is unknown.
    """
    found = [(ALL, ALL, predictions)]
    for column, order in GROUPS.items():
        names = predictions[column].fillna("unknown")
        if set(names) - {"unknown"}:
            present = [name for name in dict.fromkeys([*order, "unknown"]) if (names == name).any()]
            found += [(column, name, predictions[names == name]) for name in present]
    return found


def confusion_table(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return every cell of every matrix of one method.

    Args:
        predictions: From ``predictions_of``, with ``seed`` and ``fold``.
        classes: The C class names.

    Returns:
        ``by``, ``group``, ``label``, ``predicted``, ``count`` (mean over seeds) and ``share`` of the label's
        utterances; C² rows per group.
    """
    tables = []
    for by, group, rows in grouped(predictions):
        counts = mean_confusion(rows, classes)
        labels, predicted = (names.ravel() for names in np.meshgrid(classes, classes, indexing="ij"))
        tables.append(
            pd.DataFrame(
                {
                    "by": by, "group": group, "label": labels, "predicted": predicted,
                    "count": counts.ravel(), "share": shares(counts).ravel(),
                }
            )
        )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def classification_report(counts: NDArray[np.float64], classes: Sequence[str]) -> pd.DataFrame:
    """Compute precision, recall and F1 of each class.

    Args:
        counts: (C, C), label × predicted.
        classes: The C class names.

    Returns:
        ``class``, ``utterances``, ``precision`` (0 if the class was never predicted), ``recall`` and ``f1``; NaN for a
        class without utterances. The last row, ``mean``, has their means over the classes with utterances (the mean
        recall is the UAR) and the number of all utterances.

    Example:
        >>> report = classification_report(np.array([[3.0, 1.0], [2.0, 2.0]]), ["a", "b"])
        >>> report[["class", "recall"]].to_numpy().tolist()
        [['a', 0.75], ['b', 0.5], ['mean', 0.625]]
    """
    right, labelled, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    present = labelled > 0
    scores = {
        "precision": np.where(present, right / np.where(predicted > 0, predicted, 1), np.nan),
        "recall": np.where(present, right / np.where(present, labelled, 1), np.nan),
        "f1": np.where(present, 2 * right / np.where(present, labelled + predicted, 1), np.nan),
    }
    table = pd.DataFrame({"class": list(classes), "utterances": labelled, **scores})
    means = {name: values[present].mean() if present.any() else np.nan for name, values in scores.items()}
    return pd.concat([table, pd.DataFrame([{"class": "mean", "utterances": counts.sum(), **means}])], ignore_index=True)


def share_differences(
    predictions: pd.DataFrame, reference: pd.DataFrame, classes: Sequence[str]
) -> NDArray[np.float64] | None:
    """Compute the difference (method − reference) of the row-normalised confusion matrices, on common seeds and folds.

    Args:
        predictions: Predictions of the method.
        reference: Predictions of the reference.
        classes: The C class names.

    Returns:
        (C, C) from −1 to 1, NaN in the row of a class without utterances; None without a common seed and fold.
    """
    blocks = [pd.MultiIndex.from_frame(rows[BLOCK]) for rows in (predictions, reference)]
    both = [
        rows[own.isin(other)] for rows, own, other in zip((predictions, reference), blocks, blocks[::-1], strict=True)
    ]
    if both[0].empty:
        return None
    first, second = (shares(mean_confusion(rows, classes)) for rows in both)
    return first - second


def frequent_confusions(cells: pd.DataFrame, shown: int) -> pd.DataFrame:
    """Return the confusions with the largest share of their class.

    Args:
        cells: Rows of ``confusion_table``, of one group.
        shown: Largest number of rows.

    Returns:
        Rows of ``cells`` with a count, the largest share first, ties by name.
    """
    wrong = cells[(cells["label"] != cells["predicted"]) & (cells["count"] > 0)]
    order = wrong.sort_values(["share", "label", "predicted"], ascending=[False, True, True])
    return order.head(shown).reset_index(drop=True)
