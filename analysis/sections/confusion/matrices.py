"""What is taken for what: confusion matrices and classification reports, computed from tables of utterances."""

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
"""What utterances are told apart by, and the names in their order."""
BLOCK = ["seed", "fold"]


def predictions_of(utterances: pd.DataFrame, part: str) -> pd.DataFrame:
    """The predictions of one trial for the utterances whose true label is known.

    Args:
        utterances: The table, as ``ser.training.utterance_table``.
        part: Which of its parts.

    Returns:
        ``utterance_id``, ``speaker``, ``gender``, ``agreement``, ``label``, the true one, and ``predicted``, the class
        of the largest probability, the first of several.
    """
    rows = utterances[(utterances["subset"] == part) & utterances["label"].notna()]
    columns = [name for name in rows.columns.astype(str) if name.startswith(PROBABILITY)]
    classes = np.array([name.removeprefix(PROBABILITY) for name in columns], dtype=object)
    found = rows[["utterance_id", "speaker", GENDER, AGREEMENT, "label"]].reset_index(drop=True)
    return found.assign(predicted=classes[rows[columns].to_numpy(dtype=float).argmax(axis=1)])


def mean_confusion(predictions: pd.DataFrame, classes: Sequence[str]) -> NDArray[np.float64]:
    """How many utterances of each class are taken for which: folds pooled, then the mean over seeds.

    Args:
        predictions: ``label``, ``predicted``, ``seed`` and ``fold``.
        classes: The C class names.

    Returns:
        (C, C), label × predicted.
    """
    place = {name: index for index, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)))
    pairs = predictions["label"].map(place).to_numpy(int), predictions["predicted"].map(place).to_numpy(int)
    np.add.at(counts, pairs, 1.0)
    return np.asarray(counts / max(predictions["seed"].nunique(), 1))


def shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(C, C) counts as shares of their row; NaN in the row of a class without utterances."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0))


def grouped(predictions: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """All predictions, those of each gender, and those of each agreement stratum.

    Returns:
        (``all``, ``gender`` or ``agreement``; the group; its rows). A kind of groups of which nothing is known is left
        out.
    """
    found = [(ALL, ALL, predictions)]
    for column, order in GROUPS.items():
        names = predictions[column].fillna("unknown")
        if set(names) - {"unknown"}:
            there = [name for name in dict.fromkeys([*order, "unknown"]) if (names == name).any()]
            found += [(column, name, predictions[names == name]) for name in there]
    return found


def confusion_table(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Every cell of every matrix of one method.

    Args:
        predictions: Of ``predictions_of``, with ``seed`` and ``fold``.
        classes: The C class names.

    Returns:
        ``by``, ``group``, ``label``, ``predicted``, ``count`` (mean over seeds) and ``share`` of the label's
        utterances; C² rows for each group.
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
    """Precision, recall and F1 of each class.

    Args:
        counts: (C, C), label × predicted.
        classes: The C class names.

    Returns:
        ``class``, ``utterances``, ``precision`` (0 where the class was never predicted), ``recall`` and ``f1``; NaN
        for a class without utterances. The last row, ``mean``, has their means over the classes with utterances, of
        which that of the recalls is the UAR, and all utterances.
    """
    right, labelled, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    there = labelled > 0
    scores = {
        "precision": np.where(there, right / np.where(predicted > 0, predicted, 1), np.nan),
        "recall": np.where(there, right / np.where(there, labelled, 1), np.nan),
        "f1": np.where(there, 2 * right / np.where(there, labelled + predicted, 1), np.nan),
    }
    table = pd.DataFrame({"class": list(classes), "utterances": labelled, **scores})
    means = {name: values[there].mean() if there.any() else np.nan for name, values in scores.items()}
    return pd.concat([table, pd.DataFrame([{"class": "mean", "utterances": counts.sum(), **means}])], ignore_index=True)


def share_differences(
    predictions: pd.DataFrame, reference: pd.DataFrame, classes: Sequence[str]
) -> NDArray[np.float64] | None:
    """How much larger each share of the confusion matrix is than the reference's, on the seeds and folds of both.

    Args:
        predictions: Of one method.
        reference: Of the other.
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
    """The confusions that take the largest share of their class.

    Args:
        cells: Of ``confusion_table``, of one group.
        shown: How many at most.

    Returns:
        Rows of ``cells`` with a count, the largest share first, equals by name.
    """
    wrong = cells[(cells["label"] != cells["predicted"]) & (cells["count"] > 0)]
    order = wrong.sort_values(["share", "label", "predicted"], ascending=[False, True, True])
    return order.head(shown).reset_index(drop=True)
