"""Runs one search: the trials of a space at a noise level, those left unfinished first."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.execution import class_cache

from ser.config import Config
from ser.utils.hashing import derived_seed
from study.backend.cluster import Slots
from study.options import StudyOptions
from study.schema import CONFIRM, FAILED, FINISHED, SEARCH, STOPPED, STUDY, Tag
from study.search.journal import Entry, Journal
from study.search.progress import SearchProgress
from study.search.searcher import StudyScheduler, StudySearch
from study.setup.prepare import Job, Preparation
from study.setup.pruners import grace_period, make_pruner
from study.tracking.store import dataset_of, environment_tags, open_parent
from study.tracking.upload import Courier, Messenger
from study.trial.event_log import Outbox
from study.trial.specification import TrialContext, trial_folder, trial_name
from study.trial.trainable import StudyTrial

# Tune's own state of a search; nothing is read back from it.
TUNE_FOLDER = ".tune"

# Tune would have a variable, of use to PyTorch Lightning, in the environment of trials' processes alone; no process
# that is there already could take a trial then (study/backend/local.py).
class_cache.DEFAULT_ENV_VARS.clear()

os.environ.update(
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",  # the records are ours
    TUNE_DISABLE_STRICT_METRIC_CHECKING="1",  # a failed trial has no score
    TUNE_GLOBAL_CHECKPOINT_S=str(24 * 3600),
)


@dataclass(frozen=True)
class Outcome:
    """How a search stands.

    Args:
        entries: Its trials.
        planned: Trials that were to run.
        suspended: Why trials were left unfinished, if the machine was at fault; else empty.
    """

    entries: tuple[Entry, ...]
    planned: int
    suspended: str = ""

    @property
    def failures(self) -> Mapping[str, str]:
        """Number of each trial that failed → the reason."""
        return {trial_name(entry.number): entry.failure for entry in self.entries if entry.status == FAILED}

    @property
    def interrupted(self) -> bool:
        """Whether trials are missing."""
        return sum(entry.status in (FINISHED, STOPPED, FAILED) for entry in self.entries) < self.planned


def open_journal(prepared: Preparation, job: Job) -> Journal:
    """The journal of one search of a study, created if it is not there."""
    options = prepared.options
    grace = grace_period(job.space, prepared.base, prepared.epochs)
    return Journal(
        prepared.folder / job.folder,
        job.space,
        prepared.selection,
        derived_seed(options.seed, job.space.name, job.level),
        options.sampler,
        make_pruner(options.scheduler, grace, prepared.epochs),
    )


def run_search(
    prepared: Preparation, job: Job, parent: str, slots: Slots, courier: Courier, deadline: float = math.inf
) -> Outcome:
    """Runs, or goes on with, the trials of one space at one noise level.

    Args:
        prepared: The study.
        job: The search.
        parent: Its parent run.
        slots: What a trial gets, and how many run at a time.
        courier: Brings the trials' records to MLflow.
        deadline: ``time.monotonic()`` at which trials end, at their next epoch.

    Returns:
        Its trials as the journal has them.
    """
    options = prepared.options
    journal = open_journal(prepared, job)
    search = StudySearch(journal, prepared.selection, job.trials(options), deadline)
    if search.left and not search.out_of_time:
        if not needs_gpu(job, prepared.base):
            slots = replace(slots, gpus=0.0)
        context = trial_context(prepared, job, parent, slots)
        earlier = journal.entries()
        progress = SearchProgress(job.title, earlier, job.trials(options), prepared.epochs, prepared.selection)
        callbacks = [progress, Messenger(courier, context.folder)]
        run_trials(search, tune.with_parameters(StudyTrial, context=context), slots, context.folder, callbacks)
    close_records(prepared.folder / job.folder, journal)
    return Outcome(tuple(journal.entries()), job.trials(options), search.suspended)


def needs_gpu(job: Job, base: Mapping[str, Any]) -> bool:
    """Whether some trial of a search trains a network; classical models have no use for a GPU."""
    planned = [Config.from_dotted(one.configuration) for one in job.planned]
    return not all(config.model.is_classical for config in planned or job.space.configurations(base))


def run_trials(
    search: StudySearch,
    trainable: type[tune.Trainable],
    slots: Slots,
    folder: Path,
    callbacks: Sequence[tune.Callback] = (),
) -> None:
    """Runs all trials that a search hands out.

    Args:
        search: The search.
        trainable: What a trial is.
        slots: What a trial gets, and how many run at a time.
        folder: The search's folder.
        callbacks: Tune's.
    """
    state = folder / TUNE_FOLDER
    shutil.rmtree(state, ignore_errors=True)
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": slots.cpus, "gpu": slots.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=StudyScheduler(search),
            num_samples=search.left,
            # Ray lets as many trials wait as run; more than the slots would be drawn without seeing a result.
            max_concurrent_trials=slots.count,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=TUNE_FOLDER,
            storage_path=str(folder),
            # A lost node is not the trial's fault; a trial that kills its processes ends itself.
            failure_config=tune.FailureConfig(max_failures=-1),
            callbacks=list(callbacks),
            verbose=0,
        ),
    ).fit()
    shutil.rmtree(state, ignore_errors=True)


def close_records(folder: Path, journal: Journal) -> None:
    """Puts on record how a trial of the search in ``folder`` ended whose own process could not."""
    for entry in journal.entries():
        if entry.status in (STOPPED, FAILED):
            outbox = Outbox(trial_folder(folder, entry.number))
            if outbox.lines():
                outbox.end(entry.status, entry.failure or None)


def open_search(prepared: Preparation, job: Job) -> str:
    """The parent run of a search: found, or created with dataset and manifest."""
    manifest = job.task.manifest
    parent = open_parent(
        prepared.client,
        prepared.experiment,
        job.title,
        search_key(prepared.options, job),
        search_tags(prepared, job),
        dataset_of(prepared.corpus, job.level, manifest),
        manifest,
    )
    space = {"name": job.space.name, "source": job.space.source, "ranges": job.space.ranges()}
    prepared.client.log_dict(parent, {"options": prepared.options.to_json(), "space": space}, STUDY)
    return parent


def search_key(options: StudyOptions, job: Job) -> dict[str, str]:
    """The tags that identify a search's runs."""
    return {Tag.STUDY: str(options.name), Tag.SPACE: job.space.name, Tag.NOISE: job.level}


def trial_context(prepared: Preparation, job: Job, parent: str, slots: Slots) -> TrialContext:
    """What the trials of a search share."""
    options = prepared.options
    return TrialContext(
        task=job.task,
        base=prepared.base,
        seed=options.seed,
        threads=max(1, int(slots.cpus)),
        device="cuda" if slots.gpus else "cpu",
        objective=prepared.selection.metric,
        experiment=prepared.experiment,
        parent=parent,
        name=job.title,
        key=search_key(options, job),
        tags={**search_tags(prepared, job), Tag.STAGE: CONFIRM if job.planned else SEARCH},
        dataset=dataset_of(prepared.corpus, job.level, job.task.manifest).to_dictionary(),
        folder=prepared.folder / job.folder,
        session=prepared.session,
        planned=job.planned,
    )


def search_tags(prepared: Preparation, job: Job) -> dict[str, str]:
    """The tags that all runs of a search have."""
    options, manifest = prepared.options, job.task.manifest
    return {
        # The training part's own: parts are corrupted separately, each to the nearest utterance.
        Tag.NOISE_RATE: str(manifest["parts"]["train"]["rate"]),
        Tag.NOISE_RECIPE: str(manifest["recipe"]),
        Tag.NOISE_DIGEST: manifest["digest"],
        Tag.CORPUS: prepared.corpus.name,
        Tag.CORPUS_DIGEST: prepared.corpus.digest,
        Tag.EXCLUDED: str(len(prepared.corpus.excluded)),
        Tag.SEED: str(options.seed),
        Tag.FOLD: str(prepared.split.number),
        Tag.SPLIT: f"by {prepared.split.unit}, {options.validation} validation",
        Tag.PROTOCOL: prepared.protocol,
        Tag.SELECT_ON: options.select_on,
        Tag.SEARCHED: ",".join(job.searched),
        Tag.PLANNED_TRIALS: str(job.trials(options)),
        **environment_tags(),
    }
