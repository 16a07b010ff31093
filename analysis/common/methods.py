"""Methods of an experiment: the trials that represent each noise level and search space."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from analysis.common.designs import read_design
from analysis.common.records import Records
from analysis.common.text import counted, listing
from ser.training.utterance_table import TEST, VALIDATION
from ser.utils.errors import unknown_name
from study.schema import CHOSEN_BY, CONFIRM, FINISHED, SEARCH, UNSEEN, Tag, in_words
from study.tracking.confirmations import chosen, of_newest_confirmation, representatives
from study.tracking.searches import Trials, best_runs, caveats

REFERENCE = "cross_entropy"
"""Default reference that other methods are compared with."""


@dataclass(frozen=True)
class Run:
    """A finished trial.

    Args:
        run_id: MLflow run.
        seed: Seed of training and noise; 0 for a trial of a search, where all trials share one seed.
        fold: Fold; 0 for a trial of a search.
    """

    run_id: str
    seed: int
    fold: int


@dataclass(frozen=True)
class Method:
    """Representative of a search space at a noise level.

    Args:
        noise: Noise level.
        rate: Share of wrong labels; NaN if unknown.
        space: Search space.
        trial: Number of the search's trial; in the confirm stage the candidate with the best mean validation score,
            such as ``search-1``.
        selected: Validation score by which it was chosen.
        runs: Its trials: one of the search, or one per fold and seed of the confirm stage, each of the candidate with
            the best validation score in that fold and seed.
    """

    noise: str
    rate: float
    space: str
    trial: str
    selected: float
    runs: tuple[Run, ...]

    def __str__(self) -> str:
        return f"{self.noise} {self.space} {self.trial}"


@dataclass(frozen=True)
class Chosen:
    """Methods of an experiment.

    Args:
        methods: Methods by noise rate, level and space.
        stage: ``confirm`` or ``search``.
        mode: ``max`` if a larger ``selected`` is better, else ``min``.
        notes: Remarks on the choice.
        missing: What is missing, and how to get it.
    """

    methods: tuple[Method, ...]
    stage: str
    mode: str
    notes: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def subset(self) -> str:
        """Return the subset that methods are scored on; no network was trained on it."""
        return TEST if self.stage == CONFIRM else VALIDATION

    @property
    def scored(self) -> str:
        """Return what the scores are of, for captions."""
        if self.stage == CONFIRM:
            return "test subset, confirmed configurations, true labels"
        return "validation subset, best trial of each search, one seed, true labels"

    @property
    def levels(self) -> tuple[str, ...]:
        """Return the noise levels by rate."""
        return tuple(dict.fromkeys(method.noise for method in self.methods))

    def at(self, noise: str) -> tuple[Method, ...]:
        """Return the methods at a noise level."""
        return tuple(method for method in self.methods if method.noise == noise)


def choose_methods(records: Records) -> Chosen:
    """Choose the representative of each noise level and space.

    If a trial of the confirm stage has finished, representatives are confirmed configurations, scored on folds whose
    test speakers the search has not chosen by. Otherwise they are the best trials of the search.

    Args:
        records: Records of the experiment.

    Returns:
        The methods; none if no trial has finished.
    """
    if (records.confirmed["status"] == FINISHED).any():
        return _of_confirmation(records)
    if records.search is not None:
        return _of_search(records, records.search)
    return Chosen((), CONFIRM, records.selection.mode, (), (_none_finished(records),))


def choose_reference(records: Records, chosen: Chosen, asked: str | None) -> str:
    """Choose the space that others are compared with.

    Args:
        records: Records of the experiment.
        chosen: Methods of the experiment.
        asked: Name given by ``--reference``.

    Returns:
        The name asked for; without one, the reference that the earliest design declares, else cross entropy, or the
        first method by name if there is no cross entropy.

    Raises:
        UserError: If no trial is of the space asked for.
    """
    check_reference(records, asked)
    if asked is not None:
        return asked
    for study in records.confirmed.sort_values("start", kind="stable")["study"].unique():
        design, _ = read_design(records, study)
        if design and design.reference:
            return design.reference
    spaces = {method.space for method in chosen.methods}
    return REFERENCE if REFERENCE in spaces else min(spaces, default=REFERENCE)


def check_reference(records: Records, asked: str | None) -> None:
    """Check that a space given by ``--reference`` has a trial.

    Raises:
        UserError: If it has none.
    """
    if asked is not None and asked not in records.spaces:
        raise unknown_name("--reference", asked, records.spaces)


def top_methods(chosen: Chosen, noise: str, reference: str, count: int) -> list[Method]:
    """Return the reference and the other methods with the best validation scores.

    Args:
        chosen: Methods of the experiment.
        noise: Noise level.
        reference: Space that others are compared with; it comes first.
        count: Largest number of methods.
    """
    sign = -1 if chosen.mode == "max" else 1
    return sorted(chosen.at(noise), key=lambda method: (method.space != reference, sign * method.selected))[:count]


def left_out_confirmations(records: Records) -> list[str]:
    """Return sentences on trials of the confirm stage that have not finished."""
    lines = []
    for study, trials in records.confirmed.groupby("study", sort=False):
        if unfinished := int((trials["status"] != FINISHED).sum()):
            lines.append(
                f"{unfinished} of {counted(len(trials), 'trial')} of confirmation {study} have not finished and are "
                f"left out. To resume: {records.resume_command(str(study))}"
            )
    return lines


def scored_trials(records: Records) -> pd.DataFrame:
    """Return the confirmed trials whose test scores describe their methods.

    For each level and space these are trials of its newest confirmation, one per fold and seed, without those whose
    configuration the search chose by their test speakers if there are others.

    Args:
        records: Records of the experiment.

    Returns:
        Rows of ``records.confirmed``.
    """
    newest = chosen(of_newest_confirmation(records.confirmed), records.selection)
    cell = ["noise", "space"]
    tainted = newest["exposure"] == CHOSEN_BY
    clean = newest.index[~tainted]
    only_tainted = tainted.groupby([newest[name] for name in cell]).transform("all")
    kept: pd.DataFrame = newest[newest.index.isin(clean) | only_tainted]
    return kept.sort_values(["seed", "fold"], kind="stable")


def _of_search(records: Records, trials: Trials) -> Chosen:
    best = best_runs(trials)
    methods = [
        Method(row["noise"], row["rate"], row["space"], row["trial"], row["selected"], (Run(row["run_id"], 0, 0),))
        for row in best.to_dict("records")
        if pd.notna(row["run_id"])
    ]
    if not methods:
        return Chosen((), SEARCH, trials.selection.mode, (), (_none_finished(records),))
    without = [_cell(row["noise"], row["space"]) for row in best.to_dict("records") if pd.isna(row["run_id"])]
    missing = [f"No trial has finished of {listing(without)}, so nothing of it is shown."] if without else []
    missing.append(
        f"Nothing is confirmed on the test subset, which no trial has used yet. To confirm: {records.confirm_command()}"
    )
    notes = tuple(caveats(trials, best))
    return Chosen(tuple(methods), SEARCH, trials.selection.mode, notes, tuple(missing))


def _of_confirmation(records: Records) -> Chosen:
    scored = scored_trials(records)
    named = representatives(records.confirmed, records.selection)
    methods: list[Method] = []
    exposed: list[Method] = []
    tainted: list[Method] = []
    for (noise, space), rows in scored.groupby(["noise", "space"], sort=False):
        runs = tuple(Run(*values) for values in zip(rows["run_id"], rows["seed"], rows["fold"], strict=True))
        rate = float("nan") if pd.isna(rows["rate"].iloc[0]) else float(rows["rate"].iloc[0])
        best = named[(named["noise"] == noise) & (named["space"] == space)].iloc[0]
        method = Method(str(noise), rate, str(space), best["candidate"], float(best["selected"]), runs)
        methods.append(method)
        if (rows["exposure"] == CHOSEN_BY).all():
            tainted.append(method)
        elif (rows["exposure"] != UNSEEN).any():
            exposed.append(method)
    methods.sort(key=lambda method: (method.rate != method.rate, method.rate, method.noise, method.space))
    shown = listing(list(dict.fromkeys(_extent(method.runs) for method in methods)))
    notes = [
        f"Methods are confirmed configurations ({shown}); where a method has several, each fold and seed takes the one "
        "with the best validation score there."
    ]
    if tainted:
        notes.append(
            "The search chose the configurations of these methods by their test speakers, so their scores are too "
            f"good: {_by_level(tainted)}."
        )
    if exposed:
        notes.append(
            "The search trained on some test speakers of these methods, but did not choose by them: "
            f"{_by_level(exposed)}."
        )
    return Chosen(tuple(methods), CONFIRM, records.selection.mode, tuple(notes), tuple(_incomplete(records, methods)))


def _none_finished(records: Records) -> str:
    trials = records.matched.search or records.matched.confirmed
    resume = "; ".join(map(records.resume_command, sorted({run.data.tags[Tag.STUDY] for run in trials})))
    return (
        f"No trial of experiment {records.experiment!r} has finished yet; per-utterance tables are saved at the end of "
        f"a trial. To resume an interrupted study: {resume}"
    )


def _incomplete(records: Records, methods: Iterable[Method]) -> list[str]:
    """Return sentences on what the confirm stage has not finished or never started."""
    lines = left_out_confirmations(records)
    if records.search is not None:
        confirmed = {(method.noise, method.space) for method in methods}
        searched = records.search.table[["noise", "space"]].drop_duplicates().itertuples(index=False, name=None)
        if without := [_cell(noise, space) for noise, space in searched if (noise, space) not in confirmed]:
            lines.append(f"Searched but not confirmed: {listing(without)}. To confirm: {records.confirm_command()}")
    return lines


def _cell(noise: str, space: str) -> str:
    return f"{in_words(space)} at {noise}"


def _by_level(methods: Iterable[Method]) -> str:
    """Return methods as a sentence lists them, by noise level."""
    levels: dict[str, list[str]] = {}
    for method in methods:
        levels.setdefault(method.noise, []).append(in_words(method.space))
    return "; ".join(f"{listing(spaces)} at {noise}" for noise, spaces in levels.items())


def _extent(runs: tuple[Run, ...]) -> str:
    seeds, folds = (sorted({getattr(run, name) for run in runs}) for name in ("seed", "fold"))
    listed = ", ".join(map(str, seeds))
    return f"seed{'s' if len(seeds) > 1 else ''} {listed}; {counted(len(folds), 'fold')}"
