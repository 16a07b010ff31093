"""The parent runs of a study, once their trials have ended: their status, and what each says of trials and study."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress

from mlflow.exceptions import MlflowException

from ser.utils.command_names import command_line
from ser.utils.errors import without_password
from study.schema import PILOT, Tag
from study.search.repeating import repeating_command, repeating_confirmation
from study.search.run_search import replace_parent, search_key
from study.setup.prepared_study import PreparedStudy, Search
from study.setup.resolve import data_name
from study.tracking.store import is_gone, sweep
from study.tracking.summary.write import About, summarise


def close_runs(prepared: PreparedStudy, parents: Sequence[str], complete: Sequence[bool]) -> None:
    """End the runs of a study that are still open; parent runs that somebody has deleted are created again.

    It can be called again.

    Args:
        prepared: The study.
        parents: Parent runs of its searches that are open, in order.
        complete: Whether all trials have ended, for each search that has begun, in order.

    Raises:
        MlflowException: The store cannot be reached, or a run was deleted after it was found.
    """
    client = prepared.records.client
    opened = list(zip(prepared.searches, parents, strict=False))
    current = [replace_parent(prepared, search) if is_gone(client, parent) else parent for search, parent in opened]
    for parent, is_complete in zip(current, complete, strict=False):
        if is_complete:
            client.set_terminated(parent, "FINISHED")
    sweep(client, prepared.records.experiment, str(prepared.options.name))
    about = about_study(prepared)
    for search, _ in opened:
        complete_parent(prepared, search, about)


def complete_parent(prepared: PreparedStudy, search: Search, about: About) -> None:
    """Let the parent run of a search say what its trials have come to.

    Args:
        prepared: The study.
        search: The search.
        about: From ``about_study``.

    Raises:
        MlflowException: The store cannot be reached.
    """
    records = prepared.records
    summarise(records.client, records.experiment, search_key(prepared.options, search), about)


def about_study(prepared: PreparedStudy) -> About:
    """Return what the descriptions of a study's parent runs say of the study: what it is, and its commands.

    Args:
        prepared: The study.
    """
    options, design = prepared.options, prepared.design
    store = ["--experiment", str(options.experiment), "--tracking-uri", without_password(str(options.tracking_uri))]
    if design is None:
        kind, repeat = "Search", repeating_command("study/run.py", options.to_json(), store)
    else:
        kind = "Pilot" if prepared.stage == PILOT else "Confirmation"
        repeat = repeating_confirmation(design, options.to_json(), _searches(prepared), store)
    report = f"{command_line('analysis/report.py')} {shlex.join([*store, '--study', str(options.name)])}"
    data = data_name(options.corpus, options.corpus_root)
    what = f"{kind} `{options.name}` on {data}: {prepared.models}, {prepared.epochs} epochs."
    return About(what, {"Report of this study": report, "Repeat it under a new name": repeat})


def _searches(prepared: PreparedStudy) -> list[str]:
    """Return the searches that the configurations of a confirmation come from, as far as they are on record."""
    assert prepared.design is not None
    found = set()
    for run_id in {one.source for one in prepared.design.candidates if one.source}:
        with suppress(MlflowException):
            found.add(prepared.records.client.get_run(run_id).data.tags[Tag.STUDY])
    return sorted(found)
