"""One trial: trains a configuration and records every epoch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mlflow.entities import Dataset
from mlflow.exceptions import MlflowException
from ray import tune

from ser.classical import train_classical
from ser.config import Config
from ser.errors import UserError
from ser.feature_store import FeatureStore
from ser.task import Task
from ser.training import DivergedError, EpochRecord, State, load_state, save_state, train
from study.records import FAILED, FINISHED, Tag
from study.searcher import TRIAL_KEY, trial_name
from study.tracking import TrialRun, first_line

CHECKPOINT_FILE = "state.pt"

# What a trial tells Tune, besides its objective.
EPOCH, DONE = "epoch", "finished"


@dataclass(frozen=True)
class TrialContext:
    """What all trials of one (space, noise level) share.

    Args:
        task: Train and validation data.
        base: Dotted names that every trial has unless its space says otherwise.
        seed: Training seed.
        threads: Torch threads of a trial.
        device: ``"cuda"`` where a trial has a GPU or a share of one, else ``"cpu"``.
        objective: Metric that the search maximises or minimises.
        tracking_uri: Where the records go.
        experiment: MLflow experiment id.
        parent: The parent run's id.
        name: The trials' name, less their number.
        key: Tags that, with the number, identify a trial.
        tags: All other tags.
        dataset: What is trained on, for MLflow.
    """

    task: Task
    base: Mapping[str, Any]
    seed: int
    threads: int
    device: str
    objective: str
    tracking_uri: str
    experiment: str
    parent: str
    name: str
    key: Mapping[str, str]
    tags: Mapping[str, str]
    dataset: Dataset


def train_trial(configuration: dict[str, Any], *, context: TrialContext) -> None:
    """The function that Ray Tune runs.

    Args:
        configuration: Dotted names from the searcher, and the trial's number.
        context: What all trials share.

    Raises:
        DivergedError: The loss is not finite; the run is marked as failed with the reason.
        UserError: The GPU's memory ran out; likewise.
    """
    values = dict(configuration)
    number = trial_name(values.pop(TRIAL_KEY))
    config = Config.from_dotted({**context.base, **values})
    torch.set_num_threads(context.threads)
    try:
        _run(config, number, context)
    except MlflowException as error:
        # Its own text holds the tracking URI, password and all, and Tune writes errors to files.
        raise RuntimeError(f"MLflow: {first_line(error)}") from None


def _run(config: Config, number: str, context: TrialContext) -> None:
    run = TrialRun.open(
        context.tracking_uri,
        context.experiment,
        context.parent,
        f"{context.name} {number}",
        {**context.key, Tag.TRIAL: number},
        context.tags,
        config.to_dotted(),
        context.dataset,
    )
    if run.failure is not None:
        # Tune retries every error, for the machine may have been at fault; this one would only come again.
        run.close(FAILED)
        raise DivergedError(run.failure)
    checkpoint = tune.get_checkpoint()
    state = load_state(Path(checkpoint.path) / CHECKPOINT_FILE) if checkpoint else None
    if state is not None and state["epoch"] >= config.training.epochs:
        # It was killed between its last report and Tune's note of it.
        run.close(FINISHED)
        last = {context.objective: run.last(context.objective), EPOCH: state["epoch"], DONE: True}
        tune.report(last, checkpoint=checkpoint)
        return
    try:
        for record in _records(config, state, context):
            run.log_epoch(record.epoch, record.metrics)
            if record.finished:
                run.close(FINISHED)
            with tempfile.TemporaryDirectory() as folder:
                save_state(_kept(record), Path(folder) / CHECKPOINT_FILE)
                tune.report(
                    {
                        context.objective: record.metrics[context.objective],
                        EPOCH: record.epoch,
                        DONE: record.finished,
                    },
                    checkpoint=tune.Checkpoint.from_directory(folder),
                )
    except (DivergedError, UserError) as error:
        run.close(FAILED, str(error), final=True)
        raise


def _records(config: Config, state: State | None, context: TrialContext) -> Iterator[EpochRecord]:
    """A network's epochs, or the one record of a classical model, whose fit stands for all planned epochs."""
    if not config.model.is_classical:
        yield from train(config, context.task, seed=context.seed, state=state, device=context.device)
        return
    features = FeatureStore.open(context.task.store).frames
    metrics = train_classical(config.model, features, context.task, context.seed)
    epochs = config.training.epochs
    yield EpochRecord(epochs, 1, metrics, True, {"epoch": epochs})


def _kept(record: EpochRecord) -> State:
    """The state to save: the last epoch's needs no optimizer, which is two thirds of its size."""
    return {key: value for key, value in record.state.items() if not (record.finished and key == "optimizer")}
