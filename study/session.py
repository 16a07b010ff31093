"""One session of a study or of a confirmation: from the start of Ray to the last record in MLflow."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import optuna
import ray
from mlflow.exceptions import MlflowException
from ray.tune import TuneError
from rich.console import Console

from study.backend.cluster import start_ray
from study.backend.trial_resources import TrialResources
from study.console import say
from study.environment import environment
from study.messages import first_line
from study.options import RECORD
from study.search.run_search import Outcome, open_search, run_search
from study.setup.prepared_study import PreparedStudy
from study.tracking.store import sweep
from study.tracking.upload import PATIENCE, Courier, deliver_all
from study.trial.event_log import Outbox

DELIVERY_SECONDS = 60.0


@dataclass(frozen=True)
class Ended:
    """End of a session.

    Args:
        outcomes: Of the searches that were begun, in order.
        reason: Why it stopped.
        complete: Whether all trials have ended.
        delivered: Whether all records are in MLflow.
    """

    outcomes: tuple[Outcome, ...]
    reason: str
    complete: bool
    delivered: bool


@dataclass
class _Progress:
    """Progress of a session.

    Args:
        outcomes: Of the searches that were begun, in order.
        parents: Parent runs of all searches, once they are open.
        stopped: What stopped the session; empty if nothing did.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    stopped: str = ""


def quieten() -> None:
    """Leave the terminal to the study's own progress; warnings that matter still come through."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Tune reports interruptions and failures with tracebacks, and with ways to resume that are not this study's.
    for name, level in (("mlflow", logging.WARNING), ("alembic", logging.WARNING), ("ray.tune", logging.CRITICAL)):
        logging.getLogger(name).setLevel(level)
    treat_sigterm_as_interrupt()


def treat_sigterm_as_interrupt() -> None:
    """Let SIGTERM, by which Slurm and Kubernetes end a job whose time is used up, mean what Ctrl-C means."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def run_session(prepared: PreparedStudy, console: Console, begin: Callable[[TrialResources], None]) -> Ended:
    """Run all searches, as far as possible, and upload their records.

    Args:
        prepared: The study.
        console: Where missing records are reported.
        begin: Called once Ray is ready; records and announces the study.

    Returns:
        How it ended.

    Raises:
        UserError: Ray or a node cannot run trials.
        KeyboardInterrupt: Interrupted before the study had begun; there is nothing to resume.
    """
    deadline = time.monotonic() + prepared.options.seconds
    progress = _Progress()
    try:
        _run_searches(prepared, begin, deadline, progress)
    except KeyboardInterrupt:
        if not (prepared.folder / RECORD).exists():
            raise
        progress.stopped = "Interrupted."
    except (MlflowException, TuneError, OSError) as error:
        progress.stopped = f"Stopped: {first_line(error)}."
    finally:
        ray.shutdown()
    outcomes = progress.outcomes
    complete = len(outcomes) == len(prepared.searches) and not outcomes[-1].interrupted
    reason = _reason(progress, complete, deadline, prepared.options.time_budget)
    try:
        with environment(PATIENCE):
            delivered = _deliver(prepared, progress, console)
    except MlflowException as error:
        return Ended(tuple(outcomes), f"Stopped: MLflow does not answer: {first_line(error)}.", complete, False)
    return Ended(tuple(outcomes), reason, complete, delivered)


def _run_searches(
    prepared: PreparedStudy, begin: Callable[[TrialResources], None], deadline: float, progress: _Progress
) -> None:
    """Start Ray, open the searches, and run them one after the other."""
    resources = start_ray(prepared.options, [str(prepared.folder), str(prepared.data.store.path)])
    treat_sigterm_as_interrupt()  # again, because Ray sets a handler of its own
    # Only now: a study that could not begin must not take a name.
    prepared.options.write(prepared.data.digest, [store.path.name for store in prepared.data.stores.values()])
    # All of them now: while trials run, the tracking server may come and go.
    progress.parents = [open_search(prepared, search) for search in prepared.searches]
    begin(resources)
    with environment(PATIENCE), closing(Courier(prepared.records.client)) as courier:
        for search, parent in zip(prepared.searches, progress.parents, strict=True):
            progress.outcomes.append(run_search(prepared, search, parent, resources, courier, deadline))
            if progress.outcomes[-1].interrupted:
                return


def _reason(progress: _Progress, complete: bool, deadline: float, budget: str | None) -> str:
    """Return why a session stopped."""
    if complete:
        return "All trials have ended, but some of their records are not in MLflow yet."
    if progress.outcomes and progress.outcomes[-1].suspended:
        return f"Stopped: {progress.outcomes[-1].suspended}."
    if time.monotonic() >= deadline:
        return f"The time budget of {budget} is used up."
    return progress.stopped or "Interrupted."


def _deliver(prepared: PreparedStudy, progress: _Progress, console: Console) -> bool:
    """Upload what MLflow lacks, and close the runs; return whether MLflow has everything."""
    client = prepared.records.client
    folders = [
        folder for search in prepared.searches for folder in sorted((prepared.folder / search.folder).glob("trial_*"))
    ]
    left = deliver_all(folders, client, DELIVERY_SECONDS)
    for folder in folders:
        for missed in Outbox(folder).missed:
            say(console, f"not uploaded: {missed}")
    if left:
        why = next(reason for reason in left.values() if reason)
        say(console, f"The records of {len(left)} trials wait in {prepared.folder}, because MLflow refused them: {why}")
        return False
    for outcome, parent in zip(progress.outcomes, progress.parents, strict=False):
        if not outcome.interrupted:
            client.set_terminated(parent, "FINISHED")
    sweep(client, prepared.records.experiment, str(prepared.options.name))
    return True
