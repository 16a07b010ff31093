"""Designs of the confirmations: what each declared before it began, and what of it is still missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from analysis.common.records import Records
from analysis.common.text import counted, listing
from ser.corpora.classes import FORMER
from study.options import ConfirmOptions
from study.schema import DESIGN, FINISHED, KIND, PARENT, SEARCH_RECORD, Tag, in_words
from study.setup.design import TRAINING as OFFICIAL_UNIT
from study.setup.design import Design

TRAINING = ["noise", "space", "candidate", "fold", "seed"]
"""Columns that identify a training of a confirmation."""

OWN_DRAW = "each with its own seed and noise draw"
MOST_NAMED = 3


def planned_trainings(design: Design) -> pd.DataFrame:
    """Return one row per planned training, with the columns ``TRAINING``."""
    rows = [
        (one.noise, one.space, one.name, fold.number, seed)
        for one in design.candidates
        for fold in design.folds
        for seed in design.seeds
    ]
    return pd.DataFrame(rows, columns=TRAINING)


def missing_trainings(design: Design, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the planned trainings that have not finished, with the columns ``TRAINING``.

    Args:
        design: Design of a confirmation.
        trials: Rows of ``Records.confirmed`` of this confirmation.
    """
    done = trials.loc[trials["status"] == FINISHED, TRAINING].drop_duplicates()
    merged = planned_trainings(design).merge(done, on=TRAINING, how="left", indicator=True)
    return merged.loc[merged["_merge"] == "left_only", TRAINING]


def data_options(records: Records) -> list[str]:
    """Return the options of a new confirmation that name the data of the trials that are shown.

    Args:
        records: Records of the experiment.
    """
    runs = (*records.matched.search, *records.matched.confirmed)
    parents = {run.data.tags.get(MLFLOW_PARENT_RUN_ID, "") for run in runs[:1]} - {""}
    found = (records.document(parent, SEARCH_RECORD) for parent in parents)
    options: Mapping[str, Any] = next((document["options"] for document in found if document is not None), {})
    words = []
    for name in ("corpus", "corpus_root", "corpus_options", "classes", "exclude"):
        if (value := options.get(name)) not in (None, [], getattr(ConfirmOptions, name, None), FORMER):
            words += [f"--{name.replace('_', '-')}", *(value if isinstance(value, list) else [str(value)])]
    return words


def design_in_words(design: Design) -> str:
    """Return the units of a design in words, and how many trainings each has."""
    speakers = {fold.number: frozenset(fold.test) for fold in design.folds}
    return units_in_words(design.unit, speakers, len(design.seeds))


def units_in_words(unit: str, folds: Mapping[int, frozenset[str]], seeds: int) -> str:
    """Return the units of inference in words.

    Args:
        unit: Unit of a ``study.setup.design.Design``.
        folds: Number of each fold → its test speakers.
        seeds: Number of seeds of each fold.

    Example:
        >>> units_in_words("speaker group", {1: frozenset("ab"), 2: frozenset("cd")}, 2)
        '2 folds of 2 speakers, each with 2 seeds and noise draws'
        >>> units_in_words("training", {1: frozenset("ab")}, 8)
        '8 trainings on one official split, each with its own seed and noise draw'
    """
    if unit == OFFICIAL_UNIT:
        return f"{counted(seeds, 'training')} on one official split, {OWN_DRAW}"
    sizes = sorted({len(speakers) for speakers in folds.values()})
    each = "one speaker" if sizes == [1] else counted(sizes[0], "speaker")
    if len(sizes) > 1:
        each = f"{sizes[0]} to {sizes[-1]} speakers"
    draws = OWN_DRAW if seeds == 1 else f"each with {seeds} seeds and noise draws"
    return f"{counted(len(folds), 'fold')} of {each}, {draws}"


def read_design(records: Records, study: str) -> tuple[Design | None, str]:
    """Read the design of a confirmation from its parent runs, and check its digest.

    Args:
        records: Records of the experiment.
        study: Name of the confirmation.

    Returns:
        The design, with spaces under the names that are shown, and an empty text; or None and the reason in one clause.
    """
    parents = [run for run in records.runs if {KIND: PARENT, Tag.STUDY: study}.items() <= run.data.tags.items()]
    recorded = set(records.confirmed.loc[records.confirmed["study"] == study, "design"]) - {""}
    documents = (records.document(run.info.run_id, DESIGN) for run in parents)
    document = next((found for found in documents if found is not None), None)
    if document is None:
        if recorded:
            return None, f"the design of confirmation {study} cannot be read from {DESIGN}"
        return None, f"confirmation {study} has no design"
    design = Design.of(document)
    if recorded != {design.digest}:
        return None, f"{DESIGN} of confirmation {study} is not the one that its trainings recorded"
    mine = [run for run in records.matched.confirmed if run.data.tags[Tag.STUDY] == study]
    return _renamed(design, {run.data.tags[Tag.SPACE]: records.space_of(run) for run in mine}), ""


def missing_sentence(missing: pd.DataFrame, planned: int, resume: str) -> str:
    """Return a sentence on the planned trainings that are missing.

    Args:
        missing: From ``missing_trainings``, not empty.
        planned: Number of planned trainings.
        resume: The command that resumes the confirmation.
    """
    cells: dict[tuple[int, ...], list[str]] = {}
    for (noise, space), rows in missing.groupby(["noise", "space"], sort=False):
        cells.setdefault(tuple(sorted(set(map(int, rows["fold"])))), []).append(f"{in_words(str(space))} at {noise}")
    where = [f"{listing(names)} in {counted(len(folds), 'fold')} ({_first(folds)})" for folds, names in cells.items()]
    return (
        f"{len(missing)} of {counted(planned, 'planned training')} have not finished: {'; '.join(where)}. To resume: "
        f"{resume}"
    )


def _renamed(design: Design, names: Mapping[str, str]) -> Design:
    """Return a design whose spaces have the names that are shown."""
    if all(name == shown for name, shown in names.items()):
        return design

    def shown(name: str) -> str:
        return names.get(name, name)

    primary = design.primary and {**design.primary, "method": shown(design.primary["method"])}
    return replace(
        design,
        methods=tuple(map(shown, design.methods)),
        candidates=tuple(replace(one, space=shown(one.space)) for one in design.candidates),
        reference=design.reference and shown(design.reference),
        primary=primary,
        stopped=tuple(map(shown, design.stopped)),
    )


def _first(numbers: Sequence[int]) -> str:
    more = ", …" if len(numbers) > MOST_NAMED else ""
    return ", ".join(map(str, numbers[:MOST_NAMED])) + more
