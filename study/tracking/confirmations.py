"""Reads the trials of confirmations from MLflow, and chooses the configuration that represents a method."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
from mlflow.entities import Run

from ser.metrics.classification import METRICS
from study.schema import (
    CHOSEN_BY,
    FINISHED,
    RUNNING,
    SELECTIONS,
    STOPPED,
    Selection,
    Tag,
    exposure_of,
    rate_of,
    status_of,
)

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
    "selected", "parameters", "searched", "start", "run_id", "absent", "arithmetic",
    *TEST_SCORES,
)  # fmt: skip


def confirmed_table(runs: Sequence[Run], names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return a table of comparable confirmed trials.

    Args:
        runs: Trials of one protocol, from ``study.tracking.matching.match``, or of one confirmation.
        names: Run id → name of the space, from ``study.tracking.matching.space_names``; None for those on record.

    Returns:
        One row per trial: ``study`` (the confirmation), ``design`` (its digest; empty in version 0.1), ``noise``,
        ``rate``, ``space``, ``candidate``, ``source``, ``seed``, ``fold``, ``exposure`` (what a search did with the
        fold's test speakers: ``unseen``, ``trained_by`` or ``chosen_by``), ``status``, ``selected`` (the
        selection score on the validation subset), ``parameters`` (all, by dotted name), ``searched`` (names of those
        that a search varied), ``start`` (ms), ``run_id``, ``absent`` (JSON of the classes that its subsets
        lack, empty if none does), ``arithmetic`` (empty if it is not on record), and the columns of ``TEST_SCORES``.
    """
    rows = [_row(run, (names or {}).get(run.info.run_id, run.data.tags[Tag.SPACE])) for run in runs]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values(["rate", "noise", "space", "candidate", "fold", "seed"]).reset_index(drop=True)


def _row(run: Run, space: str) -> dict[str, object]:
    tags, metrics = run.data.tags, run.data.metrics
    return {
        "study": tags.get(Tag.STUDY, ""),
        "design": tags.get(Tag.DESIGN, ""),
        "noise": tags[Tag.NOISE],
        "rate": rate_of(tags),
        "space": space,
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
        "absent": tags.get(Tag.ABSENT, ""),
        "arithmetic": tags.get(Tag.ARITHMETIC, ""),
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


def of_newest_confirmation(confirmed: pd.DataFrame) -> pd.DataFrame:
    """Return the finished trials of the newest confirmation of each noise level and space, in the order of their start.

    Args:
        confirmed: Table from ``confirmed_table``.
    """
    done = confirmed[confirmed["status"] == FINISHED].sort_values(["start", "run_id"], kind="stable")
    return done[done["study"] == done.groupby(["noise", "space"])["study"].transform("last")]


def representatives(confirmed: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """Return the configuration to name for each noise level and space: that of the best mean validation score.

    It names a configuration for later use. Test results are those of ``chosen``. Candidates of one name in different
    confirmations are different configurations, so only the newest confirmation of the level and space counts.

    Args:
        confirmed: Table from ``confirmed_table``.
        selection: Score that was maximised or minimised.

    Returns:
        ``study`` (the confirmation), ``noise``, ``space``, ``candidate``, and ``selected``, the mean over its finished
        trials.
    """
    rows = []
    for (study, noise, space), group in of_newest_confirmation(confirmed).groupby(
        ["study", "noise", "space"], sort=False
    ):
        means = group.groupby("candidate", sort=True)["selected"].mean()
        candidate = str(means.idxmax() if selection.mode == "max" else means.idxmin())
        rows.append(
            {"study": study, "noise": noise, "space": space, "candidate": candidate, "selected": means[candidate]}
        )
    return pd.DataFrame(rows, columns=["study", "noise", "space", "candidate", "selected"])


def trials_of_representative(confirmed: pd.DataFrame, representative: Mapping[Hashable, Any]) -> pd.DataFrame:
    """Return the finished trials of a configuration that stands for its method.

    Args:
        confirmed: Table from ``confirmed_table``.
        representative: A row of ``representatives``.
    """
    mine = confirmed[confirmed["status"] == FINISHED]
    for column in ("study", "noise", "space", "candidate"):
        mine = mine[mine[column] == representative[column]]
    return mine
