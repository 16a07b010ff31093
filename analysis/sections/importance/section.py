"""Importance of the searched parameters, values near a bound, and expected validation performance by number of trials.

Importance is computed by fANOVA and PED-ANOVA, with its uncertainty and the chance level; slices, contours and parallel
coordinates show the trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.common.parameters import short_name, values_near_bounds
from analysis.common.records import Records, RecordsOptions
from analysis.common.searches import ONE_SEED, Search, left_out, searches
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.common.text import MISSING, between, number, with_deviation
from analysis.sections.importance.expected_performance import expected_performance, sufficient_trials
from analysis.sections.importance.figures import (
    Panel,
    draw_contours,
    draw_expected_performance,
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
from ser.utils.errors import unknown_name
from ser.utils.hashing import derived_seed
from study.schema import Selection

TITLE = "Importance of the searched parameters"
TOLERANCE = 0.01
COUNTS = (1, 2, 5, 10, 20, 40, 80, 160)
DRAWN = 4  # searches in a figure
LEAST_PARAMETERS = 2
CHANCE = {FANOVA: "chance (f)", PED_ANOVA: "chance (PED)"}


@dataclass(frozen=True)
class Options(RecordsOptions):
    """Show which searched parameters mattered, and how many trials were enough."""

    space: tuple[str, ...] = ()
    """Spaces whose slices, contours and parallel coordinates are drawn; default: the best one of each noise level."""
    output: Path = Path("results") / "importance"
    """Folder of the tables and figures."""


def section(records: Records, options: Options) -> Section:
    """Return the importances, the values near a bound, and the expected validation performance.

    Args:
        records: Records of the experiment.
        options: The spaces to draw.

    Raises:
        UserError: If no trial is of a space that ``--space`` names.
    """
    if records.search is None:
        reason = f"There is no trial of a search. To run one: {records.command('study/run.py')}"
        return Section("importance", TITLE, missing=(reason,))
    selection, found = records.search.selection, list(searches(records.search))
    for space in options.space:
        if space not in (known := {search.space for search in found}):
            raise unknown_name("--space", space, known)
    large = [search for search in found if len(search.trials) >= LEAST_TRIALS]
    table, importance_sentences, missing = _importance(records, found, selection)
    bounds = _bounds(large, selection)
    curves = _expected_performance(found, selection)
    sentences = [*importance_sentences, *_bound_sentences(bounds)]
    expected = _expected_sentences(curves)
    tables, figures = [], []
    if len(table):
        tables.append(_importance_table(table))
        figures.append(
            NamedFigure(
                "importance",
                f"Importance of the searched parameters for {selection.metric}. Filled: fANOVA; hollow: PED-ANOVA.",
                " ".join([*sentences, *expected]),
                draw_importances(table),
            )
        )
    if len(bounds):
        tables.append(_bounds_table(bounds))
    if len(curves):
        tables.append(_expected_table(curves, selection))
        figures.append(
            NamedFigure(
                "expected_best",
                "Expected best score of n finished trials, drawn without replacement (Dodge et al. 2019).",
                " ".join(expected) or "Each search's expected best score against its number of trials.",
                draw_expected_performance(curves, selection.metric),
            )
        )
    longest = max((len(search.trials) for search in large), default=0)
    return Section(
        "importance",
        TITLE,
        (*sentences, *expected),
        tuple(tables),
        (*figures, *_trial_figures(_panels(large, table, selection, options.space), selection)),
        (*_notes(len(table) > 0, len(curves) > 0, longest), *left_out(found)),
        tuple(missing),
    )


def _importance(
    records: Records, found: Sequence[Search], selection: Selection
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return the importances of all searches, a sentence on each, and what could not be computed."""
    tables: list[pd.DataFrame] = []
    sentences: list[str] = []
    few: dict[str, list[str]] = {}  # study → searches
    single, equal = [], []
    for search in found:
        count, parameters = len(search.trials), search.parameters()
        if count < LEAST_TRIALS:
            few.setdefault(search.study, []).append(f"{search.title} ({count})")
        elif len(parameters) < LEAST_PARAMETERS:
            single.append(search.title)
        elif np.ptp(search.scores) == 0:
            equal.append(search.title)
        else:
            seed = derived_seed(0, "importance", search.noise, search.space)
            own = importances(parameters, search.configurations, search.scores, selection.mode, seed)
            key = pd.DataFrame({"noise": search.noise, "space": search.space, "trials": count}, index=own.index)
            tables.append(key.join(own))
            sentences.append(_importance_sentence(search.title, own, count))
    missing = [
        f"Importance needs {LEAST_TRIALS} finished trials; too few for {', '.join(titles)}. To add trials: "
        f"{records.resume_command(study, '--trials', str(LEAST_TRIALS))}"
        for study, titles in few.items()
    ]
    if single:
        missing.append(f"Fewer than two parameters differ, so importances cannot be compared: {', '.join(single)}.")
    if equal:
        missing.append(f"All trials have the same score, so no parameter mattered: {', '.join(equal)}.")
    return (pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()), sentences, missing


def _importance_sentence(title: str, table: pd.DataFrame, count: int) -> str:
    """Return a sentence on the parameters above the chance level of both evaluators, of one, or of none."""
    above = {
        evaluator: set(table[(table["evaluator"] == evaluator) & table["stands_out"]]["parameter"])
        for evaluator in (FANOVA, PED_ANOVA)
    }
    values = {
        str(name): {row["evaluator"]: row for row in rows.to_dict("records")}
        for name, rows in table.groupby("parameter", sort=False)
    }

    def described(names: set[str]) -> str:
        descriptions = []
        for name in (name for name in values if name in names):
            fanova, ped = values[name][FANOVA], values[name][PED_ANOVA]
            descriptions.append(
                f"{short_name(name)} (fANOVA {fanova['importance']:.2f}, {fanova['low']:.2f} to "
                f"{fanova['high']:.2f} over resamples; PED-ANOVA {ped['importance']:.2f}, {ped['low']:.2f} to "
                f"{ped['high']:.2f})"
            )
        return " and ".join(descriptions)

    findings = []
    if both := above[FANOVA] & above[PED_ANOVA]:
        findings.append(f"{described(both)} above chance by both measures")
    for evaluator, names in above.items():
        if alone := names - both:
            findings.append(f"{described(alone)} above chance by {evaluator} only")
    return f"{title}, {count} trials: {'; '.join(findings) or 'no parameter is above the level of shuffled scores'}."


def _importance_table(table: pd.DataFrame) -> NamedTable:
    rows = []
    for _, values in table.groupby(["noise", "space", "parameter"], sort=False):
        row = values[["noise", "space", "trials", "parameter"]].astype(str).iloc[0].to_dict()
        row["parameter"] = short_name(row["parameter"])
        for evaluator in (FANOVA, PED_ANOVA):
            (value,) = values[values["evaluator"] == evaluator].to_dict("records")
            row[evaluator] = f"{value['importance']:.2f} ({value['low']:.2f}–{value['high']:.2f})"
            row[CHANCE[evaluator]] = number(value["chance"], 2)
        rows.append(row)
    caption = (
        f"Importance of the searched parameters, in brackets its range over {RESAMPLES} resamples of the trials; "
        f"chance: the largest importance of any parameter in {SHUFFLES} shuffles of the scores"
    )
    return NamedTable("importance", caption, table, pd.DataFrame(rows))


def _bounds(found: Sequence[Search], selection: Selection) -> pd.DataFrame:
    """Return the best trials' values near a bound, and how many of the five best trials are near the same bound."""
    tables = []
    for search in found:
        parameters, configurations = search.parameters(), search.configurations
        order = np.argsort(-search.scores if selection.mode == "max" else search.scores, kind="stable")
        near = values_near_bounds(search.space, parameters, configurations[order[0]])
        if near.empty:
            continue
        others = pd.concat([values_near_bounds(search.space, parameters, configurations[place]) for place in order[:5]])
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
            f"search {between(*wider)}"
            if wider != (row["low"], row["high"])
            else "values beyond this bound are not allowed"
        )
        sentences.append(
            f"{row['noise']} {row['space']}: the best {short_name(row['parameter'])}, {row['value']:.3g}, is near the "
            f"{row['bound']} bound of {between(row['low'], row['high'])}, as in {row['of_best_five']} of the five best "
            f"trials: {advice}."
        )
    return sentences


def _bounds_table(bounds: pd.DataFrame) -> NamedTable:
    text = bounds[["noise", "space", "parameter"]].copy()
    text["parameter"] = text["parameter"].map(short_name)
    text["best value"] = [f"{value:.3g}" for value in bounds["value"]]
    text["searched"] = list(map(between, bounds["low"], bounds["high"]))
    text["near bound"] = bounds["bound"]
    text["of the best five"] = bounds["of_best_five"].astype(str)
    text["wider range"] = [
        between(row["wider_low"], row["wider_high"])
        if (row["wider_low"], row["wider_high"]) != (row["low"], row["high"])
        else MISSING
        for row in bounds.to_dict("records")
    ]
    return NamedTable("bounds", "Best values within 5 % of the range from a bound", bounds, text)


def _expected_performance(found: Sequence[Search], selection: Selection) -> pd.DataFrame:
    tables = []
    for search in found:
        if len(search.trials):
            curve = expected_performance(search.scores, selection.mode)
            curve.insert(0, "space", search.space)
            curve.insert(0, "noise", search.noise)
            tables.append(curve)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _expected_sentences(curves: pd.DataFrame) -> list[str]:
    """Return one sentence per level: the number of trials with an expected best within .01 of that of all trials."""
    if curves.empty:
        return []
    sentences = []
    for noise, of_level in curves.groupby("noise", sort=False):
        counts = [
            f"{space} {sufficient_trials(curve, TOLERANCE)} of {len(curve)}"
            for space, curve in of_level.groupby("space", sort=False)
            if len(curve) >= LEAST_TRIALS
        ]
        if counts:
            sentences.append(
                f"{noise}: number of finished trials whose expected best is within {TOLERANCE:g} of that of all: "
                f"{', '.join(counts)}."
            )
    return sentences


def _expected_table(curves: pd.DataFrame, selection: Selection) -> NamedTable:
    rows = []
    for _, curve in curves.groupby(["noise", "space"], sort=False):
        by_count = curve.set_index("trials").to_dict("index")
        row = curve[["noise", "space"]].iloc[0].to_dict()
        for count in (count for count in COUNTS if count <= curves["trials"].max()):
            known = by_count.get(count)
            row[str(count)] = (
                with_deviation(known["expected"], known["deviation"] if known["band"] else None) if known else MISSING
            )
        rows.append({**row, "all": f"{number(curve['expected'].iloc[-1])} ({len(curve)})"})
    caption = f"Expected best {selection.metric} of n finished trials, ± the standard deviation of the best"
    return NamedTable("expected_best", caption, curves, pd.DataFrame(rows))


def _panels(found: Sequence[Search], table: pd.DataFrame, selection: Selection, spaces: Sequence[str]) -> list[Panel]:
    """Return the searches with known importance to draw: those of ``spaces``, or the best of each level."""
    panels: list[Panel] = []
    best_of: dict[str, Panel] = {}
    sign = 1 if selection.mode == "max" else -1
    for search in found:
        if table.empty or (spaces and search.space not in spaces):
            continue
        own = table[(table["noise"] == search.noise) & (table["space"] == search.space)]
        order = list(own[own["evaluator"] == FANOVA]["parameter"])
        if not order:
            continue
        parameters = sorted(search.parameters(), key=lambda parameter: order.index(parameter.name))
        best = search.best(selection)
        panel = Panel(
            search.title, parameters, search.configurations, search.scores, best, selection.metric, selection.mode
        )
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
            "Score of every finished trial against each parameter, on the searched scale; star: the best trial; line: "
            f"mean of the trials nearby. Searches: {titles}.",
            f"Scatter plots of {selection.metric} against the most important parameters of {titles}.",
            draw_slices(panels),
        )
    ]
    flat = [
        panel for panel in panels if sum(not parameter.choices for parameter in panel.parameters) >= LEAST_PARAMETERS
    ]
    if flat:
        figures.append(
            NamedFigure(
                "contours",
                "Mean score of the trials nearby over the two most important numeric parameters; blank where there is "
                "no trial; star: the best trial.",
                f"Contour plots of {selection.metric} for {'; '.join(panel.title for panel in flat)}.",
                draw_contours(flat),
            )
        )
    figures.append(
        NamedFigure(
            "parallel",
            "Every finished trial as a line through its parameters; dashed: the best trial.",
            f"Parallel coordinates of {titles}, coloured by {selection.metric}.",
            draw_parallel(panels),
        )
    )
    return figures


def _notes(has_importance: bool, has_expected: bool, longest: int) -> list[str]:
    notes = [ONE_SEED]
    if has_importance:
        notes.append(
            "fANOVA is the share of the score's variance over the whole range that a parameter explains alone; "
            "PED-ANOVA measures how the best tenth of the trials (at least five) differs from all. Forests and density "
            "estimates find importance in any scores, hence the comparison with shuffled scores, which a parameter "
            "without influence exceeds in one of twenty searches. A sampler that adapts, such as TPE, tries good "
            "regions more often; importance depends on what was tried."
        )
    if has_importance and longest > MOST_TRIALS:
        notes.append(
            f"Importance is computed from at most {MOST_TRIALS} trials per search, drawn at random, because forests of "
            "thousands of trials take minutes. The range over resamples includes this uncertainty."
        )
    if has_expected:
        notes.append(
            "The expected best assumes trials that were drawn independently. TPE's later trials are better, so the "
            "curves are too optimistic for few trials. The deviation is shown for up to half of the trials, because "
            "larger subsets share most of their trials."
        )
    return notes
