"""One trial: trains a configuration epoch by epoch, reports to Tune, and saves everything that a restart needs.

A trial's process writes checkpoints, and after its last epoch tables and what it has reported, nothing else. What it
measures goes to the study's process with Tune's results; the checkpoint holds it too, because a result can be lost with
the process that waits for it. The network of a trial that has finished is written only if it is to be kept, while the
next trial of the process trains.
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
from functools import partial
from typing import Any

import torch
from ray import tune

from ser.config import Config
from ser.features.store import FeatureStore
from ser.training.classical import train_classical
from ser.training.device.gpu_memory import is_out_of_memory, limit_memory, out_of_memory, release_memory
from ser.training.loop import DivergedError, EpochRecord, train
from ser.training.state import ARITHMETIC, State
from ser.utils.durable_files import write_durably
from ser.utils.errors import UserError
from study.schema import ACROSS_CORPORA, SECONDS, UTTERANCES, Tag
from study.trial.checkpoints import load_newest, remove_checkpoints, save_checkpoint
from study.trial.ended import ENDED, Ended, Saver, on_host, read_ended
from study.trial.hardware import hardware_tags, system_metrics
from study.trial.specification import (
    AGAIN_KEY,
    ATTEMPT_KEY,
    DEVICE,
    DONE,
    EPOCH,
    EVENTS,
    EXCEED_KEY,
    FAILURE,
    FAILURE_FINAL,
    SUSPENDED,
    TAGS,
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
        configuration: Suggested parameters by dotted name, and what ``study.search.searcher`` adds to them.
        context: What all trials of the search share.
        saver: Writer of the networks of all trials of the process; by default one of this trial alone.

    Attributes:
        placed: Whether it has said where it runs.
    """

    def __init__(self, configuration: Mapping[str, Any], context: TrialContext, saver: Saver | None = None) -> None:
        values = dict(configuration)
        self.number, self._attempt = int(values.pop(TRIAL_KEY)), int(values.pop(ATTEMPT_KEY))
        self._exceed: float | None = values.pop(EXCEED_KEY, None)
        self._again = bool(values.pop(AGAIN_KEY, False))
        self._context, self._saver = context, saver or Saver()
        self._trial = context.trial(self.number, values)
        self._folder = trial_folder(context.folder, self.number)
        self.placed = False
        self._epoch = 0
        self._saved_at = time.monotonic()
        self._unsaved: EpochRecord | None = None
        self._reported: list[dict[str, Any]] = []
        self._last: dict[str, Any] | None = None  # result of a trial whose network is being written
        self._training: Generator[EpochRecord] | None = None

    def step(self) -> dict[str, Any]:
        """Say where the trial runs, the first time; then train one epoch.

        Returns:
            Result for Tune: the device; or the objective, the epoch and the events to record; ``finished`` after the
            last epoch, without ``done`` where the next step would wait for the network on its way to the disk; or,
            with ``done``, the reason of a ``failure``, or ``suspended`` where the machine and not the trial is at
            fault.

        Raises:
            Exception: An unexpected error, such as one of the GPU, after which another process may try again.
        """
        if not self.placed:
            self.placed = True
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
        self.close()
        self.release()  # only now: the error has referred to everything that the training had in memory
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

    def release(self) -> None:
        """Give back the memory of the GPU, once nothing refers to what the attempt had there."""
        if self._context.device == "cuda":
            release_memory()

    def give_up(self) -> None:
        """End the attempt at a trial that was stopped for good, and remove its states unless all are kept."""
        if self._training is not None and self._context.keep != "all":
            self.close()
            remove_checkpoints(self._folder, self._attempt)
        self.close(stopped=True)

    def _step(self) -> dict[str, Any]:
        if self._last is not None:
            self._saver.join()
            return {**self._last, "done": True}
        self._saver.check()
        began, before = time.monotonic(), len(self._reported)
        if first := self._training is None:
            if (ended := self._begin()) is not None:
                return ended
            # What an earlier process has reported goes again with the first epoch: it may have been lost.
            before, began = 0, time.monotonic()
            system_metrics(self._context.device)  # the CPU's use is since the last call
        assert self._training is not None
        self._unsaved = None  # its tensors are about to change
        record = next(self._training)
        self._epoch = record.epoch
        if first and not self._again:
            computed_in = {Tag.ARITHMETIC: record.state[ARITHMETIC]} if ARITHMETIC in record.state else {}
            tags = {**hardware_tags(self._context.device, self._context.threads), **computed_in}
            self._reported = [tags_event(tags), *(event for event in self._reported if event["kind"] != TAGS)]
        seconds, busy = time.monotonic() - began, system_metrics(self._context.device)
        metrics = {**record.metrics, SECONDS: seconds, **busy}
        if not self._again:
            self._reported.append(epoch_event(record.epoch, metrics))
            self._write_tables(record)
        result = {self._context.objective: metrics[self._context.objective], EPOCH: record.epoch}
        events = [] if self._again else self._reported[before:]
        if not record.finished:
            self._save(record)
            return {**result, EVENTS: events, DONE: False, "done": False}
        if self._finish(record, metrics[self._context.objective]):
            self._last = {**result, DONE: True}
        return {**result, EVENTS: events, DONE: True, "done": self._last is None}

    def _write_tables(self, record: EpochRecord) -> None:
        """Write the tables of the last epoch."""
        for name, table in ((UTTERANCES, record.utterances), (ACROSS_CORPORA, record.others)):
            if table is not None:
                content = table.to_parquet(index=False)
                write_durably(self._folder / name, content)
                self._reported.append(artifact_event(name, content))

    def _finish(self, record: EpochRecord, objective: float) -> bool:
        """Write what the trial has reported, and begin to write its network; return whether that is kept."""
        self._saver.join()
        keeps = self._again or self._context.keeps(objective, self._exceed)
        if not self._again:
            Ended(record.epoch, self._reported, keeps).write(self._folder)
        if keeps:
            # Two thirds of a state are the optimizer's. Nothing changes these tensors any more.
            state = on_host({key: value for key, value in record.state.items() if key != "optimizer"})
            self._saver.start(partial(self._write_network, {**state, REPORTED: self._reported}))
        else:
            remove_checkpoints(self._folder, self._attempt)
        self.close()
        return keeps

    def _write_network(self, state: State) -> None:
        save_checkpoint(state, self._folder, self._attempt, keep=1)
        (self._folder / ENDED).unlink(missing_ok=True)  # the checkpoint holds it

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
        ended = read_ended(self._folder)
        state, _ = load_newest(self._folder)
        self._epoch = state["epoch"] if state is not None else 0
        if ended is not None:
            self._reported = list(ended.events)
        elif state is not None:
            self._reported = list(state.get(REPORTED, []))
        if self._epoch >= config.training.epochs or (ended is not None and not self._again):
            metrics: Mapping[str, Any] = next(
                (event["metrics"] for event in reversed(self._reported) if event["kind"] == EPOCH), {}
            )
            epoch = self._epoch if ended is None else ended.epoch
            return {**metrics, EPOCH: epoch, EVENTS: self._reported, DONE: True, "done": True}
        self._training = _train_epochs(config, state, self._trial, context.device)
        return None

    def _save(self, record: EpochRecord) -> None:
        """Save the state after an epoch if that is due."""
        began = time.monotonic()
        self._unsaved = record
        if began - self._saved_at < math.sqrt(2 * self._saver.took * BETWEEN_KILLS):
            return
        self._write(record)
        self._unsaved = None
        self._saved_at = time.monotonic()
        self._saver.took = self._saved_at - began

    def _write(self, record: EpochRecord) -> None:
        """Write a checkpoint, with what has been reported."""
        self._saver.join()
        save_checkpoint({**record.state, REPORTED: self._reported}, self._folder, self._attempt)


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
        self._context, self._saver = context, Saver()
        self._attempt = Attempt(config, context, self._saver)
        self._former: Attempt | None = None  # until the study has let the next one begin

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial; all state of the previous one belongs to its attempt."""
        if self._former is not None:
            self._former.close(stopped=True)
        self._attempt.release()
        self._former, self._attempt = self._attempt, Attempt(new_config, self._context, self._saver)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch.

        A trial before that has not ended by itself was stopped for good if this one may begin: a study whose time is up
        stops all trials, also one that waited for a process.
        """
        if self._former is not None and self._attempt.placed:
            self._former.give_up()
            self._former.release()
            self._former = None
        try:
            return self._attempt.step()
        except Exception as error:
            # The trial continues in another process; threads and memory of this one must not be in its way.
            self._attempt.close()
            traceback.clear_frames(error.__traceback__)
            self._attempt.release()
            raise

    def cleanup(self) -> None:
        """End the attempt; one that has not ended by itself was stopped early. Wait for the network that is written."""
        for attempt in filter(None, (self._former, self._attempt)):
            attempt.close(stopped=True)
        self._saver.end()

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
