"""Test UAR of each confirmed method over the noise levels, and the level from which a method pays."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from analysis.common.designs import data_options
from analysis.common.families import INCOMPLETE, Family, read_families
from analysis.common.methods import REFERENCE, check_reference
from analysis.common.records import Records
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.common.text import MISSING, counted, listing, percent
from analysis.inference import pays_from
from analysis.options import DoseResponseOptions as Options
from analysis.sections.dose_response.figures import draw_scores
from analysis.sections.dose_response.scores import Scores, read_scores
from study.schema import Tag, in_words, space_and_labels

TITLE = "Test UAR by share of wrong labels"


def section(records: Records, options: Options) -> Section:
    """Return the test UAR of the confirmed methods over the noise levels.

    A search alone has no such curve: the best score of several trials, chosen by that score, is too high, and by more
    for a method whose scores vary more.

    Args:
        records: Records of both stages.
        options: The reference.

    Raises:
        UserError: If no trial is of the reference, or if a per-utterance table cannot be read or does not match the
            others.
    """
    check_reference(records, options.reference if options.reference != REFERENCE else None)
    families = read_families(records, options.reference)
    tables: list[NamedTable] = []
    figures: list[NamedFigure] = []
    sentences: list[str] = []
    notes: list[str] = []
    missing: list[str] = []
    for family in families:
        of = "" if len(families) == 1 else f"; confirmation {family.study}"
        scores = read_scores(records, family)
        shown = replace(scores, table=scores.table[scores.table["rate"].notna()])
        unknown = sorted(set(scores.table["level"]) - set(shown.table["level"]))
        if unknown:
            notes.append(f"Not shown, because its share of wrong labels is unknown: {listing(unknown)}{of}.")
        if not family.is_complete:
            missing.append(
                f"Methods with missing trainings are not shown{of}. To finish: {records.resume_command(family.study)}"
            )
        if shown.table.empty:
            continue
        name = "dose_response" if not tables else f"dose_response-{len(tables) + 1}"
        caption = f"Test UAR in % against true labels, last epoch{of}"
        around = "95 % interval" if shown.has_intervals else f"lowest and highest {shown.unit}"
        data = shown.table.drop(columns="by_unit")
        tables.append(NamedTable(name, f"{caption}; in brackets: {around}", data, _text(shown)))
        drawing, hover = draw_scores(shown, 1 / len(records.classes), name)
        described = f"{describe(shown)} Guessing gives {percent(1 / len(records.classes), 1)}."
        marks = f"95 % intervals over {counted(shown.units, shown.unit)}"
        if not shown.has_intervals:
            marks = f"small marks: single {shown.unit}s, too few for an interval"
        figures.append(NamedFigure(name, f"{caption}; {marks}", described, drawing, hover=hover))
        if len(levels_by_rate(family)) > 1:
            sentences += [describe(shown), *pays_sentences(family)]
    if not tables:
        return Section("dose_response", TITLE, notes=tuple(notes), missing=(*missing, _to_declare(records)))
    if sentences:
        notes.append(
            "A method pays from a level if it is better there and at all higher levels of the confirmation, by the p "
            "that is corrected for all of its comparisons. The lines join levels and do not test a trend."
        )
    else:
        missing.append(f"Only one noise level has verdicts, which is no curve. {_to_declare(records)}")
    return Section(
        "dose_response", TITLE, tuple(sentences), tuple(tables), tuple(figures), tuple(notes), tuple(missing),
        optional_files=("dose_response-*",),
    )  # fmt: skip


def _to_declare(records: Records) -> str:
    """Return how to get a curve."""
    if records.confirmed.empty:
        return f"Nothing is confirmed on test rows yet. To confirm: {records.confirm_command()}"
    runs = (*records.matched.search, *records.matched.confirmed)
    spaces = sorted({space_and_labels(run.data.tags[Tag.SPACE])[0] for run in runs})
    levels = ("--noise", "clean", "noisy-A", "noisy-B")
    return (
        "To declare several levels: "
        f"{records.command('study/confirm.py', '--space', *spaces, *data_options(records), *levels)} …"
    )


def describe(scores: Scores) -> str:
    """Return the scores in one sentence: from the lowest noise rate to the highest, or at the only one.

    Args:
        scores: Scores of known noise rate, at least one.
    """
    table = scores.table
    ends = table.drop_duplicates("level").iloc[[0, -1]]
    (low, high), (least, most) = ends["level"], ends["rate"]
    by_level = table.set_index(["method", "level"])["uar"]
    findings = []
    for method in dict.fromkeys(table["method"]):
        known = [by_level[method, level] for level in (low, high) if (method, level) in by_level.index]
        if low == high or len(known) < 2:
            findings += [f"{in_words(method)} {percent(uar, 1)}" for uar in known[:1]]
        elif round(1000 * known[0]) == round(1000 * known[1]):
            findings.append(f"{in_words(method)} stays at {percent(known[1], 1)}")
        else:
            verb = "falls" if known[0] > known[1] else "rises"
            findings.append(f"{in_words(method)} {verb} from {percent(known[0], 1)} to {percent(known[1], 1)}")
    where = f"{low} ({percent(least, 1)} of the training labels wrong)"
    place = f"at {where}" if low == high else f"from {where} to {high} ({percent(most, 1)})"
    return f"Test UAR {place}: {', '.join(findings)}."


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
            f"{in_words(family.reference)} there{also}.{oracle}"
        )
    if never:
        names = listing(list(map(in_words, never)), "or")
        lines.append(f"Nothing shows that {names} pays at {highest}, the highest level.")
    return lines


def _text(scores: Scores) -> pd.DataFrame:
    """Return the scores as displayed, in percent: a row per method, a column per noise level."""
    table = scores.table
    shown = {(row["method"], row["level"]): scores.short(row) for row in table.to_dict("records")}
    levels = table.drop_duplicates("level")
    methods = list(dict.fromkeys(table["method"]))
    columns = {
        f"{level} ({percent(rate, 1)} wrong)": [shown.get((method, level), MISSING) for method in methods]
        for level, rate in zip(levels["level"], levels["rate"], strict=True)
    }
    return pd.DataFrame({"method": list(map(in_words, methods)), **columns})
