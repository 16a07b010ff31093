"""One trial: trains a configuration epoch by epoch, reports to Tune, and saves everything that a restart needs.

A trial's process writes checkpoints and tables of its last epoch, nothing else. What it measures goes to the study's
process with Tune's results; the checkpoint holds it too, because a result can be lost with the process that waits for
it.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import sys
import time
import traceback
from collections.abc import Generator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from ray import tune

from ser.config import Config
from ser.features.store import FeatureStore
from ser.training.classical import train_classical
from ser.training.device.gpu_memory import is_out_of_memory, limit_memory, out_of_memory, release_memory
from ser.training.loop import DivergedError, EpochRecord, train
from ser.training.state import State
from ser.utils.durable_files import sync_folder
from ser.utils.errors import UserError
from study.schema import ACROSS_CORPORA, SECONDS, UTTERANCES
from study.trial.checkpoints import load_newest, save_checkpoint
from study.trial.hardware import hardware_tags, system_metrics
from study.trial.specification import (
    ATTEMPT_KEY,
    DEVICE,
    DONE,
    EPOCH,
    EVENTS,
    FAILURE,
    FAILURE_FINAL,
    SUSPENDED,
    TRIAL_KEY,
    TrialContext,
    TrialSpecification,
    artifact_event,
    epoch_event,
    tags_event,
    trial_folder,
)

REPORTED = "events"
"""Key of a checkpoint's state: what the trial has reported so far."""

# Assumed mean time between two kills of a process, in seconds. Saving and repeated training together cost least if a
# state is saved every sqrt(2 · seconds of saving · this) seconds (Young, A first order approximation to the optimum
# checkpoint interval, Communications of the ACM 17, 1974).
BETWEEN_KILLS = 4 * 3600.0


class Attempt:
    """Attempt of one process at a trial, from its newest checkpoint on.

    Args:
        configuration: Suggested parameters by dotted name, and the numbers of the trial and of the attempt.
        context: What all trials of the search share.
    """

    def __init__(self, configuration: Mapping[str, Any], context: TrialContext) -> None:
        values = dict(configuration)
        self.number, self._attempt = int(values.pop(TRIAL_KEY)), int(values.pop(ATTEMPT_KEY))
        self._context = context
        self._trial = context.trial(self.number, values)
        self._folder = trial_folder(context.folder, self.number)
        self._placed = False
        self._epoch = 0
        self._saved_at, self._saving_took = time.monotonic(), 0.0
        self._unsaved: EpochRecord | None = None
        self._reported: list[dict[str, Any]] = []
        self._training: Generator[EpochRecord] | None = None

    def step(self) -> dict[str, Any]:
        """Say where the trial runs, the first time; then train one epoch.

        Returns:
            Result for Tune: the device; or the objective, the epoch and the events to record; ``finished`` after the
            last epoch; or, with ``done``, the reason of a ``failure``, or ``suspended`` where the machine and not the
            trial is at fault.

        Raises:
            Exception: An unexpected error, such as one of the GPU, after which another process may try again.
        """
        if not self._placed:
            self._placed = True
            return {DEVICE: _device(self._context.device), EPOCH: 0, DONE: False, "done": False}
        try:
            return self._step()
        except (DivergedError, UserError) as error:
            # A diverged training diverges again everywhere; other errors may be those of this machine.
            final = isinstance(error, DivergedError)
            failed = {EPOCH: self._epoch, FAILURE: str(error), FAILURE_FINAL: final, "done": True}
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return {EPOCH: self._epoch, SUSPENDED: f"{error.strerror} ({self._folder})", "done": True}
        self.close()  # only now: the error refers to everything that the training had in memory
        return failed

    def close(self, *, stopped: bool = False) -> None:
        """End the attempt; another process may continue the trial.

        Args:
            stopped: Whether to save what has been trained since the last checkpoint.
        """
        if stopped and self._training is not None and self._unsaved is not None:
            with suppress(OSError):  # the disk may be full; then an earlier state remains
                self._write(self._unsaved)
        if self._training is not None:
            self._training.close()
        self._training = self._unsaved = None
        if self._context.device == "cuda":
            release_memory()

    def _step(self) -> dict[str, Any]:
        began, before = time.monotonic(), len(self._reported)
        events: list[dict[str, Any]] = []
        if self._training is None:
            if (ended := self._begin()) is not None:
                return ended
            # What an earlier process has reported goes again with the first epoch: it may have been lost.
            before, began = 0, time.monotonic()
            events.append(tags_event(hardware_tags(self._context.device, self._context.threads)))
            system_metrics(self._context.device)  # the CPU's use is since the last call
        assert self._training is not None
        self._unsaved = None  # its tensors are about to change
        record = next(self._training)
        self._epoch = record.epoch
        seconds, busy = time.monotonic() - began, system_metrics(self._context.device)
        metrics = {**record.metrics, SECONDS: seconds, **busy}
        self._reported.append(epoch_event(record.epoch, metrics))
        for name, table in ((UTTERANCES, record.utterances), (ACROSS_CORPORA, record.others)):
            if table is not None:
                content = table.to_parquet(index=False)
                _write_file(self._folder / name, content)
                self._reported.append(artifact_event(name, content))
        self._save(record)
        if record.finished:
            self.close()
        return {
            self._context.objective: metrics[self._context.objective],
            EPOCH: record.epoch,
            EVENTS: events + self._reported[before:],
            DONE: record.finished,
            "done": record.finished,
        }

    def _begin(self) -> dict[str, Any] | None:
        """Open the newest state of the trial; return the result if the trial has ended already."""
        context = self._context
        if not context.folder.is_dir():
            reason = (
                f"node {socket.gethostname()} does not see {str(context.folder)!r}. Mount --storage-path under the "
                "same path on every node"
            )
            return {EPOCH: 0, SUSPENDED: reason, "done": True}
        self._folder.mkdir(exist_ok=True)
        config = Config.from_dotted(self._trial.configuration)
        torch.set_num_threads(context.threads)
        if context.device == "cuda":
            _limit_memory(config, context.gpus)
        state, _ = load_newest(self._folder)
        self._reported = [] if state is None else list(state.pop(REPORTED, []))
        self._epoch = state["epoch"] if state is not None else 0
        if self._epoch >= config.training.epochs:
            metrics: Mapping[str, Any] = next(
                (event["metrics"] for event in reversed(self._reported) if event["kind"] == EPOCH), {}
            )
            return {**metrics, EPOCH: self._epoch, EVENTS: self._reported, DONE: True, "done": True}
        self._training = _train_epochs(config, state, self._trial, context.device)
        return None

    def _save(self, record: EpochRecord) -> None:
        """Save the state after an epoch if that is due; after the last epoch it always is."""
        began = time.monotonic()
        self._unsaved = record
        if not record.finished and began - self._saved_at < math.sqrt(2 * self._saving_took * BETWEEN_KILLS):
            return
        self._write(record)
        self._unsaved = None
        self._saved_at = time.monotonic()
        self._saving_took = self._saved_at - began

    def _write(self, record: EpochRecord) -> None:
        """Write a checkpoint; after the last epoch without the optimizer, two thirds of its size."""
        state = {key: value for key, value in record.state.items() if not (record.finished and key == "optimizer")}
        save_checkpoint({**state, REPORTED: self._reported}, self._folder, self._attempt, 1 if record.finished else 2)


class StudyTrial(tune.Trainable):  # type: ignore[misc]
    """Trainable of Ray Tune, which attempts one trial after another in the same actor."""

    def setup(self, config: dict[str, Any], context: TrialContext | None = None) -> None:
        """Take the first trial.

        Args:
            config: Suggested parameters by dotted name, and the numbers of the trial and of the attempt.
            context: What all trials of the search share.
        """
        assert context is not None
        if context.import_folder and context.import_folder not in sys.path:
            sys.path.append(context.import_folder)  # last, so that it hides no package
        self._context = context
        self._attempt = Attempt(config, context)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial; all state of the previous one belonged to its attempt."""
        self.cleanup()
        self._attempt = Attempt(new_config, self._context)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch."""
        try:
            return self._attempt.step()
        except Exception as error:
            # The trial continues in another process; threads and memory of this one must not be in its way.
            traceback.clear_frames(error.__traceback__)
            self._attempt.close()
            raise

    def cleanup(self) -> None:
        """End the attempt; one that has not ended by itself was stopped early."""
        self._attempt.close(stopped=True)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: a trial saves and finds its own checkpoints."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Do nothing: a trial loads its own checkpoint."""


def _device(kind: str) -> str:
    """Return a name of the device that this process has, for people, without asking the device itself."""
    host = socket.gethostname()
    return f"GPU {os.environ.get('CUDA_VISIBLE_DEVICES', '0')} of {host}" if kind == "cuda" else host


def _limit_memory(config: Config, gpus: float) -> None:
    """Limit this process to its share of a GPU, whose context may find no room already."""
    try:
        limit_memory(gpus)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise out_of_memory(config) from error
        raise


def _train_epochs(
    config: Config, state: State | None, trial: TrialSpecification, device: str
) -> Generator[EpochRecord]:
    """Yield the epochs of a network, or the one record of a classical model, whose fit stands for all epochs."""
    if not config.model.is_classical:
        yield from train(config, trial.task, seed=trial.seed, state=state, device=device)
        return
    features = FeatureStore.open(trial.task.store).frames
    metrics, utterances, others = train_classical(config, features, trial.task, trial.seed)
    epochs = config.training.epochs
    yield EpochRecord(epochs, 1, metrics, True, {"epoch": epochs}, utterances, others)


def _write_file(path: Path, content: bytes) -> None:
    """Write a file durably, without a second name: the event that follows holds its digest."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
