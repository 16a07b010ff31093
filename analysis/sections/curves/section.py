"""Training curves of the confirmed representatives, of the best trial of each search, or of any runs.

Weighted F1 in training and validation, cross entropy against the annotators' distribution, and the shares of labels
changed, corrected and memorised, with the global trust that the chosen transit time τ and steepness B give.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.common.methods import REFERENCE
from analysis.common.records import Records, trial_tags
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.common.style import PALETTE, colour_and_marker, method_style
from analysis.common.text import (
    at_epoch,
    configuration_in_words,
    in_brief,
    in_percent,
    listing,
    number,
    percent,
    with_deviation,
    without_empty_columns,
)
from analysis.options import CurvesOptions as Options
from analysis.sections.curves.epochs import MEMORISED, SOFT, VALIDATION_F1, Line, mean_curves, summarise
from analysis.sections.curves.figures import Styles, draw_curves, draw_trust
from ser.losses.proselflc import global_trust
from ser.utils.errors import UserError
from study.schema import CHOSEN_BY, CONFIRM, FINISHED, Tag, in_words
from study.tracking.confirmations import representatives, trials_of_representative
from study.tracking.searches import best_runs

TITLE = "Training curves"
MOST_LINES = len(PALETTE)
LEAST_DROP = 0.01
"""Smallest fall of validation F1 after its best epoch that sentences report."""


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
    styles = {name: colour_and_marker(place) if options.run else method_style(name) for place, name in enumerate(drawn)}
    trusting = [line for line in lines if line.trust is not None and line.name in drawn]
    found = sentences(summary)
    drawing, hover = draw_curves(curves[curves["line"].isin(drawn)], styles)
    band = "; band: one standard deviation over trainings" if (summary["runs"] > 1).any() else ""
    return Section(
        "curves",
        TITLE,
        (*found, *([_trust_sentence(trusting)] if trusting else [])),
        (
            NamedTable("curves", f"Last values of the curves of {shown}, in %", summary, _text(summary), keys=2),
            *_by_quarter(curves),
        ),
        (
            NamedFigure(
                "curves",
                f"Curves of {shown}{band}. Training F1 is against the noisy labels, validation F1 against the true "
                "ones",
                " ".join(found)
                or f"Curves of {listing(list(map(in_words, drawn)))} over {curves['epoch'].max()} epochs.",
                drawing,
                hover=hover,
            ),
            *_trust_figures(trusting, styles),
        ),
        tuple(_notes(summary, not_drawn)),
        (*missing, *_unrecorded(set(curves["metric"]))),
    )


def confirmed_lines(records: Records) -> list[Line]:
    """Return the finished runs of the representatives, on folds that the search has not chosen by if there are any."""
    lines = []
    rates = records.confirmed.groupby("noise")["rate"].first().astype(float)
    rows = representatives(records.confirmed, records.selection)
    rows = rows.assign(rate=rows["noise"].map(rates)).sort_values(["rate", "noise", "space"])
    for row in rows.to_dict("records"):
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
        Line(row["noise"], row["space"], str(row["trial"]), (row["run_id"],), _parameters(records, row["run_id"]))
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
        detail = configuration_in_words(tags[Tag.TRIAL])
        if tags.get(Tag.STAGE) == CONFIRM:
            candidate = configuration_in_words(tags[Tag.CANDIDATE])
            detail = f"{candidate}, seed {tags[Tag.SEED]}, fold {tags[Tag.FOLD]}"
        name = f"{in_words(records.space_names.get(run_id, tags[Tag.SPACE]))}, {tags[Tag.NOISE]}, {detail}"
        if name in {line.name for line in lines}:
            name = f"{name} of {tags[Tag.STUDY]}"
        lines.append(Line(tags[Tag.NOISE], name, detail, (run_id,), _parameters(records, run_id)))
    return lines


def _choose_lines(records: Records, runs: Sequence[str]) -> tuple[list[Line], str]:
    """Return the lines to show, and what they are."""
    if runs:
        return lines_of_runs(records, runs), "the runs that --run names"
    if _is_confirmed(records):
        return confirmed_lines(records), "one confirmed configuration per method and noise level"
    return best_lines(records), "the best finished trial of each method and noise level"


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


def _trust_figures(lines: Sequence[Line], styles: Styles) -> list[NamedFigure]:
    if not lines:
        return []
    caption = (
        "Global trust g(t) = 1 / (1 + exp(−B (t/Γ − τ))) after t of Γ training steps, with the chosen transit time τ "
        "(dotted) and steepness B"
    )
    return [NamedFigure("trust", caption, _trust_sentence(lines), draw_trust(lines, styles))]


def _notes(summary: pd.DataFrame, not_drawn: Sequence[str]) -> list[str]:
    notes = [
        "F1 is weighted by the sizes of the classes. best F1: highest point of the mean validation curve, whose epoch "
        "only true labels reveal (an oracle)."
    ]
    if summary["memorised"].notna().any():
        notes.append("A wrong training label is memorised if the network predicts it.")
    if not_drawn:
        notes.append(
            f"The figures hold {MOST_LINES} methods; only in the table: {listing(list(map(in_words, not_drawn)))}."
        )
    if (summary["runs"] == 1).any():
        notes.append("A curve of one training shows one seed; differences between such curves may be chance.")
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


def sentences(summary: pd.DataFrame) -> list[str]:
    """Return sentences on validation F1 at each level, and on the labels memorised and changed at all levels.

    Args:
        summary: From ``summarise``.
    """
    lines, memorised, changed = [], [], []
    for noise, rows in summary.groupby("noise", sort=False):
        rows = rows.assign(line=rows["line"].map(in_words)).set_index("line")
        if len(judged := rows["validation_f1"].dropna()):
            lines.append(
                f"At {noise}, validation F1 after the last epoch is {in_brief(dict(judged), _one_decimal)}"
                f"{_decline(rows['drop'].dropna())}."
            )
        if len(known := rows["memorised"].dropna()):
            memorised.append(f"{in_brief(dict(known), _one_decimal)} at {noise}")
        if len(some := rows[rows["changed"] > 0]):
            changed.append(f"{in_brief(dict(some['changed']), _one_decimal)} at {noise}")
    if memorised:
        lines.append(f"Wrong training labels that are memorised in the last epoch: {'; '.join(memorised)}.")
    if changed:
        lines.append(f"Training labels that are changed in the last epoch: {'; '.join(changed)}.")
    return lines


def _one_decimal(share: float) -> str:
    return percent(share, 1)


def _decline(drops: pd.Series[float]) -> str:
    """Return the largest fall from the best epoch, if it is a point or more."""
    if drops.max() < LEAST_DROP:
        return ""
    return f"; the largest fall from the best epoch is {in_percent(drops.max())} points with {drops.idxmax()}"


def _trust_sentence(lines: Sequence[Line]) -> str:
    """Return a sentence on where the global trust is one half, and its last value."""
    ends = []
    for line in lines:
        assert line.trust is not None
        transit, base = line.trust
        end = global_trust(1.0, base, transit)
        ends.append(f"{end:.2f} with {in_words(line.name)} at {line.noise} (τ = {transit:.2g}, B = {base:.3g})")
    return (
        "Global trust in the network's own predictions is one half at the transit time τ, a share of training, rises "
        f"with the steepness B, and ends at {listing(ends)}."
    )


def _text(summary: pd.DataFrame) -> pd.DataFrame:
    rows = summary.to_dict("records")
    text = pd.DataFrame(
        {
            "noise": [row["noise"] for row in rows],
            "method": [in_words(row["line"]) for row in rows],
            "configuration": [configuration_in_words(row["detail"]) for row in rows],
            "trainings": [str(row["runs"]) for row in rows],
            "training F1": [in_percent(row["train_f1"]) for row in rows],
            "validation F1": [
                with_deviation(100 * row["validation_f1"], 100 * row["validation_f1_deviation"], 1) for row in rows
            ],
            "best F1 (epoch)": [at_epoch(row["best_f1"], row["best_epoch"]) for row in rows],
            "cross entropy, nats": [number(row["soft_ce"]) for row in rows],
            "labels changed": [in_percent(row["changed"]) for row in rows],
            "to the true label": [in_percent(row["corrected"]) for row in rows],
            "wrong labels memorised": [in_percent(row["memorised"]) for row in rows],
        }
    )
    if not (summary["changed"] > 0).any():
        text = text.drop(columns=["labels changed", "to the true label"])
    return without_empty_columns(text)


def _by_quarter(curves: pd.DataFrame) -> list[NamedTable]:
    """Return validation F1 after each quarter of training; the CSV has every point of every curve."""
    validation = curves[curves["metric"] == VALIDATION_F1]
    if validation.empty:
        return []
    rows = []
    for (noise, name, _), line in validation.groupby(["noise", "line", "detail"], sort=False):
        row = {"noise": noise, "method": in_words(str(name))}
        for quarter in (0.25, 0.5, 0.75, 1.0):
            row[f"{quarter:.0%}"] = in_percent(line["mean"].iloc[max(0, round(quarter * len(line)) - 1)])
        rows.append(row)
    caption = "Validation F1 in % after each quarter of the epochs (the CSV file has every epoch of every curve)"
    return [NamedTable("epochs", caption, curves, pd.DataFrame(rows), keys=2)]
