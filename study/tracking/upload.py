"""Brings the event logs of trials to MLflow: complete, in order, and once per store.

The store itself says how much of a trial it has: a tag of the trial's run counts the delivered lines. So a study can
continue with another store, an emptied one, or one whose runs somebody has deleted: what a store lacks is delivered
again.
MLflow may be away for minutes or for the night. The records wait, and delivering the same line twice changes nothing,
since a point's time stamp is the line's own.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, Metric, Param, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ser.utils.errors import first_line
from study.schema import FAILED, FINISHED, KIND, STOPPED, TRIAL, Tag, run_name
from study.tracking.event_log import AGAIN, RUN, EventLog, ending
from study.tracking.store import find_run, identity, is_gone, log_dataset, quoted, search_all, shortened
from study.trial.specification import ARTIFACT, EPOCH, TAGS, trial_name

STATUS = {FINISHED: "FINISHED", FAILED: "FAILED", STOPPED: "KILLED"}

# Records wait on disk while the server is away; MLflow's own client would try for minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}

ROUND_SECONDS = 5.0
PARAMS_AT_ONCE = 100
METRICS_AT_ONCE = 1000
UPLOAD_ATTEMPTS = 3


@dataclass(frozen=True)
class SearchRuns:
    """Place of the runs of a search's trials.

    Args:
        experiment: MLflow experiment id.
        parent: The parent run's id.
        key: Tags that identify the runs of the search: study, space and noise level.
    """

    experiment: str
    parent: str
    key: Mapping[str, str]

    def trial_key(self, number: int) -> dict[str, str]:
        """Return the tags that identify the run of a trial."""
        return {**self.key, Tag.TRIAL: trial_name(number), KIND: TRIAL}


@dataclass
class Delivery:
    """State of one trial in a store.

    Args:
        number: Number of the trial.
        log: Its event log.
        search: Where its run belongs.
        run_id: Its run; None if the store has none.
        lines: Lines of the log that the store has.
        missed: Files that could not be uploaded, with the reason; they are in the trial's folder.
        retried: Whether the store still notes files of an earlier session that could not be uploaded.
    """

    number: int
    log: EventLog
    search: SearchRuns
    run_id: str | None = None
    lines: int = 0
    missed: list[str] = field(default_factory=list)
    retried: bool = False

    @property
    def pending(self) -> int:
        """Return the number of lines that the store lacks."""
        return len(self.log) - self.lines


def deliver(delivery: Delivery, client: MlflowClient) -> None:
    """Bring a store up to date with one trial.

    Args:
        delivery: The trial; what is delivered is noted in it, and in the store.
        client: The store; at a time one thread delivers a trial.

    Raises:
        MlflowException: It cannot be reached, or refuses; what is left stays for the next time.
    """
    try:
        _deliver(delivery, client)
    except MlflowException:
        if delivery.run_id is None or not is_gone(client, delivery.run_id):
            raise
        # Somebody has deleted the run. The study's folder decides what MLflow shows, so it gets another one.
        delivery.run_id, delivery.lines, delivery.missed, delivery.retried = None, 0, [], False
        _deliver(delivery, client)


def _deliver(delivery: Delivery, client: MlflowClient) -> None:
    lines, done, missed = delivery.log.lines(delivery.lines), delivery.lines, list(delivery.missed)
    while lines:
        line, count = lines[0], 1
        if line["kind"] == RUN:
            delivery.run_id = _create(client, delivery, line)
        run_id = str(delivery.run_id)
        if line["kind"] == EPOCH:
            count = _log_epochs(client, run_id, lines)
        elif line["kind"] == TAGS:
            client.log_batch(run_id, tags=[RunTag(*item) for item in line["tags"].items()], synchronous=True)
        elif line["kind"] == ARTIFACT:
            missed += _upload(client, run_id, delivery.log.folder / line["name"], line.get("digest"))
        elif line["kind"] == AGAIN:
            _reopen(client, run_id)
        elif line["kind"] != RUN:
            _close(client, run_id, line)
        lines = lines[count:]
        done += count
    # Noted in the store after it has them, whatever the settings of MLflow's client.
    if missed:
        client.set_tag(run_id, Tag.MISSED, shortened("; ".join(missed)), synchronous=True)
    elif delivery.retried:
        client.delete_tag(run_id, Tag.MISSED)
    client.set_tag(run_id, Tag.RECORDS, str(done), synchronous=True)
    delivery.lines, delivery.missed, delivery.retried = done, missed, False


class Courier:
    """Delivers the records of a session in a thread, so that nothing waits for MLflow.

    It goes its round every few seconds: one batch for several short epochs takes less of the processor, which the
    trials need, than one for each. Nothing that goes wrong with one trial's records stops another's.

    Args:
        client: The store.
    """

    def __init__(self, client: MlflowClient) -> None:
        self.client = client
        self._trials: list[Delivery] = []
        self._afterwards: list[Callable[[], None]] = []
        self._change = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Take over trials; their event logs may grow until the courier is closed."""
        with self._change:
            self._trials += deliveries

    def afterwards(self, task: Callable[[], None]) -> None:
        """Call a function once, when all that there is now is delivered; again after the next round if it raises.

        What the courier has not come to when it is closed is left out.
        """
        with self._change:
            self._afterwards.append(task)

    def close(self, seconds: float) -> tuple[dict[Path, str], list[str]]:
        """End the thread, and deliver what is left.

        Args:
            seconds: How long to try while MLflow is away.

        Returns:
            Folders of trials with records that still wait → why; and the files that could not be uploaded.
        """
        with self._change:
            self._ending = True
            self._change.notify()
        self._thread.join()
        end = time.monotonic() + seconds
        while (left := self._go_round()) and time.monotonic() < end:
            time.sleep(min(ROUND_SECONDS, max(0.0, end - time.monotonic())))
        return left, [text for one in self._trials for text in one.missed]

    def _work(self) -> None:
        ending = False
        while not ending:
            with self._change:
                ending = self._change.wait_for(lambda: self._ending, ROUND_SECONDS)
                tasks = list(self._afterwards)  # before the round, which may miss what comes while it runs
            if not ending and not self._go_round():
                self._call(tasks)

    def _call(self, tasks: Iterable[Callable[[], None]]) -> None:
        for task in tasks:
            with suppress(Exception):  # the store may be away; the end of the session reports what is missing then
                task()
                with self._change:
                    self._afterwards.remove(task)

    def _go_round(self) -> dict[Path, str]:
        """Deliver what there is; return the trials whose records wait, and why."""
        with self._change:
            trials = list(self._trials)
        left: dict[Path, str] = {}
        for number, delivery in enumerate(trials):
            if not delivery.pending:
                continue
            try:
                deliver(delivery, self.client)
            except Exception as error:  # whatever is wrong with this trial's records, others' are delivered
                left[delivery.log.folder] = first_line(error)
                if not _answers(self.client):
                    waiting = [other for other in trials[number:] if other.pending]
                    return left | {other.log.folder: first_line(error) for other in waiting}
        return left


def stored(client: MlflowClient, search: SearchRuns, logs: Mapping[int, EventLog]) -> list[Delivery]:
    """Return what a store has of the trials of a search, and correct where their runs are said to be.

    Args:
        client: The store.
        search: The search.
        logs: Event logs by number of the trial.

    Raises:
        MlflowException: The store cannot be reached.
    """
    query = " and ".join(f"tags.`{key}` = {quoted(value)}" for key, value in {**search.key, KIND: TRIAL}.items())
    runs = {run.data.tags[Tag.TRIAL]: run for run in search_all(client, [search.experiment], query)}
    deliveries = []
    for number, log in logs.items():
        delivery = Delivery(number, log, search)
        if (run := runs.get(trial_name(number))) is not None:
            delivery.run_id = str(run.info.run_id)
            delivery.retried = Tag.MISSED in run.data.tags
            # A file that could not be uploaded is tried again, with all the rest.
            delivery.lines = 0 if delivery.retried else min(int(run.data.tags.get(Tag.RECORDS, 0)), len(log))
            _place(client, run, {MLFLOW_PARENT_RUN_ID: search.parent, Tag.FOLDER: str(log.folder)})
        deliveries.append(delivery)
    return deliveries


def _place(client: MlflowClient, run: Run, tags: Mapping[str, str]) -> None:
    """Correct the tags of a run whose parent was created again, or whose study was moved."""
    for key, value in tags.items():
        if run.data.tags.get(key) != value:
            client.set_tag(run.info.run_id, key, value, synchronous=True)


def _answers(client: MlflowClient) -> bool:
    """Return whether the store is there."""
    try:
        client.search_experiments(max_results=1)
    except Exception:  # however it fails, it is no answer
        return False
    return True


def _create(client: MlflowClient, delivery: Delivery, line: Mapping[str, Any]) -> str:
    """Return the trial's run: found by its key, since an answer may have been lost, or created."""
    search, key = delivery.search, delivery.search.trial_key(delivery.number)
    run = find_run(client, search.experiment, key)
    if run is None:
        place = {MLFLOW_PARENT_RUN_ID: search.parent, Tag.FOLDER: str(delivery.log.folder)}
        tags = {**line["tags"], **key, **place, **identity(_run_name(delivery, line["tags"]))}
        run = client.create_run(search.experiment, start_time=line["time"], tags=tags)
    run_id = str(run.info.run_id)
    params = [Param(key, value) for key, value in line["params"].items()]
    for begin in range(0, len(params), PARAMS_AT_ONCE):
        client.log_batch(run_id, params=params[begin : begin + PARAMS_AT_ONCE], synchronous=True)
    log_dataset(client, run_id, Dataset(**line["dataset"]))
    return run_id


def _run_name(delivery: Delivery, tags: Mapping[str, str]) -> str:
    """Return the name of a trial's run: by its number; in a confirmation by candidate, fold and seed."""
    own = f"trial {trial_name(delivery.number)}"
    if Tag.CANDIDATE in tags:
        own = f"{tags[Tag.CANDIDATE]} fold {tags[Tag.FOLD]} seed {tags[Tag.SEED]}"
    key = delivery.search.key
    return run_name(key[Tag.SPACE], key[Tag.NOISE], key[Tag.STUDY], own)


def _log_epochs(client: MlflowClient, run_id: str, lines: list[dict[str, Any]]) -> int:
    """Log the epochs at the head of ``lines``, as many as one call takes; return how many lines that were."""
    points: list[Metric] = []
    count = 0
    for line in lines:
        if line["kind"] != EPOCH or (points and len(points) + len(line["metrics"]) > METRICS_AT_ONCE):
            break
        points += [Metric(key, value, line["time"], line["epoch"]) for key, value in line["metrics"].items()]
        count += 1
    client.log_batch(run_id, metrics=points, synchronous=True)
    return count


def _upload(client: MlflowClient, run_id: str, path: Path, digest: str | None) -> list[str]:
    """Upload a file, in a few attempts; return it with the reason if it cannot be had.

    Args:
        client: The store.
        run_id: The run.
        path: The file.
        digest: SHA-256 of what the trial wrote; None in logs of version 0.1.
    """
    for attempt in range(1, UPLOAD_ATTEMPTS + 1):
        try:
            if digest is not None and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                return [f"{path}: its content is not what the trial wrote"]
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
    for tag in (Tag.STATUS, Tag.OLD_STATUS, Tag.FAILURE):
        if tag in tags:
            client.delete_tag(run_id, tag)


def _close(client: MlflowClient, run_id: str, line: Mapping[str, Any]) -> None:
    status = ending(line)
    tags = {Tag.STATUS: status, Tag.FAILURE: line["failure"]}
    client.log_batch(
        run_id, tags=[RunTag(key, shortened(value)) for key, value in tags.items() if value], synchronous=True
    )
    client.set_terminated(run_id, STATUS[status], end_time=line["time"])
