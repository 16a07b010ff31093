"""The journal of a search: which configurations were drawn, and what became of them, on disk before it counts.

The journal is an Optuna study in a file that is only ever appended to. Whatever kills the study, the next process reads
from it which trials there are; nothing of Tune's own state is needed, and no pickled object is read.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ser.errors import UserError
from ser.hashing import derived_seed
from study.files import drop_torn_line
from study.records import FAILED, FINISHED, RUNNING, STOPPED, Selection
from study.spaces import Space

JOURNAL = "journal.jsonl"
STUDY = "search"

# What an Optuna trial carries besides its parameters.
NUMBER, CONFIGURATION, FAILURE, FINAL = "trial", "configuration", "failure", "failure.final"

_FIDELITY = {
    TrialState.RUNNING: RUNNING,
    TrialState.COMPLETE: FINISHED,
    TrialState.PRUNED: STOPPED,
    TrialState.FAIL: FAILED,
}


@dataclass(frozen=True)
class Entry:
    """What the journal knows of a trial.

    Args:
        number: From 1.
        configuration: Dotted names, searched and constant.
        fidelity: ``running`` (it may have been left unfinished), ``finished``, ``stopped`` or ``failed``.
        epochs: The last epoch that was reported.
        value: The selected score: the last epoch's of a finished trial, the last reported one of a stopped trial.
        failure: Why it failed; empty if it did not.
        final: Another attempt would fail for the same reason.
    """

    number: int
    configuration: Mapping[str, Any]
    fidelity: str
    epochs: int
    value: float | None
    failure: str
    final: bool


class Journal:
    """The trials of one search, and the sampler and pruner that decide on them.

    Samplers keep no state here: each configuration's draw is seeded by (seed, its number), and what a sampler learns
    from is in the journal. So a search that was killed goes on as it would have, and a finished one can be extended.

    Args:
        folder: The search's folder; the journal is created there, or read.
        space: What is sampled from.
        selection: Direction of the score.
        seed: Of the sampler's draws.
        sampler: One of ``SAMPLERS``.
        pruner: Which trials are stopped early.
    """

    def __init__(
        self,
        folder: Path,
        space: Space,
        selection: Selection,
        seed: int,
        sampler: str = "tpe",
        pruner: optuna.pruners.BasePruner | None = None,
    ) -> None:
        self._space, self._seed, self._sampler = space, seed, sampler
        direction = StudyDirection.MAXIMIZE if selection.mode == "max" else StudyDirection.MINIMIZE
        pruner = pruner or optuna.pruners.NopPruner()
        with _quiet():
            try:
                storage = JournalStorage(_backend(folder / JOURNAL))
                self._study = optuna.create_study(
                    storage=storage, study_name=STUDY, direction=direction, load_if_exists=True, pruner=pruner
                )
                found = self._study.get_trials(deepcopy=False)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{str(folder / JOURNAL)!r} is damaged ({error}). Restore it, or start a new study under another "
                    "--name."
                ) from error
        # The newest Optuna trial of each number; a second attempt at a failed one has a trial of its own.
        self._known = {trial.user_attrs[NUMBER]: trial.number for trial in found if CONFIGURATION in trial.user_attrs}

    def entries(self) -> list[Entry]:
        """Every trial, by number."""
        trials = self._study.get_trials(deepcopy=False)
        return [_entry(trials[self._known[number]]) for number in sorted(self._known)]

    def draw(self) -> Entry:
        """A new configuration: the next published point, or what the sampler suggests."""
        number = len(self._known) + 1
        with _quiet():
            self._study.sampler = make_sampler(self._sampler, self._seed, number)
            if number <= len(self._space.points) and not self._study.get_trials(
                deepcopy=False, states=(TrialState.WAITING,)
            ):
                self._study.enqueue_trial(dict(self._space.points[number - 1]))
            if callable(self._space.domains):
                trial = self._study.ask()
                configuration = {**(self._space.domains(trial) or {}), **trial.params}
            else:
                trial = self._study.ask(dict(self._space.domains))
                configuration = dict(trial.params)
        trial.set_user_attr(NUMBER, number)
        # Only with this does the trial count: a draw that a kill cuts off is drawn again.
        trial.set_user_attr(CONFIGURATION, {**configuration, **self._space.constants})
        self._known[number] = trial.number
        return self._of(number)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Notes an epoch's score; returns whether the pruner would stop the trial there."""
        frozen = self._frozen(number)
        if frozen.state is not TrialState.RUNNING or not math.isfinite(value):
            return False
        trial = optuna.trial.Trial(self._study, frozen._trial_id)
        if epoch not in frozen.intermediate_values:
            trial.report(value, epoch)
        with _quiet():
            return trial.should_prune()

    def finish(self, number: int, epoch: int, value: float) -> None:
        """Notes that a trial trained to its last epoch.

        Args:
            number: The trial.
            epoch: The last one.
            value: The selected score, finite.
        """
        self.report(number, epoch, value)
        frozen = self._frozen(number)
        with _quiet():
            if frozen.state is TrialState.RUNNING:
                self._study.tell(frozen.number, value)
                return
            # It failed in an earlier session, and Optuna reopens no trial.
            self._study.add_trial(
                optuna.create_trial(
                    params=frozen.params,
                    distributions=frozen.distributions,
                    value=value,
                    intermediate_values={epoch: value},
                    user_attrs={key: frozen.user_attrs[key] for key in (NUMBER, CONFIGURATION)},
                )
            )
        self._known[number] = len(self._study.get_trials(deepcopy=False)) - 1

    def stop(self, number: int) -> None:
        """Notes that the scheduler stopped a trial early."""
        frozen = self._frozen(number)
        if frozen.state is TrialState.RUNNING:
            with _quiet():
                self._study.tell(frozen.number, state=TrialState.PRUNED)

    def fail(self, number: int, reason: str, *, final: bool) -> None:
        """Notes that a trial failed.

        Args:
            number: The trial.
            reason: Why.
            final: Another attempt would fail for the same reason.
        """
        frozen = self._frozen(number)
        if frozen.state is not TrialState.RUNNING:
            return
        trial = optuna.trial.Trial(self._study, frozen._trial_id)
        trial.set_user_attr(FAILURE, reason)
        trial.set_user_attr(FINAL, final)
        with _quiet():
            self._study.tell(frozen.number, state=TrialState.FAIL)

    @property
    def optuna_study(self) -> optuna.Study:
        """The Optuna study, for its visualisations; failed and stopped trials are FAIL and PRUNED there."""
        return self._study

    def _frozen(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[self._known[number]]

    def _of(self, number: int) -> Entry:
        return _entry(self._frozen(number))


def _entry(trial: FrozenTrial) -> Entry:
    attributes = trial.user_attrs
    return Entry(
        number=attributes[NUMBER],
        configuration=attributes[CONFIGURATION],
        fidelity=_FIDELITY[trial.state],
        epochs=trial.last_step or 0,
        value=trial.value if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        failure=attributes.get(FAILURE, ""),
        final=attributes.get(FINAL, False),
    )


def make_sampler(name: str, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """An Optuna sampler for one draw.

    Args:
        name: ``tpe``, ``gp``, ``cmaes``, ``qmc`` or ``random``.
        seed: Of the search.
        number: Of the trial that is drawn.
    """
    draw = derived_seed(seed, "draw", number) % 2**32
    if name == "tpe":
        # Trials that run are taken for bad ones, so that parallel draws spread.
        return optuna.samplers.TPESampler(seed=draw, constant_liar=True)
    if name == "gp":
        return optuna.samplers.GPSampler(seed=draw)
    if name == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=draw, warn_independent_sampling=False)
    if name == "qmc":
        # One sequence for all draws; the journal knows how far it has come.
        return optuna.samplers.QMCSampler(
            seed=derived_seed(seed, "sequence") % 2**32, scramble=True, warn_independent_sampling=False
        )
    return optuna.samplers.RandomSampler(seed=draw)


def _backend(path: Path) -> JournalFileBackend:
    """The journal's file, without what a kill or a power loss left: half a line, and the lock of the process before.

    The caller holds the study's own lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for lock in path.parent.glob(f"{path.name}.lock*"):
        lock.unlink()
    drop_torn_line(path)
    return JournalFileBackend(str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
