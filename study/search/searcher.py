"""What Ray Tune asks for configurations, and tells of results: the journal behind Tune's interfaces."""

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
    """Hands out the trials of a search: those left unfinished first, then new ones, up to a constant number.

    Args:
        journal: Of the search.
        selection: The score.
        trials: How many there are to be in all.
        deadline: ``time.monotonic()`` at which trials end, at their next epoch; infinity for none.
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
        self._live: dict[str, int] = {}
        self.suspended = ""
        """Why trials were left unfinished: the machine, not they, is at fault. Empty if none was."""

    @property
    def out_of_time(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self._deadline

    @property
    def left(self) -> int:
        """How many trials are still to be handed out."""
        return len(self._unfinished) + max(0, self._trials - self._issued)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next configuration's dotted names, with the trial's number under ``trial``."""
        if self.out_of_time or self.suspended or not self.left:
            return str(Searcher.FINISHED)
        if self._unfinished:
            entry = self._unfinished.pop(0)
        else:
            entry = self._journal.suggest()
            self._issued += 1
        self._live[trial_id] = entry.number
        return configuration_of(entry)

    def observe(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Notes an epoch's score; returns whether the trial is to end there, for its score or for the time."""
        stopped = self._journal.report(self._live[trial_id], result[EPOCH], result.get(self.metric, math.nan))
        return stopped or self.out_of_time

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """The scheduler has observed it already."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Notes how a trial ended; one that the deadline or the machine ended stays unfinished in the journal."""
        number, result = self._live.pop(trial_id), result or {}
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
        """Tune's snapshot of the searcher is empty, for the journal has everything."""
        Path(checkpoint_path).write_bytes(b"")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its set-up, which nobody reads here.
        return {}


class StudyScheduler(FIFOScheduler):  # type: ignore[misc]
    """Ends trials early where the search says so.

    Args:
        search: Of the same Tuner.
    """

    def __init__(self, search: StudySearch) -> None:
        super().__init__()
        self._search = search

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Tune's decision for a trial that reported an epoch, not its last."""
        return str(self.STOP if self._search.observe(trial.trial_id, result) else self.CONTINUE)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def configuration_of(entry: Entry) -> dict[str, Any]:
    """A trial's configuration for Tune, which carries its number."""
    return {**entry.configuration, TRIAL_KEY: entry.number}
