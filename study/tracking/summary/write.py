"""Writes what a parent run says of its trials to MLflow: once, and again when it has changed."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from ser.utils.errors import UserError
from ser.utils.hashing import digest
from study.schema import (
    BEST_TABLE,
    COUNT,
    FAILED,
    FINISHED,
    KIND,
    PARENT,
    RATE,
    STOPPED,
    TRIAL,
    TRIALS_FIGURE,
    Tag,
    in_words,
)
from study.tracking.best_table import markdown_table
from study.tracking.store import classes_of, quoted, search_all, shortened
from study.tracking.summary.content import Content, content_of
from study.tracking.summary.figure import figure_of

ROWS = 30
"""Rows of the table in a description; the artifact has all."""

EXPERIMENT_NOTE = """\
Losses for speech emotion recognition with noisy labels.

* A run of the kind `parent` is a method at a noise level, in a search or in a confirmation. It has the scores of its
  chosen trial, in a confirmation their means over folds, so that the collapsed rows and the chart view compare noise
  levels. Its children are the trials.
* `val/*` is scored against true labels, `val_noisy/*` against noisy ones; `test/last/*` is of test speakers, which only
  confirmations have. `train/memorised` is the share of wrong labels that the network has memorised.
* Filters: `tags.kind = 'parent'`, `tags.kind = 'trial'`, `tags.study = 'NAME'`, `tags.noise = 'noisy-A'`.
"""


@dataclass(frozen=True)
class About:
    """Text of a description besides the trials.

    Args:
        what: Sentence on the study, its data and what is trained.
        commands: What a command does → the command.
    """

    what: str
    commands: Mapping[str, str]


def summarise(client: MlflowClient, experiment: str, key: Mapping[str, str], about: About) -> None:
    """Let the parent run of a search, or of one method of a confirmation, say what its trials have come to.

    What it says already stays, so that nothing is written twice. A description that a user has changed stays as well.

    Args:
        client: The store.
        experiment: MLflow experiment id.
        key: Tags that identify the runs of the search: study, space and noise level.
        about: What else its description says.

    Raises:
        MlflowException: The store cannot be reached.
    """
    query = " and ".join(f"tags.`{name}` = {quoted(value)}" for name, value in key.items())
    runs = search_all(client, [experiment], query)
    kinds = {kind: [run for run in runs if run.data.tags.get(KIND) == kind] for kind in (PARENT, TRIAL)}
    for parent in kinds[PARENT]:
        content = content_of(parent, kinds[TRIAL], _classes(parent))
        note = description(parent, content, about)
        said = digest([dict(content.metrics), dict(content.chosen), content.table.to_csv(index=False), note])
        if parent.data.tags.get(Tag.SUMMARY) != said:
            _write(client, parent, content, note, said)


def description(parent: Run, content: Content, about: About) -> str:
    """Return the description of a parent run, in Markdown.

    Args:
        parent: The parent run.
        content: What it says of its trials.
        about: What else there is to say.
    """
    tags, numbers = parent.data.tags, content.metrics
    rate = f" ({numbers[RATE]:.2%} wrong training labels)" if RATE in numbers else ""
    counts = ", ".join(f"{numbers[f'{COUNT}{name}']:.0f} {name}" for name in (FINISHED, STOPPED, FAILED))
    lines = [f"**{in_words(tags[Tag.SPACE])}** at noise level **{tags[Tag.NOISE]}**{rate}. {about.what}", ""]
    lines += [f"Trials: {numbers[f'{COUNT}planned']:.0f} planned, {counts}. {content.how}", ""]
    for what, command in about.commands.items():
        lines += [f"{what}:", "", f"    {command}", ""]
    if len(content.text):
        lines += [markdown_table(content.text.head(ROWS)), ""]
    if len(content.text) > ROWS:
        lines += [f"All {len(content.text)} are in the artifact `{BEST_TABLE}`.", ""]
    return shortened("\n".join(lines))


def describe_experiment(client: MlflowClient, experiment: str) -> None:
    """Give an experiment a description, unless it has one.

    Args:
        client: The store.
        experiment: MLflow experiment id.

    Raises:
        MlflowException: The store cannot be reached.
    """
    if MLFLOW_RUN_NOTE not in client.get_experiment(experiment).tags:
        client.set_experiment_tag(experiment, MLFLOW_RUN_NOTE, EXPERIMENT_NOTE)


def _write(client: MlflowClient, parent: Run, content: Content, note: str, said: str) -> None:
    """Write files, then metrics, then tags: what comes last says that all is there."""
    run_id, now, old = str(parent.info.run_id), int(time.time() * 1000), parent.data
    if len(content.table):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / BEST_TABLE).write_text(content.table.to_csv(index=False), encoding="utf-8")
            title = f"{in_words(old.tags[Tag.SPACE])}, {old.tags[Tag.NOISE]}"
            if content.points:
                (Path(folder) / TRIALS_FIGURE).write_bytes(figure_of(content, title))
            client.log_artifacts(run_id, folder)
    # A score that the former choice had and this one lacks cannot be deleted.
    values = {**dict.fromkeys(old.metrics, math.nan), **content.metrics}
    metrics = [Metric(name, value, now, 0) for name, value in values.items() if not _same(old.metrics.get(name), value)]
    tags = {f"{Tag.CHOSEN}{name}": value for name, value in content.chosen.items()}
    for name in old.tags:
        if name.startswith(Tag.CHOSEN) and name not in tags:
            client.delete_tag(run_id, name)
    if digest(old.tags.get(MLFLOW_RUN_NOTE, "")) == old.tags.get(Tag.NOTE, digest("")):
        tags |= {MLFLOW_RUN_NOTE: note, Tag.NOTE: digest(note)}
    tags |= {Tag.SUMMARY: said}
    client.log_batch(run_id, metrics, tags=[RunTag(*item) for item in tags.items()], synchronous=True)


def _same(old: float | None, new: float) -> bool:
    return old is not None and (old == new or (math.isnan(old) and math.isnan(new)))


def _classes(parent: Run) -> int:
    """Return the number of classes, 0 where an earlier version has not recorded them."""
    try:
        return len(classes_of(parent))
    except UserError:
        return 0
