"""Runs one search: a Ray Tune Tuner for a space at a noise level."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial

from ser.errors import UserError
from ser.hashing import derived_seed
from ser.parallel import cores
from study.options import StudyOptions
from study.preparation import Job, Preparation, trial_resources
from study.progress import KeepLastCheckpoint, SearchProgress
from study.records import SEARCH, Tag
from study.searcher import TRIAL_KEY, StudySearch, trial_name
from study.tracking import (
    ANSWER_SECONDS,
    ROOT,
    dataset_of,
    environment_tags,
    first_line,
    mark_failed,
    open_parent,
    without_password,
)
from study.trainable import DONE, TrialContext, train_trial

MAX_RETRIES = 2
CHECKPOINTS_KEPT = 2
ROUNDING = 1e-9

# glibc gives freed memory back to the system after every step, and takes it again; at width 1, keeping it is worth a
# quarter of a step's time (docs/performance.md). It must be set before the worker starts.
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(32 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Args:
        finished: Trials that trained to their last epoch.
        failures: Number of each trial that failed for good → the reason.
        planned: Trials that were to run.
    """

    finished: int
    failures: Mapping[str, str]
    planned: int

    @property
    def interrupted(self) -> bool:
        """Whether trials are missing."""
        return self.finished + len(self.failures) < self.planned


@dataclass(frozen=True)
class Slots:
    """What the cluster gives to trials.

    Args:
        cpus: CPUs of a trial.
        gpus: GPUs of a trial.
        count: Trials at a time.
    """

    cpus: float
    gpus: float
    count: int


def start_ray(prepared: Preparation) -> Slots:
    """Starts a local Ray, or joins the cluster at ``--address``.

    Raises:
        UserError: No cluster answers, it has no room for a trial, or SQLite is asked to serve several machines.
    """
    options = prepared.options
    # What Ray will do of itself, and warns of until then: a trial's device is chosen here, not by hiding GPUs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"PYTHONPATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", **ALLOCATOR}
    common: dict[str, Any] = {
        "runtime_env": {"env_vars": environment},
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    if options.address is None:
        ray.init(address="local", num_cpus=cores(), include_dashboard=False, **common)
    else:
        _check_address(options.address)
        try:
            ray.init(address=options.address, **common)
        except Exception as error:
            raise _no_cluster(options.address, error) from error
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if len(nodes) > 1 and options.tracking_uri.startswith("sqlite:"):
        raise UserError(
            f"the cluster has {len(nodes)} nodes, and they cannot share the SQLite store "
            f"{without_password(options.tracking_uri)}. Start a server that all of them reach (mlflow server "
            "--host 0.0.0.0 --port 5000 --backend-store-uri postgresql://…) and pass --tracking-uri http://HOST:5000."
        )
    slots = slots_of(nodes, options)
    if slots.count < 1:
        have = ", ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
        raise UserError(
            f"a trial asks for {slots.cpus:g} CPU(s) and {slots.gpus:g} GPU(s), and no node has them; there are "
            f"{have}. Lower --cpus-per-trial or --gpus-per-trial."
        )
    return slots


def _check_address(address: str) -> None:
    """Ray would try for minutes to reach a port where nothing listens."""
    host_and_port = re.fullmatch(r"(?:ray://)?([^/:]+):(\d{1,5})", address)
    if host_and_port is None:
        return
    try:
        socket.create_connection((host_and_port[1], int(host_and_port[2])), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> UserError:
    return UserError(
        f"no Ray cluster answers at --address {address!r} ({first_line(error)}). Start one with 'ray start --head', or "
        "leave the option out. If it is there and asks for a token, export RAY_AUTH_MODE=token here and on every node."
    )


def slots_of(nodes: Sequence[Mapping[str, float]], options: StudyOptions) -> Slots:
    """What a trial gets, and how many fit; a trial lives on one node, and a share of a GPU on one GPU.

    Args:
        nodes: Ray's resources of each node.
        options: The study's options.
    """
    # The head of a cluster often has no CPU to give.
    smallest = min((node["CPU"] for node in nodes if node.get("CPU")), default=1.0)
    cpus, gpus = trial_resources(options, smallest, sum(node.get("GPU", 0.0) for node in nodes))
    count = 0
    for node in nodes:
        room = [node.get("CPU", 0.0) / cpus]
        if gpus:
            room.append(node.get("GPU", 0.0) * int(1 / gpus + ROUNDING))
        count += int(min(room) + ROUNDING)
    return Slots(cpus, gpus, min(count, options.max_concurrent or count))


def run_search(prepared: Preparation, job: Job, slots: Slots) -> Outcome:
    """Runs, or goes on with, the trials of one space at one noise level.

    Args:
        prepared: The study.
        job: The search.
        slots: What a trial gets, and how many run at a time.

    Returns:
        The counts of trials that ended.
    """
    options = prepared.options
    context = _context(prepared, job, slots)
    trainable = tune.with_resources(
        tune.with_parameters(train_trial, context=context),
        {"cpu": slots.cpus, "gpu": slots.gpus},
    )
    path = prepared.folder / job.folder
    # Tune takes a folder without a saved state for restorable, and then silently starts anew.
    if options.resume and tune.Tuner.can_restore(str(path)) and any(path.glob("experiment_state-*.json")):
        tuner = tune.Tuner.restore(str(path), trainable=trainable, resume_unfinished=True, resume_errored=True)
    else:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=StudySearch(
                    job.space,
                    prepared.selection,
                    derived_seed(options.seed, job.space.name, job.level) % 2**32,
                ),
                num_samples=options.planned_trials,
                # Ray lets as many trials wait as run; more than the slots would be drawn without seeing a result.
                max_concurrent_trials=slots.count,
                reuse_actors=True,
                trial_dirname_creator=trial_folder,
            ),
            run_config=tune.RunConfig(
                name=job.folder,
                storage_path=str(prepared.folder),
                failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=CHECKPOINTS_KEPT),
                callbacks=[
                    SearchProgress(job.title, options.planned_trials, prepared.epochs, prepared.selection),
                    KeepLastCheckpoint(),
                ],
                verbose=0,
            ),
        )
    results = tuner.fit()
    failures: dict[str, str] = {}
    for result in results:
        if result.error is not None:
            number = trial_name((result.config or {})[TRIAL_KEY])
            failures[number] = _reason(result.error)
            mark_failed(prepared.client, prepared.experiment, {**context.key, Tag.TRIAL: number}, failures[number])
    finished = sum(result.error is None and bool((result.metrics or {}).get(DONE)) for result in results)
    outcome = Outcome(finished, failures, options.planned_trials)
    if not outcome.interrupted:
        prepared.client.set_terminated(context.parent, "FINISHED")
    return outcome


def _reason(error: Exception) -> str:
    """The last line of a trial's traceback; the names of the project's own errors say nothing more."""
    return re.sub(r"^ser\.[\w.]+: ", "", without_password(str(error).strip().splitlines()[-1]))


def trial_folder(trial: Trial) -> str:
    """A trial's folder: its number, and Tune's id."""
    return f"trial_{trial_name(trial.config[TRIAL_KEY])}_{trial.trial_id}"


def _context(prepared: Preparation, job: Job, slots: Slots) -> TrialContext:
    options, manifest = prepared.options, job.task.manifest
    key = {Tag.STUDY: str(options.name), Tag.SPACE: job.space.name, Tag.NOISE: job.level}
    tags = _tags(prepared, job, manifest)
    dataset = dataset_of(prepared.corpus, job.level, manifest)
    parent = open_parent(prepared.client, prepared.experiment, job.title, key, tags, dataset, manifest)
    return TrialContext(
        task=job.task,
        base=prepared.base,
        seed=options.seed,
        threads=max(1, int(slots.cpus)),
        device="cuda" if slots.gpus else "cpu",
        objective=prepared.selection.metric,
        tracking_uri=options.tracking_uri,
        experiment=prepared.experiment,
        parent=parent,
        name=job.title,
        key=key,
        tags={**tags, Tag.STAGE: SEARCH},
        dataset=dataset,
    )


def _tags(prepared: Preparation, job: Job, manifest: Mapping[str, Any]) -> dict[str, str]:
    options = prepared.options
    return {
        # The training part's own: parts are corrupted separately, each to the nearest utterance.
        Tag.NOISE_RATE: str(manifest["parts"]["train"]["rate"]),
        Tag.NOISE_RECIPE: str(manifest["recipe"]),
        Tag.NOISE_DIGEST: manifest["digest"],
        Tag.CORPUS: prepared.corpus.name,
        Tag.CORPUS_DIGEST: prepared.corpus.digest,
        Tag.EXCLUDED: str(len(prepared.corpus.excluded)),
        Tag.SEED: str(options.seed),
        Tag.FOLD: str(prepared.split.fold),
        Tag.SPLIT: f"by {prepared.split.unit}, {options.validation} validation",
        Tag.PROTOCOL: prepared.protocol,
        Tag.SELECT_ON: options.select_on,
        Tag.SEARCHED: ",".join(job.searched),
        Tag.PLANNED_TRIALS: str(options.planned_trials),
        **environment_tags(),
    }
