"""Votes in a table: counts or shares for each class, a list, or the label of each rater."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ser.corpora.names import emotion_of, folded
from ser.corpora.tables.cells import is_missing, number, parsed, text
from ser.corpora.tables.shares import SUM_TOLERANCE, counts_of
from ser.utils.errors import shown

VOTES = "votes_"
"""Start of the name of a column with the votes for a class."""

_LIST = "votes"
_OTHER = frozenset({"other", "others"})
_RATER = re.compile(
    r"(?:rater|annotator|evaluator|ann|judge|coder|labell?er|listener|worker)(?:[\s_-]*\d+|[\s_-]+[a-z]|(?-i:[A-Z]))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class TableVotes:
    """Votes as a table has them.

    Args:
        columns: The columns that hold them.
        classes: The C classes of ``counts``, or None if these are in the order of the sorted labels.
        counts: C counts for each row, None where there are none.
        others: Votes for other categories, for each row.
        said: (row, rater, label) for each vote, where the raters are known; then there are no ``counts``.
        errors: (row, what is wrong).
        column_errors: (column, what is wrong).
        notes: How the votes were read.
        are_labels: Whether the columns say in which class an utterance is, with 1 and 0, and count nothing.
    """

    columns: tuple[str, ...]
    classes: tuple[str, ...] | None = None
    counts: Sequence[tuple[int, ...] | None] = ()
    others: Sequence[float] | None = None
    said: pd.DataFrame | None = None
    errors: Sequence[tuple[int, str]] = ()
    column_errors: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    are_labels: bool = False

    def renamed(self, new: Mapping[str, str]) -> TableVotes:
        """Return the votes with other names of classes.

        Args:
            new: Class → new name, for all classes and labels.
        """
        said = None if self.said is None else self.said.assign(label=self.said["label"].map(new))
        classes = None if self.classes is None else tuple(new[name] for name in self.classes)
        return replace(self, classes=classes, said=said)


def find_votes(
    frame: pd.DataFrame, free: Sequence[str], labels: Sequence[str] | None, raters: Sequence[Any] | None
) -> TableVotes | None:
    """Find and read the votes of a table.

    Args:
        frame: N rows.
        free: Columns that have no other role.
        labels: N labels, or None if the table has no column for them.
        raters: N cells with the number of raters, or None.

    Returns:
        The votes, or None if the table has none.
    """
    numbers = None if raters is None else _numbers(pd.DataFrame({"raters": list(raters)}))
    counted = None if numbers is None or np.isnan(numbers).all() else numbers[:, 0]
    named = {name: name.removeprefix(VOTES) for name in free if name.startswith(VOTES) and name != VOTES}
    if named:
        return _of_columns(frame, named, labels, counted, certain=True)
    if _LIST in free:
        cells = list(frame[_LIST])
        words = dict.fromkeys(word for cell in cells if isinstance(cell, dict) for word in cell)
        if words:
            table = pd.DataFrame(
                {word: [cell.get(word, 0) if isinstance(cell, dict) else None for cell in cells] for word in words},
                dtype=object,
            )
            return _of_columns(table, {str(word): str(word) for word in words}, labels, counted, certain=True)
        errors: list[tuple[int, str]] = []
        return TableVotes((_LIST,), counts=list(parsed(cells, _listed_counts, None, _LIST, errors)), errors=errors)
    judged = [name for name in free if _RATER.fullmatch(name)]
    if len(judged) > 1 and _are_labels(frame[judged], labels):
        return TableVotes(tuple(judged), said=_said_in_columns(frame[judged]))
    classes = _class_columns(frame, free, labels)
    return _of_columns(frame, classes, labels, counted, certain=False) if classes else None


def plurality(counts: Mapping[str, float]) -> str | None:
    """Return the class with most votes, or None if several have as many or there are no votes.

    Example:
        >>> plurality({"sad": 2, "happy": 1}), plurality({"sad": 1, "happy": 1})
        ('sad', None)
    """
    most = max(counts.values(), default=0)
    first = [word for word, count in counts.items() if count == most]
    return first[0] if most > 0 and len(first) == 1 else None


def _of_columns(
    frame: pd.DataFrame,
    classes: Mapping[str, str],
    labels: Sequence[str] | None,
    raters: NDArray[np.float64] | None,
    *,
    certain: bool,
) -> TableVotes | None:
    """Read one column for each class.

    Args:
        frame: N rows.
        classes: Column → class.
        labels: As for ``find_votes``.
        raters: (N,) number of raters.
        certain: Whether the names of the columns say that they hold votes.
    """
    columns = list(classes)
    errors: list[tuple[int, str]] = []
    values = np.array([parsed(frame[name], number, np.nan, "votes", errors).to_numpy() for name in columns]).T
    blank = np.isnan(values).all(axis=1) & [not any(map(text, row)) for row in frame[columns].to_numpy(dtype=object)]
    values[~blank] = np.nan_to_num(values[~blank])
    unread = {row for row, _ in errors}
    usable = np.array([row not in unread for row in range(len(frame))]) & ~blank
    if errors and not certain:
        return None
    notes: list[str] = []
    whole = (values == np.rint(values)) | np.isnan(values)
    sums = values[usable].sum(axis=1)
    if _shares_like(values[usable], sums) and not whole[usable].all():
        found = counts_of(np.where(usable[:, None], values, np.nan), raters)
        counts, notes = found.counts, [found.note]
        errors += [(row, f"votes: {problem}") for row, problem in found.problems]
        unread |= {row for row, _ in found.problems}
    elif certain or (whole[usable].all() and usable.any() and values[usable].min() >= 0):
        if not certain and (sums == 1).all() and values[usable].max() <= 1:
            return _one_hot(columns, classes, values, usable) if labels is None else None
        wrong = usable & ~whole.all(axis=1)
        broken = np.flatnonzero(wrong).tolist()
        errors += [(row, f"votes: {_texts(frame, columns, row)} are not whole numbers") for row in broken]
        unread |= set(broken)
        counts = np.where(wrong[:, None] | np.isnan(values), 0, values)
    else:
        return None
    others = [at for at, name in enumerate(columns) if folded(classes[name]) in _OTHER and not _is_label(name, labels)]
    own = [at for at in range(len(columns)) if at not in others]
    tallies = [
        None if blank[row] or row in unread else tuple(int(count) for count in counts[row, own])
        for row in range(len(frame))
    ]
    sums_of_others = _sums(counts, [classes[name] for name in columns], labels)
    return TableVotes(
        tuple(columns),
        tuple(classes[columns[at]] for at in own),
        tallies,
        counts[:, others].sum(axis=1).tolist() if others else None,
        errors=errors,
        column_errors=[(columns[at], "is the sum of the other votes; rename the column") for at in sums_of_others],
        notes=notes,
    )


def _shares_like(values: NDArray[np.float64], sums: NDArray[np.float64]) -> bool:
    near = np.abs(sums - 1) <= SUM_TOLERANCE
    return bool(len(values)) and bool(values.min() >= 0) and bool(values.max() <= 1) and bool(near.mean() > 0.5)


def _one_hot(
    columns: Sequence[str], classes: Mapping[str, str], values: NDArray[np.float64], usable: NDArray[np.bool_]
) -> TableVotes:
    rows = [tuple(int(v) for v in values[row]) if usable[row] else None for row in range(len(values))]
    names = tuple(classes[name] for name in columns)
    note = f"labels from the columns {', '.join(columns)}, one of which is 1"
    return TableVotes(tuple(columns), names, rows, notes=(note,), are_labels=True)


def _is_label(name: str, labels: Sequence[str] | None) -> bool:
    return labels is not None and name in labels


def _sums(counts: NDArray[Any], classes: Sequence[str], labels: Sequence[str] | None) -> list[int]:
    """Return the columns that are the sum of all others in every row, and no class that an utterance has."""
    if len(classes) < 3 or not counts.any():
        return []
    total = counts.sum(axis=1)
    known = set(labels or ())
    return [
        at
        for at, name in enumerate(classes)
        if name not in known and counts[:, at].any() and np.array_equal(total, 2 * counts[:, at])
    ]


def _class_columns(frame: pd.DataFrame, free: Sequence[str], labels: Sequence[str] | None) -> dict[str, str]:
    """Return the columns that are named like classes or emotions and hold numbers, with the class of each."""
    numeric = [name for name in free if _holds_numbers(frame[name])]
    words = {word for word in labels or () if word}
    by_fold = {folded(word): word for word in words}
    by_emotion = Counter(emotion_of(word) for word in words)
    of_emotion = {emotion_of(word): word for word in words if by_emotion[emotion_of(word)] == 1}

    def class_of(column: str) -> str | None:
        if folded(column) in by_fold:
            return by_fold[folded(column)]
        emotion = emotion_of(column)
        return of_emotion.get(emotion, column) if emotion else None

    found = {name: word for name in numeric if (word := class_of(name)) is not None}
    if len(set(found.values())) < 2 or len(set(found.values())) < len(found):
        return {}
    found |= {name: name for name in numeric if folded(name) in _OTHER and name not in found}
    columns = _completed(frame, numeric, [name for name in numeric if name in found])
    return {name: found.get(name, name) for name in columns}


def _completed(frame: pd.DataFrame, numeric: Sequence[str], found: Sequence[str]) -> Sequence[str]:
    """Return columns with those between and next to them that make their shares add up to 1, if there are such.

    Shares may be of emotions whose names are not known.
    """
    if _add_up(frame[list(found)]):
        return found
    places = [numeric.index(name) for name in found]
    for width in range(max(places) - min(places) + 1, len(numeric) + 1):
        for begin in range(max(0, max(places) - width + 1), min(min(places), len(numeric) - width) + 1):
            window = numeric[begin : begin + width]
            if all(_within_one(frame[name]) for name in window) and _add_up(frame[list(window)]):
                return window
    return found


def _numbers(frame: pd.DataFrame) -> NDArray[np.float64]:
    errors: list[tuple[int, str]] = []
    return np.array([parsed(frame[name], number, np.nan, name, errors).to_numpy() for name in frame.columns]).T


def _holds_numbers(cells: pd.Series) -> bool:
    errors: list[tuple[int, str]] = []
    found = parsed(cells, number, np.nan, "", errors)
    return not errors and bool(found.notna().any())


def _within_one(cells: pd.Series) -> bool:
    found = _numbers(cells.to_frame())
    return bool(np.nanmin(found) >= 0) and bool(np.nanmax(found) <= 1)


def _add_up(frame: pd.DataFrame) -> bool:
    sums = np.nansum(_numbers(frame), axis=1)
    return bool((np.abs(sums - 1) <= SUM_TOLERANCE).all())


def _texts(frame: pd.DataFrame, columns: Sequence[str], row: int) -> str:
    return shown([text(cell) for cell in frame[list(columns)].iloc[row]])


def _are_labels(frame: pd.DataFrame, labels: Sequence[str] | None) -> bool:
    """Return whether the cells of raters are classes, in contrast to ratings on a scale."""
    words = {text(cell) for name in frame.columns for cell in frame[name]} - {""}
    if labels is not None:
        return bool(words & set(labels))
    return any(not word.replace(".", "", 1).lstrip("-").isdecimal() for word in words)


def _said_in_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return (row, annotator, label) of each cell that is not blank."""
    said = [(row, name, word) for name in frame.columns for row, cell in enumerate(frame[name]) if (word := text(cell))]
    return pd.DataFrame(said, columns=["row", "annotator", "label"])


def _listed_counts(cell: Any) -> tuple[int, ...] | None:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell) if cell.strip() else None
        except (json.JSONDecodeError, RecursionError):
            raise ValueError(f"{shown(cell)} is not a list such as [2, 0, 1]") from None
    if is_missing(cell):
        return None
    if not isinstance(cell, list | tuple | np.ndarray):
        raise TypeError(f"{shown(cell)} is not a list such as [2, 0, 1]")
    numbers = [number(item) if text(item) else 0.0 for item in cell]
    if not all(item.is_integer() for item in numbers):
        raise ValueError(f"{shown(list(map(text, cell)))} are not whole numbers")
    return tuple(map(int, numbers)) if any(text(item) for item in cell) else None
