"""The event log of a trial: what its process reported, on the study's disk, before MLflow has it.

The study's own process writes it, from what trials report to Tune. ``study/tracking/upload.py`` brings it to MLflow.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ser.utils.durable_files import append_line, drop_torn_lines
from ser.utils.errors import without_password
from study.schema import SECONDS, SECONDS_SO_FAR
from study.trial.specification import ARTIFACT, EPOCH, TAGS

RECORDS = "records.jsonl"

# Kinds of lines, besides the events that a trial reports.
RUN, AGAIN, END = "run", "again", "end"


def begun_at(folder: Path) -> int | None:
    """Return when a trial began, in milliseconds since 1970, without opening its log; None if it has not.

    Args:
        folder: The trial's folder.
    """
    try:
        with (folder / RECORDS).open("rb") as file:
            return int(json.loads(file.readline())["time"])
    except (OSError, ValueError):
        return None


def ending(line: Mapping[str, Any]) -> str:
    """Return how a trial ended, from a line of kind ``end`` of this version or of version 0.1."""
    return str(line["status"] if "status" in line else line["fidelity"])


class EventLog:
    """Event log of one trial: a file that is only appended to, by one process.

    Another thread may read lines while one is appended. Half a line, which a power loss can leave, is cut off; so the
    study's folder must be locked.

    Args:
        folder: The trial's folder; made with the first line.

    Attributes:
        attempts: Processes that have begun the trial.
        last_epoch: The last epoch on record, 0 before the first.
        last_metrics: Metrics of the last epoch, empty before the first.
        seconds: Seconds spent on the epochs on record.
        status: ``finished``, ``stopped`` or ``failed``; None for a trial that has not ended, or continues.
        tags: Tags that its process has reported.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / RECORDS
        drop_torn_lines(self._path)
        self.attempts = 0
        self.last_epoch = 0
        self.last_metrics: Mapping[str, float] = {}
        self.seconds = 0.0
        self.status: str | None = None
        self._artifacts: set[tuple[str, str | None]] = set()
        self.tags: dict[str, str] = {}
        self._ends: list[int] = []  # where each line ends, in bytes
        if self._path.exists():
            with self._path.open("rb") as file:
                for content in file:
                    self._count(json.loads(content), len(content))

    def __len__(self) -> int:
        return len(self._ends)

    def lines(self, after: int = 0) -> list[dict[str, Any]]:
        """Return the lines, without the first ``after``."""
        ends = [0, *self._ends]
        if after + 1 >= len(ends):
            return []
        with self._path.open("rb") as file:
            file.seek(ends[after])
            return [json.loads(line) for line in file.read(ends[-1] - ends[after]).splitlines()]

    def begin(self, tags: Mapping[str, str], params: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
        """Record that the trial begins, or continues in another process.

        Args:
            tags: Tags of its run; those of the first process hold.
            params: The configuration under dotted names.
            dataset: What is trained on, as an MLflow dataset has it.
        """
        if self.attempts:
            self._append(AGAIN)
            return
        values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in params.items()}
        self._append(RUN, tags=dict(tags), params=values, dataset=dict(dataset))

    def take(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Record what the trial's process has reported; what is on record already is left as it is.

        Args:
            events: Made by ``study.trial.specification``. The seconds of all epochs are added to the metrics of each,
                so that a reader of thousands of trials needs no curves.

        Raises:
            OSError: The disk is full; what has been recorded stays.
        """
        for event in events:
            if event["kind"] == EPOCH and event["epoch"] > self.last_epoch:
                metrics = dict(event["metrics"])
                if SECONDS in metrics:
                    metrics[SECONDS_SO_FAR] = self.seconds + metrics[SECONDS]
                self._append(EPOCH, epoch=event["epoch"], metrics=metrics)
            elif event["kind"] == ARTIFACT and (event["name"], event["digest"]) not in self._artifacts:
                self._append(ARTIFACT, name=event["name"], digest=event["digest"])
            elif event["kind"] == TAGS and not event["tags"].items() <= self.tags.items():
                self._append(TAGS, tags=event["tags"])

    def end(self, status: str, failure: str | None = None) -> None:
        """Record how the trial ended; nothing if that is on record already, or the trial has not begun.

        Args:
            status: ``finished``, ``stopped`` or ``failed``.
            failure: The reason, for ``failed``.
        """
        if self.attempts and self.status != status:
            self._append(END, status=status, failure=None if failure is None else without_password(failure))

    def _append(self, kind: str, **values: Any) -> None:
        line = {"kind": kind, "time": int(time.time() * 1000), **values}
        text = json.dumps(line)
        self.folder.mkdir(parents=True, exist_ok=True)
        append_line(self._path, text)
        self._count(line, len(text.encode()) + 1)

    def _count(self, line: Mapping[str, Any], size: int) -> None:
        """Take a line that is on disk into account, first where it ends, for a thread that reads."""
        self._ends.append((self._ends[-1] if self._ends else 0) + size)
        if line["kind"] in (RUN, AGAIN):
            self.attempts += 1
            self.status = None
        elif line["kind"] == EPOCH:
            self.last_epoch = max(self.last_epoch, line["epoch"])
            self.last_metrics = line["metrics"]
            self.seconds += self.last_metrics.get(SECONDS, 0.0)
        elif line["kind"] == ARTIFACT:
            self._artifacts.add((line["name"], line.get("digest")))
        elif line["kind"] == END:
            self.status = ending(line)
        elif line["kind"] == TAGS:
            self.tags |= line["tags"]
