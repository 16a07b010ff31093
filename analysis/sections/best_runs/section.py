"""Best run per noise level and search space, with the test scores of the confirmed configurations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from analysis.common.records import Records, RecordsOptions
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.sections.best_runs.confirmed_scores import confirmed_section
from analysis.sections.best_runs.figures import draw_trials
from ser.utils.errors import UserError
from study.tracking.best_table import PARAMETERS, text_table
from study.tracking.searches import Trials, best_runs, caveats

TITLE = "Best runs"


@dataclass(frozen=True)
class Options(RecordsOptions):
    """Show the best finished runs per noise level and search space, and the test scores of their confirmation."""

    output: Path = Path("results") / "best_runs"
    """Folder of the tables and the figure."""
    top: int = 1
    """Runs per noise level and space."""


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
    confirmed = confirmed_section(records)
    if records.search is None:
        return confirmed
    trials = records.search
    best = best_runs(trials, options.top)
    caption = (
        f"Best trials of experiment {records.experiment} by {trials.selection.meaning}; scores against true validation "
        "labels"
    )
    return replace(
        confirmed,
        title=TITLE,
        tables=(
            NamedTable("best_runs", caption, with_parameters(best), text_table(best, trials.selection), PARAMETERS),
            *confirmed.tables,
        ),
        figures=_figures(trials, best),
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


def _figures(trials: Trials, best: pd.DataFrame) -> tuple[NamedFigure, ...]:
    """Return the figure of all finished trials; none if no trial has a score.

    Scores are UAR against true labels, or the score that chose where true labels are unknown.
    """
    score, label = "uar", "validation UAR, true labels, last epoch"
    if trials.table[score].isna().all():
        score, label = "selected", f"{trials.selection.metric}, last epoch"
    if trials.table[score].isna().all():
        return ()
    chance = trials.chance if score == "uar" else None
    return (
        NamedFigure(
            "best_runs",
            "Every finished trial of the search; filled: chosen",
            f"Scores of {len(trials.table)} trials by noise level and space, as in the table.",
            draw_trials(trials.table, best, score, label, chance),
        ),
    )
