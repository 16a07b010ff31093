"""A trial's records, written to its folder, from where ``study/tracking/upload.py`` brings them to MLflow.

The folder is the truth. It is written by the trial's process, which knows nothing of MLflow, and read by the study's.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ser.utils.durable_files import append_line, drop_torn_lines, replace_text
from study.messages import without_password
from study.schema import KIND, SECONDS, SECONDS_SO_FAR, TRIAL

RECORDS, DELIVERED = "records.jsonl", "delivered.json"

PARENT_RUN = "mlflow.parentRunId"
"""MLflow's own tag, whose name in its package would cost a trial's process a second."""

# Kinds of lines.
RUN, AGAIN, EPOCH, ARTIFACT, END = "run", "again", "epoch", "artifact", "end"


def ending(line: Mapping[str, Any]) -> str:
    """Return how a trial ended, from a line of kind ``end`` of this version or of version 0.1."""
    return str(line["status"] if "status" in line else line["fidelity"])


@dataclass
class _Read:
    """What the lines that have been read come to.

    Args:
        ends: Where each line ends, in bytes.
        epoch: The last epoch.
        metrics: Of the last epoch.
        seconds: Of all epochs.
        status: How the trial ended.
        artifacts: Files that belong to the records.
    """

    ends: list[int] = field(default_factory=list)
    epoch: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    status: str | None = None
    artifacts: set[str] = field(default_factory=set)

    @property
    def end(self) -> int:
        """Bytes that have been read."""
        return self.ends[-1] if self.ends else 0

    def add(self, line: Mapping[str, Any], end: int) -> None:
        """Takes the next line."""
        if line["kind"] == EPOCH:
            self.epoch = max(self.epoch, line["epoch"])
            self.metrics = line["metrics"]
            self.seconds += self.metrics.get(SECONDS, 0.0)
        elif line["kind"] == ARTIFACT:
            self.artifacts.add(line["name"])
        elif line["kind"] in (END, AGAIN):
            self.status = None if line["kind"] == AGAIN else ending(line)
        self.ends.append(end)


class Outbox:
    """The records of one trial.

    Args:
        folder: The trial's folder, made if it is not there.
        mend: Cut off what a power loss has left of a line; not where another process may be writing one.
    """

    def __init__(self, folder: Path, *, mend: bool = True) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if mend:
            drop_torn_lines(folder / RECORDS)
        self._read = _Read()
        self._reading = threading.Lock()

    def lines(self) -> list[dict[str, Any]]:
        """All whole lines."""
        return [line for line, _ in _lines(self.folder / RECORDS)]

    @property
    def last_epoch(self) -> int:
        """The last epoch on record, 0 before the first."""
        return self._now().epoch

    @property
    def last_metrics(self) -> Mapping[str, float]:
        """The last epoch's metrics, empty before the first."""
        return self._now().metrics

    @property
    def seconds(self) -> float:
        """Seconds spent on the epochs on record."""
        return self._now().seconds

    @property
    def status(self) -> str | None:
        """How the trial ended, None if it has not, or goes on again."""
        return self._now().status

    @property
    def pending(self) -> int:
        """Lines that MLflow has not got."""
        return len(self._now().ends) - int(self.delivered()["lines"])

    @property
    def missed(self) -> list[str]:
        """Files that could not be uploaded, with the reason; they are in the trial's folder."""
        return list(self.delivered()["missed"])

    @property
    def run_id(self) -> str | None:
        """The trial's MLflow run, None before it is there."""
        run_id: str | None = self.delivered()["run_id"]
        return run_id

    def begin(
        self,
        experiment: str,
        parent: str,
        name: str,
        key: Mapping[str, str],
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        dataset: Mapping[str, Any],
    ) -> None:
        """Notes that the trial begins, or goes on.

        Args:
            experiment: Experiment id.
            parent: The parent run's id.
            name: Shown in MLflow's UI.
            key: Tags that identify the trial.
            tags: All other tags.
            params: The configuration under dotted names.
            dataset: What is trained on, as an MLflow dataset has it.
        """
        if self._now().ends:
            self._append(AGAIN)
            return
        self._append(
            RUN,
            experiment=experiment,
            name=name,
            key={**key, KIND: TRIAL},
            tags={**tags, PARENT_RUN: parent},
            params={key: value if isinstance(value, str) else json.dumps(value) for key, value in params.items()},
            dataset=dict(dataset),
        )

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Notes an epoch's metrics; an epoch that is on record is left as it is.

        The seconds of all epochs are added to them, so that a reader of thousands of trials needs no curves.
        """
        if epoch > self.last_epoch:
            metrics = dict(metrics)
            if SECONDS in metrics:
                metrics[SECONDS_SO_FAR] = self.seconds + metrics[SECONDS]
            self._append(EPOCH, epoch=epoch, metrics=metrics)

    def artifact(self, name: str) -> None:
        """Notes, once, that a file of the trial's folder belongs to the records."""
        if name not in self._now().artifacts:
            self._append(ARTIFACT, name=name)

    def end(self, status: str, failure: str | None = None) -> None:
        """Notes how the trial ended.

        Args:
            status: ``finished``, ``stopped`` or ``failed``.
            failure: The reason, for ``failed``.
        """
        if self.status != status:
            self._append(END, status=status, failure=None if failure is None else without_password(failure))

    def _now(self) -> _Read:
        """What the lines come to; only those that are new, also from another process, are read."""
        with self._reading:
            for line, end in _lines(self.folder / RECORDS, self._read.end):
                self._read.add(line, end)
            return self._read

    def lines_after(self, count: int) -> list[dict[str, Any]]:
        """All whole lines but so many."""
        ends = [0, *self._now().ends]
        return [line for line, _ in _lines(self.folder / RECORDS, ends[count])] if count < len(ends) else []

    def delivered(self) -> dict[str, Any]:
        """What MLflow has: its ``run_id``, how many ``lines``, and the files that it has ``missed``."""
        try:
            done: dict[str, Any] = json.loads((self.folder / DELIVERED).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {"run_id": None, "lines": 0, "missed": []}
        return done

    def note_delivered(self, done: Mapping[str, Any]) -> None:
        """Keeps what ``delivered`` tells."""
        replace_text(self.folder / DELIVERED, json.dumps(done))

    def _append(self, kind: str, **values: Any) -> None:
        line = json.dumps({"kind": kind, "time": int(time.time() * 1000), **values})
        append_line(self.folder / RECORDS, line)


def _lines(path: Path, start: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """The whole lines from a byte on, each with the byte that it ends before."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            for content in file:
                if not content.endswith(b"\n"):
                    return  # it is being written
                start += len(content)
                yield json.loads(content), start
    except FileNotFoundError:
        return
