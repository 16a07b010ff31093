"""Records that the analyses read: trials of a search and of its confirmation, their curves, tables and artifacts."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from analysis.common.text import counted, listing
from analysis.options import RecordsOptions
from ser.corpora import FORMATS
from ser.labels import CONSENSUS
from ser.labels.kinds import CLEAN
from ser.training.utterance_table import AGREEMENT, FROM_LOSS, OLD_SUBSET, PROBABILITY, SUBSET, TEXT
from ser.utils.command_names import command_line
from ser.utils.errors import UserError, first_line, unknown_name, without_password
from study.options import StudyOptions
from study.schema import (
    ACROSS_CORPORA,
    CONFIRM,
    KIND,
    OLD_SEARCH_RECORD,
    PARENT,
    SEARCH,
    SEARCH_RECORD,
    SELECTIONS,
    TRIAL,
    UTTERANCES,
    Selection,
    Tag,
    space_and_labels,
)
from study.setup.resolve import absolute, data_name
from study.tracking.artifacts import read_document, read_table
from study.tracking.confirmations import confirmed_table
from study.tracking.matching import (
    ANY_ARITHMETIC,
    Matched,
    find_experiment,
    match,
    newest_of,
    several_contents,
    space_names,
)
from study.tracking.opening import open_existing
from study.tracking.searches import Trials, absent_remarks, classes_of_any, trials_of
from study.tracking.store import search_all
from study.uri import chosen_experiment, chosen_uri

Result = TypeVar("Result")

MOST_NAMED = 5
"""Largest number of studies left out that are named, each with a command."""


@dataclass
class Records:
    """Records of one experiment.

    Args:
        client: The MLflow store.
        uri: URI of the store, without a password.
        experiment: Name of the experiment.
        identifier: Id of the experiment.
        search: Comparable trials of the search; None if there are none.
        confirmed: One row per trial of the confirm stage that matches the search, with the columns of
            ``study.tracking.confirmations.confirmed_table``; empty if there is none.
        selection: Rule by which configurations were chosen.
        classes: Class names.
        runs: Every run of the experiment, of any kind.
        matched: The trials that are shown, and those that do not match them.
        study: Name of the study or confirmation that was asked for.
        arithmetic: Arithmetic that was asked for.
        named: Trials that were asked for by their run ids.
        space_names: Run id → name under which the run's space is shown, of the trials and their parents.
        results: What was read or computed once, by the key of ``once``; artifacts by run id and file name.
    """

    client: MlflowClient
    uri: str
    experiment: str
    identifier: str
    search: Trials | None
    confirmed: pd.DataFrame
    selection: Selection
    classes: tuple[str, ...]
    runs: tuple[Run, ...] = field(default=(), repr=False)
    matched: Matched = field(default_factory=Matched, repr=False)
    study: str | None = None
    arithmetic: str | None = None
    named: tuple[Run, ...] = field(default=(), repr=False)
    space_names: Mapping[str, str] = field(default_factory=dict, repr=False)
    results: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Hashable, compute: Callable[[], Result]) -> Result:
        """Return what a function returns; it is called once for each key.

        Args:
            key: Name of the result, with all arguments that it depends on.
            compute: The function, which reads these records. Do not change what it returns.
        """
        if key not in self.results:
            self.results[key] = compute()
        return cast(Result, self.results[key])

    @cached_property
    def _runs_by_id(self) -> dict[str, Run]:
        return {run.info.run_id: run for run in self.runs}

    def run(self, run_id: str) -> Run:
        """Return a run of the store; those of the experiment are not read again.

        Args:
            run_id: MLflow run.

        Raises:
            MlflowException: If there is no such run.
        """
        return self._runs_by_id.get(run_id) or self.client.get_run(run_id)

    @cached_property
    def data(self) -> str:
        """Return the name of the data for titles: the corpus, or the name of the file or folder of your own."""
        shown = self.named or (*self.matched.search, *self.matched.confirmed)[:1]
        return listing(list(dict.fromkeys(map(self.data_of, shown)))) or self.experiment

    def data_of(self, run: Run) -> str:
        """Return the name of the data of a trial."""
        corpus = run.data.tags.get(Tag.CORPUS, "an unknown corpus")
        if corpus not in FORMATS:
            return corpus
        parent = run.data.tags.get(MLFLOW_PARENT_RUN_ID, "")
        found = (self.document(parent, name) for name in (SEARCH_RECORD, OLD_SEARCH_RECORD) if parent)
        options: Mapping[str, Any] = next((document["options"] for document in found if document is not None), {})
        return data_name(corpus, options.get("corpus_root"))

    def space_of(self, run: Run) -> str:
        """Return the name under which the space of a trial or of its parent is shown."""
        return self.space_names.get(run.info.run_id, run.data.tags[Tag.SPACE])

    def recorded_space(self, shown: str) -> str:
        """Return the name on record of a space that is shown under another one, as ``--primary`` takes it."""
        runs = (*self.matched.search, *self.matched.confirmed)
        return next((str(run.data.tags[Tag.SPACE]) for run in runs if self.space_of(run) == shown), shown)

    def space_options(self, *shown: str) -> list[str]:
        """Return the options of a study that has the spaces that are shown under these names, with their labels."""
        named = [space_and_labels(self.recorded_space(name)) for name in shown]
        labels = list(dict.fromkeys(kind for _, kind in named))
        options = [] if labels == [CONSENSUS] else ["--noise", CLEAN, "--labels", *labels]
        return [*options, "--space", *dict.fromkeys(space for space, _ in named)]

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
        return self.once((run_id, UTTERANCES), lambda: _read_utterances(self.client, self.run(run_id)))

    def other_corpora(self, run_id: str) -> pd.DataFrame | None:
        """Return the right predictions of a confirmed trial on other corpora; they are read once.

        Args:
            run_id: MLflow run of the trial.

        Returns:
            The table of ``ser.training.other_corpora``, or None if the trial was not tested on any.

        Raises:
            UserError: If the table cannot be read.
        """
        return self.once((run_id, ACROSS_CORPORA), lambda: read_table(self.client, self.run(run_id), ACROSS_CORPORA))

    def curve(self, run_id: str, metric: str) -> pd.Series:
        """Return a metric of a trial over its epochs; it is read once.

        Args:
            run_id: MLflow run of the trial.
            metric: Name of the metric.

        Returns:
            Values indexed by epoch from 1; empty if the metric was not recorded.
        """
        return self.once((run_id, metric), lambda: _read_curve(self.client, run_id, metric))

    def document(self, run_id: str, name: str) -> Mapping[str, Any] | None:
        """Return a JSON artifact of a run; it is read once.

        Args:
            run_id: MLflow run.
            name: File name of the artifact.

        Returns:
            Its content, or None if the run has no such artifact or it is damaged.
        """
        return self.once((run_id, name), lambda: self._read_document(run_id, name))

    def _read_document(self, run_id: str, name: str) -> Mapping[str, Any] | None:
        try:
            return read_document(self.client, self.run(run_id), name)
        except MlflowException:
            return None

    def command(self, script: str, *options: str) -> str:
        """Return a command that reads or extends this experiment, quoted for a shell.

        Args:
            script: A script of ``study/`` or ``analysis/``.
            options: Further options of the command.
        """
        words = ["--experiment", self.experiment, "--tracking-uri", self.uri, *options]
        return f"{command_line(script)} {shlex.join(words)}"

    def own_command(self, script: str) -> str:
        """Return the command of another analysis that shows the same trials.

        Args:
            script: A script of ``analysis/``.
        """
        studies = {run.data.tags[Tag.STUDY] for run in self.matched.confirmed or self.matched.search}
        study = self.study or (next(iter(studies)) if len(studies) == 1 else None)
        return self.command(
            script,
            *(() if study is None else ("--study", study)),
            *(() if self.arithmetic is None else ("--arithmetic", self.arithmetic)),
        )

    def confirm_command(self, *options: str) -> str:
        """Return the command that confirms the search that is shown.

        The search's study is named where it is the only one, or where the newest search is not the one shown.

        Args:
            options: Further options of the command.
        """
        shown = self.matched.search
        studies = {run.data.tags[Tag.STUDY] for run in shown}
        every = [*shown, *(run for run in self.matched.others if run.data.tags[Tag.STAGE] == SEARCH)]
        if len(studies) == 1 or (shown and newest_of(every) not in shown):
            options = ("--study", newest_of(shown).data.tags[Tag.STUDY], *options)
        return self.command("study/confirm.py", *options)

    def resume_command(self, study: str, *options: str) -> str:
        """Return the command that resumes a study or a confirmation, quoted for a shell.

        Args:
            study: Its name.
            options: Further options of the command.
        """
        tags = [run.data.tags for run in (*self.matched.search, *self.matched.confirmed)]
        mine = next((one for one in tags if one[Tag.STUDY] == study and Tag.FOLDER in one), {})
        script = "study/run.py" if mine.get(Tag.STAGE) == SEARCH else "study/confirm.py"
        storage = Path(mine[Tag.FOLDER]).parents[3] if mine else absolute(StudyOptions().storage_path)
        words = ["--resume", "--name", study, "--tracking-uri", self.uri]
        words += [] if storage == absolute(StudyOptions().storage_path) else ["--storage-path", str(storage)]
        return f"{command_line(script)} {shlex.join([*words, *options])}"

    @property
    def mismatch(self) -> str:
        """Return a sentence if the newest search and the newest confirmation are not shown together; else empty."""
        shown = {run.info.run_id for run in (*self.matched.search, *self.matched.confirmed)}
        every = (*self.matched.search, *self.matched.confirmed, *self.matched.others)
        stages = [[run for run in every if run.data.tags[Tag.STAGE] == stage] for stage in (SEARCH, CONFIRM)]
        if self.study is not None or self.arithmetic is not None or self.named or not all(stages):
            return ""
        search, confirmed = map(newest_of, stages)
        if {search.info.run_id, confirmed.info.run_id} <= shown:
            return ""
        same = search.data.tags.get(Tag.CORPUS_DIGEST) == confirmed.data.tags.get(Tag.CORPUS_DIGEST)
        what = "of different protocols" if same else "of different data"
        newer = "confirmation" if confirmed.info.run_id in shown else "search"
        return (
            f"The newest search ({self._described(search)}) and the newest confirmation ({self._described(confirmed)}) "
            f"are {what}, so they are not shown together: this is the {newer}, with what matches it."
        )

    def remarks(self, script: str) -> list[str]:
        """Return sentences on what is shown and what is left out, with the commands that show it.

        Args:
            script: The script of ``analysis/`` whose commands are printed.
        """
        lines = [self.mismatch] if self.mismatch else []
        lines += absent_remarks((*self.matched.search, *self.matched.confirmed))
        lines += self._left_out(script)
        if self.matched.foreign:
            lines.append(
                f"{counted(self.matched.foreign, 'run')} of experiment {self.experiment} without the tags of a trial "
                "were ignored."
            )
        if self.matched.by_data:
            names = listing(sorted(set(self.confirmed["study"])))
            lines.append(
                f"Confirmation {names} tested published defaults on these data, not what the search has found; size "
                "and plan of its trainings may be others."
            )
        several = several_contents((*self.matched.search, *self.matched.confirmed), self.space_names)
        for name, shown in several.items():
            listed = ", ".join(f"{one} (study {listing(studies)})" for one, studies in shown.items())
            lines.append(f"{len(shown)} spaces are named {name} and differ in their content: {listed}.")
        if running := self._running():
            lines.append(
                f"Numbers may change: {listing(running)} {'are' if len(running) > 1 else 'is'} running, or was killed "
                "and not resumed."
            )
        return lines

    def _left_out(self, script: str) -> list[str]:
        """Return a sentence on each study whose trials do not match what is shown."""
        shown = (*self.matched.search, *self.matched.confirmed)
        digests = {run.data.tags.get(Tag.CORPUS_DIGEST) for run in shown}
        studies: dict[tuple[str, str], list[Run]] = {}
        otherwise = {run.info.run_id for run in self.matched.otherwise}
        others = [run for run in self.matched.others if run.info.run_id not in otherwise]
        for run in sorted(others, key=lambda run: -run.info.start_time):
            if self.study in (None, run.data.tags[Tag.STUDY]) and not self.named:
                studies.setdefault((run.data.tags[Tag.STAGE], run.data.tags[Tag.STUDY]), []).append(run)
        lines = self._computed_otherwise(script)
        for (stage, study), runs in list(studies.items())[:MOST_NAMED]:
            other = runs[0].data.tags.get(Tag.CORPUS_DIGEST) not in digests
            why = "another corpus or another state of it" if other else "another fold, seed, size, plan or selection"
            kind = "search" if stage == SEARCH else "confirmation"
            lines.append(
                f"Left out: {counted(len(runs), 'trial')} of {kind} {study} ({self.data_of(runs[0])}), {why}. To show "
                f"them: {self.command(script, '--study', study)}"
            )
        if len(studies) > MOST_NAMED:
            rest = list(studies.values())[MOST_NAMED:]
            lines.append(
                f"Left out: {counted(sum(map(len, rest)), 'trial')} of {len(rest)} older searches and confirmations."
            )
        return lines

    def _computed_otherwise(self, script: str) -> list[str]:
        """Return a sentence on the trials that match what is shown but for their arithmetic."""
        found = Counter(run.data.tags[Tag.ARITHMETIC] for run in self.matched.otherwise)
        if not found or self.named:
            return []
        matching = (*self.matched.search, *self.matched.confirmed)
        shown = {run.data.tags.get(Tag.ARITHMETIC, "not recorded") for run in matching}
        study = () if self.study is None else ("--study", self.study)
        return [
            f"Left out: {counted(found.total(), 'trial')} computed in other arithmetic ({listing(sorted(found))}) than "
            f"those shown ({listing(sorted(shown))}). To show all: --arithmetic {ANY_ARITHMETIC}. To show those alone: "
            f"{self.command(script, *study, '--arithmetic', min(found))}"
        ]

    def _running(self) -> list[str]:
        shown = {run.data.tags[Tag.STUDY] for run in (*self.matched.search, *self.matched.confirmed)}
        kinds = (TRIAL, PARENT)
        return sorted(
            {
                study
                for run in self.runs
                if (study := run.data.tags.get(Tag.STUDY)) in shown
                and run.data.tags.get(KIND) in kinds
                and run.info.status == "RUNNING"
            }
        )

    def _described(self, run: Run) -> str:
        corpus = run.data.tags.get(Tag.CORPUS_DIGEST, "")[:6]
        return f"{run.data.tags[Tag.STUDY]}, {self.data_of(run)}{f' {corpus}' if corpus else ''}"


def open_records(options: RecordsOptions) -> Records:
    """Read the runs of an experiment, and match its searches with its confirmations.

    Args:
        options: The store, and which experiment and study. Trials that are named by their runs choose the experiment.

    Raises:
        UserError: If there is no such store, experiment, study or run, or if the experiment has no trial.
    """
    uri = chosen_uri(options.tracking_uri)
    client, uri = open_existing(uri), without_password(uri)
    asked = _experiment_of_runs(client, uri, options) if options.run_ids else chosen_experiment(options.experiment)
    name, identifier = find_experiment(client, uri, asked, options.study, (SEARCH, CONFIRM))
    runs = search_all(client, [identifier], "")
    named = tuple(run for run in runs if run.info.run_id in options.run_ids)
    recorded = {run.data.tags[Tag.ARITHMETIC] for run in runs if Tag.ARITHMETIC in run.data.tags}
    if options.arithmetic not in {None, ANY_ARITHMETIC, *recorded}:
        raise unknown_name("arithmetic", str(options.arithmetic), {ANY_ARITHMETIC, *recorded})
    matched = match(runs, named[0].data.tags.get(Tag.STUDY) if named else options.study, options.arithmetic)
    if not (matched.search or matched.confirmed):
        known = {run.data.tags[Tag.STUDY] for run in matched.others}
        if options.study is not None and options.study not in known and known:
            raise unknown_name("study", options.study, known)
        if options.arithmetic is not None and known:
            raise UserError(
                f"no trial of study {options.study!r} was computed in {options.arithmetic}. Leave --arithmetic out, or "
                f"show all: --arithmetic {ANY_ARITHMETIC}."
            )
        if not named:
            raise UserError(
                f"experiment {name!r} in {uri} has no trial of a study. Run a study first: "
                f"{command_line('study/run.py')}"
            )
        matched = match(runs)  # of a pilot
    shown = (*matched.search, *matched.confirmed)
    studies = {run.data.tags[Tag.STUDY] for run in shown}
    parents = [run for run in runs if run.data.tags.get(KIND) == PARENT and run.data.tags.get(Tag.STUDY) in studies]
    names = space_names((*shown, *parents))
    newest = newest_of(shown or named)
    return Records(
        client,
        uri,
        name,
        identifier,
        trials_of(matched.search, names, otherwise=matched.otherwise),
        confirmed_table(matched.confirmed, names),
        SELECTIONS[newest.data.tags[Tag.SELECT_ON]],
        tuple(classes_of_any(shown or named)),
        runs=tuple(runs),
        matched=matched,
        study=options.study,
        arithmetic=options.arithmetic,
        named=named,
        space_names=names,
    )


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


def _read_curve(client: MlflowClient, run_id: str, metric: str) -> pd.Series:
    values = {value.step: value.value for value in client.get_metric_history(run_id, metric)}
    return pd.Series(values, dtype=float, name=metric).sort_index()


def _read_utterances(client: MlflowClient, run: Run) -> pd.DataFrame | None:
    """Return the per-utterance table of a trial, None if the run has none."""
    table = read_table(client, run, UTTERANCES)
    if table is None:
        return None
    table = table.rename(columns={OLD_SUBSET: SUBSET})
    classes = [name for name in table.columns.astype(str) if name.startswith(PROBABILITY)]
    if (missing := [name for name in (*TEXT, *FROM_LOSS) if name not in table]) or len(classes) < 2:
        raise UserError(
            f"{UTTERANCES} of MLflow run {run.info.run_id} is another table: it lacks "
            f"{', '.join(missing) or f'columns {PROBABILITY}CLASS'}."
        )
    if AGREEMENT not in table:  # written by an older version
        table[AGREEMENT] = pd.array([pd.NA] * len(table), dtype="string")
    return table
