"""Reads the trials of searches from MLflow and ranks those that are comparable."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from ser.labels import CONSENSUS
from ser.metrics.absent_classes import absent_lines
from ser.metrics.classification import METRICS
from ser.utils.command_names import command_line
from ser.utils.errors import UserError
from study.schema import (
    FAILED,
    FINISHED,
    KIND,
    PARENT,
    RUNNING,
    SEARCH,
    SEARCH_RECORD,
    SELECTIONS,
    STOPPED,
    TRIAL,
    Selection,
    Tag,
    absent_of,
    in_words,
    rate_of,
    space_and_labels,
    status_of,
)
from study.tracking.artifacts import read_document
from study.tracking.matching import match, newest_of, several_contents, space_names
from study.tracking.store import classes_of, find_run, quoted, search_all

# Column of a table of trials → metric of the records, at the last epoch except for the two of the best epoch.
SCORES = {
    "uar": "val/uar",
    "uar_best_epoch": "best/val_uar",
    "best_epoch": "best/epoch",
    **{name: f"val/{name}" for name, metric in METRICS.items() if metric.in_overview},
    **{selection.column: selection.metric for selection in SELECTIONS.values()},
}


@dataclass(frozen=True)
class Trials:
    """Comparable search trials of an experiment.

    Args:
        table: One row per trial: tags, scores, ``parameters`` (values of the searched parameters by dotted name),
            ``run_id``.
        selection: Rule by which configurations are chosen.
        chance: UAR of guessing.
        others: Number of trials left out, because their protocol differs (corpus, fold, epochs, width, …).
        otherwise: Trials left out because of their arithmetic alone.
        contents: Spaces of one name and different content: name → name in the table → studies.
        absent: Sentences on UAR that is over fewer than all classes, from ``absent_remarks``.
    """

    table: pd.DataFrame
    selection: Selection
    chance: float
    others: int
    contents: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    absent: Sequence[str] = ()
    otherwise: Sequence[Run] = ()

    @property
    def left_out(self) -> list[str]:
        """Return sentences on the trials with another protocol or another arithmetic, if there are any."""
        lines = []
        if self.others:
            lines.append(f"{self.others} other trials were left out: another corpus, state of it, fold, size or plan.")
        if self.otherwise:
            count, names = len(self.otherwise), sorted({run.data.tags[Tag.ARITHMETIC] for run in self.otherwise})
            show = f"{command_line('analysis/best_runs.py')} … --arithmetic {shlex.quote(names[0])}"
            lines.append(
                f"{count} trial{'s' * (count > 1)} of the same protocol left out, because computed in other arithmetic "
                f"({', '.join(names)}) than the newest. To show them: {show}"
            )
        return lines

    @property
    def not_recorded(self) -> list[tuple[str, int, int]]:
        """Return (study, space and level; trials without a record; planned trials), where there are fewer than planned.

        A trial that was deleted in MLflow's UI is as unknown as one that has not begun.
        """
        found = []
        tags = [run.data.tags for run in self.otherwise]
        otherwise = Counter((each[Tag.STUDY], each[Tag.SPACE], each[Tag.NOISE]) for each in tags)
        for (study, space, noise), group in self.table.groupby(["study", "space", "noise"], sort=False):
            planned = int(group["planned"].max())
            recorded = len(group) + otherwise[str(study), str(space), str(noise)]
            if planned > recorded:
                found.append((f"{in_words(str(space))} at {noise} in study {study}", planned - recorded, planned))
        return found


def read_trials(client: MlflowClient, experiment: str, study: str | None = None) -> Trials | None:
    """Read the search trials that have the protocol of the newest one.

    Args:
        client: Client of the MLflow store.
        experiment: MLflow experiment id.
        study: Name of the study to read, None for all studies of the experiment.

    Returns:
        The trials, None if there are none.
    """
    query = f"tags.`{KIND}` = '{TRIAL}' and tags.`{Tag.STAGE}` = '{SEARCH}'"
    if study is not None:
        query += f" and tags.`{Tag.STUDY}` = {quoted(study)}"
    found = match(search_all(client, [experiment], query))
    others = len(found.others) - len(found.otherwise)
    return trials_of(found.search, space_names(found.search), others, found.otherwise)


def trials_of(
    runs: Sequence[Run], names: Mapping[str, str], others: int = 0, otherwise: Sequence[Run] = ()
) -> Trials | None:
    """Return a table of comparable search trials.

    Args:
        runs: Trials of one protocol, from ``study.tracking.matching.match``.
        names: Run id → name of the space, from ``study.tracking.matching.space_names``.
        others: Number of trials left out because of their protocol.
        otherwise: Trials of either stage that were left out because of their arithmetic alone.

    Returns:
        The trials, None if there are none.
    """
    if not runs:
        return None
    selection = SELECTIONS[newest_of(runs).data.tags[Tag.SELECT_ON]]
    rows = [_row(run, selection, names[run.info.run_id]) for run in runs]
    chance = 1 / len(classes_of_any(runs))
    contents, absent = several_contents(runs, names), absent_remarks(runs)
    left_out = [run for run in otherwise if run.data.tags[Tag.STAGE] == SEARCH]
    return Trials(pd.DataFrame(rows), selection, chance, others, contents, absent, left_out)


def absent_remarks(runs: Sequence[Run]) -> list[str]:
    """Return sentences on UAR that is over fewer than all classes, because a subset of the fold lacks some.

    Args:
        runs: Trials of either stage, of one corpus.
    """
    lacking = [(absent_of(run.data.tags), run.data.tags) for run in runs]
    found = [
        (absent, f"fold {tags[Tag.FOLD]}" if tags[Tag.STAGE] != SEARCH else f"the search at {tags[Tag.NOISE]}")
        for absent, tags in lacking
        if absent
    ]
    return absent_lines(found, len(classes_of_any(runs))) if found else []


def classes_of_any(runs: Sequence[Run]) -> list[str]:
    """Return the class names of comparable trials; one that was killed while it began may have none on record.

    Raises:
        UserError: No trial has any.
    """
    known = [run for run in runs if run.inputs and run.inputs.dataset_inputs]
    return classes_of(newest_of(known or runs))


def _row(run: Run, selection: Selection, space: str) -> dict[str, object]:
    tags, metrics = run.data.tags, run.data.metrics
    searched = [name for name in tags[Tag.SEARCHED].split(",") if name]
    return {
        "noise": tags[Tag.NOISE],
        "rate": rate_of(tags),
        "space": space,
        "study": tags[Tag.STUDY],
        "trial": tags[Tag.TRIAL],
        "status": status_of(tags, RUNNING if run.info.status == "RUNNING" else STOPPED),
        "failure": tags.get(Tag.FAILURE, ""),
        "selected": metrics.get(selection.metric),
        **{column: metrics.get(metric) for column, metric in SCORES.items()},
        "parameters": {name: run.data.params[name] for name in searched if name in run.data.params},
        "planned": int(tags.get(Tag.PLANNED_TRIALS, 0)),
        "start": run.info.start_time,
        "run_id": run.info.run_id,
    }


def best_runs(trials: Trials, top: int = 1) -> pd.DataFrame:
    """Return the best finished trials of each noise level and space.

    Args:
        trials: Trials from ``read_trials``.
        top: Number of trials per level and space.

    Returns:
        Rows sorted by noise rate, space and rank, with the columns of ``Trials.table``, ``rank``, and the numbers of
        ``finished``, ``failed``, ``stopped`` and ``running`` trials of that level and space. A level and space without
        a finished trial has one row without a score.
    """
    rows = []
    for (noise, space), group in trials.table.groupby(["noise", "space"], sort=False):
        counts = {name: int((group["status"] == name).sum()) for name in (FINISHED, FAILED, STOPPED, RUNNING)}
        done = group[group["status"] == FINISHED]
        order = done.sort_values(
            ["selected", "start", "run_id"], ascending=[trials.selection.mode == "min", True, True]
        ).head(top)
        found = order.to_dict("records") or [
            {"noise": noise, "space": space, "rate": group["rate"].iloc[0], "parameters": {}, "trial": "none"}
        ]
        rows += [{**record, "rank": rank, **counts} for rank, record in enumerate(found, start=1)]
    table = pd.DataFrame(rows).reindex(columns=[*trials.table.columns, "rank", FINISHED, FAILED, STOPPED, RUNNING])
    table["rate"] = table["rate"].astype(float)
    return table.sort_values(["rate", "noise", "space", "rank"], kind="stable").reset_index(drop=True)


def caveats(trials: Trials, best: pd.DataFrame) -> list[str]:
    """Return the sentences that a reader of the table of best runs needs.

    Args:
        trials: Trials of the table.
        best: Table from ``best_runs``.
    """
    lines = [
        f"Chosen by {trials.selection.meaning}; scores are of the validation subset, one seed, last epoch. "
        "The best of several trials is partly the luckiest: compare losses only after a confirmation."
    ]
    if {space_and_labels(str(space))[1] for space in best["space"]} - {CONSENSUS}:
        lines.append(
            "Methods with other --labels have noisy labels of their own: compare them with others by their scores "
            "against the true labels."
        )
    counts = best[best["rank"] == 1][["noise", "space", FINISHED]]
    for noise, group in counts.groupby("noise", sort=False):
        if group[FINISHED].nunique() > 1:
            counted = ", ".join(f"{in_words(row['space'])} {row[FINISHED]}" for row in group.to_dict("records"))
            lines.append(f"Unequal budgets at {noise}: {counted} finished trials.")
    lines += [
        f"{count} of {planned} planned trials of {where} are not on record: not begun yet, or deleted in MLflow."
        for where, count, planned in trials.not_recorded
    ]
    return lines


@dataclass(frozen=True)
class SearchedSpace:
    """Space as the record of a search has it.

    Args:
        study: Study that searched it.
        name_or_path: Its name, or the path of its file.
        record: Digest and content; None in records of earlier versions.
    """

    study: str
    name_or_path: str
    record: Mapping[str, Any] | None


def searched_spaces(client: MlflowClient, experiment: str, trials: Trials, newest: str) -> dict[str, SearchedSpace]:
    """Return the spaces of a search by name, each as the newest study or another one searched it.

    Args:
        client: The MLflow store.
        experiment: Id of the experiment.
        trials: Trials of the search.
        newest: Name of the newest study of the search.

    Raises:
        UserError: Two studies searched different spaces of one name, or a space's file is not there any more.
    """
    for name, contents in trials.contents.items():
        listed = "; ".join(f"{', '.join(studies)} ({shown})" for shown, studies in contents.items())
        raise UserError(
            f"space {name!r} was searched with different contents by the studies {listed}. Confirm one of them: "
            "--study NAME"
        )
    found: dict[str, SearchedSpace] = {}
    pairs = trials.table[["study", "space"]].drop_duplicates().itertuples(index=False)
    for study, name in sorted(pairs, key=lambda pair: pair[0] != newest):
        if name in found:
            continue
        record = _search_record(client, experiment, study, name)
        space = record.get("space", {})
        own_name, _ = space_and_labels(name)
        paths = [path for path in record.get("options", {}).get("space", []) if Path(path).stem == own_name]
        path = space.get("path") or (paths[0] if paths else own_name)
        if path.endswith(".py") and not Path(path).is_file():
            raise UserError(
                f"space {name!r}: study {study!r} searched the file {path!r}, which does not exist any more. Restore "
                "it there, or confirm another study: --study NAME"
            )
        found[name] = SearchedSpace(study, path, space if "content" in space else None)
    return found


def _search_record(client: MlflowClient, experiment: str, study: str, space: str) -> dict[str, Any]:
    """Return options and space of a study as one of its parent runs has them; empty if none has."""
    run = find_run(client, experiment, {KIND: PARENT, Tag.STUDY: study, Tag.SPACE: space})
    return dict((run and read_document(client, run, SEARCH_RECORD)) or {})
