"""Confusion matrices and classification reports of each noise level and method.

Over all utterances, by gender and by annotator agreement, with the differences between the methods' matrices: of the
test subset for confirmed configurations, else of the validation subset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.common.methods import Chosen, Method, choose_methods, choose_reference, top_methods
from analysis.common.records import Records, RecordsOptions
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.common.text import number, percent
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
from ser.utils.command_names import command_line
from study.schema import CONFIRM

TITLE = "Confusion matrices"
SHOWN = 3
"""Confusions of each method that are displayed; the CSV file has all cells."""
ROWS = 3
"""Methods of a level in the figures by group: the reference and the best others; the CSV file has all."""
COLUMNS = 3

Predictions = Mapping[Method, pd.DataFrame]


@dataclass(frozen=True)
class Options(RecordsOptions):
    """Show which emotions are confused, by noise level, method, gender and annotator agreement."""

    reference: str | None = None
    """Search space that others are compared with; default: cross_entropy if it was searched."""
    output: Path = Path("results") / "confusion"
    """Folder of the tables and figures."""


def section(records: Records, options: Options) -> Section:
    """Return the confusion matrices.

    Args:
        records: Records of the experiment.
        options: The reference.

    Raises:
        UserError: If no trial is of the reference, or if a per-utterance table cannot be read.
    """
    chosen = choose_methods(records)
    predictions, missing = read_predictions(records, chosen)
    title = f"{TITLE} ({chosen.scored})"
    reference = choose_reference(records, chosen, options.reference)
    if not predictions:
        return Section("confusion", title, notes=chosen.notes, missing=(*chosen.missing, *missing))
    classes = records.classes
    cells = _keyed({method: confusion_table(rows, classes) for method, rows in predictions.items()})
    figures, sentences = [], []
    for noise in chosen.levels:
        here = {method: rows for method, rows in predictions.items() if method.noise == noise}
        if not here:
            continue
        differences, lacking = _differences(records, here, noise, reference, classes)
        missing += lacking
        sentences += _sentences(here, differences, reference, chosen, classes)
        figures += _figures(here, differences, reference, chosen, classes)
    everyone = pd.concat(predictions.values())
    missing += _unknown_groups(everyone)
    notes = [
        *chosen.notes,
        "Counts are pooled over the folds of a seed, then averaged over seeds; precision, recall and F1 are computed "
        "from them. Utterances without a known true label are left out.",
        "Single cells are not tested, and there are many of them: the largest differences are larger than they would "
        "be on other speakers. Only the paired comparison shows whether a method is better.",
    ]
    tables = (_reports(predictions, chosen, classes), _groups(predictions, chosen, classes), _cells(cells, chosen))
    return Section(
        "confusion", title, tuple(sentences), tables, tuple(figures), tuple(notes), (*chosen.missing, *missing)
    )


def read_predictions(records: Records, chosen: Chosen) -> tuple[dict[Method, pd.DataFrame], list[str]]:
    """Return the predictions of every method's trials.

    Args:
        records: Records of the experiment.
        chosen: Methods of the experiment.

    Returns:
        Method → rows of ``analysis.sections.confusion.matrices.predictions_of`` with ``seed`` and ``fold``, for methods
        that have any; and sentences on what is missing.
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
            f"No predictions of the {chosen.subset} subset, because an older version recorded these trials: "
            f"{'; '.join(without)}. To get them, train again: {command_line('study/run.py')} with a new --name."
        )
    if unknown:
        missing.append(
            f"No true label is known, so confusions are unknown: {'; '.join(unknown)}. Add a column true_label to the "
            "corpus's table."
        )
    return found, missing


def _differences(
    records: Records, predictions: Predictions, noise: str, reference: str, classes: Sequence[str]
) -> tuple[dict[Method, np.ndarray], list[str]]:
    """Return the differences (method − reference) of the shares at one noise level, and what cannot be compared."""
    base = next((rows for method, rows in predictions.items() if method.space == reference), None)
    others = {method: rows for method, rows in predictions.items() if method.space != reference}
    if base is None:
        return {}, [
            f"Nothing is compared at {noise}, because {reference} has no trial there. To add it: "
            f"{records.command('study/run.py', *records.space_options(reference))}"
        ]
    if not others:
        return {}, [
            f"Nothing is compared at {noise}, because {reference} is the only method. To add one: "
            f"{records.command('study/run.py', '--space', 'NAME')}"
        ]
    found, unpaired = {}, []
    for method, rows in others.items():
        difference = share_differences(rows, base, classes)
        if difference is None:
            unpaired.append(f"{method.space} and {reference} at {noise}")
        else:
            found[method] = difference
    return found, [f"No common seed and fold: {', '.join(unpaired)}."] if unpaired else []


def _sentences(
    predictions: Predictions, differences: Mapping[Method, np.ndarray], reference: str, chosen: Chosen,
    classes: Sequence[str],
) -> list[str]:  # fmt: skip
    """Return sentences on the most frequent confusion of each method and, if confirmed, the largest differences."""
    sentences = []
    for method, rows in predictions.items():
        cells = confusion_table(rows, classes)
        worst = frequent_confusions(cells[cells["by"] == ALL], 1)
        if worst.empty:
            sentences.append(f"{method.noise}: {method.space} confuses no emotions.")
            continue
        cell = worst.iloc[0]
        sentences.append(
            f"{method.noise}: most frequent confusion of {method.space}: {cell['label']} predicted as "
            f"{cell['predicted']}, {percent(cell['share'])} of its utterances."
        )
    if chosen.stage != CONFIRM:
        return sentences  # one seed, and the best of several trials
    for method, difference in differences.items():
        recalls = np.diag(difference)
        high, low = int(np.nanargmax(recalls)), int(np.nanargmin(recalls))
        changes = []
        if recalls[high] > 0:
            changes.append(f"recognises {classes[high]} more often, by {100 * recalls[high]:.0f} points")
        if recalls[low] < 0:
            changes.append(f"{classes[low]} less often, by {-100 * recalls[low]:.0f}")
        if changes:
            words = " and ".join(changes) if recalls[high] > 0 else f"recognises {changes[0]}"
            sentences.append(
                f"{method.noise}: compared with {reference}, {method.space} {words} (no test of single cells)."
            )
    return sentences


def _figures(
    predictions: Predictions, differences: Mapping[Method, np.ndarray], reference: str, chosen: Chosen,
    classes: Sequence[str],
) -> list[NamedFigure]:  # fmt: skip
    """Return the figures of one noise level."""
    noise = next(iter(predictions)).noise
    suffix = noise.replace(":", "-")
    whole = {method.space: mean_confusion(rows, classes) for method, rows in predictions.items()}
    alternative = "; ".join(
        f"{space}: mean recall {percent(classification_report(counts, classes)['recall'].iloc[-1])}"
        for space, counts in whole.items()
    )
    found = [
        NamedFigure(
            f"confusion-{suffix}",
            f"Confusion matrices at {noise}: {chosen.scored}. Rows are in percent, with their numbers of utterances.",
            f"One matrix for each method. {alternative}.",
            draw_confusions(whole, classes, COLUMNS),
        )
    ]
    few = [method for method in top_methods(chosen, noise, reference, ROWS) if method in predictions]
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
                f"Differences of the shares (method − {reference}) at {noise}, in percentage points: {chosen.scored}. "
                "On the diagonal (framed) a larger share is better, elsewhere a smaller one.",
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
        missing.append("No speaker's gender is known, so there are no results by gender.")
    if AGREEMENT not in known:
        missing.append(
            "The annotators' agreement is not known: the corpus has no votes, or an older version recorded the study "
            f"(then train again: {command_line('study/run.py')} with a new --name)."
        )
    return missing


def _keyed(tables: Mapping[Method, pd.DataFrame]) -> pd.DataFrame:
    """Join the tables of several methods, each after the columns ``noise``, ``space`` and ``trial``."""
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
        text["F1" if name == "f1" else name] = data[name].map(number)
    return NamedTable("classification_report", f"Classification report: {chosen.scored}", data, text)


def _groups(predictions: Predictions, chosen: Chosen, classes: Sequence[str]) -> NamedTable:
    """Return the recall of each class, and UAR, by group."""
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
    text["UAR"] = data["uar"].map(number)
    for name in classes:
        text[name] = data[f"recall_{name}"].map(number)
    caption = f"UAR, over the classes that a group has, and recall of each class, by group: {chosen.scored}"
    return NamedTable("recall_by_group", caption, data, text)


def _cells(cells: pd.DataFrame, chosen: Chosen) -> NamedTable:
    rows = cells[cells["by"] == ALL].groupby(["noise", "space"], sort=False)
    top = pd.concat([frequent_confusions(own, SHOWN) for _, own in rows])
    text = top[["noise", "space", "label", "predicted"]].copy()
    text["utterances"] = [f"{count:,.1f}" for count in top["count"]]
    text["share of label"] = top["share"].map(percent)
    return NamedTable("confusions", f"The most frequent confusions of each method: {chosen.scored}", cells, text)
