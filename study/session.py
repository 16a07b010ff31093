"""One session of a study or of a confirmation: from the start of Ray to the last record in MLflow."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import optuna
import ray
from mlflow.exceptions import MlflowException
from ray.tune import TuneError
from rich.console import Console

from study.backend.cluster import Slots, start_ray
from study.environment import environment
from study.messages import first_line
from study.options import RECORD
from study.search.run_search import Outcome, open_search, run_search
from study.setup.prepare import Preparation
from study.tracking.store import sweep
from study.tracking.upload import PATIENCE, Courier, deliver_all
from study.trial.event_log import Outbox

DELIVERY_SECONDS = 60.0


@dataclass(frozen=True)
class Ended:
    """How a session ended.

    Args:
        outcomes: Of the searches that were begun, in order.
        reason: Why it goes no further.
        complete: Whether all trials have ended.
        delivered: Whether all records are in MLflow.
    """

    outcomes: tuple[Outcome, ...]
    reason: str
    complete: bool
    delivered: bool


def quieten() -> None:
    """Leaves the terminal to the study's own progress; what matters still comes through."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Tune tells of interruptions and failures with tracebacks and ways to resume that are not this study's.
    for name, level in (("mlflow", logging.WARNING), ("alembic", logging.WARNING), ("ray.tune", logging.CRITICAL)):
        logging.getLogger(name).setLevel(level)
    # Slurm and Kubernetes end a job that has used up its time by SIGTERM; it means what Ctrl-C means.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def run_session(prepared: Preparation, console: Console, begin: Callable[[Slots], None]) -> Ended:
    """Runs all searches, as far as it gets, and brings the records home.

    Args:
        prepared: The study.
        console: Where what is missing is told.
        begin: Called once Ray is there; puts the study on record and announces it.

    Returns:
        How it ended.

    Raises:
        UserError: Ray or a node is not as it should be.
    """
    outcomes: list[Outcome] = []
    parents: list[str] = []
    options = prepared.options
    reason = "Interrupted."
    deadline = time.monotonic() + options.seconds
    try:
        slots = start_ray(prepared)
        # Only now: a study that could not begin must not take a name.
        options.write(prepared.folder, prepared.data)
        # All of them now: while trials run, the tracking server may go and come.
        parents = [open_search(prepared, job) for job in prepared.jobs]
        begin(slots)
        with environment(PATIENCE), closing(Courier(prepared.client)) as courier:
            for job, parent in zip(prepared.jobs, parents, strict=True):
                outcomes.append(run_search(prepared, job, parent, slots, courier, deadline))
                if outcomes[-1].interrupted:
                    break
    except KeyboardInterrupt:
        if not (prepared.folder / RECORD).exists():
            raise  # It had not begun; there is nothing to go on from.
    except (MlflowException, TuneError, OSError) as error:
        reason = f"Stopped: {first_line(error)}."
    finally:
        ray.shutdown()
    complete = len(outcomes) == len(prepared.jobs) and not outcomes[-1].interrupted
    if complete:
        reason = "All trials have ended, but not all of their records have arrived."
    elif outcomes and outcomes[-1].suspended:
        reason = f"Stopped: {outcomes[-1].suspended}."
    elif time.monotonic() >= deadline:
        reason = f"The time budget of {options.time_budget} is used up."
    try:
        with environment(PATIENCE):
            delivered = _deliver(prepared, outcomes, parents, console)
    except MlflowException as error:
        delivered = False
        reason = f"Stopped: the records are out of reach: {first_line(error)}."
    return Ended(tuple(outcomes), reason, complete, delivered)


def _deliver(prepared: Preparation, outcomes: list[Outcome], parents: list[str], console: Console) -> bool:
    """Brings MLflow up to date; returns whether it is."""
    folders = [folder for job in prepared.jobs for folder in sorted((prepared.folder / job.folder).glob("trial_*"))]
    left = deliver_all(folders, prepared.client, DELIVERY_SECONDS)

    def tell(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    for folder in folders:
        for missed in Outbox(folder).missed:
            tell(f"not uploaded: {missed}")
    if left:
        why = next(reason for reason in left.values() if reason)
        tell(f"The records of {len(left)} trials wait in {prepared.folder}: MLflow said: {why}")
        return False
    for outcome, parent in zip(outcomes, parents, strict=False):
        if not outcome.interrupted:
            prepared.client.set_terminated(parent, "FINISHED")
    sweep(prepared.client, prepared.experiment, str(prepared.options.name))
    return True
