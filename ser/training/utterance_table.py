"""The table of what became of each utterance's label: one row for each utterance of the parts that a run has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ser.training.task import Subset, Task

TRAIN, VALIDATION, TEST = "train", "validation", "test"
"""The parts of the table."""

PROBABILITY = "p_"
"""Before the name of a class: the column of its probabilities."""

SUBSET, OLD_SUBSET = "subset", "part"  # version 0.1 called the column part
TEXT = ("utterance_id", SUBSET, "speaker", "gender", "noisy_label", "label", "corrected_label")
FROM_LOSS = ("kept", "trust", "first_epoch_changed")
AGREEMENT = "agreement"
"""The annotators' agreement; tables of older versions lack it."""


@dataclass(frozen=True, eq=False)
class LastSeen:
    """What a loss last made of the n training utterances.

    Args:
        probabilities: (n, C) float32, what the loss saw of the network: one crop, with masks and dropout. NaN where
            an utterance was never drawn.
        corrected: (n,) class indices after the correction, −1 where never drawn.
        kept: (n,) float32, what the noisy label had of the corrected target, 1 where nothing was taken from it; NaN
            where never drawn.
        trust: (n,) float32 in [0, 1], the ε of the loss; NaN where never drawn.
        first_changed: (n,) the first epoch, from 1, in which the label was changed; 0 for never.
    """

    probabilities: NDArray[np.float32]
    corrected: NDArray[np.int64]
    kept: NDArray[np.float32]
    trust: NDArray[np.float32]
    first_changed: NDArray[np.int64]


def utterance_table(
    task: Task, seen: LastSeen, validation: NDArray[np.floating], test: NDArray[np.floating] | None = None
) -> pd.DataFrame:
    """What became of each training utterance, and what was predicted for each validation and test utterance.

    Args:
        task: The n train and m validation utterances.
        seen: What the loss last made of the former.
        validation: (m, C) class probabilities of the latter, from the final evaluation.
        test: (k, C) likewise of the test utterances, where the task has them.

    Returns:
        n + m + k rows. Text: ``utterance_id``; ``part``, ``train``, ``validation`` or ``test``; ``speaker``;
        ``gender``; ``noisy_label``; ``label``, the true one, missing where unknown; ``corrected_label``. Float32:
        ``kept``, ``trust``. Int64: ``first_epoch_changed``, missing for never. Text: ``agreement``, out of
        ``ser.metrics.agreement.STRATA``, missing without votes. Float32: ``p_CLASS`` for each class. Of a training utterance
        that was never drawn, all that ``seen`` tells is missing; in validation and test, all that only a loss can
        tell; in test, the noisy label too.
    """
    train = _part(TRAIN, task.train, task.classes, seen.probabilities)
    train["corrected_label"] = _names(task.classes, seen.corrected)
    train["kept"], train["trust"] = seen.kept, seen.trust
    train["first_epoch_changed"] = pd.arrays.IntegerArray(seen.first_changed, seen.first_changed == 0)
    predicted = [_part(VALIDATION, task.validation, task.classes, validation.astype(np.float32))]
    if task.test is not None and test is not None:
        predicted.append(_part(TEST, task.test, task.classes, test.astype(np.float32)))
        predicted[-1]["noisy_label"] = None  # nobody has put noise on it
    for rest in predicted:
        rest["corrected_label"] = None
        rest["kept"] = rest["trust"] = np.full(len(rest), np.nan, np.float32)
        rest["first_epoch_changed"] = pd.array([pd.NA] * len(rest), dtype="Int64")
    text = dict.fromkeys((*TEXT, AGREEMENT), "string")  # also where all is missing
    table = pd.concat([part.astype(text) for part in (train, *predicted)], ignore_index=True)
    return table[[*TEXT, *FROM_LOSS, AGREEMENT, *(PROBABILITY + label for label in task.classes)]]


def _part(name: str, part: Subset, classes: tuple[str, ...], probabilities: NDArray[np.float32]) -> pd.DataFrame:
    known = {
        "utterance_id": part.utterance_ids,
        "subset": name,
        "speaker": part.speakers,
        "gender": part.genders,
        "noisy_label": _names(classes, part.noisy),
        "label": _names(classes, part.truth),
        AGREEMENT: part.agreement,
    }
    predicted = {PROBABILITY + label: probabilities[:, place] for place, label in enumerate(classes)}
    return pd.DataFrame({**known, **predicted})


def _names(classes: tuple[str, ...], indices: NDArray[np.int64]) -> NDArray[np.object_]:
    """Class names; None for −1."""
    return np.array([*classes, None], dtype=object)[indices]
