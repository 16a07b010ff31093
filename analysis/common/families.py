"""Families of comparisons: each confirmation with its design, its test results, and what they show.

A confirmation is a family of its own. A later one, with other seeds or methods, does not change what an earlier one
has shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import pandas as pd

from analysis.common.designs import (
    TRAINING,
    design_in_words,
    missing_trainings,
    planned_trainings,
    read_design,
    units_in_words,
)
from analysis.common.methods import REFERENCE
from analysis.common.records import Records
from analysis.common.results import Results, read_results
from analysis.common.text import counted
from analysis.inference import compare_methods
from ser.losses.registry import loss_class
from ser.utils.errors import UserError
from study.schema import AT_STOP, CHOSEN_BY, DEFAULT, FINISHED, TRAINED_BY
from study.setup.design import Design
from study.tracking.confirmations import chosen

INCOMPLETE = "incomplete"
"""Verdict where planned trainings are missing; all others are those of ``compare_methods``."""

NUMBERS = (
    "uar", "uar_reference", "difference", "low", "high", "p", "p_adjusted", "p_smallest", "alpha", "detectable",
    "units", "seeds",
)  # fmt: skip
"""Columns of ``compare_methods`` that are NaN where the verdict is ``incomplete``."""

TRAINED = ["fold", "seed"]


@dataclass(frozen=True, eq=False)
class Family:
    """Comparisons of one confirmation with its reference.

    Args:
        study: Name of the confirmation.
        design: What it declared beforehand; None if nothing usable was declared.
        problem: Why ``design`` is None; empty otherwise.
        reference: Method that the others are compared with.
        declared: Whether the comparison with this reference was declared beforehand.
        results: Test results of the trials that stand for their methods.
        compared: One row per level and other method, levels by noise rate, methods in the declared order: ``level``,
            ``rate``, the columns of ``compare_methods`` (missing where the verdict is ``incomplete``), ``primary`` and
            ``oracle`` (both bool).
        units: The units of inference in words.
        planned: Number of planned trainings; 0 without a design.
        missing: Planned trainings that have not finished, or have left no test predictions with true labels.
        chosen_by: Number of trainings that are left out because the search chose their configuration by their test
            speakers.
        trained_by: Number of compared trainings whose configuration a search chose that trained on their test speakers.
        left_out: Number of folds left out because not every method has its results there.
    """

    study: str
    design: Design | None
    problem: str
    reference: str
    declared: bool
    results: Results
    compared: pd.DataFrame
    units: str
    planned: int
    missing: pd.DataFrame
    chosen_by: int
    trained_by: int
    left_out: int

    @property
    def is_complete(self) -> bool:
        """Return whether no planned training is missing."""
        return self.missing.empty

    @property
    def primary(self) -> pd.DataFrame:
        """Return the row of the primary comparison; no row if there is none."""
        return self.compared[self.compared["primary"].astype(bool)]


def read_families(records: Records, reference: str | None = None) -> list[Family]:
    """Compare the methods of each confirmation, the earliest first.

    Args:
        records: Records of the experiment.
        reference: Method that the others are compared with; None is the one that each design declares, else cross
            entropy.

    Raises:
        UserError: If a per-utterance table cannot be read, or if two methods were tested on different utterances.
    """
    begun = records.confirmed.groupby("study")["start"].min().sort_values(kind="stable")
    studies = map(str, begun.index)
    return [records.once(("family", one, reference), partial(_family, records, one, reference)) for one in studies]


def oracle_methods(records: Records) -> set[str]:
    """Return the spaces whose confirmed results use what nobody has outside of an experiment.

    Such a space has a loss that learns from the annotators' votes, or a configuration that the search chose by true
    labels.

    Args:
        records: Records of the experiment.
    """
    found = set()
    for row in records.confirmed.to_dict("records"):
        by_truth = records.selection.oracle and row["candidate"] != DEFAULT
        if by_truth or reads_votes(row["parameters"].get("loss.name", "")):
            found.add(str(row["space"]))
    return found


def reads_votes(loss: str) -> bool:
    """Return whether a loss learns from the annotators' votes, which makes its methods oracles.

    Args:
        loss: Name of a loss; one that cannot be imported here counts as one that does not.
    """
    try:
        return bool(loss) and loss_class(loss).targets == "soft"
    except UserError:  # a loss of the user's own that cannot be imported here
        return False


def _family(records: Records, study: str, asked: str | None) -> Family:
    trials = records.confirmed[records.confirmed["study"] == study]
    design, problem = read_design(records, study)
    reference = asked or (design.reference if design else None) or REFERENCE
    declared = design is not None and design.reference == reference
    missing = missing_trainings(design, trials) if design else trials.iloc[:0]
    stands = _of_design(chosen(trials[trials["status"] == FINISHED], records.selection), design)
    clean = stands[stands["exposure"] != CHOSEN_BY]
    stopped = design.stopped if design else ()
    results = read_results(records, clean, stopped)
    _check_speakers(results.table, design, study)
    lost = clean[clean["run_id"].isin((*results.untabled, *results.untrue))]
    missing = pd.concat([missing, lost])[TRAINING] if design else missing
    primary = None
    if design and declared and design.primary:
        primary = (design.primary["level"], design.primary["method"])
    kept, compared = _compare(results.table, reference, primary, missing)
    order = _method_order(design, compared["method"])
    rates = trials.drop_duplicates("noise").set_index("noise")["rate"].astype(float)
    compared = compared.assign(
        rate=compared["level"].map(rates),
        place=compared["method"].map(order.index),
        primary=[(row.level, row.method) == primary for row in compared.itertuples()],
        oracle=compared["method"].str.removesuffix(AT_STOP).isin(oracle_methods(records)),
    )
    compared = compared.sort_values(["rate", "level", "place"], na_position="last", kind="stable")
    return Family(
        study=study,
        design=design,
        problem=problem,
        reference=reference,
        declared=declared,
        results=results,
        compared=compared.drop(columns="place").reset_index(drop=True),
        units=_units(design, kept),
        planned=len(planned_trainings(design)) if design else 0,
        missing=missing,
        chosen_by=len(stands) - len(clean),
        trained_by=int((clean["exposure"] == TRAINED_BY).sum()),
        left_out=stands["fold"].nunique() - kept["fold"].nunique(),
    )


def _of_design(trials: pd.DataFrame, design: Design | None) -> pd.DataFrame:
    """Return the trials whose fold and seed are part of the design."""
    if design is None:
        return trials
    folds = [fold.number for fold in design.folds]
    return trials[trials["fold"].isin(folds) & trials["seed"].isin(design.seeds)]


def _check_speakers(results: pd.DataFrame, design: Design | None, study: str) -> None:
    for fold in design.folds if design else ():
        tested = set(results.loc[results["fold"] == fold.number, "speaker"])
        if other := tested - set(map(str, fold.test)):
            raise UserError(
                f"fold {fold.number} of confirmation {study} was tested on {', '.join(sorted(other))}, whom its design "
                "does not name. Confirm again with a new --name."
            )


def _compare(
    results: pd.DataFrame, reference: str, primary: tuple[str, str] | None, missing: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the results that are compared, and the comparisons."""
    levels = set(results.loc[results["method"] == reference, "level"])
    results = results[results["level"].isin(levels)]
    if missing.empty:
        kept = _whole_folds(results)
        return kept, _test(kept, reference, primary)
    cells = results[["level", "method"]].drop_duplicates()
    cells = cells[cells["method"] != reference]
    open_ = cells.assign(verdict=INCOMPLETE)
    if primary is None or _lacks(missing, primary, reference):
        return results.iloc[:0], _columns(open_)
    level, method = primary
    pair = results[(results["level"] == level) & results["method"].isin((method, reference))]
    kept = _whole_folds(pair)
    first = _test(kept, reference, primary)
    rest = open_[(open_["level"] != level) | (open_["method"] != method)]
    return kept, _columns(pd.concat([first, rest], ignore_index=True))


def _lacks(missing: pd.DataFrame, primary: tuple[str, str], reference: str) -> bool:
    """Return whether a training of the primary comparison is missing."""
    level, method = primary
    needed = (method.removesuffix(AT_STOP), reference)
    return bool(((missing["noise"] == level) & missing["space"].isin(needed)).any())


def _whole_folds(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the folds in which every method of every level has every seed."""
    cells = len(results[["level", "method"]].drop_duplicates())
    seeds = results["seed"].nunique()
    counts = results[["level", "method", *TRAINED]].drop_duplicates().groupby("fold").size()
    return results[results["fold"].isin(counts.index[counts == cells * seeds])]


def _test(kept: pd.DataFrame, reference: str, primary: tuple[str, str] | None) -> pd.DataFrame:
    """Return the comparisons of results; no row if there is nothing to compare."""
    tested = set(kept[["level", "method"]].itertuples(index=False, name=None))
    if not any(method != reference for _, method in tested):
        return _columns(pd.DataFrame(columns=["level", "method"]))
    return _columns(compare_methods(kept, reference, primary if primary in tested else None))


def _columns(compared: pd.DataFrame) -> pd.DataFrame:
    table = compared.reindex(columns=["level", "method", *NUMBERS, "verdict", "scope", "unit"])
    return table.astype(dict.fromkeys(NUMBERS, float))


def _method_order(design: Design | None, methods: Iterable[str]) -> list[str]:
    """Return methods in the declared order, early stops last; without a design, by name."""
    declared = list(design.methods) if design else []
    found = sorted(set(methods), key=lambda name: (AT_STOP in name, name))
    return [*declared, *(name for name in found if name not in declared)]


def _units(design: Design | None, kept: pd.DataFrame) -> str:
    """Return the units of a comparison in words; version 0.1 trained all folds with the same seeds and noise draws."""
    folds = {fold: frozenset(kept.loc[kept["fold"] == fold, "speaker"]) for fold in set(kept["fold"])}
    if design is None:
        speakers = counted(kept["speaker"].nunique(), "speaker")
        return f"{counted(len(folds), 'fold')} with {speakers}, {counted(kept['seed'].nunique(), 'seed')}"
    return units_in_words(design.unit, folds, kept["seed"].nunique()) if folds else design_in_words(design)
