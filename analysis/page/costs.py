"""Section on the costs: training time of the trials, by stage and method."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from mlflow.entities import Run

from analysis.common.records import Records
from analysis.common.section import NamedTable, Section
from analysis.common.text import counted, duration, percent
from analysis.options import RecordsOptions
from analysis.page.provenance import Provenance, read_provenance
from study.schema import CONFIRM, FINISHED, SEARCH, SECONDS, SECONDS_SO_FAR, STOPPED, Tag, in_words, status_of

TITLE = "Costs"
Options = RecordsOptions
STAGES = {SEARCH: "search", CONFIRM: "confirmation"}


def section(records: Records, options: RecordsOptions) -> Section:
    """Return the section on the costs.

    Args:
        records: Records of the experiment.
        options: No option is used.
    """
    return cost_section(records, read_provenance(records))


def cost_section(records: Records, found: Provenance) -> Section:
    """Return the section on the costs.

    Args:
        records: Records of the experiment.
        found: Runs of the trials.
    """
    trials = pd.DataFrame(
        [
            {
                "order": order, "stage": stage, "noise": run.data.tags[Tag.NOISE], "space": records.space_of(run),
                "status": status_of(run.data.tags, STOPPED), "seconds": _seconds(records, run),
            }
            for order, (stage, runs) in enumerate(found.stages)
            for run in runs
        ],
        columns=["order", "stage", "noise", "space", "status", "seconds"],
    )  # fmt: skip
    total = float(trials["seconds"].sum())
    if not total:
        return Section("costs", TITLE, missing=("The trials have no training time on record.",))
    sentences = [f"{counted(len(trials), 'trial')} trained for {duration(total)} in sum; trials may run in parallel."]
    unfinished = trials[trials["status"] != FINISHED]
    if len(unfinished):
        lost = float(unfinished["seconds"].sum())
        share = percent(lost / total) if lost / total >= 0.01 else "less than 1%"
        sentences.append(f"{len(unfinished)} of them did not finish: {duration(lost)} ({share}).")
    for stage, runs in found.stages:
        if elapsed := _elapsed(runs):
            sentences.append(f"The {STAGES[stage]} took {duration(elapsed)} from its first trial to its last record.")
    grouped = trials.sort_values(["order", "noise", "space"]).groupby(["stage", "noise", "space"], sort=False)
    data = grouped.agg(trials=("seconds", "size"), seconds=("seconds", "sum")).reset_index()
    data["seconds_per_trial"] = data["seconds"] / data["trials"]
    text = data[["stage", "noise"]].astype(str).assign(stage=data["stage"].map(STAGES))
    text["method"] = data["space"].map(in_words)
    text["trials"] = data["trials"].astype(str)
    text["in sum"] = data["seconds"].map(duration)
    text["per trial"] = data["seconds_per_trial"].map(duration)
    caption = "Time of training and validation, all epochs"
    table = NamedTable("costs", caption, data, text, keys=3, filters=("stage", "noise"))
    return Section("costs", TITLE, tuple(sentences), (table,))


def _seconds(records: Records, run: Run) -> float:
    """Return the seconds of all epochs of a trial; trials of older versions have recorded no sum."""
    known = run.data.metrics.get(SECONDS_SO_FAR)
    return float(records.curve(run.info.run_id, SECONDS).sum()) if known is None else float(known)


def _elapsed(runs: Sequence[Run]) -> float:
    """Return the seconds from the first start to the last end; 0 if no run has ended."""
    ends = [run.info.end_time for run in runs if run.info.end_time]
    return (max(ends) - min(run.info.start_time for run in runs)) / 1000 if ends else 0.0
