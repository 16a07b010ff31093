"""Which labels the loss flipped, and which look wrong: python analysis/corrections.py.

Reads the table of utterances of the best finished trial of each noise level and search space, or of one trial. Prints
and writes how well labels were corrected, which pairs were flipped, rightly or not, by gender and speaker, and how the
ranking of suspicious labels compares with cleanlab's; with a figure of the pairs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:
    # Run as a script: imports begin at the repository's root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import matplotlib
import pandas as pd
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.exceptions import MlflowException

from analysis.best_runs import BestRunsOptions, choose_trials
from analysis.corrections_text import (
    IN_SAMPLE,
    pairs_text,
    ranking_text,
    remarks,
    report,
    rich_table,
    scores_text,
    timing,
)
from analysis.figures import draw_flips, save
from analysis.flips import ALL, by_group, correction_scores, first_changes, flipped_pairs
from analysis.records import read_utterances
from analysis.suspicious import compare_rankings, rank_labels
from ser.command_line import parse, run_command
from ser.errors import UserError
from study.records import KIND, TRIAL, UTTERANCES, Tag
from study.results import best_runs, caveats, make_console
from study.tracking import DEFAULT_URI, ROOT, absolute_uri, first_line, open_client, without_password

SHOWN = 10
"""Pairs of a trial in the text and the figure; the CSV has all."""


@dataclass(frozen=True)
class CorrectionsOptions:
    """Shows which labels the best finished trial of each noise level and space flipped, and which look wrong."""

    tracking_uri: str = DEFAULT_URI
    """MLflow tracking URI."""
    experiment: str | None = None
    """MLflow experiment; default the one with the newest run."""
    study: str | None = None
    """Only this study; default every study of the experiment that is comparable with the newest."""
    run: str | None = None
    """MLflow run id of one trial, instead of the best of each noise level and space."""
    output: Path = ROOT / "results" / "corrections"
    """Folder for the tables (CSV, corrections.md) and the figure."""


@dataclass(frozen=True)
class Chosen:
    """A trial to look at.

    Args:
        noise: Noise level.
        space: Search space.
        trial: Its number in the study.
        run_id: MLflow run.
    """

    noise: str
    space: str
    trial: str
    run_id: str

    def __str__(self) -> str:
        return f"{self.noise} {self.space} {self.trial}"


Audited = Sequence[tuple[Chosen, pd.DataFrame]]


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = parse(CorrectionsOptions)
    matplotlib.use("agg")
    os.environ[MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.name] = "false"  # there would be one for each table
    client = open_client(absolute_uri(options.tracking_uri))
    title, chosen, notes = choose(client, options)
    audited, lacking = read_all(client, chosen)
    if lacking:
        notes.append(lacking)
    tables = tabulate(audited)
    sections = describe(audited, tables)
    notes += [IN_SAMPLE, *remarks([(str(trial), utterances) for trial, utterances in audited])]
    console = make_console()
    console.print(title, highlight=False, markup=False)
    for name, content in sections:
        shown = content if isinstance(content, str) else rich_table(content, name)
        console.print(shown, highlight=False, markup=False, soft_wrap=isinstance(content, str))
    for note in notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    for path in [*write_tables(tables, report(title, sections, notes), options.output), *write_figure(tables, options)]:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True, markup=False)
    return 0


def choose(client: MlflowClient, options: CorrectionsOptions) -> tuple[str, list[Chosen], list[str]]:
    """The trials to look at: that of ``--run``, or the best finished one of each noise level and space.

    Returns:
        A title, the trials, and notes on the choice.

    Raises:
        UserError: No such run, experiment or study, or no finished trial.
    """
    if options.run is not None:
        if options.experiment is not None or options.study is not None:
            raise UserError("--run names one trial of any experiment; leave --experiment and --study out.")
        try:
            tags = client.get_run(options.run).data.tags
        except MlflowException as error:
            where = without_password(options.tracking_uri)
            raise UserError(
                f"--run {options.run!r} cannot be read from {where}: {first_line(error)}. Run ids are in the "
                "best_runs.csv of python analysis/best_runs.py."
            ) from None
        if tags.get(KIND) != TRIAL:
            raise UserError(
                f"--run {options.run!r} is no trial of a study. Run ids of trials are in the best_runs.csv of python "
                "analysis/best_runs.py."
            )
        trial = Chosen(tags[Tag.NOISE], tags[Tag.SPACE], tags[Tag.TRIAL], options.run)
        return f"Label corrections of {trial}", [trial], []
    name, trials = choose_trials(client, BestRunsOptions(options.tracking_uri, options.experiment, options.study))
    best = best_runs(trials)
    rows = best.to_dict("records")
    done = [row for row in rows if pd.notna(row["run_id"])]
    notes = caveats(trials, best)
    if unfinished := [f"{row['noise']} {row['space']}" for row in rows if pd.isna(row["run_id"])]:
        notes.append(f"No trial has finished, so that nothing is shown: {', '.join(unfinished)}.")
    if not done:
        raise UserError(f"no trial of experiment {name!r} has finished yet; a table is kept at a trial's end.")
    chosen = [Chosen(row["noise"], row["space"], row["trial"], row["run_id"]) for row in done]
    return f"Label corrections of experiment {name}", chosen, notes


def read_all(client: MlflowClient, chosen: Sequence[Chosen]) -> tuple[Audited, str | None]:
    """The tables of the trials that have one, and a sentence on those that have none.

    Raises:
        UserError: No trial has a table, or one cannot be read.
    """
    tables = [(trial, read_utterances(client, trial.run_id)) for trial in chosen]
    audited = [(trial, table) for trial, table in tables if table is not None]
    without = [f"{trial} (run {trial.run_id})" for trial, table in tables if table is None]
    if not without:
        return audited, None
    lacking = (
        f"{len(without)} of {len(tables)} trials have no {UTTERANCES}, for they were recorded by an older version or "
        f"have not finished: {', '.join(without)}. To get it, train again: python study/run.py with a new --name."
    )
    if not audited:
        raise UserError(lacking)
    return audited, lacking


def tabulate(audited: Audited) -> dict[str, pd.DataFrame]:
    """Every table of the output by its file's name, each with ``noise``, ``space``, ``trial`` and ``run_id`` in front.

    Returns:
        ``summary`` and ``pairs`` (overall, by gender, by speaker), ``first_changes``, ``suspicious``, ``ranking``.
    """

    def collected(found: Iterable[pd.DataFrame]) -> pd.DataFrame:
        keyed = []
        for (trial, _), table in zip(audited, found, strict=True):
            key = pd.DataFrame([vars(trial)] * len(table), index=table.index, columns=list(vars(trial)))
            keyed.append(key.join(table))
        return pd.concat(keyed, ignore_index=True)

    tables = [utterances for _, utterances in audited]
    ranked = [rank_labels(utterances) for utterances in tables]
    return {
        "summary": collected(by_group(utterances, correction_scores) for utterances in tables),
        "pairs": collected(by_group(utterances, flipped_pairs) for utterances in tables),
        "first_changes": collected(map(first_changes, tables)),
        "suspicious": collected(ranked),
        "ranking": collected(map(compare_rankings, ranked)),
    }


def describe(audited: Audited, tables: Mapping[str, pd.DataFrame]) -> list[tuple[str, pd.DataFrame | str]]:
    """What is shown, in order: heading → table of strings, or a sentence without a heading."""
    sections: list[tuple[str, pd.DataFrame | str]] = [
        ("How well labels were corrected, at the end of the training", scores_text(tables["summary"]))
    ]
    unflipped = []
    for trial, _ in audited:
        pairs, changes = (tables[name][tables[name]["run_id"] == trial.run_id] for name in ("pairs", "first_changes"))
        if len(pairs):
            sections.append((f"Flipped labels of {trial}", pairs_text(pairs, SHOWN)))
        else:
            unflipped.append(str(trial))
        if len(changes):
            sections.append(("", timing(changes)))
    if unflipped:
        sections.append(("", f"No label is flipped at the end: {'; '.join(unflipped)}."))
    return [*sections, ("Suspicious labels: how well rankings find the mislabelled", ranking_text(tables["ranking"]))]


def write_tables(tables: Mapping[str, pd.DataFrame], page: str, folder: Path) -> list[Path]:
    """Writes the tables as CSV, and the page as Markdown.

    Args:
        tables: From ``tabulate``.
        page: From ``analysis.corrections_text.report``.
        folder: Made if it is not there.

    Returns:
        The files.

    Raises:
        UserError: The folder is not writable.
    """
    contents = {f"{name}.csv": table.to_csv(index=False) for name, table in tables.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in {**contents, "corrections.md": page}.items():
            (folder / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {str(folder)!r} is not writable: {error.strerror}.") from error
    return [folder / name for name in (*contents, "corrections.md")]


def write_figure(tables: Mapping[str, pd.DataFrame], options: CorrectionsOptions) -> list[Path]:
    """Draws the most frequent flips of each trial that has any.

    Returns:
        The files; none without a flip, and none of an earlier call is left.
    """
    paths = [options.output / "corrections.svg", options.output / "corrections.png"]
    pairs = tables["pairs"][tables["pairs"]["by"] == ALL]
    panels = {
        f"{noise} {space} {trial}": rows.head(SHOWN)
        for (noise, space, trial, _), rows in pairs.groupby(["noise", "space", "trial", "run_id"], sort=False)
    }
    if not panels:
        for path in paths:
            path.unlink(missing_ok=True)
        return []
    figure = draw_flips(panels)
    for path in paths:
        save(figure, path)
    return paths


if __name__ == "__main__":
    sys.exit(run_command(main))
