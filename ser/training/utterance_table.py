"""The per-utterance table of a training run: labels, corrections and predictions, one row per utterance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ser.training.task import Subset, Task

if TYPE_CHECKING:
    import pandas as pd

TRAIN, VALIDATION, TEST = "train", "validation", "test"
"""Subsets of the table."""

PROBABILITY = "p_"
"""Prefix of the columns of class probabilities, followed by the name of the class."""

SUBSET, OLD_SUBSET = "subset", "part"  # the name of the column now, and in tables of version 0.1
TEXT = ("utterance_id", SUBSET, "speaker", "gender", "noisy_label", "label", "corrected_label")
FROM_LOSS = ("kept", "trust", "first_epoch_changed")
AGREEMENT = "agreement"
"""Column of the annotators' agreement; tables of older versions lack it."""
STOPPED_LABEL = "stopped_label"
"""Column of the class predicted at the honest early stop, for test rows; tables of older versions lack it."""


@dataclass(frozen=True, eq=False)
class LastSeen:
    """Last output of the network and the loss for each of the n training utterances.

    Args:
        probabilities: (n, C) float32 predictions for the last crop, with masks and dropout; NaN where an utterance was
            never drawn.
        corrected: (n,) class indices after the correction, −1 where never drawn.
        kept: (n,) float32, share of the noisy label in the corrected target, 1 where it was not changed; NaN where
            never drawn.
        trust: (n,) float32 in [0, 1], the ε of the loss; NaN where never drawn.
        first_changed: (n,) first epoch, from 1, in which the label was changed; 0 for never.
    """

    probabilities: NDArray[np.float32]
    corrected: NDArray[np.int64]
    kept: NDArray[np.float32]
    trust: NDArray[np.float32]
    first_changed: NDArray[np.int64]


def utterance_table(
    task: Task,
    seen: LastSeen,
    validation: NDArray[np.floating],
    test: NDArray[np.floating] | None = None,
    stopped: NDArray[np.int64] | None = None,
) -> pd.DataFrame:
    """Build the per-utterance table.

    Args:
        task: The n train, m validation and, where the task has them, k test utterances.
        seen: Last outputs for the training utterances.
        validation: (m, C) class probabilities of the validation utterances, from the final evaluation.
        test: (k, C) class probabilities of the test utterances, from the final evaluation.
        stopped: (k,) class indices predicted for the test utterances at the honest early stop; None if not known.

    Returns:
        n + m + k rows. Text: ``utterance_id``; ``subset`` (``train``, ``validation`` or ``test``); ``speaker``;
        ``gender``; ``noisy_label``; ``label``, the true one, missing where unknown; ``corrected_label``. Float32:
        ``kept``, ``trust``. Int64: ``first_epoch_changed``, missing for never. Text: ``agreement``, out of
        ``ser.metrics.agreement.STRATA``, missing without votes; and ``stopped_label``, missing in train and
        validation. Float32: ``p_CLASS`` for each class. The columns of ``LastSeen`` are missing for training utterances
        that were never drawn and, except the probabilities, in validation and test; the noisy label is missing in test.
    """
    import pandas as pd  # imported here because only the last epoch of a run needs pandas

    train = _subset_rows(TRAIN, task.train, task.classes, seen.probabilities)
    train["corrected_label"] = _names(task.classes, seen.corrected)
    train["kept"], train["trust"] = seen.kept, seen.trust
    train["first_epoch_changed"] = pd.arrays.IntegerArray(seen.first_changed, seen.first_changed == 0)
    predicted = [_subset_rows(VALIDATION, task.validation, task.classes, validation.astype(np.float32))]
    if task.test is not None and test is not None:
        predicted.append(_subset_rows(TEST, task.test, task.classes, test.astype(np.float32)))
        predicted[-1]["noisy_label"] = None  # test labels are never corrupted
        if stopped is not None:
            predicted[-1][STOPPED_LABEL] = _names(task.classes, stopped)
    for rest in predicted:
        rest["corrected_label"] = None
        rest["kept"] = rest["trust"] = np.full(len(rest), np.nan, np.float32)
        rest["first_epoch_changed"] = pd.array([pd.NA] * len(rest), dtype="Int64")
    text = dict.fromkeys((*TEXT, AGREEMENT, STOPPED_LABEL), "string")  # also where all values are missing
    table = pd.concat([rows.astype(text) for rows in (train, *predicted)], ignore_index=True)
    return table[[*TEXT, *FROM_LOSS, AGREEMENT, STOPPED_LABEL, *(PROBABILITY + label for label in task.classes)]]


def _subset_rows(
    name: str, subset: Subset, classes: tuple[str, ...], probabilities: NDArray[np.float32]
) -> pd.DataFrame:
    import pandas as pd

    known = {
        "utterance_id": subset.utterance_ids,
        SUBSET: name,
        "speaker": subset.speakers,
        "gender": subset.genders,
        "noisy_label": _names(classes, subset.noisy),
        "label": _names(classes, subset.truth),
        AGREEMENT: subset.agreement,
        STOPPED_LABEL: None,
    }
    predicted = {PROBABILITY + label: probabilities[:, place] for place, label in enumerate(classes)}
    return pd.DataFrame({**known, **predicted})


def _names(classes: tuple[str, ...], indices: NDArray[np.int64]) -> NDArray[np.object_]:
    """Return class names, None for −1."""
    return np.array([*classes, None], dtype=object)[indices]
