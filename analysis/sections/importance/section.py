"""What mattered in a search, and was its budget enough: python analysis/importance.py.

Importance of the searched parameters (fANOVA and PED-ANOVA) with its spread and what chance gives, warnings where the
best values lean on a bound, slices, contours, parallel coordinates, and the expected best against the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from analysis.common.parameters import leaning
from analysis.common.records import Records, RecordsOptions, open_records
from analysis.common.searches import ONE_SEED, Search, left_out, searches
from analysis.common.section import NamedFigure, NamedTable, Section, show, write
from analysis.sections.importance.expected_performance import enough, expected_best
from analysis.sections.importance.figures import (
    Panel,
    draw_budgets,
    draw_contours,
    draw_importances,
    draw_parallel,
    draw_slices,
)
from analysis.sections.importance.scores import (
    FANOVA,
    LEAST_TRIALS,
    MOST_TRIALS,
    PED_ANOVA,
    RESAMPLES,
    SHUFFLES,
    importances,
)
from ser.utils.command_line import parse
from ser.utils.errors import unknown_name
from ser.utils.hashing import derived_seed
from study.schema import Selection
from study.tracking.searches import make_console

TOLERANCE = 0.01
BUDGETS = (1, 2, 5, 10, 20, 40, 80, 160)
DRAWN = 4  # searches in a figure
LEAST_NUMBERS = 2
CHANCE = {FANOVA: "chance (f)", PED_ANOVA: "chance (PED)"}


@dataclass(frozen=True)
class ImportanceOptions(RecordsOptions):
    """Shows which searched parameters mattered, and whether the budget was enough."""

    space: tuple[str, ...] = ()
    """Draw slices, contours and parallel coordinates of these spaces; default the best of each noise level."""
    output: Path = Path("results") / "importance"
    """Folder for the tables and figures."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = parse(ImportanceOptions)
    matplotlib.use("agg")
    records = open_records(options)
    console = make_console()
    found = section(records, options.space)
    show(found, console)
    for path in write([found], options.output):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True, markup=False)
    return 0


def section(records: Records, spaces: Sequence[str] = ()) -> Section:
    """What mattered, what leans on a bound, and what the budget gave.

    Args:
        records: Of one experiment.
        spaces: To be drawn trial by trial; empty: the best of each noise level.

    Raises:
        UserError: No trial is of one of ``spaces``.
    """
    title = "What mattered in the search"
    if records.search is None:
        reason = "There is no trial of a search. To get one: python study/run.py"
        return Section("importance", title, missing=(reason,))
    selection, found = records.search.selection, list(searches(records.search))
    for space in spaces:
        if space not in (known := {search.space for search in found}):
            raise unknown_name("space", space, known)
    enough_trials = [search for search in found if len(search.trials) >= LEAST_TRIALS]
    longest = max((len(search.trials) for search in enough_trials), default=0)
    table, sentences, missing = _importance(found, selection)
    bounds = _bounds(enough_trials, selection)
    sentences += _bound_sentences(bounds)
    curves = _budgets(found, selection)
    sentences += _budget_sentences(curves)
    tables, figures = [], []
    if len(table):
        tables.append(_importance_table(table))
        figures.append(
            NamedFigure(
                "importance",
                f"Importance of the searched parameters for {selection.metric}. Filled: fANOVA; hollow: PED-ANOVA.",
                " ".join(sentences),
                draw_importances(table),
            )
        )
    if len(bounds):
        tables.append(_bounds_table(bounds))
    if len(curves):
        tables.append(_budget_table(curves, selection))
        figures.append(
            NamedFigure(
                "expected_best",
                "Expected best score of n finished trials, drawn without replacement (Dodge et al. 2019).",
                " ".join(_budget_sentences(curves)) or "Each search's expected best against its number of trials.",
                draw_budgets(curves, selection.metric),
            )
        )
    figures += _trial_figures(_panels(enough_trials, table, selection, spaces), selection)
    return Section(
        "importance",
        title,
        tuple(sentences),
        tuple(tables),
        tuple(figures),
        (*_notes(len(table) > 0, len(curves) > 0, longest), *left_out(found, records.search.others)),
        tuple(missing),
    )


def _importance(found: Sequence[Search], selection: Selection) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The table of all searches, a sentence on each, and what could not be estimated."""
    tables: list[pd.DataFrame] = []
    sentences: list[str] = []
    few: dict[str, list[str]] = {}  # by study
    single, equal = [], []
    for search in found:
        count, axes = len(search.trials), search.axes()
        if count < LEAST_TRIALS:
            few.setdefault(search.study, []).append(f"{search.title} ({count})")
        elif len(axes) < LEAST_NUMBERS:
            single.append(search.title)
        elif np.ptp(search.scores) == 0:
            equal.append(search.title)
        else:
            seed = derived_seed(0, "importance", search.noise, search.space)
            part = importances(axes, search.parameters, search.scores, selection.mode, seed)
            key = pd.DataFrame({"noise": search.noise, "space": search.space, "trials": count}, index=part.index)
            tables.append(key.join(part))
            sentences.append(_importance_sentence(search.title, part, count))
    missing = [
        f"Importance needs {LEAST_TRIALS} finished trials; too few for {', '.join(titles)}. "
        f"To get them: python study/run.py --resume --name {study} --trials {LEAST_TRIALS}"
        for study, titles in few.items()
    ]
    if single:
        missing.append(f"Fewer than two parameters differ, so that no importance is divided: {', '.join(single)}.")
    if equal:
        missing.append(f"All trials have the same score, so that nothing mattered: {', '.join(equal)}.")
    return (pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()), sentences, missing


def _importance_sentence(title: str, part: pd.DataFrame, count: int) -> str:
    """What stands out from chance by both evaluators, by one, or not at all."""
    marked = {
        evaluator: set(part[(part["evaluator"] == evaluator) & part["stands_out"]]["parameter"])
        for evaluator in (FANOVA, PED_ANOVA)
    }
    values = {
        str(name): {row["evaluator"]: row for row in rows.to_dict("records")}
        for name, rows in part.groupby("parameter", sort=False)
    }

    def named(names: set[str]) -> str:
        told = []
        for name in (name for name in values if name in names):
            fanova, ped = values[name][FANOVA], values[name][PED_ANOVA]
            told.append(
                f"{name.partition('.')[2]} (fANOVA {fanova['importance']:.2f}, {fanova['low']:.2f} to "
                f"{fanova['high']:.2f} over resamples; PED-ANOVA {ped['importance']:.2f}, {ped['low']:.2f} to "
                f"{ped['high']:.2f})"
            )
        return " and ".join(told)

    found = []
    if both := marked[FANOVA] & marked[PED_ANOVA]:
        found.append(f"{named(both)} above chance by both measures")
    for evaluator, names in marked.items():
        if alone := names - both:
            found.append(f"{named(alone)} above chance by {evaluator} alone")
    return f"{title}, {count} trials: {'; '.join(found) or 'no parameter stands out from what shuffled scores give'}."


def _importance_table(table: pd.DataFrame) -> NamedTable:
    rows = []
    for _, part in table.groupby(["noise", "space", "parameter"], sort=False):
        row = part[["noise", "space", "trials", "parameter"]].astype(str).iloc[0].to_dict()
        row["parameter"] = row["parameter"].partition(".")[2]
        for evaluator in (FANOVA, PED_ANOVA):
            (value,) = part[part["evaluator"] == evaluator].to_dict("records")
            row[evaluator] = f"{value['importance']:.2f} ({value['low']:.2f}–{value['high']:.2f})"
            row[CHANCE[evaluator]] = f"{value['chance']:.2f}"
        rows.append(row)
    caption = (
        f"Importance of the searched parameters, in brackets its range over {RESAMPLES} resamples of the trials; "
        f"chance: the largest of any parameter in {SHUFFLES} shuffles of the scores"
    )
    return NamedTable("importance", caption, table, pd.DataFrame(rows))


def _bounds(found: Sequence[Search], selection: Selection) -> pd.DataFrame:
    """Best values that lean on a bound, with how many of the five best trials do."""
    tables = []
    for search in found:
        axes = search.axes()
        order = np.argsort(-search.scores if selection.mode == "max" else search.scores, kind="stable")
        near = leaning(search.space, axes, search.parameters[order[0]])
        if near.empty:
            continue
        others = pd.concat([leaning(search.space, axes, search.parameters[place]) for place in order[:5]])
        keys = list(zip(others["parameter"], others["bound"], strict=True))
        near["of_best_five"] = [keys.count(pair) for pair in zip(near["parameter"], near["bound"], strict=True)]
        near.insert(0, "space", search.space)
        near.insert(0, "noise", search.noise)
        tables.append(near)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _bound_sentences(bounds: pd.DataFrame) -> list[str]:
    sentences = []
    for row in bounds.to_dict("records"):
        wider = (row["wider_low"], row["wider_high"])
        advice = (
            f"search {wider[0]:g} to {wider[1]:g}"
            if wider != (row["low"], row["high"])
            else "no value beyond it is allowed"
        )
        sentences.append(
            f"{row['noise']} {row['space']}: the best {row['parameter'].partition('.')[2]}, {row['value']:.3g}, leans "
            f"on the {row['bound']} bound of {row['low']:g} to {row['high']:g}, as do {row['of_best_five']} of the "
            f"five best trials: {advice}."
        )
    return sentences


def _bounds_table(bounds: pd.DataFrame) -> NamedTable:
    text = bounds[["noise", "space", "parameter"]].copy()
    text["parameter"] = text["parameter"].str.partition(".")[2]
    text["best value"] = [f"{value:.3g}" for value in bounds["value"]]
    text["searched"] = [f"{low:g} to {high:g}" for low, high in zip(bounds["low"], bounds["high"], strict=True)]
    text["leans on"] = bounds["bound"]
    text["of the best five"] = bounds["of_best_five"].astype(str)
    text["wider"] = [
        f"{row['wider_low']:g} to {row['wider_high']:g}"
        if (row["wider_low"], row["wider_high"]) != (row["low"], row["high"])
        else "–"
        for row in bounds.to_dict("records")
    ]
    return NamedTable("bounds", "Best values within 5 % of the range of a bound", bounds, text)


def _budgets(found: Sequence[Search], selection: Selection) -> pd.DataFrame:
    tables = []
    for search in found:
        if len(search.trials):
            curve = expected_best(search.scores, selection.mode)
            curve.insert(0, "space", search.space)
            curve.insert(0, "noise", search.noise)
            tables.append(curve)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _budget_sentences(curves: pd.DataFrame) -> list[str]:
    """For each search, how many trials would have come within .01 of what all gave."""
    if curves.empty:
        return []
    sentences = []
    for noise, of_level in curves.groupby("noise", sort=False):
        parts = [
            f"{space} {enough(curve, TOLERANCE)} of {len(curve)}"
            for space, curve in of_level.groupby("space", sort=False)
            if len(curve) >= LEAST_TRIALS
        ]
        if parts:
            sentences.append(
                f"{noise}: finished trials that bring the expected best within {TOLERANCE:g} of that of all: "
                f"{', '.join(parts)}."
            )
    return sentences


def _budget_table(curves: pd.DataFrame, selection: Selection) -> NamedTable:
    rows = []
    for _, curve in curves.groupby(["noise", "space"], sort=False):
        by_count = curve.set_index("trials").to_dict("index")
        row = curve[["noise", "space"]].iloc[0].to_dict()
        for budget in BUDGETS:
            if budget <= curves["trials"].max():
                known = by_count.get(budget)
                cell = f"{known['expected']:.3f}" if known else "–"
                row[str(budget)] = f"{cell} ± {known['deviation']:.3f}" if known and known["band"] else cell
        rows.append({**row, "all": f"{curve['expected'].iloc[-1]:.3f} ({len(curve)})"})
    caption = f"Expected best {selection.metric} of n finished trials, ± the standard deviation of the best"
    return NamedTable("expected_best", caption, curves, pd.DataFrame(rows))


def _panels(found: Sequence[Search], table: pd.DataFrame, selection: Selection, spaces: Sequence[str]) -> list[Panel]:
    """What is drawn trial by trial: searches of ``spaces``, or the best of each level, whose importance is known."""
    panels: list[Panel] = []
    best_of: dict[str, Panel] = {}
    sign = 1 if selection.mode == "max" else -1
    for search in found:
        if table.empty or (spaces and search.space not in spaces):
            continue
        part = table[(table["noise"] == search.noise) & (table["space"] == search.space)]
        order = list(part[part["evaluator"] == FANOVA]["parameter"])
        if not order:
            continue
        axes = sorted(search.axes(), key=lambda axis: order.index(axis.name))
        best = search.best(selection)
        panel = Panel(search.title, axes, search.parameters, search.scores, best, selection.metric, selection.mode)
        panels.append(panel)
        rival = best_of.get(search.noise)
        if rival is None or sign * panel.scores[best] > sign * rival.scores[rival.best]:
            best_of[search.noise] = panel
    return (panels if spaces else list(best_of.values()))[:DRAWN]


def _trial_figures(panels: Sequence[Panel], selection: Selection) -> list[NamedFigure]:
    if not panels:
        return []
    titles = "; ".join(panel.title for panel in panels)
    figures = [
        NamedFigure(
            "slices",
            "Score of every finished trial against each parameter, on the scale that was searched; star: the best; "
            f"line: mean of the trials around. Searches: {titles}.",
            f"Scatter plots of {selection.metric} against the most important parameters of {titles}.",
            draw_slices(panels),
        )
    ]
    flat = [panel for panel in panels if sum(not axis.choices for axis in panel.axes) >= LEAST_NUMBERS]
    if flat:
        figures.append(
            NamedFigure(
                "contours",
                "Mean score of the trials around each pair of the two most important numbers; blank where there is no "
                "trial; star: the best.",
                f"Contour plots of {selection.metric} for {'; '.join(panel.title for panel in flat)}.",
                draw_contours(flat),
            )
        )
    figures.append(
        NamedFigure(
            "parallel",
            "Every finished trial as a line through its parameters; dashed: the best.",
            f"Parallel coordinates of {titles}, coloured by {selection.metric}.",
            draw_parallel(panels),
        )
    )
    return figures


def _notes(estimated: bool, budgets: bool, longest: int) -> list[str]:
    notes = [ONE_SEED]
    if estimated:
        notes.append(
            "fANOVA is the share of the score's variance over the whole range that a parameter explains alone; "
            "PED-ANOVA tells what sets the best tenth of the trials (five at least) apart from all. Forests and "
            "densities find something in any scores, hence the comparison with shuffled ones, which parameters without "
            "influence pass once in twenty searches. A sampler that learns, as TPE does, tries good regions more "
            "often; importance rests on what was tried."
        )
    if estimated and longest > MOST_TRIALS:
        notes.append(
            f"Importance is of {MOST_TRIALS} trials of a search at most, drawn at random: forests of thousands take "
            "minutes a search. The range over resamples tells what that leaves open."
        )
    if budgets:
        notes.append(
            "The expected best takes trials as drawn independently. TPE's are not: later ones are better, so that the "
            "curves flatter small budgets. The deviation is told up to half of the trials, since the few subsets "
            "beyond share most of theirs."
        )
    return notes
