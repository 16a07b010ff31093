"""Confusion matrices and classification reports of each noise level and method.

Over all utterances, by gender and by annotator agreement, with the differences between the methods' matrices: of the
test subset for confirmed configurations, else of the validation subset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.common.methods import Chosen, Method, choose_methods, choose_reference, top_methods
from analysis.common.records import Records
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.common.text import number, percent
from analysis.options import ConfusionOptions as Options
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
from analysis.sections.confusion.wording import difference_sentence, seen_text, uar_text, worst_sentence
from ser.corpora.names import emotions_in_words
from ser.training.utterance_table import AGREEMENT
from ser.utils.command_names import command_line
from study.schema import CONFIRM, in_words

TITLE = "Confusion matrices"
SHOWN = 3
"""Confusions of each method that are displayed; the CSV file has all cells."""
DRAWN = 2
"""Methods of a level in the figures by group: the reference and the best other one; the CSV file has all."""
COLUMNS = 3
FILTERS = ("noise", "method")

Predictions = Mapping[Method, pd.DataFrame]


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
    cells = {method: confusion_table(rows, classes) for method, rows in predictions.items()}
    figures, sentences = [], []
    for noise in chosen.levels:
        here = {method: rows for method, rows in predictions.items() if method.noise == noise}
        if not here:
            continue
        differences, lacking = _differences(records, here, noise, reference, classes)
        missing += lacking
        sentences += [worst_sentence({method: cells[method] for method in here}, noise)]
        if differences and chosen.stage == CONFIRM:  # of a search there is one seed, and the best of several trials
            sentences += [difference_sentence(differences, noise, reference, classes)]
        figures += _figures(here, cells, differences, reference, chosen, classes)
    everyone = pd.concat(predictions.values())
    missing += _unknown_groups(everyone)
    notes = [
        *chosen.notes,
        "Counts are summed over the folds of a seed, then averaged over seeds; precision, recall and F1 are computed "
        "from them. Utterances without a known true label are left out.",
        "Single cells are not tested. They are many, so the largest differences are larger than they would be on other "
        "speakers; only the paired comparison shows whether a method is better.",
    ]
    tables = (
        _reports(predictions, chosen, classes),
        _groups(predictions, chosen, classes),
        _cells(_keyed(cells), chosen),
    )
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
                without.append(f"{_named(method)} (run {run.run_id})")
                continue
            tables.append(predictions_of(utterances, chosen.subset).assign(seed=run.seed, fold=run.fold))
        if tables and any(len(table) for table in tables):
            found[method] = pd.concat(tables, ignore_index=True)
        elif tables:
            unknown.append(_named(method))
    missing = []
    if without:
        missing.append(
            f"No predictions of the {chosen.subset} subset, because an older version recorded these trials: "
            f"{'; '.join(without)}. To get them, train again: {command_line('study/run.py')} with a new --name."
        )
    if unknown:
        missing.append(
            f"No true label is known, so there are no confusions: {'; '.join(unknown)}. Add a column true_label to the "
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
            f"Nothing is compared at {noise}, because {in_words(reference)} has no trial there. To add it: "
            f"{records.command('study/run.py', *records.space_options(reference))}"
        ]
    if not others:
        return {}, [
            f"Nothing is compared at {noise}, because {in_words(reference)} is the only method. To add one: "
            f"{records.command('study/run.py', '--space', 'NAME')}"
        ]
    found, unpaired = {}, []
    for method, rows in others.items():
        difference = share_differences(rows, base, classes)
        if difference is None:
            unpaired.append(f"{in_words(method.space)} and {in_words(reference)} at {noise}")
        else:
            found[method] = difference
    return found, [
        f"Matrices are subtracted on common seeds and folds; there are none of {'; '.join(unpaired)}."
    ] if unpaired else []


def _figures(
    predictions: Predictions, cells: Mapping[Method, pd.DataFrame], differences: Mapping[Method, np.ndarray],
    reference: str, chosen: Chosen, classes: Sequence[str],
) -> list[NamedFigure]:  # fmt: skip
    """Return the figures of one noise level."""
    noise = next(iter(predictions)).noise
    suffix, words = noise.replace(":", "-"), emotions_in_words(classes)
    whole = {method: mean_confusion(rows, classes) for method, rows in predictions.items()}
    found = [
        NamedFigure(
            f"confusion-{suffix}",
            f"Confusion matrices at {noise}, in % of the true class; the number of its utterances in brackets "
            f"({chosen.scored}).",
            " ".join(seen_text(method, cells[method], whole[method], classes) for method in whole),
            draw_confusions({in_words(method.space): counts for method, counts in whole.items()}, words, COLUMNS),
        )
    ]
    few = [method for method in top_methods(chosen, noise, reference, DRAWN) if method in predictions]
    left_out = f" {len(few)} of {len(predictions)} methods are drawn." if len(few) < len(predictions) else ""
    for by in GROUPS:
        split = {
            method: [(name, rows) for kind, name, rows in grouped(predictions[method]) if kind == by] for method in few
        }
        names = list(dict.fromkeys(name for groups in split.values() for name, _ in groups))
        if len(names) < 2:
            continue
        panels = {
            f"{in_words(method.space)}, {name}": mean_confusion(rows, classes)
            for method in few
            for name, rows in split[method]
        }
        found.append(
            NamedFigure(
                f"confusion-{by}-{suffix}",
                f"Confusion matrices by {by} at {noise}, in % of the true class ({chosen.scored}).{left_out}",
                " ".join(f"{title}: {uar_text(counts, classes)}." for title, counts in panels.items()),
                draw_confusions(panels, words, len(names)),
            )
        )
    if differences:
        base = in_words(reference)
        panels = {f"{in_words(method.space)} − {base}": values for method, values in differences.items()}
        found.append(
            NamedFigure(
                f"confusion-difference-{suffix}",
                f"Differences of the confusion matrices from that of {base} at {noise} ({chosen.scored}). On the "
                "diagonal (framed) a larger share is better, elsewhere a smaller one.",
                difference_sentence(differences, noise, reference, classes),
                draw_differences(panels, words, COLUMNS),
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


def _named(method: Method) -> str:
    return f"{in_words(method.space)} at {method.noise}"


def _reports(predictions: Predictions, chosen: Chosen, classes: Sequence[str]) -> NamedTable:
    data = _keyed(
        {method: classification_report(mean_confusion(rows, classes), classes) for method, rows in predictions.items()}
    )
    words = {"mean": "mean", **dict(zip(classes, emotions_in_words(classes), strict=True))}
    text = _keys(data).assign(**{"class": data["class"].map(words)})
    text["utterances"] = [f"{count:,.0f}" for count in data["utterances"]]
    for name in ("precision", "recall", "f1"):
        text["F1" if name == "f1" else name] = data[name].map(number)
    caption = f"Precision, recall and F1 of each class; the mean recall is the UAR ({chosen.scored})"
    return NamedTable("classification_report", caption, data, text, keys=3, filters=FILTERS)


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
    text = _keys(data).assign(group=data["group"])
    text["utterances"] = [f"{count:,.0f}" for count in data["utterances"]]
    of = f"of {len(classes)}"
    there = data[[f"recall_{name}" for name in classes]].notna().sum(axis=1)
    text["UAR"] = [
        number(100 * uar, 1) + (f" ({count} {of})" if count < len(classes) else "")
        for uar, count in zip(data["uar"], there, strict=True)
    ]
    for name, word in zip(classes, emotions_in_words(classes), strict=True):
        text[word] = [number(100 * recall, 0) for recall in data[f"recall_{name}"]]
    over = f", over k {of} classes where the group has no more" if (there < len(classes)).any() else ""
    caption = f"UAR{over}, and recall of each class, in %, by group ({chosen.scored})"
    return NamedTable("recall_by_group", caption, data, text, keys=3, filters=FILTERS)


def _cells(cells: pd.DataFrame, chosen: Chosen) -> NamedTable:
    rows = cells[cells["by"] == ALL].groupby(["noise", "space"], sort=False)
    top = pd.concat([frequent_confusions(own, SHOWN) for _, own in rows])
    classes = list(dict.fromkeys(cells["label"]))
    words = dict(zip(classes, emotions_in_words(classes), strict=True))
    text = _keys(top).assign(**{"true class": top["label"].map(words), "predicted class": top["predicted"].map(words)})
    text["utterances"] = [f"{count:,.1f}".removesuffix(".0") for count in top["count"]]
    text["share of the class"] = top["share"].map(percent)
    caption = f"The {SHOWN} most frequent confusions of each method ({chosen.scored})"
    return NamedTable("confusions", caption, cells, text, keys=2, filters=FILTERS)


def _keys(data: pd.DataFrame) -> pd.DataFrame:
    """Return the displayed columns that identify a method."""
    return pd.DataFrame({"noise": data["noise"], "method": data["space"].map(in_words)})
