"""The journal of a search: its suggested configurations and their outcomes, on disk before they count.

The journal is an Optuna study in a file that is only ever appended to. Whatever kills the study, the next process reads
its trials from there; it needs none of Tune's own state and loads no pickled object.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.search_space import IntersectionSearchSpace
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ser.config import stored
from ser.utils.durable_files import drop_torn_lines
from ser.utils.errors import UserError
from ser.utils.hashing import derived_seed
from study.schema import FAILED, FINISHED, RUNNING, STOPPED, Selection
from study.setup.space_rules import describe_range
from study.setup.spaces import Space, SuggestionError

JOURNAL = "journal.jsonl"
STUDY = "search"

DASHBOARD = "optuna.journal"
"""File in a study's folder with all of its searches under their names, for optuna-dashboard."""

# User attributes of an Optuna trial.
NUMBER, CONFIGURATION, FAILURE, FINAL = "trial", "configuration", "failure", "failure.final"

_STATUS = {
    TrialState.RUNNING: RUNNING,
    TrialState.COMPLETE: FINISHED,
    TrialState.PRUNED: STOPPED,
    TrialState.FAIL: FAILED,
}


@dataclass(frozen=True)
class Entry:
    """A trial as recorded in the journal.

    Args:
        number: Number of the trial, from 1.
        configuration: Searched and constant parameters by dotted name.
        status: ``running`` (also if its process was killed), ``finished``, ``stopped`` or ``failed``.
        epochs: Last reported epoch, 0 if none was.
        value: Selection score: of the last epoch if finished, last reported one if stopped, else None.
        failure: Reason of a failure, else empty.
        final: Whether another attempt would fail for the same reason.
    """

    number: int
    configuration: Mapping[str, Any]
    status: str
    epochs: int
    value: float | None
    failure: str
    final: bool


class Journal:
    """The trials of one search, with the sampler and the pruner that decide on them.

    Samplers keep no state in memory: the suggestion of a trial is seeded by (seed, number of the trial), and what a
    sampler learns from is in the journal. A killed search therefore continues with the same suggestions, and a finished
    one can be extended.

    Args:
        folder: Folder of the search, locked by the caller; the journal in it is created or read.
        space: Search space.
        selection: Score that the search maximises or minimises.
        seed: Seed of the suggestions.
        sampler: One of ``study.options.Sampler``.
        pruner: Pruner that stops trials early; None stops none.

    Raises:
        UserError: The journal is damaged, or the choices of its trials are not those of the space.
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
        self._shared = IntersectionSearchSpace(include_pruned=True)
        path = folder / JOURNAL
        try:
            self._storage = _open_storage(path)
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=STUDY,
                direction=StudyDirection.MAXIMIZE if selection.mode == "max" else StudyDirection.MINIMIZE,
                load_if_exists=True,
                pruner=pruner or optuna.pruners.NopPruner(),
            )
            self._study_id = self._storage.get_study_id_from_name(STUDY)
            trials = self._study.get_trials(deepcopy=False)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{str(path)!r} is damaged ({error}). Restore it, or start a new study under another --name."
            ) from error
        for trial in trials:
            if trial.state is TrialState.RUNNING and (
                CONFIGURATION not in trial.user_attrs or FINAL in trial.user_attrs
            ):
                # A kill interrupted its suggestion, or the record of its failure; samplers would count it as running
                # for ever.
                self._study.tell(trial.number, state=TrialState.FAIL)
        # Trial → its newest Optuna trial; a second attempt at a failed trial is an Optuna trial of its own.
        self._optuna_numbers = {
            trial.user_attrs[NUMBER]: trial.number for trial in trials if CONFIGURATION in trial.user_attrs
        }
        _check_distributions(path, space, trials)

    def entries(self) -> list[Entry]:
        """Return all trials, sorted by number."""
        trials = self._study.get_trials(deepcopy=False)
        return [_entry(trials[self._optuna_numbers[number]]) for number in sorted(self._optuna_numbers)]

    def suggest(self) -> Entry:
        """Add a trial with the next published configuration, or with one that the sampler suggests.

        Returns:
            The trial; one for which the function of the space raised has failed for good.
        """
        number = len(self._optuna_numbers) + 1
        points = self._space.points_to_evaluate
        self._study.sampler = make_sampler(self._sampler, self._seed, number, self._shared)
        if number <= len(points) and not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.enqueue_trial(dict(points[number - 1]))
        configuration: dict[str, Any] = {}
        failure = ""
        try:
            rest = make_sampler("random", self._seed, number, self._shared)
            trial, configuration = self._space.ask(self._study, rest)
        except SuggestionError as error:
            trial, failure = error.trial, str(error)
            trial.set_user_attr(FAILURE, failure)
            trial.set_user_attr(FINAL, True)
        trial.set_user_attr(NUMBER, number)
        # The trial counts from this attribute on; a suggestion that a kill interrupts before it is repeated.
        trial.set_user_attr(CONFIGURATION, configuration)
        self._optuna_numbers[number] = trial.number
        if failure:
            self._study.tell(trial, state=TrialState.FAIL)
        return _entry(self._frozen(number))

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Record the score of an epoch, and return whether the pruner stops the trial there.

        Args:
            number: Number of the trial.
            epoch: The epoch, from 1.
            value: Selection score; one that is not finite is not recorded.
        """
        frozen = self._frozen(number)
        if frozen.state is not TrialState.RUNNING or not math.isfinite(value):
            return False
        trial = self._trial(number)
        if epoch not in frozen.intermediate_values:
            trial.report(value, epoch)
        return trial.should_prune()

    def finish(self, number: int, epoch: int, value: float) -> None:
        """Record that a trial trained to its last epoch.

        Args:
            number: Number of the trial.
            epoch: The last epoch.
            value: Selection score, finite.
        """
        self.report(number, epoch, value)
        frozen = self._frozen(number)
        if frozen.state is TrialState.RUNNING:
            self._study.tell(frozen.number, value)
            return
        self._add_again(frozen, TrialState.COMPLETE, value, {epoch: value})

    def stop(self, number: int) -> None:
        """Record that the pruner stopped a trial."""
        frozen = self._frozen(number)
        if frozen.state is TrialState.RUNNING:
            self._study.tell(frozen.number, state=TrialState.PRUNED)

    def fail(self, number: int, reason: str, *, final: bool) -> None:
        """Record that a trial failed.

        Args:
            number: Number of the trial.
            reason: Reason of the failure.
            final: Whether another attempt would fail for the same reason.
        """
        frozen = self._frozen(number)
        if frozen.state is TrialState.RUNNING:
            trial = self._trial(number)
            trial.set_user_attr(FAILURE, reason)
            trial.set_user_attr(FINAL, final)
            self._study.tell(frozen.number, state=TrialState.FAIL)
        elif frozen.state is TrialState.FAIL:
            self._add_again(frozen, TrialState.FAIL, None, frozen.intermediate_values, {FAILURE: reason, FINAL: final})

    def _add_again(
        self,
        frozen: FrozenTrial,
        state: TrialState,
        value: float | None,
        values: Mapping[int, float],
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Add the end of a trial that has failed in an earlier session, because Optuna cannot reopen it."""
        own = {key: frozen.user_attrs[key] for key in (NUMBER, CONFIGURATION)}
        self._study.add_trial(
            optuna.create_trial(
                state=state,
                params=frozen.params,
                distributions=frozen.distributions,
                value=value,
                intermediate_values=dict(values),
                user_attrs={**own, **(attributes or {})},
            )
        )
        self._optuna_numbers[own[NUMBER]] = self._study.get_trials(deepcopy=False)[-1].number

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, self._optuna_numbers[number])

    def _frozen(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._id(number))

    def _trial(self, number: int) -> optuna.Trial:
        return optuna.Trial(self._study, self._id(number))


def write_for_dashboard(folder: Path, searches: Mapping[str, Path]) -> None:
    """Write the trials of all searches of a study to one file, from which no study resumes.

    Args:
        folder: Folder of the study, locked by the caller; the file replaces the one of an earlier session.
        searches: Name that the dashboard shows → folder of the search.

    Raises:
        OSError: The file cannot be written.
    """
    making = folder / f"{DASHBOARD}.making"
    making.unlink(missing_ok=True)  # after a kill
    storage = _open_storage(making)
    for name, search in searches.items():
        if (search / JOURNAL).exists():
            own = _open_storage(search / JOURNAL)
            optuna.copy_study(from_study_name=STUDY, from_storage=own, to_storage=storage, to_study_name=name)
    making.replace(folder / DASHBOARD)


class _NoLock(JournalFileOpenLock):
    """Lock that is always free: the study's folder is locked as a whole, and a lock file would outlive a kill."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class _JournalFile(JournalFileBackend):
    """Optuna's journal file without half a line at its end where the disk is full."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _NoLock(str(path)))
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError:
            drop_torn_lines(self._path)
            raise


def _open_storage(path: Path) -> JournalStorage:
    path.parent.mkdir(parents=True, exist_ok=True)
    drop_torn_lines(path)
    return JournalStorage(_JournalFile(path))


def _check_distributions(path: Path, space: Space, trials: Iterable[FrozenTrial]) -> None:
    """Raise if Optuna cannot continue with a parameter: other choices, another type or scale than in earlier trials."""
    earlier = {key: found for trial in trials for key, found in trial.distributions.items()}
    for key, now in space.distributions().items() if earlier else ():
        before = earlier.get(key, now)
        same_kind = type(before) is type(now) and getattr(before, "log", None) == getattr(now, "log", None)
        if not same_kind or (isinstance(now, CategoricalDistribution) and before != now):
            raise UserError(
                f"space {space.name!r}: {key} is {describe_range(now)}, but {describe_range(before)} in the trials so "
                f"far ({str(path)!r}). Restore the file of the space, or start a new study under another --name."
            )


def _entry(trial: FrozenTrial) -> Entry:
    attributes = trial.user_attrs
    return Entry(
        number=attributes[NUMBER],
        configuration=stored(attributes[CONFIGURATION]),
        status=_STATUS[trial.state],
        epochs=trial.last_step or 0,
        value=trial.value if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        failure=attributes.get(FAILURE, ""),
        final=attributes.get(FINAL, False),
    )


class _Tpe(optuna.samplers.TPESampler):
    """Optuna's TPE for one suggestion, which resumes from the parameters that all earlier trials share.

    Args:
        seed: Seed of the suggestion.
        shared: Object that finds the shared parameters; a new one would go through all trials again.
    """

    def __init__(self, seed: int, shared: IntersectionSearchSpace) -> None:
        # Running trials count as bad ones, so that parallel suggestions spread.
        super().__init__(seed=seed, constant_liar=True)
        self._shared = shared

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are sampled jointly, with their distributions."""
        found = self._shared.calculate(study)
        return {name: distribution for name, distribution in found.items() if not distribution.single()}


def make_sampler(name: str, seed: int, number: int, shared: IntersectionSearchSpace) -> optuna.samplers.BaseSampler:
    """Return an Optuna sampler for one suggestion.

    Args:
        name: ``tpe``, ``gp``, ``cmaes``, ``qmc`` or ``random``.
        seed: Seed of the search.
        number: Number of the trial that is suggested.
        shared: Object that finds the parameters that all trials have, pruned ones included; one for all suggestions of
            a search.
    """
    own_seed = derived_seed(seed, "draw", number) % 2**32
    if name == "tpe":
        return _Tpe(own_seed, shared)
    if name == "gp":
        return optuna.samplers.GPSampler(seed=own_seed)
    if name == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=own_seed, warn_independent_sampling=False)
    if name == "qmc":
        # One sequence for all suggestions; the journal holds the position in it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return optuna.samplers.QMCSampler(
                seed=derived_seed(seed, "sequence") % 2**32, scramble=True, warn_independent_sampling=False
            )
    return optuna.samplers.RandomSampler(seed=own_seed)
