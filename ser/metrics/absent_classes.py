"""Classes that a subset lacks, over which UAR is not computed: found, and put into words in one way everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

TRAIN, VALIDATION, NOISY, TEST = "train", "validation", "validation_noisy", "test"
"""Training labels as trained on; true validation labels; noisy ones, where they lack others; true test labels."""

_WORDS = {
    TRAIN: "training has",
    VALIDATION: "validation has",
    NOISY: "the noisy validation labels have",
    TEST: "test has",
    "all": "the corpus has",
}
_OF_METRIC = {"val": VALIDATION, "val_noisy": NOISY, "test": TEST}

MOST_LISTED = 6
"""Largest number of places that a sentence names."""

Absent = Mapping[str, Sequence[str]]
"""Subset → classes that it lacks; subsets that lack none are left out."""


def absent_classes(classes: Sequence[str], labels: Mapping[str, ArrayLike]) -> dict[str, list[str]]:
    """Return the classes that subsets lack.

    Args:
        classes: C class names.
        labels: Subset → class indices, −1 where unknown; a subset without a known label is left out.

    Example:
        >>> absent_classes(("angry", "happy", "sad"), {"train": [0, 1, 2], "validation": [0, 2, -1]})
        {'validation': ['happy']}
    """
    found = {}
    for subset, indices in labels.items():
        present = {int(index) for index in np.unique(np.asarray(indices)) if index >= 0}
        if present and (missing := [name for index, name in enumerate(classes) if index not in present]):
            found[subset] = missing
    return found


def over_classes(absent: Absent, classes: int, metric: str) -> str:
    """Return over how many classes a UAR is, such as ``over 3 of 4 classes``; empty if it is over all of them.

    Args:
        absent: From ``absent_classes``.
        classes: Number of all classes.
        metric: Name of a metric; only of UAR are there any words.

    Example:
        >>> over_classes({"validation": ["disgust"]}, 4, "val/uar")
        'over 3 of 4 classes'
        >>> over_classes({"validation": ["disgust"]}, 4, "val/nll")
        ''
    """
    missing = absent.get(_OF_METRIC.get(metric.partition("/")[0], ""), ())
    return _over(classes, missing) if missing and metric.endswith("uar") else ""


def uar_over(absent: Absent, classes: int, subset: str) -> str:
    """Return over which classes a subset's UAR is, and which are missing; empty if it is over all of them.

    Args:
        absent: From ``absent_classes``.
        classes: Number of all classes.
        subset: Name of the subset.

    Example:
        >>> uar_over({"validation": ["disgust"]}, 4, "validation")
        'UAR over 3 of 4 classes (validation has no disgust)'
    """
    missing = absent.get(subset, ())
    return f"UAR {_over(classes, missing)} ({_WORDS[subset]} no {_listed(missing)})" if missing else ""


def absent_lines(found: Iterable[tuple[Absent, str]], classes: int) -> list[str]:
    """Return a sentence on each way in which UAR is over fewer classes, and on classes without training.

    Args:
        found: What each trial lacks, and where that is, such as ``fold 3``.
        classes: Number of all classes.

    Example:
        >>> trials = [({"test": ["sad"]}, "fold 2"), ({"test": ["sad"], "train": ["joy"]}, "fold 7")]
        >>> for line in absent_lines(trials, 4):
        ...     print(line)
        UAR over 3 of 4 classes (test has no sad): fold 2, fold 7.
        Training has no joy, which cannot be recognised then: fold 7.
    """
    lines: dict[str, dict[str, None]] = {}
    for absent, where in found:
        noisy = () if absent.get(NOISY) == absent.get(VALIDATION) else (NOISY,)
        texts = [uar_over(absent, classes, subset) for subset in (VALIDATION, *noisy, TEST)]
        if missing := absent.get(TRAIN):
            texts.append(f"Training has no {_listed(missing)}, which cannot be recognised then")
        for text in filter(None, texts):
            lines.setdefault(text, {})[where] = None
    return [f"{text}: {_places(list(places))}." for text, places in lines.items()]


def _places(names: Sequence[str]) -> str:
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _over(classes: int, missing: Sequence[str]) -> str:
    return f"over {classes - len(missing)} of {classes} classes"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and no {names[-1]}"
