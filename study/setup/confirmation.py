"""What a confirmation trains: a search's best configurations and the published defaults, on fresh seeds and folds."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro
from mlflow import MlflowClient
from rich.console import Console

from ser.config import Config
from ser.corpora import Corpus, load, parse_options
from ser.features.store import FeatureStore
from ser.noise import level_name
from ser.splits import Fold, check_disjoint, fold_groups, split
from ser.training.embeddings import extractor
from ser.training.task import Task, make_task
from ser.utils.durable_files import replace_text
from ser.utils.errors import UserError, unknown_name
from ser.utils.hashing import digest
from study.messages import without_password
from study.options import StudyOptions
from study.schema import DEFAULT, SEARCH_RANK, SELECTIONS, Tag
from study.setup.prepare import (
    Job,
    Preparation,
    build_store,
    check_gpus,
    claim_folder,
    study_folder,
)
from study.setup.spaces import Space, load_space
from study.tracking.searches import Trials, best_runs, read_trials
from study.tracking.store import DEFAULT_URI, absolute_uri, experiment_id, open_client
from study.trial.specification import TrialSpecification

CANDIDATES = "candidates.json"
ALL, HELD_OUT = "all", "held-out"


@dataclass(frozen=True)
class ConfirmOptions:
    """Retrains the best configurations of a search, and each method's published default, and tests them."""

    experiment: str | None = None
    """MLflow experiment of the search; default the one with the newest run."""
    study: str | None = None
    """Only this study's search; default every study of the experiment that is comparable with the newest."""
    top: int = 3
    """Configurations of each space and noise level, besides the default."""
    seeds: int = 5
    """Fresh seeds, each with a noise draw of its own."""
    folds: Annotated[tuple[str, ...], tyro.conf.arg(metavar="all|held-out|INT ...")] = (ALL,)
    """Folds to train and test on: all, held-out (the one that the search held out), or numbers."""
    corpus_root: Path | None = None
    """The corpus's folder, where it is not that of the search any more."""
    cpus_per_trial: float | None = None
    """CPUs of a trial; default as in study/run.py."""
    gpus_per_trial: float | None = None
    """GPUs of a trial, at most 1, fractions allowed; default 1 where there is one, else 0."""
    max_concurrent: int | None = None
    """Trials at a time; default as many as fit."""
    time_budget: str | None = None
    """Trials end at their next epoch after this time, such as 90m or 8h; --resume goes on with them."""
    address: str | None = None
    """Address of a Ray cluster to join; default is a Ray of the study's own on this machine."""
    storage_path: Path = Path("results")
    """Folder for feature stores and the states of studies."""
    tracking_uri: str = DEFAULT_URI
    """MLflow tracking URI."""
    output: Path = Path("results") / "confirm"
    """Folder for the recommended configurations."""
    name: str | None = None
    """The confirmation's name; default the experiment and the time."""
    resume: bool = False
    """Go on with the interrupted confirmation --name, with its own candidates, seeds and folds."""
    plan: bool = False
    """Print the candidates and the number of trials, and end."""

    def __post_init__(self) -> None:
        for option in ("top", "seeds"):
            least = 1 if option == "seeds" else 0
            if getattr(self, option) < least:
                raise UserError(f"--{option} is {getattr(self, option)}; at least {least} is needed.")
        if self.resume and self.name is None:
            raise UserError("--resume needs the --name of the confirmation to go on with.")


@dataclass(frozen=True)
class Candidate:
    """A configuration to confirm.

    Args:
        space: Its method.
        noise: Noise level, by its name for records.
        name: ``search-1``, ``search-2``, … or ``default``.
        source: The search's run; empty for a default that the search has not tried.
        configuration: All dotted names.
    """

    space: str
    noise: str
    name: str
    source: str
    configuration: Mapping[str, Any]


@dataclass(frozen=True)
class Confirmation:
    """A confirmation that can start.

    Args:
        prepared: As a study, with one job for each space and noise level.
        candidates: What is confirmed.
        seeds: Of training and noise draw.
        folds: That are tested.
        held_out: The fold that the search held out.
        search: The search's options.
    """

    prepared: Preparation
    candidates: tuple[Candidate, ...]
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    held_out: int
    search: StudyOptions


def choose(trials: Trials, spaces: Mapping[str, Space], base: Mapping[str, Any], top: int) -> list[Candidate]:
    """The best finished configurations of each space and level, and the published default.

    A configuration that is the default is not confirmed twice: it is the default, whatever its rank.

    Args:
        trials: Of the search.
        spaces: By name.
        base: Dotted names that every trial of the search had.
        top: How many of each.
    """
    found: list[Candidate] = []
    best = best_runs(trials, top)
    for (noise, space), group in best.groupby(["noise", "space"], sort=False):
        published = Config.from_dotted({**base, **next(iter(spaces[str(space)].examples()))}).to_dotted()
        default = Candidate(str(space), str(noise), DEFAULT, "", published)
        ranked = []
        for row in group.to_dict("records"):
            if pd.isna(row["run_id"]):
                continue
            configuration = Config.from_dotted(row["all_parameters"]).to_dotted()
            if configuration == published:
                default = replace(default, source=row["run_id"])
            else:
                name = f"{SEARCH_RANK}{row['rank']}"
                ranked.append(Candidate(str(space), str(noise), name, row["run_id"], configuration))
        found += [*ranked, default]
    return found


def prepare_confirmation(asked: ConfirmOptions, console: Console) -> Confirmation:
    """Checks the whole confirmation, and opens the feature stores.

    Args:
        asked: The options.
        console: Where progress is shown.

    Raises:
        UserError: There is no search, it has no finished trial, or its data are not as they were.
    """
    uri = absolute_uri(asked.tracking_uri)
    client = open_client(uri)
    storage = asked.storage_path.expanduser().absolute()
    if asked.resume:
        saved = _read_plan(study_folder(StudyOptions(name=asked.name, storage_path=storage)), str(asked.name))
        experiment = saved["experiment"]
    else:
        saved, experiment = None, _experiment(client, asked)
    identifier = experiment_id(client, uri, experiment)
    trials = read_trials(client, identifier, asked.study if saved is None else saved["study"])
    if trials is None:
        raise UserError(
            f"experiment {experiment!r} in {without_password(uri)} has no search to confirm. Run one first: python "
            "study/run.py"
        )
    search = _search_options(client, trials, asked)
    options = replace(
        search,
        name=asked.name or f"{experiment}-confirm-{datetime.now().strftime('%Y%m%d-%H%M%S')}",
        experiment=experiment,
        storage_path=storage,
        tracking_uri=uri,
        resume=asked.resume,
        scheduler="none",
        cpus_per_trial=asked.cpus_per_trial,
        gpus_per_trial=asked.gpus_per_trial,
        max_concurrent=asked.max_concurrent,
        time_budget=asked.time_budget,
        address=asked.address,
    )
    check_gpus(options)
    spaces = {space.name: space for space in (load_space(name, search.pinned) for name in search.space)}
    corpus = load(search.corpus, search.corpus_root, search.exclude, parse_options(search.corpus_options))
    folds = len(fold_groups(corpus, search.split_by)[1])
    held_out = search.fold or folds
    if saved is None:
        missing = [space for space in trials.table["space"].unique() if space not in spaces]
        for space in missing:  # of another study of the same protocol
            spaces[space] = load_space(space, search.pinned)
        candidates = tuple(choose(_with_parameters(client, trials), spaces, search.base, asked.top))
        if not any(candidate.name != DEFAULT or candidate.source for candidate in candidates):
            raise UserError(f"no trial of experiment {experiment!r} has finished; there is nothing to confirm yet.")
        seeds = tuple(range(search.seed + 1, search.seed + 1 + asked.seeds))
        asked_folds = _folds(asked.folds, folds, held_out)
    else:
        candidates = tuple(Candidate(**one) for one in saved["candidates"])
        seeds, asked_folds = tuple(saved["seeds"]), tuple(saved["folds"])

    extractors = {
        read.front_end.name: read
        for read in (extractor(Config.from_dotted(dict(one.configuration))) for one in candidates)
    }
    folder = study_folder(options)
    lock = claim_folder(folder, options)
    stores = {name: build_store(corpus, read, storage / "features", console) for name, read in extractors.items()}
    parts = {fold: split(corpus, fold, search.split_by, search.validation) for fold in {*asked_folds, held_out}}
    levels = {level_name(level): level for level in search.noise}
    jobs = _jobs(candidates, spaces, corpus, parts, stores, levels, seeds, asked_folds, held_out, search.base)
    store = next(iter(stores.values()))
    selection = SELECTIONS[search.select_on]
    prepared = Preparation(
        options=options,
        folder=folder,
        base=search.base,
        corpus=corpus,
        data=digest([corpus.digest, [asdict(one) for one in candidates], list(seeds), list(asked_folds)]),
        split=parts[held_out],
        models="",
        store=store,
        store_seconds=0.0,
        jobs=jobs,
        selection=selection,
        client=client,
        experiment=identifier,
        protocol=digest(["confirm", _protocol(client, trials)]),
        epochs=search.plain.training.epochs,
        session=uuid.uuid4().hex,
        lock=lock,
    )
    if saved is not None:
        options.check_unchanged(folder, prepared.data)
    return Confirmation(prepared, candidates, seeds, asked_folds, held_out, search)


def write_plan(confirmation: Confirmation, study: str | None) -> None:
    """Records what is confirmed, so that a resumed confirmation does not choose anew."""
    plan = {
        "experiment": confirmation.prepared.options.experiment,
        "study": study,
        "candidates": [asdict(one) for one in confirmation.candidates],
        "seeds": confirmation.seeds,
        "folds": confirmation.folds,
    }
    replace_text(confirmation.prepared.folder / CANDIDATES, json.dumps(plan, indent=2) + "\n")


def _jobs(
    candidates: Sequence[Candidate],
    spaces: Mapping[str, Space],
    corpus: Corpus,
    parts: Mapping[int, Fold],
    stores: Mapping[str, FeatureStore],
    levels: Mapping[str, str],
    seeds: Sequence[int],
    folds: Sequence[int],
    held_out: int,
    base: Mapping[str, Any],
) -> tuple[Job, ...]:
    """One job for each space and level; the held-out fold comes first, and all candidates on a seed before the next."""
    tasks: dict[tuple[int, int, str, str], Task] = {}

    def task(fold: int, seed: int, noise: str, front_end: str) -> Task:
        key = (fold, seed, noise, front_end)
        if key not in tasks:
            store = stores[front_end]
            check_disjoint(corpus, parts[fold], store.content)
            tasks[key] = make_task(corpus, parts[fold], store.path, levels[noise], seed, with_test=True)
        return tasks[key]

    jobs = []
    for noise, space in dict.fromkeys((one.noise, one.space) for one in candidates):
        mine = [one for one in candidates if (one.noise, one.space) == (noise, space)]
        planned = tuple(
            TrialSpecification(
                one.configuration,
                seed,
                task(fold, seed, noise, extractor(Config.from_dotted(dict(one.configuration))).front_end.name),
                {
                    Tag.SEED: str(seed),
                    Tag.FOLD: str(fold),
                    Tag.CANDIDATE: one.name,
                    Tag.SOURCE: one.source,
                    Tag.SEEN: str(fold != held_out).lower(),
                },
            )
            for fold in sorted(folds, key=lambda fold: (fold != held_out, fold))
            for seed in seeds
            for one in mine
        )
        searched = spaces[space].check(base)
        listed = Space(space, spaces[space].source, {}, {}, ())
        jobs.append(Job(listed, searched, noise, planned[0].task, planned))
    return tuple(jobs)


def _folds(asked: Sequence[str], folds: int, held_out: int) -> tuple[int, ...]:
    if list(asked) == [ALL]:
        return tuple(range(1, folds + 1))
    if list(asked) == [HELD_OUT]:
        return (held_out,)
    found = []
    for text in asked:
        if not text.isdigit() or not 1 <= int(text) <= folds:
            raise UserError(f"--folds {text!r}: give all, held-out, or numbers from 1 to {folds}.")
        found.append(int(text))
    if not found:
        raise UserError("--folds needs all, held-out, or numbers.")
    return tuple(dict.fromkeys(found))


def _experiment(client: MlflowClient, asked: ConfirmOptions) -> str:
    experiments = {one.experiment_id: one.name for one in client.search_experiments()}
    if asked.experiment is not None:
        if asked.experiment not in experiments.values():
            raise unknown_name("experiment", asked.experiment, experiments.values())
        return asked.experiment
    newest = client.search_runs(list(experiments), order_by=["attributes.start_time DESC"], max_results=1)
    if not newest:
        raise UserError(
            f"there is no run in {without_password(asked.tracking_uri)}. Run a study first: python study/run.py"
        )
    return str(experiments[newest[0].info.experiment_id])


def _newest(trials: Trials) -> str:
    return str(trials.table.sort_values(["start", "run_id"])["run_id"].iloc[-1])


def _protocol(client: MlflowClient, trials: Trials) -> str:
    return str(client.get_run(_newest(trials)).data.tags[Tag.PROTOCOL])


def _search_options(client: MlflowClient, trials: Trials, asked: ConfirmOptions) -> StudyOptions:
    """The options of the newest study of the search, from its folder."""
    folder = Path(client.get_run(_newest(trials)).data.tags[Tag.FOLDER]).parents[1]
    options = StudyOptions(name=folder.name, storage_path=folder.parents[1], resume=True).resumed(folder)
    noise = {level_name(level): level for level in options.noise}
    # Other studies of the same protocol may have had other levels.
    more = [level for level in dict.fromkeys(trials.table["noise"]) if level not in noise]
    return replace(
        options, corpus_root=asked.corpus_root or options.corpus_root, noise=(*options.noise, *more), resume=False
    )


def _with_parameters(client: MlflowClient, trials: Trials) -> Trials:
    """The trials with all parameters of each, not the searched ones alone."""
    table = trials.table.copy()
    parameters = [dict(client.get_run(run_id).data.params) for run_id in table["run_id"]]
    table["all_parameters"] = pd.Series(parameters, index=table.index, dtype=object)
    return replace(trials, table=table)


def _read_plan(folder: Path, name: str) -> dict[str, Any]:
    try:
        plan: dict[str, Any] = json.loads((folder / CANDIDATES).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"there is no confirmation {name!r} in {str(folder.parent)!r} to resume.") from error
    return plan
