"""The best run per noise level and search space: python analysis/best_runs.py.

Prints the table and writes it as CSV (all columns, full precision), Markdown and LaTeX (booktabs), with a figure of
every finished trial. Where configurations were confirmed, a second table has their test scores, and how far these fall
below what the search had promised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from mlflow import MlflowClient

from analysis.common.records import Records, RecordsOptions, find_experiment, open_records
from analysis.common.section import NamedFigure, NamedTable, Section, markdown_table, show, write
from analysis.common.style import draw_trials, save
from analysis.sections.best_runs.test_scores import confirmed_section
from ser.utils.command_line import parse
from ser.utils.errors import UserError, unknown_name
from study.messages import without_password
from study.tracking.searches import HEADINGS, Trials, best_runs, caveats, display, make_console, read_trials, rich_table
from study.tracking.store import search_all

# Noise, rate, space, then figures, then the parameters in a column that breaks.
LATEX_COLUMNS = "lrl" + "r" * (len(HEADINGS) - 4) + "p{6cm}"


@dataclass(frozen=True)
class BestRunsOptions(RecordsOptions):
    """Shows the best finished runs of an experiment, per noise level and search space, and their confirmation."""

    output: Path = Path("results") / "best_runs"
    """Folder for best_runs.csv, .md, .tex, .svg and .png, and the tables of the confirmation."""
    top: int = 1
    """Runs per noise level and space."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = parse(BestRunsOptions)
    matplotlib.use("agg")
    if options.top < 1:
        raise UserError(f"--top is {options.top}; at least 1 is needed.")
    records = open_records(options)
    console = make_console()
    paths = []
    if records.search is not None:
        trials = records.search
        best = best_runs(trials, options.top)
        text = display(best, trials.selection)
        notes = caveats(trials, best)
        console.print(rich_table(text, f"Best runs of experiment {records.experiment}"))
        for note in notes:
            console.print(note, highlight=False, markup=False)
        paths = [*write_tables(best, text, notes, options.output), *write_figure(trials, best, options.output)]
    confirmed = confirmed_section(records)
    show(confirmed, console)
    for path in [*paths, *write([confirmed], options.output)]:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True, markup=False)
    return 0


def section(records: Records, top: int = 1) -> Section:
    """The best runs of the search, and what became of them on fresh seeds and test rows.

    Args:
        records: Of either stage or both.
        top: Runs of the search per noise level and space.

    Raises:
        UserError: A table of utterances cannot be read, or does not fit the others.
    """
    confirmed = confirmed_section(records)
    if records.search is None:
        return confirmed
    best = best_runs(records.search, top)
    caption = f"Best trials of the search by {records.search.selection.meaning}; scores against true validation labels"
    figure = draw(records.search, best)
    drawn = () if figure is None else (
        NamedFigure(
            "best_runs",
            "Every finished trial of the search; filled: chosen",
            f"Scores of {len(records.search.table)} trials by noise level and space, as in the table.",
            figure,
        ),
    )  # fmt: skip
    return replace(
        confirmed,
        title="Best runs",
        tables=(
            NamedTable("best_runs", caption, plain(best), display(best, records.search.selection)),
            *confirmed.tables,
        ),
        figures=drawn,
        notes=(*caveats(records.search, best), *confirmed.notes),
    )


def choose_trials(client: MlflowClient, options: BestRunsOptions) -> tuple[str, Trials]:
    """The experiment's name and its comparable trials.

    Raises:
        UserError: No such experiment or study, or no trial in it.
    """
    where = without_password(options.tracking_uri)
    name, identifier = find_experiment(client, where, options.experiment)
    trials = read_trials(client, identifier, options.study)
    if trials is None:
        known = {run.data.tags.get("study", "") for run in search_all(client, [identifier], "")} - {""}
        if options.study is not None and known:
            raise unknown_name("study", options.study, known)
        raise UserError(
            f"experiment {name!r} in {where} has no trial of a study. Run a study first: python study/run.py"
        )
    return name, trials


def write_tables(best: pd.DataFrame, text: pd.DataFrame, notes: list[str], folder: Path) -> list[Path]:
    """Writes the best table as CSV, Markdown and LaTeX.

    Args:
        best: Full precision, for the CSV; each searched parameter gets a column.
        text: As displayed, for Markdown and LaTeX.
        notes: What a reader must know; below the Markdown table, and comments in LaTeX.
        folder: Made if it is not there.

    Returns:
        The files.

    Raises:
        UserError: The folder is not writable.
    """
    markdown = "\n".join([markdown_table(text), "", *(f"* {note}" for note in notes), ""])
    tabular = text.to_latex(index=False, escape=True, column_format=LATEX_COLUMNS)
    latex = "\n".join([*(f"% {note}" for note in notes), tabular])
    contents = {"csv": plain(best).to_csv(index=False), "md": markdown, "tex": latex}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for suffix, content in contents.items():
            path = folder / f"best_runs.{suffix}"
            path.write_text(content, encoding="utf-8")
            paths.append(path)
    except OSError as error:
        raise UserError(f"--output {str(folder)!r} is not writable: {error.strerror}.") from error
    return paths


def plain(best: pd.DataFrame) -> pd.DataFrame:
    """The best table for a CSV: each searched parameter has a column."""
    return best.drop(columns=["parameters", "start"]).join(pd.DataFrame(list(best["parameters"]), index=best.index))


def write_figure(trials: Trials, best: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws every finished trial and the chosen ones: validation UAR, or the selected score without true labels.

    Args:
        trials: From ``study.tracking.searches.read_trials``.
        best: From ``study.tracking.searches.best_runs``.
        folder: A folder that is there.

    Returns:
        The files; none if no trial has finished.
    """
    figure = draw(trials, best)
    if figure is None:
        return []
    paths = [folder / "best_runs.svg", folder / "best_runs.png"]
    for path in paths:
        save(figure, path)
    return paths


def draw(trials: Trials, best: pd.DataFrame) -> Figure | None:
    """The figure of ``write_figure``; None if no trial has finished."""
    score, label = ("uar", "validation UAR, true labels, last epoch")
    if trials.table[score].isna().all():
        score, label = "selected", f"{trials.selection.metric}, last epoch"
    if trials.table[score].isna().all():
        return None
    return draw_trials(trials.table, best, score, label, None if score == "selected" else trials.chance)
