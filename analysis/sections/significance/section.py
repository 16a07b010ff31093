"""Comparisons of each confirmed method with the reference, at each noise level."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd

from analysis.common.families import INCOMPLETE, Family, read_families
from analysis.common.methods import REFERENCE, check_reference, left_out_confirmations
from analysis.common.records import Records
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.common.text import MISSING, counted, interval_text, listing, number, p_value, points
from analysis.inference import FOLD, NOT_POSSIBLE, method_scores
from analysis.options import SignificanceOptions as Options
from analysis.sections.significance.figures import draw_differences, has_interval
from analysis.sections.significance.sentences import family_sentences
from study.schema import in_words
from study.setup.power import ALPHA

TITLE = "Differences"
MOST_NAMED = 3


def section(records: Records, options: Options) -> Section:
    """Return the differences between the methods and the reference.

    Args:
        records: Records of both stages; without a confirmation the section says only what is missing.
        options: The reference.

    Raises:
        UserError: If no trial is of the reference, or if a per-utterance table cannot be read or does not match the
            others.
    """
    check_reference(records, options.reference if options.reference != REFERENCE else None)
    if records.confirmed.empty:
        missing = (
            "Nothing was confirmed, and scores of a search are the luckiest of several with one seed: nothing is "
            f"claimed from them. To confirm: {records.confirm_command()}",
        )
        return Section("significance", TITLE, missing=missing)
    families = read_families(records, options.reference)
    sentences = [family_sentences_of(records, family, families) for family in families]
    tables, figures = [], []
    for place, family in enumerate(families, start=1):
        name = "significance" if place == 1 else f"significance-{place}"
        of = "" if len(families) == 1 else f"; confirmation {family.study}"
        judged = family.compared[family.compared["verdict"] != INCOMPLETE]
        if judged.empty:
            continue
        reference = in_words(family.reference)
        caption = f"Test UAR against true labels, last epoch, compared with {reference}{of}"
        tables.append(NamedTable(name, caption, family.compared, comparison_text(family.compared, reference), keys=2))
        around = f", 95 % intervals over {judged['unit'].iloc[0]}s" if any(map(has_interval, rows_of(judged))) else ""
        drawing, hover = draw_differences(judged, single_differences(family), family.reference, name)
        caption = f"Difference of test UAR from {reference}{around}{of}"
        figures.append(NamedFigure(name, caption, alternative(judged, reference), drawing, hover))
    return Section(
        "significance",
        f"{TITLE} from {listing(sorted({in_words(family.reference) for family in families}))}",
        sentences=tuple(_with_one_scope(sentences)),
        tables=tuple(tables),
        figures=tuple(figures),
        notes=tuple(notes(families)),
        missing=tuple(missing_parts(records, families)),
        optional_files=("significance-*",),
    )


def single_differences(family: Family) -> dict[tuple[str, str], list[float]]:
    """Return the differences of single units, for the comparisons for which no evidence was possible.

    Args:
        family: A confirmation.

    Returns:
        (level, method) → method − reference of each unit, −1 to 1.
    """
    found = {}
    for row in rows_of(family.compared[family.compared["verdict"] == NOT_POSSIBLE]):
        table = family.results.table
        pair = table[(table["level"] == row["level"]) & table["method"].isin((row["method"], family.reference))]
        trained = pair[["method", "fold", "seed"]].drop_duplicates()
        counts = trained.groupby("fold").size()
        whole = counts.index[counts == 2 * trained["seed"].nunique()]
        by_unit = method_scores(pair[pair["fold"].isin(whole)]).set_index("method")["by_unit"]
        differences = zip(by_unit[row["method"]], by_unit[family.reference], strict=True)
        found[row["level"], row["method"]] = [mine - base for mine, base in differences]
    return found


def family_sentences_of(records: Records, family: Family, families: Sequence[Family]) -> list[str]:
    """Return what a confirmation shows in words.

    Args:
        records: Records of the experiment.
        family: One of the families.
        families: All of them, the earliest first.
    """
    resume = records.resume_command(family.study)
    return family_sentences(family, resume, family is families[0], len(families) == 1)


def comparison_text(compared: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Return comparisons as displayed.

    Args:
        compared: ``Family.compared``.
        reference: Name of the reference in words.
    """
    rows = rows_of(compared)
    unit = next(iter(compared["unit"].dropna()), FOLD)
    return pd.DataFrame(
        {
            "noise": [row["level"] for row in rows],
            "method": [in_words(row["method"]) for row in rows],
            "UAR, %": [number(100 * row["uar"], 1) for row in rows],
            f"{reference}, %": [number(100 * row["uar_reference"], 1) for row in rows],
            "difference": [points(row["difference"]) for row in rows],
            "95 % interval": [interval_text(row["low"], row["high"]) if has_interval(row) else MISSING for row in rows],
            "p": [_p(row["p"]) for row in rows],
            "p (corrected)": [_p(row["p_adjusted"]) for row in rows],
            "detectable": [_detectable(row["detectable"]) for row in rows],
            f"{unit}s": [number(row["units"], 0) for row in rows],
            "verdict": [_verdict(row["verdict"], row["primary"], row["oracle"]) for row in rows],
        }
    )


def alternative(judged: pd.DataFrame, reference: str) -> str:
    """Return what the figure of the differences shows, for readers who cannot see it.

    Args:
        judged: Rows of ``Family.compared`` with a verdict.
        reference: Name of the reference in words.
    """
    levels = []
    for level, rows in judged.groupby("level", sort=False):
        found = [
            f"{in_words(row['method'])} {points(row['difference'])}"
            + (f" ({interval_text(row['low'], row['high'])})" if has_interval(row) else "")
            + f", {row['verdict']}"
            for row in rows_of(rows)
        ]
        levels.append(f"At {level}: {'; '.join(found)}.")
    return f"Test UAR minus that of {reference}, in points. {' '.join(levels)}"


def _with_one_scope(sentences: Sequence[Sequence[str]]) -> list[str]:
    """Return the sentences of all confirmations; one that several end with, what their verdicts are about, is last."""
    lines = [line for each in sentences for line in each]
    return [line for place, line in enumerate(lines) if line not in lines[place + 1 :]]


def rows_of(compared: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Return comparisons one by one.

    Args:
        compared: ``Family.compared``.
    """
    return compared.to_dict("records")


def notes(families: Sequence[Family]) -> list[str]:
    """Return remarks on the interpretation of the comparisons.

    Args:
        families: Families of the experiment.
    """
    judged = [family for family in families if (family.compared["verdict"] != INCOMPLETE).any()]
    if not judged:
        return []
    lines = [
        "The unit is the trained fold, because one network judges all test speakers of a fold; with a single fold it "
        "is the training. Where a method has several configurations, each fold and seed takes the one with the best "
        "validation score there.",
        "difference, 95 % interval, detectable: in points of UAR. p: permutation test that flips the signs of the "
        "folds' differences. p (corrected): for all comparisons of the confirmation (single-step max-T, Westfall and "
        f"Young 1993), doubled for the primary one; the verdict follows from it, at {ALPHA:g}. The interval is of each "
        "comparison alone. detectable: the difference that such a design finds with 80 % power after correction, given "
        "the spread seen.",
    ]
    for family in judged:
        if family.trained_by:
            lines.append(
                f"{family.study}: the search that chose the configurations trained on the test speakers of "
                f"{counted(family.trained_by, 'training')}"
                + ("." if family.design else "; version 0.1 did not record whether it also chose by them.")
            )
    if unlabelled := max(family.results.unlabelled for family in families):
        lines.append(f"Up to {unlabelled} test utterances of a training have no true label and were left out.")
    return lines


def missing_parts(records: Records, families: Sequence[Family]) -> list[str]:
    """Return sentences on what cannot be shown, and how to get it.

    Args:
        records: Records of the experiment.
        families: Families of the experiment.
    """
    lines = [] if all(family.design for family in families) else left_out_confirmations(records)
    for family in families:
        of = "" if len(families) == 1 else f" of {family.study}"
        for runs, lack in (
            (family.results.untabled, "have no per-utterance table"),
            (family.results.untrue, "have no true label in the test subset"),
        ):
            if runs:
                more = ", …" if len(runs) > MOST_NAMED else ""
                lines.append(
                    f"In no comparison, because they {lack}: {counted(len(runs), 'confirmed trial')}{of}, "
                    f"{', '.join(runs[:MOST_NAMED])}{more}."
                )
        if family.chosen_by:
            lines.append(
                f"Left out: {counted(family.chosen_by, 'training')}{of} whose configuration the search chose by the "
                "test speakers, which is no clean test."
            )
        if family.is_complete and family.left_out:
            lines.append(
                f"Left out: {counted(family.left_out, 'fold')}{of} where not every method has a clean result of every "
                "seed."
            )
        if family.compared.empty:
            reference = records.space_options(family.reference)
            lines.append(
                f"No method has the same folds and seeds as {in_words(family.reference)}{of}, so nothing is compared. "
                f"To add methods: {records.command('study/confirm.py', *reference)} NAME …"
            )
    return lines


def _p(p: float) -> str:
    return MISSING if pd.isna(p) else p_value(p)


def _detectable(difference: float) -> str:
    return MISSING if pd.isna(difference) else "none" if difference == float("inf") else f"{100 * difference:.1f}"


def _verdict(verdict: str, primary: bool, oracle: bool) -> str:
    remarks = [word for word, holds in (("primary", primary), ("oracle", oracle)) if holds]
    return f"{verdict} ({', '.join(remarks)})" if remarks else verdict
