"""Which labels the loss flipped, and which look wrong: python analysis/corrections.py.

Reads the table of utterances of what stands for each noise level and search space, or of one trial. Prints and writes
how well labels were corrected, at the end and over the epochs, which pairs were flipped, rightly or not, by gender and
speaker, which labels are the most suspicious, with their audio, and how that ranking compares with cleanlab's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import pandas as pd
from mlflow.exceptions import MlflowException

from analysis.common.label_flips import ALL, by_group, correction_scores, first_changes, flipped_pairs
from analysis.common.methods import Chosen, Method, Run, choose_methods
from analysis.common.records import Records, RecordsOptions, open_records
from analysis.common.section import NamedFigure, NamedSound, NamedTable, Section, publish
from analysis.common.style import draw_flips
from analysis.sections.corrections.audio import Audio, snippets
from analysis.sections.corrections.figures import draw_correction_curves
from analysis.sections.corrections.suspicious import LOSS, RANK, asks_network, compare_rankings, rank_labels
from analysis.sections.corrections.text import (
    IN_SAMPLE,
    course,
    pairs_text,
    ranking_text,
    remarks,
    scores_text,
    suspicious_text,
    timing,
)
from ser.training.utterance_table import TRAIN
from ser.utils.command_line import parse
from ser.utils.errors import UserError
from study.messages import first_line, without_password
from study.schema import CONFIRM, KIND, SEARCH, TRIAL, UTTERANCES, Tag
from study.tracking.searches import make_console
from study.tracking.store import absolute_uri, open_client

SHOWN = 10
"""Pairs of a trial in the text and the figure; the CSV has all."""
HEARD = 6
"""Suspicious labels of a noise level in the text, to be listened to; the CSV has all."""
CURVES = {"precision": "train/correction_precision", "recall": "train/correction_recall"}


@dataclass(frozen=True)
class CorrectionsOptions(RecordsOptions):
    """Shows which labels the method of each noise level and space has flipped, and which look wrong."""

    run: str | None = None
    """MLflow run id of one trial, instead of what stands for each noise level and space."""
    audio: Audio = "if-allowed"
    """Audio of the most suspicious labels: if the corpus's licence lets it be passed on; always; or never."""
    output: Path = Path("results") / "corrections"
    """Folder for the tables (CSV, corrections.md), the figures and the audio."""


@dataclass(frozen=True)
class Audited:
    """A trial that is looked at.

    Args:
        noise: Noise level.
        space: Search space.
        trial: Its number in the study; in the confirm stage candidate, seed and fold.
        run_id: MLflow run.
        utterances: Its table.
        selected: The validation score that its method was chosen by.
    """

    noise: str
    space: str
    trial: str
    run_id: str
    utterances: pd.DataFrame
    selected: float

    def __str__(self) -> str:
        return f"{self.noise} {self.space} {self.trial}"

    @property
    def key(self) -> dict[str, str]:
        """What its rows are told apart by."""
        return {"noise": self.noise, "space": self.space, "trial": self.trial, "run_id": self.run_id}


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = parse(CorrectionsOptions)
    matplotlib.use("agg")
    records = open_records(options if options.run is None else _experiment_of(options, options.run))
    found = section(records, options.run, options.audio)
    if found.tables and options.output.is_dir():
        _remove_older(options.output)
    publish(found, options.output, make_console())
    return 0


def section(records: Records, run: str | None = None, audio: Audio = "if-allowed") -> Section:
    """The section of the report.

    Args:
        records: Of the experiment.
        run: MLflow run of one trial; None is what stands for each noise level and space.
        audio: Whether the most suspicious labels have audio.
    """
    chosen = choose_methods(records) if run is None else _one(records, run)
    title = f"Label corrections of experiment {records.experiment}"
    if run is not None and chosen.methods:
        title = f"Label corrections of {chosen.methods[0]}"
    trials, lacking = read_tables(records, chosen)
    if not trials:
        return Section("corrections", title, notes=chosen.notes, missing=(*lacking, *chosen.missing))
    tables = tabulate(trials)
    curves = read_curves(records, chosen)
    foremost = _foremost(trials, chosen)
    sounds, heard, unheard = _sounds(records, foremost, tables["suspicious"], audio)
    notes = [*chosen.notes, IN_SAMPLE, *remarks([(str(trial), trial.utterances) for trial in trials])]
    if chosen.stage == CONFIRM and any(len(method.runs) > 1 for method in chosen.methods):
        notes.append(
            "Flips and suspicious labels are of one trial for each method; the curves are of all of its trials."
        )
    if sounds:
        notes.append(f"Audio of {heard}; at most the first 5 seconds.")
    return Section(
        "corrections",
        title,
        sentences=tuple(_sentences(trials, tables, curves)),
        tables=tuple(_tables(tables, foremost, curves)),
        figures=tuple(_figures(tables, curves)),
        notes=tuple(notes),
        missing=(*lacking, *unheard, *chosen.missing),
        sounds=tuple(sounds),
    )


def read_tables(records: Records, chosen: Chosen) -> tuple[list[Audited], list[str]]:
    """The first trial of each method with its table, and a sentence on those that have none."""
    found, without = [], []
    for method in chosen.methods:
        run = method.runs[0]
        trial = f"{method.trial} seed {run.seed} fold {run.fold}" if chosen.stage == CONFIRM else method.trial
        table = records.utterances(run.run_id)
        if table is None:
            without.append(f"{method.noise} {method.space} {trial} (run {run.run_id})")
        else:
            found.append(Audited(method.noise, method.space, trial, run.run_id, table, method.selected))
    if not without:
        return found, []
    return found, [
        f"{len(without)} of {len(chosen.methods)} trials have no {UTTERANCES}, for they were recorded by an older "
        f"version or have not finished: {', '.join(without)}. To get it, train again: python study/run.py with a new "
        "--name."
    ]


def tabulate(trials: Sequence[Audited]) -> dict[str, pd.DataFrame]:
    """Every table by its file's name, each with ``noise``, ``space``, ``trial`` and ``run_id`` in front.

    Returns:
        ``summary`` and ``pairs`` (overall, by gender, by speaker), ``first_changes``, ``suspicious``, ``ranking``.
    """

    def collected(found: Iterable[pd.DataFrame]) -> pd.DataFrame:
        keyed = []
        for trial, table in zip(trials, found, strict=True):
            keyed.append(pd.DataFrame([trial.key] * len(table), index=table.index, columns=list(trial.key)).join(table))
        return pd.concat(keyed, ignore_index=True)

    tables = [trial.utterances for trial in trials]
    ranked = [rank_labels(utterances) for utterances in tables]
    return {
        "summary": collected(by_group(utterances, correction_scores) for utterances in tables),
        "pairs": collected(by_group(utterances, flipped_pairs) for utterances in tables),
        "first_changes": collected(map(first_changes, tables)),
        "suspicious": collected(ranked),
        "ranking": collected(map(compare_rankings, ranked)),
    }


def read_curves(records: Records, chosen: Chosen) -> pd.DataFrame:
    """How well labels were corrected in each epoch of every trial.

    Returns:
        ``noise``, ``space``, ``trial``, ``run_id``, ``seed``, ``fold``, ``epoch``, ``precision`` (NaN where nothing
        was flipped) and ``recall``; nothing of trials that flipped no label whose truth is known.
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


def _experiment_of(options: CorrectionsOptions, run: str) -> CorrectionsOptions:
    """The options with the experiment of the run that is asked for."""
    if options.experiment is not None or options.study is not None:
        raise UserError("--run names one trial of any experiment; leave --experiment and --study out.")
    client = open_client(absolute_uri(options.tracking_uri))
    try:
        found = client.get_run(run)
        name = client.get_experiment(found.info.experiment_id).name
    except MlflowException as error:
        raise UserError(
            f"--run {run!r} cannot be read from {without_password(options.tracking_uri)}: {first_line(error)}. Run ids "
            "are in the best_runs.csv of python analysis/best_runs.py."
        ) from None
    if found.data.tags.get(KIND) != TRIAL:
        raise UserError(
            f"--run {run!r} is no trial of a study. Run ids of trials are in the best_runs.csv of python "
            "analysis/best_runs.py."
        )
    return replace(options, experiment=name)


def _one(records: Records, run: str) -> Chosen:
    """One trial as if it had been chosen."""
    tags = records.client.get_run(run).data.tags
    own = Run(run, int(tags.get(Tag.SEED, 0)), int(tags.get(Tag.FOLD, 0)))
    name = tags.get(Tag.CANDIDATE, tags[Tag.TRIAL])
    method = Method(tags[Tag.NOISE], float("nan"), tags[Tag.SPACE], name, float("nan"), (own,))
    return Chosen((method,), tags.get(Tag.STAGE, SEARCH), records.selection.mode, (), ())


def _foremost(trials: Sequence[Audited], chosen: Chosen) -> list[Audited]:
    """For each noise level the best trial whose loss asks the network about labels, else the best."""
    sign = -1 if chosen.best == "max" else 1
    order = sorted(trials, key=lambda trial: (not asks_network(trial.utterances), sign * trial.selected))
    found = {trial.noise: trial for trial in reversed(order)}
    return [found[noise] for noise in chosen.levels if noise in found]


def _top(trial: Audited, suspicious: pd.DataFrame) -> pd.DataFrame:
    """The most suspicious training labels of a trial."""
    rows = suspicious[(suspicious["run_id"] == trial.run_id) & (suspicious["subset"] == TRAIN)]
    return rows.dropna(subset=[RANK + LOSS]).head(HEARD)


def _sounds(
    records: Records, trials: Sequence[Audited], suspicious: pd.DataFrame, audio: Audio
) -> tuple[list[NamedSound], str, list[str]]:
    """The audio of the most suspicious labels, its licence, and what is missing."""
    sounds: list[NamedSound] = []
    licences: list[str] = []
    missing: list[str] = []
    for trial in trials:
        rows = _top(trial, suspicious)
        found = snippets(records, trial.run_id, rows["utterance_id"].tolist(), audio)
        missing += found.missing
        licences += [found.licence] if found.licence else []
        for place, row in enumerate(rows.to_dict("records"), start=1):
            if flac := found.flac.get(row["utterance_id"]):
                name = f"suspicious-{trial.noise.replace(':', '-')}-{place:02d}"
                truth = "" if pd.isna(row["label"]) else f"; truly {row['label']}"
                labels = f"labelled {row['noisy_label']}, corrected to {row['corrected_label']}{truth}"
                sounds.append(NamedSound(name, f"{trial.noise}: {row['utterance_id']}, {labels}", flac))
    return sounds, "; ".join(dict.fromkeys(licences)), list(dict.fromkeys(missing))


def _sentences(trials: Sequence[Audited], tables: Mapping[str, pd.DataFrame], curves: pd.DataFrame) -> Iterable[str]:
    for _, rows in curves.groupby(["noise", "space"], sort=False):
        yield course(rows)
    unflipped = []
    for trial in trials:
        pairs, changes = (tables[name][tables[name]["run_id"] == trial.run_id] for name in ("pairs", "first_changes"))
        if pairs.empty:
            unflipped.append(str(trial))
        if len(changes):
            yield f"{trial}: {timing(changes)}"
    if unflipped:
        yield f"No label is flipped at the end: {'; '.join(unflipped)}."


def _tables(
    tables: Mapping[str, pd.DataFrame], foremost: Sequence[Audited], curves: pd.DataFrame
) -> Iterable[NamedTable]:
    suspicious = pd.concat([_top(trial, tables["suspicious"]) for trial in foremost])
    shown = {
        "summary": ("How well labels were corrected, at the end of the training", scores_text(tables["summary"])),
        "pairs": (f"Flipped labels, the {SHOWN} most frequent pairs of each trial", pairs_text(tables["pairs"], SHOWN)),
        "suspicious": ("The most suspicious training labels of the best method", suspicious_text(suspicious)),
        "ranking": ("Suspicious labels: how well rankings find the mislabelled", ranking_text(tables["ranking"])),
    }
    for name, (caption, text) in shown.items():
        yield NamedTable(name, caption, tables[name], text)
    for name, caption, data in (
        ("first_changes", "Labels by the epoch in which they were changed for the first time", tables["first_changes"]),
        ("correction_curves", "How well labels were corrected in each epoch", curves),
    ):
        yield NamedTable(name, caption, data, pd.DataFrame())


def _figures(tables: Mapping[str, pd.DataFrame], curves: pd.DataFrame) -> Iterable[NamedFigure]:
    pairs = tables["pairs"][tables["pairs"]["by"] == ALL]
    panels = {
        f"{noise} {space} {trial}": rows.head(SHOWN)
        for (noise, space, trial, _), rows in pairs.groupby(["noise", "space", "trial", "run_id"], sort=False)
    }
    if panels:
        yield NamedFigure(
            "corrections",
            "The label pairs that were flipped most often, at the end of the training; right is what became the true "
            "label.",
            "; ".join(
                f"{title}: most often {rows['noisy_label'].iloc[0]} to {rows['corrected_label'].iloc[0]}"
                for title, rows in panels.items()
            ),
            draw_flips(panels),
        )
    if len(curves):
        yield NamedFigure(
            "correction_curves",
            "Precision (of the labels changed in an epoch, those that became the true one) and recall (of the "
            "mislabelled, those that became the true one); bands from the least to the largest over seeds and folds.",
            " ".join(course(rows) for _, rows in curves.groupby(["noise", "space"], sort=False)),
            draw_correction_curves(curves),
        )


def _remove_older(folder: Path) -> None:
    """A figure or a sound of an earlier call must not pass for one of this."""
    for pattern in ("corrections.*", "correction_curves.*", "suspicious-*.flac"):
        for path in folder.glob(pattern):
            path.unlink()
