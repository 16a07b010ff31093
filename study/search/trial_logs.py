"""The event logs of a search's trials: read when it is opened, written as trials report, delivered to MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ser.config import Config
from study.schema import Tag, absent_tag
from study.search.journal import Entry
from study.tracking.event_log import RECORDS, EventLog
from study.tracking.upload import Courier, Delivery, SearchRuns, stored
from study.trial.specification import TrialContext, trial_folder


def read_logs(folder: Path) -> dict[int, EventLog]:
    """Return the event logs in the folder of a search by number of the trial."""
    paths = sorted(folder.glob(f"trial_*/{RECORDS}"))
    return {int(path.parent.name.removeprefix("trial_")): EventLog(path.parent) for path in paths}


class TrialLogs:
    """Event logs by number of the trial.

    Args:
        context: Context of the trials, as their processes have it.
        tags: Tags that all of their runs have.
        dataset: Training data, as a dictionary of an MLflow dataset.
        runs: Where their runs belong.
        courier: Delivers them.
    """

    def __init__(
        self,
        context: TrialContext,
        tags: Mapping[str, str],
        dataset: Mapping[str, Any],
        runs: SearchRuns,
        courier: Courier,
    ) -> None:
        self._context, self._tags, self._dataset, self._runs, self._courier = context, tags, dataset, runs, courier
        self._logs = read_logs(context.folder)

    def deliver(self) -> int:
        """Let the courier deliver what the store lacks of earlier sessions; return of how many trials that is."""
        deliveries = stored(self._courier.client, self._runs, self._logs)
        self._courier.add(deliveries)
        return sum(one.pending > 0 for one in deliveries)

    def arithmetics(self) -> list[str]:
        """Return the arithmetic of each trial that has one on record."""
        return [log.tags[Tag.ARITHMETIC] for log in self._logs.values() if Tag.ARITHMETIC in log.tags]

    def __getitem__(self, number: int) -> EventLog:
        """Return the event log of a trial, which may not have begun."""
        if number not in self._logs:
            self._logs[number] = log = EventLog(trial_folder(self._context.folder, number))
            self._courier.add([Delivery(number, log, self._runs)])
        return self._logs[number]

    def begin(self, entry: Entry) -> EventLog:
        """Record that a trial begins, or continues in another process.

        Args:
            entry: The trial in the journal.

        Returns:
            Its event log.

        Raises:
            UserError: It has no configuration that can be trained.
            OSError: The disk is full.
        """
        trial = self._context.trial(entry.number, entry.configuration)
        log = self[entry.number]
        log.begin({**self._tags, **trial.tags, **absent_tag(trial.task.absent)}, self.parameters(entry), self._dataset)
        return log

    def parameters(self, entry: Entry) -> dict[str, Any]:
        """Return all parameters of a trial by dotted name.

        Args:
            entry: The trial in the journal.

        Raises:
            UserError: It has no configuration that can be trained.
        """
        return Config.from_dotted(self._context.trial(entry.number, entry.configuration).configuration).to_dotted()
