"""Importance of the searched parameters, values near a bound, and expected validation performance by number of trials.

Importance is computed by fANOVA and PED-ANOVA, with its uncertainty and the chance level; slices, contours and parallel
coordinates show the trials.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.common.parameters import parameter_in_words, short_name, values_near_bounds
from analysis.common.records import Records
from analysis.common.searches import ONE_SEED, Score, Search, left_out, score_of_search, searches
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.common.text import MISSING, between, counted, in_brief, listing, number, with_deviation
from analysis.options import ImportanceOptions as Options
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
from study.schema import Selection, in_words
from study.tracking.best_table import short_parameters

TITLE = "Searched parameters and number of trials"
TOLERANCE = 0.01
COUNTS = (1, 2, 5, 10, 20, 40, 80, 160)
DRAWN = 4  # searches in a figure
LEAST_PARAMETERS = 2
CHANCE = {FANOVA: "fANOVA, shuffled", PED_ANOVA: "PED-ANOVA, shuffled"}
MOST_LISTED = 4


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
    score = score_of_search(records, selection.metric)
    for space in options.space:
        if space not in (known := {search.space for search in found}):
            raise unknown_name("--space", space, known)
    large = [search for search in found if len(search.trials) >= LEAST_TRIALS]
    table, importance_sentences, missing = _importance(records, found, selection)
    bounds = _bounds(large, selection)
    curves = _expected_performance(found, selection)
    expected = expected_sentences(curves, score)
    tables, figures = [], []
    if len(table):
        tables.append(_importance_table(table))
        figures.append(
            NamedFigure(
                "importance",
                f"Importance of the searched parameters for {score.name}. Filled: fANOVA; hollow: PED-ANOVA",
                " ".join(importance_sentences),
                draw_importances(table),
            )
        )
    if len(bounds):
        tables.append(_bounds_table(bounds))
    if len(curves) and curves["trials"].max() > 1:
        tables.append(_expected_table(curves, score))
        figures.append(
            NamedFigure(
                "expected_best",
                "Expected best score of n finished trials, drawn without replacement (Dodge et al. 2019)",
                _described(curves, score),
                draw_expected_performance(curves, score),
            )
        )
    longest = max((len(search.trials) for search in large), default=0)
    panels = _panels(large, table, selection, score, options.space)
    return Section(
        "importance",
        TITLE,
        (*importance_sentences, *bound_sentences(bounds), *expected),
        tuple(tables),
        (*figures, *_trial_figures(panels, score)),
        (*_notes(len(table) > 0, len(curves) > 0, longest), *left_out(found)),
        tuple(missing),
    )


def _importance(
    records: Records, found: Sequence[Search], selection: Selection
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return the importances of all searches, sentences on them, and what could not be computed."""
    tables: list[pd.DataFrame] = []
    few: dict[str, list[Search]] = {}  # study → searches
    single, equal = [], []
    for search in found:
        count, parameters = len(search.trials), search.parameters()
        if count < LEAST_TRIALS:
            few.setdefault(search.study, []).append(search)
        elif len(parameters) < LEAST_PARAMETERS:
            single.append(search.title)
        elif np.ptp(search.scores) == 0:
            equal.append(search.title)
        else:
            seed = derived_seed(0, "importance", search.noise, search.space)
            own = importances(parameters, search.configurations, search.scores, selection.mode, seed)
            key = pd.DataFrame({"noise": search.noise, "space": search.space, "trials": count}, index=own.index)
            tables.append(key.join(own))
    missing = [_too_few(records, study, small) for study, small in few.items()]
    if single:
        missing.append(f"Fewer than two parameters differ, so importances cannot be compared: {'; '.join(single)}.")
    if equal:
        missing.append(f"All trials have the same score, so no parameter mattered: {'; '.join(equal)}.")
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return table, importance_sentences(table), missing


def _too_few(records: Records, study: str, small: Sequence[Search]) -> str:
    counts = [len(search.trials) for search in small]
    which = f"{len(small)} searches of {study} have {between(min(counts), max(counts))}"
    if len(small) <= MOST_LISTED:
        which = f"study {study} has {listing([f'{len(search.trials)} ({search.title})' for search in small])}"
    command = records.resume_command(study, "--trials", str(LEAST_TRIALS))
    return (
        f"Importance of parameters needs {LEAST_TRIALS} finished trials per method and noise level; {which}. To add "
        f"trials: {command}"
    )


def importance_sentences(table: pd.DataFrame) -> list[str]:
    """Return a sentence on each search with parameters above the level of shuffled scores, and one on the others.

    Args:
        table: From ``importances``, with ``noise``, ``space`` and ``trials``; may be empty.
    """
    if table.empty:
        return []
    sentences, without = [], []
    for (noise, space), rows in table.groupby(["noise", "space"], sort=False):
        above = {
            evaluator: rows[(rows["evaluator"] == evaluator) & rows["stands_out"]].set_index("parameter")["importance"]
            for evaluator in (FANOVA, PED_ANOVA)
        }
        both = [str(name) for name in above[FANOVA].index if name in above[PED_ANOVA].index]
        findings = [
            f"{parameter_in_words(name)} mattered by both measures (fANOVA {above[FANOVA][name]:.2f}, PED-ANOVA "
            f"{above[PED_ANOVA][name]:.2f})"
            for name in both
        ]
        findings += [
            f"{parameter_in_words(str(name))} mattered by {evaluator} alone ({value:.2f})"
            for evaluator, values in above.items()
            for name, value in values.items()
            if name not in both
        ]
        if findings:
            trials = counted(int(rows["trials"].iloc[0]), "trial")
            sentences.append(f"{in_words(str(space))} at {noise}, {trials}: {listing(findings)}.")
        else:
            without.append(f"{in_words(str(space))} at {noise}")
    if without:
        named = listing(without) if len(without) <= MOST_LISTED else f"{len(without)} searches"
        sentences.append(f"No parameter stands out from shuffled scores: {named}.")
    return sentences


def _importance_table(table: pd.DataFrame) -> NamedTable:
    rows = []
    for (noise, space, parameter), values in table.groupby(["noise", "space", "parameter"], sort=False):
        row = {"noise": noise, "method": in_words(str(space)), "parameter": parameter_in_words(str(parameter))}
        for evaluator in (FANOVA, PED_ANOVA):
            (value,) = values[values["evaluator"] == evaluator].to_dict("records")
            row[evaluator] = f"{value['importance']:.2f} ({value['low']:.2f}–{value['high']:.2f})"
            row[CHANCE[evaluator]] = number(value["chance"], 2)
        rows.append(row)
    caption = (
        f"Importance of the searched parameters from 0 to 1, in brackets its range over {RESAMPLES} resamples of the "
        f"trials; shuffled: the largest importance of any parameter in {SHUFFLES} shuffles of the scores"
    )
    return NamedTable("importance", caption, table, pd.DataFrame(rows), keys=3)


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


def bound_sentences(bounds: pd.DataFrame) -> list[str]:
    """Return a sentence on the best values that are near a bound of the searched range.

    Args:
        bounds: From ``values_near_bounds``, with ``noise`` and ``space``; may be empty.
    """
    rows = bounds.to_dict("records")
    named = [
        f"{short_name(row['parameter'])} {row['value']:.3g} of {in_words(row['space'])} at {row['noise']}"
        for row in rows[:MOST_LISTED]
    ]
    more = len(rows) - MOST_LISTED
    if more > 0:
        named.append(f"{more} more in the table")
    wider = " The table has wider ranges to search." if any(map(_is_wider, rows)) else ""
    return [f"Near a bound of its searched range is {listing(named)}.{wider}"] if rows else []


def _is_wider(row: Mapping[Hashable, Any]) -> bool:
    return (row["wider_low"], row["wider_high"]) != (row["low"], row["high"])


def _bounds_table(bounds: pd.DataFrame) -> NamedTable:
    rows = bounds.to_dict("records")
    text = pd.DataFrame(
        {
            "noise": [row["noise"] for row in rows],
            "method": [in_words(row["space"]) for row in rows],
            "parameter": [parameter_in_words(row["parameter"]) for row in rows],
            "best value": [f"{row['value']:.3g}" for row in rows],
            "searched range": [between(row["low"], row["high"]) for row in rows],
            "near bound": [row["bound"] for row in rows],
            "of the best five trials": [str(row["of_best_five"]) for row in rows],
            "range to search next": [
                between(row["wider_low"], row["wider_high"], ".3g") if _is_wider(row) else "no wider one is allowed"
                for row in rows
            ],
        }
    )
    caption = "Values of the best trials within 5 % of the searched range from a bound"
    return NamedTable("bounds", caption, bounds, text, keys=3)


def _expected_performance(found: Sequence[Search], selection: Selection) -> pd.DataFrame:
    tables = []
    for search in found:
        if len(search.trials):
            curve = expected_performance(search.scores, selection.mode)
            curve.insert(0, "space", search.space)
            curve.insert(0, "noise", search.noise)
            tables.append(curve)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def expected_sentences(curves: pd.DataFrame, score: Score) -> list[str]:
    """Return a sentence on the number of trials with an expected best close to that of all trials.

    Args:
        curves: From ``expected_performance``, with ``noise`` and ``space``; may be empty.
        score: The score in words.
    """
    if curves.empty:
        return []
    within = "1 point" if score.scale > 1 else f"{TOLERANCE:g} nats"
    levels = []
    for noise, of_level in curves.groupby("noise", sort=False):
        counts = [
            f"{sufficient_trials(curve, TOLERANCE)} of {len(curve)} with {in_words(str(space))}"
            for space, curve in of_level.groupby("space", sort=False)
            if len(curve) >= LEAST_TRIALS
        ]
        if counts:
            levels.append(f"{listing(counts)} at {noise}")
    if not levels:
        return []
    return [f"Trials whose expected best is within {within} of that of all: {'; '.join(levels)}."]


def _described(curves: pd.DataFrame, score: Score) -> str:
    """Return what the figure shows: the values of the curves for one trial and for all trials."""
    lines = []
    for noise, of_level in curves.groupby("noise", sort=False):
        expected = {in_words(str(space)): curve["expected"] for space, curve in of_level.groupby("space", sort=False)}
        first, last = ({name: values.iloc[end] for name, values in expected.items()} for end in (0, -1))
        lines.append(f"{noise}: of one trial {in_brief(first, score.text)}; of all {in_brief(last, score.text)}.")
    return " ".join([f"Expected best {score.name}.", *lines])


def _expected_table(curves: pd.DataFrame, score: Score) -> NamedTable:
    rows = []
    digits = 1 if score.scale > 1 else 3
    for (noise, space), curve in curves.groupby(["noise", "space"], sort=False):
        by_count = curve.set_index("trials").to_dict("index")
        row = {"noise": noise, "method": in_words(str(space))}
        for count in (count for count in COUNTS if count <= curves["trials"].max()):
            known, heading = by_count.get(count), f"of {counted(count, 'trial')}"
            deviation = known["deviation"] if known and known["band"] else None
            row[heading] = MISSING
            if known:
                deviation = None if deviation is None else score.scale * deviation
                row[heading] = with_deviation(score.scale * known["expected"], deviation, digits)
        rows.append({**row, "of all": f"{score.number(curve['expected'].iloc[-1])} ({len(curve)})"})
    unit = "in %" if score.scale > 1 else "in nats"
    caption = f"Expected best {score.name} of n finished trials, {unit}, ± the standard deviation of the best"
    return NamedTable("expected_best", caption, curves, pd.DataFrame(rows), keys=2)


def _panels(
    found: Sequence[Search], table: pd.DataFrame, selection: Selection, score: Score, spaces: Sequence[str]
) -> list[Panel]:
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
        scores = score.scale * search.scores
        panel = Panel(search.title, parameters, search.configurations, scores, best, score.axis, selection.mode)
        panels.append(panel)
        rival = best_of.get(search.noise)
        if rival is None or sign * panel.scores[best] > sign * rival.scores[rival.best]:
            best_of[search.noise] = panel
    return (panels if spaces else list(best_of.values()))[:DRAWN]


def _trial_figures(panels: Sequence[Panel], score: Score) -> list[NamedFigure]:
    if not panels:
        return []
    best = "; ".join(
        f"{panel.title}: the best of {len(panel.scores)} trials, {score.text(panel.scores[panel.best] / score.scale)}, "
        f"has {short_parameters({one.name: panel.configurations[panel.best][one.name] for one in panel.parameters})}"
        for panel in panels
    )
    figures = [
        NamedFigure(
            "slices",
            f"Finished trials by {score.name} and the value of each parameter, on the searched scale; star: the best "
            "trial; line: mean of the trials nearby",
            f"{best}.",
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
                f"Mean {score.name} of the trials nearby over the two most important numeric parameters; blank where "
                "there is no trial; star: the best trial",
                f"{best}.",
                draw_contours(flat),
            )
        )
    figures.append(
        NamedFigure(
            "parallel",
            "Finished trials as lines through their parameters; dashed: the best trial",
            f"{best}.",
            draw_parallel(panels),
        )
    )
    return figures


def _notes(has_importance: bool, has_expected: bool, longest: int) -> list[str]:
    notes = [ONE_SEED]
    if has_importance:
        notes.append(
            "fANOVA: share of the score's variance over the whole range that a parameter explains alone. PED-ANOVA: "
            "how much the best tenth of the trials (at least five) differs from all trials in this parameter. Both "
            "find some importance in any scores; a parameter mattered if it exceeds what they find in shuffled scores, "
            "which one without influence does in one of twenty searches. Importance depends on what was tried: a "
            "sampler that adapts, such as TPE, tries good regions more often."
        )
    if has_importance and longest > MOST_TRIALS:
        notes.append(
            f"Importance is computed from at most {MOST_TRIALS} trials per search, drawn at random, to save time. The "
            "range over resamples includes this uncertainty."
        )
    if has_expected:
        notes.append(
            "The expected best assumes that trials were drawn independently. TPE's later trials are better, so the "
            "curves are too optimistic for few trials. The deviation is shown for up to half of the trials, because "
            "larger subsets share most of their trials."
        )
    return notes
