"""Labels that the loss corrected, and labels that look wrong.

From the per-utterance tables of the methods, or of one trial: precision and recall of the corrections, at the end and
over the epochs; the corrected label pairs, by gender and speaker; the most suspicious labels, with their audio; and how
their ranking compares with those of cleanlab.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.common.corrected_labels import ALL, PAIR, by_group, corrected_pairs, correction_scores, first_changes
from analysis.common.methods import Chosen, Method, Run, choose_methods
from analysis.common.records import Records
from analysis.common.section import NamedFigure, NamedSound, NamedTable, Section
from analysis.options import Audio
from analysis.options import CorrectionsOptions as Options
from analysis.sections.corrections.audio import snippets
from analysis.sections.corrections.figures import draw_corrected_pairs, draw_correction_curves
from analysis.sections.corrections.suspicious import LOSS, RANK, asks_network, compare_rankings, rank_labels
from analysis.sections.corrections.wording import (
    FILTERS,
    IN_SAMPLE,
    RANKINGS,
    SUSPICION,
    correction_sentence,
    first_change_sentence,
    named,
    pairs_text,
    ranking_text,
    remarks,
    scores_text,
    suspicious_text,
)
from ser.corpora.names import emotions_in_words
from ser.training.utterance_table import TRAIN
from ser.utils.command_names import command_line
from study.schema import CONFIRM, SEARCH, UTTERANCES, Tag, in_words

TITLE = "Label corrections"
SHOWN = 10
"""Label pairs of a trial that are displayed; the CSV file has all."""
HEARD = 6
"""Suspicious labels of a noise level that are displayed and have audio; the CSV file has all."""
CURVES = {"precision": "train/correction_precision", "recall": "train/correction_recall"}


@dataclass(frozen=True)
class Audited:
    """A trial whose labels are examined.

    Args:
        noise: Noise level.
        space: Search space.
        trial: Its number in the study; in the confirm stage candidate, seed and fold.
        run_id: MLflow run.
        utterances: Its per-utterance table.
        selected: Validation score by which its method was chosen.
    """

    noise: str
    space: str
    trial: str
    run_id: str
    utterances: pd.DataFrame
    selected: float

    @property
    def key(self) -> dict[str, str]:
        """Return the columns that identify its rows."""
        return {"noise": self.noise, "space": self.space, "trial": self.trial, "run_id": self.run_id}


def section(records: Records, options: Options) -> Section:
    """Return the corrected and the suspicious labels.

    Args:
        records: Records of the experiment.
        options: One trial instead of all methods, and whether suspicious labels have audio.

    Raises:
        UserError: If a per-utterance table cannot be read.
    """
    chosen = choose_methods(records) if options.run is None else _one(records, options.run)
    one = chosen.methods[0] if options.run is not None else None
    title = TITLE if one is None else f"{TITLE} of {in_words(one.space)} at {one.noise}, trial {one.trial}"
    trials, without_table = read_tables(records, chosen)
    if not trials:
        return Section("corrections", title, notes=chosen.notes, missing=(*without_table, *chosen.missing))
    tables = tabulate(trials)
    curves = read_curves(records, chosen)
    top = _top_trials(trials, chosen)
    words = dict(zip(records.classes, emotions_in_words(records.classes), strict=True))
    sounds, licences, silent = _sounds(records, top, tables["suspicious"], options.audio, words)
    about = [(trial.noise, trial.space, trial.utterances) for trial in trials]
    notes = [*chosen.notes, SUSPICION, RANKINGS, IN_SAMPLE, *remarks(about)]
    if chosen.stage == CONFIRM and any(len(method.runs) > 1 for method in chosen.methods):
        notes.append(
            "Corrected and suspicious labels are of one trial for each method, that of the lowest seed and fold; "
            "precision and recall by epoch are of all of its trials."
        )
    if sounds:
        notes.append(f"Licence of the audio: {licences}. At most the first 5 seconds are played.")
    return Section(
        "corrections",
        title,
        sentences=tuple(_sentences(trials, tables, curves)),
        tables=tuple(_tables(tables, trials, top, curves, words)),
        figures=tuple(_figures(tables, curves, words)),
        notes=tuple(notes),
        missing=(*without_table, *silent, *chosen.missing),
        sounds=tuple(sounds),
        optional_files=("corrections.*", "correction_curves.*", "suspicious-*.flac"),
    )


def read_tables(records: Records, chosen: Chosen) -> tuple[list[Audited], list[str]]:
    """Return the first trial of each method with its per-utterance table, and a sentence on trials without one.

    Args:
        records: Records of the experiment.
        chosen: Methods of the experiment.
    """
    found, without = [], []
    for method in chosen.methods:
        run = method.runs[0]
        trial = f"{method.trial} seed {run.seed} fold {run.fold}" if chosen.stage == CONFIRM else method.trial
        table = records.utterances(run.run_id)
        if table is None:
            without.append(f"{in_words(method.space)} at {method.noise} (run {run.run_id})")
        else:
            found.append(Audited(method.noise, method.space, trial, run.run_id, table, method.selected))
    if not without:
        return found, []
    return found, [
        f"{len(without)} of {len(chosen.methods)} trials have no {UTTERANCES}, because an older version recorded them "
        f"or they have not finished: {', '.join(without)}. To get it, train again: {command_line('study/run.py')} with "
        "a new --name."
    ]


def tabulate(trials: Sequence[Audited]) -> dict[str, pd.DataFrame]:
    """Compute all tables, each after the columns ``noise``, ``space``, ``trial`` and ``run_id``.

    Args:
        trials: The trials, at least one.

    Returns:
        Name of the file → table: ``summary`` and ``pairs`` (overall, by gender, by speaker), ``first_changes``,
        ``suspicious``, ``ranking``.
    """

    def joined(found: Iterable[pd.DataFrame]) -> pd.DataFrame:
        keyed = []
        for trial, table in zip(trials, found, strict=True):
            keyed.append(pd.DataFrame([trial.key] * len(table), index=table.index, columns=list(trial.key)).join(table))
        return pd.concat(keyed, ignore_index=True)

    tables = [trial.utterances for trial in trials]
    ranked = [rank_labels(utterances) for utterances in tables]
    return {
        "summary": joined(by_group(utterances, correction_scores) for utterances in tables),
        "pairs": joined(by_group(utterances, corrected_pairs) for utterances in tables),
        "first_changes": joined(map(first_changes, tables)),
        "suspicious": joined(ranked),
        "ranking": joined(map(compare_rankings, ranked)),
    }


def read_curves(records: Records, chosen: Chosen) -> pd.DataFrame:
    """Read precision and recall of the corrections in each epoch of every trial.

    Args:
        records: Records of the experiment.
        chosen: Methods of the experiment.

    Returns:
        ``noise``, ``space``, ``trial``, ``run_id``, ``seed``, ``fold``, ``epoch``, ``precision`` (NaN in epochs without
        a changed label) and ``recall``; no rows of trials that changed no label with a known true label.
    """
    tables = [pd.DataFrame(columns=["noise", "space", "trial", "run_id", "seed", "fold", "epoch", *CURVES])]
    for method in chosen.methods:
        for run in method.runs:
            found = {name: records.curve(run.run_id, metric) for name, metric in CURVES.items()}
            if found["precision"].empty:
                continue
            table = pd.DataFrame(found).rename_axis("epoch").reset_index()
            about = {"noise": method.noise, "space": method.space, "trial": method.trial, **vars(run)}
            tables.append(table.assign(**about)[list(tables[0])])
    return pd.concat(tables[1:], ignore_index=True) if len(tables) > 1 else tables[0]


def _one(records: Records, run: str) -> Chosen:
    """Return one trial as the only method."""
    tags = records.run(run).data.tags
    own = Run(run, int(tags.get(Tag.SEED, 0)), int(tags.get(Tag.FOLD, 0)))
    name = tags.get(Tag.CANDIDATE, tags[Tag.TRIAL])
    space = records.space_names.get(run, tags[Tag.SPACE])
    method = Method(tags[Tag.NOISE], float("nan"), space, name, float("nan"), (own,))
    return Chosen((method,), tags.get(Tag.STAGE, SEARCH), records.selection.mode, (), ())


def _top_trials(trials: Sequence[Audited], chosen: Chosen) -> list[Audited]:
    """Return the best trial of each noise level among losses that use the network's predictions, else of all."""
    sign = -1 if chosen.mode == "max" else 1
    order = sorted(trials, key=lambda trial: (not asks_network(trial.utterances), sign * trial.selected))
    found = {trial.noise: trial for trial in reversed(order)}
    return [found[noise] for noise in chosen.levels if noise in found]


def _most_suspicious(trial: Audited, suspicious: pd.DataFrame) -> pd.DataFrame:
    """Return the most suspicious training labels of a trial."""
    rows = suspicious[(suspicious["run_id"] == trial.run_id) & (suspicious["subset"] == TRAIN)]
    return rows.dropna(subset=[RANK + LOSS]).head(HEARD)


def _sounds(
    records: Records, trials: Sequence[Audited], suspicious: pd.DataFrame, audio: Audio, words: Mapping[str, str]
) -> tuple[list[NamedSound], str, list[str]]:
    """Return the audio of the most suspicious labels, its licences, and what is missing."""
    sounds: list[NamedSound] = []
    licences: list[str] = []
    missing: list[str] = []
    for trial in trials:
        rows = _most_suspicious(trial, suspicious)
        found = snippets(records, trial.run_id, rows["utterance_id"].tolist(), audio)
        missing += found.missing
        licences += [found.licence] if found.licence else []
        for place, row in enumerate(rows.to_dict("records"), start=1):
            if flac := found.flac.get(row["utterance_id"]):
                name = f"suspicious-{trial.noise.replace(':', '-')}-{place:02d}"
                truth = "" if pd.isna(row["label"]) else f"; true label {words[row['label']]}"
                labels = f"labelled {words[row['noisy_label']]}, corrected to {words[row['corrected_label']]}{truth}"
                sounds.append(NamedSound(name, f"{trial.noise}: {row['utterance_id']}, {labels}", flac))
    return sounds, "; ".join(dict.fromkeys(licences)), list(dict.fromkeys(missing))


def _sentences(trials: Sequence[Audited], tables: Mapping[str, pd.DataFrame], curves: pd.DataFrame) -> Iterable[str]:
    for _, rows in curves.groupby(["noise", "space"], sort=False):
        yield correction_sentence(rows)
    uncorrected = []
    for trial in trials:
        pairs, changes = (tables[name][tables[name]["run_id"] == trial.run_id] for name in ("pairs", "first_changes"))
        if pairs.empty:
            uncorrected.append((trial.noise, trial.space))
        if len(changes):
            yield first_change_sentence(changes)
    if uncorrected:
        yield f"No label is corrected at the end by {named(uncorrected)}."


def _tables(
    tables: Mapping[str, pd.DataFrame], trials: Sequence[Audited], top: Sequence[Audited], curves: pd.DataFrame,
    words: Mapping[str, str],
) -> Iterable[NamedTable]:  # fmt: skip
    suspicious = pd.concat([_most_suspicious(trial, tables["suspicious"]) for trial in top])
    asking = [trial.run_id for trial in trials if asks_network(trial.utterances)]
    shown = {
        "summary": (
            "Precision and recall of the corrections at the end of training",
            scores_text(tables["summary"]),
            3,
        ),
        "pairs": (
            f"Corrected labels, the {SHOWN} most frequent pairs of each method",
            pairs_text(tables["pairs"], SHOWN, words),
            4,
        ),
        "suspicious": (
            "The most suspicious training labels, by the best method that corrects labels",
            suspicious_text(suspicious, words),
            3,
        ),
        "ranking": (
            "How well rankings of suspicious labels find the wrong ones",
            ranking_text(tables["ranking"], asking),
            4,
        ),
    }
    for name, (caption, text, keys) in shown.items():
        yield NamedTable(name, caption, tables[name], text, keys=keys, filters=FILTERS)
    for name, caption, data in (
        ("first_changes", "Labels by the epoch in which they were changed for the first time", tables["first_changes"]),
        ("correction_curves", "Precision and recall of the corrections in each epoch", curves),
    ):
        yield NamedTable(name, caption, data, pd.DataFrame())


def _figures(
    tables: Mapping[str, pd.DataFrame], curves: pd.DataFrame, words: Mapping[str, str]
) -> Iterable[NamedFigure]:
    pairs = tables["pairs"][tables["pairs"]["by"] == ALL]
    pairs = pairs.assign(**{name: pairs[name].map(words) for name in PAIR})
    panels = {
        f"{in_words(str(space))} at {noise}": rows.head(SHOWN)
        for (noise, space, _), rows in pairs.groupby(["noise", "space", "run_id"], sort=False)
    }
    if panels:
        yield NamedFigure(
            "corrections",
            "Most frequent corrections at the end of training; right: corrected to the true label.",
            " ".join(
                f"{title}: most often {rows['noisy_label'].iloc[0]} to {rows['corrected_label'].iloc[0]}, "
                f"{rows['flips'].iloc[0]} labels, {rows['right'].iloc[0]} of them rightly."
                for title, rows in panels.items()
            ),
            draw_corrected_pairs(panels),
        )
    if len(curves):
        yield NamedFigure(
            "correction_curves",
            "Precision: of the labels changed in an epoch, those that became the true one. Recall: of the wrong "
            "labels, those that became the true one. Bands: smallest to largest value over seeds and folds.",
            " ".join(correction_sentence(rows) for _, rows in curves.groupby(["noise", "space"], sort=False)),
            draw_correction_curves(curves),
        )
