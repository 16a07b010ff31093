"""Run one search: the trials of a space at a noise level, unfinished ones first."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ray import tune

from ser.labels import CONSENSUS
from ser.metrics.absent_classes import over_classes
from ser.models.initial_weights import weights_digest
from ser.utils.hashing import derived_seed, digest
from study.backend.trial_resources import TrialResources
from study.environment import environment
from study.options import StudyOptions
from study.schema import DESIGN, FAILED, FINISHED, SEARCH_RECORD, STOPPED, Tag, rate_tag, run_name
from study.search.attempts import Attempts
from study.search.gpu_demand import needs_gpu
from study.search.journal import Entry, Journal
from study.search.kept_networks import KeptNetworks
from study.search.progress import SearchProgress, WholeStudy
from study.search.searcher import EndOfSearch, StudyScheduler, StudySearch
from study.search.trial_logs import TrialLogs, read_logs
from study.setup.design import Design
from study.setup.prepared_study import PreparedStudy, Search
from study.setup.pruners import grace_period, make_pruner
from study.tracking.provenance import environment_tags
from study.tracking.store import dataset_of, open_parent
from study.tracking.upload import Courier, SearchRuns, stored
from study.trial.specification import TrialContext, trial_name
from study.trial.trainable import StudyTrial

TUNE_FOLDER = ".tune"
"""Folder of Tune's own state of a search; nothing is read back from it."""

TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the study writes its own records
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial has no score
    "TUNE_GLOBAL_CHECKPOINT_S": str(24 * 3600),
}


@dataclass(frozen=True)
class Outcome:
    """State of a search.

    Args:
        entries: Its trials.
        planned: Number of planned trials.
        suspended: Why trials were left unfinished, if the machine was at fault; otherwise empty.
        unended: Trials that have not ended, those among them that failed in an earlier session and are tried again; or
            finished ones whose networks were lost and not trained again in vain.
    """

    entries: tuple[Entry, ...]
    planned: int
    suspended: str = ""
    unended: int = 0

    @property
    def failures(self) -> Mapping[str, str]:
        """Return the reason of each trial that failed, by its number."""
        return {trial_name(entry.number): entry.failure for entry in self.entries if entry.status == FAILED}

    @property
    def repeats(self) -> int:
        """Return the number of trials that repeat an earlier one: same configuration, same seed."""
        return len(self.entries) - len({digest(dict(entry.configuration)) for entry in self.entries})

    @property
    def interrupted(self) -> bool:
        """Return whether trials are missing, or to be tried again."""
        ended = sum(entry.status in (FINISHED, STOPPED, FAILED) for entry in self.entries)
        return ended < self.planned or self.unended > 0


def open_journal(prepared: PreparedStudy, search: Search) -> Journal:
    """Open the journal of one search of a study; create it if it does not exist."""
    options = prepared.options
    grace = grace_period(search.space, options.defaults, prepared.epochs)
    return Journal(
        prepared.folder / search.folder,
        search.space,
        prepared.selection,
        derived_seed(options.seed, search.space.name, search.level),
        options.sampler,
        make_pruner(options.scheduler, grace, prepared.epochs),
    )


def run_search(
    prepared: PreparedStudy,
    search: Search,
    journal: Journal,
    logs: TrialLogs,
    resources: TrialResources,
    deadline: float = math.inf,
    left_out: set[str] | None = None,
    whole: WholeStudy | None = None,
) -> Outcome:
    """Run, or resume, the trials of one space at one noise level.

    Args:
        prepared: The study.
        search: The search.
        journal: Its journal.
        logs: Event logs of its trials.
        resources: What a trial gets, and how many run at a time.
        deadline: ``time.monotonic()`` at which trials end, at their next epoch.
        left_out: Devices that earlier searches of the session have left out; this one adds to them.
        whole: Progress of all searches of the session.

    Returns:
        Its trials as the journal has them.
    """
    planned = search.trials(prepared.options)
    tasks = [one.task for one in search.planned] or [search.task] * planned
    metric, classes = prepared.selection.metric, len(search.task.classes)
    over = {number: over_classes(task.absent, classes, metric) for number, task in enumerate(tasks, start=1)}
    place = prepared.searches.index(search)
    folder = prepared.folder / search.folder
    networks = KeptNetworks(folder, journal, prepared.selection, prepared.options.keep or "all")
    resources = _needed(prepared, search, resources)
    attempts = Attempts(set() if left_out is None else left_out, sharing=0 < resources.gpus < 1)
    notes = [networks.missing(), networks.remove_unkept()]
    for _ in range(2):  # the second time for networks that were lost with the processes that wrote them
        progress = SearchProgress(
            search.title, journal.entries(), planned, prepared.epochs, prepared.selection, over, whole, place
        )
        for note in filter(None, notes):
            progress.tell(note)
        searcher = StudySearch(
            journal, logs, prepared.selection, planned, resources.count, deadline, attempts, progress.tell, networks
        )
        if not searcher.left or searcher.out_of_time:
            break
        trainable = tune.with_parameters(StudyTrial, context=trial_context(prepared, search, resources))
        run_trials(searcher, trainable, resources, folder, [progress])
        networks.remove_unkept()
        if searcher.unended or searcher.suspended or not (lost := networks.lost()):
            break
        numbers = ", ".join(str(entry.number) for entry in lost)
        notes = [f"trial {numbers}: the process died while it wrote the network, which is trained again"]
    # One that cannot be trained again does not keep other searches waiting; it is tried when the study is resumed.
    unended = searcher.unended or sum(one.number not in searcher.without_network for one in networks.lost())
    return Outcome(tuple(journal.entries()), planned, searcher.suspended, unended)


def open_logs(
    prepared: PreparedStudy, search: Search, parent: str, resources: TrialResources, courier: Courier
) -> TrialLogs:
    """Open the event logs of a search's trials.

    Args:
        prepared: The study.
        search: The search.
        parent: Its parent run.
        resources: What a trial gets.
        courier: Delivers them.
    """
    context = trial_context(prepared, search, _needed(prepared, search, resources))
    tags = {**search_tags(prepared, search), Tag.STAGE: prepared.stage}
    dataset = dataset_of(prepared.data.corpus, search.level, search.task.manifest).to_dictionary()
    return TrialLogs(context, tags, dataset, search_runs(prepared, search, parent), courier)


def replace_parent(prepared: PreparedStudy, search: Search) -> str:
    """Create the parent run of a search again that somebody has deleted, give it its trials, and return its id."""
    runs = search_runs(prepared, search, open_search(prepared, search))
    folder = prepared.folder / search.folder
    stored(prepared.records.client, runs, read_logs(folder))
    return runs.parent


def search_runs(prepared: PreparedStudy, search: Search, parent: str) -> SearchRuns:
    """Return where the runs of a search's trials belong."""
    return SearchRuns(prepared.records.experiment, parent, search_key(prepared.options, search))


def _needed(prepared: PreparedStudy, search: Search, resources: TrialResources) -> TrialResources:
    """Return what the trials of a search need of what a trial can have."""
    return resources if needs_gpu(search, prepared.options) else replace(resources, gpus=0.0)


def run_trials(
    searcher: StudySearch,
    trainable: type[tune.Trainable],
    resources: TrialResources,
    folder: Path,
    callbacks: Sequence[tune.Callback] = (),
) -> None:
    """Run all trials that a searcher hands out.

    Args:
        searcher: The searcher.
        trainable: What a trial is.
        resources: What a trial gets, and how many run at a time.
        folder: The search's folder.
        callbacks: Callbacks of Tune.
    """
    state = folder / TUNE_FOLDER
    shutil.rmtree(state, ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=StudyScheduler(searcher),
            num_samples=-1,  # the searcher says when the search ends
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=TUNE_FOLDER,
            storage_path=str(folder),
            # The searcher suggests a trial again whose process has died; Tune alone would try on the same device.
            failure_config=tune.FailureConfig(max_failures=0),
            stop=EndOfSearch(searcher),
            callbacks=list(callbacks),
            verbose=0,
        ),
    )
    with environment({**TUNE_SETTINGS, "TUNE_MAX_PENDING_TRIALS_PG": str(resources.count)}):
        tuner.fit()
    shutil.rmtree(state, ignore_errors=True)


def open_search(prepared: PreparedStudy, search: Search) -> str:
    """Find the parent run of a search, or create it with dataset and manifest; return its id."""
    client, experiment = prepared.records.client, prepared.records.experiment
    manifest = search.task.manifest
    parent = open_parent(
        client,
        experiment,
        run_name(search.space.name, search.level, str(prepared.options.name)),
        search_key(prepared.options, search),
        search_tags(prepared, search),
        dataset_of(prepared.data.corpus, search.level, manifest),
        manifest,
    )
    space = {
        "name": search.space.name,
        "path": search.space.path,
        "source": search.space.source,
        "ranges": search.space.ranges(),
        **search.space.record,
    }
    client.log_dict(parent, {"options": prepared.options.to_json(), "space": space}, SEARCH_RECORD)
    if prepared.design is not None:
        client.log_dict(parent, prepared.design.to_json(), DESIGN)
    return parent


def search_key(options: StudyOptions, search: Search) -> dict[str, str]:
    """Return the tags that identify the runs of a search."""
    return {Tag.STUDY: str(options.name), Tag.SPACE: search.space.name, Tag.NOISE: search.level}


def trial_context(prepared: PreparedStudy, search: Search, resources: TrialResources) -> TrialContext:
    """Return what the trials of a search share."""
    options = prepared.options
    return TrialContext(
        task=search.task,
        defaults=options.defaults,
        seed=options.seed,
        threads=max(1, int(resources.cpus)),
        device="cuda" if resources.gpus else "cpu",
        objective=prepared.selection.metric,
        folder=prepared.folder / search.folder,
        planned=search.planned,
        import_folder=str(Path.cwd()),
        gpus=resources.gpus,
        keep=options.keep or "all",
        mode=prepared.selection.mode,
    )


def search_tags(prepared: PreparedStudy, search: Search) -> dict[str, str]:
    """Return the tags that all runs of a search have."""
    options, manifest, corpus, fold = prepared.options, search.task.manifest, prepared.data.corpus, prepared.data.fold
    kind = search.space.labels
    return {
        # The rate of the training subset: subsets are corrupted separately, each to the nearest utterance. The errors
        # of the annotators are no noise of the level, which is the same for all labels.
        Tag.NOISE_RATE: rate_tag(manifest["parts"]["train"]["rate"] if kind == CONSENSUS else 0.0),
        Tag.NOISE_RECIPE: str(manifest["recipe"]),
        Tag.NOISE_DIGEST: manifest["digest"],
        Tag.LABELS: kind,
        Tag.CORPUS: corpus.name,
        Tag.CORPUS_DIGEST: corpus.digest,
        Tag.EXCLUDED: str(len(corpus.excluded)),
        Tag.SEED: str(options.seed),
        Tag.FOLD: str(fold.number),
        Tag.SPLIT: f"by {fold.unit}, {options.validation} validation",
        Tag.PROTOCOL: prepared.protocol,
        Tag.SELECT_ON: options.select_on,
        Tag.SEARCHED: ",".join(search.searched),
        Tag.SPACE_DIGEST: search.space.digest,
        Tag.PLANNED_TRIALS: str(search.trials(options)),
        **({} if prepared.design is None else _design_tags(prepared.design)),
        **_weights_tags(options),
        **environment_tags(*(["transformers"] if options.shared.model.is_encoder else [])),
    }


def _weights_tags(options: StudyOptions) -> dict[str, str]:
    file = options.shared.model.pretrained
    if not file:
        return {}
    return {Tag.WEIGHTS: options.pretrained or file, Tag.WEIGHTS_DIGEST: weights_digest(Path(file))}


def _design_tags(design: Design) -> dict[str, str]:
    others = ", ".join(one.name for one in design.test_corpora)
    return {Tag.DESIGN: design.digest, **({Tag.TEST_CORPORA: others} if others else {})}
