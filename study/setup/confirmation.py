"""From options to a confirmation that can start: a design, declared and checked, and its trainings.

``prepare_confirmation`` reads as the steps do: find the search or load the spaces, declare the design or read that of
the confirmation that is resumed, open the records and the feature stores, plan the trainings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from rich.console import Console

from ser.config import Config
from ser.corpora import Corpus, check_name, load, parse_options
from ser.corpora.classes import ALL, FORMER
from ser.fold_design import design_folds
from ser.labels import LabelKind
from ser.noise import level_name
from ser.splits import FORMER_AUTO, Fold, check_disjoint, split
from ser.training.device.arithmetic import Device
from ser.training.embeddings import extractor
from ser.training.task import Task, make_task
from ser.utils.command_names import command_line
from ser.utils.errors import UserError, unknown_name, without_password
from ser.utils.hashing import digest
from study.console import say
from study.options import ConfirmOptions, StudyOptions
from study.schema import CONFIRM, DEFAULT, KIND, SEARCH, TRIAL, Tag, method_name, space_and_labels
from study.setup.candidates import Candidate, choose, place_of_weights, published_defaults, with_weights
from study.setup.design import (
    OFFICIAL_SEEDS,
    TRAINING,
    Design,
    OtherCorpus,
    fold_speakers,
    primary_comparison,
    training_seed,
    unit_of,
)
from study.setup.other_corpora import OtherTests, load_others, open_tests
from study.setup.prepare import (
    check_gpus,
    check_levels,
    claimed_folder,
    embeddings_device,
    load_spaces,
    obtain_weights,
    open_records,
    open_stores,
    protocol,
    votes_read,
)
from study.setup.prepared_study import PreparedStudy, RecordStore, Search, StudyData
from study.setup.resolve import absolute, check_noise, data_name, resumed, with_absolute_paths, with_encoder
from study.setup.spaces import Space
from study.tracking.matching import confirm_protocol, find_experiment, is_whole
from study.tracking.opening import open_existing
from study.tracking.searches import Trials, read_trials, searched_spaces
from study.tracking.store import search_all
from study.trial.specification import TrialSpecification
from study.uri import chosen_experiment, chosen_uri


@dataclass(frozen=True)
class Confirmation:
    """A confirmation that can start.

    Args:
        prepared: As a study, with one search for each space and noise level.
        design: What is trained and compared.
        tests: Tests on other corpora.
    """

    prepared: PreparedStudy
    design: Design
    tests: OtherTests


@dataclass(frozen=True)
class _Basis:
    """Ingredients of a design, besides the corpus.

    Args:
        options: Complete options of the confirmation, as a study's.
        records: Where its records go.
        spaces: Its methods.
        trials: The search whose winners are tested; None for published defaults alone.
        search_options: Those of the newest study of the search.
    """

    options: StudyOptions
    records: RecordStore
    spaces: tuple[Space, ...]
    trials: Trials | None = None
    search_options: StudyOptions | None = None


def prepare_confirmation(asked: ConfirmOptions, console: Console) -> Confirmation:
    """Check a whole confirmation, and open its feature stores.

    Args:
        asked: The options as given.
        console: Where progress is shown.

    Raises:
        UserError: There is nothing to confirm, it cannot be trained, or its data or design have changed.
    """
    basis = _resumed(asked) if asked.resume else _of_defaults(asked) if asked.space else _of_search(asked)
    options = basis.options
    for line in _about_search(basis):
        say(console, line)
    check_gpus(options, basis.spaces)
    corpus = load(
        options.corpus, options.corpus_root, options.exclude, parse_options(options.corpus_options), options.classes
    )
    declared = Design.read(options.folder) if asked.resume else None
    others = load_others(
        asked.test_corpus,
        asked.test_options,
        data_name(options.corpus, options.corpus_root),
        corpus.classes,
        None if declared is None else declared.test_corpora,
    )
    obtain_weights(options, basis.spaces, options if asked.resume else basis.search_options, console)
    design = declared or _declare(asked, basis, corpus, tuple(one.declared for one in others))
    folds = {fold.number: design.fold(corpus, fold.number) for fold in design.folds}
    check_levels(options, corpus, folds[1], basis.spaces)
    with claimed_folder(options) as lock:
        device = embeddings_device(options)
        extractors = [extractor(_config(one), device) for one in with_weights(design.candidates, options)]
        stores = open_stores(corpus, extractors, options, console)
        tests = open_tests(corpus, others, extractors, options, console)
        data = StudyData(
            corpus,
            folds[1],
            digest([corpus.digest, design.digest, *tests.heard, *votes_read(options, corpus)]),
            stores,
            0.0,
            tests.all_stores,
        )
        tests.check(data.store)
        options.check_audio(data.audio_digest)
        for fold in folds.values():
            check_disjoint(corpus, fold, data.store.content)
        if options.resume:
            options.check_unchanged(data.digest)
        prepared = PreparedStudy(
            options=options,
            data=data,
            records=basis.records,
            searches=_plan_searches(design, basis, data, folds, tests),
            protocol=design.protocol,
            lock=lock,
            design=design,
        )
    return Confirmation(prepared, design, tests)


def _resumed(asked: ConfirmOptions) -> _Basis:
    """Return the basis of a confirmation that is resumed: its own options, and what the call may change of them."""
    given = with_absolute_paths(
        StudyOptions(
            space=asked.space or StudyOptions.space,
            corpus_root=asked.corpus_root,
            exclude=asked.exclude,
            name=asked.name,
            experiment=asked.experiment,
            storage_path=asked.storage_path,
            tracking_uri=asked.tracking_uri,
            cpus_per_trial=asked.cpus_per_trial,
            gpus_per_trial=asked.gpus_per_trial,
            max_concurrent=asked.max_concurrent,
            keep=asked.keep,
            time_budget=asked.time_budget,
            address=asked.address,
            plan=asked.plan,
            resume=True,
        )
    )
    design = Design.read(given.folder)  # says that there is none in the words of a confirmation
    options = resumed(given)
    spaces = load_spaces(options, ranges=False, methods=design.methods)
    return _Basis(options, open_records(options), tuple(spaces))


def _of_defaults(asked: ConfirmOptions) -> _Basis:
    """Return the basis of a confirmation of published defaults, without a search."""
    check_name(asked.corpus)
    shared = {name: getattr(asked, name) for name in StudyOptions.__dataclass_fields__ if hasattr(asked, name)}
    options = with_absolute_paths(StudyOptions(**shared))
    check_noise(options)
    experiment = chosen_experiment(options.experiment) or data_name(options.corpus, options.corpus_root)
    options = replace(
        options,
        experiment=experiment,
        tracking_uri=chosen_uri(options.tracking_uri),
        model=options.network,
        keep=asked.keep or "all",
    )
    options = with_encoder(replace(options, name=options.name or _new_name(options)))
    spaces = tuple(load_spaces(options))
    return _Basis(options, open_records(options), spaces)


def _of_search(asked: ConfirmOptions) -> _Basis:
    """Return the basis of a confirmation of a search: the options of its newest study, and its comparable trials."""
    uri = chosen_uri(asked.tracking_uri)
    client = open_existing(uri)
    named = chosen_experiment(asked.experiment)
    experiment, identifier = find_experiment(client, without_password(uri), named, asked.study, (SEARCH,))
    trials = read_trials(client, identifier, asked.study)
    if trials is None:
        raise _no_search(client, uri, experiment, identifier, asked.study)
    folder = Path(_newest_tags(client, trials)[Tag.FOLDER]).parents[1]
    if not folder.is_dir():  # it was moved since
        folder = absolute(asked.storage_path) / "studies" / folder.name
    searched = StudyOptions(name=folder.name, storage_path=folder.parents[1], resume=True).resumed()
    searched = replace(searched, experiment=experiment)
    # Other studies of the same protocol may have had other levels, spaces and labels.
    levels = {level_name(level): level for level in searched.noise}
    more_levels = [level for level in dict.fromkeys(trials.table["noise"]) if level not in levels]
    found = searched_spaces(client, identifier, trials, str(searched.name))
    names = {Path(name).stem for name in searched.space}
    methods = {name: space_and_labels(name) for name in found}
    more_spaces = {space: found[name].name_or_path for name, (space, _) in methods.items() if space not in names}
    options = replace(
        searched,
        space=(*searched.space, *more_spaces.values()),
        labels=tuple(dict.fromkeys([*searched.labels, *(labels for _, labels in methods.values())])),
        noise=(*searched.noise, *more_levels),
        name=asked.name or _new_name(searched),
        storage_path=absolute(asked.storage_path),
        tracking_uri=uri,
        corpus_root=absolute(asked.corpus_root) if asked.corpus_root else searched.corpus_root,
        resume=False,
        trials=None,
        classes=ALL if searched.classes == FORMER else searched.classes,
        split_by="auto" if searched.split_by == FORMER_AUTO else searched.split_by,
        validation="held-out",
        scheduler="none",
        cpus_per_trial=asked.cpus_per_trial,
        gpus_per_trial=asked.gpus_per_trial,
        max_concurrent=asked.max_concurrent,
        keep=asked.keep or "all",
        time_budget=asked.time_budget,
        address=asked.address,
        plan=asked.plan,
    )
    planned = {method_name(name, labels) for name in names for labels in searched.labels}
    spaces = tuple(
        space.began_as(one.record, f"study {one.study!r} searched it", "search again")
        if (one := found.get(space.name))
        else space
        for space in load_spaces(options, methods={*found, *planned})
    )
    return _Basis(options, open_records(options), spaces, trials, searched)


def _new_name(options: StudyOptions) -> str:
    return f"{options.experiment}-confirm-{datetime.now().strftime('%Y%m%d-%H%M%S')}"


def _no_search(client: MlflowClient, uri: str, experiment: str, identifier: str, study: str | None) -> UserError:
    """Return the error for an experiment without the search that is asked for."""
    query = f"tags.`{KIND}` = '{TRIAL}' and tags.`{Tag.STAGE}` = '{SEARCH}'"
    known = {run.data.tags.get(Tag.STUDY, "") for run in search_all(client, [identifier], query)} - {""}
    if study is not None and known:
        return unknown_name("search to confirm: --study", study, known)
    return UserError(
        f"experiment {experiment!r} in {without_password(uri)} has no search to confirm. Run one first: "
        f"{command_line('study/run.py')} Or test published defaults without one: "
        f"{command_line('study/confirm.py')} --space NAME …"
    )


def _about_search(basis: _Basis) -> list[str]:
    """Return lines on the search that is confirmed, and on the trials of the experiment that are not of it."""
    if basis.trials is None:
        return []
    options, studies = basis.options, dict.fromkeys(basis.trials.table["study"])
    data = data_name(options.corpus, options.corpus_root)
    found = f"search    {len(basis.trials.table)} trials on {data} in experiment {options.experiment}: "
    return [f"{found}{', '.join(studies)}", *basis.trials.left_out]


def _newest_tags(client: MlflowClient, trials: Trials) -> dict[str, str]:
    """Return the tags of the newest trial."""
    run_id = str(trials.table.sort_values(["start", "run_id"])["run_id"].iloc[-1])
    return dict(client.get_run(run_id).data.tags)


def _declare(asked: ConfirmOptions, basis: _Basis, corpus: Corpus, others: tuple[OtherCorpus, ...]) -> Design:
    """Declare the design of a new confirmation."""
    options, searched = basis.options, _searched(basis, corpus)
    folds = design_folds(corpus, options.split_by, searched.get("validation", ()))
    levels = {level_name(level): level for level in options.noise}
    methods = [space.name for space in basis.spaces]
    if asked.reference not in methods and asked.reference != ConfirmOptions.reference:
        raise unknown_name("--reference", asked.reference, methods)
    rates = {name: _rate(corpus, folds[0], level) for name, level in levels.items()}
    candidates = _candidates(asked, basis, tuple(levels))
    trained = {(one.space, one.noise) for one in candidates}
    primary = primary_comparison(asked.primary, methods, rates, asked.reference, trained)
    unit, seeds = unit_of(folds), asked.seeds
    if seeds is None:
        seeds = OFFICIAL_SEEDS if unit == TRAINING else 1
    identity = _protocol(basis, corpus, folds)
    if asked.pilot:
        level = primary["level"] if primary else max(rates, key=lambda name: rates[name] or 0.0)
        candidates = tuple(one for one in candidates if (one.space, one.noise) == (asked.reference, level))[-1:]
        if not candidates:
            raise unknown_name(
                "--pilot trains the --reference, whose space is not confirmed:", asked.reference, methods
            )
    first = _first_seed(basis, identity)
    return Design(
        study=str(options.name),
        experiment=str(options.experiment),
        corpus=corpus.name,
        corpus_digest=corpus.digest,
        classes=corpus.classes,
        unit=unit,
        folds=fold_speakers(corpus, folds),
        seeds=tuple(range(first, first + seeds)),
        levels=tuple(levels),
        methods=tuple(methods),
        candidates=candidates,
        reference=asked.reference if asked.reference in methods else None,
        primary=primary,
        stopped=(asked.reference,) if asked.reference in methods else (),
        select_on=options.select_on,
        protocol=identity,
        searched=searched,
        pilot=asked.pilot,
        test_corpora=others,
    )


def _searched(basis: _Basis, corpus: Corpus) -> dict[str, list[str]]:
    """Return the speakers that the search has trained on, and those that it has validated on."""
    search = basis.search_options
    if search is None or basis.trials is None:
        return {}
    tags = _newest_tags(basis.records.client, basis.trials)
    if tags[Tag.CORPUS_DIGEST] != corpus.digest:
        raise UserError(
            f"corpus {corpus.name!r} is not the one that the search of experiment {basis.options.experiment!r} was "
            "trained on (other labels, classes, utterances or subsets), so its choice cannot be confirmed. Restore it, "
            "or search again."
        )
    fold = split(corpus, search.fold, search.split_by, search.validation)
    speakers = corpus.table["speaker"]
    return {name: sorted(set(speakers.iloc[fold.subsets[name]])) for name in ("train", "validation")}


def _rate(corpus: Corpus, fold: Fold, level: str) -> float | None:
    """Return the rate of wrong training labels at a noise level, None where the truth is unknown."""
    rate: float | None = make_task(corpus, fold, Path(), level, 0).manifest["parts"]["train"]["rate"]
    return rate


def _candidates(asked: ConfirmOptions, basis: _Basis, levels: Sequence[str]) -> tuple[Candidate, ...]:
    """Choose the configurations that are tested."""
    options = basis.options
    if basis.trials is None:
        return published_defaults(basis.spaces, levels, options.defaults)
    trials = _with_parameters(basis.records.client, basis.trials, options)
    spaces = {space.name: space for space in basis.spaces}
    candidates = tuple(choose(trials, spaces, options.defaults, asked.top))
    if not any(candidate.name != DEFAULT or candidate.source for candidate in candidates):
        search = basis.search_options
        assert search is not None
        raise UserError(
            f"no trial of experiment {options.experiment!r} has finished; there is nothing to confirm yet. Resume the "
            f"search: {command_line('study/run.py')} --resume --name {search.name}"
        )
    return candidates


def _with_parameters(client: MlflowClient, trials: Trials, options: StudyOptions) -> Trials:
    """Return the trials with all parameters of each, not the searched ones alone.

    Weights that ``--pretrained`` names are those of the confirmation's own folder, whose content is the same.
    """
    table, own = trials.table.copy(), place_of_weights(options)
    parameters = [{**client.get_run(run_id).data.params, **own} for run_id in table["run_id"]]
    table["all_parameters"] = pd.Series(parameters, index=table.index, dtype=object)
    return replace(trials, table=table)


def _protocol(basis: _Basis, corpus: Corpus, folds: Sequence[Fold]) -> str:
    """Return the digest of all that must agree for two confirmations to be comparable."""
    if basis.trials is not None:
        return confirm_protocol(_newest_tags(basis.records.client, basis.trials)[Tag.PROTOCOL])
    return confirm_protocol(protocol(basis.options, corpus, folds[0].unit, len(folds), 0))


def _first_seed(basis: _Basis, identity: str) -> int:
    """Return the first seed that no earlier confirmation has used, so that added trainings are new ones."""
    query = f"tags.`{KIND}` = '{TRIAL}' and tags.`{Tag.STAGE}` = '{CONFIRM}'"
    runs = search_all(basis.records.client, [basis.records.experiment], query)
    tags = [run.data.tags for run in filter(is_whole, runs)]
    used = [int(one[Tag.SEED]) for one in tags if one[Tag.PROTOCOL] == identity]
    return max([basis.options.seed, *used]) + 1


def _plan_searches(
    design: Design,
    basis: _Basis,
    data: StudyData,
    folds: Mapping[int, Fold],
    tests: OtherTests,
) -> tuple[Search, ...]:
    """Return one search for each space and level, all of whose trials are known."""
    levels = {level_name(level): level for level in basis.options.noise}
    spaces = {space.name: space for space in basis.spaces}
    tasks = _Tasks(data, folds, levels, tests, embeddings_device(basis.options))
    searches, declared = [], with_weights(design.candidates, basis.options)
    for noise, name in design.cells:
        candidates = [one for one in declared if (one.noise, one.space) == (noise, name)]
        planned = _plan_trials(candidates, design, tasks)
        searched = spaces[name].check(basis.options.defaults)
        listed = spaces[name].emptied()
        searches.append(Search(listed, searched, noise, planned[0].task, planned))
    return tuple(searches)


def _plan_trials(candidates: Iterable[Candidate], design: Design, tasks: _Tasks) -> tuple[TrialSpecification, ...]:
    """Return the trials of one space and level: by seed, then by fold, then by candidate."""
    return tuple(
        TrialSpecification(
            one.configuration,
            training_seed(seed, fold.number),
            tasks.task(fold.number, seed, one),
            {
                Tag.SEED: str(seed),
                Tag.FOLD: str(fold.number),
                Tag.CANDIDATE: one.name,
                Tag.SOURCE: one.source,
                Tag.EXPOSURE: design.exposure(one, fold.number),
            },
        )
        for seed in design.trained_seeds
        for fold in design.trained_folds
        for one in candidates
    )


class _Tasks:
    """The tasks of a confirmation, each made once.

    Args:
        data: The confirmation's.
        folds: Its folds by number.
        levels: Noise levels, as given, by their names for records.
        tests: Tests on other corpora.
        device: Kind of device that computes embeddings.
    """

    def __init__(
        self,
        data: StudyData,
        folds: Mapping[int, Fold],
        levels: Mapping[str, str],
        tests: OtherTests,
        device: Device,
    ) -> None:
        self._data, self._folds, self._levels, self._tests, self._device = data, folds, levels, tests, device
        self._tasks: dict[tuple[int, int, str, LabelKind, str], Task] = {}

    def task(self, fold: int, seed: int, candidate: Candidate) -> Task:
        """Return the data of a candidate on a fold, with the noise draw of (seed, fold)."""
        front_end = extractor(_config(candidate), self._device).front_end.name
        _, labels = space_and_labels(candidate.space)
        key = (fold, seed, candidate.noise, labels, front_end)
        if key not in self._tasks:
            store, level = self._data.stores[front_end], self._levels[candidate.noise]
            task = make_task(
                self._data.corpus,
                self._folds[fold],
                store.path,
                level,
                training_seed(seed, fold),
                labels=labels,
                with_test=True,
            )
            self._tasks[key] = replace(task, others=self._tests.of(front_end))
        return self._tasks[key]


def _config(candidate: Candidate) -> Config:
    configuration: dict[str, Any] = dict(candidate.configuration)
    return Config.from_dotted(configuration)
