"""From a search to its confirmation: the best configurations and the published defaults, on fresh seeds and folds."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from rich.console import Console

from ser.config import Config
from ser.corpora import load, parse_options
from ser.noise import level_name
from ser.splits import Fold, check_disjoint, fold_groups, split
from ser.training.embeddings import extractor
from ser.training.task import Task, make_task
from ser.utils.command_names import command_line
from ser.utils.errors import UserError, unknown_name
from ser.utils.hashing import digest
from study.messages import without_password
from study.options import ConfirmOptions, StudyOptions
from study.schema import DEFAULT, Tag
from study.setup.candidates import Candidate, ConfirmationPlan, choose
from study.setup.prepare import check_gpus, claim_folder, open_stores
from study.setup.prepared_study import PreparedStudy, RecordStore, Search, StudyData
from study.setup.resolve import absolute
from study.setup.spaces import Space, load_space
from study.tracking.searches import Trials, read_trials
from study.tracking.store import experiment_id, open_client
from study.trial.specification import TrialSpecification
from study.uri import absolute_uri


@dataclass(frozen=True)
class Confirmation:
    """A confirmation that can start.

    Args:
        prepared: As a study, with one search for each space and noise level.
        plan: What is trained.
        held_out: The fold that the search held out.
    """

    prepared: PreparedStudy
    plan: ConfirmationPlan
    held_out: int


@dataclass(frozen=True)
class _Confirmed:
    """The search that is confirmed.

    Args:
        records: Where its records are.
        trials: Its comparable trials.
        options: Those of its newest study.
    """

    records: RecordStore
    trials: Trials
    options: StudyOptions


def prepare_confirmation(asked: ConfirmOptions, console: Console) -> Confirmation:
    """Check a whole confirmation, and open its feature stores.

    Args:
        asked: The options as given.
        console: Where progress is shown.

    Raises:
        UserError: There is no search, it has no finished trial, or its data have changed.
    """
    saved = _saved_plan(asked)
    search = _find_search(asked, saved)
    options = _study_options(asked, search)
    check_gpus(options)
    spaces = _load_spaces(search)
    corpus = load(options.corpus, options.corpus_root, options.exclude, parse_options(options.corpus_options))
    folds = len(fold_groups(corpus, options.split_by)[1])
    held_out = options.fold or folds
    plan = saved or _make_plan(asked, search, options, spaces, chosen_folds(asked.folds, folds, held_out))
    lock = claim_folder(options)
    extractors = [extractor(_config(one)) for one in plan.candidates]
    stores = open_stores(corpus, extractors, options, console)
    data_digest = digest([corpus.digest, [asdict(one) for one in plan.candidates], list(plan.seeds), list(plan.folds)])
    held_out_fold = split(corpus, held_out, options.split_by, options.validation)
    data = StudyData(corpus, held_out_fold, data_digest, stores, 0.0)
    prepared = PreparedStudy(
        options=options,
        data=data,
        records=search.records,
        searches=_plan_searches(plan, options, data, spaces),
        protocol=digest(["confirm", _newest_tags(search.records.client, search.trials)[Tag.PROTOCOL]]),
        session=uuid.uuid4().hex,
        lock=lock,
    )
    if options.resume:
        options.check_unchanged(data_digest)
    return Confirmation(prepared, plan, held_out)


def _saved_plan(asked: ConfirmOptions) -> ConfirmationPlan | None:
    """Return the plan of the confirmation that is resumed, None for a new one."""
    if not asked.resume:
        return None
    return ConfirmationPlan.read(StudyOptions(name=asked.name, storage_path=absolute(asked.storage_path)).folder)


def _find_search(asked: ConfirmOptions, saved: ConfirmationPlan | None) -> _Confirmed:
    """Find the search to confirm, and the options of its newest study."""
    uri = absolute_uri(asked.tracking_uri)
    client = open_client(uri)
    experiment, study = (saved.experiment, saved.study) if saved else (_experiment(client, asked), asked.study)
    identifier = experiment_id(client, uri, experiment)
    trials = read_trials(client, identifier, study)
    if trials is None:
        raise UserError(
            f"experiment {experiment!r} in {without_password(uri)} has no search to confirm. Run one first: "
            f"{command_line('study/run.py')}"
        )
    folder = Path(_newest_tags(client, trials)[Tag.FOLDER]).parents[1]
    options = StudyOptions(name=folder.name, storage_path=folder.parents[1], resume=True).resumed()
    noise = {level_name(level): level for level in options.noise}
    # Other studies of the same protocol may have had other levels.
    more = [level for level in dict.fromkeys(trials.table["noise"]) if level not in noise]
    options = replace(options, experiment=experiment, noise=(*options.noise, *more))
    return _Confirmed(RecordStore(client, identifier), trials, options)


def _experiment(client: MlflowClient, asked: ConfirmOptions) -> str:
    """Return the experiment that was asked for, or the one with the newest run."""
    experiments = {one.experiment_id: one.name for one in client.search_experiments()}
    if asked.experiment is not None:
        if asked.experiment not in experiments.values():
            raise unknown_name("experiment", asked.experiment, experiments.values())
        return asked.experiment
    newest = client.search_runs(list(experiments), order_by=["attributes.start_time DESC"], max_results=1)
    if not newest:
        raise UserError(
            f"there is no run in {without_password(asked.tracking_uri)}. Run a study first: "
            f"{command_line('study/run.py')}"
        )
    return str(experiments[newest[0].info.experiment_id])


def _newest_tags(client: MlflowClient, trials: Trials) -> dict[str, str]:
    """Return the tags of the newest trial."""
    run_id = str(trials.table.sort_values(["start", "run_id"])["run_id"].iloc[-1])
    return dict(client.get_run(run_id).data.tags)


def _load_spaces(search: _Confirmed) -> dict[str, Space]:
    """Load the spaces of the search by name, also those of other studies of the same protocol."""
    fixed = search.options.fixed
    spaces = {space.name: space for space in (load_space(name, fixed) for name in search.options.space)}
    for name in search.trials.table["space"].unique():
        if name not in spaces:
            spaces[name] = load_space(name, fixed)
    return spaces


def _study_options(asked: ConfirmOptions, search: _Confirmed) -> StudyOptions:
    """Return the search's options with what the confirmation changes of them."""
    return replace(
        search.options,
        name=asked.name or f"{search.options.experiment}-confirm-{datetime.now().strftime('%Y%m%d-%H%M%S')}",
        storage_path=absolute(asked.storage_path),
        tracking_uri=absolute_uri(asked.tracking_uri),
        corpus_root=asked.corpus_root or search.options.corpus_root,
        resume=asked.resume,
        scheduler="none",
        cpus_per_trial=asked.cpus_per_trial,
        gpus_per_trial=asked.gpus_per_trial,
        max_concurrent=asked.max_concurrent,
        time_budget=asked.time_budget,
        address=asked.address,
    )


def _make_plan(
    asked: ConfirmOptions,
    search: _Confirmed,
    options: StudyOptions,
    spaces: Mapping[str, Space],
    folds: tuple[int, ...],
) -> ConfirmationPlan:
    """Choose the candidates of a new confirmation, and its seeds."""
    trials = _with_parameters(search.records.client, search.trials)
    candidates = tuple(choose(trials, spaces, options.defaults, asked.top))
    if not any(candidate.name != DEFAULT or candidate.source for candidate in candidates):
        raise UserError(
            f"no trial of experiment {options.experiment!r} has finished; there is nothing to confirm yet. Resume the "
            f"search: {command_line('study/run.py')} --resume --name {search.options.name}"
        )
    seeds = tuple(range(options.seed + 1, options.seed + 1 + asked.seeds))
    return ConfirmationPlan(str(options.experiment), asked.study, candidates, seeds, folds)


def _with_parameters(client: MlflowClient, trials: Trials) -> Trials:
    """Return the trials with all parameters of each, not the searched ones alone."""
    table = trials.table.copy()
    parameters = [dict(client.get_run(run_id).data.params) for run_id in table["run_id"]]
    table["all_parameters"] = pd.Series(parameters, index=table.index, dtype=object)
    return replace(trials, table=table)


def chosen_folds(asked: Sequence[str], folds: int, held_out: int) -> tuple[int, ...]:
    """Return the numbers of the folds that are tested.

    Args:
        asked: ``all``, ``held-out``, or numbers.
        folds: Folds of the corpus.
        held_out: Number of the fold that the search held out.

    Raises:
        UserError: Something else.
    """
    if list(asked) == ["all"]:
        return tuple(range(1, folds + 1))
    if list(asked) == ["held-out"]:
        return (held_out,)
    for text in asked:
        if not text.isdigit() or not 1 <= int(text) <= folds:
            raise UserError(f"--folds {text!r} is not a fold. Give all, held-out, or numbers from 1 to {folds}.")
    if not asked:
        raise UserError("--folds is empty. Give all, held-out, or numbers.")
    return tuple(dict.fromkeys(map(int, asked)))


def _plan_searches(
    plan: ConfirmationPlan, options: StudyOptions, data: StudyData, spaces: Mapping[str, Space]
) -> tuple[Search, ...]:
    """Return one search for each space and level, all of whose trials are known."""
    levels = {level_name(level): level for level in options.noise}
    tasks = _Tasks(options, data, levels)
    searches = []
    for noise, name in dict.fromkeys((one.noise, one.space) for one in plan.candidates):
        candidates = [one for one in plan.candidates if (one.noise, one.space) == (noise, name)]
        planned = _plan_trials(candidates, plan, data.fold.number, tasks)
        searched = spaces[name].check(options.defaults)
        listed = Space(name, spaces[name].source, {}, {}, ())
        searches.append(Search(listed, searched, noise, planned[0].task, planned))
    return tuple(searches)


def _plan_trials(
    candidates: Sequence[Candidate], plan: ConfirmationPlan, held_out: int, tasks: _Tasks
) -> tuple[TrialSpecification, ...]:
    """Return the trials of one space and level: the held-out fold first, then by seed, then by candidate."""
    return tuple(
        TrialSpecification(
            one.configuration,
            seed,
            tasks.task(fold, seed, one),
            {
                Tag.SEED: str(seed),
                Tag.FOLD: str(fold),
                Tag.CANDIDATE: one.name,
                Tag.SOURCE: one.source,
                Tag.SEEN: str(fold != held_out).lower(),
            },
        )
        for fold in sorted(plan.folds, key=lambda fold: (fold != held_out, fold))
        for seed in plan.seeds
        for one in candidates
    )


class _Tasks:
    """The tasks of a confirmation, each made once.

    Args:
        options: The confirmation's.
        data: The confirmation's.
        levels: Noise levels, as given, by their names for records.
    """

    def __init__(self, options: StudyOptions, data: StudyData, levels: Mapping[str, str]) -> None:
        self._options, self._data, self._levels = options, data, levels
        self._folds: dict[int, Fold] = {}
        self._tasks: dict[tuple[int, int, str, str], Task] = {}

    def task(self, fold: int, seed: int, candidate: Candidate) -> Task:
        """Return the data of a candidate on a fold, with a seed's own noise draw."""
        front_end = extractor(_config(candidate)).front_end.name
        key = (fold, seed, candidate.noise, front_end)
        if key not in self._tasks:
            corpus, store = self._data.corpus, self._data.stores[front_end]
            if fold not in self._folds:
                self._folds[fold] = split(corpus, fold, self._options.split_by, self._options.validation)
                check_disjoint(corpus, self._folds[fold], store.content)
            level = self._levels[candidate.noise]
            self._tasks[key] = make_task(corpus, self._folds[fold], store.path, level, seed, with_test=True)
        return self._tasks[key]


def _config(candidate: Candidate) -> Config:
    configuration: dict[str, Any] = dict(candidate.configuration)
    return Config.from_dotted(configuration)
