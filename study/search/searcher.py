"""Ray Tune's searcher and scheduler, which take their decisions from the journal of the search.

Every result of a trial goes to its event log first, then to the journal. A process that dies is not Tune's business:
its trial is suggested again, here.
"""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError
from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.result import NODE_IP
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from ser.utils.errors import UserError, first_line
from study.schema import FAILED, FINISHED, RUNNING, STOPPED, Selection
from study.search.attempts import Attempts, Death
from study.search.journal import Entry, Journal
from study.search.kept_networks import KeptNetworks
from study.search.trial_logs import TrialLogs
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
    TRIAL_KEY,
)


@dataclass
class _Running:
    """Trial that Tune runs.

    Args:
        entry: The trial in the journal.
        device: Where it runs; empty until it has said so.
        epoch: The last epoch that this attempt has reported, 0 before the first.
        pruned: Whether the journal's pruner has stopped it.
        error: Error of its process, empty without one.
    """

    entry: Entry
    device: str = ""
    epoch: int = 0
    pruned: bool = False
    error: str = ""

    @property
    def again(self) -> bool:
        """Return whether a trial that has finished is trained again for its network alone."""
        return self.entry.status == FINISHED


class StudySearch(Searcher):  # type: ignore[misc]
    """Searcher that suggests unfinished trials first, then new ones up to a fixed number, then those that died.

    Before all of them come trials that have finished, and whose networks were lost on their way to the disk.

    Args:
        journal: Journal of the search.
        logs: Event logs of its trials.
        selection: Score that the search maximises or minimises.
        trials: Number of trials of the search, ended ones included.
        slots: Trials at a time.
        deadline: ``time.monotonic()`` after which trials end at their next epoch, infinity for none.
        attempts: Account of processes that died.
        say: Called with what people should know.
        networks: The networks of its trials; None where nobody asks which are kept.
    """

    def __init__(
        self,
        journal: Journal,
        logs: TrialLogs,
        selection: Selection,
        trials: int,
        slots: int,
        deadline: float = math.inf,
        attempts: Attempts | None = None,
        say: Callable[[str], None] = lambda text: None,
        networks: KeptNetworks | None = None,
    ) -> None:
        super().__init__(metric=selection.metric, mode=selection.mode)
        self._journal, self._logs, self._trials, self._slots, self._deadline = journal, logs, trials, slots, deadline
        self._attempts, self._say, self._networks = attempts or Attempts(), say, networks
        unended = [
            entry
            for entry in journal.entries()
            if entry.status == RUNNING or (entry.status == FAILED and not entry.final)
        ]
        # A kill can come between the event log and the journal.
        for entry in unended:
            if logs[entry.number].status == FINISHED:
                self._finish(entry.number)
        self._unfinished = [entry for entry in unended if logs[entry.number].status != FINISHED]
        self._lost = [] if networks is None else networks.lost()
        self._died: list[Entry] = []
        self._issued = len(journal.entries())
        self._running: dict[str, _Running] = {}
        # Tune's trials that have got a device that is left out; they hold it, so that no other one gets it.
        self._blocking: set[str] = set()
        self.ended = False
        """Whether there is nothing more to suggest."""
        self.suspended = ""
        """Why trials were left unfinished through no fault of theirs, such as a full disk; empty if none was."""
        self.without_network: set[int] = set()
        """Numbers of finished trials that were trained again for their networks in vain."""

    @property
    def out_of_time(self) -> bool:
        """Return whether the deadline has passed."""
        return time.monotonic() >= self._deadline

    @property
    def left(self) -> int:
        """Return the number of trials that are still to be suggested."""
        return len(self._lost) + len(self._unfinished) + len(self._died) + max(0, self._trials - self._issued)

    @property
    def unended(self) -> int:
        """Return the number of trials that run, or are still to be suggested."""
        return self.left + len(self._running)

    @property
    def idle(self) -> bool:
        """Return whether the search has ended, and no trial runs; one that still waits for a device does not count."""
        over = self.ended or self.out_of_time or bool(self.suspended)
        return over and not any(running.device for running in self._running.values())

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next configuration by dotted name, with the numbers of the trial and of the attempt.

        ``None`` asks Tune to come again: all slots are taken, or a trial that runs may yet have to be tried again.
        """
        try:
            if not (self.out_of_time or self.suspended):
                if len(self._running) >= self._slots:
                    return None
                if (entry := self._next()) is not None:
                    exceed = None if self._networks is None else self._networks.to_exceed(entry)
                    configuration = configuration_of(entry, self._logs[entry.number].attempts + 1, exceed)
                    self._running[trial_id] = _Running(entry)
                    return configuration
                if self._running:
                    return None
        except OSError as error:
            self._suspend(error)
        self.ended = True
        return str(Searcher.FINISHED)

    def _next(self) -> Entry | None:
        """Return the next trial to run, None if there is none at the moment; fail those that cannot be trained."""
        while self.left:
            # Those that died come last, so that another trial gets the device on which one has died.
            if self._lost or self._unfinished or (self._issued >= self._trials and self._died):
                entry = (self._lost or self._unfinished or self._died).pop(0)
            else:
                entry = self._journal.suggest()
                self._issued += 1
            if entry.status == FAILED and entry.final:
                failure = entry.failure
            elif failure := self._mistake(entry):
                self._journal.fail(entry.number, failure, final=True)
            else:
                return entry
            self._say(f"trial {entry.number}: failed: {failure}")
        return None

    def _mistake(self, entry: Entry) -> str:
        """Return why a trial has no configuration that can be trained, empty if it has one."""
        try:
            self._logs.parameters(entry)
        except UserError as error:
            return str(error)
        return ""

    def observe(self, trial_id: str, result: dict[str, Any]) -> str:
        """Record what a trial has reported, and return Tune's decision for it."""
        running = self._running[trial_id]
        try:
            if DEVICE in result:
                return self._place(trial_id, running, result)
            self._record(running, result)
        except OSError as error:
            self._suspend(error)
        stop = running.pruned or self.out_of_time or bool(self.suspended)
        if result.get(DONE):
            # The next trial begins while the network is written; where none begins, the process waits for its end.
            stop = self.left > 0 and not (self.out_of_time or self.suspended)
        return str(StudyScheduler.STOP if stop else StudyScheduler.CONTINUE)

    def _place(self, trial_id: str, running: _Running, result: dict[str, Any]) -> str:
        """Record that a trial begins on a device, unless that is left out, or no trial may begin any more."""
        if self.out_of_time or self.suspended:
            return str(StudyScheduler.STOP)
        device = result[DEVICE] + (f" ({result[NODE_IP]})" if NODE_IP in result else "")
        if device in self._attempts.left_out:
            del self._running[trial_id]
            self._blocking.add(trial_id)
            self._unfinished.insert(0, running.entry)
            return str(StudyScheduler.NOOP)
        self._attempts.placed(device, running.entry.number)
        running.device = device
        if not running.again:
            self._logs.begin(running.entry)
        return str(StudyScheduler.CONTINUE)

    def _record(self, running: _Running, result: dict[str, Any]) -> None:
        """Record the events of a result, first in the event log, then in the journal."""
        number, events = running.entry.number, result.get(EVENTS, [])
        self._logs[number].take(events)
        for event in events:
            # Tune hands the last result over twice.
            if event["kind"] == EPOCH and event["epoch"] > running.epoch:
                running.epoch = event["epoch"]
                value = event["metrics"].get(self.metric, math.nan)
                running.pruned |= self._journal.report(number, running.epoch, value)
                self._attempts.succeeded(running.device, number)

    def note_error(self, trial_id: str, error: BaseException | None) -> None:
        """Take note of the error of a process, before ``on_trial_complete`` says that it has died."""
        if trial_id in self._running and error is not None and not isinstance(error, RayActorError):
            cause = getattr(error, "cause", None) or error
            self._running[trial_id].error = f"{type(cause).__name__}: {first_line(cause)}"

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: the scheduler has recorded the result already."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record how a trial ended; one that the deadline or the machine ended stays unfinished in the journal."""
        self._blocking.discard(trial_id)
        if (running := self._running.pop(trial_id, None)) is None:
            return
        try:
            self._complete(running, result or {}, error)
        except OSError as failure:
            self._suspend(failure)

    def _complete(self, running: _Running, result: dict[str, Any], error: bool) -> None:
        number = running.entry.number
        log = self._logs[number]
        if running.again:
            self._complete_again(running, result, error)
            return
        if error:
            self._try_again(running)
            return
        if DEVICE not in result:
            self._record(running, result)
        if SUSPENDED in result:
            self.suspended = result[SUSPENDED]
            self._unfinished.append(running.entry)
        elif FAILURE in result:
            self._fail(running.entry, result[FAILURE], final=result[FAILURE_FINAL])
        elif result.get(DONE):
            log.end(FINISHED)
            self._finish(number)
        else:
            log.end(STOPPED)
            if running.pruned:
                self._journal.stop(number)
            else:
                self._unfinished.append(running.entry)

    def _complete_again(self, running: _Running, result: dict[str, Any], error: bool) -> None:
        """Say why a network was lost again, if it was; the records of its trial stay as they are."""
        if SUSPENDED in result:
            self.suspended = result[SUSPENDED]
        elif error or FAILURE in result:
            why = result.get(FAILURE) or running.error or "its process died"
            self.without_network.add(running.entry.number)
            self._say(f"trial {running.entry.number}: its network could not be trained again: {why}")

    def _finish(self, number: int) -> None:
        """Record in the journal what the event log says of a finished trial."""
        log = self._logs[number]
        value = log.last_metrics.get(self.metric, math.nan)
        if math.isfinite(value):
            self._journal.finish(number, log.last_epoch, value)
        else:
            self._journal.fail(number, f"{self.metric} is {value}", final=True)
        if self._networks is not None:
            self._networks.remove_beaten()

    def _fail(self, entry: Entry, reason: str, *, final: bool) -> None:
        log = self._logs[entry.number]
        if not log.attempts:
            log = self._logs.begin(entry)
        log.end(FAILED, reason)
        self._journal.fail(entry.number, reason, final=final)

    def _try_again(self, running: _Running) -> None:
        """Suggest a trial again whose process has died, unless too many have."""
        number, known = running.entry.number, len(self._attempts.left_out)
        death = Death(number, self._logs[number].last_epoch, running.device, running.error, running.epoch == 0)
        if (failure := self._attempts.died(death)) is not None:
            self._fail(running.entry, failure, final=False)
            return
        self._died.append(running.entry)
        where = running.device or "a node that it did not reach"
        self._say(f"trial {number}: died on {where}: {death.text}. It is tried again")
        if len(self._attempts.left_out) > known:
            self._say(f"{running.device} is left out: two trials died there in their first step")

    def _suspend(self, error: OSError) -> None:
        self.suspended = f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")

    def save(self, checkpoint_path: str) -> None:
        """Write an empty snapshot: the journal holds the whole state."""
        Path(checkpoint_path).write_bytes(b"")

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the state is read from the journal."""

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher; nothing reads that here.
        return {}


class StudyScheduler(FIFOScheduler):  # type: ignore[misc]
    """Scheduler that stops a trial where the searcher decides to.

    Args:
        search: Searcher of the same Tuner.
    """

    def __init__(self, search: StudySearch) -> None:
        super().__init__()
        self._search = search

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return Tune's decision for a trial that has reported something other than its end."""
        return self._search.observe(trial.trial_id, result)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Hand the error of a process to the searcher."""
        self._search.note_error(trial.trial_id, _error_of(trial))

    def __getstate__(self) -> dict[str, Any]:
        return {}


class EndOfSearch(Stopper):  # type: ignore[misc]
    """Stopper that ends the trials that hold a device that is left out, once no other one runs.

    Args:
        search: Searcher of the same Tuner.
    """

    def __init__(self, search: StudySearch) -> None:
        self._search = search

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return that no trial ends for its result alone."""
        return False

    def stop_all(self) -> bool:
        """Return whether the search has ended."""
        return self._search.idle

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _error_of(trial: Trial) -> BaseException | None:
    """Return the error of a trial's process, as Tune has just written it on this machine; None if it left none."""
    try:
        with Path(str(trial.pickled_error_file)).open("rb") as file:
            error = pickle.load(file)
    except Exception:  # an error of a user's code may be readable in its own process alone
        return None
    return error if isinstance(error, BaseException) else None


def configuration_of(entry: Entry, attempt: int = 1, exceed: float | None = None) -> dict[str, Any]:
    """Return the configuration of a trial for Tune, with the numbers of the trial and of the attempt.

    Args:
        entry: The trial.
        attempt: Number of the attempt.
        exceed: Objective that it has to exceed for its network to be kept; None where none has.
    """
    more: dict[str, Any] = {} if exceed is None else {EXCEED_KEY: exceed}
    more |= {AGAIN_KEY: True} if entry.status == FINISHED else {}
    return {**entry.configuration, TRIAL_KEY: entry.number, ATTEMPT_KEY: attempt, **more}
