"""Difference of each method from the reference over the noise levels, and the level from which a method pays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.common.designs import data_options
from analysis.common.families import INCOMPLETE, Family, read_families
from analysis.common.methods import REFERENCE, check_reference
from analysis.common.records import Records, RecordsOptions
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.common.text import interval_text, listing, number, percent, points
from analysis.inference import NOT_POSSIBLE, pays_from
from analysis.sections.dose_response.figures import draw_dose_response
from study.schema import Tag, in_words, space_and_labels

TITLE = "Dose and response"


@dataclass(frozen=True)
class Options(RecordsOptions):
    """Show the difference of each confirmed method from a reference over the noise levels."""

    output: Path = Path("results") / "dose_response"
    """Folder of the table and the figure."""
    reference: str | None = None
    """Search space that the others are compared with; default: the one that the design declares, else cross_entropy."""


def section(records: Records, options: Options) -> Section:
    """Return the differences over the noise levels.

    Args:
        records: Records of both stages.
        options: The reference.

    Raises:
        UserError: If no trial is of the reference, or if a per-utterance table cannot be read or does not match the
            others.
    """
    check_reference(records, options.reference if options.reference != REFERENCE else None)
    families = read_families(records, options.reference)
    shown = [family for family in families if len(levels_by_rate(family)) > 1]
    if not shown:
        runs = (*records.matched.search, *records.matched.confirmed)
        spaces = sorted({space_and_labels(run.data.tags[Tag.SPACE])[0] for run in runs})
        levels = ("--noise", "clean", "noisy-A", "noisy-B")
        unfinished = [family.study for family in families if not family.is_complete]
        finish = f"Finish one: {'; '.join(map(records.resume_command, unfinished))}. " if unfinished else ""
        missing = (
            "A dose–response needs two noise levels of known rate with a verdict, in one confirmation. "
            f"{finish}To declare them: "
            f"{records.command('study/confirm.py', '--space', *spaces, *data_options(records), *levels)} …"
        )
        return Section("dose_response", TITLE, missing=(missing,))
    tables, figures, sentences = [], [], []
    for place, family in enumerate(shown, start=1):
        name = "dose_response" if place == 1 else f"dose_response-{place}"
        of = "" if len(families) == 1 else f"; confirmation {family.study}"
        rows = judged(family)
        lines = pays_sentences(family)
        sentences += lines
        caption = f"Difference of test UAR from {family.reference} by noise level{of}"
        tables.append(NamedTable(name, caption, rows.reset_index(drop=True), _text(rows)))
        drawing = draw_dose_response(rows, single_units(family), family.reference)
        caption += "; 95 % intervals of each comparison alone"
        figures.append(NamedFigure(name, caption, " ".join(lines), drawing))
    notes = (
        "A method pays from a level if it is better there and at all higher levels of the confirmation, by the p that "
        "is corrected for all of its comparisons. The lines join levels and do not test a trend.",
    )
    return Section(
        "dose_response", TITLE, tuple(sentences), tuple(tables), tuple(figures), notes,
        optional_files=("dose_response-*",),
    )  # fmt: skip


def judged(family: Family) -> pd.DataFrame:
    """Return the comparisons of a family that have a verdict and a known noise rate."""
    rows = family.compared
    return rows[(rows["verdict"] != INCOMPLETE) & rows["rate"].notna()]


def levels_by_rate(family: Family) -> list[str]:
    """Return the noise levels of a family's verdicts, from the lowest rate to the highest."""
    return list(dict.fromkeys(judged(family).sort_values("rate", kind="stable")["level"]))


def pays_sentences(family: Family) -> list[str]:
    """Return the noise level from which each method pays, in words.

    Args:
        family: A family with at least two levels.
    """
    levels, rows = levels_by_rate(family), judged(family)
    highest = levels[-1]
    oracles = set(rows.loc[rows["oracle"], "method"])
    lines, never = [], []
    for method, level in pays_from(rows, levels).items():
        if level is None:
            never.append(method)
            continue
        rate = percent(rows.loc[rows["level"] == level, "rate"].iloc[0], 1)
        above = levels[levels.index(level) + 1 :]
        also = f", and at {listing(above)}" if above else ", the highest level"
        oracle = " It is an oracle and is never recommended." if method in oracles else ""
        lines.append(
            f"{in_words(method)} pays from {level} ({rate} of the labels wrong): it is better than "
            f"{family.reference} there{also}.{oracle}"
        )
    if never:
        names = listing(list(map(in_words, never)), "or")
        lines.append(f"Nothing shows that {names} pays at {highest}, the highest level.")
    return lines


def single_units(family: Family) -> pd.DataFrame:
    """Return the differences of single folds (of single trainings, where there is one fold) without a possible verdict.

    Args:
        family: Family of comparisons.

    Returns:
        ``method``, ``rate`` and ``difference`` (−1 to 1).
    """
    rows = []
    for row in judged(family).to_dict("records"):
        if row["verdict"] == NOT_POSSIBLE:
            unit = "fold" if row["unit"] == "fold" else "seed"
            mine, base = (
                _uar(family.results.table, row["level"], name, unit) for name in (row["method"], family.reference)
            )
            rows += [{"method": row["method"], "rate": row["rate"], "difference": d} for d in (mine - base).dropna()]
    return pd.DataFrame(rows, columns=["method", "rate", "difference"])


def _uar(results: pd.DataFrame, level: str, method: str, unit: str) -> pd.Series:
    """Return the UAR of each unit, over the classes that it has."""
    rows = results[(results["level"] == level) & (results["method"] == method)]
    by_class = rows.groupby([unit, "label"])[["correct", "total"]].sum()
    return (by_class["correct"] / by_class["total"]).groupby(level=unit).mean()


def _text(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "method": rows["method"],
            "noise": rows["level"],
            "wrong labels": [percent(rate, 1) for rate in rows["rate"]],
            "diff.": [points(difference) for difference in rows["difference"]],
            "95 % interval": [interval_text(*ends) for ends in zip(rows["low"], rows["high"], strict=True)],
            "p adj.": [number(p) for p in rows["p_adjusted"]],
            "verdict": rows["verdict"],
        }
    ).sort_values("method", kind="stable")
