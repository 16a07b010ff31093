"""Ray Tune's searcher and scheduler, which take their decisions from the journal of the search."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from study.schema import FAILED, RUNNING, Selection
from study.search.journal import Entry, Journal
from study.trial.specification import DONE, EPOCH, FAILURE, FAILURE_FINAL, SUSPENDED, TRIAL_KEY


class StudySearch(Searcher):  # type: ignore[misc]
    """Searcher that suggests unfinished trials first, then new ones up to a fixed number.

    Args:
        journal: Journal of the search.
        selection: Score that the search maximises or minimises.
        trials: Number of trials of the search, ended ones included.
        deadline: ``time.monotonic()`` after which trials end at their next epoch, infinity for none.
    """

    def __init__(self, journal: Journal, selection: Selection, trials: int, deadline: float = math.inf) -> None:
        super().__init__(metric=selection.metric, mode=selection.mode)
        self._journal, self._trials, self._deadline = journal, trials, deadline
        self._unfinished = [
            entry
            for entry in journal.entries()
            if entry.status == RUNNING or (entry.status == FAILED and not entry.final)
        ]
        self._issued = len(journal.entries())
        self._running: dict[str, int] = {}  # Tune's id → number of the trial
        self.suspended = ""
        """Why trials were left unfinished through no fault of theirs, such as a full disk; empty if none was."""

    @property
    def out_of_time(self) -> bool:
        """Return whether the deadline has passed."""
        return time.monotonic() >= self._deadline

    @property
    def left(self) -> int:
        """Return the number of trials that are still to be suggested."""
        return len(self._unfinished) + max(0, self._trials - self._issued)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next configuration by dotted name, with the number of the trial under ``trial``."""
        if self.out_of_time or self.suspended or not self.left:
            return str(Searcher.FINISHED)
        if self._unfinished:
            entry = self._unfinished.pop(0)
        else:
            entry = self._journal.suggest()
            self._issued += 1
        self._running[trial_id] = entry.number
        return configuration_of(entry)

    def observe(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Record the score of an epoch, and return whether the trial ends there, for its score or the deadline."""
        stopped = self._journal.report(self._running[trial_id], result[EPOCH], result.get(self.metric, math.nan))
        return stopped or self.out_of_time

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: the scheduler has recorded the result already."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record how a trial ended; one that the deadline or the machine ended stays unfinished in the journal."""
        number, result = self._running.pop(trial_id), result or {}
        if SUSPENDED in result:
            self.suspended = result[SUSPENDED]
        elif FAILURE in result:
            self._journal.fail(number, result[FAILURE], final=result[FAILURE_FINAL])
        elif error:
            self._journal.fail(number, "its process ended", final=False)
        elif result.get(DONE):
            value = result.get(self.metric, math.nan)
            if math.isfinite(value):
                self._journal.finish(number, result[EPOCH], value)
            else:
                self._journal.fail(number, f"{self.metric} is {value}", final=True)
        elif not self.out_of_time:
            self._journal.stop(number)

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
        """Return Tune's decision for a trial that has reported an epoch other than its last."""
        return str(self.STOP if self._search.observe(trial.trial_id, result) else self.CONTINUE)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def configuration_of(entry: Entry) -> dict[str, Any]:
    """Return the configuration of a trial for Tune, with the number of the trial under ``trial``."""
    return {**entry.configuration, TRIAL_KEY: entry.number}
