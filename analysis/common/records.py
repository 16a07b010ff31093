"""What the analyses read: the trials of a search and of its confirmation, their curves and predictions."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.exceptions import MlflowException

from ser.training.utterance_table import AGREEMENT, FROM_LOSS, OLD_SUBSET, PROBABILITY, SUBSET, TEXT
from ser.utils.errors import UserError, unknown_name
from study.messages import first_line, without_password
from study.schema import CONFIRM, KIND, SEARCH, SELECTIONS, TRIAL, UTTERANCES, Selection, Tag
from study.tracking.confirmations import TEST_SCORES as TEST_SCORES
from study.tracking.confirmations import confirmed_table
from study.tracking.confirmations import representatives as representatives
from study.tracking.searches import Trials, trials_of
from study.tracking.store import DEFAULT_URI, absolute_uri, classes_of, open_client, search_all


@dataclass(frozen=True)
class RecordsOptions:
    """Which records an analysis reads; commands add their own options."""

    tracking_uri: str = DEFAULT_URI
    """MLflow tracking URI."""
    experiment: str | None = None
    """MLflow experiment; default the one with the newest run."""
    study: str | None = None
    """Only this study's search; default every study of the experiment that is comparable with the newest."""


@dataclass
class Records:
    """The records of one experiment.

    Args:
        client: The MLflow store.
        uri: Its URI, as it may be shown.
        experiment: The experiment's name.
        identifier: Its id.
        search: Comparable trials of the search, None if there are none.
        confirmed: One row for each trial of the confirm stage that is comparable with the newest one, empty if there
            is none: ``noise``, ``rate``, ``space``, ``candidate``, ``source``, ``seed``, ``fold``, ``seen`` (whether
            the search has seen the fold's test rows), ``status``, ``selected`` (the validation score that chooses),
            ``parameters`` (all, by dotted names), ``searched`` (the names among them that a search varied), ``start``,
            ``run_id``, and the columns of ``TEST_SCORES``.
        selection: How configurations were chosen.
        classes: The class names.
        runs: Every run of the experiment, of any kind; reading them takes long where there are thousands.
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
    runs: tuple[Run, ...] = field(default=(), repr=False)

    def utterances(self, run_id: str) -> pd.DataFrame | None:
        """A trial's table of utterances (``ser.training.utterance_table``), None if its run has none; read once.

        In the confirm stage it has rows of ``part`` ``test`` too, with the last epoch's probabilities.
        """
        if run_id not in self._tables:
            self._tables[run_id] = read_utterances(self.client, run_id)
        return self._tables[run_id]

    def curve(self, run_id: str, metric: str) -> pd.Series:
        """A metric of a trial over its epochs, empty if it was not recorded; read once.

        Returns:
            Values, indexed by epoch from 1.
        """
        if (run_id, metric) not in self._curves:
            points = self.client.get_metric_history(run_id, metric)
            values = {point.step: point.value for point in points}
            self._curves[run_id, metric] = pd.Series(values, dtype=float, name=metric).sort_index()
        return self._curves[run_id, metric]


def open_records(options: RecordsOptions) -> Records:
    """Reads what an experiment has.

    Raises:
        UserError: No such store, experiment or study, or no trial in it.
    """
    os.environ[MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.name] = "false"  # there would be one for each table
    client = open_client(absolute_uri(options.tracking_uri))
    uri = without_password(options.tracking_uri)
    name, identifier = find_experiment(client, uri, options.experiment)
    runs = search_all(client, [identifier], "")
    search = trials_of(runs, options.study)
    confirmed, newest = confirmed_table(confirm_runs(runs))
    if search is None and options.study is not None:
        searched = [run for run in runs if run.data.tags.get(Tag.STAGE) == SEARCH]
        if known := {run.data.tags[Tag.STUDY] for run in searched if Tag.STUDY in run.data.tags}:
            raise unknown_name("study", options.study, known)
    if newest is not None:
        any_run = newest
    elif search is not None:
        any_run = next(run for run in runs if run.info.run_id == search.table["run_id"].iloc[0])
    else:
        raise UserError(f"experiment {name!r} in {uri} has no trial of a study. Run a study first: python study/run.py")
    selection = SELECTIONS[any_run.data.tags[Tag.SELECT_ON]]
    classes = tuple(classes_of(any_run))
    return Records(client, uri, name, identifier, search, confirmed, selection, classes, runs=tuple(runs))


def confirm_runs(runs: Iterable[Run]) -> list[Run]:
    """The trials of the confirm stage among some runs."""
    wanted = {KIND: TRIAL, Tag.STAGE: CONFIRM}
    return [run for run in runs if wanted.items() <= run.data.tags.items()]


def find_experiment(client: MlflowClient, uri: str, asked: str | None) -> tuple[str, str]:
    """Name and id of an experiment: the one asked for, or that with the newest run.

    Raises:
        UserError: There is none.
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
        raise UserError(f"there is no run in {uri}. Run a study first: python study/run.py")
    ids = {experiment.experiment_id: name for name, experiment in experiments.items()}
    identifier = newest[0].info.experiment_id
    return ids[identifier], str(identifier)


def read_utterances(client: MlflowClient, run_id: str) -> pd.DataFrame | None:
    """The table of utterances of a trial, as in ``ser.training.utterance_table``, or None if the run has none.

    Raises:
        UserError: The artifact cannot be fetched or read, or is another table.
    """
    try:
        if UTTERANCES not in {file.path for file in client.list_artifacts(run_id)}:
            return None
        with tempfile.TemporaryDirectory() as folder:
            table = pd.read_parquet(client.download_artifacts(run_id, UTTERANCES, folder))
    except (MlflowException, OSError, ValueError) as error:
        raise UserError(
            f"{UTTERANCES} of MLflow run {run_id} cannot be read: {first_line(error)}. Restore the artifact, or train "
            "again: python study/run.py with a new --name."
        ) from None
    table = table.rename(columns={OLD_SUBSET: SUBSET})
    classes = [name for name in table.columns.astype(str) if name.startswith(PROBABILITY)]
    if (missing := [name for name in (*TEXT, *FROM_LOSS) if name not in table]) or len(classes) < 2:
        raise UserError(
            f"{UTTERANCES} of MLflow run {run_id} is another table: it lacks "
            f"{', '.join(missing) or f'columns {PROBABILITY}CLASS'}."
        )
    if AGREEMENT not in table:  # an older version's
        table[AGREEMENT] = pd.array([pd.NA] * len(table), dtype="string")
    return table
