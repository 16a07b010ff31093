"""Context of a trial for tests, and a study's process without Ray that runs trials in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlflow import MlflowClient
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from ser.training.task import Task
from study.schema import SELECTIONS, Tag
from study.search.attempts import Attempts
from study.search.journal import Journal
from study.search.kept_networks import KeptNetworks
from study.search.searcher import StudyScheduler, StudySearch
from study.search.trial_logs import TrialLogs, read_logs
from study.setup.spaces import load_space
from study.tracking.event_log import EventLog
from study.tracking.upload import Delivery, SearchRuns, deliver, stored
from study.trial.ended import Saver
from study.trial.specification import DEVICE, TrialContext
from study.trial.trainable import Attempt

EPOCHS = 3
DEFAULTS = {
    "model.width": 0.03,
    "training.epochs": EPOCHS,
    "training.crop_seconds": 0.5,
    "training.batch_size": 8,
    "training.precision": "float32",
}
PARAMETERS = {"loss.name": "cross_entropy", "optimizer.lr": 1e-3, "optimizer.weight_decay": 0.01}
CONFIGURATION = {"trial": 1, "attempt": 1, **PARAMETERS}
DATASET = {"name": "d", "digest": "digest", "source_type": "local", "source": "{}", "schema": None, "profile": None}
SPACE = "cross_entropy"


class Killed(BaseException):
    """End of a process as by SIGKILL, which no code handles."""


def make_context(task: Task, folder: Path, defaults: Mapping[str, Any] = DEFAULTS) -> TrialContext:
    """Return the context of a search's trials, whose folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    return TrialContext(
        task=task, defaults=defaults, seed=0, threads=1, device="cpu", objective="val_noisy/uar", folder=folder
    )


def runs_of(experiment: str, study: str, parent: str = "parent") -> SearchRuns:
    """Return where the runs of a study's one search belong."""
    key = {Tag.STUDY: study, Tag.SPACE: SPACE, Tag.NOISE: "noisy-A"}
    return SearchRuns(experiment, parent, key)


def deliver_all(folder: Path, runs: SearchRuns, client: MlflowClient) -> list[Delivery]:
    """Deliver what a store lacks of a search, as another process does after a kill."""
    deliveries = stored(client, runs, read_logs(folder))
    for one in deliveries:
        if one.pending:
            deliver(one, client)
    return deliveries


class Driver:
    """Study's process without Ray: journal, searcher and event logs are real, attempts run in this process.

    Args:
        context: Context of the trials.
        trials: Number of trials.
        parameters: Parameters of all trials.
        device: Called with the number of a trial; returns the device that it gets, for searches on several.
        attempts: Account of processes that died.
    """

    def __init__(
        self,
        context: TrialContext,
        trials: int = 1,
        parameters: Mapping[str, Any] = PARAMETERS,
        device: Callable[[int], str] | None = None,
        attempts: Attempts | None = None,
    ) -> None:
        self.context, self.device, self.said = context, device, list[str]()
        self.journal = Journal(context.folder, load_space(SPACE, parameters), SELECTIONS["noisy"], 0)
        courier: Any = SimpleNamespace(client=None, add=lambda deliveries: None)
        self.logs = TrialLogs(context, {Tag.SEED: "0"}, DATASET, runs_of("0", "driver"), courier)
        self.networks = KeptNetworks(context.folder, self.journal, SELECTIONS["noisy"], context.keep)
        self.search = StudySearch(
            self.journal, self.logs, SELECTIONS["noisy"], trials, 1, attempts=attempts, say=self.said.append,
            networks=self.networks,
        )  # fmt: skip
        self._saver = Saver()
        self._scheduler = StudyScheduler(self.search)
        self._begun = 0
        self._over = False

    def run(self, epochs: int | None = None) -> list[dict[str, Any]]:
        """Run the search to its end, or some epochs far as before a kill; return the trials' results."""
        results: list[dict[str, Any]] = []
        while (configuration := self._suggest()) is not None:
            attempt = Attempt(configuration, self.context, self._saver)
            while (result := self._step(attempt)) is not None:
                if DEVICE not in result:
                    results.append(result)
                    if len(results) == epochs:
                        return results
        self._saver.end()
        self.networks.remove_unkept()
        return results

    def _suggest(self) -> dict[str, Any] | None:
        self._begun, self._over = self._begun + 1, False
        found = self.search.suggest(str(self._begun))
        assert isinstance(found, dict) or found == Searcher.FINISHED
        return found if isinstance(found, dict) else None

    def _step(self, attempt: Attempt) -> dict[str, Any] | None:
        """Step an attempt, and hand its result over as Tune does; return it, None after the last one."""
        name = str(self._begun)
        if self._over:
            return None
        try:
            result = attempt.step()
        except Exception as error:
            attempt.close()
            self.search.note_error(name, error)
            self.search.on_trial_complete(name, error=True)
            return None
        if DEVICE in result and self.device is not None:
            result[DEVICE] = self.device(attempt.number)
        decision = TrialScheduler.STOP
        if not result["done"]:
            decision = self._scheduler.on_trial_result(None, SimpleNamespace(trial_id=name), result)
        if decision == TrialScheduler.STOP:
            attempt.close(stopped=True)
            self.search.on_trial_complete(name, result)
        self._over = decision != TrialScheduler.CONTINUE
        return result


def log_of(context: TrialContext, number: int = 1) -> EventLog:
    """Return the event log of a trial."""
    return read_logs(context.folder)[number]


def losses(context: TrialContext, number: int = 1) -> list[float]:
    """Return the training losses on record of a trial."""
    return [line["metrics"]["train/loss"] for line in log_of(context, number).lines() if line["kind"] == "epoch"]
