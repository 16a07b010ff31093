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
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.search_space import IntersectionSearchSpace
from optuna.storages import JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ser.utils.errors import UserError
from ser.utils.hashing import derived_seed
from study.schema import FAILED, FINISHED, RUNNING, STOPPED, Selection
from study.search.journal_file import JournalFile
from study.setup.spaces import Space

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
        status: ``running`` (it may have been left unfinished), ``finished``, ``stopped`` or ``failed``.
        epochs: The last epoch that was reported.
        value: The selected score: the last epoch's of a finished trial, the last reported one of a stopped trial.
        failure: Why it failed; empty if it did not.
        final: Another attempt would fail for the same reason.
    """

    number: int
    configuration: Mapping[str, Any]
    status: str
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
        self._file = JournalFile(folder / JOURNAL)
        with self._noting():
            try:
                self._storage = JournalStorage(self._file)
                self._study = optuna.create_study(
                    storage=self._storage, study_name=STUDY, direction=direction, load_if_exists=True, pruner=pruner
                )
                found = self._study.get_trials(deepcopy=False)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{str(folder / JOURNAL)!r} is damaged ({error}). Restore it, or start a new study under another "
                    "--name."
                ) from error
            for trial in found:
                if trial.state is TrialState.RUNNING and CONFIGURATION not in trial.user_attrs:
                    # A kill cut its draw off. Samplers would take it for one that runs, for ever.
                    self._study.tell(trial.number, state=TrialState.FAIL)
        # Number → id of its newest Optuna trial; a second attempt at a failed one has a trial of its own.
        self._known = {
            trial.user_attrs[NUMBER]: trial._trial_id for trial in found if CONFIGURATION in trial.user_attrs
        }
        self._shared = IntersectionSearchSpace(include_pruned=True)

    def entries(self) -> list[Entry]:
        """Every trial, by number."""
        return [self._of(number) for number in sorted(self._known)]

    def draw(self) -> Entry:
        """A new configuration: the next published point, or what the sampler suggests."""
        number = len(self._known) + 1
        with self._noting():
            self._study.sampler = make_sampler(self._sampler, self._seed, number, self._shared)
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
        self._known[number] = trial._trial_id
        return self._of(number)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Notes an epoch's score; returns whether the pruner would stop the trial there."""
        frozen = self._frozen(number)
        if frozen.state is not TrialState.RUNNING or not math.isfinite(value):
            return False
        with self._noting():
            trial = optuna.trial.Trial(self._study, frozen._trial_id)
            if epoch not in frozen.intermediate_values:
                trial.report(value, epoch)
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
        with self._noting():
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
        self._known[number] = self._study.get_trials(deepcopy=False)[-1]._trial_id

    def stop(self, number: int) -> None:
        """Notes that the scheduler stopped a trial early."""
        frozen = self._frozen(number)
        if frozen.state is TrialState.RUNNING:
            with self._noting():
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
        with self._noting():
            trial = optuna.trial.Trial(self._study, frozen._trial_id)
            trial.set_user_attr(FAILURE, reason)
            trial.set_user_attr(FINAL, final)
            self._study.tell(frozen.number, state=TrialState.FAIL)

    @property
    def optuna_study(self) -> optuna.Study:
        """The Optuna study, for its visualisations; failed and stopped trials are FAIL and PRUNED there."""
        return self._study

    def _frozen(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._known[number])

    def _of(self, number: int) -> Entry:
        return _entry(self._frozen(number))

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """What is noted within is on disk at the end, after one wait for the disk."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
        self._file.sync()


def _entry(trial: FrozenTrial) -> Entry:
    attributes = trial.user_attrs
    return Entry(
        number=attributes[NUMBER],
        configuration=attributes[CONFIGURATION],
        status=_FIDELITY[trial.state],
        epochs=trial.last_step or 0,
        value=trial.value if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        failure=attributes.get(FAILURE, ""),
        final=attributes.get(FINAL, False),
    )


class _Tpe(optuna.samplers.TPESampler):
    """Optuna's TPE for one draw; what parameters all trials share is counted on from the draw before.

    Args:
        seed: Of the draw.
        shared: The search's; a new one goes through all trials first.
    """

    def __init__(self, seed: int, shared: IntersectionSearchSpace) -> None:
        # Trials that run are taken for bad ones, so that parallel draws spread.
        super().__init__(seed=seed, constant_liar=True)
        self._shared = shared

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that are drawn together."""
        found = self._shared.calculate(study)
        return {name: distribution for name, distribution in found.items() if not distribution.single()}


def make_sampler(name: str, seed: int, number: int, shared: IntersectionSearchSpace) -> optuna.samplers.BaseSampler:
    """An Optuna sampler for one draw.

    Args:
        name: ``tpe``, ``gp``, ``cmaes``, ``qmc`` or ``random``.
        seed: Of the search.
        number: Of the trial that is drawn.
        shared: The parameters that all trials have, pruned ones included; one object for all draws of a search.
    """
    draw = derived_seed(seed, "draw", number) % 2**32
    if name == "tpe":
        return _Tpe(draw, shared)
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
