"""Test predictions of confirmed trials as counts by speaker and class: all that a comparison of UARs needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.common.records import Records
from ser.training.utterance_table import PROBABILITY, STOPPED_LABEL, SUBSET, TEST
from ser.utils.command_names import command_line
from ser.utils.errors import UserError
from study.schema import AT_STOP

Column = NDArray[Any]
COLUMNS = ("method", "level", "fold", "seed", "speaker", "label", "correct", "total")


@dataclass(frozen=True, eq=False)
class Results:
    """Test results of confirmed trials.

    Args:
        table: One row per (method, level, fold, seed, speaker, label) with ``correct`` and ``total``, the input of
            ``analysis.inference.compare_methods``.
        untabled: Run ids of trials without a per-utterance table.
        untrue: Run ids of trials whose test utterances have no true label.
        unlabelled: Largest number of test utterances of a trial that have no true label and are not counted.
    """

    table: pd.DataFrame
    untabled: tuple[str, ...]
    untrue: tuple[str, ...]
    unlabelled: int


def read_results(records: Records, trials: pd.DataFrame, stopped: Sequence[str] = ()) -> Results:
    """Count the test predictions of trials.

    Args:
        records: Records of the experiment.
        trials: Rows of ``Records.confirmed``, one for each level, space, fold and seed.
        stopped: Spaces that also count with their honest early stop, as method ``SPACE@stopped``.

    Raises:
        UserError: If a per-utterance table cannot be read or has other classes.
    """
    parts, untabled, untrue, unlabelled = [], [], [], 0
    for trial in trials.to_dict("records"):
        utterances = records.utterances(trial["run_id"])
        if utterances is None:
            untabled.append(trial["run_id"])
            continue
        test = utterances[utterances[SUBSET] == TEST]
        labelled = test[test["label"].notna()]
        if labelled.empty:
            untrue.append(trial["run_id"])
            continue
        unlabelled = max(unlabelled, len(test) - len(labelled))
        for suffix, predicted in _predictions(labelled, records.classes, trial["space"] in stopped):
            where = {"method": trial["space"] + suffix, "level": trial["noise"]}
            counts = _count(labelled, predicted, records.classes)
            parts.append({**where, "fold": trial["fold"], "seed": trial["seed"], **counts})
    table = pd.DataFrame({name: _column(name, parts) for name in COLUMNS})
    return Results(table, tuple(untabled), tuple(untrue), unlabelled)


def _predictions(
    labelled: pd.DataFrame, classes: Sequence[str], also_stopped: bool
) -> Iterator[tuple[str, NDArray[np.object_]]]:
    """Yield the predicted classes at the last epoch, and at the early stop where it counts and is on record."""
    columns = [PROBABILITY + name for name in classes]
    if not set(labelled["label"]) <= set(classes) or not set(columns) <= set(labelled.columns):
        raise UserError(
            f"a per-utterance table has other classes than its trial's record ({', '.join(classes)}). Confirm again: "
            f"{command_line('study/confirm.py')} with a new --name."
        )
    yield "", np.array(classes, dtype=object)[labelled[columns].to_numpy().argmax(axis=1)]
    if also_stopped and STOPPED_LABEL in labelled and labelled[STOPPED_LABEL].notna().all():
        yield AT_STOP, labelled[STOPPED_LABEL].to_numpy(dtype=object)


def _count(labelled: pd.DataFrame, predicted: NDArray[np.object_], classes: Sequence[str]) -> dict[str, Column]:
    """Return ``speaker``, ``label``, ``correct`` and ``total`` of each speaker and class with utterances."""
    truth = labelled["label"].to_numpy(dtype=object)
    speakers, speaker = np.unique(labelled["speaker"].to_numpy(dtype=str), return_inverse=True)
    cell = speaker * len(classes) + pd.Index(classes).get_indexer(pd.Index(truth))
    size = len(speakers) * len(classes)
    total, correct = np.bincount(cell, minlength=size), np.bincount(cell[truth == predicted], minlength=size)
    (there,) = np.nonzero(total)
    names = np.array(classes, dtype=object)[there % len(classes)]
    tested = speakers.astype(object)[there // len(classes)]
    return {"speaker": tested, "label": names, "correct": correct[there], "total": total[there]}


def _column(name: str, parts: Sequence[Mapping[str, Any]]) -> Column:
    """Return a column of the counts of all trials; what is the same for a whole trial is repeated."""
    if not parts:
        return np.array([], dtype=object)
    if isinstance(parts[0][name], np.ndarray):
        return np.concatenate([part[name] for part in parts])
    return np.repeat([part[name] for part in parts], [len(part["total"]) for part in parts])
