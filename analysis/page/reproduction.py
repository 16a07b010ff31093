"""Reproduction sheet: corpus, seeds, versions, hardware, searched ranges, failures and commands of an experiment."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID

from analysis.common.designs import read_design
from analysis.common.records import Records
from analysis.common.section import NamedTable, Section
from analysis.common.text import MISSING, between, counted
from analysis.options import RecordsOptions
from analysis.page.costs import STAGES
from analysis.page.noise import SHORT
from analysis.page.provenance import Provenance, read_provenance
from ser.utils.command_names import command_line
from ser.utils.errors import without_password
from study.schema import FAILED, Tag, in_words, status_of
from study.search.repeating import design_words, repeating_command, repeating_confirmation

TITLE = "Reproduction sheet"
Options = RecordsOptions
VERSION, HARDWARE = "version.", "hardware."
MACHINE, VERSIONS = "machine", "versions"


def section(records: Records, options: RecordsOptions) -> Section:
    """Return the reproduction sheet.

    Args:
        records: Records of the experiment.
        options: No option is used.
    """
    found = read_provenance(records)
    commands = reproduction_commands(records, found)
    facts = _facts(records, found)
    full = [
        *((fact.group, fact.what, fact.value) for fact in facts),
        *(("records", "command", one) for one in commands),
    ]
    sheet = pd.DataFrame(full, columns=["group", "what", "value"])
    tables = [NamedTable("reproduction", "Data, design and machine", sheet, _displayed(facts), keys=2)]
    ranges = _ranges(records, found)
    if len(ranges):
        text = ranges.assign(space=ranges["space"].map(in_words)).rename(columns={"space": "method"})
        text["range"] = text["range"].str.removeprefix("= ")
        caption = "Searched parameters: range, and values that were tried"
        tables.append(NamedTable("search_ranges", caption, ranges, text, keys=2, filters=("method",)))
    failures = _failures(records, found)
    if len(failures):
        text = failures.assign(space=failures["space"].map(in_words)).rename(columns={"space": "method"})
        tables.append(NamedTable("failures", "Trials that failed, with the reason", failures, text, keys=4))
    sentences = [f"{len(failures)} of {counted(len(found.trials), 'trial')} failed."]
    confirm = command_line("study/confirm.py")
    for command in commands:
        sentences.append(f"To repeat the {'confirmation' if command.startswith(confirm) else 'search'}: {command}")
    return Section("reproduction", TITLE, tuple(sentences), tuple(tables), missing=tuple(_not_recorded(found)))


@dataclass(frozen=True)
class Fact:
    """Line of the sheet.

    Args:
        group: What it is about.
        what: Name of the fact.
        value: Its value at full length, for the CSV file.
        text: Its value as displayed; empty if another line has it too.
    """

    group: str
    what: str
    value: str
    text: str


def _displayed(facts: Sequence[Fact]) -> pd.DataFrame:
    """Return the sheet as displayed: versions in one line, digests shortened."""
    lines = [(fact.group, fact.what, fact.text) for fact in facts if fact.text]
    versions = [f"{fact.what} {fact.value}" for fact in facts if fact.group == VERSIONS]
    lines += [(MACHINE, "versions", ", ".join(versions))] if versions else []
    return pd.DataFrame(lines, columns=["about", "what", "value"])


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


def _facts(records: Records, found: Provenance) -> list[Fact]:
    def listed(tag: str, runs: Iterable[Run] | None = None) -> str:
        return ", ".join(found.values(tag, runs))

    def facts(group: str, *rows: tuple[str, str]) -> list[Fact]:
        return [Fact(group, what, value, _shortened(value)) for what, value in rows if value]

    machine = facts(
        MACHINE,
        *((name.partition(".")[2], listed(name)) for name in _tags(found, HARDWARE)),
        ("arithmetic", listed(Tag.ARITHMETIC)),
        ("git commit", listed(MLFLOW_GIT_COMMIT)),
    )
    versions = [Fact(VERSIONS, name.removeprefix(VERSION), listed(name), "") for name in _tags(found, VERSION)]
    return [
        *facts(
            "data",
            ("data", records.data),
            ("corpus", listed(Tag.CORPUS)),
            ("digest of the corpus", listed(Tag.CORPUS_DIGEST)),
            ("utterances", ", ".join(dict.fromkeys(_profiles(found, "utterances")))),
            ("utterances excluded", listed(Tag.EXCLUDED)),
            ("classes", ", ".join(records.classes)),
            ("training labels", listed(Tag.LABELS)),
        ),
        *facts(
            "design",
            ("split", listed(Tag.SPLIT)),
            ("held-out fold of the search", listed(Tag.FOLD, found.search)),
            ("seeds of the search", listed(Tag.SEED, found.search)),
            ("trials planned for each method and level", listed(Tag.PLANNED_TRIALS, found.search)),
            ("folds of the confirmation", listed(Tag.FOLD, found.confirm)),
            ("seeds of the confirmation", listed(Tag.SEED, found.confirm)),
            ("selection rule", f"{records.selection.meaning} ({records.selection.metric}, {records.selection.mode})"),
            ("digests of the designs", listed(Tag.DESIGN, found.confirm)),
            ("digests of the protocols", listed(Tag.PROTOCOL)),
        ),
        *facts(
            "records",
            ("studies", listed(Tag.STUDY)),
            *((f"trials of the {STAGES[stage]}", _status_counts(runs)) for stage, runs in found.stages if runs),
            ("first and last record", _first_and_last(found)),
            ("store", f"{records.uri}, experiment {records.experiment}"),
        ),
        *machine,
        *versions,
    ]


def _shortened(value: str) -> str:
    """Return a value as displayed: digests and commits cut, consecutive numbers as a range.

    Example:
        >>> _shortened("05c400a4d7253616, 908e84a4ddd32ad0"), _shortened("1, 2, 3, 4, 5"), _shortened("1, 3")
        ('05c400a4, 908e84a4', '1 to 5', '1, 3')
    """
    parts = value.split(", ")
    if len(parts) > 2 and all(part.isdecimal() for part in parts):
        first, last = int(parts[0]), int(parts[-1])
        if [int(part) for part in parts] == list(range(first, last + 1)):
            return between(first, last)
    return ", ".join(re.sub(rf"^([0-9a-f]{{{SHORT}}})[0-9a-f]{{8,}}", r"\1", part) for part in parts)


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
