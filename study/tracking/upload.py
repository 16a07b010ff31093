"""Brings the records of trials from their folders to MLflow: complete, in order, and once.

MLflow may be away for minutes or for the night: the records wait, and delivering the same line twice changes nothing,
since a point's time stamp is the line's own. All of it happens in the study's own process; trials never see MLflow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from ray.tune import Callback
from ray.tune.experiment import Trial

from study.messages import first_line
from study.schema import FAILED, FINISHED, STOPPED, Tag
from study.tracking.store import find_run, identity, log_dataset
from study.trial.event_log import AGAIN, ARTIFACT, EPOCH, RUN, Outbox, ending
from study.trial.specification import TRIAL_KEY, trial_folder

STATUS = {FINISHED: "FINISHED", FAILED: "FAILED", STOPPED: "KILLED"}

# Records wait on disk while the server is away; MLflow's own client would try for minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}

ROUND_SECONDS = 5.0
PARAMS_AT_ONCE = 100
METRICS_AT_ONCE = 1000
UPLOAD_ATTEMPTS = 3


def deliver(outbox: Outbox, client: MlflowClient) -> None:
    """Brings MLflow up to date with one trial.

    Args:
        outbox: The trial's records.
        client: The store; at a time one thread delivers an outbox.

    Raises:
        MlflowException: It cannot be reached, or refuses; what is left stays for the next time.
    """
    done = outbox.delivered()
    lines = outbox.lines_after(done["lines"])
    while lines:
        line = lines[0]
        count = 1
        if line["kind"] == RUN:
            done["run_id"] = _create(client, line)
        elif line["kind"] == EPOCH:
            count = _log_epochs(client, done["run_id"], lines)
        elif line["kind"] == ARTIFACT:
            done["missed"] += _upload(client, done["run_id"], outbox.folder / line["name"])
        elif line["kind"] == AGAIN:
            _reopen(client, done["run_id"])
        else:
            _close(client, done["run_id"], line)
        lines = lines[count:]
        done["lines"] += count
        outbox.note_delivered(done)


class Courier:
    """Delivers the records of running trials in a thread, so that nothing waits for MLflow.

    It goes its round every few seconds: one batch for several short epochs takes less of the processor, which the
    trials need, than one for each.

    Args:
        client: The store.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        # Trials that have not ended, or not all of whose records are in MLflow.
        self._open: dict[Path, Outbox] = {}
        self._told: set[Path] = set()
        self._change = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def tell(self, folder: Path) -> None:
        """Says that a trial has something new, or is about to.

        Args:
            folder: The trial's.
        """
        with self._change:
            self._told.add(folder)

    def close(self) -> None:
        """Ends the thread once it has tried all; what is left is for ``deliver_all``."""
        with self._change:
            self._ending = True
            self._change.notify()
        self._thread.join()

    def _work(self) -> None:
        ending = False
        while not ending:
            with self._change:
                ending = self._change.wait_for(lambda: self._ending, ROUND_SECONDS)
                self._open |= {folder: Outbox(folder, mend=False) for folder in self._told - self._open.keys()}
                self._told.clear()
            self._go_round()

    def _go_round(self) -> None:
        """Delivers what there is, also of trials with no news: one that was stopped notes its end a little later."""
        for folder, outbox in list(self._open.items()):
            try:
                if outbox.pending:
                    deliver(outbox, self._client)
            except ValueError:
                continue  # a crash has left half a line, which the trial's next process cuts off
            except (MlflowException, OSError):  # the records wait, and what is left at the end is told
                if not _answers(self._client):
                    return
                continue  # it refuses these, or the disk is full; others do not wait for that
            if outbox.status is not None and not outbox.pending:
                del self._open[folder]


class Messenger(Callback):  # type: ignore[misc]
    """Tells the courier of a search's trials as Tune hears of them.

    Args:
        courier: Of the session.
        folder: The search's.
    """

    def __init__(self, courier: Courier, folder: Path) -> None:
        self._courier, self._folder = courier, folder

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks, which nobody reads here.

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Its records are about to begin."""
        self._tell(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """An epoch is on record."""
        self._tell(trial)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Its last epoch is on record."""
        self._tell(trial)

    def _tell(self, trial: Trial) -> None:
        self._courier.tell(trial_folder(self._folder, trial.config[TRIAL_KEY]))


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
                    deliver(outbox, client)
                del left[folder]
            except (MlflowException, OSError) as error:
                left[folder] = first_line(error)
                if not _answers(client):
                    break  # the others would wait for the same server
        if not left or time.monotonic() >= end:
            return left
        time.sleep(min(ROUND_SECONDS, max(0.0, end - time.monotonic())))


def _answers(client: MlflowClient) -> bool:
    """Whether the store is there."""
    try:
        client.search_experiments(max_results=1)
    except (MlflowException, OSError):
        return False
    return True


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
        if line["kind"] != EPOCH or (points and len(points) + len(line["metrics"]) > METRICS_AT_ONCE):
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
    for tag in (Tag.STATUS, Tag.OLD_STATUS, Tag.FAILURE):
        if tag in tags:
            client.delete_tag(run_id, tag)


def _close(client: MlflowClient, run_id: str, line: Mapping[str, Any]) -> None:
    status = ending(line)
    tags = {Tag.STATUS: status, Tag.FAILURE: line["failure"]}
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items() if value is not None])
    client.set_terminated(run_id, STATUS[status], end_time=line["time"])
