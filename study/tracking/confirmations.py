"""Reads the trials of confirmations from MLflow, and chooses the configuration that represents a method."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from mlflow.entities import Run

from ser.metrics.classification import METRICS
from study.schema import CHOSEN_BY, FINISHED, RUNNING, SELECTIONS, STOPPED, Selection, Tag, exposure_of, status_of

# Column of the table of confirmed trials → metric of the records.
TEST_SCORES = {
    "uar": "test/last/uar",
    "uar_best_epoch": "test/best/uar",
    "uar_stopped": "test/stopped/uar",
    **{name: f"test/last/{name}" for name in METRICS if name not in ("uar", "loss")},  # loss is nll again
    "best_epoch": "best/epoch",
    "stopped_epoch": "stopped/epoch",
    "validation_uar": "val/uar",
}

COLUMNS = (
    "study", "design", "noise", "rate", "space", "candidate", "source", "seed", "fold", "exposure", "status",
    "selected", "parameters", "searched", "start", "run_id", *TEST_SCORES,
)  # fmt: skip


def confirmed_table(runs: Sequence[Run]) -> tuple[pd.DataFrame, Run | None]:
    """Return the confirmed trials that have the protocol of the newest one.

    Args:
        runs: All trials of the confirm stage.

    Returns:
        One row per trial: ``study`` (the confirmation), ``design`` (its digest; empty in version 0.1), ``noise``,
        ``rate``, ``space``, ``candidate``, ``source``, ``seed``, ``fold``, ``exposure`` (what a search did with the
        fold's test speakers: ``unseen``, ``trained_by`` or ``chosen_by``), ``status``, ``selected`` (the
        selection score on the validation subset), ``parameters`` (all, by dotted name), ``searched`` (names of those
        that a search varied), ``start`` (ms), ``run_id``, and the columns of ``TEST_SCORES``. And the newest run, None
        if there is none.
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
        "study": tags.get(Tag.STUDY, ""),
        "design": tags.get(Tag.DESIGN, ""),
        "noise": tags[Tag.NOISE],
        "rate": float(tags[Tag.NOISE_RATE]) if tags[Tag.NOISE_RATE] not in {"", "None"} else None,
        "space": tags[Tag.SPACE],
        "candidate": tags[Tag.CANDIDATE],
        "source": tags[Tag.SOURCE],
        "seed": int(tags[Tag.SEED]),
        "fold": int(tags[Tag.FOLD]),
        "exposure": exposure_of(tags),
        "status": status_of(tags, RUNNING if run.info.status == "RUNNING" else STOPPED),
        "selected": metrics.get(SELECTIONS[tags[Tag.SELECT_ON]].metric),
        "parameters": dict(run.data.params),
        "searched": tuple(name for name in tags[Tag.SEARCHED].split(",") if name),
        "start": run.info.start_time,
        "run_id": run.info.run_id,
        **{column: metrics.get(metric) for column, metric in TEST_SCORES.items()},
    }


def chosen(confirmed: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """Return the trial that stands for its method in each fold and seed: that of the best validation score there.

    The choice looks at the validation speakers of the very fold. A mean over folds would look at the fold's test
    speakers too, because they validate in other folds.

    Args:
        confirmed: Table from ``confirmed_table``.
        selection: Score that is maximised or minimised.

    Returns:
        Rows of finished trials, one for each confirmation, noise level, space, fold and seed. Where nothing but
        configurations that the search chose by this fold's test speakers is there, one of them stands in.
    """
    done = confirmed[confirmed["status"] == FINISHED]
    order = done.assign(
        chosen_by=done["exposure"] == CHOSEN_BY,
        loss=done["selected"].astype(float) * (-1 if selection.mode == "max" else 1),
    ).sort_values(["chosen_by", "loss", "candidate", "start", "run_id"], kind="stable")
    first = order.drop_duplicates(["study", "noise", "space", "fold", "seed"]).index
    return confirmed.loc[first.sort_values()]


def representatives(confirmed: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """Return the configuration to name for each noise level and space: that of the best mean validation score.

    It names a configuration for later use. Test results are those of ``chosen``.

    Args:
        confirmed: Table from ``confirmed_table``.
        selection: Score that was maximised or minimised.

    Returns:
        ``noise``, ``space``, ``candidate``, and ``selected``, the mean over its finished trials.
    """
    done = confirmed[confirmed["status"] == FINISHED]
    rows = []
    for (noise, space), group in done.groupby(["noise", "space"], sort=False):
        means = group.groupby("candidate", sort=True)["selected"].mean()
        candidate = str(means.idxmax() if selection.mode == "max" else means.idxmin())
        rows.append({"noise": noise, "space": space, "candidate": candidate, "selected": means[candidate]})
    return pd.DataFrame(rows, columns=["noise", "space", "candidate", "selected"])
