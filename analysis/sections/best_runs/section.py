"""Best run per noise level and search space, with the test scores of the confirmed configurations."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from analysis.common.records import Records
from analysis.common.searches import Score, score_of_search
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.common.text import MISSING, at_epoch, configuration_in_words, in_percent, percent, without_empty_columns
from analysis.options import BestRunsOptions as Options
from analysis.sections.best_runs.confirmed_scores import confirmed_section, parameters_table
from analysis.sections.best_runs.figures import draw_trials
from ser.metrics.classification import METRICS
from ser.utils.errors import UserError
from study.schema import FAILED, FINISHED, RUNNING, STOPPED, in_words
from study.tracking.best_table import OVERVIEW
from study.tracking.searches import Trials, best_runs, caveats

TITLE = "Best runs"
HEADINGS = {
    "val_noisy/uar": "UAR, noisy labels",
    "val/soft_ce": "cross entropy, votes",
    "f1_weighted": "weighted F1",
    "f1_macro": "macro F1",
}
"""Metric → heading of its column; the metric that chose has a column of its own unless it is UAR."""
UNITLESS = {"ece"}
"""Metrics between 0 and 1 that are not given in percent."""


def section(records: Records, options: Options) -> Section:
    """Return the best runs of the search and the scores of the confirmed configurations on test rows.

    Args:
        records: Records of either stage or both.
        options: How many runs are shown.

    Raises:
        UserError: If ``--top`` is below 1, or if a per-utterance table cannot be read or does not match the others.
    """
    if options.top < 1:
        raise UserError(f"--top is {options.top}; it must be at least 1.")
    confirmed, scores = confirmed_section(records)
    trials = records.search
    best = None if trials is None else best_runs(trials, options.top)
    parameters = parameters_table(best, scores)
    tables = [*confirmed.tables, *([] if parameters is None else [parameters])]
    if trials is None or best is None:
        return replace(confirmed, tables=tuple(tables))
    return replace(
        confirmed,
        title=TITLE,
        tables=(*_best_table(records, trials, best), *tables),
        figures=_figures(records, trials, best),
        notes=(*caveats(trials, best), *confirmed.notes),
    )


def with_parameters(best: pd.DataFrame) -> pd.DataFrame:
    """Return the best runs with one column per searched parameter.

    Args:
        best: From ``study.tracking.searches.best_runs``.
    """
    return best.drop(columns=["parameters", "start", "planned"]).join(
        pd.DataFrame(list(best["parameters"]), index=best.index)
    )


def _best_table(records: Records, trials: Trials, best: pd.DataFrame) -> list[NamedTable]:
    """Return the table of the best runs; none while no trial has finished."""
    if best["run_id"].isna().all():
        return []
    rule = score_of_search(records, trials.selection.metric)
    truth = score_of_search(records, "val/uar")
    text = pd.DataFrame({"noise": best["noise"], "method": best["space"].map(in_words)})
    text["wrong labels"] = [percent(rate, 1) for rate in best["rate"]]
    trial_names = best["trial"].where(best["run_id"].notna(), MISSING).astype(str)
    text["trial"] = [configuration_in_words(name).removeprefix("trial ") for name in trial_names]
    if trials.selection.metric in HEADINGS:
        text[HEADINGS[trials.selection.metric]] = [rule.number(value) for value in best["selected"]]
    text["UAR"] = [in_percent(value) for value in best["uar"]]
    text["oracle (epoch)"] = list(map(at_epoch, best["uar_best_epoch"], best["best_epoch"]))
    for name in OVERVIEW:
        form = Score("val/soft_ce").number if name in UNITLESS else in_percent
        text[HEADINGS.get(name, METRICS[name].heading)] = [form(value) for value in best[name]]
    text["finished trials"] = [
        f"{row[FINISHED]}" + "".join(f", {row[name]} {name}" for name in (FAILED, STOPPED, RUNNING) if row[name])
        for row in best.to_dict("records")
    ]
    caption = (
        f"Best trial of each method and noise level in the search, chosen by {rule.name}. Scores in %, on the "
        f"validation subset at the last epoch, against true labels{f' ({truth.over})' if truth.over else ''}; oracle: "
        "UAR at its best epoch"
    )
    return [NamedTable("best_runs", caption, with_parameters(best), without_empty_columns(text), keys=2)]


def _figures(records: Records, trials: Trials, best: pd.DataFrame) -> tuple[NamedFigure, ...]:
    """Return the figure of all finished trials; none if no trial has a score.

    Scores are UAR against true labels, or the score that chose where true labels are unknown.
    """
    column, metric = "uar", "val/uar"
    if trials.table[column].isna().all():
        column, metric = "selected", trials.selection.metric
    finished = trials.table[(trials.table["status"] == FINISHED) & trials.table[column].notna()]
    if finished.empty:
        return ()
    finished = finished.astype({"rate": float}).sort_values(["rate", "noise", "start", "run_id"])
    score = score_of_search(records, metric)
    chosen = set(best[best["rank"] == 1]["run_id"].dropna())
    drawing, hover = draw_trials(finished, chosen, score, column, trials.chance if column == "uar" else None)
    caption = f"{score.name[0].upper()}{score.name[1:]} of every finished trial of the search, last epoch"
    return (NamedFigure("best_runs", caption, _described(finished, column, score), drawing, hover=hover),)


def _described(finished: pd.DataFrame, column: str, score: Score) -> str:
    """Return what the figure shows: the range of the scores at each noise level, and whose trial is at its ends."""
    lines = []
    for noise, rows in finished.groupby("noise", sort=False):
        ordered = rows.sort_values(column, kind="stable")
        ends = ordered.iloc[[0, -1]].to_dict("records")
        low, high = (f"{score.text(row[column])} ({in_words(row['space'])})" for row in ends)
        lines.append(f"{noise}: {len(rows)} trials from {low} to {high}." if len(rows) > 1 else f"{noise}: {high}.")
    return " ".join([f"{score.name[0].upper()}{score.name[1:]}.", *lines])
