"""Curves over epochs: mean and spread over several runs, and the decline after the best epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

TRAIN_F1, VALIDATION_F1, SOFT = "train/f1_weighted", "val/f1_weighted", "val/soft_ce"
CHANGED, CORRECTED, MEMORISED = "train/labels_changed", "train/labels_corrected", "train/memorised"
METRICS = (TRAIN_F1, VALIDATION_F1, SOFT, CHANGED, CORRECTED, MEMORISED)

TRANSIT, BASE = "loss.transit_time_ratio", "loss.exp_base"


@dataclass(frozen=True)
class Line:
    """Runs that one curve shows: the same configuration on several seeds and folds, or one run.

    Args:
        noise: Noise level.
        name: Name in the legend.
        detail: Candidate or trial.
        runs: MLflow run ids, at least one.
        parameters: The configuration, dotted name → value as MLflow has it.
    """

    noise: str
    name: str
    detail: str
    runs: tuple[str, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def trust(self) -> tuple[float, float] | None:
        """Return τ and B of ProSelfLC or its control; None for other losses."""
        if TRANSIT not in self.parameters or BASE not in self.parameters:
            return None
        return float(self.parameters[TRANSIT]), float(self.parameters[BASE])


def mean_curves(lines: Sequence[Line], curve: Callable[[str, str], pd.Series]) -> pd.DataFrame:
    """Compute each line's mean over its runs, epoch by epoch.

    Args:
        lines: The lines.
        curve: (run id, metric) → values indexed by epoch; empty if not recorded.

    Returns:
        ``noise``, ``line``, ``detail``, ``metric``, ``epoch``, ``mean``, ``deviation`` (sample standard deviation; NaN
        for one run), ``runs`` (number of runs with this epoch). Metrics that no run has recorded are absent.

    Example:
        >>> recorded = {"run-1": pd.Series([0.4, 0.6], [1, 2]), "run-2": pd.Series([0.6, 0.8], [1, 2])}
        >>> table = mean_curves([Line("clean", "elr", "default", ("run-1", "run-2"))], lambda run, _: recorded[run])
        >>> table[table["metric"] == VALIDATION_F1]["mean"].round(6).tolist()
        [0.5, 0.7]
    """
    tables = []
    for line in lines:
        for metric in METRICS:
            found = [values for values in (curve(run, metric) for run in line.runs) if len(values)]
            if not found:
                continue
            together = pd.concat(found, axis=1)
            table = pd.DataFrame(
                {
                    "epoch": together.index.astype(int),
                    "mean": together.mean(axis=1).to_numpy(),
                    "deviation": together.std(axis=1, ddof=1).to_numpy(),
                    "runs": together.notna().sum(axis=1).to_numpy(),
                }
            )
            key = {"noise": line.noise, "line": line.name, "detail": line.detail, "metric": metric}
            tables.append(pd.DataFrame(key, index=table.index).join(table))
    columns = ["noise", "line", "detail", "metric", "epoch", "mean", "deviation", "runs"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def summarise(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the last values of each line's mean curves, and the best epoch.

    Args:
        curves: From ``mean_curves``.

    Returns:
        One row per line: ``noise``, ``line``, ``detail``, ``runs``, ``epochs``; ``best_f1``, ``best_epoch`` (of the
        mean validation F1), ``drop``, the difference (best − last); and at the last epoch ``train_f1``,
        ``validation_f1``, ``validation_f1_deviation``, ``soft_ce``, ``changed``, ``corrected``, ``memorised``. NaN
        where not recorded.
    """
    rows = []
    names = {
        "train_f1": TRAIN_F1, "validation_f1": VALIDATION_F1, "soft_ce": SOFT, "changed": CHANGED,
        "corrected": CORRECTED, "memorised": MEMORISED,
    }  # fmt: skip
    for (noise, line, detail), points in curves.groupby(["noise", "line", "detail"], sort=False):
        by_metric = {str(metric): table.set_index("epoch") for metric, table in points.groupby("metric")}
        row = {
            "noise": noise,
            "line": line,
            "detail": detail,
            "runs": points["runs"].max(),
            "epochs": points["epoch"].max(),
        }
        for column, metric in names.items():
            row[column] = by_metric[metric]["mean"].iloc[-1] if metric in by_metric else float("nan")
        validation = by_metric.get(VALIDATION_F1)
        if validation is not None:
            best = int(validation["mean"].to_numpy().argmax())
            row |= {
                "best_f1": validation["mean"].iloc[best], "best_epoch": validation.index[best],
                "drop": validation["mean"].iloc[best] - row["validation_f1"],
                "validation_f1_deviation": validation["deviation"].iloc[-1],
            }  # fmt: skip
        rows.append(row)
    columns = ["noise", "line", "detail", "runs", "epochs", "best_f1", "best_epoch", "drop", *names]
    return pd.DataFrame(rows).reindex(columns=[*columns, "validation_f1_deviation"])
