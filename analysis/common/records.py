"""Records that the analyses read: trials of a search and of its confirmation, their curves, tables and artifacts."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.exceptions import MlflowException

from ser.training.utterance_table import AGREEMENT, FROM_LOSS, OLD_SUBSET, PROBABILITY, SUBSET, TEXT
from ser.utils.command_names import command_line
from ser.utils.errors import UserError, unknown_name
from study.messages import first_line, without_password
from study.schema import CONFIRM, KIND, SEARCH, SELECTIONS, TRIAL, UTTERANCES, Selection, Tag
from study.tracking.confirmations import confirmed_table
from study.tracking.opening import open_client
from study.tracking.searches import Trials, trials_of
from study.tracking.store import classes_of, search_all
from study.uri import DEFAULT_URI, absolute_uri, is_default_uri


@dataclass(frozen=True)
class RecordsOptions:
    """Options that all analyses have."""

    tracking_uri: str = DEFAULT_URI
    """MLflow tracking URI."""
    experiment: str | None = None
    """MLflow experiment; default: the one with the newest run."""
    study: str | None = None
    """Name of a study or of a confirmation; default: all of the experiment that are comparable with the newest one."""
    output: Path = Path("results")
    """Folder of the tables and figures."""

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Return the trials that are named by their MLflow run ids; none by default."""
        return ()


@dataclass
class Records:
    """Records of one experiment.

    Args:
        client: The MLflow store.
        uri: URI of the store, without a password.
        experiment: Name of the experiment.
        identifier: Id of the experiment.
        search: Comparable trials of the search; None if there are none.
        confirmed: One row per trial of the confirm stage that is comparable with the newest one, with the columns of
            ``study.tracking.confirmations.confirmed_table``; empty if there is none.
        selection: Rule by which configurations were chosen.
        classes: Class names.
        runs: Every run of the experiment, of any kind.
    """

    client: MlflowClient
    uri: str
    experiment: str
    identifier: str
    search: Trials | None
    confirmed: pd.DataFrame
    selection: Selection
    classes: tuple[str, ...]
    _tables: dict[str, pd.DataFrame | None] = field(default_factory=dict, repr=False)
    _curves: dict[tuple[str, str], pd.Series] = field(default_factory=dict, repr=False)
    _documents: dict[tuple[str, str], Mapping[str, Any] | None] = field(default_factory=dict, repr=False)
    runs: tuple[Run, ...] = field(default=(), repr=False)

    @property
    def spaces(self) -> set[str]:
        """Return the names of the search spaces of both stages."""
        searched = set() if self.search is None else set(self.search.table["space"])
        return searched | set(self.confirmed["space"])

    def utterances(self, run_id: str) -> pd.DataFrame | None:
        """Return a trial's per-utterance table; it is read once.

        Args:
            run_id: MLflow run of the trial.

        Returns:
            The table of ``ser.training.utterance_table``, or None if the run has none. A trial of the confirm stage has
            test rows too, with the last epoch's probabilities.

        Raises:
            UserError: If the table cannot be read.
        """
        if run_id not in self._tables:
            self._tables[run_id] = read_utterances(self.client, run_id)
        return self._tables[run_id]

    def curve(self, run_id: str, metric: str) -> pd.Series:
        """Return a metric of a trial over its epochs; it is read once.

        Args:
            run_id: MLflow run of the trial.
            metric: Name of the metric.

        Returns:
            Values indexed by epoch from 1; empty if the metric was not recorded.
        """
        if (run_id, metric) not in self._curves:
            recorded = self.client.get_metric_history(run_id, metric)
            values = {value.step: value.value for value in recorded}
            self._curves[run_id, metric] = pd.Series(values, dtype=float, name=metric).sort_index()
        return self._curves[run_id, metric]

    def document(self, run_id: str, name: str) -> Mapping[str, Any] | None:
        """Return a JSON artifact of a run; it is read once.

        Args:
            run_id: MLflow run.
            name: File name of the artifact.

        Returns:
            Its content, or None if the run has no such artifact or it is damaged.
        """
        if (run_id, name) not in self._documents:
            self._documents[run_id, name] = read_document(self.client, run_id, name)
        return self._documents[run_id, name]

    def confirm_command(self, *options: str) -> str:
        """Return the command that confirms this experiment's search.

        Args:
            options: Further options of the command.
        """
        store = [] if is_default_uri(self.uri) else ["--tracking-uri", self.uri]
        return f"{command_line('study/confirm.py')} {shlex.join(['--experiment', self.experiment, *store, *options])}"


def open_records(options: RecordsOptions) -> Records:
    """Read the runs of an experiment.

    Args:
        options: The store, and which experiment and study. Trials that are named by their runs choose the experiment.

    Raises:
        UserError: If there is no such store, experiment, study or run, or if the experiment has no trial.
    """
    os.environ[MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.name] = "false"  # each table would show one
    client = open_client(absolute_uri(options.tracking_uri))
    uri = without_password(options.tracking_uri)
    asked = _experiment_of_runs(client, uri, options) if options.run_ids else options.experiment
    name, identifier = find_experiment(client, uri, asked)
    runs = search_all(client, [identifier], "")
    confirming = confirm_runs(runs)
    search = trials_of(runs, options.study)
    if search is None and options.study is not None:
        known = {run.data.tags[Tag.STUDY] for run in runs if run.data.tags.get(Tag.STAGE) in (SEARCH, CONFIRM)}
        if known and options.study not in known:
            raise unknown_name("study", options.study, known)
        confirming = [run for run in confirming if run.data.tags[Tag.STUDY] == options.study]
    confirmed, newest = confirmed_table(confirming)
    if newest is not None:
        any_run = newest
    elif search is not None:
        any_run = next(run for run in runs if run.info.run_id == search.table["run_id"].iloc[0])
    else:
        raise UserError(
            f"experiment {name!r} in {uri} has no trial of a study. Run a study first: {command_line('study/run.py')}"
        )
    selection = SELECTIONS[any_run.data.tags[Tag.SELECT_ON]]
    classes = tuple(classes_of(any_run))
    return Records(client, uri, name, identifier, search, confirmed, selection, classes, runs=tuple(runs))


def confirm_runs(runs: Iterable[Run]) -> list[Run]:
    """Return the trials of the confirm stage among some runs."""
    wanted = {KIND: TRIAL, Tag.STAGE: CONFIRM}
    return [run for run in runs if wanted.items() <= run.data.tags.items()]


def find_experiment(client: MlflowClient, uri: str, asked: str | None) -> tuple[str, str]:
    """Return the name and id of an experiment.

    Args:
        client: The MLflow store.
        uri: URI of the store, for messages.
        asked: Name of the experiment; None is the one with the newest run.

    Raises:
        UserError: If there is no such experiment, or no run in the store.
    """
    experiments = {experiment.name: experiment for experiment in client.search_experiments()}
    if asked is not None:
        if asked not in experiments:
            raise unknown_name("experiment", asked, experiments)
        return asked, str(experiments[asked].experiment_id)
    newest = client.search_runs(
        [experiment.experiment_id for experiment in experiments.values()],
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if not newest:
        raise UserError(f"there is no run in {uri}. Run a study first: {command_line('study/run.py')}")
    ids = {experiment.experiment_id: name for name, experiment in experiments.items()}
    identifier = newest[0].info.experiment_id
    return ids[identifier], str(identifier)


def trial_tags(client: MlflowClient, uri: str, run_id: str) -> dict[str, str]:
    """Return the tags of a trial that ``--run`` names.

    Args:
        client: The MLflow store.
        uri: URI of the store, for messages.
        run_id: MLflow run.

    Raises:
        UserError: If there is no such run, or if it is not a trial.
    """
    where = f"Run ids are in the best_runs.csv of {command_line('analysis/best_runs.py')}."
    try:
        tags = dict(client.get_run(run_id).data.tags)
    except MlflowException as error:
        raise UserError(f"--run {run_id!r} cannot be read from {uri}: {first_line(error)}. {where}") from None
    if tags.get(KIND) != TRIAL:
        raise UserError(f"--run {run_id!r} is no trial of a study. {where}")
    return tags


def _experiment_of_runs(client: MlflowClient, uri: str, options: RecordsOptions) -> str:
    """Return the name of the experiment of the trials that ``--run`` names."""
    if options.experiment is not None or options.study is not None:
        raise UserError("--run names trials of any experiment; leave --experiment and --study out.")
    first = options.run_ids[0]
    trial_tags(client, uri, first)
    return str(client.get_experiment(client.get_run(first).info.experiment_id).name)


def read_document(client: MlflowClient, run_id: str, name: str) -> Mapping[str, Any] | None:
    """Read a JSON artifact of a run.

    Args:
        client: The MLflow store.
        run_id: MLflow run.
        name: File name of the artifact.

    Returns:
        Its content, or None if the run has no such artifact or it is damaged.
    """
    try:
        if name not in {file.path for file in client.list_artifacts(run_id)}:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(client.download_artifacts(run_id, name, folder))
            content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (MlflowException, OSError, ValueError):
        return None
    return content


def read_utterances(client: MlflowClient, run_id: str) -> pd.DataFrame | None:
    """Read the per-utterance table of a trial.

    Args:
        client: The MLflow store.
        run_id: MLflow run of the trial.

    Returns:
        The table of ``ser.training.utterance_table``, or None if the run has none.

    Raises:
        UserError: If the artifact cannot be downloaded or read, or is another table.
    """
    try:
        if UTTERANCES not in {file.path for file in client.list_artifacts(run_id)}:
            return None
        with tempfile.TemporaryDirectory() as folder:
            table = pd.read_parquet(client.download_artifacts(run_id, UTTERANCES, folder))
    except (MlflowException, OSError, ValueError) as error:
        raise UserError(
            f"{UTTERANCES} of MLflow run {run_id} cannot be read: {first_line(error)}. Restore the artifact, or train "
            f"again: {command_line('study/run.py')} with a new --name."
        ) from None
    table = table.rename(columns={OLD_SUBSET: SUBSET})
    classes = [name for name in table.columns.astype(str) if name.startswith(PROBABILITY)]
    if (missing := [name for name in (*TEXT, *FROM_LOSS) if name not in table]) or len(classes) < 2:
        raise UserError(
            f"{UTTERANCES} of MLflow run {run_id} is another table: it lacks "
            f"{', '.join(missing) or f'columns {PROBABILITY}CLASS'}."
        )
    if AGREEMENT not in table:  # written by an older version
        table[AGREEMENT] = pd.array([pd.NA] * len(table), dtype="string")
    return table
