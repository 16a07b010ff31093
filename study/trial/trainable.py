"""One trial: trains a configuration epoch by epoch, and persists everything that a restart needs."""

from __future__ import annotations

import errno
import json
import math
import socket
import sys
import time
import uuid
from collections.abc import Generator, Mapping
from contextlib import suppress
from typing import Any

import torch
from ray import tune

from ser.config import Config
from ser.features.store import FeatureStore
from ser.training.classical import train_classical
from ser.training.loop import DivergedError, EpochRecord, train
from ser.training.state import State
from ser.utils.durable_files import replace_bytes, replace_text
from ser.utils.errors import UserError
from study.schema import FAILED, FINISHED, SECONDS, STOPPED, UTTERANCES, Tag
from study.trial.checkpoints import load_newest, save_checkpoint
from study.trial.event_log import Outbox
from study.trial.hardware import hardware_tags
from study.trial.specification import (
    DONE,
    EPOCH,
    FAILURE,
    FAILURE_FINAL,
    SUSPENDED,
    TRIAL_KEY,
    TrialContext,
    TrialSpecification,
    trial_folder,
    trial_name,
)

ATTEMPTS = "attempts.json"
MAX_ATTEMPTS = 3

# Assumed mean time between two kills of a process, in seconds. Saving and repeated training together cost least if a
# state is saved every sqrt(2 · seconds of saving · this) seconds (Young, A first order approximation to the optimum
# checkpoint interval, Communications of the ACM 17, 1974).
BETWEEN_KILLS = 4 * 3600.0


class Attempt:
    """Attempt of one process at a trial, from its newest checkpoint on.

    Args:
        configuration: Suggested parameters by dotted name, and the number of the trial.
        context: What all trials of the search share.
    """

    def __init__(self, configuration: Mapping[str, Any], context: TrialContext) -> None:
        values = dict(configuration)
        self.number = int(values.pop(TRIAL_KEY))
        self._context = context
        self._trial = context.trial(self.number, values)
        self._config = Config.from_dotted(self._trial.configuration)
        self._folder = trial_folder(context.folder, self.number)
        self._epoch = 0
        self._saved_at, self._saving_took = time.monotonic(), 0.0
        self._unsaved: EpochRecord | None = None
        self._token = uuid.uuid4().hex
        self._outbox: Outbox | None = None
        self._training: Generator[EpochRecord] | None = None

    def step(self) -> dict[str, Any]:
        """Train one epoch.

        Returns:
            Result for Tune: the objective and the epoch; ``finished`` after the last epoch; or, with ``done``, the
            reason of a ``failure``, or ``suspended`` where the machine and not the trial is at fault.

        Raises:
            Exception: An unexpected error, such as one of the GPU, after which another process may try again.
        """
        try:
            return self._step()
        except (DivergedError, UserError) as error:
            # A diverged training diverges again everywhere; other errors may be those of this machine.
            return self._fail(str(error), final=isinstance(error, DivergedError))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return {EPOCH: self._epoch, SUSPENDED: f"{error.strerror} ({self._folder})", "done": True}

    def close(self, *, stopped: bool = False) -> None:
        """End the attempt; another process may continue the trial.

        Args:
            stopped: Whether to record that the trial has ended before its last epoch, at least for now.
        """
        if stopped and self._training is not None and self._outbox is not None:
            if self._unsaved is not None:
                with suppress(OSError):  # the disk may be full; then an earlier state remains
                    save_checkpoint(_state_to_save(self._unsaved), self._folder, keep=2)
            self._outbox.end(STOPPED)
        if self._training is not None:
            self._training.close()
        self._training = self._unsaved = None

    def _step(self) -> dict[str, Any]:
        if self._training is None and (ended := self._begin()) is not None:
            return ended
        assert self._training is not None
        began = time.monotonic()
        record = next(self._training)
        metrics = {**record.metrics, SECONDS: time.monotonic() - began}
        self._record(record, metrics)
        self._epoch = record.epoch
        result = {
            self._context.objective: metrics[self._context.objective],
            EPOCH: record.epoch,
            DONE: record.finished,
            "done": record.finished,
        }
        if record.finished:
            self.close()
        return result

    def _begin(self) -> dict[str, Any] | None:
        """Open the records and the newest state of the trial; return the result if it has ended already."""
        context = self._context
        if not context.folder.is_dir():
            reason = (
                f"node {socket.gethostname()} does not see {str(context.folder)!r}. Mount --storage-path under the "
                "same path on every node"
            )
            return {EPOCH: 0, SUSPENDED: reason, "done": True}
        torch.set_num_threads(context.threads)
        self._outbox = outbox = Outbox(self._folder)
        state, torn = load_newest(self._folder)
        for path in torn:
            path.rename(path.with_name(f"torn-{path.name}"))
        self._epoch = state["epoch"] if state is not None else 0
        if outbox.status == FINISHED:
            # The study was killed between the last epoch and the journal's record of it.
            return self._ended()
        if (failure := self._count_attempt(outbox.last_epoch)) is not None:
            return self._fail(failure, final=False)
        outbox.begin(
            context.experiment,
            context.parent,
            f"{context.name} {trial_name(self.number)}",
            {**context.key, Tag.TRIAL: trial_name(self.number)},
            {
                **context.tags,
                **hardware_tags(context.device, context.threads),
                **self._trial.tags,
                Tag.FOLDER: str(self._folder),
            },
            self._config.to_dotted(),
            context.dataset,
        )
        if state is not None and state["epoch"] >= self._config.training.epochs:
            outbox.end(FINISHED)
            return self._ended()
        self._training = _train_epochs(self._config, state, self._trial, context.device)
        return None

    def _ended(self) -> dict[str, Any]:
        assert self._outbox is not None
        self.close()
        objective = self._context.objective
        value = self._outbox.last_metrics[objective]
        return {objective: value, EPOCH: self._config.training.epochs, DONE: True, "done": True}

    def _record(self, record: EpochRecord, metrics: Mapping[str, float]) -> None:
        """Record an epoch: first its metrics, then the state to resume from."""
        assert self._outbox is not None
        if self._read_attempts().get("token") != self._token:
            # Ray considered this node dead, and started the trial on another one.
            raise RuntimeError(f"trial {self.number} continues in another process.")
        self._outbox.epoch(record.epoch, metrics)
        if record.utterances is not None:
            replace_bytes(self._folder / UTTERANCES, record.utterances.to_parquet(index=False))
            self._outbox.artifact(UTTERANCES)
        self._save(record)
        if record.finished:
            self._outbox.end(FINISHED)

    def _save(self, record: EpochRecord) -> None:
        """Save the state after an epoch if that is due; after the last epoch it always is."""
        began = time.monotonic()
        self._unsaved = record
        if not record.finished and began - self._saved_at < math.sqrt(2 * self._saving_took * BETWEEN_KILLS):
            return
        save_checkpoint(_state_to_save(record), self._folder, keep=1 if record.finished else 2)
        self._unsaved = None
        self._saved_at = time.monotonic()
        self._saving_took = self._saved_at - began

    def _count_attempt(self, reached: int) -> str | None:
        """Record that this process takes over the trial; return the reason if too many have died in the same epoch.

        Args:
            reached: Last recorded epoch; the newest state may be that of an earlier one.
        """
        before = self._read_attempts()
        same = before.get("session") == self._context.session and before.get("epoch") == reached
        count = before["count"] + 1 if same else 1
        if count > MAX_ATTEMPTS:
            cause = f": {before['error']}" if before.get("error") else " without an error, perhaps out of memory"
            return f"{MAX_ATTEMPTS} processes died in epoch {reached + 1}{cause}"
        self._write_attempts({"session": self._context.session, "epoch": reached, "count": count})
        return None

    def note_error(self, text: str) -> None:
        """Save the text of an unexpected error, which becomes the trial's failure if all attempts end so."""
        with suppress(OSError):
            attempts = self._read_attempts()
            if attempts.get("token") == self._token:  # else another process has the trial
                self._write_attempts({**attempts, "error": text})

    def _read_attempts(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self._folder / ATTEMPTS).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def _write_attempts(self, values: Mapping[str, Any]) -> None:
        replace_text(self._folder / ATTEMPTS, json.dumps({**values, "token": self._token}))

    def _fail(self, reason: str, *, final: bool) -> dict[str, Any]:
        if self._outbox is not None:
            self._outbox.end(FAILED, reason)
        self.close()
        return {EPOCH: self._epoch, FAILURE: reason, FAILURE_FINAL: final, "done": True}


class StudyTrial(tune.Trainable):  # type: ignore[misc]
    """Trainable of Ray Tune, which attempts one trial after another in the same actor."""

    def setup(self, config: dict[str, Any], context: TrialContext | None = None) -> None:
        """Take the first trial.

        Args:
            config: Suggested parameters by dotted name, and the number of the trial.
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
            # Tune starts another process; the threads of this one must not run at the same time.
            self._attempt.note_error(f"{type(error).__name__}: {error}")
            self._attempt.close()
            raise

    def cleanup(self) -> None:
        """End the attempt; one that has not ended by itself was stopped early."""
        self._attempt.close(stopped=True)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: a trial saves and finds its own checkpoints."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Do nothing: a trial loads its own checkpoint."""


def _train_epochs(
    config: Config, state: State | None, trial: TrialSpecification, device: str
) -> Generator[EpochRecord]:
    """Yield the epochs of a network, or the one record of a classical model, whose fit stands for all epochs."""
    if not config.model.is_classical:
        yield from train(config, trial.task, seed=trial.seed, state=state, device=device)
        return
    features = FeatureStore.open(trial.task.store).frames
    metrics, utterances = train_classical(config, features, trial.task, trial.seed)
    epochs = config.training.epochs
    yield EpochRecord(epochs, 1, metrics, True, {"epoch": epochs}, utterances)


def _state_to_save(record: EpochRecord) -> State:
    """Return the state to save; after the last epoch without the optimizer, two thirds of its size."""
    return {key: value for key, value in record.state.items() if not (record.finished and key == "optimizer")}
