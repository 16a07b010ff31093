"""Reads the trials of confirmations from MLflow, and chooses the configuration that represents a method."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from mlflow.entities import Run

from ser.metrics.classification import METRICS
from study.schema import FINISHED, RUNNING, SELECTIONS, STOPPED, Selection, Tag, status_of

# Column of the table of confirmed trials → metric of the records.
TEST_SCORES = {
    "uar": "test/last/uar",
    "uar_best_epoch": "test/best/uar",
    **{name: f"test/last/{name}" for name in METRICS if name not in ("uar", "loss")},  # loss is nll again
    "best_epoch": "best/epoch",
    "validation_uar": "val/uar",
}

COLUMNS = (
    "noise", "rate", "space", "candidate", "source", "seed", "fold", "seen", "status", "selected", "parameters",
    "searched", "start", "run_id", *TEST_SCORES,
)  # fmt: skip


def confirmed_table(runs: Sequence[Run]) -> tuple[pd.DataFrame, Run | None]:
    """Return the confirmed trials that have the protocol of the newest one.

    Args:
        runs: All trials of the confirm stage.

    Returns:
        One row per trial: ``noise``, ``rate``, ``space``, ``candidate``, ``source``, ``seed``, ``fold``, ``seen``
        (whether the search has seen the fold's test rows), ``status``, ``selected`` (the selection score on the
        validation subset), ``parameters`` (all, by dotted name), ``searched`` (names of those that a search varied),
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
    """Return the trials that count where an experiment was confirmed more than once.

    A second confirmation repeats the seeds of the first, and its ``search-1`` is another configuration if the search
    was extended in the meantime.

    Args:
        finished: Finished trials, from ``confirmed_table``.

    Returns:
        For each candidate and fold, the trials of its newest source; for each seed, the newest of these.
    """
    candidate = ["noise", "space", "candidate", "fold"]
    ordered = finished.sort_values(["start", "run_id"], kind="stable")
    same = ordered["source"] == ordered.groupby(candidate)["source"].transform("last")
    return finished.loc[ordered[same].drop_duplicates([*candidate, "seed"], keep="last").index.sort_values()]


def representatives(confirmed: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """Return the candidate that represents each noise level and space: that of the best mean validation score.

    Args:
        confirmed: Table from ``confirmed_table``.
        selection: Score that was maximised or minimised.

    Returns:
        ``noise``, ``space``, ``candidate``, and ``selected``, the mean over the finished trials on folds that the
        search has not seen, or over all finished trials if it has seen all folds.
    """
    done = newest(confirmed[confirmed["status"] == FINISHED])
    rows = []
    for (noise, space), group in done.groupby(["noise", "space"], sort=False):
        unseen = group[~group["seen"].astype(bool)]
        means = (unseen if len(unseen) else group).groupby("candidate", sort=True)["selected"].mean()
        candidate = str(means.idxmax() if selection.mode == "max" else means.idxmin())
        rows.append({"noise": noise, "space": space, "candidate": candidate, "selected": means[candidate]})
    return pd.DataFrame(rows, columns=["noise", "space", "candidate", "selected"])
