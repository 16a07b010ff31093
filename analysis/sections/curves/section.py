"""How training went, epoch by epoch: python analysis/curves.py.

F1 in training and validation, cross entropy against the annotators' distribution, labels changed, corrected and
memorised: of the confirmed representatives (mean and deviation over seeds and folds), else of the best trial of each
noise level and space, or of any runs. With the global trust that the chosen τ and B give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from analysis.common.records import Records, RecordsOptions, open_records, representatives
from analysis.common.section import NamedFigure, NamedTable, Section, show, write
from analysis.common.style import PALETTE
from analysis.sections.curves.epochs import MEMORISED, SOFT, VALIDATION_F1, Line, mean_curves, summarise
from analysis.sections.curves.figures import draw_curves, draw_trust
from ser.losses import global_trust
from ser.utils.command_line import parse
from ser.utils.errors import UserError
from study.messages import first_line, without_password
from study.schema import CONFIRM, FINISHED, KIND, TRIAL, Tag
from study.tracking.searches import best_runs, make_console
from study.tracking.store import absolute_uri, open_client

REFERENCE = "cross_entropy"
MOST_LINES = len(PALETTE)


@dataclass(frozen=True)
class CurvesOptions(RecordsOptions):
    """Shows how training went, epoch by epoch."""

    run: tuple[str, ...] = ()
    """MLflow run ids of trials of one experiment; default the confirmed representatives, else the best trials."""
    output: Path = Path("results") / "curves"
    """Folder for the tables and figures."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = parse(CurvesOptions)
    matplotlib.use("agg")
    records = open_records(_experiment_of_runs(options) if options.run else options)
    found = section(records, options.run)
    console = make_console()
    show(found, console)
    for path in write([found], options.output):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True, markup=False)
    return 0


def section(records: Records, runs: Sequence[str] = ()) -> Section:
    """How training went.

    Args:
        records: Of one experiment.
        runs: MLflow run ids of trials; empty: the confirmed representatives, else the best trials.

    Raises:
        UserError: One of ``runs`` is no trial, or they are more than eight.
    """
    title, missing = "How training went, epoch by epoch", []
    if runs:
        lines = lines_of_runs(records, runs)
        what = "the runs that were asked for"
    elif lines := confirmed_lines(records):
        what = "the confirmed representatives"
    else:
        lines = best_lines(records)
        what = "the best finished trial of each search"
        missing.append("Spread over seeds needs the confirm stage: python study/confirm.py")
    if not lines:
        return Section("curves", title, missing=("No trial has finished, so that there is no curve to show.", *missing))
    curves = mean_curves(lines, records.curve)
    if curves.empty:
        return Section("curves", title, missing=("The trials have recorded no curves.", *missing))
    summary = summarise(curves)
    drawn, left = _drawn(lines, bool(runs))
    figures = [
        NamedFigure(
            "curves",
            f"Curves of {what}; band: one standard deviation over runs. Training F1 is scored against the noisy "
            "labels, validation F1 against the true ones.",
            " ".join(_sentences(summary)) or "Curves over epochs.",
            draw_curves(curves[curves["line"].isin(drawn)]),
        )
    ]
    trusting = [line for line in lines if line.trust is not None and line.name in drawn]
    if trusting:
        figures.append(
            NamedFigure(
                "trust",
                "Global trust g(t) = 1 / (1 + exp(−B (t/Γ − τ))) of the chosen τ and B; dotted: τ.",
                _trust_sentence(trusting),
                draw_trust(trusting),
            )
        )
    notes = [f"Shown: {what}. The best epoch is that of the mean curve, known only from true labels: an oracle."]
    if left:
        notes.append(f"Left out of the figures, which hold {MOST_LINES} curves: {', '.join(left)}. The table has all.")
    if (summary["runs"] == 1).any():
        notes.append("A curve of one run shows one seed; differences between such curves may be luck.")
    recorded = set(curves["metric"])
    if VALIDATION_F1 not in recorded:
        missing.append("Some validation utterances have no true label, so that there is no validation F1.")
    if SOFT not in recorded:
        missing.append("The corpus has no votes, so that there is no soft cross entropy.")
    if MEMORISED not in recorded:
        missing.append("No training label is known to be wrong, so that nothing is memorised or corrected.")
    return Section(
        "curves",
        title,
        (*_sentences(summary), *([_trust_sentence(trusting)] if trusting else [])),
        (
            NamedTable("curves", f"Where the curves of {what} end, and the best epoch", summary, _text(summary)),
            *_along(curves),
        ),
        tuple(figures),
        tuple(notes),
        tuple(missing),
    )


def confirmed_lines(records: Records) -> list[Line]:
    """The representatives' finished runs, on folds that the search has not seen where there are any."""
    lines = []
    for row in representatives(records.confirmed, records.selection).to_dict("records"):
        runs = records.confirmed[
            (records.confirmed["noise"] == row["noise"])
            & (records.confirmed["space"] == row["space"])
            & (records.confirmed["candidate"] == row["candidate"])
            & (records.confirmed["status"] == FINISHED)
        ]
        clean = runs[~runs["seen"].astype(bool)]
        runs = clean if len(clean) else runs
        ids = tuple(map(str, runs["run_id"]))
        lines.append(Line(row["noise"], row["space"], row["candidate"], ids, runs["parameters"].iloc[0]))
    return lines


def best_lines(records: Records) -> list[Line]:
    """The best finished trial of each search."""
    if records.search is None:
        return []
    best = best_runs(records.search)
    return [
        Line(row["noise"], row["space"], f"trial {row['trial']}", (row["run_id"],), _parameters(records, row["run_id"]))
        for row in best[best["run_id"].notna()].to_dict("records")
    ]


def lines_of_runs(records: Records, runs: Sequence[str]) -> list[Line]:
    """One line for each run.

    Raises:
        UserError: One is no trial, is named twice, or they are more than eight.
    """
    if len(set(runs)) < len(runs):
        raise UserError("--run names a run twice.")
    if len(runs) > MOST_LINES:
        raise UserError(f"--run names {len(runs)} runs; a figure holds {MOST_LINES}.")
    lines: list[Line] = []
    for run_id in runs:
        tags = _tags(records.client, records.uri, run_id)
        detail = f"trial {tags[Tag.TRIAL]}"
        if tags.get(Tag.STAGE) == CONFIRM:
            detail = f"{tags[Tag.CANDIDATE]}, seed {tags[Tag.SEED]}, fold {tags[Tag.FOLD]}"
        name = f"{tags[Tag.NOISE]} {tags[Tag.SPACE]} {detail}"
        if name in {line.name for line in lines}:
            name = f"{name} of {tags[Tag.STUDY]}"
        lines.append(Line(tags[Tag.NOISE], name, detail, (run_id,), _parameters(records, run_id)))
    return lines


def _experiment_of_runs(options: CurvesOptions) -> RecordsOptions:
    """Options that open the experiment of the first run.

    Raises:
        UserError: There is no such run, or an experiment or study is named too.
    """
    if options.experiment is not None or options.study is not None:
        raise UserError("--run names trials of any experiment; leave --experiment and --study out.")
    client = open_client(absolute_uri(options.tracking_uri))
    _tags(client, without_password(options.tracking_uri), options.run[0])
    experiment = client.get_experiment(client.get_run(options.run[0]).info.experiment_id).name
    return RecordsOptions(options.tracking_uri, experiment)


def _tags(client: MlflowClient, uri: str, run_id: str) -> dict[str, str]:
    """A trial's tags.

    Raises:
        UserError: There is no such run, or it is no trial.
    """
    where = "Run ids are in the best_runs.csv of python analysis/best_runs.py."
    try:
        tags = dict(client.get_run(run_id).data.tags)
    except MlflowException as error:
        raise UserError(f"--run {run_id!r} cannot be read from {uri}: {first_line(error)}. {where}") from None
    if tags.get(KIND) != TRIAL:
        raise UserError(f"--run {run_id!r} is no trial of a study. {where}")
    return tags


def _parameters(records: Records, run_id: str) -> dict[str, str]:
    return dict(records.client.get_run(run_id).data.params)


def _drawn(lines: Sequence[Line], asked: bool) -> tuple[list[str], list[str]]:
    """Names of the lines that the figures hold, and of those left out: the reference first, then as they come."""
    names = list(dict.fromkeys(line.name for line in lines))
    if not asked:
        names.sort(key=lambda name: (name != REFERENCE, all(line.trust is None for line in lines if line.name == name)))
    return names[:MOST_LINES], names[MOST_LINES:]


def _sentences(summary: pd.DataFrame) -> list[str]:
    """For each level: how far validation falls after its best epoch, and what was memorised and corrected."""
    sentences = []
    for noise, rows in summary.groupby("noise", sort=False):
        judged = rows[rows["validation_f1"].notna()]
        if len(judged):
            parts = [
                f"{row['line']} {row['validation_f1']:.3f}"
                + (
                    f" ({row['drop']:.3f} below epoch {row['best_epoch']:.0f})"
                    if row["best_epoch"] < row["epochs"]
                    else " (its best)"
                )
                for row in judged.to_dict("records")
            ]
            sentences.append(f"{noise}: validation F1 at the last epoch: {', '.join(parts)}.")
        memorised = rows[rows["memorised"].notna()]
        if len(memorised):
            parts = [f"{row['line']} {row['memorised']:.1%}" for row in memorised.to_dict("records")]
            sentences.append(f"{noise}: of the wrong training labels, memorised in the last epoch: {', '.join(parts)}.")
        changed = rows[rows["changed"] > 0]
        if len(changed):
            parts = [
                f"{row['line']} {row['changed']:.1%}"
                + (f" ({row['corrected']:.1%} rightly)" if pd.notna(row["corrected"]) else "")
                for row in changed.to_dict("records")
            ]
            sentences.append(f"{noise}: of all training labels, changed in the last epoch: {', '.join(parts)}.")
    return sentences


def _trust_sentence(lines: Sequence[Line]) -> str:
    """Where g is one half, and where it ends."""
    parts = []
    for line in lines:
        assert line.trust is not None
        transit, base = line.trust
        end = global_trust(1.0, base, transit)
        parts.append(f"{line.noise} {line.name} (τ {transit:.2g}, B {base:.3g}) ends at {end:.2f}")
    return f"Global trust is one half at the share τ of training; {'; '.join(parts)}."


def _text(summary: pd.DataFrame) -> pd.DataFrame:
    text = summary[["noise", "line", "detail"]].copy()
    text.columns = pd.Index(["noise", "method", "which"])
    text["runs"] = summary["runs"].astype(str)
    text["train F1"] = [_number(value) for value in summary["train_f1"]]
    text["val F1"] = [
        _number(mean) + (f" ± {deviation:.3f}" if pd.notna(deviation) else "")
        for mean, deviation in zip(summary["validation_f1"], summary["validation_f1_deviation"], strict=True)
    ]
    text["best F1"] = [
        "–" if pd.isna(best) else f"{best:.3f} @ {epoch:.0f}"
        for best, epoch in zip(summary["best_f1"], summary["best_epoch"], strict=True)
    ]
    headings = {"soft_ce": "soft CE", "changed": "changed", "corrected": "corrected", "memorised": "memorised"}
    for column, heading in headings.items():
        text[heading] = [_number(value) for value in summary[column]]
    return text


def _along(curves: pd.DataFrame) -> list[NamedTable]:
    """Validation F1 after each quarter of the training; the CSV has every point of every curve."""
    validation = curves[curves["metric"] == VALIDATION_F1]
    if validation.empty:
        return []
    rows = []
    for _, line in validation.groupby(["noise", "line", "detail"], sort=False):
        row = line[["noise", "line"]].iloc[0].to_dict()
        for quarter in (0.25, 0.5, 0.75, 1.0):
            value = line["mean"].iloc[max(0, round(quarter * len(line)) - 1)]
            row[f"{quarter:.0%}"] = _number(value)
        rows.append(row)
    caption = "Validation F1 after each quarter of the epochs (its CSV: every curve, every epoch)"
    return [NamedTable("epochs", caption, curves, pd.DataFrame(rows))]


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.3f}"
