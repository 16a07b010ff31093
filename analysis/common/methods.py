"""Which trials stand for each method: the confirmed ones where there are any, else the best of the search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.common.records import Records, representatives
from ser.training.utterance_table import TEST, VALIDATION
from ser.utils.errors import unknown_name
from study.schema import CONFIRM, FINISHED, SEARCH
from study.tracking.confirmations import newest
from study.tracking.searches import Trials, best_runs, caveats

REFERENCE = "cross_entropy"
"""What other methods are compared with, where it was searched."""


@dataclass(frozen=True)
class Run:
    """A finished trial.

    Args:
        run_id: MLflow run.
        seed: Of the training and the noise; 0 for a search's, which has one for all trials.
        fold: Likewise.
    """

    run_id: str
    seed: int
    fold: int


@dataclass(frozen=True)
class Method:
    """What stands for a search space at a noise level.

    Args:
        noise: Noise level.
        rate: Share of wrong labels; NaN where unknown.
        space: Search space.
        trial: Number of the search's trial; in the confirm stage the candidate, such as ``search-1``.
        selected: The validation score that it was chosen by.
        runs: Its trials: one of the search, or one for each fold and seed of the confirm stage.
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
    """The methods of an experiment.

    Args:
        methods: By noise rate, level and space.
        stage: ``confirm`` or ``search``.
        best: ``max`` if a larger ``selected`` is better, else ``min``.
        notes: What a reader must know of the choice.
        missing: What is not there, and how to get it.
    """

    methods: tuple[Method, ...]
    stage: str
    best: str
    notes: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def subset(self) -> str:
        """The part of the utterances that methods are judged by; no network was trained on it."""
        return TEST if self.stage == CONFIRM else VALIDATION

    @property
    def scored(self) -> str:
        """On what they are judged, for captions."""
        if self.stage == CONFIRM:
            return "test part, confirmed configurations, true labels"
        return "validation part, best trial of each search, one seed, true labels"

    @property
    def levels(self) -> tuple[str, ...]:
        """The noise levels, by rate."""
        return tuple(dict.fromkeys(method.noise for method in self.methods))

    def at(self, noise: str) -> tuple[Method, ...]:
        """The methods at a noise level."""
        return tuple(method for method in self.methods if method.noise == noise)


def choose_methods(records: Records) -> Chosen:
    """The representative of each noise level and space, from the confirm stage if any of its trials has finished.

    Confirmed trials count on folds that the search has not seen, where a method has such a fold. Where no trial has
    finished there is no method.
    """
    if (records.confirmed["status"] == FINISHED).any():
        return _of_confirmation(records)
    if records.search is not None:
        return _of_search(records, records.search)
    return Chosen((), CONFIRM, records.selection.mode, (), (_none_finished(records),))


def reference_of(methods: Sequence[Method], asked: str | None) -> str:
    """The space that others are compared with: the one asked for, cross entropy, or the first by name.

    Args:
        methods: Of one noise level or of several.
        asked: Of the command line.

    Raises:
        UserError: No method has the name asked for.
    """
    spaces = {method.space for method in methods}
    if asked is not None and spaces and asked not in spaces:
        raise unknown_name("--reference", asked, spaces)
    return asked or (REFERENCE if REFERENCE in spaces else min(spaces, default=REFERENCE))


def foremost(chosen: Chosen, noise: str, reference: str, count: int) -> list[Method]:
    """The reference and the best others by the validation score.

    Args:
        chosen: All methods.
        noise: Of which noise level.
        reference: The space that others are compared with; it comes first.
        count: How many at most.
    """
    sign = -1 if chosen.best == "max" else 1
    return sorted(chosen.at(noise), key=lambda method: (method.space != reference, sign * method.selected))[:count]


def confirm_advice(records: Records) -> str:
    """The command that confirms what the search has found."""
    return f"python study/confirm.py --experiment {records.experiment} --tracking-uri {records.uri}"


def _of_search(records: Records, trials: Trials) -> Chosen:
    best = best_runs(trials)
    methods = [
        Method(row["noise"], row["rate"], row["space"], row["trial"], row["selected"], (Run(row["run_id"], 0, 0),))
        for row in best.to_dict("records")
        if pd.notna(row["run_id"])
    ]
    if not methods:
        return Chosen((), SEARCH, trials.selection.mode, (), (_none_finished(records),))
    without = [f"{row['noise']} {row['space']}" for row in best.to_dict("records") if pd.isna(row["run_id"])]
    missing = [f"No trial has finished, so that nothing is shown: {', '.join(without)}."] if without else []
    missing.append(f"Nothing is confirmed on the test part, which no trial has seen yet: {confirm_advice(records)}")
    notes = tuple(caveats(trials, best))
    return Chosen(tuple(methods), SEARCH, trials.selection.mode, notes, tuple(missing))


def _of_confirmation(records: Records) -> Chosen:
    done = records.confirmed[records.confirmed["status"] == FINISHED]
    chosen = representatives(records.confirmed, records.selection)
    methods, seen = [], []
    for row in chosen.to_dict("records"):
        same = (done["noise"] == row["noise"]) & (done["space"] == row["space"])
        trials = done[same & (done["candidate"] == row["candidate"])]
        unseen = trials[~trials["seen"].astype(bool)]
        rows = newest(unseen if len(unseen) else trials).sort_values(["seed", "fold"], kind="stable")
        runs = tuple(Run(*values) for values in zip(rows["run_id"], rows["seed"], rows["fold"], strict=True))
        rate = float("nan") if pd.isna(rows["rate"].iloc[0]) else float(rows["rate"].iloc[0])
        method = Method(row["noise"], rate, row["space"], row["candidate"], row["selected"], runs)
        methods.append(method)
        if unseen.empty:
            seen.append(str(method))
    methods.sort(key=lambda method: (method.rate != method.rate, method.rate, method.noise, method.space))
    notes = [
        f"Confirmed configurations, each level's and space's best by {records.selection.metric} on the validation "
        f"part: {'; '.join(f'{method} ({_extent(method.runs)})' for method in methods)}."
    ]
    if seen:
        notes.append(
            f"Seen by the search, which has trained or chosen on these test rows, so that scores flatter: "
            f"{'; '.join(seen)}."
        )
    return Chosen(tuple(methods), CONFIRM, records.selection.mode, tuple(notes), tuple(_lacking(records, methods)))


def _none_finished(records: Records) -> str:
    return (
        f"No trial of experiment {records.experiment!r} has finished yet; a table of utterances is kept at a trial's "
        "end. To go on with a study that was interrupted: python study/run.py --resume --name NAME"
    )


def _lacking(records: Records, methods: Iterable[Method]) -> list[str]:
    """What the confirm stage has not finished, or never began."""
    lacking = []
    if unfinished := int((records.confirmed["status"] != FINISHED).sum()):
        lacking.append(
            f"{unfinished} of {len(records.confirmed)} trials of the confirmation have not finished and are left out. "
            f"To go on: python study/confirm.py --resume --name NAME --tracking-uri {records.uri}"
        )
    if records.search is not None:
        there = {(method.noise, method.space) for method in methods}
        searched = records.search.table[["noise", "space"]].drop_duplicates().itertuples(index=False, name=None)
        if bare := [f"{noise} {space}" for noise, space in searched if (noise, space) not in there]:
            lacking.append(f"Searched but not confirmed: {', '.join(bare)}. To get it: {confirm_advice(records)}")
    return lacking


def _extent(runs: Sequence[Run]) -> str:
    """Such as "seeds 1, 2; fold 4"."""
    told = []
    for word, numbers in (("seed", {run.seed for run in runs}), ("fold", {run.fold for run in runs})):
        told.append(f"{word}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, sorted(numbers)))}")
    return "; ".join(told)
