"""Where the numbers come from: the noise, the protocol, the costs and how to do it again, all from the records."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID

from analysis.common.records import Records, confirm_runs
from analysis.common.section import NamedTable, Section
from analysis.page.answer import listing
from analysis.sections.significance.comparisons import confirm_command
from study.messages import without_password
from study.options import StudyOptions
from study.schema import (
    CONFIRM,
    DEFAULT,
    FAILED,
    FINISHED,
    KIND,
    MANIFEST,
    PARENT,
    SEARCH,
    SEARCH_RANK,
    SECONDS,
    SECONDS_SO_FAR,
    STOPPED,
    STUDY,
    Tag,
    status_of,
)

VERSION, HARDWARE = "version.", "hardware."
FULL_CLASSES = 12
"""Classes of a transition matrix in the page; beyond, the matrix is in the manifest alone."""


@dataclass(frozen=True)
class Provenance:
    """The runs behind the records.

    Args:
        search: Runs of the search's trials.
        confirm: Runs of the confirmation's.
        parents: Run id → parent run of one of these.
        manifests: Parent run → noise manifest, of those that have one.
        studies: Parent run → the study's options and space, of those that have them.
    """

    search: tuple[Run, ...]
    confirm: tuple[Run, ...]
    parents: Mapping[str, Run]
    manifests: Mapping[str, Mapping[str, Any]]
    studies: Mapping[str, Mapping[str, Any]]

    @property
    def trials(self) -> tuple[Run, ...]:
        """The runs of both stages."""
        return (*self.search, *self.confirm)

    def values(self, tag: str, runs: Iterable[Run] | None = None) -> list[str]:
        """The different values of a tag, sorted as numbers where they are numbers."""
        found = {run.data.tags.get(tag, "") for run in (self.trials if runs is None else runs)} - {""}
        return sorted(found, key=lambda value: (not value.isdigit(), int(value) if value.isdigit() else 0, value))


def read_provenance(records: Records) -> Provenance:
    """Reads the runs, manifests and options behind the records."""
    searched = set() if records.search is None else set(records.search.table["run_id"])
    confirmed = set(records.confirmed["run_id"])
    search = tuple(run for run in records.runs if run.info.run_id in searched)
    confirm = tuple(run for run in records.runs if run.info.run_id in confirmed)
    wanted = {run.data.tags.get(MLFLOW_PARENT_RUN_ID) for run in (*search, *confirm)}
    known = {run.info.run_id: run for run in records.runs if run.data.tags.get(KIND) == PARENT}
    parents = {run_id: run for run_id, run in known.items() if run_id in wanted}
    manifests: dict[str, Mapping[str, Any]] = {}
    studies: dict[str, Mapping[str, Any]] = {}
    for run_id in parents:
        for name, found in ((MANIFEST, manifests), (STUDY, studies)):
            if (content := _artifact(records, run_id, name)) is not None:
                found[run_id] = content
    return Provenance(search, confirm, parents, manifests, studies)


def _artifact(records: Records, run_id: str, name: str) -> Mapping[str, Any] | None:
    """A JSON artifact of a run, None where it is not there or damaged."""
    try:
        if name not in {file.path for file in records.client.list_artifacts(run_id)}:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(records.client.download_artifacts(run_id, name, folder))
            content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (MlflowException, OSError, ValueError):
        return None
    return content


def noise_section(found: Provenance) -> Section:
    """What was done to the labels: the manifest of each noise level."""
    stage = found.search or found.confirm
    levels: dict[str, Mapping[str, Any]] = {}
    bare = set()
    for run in stage:
        parent, noise = run.data.tags.get(MLFLOW_PARENT_RUN_ID, ""), run.data.tags[Tag.NOISE]
        if parent in found.manifests:
            levels.setdefault(noise, found.manifests[parent])
        else:
            bare.add(noise)
    missing = []
    if lost := sorted(bare - set(levels)):
        missing.append(
            f"The parent runs of {listing(lost)} have no {MANIFEST}. Restore the artifact store, or train again: "
            "python study/run.py with a new --name."
        )
    ordered = sorted(levels, key=lambda noise: (_rate(levels[noise], "train") or 0.0, noise))
    if not ordered:
        return Section("noise", "The noise in the labels", missing=tuple(missing))
    rows, sentences, matrices = [], [], []
    for noise in ordered:
        manifest = levels[noise]
        rows.append(
            {
                "noise": noise, "recipe": manifest.get("recipe"), "definition": manifest.get("definition"),
                "rate_asked": manifest.get("rate_asked"), "rate_train": _rate(manifest, "train"),
                "rate_validation": _rate(manifest, "validation"), "seed": manifest.get("seed"),
                "digest": manifest.get("digest"),
            }
        )  # fmt: skip
        sentences.append(_noise_sentence(noise, manifest))
        if (matrix := _transition(noise, manifest)) is not None:
            matrices.append(matrix)
    table = pd.DataFrame(rows)
    text = table.astype(object).where(table.notna(), "–").astype(str)
    for column in ("rate_asked", "rate_train", "rate_validation"):
        text[column] = [_share(value) for value in table[column]]
    text = text.drop(columns="definition")
    text.columns = ["noise", "recipe", "asked", "train", "validation", "seed", "digest"]
    confirm = found.values(Tag.SEED, found.confirm)
    notes = ["Test labels are never changed. The digest is of all ids and labels: the same digest, the same labels."]
    if found.search and confirm:
        notes.append(
            f"The confirmation draws the noise anew for each of its seeds ({', '.join(confirm)}), the same for all "
            "methods; these manifests are of the search's draw."
        )
    return Section(
        "noise",
        "The noise in the labels",
        tuple(sentences),
        (NamedTable("noise", "Share of wrong labels asked for and realised, by part", table, text), *matrices),
        notes=tuple(notes),
        missing=tuple(missing),
    )


def _noise_sentence(noise: str, manifest: Mapping[str, Any]) -> str:
    parts = [
        f"{_share(rate)} of the {name} labels"
        for name in ("train", "validation")
        if (rate := _rate(manifest, name)) is not None
    ]
    said = f"{noise}: recipe {manifest.get('recipe')}" + (f", {listing(parts)} are wrong" if parts else "")
    definition, note = manifest.get("definition"), manifest.get("note")
    return f"{said}." + (f" {str(definition).rstrip('.')}." if definition else "") + (f" {note}" if note else "")


def _rate(manifest: Mapping[str, Any], part: str) -> float | None:
    rate = manifest.get("parts", {}).get(part, {}).get("rate")
    return None if rate is None else float(rate)


def _transition(noise: str, manifest: Mapping[str, Any]) -> NamedTable | None:
    """The shares of each true class's labels, None where the truth is unknown, nothing was changed or it is too big."""
    rates, classes = manifest.get("transition_rates"), manifest.get("classes") or []
    if not rates or len(classes) > FULL_CLASSES or not manifest.get("rate_realised"):
        return None
    data = pd.DataFrame(rates, columns=classes)
    text = pd.DataFrame({name: [_share(value, 0) for value in data[name]] for name in classes})
    for one in (data, text):
        one.insert(0, "true label", classes)
    name = "transition-" + noise.replace(":", "-").replace("/", "-")
    return NamedTable(name, f"True labels (rows) and what they became at {noise}, shares of a row", data, text)


def protocol_section(records: Records, found: Provenance) -> Section:
    """By which rules the numbers came about."""
    split, held = found.values(Tag.SPLIT), found.values(Tag.FOLD, found.search)
    sentences = []
    if split:
        sentences.append(
            f"Split {split[0]}: no speaker is in two parts. A leak would have stopped the study."
            if "random" not in split[0]
            else f"Split {split[0]}: validation rows share their speakers with the training rows, test rows do not."
        )
    if held:
        seeds = found.values(Tag.SEED, found.search)
        sentences.append(
            f"The search held out fold {listing(held)}: its test rows were out of its reach. It trained with seed "
            f"{listing(seeds)}, and has one noise draw."
        )
    sentences.append(f"Configurations were chosen by {records.selection.meaning}, never by test scores.")
    if not records.confirmed.empty:
        table = records.confirmed
        seen = sorted({int(fold) for fold in table.loc[table["seen"].astype(bool), "fold"]})
        unseen = sorted({int(fold) for fold in table.loc[~table["seen"].astype(bool), "fold"]})
        candidates = sorted(set(table["candidate"]), key=lambda name: (name == DEFAULT, name))
        sentences.append(
            f"The confirmation retrained {listing(candidates)} of each method on seeds "
            f"{listing([str(seed) for seed in sorted(set(table['seed']))])}, all epochs, without early stopping; "
            + (f"held-out fold {listing(list(map(str, unseen)))}" if unseen else "no fold that the search held out")
            + (f"; folds that the search has seen: {listing(list(map(str, seen)))}" if seen else "")
            + "."
        )
        sentences.append(
            "Each method is then represented by its candidate with the best mean validation score. Methods are "
            "compared in pairs on the same seeds, folds and noise draws, over speakers."
        )
    budgets = found.values(Tag.PLANNED_TRIALS, found.search)
    if len(budgets) == 1:
        sentences.append(f"Every method was given the same budget: {budgets[0]} trials at each noise level.")
    missing = []
    if len(budgets) > 1:
        missing.append(
            f"Methods had different budgets ({listing(budgets)} trials), so that the best of them are not comparable. "
            "To even them out: python study/run.py --resume --name NAME --trials N"
        )
    if records.confirmed.empty:
        missing.append(f"Nothing was confirmed on test rows. To confirm: {confirm_command(records)}")
    return Section("protocol", "The protocol", tuple(sentences), missing=tuple(missing))


def cost_section(records: Records, found: Provenance) -> Section:
    """What the trials have cost: seconds of their epochs, by stage and method."""
    stages = ((SEARCH, found.search), (CONFIRM, found.confirm))
    rows = [
        {
            "order": order, "stage": stage, "noise": run.data.tags[Tag.NOISE], "space": run.data.tags[Tag.SPACE],
            "status": status_of(run.data.tags, STOPPED),
            "seconds": _seconds(records, run),
        }
        for order, (stage, runs) in enumerate(stages)
        for run in runs
    ]  # fmt: skip
    trials = pd.DataFrame(rows, columns=["order", "stage", "noise", "space", "status", "seconds"])
    total = float(trials["seconds"].sum())
    if not total:
        missing = (f"The trials have no {SECONDS} on record.",)
        return Section("costs", "What it has cost", missing=missing)
    lost = trials[trials["status"] != FINISHED]
    sentences = [f"{len(trials)} trials trained for {duration(total)}, the sum over trials that may run side by side."]
    if len(lost):
        share = float(lost["seconds"].sum()) / total
        sentences.append(
            f"{duration(float(lost['seconds'].sum()))} of it ({share:.0%}) went to {len(lost)} trials that have "
            "not finished."
        )
    for stage, runs in stages:
        if wall := _wall(runs):
            sentences.append(f"From the first trial of the {stage} stage to the last record: {duration(wall)}.")
    grouped = trials.sort_values(["order", "noise", "space"]).groupby(["stage", "noise", "space"], sort=False)
    data = grouped.agg(trials=("seconds", "size"), seconds=("seconds", "sum")).reset_index()
    data["seconds_per_trial"] = data["seconds"] / data["trials"]
    text = data[["stage", "noise", "space"]].astype(str)
    text["trials"] = data["trials"].astype(str)
    text["in all"] = data["seconds"].map(duration)
    text["a trial"] = data["seconds_per_trial"].map(duration)
    caption = "Seconds of all epochs, training and validation"
    return Section("costs", "What it has cost", tuple(sentences), (NamedTable("costs", caption, data, text),))


def _seconds(records: Records, run: Run) -> float:
    """Seconds of all epochs of a trial; an older version's has no sum on record."""
    known = run.data.metrics.get(SECONDS_SO_FAR)
    return float(records.curve(run.info.run_id, SECONDS).sum()) if known is None else float(known)


def _wall(runs: Sequence[Run]) -> float:
    ends = [run.info.end_time for run in runs if run.info.end_time]
    return (max(ends) - min(run.info.start_time for run in runs)) / 1000 if ends else 0.0


def reproduction_section(records: Records, found: Provenance) -> Section:
    """What it takes to do it again."""
    facts = _facts(records, found)
    sheet = pd.DataFrame(facts, columns=["what", "value"])
    tables = [NamedTable("reproduction", "Reproduction sheet", sheet, sheet.astype(str))]
    ranges = _ranges(found)
    if len(ranges):
        tables.append(
            NamedTable("search_ranges", "What was searched: ranges as recorded, values as tried", ranges, ranges)
        )
    failures = _failures(found)
    sentences = []
    if len(failures):
        tables.append(NamedTable("failures", "Trials that failed, and why", failures, failures))
        sentences.append(f"{len(failures)} of {len(found.trials)} trials failed for good; the table says why.")
    else:
        sentences.append(f"No trial has failed, of {len(found.trials)}.")
    dirty = [commit for commit in found.values(MLFLOW_GIT_COMMIT) if commit.endswith("-dirty")]
    missing = []
    if dirty:
        missing.append("The code had changes that no commit names (-dirty); they are not recoverable from the records.")
    if not found.values(MLFLOW_GIT_COMMIT):
        missing.append("No git commit is on record: the study ran from an installation without git.")
    if not any(run.data.tags.get(f"{HARDWARE}cpu") for run in found.trials):
        missing.append("The hardware is not on record: the study was run by an older version.")
    if not found.studies:
        missing.append(
            "The studies' options and search ranges are not on record: they were run by an older version. What was "
            "tried is."
        )
    return Section("reproduction", "Reproduction sheet", tuple(sentences), tuple(tables), missing=tuple(missing))


def _facts(records: Records, found: Provenance) -> list[tuple[str, str]]:
    def told(tag: str, runs: Iterable[Run] | None = None) -> str:
        return ", ".join(found.values(tag, runs))

    rows = [
        ("corpus", told(Tag.CORPUS)),
        ("digest of the corpus", told(Tag.CORPUS_DIGEST)),
        ("utterances", ", ".join(dict.fromkeys(_profiles(found, "utterances")))),
        ("utterances excluded", told(Tag.EXCLUDED)),
        ("classes", ", ".join(records.classes)),
        ("split", told(Tag.SPLIT)),
        ("held-out fold of the search", told(Tag.FOLD, found.search)),
        ("folds of the confirmation", told(Tag.FOLD, found.confirm)),
        ("selection rule", f"{records.selection.meaning} ({records.selection.metric}, {records.selection.mode})"),
        ("studies", told(Tag.STUDY)),
        ("trials planned for each method and level", told(Tag.PLANNED_TRIALS, found.search)),
        *((f"trials of the {stage} stage", _ended(runs)) for stage, runs in _stages(found) if runs),
        ("seeds of the search", told(Tag.SEED, found.search)),
        ("seeds of the confirmation", told(Tag.SEED, found.confirm)),
        ("protocol digests", told(Tag.PROTOCOL)),
        *((name.partition(".")[2], told(name)) for name in _tags(found, HARDWARE)),
        *((name.removeprefix(VERSION), told(name)) for name in _tags(found, VERSION)),
        ("git commit", told(MLFLOW_GIT_COMMIT)),
        ("first and last record", _when(found)),
        ("records", f"{records.uri}, experiment {records.experiment}"),
        *(("command", command) for command in commands(records, found)),
    ]
    return [(what, value) for what, value in rows if value]


def _stages(found: Provenance) -> tuple[tuple[str, tuple[Run, ...]], ...]:
    return (SEARCH, found.search), (CONFIRM, found.confirm)


def _tags(found: Provenance, prefix: str) -> list[str]:
    return sorted({name for run in found.trials for name in run.data.tags if name.startswith(prefix)})


def _profiles(found: Provenance, key: str) -> Iterable[str]:
    for run in found.trials:
        for given in run.inputs.dataset_inputs if run.inputs else ():
            value = json.loads(given.dataset.profile or "{}").get(key)
            if value is not None:
                yield str(value)


def _ended(runs: Sequence[Run]) -> str:
    counts = Counter(status_of(run.data.tags, "not ended") for run in runs)
    return f"{len(runs)}: " + ", ".join(f"{counts[name]} {name}" for name in sorted(counts))


def _when(found: Provenance) -> str:
    times = [time for run in found.trials for time in (run.info.start_time, run.info.end_time) if time]
    moments = [datetime.fromtimestamp(time / 1000, UTC) for time in (min(times), max(times))]
    return " and ".join(f"{moment:%Y-%m-%d %H:%M} UTC" for moment in moments)


def commands(records: Records, found: Provenance) -> list[str]:
    """The commands that do it again, as far as the options are on record.

    Args:
        records: Of the experiment.
        found: The runs behind them.
    """
    lines: dict[str, None] = {}
    for run_id, study in found.studies.items():
        if any(run.data.tags.get(MLFLOW_PARENT_RUN_ID) == run_id for run in found.search):
            lines[_command(study["options"])] = None
    if not records.confirmed.empty:
        table = records.confirmed
        top = sum(name.startswith(SEARCH_RANK) for name in set(table["candidate"]))
        folds = sorted({int(fold) for fold in table["fold"]})
        lines[
            confirm_command(
                records, "--top", str(top), "--seeds", str(table["seed"].nunique()), "--folds", *map(str, folds)
            )
        ] = None
    return list(lines)


def _command(options: Mapping[str, Any]) -> str:
    """The call with these options, less those that a study has anyhow and those that say where things lie."""
    default = StudyOptions().to_json()
    parts = ["python", "study/run.py"]
    for key, value in options.items():
        if key in {"storage_path", "tracking_uri"} or value in (None, False) or value == default.get(key):
            continue
        parts.append("--set" if key == "settings" else f"--{key.replace('_', '-')}")
        parts += map(str, value) if isinstance(value, list) else [str(value)]
    return shlex.join(parts)


def _ranges(found: Provenance) -> pd.DataFrame:
    """Searched parameters of each space: the range on record, and what the trials tried."""
    recorded: dict[tuple[str, str], str] = {}
    for study in found.studies.values():
        for name, values in study.get("space", {}).get("ranges", {}).items():
            recorded[study["space"]["name"], name] = values
    tried: dict[tuple[str, str], list[str]] = {}
    for run in found.search:
        for name in filter(None, run.data.tags[Tag.SEARCHED].split(",")):
            if name in run.data.params:
                tried.setdefault((run.data.tags[Tag.SPACE], name), []).append(run.data.params[name])
    rows = [
        {"space": space, "parameter": name, "range": recorded.get((space, name), "–"), "tried": _extent(values)}
        for (space, name), values in sorted(tried.items())
    ]
    return pd.DataFrame(rows, columns=["space", "parameter", "range", "tried"])


def _extent(values: Sequence[str]) -> str:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return ", ".join(sorted(set(values)))
    low, high = min(numbers), max(numbers)
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def _failures(found: Provenance) -> pd.DataFrame:
    rows = [
        {
            "stage": run.data.tags[Tag.STAGE], "noise": run.data.tags[Tag.NOISE], "space": run.data.tags[Tag.SPACE],
            "trial": run.data.tags[Tag.TRIAL], "reason": without_password(run.data.tags.get(Tag.FAILURE, "not known")),
        }
        for run in found.trials
        if status_of(run.data.tags, "") == FAILED
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["stage", "noise", "space", "trial", "reason"])


def duration(seconds: float) -> str:
    """A time for people: seconds below two minutes, minutes below two hours, else hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def left_out(records: Records) -> list[str]:
    """Trials of the experiment that are in no part of the report, in words."""
    others = 0 if records.search is None else records.search.others
    confirmed = len(confirm_runs(records.runs)) - len(records.confirmed)
    lines = []
    if others:
        lines.append(f"{others} trials of the search were left out: another corpus state, fold, size or plan.")
    if confirmed:
        lines.append(f"{confirmed} trials of the confirm stage were left out: they confirm another search.")
    return lines


def _share(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}%}"
