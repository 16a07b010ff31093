"""Reproduction sheet: corpus, seeds, versions, hardware, searched ranges, failures and commands of an experiment."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import pandas as pd
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID

from analysis.common.designs import read_design
from analysis.common.records import Records, RecordsOptions
from analysis.common.section import NamedTable, Section
from analysis.common.text import MISSING, between, counted
from analysis.page.provenance import Provenance, read_provenance
from ser.utils.errors import without_password
from study.schema import FAILED, Tag, status_of
from study.search.repeating import design_words, repeating_command, repeating_confirmation

TITLE = "Reproduction sheet"
Options = RecordsOptions
VERSION, HARDWARE = "version.", "hardware."
_ELSEWHERE = {"storage_path", "tracking_uri", "experiment", "name"}


def section(records: Records, options: RecordsOptions) -> Section:
    """Return the reproduction sheet.

    Args:
        records: Records of the experiment.
        options: No option is used.
    """
    found = read_provenance(records)
    sheet = pd.DataFrame(_facts(records, found), columns=["what", "value"])
    tables = [NamedTable("reproduction", TITLE, sheet, sheet.astype(str))]
    ranges = _ranges(records, found)
    if len(ranges):
        tables.append(
            NamedTable("search_ranges", "Searched parameters: range on record, and values tried", ranges, ranges)
        )
    failures = _failures(records, found)
    sentence = f"{len(failures)} of {counted(len(found.trials), 'trial')} failed."
    if len(failures):
        tables.append(NamedTable("failures", "Trials that failed, with the reason", failures, failures))
    return Section("reproduction", TITLE, (sentence,), tuple(tables), missing=tuple(_not_recorded(found)))


def reproduction_commands(records: Records, found: Provenance) -> list[str]:
    """Return the commands that repeat the experiment, as far as its options are on record.

    Args:
        records: Records of the experiment.
        found: Runs of the trials.
    """
    lines: dict[str, None] = {}
    for run_id, study in found.studies.items():
        if any(run.data.tags.get(MLFLOW_PARENT_RUN_ID) == run_id for run in found.search):
            lines[repeating_command("study/run.py", study["options"], _store(records))] = None
    for study in records.confirmed.sort_values("start", kind="stable")["study"].unique():
        lines[_confirm_command(records, found, str(study))] = None
    return list(lines)


def _confirm_command(records: Records, found: Provenance, study: str) -> str:
    """Return the call of a confirmation: of the search's best configurations, or of published defaults."""
    trials = records.confirmed[records.confirmed["study"] == study]
    design, _ = read_design(records, study)
    words = ["--seeds", str(trials["seed"].nunique())] if design is None else design_words(design)
    options = next((found.studies[run_id]["options"] for run_id, run in found.parents.items()
                    if run.data.tags.get(Tag.STUDY) == study and run_id in found.studies), None)  # fmt: skip
    if design is None or design.searched or options is None:
        # A configuration of the search that equals the default was confirmed as the default.
        found_there = trials.loc[trials["source"] != "", ["noise", "space", "candidate"]].drop_duplicates()
        top = found_there.groupby(["noise", "space"]).size().max() if len(found_there) else 1
        return records.confirm_command("--top", str(top), *words)
    return repeating_confirmation(design, options, (), _store(records))


def _store(records: Records) -> list[str]:
    """Return the options that name the store of the records."""
    return ["--experiment", records.experiment, "--tracking-uri", records.uri]


def _facts(records: Records, found: Provenance) -> list[tuple[str, str]]:
    def listed(tag: str, runs: Iterable[Run] | None = None) -> str:
        return ", ".join(found.values(tag, runs))

    rows = [
        ("data", records.data),
        ("corpus", listed(Tag.CORPUS)),
        ("digest of the corpus", listed(Tag.CORPUS_DIGEST)),
        ("utterances", ", ".join(dict.fromkeys(_profiles(found, "utterances")))),
        ("utterances excluded", listed(Tag.EXCLUDED)),
        ("classes", ", ".join(records.classes)),
        ("split", listed(Tag.SPLIT)),
        ("held-out fold of the search", listed(Tag.FOLD, found.search)),
        ("folds of the confirmation", listed(Tag.FOLD, found.confirm)),
        ("digests of the designs", listed(Tag.DESIGN, found.confirm)),
        ("selection rule", f"{records.selection.meaning} ({records.selection.metric}, {records.selection.mode})"),
        ("training labels", listed(Tag.LABELS)),
        ("studies", listed(Tag.STUDY)),
        ("trials planned for each method and level", listed(Tag.PLANNED_TRIALS, found.search)),
        *((f"trials of the {stage} stage", _status_counts(runs)) for stage, runs in found.stages if runs),
        ("seeds of the search", listed(Tag.SEED, found.search)),
        ("seeds of the confirmation", listed(Tag.SEED, found.confirm)),
        ("protocol digests", listed(Tag.PROTOCOL)),
        *((name.partition(".")[2], listed(name)) for name in _tags(found, HARDWARE)),
        *((name.removeprefix(VERSION), listed(name)) for name in _tags(found, VERSION)),
        ("git commit", listed(MLFLOW_GIT_COMMIT)),
        ("first and last record", _first_and_last(found)),
        ("records", f"{records.uri}, experiment {records.experiment}"),
        *(("command", command) for command in reproduction_commands(records, found)),
    ]
    return [(what, value) for what, value in rows if value]


def _not_recorded(found: Provenance) -> list[str]:
    commits = found.values(MLFLOW_GIT_COMMIT)
    missing = []
    # Version 0.1 wrote changes into the hash.
    if "true" in found.values(Tag.GIT_DIRTY) or any(commit.endswith("-dirty") for commit in commits):
        missing.append("The code had uncommitted changes, which the records do not contain.")
    if not commits:
        missing.append(
            "No git commit is on record, because the study ran from an installed package, or from a checkout that git "
            "could not read."
        )
    if not any(run.data.tags.get(f"{HARDWARE}cpu") for run in found.trials):
        missing.append("The hardware is not on record, because an older version recorded the study.")
    if not found.studies:
        missing.append(
            "The options and search ranges of the studies are not on record, because an older version recorded them, "
            "or their parent runs were deleted in MLflow. The values that were tried are."
        )
    return missing


def _tags(found: Provenance, prefix: str) -> list[str]:
    return sorted({name for run in found.trials for name in run.data.tags if name.startswith(prefix)})


def _profiles(found: Provenance, key: str) -> Iterable[str]:
    for run in found.trials:
        for given in run.inputs.dataset_inputs if run.inputs else ():
            value = json.loads(given.dataset.profile or "{}").get(key)
            if value is not None:
                yield str(value)


def _status_counts(runs: Sequence[Run]) -> str:
    counts = Counter(status_of(run.data.tags, "not ended") for run in runs)
    return f"{len(runs)}: " + ", ".join(f"{counts[name]} {name}" for name in sorted(counts))


def _first_and_last(found: Provenance) -> str:
    times = [time for run in found.trials for time in (run.info.start_time, run.info.end_time) if time]
    moments = [datetime.fromtimestamp(time / 1000, UTC) for time in (min(times), max(times))]
    return " and ".join(f"{moment:%Y-%m-%d %H:%M} UTC" for moment in moments)


def _ranges(records: Records, found: Provenance) -> pd.DataFrame:
    """Return the searched parameters of each space: the range on record, and the values that were tried."""
    recorded: dict[tuple[str, str], str] = {}
    for run_id, study in found.studies.items():
        for name, values in study.get("space", {}).get("ranges", {}).items():
            recorded[records.space_of(found.parents[run_id]), name] = values
    tried: dict[tuple[str, str], list[str]] = {}
    for run in found.search:
        for name in filter(None, run.data.tags[Tag.SEARCHED].split(",")):
            if name in run.data.params:
                tried.setdefault((records.space_of(run), name), []).append(run.data.params[name])
    rows = [
        {"space": space, "parameter": name, "range": recorded.get((space, name), MISSING), "tried": _extent(values)}
        for (space, name), values in sorted(tried.items())
    ]
    return pd.DataFrame(rows, columns=["space", "parameter", "range", "tried"])


def _extent(values: Sequence[str]) -> str:
    """Return the range of numbers, or the list of choices."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return ", ".join(sorted(set(values)))
    return between(min(numbers), max(numbers), ".4g")


def _failures(records: Records, found: Provenance) -> pd.DataFrame:
    rows = [
        {
            "stage": run.data.tags[Tag.STAGE], "noise": run.data.tags[Tag.NOISE], "space": records.space_of(run),
            "trial": run.data.tags[Tag.TRIAL], "reason": without_password(run.data.tags.get(Tag.FAILURE, "unknown")),
        }
        for run in found.trials
        if status_of(run.data.tags, "") == FAILED
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["stage", "noise", "space", "trial", "reason"])
