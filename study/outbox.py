"""A trial's records: written to its folder first, delivered to MLflow from there, complete, in order, and once.

The folder is the truth. MLflow may be away for minutes or for the night: the records wait, and delivering the same
line twice changes nothing, since a point's time stamp is the line's own.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from study.files import append_line, drop_torn_lines, replace_text
from study.records import FAILED, FINISHED, KIND, SECONDS, SECONDS_SO_FAR, STOPPED, TRIAL, Tag
from study.tracking import find_run, first_line, identity, log_dataset, without_password

RECORDS, DELIVERED = "records.jsonl", "delivered.json"
STATUS = {FINISHED: "FINISHED", FAILED: "FAILED", STOPPED: "KILLED"}

RETRY_SECONDS = 5.0
PARAMS_AT_ONCE = 100
METRICS_AT_ONCE = 1000
UPLOAD_ATTEMPTS = 3

# Kinds of lines.
_RUN, _AGAIN, _EPOCH, _ARTIFACT, _END = "run", "again", "epoch", "artifact", "end"


@dataclass
class _Read:
    """What the lines that have been read come to.

    Args:
        ends: Where each line ends, in bytes.
        epoch: The last epoch.
        metrics: Of the last epoch.
        seconds: Of all epochs.
        fidelity: How the trial ended.
        artifacts: Files that belong to the records.
    """

    ends: list[int] = field(default_factory=list)
    epoch: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    fidelity: str | None = None
    artifacts: set[str] = field(default_factory=set)

    @property
    def end(self) -> int:
        """Bytes that have been read."""
        return self.ends[-1] if self.ends else 0

    def add(self, line: Mapping[str, Any], end: int) -> None:
        """Takes the next line."""
        if line["kind"] == _EPOCH:
            self.epoch = max(self.epoch, line["epoch"])
            self.metrics = line["metrics"]
            self.seconds += self.metrics.get(SECONDS, 0.0)
        elif line["kind"] == _ARTIFACT:
            self.artifacts.add(line["name"])
        elif line["kind"] in (_END, _AGAIN):
            self.fidelity = line.get("fidelity")
        self.ends.append(end)


class Outbox:
    """The records of one trial.

    Args:
        folder: The trial's folder, made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        drop_torn_lines(folder / RECORDS)
        # One delivery at a time in this process; between processes, twice is once.
        self._delivering = threading.Lock()
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
    def fidelity(self) -> str | None:
        """How the trial ended, None if it has not, or goes on again."""
        return self._now().fidelity

    @property
    def pending(self) -> int:
        """Lines that MLflow has not got."""
        return len(self._now().ends) - int(self._delivered()["lines"])

    @property
    def missed(self) -> list[str]:
        """Files that could not be uploaded, with the reason; they are in the trial's folder."""
        return list(self._delivered()["missed"])

    @property
    def run_id(self) -> str | None:
        """The trial's MLflow run, None before it is there."""
        run_id: str | None = self._delivered()["run_id"]
        return run_id

    def begin(
        self,
        experiment: str,
        parent: str,
        name: str,
        key: Mapping[str, str],
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        dataset: Dataset,
    ) -> None:
        """Notes that the trial begins, or goes on.

        Args:
            experiment: Experiment id.
            parent: The parent run's id.
            name: Shown in MLflow's UI.
            key: Tags that identify the trial.
            tags: All other tags.
            params: The configuration under dotted names.
            dataset: What is trained on.
        """
        if self._now().ends:
            self._append(_AGAIN)
            return
        self._append(
            _RUN,
            experiment=experiment,
            name=name,
            key={**key, KIND: TRIAL},
            tags={**tags, MLFLOW_PARENT_RUN_ID: parent},
            params={key: value if isinstance(value, str) else json.dumps(value) for key, value in params.items()},
            dataset=dataset.to_dictionary(),
        )

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Notes an epoch's metrics; an epoch that is on record is left as it is.

        The seconds of all epochs are added to them, so that a reader of thousands of trials needs no curves.
        """
        if epoch > self.last_epoch:
            metrics = dict(metrics)
            if SECONDS in metrics:
                metrics[SECONDS_SO_FAR] = self.seconds + metrics[SECONDS]
            self._append(_EPOCH, epoch=epoch, metrics=metrics)

    def artifact(self, name: str) -> None:
        """Notes, once, that a file of the trial's folder belongs to the records."""
        if name not in self._now().artifacts:
            self._append(_ARTIFACT, name=name)

    def end(self, fidelity: str, failure: str | None = None) -> None:
        """Notes how the trial ended.

        Args:
            fidelity: ``finished``, ``stopped`` or ``failed``.
            failure: The reason, for ``failed``.
        """
        if self.fidelity != fidelity:
            self._append(_END, fidelity=fidelity, failure=None if failure is None else without_password(failure))

    def deliver(self, client: MlflowClient) -> None:
        """Brings MLflow up to date.

        Raises:
            MlflowException: It cannot be reached, or refuses; what is left stays for the next time.
        """
        with self._delivering:
            done = self._delivered()
            lines = self._lines_after(done["lines"])
            while lines:
                line = lines[0]
                count = 1
                if line["kind"] == _RUN:
                    done["run_id"] = _create(client, line)
                elif line["kind"] == _EPOCH:
                    count = _log_epochs(client, done["run_id"], lines)
                elif line["kind"] == _ARTIFACT:
                    done["missed"] += _upload(client, done["run_id"], self.folder / line["name"])
                elif line["kind"] == _AGAIN:
                    _reopen(client, done["run_id"])
                else:
                    _close(client, done["run_id"], line)
                lines = lines[count:]
                done["lines"] += count
                replace_text(self.folder / DELIVERED, json.dumps(done))

    def _now(self) -> _Read:
        """What the lines come to; only those that are new, also from another process, are read."""
        with self._reading:
            for line, end in _lines(self.folder / RECORDS, self._read.end):
                self._read.add(line, end)
            return self._read

    def _lines_after(self, count: int) -> list[dict[str, Any]]:
        ends = [0, *self._now().ends]
        return [line for line, _ in _lines(self.folder / RECORDS, ends[count])] if count < len(ends) else []

    def _append(self, kind: str, **values: Any) -> None:
        line = json.dumps({"kind": kind, "time": int(time.time() * 1000), **values})
        append_line(self.folder / RECORDS, line)

    def _delivered(self) -> dict[str, Any]:
        try:
            done: dict[str, Any] = json.loads((self.folder / DELIVERED).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {"run_id": None, "lines": 0, "missed": []}
        return done


class Courier:
    """Delivers an outbox in a thread, so that training never waits for MLflow.

    Args:
        outbox: What is delivered.
        connect: Makes a client; called in the thread.
    """

    def __init__(self, outbox: Outbox, connect: Callable[[], MlflowClient]) -> None:
        self._outbox, self._connect = outbox, connect
        self._news, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def tell(self) -> None:
        """Says that there is something new."""
        self._news.set()

    def close(self, seconds: float) -> None:
        """Ends the thread once all is delivered, or after so many seconds; the rest is for the driver."""
        self._ending.set()
        self._news.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        client: MlflowClient | None = None
        while True:
            self._news.wait()
            self._news.clear()
            ending = self._ending.is_set()
            try:
                client = client or self._connect()
                self._outbox.deliver(client)
            except (MlflowException, OSError):
                # Away, or the disk is full. The records wait; the driver tells of what is left at the end.
                self._ending.wait(RETRY_SECONDS)
                self._news.set()
            if ending:
                return


def deliver_all(folders: Iterable[Path], client: MlflowClient, seconds: float) -> dict[Path, str]:
    """Delivers what waits in the folders of trials that have ended.

    Args:
        folders: The trials' folders.
        client: The store.
        seconds: How long to try while MLflow is away.

    Returns:
        Folders with records that still wait → why.
    """
    end = time.monotonic() + seconds
    left = dict.fromkeys(folders, "")
    while True:
        for folder in list(left):
            outbox = Outbox(folder)
            try:
                if outbox.pending:
                    outbox.deliver(client)
                del left[folder]
            except (MlflowException, OSError) as error:
                left[folder] = first_line(error)
                break  # the others would wait for the same server
        if not left or time.monotonic() >= end:
            return left
        time.sleep(min(RETRY_SECONDS, max(0.0, end - time.monotonic())))


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


def _create(client: MlflowClient, line: Mapping[str, Any]) -> str:
    """The trial's run: found by its key, since an answer may have been lost, or created."""
    run = find_run(client, line["experiment"], line["key"])
    if run is None:
        tags = {**line["tags"], **line["key"], **identity(line["name"])}
        run = client.create_run(line["experiment"], start_time=line["time"], tags=tags)
    run_id = str(run.info.run_id)
    params = [Param(key, value) for key, value in line["params"].items()]
    for begin in range(0, len(params), PARAMS_AT_ONCE):
        client.log_batch(run_id, params=params[begin : begin + PARAMS_AT_ONCE])
    log_dataset(client, run_id, Dataset(**line["dataset"]))
    return run_id


def _log_epochs(client: MlflowClient, run_id: str, lines: list[dict[str, Any]]) -> int:
    """Logs the epochs at the head of ``lines``, as many as one call takes; returns how many lines that were."""
    points: list[Metric] = []
    count = 0
    for line in lines:
        if line["kind"] != _EPOCH or (points and len(points) + len(line["metrics"]) > METRICS_AT_ONCE):
            break
        points += [Metric(key, value, line["time"], line["epoch"]) for key, value in line["metrics"].items()]
        count += 1
    client.log_batch(run_id, metrics=points)
    return count


def _upload(client: MlflowClient, run_id: str, path: Path) -> list[str]:
    """Uploads a file, in a few attempts; returns it with the reason if it cannot be had."""
    for attempt in range(1, UPLOAD_ATTEMPTS + 1):
        try:
            client.log_artifact(run_id, str(path))
        except Exception as error:  # each artifact store has errors of its own
            client.get_run(run_id)  # raises if the whole server is away, and then this waits with the rest
            if attempt == UPLOAD_ATTEMPTS:
                return [f"{path}: {first_line(error)}"]
            time.sleep(attempt)
        else:
            return []
    return []


def _reopen(client: MlflowClient, run_id: str) -> None:
    tags = client.get_run(run_id).data.tags
    client.update_run(run_id, RunStatus.to_string(RunStatus.RUNNING))
    for tag in (Tag.FIDELITY, Tag.FAILURE):
        if tag in tags:
            client.delete_tag(run_id, tag)


def _close(client: MlflowClient, run_id: str, line: Mapping[str, Any]) -> None:
    tags = {Tag.FIDELITY: line["fidelity"], Tag.FAILURE: line["failure"]}
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items() if value is not None])
    client.set_terminated(run_id, STATUS[line["fidelity"]], end_time=line["time"])
