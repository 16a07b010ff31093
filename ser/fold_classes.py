"""Classes that the subsets of a fold have: said before training begins, and refused where a result means nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ser.corpora.corpus import Corpus
from ser.metrics.absent_classes import absent_classes, uar_over
from ser.splits import SUBSETS, Fold, Validation, split
from ser.utils.errors import UserError

FEW = 3
"""Fewer training utterances than this of a class are said."""
MOST_LISTED = 6
"""Largest number of folds that are listed by their numbers."""


def class_counts(corpus: Corpus, fold: Fold) -> NDArray[np.int64]:
    """Return (3, C) the number of utterances of each class in train, validation and test.

    Args:
        corpus: Any corpus.
        fold: One of its folds.
    """
    return np.array([np.bincount(corpus.labels[rows], minlength=len(corpus.classes)) for rows in fold.subsets.values()])


def class_lines(corpus: Corpus, fold: Fold) -> list[str]:
    """Say what is missing or rare in the subsets of a fold, with the number of utterances per class and subset.

    Args:
        corpus: Any corpus.
        fold: One of its folds.

    Returns:
        Lines for people; none if every class is in every subset, with three training utterances and two others.
    """
    counts = class_counts(corpus, fold)
    absent = absent_classes(corpus.classes, {name: corpus.labels[rows] for name, rows in fold.subsets.items()})
    lines = [uar_over(absent, len(corpus.classes), subset) for subset in ("validation", "test")]
    if missing := absent.get("train"):
        lines.append(f"no training utterance of {', '.join(missing)}: it cannot be recognised")
    for subset, row in zip(SUBSETS, counts.tolist(), strict=True):
        few = [
            f"{number} of {name}"
            for name, number in zip(corpus.classes, row, strict=True)
            if 0 < number < (FEW if subset == "train" else 2)
        ]
        lines += [f"few {subset} utterances: {', '.join(few)}"] if few else []
    lines = [f"warning: {line}" for line in lines if line]
    return [*lines, *_table(corpus.classes, counts)] if lines else []


def _table(classes: Sequence[str], counts: NDArray[np.int64]) -> list[str]:
    width = max(map(len, (*classes, "utterances")))
    rows = [("utterances", *SUBSETS), *((name, *map(str, row)) for name, row in zip(classes, counts.T, strict=True))]
    return ["  " + f"{name:<{width}}" + "".join(f"{value:>12}" for value in values) for name, *values in rows]


def folds_lines(corpus: Corpus, folds: Iterable[Fold]) -> list[str]:
    """Say which classes the subsets of several folds lack, in a line for each class and subset.

    Args:
        corpus: Any corpus.
        folds: Folds of it.

    Returns:
        Lines for people; none if every class is in every subset of every fold.
    """
    chosen = list(folds)
    present = np.array([class_counts(corpus, fold) > 0 for fold in chosen])
    lines = []
    for place, subset in enumerate(("training", "validation", "test")):
        for column, name in enumerate(corpus.classes):
            lacking = [fold.number for fold, has in zip(chosen, present[:, place, column], strict=True) if not has]
            if lacking:
                lines.append(f"class {name} is not in the {subset} of {_numbers(lacking, len(chosen))}")
    return lines


def _numbers(folds: Sequence[int], count: int) -> str:
    if len(folds) == count:
        return "any fold"
    if len(folds) > MOST_LISTED:
        return f"{len(folds)} of {count} folds"
    return f"fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))}"


def check_classes(corpus: Corpus, fold: Fold, by: str, validation: Validation) -> None:
    """Raise if a fold cannot mean anything, because training or validation has one class alone.

    Args:
        corpus: Any corpus.
        fold: The fold that a search or a training holds out.
        by: The way of dividing that it was made with, as for ``ser.splits.split``.
        validation: As for ``ser.splits.split``.

    Raises:
        UserError: It does; the message names another fold that has more, if there is one.
    """
    problem = one_class(corpus, fold)
    if not problem:
        return
    raise UserError(
        f"{problem}, so no score would mean anything: always saying that class would be right. "
        f"{_advice(corpus, by, validation)}\n" + "\n".join(_table(corpus.classes, class_counts(corpus, fold)))
    )


def one_class(corpus: Corpus, fold: Fold) -> str:
    """Return which of training and validation has one class alone, in words; empty if neither has.

    Args:
        corpus: Any corpus.
        fold: One of its folds.
    """
    for subset, row in zip(("training", "validation"), class_counts(corpus, fold), strict=False):
        if (row > 0).sum() < 2:
            (only,) = np.flatnonzero(row)
            return (
                f"the {subset} of fold {fold.number} of corpus {corpus.name!r} has one class alone "
                f"({row[only]} utterances of {corpus.classes[only]})"
            )
    return ""


def _advice(corpus: Corpus, by: str, validation: Validation) -> str:
    """Return the options of the fold that lacks the fewest classes of those without the problem."""
    kinds: tuple[Validation, ...] = (validation, "random")
    for kind in dict.fromkeys(kinds):  # the latter leaks speakers: only if nothing else helps
        for way in dict.fromkeys((by, "auto", "speaker")):
            folds = [one for one in all_folds(corpus, way, kind) if not one_class(corpus, one)]
            if folds:
                best = min(folds, key=lambda one: int((class_counts(corpus, one) == 0).sum()))
                changed = f"--split-by {way} " * (way != by) + f"--validation {kind} " * (kind != validation)
                return f"Choose another fold: {changed}--fold {best.number}"
    return "Choose other --classes, or add utterances of other speakers."


def all_folds(corpus: Corpus, by: str = "auto", validation: Validation = "held-out") -> list[Fold]:
    """Return all folds of a way of dividing; none if it is not possible.

    Args:
        corpus: Any corpus.
        by: As for ``ser.splits.split``.
        validation: As for ``ser.splits.split``.
    """
    try:
        first = split(corpus, 1, by, validation)
        return [first, *(split(corpus, number, by, validation) for number in range(2, first.count + 1))]
    except UserError:
        return []
