"""One session of a study or of a confirmation: from the start of Ray to the last record in MLflow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial

import optuna
from mlflow.exceptions import MlflowException
from ray.tune import TuneError
from rich.console import Console

from ser.utils.command_line import treat_signals_as_interrupt
from ser.utils.errors import UserError, first_line, log_unexpected
from study.backend.cluster import start_ray
from study.backend.local import lost_ray, stop_ray
from study.backend.trial_resources import TrialResources
from study.console import say
from study.environment import environment
from study.options import RECORD
from study.schema import FAILED, FINISHED, STOPPED
from study.search.arithmetic import earlier_arithmetic, without_networks
from study.search.gpu_demand import gpu_demand
from study.search.journal import DASHBOARD, write_for_dashboard
from study.search.parents import about_study, close_runs, complete_parent
from study.search.progress import WholeStudy
from study.search.run_search import Outcome, open_journal, open_logs, open_search, run_search
from study.setup.prepared_study import PreparedStudy
from study.tracking.store import repeat_if_deleted
from study.tracking.summary.write import describe_experiment
from study.tracking.ui.views import save_view
from study.tracking.upload import PATIENCE, Courier

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
        courier: Delivers the records, once trials can have any.
        stopped: What stopped the session; empty if nothing did.
        patience: Leaves MLflow's client with little patience while records are delivered.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    courier: Courier | None = None
    stopped: str = ""
    patience: ExitStack = field(default_factory=ExitStack)


def quieten() -> None:
    """Leave the terminal to the study's own progress; warnings that matter still come through."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Tune reports interruptions and failures with tracebacks, and with ways to resume that are not this study's.
    for name, level in (("mlflow", logging.WARNING), ("alembic", logging.WARNING), ("ray.tune", logging.CRITICAL)):
        logging.getLogger(name).setLevel(level)
    # A store that does not answer is reported once, at the end, if records still wait then.
    logging.getLogger("mlflow.store").setLevel(logging.CRITICAL)


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
    with progress.patience:
        try:
            _run_searches(prepared, console, begin, deadline, progress)
        except KeyboardInterrupt:
            if not (prepared.folder / RECORD).exists():
                raise
            progress.stopped = "Interrupted."
        except UserError:
            with suppress(Exception):  # the mistake is reported, whatever the store does
                _deliver(prepared, progress, console)
            raise
        except Exception as error:
            if not (prepared.folder / RECORD).exists():
                raise
            progress.stopped = f"Stopped: {first_line(error)}."
            if not isinstance(error, (MlflowException, TuneError, OSError)):
                progress.stopped += f" The traceback is in {log_unexpected(error, prepared.folder)}."
        finally:
            stop_ray()
            prepared.release()  # if it has not begun
        outcomes = progress.outcomes
        complete = len(outcomes) == len(prepared.searches) and not outcomes[-1].interrupted
        reason = _reason(progress, complete, deadline, prepared.options.time_budget)
        try:
            delivered = _deliver(prepared, progress, console)
        except Exception as error:  # each store has errors of its own
            reason, delivered = f"Stopped: MLflow does not take the records: {first_line(error)}.", False
        _write_for_dashboard(prepared, console)
    return Ended(tuple(outcomes), reason, complete, delivered)


def _run_searches(
    prepared: PreparedStudy,
    console: Console,
    begin: Callable[[TrialResources], None],
    deadline: float,
    progress: _Progress,
) -> None:
    """Start Ray, open the searches, and run them one after the other."""
    folders = [str(prepared.folder), str(prepared.data.store.path)]
    options, searches = prepared.options, prepared.searches
    resources = start_ray(options, folders, gpu_demand(searches, options))
    resources = without_networks(resources, searches, options)
    treat_signals_as_interrupt()  # again, because Ray sets a handler of its own
    # Only now: a study that could not begin must not take a name.
    stores = [store.path.name for store in prepared.data.all_stores]
    prepared.options.write(prepared.data.digest, stores, prepared.spaces, prepared.data.audio_digest)
    # All of them now: while trials run, the tracking server may come and go.
    progress.parents = [repeat_if_deleted(partial(open_search, prepared, search)) for search in prepared.searches]
    describe_experiment(prepared.records.client, prepared.records.experiment)
    save_view(prepared.records.client, prepared.records.experiment)
    begin(resources)
    progress.patience.enter_context(environment(PATIENCE))  # to the end of the session
    progress.courier = Courier(prepared.records.client)
    opened = list(zip(prepared.searches, progress.parents, strict=True))
    journals = [open_journal(prepared, search) for search in prepared.searches]
    logs = [open_logs(prepared, search, parent, resources, progress.courier) for search, parent in opened]
    if lacking := sum(repeat_if_deleted(own.deliver) for own in logs):
        say(console, f"  resumed   the store lacks records of {lacking} trials, which are delivered now")
    for warning in (resources.warning, earlier_arithmetic(resources, searches, logs, options)):
        if warning:
            say(console, f"  warning: {warning}")
    left_out: set[str] = set()
    about = about_study(prepared)
    whole = WholeStudy(
        [search.trials(prepared.options) for search in prepared.searches],
        [sum(entry.status in (FINISHED, STOPPED, FAILED) for entry in journal.entries()) for journal in journals],
        prepared.epochs,
        is_confirmation=prepared.design is not None,
    )
    for search, journal, own in zip(prepared.searches, journals, logs, strict=True):
        progress.outcomes.append(run_search(prepared, search, journal, own, resources, deadline, left_out, whole))
        if progress.outcomes[-1].interrupted:
            return
        progress.courier.afterwards(partial(complete_parent, prepared, search, about))


def _write_for_dashboard(prepared: PreparedStudy, console: Console) -> None:
    """Write the file for optuna-dashboard; the trials of a confirmation are no searches."""
    if prepared.design is not None:
        return
    try:
        write_for_dashboard(
            prepared.folder, {search.title: prepared.folder / search.folder for search in prepared.searches}
        )
    except Exception as error:  # the study has everything without it
        say(console, f"{prepared.folder / DASHBOARD} for optuna-dashboard could not be written: {first_line(error)}")


def _reason(progress: _Progress, complete: bool, deadline: float, budget: str | None) -> str:
    """Return why a session stopped."""
    if complete:
        return "All trials have ended, but some of their records are not in MLflow yet."
    if lost := lost_ray():
        return lost
    if progress.outcomes and progress.outcomes[-1].suspended:
        return f"Stopped: {progress.outcomes[-1].suspended}."
    if time.monotonic() >= deadline:
        return f"The time budget of {budget} is used up."
    return progress.stopped or "Interrupted."


def _deliver(prepared: PreparedStudy, progress: _Progress, console: Console) -> bool:
    """Upload what MLflow lacks, and close the runs; return whether MLflow has everything."""
    if progress.courier is not None:
        left, missed = progress.courier.close(DELIVERY_SECONDS)
        for text in missed:
            say(console, f"not uploaded, and tried again at the next --resume: {text}")
        if left:
            why = next(iter(left.values()))
            say(
                console,
                f"The records of {len(left)} trials wait in {prepared.folder}; MLflow has not taken them: {why}",
            )
            return False
    complete = [not outcome.interrupted for outcome in progress.outcomes]
    repeat_if_deleted(partial(close_runs, prepared, progress.parents, complete))
    return True
