"""Training curves of the confirmed representatives, of the best trial of each search, or of any runs.

Weighted F1 in training and validation, cross entropy against the annotators' distribution, and the shares of labels
changed, corrected and memorised, with the global trust that the chosen τ and B give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.common.methods import REFERENCE
from analysis.common.records import Records, RecordsOptions, trial_tags
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.common.style import PALETTE
from analysis.common.text import at_epoch, number, percent, with_deviation
from analysis.sections.curves.epochs import MEMORISED, SOFT, VALIDATION_F1, Line, mean_curves, summarise
from analysis.sections.curves.figures import draw_curves, draw_trust
from ser.losses.proselflc import global_trust
from ser.utils.errors import UserError
from study.schema import CHOSEN_BY, CONFIRM, FINISHED, Tag
from study.tracking.confirmations import representatives, trials_of_representative
from study.tracking.searches import best_runs

TITLE = "Training curves"
MOST_LINES = len(PALETTE)


@dataclass(frozen=True)
class Options(RecordsOptions):
    """Show how training went, epoch by epoch."""

    run: tuple[str, ...] = ()
    """MLflow run ids of trials of one experiment; default: the confirmed representatives, else the best trials."""
    output: Path = Path("results") / "curves"
    """Folder of the tables and figures."""

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Return the trials that ``--run`` names."""
        return self.run


def section(records: Records, options: Options) -> Section:
    """Return the training curves.

    Args:
        records: Records of the experiment.
        options: The trials to show.

    Raises:
        UserError: If ``--run`` names a run that is not a trial, a run twice, or more than eight.
    """
    lines, shown = _choose_lines(records, options.run)
    missing = []
    if not options.run and not _is_confirmed(records):
        missing.append(f"A spread over seeds needs a confirmation. To confirm: {records.confirm_command()}")
    if not lines:
        return Section("curves", TITLE, missing=("No trial has finished, so there is no curve to show.", *missing))
    curves = mean_curves(lines, records.curve)
    if curves.empty:
        return Section("curves", TITLE, missing=("The trials have recorded no curves.", *missing))
    summary = summarise(curves)
    drawn, not_drawn = _drawn(lines, bool(options.run))
    trusting = [line for line in lines if line.trust is not None and line.name in drawn]
    sentences = _sentences(summary)
    trust = [_trust_sentence(trusting)] if trusting else []
    caption = f"Last values of the curves of {shown}, and the best epoch"
    return Section(
        "curves",
        TITLE,
        (*sentences, *trust),
        (NamedTable("curves", caption, summary, _text(summary)), *_by_quarter(curves)),
        (
            NamedFigure(
                "curves",
                f"Curves of {shown}; band: one standard deviation over runs. Training F1 is scored against the noisy "
                "labels, validation F1 against the true ones.",
                " ".join(sentences) or "Curves over epochs.",
                draw_curves(curves[curves["line"].isin(drawn)]),
            ),
            *_trust_figures(trusting),
        ),
        tuple(_notes(summary, shown, not_drawn)),
        (*missing, *_unrecorded(set(curves["metric"]))),
    )


def confirmed_lines(records: Records) -> list[Line]:
    """Return the finished runs of the representatives, on folds that the search has not chosen by if there are any."""
    lines = []
    for row in representatives(records.confirmed, records.selection).to_dict("records"):
        runs = trials_of_representative(records.confirmed, row)
        clean = runs[runs["exposure"] != CHOSEN_BY]
        runs = clean if len(clean) else runs
        ids = tuple(map(str, runs["run_id"]))
        lines.append(Line(row["noise"], row["space"], row["candidate"], ids, runs["parameters"].iloc[0]))
    return lines


def best_lines(records: Records) -> list[Line]:
    """Return the best finished trial of each search."""
    if records.search is None:
        return []
    best = best_runs(records.search)
    return [
        Line(row["noise"], row["space"], f"trial {row['trial']}", (row["run_id"],), _parameters(records, row["run_id"]))
        for row in best[best["run_id"].notna()].to_dict("records")
    ]


def lines_of_runs(records: Records, runs: Sequence[str]) -> list[Line]:
    """Return one line per run.

    Args:
        records: Records of the experiment.
        runs: MLflow run ids of trials.

    Raises:
        UserError: If a run is not a trial or is named twice, or if there are more than eight.
    """
    if len(set(runs)) < len(runs):
        raise UserError("--run names a run twice.")
    if len(runs) > MOST_LINES:
        raise UserError(f"--run names {len(runs)} runs; a figure holds {MOST_LINES}.")
    lines: list[Line] = []
    for run_id in runs:
        tags = trial_tags(records.client, records.uri, run_id)
        detail = f"trial {tags[Tag.TRIAL]}"
        if tags.get(Tag.STAGE) == CONFIRM:
            detail = f"{tags[Tag.CANDIDATE]}, seed {tags[Tag.SEED]}, fold {tags[Tag.FOLD]}"
        name = f"{tags[Tag.NOISE]} {records.space_names.get(run_id, tags[Tag.SPACE])} {detail}"
        if name in {line.name for line in lines}:
            name = f"{name} of {tags[Tag.STUDY]}"
        lines.append(Line(tags[Tag.NOISE], name, detail, (run_id,), _parameters(records, run_id)))
    return lines


def _choose_lines(records: Records, runs: Sequence[str]) -> tuple[list[Line], str]:
    """Return the lines to show, and what they are."""
    if runs:
        return lines_of_runs(records, runs), "the runs that --run names"
    if _is_confirmed(records):
        return confirmed_lines(records), "the confirmed representatives"
    return best_lines(records), "the best finished trial of each search"


def _is_confirmed(records: Records) -> bool:
    return bool((records.confirmed["status"] == FINISHED).any())


def _parameters(records: Records, run_id: str) -> dict[str, str]:
    return dict(records.run(run_id).data.params)


def _drawn(lines: Sequence[Line], named: bool) -> tuple[list[str], list[str]]:
    """Return the names of the lines that fit into the figures, and of the others.

    The reference comes first, then losses with a global trust; runs that were named keep their order.
    """
    names = list(dict.fromkeys(line.name for line in lines))
    if not named:
        names.sort(key=lambda name: (name != REFERENCE, all(line.trust is None for line in lines if line.name == name)))
    return names[:MOST_LINES], names[MOST_LINES:]


def _trust_figures(lines: Sequence[Line]) -> list[NamedFigure]:
    if not lines:
        return []
    caption = "Global trust g(t) = 1 / (1 + exp(−B (t/Γ − τ))) of the chosen τ and B; dotted: τ."
    return [NamedFigure("trust", caption, _trust_sentence(lines), draw_trust(lines))]


def _notes(summary: pd.DataFrame, shown: str, not_drawn: Sequence[str]) -> list[str]:
    notes = [f"Shown: {shown}. The best epoch is that of the mean curve; only true labels reveal it (an oracle)."]
    if not_drawn:
        notes.append(
            f"The figures hold {MOST_LINES} curves; not drawn: {', '.join(not_drawn)}. The table has all methods."
        )
    if (summary["runs"] == 1).any():
        notes.append("A curve of one run shows one seed; differences between such curves may be chance.")
    return notes


def _unrecorded(metrics: set[str]) -> list[str]:
    missing = []
    if VALIDATION_F1 not in metrics:
        missing.append("Some validation utterances have no true label, so there is no validation F1.")
    if SOFT not in metrics:
        missing.append("The corpus has no votes, so there is no soft cross entropy.")
    if MEMORISED not in metrics:
        missing.append("No training label is known to be wrong, so no label can be memorised or corrected.")
    return missing


def _sentences(summary: pd.DataFrame) -> list[str]:
    """Return sentences on each level: the decline after the best epoch, and the labels memorised and changed."""
    sentences = []
    for noise, rows in summary.groupby("noise", sort=False):
        judged = rows[rows["validation_f1"].notna()]
        if len(judged):
            scores = [
                f"{row['line']} {number(row['validation_f1'])}"
                + (
                    f" ({number(row['drop'])} below epoch {row['best_epoch']:.0f})"
                    if row["best_epoch"] < row["epochs"]
                    else " (its best)"
                )
                for row in judged.to_dict("records")
            ]
            sentences.append(f"{noise}: validation F1 at the last epoch: {', '.join(scores)}.")
        memorised = rows[rows["memorised"].notna()]
        if len(memorised):
            shares = [f"{row['line']} {percent(row['memorised'], 1)}" for row in memorised.to_dict("records")]
            sentences.append(f"{noise}: wrong training labels memorised in the last epoch: {', '.join(shares)}.")
        changed = rows[rows["changed"] > 0]
        if len(changed):
            shares = [
                f"{row['line']} {percent(row['changed'], 1)}"
                + (f" ({percent(row['corrected'], 1)} to the true label)" if pd.notna(row["corrected"]) else "")
                for row in changed.to_dict("records")
            ]
            sentences.append(f"{noise}: training labels changed in the last epoch: {', '.join(shares)}.")
    return sentences


def _trust_sentence(lines: Sequence[Line]) -> str:
    """Return a sentence on where the global trust is one half, and its last value."""
    ends = []
    for line in lines:
        assert line.trust is not None
        transit, base = line.trust
        end = global_trust(1.0, base, transit)
        ends.append(f"{line.noise} {line.name} (τ {transit:.2g}, B {base:.3g}) ends at {end:.2f}")
    return f"Global trust is one half at the share τ of training; {'; '.join(ends)}."


def _text(summary: pd.DataFrame) -> pd.DataFrame:
    text = summary[["noise", "line", "detail"]].copy()
    text.columns = pd.Index(["noise", "method", "which"])
    text["runs"] = summary["runs"].astype(str)
    text["train F1"] = summary["train_f1"].map(number)
    text["val F1"] = list(map(with_deviation, summary["validation_f1"], summary["validation_f1_deviation"]))
    text["best F1"] = list(map(at_epoch, summary["best_f1"], summary["best_epoch"]))
    headings = {"soft_ce": "soft CE", "changed": "changed", "corrected": "corrected", "memorised": "memorised"}
    for column, heading in headings.items():
        text[heading] = summary[column].map(number)
    return text


def _by_quarter(curves: pd.DataFrame) -> list[NamedTable]:
    """Return validation F1 after each quarter of training; the CSV has every point of every curve."""
    validation = curves[curves["metric"] == VALIDATION_F1]
    if validation.empty:
        return []
    rows = []
    for _, line in validation.groupby(["noise", "line", "detail"], sort=False):
        row = line[["noise", "line"]].iloc[0].to_dict()
        for quarter in (0.25, 0.5, 0.75, 1.0):
            row[f"{quarter:.0%}"] = number(line["mean"].iloc[max(0, round(quarter * len(line)) - 1)])
        rows.append(row)
    caption = "Validation F1 after each quarter of the epochs (the CSV file has every epoch of every curve)"
    return [NamedTable("epochs", caption, curves, pd.DataFrame(rows))]
