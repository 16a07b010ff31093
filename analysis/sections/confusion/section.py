"""What is taken for what: python analysis/confusion.py.

Confusion matrices and classification reports of each noise level and method, over all utterances, by gender and by
the annotators' agreement, and what the methods' matrices differ in: of the test part where configurations are
confirmed, else of the validation part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from analysis.common.methods import Chosen, Method, choose_methods, foremost, reference_of
from analysis.common.records import Records, RecordsOptions, open_records
from analysis.common.section import NamedFigure, NamedTable, Section, publish
from analysis.sections.confusion.figures import draw_confusions, draw_differences
from analysis.sections.confusion.matrices import (
    ALL,
    GENDER,
    GROUPS,
    classification_report,
    confusion_table,
    frequent_confusions,
    grouped,
    mean_confusion,
    predictions_of,
    share_differences,
)
from ser.training.utterance_table import AGREEMENT
from ser.utils.command_line import parse
from study.schema import CONFIRM
from study.tracking.searches import make_console

SHOWN = 3
"""Confusions of a method in the text; the CSV has all cells."""
ROWS = 3
"""Methods of a level in the figures by group: the reference and the best others; the CSV has all."""
COLUMNS = 3

Predictions = Mapping[Method, pd.DataFrame]


@dataclass(frozen=True)
class ConfusionOptions(RecordsOptions):
    """Shows which emotions are taken for which, by noise level, method, gender and agreement."""

    reference: str | None = None
    """Search space that others are compared with; default cross_entropy where it was searched."""
    output: Path = Path("results") / "confusion"
    """Folder for the tables and figures."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = parse(ConfusionOptions)
    matplotlib.use("agg")
    publish(section(open_records(options), options.reference), options.output, make_console())
    return 0


def section(records: Records, reference: str | None = None) -> Section:
    """The section of the report.

    Args:
        records: Of the experiment.
        reference: Search space that others are compared with; None is cross entropy where it was searched.

    Raises:
        UserError: No space has the name of the reference.
    """
    chosen = choose_methods(records)
    predictions, missing = read_predictions(records, chosen)
    title = f"What is taken for what ({chosen.scored})"
    against = reference_of(chosen.methods, reference)
    if not predictions:
        return Section("confusion", title, notes=chosen.notes, missing=(*chosen.missing, *missing))
    classes = records.classes
    cells = _keyed({method: confusion_table(rows, classes) for method, rows in predictions.items()})
    figures, sentences = [], []
    for noise in chosen.levels:
        here = {method: rows for method, rows in predictions.items() if method.noise == noise}
        if not here:
            continue
        differences, lacking = _differences(here, noise, against, classes)
        missing += lacking
        sentences += _sentences(here, differences, against, chosen, classes)
        figures += _figures(here, differences, against, chosen, classes)
    everyone = pd.concat(predictions.values())
    missing += _unknown_groups(everyone)
    notes = [
        *chosen.notes,
        "Counts are pooled over the folds of a seed and are the mean over the seeds; precision, recall and F1 follow "
        "from them. Utterances without a known true label are left out.",
        "Single cells are not tested, and many are looked at: the largest differences are larger than they would be "
        "on other speakers. Whether a method is better is for the paired comparison to say.",
    ]
    tables = (_reports(predictions, chosen, classes), _groups(predictions, chosen, classes), _cells(cells, chosen))
    return Section(
        "confusion", title, tuple(sentences), tables, tuple(figures), tuple(notes), (*chosen.missing, *missing)
    )


def read_predictions(records: Records, chosen: Chosen) -> tuple[dict[Method, pd.DataFrame], list[str]]:
    """The predictions of every method's trials, with ``seed`` and ``fold``, and what cannot be had.

    Args:
        records: Of the experiment.
        chosen: Its methods.

    Returns:
        Method → rows of ``analysis.sections.confusion.matrices.predictions_of``, for methods that have any.
    """
    found, without, unknown = {}, [], []
    for method in chosen.methods:
        tables = []
        for run in method.runs:
            utterances = records.utterances(run.run_id)
            if utterances is None or not (utterances["subset"] == chosen.subset).any():
                without.append(f"{method} (run {run.run_id})")
                continue
            tables.append(predictions_of(utterances, chosen.subset).assign(seed=run.seed, fold=run.fold))
        if tables and any(len(table) for table in tables):
            found[method] = pd.concat(tables, ignore_index=True)
        elif tables:
            unknown.append(str(method))
    missing = []
    if without:
        missing.append(
            f"Without predictions of the {chosen.subset} part, for they were recorded by an older version: "
            f"{'; '.join(without)}. To get them, train again: python study/run.py with a new --name."
        )
    if unknown:
        missing.append(
            f"No true label is known, so nothing can be called a confusion: {'; '.join(unknown)}. Give the corpus's "
            "table a column true_label."
        )
    return found, missing


def _differences(
    predictions: Predictions, noise: str, reference: str, classes: Sequence[str]
) -> tuple[dict[Method, np.ndarray], list[str]]:
    """What each method's shares have more than the reference's, at one noise level, and what cannot be compared."""
    base = next((rows for method, rows in predictions.items() if method.space == reference), None)
    others = {method: rows for method, rows in predictions.items() if method.space != reference}
    if base is None:
        return {}, [
            f"Nothing is compared at {noise}, where {reference} is not there: python study/run.py --space {reference}"
        ]
    if not others:
        return {}, [
            f"Nothing is compared at {noise}, where {reference} is the only method: python study/run.py --space NAME"
        ]
    found, apart = {}, []
    for method, rows in others.items():
        difference = share_differences(rows, base, classes)
        if difference is None:
            apart.append(f"{method.space} and {reference} at {noise}")
        else:
            found[method] = difference
    return found, [f"No common seed and fold: {', '.join(apart)}."] if apart else []


def _sentences(
    predictions: Predictions, differences: Mapping[Method, np.ndarray], reference: str, chosen: Chosen,
    classes: Sequence[str],
) -> list[str]:  # fmt: skip
    """The most frequent confusion of each method; after a confirmation, where it differs most from the reference."""
    told = []
    for method, rows in predictions.items():
        cells = confusion_table(rows, classes)
        worst = frequent_confusions(cells[cells["by"] == ALL], 1)
        if worst.empty:
            told.append(f"{method.noise}: {method.space} takes no emotion for another.")
            continue
        cell = worst.iloc[0]
        told.append(
            f"{method.noise}: {method.space} most often takes {cell['label']} for {cell['predicted']}, "
            f"{cell['share']:.0%} of its utterances."
        )
    if chosen.stage != CONFIRM:
        return told  # one seed, and the luckiest of several
    for method, difference in differences.items():
        recalls = np.diag(difference)
        high, low = int(np.nanargmax(recalls)), int(np.nanargmin(recalls))
        parts = []
        if recalls[high] > 0:
            parts.append(f"recognises {classes[high]} more often, by {100 * recalls[high]:.0f} points")
        if recalls[low] < 0:
            parts.append(f"{classes[low]} less often, by {-100 * recalls[low]:.0f}")
        if parts:
            words = " and ".join(parts) if recalls[high] > 0 else f"recognises {parts[0]}"
            told.append(f"{method.noise}: compared with {reference}, {method.space} {words} (no test of single cells).")
    return told


def _figures(
    predictions: Predictions, differences: Mapping[Method, np.ndarray], reference: str, chosen: Chosen,
    classes: Sequence[str],
) -> list[NamedFigure]:  # fmt: skip
    """The figures of one noise level."""
    noise = next(iter(predictions)).noise
    suffix = noise.replace(":", "-")
    whole = {method.space: mean_confusion(rows, classes) for method, rows in predictions.items()}
    alternative = "; ".join(
        f"{space}: mean recall {classification_report(counts, classes)['recall'].iloc[-1]:.0%}"
        for space, counts in whole.items()
    )
    found = [
        NamedFigure(
            f"confusion-{suffix}",
            f"Confusion matrices at {noise}: {chosen.scored}. Rows are in percent, their utterances stand beside them.",
            f"One matrix for each method. {alternative}.",
            draw_confusions(whole, classes, COLUMNS),
        )
    ]
    few = [method for method in foremost(chosen, noise, reference, ROWS) if method in predictions]
    left_out = f" {len(few)} of {len(predictions)} methods are drawn." if len(few) < len(predictions) else ""
    for by in GROUPS:
        split = {
            method: [(name, rows) for kind, name, rows in grouped(predictions[method]) if kind == by] for method in few
        }
        names = list(dict.fromkeys(name for groups in split.values() for name, _ in groups))
        if len(names) < 2:
            continue
        panels = {
            f"{method.space}, {name}": mean_confusion(rows, classes) for method in few for name, rows in split[method]
        }
        found.append(
            NamedFigure(
                f"confusion-{by}-{suffix}",
                f"Confusion matrices by {by} at {noise}: {chosen.scored}.{left_out}",
                f"One matrix for each method and {by} ({', '.join(names)}).",
                draw_confusions(panels, classes, len(names)),
            )
        )
    if differences:
        found.append(
            NamedFigure(
                f"confusion-difference-{suffix}",
                f"What the shares have more than those of {reference} at {noise}, in percentage points: "
                f"{chosen.scored}. On the diagonal (framed) more is better, off it worse.",
                f"One matrix of differences for each method other than {reference}.",
                draw_differences(
                    {f"{method.space} − {reference}": values for method, values in differences.items()},
                    classes,
                    COLUMNS,
                ),
            )
        )
    return found


def _unknown_groups(predictions: pd.DataFrame) -> list[str]:
    known = {by for by, _, _ in grouped(predictions)}
    missing = []
    if GENDER not in known:
        missing.append("No speaker's gender is known, so nothing is told by gender.")
    if AGREEMENT not in known:
        missing.append(
            "The annotators' agreement is not known: the corpus has no votes, or the study is an older version's (then "
            "train again: python study/run.py with a new --name)."
        )
    return missing


def _keyed(tables: Mapping[Method, pd.DataFrame]) -> pd.DataFrame:
    """Tables of several methods as one, with ``noise``, ``space`` and ``trial`` in front."""
    keyed = []
    for method, table in tables.items():
        keyed.append(table.copy())
        for place, name in enumerate(("noise", "space", "trial")):
            keyed[-1].insert(place, name, getattr(method, name))
    return pd.concat(keyed, ignore_index=True)


def _reports(predictions: Predictions, chosen: Chosen, classes: Sequence[str]) -> NamedTable:
    data = _keyed(
        {method: classification_report(mean_confusion(rows, classes), classes) for method, rows in predictions.items()}
    )
    text = data[["noise", "space", "class"]].copy()
    text["utterances"] = [f"{count:,.0f}" for count in data["utterances"]]
    for name in ("precision", "recall", "f1"):
        text["F1" if name == "f1" else name] = data[name].map(_number)
    return NamedTable("classification_report", f"Classification report: {chosen.scored}", data, text)


def _groups(predictions: Predictions, chosen: Chosen, classes: Sequence[str]) -> NamedTable:
    """Recall of each class, and UAR, by group."""
    tables = {}
    for method, rows in predictions.items():
        reports = []
        for by, group, own in grouped(rows):
            report = classification_report(mean_confusion(own, classes), classes)
            recalls = dict(zip(report["class"], report["recall"], strict=True))
            line = {"by": by, "group": group, "utterances": report["utterances"].iloc[-1], "uar": recalls.pop("mean")}
            reports.append({**line, **{f"recall_{name}": value for name, value in recalls.items()}})
        tables[method] = pd.DataFrame(reports)
    data = _keyed(tables)
    text = data[["noise", "space", "group"]].copy()
    text["utterances"] = [f"{count:,.0f}" for count in data["utterances"]]
    text["UAR"] = data["uar"].map(_number)
    for name in classes:
        text[name] = data[f"recall_{name}"].map(_number)
    caption = f"UAR, over the classes that a group has, and recall of each class, by group: {chosen.scored}"
    return NamedTable("recall_by_group", caption, data, text)


def _cells(cells: pd.DataFrame, chosen: Chosen) -> NamedTable:
    rows = cells[cells["by"] == ALL].groupby(["noise", "space"], sort=False)
    top = pd.concat([frequent_confusions(own, SHOWN) for _, own in rows])
    text = top[["noise", "space", "label", "predicted"]].copy()
    text["utterances"] = [f"{count:,.1f}" for count in top["count"]]
    text["share of label"] = [f"{share:.0%}" for share in top["share"]]
    return NamedTable("confusions", f"The most frequent confusions of each method: {chosen.scored}", cells, text)


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.3f}"
