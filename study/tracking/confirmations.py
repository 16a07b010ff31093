"""Reads the confirm stage back: its trials, and which configuration stands for a method."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from mlflow.entities import Run

from study.schema import FINISHED, RUNNING, SELECTIONS, STOPPED, Selection, Tag, status_of

# Column of the confirmed table → metric of the records.
TEST_SCORES = {
    "uar": "test/last/uar",
    "uar_best_epoch": "test/best/uar",
    "wa": "test/last/wa",
    "f1_weighted": "test/last/f1_weighted",
    "f1_macro": "test/last/f1_macro",
    "ece": "test/last/ece",
    "brier": "test/last/brier",
    "nll": "test/last/nll",
    "best_epoch": "best/epoch",
    "validation_uar": "val/uar",
}

COLUMNS = (
    "noise", "rate", "space", "candidate", "source", "seed", "fold", "seen", "status", "selected", "parameters",
    "searched", "start", "run_id", *TEST_SCORES,
)  # fmt: skip


def confirmed_table(runs: Sequence[Run]) -> tuple[pd.DataFrame, Run | None]:
    """The confirm stage's trials that are comparable with the newest one.

    Args:
        runs: All trials of the stage.

    Returns:
        One row for each trial: ``noise``, ``rate``, ``space``, ``candidate``, ``source``, ``seed``, ``fold``, ``seen``
        (whether the search has seen the fold's test rows), ``status``, ``selected`` (the validation score that
        chooses), ``parameters`` (all, by dotted names), ``searched`` (the names among them that a search varied),
        ``start`` (ms), ``run_id``, and the columns of ``TEST_SCORES``. And the newest run, None if there is none.
    """
    if not runs:
        return pd.DataFrame(columns=list(COLUMNS)), None
    newest = max(runs, key=lambda run: (run.info.start_time, run.info.run_id))
    rows = [_row(run) for run in runs if run.data.tags[Tag.PROTOCOL] == newest.data.tags[Tag.PROTOCOL]]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values(["rate", "noise", "space", "candidate", "fold", "seed"]).reset_index(drop=True), newest


def _row(run: Run) -> dict[str, object]:
    tags, metrics = run.data.tags, run.data.metrics
    return {
        "noise": tags[Tag.NOISE],
        "rate": float(tags[Tag.NOISE_RATE]) if tags[Tag.NOISE_RATE] not in {"", "None"} else None,
        "space": tags[Tag.SPACE],
        "candidate": tags[Tag.CANDIDATE],
        "source": tags[Tag.SOURCE],
        "seed": int(tags[Tag.SEED]),
        "fold": int(tags[Tag.FOLD]),
        "seen": tags[Tag.SEEN] == "true",
        "status": status_of(tags, RUNNING if run.info.status == "RUNNING" else STOPPED),
        "selected": metrics.get(SELECTIONS[tags[Tag.SELECT_ON]].metric),
        "parameters": dict(run.data.params),
        "searched": tuple(name for name in tags[Tag.SEARCHED].split(",") if name),
        "start": run.info.start_time,
        "run_id": run.info.run_id,
        **{column: metrics.get(metric) for column, metric in TEST_SCORES.items()},
    }


def newest(finished: pd.DataFrame) -> pd.DataFrame:
    """What counts of an experiment that was confirmed more than once.

    A second confirmation has the first one's seeds again, and its ``search-1`` is another configuration if the search
    has gone on in between.

    Args:
        finished: Finished trials of ``Records.confirmed``.

    Returns:
        Of each candidate and fold the trials of its newest source, and of each seed the newest of these.
    """
    candidate = ["noise", "space", "candidate", "fold"]
    ordered = finished.sort_values(["start", "run_id"], kind="stable")
    same = ordered["source"] == ordered.groupby(candidate)["source"].transform("last")
    return finished.loc[ordered[same].drop_duplicates([*candidate, "seed"], keep="last").index.sort_values()]


def representatives(confirmed: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """The candidate of each noise level and space that stands for it: the best mean validation score, never the test's.

    Args:
        confirmed: From ``confirmed_table``.
        selection: Direction of the score.

    Returns:
        ``noise``, ``space``, ``candidate``, and ``selected``, the mean over its finished trials on folds that the
        search has not seen (over all of them where there is no such fold).
    """
    done = newest(confirmed[confirmed["status"] == FINISHED])
    rows = []
    for (noise, space), group in done.groupby(["noise", "space"], sort=False):
        clean = group[~group["seen"].astype(bool)]
        means = (clean if len(clean) else group).groupby("candidate", sort=True)["selected"].mean()
        candidate = str(means.idxmax() if selection.mode == "max" else means.idxmin())
        rows.append({"noise": noise, "space": space, "candidate": candidate, "selected": means[candidate]})
    return pd.DataFrame(rows, columns=["noise", "space", "candidate", "selected"])
